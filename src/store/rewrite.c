/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which ranges: a table of ranges that got new extents, the least recently written first to go.  A
 * few pieces are worth a look at the index once the range rests; it tells what is true.  A write
 * into an extent makes at most two more of it, so half as many pieces as the upper bound are worth
 * a look at once.  When the table is full the one that goes is
 * looked at too, once in so many pieces: a range is looked at in proportion to what was written
 * into it, however large the file is.
 *
 *   noted -> due (enough pieces, and rested or very many) -> looked at -> rewritten, or forgotten
 */
#include "store/rewrite_private.h"

#include "util/clock.h"

#include <stdatomic.h>

static uint32_t worth_a_look(const struct rewrite *rewrite)
{
	return rewrite->extents_min / 8;
}

static uint32_t worth_at_once(const struct rewrite *rewrite)
{
	return rewrite->extents_min / 2 * (REWRITE_EXTENTS_MAX / REWRITE_EXTENTS);
}

/* ---- the table ---- */

static uint64_t key_hash(struct range_key key)
{
	return map_hash_u64(key.ino * 0x9e3779b97f4a7c15u ^ key.number);
}

static struct range_note *note_find_locked(struct rewrite *rewrite, struct range_key key)
{
	struct map_node *node = map_first(&rewrite->notes, key_hash(key));

	for (; node; node = map_next(node)) {
		struct range_note *note = container_of(node, struct range_note, node);

		if (note->key.ino == key.ino && note->key.number == key.number)
			return note;
	}
	return NULL;
}

static void note_drop_locked(struct rewrite *rewrite, struct range_note *note)
{
	map_remove(&rewrite->notes, &note->node);
	list_remove(&note->lru);
	list_push_front(&rewrite->free, &note->lru);
}

/* The oldest makes room. */
static struct range_note *note_take_locked(struct rewrite *rewrite)
{
	if (list_is_empty(&rewrite->free)) {
		struct range_note *oldest = list_entry(rewrite->lru.next, struct range_note, lru);

		rewrite->lost_pieces += oldest->pieces;
		if (rewrite->lost_pieces >= rewrite->extents_min) {
			rewrite->lost_pieces = 0;
			rewrite->lost = oldest->key;
			rewrite->has_urgent = true;
			cond_wake_one(&rewrite->wake);
		}
		note_drop_locked(rewrite, oldest);
	}
	return list_entry(rewrite->free.next, struct range_note, lru);
}

static void note_locked(struct rewrite *rewrite, struct range_key key, uint32_t pieces,
			uint64_t now_ms)
{
	struct range_note *note = note_find_locked(rewrite, key);

	if (!note) {
		note = note_take_locked(rewrite);
		if (map_insert(&rewrite->notes, &note->node, key_hash(key)) < 0)
			return; /* stays in the list of free ones */
		note->key = key;
		note->pieces = 0;
	}
	list_remove(&note->lru);
	list_push_back(&rewrite->lru, &note->lru);
	note->pieces += MIN(pieces, UINT32_MAX - note->pieces);
	note->last_ms = now_ms;
	if (note->pieces >= worth_at_once(rewrite) && !rewrite->has_urgent) {
		rewrite->has_urgent = true;
		cond_wake_one(&rewrite->wake);
	}
}

void rewrite_note(struct rewrite *rewrite, uint64_t ino, uint64_t off, uint64_t len,
		  unsigned pieces)
{
	uint64_t end = off + len, now = clock_mono_ms();

	if (!rewrite || len == 0)
		return;
	LOCK_SCOPE(&rewrite->lock);
	if (atomic_load(&rewrite->hand_ino) == ino && off < rewrite->hand_end &&
	    end > rewrite->hand_off)
		rewrite->is_hand_touched = true;
	for (uint64_t number = off / REWRITE_RANGE; number * REWRITE_RANGE < end; number++) {
		uint64_t from = MAX(off, number * REWRITE_RANGE);
		uint64_t to = MIN(end, (number + 1) * REWRITE_RANGE);

		if (to - from == REWRITE_RANGE)
			continue; /* all of it is new */
		note_locked(rewrite, (struct range_key){ino, number},
			    (uint32_t)MAX(1u, pieces * (to - from) / len), now);
	}
}

void rewrite_touch(struct rewrite *rewrite, uint64_t ino)
{
	if (!rewrite || atomic_load(&rewrite->hand_ino) != ino)
		return;
	LOCK_SCOPE(&rewrite->lock);
	rewrite->is_hand_touched = true;
}

bool rewrite_take_due(struct rewrite *rewrite, bool is_all, struct range_key *out)
{
	uint64_t now = clock_mono_ms();

	LOCK_SCOPE(&rewrite->lock);
	if (rewrite->lost.ino) {
		*out = rewrite->lost;
		rewrite->lost.ino = 0;
		return true;
	}
	list_for_each(pos, &rewrite->lru) {
		struct range_note *note = list_entry(pos, struct range_note, lru);
		bool is_rested = now - note->last_ms >= REWRITE_REST_MS;

		if (!is_all && note->pieces < worth_at_once(rewrite) &&
		    (!is_rested || note->pieces < worth_a_look(rewrite)))
			continue;
		*out = note->key;
		note_drop_locked(rewrite, note);
		return true;
	}
	rewrite->has_urgent = false;
	return false;
}

void rewrite_note_again(struct rewrite *rewrite, struct range_key key)
{
	LOCK_SCOPE(&rewrite->lock);
	note_locked(rewrite, key, worth_a_look(rewrite), clock_mono_ms());
}
