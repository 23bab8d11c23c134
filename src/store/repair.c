/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the keeper does for copies.
 *
 * Repair: copies marked missing or corrupt, found by paging through the index, so that nothing has
 * to be remembered; within a page the shards with the fewest valid copies first.  A bad copy is
 * first read back: if it is good after all (a transfer was bad, not the copy) it is verified as it
 * is.  Otherwise the whole object comes from another copy or the spool, is authenticated to the
 * last byte, written under the same name, read back, compared, and only then verified.  A copy that
 * cannot be repaired now is left as it is; the next sweep comes by time, when a provider returns,
 * or when a reader marks another copy.
 */
#include "store/transfer_private.h"

#include "store/pack.h"
#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPAIR_PAGE 128u
#define LOOK_MS	    200u /* how often a waiting chore looks whether transfer stops */

static unsigned valid_copies(struct transfer *transfer, struct index_reader *reader,
			     uint64_t shard_no)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	unsigned valid = 0;

	if (index_list_copies(transfer->settings.index, reader, shard_no, &copies) == 0)
		for (size_t i = 0; i < copies.count; i++)
			valid += copy_is_valid(&copies.rows[i]);
	return valid;
}

/* changed_sec is not wanted here: it carries the urgency. */
static int urgency_compare(const void *left, const void *right)
{
	const struct copy_row *a = left, *b = right;

	return a->changed_sec < b->changed_sec ? -1 : a->changed_sec > b->changed_sec;
}

/* 1: a page to work on; 0: the sweep is over, and the next one begins at the front. */
static int next_page(struct transfer *transfer, struct index_reader *reader)
{
	struct copy_list *page = &transfer->repairs;

	if (transfer->repair_state == COPY_NONE)
		transfer->repair_state = COPY_MISSING;
	for (;;) {
		page->count = 0;
		transfer->repair_next = 0;
		if (index_list_copies_in_state(transfer->settings.index, reader,
					       transfer->repair_state, transfer->repair_after,
					       REPAIR_PAGE, page) < 0)
			return 0;
		if (page->count > 0)
			break;
		transfer->repair_after = 0;
		if (transfer->repair_state == COPY_CORRUPT) {
			transfer->repair_state = COPY_NONE;
			return 0;
		}
		transfer->repair_state = COPY_CORRUPT;
	}
	transfer->repair_after = page->rows[page->count - 1].shard_no;
	if (page->count == REPAIR_PAGE) /* that shard may have more rows */
		transfer->repair_after--;
	for (size_t i = 0; i < page->count; i++)
		page->rows[i].changed_sec =
			valid_copies(transfer, reader, page->rows[i].shard_no);
	qsort(page->rows, page->count, sizeof(page->rows[0]), urgency_compare);
	return 1;
}

struct object {
	struct bytes bytes;
	void *mapping;
	struct buf fetched;
};
#define OBJECT_INIT {0}

static void object_release(struct object *object)
{
	if (object->mapping)
		spool_unmap(object->mapping);
	buf_release(&object->fetched);
}

/* A good object: from the spool, or from another provider. */
static int object_get(struct transfer *transfer, struct keeper_worker *worker,
		      const struct shard_row *shard, uint32_t without, struct object *out)
{
	int r = spool_map(transfer->settings.spool, shard->shard_no, &out->bytes, &out->mapping);

	if (r == 0)
		return 0;
	r = fetch_whole(transfer, worker, shard, 0, without, &out->fetched, NULL);
	out->bytes = buf_bytes(&out->fetched);
	return r;
}

/* On the keeper's thread, which may wait; but not for a provider that never answers. */
struct short_run {
	struct lock lock; /* LOCK_LEAF */
	struct cond done;
	unsigned refs;
	bool is_done;
	struct lane *lane;
	char key[64];
	struct buf bytes;
	struct backend_req req;
};

static void short_run_drop(struct short_run *run)
{
	bool is_last;

	lock_take(&run->lock);
	is_last = --run->refs == 0;
	lock_drop(&run->lock);
	if (!is_last)
		return;
	buf_release(&run->bytes);
	cond_release(&run->done);
	lock_release(&run->lock);
	mem_free(run);
}

static void short_run_done(struct backend_req *req)
{
	struct short_run *run = container_of(req, struct short_run, req);

	transfer_turned(run->lane->transfer,
			provider_answered(&run->lane->provider, req, clock_mono_ms()));
	lock_take(&run->lock);
	run->is_done = true;
	cond_wake_all(&run->done);
	lock_drop(&run->lock);
	short_run_drop(run);
}

/*
 * One PUT (of a copy of body) or whole GET (into out).  Returns its answer, or -ETIMEDOUT when that
 * does not come in time or transfer stops.
 */
static int short_run(struct transfer *transfer, struct lane *lane, enum backend_op op,
		     const char *key, struct bytes body, struct buf *out)
{
	struct short_run *run = mem_alloc(sizeof(*run));
	uint64_t until = clock_mono_ms() + FETCH_GIVE_UP_MS;
	int r;

	if (!run)
		return -ENOMEM;
	lock_init(&run->lock, LOCK_LEAF);
	cond_init(&run->done);
	run->refs = 2;
	run->lane = lane;
	snprintf(run->key, sizeof(run->key), "%s", key);
	r = buf_append(&run->bytes, body); /* outlives us if the provider never answers */
	run->req = (struct backend_req){.op = op, .key = run->key, .done = short_run_done};
	if (op == BACKEND_PUT) {
		run->req.body = buf_bytes(&run->bytes);
	} else {
		run->req.len = BACKEND_TO_END;
		run->req.out = &run->bytes;
	}
	if (r == 0)
		r = backend_submit(lane->provider.backend, &run->req);
	if (r < 0) {
		short_run_drop(run);
		short_run_drop(run);
		return r;
	}
	lock_take(&run->lock);
	while (!run->is_done && !transfer->is_stopping && clock_mono_ms() < until)
		cond_wait_ms(&run->done, &run->lock, LOOK_MS);
	r = run->is_done ? run->req.error : -ETIMEDOUT;
	lock_drop(&run->lock);
	if (r == -ETIMEDOUT)
		backend_cancel(lane->provider.backend, &run->req);
	else if (r == 0 && out)
		buf_swap(out, &run->bytes);
	short_run_drop(run);
	return r;
}

static int rewrite(struct transfer *transfer, struct keeper_worker *worker, struct lane *lane,
		   const struct shard_row *shard)
{
	AUTO(object) object = OBJECT_INIT;
	AUTO(buf) back = BUF_INIT;
	uint32_t no = lane->provider.row.provider_no;
	int r = object_get(transfer, worker, shard, no, &object);

	if (r < 0)
		return r;
	r = short_run(transfer, lane, BACKEND_PUT, shard_id_hex(&shard->id).s, object.bytes, NULL);
	if (r < 0)
		return r;
	r = fetch_whole(transfer, worker, shard, no, 0, &back, NULL);
	if (r == 0 && (back.len != object.bytes.len ||
		       memcmp(back.ptr, object.bytes.ptr, back.len) != 0))
		r = -EBADMSG;
	return r;
}

static void repair_one(struct transfer *transfer, struct keeper_worker *worker,
		       const struct copy_row *copy)
{
	struct lane *lane = transfer_lane(transfer, copy->provider_no);
	AUTO(buf) back = BUF_INIT;
	struct shard_row shard;
	bool is_rewritten = false;
	int r;

	if (!lane || !lane->provider.backend || !provider_is_present(&lane->provider))
		return;
	if (index_get_shard(transfer->settings.index, worker->reader, copy->shard_no, &shard) < 0 ||
	    (shard.state != SHARD_SEALED && shard.state != SHARD_DURABLE))
		return;
	r = fetch_whole(transfer, worker, &shard, copy->provider_no, 0, &back, NULL);
	buf_release(&back);
	if (r < 0) {
		is_rewritten = true;
		r = rewrite(transfer, worker, lane, &shard);
	}
	if (r == 0) {
		transfer_mark(transfer, copy->shard_no, copy->provider_no, COPY_VERIFIED);
		log_info("copy-repaired", "shard=%s provider=%s how=%s", shard_id_hex(&shard.id).s,
			 lane->provider.row.name, is_rewritten ? "rewritten" : "read-again");
	} else if (r != -ECANCELED) {
		log_warn("copy-repair-failed", "shard=%s provider=%s error=%s next=\"tried again\"",
			 shard_id_hex(&shard.id).s, lane->provider.row.name, err_name(r));
	}
}

int repair_run(void *ctx, struct keeper_worker *worker)
{
	struct transfer *transfer = ctx;

	if (transfer->is_stopping)
		return 0;
	if (transfer->repair_next == transfer->repairs.count) {
		copy_list_release(&transfer->repairs);
		transfer->repairs = (struct copy_list)ROW_LIST_INIT;
		transfer->repair_next = 0;
		return next_page(transfer, worker->reader);
	}
	repair_one(transfer, worker, &transfer->repairs.rows[transfer->repair_next++]);
	return 1;
}

/* Fetches one object that is owed to somebody and not in the spool any more. */
int source_run(void *ctx, struct keeper_worker *worker)
{
	struct transfer *transfer = ctx;
	struct source_task *task = NULL;

	if (transfer->is_stopping || transfer->sourced_bytes >= SOURCED_BYTES_MAX)
		return 0;
	lock_take(&transfer->lock);
	if (!list_is_empty(&transfer->source_tasks)) {
		task = container_of(transfer->source_tasks.next, struct source_task, msg.link);
		list_remove(&task->msg.link);
	}
	lock_drop(&transfer->lock);
	if (!task)
		return 0;
	transfer->sourced_bytes += task->shard.object_len;
	task->error = fetch_whole(transfer, worker, &task->shard, 0, 0, &task->object,
				  &task->from_provider);
	if (task->error < 0)
		transfer->sourced_bytes -= task->shard.object_len;
	transfer_post(transfer, &task->msg);
	return 1;
}

int idle_seal_run(void *ctx, struct keeper_worker *worker)
{
	struct transfer *transfer = ctx;

	(void)worker;
	spool_seal_idle(transfer->settings.spool);
	return 0;
}

/* ---- superblocks ---- */

/* Same file system, older or damaged: ours goes there. */
static int superblock_refresh(struct transfer *transfer, struct lane *lane,
			      const struct superblock *ours, struct superblock *theirs)
{
	AUTO(buf) sealed = BUF_INIT;
	AUTO(buf) found = BUF_INIT;
	struct bytes nothing = {0};
	int r = short_run(transfer, lane, BACKEND_GET, SUPERBLOCK_KEY, nothing, &found);

	if (r == 0)
		r = superblock_parse(buf_bytes(&found), theirs);
	if (r == 0)
		r = keyring_check(transfer->settings.keyring, theirs);
	if (r == 0 && theirs->revision == ours->revision)
		return 0;
	if (r == 0 && theirs->revision > ours->revision) {
		log_warn("superblock-newer", "provider=%s revision=%llu here=%llu",
			 lane->provider.row.name, (unsigned long long)theirs->revision,
			 (unsigned long long)ours->revision);
		return 0;
	}
	if (r < 0 && r != -ENOENT && r != -EBADMSG)
		return r; /* away again, or made by a newer version */
	r = superblock_encode_body(ours, &sealed);
	if (r == 0)
		r = buf_append(&sealed, bytes_of(ours->mac, sizeof(ours->mac)));
	if (r == 0)
		r = short_run(transfer, lane, BACKEND_PUT, SUPERBLOCK_KEY, buf_bytes(&sealed), NULL);
	if (r == 0)
		log_info("superblock-rewritten", "provider=%s revision=%llu",
			 lane->provider.row.name, (unsigned long long)ours->revision);
	return r;
}

int superblock_run(void *ctx, struct keeper_worker *worker)
{
	struct transfer *transfer = ctx;
	struct superblock *ours = mem_alloc(sizeof(*ours)), *theirs = mem_alloc(sizeof(*theirs));
	AUTO(buf) why = BUF_INIT;
	int r = ours && theirs ? superblock_io_read(transfer->settings.config, ours, &why) : -ENOMEM;

	(void)worker;
	if (r == 0)
		r = keyring_check(transfer->settings.keyring, ours);
	for (unsigned i = 0; i < transfer->lane_count && r == 0; i++) {
		struct lane *lane = &transfer->lanes[i];
		int answer;

		if (!lane->wants_superblock || transfer->is_stopping)
			continue;
		lane->wants_superblock = false;
		answer = superblock_refresh(transfer, lane, ours, theirs);
		if (answer < 0)
			log_warn("superblock-not-rewritten", "provider=%s error=%s",
				 lane->provider.row.name, err_name(answer));
	}
	mem_free(ours);
	mem_free(theirs);
	return 0;
}

/* ---- on demand ---- */

int transfer_verify_shard(struct transfer *transfer, struct index_reader *reader,
			  uint64_t shard_no, unsigned *good, unsigned *bad)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct keeper_worker worker = {.reader = reader};
	unsigned good_count = 0, bad_count = 0;
	struct shard_row shard;
	int r = index_get_shard(transfer->settings.index, reader, shard_no, &shard);

	if (r == 0 && shard.state != SHARD_SEALED && shard.state != SHARD_DURABLE)
		r = -ENOENT;
	if (r == 0)
		r = index_list_copies(transfer->settings.index, reader, shard_no, &copies);
	if (r == 0)
		r = aead_ctx_new(&worker.aead);
	if (r < 0)
		return r;
	for (size_t i = 0; i < copies.count; i++) {
		AUTO(buf) object = BUF_INIT;
		uint32_t no = copies.rows[i].provider_no;

		if (!copy_is_valid(&copies.rows[i])) {
			bad_count += copies.rows[i].state == COPY_CORRUPT ||
				     copies.rows[i].state == COPY_MISSING;
			continue;
		}
		r = fetch_whole(transfer, &worker, &shard, no, 0, &object, NULL);
		if (r == 0) {
			transfer_mark(transfer, shard_no, no, COPY_VERIFIED);
			good_count++;
		} else if (r == -EBADMSG || r == -ENOENT) { /* marked by the reader */
			bad_count++;
		}
	}
	aead_ctx_free(worker.aead);
	*good = good_count;
	*bad = bad_count;
	return 0;
}
