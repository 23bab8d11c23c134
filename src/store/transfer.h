/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_TRANSFER_H
#define SHARDFS_STORE_TRANSFER_H

/*
 * Copies: makes them, keeps account of them, reads from them.  Owns the providers (backend stacks)
 * and knows which are present.  A provider that fails, stalls or fills up slows only its own copies.
 */

#include "backends/backend.h"
#include "config/config.h"
#include "crypto/superblock.h"
#include "index/index.h"
#include "store/keeper.h"
#include "store/placement.h"
#include "store/sequencer.h"
#include "store/spool.h"
#include "store/trusted_clock.h"
#include "util/waiter.h"

struct audit_event;
struct transfer;

struct transfer_settings {
	const struct config *config;
	const uint8_t *fs_id; /* 16 bytes */
	struct keyring *keyring; /* borrowed: whole objects are authenticated before they are copied */
	struct index *index;
	struct sequencer *sequencer;
	struct spool *spool;
	/* The policy in force for a policy root; from memory.  Given by the store. */
	void (*policy_of)(void *ctx, uint64_t policy_root, struct policy *out);
	/* Enough copies are acknowledged (spool_release_copies): the store releases the spool file. */
	void (*durable)(void *ctx, uint64_t shard_no);
	/* A whole object from the cache, appended, not authenticated; -ENOENT.  May be NULL. */
	int (*cached)(void *ctx, const struct shard_row *shard, struct buf *out);
	/* The superblock in force as it goes to providers, appended (store/keys.h); and one that is
	 * newer and was checked.  NULL: that of home; newer ones are left alone. */
	int (*superblock)(void *ctx, uint64_t *revision, struct buf *out);
	int (*superblock_newer)(void *ctx, const struct superblock *theirs);
	/* What was repaired, for the audit log (store_audit); at the end of each sweep, and after each
	 * thousand of a long one.  May be NULL. */
	int (*audit)(void *ctx, const struct audit_event *event);
	void *ctx;
};

/*
 * Opens every provider without I/O on it; a provider that is away is away, not an error.  After the
 * replay of the journal: provider numbers come from the index.  Providers that the index knows and
 * the configuration does not stay known, as absent.  -ENOMEM; of backend_open, with `why`.
 */
int transfer_open(const struct transfer_settings *settings, struct buf *why, struct transfer **out);
/*
 * Begins: owed copies are paged in from the index in the background, sealed shards without copies
 * get placed, and when the providers are others than last time every shard is judged again.
 * After spool_recover.
 */
int transfer_start(struct transfer *transfer, struct index_reader *reader);
/*
 * Makes the copies that are queued to providers that are present, for at most
 * TRANSFER_DRAIN_MS; then stops starting requests, cancels those in flight and waits for them, ends
 * the threads.  What is still owed stays so in the index.  Waiters are told -ECANCELED.  Accepts NULL.
 */
#define TRANSFER_DRAIN_MS 10000u
void transfer_stop(struct transfer *transfer);
void transfer_close(struct transfer *transfer); /* accepts NULL */

/* A sealed shard needs copies: chooses places, journals pending copies, queues.  Any thread. */
void transfer_add(struct transfer *transfer, const struct shard_row *shard);

/*
 * transfer_fetch - bytes [off, off+len) of a shard's object, from the best copy; the next one is
 * asked when one fails or is late.  `check` judges the bytes (authenticates): a copy whose bytes it
 * refuses is marked corrupt and another asked (by one thread at a time).  Copies that are not known
 * to be good are asked last.  -EIO: no good copy reachable.  Waits.
 * Bad copies are rewritten from a good one in the background.
 */
int transfer_fetch(struct transfer *transfer, struct index_reader *reader,
		   const struct shard_row *shard, uint32_t off, uint32_t len,
		   int (*check)(void *ctx, struct bytes bytes), void *ctx, struct buf *out);

/*
 * transfer_verify_shard - reads back every copy of a sealed shard and authenticates all of it:
 * states become verified, corrupt or missing (and those are repaired later).  *bad: how many are not
 * good.  Copies at providers that do not answer keep their state and are not counted.
 * -ENOENT: no such shard.  Waits.
 */
int transfer_verify_shard(struct transfer *transfer, struct index_reader *reader,
			  uint64_t shard_no, unsigned *good, unsigned *bad);

/*
 * transfer_check_copy - one copy of a sealed shard: with aead all of it is read and authenticated,
 * with NULL only its size is asked.  Its row becomes verified (by reading alone), missing or
 * corrupt; of a bad one the log tells, and repair is woken.  Waits.
 */
enum copy_finding {
	FINDING_GOOD,
	FINDING_MISSING,
	FINDING_TRUNCATED,
	FINDING_CORRUPT,    /* does not authenticate, or is too long */
	FINDING_SWAPPED,    /* another shard's object lies there */
	FINDING_UNREADABLE, /* this object alone cannot be read, twice */
	FINDING_UNKNOWN,    /* the provider did not answer: nothing is said about the copy */
};
const char *copy_finding_name(enum copy_finding finding);
enum copy_finding transfer_check_copy(struct transfer *transfer, struct aead_ctx *aead,
				      const struct shard_row *shard, uint32_t provider_no);
/*
 * transfer_settle - returns when the marks of before are in the journal.  -ETIMEDOUT: not within
 * 10 s; -ECANCELED: transfer stops; -ENOMEM.
 */
int transfer_settle(struct transfer *transfer);
/*
 * transfer_sweep - has repair begin at the front, also with what could not be repaired lately.
 * transfer_sweep_wait - true when that sweep (the number that transfer_sweep gave) is over; waits
 * for at most ms.
 */
uint64_t transfer_sweep(struct transfer *transfer);
bool transfer_sweep_wait(struct transfer *transfer, uint64_t sweep, uint64_t ms);

/*
 * transfer_request - one request to provider number i (of transfer_provider_count) for somebody who
 * may wait.  0, the provider's answer, -ENODEV (not configured), -ENOMEM, or -ETIMEDOUT: no answer
 * within FETCH_GIVE_UP_MS, or transfer stops.  A PUT that failed may have landed.
 */
struct transfer_request {
	enum backend_op op;
	unsigned flags;		   /* PUT: BACKEND_CREATE_ONLY */
	const char *key;
	struct bytes body;	   /* PUT; copied */
	uint64_t offset, len;	   /* GET; BACKEND_TO_END */
	struct buf *out;	   /* GET: replaced; empty before */
	struct backend_list *list; /* LIST: goes on at its cursor, replaced by the page */
	uint64_t size;		   /* answer: of the whole object; GET, HEAD */
};
#define FETCH_GIVE_UP_MS 60000u
int transfer_request(struct transfer *transfer, unsigned i, struct transfer_request *request);
bool transfer_is_stopping(const struct transfer *transfer);
/* A chore for the keeper, before transfer_start: its number, or -ENOSPC. */
int transfer_add_chore(struct transfer *transfer, const struct keeper_chore *chore);
/*
 * transfer_check_superblock - reads the superblock of provider i; one that is missing, damaged or
 * older than ours is written again and read back.  *was_bad, whatever is returned.  0: it is good
 * now; -EPROTONOSUPPORT: a newer version's; or what the provider says.
 */
int transfer_check_superblock(struct transfer *transfer, unsigned i, bool *was_bad);
/* Ours changed: it is written to every provider in the background, to one that is away when it
 * comes. */
void transfer_superblock_changed(struct transfer *transfer);
struct transfer_superblock {
	const char *name;
	bool is_present;
	uint64_t revision; /* that it has, as last seen since the mount; 0: not seen */
	uint64_t failures; /* attempts to read or write it that failed */
};
void transfer_superblock_state(struct transfer *transfer, unsigned i,
			       struct transfer_superblock *out);

/*
 * The shard has at least `copies` acknowledged copies (0: what its policy asks): tells the waiter.
 * -ENOENT: no such shard; -ECANCELED: transfer stops; -ENOMEM.  Any thread.
 */
void transfer_when_copied(struct transfer *transfer, uint64_t shard_no, unsigned copies,
			  struct waiter *waiter);

/*
 * Before a shard goes.  Its row is in the journal as condemned; from now on nobody asks for copies.
 *
 * transfer_forget - (shard_no 0: see transfer_settle) drops what is owed of it and cancels what is on its way; tells the waiter once
 * nothing of it is in flight or waits for the journal.  The rows of its copies stay as they are.
 * Who waited for copies of it is told -ENOENT.  -ECANCELED: transfer stops; -ENOMEM.
 *
 * transfer_delete_copy - after that: deletes the object at one provider; what is not there counts
 * as deleted.  copy: its row from before it was to be deleted; the row is the caller's.  -ENODEV: not configured; -EAGAIN: away; or what the
 * provider says.  The waiter may be told before it returns; not later than transfer_close, but
 * a provider may let it wait that long.  Any thread.
 */
/*
 * transfer_ask - asks provider number i (of transfer_provider_count) whether it is there, so that
 * transfer_facts tells what is true now.  The waiter gets 0 or what went wrong, as for a deletion.
 */
void transfer_ask(struct transfer *transfer, unsigned i, struct waiter *waiter);
void transfer_forget(struct transfer *transfer, uint64_t shard_no, struct waiter *waiter);
void transfer_delete_copy(struct transfer *transfer, const struct shard_row *shard,
			  const struct copy_row *copy, struct waiter *waiter);

struct provider_status {
	uint32_t provider_no;
	char name[64], type[16], vendor[64], region[64], role[16];
	char state[16];  /* ok, slow, erroring, open, failed-over, isolated, draining, stale, absent */
	char cause[96];  /* of the last failure */
	bool is_present;
	/* queued: owed copies in memory (of many more at least so many); objects and bytes: of valid
	 * copies, counted in the background after the start */
	uint64_t queued_copies, queued_bytes, inflight, objects, bytes, p95_us;
	int64_t last_ok_sec;
	uint64_t total_bytes, free_bytes; /* of the store, as backend_space told; 0: not known */
};
unsigned transfer_provider_count(struct transfer *transfer);
void transfer_provider_status(struct transfer *transfer, unsigned i, struct provider_status *out);
/*
 * For the oplog: the backend of provider i (NULL: not in the configuration), and whether it is
 * present now.  Borrowed until transfer_close.  Any thread.
 */
struct backend *transfer_backend(struct transfer *transfer, unsigned i, bool *is_present);
/* Whether provider i is present now, and not full. */
bool transfer_takes_new(struct transfer *transfer, unsigned i);
/* Facts for placement and judging; out has room for transfer_provider_count entries. */
unsigned transfer_facts(struct transfer *transfer, struct provider_facts *out, unsigned out_max);
/*
 * What the providers' clocks showed when they last answered (store/trusted_clock.h), at most
 * sample_max into samples; returns how many providers have a clock.
 */
unsigned transfer_clocks(struct transfer *transfer, struct clock_sample *samples,
			 unsigned sample_max, unsigned *sample_count);
/* Look again at providers that are away, now. */
void transfer_probe(struct transfer *transfer);
/*
 * A policy changed: shards of this root are judged again (in the background), copies that are
 * missing are queued.  Superfluous copies are kept: nothing is deleted here.  Root 0: all shards.
 */
void transfer_policy_changed(struct transfer *transfer, uint64_t policy_root);

#endif
