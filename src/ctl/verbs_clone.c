/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clone: the object of the call is the source; its place is the directory
 * "parent" (an inode number, which the caller got with fstat) and "name" in hex
 * digits, since a name is any bytes.
 */
#include "ctl/ctl_private.h"

#include "store/clone.h"
#include "store/names.h"
#include "util/err.h"

#include <errno.h>

/* 0, or -EINVAL. */
static int get_name(struct ctl_call *call, char out[NAME_LEN_MAX + 1], struct bytes *name)
{
	const char *hex = ctl_text_arg(call, "name");
	size_t len = hex ? strlen(hex) : 0;

	if (len == 0 || len % 2 != 0 || len / 2 > NAME_LEN_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		static const char digits[] = "0123456789abcdef";
		const char *at = strchr(digits, hex[i]);

		if (!at)
			return -EINVAL;
		out[i / 2] = (char)(i % 2 ? (out[i / 2] << 4) | (at - digits) : at - digits);
	}
	out[len / 2] = '\0'; /* the kernel is told it as a string */
	*name = bytes_of(out, len / 2);
	return 0;
}

static void put_report(json_t *out, const struct clone_report *report)
{
	ctl_put(out, "files", ctl_number(report->files));
	ctl_put(out, "directories", ctl_number(report->directories));
	ctl_put(out, "others", ctl_number(report->others));
	ctl_put(out, "links", ctl_number(report->links));
	ctl_put(out, "bytes", ctl_number(report->bytes));
}

static bool is_cancelled(void *ctx)
{
	return ctl_is_cancelled(ctx);
}

static void write_back(void *ctx, uint64_t ino)
{
	struct ctl_call *call = ctx;
	const struct ctl_front *front = ctl_front(call->ctl);

	if (front->write_back)
		front->write_back(front->ctx, ino);
}

static void entry_changed(void *ctx, uint64_t dir, struct bytes name)
{
	struct ctl_call *call = ctx;
	const struct ctl_front *front = ctl_front(call->ctl);

	if (front->entry_changed)
		front->entry_changed(front->ctx, dir, name);
}

static void progress(void *ctx, const struct clone_report *report)
{
	json_t *state = json_object();

	ctl_put(state, "note",
		json_sprintf("%llu files, %llu directories cloned",
			     (unsigned long long)report->files,
			     (unsigned long long)report->directories));
	put_report(state, report);
	ctl_progress(ctx, state);
}

static enum ctl_exit exit_of(int error)
{
	switch (error) {
	case -EEXIST:
	case -EINVAL:
	case -ENOTDIR:
	case -ENAMETOOLONG:
		return CTL_INVALID;
	case -EPERM:
	case -EROFS:
	case -EBUSY:
		return CTL_REFUSED;
	default:
		return CTL_FAILED;
	}
}

static enum ctl_exit verb_clone(struct ctl_call *call)
{
	struct clone_watch watch = {is_cancelled, progress, write_back, entry_changed, call};
	json_t *number = json_object_get(call->args, "parent");
	AUTO(buf) why = BUF_INIT;
	struct clone_report report;
	char room[NAME_LEN_MAX + 1];
	struct inode *parent;
	struct bytes name;
	int r = get_name(call, room, &name);

	if (r < 0 || !json_is_integer(number))
		return ctl_fail(call, CTL_INVALID, "clone: parent and name say where to");
	r = names_load(call->store, call->reader, (uint64_t)json_integer_value(number), &parent);
	if (r < 0)
		return ctl_fail(call, CTL_INVALID, "clone: the directory for it: %s",
				err_sentence(r));
	r = store_clone(call->store, call->reader, call->inode, parent, name, &watch, &report,
			&why);
	inode_unref(call->store->inodes, parent, 1);
	put_report(call->answer, &report);
	if (r < 0)
		return ctl_fail(call, exit_of(r), "clone: %.*s: %s", (int)name.len,
				(const char *)name.ptr, why.len ? buf_str(&why) : err_sentence(r));
	return CTL_DONE;
}

/* ---- what dead ones left ---- */

static bool is_stopping(void *ctx)
{
	return ctl_is_stopping(ctx);
}

static void swept(void *ctx, uint64_t dir, struct bytes name)
{
	const struct ctl_front *front = ctl_front(ctx);

	if (front->entry_changed)
		front->entry_changed(front->ctx, dir, name);
}

void ctl_sweep_clones(struct ctl *ctl, struct index_reader *reader)
{
	struct clone_watch watch = {
		.is_cancelled = is_stopping,
		.entry_changed = swept,
		.ctx = ctl,
	};

	store_clone_sweep(ctl_store(ctl), reader, &watch); /* what it cannot do it logs */
}

const struct ctl_verb ctl_verbs_clone[] = {
	{"clone", CTL_ACTION, true, verb_clone, "a writable copy that shares all chunks"},
	{0},
};
