/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_PENDING_H
#define SHARDFS_UTIL_PENDING_H

/*
 * Waiting on this thread for what a waiter will be told:
 *
 *	struct pending pending;
 *
 *	pending_init(&pending);
 *	store_sync(store, &pending.waiter);
 *	r = pending_wait(&pending);
 *
 * For threads that may wait, without locks.  When the waiter was not taken, pending_release.
 */

#include "util/lock.h"
#include "util/waiter.h"

#include <stdbool.h>

struct pending {
	struct waiter waiter;
	struct lock lock; /* LOCK_LEAF: guards the rest */
	struct cond cond;
	bool is_done;
	int error;
};

void pending_init(struct pending *pending);
/* Until it is told; what it was told.  Released then. */
int pending_wait(struct pending *pending);
void pending_release(struct pending *pending);

#endif
