/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keeper.h"

#include "tests/lib/copies_world.h"
#include "util/lock.h"

#include <criterion/criterion.h>
#include <string.h>

/* A chore that notes its letter for each unit, and has `units` of them. */
struct toy {
	char letter;
	unsigned units;
};

static struct lock toy_lock = LOCK_INIT(LOCK_LEAF);
static struct cond toy_done;
static char toy_log[256];
static unsigned toy_count, toy_expected;
static bool toy_is_open;

static int toy_run(void *ctx, struct keeper_worker *worker)
{
	struct toy *toy = ctx;

	cr_assert(worker->reader && worker->aead);
	LOCK_SCOPE(&toy_lock);
	if (toy->units == 0)
		return 0;
	toy->units--;
	toy_log[toy_count++] = toy->letter;
	if (toy_count == toy_expected) {
		toy_is_open = true;
		cond_wake_all(&toy_done);
	}
	return toy->units > 0;
}

static void run_toys(struct toy *toys, unsigned count, unsigned expected)
{
	struct data_world data;
	struct keeper *keeper;

	cond_init(&toy_done);
	toy_expected = expected;
	data_world_init(&data, NULL);
	cr_assert_eq(keeper_new(data.index, &keeper), 0);
	for (unsigned i = 0; i < count; i++) {
		struct keeper_chore chore = {.name = "toy", .urgency = i, .workers_max = 1,
					     .run = toy_run, .ctx = &toys[i]};

		cr_assert_eq(keeper_add(keeper, &chore), (int)i);
	}
	cr_assert_eq(keeper_start(keeper, 1), 0);
	lock_take(&toy_lock);
	while (!toy_is_open)
		cond_wait(&toy_done, &toy_lock);
	lock_drop(&toy_lock);
	keeper_stop(keeper);
	keeper_free(keeper);
	data_world_release(&data);
}

Test(keeper, most_urgent_goes_first, .timeout = 60)
{
	struct toy toys[] = {{'a', 3}, {'b', 3}, {'c', 2}};

	run_toys(toys, 3, 8);
	cr_assert_str_eq(toy_log, "aaabbbcc");
}

Test(keeper, nobody_starves, .timeout = 60)
{
	struct toy toys[] = {{'a', 60}, {'b', 5}};

	run_toys(toys, 2, 65);
	cr_assert(memchr(toy_log, 'b', 12), "%s", toy_log);
}

Test(keeper, wake_during_a_run_is_not_lost, .timeout = 60)
{
	struct toy toys[] = {{'a', 0}};
	struct data_world data;
	struct keeper *keeper;
	struct keeper_chore chore = {.name = "toy", .workers_max = 1, .run = toy_run,
				     .ctx = &toys[0]};

	cond_init(&toy_done);
	data_world_init(&data, NULL);
	cr_assert_eq(keeper_new(data.index, &keeper), 0);
	cr_assert_eq(keeper_add(keeper, &chore), 0);
	cr_assert_eq(keeper_start(keeper, 2), 0);
	for (unsigned i = 1; i <= 100; i++) {
		lock_take(&toy_lock);
		toy_expected = i;
		toys[0].units = 1;
		toy_is_open = false;
		lock_drop(&toy_lock);
		keeper_wake(keeper, 0);
		lock_take(&toy_lock);
		while (!toy_is_open)
			cond_wait(&toy_done, &toy_lock);
		lock_drop(&toy_lock);
	}
	keeper_stop(keeper);
	keeper_free(keeper);
	data_world_release(&data);
}
