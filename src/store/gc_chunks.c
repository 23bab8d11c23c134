/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dead chunks.
 *
 * INVARIANT: a chunk leaves the index only when no extent names it and none ever will.
 *
 * Who may name a chunk?  (a) Whoever found or made it through chunk_put: it is pinned until the
 * record with the extent was submitted.  (b) Whoever copies an extent that is there (clone,
 * rollback): its record says that the extent still was there, so the chunk has references in the
 * order of records.  Hence, in this order:
 *
 *   1. the engine shows no references, and has seen every record so far: not fresh, but dead;
 *   2. condemn: fails if pinned; from now on look-ups by name miss, and makers who found the chunk
 *      before are refused when they finish (dedup keeps tombstones for them);
 *   3. wait until the engine has every record submitted up to now: whoever had a pin before 2 has
 *      given it back after submitting, so its extent is among them;
 *   4. no references still?  Then there is no extent that could be copied (b), and no look-up that
 *      could hit (a): CHUNK_DEL.  Applied in order, it has effect only without references, so even
 *      a bug here leaves a chunk too much and never a dangling extent;
 *   5. forget: the record is noted, look-ups by name miss by themselves.
 *
 * A crash between 2 and 4 forgets the condemnation with the process; nothing was changed.
 */
#include "store/gc_private.h"

#include "util/counter.h"
#include "util/hook.h"

#include <errno.h>

#define CHUNK_PAGE 512u

static struct counter gc_chunks = COUNTER_INIT("gc_chunks_deleted", "dead chunks deleted");
static struct counter gc_chunk_bytes = COUNTER_INIT("gc_chunk_bytes_deleted",
						    "their stored bytes");
static struct counter gc_spared = COUNTER_INIT("gc_chunks_spared",
					       "chunks that came to use while being condemned");
static struct counter gc_discards = COUNTER_INIT("gc_shards_discarded",
						 "open shards dropped with nothing alive in them");
COUNTER_REGISTER(gc_chunks);
COUNTER_REGISTER(gc_chunk_bytes);
COUNTER_REGISTER(gc_spared);
COUNTER_REGISTER(gc_discards);

/* Keeps those without references. */
static int keep_dead(struct gc *gc)
{
	size_t kept = 0;

	for (size_t i = 0; i < gc->chunk_count; i++) {
		struct chunk_row row;
		int r = index_get_chunk(gc->settings.index, gc->reader, gc->chunks[i], &row);

		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0 && row.refs == 0)
			gc->chunks[kept++] = gc->chunks[i];
	}
	gc->chunk_count = kept;
	return 0;
}

static void condemn_all(struct gc *gc)
{
	size_t kept = 0;

	for (size_t i = 0; i < gc->chunk_count; i++)
		if (dedup_condemn(gc->settings.dedup, gc->chunks[i]) == 0)
			gc->chunks[kept++] = gc->chunks[i];
	gc->chunk_count = kept;
}

/* Step 4: what came to use after all is left out. */
static int delete_condemned(struct gc *gc)
{
	struct record *record = record_new();
	uint64_t count = 0, bytes = 0;
	int r = record ? HOOK("gc-chunks-del-before") : -ENOMEM;

	for (size_t i = 0; i < gc->chunk_count && r == 0; i++) {
		struct chunk_row row;

		r = index_get_chunk(gc->settings.index, gc->reader, gc->chunks[i], &row);
		if (r == 0 && row.refs == 0) {
			record_del_chunk(record, row.chunk_no);
			bytes += row.stored_len;
			count++;
		} else if (r == 0) {
			counter_add(&gc_spared, 1);
		}
		if (r == -ENOENT)
			r = 0;
	}
	if (r < 0 || count == 0) {
		record_free(record);
		return r;
	}
	r = gc_submit(gc, record, NULL);
	if (r < 0)
		return r;
	gc->report.chunks_deleted += count;
	gc->report.chunk_bytes_deleted += bytes;
	counter_add(&gc_chunks, count);
	counter_add(&gc_chunk_bytes, bytes);
	return HOOK("gc-chunks-del-after");
}

int gc_collect_flush(struct gc *gc)
{
	int r = gc->chunk_count > 0 ? gc_settle(gc) : 0;

	if (r == 0)
		r = keep_dead(gc);
	if (r < 0 || gc->chunk_count == 0) {
		gc->chunk_count = 0;
		return r;
	}
	condemn_all(gc);
	r = HOOK("gc-chunks-condemned");
	if (r == 0)
		r = gc_settle(gc);
	if (r == 0)
		r = delete_condemned(gc);
	for (size_t i = 0; i < gc->chunk_count; i++)
		dedup_forget_condemned(gc->settings.dedup, gc->chunks[i]);
	gc->chunk_count = 0;
	return r;
}

int gc_collect_shard(struct gc *gc, const struct shard_row *shard)
{
	uint64_t after = 0;
	size_t count;

	do {
		AUTO(chunk_list) list = ROW_LIST_INIT;
		int r = index_list_chunks(gc->settings.index, gc->reader, shard->shard_no, after,
					  CHUNK_PAGE, &list);

		for (size_t i = 0; r == 0 && i < list.count; i++) {
			after = list.rows[i].chunk_no;
			if (list.rows[i].refs > 0)
				continue;
			gc->chunks[gc->chunk_count++] = after;
			if (gc->chunk_count == GC_CHUNK_BATCH)
				r = gc_collect_flush(gc);
		}
		if (r < 0)
			return r;
		count = list.count;
	} while (count == CHUNK_PAGE && !gc_is_stopping(gc));
	return 0;
}

int gc_is_empty(struct gc *gc, uint64_t shard_no, bool *is_empty)
{
	AUTO(chunk_list) list = ROW_LIST_INIT;
	int r = index_list_chunks(gc->settings.index, gc->reader, shard_no, 0, 1, &list);

	if (r == 0)
		*is_empty = list.count == 0;
	return r;
}

/* The record that emptied it is durable before the file goes: a replay finds no chunk in it. */
int gc_discard(struct gc *gc, const struct shard_row *shard)
{
	uint32_t records;
	bool is_empty = false;
	int r = spool_count_records(gc->settings.spool, shard->shard_no, &records);

	if (r < 0 || records == 0) /* nothing was ever in it: it will be used */
		return 0;
	r = gc_is_empty(gc, shard->shard_no, &is_empty);
	if (r < 0 || !is_empty)
		return r;
	r = gc_settle(gc);
	if (r == 0)
		r = HOOK("gc-discard-before");
	if (r < 0)
		return r;
	if (spool_discard(gc->settings.spool, shard->shard_no, records) == 0) {
		counter_add(&gc_discards, 1);
		gc->report.shards_discarded++;
	}
	return HOOK("gc-discard-after");
}
