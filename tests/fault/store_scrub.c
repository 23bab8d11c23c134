/* SPDX-License-Identifier: Apache-2.0 */
/* Scrub and repair over everything beneath them, with providers in memory that fail. */
#include "store/scrub.h"

#include "store/oplog_private.h"
#include "store/superblock_io.h"
#include "tests/lib/copies_world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SHARDS	  3u
#define PROVIDERS 3u

struct scrub_world {
	struct copies_world copies;
	struct oplog *oplog;
	struct scrub *scrub;
	struct shard_row shards[SHARDS];
	unsigned lost;
	bool is_deep, is_held; /* the pass at hand; no shard is written until all were looked at */
};

static void open_scrub(struct scrub_world *world)
{
	struct data_world *data = &world->copies.data;
	char dir[300];
	struct scrub_settings settings = {
		.dir = dir,
		.config = &world->copies.config,
		.index = data->index,
		.sequencer = data->sequencer,
		.spool = data->spool,
		.keyring = data->keyring,
		.transfer = world->copies.transfer,
		.oplog = world->oplog,
		.writer_epoch = 1,
	};

	snprintf(dir, sizeof(dir), "%s/scrub", data->dir);
	cr_assert_eq(scrub_new(&settings, &world->scrub), 0);
}

static void put_superblock(struct scrub_world *world)
{
	struct superblock *sb = mem_alloc(sizeof(*sb));
	AUTO(buf) sealed = BUF_INIT;
	AUTO(buf) why = BUF_INIT;

	*sb = world->copies.data.superblock;
	cr_assert_eq(keyring_seal_superblock(world->copies.data.keyring, sb, &sealed), 0);
	cr_assert_eq(superblock_io_write_local(&world->copies.config, buf_bytes(&sealed), &why), 0,
		     "%s", buf_str(&why));
	mem_free(sb);
}

static bool is_shipped(struct oplog *oplog)
{
	LOCK_SCOPE(&oplog->lock);
	for (unsigned i = 0; i < oplog->lane_count; i++)
		if (oplog->lanes[i].shipped_generation < oplog->generation)
			return false;
	return oplog->files.count > 0 && oplog->lane_count == PROVIDERS;
}

static void await_shipped(struct scrub_world *world)
{
	unsigned turns = 0;

	while (!is_shipped(world->oplog))
		copies_turn(&world->copies, true, &turns);
}

/* In the background nothing is done unless the test asks for it. */
static void world_init(struct scrub_world *world, uint64_t period_ms)
{
	struct data_world *data = &world->copies.data;
	char dir[300];
	struct oplog_settings oplog = {.dir = dir, .writer_epoch = 1, .delay_max_ms = 100,
				       .snapshot_bytes_min = MIB};

	memset(world, 0, sizeof(*world));
	copies_world_init(&world->copies, PROVIDERS, PROVIDERS);
	world->copies.config.settings.scrub_period_ms = period_ms;
	world->copies.config.settings.scrub_list_period_ms = 0;
	world->copies.config.settings.scrub_bandwidth_bytes_per_s = 0;
	put_superblock(world);
	snprintf(dir, sizeof(dir), "%s/oplog", data->dir);
	oplog.keyring = data->keyring;
	oplog.index = data->index;
	cr_assert_eq(oplog_open(&oplog, &world->oplog), 0);
	open_scrub(world);
}

static void world_start(struct scrub_world *world)
{
	copies_world_start(&world->copies);
	cr_assert_eq(oplog_start(world->oplog, world->copies.transfer), 0);
	for (unsigned i = 0; i < SHARDS; i++)
		world->shards[i] = copies_shard(&world->copies, 9000, true);
	for (unsigned i = 0; i < SHARDS; i++)
		copies_await_valid(&world->copies, world->shards[i].shard_no, PROVIDERS);
	await_shipped(world);
}

static void world_release(struct scrub_world *world)
{
	for (unsigned i = 0; i < PROVIDERS; i++) {
		fault_clear(world->copies.backends[i]);
		fault_release(world->copies.backends[i]);
	}
	transfer_stop(world->copies.transfer);
	oplog_stop(world->oplog, 0);
	scrub_free(world->scrub);
	copies_world_release(&world->copies);
	oplog_free(world->oplog);
}

static void delete_object(struct scrub_world *world, const struct shard_row *shard, uint32_t no)
{
	struct backend *memory = backend_find(world->copies.backends[no - 1], "memory");
	struct shard_id_hex key = shard_id_hex(&shard->id);
	struct backend_req req = {.op = BACKEND_DELETE, .key = key.s};

	cr_assert_eq(backend_run(memory, &req), 0);
}

static void damage(struct scrub_world *world, const struct shard_row *shard, uint32_t no)
{
	cr_assert_eq(memory_damage(world->copies.backends[no - 1], shard_id_hex(&shard->id).s, 3000,
				   4), 0);
}

static void put_object(struct scrub_world *world, const char *key, struct bytes body, uint32_t no)
{
	struct backend *memory = backend_find(world->copies.backends[no - 1], "memory");
	struct backend_req req = {.op = BACKEND_PUT, .key = key, .body = body};

	cr_assert_eq(backend_run(memory, &req), 0);
}

static void get_object(struct scrub_world *world, const char *key, struct buf *out, uint32_t no)
{
	struct backend *memory = backend_find(world->copies.backends[no - 1], "memory");
	struct backend_req req = {
		.op = BACKEND_GET, .key = key, .len = BACKEND_TO_END, .out = out};

	cr_assert_eq(backend_run(memory, &req), 0);
}

static void on_lost(void *ctx, uint64_t shard_no)
{
	struct scrub_world *world = ctx;

	(void)shard_no;
	world->lost++;
}

static int run(struct scrub_world *world, bool is_deep, struct scrub_report *report)
{
	struct scrub_watch watch = {.ctx = world, .lost = on_lost};
	struct scrub_wish wish = {.is_deep = is_deep};

	return scrub_run(world->scrub, world->copies.data.reader, &wish, &watch, report);
}

static void hold_repair(struct scrub_world *world)
{
	for (unsigned i = 0; i < PROVIDERS; i++)
		for (unsigned k = 0; k < SHARDS; k++) {
			struct fault_rule rule = {.mode = FAULT_STALL, .ops = BIT(BACKEND_PUT)};

			snprintf(rule.prefix, sizeof(rule.prefix), "%s",
				 shard_id_hex(&world->shards[k].id).s);
			cr_assert_eq(fault_add(world->copies.backends[i], &rule), 0);
		}
	world->is_held = true;
}

static bool release_repair(void *ctx, const struct scrub_report *report)
{
	struct scrub_world *world = ctx;

	if (!world->is_held || report->copies < SHARDS * PROVIDERS ||
	    (world->is_deep && report->shards < SHARDS))
		return true;
	for (unsigned i = 0; i < PROVIDERS; i++) {
		fault_clear(world->copies.backends[i]);
		fault_release(world->copies.backends[i]);
	}
	world->is_held = false;
	return true;
}

/* As run; what is bad stays so until each copy was looked at, so that each is counted once. */
static int run_then_repair(struct scrub_world *world, bool is_deep, struct scrub_report *report)
{
	struct scrub_watch watch = {.ctx = world, .goes_on = release_repair, .lost = on_lost};
	struct scrub_wish wish = {.is_deep = is_deep};
	int r;

	world->is_deep = is_deep;
	hold_repair(world);
	r = scrub_run(world->scrub, world->copies.data.reader, &wish, &watch, report);
	cr_assert_not(world->is_held, "not every copy was looked at");
	return r;
}

static bool are_all_good(struct scrub_world *world)
{
	for (unsigned i = 0; i < SHARDS; i++)
		for (uint32_t no = 1; no <= PROVIDERS; no++)
			if (!copies_object_is_good(&world->copies, &world->shards[i], no))
				return false;
	return true;
}

static uint64_t bad_of(const struct scrub_report *report)
{
	return report->missing + report->truncated + report->corrupt + report->swapped +
	       report->unreadable;
}

/* ---- a pass ---- */

Test(scrub, deep_pass_finds_and_heals_each_kind, .timeout = 120)
{
	struct scrub_world world;
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) longer = BUF_INIT;
	struct scrub_report report;
	struct shard_id_hex keys[SHARDS];

	world_init(&world, 0);
	world_start(&world);
	cr_assert_eq(run(&world, true, &report), 0);
	cr_assert_eq(report.ok, SHARDS * PROVIDERS);
	cr_assert(bad_of(&report) == 0 && report.index_bad == 0 && report.unknown == 0);
	for (unsigned i = 0; i < SHARDS; i++)
		keys[i] = shard_id_hex(&world.shards[i].id);
	damage(&world, &world.shards[0], 1);
	delete_object(&world, &world.shards[1], 1);
	get_object(&world, keys[2].s, &object, 1);
	put_object(&world, keys[2].s, bytes_of(object.ptr, object.len / 2), 1);
	put_object(&world, keys[0].s, buf_bytes(&object), 2); /* of the third */
	cr_assert_eq(buf_append(&longer, buf_bytes(&object)), 0);
	cr_assert_eq(buf_append_zeros(&longer, 100), 0);
	put_object(&world, keys[2].s, buf_bytes(&longer), 3);
	put_object(&world, SUPERBLOCK_KEY, bytes_of(object.ptr, 50), 2);
	put_object(&world, "notes.txt", bytes_of(object.ptr, 50), 3);
	put_object(&world, "0123456789abcdef0123456789abcdef", buf_bytes(&object), 3);
	cr_assert_eq(run_then_repair(&world, true, &report), 0);
	cr_assert_eq(report.missing, 1);
	cr_assert_eq(report.truncated, 1);
	cr_assert_eq(report.swapped, 1);
	cr_assert_eq(report.corrupt, 2);
	cr_assert_eq(report.index_bad, 1);
	cr_assert_eq(report.repaired, 6);
	cr_assert_eq(report.unrepaired, 0);
	cr_assert_eq(report.foreign, 1);
	cr_assert_eq(report.orphans, 1);
	cr_assert_eq(report.orphans_deletable, 0); /* under another name it is nobody's */
	cr_assert_eq(report.lost, 0);
	cr_assert(are_all_good(&world));
	cr_assert_eq(run(&world, true, &report), 0);
	cr_assert(bad_of(&report) == 0 && report.index_bad == 0);
	world_release(&world);
}

Test(scrub, cheap_pass_finds_what_is_missing_or_has_another_size, .timeout = 120)
{
	struct scrub_world world;
	AUTO(buf) object = BUF_INIT;
	struct scrub_report report;
	struct shard_id_hex key;

	world_init(&world, 0);
	world_start(&world);
	key = shard_id_hex(&world.shards[1].id);
	delete_object(&world, &world.shards[0], 3);
	get_object(&world, key.s, &object, 2);
	put_object(&world, key.s, bytes_of(object.ptr, object.len - 1), 2);
	cr_assert_eq(run_then_repair(&world, false, &report), 0);
	cr_assert(report.missing == 1 && report.truncated == 1 && report.repaired == 2,
		  "missing %llu truncated %llu repaired %llu of %llu",
		  (unsigned long long)report.missing, (unsigned long long)report.truncated,
		  (unsigned long long)report.repaired, (unsigned long long)report.copies);
	cr_assert_eq(report.ok, SHARDS * PROVIDERS - 2);
	cr_assert_eq(report.copies, SHARDS * PROVIDERS);
	cr_assert(are_all_good(&world));
	world_release(&world);
}

Test(scrub, shard_without_a_good_copy_is_lost_and_nothing_is_made_up, .timeout = 120)
{
	struct scrub_world world;
	AUTO(buf) bytes = BUF_INIT;
	AUTO(buf) good = BUF_INIT;
	struct scrub_report report;
	struct shard_id_hex key;

	world_init(&world, 0);
	world_start(&world);
	data_put_extent(&world.copies.data, INO_ROOT, 0, 10, 1, 0); /* of the first shard */
	key = shard_id_hex(&world.shards[0].id);
	get_object(&world, key.s, &good, 1);
	for (uint32_t no = 1; no <= PROVIDERS; no++)
		damage(&world, &world.shards[0], no);
	cr_assert_eq(run(&world, true, &report), 0);
	cr_assert(report.corrupt == 3 && report.unrepaired == 3);
	cr_assert_eq(copies_fetch(&world.copies, &world.shards[0], &bytes), -EIO);
	for (uint32_t no = 1; no <= PROVIDERS; no++)
		cr_assert_not(copies_object_is_good(&world.copies, &world.shards[0], no));
	put_object(&world, key.s, buf_bytes(&good), 2);
	cr_assert_eq(run(&world, true, &report), 0);
	cr_assert_eq(report.unrepaired, 0);
	cr_assert(are_all_good(&world));
	world_release(&world);
}

/* ---- whichever request fails ---- */

/* The nth request of a kind to a provider fails once, while things are bad elsewhere and there. */
static bool fails_at(struct scrub_world *world, enum fault_mode mode, unsigned op, int error,
		     unsigned nth)
{
	struct backend *backend = world->copies.backends[1];
	uint64_t fired = fault_fired_count(backend);
	struct scrub_report report;

	damage(world, &world->shards[0], 2);
	delete_object(world, &world->shards[1], 2);
	delete_object(world, &world->shards[2], 1);
	put_object(world, SUPERBLOCK_KEY, bytes_of("x", 1), 2);
	copies_fault(&world->copies, 2, mode, op, error, nth, 1);
	run(world, true, &report);
	cr_assert_eq(report.lost, 0, "%u of %u", nth, op);
	fired = fault_fired_count(backend) - fired;
	fault_clear(backend);
	for (uint32_t no = 1; no <= PROVIDERS; no++)
		copies_await_present(&world->copies, no, true);
	cr_assert_eq(run(world, true, &report), 0);
	cr_assert_eq(report.unrepaired, 0, "%u of %u", nth, op);
	cr_assert_eq(report.unknown, 0, "%u of %u", nth, op);
	cr_assert(are_all_good(world), "%u of %u", nth, op);
	for (unsigned i = 0; i < SHARDS; i++)
		cr_assert_eq(copies_valid(&world->copies, world->shards[i].shard_no), PROVIDERS);
	return fired > 0;
}

static void fails_at_each(enum fault_mode mode, unsigned op, int error)
{
	struct scrub_world world;
	unsigned nth = 1;

	world_init(&world, 0);
	world_start(&world);
	while (nth < 60 && fails_at(&world, mode, op, error, nth))
		nth++;
	cr_assert(nth > 1, "no request of that kind");
	cr_assert(nth < 60, "endless requests");
	world_release(&world);
}

Test(scrub_fault, every_get_may_fail_once, .timeout = 300)
{
	fails_at_each(FAULT_ERROR, BACKEND_GET, -EIO);
}

Test(scrub_fault, every_get_may_be_bad_on_the_way_once, .timeout = 300)
{
	fails_at_each(FAULT_CORRUPT, BACKEND_GET, 0);
}

Test(scrub_fault, every_get_may_be_short_once, .timeout = 300)
{
	fails_at_each(FAULT_TRUNCATE, BACKEND_GET, 0);
}

Test(scrub_fault, every_put_may_fail_once, .timeout = 300)
{
	fails_at_each(FAULT_ERROR, BACKEND_PUT, -EIO);
}

Test(scrub_fault, every_put_may_land_and_fail_all_the_same, .timeout = 300)
{
	fails_at_each(FAULT_LANDED, BACKEND_PUT, -EIO);
}

Test(scrub_fault, every_listing_may_find_the_provider_absent, .timeout = 300)
{
	fails_at_each(FAULT_ABSENT, BACKEND_LIST, -EAGAIN);
}

/* ---- repair ---- */

#define MANY 300u /* more than a page */

/*
 * Many bad copies at provider 1 become known at once, with `urgent` among them: the first PUT that
 * repair makes is for that one, and nothing else is repaired while it is held.
 */
static void repairs_first(struct scrub_world *world, struct shard_row *shards, unsigned urgent,
			  struct record *record)
{
	struct copies_world *copies = &world->copies;
	struct fault_rule rule = {.mode = FAULT_STALL, .ops = BIT(BACKEND_PUT)};
	uint64_t seq;

	for (unsigned i = 0; i < MANY; i++) {
		struct shard_id_hex key = shard_id_hex(&shards[i].id);
		struct copy_row copy = {.shard_no = shards[i].shard_no, .provider_no = 1,
					.state = COPY_CORRUPT};

		put_object(world, key.s, bytes_of("bad", 3), 1);
		record_put_copy(record, &copy);
	}
	snprintf(rule.prefix, sizeof(rule.prefix), "%s", shard_id_hex(&shards[urgent].id).s);
	cr_assert_eq(fault_add(copies->backends[0], &rule), 0);
	while (!transfer_sweep_wait(copies->transfer, transfer_sweep(copies->transfer), 1000))
		continue; /* none is under way when they become known */
	cr_assert_eq(sequencer_submit(copies->data.sequencer, record, &seq), 0);
	transfer_sweep(copies->transfer);
	fault_wait_held(copies->backends[0], 1);
	for (unsigned i = 0; i < MANY; i++)
		cr_assert_eq(copies_state(copies, shards[i].shard_no, 1), COPY_CORRUPT, "%u", i);
	fault_clear(copies->backends[0]);
	fault_release(copies->backends[0]);
	for (unsigned i = 0; i < MANY; i++)
		copies_await_state(copies, shards[i].shard_no, 1, COPY_VERIFIED);
}

static void make_many(struct scrub_world *world, struct shard_row *shards)
{
	struct copies_world *copies = &world->copies;
	unsigned turns = 0;

	world_init(world, 0);
	copies_world_start(copies);
	for (unsigned i = 0; i < MANY; i++)
		shards[i] = copies_shard(copies, 500, true);
	for (unsigned i = 0; i < MANY; i++)
		copies_await_valid(copies, shards[i].shard_no, PROVIDERS);
	/* the rows are what the tests put there from now on */
	while (copies->durable < MANY)
		copies_turn(copies, false, &turns);
}

Test(scrub_repair, the_shard_with_one_good_copy_left_goes_first, .timeout = 120)
{
	struct shard_row *shards = mem_alloc_array(MANY, sizeof(*shards));
	struct record *record = record_new();
	struct copy_row copy = {.provider_no = 2, .state = COPY_CORRUPT};
	struct scrub_world world;
	struct shard_id_hex key;

	make_many(&world, shards);
	key = shard_id_hex(&shards[MANY - 1].id);
	put_object(&world, key.s, bytes_of("bad", 3), 2);
	copy.shard_no = shards[MANY - 1].shard_no;
	record_put_copy(record, &copy);
	repairs_first(&world, shards, MANY - 1, record);
	world_release(&world);
	mem_free(shards);
}

Test(scrub_repair, of_equal_danger_the_critical_class_goes_first, .timeout = 120)
{
	struct shard_row *shards = mem_alloc_array(MANY, sizeof(*shards));
	struct record *record = record_new();
	struct scrub_world world;

	make_many(&world, shards);
	for (unsigned i = 0; i < MANY; i++) {
		struct shard_row shard;

		cr_assert_eq(index_get_shard(world.copies.data.index, world.copies.data.reader,
					     shards[i].shard_no, &shard), 0);
		shard.priority = i == MANY - 2 ? PRIORITY_CRITICAL : PRIORITY_MEDIUM;
		record_put_shard(record, &shard);
	}
	repairs_first(&world, shards, MANY - 2, record);
	world_release(&world);
	mem_free(shards);
}

/* ---- nobody starves repair ---- */

static struct lock stuck_lock = LOCK_INIT(LOCK_LEAF);
static struct cond stuck_cond;
static bool is_stuck, is_free;

static int stuck(void *ctx, struct keeper_worker *worker)
{
	(void)ctx;
	(void)worker;
	LOCK_SCOPE(&stuck_lock);
	is_stuck = true;
	cond_wake_all(&stuck_cond);
	while (!is_free)
		cond_wait(&stuck_cond, &stuck_lock);
	return 0;
}

static void stall_reads(struct copies_world *copies, uint32_t no, const struct shard_row *shard)
{
	struct fault_rule rule = {.mode = FAULT_STALL, .ops = BIT(BACKEND_GET)};

	snprintf(rule.prefix, sizeof(rule.prefix), "%s", shard_id_hex(&shard->id).s);
	cr_assert_eq(fault_add(copies->backends[no - 1], &rule), 0);
}

/* A new policy owes copies whose sources do not answer, and a less urgent chore hangs. */
Test(scrub_repair, is_not_starved_by_owed_copies_and_other_chores, .timeout = 120)
{
	struct keeper_chore chore = {"stuck", 9, 1, 1000, stuck, NULL};
	struct scrub_world world;
	struct copies_world *copies = &world.copies;

	cond_init(&stuck_cond);
	world_init(&world, 0);
	copies->policy.copies = 2;
	cr_assert_geq(transfer_add_chore(copies->transfer, &chore), 0);
	copies_world_start(copies);
	for (unsigned i = 0; i < SHARDS; i++)
		world.shards[i] = copies_shard(copies, 9000, true);
	for (unsigned i = 0; i < SHARDS; i++) {
		unsigned turns = 0;

		copies_await_valid(copies, world.shards[i].shard_no, 2);
		while (spool_has(copies->data.spool, world.shards[i].shard_no))
			copies_turn(copies, false, &turns);
	}
	for (uint32_t no = 1; no <= PROVIDERS; no++) {
		stall_reads(copies, no, &world.shards[0]);
		stall_reads(copies, no, &world.shards[1]);
	}
	copies->policy.copies = 3;
	transfer_policy_changed(copies->transfer, world.shards[0].policy_root);
	fault_wait_held(copies->backends[0], 2); /* the keeper's two workers for owed copies */
	lock_take(&stuck_lock);
	while (!is_stuck)
		cond_wait(&stuck_cond, &stuck_lock);
	lock_drop(&stuck_lock);
	damage(&world, &world.shards[2], 2);
	transfer_mark(copies->transfer, world.shards[2].shard_no, 2, COPY_CORRUPT);
	copies_await_state(copies, world.shards[2].shard_no, 2, COPY_VERIFIED);
	cr_assert(copies_object_is_good(copies, &world.shards[2], 2));
	lock_take(&stuck_lock);
	is_free = true;
	cond_wake_all(&stuck_cond);
	lock_drop(&stuck_lock);
	world_release(&world);
}

/* The file in the spool has rotted as well: it is not what a bad copy is made from. */
Test(scrub_repair, does_not_write_what_it_did_not_authenticate, .timeout = 120)
{
	struct scrub_world world;
	struct copies_world *copies = &world.copies;
	struct shard_row shard;
	char path[512];
	FILE *file;

	world_init(&world, 0);
	copies->config.settings.spool_release_copies_count = 3;
	memory_set_absent(copies->backends[2], true);
	copies_world_start(copies);
	shard = copies_shard(copies, 9000, true);
	copies_await_valid(copies, shard.shard_no, 2);
	cr_assert(spool_has(copies->data.spool, shard.shard_no));
	data_path(&copies->data, shard.shard_no, path);
	file = fopen(path, "r+");
	cr_assert(file && fseek(file, 3000, SEEK_SET) == 0 && fputc(0x5a, file) != EOF &&
		  fputc(0xa5, file) != EOF && fclose(file) == 0);
	damage(&world, &shard, 1);
	transfer_mark(copies->transfer, shard.shard_no, 1, COPY_CORRUPT);
	copies_await_state(copies, shard.shard_no, 1, COPY_VERIFIED);
	cr_assert(copies_object_is_good(copies, &shard, 1));
	world_release(&world);
}

/* A sealed shard rots in the spool before anybody has a copy: no provider gets it. */
Test(scrub_repair, rotten_file_of_the_spool_is_not_sent, .timeout = 120)
{
	struct scrub_world world;
	struct copies_world *copies = &world.copies;
	struct shard_row shard, other;
	char path[512];
	FILE *file;

	world_init(&world, 0);
	shard = copies_shard(copies, 9000, false);
	data_path(&copies->data, shard.shard_no, path);
	file = fopen(path, "r+");
	cr_assert(file && fseek(file, 3000, SEEK_SET) == 0 && fputc(0x5a, file) != EOF &&
		  fputc(0xa5, file) != EOF && fclose(file) == 0);
	copies_world_start(copies);
	transfer_add(copies->transfer, &shard);
	other = copies_shard(copies, 9000, true);
	copies_await_valid(copies, other.shard_no, PROVIDERS);
	cr_assert_eq(copies_valid(copies, shard.shard_no), 0);
	for (unsigned i = 0; i < PROVIDERS; i++) {
		struct shard_id_hex key = shard_id_hex(&shard.id);
		struct backend_req req = {.op = BACKEND_HEAD, .key = key.s};

		cr_assert_eq(backend_run(backend_find(copies->backends[i], "memory"), &req),
			     -ENOENT);
	}
	cr_assert(spool_has(copies->data.spool, shard.shard_no));
	world_release(&world);
}

/* ---- in the background ---- */

Test(scrub_background, reads_everything_back_and_heals_without_being_asked, .timeout = 120)
{
	struct scrub_world world;
	struct copies_world *copies = &world.copies;
	struct scrub_status status;
	unsigned turns = 0;

	world_init(&world, 1000);
	world_start(&world);
	for (unsigned i = 0; i < SHARDS; i++)
		for (uint32_t no = 1; no <= PROVIDERS; no++)
			copies_await_state(copies, world.shards[i].shard_no, no, COPY_VERIFIED);
	damage(&world, &world.shards[1], 2);
	delete_object(&world, &world.shards[2], 3);
	while (!are_all_good(&world))
		copies_turn(copies, false, &turns);
	/* who finds a copy tells repair before it counts, and may find it again before that came */
	do {
		copies_turn(copies, false, &turns);
		cr_assert_eq(scrub_status(world.scrub, copies->data.reader, &status), 0);
	} while (status.bad < 2 || status.shards < SHARDS);
	cr_assert(status.shards == SHARDS && status.copies >= SHARDS * PROVIDERS);
	world_release(&world);
}

Test(scrub_background, nothing_is_read_outside_the_window, .timeout = 120)
{
	struct scrub_world world;
	struct copies_world *copies = &world.copies;
	struct scrub_report report;
	struct scrub_status status;
	time_t now = time(NULL);
	struct tm local;

	world_init(&world, 1000);
	localtime_r(&now, &local);
	copies->config.settings.scrub_window =
		mem_printf("%02d:00-%02d:00", (local.tm_hour + 5) % 24, (local.tm_hour + 8) % 24);
	world_start(&world);
	cr_assert_eq(scrub_status(world.scrub, copies->data.reader, &status), 0);
	cr_assert_not(status.is_in_window);
	/* what is asked for is done all the same */
	cr_assert_eq(run(&world, true, &report), 0);
	cr_assert_eq(report.ok, SHARDS * PROVIDERS);
	cr_assert_eq(scrub_status(world.scrub, copies->data.reader, &status), 0);
	cr_assert_eq(status.copies, SHARDS * PROVIDERS);
	cr_assert(status.next_sec > 0 && status.shards_verified == SHARDS);
	world_release(&world);
}
