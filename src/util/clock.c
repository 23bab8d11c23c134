/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real clocks, unless a test froze them: then both stand at values that
 * only clock_test_advance moves.  Real life pays one relaxed load for that.
 */
#include "util/clock.h"

#include "util/units.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS  1000000u
#define NS_PER_SEC 1000000000u

static atomic_bool is_frozen;
/* Not a ranked lock: those use this clock. */
static pthread_mutex_t frozen_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t frozen_mono_ns;	     /* frozen_mutex */
static struct wall_time frozen_wall; /* frozen_mutex */

bool clock_test_is_frozen(void)
{
	return atomic_load_explicit(&is_frozen, memory_order_relaxed);
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_ns() / NS_PER_MS;
}

uint64_t clock_mono_ns(void)
{
	struct timespec ts;
	uint64_t ns;

	if (clock_test_is_frozen()) {
		pthread_mutex_lock(&frozen_mutex);
		ns = frozen_mono_ns;
		pthread_mutex_unlock(&frozen_mutex);
		return ns;
	}
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

struct wall_time clock_wall(void)
{
	struct wall_time wall;
	struct timespec ts;

	if (clock_test_is_frozen()) {
		pthread_mutex_lock(&frozen_mutex);
		wall = frozen_wall;
		pthread_mutex_unlock(&frozen_mutex);
		return wall;
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	return (struct wall_time){.sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec};
}

void clock_test_freeze(uint64_t mono_ms, struct wall_time wall)
{
	pthread_mutex_lock(&frozen_mutex);
	frozen_mono_ns = mono_ms * NS_PER_MS;
	frozen_wall = wall;
	atomic_store(&is_frozen, true);
	pthread_mutex_unlock(&frozen_mutex);
}

void clock_test_advance(uint64_t ms)
{
	uint64_t nsec;

	pthread_mutex_lock(&frozen_mutex);
	frozen_mono_ns += ms * NS_PER_MS;
	nsec = frozen_wall.nsec + ms % 1000 * NS_PER_MS;
	frozen_wall.sec += (int64_t)(ms / 1000 + nsec / NS_PER_SEC);
	frozen_wall.nsec = (uint32_t)(nsec % NS_PER_SEC);
	pthread_mutex_unlock(&frozen_mutex);
}

void clock_test_release(void)
{
	atomic_store(&is_frozen, false);
}

/* ---- parsing ---- */

/* Two or four digits; NULL: they are not there. */
static const char *take_digits(const char *at, unsigned count, int *out)
{
	int value = 0;

	for (unsigned i = 0; at && i < count; i++) {
		if (at[i] < '0' || at[i] > '9')
			return NULL;
		value = 10 * value + (at[i] - '0');
	}
	*out = value;
	return at ? at + count : NULL;
}

static const char *take_char(const char *at, const char *allowed)
{
	return at && *at && strchr(allowed, *at) ? at + 1 : NULL;
}

/* "12:00", "12:00:00", "12:00:00.5" */
static const char *take_time(const char *at, struct tm *tm)
{
	at = take_digits(at, 2, &tm->tm_hour);
	at = take_digits(take_char(at, ":"), 2, &tm->tm_min);
	if (!at || *at != ':')
		return at;
	at = take_digits(at + 1, 2, &tm->tm_sec);
	if (!at || *at != '.')
		return at;
	at++;
	if (*at < '0' || *at > '9')
		return NULL;
	return at + strspn(at, "0123456789");
}

/* "Z", "+02:00"; at its end nothing may follow. */
static int take_zone(const char *at, int64_t *offset_sec)
{
	int sign = *at == '-' ? -1 : 1, hours = 0, minutes = 0;

	*offset_sec = 0;
	if (*at == 'Z' || *at == 'z')
		return at[1] ? -EINVAL : 0;
	at = take_digits(take_char(at, "+-"), 2, &hours);
	at = take_digits(take_char(at, ":"), 2, &minutes);
	if (!at || *at || hours > 23 || minutes > 59)
		return -EINVAL;
	*offset_sec = sign * (hours * 3600 + minutes * 60);
	return 0;
}

static int parse_ago(const char *text, int64_t now_sec, int64_t *sec)
{
	const char *end = strstr(text, " ago");
	char duration[32];
	uint64_t ms;
	size_t len = end ? (size_t)(end - text) : 0;

	if (!end || end[4] || len >= sizeof(duration))
		return -EINVAL;
	memcpy(duration, text, len);
	duration[len] = '\0';
	if (units_parse_duration(duration, &ms) < 0)
		return -EINVAL;
	*sec = now_sec - (int64_t)(ms / 1000);
	return 0;
}

int clock_parse(const char *text, int64_t now_sec, int64_t *sec)
{
	struct tm tm = {.tm_isdst = -1}, same;
	int64_t offset_sec;
	const char *at;
	time_t t;

	if (parse_ago(text, now_sec, sec) == 0)
		return 0;
	at = take_digits(text, 4, &tm.tm_year);
	at = take_digits(take_char(at, "-"), 2, &tm.tm_mon);
	at = take_digits(take_char(at, "-"), 2, &tm.tm_mday);
	if (at && *at)
		at = take_time(take_char(at, "Tt "), &tm);
	if (!at || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_hour > 23 || tm.tm_min > 59 ||
	    tm.tm_sec > 60)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	same = tm;
	if (*at == '\0') {
		t = mktime(&tm);
	} else {
		if (take_zone(at, &offset_sec) < 0)
			return -EINVAL;
		t = timegm(&tm) - (time_t)offset_sec;
	}
	if (tm.tm_mday != same.tm_mday && same.tm_sec < 60) /* 30 February, or a day 0 */
		return -EINVAL;
	*sec = t;
	return 0;
}

int clock_parse_utc(struct bytes text, int64_t *sec)
{
	static const char midnight[] = "T00:00:00Z";
	char copy[CLOCK_RFC3339_SIZE + sizeof(midnight)];
	bool is_day = text.len == 10;
	int64_t parsed;

	if (text.len < 10 || text.len >= CLOCK_RFC3339_SIZE || memchr(text.ptr, 0, text.len))
		return -EINVAL;
	memcpy(copy, text.ptr, text.len);
	memcpy(copy + text.len, is_day ? midnight : "", is_day ? sizeof(midnight) : 1);
	/* the date first, and a zone behind the time */
	if (copy[4] != '-' || copy[7] != '-' || !strpbrk(copy + 10, "Zz+-"))
		return -EINVAL;
	if (clock_parse(copy, 0, &parsed) < 0)
		return -EINVAL;
	*sec = parsed + (strchr(copy, '.') != NULL);
	return 0;
}

const char *clock_rfc3339(struct wall_time t, char *out)
{
	time_t sec = (time_t)t.sec;
	struct tm tm;

	if (gmtime_r(&sec, &tm) == NULL) /* the year does not fit an int */
		snprintf(out, CLOCK_RFC3339_SIZE, "@%lld", (long long)t.sec);
	else
		snprintf(out, CLOCK_RFC3339_SIZE, "%04lld-%02d-%02dT%02d:%02d:%02dZ",
			 tm.tm_year + 1900LL, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			 tm.tm_sec);
	return out;
}
