/* SPDX-License-Identifier: Apache-2.0 */
/* Which snapshots are kept: a table of rules, and against the calendar of the C library. */
#include "store/retention.h"
#include "tests/lib/rng.h"
#include "util/clock.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#define TIMES_MAX 64

/* Newest first: "2026-11-30 12:00". */
struct retention_case {
	const char *what;
	struct retention_rules rules;
	const char *times[12];
	const char *kept; /* k or - for each */
};

static const struct retention_case cases[] = {
	{"last counts whatever the times are", {.last = 2},
	 {"2026-11-30 12:00", "2026-11-30 12:00", "2026-11-30 11:59"}, "kk-"},
	{"more than there are", {.last = 9}, {"2026-11-30 12:00", "2026-11-29 12:00"}, "kk"},
	{"the newest of each hour", {.hourly = 2},
	 {"2026-11-30 12:50", "2026-11-30 12:10", "2026-11-30 11:59", "2026-11-30 10:00"}, "k-k-"},
	{"hours without one do not count", {.hourly = 3},
	 {"2026-11-30 12:50", "2026-11-30 08:10", "2026-11-20 08:20", "2026-11-20 08:10",
	  "2026-11-20 07:10"},
	 "kkk--"},
	{"a day ends at midnight of UTC", {.daily = 2},
	 {"2026-12-01 00:00", "2026-11-30 23:59", "2026-11-30 00:00", "2026-11-29 23:59"}, "kk--"},
	{"a week begins on Monday", {.weekly = 3}, /* 2026-11-30 is one */
	 {"2026-12-06 23:59", "2026-11-30 00:00", "2026-11-29 23:59", "2026-11-23 00:00",
	  "2026-11-22 10:00"},
	 "k-k-k"},
	{"a week goes on over the end of a year", {.weekly = 2}, /* 2027-01-01 is a Friday */
	 {"2027-01-03 12:00", "2027-01-01 12:00", "2026-12-28 12:00", "2026-12-27 12:00"}, "k--k"},
	{"months", {.monthly = 3},
	 {"2027-01-01 00:00", "2026-12-31 23:59", "2026-12-01 00:00", "2026-11-30 23:59",
	  "2025-11-30 00:00"},
	 "kk-k-"},
	{"years", {.yearly = 2},
	 {"2027-01-01 00:00", "2026-12-31 23:59", "2026-01-01 00:00", "2024-02-29 00:00"}, "kk--"},
	{"rules add up", {.last = 1, .daily = 2, .yearly = 3},
	 {"2026-11-30 12:00", "2026-11-30 11:00", "2026-11-29 12:00", "2026-11-28 12:00",
	  "2025-12-31 12:00", "2025-01-31 12:00", "2024-05-05 05:05"},
	 "k-k-k-k"},
	{"before 1970", {.daily = 2},
	 {"1970-01-01 00:00", "1969-12-31 23:59", "1969-12-31 00:00"}, "kk-"},
	{"none", {.hourly = 3}, {0}, ""},
};

static int64_t sec_of(const char *text)
{
	struct tm tm = {0};

	cr_assert_not_null(strptime(text, "%Y-%m-%d %H:%M", &tm), "%s", text);
	return timegm(&tm);
}

Test(store_retention, each_rule_keeps_what_restic_and_borg_would)
{
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		const struct retention_case *c = &cases[i];
		int64_t secs[ARRAY_COUNT(c->times)];
		bool keep[ARRAY_COUNT(c->times)];
		size_t count = 0;

		for (; count < ARRAY_COUNT(c->times) && c->times[count]; count++)
			secs[count] = sec_of(c->times[count]);
		cr_assert_eq(strlen(c->kept), count, "%s", c->what);
		retention_choose(&c->rules, secs, count, keep);
		for (size_t k = 0; k < count; k++)
			cr_assert_eq(keep[k], c->kept[k] == 'k', "%s: %s", c->what, c->times[k]);
	}
	cr_assert(!retention_has_rule(&(struct retention_rules){0}));
	cr_assert(retention_has_rule(&(struct retention_rules){.monthly = 1}));
}

static bool is_same_period(int64_t a, int64_t b, const char *format)
{
	char x[32], y[32];
	time_t ta = (time_t)a, tb = (time_t)b;
	struct tm tm;

	strftime(x, sizeof(x), format, gmtime_r(&ta, &tm));
	strftime(y, sizeof(y), format, gmtime_r(&tb, &tm));
	return strcmp(x, y) == 0;
}

static int64_t random_sec(struct rng *rng)
{
	/* around a moment, so that periods are met and missed; 1600 to 2400 */
	int64_t base = (int64_t)rng_below(rng, 800ull * 31556952) - 370ll * 31556952;

	return base - (int64_t)rng_below(rng, 86400 * 400);
}

Test(store_retention, periods_are_those_of_the_calendar)
{
	static const struct {
		const char *format;
		struct retention_rules rules;
	} periods[] = {
		{"%Y-%j %H", {.hourly = 9}}, {"%Y-%j", {.daily = 9}}, {"%G-%V", {.weekly = 9}},
		{"%Y-%m", {.monthly = 9}},   {"%Y", {.yearly = 9}},
	};
	struct rng rng = rng_new();

	for (unsigned round = 0; round < 20000; round++) {
		size_t p = rng_below(&rng, ARRAY_COUNT(periods));
		int64_t newer = random_sec(&rng);
		int64_t older = newer - (int64_t)rng_below(&rng, 1ull << rng_below(&rng, 26));
		int64_t secs[2] = {newer, older};
		bool keep[2];

		retention_choose(&periods[p].rules, secs, 2, keep);
		cr_assert(keep[0]);
		cr_assert_eq(!keep[1], is_same_period(newer, older, periods[p].format),
			     "%s: %lld %lld", periods[p].format, (long long)newer,
			     (long long)older);
	}
}
