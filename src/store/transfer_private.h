/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_TRANSFER_PRIVATE_H
#define SHARDFS_STORE_TRANSFER_PRIVATE_H

/* What the files of transfer share: transfer.c, copies*.c, fetch.c, repair.c, request.c. */

#include "store/keeper.h"
#include "store/provider.h"
#include "store/transfer.h"
#include "util/list.h"
#include "util/lock.h"
#include "util/map.h"
#include "util/tree.h"

#define LANES_MAX	   PLACEMENT_PROVIDERS_MAX
#define LANE_QUEUE_MAX	   2048u /* owed copies of one provider in memory; the rest is paged in */
#define LANE_INFLIGHT_MAX  8u	 /* PUTs under way */
#define LANE_INFLIGHT_BYTES (64 * MIB)
#define SOURCED_BYTES_MAX  (64 * MIB) /* objects fetched in order to be copied */
#define COPY_PAUSE_MIN_MS  500u	      /* before a copy that failed is tried again; doubles */
#define COPY_PAUSE_MAX_MS  30000u
#define STALL_MS	   30000u /* without answer for so long: the provider counts as away */
#define CHANGES_MAX	   4096u  /* copy rows that wait to be journalled */
#define CHANGES_SPARE	   1024u  /* of these, for answers of what is under way */
#define COPY_PAGE	   512u
#define SHARD_PAGE	   256u

/* ---- to the transfer thread ---- */

enum msg_kind { MSG_ADD, MSG_DONE, MSG_WAIT, MSG_MARK, MSG_SOURCED, MSG_FORGET };

struct msg {
	struct list link;
	enum msg_kind kind;
};

struct add_msg {
	struct msg msg;
	struct shard_row shard;
};

struct wait_msg {
	struct msg msg; /* later: in shard_job->waits */
	uint64_t shard_no;
	unsigned copies;
	struct waiter *waiter;
};

struct mark_msg {
	struct msg msg;
	uint64_t shard_no;
	uint32_t provider_no, state;
};

struct forget_msg {
	struct msg msg; /* then in transfer->forgets */
	uint64_t shard_no;
	struct waiter *waiter;
};

/* A whole object is wanted, because the spool has none any more. */
struct source_task {
	struct msg msg; /* first in transfer->source_tasks, then a message */
	struct shard_row shard;
	struct buf object;
	uint32_t from_provider;
	int error;
};

/* ---- owned by the transfer thread ---- */

enum job_state { JOB_NOTED, JOB_QUEUED, JOB_SENDING, JOB_PARKED };

struct lane;

/* One owed copy. */
struct copy_job {
	struct msg msg;		/* MSG_DONE */
	struct tree_node node;	/* JOB_QUEUED: in lane->queue, by (priority, shard_no) */
	struct list link;	/* JOB_SENDING: in lane->sending */
	struct list of_shard;
	struct shard_job *shard;
	struct lane *lane;
	enum job_state state;
	unsigned attempts;
	uint64_t not_before_ms, started_ms;
	char key[SHARD_ID_HEX_SIZE];
	struct backend_req req;
};

/* A shard with something to do or to wait for. */
struct shard_job {
	struct map_node node;
	struct shard_row row;
	struct list jobs, waits;
	struct list releasable; /* in transfer->releasable */
	unsigned job_count, valid, sending;
	bool is_sourcing;
	/* its bytes while at least one copy is being sent, or was asked for */
	struct bytes object;
	void *mapping;
	struct buf fetched;
};

/* What goes to one provider. */
struct lane {
	struct provider provider;
	struct transfer *transfer;
	struct backend_req probe;
	struct tree queue;
	struct list sending; /* oldest first */
	unsigned inflight, parked;
	uint64_t inflight_bytes;
	bool is_overflown;  /* the index may have owed copies that are not in memory */
	bool is_page_again; /* and some that the page cursor has passed */
	uint64_t page_after;
	_Atomic uint64_t queued_copies, queued_bytes; /* for status; sending ones included */
	_Atomic uint64_t objects, bytes;	      /* for status: of valid copies */
	bool was_present;   /* when the last turn was looked at */
	_Atomic bool wants_superblock; /* look at it: the provider came, or ours changed */
	bool is_superblock_busy; /* transfer->lock: somebody reads or writes it */
	_Atomic uint64_t superblock_revision; /* that it has, as last seen; 0: not seen */
	_Atomic uint64_t superblock_failures;
};

struct copy_change {
	struct copy_row row;
	struct copy_job *job; /* NULL: a mark */
	int valid_delta;      /* of the shard's count of valid copies */
	uint64_t object_len;
};

struct scan {
	bool is_active, is_sealed_only;
	uint64_t root; /* 0: all */
	uint64_t after;
};

/* A bad copy that could not be repaired rests; the oldest is forgotten. */
struct repair_failure {
	uint64_t shard_no, until_ms, pause_ms;
	uint32_t provider_no;
};
#define REPAIR_FAILURES_MAX 256u

/* The sweep over bad copies; repair.c's own (it runs on one worker at a time). */
struct repair {
	struct copy_list page; /* of the level at hand */
	size_t next;
	uint64_t after;
	uint32_t state;
	unsigned level;
	uint32_t levels; /* that were seen in the first pass */
	uint64_t begun;	 /* number of this sweep */
	bool is_under_way, has_tried; /* the sweep; to repair something in it */
	bool is_wanted_again;	      /* from the front, as soon as it has */
	struct repair_failure failures[REPAIR_FAILURES_MAX];
	unsigned failure_next;
	uint64_t untold;   /* repairs that the audit log does not have yet */
	struct buf repairs; /* the first of them, members of a JSON array */
};

struct transfer {
	struct transfer_settings settings;
	uint8_t fs_id[16];
	struct lane *lanes; /* LANES_MAX; fixed from transfer_open on */
	unsigned lane_count;
	bool has_new_providers;
	unsigned queue_max; /* LANE_QUEUE_MAX; less in tests */
	struct keeper *keeper;
	int chore_repair, chore_source, chore_superblock;
	atomic_bool is_stopping; /* fetches in the background give up */
	_Atomic uint64_t sourced_bytes;

	struct lock lock; /* LOCK_TRANSFER: guards the next eight */
	struct cond changed;
	struct list inbox;
	struct list source_tasks;
	bool is_probe_asked, is_turned, is_draining, is_ending;
	struct scan wanted_scan;

	/* the transfer thread's own */
	pthread_t thread;
	bool is_running;
	struct index_reader *reader;
	struct aead_ctx *aead;
	struct map shards; /* struct shard_job, by number */
	struct list releasable;
	struct list forgets; /* those that cannot be answered yet */
	struct copy_change *changes; /* CHANGES_MAX */
	size_t change_count;
	uint64_t flush_at_ms; /* journal refused: again at this time */
	struct scan scan;
	/* valid copies are counted once in the background; up to this shard changes count too */
	_Atomic uint64_t counted_upto; /* UINT64_MAX: all */

	struct repair repair;
	_Atomic uint64_t sweeps_wanted; /* the sweep begins again when this is another than begun */
	uint64_t sweeps_done;		/* lock */
	_Atomic bool is_repair_turned;	/* what rests need not rest any more */
	_Atomic bool is_repair_urgent;	/* a shard became endangered */
};

/* transfer.c */
struct lane *transfer_lane(struct transfer *transfer, uint32_t provider_no); /* NULL */
void transfer_post(struct transfer *transfer, struct msg *msg);
void transfer_turned(struct transfer *transfer, enum provider_turn turn);
/* Asks for a copy's new state to be journalled; best effort (the next look finds it again). */
void transfer_mark(struct transfer *transfer, uint64_t shard_no, uint32_t provider_no,
		   uint32_t state);

/* copies.c: all of it on the transfer thread */
void copies_add(struct transfer *transfer, struct add_msg *msg); /* takes msg */
void copies_done(struct transfer *transfer, struct copy_job *job);
void copies_wait(struct transfer *transfer, struct wait_msg *msg); /* takes msg */
void copies_mark(struct transfer *transfer, struct mark_msg *msg); /* takes msg */
/* Answers those of transfer->forgets that can be; cancels what the others wait for. */
void copies_forget(struct transfer *transfer);
void copies_sourced(struct transfer *transfer, struct source_task *task); /* takes task */
void copies_turned(struct transfer *transfer);
void copies_scan_start(struct transfer *transfer, const struct scan *wanted);
/* One page of what is to be read from the index; true: there is more to do at once. */
bool copies_page(struct transfer *transfer);
int copies_flush(struct transfer *transfer, uint64_t now_ms);
/* Starts what may start; lowers *next_ms to when there may be more. */
void copies_pump(struct transfer *transfer, bool may_start, uint64_t now_ms, uint64_t *next_ms);
void lane_count_copies(struct lane *lane, int delta, uint64_t object_len); /* any thread */
bool copies_has_room(const struct transfer *transfer); /* for another add or page */
bool copies_is_drained(struct transfer *transfer);
void copies_cancel(struct transfer *transfer);
unsigned copies_inflight(const struct transfer *transfer);
void copies_free_all(struct transfer *transfer); /* nothing may be in flight */

/* fetch.c */
struct fetch_want {
	const struct shard_row *shard;
	uint32_t off, len;
	int (*check)(void *ctx, struct bytes bytes);
	void *ctx;
	uint32_t only_provider;	   /* 0: any */
	uint32_t without_provider; /* 0: none left out */
	bool is_background;	   /* gives up after FETCH_GIVE_UP_MS, and when transfer stops */
};
/* *from may be NULL.  Besides transfer_fetch's: -ECANCELED, -ETIMEDOUT (is_background); with
 * only_provider that one's answer. */
int fetch_run(struct transfer *transfer, struct index_reader *reader,
	      const struct fetch_want *want, struct buf *out, uint32_t *from);
/* A whole object, authenticated to the last byte. */
int fetch_whole(struct transfer *transfer, struct keeper_worker *worker,
		const struct shard_row *shard, uint32_t only_provider, uint32_t without_provider,
		struct buf *out, uint32_t *from);

/* repair.c: 0: authentic to the last byte, and the shard that it is said to be; -EBADMSG; others of
 * pack_keys_init. */
int transfer_authenticate(struct transfer *transfer, struct aead_ctx *aead,
			  const struct shard_row *shard, struct bytes object);

/* request.c: as transfer_request */
int lane_request(struct lane *lane, struct transfer_request *request);

/* repair.c, superblock_heal.c: chores of the keeper */
/* The audit log gets what it does not have; transfer_stop calls it when repair has ended. */
void repair_tell(struct transfer *transfer);
int repair_run(void *ctx, struct keeper_worker *worker);
int source_run(void *ctx, struct keeper_worker *worker);
int superblock_run(void *ctx, struct keeper_worker *worker);
int idle_seal_run(void *ctx, struct keeper_worker *worker);
#endif
