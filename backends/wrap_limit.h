/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_WRAP_LIMIT_H
#define SHARDFS_BACKENDS_WRAP_LIMIT_H

/*
 * Bounds what one provider is asked at a time: requests under way, and bytes
 * a second each way.  A request pays before it passes: it waits until its
 * bytes have been earned, so from the first request after a pause on, never
 * more than rate * time goes through, whatever the sizes.  A GET whose length
 * is not known passes when nothing is owed, and owes what it got.  What may
 * not pass yet waits in order, at most `queue_count` of them; then submit
 * answers -EAGAIN.
 */

#include "backends/backend.h"

struct limit_config {
	uint64_t upload_bytes_per_s, download_bytes_per_s; /* 0: unlimited */
	uint64_t inflight_count;			   /* 1 .. 1024 */
	uint64_t queue_count;				   /* 0 .. 65536 */
};
#define LIMIT_DEFAULTS {.inflight_count = 64, .queue_count = 1024}

/* Takes inner; closing the wrapper closes it.  -ENOMEM, -EAGAIN: inner stays the caller's. */
int limit_wrap(struct backend *inner, const struct limit_config *config, struct backend **backend);

/* Live change and look; any thread, any backend of the pile.  What was earned is forgotten by a
 * change.  -ENOENT: no limit wrapper in it. */
int backend_limits_set(struct backend *backend, const struct limit_config *config);
int backend_limits_get(struct backend *backend, struct limit_config *config);

/* Tests with a frozen clock: look at the clock again after clock_test_advance(). */
void limit_clock_moved(struct backend *backend);

#endif
