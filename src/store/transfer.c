/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread keeps the accounts of copies (copies.c); everybody else sends it messages: shards to
 * place, answers of providers, marks of readers.  A round: take the messages, read a page of the
 * index if one is wanted, journal what changed, let its effects happen, start requests, sleep until
 * the next message or the next time at which something is due.  The thread waits for the index
 * alone, never for a provider; reading (fetch.c) runs on the reader's thread, repair (repair.c) and
 * fetching of objects that left the spool on the keeper's.
 */
#include "store/transfer_private.h"

#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One for repair whatever the others wait for: two for owed copies, one for scrub. */
#define KEEPER_THREADS	  4u
#define SOURCE_WORKERS	  2u
#define SWEEP_MS	  30000u /* repair looks at all bad copies again this often */
#define SEAL_LOOK_MS	  1000u
#define SUPERBLOCK_LOOK_MS 5000u /* one that could not be written is tried again */
#define IDLE_MS		  60000u
#define DRAIN_QUIET_MS	  2000u /* at the end: without any answer for so long, no more waiting */
#define DRAIN_LOOK_MS	  100u

static const char *const role_names[] = {"primary", "secondary", "tertiary"};

struct lane *transfer_lane(struct transfer *transfer, uint32_t provider_no)
{
	for (unsigned i = 0; i < transfer->lane_count; i++)
		if (transfer->lanes[i].provider.row.provider_no == provider_no)
			return &transfer->lanes[i];
	return NULL;
}

void transfer_post(struct transfer *transfer, struct msg *msg)
{
	LOCK_SCOPE(&transfer->lock);
	list_push_back(&transfer->inbox, &msg->link);
	cond_wake_all(&transfer->changed);
}

void transfer_turned(struct transfer *transfer, enum provider_turn turn)
{
	if (turn == PROVIDER_SAME)
		return;
	LOCK_SCOPE(&transfer->lock);
	transfer->is_turned = true;
	cond_wake_all(&transfer->changed);
}

void transfer_mark(struct transfer *transfer, uint64_t shard_no, uint32_t provider_no,
		   uint32_t state)
{
	struct mark_msg *msg = mem_alloc(sizeof(*msg));

	if (!msg)
		return;
	msg->msg.kind = MSG_MARK;
	msg->shard_no = shard_no;
	msg->provider_no = provider_no;
	msg->state = state;
	transfer_post(transfer, &msg->msg);
}

/* ---- opening ---- */

static void row_of_config(const struct config_provider *config, struct provider_row *row)
{
	*row = (struct provider_row){0};
	snprintf(row->name, sizeof(row->name), "%s", config->name);
	snprintf(row->type, sizeof(row->type), "%s", config->type);
	snprintf(row->vendor, sizeof(row->vendor), "%s",
		 config->vendor ? config->vendor : config->name);
	snprintf(row->region, sizeof(row->region), "%s", config->region ? config->region : "local");
	snprintf(row->role, sizeof(row->role), "%s", role_names[config->role]);
}

static struct lane *lane_add(struct transfer *transfer, const struct provider_row *row,
			     struct backend *backend)
{
	struct lane *lane = &transfer->lanes[transfer->lane_count++];

	provider_init(&lane->provider, row, backend);
	lane->transfer = transfer;
	list_init(&lane->sending);
	lane->is_overflown = true; /* the index may know owed copies */
	return lane;
}

static const struct provider_row *row_named(const struct provider_list *rows, const char *name)
{
	for (size_t i = 0; i < rows->count; i++)
		if (strcmp(rows->rows[i].name, name) == 0)
			return &rows->rows[i];
	return NULL;
}

static int open_configured(struct transfer *transfer, const struct provider_list *known,
			   uint32_t *next_no, struct buf *why)
{
	const struct config *config = transfer->settings.config;

	for (size_t i = 0; i < config->provider_count; i++) {
		const struct provider_row *have = row_named(known, config->providers[i].name);
		struct backend *backend;
		struct provider_row row;
		int r = provider_open(config, &config->providers[i], why, &backend);

		if (r < 0)
			return r;
		backend_bind(backend, transfer->fs_id);
		row_of_config(&config->providers[i], &row);
		row.provider_no = have && !have->is_forgotten ? have->provider_no : (*next_no)++;
		lane_add(transfer, &row, backend);
	}
	return 0;
}

static void add_unconfigured(struct transfer *transfer, const struct provider_list *known)
{
	for (size_t i = 0; i < known->count && transfer->lane_count < LANES_MAX; i++) {
		const struct provider_row *row = &known->rows[i];

		if (row->is_forgotten || transfer_lane(transfer, row->provider_no))
			continue;
		log_warn("provider-not-configured",
			 "provider=%s next=\"its copies count as away\"", row->name);
		lane_add(transfer, row, NULL);
	}
}

static int open_providers(struct transfer *transfer, struct buf *why)
{
	AUTO(provider_list) known = ROW_LIST_INIT;
	struct index_reader *reader;
	uint32_t next_no = 1;
	int r = index_reader_open(transfer->settings.index, &reader);

	if (r < 0)
		return r;
	r = index_list_providers(transfer->settings.index, reader, &known);
	index_reader_close(reader);
	for (size_t i = 0; i < known.count; i++)
		next_no = MAX(next_no, known.rows[i].provider_no + 1);
	if (r == 0)
		r = open_configured(transfer, &known, &next_no, why);
	if (r == 0)
		add_unconfigured(transfer, &known);
	return r;
}

static int add_chores(struct transfer *transfer)
{
	struct keeper_chore chores[] = {
		{"repair", 0, 1, SWEEP_MS, repair_run, transfer},
		{"owed-copies", 1, SOURCE_WORKERS, 0, source_run, transfer},
		{"superblock", 2, 1, SUPERBLOCK_LOOK_MS, superblock_run, transfer},
		{"idle-seal", 0, 1, SEAL_LOOK_MS, idle_seal_run, transfer},
	};
	int r = keeper_new(transfer->settings.index, &transfer->keeper);

	if (r < 0)
		return r;
	transfer->chore_repair = keeper_add(transfer->keeper, &chores[0]);
	transfer->chore_source = keeper_add(transfer->keeper, &chores[1]);
	transfer->chore_superblock = keeper_add(transfer->keeper, &chores[2]);
	keeper_add(transfer->keeper, &chores[3]);
	return 0;
}

int transfer_add_chore(struct transfer *transfer, const struct keeper_chore *chore)
{
	return keeper_add(transfer->keeper, chore);
}

int transfer_open(const struct transfer_settings *settings, struct buf *why, struct transfer **out)
{
	struct transfer *transfer = mem_alloc(sizeof(*transfer));
	int r = -ENOMEM;

	if (!transfer)
		return -ENOMEM;
	transfer->settings = *settings;
	transfer->queue_max = LANE_QUEUE_MAX;
	memcpy(transfer->fs_id, settings->fs_id, sizeof(transfer->fs_id));
	lock_init(&transfer->lock, LOCK_TRANSFER);
	cond_init(&transfer->changed);
	list_init(&transfer->inbox);
	list_init(&transfer->source_tasks);
	list_init(&transfer->releasable);
	list_init(&transfer->forgets);
	transfer->lanes = mem_alloc_array(LANES_MAX, sizeof(*transfer->lanes));
	transfer->changes = mem_alloc_array(CHANGES_MAX, sizeof(*transfer->changes));
	if (transfer->lanes && transfer->changes)
		r = open_providers(transfer, why);
	if (r == 0)
		r = add_chores(transfer);
	if (r < 0) {
		transfer_close(transfer);
		return r;
	}
	*out = transfer;
	return 0;
}

/* ---- the thread ---- */

struct round {
	struct list msgs;
	bool is_probe_asked, is_turned, is_draining, is_ending;
	struct scan scan;
};

/* Waits until there is something to do, at most until until_ms; takes it. */
static void round_take(struct transfer *transfer, uint64_t until_ms, struct round *round)
{
	LOCK_SCOPE(&transfer->lock);
	while (list_is_empty(&transfer->inbox) && !transfer->is_probe_asked &&
	       !transfer->is_turned && !transfer->wanted_scan.is_active && !transfer->is_ending) {
		uint64_t now = clock_mono_ms();

		if (now >= until_ms)
			break;
		cond_wait_ms(&transfer->changed, &transfer->lock, until_ms - now);
	}
	list_splice_back(&round->msgs, &transfer->inbox);
	round->is_probe_asked = transfer->is_probe_asked;
	round->is_turned = transfer->is_turned;
	round->is_draining = transfer->is_draining;
	round->is_ending = transfer->is_ending;
	round->scan = transfer->wanted_scan;
	transfer->is_probe_asked = transfer->is_turned = false;
	transfer->wanted_scan.is_active = false;
}

/* What needs room in the journal's batch stays in round->msgs when there is none. */
static void round_handle(struct transfer *transfer, struct round *round)
{
	list_for_each(pos, &round->msgs) {
		struct msg *msg = container_of(pos, struct msg, link);

		if ((msg->kind == MSG_ADD || msg->kind == MSG_MARK) &&
		    !copies_has_room(transfer) && copies_flush(transfer, clock_mono_ms()) < 0)
			continue;
		list_remove(pos);
		switch (msg->kind) {
		case MSG_ADD:
			copies_add(transfer, container_of(msg, struct add_msg, msg));
			break;
		case MSG_DONE:
			copies_done(transfer, container_of(msg, struct copy_job, msg));
			break;
		case MSG_WAIT:
			copies_wait(transfer, container_of(msg, struct wait_msg, msg));
			break;
		case MSG_MARK:
			copies_mark(transfer, container_of(msg, struct mark_msg, msg));
			break;
		case MSG_SOURCED:
			copies_sourced(transfer, container_of(msg, struct source_task, msg));
			break;
		case MSG_FORGET:
			list_push_back(&transfer->forgets, &msg->link);
			break;
		}
	}
}

static void probe_done(struct backend_req *req)
{
	struct lane *lane = container_of(req, struct lane, probe);
	enum provider_turn turn = provider_answered(&lane->provider, req, clock_mono_ms());

	/* also when it stays away: the time of the next look has changed */
	transfer_turned(lane->transfer, turn == PROVIDER_SAME ? PROVIDER_WENT : turn);
}

static void round_probe(struct transfer *transfer, bool is_forced, uint64_t now_ms,
			uint64_t *next_ms)
{
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct lane *lane = &transfer->lanes[i];
		int r;

		if (!provider_take_probe(&lane->provider, is_forced, now_ms, next_ms))
			continue;
		lane->probe = (struct backend_req){
			.op = BACKEND_HEAD, .key = SUPERBLOCK_KEY, .done = probe_done};
		r = backend_submit(lane->provider.backend, &lane->probe);
		if (r < 0) {
			lane->probe.error = r;
			probe_done(&lane->probe);
		}
	}
}

static void round_turned(struct transfer *transfer)
{
	copies_turned(transfer);
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct lane *lane = &transfer->lanes[i];
		bool is_present = provider_is_present(&lane->provider);

		if (is_present && !lane->was_present)
			lane->wants_superblock = true;
		lane->was_present = is_present;
	}
	transfer->is_repair_turned = true;
	keeper_wake(transfer->keeper, transfer->chore_superblock);
	keeper_wake(transfer->keeper, transfer->chore_repair);
	keeper_wake(transfer->keeper, transfer->chore_source);
}

/* Ends when asked to and nothing is in flight. */
static void *transfer_main(void *arg)
{
	struct transfer *transfer = arg;
	struct round round = {.scan = {0}};
	uint64_t until = 0;
	bool is_canceled = false;

	list_init(&round.msgs);
	for (;;) {
		uint64_t now, next;
		bool has_more = false;

		round_take(transfer, until, &round);
		now = clock_mono_ms();
		next = now + IDLE_MS;
		round_handle(transfer, &round);
		if (round.scan.is_active)
			copies_scan_start(transfer, &round.scan);
		if (round.is_turned || round.is_probe_asked)
			round_turned(transfer);
		if (!round.is_ending) {
			has_more = copies_page(transfer);
			round_probe(transfer, round.is_probe_asked, now, &next);
		}
		copies_flush(transfer, now);
		copies_forget(transfer);
		copies_pump(transfer, !round.is_ending && transfer->flush_at_ms == 0, now, &next);
		if (round.is_draining) {
			next = MIN(next, now + DRAIN_LOOK_MS);
			lock_take(&transfer->lock);
			if (list_is_empty(&transfer->inbox) && list_is_empty(&round.msgs) &&
			    copies_is_drained(transfer))
				transfer->is_draining = false;
			cond_wake_all(&transfer->changed);
			lock_drop(&transfer->lock);
		}
		if (round.is_ending && !is_canceled) {
			copies_cancel(transfer);
			is_canceled = true;
		}
		if (round.is_ending && copies_inflight(transfer) == 0)
			break;
		if (round.is_ending)
			next = now + DRAIN_LOOK_MS;
		until = has_more ? now : next;
	}
	transfer->flush_at_ms = 0;
	copies_flush(transfer, clock_mono_ms());
	lock_take(&transfer->lock); /* what could not be handled goes back, to be freed */
	list_splice_back(&transfer->inbox, &round.msgs);
	list_splice_back(&transfer->inbox, &transfer->forgets);
	lock_drop(&transfer->lock);
	return NULL;
}

/* New and changed providers get their rows. */
static int note_providers(struct transfer *transfer, struct index_reader *reader)
{
	AUTO(provider_list) known = ROW_LIST_INIT;
	struct record *record;
	uint64_t seq;
	int r = index_list_providers(transfer->settings.index, reader, &known);

	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		const struct provider_row *row = &transfer->lanes[i].provider.row;
		const struct provider_row *have = row_named(&known, row->name);

		if (have && have->provider_no == row->provider_no &&
		    strcmp(have->type, row->type) == 0 && strcmp(have->vendor, row->vendor) == 0 &&
		    strcmp(have->region, row->region) == 0 && strcmp(have->role, row->role) == 0)
			continue;
		record_put_provider(record, row);
		transfer->has_new_providers = true;
	}
	return sequencer_submit(transfer->settings.sequencer, record, &seq);
}

int transfer_start(struct transfer *transfer, struct index_reader *reader)
{
	int r = note_providers(transfer, reader);

	if (r == 0)
		r = index_reader_open(transfer->settings.index, &transfer->reader);
	if (r == 0)
		r = aead_ctx_new(&transfer->aead);
	if (r < 0)
		return r;
	transfer->wanted_scan = (struct scan){.is_active = true,
					      .is_sealed_only = !transfer->has_new_providers};
	r = keeper_start(transfer->keeper, KEEPER_THREADS);
	if (r == 0)
		r = thread_start(&transfer->thread, "transfer", transfer_main, transfer);
	if (r < 0) {
		keeper_stop(transfer->keeper);
		return r;
	}
	transfer->is_running = true;
	return 0;
}

static uint64_t count_answers(struct transfer *transfer)
{
	uint64_t queued = 0;

	for (unsigned i = 0; i < transfer->lane_count; i++)
		queued += transfer->lanes[i].queued_copies;
	return queued;
}

static void drain(struct transfer *transfer)
{
	uint64_t start = clock_mono_ms(), quiet_since = start, seen = count_answers(transfer);

	LOCK_SCOPE(&transfer->lock);
	transfer->is_draining = true;
	transfer->is_turned = true; /* wakes it */
	cond_wake_all(&transfer->changed);
	while (transfer->is_draining) {
		uint64_t now = clock_mono_ms(), left = count_answers(transfer);

		if (left != seen)
			quiet_since = now;
		seen = left;
		if (now - start >= TRANSFER_DRAIN_MS || now - quiet_since >= DRAIN_QUIET_MS)
			break;
		cond_wait_ms(&transfer->changed, &transfer->lock, DRAIN_LOOK_MS);
	}
	transfer->is_draining = false;
}

void transfer_stop(struct transfer *transfer)
{
	if (!transfer || !transfer->is_running)
		return;
	drain(transfer);
	transfer->is_stopping = true;
	keeper_stop(transfer->keeper);
	repair_tell(transfer);
	lock_take(&transfer->lock);
	transfer->is_ending = true;
	cond_wake_all(&transfer->changed);
	lock_drop(&transfer->lock);
	pthread_join(transfer->thread, NULL);
	transfer->is_running = false;
	copies_free_all(transfer);
	index_reader_close(transfer->reader);
	transfer->reader = NULL;
}

static void free_msg(struct msg *msg)
{
	if (msg->kind == MSG_WAIT) {
		struct wait_msg *wait = container_of(msg, struct wait_msg, msg);

		wait->waiter->done(wait->waiter, -ECANCELED);
	} else if (msg->kind == MSG_FORGET) {
		struct forget_msg *forget = container_of(msg, struct forget_msg, msg);

		forget->waiter->done(forget->waiter, -ECANCELED);
	} else if (msg->kind == MSG_SOURCED) {
		buf_release(&container_of(msg, struct source_task, msg)->object);
	}
	mem_free(msg); /* first in each of them */
}

void transfer_close(struct transfer *transfer)
{
	if (!transfer)
		return;
	transfer_stop(transfer);
	for (unsigned i = 0; i < transfer->lane_count; i++)
		provider_release(&transfer->lanes[i].provider);
	list_splice_back(&transfer->inbox, &transfer->source_tasks);
	list_for_each(pos, &transfer->inbox) {
		struct msg *msg = container_of(pos, struct msg, link);

		list_remove(pos);
		assert(msg->kind != MSG_DONE);
		free_msg(msg);
	}
	keeper_free(transfer->keeper);
	copy_list_release(&transfer->repair.page);
	buf_release(&transfer->repair.repairs);
	aead_ctx_free(transfer->aead);
	cond_release(&transfer->changed);
	lock_release(&transfer->lock);
	mem_free(transfer->lanes);
	mem_free(transfer->changes);
	mem_free(transfer);
}

/* ---- what others ask ---- */

void transfer_add(struct transfer *transfer, const struct shard_row *shard)
{
	struct add_msg *msg = mem_alloc(sizeof(*msg));

	if (msg) {
		msg->msg.kind = MSG_ADD;
		msg->shard = *shard;
		transfer_post(transfer, &msg->msg);
		return;
	}
	/* no memory: it is in the index as sealed, and looked for there */
	LOCK_SCOPE(&transfer->lock);
	if (!transfer->wanted_scan.is_active)
		transfer->wanted_scan = (struct scan){.is_sealed_only = true};
	transfer->wanted_scan.is_active = true;
	cond_wake_all(&transfer->changed);
}

void transfer_when_copied(struct transfer *transfer, uint64_t shard_no, unsigned copies,
			  struct waiter *waiter)
{
	struct wait_msg *msg = mem_alloc(sizeof(*msg));

	if (!msg) {
		waiter->done(waiter, -ENOMEM);
		return;
	}
	msg->msg.kind = MSG_WAIT;
	msg->shard_no = shard_no;
	msg->copies = copies;
	msg->waiter = waiter;
	transfer_post(transfer, &msg->msg);
}

void transfer_forget(struct transfer *transfer, uint64_t shard_no, struct waiter *waiter)
{
	struct forget_msg *msg = mem_alloc(sizeof(*msg));

	if (!msg) {
		waiter->done(waiter, -ENOMEM);
		return;
	}
	msg->msg.kind = MSG_FORGET;
	msg->shard_no = shard_no;
	msg->waiter = waiter;
	transfer_post(transfer, &msg->msg);
}

/* A request of at most a byte on behalf of somebody who waits. */
struct errand {
	struct backend_req req;
	struct lane *lane;
	struct waiter *waiter;
	char key[BACKEND_KEY_MAX + 1];
	uint8_t byte;
};

static void errand_done(struct backend_req *req)
{
	struct errand *errand = container_of(req, struct errand, req);
	struct waiter *waiter = errand->waiter;
	struct lane *lane = errand->lane;
	int error = req->error;

	transfer_turned(lane->transfer,
			provider_answered(&lane->provider, req, clock_mono_ms()));
	mem_free(errand);
	waiter->done(waiter, error == -ENOENT ? 0 : error);
}

static void errand_run(struct lane *lane, enum backend_op op, const char *key,
		       struct waiter *waiter)
{
	struct errand *errand = mem_alloc(sizeof(*errand));
	int r;

	if (!errand) {
		waiter->done(waiter, -ENOMEM);
		return;
	}
	errand->lane = lane;
	errand->waiter = waiter;
	snprintf(errand->key, sizeof(errand->key), "%s", key);
	errand->req = (struct backend_req){.op = op,
					   .key = errand->key,
					   .len = 1,
					   .into = &errand->byte,
					   .done = errand_done};
	r = backend_submit(lane->provider.backend, &errand->req);
	if (r < 0) {
		errand->req.error = r;
		errand_done(&errand->req);
	}
}

void transfer_ask(struct transfer *transfer, unsigned i, struct waiter *waiter)
{
	struct lane *lane = &transfer->lanes[i];

	assert(i < transfer->lane_count);
	if (!lane->provider.backend)
		waiter->done(waiter, -ENODEV);
	else
		errand_run(lane, BACKEND_GET, SUPERBLOCK_KEY, waiter); /* HEAD is the probe's */
}

void transfer_delete_copy(struct transfer *transfer, const struct shard_row *shard,
			  const struct copy_row *copy, struct waiter *waiter)
{
	struct lane *lane = transfer_lane(transfer, copy->provider_no);

	if (!lane || !lane->provider.backend) {
		waiter->done(waiter, -ENODEV);
		return;
	}
	if (!provider_is_present(&lane->provider)) {
		waiter->done(waiter, -EAGAIN);
		return;
	}
	if (copy_is_valid(copy) && shard->shard_no <= transfer->counted_upto)
		lane_count_copies(lane, -1, shard->object_len);
	errand_run(lane, BACKEND_DELETE, shard_id_hex(&shard->id).s, waiter);
}

uint64_t transfer_sweep(struct transfer *transfer)
{
	uint64_t sweep = ++transfer->sweeps_wanted;

	transfer->is_repair_turned = true;
	keeper_wake(transfer->keeper, transfer->chore_repair);
	return sweep;
}

bool transfer_sweep_wait(struct transfer *transfer, uint64_t sweep, uint64_t ms)
{
	uint64_t until = clock_mono_ms() + ms;

	LOCK_SCOPE(&transfer->lock);
	while (transfer->sweeps_done < sweep) {
		uint64_t now = clock_mono_ms();

		if (now >= until)
			return false;
		cond_wait_ms(&transfer->changed, &transfer->lock, until - now);
	}
	return true;
}

unsigned transfer_provider_count(struct transfer *transfer)
{
	return transfer->lane_count;
}

void transfer_provider_status(struct transfer *transfer, unsigned i, struct provider_status *out)
{
	struct lane *lane = &transfer->lanes[i];

	assert(i < transfer->lane_count);
	provider_status_of(&lane->provider, out);
	out->queued_copies = lane->queued_copies;
	out->queued_bytes = lane->queued_bytes;
	out->objects = lane->objects;
	out->bytes = lane->bytes;
}

struct backend *transfer_backend(struct transfer *transfer, unsigned i, bool *is_present)
{
	struct provider *provider = &transfer->lanes[i].provider;

	assert(i < transfer->lane_count);
	*is_present = provider_is_present(provider);
	return provider->backend;
}

bool transfer_takes_new(struct transfer *transfer, unsigned i)
{
	struct provider_facts facts;

	assert(i < transfer->lane_count);
	provider_facts_of(&transfer->lanes[i].provider, &facts);
	return facts.is_present && facts.takes_new;
}

unsigned transfer_facts(struct transfer *transfer, struct provider_facts *out, unsigned out_max)
{
	unsigned count = MIN(transfer->lane_count, out_max);

	for (unsigned i = 0; i < count; i++)
		provider_facts_of(&transfer->lanes[i].provider, &out[i]);
	return count;
}

unsigned transfer_clocks(struct transfer *transfer, struct clock_sample *samples,
			 unsigned sample_max, unsigned *sample_count)
{
	unsigned clocks = 0;

	*sample_count = 0;
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct provider *provider = &transfer->lanes[i].provider;
		struct clock_sample sample;

		if (!provider_has_clock(provider))
			continue;
		clocks++;
		if (*sample_count < sample_max && provider_clock(provider, &sample))
			samples[(*sample_count)++] = sample;
	}
	return clocks;
}

void transfer_probe(struct transfer *transfer)
{
	LOCK_SCOPE(&transfer->lock);
	transfer->is_probe_asked = true;
	cond_wake_all(&transfer->changed);
}

void transfer_policy_changed(struct transfer *transfer, uint64_t policy_root)
{
	LOCK_SCOPE(&transfer->lock);
	if (transfer->wanted_scan.is_active &&
	    (transfer->wanted_scan.is_sealed_only || transfer->wanted_scan.root != policy_root))
		policy_root = 0;
	transfer->wanted_scan = (struct scan){.is_active = true, .root = policy_root};
	cond_wake_all(&transfer->changed);
}
