/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/wrap_limit.h"

#include "util/lock.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>

/*
 * Two lines of waiting requests: PUT in one, all that is small or that a
 * reader waits for in the other, which goes first; of several requests under
 * way, PUTs leave one place to it.  The head of a line passes when there is a
 * place and its bytes have been earned.
 *
 * pump() lets pass what may, and is called after everything that may have
 * changed that.  Only one thread pumps at a time and the others leave a note:
 * an inner backend that answers at once would else recurse through the whole
 * line.
 */

enum line { LINE_READ, LINE_PUT, LINE_COUNT };

struct bucket {
	int64_t tokens; /* bytes earned; negative: owed */
	uint64_t filled_mono_ms, passed_mono_ms;
};

struct limit_backend {
	struct backend base;
	pthread_t timer;

	struct lock lock; /* LOCK_BACKEND: all below */
	struct cond changed;
	struct limit_config config;
	struct list lines[LINE_COUNT];
	size_t queued_count;
	struct bucket up, down;
	uint64_t inflight_count, put_inflight_count;
	bool is_pumping, is_pump_asked;
	uint64_t kicks; /* how often the timer was told to look again */
	bool is_closing;
};

static enum line line_of(const struct backend_req *req)
{
	return req->op == BACKEND_PUT ? LINE_PUT : LINE_READ;
}

static struct backend_req *req_of(struct list *link)
{
	return container_of(link, struct backend_req, link);
}

/* ---- buckets ---- */

/* After a pause longer than this nothing has been earned meanwhile. */
#define IDLE_MS 250

static void bucket_reset(struct bucket *bucket)
{
	*bucket = (struct bucket){.filled_mono_ms = clock_mono_ms()};
}

static void bucket_fill(struct bucket *bucket, uint64_t bytes_per_s, uint64_t tokens_max)
{
	uint64_t now = clock_mono_ms(), passed = now - bucket->filled_mono_ms;
	uint64_t gain = MIN(passed, HOUR) * MIN(bytes_per_s, TIB) / SECOND;

	if (gain == 0 && passed < HOUR)
		return; /* the time does not move, so that fractions add up */
	bucket->tokens = MIN(bucket->tokens + (int64_t)gain, (int64_t)tokens_max);
	bucket->filled_mono_ms = now;
}

/* Milliseconds until `need` bytes have been earned; 0: they have. */
static uint64_t bucket_wait_ms(struct bucket *bucket, uint64_t bytes_per_s, uint64_t need)
{
	if (bytes_per_s == 0)
		return 0;
	/* Up to a second's worth more, so that a late timer costs nothing. */
	bucket_fill(bucket, bytes_per_s, need + MIN(bytes_per_s, TIB));
	if (bucket->tokens >= (int64_t)need)
		return 0;
	return (need - (uint64_t)bucket->tokens) * SECOND / bytes_per_s + 1;
}

/* The first request after its line was empty. */
static void bucket_arrive(struct bucket *bucket, uint64_t bytes_per_s)
{
	if (clock_mono_ms() - bucket->passed_mono_ms > IDLE_MS)
		bucket_fill(bucket, bytes_per_s, 0);
	if (clock_mono_ms() - bucket->passed_mono_ms > IDLE_MS && bucket->tokens >= 0)
		bucket->filled_mono_ms = clock_mono_ms();
}

static void bucket_take(struct bucket *bucket, uint64_t bytes_per_s, uint64_t bytes)
{
	if (bytes_per_s > 0)
		bucket->tokens -= (int64_t)bytes;
	bucket->passed_mono_ms = clock_mono_ms();
}

/* A GET without a length owes when its answer tells. */
static bool is_charged_later(const struct backend_req *req)
{
	return req->op == BACKEND_GET && (req->len == BACKEND_TO_END || req->flags & BACKEND_TAIL);
}

static uint64_t need_of(const struct backend_req *req)
{
	if (req->op == BACKEND_PUT)
		return req->body.len;
	return is_charged_later(req) ? 0 : req->len;
}

static uint64_t wait_ms_locked(struct limit_backend *limit, const struct backend_req *req)
{
	if (req->op == BACKEND_PUT)
		return bucket_wait_ms(&limit->up, limit->config.upload_bytes_per_s, need_of(req));
	if (req->op == BACKEND_GET)
		return bucket_wait_ms(&limit->down, limit->config.download_bytes_per_s,
				      need_of(req));
	return 0;
}

static void arrive_locked(struct limit_backend *limit, const struct backend_req *req)
{
	if (req->op == BACKEND_PUT)
		bucket_arrive(&limit->up, limit->config.upload_bytes_per_s);
	if (req->op == BACKEND_GET)
		bucket_arrive(&limit->down, limit->config.download_bytes_per_s);
}

static void charge_locked(struct limit_backend *limit, const struct backend_req *req)
{
	if (req->op == BACKEND_PUT)
		bucket_take(&limit->up, limit->config.upload_bytes_per_s, need_of(req));
	if (req->op == BACKEND_GET)
		bucket_take(&limit->down, limit->config.download_bytes_per_s, need_of(req));
}

/* It did not go after all. */
static void refund_locked(struct limit_backend *limit, const struct backend_req *req)
{
	if (req->op == BACKEND_PUT && limit->config.upload_bytes_per_s > 0)
		limit->up.tokens += (int64_t)need_of(req);
	if (req->op == BACKEND_GET && limit->config.download_bytes_per_s > 0)
		limit->down.tokens += (int64_t)need_of(req);
}

/* ---- passing ---- */

static bool has_place_locked(const struct limit_backend *limit, enum line line)
{
	uint64_t places = limit->config.inflight_count;

	if (limit->inflight_count >= places)
		return false;
	return line != LINE_PUT || places == 1 || limit->put_inflight_count < places - 1;
}

static void enter_locked(struct limit_backend *limit, const struct backend_req *req)
{
	limit->inflight_count++;
	if (req->op == BACKEND_PUT)
		limit->put_inflight_count++;
	charge_locked(limit, req);
}

static void leave_locked(struct limit_backend *limit, enum backend_op op)
{
	limit->inflight_count--;
	if (op == BACKEND_PUT)
		limit->put_inflight_count--;
}

/* The next request that may pass, counted in; NULL and the pause until one may. */
static struct backend_req *next_locked(struct limit_backend *limit, uint64_t *pause_ms)
{
	*pause_ms = HOUR;
	for (unsigned line = 0; line < LINE_COUNT; line++) {
		struct backend_req *req;
		uint64_t wait;

		if (list_is_empty(&limit->lines[line]) || !has_place_locked(limit, line))
			continue;
		req = req_of(limit->lines[line].next);
		wait = wait_ms_locked(limit, req);
		if (wait > 0) {
			*pause_ms = MIN(*pause_ms, wait);
			continue;
		}
		list_remove(&req->link);
		limit->queued_count--;
		enter_locked(limit, req);
		return req;
	}
	return NULL;
}

/* The timer is to look again: it may be waiting for too long a time. */
static void kick_locked(struct limit_backend *limit)
{
	limit->kicks++;
	cond_wake_all(&limit->changed);
}

static void start(struct limit_backend *limit, struct backend_req *req)
{
	int r = backend_submit_inner(&limit->base, req);

	/* Comes back through limit_answered, like any answer. */
	if (r < 0)
		backend_answer(req, r, r == -EAGAIN ? "too many requests are queued" : NULL);
}

/* Returns the pause after which to call again. */
static uint64_t pump(struct limit_backend *limit)
{
	struct backend_req *req;
	uint64_t pause_ms = HOUR;

	lock_take(&limit->lock);
	limit->is_pump_asked = true;
	while (!limit->is_pumping && limit->is_pump_asked) {
		limit->is_pumping = true;
		limit->is_pump_asked = false;
		while (!limit->is_closing && (req = next_locked(limit, &pause_ms))) {
			lock_drop(&limit->lock);
			start(limit, req);
			lock_take(&limit->lock);
		}
		limit->is_pumping = false;
	}
	lock_drop(&limit->lock);
	return pause_ms;
}

static void limit_answered(struct backend *backend, struct backend_req *req,
			   struct backend_frame frame)
{
	struct limit_backend *limit = container_of(backend, struct limit_backend, base);
	bool is_queued;

	(void)frame;
	lock_take(&limit->lock);
	leave_locked(limit, req->op);
	if (is_charged_later(req))
		bucket_take(&limit->down, limit->config.download_bytes_per_s, req->got);
	is_queued = limit->queued_count > 0 && !limit->is_closing;
	lock_drop(&limit->lock);
	/* Pump first: this answer may be the last one that close waits for. */
	if (is_queued && pump(limit) < HOUR) {
		lock_take(&limit->lock);
		kick_locked(limit);
		lock_drop(&limit->lock);
	}
	backend_pass_on(req);
}

static int limit_submit(struct backend *backend, struct backend_req *req)
{
	struct limit_backend *limit = container_of(backend, struct limit_backend, base);
	enum line line = line_of(req);
	int r;

	lock_take(&limit->lock);
	if (list_is_empty(&limit->lines[line]))
		arrive_locked(limit, req);
	if (list_is_empty(&limit->lines[line]) && has_place_locked(limit, line) &&
	    wait_ms_locked(limit, req) == 0) {
		enter_locked(limit, req);
		lock_drop(&limit->lock);
		backend_push(backend, req);
		r = backend_submit_inner(backend, req);
		if (r < 0) {
			backend_pop(req);
			lock_take(&limit->lock);
			leave_locked(limit, req->op);
			refund_locked(limit, req);
			kick_locked(limit);
			lock_drop(&limit->lock);
		}
		return r;
	}
	if (limit->queued_count >= limit->config.queue_count) {
		lock_drop(&limit->lock);
		return -EAGAIN;
	}
	backend_push(backend, req);
	list_push_back(&limit->lines[line], &req->link);
	limit->queued_count++;
	kick_locked(limit);
	lock_drop(&limit->lock);
	return 0;
}

static void *timer_run(void *arg)
{
	struct limit_backend *limit = arg;
	uint64_t pause_ms, kicks;

	lock_take(&limit->lock);
	while (!limit->is_closing) {
		kicks = limit->kicks;
		lock_drop(&limit->lock);
		pause_ms = pump(limit);
		lock_take(&limit->lock);
		if (!limit->is_closing && kicks == limit->kicks)
			cond_wait_ms(&limit->changed, &limit->lock, pause_ms);
	}
	lock_drop(&limit->lock);
	return NULL;
}

/* ---- the rest of the contract ---- */

static void limit_cancel(struct backend *backend, struct backend_req *req)
{
	struct limit_backend *limit = container_of(backend, struct limit_backend, base);
	bool is_queued = false;

	lock_take(&limit->lock);
	for (unsigned line = 0; line < LINE_COUNT && !is_queued; line++) {
		list_for_each(link, &limit->lines[line]) {
			if (req_of(link) != req)
				continue;
			list_remove(link);
			limit->queued_count--;
			is_queued = true;
			break;
		}
	}
	lock_drop(&limit->lock);
	if (is_queued) {
		backend_pop(req);
		backend_answer(req, -ECANCELED, NULL);
	}
}

static void limit_close(struct backend *backend)
{
	struct limit_backend *limit = container_of(backend, struct limit_backend, base);

	lock_take(&limit->lock);
	limit->is_closing = true;
	cond_wake_all(&limit->changed);
	lock_drop(&limit->lock);
	pthread_join(limit->timer, NULL);
	for (unsigned line = 0; line < LINE_COUNT; line++) {
		for (;;) {
			struct backend_req *req = NULL;

			lock_take(&limit->lock);
			if (!list_is_empty(&limit->lines[line])) {
				req = req_of(limit->lines[line].next);
				list_remove(&req->link);
				limit->queued_count--;
			}
			lock_drop(&limit->lock);
			if (!req)
				break;
			backend_pop(req);
			backend_answer(req, -ECANCELED, NULL);
		}
	}
	backend_close(limit->base.inner);
	lock_release(&limit->lock);
	cond_release(&limit->changed);
	backend_wrap_release(&limit->base);
	mem_free(limit);
}

static const struct backend_ops limit_ops = {
	.type = "limit",
	.submit = limit_submit,
	.answered = limit_answered,
	.cancel = limit_cancel,
	.close = limit_close,
};

int limit_wrap(struct backend *inner, const struct limit_config *config, struct backend **backend)
{
	struct limit_backend *limit = mem_alloc(sizeof(*limit));
	int r;

	if (!limit)
		return -ENOMEM;
	r = backend_wrap_init(&limit->base, &limit_ops, inner);
	if (r < 0)
		goto fail;
	lock_init(&limit->lock, LOCK_BACKEND);
	cond_init(&limit->changed);
	limit->config = *config;
	for (unsigned line = 0; line < LINE_COUNT; line++)
		list_init(&limit->lines[line]);
	bucket_reset(&limit->up);
	bucket_reset(&limit->down);
	r = thread_start(&limit->timer, "limit", timer_run, limit);
	if (r < 0)
		goto fail_base;
	*backend = &limit->base;
	return 0;

fail_base:
	lock_release(&limit->lock);
	cond_release(&limit->changed);
	backend_wrap_release(&limit->base);
fail:
	mem_free(limit);
	return r;
}

static struct limit_backend *limit_of(struct backend *backend)
{
	struct backend *found = backend_find(backend, "limit");

	return found ? container_of(found, struct limit_backend, base) : NULL;
}

int backend_limits_set(struct backend *backend, const struct limit_config *config)
{
	struct limit_backend *limit = limit_of(backend);

	if (!limit)
		return -ENOENT;
	LOCK_SCOPE(&limit->lock);
	limit->config = *config;
	bucket_reset(&limit->up);
	bucket_reset(&limit->down);
	kick_locked(limit);
	return 0;
}

int backend_limits_get(struct backend *backend, struct limit_config *config)
{
	struct limit_backend *limit = limit_of(backend);

	if (!limit)
		return -ENOENT;
	LOCK_SCOPE(&limit->lock);
	*config = limit->config;
	return 0;
}

void limit_clock_moved(struct backend *backend)
{
	struct limit_backend *limit = limit_of(backend);

	if (!limit)
		return;
	LOCK_SCOPE(&limit->lock);
	kick_locked(limit);
}
