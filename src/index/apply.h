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

/*
 * apply_restore - the rows of a dump into a new index; every record counts as number seq, again and
 * again (seq is not below the last batch's).  apply_raise_highest ends it: numbers that were given
 * and whose rows are gone stay given.
 */
int apply_restore(struct apply *apply, uint64_t seq, struct record *const *records, size_t count);
int apply_raise_highest(struct apply *apply, const struct index_highest *highest);

#endif
