/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journalling in the order of writing, and those who wait for it.
 *
 * writer_commit_ready() takes the done runs at the head of an inode's list,
 * submits one record with their extents and the inode's row, and only then
 * forgets their bytes, all under the inode's lock: a reader sees the bytes in
 * one place or the other, and no size is ever recorded without its bytes.
 */
#include "store/writer_private.h"

#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <stdatomic.h>

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

static void note_runs(struct writer *writer, struct inode *inode, struct list *stop)
{
	for (struct list *pos = inode->writer->runs.next; pos != stop; pos = pos->next) {
		const struct run *run = container_of(pos, struct run, link);

		rewrite_note(writer->settings.rewrite, inode->row.ino, run->off, run->len,
			     run->piece_count);
	}
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
		inode_set_row(inode, &before);
	else if (before.size > 0) /* a new file has as few extents as it can have */
		note_runs(writer, inode, stop);
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

static void push_to_journal(struct writer *writer, struct chunk_worker *worker, struct push *push,
			    uint64_t seq)
{
	struct sequencer *sequencer = writer->settings.sequencer;

	push->inner.done = push_settle;
	if (!push->is_sync)
		sequencer_when_written(sequencer, seq, &push->inner);
	else if (worker && worker == push->worker)
		sequencer_sync_here(sequencer, seq, &push->inner);
	else
		sequencer_when_synced(sequencer, seq, &push->inner);
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
void writer_commit_ready(struct writer *writer, struct chunk_worker *worker, struct inode *inode)
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
	owes_unref = writer_detach_if_clean(writer, inode);
	lock_drop(&inode->lock);

	list_for_each(pos, &done) {
		struct run *run = container_of(pos, struct run, link);

		for (uint32_t i = 0; i < run->piece_count; i++)
			if (run->pieces[i].is_stored)
				chunk_unpin(writer->settings.chunks, run->pieces[i].chunk.chunk_no);
		list_remove(&run->link);
		writer_run_free(writer, run);
	}
	list_for_each(pos, &pushes) {
		list_remove(pos);
		push_to_journal(writer, worker, container_of(pos, struct push, link), seq);
	}
	writer_unpark(writer);
	if (owes_unref)
		inode_unref(writer->settings.inodes, inode, 1);
}

/* ---- pushing ---- */

void writer_push_start(struct writer *writer, struct inode *inode, bool is_sync,
		       struct chunk_worker *worker, struct waiter *waiter)
{
	struct push *push = mem_alloc(sizeof(*push));
	struct run *run;
	uint64_t seq;

	if (!push) {
		waiter->done(waiter, -ENOMEM);
		return;
	}
	push->user = waiter;
	push->is_sync = is_sync;
	push->worker = worker;
	lock_take(&inode->lock);
	run = worker ? writer_take_small(writer, inode) : NULL;
	if (!run)
		writer_close_filling(writer, inode);
	if (!writer_is_clean(inode)) {
		push->until = inode->writer->next_number - 1;
		list_push_back(&inode->writer->pushes, &push->link);
		lock_drop(&inode->lock);
		if (run)
			writer_code_here(writer, worker, run);
		return;
	}
	push->error = inode->write_error;
	inode->write_error = 0;
	seq = inode->last_seq;
	lock_drop(&inode->lock);
	push_to_journal(writer, worker, push, seq);
}

void writer_push(struct writer *writer, struct inode *inode, struct waiter *waiter)
{
	writer_push_start(writer, inode, false, NULL, waiter);
}

int writer_worker_new(struct writer *writer, struct chunk_worker **out)
{
	return chunk_worker_new(writer->settings.chunks, out);
}

void writer_push_here(struct writer *writer, struct chunk_worker *worker, struct inode *inode,
		      struct waiter *waiter)
{
	writer_push_start(writer, inode, false, worker, waiter);
}

void writer_sync(struct writer *writer, struct chunk_worker *worker, struct inode *inode,
		 struct waiter *waiter)
{
	writer_push_start(writer, inode, true, worker, waiter);
}

/* Up to `max` dirty inodes, each with a reference, beginning with the longest dirty. */
unsigned writer_take_dirty(struct writer *writer, struct inode **inodes, unsigned max)
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
	writer_push_start(all->writer, inode, false, NULL, &part->waiter);
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

