/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_RECLAIM_H
#define SHARDFS_STORE_RECLAIM_H

/*
 * Gives back what inodes without names hold, and what deleted snapshots saw, in bounded batches, so that
 * unlink and rename-over are O(1) however large the file.  One thread with a
 * reader of its own.  The orphan table is the queue: what is told here only
 * wakes the thread up, so nothing is lost by a crash, and nothing grows.
 */

#include "store/inode.h"

struct reclaim;

int reclaim_start(struct index *index, struct sequencer *sequencer, struct inode_table *inodes,
		  struct reclaim **out);
void reclaim_stop(struct reclaim *reclaim); /* accepts NULL */

/* Returns when what was an orphan before the call, and held by nobody, has been given back (or a
 * failure was logged). */
void reclaim_settle(struct reclaim *reclaim);

/* An orphan is held by nobody any more.  Any thread. */
void reclaim_wake(struct reclaim *reclaim);

#endif
