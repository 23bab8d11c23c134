/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is where: LIST of index/ at every provider, and how far the chains reach that lie there.
 *
 * Names tell it, for speed; but anybody may have put a file there.  So the newest object and the
 * newest snapshot of each provider are read, and names behind which there is nothing right are left
 * out: what is told then exists.  Others are found out when it is their turn to be fetched.
 */
#include "store/recover_private.h"

#include "store/superblock_io.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>

/* Up to where a root and the segments behind it reach; *epoch: of the last of them. */
uint64_t recovery_chain_end(const struct oplog_files *files, const struct oplog_name *root,
			    uint32_t *epoch)
{
	const struct oplog_file *segment;
	uint64_t end = root->first;

	*epoch = root->epoch;
	while ((segment = oplog_files_next(files, *epoch, UINT32_MAX, end)) != NULL) {
		end = segment->name.last;
		*epoch = segment->name.epoch;
	}
	return MAX(end, root->last);
}

/* Parts are written before their root: so a root says that they were there. */
uint64_t recovery_complete_state(const struct oplog_files *files, uint32_t *epoch)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;

	if (oplog_files_roots(files, &roots) < 0 || roots.count == 0)
		return 0;
	return recovery_chain_end(files, &roots.files[0].name, epoch);
}

static void describe(struct source *source)
{
	struct recovery_provider *shown = &source->shown;
	uint32_t epoch;

	shown->objects = source->files.count;
	for (size_t i = 0; i < source->files.count; i++) {
		const struct oplog_name *name = &source->files.files[i].name;

		if (name->kind == OPLOG_PART)
			continue;
		shown->snapshots += name->kind == OPLOG_ROOT;
		shown->segments += name->kind == OPLOG_SEGMENT;
		if (name->epoch > shown->epoch)
			shown->newest = 0; /* states are ordered by (epoch, record) */
		if (name->epoch >= shown->epoch)
			shown->newest = MAX(shown->newest, name->last);
		shown->epoch = MAX(shown->epoch, name->epoch);
	}
	shown->complete = recovery_complete_state(&source->files, &epoch);
}

void recovery_forget(struct recovery *recovery, const struct oplog_name *name)
{
	struct oplog_name gone = *name; /* may lie in one of the lists */

	oplog_files_remove(&recovery->all, &gone);
	for (unsigned i = 0; i < recovery->source_count; i++)
		oplog_files_remove(&recovery->sources[i].files, &gone);
}

/* The newest object, or the newest snapshot, as the names have it. */
static const struct oplog_name *find_newest(const struct oplog_files *files, bool is_snapshot)
{
	const struct oplog_name *newest = NULL;

	for (size_t i = 0; i < files->count; i++) {
		const struct oplog_name *name = &files->files[i].name;

		if (name->kind != OPLOG_ROOT && (is_snapshot || name->kind != OPLOG_SEGMENT))
			continue;
		if (!newest || name->epoch > newest->epoch ||
		    (name->epoch == newest->epoch && name->last > newest->last))
			newest = name;
	}
	return newest;
}

/* Ends at the first that is right, or that the provider does not give now. */
static int drop_unreal(struct recovery *recovery, struct source *source, bool is_snapshot)
{
	const struct oplog_name *newest;
	AUTO(buf) body = BUF_INIT;

	while ((newest = find_newest(&source->files, is_snapshot)) != NULL) {
		struct oplog_name name = *newest;
		char text[OPLOG_NAME_SIZE];
		struct digest hash;
		int r = recovery_fetch_from(recovery, source, &name, &body, &hash);

		if (r == -ENOMEM)
			return r;
		if (r != -EBADMSG && r != -ENOENT)
			return 0;
		oplog_files_remove(&source->files, &name);
		recovery_note(recovery, "provider %s: %s is left out: what it held, if it ever was one "
			      "of ours, is lost unless another provider has it",
			      source->shown.name, oplog_name_print(&name, text));
	}
	return 0;
}

static int merge(struct recovery *recovery, const struct oplog_files *files)
{
	size_t count = recovery->all.count;
	int r = 0;

	for (size_t i = 0; i < files->count && r == 0; i++) {
		struct oplog_files before = recovery->all; /* what is added now is not sorted yet */

		before.count = count;
		if (!oplog_files_find(&before, &files->files[i].name))
			r = oplog_files_add(&recovery->all, &files->files[i]);
	}
	oplog_files_sort(&recovery->all);
	return r;
}

int recovery_look_at(struct recovery *recovery, const struct config_provider *provider,
		     struct buf *why)
{
	struct source *source = &recovery->sources[recovery->source_count];
	struct fs_id fs_id = keyring_fs_id(recovery->keyring);
	AUTO(buf) cause = BUF_INIT;
	int r = provider_open(recovery->config, provider, why, &source->backend);

	if (r < 0)
		return r;
	recovery->source_count++;
	source->config = provider;
	source->shown.name = provider->name;
	backend_bind(source->backend, fs_id.b);
	r = oplog_list(source->backend, NULL, &source->files, &cause);
	if (r < 0) {
		snprintf(source->shown.cause, sizeof(source->shown.cause), "%.150s",
			 buf_str(&cause));
		return r == -ENOMEM ? r : 0;
	}
	source->shown.is_reached = true;
	r = drop_unreal(recovery, source, false);
	if (r == 0)
		r = drop_unreal(recovery, source, true);
	describe(source);
	return r < 0 ? r : merge(recovery, &source->files);
}

/* Objects of the newest state that each provider lacks: the newest root, its parts, the chain. */
void recovery_compare(struct recovery *recovery)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;
	const struct oplog_name *root;

	if (oplog_files_roots(&recovery->all, &roots) < 0 || roots.count == 0)
		return;
	root = &roots.files[0].name;
	for (size_t i = 0; i < recovery->all.count; i++) {
		const struct oplog_name *name = &recovery->all.files[i].name;

		bool is_needed = name->kind == OPLOG_SEGMENT
					 ? name->epoch >= root->epoch && name->first > root->first
					 : memcmp(name->id, root->id, sizeof(name->id)) == 0;

		if (!is_needed)
			continue;
		for (unsigned j = 0; j < recovery->source_count; j++)
			if (!oplog_files_find(&recovery->sources[j].files, name))
				recovery->sources[j].shown.lacking++;
	}
}
