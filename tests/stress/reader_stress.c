/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of overlapping ranges with little memory, read-ahead and a disk cache,
 * while shards are sealed, leave the spool for the cache, and fall out of it.
 * Nobody gets another byte than was written.
 */
#include "store/reader.h"
#include "store/sequencer.h"
#include "util/file.h"
#include "util/map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define READERS	  4
#define CHUNKS	  120
#define CHUNK_LEN 20000u
#define FILE_LEN  ((uint64_t)CHUNKS * CHUNK_LEN)
#define ROUNDS	  150
#define INO	  7

static char dir[256];
static struct keyring *keyring;
static struct index *index_;
static struct spool *spool;
static struct cache *cache;
static struct reader *reader;
static _Atomic uint64_t next_shard_no = 1, seq, fetched;
static _Atomic bool is_over;

static void fail(const char *what, int r)
{
	fprintf(stderr, "reader_stress: %s: %d\n", what, r);
	abort();
}

static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(map_hash_u64(off / 8 + 1) >> off % 8 * 8);
}

static pthread_mutex_t note_lock = PTHREAD_MUTEX_INITIALIZER;

/* What the sequencer does, without a journal. */
static void note(struct record *record)
{
	int r;

	pthread_mutex_lock(&note_lock);
	record->seq = atomic_fetch_add(&seq, 1) + 1;
	r = index_note(index_, record);
	if (r == 0)
		r = index_apply(index_, &record, 1);
	pthread_mutex_unlock(&note_lock);
	record_free(record);
	if (r < 0)
		fail("note", r);
}

static int on_opened(void *ctx, struct shard_row *shard)
{
	struct record *record = record_new();

	(void)ctx;
	shard->shard_no = atomic_fetch_add(&next_shard_no, 1);
	record_put_shard(record, shard);
	note(record);
	return 0;
}

static void on_sealed(void *ctx, const struct shard_row *shard)
{
	struct record *record = record_new();

	(void)ctx;
	record_put_shard(record, shard);
	note(record);
}

static void path_of(const struct shard_id *id, char path[400])
{
	snprintf(path, 400, "%s/provider/%s", dir, shard_id_hex(id).s);
}

static int fetch(void *ctx, struct index_reader *connection, const struct shard_row *shard,
		 uint32_t off, uint32_t len, int (*check)(void *ctx, struct bytes bytes),
		 void *check_ctx, struct buf *out)
{
	char path[400];
	AUTO_FD fd = -1;
	int r;

	(void)ctx;
	(void)connection;
	path_of(&shard->id, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -EIO;
	atomic_fetch_add(&fetched, 1);
	r = file_pread_buf(fd, len, off, out);
	return r < 0 ? r : check(check_ctx, buf_bytes(out));
}

static void write_file(void)
{
	static uint8_t bytes[CHUNK_LEN];
	struct shard_class class = {.policy_root = 1, .key_epoch = 1};
	struct aead_ctx *ctx;

	if (aead_ctx_new(&ctx) < 0)
		fail("context", 0);
	for (uint64_t i = 0; i < CHUNKS; i++) {
		struct chunk_row row = {.chunk_no = i + 1};
		struct extent_row extent = {.ino = INO, .off = i * CHUNK_LEN, .len = CHUNK_LEN,
					    .chunk_no = i + 1};
		struct chunk_id id = {{(uint8_t)i, (uint8_t)(i >> 8)}};
		struct record *record = record_new();
		int r;

		for (uint64_t at = 0; at < CHUNK_LEN; at++)
			bytes[at] = byte_at(i * CHUNK_LEN + at);
		r = spool_append(spool, ctx, &class, &id, 0, CHUNK_LEN, bytes_of(bytes, CHUNK_LEN),
				 &row);
		if (r < 0)
			fail("append", r);
		record_put_chunk(record, &row);
		record_put_extent(record, &extent);
		note(record);
		spool_append_done(spool, row.shard_no);
	}
	aead_ctx_free(ctx);
}

static void *read_run(void *arg)
{
	uint64_t state = (uintptr_t)arg * 104729;
	struct index_reader *connection;
	struct reader_stream stream = {0};
	uint8_t *out = malloc(256 * 1024);
	uint64_t off = 0;

	if (!out || index_reader_open(index_, &connection) < 0)
		fail("connection", 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		size_t len = 1 + map_hash_u64(++state) % 150000;
		int r;

		if (i % 16 == 0)
			off = map_hash_u64(++state) % FILE_LEN;
		if (off >= FILE_LEN)
			off = 0;
		len = MIN(len, FILE_LEN - off);
		r = reader_read(reader, connection, INO, off, len, out);
		if (r < 0)
			fail("read", r);
		for (size_t at = 0; at < len; at += 61)
			if (out[at] != byte_at(off + at))
				fail("other bytes", 0);
		reader_note_read(reader, &stream, INO, off, len, FILE_LEN);
		r = reader_read(reader, NULL, INO, off, MIN(len, (size_t)100), out);
		if (r < 0 && r != -EAGAIN)
			fail("read of memory", r);
		off += len;
	}
	index_reader_close(connection);
	free(out);
	return NULL;
}

/* One after the other: a copy at the provider, then from spool to cache; then the cache is shaken. */
static void *release_run(void *arg)
{
	struct index_reader *connection = arg;

	for (unsigned turn = 0; !atomic_load(&is_over); turn++) {
		uint64_t no = 1 + turn % (atomic_load(&next_shard_no) - 1);
		struct shard_row shard;
		char path[400], to[400], command[900];

		if (index_get_shard(index_, connection, no, &shard) < 0)
			fail("shard", 0);
		if (!spool_has(spool, no)) {
			if (turn % 3 == 0)
				cache_drop(cache, &shard.id);
			continue;
		}
		path_of(&shard.id, path);
		snprintf(command, sizeof(command), "cp '%s/spool/%s' '%s'", dir,
			 shard_id_hex(&shard.id).s, path);
		if (system(command) != 0)
			fail("copy", 0);
		if (cache_path_for(cache, &shard.id, shard.object_len, to, sizeof(to)) < 0)
			fail("cache", 0);
		if (spool_release(spool, no, to) < 0)
			fail("release", 0);
		cache_adopt(cache, &shard.id, shard.object_len);
	}
	return NULL;
}

static void open_all(void)
{
	struct credentials credentials = CREDENTIALS_INIT;
	struct superblock sb = {.chunk_min_bytes = 64 << 10, .chunk_avg_bytes = 256 << 10,
				.chunk_max_bytes = 1 << 20};
	struct inode_row root = {.ino = INO_ROOT, .mode = 0040755, .nlink = 2};
	char index_path[300], spool_path[300], cache_path[300];
	struct index_settings index = {.path = index_path, .cache_dirents_max = 10,
				       .page_cache_bytes = MIB};
	struct spool_settings s = {.dir = spool_path, .shard_bytes = 200000, .open_shards_max = 2,
				   .size_max = GIB, .opened = on_opened, .sealed = on_sealed};
	struct reader_settings settings = {.decoded_bytes_max = 600000,
					   .read_ahead_bytes_max = 500000, .prefetch_threads = 2,
					   .fetch = fetch};
	AUTO(buf) why = BUF_INIT;
	int r = secret_set(&credentials.passphrase, bytes_of_str("x"));

	if (r == 0)
		r = keyring_create(&credentials, KDF_PARAMS_TEST, "x", &sb, &keyring);
	credentials_release(&credentials);
	snprintf(index_path, sizeof(index_path), "%s/index.db", dir);
	snprintf(spool_path, sizeof(spool_path), "%s/provider", dir);
	mkdir(spool_path, 0700);
	snprintf(spool_path, sizeof(spool_path), "%s/spool", dir);
	snprintf(cache_path, sizeof(cache_path), "%s/cache", dir);
	if (r == 0)
		r = index_create(index_path, &root);
	if (r == 0)
		r = index_open(&index, &why, &index_);
	s.keyring = settings.keyring = keyring;
	s.index = settings.index = index_;
	if (r == 0)
		r = spool_open(&s, &spool);
	if (r == 0)
		r = cache_open(cache_path, 1500000, &cache);
	settings.spool = spool;
	settings.cache = cache;
	if (r == 0)
		r = reader_open(&settings, &reader);
	if (r < 0)
		fail("open", r);
}

int main(void)
{
	pthread_t readers[READERS], releaser;
	struct index_reader *connection;
	const char *tmp = getenv("TMPDIR");
	char command[300];
	int r;

	snprintf(dir, sizeof(dir), "%s/reader-stress-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		fail("mkdtemp", -errno);
	open_all();
	write_file();
	r = spool_seal_all(spool, 0);
	if (r == 0)
		r = index_reader_open(index_, &connection);
	if (r < 0)
		fail("seal", r);
	for (uintptr_t i = 0; i < READERS; i++)
		if (pthread_create(&readers[i], NULL, read_run, (void *)(i + 1)) != 0)
			fail("thread", 0);
	if (pthread_create(&releaser, NULL, release_run, connection) != 0)
		fail("thread", 0);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	atomic_store(&is_over, true);
	pthread_join(releaser, NULL);
	printf("fetched %llu ranges\n", (unsigned long long)fetched);
	reader_close(reader);
	cache_close(cache);
	spool_close(spool);
	index_reader_close(connection);
	index_close(index_);
	keyring_free(keyring);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) == 0 ? 0 : 1;
}
