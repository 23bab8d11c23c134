/* SPDX-License-Identifier: Apache-2.0 */
/* scrub, scrub status, and the orphans of cleanup. */
#include "ctl/ctl_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOLD_MAX  1000u /* findings and paths in one answer; counts are exact */
#define LOST_MAX  100000u
#define PAUSE_MS  500u /* between two looks at the progress */

/* ---- what a pass finds ---- */

struct collecting {
	struct ctl_call *call;
	json_t *findings, *orphans, *paths;
	size_t path_count;
	uint64_t *lost;
	size_t lost_count, lost_capacity;
	uint64_t told_ms;
	const char *what;
};

static json_t *describe_finding(const struct scrub_finding *finding)
{
	json_t *one = json_object();

	ctl_put(one, "object", json_string(scrub_object_name(finding->object)));
	ctl_put(one, "provider", json_string(finding->provider));
	ctl_put(one, "key", json_string(finding->key));
	if (finding->shard_no)
		ctl_put(one, "shard_no", ctl_number(finding->shard_no));
	return one;
}

static void on_found(void *ctx, const struct scrub_finding *finding)
{
	struct collecting *c = ctx;
	bool is_orphan = finding->object == SCRUB_ORPHAN || finding->object == SCRUB_FOREIGN;
	json_t *list = is_orphan ? c->orphans : c->findings, *one;

	if (json_array_size(list) >= TOLD_MAX)
		return;
	one = describe_finding(finding);
	if (is_orphan) {
		ctl_put(one, "bytes", ctl_number(finding->bytes));
		ctl_put(one, "kept_because", json_string(finding->kind));
		ctl_put(one, "deleted", json_boolean(finding->is_repaired));
	} else {
		ctl_put(one, "finding", json_string(finding->kind));
		ctl_put(one, "repaired", json_boolean(finding->is_repaired));
	}
	json_array_append_new(list, one);
}

static void on_lost(void *ctx, uint64_t shard_no)
{
	struct collecting *c = ctx;

	if (c->lost_count == LOST_MAX)
		return;
	if (c->lost_count == c->lost_capacity) {
		size_t more = MAX(2 * c->lost_capacity, (size_t)64);
		uint64_t *grown = mem_realloc_array(c->lost, more, sizeof(*grown));

		if (!grown)
			return;
		c->lost = grown;
		c->lost_capacity = more;
	}
	c->lost[c->lost_count++] = shard_no;
}

/* A name need not be UTF-8, but JSON must: bytes that are not are written as \\xNN. */
static json_t *name_text(const char *path)
{
	json_t *text = json_string(path);
	AUTO(buf) escaped = BUF_INIT;

	for (const char *at = path; !text && *at; at++)
		if ((unsigned char)*at < 0x80)
			buf_append(&escaped, bytes_of(at, 1));
		else
			buf_printf(&escaped, "\\x%02x", (unsigned char)*at);
	return text ? text : json_string(buf_str(&escaped));
}

static int on_path(void *ctx, const char *path)
{
	struct collecting *c = ctx;

	if (c->path_count++ < TOLD_MAX)
		json_array_append_new(c->paths, name_text(path));
	return ctl_is_cancelled(c->call) ? -ECANCELED : 0;
}

static bool on_progress(void *ctx, const struct scrub_report *report)
{
	struct collecting *c = ctx;
	uint64_t now = clock_mono_ms();
	json_t *progress;

	if (ctl_is_cancelled(c->call))
		return false;
	if (now < c->told_ms + PAUSE_MS)
		return true;
	c->told_ms = now;
	progress = json_object();
	ctl_put(progress, "note",
		json_sprintf("%s: %llu objects listed, %llu copies checked, %llu of %llu shards, "
			     "%llu bad", c->what, (unsigned long long)report->listed,
			     (unsigned long long)report->copies, (unsigned long long)report->shards,
			     (unsigned long long)report->total,
			     (unsigned long long)(report->missing + report->truncated +
						  report->corrupt + report->swapped +
						  report->unreadable + report->index_bad)));
	ctl_progress(c->call, progress);
	return true;
}

static void collecting_init(struct collecting *c, struct ctl_call *call, const char *what)
{
	*c = (struct collecting){.call = call,
				 .findings = json_array(),
				 .orphans = json_array(),
				 .paths = json_array(),
				 .what = what};
}

static void collecting_release(struct collecting *c)
{
	json_decref(c->findings);
	json_decref(c->orphans);
	json_decref(c->paths);
	mem_free(c->lost);
}

/* ---- scrub ---- */

static uint64_t bad_copies(const struct scrub_report *report)
{
	return report->missing + report->truncated + report->corrupt + report->swapped +
	       report->unreadable;
}

static void put_report(json_t *out, const struct scrub_report *report, struct collecting *c)
{
	ctl_put(out, "shards", ctl_number(report->shards));
	ctl_put(out, "checked", ctl_number(report->copies));
	ctl_put(out, "bytes_read", ctl_number(report->bytes));
	ctl_put(out, "verified_ok", ctl_number(report->ok));
	ctl_put(out, "missing", ctl_number(report->missing));
	ctl_put(out, "truncated", ctl_number(report->truncated));
	ctl_put(out, "corrupt", ctl_number(report->corrupt));
	ctl_put(out, "swapped", ctl_number(report->swapped));
	ctl_put(out, "unreadable", ctl_number(report->unreadable));
	ctl_put(out, "unknown", ctl_number(report->unknown));
	ctl_put(out, "index_objects", ctl_number(report->index_objects));
	ctl_put(out, "index_bad", ctl_number(report->index_bad));
	ctl_put(out, "repaired", ctl_number(report->repaired));
	ctl_put(out, "unrepaired", ctl_number(report->unrepaired));
	ctl_put(out, "listed", ctl_number(report->listed));
	ctl_put(out, "orphans", ctl_number(report->orphans));
	ctl_put(out, "orphan_bytes", ctl_number(report->orphan_bytes));
	ctl_put(out, "foreign", ctl_number(report->foreign));
	ctl_put(out, "lost", ctl_number(report->lost));
	ctl_put(out, "incomplete", json_string(report->incomplete_by));
	ctl_put(out, "findings", json_incref(c->findings));
	ctl_put(out, "orphan_objects", json_incref(c->orphans));
	ctl_put(out, "lost_files", ctl_number(c->path_count));
	ctl_put(out, "lost_paths", json_incref(c->paths));
}

static enum ctl_exit scrub_exit(struct ctl_call *call, const struct scrub_report *report, int r)
{
	if (report->lost > 0)
		return ctl_fail(call, CTL_FAILED,
				"%llu shards have no good copy left; lost_paths names their files",
				(unsigned long long)report->lost);
	if (r == -ECANCELED)
		return ctl_fail(call, CTL_PARTIAL, "cancelled: run it again to go on");
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "scrub: %s", err_sentence(r));
	if (report->incomplete_by[0])
		return ctl_fail(call, CTL_UNKNOWN, "not listed: %s; run it again when it is back",
				report->incomplete_by);
	if (report->unknown > 0)
		return ctl_fail(call, CTL_UNKNOWN, "%llu objects could not be asked for",
				(unsigned long long)report->unknown);
	if (bad_copies(report) + report->index_bad == 0)
		return CTL_DONE;
	return ctl_fail(call, CTL_FINDING, "%llu copies and index objects were not right; %llu of "
			"them are repaired",
			(unsigned long long)(bad_copies(report) + report->index_bad),
			(unsigned long long)report->repaired);
}

static enum ctl_exit verb_scrub(struct ctl_call *call)
{
	bool is_part = json_is_true(json_object_get(call->args, "part"));
	struct scrub_wish wish = {
		.is_deep = json_is_true(json_object_get(call->args, "deep")),
		.provider = ctl_text_arg(call, "provider"),
		.ino = is_part ? call->inode->row.ino : 0,
	};
	struct collecting c;
	struct scrub_watch watch = {&c, on_progress, on_found, on_lost};
	struct scrub_report report = {0};
	enum ctl_exit code;
	int r;

	collecting_init(&c, call, wish.is_deep ? "deep" : "cheap");
	r = store_scrub(call->store, call->reader, &wish, &watch, &report);
	if (r == -ENODEV) {
		collecting_release(&c);
		return ctl_fail(call, CTL_INVALID, "%s: there is no such provider", wish.provider);
	}
	if (c.lost_count > 0) {
		int named = store_name_users(call->store, call->reader, call->inode, c.lost,
					     c.lost_count, on_path, &c);

		r = r < 0 ? r : named;
	}
	put_report(call->answer, &report, &c);
	code = scrub_exit(call, &report, r);
	collecting_release(&c);
	return code;
}

/* ---- status ---- */

static json_t *when(int64_t sec)
{
	char text[CLOCK_RFC3339_SIZE];

	return sec ? json_string(clock_rfc3339((struct wall_time){.sec = sec}, text)) : json_null();
}

static enum ctl_exit verb_scrub_status(struct ctl_call *call)
{
	const struct config_settings *set = &call->store->config->settings;
	unsigned count = transfer_provider_count(call->store->transfer);
	struct scrub_status status;
	json_t *listed = json_object();
	int r = store_scrub_status(call->store, call->reader, &status);

	for (unsigned i = 0; i < count; i++) {
		struct provider_status provider;

		transfer_provider_status(call->store->transfer, i, &provider);
		ctl_put(listed, provider.name, when(store_scrub_listed_sec(call->store, i)));
	}
	ctl_put(call->answer, "last_listed", listed);
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "scrub: %s", err_sentence(r));
	ctl_put(call->answer, "enabled", json_boolean(status.is_enabled));
	ctl_put(call->answer, "in_window", json_boolean(status.is_in_window));
	ctl_put(call->answer, "period_seconds", ctl_number(set->scrub_period_ms / 1000));
	ctl_put(call->answer, "shards", ctl_number(status.shards));
	ctl_put(call->answer, "verified_shards", ctl_number(status.shards_verified));
	ctl_put(call->answer, "coverage_ratio",
		json_real(status.shards
				  ? (double)status.shards_verified / (double)status.shards : 1));
	ctl_put(call->answer, "oldest_verified", when(status.oldest_sec));
	ctl_put(call->answer, "next", when(status.next_sec));
	ctl_put(call->answer, "copies_read", ctl_number(status.copies));
	ctl_put(call->answer, "bytes_read", ctl_number(status.bytes));
	ctl_put(call->answer, "bad_found", ctl_number(status.bad));
	ctl_put(call->answer, "orphans", ctl_number(status.orphans));
	ctl_put(call->answer, "foreign", ctl_number(status.foreign));
	return CTL_DONE;
}

/* ---- orphans ---- */

int ctl_put_orphans(struct ctl_call *call, bool deletes, struct scrub_report *report)
{
	struct collecting c;
	struct scrub_watch watch = {&c, on_progress, on_found, NULL};
	json_t *out = json_object();
	int r;

	collecting_init(&c, call, "orphans");
	r = store_scrub_orphans(call->store, call->reader, deletes, &watch, report);
	ctl_put(out, "count", ctl_number(report->orphans));
	ctl_put(out, "bytes", ctl_number(report->orphan_bytes));
	ctl_put(out, "deletable", ctl_number(report->orphans_deletable));
	ctl_put(out, "deleted", ctl_number(report->orphans_deleted));
	ctl_put(out, "foreign", ctl_number(report->foreign));
	ctl_put(out, "incomplete", json_string(report->incomplete_by));
	ctl_put(out, "objects", json_incref(c.orphans));
	ctl_put(call->answer, "orphans", out);
	collecting_release(&c);
	return r;
}

const struct ctl_verb ctl_verbs_scrub[] = {
	{"scrub", CTL_CHECK, true, verb_scrub, "compare what providers hold with the index"},
	{"scrub status", CTL_QUERY, false, verb_scrub_status, "how much was verified, and when"},
	{0},
};
