/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/dir.h"

#include "util/err.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/*
 * Making a directory a provider's store.  The marker comes last, by a rename
 * that replaces nothing, so of two that try at a time one wins.
 */

static int init_why(struct buf *why, const struct dir_backend *dir, int error, const char *text)
{
	buf_printf(why, "%s: %s", dir->config->path, text);
	return error;
}

static int init_errno(struct buf *why, const struct dir_backend *dir, const char *step)
{
	int err = errno;

	buf_printf(why, "%s: %s: %s", dir->config->path, step, err_sentence(err));
	return dir_answer_of(err);
}

/* Anything but what an empty file system or an unfinished mkfs has. */
static bool holds_something(int root)
{
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool found = false;

	if (!stream) {
		if (fd >= 0)
			close(fd);
		return true;
	}
	while (!found && (entry = readdir(stream)))
		found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
			strcmp(entry->d_name, "lost+found") != 0 &&
			strcmp(entry->d_name, DIR_TMP) != 0 &&
			strcmp(entry->d_name, DIR_MARKER) != 0 &&
			strcmp(entry->d_name, DIR_MARKER_NEW) != 0;
	closedir(stream);
	return found;
}

static int marker_write(struct dir_backend *dir, int root, const uint8_t *fs_id,
			bool is_replacing, struct buf *why)
{
	AUTO(buf) text = BUF_INIT;
	struct marker marker = {0};
	AUTO_FD fd = -1;

	memcpy(marker.fs_id, fs_id, sizeof(marker.fs_id));
	snprintf(marker.name, sizeof(marker.name), "%s", dir->base.name);
	if (marker_format(&marker, &text) < 0)
		return -ENOMEM;
	unlinkat(root, DIR_MARKER_NEW, 0);
	fd = openat(root, DIR_MARKER_NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return init_errno(why, dir, "making " DIR_MARKER_NEW);
	if (write(fd, text.ptr, text.len) != (ssize_t)text.len || fsync(fd) < 0 ||
	    dir_publish(root, DIR_MARKER_NEW, root, DIR_MARKER, !is_replacing) < 0) {
		int r = errno == EEXIST ? init_why(why, dir, -EEXIST, "somebody else took it")
					: init_errno(why, dir, "writing " DIR_MARKER);

		unlinkat(root, DIR_MARKER_NEW, 0);
		return r;
	}
	return 0;
}

/* The names of the marker, of .tmp and of the root itself last. */
static int init_sync(struct dir_backend *dir, int root, struct buf *why)
{
	AUTO_FD parent = openat(root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fsync(root) < 0)
		return init_errno(why, dir, "syncing");
	/* A parent that may not be read is not ours to sync. */
	if (parent >= 0 && fsync(parent) < 0 && errno != EINVAL && errno != EROFS)
		return init_errno(why, dir, "syncing its parent");
	return 0;
}

static int init_root(struct dir_backend *dir, int root, const uint8_t *fs_id, struct buf *why)
{
	struct failure failure = {0};
	struct marker marker = {0};
	bool has_marker = faccessat(root, DIR_MARKER, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	int r;

	if (has_marker && dir_marker_read(dir, root, &marker, &failure) < 0)
		return init_why(why, dir, -EEXIST, failure.cause);
	if (has_marker && memcmp(marker.fs_id, fs_id, sizeof(marker.fs_id)) == 0 &&
	    strcmp(marker.name, dir->base.name) == 0)
		return 0;
	if (holds_something(root))
		return init_why(why, dir, -EEXIST,
				has_marker ? "belongs to another file system or provider"
					   : "is not empty, and not a provider of shardfs");
	if (fchmod(root, 0700) < 0)
		return init_errno(why, dir, "making it private");
	if (mkdirat(root, DIR_TMP, 0700) < 0 && errno != EEXIST)
		return init_errno(why, dir, "making " DIR_TMP);
	r = marker_write(dir, root, fs_id, has_marker, why);
	return r < 0 ? r : init_sync(dir, root, why);
}

int dir_init(struct backend *backend, const uint8_t *fs_id, struct buf *why)
{
	struct dir_backend *dir = container_of(backend, struct dir_backend, base);
	const char *path = dir->config->path;
	bool is_made = mkdir(path, 0700) == 0;
	AUTO_FD root = -1;
	int r;

	if (!is_made && errno != EEXIST)
		return init_errno(why, dir, "making the directory");
	root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		r = init_errno(why, dir, "opening the directory");
	else
		r = init_root(dir, root, fs_id, why);
	if (r == 0)
		dir_bind(backend, fs_id);
	else if (is_made)
		rmdir(path);
	return r;
}
