/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_STORE_H
#define SHARDFS_STORE_STORE_H

/*
 * The facade that the front doors use: opens the parts in their order,
 * recovers what a crash left, and closes them so that what was accepted is
 * durable.
 *
 * Order of opening: configuration, lock on the local state, keys, index, replay of the journal,
 * spool (recovered), sequencer, transfer, cache, reader, writer, keeper.  Closing in reverse.
 */

#include "config/config.h"
#include "crypto/keyring.h"
#include "index/index.h"
#include "store/audit.h"
#include "store/gc.h"
#include "store/inode.h"
#include "store/policy.h"
#include "store/reader.h"
#include "store/scrub.h"
#include "store/sequencer.h"
#include "store/transfer.h"
#include "store/writer.h"

/* Read-only for the front doors, except the numbers, which they draw. */
struct store {
	struct config *config;
	struct keyring *keyring;
	uint8_t fs_id[16];
	struct index *index;
	struct sequencer *sequencer;
	struct spool *spool;
	struct cache *cache;
	struct transfer *transfer;
	struct reader *reader;
	struct writer *writer;
	struct inode_table *inodes;
	_Atomic uint64_t next_ino, next_cookie;
	/* Of the front door, set before it serves; may be NULL.  What the kernel keeps of that inode is
	 * wrong now; called without locks, from a thread that is no request loop. */
	void (*invalidate)(void *ctx, uint64_t ino);
	void *invalidate_ctx;
	struct store_private *priv;
};

/*
 * store_create - what mkfs does: directories, superblock on every provider and locally, empty
 * index, providers initialised.  `why` names object, cause and what to do.  -EEXIST: there is one.
 */
struct store_create_settings {
	uint32_t root_uid, root_gid; /* who owns the root directory */
	const struct credentials *credentials;
	struct kdf_params kdf; /* KDF_PARAMS_DEFAULT */
};
int store_create(const struct config *config, const struct store_create_settings *settings,
		 struct buf *why);

/* What config_load cannot know: the settings of each provider's backend, and the root's policy. */
const struct config_checks *store_config_checks(void);
/* For a file system that exists: its policies are in the index, and a machine that has only some of
 * the providers mounts it all the same. */
const struct config_checks *store_mount_checks(void);

/*
 * store_open - takes ownership of config on success.  -EBUSY: another mount holds it;
 * -EKEYREJECTED: wrong passphrase; others as the parts say; `why` is one line for the user.
 * lock_wait_ms: how long to wait for a daemon that is ending.  takes_over: write without the majority
 * of the providers, if no other machine is seen to write.
 */
int store_open(struct config *config, uint64_t lock_wait_ms, bool takes_over, struct buf *why,
	       struct store **out);
/*
 * Whether this machine may write (store/epoch.h); until it may, and when it no longer may, changes
 * are refused with -EROFS and nothing is sent to or deleted at providers.  why: one line, may be NULL.
 */
bool store_may_write(struct store *store, char why[240]);
uint64_t store_writer_epoch(const struct store *store);
/*
 * store_open_for_check - the same for fsck: replays the journal and recovers the spool, as any mount
 * would, but starts no copies, deletions or reclaiming.
 */
int store_open_for_check(struct config *config, uint64_t lock_wait_ms, struct buf *why,
			 struct store **out);
/*
 * store_open_for_restore - the same for reading a tree out of it (store/restore.h).  credentials:
 * instead of what config names; may be NULL.
 */
int store_open_for_restore(struct config *config, const struct credentials *credentials,
			   uint64_t lock_wait_ms, struct buf *why, struct store **out);
/*
 * store_check - proves the invariants of the index, and that every live chunk can be had: its shard
 * is in the spool, or has a copy that was acknowledged and not seen bad since.  is_deep: each record
 * in the spool is authenticated too.  found(ctx, text) for each violation; *violations is their
 * number.  Changes nothing.  0, or the errors of the index.
 */
int store_check(struct store *store, bool is_deep, void (*found)(void *ctx, const char *text),
		void *ctx, uint64_t *violations);
/* Pushes, syncs, applies, closes.  Returns the first failure; the store is gone in any case. */
int store_close(struct store *store);

/* fsync: durable at the acknowledgement level of the file's policy.  worker: of writer_worker_new, if
 * this thread may wait for the disk; else NULL. */
void store_fsync(struct store *store, struct chunk_worker *worker, struct inode *inode,
		 struct waiter *waiter);
/* Everything accepted so far is durable on this machine (shardctl sync). */
void store_sync(struct store *store, struct waiter *waiter);

/*
 * store_push - has the oplog up to record seq sent at once; true when every provider that is present
 * and not full (at least one) has it, so that any of them gives back this state.  Never waits.
 */
bool store_push(struct store *store, uint64_t seq);

/*
 * store_audit - appends an entry to the audit log (audit_put); for every part that does what somebody
 * may ask about later.  Any thread, never waits.  Who must not go on without it waits until the
 * journal is synced, and does not go on when this failed.  In fsck nothing is written: 0.
 * store_audit_verify, store_audit_compare: audit_verify, audit_compare.
 */
int store_audit(struct store *store, const struct audit_event *event);
int store_audit_verify(struct store *store, struct index_reader *reader,
		       struct audit_verdict *out);
int store_audit_compare(struct store *store, struct index_reader *reader,
			void (*visit)(void *ctx, const struct audit_compared *compared), void *ctx);

/*
 * store_now_sec - the time that locks are judged by, in seconds since 1970: that of the providers'
 * clocks, which nobody on this machine can set; the local one only where no provider has a clock
 * (store/trusted_clock.h).  Never waits; inode locks may be held.
 */
int64_t store_now_sec(struct store *store);

/* The policy in force: of a policy root; from memory. */
void store_policy_of(struct store *store, uint64_t policy_root, struct policy *out);
/*
 * store_set_policy - journals a policy for the tree at `ino` (a directory); text NULL removes it.
 * -EINVAL, -EDOM (`why`).  New files use it at once; what is there converges in the background.
 */
int store_set_policy(struct store *store, struct inode *dir, const char *text, struct buf *why);

/*
 * Space that nothing needs (store/gc.h).  store_reclaim looks for it now, after the files that were
 * removed, and waits for that look; -EROFS in fsck.
 */
int store_reclaim(struct store *store, struct gc_report *out);
int store_reclaim_survey(struct store *store, struct index_reader *reader,
			 int (*visit)(void *ctx, const struct gc_candidate *candidate), void *ctx,
			 char blocked_by[160]);
void store_reclaim_status(struct store *store, struct gc_report *out);

/* See store/scrub.h; -EROFS in fsck. */
int store_scrub(struct store *store, struct index_reader *reader, const struct scrub_wish *wish,
		const struct scrub_watch *watch, struct scrub_report *report);
int store_scrub_orphans(struct store *store, struct index_reader *reader, bool deletes,
			const struct scrub_watch *watch, struct scrub_report *report);
int store_scrub_status(struct store *store, struct index_reader *reader, struct scrub_status *out);
int64_t store_scrub_listed_sec(struct store *store, unsigned provider);
/*
 * store_name_users - the files at and below inode that use any of these shards (sorted here): visit
 * gets each path, relative to inode with a slash before it ("" when inode is the file), and returns
 * 0 to go on.  Of the root also what only snapshots have, with the path in the newest of them.  As of
 * the last applied record.  Walks the parts of the trees that use one.
 */
int store_name_users(struct store *store, struct index_reader *reader, struct inode *inode,
		     uint64_t *shard_nos, size_t shard_count,
		     int (*visit)(void *ctx, const char *path), void *ctx);

/* Space for statfs: bytes that the root's policy can still take, and the size. */
struct store_space {
	uint64_t size_bytes, free_bytes, files, files_free;
};
void store_space(struct store *store, struct store_space *out);

/*
 * Protection of one file (all its shards) or, for a directory, of its subtree.  The root is what is
 * stored at all, what only snapshots still show included: a look at each shard, however many files
 * there are.  Another directory costs a look at each file below, but for STORE_ASK_STATUS no more
 * than one at each shard while everything is protected.
 */
enum store_ask {
	STORE_ASK_STATUS,  /* worst, as_of_seq */
	STORE_ASK_COPIES,  /* and all but extents, chunks and shared_bytes of the totals */
	STORE_ASK_STORAGE, /* everything, of files and directories that are there now */
};
struct store_protection {
	enum store_ask asked;
	enum protection worst;
	enum protection of_copies; /* worst, were it not for the records at the providers */
	unsigned copies_have, copies_want; /* of the worst shard */
	int64_t verified_sec;              /* oldest; 0: some copy was never verified */
	bool is_corrupt;
	uint64_t as_of_seq;
	struct subtree_totals totals;
	uint64_t shards;
};
/* Any thread that may wait; 0, or the errors of the index. */
int store_protection(struct store *store, struct index_reader *reader, struct inode *inode,
		     enum store_ask ask, struct store_protection *out);

#endif
