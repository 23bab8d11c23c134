/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_STORE_PRIVATE_H
#define SHARDFS_STORE_STORE_PRIVATE_H

/* What the files of the facade share: store.c, store_create.c, policies.c, protection.c. */

#include "codec/chunker.h"
#include "store/ack.h"
#include "store/cache.h"
#include "store/converge.h"
#include "store/epoch.h"
#include "store/gc.h"
#include "store/keys.h"
#include "store/oplog.h"
#include "store/policies.h"
#include "store/reclaim.h"
#include "store/scrub.h"
#include "store/store.h"
#include "util/list.h"

/* An unfinished clone: the directory that has it, and the number in its name. */
struct clone_place {
	uint64_t parent, number;
	bool is_left; /* by an earlier mount: to be swept */
};

struct store_private {
	int lock_fd;   /* of home/lock, held while the store is open */
	const struct credentials *credentials; /* while it is opened; NULL: what config names */
	bool is_check; /* fsck: nothing is copied, deleted or reclaimed */
	struct keys *keys;
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
	struct epoch *epoch;   /* NULL in fsck */
	bool takes_over;
	struct scrub *scrub; /* NULL in fsck */
	struct ack *ack;
	struct audit *audit;
	uint64_t writer_epoch;
	_Atomic uint64_t next_shard_no;

	struct lock snapshot_lock; /* LOCK_KEEPER: guards the two below */
	struct cond snapshot_turn;
	bool is_snapshot_busy; /* one is being made or deleted */
	struct lock clone_lock; /* LOCK_CTL: guards the two below */
	struct clone_place clones[16]; /* clone_sweep.c: those under way; CLONE_COUNT_MAX */
	unsigned clone_count;
	_Atomic int64_t clock_sec;   /* store_clock.c: the newest time that the journal knows */
	_Atomic bool is_clock_used; /* a lock was judged since the mount */

	struct lock lock;      /* LOCK_LEAF: guards all below */
	struct list unrecorded; /* sealed shards that the journal did not take yet */
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
#define STORE_SCRUB_NAME      "scrub"
/* Setting of the index: the writer epoch in force, as text; none: 1. */
#define STORE_EPOCH_SETTING "writer_epoch"
/* Setting of the index: the time that locks were judged by last, in seconds since 1970. */
#define STORE_CLOCK_SETTING "clock"

/* The row of a provider as the configuration has it. */
void store_describe_provider(const struct config_provider *provider, uint32_t no,
			     struct provider_row *row);
/* A directory, and those above it, mode 0700. */
int store_make_path(const char *path, struct buf *why);
/* Superblock (its best, with the slots wherever they are kept) and keys, with what the
 * configuration names, or with `credentials` unless NULL.  Errors with `why`. */
int store_unlock(const struct config *config, const struct credentials *credentials,
		 struct superblock *sb, struct keyring **out, struct buf *why);

/* Word of a failed unlock, for the audit log. */
void store_leave_failed_unlock(const struct config *config, int error);

/* home/name in fresh memory; NULL: no memory. */
char *store_path(const struct config *config, const char *name);

#define DISK_RESERVE (64 * MIB) /* of the spool's disk, for journal and index */

/* ---- callbacks of the parts; ctx is the store ---- */

/* store_shards.c: of the spool, the transfer and the sequencer */
int store_on_shard_opened(void *ctx, struct shard_row *shard);
void store_on_shard_sealed(void *ctx, const struct shard_row *shard);
void store_on_shard_durable(void *ctx, uint64_t shard_no);
void store_on_applied(void *ctx, uint64_t seq);
int store_sync_spool(void *ctx);
void store_on_noted(void *ctx, struct record *const *records, size_t count);
uint64_t store_drop_limit(void *ctx);
int store_on_chunk_moved(void *ctx, const struct chunk_row *old, const struct chunk_row *now);
void store_on_chunk_bad(void *ctx, uint64_t chunk_no);
int store_settle(void *ctx);
void store_on_shard_gone(void *ctx, const struct shard_row *shard);
/* Shards that were open when the machine stopped and hold nothing any more. */
int store_drop_empty_shards(struct store *store, struct index_reader *reader);
void store_forget_releases(struct store *store); /* at the end: the next mount finds them */

/* store_policy.c: of the writer and the chunk store; from memory */
void store_tell_policy(void *ctx, uint64_t policy_root, struct policy *out);
void store_class_of(void *ctx, const struct inode_row *row, struct shard_class *out);
uint64_t store_domain_of(void *ctx, uint64_t policy_root);

/* store_room.c: of the writer (see writer_settings) */
bool store_is_tight(void *ctx);
int store_admit(void *ctx, uint64_t bytes, bool is_reserve);
uint64_t store_allowance(void *ctx);

/* store_replay.c: applies what the journal has beyond the index; *last_seq is the newest record */
int store_replay_journal(struct store *store, const struct journal_settings *settings,
			 uint64_t *last_seq, struct buf *why);

/* store_clock.c: at the mount; into the record of a lock; at the end */
int store_clock_load(struct store *store, struct index_reader *reader);
void store_clock_put(struct store *store, struct record *record, int64_t now_sec);
void store_clock_keep(struct store *store);

/* clone_sweep.c: at the mount, before any clone begins */
int clone_list_load(struct store *store, struct index_reader *reader);

/* store_gc.c: starts reclaiming */
int store_start_gc(struct store *store);

#endif
