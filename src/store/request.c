/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request of somebody who may wait, but not for a provider that never answers: its memory
 * outlives the caller until the answer comes, however late.
 */
#include "store/transfer_private.h"

#include "util/clock.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SETTLE_MS 10000u
#define LOOK_MS	 200u /* how often a waiting thread looks whether transfer stops */

struct running {
	struct lock lock; /* LOCK_LEAF: guards the next three */
	struct cond done;
	unsigned refs;
	bool is_done;
	struct lane *lane;
	char key[BACKEND_KEY_MAX + 1], cursor[BACKEND_CURSOR_SIZE];
	struct buf bytes;
	struct backend_list list;
	struct backend_req req;
};

static void running_drop(struct running *running)
{
	bool is_last;

	lock_take(&running->lock);
	is_last = --running->refs == 0;
	lock_drop(&running->lock);
	if (!is_last)
		return;
	buf_release(&running->bytes);
	backend_list_release(&running->list);
	cond_release(&running->done);
	lock_release(&running->lock);
	mem_free(running);
}

static void running_done(struct backend_req *req)
{
	struct running *running = container_of(req, struct running, req);

	transfer_turned(running->lane->transfer,
			provider_answered(&running->lane->provider, req, clock_mono_ms()));
	lock_take(&running->lock);
	running->is_done = true;
	cond_wake_all(&running->done);
	lock_drop(&running->lock);
	running_drop(running);
}

static struct running *running_new(struct lane *lane, const struct transfer_request *request)
{
	struct running *running = mem_alloc(sizeof(*running));

	if (!running)
		return NULL;
	lock_init(&running->lock, LOCK_LEAF);
	cond_init(&running->done);
	running->refs = 2;
	running->lane = lane;
	snprintf(running->key, sizeof(running->key), "%s", request->key);
	if (buf_append(&running->bytes, request->body) < 0) {
		running->refs = 1;
		running_drop(running);
		return NULL;
	}
	running->req = (struct backend_req){.op = request->op,
					    .flags = request->flags,
					    .key = running->key,
					    .offset = request->offset,
					    .len = request->len,
					    .done = running_done};
	if (request->op == BACKEND_PUT)
		running->req.body = buf_bytes(&running->bytes);
	if (request->op == BACKEND_GET)
		running->req.out = &running->bytes;
	if (request->op == BACKEND_LIST) {
		snprintf(running->cursor, sizeof(running->cursor), "%s", request->list->cursor);
		running->req.cursor = running->cursor;
		running->req.list = &running->list;
	}
	return running;
}

/* -ETIMEDOUT: no answer in time, or transfer stops. */
static int await(struct transfer *transfer, struct running *running)
{
	uint64_t until = clock_mono_ms() + FETCH_GIVE_UP_MS;

	LOCK_SCOPE(&running->lock);
	while (!running->is_done && !transfer->is_stopping && clock_mono_ms() < until)
		cond_wait_ms(&running->done, &running->lock, LOOK_MS);
	return running->is_done ? running->req.error : -ETIMEDOUT;
}

static void take_results(struct running *running, struct transfer_request *request)
{
	request->size = running->req.size;
	if (request->op == BACKEND_GET)
		buf_swap(request->out, &running->bytes);
	if (request->op == BACKEND_LIST) {
		struct backend_list page = running->list;

		running->list = *request->list;
		*request->list = page;
	}
}

int lane_request(struct lane *lane, struct transfer_request *request)
{
	struct running *running;
	int r;

	if (!lane->provider.backend)
		return -ENODEV;
	running = running_new(lane, request);
	if (!running)
		return -ENOMEM;
	r = backend_submit(lane->provider.backend, &running->req);
	if (r < 0) {
		running_drop(running);
		running_drop(running);
		return r;
	}
	r = await(lane->transfer, running);
	if (r == -ETIMEDOUT)
		backend_cancel(lane->provider.backend, &running->req);
	else if (r == 0)
		take_results(running, request);
	running_drop(running);
	return r;
}

int transfer_request(struct transfer *transfer, unsigned i, struct transfer_request *request)
{
	assert(i < transfer->lane_count);
	return lane_request(&transfer->lanes[i], request);
}

/* ---- a barrier behind what was told before ---- */

struct settling {
	struct waiter waiter;
	struct lock lock; /* LOCK_LEAF: guards the rest */
	struct cond done;
	unsigned refs;
	bool is_done;
	int error;
};

static void settling_drop(struct settling *settling)
{
	bool is_last;

	lock_take(&settling->lock);
	is_last = --settling->refs == 0;
	lock_drop(&settling->lock);
	if (!is_last)
		return;
	cond_release(&settling->done);
	lock_release(&settling->lock);
	mem_free(settling);
}

static void settled(struct waiter *waiter, int error)
{
	struct settling *settling = container_of(waiter, struct settling, waiter);

	lock_take(&settling->lock);
	settling->is_done = true;
	settling->error = error;
	cond_wake_all(&settling->done);
	lock_drop(&settling->lock);
	settling_drop(settling);
}

int transfer_settle(struct transfer *transfer)
{
	struct settling *settling = mem_alloc(sizeof(*settling));
	uint64_t until = clock_mono_ms() + SETTLE_MS;
	int r;

	if (!settling)
		return -ENOMEM;
	settling->waiter.done = settled;
	lock_init(&settling->lock, LOCK_LEAF);
	cond_init(&settling->done);
	settling->refs = 2;
	transfer_forget(transfer, 0, &settling->waiter);
	lock_take(&settling->lock);
	while (!settling->is_done && clock_mono_ms() < until)
		cond_wait_ms(&settling->done, &settling->lock, LOOK_MS);
	r = settling->is_done ? settling->error : -ETIMEDOUT;
	lock_drop(&settling->lock);
	settling_drop(settling);
	return r;
}

bool transfer_is_stopping(const struct transfer *transfer)
{
	return transfer->is_stopping;
}
