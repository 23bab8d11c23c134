/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/wrap_retry.h"

#include "util/lock.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

/*
 * Each request carries one frame of ours: attempts begun, and when the next is
 * due.  Between two attempts it is in `waiting`; whoever takes it out of there
 * under the lock owns it: the timer thread, a cancel, or close.  So a request
 * is submitted or answered by one of them only.
 *
 * Waiting requests are bounded; beyond the bound a failure is passed on as the
 * last attempt's.
 */

#define WAITING_COUNT_MAX 4096

enum { WORD_ATTEMPTS, WORD_DUE_MS };

struct retry_backend {
	struct backend base;
	struct retry_config config;
	pthread_t timer;

	struct lock lock; /* LOCK_BACKEND: all below */
	struct cond changed;
	struct list waiting;
	size_t waiting_count;
	bool is_closing;
};

static struct backend_frame *frame_of(struct backend_req *req)
{
	return &req->frames[req->frame_count - 1];
}

static struct backend_req *req_of(struct list *link)
{
	return container_of(link, struct backend_req, link);
}

static uint64_t random_below(uint64_t bound)
{
	uint64_t random;

	if (bound == 0 || getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		return bound;
	return random % (bound + 1);
}

static uint64_t wait_ms(const struct retry_config *config, uint64_t attempts,
			uint32_t retry_after_ms)
{
	uint64_t bound = config->wait_ms;

	if (retry_after_ms > 0)
		return MIN((uint64_t)retry_after_ms, config->wait_max_ms);
	for (uint64_t i = 1; i < attempts && bound < config->wait_max_ms; i++)
		bound *= 2;
	return random_below(MIN(bound, config->wait_max_ms));
}

/* Puts a failed request aside for its next attempt, unless this was the last. */
static bool park(struct retry_backend *retry, struct backend_req *req, uint64_t attempts)
{
	struct backend_frame *frame;
	LOCK_SCOPE(&retry->lock);

	if (retry->is_closing || atomic_load(&req->is_canceled) ||
	    retry->waiting_count == WAITING_COUNT_MAX)
		return false;
	frame = backend_push(&retry->base, req);
	frame->word[WORD_ATTEMPTS] = attempts;
	frame->word[WORD_DUE_MS] =
		clock_mono_ms() + wait_ms(&retry->config, attempts, req->retry_after_ms);
	list_push_back(&retry->waiting, &req->link);
	retry->waiting_count++;
	cond_wake_all(&retry->changed);
	return true;
}

static void retry_answered(struct backend *backend, struct backend_req *req,
			   struct backend_frame frame)
{
	struct retry_backend *retry = container_of(backend, struct retry_backend, base);
	uint64_t attempts = frame.word[WORD_ATTEMPTS];

	if (req->error != -EAGAIN || req->is_absent || attempts >= retry->config.attempts_count ||
	    !park(retry, req, attempts))
		backend_pass_on(req);
}

static int retry_submit(struct backend *backend, struct backend_req *req)
{
	int r;

	backend_push(backend, req)->word[WORD_ATTEMPTS] = 1;
	r = backend_submit_inner(backend, req);
	if (r < 0)
		backend_pop(req);
	return r;
}

/* ---- the timer ---- */

static void take_out_locked(struct retry_backend *retry, struct backend_req *req)
{
	list_remove(&req->link);
	retry->waiting_count--;
}

/* One that is due, taken out; else NULL and how long until there may be one. */
static struct backend_req *due_locked(struct retry_backend *retry, uint64_t *pause_ms)
{
	uint64_t now = clock_mono_ms();

	*pause_ms = HOUR;
	list_for_each(link, &retry->waiting) {
		struct backend_req *req = req_of(link);
		uint64_t due = frame_of(req)->word[WORD_DUE_MS];

		if (due <= now) {
			take_out_locked(retry, req);
			return req;
		}
		*pause_ms = MIN(*pause_ms, due - now);
	}
	return NULL;
}

static void try_again(struct retry_backend *retry, struct backend_req *req)
{
	int r;

	frame_of(req)->word[WORD_ATTEMPTS]++;
	backend_clear_answer(req);
	r = backend_submit_inner(&retry->base, req);
	if (r < 0)
		backend_answer(req, r, r == -EAGAIN ? "too many requests are queued" : NULL);
}

static void *timer_run(void *arg)
{
	struct retry_backend *retry = arg;
	struct backend_req *req;
	uint64_t pause_ms;

	lock_take(&retry->lock);
	while (!retry->is_closing) {
		req = due_locked(retry, &pause_ms);
		if (req) {
			lock_drop(&retry->lock);
			try_again(retry, req);
			lock_take(&retry->lock);
		} else {
			cond_wait_ms(&retry->changed, &retry->lock, pause_ms);
		}
	}
	lock_drop(&retry->lock);
	return NULL;
}

/* ---- the rest of the contract ---- */

static void retry_cancel(struct backend *backend, struct backend_req *req)
{
	struct retry_backend *retry = container_of(backend, struct retry_backend, base);
	bool is_waiting = false;

	lock_take(&retry->lock);
	list_for_each(link, &retry->waiting) {
		if (req_of(link) == req) {
			take_out_locked(retry, req);
			is_waiting = true;
			break;
		}
	}
	lock_drop(&retry->lock);
	if (is_waiting) {
		backend_pop(req);
		req->retry_after_ms = 0;
		backend_answer(req, -ECANCELED, NULL);
	}
}

static void retry_close(struct backend *backend)
{
	struct retry_backend *retry = container_of(backend, struct retry_backend, base);

	lock_take(&retry->lock);
	retry->is_closing = true;
	cond_wake_all(&retry->changed);
	lock_drop(&retry->lock);
	pthread_join(retry->timer, NULL);
	/* Nobody adds to it any more. */
	list_for_each(link, &retry->waiting) {
		struct backend_req *req = req_of(link);

		list_remove(link);
		backend_pop(req);
		backend_answer(req, -ECANCELED, NULL);
	}
	backend_close(retry->base.inner);
	lock_release(&retry->lock);
	cond_release(&retry->changed);
	backend_wrap_release(&retry->base);
	mem_free(retry);
}

static const struct backend_ops retry_ops = {
	.type = "retry",
	.submit = retry_submit,
	.answered = retry_answered,
	.cancel = retry_cancel,
	.close = retry_close,
};

int retry_wrap(struct backend *inner, const struct retry_config *config, struct backend **backend)
{
	struct retry_backend *retry = mem_alloc(sizeof(*retry));
	int r;

	if (!retry)
		return -ENOMEM;
	r = backend_wrap_init(&retry->base, &retry_ops, inner);
	if (r < 0)
		goto fail;
	retry->config = *config;
	lock_init(&retry->lock, LOCK_BACKEND);
	cond_init(&retry->changed);
	list_init(&retry->waiting);
	r = thread_start(&retry->timer, "retry", timer_run, retry);
	if (r < 0)
		goto fail_base;
	*backend = &retry->base;
	return 0;

fail_base:
	lock_release(&retry->lock);
	cond_release(&retry->changed);
	backend_wrap_release(&retry->base);
fail:
	mem_free(retry);
	return r;
}

void retry_clock_moved(struct backend *backend)
{
	struct backend *found = backend_find(backend, "retry");
	struct retry_backend *retry;

	if (!found)
		return;
	retry = container_of(found, struct retry_backend, base);
	LOCK_SCOPE(&retry->lock);
	cond_wake_all(&retry->changed);
}

size_t retry_waiting_count(struct backend *backend)
{
	struct backend *found = backend_find(backend, "retry");
	struct retry_backend *retry;

	if (!found)
		return 0;
	retry = container_of(found, struct retry_backend, base);
	LOCK_SCOPE(&retry->lock);
	return retry->waiting_count;
}
