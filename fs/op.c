/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request loop keeps one spare op, so that a request which memory answers
 * costs no allocation; an op that leaves the loop is replaced at the next
 * request and freed by whoever ends it.
 *
 * To hand a request over costs two switches of threads, often more than its
 * work.  So a loop that memory cannot answer does what must wait itself, with a
 * worker of its own (which has a reader), as long as another loop is left that
 * does not: `waiting` counts those that do and stays below their number.  Only
 * the last one hands over, so that a held operation never blocks another one.
 *
 * Pools: the queue is a list through the ops, so queueing cannot fail for lack
 * of memory; it is bounded by OPS_QUEUED_MAX, beyond which requests fail with
 * -ENOMEM (the kernel has a bounded number of tasks; nobody gets there).
 */
#include "fs/op.h"

#include "fs/handle.h"
#include "fs/reply.h"
#include "util/log.h"
#include "util/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#define OPS_QUEUED_MAX 65536
#define OP_TRIES_MAX   100000

struct pool {
	struct session *session;
	struct lock lock; /* LOCK_QUEUE: guards all below */
	struct cond work;
	struct list queue;
	unsigned queued;
	bool is_closed;
	unsigned count;
	pthread_t *threads;
	struct index_reader **readers;
	unsigned next_reader;
};

static _Thread_local struct op *spare;
static _Thread_local struct chunk_worker *loop_worker; /* made when first needed */
static _Thread_local uint8_t *io_buf;
static _Thread_local size_t io_buf_size;

uint8_t *op_io_buf(size_t size)
{
	if (size > io_buf_size) {
		uint8_t *larger = mem_alloc_raw(size);

		if (!larger)
			return NULL;
		mem_free(io_buf);
		io_buf = larger;
		io_buf_size = size;
	}
	return io_buf;
}

void op_thread_end(void)
{
	mem_free(STEAL(spare));
	chunk_worker_free(STEAL(loop_worker));
	mem_free(STEAL(io_buf));
	io_buf_size = 0;
}

struct op *op_begin(fuse_req_t req, op_run *run)
{
	struct session *session = fuse_req_userdata(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct op *op = STEAL(spare);

	if (!op)
		op = mem_alloc_raw(sizeof(*op));
	if (!op) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	memset(op, 0, offsetof(struct op, name_store));
	op->session = session;
	op->req = req;
	op->dev_fd = session_thread_fd();
	op->run = run;
	op->pool = session->meta;
	op->uid = ctx->uid;
	op->gid = ctx->gid;
	op->pid = (uint32_t)ctx->pid;
	op->umask = ctx->umask;
	op->is_priv_killed = session_request_kills_priv();
	list_init(&op->link);
	session_op_began(session);
	return op;
}

static int set_name(char *store, struct bytes *out, const char *name)
{
	size_t len = strlen(name);

	if (len > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	memcpy(store, name, len + 1);
	*out = bytes_of(store, len);
	return 0;
}

int op_set_name(struct op *op, const char *name)
{
	return set_name(op->name_store, &op->name, name);
}

int op_set_name2(struct op *op, const char *name)
{
	return set_name(op->name2_store, &op->name2, name);
}

/* An inode of a snapshot that was deleted is of no use any more. */
static int check_held(struct op *op, uint64_t ino)
{
	return ino_snapshot_no(ino) == 0 || ino_is_holder(ino)
		       ? 0
		       : index_check_snapshot(op->session->store->index, ino);
}

int op_hold(struct op *op, fuse_ino_t ino)
{
	op->inode = inode_find(op->session->store->inodes, ino);
	return op->inode ? check_held(op, ino) : -ESTALE;
}

int op_hold2(struct op *op, fuse_ino_t ino)
{
	op->inode2 = inode_find(op->session->store->inodes, ino);
	return op->inode2 ? check_held(op, ino) : -ESTALE;
}

void op_end(struct op *op)
{
	struct session *session = op->session;
	struct inode_table *inodes = session->store->inodes;

	assert(!op->req);
	if (op->handle)
		handle_free(session, op->handle);
	inode_unref(inodes, op->inode, 1);
	inode_unref(inodes, op->inode2, 1);
	buf_release(&op->value);
	if (!spare && session_is_loop())
		spare = op;
	else
		mem_free(op);
	session_op_ended(session);
}

static void fail(struct op *op, int r)
{
	reply_err(op, r);
	op_end(op);
}

static void enqueue(struct op *op)
{
	struct pool *pool = op->pool;
	bool is_taken;

	lock_take(&pool->lock);
	is_taken = pool->queued < OPS_QUEUED_MAX && !pool->is_closed;
	if (is_taken) {
		list_push_back(&pool->queue, &op->link);
		pool->queued++;
		cond_wake_one(&pool->work);
	}
	lock_drop(&pool->lock);
	if (!is_taken && op->req)
		fail(op, -ENOMEM);
	else if (!is_taken)
		op_end(op);
}

void op_go_on(struct op *op, op_run *run)
{
	assert(!op->req);
	op->run = run;
	enqueue(op);
}

/* ---- waiting on a loop ---- */

/* A worker for work that may wait, or NULL: hand it over.  Given back with loop_worker_put. */
static struct chunk_worker *loop_worker_take(struct session *session)
{
	uint32_t waiting = atomic_load(&session->loops_waiting);

	if (!session_is_loop())
		return NULL;
	do {
		if (waiting + 1 >= session->settings.loops)
			return NULL;
	} while (!atomic_compare_exchange_weak(&session->loops_waiting, &waiting, waiting + 1));
	if (!loop_worker && writer_worker_new(session->store->writer, &loop_worker) < 0)
		atomic_fetch_sub(&session->loops_waiting, 1);
	return loop_worker;
}

static void loop_worker_put(struct session *session)
{
	atomic_fetch_sub(&session->loops_waiting, 1);
}

/* The op may be gone when this returns OP_PENDING. */
static int run_waiting(struct op *op)
{
	struct session *session = op->session;
	struct chunk_worker *worker = op->is_slow ? NULL : loop_worker_take(session);
	int r;

	if (!worker)
		return -EAGAIN;
	r = op->run(op, chunk_worker_reader(worker));
	loop_worker_put(session);
	return r;
}

int op_push_and_reply(struct op *op)
{
	struct session *session = op->session;
	struct writer *writer = session->store->writer;
	struct chunk_worker *worker = loop_worker_take(session);

	if (!worker) {
		writer_push(writer, op->inode, op_waiter_reply(op));
		return OP_PENDING;
	}
	writer_push_here(writer, worker, op->inode, op_waiter_reply(op));
	loop_worker_put(session);
	return OP_PENDING;
}

int op_sync_and_reply(struct op *op)
{
	struct session *session = op->session;
	struct chunk_worker *worker = loop_worker_take(session);

	store_fsync(session->store, worker, op->inode, op_waiter_reply(op));
	if (worker)
		loop_worker_put(session);
	return OP_PENDING;
}

/* ---- steps ---- */

void op_step(struct op *op, struct index_reader *reader)
{
	int r = op->run(op, reader);

	if (r == -EAGAIN && !reader)
		r = run_waiting(op);
	if (r == OP_PENDING)
		return;
	if (r == -EAGAIN) {
		if (!reader || op->tries++ < OP_TRIES_MAX) {
			enqueue(op);
			return;
		}
		log_error("request-stuck", "tries=%u", op->tries);
		r = -EIO;
	}
	if (r < 0)
		reply_err(op, r);
	op_end(op);
}

void op_go(struct op *op, int r)
{
	if (r < 0)
		fail(op, r);
	else
		op_step(op, NULL);
}

/* ---- waiting ---- */

static void run_again(struct waiter *waiter, int error)
{
	struct op *op = container_of(waiter, struct op, waiter);

	if (error < 0)
		fail(op, error);
	else
		enqueue(op);
}

static void reply_status(struct waiter *waiter, int error)
{
	struct op *op = container_of(waiter, struct op, waiter);

	reply_err(op, error);
	op_end(op);
}

int op_admit(struct op *op)
{
	int r;

	if (op->is_admitted)
		return 0;
	if (!store_may_write(op->session->store, NULL))
		return -EROFS;
	op->is_admitted = true;
	op->waiter = (struct waiter){.done = run_again};
	r = sequencer_admit(op->session->store->sequencer, &op->waiter);
	return r == -EAGAIN ? OP_PENDING : r;
}

int op_push_first(struct op *op, struct inode *inode)
{
	if (op->tries++ >= OP_TRIES_MAX)
		return -EBUSY;
	op->waiter = (struct waiter){.done = run_again};
	writer_push(op->session->store->writer, inode, &op->waiter);
	return OP_PENDING;
}

struct waiter *op_waiter_reply(struct op *op)
{
	op->waiter = (struct waiter){.done = reply_status};
	return &op->waiter;
}

/* ---- reader threads ---- */

static void *pool_run(void *arg)
{
	struct pool *pool = arg;
	struct index_reader *reader;

	lock_take(&pool->lock);
	reader = pool->readers[pool->next_reader++];
	for (;;) {
		struct op *op;

		while (list_is_empty(&pool->queue) && !pool->is_closed)
			cond_wait(&pool->work, &pool->lock);
		if (list_is_empty(&pool->queue))
			break;
		op = list_entry(pool->queue.next, struct op, link);
		list_remove(&op->link);
		pool->queued--;
		lock_drop(&pool->lock);
		op_step(op, reader);
		lock_take(&pool->lock);
	}
	lock_drop(&pool->lock);
	op_thread_end();
	return NULL;
}

int pool_start(struct session *session, unsigned count, const char *name, struct pool **out)
{
	struct pool *pool = mem_alloc(sizeof(*pool));
	int r = 0;

	if (!pool)
		return -ENOMEM;
	pool->session = session;
	lock_init(&pool->lock, LOCK_QUEUE);
	cond_init(&pool->work);
	list_init(&pool->queue);
	pool->threads = mem_alloc_array(count, sizeof(*pool->threads));
	pool->readers = mem_alloc_array(count, sizeof(*pool->readers));
	if (!pool->threads || !pool->readers)
		r = -ENOMEM;
	for (unsigned i = 0; r == 0 && i < count; i++) {
		r = index_reader_open(session->store->index, &pool->readers[i]);
		if (r < 0)
			break;
		r = thread_start(&pool->threads[i], name, pool_run, pool);
		if (r < 0)
			index_reader_close(STEAL(pool->readers[i]));
		else
			pool->count++;
	}
	if (r < 0) {
		pool_stop(pool);
		return r;
	}
	*out = pool;
	return 0;
}

void pool_stop(struct pool *pool)
{
	if (!pool)
		return;
	lock_take(&pool->lock);
	pool->is_closed = true;
	cond_wake_all(&pool->work);
	lock_drop(&pool->lock);
	for (unsigned i = 0; i < pool->count; i++)
		pthread_join(pool->threads[i], NULL);
	for (unsigned i = 0; i < pool->count; i++)
		index_reader_close(pool->readers[i]);
	mem_free(pool->threads);
	mem_free(pool->readers);
	cond_release(&pool->work);
	lock_release(&pool->lock);
	mem_free(pool);
}
