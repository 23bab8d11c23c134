/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_WRITER_H
#define SHARDFS_STORE_WRITER_H

/*
 * Dirty buffers to codec to spool to journal, in that order.
 *
 * A write copies its bytes into a run of the inode and returns.  Runs are
 * pushed (full, closed by a write elsewhere, flushed, idle, or memory is
 * short): cut, named, stored by the codec workers in any order, and journalled
 * in the order in which they were written.  Reads lay what is dirty over the
 * index, newest first.
 *
 * Functions with a waiter never wait; `waiter` is told exactly once unless the
 * function says otherwise.  No lock may be held by the caller except where
 * "inode locked" is said.
 */

#include "store/chunk.h"
#include "store/inode.h"
#include "store/reader.h"
#include "store/rewrite.h"

struct writer;

struct writer_settings {
	struct index *index;
	struct sequencer *sequencer;
	struct inode_table *inodes;
	struct chunk_store *chunks;
	struct reader *reader;
	const struct chunker *chunker;
	struct rewrite *rewrite;      /* told of new extents; may be NULL */
	unsigned codec_threads;       /* 1 .. 64 */
	uint64_t dirty_bytes_max;     /* over all inodes */
	/* Class of a new chunk of this inode (policy root, priority, key epoch); from memory. */
	void (*class_of)(void *ctx, const struct inode_row *row, struct shard_class *out);
	/* Room left for new bytes: 0, or -ENOSPC; is_reserve: pages that the kernel already holds. */
	int (*admit)(void *ctx, uint64_t bytes, bool is_reserve);
	/* The spool is so full that writes should go no faster than it drains: answers are delayed. */
	bool (*is_tight)(void *ctx);
	/* Bytes whose writes may be answered now: what drained since the last call, or a minimum
	 * when nothing drains (so that a full spool is told as -ENOSPC, not by silence). */
	uint64_t (*allowance)(void *ctx);
	void *ctx;
};

int writer_start(const struct writer_settings *settings, struct writer **out);
/* Pushes everything, waits for it, ends the workers.  Returns the first failure. */
int writer_stop(struct writer *writer);
void writer_free(struct writer *writer);

/*
 * writer_write - bytes are copied before it returns.
 * 0: done, answer now; -EINPROGRESS: taken, but answer only when `waiter` is told (memory or spool
 * is short); -ENOSPC, -EIO, -ENOMEM, -EFBIG: not taken, waiter is not told.
 * is_cached: pages from the kernel's page cache (may use the reserve).  moves_times: mtime and ctime
 * become now; otherwise the kernel moves them and tells.
 */
int writer_write(struct writer *writer, struct inode *inode, uint64_t off, struct bytes src,
		 bool is_cached, bool moves_times, struct waiter *waiter);

/*
 * writer_read - [off, off+len) of what is visible, clipped to the visible size; *got bytes
 * are in out (holes are zeros).  reader NULL: only from memory, else -EAGAIN.  -EIO, -ENOMEM.
 */
int writer_read(struct writer *writer, struct inode *inode, struct index_reader *reader,
		uint64_t off, size_t len, uint8_t *out, size_t *got);

/* Told when all that was written before the call is in the journal (a kill loses nothing of it).
 * The error is the inode's write_error, which is reset by telling it. */
void writer_push(struct writer *writer, struct inode *inode, struct waiter *waiter);
/* A worker for writer_push_here, freed with chunk_worker_free while the writer lives. */
int writer_worker_new(struct writer *writer, struct chunk_worker **out);
/*
 * The same; what is small is coded and journalled on this thread, with its worker, instead of waking
 * one: for threads that may wait.
 */
void writer_push_here(struct writer *writer, struct chunk_worker *worker, struct inode *inode,
		      struct waiter *waiter);
/* ... and durable (fsync).  worker: of this thread, which may wait; else NULL. */
void writer_sync(struct writer *writer, struct chunk_worker *worker, struct inode *inode,
		 struct waiter *waiter);
/* Every inode. */
void writer_sync_all(struct writer *writer, struct waiter *waiter);
/* Nothing of the inode is unpushed (inode locked). */
bool writer_is_clean(const struct inode *inode);

/*
 * The next four change extents.  The inode must be clean: they return -EBUSY otherwise; push and
 * call again (writer_set_size first drops unpushed bytes that the new size cuts off).  Each submits one
 * record with the inode's row, whose times the caller's `touch` has set: touch(ctx, row) is called
 * with the inode locked, just before.  -EFBIG, -ENOSPC, -EIO, -ENOMEM: nothing changed.
 */
int writer_set_size(struct writer *writer, struct inode *inode, uint64_t size,
		    void (*touch)(void *ctx, struct inode_row *row), void *ctx);
/* A hole (is_hole) or allocated zeros in [off, off+len); keep_size as FALLOC_FL_KEEP_SIZE. */
int writer_zero(struct writer *writer, struct inode *inode, struct index_reader *reader,
		uint64_t off, uint64_t len, bool is_hole, bool keep_size,
		void (*touch)(void *ctx, struct inode_row *row), void *ctx);
/* posix_fallocate: holes in the range become allocated zeros, data stays. */
int writer_allocate(struct writer *writer, struct inode *inode, struct index_reader *reader,
		    uint64_t off, uint64_t len, bool keep_size,
		    void (*touch)(void *ctx, struct inode_row *row), void *ctx);
/*
 * Share src's extents with dst: *copied bytes (clipped to src's size, bounded for each call: may be
 * less than len).  src and dst may be one inode if the ranges do not overlap (-EINVAL).
 */
int writer_clone(struct writer *writer, struct inode *src, uint64_t src_off, struct inode *dst,
		 uint64_t dst_off, uint64_t len, struct index_reader *reader,
		 void (*touch)(void *ctx, struct inode_row *row), void *ctx, uint64_t *copied);

/* SEEK_DATA / SEEK_HOLE with what is dirty counted as data.  -ENXIO as lseek(2). */
int writer_seek(struct writer *writer, struct inode *inode, struct index_reader *reader,
		uint64_t off, bool is_data, uint64_t *result);
/* Bytes that occupy space, for st_blocks; -EAGAIN with reader NULL when it must be counted. */
int writer_alloc_bytes(struct writer *writer, struct inode *inode, struct index_reader *reader,
		       uint64_t *bytes);

uint64_t writer_dirty_bytes(struct writer *writer);

#endif
