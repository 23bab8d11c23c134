/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large orphan loses its extents in records of at most BATCH_EXTENTS; then a
 * page of orphans loses rows and places in the orphan table in one record.  A
 * crash in between leaves a shorter orphan, which the next mount goes on with.
 *
 * An orphan that is in memory is in use (open and unlinked) and passed over;
 * its last reference wakes this thread again.
 */
#include "store/reclaim.h"

#include "store/snapshot.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>

#define ORPHANS_PAGE  256u
#define BATCH_EXTENTS 2048u
#define GATHER_MS     200u /* orphans come in crowds (rm -r): one record takes many of them */

struct reclaim {
	struct index *index;
	struct sequencer *sequencer;
	struct inode_table *inodes;
	struct index_reader *reader;
	struct lock lock; /* LOCK_KEEPER: guards the four below */
	struct cond wake, stop, done;
	bool is_stopping, is_woken;
	uint64_t rounds_asked, rounds_done;
	pthread_t thread;
};

static bool is_stopping(struct reclaim *reclaim)
{
	LOCK_SCOPE(&reclaim->lock);
	return reclaim->is_stopping;
}

/* 1 when extents are left, 0 when not. */
static int drop_extents(struct reclaim *reclaim, uint64_t ino)
{
	AUTO(extent_list) list = ROW_LIST_INIT;
	struct record *record;
	uint64_t covered, seq;
	int r = index_find_extents(reclaim->index, reclaim->reader, ino, 0, UINT64_MAX,
				   BATCH_EXTENTS, &list, &covered);

	if (r < 0 || list.count < BATCH_EXTENTS)
		return r; /* the last ones go with the row */
	record = record_new();
	if (!record)
		return -ENOMEM;
	record_del_extents(record, ino, 0, covered);
	r = sequencer_submit(reclaim->sequencer, record, &seq);
	if (r == 0)
		r = sequencer_wait_written(reclaim->sequencer, seq); /* the backlog's bound */
	return r < 0 ? r : 1;
}

/* Adds the end of an orphan to the record of its page. */
static int reclaim_one(struct reclaim *reclaim, uint64_t ino, struct record *record)
{
	struct inode *used = inode_find(reclaim->inodes, ino);
	int r;

	if (used) {
		inode_unref(reclaim->inodes, used, 1);
		return 0;
	}
	do {
		r = drop_extents(reclaim, ino);
	} while (r > 0 && !is_stopping(reclaim));
	if (r != 0)
		return r < 0 ? r : 0;
	record_del_extents(record, ino, 0, UINT64_MAX);
	record_del_inode(record, ino);
	record_del_orphan(record, ino);
	return 0;
}

static int reclaim_page(struct reclaim *reclaim, const uint64_t *inos, size_t count)
{
	struct record *record = record_new();
	uint64_t seq;
	int r = 0;

	if (!record)
		return -ENOMEM;
	for (size_t i = 0; i < count && r == 0 && !is_stopping(reclaim); i++)
		r = reclaim_one(reclaim, inos[i], record);
	if (r < 0 || record->change_count == 0) {
		record_free(record);
		return r;
	}
	r = sequencer_submit(reclaim->sequencer, record, &seq);
	return r < 0 ? r : sequencer_wait_written(reclaim->sequencer, seq);
}

static void reclaim_all(struct reclaim *reclaim)
{
	uint64_t inos[ORPHANS_PAGE], after = 0;
	size_t count;

	do {
		int r = index_list_orphans(reclaim->index, reclaim->reader, after, ORPHANS_PAGE,
					   inos, &count);

		if (r < 0)
			count = 0;
		else if (count > 0)
			r = reclaim_page(reclaim, inos, count);
		if (count > 0)
			after = inos[count - 1];
		if (r < 0) {
			log_warn("reclaim-failed", "error=%s next=\"at the next unlink or mount\"",
				 err_name(r));
			return;
		}
	} while (count == ORPHANS_PAGE && !is_stopping(reclaim));
}

/* New orphans go first: they hold what somebody has just deleted. */
static bool must_yield(void *ctx)
{
	struct reclaim *reclaim = ctx;

	LOCK_SCOPE(&reclaim->lock);
	return reclaim->is_stopping || reclaim->is_woken;
}

/* If it yields there is a next round, which goes on here. */
static void reclaim_snapshots(struct reclaim *reclaim)
{
	int r = snapshot_reclaim(reclaim->index, reclaim->reader, reclaim->sequencer, must_yield,
				 reclaim);

	if (r < 0 && !is_stopping(reclaim))
		log_warn("snapshot-reclaim-failed", "error=%s next=\"at the next unlink or mount\"",
			 err_name(r));
}

static void *reclaim_thread(void *arg)
{
	struct reclaim *reclaim = arg;
	uint64_t round;

	lock_take(&reclaim->lock);
	while (!reclaim->is_stopping) {
		if (!reclaim->is_woken) {
			cond_wait(&reclaim->wake, &reclaim->lock);
			continue;
		}
		if (reclaim->rounds_done == reclaim->rounds_asked)
			cond_wait_ms(&reclaim->stop, &reclaim->lock, GATHER_MS);
		reclaim->is_woken = false;
		round = reclaim->rounds_asked;
		lock_drop(&reclaim->lock);
		reclaim_all(reclaim);
		reclaim_snapshots(reclaim);
		lock_take(&reclaim->lock);
		reclaim->rounds_done = round;
		cond_wake_all(&reclaim->done);
	}
	cond_wake_all(&reclaim->done);
	lock_drop(&reclaim->lock);
	return NULL;
}

int reclaim_start(struct index *index, struct sequencer *sequencer, struct inode_table *inodes,
		  struct reclaim **out)
{
	struct reclaim *reclaim = mem_alloc(sizeof(*reclaim));
	int r;

	if (!reclaim)
		return -ENOMEM;
	reclaim->index = index;
	reclaim->sequencer = sequencer;
	reclaim->inodes = inodes;
	reclaim->is_woken = true; /* what the last mount left */
	r = index_reader_open(index, &reclaim->reader);
	if (r < 0) {
		mem_free(reclaim);
		return r;
	}
	lock_init(&reclaim->lock, LOCK_KEEPER);
	cond_init(&reclaim->wake);
	cond_init(&reclaim->done);
	cond_init(&reclaim->stop);
	r = thread_start(&reclaim->thread, "reclaim", reclaim_thread, reclaim);
	if (r < 0) {
		index_reader_close(reclaim->reader);
		mem_free(reclaim);
		return r;
	}
	*out = reclaim;
	return 0;
}

void reclaim_stop(struct reclaim *reclaim)
{
	if (!reclaim)
		return;
	lock_take(&reclaim->lock);
	reclaim->is_stopping = true;
	cond_wake_all(&reclaim->wake);
	cond_wake_all(&reclaim->stop);
	lock_drop(&reclaim->lock);
	pthread_join(reclaim->thread, NULL);
	index_reader_close(reclaim->reader);
	cond_release(&reclaim->wake);
	cond_release(&reclaim->done);
	cond_release(&reclaim->stop);
	lock_release(&reclaim->lock);
	mem_free(reclaim);
}

void reclaim_wake(struct reclaim *reclaim)
{
	LOCK_SCOPE(&reclaim->lock);
	reclaim->is_woken = true;
	cond_wake_one(&reclaim->wake);
}

void reclaim_settle(struct reclaim *reclaim)
{
	LOCK_SCOPE(&reclaim->lock);
	uint64_t round = ++reclaim->rounds_asked;

	reclaim->is_woken = true;
	cond_wake_one(&reclaim->wake);
	cond_wake_one(&reclaim->stop);
	while (reclaim->rounds_done < round && !reclaim->is_stopping)
		cond_wait(&reclaim->done, &reclaim->lock);
}
