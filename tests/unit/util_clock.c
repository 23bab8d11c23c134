/* SPDX-License-Identifier: Apache-2.0 */
#include "util/clock.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <time.h>

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

Test(util_clock, a_point_in_time_is_read_as_people_write_it)
{
	static const struct {
		const char *text;
		int64_t sec; /* -1: refused */
	} cases[] = {
		{"2026-01-31T12:00:00Z", 1769860800},
		{"2026-01-31t12:00:00.75z", 1769860800},
		{"2026-01-31 12:00:00Z", 1769860800},
		{"2026-01-31 12:00Z", 1769860800},
		{"2026-01-31T14:30:00+02:30", 1769860800},
		{"2026-01-31T07:00:00-05:00", 1769860800},
		{"2026-01-31 12:00", 1769860800},
		{"2026-01-31", 1769817600},
		{"2024-02-29", 1709164800},
		{"2h ago", 1000000 - 7200},
		{"1.5h ago", 1000000 - 5400},
		{"30s ago", 1000000 - 30},
		{"2026-02-30", -1},
		{"2026-02-00", -1},
		{"2026-13-01", -1},
		{"2026-1-31", -1},
		{"2026-01-31T25:00:00Z", -1},
		{"2026-01-31T12:00:00", 1769860800},
		{"2026-01-31T12:00:00.Z", -1},
		{"2026-01-31T12:00:00Zulu", -1},
		{"2026-01-31T12:00:00+2", -1},
		{"2026-01-31X12:00", -1},
		{"2026-01-31T", -1},
		{"yesterday", -1},
		{"2h", -1},
		{"-2h ago", -1},
		{" ago", -1},
		{"2h ago ", -1},
		{"", -1},
	};

	setenv("TZ", "UTC", 1); /* what has no zone is local time */
	tzset();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t sec = -1;
		int r = clock_parse(cases[i].text, 1000000, &sec);

		cr_assert_eq(r, cases[i].sec < 0 ? -EINVAL : 0, "%s: %d", cases[i].text, r);
		cr_assert_eq(sec, cases[i].sec, "%s: %lld", cases[i].text, (long long)sec);
	}
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

Test(util_clock, a_deadline_means_the_same_on_every_machine)
{
	static const struct {
		const char *text;
		int64_t sec;
	} good[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"2026-01-31", 1769817600},
		{"2026-01-31T12:00:00Z", 1769860800},
		{"2026-01-31t14:30:00+02:30", 1769860800},
		{"2026-01-31 07:00:00-05:00", 1769860800},
		{"2026-01-31T11:59:59.25z", 1769860800},
		{"2024-02-29", 1709164800},
		{"2000-02-29", 951782400},
		{"9999-12-31T23:59:59Z", 253402300799},
	};
	static const char *const bad[] = {
		"", "2026", "2026-1-31", "2026-13-01", "2026-00-01", "2026-02-29", "1900-02-29",
		"2026-04-31", "2026-01-00", "2026-01-31T", "2026-01-31T12:00:00",
		"2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z",
		"2026-01-31T12:00:00.Z", "2026-01-31T12:00:00Zx", "2026-01-31T12:00:00+2:00",
		"2026-01-31T12:00:00+24:00", "tomorrow", "-026-01-31", "2h ago", "2026-01-31 ago",
		"2026-01-31T12:00:00+02:60", " 2026-01-31", "2026-01-31 ",
	};
	int64_t sec;

	setenv("TZ", "Asia/Kolkata", 1);
	tzset();
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert_eq(clock_parse_utc(bytes_of_str(good[i].text), &sec), 0, "%s",
			     good[i].text);
		cr_assert_eq(sec, good[i].sec, "%s: %lld", good[i].text, (long long)sec);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(clock_parse_utc(bytes_of_str(bad[i]), &sec), -EINVAL, "%s", bad[i]);
	cr_assert_eq(clock_parse_utc(bytes_of("2026-01-31\0", 11), &sec), -EINVAL);
}
