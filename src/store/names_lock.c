/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks until a date.
 *
 * The date is a reserved attribute of the inode, LOCK_XATTR_NAME, and
 * INODE_LOCKED in its row says that there is one; so it is replicated, replayed
 * and recovered like any other attribute.  Both change in one record, together
 * with the time that a lock is judged by (store_clock.c): whatever a later
 * mount believes about the time, it is not earlier than the last lock was set.
 *
 * What was written before comes before the lock in the journal, since an inode
 * with unpushed bytes is not locked; so no state of the file system, after
 * whatever crash, has the lock without the bytes that it protects.
 */
#include "store/may_change.h"
#include "store/names.h"
#include "store/store_private.h"

#include <errno.h>

/* Takes the record. */
static int submit(struct store *store, struct record *record, struct inode *inode,
		  struct inode_row *row, int64_t until_sec)
{
	uint64_t seq;
	int r;

	row->ctime = clock_wall();
	record_put_inode(record, row);
	r = sequencer_submit(store->sequencer, record, &seq);
	if (r < 0)
		return r;
	inode_set_row(inode, row);
	inode->lock_until_sec = until_sec;
	inode->last_seq = seq;
	return 0;
}

int names_lock(struct store *store, struct inode *inode, int64_t until_sec)
{
	AUTO_PTR(record) record = record_new();
	char text[CLOCK_RFC3339_SIZE];
	struct inode_row row;
	int64_t now;
	int r;

	if (!record)
		return -ENOMEM;
	now = store_now_sec(store);
	LOCK_SCOPE(&inode->lock);
	row = inode->row;
	r = inode_may_change(store, inode, INODE_SETS_LOCK);
	if (r < 0)
		return r;
	if (!S_ISREG(row.mode) && !S_ISDIR(row.mode))
		return -EOPNOTSUPP;
	if (row.flags & INODE_LOCKED && now < inode->lock_until_sec) {
		if (until_sec < inode->lock_until_sec)
			return -EPERM;
		if (until_sec == inode->lock_until_sec)
			return 0;
	}
	if (until_sec <= now)
		return -EINVAL;
	if (S_ISREG(row.mode) && !writer_is_clean(inode))
		return -EBUSY;
	clock_rfc3339((struct wall_time){.sec = until_sec}, text);
	record_put_xattr(record, row.ino, bytes_of_str(LOCK_XATTR_NAME), bytes_of_str(text));
	store_clock_put(store, record, now);
	row.flags |= INODE_LOCKED | INODE_XATTR;
	return submit(store, STEAL(record), inode, &row, until_sec);
}

int names_unlock(struct store *store, struct inode *inode)
{
	AUTO_PTR(record) record = record_new();
	struct inode_row row;
	int r;

	if (!record)
		return -ENOMEM;
	LOCK_SCOPE(&inode->lock);
	row = inode->row;
	r = inode_may_change(store, inode, INODE_SETS_LOCK);
	if (r < 0)
		return r;
	if (!(row.flags & INODE_LOCKED))
		return -ENODATA;
	if (store_now_sec(store) < inode->lock_until_sec)
		return -EPERM;
	record_del_xattr(record, row.ino, bytes_of_str(LOCK_XATTR_NAME));
	row.flags &= ~INODE_LOCKED;
	return submit(store, STEAL(record), inode, &row, 0);
}

int names_lock_until(struct inode *inode, int64_t *until_sec)
{
	LOCK_SCOPE(&inode->lock);
	if (!(inode->row.flags & INODE_LOCKED))
		return -ENODATA;
	*until_sec = inode->lock_until_sec;
	return 0;
}

bool names_is_locked(struct store *store, struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return inode->row.flags & INODE_LOCKED &&
	       inode_may_change(store, inode, INODE_SETS_FLAGS) < 0;
}
