/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write side of the data path.
 *
 * Bytes of a write are copied into the filling run of their inode.  A run that
 * is full goes to the codec and a new one goes on behind it; so that chunk
 * boundaries depend on content alone, the tail behind the last boundary of a
 * full run is put before the run that follows it (which keeps headroom for
 * it), and a run is cut only after the one it continues.  A flush, an idle
 * moment or a write elsewhere closes a run: then its end is a boundary.
 *
 * Order.  Runs of an inode are stored in any order and journalled strictly in
 * the order of writing: commit_ready() takes the done runs at the head of the
 * list, submits one record with their extents and the inode's row, and only
 * then forgets their bytes, all under the inode's lock, so that a reader sees
 * the bytes in one place or the other.  A later run lies over an earlier one
 * because its extents come later.  The recorded size grows in that same
 * record: never a size without its bytes.
 *
 * A run that cannot be stored (spool full, disk error) is dropped with all
 * runs of that inode behind it, and the inode remembers the error for the next
 * flush or fsync, as write-back does in the kernel.
 *
 * Memory is bounded by delaying answers: a write is always taken (the kernel
 * has a bounded number of them under way) and answered when the sum of all
 * runs is below the bound again.
 */
#include "store/writer_private.h"

#include "util/clock.h"
#include "util/queue.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define IDLE_MS    1000u /* a filling run not touched for so long is pushed */
#define SLOWED_MS  50u   /* slowed writes are looked at so often */
#define PUSH_BATCH 256u

static struct counter writer_bytes = COUNTER_INIT("writer_bytes", "bytes written by programs");
COUNTER_REGISTER(writer_bytes)
static struct counter writer_parked =
	COUNTER_INIT("writer_parked", "writes answered late for lack of memory");
COUNTER_REGISTER(writer_parked)
static struct counter writer_slowed =
	COUNTER_INIT("writer_slowed", "writes answered late because the spool is tight");
COUNTER_REGISTER(writer_slowed)

int writer_write(struct writer *writer, struct inode *inode, uint64_t off, struct bytes src,
		 bool is_cached, bool moves_times, struct waiter *waiter)
{
	bool owes_unref = false;
	int r;

	if (off > INT64_MAX - src.len)
		return -EFBIG;
	if (src.len == 0)
		return 0;
	r = writer->settings.admit(writer->settings.ctx, src.len, is_cached);
	if (r < 0)
		return r;
	lock_take(&inode->lock);
	r = writer_attach(writer, inode);
	if (r == 0)
		r = writer_put_bytes(writer, inode, off, src);
	if (r == 0) {
		inode->size = MAX(inode->size, off + src.len);
		inode->data_version++;
		if (moves_times)
			inode->row.mtime = inode->row.ctime = clock_wall();
	}
	owes_unref = writer_detach_if_clean(writer, inode);
	lock_drop(&inode->lock);
	if (owes_unref)
		inode_unref(writer->settings.inodes, inode, 1);
	if (r < 0)
		return r;
	counter_add(&writer_bytes, src.len);
	waiter->next = NULL;
	if (writer->dirty_bytes > writer->settings.dirty_bytes_max) {
		counter_add(&writer_parked, 1);
		lock_take(&writer->lock);
		*writer->parked_end = waiter;
		writer->parked_end = &waiter->next;
		writer->is_pressed = true;
		cond_wake_all(&writer->tick);
		lock_drop(&writer->lock);
		writer_unpark(writer); /* room may have come before the waiter was in the list */
		return -EINPROGRESS;
	}
	if (!writer->settings.is_tight(writer->settings.ctx))
		return 0;
	counter_add(&writer_slowed, 1);
	lock_take(&writer->lock);
	*writer->slowed_end = waiter;
	writer->slowed_end = &waiter->next;
	writer->slowed_count++;
	writer->slowed_bytes += src.len;
	cond_wake_all(&writer->tick);
	lock_drop(&writer->lock);
	return -EINPROGRESS;
}

/*
 * Answers as many slowed writes as the spool has drained; all of them when it is not tight any more.
 * Their sizes are not kept: each counts as the mean of those that wait.
 */
static void answer_slowed(struct writer *writer)
{
	struct waiter *list = NULL, **end = &list;
	bool is_tight;

	if (!writer->slowed)
		return;
	is_tight = writer->settings.is_tight(writer->settings.ctx);
	lock_take(&writer->lock);
	if (is_tight)
		writer->slowed_credit += writer->settings.allowance(writer->settings.ctx);
	while (writer->slowed) {
		uint64_t mean = writer->slowed_bytes / writer->slowed_count;
		struct waiter *waiter = writer->slowed;

		if (is_tight && writer->slowed_credit < mean)
			break;
		writer->slowed_credit -= is_tight ? mean : 0;
		writer->slowed = waiter->next;
		writer->slowed_count--;
		writer->slowed_bytes -= mean;
		waiter->next = NULL;
		*end = waiter;
		end = &waiter->next;
	}
	if (!writer->slowed) {
		writer->slowed_end = &writer->slowed;
		writer->slowed_bytes = 0;
		writer->slowed_credit = 0;
	}
	lock_drop(&writer->lock);
	while (list) {
		struct waiter *next = list->next;

		list->done(list, 0);
		list = next;
	}
}

/* Pushes filling runs that nobody touches, and all of them when memory is short and the codec idle. */
static void push_idle(struct writer *writer, bool is_all)
{
	struct inode *inodes[PUSH_BATCH];
	unsigned count = writer_take_dirty(writer, inodes, PUSH_BATCH);
	uint64_t now = clock_mono_ms();

	for (unsigned i = 0; i < count; i++) {
		struct run *run;

		lock_take(&inodes[i]->lock);
		run = writer_filling_of(inodes[i]);
		if (run && (is_all || now - run->touched_ms >= IDLE_MS))
			writer_close_filling(writer, inodes[i]);
		lock_drop(&inodes[i]->lock);
		inode_unref(writer->settings.inodes, inodes[i], 1);
	}
}

static void *ticker_thread(void *arg)
{
	struct writer *writer = arg;

	lock_take(&writer->lock);
	while (!writer->is_stopping) {
		bool is_short;

		if (!writer->is_pressed)
			cond_wait_ms(&writer->tick, &writer->lock,
				     writer->slowed ? SLOWED_MS : IDLE_MS / 2);
		is_short = writer->parked && writer->runs_in_codec == 0;
		writer->is_pressed = false;
		lock_drop(&writer->lock);
		push_idle(writer, is_short);
		writer_trim_pool(writer);
		writer_unpark(writer);
		answer_slowed(writer);
		lock_take(&writer->lock);
		/* parked, and the codec has nothing: come again at once */
		if (writer->parked && writer->runs_in_codec == 0 && !list_is_empty(&writer->dirty))
			writer->is_pressed = true;
	}
	lock_drop(&writer->lock);
	return NULL;
}

/* ---- reading what is dirty ---- */

struct gap {
	uint64_t off, end;
};

struct gaps {
	struct gap *list;
	size_t count, capacity;
};

static int gaps_add(struct gaps *gaps, uint64_t off, uint64_t end)
{
	if (off >= end)
		return 0;
	if (gaps->count == gaps->capacity) {
		size_t more = gaps->capacity ? gaps->capacity * 2 : 8;
		struct gap *list = mem_realloc_array(gaps->list, more, sizeof(*list));

		if (!list)
			return -ENOMEM;
		gaps->list = list;
		gaps->capacity = more;
	}
	gaps->list[gaps->count++] = (struct gap){off, end};
	return 0;
}

/* Copies what the run has of the gaps and leaves the rest as gaps. */
static int lay_run(const struct run *run, uint64_t base, uint8_t *out, struct gaps *gaps)
{
	size_t count = gaps->count;

	for (size_t i = 0; i < count; i++) {
		struct gap gap = gaps->list[i];
		uint64_t from = MAX(gap.off, run->off), to = MIN(gap.end, run_end(run));
		int r;

		if (from >= to)
			continue;
		memcpy(out + (from - base), run->data + run->start + (from - run->off), to - from);
		gaps->list[i] = (struct gap){gap.off, from};
		r = gaps_add(gaps, to, gap.end);
		if (r < 0)
			return r;
	}
	return 0;
}

int writer_read(struct writer *writer, struct inode *inode, struct index_reader *reader,
		uint64_t off, size_t len, uint8_t *out, size_t *got)
{
	struct gaps gaps = {0};
	uint64_t ino;
	int r = 0;

	lock_take(&inode->lock);
	ino = inode->row.ino;
	if (off >= inode->size)
		len = 0;
	else
		len = (size_t)MIN((uint64_t)len, inode->size - off);
	if (len > 0)
		r = gaps_add(&gaps, off, off + len);
	if (!writer_is_clean(inode)) {
		struct list *head = &inode->writer->runs;

		for (struct list *pos = head->prev; pos != head && r == 0; pos = pos->prev)
			r = lay_run(container_of(pos, struct run, link), off, out, &gaps);
	}
	lock_drop(&inode->lock);
	for (size_t i = 0; i < gaps.count && r == 0; i++) {
		const struct gap *gap = &gaps.list[i];

		if (gap->off < gap->end)
			r = reader_read(writer->settings.reader, reader, ino, gap->off,
					gap->end - gap->off, out + (gap->off - off));
	}
	mem_free(gaps.list);
	if (r == 0)
		*got = len;
	return r;
}

uint64_t writer_dirty_bytes(struct writer *writer)
{
	return writer->dirty_bytes;
}

/* ---- life ---- */

int writer_start(const struct writer_settings *settings, struct writer **out)
{
	struct writer *writer = mem_alloc(sizeof(*writer));
	int r = -ENOMEM;

	if (!writer)
		return -ENOMEM;
	writer->settings = *settings;
	writer->chunk_max = chunker_get_params(settings->chunker).max_bytes;
	writer->free_big_max = (unsigned)(settings->dirty_bytes_max / (4 * MIB));
	lock_init(&writer->lock, LOCK_WRITER);
	cond_init(&writer->work);
	cond_init(&writer->tick);
	cond_init(&writer->drained);
	list_init(&writer->ready_cut);
	list_init(&writer->ready_code);
	list_init(&writer->dirty);
	list_init(&writer->free_big);
	writer->parked_end = &writer->parked;
	writer->slowed_end = &writer->slowed;
	writer->threads = mem_alloc_array(settings->codec_threads, sizeof(*writer->threads));
	if (!writer->threads)
		goto fail;
	for (unsigned i = 0; i < settings->codec_threads; i++) {
		r = thread_start(&writer->threads[i], "codec", writer_codec_thread, writer);
		if (r < 0)
			goto fail;
		writer->thread_count++;
	}
	r = thread_start(&writer->ticker, "push", ticker_thread, writer);
	if (r < 0)
		goto fail;
	writer->has_ticker = true;
	*out = writer;
	return 0;
fail:
	writer_stop(writer);
	writer_free(writer);
	return r;
}

int writer_stop(struct writer *writer)
{
	if (!writer)
		return 0;
	lock_take(&writer->lock);
	while (!list_is_empty(&writer->dirty)) {
		lock_drop(&writer->lock);
		push_idle(writer, true);
		lock_take(&writer->lock);
		if (!list_is_empty(&writer->dirty))
			cond_wait_ms(&writer->drained, &writer->lock, 100);
	}
	writer->is_stopping = true;
	cond_wake_all(&writer->work);
	cond_wake_all(&writer->tick);
	lock_drop(&writer->lock);
	for (unsigned i = 0; i < writer->thread_count; i++)
		pthread_join(writer->threads[i], NULL);
	writer->thread_count = 0;
	if (writer->has_ticker)
		pthread_join(writer->ticker, NULL);
	writer->has_ticker = false;
	return 0;
}

void writer_free(struct writer *writer)
{
	if (!writer)
		return;
	list_for_each(pos, &writer->free_big)
		mem_free(pos);
	mem_free(writer->threads);
	cond_release(&writer->work);
	cond_release(&writer->tick);
	cond_release(&writer->drained);
	lock_release(&writer->lock);
	mem_free(writer);
}
