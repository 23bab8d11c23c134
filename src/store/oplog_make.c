/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making objects in the local directory; the maker's thread.
 *
 * A segment: sealed, written, synced, and only then does `upto` move, so that the journal keeps its
 * records until then.  A snapshot: parts, then the root, each durable before the next; when the root
 * is there the set of files is changed to it and what it replaces is removed.
 */
#include "store/oplog_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/wire.h"

#include <assert.h>
#include <errno.h>

#define PART_BYTES (4 * MIB) /* of rows, before compression */

static bool has_copy(struct oplog *oplog, uint64_t shard_no)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;

	if (index_list_copies(oplog->set.index, oplog->reader, shard_no, &copies) < 0)
		return false;
	for (size_t i = 0; i < copies.count; i++)
		if (copy_is_valid(&copies.rows[i]))
			return true;
	return false;
}

static int seal_to_file(struct oplog *oplog, struct oplog_name *name, struct bytes body,
			struct digest *hash, uint64_t *len)
{
	AUTO(buf) object = BUF_INIT;
	char text[OPLOG_NAME_SIZE];
	int r = oplog_seal(oplog->set.keyring, oplog->ctx, name, body, &object, hash);

	if (r == 0)
		r = oplog_dir_write(oplog->dir, oplog_name_print(name, text), buf_bytes(&object),
				    name->kind != OPLOG_PART);
	if (r == 0)
		*len = object.len;
	return r;
}

/* ---- segments ---- */

static int segment_body(struct oplog *oplog, const struct oplog_block *block, struct buf *body)
{
	struct oplog_segment_head head = {.previous = oplog->previous,
					  .made_sec = clock_wall().sec,
					  .record_count = block->record_count};
	uint64_t missing[OPLOG_SHARDS_MAX];
	int r;

	for (unsigned i = 0; i < block->shard_count && oplog->reader; i++)
		if (!has_copy(oplog, block->shards[i]))
			missing[head.missing_count++] = block->shards[i];
	r = oplog_segment_begin(&head, missing, body);
	return r < 0 ? r : buf_append(body, buf_bytes(&block->records));
}

int oplog_seal_block(struct oplog *oplog, struct oplog_block *block)
{
	struct oplog_file file = {.name = {.kind = OPLOG_SEGMENT,
					   .epoch = (uint32_t)oplog->set.writer_epoch,
					   .first = block->first,
					   .last = block->last}};
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = HOOK("oplog-segment-before");

	if (r == 0)
		r = segment_body(oplog, block, &body);
	if (r == 0)
		r = seal_to_file(oplog, &file.name, buf_bytes(&body), &hash, &file.len);
	if (r == 0)
		r = HOOK("oplog-segment-after");
	if (r < 0)
		return r;
	LOCK_SCOPE(&oplog->lock);
	r = oplog_files_add(&oplog->files, &file);
	if (r < 0)
		return r; /* made again, under another name; this one goes with the next snapshot */
	oplog->previous = hash;
	oplog->upto = block->last;
	oplog->segment_bytes += file.len;
	oplog->segment_count++;
	oplog->generation++;
	cond_wake_all(&oplog->changed);
	return 0;
}

/* ---- snapshots ---- */

struct snapshot {
	struct oplog *oplog;
	struct oplog_name name;
	struct buf rows;
	struct oplog_root root;
	size_t part_capacity;
	struct oplog_files files;
	uint64_t bytes;
};

static int add_part(struct snapshot *snapshot)
{
	struct oplog_root *root = &snapshot->root;
	struct oplog_file file = {.name = snapshot->name};
	struct oplog_part_ref ref;
	int r;

	if (snapshot->rows.len == 0)
		return 0;
	if (root->part_count == OPLOG_PARTS_MAX)
		return -EFBIG;
	if (root->part_count == snapshot->part_capacity) {
		size_t more = snapshot->part_capacity ? 2 * snapshot->part_capacity : 16;
		struct oplog_part_ref *grown =
			mem_realloc_array(root->parts, more, sizeof(*root->parts));

		if (!grown)
			return -ENOMEM;
		root->parts = grown;
		snapshot->part_capacity = more;
	}
	file.name.kind = OPLOG_PART;
	file.name.part = root->part_count;
	r = seal_to_file(snapshot->oplog, &file.name, buf_bytes(&snapshot->rows), &ref.hash,
			 &ref.len);
	if (r < 0)
		return r;
	file.len = ref.len;
	root->parts[root->part_count++] = ref;
	snapshot->bytes += ref.len;
	buf_clear(&snapshot->rows);
	return oplog_files_add(&snapshot->files, &file);
}

static bool is_ending(struct oplog *oplog)
{
	LOCK_SCOPE(&oplog->lock);
	return oplog->is_ending;
}

static int add_rows(void *ctx, const struct record *record)
{
	struct snapshot *snapshot = ctx;
	int r = wire_put_blob(&snapshot->rows, buf_bytes(&record->changes));

	snapshot->name.last = snapshot->root.txn = record->seq;
	if (r == 0 && is_ending(snapshot->oplog))
		return -ECANCELED;
	return r == 0 && snapshot->rows.len >= PART_BYTES ? add_part(snapshot) : r;
}

static int add_root(struct snapshot *snapshot)
{
	struct oplog_file file = {.name = snapshot->name};
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = oplog_root_write(&snapshot->root, &body);

	if (r == 0)
		r = seal_to_file(snapshot->oplog, &file.name, buf_bytes(&body), &hash, &file.len);
	return r < 0 ? r : oplog_files_add(&snapshot->files, &file);
}

/*
 * Where in the chain the snapshot lies.  Records that were lost to us: it begins anew behind what
 * was noted, for that is applied and so will be in it.
 */
static void take_place(struct oplog *oplog, struct oplog_root *root)
{
	LOCK_SCOPE(&oplog->lock);
	if (oplog->needs_snapshot) {
		list_for_each(pos, &oplog->blocks) {
			list_remove(pos);
			oplog_block_free(container_of(pos, struct oplog_block, link));
		}
		oplog->block_count = 0;
		oplog->next_first = oplog->noted + 1;
		oplog->is_lost = false; /* from here on records are collected again */
		root->chain_seq = oplog->noted;
	} else {
		root->chain_seq = oplog->upto;
	}
	root->chain_hash = oplog->previous;
}

static bool is_same_snapshot(const struct oplog_name *a, const struct oplog_name *b)
{
	return a->epoch == b->epoch && a->last == b->last && memcmp(a->id, b->id, 16) == 0;
}

/* The files become those of the snapshot and the segments behind it. */
static int replace_files(struct oplog *oplog, struct snapshot *snapshot)
{
	AUTO(oplog_files) old = OPLOG_FILES_INIT;
	uint64_t chain_seq = snapshot->root.chain_seq, segment_bytes = 0, segment_count = 0;
	int r = 0;

	lock_take(&oplog->lock);
	for (size_t i = 0; i < oplog->files.count && r == 0; i++) {
		const struct oplog_file *file = &oplog->files.files[i];

		if (file->name.kind == OPLOG_SEGMENT && file->name.first > chain_seq) {
			r = oplog_files_add(&snapshot->files, file);
			segment_bytes += file->len;
			segment_count++;
		}
	}
	if (r == 0) {
		old = oplog->files;
		oplog->files = snapshot->files;
		snapshot->files = (struct oplog_files)OPLOG_FILES_INIT;
		oplog->upto = MAX(oplog->upto, chain_seq);
		oplog->needs_snapshot = oplog->is_lost;
		oplog->snapshot_bytes = snapshot->bytes;
		oplog->segment_bytes = segment_bytes;
		oplog->segment_count = segment_count;
		oplog->generation++;
		cond_wake_all(&oplog->changed);
	}
	lock_drop(&oplog->lock);
	for (size_t i = 0; i < old.count; i++) {
		const struct oplog_name *name = &old.files[i].name;
		char text[OPLOG_NAME_SIZE];

		if (name->kind == OPLOG_SEGMENT ? name->first <= chain_seq
						: !is_same_snapshot(name, &snapshot->name))
			oplog_dir_remove(oplog->dir, oplog_name_print(name, text));
	}
	return r;
}

static int make_parts(struct snapshot *snapshot)
{
	struct oplog *oplog = snapshot->oplog;
	struct index_reader *reader;
	struct index_highest highest;
	uint64_t seq;
	int r = index_reader_open(oplog->set.index, &reader);

	if (r < 0)
		return r;
	r = index_dump(oplog->set.index, reader, add_rows, snapshot, &seq, &highest);
	index_reader_close(reader);
	assert(r < 0 || seq == snapshot->root.txn);
	if (r == 0)
		r = add_part(snapshot);
	if (r == 0)
		snapshot->root.highest = highest;
	return r;
}

/* Asked for before it begins: this one will do.  Whether it was. */
static bool begin_renewal(struct oplog *oplog)
{
	LOCK_SCOPE(&oplog->lock);
	bool was_asked = oplog->is_renewal;

	oplog->is_renewal = false;
	oplog->is_renewing = was_asked;
	return was_asked;
}

static void end_renewal(struct oplog *oplog, bool was_asked, int r)
{
	LOCK_SCOPE(&oplog->lock);

	oplog->is_renewing = false;
	if (r < 0)
		oplog->is_renewal |= was_asked;
}

int oplog_make_snapshot(struct oplog *oplog)
{
	struct snapshot snapshot = {.oplog = oplog,
				    .name = {.kind = OPLOG_ROOT,
					     .epoch = (uint32_t)oplog->set.writer_epoch}};
	uint64_t start = clock_mono_ms();
	char text[OPLOG_NAME_SIZE];
	bool was_asked = begin_renewal(oplog);
	int r = HOOK("oplog-snapshot-before");

	if (r == 0)
		r = crypto_random(snapshot.name.id, sizeof(snapshot.name.id));
	take_place(oplog, &snapshot.root);
	snapshot.name.first = snapshot.root.chain_seq;
	snapshot.root.made_sec = clock_wall().sec;
	if (r == 0)
		r = make_parts(&snapshot);
	if (r == 0)
		r = add_root(&snapshot);
	if (r == 0)
		r = HOOK("oplog-snapshot-after");
	if (r == 0)
		r = replace_files(oplog, &snapshot);
	if (r == 0)
		log_info("oplog-snapshot", "txn=%llu parts=%u bytes=%llu ms=%llu",
			 (unsigned long long)snapshot.root.txn, snapshot.root.part_count,
			 (unsigned long long)snapshot.bytes,
			 (unsigned long long)(clock_mono_ms() - start));
	for (size_t i = 0; r < 0 && i < snapshot.files.count; i++)
		oplog_dir_remove(oplog->dir,
				 oplog_name_print(&snapshot.files.files[i].name, text));
	end_renewal(oplog, was_asked, r);
	oplog_files_release(&snapshot.files);
	oplog_root_release(&snapshot.root);
	buf_release(&snapshot.rows);
	return r;
}
