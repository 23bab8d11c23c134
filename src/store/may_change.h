/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_MAY_CHANGE_H
#define SHARDFS_STORE_MAY_CHANGE_H

/*
 * THE ONE PLACE that decides whether chattr +i, chattr +a or a lock until a
 * date forbids a change, or that the inode is in a snapshot.  The kernel does not enforce them here, so every
 * handler that changes something asks; root is asked no less.
 *
 * What the file system does on its own (reclaiming, repacking, rewriting of
 * extents, another policy) changes where bytes lie and not what they are, and
 * is nobody's to ask.
 */

#include "store/store.h"

enum inode_change {
	INODE_WRITES,	   /* bytes that are there, holes; opening to write them */
	INODE_APPENDS,	   /* bytes at the end or behind it, reserved space; opening for that alone */
	INODE_TRUNCATES,   /* the size, also as O_TRUNC */
	INODE_SETS_ATTR,   /* mode, owner, times */
	INODE_TOLD_TIMES,  /* mtime and ctime alone: the kernel tells those of what was written */
	INODE_SETS_XATTR,  /* and removes, ACLs too */
	INODE_SETS_FLAGS,  /* chattr */
	INODE_SETS_LOCK,   /* a lock until a date, which names_lock.c judges */
	INODE_GAINS_NAME,  /* link(2): its nlink and ctime change */
	INODE_LOSES_NAME,  /* unlinked, renamed, replaced, exchanged */
	DIR_GAINS_ENTRY,
	DIR_LOSES_ENTRY,   /* or gets another one under the same name */
	INODE_CHANGE_COUNT
};

/* inode_row.flags that forbid a change: BIT(INODE_IMMUTABLE) and so on; pure. */
uint32_t inode_change_forbidden_by(enum inode_change change);
/* 0, -EPERM, or -EROFS: it is in a snapshot; inode locked.  A lock whose date has passed forbids nothing. */
int inode_may_change(struct store *store, const struct inode *inode, enum inode_change change);

#endif
