/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room in the spool.  While it drains a full one slows writers and refuses
 * nothing; when nothing has left it for a while, new bytes are refused.
 */
#include "store/store_private.h"

#include "util/clock.h"

#include <errno.h>
#include <sys/statvfs.h>

#define DISK_LOOK_MS  200u
#define WRITE_LIMIT   95u /* percent of the spool beyond which new writes are refused */
#define SLOW_LIMIT    80u /* ... beyond which they go as fast as it drains */
#define STALL_MS      10000u
#define BURST_PARTS   50u  /* of the spool: the most that one look answers */
#define STALLED_PARTS 400u /* of the spool, for each look at writes that are slowed */

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

bool store_is_tight(void *ctx)
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
int store_admit(void *ctx, uint64_t bytes, bool is_reserve)
{
	struct store *store = ctx;
	uint64_t size = store->config->settings.spool_size_bytes;
	uint64_t limit = is_reserve ? size : size / 100 * WRITE_LIMIT;
	uint64_t reserve = is_reserve ? DISK_RESERVE / 2 : DISK_RESERVE;

	store_is_tight(store); /* keeps the clock of is_stalled */
	if (spool_load(store) + bytes > limit && is_stalled(store))
		return -ENOSPC;
	if (disk_free(store) < reserve + writer_dirty_bytes(store->writer) + bytes)
		return -ENOSPC;
	return 0;
}

/* Writers go as fast as the spool drains; when it stalls, slowly on until the limit. */
uint64_t store_allowance(void *ctx)
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
