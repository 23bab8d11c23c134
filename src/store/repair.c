/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judging one copy, and making a bad one good.
 *
 *   valid --read back: missing, short, not authentic, another's, unreadable--> missing, corrupt
 *   missing, corrupt --good when read again--> verified
 *                    --written from an authenticated source, read back, equal--> verified
 *
 * A bad copy is in quarantine: readers ask it last, and it counts for nothing.  Its object stays
 * where it is until it is replaced.
 *
 * INVARIANTS
 * - Nothing is written that was not authenticated to the last byte just before: from the spool, the
 *   cache, or another provider's object.
 * - Only the same bytes are written under a name (a shard is sealed once), and never to a copy that
 *   is being deleted: its row says so before the first DELETE.
 * - A copy is verified only by bytes that were read back from it.
 *
 * The sweep looks for bad copies in the index, so that nothing has to be remembered.  It goes by
 * danger: shards with at most one valid copy first, then those with two, then the rest, and by
 * class within each.  Usually the first pass finds that there is one level only; with many, each
 * level is a pass.  The sweep begins again when a shard becomes endangered meanwhile, and when a
 * provider comes or goes, but never before it has tried to repair something: else a provider that
 * comes and goes all the time would have it read lists for ever.  A copy that cannot be repaired
 * waits, longer each time, until a provider comes or goes.
 */
#include "store/transfer_private.h"

#include "store/audit.h"
#include "store/pack.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define REPAIR_PAGE	 256u
#define DANGERS		 3u
#define CLASSES		 4u
#define REPAIRS_TOLD_MAX    50u   /* by name, in one entry of the audit log */
#define REPAIRS_UNTOLD_MAX  1000u /* until there is one */
#define FAILED_PAUSE_MIN_MS 10000u
#define FAILED_PAUSE_MAX_MS (60 * 60 * 1000u)

/* ---- one copy ---- */

static const char *const finding_names[] = {
	[FINDING_GOOD] = "good",	   [FINDING_MISSING] = "missing",
	[FINDING_TRUNCATED] = "truncated", [FINDING_CORRUPT] = "corrupt",
	[FINDING_SWAPPED] = "swapped",	   [FINDING_UNREADABLE] = "unreadable",
	[FINDING_UNKNOWN] = "unknown",
};

const char *copy_finding_name(enum copy_finding finding)
{
	return finding_names[finding];
}

int transfer_authenticate(struct transfer *transfer, struct aead_ctx *aead,
			  const struct shard_row *shard, struct bytes object)
{
	struct pack_footer footer = PACK_FOOTER_INIT;
	struct pack_keys keys;
	int r = pack_keys_init(&keys, transfer->settings.keyring, shard->key_epoch, &shard->id);

	if (r < 0)
		return r;
	if (HOOK_BROKEN("repair-unauthenticated"))
		return 0;
	r = pack_verify(aead, &keys, object, &footer);
	if (r == 0 && footer.shard.shard_no != shard->shard_no)
		r = -EBADMSG;
	pack_footer_release(&footer);
	pack_keys_release(&keys);
	return r;
}

static enum copy_finding judge_size(const struct shard_row *shard, uint64_t size)
{
	if (size == shard->object_len)
		return FINDING_GOOD;
	return size < shard->object_len ? FINDING_TRUNCATED : FINDING_CORRUPT;
}

static enum copy_finding judge_bytes(struct transfer *transfer, struct aead_ctx *aead,
				     const struct shard_row *shard, struct bytes object)
{
	struct shard_id id;
	struct fs_id fs_id;
	uint32_t key_epoch;
	int r = transfer_authenticate(transfer, aead, shard, object);

	if (r == 0)
		return FINDING_GOOD;
	if (r != -EBADMSG && r != -EPROTONOSUPPORT)
		return FINDING_UNKNOWN;
	if (pack_header_read(object, &id, &key_epoch, &fs_id) == 0 &&
	    memcmp(id.b, shard->id.b, sizeof(id.b)) != 0)
		return FINDING_SWAPPED;
	return FINDING_CORRUPT;
}

/* What a provider's failure says about the object. */
static enum copy_finding judge_failure(struct lane *lane, const struct shard_row *shard, int error)
{
	struct shard_id_hex key = shard_id_hex(&shard->id);
	struct transfer_request head = {.op = BACKEND_HEAD, .key = key.s};
	enum copy_finding finding;

	switch (error) {
	case -ENOENT:
		return FINDING_MISSING;
	case -EBADMSG: /* too short, or bad on the way */
		if (lane_request(lane, &head) < 0)
			return FINDING_UNKNOWN;
		finding = judge_size(shard, head.size);
		return finding == FINDING_GOOD ? FINDING_CORRUPT : finding;
	case -EIO:
		return provider_is_present(&lane->provider) ? FINDING_UNREADABLE : FINDING_UNKNOWN;
	default:
		return FINDING_UNKNOWN;
	}
}

static enum copy_finding look_at_copy(struct lane *lane, const struct shard_row *shard)
{
	struct shard_id_hex key = shard_id_hex(&shard->id);
	struct transfer_request head = {.op = BACKEND_HEAD, .key = key.s};
	int r = lane_request(lane, &head);

	if (r < 0)
		return r == -ENOENT ? FINDING_MISSING : FINDING_UNKNOWN;
	return judge_size(shard, head.size);
}

/* Reads all of it; what is in out is authentic when the answer is FINDING_GOOD. */
static enum copy_finding read_copy(struct lane *lane, struct aead_ctx *aead,
				   const struct shard_row *shard, struct buf *out)
{
	struct shard_id_hex key = shard_id_hex(&shard->id);
	struct transfer_request request = {
		.op = BACKEND_GET, .key = key.s, .len = shard->object_len, .out = out};
	enum copy_finding finding;
	int r = lane_request(lane, &request);

	/* Once more, since it would be written again; and HEAD between, so that one object that
	 * cannot be read does not pass for a provider that answers nothing. */
	if (r == -EIO && look_at_copy(lane, shard) == FINDING_GOOD) {
		buf_clear(out);
		r = lane_request(lane, &request);
	}
	if (r < 0)
		return judge_failure(lane, shard, r);
	finding = judge_size(shard, request.size);
	return finding == FINDING_GOOD
		       ? judge_bytes(lane->transfer, aead, shard, buf_bytes(out)) : finding;
}

enum copy_finding transfer_check_copy(struct transfer *transfer, struct aead_ctx *aead,
				      const struct shard_row *shard, uint32_t provider_no)
{
	struct lane *lane = transfer_lane(transfer, provider_no);
	AUTO(buf) object = BUF_INIT;
	enum copy_finding finding;

	if (!lane || !lane->provider.backend || !provider_is_present(&lane->provider))
		return FINDING_UNKNOWN;
	finding = aead ? read_copy(lane, aead, shard, &object) : look_at_copy(lane, shard);
	if (finding == FINDING_UNKNOWN || (finding == FINDING_GOOD && !aead))
		return finding;
	if (finding != FINDING_GOOD)
		log_warn("copy-bad", "shard=%s shard_no=%llu provider=%s finding=%s next=repair",
			 shard_id_hex(&shard->id).s, (unsigned long long)shard->shard_no,
			 lane->provider.row.name, copy_finding_name(finding));
	transfer_mark(transfer, shard->shard_no, provider_no,
		      finding == FINDING_GOOD	   ? COPY_VERIFIED
		      : finding == FINDING_MISSING ? COPY_MISSING
						   : COPY_CORRUPT);
	return finding;
}

/* ---- a good object ---- */

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

static int object_from_spool(struct transfer *transfer, struct aead_ctx *aead,
			     const struct shard_row *shard, struct object *out)
{
	int r = spool_map(transfer->settings.spool, shard->shard_no, &out->bytes, &out->mapping);

	if (r == 0)
		r = transfer_authenticate(transfer, aead, shard, out->bytes);
	if (r == -EBADMSG)
		log_error("spool-shard-bad", "shard=%s next=\"copies elsewhere are asked\"",
			  shard_id_hex(&shard->id).s);
	if (r < 0 && out->mapping) {
		spool_unmap(out->mapping);
		out->mapping = NULL;
	}
	return r;
}

static int object_from_cache(struct transfer *transfer, struct aead_ctx *aead,
			     const struct shard_row *shard, struct object *out)
{
	int r = transfer->settings.cached
			? transfer->settings.cached(transfer->settings.ctx, shard, &out->fetched)
			: -ENOENT;

	if (r == 0 && out->fetched.len != shard->object_len)
		r = -EBADMSG;
	if (r == 0)
		r = transfer_authenticate(transfer, aead, shard, buf_bytes(&out->fetched));
	if (r < 0)
		buf_clear(&out->fetched);
	else
		out->bytes = buf_bytes(&out->fetched);
	return r;
}

/* Authentic to the last byte: from the spool, the cache, or another provider. */
static int object_get(struct transfer *transfer, struct keeper_worker *worker,
		      const struct shard_row *shard, uint32_t without, struct object *out)
{
	int r = object_from_spool(transfer, worker->aead, shard, out);

	if (r < 0)
		r = object_from_cache(transfer, worker->aead, shard, out);
	if (r == 0)
		return 0;
	r = fetch_whole(transfer, worker, shard, 0, without, &out->fetched, NULL);
	out->bytes = buf_bytes(&out->fetched);
	return r;
}

/* ---- repairing one copy ---- */

static int rewrite(struct transfer *transfer, struct keeper_worker *worker, struct lane *lane,
		   const struct shard_row *shard)
{
	struct shard_id_hex key = shard_id_hex(&shard->id);
	struct transfer_request put = {.op = BACKEND_PUT, .key = key.s};
	AUTO(object) object = OBJECT_INIT;
	AUTO(buf) back = BUF_INIT;
	int r = object_get(transfer, worker, shard, lane->provider.row.provider_no, &object);

	if (r == 0)
		r = HOOK("repair-put-before");
	put.body = object.bytes;
	if (r == 0)
		r = lane_request(lane, &put);
	if (r == 0)
		r = HOOK("repair-put-after");
	if (r < 0)
		return r;
	if (read_copy(lane, worker->aead, shard, &back) != FINDING_GOOD)
		return -EBADMSG;
	return bytes_equal(buf_bytes(&back), object.bytes) ? 0 : -EBADMSG;
}

/* Whether the row still says that the copy is to be there: it is not being deleted. */
static int still_wanted(struct transfer *transfer, struct index_reader *reader, uint64_t shard_no,
			uint32_t provider_no, struct shard_row *shard)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = index_get_shard(transfer->settings.index, reader, shard_no, shard);

	if (r == 0 && shard->state != SHARD_SEALED && shard->state != SHARD_DURABLE)
		r = -ENOENT;
	if (r == 0)
		r = index_list_copies(transfer->settings.index, reader, shard_no, &copies);
	for (size_t i = 0; i < copies.count && r == 0; i++)
		if (copies.rows[i].provider_no == provider_no)
			return copies.rows[i].state == COPY_DELETING ? -ENOENT : 0;
	return r < 0 ? r : -ENOENT;
}

/* ---- for the audit log ---- */

/* One entry for many: a provider that lost everything is thousands of repairs. */
void repair_tell(struct transfer *transfer)
{
	struct repair *repair = &transfer->repair;
	struct audit_event event = {.kind = "repair", .who = AUDIT_SYSTEM,
				    .what = "copies were made good"};
	AUTO_STR details = NULL;

	if (repair->untold > 0 && transfer->settings.audit) {
		details = mem_printf("{\"count\":%" PRIu64 ",\"first\":[%s]}", repair->untold,
				     buf_str(&repair->repairs) ? buf_str(&repair->repairs) : "");
		event.details = details;
		transfer->settings.audit(transfer->settings.ctx, &event);
	}
	repair->untold = 0;
	buf_clear(&repair->repairs);
}

static void note_repair(struct transfer *transfer, const struct lane *lane,
			const struct shard_row *shard, enum copy_finding was)
{
	struct repair *repair = &transfer->repair;

	if (repair->untold < REPAIRS_TOLD_MAX)
		buf_printf(&repair->repairs,
			   "%s{\"shard\":\"%s\",\"provider\":%" PRIu32 ",\"was\":\"%s\"}",
			   repair->untold ? "," : "", shard_id_hex(&shard->id).s,
			   lane->provider.row.provider_no,
			   was == FINDING_GOOD ? "bad, and good when read again"
					       : copy_finding_name(was));
	if (++repair->untold == REPAIRS_UNTOLD_MAX)
		repair_tell(transfer);
}

static int repair_copy(struct transfer *transfer, struct keeper_worker *worker, struct lane *lane,
		       uint64_t shard_no)
{
	uint32_t provider_no = lane->provider.row.provider_no;
	AUTO(buf) object = BUF_INIT;
	enum copy_finding finding;
	struct shard_row shard;
	int r = still_wanted(transfer, worker->reader, shard_no, provider_no, &shard);

	if (r < 0)
		return r;
	if (!lane->provider.backend || !provider_is_present(&lane->provider))
		return -EAGAIN;
	finding = read_copy(lane, worker->aead, &shard, &object);
	buf_release(&object);
	if (finding == FINDING_UNKNOWN)
		return -EAGAIN;
	if (finding != FINDING_GOOD)
		r = rewrite(transfer, worker, lane, &shard);
	if (r == 0) {
		transfer_mark(transfer, shard_no, provider_no, COPY_VERIFIED);
		log_info("copy-repaired", "shard=%s provider=%s was=%s how=%s",
			 shard_id_hex(&shard.id).s, lane->provider.row.name,
			 copy_finding_name(finding),
			 finding == FINDING_GOOD ? "read-again" : "rewritten");
		note_repair(transfer, lane, &shard, finding);
	} else if (r != -ECANCELED) {
		log_warn("copy-repair-failed", "shard=%s provider=%s error=%s next=\"tried again\"",
			 shard_id_hex(&shard.id).s, lane->provider.row.name, err_name(r));
	}
	return r;
}

/* ---- those that could not be repaired ---- */

static struct repair_failure *failure_of(struct repair *repair, const struct copy_row *copy)
{
	for (unsigned i = 0; i < REPAIR_FAILURES_MAX; i++) {
		struct repair_failure *failure = &repair->failures[i];

		if (failure->shard_no == copy->shard_no &&
		    failure->provider_no == copy->provider_no)
			return failure;
	}
	return NULL;
}

static void failure_note(struct repair *repair, const struct copy_row *copy)
{
	struct repair_failure *failure = failure_of(repair, copy);

	if (!failure) {
		failure = &repair->failures[repair->failure_next++ % REPAIR_FAILURES_MAX];
		*failure = (struct repair_failure){.shard_no = copy->shard_no,
						   .provider_no = copy->provider_no};
	}
	failure->pause_ms = MIN(MAX(2 * failure->pause_ms, (uint64_t)FAILED_PAUSE_MIN_MS),
				(uint64_t)FAILED_PAUSE_MAX_MS);
	failure->until_ms = clock_mono_ms() + failure->pause_ms;
}

static bool is_resting(struct repair *repair, const struct copy_row *copy)
{
	const struct repair_failure *failure = failure_of(repair, copy);

	return failure && clock_mono_ms() < failure->until_ms;
}

/* ---- the sweep ---- */

/* Danger, then class; lower is more urgent. */
static unsigned level_of(struct transfer *transfer, struct index_reader *reader, uint64_t shard_no)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct shard_row shard = {.priority = CLASSES - 1};
	unsigned valid = 0;

	if (index_list_copies(transfer->settings.index, reader, shard_no, &copies) == 0)
		for (size_t i = 0; i < copies.count; i++)
			valid += copy_is_valid(&copies.rows[i]);
	index_get_shard(transfer->settings.index, reader, shard_no, &shard);
	valid = MIN(MAX(valid, 1u), DANGERS);
	return (valid - 1) * CLASSES + MIN(shard.priority, CLASSES - 1);
}

/* Keeps what is of the level at hand; the first pass sees which others there are. */
static void keep_level(struct transfer *transfer, struct index_reader *reader)
{
	struct repair *repair = &transfer->repair;
	size_t kept = 0;

	for (size_t i = 0; i < repair->page.count; i++) {
		unsigned level = level_of(transfer, reader, repair->page.rows[i].shard_no);

		repair->levels |= BIT(level);
		if (level == repair->level)
			repair->page.rows[kept++] = repair->page.rows[i];
	}
	repair->page.count = kept;
}

static void sweep_done(struct transfer *transfer)
{
	repair_tell(transfer);
	LOCK_SCOPE(&transfer->lock);
	transfer->sweeps_done = transfer->repair.begun;
	cond_wake_all(&transfer->changed);
}

/* The next level that was seen; false: the sweep is over. */
static bool next_level(struct transfer *transfer)
{
	struct repair *repair = &transfer->repair;

	repair->after = 0;
	repair->state = COPY_MISSING;
	while (++repair->level < DANGERS * CLASSES)
		if (repair->levels & BIT(repair->level))
			return true;
	repair->is_under_way = false;
	sweep_done(transfer);
	return false;
}

/* 1: there may be more; 0: the sweep is over, and nobody wants another one by now. */
static int next_page(struct transfer *transfer, struct index_reader *reader)
{
	struct repair *repair = &transfer->repair;
	int r;

	copy_list_release(&repair->page);
	repair->page = (struct copy_list)ROW_LIST_INIT;
	repair->next = 0;
	r = index_list_copies_in_state(transfer->settings.index, reader, repair->state,
				       repair->after, REPAIR_PAGE, &repair->page);
	if (r < 0) {
		log_warn("repair-list-failed", "error=%s next=\"at the next sweep\"", err_name(r));
		repair->page.count = 0;
	}
	if (repair->page.count > 0) {
		repair->after = repair->page.rows[repair->page.count - 1].shard_no;
		keep_level(transfer, reader);
		return 1;
	}
	repair->after = 0;
	if (repair->state == COPY_MISSING) {
		repair->state = COPY_CORRUPT;
		return 1;
	}
	return next_level(transfer) || repair->is_wanted_again;
}

static bool is_still_bad(struct transfer *transfer, struct index_reader *reader,
			 const struct copy_row *copy)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;

	if (index_list_copies(transfer->settings.index, reader, copy->shard_no, &copies) < 0)
		return false;
	for (size_t i = 0; i < copies.count; i++)
		if (copies.rows[i].provider_no == copy->provider_no)
			return copies.rows[i].state == COPY_MISSING ||
			       copies.rows[i].state == COPY_CORRUPT;
	return false;
}

/* From the front, now or when the one under way has tried something. */
static void begin_sweep(struct transfer *transfer)
{
	struct repair *repair = &transfer->repair;

	if (atomic_exchange(&transfer->is_repair_turned, false)) {
		memset(repair->failures, 0, sizeof(repair->failures));
		repair->is_wanted_again = true;
	}
	if (repair->begun != transfer->sweeps_wanted ||
	    (atomic_exchange(&transfer->is_repair_urgent, false) && repair->level >= CLASSES))
		repair->is_wanted_again = true;
	if (repair->is_under_way && !(repair->is_wanted_again && repair->has_tried))
		return;
	repair->is_under_way = true;
	repair->is_wanted_again = repair->has_tried = false;
	repair->begun = transfer->sweeps_wanted;
	repair->page.count = repair->next = 0;
	repair->levels = 0;
	repair->after = 0;
	repair->state = COPY_MISSING;
	repair->level = 0;
}

int repair_run(void *ctx, struct keeper_worker *worker)
{
	struct transfer *transfer = ctx;
	struct repair *repair = &transfer->repair;
	const struct copy_row *copy;
	struct lane *lane;
	int r;

	if (transfer->is_stopping)
		return 0;
	begin_sweep(transfer);
	if (repair->next >= repair->page.count)
		return next_page(transfer, worker->reader);
	copy = &repair->page.rows[repair->next++];
	lane = transfer_lane(transfer, copy->provider_no);
	if (!lane || is_resting(repair, copy) || !is_still_bad(transfer, worker->reader, copy))
		return 1;
	repair->has_tried |= provider_is_present(&lane->provider);
	r = repair_copy(transfer, worker, lane, copy->shard_no);
	if (r < 0 && r != -ECANCELED && provider_is_present(&lane->provider))
		failure_note(repair, copy);
	return 1;
}

/* ---- other chores ---- */

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

/* ---- on demand ---- */

int transfer_verify_shard(struct transfer *transfer, struct index_reader *reader,
			  uint64_t shard_no, unsigned *good, unsigned *bad)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	unsigned good_count = 0, bad_count = 0;
	struct aead_ctx *aead;
	struct shard_row shard;
	int r = index_get_shard(transfer->settings.index, reader, shard_no, &shard);

	if (r == 0 && shard.state != SHARD_SEALED && shard.state != SHARD_DURABLE)
		r = -ENOENT;
	if (r == 0)
		r = index_list_copies(transfer->settings.index, reader, shard_no, &copies);
	if (r == 0)
		r = aead_ctx_new(&aead);
	if (r < 0)
		return r;
	for (size_t i = 0; i < copies.count; i++) {
		enum copy_finding finding;

		if (!copy_is_valid(&copies.rows[i])) {
			bad_count += copies.rows[i].state == COPY_CORRUPT ||
				     copies.rows[i].state == COPY_MISSING;
			continue;
		}
		finding = transfer_check_copy(transfer, aead, &shard, copies.rows[i].provider_no);
		good_count += finding == FINDING_GOOD;
		bad_count += finding != FINDING_GOOD && finding != FINDING_UNKNOWN;
	}
	aead_ctx_free(aead);
	*good = good_count;
	*bad = bad_count;
	return 0;
}
