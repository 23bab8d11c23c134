/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_COUNTER_H
#define SHARDFS_UTIL_COUNTER_H

/*
 * Named counters and histograms, atomic, registered at program start by the
 * file that owns them.  Reading never stops a writer.
 *
 *	static struct counter fuse_requests = COUNTER_INIT("fuse_requests", "requests answered");
 *	COUNTER_REGISTER(fuse_requests);
 */

#include <stdatomic.h>
#include <stdint.h>

struct counter {
	const char *name; /* [a-z0-9_]+ */
	const char *help;
	_Atomic uint64_t value;
	struct counter *next; /* registry */
};

#define COUNTER_INIT(n, h) {.name = (n), .help = (h)}
#define COUNTER_REGISTER(c)                                                                        \
	static void __attribute__((constructor)) counter_register_##c(void)                        \
	{                                                                                          \
		counter_register(&(c));                                                            \
	}
void counter_register(struct counter *counter);

static inline void counter_add(struct counter *counter, uint64_t n)
{
	atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}
static inline void counter_sub(struct counter *counter, uint64_t n)
{
	atomic_fetch_sub_explicit(&counter->value, n, memory_order_relaxed);
}
static inline uint64_t counter_get(struct counter *counter)
{
	return atomic_load_explicit(&counter->value, memory_order_relaxed);
}
/* All registered counters, in no order; NULL first, NULL at the end. */
struct counter *counter_iterate(const struct counter *after);

/* Durations in microseconds, 64 buckets of powers of two. */
struct histogram {
	const char *name, *help;
	_Atomic uint64_t buckets[64];
	_Atomic uint64_t count, sum_us;
	struct histogram *next;
};
#define HISTOGRAM_INIT(n, h) {.name = (n), .help = (h)}
#define HISTOGRAM_REGISTER(c)                                                                      \
	static void __attribute__((constructor)) histogram_register_##c(void)                      \
	{                                                                                          \
		histogram_register(&(c));                                                          \
	}
void histogram_register(struct histogram *histogram);
void histogram_add_us(struct histogram *histogram, uint64_t us);
uint64_t histogram_quantile_us(struct histogram *histogram, unsigned permille); /* upper bound; 0 if empty */
struct histogram *histogram_iterate(const struct histogram *after);

#endif
