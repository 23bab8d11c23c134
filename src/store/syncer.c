/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One round: write what is submitted, sync the spool, sync the journal, answer,
 * append a mark.  Whoever asks while a round runs is served by the next one,
 * together with all others: that is the group commit.  A round is run by the thread
 * that asked, if it may wait and nobody runs one (sequencer_sync_here); all who come
 * meanwhile are served by the syncer's thread.  is_syncing is that role.  Where many
 * ask, the thread's wakeup is what lets them gather, so then nobody else takes it.
 *
 * The answer does not wait for the mark.  An acknowledged record without one is
 * durable all the same; the mark only spares replay the check of the spool's
 * bytes and tells damage from a torn tail.  For the same reason the mark itself
 * is not synced: the next round does it.
 *
 * When the journal's sync fails, `written` goes back to `synced`: those records
 * are appended again, to a new file (journal_sync's contract).
 */
#include "store/sequencer_private.h"

#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>

/* Everything behind the last synced record is to be appended again. */
static void rewind_locked(struct sequencer *s)
{
	sequencer_role_take_locked(s);
	s->written = s->synced;
	s->unwritten_bytes = 0;
	for (uint64_t seq = s->written + 1; seq <= s->last; seq++)
		s->unwritten_bytes += sequencer_record_cost(*sequencer_slot(s, seq));
	sequencer_role_drop_locked(s);
}

static void note_sync_locked(struct sequencer *s, int r, const char *what)
{
	if (r < 0 && s->sync_error == 0)
		log_error("sync-failed", "what=%s error=%s next=\"tried again\"", what,
			  err_name(r));
	if (r == 0 && s->sync_error != 0)
		log_info("sync-recovered", "after=%s", err_name(s->sync_error));
	s->sync_error = r;
}

/* Disk work of a round whose records are written. */
static int sync_both_locked(struct sequencer *s, uint64_t target)
{
	int spool, r;

	lock_drop(&s->lock);
	if (HOOK_BROKEN("commit-order")) { /* what says that bytes last, before they do */
		journal_append_mark(s->set.journal, target);
		journal_sync(s->set.journal);
	}
	spool = r = s->set.sync_spool(s->set.ctx);
	if (r == 0)
		r = journal_sync(s->set.journal);
	lock_take(&s->lock);
	if (r == 0)
		s->synced = target;
	else if (spool == 0)
		rewind_locked(s);
	note_sync_locked(s, r, spool < 0 ? "spool" : "journal");
	return r;
}

static void mark_locked(struct sequencer *s)
{
	uint64_t synced = s->synced;
	int r;

	if (s->marked == synced)
		return;
	sequencer_role_take_locked(s);
	lock_drop(&s->lock);
	r = journal_append_mark(s->set.journal, synced);
	lock_take(&s->lock);
	sequencer_role_drop_locked(s);
	if (r == 0)
		s->marked = synced;
	else
		log_debug("journal-mark-failed", "error=%s", err_name(r));
}

static int sync_round_locked(struct sequencer *s)
{
	struct waiter *told = STEAL(s->sync_waiters);
	uint64_t target = s->last;
	int r;

	assert(!s->is_syncing);
	s->is_syncing = true;
	r = sequencer_write_up_to_locked(s, target, false);
	if (r == 0 && target > s->synced)
		r = sync_both_locked(s, target);
	if (r < 0) {
		waiter_push_all(&told, STEAL(s->sync_waiters));
		s->sync_failures++;
		s->last_sync_failure = r;
	}
	s->is_sync_crowded = told && told->next;
	cond_wake_all(&s->synced_moved);
	if (s->synced - s->applied >= APPLY_BATCH_RECORDS)
		applier_kick_locked(s);
	lock_drop(&s->lock);
	waiter_tell(told, r);
	lock_take(&s->lock);
	if (r == 0)
		mark_locked(s);
	s->is_syncing = false;
	if (s->is_sync_wanted)
		cond_wake_one(&s->wake_syncer);
	return r;
}

void *syncer_run(void *arg)
{
	struct sequencer *s = arg;
	LOCK_SCOPE(&s->lock);

	while (!s->is_ending) {
		if (!s->is_sync_wanted || s->is_syncing) {
			cond_wait(&s->wake_syncer, &s->lock);
			continue;
		}
		s->is_sync_wanted = false;
		if (sync_round_locked(s) < 0 && !s->is_ending) {
			sequencer_pause_locked(s, &s->wake_syncer);
			s->is_sync_wanted = true;
		}
	}
	cond_wake_all(&s->synced_moved);
	return NULL;
}

static void want_sync_locked(struct sequencer *s)
{
	s->is_sync_wanted = true;
	cond_wake_one(&s->wake_syncer);
}

int syncer_wait_locked(struct sequencer *s, uint64_t seq, bool is_retry)
{
	uint64_t failures = s->sync_failures;

	if (s->synced >= seq)
		return 0;
	if (!is_retry && sequencer_failing_locked(s))
		return sequencer_failing_locked(s);
	want_sync_locked(s);
	while (s->synced < seq && s->sync_failures == failures) {
		if (s->is_ending)
			return -ECANCELED;
		cond_wait(&s->synced_moved, &s->lock);
	}
	return s->synced >= seq ? 0 : s->last_sync_failure;
}

int sequencer_wait_synced(struct sequencer *s, uint64_t seq)
{
	LOCK_SCOPE(&s->lock);

	assert(seq <= s->last);
	return syncer_wait_locked(s, seq, false);
}

static void when_synced(struct sequencer *s, uint64_t seq, bool may_sync, struct waiter *waiter)
{
	int r;

	lock_take(&s->lock);
	assert(seq <= s->last);
	r = s->is_ending ? -ECANCELED : sequencer_failing_locked(s);
	if (s->synced >= seq || r < 0) {
		r = s->synced >= seq ? 0 : r;
		lock_drop(&s->lock);
		waiter->done(waiter, r);
		return;
	}
	waiter_push(&s->sync_waiters, waiter);
	/* after a failure the syncer's thread goes on, at its pace */
	if (!may_sync || s->is_syncing || s->is_sync_wanted || s->is_sync_crowded ||
	    sync_round_locked(s) < 0 || s->sync_waiters)
		want_sync_locked(s);
	lock_drop(&s->lock);
}

void sequencer_when_synced(struct sequencer *s, uint64_t seq, struct waiter *waiter)
{
	when_synced(s, seq, false, waiter);
}

void sequencer_sync_here(struct sequencer *s, uint64_t seq, struct waiter *waiter)
{
	when_synced(s, seq, true, waiter);
}
