/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_CLONE_PRIVATE_H
#define SHARDFS_STORE_CLONE_PRIVATE_H

/*
 * clone.c (one clone from its checks to its name), clone_tree.c (the walk), clone_entry.c (one
 * inode), clone_sweep.c (what is unfinished, and how it goes).
 */

#include "store/clone.h"
#include "store/names.h"
#include "store/store_private.h"

#define CLONE_TRIES_MAX 1000u /* of a file that changes all the time */

/* A file with several names: what it became. */
struct clone_link {
	struct map_node node;
	uint64_t src, dst;
	uint32_t names_left; /* not met yet */
};

struct clone {
	struct store *store;
	struct index_reader *reader;
	const struct clone_watch *watch;
	struct clone_report *report;
	struct buf *why;
	struct map links; /* of struct clone_link, by src */
	struct buf path;  /* below the source, for messages */
	int late_error;	  /* of making the finished clone durable */
	bool has_other_policy; /* something is of another policy than it was */
};

/* A directory being filled: nobody else is to touch it. */
struct clone_dir {
	struct inode *inode;
	uint64_t seq; /* its last_seq, as we left it */
};

bool clone_is_cancelled(const struct clone *clone);
/* Waits until the backlog has room; -EROFS: this machine may not write any more. */
int clone_admit(struct clone *clone);

/* ---- clone_entry.c ---- */

/* A regular file that may be read now: nothing of it is unpushed.  -EBUSY, errors of a push. */
int clone_settle(struct clone *clone, struct inode *src);
/* What `src` has becomes that of dst, which is new: attributes and, of a file, extents. */
int clone_dress(struct clone *clone, struct inode *src, struct inode *dst);
/* A new entry of dir.  *child: of a directory, with a reference; else NULL. */
int clone_put_entry(struct clone *clone, struct clone_dir *dir, const struct dirent_row *entry,
		    struct inode **child);

/* ---- clone_tree.c ---- */

/* Everything below src into dst, which is empty. */
int clone_fill(struct clone *clone, uint64_t src, struct inode *dst);

/* ---- clone_sweep.c ---- */

/* The setting that lists what is unfinished: changes in a record that is submitted here. */
int clone_enlist(struct store *store, uint64_t parent, uint64_t number);
int clone_strike(struct store *store, uint64_t number);
/* CLONE_PREFIX and the number. */
struct bytes clone_temporary_name(uint64_t number, char room[48]);
/* Removes a tree, deepest first.  -ENOENT: it is not there; -ECANCELED; errors of names_remove. */
int clone_remove_tree(struct store *store, struct index_reader *reader, struct inode *parent,
		      struct bytes name, const struct clone_watch *watch);

#endif
