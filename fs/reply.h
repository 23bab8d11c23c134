/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_FS_REPLY_H
#define SHARDFS_FS_REPLY_H

/*
 * One reply for each request; errno at the border.  A reply that names an
 * inode gives the kernel a lookup count, taken back when the kernel refuses
 * the reply (its caller was killed).  Each ends op->req; op_end follows.
 */

#include "fs/op.h"

struct handle;

void reply_err(struct op *op, int r); /* 0 or a negative errno */
/* The inode's reference passes to the kernel. */
void reply_entry(struct op *op, struct inode *inode, const struct stat *st);
void reply_entry_negative(struct op *op);
void reply_attr(struct op *op, const struct stat *st);
/*
 * Before attributes are given away: of a locked file that is open for writing the kernel is not to
 * hold them, so that it asks before each write(2) (ops_attr.c).  It drops attributes that come with
 * an answer to a question from before such an invalidation; a timeout of 0 would do too, but then
 * it would also ask before a read at the end of the file.
 */
void reply_forget_attr(struct session *session, struct inode *inode);
/* For how long the kernel may hold attributes. */
double reply_attr_timeout(struct inode *inode);
/* How long the kernel may keep a name that leads to the inode. */
double reply_entry_timeout(struct inode *inode);
/* op->handle passes to the kernel. */
void reply_open(struct op *op, bool is_direct);
/* Inode's reference and op->handle pass to the kernel. */
void reply_create(struct op *op, struct inode *inode, const struct stat *st, bool is_direct);
void reply_data(struct op *op, const void *ptr, size_t len);
void reply_written(struct op *op, size_t len);
void reply_xattr_size(struct op *op, size_t len);
void reply_link_target(struct op *op, const char *target);
void reply_seek(struct op *op, uint64_t off);
void reply_statfs(struct op *op, const struct statvfs *st);
void reply_ioctl(struct op *op, int result, const void *out, size_t len);
/* Directory entries: whether the kernel took them. */
bool reply_entries(struct op *op, const void *ptr, size_t len);

/* Lookup counts that the kernel holds. */
void lookup_give(struct inode *inode);				/* the caller's reference */
void lookup_take(struct session *session, struct inode *inode, uint64_t count);

#endif
