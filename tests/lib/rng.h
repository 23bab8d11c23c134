/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_RNG_H
#define SHARDFS_TESTS_RNG_H

/*
 * Random inputs of property tests.  The seed is fresh for each run and printed
 * at once (Criterion shows it when the test fails); SHARDFS_TEST_SEED=N in the
 * environment repeats a run.
 */
#include "util/clock.h"
#include "util/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct rng {
	uint64_t seed; /* as printed */
	uint64_t state;
};

static inline struct rng rng_new(void)
{
	const char *given = getenv("SHARDFS_TEST_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 0)
				      : map_hash_u64(clock_mono_ns() ^ (uint64_t)getpid());

	fprintf(stderr, "SHARDFS_TEST_SEED=%#llx\n", (unsigned long long)seed);
	return (struct rng){.seed = seed, .state = seed};
}

static inline uint64_t rng_u64(struct rng *rng)
{
	return map_hash_u64(rng->state++ * 0x9e3779b97f4a7c15u);
}

/* 0 .. bound - 1 */
static inline uint64_t rng_below(struct rng *rng, uint64_t bound)
{
	return rng_u64(rng) % bound;
}

/* Small, large and edge values about as often. */
static inline uint64_t rng_any_size(struct rng *rng)
{
	return rng_u64(rng) >> rng_below(rng, 64);
}

static inline void rng_fill(struct rng *rng, void *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)out)[i] = (uint8_t)(rng_u64(rng) >> 32);
}

#endif
