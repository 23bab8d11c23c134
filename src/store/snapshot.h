/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SNAPSHOT_H
#define SHARDFS_STORE_SNAPSHOT_H

/*
 * Snapshots: trees as they were, read-only, under /.shardfs/snapshots/NAME.
 *
 * Making one is one record with one row, whatever the size of the tree; from then on the index
 * keeps what it sees (index/index.h).  Inodes in a snapshot are inodes like others, with numbers
 * of their own, and whatever reads files reads them; what would change them is -EROFS.
 *
 * Deleting one is a record that takes its name away: from then on nothing is read from it any more
 * (-ESTALE for who still holds an inode of it).  What only it saw goes in steps, in the background
 * and over remounts, and last its row.
 *
 * Two directories hold the snapshots that no table knows: /.shardfs, which the root does not list,
 * and /.shardfs/snapshots.
 */

#include "store/store.h"

#define SNAPSHOT_DIR_NAME ".shardfs"
#define SNAPSHOTS_MAX	  4096u

/*
 * store_snapshot_create - a snapshot of the directory as it is in the journal: what was pushed
 * shows, dirty buffers do not.  Durable when it returns, with all that it shows, and readable.
 * -EINVAL: no name for a file, or the directory is in a snapshot; -ENOTDIR; -ENOENT: it was removed;
 * -EEXIST; -ENOSPC: there are SNAPSHOTS_MAX, or no number is left; as sequencer_submit.  `why` names
 * object, cause and what to do.
 */
int store_snapshot_create(struct store *store, struct index_reader *reader, struct inode *dir,
			  const char *name, struct snapshot_row *out, struct buf *why);
/* Durable when it returns.  -ENOENT; -EROFS in fsck; as sequencer_submit. */
int store_snapshot_delete(struct store *store, struct index_reader *reader, const char *name,
			  struct buf *why);
/* Those with a name, in the order in which they were made. */
int store_snapshot_list(struct store *store, struct snapshot_list *out);

/* ---- for the namespace ---- */

/* Whether names in `dir` are looked up here: it is one of the two, or the root and name .shardfs. */
bool snapshot_has_name(uint64_t dir, struct bytes name);
int snapshot_find_name(struct store *store, uint64_t dir, struct bytes name,
		       struct dirent_row *out); /* -ENOENT */
/* Names in one of the two, as index_list_dirents. */
int snapshot_list_names(struct store *store, uint64_t dir, uint64_t after, size_t count_max,
			struct dirent_list *out);
/* ---- for store/reclaim ---- */

/*
 * snapshot_reclaim - takes what snapshots without a name saw, in bounded records, until nothing is
 * left or must_yield(ctx).  0, or the first failure; may be killed at any time.
 */
int snapshot_reclaim(struct index *index, struct index_reader *reader,
		     struct sequencer *sequencer, bool (*must_yield)(void *ctx), void *ctx);

#endif
