/* SPDX-License-Identifier: Apache-2.0 */
/* From objects under index/ to an index: a snapshot, then the segments behind it. */
#include "store/recover_private.h"

#include "util/err.h"
#include "util/mem.h"
#include "util/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORDS_BATCH 4096u

/* ---- the snapshot ---- */

/* All of a snapshot to home/recover. */
static int fetch_snapshot(struct recovery *recovery, const struct oplog_name *name,
			  struct oplog_root *out)
{
	AUTO(oplog_root) root = OPLOG_ROOT_INIT;
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = recovery_fetch_root(recovery, name, &root);

	for (uint32_t i = 0; i < root.part_count && r == 0; i++) {
		struct oplog_name part = recovery_part_name(name, i);

		recovery_progress(recovery, "fetching the snapshot", i, root.part_count);
		r = recovery_fetch(recovery, &part, &body, &hash);
		if (r == 0 && memcmp(hash.b, root.parts[i].hash.b, sizeof(hash.b)) != 0)
			r = -EBADMSG;
	}
	if (r < 0)
		return r;
	*out = root;
	root.parts = NULL;
	return 0;
}

/* ---- building the index ---- */

struct batch {
	struct record *records[RECORDS_BATCH];
	size_t count;
};

static void batch_release(struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		record_free(batch->records[i]);
	batch->count = 0;
}

static int batch_add(struct batch *batch, uint64_t seq, struct bytes changes)
{
	struct record *record = record_new();
	int r = record ? buf_append(&record->changes, changes) : -ENOMEM;

	if (r < 0) {
		record_free(record);
		return r;
	}
	record->seq = seq;
	record->change_count = 1;
	batch->records[batch->count++] = record;
	return 0;
}

static int restore_part(struct recovery *recovery, uint64_t txn, struct bytes rows)
{
	struct wire_reader reader = wire_reader_of(rows);
	AUTO(batch) batch = {.count = 0};
	int r = 0;

	while (r == 0 && wire_left(&reader) > 0) {
		struct bytes changes = wire_get_blob(&reader, OPLOG_PLAIN_BYTES_MAX);

		r = wire_reader_check(&reader);
		if (r == 0)
			r = batch_add(&batch, txn, changes);
		if (r == 0 && batch.count == RECORDS_BATCH) {
			r = index_restore(recovery->index, txn, batch.records, batch.count);
			batch_release(&batch);
		}
	}
	return r < 0 ? r : index_restore(recovery->index, txn, batch.records, batch.count);
}

static int restore_snapshot(struct recovery *recovery, const struct oplog_name *name,
			    const struct oplog_root *root)
{
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = 0;

	for (uint32_t i = 0; i < root->part_count && r == 0; i++) {
		struct oplog_name part = recovery_part_name(name, i);

		recovery_progress(recovery, "restoring the snapshot", i, root->part_count);
		r = recovery_fetch(recovery, &part, &body, &hash);
		if (r == 0)
			r = restore_part(recovery, root->txn, buf_bytes(&body));
	}
	return r < 0 ? r : index_restore_end(recovery->index, &root->highest);
}

static int apply_batch_of(struct recovery *recovery, struct batch *batch)
{
	int r = index_apply(recovery->index, batch->records, batch->count);

	batch_release(batch);
	return r;
}

static int apply_segment(struct recovery *recovery, struct bytes records)
{
	AUTO(batch) batch = {.count = 0};
	struct bytes changes;
	uint64_t seq;
	int r;

	while ((r = oplog_get_record(&records, &seq, &changes)) > 0) {
		if (seq <= index_applied_seq(recovery->index))
			continue; /* the snapshot has it */
		r = batch_add(&batch, seq, changes);
		if (r == 0 && batch.count == RECORDS_BATCH)
			r = apply_batch_of(recovery, &batch);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : apply_batch_of(recovery, &batch);
}

/* Every segment that follows, up to the state aimed at; ends where none does, or where one is not
 * right anywhere. */
static int apply_chain(struct recovery *recovery, const struct oplog_name *name,
		       const struct oplog_root *root, struct recovery_result *result)
{
	const struct oplog_file *segment;
	struct digest previous = root->chain_hash;
	uint32_t epoch_max = recovery->is_aimed ? recovery->target.epoch : UINT32_MAX;
	uint64_t upto = recovery->is_aimed ? recovery->target.generation : UINT64_MAX;
	uint64_t at = root->chain_seq, end;
	AUTO(buf) body = BUF_INIT;
	bool is_broken = false;
	int r = 0;

	end = MIN(recovery_chain_end(&recovery->all, name, &result->epoch), upto);
	result->epoch = name->epoch;
	result->made_sec = root->made_sec;
	result->generation = root->txn;
	while (r == 0 && (segment = oplog_files_next(&recovery->all, result->epoch, epoch_max,
						     at)) != NULL &&
	       segment->name.last <= upto) {
		struct oplog_segment_head head;
		struct digest hash;
		struct bytes records;

		recovery_progress(recovery, "applying the oplog", at, end);
		r = recovery_fetch(recovery, &segment->name, &body, &hash);
		if (r == 0)
			r = oplog_segment_read(buf_bytes(&body), &head, &records);
		if (r == 0 && memcmp(head.previous.b, previous.b, sizeof(previous.b)) != 0)
			r = -EBADMSG;
		if (recovery_is_lacking(r)) {
			recovery_forget(recovery, &segment->name);
			is_broken = true;
			r = 0;
			continue; /* another may go on from here */
		}
		is_broken = false;
		if (r == 0)
			r = apply_segment(recovery, records);
		if (r < 0)
			break;
		at = segment->name.last;
		previous = hash;
		result->epoch = segment->name.epoch;
		result->generation = MAX(at, result->generation);
		result->made_sec = MAX(head.made_sec, result->made_sec);
	}
	if (r == 0 && is_broken)
		recovery_note(recovery, "the oplog breaks off behind record %" PRIu64
			      ": the next segment is nowhere to be had; what came later is lost", at);
	return r;
}

void recovery_unlink_index(const struct recovery *recovery)
{
	static const char *const suffixes[] = {"", "-wal", "-shm", ".new"};

	for (unsigned i = 0; i < ARRAY_COUNT(suffixes); i++) {
		AUTO_STR path = mem_printf("%s%s", recovery->index_path, suffixes[i]);

		if (path)
			unlink(path);
	}
}

int recovery_new_index(struct recovery *recovery, struct buf *why)
{
	struct inode_row root = {.ino = INO_ROOT, .mode = S_IFDIR | 0755, .nlink = 2,
				 .parent = INO_ROOT, .policy_root = INO_ROOT};
	struct index_settings settings = {
		.path = recovery->index_path,
		.cache_dirents_max = 16,
		.page_cache_bytes = recovery->config->settings.index_cache_bytes,
	};
	int r;

	recovery_unlink_index(recovery);
	r = index_create(recovery->index_path, &root);
	if (r < 0) {
		buf_printf(why, "%s: %s", recovery->index_path, err_sentence(r));
		return r;
	}
	return index_open(&settings, why, &recovery->index);
}

int recovery_build_index(struct recovery *recovery, struct recovery_result *result, struct buf *why)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;
	int r = oplog_files_roots(&recovery->all, &roots);

	for (size_t i = 0; i < roots.count && r == 0; i++) {
		const struct oplog_name *name = &roots.files[i].name;
		AUTO(oplog_root) root = OPLOG_ROOT_INIT;

		if (recovery->is_aimed && (name->epoch > recovery->target.epoch ||
					   name->last > recovery->target.generation))
			continue;
		r = fetch_snapshot(recovery, name, &root);
		if (recovery_is_lacking(r)) {
			recovery_note(recovery, "the snapshot of generation %" PRIu64
				      " is not whole; an older one is tried", name->last);
			r = 0;
			continue;
		}
		if (r == 0)
			r = recovery_new_index(recovery, why);
		if (r == 0)
			r = restore_snapshot(recovery, name, &root);
		if (r == 0)
			r = apply_chain(recovery, name, &root, result);
		return r;
	}
	if (r == 0) {
		buf_printf(why, "no whole snapshot of the index is at any provider that is reached");
		r = -ENODATA;
	}
	return r;
}
