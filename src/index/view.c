/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading snapshots.
 *
 * Only the engine is asked.  That is right because a snapshot can be read from
 * the moment on when its record is applied: whatever later records do is not in
 * the engine yet, or was applied behind the snapshot's own record, and then
 * apply kept the old rows for it.  So neither the overlay nor the order in
 * which records are applied can show in an answer.
 *
 * A snapshot that is to go is first noted so, and from then on nothing is read
 * from it; its rows go in records behind that one.  Each answer is therefore
 * given only if the snapshot could still be read when the engine had answered:
 * otherwise rows may have been missing from it.
 */
#include "index/index_impl.h"

#include <errno.h>
#include <string.h>

/* ---- which there are ---- */

/* The first one whose number is not below; view_count: there is none. */
static size_t place_locked(const struct index *index, uint64_t snapshot_no)
{
	size_t low = 0, high = index->view_count;

	while (low < high) {
		size_t at = low + (high - low) / 2;

		if (index->views[at].row.snapshot_no < snapshot_no)
			low = at + 1;
		else
			high = at;
	}
	return low;
}

static struct view_entry *find_locked(struct index *index, uint64_t snapshot_no)
{
	size_t at = place_locked(index, snapshot_no);

	return at < index->view_count && index->views[at].row.snapshot_no == snapshot_no
		       ? &index->views[at]
		       : NULL;
}

static bool is_named(const struct snapshot_list *list, uint64_t snapshot_no)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->rows[i].snapshot_no == snapshot_no)
			return list->rows[i].name[0] != '\0';
	return false;
}

int views_load(struct index *index)
{
	AUTO(snapshot_list) rows = ROW_LIST_INIT;
	AUTO(snapshot_list) noted = ROW_LIST_INIT;
	struct overlay_look look = overlay_look_objects(index->overlay, 0);
	struct view_entry *views = NULL;
	int r = index->engine->ops->list_snapshots(index->writer, &rows);

	if (r == 0)
		r = overlay_merge_snapshots(&look, &rows, &noted); /* only we drop: never -ESTALE */
	overlay_look_end(&look);
	if (r < 0)
		return r;
	if (rows.count > 0) {
		views = mem_alloc_array(rows.count, sizeof(*views));
		if (!views)
			return -ENOMEM;
	}
	LOCK_SCOPE(&index->lock);
	for (size_t i = 0; i < rows.count; i++) {
		views[i].row = rows.rows[i];
		views[i].is_dying = !is_named(&noted, rows.rows[i].snapshot_no);
	}
	mem_free(index->views);
	index->views = views;
	index->view_count = rows.count;
	return 0;
}

/* The overlay has the change already: what is loaded from now on knows it. */
void views_note(struct index *index, uint64_t seq, const struct change *change)
{
	bool ends = change->type == CHANGE_SNAPSHOT_DEL;
	struct view_entry *entry;

	if (change->type != CHANGE_SNAPSHOT_PUT && !ends)
		return;
	atomic_store(&index->snapshots_seq, seq);
	if (!ends && change->u.snapshot.name[0] != '\0')
		return;
	LOCK_SCOPE(&index->lock);
	entry = find_locked(index, change->u.snapshot.snapshot_no);
	if (entry)
		entry->is_dying = true;
}

int index_find_snapshot(struct index *index, struct bytes name, struct snapshot_row *out)
{
	LOCK_SCOPE(&index->lock);
	for (size_t i = 0; i < index->view_count; i++) {
		const struct view_entry *entry = &index->views[i];

		if (!entry->is_dying && strlen(entry->row.name) == name.len &&
		    memcmp(entry->row.name, name.ptr, name.len) == 0) {
			*out = entry->row;
			return 0;
		}
	}
	return -ENOENT;
}

int index_list_readable(struct index *index, uint64_t after, size_t count_max,
			struct snapshot_list *out)
{
	int r = 0;

	LOCK_SCOPE(&index->lock);
	for (size_t i = place_locked(index, after + 1);
	     r == 0 && i < index->view_count && count_max > 0; i++)
		if (!index->views[i].is_dying) {
			r = snapshot_list_add(out, &index->views[i].row);
			count_max--;
		}
	return r;
}

/* -ESTALE: there is no such snapshot, or not any more. */
static int view_get(struct index *index, uint64_t ino, struct view *out)
{
	const struct view_entry *entry;

	LOCK_SCOPE(&index->lock);
	entry = find_locked(index, ino_snapshot_no(ino));
	if (!entry || entry->is_dying)
		return -ESTALE;
	*out = (struct view){entry->row.snapshot_no, entry->row.root, entry->row.seq};
	return 0;
}

int index_check_snapshot(struct index *index, uint64_t ino)
{
	struct view view;

	return view_get(index, ino, &view);
}

/* Where a question begins: -EAGAIN without a reader. */
static int view_begin(struct index *index, const struct index_reader *reader, uint64_t ino,
		      struct view *out)
{
	int r = view_get(index, ino, out);

	return r == 0 && !reader ? -EAGAIN : r;
}

/* What the answer r is worth. */
static int view_end(struct index *index, const struct view *view, int r)
{
	struct view still;

	return view_get(index, ino_in_snapshot(view->snapshot_no, 0), &still) < 0 ? -ESTALE : r;
}

static uint64_t plain(uint64_t ino)
{
	return ino & INO_MAX;
}

/* ---- answers ---- */

int view_find_dirent(struct index *index, struct index_reader *reader, uint64_t parent,
		     struct bytes name, struct dirent_row *out)
{
	struct view view;
	int r = view_begin(index, reader, parent, &view);

	if (r < 0)
		return r;
	r = reader->conn->ops->view_find_dirent(index_conn_of(reader), view.seq, plain(parent),
						name, out);
	if (r == 0) {
		out->parent = parent;
		out->ino = ino_in_snapshot(view.snapshot_no, out->ino);
	}
	return view_end(index, &view, r);
}

int view_list_dirents(struct index *index, struct index_reader *reader, uint64_t parent,
		      uint64_t after, size_t count_max, struct dirent_list *out)
{
	size_t first = out->count;
	struct view view;
	int r = view_begin(index, reader, parent, &view);

	if (r < 0)
		return r;
	r = reader->conn->ops->view_list_dirents(index_conn_of(reader), view.seq, plain(parent),
						 after, count_max, out);
	for (size_t i = first; i < out->count; i++) {
		out->rows[i].parent = parent;
		out->rows[i].ino = ino_in_snapshot(view.snapshot_no, out->rows[i].ino);
	}
	return view_end(index, &view, r);
}

int view_get_inode(struct index *index, struct index_reader *reader, uint64_t ino,
		   struct inode_row *out)
{
	struct inode_row row;
	struct view view;
	int r = view_begin(index, reader, ino, &view);

	if (r < 0)
		return r;
	r = reader->conn->ops->view_get_inode(index_conn_of(reader), view.seq, plain(ino), &row);
	/* What had no name then has none here. */
	if (r == 0 && (row.flags & INODE_ORPHAN))
		r = -ENOENT;
	r = view_end(index, &view, r);
	if (r < 0)
		return r;
	*out = row;
	out->ino = ino;
	out->parent = row.ino == view.root ? ino_in_snapshot(SNAPSHOT_NO_NONE, INO_SNAPSHOTS)
					   : ino_in_snapshot(view.snapshot_no, row.parent);
	return 0;
}

int view_get_symlink(struct index *index, struct index_reader *reader, uint64_t ino,
		     struct buf *out)
{
	struct view view;
	int r = view_begin(index, reader, ino, &view);

	if (r < 0)
		return r;
	return view_end(index, &view,
			reader->conn->ops->view_get_symlink(index_conn_of(reader), view.seq,
							    plain(ino), out));
}

int view_get_xattr(struct index *index, struct index_reader *reader, uint64_t ino,
		   struct bytes name, struct buf *out)
{
	struct view view;
	int r = view_begin(index, reader, ino, &view);

	if (r < 0)
		return r;
	r = reader->conn->ops->view_get_xattr(index_conn_of(reader), view.seq, plain(ino), name,
					      out);
	return view_end(index, &view, r == -ENOENT ? -ENODATA : r);
}

int view_list_xattrs(struct index *index, struct index_reader *reader, uint64_t ino,
		     struct buf *out)
{
	struct view view;
	int r = view_begin(index, reader, ino, &view);

	if (r < 0)
		return r;
	return view_end(index, &view,
			reader->conn->ops->view_list_xattrs(index_conn_of(reader), view.seq,
							    plain(ino), out));
}

/* Appends what the page has, within [off, end). */
static int clip_page(const struct extent_page *page, uint64_t ino, uint64_t off, uint64_t end,
		     struct extent_list *out)
{
	int r = 0;

	for (size_t i = 0; i < page->rows.count && r == 0; i++) {
		struct extent_row row = page->rows.rows[i];
		uint64_t from = MAX(row.off, off), to = MIN(row.off + row.len, end);

		row.ino = ino;
		if (row.chunk_no != 0)
			row.chunk_off += (uint32_t)(from - row.off);
		row.off = from;
		row.len = (uint32_t)(to - from);
		r = extent_list_add(out, &row);
	}
	return r;
}

int view_find_extents(struct index *index, struct index_reader *reader, uint64_t ino, uint64_t off,
		      uint64_t end, size_t count_max, struct extent_list *out,
		      uint64_t *covered_end)
{
	struct extent_page page = {.rows_max = MIN(count_max, (size_t)PAGE_ROWS), .end = end};
	struct view view;
	int r = view_begin(index, reader, ino, &view);

	if (r < 0)
		return r;
	r = reader->conn->ops->view_visit_extents(index_conn_of(reader), view.seq, plain(ino), off,
						  end, index_add_to_page, &page);
	if (r == 0)
		r = clip_page(&page, ino, off, end, out);
	extent_list_release(&page.rows);
	r = view_end(index, &view, r);
	if (r == 0)
		*covered_end = page.end;
	return r;
}

/* Nothing in it is younger than the snapshot. */
int view_newest(struct index *index, struct index_reader *reader, uint64_t ino, uint64_t *seq)
{
	struct view view;
	int r = view_begin(index, reader, ino, &view);

	if (r < 0)
		return r;
	r = view_end(index, &view, 0);
	if (r == 0)
		*seq = view.seq;
	return r;
}

int view_subtree_shards(struct index *index, struct index_reader *reader, uint64_t ino,
			uint64_t after, size_t count_max, uint64_t *shard_nos, size_t *count,
			struct subtree_totals *totals)
{
	struct view view;
	int r = view_begin(index, reader, ino, &view);

	if (r < 0)
		return r;
	return view_end(index, &view,
			reader->conn->ops->view_subtree_shards(index_conn_of(reader), view.seq,
							       plain(ino), after, count_max,
							       shard_nos, count, totals));
}

static int root_counter(struct index *index, const struct view *view, struct dir_counter *out)
{
	const struct view_entry *entry;

	LOCK_SCOPE(&index->lock);
	entry = find_locked(index, view->snapshot_no);
	if (!entry || entry->is_dying)
		return -ESTALE;
	*out = (struct dir_counter){entry->row.files, entry->row.directories, entry->row.bytes,
				    entry->row.seq};
	return 0;
}

/* The root's were kept; those of another directory are counted, which walks the tree below it. */
int view_get_dir_counter(struct index *index, struct index_reader *reader, uint64_t ino,
			 struct dir_counter *out)
{
	struct subtree_totals totals = {0};
	struct inode_row row;
	uint64_t shard_no;
	size_t count;
	struct view view;
	int r = view_begin(index, reader, ino, &view);

	if (r < 0)
		return r;
	if (plain(ino) == view.root)
		return root_counter(index, &view, out);
	r = view_get_inode(index, reader, ino, &row);
	if (r == 0 && (row.mode & 0170000) == 0040000)
		r = view_subtree_shards(index, reader, ino, UINT64_MAX >> 1, 1, &shard_no, &count,
					&totals);
	if (r < 0)
		return r;
	*out = (struct dir_counter){totals.files, totals.directories - (totals.directories > 0),
				    totals.bytes, view.seq};
	return 0;
}
