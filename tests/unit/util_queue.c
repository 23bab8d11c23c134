/* SPDX-License-Identifier: Apache-2.0 */
#include "util/mem.h"
#include "util/queue.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static int items[100];

Test(util_queue, items_leave_in_the_order_they_came)
{
	struct queue queue;

	cr_assert_eq(queue_init(&queue, 3), 0);
	cr_assert_null(queue_try_pop(&queue));
	for (int i = 0; i < 100; i += 2) { /* wraps around at every place */
		cr_assert_eq(queue_push(&queue, &items[i]), 0);
		cr_assert_eq(queue_try_push(&queue, &items[i + 1]), 0);
		cr_assert_eq(queue_count(&queue), 2);
		cr_assert_eq(queue_pop(&queue), &items[i]);
		cr_assert_eq(queue_try_pop(&queue), &items[i + 1]);
	}
	queue_release(&queue);
}

Test(util_queue, a_full_queue_refuses_and_a_closed_one_drains)
{
	struct queue queue;

	cr_assert_eq(queue_init(&queue, 2), 0);
	cr_assert_eq(queue_try_push(&queue, &items[0]), 0);
	cr_assert_eq(queue_try_push(&queue, &items[1]), 0);
	cr_assert_eq(queue_try_push(&queue, &items[2]), -EAGAIN);
	queue_close(&queue);
	cr_assert_eq(queue_try_push(&queue, &items[2]), -EPIPE);
	cr_assert_eq(queue_push(&queue, &items[2]), -EPIPE);
	cr_assert_eq(queue_pop(&queue), &items[0]);
	cr_assert_eq(queue_pop(&queue), &items[1]);
	cr_assert_null(queue_pop(&queue));
	queue_release(&queue);
}

static void *push_one(void *arg)
{
	return queue_push(arg, &items[1]) == 0 ? &items[0] : NULL;
}

Test(util_queue, a_pusher_waits_for_room, .timeout = 60)
{
	struct queue queue;
	pthread_t thread;
	void *result;

	cr_assert_eq(queue_init(&queue, 1), 0);
	cr_assert_eq(queue_push(&queue, &items[0]), 0);
	cr_assert_eq(thread_start(&thread, "pusher", push_one, &queue), 0);
	cr_assert_eq(queue_pop(&queue), &items[0]);
	cr_assert_eq(queue_pop(&queue), &items[1]);
	pthread_join(thread, &result);
	cr_assert_eq(result, &items[0]);
	queue_release(&queue);
}

Test(util_queue, closing_ends_every_wait, .timeout = 60)
{
	struct queue queue;
	pthread_t thread;
	void *result;

	cr_assert_eq(queue_init(&queue, 1), 0);
	cr_assert_eq(queue_push(&queue, &items[0]), 0);
	cr_assert_eq(thread_start(&thread, "pusher", push_one, &queue), 0);
	queue_close(&queue);
	pthread_join(thread, &result);
	cr_assert_null(result);
	cr_assert_eq(queue_pop(&queue), &items[0]);
	cr_assert_null(queue_pop(&queue));
	queue_release(&queue);
}

struct tally {
	_Atomic unsigned count;
	_Atomic unsigned long sum;
};

static void tally_run(void *arg, void *item)
{
	struct tally *tally = arg;

	atomic_fetch_add(&tally->count, 1);
	atomic_fetch_add(&tally->sum, (unsigned long)item);
}

Test(util_queue, workers_run_every_item_before_they_stop, .timeout = 60)
{
	struct tally tally = {0};
	struct workers workers;
	struct queue queue;

	cr_assert_eq(queue_init(&queue, 7), 0);
	cr_assert_eq(workers_start(&workers, &queue, 4, "tally-with-a-long-name", tally_run,
				   &tally), 0);
	for (unsigned long i = 1; i <= 10000; i++)
		cr_assert_eq(queue_push(&queue, (void *)i), 0);
	workers_stop(&workers);
	cr_assert_eq(tally.count, 10000);
	cr_assert_eq(tally.sum, 50005000);
	workers_stop(&workers); /* empty by now */
	queue_release(&queue);
	queue_release(&queue);
}

Test(util_queue, workers_that_cannot_start_leave_the_queue_open)
{
	struct tally tally = {0};
	struct workers workers;
	struct queue queue;

	mem_fail_at(1);
	cr_assert_eq(queue_init(&queue, 7), -ENOMEM);
	cr_assert_eq(queue_init(&queue, 7), 0);
	mem_fail_at(1);
	cr_assert_eq(workers_start(&workers, &queue, 2, "t", tally_run, &tally), -ENOMEM);
	workers_stop(&workers);
	cr_assert_eq(queue_try_push(&queue, &items[0]), 0);
	queue_release(&queue);
}

static void *blocked_signals(void *arg)
{
	sigset_t set;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	return sigismember(&set, SIGTERM) == 1 && sigismember(&set, SIGHUP) == 1 ? arg : NULL;
}

Test(util_queue, threads_take_no_signals_and_the_starter_still_does)
{
	pthread_t thread;
	void *result;

	cr_assert_eq(thread_start(&thread, "quiet", blocked_signals, items), 0);
	pthread_join(thread, &result);
	cr_assert_eq(result, items);
	cr_assert_null(blocked_signals(items));
}
