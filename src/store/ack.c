/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request is first made durable here (writer_sync), then queued for the one
 * thread of this file, which seals, asks the index for the file's shards, and
 * counts down their copies.  A request is freed by whoever counts it to zero.
 */
#include "store/ack.h"

#include "store/store_private.h"

#include "util/list.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>
#include <stdatomic.h>

#define SHARDS_PAGE 256u

struct ack_request {
	struct list link;
	struct ack *ack;
	struct inode *inode; /* referenced */
	struct waiter synced;
	struct waiter *user;
	unsigned copies;
	_Atomic unsigned left;
	_Atomic int error;
};

struct ack_part {
	struct waiter waiter;
	struct ack_request *request;
};

struct ack {
	struct store *store;
	struct index_reader *reader;
	struct lock lock; /* LOCK_KEEPER: guards the two below */
	struct cond work;
	struct list requests;
	bool is_stopping;
	pthread_t thread;
};

static void request_end(struct ack_request *request, int error)
{
	struct waiter *user = request->user;

	inode_unref(request->ack->store->inodes, request->inode, 1);
	mem_free(request);
	user->done(user, error);
}

static void count_down(struct ack_request *request)
{
	if (atomic_fetch_sub(&request->left, 1) == 1)
		request_end(request, request->error);
}

static void part_done(struct waiter *waiter, int error)
{
	struct ack_part *part = container_of(waiter, struct ack_part, waiter);

	/* -ENOENT: the shard went; what the file still has of it moved to one that has its copies */
	if (error < 0 && error != -ENOENT)
		part->request->error = error;
	count_down(part->request);
	mem_free(part);
}

static int await_shard(struct ack_request *request, uint64_t shard_no)
{
	struct ack_part *part = mem_alloc(sizeof(*part));

	if (!part)
		return -ENOMEM;
	part->request = request;
	part->waiter.done = part_done;
	request->left++;
	transfer_when_copied(request->ack->store->transfer, shard_no, request->copies,
			     &part->waiter);
	return 0;
}

/* Bytes without their names are not recoverable: the records must be there too. */
static int await_oplog(struct ack_request *request, uint64_t seq)
{
	struct ack_part *part = mem_alloc(sizeof(*part));

	if (!part)
		return -ENOMEM;
	part->request = request;
	part->waiter.done = part_done;
	request->left++;
	oplog_when_shipped(request->ack->store->priv->oplog, seq, request->copies, &part->waiter);
	return 0;
}

/* The shards are sealed: now each of the file's must have its copies. */
static void serve(struct ack *ack, struct ack_request *request, uint64_t seq)
{
	uint64_t shard_nos[SHARDS_PAGE], after = 0;
	size_t count;
	int r;

	request->left = 1;
	do {
		r = index_subtree_shards(ack->store->index, ack->reader, request->inode->row.ino,
					 after, SHARDS_PAGE, shard_nos, &count, NULL);
		for (size_t i = 0; i < count && r == 0; i++)
			r = await_shard(request, shard_nos[i]);
		if (r == 0 && count > 0)
			after = shard_nos[count - 1];
	} while (r == 0 && count == SHARDS_PAGE);
	if (r == 0)
		r = await_oplog(request, seq);
	if (r < 0)
		request->error = r;
	count_down(request);
}

static void serve_batch(struct ack *ack, struct list *batch)
{
	struct sequencer *sequencer = ack->store->sequencer;
	int r = spool_seal_all(ack->store->spool, 0);
	uint64_t seq = sequencer_last_seq(sequencer);

	if (r == 0)
		r = sequencer_wait_applied(sequencer, seq);
	list_for_each(pos, batch) {
		struct ack_request *request = container_of(pos, struct ack_request, link);

		list_remove(pos);
		if (r < 0)
			request_end(request, r);
		else
			serve(ack, request, seq);
	}
}

static void *ack_thread(void *arg)
{
	struct ack *ack = arg;
	struct list batch = LIST_INIT(batch);

	lock_take(&ack->lock);
	for (;;) {
		if (!list_is_empty(&ack->requests)) {
			list_splice_back(&batch, &ack->requests);
			lock_drop(&ack->lock);
			serve_batch(ack, &batch);
			lock_take(&ack->lock);
		} else if (ack->is_stopping) {
			break;
		} else {
			cond_wait(&ack->work, &ack->lock);
		}
	}
	lock_drop(&ack->lock);
	return NULL;
}

static void locally_synced(struct waiter *waiter, int error)
{
	struct ack_request *request = container_of(waiter, struct ack_request, synced);
	struct ack *ack = request->ack;
	bool is_taken = false;

	lock_take(&ack->lock);
	if (error == 0 && !ack->is_stopping) {
		list_push_back(&ack->requests, &request->link);
		cond_wake_one(&ack->work);
		is_taken = true;
	}
	lock_drop(&ack->lock);
	if (!is_taken)
		request_end(request, error < 0 ? error : -ECANCELED);
}

static unsigned copies_for(const struct policy *policy)
{
	switch (policy->ack) {
	case ACK_LOCAL:
		return 0;
	case ACK_ONE:
		return 1;
	case ACK_QUORUM:
		return policy->copies / 2 + 1;
	case ACK_ALL:
	default:
		return policy->copies;
	}
}

void ack_fsync(struct ack *ack, struct chunk_worker *worker, struct inode *inode,
	       struct waiter *waiter)
{
	struct ack_request *request;
	struct policy policy;
	unsigned copies;

	store_policy_of(ack->store, inode->row.policy_root, &policy);
	copies = inode_is_regular(inode) ? copies_for(&policy) : 0;
	if (copies == 0) {
		writer_sync(ack->store->writer, worker, inode, waiter);
		return;
	}
	request = mem_alloc(sizeof(*request));
	if (!request) {
		waiter->done(waiter, -ENOMEM);
		return;
	}
	inode_ref(inode, 1);
	request->ack = ack;
	request->inode = inode;
	request->user = waiter;
	request->copies = copies;
	request->synced.done = locally_synced;
	list_init(&request->link);
	writer_sync(ack->store->writer, worker, inode, &request->synced);
}

int ack_start(struct store *store, struct ack **out)
{
	struct ack *ack = mem_alloc(sizeof(*ack));
	int r;

	if (!ack)
		return -ENOMEM;
	ack->store = store;
	list_init(&ack->requests);
	lock_init(&ack->lock, LOCK_KEEPER);
	cond_init(&ack->work);
	r = index_reader_open(store->index, &ack->reader);
	if (r == 0)
		r = thread_start(&ack->thread, "ack", ack_thread, ack);
	if (r < 0) {
		index_reader_close(ack->reader);
		cond_release(&ack->work);
		lock_release(&ack->lock);
		mem_free(ack);
		return r;
	}
	*out = ack;
	return 0;
}

void ack_stop(struct ack *ack)
{
	if (!ack)
		return;
	lock_take(&ack->lock);
	ack->is_stopping = true;
	cond_wake_all(&ack->work);
	lock_drop(&ack->lock);
	pthread_join(ack->thread, NULL);
	index_reader_close(ack->reader);
	cond_release(&ack->work);
	lock_release(&ack->lock);
	mem_free(ack);
}
