/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_LOCK_H
#define SHARDFS_UTIL_LOCK_H

/*
 * Ranked mutexes.  A thread may take a lock only while every lock that it
 * holds has a lower rank; equal ranks only through lock_take_pair and lock_take_set.  Debug
 * builds (!NDEBUG) assert this.  A lock is never held across a provider
 * request, an index transaction, an fsync or a FUSE reply.
 */

#include <pthread.h>
#include <stdint.h>

enum lock_rank {
	LOCK_STORE,       /* life cycle of the store: start, stop, configuration */
	LOCK_CTL,         /* jobs of the control channel */
	LOCK_INODE_TABLE, /* split by hash */
	LOCK_INODE,       /* one inode; two only through lock_take_pair */
	LOCK_WRITER,      /* dirty buffers: accounting over all inodes */
	LOCK_AUDIT,       /* order of audit entries */
	LOCK_SEQUENCER,   /* order of records */
	LOCK_DEDUP,
	LOCK_SPOOL,       /* the list of shards on local disk */
	LOCK_SHARD,       /* one open shard */
	LOCK_OVERLAY,     /* split by hash */
	LOCK_TRANSFER,
	LOCK_KEEPER,
	LOCK_CACHE,
	LOCK_BACKEND,
	LOCK_QUEUE,
	LOCK_LEAF, /* nothing but the log is taken under it: counters, tickets */
	LOCK_LOG,
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
};

#define LOCK_INIT(r) {.mutex = PTHREAD_MUTEX_INITIALIZER, .rank = (r)}

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_release(struct lock *lock); /* destroys; nobody may hold it */
void lock_take(struct lock *lock);
void lock_drop(struct lock *lock);
/* Two locks of one rank, in the order of their addresses; a and b may be the same lock. */
void lock_take_pair(struct lock *a, struct lock *b);
void lock_drop_pair(struct lock *a, struct lock *b);
/*
 * Several locks of one rank, in the order of their addresses.  Sorts `locks`, drops NULLs and
 * repeats from it, takes what is left and returns their number, for lock_drop_set.
 */
unsigned lock_take_set(struct lock **locks, unsigned count);
void lock_drop_set(struct lock *const *locks, unsigned count);

/*
 * Condition on a lock, which the caller holds.  Waits may end without a wake:
 * test the condition in a loop.  cond_wait_ms returns 0, or -ETIMEDOUT once
 * timeout_ms of clock_mono_ms() have passed.
 */
struct cond {
	pthread_cond_t cond;
};
void cond_init(struct cond *cond); /* monotonic clock */
void cond_release(struct cond *cond);
void cond_wait(struct cond *cond, struct lock *lock);
int cond_wait_ms(struct cond *cond, struct lock *lock, uint64_t timeout_ms);
void cond_wake_one(struct cond *cond);
void cond_wake_all(struct cond *cond);

static inline void lock_scope_end(struct lock **lock)
{
	lock_drop(*lock);
}
#define LOCK_CAT2(a, b) a##b
#define LOCK_CAT(a, b)  LOCK_CAT2(a, b)
/* Held until the end of the block. */
#define LOCK_SCOPE(l)                                                                              \
	__attribute__((cleanup(lock_scope_end), unused)) struct lock *LOCK_CAT(lock_scope_,        \
									       __LINE__) =         \
		({                                                                                 \
			lock_take(l);                                                              \
			(l);                                                                       \
		})

#endif
