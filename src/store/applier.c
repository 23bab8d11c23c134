/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves synced records into the engine in batches, tells caches, makes room in
 * the backlog, checkpoints, drops journal files.
 *
 * It works when somebody wants it, when the oldest record has waited for the
 * commit interval, when the backlog is half full, or when a full batch is
 * synced anyway; not after each fsync, for a transaction costs more than its
 * rows.  A round first has everything synced, then applies up to there.
 *
 * Checkpoints come after CHECKPOINT_BYTES of records, when nothing has happened
 * for a commit interval, or when somebody wants one.  Only they move index_durable_seq, which says
 * what journal files may go; those that are not sent yet are looked at again.
 */
#include "store/sequencer_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>

#define CHECKPOINT_BYTES (16 * MIB)

void applier_kick_locked(struct sequencer *s)
{
	s->is_applier_kicked = true;
	cond_wake_one(&s->wake_applier);
}

/* ---- checkpoint ---- */

/* Files that are applied for good and sent.  True: some wait for being sent. */
static bool drop_files(struct sequencer *s)
{
	uint64_t durable = index_durable_seq(s->set.index);
	uint64_t limit = s->set.drop_limit ? s->set.drop_limit(s->set.ctx) : UINT64_MAX;
	int r = journal_drop(s->set.journal, MIN(limit, durable));

	if (r < 0)
		log_warn("journal-drop-failed", "error=%s next=\"tried again\"", err_name(r));
	return r < 0 || limit < durable;
}

void applier_checkpoint(struct sequencer *s)
{
	int r = HOOK("index-checkpoint-before");

	if (r == 0)
		r = index_checkpoint(s->set.index);
	if (r == 0)
		r = HOOK("index-checkpoint-after");
	if (r < 0) {
		log_warn("index-checkpoint-failed", "error=%s next=\"tried again\"", err_name(r));
		return;
	}
	s->is_drop_owed = drop_files(s);
}

static void checkpoint_locked(struct sequencer *s)
{
	s->since_checkpoint = 0;
	s->is_checkpoint_wanted = false;
	lock_drop(&s->lock);
	applier_checkpoint(s);
	lock_take(&s->lock);
	s->checkpoints++;
	cond_wake_all(&s->applied_moved);
}

/* ---- applying ---- */

static size_t gather_locked(struct sequencer *s, uint64_t target, uint64_t *cost)
{
	size_t count = 0;
	uint64_t sum = 0;

	for (uint64_t seq = s->applied + 1; seq <= target; seq++) {
		struct record *record = *sequencer_slot(s, seq);
		uint64_t more = sequencer_record_cost(record);

		if (count == APPLY_BATCH_RECORDS || (count > 0 && sum + more > APPLY_BATCH_BYTES))
			break;
		s->apply_batch[count++] = record;
		sum += more;
	}
	*cost = sum;
	return count;
}

static int apply_to_index(struct sequencer *s, size_t count)
{
	int r = HOOK("index-apply-before");

	if (r == 0)
		r = index_apply(s->set.index, s->apply_batch, count);
	if (r == 0)
		r = HOOK("index-apply-after");
	return r;
}

/* Those who wait for room, when there is some or when there will be none for now. */
static struct waiter *take_admitted_locked(struct sequencer *s, int r)
{
	if (r == 0 && sequencer_is_over_locked(s, 3, 4))
		return NULL;
	return STEAL(s->admit_waiters);
}

static int apply_batch_locked(struct sequencer *s)
{
	uint64_t cost, seq;
	size_t count = gather_locked(s, s->synced, &cost);
	struct waiter *admitted;
	int r;

	lock_drop(&s->lock);
	r = apply_to_index(s, count);
	if (r == 0 && s->set.noted)
		s->set.noted(s->set.ctx, s->apply_batch, count);
	lock_take(&s->lock);
	if (r < 0)
		return r;
	s->applied += count;
	s->bytes -= cost;
	s->since_checkpoint += cost;
	seq = s->applied;
	admitted = take_admitted_locked(s, 0);
	cond_wake_all(&s->applied_moved);
	lock_drop(&s->lock);
	for (size_t i = 0; i < count; i++)
		record_free(s->apply_batch[i]);
	if (s->set.applied)
		s->set.applied(s->set.ctx, seq);
	waiter_tell(admitted, 0);
	lock_take(&s->lock);
	return 0;
}

static int apply_up_to_locked(struct sequencer *s, uint64_t target)
{
	int r = 0;

	while (r == 0 && s->applied < target && !s->is_ending) {
		r = apply_batch_locked(s);
		if (r < 0 && s->apply_error == 0)
			log_error("index-apply-failed", "error=%s next=\"tried again\"",
				  err_name(r));
		if (r == 0 && s->apply_error != 0)
			log_info("index-apply-recovered", "after=%s", err_name(s->apply_error));
		s->apply_error = r;
	}
	return r == 0 && s->applied < target ? -ECANCELED : r;
}

static int apply_round_locked(struct sequencer *s)
{
	struct waiter *told = STEAL(s->apply_waiters), *refused = NULL;
	bool is_batch_ready = s->synced - s->applied >= APPLY_BATCH_RECORDS;
	bool is_wanted = s->is_apply_wanted;
	uint64_t target = is_batch_ready && !is_wanted ? s->synced : s->last;
	int r;

	s->is_apply_wanted = false;
	r = syncer_wait_locked(s, target, false);
	if (r == 0)
		r = apply_up_to_locked(s, target);
	if (r < 0) {
		waiter_push_all(&told, STEAL(s->apply_waiters));
		refused = take_admitted_locked(s, r);
		s->apply_failures++;
		s->last_apply_failure = r;
	}
	s->pending_since_ms = clock_mono_ms();
	cond_wake_all(&s->applied_moved);
	lock_drop(&s->lock);
	waiter_tell(told, r);
	waiter_tell(refused, r);
	lock_take(&s->lock);
	if (r == 0 && s->since_checkpoint >= CHECKPOINT_BYTES)
		checkpoint_locked(s);
	return r;
}

/* ---- the thread ---- */

static bool is_due_locked(const struct sequencer *s, uint64_t waited_ms)
{
	if (s->is_apply_wanted)
		return true;
	if (s->last == s->applied)
		return false;
	return waited_ms >= s->set.commit_interval_ms || sequencer_is_over_locked(s, 1, 2) ||
	       s->synced - s->applied >= APPLY_BATCH_RECORDS;
}

/* Until something may be due; a checkpoint when nothing came for an interval. */
static void rest_locked(struct sequencer *s, uint64_t waited_ms)
{
	if (s->last != s->applied) {
		cond_wait_ms(&s->wake_applier, &s->lock, s->set.commit_interval_ms - waited_ms);
	} else if (s->since_checkpoint == 0 && !s->is_drop_owed) {
		cond_wait(&s->wake_applier, &s->lock);
	} else if (s->since_checkpoint == 0) {
		cond_wait_ms(&s->wake_applier, &s->lock, s->set.commit_interval_ms);
		lock_drop(&s->lock);
		s->is_drop_owed = drop_files(s);
		lock_take(&s->lock);
	} else if (cond_wait_ms(&s->wake_applier, &s->lock, s->set.commit_interval_ms) ==
			   -ETIMEDOUT &&
		   s->last == s->applied && !s->is_ending) {
		checkpoint_locked(s);
	}
}

void *applier_run(void *arg)
{
	struct sequencer *s = arg;
	LOCK_SCOPE(&s->lock);

	while (!s->is_ending) {
		uint64_t waited_ms = clock_mono_ms() - s->pending_since_ms;

		s->is_applier_kicked = false;
		if (s->is_checkpoint_wanted)
			checkpoint_locked(s);
		else if (!is_due_locked(s, waited_ms))
			rest_locked(s, waited_ms);
		else if (apply_round_locked(s) < 0 && !s->is_ending)
			sequencer_pause_locked(s, &s->wake_applier);
	}
	cond_wake_all(&s->applied_moved);
	return NULL;
}

/* ---- waiting for `applied` ---- */

static int failing_locked(const struct sequencer *s)
{
	return s->apply_error ? s->apply_error : sequencer_failing_locked(s);
}

int applier_wait_locked(struct sequencer *s, uint64_t seq, bool is_retry)
{
	uint64_t failures = s->apply_failures;

	if (s->applied >= seq)
		return 0;
	if (!is_retry && failing_locked(s))
		return failing_locked(s);
	s->is_apply_wanted = true;
	applier_kick_locked(s);
	while (s->applied < seq && s->apply_failures == failures) {
		if (s->is_ending)
			return -ECANCELED;
		cond_wait(&s->applied_moved, &s->lock);
	}
	return s->applied >= seq ? 0 : s->last_apply_failure;
}

int sequencer_wait_applied(struct sequencer *s, uint64_t seq)
{
	LOCK_SCOPE(&s->lock);

	assert(seq <= s->last);
	return applier_wait_locked(s, seq, false);
}

int sequencer_wait_checkpoint(struct sequencer *s)
{
	uint64_t seen;
	int r;
	LOCK_SCOPE(&s->lock);

	r = applier_wait_locked(s, s->last, false);
	seen = s->checkpoints;
	s->is_checkpoint_wanted = true;
	applier_kick_locked(s);
	while (r == 0 && s->checkpoints == seen) {
		if (s->is_ending)
			return -ECANCELED;
		cond_wait(&s->applied_moved, &s->lock);
	}
	return r;
}

void sequencer_when_applied(struct sequencer *s, uint64_t seq, struct waiter *waiter)
{
	int r;

	lock_take(&s->lock);
	assert(seq <= s->last);
	r = s->is_ending ? -ECANCELED : failing_locked(s);
	if (s->applied >= seq || r < 0) {
		r = s->applied >= seq ? 0 : r;
		lock_drop(&s->lock);
		waiter->done(waiter, r);
		return;
	}
	waiter_push(&s->apply_waiters, waiter);
	s->is_apply_wanted = true;
	applier_kick_locked(s);
	lock_drop(&s->lock);
}
