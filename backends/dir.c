/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/backend.h"
#include "backends/marker.h"

#include "util/err.h"
#include "util/hook.h"
#include "util/lock.h"
#include "util/mem.h"
#include "util/queue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/*
 * A directory as a provider.
 *
 *	PATH/.shardfs-provider	marker: whose store this is
 *	PATH/.tmp/<32 hex>	objects being written
 *	PATH/ab/ab...		an object of 32 hex digits, under its first two
 *	PATH/index/...		any other key is a path
 *
 * Nothing is held open between requests, so an idle disk can be unmounted.
 * Each request opens PATH, which pins the mount, and compares the marker's
 * device, inode and ctime with what was verified before (two system calls);
 * all further steps go through that descriptor.  So a request never works on
 * the directory beneath a mount point, nor on another disk.
 *
 * Order of durable steps of a PUT: write .tmp/X, fdatasync, link or rename it
 * to its name, fsync the directory; answer.  A writer holds a flock on X, so
 * what can be locked there is the leftover of a crash and is removed when a
 * store is entered for the first time.
 *
 * Two small pools of threads: one for PUT and DELETE, one for what reads, so
 * that a read does not wait behind a backlog of uploads.
 */

#define MARKER_FILE ".shardfs-provider"
#define MARKER_NEW  ".shardfs-provider.new"
#define TMP_DIR	    ".tmp"

#define QUEUE_COUNT_MAX 1024
#define WRITE_STEP	(4 * MIB)
#define SPACE_EVERY_MS	1000
#define HEX_DIGITS	"0123456789abcdef"

struct dir_config {
	char *path;
	uint64_t workers_count, readers_count;
	bool fsync;
	uint64_t size_max_bytes;
};

static const struct option_spec dir_options[] = {
	OPT_STRING(struct dir_config, path, OPT_REQUIRED,
		   "absolute path of the directory that holds the objects"),
	OPT_COUNT(struct dir_config, workers_count, "2", 1, 64, "threads that write and delete"),
	OPT_COUNT(struct dir_config, readers_count, "2", 1, 64, "threads that read and list"),
	OPT_BOOL(struct dir_config, fsync, "true",
		 "answer a write only when it is on stable storage"),
	OPT_SIZE(struct dir_config, size_max_bytes, "0", 0, INT64_MAX,
		 "bytes that all objects may take; 0: what the disk holds"),
	OPT_END,
};

/* What was seen when the marker was last read and found right. */
struct identity {
	bool is_valid;
	dev_t dev;
	ino_t root_ino, marker_ino;
	struct timespec marker_ctime;
};

struct dir_backend {
	struct backend base;
	const struct dir_config *config;
	struct queue write_queue, read_queue;
	struct workers writers, readers;
	atomic_bool is_closing;

	/* Taken by this provider's own workers alone, and held over I/O: they
	 * may wait for the provider, and for nothing else. */
	struct lock enter_lock;

	struct lock lock; /* LOCK_LEAF: all below */
	bool is_bound;
	uint8_t fs_id[BACKEND_FS_ID_SIZE];
	struct identity identity;
	uint64_t used_bytes; /* with size_max: of all objects, and of PUTs under way */

	_Atomic uint64_t total_bytes, free_bytes, space_seen_ms; /* 0: not yet */
};

/* Why a step failed; becomes the answer. */
struct failure {
	int error;
	bool is_absent;
	char cause[BACKEND_CAUSE_SIZE];
};

/* ---- failures ---- */

static int fail(struct failure *failure, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct failure *failure, int error, const char *format, ...)
{
	va_list args;

	failure->error = error;
	va_start(args, format);
	vsnprintf(failure->cause, sizeof(failure->cause), format, args);
	va_end(args);
	return error;
}

static int fail_absent(struct failure *failure, const char *path, const char *text)
{
	failure->is_absent = true;
	return fail(failure, -EAGAIN, "absent: %s: %s", path, text);
}

static bool means_gone(int err)
{
	return err == ESTALE || err == ENODEV || err == ENXIO || err == ENOTCONN ||
	       err == EHOSTDOWN || err == EHOSTUNREACH;
}

static int answer_of(int err)
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

/* A system call on the store failed with errno. */
static int fail_errno(struct failure *failure, const struct dir_backend *dir, const char *step)
{
	int err = errno;

	if (means_gone(err))
		return fail_absent(failure, dir->config->path, err_sentence(err));
	return fail(failure, answer_of(err), "%s in %s: %s", step, dir->config->path,
		    err_sentence(err));
}

/* r: of HOOK(), where a test may make a step fail. */
static int hooked(const struct dir_backend *dir, int r, struct failure *failure)
{
	errno = -r;
	return r < 0 ? fail_errno(failure, dir, "test hook") : 0;
}

/* ---- entering the store ---- */

static int marker_read(const struct dir_backend *dir, int root, struct marker *marker,
		       struct failure *failure)
{
	uint8_t text[MARKER_BYTES_MAX + 1];
	AUTO_FD fd = openat(root, MARKER_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return fail_absent(failure, dir->config->path, err_sentence(errno));
	while (n > 0 && len < sizeof(text)) {
		n = read(fd, text + len, sizeof(text) - len);
		if (n < 0)
			return fail_absent(failure, dir->config->path, err_sentence(errno));
		len += (size_t)n;
	}
	if (marker_parse(bytes_of(text, len), marker) < 0)
		return fail_absent(failure, dir->config->path,
				   "its " MARKER_FILE " cannot be understood");
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
		return fail(failure, -EAGAIN, "absent: %s belongs to another file system, %s",
			    dir->config->path, marker_id_text(marker->fs_id, id));
	if (strcmp(marker->name, dir->base.name) != 0)
		return fail(failure, -EAGAIN, "absent: %s is provider \"%s\" of this file system",
			    dir->config->path, marker->name);
	failure->is_absent = false;
	return 0;
}

/* What a crash left behind: whatever in .tmp nobody holds a lock on. */
static void leftovers_remove(int root)
{
	int fd = openat(root, TMP_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

static void space_look(struct dir_backend *dir, int root, bool is_forced)
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
	r = marker_read(dir, root, &marker, failure);
	if (r < 0)
		return r;
	r = marker_judge(dir, &marker, failure);
	if (r < 0)
		return r;
	leftovers_remove(root);
	space_look(dir, root, true);
	if (dir->config->size_max_bytes > 0)
		used_bytes = tree_bytes(root, ".", 16);
	lock_take(&dir->lock);
	seen->is_valid = true;
	dir->identity = *seen;
	dir->used_bytes = used_bytes;
	lock_drop(&dir->lock);
	return 0;
}

/* Opens the store's root; *root is the caller's to close. */
static int enter(struct dir_backend *dir, int *root, struct failure *failure)
{
	const char *path = dir->config->path;
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct identity seen = {0};
	struct stat root_st, st;
	int r;

	if (fd < 0 && (errno == EACCES || errno == EPERM || errno == EMFILE || errno == ENFILE))
		return fail_errno(failure, dir, "opening the store");
	if (fd < 0)
		return fail_absent(failure, path, err_sentence(errno));
	if (fstatat(fd, MARKER_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0 || fstat(fd, &root_st) < 0) {
		if (errno == ENOENT)
			return fail_absent(failure, path,
					   "no " MARKER_FILE ": not mounted, or not made by mkfs");
		if (errno == EACCES)
			return fail_errno(failure, dir, "reading " MARKER_FILE);
		return fail_absent(failure, path, err_sentence(errno));
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

/* ---- keys and paths ---- */

static bool is_shard_name(const char *name)
{
	return strspn(name, HEX_DIGITS) == 32 && name[32] == '\0';
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

	if (is_shard_name(key)) {
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

static int sync_fd(const struct dir_backend *dir, int fd)
{
	return dir->config->fsync ? fsync(fd) : 0;
}

/* Makes each missing directory of path; the names are durable when this returns. */
static int make_dirs(const struct dir_backend *dir, int root, const char *path,
		     struct failure *failure)
{
	AUTO_FD at = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char part[BACKEND_KEY_MAX + 8];

	if (at < 0)
		return fail_errno(failure, dir, "opening the store");
	while (*path) {
		size_t len = strcspn(path, "/");
		int next;

		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		if (mkdirat(at, part, 0700) < 0 && errno != EEXIST)
			return fail_errno(failure, dir, "making a directory");
		if (sync_fd(dir, at) < 0)
			return fail_errno(failure, dir, "syncing a directory");
		next = openat(at, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (next < 0)
			return fail_errno(failure, dir, "opening a directory");
		close(at);
		at = next;
		path += len + (path[len] == '/');
	}
	return 0;
}

static int open_parent(const struct dir_backend *dir, int root, const struct place *place,
		       struct failure *failure, int *parent)
{
	int fd = openat(root, place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		int r = make_dirs(dir, root, place->dir, failure);

		if (r < 0)
			return r;
		fd = openat(root, place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return fail_errno(failure, dir, "opening a directory");
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
	snprintf(path, TMP_PATH_SIZE, TMP_DIR "/%s", marker_id_text(random, name));
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
		if (fd < 0 && errno == ENOENT && mkdirat(root, TMP_DIR, 0700) < 0 &&
		    errno != EEXIST)
			break;
		if (fd < 0 && errno != ENOENT && errno != EEXIST && errno != EAGAIN)
			break;
	}
	if (fd < 0)
		return fail_errno(failure, dir, "making a temporary file");
	*out = fd;
	return 0;
}

static int write_body(const struct dir_backend *dir, int fd, struct bytes body,
		      struct failure *failure)
{
	size_t at = 0;

	while (at < body.len) {
		size_t step = MIN(body.len - at, (size_t)WRITE_STEP);
		ssize_t n = pwrite(fd, body.ptr + at, step, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_errno(failure, dir, "writing");
		/* The disk starts while the rest is still being copied. */
		if (dir->config->fsync && body.len > WRITE_STEP)
			sync_file_range(fd, (off_t)at, n, SYNC_FILE_RANGE_WRITE);
		at += (size_t)n;
	}
	if (dir->config->fsync && fdatasync(fd) < 0)
		return fail_errno(failure, dir, "syncing");
	/* Copies are rarely read back: their pages are worth more elsewhere. */
	if (dir->config->fsync && body.len > 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

/* Gives a finished temporary file its name. */
static int publish(int root, const char *tmp, int parent, const char *name, bool is_create_only)
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
		return fail(failure, -ENOSPC, "size_max of %s is reached", dir->config->path);
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
	if (sync_fd(dir, parent) < 0)
		return fail_errno(failure, dir, "syncing a directory");
	return fail(failure, -EEXIST, "there is such an object already");
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
		r = hooked(dir, HOOK("dir-publish-before"), failure);
	if (r == 0 && publish(root, tmp, parent, name, is_create_only) < 0)
		r = errno == EEXIST ? fail_exists(dir, parent, failure)
				    : fail_errno(failure, dir, "naming an object");
	if (r < 0) {
		unlinkat(root, tmp, 0);
		return r;
	}
	quota_give(dir, replaced);
	if (sync_fd(dir, parent) < 0)
		return fail_errno(failure, dir, "syncing a directory");
	return hooked(dir, HOOK("dir-publish-after"), failure);
}

static int do_put(struct dir_backend *dir, int root, struct backend_req *req,
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
	space_look(dir, root, r == -ENOSPC);
	return r;
}

/* ---- GET, HEAD, DELETE ---- */

static int fail_not_found(struct failure *failure)
{
	return fail(failure, -ENOENT, "no such object");
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
	if (fd < 0 || fstat(fd, st) < 0)
		return fail_errno(failure, dir, "opening an object");
	if (S_ISDIR(st->st_mode))
		return fail_not_found(failure);
	if (!S_ISREG(st->st_mode))
		return fail(failure, -EIO, "the object is not a regular file");
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
		return fail(failure, -EBADMSG, "the object has %llu bytes, fewer than asked for",
			    (unsigned long long)size);
	if (count == BACKEND_TO_END)
		count = size - from;
	if (count > BACKEND_BODY_BYTES_MAX)
		return fail(failure, -EIO, "the object is too large to be one");
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
			return fail_errno(failure, dir, "reading");
		if (n == 0)
			return fail(failure, -EBADMSG, "the object shrank while it was read");
		at += (size_t)n;
	}
	return 0;
}

static int do_get(struct dir_backend *dir, int root, struct backend_req *req,
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
			return fail(failure, -EAGAIN, "no memory for %zu bytes", len);
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

static void wall_of(struct timespec t, struct wall_time *wall)
{
	*wall = (struct wall_time){.sec = t.tv_sec, .nsec = (uint32_t)t.tv_nsec};
}

static int do_head(struct dir_backend *dir, int root, struct backend_req *req,
		   struct failure *failure)
{
	struct place place;
	struct stat st;

	place_of(req->key, &place);
	if (fstatat(root, place.path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return fail_not_found(failure);
		return fail_errno(failure, dir, "looking at an object");
	}
	if (!S_ISREG(st.st_mode))
		return fail_not_found(failure);
	req->size = (uint64_t)st.st_size;
	wall_of(st.st_mtim, &req->mtime);
	return 0;
}

static int do_delete(struct dir_backend *dir, int root, struct backend_req *req,
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
		return fail_errno(failure, dir, "opening a directory");
	size = size_at(dir, parent, place.name);
	if (unlinkat(parent, place.name, 0) == 0)
		quota_give(dir, size);
	else if (errno != ENOENT && errno != EISDIR)
		return fail_errno(failure, dir, "deleting");
	/* Also when it was gone: an earlier DELETE may have failed right here. */
	if (sync_fd(dir, parent) < 0)
		return fail_errno(failure, dir, "syncing a directory");
	space_look(dir, root, false);
	return 0;
}

/* ---- LIST ---- */

/*
 * Keys come in the order of their paths on disk, part by part, so that the
 * path of the last one is all that the next page needs to know.  A directory
 * is read in whole for each page, but only the smallest names that may fit
 * are kept.
 */
struct listing {
	struct dir_backend *dir;
	const char *prefix;
	size_t entries_max;
	struct backend_list *page;
	char last[BACKEND_KEY_MAX + 8]; /* path of the newest entry */
	bool is_full;			/* there is more behind it */
};

struct names {
	char (*items)[BACKEND_KEY_MAX + 1];
	size_t count, capacity;
	bool is_cut;
};

static void names_release(struct names *names)
{
	mem_free(names->items);
}

static int names_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int names_add(struct names *names, const char *name, size_t keep)
{
	if (names->count == names->capacity) {
		size_t capacity = MAX(names->capacity * 2, (size_t)64);
		void *items = mem_realloc_array(names->items, capacity, sizeof(names->items[0]));

		if (!items)
			return -ENOMEM;
		names->items = items;
		names->capacity = capacity;
	}
	snprintf(names->items[names->count++], sizeof(names->items[0]), "%.*s", BACKEND_KEY_MAX,
		 name);
	if (names->count >= 2 * keep) {
		qsort(names->items, names->count, sizeof(names->items[0]), names_compare);
		names->count = keep;
		names->is_cut = true;
	}
	return 0;
}

/* The smallest names of directory fd from `from` on (inclusive), sorted. */
static int names_read(const struct listing *listing, int fd, const char *from, size_t keep,
		      struct names *names, struct failure *failure)
{
	DIR *stream = fdopendir(fd);
	const struct dirent *entry;
	int r = 0;

	if (!stream) {
		close(fd);
		return fail_errno(failure, listing->dir, "listing");
	}
	for (;;) {
		errno = 0;
		entry = readdir(stream);
		if (!entry)
			break;
		if (entry->d_name[0] == '.' || strlen(entry->d_name) > BACKEND_KEY_MAX ||
		    strcmp(entry->d_name, from) < 0)
			continue;
		r = names_add(names, entry->d_name, keep);
		if (r < 0)
			break;
	}
	if (r < 0)
		r = fail(failure, -EAGAIN, "no memory for a listing");
	else if (errno != 0)
		r = fail_errno(failure, listing->dir, "listing");
	closedir(stream);
	if (names->count > 0)
		qsort(names->items, names->count, sizeof(names->items[0]), names_compare);
	/* Once something was cut, only the first `keep` have no gap between them. */
	if (names->is_cut)
		names->count = MIN(names->count, keep);
	return r;
}

static int list_file(struct listing *listing, const char *key, const char *path,
		     const struct stat *st, struct failure *failure)
{
	struct backend_entry *entry;

	if (!S_ISREG(st->st_mode) ||
	    strncmp(key, listing->prefix, strlen(listing->prefix)) != 0 ||
	    !backend_key_is_valid(key))
		return 0;
	if (listing->page->count == listing->entries_max) {
		listing->is_full = true;
		return 0;
	}
	entry = backend_list_next(listing->page);
	if (!entry)
		return fail(failure, -EAGAIN, "no memory for a listing");
	snprintf(entry->key, sizeof(entry->key), "%s", key);
	entry->size = (uint64_t)st->st_size;
	entry->tier = BACKEND_HOT;
	wall_of(st->st_mtim, &entry->mtime);
	listing->page->count++;
	snprintf(listing->last, sizeof(listing->last), "%s", path);
	return 0;
}

static bool is_fan_out(const char *path)
{
	return strlen(path) == 2 && strspn(path, HEX_DIGITS) == 2;
}

/* May a key below directory `path` begin with the prefix? */
static bool may_hold(const struct listing *listing, const char *path)
{
	size_t path_len = strlen(path), prefix_len = strlen(listing->prefix);

	if (strncmp(path, listing->prefix, MIN(path_len, prefix_len)) != 0)
		return false;
	return is_fan_out(path) || prefix_len <= path_len || listing->prefix[path_len] == '/';
}

static int list_dir(struct listing *listing, int fd, const char *path, const char *from,
		    int depth, struct failure *failure);

static int list_subdir(struct listing *listing, int fd, const char *name, const char *path,
		       const char *from, int depth, struct failure *failure)
{
	int sub;

	if (depth == 0 || !may_hold(listing, path))
		return 0;
	sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (sub < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : fail_errno(failure, listing->dir, "listing");
	return list_dir(listing, sub, path, from, depth - 1, failure);
}

/* name is an entry of directory fd, which is `path` below the root ("" for the root).
 * from: the rest of the cursor when the cursor goes through name, else NULL. */
static int list_entry_at(struct listing *listing, int fd, const char *path, const char *name,
			 const char *from, int depth, struct failure *failure)
{
	char full[BACKEND_KEY_MAX + 8];
	bool is_root = path[0] == '\0';
	int len = snprintf(full, sizeof(full), "%s%s%s", path, is_root ? "" : "/", name);
	struct stat st;

	if (len < 0 || (size_t)len >= sizeof(full))
		return 0;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : fail_errno(failure, listing->dir, "listing");
	if (S_ISDIR(st.st_mode))
		return list_subdir(listing, fd, name, full, from ? from : "", depth, failure);
	if (from)
		return 0; /* the last one of the page before */
	if (is_fan_out(path)) {
		if (!is_shard_name(name) || strncmp(name, path, 2) != 0)
			return 0;
		return list_file(listing, name, full, &st, failure);
	}
	if (is_root && is_shard_name(name))
		return 0; /* would be another name of what is in its fan-out directory */
	return list_file(listing, full, full, &st, failure);
}

/* Closes fd.  from: what is left of the cursor below this directory; "": all. */
static int list_dir(struct listing *listing, int fd, const char *path, const char *from,
		    int depth, struct failure *failure)
{
	size_t part_len = strcspn(from, "/");
	const char *rest = from[part_len] == '/' ? from + part_len + 1 : from + part_len;
	char part[BACKEND_KEY_MAX + 8], cursor_part[BACKEND_KEY_MAX + 8];
	AUTO_FD at = fd;
	bool is_more = true;
	int r = 0;

	snprintf(cursor_part, sizeof(cursor_part), "%.*s", (int)part_len, from);
	snprintf(part, sizeof(part), "%s", cursor_part);
	while (r == 0 && is_more && !listing->is_full) {
		size_t keep = listing->entries_max - listing->page->count + 2;
		AUTO(names) names = {0};
		int dup_fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (dup_fd < 0)
			return fail_errno(failure, listing->dir, "listing");
		r = names_read(listing, dup_fd, part, keep, &names, failure);
		is_more = names.is_cut;
		for (size_t i = 0; r == 0 && i < names.count && !listing->is_full; i++) {
			const char *name = names.items[i];
			bool is_cursor = part_len > 0 && strcmp(name, cursor_part) == 0;

			r = list_entry_at(listing, at, path, name, is_cursor ? rest : NULL, depth,
					  failure);
		}
		/* Go on right behind the largest name that was kept. */
		if (is_more && names.count > 0)
			snprintf(part, sizeof(part), "%s\x01", names.items[names.count - 1]);
	}
	return r;
}

static int do_list(struct dir_backend *dir, int root, struct backend_req *req,
		   struct failure *failure)
{
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	struct listing listing = {
		.dir = dir,
		.prefix = req->key,
		.entries_max = req->entries_max > 0 ? req->entries_max : 1000,
		.page = &page,
	};
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return fail_errno(failure, dir, "listing");
	r = list_dir(&listing, fd, "", req->cursor ? req->cursor : "", 16, failure);
	if (r < 0)
		return r;
	if (listing.is_full)
		snprintf(page.cursor, sizeof(page.cursor), "%s", listing.last);
	backend_list_release(req->list);
	*req->list = page;
	page = (struct backend_list)BACKEND_LIST_INIT;
	return 0;
}

/* ---- requests ---- */

static int run_op(struct dir_backend *dir, int root, struct backend_req *req,
		  struct failure *failure)
{
	switch (req->op) {
	case BACKEND_PUT:
		return do_put(dir, root, req, failure);
	case BACKEND_GET:
		return do_get(dir, root, req, failure);
	case BACKEND_DELETE:
		return do_delete(dir, root, req, failure);
	case BACKEND_LIST:
		return do_list(dir, root, req, failure);
	default: /* a RESTORE has nothing to do: it only must be there */
		return do_head(dir, root, req, failure);
	}
}

static int request_hook(enum backend_op op)
{
	switch (op) {
	case BACKEND_PUT:
		return HOOK("dir-put-before");
	case BACKEND_GET:
		return HOOK("dir-get-before");
	case BACKEND_DELETE:
		return HOOK("dir-delete-before");
	default:
		return HOOK("dir-look-before");
	}
}

static void dir_run(void *arg, void *item)
{
	struct dir_backend *dir = arg;
	struct backend_req *req = item;
	struct failure failure = {0};
	int root = -1, r;

	if (atomic_load(&dir->is_closing) || atomic_load(&req->is_canceled)) {
		backend_answer(req, -ECANCELED, NULL);
		return;
	}
	r = enter(dir, &root, &failure);
	if (r == 0)
		r = hooked(dir, request_hook(req->op), &failure);
	if (r == 0)
		r = run_op(dir, root, req, &failure);
	mem_close_fd(&root); /* before the answer: the asker may want to unmount */
	req->is_absent = failure.is_absent;
	if (r < 0)
		backend_answer(req, r, "%s", failure.cause);
	else
		backend_answer(req, 0, NULL);
}

static int dir_submit(struct backend *backend, struct backend_req *req)
{
	struct dir_backend *dir = container_of(backend, struct dir_backend, base);
	bool is_write = req->op == BACKEND_PUT || req->op == BACKEND_DELETE;

	return queue_try_push(is_write ? &dir->write_queue : &dir->read_queue, req) < 0 ? -EAGAIN
											: 0;
}

static void dir_bind(struct backend *backend, const uint8_t *fs_id)
{
	struct dir_backend *dir = container_of(backend, struct dir_backend, base);
	LOCK_SCOPE(&dir->lock);

	memcpy(dir->fs_id, fs_id, sizeof(dir->fs_id));
	dir->is_bound = true;
	dir->identity.is_valid = false;
}

static int dir_space(const struct backend *backend, uint64_t *total, uint64_t *free_bytes)
{
	struct dir_backend *dir = container_of(backend, struct dir_backend, base);
	uint64_t size_max = dir->config->size_max_bytes, used, space;

	if (atomic_load(&dir->space_seen_ms) == 0)
		return -ENODATA;
	*total = atomic_load(&dir->total_bytes);
	space = atomic_load(&dir->free_bytes);
	if (size_max > 0) {
		lock_take(&dir->lock);
		used = dir->used_bytes;
		lock_drop(&dir->lock);
		*total = MIN(*total, size_max);
		space = MIN(space, size_max - MIN(used, size_max));
	}
	*free_bytes = space;
	return 0;
}

/* ---- mkfs ---- */

static int init_why(struct buf *why, const struct dir_backend *dir, int error, const char *text)
{
	buf_printf(why, "%s: %s", dir->config->path, text);
	return error;
}

static int init_errno(struct buf *why, const struct dir_backend *dir, const char *step)
{
	int err = errno;

	buf_printf(why, "%s: %s: %s", dir->config->path, step, err_sentence(err));
	return answer_of(err);
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
			strcmp(entry->d_name, TMP_DIR) != 0 &&
			strcmp(entry->d_name, MARKER_FILE) != 0 &&
			strcmp(entry->d_name, MARKER_NEW) != 0;
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
	unlinkat(root, MARKER_NEW, 0);
	fd = openat(root, MARKER_NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return init_errno(why, dir, "making " MARKER_NEW);
	if (write(fd, text.ptr, text.len) != (ssize_t)text.len || fsync(fd) < 0 ||
	    publish(root, MARKER_NEW, root, MARKER_FILE, !is_replacing) < 0) {
		int r = errno == EEXIST ? init_why(why, dir, -EEXIST, "somebody else took it")
					: init_errno(why, dir, "writing " MARKER_FILE);

		unlinkat(root, MARKER_NEW, 0);
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
	bool has_marker = faccessat(root, MARKER_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	int r;

	if (has_marker && marker_read(dir, root, &marker, &failure) < 0)
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
	if (mkdirat(root, TMP_DIR, 0700) < 0 && errno != EEXIST)
		return init_errno(why, dir, "making " TMP_DIR);
	r = marker_write(dir, root, fs_id, has_marker, why);
	return r < 0 ? r : init_sync(dir, root, why);
}

static int dir_init(struct backend *backend, const uint8_t *fs_id, struct buf *why)
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

/* ---- life ---- */

static void dir_close(struct backend *backend)
{
	struct dir_backend *dir = container_of(backend, struct dir_backend, base);

	atomic_store(&dir->is_closing, true);
	workers_stop(&dir->writers);
	workers_stop(&dir->readers);
	queue_release(&dir->write_queue);
	queue_release(&dir->read_queue);
	lock_release(&dir->enter_lock);
	lock_release(&dir->lock);
	mem_free(dir);
}

static int dir_open(const void *opaque, const char *name, struct buf *why,
		    struct backend **backend)
{
	const struct dir_config *config = opaque;
	struct dir_backend *dir;
	int r;

	(void)name;
	if (config->path[0] != '/') {
		buf_printf(why, "path: must be absolute, not \"%s\"", config->path);
		return -EINVAL;
	}
	dir = mem_alloc(sizeof(*dir));
	if (!dir)
		return -ENOMEM;
	dir->config = config;
	r = queue_init(&dir->write_queue, QUEUE_COUNT_MAX);
	if (r < 0)
		goto fail_dir;
	r = queue_init(&dir->read_queue, QUEUE_COUNT_MAX);
	if (r < 0)
		goto fail_write_queue;
	lock_init(&dir->enter_lock, LOCK_BACKEND);
	lock_init(&dir->lock, LOCK_LEAF);
	r = workers_start(&dir->writers, &dir->write_queue, (unsigned)config->workers_count,
			  "dir-write", dir_run, dir);
	if (r < 0)
		goto fail_locks;
	r = workers_start(&dir->readers, &dir->read_queue, (unsigned)config->readers_count,
			  "dir-read", dir_run, dir);
	if (r < 0)
		goto fail_writers;
	*backend = &dir->base;
	return 0;

fail_writers:
	workers_stop(&dir->writers);
fail_locks:
	lock_release(&dir->enter_lock);
	lock_release(&dir->lock);
	queue_release(&dir->read_queue);
fail_write_queue:
	queue_release(&dir->write_queue);
fail_dir:
	mem_free(dir);
	return r;
}

const struct backend_ops dir_ops = {
	.type = "dir",
	.options = dir_options,
	.config_size = sizeof(struct dir_config),
	.can = BACKEND_CAN_CREATE_ONLY | BACKEND_CAN_RANGE | BACKEND_CAN_ATOMIC_REPLACE,
	.open = dir_open,
	.submit = dir_submit,
	.close = dir_close,
	.init = dir_init,
	.bind = dir_bind,
	.space = dir_space,
};
