/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_ENGINE_H
#define SHARDFS_INDEX_ENGINE_H

/*
 * The contract between the index and an engine: tables on disk, row by row.
 * Private to the room; SQLite is the first engine.
 *
 * An engine stores rows and finds them.  What a change means (references,
 * splitting of extents, what a snapshot still sees, counters) is index/apply,
 * the same for every engine.
 *
 * A connection (struct engine_conn) serves one thread at a time.  Any number
 * may read; one writes, made with is_writer.  A reading call sees one state:
 * that of some committed transaction at or after the call.  The writer's
 * reading calls see what it wrote.
 *
 * Errors of every call that returns int: -ENOMEM; -EIO, -ENOSPC (disk);
 * -EUCLEAN (a row or page is damaged).  They are logged where they happen.
 * "-ENOENT" below is an answer, not a failure, and is not logged.
 * List functions append; on failure what they appended is unspecified.
 */

#include "index/index.h"

#include <stdbool.h>

#define ENGINE_SCHEMA_VERSION 2

struct engine_ops;

struct engine {
	const struct engine_ops *ops;
};

struct engine_conn {
	const struct engine_ops *ops;
};

/* One row of the engine; written in the same transaction as the changes that it counts. */
struct engine_meta {
	uint64_t applied_seq;
	struct index_highest highest;
	uint64_t inodes, directories, bytes; /* bytes: sizes of regular files */
	uint64_t chunks, chunk_stored_bytes, shards;
};

/* Of a directory: all inodes below it that are no orphans, each once (at inode_row.parent). */
struct engine_counter {
	uint64_t ino;
	int64_t files, directories, bytes;
	uint64_t as_of; /* seq */
};

/*
 * What a live snapshot may still see: rows born at or before newest_snapshot (0: there is
 * no snapshot) go to the history when a record with seq `death` replaces them.
 */
struct engine_version {
	uint64_t seq; /* birth of the new row, death of the old one */
	uint64_t newest_snapshot;
};

/* 0: go on; 1: enough; negative: failure, passed up. */
typedef int (*engine_visit_extent)(void *ctx, const struct extent_row *extent, uint64_t birth);

struct engine_ops {
	const char *type;

	/* Tables with this one inode, mode 0600; -EEXIST.  Whole or not at all. */
	int (*create)(const char *path, const struct inode_row *root);
	/* As index_open; migrates.  `why` gets a sentence on -EPROTONOSUPPORT and -EUCLEAN. */
	int (*open)(const struct index_settings *settings, struct buf *why, struct engine **out);
	/* All connections are closed.  Makes everything durable. */
	void (*close)(struct engine *engine);
	int (*conn_open)(struct engine *engine, bool is_writer, struct engine_conn **out);
	void (*conn_close)(struct engine_conn *conn); /* accepts NULL */

	/* ---- reading: rows ---- */
	int (*get_meta)(struct engine_conn *conn, struct engine_meta *out);
	int (*find_dirent)(struct engine_conn *conn, uint64_t parent, struct bytes name,
			   struct dirent_row *out); /* -ENOENT */
	int (*list_dirents)(struct engine_conn *conn, uint64_t parent, uint64_t after,
			    size_t count_max, struct dirent_list *out);
	int (*get_inode)(struct engine_conn *conn, uint64_t ino, struct inode_row *out); /* -ENOENT */
	int (*get_symlink)(struct engine_conn *conn, uint64_t ino, struct buf *out); /* -ENOENT */
	int (*get_xattr)(struct engine_conn *conn, uint64_t ino, struct bytes name,
			 struct buf *out); /* -ENOENT */
	int (*list_xattrs)(struct engine_conn *conn, uint64_t ino, struct buf *out);
	/* Extents that touch [off, end), in order, unclipped, with their birth. */
	int (*visit_extents)(struct engine_conn *conn, uint64_t ino, uint64_t off, uint64_t end,
			     engine_visit_extent visit, void *ctx);
	int (*last_extent_end)(struct engine_conn *conn, uint64_t ino, uint64_t *end); /* 0: none */
	int (*find_chunk)(struct engine_conn *conn, const struct chunk_id *id,
			  struct chunk_row *out); /* -ENOENT; the highest number that has the name */
	int (*get_chunk)(struct engine_conn *conn, uint64_t chunk_no, struct chunk_row *out);
	int (*list_chunks)(struct engine_conn *conn, uint64_t shard_no, uint64_t after,
			   size_t count_max, struct chunk_list *out);
	int (*get_shard)(struct engine_conn *conn, uint64_t shard_no, struct shard_row *out);
	int (*find_shard)(struct engine_conn *conn, const struct shard_id *id,
			  struct shard_row *out); /* -ENOENT */
	int (*list_shards)(struct engine_conn *conn, uint64_t after, size_t count_max,
			   struct shard_list *out);
	int (*list_copies)(struct engine_conn *conn, uint64_t shard_no, struct copy_list *out);
	/*
	 * Copies in `state` with shard_no > after in ascending order: at least count_max if
	 * there are that many, and never a part of one shard's.
	 */
	int (*list_copies_in_state)(struct engine_conn *conn, uint32_t state, uint64_t after,
				    size_t count_max, struct copy_list *out);
	/* See index_list_verified and index_count_verified. */
	int (*list_verified)(struct engine_conn *conn, int64_t after_sec, uint64_t after_no,
			     size_t count_max, struct verified_list *out);
	int (*count_verified)(struct engine_conn *conn, int64_t since_sec,
			      struct verified_count *out);
	int (*list_providers)(struct engine_conn *conn, struct provider_list *out);
	int (*get_policy)(struct engine_conn *conn, uint64_t root, struct policy_row *out);
	int (*list_policies)(struct engine_conn *conn, struct policy_list *out);
	int (*get_setting)(struct engine_conn *conn, struct bytes key, struct buf *out);
	int (*list_orphans)(struct engine_conn *conn, uint64_t after, size_t count_max,
			    uint64_t *inos, size_t *count);
	int (*list_snapshots)(struct engine_conn *conn, struct snapshot_list *out);
	/*
	 * As of record seq, which a snapshot has: rows born at or before that were not dead then.
	 * Otherwise as the calls without view_.
	 */
	int (*view_find_dirent)(struct engine_conn *conn, uint64_t seq, uint64_t parent,
				struct bytes name, struct dirent_row *out); /* -ENOENT */
	int (*view_list_dirents)(struct engine_conn *conn, uint64_t seq, uint64_t parent,
				 uint64_t after, size_t count_max, struct dirent_list *out);
	int (*view_get_inode)(struct engine_conn *conn, uint64_t seq, uint64_t ino,
			      struct inode_row *out); /* -ENOENT */
	int (*view_get_symlink)(struct engine_conn *conn, uint64_t seq, uint64_t ino,
				struct buf *out); /* -ENOENT */
	int (*view_get_xattr)(struct engine_conn *conn, uint64_t seq, uint64_t ino,
			      struct bytes name, struct buf *out); /* -ENOENT */
	int (*view_list_xattrs)(struct engine_conn *conn, uint64_t seq, uint64_t ino,
				struct buf *out);
	int (*view_visit_extents)(struct engine_conn *conn, uint64_t seq, uint64_t ino,
				  uint64_t off, uint64_t end, engine_visit_extent visit, void *ctx);
	int (*view_subtree_shards)(struct engine_conn *conn, uint64_t seq, uint64_t ino,
				   uint64_t after, size_t count_max, uint64_t *shard_nos,
				   size_t *count, struct subtree_totals *totals);
	/*
	 * Places of the history with rows that only a snapshot of this seq sees, of all that have a
	 * name; at most count_max are appended.
	 */
	int (*list_old)(struct engine_conn *conn, uint64_t seq, size_t count_max,
			struct old_list *out);
	/* See index_list_changed. */
	int (*list_changed)(struct engine_conn *conn, uint64_t from_seq, uint64_t to_seq,
			    struct old_list *out);
	/* Rows of the history. */
	int (*count_history)(struct engine_conn *conn, uint64_t *rows);
	/* See index_list_audit and index_last_audit. */
	int (*list_audit)(struct engine_conn *conn, uint64_t after, size_t count_max,
			  int (*visit)(void *ctx, const struct audit_row *row), void *ctx);
	int (*last_audit)(struct engine_conn *conn, uint64_t *audit_no, uint8_t mac[32]);
	int (*get_counter)(struct engine_conn *conn, uint64_t ino, struct engine_counter *out);
	int (*subtree_newest)(struct engine_conn *conn, uint64_t ino, uint64_t *seq);
	int (*subtree_shards)(struct engine_conn *conn, uint64_t ino, uint64_t after,
			      size_t count_max, uint64_t *shard_nos, size_t *count,
			      struct subtree_totals *totals);
	/* Every replicated row of one state as changes; meta is that state's.  See index_dump. */
	int (*dump)(struct engine_conn *conn,
		    int (*visit)(void *ctx, const struct record *record), void *ctx,
		    struct engine_meta *meta);
	int (*prove)(struct engine_conn *conn, void (*found)(void *ctx, const char *text),
		     void *ctx, uint64_t *violations);

	/*
	 * Between hold and let_go all reading calls see one state, that of the first of them, and
	 * cost less.  Without effect on other connections, but keeps a log from starting again.
	 */
	int (*hold)(struct engine_conn *conn);
	void (*let_go)(struct engine_conn *conn);

	/* ---- writing: inside one transaction of the writer ---- */
	int (*begin)(struct engine_conn *conn);
	/* -ENOSPC, -EIO: nothing of it is stored; rollback is still called. */
	int (*commit)(struct engine_conn *conn);
	void (*rollback)(struct engine_conn *conn);
	/*
	 * Outside a transaction: moves the write-ahead log into the tables as far as readers
	 * allow, and makes every committed transaction durable.
	 */
	int (*checkpoint)(struct engine_conn *conn);

	int (*put_meta)(struct engine_conn *conn, const struct engine_meta *meta);
	int (*put_inode)(struct engine_conn *conn, const struct inode_row *inode);
	int (*put_old_inode)(struct engine_conn *conn, const struct inode_row *inode,
			     uint64_t death); /* to the history */
	/* With its symlink target, xattrs and counter.  mode: what it was. */
	int (*del_inode)(struct engine_conn *conn, uint64_t ino, uint32_t mode,
			 struct engine_version version);
	/* Replaces what has the name or the cookie. */
	int (*put_dirent)(struct engine_conn *conn, const struct change *change,
			  struct engine_version version);
	int (*del_dirent)(struct engine_conn *conn, const struct change *change,
			  struct engine_version version);
	int (*put_xattr)(struct engine_conn *conn, const struct change *change,
			 struct engine_version version);
	int (*del_xattr)(struct engine_conn *conn, const struct change *change,
			 struct engine_version version);
	int (*put_symlink)(struct engine_conn *conn, const struct change *change,
			   struct engine_version version);
	int (*put_extent)(struct engine_conn *conn, const struct extent_row *extent,
			  uint64_t birth);
	int (*put_old_extent)(struct engine_conn *conn, const struct extent_row *extent,
			      uint64_t birth, uint64_t death);
	/* Those that begin in [off, end). */
	int (*del_extents)(struct engine_conn *conn, uint64_t ino, uint64_t off, uint64_t end);
	int (*put_chunk)(struct engine_conn *conn, const struct chunk_row *chunk, bool is_new);
	int (*put_chunk_refs)(struct engine_conn *conn, uint64_t chunk_no, uint64_t refs);
	int (*del_chunk)(struct engine_conn *conn, uint64_t chunk_no);
	/*
	 * Names are put apart from their chunks: apply does it for a whole batch in the order
	 * of names, so that neighbours in the tree are written together.
	 */
	int (*put_chunk_name)(struct engine_conn *conn, const struct chunk_id *id,
			      uint64_t chunk_no);
	int (*del_chunk_name)(struct engine_conn *conn, const struct chunk_id *id,
			      uint64_t chunk_no);
	int (*put_shard)(struct engine_conn *conn, const struct shard_row *shard);
	int (*del_shard)(struct engine_conn *conn, uint64_t shard_no); /* with its copies */
	int (*put_copy)(struct engine_conn *conn, const struct copy_row *copy);
	int (*del_copy)(struct engine_conn *conn, uint64_t shard_no, uint32_t provider_no);
	int (*put_orphan)(struct engine_conn *conn, uint64_t ino);
	int (*del_orphan)(struct engine_conn *conn, uint64_t ino);
	int (*put_provider)(struct engine_conn *conn, const struct provider_row *provider);
	int (*put_policy)(struct engine_conn *conn, const struct policy_row *policy);
	int (*del_policy)(struct engine_conn *conn, uint64_t root);
	int (*put_setting)(struct engine_conn *conn, struct bytes key, struct bytes value);
	int (*put_snapshot)(struct engine_conn *conn, const struct snapshot_row *snapshot);
	int (*del_snapshot)(struct engine_conn *conn, uint64_t snapshot_no);
	int (*put_audit)(struct engine_conn *conn, const struct audit_row *audit);
	int (*cut_audit)(struct engine_conn *conn, uint64_t upto_no);
	/*
	 * Drops from the history at one place (CHANGE_HISTORY_DROP) what no snapshot with a name
	 * sees; freed(ctx, extent, birth) for each extent of it, first.
	 */
	int (*drop_history)(struct engine_conn *conn, const struct old_row *old,
			    engine_visit_extent freed, void *ctx);
	/* To the history, for index_restore. */
	int (*put_old_dirent)(struct engine_conn *conn, const struct change *change, uint64_t birth,
			      uint64_t death);
	int (*put_old_xattr)(struct engine_conn *conn, const struct change *change, uint64_t birth,
			     uint64_t death);
	int (*put_old_symlink)(struct engine_conn *conn, const struct change *change,
			       uint64_t birth, uint64_t death);
	int (*put_counter)(struct engine_conn *conn, const struct engine_counter *counter);
};

extern const struct engine_ops sqlite_engine;

#endif
