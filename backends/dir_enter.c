/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/dir.h"

#include "util/err.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

/*
 * Is the store there, and the right one?  Asked by each request, answered by
 * the marker: dir.c tells how.
 */

#define SPACE_EVERY_MS 1000
#define UNSYNCED_S_MAX 3600 /* what changed longer ago the kernel has written by itself */

/* ---- failures ---- */

int dir_fail(struct failure *failure, int error, const char *format, ...)
{
	va_list args;

	failure->error = error;
	va_start(args, format);
	vsnprintf(failure->cause, sizeof(failure->cause), format, args);
	va_end(args);
	return error;
}

int dir_fail_absent(struct failure *failure, const char *path, const char *text)
{
	failure->is_absent = true;
	return dir_fail(failure, -EAGAIN, "absent: %s: %s", path, text);
}

static bool means_gone(int err)
{
	return err == ESTALE || err == ENODEV || err == ENXIO || err == ENOTCONN ||
	       err == EHOSTDOWN || err == EHOSTUNREACH;
}

int dir_answer_of(int err)
{
	switch (err) {
	case ENOENT:
		return -ENOENT;
	case ENOSPC:
	case EDQUOT:
		return -ENOSPC;
	case EACCES:
	case EPERM:
	case EROFS:
		return -EACCES;
	case EINTR:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EAGAIN:
	case EBUSY:
	case ETIMEDOUT:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

int dir_fail_errno(struct failure *failure, const struct dir_backend *dir, const char *step)
{
	int err = errno;

	if (means_gone(err))
		return dir_fail_absent(failure, dir->config->path, err_sentence(err));
	return dir_fail(failure, dir_answer_of(err), "%s in %s: %s", step, dir->config->path,
		    err_sentence(err));
}

int dir_hooked(const struct dir_backend *dir, int r, struct failure *failure)
{
	errno = -r;
	return r < 0 ? dir_fail_errno(failure, dir, "test hook") : 0;
}

/* ---- entering the store ---- */

int dir_marker_read(const struct dir_backend *dir, int root, struct marker *marker,
		       struct failure *failure)
{
	uint8_t text[MARKER_BYTES_MAX + 1];
	AUTO_FD fd = openat(root, DIR_MARKER, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return dir_fail_absent(failure, dir->config->path, err_sentence(errno));
	while (n > 0 && len < sizeof(text)) {
		n = read(fd, text + len, sizeof(text) - len);
		if (n < 0)
			return dir_fail_absent(failure, dir->config->path, err_sentence(errno));
		len += (size_t)n;
	}
	if (marker_parse(bytes_of(text, len), marker) < 0)
		return dir_fail_absent(failure, dir->config->path,
				   "its " DIR_MARKER " cannot be understood");
	return 0;
}

static int marker_judge(struct dir_backend *dir, const struct marker *marker,
			struct failure *failure)
{
	char id[MARKER_ID_TEXT_SIZE];
	LOCK_SCOPE(&dir->lock);

	if (!dir->is_bound)
		return 0;
	failure->is_absent = true;
	if (memcmp(dir->fs_id, marker->fs_id, sizeof(dir->fs_id)) != 0)
		return dir_fail(failure, -EAGAIN, "absent: %s belongs to another file system, %s",
			    dir->config->path, marker_id_text(marker->fs_id, id));
	if (strcmp(marker->name, dir->base.name) != 0)
		return dir_fail(failure, -EAGAIN, "absent: %s is provider \"%s\" of this file system",
			    dir->config->path, marker->name);
	failure->is_absent = false;
	return 0;
}

/* What a crash left behind: whatever in .tmp nobody holds a lock on. */
static void leftovers_remove(int root)
{
	int fd = openat(root, DIR_TMP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *tmp = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!tmp) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(tmp))) {
		AUTO_FD file = -1;

		if (entry->d_name[0] == '.')
			continue;
		file = openat(fd, entry->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (file >= 0 && flock(file, LOCK_EX | LOCK_NB) == 0)
			unlinkat(fd, entry->d_name, 0);
	}
	closedir(tmp);
}

static int sync_if_new(const struct dir_backend *dir, int fd, struct failure *failure)
{
	struct stat st;

	if (fstat(fd, &st) < 0 ||
	    (st.st_mtim.tv_sec + UNSYNCED_S_MAX > clock_wall().sec && fsync(fd) < 0))
		return dir_fail_errno(failure, dir, "syncing what was there");
	return 0;
}

/*
 * A writer that was killed after it had named an object and before it had synced the directory left
 * something that a LIST or HEAD shows, that counts as a copy, and that a power loss takes away.
 */
static int names_sync(const struct dir_backend *dir, int root, struct failure *failure)
{
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!stream) {
		r = dir_fail_errno(failure, dir, "opening the store");
		mem_close_fd(&fd);
		return r;
	}
	r = sync_if_new(dir, root, failure);
	while (r == 0 && (entry = readdir(stream))) {
		AUTO_FD sub = -1;

		if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR &&
						entry->d_type != DT_UNKNOWN))
			continue;
		sub = openat(fd, entry->d_name,
			     O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (sub >= 0)
			r = sync_if_new(dir, sub, failure);
	}
	closedir(stream);
	return r;
}

static uint64_t tree_bytes(int at, const char *name, int depth)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	uint64_t bytes = 0;
	struct stat st;

	if (!stream) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((entry = readdir(stream))) {
		if (entry->d_name[0] == '.')
			continue;
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_size;
		else if (S_ISDIR(st.st_mode) && depth > 0)
			bytes += tree_bytes(fd, entry->d_name, depth - 1);
	}
	closedir(stream);
	return bytes;
}

void dir_space_look(struct dir_backend *dir, int root, bool is_forced)
{
	uint64_t now = clock_mono_ms() + 1, seen = atomic_load(&dir->space_seen_ms);
	struct statvfs fs;

	if (!is_forced && seen != 0 && now - seen < SPACE_EVERY_MS)
		return;
	if (fstatvfs(root, &fs) < 0)
		return;
	atomic_store(&dir->total_bytes, (uint64_t)fs.f_blocks * fs.f_frsize);
	atomic_store(&dir->free_bytes, (uint64_t)fs.f_bavail * fs.f_frsize);
	atomic_store(&dir->space_seen_ms, now);
}

static bool identity_is(struct dir_backend *dir, const struct identity *seen)
{
	LOCK_SCOPE(&dir->lock);
	const struct identity *known = &dir->identity;

	return known->is_valid && known->dev == seen->dev && known->root_ino == seen->root_ino &&
	       known->marker_ino == seen->marker_ino &&
	       known->marker_ctime.tv_sec == seen->marker_ctime.tv_sec &&
	       known->marker_ctime.tv_nsec == seen->marker_ctime.tv_nsec;
}

/* The store is not the one of the last request, or this is the first. */
static int enter_newly(struct dir_backend *dir, int root, struct identity *seen,
		       struct failure *failure)
{
	LOCK_SCOPE(&dir->enter_lock);
	struct marker marker;
	uint64_t used_bytes = 0;
	int r;

	if (identity_is(dir, seen))
		return 0; /* another worker was first */
	r = dir_marker_read(dir, root, &marker, failure);
	if (r < 0)
		return r;
	r = marker_judge(dir, &marker, failure);
	if (r < 0)
		return r;
	leftovers_remove(root);
	r = dir->config->fsync ? names_sync(dir, root, failure) : 0;
	if (r < 0)
		return r;
	dir_space_look(dir, root, true);
	if (dir->config->size_max_bytes > 0)
		used_bytes = tree_bytes(root, ".", DIR_DEPTH_MAX);
	lock_take(&dir->lock);
	seen->is_valid = true;
	dir->identity = *seen;
	memset(dir->is_dir_named, 0, sizeof(dir->is_dir_named));
	dir->is_index_named = false;
	dir->used_bytes = used_bytes;
	lock_drop(&dir->lock);
	return 0;
}

int dir_enter(struct dir_backend *dir, int *root, struct failure *failure)
{
	const char *path = dir->config->path;
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct identity seen = {0};
	struct stat root_st, st;
	int r;

	if (fd < 0 && (errno == EACCES || errno == EPERM || errno == EMFILE || errno == ENFILE))
		return dir_fail_errno(failure, dir, "opening the store");
	if (fd < 0)
		return dir_fail_absent(failure, path, err_sentence(errno));
	if (fstatat(fd, DIR_MARKER, &st, AT_SYMLINK_NOFOLLOW) < 0 || fstat(fd, &root_st) < 0) {
		if (errno == ENOENT)
			return dir_fail_absent(failure, path,
					   "no " DIR_MARKER ": not mounted, or not made by mkfs");
		if (errno == EACCES)
			return dir_fail_errno(failure, dir, "reading " DIR_MARKER);
		return dir_fail_absent(failure, path, err_sentence(errno));
	}
	seen.dev = root_st.st_dev;
	seen.root_ino = root_st.st_ino;
	seen.marker_ino = st.st_ino;
	seen.marker_ctime = st.st_ctim;
	if (!identity_is(dir, &seen)) {
		r = enter_newly(dir, fd, &seen, failure);
		if (r < 0)
			return r;
	}
	*root = fd;
	fd = -1;
	return 0;
}
