/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs: each reads its arguments, asks the store, and fills an object. */
#include "ctl/ctl_private.h"

#include "store/names.h"
#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/mem.h"
#include "util/option.h"
#include "util/pending.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WAIT_POLL_MS 50u

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static void put(json_t *object, const char *key, json_t *value)
{
	json_object_set_new(object, key, value);
}

static const char *text_arg(struct ctl_call *call, const char *key)
{
	return json_string_value(json_object_get(call->args, key));
}

int ctl_push(struct ctl_call *call, struct inode *inode)
{
	struct pending pending;

	pending_init(&pending);
	writer_push(call->store->writer, inode, &pending.waiter);
	return pending_wait(&pending);
}

int ctl_sync(struct ctl_call *call)
{
	struct pending pending;

	pending_init(&pending);
	if (inode_is_dir(call->inode))
		store_sync(call->store, &pending.waiter);
	else
		writer_sync(call->store->writer, NULL, call->inode, &pending.waiter);
	return pending_wait(&pending);
}

static json_t *rfc3339(int64_t sec)
{
	char text[CLOCK_RFC3339_SIZE];

	return sec ? json_string(clock_rfc3339((struct wall_time){.sec = sec}, text)) : json_null();
}

/* ---- protection ---- */

static void put_protection(json_t *out, const struct store_protection *p)
{
	char time[CLOCK_RFC3339_SIZE];

	put(out, "status", json_string(protection_name(p->worst)));
	put(out, "copies_have", number(p->copies_have));
	put(out, "copies_want", number(p->copies_want));
	put(out, "shards", number(p->shards));
	put(out, "as_of", number(p->as_of_seq));
	put(out, "files", number(p->totals.files));
	put(out, "directories", number(p->totals.directories));
	put(out, "bytes", number(p->totals.bytes));
	if (p->asked == STORE_ASK_STORAGE || p->totals.stored_bytes > 0)
		put(out, "stored_bytes", number(p->totals.stored_bytes));
	if (p->asked == STORE_ASK_STORAGE) {
		put(out, "chunks", number(p->totals.chunks));
		put(out, "shared_bytes", number(p->totals.shared_bytes));
	}
	if (p->is_corrupt)
		put(out, "integrity", json_string("corrupt"));
	else if (p->verified_sec > 0)
		put(out, "integrity",
		    json_sprintf("verified %s",
				 clock_rfc3339((struct wall_time){.sec = p->verified_sec}, time)));
	else
		put(out, "integrity", json_string("unverified"));
}

static enum ctl_exit protection_exit(const struct store_protection *p, enum ctl_kind kind)
{
	if (p->worst == PROTECTION_LOST)
		return CTL_FAILED;
	return kind == CTL_CHECK && p->worst > PROTECTION_REPLICATING ? CTL_FINDING : CTL_DONE;
}

static enum ctl_exit verb_stat(struct ctl_call *call)
{
	struct store_protection protection;
	char text[POLICY_TEXT_SIZE] = "";
	struct policy policy;
	int64_t until_sec;
	int r = store_protection(call->store, call->reader, call->inode, STORE_ASK_STORAGE,
				 &protection);

	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "protection: %s", err_sentence(r));
	put_protection(call->answer, &protection);
	put(call->answer, "ino", number(call->inode->row.ino));
	store_policy_of(call->store, call->inode->row.policy_root, &policy);
	policy_print(&policy, text);
	put(call->answer, "policy", json_string(text));
	put(call->answer, "policy_root", number(call->inode->row.policy_root));
	if (names_lock_until(call->inode, &until_sec) == 0) {
		put(call->answer, "lock_until", rfc3339(until_sec));
		put(call->answer, "locked",
		    json_boolean(names_is_locked(call->store, call->inode)));
	}
	return CTL_DONE;
}

static json_t *describe_provider(const struct provider_status *p)
{
	json_t *o = json_object();

	put(o, "type", json_string(p->type));
	put(o, "vendor", json_string(p->vendor));
	put(o, "region", json_string(p->region));
	put(o, "role", json_string(p->role));
	put(o, "state", json_string(p->state));
	put(o, "present", json_boolean(p->is_present));
	put(o, "cause", json_string(p->cause));
	put(o, "queued_copies", number(p->queued_copies));
	put(o, "queued_bytes", number(p->queued_bytes));
	put(o, "inflight", number(p->inflight));
	put(o, "objects", number(p->objects));
	put(o, "bytes", number(p->bytes));
	put(o, "p95_ms", json_real((double)p->p95_us / 1000));
	put(o, "last_ok", number((uint64_t)p->last_ok_sec));
	return o;
}

static json_t *describe_providers(struct store *store)
{
	json_t *all = json_object();
	unsigned count = transfer_provider_count(store->transfer);

	for (unsigned i = 0; i < count; i++) {
		struct provider_status status;

		transfer_provider_status(store->transfer, i, &status);
		put(all, status.name, describe_provider(&status));
	}
	return all;
}

static enum ctl_exit verb_provider_list(struct ctl_call *call)
{
	put(call->answer, "providers", describe_providers(call->store));
	return CTL_DONE;
}

/* ---- space ---- */

#define CANDIDATES_TOLD_MAX 1000u
#define CLEANUP_STALL_MS    60000u

/* What waits, as of the last look. */
static void put_waiting(json_t *out, const struct gc_report *report)
{
	int64_t now = clock_wall().sec;

	put(out, "moving_shards", number(report->shards_moving));
	put(out, "held_shards", number(report->shards_held));
	put(out, "held_bytes", number(report->bytes_held));
	put(out, "held_until", rfc3339(report->held_until_sec));
	put(out, "blocked_shards", number(report->shards_blocked));
	put(out, "blocked_bytes", number(report->bytes_blocked));
	put(out, "blocked_seconds",
	    json_integer(report->blocked_since_sec && now > report->blocked_since_sec
				 ? now - report->blocked_since_sec : 0));
	put(out, "blocked_by", json_string(report->blocked_by));
	put(out, "last_look", rfc3339(report->ended_sec));
}

struct survey {
	json_t *told;
	uint64_t count, bytes;
};

static int survey_visit(void *ctx, const struct gc_candidate *candidate)
{
	struct survey *survey = ctx;
	char key[24];
	json_t *one;

	survey->bytes += candidate->bytes;
	if (survey->count++ >= CANDIDATES_TOLD_MAX)
		return 0;
	one = json_object();
	put(one, "shard_no", number(candidate->shard_no));
	put(one, "reason", json_string(candidate->reason));
	put(one, "eligible_at", rfc3339(candidate->eligible_sec));
	put(one, "bytes", number(candidate->bytes));
	snprintf(key, sizeof(key), "%llu", (unsigned long long)candidate->shard_no);
	put(survey->told, key, one);
	return 0;
}

static int put_survey(struct ctl_call *call)
{
	struct survey survey = {.told = json_object()};
	char blocked_by[160];
	int r = store_reclaim_survey(call->store, call->reader, survey_visit, &survey, blocked_by);

	put(call->answer, "candidates", survey.told);
	put(call->answer, "candidate_count", number(survey.count));
	put(call->answer, "reclaimable", number(survey.bytes));
	put(call->answer, "blocked_by", json_string(r < 0 ? "" : blocked_by));
	return r;
}

static enum ctl_exit verb_cleanup_plan(struct ctl_call *call)
{
	struct scrub_report orphans;
	int r = put_survey(call);

	if (r == 0)
		r = ctl_put_orphans(call, false, &orphans);
	return r < 0 ? ctl_fail(call, CTL_UNKNOWN, "cleanup: %s", err_sentence(r)) : CTL_DONE;
}

static void add_done(struct gc_report *sum, const struct gc_report *look)
{
	sum->chunks_deleted += look->chunks_deleted;
	sum->chunks_moved += look->chunks_moved;
	sum->bytes_moved += look->bytes_moved;
	sum->shards_discarded += look->shards_discarded;
	sum->shards_condemned += look->shards_condemned;
	sum->shards_deleted += look->shards_deleted;
	sum->bytes_deleted += look->bytes_deleted;
}

static void put_done(json_t *out, const struct gc_report *sum)
{
	put(out, "deleted_chunks", number(sum->chunks_deleted));
	put(out, "moved_chunks", number(sum->chunks_moved));
	put(out, "moved_bytes", number(sum->bytes_moved));
	put(out, "condemned_shards", number(sum->shards_condemned));
	put(out, "deleted_shards", number(sum->shards_deleted + sum->shards_discarded));
	put(out, "deleted_bytes", number(sum->bytes_deleted));
}

static bool has_done(const struct gc_report *look)
{
	return look->chunks_deleted || look->chunks_moved || look->shards_discarded ||
	       look->shards_condemned || look->shards_deleted;
}

/* Looks until one finds nothing to do.  What was read out of sparse shards is waited for. */
static int cleanup(struct ctl_call *call, struct gc_report *sum, struct gc_report *look)
{
	uint64_t moved_ms = clock_mono_ms();

	for (;;) {
		json_t *progress;
		int r = store_reclaim(call->store, look);

		if (r < 0)
			return r;
		add_done(sum, look);
		if (has_done(look))
			moved_ms = clock_mono_ms();
		else if (look->shards_moving == 0 || look->error < 0 ||
			 clock_mono_ms() - moved_ms > CLEANUP_STALL_MS)
			return look->error;
		if (ctl_is_cancelled(call))
			return -ECANCELED;
		progress = json_object();
		put(progress, "note", json_sprintf("%llu shards deleted, %llu being repacked",
						   (unsigned long long)sum->shards_deleted,
						   (unsigned long long)look->shards_moving));
		ctl_progress(call, progress);
		if (look->shards_moving > 0) {
			r = spool_seal_all(call->store->spool, 0);
			if (r < 0)
				return r;
			ctl_pause(call, WAIT_POLL_MS);
		}
	}
}

static enum ctl_exit verb_cleanup_run(struct ctl_call *call)
{
	bool has_orphans = json_is_true(json_object_get(call->args, "orphans"));
	struct scrub_report orphans = {0};
	struct gc_report sum = {0}, look = {0};
	int r = cleanup(call, &sum, &look), survey;

	put_done(call->answer, &sum);
	put_waiting(call->answer, &look);
	survey = put_survey(call);
	if (r == 0 && has_orphans)
		r = ctl_put_orphans(call, true, &orphans);
	if (r == -ECANCELED)
		return ctl_fail(call, CTL_PARTIAL, "cancelled: run it again to go on");
	if (r < 0)
		return ctl_fail(call, CTL_PARTIAL, "cleanup: %s; run it again to go on",
				err_sentence(r));
	if (survey < 0)
		return ctl_fail(call, CTL_UNKNOWN, "cleanup: %s", err_sentence(survey));
	if (look.shards_blocked > 0)
		return ctl_fail(call, CTL_REFUSED, "%llu shards are not deleted: %s",
				(unsigned long long)look.shards_blocked, look.blocked_by);
	if (orphans.incomplete_by[0])
		return ctl_fail(call, CTL_UNKNOWN, "orphans: not listed: %s", orphans.incomplete_by);
	if (orphans.orphans_deleted < orphans.orphans_deletable)
		return ctl_fail(call, CTL_REFUSED, "%llu orphans are not deleted: see kept_because",
				(unsigned long long)(orphans.orphans_deletable -
						     orphans.orphans_deleted));
	if (look.shards_moving > 0)
		return ctl_fail(call, CTL_PARTIAL, "%llu shards wait for copies of what is needed",
				(unsigned long long)look.shards_moving);
	return CTL_DONE;
}

/* ---- the whole ---- */

static enum ctl_exit verb_status(struct ctl_call *call)
{
	struct store_protection protection;
	struct index_totals totals;
	struct gc_report reclaim;
	struct store_space space;
	struct inode *root;
	json_t *waiting, *writer;
	char why[240];
	int r = inode_load(call->store->inodes, call->store->index, call->reader, INO_ROOT, &root);

	if (r == 0) {
		r = store_protection(call->store, call->reader, root, STORE_ASK_COPIES,
				     &protection);
		inode_unref(call->store->inodes, root, 1);
	}
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "protection: %s", err_sentence(r));
	put_protection(call->answer, &protection);
	index_totals(call->store->index, &totals);
	store_space(call->store, &space);
	put(call->answer, "home", json_string(call->store->config->home));
	writer = json_object();
	put(writer, "epoch", number(store_writer_epoch(call->store)));
	put(writer, "may_write", json_boolean(store_may_write(call->store, why)));
	put(writer, "cause", json_string(why));
	put(call->answer, "writer", writer);
	put(call->answer, "inodes", number(totals.inodes));
	put(call->answer, "index_chunks", number(totals.chunks));
	put(call->answer, "index_shards", number(totals.shards));
	put(call->answer, "chunk_stored_bytes", number(totals.chunk_stored_bytes));
	put(call->answer, "spool_bytes", number(spool_bytes_used(call->store->spool)));
	put(call->answer, "dirty_bytes", number(writer_dirty_bytes(call->store->writer)));
	put(call->answer, "free_bytes", number(space.free_bytes));
	store_reclaim_status(call->store, &reclaim);
	waiting = json_object();
	put_waiting(waiting, &reclaim);
	put(call->answer, "reclaim", waiting);
	put(call->answer, "providers", describe_providers(call->store));
	return protection_exit(&protection, CTL_QUERY);
}

/* ---- sync and wait ---- */

static enum ctl_exit verb_sync(struct ctl_call *call)
{
	int r = ctl_sync(call);

	store_push(call->store, sequencer_last_seq(call->store->sequencer));
	return r < 0 ? ctl_fail(call, CTL_FAILED, "sync: %s", err_sentence(r)) : CTL_DONE;
}

/* Copies that the caller asks for, or what the policies do; then only the names may be missing. */
static bool are_copies_there(const struct store_protection *p, uint64_t copies)
{
	if (p->worst == PROTECTION_LOST)
		return false;
	if (copies == 0)
		return p->of_copies == PROTECTION_PROTECTED;
	return p->shards == 0 ? p->worst != PROTECTION_LOCAL : p->copies_have >= copies;
}

static bool is_reached(const struct store_protection *p, uint64_t copies)
{
	return copies == 0 ? p->worst == PROTECTION_PROTECTED : are_copies_there(p, copies);
}

static enum ctl_exit verb_wait(struct ctl_call *call)
{
	uint64_t copies = (uint64_t)json_integer_value(json_object_get(call->args, "copies"));
	struct store_protection protection;
	char why[240];
	bool is_sent = false;
	uint64_t seq = 0; /* of the oplog, once the copies are there */
	int r = ctl_sync(call);

	if (r < 0)
		return ctl_fail(call, CTL_FAILED, "sync: %s", err_sentence(r));
	r = spool_seal_all(call->store->spool, 0);
	if (r < 0)
		return ctl_fail(call, CTL_FAILED, "sealing shards: %s", err_sentence(r));
	for (;;) {
		json_t *progress;

		r = store_protection(call->store, call->reader, call->inode, STORE_ASK_COPIES,
				     &protection);
		if (r < 0)
			return ctl_fail(call, CTL_UNKNOWN, "protection: %s", err_sentence(r));
		if (protection.worst == PROTECTION_LOST)
			break;
		if (are_copies_there(&protection, copies)) {
			/* the names too: from here on any one of the providers gives it back */
			if (seq == 0)
				seq = sequencer_last_seq(call->store->sequencer);
			if (store_push(call->store, seq)) {
				is_sent = is_reached(&protection, copies);
				if (is_sent)
					break;
				seq = 0; /* seen before they were sent, or changed since */
			}
		}
		if (!store_may_write(call->store, why)) {
			put_protection(call->answer, &protection);
			return ctl_fail(call, CTL_REFUSED, "read-only: %s", why);
		}
		if (ctl_is_cancelled(call))
			break;
		progress = json_object();
		put_protection(progress, &protection);
		put(progress, "providers", describe_providers(call->store));
		ctl_progress(call, progress);
		ctl_pause(call, WAIT_POLL_MS);
	}
	put_protection(call->answer, &protection);
	if (protection.worst == PROTECTION_LOST)
		return ctl_fail(call, CTL_FAILED, "a part of it is lost");
	return is_sent ? CTL_DONE
		       : ctl_fail(call, CTL_FINDING, "cancelled before all copies were there");
}

/* ---- policy, configuration, counters ---- */

static enum ctl_exit verb_policy(struct ctl_call *call)
{
	char text[POLICY_TEXT_SIZE] = "";
	struct policy policy;

	store_policy_of(call->store, call->inode->row.policy_root, &policy);
	policy_print(&policy, text);
	put(call->answer, "policy", json_string(text));
	put(call->answer, "policy_root", number(call->inode->row.policy_root));
	put(call->answer, "inherited",
	    json_boolean(call->inode->row.policy_root != call->inode->row.ino));
	return CTL_DONE;
}

static enum ctl_exit verb_policy_set(struct ctl_call *call)
{
	AUTO(buf) why = BUF_INIT;
	const char *text = text_arg(call, "policy");
	int r;

	if (!text && !json_is_null(json_object_get(call->args, "policy")))
		return ctl_fail(call, CTL_INVALID, "policy: text is missing");
	r = store_set_policy(call->store, call->inode, text, &why);
	if (r == -EINVAL || r == -ENOTDIR)
		return ctl_fail(call, CTL_INVALID, "%s", buf_str(&why));
	if (r == -EDOM)
		return ctl_fail(call, CTL_REFUSED, "%s", buf_str(&why));
	if (r < 0)
		return ctl_fail(call, CTL_FAILED, "%s", why.len ? buf_str(&why) : err_sentence(r));
	return verb_policy(call);
}

static void put_options(json_t *out, const struct option_spec *table, const void *target)
{
	for (const struct option_spec *spec = table; spec->type != OPTION_END; spec++) {
		AUTO(buf) text = BUF_INIT;
		char key[OPTION_KEY_SIZE];

		if (option_print(spec, target, &text) == 0)
			put(out, option_key(spec, key), json_string(text.len ? buf_str(&text) : ""));
	}
}

static enum ctl_exit verb_config_show(struct ctl_call *call)
{
	const struct config *config = call->store->config;
	json_t *settings = json_object(), *top = json_object();

	put_options(top, config_options, config);
	put_options(settings, config_settings_options, &config->settings);
	put(call->answer, "source", json_string(config->source ? config->source : ""));
	put(call->answer, "file", top);
	put(call->answer, "settings", settings);
	return CTL_DONE;
}

static enum ctl_exit verb_counters(struct ctl_call *call)
{
	json_t *counters = json_object(), *times = json_object();

	for (struct counter *c = counter_iterate(NULL); c; c = counter_iterate(c))
		put(counters, c->name, number(counter_get(c)));
	for (struct histogram *h = histogram_iterate(NULL); h; h = histogram_iterate(h)) {
		json_t *one = json_object();

		put(one, "count", number(h->count));
		put(one, "p50_us", number(histogram_quantile_us(h, 500)));
		put(one, "p95_us", number(histogram_quantile_us(h, 950)));
		put(one, "p99_us", number(histogram_quantile_us(h, 990)));
		put(times, h->name, one);
	}
	put(call->answer, "counters", counters);
	put(call->answer, "times", times);
	return CTL_DONE;
}

const struct ctl_verb ctl_verbs_base[] = {
	{"cleanup plan", CTL_QUERY, true, verb_cleanup_plan, "what could be deleted, and when"},
	{"cleanup run", CTL_ACTION, true, verb_cleanup_run, "delete what nothing needs any more"},
	{"config show", CTL_QUERY, false, verb_config_show, "settings in force"},
	{"counters", CTL_QUERY, false, verb_counters, "counters and times since the mount"},
	{"policy", CTL_QUERY, false, verb_policy, "policy in force for a path"},
	{"policy set", CTL_ACTION, true, verb_policy_set, "set or remove the policy of a directory"},
	{"provider list", CTL_QUERY, false, verb_provider_list, "providers and their state"},
	{"stat", CTL_QUERY, false, verb_stat, "protection of one path"},
	{"status", CTL_QUERY, false, verb_status, "protection of everything, providers, space"},
	{"sync", CTL_ACTION, false, verb_sync, "make durable on this machine"},
	{"wait", CTL_CHECK, false, verb_wait, "return when all copies are there"},
	{0},
};

const struct ctl_verb *ctl_find_verb(const char *name)
{
	static const struct ctl_verb *const tables[] = {ctl_verbs_base, ctl_verbs_audit,
							ctl_verbs_clone, ctl_verbs_key,
							ctl_verbs_scrub, ctl_verbs_snapshot};

	for (size_t i = 0; i < ARRAY_COUNT(tables); i++)
		for (const struct ctl_verb *verb = tables[i]; verb->name; verb++)
			if (strcmp(verb->name, name) == 0)
				return verb;
	return NULL;
}
