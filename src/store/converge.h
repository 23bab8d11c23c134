/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_CONVERGE_H
#define SHARDFS_STORE_CONVERGE_H

/*
 * After a policy was set or removed, or something was renamed into another tree: what lies below
 * gets the policy that is in force from above, and its data the copies that this asks for.
 *
 * What is to do is a queue of inodes in the index (setting "converge"), written in the same record
 * as the change, so a crash loses nothing of it.  At most CONVERGE_ENTRIES_MAX; with more, one entry
 * stands for the whole file system.  One thread, with a reader of its own.
 */

#include "store/store.h"

#define CONVERGE_ENTRIES_MAX 256u

struct converge;

/* Goes on with what an earlier mount left.  -ENOMEM, -EAGAIN (no thread), errors of the index. */
int converge_start(struct store *store, struct converge **out);
/* Ends after the step at hand; before the writer and gc stop.  The queue stays usable until free. */
void converge_stop(struct converge *converge); /* accepts NULL */
void converge_free(struct converge *converge); /* accepts NULL */

/*
 * converge_begin - puts the queue with these inodes added into the record that changes their policy.
 * On success no other change of the queue comes in between before converge_end, which the caller
 * tells whether the record was submitted.  The policies in memory are those after the change by
 * then.  Inode locks may be held.  -ENOMEM: nothing happened, no end is to be called.  With converge
 * NULL (fsck) both do nothing.
 */
int converge_begin(struct converge *converge, struct record *record, const uint64_t *inos,
		   unsigned count);
void converge_end(struct converge *converge, bool is_submitted);

/* Something is to do.  Any thread, no lock; accepts NULL. */
bool converge_is_pending(struct converge *converge);
/*
 * converge_touches - whether something is still to do for the inode, or below or above it.  May say
 * yes for a directory without need when very much is to do.  Errors of the index.
 */
int converge_touches(struct converge *converge, struct index_reader *reader, uint64_t ino,
		     bool is_dir, bool *touches);

#endif
