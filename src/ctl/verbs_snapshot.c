/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots. */
#include "ctl/ctl_private.h"

#include "store/snapshot.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>

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

static enum ctl_exit verb_snapshot_create(struct ctl_call *call)
{
	const char *name = ctl_text_arg(call, "name");
	AUTO(buf) why = BUF_INIT;
	struct snapshot_row row;
	json_t *snapshots;
	int r;

	if (!name)
		return ctl_fail(call, CTL_INVALID, "snapshot create: a name is needed");
	r = inode_is_dir(call->inode) ? ctl_sync(call) : 0; /* what was written so far shows */
	if (r < 0)
		return ctl_fail(call, CTL_FAILED, "snapshot %s: sync: %s", name, err_sentence(r));
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
		return ctl_fail(call, CTL_INVALID, "snapshot delete: a name is needed");
	r = store_snapshot_delete(call->store, call->reader, name, &why);
	return r < 0 ? fail(call, r, &why, name) : CTL_DONE;
}

static enum ctl_exit verb_snapshot_list(struct ctl_call *call)
{
	AUTO(snapshot_list) list = ROW_LIST_INIT;
	json_t *snapshots = json_object();
	int r = store_snapshot_list(call->store, call->reader, &list);

	for (size_t i = 0; r == 0 && i < list.count; i++)
		if (json_object_set_new(snapshots, list.rows[i].name, describe(&list.rows[i])) < 0)
			r = -ENOMEM;
	ctl_put(call->answer, "snapshots", snapshots);
	return r < 0 ? ctl_fail(call, CTL_UNKNOWN, "snapshots: %s", err_sentence(r)) : CTL_DONE;
}

const struct ctl_verb ctl_verbs_snapshot[] = {
	{"snapshot create", CTL_ACTION, true, verb_snapshot_create, "keep a tree as it is now"},
	{"snapshot delete", CTL_ACTION, true, verb_snapshot_delete, "give back what only it holds"},
	{"snapshot list", CTL_QUERY, false, verb_snapshot_list, "the snapshots that there are"},
	{0},
};
