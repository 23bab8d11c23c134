/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_REWRITE_PRIVATE_H
#define SHARDFS_STORE_REWRITE_PRIVATE_H

/* Shared by rewrite.c (what was written) and rewrite_work.c (the thread). */

#include "store/rewrite.h"
#include "util/list.h"
#include "util/lock.h"
#include "util/map.h"

#define REWRITE_LOOKED_MAX 4096u /* extents of one range */
#define REWRITE_PIECES_MAX 4352u /* what a range is cut into at most, with the smallest chunks */

struct range_key {
	uint64_t ino, number; /* of the range: offset / REWRITE_RANGE */
};

struct range_note {
	struct map_node node;
	struct list lru; /* or free */
	struct range_key key;
	uint32_t pieces;
	uint64_t last_ms;
};

struct rewrite {
	struct rewrite_settings settings;
	struct index_reader *reader;
	struct chunk_worker *worker;
	uint8_t *data; /* REWRITE_RANGE */
	uint64_t *pinned; /* chunks that the range in hand names; REWRITE_PIECES_MAX */
	unsigned pinned_count;
	uint32_t extents_min; /* worth rewriting; fixed */
	pthread_t thread;
	bool is_running;
	_Atomic uint64_t hand_ino; /* set with that inode's lock held; 0: none */

	struct lock lock; /* LOCK_LEAF: guards the rest */
	struct cond wake, flushed;
	struct map notes;
	struct list lru; /* oldest first */
	struct list free;
	struct range_note *memory;
	uint32_t lost_pieces; /* of notes that went, since one was looked at */
	struct range_key lost; /* the one to look at; ino 0: none */
	bool has_urgent, is_stopping;
	uint64_t flush_wanted, flush_done;
	uint64_t hand_off, hand_end;
	bool is_hand_touched;
};

/* Something to look at now.  is_all: whatever was noted. */
bool rewrite_take_due(struct rewrite *rewrite, bool is_all, struct range_key *out);
/* Look at it once it has rested. */
void rewrite_note_again(struct rewrite *rewrite, struct range_key key);

#endif
