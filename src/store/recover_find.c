/* SPDX-License-Identifier: Apache-2.0 */
/* What is where: LIST of index/ at every provider, and how far the chains reach that lie there. */
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
	describe(source);
	return merge(recovery, &source->files);
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
