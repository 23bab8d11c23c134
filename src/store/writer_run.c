/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs: where the bytes of writes wait.  A run grows in small memory first and
 * moves to one of a pool of large buffers; a run that goes on behind another
 * starts in a large one, with headroom for the tail of the one before.
 */
#include "store/writer_private.h"

#include "util/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define RUN_BYTES_MAX ((uint32_t)(4 * MIB)) /* what writes put into one run */
#define RUN_SMALL_MAX ((uint32_t)(64 * KIB))
#define RUN_SMALL_MIN ((uint32_t)(4 * KIB))

static struct counter writer_runs = COUNTER_INIT("writer_runs", "runs of dirty bytes pushed");
COUNTER_REGISTER(writer_runs)

/* ---- memory of runs ---- */

static uint32_t big_capacity(const struct writer *writer)
{
	return RUN_BYTES_MAX + writer->chunk_max;
}

static uint8_t *big_take(struct writer *writer)
{
	struct list *first = NULL;

	lock_take(&writer->lock);
	if (!list_is_empty(&writer->free_big)) {
		first = writer->free_big.next;
		list_remove(first);
		writer->free_big_count--;
	}
	lock_drop(&writer->lock);
	return first ? (uint8_t *)first : mem_alloc_raw(big_capacity(writer));
}

static void big_give(struct writer *writer, uint8_t *data)
{
	lock_take(&writer->lock);
	if (writer->free_big_count < writer->free_big_max) {
		struct list *node = (struct list *)(void *)data;

		list_push_back(&writer->free_big, node);
		writer->free_big_count++;
		data = NULL;
	}
	lock_drop(&writer->lock);
	mem_free(data);
}

void writer_trim_pool(struct writer *writer)
{
	struct list freed = LIST_INIT(freed);

	lock_take(&writer->lock);
	if (list_is_empty(&writer->dirty)) {
		list_splice_back(&freed, &writer->free_big);
		writer->free_big_count = 0;
	}
	lock_drop(&writer->lock);
	list_for_each(pos, &freed)
		mem_free(pos);
}

/* Tells those writes that waited for memory, if there is room now. */
void writer_unpark(struct writer *writer)
{
	struct waiter *list = NULL;

	if (writer->dirty_bytes > writer->settings.dirty_bytes_max)
		return;
	lock_take(&writer->lock);
	list = writer->parked;
	writer->parked = NULL;
	writer->parked_end = &writer->parked;
	lock_drop(&writer->lock);
	while (list) {
		struct waiter *next = list->next;

		list->done(list, 0);
		list = next;
	}
}

void writer_run_free(struct writer *writer, struct run *run)
{
	if (!run)
		return;
	if (run->is_big)
		big_give(writer, run->data);
	else
		mem_free(run->data);
	atomic_fetch_sub(&writer->dirty_bytes, run->capacity);
	mem_free(run->pieces);
	mem_free(run);
}

/* Makes room for `len` bytes behind run->start. */
static int run_reserve(struct writer *writer, struct run *run, uint32_t len)
{
	uint32_t capacity = run->capacity ? run->capacity : RUN_SMALL_MIN;
	uint8_t *data;

	if (run->start + len <= run->capacity)
		return 0;
	if (run->start + len > RUN_SMALL_MAX) {
		assert(!run->is_big);
		data = big_take(writer);
		if (!data)
			return -ENOMEM;
		if (run->len)
			memcpy(data, run->data + run->start, run->len);
		mem_free(run->data);
		run->start = 0;
		run->is_big = true;
		capacity = big_capacity(writer);
	} else {
		while (capacity < run->start + len)
			capacity *= 2;
		data = mem_realloc_array(run->data, capacity, 1);
		if (!data)
			return -ENOMEM;
	}
	atomic_fetch_add(&writer->dirty_bytes, capacity - run->capacity);
	run->data = data;
	run->capacity = capacity;
	return 0;
}

/* A new filling run at off; behind: it goes on where the one before ends. */
static struct run *run_new(struct writer *writer, struct inode *inode, uint64_t off, bool behind)
{
	struct run *run = mem_alloc(sizeof(*run));

	if (!run)
		return NULL;
	run->inode = inode;
	run->off = off;
	run->state = RUN_FILLING;
	run->touched_ms = clock_mono_ms();
	run->limit = RUN_BYTES_MAX;
	list_init(&run->ready);
	if (behind) {
		run->data = big_take(writer);
		if (!run->data) {
			mem_free(run);
			return NULL;
		}
		run->is_big = true;
		run->capacity = big_capacity(writer);
		run->start = writer->chunk_max;
		run->limit = run->capacity;
		run->waits_for_tail = true;
		atomic_fetch_add(&writer->dirty_bytes, run->capacity);
	}
	run->number = inode->writer->next_number++;
	list_push_back(&inode->writer->runs, &run->link);
	return run;
}

/* ---- the inode's side ---- */

int writer_attach(struct writer *writer, struct inode *inode)
{
	struct inode_writer *iw;

	if (inode->writer)
		return 0;
	iw = mem_alloc(sizeof(*iw));
	if (!iw)
		return -ENOMEM;
	iw->inode = inode;
	list_init(&iw->runs);
	list_init(&iw->pushes);
	iw->next_number = 1;
	inode_ref(inode, 1);
	inode->writer = iw;
	lock_take(&writer->lock);
	list_push_back(&writer->dirty, &iw->dirty);
	lock_drop(&writer->lock);
	return 0;
}

/* Nothing is left to push: true when the caller owes inode_unref.  Inode locked. */
bool writer_detach_if_clean(struct writer *writer, struct inode *inode)
{
	struct inode_writer *iw = inode->writer;

	if (!iw || !list_is_empty(&iw->runs) || !list_is_empty(&iw->pushes))
		return false;
	inode->writer = NULL;
	lock_take(&writer->lock);
	list_remove(&iw->dirty);
	if (list_is_empty(&writer->dirty))
		cond_wake_all(&writer->drained);
	lock_drop(&writer->lock);
	mem_free(iw);
	return true;
}

bool writer_is_clean(const struct inode *inode)
{
	return !inode->writer || list_is_empty(&inode->writer->runs);
}

struct run *writer_filling_of(const struct inode *inode)
{
	struct run *last;

	if (writer_is_clean(inode))
		return NULL;
	last = container_of(inode->writer->runs.prev, struct run, link);
	return last->state == RUN_FILLING ? last : NULL;
}

/* Puts a queued run where workers find it.  Inode locked. */
void writer_make_ready(struct writer *writer, struct run *run)
{
	lock_take(&writer->lock);
	list_push_back(&writer->ready_cut, &run->ready);
	cond_wake_one(&writer->work);
	lock_drop(&writer->lock);
}

static void note_queued(struct writer *writer, struct run *run)
{
	run->state = RUN_QUEUED;
	counter_add(&writer_runs, 1);
	lock_take(&writer->lock);
	writer->runs_in_codec++;
	lock_drop(&writer->lock);
}

void writer_queue_run(struct writer *writer, struct run *run)
{
	note_queued(writer, run);
	if (!run->waits_for_tail)
		writer_make_ready(writer, run);
}

struct run *writer_take_small(struct writer *writer, struct inode *inode)
{
	struct run *run = writer_filling_of(inode);

	if (!run || run->waits_for_tail || run->len > RUN_SMALL_MAX)
		return NULL;
	note_queued(writer, run);
	return run;
}

void writer_close_filling(struct writer *writer, struct inode *inode)
{
	struct run *run = writer_filling_of(inode);

	if (run)
		writer_queue_run(writer, run);
}

void writer_cut_filling(struct writer *writer, struct inode *inode, uint64_t size)
{
	struct run *run = writer_filling_of(inode);

	if (!run || run->waits_for_tail || run_end(run) <= size)
		return;
	if (run->off < size) {
		run->len = (uint32_t)(size - run->off);
		return;
	}
	list_remove(&run->link);
	writer_run_free(writer, run);
}

/* As many bytes as the filling run can take at off; opens runs as needed.  Inode locked. */
int writer_put_bytes(struct writer *writer, struct inode *inode, uint64_t off, struct bytes src)
{
	while (src.len > 0) {
		struct run *run = writer_filling_of(inode);
		uint32_t pos, take;
		int r;

		if (run && (off < run->off || off > run_end(run))) {
			writer_queue_run(writer, run);
			run = NULL;
		}
		if (!run) {
			run = run_new(writer, inode, off, false);
			if (!run)
				return -ENOMEM;
		}
		pos = (uint32_t)(off - run->off);
		take = run->limit - run->start > pos ? run->limit - run->start - pos : 0;
		take = (uint32_t)MIN((uint64_t)take, src.len);
		if (take > 0) {
			r = run_reserve(writer, run, pos + take);
			if (r < 0) {
				if (run->len == 0 && !run->waits_for_tail) {
					list_remove(&run->link);
					writer_run_free(writer, run);
				}
				return r;
			}
			memcpy(run->data + run->start + pos, src.ptr, take);
			run->len = MAX(run->len, pos + take);
			run->touched_ms = clock_mono_ms();
			off += take;
			src.ptr += take;
			src.len -= take;
		}
		if (run->start + run->len >= run->limit) {
			struct run *next = run_new(writer, inode, run_end(run), true);

			run->is_continued = next != NULL;
			writer_queue_run(writer, run);
			if (!next && src.len > 0)
				return -ENOMEM;
		}
	}
	return 0;
}

