/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order and writing.
 *
 * submit notes the record and puts it into the ring under the one lock.  To
 * write, a thread takes the appending role, drops the lock, and appends all
 * that had been submitted when it began; whoever comes meanwhile is served by
 * the next round, which the same thread does if it may (ROUNDS_MAX), so that a
 * waiter is never left behind.
 *
 * The sequencer's thread sleeps while nothing is submitted.  The first record
 * wakes it; then it looks every TICK_MS until some ticks passed without any, so
 * that a stream of operations pays no wakeups.
 */
#include "store/sequencer_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <assert.h>
#include <errno.h>

#define TICK_MS             5
#define IDLE_TICKS          20
#define ROUNDS_MAX          8
#define WRITE_BATCH_BYTES   MIB /* of one frame */
#define UNWRITTEN_BYTES_MAX MIB /* beyond: written at once */
#define RING_SIZE_MIN       ((size_t)1024)
#define RETRY_MS_DEFAULT    1000

/* ---- waiters ---- */

void waiter_push(struct waiter **head, struct waiter *waiter)
{
	waiter->next = *head;
	*head = waiter;
}

void waiter_push_all(struct waiter **head, struct waiter *more)
{
	while (more) {
		struct waiter *next = more->next;

		waiter_push(head, more);
		more = next;
	}
}

void waiter_tell(struct waiter *head, int error)
{
	while (head) {
		struct waiter *next = head->next;

		head->next = NULL;
		head->done(head, error);
		head = next;
	}
}

void sequencer_pause_locked(struct sequencer *s, struct cond *cond)
{
	uint64_t now = clock_mono_ms(), end = now + s->set.retry_ms;

	for (; now < end && !s->is_ending; now = clock_mono_ms())
		cond_wait_ms(cond, &s->lock, end - now);
}

void sequencer_wake_locked(struct sequencer *s)
{
	s->is_asleep = false;
	s->is_urgent = true;
	cond_wake_one(&s->wake_sequencer);
}

/* ---- the appending role ---- */

void sequencer_role_take_locked(struct sequencer *s)
{
	while (s->is_appending)
		cond_wait(&s->role_free, &s->lock);
	s->is_appending = true;
}

void sequencer_role_drop_locked(struct sequencer *s)
{
	s->is_appending = false;
	cond_wake_all(&s->role_free);
}

static size_t gather_locked(struct sequencer *s, uint64_t target, uint64_t *cost)
{
	size_t count = 0;
	uint64_t sum = 0;

	for (uint64_t seq = s->written + 1; seq <= target; seq++) {
		struct record *record = *sequencer_slot(s, seq);
		uint64_t more = sequencer_record_cost(record);

		if (count == JOURNAL_BATCH_RECORDS_MAX ||
		    (count > 0 && sum + more > WRITE_BATCH_BYTES))
			break;
		s->append_batch[count++] = record;
		sum += more;
	}
	*cost = sum;
	return count;
}

static int append_up_to_locked(struct sequencer *s, uint64_t target)
{
	while (s->written < target) {
		uint64_t cost;
		size_t count = gather_locked(s, target, &cost);
		int r;

		lock_drop(&s->lock);
		r = journal_append(s->set.journal, s->append_batch, count);
		lock_take(&s->lock);
		if (r < 0)
			return r;
		s->written += count;
		s->unwritten_bytes -= cost;
	}
	return 0;
}

static void note_write_locked(struct sequencer *s, int r)
{
	if (r < 0 && s->write_error == 0)
		log_error("journal-write-failed", "error=%s unwritten=%llu next=\"tried again\"",
			  err_name(r), (unsigned long long)(s->last - s->written));
	if (r == 0 && s->write_error != 0)
		log_info("journal-write-recovered", "after=%s", err_name(s->write_error));
	s->write_error = r;
	if (r < 0) {
		s->write_failures++;
		sequencer_wake_locked(s); /* it tries again */
	}
}

/* One round; the role is held.  Those whose wait it ended are added to *told. */
static int write_round_locked(struct sequencer *s, struct waiter **told)
{
	int r;

	*told = STEAL(s->written_waiters);
	r = append_up_to_locked(s, s->last);
	if (r < 0)
		waiter_push_all(told, STEAL(s->written_waiters));
	note_write_locked(s, r);
	return r;
}

/* Takes the role (it is free), writes, drops it, tells. */
static int write_once_locked(struct sequencer *s)
{
	struct waiter *told = NULL;
	int r;

	s->is_appending = true;
	r = write_round_locked(s, &told);
	sequencer_role_drop_locked(s);
	if (told) {
		lock_drop(&s->lock);
		waiter_tell(told, r);
		lock_take(&s->lock);
	}
	return r;
}

/* Serves those who wait for `written`, if nobody else does. */
static void lead_locked(struct sequencer *s)
{
	for (unsigned i = 0; i < ROUNDS_MAX && s->written_waiters && !s->is_appending; i++)
		write_once_locked(s);
	if (s->written_waiters && !s->is_appending)
		sequencer_wake_locked(s);
}

int sequencer_write_up_to_locked(struct sequencer *s, uint64_t seq, bool is_retry)
{
	uint64_t failures = s->write_failures;
	int r = is_retry ? 0 : s->write_error;

	while (r == 0 && s->written < seq) {
		if (!s->is_appending)
			r = write_once_locked(s);
		else
			cond_wait(&s->role_free, &s->lock);
		if (r == 0 && s->write_failures != failures)
			r = s->write_error ? s->write_error : -EIO;
	}
	lead_locked(s);
	return r;
}

/* ---- the thread ---- */

/* Waits until there may be something to write. */
static void wait_for_records_locked(struct sequencer *s, unsigned *idle_ticks, uint64_t *seen)
{
	if (s->write_error) {
		sequencer_pause_locked(s, &s->wake_sequencer);
		return;
	}
	*idle_ticks = s->last == *seen ? *idle_ticks + 1 : 0;
	*seen = s->last;
	if (*idle_ticks >= IDLE_TICKS && s->written == s->last && !s->written_waiters) {
		s->is_asleep = true;
		while (s->is_asleep && !s->is_ending)
			cond_wait(&s->wake_sequencer, &s->lock);
		*idle_ticks = 0;
	}
	if (!s->is_urgent && !s->is_ending)
		cond_wait_ms(&s->wake_sequencer, &s->lock, TICK_MS);
}

static void *sequencer_run(void *arg)
{
	struct sequencer *s = arg;
	unsigned idle_ticks = IDLE_TICKS;
	uint64_t seen;
	LOCK_SCOPE(&s->lock);

	seen = s->last;
	while (!s->is_ending) {
		wait_for_records_locked(s, &idle_ticks, &seen);
		s->is_urgent = false;
		if (!s->is_ending && !s->is_appending && s->written < s->last)
			write_once_locked(s);
		if (!s->is_ending)
			lead_locked(s);
	}
	return NULL;
}

/* ---- submit ---- */

uint64_t sequencer_record_cost(const struct record *record)
{
	return sizeof(*record) + record->changes.len;
}

bool sequencer_is_over_locked(const struct sequencer *s, unsigned numerator, unsigned denominator)
{
	return (s->last - s->applied) * denominator >= s->set.backlog_records_max * numerator ||
	       s->bytes * denominator >= s->set.backlog_bytes_max * numerator;
}

static int make_room_locked(struct sequencer *s)
{
	struct record **ring;
	size_t size = s->ring_size * 2;

	if (s->last - s->applied >= 4 * s->set.backlog_records_max)
		return -ENOMEM;
	if (s->last - s->applied < s->ring_size)
		return 0;
	ring = mem_alloc_array(size, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (uint64_t seq = s->applied + 1; seq <= s->last; seq++)
		ring[seq & (size - 1)] = *sequencer_slot(s, seq);
	mem_free(s->ring);
	s->ring = ring;
	s->ring_size = size;
	return 0;
}

static void wake_for_record_locked(struct sequencer *s)
{
	if (s->is_asleep) {
		s->is_asleep = false;
		cond_wake_one(&s->wake_sequencer);
	} else if (s->unwritten_bytes > UNWRITTEN_BYTES_MAX && !s->is_urgent) {
		sequencer_wake_locked(s);
	}
	if (s->last == s->applied + 1 || (!s->is_applier_kicked && sequencer_is_over_locked(s, 1, 2)))
		applier_kick_locked(s);
}

static int place_locked(struct sequencer *s, struct record *record)
{
	uint64_t cost = sequencer_record_cost(record);
	int r = s->is_stopping ? -EROFS : sequencer_failing_locked(s);

	if (r == 0)
		r = make_room_locked(s);
	if (r < 0)
		return r;
	record->seq = s->last + 1;
	r = index_note(s->set.index, record);
	if (r < 0)
		return r;
	*sequencer_slot(s, record->seq) = record;
	if (s->last == s->applied)
		s->pending_since_ms = clock_mono_ms();
	s->last++;
	s->bytes += cost;
	s->unwritten_bytes += cost;
	wake_for_record_locked(s);
	return 0;
}

int sequencer_submit(struct sequencer *s, struct record *record, uint64_t *seq)
{
	uint64_t placed;
	int r = record->error;

	if (r == 0 && record->changes.len > JOURNAL_RECORD_BYTES_MAX)
		r = -E2BIG;
	if (r == 0 && record->change_count > 0) {
		lock_take(&s->lock);
		r = place_locked(s, record);
		placed = s->last;
		lock_drop(&s->lock);
		if (r == 0) {
			*seq = placed; /* the record may be applied and freed by now */
			return 0;
		}
	} else if (r == 0) {
		*seq = sequencer_last_seq(s);
	}
	record_free(record);
	return r;
}

int sequencer_admit(struct sequencer *s, struct waiter *waiter)
{
	int r;
	LOCK_SCOPE(&s->lock);

	if (s->is_stopping)
		return -EROFS;
	if (!sequencer_is_over_locked(s, 1, 1))
		return 0;
	r = s->apply_error ? s->apply_error : sequencer_failing_locked(s);
	if (r < 0)
		return r;
	waiter_push(&s->admit_waiters, waiter);
	applier_kick_locked(s);
	return -EAGAIN;
}

uint64_t sequencer_last_seq(struct sequencer *s)
{
	LOCK_SCOPE(&s->lock);
	return s->last;
}

uint64_t sequencer_synced_seq(struct sequencer *s)
{
	LOCK_SCOPE(&s->lock);
	return s->synced;
}

/* ---- waiting for `written` ---- */

void sequencer_when_written(struct sequencer *s, uint64_t seq, struct waiter *waiter)
{
	int r;

	lock_take(&s->lock);
	assert(seq <= s->last);
	if (s->written >= seq || s->write_error || s->is_ending) {
		r = s->written >= seq ? 0 : s->write_error ? s->write_error : -ECANCELED;
		lock_drop(&s->lock);
		waiter->done(waiter, r);
		return;
	}
	waiter_push(&s->written_waiters, waiter);
	lead_locked(s);
	lock_drop(&s->lock);
}

int sequencer_wait_written(struct sequencer *s, uint64_t seq)
{
	LOCK_SCOPE(&s->lock);

	assert(seq <= s->last);
	if (s->written >= seq)
		return 0;
	return sequencer_write_up_to_locked(s, seq, false);
}

/* ---- life ---- */

static int start_threads(struct sequencer *s)
{
	static const struct {
		const char *name;
		void *(*run)(void *);
	} threads[] = {{"sequencer", sequencer_run}, {"syncer", syncer_run}, {"applier", applier_run}};

	for (; s->thread_count < ARRAY_COUNT(threads); s->thread_count++) {
		int r = thread_start(&s->threads[s->thread_count], threads[s->thread_count].name,
				     threads[s->thread_count].run, s);

		if (r < 0)
			return r;
	}
	return 0;
}

int sequencer_start(const struct sequencer_settings *settings, struct sequencer **out)
{
	struct sequencer *s = mem_alloc(sizeof(*s));
	int r;

	assert(settings->next_seq > 0 && settings->backlog_records_max > 0);
	if (!s)
		return -ENOMEM;
	s->set = *settings;
	if (s->set.retry_ms == 0)
		s->set.retry_ms = RETRY_MS_DEFAULT;
	s->last = s->written = s->synced = s->applied = s->marked = settings->next_seq - 1;
	lock_init(&s->lock, LOCK_SEQUENCER);
	cond_init(&s->role_free);
	cond_init(&s->wake_sequencer);
	cond_init(&s->wake_syncer);
	cond_init(&s->synced_moved);
	cond_init(&s->wake_applier);
	cond_init(&s->applied_moved);
	s->ring_size = RING_SIZE_MIN;
	s->ring = mem_alloc_array(s->ring_size, sizeof(struct record *));
	r = s->ring ? start_threads(s) : -ENOMEM;
	if (r < 0) {
		sequencer_free(s);
		return r;
	}
	*out = s;
	return 0;
}

static void end_threads(struct sequencer *s)
{
	lock_take(&s->lock);
	s->is_stopping = s->is_ending = true;
	cond_wake_all(&s->wake_sequencer);
	cond_wake_all(&s->wake_syncer);
	cond_wake_all(&s->wake_applier);
	cond_wake_all(&s->synced_moved);
	lock_drop(&s->lock);
	while (s->thread_count > 0)
		pthread_join(s->threads[--s->thread_count], NULL);
}

int sequencer_stop(struct sequencer *s)
{
	uint64_t last;
	int r;

	lock_take(&s->lock);
	s->is_stopping = true;
	last = s->last;
	r = sequencer_write_up_to_locked(s, last, true);
	if (r == 0)
		r = syncer_wait_locked(s, last, true);
	if (r == 0 && applier_wait_locked(s, last, true) < 0) /* perhaps of an older round */
		r = applier_wait_locked(s, last, true);
	lock_drop(&s->lock);
	end_threads(s);
	if (r == 0)
		applier_checkpoint(s);
	return r;
}

void sequencer_free(struct sequencer *s)
{
	if (!s)
		return;
	end_threads(s);
	waiter_tell(STEAL(s->written_waiters), -ECANCELED);
	waiter_tell(STEAL(s->sync_waiters), -ECANCELED);
	waiter_tell(STEAL(s->apply_waiters), -ECANCELED);
	waiter_tell(STEAL(s->admit_waiters), -ECANCELED);
	for (uint64_t seq = s->applied + 1; s->ring && seq <= s->last; seq++)
		record_free(*sequencer_slot(s, seq));
	mem_free(s->ring);
	cond_release(&s->role_free);
	cond_release(&s->wake_sequencer);
	cond_release(&s->wake_syncer);
	cond_release(&s->synced_moved);
	cond_release(&s->wake_applier);
	cond_release(&s->applied_moved);
	lock_release(&s->lock);
	mem_free(s);
}
