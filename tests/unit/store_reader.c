/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reader.h"
#include "tests/lib/data_world.h"
#include "tests/lib/rng.h"
#include "util/file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A provider: whole objects by name, as the spool had them. */
struct provider {
	struct data_world *world;
	_Atomic unsigned fetches;
	_Atomic uint64_t bytes;
	_Atomic bool is_held; /* fetches wait */
	_Atomic bool is_away;
};

static void object_path(struct data_world *world, const struct shard_id *id, char path[400])
{
	snprintf(path, 400, "%s/provider-%s", world->dir, shard_id_hex(id).s);
}

static int provider_fetch(void *ctx, struct index_reader *index_reader,
			  const struct shard_row *shard, uint32_t off, uint32_t len,
			  int (*check)(void *ctx, struct bytes bytes), void *check_ctx,
			  struct buf *out)
{
	struct provider *provider = ctx;
	char path[400];
	AUTO_FD fd = -1;
	int r;

	(void)index_reader;
	atomic_fetch_add(&provider->fetches, 1);
	while (atomic_load(&provider->is_held))
		sched_yield();
	if (atomic_load(&provider->is_away))
		return -EIO;
	object_path(provider->world, &shard->id, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -EIO;
	atomic_fetch_add(&provider->bytes, len);
	r = file_pread_buf(fd, len, off, out);
	if (r == 0 && check(check_ctx, buf_bytes(out)) < 0)
		r = -EIO;
	return r;
}

struct reader_world {
	struct data_world data;
	struct provider provider;
	struct cache *cache;
	struct reader *reader;
};

static void reader_world_init(struct reader_world *world, bool with_cache, uint64_t decoded_max,
			      unsigned prefetch_threads)
{
	struct spool_settings spool = {.shard_bytes = 8 * MIB};
	struct reader_settings settings = {.decoded_bytes_max = decoded_max,
					   .read_ahead_bytes_max = 4 * MIB,
					   .prefetch_threads = prefetch_threads,
					   .fetch = provider_fetch,
					   .fetch_ctx = &world->provider};
	char path[300];

	memset(&world->provider, 0, sizeof(world->provider));
	data_world_init(&world->data, &spool);
	world->provider.world = &world->data;
	world->cache = NULL;
	snprintf(path, sizeof(path), "%s/cache", world->data.dir);
	if (with_cache)
		cr_assert_eq(cache_open(path, 64 * MIB, &world->cache), 0);
	settings.index = world->data.index;
	settings.spool = world->data.spool;
	settings.cache = world->cache;
	settings.keyring = world->data.keyring;
	cr_assert_eq(reader_open(&settings, &world->reader), 0);
}

static void reader_world_release(struct reader_world *world)
{
	reader_close(world->reader);
	cache_close(world->cache);
	data_world_release(&world->data);
}

/* All of the spool goes to the provider. */
static void ship(struct reader_world *world)
{
	cr_assert_eq(spool_seal_all(world->data.spool, 0), 0);
	for (uint64_t no = 1; no < atomic_load(&world->data.next_shard_no); no++) {
		struct shard_row shard;
		char path[400];

		if (!spool_has(world->data.spool, no))
			continue;
		cr_assert_eq(index_get_shard(world->data.index, world->data.reader, no, &shard), 0);
		object_path(&world->data, &shard.id, path);
		cr_assert_eq(spool_release(world->data.spool, no, path), 0);
	}
}

static void damage_provider(struct reader_world *world, const struct chunk_row *chunk)
{
	struct shard_row shard;
	char path[400];
	uint8_t byte;
	int fd;

	cr_assert_eq(index_get_shard(world->data.index, world->data.reader, chunk->shard_no,
				     &shard), 0);
	object_path(&world->data, &shard.id, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(file_pread(fd, &byte, 1, chunk->off + 99), 0);
	byte ^= 1;
	cr_assert_eq(file_pwrite(fd, bytes_of(&byte, 1), chunk->off + 99), 0);
	close(fd);
}

/* A file of `count` chunks of len bytes, one behind the other. */
static void make_file(struct reader_world *world, uint64_t ino, unsigned count, uint32_t len,
		      struct chunk_row *rows)
{
	for (unsigned i = 0; i < count; i++) {
		rows[i] = data_append(&world->data, 1, ino * 1000 + i, len);
		data_put_extent(&world->data, ino, (uint64_t)i * len, len, rows[i].chunk_no, 0);
	}
}

static bool reads(struct reader_world *world, uint64_t ino, uint64_t off, size_t len,
		  uint32_t chunk_len, bool from_memory)
{
	uint8_t *out = mem_alloc_raw(len), *expected = mem_alloc_raw(chunk_len);
	int r = reader_read(world->reader, from_memory ? NULL : world->data.reader, ino, off, len,
			    out);
	uint64_t of = UINT64_MAX;

	for (uint64_t at = off; r == 0 && at < off + len; at++) {
		if (at / chunk_len != of) {
			of = at / chunk_len;
			data_fill(ino * 1000 + of, expected, chunk_len);
		}
		cr_assert_eq(out[at - off], expected[at % chunk_len], "at %llu",
			     (unsigned long long)at);
	}
	mem_free(out);
	mem_free(expected);
	if (r == 0)
		return true;
	cr_assert_eq(r, from_memory ? -EAGAIN : -EIO);
	return false;
}

Test(store_reader, any_range_is_read_with_zeros_in_holes, .timeout = 60)
{
	struct rng rng = rng_new();
	struct reader_world world;
	static uint8_t model[200000], out[200000];

	reader_world_init(&world, false, MIB, 0);
	for (unsigned i = 0; i < 60; i++) {
		uint32_t len = 1 + (uint32_t)rng_below(&rng, 5000);
		uint32_t skip = (uint32_t)rng_below(&rng, len);
		uint64_t off = rng_below(&rng, sizeof(model) - 5000);
		struct chunk_row row = data_append(&world.data, 1, i, len);
		uint8_t bytes[5000];

		data_fill(i, bytes, len);
		data_put_extent(&world.data, 5, off, len - skip, row.chunk_no, skip);
		memcpy(model + off, bytes + skip, len - skip);
		if (i % 10 == 9) { /* zeros that take space */
			data_put_extent(&world.data, 5, off, 700, 0, 0);
			memset(model + off, 0, 700);
		}
		if (i % 20 == 19)
			data_wait_applied(&world.data);
	}
	for (unsigned i = 0; i < 200; i++) {
		uint64_t off = rng_below(&rng, sizeof(model));
		size_t len = 1 + rng_below(&rng, sizeof(model) - off);

		cr_assert_eq(reader_read(world.reader, world.data.reader, 5, off, len, out), 0);
		cr_assert_arr_eq(out, model + off, len);
	}
	reader_world_release(&world);
}

Test(store_reader, bytes_come_from_the_spool_then_the_provider, .timeout = 60)
{
	struct reader_world world;
	struct chunk_row rows[10];

	reader_world_init(&world, false, 64 * 1024, 0); /* too small to remember much */
	make_file(&world, 5, 10, 50000, rows);
	cr_assert(reads(&world, 5, 0, 500000, 50000, false));
	cr_assert_eq(spool_seal_all(world.data.spool, 0), 0);
	cr_assert(reads(&world, 5, 0, 500000, 50000, false));
	cr_assert_eq(world.provider.fetches, 0);
	ship(&world);
	cr_assert(reads(&world, 5, 0, 500000, 50000, false));
	cr_assert_gt(world.provider.fetches, 0);
	cr_assert_leq(world.provider.fetches, 3, "neighbours come in one request");
	cr_assert(reads(&world, 5, 0, 500000, 50000, false));
	cr_assert_leq(world.provider.fetches, 3, "the last ranges are kept");
	reader_world_release(&world);
}

Test(store_reader, what_was_fetched_is_in_the_cache_afterwards, .timeout = 60)
{
	struct reader_world world;
	struct chunk_row rows[40];
	unsigned fetches;

	reader_world_init(&world, true, 64 * 1024, 0);
	make_file(&world, 5, 40, 500000, rows);
	ship(&world);
	cr_assert(reads(&world, 5, 0, 20000000, 500000, false));
	fetches = world.provider.fetches;
	cr_assert_leq(fetches, 20, "ranges grow in sequence: %u", fetches);
	cr_assert(reads(&world, 5, 0, 20000000, 500000, false));
	cr_assert_eq(world.provider.fetches, fetches);
	reader_world_release(&world);
}

Test(store_reader, memory_answers_without_a_connection, .timeout = 60)
{
	struct reader_world world;
	struct chunk_row rows[3];
	AUTO(buf) out = BUF_INIT;

	reader_world_init(&world, false, 10 * MIB, 0);
	make_file(&world, 5, 3, 1000, rows);
	cr_assert(!reads(&world, 5, 0, 3000, 1000, true));
	cr_assert(reads(&world, 5, 0, 3000, 1000, false));
	cr_assert(reads(&world, 5, 0, 3000, 1000, true), "extents are in the overlay");
	cr_assert_eq(reader_read_chunk(world.reader, NULL, rows[1].chunk_no, &out), 0);
	cr_assert_eq(out.len, 1000);
	cr_assert_eq(reader_read_chunk(world.reader, world.data.reader, 4711, &out), -ENOENT);
	cr_assert_eq(out.len, 1000);
	reader_world_release(&world);
}

Test(store_reader, damage_in_cache_and_spool_is_read_around, .timeout = 60)
{
	struct reader_world world;
	struct chunk_row rows[2];
	struct shard_row shard;
	char path[512];
	uint8_t byte = 0x55;
	int fd;

	reader_world_init(&world, true, 0, 0);
	make_file(&world, 5, 2, 60000, rows);
	cr_assert_eq(spool_seal_all(world.data.spool, 0), 0);
	cr_assert_eq(index_get_shard(world.data.index, world.data.reader, 1, &shard), 0);
	/* a good copy at the provider, a bad one in the spool */
	data_path(&world.data, 1, path);
	{
		char command[1200], to[400];

		object_path(&world.data, &shard.id, to);
		snprintf(command, sizeof(command), "cp '%s' '%s'", path, to);
		cr_assert_eq(system(command), 0);
	}
	fd = open(path, O_RDWR);
	cr_assert_eq(file_pwrite(fd, bytes_of(&byte, 1), rows[0].off + 1000), 0);
	close(fd);
	cr_assert(reads(&world, 5, 0, 120000, 60000, false));
	cr_assert_eq(world.provider.fetches, 1);
	/* now the cache has it; damaged there it is dropped and fetched again */
	snprintf(path, sizeof(path), "%s/cache/%s.part", world.data.dir, shard_id_hex(&shard.id).s);
	fd = open(path, O_RDWR);
	cr_assert_geq(fd, 0);
	cr_assert_eq(file_pwrite(fd, bytes_of(&byte, 1), rows[0].off + 1000), 0);
	close(fd);
	reader_close(world.reader); /* forget what is in memory */
	{
		struct reader_settings settings = {
			.index = world.data.index, .spool = world.data.spool, .cache = world.cache,
			.keyring = world.data.keyring, .fetch = provider_fetch,
			.fetch_ctx = &world.provider};

		cr_assert_eq(reader_open(&settings, &world.reader), 0);
	}
	cr_assert(reads(&world, 5, 0, 120000, 60000, false));
	cr_assert_eq(world.provider.fetches, 2);
	reader_world_release(&world);
}

Test(store_reader, bad_bytes_are_never_handed_out, .timeout = 60)
{
	struct reader_world world;
	struct chunk_row rows[3];

	reader_world_init(&world, true, 10 * MIB, 0);
	make_file(&world, 5, 3, 60000, rows);
	ship(&world);
	damage_provider(&world, &rows[1]);
	cr_assert(reads(&world, 5, 0, 60000, 60000, false));
	cr_assert(!reads(&world, 5, 60000, 60000, 60000, false), "came as a neighbour, and is bad");
	cr_assert(reads(&world, 5, 120000, 60000, 60000, false));
	cr_assert(!reads(&world, 5, 0, 180000, 60000, false));
	reader_world_release(&world);
}

static void *read_moved(void *arg)
{
	cr_assert(reads(arg, 5, 0, 60000, 60000, false));
	return NULL;
}

Test(store_reader, a_chunk_that_moved_meanwhile_is_found, .timeout = 60)
{
	struct reader_world world;
	struct chunk_row rows[1], now;

	reader_world_init(&world, false, 10 * MIB, 0);
	make_file(&world, 5, 1, 60000, rows);
	ship(&world);
	atomic_store(&world.provider.is_away, true);
	atomic_store(&world.provider.is_held, true);
	/* while the provider is asked in vain, the chunk comes back into the spool */
	{
		pthread_t thread;

		cr_assert_eq(pthread_create(&thread, NULL, read_moved, &world), 0);
		while (atomic_load(&world.provider.fetches) == 0)
			sched_yield();
		now = data_append(&world.data, 2, 5000, 60000);
		struct record *record = record_new();
		uint64_t seq;

		now.chunk_no = rows[0].chunk_no;
		record_put_chunk(record, &now);
		cr_assert_eq(sequencer_submit(world.data.sequencer, record, &seq), 0);
		atomic_store(&world.provider.is_held, false);
		pthread_join(thread, NULL);
	}
	reader_world_release(&world);
}
static void *read_all(void *arg)
{
	struct reader_world *world = arg;
	struct index_reader *connection;
	static const size_t len = 200000;
	uint8_t *out = mem_alloc_raw(len);

	cr_assert_eq(index_reader_open(world->data.index, &connection), 0);
	cr_assert_eq(reader_read(world->reader, connection, 5, 0, len, out), 0);
	index_reader_close(connection);
	mem_free(out);
	return NULL;
}

Test(store_reader, readers_of_one_chunk_cause_one_fetch, .timeout = 60)
{
	struct reader_world world;
	struct chunk_row rows[1];
	pthread_t threads[6];

	reader_world_init(&world, false, 10 * MIB, 0);
	make_file(&world, 5, 1, 200000, rows);
	ship(&world);
	atomic_store(&world.provider.is_held, true);
	for (unsigned i = 0; i < 6; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, read_all, &world), 0);
	while (atomic_load(&world.provider.fetches) == 0)
		sched_yield();
	atomic_store(&world.provider.is_held, false);
	for (unsigned i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(world.provider.fetches, 1);
	reader_world_release(&world);
}

Test(store_reader, sequential_reads_are_read_ahead_of, .timeout = 60)
{
	struct reader_world world;
	struct reader_stream stream = {0};
	struct chunk_row rows[32];
	uint8_t out[1000];

	reader_world_init(&world, false, 64 * MIB, 2);
	make_file(&world, 5, 32, 200000, rows);
	reader_note_read(world.reader, &stream, 5, 0, 131072, 32 * 200000);
	/* nobody reads, and yet the next bytes come into memory */
	while (reader_read(world.reader, NULL, 5, 200000, 1000, out) == -EAGAIN)
		sched_yield();
	for (unsigned i = 1; i < 16; i++)
		reader_note_read(world.reader, &stream, 5, i * 131072, 131072, 32 * 200000);
	cr_assert_geq(stream.window_end, 16 * 131072 + 2 * MIB);
	while (reader_read(world.reader, NULL, 5, 16 * 131072 + MIB, 1000, out) == -EAGAIN)
		sched_yield();
	/* a jump begins again and asks for nothing */
	reader_note_read(world.reader, &stream, 5, 30 * 200000, 4096, 32 * 200000);
	cr_assert_eq(stream.run_count, 0);
	cr_assert_eq(stream.window_end, 0);
	reader_world_release(&world);
}

Test(store_reader, decoded_chunks_stay_within_their_bound, .timeout = 60)
{
	struct reader_world world;
	struct chunk_row rows[40];
	unsigned in_memory = 0;
	uint8_t out[1];

	reader_world_init(&world, false, MIB, 0);
	make_file(&world, 5, 40, 100000, rows);
	cr_assert(reads(&world, 5, 0, 4000000, 100000, false));
	for (unsigned i = 0; i < 40; i++)
		in_memory += reader_read(world.reader, NULL, 5, i * 100000, 1, out) == 0;
	cr_assert_leq(in_memory, 10);
	cr_assert_geq(in_memory, 8);
	reader_world_release(&world);
}
