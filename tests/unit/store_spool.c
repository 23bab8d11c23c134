/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/data_world.h"
#include "util/clock.h"
#include "util/file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int verify_file(struct data_world *world, const char *path, const struct shard_row *row)
{
	AUTO(buf) object = BUF_INIT;
	AUTO(pack_footer) footer = PACK_FOOTER_INIT;
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	struct pack_keys keys;
	struct stat st;
	int r;

	cr_assert(fd >= 0 && fstat(fd, &st) == 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	cr_assert_eq(file_pread_buf(fd, (size_t)st.st_size, 0, &object), 0);
	cr_assert_eq(pack_keys_init(&keys, world->keyring, row->key_epoch, &row->id), 0);
	r = pack_verify(world->aead, &keys, buf_bytes(&object), &footer);
	if (r == 0) {
		cr_assert_eq(footer.shard.shard_no, row->shard_no);
		cr_assert_eq(footer.shard.object_len, row->object_len);
		cr_assert_eq(footer.entry_count, row->record_count);
		cr_assert_arr_eq(footer.shard.mac, row->mac, 32);
	}
	return r;
}

static unsigned file_count(struct data_world *world)
{
	DIR *dir = opendir(world->spool_settings.dir);
	struct dirent *entry;
	unsigned count = 0;

	cr_assert(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

static void wait_until(struct data_world *world, _Atomic unsigned *count, unsigned n)
{
	(void)world;
	while (atomic_load(count) < n)
		sched_yield();
}

Test(store_spool, what_was_appended_is_read_back_open_and_sealed, .timeout = 60)
{
	struct data_world world;
	struct chunk_row rows[20];
	struct shard_row shard;
	char path[512];

	data_world_init(&world, NULL);
	for (unsigned i = 0; i < 20; i++)
		rows[i] = data_append(&world, 1, i, 1 + i * 997);
	for (unsigned i = 0; i < 20; i++) {
		cr_assert_eq(rows[i].record_no, i);
		cr_assert(data_reads_back(&world, &rows[i], i));
	}
	cr_assert(spool_has(world.spool, rows[0].shard_no));
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	cr_assert_eq(world.sealed, 1);
	for (unsigned i = 0; i < 20; i++)
		cr_assert(data_reads_back(&world, &rows[i], i));
	cr_assert_eq(index_get_shard(world.index, world.reader, rows[0].shard_no, &shard), 0);
	cr_assert_eq(shard.state, SHARD_SEALED);
	cr_assert_eq(shard.record_count, 20);
	data_path(&world, rows[0].shard_no, path);
	cr_assert_eq(verify_file(&world, path, &shard), 0);
	cr_assert_eq(spool_bytes_used(world.spool), shard.object_len);
	data_world_release(&world);
}

Test(store_spool, a_full_shard_is_sealed_and_another_begins, .timeout = 60)
{
	struct spool_settings settings = {.shard_bytes = 100000};
	struct data_world world;
	struct chunk_row row = {0};

	data_world_init(&world, &settings);
	for (unsigned i = 0; i < 25; i++)
		row = data_append(&world, 1, i, 30000);
	wait_until(&world, &world.sealed, 8);
	cr_assert_eq(world.opened, 9);
	cr_assert_eq(row.shard_no, 9);
	cr_assert_eq(row.record_no, 0);
	cr_assert(spool_has(world.spool, 1) && spool_has(world.spool, 9));
	cr_assert(!spool_has(world.spool, 10));
	/* one that is larger than a shard gets one of its own */
	row = data_append(&world, 1, 99, 300000);
	cr_assert_eq(row.record_no, 0);
	cr_assert(data_reads_back(&world, &row, 99));
	data_world_release(&world);
}

Test(store_spool, classes_do_not_share_a_shard_and_few_are_open, .timeout = 60)
{
	struct spool_settings settings = {.open_shards_max = 3};
	struct data_world world;
	struct chunk_row a, b;

	data_world_init(&world, &settings);
	a = data_append(&world, 1, 1, 100);
	b = data_append(&world, 2, 2, 100);
	cr_assert_neq(a.shard_no, b.shard_no);
	cr_assert_eq(data_append(&world, 1, 3, 100).shard_no, a.shard_no);
	for (unsigned root = 3; root < 8; root++)
		data_append(&world, root, root, 100);
	wait_until(&world, &world.sealed, 4);
	cr_assert_eq(world.opened, 7);
	cr_assert_eq(spool_seal_all(world.spool, 7), 0);
	cr_assert_eq(world.sealed, 5);
	cr_assert_eq(world.last_sealed.policy_root, 7);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	cr_assert_eq(world.sealed, 7);
	data_world_release(&world);
}

Test(store_spool, an_idle_shard_is_sealed, .timeout = 60)
{
	struct spool_settings settings = {.idle_ms = 1000};
	struct data_world world;

	clock_test_freeze(1000, (struct wall_time){.sec = 5});
	data_world_init(&world, &settings);
	data_append(&world, 1, 1, 100);
	clock_test_advance(999);
	spool_seal_idle(world.spool);
	cr_assert_eq(data_append(&world, 1, 2, 100).shard_no, 1);
	clock_test_advance(1000);
	while (world.sealed < 1) { /* it may be busy with what was appended last */
		spool_seal_idle(world.spool);
		sched_yield();
	}
	cr_assert_eq(data_append(&world, 1, 3, 100).shard_no, 2);
	data_world_release(&world);
}

Test(store_spool, a_shard_waits_for_records_that_the_journal_does_not_know, .timeout = 60)
{
	struct data_world world;
	struct shard_class class = data_class(1);
	struct chunk_row row = {0};
	struct chunk_id id = {{1}};

	data_world_init(&world, NULL);
	cr_assert_eq(spool_append(world.spool, world.aead, &class, &id, 0, 3, bytes_of("abc", 3),
				  &row), 0);
	data_append(&world, 1, 1, 100);
	spool_seal_idle(world.spool); /* idle_ms is 0 here */
	cr_assert_eq(data_append(&world, 1, 2, 100).shard_no, row.shard_no);
	cr_assert_eq(world.sealed, 0);
	spool_append_done(world.spool, row.shard_no);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	cr_assert_eq(world.sealed, 1);
	data_world_release(&world);
}

Test(store_spool, a_full_spool_refuses_and_takes_again_when_there_is_room, .timeout = 60)
{
	struct spool_settings settings = {.shard_bytes = 200000, .size_max = 400000};
	struct data_world world;
	struct shard_class class = data_class(1);
	struct chunk_id id = {{1}};
	struct chunk_row row = {.shard_no = 4711}, last = {0};
	static uint8_t bytes[50000];
	unsigned count = 0;
	int r;

	data_world_init(&world, &settings);
	for (;;) {
		r = spool_append(world.spool, world.aead, &class, &id, 0, sizeof(bytes),
				 bytes_of(bytes, sizeof(bytes)), &row);
		if (r < 0)
			break;
		spool_append_done(world.spool, row.shard_no);
		last = row;
		row.shard_no = 4711;
		count++;
	}
	cr_assert_eq(r, -ENOSPC);
	cr_assert_eq(row.shard_no, 4711, "out changed");
	cr_assert_geq(count, 6);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	cr_assert_leq(spool_bytes_used(world.spool), 400000);
	cr_assert_eq(spool_release(world.spool, 1, NULL), 0);
	cr_assert_eq(spool_release(world.spool, 1, NULL), -ENOENT);
	cr_assert_eq(spool_append(world.spool, world.aead, &class, &id, 0, sizeof(bytes),
				  bytes_of(bytes, sizeof(bytes)), &row), 0);
	cr_assert_gt(row.shard_no, last.shard_no);
	spool_append_done(world.spool, row.shard_no);
	data_world_release(&world);
}

Test(store_spool, a_full_disk_refuses_before_anything_is_taken, .timeout = 60)
{
	struct spool_settings settings = {.reserve_bytes = UINT64_MAX / 4};
	struct data_world world;
	struct shard_class class = data_class(1);
	struct chunk_id id = {{1}};
	struct chunk_row row;

	data_world_init(&world, &settings);
	cr_assert_eq(spool_append(world.spool, world.aead, &class, &id, 0, 3, bytes_of("abc", 3),
				  &row), -ENOSPC);
	cr_assert_eq(world.opened, 0);
	data_world_release(&world);
}

Test(store_spool, an_open_shard_that_cannot_be_journalled_leaves_no_file, .timeout = 60)
{
	struct data_world world;
	struct shard_class class = data_class(1);
	struct chunk_id id = {{1}};
	struct chunk_row row;

	data_world_init(&world, NULL);
	world.open_error = -EIO;
	cr_assert_eq(spool_append(world.spool, world.aead, &class, &id, 0, 3, bytes_of("abc", 3),
				  &row), -EIO);
	cr_assert_eq(file_count(&world), 0);
	world.open_error = 0;
	data_append(&world, 1, 1, 100);
	data_world_release(&world);
}

/* The write fails in the middle of a shard: what is in it moves, and nothing is lost. */
Test(store_spool, a_failed_append_moves_the_shards_records_to_a_fresh_one, .timeout = 60)
{
	struct data_world world;
	struct shard_class class = data_class(1);
	struct rlimit limit = {.rlim_cur = 64 + 10 * 1053 + 500, .rlim_max = RLIM_INFINITY}, old;
	struct chunk_row row = {0}, rows[10];
	struct chunk_id id = {{1}};
	static uint8_t bytes[1000];

	data_world_init(&world, NULL);
	for (unsigned i = 0; i < 10; i++)
		rows[i] = data_append(&world, 1, i, 1000);
	data_wait_applied(&world);
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit.rlim_max = old.rlim_max;
	world.move_error = -ENOSPC; /* hold the mover until the limit is gone */
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(spool_append(world.spool, world.aead, &class, &id, 0, 1000,
				  bytes_of(bytes, 1000), &row), -EFBIG);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	/* the shard takes no more; what it holds is still read */
	cr_assert_neq(data_append(&world, 1, 10, 1000).shard_no, rows[0].shard_no);
	cr_assert(data_reads_back(&world, &rows[3], 3));
	world.move_error = 0;
	cr_assert(spool_seal_all(world.spool, 0) <= 0);
	wait_until(&world, &world.gone, 1);
	cr_assert_eq(world.bad, 0);
	cr_assert(!spool_has(world.spool, rows[0].shard_no));
	for (unsigned i = 0; i < 10; i++) {
		struct chunk_row now = data_chunk_now(&world, rows[i].chunk_no);

		cr_assert_neq(now.shard_no, rows[i].shard_no);
		cr_assert(data_reads_back(&world, &now, i));
	}
	data_world_release(&world);
}

Test(store_spool, a_mapping_outlives_the_release_and_the_file_may_go_to_the_cache, .timeout = 60)
{
	struct data_world world;
	struct shard_row shard;
	struct bytes object;
	void *handle = NULL;
	char to[400];

	data_world_init(&world, NULL);
	data_append(&world, 1, 1, 100000);
	cr_assert_eq(spool_map(world.spool, 1, &object, &handle), -ENOENT, "not sealed");
	cr_assert_eq(spool_release(world.spool, 1, NULL), -ENOENT, "not sealed");
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	shard = world.last_sealed;
	cr_assert_eq(spool_map(world.spool, 1, &object, &handle), 0);
	cr_assert_eq(object.len, shard.object_len);
	snprintf(to, sizeof(to), "%s/adopted", world.dir);
	cr_assert_eq(spool_release(world.spool, 1, to), 0);
	cr_assert(!spool_has(world.spool, 1));
	cr_assert_eq(spool_bytes_used(world.spool), 0);
	cr_assert_eq(verify_file(&world, to, &shard), 0);
	unlink(to);
	cr_assert_eq(memcmp(object.ptr, "SHARDFS1", 8), 0);
	spool_unmap(handle);
	/* a place that is not there: dropped all the same */
	data_append(&world, 1, 2, 1000);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	snprintf(to, sizeof(to), "%s/no/adopted", world.dir);
	cr_assert_eq(spool_release(world.spool, 2, to), -ENOENT);
	cr_assert_eq(file_count(&world), 0);
	data_world_release(&world);
}

/* ---- after a kill ---- */

Test(store_spool, after_a_kill_open_records_move_and_sealed_shards_stay, .timeout = 60)
{
	struct spool_settings settings = {.shard_bytes = 100000};
	struct data_world world;
	struct chunk_row rows[30];
	struct shard_row shard;

	data_world_init(&world, &settings);
	for (unsigned i = 0; i < 30; i++)
		rows[i] = data_append(&world, 1 + i % 2, i, 20000);
	wait_until(&world, &world.sealed, 6);
	data_world_restart(&world, true);
	cr_assert_eq(world.moved, 6);
	cr_assert_eq(world.bad, 0);
	cr_assert_eq(world.gone, 2);
	for (unsigned i = 0; i < 30; i++) {
		struct chunk_row now = data_chunk_now(&world, rows[i].chunk_no);

		cr_assert(data_reads_back(&world, &now, i), "chunk %u", i);
		cr_assert_eq(now.shard_no != rows[i].shard_no, i >= 24);
	}
	cr_assert_eq(index_get_shard(world.index, world.reader, rows[29].shard_no, &shard), -ENOENT);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	cr_assert_eq(file_count(&world), 8);
	/* and once more: nothing is left to do */
	data_world_restart(&world, true);
	cr_assert_eq(world.moved, 6);
	cr_assert_eq(file_count(&world), 8);
	data_world_release(&world);
}

Test(store_spool, a_shard_whose_footer_was_just_written_is_taken_over, .timeout = 60)
{
	struct data_world world;
	struct chunk_row row;
	struct record *record = record_new();
	struct shard_row shard;
	uint64_t seq;

	data_world_init(&world, NULL);
	row = data_append(&world, 1, 1, 50000);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	/* as if the journal had not heard of it */
	shard = world.last_sealed;
	shard.state = SHARD_OPEN;
	shard.object_len = shard.record_count = 0;
	memset(shard.mac, 0, sizeof(shard.mac));
	record_put_shard(record, &shard);
	cr_assert_eq(sequencer_submit(world.sequencer, record, &seq), 0);
	data_world_restart(&world, true);
	cr_assert_eq(world.sealed, 2);
	cr_assert_eq(world.moved, 0);
	cr_assert_eq(index_get_shard(world.index, world.reader, row.shard_no, &shard), 0);
	cr_assert_eq(shard.state, SHARD_SEALED);
	cr_assert_gt(shard.object_len, 50000);
	cr_assert(data_reads_back(&world, &row, 1));
	data_world_release(&world);
}

static void damage(const char *path, uint64_t off)
{
	AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	cr_assert_geq(fd, 0);
	cr_assert_eq(file_pread(fd, &byte, 1, off), 0);
	byte ^= 4;
	cr_assert_eq(file_pwrite(fd, bytes_of(&byte, 1), off), 0);
}

Test(store_spool, a_damaged_record_is_named_and_the_others_move, .timeout = 60)
{
	struct data_world world;
	struct chunk_row rows[5], now;
	struct shard_row shard;
	char path[512];

	data_world_init(&world, NULL);
	for (unsigned i = 0; i < 5; i++)
		rows[i] = data_append(&world, 1, i, 5000);
	data_path(&world, 1, path);
	cr_assert_eq(index_get_shard(world.index, world.reader, 1, &shard), 0);
	damage(path, rows[2].off + 100);
	cr_assert_eq(spool_check_record(world.spool, &shard, &rows[1]), 0);
	cr_assert_eq(spool_check_record(world.spool, &shard, &rows[2]), -EBADMSG);
	data_world_restart(&world, true);
	cr_assert_eq(world.moved, 4);
	cr_assert_eq(world.bad, 1);
	cr_assert_eq(world.gone, 0);
	for (unsigned i = 0; i < 5; i++) {
		now = data_chunk_now(&world, rows[i].chunk_no);
		cr_assert_eq(data_reads_back(&world, &now, i), i != 2);
	}
	data_world_release(&world);
}

Test(store_spool, a_torn_file_gives_what_is_whole, .timeout = 60)
{
	struct data_world world;
	struct chunk_row rows[3];
	char path[512];

	data_world_init(&world, NULL);
	for (unsigned i = 0; i < 3; i++)
		rows[i] = data_append(&world, 1, i, 5000);
	data_path(&world, 1, path);
	cr_assert_eq(truncate(path, rows[2].off + 10), 0);
	data_world_restart(&world, true);
	cr_assert_eq(world.moved, 2);
	cr_assert_eq(world.bad, 1);
	data_world_release(&world);
}

Test(store_spool, what_nobody_refers_to_is_removed, .timeout = 60)
{
	struct data_world world;
	char path[600];
	AUTO_FD fd = -1;

	data_world_init(&world, NULL);
	data_append(&world, 1, 1, 100);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	snprintf(path, sizeof(path), "%s/%032x", world.spool_settings.dir, 0xabcd);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	cr_assert_geq(fd, 0);
	data_world_restart(&world, true);
	cr_assert_eq(access(path, F_OK), -1);
	cr_assert_eq(file_count(&world), 1);
	data_world_release(&world);
}

Test(store_spool, an_open_shard_without_a_file_is_reported, .timeout = 60)
{
	struct data_world world;
	char path[512];

	data_world_init(&world, NULL);
	data_append(&world, 1, 1, 100);
	data_append(&world, 2, 2, 100);
	data_path(&world, 2, path);
	cr_assert_eq(unlink(path), 0);
	data_world_restart(&world, true);
	cr_assert_eq(world.moved, 1);
	cr_assert_eq(world.bad, 1);
	cr_assert_eq(world.gone, 1);
	data_world_release(&world);
}

Test(store_spool, a_damaged_sealed_shard_is_left_to_its_copies, .timeout = 60)
{
	struct data_world world;
	struct chunk_row a, b, now;
	char path[512];

	data_world_init(&world, NULL);
	a = data_append(&world, 1, 1, 1000);
	b = data_append(&world, 2, 2, 1000);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	data_put_copy(&world, a.shard_no, COPY_PRESENT);
	data_put_copy(&world, b.shard_no, COPY_PENDING);
	data_path(&world, a.shard_no, path);
	cr_assert_eq(truncate(path, 500), 0);
	data_path(&world, b.shard_no, path);
	cr_assert_eq(truncate(path, b.off + b.stored_len), 0);
	data_world_restart(&world, true);
	cr_assert_eq(world.moved, 1); /* b has no other place: what is whole was rescued */
	now = data_chunk_now(&world, b.chunk_no);
	cr_assert(data_reads_back(&world, &now, 2));
	cr_assert_eq(data_chunk_now(&world, a.chunk_no).shard_no, a.shard_no);
	cr_assert(!spool_has(world.spool, a.shard_no));
	data_world_release(&world);
}

/* ---- many at a time ---- */

#define THREADS 4
#define EACH	150

struct appender {
	struct data_world *world;
	struct chunk_row rows[EACH];
	unsigned number;
};

static void *append_run(void *arg)
{
	struct appender *appender = arg;
	struct data_world *world = appender->world;
	struct aead_ctx *ctx;
	static const size_t sizes[] = {10, 5000, 70000};

	if (aead_ctx_new(&ctx) < 0)
		return NULL;
	for (unsigned i = 0; i < EACH; i++) {
		struct shard_class class = data_class(1 + i % 2);
		uint64_t number = appender->number * 1000 + i;
		size_t len = sizes[i % 3];
		struct record *record = record_new();
		struct chunk_row row = {
			.chunk_no = atomic_fetch_add(&world->chunks.next_chunk_no, 1)};
		struct chunk_id id;
		uint8_t *bytes = mem_alloc_raw(len);
		uint64_t seq;

		data_fill(number, bytes, len);
		data_fill(number, id.b, sizeof(id.b));
		cr_assert_eq(spool_append(world->spool, ctx, &class, &id, 0, (uint32_t)len,
					  bytes_of(bytes, len), &row), 0);
		record_put_chunk(record, &row);
		cr_assert_eq(sequencer_submit(world->sequencer, record, &seq), 0);
		spool_append_done(world->spool, row.shard_no);
		mem_free(bytes);
		appender->rows[i] = row;
	}
	aead_ctx_free(ctx);
	return NULL;
}

Test(store_spool, many_threads_append_to_the_same_shards, .timeout = 120)
{
	struct spool_settings settings = {.shard_bytes = 500000};
	static struct appender appenders[THREADS];
	struct data_world world;
	pthread_t threads[THREADS];

	data_world_init(&world, &settings);
	for (unsigned i = 0; i < THREADS; i++) {
		appenders[i].world = &world;
		appenders[i].number = i;
		cr_assert_eq(pthread_create(&threads[i], NULL, append_run, &appenders[i]), 0);
	}
	while (atomic_load(&world.sealed) < 5)
		cr_assert_eq(spool_sync(world.spool), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	for (unsigned t = 0; t < THREADS; t++)
		for (unsigned i = 0; i < EACH; i++)
			cr_assert(data_reads_back(&world, &appenders[t].rows[i], t * 1000 + i));
	cr_assert_eq(world.opened, world.sealed);
	for (uint64_t no = 1; no <= world.opened; no++) {
		struct shard_row shard;
		char path[512];

		cr_assert_eq(index_get_shard(world.index, world.reader, no, &shard), 0);
		data_path(&world, no, path);
		cr_assert_eq(verify_file(&world, path, &shard), 0);
	}
	data_world_release(&world);
}
