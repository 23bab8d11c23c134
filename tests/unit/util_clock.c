/* SPDX-License-Identifier: Apache-2.0 */
#include "util/clock.h"

#include <criterion/criterion.h>

Test(util_clock, monotonic_time_does_not_run_backwards)
{
	uint64_t before = clock_mono_ns();

	for (unsigned i = 0; i < 10000; i++) {
		uint64_t now = clock_mono_ns();

		cr_assert(now >= before);
		before = now;
	}
	cr_assert(clock_mono_ms() >= before / 1000000);
	cr_assert(clock_wall().sec > 1700000000);
	cr_assert(clock_wall().nsec < 1000000000);
}

Test(util_clock, a_frozen_clock_moves_when_told)
{
	clock_test_freeze(5000, (struct wall_time){.sec = -2, .nsec = 900000000});
	cr_assert(clock_test_is_frozen());
	cr_assert_eq(clock_mono_ms(), 5000);
	clock_test_advance(1200);
	cr_assert_eq(clock_mono_ms(), 6200);
	cr_assert_eq(clock_mono_ns(), 6200000000u);
	cr_assert_eq(clock_wall().sec, 0);
	cr_assert_eq(clock_wall().nsec, 100000000);
	clock_test_release();
	cr_assert_not(clock_test_is_frozen());
	cr_assert(clock_wall().sec > 1700000000);
}

Test(util_clock, wall_time_is_printed_in_utc)
{
	char out[CLOCK_RFC3339_SIZE];

	cr_assert_str_eq(clock_rfc3339((struct wall_time){.sec = 0}, out), "1970-01-01T00:00:00Z");
	cr_assert_str_eq(clock_rfc3339((struct wall_time){.sec = -1}, out), "1969-12-31T23:59:59Z");
	cr_assert_str_eq(clock_rfc3339((struct wall_time){.sec = 1769860800}, out),
			 "2026-01-31T12:00:00Z");
	cr_assert_str_eq(clock_rfc3339((struct wall_time){.sec = 4291747200}, out),
			 "2106-01-01T00:00:00Z");
	cr_assert_str_eq(clock_rfc3339((struct wall_time){.sec = INT64_MAX}, out),
			 "@9223372036854775807");
	cr_assert_str_eq(clock_rfc3339((struct wall_time){.sec = INT64_MIN}, out),
			 "@-9223372036854775808");
}
