/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_KEEPER_H
#define SHARDFS_STORE_KEEPER_H

/*
 * Work in the background, in order of urgency, with budgets.
 *
 * A chore is a kind of work (repair, owed copies, idle sealing ...) that knows by itself what is to
 * be done; the keeper holds no queue, only whether a chore may have something to do.  It is run
 * when it was woken or its period has passed, one unit at a time, by at most `workers_max` of the
 * keeper's few threads at once.  The most urgent one that is ready goes first; after
 * KEEPER_FAIR_UNITS units in a row somebody less urgent gets one, so that nothing starves.
 */

#include "crypto/aead.h"
#include "index/index.h"

#define KEEPER_CHORES_MAX  16u
#define KEEPER_THREADS_MAX 8u
#define KEEPER_FAIR_UNITS  8u

/* What a thread of the keeper lends to the unit that it runs. */
struct keeper_worker {
	struct index_reader *reader;
	struct aead_ctx *aead;
};

struct keeper_chore {
	const char *name;
	unsigned urgency;      /* 0 is the most urgent */
	unsigned workers_max;  /* 1 .. */
	uint64_t period_ms;    /* runs at least this often; 0: only when woken */
	/* One unit.  1: there may be more now; 0: nothing to do until woken or the period passes. */
	int (*run)(void *ctx, struct keeper_worker *worker);
	void *ctx;
};

struct keeper;

int keeper_new(struct index *index, struct keeper **out); /* no thread yet; -ENOMEM */
/* Before keeper_start; chore is copied.  Returns its number, for keeper_wake; -ENOSPC. */
int keeper_add(struct keeper *keeper, const struct keeper_chore *chore);
/* 1 .. KEEPER_THREADS_MAX threads; all chores are ready at first.  -ENOMEM, -EAGAIN, or of
 * index_reader_open. */
int keeper_start(struct keeper *keeper, unsigned thread_count);
void keeper_wake(struct keeper *keeper, int chore_no); /* any thread; also before start */
void keeper_stop(struct keeper *keeper); /* waits for the units under way; accepts NULL */
void keeper_free(struct keeper *keeper); /* after stop; accepts NULL */

#endif
