/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight writers of identical data against reclaiming, on a real index, journal and spool: whatever
 * an extent names can be read, at every moment, while chunks die, come to life again under a new
 * number, move, and shards are condemned and go.  In the end everything is removed, and nothing is
 * left.
 */
#include "store/gc.h"
#include "tests/lib/check.h"
#include "tests/lib/data_world.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define WRITERS	  8u
#define ROUNDS	  3000u
#define ROUNDS_MAX 300000u /* when reclaiming does not get a turn */
#define NUMBERS	  23u /* few contents, so that everybody meets */
#define SLOTS	  16u /* of each writer's file */
#define LEN_MAX	  9000u
#define INO_FIRST 10u

static struct data_world world;
static struct reader *reader;
static struct gc *gc;
static _Atomic unsigned writing;
static _Atomic bool has_reclaimed; /* something was deleted meanwhile */

struct writer_arg {
	pthread_t thread;
	uint64_t ino;
	struct chunk_worker *worker;
	struct index_reader *connection;
	uint64_t state;
	unsigned numbers[SLOTS]; /* 0: a hole */
};

static uint32_t len_of(unsigned number)
{
	return 1000 + number * 331 % (LEN_MAX - 1000);
}

static unsigned draw(struct writer_arg *self, unsigned below)
{
	self->state = self->state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(self->state >> 33) % below;
}

static void submit(struct record *record)
{
	uint64_t seq;

	cr_assert_eq(sequencer_submit(world.sequencer, record, &seq), 0);
}

static void put_slot(struct writer_arg *self, unsigned slot, unsigned number)
{
	struct shard_class class = data_class(INO_ROOT);
	uint8_t bytes[LEN_MAX];
	struct record *record;
	struct chunk_row row;
	bool is_new;

	data_fill(number, bytes, len_of(number));
	cr_assert_eq(chunk_put(self->worker, &class, bytes_of(bytes, len_of(number)), &row,
			       &is_new), 0);
	record = record_new();
	record_del_extents(record, self->ino, (uint64_t)slot * LEN_MAX, LEN_MAX);
	record_put_extent(record, &(struct extent_row){.ino = self->ino,
						       .off = (uint64_t)slot * LEN_MAX,
						       .len = len_of(number),
						       .chunk_no = row.chunk_no});
	submit(record);
	chunk_unpin(&world.chunks, row.chunk_no);
	self->numbers[slot] = number;
}

static void cut_slot(struct writer_arg *self, unsigned slot)
{
	struct record *record = record_new();

	record_del_extents(record, self->ino, (uint64_t)slot * LEN_MAX, LEN_MAX);
	submit(record);
	self->numbers[slot] = 0;
}

static void check_slot(struct writer_arg *self, unsigned slot)
{
	uint8_t got[LEN_MAX], expected[LEN_MAX] = {0};

	if (self->numbers[slot])
		data_fill(self->numbers[slot], expected, len_of(self->numbers[slot]));
	cr_assert_eq(reader_read(reader, self->connection, self->ino, (uint64_t)slot * LEN_MAX,
				 LEN_MAX, got), 0);
	cr_assert_eq(memcmp(got, expected, LEN_MAX), 0);
}

static void *writer_main(void *arg)
{
	struct writer_arg *self = arg;

	for (unsigned i = 0; i < ROUNDS || (!has_reclaimed && i < ROUNDS_MAX); i++) {
		unsigned slot = draw(self, SLOTS);

		/* phases in which contents come and go for everybody at once */
		if (draw(self, 3) == 0)
			cut_slot(self, slot);
		else
			put_slot(self, slot, 1 + (draw(self, 7) + i / 20) % NUMBERS);
		check_slot(self, draw(self, SLOTS));
	}
	atomic_fetch_sub(&writing, 1);
	return NULL;
}

static void class_of(void *ctx, const struct shard_row *shard, struct shard_class *out)
{
	(void)ctx;
	*out = data_class(shard->policy_root);
}

static struct gc_report look(void)
{
	struct gc_report report;

	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	cr_assert_eq(gc_run(gc, &report), 0);
	cr_assert_eq(report.error, 0);
	return report;
}

static void found(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "index: %s\n", text);
}

static void start(struct writer_arg *args)
{
	struct spool_settings spool = {.shard_bytes = 60000};
	struct reader_settings reader_settings = {.decoded_bytes_max = 50000};
	struct gc_settings settings = {
		.repack_below = 60, .period_ms = 1000ull * 3600, .class_of = class_of};
	struct record *record = record_new();

	data_world_init(&world, &spool);
	reader_settings.index = world.index;
	reader_settings.spool = world.spool;
	reader_settings.keyring = world.keyring;
	cr_assert_eq(reader_open(&reader_settings, &reader), 0);
	settings.index = world.index;
	settings.sequencer = world.sequencer;
	settings.spool = world.spool;
	settings.reader = reader;
	settings.dedup = world.dedup;
	cr_assert_eq(gc_start(&settings, &gc), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		char name[2] = {(char)('a' + i), 0};
		struct inode_row row = {.ino = INO_FIRST + i, .mode = 0100644, .nlink = 1,
					.size = SLOTS * LEN_MAX, .parent = INO_ROOT,
					.policy_root = INO_ROOT};

		record_put_inode(record, &row);
		record_put_dirent(record, INO_ROOT, row.ino, bytes_of_str(name), row.ino, 8);
		args[i].ino = row.ino;
		args[i].state = i + 1;
		cr_assert_eq(chunk_worker_new(&world.chunks, &args[i].worker), 0);
		cr_assert_eq(index_reader_open(world.index, &args[i].connection), 0);
	}
	submit(record);
}

int main(void)
{
	static struct writer_arg args[WRITERS];
	struct gc_report report, sum = {0};
	struct index_totals totals;
	uint64_t violations;

	start(args);
	atomic_store(&writing, WRITERS);
	for (unsigned i = 0; i < WRITERS; i++)
		cr_assert_eq(pthread_create(&args[i].thread, NULL, writer_main, &args[i]), 0);
	while (atomic_load(&writing) > 0) {
		report = look();
		sum.chunks_deleted += report.chunks_deleted;
		sum.chunks_moved += report.chunks_moved;
		sum.shards_deleted += report.shards_deleted;
		has_reclaimed = sum.chunks_deleted > 0 && sum.shards_deleted > 0;
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(args[i].thread, NULL);
	printf("reclaim_stress: %llu chunks deleted, %llu moved, %llu shards deleted meanwhile\n",
	       (unsigned long long)sum.chunks_deleted, (unsigned long long)sum.chunks_moved,
	       (unsigned long long)sum.shards_deleted);
	cr_assert(sum.chunks_deleted > 0 && sum.shards_deleted > 0);
	for (unsigned i = 0; i < WRITERS * SLOTS; i++)
		check_slot(&args[i / SLOTS], i % SLOTS);
	data_wait_applied(&world);
	cr_assert_eq(index_prove(world.index, world.reader, found, NULL, &violations), 0);
	cr_assert_eq(violations, 0);
	for (unsigned i = 0; i < WRITERS * SLOTS; i++)
		cut_slot(&args[i / SLOTS], i % SLOTS);
	do {
		report = look();
	} while (report.chunks_deleted || report.chunks_moved || report.shards_condemned ||
		 report.shards_deleted || report.shards_discarded || report.shards_moving);
	data_wait_applied(&world);
	index_totals(world.index, &totals);
	cr_assert_eq(totals.chunks, 0);
	cr_assert_eq(totals.shards, 0);
	cr_assert_eq(spool_bytes_used(world.spool), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		chunk_worker_free(args[i].worker);
		index_reader_close(args[i].connection);
	}
	gc_stop(gc);
	reader_close(reader);
	data_world_release(&world);
	return 0;
}
