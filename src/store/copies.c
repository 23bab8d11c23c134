/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accounts of copies; everything here runs on the transfer thread.
 *
 *   noted --journalled--> queued --> sending --acknowledged, journalled--> gone
 *                           ^  ^        |
 *                           |  +--failed+          later, or when the provider is back
 *                           +-- parked             until its bytes were fetched from a provider
 *
 * Rows are collected in `changes` and journalled together, as one record, once a round: first the
 * record, then its effect (a pending copy is queued; an acknowledged one counts, tells those who
 * wait, and may let the spool's file go).  A record that the journal refuses is made again later,
 * and until then its effects have not happened.  None of this waits for a sync: after a crash a
 * copy may be taken for owed that exists, and is made again from its own bytes.
 *
 * A queue in memory is bounded.  What does not fit is in the index as a pending row, and a lane
 * that is overflown pages through those rows with a cursor when its queue runs low.
 *
 * The spool's file is let go when enough copies are acknowledged and none is on its way to a
 * provider that is present, or at once when the spool is half full.
 */
#include "store/copies_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define RETRY_FLUSH_MS 1000u

/* ---- shards in memory ---- */

struct shard_job *shard_find(struct transfer *transfer, uint64_t shard_no)
{
	uint64_t hash = map_hash_u64(shard_no);

	for (struct map_node *node = map_first(&transfer->shards, hash); node;
	     node = map_next(node)) {
		struct shard_job *shard = container_of(node, struct shard_job, node);

		if (shard->row.shard_no == shard_no)
			return shard;
	}
	return NULL;
}

unsigned copies_count_valid(const struct copy_list *copies)
{
	unsigned valid = 0;

	for (size_t i = 0; i < copies->count; i++)
		valid += copy_is_valid(&copies->rows[i]);
	return valid;
}

struct shard_job *shard_get(struct transfer *transfer, const struct shard_row *row,
				   unsigned valid)
{
	struct shard_job *shard = shard_find(transfer, row->shard_no);

	if (shard)
		return shard;
	shard = mem_alloc(sizeof(*shard));
	if (!shard)
		return NULL;
	shard->row = *row;
	shard->valid = valid;
	list_init(&shard->jobs);
	list_init(&shard->waits);
	list_init(&shard->releasable);
	if (map_insert(&transfer->shards, &shard->node, map_hash_u64(row->shard_no)) < 0) {
		mem_free(shard);
		return NULL;
	}
	return shard;
}

void shard_drop_object(struct transfer *transfer, struct shard_job *shard)
{
	if (shard->mapping)
		spool_unmap(shard->mapping);
	if (shard->fetched.ptr) {
		transfer->sourced_bytes -= shard->row.object_len;
		keeper_wake(transfer->keeper, transfer->chore_source);
	}
	buf_release(&shard->fetched);
	shard->mapping = NULL;
	shard->object = bytes_of(NULL, 0);
}

void shard_free(struct transfer *transfer, struct shard_job *shard)
{
	shard_drop_object(transfer, shard);
	list_remove(&shard->releasable);
	map_remove(&transfer->shards, &shard->node);
	mem_free(shard);
}

static void policy_of(struct transfer *transfer, const struct shard_row *row, struct policy *out)
{
	transfer->settings.policy_of(transfer->settings.ctx, row->policy_root, out);
}

/* Copies that let the spool's file go. */
static unsigned release_copies(struct transfer *transfer, const struct policy *policy)
{
	uint64_t set = transfer->settings.config->settings.spool_release_copies_count;

	return MAX(MIN(set ? set : 2u, (uint64_t)policy->copies), 1u);
}

bool copies_is_spool_pressed(struct transfer *transfer)
{
	return spool_bytes_used(transfer->settings.spool) >
	       transfer->settings.config->settings.spool_size_bytes / 2;
}

static bool has_moving_job(const struct shard_job *shard)
{
	list_for_each(pos, &shard->jobs) {
		struct copy_job *job = container_of(pos, struct copy_job, of_shard);

		if (provider_is_present(&job->lane->provider) && job->attempts < 2)
			return true;
	}
	return false;
}

static void tell_waits(struct shard_job *shard, const struct policy *policy)
{
	list_for_each(pos, &shard->waits) {
		struct wait_msg *wait = container_of(pos, struct wait_msg, msg.link);

		if (shard->valid < (wait->copies ? wait->copies : policy->copies))
			continue;
		list_remove(pos);
		wait->waiter->done(wait->waiter, 0);
		mem_free(wait);
	}
}

/* Something about the shard changed; it may be gone afterwards. */
void shard_settle(struct transfer *transfer, struct shard_job *shard)
{
	struct policy policy;
	bool is_enough;

	policy_of(transfer, &shard->row, &policy);
	tell_waits(shard, &policy);
	is_enough = shard->row.state == SHARD_SEALED &&
		    shard->valid >= release_copies(transfer, &policy);
	list_remove(&shard->releasable);
	if (is_enough && (!has_moving_job(shard) || copies_is_spool_pressed(transfer))) {
		shard->row.state = SHARD_DURABLE;
		transfer->settings.durable(transfer->settings.ctx, shard->row.shard_no);
	} else if (is_enough) {
		list_push_back(&transfer->releasable, &shard->releasable);
	}
	if (shard->job_count == 0 && list_is_empty(&shard->waits))
		shard_free(transfer, shard);
}

void copies_settle_releasable(struct transfer *transfer)
{
	struct list shards = LIST_INIT(shards);

	list_splice_back(&shards, &transfer->releasable);
	list_for_each(pos, &shards)
		shard_settle(transfer, container_of(pos, struct shard_job, releasable));
}

/* ---- one owed copy ---- */

struct copy_job *job_find(const struct shard_job *shard, const struct lane *lane)
{
	list_for_each(pos, &shard->jobs) {
		struct copy_job *job = container_of(pos, struct copy_job, of_shard);

		if (job->lane == lane)
			return job;
	}
	return NULL;
}

unsigned lane_load(const struct lane *lane)
{
	return lane->queue.count + lane->inflight + lane->parked;
}

/* NULL: no memory or no room; the lane will page it in. */
struct copy_job *job_new(struct shard_job *shard, struct lane *lane)
{
	/* also those whose rows wait for the journal */
	bool has_room = lane->queued_copies < lane->transfer->queue_max;
	struct copy_job *job = has_room ? mem_alloc(sizeof(*job)) : NULL;

	if (!job) {
		lane->is_overflown = lane->is_page_again = true;
		return NULL;
	}
	job->msg.kind = MSG_DONE;
	job->shard = shard;
	job->lane = lane;
	list_init(&job->link);
	list_push_back(&shard->jobs, &job->of_shard);
	shard->job_count++;
	memcpy(job->key, shard_id_hex(&shard->row.id).s, sizeof(job->key));
	lane->queued_copies++;
	lane->queued_bytes += shard->row.object_len;
	return job;
}

/* Leaves the shard to the caller. */
static void job_free(struct copy_job *job)
{
	assert(job->state != JOB_SENDING);
	if (job->state == JOB_QUEUED)
		tree_remove(&job->lane->queue, &job->node);
	if (job->state == JOB_PARKED)
		job->lane->parked--;
	job->lane->queued_copies--;
	job->lane->queued_bytes -= job->shard->row.object_len;
	list_remove(&job->of_shard);
	job->shard->job_count--;
	mem_free(job);
}

void job_queue(struct copy_job *job)
{
	struct tree_key key = {job->shard->row.priority, job->shard->row.shard_no};
	struct tree_node *there;

	job->state = JOB_QUEUED;
	there = tree_insert(&job->lane->queue, &job->node, key);
	assert(!there);
	(void)there;
}

void job_pause(struct copy_job *job, uint64_t now_ms)
{
	unsigned shift = MIN(job->attempts, 6u);

	job->attempts++;
	job->not_before_ms = now_ms + MIN((uint64_t)COPY_PAUSE_MIN_MS << shift,
					  (uint64_t)COPY_PAUSE_MAX_MS);
}

/* ---- the journal ---- */

bool copies_has_room(const struct transfer *transfer)
{
	return transfer->change_count + PLACEMENT_COPIES_MAX + CHANGES_SPARE <= CHANGES_MAX;
}

static void change_add(struct transfer *transfer, const struct shard_row *shard,
		       uint32_t provider_no, uint32_t state, struct copy_job *job, int valid_delta)
{
	int64_t now = clock_wall().sec;

	assert(transfer->change_count < CHANGES_MAX);
	transfer->changes[transfer->change_count++] = (struct copy_change){
		.row = {.shard_no = shard->shard_no,
			.provider_no = provider_no,
			.state = state,
			.changed_sec = now,
			.verified_sec = state == COPY_VERIFIED ? now : 0},
		.job = job,
		.valid_delta = valid_delta,
		.object_len = shard->object_len,
	};
}

void lane_count_copies(struct lane *lane, int delta, uint64_t object_len)
{
	lane->objects += (uint64_t)(int64_t)delta;
	lane->bytes += (uint64_t)((int64_t)delta * (int64_t)object_len);
}

static void change_effect(struct transfer *transfer, const struct copy_change *change)
{
	struct shard_job *shard = change->job ? change->job->shard
					      : shard_find(transfer, change->row.shard_no);

	if (change->valid_delta != 0 && change->row.shard_no <= transfer->counted_upto)
		lane_count_copies(transfer_lane(transfer, change->row.provider_no),
				  change->valid_delta, change->object_len);

	if (change->job && change->row.state == COPY_PENDING) {
		job_queue(change->job);
		return;
	}
	if (change->job)
		job_free(change->job);
	if (!shard)
		return;
	shard->valid += change->valid_delta;
	shard_settle(transfer, shard);
}

int copies_flush(struct transfer *transfer, uint64_t now_ms)
{
	struct record *record;
	bool is_repair_due = false;
	uint64_t seq;
	size_t count = transfer->change_count;
	int r;

	if (count == 0)
		return 0;
	if (now_ms < transfer->flush_at_ms)
		return -EAGAIN;
	record = record_new();
	if (record)
		for (size_t i = 0; i < count; i++)
			record_put_copy(record, &transfer->changes[i].row);
	r = record ? HOOK("copies-note-before") : -ENOMEM;
	if (r == 0)
		r = sequencer_submit(transfer->settings.sequencer, record, &seq);
	else
		record_free(record);
	if (r == 0)
		r = HOOK("copies-note-after");
	if (r < 0) {
		if (transfer->flush_at_ms == 0)
			log_warn("copies-not-journalled", "count=%zu error=%s next=\"tried again\"",
				 count, err_name(r));
		transfer->flush_at_ms = now_ms + RETRY_FLUSH_MS;
		return r;
	}
	transfer->flush_at_ms = 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t state = transfer->changes[i].row.state;

		is_repair_due |= state == COPY_MISSING || state == COPY_CORRUPT;
		change_effect(transfer, &transfer->changes[i]);
	}
	transfer->change_count = 0;
	if (is_repair_due) /* from now on the index shows it */
		keeper_wake(transfer->keeper, transfer->chore_repair);
	return 0;
}

/* ---- placing ---- */

static const struct copy_row *row_at(const struct copy_list *copies, uint32_t provider_no)
{
	for (size_t i = 0; i < copies->count; i++)
		if (copies->rows[i].provider_no == provider_no)
			return &copies->rows[i];
	return NULL;
}

/* Rows for copies that the policy wants and nobody has promised; jobs for them. */
void shard_place(struct transfer *transfer, const struct shard_row *row,
			const struct copy_list *copies)
{
	struct provider_facts facts[LANES_MAX];
	unsigned fact_count = transfer_facts(transfer, facts, LANES_MAX), chosen_count;
	uint32_t chosen[PLACEMENT_COPIES_MAX];
	struct shard_job *shard = shard_get(transfer, row, copies_count_valid(copies));
	struct policy policy;

	if (!shard) { /* no memory: looked at again */
		struct scan again = {.is_active = true};

		copies_scan_start(transfer, &again);
		return;
	}
	policy_of(transfer, row, &policy);
	placement_choose(&policy, &row->id, facts, fact_count, copies->rows,
			 (unsigned)copies->count, chosen, &chosen_count);
	for (unsigned i = 0; i < chosen_count; i++) {
		const struct copy_row *have = row_at(copies, chosen[i]);
		struct lane *lane = transfer_lane(transfer, chosen[i]);
		struct copy_job *job;

		if ((have && have->state != COPY_NONE) || job_find(shard, lane))
			continue; /* valid, owed already, or repaired by the keeper */
		job = job_new(shard, lane);
		change_add(transfer, row, chosen[i], COPY_PENDING, job, 0);
	}
	shard_settle(transfer, shard);
}

void copies_add(struct transfer *transfer, struct add_msg *msg)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct shard_row now;
	int r = index_get_shard(transfer->settings.index, transfer->reader, msg->shard.shard_no,
				&now);

	if (r == -ENOENT || (r == 0 && now.state >= SHARD_CONDEMNED)) { /* went meanwhile */
		mem_free(msg);
		return;
	}
	if (r == 0)
		r = index_list_copies(transfer->settings.index, transfer->reader,
				      msg->shard.shard_no, &copies);
	if (r < 0) {
		struct scan again = {.is_active = true, .is_sealed_only = true};

		copies_scan_start(transfer, &again);
	} else {
		shard_place(transfer, &msg->shard, &copies);
	}
	mem_free(msg);
}

/* ---- answers ---- */

static void job_failed(struct transfer *transfer, struct copy_job *job, uint64_t now_ms)
{
	if (job->attempts == 0 && job->req.error != -ENOSPC && !job->req.is_absent &&
	    job->req.error != -ECANCELED)
		log_warn("copy-write-failed",
			 "shard=%s provider=%s error=%s cause=" LOG_Q " next=\"tried again\"",
			 job->key, job->lane->provider.row.name, err_name(job->req.error),
			 job->req.cause);
	job_pause(job, now_ms);
	job_queue(job);
	if (!list_is_empty(&job->shard->releasable))
		shard_settle(transfer, job->shard);
}

void copies_done(struct transfer *transfer, struct copy_job *job)
{
	struct shard_job *shard = job->shard;
	struct lane *lane = job->lane;
	uint64_t now = clock_mono_ms();

	list_remove(&job->link);
	lane->inflight--;
	lane->inflight_bytes -= shard->row.object_len;
	if (--shard->sending == 0)
		shard_drop_object(transfer, shard);
	transfer_turned(transfer, provider_answered(&lane->provider, &job->req, now));
	job->state = JOB_NOTED;
	if (job->req.error == 0)
		change_add(transfer, &shard->row, lane->provider.row.provider_no, COPY_PRESENT,
			   job, 1);
	else
		job_failed(transfer, job, now);
}

static void wait_answer(struct wait_msg *wait, int error)
{
	wait->waiter->done(wait->waiter, error);
	mem_free(wait);
}

void copies_wait(struct transfer *transfer, struct wait_msg *msg)
{
	struct shard_job *shard = shard_find(transfer, msg->shard_no);

	if (!shard) {
		AUTO(copy_list) copies = ROW_LIST_INIT;
		struct shard_row row;
		int r = index_get_shard(transfer->settings.index, transfer->reader, msg->shard_no,
					&row);

		if (r == 0 && row.state >= SHARD_CONDEMNED)
			r = -ENOENT;
		if (r == 0)
			r = index_list_copies(transfer->settings.index, transfer->reader,
					      msg->shard_no, &copies);
		if (r == 0) {
			shard = shard_get(transfer, &row, copies_count_valid(&copies));
			r = shard ? 0 : -ENOMEM;
		}
		if (r < 0) {
			wait_answer(msg, r);
			return;
		}
	}
	list_push_back(&shard->waits, &msg->msg.link);
	shard_settle(transfer, shard);
}

static struct copy_change *change_find(const struct transfer *transfer, uint64_t shard_no,
				       uint32_t provider_no)
{
	for (size_t i = 0; i < transfer->change_count; i++)
		if (transfer->changes[i].row.shard_no == shard_no &&
		    transfer->changes[i].row.provider_no == provider_no)
			return &transfer->changes[i];
	return NULL;
}

bool copies_is_changing(const struct transfer *transfer, uint64_t shard_no, uint32_t provider_no)
{
	return change_find(transfer, shard_no, provider_no) != NULL;
}

/* The last word counts: an earlier mark that is not journalled yet becomes this one. */
static void mark_again(struct copy_change *change, const struct copy_row *row, uint32_t state)
{
	if (change->job)
		return; /* its answer says more */
	change->row.state = state;
	change->row.verified_sec = state == COPY_VERIFIED ? change->row.changed_sec : 0;
	change->valid_delta = (state == COPY_VERIFIED) - copy_is_valid(row);
}

void copies_mark_one(struct transfer *transfer, uint64_t shard_no, uint32_t provider_no,
		     uint32_t state)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct copy_change *change = change_find(transfer, shard_no, provider_no);
	struct shard_job *shard = shard_find(transfer, shard_no);
	struct copy_job *job = NULL;
	const struct copy_row *row;
	bool was_valid, is_valid = state == COPY_VERIFIED;
	struct shard_row shard_row;

	if (index_list_copies(transfer->settings.index, transfer->reader, shard_no, &copies) < 0 ||
	    transfer->change_count + CHANGES_SPARE / 2 > CHANGES_MAX)
		return; /* found again by the next reader */
	row = row_at(&copies, provider_no);
	if (!row || row->state == COPY_DELETING || row->state == COPY_QUARANTINED)
		return;
	if (change) {
		mark_again(change, row, state);
		return;
	}
	was_valid = copy_is_valid(row);
	if (!is_valid && !was_valid)
		return; /* known already, or still owed */
	if (shard)
		job = job_find(shard, transfer_lane(transfer, provider_no));
	if (!shard && index_get_shard(transfer->settings.index, transfer->reader, shard_no,
				      &shard_row) < 0)
		return;
	if (job && (job->state == JOB_SENDING || job->state == JOB_NOTED))
		return; /* its answer will say */
	if (job && job->state == JOB_QUEUED) {
		tree_remove(&job->lane->queue, &job->node);
		job->state = JOB_NOTED;
	}
	change_add(transfer, shard ? &shard->row : &shard_row, provider_no, state, job,
		   is_valid - was_valid);
	if (!is_valid && copies_count_valid(&copies) <= 2)
		transfer->is_repair_urgent = true;
}

void copies_mark(struct transfer *transfer, struct mark_msg *msg)
{
	copies_mark_one(transfer, msg->shard_no, msg->provider_no, msg->state);
	mem_free(msg);
}

/* ---- shards that go ---- */

/* Whether nothing of the shard is under way any more; the one in memory is gone then. */
static bool shard_forget(struct transfer *transfer, uint64_t shard_no)
{
	struct shard_job *shard = shard_find(transfer, shard_no);

	if (shard_no == 0) /* of all of them: a barrier */
		return transfer->change_count == 0;
	for (size_t i = 0; i < transfer->change_count; i++)
		if (transfer->changes[i].row.shard_no == shard_no)
			return false;
	if (!shard)
		return true;
	list_for_each(pos, &shard->jobs) {
		struct copy_job *job = container_of(pos, struct copy_job, of_shard);

		if (job->state == JOB_SENDING)
			backend_cancel(job->lane->provider.backend, &job->req);
		else if (job->state == JOB_QUEUED || job->state == JOB_PARKED)
			job_free(job);
	}
	if (shard->job_count > 0 || shard->is_sourcing)
		return false; /* an answer will come */
	list_for_each(pos, &shard->waits) {
		struct wait_msg *wait = container_of(pos, struct wait_msg, msg.link);

		list_remove(pos);
		wait_answer(wait, -ENOENT);
	}
	shard_free(transfer, shard);
	return true;
}

void copies_forget(struct transfer *transfer)
{
	list_for_each(pos, &transfer->forgets) {
		struct forget_msg *msg = container_of(pos, struct forget_msg, msg.link);

		if (!shard_forget(transfer, msg->shard_no))
			continue;
		list_remove(pos);
		msg->waiter->done(msg->waiter, 0);
		mem_free(msg);
	}
}

/* ---- the end ---- */

unsigned copies_inflight(const struct transfer *transfer)
{
	unsigned inflight = 0;

	for (unsigned i = 0; i < transfer->lane_count; i++)
		inflight += transfer->lanes[i].inflight;
	return inflight;
}

/* Nothing is left that would move without waiting for a provider to recover. */
bool copies_is_drained(struct transfer *transfer)
{
	uint64_t now = clock_mono_ms(), next;

	if (transfer->change_count > 0 || transfer->scan.is_active)
		return false;
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct lane *lane = &transfer->lanes[i];

		if (!provider_is_present(&lane->provider))
			continue;
		if (lane->inflight > 0 || lane->parked > 0)
			return false;
		if (lane_next(lane, now, &next) &&
		    provider_put_budget(&lane->provider, 1, now) > 0)
			return false;
	}
	return true;
}

void copies_cancel(struct transfer *transfer)
{
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct lane *lane = &transfer->lanes[i];

		list_for_each(pos, &lane->sending)
			backend_cancel(lane->provider.backend,
				       &container_of(pos, struct copy_job, link)->req);
	}
}

void copies_free_all(struct transfer *transfer)
{
	struct map_node *node, *next;

	for (node = map_iterate(&transfer->shards, NULL); node; node = next) {
		struct shard_job *shard = container_of(node, struct shard_job, node);

		next = map_iterate(&transfer->shards, node);
		list_for_each(pos, &shard->jobs)
			job_free(container_of(pos, struct copy_job, of_shard));
		list_for_each(pos, &shard->waits) {
			struct wait_msg *wait = container_of(pos, struct wait_msg, msg.link);

			list_remove(pos);
			wait_answer(wait, -ECANCELED);
		}
		shard_free(transfer, shard);
	}
	map_release(&transfer->shards);
	transfer->change_count = 0;
}
