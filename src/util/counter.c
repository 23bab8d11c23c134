/* SPDX-License-Identifier: Apache-2.0 */
/* Registries are stacks that only grow, pushed by constructors before main. */
#include "util/counter.h"

#include <stddef.h>

static _Atomic(struct counter *) counters;
static _Atomic(struct histogram *) histograms;

void counter_register(struct counter *counter)
{
	counter->next = atomic_load(&counters);
	while (!atomic_compare_exchange_weak(&counters, &counter->next, counter))
		;
}

struct counter *counter_iterate(const struct counter *after)
{
	return after != NULL ? after->next : atomic_load(&counters);
}

void histogram_register(struct histogram *histogram)
{
	histogram->next = atomic_load(&histograms);
	while (!atomic_compare_exchange_weak(&histograms, &histogram->next, histogram))
		;
}

struct histogram *histogram_iterate(const struct histogram *after)
{
	return after != NULL ? after->next : atomic_load(&histograms);
}

/* Bucket b > 0 holds 2^(b-1) .. 2^b - 1, bucket 0 holds 0; the last holds all above too. */
static unsigned bucket_of(uint64_t us)
{
	unsigned bits = us == 0 ? 0 : 64u - (unsigned)__builtin_clzll(us);

	return bits < 63 ? bits : 63;
}

void histogram_add_us(struct histogram *histogram, uint64_t us)
{
	atomic_fetch_add_explicit(&histogram->buckets[bucket_of(us)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&histogram->count, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&histogram->sum_us, us, memory_order_relaxed);
}

uint64_t histogram_quantile_us(struct histogram *histogram, unsigned permille)
{
	uint64_t counts[64], total = 0, wanted, seen = 0;
	unsigned last = 0;

	/* Sum what is read, not ->count, which writers move meanwhile. */
	for (unsigned b = 0; b < 64; b++) {
		counts[b] = atomic_load_explicit(&histogram->buckets[b], memory_order_relaxed);
		total += counts[b];
	}
	if (total == 0)
		return 0;
	wanted = (uint64_t)(((unsigned __int128)total * permille + 999) / 1000);
	if (wanted == 0)
		wanted = 1;
	for (unsigned b = 0; b < 64 && seen < wanted; b++) {
		seen += counts[b];
		last = b;
	}
	return last == 63 ? UINT64_MAX : ((uint64_t)1 << last) - 1;
}
