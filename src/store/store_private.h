/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_STORE_PRIVATE_H
#define SHARDFS_STORE_STORE_PRIVATE_H

/* What the files of the facade share: store.c, store_create.c, policies.c, protection.c. */

#include "codec/chunker.h"
#include "store/ack.h"
#include "store/cache.h"
#include "store/converge.h"
#include "store/gc.h"
#include "store/oplog.h"
#include "store/policies.h"
#include "store/reclaim.h"
#include "store/store.h"
#include "util/list.h"

struct store_private {
	int lock_fd;   /* of home/lock, held while the store is open */
	bool is_check; /* fsck: nothing is copied, deleted or reclaimed */
	struct journal *journal;
	struct dedup *dedup;
	struct chunk_store chunks;
	struct chunker *chunker;
	struct policies *policies;
	struct reclaim *reclaim;
	struct gc *gc; /* NULL in fsck */
	struct converge *converge; /* NULL in fsck */
	struct rewrite *rewrite;
	struct oplog *oplog;
	struct ack *ack;
	uint64_t writer_epoch;
	_Atomic uint64_t next_shard_no;

	struct lock lock;      /* LOCK_LEAF: guards all below */
	struct list releases;  /* spool files to drop once their record is applied */
	uint64_t disk_free;    /* of the spool's disk, as last seen */
	uint64_t disk_seen_ms;
	uint64_t drained_seen; /* of drained_bytes, by the last allowance */

	_Atomic uint64_t drained_bytes; /* left the spool since the mount */
	_Atomic uint64_t drained_ms;    /* when something left it last */
	_Atomic uint64_t tight_ms;      /* since when it is tight; 0: it is not */
};

/* Names of what lies under home. */
#define STORE_LOCK_NAME       "lock"
#define STORE_SUPERBLOCK_NAME "superblock"
#define STORE_OPLOG_NAME      "oplog"
/* Setting of the index: the writer epoch in force, as text; none: 1. */
#define STORE_EPOCH_SETTING "writer_epoch"

/* A directory, and those above it, mode 0700. */
int store_make_path(const char *path, struct buf *why);
/* Superblock (its best) and keys, with what the configuration names.  Errors with `why`. */
int store_unlock(const struct config *config, struct superblock *sb, struct keyring **out,
		 struct buf *why);

/* home/name in fresh memory; NULL: no memory. */
char *store_path(const struct config *config, const char *name);

#endif
