/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One range at a time is in hand.  Order of its steps:
 *
 *   inode locked: in hand, untouched -> extents, bytes -> chunks stored, pinned
 *     -> inode locked: untouched still?  one record with the new extents, data_version moves
 *     -> unpinned
 *
 * Every record that changes extents is submitted under the inode's lock and noted under it, so
 * "untouched" means that what was read is what the record replaces.  Dirty bytes do not matter:
 * they are journalled later and lie over.  data_version moves because who copies extents (clone)
 * relies on it: the chunks that it saw may be dead now.
 *
 * Only extents with bytes are rewritten; holes and reserved zeros stay.
 */
#include "store/rewrite_private.h"

#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/queue.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define TICK_MS 1000u

static struct counter rewrite_looks = COUNTER_INIT("rewrite_looks",
						   "ranges looked at for fragmentation");
static struct counter rewrite_ranges = COUNTER_INIT("rewrite_ranges", "ranges rewritten");
static struct counter rewrite_saved = COUNTER_INIT("rewrite_extents_saved", "extents saved");
static struct counter rewrite_overtaken = COUNTER_INIT("rewrite_overtaken",
						       "rewritings given up for a write meanwhile");
static struct counter rewrite_failures = COUNTER_INIT("rewrite_failures", "rewritings that failed");
COUNTER_REGISTER(rewrite_looks);
COUNTER_REGISTER(rewrite_ranges);
COUNTER_REGISTER(rewrite_saved);
COUNTER_REGISTER(rewrite_overtaken);
COUNTER_REGISTER(rewrite_failures);

/* ---- one range ---- */

struct range {
	struct inode *inode;
	struct inode_row row;
	uint64_t off, end;
};

/* -ENOENT: there is nothing to rewrite. */
static int range_take(struct rewrite *rewrite, struct range_key key, struct range *range)
{
	int r = inode_load(rewrite->settings.inodes, rewrite->settings.index, rewrite->reader,
			   key.ino, &range->inode);

	if (r < 0)
		return r;
	lock_take(&range->inode->lock);
	range->row = range->inode->row;
	range->off = key.number * REWRITE_RANGE;
	range->end = MIN(range->off + REWRITE_RANGE, range->row.size);
	lock_take(&rewrite->lock);
	rewrite->hand_off = range->off;
	rewrite->hand_end = range->end;
	rewrite->is_hand_touched = false;
	atomic_store(&rewrite->hand_ino, key.ino);
	lock_drop(&rewrite->lock);
	lock_drop(&range->inode->lock);
	if (range->end <= range->off || !inode_is_regular(range->inode) || range->row.nlink == 0)
		return -ENOENT;
	return 0;
}

static void range_release(struct rewrite *rewrite, struct range *range)
{
	for (unsigned i = 0; i < rewrite->pinned_count; i++)
		chunk_unpin(rewrite->settings.chunks, rewrite->pinned[i]);
	rewrite->pinned_count = 0;
	atomic_store(&rewrite->hand_ino, 0);
	inode_unref(rewrite->settings.inodes, range->inode, 1); /* accepts NULL */
}

/* Bytes [from, to) of the file become new extents in the record. */
static int store_run(struct rewrite *rewrite, const struct range *range, uint64_t from, uint64_t to,
		     struct record *record)
{
	struct shard_class class;

	rewrite->settings.class_of(rewrite->settings.ctx, &range->row, &class);
	while (from < to) {
		const uint8_t *bytes = rewrite->data + (from - range->off);
		size_t len = chunker_next(rewrite->settings.chunker, bytes, to - from, true);
		struct chunk_row chunk;
		bool is_new;
		int r;

		if (rewrite->pinned_count == REWRITE_PIECES_MAX)
			return -EOVERFLOW;
		r = chunk_put(rewrite->worker, &class, bytes_of(bytes, len), &chunk, &is_new);
		if (r < 0)
			return r;
		rewrite->pinned[rewrite->pinned_count++] = chunk.chunk_no;
		record_put_extent(record, &(struct extent_row){.ino = range->row.ino,
							       .off = from,
							       .len = (uint32_t)len,
							       .chunk_no = chunk.chunk_no});
		from += len;
	}
	return 0;
}

/* Runs of neighbouring extents with bytes, if they have so many; *before counts those. */
static int store_runs(struct rewrite *rewrite, const struct range *range,
		      const struct extent_list *extents, size_t extents_min, struct record *record,
		      unsigned *before)
{
	size_t at = 0;
	int r = 0;

	while (at < extents->count && r == 0) {
		uint64_t from = extents->rows[at].off, to = from;
		size_t first = at;

		while (at < extents->count && extents->rows[at].off == to &&
		       extents->rows[at].chunk_no != 0) {
			to += extents->rows[at].len;
			at++;
		}
		if (at == first) {
			at++; /* reserved zeros */
		} else if (at - first >= extents_min) {
			r = store_run(rewrite, range, from, to, record);
			*before += (unsigned)(at - first);
		}
	}
	return r;
}

static int compare_chunks(const void *left, const void *right)
{
	const struct extent_row *a = left, *b = right;

	return a->chunk_no < b->chunk_no ? -1 : a->chunk_no > b->chunk_no;
}

/*
 * Bytes of chunks that nothing uses, as far as extents of this range alone keep the chunk.  Counts
 * of references lag behind by what is not applied yet: good enough.
 */
static int count_waste(struct rewrite *rewrite, const struct extent_list *extents, uint64_t *waste)
{
	AUTO(extent_list) sorted = ROW_LIST_INIT;
	size_t end;
	int r = 0;

	*waste = 0;
	for (size_t i = 0; i < extents->count && r == 0; i++)
		if (extents->rows[i].chunk_no != 0)
			r = extent_list_add(&sorted, &extents->rows[i]);
	if (r < 0 || sorted.count == 0)
		return r;
	qsort(sorted.rows, sorted.count, sizeof(sorted.rows[0]), compare_chunks);
	for (size_t i = 0; i < sorted.count; i = end) {
		struct chunk_row chunk;
		uint64_t used = 0;

		for (end = i; end < sorted.count &&
			      sorted.rows[end].chunk_no == sorted.rows[i].chunk_no; end++)
			used += sorted.rows[end].len;
		r = index_get_chunk(rewrite->settings.index, rewrite->reader,
				    sorted.rows[i].chunk_no, &chunk);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0 && chunk.refs <= end - i && used < chunk.raw_len)
			*waste += chunk.raw_len - used;
	}
	return 0;
}

/* -ECANCELED: somebody was quicker.  The record is taken. */
static int range_commit(struct rewrite *rewrite, struct range *range, struct record *record)
{
	struct inode *inode = range->inode;
	bool is_touched;
	int r = HOOK("rewrite-before");

	LOCK_SCOPE(&inode->lock);
	lock_take(&rewrite->lock);
	is_touched = rewrite->is_hand_touched;
	lock_drop(&rewrite->lock);
	if (r == 0 && is_touched)
		r = -ECANCELED;
	if (r < 0) {
		record_free(record);
		return r;
	}
	r = sequencer_submit(rewrite->settings.sequencer, record, &inode->last_seq);
	if (r == 0)
		inode->data_version++;
	return r < 0 ? r : HOOK("rewrite-after");
}

/* Whether it is worth it, and why. */
static int range_judge(struct rewrite *rewrite, const struct extent_list *extents, bool *has_many,
		       bool *has_waste)
{
	uint64_t waste, alive = 0;
	int r = count_waste(rewrite, extents, &waste);

	for (size_t i = 0; i < extents->count; i++)
		if (extents->rows[i].chunk_no != 0)
			alive += extents->rows[i].len;
	*has_many = extents->count > rewrite->extents_min;
	*has_waste = r == 0 && waste > alive / 2;
	return r;
}

static int range_rewrite(struct rewrite *rewrite, struct range *range)
{
	AUTO(extent_list) extents = ROW_LIST_INIT;
	AUTO_PTR(record) record = NULL;
	bool has_many = false, has_waste = false;
	uint64_t covered;
	unsigned before = 0;
	int r = index_find_extents(rewrite->settings.index, rewrite->reader, range->row.ino,
				   range->off, range->end - range->off, REWRITE_LOOKED_MAX,
				   &extents, &covered);

	if (r == 0)
		r = range_judge(rewrite, &extents, &has_many, &has_waste);
	if (r < 0 || (!has_many && !has_waste))
		return r;
	range->end = MIN(range->end, covered);
	r = reader_read(rewrite->settings.reader, rewrite->reader, range->row.ino, range->off,
			range->end - range->off, rewrite->data);
	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	r = store_runs(rewrite, range, &extents, has_waste ? 1 : 2, record, &before);
	if (r < 0 || (rewrite->pinned_count >= before && !has_waste))
		return r; /* holes between all of them: nothing to gain */
	r = range_commit(rewrite, range, STEAL(record));
	if (r < 0)
		return r;
	counter_add(&rewrite_ranges, 1);
	if (before > rewrite->pinned_count)
		counter_add(&rewrite_saved, before - rewrite->pinned_count);
	return 0;
}

static void look_at(struct rewrite *rewrite, struct range_key key)
{
	struct range range = {0};
	int r = range_take(rewrite, key, &range);

	counter_add(&rewrite_looks, 1);
	if (r == 0)
		r = range_rewrite(rewrite, &range);
	range_release(rewrite, &range);
	if (r == 0 || r == -ENOENT)
		return;
	if (r == -ECANCELED) {
		counter_add(&rewrite_overtaken, 1);
		rewrite_note_again(rewrite, key);
		return;
	}
	counter_add(&rewrite_failures, 1);
	log_warn("rewrite-failed", "ino=%llu offset=%llu error=%s next=\"after further writes\"",
		 (unsigned long long)key.ino, (unsigned long long)(key.number * REWRITE_RANGE),
		 err_name(r));
}

/* ---- the thread ---- */

static void *rewrite_main(void *arg)
{
	struct rewrite *rewrite = arg;

	lock_take(&rewrite->lock);
	while (!rewrite->is_stopping) {
		uint64_t flush = rewrite->flush_wanted;
		bool is_all = flush != rewrite->flush_done;
		struct range_key key;
		unsigned left = REWRITE_TABLE; /* so that overtaken ones cannot hold a flush up */

		lock_drop(&rewrite->lock);
		while (left-- > 0 && rewrite_take_due(rewrite, is_all, &key)) {
			look_at(rewrite, key);
			lock_take(&rewrite->lock);
			if (rewrite->is_stopping)
				left = 0;
			lock_drop(&rewrite->lock);
		}
		lock_take(&rewrite->lock);
		rewrite->flush_done = flush;
		cond_wake_all(&rewrite->flushed);
		if (!rewrite->is_stopping && !rewrite->has_urgent &&
		    rewrite->flush_wanted == rewrite->flush_done)
			cond_wait_ms(&rewrite->wake, &rewrite->lock, TICK_MS);
	}
	cond_wake_all(&rewrite->flushed);
	lock_drop(&rewrite->lock);
	return NULL;
}

int rewrite_start(const struct rewrite_settings *settings, struct rewrite **out)
{
	struct rewrite *rewrite = mem_alloc(sizeof(*rewrite));
	int r;

	if (!rewrite)
		return -ENOMEM;
	rewrite->settings = *settings;
	rewrite->extents_min = MAX(REWRITE_EXTENTS,
				   (uint32_t)(2 * REWRITE_RANGE /
					      chunker_get_params(settings->chunker).avg_bytes));
	lock_init(&rewrite->lock, LOCK_LEAF);
	cond_init(&rewrite->wake);
	cond_init(&rewrite->flushed);
	list_init(&rewrite->lru);
	list_init(&rewrite->free);
	rewrite->data = mem_alloc_raw(REWRITE_RANGE);
	rewrite->pinned = mem_alloc_array(REWRITE_PIECES_MAX, sizeof(*rewrite->pinned));
	rewrite->memory = mem_alloc_array(REWRITE_TABLE, sizeof(*rewrite->memory));
	r = rewrite->data && rewrite->pinned && rewrite->memory ? 0 : -ENOMEM;
	for (unsigned i = 0; i < REWRITE_TABLE && r == 0; i++)
		list_push_back(&rewrite->free, &rewrite->memory[i].lru);
	if (r == 0)
		r = index_reader_open(settings->index, &rewrite->reader);
	if (r == 0)
		r = chunk_worker_new(settings->chunks, &rewrite->worker);
	if (r == 0)
		r = thread_start(&rewrite->thread, "rewrite", rewrite_main, rewrite);
	if (r < 0) {
		rewrite_free(rewrite);
		return r;
	}
	rewrite->is_running = true;
	*out = rewrite;
	return 0;
}

void rewrite_stop(struct rewrite *rewrite)
{
	if (!rewrite || !rewrite->is_running)
		return;
	lock_take(&rewrite->lock);
	rewrite->is_stopping = true;
	cond_wake_all(&rewrite->wake);
	lock_drop(&rewrite->lock);
	pthread_join(rewrite->thread, NULL);
	rewrite->is_running = false;
	chunk_worker_free(rewrite->worker);
	index_reader_close(rewrite->reader);
	rewrite->worker = NULL;
	rewrite->reader = NULL;
}

void rewrite_free(struct rewrite *rewrite)
{
	if (!rewrite)
		return;
	rewrite_stop(rewrite);
	chunk_worker_free(rewrite->worker); /* a start that failed */
	index_reader_close(rewrite->reader);
	map_release(&rewrite->notes);
	cond_release(&rewrite->wake);
	cond_release(&rewrite->flushed);
	lock_release(&rewrite->lock);
	mem_free(rewrite->data);
	mem_free(rewrite->pinned);
	mem_free(rewrite->memory);
	mem_free(rewrite);
}

void rewrite_flush(struct rewrite *rewrite)
{
	uint64_t flush;

	if (!rewrite)
		return;
	LOCK_SCOPE(&rewrite->lock);
	flush = ++rewrite->flush_wanted;
	cond_wake_all(&rewrite->wake);
	while (rewrite->flush_done < flush && !rewrite->is_stopping)
		cond_wait(&rewrite->flushed, &rewrite->lock);
}
