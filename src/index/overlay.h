/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_OVERLAY_H
#define SHARDFS_INDEX_OVERLAY_H

/*
 * What records changed that the engine does not have yet, with tombstones, and
 * a bounded cache of directory entries that the engine does have.  In memory;
 * no call waits for anything but a short lock.  Private to the room.
 *
 * Threads: reads and overlay_learn_* from any thread; overlay_note in order of
 * seq by one at a time; overlay_drop by one at a time.
 *
 * Answers of the overlay_find_*, overlay_get_* calls: 0 (in memory), a negative
 * answer that is known (-ENOENT, -ENODATA), or -EAGAIN: only the engine knows.
 *
 * Lists are made in three steps, so that no update is lost however the applier
 * runs: overlay_look() remembers what was dropped so far; the engine is read;
 * overlay_merge_*() lays the overlay over that, or returns -ESTALE when
 * something was dropped in between, which the engine's answer may lack: begin
 * again.  From LOOKS_FREE_MAX tries on the look holds what is there until
 * overlay_look_end(), so that it always ends.
 */

#include "index/index.h"

#include <stdbool.h>

struct overlay;

int overlay_new(uint64_t cache_dirents_max, struct overlay **out); /* -ENOMEM */
void overlay_free(struct overlay *overlay);                        /* accepts NULL */

/* Bytes of what is not applied. */
uint64_t overlay_bytes(struct overlay *overlay);
/* -ENOMEM, -EBADMSG, -EPROTONOSUPPORT: nothing of the record is visible. */
int overlay_note(struct overlay *overlay, const struct record *record);
/* The engine has everything up to seq, and no number beyond `stored`. */
void overlay_drop(struct overlay *overlay, uint64_t seq, const struct index_highest *stored);

/* Moves before overlay_drop drops anything. */
uint64_t overlay_drop_rounds(struct overlay *overlay);

/* ---- names ---- */

/* *drops is set on -EAGAIN, for overlay_learn_dirent. */
int overlay_find_dirent(struct overlay *overlay, uint64_t parent, struct bytes name,
			struct dirent_row *out, uint64_t *drops);
/* What the engine answered after that find; row NULL: there is none. */
void overlay_learn_dirent(struct overlay *overlay, uint64_t parent, struct bytes name,
			  const struct dirent_row *row, uint64_t drops);
void overlay_new_directory(struct overlay *overlay, uint64_t ino);
int overlay_list_dirents(struct overlay *overlay, uint64_t parent, uint64_t after,
			 size_t count_max, struct dirent_list *out); /* complete ones only */
int overlay_check_empty(struct overlay *overlay, uint64_t parent);

/* ---- of one inode ---- */
int overlay_get_inode(struct overlay *overlay, uint64_t ino, struct inode_row *out);
int overlay_get_symlink(struct overlay *overlay, uint64_t ino, struct buf *out);
int overlay_get_xattr(struct overlay *overlay, uint64_t ino, struct bytes name, struct buf *out);

/* ---- chunks, shards, small tables ---- */
int overlay_find_chunk(struct overlay *overlay, const struct chunk_id *id, struct chunk_row *out);
int overlay_get_chunk(struct overlay *overlay, uint64_t chunk_no, struct chunk_row *out);
/* 0: the row, whose live_bytes and total_bytes are 0. */
int overlay_get_shard(struct overlay *overlay, uint64_t shard_no, struct shard_row *out);
int overlay_get_policy(struct overlay *overlay, uint64_t root, struct policy_row *out);
int overlay_get_setting(struct overlay *overlay, struct bytes key, struct buf *out);

/* ---- lists: look, read the engine, merge ---- */

#define LOOKS_FREE_MAX 4

struct overlay_look {
	struct overlay *overlay;
	struct stripe *stripe;
	uint64_t drops;
	bool is_held;
};

/* attempt counts from 0.  For tables that belong to an inode (or directory); for all others. */
struct overlay_look overlay_look_inode(struct overlay *overlay, uint64_t ino, unsigned attempt);
struct overlay_look overlay_look_objects(struct overlay *overlay, unsigned attempt);
void overlay_look_end(struct overlay_look *look);
/* 0, or -ESTALE when something was dropped since. */
int overlay_look_check(struct overlay_look *look);

/*
 * What the engine gave is complete from `after` to engine_end (its last key, or UINT64_MAX when
 * there is no more).  At most count_max are appended to out; *end: up to where it is complete.
 * overlay_merge_dirents learns what the engine gave; is_whole: it is all of the directory.
 */
int overlay_merge_dirents(struct overlay_look *look, uint64_t parent, uint64_t after,
			  size_t count_max, const struct dirent_list *engine, uint64_t engine_end,
			  bool is_whole, struct dirent_list *out, uint64_t *end);
int overlay_merge_xattrs(struct overlay_look *look, uint64_t ino, struct bytes engine,
			 struct buf *out);
/* Extents: engine rows are unclipped; complete in [off, engine_end). */
int overlay_merge_extents(struct overlay_look *look, uint64_t ino, uint64_t off, uint64_t end,
			  size_t count_max, const struct extent_list *engine, uint64_t engine_end,
			  struct extent_list *out, uint64_t *covered_end);
/* The same from memory alone: -EAGAIN when a part of the range is only in the engine. */
int overlay_find_extents(struct overlay *overlay, uint64_t ino, uint64_t off, uint64_t end,
			 size_t count_max, struct extent_list *out, uint64_t *covered_end);
int overlay_merge_chunks(struct overlay_look *look, uint64_t shard_no, uint64_t after,
			 size_t count_max, const struct chunk_list *engine, uint64_t engine_end,
			 struct chunk_list *out, uint64_t *end);
int overlay_merge_shards(struct overlay_look *look, uint64_t after, size_t count_max,
			 const struct shard_list *engine, uint64_t engine_end,
			 struct shard_list *out, uint64_t *end);
int overlay_merge_copies(struct overlay_look *look, uint64_t shard_no,
			 const struct copy_list *engine, struct copy_list *out);
/* Whole shards: may append more than count_max. */
int overlay_merge_copies_in_state(struct overlay_look *look, uint32_t state, uint64_t after,
				  size_t count_max, const struct copy_list *engine,
				  uint64_t engine_end, struct copy_list *out, uint64_t *end);
int overlay_merge_providers(struct overlay_look *look, const struct provider_list *engine,
			    struct provider_list *out);
int overlay_merge_policies(struct overlay_look *look, const struct policy_list *engine,
			   struct policy_list *out);
int overlay_merge_snapshots(struct overlay_look *look, const struct snapshot_list *engine,
			    struct snapshot_list *out);
int overlay_merge_orphans(struct overlay_look *look, uint64_t after, size_t count_max,
			  const uint64_t *engine, size_t engine_count, uint64_t engine_end,
			  uint64_t *inos, size_t *count, uint64_t *end);
/* A chunk is no longer found by name once a record deleted it. */
int overlay_merge_found_chunk(struct overlay_look *look, uint64_t chunk_no); /* 0, -ENOENT */

#endif
