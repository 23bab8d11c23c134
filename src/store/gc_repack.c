/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse shards, and many small ones.
 *
 * A chunk's place changes only to one that is at least as safe: its record is copied into an open
 * shard like new data, without telling the index; when that shard has the copies that the old one
 * has (or is sealed in the spool, if the old one has none either), the index is told.  Until then
 * reads, protection and recovery know the old place alone, so nothing ever gets less safe.  A shard
 * whose chunks have all moved is empty, and goes the way of empty shards.
 *
 *   read, authenticated -> appended to an open shard (the spool seals and copies it as always)
 *     -> the new shard has its copies -> CHUNK_PUT with the new place, if the chunk is still alive
 *     and still where it was -> the old shard is empty
 *
 * Only this thread moves chunks out of sealed shards, and deletes chunks; so what was checked
 * before a record is true in it.  A crash before the last step leaves records that no chunk names:
 * dead bytes in the new shard, which count when that one is judged.
 */
#include "store/gc_private.h"

#include "store/pack.h"
#include "store/placement.h"
#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"

#include <errno.h>
#include <stdlib.h>

#define CHUNK_PAGE	 512u
#define MOVES_EACH	 4096u /* in one record */
#define BUSY_LOOK_MS	 200u
#define SETTLE_FOR_LESS_MS (10 * 60 * 1000u) /* a full provider may never take its copy */

static struct counter gc_moved = COUNTER_INIT("gc_chunks_moved",
					      "live chunks moved to other shards");
static struct counter gc_moved_bytes = COUNTER_INIT("gc_chunk_bytes_moved", "their stored bytes");
static struct counter gc_repacks = COUNTER_INIT("gc_shards_repacked", "shards emptied by moving");
static struct counter gc_unreadable = COUNTER_INIT("gc_shards_unreadable",
						   "shards left alone: a chunk was unreadable");
COUNTER_REGISTER(gc_moved);
COUNTER_REGISTER(gc_moved_bytes);
COUNTER_REGISTER(gc_repacks);
COUNTER_REGISTER(gc_unreadable);

/* ---- which ---- */

uint64_t gc_sparse_gain(const struct gc *gc, const struct shard_row *shard)
{
	uint64_t would;

	if ((shard->state != SHARD_SEALED && shard->state != SHARD_DURABLE) ||
	    shard->live_bytes == 0)
		return 0;
	/* as long as it would be with what is alive: what every object costs is no gain */
	would = pack_object_len(PACK_HEADER_LEN + shard->live_bytes, shard->record_count);
	if (would >= shard->object_len ||
	    would * 100 >= shard->object_len * gc->settings.repack_below)
		return 0;
	return shard->object_len - would;
}

static bool has_failed(const struct gc *gc, uint64_t shard_no)
{
	for (unsigned i = 0; i < GC_FAILED_MAX; i++)
		if (gc->failed[i].shard_no == shard_no && gc->failed[i].until_ms > clock_mono_ms())
			return true;
	return false;
}

static void note_failed(struct gc *gc, uint64_t shard_no)
{
	gc->failed[gc->failed_next].shard_no = shard_no;
	gc->failed[gc->failed_next].until_ms = clock_mono_ms() + GC_FAILED_PAUSE_MS;
	gc->failed_next = (gc->failed_next + 1) % GC_FAILED_MAX;
	counter_add(&gc_unreadable, 1);
}

/* Those that give most stay. */
void gc_sparse_offer(struct gc *gc, const struct shard_row *shard)
{
	uint64_t gain = gc_sparse_gain(gc, shard);
	struct gc_sparse *least = &gc->sparse[0];

	if (gain == 0 || has_failed(gc, shard->shard_no) || gc_is_moving(gc, shard->shard_no))
		return;
	if (gc->sparse_count < GC_SOURCES_MAX) {
		gc->sparse[gc->sparse_count++] = (struct gc_sparse){*shard, gain};
		return;
	}
	for (unsigned i = 1; i < gc->sparse_count; i++)
		if (gc->sparse[i].gain < least->gain)
			least = &gc->sparse[i];
	if (gain > least->gain)
		*least = (struct gc_sparse){*shard, gain};
}

/* Behind those that give space: all of them have their turn in the end. */
bool gc_old_offer(struct gc *gc, const struct shard_row *shard)
{
	struct shard_class class;

	gc->settings.class_of(gc->settings.ctx, shard, &class);
	if (shard->key_epoch >= class.key_epoch)
		return false;
	if ((shard->state == SHARD_SEALED || shard->state == SHARD_DURABLE) &&
	    shard->live_bytes > 0 && gc->sparse_count < GC_SOURCES_MAX &&
	    !has_failed(gc, shard->shard_no) && !gc_is_moving(gc, shard->shard_no))
		gc->sparse[gc->sparse_count++] = (struct gc_sparse){*shard, 1};
	return true;
}

/* One that will not grow any more and has its copies.  What a merge makes is larger than what went
 * into it by GC_MERGE_MIN, so a byte is merged a few times at most. */
void gc_small_offer(struct gc *gc, const struct shard_row *shard)
{
	if (shard->state != SHARD_DURABLE || shard->live_bytes == 0 ||
	    shard->object_len >= gc->settings.shard_bytes / 4 ||
	    gc->small_count == GC_SOURCES_MAX || has_failed(gc, shard->shard_no) ||
	    gc_is_moving(gc, shard->shard_no))
		return;
	gc->small[gc->small_count++] = *shard;
}

static bool is_same_class(const struct shard_row *a, const struct shard_row *b)
{
	return a->policy_root == b->policy_root && a->priority == b->priority;
}

/* Those that have company go the way of sparse ones. */
static void take_small(struct gc *gc)
{
	for (unsigned i = 0; i < gc->small_count && gc->sparse_count < GC_SOURCES_MAX; i++) {
		unsigned peers = 0;
		bool is_taken = false;

		for (unsigned k = 0; k < gc->small_count; k++)
			peers += is_same_class(&gc->small[i], &gc->small[k]);
		for (unsigned k = 0; k < gc->sparse_count; k++)
			is_taken |= gc->sparse[k].row.shard_no == gc->small[i].shard_no;
		if (peers >= GC_MERGE_MIN && !is_taken)
			gc->sparse[gc->sparse_count++] = (struct gc_sparse){gc->small[i], 0};
	}
	gc->small_count = 0;
}

bool gc_is_moving(const struct gc *gc, uint64_t shard_no)
{
	for (const struct list *pos = gc->sources.next; pos != &gc->sources; pos = pos->next) {
		const struct gc_source *source = container_of(pos, const struct gc_source, link);

		if (source->shard_no == shard_no)
			return true;
		for (unsigned i = 0; i < source->target_count; i++)
			if (source->targets[i] == shard_no)
				return true;
	}
	return false;
}

static void source_free(struct gc *gc, struct gc_source *source)
{
	list_remove(&source->link);
	gc->source_count--;
	gc->move_total -= source->move_count;
	mem_free(source->moves);
	mem_free(source);
}

void gc_repack_release(struct gc *gc)
{
	list_for_each(pos, &gc->sources)
		source_free(gc, container_of(pos, struct gc_source, link));
}

/* ---- reading ---- */

/* Not faster than allowed, and not while programs wait.  False: gc stops. */
static bool throttle(struct gc *gc, uint64_t bytes)
{
	uint64_t rate = gc->settings.repack_bytes_per_s, now, due;

	while (!gc->is_hurried && gc->settings.is_busy && !gc_is_pressed(gc) &&
	       gc->settings.is_busy(gc->settings.ctx))
		if (!gc_pause(gc, BUSY_LOOK_MS))
			return false;
	if (gc_is_stopping(gc))
		return false;
	if (rate == 0 || gc->is_hurried || gc_is_pressed(gc))
		return true;
	now = clock_mono_ms();
	due = gc->budget_ms + gc->budget_bytes * 1000 / rate;
	if (now > due + 1000) { /* what was not used is not saved up */
		gc->budget_ms = due = now;
		gc->budget_bytes = 0;
	}
	gc->budget_bytes += bytes;
	return now >= due || gc_pause(gc, due - now);
}

static int add_target(struct gc_source *source, uint64_t shard_no)
{
	for (unsigned i = 0; i < source->target_count; i++)
		if (source->targets[i] == shard_no)
			return 0;
	if (source->target_count == GC_TARGETS_MAX)
		return -EOVERFLOW;
	source->targets[source->target_count++] = shard_no;
	return 0;
}

static int add_move(struct gc *gc, struct gc_source *source, const struct chunk_row *place)
{
	if (source->move_count == source->move_capacity) {
		size_t more = MAX((size_t)64, source->move_capacity * 2);
		struct gc_move *moves =
			mem_realloc_array(source->moves, more, sizeof(*source->moves));

		if (!moves)
			return -ENOMEM;
		source->moves = moves;
		source->move_capacity = more;
	}
	source->moves[source->move_count++] = (struct gc_move){.chunk_no = place->chunk_no,
							       .shard_no = place->shard_no,
							       .record_no = place->record_no,
							       .off = place->off,
							       .stored_len = place->stored_len};
	gc->move_total++;
	return add_target(source, place->shard_no);
}

static int copy_record(struct gc *gc, struct gc_source *source, const struct shard_class *class,
		       uint64_t chunk_no)
{
	struct chunk_row row, place;
	uint8_t form;
	int r;

	buf_clear(&gc->payload);
	r = reader_read_record(gc->settings.reader, gc->reader, chunk_no, &gc->payload, &form,
			       &row);
	if (r == -ENOENT || (r == 0 && row.shard_no != source->shard_no))
		return 0; /* it is gone, or elsewhere */
	if (r == 0)
		r = HOOK("gc-move-before");
	if (r < 0)
		return r;
	place = row;
	r = spool_append(gc->settings.spool, gc->aead, class, &row.id, form, row.raw_len,
			 buf_bytes(&gc->payload), &place);
	if (r < 0)
		return r;
	r = add_move(gc, source, &place);
	spool_append_done(gc->settings.spool, place.shard_no);
	return r < 0 ? r : HOOK("gc-move-after");
}

static int compare_places(const void *left, const void *right)
{
	const struct chunk_row *a = left, *b = right;

	return a->off < b->off ? -1 : a->off > b->off;
}

/* Live chunks in the order in which they lie. */
static int list_live(struct gc *gc, uint64_t shard_no, struct chunk_list *live)
{
	uint64_t after = 0;
	size_t count;
	int r;

	do {
		AUTO(chunk_list) page = ROW_LIST_INIT;

		r = index_list_chunks(gc->settings.index, gc->reader, shard_no, after, CHUNK_PAGE,
				      &page);
		for (size_t i = 0; r == 0 && i < page.count; i++) {
			after = page.rows[i].chunk_no;
			if (page.rows[i].refs > 0)
				r = chunk_list_add(live, &page.rows[i]);
		}
		count = page.count;
	} while (r == 0 && count == CHUNK_PAGE && live->count <= GC_MOVES_MAX);
	if (live->count > 0)
		qsort(live->rows, live->count, sizeof(live->rows[0]), compare_places);
	return r;
}

static int repack_one(struct gc *gc, const struct shard_row *shard)
{
	AUTO(chunk_list) live = ROW_LIST_INIT;
	struct gc_source *source;
	struct shard_class class;
	int r = list_live(gc, shard->shard_no, &live);

	if (r < 0 || live.count == 0 || live.count + gc->move_total > GC_MOVES_MAX)
		return r;
	source = mem_alloc(sizeof(*source));
	if (!source)
		return -ENOMEM;
	source->shard_no = shard->shard_no;
	source->started_ms = clock_mono_ms();
	list_push_back(&gc->sources, &source->link);
	gc->source_count++;
	gc->settings.class_of(gc->settings.ctx, shard, &class);
	for (size_t i = 0; i < live.count && r == 0; i++)
		r = throttle(gc, live.rows[i].stored_len)
			    ? copy_record(gc, source, &class, live.rows[i].chunk_no)
			    : -ECANCELED;
	if (r < 0 || source->move_count == 0)
		source_free(gc, source);
	return r;
}

/* The source for some chunks of a shard; NULL in *out when that shard is being repacked. */
static int relocation_of(struct gc *gc, uint64_t shard_no, struct gc_source **out)
{
	struct gc_source *source;

	*out = NULL;
	list_for_each(pos, &gc->sources) {
		source = container_of(pos, struct gc_source, link);
		if (source->shard_no == shard_no && source->is_relocation) {
			*out = source;
			return 0;
		}
	}
	if (gc_is_moving(gc, shard_no) || gc->source_count >= GC_SOURCES_MAX)
		return 0;
	source = mem_alloc(sizeof(*source));
	if (!source)
		return -ENOMEM;
	source->shard_no = shard_no;
	source->started_ms = clock_mono_ms();
	source->is_relocation = true;
	list_push_back(&gc->sources, &source->link);
	gc->source_count++;
	*out = source;
	return 0;
}

static int relocate_one(struct gc *gc, uint64_t chunk_no)
{
	struct gc_source *source;
	struct chunk_row row;
	int r = index_get_chunk(gc->settings.index, gc->reader, chunk_no, &row);

	if (r < 0 || gc->move_total >= GC_MOVES_MAX)
		return r == -ENOENT ? 0 : r;
	r = relocation_of(gc, row.shard_no, &source);
	if (r < 0 || !source)
		return r;
	if (!throttle(gc, row.stored_len))
		return -ECANCELED;
	r = copy_record(gc, source, &gc->relocation.class, chunk_no);
	if (r == -EOVERFLOW) { /* this source has all the targets that it may have */
		source->move_count--;
		gc->move_total--;
		r = 0;
	}
	return r == -EIO || r == -EBADMSG ? 0 : r; /* named by the reader */
}

/* Then the shards that took them are closed, so that copies are made now. */
int gc_relocate_read(struct gc *gc)
{
	int r = 0;

	for (size_t i = 0; i < gc->relocation.count && r == 0; i++)
		r = gc_is_stopping(gc) ? -ECANCELED
				       : relocate_one(gc, gc->relocation.chunks[i]);
	list_for_each(pos, &gc->sources) {
		struct gc_source *source = container_of(pos, struct gc_source, link);

		if (source->move_count == 0)
			source_free(gc, source);
	}
	if (r == 0 && gc_is_relocating(gc))
		r = spool_seal_all(gc->settings.spool, gc->relocation.class.policy_root);
	return r == -ECANCELED ? 0 : r;
}

bool gc_is_relocating(const struct gc *gc)
{
	for (const struct list *pos = gc->sources.next; pos != &gc->sources; pos = pos->next)
		if (container_of(pos, const struct gc_source, link)->is_relocation)
			return true;
	return false;
}

int gc_repack(struct gc *gc)
{
	int r = 0;

	take_small(gc);
	for (unsigned i = 0; i < gc->sparse_count && gc->source_count < GC_SOURCES_MAX; i++) {
		const struct shard_row *shard = &gc->sparse[i].row;

		if (gc_is_stopping(gc) || gc_is_frozen(gc))
			break;
		r = repack_one(gc, shard);
		if (r == -EIO || r == -EBADMSG) {
			log_warn("shard-not-repacked",
				 "shard=%s shard_no=%llu error=%s next=\"again in an hour\"",
				 shard_id_hex(&shard->id).s, (unsigned long long)shard->shard_no,
				 err_name(r));
			note_failed(gc, shard->shard_no);
			r = 0;
		}
		if (r < 0)
			break;
	}
	gc->sparse_count = 0;
	return r == -ECANCELED ? 0 : r;
}

/* ---- moving ---- */

static int count_copies(struct gc *gc, uint64_t shard_no, unsigned *valid)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = index_list_copies(gc->settings.index, gc->reader, shard_no, &copies);

	*valid = 0;
	for (size_t i = 0; r == 0 && i < copies.count; i++)
		*valid += copy_is_valid(&copies.rows[i]);
	return r;
}

/* 1: as safe as the source; 0: not yet; -ENOENT: it broke, or went. */
static int target_is_safe(struct gc *gc, const struct gc_source *source, uint64_t shard_no,
			  unsigned copies)
{
	struct shard_row row;
	unsigned have;
	int r = index_get_shard(gc->settings.index, gc->reader, shard_no, &row);

	if (r == 0 && row.state >= SHARD_CONDEMNED)
		r = -ENOENT;
	if (r < 0 || row.state == SHARD_OPEN)
		return r;
	if (copies == 0)
		return 1;
	r = count_copies(gc, shard_no, &have);
	if (r < 0)
		return r;
	if (have >= copies)
		return 1;
	return row.state == SHARD_DURABLE &&
	       clock_mono_ms() - source->started_ms >= SETTLE_FOR_LESS_MS;
}

static int source_is_safe(struct gc *gc, const struct gc_source *source)
{
	struct shard_row row;
	unsigned copies;
	int r = index_get_shard(gc->settings.index, gc->reader, source->shard_no, &row);

	if (r == 0 && row.state >= SHARD_CONDEMNED)
		r = -ENOENT;
	if (r == 0)
		r = count_copies(gc, source->shard_no, &copies);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < source->target_count; i++) {
		r = target_is_safe(gc, source, source->targets[i], copies);
		if (r <= 0)
			return r;
	}
	return 1;
}

static int move_some(struct gc *gc, const struct gc_source *source, size_t from, size_t end)
{
	struct record *record = record_new();
	uint64_t bytes = 0, count = 0;
	int r = record ? HOOK("gc-move-commit-before") : -ENOMEM;

	for (size_t i = from; i < end && r == 0; i++) {
		const struct gc_move *move = &source->moves[i];
		struct chunk_row row;

		r = index_get_chunk(gc->settings.index, gc->reader, move->chunk_no, &row);
		if (r == -ENOENT) {
			r = 0;
			continue;
		}
		if (r < 0 || row.shard_no != source->shard_no || row.refs == 0)
			continue; /* dead meanwhile: it stays, and is deleted where it is */
		row.shard_no = move->shard_no;
		row.record_no = move->record_no;
		row.off = move->off;
		row.stored_len = move->stored_len;
		record_put_chunk(record, &row);
		bytes += row.stored_len;
		count++;
	}
	if (r < 0 || count == 0) {
		record_free(record);
		return r;
	}
	r = gc_submit(gc, record, NULL);
	if (r < 0)
		return r;
	gc->report.chunks_moved += count;
	gc->report.bytes_moved += bytes;
	counter_add(&gc_moved, count);
	counter_add(&gc_moved_bytes, bytes);
	return HOOK("gc-move-commit-after");
}

int gc_repack_commit(struct gc *gc)
{
	list_for_each(pos, &gc->sources) {
		struct gc_source *source = container_of(pos, struct gc_source, link);
		int r = source_is_safe(gc, source);

		if (r == 0)
			continue;
		for (size_t at = 0; at < source->move_count && r > 0; at += MOVES_EACH) {
			int moved = move_some(gc, source, at,
					      MIN(source->move_count, at + MOVES_EACH));

			r = moved < 0 ? moved : r;
		}
		if (r > 0 && !source->is_relocation)
			counter_add(&gc_repacks, 1);
		source_free(gc, source); /* what failed is read again */
		if (r < 0 && r != -ENOENT)
			return r;
	}
	gc->report.shards_moving = gc->source_count;
	return 0;
}
