/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many pushers, many workers, a small queue, and a close in the middle: each
 * item that was taken runs exactly once, and none that was refused.
 */
#include "util/counter.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <stdio.h>
#include <stdlib.h>

#define PUSHERS	   4
#define ITEMS_EACH 20000
#define ROUNDS	   5

static _Atomic unsigned char runs[PUSHERS * ITEMS_EACH + 1];
static struct counter ran = COUNTER_INIT("ran", "items run");
static struct histogram lengths = HISTOGRAM_INIT("lengths", "length of the queue");
static struct queue queue;

struct pusher {
	pthread_t thread;
	size_t first, taken;
};

static void run(void *arg, void *item)
{
	size_t i = (size_t)item;

	(void)arg;
	atomic_fetch_add(&runs[i], 1);
	counter_add(&ran, 1);
	histogram_add_us(&lengths, queue_count(&queue));
}

static void *push_all(void *arg)
{
	struct pusher *pusher = arg;

	for (size_t i = 0; i < ITEMS_EACH; i++) {
		if (queue_push(&queue, (void *)(pusher->first + i)) < 0)
			break;
		pusher->taken++;
	}
	return NULL;
}

static void fail(const char *what)
{
	fprintf(stderr, "stress/queue: %s\n", what);
	exit(1);
}

static void one_round(bool closes_early)
{
	struct pusher pushers[PUSHERS] = {0};
	struct workers workers;
	uint64_t before = counter_get(&ran);
	size_t taken = 0;

	if (queue_init(&queue, 16) < 0 || workers_start(&workers, &queue, 4, "w", run, NULL) < 0)
		fail("cannot start");
	for (size_t p = 0; p < PUSHERS; p++) {
		pushers[p].first = 1 + p * ITEMS_EACH;
		if (thread_start(&pushers[p].thread, "p", push_all, &pushers[p]) < 0)
			fail("cannot start");
	}
	while (closes_early && counter_get(&ran) - before < ITEMS_EACH)
		sched_yield();
	if (closes_early)
		queue_close(&queue);
	for (size_t p = 0; p < PUSHERS; p++)
		pthread_join(pushers[p].thread, NULL);
	workers_stop(&workers);
	for (size_t p = 0; p < PUSHERS; p++) {
		taken += pushers[p].taken;
		for (size_t i = 0; i < ITEMS_EACH; i++) {
			unsigned n = atomic_exchange(&runs[pushers[p].first + i], 0);

			if (n != (i < pushers[p].taken))
				fail("an item ran twice, never, or was refused and ran");
		}
	}
	if (counter_get(&ran) - before != taken || (!closes_early && taken != PUSHERS * ITEMS_EACH))
		fail("items were lost");
	queue_release(&queue);
}

int main(void)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		one_round(i % 2 == 1);
	return 0;
}
