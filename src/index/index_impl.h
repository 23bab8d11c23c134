/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_INDEX_IMPL_H
#define SHARDFS_INDEX_INDEX_IMPL_H

/* What index.c, index_objects.c, index_small.c and view.c share. */

#include "index/apply.h"
#include "index/engine.h"
#include "index/overlay.h"
#include "util/lock.h"

#include <stdatomic.h>

#define PAGE_ROWS 1024

/* What a question needs to know of its snapshot. */
struct view {
	uint64_t snapshot_no, root, seq;
};

/* A snapshot that can be read, or that was one. */
struct view_entry {
	struct snapshot_row row;
	bool is_dying; /* its end is noted, and not yet applied */
};

struct index {
	struct engine *engine;
	struct engine_conn *writer;   /* applier */
	struct apply *apply;          /* applier */
	struct overlay *overlay;
	_Atomic uint64_t applied_seq, durable_seq, noted_seq;
	_Atomic uint64_t noted_count, applied_count; /* records since opening */
	_Atomic uint64_t snapshots_seq; /* newest record noted that makes or ends a snapshot */
	struct lock lock;             /* LOCK_LEAF: guards all below */
	struct index_highest highest; /* engine and overlay */
	struct engine_meta meta;      /* engine */
	struct view_entry *views;     /* ascending */
	size_t view_count;
};

struct index_reader {
	struct index *index;
	struct engine_conn *conn;
	bool is_held;
	uint64_t drop_rounds; /* as the held state is not older than */
};

/*
 * For a question that memory has just been unable to answer.  If something was dropped from memory
 * since the state was held, it may lack that: a new one is taken.
 */
struct engine_conn *index_conn_of(struct index_reader *reader);

struct extent_page {
	struct extent_list rows;
	size_t rows_max;
	uint64_t end; /* complete up to here */
};
int index_add_to_page(void *ctx, const struct extent_row *extent, uint64_t birth);

/* ---- view.c: numbers of inodes that are in a snapshot ---- */

/* What the engine has.  By the applier, or before anybody reads.  -ENOMEM, ... */
int views_load(struct index *index);
void views_note(struct index *index, uint64_t seq, const struct change *change);

int view_find_dirent(struct index *index, struct index_reader *reader, uint64_t parent,
		     struct bytes name, struct dirent_row *out);
int view_list_dirents(struct index *index, struct index_reader *reader, uint64_t parent,
		      uint64_t after, size_t count_max, struct dirent_list *out);
int view_get_inode(struct index *index, struct index_reader *reader, uint64_t ino,
		   struct inode_row *out);
int view_get_symlink(struct index *index, struct index_reader *reader, uint64_t ino,
		     struct buf *out);
int view_get_xattr(struct index *index, struct index_reader *reader, uint64_t ino,
		   struct bytes name, struct buf *out);
int view_list_xattrs(struct index *index, struct index_reader *reader, uint64_t ino,
		     struct buf *out);
int view_find_extents(struct index *index, struct index_reader *reader, uint64_t ino, uint64_t off,
		      uint64_t end, size_t count_max, struct extent_list *out,
		      uint64_t *covered_end);
int view_newest(struct index *index, struct index_reader *reader, uint64_t ino, uint64_t *seq);
int view_subtree_shards(struct index *index, struct index_reader *reader, uint64_t ino,
			uint64_t after, size_t count_max, uint64_t *shard_nos, size_t *count,
			struct subtree_totals *totals);
int view_get_dir_counter(struct index *index, struct index_reader *reader, uint64_t ino,
			 struct dir_counter *out);

#endif
