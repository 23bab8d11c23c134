/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log. */
#include "ctl/ctl_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <string.h>

#define LIST_MAX 1000u

struct listing {
	const char *kind; /* NULL: all */
	json_t *entries;
};

static int list_row(void *ctx, const struct audit_row *row)
{
	struct listing *listing = ctx;
	char time[CLOCK_RFC3339_SIZE];
	json_t *entry = json_loadb((const char *)row->body.ptr, row->body.len, 0, NULL);
	const char *kind = json_string_value(json_object_get(entry, "kind"));

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
	struct listing listing = {ctl_text_arg(call, "kind"), json_array()};
	int r = sequencer_wait_applied(sequencer, sequencer_last_seq(sequencer));

	if (r == 0)
		r = index_list_audit(call->store->index, call->reader, 0, INT64_MAX, list_row,
				     &listing);
	ctl_put(call->answer, "entries", listing.entries);
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "audit log: %s", err_sentence(r));
	return CTL_DONE;
}

static enum ctl_exit verb_audit_verify(struct ctl_call *call)
{
	struct audit_verdict verdict;
	int r = store_audit_verify(call->store, call->reader, &verdict);

	if (r < 0)
		return ctl_fail(call, r == -EUCLEAN ? CTL_FINDING : CTL_UNKNOWN, "audit log: %s",
				err_sentence(r));
	ctl_put(call->answer, "entries", ctl_number(verdict.entries));
	ctl_put(call->answer, "bad_number",
		verdict.bad_no ? ctl_number(verdict.bad_no) : json_null());
	if (verdict.bad_no)
		return ctl_fail(call, CTL_FINDING, "audit log: entry %llu %s",
				(unsigned long long)verdict.bad_no, verdict.why);
	return CTL_DONE;
}

const struct ctl_verb ctl_verbs_audit[] = {
	{"audit list", CTL_QUERY, true, verb_audit_list, "who did what"},
	{"audit verify", CTL_CHECK, true, verb_audit_verify,
	 "prove that no entry is missing or altered"},
	{0},
};
