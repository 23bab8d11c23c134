/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the spool and the transfer tell of shards, as records: opened, sealed,
 * durable, moved, gone.  A spool file is dropped only after the record that
 * says "durable" has been applied, hence synced: releases wait in a list for
 * the applier.
 */
#include "store/store_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>

int store_on_shard_opened(void *ctx, struct shard_row *shard)
{
	struct store *store = ctx;
	struct record *record = record_new();
	uint64_t seq;

	if (!record)
		return -ENOMEM;
	shard->shard_no = store->priv->next_shard_no++;
	shard->state = SHARD_OPEN;
	record_put_shard(record, shard);
	return sequencer_submit(store->sequencer, record, &seq);
}

/* A sealed shard of which the index was not told yet. */
struct unrecorded {
	struct list link;
	struct shard_row row;
};

static int record_sealed(struct store *store, const struct shard_row *shard)
{
	struct record *record = record_new();
	uint64_t seq;
	int r;

	if (!record)
		return -ENOMEM;
	record_put_shard(record, shard);
	r = sequencer_submit(store->sequencer, record, &seq);
	if (r == 0)
		transfer_add(store->transfer, shard);
	return r;
}

/* Called when something was applied: then the journal takes records again. */
static void record_again(struct store *store)
{
	struct unrecorded *first = NULL;

	do {
		mem_free(first);
		first = NULL;
		lock_take(&store->priv->lock);
		if (!list_is_empty(&store->priv->unrecorded)) {
			first = container_of(store->priv->unrecorded.next, struct unrecorded, link);
			list_remove(&first->link);
		}
		lock_drop(&store->priv->lock);
	} while (first && record_sealed(store, &first->row) == 0);
	if (!first)
		return;
	lock_take(&store->priv->lock);
	list_push_back(&store->priv->unrecorded, &first->link);
	lock_drop(&store->priv->lock);
}

void store_on_shard_sealed(void *ctx, const struct shard_row *shard)
{
	struct store *store = ctx;
	struct unrecorded *unrecorded;
	int r = record_sealed(store, shard);

	if (r == 0)
		return;
	unrecorded = mem_alloc(sizeof(*unrecorded));
	/* it stays in the spool and is found there by the next mount */
	log_error("shard-seal-unrecorded", "shard=%s error=%s next=\"%s\"",
		  shard_id_hex(&shard->id).s, err_name(r),
		  unrecorded ? "tried again" : "at the next mount");
	if (!unrecorded)
		return;
	unrecorded->row = *shard;
	lock_take(&store->priv->lock);
	list_push_back(&store->priv->unrecorded, &unrecorded->link);
	lock_drop(&store->priv->lock);
	record_again(store); /* what would tell us may have been applied meanwhile */
}

struct release {
	struct list link;
	uint64_t shard_no, seq;
	struct shard_id id;
	uint64_t object_len;
};

static void hurried(struct waiter *waiter, int error)
{
	(void)error; /* the sequencer tries again by itself */
	mem_free(waiter);
}

/* Writers wait for room: the record is applied now instead of at the commit interval. */
static void hurry(struct store *store, uint64_t seq)
{
	struct waiter *waiter = mem_alloc(sizeof(*waiter));

	if (!waiter)
		return;
	waiter->done = hurried;
	sequencer_when_applied(store->sequencer, seq, waiter);
}

/* Enough copies are acknowledged: say so in the journal; the file goes when that is applied. */
void store_on_shard_durable(void *ctx, uint64_t shard_no)
{
	struct store *store = ctx;
	struct release *release;
	struct shard_row shard;
	struct record *record;
	uint64_t seq = 0;
	int r = index_get_shard(store->index, NULL, shard_no, &shard);

	if (r == -EAGAIN) {
		struct index_reader *reader;

		r = index_reader_open(store->index, &reader);
		if (r == 0) {
			r = index_get_shard(store->index, reader, shard_no, &shard);
			index_reader_close(reader);
		}
	}
	if (r < 0 || shard.state != SHARD_SEALED)
		return;
	release = mem_alloc(sizeof(*release));
	record = record_new();
	if (!release || !record) {
		mem_free(release);
		record_free(record);
		return; /* found again at the next mount */
	}
	shard.state = SHARD_DURABLE;
	record_put_shard(record, &shard);
	release->shard_no = shard_no;
	release->id = shard.id;
	release->object_len = shard.object_len;
	release->seq = UINT64_MAX;
	lock_take(&store->priv->lock);
	list_push_back(&store->priv->releases, &release->link);
	lock_drop(&store->priv->lock);
	r = sequencer_submit(store->sequencer, record, &seq);
	lock_take(&store->priv->lock);
	release->seq = seq;
	if (r < 0)
		list_remove(&release->link);
	lock_drop(&store->priv->lock);
	if (r < 0)
		mem_free(release);
	else if (index_applied_seq(store->index) >= seq)
		store_on_applied(store, seq); /* it was quicker than we were */
	else if (store_is_tight(store))
		hurry(store, seq);
}

static void release_one(struct store *store, const struct release *release)
{
	char path[4096];
	bool to_cache = store->cache && cache_path_for(store->cache, &release->id,
						       release->object_len, path,
						       sizeof(path)) == 0;
	int r = spool_release(store->spool, release->shard_no, to_cache ? path : NULL);

	store->priv->drained_bytes += release->object_len;
	store->priv->drained_ms = clock_mono_ms();
	if (r == 0 && to_cache)
		cache_adopt(store->cache, &release->id, release->object_len);
	if (r < 0 && r != -ENOENT)
		log_warn("spool-release-failed", "shard=%s error=%s next=\"at the next mount\"",
			 shard_id_hex(&release->id).s, err_name(r));
}

void store_on_applied(void *ctx, uint64_t seq)
{
	struct store *store = ctx;
	struct list ready = LIST_INIT(ready);

	lock_take(&store->priv->lock);
	list_for_each(pos, &store->priv->releases) {
		struct release *release = container_of(pos, struct release, link);

		if (release->seq > seq)
			continue;
		list_remove(pos);
		list_push_back(&ready, pos);
	}
	lock_drop(&store->priv->lock);
	list_for_each(pos, &ready) {
		struct release *release = container_of(pos, struct release, link);

		list_remove(pos);
		release_one(store, release);
		mem_free(release);
	}
	record_again(store);
}

int store_sync_spool(void *ctx)
{
	struct store *store = ctx;

	return spool_sync(store->spool);
}

void store_on_noted(void *ctx, struct record *const *records, size_t count)
{
	struct store *store = ctx;

	oplog_note(store->priv->oplog, records, count);
}

uint64_t store_drop_limit(void *ctx)
{
	struct store *store = ctx;

	return oplog_drop_limit(store->priv->oplog);
}

int store_on_chunk_moved(void *ctx, const struct chunk_row *old, const struct chunk_row *now)
{
	struct store *store = ctx;
	struct record *record = record_new();
	uint64_t seq;

	(void)old;
	if (!record)
		return -ENOMEM;
	record_put_chunk(record, now);
	return sequencer_submit(store->sequencer, record, &seq);
}

void store_on_chunk_bad(void *ctx, uint64_t chunk_no)
{
	(void)ctx;
	log_error("chunk-bad", "chunk=%llu next=\"reads give EIO unless a provider has it\"",
		  (unsigned long long)chunk_no);
}

/* What was journalled up to now is durable, the spool's bytes included. */
int store_settle(void *ctx)
{
	struct store *store = ctx;

	return sequencer_wait_synced(store->sequencer, sequencer_last_seq(store->sequencer));
}

void store_on_shard_gone(void *ctx, const struct shard_row *shard)
{
	struct store *store = ctx;
	struct record *record = record_new();
	uint64_t seq;
	int r = -ENOMEM;

	if (record) {
		record_del_shard(record, shard->shard_no);
		r = sequencer_submit(store->sequencer, record, &seq);
	}
	if (r < 0)
		log_warn("shard-row-kept", "shard=%s error=%s next=\"at the next mount\"",
			 shard_id_hex(&shard->id).s, err_name(r));
}

/* Shards that were open when the machine stopped and hold nothing any more. */
int store_drop_empty_shards(struct store *store, struct index_reader *reader)
{
	uint64_t after = 0;

	for (;;) {
		AUTO(shard_list) shards = ROW_LIST_INIT;
		int r = index_list_shards(store->index, reader, after, 256, &shards);

		if (r < 0 || shards.count == 0)
			return r;
		for (size_t i = 0; i < shards.count; i++) {
			const struct shard_row *shard = &shards.rows[i];
			AUTO(chunk_list) chunks = ROW_LIST_INIT;
			struct record *record;
			uint64_t seq;

			after = shard->shard_no;
			if (shard->state != SHARD_OPEN ||
			    spool_has(store->spool, shard->shard_no))
				continue;
			r = index_list_chunks(store->index, reader, after, 0, 1, &chunks);
			if (r < 0)
				return r;
			if (chunks.count > 0)
				continue;
			record = record_new();
			if (!record)
				return -ENOMEM;
			record_del_shard(record, after);
			r = sequencer_submit(store->sequencer, record, &seq);
			if (r < 0)
				return r;
		}
	}
}

void store_forget_releases(struct store *store)
{
	list_for_each(pos, &store->priv->releases) {
		list_remove(pos);
		mem_free(container_of(pos, struct release, link));
	}
	list_for_each(pos, &store->priv->unrecorded) {
		list_remove(pos);
		mem_free(container_of(pos, struct unrecorded, link));
	}
}
