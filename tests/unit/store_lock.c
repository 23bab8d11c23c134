/* SPDX-License-Identifier: Apache-2.0 */
/* Locks until a date: what they forbid, which clock they are judged by, that they last. */
#include "store/may_change.h"
#include "store/names.h"
#include "store/provider.h"
#include "store/trusted_clock.h"
#include "store/vxattr.h"

#include "backends/memory.h"
#include "tests/lib/store_world.h"
#include "util/clock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

static struct store_world world;

static void drop(struct inode *inode)
{
	inode_unref(world.store->inodes, inode, 1);
}

/* ---- the clock ---- */

#define NOW  1000000000000ll
#define HOUR_MS 3600000ll

Test(store_lock, the_time_is_what_a_majority_of_the_providers_says)
{
	static const struct {
		const char *what;
		int64_t told[5]; /* ends with 0 */
		unsigned clocks;
		int64_t local, newest, want;
	} cases[] = {
		{"no clocks: the local one", {0}, 0, NOW, 0, NOW},
		{"no clocks, set back", {0}, 0, NOW - HOUR_MS, NOW, NOW},
		{"nothing told yet", {0}, 3, NOW + HOUR_MS, NOW, NOW},
		{"all agree", {NOW, NOW + 2, NOW + 1}, 3, NOW + HOUR_MS, 0, NOW + 1},
		{"one alone, of one", {NOW}, 1, NOW + HOUR_MS, 0, NOW},
		{"one of three: the earliest", {NOW}, 3, NOW + HOUR_MS, 0, NOW},
		{"two of three agree", {NOW, NOW + 10}, 3, 0, 0, NOW},
		{"one lies ahead", {NOW, NOW + 10, NOW + HOUR_MS}, 3, 0, 0, NOW},
		{"one lies behind", {NOW - HOUR_MS, NOW, NOW + 10}, 3, 0, 0, NOW},
		{"two lie ahead, each by itself", {NOW, NOW + HOUR_MS, NOW + 2 * HOUR_MS}, 3, 0, 0,
		 NOW},
		{"half is no majority", {NOW, NOW, NOW + HOUR_MS, NOW + HOUR_MS}, 4, NOW, 0, NOW},
		{"nobody agrees", {NOW + 2 * HOUR_MS, NOW + HOUR_MS}, 2, NOW + 9 * HOUR_MS, 0,
		 NOW + HOUR_MS},
		{"the majority, in any order", {NOW + HOUR_MS, NOW + 3, NOW + 1, NOW + 2}, 4, 0, 0,
		 NOW + 2},
		{"never before the newest record", {NOW, NOW}, 2, 0, NOW + 5, NOW + 5},
		{"at the edge of the tolerance", {NOW, NOW + 1000}, 2, 0, 0, NOW},
		{"beyond it: the earliest", {NOW + 1001, NOW}, 2, 0, 0, NOW},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct clock_sample samples[5];
		struct trusted_clock_facts facts = {
			.local_ms = cases[i].local,
			.mono_ms = 5000,
			.samples = samples,
			.clock_count = cases[i].clocks,
			.tolerance_ms = 1000,
			.newest_ms = cases[i].newest,
		};

		for (; cases[i].told[facts.sample_count]; facts.sample_count++)
			samples[facts.sample_count] =
				(struct clock_sample){cases[i].told[facts.sample_count], 5000};
		cr_assert_eq(trusted_clock_now(&facts), cases[i].want, "%s: %lld", cases[i].what,
			     (long long)trusted_clock_now(&facts));
		/* Samples run on with the monotonic clock, whenever each was taken. */
		for (unsigned k = 0; k < facts.sample_count; k++) {
			samples[k].mono_ms -= 1000 * k;
			samples[k].server_ms -= 1000 * (int64_t)k;
		}
		facts.mono_ms += 77;
		if (facts.sample_count > 0 && cases[i].newest == 0)
			cr_assert_eq(trusted_clock_now(&facts), cases[i].want + 77, "%s, later",
				     cases[i].what);
	}
}

Test(store_lock, a_provider_taken_out_of_the_configuration_still_has_its_clock)
{
	static const char *const types[] = {"dir", "memory", "unheard-of"};

	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		struct provider_row row = {.provider_no = 1};
		struct clock_sample sample;
		struct provider provider;

		snprintf(row.type, sizeof(row.type), "%s", types[i]);
		provider_init(&provider, &row, NULL);
		cr_assert_eq(provider_has_clock(&provider), i == 1, "%s", types[i]);
		cr_assert_not(provider_clock(&provider, &sample));
		provider_release(&provider);
	}
}

Test(store_lock, no_sample_overflows_the_clock)
{
	struct clock_sample samples[] = {{INT64_MAX - 1, 0}, {INT64_MIN, UINT64_MAX}};
	struct trusted_clock_facts facts = {
		.mono_ms = UINT64_MAX,
		.samples = samples,
		.sample_count = 2,
		.clock_count = 2,
		.newest_ms = 7,
	};

	cr_assert_eq(trusted_clock_now(&facts), 7);
	facts.samples = &samples[0];
	facts.sample_count = facts.clock_count = 1;
	cr_assert_eq(trusted_clock_now(&facts), INT64_MAX);
}

/* ---- what a lock forbids ---- */

Test(store_lock, a_locked_inode_may_change_nowhere_but_for_new_entries)
{
	for (unsigned i = 0; i < INODE_CHANGE_COUNT; i++) {
		uint32_t by = inode_change_forbidden_by((enum inode_change)i);

		cr_assert_eq((by & INODE_LOCKED) == 0,
			     i == DIR_GAINS_ENTRY || i == INODE_SETS_LOCK, "%u", i);
		cr_assert_eq((by & INODE_IMMUTABLE) == 0,
			     i == INODE_SETS_FLAGS || i == INODE_SETS_LOCK, "%u", i);
		cr_assert_eq((by & INODE_APPEND) == 0,
			     i == INODE_SETS_FLAGS || i == INODE_SETS_LOCK || i == INODE_APPENDS ||
				     i == INODE_TOLD_TIMES || i == DIR_GAINS_ENTRY,
			     "%u", i);
	}
}

static int set(struct inode *inode, const char *date)
{
	AUTO(buf) why = BUF_INIT;
	int r = vxattr_set(world.store, world.reader, inode, bytes_of_str(LOCK_XATTR_NAME),
			   bytes_of_str(date), &why);

	/* Every refusal but for want of a lock says why. */
	cr_assert(r == 0 || r == -EBUSY || r == -ENODATA || why.len > 0, "%d", r);
	return r;
}

static void expect_lock(struct inode *inode, const char *date)
{
	AUTO(buf) value = BUF_INIT, names = BUF_INIT;

	cr_assert_eq(vxattr_get(world.store, world.reader, inode, bytes_of_str(LOCK_XATTR_NAME),
				&value), 0);
	cr_assert_str_eq(buf_str(&value), date);
	cr_assert_eq(names_list_xattrs(world.store, world.reader, inode, true, &names), 0);
	cr_assert_eq(names.len, 0);
}

Test(store_lock, a_lock_is_extended_and_lasts_over_a_restart, .timeout = 60)
{
	struct inode *file, *again;
	AUTO(buf) value = BUF_INIT;
	uint64_t ino;

	store_world_init(&world);
	file = store_world_file(&world, "file");
	ino = file->row.ino;
	cr_assert_eq(vxattr_get(world.store, world.reader, file, bytes_of_str(LOCK_XATTR_NAME),
				&value), -ENODATA);
	cr_assert_eq(set(file, ""), -ENODATA);
	cr_assert_eq(set(file, "soon"), -EINVAL);
	cr_assert_eq(set(file, "2001-01-01"), -EINVAL);
	cr_assert_eq(names_lock(world.store, world.root, 1), -EINVAL);
	cr_assert_eq(set(file, "2101-01-01T00:00:00.5Z"), 0); /* rounded up: never shorter */
	expect_lock(file, "2101-01-01T00:00:01Z");
	cr_assert_eq(set(file, "2101-01-01T00:00:01Z"), 0);
	cr_assert_eq(set(file, "2101-01-01"), -EPERM);
	cr_assert_eq(set(file, ""), -EPERM);
	cr_assert_eq(set(file, "2102-01-01"), 0);
	expect_lock(file, "2102-01-01T00:00:00Z");
	drop(file);
	store_world_reopen(&world);
	cr_assert_eq(names_load(world.store, NULL, ino, &again), -EAGAIN);
	cr_assert_eq(names_load(world.store, world.reader, ino, &again), 0);
	expect_lock(again, "2102-01-01T00:00:00Z");
	cr_assert_eq(set(again, "2101-12-31"), -EPERM);
	cr_assert_eq(names_remove(world.store, world.reader, world.root, bytes_of_str("file"),
				  false), -EPERM);
	drop(again);
	store_world_release(&world);
}

Test(store_lock, what_was_written_comes_before_the_lock, .timeout = 60)
{
	struct inode *file;

	store_world_init(&world);
	file = store_world_file(&world, "file");
	cr_assert_eq(writer_write(world.store->writer, file, 0, bytes_of_str("bytes"), false, true,
				  &(struct waiter){0}), 0);
	cr_assert_eq(set(file, "2101-01-01"), -EBUSY);
	store_world_push(&world, file);
	cr_assert_eq(set(file, "2101-01-01"), 0);
	drop(file);
	store_world_release(&world);
}

/* Where no provider has a clock, that of this machine decides: then and only then. */
Test(store_lock, a_lock_opens_on_its_date, .timeout = 60)
{
	struct inode *file;
	int64_t date;

	store_world_init(&world);
	file = store_world_file(&world, "file");
	cr_assert_eq(set(file, "2101-01-01"), 0);
	cr_assert_eq(clock_parse_utc(bytes_of_str("2101-01-01"), &date), 0);
	clock_test_freeze(clock_mono_ms(), (struct wall_time){.sec = date - 1});
	cr_assert_eq(names_check_truncate(world.store, file), -EPERM);
	cr_assert_eq(set(file, ""), -EPERM);
	clock_test_freeze(clock_mono_ms(), (struct wall_time){.sec = date});
	cr_assert_eq(names_check_truncate(world.store, file), 0);
	cr_assert_eq(set(file, "2101-01-02"), 0); /* as if there had been none */
	cr_assert_eq(names_check_truncate(world.store, file), -EPERM);
	clock_test_freeze(clock_mono_ms(), (struct wall_time){.sec = date + 86400});
	cr_assert_eq(set(file, ""), 0);
	cr_assert_eq(set(file, ""), -ENODATA);
	clock_test_release();
	drop(file);
	store_world_release(&world);
}

/* ---- which clock ---- */

/* Sets the clocks of the first `count` providers and has all of them tell the time. */
static void providers_tell(unsigned count, int64_t ms)
{
	struct inode *file = NULL;
	static unsigned number;
	char name[32];
	bool is_present;

	for (unsigned i = 0; i < count; i++)
		memory_set_clock(transfer_backend(world.store->transfer, i, &is_present), ms);
	/* each writes something new, which goes to all three */
	snprintf(name, sizeof(name), "told-%u", number++);
	file = store_world_file(&world, name);
	store_world_write(&world, file, 0, bytes_of_str(name));
	drop(file);
	cr_assert_eq(spool_seal_all(world.store->spool, 0), 0);
	for (unsigned tries = 0; tries < 6000; tries++) {
		struct clock_sample samples[3];
		unsigned sample_count, right = 0;

		cr_assert_eq(transfer_clocks(world.store->transfer, samples, 3, &sample_count), 3);
		for (unsigned i = 0; i < sample_count; i++)
			right += samples[i].server_ms == ms;
		if (right >= count)
			return;
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	cr_assert(false, "the providers told nothing");
}

Test(store_lock, setting_the_clock_of_this_machine_opens_nothing, .timeout = 180)
{
	int64_t date;
	struct inode *file;
	uint64_t ino;

	store_world_init_memory(&world);
	file = store_world_file(&world, "file");
	ino = file->row.ino;
	cr_assert_eq(clock_parse_utc(bytes_of_str("2101-01-01"), &date), 0);
	providers_tell(3, (date - 86400) * 1000);
	cr_assert_eq(set(file, "2101-01-01"), 0);
	clock_test_freeze(clock_mono_ms(), (struct wall_time){.sec = date + 86400});
	cr_assert_eq(names_check_truncate(world.store, file), -EPERM);
	clock_test_release();
	/* one that lies ahead is not believed, nor is what is told before anybody was asked */
	providers_tell(1, (date + 86400) * 1000);
	cr_assert_eq(names_check_truncate(world.store, file), -EPERM);
	drop(file);
	store_world_reopen(&world);
	cr_assert_eq(names_load(world.store, world.reader, ino, &file), 0);
	cr_assert_eq(names_check_truncate(world.store, file), -EPERM);
	/* the time that the journal knew is not before the one by which the lock was set */
	cr_assert_geq(store_now_sec(world.store), date - 86400);
	providers_tell(2, (date + 1) * 1000);
	cr_assert_eq(names_check_truncate(world.store, file), 0);
	drop(file);
	store_world_release(&world);
}
