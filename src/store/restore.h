/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_RESTORE_H
#define SHARDFS_STORE_RESTORE_H

/*
 * A whole tree from an open store straight into a plain directory: names, bytes, owners, modes,
 * times, extended attributes, ACLs, hard links, symbolic links, devices, holes, and the flags of
 * chattr where the file system beneath has them.  For shardfs-recover: one thread, waits for
 * everything.
 *
 * What has its name in the directory is whole: a file is made under `work`, which lies in the
 * directory too, gets its bytes (authenticated), its attributes, is synced, and only then its name.
 * So a restore that was interrupted goes on when it is begun again: what is there with the right
 * type, size and time of modification is taken for whole and left alone.  Directories get their
 * attributes at the end.
 */

#include "store/store.h"

struct restore_settings {
	const char *dir;  /* where to; it exists */
	const char *work; /* a directory in dir, by its name there; the caller's, exists */
	/* As in recovery_settings.  May be NULL. */
	void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
	void (*note)(void *ctx, const char *text);
	void *ctx;
	/*
	 * An index of another state of the same file system: what is the same there, by name and
	 * inode, is left out.  NULL: everything.
	 */
	struct index *other;
	struct index_reader *other_reader;
};

struct restore_result {
	uint64_t files, directories, others; /* in the directory now; others: links, devices, ... */
	uint64_t bytes;                      /* of files, as they were written now */
	uint64_t kept;                       /* of files and others: whole from an earlier run */
	uint64_t same;                       /* left out for they are the same in `other` */
	uint64_t failed; /* not had whole, or not to be made: each was named, and is not there */
	uint64_t incomplete; /* there, but some attribute could not be set: named */
	struct inode_row root;
};

/*
 * restore_tree - 0, also with what failed in result.  -ENOSPC, -EDQUOT, -EROFS: of the directory;
 * -ENOMEM; of the index; `why` is one line.  After any of these it may be begun again.
 */
int restore_tree(struct store *store, const struct restore_settings *settings,
		 struct restore_result *result, struct buf *why);
/* The times of the directory itself, once nothing in it changes any more. */
int restore_root_times(const char *dir, const struct inode_row *root);

#endif
