/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_APPLY_IMPL_H
#define SHARDFS_INDEX_APPLY_IMPL_H

/*
 * What the files apply*.c share.  apply.c has the story and the handlers of most changes;
 * apply_rows.c the rows that a batch holds in memory, apply_counters.c the sums of directories,
 * apply_data.c chunks, extents and who refers to whom, apply_snapshot.c what snapshots see.
 */

#include "index/apply.h"
#include "util/map.h"

#define APPLY_ROWS_MAX	      65536
#define APPLY_EXTENTS_UNKNOWN UINT64_MAX

struct inode_node {
	struct map_node node;
	struct inode_row row;
	bool exists, is_stored, is_dirty;
	uint64_t extents_end; /* no extent reaches beyond; APPLY_EXTENTS_UNKNOWN */
};

struct chunk_node {
	struct map_node node;
	struct chunk_row row;    /* refs count even while the chunk does not exist */
	struct chunk_row stored; /* as the engine has it */
	bool exists, is_stored, is_dirty;
};

struct shard_node {
	struct map_node node;
	struct shard_row row; /* bytes count even while the shard does not exist */
	bool exists, is_stored, is_dirty;
};

struct counter_node {
	struct map_node node;
	struct counter_node *next; /* all of them: the map grows while they are walked */
	struct engine_counter counter;
	struct engine_counter pending; /* not yet in counter nor above */
	bool is_dirty;
};

struct apply {
	struct engine_conn *conn;
	struct engine_meta meta, committed_meta;
	uint64_t newest_snapshot;	/* seq; 0: none */
	struct snapshot_list snapshots; /* all in the engine, as last learnt */
	bool must_learn;		/* what was learnt was rolled back */
	uint64_t seq; /* of the record in hand */
	uint64_t restore_seq; /* not 0: apply_restore is at work */
	uint64_t birth, death; /* restore: of the rows that come; see CHANGE_ROW_VERSION */
	struct snapshot_row made; /* by the record in hand; snapshot_no 0: none */
	struct index_highest stored_highest; /* no row beyond these is in the engine */
	struct map inodes, chunks, shards, counters;
	struct counter_node *counter_list;
};

/* Of rows that are written now. */
static inline uint64_t apply_birth_now(const struct apply *apply)
{
	return apply->birth != 0 ? apply->birth : apply->seq;
}

static inline struct engine_version apply_version_now(const struct apply *apply)
{
	return (struct engine_version){
		.seq = apply_birth_now(apply),
		.newest_snapshot = apply->newest_snapshot,
	};
}

/* Whether a snapshot sees a row that was born so and dies in that version. */
static inline bool apply_is_seen(struct engine_version version, uint64_t birth)
{
	return version.newest_snapshot > 0 && birth <= version.newest_snapshot &&
	       version.newest_snapshot < version.seq;
}


/* apply_rows.c: each is in memory from then on, until the batch ends; 0 or the engine's errors */
int apply_get_inode(struct apply *apply, uint64_t ino, struct inode_node **out);
int apply_get_chunk(struct apply *apply, uint64_t chunk_no, struct chunk_node **out);
int apply_get_shard(struct apply *apply, uint64_t shard_no, struct shard_node **out);
int apply_get_counter(struct apply *apply, uint64_t ino, struct counter_node **out);
int apply_flush_inodes(struct apply *apply);
int apply_flush_chunks(struct apply *apply);
int apply_flush_shards(struct apply *apply);
void apply_clear_chunks(struct apply *apply); /* that were flushed */
void apply_clear_rows(struct apply *apply);

/* apply_counters.c */
/* An inode changes from old to new; NULL: it does not exist. */
int apply_count_inode(struct apply *apply, const struct inode_row *old,
		      const struct inode_row *new);
int apply_settle_counters(struct apply *apply); /* what is pending goes up the tree */
int apply_flush_counters(struct apply *apply);

/* apply_data.c */
int apply_ref_chunk(struct apply *apply, uint64_t chunk_no, int delta);
/* Makes [off, end) a hole. */
int apply_drop_extents(struct apply *apply, uint64_t ino, uint64_t off, uint64_t end);
int apply_chunk_put(struct apply *apply, const struct change *change);
int apply_chunk_del(struct apply *apply, const struct change *change);
int apply_extent_put(struct apply *apply, const struct change *change);
int apply_extent_del(struct apply *apply, const struct change *change);

/* apply_snapshot.c */
/* The newest snapshot that can be read, of a record before `before`; 0: none. */
uint64_t apply_newest_before(const struct apply *apply, uint64_t before);
/* The same, and what there is, from the engine. */
int apply_learn_newest(struct apply *apply, uint64_t before);
int apply_finish_snapshot(struct apply *apply); /* that the record in hand made, if it did */
/* For what belongs to an inode and dies now. */
struct engine_version apply_version_of(const struct apply *apply, const struct inode_node *node);
int apply_snapshot_put(struct apply *apply, const struct change *change);
int apply_snapshot_del(struct apply *apply, const struct change *change);
int apply_history_drop(struct apply *apply, const struct change *change);

#endif
