/* SPDX-License-Identifier: Apache-2.0 */
#include "store/spool_private.h"

#include "codec/compress.h"
#include "util/err.h"
#include "util/file.h"
#include "util/log.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Files of the spool that another process left, and records that must leave a
 * file which cannot be finished.
 *
 * Recovery lists the directory, then walks the index's shards once and gives
 * each file its row; what is left over is unknown.  Only then does it act, so
 * that shards made on the way are not mistaken for old ones.
 *
 * Durable steps of moving: the record is in the new shard -> moved() journals
 * the new place -> settle(): spool bytes and journal are synced -> the old file
 * is removed -> gone().  A crash in between repeats what was not journalled.
 */

#define LIST_PAGE 512

/* ---- one record ---- */

struct spool_checker {
	struct aead_ctx *ctx;
	struct pack_keys *keys; /* of the shard asked last; locked memory */
	bool has_keys;
	struct buf scratch;
};

void spool_checker_free(struct spool_checker *checker)
{
	if (!checker)
		return;
	aead_ctx_free(checker->ctx);
	if (checker->keys)
		secret_free(checker->keys, sizeof(*checker->keys));
	buf_release(&checker->scratch);
	mem_free(checker);
}
DEFINE_FREEP(spool_checker)

static int checker_new(struct spool_checker **out)
{
	AUTO_PTR(spool_checker) checker = mem_alloc(sizeof(*checker));
	int r;

	if (!checker)
		return -ENOMEM;
	checker->keys = secret_alloc(sizeof(*checker->keys));
	if (!checker->keys)
		return -ENOMEM;
	r = aead_ctx_new(&checker->ctx);
	if (r < 0)
		return r;
	*out = STEAL(checker);
	return 0;
}

static int checker_use_shard(struct spool_checker *checker, struct spool *spool,
			     const struct shard_row *shard)
{
	int r;

	if (checker->has_keys && checker->keys->key_epoch == shard->key_epoch &&
	    memcmp(&checker->keys->id, &shard->id, sizeof(shard->id)) == 0)
		return 0;
	r = pack_keys_init(checker->keys, spool->settings.keyring, shard->key_epoch, &shard->id);
	checker->has_keys = r == 0;
	return r;
}

/* Reads and opens; record->payload lies in the checker's scratch.  -EBADMSG also when it is cut. */
static int checker_open_record(struct spool_checker *checker, int fd, const struct chunk_row *chunk,
			       struct pack_record *record)
{
	int r;

	if (chunk->stored_len > CHUNK_BYTES_MAX + PACK_RECORD_EXTRA)
		return -EBADMSG;
	buf_clear(&checker->scratch);
	r = file_pread_buf(fd, chunk->stored_len, chunk->off, &checker->scratch);
	if (r < 0)
		return r == -ENODATA ? -EBADMSG : r;
	r = pack_open_record(checker->ctx, checker->keys, chunk->record_no,
			     buf_bytes(&checker->scratch), checker->scratch.ptr, record);
	if (r < 0)
		return r;
	if (!chunk_id_is_equal(&record->id, &chunk->id) || record->raw_len != chunk->raw_len)
		return -EBADMSG;
	return 0;
}

/* The contexts rest in the spool between calls; a second thread makes its own. */
static int checker_take(struct spool *spool, struct spool_checker **out)
{
	struct spool_checker *checker;

	lock_take(&spool->lock);
	checker = STEAL(spool->checker);
	lock_drop(&spool->lock);
	if (!checker)
		return checker_new(out);
	*out = checker;
	return 0;
}

static void checker_put(struct spool *spool, struct spool_checker *checker)
{
	lock_take(&spool->lock);
	if (!spool->checker)
		spool->checker = STEAL(checker);
	lock_drop(&spool->lock);
	spool_checker_free(checker);
}

int spool_check_record(struct spool *spool, const struct shard_row *shard,
		       const struct chunk_row *chunk)
{
	struct spool_checker *checker;
	struct pack_record record;
	char path[SPOOL_PATH_SIZE];
	AUTO_FD fd = open(spool_path(spool, &shard->id, path), O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = checker_take(spool, &checker);
	if (r < 0)
		return r;
	r = checker_use_shard(checker, spool, shard);
	if (r == 0)
		r = checker_open_record(checker, fd, chunk, &record);
	checker_put(spool, checker);
	return r;
}

/* ---- moving ---- */

struct move {
	struct spool *spool;
	struct aead_ctx *ctx;
	struct spool_checker *checker;
	const struct shard_row *shard;
	int fd; /* -1: there is no file */
	uint64_t bad;
};

static void move_report_bad(struct move *move, const struct chunk_row *chunk, int error)
{
	struct spool *spool = move->spool;

	move->bad++;
	log_error("spool-record-damaged", "shard=%s record=%u chunk=%llu error=%s",
		  shard_id_hex(&move->shard->id).s, chunk->record_no,
		  (unsigned long long)chunk->chunk_no, err_name(error));
	if (spool->settings.bad)
		spool->settings.bad(spool->settings.ctx, chunk->chunk_no);
}

static int move_record(struct move *move, const struct chunk_row *chunk)
{
	const struct shard_row *shard = move->shard;
	struct shard_class class = {.policy_root = shard->policy_root,
				    .priority = shard->priority,
				    .key_epoch = shard->key_epoch};
	struct spool *spool = move->spool;
	struct chunk_row now = *chunk;
	struct pack_record record;
	int r = -ENOENT;

	if (move->fd >= 0)
		r = checker_open_record(move->checker, move->fd, chunk, &record);
	if (r == -EBADMSG || r == -EIO || r == -ENOENT) {
		move_report_bad(move, chunk, r);
		return 0;
	}
	if (r < 0)
		return r;
	r = spool_append(spool, move->ctx, &class, &record.id, record.form, record.raw_len,
			 record.payload, &now);
	if (r < 0)
		return r;
	r = spool->settings.moved(spool->settings.ctx, chunk, &now);
	spool_append_done(spool, now.shard_no);
	return r;
}

/* Chunks are listed by number, so what moved away meanwhile does not disturb the walk. */
static int move_all(struct move *move, struct index_reader *reader)
{
	AUTO(chunk_list) list = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	for (;;) {
		list.count = 0;
		r = index_list_chunks(move->spool->settings.index, reader, move->shard->shard_no,
				      after, LIST_PAGE, &list);
		if (r < 0)
			return r;
		for (size_t i = 0; i < list.count; i++) {
			r = move_record(move, &list.rows[i]);
			if (r < 0)
				return r;
			after = list.rows[i].chunk_no;
		}
		if (list.count < LIST_PAGE)
			return 0;
	}
}

int spool_move_records(struct spool *spool, struct index_reader *reader, struct aead_ctx *ctx,
		       const struct shard_row *row, int fd, uint64_t *bad)
{
	struct move move = {.spool = spool, .ctx = ctx, .shard = row, .fd = fd};
	int r = checker_take(spool, &move.checker);

	if (r < 0)
		return r;
	r = checker_use_shard(move.checker, spool, row);
	if (r == 0)
		r = move_all(&move, reader);
	checker_put(spool, move.checker);
	if (r == 0)
		*bad = move.bad;
	return r;
}

/* ---- recovery ---- */

struct found_file {
	struct map_node node; /* by id */
	struct shard_row row; /* the index's, once is_known; id before */
	uint64_t len;
	bool is_known;
	bool is_to_move;
	uint64_t bad;	 /* records that stay because they do not authenticate */
	bool is_missing; /* the index has an open shard, and there is no file */
};

struct recovery {
	struct spool *spool;
	struct index_reader *reader;
	struct aead_ctx *ctx;
	struct map files;
	uint64_t taken, moved, removed;
};

static uint64_t id_hash(const struct shard_id *id)
{
	return map_hash_bytes(0, id->b, sizeof(id->b));
}

static struct found_file *file_find(struct recovery *recovery, const struct shard_id *id)
{
	struct map_node *node = map_first(&recovery->files, id_hash(id));

	for (; node; node = map_next(node)) {
		struct found_file *file = container_of(node, struct found_file, node);

		if (memcmp(&file->row.id, id, sizeof(*id)) == 0)
			return file;
	}
	return NULL;
}

static int file_add(struct recovery *recovery, const struct shard_row *row, struct found_file **out)
{
	struct found_file *file = mem_alloc(sizeof(*file));
	int r;

	if (!file)
		return -ENOMEM;
	file->row = *row;
	r = map_insert(&recovery->files, &file->node, id_hash(&row->id));
	if (r < 0) {
		mem_free(file);
		return r;
	}
	*out = file;
	return 0;
}

static void files_release(struct recovery *recovery)
{
	struct map_node *node = map_iterate(&recovery->files, NULL), *next;

	for (; node; node = next) {
		next = map_iterate(&recovery->files, node);
		mem_free(container_of(node, struct found_file, node));
	}
	map_release(&recovery->files);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool id_parse(const char *name, struct shard_id *id)
{
	if (strlen(name) != 2 * sizeof(id->b))
		return false;
	for (size_t i = 0; i < sizeof(id->b); i++) {
		int high = hex_digit(name[2 * i]), low = hex_digit(name[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		id->b[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int list_files(struct recovery *recovery)
{
	struct dirent *entry;
	DIR *dir = opendir(recovery->spool->dir);
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (entry = readdir(dir))) {
		struct shard_row row = {0};
		struct found_file *file;
		struct stat st;

		if (entry->d_name[0] == '.')
			continue;
		if (!id_parse(entry->d_name, &row.id) ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode)) {
			log_warn("spool-stray-file", "name=" LOG_Q, entry->d_name);
			continue;
		}
		r = file_add(recovery, &row, &file);
		if (r == 0)
			file->len = (uint64_t)st.st_size;
	}
	closedir(dir);
	return r;
}

static int match_row(struct recovery *recovery, const struct shard_row *row)
{
	struct found_file *file = file_find(recovery, &row->id);
	int r = 0;

	if (file) {
		file->row = *row;
		file->is_known = true;
	} else if (row->state == SHARD_OPEN) {
		r = file_add(recovery, row, &file);
		if (r == 0)
			file->is_known = file->is_missing = true;
	} else if (row->state == SHARD_SEALED) {
		log_warn("spool-shard-missing", "shard=%s shard_no=%llu", shard_id_hex(&row->id).s,
			 (unsigned long long)row->shard_no);
	}
	return r;
}

static int match_rows(struct recovery *recovery)
{
	AUTO(shard_list) list = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	do {
		list.count = 0;
		r = index_list_shards(recovery->spool->settings.index, recovery->reader, after,
				      LIST_PAGE, &list);
		for (size_t i = 0; r == 0 && i < list.count; i++) {
			r = match_row(recovery, &list.rows[i]);
			after = list.rows[i].shard_no;
		}
	} while (r == 0 && list.count == LIST_PAGE);
	return r;
}

static void file_remove(struct recovery *recovery, const struct shard_id *id)
{
	char path[SPOOL_PATH_SIZE];

	if (unlink(spool_path(recovery->spool, id, path)) < 0 && errno != ENOENT)
		log_warn("spool-unlink-failed", "shard=%s error=%s", shard_id_hex(id).s,
			 err_name(errno));
	recovery->removed++;
}

/* 0: the file ends with the tail of a finished object, whose MAC is in mac. */
static int file_read_tail(int fd, uint64_t len, uint8_t mac[32])
{
	uint8_t tail[PACK_TAIL_LEN];
	int r;

	if (len < PACK_HEADER_LEN + PACK_TAIL_LEN)
		return -EBADMSG;
	r = file_pread(fd, tail, sizeof(tail), len - sizeof(tail));
	return r < 0 ? r : pack_tail_read(bytes_of(tail, sizeof(tail)), len, mac);
}

/* All bytes of a finished object; completes the row. */
static int file_verify(struct recovery *recovery, int fd, struct found_file *file)
{
	AUTO(pack_footer) footer = PACK_FOOTER_INIT;
	struct shard_row *row = &file->row;
	struct spool_checker *checker;
	void *ptr;
	int r = checker_take(recovery->spool, &checker);

	if (r < 0)
		return r;
	r = checker_use_shard(checker, recovery->spool, row);
	if (r == 0) {
		ptr = mmap(NULL, file->len, PROT_READ, MAP_SHARED, fd, 0);
		r = ptr == MAP_FAILED ? -errno : 0;
	}
	if (r == 0) {
		r = pack_verify(checker->ctx, checker->keys, bytes_of(ptr, file->len), &footer);
		munmap(ptr, file->len);
	}
	checker_put(recovery->spool, checker);
	if (r < 0)
		return r;
	if (footer.shard.shard_no != row->shard_no)
		return -EBADMSG;
	row->state = SHARD_SEALED;
	row->object_len = footer.shard.object_len;
	row->record_count = footer.shard.record_count;
	row->sealed_sec = footer.shard.sealed_sec;
	memcpy(row->mac, footer.shard.mac, sizeof(row->mac));
	return 0;
}

static int file_take_over(struct recovery *recovery, const struct found_file *file)
{
	struct spool *spool = recovery->spool;
	struct spool_shard *shard;
	int r = spool_shard_new(&file->row, &shard);

	if (r < 0)
		return r;
	shard->state = SPOOL_SEALED;
	lock_take(&spool->lock);
	r = spool_shard_insert_locked(spool, shard, &spool->sealed);
	if (r == 0)
		spool_shard_charge_locked(spool, shard, file->row.object_len);
	lock_drop(&spool->lock);
	if (r < 0)
		spool_shard_free(shard);
	else
		recovery->taken++;
	return r;
}

static int shard_has_valid_copy(struct recovery *recovery, uint64_t shard_no, bool *out)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = index_list_copies(recovery->spool->settings.index, recovery->reader, shard_no,
				  &copies);

	if (r < 0)
		return r;
	*out = false;
	for (size_t i = 0; i < copies.count; i++)
		*out |= copies.rows[i].state == COPY_PRESENT ||
			copies.rows[i].state == COPY_VERIFIED;
	return 0;
}

/* The index says sealed.  Its bytes authenticate when they are used; here length and MAC count. */
static int recover_sealed(struct recovery *recovery, int fd, struct found_file *file)
{
	uint8_t mac[32];
	bool has_copy;
	int r = file->len == file->row.object_len ? file_read_tail(fd, file->len, mac) : -EBADMSG;

	if (r == 0 && memcmp(mac, file->row.mac, sizeof(mac)) == 0)
		return file_take_over(recovery, file);
	if (r < 0 && r != -EBADMSG && r != -EIO)
		return r;
	log_error("spool-shard-damaged", "shard=%s length=%llu expected=%llu",
		  shard_id_hex(&file->row.id).s, (unsigned long long)file->len,
		  (unsigned long long)file->row.object_len);
	r = shard_has_valid_copy(recovery, file->row.shard_no, &has_copy);
	if (r < 0)
		return r;
	if (has_copy)
		file_remove(recovery, &file->row.id);
	else
		file->is_to_move = true;
	return 0;
}

static int recover_open(struct recovery *recovery, int fd, struct found_file *file)
{
	struct spool *spool = recovery->spool;
	uint8_t mac[32];
	int r = file_read_tail(fd, file->len, mac);

	if (r == 0)
		r = file_verify(recovery, fd, file);
	if (r == 0)
		r = file_fdatasync(fd);
	if (r == -EBADMSG || r == -EIO || r == -EPROTONOSUPPORT) {
		file->is_to_move = true;
		return 0;
	}
	if (r == 0)
		r = file_take_over(recovery, file);
	if (r == 0)
		spool->settings.sealed(spool->settings.ctx, &file->row);
	return r;
}

static int recover_file(struct recovery *recovery, struct found_file *file)
{
	char path[SPOOL_PATH_SIZE];
	AUTO_FD fd = -1;

	if (file->is_missing) {
		log_error("spool-shard-missing", "shard=%s shard_no=%llu state=open",
			  shard_id_hex(&file->row.id).s, (unsigned long long)file->row.shard_no);
		file->is_to_move = true;
		return 0;
	}
	if (!file->is_known || file->row.state > SHARD_SEALED) {
		log_warn(file->is_known ? "spool-file-left-over" : "spool-file-unknown",
			 "shard=%s length=%llu action=removed", shard_id_hex(&file->row.id).s,
			 (unsigned long long)file->len);
		file_remove(recovery, &file->row.id);
		return 0;
	}
	fd = open(spool_path(recovery->spool, &file->row.id, path), O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return file->row.state == SHARD_SEALED ? recover_sealed(recovery, fd, file)
					       : recover_open(recovery, fd, file);
}

static int move_file(struct recovery *recovery, struct found_file *file)
{
	char path[SPOOL_PATH_SIZE];
	AUTO_FD fd = -1;

	if (!file->is_missing) {
		fd = open(spool_path(recovery->spool, &file->row.id, path), O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}
	recovery->moved++;
	return spool_move_records(recovery->spool, recovery->reader, recovery->ctx, &file->row, fd,
				  &file->bad);
}

/*
 * All records have moved: once that is durable the old files go.  What holds a damaged record stays,
 * with its row, so that references resolve, until nothing refers to it any more.
 */
static int settle_and_remove(struct recovery *recovery)
{
	const struct spool_settings *settings = &recovery->spool->settings;
	struct map_node *node = NULL;
	int r;

	if (!settings->settle)
		return 0;
	r = settings->settle(settings->ctx);
	if (r < 0)
		return r;
	while ((node = map_iterate(&recovery->files, node))) {
		struct found_file *file = container_of(node, struct found_file, node);

		if (!file->is_to_move || file->bad > 0)
			continue;
		if (!file->is_missing)
			file_remove(recovery, &file->row.id);
		if (settings->gone)
			settings->gone(settings->ctx, &file->row);
	}
	return 0;
}

static int recover_files(struct recovery *recovery)
{
	struct map_node *node = NULL;
	int r = 0;

	while (r == 0 && (node = map_iterate(&recovery->files, node)))
		r = recover_file(recovery, container_of(node, struct found_file, node));
	node = NULL;
	while (r == 0 && (node = map_iterate(&recovery->files, node))) {
		struct found_file *file = container_of(node, struct found_file, node);

		if (file->is_to_move)
			r = move_file(recovery, file);
	}
	if (r == 0 && recovery->moved > 0)
		r = settle_and_remove(recovery);
	return r;
}

int spool_recover(struct spool *spool, struct index_reader *reader)
{
	struct recovery recovery = {.spool = spool, .reader = reader};
	int r;

	assert(spool->settings.index && spool->settings.moved);
	r = aead_ctx_new(&recovery.ctx);
	if (r == 0)
		r = list_files(&recovery);
	if (r == 0)
		r = match_rows(&recovery);
	if (r == 0)
		r = recover_files(&recovery);
	if (r == 0 && recovery.taken + recovery.moved + recovery.removed > 0)
		log_info("spool-recovered", "sealed=%llu moved=%llu removed=%llu",
			 (unsigned long long)recovery.taken, (unsigned long long)recovery.moved,
			 (unsigned long long)recovery.removed);
	files_release(&recovery);
	aead_ctx_free(recovery.ctx);
	return r;
}
