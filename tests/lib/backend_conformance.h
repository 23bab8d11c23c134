/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_LIB_BACKEND_CONFORMANCE_H
#define SHARDFS_TESTS_LIB_BACKEND_CONFORMANCE_H

/*
 * What every backend must keep, whatever lies behind it.  A broken promise
 * prints what was expected and aborts, so that the suite serves Criterion
 * tests and plain programs under ThreadSanitizer alike.
 *
 *	static struct backend *open_mine(void *arg) { ... }
 *	conformance_run(open_mine, arg);
 */

#include "backends/backend.h"

/* A fresh, empty store, opened under CONFORMANCE_NAME and not yet initialised; the suite closes it. */
typedef struct backend *conformance_open_fn(void *arg);
#define CONFORMANCE_NAME "conformance"

struct conformance_case {
	const char *promise;
	void (*run)(struct backend *backend); /* closes it */
};
extern const struct conformance_case conformance_cases[]; /* ends with promise NULL */

/* All cases, each on a store of its own that belongs to conformance_fs_id. */
void conformance_run(conformance_open_fn *open, void *arg);
extern const uint8_t conformance_fs_id[BACKEND_FS_ID_SIZE];

#endif
