/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_OPLOG_H
#define SHARDFS_STORE_OPLOG_H

/*
 * Sends what the journal recorded to every provider: segments of records, and now and then a
 * snapshot of the index, after which older ones are not needed (store/oplog_format.h).
 *
 * A local directory holds what every provider ought to have: one snapshot and the segments behind
 * it.  Each provider is compared with it by LIST, and gets what it lacks; so one that was away, or
 * lost something, is brought up by the same step as any other.
 *
 * Threads: oplog_note by the applier alone (before oplog_start: by the thread that replays);
 * oplog_drop_limit likewise; the rest any.
 */

#include "crypto/keyring.h"
#include "index/index.h"
#include "store/transfer.h"
#include "util/waiter.h"

struct oplog;

struct oplog_settings {
	const char *dir; /* copied; made if missing, mode 0700 */
	struct keyring *keyring; /* borrowed */
	struct index *index;     /* borrowed; open */
	uint64_t writer_epoch;
	uint64_t delay_max_ms;       /* a change waits so long for the copies of its shards */
	uint64_t snapshot_bytes_min; /* of segments, before another snapshot is made */
	uint64_t hold_ms; /* what an earlier writer left is kept for so long after its last object */
};

/* What is in dir.  -ENOMEM, -EIO, -EACCES, -ENOSPC. */
int oplog_open(const struct oplog_settings *settings, struct oplog **out);
void oplog_free(struct oplog *oplog); /* stopped; accepts NULL */

/* The journal's records behind this number are wanted, also those that the index has applied. */
uint64_t oplog_replay_after(struct oplog *oplog);
/*
 * oplog_note - records that are durable in the journal and applied to the index, in their order.
 * Takes what is replicated of them; the records stay the caller's.  Those that it has are skipped.
 * Never fails: what it cannot keep is covered by a snapshot later.
 */
void oplog_note(struct oplog *oplog, struct record *const *records, size_t count);
/* After the replay: everything up to seq is applied, whether it was noted or not. */
void oplog_replayed(struct oplog *oplog, uint64_t seq);
/* Journal files may be dropped up to here as far as the oplog is concerned.  May wait for the disk. */
uint64_t oplog_drop_limit(struct oplog *oplog);

/* Begins to make segments and, unless transfer is NULL, to send them.  -ENOMEM, -EAGAIN. */
int oplog_start(struct oplog *oplog, struct transfer *transfer);
/*
 * oplog_when_shipped - tells the waiter when everything up to seq (which is applied, or about to be)
 * lies at `providers` of them (0: every one that is present and not full, but at least one), and makes
 * it happen at once.  -ECANCELED: stopped before; -ENOMEM.
 */
void oplog_when_shipped(struct oplog *oplog, uint64_t seq, unsigned providers,
			struct waiter *waiter);
/*
 * oplog_push - has everything up to seq sent as soon as it is applied, and says whether it is:
 * as for oplog_when_shipped.  Never waits.
 */
bool oplog_push(struct oplog *oplog, uint64_t seq, unsigned providers);
/*
 * oplog_reach - how far the records up to seq have come, if `providers` are to have them.  Never
 * waits, and makes nothing happen.
 */
enum oplog_reach {
	OPLOG_REACHED, /* they have */
	OPLOG_SENDING, /* they will: providers that are present lack them */
	OPLOG_OWED,    /* as many only with one that is away */
};
enum oplog_reach oplog_reach(struct oplog *oplog, uint64_t seq, unsigned providers);
/* Those who wait are told -ECANCELED, and so are all that come later.  Accepts NULL. */
void oplog_cancel_waiters(struct oplog *oplog);
/*
 * oplog_renew - has a snapshot made and sent soon, under the key epoch in use; what it replaces is
 * deleted as always: all but the newest snapshot in dir, all but the newest two at a provider.
 */
void oplog_renew(struct oplog *oplog);
/*
 * oplog_stop - makes the last segment, sends for at most wait_ms to providers that are present, ends
 * the threads.  0, or -EAGAIN when a present provider did not get all of it (it will, next time).
 */
int oplog_stop(struct oplog *oplog, uint64_t wait_ms);

/*
 * oplog_make_first - mkfs: a snapshot of the index, at every one of these backends.  Waits.  `why`.
 */
int oplog_make_first(struct oplog *oplog, struct backend *const *backends, size_t count,
		     struct buf *why);

/*
 * oplog_check - whether the objects of provider i (of transfer_provider_count) under index/ are
 * whole: by name and length, or (is_deep) all of them read and authenticated.  What is missing or
 * bad is written again from our own directory or another provider, and read back.  found() for each
 * such object.  0, also with findings; or what LIST said.  Waits; any thread with an aead of its own.
 */
struct oplog_check {
	uint64_t objects, bytes, bad, repaired, unknown; /* unknown: the provider did not say */
};
int oplog_check(struct oplog *oplog, struct transfer *transfer, unsigned provider, bool is_deep,
		struct aead_ctx *aead,
		void (*found)(void *ctx, const char *key, const char *kind, bool is_repaired),
		void *ctx, struct oplog_check *out);
/* While it is fenced nothing is sent to, or deleted at, any provider: this machine may not write. */
void oplog_fence(struct oplog *oplog, bool is_fenced);
/* Another machine writes to one of the providers: nothing that may be its is to be deleted. */
bool oplog_is_fenced(struct oplog *oplog);
/* Whether some provider has, or may have, index objects of this writer epoch.  Waits. */
bool oplog_has_epoch(struct transfer *transfer, uint64_t epoch);

/* For status, and for whoever deletes what an older state may need. */
struct oplog_status {
	uint64_t noted_seq, sealed_seq;
	uint64_t shipped_seq; /* at every provider, as last seen of those that are away */
	unsigned behind;      /* present providers that lack something */
	unsigned unsettled;   /* of those, or with objects that are not needed any more; or a new
			       * snapshot is wanted and not there yet */
};
void oplog_status(struct oplog *oplog, struct oplog_status *out);

#endif
