/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_RESTORE_PRIVATE_H
#define SHARDFS_STORE_RESTORE_PRIVATE_H

/* What restore.c, restore_file.c and restore_attr.c share. */

#include "store/restore.h"

#include <sys/stat.h>

#define RESTORE_PENDING_MAX       256u
#define RESTORE_PENDING_BYTES_MAX (256 * MIB)

/* Made, not yet named. */
struct restore_pending {
	int dir_fd;
	char name[NAME_LEN_MAX + 1];
	char *path;
	char temporary[24]; /* under work/new */
	uint64_t ino;       /* has more names: it is kept as work/links/INO; 0: has not */
};

struct restore {
	struct store *store;
	struct index_reader *reader;
	const struct restore_settings *set;
	struct restore_result *result;
	int root_fd, new_fd, links_fd;
	struct restore_pending pending[RESTORE_PENDING_MAX];
	unsigned pending_count;
	uint64_t pending_bytes;
	uint64_t next_new;
	uint64_t done_bytes, total_bytes;
	struct buf piece;
	uint64_t notes;
	bool is_source_bad; /* the last failure was one of reading */
	bool has_flags;     /* of chattr, to be set at the very end */
};

/* One entry of a directory that is no directory. */
struct restore_entry {
	int dir_fd;
	const char *name, *path; /* path: for people */
	const struct inode_row *row;
};

/* restore.c */
/* The file is not there, and why; negative: nothing else can be made either. */
int restore_failed(struct restore *restore, const char *path, const char *what, int error);
void restore_incomplete(struct restore *restore, const char *path, const char *what, int error);

/* restore_file.c */
int restore_entry(struct restore *restore, const struct restore_entry *entry);
/* What is pending lasts, and gets its names. */
int restore_flush(struct restore *restore);

/* restore_attr.c: name in dir_fd (which is a directory's own descriptor with ""); failures are told
 * and counted. */
void restore_attributes(struct restore *restore, int dir_fd, const char *name, const char *path,
			const struct inode_row *row);
int restore_times(int dir_fd, const char *name, const struct inode_row *row);
/* The flags of chattr; 0: none of them, so that it can be changed. */
int restore_flags(int dir_fd, const char *name, uint32_t flags);

#endif
