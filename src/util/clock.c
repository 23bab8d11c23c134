/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real clocks, unless a test froze them: then both stand at values that
 * only clock_test_advance moves.  Real life pays one relaxed load for that.
 */
#include "util/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
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
