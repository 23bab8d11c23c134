/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_WRAP_FAULT_H
#define SHARDFS_BACKENDS_WRAP_FAULT_H

/*
 * Fails chosen requests.  For tests; mounts have it only in builds with
 * SHARDFS_TEST_HOOKS and the setting fault_file.
 *
 * Rules are asked in the order in which they were added; the first that fits
 * acts.  A rule fits a request by operation, key prefix, and by its own count
 * of requests that fitted so far (from `nth`, for `count` of them).
 */

#include "backends/backend.h"

enum fault_mode {
	FAULT_UNTAKEN, /* submit answers `error`; nothing happens */
	FAULT_ERROR,   /* done with `error`; nothing happens */
	FAULT_LANDED,  /* PUT, DELETE: it happens; done with `error` all the same */
	FAULT_LATE,    /* it happens at once; done waits for fault_release */
	FAULT_STALL,   /* waits for fault_release, then happens and is answered */
	FAULT_LANDS_LATE, /* done with `error` at once; PUT, DELETE: happens at fault_release */
	FAULT_CORRUPT, /* GET: one bit of what was read is flipped */
	FAULT_TRUNCATE, /* GET: the last byte is missing (into: zeroed; got is one less) */
	FAULT_SWAP,    /* GET: the bytes of the previous GET of the same length, another key */
	FAULT_ABSENT,  /* done with -EAGAIN and is_absent; nothing happens */
};

struct fault_rule {
	enum fault_mode mode;
	unsigned ops;	       /* BIT(op) set; 0: all */
	char prefix[BACKEND_KEY_MAX + 1]; /* of the key; "": all */
	uint64_t nth;	       /* first request that it acts on, from 1; 0 is 1 */
	uint64_t count;	       /* how many; 0: all from there on */
	int error;	       /* negative; of the closed list */
	uint32_t retry_after_ms;
};

/* Takes inner; closing the wrapper closes it.  control_path: NULL, or a file of rules that is
 * read again at each request after it changed (copied).  -ENOMEM, -EAGAIN: inner stays the
 * caller's. */
int fault_wrap(struct backend *inner, const char *control_path, struct backend **backend);

/* All of these: any thread, any backend of the pile; a pile without faults ignores them. */
int fault_add(struct backend *backend, const struct fault_rule *rule); /* -ENOMEM, -ENOENT */
void fault_clear(struct backend *backend); /* all rules; what is held stays held */
/* Lets go what LATE, STALL and LANDS_LATE hold; returns how many. */
size_t fault_release(struct backend *backend);
size_t fault_held_count(struct backend *backend);
/* Waits until at least `count` requests are held. */
void fault_wait_held(struct backend *backend, size_t count);
uint64_t fault_fired_count(struct backend *backend); /* requests that a rule acted on */
uint64_t fault_seen_count(struct backend *backend, enum backend_op op); /* submitted */

/*
 * fault_parse - one line of a control file:
 *	OP MODE [error=NAME] [prefix=TEXT] [nth=N] [count=N] [after=MS]
 * OP: PUT GET HEAD DELETE LIST RESTORE *; MODE: untaken error landed late
 * stall lands-late corrupt truncate swap absent, or the short forms EIO
 * EAGAIN EACCES enospc ENOENT (an error with that answer).  "PUT error EIO"
 * is taken too.  Empty lines and '#' comments: 1.  -EINVAL.
 */
int fault_parse(const char *line, struct fault_rule *rule);

#endif
