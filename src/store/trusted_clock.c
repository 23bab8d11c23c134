/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every doubt is decided for the earlier time: a lock that holds a little too
 * long is a nuisance, one that opens too early is a loss.
 */
#include "store/trusted_clock.h"

#include "util/mem.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* What the clocks of the samples show now, ascending. */
static void run_on(const struct trusted_clock_facts *facts, int64_t times[TRUSTED_CLOCKS_MAX])
{
	for (unsigned i = 0; i < facts->sample_count; i++) {
		const struct clock_sample *sample = &facts->samples[i];
		uint64_t age = facts->mono_ms > sample->mono_ms ? facts->mono_ms - sample->mono_ms
								: 0;

		if (__builtin_add_overflow(sample->server_ms, (int64_t)MIN(age, (uint64_t)INT64_MAX),
					   &times[i]))
			times[i] = INT64_MAX;
	}
	qsort(times, facts->sample_count, sizeof(times[0]), compare);
}

static bool agree(int64_t earlier, int64_t later, uint64_t tolerance_ms)
{
	return (uint64_t)later - (uint64_t)earlier <= tolerance_ms;
}

/* The largest group of neighbours that agree; of equal ones the earliest. */
static unsigned largest_group(const int64_t *times, unsigned count, uint64_t tolerance_ms,
			      unsigned *first)
{
	unsigned best = 0;

	*first = 0;
	for (unsigned start = 0, end = 0; start < count; start++) {
		while (end < count && agree(times[start], times[end], tolerance_ms))
			end++;
		if (end - start > best) {
			best = end - start;
			*first = start;
		}
	}
	return best;
}

int64_t trusted_clock_now(const struct trusted_clock_facts *facts)
{
	int64_t times[TRUSTED_CLOCKS_MAX];
	unsigned first, group;

	assert(facts->sample_count <= TRUSTED_CLOCKS_MAX);
	if (facts->clock_count == 0)
		return MAX(facts->local_ms, facts->newest_ms);
	if (facts->sample_count == 0)
		return facts->newest_ms;
	run_on(facts, times);
	group = largest_group(times, facts->sample_count, facts->tolerance_ms, &first);
	if (2 * group <= facts->clock_count)
		return MAX(times[0], facts->newest_ms);
	return MAX(times[first + (group - 1) / 2], facts->newest_ms);
}
