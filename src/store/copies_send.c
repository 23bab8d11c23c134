/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending owed copies: the bytes of a shard (from the spool, or fetched from a provider by the
 * keeper), and the lanes, one for each provider, that start requests as their budgets allow.
 * The states of a job are in copies.c.  Everything here runs on the transfer thread.
 */
#include "store/copies_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>

/* ---- bytes ---- */

static void park(struct transfer *transfer, struct copy_job *job, uint64_t now_ms)
{
	struct shard_job *shard = job->shard;
	struct source_task *task = NULL;

	if (!shard->is_sourcing) {
		task = mem_alloc(sizeof(*task));
		if (!task) {
			job_pause(job, now_ms);
			job_queue(job);
			return;
		}
		task->msg.kind = MSG_SOURCED;
		task->shard = shard->row;
		shard->is_sourcing = true;
	}
	job->state = JOB_PARKED;
	job->lane->parked++;
	if (!task)
		return;
	lock_take(&transfer->lock);
	list_push_back(&transfer->source_tasks, &task->msg.link);
	lock_drop(&transfer->lock);
	keeper_wake(transfer->keeper, transfer->chore_source);
}

void copies_sourced(struct transfer *transfer, struct source_task *task)
{
	struct shard_job *shard = shard_find(transfer, task->shard.shard_no);
	uint64_t now = clock_mono_ms();
	bool is_first = false; /* said once for a copy */

	assert(shard && shard->is_sourcing);
	shard->is_sourcing = false;
	list_for_each(pos, &shard->jobs) {
		struct copy_job *job = container_of(pos, struct copy_job, of_shard);

		if (job->state != JOB_PARKED)
			continue;
		job->lane->parked--;
		is_first |= job->attempts == 0;
		if (task->error < 0)
			job_pause(job, now);
		job_queue(job);
	}
	if (task->error == 0) {
		shard_drop_object(transfer, shard);
		buf_swap(&shard->fetched, &task->object);
		shard->object = buf_bytes(&shard->fetched);
		/* a copy that was taken for owed is there, every byte of it */
		copies_mark_one(transfer, shard->row.shard_no, task->from_provider, COPY_VERIFIED);
	} else if (task->error != -ECANCELED && is_first) {
		log_warn("copy-source-missing",
			 "shard=%s error=%s next=\"tried again, and when a provider returns\"",
			 shard_id_hex(&shard->row.id).s, err_name(task->error));
	}
	buf_release(&task->object);
	mem_free(task);
}

/*
 * The bytes to send.  The spool's file may have lain there for long: what rotted must not go to
 * every provider and be acknowledged.  It costs a MAC over bytes that are about to be read anyway.
 */
static int shard_object(struct transfer *transfer, struct shard_job *shard)
{
	int r;

	if (shard->object.ptr)
		return 0;
	r = spool_map(transfer->settings.spool, shard->row.shard_no, &shard->object,
		      &shard->mapping);
	if (r < 0)
		return r;
	r = transfer_authenticate(transfer, transfer->aead, &shard->row, shard->object);
	if (r == 0)
		return 0;
	log_error("spool-shard-bad", "shard=%s error=%s next=\"not sent: copies elsewhere are asked\"",
		  shard_id_hex(&shard->row.id).s, err_name(r));
	spool_unmap(shard->mapping);
	shard->mapping = NULL;
	shard->object = bytes_of(NULL, 0);
	return r;
}

static void put_done(struct backend_req *req)
{
	struct copy_job *job = container_of(req, struct copy_job, req);

	transfer_post(job->lane->transfer, &job->msg);
}

static void job_send(struct copy_job *job, uint64_t now_ms)
{
	struct lane *lane = job->lane;
	int r;

	job->state = JOB_SENDING;
	job->started_ms = now_ms;
	list_push_back(&lane->sending, &job->link);
	lane->inflight++;
	lane->inflight_bytes += job->shard->row.object_len;
	job->shard->sending++;
	job->req = (struct backend_req){
		.op = BACKEND_PUT, .key = job->key, .body = job->shard->object, .done = put_done};
	r = HOOK("copy-put-before");
	if (r == 0)
		r = backend_submit(lane->provider.backend, &job->req);
	if (r < 0) { /* not taken: no answer will come */
		job->req.error = r;
		put_done(&job->req);
	}
}

/* ---- lanes ---- */

struct copy_job *lane_next(struct lane *lane, uint64_t now_ms, uint64_t *next_ms)
{
	unsigned looked = 0;

	for (struct tree_node *node = tree_first(&lane->queue); node && looked < 256;
	     node = tree_next(node), looked++) {
		struct copy_job *job = container_of(node, struct copy_job, node);

		if (job->not_before_ms <= now_ms)
			return job;
		*next_ms = MIN(*next_ms, job->not_before_ms);
	}
	return NULL;
}

static void lane_pump(struct transfer *transfer, struct lane *lane, uint64_t now_ms,
		      uint64_t *next_ms)
{
	unsigned budget = provider_put_budget(&lane->provider, LANE_INFLIGHT_MAX, now_ms);

	while (lane->inflight + lane->parked < budget &&
	       (lane->inflight == 0 || lane->inflight_bytes < LANE_INFLIGHT_BYTES)) {
		struct copy_job *job = lane_next(lane, now_ms, next_ms);

		if (!job)
			return;
		tree_remove(&lane->queue, &job->node);
		job->state = JOB_NOTED;
		if (shard_object(transfer, job->shard) == 0)
			job_send(job, now_ms);
		else
			park(transfer, job, now_ms);
	}
}

/* Requests without answer make a provider count as away. */
static void lane_look(struct transfer *transfer, struct lane *lane, uint64_t now_ms,
		      uint64_t *next_ms)
{
	uint64_t age = 0;

	if (!list_is_empty(&lane->sending)) {
		struct copy_job *job = container_of(lane->sending.next, struct copy_job, link);

		age = now_ms - job->started_ms;
		*next_ms = MIN(*next_ms, job->started_ms + STALL_MS);
		if (age >= STALL_MS)
			*next_ms = MIN(*next_ms, now_ms + PROVIDER_PAUSE_MAX_MS);
	}
	transfer_turned(transfer,
			provider_stalled(&lane->provider, age >= STALL_MS, age, now_ms));
}

void copies_pump(struct transfer *transfer, bool may_start, uint64_t now_ms, uint64_t *next_ms)
{
	if (transfer->change_count > 0 && transfer->flush_at_ms > 0)
		*next_ms = MIN(*next_ms, transfer->flush_at_ms);
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct lane *lane = &transfer->lanes[i];

		lane_look(transfer, lane, now_ms, next_ms);
		if (may_start && lane->provider.backend)
			lane_pump(transfer, lane, now_ms, next_ms);
	}
	if (!list_is_empty(&transfer->releasable) && copies_is_spool_pressed(transfer))
		copies_settle_releasable(transfer);
}

/* Providers came or went: owed copies need not wait, files of the spool perhaps neither. */
void copies_turned(struct transfer *transfer)
{
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct lane *lane = &transfer->lanes[i];
		bool is_present = provider_is_present(&lane->provider);

		for (struct tree_node *node = tree_first(&lane->queue); node;
		     node = tree_next(node)) {
			struct copy_job *job = container_of(node, struct copy_job, node);

			job->not_before_ms = 0;
			if (!is_present && job->shard->sending == 0 && job->shard->fetched.ptr)
				shard_drop_object(transfer, job->shard);
		}
	}
	copies_settle_releasable(transfer);
}
