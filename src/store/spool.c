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

static struct counter spool_broken =
	COUNTER_INIT("spool_shards_broken", "shards given up after a failed write");
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

void spool_shard_free_keys(struct spool_shard *shard)
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
	spool_shard_free_keys(shard);
	mem_free(shard->entries);
	buf_release(&shard->tail);
	mem_free(shard);
}

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

struct spool_shard *spool_shard_find_locked(struct spool *spool, uint64_t shard_no)
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

void spool_shard_unuse_locked(struct spool_shard *shard)
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
void spool_shard_close_locked(struct spool *spool, struct spool_shard *shard, enum spool_state to)
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

/* ---- reading ---- */

static struct spool_shard *shard_use(struct spool *spool, uint64_t shard_no)
{
	LOCK_SCOPE(&spool->lock);
	struct spool_shard *shard = spool_shard_find_locked(spool, shard_no);

	if (shard)
		shard->users++;
	return shard;
}

static void shard_unuse(struct spool *spool, struct spool_shard *shard)
{
	LOCK_SCOPE(&spool->lock);

	spool_shard_unuse_locked(shard);
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

	return spool_shard_find_locked(spool, shard_no) != NULL;
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
	list_for_each (node, list) {
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
		spool_shard_close_locked(spool, shard, SPOOL_BROKEN);
	} else {
		shard->synced_seq = MAX(shard->synced_seq, seq);
	}
	spool_shard_unuse_locked(shard);
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
	list_for_each (node, &spool->work)
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

	list_for_each (node, &spool->work) {
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
	list_for_each (node, &spool->open) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (root_matches(shard, policy_root))
			spool_shard_close_locked(spool, shard, SPOOL_CLOSING);
	}
	list_for_each (node, &spool->work) { /* what failed before gets its next attempt now */
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

	list_for_each (node, &spool->open) {
		struct spool_shard *shard = list_entry(node, struct spool_shard, node);

		if (shard->appending == 0 && now - shard->last_append_ms >= spool->settings.idle_ms)
			spool_shard_close_locked(spool, shard, SPOOL_CLOSING);
	}
}

/* ---- discarding ---- */

/* NULL with *error: not open, or somebody is appending. */
static struct spool_shard *shard_find_quiet_locked(struct spool *spool, uint64_t shard_no,
						   int *error)
{
	struct spool_shard *shard = spool_shard_find_locked(spool, shard_no);

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
	spool_shard_close_locked(spool, shard, SPOOL_CLOSING);
	return 0;
}

/* ---- releasing ---- */

/* At most one thread lets go of a shard. */
static struct spool_shard *shard_use_for_release(struct spool *spool, uint64_t shard_no)
{
	LOCK_SCOPE(&spool->lock);
	struct spool_shard *shard = spool_shard_find_locked(spool, shard_no);

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
	spool_shard_unuse_locked(shard);
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
		list_for_each (node, lists[i])
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
		r = thread_start(&spool->sealer, "spool-sealer", spool_sealer_run, spool);
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
