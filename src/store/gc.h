/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_GC_H
#define SHARDFS_STORE_GC_H

/*
 * Space that nothing needs any more: dead chunks leave the index, shards that are mostly dead are
 * repacked (and many small ones merged in the same way, and those of an earlier key epoch sealed
 * under the one in use), empty ones are condemned, held, and
 * deleted provider by provider.
 *
 * One thread with a reader of its own.  It looks at all shards when something has changed, at most
 * once in period_ms (sooner while the spool is more than half full), and when gc_run asks.
 */

#include "store/audit.h"
#include "store/cache.h"
#include "store/dedup.h"
#include "store/policy.h"
#include "store/reader.h"
#include "store/sequencer.h"
#include "store/spool.h"

struct gc;

struct gc_settings {
	struct index *index;
	struct sequencer *sequencer;
	struct spool *spool;
	struct reader *reader;
	struct cache *cache; /* may be NULL */
	struct dedup *dedup;
	uint64_t hold_ms;	/* between condemning a shard that has copies and deleting them */
	unsigned repack_below;	/* percent of a shard alive under which it is repacked; 0: never */
	/*
	 * Shards that are full at this size: those under a quarter of it (sealed when idle, or for
	 * an fsync) are merged when there are many of one kind.  0: never.
	 */
	uint64_t shard_bytes;
	uint64_t repack_bytes_per_s; /* read for repacking; 0: no limit.  gc_run has none */
	uint64_t spool_bytes_max; /* of the spool; gc hurries over half of it */
	uint64_t period_ms;
	/* store/transfer.h has these four; without copies they may be NULL, all or none. */
	unsigned (*facts)(void *ctx, struct provider_facts *out, unsigned out_max);
	void (*ask)(void *ctx, unsigned i, struct waiter *waiter);
	void (*forget)(void *ctx, uint64_t shard_no, struct waiter *waiter);
	void (*delete_copy)(void *ctx, const struct shard_row *shard, const struct copy_row *copy,
			    struct waiter *waiter);
	/* Where chunks of this shard would be packed today. */
	void (*class_of)(void *ctx, const struct shard_row *shard, struct shard_class *out);
	/* Programs are waiting for memory or the spool: repacking pauses.  May be NULL. */
	bool (*is_busy)(void *ctx);
	/*
	 * Every state that could be recovered from providers alone contains the records up to this
	 * one: shards condemned after it are not deleted.  NULL: there are no such states.
	 */
	uint64_t (*shipped_seq)(void *ctx);
	/* Makes that true of `seq` soon, and tells the waiter; for gc_run.  NULL without that. */
	void (*ship)(void *ctx, uint64_t seq, struct waiter *waiter);
	/*
	 * Takes an entry of the audit log; what it refuses to take is not deleted.  May be NULL.
	 */
	int (*audit)(void *ctx, const struct audit_event *event);
	void *ctx;
};

/* What one look did and left.  Bytes are those of one copy. */
struct gc_report {
	uint64_t chunks_deleted, chunk_bytes_deleted;
	uint64_t chunks_moved, bytes_moved; /* to their new place, which has its copies */
	uint64_t shards_discarded;	    /* open ones in the spool */
	uint64_t shards_condemned;
	uint64_t shards_deleted, bytes_deleted;
	uint64_t shards_old;		  /* in use, sealed under an earlier key epoch */
	uint64_t shards_moving;		  /* read; chunks move once the new shard has its copies */
	uint64_t shards_held, bytes_held; /* until the hold has passed */
	uint64_t shards_blocked, bytes_blocked; /* only what blocked_by says is in the way */
	int64_t held_until_sec;			/* the first of them; 0: none */
	int64_t blocked_since_sec;		/* the first of them; 0: none */
	char blocked_by[160];			/* "" or who is away; "frozen"; "not shipped" */
	int error;				/* the first failure: the next look goes on */
	int64_t ended_sec;			/* 0: there was none yet */
};

/* -ENOMEM, -EAGAIN (no thread), or what opening a connection to the index says. */
int gc_start(const struct gc_settings *settings, struct gc **out);
/* Ends the thread after the step at hand; before transfer_stop.  Accepts NULL. */
void gc_stop(struct gc *gc);

void gc_wake(struct gc *gc); /* look soon; any thread */
/* Nothing is condemned, repacked or deleted while frozen; dead chunks stay too.  Any thread. */
void gc_freeze(struct gc *gc, bool is_frozen);

/*
 * gc_run - one whole look, now, without limits of bandwidth; waits for it.  Sparse shards that were
 * read are deleted by a later look, once their chunks are safe elsewhere (shards_moving).
 * 0: see report->error too; -ECANCELED: gc stops.  Any thread that may wait.
 */
int gc_run(struct gc *gc, struct gc_report *out);
void gc_status(struct gc *gc, struct gc_report *out); /* of the last look; any thread */

/*
 * Chunks of live files that are to lie in shards of another class (store/converge.h).  They are
 * read, appended and moved like those of a sparse shard, within the same limits; what cannot be
 * moved now stays where it is, so ask the index and try again.
 *
 * gc_relocate - begins it; chunk_nos is copied, 1 .. GC_RELOCATE_MAX of them.  -EBUSY: another one
 * is under way.  One thread.
 * gc_relocate_wait - 1: nothing is under way; 0: ms passed, or gc stops.
 */
#define GC_RELOCATE_MAX 2048u
int gc_relocate(struct gc *gc, const struct shard_class *class, const uint64_t *chunk_nos,
		size_t count);
int gc_relocate_wait(struct gc *gc, uint64_t ms);

struct gc_candidate {
	uint64_t shard_no;
	const char *reason;   /* "condemned", "empty", "sparse" */
	uint64_t bytes;	      /* that one copy would give back */
	int64_t eligible_sec; /* may go from then on, if nothing blocks it */
};
/*
 * gc_survey - what there is to reclaim, as of the last applied record; changes nothing.
 * visit: 0 to go on.  blocked_by: as in the report.  Errors of the index.
 */
int gc_survey(struct gc *gc, struct index_reader *reader,
	      int (*visit)(void *ctx, const struct gc_candidate *candidate), void *ctx,
	      char blocked_by[160]);

#endif
