/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_WAITER_H
#define SHARDFS_UTIL_WAITER_H

/*
 * Something that is told once, later, how it ended.  Embedded in the request
 * that waits (use container_of).  `done` runs exactly once, on the thread that
 * finished the work, perhaps before the call that took the waiter returns, and
 * never with a lock of the caller held; it hands over and does not wait.
 */
struct waiter {
	void (*done)(struct waiter *waiter, int error);
	struct waiter *next; /* for whoever keeps the waiter */
};

#endif
