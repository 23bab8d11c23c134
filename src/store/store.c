/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing of the whole.  After the journal was replayed
 * (store_replay.c) the spool is recovered: what was in shards without a footer
 * moves to new ones through the ordinary path, journalled as moves.
 */
#include "store/store_private.h"

#include "crypto/crypto.h"
#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_POLL_MS    50u
#define DECODE_READERS  2u
#define BACKLOG_RECORDS 65536u

char *store_path(const struct config *config, const char *name)
{
	return mem_printf("%s/%s", config->home, name);
}

static void on_orphan(void *ctx, uint64_t ino)
{
	struct store *store = ctx;

	(void)ino;
	if (store->priv->reclaim)
		reclaim_wake(store->priv->reclaim);
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

/* Slots that are kept elsewhere go into sb. */
static int unlock_detached(const struct config *config, struct superblock *sb,
			   const struct credentials *credentials, struct keyring **out,
			   struct buf *why)
{
	struct superblock *slots;
	int r;

	if (!config->slots_file) {
		buf_printf(why, "%s: the key slots of this file system are kept elsewhere; "
				"name the file that has them with slots_file", config->home);
		return -ENOKEY;
	}
	slots = mem_alloc(sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	r = superblock_io_read_file(config->slots_file, slots);
	if (r == 0)
		r = keyring_unlock_detached(slots, sb, credentials, out);
	if (r == -ESTALE)
		buf_printf(why, "%s: has the key slots of another file system", config->slots_file);
	else if (r < 0 && r != -EKEYREJECTED && r != -ENOKEY)
		buf_printf(why, "%s: the key slots cannot be read: %s", config->slots_file,
			   err_sentence(r));
	if (r == 0) {
		memcpy(sb->slots, slots->slots, sizeof(sb->slots));
		sb->slot_count = slots->slot_count;
	}
	mem_free(slots);
	return r;
}

/* No key, so no entry: word of it is left in home, if there is one. */
void store_leave_failed_unlock(const struct config *config, int error)
{
	struct audit_event event = {.kind = "unlock", .result = err_name(error),
				    .what = "no key slot opens with what was given",
				    .who = audit_who(getuid(), getgid(), (uint32_t)getpid())};

	audit_leave(config->home, &event);
}

int store_unlock(const struct config *config, const struct credentials *credentials,
		 struct superblock *sb, struct keyring **out, struct buf *why)
{
	AUTO(credentials) named = CREDENTIALS_INIT;
	int r = superblock_io_read(config, sb, why);

	if (r == 0 && !credentials) {
		r = credentials_load(config->passphrase_file, config->passphrase_command,
				     config->key_file, &named, why);
		credentials = &named;
	}
	if (r < 0)
		return r;
	r = sb->slot_count > 0 ? keyring_unlock(sb, credentials, out)
			       : unlock_detached(config, sb, credentials, out, why);
	if (r == -EKEYREJECTED || r == -ENOKEY)
		store_leave_failed_unlock(config, r);
	if (r == 0 || why->len > 0)
		return r;
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
	int r = store_unlock(store->config, store->priv->credentials, sb, &store->keyring, why);

	if (r == 0)
		memcpy(store->fs_id, sb->fs_id.b, sizeof(store->fs_id));
	return r < 0 ? r : keys_new(store, sb, &store->priv->keys);
}

static int open_chunker(struct store *store, const struct superblock *sb)
{
	uint8_t key[CHUNKER_KEY_BYTES];
	struct chunker_params params = {sb->chunk_min_bytes, sb->chunk_avg_bytes,
					sb->chunk_max_bytes};
	int r = keyring_derive(store->keyring, 0, KEY_CHUNKER, bytes_of(NULL, 0), key,
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
		.opened = store_on_shard_opened,
		.sealed = store_on_shard_sealed,
		.moved = store_on_chunk_moved,
		.bad = store_on_chunk_bad,
		.settle = store_settle,
		.gone = store_on_shard_gone,
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
		.hold_ms = store->config->settings.deletion_hold_ms,
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
		.sync_spool = store_sync_spool,
		.applied = store_on_applied,
		.noted = store_on_noted,
		.drop_limit = store_drop_limit,
		.ctx = store,
	};
	uint64_t last_seq;
	int r = store_replay_journal(store, &journal, &last_seq, why);

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
	r = sequencer_start(&sequencer, &store->sequencer);
	if (r < 0)
		return r;
	r = audit_open(store->index, store->sequencer, store->keyring, &store->priv->audit);
	if (r < 0 && why->len == 0)
		buf_printf(why, "%s: the audit log cannot be continued: %s", config->index,
			   err_sentence(r));
	return r;
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
		.class_of = store_class_of,
		.admit = store_admit,
		.is_tight = store_is_tight,
		.allowance = store_allowance,
		.ctx = store,
	};
	struct rewrite_settings rewrite = {
		.index = store->index,
		.sequencer = store->sequencer,
		.chunks = &priv->chunks,
		.chunker = priv->chunker,
		.class_of = store_class_of,
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
	priv->chunks.domain_of = store_domain_of;
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

static int cached(void *ctx, const struct shard_row *shard, struct buf *out)
{
	struct store *store = ctx;

	return store->cache ? cache_read(store->cache, &shard->id, 0, (uint32_t)shard->object_len,
					 out)
			    : -ENOENT;
}

static int audit_of_part(void *ctx, const struct audit_event *event)
{
	return store_audit(ctx, event);
}

static int settle_audit(void *ctx)
{
	struct store *store = ctx;

	return audit_settle(store->priv->audit);
}

static int open_scrub(struct store *store, struct buf *why)
{
	AUTO_STR dir = store_path(store->config, STORE_SCRUB_NAME);
	struct scrub_settings settings = {
		.dir = dir,
		.config = store->config,
		.index = store->index,
		.sequencer = store->sequencer,
		.spool = store->spool,
		.keyring = store->keyring,
		.transfer = store->transfer,
		.oplog = store->priv->oplog,
		.writer_epoch = store->priv->writer_epoch,
		.audit = audit_of_part,
		.settle = settle_audit,
		.ctx = store,
	};
	int r = dir ? scrub_new(&settings, &store->priv->scrub) : -ENOMEM;

	if (r < 0)
		buf_printf(why, "%s/" STORE_SCRUB_NAME ": cannot be used: %s", store->config->home,
			   err_sentence(r));
	return r;
}

/* Once an hour, and at the mount. */
static int audit_chore(void *ctx, struct keeper_worker *worker)
{
	struct store *store = ctx;
	int64_t keep_sec = (int64_t)(store->config->settings.audit_keep_ms / 1000);
	int r;

	if (keep_sec == 0 || !store_may_write(store, NULL))
		return 0;
	r = audit_cut(store->priv->audit, worker->reader, store_now_sec(store) - keep_sec);
	if (r < 0)
		log_warn("audit-not-cut", "error=%s next=\"tried again\"", err_name(r));
	else if (r > 0) /* the next step sees what this one has removed */
		r = sequencer_wait_applied(store->sequencer, sequencer_last_seq(store->sequencer)) == 0;
	return MAX(r, 0);
}

static int open_transfer(struct store *store, struct buf *why)
{
	struct keeper_chore cutting = {"audit-cut", 9, 1, HOUR, audit_chore, store};
	struct transfer_settings settings = {
		.config = store->config,
		.fs_id = store->fs_id,
		.keyring = store->keyring,
		.index = store->index,
		.sequencer = store->sequencer,
		.spool = store->spool,
		.policy_of = store_tell_policy,
		.durable = store_on_shard_durable,
		.cached = cached,
		.superblock = keys_sealed,
		.superblock_newer = keys_found_newer,
		.audit = audit_of_part,
		.ctx = store,
	};

	int r = transfer_open(&settings, why, &store->transfer);

	if (r == 0 && !store->priv->is_check)
		r = MIN(transfer_add_chore(store->transfer, &cutting), 0);
	return r;
}

static uint64_t newest_seq(void *ctx)
{
	struct store *store = ctx;

	return sequencer_last_seq(store->sequencer);
}

static void on_epoch_changed(void *ctx, bool may_write, const char *why)
{
	struct store *store = ctx;
	AUTO_STR details = mem_printf("{\"epoch\":%llu}", (unsigned long long)store_writer_epoch(store));
	struct audit_event event = {.kind = "writer", .what = why, .who = AUDIT_SYSTEM,
				    .result = may_write ? "held" : "lost", .details = details};

	store_audit(store, &event); /* the loser's stays in its home */
	oplog_fence(store->priv->oplog, !may_write);
	if (store->priv->gc)
		gc_freeze(store->priv->gc, !may_write);
}

static int open_epoch(struct store *store, struct buf *why)
{
	struct epoch_settings settings = {
		.home = store->config->home,
		.keyring = store->keyring,
		.transfer = store->transfer,
		.writer_epoch = (uint32_t)store->priv->writer_epoch,
		.check_ms = store->config->settings.epoch_check_ms,
		.takes_over = store->priv->takes_over,
		.last_seq = newest_seq,
		.changed = on_epoch_changed,
		.ctx = store,
	};
	int r = epoch_open(&settings, &store->priv->epoch);

	if (r < 0)
		buf_printf(why, "%s/writer: what this machine holds cannot be read or written: %s",
			   store->config->home, err_sentence(r));
	else
		oplog_fence(store->priv->oplog, !epoch_may_write(store->priv->epoch));
	return r;
}

uint64_t store_writer_epoch(const struct store *store)
{
	return store->priv->writer_epoch;
}

bool store_may_write(struct store *store, char why[240])
{
	struct epoch *epoch = store->priv->epoch;

	if (why) {
		why[0] = '\0';
		if (epoch)
			epoch_why(epoch, why);
	}
	return !epoch || epoch_may_write(epoch);
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
		r = store_drop_empty_shards(store, reader);
	if (r == 0 && !store->priv->is_check)
		r = transfer_start(store->transfer, reader);
	index_reader_close(reader);
	if (r < 0) {
		buf_printf(why, "%s: recovery of the spool failed: %s; see the log",
			   store->config->spool, err_sentence(r));
		return r;
	}
	if (!store->priv->is_check) {
		r = open_epoch(store, why);
		if (r < 0)
			return r;
	}
	/* a check sends nothing, but what it replayed is kept for sending */
	r = oplog_start(store->priv->oplog, store->priv->is_check ? NULL : store->transfer);
	if (r < 0 || store->priv->is_check)
		return r;
	r = keys_start(store->priv->keys, why);
	if (r < 0)
		return r;
	r = ack_start(store, &store->priv->ack);
	if (r < 0)
		return r;
	r = store_start_gc(store);
	if (r < 0)
		return r;
	r = converge_start(store, &store->priv->converge);
	if (r < 0)
		return r;
	r = reclaim_start(store->index, store->sequencer, store->inodes, &store->priv->reclaim);
	if (r < 0)
		return r;
	r = audit_take_left(store->priv->audit, store->config->home);
	if (r < 0)
		log_warn("audit-pending-kept", "home=" LOG_Q " error=%s next=\"the next mount\"",
			 store->config->home, err_name(r));
	return epoch_start(store->priv->epoch);
}

static int load_settings(struct store *store)
{
	struct index_reader *reader;
	int r = index_reader_open(store->index, &reader);

	if (r < 0)
		return r;
	r = policies_load(store->index, reader, &store->priv->policies);
	if (r == 0)
		r = store_clock_load(store, reader);
	if (r == 0)
		r = clone_list_load(store, reader);
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
	r = load_settings(store);
	if (r == 0)
		r = open_transfer(store, why);
	if (r == 0 && !store->priv->is_check)
		r = open_scrub(store, why);
	if (r == 0)
		r = open_data_path(store, why);
	if (r == 0)
		r = recover_and_start(store, why);
	return r;
}

struct opening {
	uint64_t lock_wait_ms;
	bool is_check, takes_over;
	const struct credentials *credentials;
};

static int open_store(struct config *config, const struct opening *opening, struct buf *why,
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
	lock_init(&priv->snapshot_lock, LOCK_KEEPER);
	cond_init(&priv->snapshot_turn);
	lock_init(&priv->clone_lock, LOCK_CTL);
	list_init(&priv->releases);
	list_init(&priv->unrecorded);
	priv->lock_fd = -1;
	priv->writer_epoch = 1;
	priv->is_check = opening->is_check;
	priv->takes_over = opening->takes_over;
	priv->credentials = opening->credentials;
	store->priv = priv;
	store->config = config;
	r = open_parts(store, opening->lock_wait_ms, why);
	priv->credentials = NULL;
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

int store_audit(struct store *store, const struct audit_event *event)
{
	return store->priv->is_check ? 0 : audit_put(store->priv->audit, event);
}

int store_audit_verify(struct store *store, struct index_reader *reader,
		       struct audit_verdict *out)
{
	return audit_verify(store->priv->audit, reader, out);
}

int store_audit_compare(struct store *store, struct index_reader *reader,
			void (*visit)(void *ctx, const struct audit_compared *compared), void *ctx)
{
	return audit_compare(store->priv->audit, store->transfer, reader, visit, ctx);
}

int store_open(struct config *config, uint64_t lock_wait_ms, bool takes_over, struct buf *why,
	       struct store **out)
{
	struct opening opening = {.lock_wait_ms = lock_wait_ms, .takes_over = takes_over};

	return open_store(config, &opening, why, out);
}

int store_open_for_check(struct config *config, uint64_t lock_wait_ms, struct buf *why,
			 struct store **out)
{
	struct opening opening = {.lock_wait_ms = lock_wait_ms, .is_check = true};

	return open_store(config, &opening, why, out);
}

int store_open_for_restore(struct config *config, const struct credentials *credentials,
			   uint64_t lock_wait_ms, struct buf *why, struct store **out)
{
	struct opening opening = {.lock_wait_ms = lock_wait_ms, .is_check = true,
				  .credentials = credentials};

	return open_store(config, &opening, why, out);
}

int store_close(struct store *store)
{
	struct store_private *priv;
	int r = 0, end;

	if (!store)
		return 0;
	priv = store->priv;
	epoch_end(priv->epoch);
	converge_stop(priv->converge);
	rewrite_stop(priv->rewrite);
	if (store->writer)
		r = writer_stop(store->writer);
	reclaim_stop(priv->reclaim);
	priv->reclaim = NULL;
	gc_stop(priv->gc);
	priv->gc = NULL;
	if (store->writer && !priv->is_check)
		store_clock_keep(store);
	if (store->writer && r == 0)
		r = spool_seal_all(store->spool, 0);
	spool_stop(store->spool);
	transfer_stop(store->transfer);
	epoch_stop(priv->epoch); /* it does not wait for a provider any more */
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
	scrub_free(priv->scrub);
	audit_close(priv->audit);
	sequencer_free(store->sequencer);
	journal_close(priv->journal);
	spool_close(store->spool);
	store_forget_releases(store);
	converge_free(priv->converge);
	dedup_free(priv->dedup);
	policies_free(priv->policies);
	inode_table_free(store->inodes);
	oplog_free(priv->oplog);
	epoch_free(priv->epoch);
	if (store->index)
		index_close(store->index);
	chunker_free(priv->chunker);
	keys_free(priv->keys);
	keyring_free(store->keyring);
	if (priv->lock_fd >= 0)
		close(priv->lock_fd);
	if (store->config) {
		config_release(store->config);
		mem_free(store->config);
	}
	lock_release(&priv->lock);
	cond_release(&priv->snapshot_turn);
	lock_release(&priv->snapshot_lock);
	lock_release(&priv->clone_lock);
	mem_free(priv);
	mem_free(store);
	if (r < 0)
		log_error("close-failed", "error=%s", err_name(r));
	return r;
}

void store_fsync(struct store *store, struct chunk_worker *worker, struct inode *inode,
		 struct waiter *waiter)
{
	ack_fsync(store->priv->ack, worker, inode, waiter);
}

void store_sync(struct store *store, struct waiter *waiter)
{
	writer_sync_all(store->writer, waiter);
}

bool store_push(struct store *store, uint64_t seq)
{
	return oplog_push(store->priv->oplog, seq, 0);
}
