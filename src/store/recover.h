/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_RECOVER_H
#define SHARDFS_STORE_RECOVER_H

/*
 * From providers and a passphrase to a home that can be mounted, on a machine that has nothing else.
 * For shardfs-recover: one thread, waits for everything.
 */

#include "config/config.h"
#include "crypto/crypto.h"
#include "index/index.h"

struct recovery;

/*
 * A state that is still held: a snapshot of the index, or the end of a segment of the oplog behind
 * one.  Ordered by (epoch, generation).
 */
struct recovery_state {
	uint64_t generation; /* number of its last record */
	uint32_t epoch;      /* of the writer */
	int64_t made_sec;    /* it has nothing from after that, by the clock of the writer */
	bool is_snapshot;
};

struct recovery_settings {
	/* `done` of `total` steps of what is going on; total 0: not known.  May be NULL. */
	void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
	/* Something that was found and should be known; one line.  May be NULL. */
	void (*note)(void *ctx, const char *text);
	void *ctx;
	const struct credentials *credentials; /* NULL: what config names */
};

/* What one provider shows. */
struct recovery_provider {
	const char *name;
	bool is_reached;
	char cause[160];     /* why not */
	uint32_t epoch;      /* of the newest object */
	uint64_t newest;     /* generation of the newest object */
	uint64_t complete;   /* up to here this provider alone is complete; 0: not at all */
	size_t objects;
	size_t snapshots, segments; /* of these objects */
	size_t lacking;      /* objects of the newest state that others have and it has not */
};

/*
 * recovery_open - keys from the first good superblock, and what every provider lists.  config is
 * borrowed.  Changes nothing anywhere.  -ENOENT: no superblock anywhere; -EKEYREJECTED, -ENOKEY;
 * those of credentials_load; `why` is one line.
 */
int recovery_open(const struct config *config, const struct recovery_settings *settings,
		  struct buf *why, struct recovery **out);
void recovery_close(struct recovery *recovery); /* accepts NULL */

unsigned recovery_provider_count(const struct recovery *recovery);
void recovery_provider_get(const struct recovery *recovery, unsigned i,
			   struct recovery_provider *out);
/* The newest state that those that are reached give together; 0: none. */
uint64_t recovery_newest(const struct recovery *recovery, uint32_t *epoch);

/*
 * recovery_list_states - every state that can be had, newest first.  Reads each segment, and keeps
 * nothing of it.  visit returns 0 to go on; bit i of providers: provider i has the object that ends
 * this state.  0, what visit returned, -ENOMEM.
 */
int recovery_list_states(struct recovery *recovery,
			 int (*visit)(void *ctx, const struct recovery_state *state,
				      uint32_t providers),
			 void *ctx);
/*
 * recovery_choose - the newest state that is not later than at_sec; 1 when nothing so old is held:
 * then the oldest there is.  Reads the segments behind it.  -ENODATA: there is no state at all.
 */
int recovery_choose(struct recovery *recovery, int64_t at_sec, struct recovery_state *out);
/* From now on the recovery ends with this state, and not with the newest. */
void recovery_aim(struct recovery *recovery, const struct recovery_state *state);

struct recovery_result {
	uint64_t generation;
	uint32_t epoch;
	int64_t made_sec; /* when its newest object was made */
	uint64_t inodes, bytes, shards;
	uint64_t shards_missing; /* at no provider that is reached */
	uint64_t files_damaged;	 /* that need one of those; each was named by note */
	uint64_t objects_unknown; /* shards that this state does not know; they are left alone */
};
/*
 * recovery_run - rebuilds index and superblock in config->home, which holds no file system (-EEXIST)
 * and perhaps the remains of a recovery that did not end: what that one fetched is used again.
 * The superblock is written last.  -ENODATA: no whole snapshot of the index is left anywhere (that
 * the state aimed at could begin with).
 */
int recovery_run(struct recovery *recovery, struct recovery_result *result, struct buf *why);

/*
 * recovery_run_from_footers - when every object of the index is lost: an index from what shards say
 * about themselves.  Each chunk becomes a file, /lost+found/SHARD/RECORD (a small file is whole in
 * one of them).  Names, owners, modes, times, attributes, and which chunks made up a larger file are
 * lost.  As recovery_run otherwise; -ENODATA: no shard either.
 */
int recovery_run_from_footers(struct recovery *recovery, struct recovery_result *result,
			      struct buf *why);

/* A provider of the configuration that is new and empty becomes this file system's. */
int recovery_init_provider(struct recovery *recovery, const char *name, struct buf *why);

#endif
