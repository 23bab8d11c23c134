/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_VXATTR_H
#define SHARDFS_STORE_VXATTR_H

/*
 * The virtual attributes user.shardfs.* that every file and directory has
 * (shardfs-xattr(7)).  Not listed, so that nothing copies them; computed when
 * asked for, from the index, so only with a reader and never on a request loop.
 */

#include "store/store.h"

#define VXATTR_PREFIX "user.shardfs."
#define VXATTR_LOCK   "lock-until" /* behind the prefix; the only one that is stored with the inode */

bool vxattr_is(struct bytes name);
/* The text, without a newline, appended.  -ENODATA: no such name; -EIO, -ENOMEM. */
int vxattr_get(struct store *store, struct index_reader *reader, struct inode *inode,
	       struct bytes name, struct buf *out);
/*
 * -EPERM: cannot be set; -EINVAL, -EDOM: refused, `why` has a line for the log; len 0 removes.
 * -EBUSY: a file with unpushed bytes is to be locked: push, call again.
 */
int vxattr_set(struct store *store, struct index_reader *reader, struct inode *inode,
	       struct bytes name, struct bytes value, struct buf *why);

#endif
