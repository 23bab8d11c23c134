/* SPDX-License-Identifier: Apache-2.0 */
#include "store/rewrite_private.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/counter.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <string.h>

#include "tests/lib/hooks.h"
#include "tests/lib/store_world.h"

#define PAGE 4096u

static struct store_world world;
static struct inode *file;
static uint8_t content[4 * MIB];
static uint64_t state = 1;

static unsigned draw(unsigned below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % below;
}

static void put(uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		content[off + i] = (uint8_t)draw(256);
	store_world_write(&world, file, off, bytes_of(content + off, len));
	store_world_push(&world, file);
}

static size_t count_extents(uint64_t off, uint64_t len)
{
	AUTO(extent_list) list = ROW_LIST_INIT;
	uint64_t covered;

	cr_assert_eq(index_find_extents(world.store->index, world.reader, file->row.ino, off, len,
					100000, &list, &covered), 0);
	return list.count;
}

static void check_content(uint64_t size)
{
	uint8_t *got = mem_alloc_raw(size);
	size_t len;

	cr_assert_eq(writer_read(world.store->writer, file, world.reader, 0, size, got, &len), 0);
	cr_assert_eq(len, size);
	cr_assert_eq(memcmp(got, content, size), 0);
	mem_free(got);
}

static uint64_t counter_of(const char *name)
{
	for (struct counter *c = counter_iterate(NULL); c; c = counter_iterate(c))
		if (strcmp(c->name, name) == 0)
			return counter_get(c);
	cr_assert_fail("no counter %s", name);
	return 0;
}

static void begin(void)
{
	test_hooks("");
	store_world_init(&world);
	file = store_world_file(&world, "file");
}

static void end(void)
{
	inode_unref(world.store->inodes, file, 1);
	store_world_release(&world);
}

/* Every other page, so that nothing merges: two extents more for each. */
static void fragment(uint64_t off, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++)
		put(off + (2 * i + 1) * PAGE, PAGE);
}

Test(rewrite, a_fragmented_range_becomes_few_extents_with_the_same_bytes, .timeout = 60)
{
	struct inode_row before;
	uint64_t version;

	begin();
	put(0, 3 * MIB);
	fragment(MIB, 60);
	before = file->row;
	version = file->data_version;
	cr_assert_gt(count_extents(MIB, MIB), 100);
	rewrite_flush(world.store->priv->rewrite);
	cr_assert_lt(count_extents(MIB, MIB), 20);
	check_content(3 * MIB);
	cr_assert_gt(file->data_version, version, "who copies extents must notice");
	cr_assert_eq(file->row.size, before.size);
	cr_assert_eq(memcmp(&file->row.mtime, &before.mtime, sizeof(before.mtime)), 0);
	inode_unref(world.store->inodes, file, 1);
	store_world_reopen(&world);
	cr_assert_eq(inode_load(world.store->inodes, world.store->index, world.reader, before.ino,
				&file), 0);
	check_content(3 * MIB);
	end();
}

static uint64_t stored_bytes(void)
{
	struct index_totals totals;
	struct gc_report report;

	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(store_reclaim(world.store, &report), 0);
	index_totals(world.store->index, &totals);
	return totals.chunk_stored_bytes;
}

Test(rewrite, chunks_of_which_little_is_left_do_not_keep_their_bytes, .timeout = 60)
{
	uint64_t before;

	begin();
	put(0, 4 * MIB);
	before = stored_bytes();
	for (unsigned round = 0; round < 8; round++)
		for (unsigned i = 0; i < 7; i++)
			put(i * 37 * 16 * PAGE % (4 * MIB - 512 * 1024) + round * 3 * PAGE,
			    300000);
	cr_assert_lt(stored_bytes(), before * 2);
	check_content(4 * MIB);
	end();
}

Test(rewrite, few_extents_are_left_alone, .timeout = 60)
{
	size_t extents;

	begin();
	put(0, 2 * MIB);
	fragment(0, 20);
	extents = count_extents(0, MIB);
	rewrite_flush(world.store->priv->rewrite);
	cr_assert_eq(count_extents(0, MIB), extents);
	end();
}

Test(rewrite, holes_and_reserved_zeros_stay, .timeout = 60)
{
	struct inode_row row;
	uint64_t result;

	begin();
	put(0, 100 * PAGE);
	fragment(0, 45);
	memset(content + 100 * PAGE, 0, 20 * PAGE); /* a hole */
	put(120 * PAGE, 50 * PAGE);
	fragment(120 * PAGE, 24);
	row = file->row;
	cr_assert_gt(count_extents(0, MIB), 100);
	rewrite_flush(world.store->priv->rewrite);
	cr_assert_lt(count_extents(0, MIB), 20);
	check_content(row.size);
	cr_assert_eq(writer_seek(world.store->writer, file, world.reader, 0, false, &result), 0);
	cr_assert_eq(result, 100 * PAGE);
	cr_assert_eq(writer_seek(world.store->writer, file, world.reader, result, true, &result),
		     0);
	cr_assert_eq(result, 120 * PAGE);
	end();
}

Test(rewrite, very_many_extents_are_not_waited_with, .timeout = 60)
{
	begin();
	put(0, MIB + PAGE);
	fragment(0, 127);
	put(0, PAGE);
	put(2 * PAGE, PAGE);
	while (counter_of("rewrite_ranges") == 0)
		sched_yield();
	rewrite_flush(world.store->priv->rewrite);
	check_content(MIB + PAGE);
	end();
}

Test(rewrite, a_file_that_is_gone_is_no_failure, .timeout = 60)
{
	begin();
	put(0, MIB);
	rewrite_note(world.store->priv->rewrite, 4711, 0, PAGE, 1000);
	rewrite_note(world.store->priv->rewrite, file->row.ino, 99 * MIB, PAGE, 1000);
	rewrite_note(world.store->priv->rewrite, INO_ROOT, 0, PAGE, 1000);
	rewrite_flush(world.store->priv->rewrite);
	cr_assert_eq(counter_of("rewrite_failures"), 0);
	cr_assert_eq(counter_of("rewrite_looks"), 3);
	end();
}

Test(rewrite, the_table_is_bounded_and_what_it_loses_is_sampled, .timeout = 60)
{
	struct rewrite *rewrite;

	begin();
	rewrite = world.store->priv->rewrite;
	for (unsigned round = 0; round < 20; round++)
		for (uint64_t i = 0; i < 3 * REWRITE_TABLE; i++)
			rewrite_note(rewrite, 4711, i * REWRITE_RANGE, PAGE, 1);
	cr_assert_leq(rewrite->notes.count, REWRITE_TABLE);
	rewrite_flush(rewrite);
	cr_assert_gt(counter_of("rewrite_looks"), 0, "a huge file is looked at here and there");
	end();
}

#ifdef SHARDFS_TEST_HOOKS
static void *flush_thread(void *arg)
{
	rewrite_flush(arg);
	return NULL;
}

/* A write, a truncation or a hole while the new extents are about to be laid. */
static void overtakes(void (*change)(void))
{
	pthread_t thread;
	uint64_t looks;

	begin();
	put(0, 2 * MIB);
	fragment(0, 60);
	looks = counter_of("rewrite_overtaken");
	test_hooks("hold rewrite-before");
	cr_assert_eq(pthread_create(&thread, NULL, flush_thread, world.store->priv->rewrite), 0);
	while (counter_of("rewrite_looks") == 0 ||
	       atomic_load(&world.store->priv->rewrite->hand_ino) == 0)
		sched_yield();
	change();
	test_hooks("");
	pthread_join(thread, NULL);
	cr_assert_gt(counter_of("rewrite_overtaken"), looks);
	check_content(file->size);
	rewrite_flush(world.store->priv->rewrite);
	check_content(file->size);
	end();
}

static void write_inside(void)
{
	put(PAGE, PAGE);
}

static void keep_times(void *ctx, struct inode_row *row)
{
	(void)ctx;
	(void)row;
}

static void cut_inside(void)
{
	cr_assert_eq(writer_set_size(world.store->writer, file, MIB / 2, keep_times, NULL), 0);
}

static void punch_inside(void)
{
	cr_assert_eq(writer_zero(world.store->writer, file, world.reader, 10 * PAGE, 10 * PAGE,
				 true, true, keep_times, NULL), 0);
	memset(content + 10 * PAGE, 0, 10 * PAGE);
}

Test(rewrite, a_write_meanwhile_wins, .timeout = 60)
{
	overtakes(write_inside);
}

Test(rewrite, a_truncation_meanwhile_wins, .timeout = 60)
{
	overtakes(cut_inside);
}

Test(rewrite, a_hole_made_meanwhile_wins, .timeout = 60)
{
	overtakes(punch_inside);
}

Test(rewrite, a_write_elsewhere_in_the_file_does_not_disturb, .timeout = 60)
{
	pthread_t thread;

	begin();
	put(0, 3 * MIB);
	fragment(0, 60);
	test_hooks("hold rewrite-before");
	cr_assert_eq(pthread_create(&thread, NULL, flush_thread, world.store->priv->rewrite), 0);
	while (atomic_load(&world.store->priv->rewrite->hand_ino) == 0)
		sched_yield();
	put(2 * MIB + PAGE, PAGE);
	test_hooks("");
	pthread_join(thread, NULL);
	cr_assert_eq(counter_of("rewrite_overtaken"), 0);
	cr_assert_eq(counter_of("rewrite_ranges"), 1);
	check_content(3 * MIB);
	end();
}
#endif
