/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_OPLOG_PRIVATE_H
#define SHARDFS_STORE_OPLOG_PRIVATE_H

/* What the files oplog_*.c share. */

#include "store/oplog.h"
#include "store/oplog_format.h"
#include "util/list.h"
#include "util/lock.h"

#define OPLOG_BLOCK_BYTES  (4 * MIB)  /* of records in one segment, roughly */
#define OPLOG_BLOCKS_MAX   16u	      /* that wait to be sealed; over it a snapshot replaces them */
#define OPLOG_SEGMENTS_MAX 2000u      /* behind one snapshot */
#define OPLOG_SHARDS_MAX   64u	      /* that one block introduces and that are looked after */
#define OPLOG_LANES_MAX	   CONFIG_PROVIDERS_MAX

struct oplog_file {
	struct oplog_name name;
	uint64_t len;
	int64_t made_sec; /* by the provider's clock; 0: it was not listed */
};
struct oplog_files {
	struct oplog_file *files;
	size_t count, capacity;
};
#define OPLOG_FILES_INIT {0}
void oplog_files_release(struct oplog_files *files);
int oplog_files_add(struct oplog_files *files, const struct oplog_file *file); /* -ENOMEM */
int oplog_files_copy(const struct oplog_files *src, struct oplog_files *out);
void oplog_files_sort(struct oplog_files *files); /* by printed name */
const struct oplog_file *oplog_files_find(const struct oplog_files *sorted,
					  const struct oplog_name *name);
/* Whether it was there; keeps the order.  name must not lie in it. */
bool oplog_files_remove(struct oplog_files *sorted, const struct oplog_name *name);
/* The roots, newest first by (epoch, txn), appended to out. */
int oplog_files_roots(const struct oplog_files *files, struct oplog_files *out);

/*
 * The chain is followed from a snapshot by numbers: the segment that goes on behind record `after`
 * is the one whose first is after + 1, of the highest writer epoch from epoch to epoch_max; NULL:
 * none.  That it names the hash of the one before is for who opens it.
 */
const struct oplog_file *oplog_files_next(const struct oplog_files *sorted, uint32_t epoch,
					  uint32_t epoch_max, uint64_t after);

/* Everything in dir that has one of our names. */
int oplog_dir_list(const char *dir, struct oplog_files *out);
/* Temporary name, fsync, rename; the directory is synced if asked. */
int oplog_dir_write(const char *dir, const char *name, struct bytes bytes, bool is_dir_synced);
int oplog_dir_read(const char *dir, const char *name, struct buf *out); /* -EFBIG, -ENOENT */
void oplog_dir_remove(const char *dir, const char *name);

/* Records of one segment to be. */
struct oplog_block {
	struct list link;
	struct buf records;
	uint64_t first, last; /* last: also of records with nothing in them for us */
	uint64_t record_count;
	uint64_t since_ms; /* of the first */
	uint64_t shards[OPLOG_SHARDS_MAX];
	unsigned shard_count;
	bool is_more_shards; /* than fit: only the time counts */
	int error;
};

struct oplog_lane {
	struct oplog *oplog;
	unsigned no;
	struct backend *backend;
	const char *name;
	pthread_t thread;
	bool is_running;
	struct backend_req *req; /* oplog->lock: under way, to be cancelled at the end */
	struct lock req_lock;	 /* LOCK_LEAF: guards the next two */
	struct cond req_done;
	bool is_req_done;

	/* lock */
	uint64_t shipped_generation, shipped_seq;
	bool is_fenced; /* another machine has written to it since */
	bool is_present;

	/* the lane's own */
	struct oplog_files remote; /* what it has, sorted; valid if is_listed */
	bool is_listed, is_failing;
	uint64_t pruned_generation; /* oplog->lock */
	uint64_t pruned_upto;	    /* oplog->lock: and it is done */
	bool is_judged; /* since it came */
	bool was_judged;
	uint64_t pause_ms;
};

struct oplog_waiter {
	struct list link;
	uint64_t seq;
	unsigned providers;
	struct waiter *waiter;
};

struct oplog {
	char *dir;
	struct oplog_settings set;
	uint64_t opened_upto; /* what this machine remembers */

	struct lock lock; /* LOCK_KEEPER: guards all down to the line */
	struct cond work;    /* of the maker */
	struct cond changed; /* of lanes and of stop */
	struct list blocks;  /* the last one is being filled */
	unsigned block_count;
	uint64_t noted;	     /* newest record that was noted */
	uint64_t next_first; /* of the next block */
	uint64_t upto;	     /* sealed segments in dir reach so far */
	uint64_t flush_seq;  /* somebody waits for this */
	bool needs_snapshot; /* records were lost to us, or there is none yet */
	bool is_renewal, is_renewing; /* a snapshot is asked for; it is being made */
	bool is_lost;	     /* and nothing is collected until its place is taken */
	bool is_sealing;
	_Atomic bool is_fenced; /* by oplog_fence: all lanes */
	bool is_flushing_all, is_ending, is_closed; /* is_closed: nobody may wait any more */
	struct oplog_files files; /* what every provider ought to have, in the order of sending */
	uint64_t generation;	  /* of files */
	uint64_t snapshot_bytes, segment_bytes, segment_count;
	struct list waiters;
	/* ---- */

	struct digest previous; /* maker: hash of the newest segment */
	struct aead_ctx *ctx;	/* maker */
	uint64_t covered_saved; /* applier */
	uint64_t retry_at_ms;	/* maker */
	struct transfer *transfer;
	struct oplog_lane *lanes;
	unsigned lane_count;
	struct index_reader *reader; /* maker */
	pthread_t thread;
	bool is_running;
};

static inline bool oplog_lane_is_fenced(const struct oplog_lane *lane)
{
	return lane->is_fenced || lane->oplog->is_fenced;
}

/* oplog.c */
uint64_t oplog_covered_locked(const struct oplog *oplog);
uint64_t oplog_lane_seq_locked(const struct oplog *oplog, const struct oplog_lane *lane);
void oplog_tell(struct oplog *oplog); /* waiters that are served; without locks */
void oplog_block_free(struct oplog_block *block);

/* oplog_make.c; the maker's */
int oplog_seal_block(struct oplog *oplog, struct oplog_block *block);
int oplog_make_snapshot(struct oplog *oplog);

/* oplog_ship.c */
int oplog_lanes_start(struct oplog *oplog);
void oplog_lanes_cancel(struct oplog *oplog);
void oplog_lanes_join(struct oplog *oplog);
/* One step: what `files` has and the provider has not. *sent: objects. */
int oplog_send(const char *dir, struct backend *backend, const struct oplog_files *files,
	       const struct oplog_files *remote, struct oplog_lane *lane, struct buf *why);
/* What lies under index/ at a provider, sorted. */
int oplog_list(struct backend *backend, struct oplog_lane *lane, struct oplog_files *out,
	       struct buf *why);
/* backend_run, but the end of the lane can cancel it.  lane NULL: mkfs. */
int oplog_lane_request(struct backend *backend, struct backend_req *req, struct oplog_lane *lane);

/* oplog_check.c: as oplog_list, through the transfer, for who does not run the lanes */
int oplog_list_at(struct transfer *transfer, unsigned provider, struct oplog_files *out);

/* oplog_judge.c; a lane's own thread */
/*
 * oplog_judge - of what was listed: a name that cannot be believed is left out, another's work fences
 * the lane, what is less than it was is told.  files: what it ought to have; upto: how far they
 * reach.  0; what the provider says, with why: nothing was judged, ask again.
 */
int oplog_judge(struct oplog_lane *lane, const struct oplog_files *files, uint64_t upto,
		struct buf *why);
/* How far it reached, for the next judgement, also after a mount. */
void oplog_remember(const struct oplog_lane *lane, uint64_t seq);
/*
 * oplog_is_real - *is_real: what lies under this name authenticates, or is of a key epoch or a version
 * that is not known here.  0; what the provider says, with why (may be NULL).
 */
int oplog_is_real(struct oplog_lane *lane, const struct oplog_file *file, bool *is_real,
		  struct buf *why);

#endif
