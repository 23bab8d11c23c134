/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appends from several threads into the shards of two classes while others read
 * back, sync, seal, map and release.  What a record held is there, or its shard
 * was released.
 */
#include "store/spool.h"
#include "util/clock.h"
#include "util/map.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define APPENDERS   4
#define EACH	    600
#define RECORD_LEN  3000
#define SHARD_BYTES (100 * 1000)
#define SHARDS_MAX  4096

static struct spool *spool;
static struct keyring *keyring;
static _Atomic uint64_t next_shard_no = 1, appended, released, read_back;
static _Atomic bool is_over;
static struct shard_row rows[SHARDS_MAX]; /* by shard_no, written before known_to moves on */
static _Atomic bool is_sealed[SHARDS_MAX];

static void fail(const char *what, int r)
{
	fprintf(stderr, "spool_stress: %s: %d\n", what, r);
	abort();
}

static int on_opened(void *ctx, struct shard_row *shard)
{
	(void)ctx;
	shard->shard_no = atomic_fetch_add(&next_shard_no, 1);
	if (shard->shard_no >= SHARDS_MAX)
		fail("too many shards", 0);
	rows[shard->shard_no] = *shard;
	return 0;
}

static void on_sealed(void *ctx, const struct shard_row *shard)
{
	(void)ctx;
	atomic_store(&is_sealed[shard->shard_no], true);
}

static void check(struct aead_ctx *ctx, const struct chunk_row *chunk, uint8_t first)
{
	AUTO(buf) sealed = BUF_INIT;
	struct pack_keys keys;
	struct pack_record record;
	int r = spool_read(spool, chunk->shard_no, chunk->off, chunk->stored_len, &sealed);

	if (r == -ENOENT)
		return; /* released */
	if (r == 0)
		r = pack_keys_init(&keys, keyring, 1, &rows[chunk->shard_no].id);
	if (r == 0)
		r = pack_open_record(ctx, &keys, chunk->record_no, buf_bytes(&sealed), sealed.ptr,
				     &record);
	if (r < 0)
		fail("read back", r);
	if (record.payload.ptr[0] != first || record.payload.len != RECORD_LEN)
		fail("other bytes", 0);
	atomic_fetch_add(&read_back, 1);
}

static void *append_run(void *arg)
{
	uint64_t state = (uintptr_t)arg * 7919;
	struct aead_ctx *ctx;
	struct chunk_row mine[8] = {{0}};
	uint8_t bytes[RECORD_LEN] = {0};

	if (aead_ctx_new(&ctx) < 0)
		fail("context", 0);
	for (unsigned i = 0; i < EACH; i++) {
		struct shard_class class = {.policy_root = 1 + i % 2, .key_epoch = 1};
		struct chunk_id id = {{(uint8_t)i}};
		struct chunk_row row = {.chunk_no = ++state};
		int r;

		bytes[0] = (uint8_t)i;
		r = spool_append(spool, ctx, &class, &id, 0, RECORD_LEN,
				 bytes_of(bytes, RECORD_LEN), &row);
		if (r < 0)
			fail("append", r);
		spool_append_done(spool, row.shard_no);
		mine[i % 8] = row;
		check(ctx, &row, (uint8_t)i);
		if (i >= 8)
			check(ctx, &mine[(i + 3) % 8], (uint8_t)(i - 5));
		atomic_fetch_add(&appended, 1);
	}
	aead_ctx_free(ctx);
	return NULL;
}

static void *sync_run(void *arg)
{
	(void)arg;
	while (!atomic_load(&is_over)) {
		int r = spool_sync(spool);

		if (r < 0)
			fail("sync", r);
		spool_seal_idle(spool);
		spool_bytes_used(spool);
	}
	return NULL;
}

static void *release_run(void *arg)
{
	(void)arg;
	while (!atomic_load(&is_over)) {
		for (uint64_t no = 1; no < atomic_load(&next_shard_no) && no < SHARDS_MAX; no++) {
			struct bytes object;
			void *handle;
			int r;

			if (!atomic_load(&is_sealed[no]) || !spool_has(spool, no))
				continue;
			r = spool_map(spool, no, &object, &handle);
			if (r < 0)
				fail("map", r);
			r = spool_release(spool, no, NULL);
			if (r < 0)
				fail("release", r);
			if (memcmp(object.ptr, "SHARDFS1", 8) != 0)
				fail("mapping", 0);
			spool_unmap(handle);
			atomic_fetch_add(&released, 1);
		}
		sched_yield();
	}
	return NULL;
}

int main(void)
{
	struct credentials credentials = CREDENTIALS_INIT;
	struct superblock sb = {.chunk_min_bytes = 64 << 10, .chunk_avg_bytes = 256 << 10,
				.chunk_max_bytes = 1 << 20};
	struct spool_settings settings = {.shard_bytes = SHARD_BYTES, .open_shards_max = 2,
					  .idle_ms = 5, .size_max = GIB, .opened = on_opened,
					  .sealed = on_sealed};
	pthread_t appenders[APPENDERS], syncer, releaser;
	const char *tmp = getenv("TMPDIR");
	char dir[300], command[400];
	int r;

	snprintf(dir, sizeof(dir), "%s/spool-stress-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		fail("mkdtemp", -errno);
	r = secret_set(&credentials.passphrase, bytes_of_str("x"));
	if (r == 0)
		r = keyring_create(&credentials, KDF_PARAMS_TEST, "x", &sb, &keyring);
	credentials_release(&credentials);
	settings.dir = dir;
	settings.keyring = keyring;
	if (r == 0)
		r = spool_open(&settings, &spool);
	if (r < 0)
		fail("open", r);
	r = pthread_create(&syncer, NULL, sync_run, NULL);
	r |= pthread_create(&releaser, NULL, release_run, NULL);
	for (uintptr_t i = 0; i < APPENDERS; i++)
		r |= pthread_create(&appenders[i], NULL, append_run, (void *)(i + 1));
	if (r != 0)
		fail("threads", -r);
	for (unsigned i = 0; i < APPENDERS; i++)
		pthread_join(appenders[i], NULL);
	r = spool_seal_all(spool, 0);
	if (r < 0)
		fail("seal", r);
	atomic_store(&is_over, true);
	pthread_join(syncer, NULL);
	pthread_join(releaser, NULL);
	printf("appended %llu, read back %llu, shards %llu, released %llu\n",
	       (unsigned long long)appended, (unsigned long long)read_back,
	       (unsigned long long)next_shard_no - 1, (unsigned long long)released);
	spool_close(spool);
	keyring_free(keyring);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) == 0 ? 0 : 1;
}
