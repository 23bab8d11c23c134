-- SPDX-License-Identifier: Apache-2.0
-- Schema 2 of index.db.  Embedded at build time without its comments.
--
-- Numbers are variable-length in SQLite, and 0 and 1 take no bytes at all: hence no padding,
-- no timestamps as text, and "1" as the first of every number.  Tables WITHOUT ROWID have
-- their rows in the tree of their primary key.  I: marks an invariant; index_prove() proves
-- every one of them.
--
-- birth: seq of the record that wrote the row.  NAME_history: rows of NAME that were replaced
-- or deleted by record `death` while a snapshot could see them; of an inode that had lost its last
-- name before: `death` is the record that took it.
-- Columns of a primary key come first: integrity_check of SQLite 3.40 takes others for NULL.
-- I: a history row is seen by a snapshot: birth <= snapshot.seq < death.
-- NAME_history_by_death: what changed between two snapshots, and what only one of them sees, is
-- found without looking at anything else.

-- One row: the point in the journal's history that all tables show, and sums over them.
-- I: no row was born after applied_seq; the highest_* are not below any number in use;
--    the sums are right.
CREATE TABLE meta (
	id INTEGER PRIMARY KEY CHECK (id = 1),
	applied_seq INTEGER NOT NULL,
	highest_ino INTEGER NOT NULL,
	highest_cookie INTEGER NOT NULL,
	highest_chunk INTEGER NOT NULL,
	highest_shard INTEGER NOT NULL,
	highest_snapshot INTEGER NOT NULL,
	highest_provider INTEGER NOT NULL,
	inodes INTEGER NOT NULL,
	directories INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	chunks INTEGER NOT NULL,
	chunk_stored_bytes INTEGER NOT NULL,
	shards INTEGER NOT NULL
) STRICT;

-- times: varints; zigzag mtime.sec, mtime.nsec, then for atime, ctime and btime the zigzag
-- differences of sec and nsec to mtime's.
-- I: inode 1 is a directory.  A directory has one name (the root: none) and its parent is
--    where that name is; nlink is 2 and one for each subdirectory.  Another inode has nlink
--    names.  An orphan has flag 128 and no name.  Everything else is reached from the root.
CREATE TABLE inode (
	ino INTEGER PRIMARY KEY,
	mode INTEGER NOT NULL,
	uid INTEGER NOT NULL,
	gid INTEGER NOT NULL,
	nlink INTEGER NOT NULL,
	rdev INTEGER NOT NULL,
	size INTEGER NOT NULL,
	times BLOB NOT NULL,
	flags INTEGER NOT NULL,
	parent INTEGER NOT NULL,
	policy_root INTEGER NOT NULL,
	birth INTEGER NOT NULL
) STRICT;
CREATE TABLE inode_history (
	ino INTEGER NOT NULL,
	birth INTEGER NOT NULL,
	mode INTEGER NOT NULL,
	uid INTEGER NOT NULL,
	gid INTEGER NOT NULL,
	nlink INTEGER NOT NULL,
	rdev INTEGER NOT NULL,
	size INTEGER NOT NULL,
	times BLOB NOT NULL,
	flags INTEGER NOT NULL,
	parent INTEGER NOT NULL,
	policy_root INTEGER NOT NULL,
	death INTEGER NOT NULL,
	PRIMARY KEY (ino, birth)
) WITHOUT ROWID, STRICT;
CREATE INDEX inode_history_by_death ON inode_history (death);

-- Names.  cookie: the place in readdir, given once and never reused.
-- I: parent is a directory that is no orphan; ino exists; type is that of its mode.
CREATE TABLE dirent (
	parent INTEGER NOT NULL,
	cookie INTEGER NOT NULL,
	name BLOB NOT NULL,
	ino INTEGER NOT NULL,
	type INTEGER NOT NULL,
	birth INTEGER NOT NULL,
	PRIMARY KEY (parent, cookie)
) WITHOUT ROWID, STRICT;
CREATE UNIQUE INDEX dirent_by_name ON dirent (parent, name);
CREATE TABLE dirent_history (
	parent INTEGER NOT NULL,
	cookie INTEGER NOT NULL,
	birth INTEGER NOT NULL,
	name BLOB NOT NULL,
	ino INTEGER NOT NULL,
	type INTEGER NOT NULL,
	death INTEGER NOT NULL,
	PRIMARY KEY (parent, cookie, birth)
) WITHOUT ROWID, STRICT;
CREATE INDEX dirent_history_by_death ON dirent_history (death);
CREATE INDEX dirent_history_by_name ON dirent_history (parent, name);

-- I: ino exists and has flag 4.
CREATE TABLE xattr (
	ino INTEGER NOT NULL,
	name BLOB NOT NULL,
	birth INTEGER NOT NULL,
	value BLOB NOT NULL,
	PRIMARY KEY (ino, name)
) WITHOUT ROWID, STRICT;
CREATE TABLE xattr_history (
	ino INTEGER NOT NULL,
	name BLOB NOT NULL,
	birth INTEGER NOT NULL,
	value BLOB NOT NULL,
	death INTEGER NOT NULL,
	PRIMARY KEY (ino, name, birth)
) WITHOUT ROWID, STRICT;
CREATE INDEX xattr_history_by_death ON xattr_history (death);

-- I: ino exists and is a symbolic link; each of those has a row.
CREATE TABLE symlink (
	ino INTEGER PRIMARY KEY,
	birth INTEGER NOT NULL,
	target BLOB NOT NULL
) STRICT;
CREATE TABLE symlink_history (
	ino INTEGER NOT NULL,
	birth INTEGER NOT NULL,
	target BLOB NOT NULL,
	death INTEGER NOT NULL,
	PRIMARY KEY (ino, birth)
) WITHOUT ROWID, STRICT;
CREATE INDEX symlink_history_by_death ON symlink_history (death);

-- Bytes [off, off+len) of a file are [chunk_off, chunk_off+len) of a chunk; chunk_no 0: zeros.
-- I: ino exists and is a regular file; extents of an inode do not overlap; the chunk exists and
--    reaches that far.
CREATE TABLE extent (
	ino INTEGER NOT NULL,
	off INTEGER NOT NULL,
	len INTEGER NOT NULL,
	chunk_off INTEGER NOT NULL,
	chunk_no INTEGER NOT NULL,
	birth INTEGER NOT NULL,
	PRIMARY KEY (ino, off)
) WITHOUT ROWID, STRICT;
-- I: the chunk exists, as for extent.
CREATE TABLE extent_history (
	ino INTEGER NOT NULL,
	off INTEGER NOT NULL,
	birth INTEGER NOT NULL,
	death INTEGER NOT NULL,
	len INTEGER NOT NULL,
	chunk_off INTEGER NOT NULL,
	chunk_no INTEGER NOT NULL,
	PRIMARY KEY (ino, off, birth, death)
) WITHOUT ROWID, STRICT;
CREATE INDEX extent_history_by_death ON extent_history (death);

-- I: the shard exists; refs is the number of rows in extent and extent_history that name it.
CREATE TABLE chunk (
	chunk_no INTEGER PRIMARY KEY,
	refs INTEGER NOT NULL,
	shard_no INTEGER NOT NULL,
	record_no INTEGER NOT NULL,
	off INTEGER NOT NULL,
	stored_len INTEGER NOT NULL,
	raw_len INTEGER NOT NULL,
	id BLOB NOT NULL
) STRICT;
CREATE INDEX chunk_by_shard ON chunk (shard_no);
-- Finds a chunk by name: prefix is the first 48 bits of its id as a signed number.  A third of
-- the size of a tree of whole names, so three times as many of them in memory; that the whole
-- name is equal is checked in chunk.
-- I: one row for each chunk, and no other.
CREATE TABLE chunk_name (
	prefix INTEGER NOT NULL,
	chunk_no INTEGER NOT NULL,
	PRIMARY KEY (prefix, chunk_no)
) WITHOUT ROWID, STRICT;

-- dead_bytes: stored bytes of its chunks with refs = 0; total_bytes: of all its chunks.
-- I: both are right; no two have one id.
CREATE TABLE shard (
	shard_no INTEGER PRIMARY KEY,
	state INTEGER NOT NULL,
	key_epoch INTEGER NOT NULL,
	writer_epoch INTEGER NOT NULL,
	policy_root INTEGER NOT NULL,
	priority INTEGER NOT NULL,
	object_len INTEGER NOT NULL,
	record_count INTEGER NOT NULL,
	dead_bytes INTEGER NOT NULL,
	total_bytes INTEGER NOT NULL,
	sealed_sec INTEGER NOT NULL,
	id BLOB NOT NULL,
	mac BLOB
) STRICT;
-- Finds a shard by the name that providers list.
CREATE INDEX shard_by_id ON shard (substr(id, 1, 3));

-- The copies of one shard, packed by index/copy_pack (local: never shipped).
-- states: bit for each state (enum copy_state) that one of them is in.
-- verified: when the one of its valid copies that was not read back for longest was (0: never);
-- NULL: none is valid.
-- I: the shard and the providers exist; states and verified are right; no provider twice.
CREATE TABLE copy (
	shard_no INTEGER PRIMARY KEY,
	states INTEGER NOT NULL,
	verified INTEGER,
	copies BLOB NOT NULL
) STRICT;
-- Those that somebody has to do something about: any state but present (3) and verified (4).
CREATE INDEX copy_unsettled ON copy (shard_no) WHERE states & ~24 <> 0;
-- Those that scrub reads back, in its order.
CREATE INDEX copy_by_verified ON copy (verified) WHERE verified IS NOT NULL;

-- I: ino exists and is an orphan; every orphan is here.
CREATE TABLE orphan (
	ino INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE provider (
	provider_no INTEGER PRIMARY KEY,
	name TEXT NOT NULL,
	type TEXT NOT NULL,
	vendor TEXT NOT NULL,
	region TEXT NOT NULL,
	role TEXT NOT NULL,
	is_forgotten INTEGER NOT NULL
) STRICT;

CREATE TABLE policy (
	root INTEGER PRIMARY KEY,
	text TEXT NOT NULL,
	version INTEGER NOT NULL
) STRICT;

CREATE TABLE setting (
	key BLOB PRIMARY KEY,
	value BLOB NOT NULL
) WITHOUT ROWID, STRICT;

-- One row makes a snapshot.  name: empty while it is being deleted: nobody reads it any more, and
-- its history goes in steps.  files, directories, bytes: dir_counter of root at that time.
-- I: what is named sees a whole tree: each name that it sees leads to an inode that it sees, of that
--    type; root is a directory; no two have one name; seq is not above applied_seq.
CREATE TABLE snapshot (
	snapshot_no INTEGER PRIMARY KEY,
	name TEXT NOT NULL,
	root INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	created_sec INTEGER NOT NULL,
	files INTEGER NOT NULL DEFAULT 0,
	directories INTEGER NOT NULL DEFAULT 0,
	bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX snapshot_by_seq ON snapshot (seq);

-- Sums over all inodes below a directory that are no orphans and are reached through no orphan;
-- each counts once, at inode.parent.  Kept by apply.  The state_* are entries by protection
-- state: reserved.
-- I: files, directories and bytes are right; ino is a directory; no row means zeros.
CREATE TABLE dir_counter (
	ino INTEGER PRIMARY KEY,
	files INTEGER NOT NULL,
	directories INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	as_of INTEGER NOT NULL,
	state_local INTEGER,
	state_replicating INTEGER,
	state_protected INTEGER,
	state_degraded INTEGER,
	state_endangered INTEGER,
	state_lost INTEGER
) STRICT;

-- The audit log (store/audit.h).  mac: of the one before and this one.
-- I: the numbers have no gap, and begin behind the number in the setting audit_cut (none: 0).
CREATE TABLE audit (
	audit_no INTEGER PRIMARY KEY,
	sec INTEGER NOT NULL,
	nsec INTEGER NOT NULL,
	mac BLOB NOT NULL,
	body BLOB NOT NULL
) STRICT;

-- Epochs of the master key: reserved for rotation.
CREATE TABLE key_epoch (
	epoch INTEGER PRIMARY KEY,
	state INTEGER NOT NULL,
	created_sec INTEGER NOT NULL
) STRICT;
