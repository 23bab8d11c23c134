/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_RECORD_H
#define SHARDFS_INDEX_RECORD_H

/*
 * A record is one atomic step of the file system's history: a list of row
 * changes that hold together or not at all.  The same bytes lie in the
 * journal, feed the overlay, and are applied to the engine; later they travel
 * in the oplog.  Types are numbers that never change meaning; a reader skips
 * nothing: an unknown type is an error (-EPROTONOSUPPORT), so that a newer
 * record is never half applied.
 *
 * Encoded: each change is u8 type, u8 version, varint length, payload.
 *
 * All values are the state afterwards, not differences, so that applying a
 * record twice gives the same index.  refs, live_bytes, total_bytes and birth
 * are kept by apply and are not part of a change.
 */

#include "index/rows.h"

enum change_type {
	CHANGE_INODE_PUT = 1,
	CHANGE_INODE_DEL = 2, /* with its xattrs, symlink target, extents that are left */
	CHANGE_DIRENT_PUT = 3, /* replaces what has the name, or the cookie, in that directory */
	CHANGE_DIRENT_DEL = 4, /* cookie and name must both be the entry's */
	CHANGE_XATTR_PUT = 5,
	CHANGE_XATTR_DEL = 6,
	CHANGE_SYMLINK_PUT = 7,
	CHANGE_EXTENT_PUT = 8, /* replaces what lies in [off, off+len): older ones are cut or dropped */
	CHANGE_EXTENT_DEL = 9, /* makes [off, off+len) a hole; len UINT64_MAX - off: to the end */
	CHANGE_CHUNK_PUT = 10, /* new, or moved to another shard (same chunk_no) */
	CHANGE_CHUNK_DEL = 11, /* only when refs are 0; otherwise it has no effect */
	CHANGE_SHARD_PUT = 12,
	CHANGE_SHARD_DEL = 13, /* with its copies */
	CHANGE_COPY_PUT = 14,  /* local table */
	CHANGE_COPY_DEL = 15,
	CHANGE_ORPHAN_PUT = 16,
	CHANGE_ORPHAN_DEL = 17,
	CHANGE_PROVIDER_PUT = 18,
	CHANGE_POLICY_PUT = 19,
	CHANGE_POLICY_DEL = 20,
	CHANGE_SETTING_PUT = 21, /* key, value text */
	CHANGE_SNAPSHOT_PUT = 22, /* seq 0: that of the record itself; name "": being deleted */
	CHANGE_SNAPSHOT_DEL = 23, /* with the history that no other one sees: drop most of it before */
	/* 24 to 26 are reserved: unknown to this version */
	CHANGE_AUDIT_PUT = 27,
	/*
	 * Of the history of an inode, what no snapshot that has a name sees: extents that begin at
	 * `at`, names with cookie `at`, and with `at` 0 old rows of the inode itself, its xattrs and
	 * its target.
	 */
	CHANGE_HISTORY_DROP = 28,
	/*
	 * Only in what index_dump gives: the changes behind it in this record are of rows that were
	 * born at `birth` (0: of the state itself), and went to the history at `death` (0: did not).
	 */
	CHANGE_ROW_VERSION = 29,
	CHANGE_AUDIT_CUT = 30, /* entries of the audit log up to this number */
	CHANGE_TYPE_COUNT
};

/* One decoded change; names, values and targets are borrowed from the record. */
struct change {
	enum change_type type;
	union {
		struct inode_row inode;
		uint64_t ino; /* INODE_DEL, ORPHAN_* */
		struct {
			uint64_t parent, cookie, ino;
			uint32_t type;
			struct bytes name;
		} dirent; /* DEL uses parent, cookie and name */
		struct {
			uint64_t ino;
			struct bytes name, value;
		} xattr;
		struct {
			uint64_t ino;
			struct bytes target;
		} symlink;
		struct extent_row extent; /* DEL: uses range */
		struct {
			uint64_t ino, off, len;
		} range;
		struct chunk_row chunk; /* DEL uses chunk_no */
		struct shard_row shard; /* DEL uses shard_no */
		struct copy_row copy;
		struct provider_row provider;
		struct policy_row policy;
		struct {
			struct bytes key, value;
		} setting;
		struct snapshot_row snapshot;
		struct audit_row audit; /* CUT: audit_no alone */
		struct old_row old;
		struct {
			uint64_t birth, death;
		} version;
	} u;
};

struct record {
	uint64_t seq;      /* 0 until the sequencer has placed it */
	struct buf changes; /* encoded */
	uint32_t change_count;
	int error; /* first failed record_put (-ENOMEM); checked by the sequencer */
};

#define RECORD_INIT {0}

struct record *record_new(void); /* NULL: no memory */
void record_free(struct record *record);
DEFINE_FREEP(record)
void record_release(struct record *record);

/*
 * Append a change.  Failures stick in record->error, so that a caller may put
 * many and check once.  What is in a snapshot never changes: -EROFS.
 */
void record_put_inode(struct record *record, const struct inode_row *inode);
void record_del_inode(struct record *record, uint64_t ino);
void record_put_dirent(struct record *record, uint64_t parent, uint64_t cookie, struct bytes name,
		       uint64_t ino, uint32_t type);
void record_del_dirent(struct record *record, uint64_t parent, uint64_t cookie, struct bytes name);
void record_put_xattr(struct record *record, uint64_t ino, struct bytes name, struct bytes value);
void record_del_xattr(struct record *record, uint64_t ino, struct bytes name);
void record_put_symlink(struct record *record, uint64_t ino, struct bytes target);
void record_put_extent(struct record *record, const struct extent_row *extent);
void record_del_extents(struct record *record, uint64_t ino, uint64_t off, uint64_t len);
void record_put_chunk(struct record *record, const struct chunk_row *chunk);
void record_del_chunk(struct record *record, uint64_t chunk_no);
void record_put_shard(struct record *record, const struct shard_row *shard);
void record_del_shard(struct record *record, uint64_t shard_no);
void record_put_copy(struct record *record, const struct copy_row *copy);
void record_del_copy(struct record *record, uint64_t shard_no, uint32_t provider_no);
void record_put_orphan(struct record *record, uint64_t ino);
void record_del_orphan(struct record *record, uint64_t ino);
void record_put_provider(struct record *record, const struct provider_row *provider);
void record_put_policy(struct record *record, const struct policy_row *policy);
void record_del_policy(struct record *record, uint64_t root);
void record_put_setting(struct record *record, struct bytes key, struct bytes value);
void record_put_snapshot(struct record *record, const struct snapshot_row *snapshot);
void record_del_snapshot(struct record *record, uint64_t snapshot_no);
void record_put_audit(struct record *record, const struct audit_row *audit);
void record_cut_audit(struct record *record, uint64_t upto_no);
void record_drop_history(struct record *record, uint64_t ino, uint64_t at);
void record_put_version(struct record *record, uint64_t birth, uint64_t death);

/*
 * Walk the changes of encoded bytes (foreign: every size and range is checked).
 *	struct record_walk walk = record_walk_of(bytes);
 *	while ((r = record_walk_next(&walk, &change)) > 0) ...
 * Returns 1 with a change, 0 at the end, -EBADMSG, -EPROTONOSUPPORT.
 */
struct record_walk {
	struct bytes left;
};
struct record_walk record_walk_of(struct bytes changes);
int record_walk_next(struct record_walk *walk, struct change *change);

#endif
