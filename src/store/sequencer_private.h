/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SEQUENCER_PRIVATE_H
#define SHARDFS_STORE_SEQUENCER_PRIVATE_H

/* What sequencer.c, syncer.c and applier.c share, and nobody else. */

#include "store/sequencer.h"
#include "util/lock.h"

#include <stdbool.h>

#define APPLY_BATCH_RECORDS ((size_t)4096)
#define APPLY_BATCH_BYTES   (8 * MIB)

/*
 * applied <= synced <= written <= last, except that a failed sync takes written
 * back to synced.  The ring holds the records applied+1 .. last by seq; the
 * applier frees them, so whoever writes may use them without the lock.
 *
 * `is_appending` is the role of the one thread that may call journal_append and
 * journal_append_mark; it is held across the write, the lock is not.
 */
struct sequencer {
	struct sequencer_settings set;
	struct lock lock; /* LOCK_SEQUENCER: guards everything below, except where a role is named */

	struct record **ring;
	size_t ring_size; /* power of two */
	uint64_t last, written, synced, applied, marked;
	uint64_t bytes;           /* cost of the records in the ring */
	uint64_t unwritten_bytes; /* of those behind `written` */
	uint64_t pending_since_ms; /* when the oldest unapplied record came, roughly */

	bool is_stopping; /* no more submits */
	bool is_ending;   /* the threads return */

	/* writing */
	bool is_appending;
	struct cond role_free; /* the role was dropped: `written` or the error may have moved */
	int write_error;       /* 0: the last write succeeded */
	uint64_t write_failures;
	struct waiter *written_waiters;
	struct record *append_batch[JOURNAL_BATCH_RECORDS_MAX]; /* the role's */
	bool is_asleep; /* the sequencer's thread waits for a first record */
	bool is_urgent; /* it is not to wait for its tick */
	struct cond wake_sequencer;

	/* syncing */
	bool is_sync_wanted;
	bool is_syncing;       /* the role of the one thread that runs a round */
	bool is_sync_crowded;  /* the last round served more than one */
	int sync_error;
	uint64_t sync_failures; /* rounds that failed for whatever reason */
	int last_sync_failure;
	struct waiter *sync_waiters;
	struct cond wake_syncer;
	struct cond synced_moved; /* a round ended */

	/* applying */
	bool is_apply_wanted;
	bool is_checkpoint_wanted;
	uint64_t checkpoints; /* done since the start */
	bool is_applier_kicked; /* was woken because of the backlog, has not looked yet */
	int apply_error;
	uint64_t apply_failures;
	int last_apply_failure;
	uint64_t since_checkpoint; /* bytes applied since the last checkpoint */
	bool is_drop_owed; /* applier: journal files wait for being sent */
	struct waiter *apply_waiters, *admit_waiters;
	struct cond wake_applier;
	struct cond applied_moved; /* a round ended, or a batch was applied */
	struct record *apply_batch[APPLY_BATCH_RECORDS]; /* applier's */

	pthread_t threads[3];
	unsigned thread_count;
};

static inline struct record **sequencer_slot(struct sequencer *s, uint64_t seq)
{
	return &s->ring[seq & (s->ring_size - 1)];
}

/* What a record costs of the backlog's bytes. */
uint64_t sequencer_record_cost(const struct record *record);
bool sequencer_is_over_locked(const struct sequencer *s, unsigned numerator, unsigned denominator);

void waiter_push(struct waiter **head, struct waiter *waiter);
void waiter_push_all(struct waiter **head, struct waiter *more);
void waiter_tell(struct waiter *head, int error); /* without locks */

void sequencer_role_take_locked(struct sequencer *s);
void sequencer_role_drop_locked(struct sequencer *s);
/*
 * Until everything up to seq is written, by this thread or by another one; drops the lock
 * meanwhile.  While writing fails: the error at once, or after one try if is_retry.
 */
int sequencer_write_up_to_locked(struct sequencer *s, uint64_t seq, bool is_retry);

/* Waits on cond for retry_ms or the end, whoever signals it meanwhile. */
void sequencer_pause_locked(struct sequencer *s, struct cond *cond);
/* Has the sequencer's thread look at once. */
void sequencer_wake_locked(struct sequencer *s);

/*
 * Has everything synced by the syncer and waits for it: 0 or the failure.  While that fails:
 * the error at once, or after the next try if is_retry.
 */
int syncer_wait_locked(struct sequencer *s, uint64_t seq, bool is_retry);
void *syncer_run(void *sequencer);

void applier_kick_locked(struct sequencer *s);
/* As syncer_wait_locked. */
int applier_wait_locked(struct sequencer *s, uint64_t seq, bool is_retry);
void *applier_run(void *sequencer);
/* Checkpoint, then drop journal files; applier, or after its end. */
void applier_checkpoint(struct sequencer *s);

/* The error that a new request is told, 0 when all is well. */
static inline int sequencer_failing_locked(const struct sequencer *s)
{
	return s->write_error ? s->write_error : s->sync_error;
}

#endif
