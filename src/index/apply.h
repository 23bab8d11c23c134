/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_APPLY_H
#define SHARDFS_INDEX_APPLY_H

/*
 * What changes mean, in terms of an engine's rows.  The same for replay,
 * recovery, followers and every engine.  Belongs to the applier's thread.
 */

#include "index/engine.h"

struct apply;

/* conn is the engine's writer: borrowed. */
int apply_new(struct engine_conn *conn, struct apply **out);
void apply_free(struct apply *apply);

/* As of the last batch. */
const struct engine_meta *apply_meta(const struct apply *apply);

/*
 * apply_batch - applies records in one transaction.  They ascend by seq, beyond the last
 * batch.  -EBADMSG, -EPROTONOSUPPORT: a record is damaged or newer; and the engine's errors:
 * nothing of the batch is stored, and it can be tried again.
 */
int apply_batch(struct apply *apply, struct record *const *records, size_t count);

#endif
