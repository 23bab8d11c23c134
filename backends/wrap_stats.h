/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_WRAP_STATS_H
#define SHARDFS_BACKENDS_WRAP_STATS_H

/*
 * Counts what a provider answers and how long it takes.  One attempt is one
 * request here: the retry and limit wrappers sit outside, so waiting in them
 * is not counted.  One leaf lock, held for some nanoseconds.
 *
 * -ENOENT, -EEXIST, -ENOMEDIUM and -ECANCELED are answers, not failures: the
 * provider is well.
 */

#include "backends/backend.h"

struct backend_op_stats {
	uint64_t started, ok, failed; /* attempts; failed: see above */
	uint64_t bytes;		      /* PUT, GET: moved by answers of 0 */
	uint64_t p50_us, p95_us, p99_us; /* of answers of 0, recent ones weigh more; 0: none yet */
	uint64_t mean_us;		 /* moving average of answers of 0 */
};

struct backend_stats {
	struct backend_op_stats op[BACKEND_OP_COUNT];
	uint32_t inflight;
	uint32_t health_permille;   /* moving share of attempts that went well; 1000 at the start */
	uint32_t failures_in_row;   /* 0 after any that went well */
	bool is_absent;		    /* as of the last answer */
	int last_error;		    /* of the last failure; 0: none yet */
	char last_cause[BACKEND_CAUSE_SIZE];
	uint64_t last_ok_mono_ms;   /* 0: never */
	uint64_t last_fail_mono_ms; /* 0: never */
	uint64_t errors_absent, errors_again, errors_access, errors_space, errors_badmsg, errors_io;
};

/* Takes inner; closing the wrapper closes it.  -ENOMEM: inner stays the caller's. */
int stats_wrap(struct backend *inner, struct backend **backend);
/* Any thread, any backend of the pile.  -ENOENT: no stats wrapper in it. */
int backend_stats(struct backend *backend, struct backend_stats *stats);
/* The p95 of GET alone, cheap: when to ask a second copy.  0: not known. */
uint64_t backend_get_p95_us(struct backend *backend);

#endif
