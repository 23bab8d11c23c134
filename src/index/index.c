/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The facade: overlay first, then the engine.
 *
 * Point look-ups.  A miss in the overlay, then the engine: every record noted
 * before the miss was either dropped before it, and then the engine's answer,
 * which is read later, has it; or it did not touch the key.
 *
 * Lists.  Pages of the engine of at most PAGE_ROWS, so that readers are short,
 * each merged with the overlay under a look (index/overlay.h).
 *
 * Applying: transaction in the engine, then applied_seq, then the overlay's
 * entries go.  So between the two an answer may come from either, and they
 * agree.  A record that was never noted (replay at mount) is noted first, so
 * that nothing clean in the overlay can be older than the engine.
 */
#include "index/index.h"

#include "index/index_impl.h"
#include "util/err.h"
#include "util/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

static void reader_hold(struct index_reader *reader)
{
	reader->drop_rounds = overlay_drop_rounds(reader->index->overlay);
	reader->is_held = reader->conn->ops->hold(reader->conn) == 0;
}

struct engine_conn *index_conn_of(struct index_reader *reader)
{
	if (reader->is_held &&
	    reader->drop_rounds != overlay_drop_rounds(reader->index->overlay)) {
		reader->conn->ops->let_go(reader->conn);
		reader_hold(reader);
	}
	return reader->conn;
}

/* ---- life ---- */

int index_create(const char *path, const struct inode_row *root)
{
	struct inode_row row = *root;

	row.ino = INO_ROOT;
	row.birth = 0;
	return sqlite_engine.create(path, &row);
}

static int open_parts(const struct index_settings *settings, struct buf *why, struct index *index)
{
	int r = sqlite_engine.open(settings, why, &index->engine);

	if (r == 0)
		r = index->engine->ops->conn_open(index->engine, true, &index->writer);
	if (r == 0)
		r = apply_new(index->writer, &index->apply);
	if (r == 0)
		r = overlay_new(settings->cache_dirents_max, &index->overlay);
	/* What the log holds may not be synced yet; from here on durable_seq says what is. */
	if (r == 0)
		r = index->engine->ops->checkpoint(index->writer);
	if (r < 0 && why->len == 0)
		buf_printf(why, "%s: %s", settings->path, err_sentence(r));
	return r;
}

int index_open(const struct index_settings *settings, struct buf *why, struct index **out)
{
	struct index *index = mem_alloc(sizeof(*index));
	int r;

	if (index == NULL)
		return -ENOMEM;
	lock_init(&index->lock, LOCK_LEAF);
	r = open_parts(settings, why, index);
	if (r < 0) {
		index_close(index);
		return r;
	}
	index->meta = *apply_meta(index->apply);
	index->highest = index->meta.highest;
	atomic_store(&index->applied_seq, index->meta.applied_seq);
	atomic_store(&index->durable_seq, index->meta.applied_seq);
	atomic_store(&index->noted_seq, index->meta.applied_seq);
	overlay_drop(index->overlay, 0, &index->meta.highest);
	r = views_load(index);
	if (r < 0) {
		index_close(index);
		return r;
	}
	*out = index;
	return 0;
}

void index_close(struct index *index)
{
	if (index == NULL)
		return;
	if (index->apply != NULL)
		index->engine->ops->checkpoint(index->writer);
	overlay_free(index->overlay);
	apply_free(index->apply);
	if (index->engine != NULL) {
		index->engine->ops->conn_close(index->writer);
		index->engine->ops->close(index->engine);
	}
	lock_release(&index->lock);
	mem_free(index->views);
	mem_free(index);
}

int index_reader_open(struct index *index, struct index_reader **out)
{
	struct index_reader *reader = mem_alloc(sizeof(*reader));
	int r;

	if (reader == NULL)
		return -ENOMEM;
	r = index->engine->ops->conn_open(index->engine, false, &reader->conn);
	if (r < 0) {
		mem_free(reader);
		return r;
	}
	reader->index = index;
	*out = reader;
	return 0;
}

void index_reader_hold(struct index_reader *reader)
{
	assert(!reader->is_held);
	reader_hold(reader);
}

void index_reader_let_go(struct index_reader *reader)
{
	if (reader->is_held)
		reader->conn->ops->let_go(reader->conn);
	reader->is_held = false;
}

void index_reader_close(struct index_reader *reader)
{
	if (reader == NULL)
		return;
	reader->conn->ops->conn_close(reader->conn);
	mem_free(reader);
}

uint64_t index_applied_seq(struct index *index)
{
	return atomic_load(&index->applied_seq);
}

uint64_t index_durable_seq(struct index *index)
{
	return atomic_load(&index->durable_seq);
}

void index_highest(struct index *index, struct index_highest *out)
{
	LOCK_SCOPE(&index->lock);
	*out = index->highest;
}

/* ---- names ---- */

int index_find_dirent(struct index *index, struct index_reader *reader, uint64_t parent,
		      struct bytes name, struct dirent_row *out)
{
	struct dirent_row row;
	uint64_t drops = 0;
	int r;

	if (ino_snapshot_no(parent) != 0)
		return view_find_dirent(index, reader, parent, name, out);
	r = overlay_find_dirent(index->overlay, parent, name, out, &drops);

	if (r != -EAGAIN || reader == NULL)
		return r;
	r = reader->conn->ops->find_dirent(index_conn_of(reader), parent, name, &row);
	if (r != 0 && r != -ENOENT)
		return r;
	overlay_learn_dirent(index->overlay, parent, name, r == 0 ? &row : NULL, drops);
	if (r == 0)
		*out = row;
	return r;
}

/* One page: appends at most count_max; *end is UINT64_MAX when there are no more. */
static int list_dirents_page(struct index *index, struct index_reader *reader, uint64_t parent,
			     uint64_t after, size_t count_max, struct dirent_list *out,
			     uint64_t *end)
{
	const struct engine_ops *ops = reader->conn->ops;
	size_t page_max = MIN(count_max, (size_t)PAGE_ROWS);
	AUTO(dirent_list) engine = ROW_LIST_INIT;
	int r = -ESTALE;

	for (unsigned attempt = 0; r == -ESTALE; attempt++) {
		struct overlay_look look = overlay_look_inode(index->overlay, parent, attempt);
		bool is_last;

		engine.count = 0;
		r = ops->list_dirents(index_conn_of(reader), parent, after, page_max, &engine);
		is_last = engine.count < page_max;
		if (r == 0)
			r = overlay_merge_dirents(
				&look, parent, after, count_max, &engine,
				is_last ? UINT64_MAX : engine.rows[engine.count - 1].cookie,
				is_last && after == 0, out, end);
		overlay_look_end(&look);
	}
	return r;
}

int index_list_dirents(struct index *index, struct index_reader *reader, uint64_t parent,
		       uint64_t after, size_t count_max, struct dirent_list *out)
{
	size_t wanted = out->count + count_max;
	int r;

	if (ino_snapshot_no(parent) != 0)
		return view_list_dirents(index, reader, parent, after, count_max, out);
	r = overlay_list_dirents(index->overlay, parent, after, count_max, out);

	if (r != -EAGAIN || reader == NULL)
		return r;
	do {
		r = list_dirents_page(index, reader, parent, after, wanted - out->count, out,
				      &after);
	} while (r == 0 && after != UINT64_MAX && out->count < wanted);
	return r;
}

int index_check_empty(struct index *index, struct index_reader *reader, uint64_t parent)
{
	AUTO(dirent_list) first = ROW_LIST_INIT;
	int r = ino_snapshot_no(parent) != 0 ? -EAGAIN : overlay_check_empty(index->overlay, parent);

	if (r != -EAGAIN || reader == NULL)
		return r;
	r = index_list_dirents(index, reader, parent, 0, 1, &first);
	return r == 0 && first.count > 0 ? -ENOTEMPTY : r;
}

void index_note_new_directory(struct index *index, uint64_t ino)
{
	overlay_new_directory(index->overlay, ino);
}

/* ---- of one inode ---- */

int index_get_inode(struct index *index, struct index_reader *reader, uint64_t ino,
		    struct inode_row *out)
{
	int r;

	if (ino_snapshot_no(ino) != 0)
		return view_get_inode(index, reader, ino, out);
	r = overlay_get_inode(index->overlay, ino, out);
	return r == -EAGAIN && reader != NULL ? reader->conn->ops->get_inode(index_conn_of(reader), ino, out)
					      : r;
}

int index_get_symlink(struct index *index, struct index_reader *reader, uint64_t ino,
		      struct buf *out)
{
	int r;

	if (ino_snapshot_no(ino) != 0)
		return view_get_symlink(index, reader, ino, out);
	r = overlay_get_symlink(index->overlay, ino, out);
	return r == -EAGAIN && reader != NULL
		       ? reader->conn->ops->get_symlink(index_conn_of(reader), ino, out)
		       : r;
}

int index_get_xattr(struct index *index, struct index_reader *reader, uint64_t ino,
		    struct bytes name, struct buf *out)
{
	int r;

	if (ino_snapshot_no(ino) != 0)
		return view_get_xattr(index, reader, ino, name, out);
	r = overlay_get_xattr(index->overlay, ino, name, out);
	if (r != -EAGAIN || reader == NULL)
		return r;
	r = reader->conn->ops->get_xattr(index_conn_of(reader), ino, name, out);
	return r == -ENOENT ? -ENODATA : r;
}

int index_list_xattrs(struct index *index, struct index_reader *reader, uint64_t ino,
		      struct buf *out)
{
	struct inode_row inode;
	int r;

	if (ino_snapshot_no(ino) != 0)
		return view_list_xattrs(index, reader, ino, out);
	r = overlay_get_inode(index->overlay, ino, &inode);
	/* Nothing to list: the flag is never unset while one is left. */
	if (r == -ENOENT || (r == 0 && !(inode.flags & INODE_XATTR)))
		return 0;
	if (reader == NULL)
		return -EAGAIN;
	r = -ESTALE;
	for (unsigned attempt = 0; r == -ESTALE; attempt++) {
		struct overlay_look look = overlay_look_inode(index->overlay, ino, attempt);
		AUTO(buf) engine = BUF_INIT;

		r = reader->conn->ops->list_xattrs(index_conn_of(reader), ino, &engine);
		if (r == 0)
			r = overlay_merge_xattrs(&look, ino, buf_bytes(&engine), out);
		overlay_look_end(&look);
	}
	return r;
}

/* ---- extents ---- */

int index_add_to_page(void *ctx, const struct extent_row *extent, uint64_t birth)
{
	struct extent_page *page = ctx;

	(void)birth;
	if (page->rows.count == page->rows_max) {
		page->end = extent->off;
		return 1;
	}
	return extent_list_add(&page->rows, extent);
}

static int find_extents_page(struct index *index, struct index_reader *reader, uint64_t ino,
			     uint64_t off, uint64_t end, size_t count_max, struct extent_list *out,
			     uint64_t *covered_end)
{
	struct extent_page page = {.rows_max = MIN(count_max, (size_t)PAGE_ROWS)};
	int r = -ESTALE;

	for (unsigned attempt = 0; r == -ESTALE; attempt++) {
		struct overlay_look look = overlay_look_inode(index->overlay, ino, attempt);

		page.rows.count = 0;
		page.end = end;
		r = reader->conn->ops->visit_extents(index_conn_of(reader), ino, off, end, index_add_to_page,
						     &page);
		if (r == 0)
			r = overlay_merge_extents(&look, ino, off, end, count_max, &page.rows,
						  page.end, out, covered_end);
		overlay_look_end(&look);
	}
	extent_list_release(&page.rows);
	return r;
}

int index_find_extents(struct index *index, struct index_reader *reader, uint64_t ino, uint64_t off,
		       uint64_t len, size_t count_max, struct extent_list *out,
		       uint64_t *covered_end)
{
	uint64_t wanted_end = off + MIN(len, UINT64_MAX - off);
	uint64_t end = MIN(wanted_end, (uint64_t)INT64_MAX);
	size_t wanted = out->count + count_max;
	uint64_t at = off;
	int r;

	if (off >= end) {
		*covered_end = wanted_end;
		return 0;
	}
	if (ino_snapshot_no(ino) != 0)
		r = view_find_extents(index, reader, ino, off, end, count_max, out, &at);
	else
		r = overlay_find_extents(index->overlay, ino, off, end, count_max, out, &at);
	if (r == -EAGAIN && reader != NULL) {
		do {
			r = find_extents_page(index, reader, ino, at, end, wanted - out->count,
					      out, &at);
		} while (r == 0 && at < end && out->count < wanted);
	}
	if (r == 0)
		*covered_end = at == end ? wanted_end : at;
	return r;
}

int index_count_extent_bytes(struct index *index, struct index_reader *reader, uint64_t ino,
			     uint64_t *bytes)
{
	AUTO(extent_list) extents = ROW_LIST_INIT;
	uint64_t at = 0, sum = 0;
	int r = 0;

	while (r == 0 && at < INT64_MAX) {
		extents.count = 0;
		r = index_find_extents(index, reader, ino, at, INT64_MAX - at, PAGE_ROWS, &extents,
				       &at);
		for (size_t i = 0; i < extents.count; i++)
			sum += extents.rows[i].len;
	}
	if (r == 0)
		*bytes = sum;
	return r;
}

/* ---- changing ---- */

static void raise_highest(struct index_highest *to, const struct index_highest *from)
{
	to->ino = MAX(to->ino, from->ino);
	to->cookie = MAX(to->cookie, from->cookie);
	to->chunk_no = MAX(to->chunk_no, from->chunk_no);
	to->shard_no = MAX(to->shard_no, from->shard_no);
	to->snapshot_no = MAX(to->snapshot_no, from->snapshot_no);
	to->provider_no = MAX(to->provider_no, from->provider_no);
}

static void highest_of_change(const struct change *change, struct index_highest *highest)
{
	switch (change->type) {
	case CHANGE_INODE_PUT:
		highest->ino = MAX(highest->ino, change->u.inode.ino);
		break;
	case CHANGE_DIRENT_PUT:
		highest->cookie = MAX(highest->cookie, change->u.dirent.cookie);
		break;
	case CHANGE_CHUNK_PUT:
		highest->chunk_no = MAX(highest->chunk_no, change->u.chunk.chunk_no);
		break;
	case CHANGE_SHARD_PUT:
		highest->shard_no = MAX(highest->shard_no, change->u.shard.shard_no);
		break;
	case CHANGE_SNAPSHOT_PUT:
		highest->snapshot_no = MAX(highest->snapshot_no, change->u.snapshot.snapshot_no);
		break;
	case CHANGE_PROVIDER_PUT:
		highest->provider_no = MAX(highest->provider_no, change->u.provider.provider_no);
		break;
	default:
		break;
	}
}

int index_note(struct index *index, const struct record *record)
{
	struct record_walk walk = record_walk_of(buf_bytes(&record->changes));
	struct index_highest highest = {0};
	struct change change;
	int r;

	assert(record->seq > atomic_load(&index->noted_seq));
	r = overlay_note(index->overlay, record);
	if (r < 0)
		return r;
	atomic_store(&index->noted_seq, record->seq);
	atomic_fetch_add(&index->noted_count, 1);
	while (record_walk_next(&walk, &change) > 0) {
		highest_of_change(&change, &highest);
		views_note(index, record->seq, &change);
	}
	LOCK_SCOPE(&index->lock);
	raise_highest(&index->highest, &highest);
	return 0;
}

/* Records that nobody noted become so: those of a replay, before anybody else notes. */
static int note_unnoted(struct index *index, struct record *const *records, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		if (records[i]->seq > atomic_load(&index->noted_seq))
			r = index_note(index, records[i]);
	return r;
}

static int check_order(struct record *const *records, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (records[i]->seq <= records[i - 1]->seq) {
			log_error("index-records-unordered", "seq=%" PRIu64, records[i]->seq);
			return -EBADMSG;
		}
	return 0;
}

int index_apply(struct index *index, struct record *const *records, size_t count)
{
	uint64_t applied_seq = index_applied_seq(index), before = applied_seq;
	int r;

	while (count > 0 && records[0]->seq <= applied_seq) {
		records++;
		count--;
	}
	if (count == 0)
		return 0;
	r = check_order(records, count);
	if (r == 0)
		r = note_unnoted(index, records, count);
	if (r == 0)
		r = apply_batch(index->apply, records, count);
	if (r < 0)
		return r;
	lock_take(&index->lock);
	index->meta = *apply_meta(index->apply);
	raise_highest(&index->highest, &index->meta.highest);
	lock_drop(&index->lock);
	applied_seq = records[count - 1]->seq;
	atomic_store(&index->applied_seq, applied_seq);
	atomic_fetch_add(&index->applied_count, count);
	overlay_drop(index->overlay, applied_seq, &apply_meta(index->apply)->highest);
	if (atomic_load(&index->snapshots_seq) <= before)
		return 0;
	/* What is made can be read from here on.  No memory: it is found by the next batch. */
	if (views_load(index) < 0)
		log_warn("index-snapshots-unread", "next=\"they are read again with the next change\"");
	else if (atomic_load(&index->snapshots_seq) <= applied_seq)
		atomic_store(&index->snapshots_seq, 0);
	return 0;
}

int index_checkpoint(struct index *index)
{
	uint64_t seq = index_applied_seq(index);
	int r = index->engine->ops->checkpoint(index->writer);

	if (r == 0)
		atomic_store(&index->durable_seq, seq);
	return r;
}

int index_dump(struct index *index, struct index_reader *reader,
	       int (*visit)(void *ctx, const struct record *record), void *ctx, uint64_t *seq,
	       struct index_highest *highest)
{
	struct engine_meta meta;
	int r;

	(void)index;
	r = reader->conn->ops->dump(reader->conn, visit, ctx, &meta);
	if (r < 0)
		return r;
	*seq = meta.applied_seq;
	*highest = meta.highest;
	return 0;
}

static void restored(struct index *index)
{
	index->meta = *apply_meta(index->apply);
	raise_highest(&index->highest, &index->meta.highest);
	atomic_store(&index->applied_seq, index->meta.applied_seq);
	atomic_store(&index->noted_seq, index->meta.applied_seq);
	overlay_drop(index->overlay, index->meta.applied_seq, &index->meta.highest);
}

int index_restore(struct index *index, uint64_t seq, struct record *const *records, size_t count)
{
	int r = apply_restore(index->apply, seq, records, count);

	if (r == 0)
		restored(index);
	return r;
}

int index_restore_end(struct index *index, const struct index_highest *highest)
{
	int r = apply_raise_highest(index->apply, highest);

	if (r < 0)
		return r;
	restored(index);
	return views_load(index);
}

int index_list_old(struct index *index, struct index_reader *reader, uint64_t snapshot_seq,
		   size_t count_max, struct old_list *out)
{
	(void)index;
	return reader->conn->ops->list_old(index_conn_of(reader), snapshot_seq, count_max, out);
}

int index_list_changed(struct index *index, struct index_reader *reader, uint64_t from_seq,
		       uint64_t to_seq, struct old_list *out)
{
	(void)index;
	return reader->conn->ops->list_changed(index_conn_of(reader), from_seq, to_seq, out);
}

int index_count_history(struct index *index, struct index_reader *reader, uint64_t *rows)
{
	(void)index;
	return reader->conn->ops->count_history(index_conn_of(reader), rows);
}
