/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_MEMORY_H
#define SHARDFS_BACKENDS_MEMORY_H

/*
 * Objects in memory, for tests: the contract without a disk.  Requests are
 * answered before submit returns, or with `async` by one thread in the order
 * in which they came.  With `shared: NAME` the objects outlive the backend:
 * each later one with that name in this process has them (a remount).
 */

#include "backends/backend.h"

/* Forgets the objects of a shared name; nobody may have it open. */
void memory_forget(const char *shared);
/* Takes the store away and brings it back: requests find it absent meanwhile. */
void memory_set_absent(struct backend *backend, bool is_absent); /* any backend of the pile */
/* The time that answers tell from now on, in ms since 1970; 0: that of this machine. */
void memory_set_clock(struct backend *backend, int64_t clock_ms);
/* Changes one byte of a stored object in place; -ENOENT. */
int memory_damage(struct backend *backend, const char *key, uint64_t offset, uint8_t xor_mask);
size_t memory_object_count(struct backend *backend);

#endif
