/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_TRUSTED_CLOCK_H
#define SHARDFS_STORE_TRUSTED_CLOCK_H

/*
 * What time it is, for locks that nobody may shorten.  Whoever has broken into
 * this machine can set its clock; he cannot set those of several providers.
 * Pure: the caller says what he knows.
 */

#include <stdint.h>

#define TRUSTED_CLOCKS_MAX 64u

/* What one provider said last. */
struct clock_sample {
	int64_t server_ms; /* its wall clock, in ms since 1970 */
	uint64_t mono_ms;  /* our monotonic clock when the answer came */
};

struct trusted_clock_facts {
	int64_t local_ms; /* the wall clock of this machine */
	uint64_t mono_ms; /* its monotonic clock; it only runs on, and not faster */
	const struct clock_sample *samples;
	unsigned sample_count; /* at most TRUSTED_CLOCKS_MAX */
	unsigned clock_count;  /* providers that have clocks, heard of or not */
	uint64_t tolerance_ms; /* clocks that differ by no more agree */
	int64_t newest_ms;     /* the time that the journal knew last */
};

/*
 * trusted_clock_now - in ms since 1970.
 *  - no provider has a clock: the local one;
 *  - more than half of those that have one agree: the median of the largest group that does
 *    (of two in the middle the earlier);
 *  - some have told a time, but no majority agrees: the earliest of them;
 *  - none has told a time yet: newest_ms;
 * and never before newest_ms.
 */
int64_t trusted_clock_now(const struct trusted_clock_facts *facts);

#endif
