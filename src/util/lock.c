/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each thread keeps how many locks of each rank it holds, and a mask of the
 * ranks that are not 0.  A lock may be taken while no bit at or above its rank
 * is set.  A breach is a bug that deadlocks one day: say which, and stop.
 */
#include "util/lock.h"

#include "util/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FROZEN_POLL_NS 1000000

#ifndef NDEBUG
static _Thread_local uint32_t held_mask;
static _Thread_local uint8_t held_count[LOCK_LOG + 1];

static void __attribute__((noreturn)) breach(const char *what, enum lock_rank rank)
{
	fprintf(stderr, "lock: %s: rank %u while holding ranks %#x\n", what, (unsigned)rank,
		held_mask);
	abort();
}

static void note_taken(const struct lock *lock, bool is_second)
{
	uint32_t at_or_above = held_mask >> lock->rank;

	if (is_second ? at_or_above != 1 : at_or_above != 0)
		breach("out of order", lock->rank);
	held_mask |= 1u << lock->rank;
	held_count[lock->rank]++;
}

static void check_held(const struct lock *lock)
{
	if (held_count[lock->rank] == 0)
		breach("not held", lock->rank);
}

static void note_dropped(const struct lock *lock)
{
	check_held(lock);
	if (--held_count[lock->rank] == 0)
		held_mask &= ~(1u << lock->rank);
}
#else
static void note_taken(const struct lock *lock, bool is_second)
{
	(void)lock;
	(void)is_second;
}
static void check_held(const struct lock *lock)
{
	(void)lock;
}
static void note_dropped(const struct lock *lock)
{
	(void)lock;
}
#endif

void lock_init(struct lock *lock, enum lock_rank rank)
{
	pthread_mutex_init(&lock->mutex, NULL);
	lock->rank = rank;
}

void lock_release(struct lock *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

void lock_take(struct lock *lock)
{
	note_taken(lock, false);
	pthread_mutex_lock(&lock->mutex);
}

void lock_drop(struct lock *lock)
{
	note_dropped(lock);
	pthread_mutex_unlock(&lock->mutex);
}

void lock_take_pair(struct lock *a, struct lock *b)
{
	struct lock *first = (uintptr_t)a < (uintptr_t)b ? a : b;
	struct lock *second = first == a ? b : a;

	lock_take(first);
	if (second == first)
		return;
	note_taken(second, true);
	pthread_mutex_lock(&second->mutex);
}

void lock_drop_pair(struct lock *a, struct lock *b)
{
	lock_drop(a);
	if (a != b)
		lock_drop(b);
}

unsigned lock_take_set(struct lock **locks, unsigned count)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < count; i++) {
		struct lock *lock = locks[i];
		unsigned at = 0;

		while (at < kept && (uintptr_t)locks[at] < (uintptr_t)lock)
			at++;
		if (!lock || (at < kept && locks[at] == lock))
			continue;
		for (unsigned k = kept++; k > at; k--)
			locks[k] = locks[k - 1];
		locks[at] = lock;
	}
	for (unsigned i = 0; i < kept; i++) {
		note_taken(locks[i], i > 0);
		pthread_mutex_lock(&locks[i]->mutex);
	}
	return kept;
}

void lock_drop_set(struct lock *const *locks, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		lock_drop(locks[i]);
}

void cond_init(struct cond *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&cond->cond, &attr);
	pthread_condattr_destroy(&attr);
}

void cond_release(struct cond *cond)
{
	pthread_cond_destroy(&cond->cond);
}

void cond_wait(struct cond *cond, struct lock *lock)
{
	check_held(lock);
	pthread_cond_wait(&cond->cond, &lock->mutex);
}

static int wait_ns(struct cond *cond, struct lock *lock, uint64_t ns)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	/* Longer than the kernel counts is for ever: cut at 68 years. */
	ts.tv_sec += (time_t)(ns / 1000000000u < INT32_MAX ? ns / 1000000000u : INT32_MAX);
	ts.tv_nsec += (long)(ns % 1000000000u);
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return pthread_cond_timedwait(&cond->cond, &lock->mutex, &ts) == ETIMEDOUT ? -ETIMEDOUT
										    : 0;
}

int cond_wait_ms(struct cond *cond, struct lock *lock, uint64_t timeout_ms)
{
	uint64_t start_ms = clock_mono_ms();

	check_held(lock);
	if (clock_test_is_frozen()) { /* time is what the test says */
		if (timeout_ms > 0)
			wait_ns(cond, lock, FROZEN_POLL_NS);
		/* Else as if woken: what was signalled as the poll ended would be missed here. */
		return clock_mono_ms() - start_ms >= timeout_ms ? -ETIMEDOUT : 0;
	}
	return wait_ns(cond, lock,
		       timeout_ms < UINT64_MAX / 1000000u ? timeout_ms * 1000000u : UINT64_MAX);
}

void cond_wake_one(struct cond *cond)
{
	pthread_cond_signal(&cond->cond);
}

void cond_wake_all(struct cond *cond)
{
	pthread_cond_broadcast(&cond->cond);
}
