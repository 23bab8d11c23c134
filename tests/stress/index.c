/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread notes, one applies and checkpoints, four read: no answer may be
 * older than what was noted before the call.  Every file k has, as of step n
 * of its own: size n, extent of chunk n over all of it, and one name of two in
 * turn, in directory 1; the chunk of the step before is deleted.  Readers remember the step before they ask.
 */
#include "index/index.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/map.h"
#include "util/queue.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES   24
#define READERS 4
#define RUN_MS  4000

static struct index *index_;
static _Atomic uint64_t noted[FILES]; /* step of each file that every later answer shows */
static struct queue queue;            /* noted records, to the applier */
static atomic_bool is_over, is_noted; /* to stop; the noter did */
static _Atomic uint64_t answers;

#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct bytes name_of(unsigned file, uint64_t step, char *buf, size_t size)
{
	snprintf(buf, size, "file-%u-%u", file, (unsigned)(step % 2));
	return bytes_of_str(buf);
}

/* Of the name and the chunk of a step: ascending in each file. */
static uint64_t number_of(unsigned file, uint64_t step)
{
	return step * FILES + file;
}

static struct record *make_step(unsigned file, uint64_t step, uint64_t seq)
{
	struct inode_row inode = {.ino = 2 + file, .mode = S_IFREG | 0644, .nlink = 1, .size = step,
				  .parent = 1, .policy_root = 1};
	struct extent_row extent = {.ino = 2 + file, .off = 0, .len = 1000,
				    .chunk_no = number_of(file, step)};
	struct chunk_row chunk = {.chunk_no = extent.chunk_no, .shard_no = 1, .stored_len = 7,
				  .raw_len = 1000};
	struct record *record = record_new();
	char buf[64];

	MUST(record != NULL);
	record->seq = seq;
	if (step > 1)
		record_del_dirent(record, 1, number_of(file, step - 1),
				  name_of(file, step - 1, buf, sizeof(buf)));
	record_put_dirent(record, 1, number_of(file, step),
			  name_of(file, step, buf, sizeof(buf)), 2 + file, 8);
	record_put_inode(record, &inode);
	memcpy(chunk.id.b, &chunk.chunk_no, sizeof(chunk.chunk_no));
	record_put_chunk(record, &chunk);
	record_put_extent(record, &extent);
	/* A small one inside, so that ranges are split. */
	extent.off = 100 + step % 100;
	extent.len = 10;
	record_put_extent(record, &extent);
	record_del_extents(record, 2 + file, 500, 10);
	if (step > 1)
		record_del_chunk(record, number_of(file, step - 1));
	MUST(record->error == 0);
	return record;
}

static void *note_steps(void *arg)
{
	uint64_t random = 1;

	(void)arg;
	for (uint64_t seq = 2; !atomic_load(&is_over); seq++) {
		unsigned file = (unsigned)((random = map_hash_u64(random)) % FILES);
		uint64_t step = atomic_load(&noted[file]) + 1;
		struct record *record = make_step(file, step, seq);

		MUST(index_note(index_, record) == 0);
		atomic_store(&noted[file], step);
		MUST(queue_push(&queue, record) == 0);
	}
	atomic_store(&is_noted, true);
	queue_close(&queue);
	return NULL;
}

static void *apply_steps(void *arg)
{
	struct record *batch[64];
	unsigned batches = 0;

	(void)arg;
	for (;;) {
		size_t count = 0;
		struct record *record = queue_pop(&queue);

		while (record != NULL) {
			batch[count++] = record;
			record = count < ARRAY_COUNT(batch) ? queue_try_pop(&queue) : NULL;
		}
		if (count == 0)
			return NULL;
		MUST(index_apply(index_, batch, count) == 0);
		while (count > 0)
			record_free(batch[--count]);
		if (++batches % 32 == 0)
			MUST(index_checkpoint(index_) == 0);
	}
}

/* A step whose effect was seen is noted, or will be at once. */
static void wait_for_step(unsigned file, uint64_t step)
{
	while (atomic_load(&noted[file]) < step && !atomic_load(&is_noted))
		sched_yield();
	MUST(atomic_load(&noted[file]) >= step);
}

static void read_file(struct index_reader *reader, unsigned file)
{
	AUTO(extent_list) extents = ROW_LIST_INIT;
	uint64_t before = atomic_load(&noted[file]), covered, at = 0;
	struct inode_row inode;
	struct chunk_row chunk;
	int r;

	MUST(index_get_inode(index_, reader, 2 + file, &inode) == 0);
	MUST(inode.size >= before);
	before = atomic_load(&noted[file]);
	MUST(index_find_extents(index_, reader, 2 + file, 0, 1000, 100, &extents, &covered) == 0);
	MUST(covered == 1000);
	for (size_t i = 0; i < extents.count; i++) {
		const struct extent_row *row = &extents.rows[i];

		MUST(row->chunk_no >= number_of(file, before));
		MUST(row->off == at || (row->off == 510 && at == 500));
		at = row->off + row->len;
	}
	MUST(at == 1000);
	/* What an extent names is there, unless a later step took it away. */
	r = index_get_chunk(index_, reader, extents.rows[0].chunk_no, &chunk);
	if (r == -ENOENT)
		wait_for_step(file, extents.rows[0].chunk_no / FILES + 1);
	else
		MUST(r == 0 && chunk.chunk_no == extents.rows[0].chunk_no);
}

static void read_name(struct index_reader *reader, unsigned file)
{
	uint64_t before = atomic_load(&noted[file]);
	struct dirent_row row;
	char buf[64];
	int r = index_find_dirent(index_, reader, 1, name_of(file, before, buf, sizeof(buf)), &row);

	if (r == -EAGAIN && reader == NULL)
		return;
	MUST(r == 0 || r == -ENOENT);
	if (r == 0)
		MUST(row.cookie >= number_of(file, before));
	else
		wait_for_step(file, before + 1); /* it took the name away */
}

static void list_names(struct index_reader *reader)
{
	AUTO(dirent_list) names = ROW_LIST_INIT;
	uint64_t before[FILES];

	for (unsigned i = 0; i < FILES; i++)
		before[i] = atomic_load(&noted[i]);
	MUST(index_list_dirents(index_, reader, 1, 0, 10 * FILES, &names) == 0);
	for (size_t i = 0; i < names.count; i++) {
		uint64_t file = names.rows[i].ino - 2;

		MUST(file < FILES);
		MUST(names.rows[i].cookie >= number_of((unsigned)file, before[file]));
		MUST(i == 0 || names.rows[i].cookie > names.rows[i - 1].cookie);
	}
}

static void *read_steps(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;
	struct index_reader *reader;

	MUST(index_reader_open(index_, &reader) == 0);
	while (!atomic_load(&is_over)) {
		unsigned file = (unsigned)((random = map_hash_u64(random)) % FILES);

		if (random & 0x20000)
			index_reader_hold(reader); /* answers are as fresh as without */
		read_file(reader, file);
		read_name(random & 0x10000 ? reader : NULL, file);
		if (random % 7 == 0)
			list_names(reader);
		index_reader_let_go(reader);
		atomic_fetch_add(&answers, 1);
	}
	index_reader_close(reader);
	return NULL;
}

static void found(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "violation: %s\n", text);
}

int main(void)
{
	struct inode_row root = {.ino = 1, .mode = S_IFDIR | 0755, .nlink = 2, .parent = 1,
				 .policy_root = 1};
	pthread_t noter, applier, readers[READERS];
	const char *dir = getenv("TMPDIR");
	struct index_settings settings = {.cache_dirents_max = 20, .page_cache_bytes = MIB};
	struct index_reader *reader;
	AUTO(buf) why = BUF_INIT;
	struct record *first;
	uint64_t violations;
	char path[512];
	uint64_t start;

	snprintf(path, sizeof(path), "%s/index-stress-%d.db", dir != NULL ? dir : "/tmp",
		 (int)getpid());
	settings.path = path;
	MUST(index_create(path, &root) == 0);
	MUST(index_open(&settings, &why, &index_) == 0);
	MUST(queue_init(&queue, 256) == 0);
	first = record_new();
	first->seq = 1;
	record_put_shard(first, &(struct shard_row){.shard_no = 1, .state = SHARD_OPEN});
	for (unsigned i = 0; i < FILES; i++) {
		struct record *step = make_step(i, 1, 1);

		MUST(buf_append(&first->changes, buf_bytes(&step->changes)) == 0);
		record_free(step);
		atomic_store(&noted[i], 1);
	}
	MUST(index_note(index_, first) == 0);
	MUST(queue_push(&queue, first) == 0);
	MUST(thread_start(&noter, "noter", note_steps, NULL) == 0);
	MUST(thread_start(&applier, "applier", apply_steps, NULL) == 0);
	for (uintptr_t i = 0; i < READERS; i++)
		MUST(thread_start(&readers[i], "reader", read_steps, (void *)(i + 1)) == 0);
	start = clock_mono_ms();
	while (clock_mono_ms() - start < RUN_MS)
		sched_yield();
	atomic_store(&is_over, true);
	pthread_join(noter, NULL);
	pthread_join(applier, NULL);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	MUST(index_reader_open(index_, &reader) == 0);
	MUST(index_prove(index_, reader, found, NULL, &violations) == 0);
	MUST(violations == 0);
	printf("%" PRIu64 " records, %" PRIu64 " answers\n", index_applied_seq(index_),
	       atomic_load(&answers));
	index_reader_close(reader);
	index_close(index_);
	queue_release(&queue);
	unlink(path);
	return 0;
}
