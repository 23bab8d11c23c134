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
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/queue.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#define RUN_BYTES_MAX   ((uint32_t)(4 * MIB)) /* what writes put into one run */
#define RUN_SMALL_MAX   ((uint32_t)(64 * KIB))
#define RUN_SMALL_MIN   ((uint32_t)(4 * KIB))
#define FREE_BIG_MAX    4u
#define IDLE_MS         1000u /* a filling run not touched for so long is pushed */
#define RETRY_FULL_MS   100u
#define RETRY_FULL_MAX  100u /* 10 s without room */
#define PUSH_BATCH      256u

static struct counter writer_runs = COUNTER_INIT("writer_runs", "runs of dirty bytes pushed");
COUNTER_REGISTER(writer_runs)
static struct counter writer_bytes = COUNTER_INIT("writer_bytes", "bytes written by programs");
COUNTER_REGISTER(writer_bytes)
static struct counter writer_parked = COUNTER_INIT("writer_parked", "writes answered late for lack of memory");
COUNTER_REGISTER(writer_parked)

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
	if (writer->free_big_count < FREE_BIG_MAX) {
		struct list *node = (struct list *)(void *)data;

		list_push_back(&writer->free_big, node);
		writer->free_big_count++;
		data = NULL;
	}
	lock_drop(&writer->lock);
	mem_free(data);
}

/* Tells those writes that waited for memory, if there is room now. */
static void unpark(struct writer *writer)
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

static void run_free(struct writer *writer, struct run *run)
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

static uint64_t run_end(const struct run *run)
{
	return run->off + run->len;
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

static int attach(struct writer *writer, struct inode *inode)
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
static bool detach_if_clean(struct writer *writer, struct inode *inode)
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

static struct run *filling_of(const struct inode *inode)
{
	struct run *last;

	if (writer_is_clean(inode))
		return NULL;
	last = container_of(inode->writer->runs.prev, struct run, link);
	return last->state == RUN_FILLING ? last : NULL;
}

/* Puts a queued run where workers find it.  Inode locked. */
static void make_ready(struct writer *writer, struct run *run)
{
	lock_take(&writer->lock);
	list_push_back(&writer->ready_cut, &run->ready);
	cond_wake_one(&writer->work);
	lock_drop(&writer->lock);
}

static void queue_run(struct writer *writer, struct run *run)
{
	run->state = RUN_QUEUED;
	counter_add(&writer_runs, 1);
	lock_take(&writer->lock);
	writer->runs_in_codec++;
	lock_drop(&writer->lock);
	if (!run->waits_for_tail)
		make_ready(writer, run);
}

void writer_close_filling(struct writer *writer, struct inode *inode)
{
	struct run *run = filling_of(inode);

	if (run)
		queue_run(writer, run);
}

void writer_cut_filling(struct writer *writer, struct inode *inode, uint64_t size)
{
	struct run *run = filling_of(inode);

	if (!run || run->waits_for_tail || run_end(run) <= size)
		return;
	if (run->off < size) {
		run->len = (uint32_t)(size - run->off);
		return;
	}
	list_remove(&run->link);
	run_free(writer, run);
}

/* As many bytes as the filling run can take at off; opens runs as needed.  Inode locked. */
static int put_bytes(struct writer *writer, struct inode *inode, uint64_t off, struct bytes src)
{
	while (src.len > 0) {
		struct run *run = filling_of(inode);
		uint32_t pos, take;
		int r;

		if (run && (off < run->off || off > run_end(run))) {
			queue_run(writer, run);
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
					run_free(writer, run);
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
			queue_run(writer, run);
			if (!next && src.len > 0)
				return -ENOMEM;
		}
	}
	return 0;
}

int writer_write(struct writer *writer, struct inode *inode, uint64_t off, struct bytes src,
		 bool is_cached, struct waiter *waiter)
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
	r = attach(writer, inode);
	if (r == 0)
		r = put_bytes(writer, inode, off, src);
	if (r == 0) {
		inode->size = MAX(inode->size, off + src.len);
		inode->data_version++;
		if (!is_cached)
			inode->row.mtime = inode->row.ctime = clock_wall();
	}
	owes_unref = detach_if_clean(writer, inode);
	lock_drop(&inode->lock);
	if (owes_unref)
		inode_unref(writer->settings.inodes, inode, 1);
	if (r < 0)
		return r;
	counter_add(&writer_bytes, src.len);
	if (writer->dirty_bytes <= writer->settings.dirty_bytes_max)
		return 0;
	counter_add(&writer_parked, 1);
	waiter->next = NULL;
	lock_take(&writer->lock);
	*writer->parked_end = waiter;
	writer->parked_end = &waiter->next;
	writer->is_pressed = true;
	cond_wake_all(&writer->tick);
	lock_drop(&writer->lock);
	unpark(writer); /* room may have come before the waiter was in the list */
	return -EINPROGRESS;
}

/* ---- the codec's side ---- */

static void commit_ready(struct writer *writer, struct inode *inode);

static void run_finish(struct writer *writer, struct run *run)
{
	struct inode *inode = run->inode;

	inode_ref(inode, 1); /* once the run is done, another worker may finish the inode off */
	lock_take(&inode->lock);
	run->state = RUN_DONE;
	lock_drop(&inode->lock);
	lock_take(&writer->lock);
	writer->runs_in_codec--;
	lock_drop(&writer->lock);
	commit_ready(writer, inode);
	inode_unref(writer->settings.inodes, inode, 1);
}

/* Room may come back while copies are made and spool files dropped: be patient, not for ever. */
static int put_patiently(struct writer *writer, struct chunk_worker *worker,
			 const struct shard_class *class, struct bytes bytes,
			 struct chunk_row *chunk)
{
	bool is_new;
	int r;

	for (unsigned attempt = 0;; attempt++) {
		r = chunk_put(worker, class, bytes, chunk, &is_new);
		if (r != -ENOSPC || attempt == RETRY_FULL_MAX || writer->is_stopping)
			return r;
		if (writer->settings.admit(writer->settings.ctx, 0, true) == -ENOSPC &&
		    attempt >= 3)
			return r;
		lock_take(&writer->lock);
		cond_wait_ms(&writer->drained, &writer->lock, RETRY_FULL_MS);
		lock_drop(&writer->lock);
	}
}

static void code_piece(struct writer *writer, struct chunk_worker *worker, struct run *run,
		       uint32_t n)
{
	struct run_piece *piece = &run->pieces[n];
	struct shard_class class;
	struct inode_row row;
	int r = 0;

	if (!run->error) {
		lock_take(&run->inode->lock);
		row = run->inode->row;
		lock_drop(&run->inode->lock);
		writer->settings.class_of(writer->settings.ctx, &row, &class);
		r = put_patiently(writer, worker, &class,
				  bytes_of(run->data + piece->start, piece->len), &piece->chunk);
		piece->is_stored = r == 0;
	}
	if (r < 0)
		run->error = r;
	if (atomic_fetch_sub(&run->pieces_left, 1) == 1)
		run_finish(writer, run);
}

static int add_piece(struct run *run, uint32_t *capacity, uint32_t start, uint32_t len)
{
	if (run->piece_count == *capacity) {
		uint32_t more = *capacity ? *capacity * 2 : 1;
		struct run_piece *pieces =
			mem_realloc_array(run->pieces, more, sizeof(*pieces));

		if (!pieces)
			return -ENOMEM;
		run->pieces = pieces;
		*capacity = more;
	}
	memset(&run->pieces[run->piece_count], 0, sizeof(*run->pieces));
	run->pieces[run->piece_count].start = start;
	run->pieces[run->piece_count++].len = len;
	return 0;
}

/* The run behind gets the bytes that have no boundary yet.  Then it may be cut itself. */
static void pass_tail(struct writer *writer, struct run *run, uint32_t tail)
{
	struct inode *inode = run->inode;
	struct run *next;

	LOCK_SCOPE(&inode->lock);
	assert(run->link.next != &inode->writer->runs);
	next = container_of(run->link.next, struct run, link);
	assert(next->waits_for_tail && next->start >= tail);
	next->start -= tail;
	next->off -= tail;
	memcpy(next->data + next->start, run->data + run->start + run->len - tail, tail);
	next->len += tail;
	run->len -= tail;
	next->waits_for_tail = false;
	if (next->state == RUN_QUEUED)
		make_ready(writer, next);
}

/* Cuts a run into pieces; the first is for the caller, others for whoever is free. */
static void cut_run(struct writer *writer, struct chunk_worker *worker, struct run *run)
{
	const struct chunker *chunker = writer->settings.chunker;
	uint32_t at = run->start, end = run->start + run->len, capacity = 0;
	int r = 0;

	while (r == 0 && at < end) {
		size_t len = chunker_next(chunker, run->data + at, end - at, !run->is_continued);

		if (len == 0)
			break;
		r = add_piece(run, &capacity, at, (uint32_t)len);
		at += (uint32_t)len;
	}
	if (run->is_continued)
		pass_tail(writer, run, r < 0 ? 0 : end - at);
	if (r < 0)
		run->error = r;
	if (r < 0 || run->piece_count == 0) {
		run->piece_count = r < 0 ? 0 : run->piece_count;
		run_finish(writer, run);
		return;
	}
	run->pieces_left = run->piece_count;
	run->piece_next = 1;
	if (run->piece_count > 1) {
		lock_take(&writer->lock);
		list_push_back(&writer->ready_code, &run->ready);
		cond_wake_all(&writer->work);
		lock_drop(&writer->lock);
	}
	code_piece(writer, worker, run, 0);
}

static void *codec_thread(void *arg)
{
	struct writer *writer = arg;
	struct chunk_worker *worker = NULL;

	while (chunk_worker_new(writer->settings.chunks, &worker) < 0) {
		log_error("codec-worker-failed", "%s", "error=ENOMEM next=retry");
		lock_take(&writer->lock);
		cond_wait_ms(&writer->drained, &writer->lock, 1000);
		lock_drop(&writer->lock);
	}
	lock_take(&writer->lock);
	for (;;) {
		struct run *run;

		if (!list_is_empty(&writer->ready_code)) {
			uint32_t n;

			run = container_of(writer->ready_code.next, struct run, ready);
			n = run->piece_next++;
			if (run->piece_next == run->piece_count)
				list_remove(&run->ready);
			lock_drop(&writer->lock);
			code_piece(writer, worker, run, n);
			lock_take(&writer->lock);
		} else if (!list_is_empty(&writer->ready_cut)) {
			run = container_of(writer->ready_cut.next, struct run, ready);
			list_remove(&run->ready);
			lock_drop(&writer->lock);
			cut_run(writer, worker, run);
			lock_take(&writer->lock);
		} else if (writer->is_stopping) {
			break;
		} else {
			cond_wait(&writer->work, &writer->lock);
		}
	}
	lock_drop(&writer->lock);
	chunk_worker_free(worker);
	return NULL;
}

/* ---- journalling, in the order of writing ---- */

static void put_extents(struct record *record, struct inode *inode, struct run *run)
{
	for (uint32_t i = 0; i < run->piece_count; i++) {
		const struct run_piece *piece = &run->pieces[i];
		uint64_t off = run->off + (piece->start - run->start);

		record_put_extent(record, &(struct extent_row){
						  .ino = inode->row.ino,
						  .off = off,
						  .len = piece->len,
						  .chunk_no = piece->chunk.chunk_no,
					  });
	}
	if (run->off > inode->row.size)
		inode->row.flags |= INODE_SPARSE;
	inode->row.size = MAX(inode->row.size, MIN(run_end(run), inode->size));
}

/* One record for the done runs at the head: [head, stop).  Inode locked. */
static int submit_runs(struct writer *writer, struct inode *inode, struct list *stop)
{
	struct inode_row before = inode->row;
	struct record *record;
	int r = 0;

	for (struct list *pos = inode->writer->runs.next; pos != stop && r == 0; pos = pos->next)
		r = container_of(pos, struct run, link)->error;
	if (r == 0 && inode->write_error < 0)
		r = inode->write_error; /* no bytes behind bytes that are lost */
	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	for (struct list *pos = inode->writer->runs.next; pos != stop; pos = pos->next)
		put_extents(record, inode, container_of(pos, struct run, link));
	record_put_inode(record, &inode->row);
	inode->is_sparse_known = false;
	r = sequencer_submit(writer->settings.sequencer, record, &inode->last_seq);
	if (r < 0)
		inode->row = before;
	return r;
}

static void push_settle(struct waiter *inner, int error)
{
	struct push *push = container_of(inner, struct push, inner);
	struct waiter *user = push->user;

	if (push->error < 0)
		error = push->error;
	mem_free(push);
	user->done(user, error);
}

static void push_to_journal(struct writer *writer, struct push *push, uint64_t seq)
{
	push->inner.done = push_settle;
	if (push->is_sync)
		sequencer_when_synced(writer->settings.sequencer, seq, &push->inner);
	else
		sequencer_when_written(writer->settings.sequencer, seq, &push->inner);
}

/* Moves the pushes whose runs are all journalled to `ready`.  Inode locked. */
static void take_pushes(struct inode *inode, struct list *ready)
{
	struct inode_writer *iw = inode->writer;
	uint64_t oldest = UINT64_MAX;

	if (!list_is_empty(&iw->runs))
		oldest = container_of(iw->runs.next, struct run, link)->number;
	list_for_each(pos, &iw->pushes) {
		struct push *push = container_of(pos, struct push, link);

		if (push->until >= oldest)
			continue;
		push->error = inode->write_error;
		inode->write_error = 0;
		list_remove(&push->link);
		list_push_back(ready, &push->link);
	}
}

/* The caller has a reference on the inode. */
static void commit_ready(struct writer *writer, struct inode *inode)
{
	struct list done = LIST_INIT(done), pushes = LIST_INIT(pushes), *stop;
	uint64_t seq;
	bool owes_unref;
	int r = 0;

	lock_take(&inode->lock);
	if (!inode->writer) {
		lock_drop(&inode->lock);
		return;
	}
	stop = inode->writer->runs.next;
	while (stop != &inode->writer->runs &&
	       container_of(stop, struct run, link)->state == RUN_DONE)
		stop = stop->next;
	if (stop != inode->writer->runs.next) {
		r = submit_runs(writer, inode, stop);
		while (inode->writer->runs.next != stop) {
			struct list *pos = inode->writer->runs.next;

			list_remove(pos);
			list_push_back(&done, pos);
		}
		if (r < 0) {
			log_error("write-failed", "ino=%llu error=%s next=\"told at close or fsync\"",
				  (unsigned long long)inode->row.ino, err_name(r));
			inode->write_error = r;
			inode->data_version++;
		}
		take_pushes(inode, &pushes);
	}
	seq = inode->last_seq;
	owes_unref = detach_if_clean(writer, inode);
	lock_drop(&inode->lock);

	list_for_each(pos, &done) {
		struct run *run = container_of(pos, struct run, link);

		for (uint32_t i = 0; i < run->piece_count; i++)
			if (run->pieces[i].is_stored)
				chunk_unpin(writer->settings.chunks, run->pieces[i].chunk.chunk_no);
		list_remove(&run->link);
		run_free(writer, run);
	}
	list_for_each(pos, &pushes) {
		list_remove(pos);
		push_to_journal(writer, container_of(pos, struct push, link), seq);
	}
	unpark(writer);
	if (owes_unref)
		inode_unref(writer->settings.inodes, inode, 1);
}

/* ---- pushing ---- */

static void push_start(struct writer *writer, struct inode *inode, bool is_sync,
		       struct waiter *waiter)
{
	struct push *push = mem_alloc(sizeof(*push));
	uint64_t seq;

	if (!push) {
		waiter->done(waiter, -ENOMEM);
		return;
	}
	push->user = waiter;
	push->is_sync = is_sync;
	lock_take(&inode->lock);
	writer_close_filling(writer, inode);
	if (!writer_is_clean(inode)) {
		push->until = inode->writer->next_number - 1;
		list_push_back(&inode->writer->pushes, &push->link);
		lock_drop(&inode->lock);
		return;
	}
	push->error = inode->write_error;
	inode->write_error = 0;
	seq = inode->last_seq;
	lock_drop(&inode->lock);
	push_to_journal(writer, push, seq);
}

void writer_push(struct writer *writer, struct inode *inode, struct waiter *waiter)
{
	push_start(writer, inode, false, waiter);
}

void writer_sync(struct writer *writer, struct inode *inode, struct waiter *waiter)
{
	push_start(writer, inode, true, waiter);
}

/* Up to `max` dirty inodes, each with a reference, beginning with the longest dirty. */
static unsigned take_dirty(struct writer *writer, struct inode **inodes, unsigned max)
{
	unsigned count = 0;

	LOCK_SCOPE(&writer->lock);
	list_for_each(pos, &writer->dirty) {
		struct inode_writer *iw = container_of(pos, struct inode_writer, dirty);

		if (count == max)
			break;
		inode_ref(iw->inode, 1);
		inodes[count++] = iw->inode;
		/* to the end, so that the next batch sees others */
		list_remove(&iw->dirty);
		list_push_back(&writer->dirty, &iw->dirty);
	}
	return count;
}

struct sync_all {
	struct waiter inner;
	struct writer *writer;
	struct waiter *user;
	_Atomic uint32_t left;
	_Atomic int error;
};

static void sync_all_settled(struct waiter *inner, int error)
{
	struct waiter *user = container_of(inner, struct sync_all, inner)->user;

	mem_free(container_of(inner, struct sync_all, inner));
	user->done(user, error);
}

struct sync_all_part {
	struct waiter waiter;
	struct sync_all *all;
};

static void sync_all_end(struct sync_all *all)
{
	struct sequencer *sequencer = all->writer->settings.sequencer;

	if (atomic_fetch_sub(&all->left, 1) == 1)
		sequencer_when_synced(sequencer, sequencer_last_seq(sequencer), &all->inner);
}

static void sync_all_part_done(struct waiter *waiter, int error)
{
	struct sync_all_part *part = container_of(waiter, struct sync_all_part, waiter);

	(void)error; /* stays with the file: its next fsync tells */
	sync_all_end(part->all);
	mem_free(part);
}

static void sync_all_visit(void *ctx, struct inode *inode)
{
	struct sync_all *all = ctx;
	struct sync_all_part *part;
	bool is_clean;

	lock_take(&inode->lock);
	is_clean = writer_is_clean(inode);
	lock_drop(&inode->lock);
	if (is_clean)
		return;
	part = mem_alloc(sizeof(*part));
	if (!part)
		return;
	part->all = all;
	part->waiter.done = sync_all_part_done;
	all->left++;
	push_start(all->writer, inode, false, &part->waiter);
}

void writer_sync_all(struct writer *writer, struct waiter *waiter)
{
	struct sync_all *all = mem_alloc(sizeof(*all));

	if (!all) {
		waiter->done(waiter, -ENOMEM);
		return;
	}
	all->writer = writer;
	all->user = waiter;
	all->inner.done = sync_all_settled;
	all->left = 1;
	inode_table_visit(writer->settings.inodes, sync_all_visit, all);
	sync_all_end(all);
}

/* Pushes filling runs that nobody touches, and all of them when memory is short and the codec idle. */
static void push_idle(struct writer *writer, bool is_all)
{
	struct inode *inodes[PUSH_BATCH];
	unsigned count = take_dirty(writer, inodes, PUSH_BATCH);
	uint64_t now = clock_mono_ms();

	for (unsigned i = 0; i < count; i++) {
		struct run *run;

		lock_take(&inodes[i]->lock);
		run = filling_of(inodes[i]);
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
			cond_wait_ms(&writer->tick, &writer->lock, IDLE_MS / 2);
		is_short = writer->parked && writer->runs_in_codec == 0;
		writer->is_pressed = false;
		lock_drop(&writer->lock);
		push_idle(writer, is_short);
		unpark(writer);
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
	lock_init(&writer->lock, LOCK_WRITER);
	cond_init(&writer->work);
	cond_init(&writer->tick);
	cond_init(&writer->drained);
	list_init(&writer->ready_cut);
	list_init(&writer->ready_code);
	list_init(&writer->dirty);
	list_init(&writer->free_big);
	writer->parked_end = &writer->parked;
	writer->threads = mem_alloc_array(settings->codec_threads, sizeof(*writer->threads));
	if (!writer->threads)
		goto fail;
	for (unsigned i = 0; i < settings->codec_threads; i++) {
		r = thread_start(&writer->threads[i], "codec", codec_thread, writer);
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
