/* SPDX-License-Identifier: Apache-2.0 */
#include "util/clock.h"
#include "util/lock.h"
#include "util/queue.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

static struct lock low = LOCK_INIT(LOCK_STORE);
static struct lock middle = LOCK_INIT(LOCK_INODE);
static struct lock middle2 = LOCK_INIT(LOCK_INODE);
static struct lock high = LOCK_INIT(LOCK_LOG);

Test(util_lock, ranks_may_rise_and_be_dropped_in_any_order)
{
	for (unsigned i = 0; i < 3; i++) {
		lock_take(&low);
		lock_take(&middle);
		lock_take(&high);
		lock_drop(&middle);
		lock_drop(&low);
		lock_drop(&high);
	}
	lock_take_pair(&middle2, &middle);
	lock_take(&high);
	lock_drop(&high);
	lock_drop_pair(&middle, &middle2);
	lock_take_pair(&middle, &middle);
	lock_drop_pair(&middle, &middle);
	lock_take(&low);
	lock_drop(&low);
}

#ifndef NDEBUG
Test(util_lock, a_falling_rank_is_a_bug, .signal = SIGABRT)
{
	lock_take(&high);
	lock_take(&low);
}

Test(util_lock, an_equal_rank_is_a_bug, .signal = SIGABRT)
{
	lock_take(&middle);
	lock_take(&middle2);
}

Test(util_lock, a_pair_under_a_higher_rank_is_a_bug, .signal = SIGABRT)
{
	lock_take(&high);
	lock_take_pair(&middle, &middle2);
}

Test(util_lock, dropping_what_is_not_held_is_a_bug, .signal = SIGABRT)
{
	lock_drop(&low);
}

Test(util_lock, waiting_without_the_lock_is_a_bug, .signal = SIGABRT)
{
	struct cond cond;

	cond_init(&cond);
	cond_wait(&cond, &low);
}
#endif

static void *take_and_drop(void *arg)
{
	lock_take(&low); /* another thread's locks do not count */
	lock_drop(&low);
	return arg;
}

Test(util_lock, ranks_are_of_each_thread)
{
	pthread_t thread;

	lock_take(&high);
	cr_assert_eq(thread_start(&thread, "other", take_and_drop, NULL), 0);
	pthread_join(thread, NULL);
	lock_drop(&high);
}

static struct lock *early_return(struct lock *lock, bool is_early)
{
	LOCK_SCOPE(lock);
	if (is_early)
		return NULL;
	return lock;
}

Test(util_lock, a_scope_drops_on_every_way_out)
{
	early_return(&low, true);
	early_return(&low, false);
	lock_take(&low);
	lock_drop(&low);
}

struct door {
	struct lock lock;
	struct cond changed;
	bool is_open, is_seen; /* lock */
	int result;
};

static void *wait_for_door(void *arg)
{
	struct door *door = arg;

	LOCK_SCOPE(&door->lock);
	while (!door->is_open)
		cond_wait(&door->changed, &door->lock);
	door->is_seen = true;
	cond_wake_one(&door->changed);
	return NULL;
}

Test(util_lock, a_wait_ends_with_the_wake, .timeout = 60)
{
	struct door door = {0};
	pthread_t thread;

	lock_init(&door.lock, LOCK_LEAF);
	cond_init(&door.changed);
	cr_assert_eq(thread_start(&thread, "waiter", wait_for_door, &door), 0);
	lock_take(&door.lock);
	door.is_open = true;
	cond_wake_all(&door.changed);
	while (!door.is_seen)
		cr_assert_eq(cond_wait_ms(&door.changed, &door.lock, 50000), 0);
	lock_drop(&door.lock);
	pthread_join(thread, NULL);
	cond_release(&door.changed);
	lock_release(&door.lock);
}

Test(util_lock, a_wait_for_nothing_times_out, .timeout = 60)
{
	struct cond cond;
	int r;

	cond_init(&cond);
	lock_take(&low);
	do
		r = cond_wait_ms(&cond, &low, 1);
	while (r == 0);
	cr_assert_eq(r, -ETIMEDOUT);
	lock_drop(&low);
	cond_release(&cond);
}

static void *wait_an_hour(void *arg)
{
	struct door *door = arg;
	int r;

	LOCK_SCOPE(&door->lock);
	door->is_open = true;
	cond_wake_all(&door->changed);
	do
		r = cond_wait_ms(&door->changed, &door->lock, 3600000);
	while (r == 0);
	door->result = r;
	return NULL;
}

Test(util_lock, frozen_time_ends_a_wait_when_it_is_advanced, .timeout = 60)
{
	struct door door = {0};
	pthread_t thread;

	clock_test_freeze(1000, (struct wall_time){0});
	lock_init(&door.lock, LOCK_LEAF);
	cond_init(&door.changed);
	lock_take(&door.lock);
	cr_assert_eq(thread_start(&thread, "waiter", wait_an_hour, &door), 0);
	while (!door.is_open)
		cond_wait(&door.changed, &door.lock);
	lock_drop(&door.lock); /* it waits by now: it held the lock until then */
	lock_take(&door.lock);
	lock_drop(&door.lock);
	clock_test_advance(3600000);
	pthread_join(thread, NULL);
	cr_assert_eq(door.result, -ETIMEDOUT);
	cond_release(&door.changed);
	lock_release(&door.lock);
}
