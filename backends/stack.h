/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_STACK_H
#define SHARDFS_BACKENDS_STACK_H

/*
 * The usual pile for one provider, outermost first: retry, limit, stats,
 * [fault], the backend itself.
 */

#include "backends/backend.h"

/*
 * backend_open_stack - like backend_open, but settings may also hold the keys
 * of backend_stack_options (attempts, wait, upload, download, inflight, ...).
 * The same errors, and the same one line in `why`.
 * A key is looked up in the stack's table first, then in the type's.
 */
int backend_open_stack(const char *type, const struct backend_setting *settings,
		       size_t setting_count, const char *name, struct buf *why,
		       struct backend **backend);

/* Settings that every type of provider takes. */
extern const struct option_spec backend_stack_options[];

#endif
