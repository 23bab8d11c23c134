/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index against a naive model: random records, noted and applied at random
 * points, read back through memory, engine and both; reopened and killed.
 */
#include "tests/lib/index_model.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RECORDS_MAX 1000

static const struct inode_row root = {.ino = 1, .mode = S_IFDIR | 0755, .nlink = 2, .parent = 1,
				      .policy_root = 1};

static void found(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "violation: %s\n", text);
}

/* An index that is driven by a model; records that are not applied are kept, as the journal does. */
struct world {
	char path[512];
	uint64_t cache_dirents_max;
	struct model *model;
	struct index *index;
	struct index_reader *reader;
	struct record *records[RECORDS_MAX]; /* seq - 1 */
	uint64_t applied;
	uint64_t record_count;
};

static void world_open(struct world *world)
{
	struct index_settings settings = {
		.path = world->path,
		.cache_dirents_max = world->cache_dirents_max,
		.page_cache_bytes = 256 * KIB,
	};
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(index_open(&settings, &why, &world->index), 0, "%s", buf_str(&why));
	cr_assert_eq(index_reader_open(world->index, &world->reader), 0);
}

static void world_close(struct world *world)
{
	index_reader_close(world->reader);
	index_close(world->index);
}

static void world_init(struct world *world, uint64_t seed, uint64_t cache_dirents_max)
{
	const char *dir = getenv("TMPDIR");

	memset(world, 0, sizeof(*world));
	snprintf(world->path, sizeof(world->path), "%s/index-%d-%llx.db",
		 dir != NULL ? dir : "/tmp", (int)getpid(), (unsigned long long)seed);
	world->cache_dirents_max = cache_dirents_max;
	world->model = mem_alloc(sizeof(*world->model));
	cr_assert_not_null(world->model);
	model_init(world->model, seed, &root);
	cr_assert_eq(index_create(world->path, &root), 0);
	world_open(world);
}

static void world_release(struct world *world)
{
	char log[600];

	world_close(world);
	for (uint64_t i = 0; i < world->record_count; i++)
		record_free(world->records[i]);
	model_release(world->model);
	mem_free(world->model);
	unlink(world->path);
	snprintf(log, sizeof(log), "%s-wal", world->path);
	unlink(log);
	snprintf(log, sizeof(log), "%s-shm", world->path);
	unlink(log);
}

static bool world_step(struct world *world)
{
	struct record *record;

	if (world->record_count == RECORDS_MAX)
		return false;
	record = model_step(world->model);
	if (record == NULL)
		return false;
	world->records[world->record_count++] = record;
	cr_assert_eq(index_note(world->index, record), 0);
	if (world->model->made_directory != 0 && world->model->seq % 2 == 0)
		index_note_new_directory(world->index, world->model->made_directory);
	return true;
}

static void world_apply(struct world *world, uint64_t count)
{
	struct record *const *from = world->records + world->applied;

	cr_assert_eq(index_apply(world->index, from, count), 0);
	world->applied += count;
	cr_assert_eq(index_applied_seq(world->index), world->applied);
}

static void world_prove(struct world *world)
{
	uint64_t violations = 1;

	cr_assert_eq(index_prove(world->index, world->reader, found, NULL, &violations), 0);
	cr_assert_eq(violations, 0);
}

/* After a restart: what was noted and not applied is noted again, from the journal. */
static void world_reopen(struct world *world)
{
	world_close(world);
	world_open(world);
	cr_assert_eq(index_applied_seq(world->index), world->applied);
	for (uint64_t i = world->applied; i < world->record_count; i++)
		cr_assert_eq(index_note(world->index, world->records[i]), 0);
}

static void run_world(uint64_t seed, uint64_t cache_dirents_max)
{
	struct world *world = mem_alloc(sizeof(*world));
	struct rng rng = {.state = seed ^ 0x5eed};

	world_init(world, seed, cache_dirents_max);
	for (unsigned step = 0; step < 400 && world_step(world); step++) {
		uint64_t pending = world->record_count - world->applied;

		if (rng_below(&rng, 6) == 0)
			world_apply(world, 1 + rng_below(&rng, pending));
		if (rng_below(&rng, 12) == 0)
			model_compare(world->model, world->index,
				      rng_below(&rng, 3) ? world->reader : NULL);
		if (rng_below(&rng, 50) == 0)
			cr_assert_eq(index_checkpoint(world->index), 0);
		if (rng_below(&rng, 60) == 0)
			world_reopen(world);
		if (rng_below(&rng, 60) == 0) {
			world_apply(world, world->record_count - world->applied);
			world_prove(world);
		}
	}
	world_apply(world, world->record_count - world->applied);
	model_compare(world->model, world->index, world->reader);
	world_prove(world);
	world_reopen(world);
	model_compare(world->model, world->index, world->reader);
	world_release(world);
	mem_free(world);
}

Test(index_model, every_read_answers_as_a_naive_model_does, .timeout = 300)
{
	static const uint64_t caches[] = {0, 3, 40, 100000};
	struct rng rng = rng_new();

	for (unsigned i = 0; i < 8; i++)
		run_world(rng_u64(&rng), caches[i % ARRAY_COUNT(caches)]);
}

/* ---- killed while applying ---- */

static void child_applies(const char *path, uint64_t seed, int pipe_fd)
{
	struct index_settings settings = {.path = path, .page_cache_bytes = 64 * KIB};
	struct model *model = mem_alloc(sizeof(*model));
	struct record *batch[8];
	AUTO(buf) why = BUF_INIT;
	struct rng rng = {.state = seed};
	struct index *index;
	size_t count = 0;

	model_init(model, seed, &root);
	if (index_open(&settings, &why, &index) < 0)
		_exit(1);
	for (;;) {
		struct record *record = model_step(model);

		if (record != NULL)
			batch[count++] = record;
		if (count == 0)
			break;
		if (record != NULL && count < 1 + rng_below(&rng, ARRAY_COUNT(batch)))
			continue;
		if (index_apply(index, batch, count) < 0)
			_exit(2);
		while (count > 0)
			record_free(batch[--count]);
		if (rng_below(&rng, 20) == 0 && index_checkpoint(index) < 0)
			_exit(3);
		if (write(pipe_fd, "x", 1) != 1) /* one more batch is there */
			_exit(4);
	}
	pause();
	_exit(0);
}

Test(index_model, a_kill_while_applying_leaves_a_prefix_and_replay_completes_it, .timeout = 300)
{
	struct rng rng = rng_new();

	for (unsigned round = 0; round < 10; round++) {
		struct world *world = mem_alloc(sizeof(*world));
		uint64_t seed = rng_u64(&rng), batches = 1 + rng_below(&rng, 40), applied;
		struct model *prefix = mem_alloc(sizeof(*prefix));
		struct record *record;
		int fds[2];
		pid_t child;
		char c;

		world_init(world, seed, 100);
		world_close(world);
		cr_assert_eq(pipe(fds), 0);
		child = fork();
		if (child == 0) {
			close(fds[0]);
			child_applies(world->path, seed, fds[1]);
		}
		close(fds[1]);
		for (uint64_t i = 0; i < batches; i++)
			cr_assert_eq(read(fds[0], &c, 1), 1);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		close(fds[0]);

		world_open(world);
		applied = index_applied_seq(world->index);
		model_init(prefix, seed, &root);
		while (prefix->seq < applied)
			record_free(model_step(prefix));
		model_compare(prefix, world->index, world->reader);
		world_prove(world);
		model_release(prefix);
		mem_free(prefix);

		/* The journal is replayed from its beginning; what is applied is skipped. */
		while (world->record_count < RECORDS_MAX &&
		       (record = model_step(world->model)) != NULL)
			world->records[world->record_count++] = record;
		cr_assert_eq(index_apply(world->index, world->records, world->record_count), 0);
		model_compare(world->model, world->index, world->reader);
		world_prove(world);
		world_release(world);
		mem_free(world);
	}
}

/* ---- restored ---- */

/* A second index, filled with what a first one dumped. */
struct copy {
	char path[600];
	struct index *index;
	struct index_reader *reader;
};

static void copy_open(struct copy *copy)
{
	struct index_settings settings = {.path = copy->path, .page_cache_bytes = 256 * KIB};
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(index_open(&settings, &why, &copy->index), 0, "%s", buf_str(&why));
	cr_assert_eq(index_reader_open(copy->index, &copy->reader), 0);
}

static int restore_record(void *ctx, const struct record *record)
{
	struct copy *copy = ctx;
	struct record *one = record_new();
	int r;

	cr_assert_eq(buf_append(&one->changes, buf_bytes(&record->changes)), 0);
	one->change_count = record->change_count;
	r = index_restore(copy->index, record->seq, &one, 1);
	record_free(one);
	return r;
}

static void copy_make(struct copy *copy, struct world *world)
{
	struct index_highest highest;
	uint64_t seq = 0;

	snprintf(copy->path, sizeof(copy->path), "%s.copy", world->path);
	cr_assert_eq(index_create(copy->path, &root), 0);
	copy_open(copy);
	cr_assert_eq(index_dump(world->index, world->reader, restore_record, copy, &seq, &highest),
		     0);
	cr_assert_eq(seq, world->applied);
	cr_assert_eq(index_restore_end(copy->index, &highest), 0);
}

static void copy_release(struct copy *copy)
{
	char log[620];

	index_reader_close(copy->reader);
	index_close(copy->index);
	unlink(copy->path);
	snprintf(log, sizeof(log), "%s-wal", copy->path);
	unlink(log);
	snprintf(log, sizeof(log), "%s-shm", copy->path);
	unlink(log);
}

static void copy_check(struct copy *copy, struct world *world)
{
	uint64_t violations = 1;

	world->model->is_restored = true;
	model_compare_tree(world->model, copy->index, copy->reader);
	world->model->is_restored = false;
	cr_assert_eq(index_prove(copy->index, copy->reader, found, NULL, &violations), 0);
	cr_assert_eq(violations, 0);
}

/* Every snapshot is there, and records mean the same to what was restored, references included. */
Test(index_model, what_is_restored_has_the_snapshots_and_goes_on_as_the_first_one_does, .timeout = 300)
{
	struct rng rng = rng_new();

	for (unsigned round = 0; round < 10; round++) {
		struct world *world = mem_alloc(sizeof(*world));
		struct copy copy = {0};
		uint64_t from, rows = 0, copied_rows = 1;

		world_init(world, rng_u64(&rng), 100);
		for (uint64_t step = 50 + rng_below(&rng, 150); step > 0 && world_step(world); step--)
			;
		world_apply(world, world->record_count - world->applied);
		copy_make(&copy, world);
		from = world->applied;
		copy_check(&copy, world);
		index_reader_close(copy.reader);
		index_close(copy.index);
		copy_open(&copy);
		while (world_step(world))
			if (rng_below(&rng, 8) == 0)
				world_apply(world, world->record_count - world->applied);
		world_apply(world, world->record_count - world->applied);
		for (uint64_t i = from; i < world->record_count; i++)
			cr_assert_eq(index_apply(copy.index, &world->records[i], 1), 0);
		cr_assert_eq(index_count_history(world->index, world->reader, &rows), 0);
		cr_assert_eq(index_count_history(copy.index, copy.reader, &copied_rows), 0);
		cr_assert_eq(rows, copied_rows);
		copy_check(&copy, world);
		copy_release(&copy);
		world_release(world);
		mem_free(world);
	}
}
