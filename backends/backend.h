/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_BACKEND_H
#define SHARDFS_BACKENDS_BACKEND_H

/*
 * THE CONTRACT of the providers.
 *
 * A backend stores whole objects under short keys and knows nothing of
 * chunks, files or encryption.  One verb carries all work: backend_submit().
 * Retries, rate limits, statistics and faults are wrappers around any
 * backend (wrap_*.h) and speak the same contract; stack.h builds the usual
 * pile from one provider's settings.
 *
 * Rules that every backend keeps (tests/lib/backend_conformance.c):
 *  - open checks settings and allocates, without I/O: a mount succeeds while
 *    a provider is down.
 *  - submit may be called on any thread and never waits for the provider.
 *  - a taken request is answered exactly once, by req->done, on a thread of
 *    the backend or on the submitting thread before submit returns.  done
 *    only hands over: it may submit to and cancel on any backend, and must
 *    not wait for one, nor close one.
 *  - PUT is atomic: a reader sees the old object, the new one or none, never
 *    a part; durable and readable once answered with 0.  A PUT that failed
 *    may have landed; repeating it with the same bytes is safe.
 *  - DELETE of nothing succeeds.  A DELETE that failed may have landed.
 *  - LIST may miss or repeat keys that change meanwhile; others it gives
 *    exactly once.
 *  - a request that failed leaves the caller's results as they were (error,
 *    cause, retry_after_ms, is_absent, server_ms apart; bytes at `into` are undefined).
 *
 * Present and absent.  A store belongs to one file system under one name:
 * backend_init() leaves a marker that says so.  A store whose marker cannot be
 * seen, or names another owner, is absent: every request is answered with
 * -EAGAIN, is_absent and a cause, never with -ENOENT or an empty LIST.  HEAD
 * of any key is a cheap probe: 0 and -ENOENT mean present.
 *
 * Time.  A store on other machines has a clock that nobody on this one can set;
 * locks until a date are judged by the clocks of several.  A backend that hears
 * such a clock (the Date of an HTTP answer) says BACKEND_CAN_TELL_TIME and gives
 * it with the answers that carried it, in server_ms: also with failures, as long
 * as it is the store that answered and the connection is authenticated; never
 * from a cache, and never the time of this machine.  One that cannot (a
 * directory) leaves 0.
 *
 * Answers, a closed list:
 *	0
 *	-ENOENT     no such object
 *	-EEXIST     create-only PUT: there is one already
 *	-EAGAIN     transient; retry_after_ms may say when; is_absent: see above
 *	-EACCES     credentials, permissions, read-only
 *	-ENOSPC     full, quota
 *	-ENOMEDIUM  archived: RESTORE first
 *	-EBADMSG    the object is not as long as the request needs, or the
 *	            transport's checksum differs
 *	-ECANCELED  canceled, or the backend was closed
 *	-EIO        anything else; final
 */

#include "util/buf.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/option.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct backend;
struct backend_req;

#define BACKEND_KEY_MAX	       200 /* bytes, NUL not counted */
#define BACKEND_NAME_MAX       64
#define BACKEND_CAUSE_SIZE     160
#define BACKEND_CURSOR_SIZE    1024
#define BACKEND_FS_ID_SIZE     16
#define BACKEND_LIST_MAX       10000u	     /* entries of one LIST answer */
#define BACKEND_BODY_BYTES_MAX (1024 * 1024 * 1024ull)
#define BACKEND_FRAMES_MAX     6 /* wrappers above one backend */

enum backend_op {
	BACKEND_PUT,
	BACKEND_GET,
	BACKEND_HEAD,
	BACKEND_DELETE,
	BACKEND_LIST,
	BACKEND_RESTORE, /* thaw; 0: asked for or not needed; HEAD tells when it is done */
	BACKEND_OP_COUNT,
};

enum backend_tier { BACKEND_HOT, BACKEND_WARM, BACKEND_COLD, BACKEND_ARCHIVE, BACKEND_TIER_COUNT };

/* PUT: fail with -EEXIST when there is an object (atomically: one winner).
 * Without it a PUT replaces what is there; only the superblock and healing do. */
#define BACKEND_CREATE_ONLY (1u << 0)
/* GET: the last `len` bytes (all of a shorter object); offset must be 0. */
#define BACKEND_TAIL (1u << 1)

#define BACKEND_TO_END UINT64_MAX /* GET: len */

struct backend_entry {
	char key[BACKEND_KEY_MAX + 1];
	uint8_t tier; /* enum backend_tier */
	uint64_t size;
	struct wall_time mtime;
};

/* One page of a LIST; the caller's.  Reusable from page to page. */
struct backend_list {
	struct backend_entry *entries;
	size_t count, capacity;
	char cursor[BACKEND_CURSOR_SIZE]; /* opaque; "" when this was the last page */
};
#define BACKEND_LIST_INIT {0}
void backend_list_release(struct backend_list *list);

/* Private to backends and wrappers: one layer's memory of a request. */
struct backend_frame {
	struct backend *owner;
	uint64_t word[3];
};

/*
 * A request.  Start with BACKEND_REQ_INIT or zeroes, fill the first part, and
 * leave it alone from submit until done.  It may be submitted again after
 * done.  key, cursor, body and the places of the results are borrowed until
 * done runs; done may free the request.
 */
struct backend_req {
	enum backend_op op;
	unsigned flags;
	const char *key;      /* LIST: prefix, "" for all */
	struct bytes body;    /* PUT; len 0 is an empty object */
	uint64_t offset, len; /* GET: exactly `len` bytes from offset, or BACKEND_TO_END */
	/* GET: where the bytes go: `into` holds len bytes (never with
	 * BACKEND_TO_END); when NULL they are appended to *out. */
	uint8_t *into;
	struct buf *out;
	const char *cursor;	   /* LIST: NULL or "" for the first page; may be list->cursor */
	uint32_t entries_max;	   /* LIST: 1 .. BACKEND_LIST_MAX; 0: 1000 */
	struct backend_list *list; /* LIST: replaced by the page */
	void (*done)(struct backend_req *req);
	void *ctx; /* the caller's */

	/* the answer */
	int error;
	char cause[BACKEND_CAUSE_SIZE]; /* a clause for people when error != 0; names no secret */
	bool is_absent;			/* with -EAGAIN */
	uint32_t retry_after_ms;	/* with -EAGAIN; 0: not said */
	uint64_t got;			/* GET: bytes delivered */
	uint64_t size;			/* GET, HEAD: length of the whole object */
	struct wall_time mtime;		/* HEAD */
	enum backend_tier tier;		/* HEAD */
	bool is_restoring;		/* HEAD: archived, and a RESTORE is under way */
	int64_t server_ms; /* the store's own clock when it answered, ms since 1970; 0: not told */

	/* private to the layers */
	struct list link; /* in the queue of the layer that holds it */
	atomic_bool is_canceled;
	unsigned frame_count;
	struct backend_frame frames[BACKEND_FRAMES_MAX];
};
#define BACKEND_REQ_INIT {0}

/* What a backend can do; from the type, or proven by backend_init. */
#define BACKEND_CAN_CREATE_ONLY	   (1u << 0) /* one winner, proven */
#define BACKEND_CAN_RANGE	   (1u << 1) /* GET moves only the asked bytes */
#define BACKEND_CAN_ATOMIC_REPLACE (1u << 2)
#define BACKEND_CAN_TIERS	   (1u << 3) /* objects may be archived */
#define BACKEND_CAN_TELL_TIME	   (1u << 4) /* answers have server_ms; see above */

/* One setting as the configuration file has it; line 0: not from a file. */
struct backend_setting {
	const char *key, *value;
	unsigned line;
};

/*
 * backend_open - make a backend; no I/O.
 * @type:     "dir", "memory", ... (backend_type_next lists them).
 * @settings: copied.  Unknown keys, values out of range and missing required keys fail.
 * @name:     of the provider, 1 .. BACKEND_NAME_MAX of [A-Za-z0-9._-]; copied.
 * @why:      on failure receives one line: "line 12: workers: must be 1 .. 64"
 *            (no "line" part without a line number).
 *
 * Returns 0; -EINVAL; -ERANGE; -ENOMEM; -EAGAIN (no threads).
 */
int backend_open(const char *type, const struct backend_setting *settings, size_t setting_count,
		 const char *name, struct buf *why, struct backend **backend);

/*
 * backend_close - cancel what is under way, wait for the last done, free.
 * Accepts NULL.  Nobody may use the backend any more.  Not from done.
 */
void backend_close(struct backend *backend);
static inline void __attribute__((unused)) backend_closep(struct backend **backend)
{
	backend_close(*backend);
}
#define AUTO_BACKEND __attribute__((cleanup(backend_closep), unused)) struct backend *

/*
 * backend_init - make the store this file system's: create what is missing,
 * leave the marker, prove capabilities.  Waits for I/O; for mkfs and tests.
 *
 * Returns 0, also when the store already has this fs_id and the backend's
 * name; -EEXIST when it belongs to another file system or provider, or holds
 * something else (a store that holds a marker and no object at all is taken
 * over: an earlier mkfs did not get far); or an answer of the closed list.
 * `why` receives one line then, and nothing was changed.  Binds on success.
 */
int backend_init(struct backend *backend, const uint8_t fs_id[BACKEND_FS_ID_SIZE], struct buf *why);
/*
 * backend_bind - from now on only a store with this fs_id and the backend's
 * name is present.  Before, any marker counts as present (recovery reads the
 * superblock first to learn the id).  No I/O, any thread.
 */
void backend_bind(struct backend *backend, const uint8_t fs_id[BACKEND_FS_ID_SIZE]);

/*
 * backend_submit - hand over a request.
 *
 * Returns 0: taken, done will run once or has run: do not touch req any more
 * unless done told you that it did.  Negative: not taken, done never runs:
 * -EAGAIN too much is queued (or no memory), -EINVAL the request is malformed
 * (key, flags, range, sizes), others of the closed list.  Any thread.
 */
int backend_submit(struct backend *backend, struct backend_req *req);

/*
 * backend_cancel - a hint; done still runs, with -ECANCELED or as if it had
 * not been canceled.  req must stay valid memory until this returns, and have
 * been submitted to this same backend.  Any thread.
 */
void backend_cancel(struct backend *backend, struct backend_req *req);

/*
 * backend_run - submit and wait; for tools and tests, and for threads that may
 * wait.  done and ctx of req are overwritten.  Returns the answer, which is
 * also in req->error; req->cause is set in each case of failure.
 */
int backend_run(struct backend *backend, struct backend_req *req);

const char *backend_name(const struct backend *backend);
const char *backend_type(const struct backend *backend); /* of the innermost */
unsigned backend_can(const struct backend *backend);	 /* BACKEND_CAN_ bits */
/*
 * backend_space - what the store holds in all and what it can still take, in
 * bytes, as last seen: no I/O.  -ENODATA: not known (yet), or unlimited.
 */
int backend_space(const struct backend *backend, uint64_t *total_bytes, uint64_t *free_bytes);

/*
 * 1 .. BACKEND_KEY_MAX of [A-Za-z0-9._/-]; no empty component, none that
 * starts with '.', no slash at either end; the first component of several is
 * not two lower-case hex digits (where a directory fans out), nor is a key of
 * one component.  No key may be another one's directory.
 */
bool backend_key_is_valid(const char *key);
const char *backend_op_name(enum backend_op op);       /* "PUT" */
const char *backend_tier_name(enum backend_tier tier); /* "hot" */

/* Types: NULL first, NULL at the end.  The table of a type's settings; NULL: unknown type. */
const char *backend_type_next(const char *type);
const struct option_spec *backend_type_options(const char *type);
unsigned backend_type_can(const char *type); /* BACKEND_CAN_ bits that the type has; 0: unknown */

/* ---- for backends and wrappers only ---- */

/*
 * One implementation.  A new provider is one .c file that defines these and
 * one line in the table of backend.c.  submit has a checked request with a
 * clean answer; it ends in backend_answer().
 */
struct backend_ops {
	const char *type;
	const struct option_spec *options; /* NULL for wrappers */
	size_t config_size;
	unsigned can;
	/* config: zeroed, filled from the options, owned by the caller and valid
	 * until close has returned. */
	int (*open)(const void *config, const char *name, struct buf *why,
		    struct backend **backend);
	int (*submit)(struct backend *backend, struct backend_req *req);
	void (*cancel)(struct backend *backend, struct backend_req *req); /* NULL: flag only */
	void (*close)(struct backend *backend);				  /* frees backend */
	int (*init)(struct backend *backend, const uint8_t *fs_id, struct buf *why);
	void (*bind)(struct backend *backend, const uint8_t *fs_id);
	int (*space)(const struct backend *backend, uint64_t *total, uint64_t *free_bytes);
	/*
	 * Wrappers: an answer comes back (req->error and the rest are set).
	 * frame is the wrapper's own, already popped.  Ends in backend_pass_on()
	 * or in another submit of the inner one.
	 */
	void (*answered)(struct backend *backend, struct backend_req *req,
			 struct backend_frame frame);
};

struct backend {
	const struct backend_ops *ops;
	struct backend *inner; /* wrappers: owned */
	char *name;
	void *config; /* owned; NULL for wrappers */
};

/* Wrappers: fill base; takes inner.  -ENOMEM: inner stays the caller's. */
int backend_wrap_init(struct backend *base, const struct backend_ops *ops, struct backend *inner);
void backend_wrap_release(struct backend *base); /* after inner was closed */
/* Wrappers, in submit: the answer is to come back through ops->answered. */
struct backend_frame *backend_push(struct backend *owner, struct backend_req *req);
void backend_pop(struct backend_req *req); /* when the inner one did not take it */
/* Pass the request inward without the checks of backend_submit. */
int backend_submit_inner(struct backend *owner, struct backend_req *req);
/* Leaves: answer a request.  format NULL: the sentence of error.  req is gone afterwards. */
void backend_answer(struct backend_req *req, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Wrappers: on to the next layer outward, or to done.  req is gone afterwards. */
void backend_pass_on(struct backend_req *req);
/* Resets the answer before another attempt. */
void backend_clear_answer(struct backend_req *req);
/* The wrapper of that type in a pile, or the leaf; NULL. */
struct backend *backend_find(struct backend *backend, const char *type);
/* Room for one more entry, zeroed; NULL on -ENOMEM.  The entry is not counted yet. */
struct backend_entry *backend_list_next(struct backend_list *list);
/*
 * backend_settings_read - defaults, then each setting into its member of target.
 * -EINVAL, -ERANGE, -ENOMEM: one line in `why`; target is to be released.
 */
int backend_settings_read(const struct option_spec *table, const struct backend_setting *settings,
			  size_t setting_count, void *target, struct buf *why);

#endif
