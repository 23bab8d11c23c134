/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_NAMES_H
#define SHARDFS_STORE_NAMES_H

/*
 * The namespace: names, attributes, extended attributes.
 *
 * Each change is one record, built and submitted while the inodes that it
 * changes are locked, so the journal has operations in the order in which
 * their effects were seen.  Sizes and extents are the writer's: a record made
 * here carries the recorded size only.
 *
 * Every function takes an index_reader.  NULL: the answer comes from memory or
 * is -EAGAIN, and nothing has changed; the call never waits.  With a reader it
 * may wait for the disk, but never with an inode locked.
 *
 * Directories are given as inodes that the caller holds references to; names
 * are any bytes but '/' and NUL, 1 .. NAME_LEN_MAX.  Inodes given out carry a
 * reference.  Who may do what is the kernel's to check (default_permissions),
 * except for +i, +a and locks, which are enforced here (store/may_change.h).
 *
 * .shardfs in the root, and names in that, are those of snapshots (store/snapshot.h); what is in one
 * never changes.
 *
 * Errors common to all: -EROFS (in a snapshot); -EAGAIN (reader NULL only); -ENAMETOOLONG; -ENOTDIR;
 * -EPERM (+i, +a, locked); -ENOMEM, -ENOSPC, -EIO, -EROFS as sequencer_submit.  After
 * any failure nothing has changed.
 */

#include "store/store.h"

#include <sys/stat.h>

#define NAMES_LINKS_MAX 0x7fffffffu

/* -ENOENT. */
int names_lookup(struct store *store, struct index_reader *reader, struct inode *dir,
		 struct bytes name, struct inode **out);
/* As index_list_dirents; also of the directories that hold the snapshots. */
int names_list(struct store *store, struct index_reader *reader, struct inode *dir, uint64_t after,
	       size_t count_max, struct dirent_list *out);
/* By number, for handles that outlive the kernel's memory; -ESTALE: no such inode any more. */
int names_load(struct store *store, struct index_reader *reader, uint64_t ino,
	       struct inode **out);

struct names_new {
	uint32_t mode; /* type and permissions as asked for */
	uint32_t umask;
	uint32_t uid, gid; /* of the caller */
	uint64_t rdev;
	struct bytes target; /* symlinks: 1 .. LINK_LEN_MAX bytes */
};
/*
 * names_create - a new file of any type.  Applies the umask or the directory's default ACL,
 * setgid directories, and inherits the policy.  -EEXIST, -ENOENT (the directory was removed),
 * -EMLINK, -EINVAL.
 */
int names_create(struct store *store, struct index_reader *reader, struct inode *dir,
		 struct bytes name, const struct names_new *new_file, struct inode **out);
/* A file without a name, as O_TMPFILE: gone when nobody holds it, unless names_link comes first. */
int names_create_unnamed(struct store *store, struct index_reader *reader, struct inode *dir,
			 const struct names_new *new_file, struct inode **out);

/* -EEXIST, -EMLINK, -EPERM for directories; -EBUSY: `inode` has unpushed bytes: push, call again. */
int names_link(struct store *store, struct index_reader *reader, struct inode *inode,
	       struct inode *dir, struct bytes name);
/* is_dir: rmdir (-ENOTDIR, -ENOTEMPTY, -EINVAL); otherwise unlink (-EISDIR).  O(1) for any size. */
int names_remove(struct store *store, struct index_reader *reader, struct inode *dir,
		 struct bytes name, bool is_dir);
/*
 * names_rename - renameat2(2); flags: RENAME_NOREPLACE, RENAME_EXCHANGE.
 * -EEXIST, -ENOENT, -EISDIR, -ENOTDIR, -ENOTEMPTY, -EINVAL (below itself; flags), -EMLINK.
 * -EBUSY: *busy, with a reference, has unpushed bytes: push, call again.
 */
int names_rename(struct store *store, struct index_reader *reader, struct inode *old_dir,
		 struct bytes old_name, struct inode *new_dir, struct bytes new_name,
		 unsigned flags, struct inode **busy);

#define NAMES_MODE  BIT(0)
#define NAMES_UID   BIT(1)
#define NAMES_GID   BIT(2)
#define NAMES_ATIME BIT(3)
#define NAMES_MTIME BIT(4)
#define NAMES_CTIME BIT(5) /* otherwise now */
struct names_attr {
	unsigned valid;
	uint32_t mode; /* permissions; the type is kept */
	uint32_t uid, gid;
	struct wall_time atime, mtime, ctime;
	bool is_kernels; /* by a handle: the kernel tells the times of what was written through it */
	bool is_priv_killed; /* clear setuid, setgid of executables, and security.capability */
};
/* chmod keeps an access ACL in step. */
int names_set_attr(struct store *store, struct index_reader *reader, struct inode *inode,
		   const struct names_attr *attr);
/* What names_set_attr does to a row, for records that others submit (sizes); pure. */
void names_apply_attr(struct inode_row *row, const struct names_attr *attr);
/*
 * names_kill_priv - before bytes of `inode` change: clears security.capability, and with
 * is_suid_too setuid and setgid.  Costs one look when there is nothing to clear.  *changed (may be
 * NULL) tells whether the mode did.
 */
int names_kill_priv(struct store *store, struct inode *inode, bool is_suid_too, bool *changed);
/* INODE_IMMUTABLE, INODE_APPEND, INODE_NODUMP, INODE_NOATIME. */
int names_set_flags(struct store *store, struct inode *inode, uint32_t flags);
/* 0, or -EPERM: contents may not change (+i, a lock), or only by appending at `off` (+a). */
int names_check_write(struct store *store, struct inode *inode, uint64_t off);
int names_check_truncate(struct store *store, struct inode *inode);

/*
 * A lock until a date (user.shardfs.lock-until): see store/may_change.h for what it forbids.  It
 * may be moved to a later date, and nobody can move it to an earlier one or take it away before it
 * has come.
 *
 * names_lock - until_sec: since 1970.  -EROFS: in a snapshot; -EINVAL: not later than now; -EPERM: earlier than the lock that
 * is in force; -EOPNOTSUPP: neither file nor directory; -EBUSY: unpushed bytes: push, call again.
 * names_unlock - takes away one whose date has passed.  -EPERM: it has not; -ENODATA: there is none.
 * names_lock_until - 0 with the date, also when it has passed; -ENODATA.
 */
int names_lock(struct store *store, struct inode *inode, int64_t until_sec);
int names_unlock(struct store *store, struct inode *inode);
int names_lock_until(struct inode *inode, int64_t *until_sec);
/* Whether a lock is in force. */
bool names_is_locked(struct store *store, struct inode *inode);

int names_read_link(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct buf *out); /* -EINVAL: no symlink */

/* -ENODATA; value appended. */
int names_get_xattr(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct bytes name, struct buf *out);
/* Names, each with its NUL, appended; trusted.* only if is_root. */
int names_list_xattrs(struct store *store, struct index_reader *reader, struct inode *inode,
		      bool is_root, struct buf *out);
/*
 * flags: XATTR_CREATE (-EEXIST), XATTR_REPLACE (-ENODATA).  An access ACL moves the mode, and with
 * is_sgid_killed clears setgid.  -EOPNOTSUPP: no namespace of ours; -E2BIG; -EINVAL (bad ACL);
 * -EACCES (default ACL of no directory).
 */
int names_set_xattr(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct bytes name, struct bytes value, int flags, bool is_sgid_killed);
int names_remove_xattr(struct store *store, struct index_reader *reader, struct inode *inode,
		       struct bytes name);

/* st_mode .. st_ctim and the visible size; everything but st_blocks, which is the writer's. */
void names_stat(struct inode *inode, struct stat *out);

#endif
