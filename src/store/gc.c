/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look walks the table of shards twice.
 *
 *   first walk   dead chunks of every shard leave the index                    (gc_chunks.c)
 *   in between   chunks whose new place has its copies move there              (gc_repack.c)
 *   second walk  open shards without chunks are dropped, closed ones condemned,
 *                sparse ones noted, condemned ones deleted when it is time      (gc_delete.c)
 *   at the end   the sparse ones that give most are read                       (gc_repack.c)
 *
 * Nothing is remembered but what is being repacked: a crash loses no more than that work.  A
 * failure ends the step, not the look; the next look finds everything again.
 */
#include "store/gc_private.h"

#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/log.h"
#include "util/queue.h"

#include <errno.h>
#include <string.h>

#define TICK_MS	     1000u
#define RELOCATE_MS  200u /* between looks whether the new shards have their copies */
#define PRESSED_MS   10000u /* between looks while the spool is more than half full */
#define RESEAL_MS    2000u /* between looks while there are shards of an earlier key epoch */
#define LOOK_SHARE   20u    /* a look may take one part in so many of the time */

static struct counter gc_looks = COUNTER_INIT("gc_looks", "looks for space to reclaim");
static struct counter gc_failures = COUNTER_INIT("gc_failures", "steps of reclaiming that failed");
COUNTER_REGISTER(gc_looks);
COUNTER_REGISTER(gc_failures);

/* ---- small helpers ---- */

bool gc_is_stopping(struct gc *gc)
{
	LOCK_SCOPE(&gc->lock);
	return gc->is_stopping;
}

bool gc_is_frozen(struct gc *gc)
{
	LOCK_SCOPE(&gc->lock);
	return gc->is_frozen;
}

bool gc_is_pressed(const struct gc *gc)
{
	return gc->settings.spool_bytes_max > 0 &&
	       spool_bytes_used(gc->settings.spool) > gc->settings.spool_bytes_max / 2;
}

bool gc_pause(struct gc *gc, uint64_t ms)
{
	uint64_t until = clock_mono_ms() + ms, now;

	LOCK_SCOPE(&gc->lock);
	while (!gc->is_stopping && (now = clock_mono_ms()) < until)
		cond_wait_ms(&gc->wake, &gc->lock, until - now);
	return !gc->is_stopping;
}

int gc_submit(struct gc *gc, struct record *record, uint64_t *seq)
{
	uint64_t ignored;

	return sequencer_submit(gc->settings.sequencer, record, seq ? seq : &ignored);
}

int gc_settle(struct gc *gc)
{
	return sequencer_wait_applied(gc->settings.sequencer,
				      sequencer_last_seq(gc->settings.sequencer));
}

void gc_note_error(struct gc *gc, const char *what, int error)
{
	counter_add(&gc_failures, 1);
	if (gc->report.error == 0)
		log_warn("gc-step-failed", "step=" LOG_Q " error=%s next=\"at the next look\"",
			 what, err_name(error));
	if (gc->report.error == 0)
		gc->report.error = error;
}

/* ---- answers ---- */

struct gc_answers {
	struct lock lock; /* LOCK_LEAF: guards the rest, but count */
	struct cond came;
	unsigned count, left, refs;
	struct gc_answer {
		struct waiter waiter;
		struct gc_answers *answers;
		int error;
	} answer[];
};

static void answers_unref(struct gc_answers *answers)
{
	bool is_last;

	lock_take(&answers->lock);
	is_last = --answers->refs == 0;
	lock_drop(&answers->lock);
	if (!is_last)
		return;
	cond_release(&answers->came);
	lock_release(&answers->lock);
	mem_free(answers);
}

static void answer_done(struct waiter *waiter, int error)
{
	struct gc_answer *answer = container_of(waiter, struct gc_answer, waiter);
	struct gc_answers *answers = answer->answers;

	lock_take(&answers->lock);
	answer->error = error;
	answers->left--;
	cond_wake_all(&answers->came);
	lock_drop(&answers->lock);
	answers_unref(answers);
}

struct gc_answers *gc_answers_new(unsigned count)
{
	struct gc_answers *answers =
		mem_alloc(sizeof(*answers) + count * sizeof(answers->answer[0]));

	if (!answers)
		return NULL;
	lock_init(&answers->lock, LOCK_LEAF);
	cond_init(&answers->came);
	answers->count = answers->left = count;
	answers->refs = 1;
	for (unsigned i = 0; i < count; i++)
		answers->answer[i] = (struct gc_answer){
			.waiter.done = answer_done, .answers = answers, .error = -EINPROGRESS};
	return answers;
}

struct waiter *gc_answers_waiter(struct gc_answers *answers, unsigned i)
{
	LOCK_SCOPE(&answers->lock);
	answers->refs++;
	return &answers->answer[i].waiter;
}

int gc_answers_wait(struct gc *gc, struct gc_answers *answers)
{
	uint64_t until = clock_mono_ms() + GC_ANSWER_MAX_MS;
	int r = 0;

	lock_take(&answers->lock);
	while (answers->left > 0 && r == 0) {
		cond_wait_ms(&answers->came, &answers->lock, TICK_MS / 5);
		lock_drop(&answers->lock);
		if (gc_is_stopping(gc) || clock_mono_ms() >= until)
			r = -ETIMEDOUT;
		lock_take(&answers->lock);
	}
	if (answers->left == 0)
		r = 0;
	lock_drop(&answers->lock);
	return r;
}

int gc_answers_error(struct gc_answers *answers, unsigned i)
{
	LOCK_SCOPE(&answers->lock);
	return answers->answer[i].error;
}

void gc_answers_drop(struct gc_answers *answers)
{
	if (answers)
		answers_unref(answers);
}

/* ---- a look ---- */

static int collect(struct gc *gc, const struct shard_row *shard)
{
	if (shard->state > SHARD_DURABLE || shard->total_bytes == shard->live_bytes)
		return 0;
	return gc_collect_shard(gc, shard);
}

static int sort_out(struct gc *gc, const struct shard_row *shard)
{
	bool is_empty = false;
	int r;

	if (shard->state == SHARD_CONDEMNED)
		return gc_delete_offer(gc, shard);
	if (shard->state > SHARD_DURABLE)
		return 0;
	if (shard->total_bytes > 0) {
		if (gc_old_offer(gc, shard)) {
			gc->report.shards_old++;
			return 0;
		}
		if (gc->settings.repack_below > 0)
			gc_sparse_offer(gc, shard);
		gc_small_offer(gc, shard);
		return 0;
	}
	if (gc_is_moving(gc, shard->shard_no))
		return 0;
	if (shard->state == SHARD_OPEN)
		return gc_discard(gc, shard);
	r = gc_is_empty(gc, shard->shard_no, &is_empty);
	return r < 0 || !is_empty ? r : gc_condemn_offer(gc, shard);
}

static int walk(struct gc *gc, int (*visit)(struct gc *gc, const struct shard_row *shard))
{
	uint64_t after = 0;
	size_t count;

	do {
		AUTO(shard_list) page = ROW_LIST_INIT;
		int r = index_list_shards(gc->settings.index, gc->reader, after, GC_SHARD_PAGE,
					  &page);

		for (size_t i = 0; r == 0 && i < page.count; i++) {
			if (gc_is_stopping(gc) || gc_is_frozen(gc))
				return 0;
			after = page.rows[i].shard_no;
			r = visit(gc, &page.rows[i]);
		}
		if (r < 0)
			return r;
		count = page.count;
	} while (count == GC_SHARD_PAGE);
	return 0;
}

static void step(struct gc *gc, const char *what, int r)
{
	if (r < 0 && !gc_is_stopping(gc))
		gc_note_error(gc, what, r);
}

static void look(struct gc *gc)
{
	char blocked_by[sizeof(gc->report.blocked_by)];

	memset(&gc->report, 0, sizeof(gc->report));
	gc->seen_seq = sequencer_last_seq(gc->settings.sequencer);
	counter_add(&gc_looks, 1);
	if (!gc_is_frozen(gc)) {
		if (gc->is_hurried)
			gc_ask_all(gc); /* who is away is told below */
		step(gc, "reading the engine", gc_settle(gc));
		step(gc, "finding dead chunks", walk(gc, collect));
		step(gc, "deleting dead chunks", gc_collect_flush(gc));
		step(gc, "moving chunks", gc_repack_commit(gc));
		step(gc, "reading the engine", gc_settle(gc));
		gc_gate_look(gc);
		step(gc, "finding empty shards", walk(gc, sort_out));
		step(gc, "condemning", gc_condemn_flush(gc));
		step(gc, "deleting", gc_delete_flush(gc));
		step(gc, "repacking", gc_repack(gc));
		gc->report.shards_moving = gc->source_count;
	}
	gc->chunk_count = 0;
	gc->empty_count = gc->doomed_count = gc->sparse_count = gc->small_count = 0;
	gc_blocked_by(gc, blocked_by); /* says more than "not shipped", which follows from it */
	if (blocked_by[0])
		memcpy(gc->report.blocked_by, blocked_by, sizeof(blocked_by));
	gc->report.ended_sec = clock_wall().sec;
}

/* ---- chunks that go to another class ---- */

static void relocate_step(struct gc *gc)
{
	bool is_new;

	lock_take(&gc->lock);
	is_new = gc->relocation.is_asked && !gc->relocation.is_read;
	lock_drop(&gc->lock);
	if (is_new) {
		step(gc, "reading the engine", gc_settle(gc));
		step(gc, "reading chunks for another class", gc_relocate_read(gc));
	}
	step(gc, "moving chunks", gc_repack_commit(gc));
	lock_take(&gc->lock);
	gc->relocation.is_read = true;
	if (!gc_is_relocating(gc)) {
		gc->relocation.is_asked = false;
		cond_wake_all(&gc->looked);
	}
	lock_drop(&gc->lock);
}

int gc_relocate(struct gc *gc, const struct shard_class *class, const uint64_t *chunk_nos,
		size_t count)
{
	LOCK_SCOPE(&gc->lock);

	if (gc->relocation.is_asked)
		return -EBUSY;
	gc->relocation.class = *class;
	gc->relocation.count = MIN(count, (size_t)GC_RELOCATE_MAX);
	memcpy(gc->relocation.chunks, chunk_nos,
	       gc->relocation.count * sizeof(gc->relocation.chunks[0]));
	gc->relocation.is_read = false;
	gc->relocation.is_asked = true;
	cond_wake_all(&gc->wake);
	return 0;
}

int gc_relocate_wait(struct gc *gc, uint64_t ms)
{
	LOCK_SCOPE(&gc->lock);

	if (gc->relocation.is_asked && !gc->is_stopping)
		cond_wait_ms(&gc->looked, &gc->lock, ms);
	return !gc->relocation.is_asked;
}

/* ---- the thread ---- */

/* Lock held, and dropped. */
static bool is_due_locked(struct gc *gc, uint64_t last_ms, uint64_t pause_ms)
{
	uint64_t age = clock_mono_ms() - last_ms;
	bool has_work, pressed;

	if (gc->is_woken || gc->runs_wanted != gc->runs_done)
		return true;
	lock_drop(&gc->lock);
	has_work = gc->source_count > 0 || gc->report.shards_blocked > 0 ||
		   gc->report.error != 0 || gc->report.shards_old > 0 || gc->report.ended_sec == 0 ||
		   (gc->report.shards_held > 0 && clock_wall().sec >= gc->report.held_until_sec) ||
		   sequencer_last_seq(gc->settings.sequencer) != gc->seen_seq;
	pressed = gc_is_pressed(gc);
	lock_take(&gc->lock);
	return has_work && (age >= pause_ms || (pressed && age >= PRESSED_MS));
}

static void *gc_main(void *arg)
{
	struct gc *gc = arg;
	uint64_t last_ms = clock_mono_ms(), pause_ms = gc->settings.period_ms;

	lock_take(&gc->lock);
	while (!gc->is_stopping) {
		uint64_t run, start;

		if (gc->relocation.is_asked && !gc->is_frozen) {
			lock_drop(&gc->lock);
			relocate_step(gc);
			lock_take(&gc->lock);
		}
		if (!is_due_locked(gc, last_ms, pause_ms)) {
			if (!gc->is_stopping)
				cond_wait_ms(&gc->wake, &gc->lock,
					     gc->relocation.is_asked ? RELOCATE_MS : TICK_MS);
			continue;
		}
		run = gc->runs_wanted;
		gc->is_hurried = run != gc->runs_done;
		gc->is_woken = false;
		lock_drop(&gc->lock);
		start = clock_mono_ms();
		look(gc);
		last_ms = clock_mono_ms();
		pause_ms = MAX(gc->report.shards_old > 0 && gc->report.error == 0
				       ? (uint64_t)RESEAL_MS : gc->settings.period_ms,
			       (last_ms - start) * LOOK_SHARE);
		lock_take(&gc->lock);
		gc->last = gc->report;
		gc->runs_done = run;
		cond_wake_all(&gc->looked);
	}
	cond_wake_all(&gc->looked);
	lock_drop(&gc->lock);
	return NULL;
}

static void gc_free(struct gc *gc)
{
	gc_repack_release(gc);
	index_reader_close(gc->reader);
	aead_ctx_free(gc->aead);
	buf_release(&gc->payload);
	cond_release(&gc->wake);
	cond_release(&gc->looked);
	lock_release(&gc->lock);
	mem_free(gc);
}

int gc_start(const struct gc_settings *settings, struct gc **out)
{
	struct gc *gc = mem_alloc(sizeof(*gc));
	int r;

	if (!gc)
		return -ENOMEM;
	gc->settings = *settings;
	lock_init(&gc->lock, LOCK_KEEPER);
	cond_init(&gc->wake);
	cond_init(&gc->looked);
	list_init(&gc->sources);
	/* what an earlier process condemned waits for everything that is in the journal now */
	gc->gate = (struct gc_gate){clock_wall().sec, sequencer_last_seq(settings->sequencer)};
	gc->filling = gc->gate;
	gc->last_condemn_sec = gc->gate.until_sec + 1;
	gc->open_sec = INT64_MIN;
	r = index_reader_open(settings->index, &gc->reader);
	if (r == 0)
		r = aead_ctx_new(&gc->aead);
	if (r == 0)
		r = thread_start(&gc->thread, "gc", gc_main, gc);
	if (r < 0) {
		gc_free(gc);
		return r;
	}
	*out = gc;
	return 0;
}

void gc_stop(struct gc *gc)
{
	if (!gc)
		return;
	lock_take(&gc->lock);
	gc->is_stopping = true;
	cond_wake_all(&gc->wake);
	lock_drop(&gc->lock);
	pthread_join(gc->thread, NULL);
	gc_free(gc);
}

/* ---- what others ask ---- */

void gc_wake(struct gc *gc)
{
	LOCK_SCOPE(&gc->lock);
	gc->is_woken = true;
	cond_wake_all(&gc->wake);
}

void gc_freeze(struct gc *gc, bool is_frozen)
{
	LOCK_SCOPE(&gc->lock);
	gc->is_frozen = is_frozen;
	cond_wake_all(&gc->wake);
}

int gc_run(struct gc *gc, struct gc_report *out)
{
	LOCK_SCOPE(&gc->lock);
	uint64_t run = ++gc->runs_wanted;

	cond_wake_all(&gc->wake);
	while (gc->runs_done < run && !gc->is_stopping)
		cond_wait(&gc->looked, &gc->lock);
	if (gc->runs_done < run)
		return -ECANCELED;
	*out = gc->last;
	return 0;
}

void gc_status(struct gc *gc, struct gc_report *out)
{
	LOCK_SCOPE(&gc->lock);
	*out = gc->last;
}

static bool candidate_of(struct gc *gc, const struct shard_row *shard, struct gc_candidate *out)
{
	int64_t hold = (int64_t)((gc->settings.hold_ms + 999) / 1000);

	*out = (struct gc_candidate){.shard_no = shard->shard_no,
				     .bytes = shard->object_len,
				     .eligible_sec = clock_wall().sec + hold};
	if (shard->state == SHARD_CONDEMNED) {
		out->reason = "condemned";
		out->eligible_sec = shard->sealed_sec + hold;
	} else if (shard->state > SHARD_DURABLE) {
		return false;
	} else if (shard->live_bytes == 0 && shard->state != SHARD_OPEN) {
		out->reason = "empty";
	} else {
		out->reason = "sparse";
		out->bytes = gc_sparse_gain(gc, shard);
	}
	return out->bytes > 0;
}

int gc_survey(struct gc *gc, struct index_reader *reader,
	      int (*visit)(void *ctx, const struct gc_candidate *candidate), void *ctx,
	      char blocked_by[160])
{
	uint64_t after = 0;
	size_t count;

	gc_blocked_by(gc, blocked_by);
	do {
		AUTO(shard_list) page = ROW_LIST_INIT;
		int r = index_list_shards(gc->settings.index, reader, after, GC_SHARD_PAGE, &page);

		for (size_t i = 0; r == 0 && i < page.count; i++) {
			struct gc_candidate candidate;

			after = page.rows[i].shard_no;
			if (candidate_of(gc, &page.rows[i], &candidate))
				r = visit(ctx, &candidate);
		}
		if (r < 0)
			return r;
		count = page.count;
	} while (count == GC_SHARD_PAGE);
	return 0;
}
