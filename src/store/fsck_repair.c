/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair.  In this order, each step durable before the next, so that a killed
 * repair is begun again and finds less to do:
 *
 *	1. superblocks are written again from the best that authenticates
 *	2. what does not belong to us, or is bad and has good copies, moves to
 *	   home/fsck-aside/
 *	3. the index: rebuilt from the providers if something in it is wrong that
 *	   does not follow from other rows; else what follows is recomputed
 *
 * Rebuilding takes the ordinary way of a recovery: the old index, the journal,
 * home/oplog and the spool move aside first and the superblock goes last, so
 * that a kill in between leaves what `shardfs-recover` goes on with.  It is
 * refused when this machine knows of records, or holds shards, that no provider
 * has.
 */
#include "store/fsck_private.h"

#include "store/audit.h"
#include "store/recover.h"
#include "store/superblock_io.h"
#include "util/err.h"
#include "util/file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mend {
	struct fsck fsck;
	struct fsck_report report;
	void (*done)(void *ctx, const char *text);
	void *ctx;
};

static void __attribute__((format(printf, 2, 3))) did(struct mend *mend, const char *format, ...)
{
	struct audit_event event = {.kind = "fsck",
				    .who = audit_who(getuid(), getgid(), (uint32_t)getpid())};
	AUTO(buf) text = BUF_INIT;
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	event.what = text.len ? buf_str(&text) : NULL;
	if (!event.what)
		event.what = "no memory for what was done";
	mend->done(mend->ctx, event.what);
	audit_leave(mend->fsck.config->home, &event);
}

static int write_superblocks(struct mend *mend, struct buf *why)
{
	struct fsck *fsck = &mend->fsck;
	AUTO(buf) sealed = BUF_INIT;
	int r = keyring_seal_superblock(fsck->keyring, fsck->sb, &sealed);

	if (r == 0 && fsck->is_local_sb_bad) {
		r = superblock_io_write_local(fsck->config, buf_bytes(&sealed), why);
		if (r == 0)
			did(mend, "%s/superblock: written again, revision %" PRIu64,
			    fsck->config->home, fsck->sb->revision);
	}
	for (size_t i = 0; i < fsck->config->provider_count && r == 0; i++) {
		struct fs_id fs_id = keyring_fs_id(fsck->keyring);
		AUTO_BACKEND backend = NULL;

		if (!fsck->provider_sb_bad[i])
			continue;
		r = provider_open(fsck->config, &fsck->config->providers[i], why, &backend);
		if (r < 0)
			break;
		backend_bind(backend, fs_id.b);
		r = superblock_io_put(backend, buf_bytes(&sealed), why);
		if (r == 0)
			did(mend, "provider %s: superblock written again, revision %" PRIu64,
			    fsck->config->providers[i].name, fsck->sb->revision);
	}
	return r;
}

/* Under a name that is free; durable.  What is not there is no error. */
static int move_aside(struct mend *mend, const char *path, struct buf *why)
{
	const struct config *config = mend->fsck.config;
	AUTO_STR dir = store_path(config, FSCK_ASIDE_NAME);
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	int r = dir ? store_make_path(dir, why) : -ENOMEM;

	for (unsigned i = 0; r == 0; i++) {
		AUTO_STR to = mem_printf("%s/%s.%u", dir, base, i);
		struct stat st;

		if (!to)
			return -ENOMEM;
		if (lstat(to, &st) == 0)
			continue;
		if (rename(path, to) < 0) {
			r = errno == ENOENT ? 0 : -errno;
			if (r < 0)
				buf_printf(why, "%s: cannot be moved to %s: %s", path, to,
					   err_sentence(r));
			return r;
		}
		did(mend, "%s: moved to %s", path, to);
		return file_sync_dir(dir);
	}
	return r;
}

/* A shard that is nowhere but in the spool would be lost with it. */
static int refuse_only_copies(struct mend *mend, struct buf *why)
{
	const struct config *config = mend->fsck.config;
	DIR *stream = opendir(config->spool);
	struct fs_id fs_id = keyring_fs_id(mend->fsck.keyring);
	struct dirent *entry;
	struct shard_id id;
	int r = 0;

	while (stream && r == 0 && (entry = readdir(stream))) {
		bool is_held = false;

		if (!fsck_parse_shard_id(entry->d_name, &id))
			continue;
		for (size_t i = 0; i < config->provider_count && !is_held; i++) {
			AUTO_BACKEND backend = NULL;
			AUTO(buf) cause = BUF_INIT;
			struct backend_req req = {.op = BACKEND_HEAD, .key = entry->d_name};

			if (provider_open(config, &config->providers[i], &cause, &backend) < 0)
				continue;
			backend_bind(backend, fs_id.b);
			is_held = backend_run(backend, &req) == 0;
		}
		if (!is_held) {
			buf_printf(why, "%s/%s: no provider has this shard; the index is not rebuilt, "
					"for then what is in it would be lost", config->spool,
				   entry->d_name);
			r = -EBUSY;
		}
	}
	if (stream)
		closedir(stream);
	return r;
}

static int count_record(void *ctx, struct record *record, bool is_synced)
{
	(void)is_synced;
	record_free(record);
	++*(uint64_t *)ctx;
	return 0;
}

/* Records that were accepted here and that no provider has would be lost. */
static int refuse_newer_records(struct mend *mend, uint64_t newest, struct buf *why)
{
	struct fsck *fsck = &mend->fsck;
	struct journal_settings settings = {
		.dir = fsck->config->journal,
		.keyring = fsck->keyring,
		.file_bytes_max = 64 * MIB,
		.writer_epoch = 1,
	};
	struct journal_replay_info info;
	uint64_t records = 0;
	int r;

	if (newest == 0 || newest < MAX(fsck->applied_seq, fsck->journal_seq)) {
		buf_printf(why, "%s: not rebuilt: providers give back record %" PRIu64
			   " and this machine knows of %" PRIu64, fsck->config->index, newest,
			   MAX(fsck->applied_seq, fsck->journal_seq));
		return -ESTALE;
	}
	r = journal_replay(&settings, newest, count_record, &records, &info);
	if (r == -ENOENT || (r == -EUCLEAN && fsck->index))
		r = 0; /* damaged: what it held and providers do not have cannot be read anyway */
	if (r < 0)
		buf_printf(why, "%s: not rebuilt: whether the journal has more than the providers "
				"cannot be told: %s", fsck->config->index, err_sentence(r));
	else if (records > 0) {
		buf_printf(why, "%s: not rebuilt: the journal has %" PRIu64 " records that no provider "
				"has", fsck->config->index, records);
		r = -ESTALE;
	}
	return r;
}

static int rebuild(struct mend *mend, struct buf *why)
{
	struct fsck *fsck = &mend->fsck;
	const struct config *config = fsck->config;
	AUTO_STR superblock = store_path(config, STORE_SUPERBLOCK_NAME);
	AUTO_STR oplog = store_path(config, STORE_OPLOG_NAME);
	AUTO_STR log = mem_printf("%s-wal", config->index);
	AUTO_STR shared = mem_printf("%s-shm", config->index);
	const char *const paths[] = {superblock, config->index, log, shared, oplog,
				     config->journal, config->spool};
	struct recovery_settings settings = {0};
	struct recovery_result result;
	struct recovery *recovery = NULL;
	uint32_t epoch;
	int r = superblock && oplog && log && shared ? 0 : -ENOMEM;

	if (r == 0)
		r = refuse_only_copies(mend, why);
	if (r == 0)
		r = recovery_open(config, &settings, why, &recovery);
	if (r < 0)
		return r;
	r = refuse_newer_records(mend, recovery_newest(recovery, &epoch), why);
	for (size_t i = 0; i < ARRAY_COUNT(paths) && r == 0; i++)
		r = move_aside(mend, paths[i], why);
	if (r == 0)
		r = recovery_run(recovery, &result, why);
	if (r == 0)
		did(mend, "%s: rebuilt from the providers: record %" PRIu64 ", %" PRIu64
		    " inodes, %" PRIu64 " shards, %" PRIu64 " of them missing", config->index,
		    result.generation, result.inodes, result.shards, result.shards_missing);
	recovery_close(recovery);
	return r;
}

static void on_recomputed(void *ctx, const char *kind, uint64_t rows)
{
	did(ctx, "index: %s: %" PRIu64 " rows recomputed", kind, rows);
}

static int mend_locked(struct mend *mend, struct buf *why)
{
	struct fsck *fsck = &mend->fsck;
	int r = 0;

	if (mend->report.by_remedy[FSCK_REWRITE] > 0)
		r = write_superblocks(mend, why);
	for (size_t i = 0; i < fsck->aside.count && r == 0; i++)
		r = move_aside(mend, fsck->aside.paths[i], why);
	if (r == 0 && mend->report.by_remedy[FSCK_REBUILD] == 0 &&
	    mend->report.by_remedy[FSCK_FOLLOWS] > 0)
		r = index_repair(fsck->config->index, on_recomputed, mend);
	return r;
}

int fsck_repair(const struct config *config, const struct fsck_settings *settings,
		void (*done)(void *ctx, const char *text), void *ctx, struct buf *why)
{
	struct fsck_settings quiet = *settings;
	struct mend mend = {.done = done, .ctx = ctx};
	AUTO_FD fd = -1;
	int r = fsck_lock(config, settings->lock_wait_ms, &fd, why);

	quiet.found = NULL;
	mend.fsck = (struct fsck){.config = config, .settings = &quiet, .report = &mend.report};
	if (r == 0)
		r = fsck_begin(&mend.fsck, why);
	if (r == 0)
		r = mend_locked(&mend, why);
	/* the recovery takes the lock itself */
	if (fd >= 0)
		close(fd);
	fd = -1;
	if (r == 0 && mend.report.by_remedy[FSCK_REBUILD] > 0)
		r = rebuild(&mend, why);
	fsck_end(&mend.fsck);
	if (r < 0 && why->len == 0)
		buf_printf(why, "%s: the repair failed: %s", config->home, err_sentence(r));
	return r;
}
