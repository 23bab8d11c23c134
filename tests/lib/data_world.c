/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/data_world.h"

#include "store/journal.h"
#include "store/sequencer.h"
#include "util/map.h"

#include "tests/lib/check.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what the store does for the spool ---- */

static int submit(struct data_world *world, struct record *record)
{
	uint64_t seq;

	return sequencer_submit(world->sequencer, record, &seq);
}

static int on_opened(void *ctx, struct shard_row *shard)
{
	struct data_world *world = ctx;
	struct record *record;
	int r = atomic_load(&world->open_error);

	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	shard->shard_no = atomic_fetch_add(&world->next_shard_no, 1);
	record_put_shard(record, shard);
	atomic_fetch_add(&world->opened, 1);
	return submit(world, record);
}

static void on_sealed(void *ctx, const struct shard_row *shard)
{
	struct data_world *world = ctx;
	int r = -ENOMEM;

	/* a test that fails an allocation fails one only; if it was the journal's, that tries again */
	for (unsigned attempt = 0; r == -ENOMEM && attempt < 60000; attempt++) {
		struct record *record = record_new();

		if (attempt > 0)
			usleep(1000);
		if (record) {
			record_put_shard(record, shard);
			r = submit(world, record);
		}
	}
	cr_assert_eq(r, 0);
	world->last_sealed = *shard;
	atomic_fetch_add(&world->sealed, 1);
}

static int on_moved(void *ctx, const struct chunk_row *old, const struct chunk_row *now)
{
	struct data_world *world = ctx;
	struct record *record;
	int r = atomic_load(&world->move_error);

	if (r < 0)
		return r;
	cr_assert_eq(old->chunk_no, now->chunk_no);
	cr_assert_neq(old->shard_no, now->shard_no);
	record = record_new();
	record_put_chunk(record, now);
	atomic_fetch_add(&world->moved, 1);
	return submit(world, record);
}

static void on_bad(void *ctx, uint64_t chunk_no)
{
	struct data_world *world = ctx;

	(void)chunk_no;
	atomic_fetch_add(&world->bad, 1);
}

static int on_settle(void *ctx)
{
	struct data_world *world = ctx;

	atomic_fetch_add(&world->settled, 1);
	return sequencer_wait_synced(world->sequencer, sequencer_last_seq(world->sequencer));
}

static void on_gone(void *ctx, const struct shard_row *shard)
{
	struct data_world *world = ctx;
	struct record *record = record_new();

	record_del_shard(record, shard->shard_no);
	cr_assert_eq(submit(world, record), 0);
	atomic_fetch_add(&world->gone, 1);
}

static int on_sync(void *ctx)
{
	struct data_world *world = ctx;

	return spool_sync(world->spool);
}

/* ---- life ---- */

static void open_all(struct data_world *world)
{
	char index_path[300], journal_path[300];
	struct index_settings index = {.path = index_path, .cache_dirents_max = 100,
				       .page_cache_bytes = MIB};
	struct journal_settings journal = {.dir = journal_path, .keyring = world->keyring,
					   .file_bytes_max = 64 * MIB, .writer_epoch = 1};
	struct sequencer_settings sequencer = {.commit_interval_ms = 5000,
					       .backlog_records_max = 100000,
					       .backlog_bytes_max = 64 * MIB,
					       .sync_spool = on_sync, .ctx = world};
	AUTO(buf) why = BUF_INIT;

	snprintf(index_path, sizeof(index_path), "%s/index.db", world->dir);
	snprintf(journal_path, sizeof(journal_path), "%s/journal", world->dir);
	cr_assert_eq(index_open(&index, &why, &world->index), 0, "%s", buf_str(&why));
	cr_assert_eq(index_reader_open(world->index, &world->reader), 0);
	world->spool_settings.keyring = world->keyring;
	world->spool_settings.index = world->index;
	cr_assert_eq(spool_open(&world->spool_settings, &world->spool), 0);
	sequencer.next_seq = index_applied_seq(world->index) + 1;
	sequencer.index = world->index;
	cr_assert_eq(journal_open(&journal, sequencer.next_seq, &world->journal), 0);
	sequencer.journal = world->journal;
	cr_assert_eq(sequencer_start(&sequencer, &world->sequencer), 0);
	cr_assert_eq(dedup_new(&world->dedup), 0);
	world->chunks.index = world->index;
	world->chunks.sequencer = world->sequencer;
	world->chunks.spool = world->spool;
	world->chunks.dedup = world->dedup;
	world->chunks.keyring = world->keyring;
	atomic_store(&world->chunks.compression_level, 1);
}

/* In the order of the store: no callback runs into what is gone. */
static void close_all(struct data_world *world)
{
	spool_stop(world->spool);
	cr_assert_eq(sequencer_stop(world->sequencer), 0);
	sequencer_free(world->sequencer);
	journal_close(world->journal);
	spool_close(world->spool);
	dedup_free(world->dedup);
	index_reader_close(world->reader);
	index_close(world->index);
}

void data_world_init(struct data_world *world, const struct spool_settings *wanted)
{
	struct inode_row root = {.ino = INO_ROOT, .mode = 0040755, .nlink = 2};
	struct credentials credentials = CREDENTIALS_INIT;
	struct superblock sb = {.chunk_min_bytes = 64 << 10, .chunk_avg_bytes = 256 << 10,
				.chunk_max_bytes = 1 << 20};
	const char *tmp = getenv("TMPDIR");
	char path[300];

	memset(world, 0, sizeof(*world));
	snprintf(world->dir, sizeof(world->dir), "%s/data-world-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(world->dir));
	cr_assert_eq(secret_set(&credentials.passphrase, bytes_of_str("test")), 0);
	cr_assert_eq(keyring_create(&credentials, KDF_PARAMS_TEST, "test", &sb, &world->keyring), 0);
	world->superblock = sb;
	credentials_release(&credentials);
	snprintf(path, sizeof(path), "%s/index.db", world->dir);
	cr_assert_eq(index_create(path, &root), 0);
	world->spool_settings = wanted ? *wanted : (struct spool_settings){0};
	if (!world->spool_settings.shard_bytes)
		world->spool_settings.shard_bytes = MIB;
	if (!world->spool_settings.open_shards_max)
		world->spool_settings.open_shards_max = 4;
	if (!world->spool_settings.size_max)
		world->spool_settings.size_max = GIB;
	snprintf(path, sizeof(path), "%s/journal", world->dir);
	cr_assert_eq(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/spool", world->dir);
	world->spool_settings.dir = mem_strdup(path);
	world->spool_settings.opened = on_opened;
	world->spool_settings.sealed = on_sealed;
	world->spool_settings.moved = on_moved;
	world->spool_settings.bad = on_bad;
	world->spool_settings.settle = on_settle;
	world->spool_settings.gone = on_gone;
	world->spool_settings.writer_epoch = 1;
	world->spool_settings.ctx = world;
	atomic_store(&world->next_shard_no, 1);
	atomic_store(&world->chunks.next_chunk_no, 1);
	cr_assert_eq(aead_ctx_new(&world->aead), 0);
	open_all(world);
}

void data_world_release(struct data_world *world)
{
	char command[400];

	close_all(world);
	aead_ctx_free(world->aead);
	keyring_free(world->keyring);
	mem_free((void *)(uintptr_t)world->spool_settings.dir);
	snprintf(command, sizeof(command), "rm -rf '%s'", world->dir);
	cr_assert_eq(system(command), 0);
}

void data_world_restart(struct data_world *world, bool recover)
{
	close_all(world);
	open_all(world);
	if (recover)
		cr_assert_eq(spool_recover(world->spool, world->reader), 0);
}

/* ---- bytes ---- */

struct shard_class data_class(uint64_t policy_root)
{
	return (struct shard_class){.policy_root = policy_root, .priority = 2, .key_epoch = 1};
}

void data_fill(uint64_t number, void *out, size_t len)
{
	uint8_t *p = out;
	uint64_t word = 0;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0)
			word = map_hash_u64(number * 0x100000 + i / 8 + 1);
		p[i] = (uint8_t)(word >> i % 8 * 8);
	}
}

struct chunk_row data_append(struct data_world *world, uint64_t policy_root, uint64_t number,
			     size_t len)
{
	struct shard_class class = data_class(policy_root);
	struct chunk_row row = {.chunk_no = atomic_fetch_add(&world->chunks.next_chunk_no, 1)};
	struct record *record = record_new();
	struct chunk_id id;
	uint8_t *bytes = mem_alloc_raw(len);

	data_fill(number, bytes, len);
	data_fill(number, id.b, sizeof(id.b));
	cr_assert_eq(spool_append(world->spool, world->aead, &class, &id, 0, (uint32_t)len,
				  bytes_of(bytes, len), &row), 0);
	mem_free(bytes);
	record_put_chunk(record, &row);
	cr_assert_eq(submit(world, record), 0);
	spool_append_done(world->spool, row.shard_no);
	return row;
}

bool data_reads_back(struct data_world *world, const struct chunk_row *chunk, uint64_t number)
{
	AUTO(buf) sealed = BUF_INIT;
	struct pack_keys keys;
	struct pack_record record;
	struct shard_row shard;
	uint8_t *expected = mem_alloc_raw(chunk->raw_len);
	bool is_same;

	data_fill(number, expected, chunk->raw_len);
	cr_assert_eq(index_get_shard(world->index, world->reader, chunk->shard_no, &shard), 0);
	cr_assert_eq(pack_keys_init(&keys, world->keyring, shard.key_epoch, &shard.id), 0);
	is_same = spool_read(world->spool, chunk->shard_no, chunk->off, chunk->stored_len,
			     &sealed) == 0 &&
		  pack_open_record(world->aead, &keys, chunk->record_no, buf_bytes(&sealed),
				   sealed.ptr, &record) == 0 &&
		  chunk_id_is_equal(&record.id, &chunk->id) &&
		  record.payload.len == chunk->raw_len &&
		  memcmp(record.payload.ptr, expected, chunk->raw_len) == 0;
	mem_free(expected);
	return is_same;
}

struct chunk_row data_chunk_now(struct data_world *world, uint64_t chunk_no)
{
	struct chunk_row row;

	cr_assert_eq(index_get_chunk(world->index, world->reader, chunk_no, &row), 0);
	return row;
}

void data_path(struct data_world *world, uint64_t shard_no, char out[512])
{
	struct shard_row shard;

	cr_assert_eq(index_get_shard(world->index, world->reader, shard_no, &shard), 0);
	snprintf(out, 512, "%s/%s", world->spool_settings.dir, shard_id_hex(&shard.id).s);
}

void data_put_extent(struct data_world *world, uint64_t ino, uint64_t off, uint32_t len,
		     uint64_t chunk_no, uint32_t chunk_off)
{
	struct record *record = record_new();
	struct extent_row extent = {.ino = ino, .off = off, .len = len, .chunk_no = chunk_no,
				    .chunk_off = chunk_off};

	record_put_extent(record, &extent);
	cr_assert_eq(submit(world, record), 0);
}

void data_put_copy(struct data_world *world, uint64_t shard_no, uint32_t state)
{
	struct record *record = record_new();
	struct copy_row copy = {.shard_no = shard_no, .provider_no = 1, .state = state};

	record_put_copy(record, &copy);
	cr_assert_eq(submit(world, record), 0);
}

void data_wait_applied(struct data_world *world)
{
	cr_assert_eq(sequencer_wait_applied(world->sequencer,
					    sequencer_last_seq(world->sequencer)), 0);
}
