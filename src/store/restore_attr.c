/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order: the owner first, for chown(2) clears setuid bits and capabilities; then extended
 * attributes and ACLs; the mode after the ACLs, whose mask it is; the times last.
 */
#include "store/restore_private.h"
#include "store/vxattr.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PROC_PATH_SIZE (NAME_LEN_MAX + 40)

/* For calls that take only a path. */
static const char *proc_path(int dir_fd, const char *name, char out[PROC_PATH_SIZE])
{
	snprintf(out, PROC_PATH_SIZE, "/proc/self/fd/%d%s%s", dir_fd, name[0] ? "/" : "", name);
	return out;
}

static int set_xattr(const char *path, bool is_dir_itself, const char *name, struct bytes value)
{
	/* the descriptor itself is a link in /proc; what is in a directory is not followed */
	int r = is_dir_itself ? setxattr(path, name, value.ptr, value.len, 0)
			      : lsetxattr(path, name, value.ptr, value.len, 0);

	return r < 0 ? -errno : 0;
}

static void set_xattrs(struct restore *restore, int dir_fd, const char *name, const char *path,
		       uint64_t ino)
{
	char proc[PROC_PATH_SIZE];
	AUTO(buf) names = BUF_INIT;
	AUTO(buf) value = BUF_INIT;
	int r = index_list_xattrs(restore->store->index, restore->reader, ino, &names);

	for (size_t at = 0; at < names.len && r == 0;) {
		const char *xattr = (const char *)names.ptr + at;

		at += strlen(xattr) + 1;
		if (vxattr_is(bytes_of_str(xattr))) /* a lock: it holds where it was set */
			continue;
		buf_clear(&value);
		r = index_get_xattr(restore->store->index, restore->reader, ino,
				    bytes_of_str(xattr), &value);
		if (r == 0)
			r = set_xattr(proc_path(dir_fd, name, proc), !name[0], xattr,
				      buf_bytes(&value));
		if (r < 0)
			restore_incomplete(restore, path, xattr, r);
		r = 0;
	}
	if (r < 0)
		restore_incomplete(restore, path, "extended attributes", r);
}

int restore_times(int dir_fd, const char *name, const struct inode_row *row)
{
	struct timespec times[2] = {
		{.tv_sec = row->atime.sec, .tv_nsec = row->atime.nsec},
		{.tv_sec = row->mtime.sec, .tv_nsec = row->mtime.nsec},
	};
	int r = name[0] ? utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW)
			: futimens(dir_fd, times);

	return r < 0 ? -errno : 0;
}

void restore_attributes(struct restore *restore, int dir_fd, const char *name, const char *path,
			const struct inode_row *row)
{
	int flags = AT_SYMLINK_NOFOLLOW | (name[0] ? 0 : AT_EMPTY_PATH), r;

	if (fchownat(dir_fd, name, row->uid, row->gid, flags) < 0)
		restore_incomplete(restore, path, "owner", -errno);
	if (row->flags & INODE_XATTR)
		set_xattrs(restore, dir_fd, name, path, row->ino);
	if (!S_ISLNK(row->mode)) {
		r = name[0] ? fchmodat(dir_fd, name, row->mode & 07777, 0)
			    : fchmod(dir_fd, row->mode & 07777);
		if (r < 0)
			restore_incomplete(restore, path, "mode", -errno);
	}
	r = restore_times(dir_fd, name, row);
	if (r < 0)
		restore_incomplete(restore, path, "times", r);
}

int restore_flags(int dir_fd, const char *name, uint32_t flags)
{
	AUTO_FD opened = -1;
	int fd = dir_fd, theirs = 0, now;

	theirs |= flags & INODE_IMMUTABLE ? FS_IMMUTABLE_FL : 0;
	theirs |= flags & INODE_APPEND ? FS_APPEND_FL : 0;
	theirs |= flags & INODE_NODUMP ? FS_NODUMP_FL : 0;
	theirs |= flags & INODE_NOATIME ? FS_NOATIME_FL : 0;
	if (name[0])
		fd = opened = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &now) < 0)
		return -errno;
	now &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL);
	now |= theirs;
	return ioctl(fd, FS_IOC_SETFLAGS, &now) < 0 ? -errno : 0;
}
