/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keeper.h"

#include "util/clock.h"
#include "util/lock.h"
#include "util/mem.h"
#include "util/queue.h"

#include <assert.h>
#include <errno.h>

#define IDLE_MS 60000u

struct chore_state {
	struct keeper_chore chore;
	bool is_ready;	    /* woken, or said that there is more */
	unsigned running;
	unsigned wakes;	    /* so that a wake during a run is not lost */
	uint64_t due_ms;    /* next run by period */
};

struct keeper {
	struct index *index;
	struct lock lock; /* LOCK_KEEPER: guards all below */
	struct cond changed;
	struct chore_state chores[KEEPER_CHORES_MAX];
	unsigned chore_count;
	unsigned units_in_row, last_no;
	bool is_stopping;
	pthread_t threads[KEEPER_THREADS_MAX];
	struct keeper_worker workers[KEEPER_THREADS_MAX];
	struct keeper_thread {
		struct keeper *keeper;
		struct keeper_worker *worker;
	} args[KEEPER_THREADS_MAX];
	unsigned thread_count;
};

int keeper_new(struct index *index, struct keeper **out)
{
	struct keeper *keeper = mem_alloc(sizeof(*keeper));

	if (!keeper)
		return -ENOMEM;
	keeper->index = index;
	lock_init(&keeper->lock, LOCK_KEEPER);
	cond_init(&keeper->changed);
	*out = keeper;
	return 0;
}

int keeper_add(struct keeper *keeper, const struct keeper_chore *chore)
{
	assert(keeper->thread_count == 0 && chore->workers_max > 0);
	if (keeper->chore_count == KEEPER_CHORES_MAX)
		return -ENOSPC;
	keeper->chores[keeper->chore_count] =
		(struct chore_state){.chore = *chore, .is_ready = true};
	return (int)keeper->chore_count++;
}

/* The chore to run now, or NULL and *wait_ms until one may be due. */
static struct chore_state *pick_locked(struct keeper *keeper, uint64_t *wait_ms)
{
	uint64_t now = clock_mono_ms();
	struct chore_state *best = NULL, *second = NULL;

	*wait_ms = IDLE_MS;
	for (unsigned i = 0; i < keeper->chore_count; i++) {
		struct chore_state *state = &keeper->chores[i];

		if (!state->is_ready && state->chore.period_ms > 0) {
			if (now >= state->due_ms)
				state->is_ready = true;
			else
				*wait_ms = MIN(*wait_ms, state->due_ms - now);
		}
		if (!state->is_ready || state->running >= state->chore.workers_max)
			continue;
		if (!best || state->chore.urgency < best->chore.urgency) {
			second = best;
			best = state;
		} else if (!second || state->chore.urgency < second->chore.urgency) {
			second = state;
		}
	}
	if (!best)
		return NULL;
	if (keeper->units_in_row >= KEEPER_FAIR_UNITS && second &&
	    keeper->last_no == (unsigned)(best - keeper->chores))
		best = second;
	keeper->units_in_row =
		keeper->last_no == (unsigned)(best - keeper->chores) ? keeper->units_in_row + 1 : 1;
	keeper->last_no = best - keeper->chores;
	return best;
}

static void run_locked(struct keeper *keeper, struct chore_state *state,
		       struct keeper_worker *worker)
{
	unsigned wakes = state->wakes;
	int more;

	state->running++;
	lock_drop(&keeper->lock);
	more = state->chore.run(state->chore.ctx, worker);
	lock_take(&keeper->lock);
	state->running--;
	state->due_ms = clock_mono_ms() + state->chore.period_ms;
	state->is_ready = more > 0 || wakes != state->wakes;
	cond_wake_all(&keeper->changed);
}

static void *keeper_main(void *arg)
{
	struct keeper_thread *self = arg;
	struct keeper *keeper = self->keeper;

	lock_take(&keeper->lock);
	while (!keeper->is_stopping) {
		uint64_t wait_ms;
		struct chore_state *state = pick_locked(keeper, &wait_ms);

		if (state)
			run_locked(keeper, state, self->worker);
		else
			cond_wait_ms(&keeper->changed, &keeper->lock, wait_ms);
	}
	lock_drop(&keeper->lock);
	return NULL;
}

int keeper_start(struct keeper *keeper, unsigned thread_count)
{
	assert(thread_count > 0 && thread_count <= KEEPER_THREADS_MAX);
	for (unsigned i = 0; i < thread_count; i++) {
		struct keeper_worker *worker = &keeper->workers[i];
		int r = index_reader_open(keeper->index, &worker->reader);

		if (r == 0)
			r = aead_ctx_new(&worker->aead);
		keeper->args[i] = (struct keeper_thread){keeper, worker};
		if (r == 0)
			r = thread_start(&keeper->threads[i], "keeper", keeper_main,
					 &keeper->args[i]);
		if (r < 0) {
			keeper_stop(keeper);
			return r;
		}
		keeper->thread_count = i + 1;
	}
	return 0;
}

void keeper_wake(struct keeper *keeper, int chore_no)
{
	LOCK_SCOPE(&keeper->lock);
	assert(chore_no >= 0 && (unsigned)chore_no < keeper->chore_count);
	keeper->chores[chore_no].wakes++;
	keeper->chores[chore_no].is_ready = true;
	cond_wake_all(&keeper->changed);
}

void keeper_stop(struct keeper *keeper)
{
	if (!keeper)
		return;
	lock_take(&keeper->lock);
	keeper->is_stopping = true;
	cond_wake_all(&keeper->changed);
	lock_drop(&keeper->lock);
	for (unsigned i = 0; i < keeper->thread_count; i++)
		pthread_join(keeper->threads[i], NULL);
	keeper->thread_count = 0;
	for (unsigned i = 0; i < KEEPER_THREADS_MAX; i++) {
		index_reader_close(keeper->workers[i].reader);
		keeper->workers[i].reader = NULL;
		aead_ctx_free(keeper->workers[i].aead);
		keeper->workers[i].aead = NULL;
	}
}

void keeper_free(struct keeper *keeper)
{
	if (!keeper)
		return;
	cond_release(&keeper->changed);
	lock_release(&keeper->lock);
	mem_free(keeper);
}
