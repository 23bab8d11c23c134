/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the applier's batches to objects in a local directory, and from there to the providers.
 *
 *	noted      records were handed to us: durable in the journal, applied to the index
 *	block      those that follow each other, being collected; then waiting to be sealed
 *	upto       segments in the directory, durable, reach so far
 *	shipped    a provider has everything that is in the directory
 *
 * Invariant: what is noted and not in the directory is in the journal (oplog_drop_limit), so that
 * nothing is lost to the providers by a crash.  A run of records with nothing for us at the end of
 * the journal needs no segment: how far that run goes is kept in the file `covered`.
 *
 * When more waits than the bound, or the directory is new, or the journal has a gap, the collected
 * records are dropped and a snapshot takes their place; until it is there the journal keeps them.
 *
 * A block is sealed when each shard that it introduces has a copy somewhere, or its oldest record
 * has waited delay_max_ms, or it is full, or somebody waits for it.
 */
#include "store/oplog_private.h"

#include "backends/backend.h"
#include "store/placement.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define LOOK_MS	    500u  /* whether shards have copies by now */
#define SETTLE_MS   1000u /* a change waits at least so long, so that others join it */
#define RETRY_MS    2000u
#define COVERED_NAME "covered"

/* ---- collecting ---- */

void oplog_block_free(struct oplog_block *block)
{
	if (!block)
		return;
	buf_release(&block->records);
	mem_free(block);
}

static struct oplog_block *last_block(struct oplog *oplog)
{
	return list_is_empty(&oplog->blocks)
		       ? NULL
		       : container_of(oplog->blocks.prev, struct oplog_block, link);
}

/* Shards that one record introduces chunks of. */
struct seen {
	uint64_t shards[8];
	unsigned count;
	bool is_more;
};

static void saw_change(void *ctx, const struct change *change)
{
	struct seen *seen = ctx;
	uint64_t shard_no = change->u.chunk.shard_no;

	if (change->type != CHANGE_CHUNK_PUT ||
	    (seen->count > 0 && seen->shards[seen->count - 1] == shard_no))
		return;
	if (seen->count == ARRAY_COUNT(seen->shards))
		seen->is_more = true;
	else
		seen->shards[seen->count++] = shard_no;
}

static void add_shard(struct oplog_block *block, uint64_t shard_no)
{
	for (unsigned i = block->shard_count; i-- > 0;)
		if (block->shards[i] == shard_no)
			return;
	if (block->shard_count == OPLOG_SHARDS_MAX)
		block->is_more_shards = true;
	else
		block->shards[block->shard_count++] = shard_no;
}

static void lose_locked(struct oplog *oplog, const char *why)
{
	if (!oplog->needs_snapshot)
		log_info("oplog-gap", "why=" LOG_Q " next=\"a snapshot takes its place\"", why);
	oplog->needs_snapshot = oplog->is_lost = true;
	oplog->retry_at_ms = 0;
}

/* The block that takes the next record; NULL: over the bound, or no memory. */
static struct oplog_block *open_block_locked(struct oplog *oplog)
{
	struct oplog_block *block = last_block(oplog);

	if (block && block->records.len < OPLOG_BLOCK_BYTES)
		return block;
	if (block)
		oplog->next_first = block->last + 1;
	if (oplog->block_count == OPLOG_BLOCKS_MAX)
		return NULL;
	block = mem_alloc(sizeof(*block));
	if (!block)
		return NULL;
	block->first = oplog->next_first;
	block->since_ms = clock_mono_ms();
	list_push_back(&oplog->blocks, &block->link);
	oplog->block_count++;
	return block;
}

static int note_locked(struct oplog *oplog, const struct record *record, struct buf *scratch)
{
	struct seen seen = {.count = 0};
	struct oplog_block *block;
	unsigned count;
	int r;

	buf_clear(scratch);
	r = oplog_filter(buf_bytes(&record->changes), saw_change, &seen, scratch, &count);
	if (r < 0)
		return r;
	if (count == 0) {
		block = last_block(oplog);
		if (block)
			block->last = record->seq;
		return 0;
	}
	block = open_block_locked(oplog);
	if (!block)
		return -ENOBUFS;
	r = oplog_put_record(record->seq, buf_bytes(scratch), &block->records);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < seen.count; i++)
		add_shard(block, seen.shards[i]);
	block->is_more_shards |= seen.is_more;
	block->record_count++;
	block->last = record->seq;
	return 0;
}

static void seal_without_maker(struct oplog *oplog);

void oplog_note(struct oplog *oplog, struct record *const *records, size_t count)
{
	AUTO(buf) scratch = BUF_INIT;
	bool is_many, is_waited;

	lock_take(&oplog->lock);
	for (size_t i = 0; i < count; i++) {
		const struct record *record = records[i];
		int r = 0;

		if (record->seq <= oplog->noted)
			continue;
		if (record->seq != oplog->noted + 1)
			lose_locked(oplog, "records are missing");
		if (!oplog->is_lost)
			r = note_locked(oplog, record, &scratch);
		if (r < 0)
			lose_locked(oplog, r == -ENOBUFS ? "too much waits" : err_sentence(r));
		oplog->noted = record->seq;
	}
	is_many = !oplog->is_running && oplog->block_count > OPLOG_BLOCKS_MAX / 2;
	is_waited = !list_is_empty(&oplog->waiters);
	cond_wake_all(&oplog->work);
	lock_drop(&oplog->lock);
	if (is_many)
		seal_without_maker(oplog);
	if (is_waited)
		oplog_tell(oplog); /* there may have been nothing for us in them */
}

uint64_t oplog_covered_locked(const struct oplog *oplog)
{
	return oplog->block_count == 0 && !oplog->is_sealing && !oplog->needs_snapshot
		       ? oplog->noted
		       : oplog->upto;
}

void oplog_replayed(struct oplog *oplog, uint64_t seq)
{
	LOCK_SCOPE(&oplog->lock);
	if (oplog->noted < seq) {
		lose_locked(oplog, "the journal begins later");
		oplog->noted = seq;
	}
}

uint64_t oplog_replay_after(struct oplog *oplog)
{
	LOCK_SCOPE(&oplog->lock);
	return oplog->noted;
}

static void save_covered(struct oplog *oplog, uint64_t upto, uint64_t covered)
{
	AUTO(buf) text = BUF_INIT;

	if (buf_printf(&text, "%" PRIu64 " %" PRIu64 "\n", upto, covered) < 0 ||
	    oplog_dir_write(oplog->dir, COVERED_NAME, buf_bytes(&text), true) < 0)
		return;
	oplog->covered_saved = covered;
}

uint64_t oplog_drop_limit(struct oplog *oplog)
{
	uint64_t upto, covered;

	lock_take(&oplog->lock);
	upto = oplog->upto;
	covered = oplog_covered_locked(oplog);
	lock_drop(&oplog->lock);
	if (covered > upto && covered > oplog->covered_saved)
		save_covered(oplog, upto, covered);
	return MAX(upto, oplog->covered_saved);
}

/* ---- the maker ---- */

static void seal_first(struct oplog *oplog)
{
	struct oplog_block *block;
	int r;

	lock_take(&oplog->lock);
	block = container_of(oplog->blocks.next, struct oplog_block, link);
	list_remove(&block->link);
	oplog->block_count--;
	oplog->next_first = MAX(oplog->next_first, block->last + 1);
	oplog->is_sealing = true;
	lock_drop(&oplog->lock);
	r = oplog_seal_block(oplog, block);
	lock_take(&oplog->lock);
	oplog->is_sealing = false;
	if (r < 0) {
		log_warn("oplog-segment-failed", "error=%s next=\"tried again\"", err_name(r));
		list_push_front(&oplog->blocks, &block->link);
		oplog->block_count++;
		oplog->retry_at_ms = clock_mono_ms() + RETRY_MS;
	}
	cond_wake_all(&oplog->changed);
	lock_drop(&oplog->lock);
	if (r == 0)
		oplog_block_free(block);
}

/* While the journal is replayed there is no maker yet. */
static void seal_without_maker(struct oplog *oplog)
{
	while (oplog->block_count > 1 && !oplog->needs_snapshot && oplog->retry_at_ms == 0)
		seal_first(oplog);
}

static void make_snapshot(struct oplog *oplog)
{
	int r = oplog_make_snapshot(oplog);

	if (r == 0)
		return;
	if (r != -ECANCELED)
		log_warn("oplog-snapshot-failed", "error=%s next=\"tried again\"", err_name(r));
	LOCK_SCOPE(&oplog->lock);
	oplog->retry_at_ms = clock_mono_ms() + RETRY_MS;
}

void oplog_renew(struct oplog *oplog)
{
	LOCK_SCOPE(&oplog->lock);
	oplog->is_renewal = true;
	oplog->retry_at_ms = 0;
	cond_wake_all(&oplog->work);
}

static bool is_introduced_safe(struct oplog *oplog, uint64_t shard_no)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct shard_row shard;
	int r = index_get_shard(oplog->set.index, oplog->reader, shard_no, &shard);

	/* gone meanwhile, such as one whose records moved after a crash: it will never have one */
	if (r == -ENOENT || (r == 0 && shard.state != SHARD_OPEN && shard.state != SHARD_SEALED &&
			     shard.state != SHARD_DURABLE))
		return true;
	if (r < 0 ||
	    index_list_copies(oplog->set.index, oplog->reader, shard_no, &copies) < 0)
		return false;
	for (size_t i = 0; i < copies.count; i++)
		if (copy_is_valid(&copies.rows[i]))
			return true;
	return false;
}

/* The lock is dropped while the index is asked. */
static bool are_shards_safe_locked(struct oplog *oplog, const struct oplog_block *block)
{
	uint64_t shards[OPLOG_SHARDS_MAX];
	unsigned count = block->shard_count;
	bool is_safe = !block->is_more_shards;

	memcpy(shards, block->shards, count * sizeof(shards[0]));
	lock_drop(&oplog->lock);
	for (unsigned i = 0; i < count && is_safe; i++)
		is_safe = is_introduced_safe(oplog, shards[i]);
	lock_take(&oplog->lock);
	return is_safe;
}

static bool is_block_due_locked(struct oplog *oplog, uint64_t now_ms)
{
	const struct oplog_block *block =
		container_of(oplog->blocks.next, struct oplog_block, link);
	uint64_t age = now_ms - block->since_ms;

	if (oplog->is_flushing_all || oplog->flush_seq >= block->first || oplog->block_count > 1 ||
	    block->records.len >= OPLOG_BLOCK_BYTES || age >= oplog->set.delay_max_ms)
		return true;
	return age >= SETTLE_MS && are_shards_safe_locked(oplog, block);
}

static bool is_snapshot_due_locked(const struct oplog *oplog)
{
	return oplog->needs_snapshot || oplog->is_renewal || oplog->segment_count > OPLOG_SEGMENTS_MAX ||
	       oplog->segment_bytes > MAX(oplog->set.snapshot_bytes_min, oplog->snapshot_bytes);
}

static void *maker_run(void *arg)
{
	struct oplog *oplog = arg;

	lock_take(&oplog->lock);
	while (!oplog->is_ending) {
		uint64_t now = clock_mono_ms();

		if (now < oplog->retry_at_ms) {
			cond_wait_ms(&oplog->work, &oplog->lock, oplog->retry_at_ms - now);
		} else if (is_snapshot_due_locked(oplog)) {
			lock_drop(&oplog->lock);
			make_snapshot(oplog);
			oplog_tell(oplog);
			lock_take(&oplog->lock);
		} else if (oplog->block_count == 0) {
			cond_wait(&oplog->work, &oplog->lock);
		} else if (is_block_due_locked(oplog, now)) {
			lock_drop(&oplog->lock);
			seal_first(oplog);
			lock_take(&oplog->lock);
		} else {
			cond_wait_ms(&oplog->work, &oplog->lock, LOOK_MS);
		}
	}
	lock_drop(&oplog->lock);
	return NULL;
}

/* ---- waiting ---- */

/* Up to where a provider has everything. */
uint64_t oplog_lane_seq_locked(const struct oplog *oplog, const struct oplog_lane *lane)
{
	return lane->shipped_generation == oplog->generation && oplog->generation > 0
		       ? oplog_covered_locked(oplog)
		       : lane->shipped_seq;
}

static bool is_served_locked(const struct oplog *oplog, uint64_t seq, unsigned providers)
{
	unsigned served = 0, missing = 0;

	for (unsigned i = 0; i < oplog->lane_count; i++) {
		const struct oplog_lane *lane = &oplog->lanes[i];
		bool has = oplog_lane_seq_locked(oplog, lane) >= seq, is_present;

		/* the lane itself may not have noticed yet that it came */
		transfer_backend(oplog->transfer, lane->no, &is_present);
		missing += !has && !oplog_lane_is_fenced(lane) &&
			   transfer_takes_new(oplog->transfer, lane->no);
		served += has && (providers > 0 || is_present);
	}
	return providers > 0 ? served >= providers : served > 0 && missing == 0;
}

void oplog_tell(struct oplog *oplog)
{
	struct list served = LIST_INIT(served);

	lock_take(&oplog->lock);
	list_for_each(pos, &oplog->waiters) {
		struct oplog_waiter *wait = container_of(pos, struct oplog_waiter, link);

		if (!is_served_locked(oplog, wait->seq, wait->providers))
			continue;
		list_remove(pos);
		list_push_back(&served, pos);
	}
	lock_drop(&oplog->lock);
	list_for_each(pos, &served) {
		struct oplog_waiter *wait = container_of(pos, struct oplog_waiter, link);

		list_remove(pos);
		wait->waiter->done(wait->waiter, 0);
		mem_free(wait);
	}
}

void oplog_when_shipped(struct oplog *oplog, uint64_t seq, unsigned providers,
			struct waiter *waiter)
{
	struct oplog_waiter *wait = mem_alloc(sizeof(*wait));

	if (!wait) {
		waiter->done(waiter, -ENOMEM);
		return;
	}
	wait->seq = seq;
	wait->providers = providers;
	wait->waiter = waiter;
	lock_take(&oplog->lock);
	if (oplog->is_closed || !oplog->is_running) {
		lock_drop(&oplog->lock);
		mem_free(wait);
		waiter->done(waiter, -ECANCELED);
		return;
	}
	list_push_back(&oplog->waiters, &wait->link);
	oplog->flush_seq = MAX(oplog->flush_seq, seq);
	cond_wake_all(&oplog->work);
	cond_wake_all(&oplog->changed);
	lock_drop(&oplog->lock);
	oplog_tell(oplog);
}

bool oplog_push(struct oplog *oplog, uint64_t seq, unsigned providers)
{
	LOCK_SCOPE(&oplog->lock);
	oplog->flush_seq = MAX(oplog->flush_seq, seq);
	cond_wake_all(&oplog->work);
	return is_served_locked(oplog, seq, providers);
}

enum oplog_reach oplog_reach(struct oplog *oplog, uint64_t seq, unsigned providers)
{
	unsigned have = 0, may_have = 0;

	LOCK_SCOPE(&oplog->lock);
	for (unsigned i = 0; i < oplog->lane_count; i++) {
		const struct oplog_lane *lane = &oplog->lanes[i];
		bool has = oplog_lane_seq_locked(oplog, lane) >= seq, is_present;

		transfer_backend(oplog->transfer, lane->no, &is_present);
		have += has;
		may_have += has || (is_present && !oplog_lane_is_fenced(lane));
	}
	providers = MIN(providers, oplog->lane_count);
	return have >= providers       ? OPLOG_REACHED
	       : may_have >= providers ? OPLOG_SENDING
				       : OPLOG_OWED;
}

void oplog_cancel_waiters(struct oplog *oplog)
{
	struct list waiters = LIST_INIT(waiters);

	if (!oplog)
		return;
	lock_take(&oplog->lock);
	oplog->is_closed = true;
	list_splice_back(&waiters, &oplog->waiters);
	lock_drop(&oplog->lock);
	list_for_each(pos, &waiters) {
		struct oplog_waiter *wait = container_of(pos, struct oplog_waiter, link);

		list_remove(pos);
		wait->waiter->done(wait->waiter, -ECANCELED);
		mem_free(wait);
	}
}

void oplog_status(struct oplog *oplog, struct oplog_status *out)
{
	struct oplog_status status = {0};

	LOCK_SCOPE(&oplog->lock);
	status.noted_seq = oplog->noted;
	status.sealed_seq = oplog->upto;
	status.shipped_seq = oplog->lane_count > 0 ? oplog->noted : 0;
	status.unsettled = oplog->is_renewal || oplog->is_renewing;
	for (unsigned i = 0; i < oplog->lane_count; i++) {
		const struct oplog_lane *lane = &oplog->lanes[i];
		uint64_t seq = oplog_lane_seq_locked(oplog, lane);

		status.shipped_seq = MIN(status.shipped_seq, seq);
		status.behind += lane->is_present && seq < oplog->noted;
		status.unsettled += lane->is_present && !lane->is_fenced &&
				    (lane->shipped_generation < oplog->generation ||
				     lane->pruned_upto < oplog->generation);
	}
	*out = status;
}

/* ---- opening ---- */

static int read_root(struct oplog *oplog, const struct oplog_name *name, struct oplog_root *out)
{
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) body = BUF_INIT;
	char text[OPLOG_NAME_SIZE];
	struct digest hash;
	int r = oplog_dir_read(oplog->dir, oplog_name_print(name, text), &object);

	if (r == 0)
		r = oplog_open_object(oplog->set.keyring, oplog->ctx, name, buf_bytes(&object),
				      &body, &hash);
	return r < 0 ? r : oplog_root_read(buf_bytes(&body), out);
}

/* The root and its parts into oplog->files.  -ENOENT: a part is not there. */
static int take_snapshot(struct oplog *oplog, const struct oplog_files *found,
			 const struct oplog_file *file, const struct oplog_root *root)
{
	struct oplog_file part = {.name = file->name};
	int r = 0;

	for (uint32_t i = 0; i < root->part_count && r == 0; i++) {
		const struct oplog_file *have;

		part.name.kind = OPLOG_PART;
		part.name.part = i;
		have = oplog_files_find(found, &part.name);
		if (!have || have->len != root->parts[i].len)
			return -ENOENT;
		oplog->snapshot_bytes += have->len;
		r = oplog_files_add(&oplog->files, have);
	}
	return r < 0 ? r : oplog_files_add(&oplog->files, file);
}

static const struct oplog_file *segment_after(const struct oplog_files *found, uint32_t epoch,
					      uint64_t seq)
{
	for (size_t i = 0; i < found->count; i++) {
		const struct oplog_name *name = &found->files[i].name;

		if (name->kind == OPLOG_SEGMENT && name->epoch == epoch && name->first == seq + 1)
			return &found->files[i];
	}
	return NULL;
}

static int take_segments(struct oplog *oplog, const struct oplog_files *found, uint32_t epoch)
{
	const struct oplog_file *file;
	char text[OPLOG_NAME_SIZE];

	while ((file = segment_after(found, epoch, oplog->upto)) != NULL) {
		AUTO(buf) object = BUF_INIT;
		struct digest hash;
		int r = oplog_dir_read(oplog->dir, oplog_name_print(&file->name, text), &object);

		if (r == 0)
			r = oplog_hash(oplog->set.keyring, buf_bytes(&object), &hash);
		if (r < 0 || memcmp(hash.b, file->name.id, sizeof(file->name.id)) != 0) {
			log_warn("oplog-file-damaged", "file=%s next=\"made again\"", text);
			return r == -ENOMEM ? r : 0;
		}
		r = oplog_files_add(&oplog->files, file);
		if (r < 0)
			return r;
		oplog->upto = file->name.last;
		oplog->segment_bytes += file->len;
		oplog->segment_count++;
		oplog->previous = hash;
	}
	return 0;
}

/* Newest snapshot that is whole, then the chain behind it. */
static int take_state(struct oplog *oplog, const struct oplog_files *found)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;
	int r = oplog_files_roots(found, &roots);

	for (size_t i = 0; i < roots.count && r == 0; i++) {
		AUTO(oplog_root) root = OPLOG_ROOT_INIT;

		if (roots.files[i].name.epoch != oplog->set.writer_epoch)
			continue;
		oplog->files.count = 0;
		oplog->snapshot_bytes = 0;
		if (read_root(oplog, &roots.files[i].name, &root) < 0 ||
		    take_snapshot(oplog, found, &roots.files[i], &root) < 0)
			continue;
		oplog->upto = root.chain_seq;
		oplog->previous = root.chain_hash;
		oplog->needs_snapshot = oplog->is_lost = false;
		oplog->generation = 1;
		return take_segments(oplog, found, roots.files[i].name.epoch);
	}
	oplog->files.count = 0;
	oplog->snapshot_bytes = 0;
	return r;
}

static void remove_others(struct oplog *oplog, const struct oplog_files *found)
{
	AUTO(oplog_files) kept = OPLOG_FILES_INIT;
	char text[OPLOG_NAME_SIZE];

	if (oplog_files_copy(&oplog->files, &kept) < 0)
		return;
	oplog_files_sort(&kept);
	for (size_t i = 0; i < found->count; i++)
		if (!oplog_files_find(&kept, &found->files[i].name))
			oplog_dir_remove(oplog->dir, oplog_name_print(&found->files[i].name, text));
}

static void load_covered(struct oplog *oplog)
{
	AUTO(buf) text = BUF_INIT;
	uint64_t upto, covered;

	if (oplog_dir_read(oplog->dir, COVERED_NAME, &text) < 0 || !buf_str(&text) ||
	    sscanf(buf_str(&text), "%" SCNu64 " %" SCNu64, &upto, &covered) != 2)
		return;
	/* its segment may have been sealed since: then that says more */
	if (upto == oplog->upto && covered > oplog->noted)
		oplog->noted = oplog->covered_saved = covered;
}

static int load(struct oplog *oplog)
{
	AUTO(oplog_files) found = OPLOG_FILES_INIT;
	uint64_t applied = index_applied_seq(oplog->set.index);
	int r = oplog_dir_list(oplog->dir, &found);

	if (r < 0)
		return r;
	oplog_files_sort(&found);
	oplog->needs_snapshot = oplog->is_lost = true;
	r = take_state(oplog, &found);
	if (r < 0)
		return r;
	remove_others(oplog, &found);
	if (oplog->needs_snapshot)
		oplog->upto = applied;
	oplog->noted = oplog->upto;
	if (!oplog->needs_snapshot)
		load_covered(oplog);
	oplog->next_first = oplog->upto + 1;
	oplog->opened_upto = oplog->needs_snapshot ? 0 : oplog->upto;
	return 0;
}

int oplog_open(const struct oplog_settings *settings, struct oplog **out)
{
	struct oplog *oplog = mem_alloc(sizeof(*oplog));
	int r = -ENOMEM;

	if (!oplog)
		return -ENOMEM;
	oplog->set = *settings;
	lock_init(&oplog->lock, LOCK_KEEPER);
	cond_init(&oplog->work);
	cond_init(&oplog->changed);
	list_init(&oplog->blocks);
	list_init(&oplog->waiters);
	oplog->dir = mem_strdup(settings->dir);
	if (oplog->dir)
		r = aead_ctx_new(&oplog->ctx);
	if (r == 0 && mkdir(oplog->dir, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = load(oplog);
	if (r < 0) {
		oplog_free(oplog);
		return r;
	}
	*out = oplog;
	return 0;
}

void oplog_free(struct oplog *oplog)
{
	if (!oplog)
		return;
	list_for_each(pos, &oplog->blocks) {
		list_remove(pos);
		oplog_block_free(container_of(pos, struct oplog_block, link));
	}
	oplog_files_release(&oplog->files);
	aead_ctx_free(oplog->ctx);
	cond_release(&oplog->work);
	cond_release(&oplog->changed);
	lock_release(&oplog->lock);
	mem_free(oplog->dir);
	mem_free(oplog);
}

/* ---- running ---- */

int oplog_start(struct oplog *oplog, struct transfer *transfer)
{
	int r = index_reader_open(oplog->set.index, &oplog->reader);

	lock_take(&oplog->lock);
	oplog->transfer = transfer;
	oplog->is_running = true;
	lock_drop(&oplog->lock);
	if (r == 0)
		r = thread_start(&oplog->thread, "oplog", maker_run, oplog);
	if (r < 0) {
		lock_take(&oplog->lock);
		oplog->is_running = false;
		lock_drop(&oplog->lock);
		index_reader_close(oplog->reader);
		oplog->reader = NULL;
		return r;
	}
	return transfer ? oplog_lanes_start(oplog) : 0;
}

/* Nothing waits to be sealed, and whoever is present has it all. */
static bool is_settled_locked(struct oplog *oplog)
{
	if (oplog->block_count > 0 || oplog->is_sealing || oplog->needs_snapshot)
		return false;
	for (unsigned i = 0; i < oplog->lane_count; i++) {
		const struct oplog_lane *lane = &oplog->lanes[i];
		bool is_present; /* it may not have looked itself yet */

		transfer_backend(oplog->transfer, lane->no, &is_present);
		if (is_present && !oplog_lane_is_fenced(lane) &&
		    lane->shipped_generation < oplog->generation)
			return false;
	}
	return true;
}

int oplog_stop(struct oplog *oplog, uint64_t wait_ms)
{
	uint64_t until = clock_mono_ms() + wait_ms;
	bool is_settled;

	oplog_cancel_waiters(oplog);
	if (!oplog || !oplog->is_running) /* nobody starts it any more */
		return 0;
	lock_take(&oplog->lock);
	oplog->is_flushing_all = true;
	cond_wake_all(&oplog->work);
	cond_wake_all(&oplog->changed);
	while (!(is_settled = is_settled_locked(oplog))) {
		uint64_t now = clock_mono_ms();

		if (now >= until)
			break;
		cond_wait_ms(&oplog->changed, &oplog->lock, until - now);
	}
	oplog->is_ending = true;
	cond_wake_all(&oplog->work);
	cond_wake_all(&oplog->changed);
	lock_drop(&oplog->lock);
	oplog_lanes_cancel(oplog);
	pthread_join(oplog->thread, NULL);
	oplog_lanes_join(oplog);
	index_reader_close(oplog->reader);
	oplog->reader = NULL;
	oplog->is_running = false;
	if (!is_settled)
		log_warn("oplog-unfinished", "next=\"sent at the next mount\"");
	return is_settled ? 0 : -EAGAIN;
}

int oplog_make_first(struct oplog *oplog, struct backend *const *backends, size_t count,
		     struct buf *why)
{
	int r = oplog->needs_snapshot ? oplog_make_snapshot(oplog) : 0;

	if (r < 0)
		buf_printf(why, "%s: the first snapshot cannot be made: %s", oplog->dir,
			   err_sentence(r));
	for (size_t i = 0; i < count && r == 0; i++) {
		AUTO(oplog_files) remote = OPLOG_FILES_INIT;
		AUTO(buf) cause = BUF_INIT;

		r = oplog_list(backends[i], NULL, &remote, &cause);
		if (r == 0)
			r = oplog_send(oplog->dir, backends[i], &oplog->files, &remote, NULL,
				       &cause);
		if (r < 0)
			buf_printf(why, "provider %s: %s", backend_name(backends[i]),
				   buf_str(&cause));
	}
	return r;
}
