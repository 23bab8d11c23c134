/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SEQUENCER_H
#define SHARDFS_STORE_SEQUENCER_H

/*
 * Gives records their order, makes them visible (index_note), appends them to
 * the journal in batches, has them synced, and passes them to the applier.
 *
 *   submitted -> noted in the overlay -> written (journal, no sync)
 *             -> synced (spool bytes, then journal, then mark) -> applied
 *
 * Invariant: the index on disk never holds a record that the journal could
 * lose: only synced records are applied.  The applier asks for a sync itself
 * when commit_interval_ms has passed or the backlog reaches its bound.
 *
 * Three threads of its own: the sequencer (journal's appending end; never a
 * sync), the syncer, the applier.
 *
 * When the journal can not be written (-ENOSPC, -EIO) records wait and are
 * tried again each second; meanwhile new submits fail with that error, so that
 * nothing is acknowledged; it clears when writing succeeds.
 */

#include "index/index.h"
#include "store/journal.h"
#include "util/waiter.h"

struct sequencer;

struct sequencer_settings {
	struct index *index;
	struct journal *journal;
	uint64_t next_seq;
	uint64_t commit_interval_ms;
	uint64_t backlog_records_max; /* not applied; beyond it submits are told to wait */
	uint64_t backlog_bytes_max;
	/* Makes durable every spool byte that records up to now name.  Called by the syncer. */
	int (*sync_spool)(void *ctx);
	/* Told after each applied batch (for caches, the spool, tests); applier thread. */
	void (*applied)(void *ctx, uint64_t seq);
	void *ctx;
};

int sequencer_start(const struct sequencer_settings *settings, struct sequencer **out);
/* Writes, syncs and applies everything, then ends the threads.  Returns the first failure. */
int sequencer_stop(struct sequencer *sequencer);
void sequencer_free(struct sequencer *sequencer); /* after stop; or without it: drops what waits */

/*
 * sequencer_submit - takes the record (also on failure), gives it its number.
 * Once it returns 0 the record is visible through the index.  Never waits.
 * -ENOMEM, -ENOSPC, -EIO, -EROFS: not taken, nothing visible.
 * May be called with inode locks held (rank LOCK_SEQUENCER).
 */
int sequencer_submit(struct sequencer *sequencer, struct record *record, uint64_t *seq);

/*
 * sequencer_admit - 0: go ahead; -EAGAIN: the backlog is over its bound and `waiter` will be
 * called (with 0) when there is room.  Callers ask before they begin a changing operation.
 */
int sequencer_admit(struct sequencer *sequencer, struct waiter *waiter);

uint64_t sequencer_last_seq(struct sequencer *sequencer); /* submitted */
uint64_t sequencer_synced_seq(struct sequencer *sequencer);

/* Calls waiter->done when records up to seq are written to the journal (not synced). */
void sequencer_when_written(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter);
/* ... when they are durable.  Concurrent waiters share the syncs. */
void sequencer_when_synced(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter);
/* ... when they are in the engine (syncs and applies at once, without the interval). */
void sequencer_when_applied(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter);
/* The same three, waiting. For threads that may wait. */
int sequencer_wait_written(struct sequencer *sequencer, uint64_t seq);
int sequencer_wait_synced(struct sequencer *sequencer, uint64_t seq);
int sequencer_wait_applied(struct sequencer *sequencer, uint64_t seq);

#endif
