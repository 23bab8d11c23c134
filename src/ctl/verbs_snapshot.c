/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots. */
#include "ctl/ctl_private.h"

#include "store/retention.h"
#include "store/snapshot_diff.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static enum ctl_exit exit_of(int r)
{
	switch (r) {
	case -EINVAL:
	case -ENOTDIR:
		return CTL_INVALID;
	case -EEXIST:
	case -ENOENT:
	case -ENOSPC:
	case -EROFS:
		return CTL_REFUSED;
	default:
		return CTL_FAILED;
	}
}

static enum ctl_exit fail(struct ctl_call *call, int r, struct buf *why, const char *name)
{
	if (why->len > 0)
		return ctl_fail(call, exit_of(r), "snapshot %s", buf_str(why));
	return ctl_fail(call, exit_of(r), "snapshot %s: %s", name, err_sentence(r));
}

static json_t *describe(const struct snapshot_row *row)
{
	char time[CLOCK_RFC3339_SIZE];
	json_t *one = json_object();

	ctl_put(one, "number", ctl_number(row->snapshot_no));
	ctl_put(one, "created",
		json_string(clock_rfc3339((struct wall_time){.sec = row->created_sec}, time)));
	ctl_put(one, "inode", ctl_number(row->root));
	ctl_put(one, "files", ctl_number(row->files));
	ctl_put(one, "directories", ctl_number(row->directories));
	ctl_put(one, "bytes", ctl_number(row->bytes));
	return one;
}

/*
 * What was written so far shows.  Closing pushes, so only files that are open for writing can have
 * bytes that the journal does not have yet, some of them in the kernel's pages alone.
 */
static int settle(struct ctl_call *call)
{
	const struct ctl_front *front = ctl_front(call->ctl);
	struct inode **inodes = NULL;
	size_t count = 0;
	int r = front->list_written ? front->list_written(front->ctx, &inodes, &count) : 0;

	for (size_t i = 0; i < count; i++) {
		if (r == 0) {
			front->write_back(front->ctx, inodes[i]->row.ino);
			r = ctl_push(call, inodes[i]);
		}
		inode_unref(call->store->inodes, inodes[i], 1);
	}
	mem_free(inodes);
	return r;
}

static enum ctl_exit verb_snapshot_create(struct ctl_call *call)
{
	const char *name = ctl_text_arg(call, "name");
	AUTO(buf) why = BUF_INIT;
	struct snapshot_row row;
	json_t *snapshots;
	int r;

	if (!name)
		return ctl_fail(call, CTL_INVALID, "snapshot create: a name is needed, in UTF-8");
	r = inode_is_dir(call->inode) ? settle(call) : 0;
	if (r < 0)
		return ctl_fail(call, CTL_FAILED, "snapshot %s: bytes of an open file: %s", name,
				err_sentence(r));
	r = store_snapshot_create(call->store, call->reader, call->inode, name, &row, &why);
	if (r < 0)
		return fail(call, r, &why, name);
	snapshots = json_object();
	json_object_set_new(snapshots, name, describe(&row));
	ctl_put(call->answer, "snapshots", snapshots);
	return CTL_DONE;
}

static enum ctl_exit verb_snapshot_delete(struct ctl_call *call)
{
	const char *name = ctl_text_arg(call, "name");
	AUTO(buf) why = BUF_INIT;
	int r;

	if (!name)
		return ctl_fail(call, CTL_INVALID, "snapshot delete: a name is needed, in UTF-8");
	r = store_snapshot_delete(call->store, call->reader, name, &why);
	return r < 0 ? fail(call, r, &why, name) : CTL_DONE;
}

static enum ctl_exit verb_snapshot_list(struct ctl_call *call)
{
	AUTO(snapshot_list) list = ROW_LIST_INIT;
	json_t *snapshots = json_object();
	int r = store_snapshot_list(call->store, &list);

	for (size_t i = 0; r == 0 && i < list.count; i++)
		if (json_object_set_new(snapshots, list.rows[i].name, describe(&list.rows[i])) < 0)
			r = -ENOMEM;
	ctl_put(call->answer, "snapshots", snapshots);
	return r < 0 ? ctl_fail(call, CTL_UNKNOWN, "snapshots: %s", err_sentence(r)) : CTL_DONE;
}

/* ---- diff ---- */

#define DIFF_ENTRIES_MAX 100000u

struct diff_listing {
	struct ctl_call *call;
	json_t *entries;
	bool is_reversed; /* asked for from the later to the earlier one */
	bool is_cut;
};

/* Names are bytes; what is no UTF-8 has each odd byte as %XX. */
static json_t *path_text(const char *path)
{
	json_t *text = json_string(path);
	AUTO(buf) escaped = BUF_INIT;

	if (text)
		return text;
	for (; *path; path++) {
		bool is_plain = *path > ' ' && *path < 0x7f && *path != '%';

		if (buf_printf(&escaped, is_plain ? "%c" : "%%%02X", (unsigned char)*path) < 0)
			return NULL;
	}
	return json_string(buf_str(&escaped));
}

static int add_diff(void *ctx, const struct diff_entry *entry)
{
	struct diff_listing *listing = ctx;
	enum diff_change change = entry->change;
	const char *path = entry->path, *from = entry->from;
	json_t *one;

	if (ctl_is_cancelled(listing->call))
		return -ECANCELED;
	if (json_array_size(listing->entries) == DIFF_ENTRIES_MAX) {
		listing->is_cut = true;
		return 1;
	}
	if (listing->is_reversed) {
		change = change == DIFF_ADDED ? DIFF_REMOVED : change == DIFF_REMOVED ? DIFF_ADDED
										      : change;
		if (from) {
			path = entry->from;
			from = entry->path;
		}
	}
	one = json_object();
	ctl_put(one, "change", json_string(diff_change_name(change)));
	ctl_put(one, "path", path_text(path));
	if (from)
		ctl_put(one, "from", path_text(from));
	if (entry->is_dir)
		ctl_put(one, "directory", json_true());
	return json_array_append_new(listing->entries, one);
}

static int find_one(struct ctl_call *call, const char *key, struct snapshot_row *out)
{
	const char *name = ctl_text_arg(call, key);
	int r = name ? index_find_snapshot(call->store->index, bytes_of_str(name), out) : -EINVAL;

	if (r == -ENOENT)
		ctl_fail(call, CTL_REFUSED, "snapshot %s: there is no snapshot of that name: see "
			 "shardctl snapshot list", name);
	else if (r < 0)
		ctl_fail(call, CTL_INVALID, "snapshot diff: a name is needed, in UTF-8");
	return r;
}

static enum ctl_exit verb_snapshot_diff(struct ctl_call *call)
{
	struct diff_listing listing = {.call = call, .entries = json_array()};
	bool has_second = json_object_get(call->args, "to") != NULL;
	struct snapshot_row first, second;
	struct diff_settings settings = {.from = &first, .visit = add_diff, .ctx = &listing};
	int r = find_one(call, "name", &first);

	if (r == 0 && has_second)
		r = find_one(call, "to", &second);
	ctl_put(call->answer, "entries", listing.entries);
	if (r < 0)
		return r == -ENOENT ? CTL_REFUSED : CTL_INVALID;
	if (has_second && second.root != first.root)
		return ctl_fail(call, CTL_INVALID, "snapshots %s and %s are of different directories",
				first.name, second.name);
	if (has_second) {
		listing.is_reversed = second.seq < first.seq;
		settings.from = listing.is_reversed ? &second : &first;
		settings.to = listing.is_reversed ? &first : &second;
	}
	if (json_is_true(json_object_get(call->args, "part")))
		settings.dir = call->inode->row.ino & INO_MAX;
	r = snapshot_diff(call->store, call->reader, &settings);
	ctl_put(call->answer, "is_cut", json_boolean(listing.is_cut));
	if (r == -ENOTDIR)
		return ctl_fail(call, CTL_INVALID,
				"snapshot diff: what is compared is no directory on both sides");
	if (r == -E2BIG)
		return ctl_fail(call, CTL_REFUSED, "snapshot diff: more than %u files changed",
				CHANGED_MAX);
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "snapshot diff: %s", err_sentence(r));
	if (listing.is_cut)
		return ctl_fail(call, CTL_PARTIAL,
				"snapshot diff: more than %u changes: these are the first; name a PATH",
				DIFF_ENTRIES_MAX);
	return CTL_DONE;
}

/* ---- retention ---- */

#define RULE_MAX 1000000u

static int read_rules(struct ctl_call *call, struct retention_rules *rules)
{
	const struct {
		const char *key;
		uint32_t *to;
	} keys[] = {
		{"last", &rules->last},	    {"hourly", &rules->hourly},	  {"daily", &rules->daily},
		{"weekly", &rules->weekly}, {"monthly", &rules->monthly}, {"yearly", &rules->yearly},
	};

	for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
		const json_t *value = json_object_get(call->args, keys[i].key);
		json_int_t n = value ? json_integer_value(value) : 0;

		if ((value && !json_is_integer(value)) || n < 0 || n > RULE_MAX)
			return -EINVAL;
		*keys[i].to = (uint32_t)n;
	}
	return retention_has_rule(rules) ? 0 : -EINVAL;
}

/* Later ones first; of one second the one that was made later. */
static int compare_newest_first(const void *a, const void *b)
{
	const struct snapshot_row *x = a, *y = b;

	if (x->created_sec != y->created_sec)
		return x->created_sec > y->created_sec ? -1 : 1;
	return x->snapshot_no > y->snapshot_no ? -1 : x->snapshot_no < y->snapshot_no;
}

/* Those whose names begin with prefix, newest first. */
static int list_prefixed(struct ctl_call *call, const char *prefix, struct snapshot_list *out)
{
	AUTO(snapshot_list) all = ROW_LIST_INIT;
	int r = store_snapshot_list(call->store, &all);

	for (size_t i = 0; r == 0 && i < all.count; i++)
		if (strncmp(all.rows[i].name, prefix, strlen(prefix)) == 0)
			r = snapshot_list_add(out, &all.rows[i]);
	if (r == 0 && out->count > 1)
		qsort(out->rows, out->count, sizeof(*out->rows), compare_newest_first);
	return r;
}

/* Deletes, unless dry, what no rule keeps; lists of names in the answer. */
static enum ctl_exit prune(struct ctl_call *call, bool is_dry)
{
	const char *prefix = ctl_text_arg(call, "prefix");
	AUTO(snapshot_list) list = ROW_LIST_INIT;
	json_t *kept = json_array(), *deleted = json_array(), *left = json_array();
	struct retention_rules rules;
	AUTO(buf) why = BUF_INIT;
	int64_t *secs = NULL;
	bool *keep = NULL;
	int r = read_rules(call, &rules);

	ctl_put(call->answer, "kept", kept);
	ctl_put(call->answer, "deleted", deleted);
	ctl_put(call->answer, "failed", left);
	if (r < 0)
		return ctl_fail(call, CTL_INVALID, "snapshot prune: say what to keep: at least one "
				"of --keep-last, -hourly, -daily, -weekly, -monthly, -yearly");
	r = list_prefixed(call, prefix ? prefix : "", &list);
	if (r == 0 && list.count > 0) {
		secs = mem_alloc_array(list.count, sizeof(*secs));
		keep = mem_alloc_array(list.count, sizeof(*keep));
		r = secs && keep ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < list.count; i++)
		secs[i] = list.rows[i].created_sec;
	if (r == 0)
		retention_choose(&rules, secs, list.count, keep);
	for (size_t i = 0; r == 0 && i < list.count; i++) {
		const char *name = list.rows[i].name;
		int failed = 0;

		if (!keep[i] && !is_dry)
			failed = store_snapshot_delete(call->store, call->reader, name, &why);
		json_array_append_new(keep[i] ? kept : failed < 0 ? left : deleted,
				      json_string(name));
	}
	mem_free(secs);
	mem_free(keep);
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "snapshot prune: %s", err_sentence(r));
	if (json_array_size(left) > 0)
		return ctl_fail(call, CTL_PARTIAL, "snapshot prune: %zu could not be deleted: %s",
				json_array_size(left), why.len ? buf_str(&why) : "see the log");
	return CTL_DONE;
}

static enum ctl_exit verb_snapshot_prune(struct ctl_call *call)
{
	return prune(call, false);
}

static enum ctl_exit verb_snapshot_prune_plan(struct ctl_call *call)
{
	return prune(call, true);
}

const struct ctl_verb ctl_verbs_snapshot[] = {
	{"snapshot create", CTL_ACTION, true, verb_snapshot_create, "keep a tree as it is now"},
	{"snapshot delete", CTL_ACTION, true, verb_snapshot_delete, "give back what only it holds"},
	{"snapshot diff", CTL_QUERY, true, verb_snapshot_diff, "what changed since, or until another"},
	{"snapshot list", CTL_QUERY, false, verb_snapshot_list, "the snapshots that there are"},
	{"snapshot prune", CTL_ACTION, true, verb_snapshot_prune, "delete what no rule keeps"},
	{"snapshot prune plan", CTL_QUERY, false, verb_snapshot_prune_plan, "what that would delete"},
	{0},
};
