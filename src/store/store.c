/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, recovery and closing of the whole.
 *
 * Recovery is replay.  Records behind index_applied_seq() are read from the
 * journal; each that lies behind the last `synced` mark counts only if the
 * spool bytes of the chunks that it introduces authenticate, and the first
 * that fails ends the history: what is left is a prefix.  Replay changes only
 * the index, in batches that can be repeated, so a second kill changes
 * nothing.  Then the spool is recovered: what was in shards without a footer
 * moves to new ones through the ordinary path, journalled as moves.
 *
 * A spool file is dropped only after the record that says "durable" has been
 * applied, hence synced: releases wait in a list for the applier.
 */
#include "store/store_private.h"

#include "crypto/crypto.h"
#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/file.h"
#include "util/hook.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define REPLAY_BATCH      2048u
#define LOCK_POLL_MS      50u
#define DISK_RESERVE      (64 * MIB) /* of the spool's disk, for journal and index */
#define DISK_LOOK_MS      200u
#define DECODE_READERS    2u
#define WRITE_LIMIT       95u /* percent of the spool beyond which new writes are refused */
#define SLOW_LIMIT        80u /* ... beyond which they go as fast as it drains */
#define STALL_MS          10000u
#define BURST_PARTS       50u  /* of the spool: the most that one look answers */
#define STALLED_PARTS     400u /* of the spool, for each look at writes that are slowed */
#define BACKLOG_RECORDS   65536u
#define PRIORITY_COUNT    4u
#define GC_PERIOD_MS      60000u

char *store_path(const struct config *config, const char *name)
{
	return mem_printf("%s/%s", config->home, name);
}

/* ---- callbacks of the parts ---- */

static int on_shard_opened(void *ctx, struct shard_row *shard)
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

static void on_shard_sealed(void *ctx, const struct shard_row *shard)
{
	struct store *store = ctx;
	struct record *record = record_new();
	uint64_t seq;
	int r = -ENOMEM;

	if (record) {
		record_put_shard(record, shard);
		r = sequencer_submit(store->sequencer, record, &seq);
	}
	if (r < 0) {
		/* it stays in the spool and is found there by the next mount */
		log_error("shard-seal-unrecorded", "shard=%s error=%s next=\"at the next mount\"",
			  shard_id_hex(&shard->id).s, err_name(r));
		return;
	}
	transfer_add(store->transfer, shard);
}

struct release {
	struct list link;
	uint64_t shard_no, seq;
	struct shard_id id;
	uint64_t object_len;
};

static void on_applied(void *ctx, uint64_t seq);
static bool is_tight(void *ctx);

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
static void on_shard_durable(void *ctx, uint64_t shard_no)
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
		on_applied(store, seq); /* it was quicker than we were */
	else if (is_tight(store))
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

static void on_applied(void *ctx, uint64_t seq)
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
}

static int sync_spool(void *ctx)
{
	struct store *store = ctx;

	return spool_sync(store->spool);
}

static void on_noted(void *ctx, struct record *const *records, size_t count)
{
	struct store *store = ctx;

	oplog_note(store->priv->oplog, records, count);
}

static uint64_t drop_limit(void *ctx)
{
	struct store *store = ctx;

	return oplog_drop_limit(store->priv->oplog);
}

static void policy_of(void *ctx, uint64_t policy_root, struct policy *out)
{
	struct store *store = ctx;

	policies_get(store->priv->policies, policy_root, out);
}

void store_policy_of(struct store *store, uint64_t policy_root, struct policy *out)
{
	policies_get(store->priv->policies, policy_root, out);
}

static void class_of(void *ctx, const struct inode_row *row, struct shard_class *out)
{
	struct store *store = ctx;
	struct policy policy;

	policies_get(store->priv->policies, row->policy_root, &policy);
	out->policy_root = policies_has(store->priv->policies, row->policy_root)
				   ? row->policy_root
				   : INO_ROOT;
	out->priority = policy.priority;
	out->key_epoch = keyring_current_epoch(store->keyring);
}

/* Chunks are shared among all trees whose policies name no particular providers. */
static uint64_t domain_of(void *ctx, uint64_t policy_root)
{
	struct store *store = ctx;
	struct policy policy;

	policies_get(store->priv->policies, policy_root, &policy);
	return policy.only[0] || policy.not[0] ? policy_root : 0;
}

/* Free bytes of the spool's disk, looked up now and then. */
static uint64_t disk_free(struct store *store)
{
	uint64_t now = clock_mono_ms();
	struct statvfs vfs;

	LOCK_SCOPE(&store->priv->lock);
	if (store->priv->disk_seen_ms == 0 || now - store->priv->disk_seen_ms > DISK_LOOK_MS) {
		if (statvfs(store->config->spool, &vfs) == 0)
			store->priv->disk_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
		store->priv->disk_seen_ms = now;
	}
	return store->priv->disk_free;
}

/* Bytes that are in the spool or will be. */
static uint64_t spool_load(struct store *store)
{
	return spool_bytes_used(store->spool) + writer_dirty_bytes(store->writer);
}

static bool is_tight(void *ctx)
{
	struct store *store = ctx;
	uint64_t size = store->config->settings.spool_size_bytes;
	bool answer = spool_load(store) > size / 100 * SLOW_LIMIT;

	if (!answer)
		store->priv->tight_ms = 0;
	else if (store->priv->tight_ms == 0)
		store->priv->tight_ms = clock_mono_ms();
	return answer;
}

/* The spool is tight, and nothing has left it for a while: every provider is away, or very slow. */
static bool is_stalled(struct store *store)
{
	uint64_t tight = store->priv->tight_ms, drained = store->priv->drained_ms;

	return tight > 0 && clock_mono_ms() - MAX(tight, drained) > STALL_MS;
}

/*
 * While the spool drains a full one slows writers and refuses nothing.  When it does not, new bytes
 * are refused at WRITE_LIMIT, pages that the kernel already holds at the end.
 */
static int admit(void *ctx, uint64_t bytes, bool is_reserve)
{
	struct store *store = ctx;
	uint64_t size = store->config->settings.spool_size_bytes;
	uint64_t limit = is_reserve ? size : size / 100 * WRITE_LIMIT;
	uint64_t reserve = is_reserve ? DISK_RESERVE / 2 : DISK_RESERVE;

	is_tight(store); /* keeps the clock of is_stalled */
	if (spool_load(store) + bytes > limit && is_stalled(store))
		return -ENOSPC;
	if (disk_free(store) < reserve + writer_dirty_bytes(store->writer) + bytes)
		return -ENOSPC;
	return 0;
}

/* Writers go as fast as the spool drains; when it stalls, slowly on until the limit. */
static uint64_t allowance(void *ctx)
{
	struct store *store = ctx;
	uint64_t size = store->config->settings.spool_size_bytes, drained, bytes;

	LOCK_SCOPE(&store->priv->lock);
	drained = store->priv->drained_bytes;
	bytes = MIN(drained - store->priv->drained_seen, size / BURST_PARTS);
	store->priv->drained_seen = drained;
	if (bytes == 0 && is_stalled(store))
		bytes = size / STALLED_PARTS;
	return bytes;
}

static void on_orphan(void *ctx, uint64_t ino)
{
	struct store *store = ctx;

	(void)ino;
	if (store->priv->reclaim)
		reclaim_wake(store->priv->reclaim);
}

/* ---- replay ---- */

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
		r = index_apply(replay->store->index, replay->batch, replay->count);
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
	int r = is_synced || is_applied ? 0 : replay_check(replay, record);

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

static int replay_journal(struct store *store, const struct journal_settings *settings,
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
		log_info("journal-replayed", "records=%llu last=%llu dropped_bytes=%llu ms=%llu",
			 (unsigned long long)info.records, (unsigned long long)info.last_seq,
			 (unsigned long long)info.dropped_bytes,
			 (unsigned long long)(clock_mono_ms() - start));
	return 0;
}

/* ---- recovery of the spool ---- */

static int on_chunk_moved(void *ctx, const struct chunk_row *old, const struct chunk_row *now)
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

static void on_chunk_bad(void *ctx, uint64_t chunk_no)
{
	(void)ctx;
	log_error("chunk-bad", "chunk=%llu next=\"reads give EIO unless a provider has it\"",
		  (unsigned long long)chunk_no);
}

/* What was journalled up to now is durable, the spool's bytes included. */
static int settle(void *ctx)
{
	struct store *store = ctx;

	return sequencer_wait_synced(store->sequencer, sequencer_last_seq(store->sequencer));
}

static void on_shard_gone(void *ctx, const struct shard_row *shard)
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
static int drop_empty_shards(struct store *store, struct index_reader *reader)
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

/* ---- opening, step by step ---- */

static int take_lock(struct store *store, uint64_t wait_ms, struct buf *why)
{
	AUTO_STR path = store_path(store->config, STORE_LOCK_NAME);
	uint64_t until = clock_mono_ms() + wait_ms;
	int fd;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		int r = -errno;

		buf_printf(why, "%s: %s; is there a file system? mkfs.shardfs makes one", path,
			   err_sentence(r));
		return r;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		struct timespec pause = {.tv_nsec = LOCK_POLL_MS * 1000000};

		if (clock_mono_ms() >= until) {
			buf_printf(why, "%s: this file system is in use by another process; "
					"unmount it first", store->config->home);
			close(fd);
			return -EBUSY;
		}
		nanosleep(&pause, NULL);
	}
	store->priv->lock_fd = fd;
	return 0;
}

int store_unlock(const struct config *config, struct superblock *sb, struct keyring **out,
		 struct buf *why)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	int r = superblock_io_read(config, sb, why);

	if (r < 0)
		return r;
	r = credentials_load(config->passphrase_file, config->passphrase_command,
			     config->key_file, &credentials, why);
	if (r < 0)
		return r;
	r = keyring_unlock(sb, &credentials, out);
	if (r == -EKEYREJECTED)
		buf_printf(why, "%s: wrong passphrase or key file: no key slot opens with it",
			   config->home);
	else if (r == -ENOKEY)
		buf_printf(why, "%s: no key slot opens with only what the configuration names; "
				"is a key_file or passphrase_file missing?", config->home);
	else if (r < 0)
		buf_printf(why, "%s: the superblock does not authenticate: %s", config->home,
			   err_sentence(r));
	return r;
}

static int open_keys(struct store *store, struct superblock *sb, struct buf *why)
{
	int r = store_unlock(store->config, sb, &store->keyring, why);

	if (r == 0)
		memcpy(store->fs_id, sb->fs_id.b, sizeof(store->fs_id));
	return r;
}

static int open_chunker(struct store *store, const struct superblock *sb)
{
	uint8_t key[CHUNKER_KEY_BYTES];
	struct chunker_params params = {sb->chunk_min_bytes, sb->chunk_avg_bytes,
					sb->chunk_max_bytes};
	int r = keyring_derive(store->keyring, 1, KEY_CHUNKER, bytes_of(NULL, 0), key,
			       sizeof(key));

	if (r == 0)
		r = chunker_new(&params, key, &store->priv->chunker);
	mem_wipe(key, sizeof(key));
	return r;
}

static int open_index(struct store *store, struct buf *why)
{
	const struct config *config = store->config;
	struct index_settings settings = {
		.path = config->index,
		.cache_dirents_max = 65536,
		.page_cache_bytes = config->settings.index_cache_bytes,
	};

	return index_open(&settings, why, &store->index);
}

/* A recovery on another machine raises it, and says so in the index. */
static int load_writer_epoch(struct store *store)
{
	AUTO(buf) text = BUF_INIT;
	struct index_reader *reader;
	int r = index_reader_open(store->index, &reader);

	if (r < 0)
		return r;
	r = index_get_setting(store->index, reader, STORE_EPOCH_SETTING, &text);
	index_reader_close(reader);
	if (r == -ENOENT)
		return 0;
	if (r == 0 && !buf_str(&text))
		r = -ENOMEM;
	if (r == 0)
		store->priv->writer_epoch = MAX(strtoull(buf_str(&text), NULL, 10), 1ull);
	return r;
}

static int open_spool(struct store *store, struct buf *why)
{
	const struct config *config = store->config;
	struct spool_settings settings = {
		.dir = config->spool,
		.keyring = store->keyring,
		.index = store->index,
		.shard_bytes = config->settings.shard_size_bytes,
		.open_shards_max = (uint32_t)config->settings.open_shards_max,
		.idle_ms = config->settings.shard_idle_ms,
		.size_max = config->settings.spool_size_bytes,
		.reserve_bytes = DISK_RESERVE / 2,
		.writer_epoch = store->priv->writer_epoch,
		.opened = on_shard_opened,
		.sealed = on_shard_sealed,
		.moved = on_chunk_moved,
		.bad = on_chunk_bad,
		.settle = settle,
		.gone = on_shard_gone,
		.ctx = store,
	};
	int r = spool_open(&settings, &store->spool);

	if (r < 0)
		buf_printf(why, "%s: the spool cannot be opened: %s", config->spool,
			   err_sentence(r));
	return r;
}

/* Its records are those of the journal: so before it. */
static int open_oplog(struct store *store, struct buf *why)
{
	AUTO_STR dir = store_path(store->config, STORE_OPLOG_NAME);
	struct oplog_settings settings = {
		.dir = dir,
		.keyring = store->keyring,
		.index = store->index,
		.writer_epoch = store->priv->writer_epoch,
		.delay_max_ms = store->config->settings.segment_delay_max_ms,
		.snapshot_bytes_min = store->config->settings.snapshot_after_bytes,
	};
	int r = dir ? oplog_open(&settings, &store->priv->oplog) : -ENOMEM;

	if (r < 0)
		buf_printf(why, "%s/" STORE_OPLOG_NAME ": cannot be opened: %s",
			   store->config->home, err_sentence(r));
	return r;
}

/* Journal: replay what is there, then begin a new file and the threads that work on it. */
static int open_journal(struct store *store, struct buf *why)
{
	const struct config *config = store->config;
	struct journal_settings journal = {
		.dir = config->journal,
		.keyring = store->keyring,
		.file_bytes_max = MIN(config->settings.journal_bytes_max / 4, 64 * MIB),
		.writer_epoch = store->priv->writer_epoch,
	};
	struct sequencer_settings sequencer = {
		.index = store->index,
		.commit_interval_ms = config->settings.commit_interval_ms,
		.backlog_records_max = BACKLOG_RECORDS,
		.backlog_bytes_max = config->settings.overlay_bytes,
		.sync_spool = sync_spool,
		.applied = on_applied,
		.noted = on_noted,
		.drop_limit = drop_limit,
		.ctx = store,
	};
	uint64_t last_seq;
	int r = replay_journal(store, &journal, &last_seq, why);

	if (r < 0)
		return r;
	r = journal_open(&journal, last_seq + 1, &store->priv->journal);
	if (r < 0) {
		buf_printf(why, "%s: the journal cannot be written: %s", config->journal,
			   err_sentence(r));
		return r;
	}
	sequencer.journal = store->priv->journal;
	sequencer.next_seq = last_seq + 1;
	return sequencer_start(&sequencer, &store->sequencer);
}

static void set_numbers(struct store *store)
{
	struct index_highest highest;

	index_highest(store->index, &highest);
	store->next_ino = highest.ino + 1;
	store->next_cookie = highest.cookie + 1;
	store->priv->next_shard_no = highest.shard_no + 1;
	store->priv->chunks.next_chunk_no = highest.chunk_no + 1;
}

static int fetch(void *ctx, struct index_reader *reader, const struct shard_row *shard,
		 uint32_t off, uint32_t len, int (*check)(void *ctx, struct bytes bytes),
		 void *check_ctx, struct buf *out)
{
	return transfer_fetch(ctx, reader, shard, off, len, check, check_ctx, out);
}

static int open_data_path(struct store *store, struct buf *why)
{
	const struct config_settings *set = &store->config->settings;
	struct store_private *priv = store->priv;
	struct reader_settings reader = {
		.index = store->index,
		.spool = store->spool,
		.keyring = store->keyring,
		.decoded_bytes_max = set->chunk_memory_bytes,
		.read_ahead_bytes_max = set->read_ahead_bytes,
		.prefetch_threads = DECODE_READERS,
	};
	struct writer_settings writer = {
		.index = store->index,
		.sequencer = store->sequencer,
		.chunks = &priv->chunks,
		.chunker = priv->chunker,
		.codec_threads = config_codec_threads(set),
		.dirty_bytes_max = set->dirty_buffers_bytes,
		.class_of = class_of,
		.admit = admit,
		.is_tight = is_tight,
		.allowance = allowance,
		.ctx = store,
	};
	struct rewrite_settings rewrite = {
		.index = store->index,
		.sequencer = store->sequencer,
		.chunks = &priv->chunks,
		.chunker = priv->chunker,
		.class_of = class_of,
		.ctx = store,
	};
	int r = dedup_new(&priv->dedup);

	if (r < 0)
		return r;
	priv->chunks.index = store->index;
	priv->chunks.sequencer = store->sequencer;
	priv->chunks.spool = store->spool;
	priv->chunks.dedup = priv->dedup;
	priv->chunks.keyring = store->keyring;
	priv->chunks.compression_level = config_compression_level(set);
	priv->chunks.domain_of = domain_of;
	priv->chunks.ctx = store;
	if (set->cache_size_bytes > 0) {
		r = cache_open(store->config->cache, set->cache_size_bytes, &store->cache);
		if (r < 0) {
			buf_printf(why, "%s: the cache cannot be opened: %s", store->config->cache,
				   err_sentence(r));
			return r;
		}
	}
	reader.cache = store->cache;
	reader.fetch = fetch;
	reader.fetch_ctx = store->transfer;
	r = reader_open(&reader, &store->reader);
	if (r < 0)
		return r;
	r = inode_table_new(on_orphan, store, &store->inodes);
	if (r < 0)
		return r;
	if (!priv->is_check) {
		rewrite.inodes = store->inodes;
		rewrite.reader = store->reader;
		r = rewrite_start(&rewrite, &priv->rewrite);
		if (r < 0)
			return r;
	}
	writer.inodes = store->inodes;
	writer.reader = store->reader;
	writer.rewrite = priv->rewrite;
	return writer_start(&writer, &store->writer);
}

static int open_transfer(struct store *store, struct buf *why)
{
	struct transfer_settings settings = {
		.config = store->config,
		.fs_id = store->fs_id,
		.keyring = store->keyring,
		.index = store->index,
		.sequencer = store->sequencer,
		.spool = store->spool,
		.policy_of = policy_of,
		.durable = on_shard_durable,
		.ctx = store,
	};

	return transfer_open(&settings, why, &store->transfer);
}

/* ---- reclaiming ---- */

static void gc_class_of(void *ctx, const struct shard_row *shard, struct shard_class *out)
{
	struct store *store = ctx;
	struct inode_row row = {.policy_root = shard->policy_root};

	class_of(store, &row, out);
}

static bool gc_is_busy(void *ctx)
{
	struct store *store = ctx;

	return writer_dirty_bytes(store->writer) >
	       store->config->settings.dirty_buffers_bytes / 2;
}

static unsigned gc_facts(void *ctx, struct provider_facts *out, unsigned out_max)
{
	struct store *store = ctx;

	return transfer_facts(store->transfer, out, out_max);
}

static void gc_ask(void *ctx, unsigned i, struct waiter *waiter)
{
	struct store *store = ctx;

	transfer_ask(store->transfer, i, waiter);
}

static void gc_forget(void *ctx, uint64_t shard_no, struct waiter *waiter)
{
	struct store *store = ctx;

	transfer_forget(store->transfer, shard_no, waiter);
}

static void gc_delete_copy(void *ctx, const struct shard_row *shard, const struct copy_row *copy,
			   struct waiter *waiter)
{
	struct store *store = ctx;

	transfer_delete_copy(store->transfer, shard, copy, waiter);
}

static uint64_t gc_shipped_seq(void *ctx)
{
	struct store *store = ctx;
	struct oplog_status status;

	oplog_status(store->priv->oplog, &status);
	return status.shipped_seq;
}

static void gc_ship(void *ctx, uint64_t seq, struct waiter *waiter)
{
	struct store *store = ctx;

	oplog_when_shipped(store->priv->oplog, seq, 0, waiter);
}

static int start_gc(struct store *store)
{
	const struct config_settings *set = &store->config->settings;
	struct gc_settings settings = {
		.index = store->index,
		.sequencer = store->sequencer,
		.spool = store->spool,
		.reader = store->reader,
		.cache = store->cache,
		.dedup = store->priv->dedup,
		.hold_ms = set->deletion_hold_ms,
		.repack_below = (unsigned)set->repack_below_count,
		.shard_bytes = set->shard_size_bytes,
		.repack_bytes_per_s = set->repack_bandwidth_bytes_per_s,
		.spool_bytes_max = set->spool_size_bytes,
		.period_ms = GC_PERIOD_MS,
		.facts = gc_facts,
		.ask = gc_ask,
		.forget = gc_forget,
		.delete_copy = gc_delete_copy,
		.class_of = gc_class_of,
		.is_busy = gc_is_busy,
		.shipped_seq = gc_shipped_seq,
		.ship = gc_ship,
		.ctx = store,
	};

	return gc_start(&settings, &store->priv->gc);
}

int store_reclaim(struct store *store, struct gc_report *out)
{
	if (!store->priv->gc)
		return -EROFS;
	reclaim_settle(store->priv->reclaim);
	rewrite_flush(store->priv->rewrite); /* it makes old chunks dead */
	return gc_run(store->priv->gc, out);
}

int store_reclaim_survey(struct store *store, struct index_reader *reader,
			 int (*visit)(void *ctx, const struct gc_candidate *candidate), void *ctx,
			 char blocked_by[160])
{
	int r;

	if (!store->priv->gc)
		return -EROFS;
	reclaim_settle(store->priv->reclaim); /* files just removed count */
	r = sequencer_wait_applied(store->sequencer, sequencer_last_seq(store->sequencer));
	return r == 0 ? gc_survey(store->priv->gc, reader, visit, ctx, blocked_by) : r;
}

void store_reclaim_status(struct store *store, struct gc_report *out)
{
	*out = (struct gc_report){0};
	if (store->priv->gc)
		gc_status(store->priv->gc, out);
}

/* With everything in place: what the last process left is put in order, and work begins. */
static int recover_and_start(struct store *store, struct buf *why)
{
	struct index_reader *reader;
	int r = index_reader_open(store->index, &reader);

	if (r < 0)
		return r;
	r = spool_recover(store->spool, reader);
	if (r == 0)
		r = drop_empty_shards(store, reader);
	if (r == 0 && !store->priv->is_check)
		r = transfer_start(store->transfer, reader);
	index_reader_close(reader);
	if (r < 0) {
		buf_printf(why, "%s: recovery of the spool failed: %s; see the log",
			   store->config->spool, err_sentence(r));
		return r;
	}
	/* a check sends nothing, but what it replayed is kept for sending */
	r = oplog_start(store->priv->oplog, store->priv->is_check ? NULL : store->transfer);
	if (r < 0 || store->priv->is_check)
		return r;
	r = ack_start(store, &store->priv->ack);
	if (r < 0)
		return r;
	r = start_gc(store);
	if (r < 0)
		return r;
	r = converge_start(store, &store->priv->converge);
	if (r < 0)
		return r;
	return reclaim_start(store->index, store->sequencer, store->inodes, &store->priv->reclaim);
}

static int load_policies(struct store *store)
{
	struct index_reader *reader;
	int r = index_reader_open(store->index, &reader);

	if (r < 0)
		return r;
	r = policies_load(store->index, reader, &store->priv->policies);
	index_reader_close(reader);
	return r;
}

static int open_parts(struct store *store, uint64_t lock_wait_ms, struct buf *why)
{
	struct superblock *sb = mem_alloc(sizeof(*sb));
	int r = sb ? take_lock(store, lock_wait_ms, why) : -ENOMEM;

	if (r == 0)
		r = open_keys(store, sb, why);
	if (r == 0)
		r = open_chunker(store, sb);
	mem_free(sb);
	if (r == 0)
		r = open_index(store, why);
	if (r == 0)
		r = load_writer_epoch(store);
	if (r == 0)
		r = open_oplog(store, why);
	if (r == 0)
		r = open_spool(store, why);
	if (r == 0)
		r = open_journal(store, why);
	if (r < 0)
		return r;
	set_numbers(store);
	r = load_policies(store);
	if (r == 0)
		r = open_transfer(store, why);
	if (r == 0)
		r = open_data_path(store, why);
	if (r == 0)
		r = recover_and_start(store, why);
	return r;
}

static int open_store(struct config *config, uint64_t lock_wait_ms, bool is_check, struct buf *why,
		      struct store **out)
{
	struct store *store = mem_alloc(sizeof(*store));
	struct store_private *priv = mem_alloc(sizeof(*priv));
	int r;

	if (!store || !priv) {
		mem_free(store);
		mem_free(priv);
		return -ENOMEM;
	}
	lock_init(&priv->lock, LOCK_LEAF);
	list_init(&priv->releases);
	priv->lock_fd = -1;
	priv->writer_epoch = 1;
	priv->is_check = is_check;
	store->priv = priv;
	store->config = config;
	r = open_parts(store, lock_wait_ms, why);
	if (r < 0) {
		if (why->len == 0)
			buf_printf(why, "%s: cannot be opened: %s", config->home, err_sentence(r));
		store->config = NULL; /* stays the caller's */
		store_close(store);
		return r;
	}
	*out = store;
	return 0;
}

int store_open(struct config *config, uint64_t lock_wait_ms, struct buf *why, struct store **out)
{
	return open_store(config, lock_wait_ms, false, why, out);
}

int store_open_for_check(struct config *config, uint64_t lock_wait_ms, struct buf *why,
			 struct store **out)
{
	return open_store(config, lock_wait_ms, true, why, out);
}

int store_close(struct store *store)
{
	struct store_private *priv;
	int r = 0, end;

	if (!store)
		return 0;
	priv = store->priv;
	converge_stop(priv->converge);
	rewrite_stop(priv->rewrite);
	if (store->writer)
		r = writer_stop(store->writer);
	reclaim_stop(priv->reclaim);
	priv->reclaim = NULL;
	gc_stop(priv->gc);
	priv->gc = NULL;
	if (store->writer && r == 0)
		r = spool_seal_all(store->spool, 0);
	spool_stop(store->spool);
	transfer_stop(store->transfer);
	oplog_cancel_waiters(priv->oplog);
	ack_stop(priv->ack);
	if (store->sequencer) {
		end = sequencer_stop(store->sequencer);
		r = r < 0 ? r : end;
	}
	oplog_stop(priv->oplog, store->config ? store->config->settings.close_wait_ms : 0);
	writer_free(store->writer);
	rewrite_free(priv->rewrite);
	reader_close(store->reader);
	cache_close(store->cache);
	transfer_close(store->transfer);
	sequencer_free(store->sequencer);
	journal_close(priv->journal);
	spool_close(store->spool);
	list_for_each(pos, &priv->releases) {
		list_remove(pos);
		mem_free(container_of(pos, struct release, link));
	}
	converge_free(priv->converge);
	dedup_free(priv->dedup);
	policies_free(priv->policies);
	inode_table_free(store->inodes);
	oplog_free(priv->oplog);
	if (store->index)
		index_close(store->index);
	chunker_free(priv->chunker);
	keyring_free(store->keyring);
	if (priv->lock_fd >= 0)
		close(priv->lock_fd);
	if (store->config) {
		config_release(store->config);
		mem_free(store->config);
	}
	lock_release(&priv->lock);
	mem_free(priv);
	mem_free(store);
	if (r < 0)
		log_error("close-failed", "error=%s", err_name(r));
	return r;
}

void store_fsync(struct store *store, struct inode *inode, struct waiter *waiter)
{
	ack_fsync(store->priv->ack, inode, waiter);
}

void store_sync(struct store *store, struct waiter *waiter)
{
	writer_sync_all(store->writer, waiter);
}

bool store_push(struct store *store, uint64_t seq)
{
	return oplog_push(store->priv->oplog, seq, 0);
}

/*
 * The directory is locked; row NULL: its policy goes.  Memory is first, so that converge, which the
 * record sets going, sees the new one.  What has no policy of its own any more gets that of the
 * directory above from converge, this directory included.
 */
static int change_policy_locked(struct store *store, struct inode *dir,
				const struct policy_row *row, const struct policy *policy)
{
	struct policies *policies = store->priv->policies;
	uint64_t ino = dir->row.ino, seq;
	bool had_one = policies_has(policies, ino);
	struct inode_row now = dir->row;
	struct record *record = record_new();
	struct policy old;
	int r = record ? 0 : -ENOMEM;

	policies_get(policies, ino, &old);
	if (r == 0 && row)
		r = policies_set(policies, ino, policy);
	if (r < 0) {
		record_free(record);
		return r;
	}
	if (row) {
		now.policy_root = ino;
		record_put_policy(record, row);
		record_put_inode(record, &now);
	} else {
		policies_remove(policies, ino);
		record_del_policy(record, ino);
	}
	r = converge_begin(store->priv->converge, record, &ino, 1);
	if (r == 0) {
		r = sequencer_submit(store->sequencer, record, &seq);
		converge_end(store->priv->converge, r == 0);
	} else {
		record_free(record);
	}
	if (r == 0) {
		inode_set_row(dir, &now);
		dir->last_seq = seq;
	} else if (had_one) {
		policies_set(policies, ino, &old);
	} else {
		policies_remove(policies, ino);
	}
	return r;
}

int store_set_policy(struct store *store, struct inode *dir, const char *text, struct buf *why)
{
	struct provider_facts facts[CONFIG_PROVIDERS_MAX];
	struct policy_row row = {.root = dir->row.ino};
	struct policy policy;
	unsigned count;
	int r;

	if (!inode_is_dir(dir)) {
		buf_printf(why, "a policy is set on a directory");
		return -ENOTDIR;
	}
	if (text) {
		r = policy_parse(text, &policy, why);
		if (r < 0)
			return r;
		count = transfer_facts(store->transfer, facts, CONFIG_PROVIDERS_MAX);
		r = policy_check(&policy, facts, count, why);
		if (r < 0)
			return r;
		r = policy_print(&policy, row.text);
		if (r < 0)
			return r;
	} else if (dir->row.ino == INO_ROOT) {
		buf_printf(why, "the root always has a policy: set another one");
		return -EINVAL;
	}
	lock_take(&dir->lock);
	r = change_policy_locked(store, dir, text ? &row : NULL, &policy);
	lock_drop(&dir->lock);
	if (r < 0)
		return r;
	transfer_policy_changed(store->transfer, row.root);
	return r;
}
