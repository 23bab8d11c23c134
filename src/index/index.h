/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_INDEX_H
#define SHARDFS_INDEX_INDEX_H

/*
 * THE CONTRACT of the index: names, inodes, extents, chunks, shards, copies.
 * A materialised view of the journal.
 *
 *   engine   tables on disk (SQLite by default; index/engine.h), which holds
 *            the history up to record index_applied_seq();
 *   overlay  in memory, what records after that changed, with tombstones, and
 *            a bounded cache of directory entries that are the same on disk.
 *
 * Every find and get answers from the overlay first.  What memory cannot
 * answer needs the engine: with a reader (one connection, one thread) the call
 * asks it and may wait for the disk; with reader NULL it returns -EAGAIN and
 * has no effect.  Request loops pass NULL; on -EAGAIN they hand the request to
 * a reader thread, which calls index_load_* or repeats the call with its reader.
 *
 * Consistency: an answer reflects every record noted before the call.  Two
 * calls may see different states; callers that need more hold the inode's lock
 * and use only memory.
 *
 * Snapshots.  A snapshot is one row; rows that it sees and that are replaced are kept in a history.
 * Where a call reads, the number of an inode may be one in a snapshot (ino_in_snapshot): then the
 * answer is that of the record that made it, numbers in it are in that snapshot too (except
 * policy_root), and it comes from the engine alone.  A snapshot can be read when its record is
 * applied: so every record behind it is applied behind it, and what such a record replaces is kept.
 * -ESTALE: it cannot be read yet, or its end is noted, perhaps meanwhile: then nothing was answered.
 * Its root's parent is ino_in_snapshot(SNAPSHOT_NO_NONE, INO_SNAPSHOTS), which no table knows.
 * A snapshot that is in the way of being deleted has no name; what only it sees goes in steps:
 * records with CHANGE_HISTORY_DROP of what index_list_old gives, until it gives nothing, and then
 * CHANGE_SNAPSHOT_DEL.
 *
 * Threads: all functions from any thread, except where a reader is used: one
 * thread at a time for each reader.  index_note: in order of seq, by the
 * sequencer under its lock.  index_apply: by the applier alone.
 *
 * Errors common to all: -ENOMEM; -EIO (the engine failed; logged); -EUCLEAN
 * (a row is damaged; logged with its key).
 */

#include "index/record.h"
#include "index/rows.h"

struct index;
struct index_reader;

struct index_settings {
	const char *path;           /* of index.db */
	uint64_t cache_dirents_max; /* clean directory entries kept in memory */
	uint64_t page_cache_bytes;  /* of the engine, for each connection */
};

/* Highest numbers given so far: next ones are one more. */
struct index_highest {
	uint64_t ino, cookie, chunk_no, shard_no, snapshot_no;
	uint32_t provider_no;
};

/*
 * index_create - an empty index with the newest schema and the root directory row
 * (mode 0755, given owner).  -EEXIST when the file is there.
 */
int index_create(const char *path, const struct inode_row *root);

/*
 * index_open - -ENOENT; -EPROTONOSUPPORT: made by a newer version (the
 * message in `why` says which); -EUCLEAN: not an index, or damaged.
 * Older schemas are migrated in a transaction first.
 */
int index_open(const struct index_settings *settings, struct buf *why, struct index **out);
void index_close(struct index *index); /* readers must be closed before; checkpoints */

int index_reader_open(struct index *index, struct index_reader **out);
void index_reader_close(struct index_reader *reader);

/*
 * Makes a handful of questions cheaper (one transaction of the engine instead of one each); the
 * answers are as fresh as without.  Keep it short: it delays checkpoints.  Not nested.
 */
void index_reader_hold(struct index_reader *reader);
void index_reader_let_go(struct index_reader *reader);

uint64_t index_applied_seq(struct index *index);
/*
 * index_durable_seq - the seq up to which the engine would survive a power loss.  It moves in
 * index_checkpoint and index_close only, and is at most index_applied_seq.  Journal files may
 * be dropped up to here: what is applied but not durable must be replayable.
 */
uint64_t index_durable_seq(struct index *index);
void index_highest(struct index *index, struct index_highest *out); /* engine and overlay */

/* ---- reading ---- */

/* 0; -ENOENT: no such name; -EAGAIN: reader NULL and not known in memory. */
int index_find_dirent(struct index *index, struct index_reader *reader, uint64_t parent,
		      struct bytes name, struct dirent_row *out);
/*
 * index_list_dirents - up to count_max entries of `parent` with cookie > after,
 * in the order of cookies, appended to out; fewer than count_max only at the end.
 */
int index_list_dirents(struct index *index, struct index_reader *reader, uint64_t parent,
		       uint64_t after, size_t count_max, struct dirent_list *out);
/* Whether a directory has no entries: 0 empty, -ENOTEMPTY, -EAGAIN. */
int index_check_empty(struct index *index, struct index_reader *reader, uint64_t parent);
/*
 * index_note_new_directory - the caller has just created directory `ino` (its record is
 * noted): from now on memory knows all its entries until the bound evicts them, so that
 * look-ups of names that are not there answer -ENOENT without a reader.
 */
void index_note_new_directory(struct index *index, uint64_t ino);

int index_get_inode(struct index *index, struct index_reader *reader, uint64_t ino,
		    struct inode_row *out); /* -ENOENT */
int index_get_symlink(struct index *index, struct index_reader *reader, uint64_t ino,
		      struct buf *out); /* -ENOENT; target appended */
int index_get_xattr(struct index *index, struct index_reader *reader, uint64_t ino,
		    struct bytes name, struct buf *out); /* -ENODATA; value appended */
/* Names, each with its NUL, appended. */
int index_list_xattrs(struct index *index, struct index_reader *reader, uint64_t ino,
		      struct buf *out);

/*
 * index_find_extents - those that touch [off, off+len), ordered, clipped to the
 * range, without overlaps; a hole is where there is none.  At most count_max are
 * appended; *covered_end says up to where the answer is complete (off+len unless
 * the maximum was reached).
 */
int index_find_extents(struct index *index, struct index_reader *reader, uint64_t ino, uint64_t off,
		       uint64_t len, size_t count_max, struct extent_list *out,
		       uint64_t *covered_end);
/* Bytes covered by extents of the inode. */
int index_count_extent_bytes(struct index *index, struct index_reader *reader, uint64_t ino,
			     uint64_t *bytes);

/*
 * chunk_row.refs and a shard's live_bytes and total_bytes count applied records only, and are 0
 * where memory alone answers (a chunk not yet applied; a changed shard without a reader).  A
 * chunk is no longer found by its name once a CHUNK_DEL is noted; by its number it is there
 * until that is applied, and for good when it still has references.
 */
int index_find_chunk(struct index *index, struct index_reader *reader, const struct chunk_id *id,
		     struct chunk_row *out); /* -ENOENT */
int index_get_chunk(struct index *index, struct index_reader *reader, uint64_t chunk_no,
		    struct chunk_row *out); /* -ENOENT */
/* Chunks of a shard with chunk_no > after, at most count_max, appended in that order. */
int index_list_chunks(struct index *index, struct index_reader *reader, uint64_t shard_no,
		      uint64_t after, size_t count_max, struct chunk_list *out);

int index_get_shard(struct index *index, struct index_reader *reader, uint64_t shard_no,
		    struct shard_row *out); /* -ENOENT */
/* By the name that providers list.  -ENOENT. */
int index_find_shard(struct index *index, struct index_reader *reader, const struct shard_id *id,
		     struct shard_row *out);
/* Shards with shard_no > after, at most count_max, appended. */
int index_list_shards(struct index *index, struct index_reader *reader, uint64_t after,
		      size_t count_max, struct shard_list *out);
/* Shards that are DURABLE or SEALED and have less than live_permille of their bytes alive. */
int index_list_sparse_shards(struct index *index, struct index_reader *reader,
			     unsigned live_permille, size_t count_max, struct shard_list *out);
int index_list_copies(struct index *index, struct index_reader *reader, uint64_t shard_no,
		      struct copy_list *out);
/*
 * Copies in `state` (enum copy_state) with shard_no > after, in ascending order, at least
 * count_max if there are that many: those of the last shard are not torn apart, so it may be a
 * few more.  Go on after the last one's shard_no.
 */
int index_list_copies_in_state(struct index *index, struct index_reader *reader, uint32_t state,
			       uint64_t after, size_t count_max, struct copy_list *out);
/*
 * index_list_verified - shards that have valid copies, least recently verified first: those behind
 * (after_sec, after_no), at most count_max, appended.  Begin with (INT64_MIN, 0).  As of
 * index_applied_seq(): the caller looks at the copies again.
 */
int index_list_verified(struct index *index, struct index_reader *reader, int64_t after_sec,
			uint64_t after_no, size_t count_max, struct verified_list *out);
/* How many of them there are.  Reads an entry of each, some 0.1 s for a million. */
int index_count_verified(struct index *index, struct index_reader *reader, int64_t since_sec,
			 struct verified_count *out);
int index_list_providers(struct index *index, struct index_reader *reader,
			 struct provider_list *out);
int index_get_policy(struct index *index, struct index_reader *reader, uint64_t root,
		     struct policy_row *out); /* -ENOENT */
int index_list_policies(struct index *index, struct index_reader *reader, struct policy_list *out);
int index_get_setting(struct index *index, struct index_reader *reader, const char *key,
		      struct buf *out); /* -ENOENT */
/*
 * The audit log, as of index_applied_seq().  Entries with audit_no > after, at most count_max, in
 * order; what visit returns, unless 0, ends the walk (negative: passed up).
 */
int index_list_audit(struct index *index, struct index_reader *reader, uint64_t after,
		     size_t count_max, int (*visit)(void *ctx, const struct audit_row *row),
		     void *ctx);
/* Number and MAC of the newest.  -ENOENT: there is none. */
int index_last_audit(struct index *index, struct index_reader *reader, uint64_t *audit_no,
		     uint8_t mac[32]);
/* Orphaned inodes with number > after, at most count_max, into inos; *count set. */
int index_list_orphans(struct index *index, struct index_reader *reader, uint64_t after,
		       size_t count_max, uint64_t *inos, size_t *count);
/* Those that can be read; from memory, never -EAGAIN.  By name: -ENOENT. */
int index_find_snapshot(struct index *index, struct bytes name, struct snapshot_row *out);
/* The number of an inode in a snapshot: 0, or -ESTALE as above. */
int index_check_snapshot(struct index *index, uint64_t ino);
/* With snapshot_no > after, at most count_max, appended. */
int index_list_readable(struct index *index, uint64_t after, size_t count_max,
			struct snapshot_list *out);
/* All, also those that are not applied yet or are being deleted (no name).  files, directories and
 * bytes are 0 until its record is applied. */
int index_list_snapshots(struct index *index, struct index_reader *reader,
			 struct snapshot_list *out);
/*
 * What of the history no snapshot with a name sees any more and the one of snapshot_seq did, as of
 * index_applied_seq(): at most count_max places, appended; one may come twice.  A look at what
 * changed around it, not at the rest.
 */
int index_list_old(struct index *index, struct index_reader *reader, uint64_t snapshot_seq,
		   size_t count_max, struct old_list *out);
/*
 * index_list_changed - what the snapshot of from_seq shows and records behind it, up to to_seq
 * (INT64_MAX: all that are applied), replaced or took away: inodes (at 0: also when only a name in
 * a directory came or went), and directories that lost a name (at 1).  A look at those alone.
 * -E2BIG: more than CHANGED_MAX.
 */
#define CHANGED_MAX (4u << 20)
int index_list_changed(struct index *index, struct index_reader *reader, uint64_t from_seq,
		       uint64_t to_seq, struct old_list *out);
/* Rows of the history; reads them all. */
int index_count_history(struct index *index, struct index_reader *reader, uint64_t *rows);

/*
 * index_subtree_newest - number of the newest record that wrote an inode at or below `ino`, which
 * each change of it and of what is in it does; of those that are applied.  Looks at each inode
 * there.  0: there is none.
 */
int index_subtree_newest(struct index *index, struct index_reader *reader, uint64_t ino,
			 uint64_t *seq);
/*
 * index_subtree_shards - the distinct shards that the files at and below `ino` use, in pages, for
 * answers about protection: shard numbers > after in ascending order, at most count_max into
 * shard_nos.  Also counts, when totals is not NULL (computed with the first page only, after 0;
 * the starting inode counts; shared_bytes: stored bytes of chunks that others use as well).
 *
 * As of index_applied_seq(): only the engine is asked.  A caller that needs every record noted
 * so far has the applier catch up first.  Each page walks the subtree: make pages large.
 */
struct subtree_totals {
	uint64_t files, directories, bytes, extents, chunks, stored_bytes, shared_bytes;
};
int index_subtree_shards(struct index *index, struct index_reader *reader, uint64_t ino,
			 uint64_t after, size_t count_max, uint64_t *shard_nos, size_t *count,
			 struct subtree_totals *totals);

/*
 * Sums over everything below a directory (itself not counted, each inode once), kept by apply:
 * O(1), as of as_of_seq; zeros for what is no directory.
 */
struct dir_counter {
	uint64_t files, directories, bytes, as_of_seq;
};
int index_get_dir_counter(struct index *index, struct index_reader *reader, uint64_t ino,
			  struct dir_counter *out);

/* Totals for statfs and status; from memory.  Counts are as of the last applied record. */
struct index_totals {
	uint64_t inodes, directories, bytes, chunks, chunk_stored_bytes, shards, overlay_bytes,
		overlay_records;
};
void index_totals(struct index *index, struct index_totals *out);

/* ---- changing ---- */

/*
 * index_note - makes a sequenced record visible (overlay).  -ENOMEM: nothing of it is
 * visible; the sequencer then drops the record.
 */
int index_note(struct index *index, const struct record *record);

/*
 * index_apply - applies records to the engine in one transaction, together with the last
 * one's seq; afterwards their overlay entries become clean cache or go away.  Records at or
 * below index_applied_seq are skipped, so replay may repeat.
 * -EIO, -ENOSPC: nothing applied; try again later.  -EBADMSG: a record is damaged.
 */
int index_apply(struct index *index, struct record *const *records, size_t count);

/*
 * index_checkpoint - moves the write-ahead log into the tables as far as readers allow, and
 * makes what is applied durable (index_durable_seq).  Applier only; waits for the disk.
 */
int index_checkpoint(struct index *index);

/*
 * Kinds of damage that index_prove tells apart, i = 0 .. ; NULL behind the last.
 * follows: it follows from other rows, so index_repair makes it right.
 */
struct index_kind {
	const char *name, *means;
	bool follows;
};
const struct index_kind *index_kind(size_t i);
/*
 * index_repair - recomputes everything in the index file at path that follows from other rows, in
 * one transaction; done(ctx, kind, rows) for each kind of which there was some.  Right only when
 * index_prove finds nothing of other kinds.  Nobody has the index open.  -EIO, -ENOSPC, -EUCLEAN,
 * ...: nothing has changed.  May be killed, and repeated, at any time.
 */
int index_repair(const char *path, void (*done)(void *ctx, const char *kind, uint64_t rows),
		 void *ctx);
/*
 * Offline proof for fsck of what schema.sql calls invariants: calls found(ctx, text) for each
 * violation, as "kind: sentence" (at most 100 of a kind); *violations counts all.  As of the last applied record.
 */
int index_prove(struct index *index, struct index_reader *reader,
		void (*found)(void *ctx, const char *text), void *ctx, uint64_t *violations);

/*
 * index_dump - every replicated row as of record *seq, as changes in records of some ten KiB
 * (borrowed by visit until it returns; their seq is that of the state): what index_restore takes.
 * Snapshots and the history that they see are in it, copies are not.  The reader is busy all that
 * time, and the engine's log grows by what is applied meanwhile.  Stops with the first failure of
 * visit.
 */
int index_dump(struct index *index, struct index_reader *reader,
	       int (*visit)(void *ctx, const struct record *record), void *ctx, uint64_t *seq,
	       struct index_highest *highest);

/*
 * index_restore - applies what index_dump gave, to an index that was just created; all of it as of
 * record seq.  Then index_restore_end raises the highest numbers.  Only after that the index may be
 * used otherwise; an index whose restoring was interrupted is to be deleted.
 */
int index_restore(struct index *index, uint64_t seq, struct record *const *records, size_t count);
int index_restore_end(struct index *index, const struct index_highest *highest);

#endif
