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
#include <sys/statvfs.h>
#include <unistd.h>

/*
 * Appending, and making the shards for it.  What an append goes through is in spool.c.
 */

static struct counter spool_records =
	COUNTER_INIT("spool_records", "records appended to the spool");
static struct counter spool_bytes =
	COUNTER_INIT("spool_bytes", "sealed bytes appended to the spool");
COUNTER_REGISTER(spool_records);
COUNTER_REGISTER(spool_bytes);

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
	atomic_store(&spool->is_disk_full,
		     (uint64_t)st.f_bavail * st.f_frsize < spool->settings.reserve_bytes + need);
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
	list_for_each (node, &spool->open) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);
		struct shard_class its = class_of_row(&shard->row);

		if (class_is_equal(&its, class))
			return shard;
	}
	return NULL;
}

static bool class_is_opening_locked(struct spool *spool, const struct shard_class *class)
{
	list_for_each (node, &spool->openings)
		if (class_is_equal(&list_entry(node, struct spool_opening, node)->class, class))
			return true;
	return false;
}

static void close_idlest_locked(struct spool *spool)
{
	struct spool_shard *idlest = NULL;

	list_for_each (node, &spool->open) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (!idlest || shard->last_append_ms < idlest->last_append_ms)
			idlest = shard;
	}
	if (idlest)
		spool_shard_close_locked(spool, idlest, SPOOL_CLOSING);
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
	shard->entries[shard->entry_count++] = (struct pack_entry){.id = *id,
								   .off = (uint32_t)shard->end,
								   .stored_len = stored_len,
								   .raw_len = raw_len};
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
			spool_shard_close_locked(spool, shard, SPOOL_CLOSING);
			shard = NULL;
		}
		if (!shard && class_is_opening_locked(spool, class)) {
			cond_wait(&spool->changed, &spool->lock);
			continue;
		}
		if (!shard) {
			if (spool->bytes_used + pack_object_len(PACK_HEADER_LEN + stored_len, 1) >
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

static void record_written(struct spool *spool, struct spool_shard *shard, uint32_t record_no,
			   int r)
{
	LOCK_SCOPE(&spool->lock);

	shard->last_append_ms = clock_mono_ms();
	if (r == 0) {
		shard->written_seq = ++spool->write_seq;
		return;
	}
	shard->entries[record_no].is_void = true;
	shard->appending--;
	spool_shard_close_locked(spool, shard, SPOOL_BROKEN);
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
	struct spool_shard *shard = spool_shard_find_locked(spool, shard_no);

	assert(shard && shard->appending > 0);
	if (--shard->appending == 0 && shard->state != SPOOL_OPEN)
		cond_wake_all(&spool->to_do);
}
