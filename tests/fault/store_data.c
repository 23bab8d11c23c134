/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reader.h"
#include "tests/lib/data_world.h"
#include "util/clock.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <unistd.h>

#define COUNT 4
#define LEN   3000

static int put(struct chunk_worker *worker, unsigned number, struct chunk_row *row)
{
	struct shard_class class = data_class(1);
	uint8_t bytes[LEN];
	bool is_new;

	data_fill(number, bytes, LEN);
	return chunk_put(worker, &class, bytes_of(bytes, LEN), row, &is_new);
}

/*
 * After a failure.  What the thread that writes the journal met is told to everybody until it has
 * tried again, which takes it data_world's retry time.
 */
static int put_again(struct chunk_worker *worker, unsigned number, struct chunk_row *row)
{
	uint64_t end = clock_mono_ms() + 60000;
	int r;

	while ((r = put(worker, number, row)) == -ENOMEM && clock_mono_ms() < end)
		usleep(1000);
	return r;
}

static bool is_right(const struct buf *bytes, unsigned number)
{
	uint8_t expected[LEN];

	data_fill(number, expected, LEN);
	return bytes->len == LEN && memcmp(bytes->ptr, expected, LEN) == 0;
}

/* A failed allocation fails one call, pins nothing, and the same call succeeds afterwards. */
Test(fault_store_data, any_failed_allocation_fails_one_put_or_read_and_no_more, .timeout = 120)
{
	bool has_fired = true;

	for (unsigned at = 1; has_fired; at++) {
		struct reader_settings settings = {.decoded_bytes_max = MIB};
		struct data_world world;
		struct chunk_worker *worker;
		struct reader *reader;
		unsigned failed = 0;

		data_world_init(&world, NULL);
		settings.index = world.index;
		settings.spool = world.spool;
		settings.keyring = world.keyring;
		cr_assert_eq(chunk_worker_new(&world.chunks, &worker), 0);
		cr_assert_eq(reader_open(&settings, &reader), 0);
		mem_fail_at(at);
		for (unsigned i = 0; i < COUNT; i++) {
			AUTO(buf) out = BUF_INIT;
			struct chunk_row row;
			int r = put(worker, i, &row);

			if (r < 0) {
				cr_assert_eq(r, -ENOMEM, "allocation %u: %d", at, r);
				failed++;
				r = put_again(worker, i, &row);
			}
			cr_assert_eq(r, 0, "allocation %u: %d", at, r);
			r = reader_read_chunk(reader, world.reader, row.chunk_no, &out);
			if (r < 0) {
				cr_assert(r == -ENOMEM || r == -EIO, "allocation %u: %d", at, r);
				failed++;
				r = reader_read_chunk(reader, world.reader, row.chunk_no, &out);
			}
			cr_assert_eq(r, 0, "allocation %u: %d", at, r);
			cr_assert(is_right(&out, i));
			chunk_unpin(&world.chunks, row.chunk_no);
			r = dedup_condemn(world.dedup, row.chunk_no);
			if (r == -ENOMEM) {
				failed++;
				r = dedup_condemn(world.dedup, row.chunk_no);
			}
			cr_assert_eq(r, 0, "pinned");
			dedup_forget_condemned(world.dedup, row.chunk_no);
		}
		has_fired = mem_fail_fired();
		mem_fail_at(0);
		cr_assert_leq(failed, 1);
		reader_close(reader);
		chunk_worker_free(worker);
		data_world_release(&world);
	}
}

/* Sealing goes on when memory comes back, and what is sealed verifies. */
Test(fault_store_data, any_failed_allocation_while_sealing_is_made_good, .timeout = 120)
{
	bool has_fired = true;

	for (unsigned at = 1; has_fired && at < 200; at++) {
		struct data_world world;
		struct chunk_row rows[COUNT];
		int r;

		data_world_init(&world, NULL);
		for (unsigned i = 0; i < COUNT; i++)
			rows[i] = data_append(&world, 1, i, LEN);
		data_wait_applied(&world);
		mem_fail_at(at);
		r = spool_seal_all(world.spool, 0);
		has_fired = mem_fail_fired();
		mem_fail_at(0);
		cr_assert(r == 0 || r == -ENOMEM, "allocation %u: %d", at, r);
		if (r < 0)
			cr_assert_eq(spool_seal_all(world.spool, 0), 0);
		cr_assert_eq(world.sealed, 1);
		data_world_restart(&world, true);
		cr_assert_eq(world.moved, 0);
		for (unsigned i = 0; i < COUNT; i++)
			cr_assert(data_reads_back(&world, &rows[i], i));
		data_world_release(&world);
	}
}
