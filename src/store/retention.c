/* SPDX-License-Identifier: Apache-2.0 */
#include "store/retention.h"

#include "util/mem.h"

#include <assert.h>

#define SECONDS_OF_HOUR 3600
#define SECONDS_OF_DAY	86400

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Months since the year 0, of a day since 1970 in the Gregorian calendar. */
static int64_t month_of_day(int64_t day)
{
	int64_t z = day + 719468; /* days since 0000-03-01 */
	int64_t era = floor_div(z, 146097);
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t month = (5 * doy + 2) / 153; /* 0 is March */

	return (yoe + era * 400) * 12 + month + 2;
}

static int64_t hour_of(int64_t sec)
{
	return floor_div(sec, SECONDS_OF_HOUR);
}

static int64_t day_of(int64_t sec)
{
	return floor_div(sec, SECONDS_OF_DAY);
}

/* 1970-01-01 was a Thursday. */
static int64_t week_of(int64_t sec)
{
	return floor_div(day_of(sec) + 3, 7);
}

static int64_t month_of(int64_t sec)
{
	return month_of_day(day_of(sec));
}

static int64_t year_of(int64_t sec)
{
	return floor_div(month_of(sec), 12);
}

/* The newest one of each of the newest `count` periods that have one. */
static void keep_periods(uint32_t periods, int64_t (*period_of)(int64_t sec), const int64_t *secs,
			 size_t count, bool *keep)
{
	int64_t last = 0;
	bool has_last = false;

	for (size_t i = 0; i < count && periods > 0; i++) {
		int64_t period = period_of(secs[i]);

		if (has_last && period == last)
			continue;
		keep[i] = true;
		last = period;
		has_last = true;
		periods--;
	}
}

void retention_choose(const struct retention_rules *rules, const int64_t *secs, size_t count,
		      bool *keep)
{
	for (size_t i = 0; i < count; i++) {
		assert(i == 0 || secs[i] <= secs[i - 1]);
		keep[i] = i < rules->last;
	}
	keep_periods(rules->hourly, hour_of, secs, count, keep);
	keep_periods(rules->daily, day_of, secs, count, keep);
	keep_periods(rules->weekly, week_of, secs, count, keep);
	keep_periods(rules->monthly, month_of, secs, count, keep);
	keep_periods(rules->yearly, year_of, secs, count, keep);
}

bool retention_has_rule(const struct retention_rules *rules)
{
	return rules->last || rules->hourly || rules->daily || rules->weekly || rules->monthly ||
	       rules->yearly;
}
