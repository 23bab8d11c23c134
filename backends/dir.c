/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/dir.h"

#include "util/hook.h"
#include "util/mem.h"

#include <errno.h>

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
 * Order of durable steps of a PUT: the directory and its name (once for each
 * process and store), write .tmp/X, fdatasync, link or rename it to its name,
 * fsync the directory; answer.
 * INVARIANT: whatever is answered as being there (PUT, GET, HEAD, LIST) is there
 * after a power loss.  What a killed process had named and not synced is synced
 * when the store is entered for the first time.  A writer holds a flock on X, so
 * what can be locked there is the leftover of a crash and is removed when a
 * store is entered for the first time.
 *
 * Two small pools of threads: one for PUT and DELETE, one for what reads, so
 * that a read does not wait behind a backlog of uploads.
 */

#define QUEUE_COUNT_MAX 1024

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

/* ---- requests ---- */

static int run_op(struct dir_backend *dir, int root, struct backend_req *req,
		  struct failure *failure)
{
	switch (req->op) {
	case BACKEND_PUT:
		return dir_put(dir, root, req, failure);
	case BACKEND_GET:
		return dir_get(dir, root, req, failure);
	case BACKEND_DELETE:
		return dir_delete(dir, root, req, failure);
	case BACKEND_LIST:
		return dir_list(dir, root, req, failure);
	default: /* a RESTORE has nothing to do: it only must be there */
		return dir_head(dir, root, req, failure);
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
	r = dir_enter(dir, &root, &failure);
	if (r == 0)
		r = dir_hooked(dir, request_hook(req->op), &failure);
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

void dir_bind(struct backend *backend, const uint8_t *fs_id)
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
