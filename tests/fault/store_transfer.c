/* SPDX-License-Identifier: Apache-2.0 */
#include "store/superblock_io.h"
#include "tests/lib/copies_world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SHARDS 3

/* ---- whichever request fails ---- */

/* The nth request of the kind to provider 2 fails once: afterwards nothing is missing anywhere. */
static bool fails_at(enum fault_mode mode, unsigned op, int error, unsigned nth)
{
	struct copies_world world;
	struct shard_row shards[SHARDS];
	bool fired;

	copies_world_init(&world, 3, 3);
	copies_fault(&world, 2, mode, op, error, nth, 1);
	copies_world_start(&world);
	for (unsigned i = 0; i < SHARDS; i++)
		shards[i] = copies_shard(&world, 5000, true);
	for (unsigned i = 0; i < SHARDS; i++)
		copies_await_valid(&world, shards[i].shard_no, 3);
	for (unsigned i = 0; i < SHARDS; i++) {
		for (uint32_t no = 1; no <= 3; no++)
			cr_assert(copies_object_is_good(&world, &shards[i], no),
				  "request %u, shard %u at %u", nth, i, no);
		cr_assert_eq(copies_judge(&world, &shards[i]), PROTECTION_PROTECTED);
	}
	fired = fault_fired_count(world.backends[1]) > 0;
	copies_world_release(&world);
	return fired;
}

static void fails_at_each(enum fault_mode mode, unsigned op, int error)
{
	unsigned nth = 1;

	while (nth < 50 && fails_at(mode, op, error, nth))
		nth++;
	cr_assert(nth > 1, "no request of that kind");
	cr_assert(nth < 50, "endless requests");
}

Test(transfer_fault, every_put_may_fail_once, .timeout = 120)
{
	fails_at_each(FAULT_ERROR, BACKEND_PUT, -EIO);
}

Test(transfer_fault, every_put_may_be_refused_once, .timeout = 120)
{
	fails_at_each(FAULT_UNTAKEN, BACKEND_PUT, -EAGAIN);
}

Test(transfer_fault, every_put_may_land_and_fail_all_the_same, .timeout = 120)
{
	fails_at_each(FAULT_LANDED, BACKEND_PUT, -EIO);
}

Test(transfer_fault, every_put_may_find_the_provider_absent, .timeout = 120)
{
	fails_at_each(FAULT_ABSENT, BACKEND_PUT, -EAGAIN);
}

Test(transfer_fault, every_put_may_find_the_provider_full, .timeout = 120)
{
	fails_at_each(FAULT_ERROR, BACKEND_PUT, -ENOSPC);
}

/* ---- one provider holds up nobody else ---- */

Test(transfer_fault, stalled_provider_delays_only_its_own_copies, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shards[20];

	copies_world_init(&world, 3, 3);
	copies_fault(&world, 1, FAULT_STALL, BACKEND_PUT, -EIO, 1, 0);
	copies_world_start(&world);
	for (unsigned i = 0; i < 20; i++)
		shards[i] = copies_shard(&world, 5000, true);
	for (unsigned i = 0; i < 20; i++)
		copies_await_valid(&world, shards[i].shard_no, 2);
	cr_assert(fault_held_count(world.backends[0]) > 0);
	fault_clear(world.backends[0]);
	fault_release(world.backends[0]);
	for (unsigned i = 0; i < 20; i++)
		copies_await_valid(&world, shards[i].shard_no, 3);
	copies_world_release(&world);
}

Test(transfer_fault, stalled_read_is_answered_by_another_copy, .timeout = 120)
{
	struct copies_world world;
	AUTO(buf) bytes = BUF_INIT;
	struct shard_row shard;
	uint64_t start;

	copies_world_init(&world, 3, 3);
	copies_world_start(&world);
	shard = copies_shard(&world, 50000, true);
	copies_await_valid(&world, shard.shard_no, 3);
	copies_fault(&world, 1, FAULT_STALL, BACKEND_GET, -EIO, 1, 0);
	start = clock_mono_ms();
	cr_assert_eq(copies_fetch(&world, &shard, &bytes), 0);
	cr_assert_lt(clock_mono_ms() - start, STALL_MS); /* it was not given up first */
	cr_assert_eq(bytes.len, shard.object_len);
	cr_assert_eq(fault_fired_count(world.backends[0]), 1);
	cr_assert_eq(copies_state(&world, shard.shard_no, 1), COPY_PRESENT);
	copies_world_release(&world);
}

Test(transfer_fault, full_provider_degrades_and_recovers, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shard;
	unsigned turns = 0;

	copies_world_init(&world, 3, 3);
	copies_fault(&world, 3, FAULT_ERROR, BACKEND_PUT, -ENOSPC, 1, 0);
	copies_world_start(&world);
	shard = copies_shard(&world, 5000, true);
	copies_await_valid(&world, shard.shard_no, 2);
	while (copies_judge(&world, &shard) != PROTECTION_DEGRADED)
		copies_turn(&world, false, &turns);
	cr_assert(provider_is_present(&world.transfer->lanes[2].provider));
	fault_clear(world.backends[2]);
	copies_await_valid(&world, shard.shard_no, 3);
	turns = 0;
	while (copies_judge(&world, &shard) != PROTECTION_PROTECTED)
		copies_turn(&world, false, &turns);
	copies_world_release(&world);
}

Test(transfer_fault, provider_that_reads_but_does_not_write_gets_one_try_at_a_time, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shards[30];
	unsigned turns = 0;

	copies_world_init(&world, 2, 2);
	copies_fault(&world, 2, FAULT_ERROR, BACKEND_PUT, -EACCES, 1, 0);
	copies_world_start(&world);
	for (unsigned i = 0; i < 30; i++)
		shards[i] = copies_shard(&world, 3000, true);
	for (unsigned i = 0; i < 30; i++)
		copies_await_state(&world, shards[i].shard_no, 1, COPY_PRESENT);
	/* what was under way when it opened, then one for each look */
	while (fault_fired_count(world.backends[1]) < 12)
		copies_turn(&world, true, &turns);
	cr_assert_leq(fault_fired_count(world.backends[1]), LANE_INFLIGHT_MAX + turns);
	fault_clear(world.backends[1]);
	for (unsigned i = 0; i < 30; i++)
		copies_await_valid(&world, shards[i].shard_no, 2);
	copies_world_release(&world);
}

/* ---- away and back ---- */

Test(transfer_fault, provider_away_at_start_gets_its_copies_when_it_returns, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shards[SHARDS];

	copies_world_init(&world, 3, 3);
	memory_set_absent(world.backends[2], true);
	copies_world_start(&world);
	for (unsigned i = 0; i < SHARDS; i++)
		shards[i] = copies_shard(&world, 70000, true);
	for (unsigned i = 0; i < SHARDS; i++) {
		unsigned turns = 0;

		copies_await_valid(&world, shards[i].shard_no, 2);
		/* two copies are enough for the spool while nothing moves */
		while (spool_has(world.data.spool, shards[i].shard_no))
			copies_turn(&world, false, &turns);
		cr_assert_eq(copies_judge(&world, &shards[i]), PROTECTION_DEGRADED);
		cr_assert_eq(copies_state(&world, shards[i].shard_no, 3), COPY_PENDING);
	}
	memory_set_absent(world.backends[2], false);
	for (unsigned i = 0; i < SHARDS; i++) {
		copies_await_valid(&world, shards[i].shard_no, 3); /* from another provider */
		cr_assert(copies_object_is_good(&world, &shards[i], 3));
		cr_assert_eq(copies_judge(&world, &shards[i]), PROTECTION_PROTECTED);
	}
	copies_world_release(&world);
}

Test(transfer_fault, bad_copy_is_never_copied_on, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shard;
	unsigned turns = 0;

	copies_world_init(&world, 3, 3);
	memory_set_absent(world.backends[2], true);
	copies_world_start(&world);
	shard = copies_shard(&world, 70000, true);
	copies_await_valid(&world, shard.shard_no, 2);
	while (spool_has(world.data.spool, shard.shard_no))
		copies_turn(&world, false, &turns);
	cr_assert_eq(memory_damage(world.backends[0], shard_id_hex(&shard.id).s, 30000, 4), 0);
	memory_set_absent(world.backends[2], false);
	copies_await_valid(&world, shard.shard_no, 3);
	for (uint32_t no = 1; no <= 3; no++)
		cr_assert(copies_object_is_good(&world, &shard, no), "at %u", no);
	copies_world_release(&world);
}

Test(transfer_fault, owed_copies_survive_a_restart, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shards[SHARDS];

	copies_world_init(&world, 3, 3);
	memory_set_absent(world.backends[1], true);
	copies_world_start(&world);
	for (unsigned i = 0; i < SHARDS; i++)
		shards[i] = copies_shard(&world, 9000, true);
	for (unsigned i = 0; i < SHARDS; i++)
		copies_await_valid(&world, shards[i].shard_no, 2);
	copies_world_restart(&world);
	memory_set_absent(world.backends[1], false);
	copies_world_start(&world);
	for (unsigned i = 0; i < SHARDS; i++) {
		copies_await_valid(&world, shards[i].shard_no, 3);
		cr_assert(copies_object_is_good(&world, &shards[i], 2));
	}
	copies_world_release(&world);
}

Test(transfer_fault, sealed_shard_that_was_never_announced_gets_its_copies, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shard;

	copies_world_init(&world, 3, 3);
	shard = copies_shard(&world, 9000, false); /* killed between sealing and placing */
	copies_world_start(&world);
	copies_await_valid(&world, shard.shard_no, 3);
	copies_world_release(&world);
}

/* The copies were acknowledged and the spool's file dropped, but the rows did not reach the disk. */
Test(transfer_fault, copies_whose_rows_were_lost_are_found_again, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shard;

	copies_world_init(&world, 2, 2);
	copies_world_start(&world);
	shard = copies_shard(&world, 9000, true);
	copies_await_valid(&world, shard.shard_no, 2);
	copies_world_stop(&world);
	cr_assert_not(spool_has(world.data.spool, shard.shard_no));
	for (uint32_t no = 1; no <= 2; no++) {
		struct record *record = record_new();
		struct copy_row copy = {
			.shard_no = shard.shard_no, .provider_no = no, .state = COPY_PENDING};
		uint64_t seq;

		record_put_copy(record, &copy);
		cr_assert_eq(sequencer_submit(world.data.sequencer, record, &seq), 0);
	}
	copies_world_open(&world);
	copies_world_start(&world);
	copies_await_valid(&world, shard.shard_no, 2);
	copies_world_release(&world);
}

Test(transfer_fault, more_is_owed_than_memory_holds, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shards[60];

	copies_world_init(&world, 2, 2);
	world.transfer->queue_max = world.queue_max = 8;
	memory_set_absent(world.backends[1], true);
	copies_world_start(&world);
	for (unsigned i = 0; i < 60; i++)
		shards[i] = copies_shard(&world, 500, true);
	for (unsigned i = 0; i < 60; i++)
		copies_await_state(&world, shards[i].shard_no, 1, COPY_PRESENT);
	cr_assert_leq(world.transfer->lanes[1].queued_copies, 8);
	memory_set_absent(world.backends[1], false);
	for (unsigned i = 0; i < 60; i++)
		copies_await_valid(&world, shards[i].shard_no, 2);
	copies_world_release(&world);
}

/* ---- bad copies ---- */

Test(transfer_fault, damaged_copy_is_read_around_and_rewritten, .timeout = 120)
{
	for (uint32_t bad = 1; bad <= 3; bad++) {
		struct copies_world world;
		AUTO(buf) bytes = BUF_INIT;
		struct shard_row shard;

		copies_world_init(&world, 3, 3);
		copies_world_start(&world);
		shard = copies_shard(&world, 70000, true);
		copies_await_valid(&world, shard.shard_no, 3);
		cr_assert_eq(memory_damage(world.backends[bad - 1], shard_id_hex(&shard.id).s,
					   30000, 1), 0);
		if (bad > 1) /* make it the one that is asked */
			for (uint32_t no = 1; no < bad; no++)
				copies_fault(&world, no, FAULT_ERROR, BACKEND_GET, -EIO, 1, 1);
		if (bad < 3) {
			cr_assert_eq(copies_fetch(&world, &shard, &bytes), 0);
			copies_await_state(&world, shard.shard_no, bad, COPY_VERIFIED);
		} else { /* nothing is good for once, but nothing is lost */
			cr_assert_eq(copies_fetch(&world, &shard, &bytes), -EIO);
			copies_await_state(&world, shard.shard_no, bad, COPY_VERIFIED);
			cr_assert_eq(copies_fetch(&world, &shard, &bytes), 0);
		}
		for (uint32_t no = 1; no <= 3; no++)
			cr_assert(copies_object_is_good(&world, &shard, no));
		copies_world_release(&world);
	}
}

Test(transfer_fault, copy_that_vanished_is_made_again, .timeout = 120)
{
	struct copies_world world;
	AUTO(buf) bytes = BUF_INIT;
	struct shard_row shard;
	struct shard_id_hex key;
	struct backend_req req = {.op = BACKEND_DELETE};

	copies_world_init(&world, 3, 3);
	copies_world_start(&world);
	shard = copies_shard(&world, 9000, true);
	copies_await_valid(&world, shard.shard_no, 3);
	key = shard_id_hex(&shard.id);
	req.key = key.s;
	cr_assert_eq(backend_run(world.backends[0], &req), 0);
	cr_assert_eq(copies_fetch(&world, &shard, &bytes), 0);
	copies_await_state(&world, shard.shard_no, 1, COPY_VERIFIED);
	cr_assert(copies_object_is_good(&world, &shard, 1));
	copies_world_release(&world);
}

Test(transfer_fault, read_that_was_bad_on_the_way_does_not_cost_a_rewrite, .timeout = 120)
{
	struct copies_world world;
	AUTO(buf) bytes = BUF_INIT;
	struct shard_row shard;
	uint64_t puts;

	copies_world_init(&world, 3, 3);
	copies_world_start(&world);
	shard = copies_shard(&world, 9000, true);
	copies_await_valid(&world, shard.shard_no, 3);
	copies_fault(&world, 1, FAULT_CORRUPT, BACKEND_GET, 0, 1, 1);
	puts = fault_seen_count(world.backends[0], BACKEND_PUT);
	cr_assert_eq(copies_fetch(&world, &shard, &bytes), 0);
	copies_await_state(&world, shard.shard_no, 1, COPY_VERIFIED);
	cr_assert_leq(fault_seen_count(world.backends[0], BACKEND_PUT), puts + 1); /* superblock */
	copies_world_release(&world);
}

Test(transfer_fault, verify_reads_every_copy_back, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shard;
	unsigned good, bad;

	copies_world_init(&world, 3, 3);
	copies_world_start(&world);
	shard = copies_shard(&world, 70000, true);
	copies_await_valid(&world, shard.shard_no, 3);
	cr_assert_eq(memory_damage(world.backends[1], shard_id_hex(&shard.id).s, 30000, 1), 0);
	cr_assert_eq(transfer_verify_shard(world.transfer, world.data.reader, shard.shard_no, &good,
					   &bad), 0);
	cr_assert(good == 2 && bad == 1);
	for (uint32_t no = 1; no <= 3; no++)
		copies_await_state(&world, shard.shard_no, no, COPY_VERIFIED);
	cr_assert_eq(transfer_verify_shard(world.transfer, world.data.reader, shard.shard_no, &good,
					   &bad), 0);
	cr_assert(good == 3 && bad == 0);
	cr_assert_eq(transfer_verify_shard(world.transfer, world.data.reader, 999, &good, &bad),
		     -ENOENT);
	copies_world_release(&world);
}

/* ---- those who wait ---- */

struct test_waiter {
	struct waiter waiter;
	_Atomic int state; /* 1: told */
	int error;
};

static void waiter_done(struct waiter *waiter, int error)
{
	struct test_waiter *test = container_of(waiter, struct test_waiter, waiter);

	test->error = error;
	atomic_store(&test->state, 1);
}

static void await_told(struct copies_world *world, struct test_waiter *waiter)
{
	unsigned turns = 0;

	while (!atomic_load(&waiter->state))
		copies_turn(world, false, &turns);
}

Test(transfer_fault, acknowledgement_comes_with_the_copies_and_not_before, .timeout = 120)
{
	struct copies_world world;
	struct test_waiter one = {.waiter.done = waiter_done}, two = one, all = one, none = one;
	struct shard_row shard;

	copies_world_init(&world, 3, 3);
	copies_fault(&world, 1, FAULT_STALL, BACKEND_PUT, -EIO, 1, 0);
	copies_fault(&world, 2, FAULT_STALL, BACKEND_PUT, -EIO, 1, 0);
	copies_world_start(&world);
	shard = copies_shard(&world, 9000, true);
	transfer_when_copied(world.transfer, shard.shard_no, 1, &one.waiter);
	transfer_when_copied(world.transfer, shard.shard_no, 2, &two.waiter);
	transfer_when_copied(world.transfer, shard.shard_no, 0, &all.waiter);
	transfer_when_copied(world.transfer, 12345, 1, &none.waiter);
	await_told(&world, &one);
	await_told(&world, &none);
	cr_assert_eq(one.error, 0);
	cr_assert_eq(none.error, -ENOENT);
	fault_wait_held(world.backends[0], 1);
	fault_wait_held(world.backends[1], 1);
	cr_assert_eq(atomic_load(&two.state), 0);
	fault_release(world.backends[1]);
	await_told(&world, &two);
	cr_assert_eq(two.error, 0);
	cr_assert_eq(atomic_load(&all.state), 0);
	copies_world_release(&world); /* lets the last one go, or tells that it ends */
	cr_assert_eq(atomic_load(&all.state), 1);
	cr_assert(all.error == 0 || all.error == -ECANCELED);
}

Test(transfer_fault, stronger_policy_makes_further_copies, .timeout = 120)
{
	struct copies_world world;
	struct shard_row shard;

	copies_world_init(&world, 4, 2);
	copies_world_start(&world);
	shard = copies_shard(&world, 9000, true);
	copies_await_valid(&world, shard.shard_no, 2);
	world.policy.copies = 4;
	transfer_policy_changed(world.transfer, shard.policy_root);
	copies_await_valid(&world, shard.shard_no, 4);
	cr_assert_eq(copies_judge(&world, &shard), PROTECTION_PROTECTED);
	copies_world_release(&world);
}

Test(transfer_fault, provider_taken_out_of_the_configuration_counts_as_away, .timeout = 120)
{
	struct copies_world world;
	struct provider_status status;
	struct provider_facts facts[5];
	AUTO(buf) why = BUF_INIT;
	struct shard_row shard;

	copies_world_init(&world, 3, 3);
	copies_world_start(&world);
	shard = copies_shard(&world, 9000, true);
	copies_await_valid(&world, shard.shard_no, 3);
	copies_world_stop(&world);
	world.config.provider_count = world.provider_count = 2;
	copies_world_open(&world);
	copies_world_start(&world);
	cr_assert_eq(transfer_provider_count(world.transfer), 3);
	transfer_provider_status(world.transfer, 2, &status);
	cr_assert_str_eq(status.name, "p3");
	cr_assert_str_eq(status.state, "absent");
	cr_assert_eq(copies_judge(&world, &shard), PROTECTION_PROTECTED); /* it still has it */
	cr_assert_eq(policy_check(&world.policy, facts, transfer_facts(world.transfer, facts, 5),
				  &why), -EDOM); /* but takes nothing new */
	copies_world_release(&world);
}

Test(transfer_fault, providers_are_told_what_they_hold, .timeout = 120)
{
	struct copies_world world;
	struct provider_status status;
	struct shard_row first, second;
	unsigned turns = 0;

	copies_world_init(&world, 3, 3);
	copies_world_start(&world);
	first = copies_shard(&world, 9000, true);
	copies_await_valid(&world, first.shard_no, 3);
	copies_world_restart(&world);
	copies_world_start(&world);
	second = copies_shard(&world, 9000, true);
	copies_await_valid(&world, second.shard_no, 3);
	do {
		copies_turn(&world, false, &turns);
		transfer_provider_status(world.transfer, 1, &status);
	} while (status.objects != 2);
	cr_assert_eq(status.bytes, first.object_len + second.object_len);
	cr_assert_eq(status.queued_copies, 0);
	cr_assert_str_eq(status.state, "ok");
	cr_assert(status.last_ok_sec > 0);
	copies_world_release(&world);
}

static bool has_superblock(struct backend *backend, const struct buf *sealed)
{
	AUTO(buf) found = BUF_INIT;
	struct backend_req req = {
		.op = BACKEND_GET, .key = SUPERBLOCK_KEY, .len = BACKEND_TO_END, .out = &found};

	return backend_run(backend, &req) == 0 && found.len == sealed->len &&
	       memcmp(found.ptr, sealed->ptr, found.len) == 0;
}

Test(transfer_fault, superblock_of_a_provider_that_comes_is_made_right, .timeout = 120)
{
	struct copies_world world;
	struct superblock *sb = mem_alloc(sizeof(*sb));
	AUTO(buf) sealed = BUF_INIT;
	AUTO(buf) old = BUF_INIT;
	AUTO(buf) why = BUF_INIT;
	unsigned turns = 0;

	copies_world_init(&world, 3, 2);
	*sb = world.data.superblock;
	cr_assert_eq(keyring_seal_superblock(world.data.keyring, sb, &old), 0);
	sb->revision++;
	cr_assert_eq(keyring_seal_superblock(world.data.keyring, sb, &sealed), 0);
	cr_assert_eq(superblock_io_write_local(&world.config, buf_bytes(&sealed), &why), 0);
	cr_assert_eq(superblock_io_put(world.backends[0], buf_bytes(&old), &why), 0);
	cr_assert_eq(superblock_io_put(world.backends[1], bytes_of_str("rubbish"), &why), 0);
	memory_set_absent(world.backends[1], true); /* and the third has none */
	copies_world_start(&world);
	while (!has_superblock(world.backends[0], &sealed) ||
	       !has_superblock(world.backends[2], &sealed))
		copies_turn(&world, false, &turns);
	memory_set_absent(world.backends[1], false);
	while (!has_superblock(world.backends[1], &sealed))
		copies_turn(&world, true, &turns);
	mem_free(sb);
	copies_world_release(&world);
}
