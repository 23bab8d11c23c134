/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_CLONE_H
#define SHARDFS_STORE_CLONE_H

/*
 * Writable copies of files and trees that share all chunks: no bytes move.
 *
 * A clone has owners, modes, times, attributes, ACLs, symlinks, hard links among its own files,
 * holes and policies of its source, but not chattr +i and +a, nor locks.  Each file is as it was at
 * one moment; a tree that changes meanwhile is not seen at one moment: clone a snapshot of it then.
 *
 * A tree is built under a name of its own beside its place (CLONE_PREFIX) and renamed when it is
 * whole.  A clone that fails or is cancelled takes away what it made; what a dead process left is
 * taken away by store_clone_sweep at the next mount.
 */

#include "store/store.h"

#define CLONE_PREFIX	".shardfs-clone-"
#define CLONE_LINKS_MAX (1u << 20) /* files with further names that were not met yet */
#define CLONE_COUNT_MAX 16u	   /* under way at once */

struct clone_report {
	uint64_t files, directories, others, links; /* links: further names of files */
	uint64_t bytes;
};

/* Each member may be NULL; called without locks. */
struct clone_watch {
	bool (*is_cancelled)(void *ctx);
	void (*progress)(void *ctx, const struct clone_report *report);
	/* Has the kernel write back what it holds of a file that is open for writing. */
	void (*write_back)(void *ctx, uint64_t ino);
	/* What the kernel knows of that name, and of the directory, is old. */
	void (*entry_changed)(void *ctx, uint64_t dir, struct bytes name);
	void *ctx;
};

/*
 * store_clone - src (a regular file or directory) as `name` in the directory `parent`.
 *
 * 0, also when a step behind the last one failed that only delays the policy; -EEXIST; -EINVAL (src
 * is neither, is the place itself or above it, or the name is none); -EPERM (a lock, +i or +a
 * forbids it there); -ECANCELED; -EMLINK (over CLONE_LINKS_MAX); -EBUSY (over CLONE_COUNT_MAX); -ESTALE
 * (somebody changed the unfinished clone, or a snapshot ended); the errors of names.h.  `why` has a
 * line then, which names what it was about.
 */
int store_clone(struct store *store, struct index_reader *reader, struct inode *src,
		struct inode *parent, struct bytes name, const struct clone_watch *watch,
		struct clone_report *report, struct buf *why);
/* Takes away what clones of earlier mounts have left, as listed at this one; once. */
int store_clone_sweep(struct store *store, struct index_reader *reader,
		      const struct clone_watch *watch);

#endif
