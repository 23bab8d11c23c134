/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_DIR_H
#define SHARDFS_BACKENDS_DIR_H

/*
 * Private to dir*.c: dir.c has the idea, the life and the dispatch.  `root` is
 * always the store's root, opened by dir_enter() for one request; a function
 * that fails fills `failure` and returns its error, one of the closed list.
 */

#include "backends/backend.h"
#include "backends/marker.h"

#include "util/lock.h"
#include "util/queue.h"

#include <sys/stat.h>
#include <sys/types.h>

#define DIR_MARKER     ".shardfs-provider"
#define DIR_MARKER_NEW ".shardfs-provider.new"
#define DIR_TMP	       ".tmp" /* objects being written */
#define DIR_HEX_DIGITS "0123456789abcdef"
#define DIR_DEPTH_MAX  16 /* directories below each other that are looked into */

struct dir_config {
	char *path;
	uint64_t workers_count, readers_count;
	bool fsync;
	uint64_t size_max_bytes;
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
	/* Directories whose own names are known to be durable, by their first two digits; "index". */
	uint8_t is_dir_named[32];
	bool is_index_named;
	uint64_t used_bytes; /* with size_max: of all objects, and of PUTs under way */

	_Atomic uint64_t total_bytes, free_bytes, space_seen_ms; /* 0: not yet */
};

/* Why a step failed; becomes the answer. */
struct failure {
	int error;
	bool is_absent;
	char cause[BACKEND_CAUSE_SIZE];
};

int dir_fail(struct failure *failure, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* -EAGAIN, absent; text says why. */
int dir_fail_absent(struct failure *failure, const char *path, const char *text);
/* A system call on the store failed with errno while doing `step`. */
int dir_fail_errno(struct failure *failure, const struct dir_backend *dir, const char *step);
int dir_answer_of(int err); /* errno to the closed list */
/* r: of HOOK(), where a test may make a step fail. */
int dir_hooked(const struct dir_backend *dir, int r, struct failure *failure);

/* Opens the store's root when it is present; *root is the caller's to close. */
int dir_enter(struct dir_backend *dir, int *root, struct failure *failure);
int dir_marker_read(const struct dir_backend *dir, int root, struct marker *marker,
		    struct failure *failure);
/* Notes what the disk can take; at most once a second unless forced. */
void dir_space_look(struct dir_backend *dir, int root, bool is_forced);

/* 32 lower-case hex digits: lies in the directory of its first two. */
bool dir_is_shard_name(const char *name);
void dir_wall_of(struct timespec t, struct wall_time *wall);
/* Gives a finished file its name: 0, or -1 and errno (EEXIST). */
int dir_publish(int root, const char *tmp, int parent, const char *name, bool is_create_only);

int dir_put(struct dir_backend *dir, int root, struct backend_req *req, struct failure *failure);
int dir_get(struct dir_backend *dir, int root, struct backend_req *req, struct failure *failure);
int dir_head(struct dir_backend *dir, int root, struct backend_req *req, struct failure *failure);
int dir_delete(struct dir_backend *dir, int root, struct backend_req *req, struct failure *failure);
int dir_list(struct dir_backend *dir, int root, struct backend_req *req, struct failure *failure);

int dir_init(struct backend *backend, const uint8_t *fs_id, struct buf *why);
void dir_bind(struct backend *backend, const uint8_t *fs_id);

#endif
