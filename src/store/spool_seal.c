/* SPDX-License-Identifier: Apache-2.0 */
#include "store/spool_private.h"

#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/file.h"
#include "util/hook.h"
#include "util/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The sealer's thread: shards that take no more records get their footer, or their records move
 * when they are broken.  The order of its durable steps is in spool.c.
 */

static struct counter spool_shards =
	COUNTER_INIT("spool_shards_sealed", "shards that got a footer");
COUNTER_REGISTER(spool_shards);

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
	spool_shard_free_keys(shard);
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
		spool_shard_close_locked(spool, shard, SPOOL_BROKEN);
	}
	cond_wake_all(&spool->changed);
	lock_drop(&spool->lock);
}

/* NULL: nothing can be done now; *wait_ms until a retry is due (UINT64_MAX: none). */
static struct spool_shard *work_next_locked(struct spool *spool, uint64_t *wait_ms)
{
	uint64_t now = clock_mono_ms();

	*wait_ms = UINT64_MAX;
	list_for_each (node, &spool->work) {
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

void *spool_sealer_run(void *arg)
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
		spool_shard_unuse_locked(shard);
		cond_wake_all(&spool->changed);
	}
	return NULL;
}
