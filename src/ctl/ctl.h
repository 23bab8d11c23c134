/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CTL_CTL_H
#define SHARDFS_CTL_CTL_H

/*
 * The filesystem side of the control channel: jobs, and one handler per verb.
 * A command of the admin tool is a row in the table of verbs (ctl_verbs.c).
 */

#include "ctl/shardfs_ioctl.h"
#include "store/store.h"

#include <jansson.h>

#define CTL_JOBS_MAX 64u

struct ctl;
struct ctl_job;

/* What verbs ask of the kernel, through the front door; called without locks, on threads of ctl. */
struct ctl_front {
	/* Has it write back what it holds of a file. */
	void (*write_back)(void *ctx, uint64_t ino);
	/* All files that are open for writing, referenced; *out is the caller's (mem_free).  -ENOMEM. */
	int (*list_written)(void *ctx, struct inode ***out, size_t *count);
	/* What it knows of this name, and of the directory, is old. */
	void (*entry_changed)(void *ctx, uint64_t dir, struct bytes name);
	void *ctx;
};

/*
 * owner_uid: of the mount, who may change things besides root.  front: copied; NULL: there is no
 * kernel.  Starts its threads.
 */
int ctl_open(struct store *store, uint32_t owner_uid, const struct ctl_front *front,
	     struct ctl **out);
void ctl_close(struct ctl *ctl); /* cancels jobs, waits for them; accepts NULL */

/*
 * ctl_handle - one ioctl.  Never waits: jobs run on threads of their own.
 * @inode: that the ioctl was issued on; referenced by the job while it runs.
 * @uid, @gid, @pid: of the caller; actions and what was denied go to the audit log with them.
 * @msg:   request and answer.
 * 0, or the errors of shardfs_ioctl.h; -ENOMEM.
 */
int ctl_handle(struct ctl *ctl, struct inode *inode, uint32_t uid, uint32_t gid, uint32_t pid,
	       struct shardfs_ctl *msg);

/* Exit codes of verbs: section A of the operators' contract, one table for the whole tool. */
enum ctl_exit {
	CTL_DONE = 0,
	CTL_FAILED = 1,  /* data loss confirmed, or the action failed outright */
	CTL_INVALID = 2, /* usage or file invalid; nothing changed */
	CTL_UNKNOWN = 3, /* state unknown; never reported as healthy */
	CTL_FINDING = 4, /* below goal, mismatch: recoverable */
	CTL_REFUSED = 5, /* by a safeguard; nothing changed */
	CTL_PARTIAL = 6, /* some items done; re-run continues */
	CTL_DENIED = 7,  /* authentication or authorisation */
};

/* ---- for verbs ---- */

enum ctl_kind { CTL_QUERY, CTL_CHECK, CTL_ACTION };

struct ctl_call {
	struct ctl *ctl;
	struct store *store;
	struct index_reader *reader; /* of this thread */
	struct inode *inode;
	uint32_t uid;
	const json_t *args;
	json_t *answer; /* an object; the common keys are there */
	struct ctl_job *job;
};

struct ctl_verb {
	const char *name;
	enum ctl_kind kind;
	bool needs_owner; /* the owner of the mount or root */
	enum ctl_exit (*run)(struct ctl_call *call);
	const char *help;
};

/* One of the tables (ctl_private.h); NULL: there is no such verb. */
const struct ctl_verb *ctl_find_verb(const char *name);

/* The failure of a verb: sets "ok": false and "error": text; returns code. */
enum ctl_exit ctl_fail(struct ctl_call *call, enum ctl_exit code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Replaces the progress that polls see; takes progress. */
void ctl_progress(struct ctl_call *call, json_t *progress);
bool ctl_is_cancelled(struct ctl_call *call);
bool ctl_is_stopping(struct ctl *ctl);
struct store *ctl_store(struct ctl *ctl);
const struct ctl_front *ctl_front(struct ctl *ctl);
/* Sleeps at most ms; earlier when the job is cancelled. */
void ctl_pause(struct ctl_call *call, uint64_t ms);

#endif
