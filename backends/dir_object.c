/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/dir.h"

#include "util/err.h"
#include "util/hook.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

/* One object: where it lies, and PUT, GET, HEAD, DELETE.  dir.c has the order of durable steps. */

#define WRITE_STEP   (4 * MIB)
#define DIRECT_ALIGN ((size_t)4096)
#define DIRECT_MIN   ((size_t)MIB)

/* ---- keys and paths ---- */

bool dir_is_shard_name(const char *name)
{
	return strspn(name, DIR_HEX_DIGITS) == 32 && name[32] == '\0';
}

/* Where an object lies: its directory below the root ("." for the root) and its name there. */
struct place {
	char dir[BACKEND_KEY_MAX + 8];
	const char *name;
	char path[BACKEND_KEY_MAX + 8];
};

static void place_of(const char *key, struct place *place)
{
	const char *slash = strrchr(key, '/');

	if (dir_is_shard_name(key)) {
		snprintf(place->dir, sizeof(place->dir), "%.2s", key);
		snprintf(place->path, sizeof(place->path), "%.2s/%s", key, key);
	} else if (slash) {
		snprintf(place->dir, sizeof(place->dir), "%.*s", (int)(slash - key), key);
		snprintf(place->path, sizeof(place->path), "%s", key);
	} else {
		snprintf(place->dir, sizeof(place->dir), ".");
		snprintf(place->path, sizeof(place->path), "%s", key);
	}
	slash = strrchr(place->path, '/');
	place->name = slash ? slash + 1 : place->path;
}

static int dir_sync_fd(const struct dir_backend *dir, int fd)
{
	return dir->config->fsync && !HOOK_BROKEN("skip-dir-name") ? fsync(fd) : 0;
}

/* Makes each missing directory of path; the names are durable when this returns. */
static int make_dirs(const struct dir_backend *dir, int root, const char *path,
		     struct failure *failure)
{
	AUTO_FD at = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char part[BACKEND_KEY_MAX + 8];

	if (at < 0)
		return dir_fail_errno(failure, dir, "opening the store");
	while (*path) {
		size_t len = strcspn(path, "/");
		int next;

		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		if (mkdirat(at, part, 0700) < 0 && errno != EEXIST)
			return dir_fail_errno(failure, dir, "making a directory");
		if (dir_sync_fd(dir, at) < 0)
			return dir_fail_errno(failure, dir, "syncing a directory");
		next = openat(at, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (next < 0)
			return dir_fail_errno(failure, dir, "opening a directory");
		close(at);
		at = next;
		path += len + (path[len] == '/');
	}
	return 0;
}

/*
 * That a directory is there does not mean that its name lasts: another worker may just have made it,
 * or a process that was killed.  So each is asked about once.
 */
static bool is_named(struct dir_backend *dir, const char *path, bool is_now)
{
	unsigned no = 0;
	bool *index = strcmp(path, "index") == 0 ? &dir->is_index_named : NULL, was;
	LOCK_SCOPE(&dir->lock);

	if (index) {
		was = *index;
		*index |= is_now;
		return was;
	}
	if (strspn(path, DIR_HEX_DIGITS) != 2 || path[2] != '\0')
		return strcmp(path, ".") == 0;
	no = (unsigned)strtoul(path, NULL, 16);
	was = dir->is_dir_named[no / 8] & BIT(no % 8);
	if (is_now)
		dir->is_dir_named[no / 8] |= (uint8_t)BIT(no % 8);
	return was;
}

static int open_parent(struct dir_backend *dir, int root, const struct place *place,
		       struct failure *failure, int *parent)
{
	bool was_named = is_named(dir, place->dir, false);
	int fd = was_named ? openat(root, place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (!was_named || (fd < 0 && errno == ENOENT)) {
		int r = make_dirs(dir, root, place->dir, failure);

		if (r < 0)
			return r;
		is_named(dir, place->dir, true);
		fd = openat(root, place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return dir_fail_errno(failure, dir, "opening a directory");
	*parent = fd;
	return 0;
}

/* ---- PUT ---- */

#define TMP_PATH_SIZE 48

static int tmp_open_once(int root, char *path)
{
	uint8_t random[16];
	struct stat st;
	char name[MARKER_ID_TEXT_SIZE];
	int fd;

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -1;
	snprintf(path, TMP_PATH_SIZE, DIR_TMP "/%s", marker_id_text(random, name));
	fd = openat(root, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	/* Where locks do not work, nobody gets one, and so nobody removes it. */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		goto lost;
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		goto lost;
	return fd;
lost: /* whoever was removing leftovers had it for one */
	unlinkat(root, path, 0);
	close(fd);
	errno = EAGAIN;
	return -1;
}

/* A fresh file under .tmp, locked; path receives its name below root. */
static int tmp_open(const struct dir_backend *dir, int root, char *path, struct failure *failure,
		    int *out)
{
	int fd = -1;

	for (int attempt = 0; fd < 0 && attempt < 8; attempt++) {
		fd = tmp_open_once(root, path);
		if (fd < 0 && errno == ENOENT && mkdirat(root, DIR_TMP, 0700) < 0 &&
		    errno != EEXIST)
			break;
		if (fd < 0 && errno != ENOENT && errno != EEXIST && errno != EAGAIN)
			break;
	}
	if (fd < 0)
		return dir_fail_errno(failure, dir, "making a temporary file");
	*out = fd;
	return 0;
}

/*
 * Large bodies go past the page cache as far as whole pages reach: nobody reads an object soon
 * after it was written, and to copy it there costs more CPU than all else in a PUT.  Whatever goes
 * wrong (a file system that cannot do it, a full disk) ends this early, and the usual way goes on
 * from there and names the error.  Returns how far it came.
 */
static size_t write_direct(const struct dir_backend *dir, int fd, struct bytes body)
{
	size_t end = body.len & ~(DIRECT_ALIGN - 1), at = 0;
	int flags = fcntl(fd, F_GETFL);

	if (!dir->config->fsync || body.len < DIRECT_MIN ||
	    (uintptr_t)body.ptr % DIRECT_ALIGN != 0 || flags < 0 ||
	    fcntl(fd, F_SETFL, flags | O_DIRECT) < 0)
		return 0;
	while (at < end) {
		ssize_t n = pwrite(fd, body.ptr + at, MIN(end - at, (size_t)WRITE_STEP), (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		at += (size_t)n;
		if ((size_t)n % DIRECT_ALIGN != 0)
			break;
	}
	fcntl(fd, F_SETFL, flags);
	return at;
}

static int write_body(const struct dir_backend *dir, int fd, struct bytes body,
		      struct failure *failure)
{
	size_t at = write_direct(dir, fd, body);

	while (at < body.len) {
		size_t step = MIN(body.len - at, (size_t)WRITE_STEP);
		ssize_t n = pwrite(fd, body.ptr + at, step, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return dir_fail_errno(failure, dir, "writing");
		/* The disk starts while the rest is still being copied. */
		if (dir->config->fsync && body.len > WRITE_STEP)
			sync_file_range(fd, (off_t)at, n, SYNC_FILE_RANGE_WRITE);
		at += (size_t)n;
	}
	if (dir->config->fsync && !HOOK_BROKEN("skip-dir-sync") && fdatasync(fd) < 0)
		return dir_fail_errno(failure, dir, "syncing");
	/* Copies are rarely read back: their pages are worth more elsewhere. */
	if (dir->config->fsync && body.len > 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

int dir_publish(int root, const char *tmp, int parent, const char *name, bool is_create_only)
{
	if (!is_create_only)
		return renameat(root, tmp, parent, name);
	if (renameat2(root, tmp, parent, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
		return -1;
	if (linkat(root, tmp, parent, name, 0) < 0)
		return -1;
	unlinkat(root, tmp, 0);
	return 0;
}

/* With size_max: takes `add` for a PUT, and gives back what is gone. */
static int quota_take(struct dir_backend *dir, uint64_t add, struct failure *failure)
{
	uint64_t size_max = dir->config->size_max_bytes;
	LOCK_SCOPE(&dir->lock);

	if (size_max == 0)
		return 0;
	if (add > size_max || dir->used_bytes > size_max - add)
		return dir_fail(failure, -ENOSPC, "size_max of %s is reached", dir->config->path);
	dir->used_bytes += add;
	return 0;
}

static void quota_give(struct dir_backend *dir, uint64_t bytes)
{
	LOCK_SCOPE(&dir->lock);

	dir->used_bytes -= MIN(bytes, dir->used_bytes);
}

static uint64_t size_at(const struct dir_backend *dir, int parent, const char *name)
{
	struct stat st;

	if (dir->config->size_max_bytes == 0 ||
	    fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0;
	return (uint64_t)st.st_size;
}

/* There is one already.  Its name must last before anybody counts on it: the
 * asker may be repeating a PUT of its own that landed. */
static int fail_exists(const struct dir_backend *dir, int parent, struct failure *failure)
{
	if (dir_sync_fd(dir, parent) < 0)
		return dir_fail_errno(failure, dir, "syncing a directory");
	return dir_fail(failure, -EEXIST, "there is such an object already");
}

static int put_file(struct dir_backend *dir, int root, int parent, const char *name,
		    struct backend_req *req, struct failure *failure)
{
	bool is_create_only = (req->flags & BACKEND_CREATE_ONLY) != 0;
	char tmp[TMP_PATH_SIZE];
	AUTO_FD fd = -1;
	uint64_t replaced;
	int r;

	if (is_create_only && faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return fail_exists(dir, parent, failure);
	r = tmp_open(dir, root, tmp, failure, &fd);
	if (r < 0)
		return r;
	r = write_body(dir, fd, req->body, failure);
	replaced = size_at(dir, parent, name);
	if (r == 0)
		r = dir_hooked(dir, HOOK("dir-publish-before"), failure);
	if (r == 0 && dir_publish(root, tmp, parent, name, is_create_only) < 0)
		r = errno == EEXIST ? fail_exists(dir, parent, failure)
				    : dir_fail_errno(failure, dir, "naming an object");
	if (r < 0) {
		unlinkat(root, tmp, 0);
		return r;
	}
	quota_give(dir, replaced);
	if (dir_sync_fd(dir, parent) < 0)
		return dir_fail_errno(failure, dir, "syncing a directory");
	return dir_hooked(dir, HOOK("dir-publish-after"), failure);
}

int dir_put(struct dir_backend *dir, int root, struct backend_req *req,
		  struct failure *failure)
{
	AUTO_FD parent = -1;
	struct place place;
	int r;

	place_of(req->key, &place);
	r = quota_take(dir, req->body.len, failure);
	if (r < 0)
		return r;
	r = open_parent(dir, root, &place, failure, &parent);
	if (r == 0)
		r = put_file(dir, root, parent, place.name, req, failure);
	if (r < 0)
		quota_give(dir, req->body.len);
	dir_space_look(dir, root, r == -ENOSPC);
	return r;
}

/* ---- GET, HEAD, DELETE ---- */

static int fail_not_found(struct failure *failure)
{
	return dir_fail(failure, -ENOENT, "no such object");
}

static int fail_not_a_file(struct failure *failure)
{
	return dir_fail(failure, -EIO, "the object is not a regular file");
}

/* Opening a socket fails as opening a file on a disk that was pulled out does.  Keeps errno. */
static bool is_something_else(int root, const char *path)
{
	int err = errno;
	struct stat st;
	bool is_else = fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode);

	errno = err;
	return is_else;
}

static int open_object(const struct dir_backend *dir, int root, const char *key,
		       struct failure *failure, int *out, struct stat *st)
{
	struct place place;
	AUTO_FD fd = -1;

	place_of(key, &place);
	fd = openat(root, place.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return fail_not_found(failure);
	if (fd < 0 && is_something_else(root, place.path))
		return fail_not_a_file(failure);
	if (fd < 0 || fstat(fd, st) < 0)
		return dir_fail_errno(failure, dir, "opening an object");
	if (S_ISDIR(st->st_mode))
		return fail_not_found(failure);
	if (!S_ISREG(st->st_mode))
		return fail_not_a_file(failure);
	*out = fd;
	fd = -1;
	return 0;
}

/* The range that a GET means, clipped by nothing: what is not there is an error. */
static int get_range(const struct backend_req *req, uint64_t size, uint64_t *offset, size_t *len,
		     struct failure *failure)
{
	uint64_t from = req->offset, count = req->len;

	if (req->flags & BACKEND_TAIL) {
		count = MIN(count, size);
		from = size - count;
	}
	if (from > size || (count != BACKEND_TO_END && count > size - from))
		return dir_fail(failure, -EBADMSG, "the object has %llu bytes, fewer than asked for",
			    (unsigned long long)size);
	if (count == BACKEND_TO_END)
		count = size - from;
	if (count > BACKEND_BODY_BYTES_MAX)
		return dir_fail(failure, -EIO, "the object is too large to be one");
	*offset = from;
	*len = (size_t)count;
	return 0;
}

static int read_range(const struct dir_backend *dir, int fd, uint8_t *into, uint64_t offset,
		      size_t len, struct failure *failure)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = pread(fd, into + at, len - at, (off_t)(offset + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return dir_fail_errno(failure, dir, "reading");
		if (n == 0)
			return dir_fail(failure, -EBADMSG, "the object shrank while it was read");
		at += (size_t)n;
	}
	return 0;
}

int dir_get(struct dir_backend *dir, int root, struct backend_req *req,
		  struct failure *failure)
{
	AUTO_FD fd = -1;
	struct stat st;
	uint64_t offset = 0;
	size_t len = 0;
	uint8_t *into = req->into;
	int r;

	r = open_object(dir, root, req->key, failure, &fd, &st);
	if (r == 0)
		r = get_range(req, (uint64_t)st.st_size, &offset, &len, failure);
	if (r < 0)
		return r;
	if (!into) {
		if (buf_reserve(req->out, len) < 0)
			return dir_fail(failure, -EAGAIN, "no memory for %zu bytes", len);
		into = req->out->ptr + req->out->len;
	}
	r = read_range(dir, fd, into, offset, len, failure);
	if (r < 0)
		return r;
	if (!req->into)
		req->out->len += len;
	req->got = len;
	req->size = (uint64_t)st.st_size;
	return 0;
}

void dir_wall_of(struct timespec t, struct wall_time *wall)
{
	*wall = (struct wall_time){.sec = t.tv_sec, .nsec = (uint32_t)t.tv_nsec};
}

int dir_head(struct dir_backend *dir, int root, struct backend_req *req,
		   struct failure *failure)
{
	struct place place;
	struct stat st;

	place_of(req->key, &place);
	if (fstatat(root, place.path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return fail_not_found(failure);
		return dir_fail_errno(failure, dir, "looking at an object");
	}
	if (!S_ISREG(st.st_mode))
		return fail_not_found(failure);
	req->size = (uint64_t)st.st_size;
	dir_wall_of(st.st_mtim, &req->mtime);
	return 0;
}

int dir_delete(struct dir_backend *dir, int root, struct backend_req *req,
		     struct failure *failure)
{
	AUTO_FD parent = -1;
	struct place place;
	uint64_t size;

	place_of(req->key, &place);
	parent = openat(root, place.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (parent < 0)
		return dir_fail_errno(failure, dir, "opening a directory");
	size = size_at(dir, parent, place.name);
	if (unlinkat(parent, place.name, 0) == 0)
		quota_give(dir, size);
	else if (errno != ENOENT && errno != EISDIR)
		return dir_fail_errno(failure, dir, "deleting");
	/* Also when it was gone: an earlier DELETE may have failed right here. */
	if (dir_sync_fd(dir, parent) < 0)
		return dir_fail_errno(failure, dir, "syncing a directory");
	dir_space_look(dir, root, false);
	return 0;
}
