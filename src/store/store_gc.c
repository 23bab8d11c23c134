/* SPDX-License-Identifier: Apache-2.0 */
/* What reclaiming asks of the rest, and what the front doors ask of reclaiming. */
#include "store/store_private.h"

#include "util/err.h"
#include "util/log.h"

#include <errno.h>

#define GC_PERIOD_MS 60000u

static void gc_class_of(void *ctx, const struct shard_row *shard, struct shard_class *out)
{
	struct store *store = ctx;
	struct inode_row row = {.policy_root = shard->policy_root};

	store_class_of(store, &row, out);
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

	/* before anything is deleted: does nobody else write by now? */
	int r = i == 0 ? epoch_look(store->priv->epoch) : 0;

	if (r < 0)
		waiter->done(waiter, r);
	else
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

static int gc_audit(void *ctx, const struct audit_event *event)
{
	return store_audit(ctx, event);
}

int store_start_gc(struct store *store)
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
		.audit = gc_audit,
		.ctx = store,
	};

	int r = gc_start(&settings, &store->priv->gc);

	if (r == 0 && !store_may_write(store, NULL))
		gc_freeze(store->priv->gc, true);
	return r;
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
