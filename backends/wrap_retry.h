/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_WRAP_RETRY_H
#define SHARDFS_BACKENDS_WRAP_RETRY_H

/*
 * Tries again what failed with -EAGAIN, later each time: before attempt n+1 it
 * waits a random time of 0 .. min(wait_max_ms, wait_ms << (n - 1)), or
 * retry_after_ms when the provider said so (at most wait_max_ms).  Not an
 * absent store: that does not come back within seconds, and the caller wants
 * to know.  Canceling a waiting request answers it at once.
 */

#include "backends/backend.h"

struct retry_config {
	uint64_t attempts_count; /* in all, 1 .. 20 */
	uint64_t wait_ms, wait_max_ms;
};
#define RETRY_DEFAULTS {.attempts_count = 5, .wait_ms = 200, .wait_max_ms = 30 * SECOND}

/* Takes inner; closing the wrapper closes it.  -ENOMEM, -EAGAIN: inner stays the caller's. */
int retry_wrap(struct backend *inner, const struct retry_config *config, struct backend **backend);

/* Tests with a frozen clock: look at the clock again after clock_test_advance(). */
void retry_clock_moved(struct backend *backend);
/* Requests that wait for their next attempt; any backend of the pile. */
size_t retry_waiting_count(struct backend *backend);

#endif
