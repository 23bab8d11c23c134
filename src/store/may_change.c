/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table, and the clock only for what has a lock: nearly no inode has, and
 * then the answer is one look at a word.
 *
 * A locked directory takes new entries, since a backup that goes on is no
 * attack; whatever else changes it or its entries is refused.
 */
#include "store/may_change.h"

#include <assert.h>
#include <errno.h>

#define ANY (INODE_IMMUTABLE | INODE_APPEND | INODE_LOCKED)

static const uint32_t forbidden_by[INODE_CHANGE_COUNT] = {
	[INODE_WRITES] = ANY,
	[INODE_APPENDS] = INODE_IMMUTABLE | INODE_LOCKED,
	[INODE_TRUNCATES] = ANY,
	[INODE_SETS_ATTR] = ANY,
	[INODE_TOLD_TIMES] = INODE_IMMUTABLE | INODE_LOCKED,
	[INODE_SETS_XATTR] = ANY,
	[INODE_SETS_FLAGS] = INODE_LOCKED,
	[INODE_SETS_LOCK] = 0,
	[INODE_GAINS_NAME] = ANY,
	[INODE_LOSES_NAME] = ANY,
	[DIR_GAINS_ENTRY] = INODE_IMMUTABLE,
	[DIR_LOSES_ENTRY] = ANY,
};

uint32_t inode_change_forbidden_by(enum inode_change change)
{
	assert(change < INODE_CHANGE_COUNT);
	return forbidden_by[change];
}

int inode_may_change(struct store *store, const struct inode *inode, enum inode_change change)
{
	uint32_t against;

	if (ino_snapshot_no(inode->row.ino) != 0)
		return -EROFS;
	against = inode->row.flags & inode_change_forbidden_by(change);
	if (against == 0)
		return 0;
	if (against != INODE_LOCKED)
		return -EPERM;
	return store_now_sec(store) < inode->lock_until_sec ? -EPERM : 0;
}
