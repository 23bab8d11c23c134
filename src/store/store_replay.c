/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery is replay.  Records behind index_applied_seq() are read from the
 * journal; each that lies behind the last `synced` mark counts only if the
 * spool bytes of the chunks that it introduces authenticate, and the first
 * that fails ends the history: what is left is a prefix.  Replay changes only
 * the index, in batches that can be repeated, so a second kill changes
 * nothing.
 */
#include "store/store_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/file.h"
#include "util/hook.h"
#include "util/log.h"

#include <errno.h>

#define REPLAY_BATCH 2048u

struct replay {
	struct store *store;
	struct index_reader *reader;
	struct record *batch[REPLAY_BATCH];
	size_t count;
	bool is_disk_synced;
};

/*
 * A crash of the daemon leaves records, and bytes that they name, which were never synced.  They
 * become the truth now, in the index and by the journal's next file: so they are made durable first.
 */
static int replay_sync(struct replay *replay)
{
	int r = 0;

	if (!replay->is_disk_synced) {
		r = file_sync_dir_files(replay->store->config->spool);
		if (r == 0)
			r = file_sync_dir_files(replay->store->config->journal);
		replay->is_disk_synced = r == 0;
	}
	return r;
}

static int replay_flush(struct replay *replay)
{
	int r = 0;

	if (replay->count > 0)
		r = replay_sync(replay);
	if (r == 0 && replay->count > 0)
		r = HOOK("replay-apply-before");
	if (r == 0 && replay->count > 0)
		r = index_apply(replay->store->index, replay->batch, replay->count);
	if (r == 0 && replay->count > 0)
		r = HOOK("replay-apply-after");
	if (r == 0 && replay->count > 0)
		oplog_note(replay->store->priv->oplog, replay->batch, replay->count);
	for (size_t i = 0; i < replay->count; i++)
		record_free(replay->batch[i]);
	replay->count = 0;
	return r;
}

/* 0: its chunks are there; 1: one is not. */
static int replay_check(struct replay *replay, const struct record *record)
{
	struct record_walk walk = record_walk_of(buf_bytes(&record->changes));
	struct change change;
	int r;

	while ((r = record_walk_next(&walk, &change)) > 0) {
		struct shard_row shard;

		if (change.type != CHANGE_CHUNK_PUT)
			continue;
		r = index_get_shard(replay->store->index, replay->reader, change.u.chunk.shard_no,
				    &shard);
		if (r == 0 && shard.state == SHARD_DURABLE)
			continue;
		if (r == 0)
			r = spool_check_record(replay->store->spool, &shard, &change.u.chunk);
		if (r < 0) {
			log_info("replay-ends", "seq=%llu chunk=%llu error=%s",
				 (unsigned long long)record->seq,
				 (unsigned long long)change.u.chunk.chunk_no, err_name(r));
			return r == -ENOMEM ? r : 1;
		}
	}
	return r;
}

static int replay_record(void *ctx, struct record *record, bool is_synced)
{
	struct replay *replay = ctx;
	bool is_applied = record->seq <= index_applied_seq(replay->store->index);
	bool is_trusted = is_synced || is_applied || HOOK_BROKEN("replay-ignores-torn");
	int r = is_trusted ? 0 : replay_check(replay, record);

	if (is_applied) { /* only the oplog lacks it */
		oplog_note(replay->store->priv->oplog, &record, 1);
		record_free(record);
		return 0;
	}
	if (r == 0)
		r = index_note(replay->store->index, record);
	if (r != 0) {
		record_free(record);
		return r;
	}
	replay->batch[replay->count++] = record;
	return replay->count == REPLAY_BATCH ? replay_flush(replay) : 0;
}

int store_replay_journal(struct store *store, const struct journal_settings *settings,
			  uint64_t *last_seq, struct buf *why)
{
	struct replay *replay = mem_alloc(sizeof(*replay));
	struct journal_replay_info info = {0};
	uint64_t applied = index_applied_seq(store->index), start = clock_mono_ms();
	uint64_t after = MIN(applied, oplog_replay_after(store->priv->oplog));
	int r;

	if (!replay)
		return -ENOMEM;
	replay->store = store;
	r = index_reader_open(store->index, &replay->reader);
	if (r == 0) {
		r = journal_replay(settings, after, replay_record, replay, &info);
		if (r == 0)
			r = replay_flush(replay);
		for (size_t i = 0; i < replay->count; i++)
			record_free(replay->batch[i]);
		index_reader_close(replay->reader);
	}
	mem_free(replay);
	if (r < 0) {
		buf_printf(why, "%s: replay of the journal failed: %s; see the log",
			   store->config->journal, err_sentence(r));
		return r;
	}
	*last_seq = MAX(info.last_seq, applied);
	oplog_replayed(store->priv->oplog, *last_seq);
	if (info.records > 0)
		log_info("journal-replayed",
			 "records=%llu applied=%llu last=%llu dropped_bytes=%llu ms=%llu",
			 (unsigned long long)info.records,
			 (unsigned long long)(*last_seq - applied), (unsigned long long)info.last_seq,
			 (unsigned long long)info.dropped_bytes,
			 (unsigned long long)(clock_mono_ms() - start));
	return 0;
}
