/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SNAPSHOT_DIFF_H
#define SHARDFS_STORE_SNAPSHOT_DIFF_H

/*
 * What changed in a tree between a snapshot and a later one, or now.
 *
 * Costs what changed, and the entries of the directories in which something did and of those above
 * them; unchanged trees are not entered.
 */

#include "store/snapshot.h"

enum diff_change {
	DIFF_ADDED,
	DIFF_REMOVED,
	DIFF_MODIFIED,	/* its bytes: size or mtime; or it is another file */
	DIFF_ATTRIBUTES, /* mode, owner, times, extended attributes, links */
	DIFF_RENAMED,	/* it has another name; what is below a directory goes with it */
};

struct diff_entry {
	enum diff_change change;
	bool is_dir;
	const char *path; /* from the directory that is compared, without a slash before it */
	const char *from; /* DIFF_RENAMED: what it was */
};

struct diff_settings {
	const struct snapshot_row *from;
	const struct snapshot_row *to; /* made later; NULL: now */
	uint64_t dir;		       /* compared, a number of no snapshot; 0: the root of `from` */
	/* In the order of a walk.  0: go on; 1: enough; negative: passed up. */
	int (*visit)(void *ctx, const struct diff_entry *entry);
	void *ctx;
};

/*
 * snapshot_diff - 0, or what visit returned; -ENOTDIR: dir is none, on either side; -E2BIG: more
 * than CHANGED_MAX inodes changed; -ESTALE: a snapshot was deleted meanwhile; as the index says.
 * A file with several names is told as modified under one of them at least.  What was removed from a
 * directory that moved is told under the path that the directory has now.
 */
int snapshot_diff(struct store *store, struct index_reader *reader,
		  const struct diff_settings *settings);

const char *diff_change_name(enum diff_change change);

#endif
