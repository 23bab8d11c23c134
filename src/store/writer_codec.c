/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec workers: cut a run, name and store its pieces, in any order.  A run
 * that continues another is cut after it, with that one's tail before it, so
 * that boundaries depend on content alone.  Pieces come before new runs, since
 * they free memory.
 */
#include "store/writer_private.h"

#include "util/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define RETRY_FULL_MS 50u

/* ---- the codec's side ---- */

static void run_finish(struct writer *writer, struct chunk_worker *worker, struct run *run)
{
	struct inode *inode = run->inode;

	inode_ref(inode, 1); /* once the run is done, another worker may finish the inode off */
	lock_take(&inode->lock);
	run->state = RUN_DONE;
	lock_drop(&inode->lock);
	lock_take(&writer->lock);
	writer->runs_in_codec--;
	lock_drop(&writer->lock);
	writer_commit_ready(writer, worker, inode);
	inode_unref(writer->settings.inodes, inode, 1);
}

/* A full spool gets room while copies are made: patience as long as admit() sees it drain. */
static int put_patiently(struct writer *writer, struct chunk_worker *worker,
			 const struct shard_class *class, struct bytes bytes,
			 struct chunk_row *chunk)
{
	bool is_new;
	int r;

	for (;;) {
		r = chunk_put(worker, class, bytes, chunk, &is_new);
		if (r != -ENOSPC ||
		    writer->settings.admit(writer->settings.ctx, 0, true) == -ENOSPC)
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
		run_finish(writer, worker, run);
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
		writer_make_ready(writer, next);
}

/* Cuts a run into pieces and tells their number; with none of them the run is finished. */
static uint32_t cut_run(struct writer *writer, struct chunk_worker *worker, struct run *run)
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
		run_finish(writer, worker, run);
		return 0;
	}
	run->pieces_left = run->piece_count;
	run->piece_next = 1;
	return run->piece_count;
}

/* The first piece is for the caller, others for whoever is free. */
static void code_run(struct writer *writer, struct chunk_worker *worker, struct run *run)
{
	uint32_t count = cut_run(writer, worker, run);

	if (count == 0)
		return;
	if (count > 1) {
		lock_take(&writer->lock);
		list_push_back(&writer->ready_code, &run->ready);
		cond_wake_all(&writer->work);
		lock_drop(&writer->lock);
	}
	code_piece(writer, worker, run, 0);
}

void writer_code_here(struct writer *writer, struct chunk_worker *worker, struct run *run)
{
	uint32_t count = cut_run(writer, worker, run);

	for (uint32_t n = 0; n < count; n++)
		code_piece(writer, worker, run, n); /* the last one ends the run */
}

void *writer_codec_thread(void *arg)
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
			code_run(writer, worker, run);
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

