/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Empty shards.
 *
 *   sealed, durable: no chunk lies in it
 *     | SHARD_PUT condemned, with the time; transfer forgets it; copies that were owed become
 *     | "deleting"; all of it durable; the spool's file goes
 *   condemned
 *     | the hold passes (at once if there never was a copy); every state that providers alone could
 *     | give back knows that it is condemned; nobody is away; still no chunk in it
 *     | COPY_PUT deleting, durable -> DELETE at each provider -> COPY_DEL of those that confirmed
 *   no copies: SHARD_DEL
 *
 * INVARIANTS
 * - A sealed shard never gets another chunk: chunks are put into open shards alone, and the record
 *   that puts one precedes the one that seals.  So "empty" stays true, and is looked at once more
 *   before the first DELETE all the same.
 * - Bytes go after the record that says so is durable.  A crash anywhere leaves a condemned shard
 *   with the copies that were not confirmed yet, and the next look goes on; a DELETE is repeated
 *   harmlessly.  A name that was deleted is never written again: names are random, once.
 * - An entry of the audit log that names the shards is durable before the first DELETE, and another
 *   is in the journal before the record that says they are gone: a crash may repeat it, never miss it.
 * - While any provider is away, nothing is deleted anywhere.  One that is not configured any more
 *   counts as away until somebody says that it is forgotten.
 */
#include "store/gc_private.h"

#include "store/placement.h"
#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"

#include <errno.h>
#include <stdio.h>

#define PROVIDERS_MAX PLACEMENT_PROVIDERS_MAX

static struct counter gc_condemned = COUNTER_INIT("gc_shards_condemned", "empty shards condemned");
static struct counter gc_deleted = COUNTER_INIT("gc_shards_deleted", "shards deleted everywhere");
static struct counter gc_copies = COUNTER_INIT("gc_copies_deleted", "copies deleted at providers");
static struct counter gc_deleted_bytes = COUNTER_INIT("gc_copy_bytes_deleted",
						      "bytes of copies deleted at providers");
static struct counter gc_delete_failures = COUNTER_INIT("gc_delete_failures",
							"deletions not confirmed");
COUNTER_REGISTER(gc_condemned);
COUNTER_REGISTER(gc_deleted);
COUNTER_REGISTER(gc_copies);
COUNTER_REGISTER(gc_deleted_bytes);
COUNTER_REGISTER(gc_delete_failures);

/* ---- who is in the way ---- */

void gc_blocked_by(struct gc *gc, char out[160])
{
	struct provider_facts facts[PROVIDERS_MAX];
	unsigned count;
	int len = 0;

	out[0] = '\0';
	if (gc_is_frozen(gc)) {
		snprintf(out, 160, "frozen");
		return;
	}
	count = gc->settings.facts
			? gc->settings.facts(gc->settings.ctx, facts, PROVIDERS_MAX) : 0;
	for (unsigned i = 0; i < count && len < 160; i++)
		if (!facts[i].is_present)
			len += snprintf(out + len, (size_t)(160 - len), "%s%s",
					len ? ", " : "away: ", facts[i].name);
}

/* So that somebody who went away unnoticed is noticed before bytes go elsewhere. */
int gc_ask_all(struct gc *gc)
{
	struct provider_facts facts[PROVIDERS_MAX];
	struct gc_answers *answers;
	unsigned count;
	int r;

	if (!gc->settings.ask)
		return 0;
	count = gc->settings.facts(gc->settings.ctx, facts, PROVIDERS_MAX);
	answers = gc_answers_new(count);
	if (!answers)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		gc->settings.ask(gc->settings.ctx, i, gc_answers_waiter(answers, i));
	r = gc_answers_wait(gc, answers);
	for (unsigned i = 0; i < count && r == 0; i++)
		r = gc_answers_error(answers, i);
	gc_answers_drop(answers);
	return r;
}

/* ---- what has reached the providers' own histories ---- */

static uint64_t shipped_seq(struct gc *gc)
{
	return gc->settings.shipped_seq ? gc->settings.shipped_seq(gc->settings.ctx) : UINT64_MAX;
}

/* Somebody waits for this look: so what was condemned is shipped now. */
static void ship(struct gc *gc)
{
	struct gc_answers *answers;
	char blocked_by[160];

	gc_blocked_by(gc, blocked_by);
	if (!gc->is_hurried || !gc->settings.ship || blocked_by[0] ||
	    gc->filling.seq <= shipped_seq(gc))
		return;
	answers = gc_answers_new(1);
	if (!answers)
		return;
	gc->settings.ship(gc->settings.ctx, gc->filling.seq, gc_answers_waiter(answers, 0));
	gc_answers_wait(gc, answers); /* what is shipped is asked next, whatever it says */
	gc_answers_drop(answers);
}

/* The gate opens when its records are everywhere; what came meanwhile waits at the next. */
void gc_gate_look(struct gc *gc)
{
	uint64_t shipped;

	ship(gc);
	shipped = shipped_seq(gc);
	for (unsigned i = 0; i < 2 && gc->gate.seq <= shipped; i++) {
		gc->open_sec = MAX(gc->open_sec, gc->gate.until_sec);
		if (gc->filling.until_sec <= gc->gate.until_sec)
			break;
		gc->gate = gc->filling;
		gc->last_condemn_sec = MAX(gc->last_condemn_sec, gc->gate.until_sec + 1);
	}
}

static int64_t condemn_time(struct gc *gc)
{
	gc->last_condemn_sec = MAX(gc->last_condemn_sec, clock_wall().sec);
	return gc->last_condemn_sec;
}

/* ---- condemning ---- */

static bool is_closed(const struct shard_row *row)
{
	return row->state == SHARD_SEALED || row->state == SHARD_DURABLE;
}

static int put_condemned(struct gc *gc, struct shard_row *row)
{
	struct record *record = record_new();
	uint64_t seq;
	int r;

	if (!record)
		return -ENOMEM;
	row->state = SHARD_CONDEMNED;
	row->sealed_sec = condemn_time(gc);
	record_put_shard(record, row);
	r = gc_submit(gc, record, &seq);
	if (r < 0)
		return r;
	gc->filling = (struct gc_gate){row->sealed_sec, seq};
	return 0;
}

/* Keeps in gc->empty those that are condemned now. */
static int condemn_rows(struct gc *gc)
{
	unsigned kept = 0;
	int r = HOOK("gc-condemn-before");

	for (unsigned i = 0; i < gc->empty_count && r == 0; i++) {
		struct shard_row row;
		bool is_empty = false;

		r = index_get_shard(gc->settings.index, gc->reader, gc->empty[i].shard_no, &row);
		if (r == 0 && is_closed(&row))
			r = gc_is_empty(gc, row.shard_no, &is_empty);
		if (r == 0 && is_empty)
			r = put_condemned(gc, &row);
		if (r == 0 && is_empty)
			gc->empty[kept++] = row;
		if (r == -ENOENT)
			r = 0;
	}
	gc->empty_count = kept;
	return r < 0 ? r : HOOK("gc-condemn-after");
}

/* Nobody makes copies of them from now on. */
static int forget_all(struct gc *gc)
{
	struct gc_answers *answers;
	int r;

	if (!gc->settings.forget || gc->empty_count == 0)
		return 0;
	answers = gc_answers_new(gc->empty_count);
	if (!answers)
		return -ENOMEM;
	for (unsigned i = 0; i < gc->empty_count; i++)
		gc->settings.forget(gc->settings.ctx, gc->empty[i].shard_no,
				    gc_answers_waiter(answers, i));
	r = gc_answers_wait(gc, answers);
	for (unsigned i = 0; i < gc->empty_count && r == 0; i++)
		r = gc_answers_error(answers, i);
	gc_answers_drop(answers);
	return r;
}

/*
 * "Enough copies" may have been journalled over the condemnation by somebody who read the row just
 * before; after forget_all nobody does.  And what was owed is not owed any more.
 */
static int confirm_rows(struct gc *gc)
{
	struct record *record = record_new();
	int r = record ? 0 : -ENOMEM;

	for (unsigned i = 0; i < gc->empty_count && r == 0; i++) {
		AUTO(copy_list) copies = ROW_LIST_INIT;
		struct shard_row row;

		r = index_get_shard(gc->settings.index, gc->reader, gc->empty[i].shard_no, &row);
		if (r == 0 && row.state != SHARD_CONDEMNED)
			record_put_shard(record, &gc->empty[i]);
		if (r == 0)
			r = index_list_copies(gc->settings.index, gc->reader, row.shard_no,
					      &copies);
		for (size_t k = 0; k < copies.count && r == 0; k++) {
			if (!copy_is_owed(&copies.rows[k]))
				continue;
			copies.rows[k].state = COPY_DELETING;
			copies.rows[k].changed_sec = clock_wall().sec;
			record_put_copy(record, &copies.rows[k]);
		}
	}
	if (r < 0) {
		record_free(record);
		return r;
	}
	return gc_submit(gc, record, NULL);
}

int gc_condemn_flush(struct gc *gc)
{
	int r;

	if (gc->empty_count == 0)
		return 0;
	r = condemn_rows(gc);
	if (r == 0)
		r = forget_all(gc);
	if (r == 0)
		r = confirm_rows(gc);
	if (r == 0)
		r = gc_settle(gc);
	for (unsigned i = 0; i < gc->empty_count && r == 0; i++) {
		int released = spool_release(gc->settings.spool, gc->empty[i].shard_no, NULL);

		if (released < 0 && released != -ENOENT)
			log_warn("spool-release-failed",
				 "shard=%s error=%s next=\"at the next mount\"",
				 shard_id_hex(&gc->empty[i].id).s, err_name(released));
		gc->report.shards_condemned++;
		counter_add(&gc_condemned, 1);
	}
	gc->empty_count = 0;
	return r;
}

int gc_condemn_offer(struct gc *gc, const struct shard_row *shard)
{
	gc->empty[gc->empty_count++] = *shard;
	return gc->empty_count == GC_CONDEMN_BATCH ? gc_condemn_flush(gc) : 0;
}

/* ---- deleting ---- */

struct doomed {
	struct shard_row *row;
	struct copy_list copies;
	unsigned first; /* of its answers */
};

struct deletion_batch {
	struct gc *gc;
	struct doomed shards[GC_DELETE_BATCH];
	unsigned count, copies;
	struct provider_list providers;
};

static void deletion_batch_release(struct deletion_batch *batch)
{
	for (unsigned i = 0; i < batch->count; i++)
		copy_list_release(&batch->shards[i].copies);
	provider_list_release(&batch->providers);
}

static const struct provider_row *provider_named(const struct deletion_batch *batch, uint32_t no)
{
	for (size_t i = 0; i < batch->providers.count; i++)
		if (batch->providers.rows[i].provider_no == no)
			return &batch->providers.rows[i];
	return NULL;
}

static bool is_forgotten(const struct deletion_batch *batch, uint32_t no)
{
	const struct provider_row *row = provider_named(batch, no);

	return row && row->is_forgotten;
}

/* The last look before bytes go. */
static int batch_look(struct deletion_batch *batch)
{
	struct gc *gc = batch->gc;
	int r = index_list_providers(gc->settings.index, gc->reader, &batch->providers);

	for (unsigned i = 0; i < gc->doomed_count && r == 0; i++) {
		struct doomed *doomed = &batch->shards[batch->count];
		struct shard_row row;
		bool is_empty = false;

		r = index_get_shard(gc->settings.index, gc->reader, gc->doomed[i].shard_no, &row);
		if (r == -ENOENT) {
			r = 0;
			continue;
		}
		if (r == 0)
			r = gc_is_empty(gc, row.shard_no, &is_empty);
		if (r < 0)
			break;
		if (row.state != SHARD_CONDEMNED || !is_empty) {
			log_error("condemned-shard-in-use", "shard=%s shard_no=%llu next=kept",
				  shard_id_hex(&row.id).s, (unsigned long long)row.shard_no);
			continue;
		}
		*doomed = (struct doomed){.row = &gc->doomed[i], .first = batch->copies};
		r = index_list_copies(gc->settings.index, gc->reader, row.shard_no,
				      &doomed->copies);
		batch->copies += (unsigned)doomed->copies.count;
		batch->count++;
	}
	return r;
}

static int batch_mark(struct deletion_batch *batch)
{
	struct record *record = record_new();
	int r = record ? HOOK("gc-copy-deleting-before") : -ENOMEM;

	for (unsigned i = 0; i < batch->count && r == 0; i++) {
		struct copy_list *copies = &batch->shards[i].copies;

		for (size_t k = 0; k < copies->count; k++) {
			struct copy_row row = copies->rows[k]; /* the old one is for transfer */

			if (row.state == COPY_DELETING)
				continue;
			row.state = COPY_DELETING;
			row.changed_sec = clock_wall().sec;
			record_put_copy(record, &row);
		}
	}
	if (r < 0) {
		record_free(record);
		return r;
	}
	r = gc_submit(batch->gc, record, NULL);
	if (r == 0)
		r = gc_settle(batch->gc);
	return r < 0 ? r : HOOK("gc-copy-deleting-after");
}

static void batch_request(struct deletion_batch *batch, struct gc_answers *answers)
{
	struct gc *gc = batch->gc;

	for (unsigned i = 0; i < batch->count; i++) {
		struct doomed *doomed = &batch->shards[i];

		for (size_t k = 0; k < doomed->copies.count; k++) {
			struct waiter *waiter =
				gc_answers_waiter(answers, doomed->first + (unsigned)k);
			const struct copy_row *copy = &doomed->copies.rows[k];

			if (is_forgotten(batch, copy->provider_no))
				waiter->done(waiter, 0);
			else if (gc->settings.delete_copy)
				gc->settings.delete_copy(gc->settings.ctx, doomed->row, copy,
							 waiter);
			else
				waiter->done(waiter, -ENODEV);
		}
	}
}

/* Why it went and who said so.  Twelve names are enough to read; the count is exact. */
static void tell_deleted(struct deletion_batch *batch, const struct doomed *doomed)
{
	const struct shard_row *row = doomed->row;
	char names[12 * 65 + 1] = "", when[CLOCK_RFC3339_SIZE];
	int len = 0;

	for (size_t k = 0; k < doomed->copies.count && k < 12; k++) {
		uint32_t no = doomed->copies.rows[k].provider_no;
		const struct provider_row *provider = provider_named(batch, no);

		len += snprintf(names + len, sizeof(names) - (size_t)len, "%s%.60s%s",
				len ? "," : "", provider ? provider->name : "?",
				is_forgotten(batch, no) ? "(forgotten)" : "");
	}
	log_info("shard-deleted",
		 "shard=%s shard_no=%llu bytes=%llu why=\"no chunk lies in it\" condemned=%s "
		 "copies=%zu providers=" LOG_Q,
		 shard_id_hex(&row->id).s, (unsigned long long)row->shard_no,
		 (unsigned long long)row->object_len,
		 clock_rfc3339((struct wall_time){.sec = row->sealed_sec}, when),
		 doomed->copies.count, names);
}

/*
 * One entry for a batch: the shards (all, or those that are gone), why, and what was looked at.
 * Providers are numbers of the index; "!" behind those that were forgotten.
 */
static int audit_batch(struct deletion_batch *batch, const char *what, const bool *is_gone)
{
	AUTO(buf) details = BUF_INIT;
	struct gc *gc = batch->gc;
	struct audit_event event = {.kind = "delete", .what = what, .who = AUDIT_SYSTEM};
	unsigned count = 0;
	int r;

	if (!gc->settings.audit)
		return 0;
	r = buf_printf(&details,
		       "{\"why\":\"no chunk lies in it\",\"hold_seconds\":%lld,"
		       "\"states_checked\":\"index, and providers' histories up to record %llu\","
		       "\"shards\":[",
		       (long long)(gc->settings.hold_ms / 1000),
		       (unsigned long long)(gc->settings.shipped_seq ? shipped_seq(gc) : 0));
	for (unsigned i = 0; i < batch->count && r >= 0; i++) {
		const struct doomed *doomed = &batch->shards[i];

		if ((is_gone && !is_gone[i]) || doomed->copies.count == 0)
			continue;
		r = buf_printf(&details, "%s{\"shard\":\"%s\",\"no\":%llu,\"bytes\":%llu,"
			       "\"condemned\":%lld,\"providers\":\"", count++ ? "," : "",
			       shard_id_hex(&doomed->row->id).s,
			       (unsigned long long)doomed->row->shard_no,
			       (unsigned long long)doomed->row->object_len,
			       (long long)doomed->row->sealed_sec);
		for (size_t k = 0; k < doomed->copies.count && r >= 0; k++)
			r = buf_printf(&details, "%s%u%s", k ? "," : "",
				       doomed->copies.rows[k].provider_no,
				       is_forgotten(batch, doomed->copies.rows[k].provider_no)
					       ? "!" : "");
		if (r >= 0)
			r = buf_printf(&details, "\"}");
	}
	if (r >= 0)
		r = buf_printf(&details, "]}");
	if (r < 0 || count == 0)
		return MIN(r, 0);
	event.details = buf_str(&details);
	return event.details ? gc->settings.audit(gc->settings.ctx, &event) : -ENOMEM;
}

static void tell_failed(struct deletion_batch *batch, const struct doomed *doomed,
			const struct copy_row *copy, int error)
{
	const struct provider_row *provider = provider_named(batch, copy->provider_no);

	counter_add(&gc_delete_failures, 1);
	if (batch->gc->report.error == 0)
		log_warn("copy-not-deleted", "shard=%s provider=%s error=%s next=\"tried again\"",
			 shard_id_hex(&doomed->row->id).s, provider ? provider->name : "?",
			 err_name(error));
	gc_note_error(batch->gc, "deleting copies", error);
}

static int batch_finish(struct deletion_batch *batch, struct gc_answers *answers)
{
	struct gc *gc = batch->gc;
	struct record *record = record_new();
	bool is_gone[GC_DELETE_BATCH] = {false};
	int r = record ? HOOK("gc-shard-del-before") : -ENOMEM;

	for (unsigned i = 0; i < batch->count && r == 0; i++) {
		struct doomed *doomed = &batch->shards[i];
		size_t confirmed = 0;

		for (size_t k = 0; k < doomed->copies.count; k++) {
			const struct copy_row *copy = &doomed->copies.rows[k];
			int error = gc_answers_error(answers, doomed->first + (unsigned)k);

			if (error < 0) {
				tell_failed(batch, doomed, copy, error);
				continue;
			}
			record_del_copy(record, copy->shard_no, copy->provider_no);
			counter_add(&gc_copies, 1);
			counter_add(&gc_deleted_bytes, doomed->row->object_len);
			confirmed++;
		}
		is_gone[i] = confirmed == doomed->copies.count;
		if (is_gone[i])
			record_del_shard(record, doomed->row->shard_no);
	}
	if (r == 0)
		r = audit_batch(batch, "deleted at every provider", is_gone);
	if (r < 0) {
		record_free(record);
		return r;
	}
	r = gc_submit(gc, record, NULL);
	for (unsigned i = 0; i < batch->count && r == 0; i++) {
		if (!is_gone[i])
			continue;
		if (gc->settings.cache)
			cache_drop(gc->settings.cache, &batch->shards[i].row->id);
		tell_deleted(batch, &batch->shards[i]);
		gc->report.shards_deleted++;
		gc->report.bytes_deleted += batch->shards[i].row->object_len;
		counter_add(&gc_deleted, 1);
	}
	return r < 0 ? r : HOOK("gc-shard-del-after");
}

static int64_t hold_sec(const struct gc *gc)
{
	return (int64_t)((gc->settings.hold_ms + 999) / 1000);
}

static void note_blocked(struct gc *gc, const struct shard_row *shard, const char *why)
{
	struct gc_report *report = &gc->report;
	int64_t since = shard->sealed_sec + hold_sec(gc);

	report->shards_blocked++;
	report->bytes_blocked += shard->object_len;
	if (report->blocked_since_sec == 0 || since < report->blocked_since_sec)
		report->blocked_since_sec = since;
	if (report->blocked_by[0] == '\0')
		snprintf(report->blocked_by, sizeof(report->blocked_by), "%s", why);
}

static void batch_note_blocked(struct deletion_batch *batch, const char *why)
{
	for (unsigned i = 0; i < batch->count; i++)
		note_blocked(batch->gc, batch->shards[i].row, why);
}

int gc_delete_flush(struct gc *gc)
{
	AUTO(deletion_batch) batch = {.gc = gc};
	struct gc_answers *answers;
	char blocked_by[160];
	int r;

	if (gc->doomed_count == 0)
		return 0;
	r = batch_look(&batch);
	gc->doomed_count = 0;
	if (r == 0)
		r = batch_mark(&batch);
	if (r < 0)
		return r;
	if (batch.copies > 0) { /* as late as possible */
		r = gc_ask_all(gc);
		gc_blocked_by(gc, blocked_by);
		if (r < 0 && blocked_by[0] == '\0')
			snprintf(blocked_by, sizeof(blocked_by), "no answer: %s", err_name(r));
		if (blocked_by[0]) {
			batch_note_blocked(&batch, blocked_by);
			return 0;
		}
		r = audit_batch(&batch, "to be deleted at every provider", NULL);
		if (r == 0)
			r = gc_settle(gc);
		if (r < 0)
			return r;
	}
	answers = gc_answers_new(batch.copies);
	if (!answers)
		return -ENOMEM;
	r = HOOK("gc-delete-before");
	if (r == 0) {
		batch_request(&batch, answers);
		gc_answers_wait(gc, answers); /* who did not answer is asked again */
		r = HOOK("gc-delete-after");
	}
	if (r == 0)
		r = batch_finish(&batch, answers);
	gc_answers_drop(answers);
	return r;
}

static int has_copies(struct gc *gc, uint64_t shard_no, bool *has)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = index_list_copies(gc->settings.index, gc->reader, shard_no, &copies);

	if (r == 0)
		*has = copies.count > 0;
	return r;
}

/* A condemned shard: is it time? */
int gc_delete_offer(struct gc *gc, const struct shard_row *shard)
{
	int64_t eligible = shard->sealed_sec + hold_sec(gc);
	char blocked_by[160];
	bool has = true;
	int r = has_copies(gc, shard->shard_no, &has);

	if (r < 0)
		return r;
	if (has && gc->settings.hold_ms > 0 && clock_wall().sec < eligible) {
		gc->report.shards_held++;
		gc->report.bytes_held += shard->object_len;
		if (gc->report.held_until_sec == 0 || eligible < gc->report.held_until_sec)
			gc->report.held_until_sec = eligible;
		return 0;
	}
	gc_blocked_by(gc, blocked_by);
	if (has && blocked_by[0]) {
		note_blocked(gc, shard, blocked_by);
		return 0;
	}
	if (has && gc->settings.shipped_seq && shard->sealed_sec > gc->open_sec) {
		note_blocked(gc, shard, "not shipped");
		return 0;
	}
	gc->doomed[gc->doomed_count++] = *shard;
	return gc->doomed_count == GC_DELETE_BATCH ? gc_delete_flush(gc) : 0;
}
