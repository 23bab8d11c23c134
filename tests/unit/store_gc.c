/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/memory.h"
#include "store/gc_private.h"
#include "util/clock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "tests/lib/gc_world.h"
#include "tests/lib/hooks.h"

#define LEN 50000u

static struct chunk_row put_chunk(struct gc_world *world, struct chunk_worker *worker,
				  uint64_t number)
{
	struct shard_class class = data_class(INO_ROOT);
	uint8_t bytes[4000];
	struct chunk_row row;
	bool is_new;

	(void)world;
	data_fill(number, bytes, sizeof(bytes));
	cr_assert_eq(chunk_put(worker, &class, bytes_of(bytes, sizeof(bytes)), &row, &is_new), 0);
	return row;
}

Test(gc, dead_chunks_leave_the_index_and_live_ones_stay, .timeout = 60)
{
	struct gc_world world;
	struct chunk_row live, dead, shared;
	struct gc_report report;

	gc_world_init(&world);
	gc_world_open(&world);
	live = gc_world_put(&world, 10, 0, 1, LEN);
	dead = gc_world_put(&world, 10, MIB, 2, LEN);
	shared = gc_world_put(&world, 10, 2 * MIB, 3, LEN);
	data_put_extent(&world.copies.data, 11, 0, LEN, shared.chunk_no, 0);
	gc_world_cut(&world, 10, MIB, 2 * MIB);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.chunks_deleted, 1);
	cr_assert_not(gc_world_has_chunk(&world, dead.chunk_no));
	cr_assert(gc_world_reads(&world, live.chunk_no, 1, LEN));
	cr_assert(gc_world_reads(&world, shared.chunk_no, 3, LEN));
	cr_assert_eq(gc_world_look(&world, false).chunks_deleted, 0);
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, a_chunk_that_somebody_holds_is_not_deleted, .timeout = 60)
{
	struct gc_world world;
	struct chunk_worker *worker;
	struct chunk_row row, again;

	gc_world_init(&world);
	gc_world_open(&world);
	cr_assert_eq(chunk_worker_new(&world.copies.data.chunks, &worker), 0);
	row = put_chunk(&world, worker, 1);
	gc_world_look(&world, false);
	cr_assert(gc_world_has_chunk(&world, row.chunk_no), "pinned, with no extent yet");
	data_put_extent(&world.copies.data, 10, 0, 4000, row.chunk_no, 0);
	chunk_unpin(&world.copies.data.chunks, row.chunk_no);
	gc_world_look(&world, false);
	cr_assert(gc_world_has_chunk(&world, row.chunk_no), "in use");
	gc_world_cut(&world, 10, 0, 4000);
	again = put_chunk(&world, worker, 1);
	cr_assert_eq(again.chunk_no, row.chunk_no, "found, and held again");
	gc_world_look(&world, false);
	cr_assert(gc_world_has_chunk(&world, row.chunk_no));
	chunk_unpin(&world.copies.data.chunks, row.chunk_no);
	gc_world_look(&world, false);
	cr_assert_not(gc_world_has_chunk(&world, row.chunk_no));
	again = put_chunk(&world, worker, 1);
	cr_assert_neq(again.chunk_no, row.chunk_no, "numbers are not given again");
	cr_assert_eq(gc_world_violations(&world), 0);
	chunk_unpin(&world.copies.data.chunks, again.chunk_no);
	chunk_worker_free(worker);
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, an_empty_shard_leaves_every_provider, .timeout = 60)
{
	struct gc_world world;
	struct gc_report report;
	struct chunk_row row;

	gc_world_init(&world);
	gc_world_open(&world);
	row = gc_world_put(&world, 10, 0, 1, LEN);
	gc_world_ship(&world);
	cr_assert_eq(gc_world_objects(&world, 1) + gc_world_objects(&world, 2) +
			     gc_world_objects(&world, 3), 2);
	cr_assert_eq(gc_world_look(&world, false).shards_condemned, 0);
	gc_world_cut(&world, 10, 0, LEN);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.shards_condemned, 1);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.shards_deleted, 1);
	cr_assert_gt(report.bytes_deleted, LEN);
	for (uint32_t no = 1; no <= 3; no++)
		cr_assert_eq(gc_world_objects(&world, no), 0);
	cr_assert_not(gc_world_has_shard(&world, row.shard_no));
	cr_assert_eq(gc_world_violations(&world), 0);
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, a_condemned_shard_is_held_also_over_a_restart, .timeout = 60)
{
	struct gc_world world;
	struct gc_report report;
	struct wall_time now = clock_wall();
	struct record *record = record_new();
	struct shard_row shard;
	struct chunk_row row;
	uint64_t seq;

	gc_world_init(&world);
	world.settings.hold_ms = 3600 * 1000;
	gc_world_open(&world);
	row = gc_world_put(&world, 10, 0, 1, LEN);
	gc_world_ship(&world);
	gc_world_cut(&world, 10, 0, LEN);
	report = gc_world_finish(&world);
	cr_assert_eq(report.shards_held, 1);
	cr_assert_geq(report.held_until_sec, now.sec + 3600);
	gc_world_restart(&world);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.shards_held, 1);
	cr_assert_leq(report.held_until_sec, now.sec + 3600 + 60);
	cr_assert(gc_world_has_shard(&world, row.shard_no));
	cr_assert_eq(index_get_shard(world.copies.data.index, world.copies.data.reader,
				     row.shard_no, &shard), 0);
	shard.sealed_sec -= 2 * 3600; /* time goes by */
	record_put_shard(record, &shard);
	cr_assert_eq(sequencer_submit(world.copies.data.sequencer, record, &seq), 0);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.shards_deleted, 1);
	cr_assert_not(gc_world_has_shard(&world, row.shard_no));
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, nothing_is_deleted_while_a_provider_is_away, .timeout = 60)
{
	struct gc_world world;
	struct gc_report report;

	gc_world_init(&world);
	gc_world_open(&world);
	for (unsigned i = 0; i < 6; i++) {
		gc_world_put(&world, 10, i * MIB, i + 1, LEN);
		gc_world_ship(&world);
	}
	memory_set_absent(world.copies.backends[2], true); /* nobody has noticed */
	gc_world_cut(&world, 10, 0, 6 * MIB);
	report = gc_world_finish(&world);
	cr_assert_eq(report.shards_deleted, 0);
	cr_assert_eq(report.shards_blocked, 6);
	cr_assert_gt(report.bytes_blocked, 6 * LEN);
	cr_assert_gt(report.blocked_since_sec, 0);
	cr_assert_str_eq(report.blocked_by, "away: p3");
	cr_assert_gt(gc_world_objects(&world, 1) + gc_world_objects(&world, 2), 0,
		     "also where no one is away");
	gc_world_set_absent(&world, 3, false);
	gc_world_restart(&world);
	cr_assert_eq(gc_world_look(&world, false).shards_deleted, 6);
	for (uint32_t no = 1; no <= 3; no++)
		cr_assert_eq(gc_world_objects(&world, no), 0);
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, what_is_alive_in_a_sparse_shard_moves_when_its_new_place_is_safe, .timeout = 60)
{
	struct gc_world world;
	struct gc_report report;
	struct chunk_row rows[8];
	uint64_t old;

	gc_world_init(&world);
	gc_world_open(&world);
	for (unsigned i = 0; i < 8; i++)
		rows[i] = gc_world_put(&world, 10, i * MIB, i + 1, LEN);
	old = rows[0].shard_no;
	gc_world_ship(&world);
	gc_world_cut(&world, 10, 0, 4 * MIB);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.shards_moving, 0, "half of it is alive");
	gc_world_cut(&world, 10, 4 * MIB, MIB);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.shards_moving, 1);
	for (unsigned i = 0; i < 3; i++) {
		report = gc_world_look(&world, false);
		cr_assert_eq(report.shards_moving, 1, "no copies there yet");
		cr_assert_eq(data_chunk_now(&world.copies.data, rows[5].chunk_no).shard_no, old);
	}
	gc_world_ship(&world);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.chunks_moved, 3);
	cr_assert_eq(report.shards_condemned, 1);
	gc_world_finish(&world);
	cr_assert_not(gc_world_has_shard(&world, old));
	for (unsigned i = 5; i < 8; i++) {
		cr_assert_neq(data_chunk_now(&world.copies.data, rows[i].chunk_no).shard_no, old);
		cr_assert(gc_world_reads(&world, rows[i].chunk_no, i + 1, LEN));
	}
	cr_assert_eq(gc_world_objects(&world, 1) + gc_world_objects(&world, 2) +
			     gc_world_objects(&world, 3), 2);
	cr_assert_eq(gc_world_violations(&world), 0);
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, a_small_shard_that_is_alive_is_not_repacked_for_ever, .timeout = 60)
{
	struct gc_world world;

	gc_world_init(&world);
	world.settings.repack_below = 90;
	gc_world_open(&world);
	for (unsigned i = 0; i < 5; i++) {
		gc_world_put(&world, 10, i * MIB, i + 1, 100);
		gc_world_ship(&world);
	}
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(gc_world_look(&world, false).shards_moving, 0);
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, many_small_shards_become_few, .timeout = 60)
{
	struct gc_world world;
	struct chunk_row rows[GC_MERGE_MIN];
	unsigned objects;

	gc_world_init(&world);
	world.settings.shard_bytes = MIB;
	gc_world_open(&world);
	for (unsigned i = 0; i < GC_MERGE_MIN; i++) {
		cr_assert_eq(gc_world_look(&world, false).shards_moving, 0, "%u", i);
		rows[i] = gc_world_put(&world, 10, i * MIB, i + 1, 1000);
		gc_world_ship(&world);
	}
	gc_world_finish(&world);
	for (unsigned i = 0; i < GC_MERGE_MIN; i++) {
		cr_assert_not(gc_world_has_shard(&world, rows[i].shard_no));
		cr_assert(gc_world_reads(&world, rows[i].chunk_no, i + 1, 1000));
	}
	objects = gc_world_objects(&world, 1) + gc_world_objects(&world, 2) +
		  gc_world_objects(&world, 3);
	cr_assert_eq(objects, 2);
	cr_assert_eq(gc_world_look(&world, false).shards_moving, 0, "and that is that");
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, an_open_shard_with_nothing_alive_is_dropped_without_being_copied, .timeout = 60)
{
	struct gc_world world;
	struct gc_report report;
	struct chunk_row row;
	unsigned turns = 0;

	gc_world_init(&world);
	gc_world_open(&world);
	row = gc_world_put(&world, 10, 0, 1, LEN);
	gc_world_cut(&world, 10, 0, LEN);
	report = gc_world_finish(&world);
	while (gc_world_has_shard(&world, row.shard_no))
		copies_turn(&world.copies, false, &turns);
	cr_assert_eq(report.shards_held, 0);
	cr_assert_not(spool_has(world.copies.data.spool, row.shard_no));
	cr_assert_eq(spool_bytes_used(world.copies.data.spool), 0);
	cr_assert_eq(gc_world_violations(&world), 0);
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, a_shard_in_the_spool_gives_back_local_disk_though_providers_are_away, .timeout = 60)
{
	struct gc_world world;
	struct chunk_row row, kept;
	uint64_t before;

	gc_world_init(&world);
	gc_world_open(&world);
	for (uint32_t no = 1; no <= 3; no++)
		gc_world_set_absent(&world, no, true);
	kept = gc_world_put(&world, 11, 0, 99, 1000);
	for (unsigned i = 0; i < 10; i++)
		row = gc_world_put(&world, 10, i * MIB, i + 1, LEN);
	cr_assert_eq(spool_seal_all(world.copies.data.spool, 0), 0);
	transfer_add(world.copies.transfer, &world.copies.data.last_sealed);
	before = spool_bytes_used(world.copies.data.spool);
	gc_world_cut(&world, 10, 0, 10 * MIB);
	cr_assert_eq(gc_world_look(&world, false).shards_moving, 1);
	cr_assert_eq(spool_seal_all(world.copies.data.spool, 0), 0);
	cr_assert_eq(gc_world_look(&world, false).chunks_moved, 1,
		     "the new place is as safe as the old one: on this disk");
	gc_world_look(&world, false);
	cr_assert_lt(spool_bytes_used(world.copies.data.spool), before / 10);
	cr_assert_not(spool_has(world.copies.data.spool, row.shard_no));
	cr_assert(gc_world_reads(&world, kept.chunk_no, 99, 1000));
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, a_deletion_that_fails_is_tried_again, .timeout = 60)
{
	struct gc_world world;
	struct gc_report report;
	struct chunk_row row;

	gc_world_init(&world);
	gc_world_open(&world);
	row = gc_world_put(&world, 10, 0, 1, LEN);
	gc_world_ship(&world);
	gc_world_cut(&world, 10, 0, LEN);
	for (uint32_t no = 1; no <= 3; no++)
		copies_fault(&world.copies, no, FAULT_ERROR, BACKEND_DELETE, -EIO, 1, 1);
	gc_world_look(&world, false);
	report = gc_world_look(&world, true);
	cr_assert_eq(report.error, -EIO);
	cr_assert_eq(report.shards_deleted, 0);
	cr_assert(gc_world_has_shard(&world, row.shard_no));
	gc_world_finish(&world);
	cr_assert_not(gc_world_has_shard(&world, row.shard_no));
	for (uint32_t no = 1; no <= 3; no++)
		cr_assert_eq(gc_world_objects(&world, no), 0);
	gc_world_close(&world);
	gc_world_release(&world);
}

static uint64_t shipped;

static uint64_t shipped_seq(void *ctx)
{
	(void)ctx;
	return shipped;
}

Test(gc, a_shard_that_some_providers_history_needs_stays, .timeout = 60)
{
	struct gc_world world;
	struct gc_report report;

	gc_world_init(&world);
	world.settings.shipped_seq = shipped_seq;
	gc_world_open(&world);
	gc_world_put(&world, 10, 0, 1, LEN);
	gc_world_ship(&world);
	gc_world_cut(&world, 10, 0, LEN);
	data_wait_applied(&world.copies.data);
	shipped = sequencer_last_seq(world.copies.data.sequencer);
	gc_world_look(&world, false);
	report = gc_world_finish(&world);
	cr_assert_eq(report.shards_blocked, 1);
	cr_assert_str_eq(report.blocked_by, "not shipped");
	shipped = sequencer_last_seq(world.copies.data.sequencer);
	gc_world_finish(&world);
	cr_assert_eq(gc_world_objects(&world, 1) + gc_world_objects(&world, 2) +
			     gc_world_objects(&world, 3), 0);
	gc_world_close(&world);
	gc_world_release(&world);
}

Test(gc, frozen_it_does_nothing, .timeout = 60)
{
	struct gc_world world;
	struct gc_report report;
	struct chunk_row row;

	gc_world_init(&world);
	gc_world_open(&world);
	row = gc_world_put(&world, 10, 0, 1, LEN);
	gc_world_ship(&world);
	gc_world_cut(&world, 10, 0, LEN);
	gc_freeze(world.gc, true);
	report = gc_world_look(&world, false);
	cr_assert_eq(report.chunks_deleted + report.shards_condemned, 0);
	cr_assert_str_eq(report.blocked_by, "frozen");
	cr_assert(gc_world_has_chunk(&world, row.chunk_no));
	gc_freeze(world.gc, false);
	gc_world_finish(&world);
	cr_assert_not(gc_world_has_chunk(&world, row.chunk_no));
	gc_world_close(&world);
	gc_world_release(&world);
}

static int count_candidate(void *ctx, const struct gc_candidate *candidate)
{
	unsigned *counts = ctx;

	counts[candidate->reason[0] == 's' ? 0 : candidate->reason[0] == 'e' ? 1 : 2]++;
	cr_assert_gt(candidate->bytes, 0);
	return 0;
}

Test(gc, a_survey_tells_what_could_go_and_changes_nothing, .timeout = 60)
{
	struct gc_world world;
	unsigned counts[3] = {0};
	char blocked_by[160];

	gc_world_init(&world);
	world.settings.hold_ms = 1000000;
	gc_world_open(&world);
	for (unsigned i = 0; i < 4; i++)
		gc_world_put(&world, 10, i * MIB, i + 1, LEN);
	gc_world_ship(&world); /* becomes sparse */
	gc_world_put(&world, 10, 4 * MIB, 5, LEN);
	gc_world_ship(&world); /* empty */
	gc_world_put(&world, 10, 5 * MIB, 6, LEN);
	gc_world_ship(&world); /* stays */
	gc_world_cut(&world, 10, MIB, 4 * MIB);
	data_wait_applied(&world.copies.data);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(gc_survey(world.gc, world.copies.data.reader, count_candidate, counts,
				       blocked_by), 0);
	cr_assert_eq(counts[0], 2, "%u", counts[0]);
	cr_assert_eq(counts[1], 2);
	cr_assert_eq(counts[2], 0);
	cr_assert_str_empty(blocked_by);
	gc_world_close(&world);
	gc_world_release(&world);
}

#ifdef SHARDFS_TEST_HOOKS
/*
 * Whichever step fails, and wherever the daemon ends: what is alive is read back, what is dead
 * goes in the end, and the index's invariants hold.
 */
static void fails_at(const char *place, bool is_restarted)
{
	struct gc_world world;
	struct chunk_row rows[8], gone;
	char rule[100];

	gc_world_init(&world);
	gc_world_open(&world);
	for (unsigned i = 0; i < 8; i++)
		rows[i] = gc_world_put(&world, 10, i * MIB, i + 1, LEN);
	gc_world_ship(&world);
	gone = gc_world_put(&world, 10, 8 * MIB, 9, LEN);
	gc_world_ship(&world);
	gc_world_put(&world, 10, 9 * MIB, 10, LEN); /* in an open shard */
	gc_world_cut(&world, 10, 2 * MIB, 8 * MIB);
	snprintf(rule, sizeof(rule), "fail %s EIO 1", place);
	test_hooks(rule);
	for (unsigned i = 0; i < 3; i++) {
		if (gc_world_look(&world, true).shards_moving > 0)
			gc_world_ship(&world);
	}
	test_hooks("");
	if (is_restarted)
		gc_world_restart(&world);
	gc_world_finish(&world);
	for (unsigned i = 0; i < 2; i++)
		cr_assert(gc_world_reads(&world, rows[i].chunk_no, i + 1, LEN), "%s: %u", place, i);
	for (unsigned i = 2; i < 8; i++)
		cr_assert_not(gc_world_has_chunk(&world, rows[i].chunk_no), "%s: %u", place, i);
	cr_assert_not(gc_world_has_shard(&world, gone.shard_no), "%s", place);
	cr_assert_eq(gc_world_violations(&world), 0, "%s", place);
	gc_world_close(&world);
	gc_world_release(&world);
}

static const char *const places[] = {
	"gc-chunks-condemned",	  "gc-chunks-del-before",  "gc-chunks-del-after",
	"gc-discard-before",	  "gc-discard-after",	   "gc-move-before",
	"gc-move-after",	  "gc-move-commit-before", "gc-move-commit-after",
	"gc-condemn-before",	  "gc-condemn-after",	   "gc-copy-deleting-before",
	"gc-copy-deleting-after", "gc-delete-before",	   "gc-delete-after",
	"gc-shard-del-before",	  "gc-shard-del-after",	   "spool-append-before",
	"spool-release-before",
};

Test(gc_fault, a_failed_step_is_made_up_for_by_a_later_look, .timeout = 240)
{
	for (unsigned i = 0; i < ARRAY_COUNT(places); i++)
		fails_at(places[i], false);
}

Test(gc_fault, the_next_process_goes_on_where_a_step_failed, .timeout = 240)
{
	for (unsigned i = 0; i < ARRAY_COUNT(places); i++)
		fails_at(places[i], true);
}
#endif
