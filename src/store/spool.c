/* SPDX-License-Identifier: Apache-2.0 */
#include "store/spool_private.h"

#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/file.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/queue.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/*
 * One lock guards the table of shards and their numbers; it is held to take a
 * record number and an offset, never across AES, a write or a sync.
 *
 * An append: reserve (number, offset, `appending` + 1) -> seal -> pwrite ->
 * the caller journals -> spool_append_done.  A shard that takes no more records
 * waits in `work` until `appending` is 0; the sealer then writes its footer, or
 * moves its records when it is broken.
 *
 * Durable steps of sealing: records are in the file -> footer, MACs and tail
 * are written -> fdatasync -> sealed() journals the row.  A failed write of the
 * same tail bytes is repeated (the footer is sealed once); a failed fdatasync
 * makes the shard broken, since the kernel may have dropped the pages.
 *
 * What is durable: each finished write gets the next write_seq; a sync notes
 * write_seq before it starts.  So a shard is dirty when written_seq is above
 * synced_seq, and two syncs at a time cannot hide bytes from each other.
 */

static struct counter spool_records = COUNTER_INIT("spool_records", "records appended to the spool");
static struct counter spool_bytes = COUNTER_INIT("spool_bytes", "sealed bytes appended to the spool");
static struct counter spool_shards = COUNTER_INIT("spool_shards_sealed", "shards that got a footer");
static struct counter spool_broken = COUNTER_INIT("spool_shards_broken",
						  "shards given up after a failed write");
COUNTER_REGISTER(spool_records);
COUNTER_REGISTER(spool_bytes);
COUNTER_REGISTER(spool_shards);
COUNTER_REGISTER(spool_broken);

const char *spool_path(const struct spool *spool, const struct shard_id *id,
		       char out[SPOOL_PATH_SIZE])
{
	snprintf(out, SPOOL_PATH_SIZE, "%s/%s", spool->dir, shard_id_hex(id).s);
	return out;
}

/* ---- the table of shards ---- */

int spool_shard_new(const struct shard_row *row, struct spool_shard **out)
{
	struct spool_shard *shard = mem_alloc(sizeof(*shard));

	if (!shard)
		return -ENOMEM;
	shard->row = *row;
	shard->fd = -1;
	list_init(&shard->node);
	*out = shard;
	return 0;
}

static void shard_free_keys(struct spool_shard *shard)
{
	if (shard->keys)
		secret_free(shard->keys, sizeof(*shard->keys));
	shard->keys = NULL;
}

void spool_shard_free(struct spool_shard *shard)
{
	if (!shard)
		return;
	if (shard->fd >= 0)
		close(shard->fd);
	shard_free_keys(shard);
	mem_free(shard->entries);
	buf_release(&shard->tail);
	mem_free(shard);
}
DEFINE_FREEP(spool_shard)

void spool_shard_charge_locked(struct spool *spool, struct spool_shard *shard, uint64_t bytes)
{
	spool->bytes_used = spool->bytes_used - shard->charged + bytes;
	shard->charged = bytes;
}

int spool_shard_insert_locked(struct spool *spool, struct spool_shard *shard, struct list *list)
{
	int r = map_insert(&spool->by_no, &shard->by_no, map_hash_u64(shard->row.shard_no));

	if (r == 0)
		list_push_back(list, &shard->node);
	return r;
}

static struct spool_shard *shard_find_locked(struct spool *spool, uint64_t shard_no)
{
	struct map_node *node = map_first(&spool->by_no, map_hash_u64(shard_no));

	for (; node; node = map_next(node)) {
		struct spool_shard *shard = container_of(node, struct spool_shard, by_no);

		if (shard->row.shard_no == shard_no)
			return shard;
	}
	return NULL;
}

void spool_shard_drop_locked(struct spool *spool, struct spool_shard *shard)
{
	assert(shard->state != SPOOL_GONE);
	if (shard->state == SPOOL_OPEN)
		spool->open_count--;
	shard->state = SPOOL_GONE;
	map_remove(&spool->by_no, &shard->by_no);
	list_remove(&shard->node);
	spool_shard_charge_locked(spool, shard, 0);
	if (shard->users == 0)
		spool_shard_free(shard);
	cond_wake_all(&spool->changed);
}

static void shard_unuse_locked(struct spool_shard *shard)
{
	assert(shard->users > 0);
	if (--shard->users > 0)
		return;
	if (shard->state == SPOOL_GONE) {
		spool_shard_free(shard);
	} else if (shard->state == SPOOL_SEALED && shard->fd >= 0) {
		close(shard->fd); /* sealed ones are opened when they are read */
		shard->fd = -1;
	}
}

/* No more records; the sealer decides what becomes of it. */
static void shard_close_locked(struct spool *spool, struct spool_shard *shard, enum spool_state to)
{
	assert(to == SPOOL_CLOSING || to == SPOOL_BROKEN);
	if (shard->state == SPOOL_OPEN)
		spool->open_count--;
	else if (shard->state != SPOOL_CLOSING || to == SPOOL_CLOSING)
		return;
	if (to == SPOOL_BROKEN)
		counter_add(&spool_broken, 1);
	shard->state = to;
	shard->close_seq = ++spool->close_seq;
	list_remove(&shard->node);
	list_push_back(&spool->work, &shard->node);
	cond_wake_all(&spool->to_do);
}

/* ---- room ---- */

/* A look at the disk now and then, outside of the lock. */
static bool disk_has_room(struct spool *spool, uint64_t need)
{
	struct statvfs st;

	if (atomic_fetch_add(&spool->unlooked_bytes, need) + need < SPOOL_STATVFS_EACH &&
	    !atomic_load(&spool->is_disk_full))
		return true;
	atomic_store(&spool->unlooked_bytes, 0);
	if (fstatvfs(spool->dir_fd, &st) < 0)
		return true; /* the write will tell */
	atomic_store(&spool->is_disk_full, (uint64_t)st.f_bavail * st.f_frsize <
						   spool->settings.reserve_bytes + need);
	return !atomic_load(&spool->is_disk_full);
}

/* Whether the spool may grow by one record; the object as it will be, footer included. */
static int shard_admit_locked(struct spool *spool, struct spool_shard *shard, uint64_t need)
{
	uint64_t then = pack_object_len(shard->end + need, shard->entry_count + 1);

	if (spool->bytes_used - shard->charged + then > spool->settings.size_max)
		return -ENOSPC;
	spool_shard_charge_locked(spool, shard, then);
	return 0;
}

/* ---- opening a shard ---- */

static bool class_is_equal(const struct shard_class *a, const struct shard_class *b)
{
	return a->policy_root == b->policy_root && a->priority == b->priority &&
	       a->key_epoch == b->key_epoch;
}

static struct shard_class class_of_row(const struct shard_row *row)
{
	return (struct shard_class){.policy_root = row->policy_root,
				    .priority = row->priority,
				    .key_epoch = row->key_epoch};
}

static struct spool_shard *shard_find_open_locked(struct spool *spool,
						  const struct shard_class *class)
{
	list_for_each(node, &spool->open) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);
		struct shard_class its = class_of_row(&shard->row);

		if (class_is_equal(&its, class))
			return shard;
	}
	return NULL;
}

static bool class_is_opening_locked(struct spool *spool, const struct shard_class *class)
{
	list_for_each(node, &spool->openings)
		if (class_is_equal(&list_entry(node, struct spool_opening, node)->class, class))
			return true;
	return false;
}

static void close_idlest_locked(struct spool *spool)
{
	struct spool_shard *idlest = NULL;

	list_for_each(node, &spool->open) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (!idlest || shard->last_append_ms < idlest->last_append_ms)
			idlest = shard;
	}
	if (idlest)
		shard_close_locked(spool, idlest, SPOOL_CLOSING);
}

static int shard_make_file(struct spool *spool, struct spool_shard *shard)
{
	uint8_t header[PACK_HEADER_LEN];
	char path[SPOOL_PATH_SIZE];
	int r;

	spool_path(spool, &shard->row.id, path);
	shard->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (shard->fd < 0)
		return -errno;
	pack_header_write(shard->keys, header);
	r = file_pwrite(shard->fd, bytes_of(header, sizeof(header)), 0);
	if (r < 0)
		unlink(path);
	return r;
}

/* File with its header, known to the journal.  Without locks. */
static int shard_make(struct spool *spool, const struct shard_class *class,
		      struct spool_shard **out)
{
	struct shard_row row = {.state = SHARD_OPEN,
				.key_epoch = class->key_epoch,
				.writer_epoch = spool->settings.writer_epoch,
				.policy_root = class->policy_root,
				.priority = class->priority};
	AUTO_PTR(spool_shard) shard = NULL;
	char path[SPOOL_PATH_SIZE];
	int r = crypto_random(row.id.b, sizeof(row.id.b));

	if (r == 0)
		r = spool_shard_new(&row, &shard);
	if (r < 0)
		return r;
	shard->keys = secret_alloc(sizeof(*shard->keys));
	if (!shard->keys)
		return -ENOMEM;
	r = pack_keys_init(shard->keys, spool->settings.keyring, class->key_epoch, &row.id);
	if (r == 0)
		r = shard_make_file(spool, shard);
	if (r < 0)
		return r;
	r = spool->settings.opened(spool->settings.ctx, &shard->row);
	if (r < 0) {
		unlink(spool_path(spool, &row.id, path));
		return r;
	}
	assert(shard->row.shard_no > 0);
	shard->end = PACK_HEADER_LEN;
	shard->last_append_ms = clock_mono_ms();
	*out = STEAL(shard);
	return 0;
}

/* The lock is dropped meanwhile; on success the table has one more open shard of this class. */
static int shard_open_locked(struct spool *spool, const struct shard_class *class)
{
	struct spool_opening opening = {.class = *class};
	struct spool_shard *shard = NULL;
	int r;

	if (spool->open_count >= spool->settings.open_shards_max)
		close_idlest_locked(spool);
	list_push_back(&spool->openings, &opening.node);
	lock_drop(&spool->lock);
	r = shard_make(spool, class, &shard);
	lock_take(&spool->lock);
	list_remove(&opening.node);
	cond_wake_all(&spool->changed);
	if (r < 0)
		return r;
	shard->state = SPOOL_OPEN;
	spool->files_made++;
	shard->written_seq = ++spool->write_seq; /* the header */
	spool_shard_charge_locked(spool, shard, pack_object_len(shard->end, 0));
	r = spool_shard_insert_locked(spool, shard, &spool->open);
	if (r < 0) {
		spool_shard_charge_locked(spool, shard, 0);
		spool_shard_free(shard); /* the file is empty: recovery removes it */
		return r;
	}
	spool->open_count++;
	return 0;
}

/* ---- appending ---- */

static int shard_take_entry_locked(struct spool_shard *shard, const struct chunk_id *id,
				   uint32_t stored_len, uint32_t raw_len)
{
	if (shard->entry_count == shard->entry_capacity) {
		uint32_t capacity = MAX(64u, shard->entry_capacity * 2);
		struct pack_entry *more =
			mem_realloc_array(shard->entries, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		shard->entries = more;
		shard->entry_capacity = capacity;
	}
	shard->entries[shard->entry_count++] = (struct pack_entry){
		.id = *id, .off = (uint32_t)shard->end, .stored_len = stored_len, .raw_len = raw_len};
	shard->end += stored_len;
	shard->appending++;
	return 0;
}

/* A number and a place in the open shard of the class, which is made if need be. */
static int record_reserve(struct spool *spool, const struct shard_class *class,
			  const struct chunk_id *id, uint32_t stored_len, uint32_t raw_len,
			  struct spool_shard **out, struct chunk_row *row)
{
	LOCK_SCOPE(&spool->lock);
	int r;

	for (;;) {
		struct spool_shard *shard = shard_find_open_locked(spool, class);

		if (shard && shard->entry_count > 0 &&
		    shard->end + stored_len > spool->settings.shard_bytes) {
			shard_close_locked(spool, shard, SPOOL_CLOSING);
			shard = NULL;
		}
		if (!shard && class_is_opening_locked(spool, class)) {
			cond_wait(&spool->changed, &spool->lock);
			continue;
		}
		if (!shard) {
			if (spool->bytes_used +
				    pack_object_len(PACK_HEADER_LEN + stored_len, 1) >
			    spool->settings.size_max)
				return -ENOSPC;
			r = shard_open_locked(spool, class);
			if (r < 0)
				return r;
			continue;
		}
		r = shard_admit_locked(spool, shard, stored_len);
		if (r == 0)
			r = shard_take_entry_locked(shard, id, stored_len, raw_len);
		if (r < 0)
			return r;
		row->shard_no = shard->row.shard_no;
		row->record_no = shard->entry_count - 1;
		row->off = shard->entries[row->record_no].off;
		*out = shard;
		return 0;
	}
}

static int record_write(struct spool_shard *shard, struct bytes sealed, uint32_t off)
{
	int r = HOOK("spool-append-before");

	if (r == 0)
		r = file_pwrite(shard->fd, sealed, off);
	if (r == 0)
		r = HOOK("spool-append-after");
	return r;
}

static void record_written(struct spool *spool, struct spool_shard *shard, uint32_t record_no, int r)
{
	LOCK_SCOPE(&spool->lock);

	shard->last_append_ms = clock_mono_ms();
	if (r == 0) {
		shard->written_seq = ++spool->write_seq;
		return;
	}
	shard->entries[record_no].is_void = true;
	shard->appending--;
	shard_close_locked(spool, shard, SPOOL_BROKEN);
	cond_wake_all(&spool->to_do);
}

static struct buf scratch_take(struct spool *spool)
{
	struct buf scratch = BUF_INIT;
	LOCK_SCOPE(&spool->lock);

	if (spool->scratch_count > 0) {
		scratch = spool->scratch[--spool->scratch_count];
		spool->scratch[spool->scratch_count] = (struct buf)BUF_INIT;
	}
	buf_clear(&scratch);
	return scratch;
}

static void scratch_put(struct spool *spool, struct buf *scratch)
{
	lock_take(&spool->lock);
	if (spool->scratch_count < SPOOL_SCRATCH_MAX) {
		spool->scratch[spool->scratch_count++] = *scratch;
		*scratch = (struct buf)BUF_INIT;
	}
	lock_drop(&spool->lock);
	buf_release(scratch);
}

static int record_append(struct spool *spool, struct aead_ctx *ctx, const struct shard_class *class,
			 const struct chunk_id *id, uint8_t form, uint32_t raw_len,
			 struct bytes payload, uint8_t *scratch, struct chunk_row *out)
{
	uint32_t stored_len = (uint32_t)payload.len + PACK_RECORD_EXTRA;
	struct chunk_row row = *out;
	struct spool_shard *shard = NULL;
	int r = record_reserve(spool, class, id, stored_len, raw_len, &shard, &row);

	if (r < 0)
		return r;
	r = pack_seal_record(ctx, shard->keys, row.record_no, id, form, raw_len, payload, scratch);
	if (r == 0)
		r = record_write(shard, bytes_of(scratch, stored_len), row.off);
	if (r < 0)
		log_error("spool-append-failed", "shard=%s record=%u error=%s",
			  shard_id_hex(&shard->row.id).s, row.record_no, err_name(r));
	record_written(spool, shard, row.record_no, r);
	if (r < 0)
		return r;
	counter_add(&spool_records, 1);
	counter_add(&spool_bytes, stored_len);
	row.id = *id;
	row.stored_len = stored_len;
	row.raw_len = raw_len;
	*out = row;
	return 0;
}

int spool_append(struct spool *spool, struct aead_ctx *ctx, const struct shard_class *class,
		 const struct chunk_id *id, uint8_t form, uint32_t raw_len, struct bytes payload,
		 struct chunk_row *out)
{
	struct buf scratch;
	int r;

	if (payload.len == 0 || payload.len > CHUNK_BYTES_MAX)
		return -EINVAL;
	if (!disk_has_room(spool, payload.len))
		return -ENOSPC;
	scratch = scratch_take(spool);
	r = buf_reserve(&scratch, payload.len + PACK_RECORD_EXTRA);
	if (r == 0)
		r = record_append(spool, ctx, class, id, form, raw_len, payload, scratch.ptr, out);
	scratch_put(spool, &scratch);
	return r;
}

void spool_append_done(struct spool *spool, uint64_t shard_no)
{
	LOCK_SCOPE(&spool->lock);
	struct spool_shard *shard = shard_find_locked(spool, shard_no);

	assert(shard && shard->appending > 0);
	if (--shard->appending == 0 && shard->state != SPOOL_OPEN)
		cond_wake_all(&spool->to_do);
}

/* ---- reading ---- */

static struct spool_shard *shard_use(struct spool *spool, uint64_t shard_no)
{
	LOCK_SCOPE(&spool->lock);
	struct spool_shard *shard = shard_find_locked(spool, shard_no);

	if (shard)
		shard->users++;
	return shard;
}

static void shard_unuse(struct spool *spool, struct spool_shard *shard)
{
	LOCK_SCOPE(&spool->lock);

	shard_unuse_locked(shard);
}

int spool_read(struct spool *spool, uint64_t shard_no, uint32_t off, uint32_t len, struct buf *out)
{
	struct spool_shard *shard = shard_use(spool, shard_no);
	AUTO_FD opened = -1;
	char path[SPOOL_PATH_SIZE];
	int r, fd;

	if (!shard)
		return -ENOENT;
	fd = shard->fd;
	if (fd < 0) {
		opened = fd = open(spool_path(spool, &shard->row.id, path), O_RDONLY | O_CLOEXEC);
		r = fd < 0 ? -errno : 0;
	} else {
		r = 0;
	}
	if (r == 0)
		r = file_pread_buf(fd, len, off, out);
	shard_unuse(spool, shard);
	return r == -ENODATA ? -EIO : r;
}

int spool_map(struct spool *spool, uint64_t shard_no, struct bytes *object, void **handle)
{
	struct spool_shard *shard = shard_use(spool, shard_no);
	struct bytes *mapping = NULL;
	AUTO_FD fd = -1;
	char path[SPOOL_PATH_SIZE];
	struct stat st;
	uint64_t len;
	void *ptr;
	int r = 0;

	if (!shard)
		return -ENOENT;
	lock_take(&spool->lock);
	if (shard->state != SPOOL_SEALED)
		r = -ENOENT;
	len = shard->row.object_len;
	lock_drop(&spool->lock);
	if (r == 0) {
		fd = open(spool_path(spool, &shard->row.id, path), O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			r = -errno;
		else if ((uint64_t)st.st_size != len)
			r = -EIO;
	}
	shard_unuse(spool, shard);
	if (r < 0)
		return r;
	mapping = mem_alloc(sizeof(*mapping));
	if (!mapping)
		return -ENOMEM;
	/* populated: a write(2) from pages that are not mapped yet copies them twice */
	ptr = mmap(NULL, len, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (ptr == MAP_FAILED) {
		r = -errno;
		mem_free(mapping);
		return r;
	}
	*mapping = bytes_of(ptr, len);
	*object = *mapping;
	*handle = mapping;
	return 0;
}

void spool_unmap(void *handle)
{
	struct bytes *mapping = handle;

	if (!mapping)
		return;
	munmap((void *)(uintptr_t)mapping->ptr, mapping->len);
	mem_free(mapping);
}

bool spool_has(struct spool *spool, uint64_t shard_no)
{
	LOCK_SCOPE(&spool->lock);

	return shard_find_locked(spool, shard_no) != NULL;
}

uint64_t spool_bytes_used(struct spool *spool)
{
	LOCK_SCOPE(&spool->lock);

	return spool->bytes_used;
}

/* ---- syncing ---- */

/* A shard with bytes that were written before `target`, and that this call has not synced. */
static struct spool_shard *shard_to_sync_locked(struct list *list, uint64_t target)
{
	list_for_each(node, list) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (shard->written_seq > shard->synced_seq && shard->synced_seq < target &&
		    !shard->is_sync_failed && !shard->is_drained)
			return shard;
	}
	return NULL;
}

/* Lock held, dropped for the sync. */
static int shard_sync_locked(struct spool *spool, struct spool_shard *shard)
{
	uint64_t seq = spool->write_seq;
	int r;

	shard->users++;
	lock_drop(&spool->lock);
	r = HOOK_BROKEN("skip-spool-sync") ? 0 : file_fdatasync(shard->fd);
	if (r < 0)
		log_error("spool-sync-failed", "shard=%s error=%s", shard_id_hex(&shard->row.id).s,
			  err_name(r));
	lock_take(&spool->lock);
	if (r < 0) {
		shard->is_sync_failed = true;
		shard_close_locked(spool, shard, SPOOL_BROKEN);
	} else {
		shard->synced_seq = MAX(shard->synced_seq, seq);
	}
	shard_unuse_locked(shard);
	return r;
}

static int shards_sync(struct spool *spool)
{
	LOCK_SCOPE(&spool->lock);
	struct spool_shard *shard;
	uint64_t target = spool->write_seq;
	int r = 0;

	while ((shard = shard_to_sync_locked(&spool->open, target)) ||
	       (shard = shard_to_sync_locked(&spool->work, target))) {
		int error = shard_sync_locked(spool, shard);

		r = r < 0 ? r : error;
	}
	list_for_each(node, &spool->work)
		if (list_entry(node, struct spool_shard, node)->is_sync_failed)
			r = r < 0 ? r : -EIO;
	return r;
}

static int directory_sync(struct spool *spool)
{
	uint64_t made;
	int r;

	lock_take(&spool->lock);
	made = spool->files_made;
	r = spool->files_synced < made;
	lock_drop(&spool->lock);
	if (!r)
		return 0;
	r = !HOOK_BROKEN("skip-spool-name") && fsync(spool->dir_fd) < 0 ? -errno : 0;
	lock_take(&spool->lock);
	if (r == 0)
		spool->files_synced = MAX(spool->files_synced, made);
	lock_drop(&spool->lock);
	return r;
}

int spool_sync(struct spool *spool)
{
	int r = HOOK("spool-sync-before"), error;

	if (r < 0)
		return r;
	r = shards_sync(spool);
	error = directory_sync(spool);
	r = r < 0 ? r : error;
	return r < 0 ? r : HOOK("spool-sync-after");
}

/* ---- sealing: the sealer's thread ---- */

/* Everything behind the records, once; the same bytes serve every attempt to write them. */
static int shard_finish(struct spool *spool, struct spool_shard *shard)
{
	struct pack_footer footer = {.entries = shard->entries, .entry_count = shard->entry_count};
	void *ptr;
	int r;

	if (shard->tail.len > 0)
		return 0;
	if (shard->row.sealed_sec == 0)
		shard->row.sealed_sec = clock_wall().sec;
	footer.shard = shard->row;
	ptr = mmap(NULL, shard->end, PROT_READ, MAP_SHARED, shard->fd, 0);
	if (ptr == MAP_FAILED)
		return -errno;
	r = pack_finish(spool->ctx, shard->keys, bytes_of(ptr, shard->end), &footer, &shard->tail,
			shard->mac);
	munmap(ptr, shard->end);
	return r;
}

static int shard_seal(struct spool *spool, struct spool_shard *shard)
{
	int r = HOOK("shard-seal-before");

	if (r == 0)
		r = shard_finish(spool, shard);
	if (r == 0)
		r = file_pwrite(shard->fd, buf_bytes(&shard->tail), shard->end);
	if (r < 0)
		return r;
	r = file_fdatasync(shard->fd);
	if (r < 0) {
		lock_take(&spool->lock);
		shard->is_sync_failed = true;
		lock_drop(&spool->lock);
		return -EIO;
	}
	return HOOK("shard-seal-after");
}

/* -EIO: the syncer's sync failed meanwhile, and what this thread's sync said does not count. */
static int shard_become_sealed(struct spool *spool, struct spool_shard *shard)
{
	struct shard_row row;

	lock_take(&spool->lock);
	if (shard->state != SPOOL_CLOSING) {
		lock_drop(&spool->lock);
		return -EIO;
	}
	shard->row.state = SHARD_SEALED;
	shard->row.object_len = shard->end + shard->tail.len;
	shard->row.record_count = shard->entry_count;
	memcpy(shard->row.mac, shard->mac, sizeof(shard->mac));
	shard->state = SPOOL_SEALED;
	shard->synced_seq = shard->written_seq;
	shard->error = 0;
	spool_shard_charge_locked(spool, shard, shard->row.object_len);
	shard_free_keys(shard);
	mem_free(STEAL(shard->entries));
	buf_release(&shard->tail);
	row = shard->row;
	lock_drop(&spool->lock);
	counter_add(&spool_shards, 1);
	spool->settings.sealed(spool->settings.ctx, &row);
	return 0;
}

/* Nothing wanted is in the file any more (or ever was). */
static void shard_remove(struct spool *spool, struct spool_shard *shard)
{
	struct shard_row row = shard->row;
	char path[SPOOL_PATH_SIZE];

	if (unlink(spool_path(spool, &row.id, path)) < 0)
		log_warn("spool-unlink-failed", "shard=%s error=%s", shard_id_hex(&row.id).s,
			 err_name(errno));
	lock_take(&spool->lock);
	spool_shard_drop_locked(spool, shard);
	lock_drop(&spool->lock);
	if (spool->settings.gone)
		spool->settings.gone(spool->settings.ctx, &row);
}

static int shard_drain(struct spool *spool, struct spool_shard *shard)
{
	uint64_t bad = 0;
	int r = 0;

	if (!spool->settings.index || !spool->settings.moved)
		return -EIO; /* recovery will do it */
	if (!spool->reader)
		r = index_reader_open(spool->settings.index, &spool->reader);
	if (r == 0 && !shard->is_drained)
		r = spool_move_records(spool, spool->reader, spool->ctx, &shard->row, shard->fd,
				       &bad);
	if (r < 0)
		return r;
	lock_take(&spool->lock);
	shard->is_drained = true;
	shard->is_damaged |= bad > 0;
	shard->is_sync_failed = false;
	lock_drop(&spool->lock);
	r = spool->settings.settle ? spool->settings.settle(spool->settings.ctx) : -EIO;
	return r == 0 && shard->is_damaged ? -EUCLEAN : r;
}

static bool error_passes(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -ENOMEM;
}

/* The shard is in `work`, has a user, and nobody appends to it.  The lock is not held. */
static void shard_work(struct spool *spool, struct spool_shard *shard, bool is_broken)
{
	bool is_empty = shard->entry_count == 0 || shard->is_discarded;
	int r = 0;

	if (is_broken && !is_empty)
		r = shard_drain(spool, shard);
	else if (!is_empty)
		r = shard_seal(spool, shard);
	if (r == 0 && (is_broken || is_empty))
		shard_remove(spool, shard);
	else if (r == 0)
		r = shard_become_sealed(spool, shard);
	if (r == 0)
		return;
	lock_take(&spool->lock);
	if (shard->error != r)
		log_error(is_broken ? "spool-move-failed" : "spool-seal-failed",
			  "shard=%s error=%s", shard_id_hex(&shard->row.id).s, err_name(r));
	shard->error = r;
	shard->retry_ms = r == -EUCLEAN ? UINT64_MAX : clock_mono_ms() + SPOOL_RETRY_MS;
	if (!is_broken && !error_passes(r)) {
		shard->retry_ms = 0;
		shard_close_locked(spool, shard, SPOOL_BROKEN);
	}
	cond_wake_all(&spool->changed);
	lock_drop(&spool->lock);
}

/* NULL: nothing can be done now; *wait_ms until a retry is due (UINT64_MAX: none). */
static struct spool_shard *work_next_locked(struct spool *spool, uint64_t *wait_ms)
{
	uint64_t now = clock_mono_ms();

	*wait_ms = UINT64_MAX;
	list_for_each(node, &spool->work) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (shard->appending > 0)
			continue;
		if (shard->retry_ms <= now)
			return shard;
		if (shard->retry_ms != UINT64_MAX)
			*wait_ms = MIN(*wait_ms, shard->retry_ms - now);
	}
	return NULL;
}

static void *sealer_run(void *arg)
{
	struct spool *spool = arg;
	LOCK_SCOPE(&spool->lock);

	while (!spool->is_stopping) {
		uint64_t wait_ms;
		struct spool_shard *shard = work_next_locked(spool, &wait_ms);
		bool is_broken = shard && shard->state == SPOOL_BROKEN;

		if (!shard && wait_ms == UINT64_MAX) {
			cond_wait(&spool->to_do, &spool->lock);
			continue;
		}
		if (!shard) {
			cond_wait_ms(&spool->to_do, &spool->lock, wait_ms);
			continue;
		}
		shard->users++;
		lock_drop(&spool->lock);
		shard_work(spool, shard, is_broken);
		lock_take(&spool->lock);
		if (shard->state == SPOOL_SEALED) { /* announced now: seal_all may go on */
			list_remove(&shard->node);
			list_push_back(&spool->sealed, &shard->node);
		}
		shard_unuse_locked(shard);
		cond_wake_all(&spool->changed);
	}
	return NULL;
}

/* ---- asking for seals ---- */

static bool root_matches(const struct spool_shard *shard, uint64_t policy_root)
{
	return policy_root == 0 || shard->row.policy_root == policy_root;
}

/* Whether a matching shard closed up to `target` is unfinished; *error: of one that just failed. */
static bool work_is_left_locked(struct spool *spool, uint64_t policy_root, uint64_t target,
				int *error)
{
	bool is_left = false;

	list_for_each(node, &spool->work) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (!root_matches(shard, policy_root) || shard->close_seq > target ||
		    shard->is_damaged)
			continue;
		is_left = true;
		*error = *error < 0 ? *error : shard->error;
	}
	return is_left;
}

static void close_matching_locked(struct spool *spool, uint64_t policy_root)
{
	list_for_each(node, &spool->open) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (root_matches(shard, policy_root))
			shard_close_locked(spool, shard, SPOOL_CLOSING);
	}
	list_for_each(node, &spool->work) { /* what failed before gets its next attempt now */
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (root_matches(shard, policy_root) && !shard->is_damaged) {
			shard->error = 0;
			shard->retry_ms = 0;
		}
	}
	cond_wake_all(&spool->to_do);
}

int spool_seal_all(struct spool *spool, uint64_t policy_root)
{
	LOCK_SCOPE(&spool->lock);
	uint64_t target;
	int error = 0;

	close_matching_locked(spool, policy_root);
	target = spool->close_seq;
	while (work_is_left_locked(spool, policy_root, target, &error) && error == 0) {
		if (spool->is_stopping)
			return -ECANCELED;
		cond_wait(&spool->changed, &spool->lock);
	}
	return error;
}

void spool_seal_idle(struct spool *spool)
{
	LOCK_SCOPE(&spool->lock);
	uint64_t now = clock_mono_ms();

	list_for_each(node, &spool->open) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (shard->appending == 0 &&
		    now - shard->last_append_ms >= spool->settings.idle_ms)
			shard_close_locked(spool, shard, SPOOL_CLOSING);
	}
}

/* ---- discarding ---- */

/* NULL with *error: not open, or somebody is appending. */
static struct spool_shard *shard_find_quiet_locked(struct spool *spool, uint64_t shard_no,
						   int *error)
{
	struct spool_shard *shard = shard_find_locked(spool, shard_no);

	*error = !shard || shard->state != SPOOL_OPEN ? -ENOENT : shard->appending > 0 ? -EBUSY : 0;
	return *error == 0 ? shard : NULL;
}

int spool_count_records(struct spool *spool, uint64_t shard_no, uint32_t *count)
{
	LOCK_SCOPE(&spool->lock);
	int r;
	struct spool_shard *shard = shard_find_quiet_locked(spool, shard_no, &r);

	if (shard)
		*count = shard->entry_count;
	return r;
}

int spool_discard(struct spool *spool, uint64_t shard_no, uint32_t count)
{
	LOCK_SCOPE(&spool->lock);
	int r;
	struct spool_shard *shard = shard_find_quiet_locked(spool, shard_no, &r);

	if (!shard)
		return r;
	if (shard->entry_count != count)
		return -EBUSY;
	shard->is_discarded = true;
	shard_close_locked(spool, shard, SPOOL_CLOSING);
	return 0;
}

/* ---- releasing ---- */

/* At most one thread lets go of a shard. */
static struct spool_shard *shard_use_for_release(struct spool *spool, uint64_t shard_no)
{
	LOCK_SCOPE(&spool->lock);
	struct spool_shard *shard = shard_find_locked(spool, shard_no);

	if (!shard || shard->state != SPOOL_SEALED || shard->is_releasing)
		return NULL;
	shard->is_releasing = true;
	shard->users++;
	return shard;
}

int spool_release(struct spool *spool, uint64_t shard_no, const char *to_path)
{
	struct spool_shard *shard = shard_use_for_release(spool, shard_no);
	char path[SPOOL_PATH_SIZE];
	int r = 0, held;

	if (!shard)
		return -ENOENT;
	spool_path(spool, &shard->row.id, path);
	held = HOOK("spool-release-before");
	/* its copies are made: the kernel has better use for its pages */
	posix_fadvise(shard->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (held == 0 && to_path && rename(path, to_path) < 0) {
		r = -errno;
		to_path = NULL;
	}
	if (held == 0 && !to_path && unlink(path) < 0)
		r = r < 0 ? r : -errno;
	lock_take(&spool->lock);
	if (held < 0)
		shard->is_releasing = false;
	else
		spool_shard_drop_locked(spool, shard);
	shard_unuse_locked(shard);
	lock_drop(&spool->lock);
	if (held < 0)
		return held;
	held = HOOK("spool-release-after");
	return r < 0 ? r : held;
}

/* ---- life ---- */

static int spool_make_dir(struct spool *spool)
{
	if (mkdir(spool->dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	spool->dir_fd = open(spool->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return spool->dir_fd < 0 ? -errno : 0;
}

static void spool_free(struct spool *spool)
{
	struct list *lists[] = {&spool->open, &spool->work, &spool->sealed};

	for (unsigned i = 0; i < ARRAY_COUNT(lists); i++)
		list_for_each(node, lists[i])
			spool_shard_free(list_entry(node, struct spool_shard, node));
	for (unsigned i = 0; i < spool->scratch_count; i++)
		buf_release(&spool->scratch[i]);
	if (spool->reader)
		index_reader_close(spool->reader);
	spool_checker_free(spool->checker);
	aead_ctx_free(spool->ctx);
	map_release(&spool->by_no);
	cond_release(&spool->to_do);
	cond_release(&spool->changed);
	lock_release(&spool->lock);
	if (spool->dir_fd >= 0)
		close(spool->dir_fd);
	mem_free(spool->dir);
	mem_free(spool);
}

int spool_open(const struct spool_settings *settings, struct spool **out)
{
	struct spool *spool = mem_alloc(sizeof(*spool));
	int r;

	if (!spool)
		return -ENOMEM;
	assert(settings->opened && settings->sealed && settings->open_shards_max > 0);
	spool->settings = *settings;
	spool->dir_fd = -1;
	atomic_store(&spool->unlooked_bytes, SPOOL_STATVFS_EACH);
	lock_init(&spool->lock, LOCK_SPOOL);
	cond_init(&spool->to_do);
	cond_init(&spool->changed);
	list_init(&spool->open);
	list_init(&spool->work);
	list_init(&spool->sealed);
	list_init(&spool->openings);
	spool->dir = mem_strdup(settings->dir);
	r = spool->dir ? spool_make_dir(spool) : -ENOMEM;
	if (r == 0)
		r = aead_ctx_new(&spool->ctx);
	if (r == 0)
		r = thread_start(&spool->sealer, "spool-sealer", sealer_run, spool);
	if (r < 0) {
		spool_free(spool);
		return r;
	}
	*out = spool;
	return 0;
}

void spool_stop(struct spool *spool)
{
	bool was_stopping;

	if (!spool)
		return;
	lock_take(&spool->lock);
	was_stopping = spool->is_stopping;
	spool->is_stopping = true;
	cond_wake_all(&spool->to_do);
	cond_wake_all(&spool->changed);
	lock_drop(&spool->lock);
	if (!was_stopping)
		pthread_join(spool->sealer, NULL);
}

void spool_close(struct spool *spool)
{
	if (!spool)
		return;
	spool_stop(spool);
	spool_free(spool);
}
