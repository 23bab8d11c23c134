/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/gc_world.h"

#include "store/gc_private.h"
#include "tests/lib/check.h"

#include <errno.h>

static int fetch(void *ctx, struct index_reader *reader, const struct shard_row *shard,
		 uint32_t off, uint32_t len, int (*check)(void *ctx, struct bytes bytes),
		 void *check_ctx, struct buf *out)
{
	struct gc_world *world = ctx;

	return transfer_fetch(world->copies.transfer, reader, shard, off, len, check, check_ctx,
			      out);
}

static unsigned facts(void *ctx, struct provider_facts *out, unsigned out_max)
{
	struct gc_world *world = ctx;

	return transfer_facts(world->copies.transfer, out, out_max);
}

static void ask(void *ctx, unsigned i, struct waiter *waiter)
{
	struct gc_world *world = ctx;

	transfer_ask(world->copies.transfer, i, waiter);
}

static void forget(void *ctx, uint64_t shard_no, struct waiter *waiter)
{
	struct gc_world *world = ctx;

	transfer_forget(world->copies.transfer, shard_no, waiter);
}

static void delete_copy(void *ctx, const struct shard_row *shard, const struct copy_row *copy,
			struct waiter *waiter)
{
	struct gc_world *world = ctx;

	transfer_delete_copy(world->copies.transfer, shard, copy, waiter);
}

static void class_of(void *ctx, const struct shard_row *shard, struct shard_class *out)
{
	(void)ctx;
	*out = data_class(shard->policy_root);
}

/* Files 10 and 11, as large as anybody writes. */
static void make_files(struct gc_world *world)
{
	struct record *record = record_new();
	uint64_t seq;

	for (uint64_t ino = 10; ino <= 11; ino++) {
		struct inode_row row = {.ino = ino, .mode = 0100644, .nlink = 1, .size = GIB,
					.parent = INO_ROOT, .policy_root = INO_ROOT};

		record_put_inode(record, &row);
		record_put_dirent(record, INO_ROOT, ino, bytes_of_str(ino == 10 ? "a" : "b"), ino,
				  8 /* DT_REG */);
	}
	cr_assert_eq(sequencer_submit(world->copies.data.sequencer, record, &seq), 0);
}

void gc_world_init(struct gc_world *world)
{
	memset(world, 0, sizeof(*world));
	copies_world_init(&world->copies, 3, 2);
	make_files(world);
	world->settings = (struct gc_settings){
		.repack_below = 50,
		.period_ms = 1000ull * 3600 * 24,
		.facts = facts,
		.ask = ask,
		.forget = forget,
		.delete_copy = delete_copy,
		.class_of = class_of,
		.ctx = world,
	};
}

void gc_world_open(struct gc_world *world)
{
	struct data_world *data = &world->copies.data;
	struct reader_settings settings = {
		.index = data->index,
		.spool = data->spool,
		.keyring = data->keyring,
		.decoded_bytes_max = MIB,
		.fetch = fetch,
		.fetch_ctx = world,
	};

	copies_world_start(&world->copies);
	for (uint32_t no = 1; no <= world->copies.provider_count; no++)
		copies_await_present(&world->copies, no, true);
	cr_assert_eq(reader_open(&settings, &world->reader), 0);
	world->settings.index = data->index;
	world->settings.sequencer = data->sequencer;
	world->settings.spool = data->spool;
	world->settings.reader = world->reader;
	world->settings.dedup = data->dedup;
	cr_assert_eq(gc_start(&world->settings, &world->gc), 0);
}

void gc_world_close(struct gc_world *world)
{
	gc_stop(world->gc);
	world->gc = NULL;
	reader_close(world->reader);
	world->reader = NULL;
	copies_world_stop(&world->copies);
}

void gc_world_restart(struct gc_world *world)
{
	gc_world_close(world);
	copies_world_restart(&world->copies);
	gc_world_open(world);
}

void gc_world_release(struct gc_world *world)
{
	copies_world_release(&world->copies);
}

struct gc_report gc_world_look(struct gc_world *world, bool may_fail)
{
	struct gc_report report;

	cr_assert_eq(gc_run(world->gc, &report), 0);
	cr_assert(may_fail || report.error == 0);
	return report;
}

void gc_world_ship(struct gc_world *world)
{
	struct data_world *data = &world->copies.data;
	AUTO(shard_list) shards = ROW_LIST_INIT;

	cr_assert_eq(spool_seal_all(data->spool, 0), 0);
	cr_assert_eq(index_list_shards(data->index, data->reader, 0, 10000, &shards), 0);
	for (size_t i = 0; i < shards.count; i++) {
		unsigned turns = 0;

		if (shards.rows[i].state != SHARD_SEALED)
			continue;
		transfer_add(world->copies.transfer, &shards.rows[i]);
		copies_await_valid(&world->copies, shards.rows[i].shard_no, 2);
		while (spool_has(data->spool, shards.rows[i].shard_no))
			copies_turn(&world->copies, false, &turns);
	}
}

struct gc_report gc_world_finish(struct gc_world *world)
{
	struct gc_report report;
	unsigned turns = 0;

	do {
		cr_assert(turns++ < 50);
		report = gc_world_look(world, true);
		if (report.shards_moving > 0)
			gc_world_ship(world);
	} while (report.chunks_deleted || report.chunks_moved || report.shards_discarded ||
		 report.shards_condemned || report.shards_deleted || report.shards_moving ||
		 report.error < 0);
	return report;
}

struct chunk_row gc_world_put(struct gc_world *world, uint64_t ino, uint64_t off, uint64_t number,
			      size_t len)
{
	struct chunk_row row = data_append(&world->copies.data, INO_ROOT, number, len);

	data_put_extent(&world->copies.data, ino, off, (uint32_t)len, row.chunk_no, 0);
	return row;
}

void gc_world_cut(struct gc_world *world, uint64_t ino, uint64_t off, uint64_t len)
{
	struct record *record = record_new();
	uint64_t seq;

	record_del_extents(record, ino, off, len);
	cr_assert_eq(sequencer_submit(world->copies.data.sequencer, record, &seq), 0);
}

bool gc_world_reads(struct gc_world *world, uint64_t chunk_no, uint64_t number, size_t len)
{
	uint8_t *expected = mem_alloc_raw(len);
	struct chunk_row row;
	AUTO(buf) out = BUF_INIT;
	uint8_t form;
	bool is_same;

	data_fill(number, expected, len);
	is_same = reader_read_record(world->reader, world->copies.data.reader, chunk_no, &out,
				     &form, &row) == 0 &&
		  out.len == len && memcmp(out.ptr, expected, len) == 0;
	mem_free(expected);
	return is_same;
}

bool gc_world_has_chunk(struct gc_world *world, uint64_t chunk_no)
{
	struct data_world *data = &world->copies.data;
	struct chunk_row row;

	data_wait_applied(data);
	return index_get_chunk(data->index, data->reader, chunk_no, &row) == 0;
}

bool gc_world_has_shard(struct gc_world *world, uint64_t shard_no)
{
	struct data_world *data = &world->copies.data;
	struct shard_row row;

	return index_get_shard(data->index, data->reader, shard_no, &row) == 0;
}

unsigned gc_world_objects(struct gc_world *world, uint32_t no)
{
	struct backend *backend = backend_find(world->copies.backends[no - 1], "memory");
	struct backend_list list = BACKEND_LIST_INIT;
	struct backend_req req = {
		.op = BACKEND_LIST, .key = "", .entries_max = BACKEND_LIST_MAX, .list = &list};
	unsigned count = 0;

	cr_assert_eq(backend_run(backend, &req), 0);
	for (size_t i = 0; i < list.count; i++)
		count += strlen(list.entries[i].key) == SHARD_ID_HEX_SIZE - 1;
	backend_list_release(&list);
	return count;
}

static void print_violation(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "index: %s\n", text);
}

uint64_t gc_world_violations(struct gc_world *world)
{
	struct data_world *data = &world->copies.data;
	uint64_t violations;

	data_wait_applied(data);
	cr_assert_eq(index_prove(data->index, data->reader, print_violation, NULL, &violations), 0);
	return violations;
}

void gc_world_set_absent(struct gc_world *world, uint32_t no, bool is_absent)
{
	unsigned turns = 0;

	memory_set_absent(world->copies.backends[no - 1], is_absent);
	while (provider_is_present(&world->copies.transfer->lanes[no - 1].provider) == is_absent) {
		struct gc_answers *answers = gc_answers_new(1);

		transfer_ask(world->copies.transfer, no - 1, gc_answers_waiter(answers, 0));
		gc_answers_drop(answers);
		copies_turn(&world->copies, true, &turns);
	}
}
