/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_FS_HANDLE_H
#define SHARDFS_FS_HANDLE_H

/* An open file: what the kernel's fh points at.  Directories have none: readdir keeps no state. */

#include "fs/session.h"
#include "store/inode.h"
#include "store/reader.h"
#include "util/list.h"

struct handle {
	struct list link; /* session's list, split by address */
	struct inode *inode; /* referenced */
	bool is_writer;
	bool is_direct; /* its writes pass the page cache by: the kernel keeps no times of them */
	struct lock lock; /* LOCK_LEAF: guards stream */
	struct reader_stream stream;
};

/* Counts the opening in the inode.  -ENOMEM. */
int handle_new(struct session *session, struct inode *inode, int flags, struct handle **out);
void handle_free(struct session *session, struct handle *handle);
/* Read-ahead learns of a read. */
void handle_note_read(struct session *session, struct handle *handle, uint64_t off, size_t len);
/*
 * The inodes of all files that are open for writing, each once for a handle, with a reference for the
 * caller; *out is his (mem_free).  -ENOMEM.
 */
int handle_list_written(struct session *session, struct inode ***out, size_t *count);
/* At the end of a session whose files were not closed. */
void handle_free_all(struct session *session);

#endif
