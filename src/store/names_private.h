/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_NAMES_PRIVATE_H
#define SHARDFS_STORE_NAMES_PRIVATE_H

/* What names.c (which has the rules) and names_rename.c share. */

#include "store/names.h"
#include "store/may_change.h"
#include "store/store_private.h"

#define RESOLVE_ROUNDS_MAX 10000
#define RESOLVE_AGAIN	   1 /* what was resolved does not hold any more */

/* A name in a directory, as it was when the directory's last_seq was `seq`. */
struct place {
	struct inode *dir; /* the caller's */
	struct bytes name;
	uint64_t seq;
	bool is_there;
	struct dirent_row row;
	struct inode *inode; /* referenced; NULL when not there or not wanted */
	uint64_t inode_seq;  /* of a directory that was found empty */
};

/* Drops the inode; the place can be resolved again. */
void names_place_release(struct store *store, struct place *place);
/* 0 whether or not the name is there; RESOLVE_AGAIN; -EAGAIN and engine errors. */
int names_place_resolve(struct store *store, struct index_reader *reader, struct place *place,
			bool wants_inode);
/* Whether what was resolved still is so; the directory is locked. */
bool names_place_holds(const struct place *place);
/* A directory that is to lose its name: 0 empty, -ENOTEMPTY. */
int names_place_check_empty(struct store *store, struct index_reader *reader, struct place *place);
/* What a directory must be for names to come into it, or to go; it is locked. */
int names_check_dir(struct store *store, const struct inode *dir, enum inode_change change);
/* Its entries changed. */
void names_touch_dir(struct inode_row *row, struct wall_time now);
/* Takes the record.  The inodes are locked; their rows and seq move together or not at all. */
int names_submit_rows(struct store *store, struct record *record, struct inode *const *inodes,
		      const struct inode_row *rows, unsigned count);
/* A name of the inode goes, with the last one all of it. */
void names_drop_name(struct record *record, struct inode_row *row, struct wall_time now);

#endif
