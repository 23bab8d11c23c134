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
 * when commit_interval_ms has passed or the backlog is half full.
 *
 * Three threads of its own: the sequencer (writes what nobody waits for, a few
 * ms later), the syncer, the applier.  Whoever wants `written` appends to the
 * journal itself, for all that wait, unless somebody else is at it: no switch
 * of threads lies between a FLUSH and its answer.
 *
 * WHEN THE JOURNAL CAN NOT BE WRITTEN OR SYNCED (-ENOSPC, -EIO)
 * - Records that were submitted before stay visible, keep their numbers and
 *   wait in memory; they are tried again every retry_ms until they are durable.
 * - Whoever waits for written, synced or applied of one of them, or asks
 *   meanwhile, is told the error at once.  It says "not durable yet", not
 *   "never": ask again later.
 * - New submits fail with that error and have no effect, so that nothing more
 *   is acknowledged.  All of it clears when a retry succeeds.
 * - After a failed sync everything behind the last synced record is appended
 *   again to a new file: what the kernel may have dropped is never trusted.
 * When the index can not be written, records wait in the overlay; once the
 * backlog is full sequencer_admit tells the error.
 * A death of the process loses what was not written: those that were told 0 for
 * written, synced or applied lose nothing.
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
	uint64_t retry_ms; /* 0: 1000 */
	/* Makes durable every spool byte that records up to now name.  Called by the syncer. */
	int (*sync_spool)(void *ctx);
	/* Told after each applied batch (for caches, the spool, tests); applier thread.  May be NULL. */
	void (*applied)(void *ctx, uint64_t seq);
	/*
	 * For the oplog, may be NULL; applier thread.  noted: each applied batch, in order, before
	 * its records are freed.  drop_limit: journal files are kept from there on.
	 */
	void (*noted)(void *ctx, struct record *const *records, size_t count);
	uint64_t (*drop_limit)(void *ctx);
	void *ctx;
};

/*
 * next_seq is the one that journal_open was given.  Index and journal are borrowed until
 * sequencer_free; nobody else applies, checkpoints, appends or syncs meanwhile.  -ENOMEM, -EAGAIN.
 */
int sequencer_start(const struct sequencer_settings *settings, struct sequencer **out);
/*
 * Writes, syncs and applies everything, then ends the threads.  Submits fail with -EROFS from now
 * on.  Returns the first failure: what was not durable then is lost when the sequencer is freed.
 */
int sequencer_stop(struct sequencer *sequencer);
/* After stop; or without it: drops what waits.  Waiters that are left are told -ECANCELED. */
void sequencer_free(struct sequencer *sequencer);

/*
 * sequencer_submit - takes the record (also on failure), gives it its number.
 * Once it returns 0 the record is visible through the index.  Never waits.
 * -ENOMEM (also: 4 times the backlog's bound is waiting), -E2BIG (JOURNAL_RECORD_BYTES_MAX),
 * -ENOSPC, -EIO, -EROFS: not taken, nothing visible.  A record without changes is
 * dropped, and seq is the newest number.
 * May be called with inode locks held (rank LOCK_SEQUENCER).
 */
int sequencer_submit(struct sequencer *sequencer, struct record *record, uint64_t *seq);

/*
 * sequencer_admit - 0: go ahead; -EAGAIN: the backlog is over its bound and `waiter` will be
 * called: with 0 when there is room, with the error when the backlog can not be worked off now;
 * any other error: the same, and waiter is not kept.  Callers ask before they begin a changing
 * operation.
 */
int sequencer_admit(struct sequencer *sequencer, struct waiter *waiter);

uint64_t sequencer_last_seq(struct sequencer *sequencer); /* submitted */
uint64_t sequencer_synced_seq(struct sequencer *sequencer);

/*
 * Calls waiter->done when records up to seq (<= last_seq) are written to the journal (not
 * synced).  May do a buffered write(2) itself and run other waiters' done.  The caller holds no
 * lock that a `done` might take.
 */
void sequencer_when_written(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter);
/* ... when they are durable.  Concurrent waiters share the syncs. */
void sequencer_when_synced(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter);
/*
 * The same for a thread that may wait, without locks: unless somebody does already, it syncs itself,
 * which spares two switches of threads.  Still never waits for another thread's round.
 */
void sequencer_sync_here(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter);
/* ... when they are in the engine (syncs and applies at once, without the interval). */
void sequencer_when_applied(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter);
/* The same three, waiting. For threads that may wait; without locks, never from a `done`. */
int sequencer_wait_written(struct sequencer *sequencer, uint64_t seq);
int sequencer_wait_synced(struct sequencer *sequencer, uint64_t seq);
int sequencer_wait_applied(struct sequencer *sequencer, uint64_t seq);
/*
 * Everything submitted so far is applied, and a checkpoint was tried after that: files of the journal
 * that nothing needs any more are gone.  For threads that may wait.
 */
int sequencer_wait_checkpoint(struct sequencer *sequencer);

#endif
