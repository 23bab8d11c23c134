/* SPDX-License-Identifier: Apache-2.0 */
/* What lies under home: superblock, index, journal, oplog, spool.  Nothing is changed. */
#include "store/fsck_private.h"

#include "store/oplog_format.h"
#include "store/superblock_io.h"
#include "util/err.h"
#include "util/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE	  512u
#define COPY_STEP ((size_t)1 << 20)

/* ---- superblocks ---- */

static int read_file(const char *path, size_t bytes_max, struct buf *out)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > bytes_max)
		return -EBADMSG;
	return file_pread_buf(fd, (size_t)st.st_size, 0, out);
}

static int unlock(struct fsck *fsck, const struct superblock *sb, struct keyring **out,
		  struct buf *why)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	const struct config *config = fsck->config;
	int r = credentials_load(config->passphrase_file, config->passphrase_command,
				 config->key_file, &credentials, why);

	return r < 0 ? r : keyring_unlock(sb, &credentials, out);
}

static int read_local(struct fsck *fsck, struct superblock *sb)
{
	AUTO_STR path = store_path(fsck->config, STORE_SUPERBLOCK_NAME);
	AUTO(buf) bytes = BUF_INIT;
	int r = path ? read_file(path, SUPERBLOCK_BYTES_MAX, &bytes) : -ENOMEM;

	return r < 0 ? r : superblock_parse(buf_bytes(&bytes), sb);
}

static int read_of_provider(struct fsck *fsck, size_t i, struct superblock *sb)
{
	AUTO(buf) why = BUF_INIT;
	AUTO_BACKEND backend = NULL;
	int r = provider_open(fsck->config, &fsck->config->providers[i], &why, &backend);

	return r < 0 ? r : superblock_io_get(backend, sb, &why);
}

/* Takes it when it is the first that authenticates, or newer than the one in hand. */
static int judge(struct fsck *fsck, const struct superblock *sb, struct buf *why)
{
	int r = fsck->keyring ? keyring_check(fsck->keyring, sb)
			      : unlock(fsck, sb, &fsck->keyring, why);

	if (r == 0 && sb->revision > fsck->sb->revision)
		*fsck->sb = *sb;
	return r;
}

static void judge_provider(struct fsck *fsck, size_t i, struct superblock *sb, uint64_t *revision,
			   bool *is_reached)
{
	const char *name = fsck->config->providers[i].name;
	AUTO(buf) why = BUF_INIT;
	int r = read_of_provider(fsck, i, sb);

	*is_reached = r == 0 || r == -ENOENT || r == -EBADMSG;
	if (r == 0)
		r = judge(fsck, sb, &why);
	if (r == 0)
		*revision = sb->revision;
	if (r == 0 || !*is_reached || !fsck->settings->with_providers)
		return;
	fsck->provider_sb_bad[i] = true;
	if (r == -ENOENT)
		fsck_found(fsck, "provider-superblock-missing", "provider %s: no superblock", name);
	else
		fsck_found(fsck, "provider-superblock-damaged", "provider %s: superblock: %s", name,
			   err_sentence(r));
}

static void judge_revisions(struct fsck *fsck, uint64_t local, const uint64_t *revisions)
{
	uint64_t newest = fsck->sb->revision;

	if (local > 0 && local < newest) {
		fsck->is_local_sb_bad = true;
		fsck_found(fsck, "superblock-older",
			   "%s/superblock: revision %" PRIu64 ", a provider has %" PRIu64,
			   fsck->config->home, local, newest);
	}
	for (size_t i = 0; i < fsck->config->provider_count; i++) {
		if (revisions[i] == 0 || revisions[i] == newest || !fsck->settings->with_providers)
			continue;
		fsck->provider_sb_bad[i] = true;
		fsck_found(fsck, "provider-superblock-older",
			   "provider %s: superblock of revision %" PRIu64 ", the newest is %" PRIu64,
			   fsck->config->providers[i].name, revisions[i], newest);
	}
}

int fsck_superblocks(struct fsck *fsck, struct buf *why)
{
	uint64_t revisions[CONFIG_PROVIDERS_MAX] = {0}, local_revision = 0;
	struct superblock *sb = mem_alloc(sizeof(*sb));
	bool is_reached;
	int r, local;

	fsck->sb = mem_alloc(sizeof(*fsck->sb));
	if (!sb || !fsck->sb) {
		mem_free(sb);
		return -ENOMEM;
	}
	r = local = read_local(fsck, sb);
	if (local == -EPROTONOSUPPORT) {
		buf_printf(why, "%s/superblock: made by a newer version of shardfs; use that version",
			   fsck->config->home);
		mem_free(sb);
		return local;
	}
	if (r == 0)
		r = local = judge(fsck, sb, why);
	if (r == 0)
		local_revision = sb->revision;
	for (size_t i = 0; i < fsck->config->provider_count; i++)
		if (local < 0 || fsck->settings->with_providers)
			judge_provider(fsck, i, sb, &revisions[i], &is_reached);
	mem_free(sb);
	if (!fsck->keyring) {
		if (local == -EKEYREJECTED || local == -ENOKEY)
			store_leave_failed_unlock(fsck->config, local);
		if (why->len == 0)
			buf_printf(why, "%s: no superblock opens with these keys, here or at a "
					"provider: %s", fsck->config->home, err_sentence(r));
		return r < 0 ? r : -ENOENT;
	}
	buf_clear(why);
	if (local < 0) {
		fsck->is_local_sb_bad = true;
		fsck_found(fsck, local == -ENOENT ? "superblock-missing" : "superblock-damaged",
			   "%s/superblock: %s", fsck->config->home, err_sentence(local));
	}
	judge_revisions(fsck, local_revision, revisions);
	return 0;
}

/* ---- index ---- */

static int copy_file(const char *from, const char *to)
{
	AUTO_FD in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	AUTO_FD out = -1;
	AUTO(buf) bytes = BUF_INIT;
	off_t off = 0;
	ssize_t n;
	int r;

	if (in < 0)
		return -errno;
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	while ((n = copy_file_range(in, &off, out, NULL, COPY_STEP, 0)) > 0)
		;
	if (n == 0 && off > 0)
		return 0;
	r = buf_reserve(&bytes, COPY_STEP);
	while (r == 0 && (n = pread(in, bytes.ptr, COPY_STEP, off)) > 0) {
		r = file_pwrite(out, bytes_of(bytes.ptr, (size_t)n), (uint64_t)off);
		off += n;
	}
	return r < 0 ? r : n < 0 ? -errno : 0;
}

static int copy_index(struct fsck *fsck, const char *copy)
{
	AUTO_STR log = mem_printf("%s-wal", fsck->config->index);
	AUTO_STR log_copy = mem_printf("%s-wal", copy);
	int r = log && log_copy ? 0 : -ENOMEM;

	if (r == 0) {
		unlink(log_copy); /* of an earlier copy */
		r = copy_file(fsck->config->index, copy);
	}
	if (r == 0) {
		r = copy_file(log, log_copy);
		r = r == -ENOENT ? 0 : r;
	}
	return r;
}

static void on_violation(void *ctx, const char *text)
{
	const char *colon = strstr(text, ": ");
	char kind[64];

	snprintf(kind, sizeof(kind), "%.*s", (int)(colon ? colon - text : 0), text);
	fsck_found(ctx, kind, "index: %s", colon ? colon + 2 : text);
}

int fsck_index(struct fsck *fsck, struct buf *why)
{
	AUTO_STR copy = mem_printf("%s/index.db", fsck->settings->scratch);
	AUTO(buf) cause = BUF_INIT;
	struct index_settings settings = {
		.path = copy,
		.cache_dirents_max = 16,
		.page_cache_bytes = fsck->config->settings.index_cache_bytes,
	};
	uint64_t violations;
	int r = copy ? copy_index(fsck, copy) : -ENOMEM;

	if (r == -ENOENT) {
		fsck_found(fsck, "index-missing", "%s: not there", fsck->config->index);
		return 0;
	}
	if (r < 0) {
		buf_printf(why, "%s: cannot be copied to %s: %s", fsck->config->index, copy,
			   err_sentence(r));
		return r;
	}
	r = index_open(&settings, &cause, &fsck->index);
	if (r == 0)
		r = index_reader_open(fsck->index, &fsck->reader);
	if (r == -ENOMEM || r == -ENOSPC)
		return r;
	if (r < 0) {
		fsck_found(fsck, r == -EPROTONOSUPPORT ? "index-newer" : "index-unreadable",
			   "%s: %s", fsck->config->index,
			   r == -EPROTONOSUPPORT ? buf_str(&cause) : err_sentence(r));
		if (fsck->index)
			index_close(fsck->index);
		fsck->index = NULL;
		return 0;
	}
	fsck->applied_seq = index_applied_seq(fsck->index);
	r = index_prove(fsck->index, fsck->reader, on_violation, fsck, &violations);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		fsck_found(fsck, "index-unreadable", "%s: %s", fsck->config->index, err_sentence(r));
	return 0;
}

/* ---- directories ---- */

/* Calls visit for each name in dir. */
static int each_name(struct fsck *fsck, const char *dir,
		     int (*visit)(struct fsck *fsck, const char *dir, const char *name))
{
	DIR *stream = opendir(dir);
	struct dirent *entry;
	int r = 0;

	if (!stream)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = readdir(stream)))
		if (entry->d_name[0] != '.')
			r = visit(fsck, dir, entry->d_name);
	closedir(stream);
	return r;
}

static int put_aside(struct fsck *fsck, const char *dir, const char *name)
{
	AUTO_STR path = mem_printf("%s/%s", dir, name);

	if (!path)
		return -ENOMEM;
	fsck_aside(fsck, path);
	return 0;
}

/* ---- journal, oplog ---- */

static int visit_journal(struct fsck *fsck, const char *dir, const char *name)
{
	if (strlen(name) == 24 && strspn(name, "0123456789abcdef") == 16 &&
	    strcmp(name + 16, ".journal") == 0)
		return 0;
	fsck_found(fsck, "journal-foreign", "%s/%s: no journal file", dir, name);
	return put_aside(fsck, dir, name);
}

static int visit_oplog(struct fsck *fsck, const char *dir, const char *name)
{
	AUTO_STR path = mem_printf("%s/%s", dir, name);
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) body = BUF_INIT;
	struct oplog_name parsed;
	struct aead_ctx *aead = NULL;
	struct digest hash;
	int r;

	/* what a crash left; what each provider has */
	if (strstr(name, ".new") || strncmp(name, "shipped-", strlen("shipped-")) == 0)
		return 0;
	if (oplog_name_parse(name, &parsed) < 0) {
		fsck_found(fsck, "oplog-foreign", "%s: no oplog object", path);
		return put_aside(fsck, dir, name);
	}
	r = path ? aead_ctx_new(&aead) : -ENOMEM;
	if (r == 0)
		r = read_file(path, PACK_OBJECT_LEN_MAX, &object);
	if (r == 0)
		r = oplog_open_object(fsck->keyring, aead, &parsed, buf_bytes(&object), &body,
				      &hash);
	aead_ctx_free(aead);
	if (r == -EBADMSG)
		fsck_found(fsck, "oplog-damaged", "%s: does not authenticate", path);
	return r == -ENOMEM ? r : 0;
}

/* To the copy: so that what is accepted and not applied yet is known. */
static int apply_synced(void *ctx, struct record *record, bool is_synced)
{
	struct fsck *fsck = ctx;
	int r = 0;

	fsck->journal_seq = MAX(fsck->journal_seq, record->seq);
	/* over a damaged index that would prove nothing */
	if (is_synced && fsck->index && fsck->report->by_remedy[FSCK_REBUILD] == 0 &&
	    record->seq > index_applied_seq(fsck->index)) {
		r = index_note(fsck->index, record);
		if (r == 0)
			r = index_apply(fsck->index, &record, 1);
	}
	record_free(record);
	return r;
}

int fsck_journal(struct fsck *fsck)
{
	struct journal_settings settings = {
		.dir = fsck->config->journal,
		.keyring = fsck->keyring,
		.file_bytes_max = 64 * MIB,
		.writer_epoch = 1,
	};
	AUTO_STR oplog = store_path(fsck->config, STORE_OPLOG_NAME);
	struct journal_replay_info info = {0};
	int r = oplog ? each_name(fsck, settings.dir, visit_journal) : -ENOMEM;

	if (r == 0)
		r = each_name(fsck, oplog, visit_oplog);
	/* without an index nobody knows where it should begin */
	if (r < 0 || !fsck->index)
		return r;
	r = journal_replay(&settings, fsck->applied_seq, apply_synced, fsck, &info);
	if (r == -EUCLEAN || r == -EBADMSG || r == -ENOKEY || r == -EIO)
		fsck_found(fsck, "journal-damaged", "%s: the records after %" PRIu64
			   " cannot be read: %s", settings.dir, fsck->applied_seq, err_sentence(r));
	else if (r == -EPROTONOSUPPORT)
		fsck_found(fsck, "journal-newer", "%s: made by a newer version", settings.dir);
	else if (r < 0 && r != -ENOENT)
		return r;
	else if (info.damaged_frames > 0)
		fsck_found(fsck, "journal-frame", "%s: %" PRIu64 " frames of applied records do not "
			   "authenticate", settings.dir, info.damaged_frames);
	if (r == 0 && info.dropped_bytes > 0)
		fsck_found(fsck, "journal-torn", "%s: %" PRIu64 " bytes behind the last whole record "
			   "are left out", settings.dir, info.dropped_bytes);
	return 0;
}

/* ---- spool ---- */

static int visit_spool(struct fsck *fsck, const char *dir, const char *name)
{
	struct shard_row row;
	struct shard_id id;
	int r;

	if (!fsck_parse_shard_id(name, &id)) {
		fsck_found(fsck, "spool-foreign", "%s/%s: no shard", dir, name);
		return put_aside(fsck, dir, name);
	}
	r = index_find_shard(fsck->index, fsck->reader, &id, &row);
	if (r == -ENOENT)
		fsck_found(fsck, "spool-unknown", "%s/%s: the index does not know it", dir, name);
	return r == -ENOENT ? 0 : r;
}

static int count_valid(struct fsck *fsck, uint64_t shard_no, unsigned *valid)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = index_list_copies(fsck->index, fsck->reader, shard_no, &copies);

	*valid = 0;
	for (size_t i = 0; i < copies.count; i++)
		*valid += copies.rows[i].state == COPY_PRESENT ||
			  copies.rows[i].state == COPY_VERIFIED;
	return r;
}

static int check_records(struct fsck *fsck, struct spool *spool, const struct shard_row *shard,
			 uint32_t *bad_record, bool *is_bad)
{
	uint64_t after = 0;
	size_t count;

	*is_bad = false;
	do {
		AUTO(chunk_list) chunks = ROW_LIST_INIT;
		int r = index_list_chunks(fsck->index, fsck->reader, shard->shard_no, after, PAGE,
					  &chunks);

		if (r < 0)
			return r;
		for (size_t i = 0; i < chunks.count && !*is_bad; i++) {
			*is_bad = spool_check_record(spool, shard, &chunks.rows[i]) < 0;
			*bad_record = chunks.rows[i].record_no;
			after = chunks.rows[i].chunk_no;
		}
		count = chunks.count;
	} while (count == PAGE && !*is_bad);
	return 0;
}

static int check_shard(struct fsck *fsck, struct spool *spool, const struct shard_row *shard)
{
	AUTO_STR path = mem_printf("%s/%s", fsck->config->spool, shard_id_hex(&shard->id).s);
	uint32_t record_no = 0;
	bool is_bad = false;
	struct stat st;
	unsigned valid;
	int r = path ? count_valid(fsck, shard->shard_no, &valid) : -ENOMEM;

	if (r < 0 || shard->state == SHARD_GONE)
		return r;
	if (stat(path, &st) < 0) {
		if (valid == 0 && shard->live_bytes > 0)
			fsck_found(fsck, "shard-lost", "shard %" PRIu64 " (%s): %" PRIu64
				   " bytes of chunks in use, but it is not in the spool and no copy "
				   "is known to be good", shard->shard_no, shard_id_hex(&shard->id).s,
				   shard->live_bytes);
		else if (valid > 0 && shard->state == SHARD_SEALED)
			fsck_found(fsck, "spool-owes", "shard %" PRIu64 " (%s): not in the spool",
				   shard->shard_no, shard_id_hex(&shard->id).s);
		return 0;
	}
	if (shard->state >= SHARD_SEALED && (uint64_t)st.st_size != shard->object_len) {
		fsck_found(fsck, valid ? "spool-length" : "spool-length-only",
			   "%s: %" PRIu64 " bytes, and should be %" PRIu64, path,
			   (uint64_t)st.st_size, shard->object_len);
		if (valid)
			fsck_aside(fsck, path);
		return 0;
	}
	if (fsck->settings->is_deep)
		r = check_records(fsck, spool, shard, &record_no, &is_bad);
	if (r == 0 && is_bad) {
		fsck_found(fsck, valid ? "spool-record" : "spool-record-only",
			   "%s: record %" PRIu32 " does not authenticate", path, record_no);
		if (valid)
			fsck_aside(fsck, path);
	}
	return r;
}

static int check_shards(struct fsck *fsck, struct spool *spool)
{
	uint64_t after = 0;
	size_t count;

	do {
		AUTO(shard_list) shards = ROW_LIST_INIT;
		int r = index_list_shards(fsck->index, fsck->reader, after, PAGE, &shards);

		for (size_t i = 0; i < shards.count && r == 0; i++) {
			r = check_shard(fsck, spool, &shards.rows[i]);
			after = shards.rows[i].shard_no;
		}
		if (r < 0)
			return r;
		count = shards.count;
	} while (count == PAGE);
	return 0;
}

/* Nothing is appended and nothing recovered, so neither is ever called. */
static int on_opened(void *ctx, struct shard_row *shard)
{
	(void)ctx;
	(void)shard;
	return -EROFS;
}

static void on_sealed(void *ctx, const struct shard_row *shard)
{
	(void)ctx;
	(void)shard;
}

int fsck_spool(struct fsck *fsck)
{
	const struct config *config = fsck->config;
	struct spool_settings settings = {
		.dir = config->spool,
		.keyring = fsck->keyring,
		.index = fsck->index,
		.shard_bytes = config->settings.shard_size_bytes,
		.open_shards_max = 1,
		.idle_ms = 1000,
		.size_max = config->settings.spool_size_bytes,
		.writer_epoch = 1,
		.opened = on_opened,
		.sealed = on_sealed,
	};
	struct spool *spool = NULL;
	int r = access(config->spool, F_OK) == 0 ? spool_open(&settings, &spool) : 0;

	if (r == 0)
		r = each_name(fsck, config->spool, visit_spool);
	if (r == 0)
		r = check_shards(fsck, spool);
	spool_stop(spool);
	spool_close(spool);
	/* of a damaged index these are no news */
	return r == -EUCLEAN || r == -EIO ? 0 : r;
}
