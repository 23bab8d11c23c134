/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_CLOCK_H
#define SHARDFS_UTIL_CLOCK_H

/* Monotonic and wall time; tests replace both.  Any thread. */

#include "util/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Seconds and nanoseconds since 1970, negative before; nsec is 0 .. 999,999,999. */
struct wall_time {
	int64_t sec;
	uint32_t nsec;
};

uint64_t clock_mono_ms(void);
uint64_t clock_mono_ns(void);
struct wall_time clock_wall(void);

/*
 * Tests: stop both clocks at these values, and move them on.  While they are
 * frozen, cond_wait_ms counts this time too.  clock_test_release goes back.
 */
void clock_test_freeze(uint64_t mono_ms, struct wall_time wall);
void clock_test_advance(uint64_t ms);
void clock_test_release(void);
bool clock_test_is_frozen(void);

/* RFC 3339 in UTC ("2026-01-31T12:00:00Z"), without fractions; returns out, which holds
 * CLOCK_RFC3339_SIZE bytes.  A year that no calendar reaches is printed as "@seconds". */
#define CLOCK_RFC3339_SIZE 48
const char *clock_rfc3339(struct wall_time t, char *out);
/*
 * clock_parse - a point in time as people write it: RFC 3339 ("2026-01-31T12:00:00Z", an offset
 * "+02:00", fractions are dropped), the same with a blank for the T, without seconds, without time
 * (0:00) or without zone (then local time), or "2h ago" (units_parse_duration) before now_sec.
 * -EINVAL: none of these, or no such day.
 */
int clock_parse(const char *text, int64_t now_sec, int64_t *sec);

/*
 * clock_parse_utc - the same, but what it says does not depend on this machine: RFC 3339 with its
 * zone, or "2026-01-31", the start of that day in UTC.  A fraction is rounded up.  -EINVAL.
 */
int clock_parse_utc(struct bytes text, int64_t *sec);

#endif
