/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log. */
#include "ctl/ctl_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LIST_MAX 1000u
#define PAGE_MAX 500u

struct listing {
	const char *kind; /* NULL: all */
	json_int_t since_sec;
	json_t *entries;
};

static int list_row(void *ctx, const struct audit_row *row)
{
	struct listing *listing = ctx;
	char time[CLOCK_RFC3339_SIZE];
	const char *kind;
	json_t *entry;

	if (row->time.sec < listing->since_sec)
		return 0;
	entry = json_loadb((const char *)row->body.ptr, row->body.len, 0, NULL);
	kind = json_string_value(json_object_get(entry, "kind"));
	if (!entry) {
		entry = json_object();
		ctl_put(entry, "result", json_string("damaged: see audit verify"));
	}
	if (listing->kind && (!kind || strcmp(kind, listing->kind) != 0)) {
		json_decref(entry);
		return 0;
	}
	ctl_put(entry, "number", ctl_number(row->audit_no));
	ctl_put(entry, "time", json_string(clock_rfc3339(row->time, time)));
	if (json_array_size(listing->entries) == LIST_MAX)
		json_array_remove(listing->entries, 0);
	return json_array_append_new(listing->entries, entry) == 0 ? 0 : -ENOMEM;
}

static enum ctl_exit verb_audit_list(struct ctl_call *call)
{
	struct sequencer *sequencer = call->store->sequencer;
	const json_t *since = json_object_get(call->args, "since");
	struct listing listing = {.kind = ctl_text_arg(call, "kind"),
				  .since_sec = since ? json_integer_value(since) : INT64_MIN,
				  .entries = json_array()};
	int r = sequencer_wait_applied(sequencer, sequencer_last_seq(sequencer));

	if (r == 0)
		r = index_list_audit(call->store->index, call->reader, 0, INT64_MAX, list_row,
				     &listing);
	ctl_put(call->answer, "entries", listing.entries);
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "audit log: %s", err_sentence(r));
	return CTL_DONE;
}

/* As it is stored, so that whoever has the key can prove it elsewhere. */
static int page_row(void *ctx, const struct audit_row *row)
{
	json_t *entries = ctx, *entry = json_object();
	char hex[2 * sizeof(row->mac) + 1];

	for (size_t i = 0; i < sizeof(row->mac); i++)
		snprintf(hex + 2 * i, 3, "%02x", row->mac[i]);
	ctl_put(entry, "number", ctl_number(row->audit_no));
	ctl_put(entry, "sec", json_integer(row->time.sec));
	ctl_put(entry, "nsec", json_integer(row->time.nsec));
	ctl_put(entry, "mac", json_string(hex));
	ctl_put(entry, "body", json_stringn((const char *)row->body.ptr, row->body.len));
	return json_array_append_new(entries, entry) == 0 ? 0 : -ENOMEM;
}

static enum ctl_exit verb_audit_page(struct ctl_call *call)
{
	struct sequencer *sequencer = call->store->sequencer;
	const json_t *after = json_object_get(call->args, "after");
	json_t *entries = json_array();
	int r = sequencer_wait_applied(sequencer, sequencer_last_seq(sequencer));

	if (r == 0)
		r = index_list_audit(call->store->index, call->reader,
				     (uint64_t)MAX(json_integer_value(after), 0), PAGE_MAX,
				     page_row, entries);
	ctl_put(call->answer, "entries", entries);
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "audit log: %s", err_sentence(r));
	return CTL_DONE;
}

struct comparing {
	json_t *providers;
	struct buf bad; /* what is wrong with the first that is not ours */
	uint64_t head_no;
};

static void compare_provider(void *ctx, const struct audit_compared *compared)
{
	struct comparing *comparing = ctx;
	json_t *one = json_object();

	ctl_put(one, "entries", ctl_number(compared->entries));
	ctl_put(one, "state", json_string(audit_state_name(compared->state)));
	if (compared->cause[0])
		ctl_put(one, "cause", json_string(compared->cause));
	ctl_put(comparing->providers, compared->provider, one);
	if (comparing->bad.len > 0)
		return;
	if (compared->state == AUDIT_AHEAD)
		buf_printf(&comparing->bad,
			   "audit log: provider %s has entries up to %llu, the newest here is %llu: "
			   "what is here was set back", compared->provider,
			   (unsigned long long)compared->entries,
			   (unsigned long long)comparing->head_no);
	else if (compared->state == AUDIT_OTHER)
		buf_printf(&comparing->bad,
			   "audit log: entry %llu at provider %s is another one here: what is here "
			   "was set back, or another machine has gone on",
			   (unsigned long long)compared->entries, compared->provider);
}

/* The chain here is sound: does it end where the providers say? */
static enum ctl_exit compare_ends(struct ctl_call *call, uint64_t head_no)
{
	struct comparing comparing = {.providers = json_object(), .head_no = head_no};
	AUTO(buf) bad = BUF_INIT;
	int r = store_audit_compare(call->store, call->reader, compare_provider, &comparing);

	buf_swap(&bad, &comparing.bad);
	ctl_put(call->answer, "providers", comparing.providers);
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "audit log: %s", err_sentence(r));
	return bad.len > 0 ? ctl_fail(call, CTL_FINDING, "%s", buf_str(&bad)) : CTL_DONE;
}

static enum ctl_exit verb_audit_verify(struct ctl_call *call)
{
	struct audit_verdict verdict;
	int r = store_audit_verify(call->store, call->reader, &verdict);

	if (r < 0)
		return ctl_fail(call, r == -EUCLEAN ? CTL_FINDING : CTL_UNKNOWN, "audit log: %s",
				err_sentence(r));
	ctl_put(call->answer, "entries", ctl_number(verdict.entries));
	ctl_put(call->answer, "first_number", ctl_number(verdict.first_no));
	ctl_put(call->answer, "bad_number",
		verdict.bad_no ? ctl_number(verdict.bad_no) : json_null());
	if (verdict.bad_no)
		return ctl_fail(call, CTL_FINDING, "audit log: entry %llu %s",
				(unsigned long long)verdict.bad_no, verdict.why);
	return compare_ends(call, verdict.last_no);
}

const struct ctl_verb ctl_verbs_audit[] = {
	{"audit list", CTL_QUERY, true, verb_audit_list, "who did what"},
	{"audit page", CTL_QUERY, true, verb_audit_page, "entries as they are stored, in pages"},
	{"audit verify", CTL_CHECK, true, verb_audit_verify,
	 "prove that no entry is missing or altered"},
	{0},
};
