/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes and extended attributes.
 *
 * Flags in the row say in memory whether an inode has extended attributes at
 * all, an access ACL, a default ACL, a capability; so what nearly every file
 * lacks is answered without a look-up.  An access ACL and the permission bits
 * are two views of one thing: whoever changes one changes the other in the
 * same record.
 */
#include "store/acl.h"
#include "store/may_change.h"
#include "store/names.h"
#include "store/vxattr.h"

#include <errno.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define ROUNDS_MAX    10000
#define ROUND_AGAIN   1
#define CAPABILITY    "security.capability"
#define FLAGS_VISIBLE (INODE_IMMUTABLE | INODE_APPEND | INODE_NODUMP | INODE_NOATIME)

static bool name_is(struct bytes name, const char *other)
{
	return name.len == strlen(other) && memcmp(name.ptr, other, name.len) == 0;
}

static bool name_starts(struct bytes name, const char *prefix)
{
	size_t len = strlen(prefix);

	return name.len > len && memcmp(name.ptr, prefix, len) == 0;
}

/* The flag that says whether this attribute is there at all; INODE_XATTR: one of many. */
static uint32_t flag_of(struct bytes name)
{
	if (name_is(name, ACL_ACCESS_NAME))
		return INODE_ACL;
	if (name_is(name, ACL_DEFAULT_NAME))
		return INODE_ACL_DEFAULT;
	if (name_is(name, CAPABILITY))
		return INODE_CAPABILITY;
	return INODE_XATTR;
}

static int check_xattr_name(struct bytes name)
{
	if (name.len > NAME_LEN_MAX)
		return -ERANGE;
	if (name_is(name, ACL_ACCESS_NAME) || name_is(name, ACL_DEFAULT_NAME))
		return 0;
	if (name_starts(name, "user.") || name_starts(name, "trusted.") ||
	    name_starts(name, "security."))
		return 0;
	return -EOPNOTSUPP;
}

/* Takes the record. */
static int submit_row(struct store *store, struct record *record, struct inode *inode,
		      const struct inode_row *row)
{
	uint64_t seq;
	int r = sequencer_submit(store->sequencer, record, &seq);

	if (r < 0)
		return r;
	inode_set_row(inode, row);
	inode->last_seq = seq;
	return 0;
}

/* ---- attributes ---- */

static void kill_priv_bits(struct inode_row *row)
{
	if (S_ISDIR(row->mode))
		return;
	row->mode &= ~(uint32_t)S_ISUID;
	if (row->mode & S_IXGRP)
		row->mode &= ~(uint32_t)S_ISGID;
}

void names_apply_attr(struct inode_row *row, const struct names_attr *attr)
{
	if (attr->valid & NAMES_UID)
		row->uid = attr->uid;
	if (attr->valid & NAMES_GID)
		row->gid = attr->gid;
	if (attr->is_priv_killed)
		kill_priv_bits(row);
	if (attr->valid & NAMES_MODE)
		row->mode = (row->mode & S_IFMT) | (attr->mode & 07777);
	if (attr->valid & NAMES_ATIME)
		row->atime = attr->atime;
	if (attr->valid & NAMES_MTIME)
		row->mtime = attr->mtime;
	row->ctime = attr->valid & NAMES_CTIME ? attr->ctime : clock_wall();
}

/*
 * Times of a file without a name, which the kernel tells after each unlink: they end with the
 * memory of it, or enter the journal with the name that it is given.
 */
static bool is_only_times(const struct inode_row *row, const struct names_attr *attr)
{
	return row->nlink == 0 && !attr->is_priv_killed &&
	       !(attr->valid & (NAMES_MODE | NAMES_UID | NAMES_GID));
}

static bool is_same_time(struct wall_time a, struct wall_time b)
{
	return a.sec == b.sec && a.nsec == b.nsec;
}

/*
 * The kernel tells when a file was written to only when it is closed, which may be after it was
 * locked or made immutable.  A time from before that, which moved ctime, belongs to what is
 * protected; a later one is of bytes that were refused.  Neither is an error of whoever closes it.
 * Without a handle it tells a ctime that it moved itself, with the mtime that we know; another
 * mtime is somebody's utimes(2).
 */
static int tell_late(struct store *store, struct inode *inode, const struct names_attr *attr)
{
	AUTO_PTR(record) record = NULL;
	struct inode_row row = inode->row;

	if (!(attr->valid & NAMES_MTIME) || is_same_time(attr->mtime, row.mtime))
		return 0;
	if (!attr->is_kernels)
		return -EPERM;
	if (attr->mtime.sec > row.ctime.sec ||
	    (attr->mtime.sec == row.ctime.sec && attr->mtime.nsec > row.ctime.nsec))
		return 0;
	record = record_new();
	if (!record)
		return -ENOMEM;
	row.mtime = attr->mtime;
	record_put_inode(record, &row);
	return submit_row(store, STEAL(record), inode, &row);
}

/* `acl` is the access ACL as of `seq`. */
static int set_attr_locked(struct store *store, struct inode *inode, const struct names_attr *attr,
			   uint64_t seq, struct buf *acl)
{
	struct inode_row row = inode->row;
	AUTO_PTR(record) record = NULL;
	bool is_told = !(attr->valid & ~(NAMES_MTIME | NAMES_CTIME));
	int r = inode_may_change(store, inode, is_told ? INODE_TOLD_TIMES : INODE_SETS_ATTR);

	if (r < 0 && is_told)
		return tell_late(store, inode, attr);
	if (r < 0)
		return r;
	if ((row.flags & INODE_ACL) && (attr->valid & NAMES_MODE) && inode->last_seq != seq)
		return ROUND_AGAIN;
	names_apply_attr(&row, attr);
	if (is_only_times(&row, attr)) {
		inode->row = row;
		return 0;
	}
	record = record_new();
	if (!record)
		return -ENOMEM;
	if (attr->is_priv_killed && (row.flags & INODE_CAPABILITY) && !S_ISDIR(row.mode)) {
		record_del_xattr(record, row.ino, bytes_of_str(CAPABILITY));
		row.flags &= ~INODE_CAPABILITY;
	}
	if ((row.flags & INODE_ACL) && (attr->valid & NAMES_MODE)) {
		if (acl_check(buf_bytes(acl)) < 0)
			return -EUCLEAN;
		acl_chmod(acl->ptr, acl->len, row.mode);
		record_put_xattr(record, row.ino, bytes_of_str(ACL_ACCESS_NAME), buf_bytes(acl));
	}
	record_put_inode(record, &row);
	return submit_row(store, STEAL(record), inode, &row);
}

int names_set_attr(struct store *store, struct index_reader *reader, struct inode *inode,
		   const struct names_attr *attr)
{
	AUTO(buf) acl = BUF_INIT;

	for (unsigned round = 0; round < ROUNDS_MAX; round++) {
		uint64_t seq;
		uint32_t flags;
		int r = 0;

		lock_take(&inode->lock);
		seq = inode->last_seq;
		flags = inode->row.flags;
		lock_drop(&inode->lock);
		buf_clear(&acl);
		if ((flags & INODE_ACL) && (attr->valid & NAMES_MODE))
			r = index_get_xattr(store->index, reader, inode->row.ino,
					    bytes_of_str(ACL_ACCESS_NAME), &acl);
		if (r < 0 && r != -ENODATA)
			return r;
		lock_take(&inode->lock);
		r = set_attr_locked(store, inode, attr, seq, &acl);
		lock_drop(&inode->lock);
		if (r != ROUND_AGAIN)
			return r;
	}
	return -EIO;
}

int names_kill_priv(struct store *store, struct inode *inode, bool is_suid_too, bool *changed)
{
	AUTO_PTR(record) record = NULL;
	struct inode_row row;
	uint32_t mode;

	LOCK_SCOPE(&inode->lock);
	row = inode->row;
	mode = row.mode;
	if (is_suid_too)
		kill_priv_bits(&row);
	if (row.mode == mode && !(row.flags & INODE_CAPABILITY))
		return 0;
	record = record_new();
	if (!record)
		return -ENOMEM;
	if (row.flags & INODE_CAPABILITY) {
		record_del_xattr(record, row.ino, bytes_of_str(CAPABILITY));
		row.flags &= ~INODE_CAPABILITY;
	}
	row.ctime = clock_wall();
	record_put_inode(record, &row);
	if (changed)
		*changed = row.mode != mode;
	return submit_row(store, STEAL(record), inode, &row);
}

int names_set_flags(struct store *store, struct inode *inode, uint32_t flags)
{
	AUTO_PTR(record) record = NULL;
	struct inode_row row;
	int r;

	LOCK_SCOPE(&inode->lock);
	row = inode->row;
	row.flags = (row.flags & ~FLAGS_VISIBLE) | (flags & FLAGS_VISIBLE);
	if (row.flags == inode->row.flags)
		return 0;
	r = inode_may_change(store, inode, INODE_SETS_FLAGS);
	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	row.ctime = clock_wall();
	record_put_inode(record, &row);
	return submit_row(store, STEAL(record), inode, &row);
}

int names_check_write(struct store *store, struct inode *inode, uint64_t off)
{
	LOCK_SCOPE(&inode->lock);
	return inode_may_change(store, inode, off < inode->size ? INODE_WRITES : INODE_APPENDS);
}

int names_check_truncate(struct store *store, struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return inode_may_change(store, inode, INODE_TRUNCATES);
}

int names_read_link(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct buf *out)
{
	if (!S_ISLNK(inode->row.mode))
		return -EINVAL;
	return index_get_symlink(store->index, reader, inode->row.ino, out);
}

static struct timespec timespec_of(struct wall_time t)
{
	return (struct timespec){.tv_sec = (time_t)t.sec, .tv_nsec = (long)t.nsec};
}

void names_stat(struct inode *inode, struct stat *out)
{
	LOCK_SCOPE(&inode->lock);
	*out = (struct stat){
		.st_ino = inode->row.ino,
		.st_mode = inode->row.mode,
		.st_nlink = inode->row.nlink,
		.st_uid = inode->row.uid,
		.st_gid = inode->row.gid,
		.st_rdev = (dev_t)inode->row.rdev,
		.st_size = (off_t)inode->size,
		.st_blksize = 4096,
		.st_atim = timespec_of(inode->row.atime),
		.st_mtim = timespec_of(inode->row.mtime),
		.st_ctim = timespec_of(inode->row.ctime),
	};
}

/* ---- extended attributes ---- */

static uint32_t flags_of(struct inode *inode, uint64_t *seq)
{
	LOCK_SCOPE(&inode->lock);
	*seq = inode->last_seq;
	return inode->row.flags;
}

int names_get_xattr(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct bytes name, struct buf *out)
{
	uint64_t seq;
	int r = check_xattr_name(name);

	if (r < 0)
		return r;
	if (!(flags_of(inode, &seq) & flag_of(name)))
		return -ENODATA;
	return index_get_xattr(store->index, reader, inode->row.ino, name, out);
}

/* Of the file system's own (names_lock.c): the front door answers for those names. */
static bool is_reserved(struct bytes name)
{
	return name_starts(name, VXATTR_PREFIX);
}

int names_list_xattrs(struct store *store, struct index_reader *reader, struct inode *inode,
		      bool is_root, struct buf *out)
{
	AUTO(buf) all = BUF_INIT;
	uint64_t seq;
	int r;

	if (!(flags_of(inode, &seq) & INODE_XATTR))
		return 0;
	r = index_list_xattrs(store->index, reader, inode->row.ino, &all);
	for (size_t at = 0; r == 0 && at < all.len;) {
		struct bytes name = bytes_of(all.ptr + at, strnlen((char *)all.ptr + at,
								   all.len - at));

		if (!is_reserved(name) && (is_root || !name_starts(name, "trusted.")))
			r = buf_append(out, bytes_of(name.ptr, name.len + 1));
		at += name.len + 1;
	}
	return r;
}

/* Whether the attribute is there; 1, 0, or an error. */
static int has_xattr(struct store *store, struct index_reader *reader, struct inode *inode,
		     uint32_t flags, struct bytes name)
{
	AUTO(buf) value = BUF_INIT;
	int r;

	if (!(flags & flag_of(name)))
		return 0;
	if (flag_of(name) != INODE_XATTR)
		return 1;
	r = index_get_xattr(store->index, reader, inode->row.ino, name, &value);
	return r == -ENODATA ? 0 : r < 0 ? r : 1;
}

/* An access ACL: the mode follows; *is_kept false when the mode says it all. */
static int apply_access_acl(struct inode_row *row, struct bytes value, bool is_sgid_killed,
			    bool *is_kept)
{
	if (S_ISLNK(row->mode))
		return -EOPNOTSUPP;
	if (acl_check(value) < 0)
		return -EINVAL;
	row->mode = acl_to_mode(value, row->mode);
	if (is_sgid_killed)
		row->mode &= ~(uint32_t)S_ISGID;
	*is_kept = !acl_is_minimal(value);
	return 0;
}

static int put_xattr_locked(struct store *store, struct inode *inode, struct bytes name,
			    struct bytes value, bool is_sgid_killed)
{
	AUTO_PTR(record) record = NULL;
	struct inode_row row = inode->row;
	uint32_t flag = flag_of(name);
	bool is_kept = true;
	int r = inode_may_change(store, inode, INODE_SETS_XATTR);

	if (r < 0)
		return r;
	if (flag == INODE_ACL_DEFAULT) {
		if (!S_ISDIR(row.mode))
			return -EACCES;
		if (acl_check(value) < 0)
			return -EINVAL;
	}
	if (flag == INODE_ACL) {
		r = apply_access_acl(&row, value, is_sgid_killed, &is_kept);
		if (r < 0)
			return r;
	}
	record = record_new();
	if (!record)
		return -ENOMEM;
	if (is_kept) {
		record_put_xattr(record, row.ino, name, value);
		row.flags |= INODE_XATTR | flag;
	} else if (row.flags & flag) {
		record_del_xattr(record, row.ino, name);
		row.flags &= ~flag;
	}
	row.ctime = clock_wall();
	record_put_inode(record, &row);
	return submit_row(store, STEAL(record), inode, &row);
}

int names_set_xattr(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct bytes name, struct bytes value, int flags, bool is_sgid_killed)
{
	int r = check_xattr_name(name);

	if (r < 0)
		return r;
	if (value.len > XATTR_LEN_MAX)
		return -E2BIG;
	if (!(flags & (XATTR_CREATE | XATTR_REPLACE))) {
		LOCK_SCOPE(&inode->lock);
		return put_xattr_locked(store, inode, name, value, is_sgid_killed);
	}
	for (unsigned round = 0; round < ROUNDS_MAX; round++) {
		uint64_t seq;

		r = has_xattr(store, reader, inode, flags_of(inode, &seq), name);
		if (r < 0)
			return r;
		if (r == 1 && (flags & XATTR_CREATE))
			return -EEXIST;
		if (r == 0 && (flags & XATTR_REPLACE))
			return -ENODATA;
		LOCK_SCOPE(&inode->lock);
		if (inode->last_seq == seq)
			return put_xattr_locked(store, inode, name, value, is_sgid_killed);
	}
	return -EIO;
}

static int del_xattr_locked(struct store *store, struct inode *inode, struct bytes name)
{
	AUTO_PTR(record) record = NULL;
	struct inode_row row = inode->row;
	uint32_t flag = flag_of(name);
	int r = inode_may_change(store, inode, INODE_SETS_XATTR);

	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	record_del_xattr(record, row.ino, name);
	if (flag != INODE_XATTR)
		row.flags &= ~flag;
	row.ctime = clock_wall();
	record_put_inode(record, &row);
	return submit_row(store, STEAL(record), inode, &row);
}

int names_remove_xattr(struct store *store, struct index_reader *reader, struct inode *inode,
		       struct bytes name)
{
	int r = check_xattr_name(name);

	if (r < 0)
		return r;
	for (unsigned round = 0; round < ROUNDS_MAX; round++) {
		uint64_t seq;

		r = has_xattr(store, reader, inode, flags_of(inode, &seq), name);
		if (r < 0)
			return r;
		/* Taking an ACL away that is not there is no error: the mode is the ACL. */
		if (r == 0)
			return flag_of(name) & (INODE_ACL | INODE_ACL_DEFAULT) ? 0 : -ENODATA;
		LOCK_SCOPE(&inode->lock);
		if (inode->last_seq == seq)
			return del_xattr_locked(store, inode, name);
	}
	return -EIO;
}
