/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which states are still held, and which of them is wanted.
 *
 * A snapshot whose parts are all listed is a state, and so is the end of each segment behind it
 * that the snapshot does not hold already.  Names alone say what there is; when it was made is
 * sealed, so an object is read for its time, newest first, only as far as the question needs.
 */
#include "store/recover_private.h"

#include "util/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static bool is_same(const struct oplog_name *a, const struct oplog_name *b)
{
	return a->kind == b->kind && a->epoch == b->epoch && a->first == b->first &&
	       a->last == b->last && memcmp(a->id, b->id, sizeof(a->id)) == 0;
}

static bool has_name(const struct oplog_files *files, const struct oplog_name *name)
{
	for (size_t i = 0; i < files->count; i++)
		if (is_same(&files->files[i].name, name))
			return true;
	return false;
}

/* Newest first; of two that end with the same record the segment, which was made before. */
static int compare_states(const void *a, const void *b)
{
	const struct oplog_name *x = &((const struct oplog_file *)a)->name;
	const struct oplog_name *y = &((const struct oplog_file *)b)->name;

	if (x->epoch != y->epoch)
		return x->epoch > y->epoch ? -1 : 1;
	if (x->last != y->last)
		return x->last > y->last ? -1 : 1;
	return (int)x->kind - (int)y->kind;
}

/* Whether all of it is listed.  1: yes. */
static int is_whole(struct recovery *recovery, const struct oplog_name *name)
{
	AUTO(oplog_root) root = OPLOG_ROOT_INIT;
	int r = recovery_fetch_root(recovery, name, &root);

	if (recovery_is_lacking(r))
		return 0; /* it was told why */
	for (uint32_t i = 0; i < root.part_count && r == 0; i++) {
		struct oplog_name part = recovery_part_name(name, i);

		if (!oplog_files_find(&recovery->all, &part))
			r = -ENOENT;
	}
	if (r == -ENOENT) {
		recovery_note(recovery,
			      "the snapshot of generation %" PRIu64
			      " is not whole: parts of it are at no provider that is reached",
			      name->last);
		return 0;
	}
	return r < 0 ? r : 1;
}

/* The ends of the segments behind a root, of no later writer than epoch_max. */
static int add_chain(struct recovery *recovery, const struct oplog_name *root, uint32_t epoch_max,
		     struct oplog_files *out)
{
	const struct oplog_file *segment;
	uint32_t epoch = root->epoch;
	uint64_t at = root->first;
	int r = 0;

	while (r == 0 &&
	       (segment = oplog_files_next(&recovery->all, epoch, epoch_max, at)) != NULL) {
		if (segment->name.last > root->last && !has_name(out, &segment->name))
			r = oplog_files_add(out, segment);
		at = segment->name.last;
		epoch = segment->name.epoch;
	}
	return r;
}

/*
 * Where another machine took over, the chain of the one before may go on beside that of the new
 * one: its states are held too.
 */
static int add_chains(struct recovery *recovery, const struct oplog_name *root,
		      struct oplog_files *out)
{
	uint32_t done = 0;
	int r = 0;

	for (size_t i = 0; i < recovery->all.count && r == 0; i++) {
		const struct oplog_name *name = &recovery->all.files[i].name;

		/* sorted by epoch */
		if (name->kind != OPLOG_SEGMENT || name->epoch < root->epoch || name->epoch == done)
			continue;
		done = name->epoch;
		r = add_chain(recovery, root, done, out);
	}
	return r;
}

/* What ends each state that can be had, newest first. */
static int collect(struct recovery *recovery, struct oplog_files *out)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;
	int r = oplog_files_roots(&recovery->all, &roots);

	for (size_t i = 0; i < roots.count && r == 0; i++) {
		r = is_whole(recovery, &roots.files[i].name);
		if (r <= 0)
			continue;
		r = oplog_files_add(out, &roots.files[i]);
		if (r == 0)
			r = add_chains(recovery, &roots.files[i].name, out);
	}
	if (out->count > 1)
		qsort(out->files, out->count, sizeof(*out->files), compare_states);
	return r;
}

/* -ENOENT, ...: it is not right anywhere. */
static int describe(struct recovery *recovery, const struct oplog_name *name,
		    struct recovery_state *out)
{
	struct recovery_state state = {.generation = name->last, .epoch = name->epoch};
	AUTO(oplog_root) root = OPLOG_ROOT_INIT;
	struct oplog_segment_head head;
	AUTO(buf) body = BUF_INIT;
	struct bytes records;
	struct digest hash;
	int r;

	if (name->kind == OPLOG_ROOT) {
		r = recovery_fetch_root(recovery, name, &root);
		state.is_snapshot = true;
		state.made_sec = root.made_sec;
	} else {
		r = recovery_fetch(recovery, name, &body, &hash);
		if (r == 0)
			r = oplog_segment_read(buf_bytes(&body), &head, &records);
		if (r == 0)
			state.made_sec = head.made_sec;
	}
	if (r == 0)
		*out = state;
	return r;
}

static uint32_t who_has(const struct recovery *recovery, const struct oplog_name *name)
{
	uint32_t providers = 0;

	for (unsigned i = 0; i < recovery->source_count; i++)
		if (oplog_files_find(&recovery->sources[i].files, name))
			providers |= (uint32_t)1 << i;
	return providers;
}

int recovery_list_states(struct recovery *recovery,
			 int (*visit)(void *ctx, const struct recovery_state *state,
				      uint32_t providers),
			 void *ctx)
{
	AUTO(oplog_files) ends = OPLOG_FILES_INIT;
	int r = collect(recovery, &ends);

	for (size_t i = 0; i < ends.count && r == 0; i++) {
		struct recovery_state state;

		recovery_progress(recovery, "reading when states were made", i, ends.count);
		r = describe(recovery, &ends.files[i].name, &state);
		if (r == 0)
			r = visit(ctx, &state, who_has(recovery, &ends.files[i].name));
		else if (recovery_is_lacking(r))
			r = 0; /* it was told why */
	}
	return r;
}

int recovery_choose(struct recovery *recovery, int64_t at_sec, struct recovery_state *out)
{
	AUTO(oplog_files) ends = OPLOG_FILES_INIT;
	struct recovery_state state;
	bool is_any = false;
	int r = collect(recovery, &ends);

	for (size_t i = 0; i < ends.count && r == 0; i++) {
		recovery_progress(recovery, "looking for the state", i, 0);
		r = describe(recovery, &ends.files[i].name, &state);
		if (recovery_is_lacking(r)) {
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		*out = state;
		is_any = true;
		if (state.made_sec <= at_sec)
			return 0;
	}
	return r < 0 ? r : is_any ? 1 : -ENODATA;
}

void recovery_aim(struct recovery *recovery, const struct recovery_state *state)
{
	recovery->is_aimed = true;
	recovery->target = *state;
}
