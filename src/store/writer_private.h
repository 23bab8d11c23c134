/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_WRITER_PRIVATE_H
#define SHARDFS_STORE_WRITER_PRIVATE_H

/*
 * The writer in parts: writer.c (writes, reads, life), writer_run.c (runs), writer_codec.c (workers),
 * writer_commit.c (order, pushes), writer_range.c (extents without bytes).
 */

#include "codec/chunker.h"
#include "store/writer.h"
#include "util/counter.h"
#include "util/list.h"

/*
 * filling -> queued -> coding -> done -> (journalled, freed)
 * Only a filling run takes bytes; an inode has at most one, its newest.
 */
enum run_state { RUN_FILLING, RUN_QUEUED, RUN_CODING, RUN_DONE };

struct run_piece {
	uint32_t start, len; /* in run->data */
	struct chunk_row chunk;
	bool is_stored; /* chunk is pinned */
};

/* Consecutive bytes of a file on their way to the spool. */
struct run {
	struct list link;  /* inode_writer.runs, in the order of writing; inode's lock */
	struct list ready; /* writer's lists of work; writer's lock */
	struct inode *inode;
	uint64_t number;   /* of the mutation */
	uint64_t off;      /* file offset of data[start]; moves down when a tail is put before */
	uint8_t *data;
	uint32_t start, len, capacity;
	uint32_t limit;    /* writes fill data up to here */
	enum run_state state; /* inode's lock */
	bool is_big;       /* data is one of the pool's buffers */
	bool is_continued; /* the next run goes on where this ends: its tail may move there */
	bool waits_for_tail; /* the run before may still put its tail before this one */
	uint64_t touched_ms;
	_Atomic int error;
	struct run_piece *pieces;
	uint32_t piece_count, piece_next; /* piece_next: writer's lock */
	_Atomic uint32_t pieces_left;
};

/* The unpushed side of an inode.  Holds a reference on it. */
struct inode_writer {
	struct list dirty; /* writer->dirty; writer's lock */
	struct inode *inode;
	struct list runs;   /* inode's lock, as all below */
	struct list pushes; /* who waits for runs */
	uint64_t next_number;
};

struct push {
	struct list link;
	struct waiter inner;  /* given to the sequencer */
	struct waiter *user;
	uint64_t until;       /* number of the last run that counts */
	int error;
	bool is_sync;
	struct chunk_worker *worker; /* of the thread that began it, if that may wait */
};

struct writer {
	struct writer_settings settings;
	uint32_t chunk_max;
	struct lock lock; /* LOCK_WRITER: guards the lists and flags below */
	struct cond work;
	struct list ready_cut, ready_code;
	struct list dirty;
	struct list free_big; /* pool of big buffers, linked through their first bytes */
	unsigned free_big_count, free_big_max; /* as many as the bound on dirty bytes lets live */
	struct waiter *parked, **parked_end; /* memory is short */
	struct waiter *slowed, **slowed_end; /* the spool is tight; oldest first */
	uint64_t slowed_count, slowed_bytes, slowed_credit;
	uint64_t runs_in_codec;
	bool is_stopping, is_pressed;
	struct cond tick;
	struct cond drained;
	_Atomic uint64_t dirty_bytes;
	pthread_t *threads;
	unsigned thread_count;
	pthread_t ticker;
	bool has_ticker;
};

static inline uint64_t run_end(const struct run *run)
{
	return run->off + run->len;
}

/* ---- writer_run.c; "inode locked" where the inode is an argument ---- */

int writer_attach(struct writer *writer, struct inode *inode); /* gives it a writer */
/* Nothing is left to push: true when the caller owes inode_unref. */
bool writer_detach_if_clean(struct writer *writer, struct inode *inode);
struct run *writer_filling_of(const struct inode *inode); /* NULL */
/* Takes all bytes; opens and closes runs as needed.  -ENOMEM: perhaps a part. */
int writer_put_bytes(struct writer *writer, struct inode *inode, uint64_t off, struct bytes src);
void writer_queue_run(struct writer *writer, struct run *run);
/* Puts a queued run where workers find it. */
void writer_make_ready(struct writer *writer, struct run *run);
void writer_close_filling(struct writer *writer, struct inode *inode);
/* The filling run, queued, if it is small and no worker needs to see it: for writer_code_here. */
struct run *writer_take_small(struct writer *writer, struct inode *inode);
/* Drops unpushed bytes at or beyond size if that is possible now. */
void writer_cut_filling(struct writer *writer, struct inode *inode, uint64_t size);
void writer_run_free(struct writer *writer, struct run *run); /* no lock */
/* Gives the pool's buffers back while nothing is dirty.  No lock. */
void writer_trim_pool(struct writer *writer);
/* Tells those writes that waited for memory, if there is room now.  No lock. */
void writer_unpark(struct writer *writer);

/* ---- writer_codec.c ---- */

void *writer_codec_thread(void *writer);
/* Takes a run from writer_take_small to its end. */
void writer_code_here(struct writer *writer, struct chunk_worker *worker, struct run *run);

/* ---- writer_commit.c; no lock ---- */

/* The caller has a reference on the inode.  worker: of this thread. */
void writer_commit_ready(struct writer *writer, struct chunk_worker *worker, struct inode *inode);
/* worker: of this thread, which may wait; or NULL. */
void writer_push_start(struct writer *writer, struct inode *inode, bool is_sync,
		       struct chunk_worker *worker, struct waiter *waiter);
/* Up to max dirty inodes, each with a reference; those that come first are last the next time. */
unsigned writer_take_dirty(struct writer *writer, struct inode **inodes, unsigned max);

#endif
