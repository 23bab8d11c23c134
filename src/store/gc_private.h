/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_GC_PRIVATE_H
#define SHARDFS_STORE_GC_PRIVATE_H

/*
 * Shared by gc.c (thread, looks, reports), gc_chunks.c (dead chunks), gc_repack.c (sparse shards)
 * and gc_delete.c (empty shards).  All but what a lock guards belongs to gc's thread.
 */

#include "crypto/aead.h"
#include "store/gc.h"
#include "util/list.h"
#include "util/lock.h"

#define GC_SHARD_PAGE	  256u	/* rows read at once */
#define GC_CHUNK_BATCH	  2048u /* chunks condemned at once, and deletions in one record */
#define GC_CONDEMN_BATCH  64u
#define GC_DELETE_BATCH	  32u	/* shards whose copies are deleted at the same time */
#define GC_SOURCES_MAX	  64u	/* shards being repacked */
#define GC_MOVES_MAX	  65536u /* their chunks */
#define GC_TARGETS_MAX	  16u	/* shards that the chunks of one go to */
#define GC_MERGE_MIN	  16u	/* small shards of one class */
#define GC_FAILED_MAX	  64u	/* shards that could not be read, remembered */
#define GC_FAILED_PAUSE_MS (60 * 60 * 1000u)
#define GC_ANSWER_MAX_MS  120000u /* waiting for a provider or for transfer */

/* A record that lies in a second shard already; the index still names the first. */
struct gc_move {
	uint64_t chunk_no;
	uint64_t shard_no;
	uint32_t record_no, off, stored_len;
};

/* A shard that is being repacked. */
struct gc_source {
	struct list link;
	uint64_t shard_no, started_ms;
	struct gc_move *moves;
	size_t move_count, move_capacity;
	uint64_t targets[GC_TARGETS_MAX];
	unsigned target_count;
	bool is_relocation; /* only some of its chunks, for another class */
};

struct gc_sparse { /* a candidate for repacking */
	struct shard_row row;
	uint64_t gain;
};

/* Those condemned up to until_sec need the records up to seq to be everywhere. */
struct gc_gate {
	int64_t until_sec;
	uint64_t seq;
};

struct gc {
	struct gc_settings settings;
	struct index_reader *reader;
	struct aead_ctx *aead;
	pthread_t thread;

	struct lock lock; /* LOCK_KEEPER: guards the next nine */
	struct cond wake, looked;
	bool is_stopping, is_woken, is_frozen;
	uint64_t runs_wanted, runs_done;
	struct gc_report last;
	struct gc_relocation {
		bool is_asked, is_read;
		struct shard_class class;
		uint64_t chunks[GC_RELOCATE_MAX]; /* gc's while asked and not read */
		size_t count;
	} relocation;

	struct gc_report report; /* of the look at hand */
	bool is_hurried;	 /* gc_run waits for it */
	uint64_t seen_seq;	 /* newest record when the last look began */
	uint64_t chunks[GC_CHUNK_BATCH];
	size_t chunk_count;
	struct list sources;
	unsigned source_count;
	size_t move_total;
	struct gc_sparse sparse[GC_SOURCES_MAX];
	unsigned sparse_count;
	struct shard_row small[GC_SOURCES_MAX]; /* the first that were met */
	unsigned small_count;
	struct {
		uint64_t shard_no, until_ms;
	} failed[GC_FAILED_MAX];
	unsigned failed_next;
	struct shard_row empty[GC_CONDEMN_BATCH];
	unsigned empty_count;
	struct shard_row doomed[GC_DELETE_BATCH];
	unsigned doomed_count;
	struct gc_gate gate, filling;
	int64_t open_sec;	  /* condemned at or before this: shipped */
	int64_t last_condemn_sec; /* never goes back */
	uint64_t budget_ms, budget_bytes; /* of repacking: since when, how many */
	struct buf payload;
};

bool gc_is_stopping(struct gc *gc);
bool gc_is_frozen(struct gc *gc);
bool gc_is_pressed(const struct gc *gc); /* the spool is more than half full */
/* Sleeps; ends early with false when gc stops. */
bool gc_pause(struct gc *gc, uint64_t ms);
/* Submits the record (taken); *seq may be NULL. */
int gc_submit(struct gc *gc, struct record *record, uint64_t *seq);
/* Everything submitted up to now is in the engine, hence durable. */
int gc_settle(struct gc *gc);
void gc_note_error(struct gc *gc, const char *what, int error);

/*
 * Several answers waited for together.  Its memory lives until the last one, also when nobody
 * waits any more.
 */
struct gc_answers;
struct gc_answers *gc_answers_new(unsigned count); /* NULL: no memory */
struct waiter *gc_answers_waiter(struct gc_answers *answers, unsigned i);
/* All have come, or -ETIMEDOUT (gc stops, or GC_ANSWER_MAX_MS). */
int gc_answers_wait(struct gc *gc, struct gc_answers *answers);
int gc_answers_error(struct gc_answers *answers, unsigned i); /* -EINPROGRESS: none yet */
void gc_answers_drop(struct gc_answers *answers); /* accepts NULL */

/* gc_chunks.c */
int gc_collect_shard(struct gc *gc, const struct shard_row *shard);
int gc_collect_flush(struct gc *gc);
/* An open shard without chunks. */
int gc_discard(struct gc *gc, const struct shard_row *shard);
/* Whether the index has no chunk in the shard. */
int gc_is_empty(struct gc *gc, uint64_t shard_no, bool *is_empty);

/* gc_repack.c */
/* What one copy would give back, if it is worth it; else 0. */
uint64_t gc_sparse_gain(const struct gc *gc, const struct shard_row *shard);
void gc_sparse_offer(struct gc *gc, const struct shard_row *shard);
/* One whose records are to be sealed under the key epoch in use; false: it is of that one. */
bool gc_old_offer(struct gc *gc, const struct shard_row *shard);
void gc_small_offer(struct gc *gc, const struct shard_row *shard);
int gc_repack(struct gc *gc);	     /* reads what was offered */
int gc_repack_commit(struct gc *gc); /* moves the chunks whose new place is safe */
bool gc_is_moving(const struct gc *gc, uint64_t shard_no); /* as source or target */
void gc_repack_release(struct gc *gc);
int gc_relocate_read(struct gc *gc);	    /* what gc->relocation names */
bool gc_is_relocating(const struct gc *gc); /* some of it waits for its copies */

/* gc_delete.c */
int gc_condemn_offer(struct gc *gc, const struct shard_row *shard);
int gc_condemn_flush(struct gc *gc);
int gc_delete_offer(struct gc *gc, const struct shard_row *shard);
int gc_delete_flush(struct gc *gc);
void gc_gate_look(struct gc *gc);
/* Asks every provider whether it is there; the first failure.  Their facts are right afterwards. */
int gc_ask_all(struct gc *gc);
/* "" when nothing does. */
void gc_blocked_by(struct gc *gc, char out[160]);

#endif
