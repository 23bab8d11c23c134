/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of the audit log as a provider has it: the newest entry in the oplog that lies there.
 *
 * Behind the newest snapshot the segments are read from the last one backwards, until one has an
 * entry; if none has, the snapshot's first parts are read, where the log is.  All of it is
 * authenticated, so a provider can show less than there was, but nothing that was not.
 */
#include "store/audit.h"

#include "store/oplog_private.h"
#include "util/err.h"
#include "util/mem.h"
#include "util/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct end {
	struct audit_place place;
	struct aead_ctx *aead;
	unsigned provider;
	uint64_t no; /* 0: no entry */
	struct digest mac;
	bool is_behind_log; /* the snapshot's rows are none of the log any more */
};

static int get(struct end *end, const struct oplog_name *name, struct buf *body)
{
	char key[sizeof(OPLOG_PREFIX) + OPLOG_NAME_SIZE], text[OPLOG_NAME_SIZE];
	AUTO(buf) object = BUF_INIT;
	struct transfer_request request = {.op = BACKEND_GET, .flags = BACKEND_TAIL, .key = key,
					   .len = OPLOG_OBJECT_BYTES_MAX, .out = &object};
	struct digest hash;
	int r;

	snprintf(key, sizeof(key), OPLOG_PREFIX "%s", oplog_name_print(name, text));
	r = transfer_request(end->place.transfer, end->provider, &request);
	buf_clear(body);
	return r < 0 ? r
		     : oplog_open_object(end->place.keyring, end->aead, name, buf_bytes(&object),
					 body, &hash);
}

/* The log is among the small tables, which come first. */
static bool is_small(enum change_type type)
{
	return type == CHANGE_AUDIT_PUT || type == CHANGE_PROVIDER_PUT ||
	       type == CHANGE_POLICY_PUT || type == CHANGE_SNAPSHOT_PUT ||
	       type == CHANGE_SETTING_PUT || type == CHANGE_AUDIT_CUT;
}

static int look_at(struct end *end, struct bytes changes)
{
	struct record_walk walk = record_walk_of(changes);
	struct change change;
	int r;

	while ((r = record_walk_next(&walk, &change)) > 0) {
		end->is_behind_log |= !is_small(change.type);
		if (change.type != CHANGE_AUDIT_PUT || change.u.audit.audit_no < end->no)
			continue;
		end->no = change.u.audit.audit_no;
		memcpy(end->mac.b, change.u.audit.mac, sizeof(end->mac.b));
	}
	return r;
}

static int look_at_segment(struct end *end, const struct oplog_name *name)
{
	struct oplog_segment_head head;
	AUTO(buf) body = BUF_INIT;
	struct bytes records, changes;
	uint64_t seq;
	int r = get(end, name, &body);

	if (r == 0)
		r = oplog_segment_read(buf_bytes(&body), &head, &records);
	while (r == 0 && (r = oplog_get_record(&records, &seq, &changes)) > 0)
		r = look_at(end, changes);
	return r;
}

static int look_at_part(struct end *end, const struct oplog_name *name)
{
	AUTO(buf) body = BUF_INIT;
	struct wire_reader reader;
	int r = get(end, name, &body);

	reader = wire_reader_of(buf_bytes(&body));
	while (r == 0 && wire_left(&reader) > 0) {
		struct bytes changes = wire_get_blob(&reader, OPLOG_PLAIN_BYTES_MAX);

		r = wire_reader_check(&reader);
		if (r == 0)
			r = look_at(end, changes);
	}
	return r;
}

/* *bad: what is not right, when that is what it answers. */
static int look_at_snapshot(struct end *end, const struct oplog_files *files,
			    const struct oplog_name *root, struct oplog_name *bad)
{
	struct oplog_name part = *root;
	AUTO(buf) body = BUF_INIT;
	int r = get(end, root, &body);

	*bad = *root;
	part.kind = OPLOG_PART;
	for (part.part = 0; r == 0 && !end->is_behind_log; part.part++) {
		if (!oplog_files_find(files, &part))
			break;
		r = look_at_part(end, &part);
		*bad = part;
	}
	return r;
}

/* The segments behind root, in their order. */
static int chain_of(const struct oplog_files *files, const struct oplog_name *root,
		    struct oplog_files *out)
{
	const struct oplog_file *segment;
	uint32_t epoch = root->epoch;
	uint64_t at = root->first;
	int r = 0;

	while (r == 0 && (segment = oplog_files_next(files, epoch, UINT32_MAX, at)) != NULL) {
		r = oplog_files_add(out, segment);
		at = segment->name.last;
		epoch = segment->name.epoch;
	}
	return r;
}

/* In the newest state that the names of files give; *bad as above. */
static int look_at_state(struct end *end, const struct oplog_files *files, struct oplog_name *bad)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;
	AUTO(oplog_files) chain = OPLOG_FILES_INIT;
	int r = oplog_files_roots(files, &roots);

	end->no = 0;
	end->is_behind_log = false;
	if (r < 0 || roots.count == 0)
		return r;
	r = chain_of(files, &roots.files[0].name, &chain);
	for (size_t i = chain.count; i-- > 0 && r == 0 && end->no == 0;) {
		*bad = chain.files[i].name;
		r = look_at_segment(end, bad);
	}
	return r < 0 || end->no > 0 ? r
				    : look_at_snapshot(end, files, &roots.files[0].name, bad);
}

/* What does not authenticate has rotted, or never was ours: the provider has what is left then. */
static int find_end(struct end *end)
{
	AUTO(oplog_files) files = OPLOG_FILES_INIT;
	struct oplog_name bad = {0};
	int r = oplog_list_at(end->place.transfer, end->provider, &files);

	while (r == 0 && (r = look_at_state(end, &files, &bad)) == -EBADMSG) {
		if (bad.kind == OPLOG_PART) /* its snapshot goes with it */
			bad.kind = OPLOG_ROOT;
		if (!oplog_files_remove(&files, &bad))
			return r;
		r = 0;
	}
	return r;
}

/* ---- judging ---- */

struct own {
	uint64_t no;
	struct digest mac;
};

static int get_own(void *ctx, const struct audit_row *row)
{
	struct own *own = ctx;

	own->no = row->audit_no;
	memcpy(own->mac.b, row->mac, sizeof(row->mac));
	return 1;
}

static int judge(const struct audit_place *place, struct index_reader *reader,
		 const struct end *end, struct audit_compared *out)
{
	struct own own = {.no = 0};
	int r;

	out->entries = end->no;
	if (end->no > place->head_no) {
		out->state = AUDIT_AHEAD;
		return 0;
	}
	if (end->no == 0) {
		out->state = AUDIT_BEHIND;
		return 0;
	}
	r = index_list_audit(place->index, reader, end->no - 1, 1, get_own, &own);
	if (r < 0)
		return r;
	if (own.no != end->no)
		out->state = AUDIT_BEHIND; /* that one was cut here meanwhile */
	else if (memcmp(own.mac.b, end->mac.b, sizeof(own.mac.b)) != 0)
		out->state = AUDIT_OTHER;
	else
		out->state = end->no == place->head_no ? AUDIT_SAME : AUDIT_BEHIND;
	return 0;
}

int audit_compare_at(const struct audit_place *place, struct index_reader *reader,
		     void (*visit)(void *ctx, const struct audit_compared *compared), void *ctx)
{
	struct end end = {.place = *place};
	unsigned count = transfer_provider_count(place->transfer);
	int r = aead_ctx_new(&end.aead);

	for (unsigned i = 0; i < count && r == 0; i++) {
		struct audit_compared compared = {.state = AUDIT_UNREACHED};
		struct provider_status status;
		bool is_present;

		transfer_provider_status(place->transfer, i, &status);
		compared.provider = status.name;
		end.provider = i;
		if (transfer_backend(place->transfer, i, &is_present) && is_present) {
			r = find_end(&end);
			if (r == 0)
				r = judge(place, reader, &end, &compared);
			else if (r != -ENOMEM)
				snprintf(compared.cause, sizeof(compared.cause), "%s",
					 err_sentence(r));
			if (compared.state == AUDIT_UNREACHED && r != -ENOMEM)
				r = 0;
		}
		if (r == 0)
			visit(ctx, &compared);
	}
	aead_ctx_free(end.aead);
	return r;
}

const char *audit_state_name(enum audit_state state)
{
	static const char *const names[] = {
		[AUDIT_SAME] = "same",
		[AUDIT_BEHIND] = "behind",
		[AUDIT_AHEAD] = "ahead",
		[AUDIT_OTHER] = "another",
		[AUDIT_UNREACHED] = "not reached",
	};

	return names[state];
}
