/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_FS_OP_H
#define SHARDFS_FS_OP_H

/*
 * One request on its way to its one reply.
 *
 *   began (request loop) -> run from memory -> replied
 *                                | -EAGAIN: run again with a reader: here, as long as another
 *                                  loop is left that waits for nothing; else by a reader thread
 *                                | waits for room, a push or a sync: run again, or replied,
 *                                  by the thread that told the waiter
 *
 * Arguments are copied into the op, so it can leave the loop at any moment.
 * An op has one owner at a time: whoever runs it, or the waiter.
 */

#include "fs/session.h"
#include "store/names.h"
#include "util/list.h"
#include "util/waiter.h"

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

struct op;
struct handle;

/* What a run answers besides a negative errno (which op_step replies). */
#define OP_DONE	   0 /* replied */
#define OP_PENDING 1 /* somebody else owns the op now: do not touch it */

/* reader NULL: on a request loop, which may not wait: -EAGAIN asks for another run elsewhere. */
typedef int op_run(struct op *op, struct index_reader *reader);

struct op {
	struct session *session;
	fuse_req_t req; /* NULL once replied */
	int dev_fd;	/* where the request came from: the reply must go there */
	op_run *run;
	struct pool *pool; /* which readers run it */
	struct list link;  /* in pool->queue */
	struct waiter waiter;
	unsigned tries;
	bool is_admitted; /* the sequencer had room */
	bool is_step_done; /* an earlier run has done the first half */
	bool is_priv_killed; /* FUSE_*_KILL_SUIDGID of the request */
	bool is_cached;	     /* WRITE: pages of the page cache */
	bool moves_times;    /* WRITE: mtime and ctime are ours to move */
	bool is_writer;	     /* GETATTR: by a handle that may write */
	bool is_slow;	     /* may wait for the kernel, or for long: never on a loop */

	uint32_t uid, gid, pid, umask;
	struct inode *inode, *inode2; /* referenced, or NULL */
	struct handle *handle;	      /* new one, not yet given to the kernel */
	struct buf value;	      /* owned: xattr value, symlink target, ioctl data */
	struct bytes name, name2;     /* in the arrays below */
	uint64_t off, off2, len;
	uint32_t mode, flags;
	uint64_t rdev;
	struct names_attr attr;
	uint64_t size; /* SETATTR: new one */
	bool has_size, is_plus, is_dir;
	uint64_t forget_count;

	/* not cleared between requests */
	char name_store[NAME_LEN_MAX + 1], name2_store[NAME_LEN_MAX + 1];
};

/* A fresh op for this request, or NULL: then the request is answered (-ENOMEM). */
struct op *op_begin(fuse_req_t req, op_run *run);
/* -ENAMETOOLONG. */
int op_set_name(struct op *op, const char *name);
int op_set_name2(struct op *op, const char *name);
/*
 * op_hold - finds the inode that the kernel names and keeps a reference in op->inode (op->inode2).
 * -ESTALE: it is of a snapshot that was deleted, or not known; only a broken peer asks so.
 */
int op_hold(struct op *op, fuse_ino_t ino);
int op_hold2(struct op *op, fuse_ino_t ino);
/* Runs the op on this thread and sees to its end.  r: a failure so far, or 0. */
void op_go(struct op *op, int r);
/* The same on a reader thread. */
void op_step(struct op *op, struct index_reader *reader);
/* Runs the rest of an op that has been replied to on a reader thread; `run` answers OP_DONE. */
void op_go_on(struct op *op, op_run *run);
/* Ends an op that has been replied to. */
void op_end(struct op *op);

/*
 * Ask before the first change: 0 go on; OP_PENDING: the backlog is full, the run starts over when
 * there is room: return it.
 */
int op_admit(struct op *op);
/* Pushes the inode's bytes, then runs the op again: `return op_push_first(...)`. */
int op_push_first(struct op *op, struct inode *inode);
/*
 * Pushes op->inode's bytes; the op ends with the outcome.  What is small is done on this thread, if
 * it may wait.
 */
int op_push_and_reply(struct op *op);
/* fsync of op->inode, likewise. */
int op_sync_and_reply(struct op *op);
/*
 * The op ends with the status that `waiter` is told: set up with op_waiter_reply, give the waiter
 * away, return OP_PENDING.
 */
struct waiter *op_waiter_reply(struct op *op);

/* An I/O buffer of this thread, at least `size` bytes; valid until its next use.  NULL: no memory. */
uint8_t *op_io_buf(size_t size);
/* Frees what op_begin and op_io_buf keep for this thread. */
void op_thread_end(void);

/* Reader threads: `count` of them, each with a reader of its own. */
struct pool;
int pool_start(struct session *session, unsigned count, const char *name, struct pool **out);
/* Runs what is queued, then ends the threads.  Accepts NULL. */
void pool_stop(struct pool *pool);

#endif
