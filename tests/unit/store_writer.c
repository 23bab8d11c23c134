/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer alone: chunk store, sequencer, index and reader are replaced by
 * fakes in this program, so that the codec's completions can be delivered in
 * any order, and what is journalled can be looked at record by record.
 */
#include "store/writer.h"

#include "codec/chunker.h"

#include "util/mem.h"

#include <assert.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX ((size_t)(8 * MIB))
#define RUNS     4u

/* One inode; what the journal has of it, as bytes. */
static struct world {
	struct lock lock; /* LOCK_LEAF: guards all below */
	struct cond cond;
	bool is_held;            /* chunk_put waits until its run is released */
	bool is_released[256];   /* by the number of the write */
	int put_error;           /* of the next chunk_put */
	bool is_tight;
	uint64_t allowance;
	struct {
		uint8_t *ptr;
		size_t len;
	} chunks[4096];
	unsigned chunk_count;
	int64_t pins;
	uint8_t journal[FILE_MAX]; /* bytes as the records have them */
	uint64_t journal_size, seq;
	unsigned extents_put;
} world;

static struct inode_table *inodes;
static struct inode *inode;
static struct writer *writer;
static struct chunk_store chunks;
static struct chunker *chunker;
static uint8_t expected[RUNS + 1][FILE_MAX]; /* after so many writes */
static uint64_t expected_size[RUNS + 1];

/* ---- fakes ---- */

struct chunk_worker {
	int unused;
};

int chunk_worker_new(struct chunk_store *store, struct chunk_worker **out)
{
	(void)store;
	*out = mem_alloc(sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void chunk_worker_free(struct chunk_worker *worker)
{
	mem_free(worker);
}

/* Which write a byte is from: see fill(). */
static unsigned run_of(uint8_t byte)
{
	return byte <= RUNS ? byte : (unsigned)(byte - 1) / 50;
}

int chunk_put(struct chunk_worker *worker, const struct shard_class *class, struct bytes src,
	      struct chunk_row *out, bool *is_new)
{
	int r;

	(void)worker;
	(void)class;
	LOCK_SCOPE(&world.lock);
	while (world.is_held && !world.is_released[run_of(src.ptr[0])])
		cond_wait(&world.cond, &world.lock);
	r = world.put_error;
	world.put_error = 0;
	if (r < 0)
		return r;
	*out = (struct chunk_row){.chunk_no = ++world.chunk_count, .raw_len = (uint32_t)src.len};
	assert(world.chunk_count < ARRAY_COUNT(world.chunks));
	world.chunks[world.chunk_count].ptr = mem_alloc_raw(src.len);
	world.chunks[world.chunk_count].len = src.len;
	memcpy(world.chunks[world.chunk_count].ptr, src.ptr, src.len);
	world.pins++;
	*is_new = true;
	return 0;
}

void chunk_unpin(struct chunk_store *store, uint64_t chunk_no)
{
	(void)store;
	(void)chunk_no;
	LOCK_SCOPE(&world.lock);
	world.pins--;
}

static void apply_locked(const struct change *change)
{
	const struct extent_row *e = &change->u.extent;

	if (change->type == CHANGE_EXTENT_PUT) {
		assert(e->off + e->len <= FILE_MAX);
		world.extents_put++;
		if (e->chunk_no)
			memcpy(world.journal + e->off, world.chunks[e->chunk_no].ptr + e->chunk_off,
			       e->len);
		else
			memset(world.journal + e->off, 0, e->len);
	} else if (change->type == CHANGE_EXTENT_DEL) {
		uint64_t end = MIN((uint64_t)FILE_MAX, change->u.range.off + change->u.range.len);

		memset(world.journal + change->u.range.off, 0, end - change->u.range.off);
	} else if (change->type == CHANGE_INODE_PUT) {
		world.journal_size = change->u.inode.size;
	}
}

int sequencer_submit(struct sequencer *sequencer, struct record *record, uint64_t *seq)
{
	struct record_walk walk = record_walk_of(buf_bytes(&record->changes));
	struct change change;

	(void)sequencer;
	LOCK_SCOPE(&world.lock);
	while (record_walk_next(&walk, &change) > 0)
		apply_locked(&change);
	*seq = ++world.seq;
	record_free(record);
	return 0;
}

uint64_t sequencer_last_seq(struct sequencer *sequencer)
{
	(void)sequencer;
	LOCK_SCOPE(&world.lock);
	return world.seq;
}

void sequencer_when_written(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter)
{
	(void)sequencer;
	(void)seq;
	waiter->done(waiter, 0);
}

void sequencer_when_synced(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter)
{
	sequencer_when_written(sequencer, seq, waiter);
}

void sequencer_sync_here(struct sequencer *sequencer, uint64_t seq, struct waiter *waiter)
{
	sequencer_when_written(sequencer, seq, waiter);
}

int reader_read(struct reader *reader, struct index_reader *index_reader, uint64_t ino,
		uint64_t off, size_t len, uint8_t *out)
{
	(void)reader;
	(void)index_reader;
	(void)ino;
	LOCK_SCOPE(&world.lock);
	memcpy(out, world.journal + off, len);
	return 0;
}

int index_get_inode(struct index *index, struct index_reader *reader, uint64_t ino,
		    struct inode_row *out)
{
	(void)index;
	(void)reader;
	(void)ino;
	(void)out;
	return -ENOENT;
}

int index_get_xattr(struct index *index, struct index_reader *reader, uint64_t ino,
		    struct bytes name, struct buf *out)
{
	(void)index;
	(void)reader;
	(void)ino;
	(void)name;
	(void)out;
	return -ENODATA;
}

int index_find_extents(struct index *index, struct index_reader *reader, uint64_t ino, uint64_t off,
		       uint64_t len, size_t count_max, struct extent_list *out,
		       uint64_t *covered_end)
{
	(void)index;
	(void)reader;
	(void)ino;
	(void)count_max;
	(void)out;
	*covered_end = off + len;
	return 0;
}

int index_count_extent_bytes(struct index *index, struct index_reader *reader, uint64_t ino,
			     uint64_t *bytes)
{
	(void)index;
	(void)reader;
	(void)ino;
	*bytes = 0;
	return 0;
}

static void class_of(void *ctx, const struct inode_row *row, struct shard_class *out)
{
	(void)ctx;
	(void)row;
	*out = (struct shard_class){.policy_root = INO_ROOT};
}

static int admit(void *ctx, uint64_t bytes, bool is_reserve)
{
	(void)ctx;
	(void)bytes;
	(void)is_reserve;
	return 0;
}

static bool is_tight(void *ctx)
{
	(void)ctx;
	LOCK_SCOPE(&world.lock);
	return world.is_tight;
}

static uint64_t allowance(void *ctx)
{
	uint64_t bytes;

	(void)ctx;
	LOCK_SCOPE(&world.lock);
	bytes = world.allowance;
	world.allowance = 0;
	return bytes;
}

static void reclaim(void *ctx, uint64_t ino)
{
	(void)ctx;
	(void)ino;
}

/* ---- the stage ---- */

struct ending {
	struct waiter waiter;
	struct lock lock;
	struct cond cond;
	bool is_done;
	int error;
};

static void ending_done(struct waiter *waiter, int error)
{
	struct ending *ending = container_of(waiter, struct ending, waiter);

	LOCK_SCOPE(&ending->lock);
	ending->is_done = true;
	ending->error = error;
	cond_wake_all(&ending->cond);
}

static void ending_init(struct ending *ending)
{
	*ending = (struct ending){.waiter.done = ending_done};
	lock_init(&ending->lock, LOCK_LEAF);
	cond_init(&ending->cond);
}

static int ending_wait(struct ending *ending)
{
	LOCK_SCOPE(&ending->lock);
	while (!ending->is_done)
		cond_wait(&ending->cond, &ending->lock);
	return ending->error;
}

static void stage_set(uint64_t dirty_bytes_max)
{
	uint8_t key[CHUNKER_KEY_BYTES];
	struct chunker_params params = {.min_bytes = 4 << 10, .avg_bytes = 16 << 10,
					.max_bytes = 64 << 10};
	struct writer_settings settings = {
		.chunks = &chunks,
		.codec_threads = 64, /* each piece may be held by a worker of its own */
		.dirty_bytes_max = dirty_bytes_max,
		.class_of = class_of,
		.admit = admit,
		.is_tight = is_tight,
		.allowance = allowance,
	};
	struct inode_row row = {.ino = 7, .mode = 0100644, .nlink = 1};

	lock_init(&world.lock, LOCK_LEAF);
	cond_init(&world.cond);
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 37 + 11);
	cr_assert_eq(chunker_new(&params, key, &chunker), 0);
	cr_assert_eq(inode_table_new(reclaim, NULL, &inodes), 0);
	cr_assert_eq(inode_add(inodes, &row, &inode), 0);
	settings.inodes = inodes;
	settings.chunker = chunker;
	cr_assert_eq(writer_start(&settings, &writer), 0);
}

static void stage_clear(void)
{
	cr_assert_eq(writer_stop(writer), 0);
	writer_free(writer);
	inode_unref(inodes, inode, 1);
	inode_table_free(inodes);
	chunker_free(chunker);
	cr_assert_eq(world.pins, 0, "each pinned chunk was unpinned");
	for (unsigned i = 1; i <= world.chunk_count; i++)
		mem_free(world.chunks[i].ptr);
	memset(&world, 0, sizeof(world));
}

/* Bytes whose first one names the run. */
static void fill(uint8_t *out, size_t len, unsigned no)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(no * 50 + 1 + i % 41);
	if (len > 0)
		out[0] = (uint8_t)no;
}

static int write_at(uint64_t off, size_t len, unsigned no)
{
	uint8_t *bytes = mem_alloc_raw(len);
	struct ending ending;
	int r;

	fill(bytes, len, no);
	ending_init(&ending);
	r = writer_write(writer, inode, off, bytes_of(bytes, len), true, false,
			 &ending.waiter);
	if (r == -EINPROGRESS)
		r = ending_wait(&ending);
	mem_free(bytes);
	return r;
}

static void cr_assert_reads(const uint8_t *bytes, uint64_t size, const char *when)
{
	uint8_t *out = mem_alloc_raw(FILE_MAX);
	size_t got = 0;

	cr_assert_eq(writer_read(writer, inode, (struct index_reader *)&world, 0, FILE_MAX, out,
				 &got), 0);
	cr_assert_eq(got, size, "%s: size %zu, not %llu", when, got, (unsigned long long)size);
	cr_assert_eq(memcmp(out, bytes, size), 0, "%s: bytes differ", when);
	mem_free(out);
}

/* How many of the writes the journal has; -1: its state is that of no prefix. */
static int journal_prefix(void)
{
	LOCK_SCOPE(&world.lock);
	for (int k = RUNS; k >= 0; k--)
		if (world.journal_size == expected_size[k] &&
		    memcmp(world.journal, expected[k], FILE_MAX) == 0)
			return k;
	return -1;
}

static void release(unsigned no)
{
	LOCK_SCOPE(&world.lock);
	world.is_released[no] = true;
	cond_wake_all(&world.cond);
}

/* Overlapping in every way: a part in front, behind, inside, and over a hole. */
static const struct {
	uint64_t off;
	size_t len;
} writes[RUNS] = {{100000, 50000}, {130000, 60000}, {110000, 10000}, {20000, 200000}};

static void expect_writes(void)
{
	memset(expected, 0, sizeof(expected));
	expected_size[0] = 0;
	for (unsigned k = 0; k < RUNS; k++) {
		memcpy(expected[k + 1], expected[k], FILE_MAX);
		fill(expected[k + 1] + writes[k].off, writes[k].len, k + 1);
		expected_size[k + 1] =
			MAX(expected_size[k], writes[k].off + writes[k].len);
	}
}

static void run_permutation(const unsigned order[RUNS])
{
	struct ending endings[RUNS];
	bool is_out[RUNS + 1] = {false};
	char when[64];

	stage_set(GIB);
	world.is_held = true;
	for (unsigned k = 0; k < RUNS; k++) {
		cr_assert_eq(write_at(writes[k].off, writes[k].len, k + 1), 0);
		ending_init(&endings[k]);
		writer_push(writer, inode, &endings[k].waiter); /* a run of its own */
	}
	for (unsigned k = 0; k < RUNS; k++) {
		int prefix, least = 0;

		snprintf(when, sizeof(when), "order %u%u%u%u, after %u", order[0], order[1],
			 order[2], order[3], k + 1);
		release(order[k]);
		is_out[order[k]] = true;
		while (least < (int)RUNS && is_out[least + 1])
			least++;
		/* the runs up to the first one held back must arrive, and nothing behind it */
		do {
			prefix = journal_prefix();
			cr_assert_geq(prefix, 0, "%s: the journal has no prefix", when);
			cr_assert_leq(prefix, least, "%s: the journal ran ahead", when);
			sched_yield();
		} while (prefix < least);
		cr_assert_reads(expected[RUNS], expected_size[RUNS], when);
	}
	for (unsigned k = 0; k < RUNS; k++)
		cr_assert_eq(ending_wait(&endings[k]), 0);
	cr_assert_eq(journal_prefix(), RUNS);
	stage_clear();
}

Test(store_writer, every_order_of_completions_journals_in_the_order_of_writing, .timeout = 300)
{
	expect_writes();
	for (unsigned a = 1; a <= RUNS; a++)
		for (unsigned b = 1; b <= RUNS; b++)
			for (unsigned c = 1; c <= RUNS; c++) {
				unsigned d = 1 + 2 + 3 + 4 - a - b - c;

				if (a != b && a != c && b != c)
					run_permutation((unsigned[]){a, b, c, d});
			}
}

Test(store_writer, boundaries_do_not_depend_on_how_the_bytes_arrive, .timeout = 120)
{
	unsigned extents[2];
	uint8_t *bytes = mem_alloc_raw(7 * MIB);

	for (size_t i = 0; i < 7 * MIB; i++)
		bytes[i] = (uint8_t)map_hash_u64(i / 8) ^ (uint8_t)i;
	for (unsigned pass = 0; pass < 2; pass++) {
		size_t step = pass ? 37 * 1000 : MIB;
		struct ending ending;

		stage_set(GIB);
		for (size_t at = 0; at < 7 * MIB; at += step) {
			size_t len = MIN(step, (size_t)(7 * MIB) - at);

			ending_init(&ending);
			cr_assert_eq(writer_write(writer, inode, at, bytes_of(bytes + at, len),
						  true, false, &ending.waiter), 0);
		}
		ending_init(&ending);
		writer_push(writer, inode, &ending.waiter);
		cr_assert_eq(ending_wait(&ending), 0);
		cr_assert_eq(memcmp(world.journal, bytes, 7 * MIB), 0);
		cr_assert_eq(world.journal_size, 7 * MIB);
		extents[pass] = world.extents_put;
		stage_clear();
	}
	cr_assert_eq(extents[0], extents[1]);
	mem_free(bytes);
}

Test(store_writer, a_run_that_cannot_be_stored_is_told_once_and_leaves_the_old_bytes)
{
	struct ending ending;

	stage_set(GIB);
	cr_assert_eq(write_at(0, 30000, 1), 0);
	ending_init(&ending);
	writer_push(writer, inode, &ending.waiter);
	cr_assert_eq(ending_wait(&ending), 0);

	world.put_error = -EIO;
	cr_assert_eq(write_at(10000, 30000, 2), 0);
	ending_init(&ending);
	writer_push(writer, inode, &ending.waiter);
	cr_assert_eq(ending_wait(&ending), -EIO);
	cr_assert_eq(world.journal_size, 30000, "no size without its bytes");

	ending_init(&ending);
	writer_push(writer, inode, &ending.waiter);
	cr_assert_eq(ending_wait(&ending), 0, "told once");
	stage_clear();
}

Test(store_writer, memory_is_bounded_by_answering_late, .timeout = 120)
{
	struct ending ending;
	uint8_t *bytes = mem_alloc(MIB);

	stage_set(8 * MIB);
	world.is_held = true;
	for (unsigned i = 0; i < 7; i++) {
		bytes[0] = 9;
		ending_init(&ending);
		int r = writer_write(writer, inode, i * MIB, bytes_of(bytes, MIB), true, false,
				     &ending.waiter);

		if (r == -EINPROGRESS)
			break;
		cr_assert_eq(r, 0);
	}
	cr_assert_not(ending.is_done, "over the bound nothing is answered");
	cr_assert_leq(writer_dirty_bytes(writer), 8 * MIB + 6 * MIB);
	lock_take(&world.lock);
	world.is_held = false;
	cond_wake_all(&world.cond);
	lock_drop(&world.lock);
	cr_assert_eq(ending_wait(&ending), 0);
	stage_clear();
	mem_free(bytes);
}

static bool ending_is_done(struct ending *ending)
{
	LOCK_SCOPE(&ending->lock);
	return ending->is_done;
}

Test(store_writer, a_tight_spool_slows_writes_to_the_rate_at_which_it_drains, .timeout = 120)
{
	struct ending endings[3];
	uint8_t *bytes = mem_alloc(100000);
	int r;

	stage_set(GIB);
	world.is_tight = true;
	for (unsigned i = 0; i < 3; i++) {
		ending_init(&endings[i]);
		r = writer_write(writer, inode, i * 100000, bytes_of(bytes, 100000), true,
				 false, &endings[i].waiter);
		cr_assert_eq(r, -EINPROGRESS);
	}
	lock_take(&world.lock);
	world.allowance = 250000; /* two of them have drained */
	lock_drop(&world.lock);
	cr_assert_eq(ending_wait(&endings[0]), 0);
	cr_assert_eq(ending_wait(&endings[1]), 0);
	cr_assert_not(ending_is_done(&endings[2]));
	lock_take(&world.lock);
	world.is_tight = false;
	lock_drop(&world.lock);
	cr_assert_eq(ending_wait(&endings[2]), 0);
	stage_clear();
	mem_free(bytes);
}

static void touch(void *ctx, struct inode_row *row)
{
	(void)ctx;
	row->mtime.sec++;
}

Test(store_writer, a_shorter_file_forgets_unpushed_bytes_and_never_shows_them_again)
{
	struct ending ending;

	stage_set(GIB);
	memset(expected, 0, sizeof(expected));
	fill(expected[0], 20000, 1);
	cr_assert_eq(write_at(0, 60000, 1), 0);
	cr_assert_eq(writer_set_size(writer, inode, 20000, touch, NULL), -EBUSY,
		     "bytes below the new size must be pushed first");
	ending_init(&ending);
	writer_push(writer, inode, &ending.waiter);
	cr_assert_eq(ending_wait(&ending), 0);
	cr_assert_eq(writer_set_size(writer, inode, 20000, touch, NULL), 0);
	cr_assert_eq(writer_set_size(writer, inode, 50000, touch, NULL), 0);
	cr_assert_reads(expected[0], 50000, "cut and grown");
	/* all that was unpushed is cut off: nothing is left that the end would wait for */
	cr_assert_eq(write_at(70000, 1000, 2), 0);
	cr_assert_eq(writer_set_size(writer, inode, 20000, touch, NULL), 0);
	cr_assert_null(inode->writer);
	stage_clear();
}
