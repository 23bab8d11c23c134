/* SPDX-License-Identifier: Apache-2.0 */
#include "util/counter.h"

#include <criterion/criterion.h>

static struct counter apples = COUNTER_INIT("test_apples", "apples seen");
static struct counter pears = COUNTER_INIT("test_pears", "pears seen");
static struct histogram waits = HISTOGRAM_INIT("test_waits", "time waited");
COUNTER_REGISTER(apples)
COUNTER_REGISTER(pears)
HISTOGRAM_REGISTER(waits)

Test(util_counter, registered_counters_are_found_once)
{
	unsigned found_apples = 0, found_pears = 0, found_waits = 0;

	for (struct counter *c = counter_iterate(NULL); c != NULL; c = counter_iterate(c)) {
		found_apples += c == &apples;
		found_pears += c == &pears;
	}
	for (struct histogram *h = histogram_iterate(NULL); h != NULL; h = histogram_iterate(h))
		found_waits += h == &waits;
	cr_assert(found_apples == 1 && found_pears == 1 && found_waits == 1);
}

Test(util_counter, counters_count_both_ways)
{
	counter_add(&apples, 5);
	counter_sub(&apples, 2);
	cr_assert_eq(counter_get(&apples), 3);
	cr_assert_eq(counter_get(&pears), 0);
}

/* The answer is an upper bound, and less than twice the true value. */
Test(util_counter, quantiles_bound_the_true_value)
{
	cr_assert_eq(histogram_quantile_us(&waits, 500), 0);
	for (uint64_t us = 1; us <= 1000; us++)
		histogram_add_us(&waits, us);
	for (unsigned permille = 1; permille <= 1000; permille++) {
		uint64_t q = histogram_quantile_us(&waits, permille);

		cr_assert(q >= permille && q < 2 * permille, "%u: %llu", permille,
			  (unsigned long long)q);
	}
	cr_assert_eq(waits.count, 1000);
	cr_assert_eq(waits.sum_us, 500500);
}

Test(util_counter, extreme_durations_have_a_bucket)
{
	histogram_add_us(&waits, 0);
	cr_assert_eq(histogram_quantile_us(&waits, 1000), 0);
	histogram_add_us(&waits, UINT64_MAX);
	cr_assert_eq(histogram_quantile_us(&waits, 1000), UINT64_MAX);
	cr_assert_eq(histogram_quantile_us(&waits, 500), 0);
}
