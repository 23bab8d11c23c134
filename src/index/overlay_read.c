/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overlay: reading, and merging with what the engine gave.
 *
 * A merge walks two ordered lists, the engine's rows and the overlay's entries,
 * up to where the engine's are complete; on equal keys the overlay wins, and a
 * tombstone hides.  It runs under the stripe's lock, after a check that nothing
 * was dropped since the look, so that what the engine lacks is still here.
 */
#include "index/overlay_impl.h"

#include "index/copy_pack.h"

#include <assert.h>
#include <errno.h>

/* ---- looks ---- */

static struct overlay_look look_at(struct overlay *overlay, struct stripe *stripe,
				   unsigned attempt)
{
	struct overlay_look look = {.overlay = overlay, .stripe = stripe};

	LOCK_SCOPE(&stripe->lock);
	look.drops = stripe->drops;
	look.is_held = attempt >= LOOKS_FREE_MAX;
	stripe->holds += look.is_held;
	return look;
}

struct overlay_look overlay_look_inode(struct overlay *overlay, uint64_t ino, unsigned attempt)
{
	return look_at(overlay, overlay_stripe(overlay, ino), attempt);
}

struct overlay_look overlay_look_objects(struct overlay *overlay, unsigned attempt)
{
	return look_at(overlay, &overlay->objects, attempt);
}

void overlay_look_end(struct overlay_look *look)
{
	if (!look->is_held)
		return;
	LOCK_SCOPE(&look->stripe->lock);
	assert(look->stripe->holds > 0);
	look->stripe->holds--;
	look->is_held = false;
}

int overlay_look_check_locked(const struct overlay_look *look)
{
	return look->stripe->drops == look->drops ? 0 : -ESTALE;
}

int overlay_look_check(struct overlay_look *look)
{
	LOCK_SCOPE(&look->stripe->lock);
	return overlay_look_check_locked(look);
}

/* ---- names ---- */

static void name_row(const struct name_entry *name, struct dirent_row *out)
{
	out->parent = name->parent;
	out->cookie = name->cookie;
	out->ino = name->ino;
	out->type = name->type;
	out->name_len = name->name_len;
	memcpy(out->name, name->name, name->name_len);
	out->name[name->name_len] = '\0';
}

static bool is_complete(struct overlay *overlay, struct stripe *stripe, uint64_t parent)
{
	struct entry *directory;

	if (overlay_is_beyond(&overlay->stored_ino, parent))
		return true; /* nothing of it was ever applied */
	directory = overlay_find_by_inode(stripe, ENTRY_DIRECTORY, parent);
	if (directory != NULL)
		overlay_touch_locked(stripe, directory);
	return directory != NULL;
}

int overlay_find_dirent(struct overlay *overlay, uint64_t parent, struct bytes name,
			struct dirent_row *out, uint64_t *drops)
{
	struct stripe *stripe = overlay_stripe(overlay, parent);
	uint64_t hash = overlay_name_hash(parent, name);
	struct name_entry *entry;

	LOCK_SCOPE(&stripe->lock);
	entry = overlay_find_name(stripe, parent, name, hash);
	if (entry != NULL) {
		overlay_touch_locked(stripe, &entry->entry);
		if (entry->entry.is_deleted)
			return -ENOENT;
		name_row(entry, out);
		return 0;
	}
	if (is_complete(overlay, stripe, parent))
		return -ENOENT;
	*drops = stripe->drops;
	return -EAGAIN;
}

/* The first entry that is there, with a cookie > after. */
static struct name_entry *next_name(struct stripe *stripe, uint64_t parent, uint64_t after)
{
	struct tree_node *at = after == UINT64_MAX
				       ? NULL
				       : tree_at_or_after(&stripe->cookies,
							  (struct tree_key){parent, after + 1});

	while (at != NULL && at->key.major == parent) {
		struct entry *entry = container_of(at, struct entry, tree);

		if (entry->kind == ENTRY_NAME)
			return container_of(entry, struct name_entry, entry);
		at = tree_next(at);
	}
	return NULL;
}

int overlay_list_dirents(struct overlay *overlay, uint64_t parent, uint64_t after,
			 size_t count_max, struct dirent_list *out)
{
	struct stripe *stripe = overlay_stripe(overlay, parent);

	LOCK_SCOPE(&stripe->lock);
	if (!is_complete(overlay, stripe, parent))
		return -EAGAIN;
	for (size_t i = 0; i < count_max; i++) {
		struct name_entry *name = next_name(stripe, parent, after);
		struct dirent_row row;

		if (name == NULL)
			break;
		name_row(name, &row);
		if (dirent_list_add(out, &row) < 0)
			return -ENOMEM;
		after = name->cookie;
	}
	return 0;
}

int overlay_check_empty(struct overlay *overlay, uint64_t parent)
{
	struct stripe *stripe = overlay_stripe(overlay, parent);

	LOCK_SCOPE(&stripe->lock);
	if (next_name(stripe, parent, 0) != NULL)
		return -ENOTEMPTY;
	return is_complete(overlay, stripe, parent) ? 0 : -EAGAIN;
}

/* Whether an engine's row is hidden: its place or its name are something else now. */
static bool is_row_hidden(struct stripe *stripe, const struct dirent_row *row)
{
	struct bytes name = bytes_of(row->name, row->name_len);

	if (tree_find(&stripe->cookies, (struct tree_key){row->parent, row->cookie}) != NULL)
		return true; /* gone, or merged from there */
	return overlay_find_name(stripe, row->parent, name,
				 overlay_name_hash(row->parent, name)) != NULL;
}

static int merge_dirents_locked(struct stripe *stripe, uint64_t parent, uint64_t after,
				size_t count_max, const struct dirent_list *engine,
				uint64_t engine_end, struct dirent_list *out, uint64_t *end)
{
	struct name_entry *name = next_name(stripe, parent, after);
	size_t at = 0, added = 0;

	while (added < count_max) {
		const struct dirent_row *row = at < engine->count ? &engine->rows[at] : NULL;
		struct dirent_row merged;

		if (name != NULL && name->cookie > engine_end)
			name = NULL;
		if (name == NULL && row == NULL) {
			*end = engine_end;
			return 0;
		}
		if (name != NULL && (row == NULL || name->cookie <= row->cookie)) {
			name_row(name, &merged);
			at += row != NULL && row->cookie == name->cookie;
			name = next_name(stripe, parent, name->cookie);
		} else {
			at++;
			if (is_row_hidden(stripe, row))
				continue;
			merged = *row;
		}
		if (dirent_list_add(out, &merged) < 0)
			return -ENOMEM;
		*end = merged.cookie;
		added++;
	}
	return 0;
}

/*
 * A directory is known whole once each of its names is here.  Not a large one: learning it
 * would evict its own beginning.
 */
static void learn_dirents_locked(struct overlay_look *look, uint64_t parent,
				 const struct dirent_list *engine, bool is_whole)
{
	is_whole = is_whole && engine->count < look->overlay->clean_max / 2;
	for (size_t i = 0; i < engine->count; i++) {
		const struct dirent_row *row = &engine->rows[i];

		if (!is_row_hidden(look->stripe, row) &&
		    overlay_learn_locked(look->overlay, look->stripe, parent,
					 bytes_of(row->name, row->name_len), row) < 0)
			is_whole = false;
	}
	if (is_whole)
		overlay_learn_directory_locked(look->overlay, look->stripe, parent);
}

int overlay_merge_dirents(struct overlay_look *look, uint64_t parent, uint64_t after,
			  size_t count_max, const struct dirent_list *engine, uint64_t engine_end,
			  bool is_whole, struct dirent_list *out, uint64_t *end)
{
	int r;

	lock_take(&look->stripe->lock);
	r = overlay_look_check_locked(look);
	if (r == 0)
		r = merge_dirents_locked(look->stripe, parent, after, count_max, engine, engine_end,
					 out, end);
	if (r == 0)
		learn_dirents_locked(look, parent, engine, is_whole);
	lock_drop(&look->stripe->lock);
	overlay_trim(look->overlay);
	return r;
}

/* ---- of one inode ---- */

static bool is_inode_gone(struct stripe *stripe, uint64_t ino)
{
	struct entry *entry = overlay_find_by_inode(stripe, ENTRY_INODE, ino);

	return entry != NULL && entry->is_deleted;
}

int overlay_get_inode(struct overlay *overlay, uint64_t ino, struct inode_row *out)
{
	struct stripe *stripe = overlay_stripe(overlay, ino);
	struct entry *entry;

	LOCK_SCOPE(&stripe->lock);
	entry = overlay_find_by_inode(stripe, ENTRY_INODE, ino);
	if (entry == NULL)
		return overlay_is_beyond(&overlay->stored_ino, ino) ? -ENOENT : -EAGAIN;
	if (entry->is_deleted)
		return -ENOENT;
	*out = container_of(entry, struct inode_entry, entry)->row;
	return 0;
}

int overlay_get_symlink(struct overlay *overlay, uint64_t ino, struct buf *out)
{
	struct stripe *stripe = overlay_stripe(overlay, ino);
	struct symlink_entry *symlink;
	struct entry *entry;

	LOCK_SCOPE(&stripe->lock);
	entry = overlay_find_by_inode(stripe, ENTRY_SYMLINK, ino);
	if (entry != NULL) {
		symlink = container_of(entry, struct symlink_entry, entry);
		return buf_append(out, bytes_of(symlink->target, symlink->len));
	}
	if (is_inode_gone(stripe, ino) || overlay_is_beyond(&overlay->stored_ino, ino))
		return -ENOENT;
	return -EAGAIN;
}

int overlay_get_xattr(struct overlay *overlay, uint64_t ino, struct bytes name, struct buf *out)
{
	struct stripe *stripe = overlay_stripe(overlay, ino);
	struct xattr_entry *xattr;

	LOCK_SCOPE(&stripe->lock);
	xattr = overlay_find_xattr(stripe, ino, name);
	if (xattr != NULL && xattr->entry.is_deleted)
		return -ENODATA;
	if (xattr != NULL)
		return buf_append(out, bytes_of(xattr->bytes + xattr->name_len, xattr->value_len));
	if (is_inode_gone(stripe, ino) || overlay_is_beyond(&overlay->stored_ino, ino))
		return -ENODATA;
	return -EAGAIN;
}

static int append_name(struct buf *out, struct bytes name)
{
	int r = buf_append(out, name);

	return r < 0 ? r : buf_append_zeros(out, 1);
}

int overlay_merge_xattrs(struct overlay_look *look, uint64_t ino, struct bytes engine,
			 struct buf *out)
{
	struct stripe *stripe = look->stripe;
	uint64_t hash = map_hash_u64(ino);
	int r = 0;

	LOCK_SCOPE(&stripe->lock);
	if (overlay_look_check_locked(look) < 0)
		return -ESTALE;
	if (is_inode_gone(stripe, ino))
		return 0;
	while (engine.len > 0 && r == 0) {
		struct bytes name = bytes_of(engine.ptr, strnlen((const char *)engine.ptr,
								 engine.len));

		if (overlay_find_xattr(stripe, ino, name) == NULL)
			r = append_name(out, name);
		engine = bytes_of(engine.ptr + name.len + 1, engine.len - name.len - 1);
	}
	for (struct map_node *at = map_first(&stripe->by_inode, hash); at != NULL && r == 0;
	     at = map_next(at)) {
		struct entry *entry = container_of(at, struct entry, node);
		struct xattr_entry *xattr = container_of(entry, struct xattr_entry, entry);

		if (entry->kind == ENTRY_XATTR && !entry->is_deleted)
			r = append_name(out, bytes_of(xattr->bytes, xattr->name_len));
	}
	return r;
}

/* ---- extents ---- */

/* What a merge of extents has done so far. */
struct extent_merge {
	uint64_t ino;
	const struct extent_list *engine; /* NULL: unknown */
	size_t at;                        /* next of them that may matter */
	struct extent_list *out;
	size_t left;  /* room */
	uint64_t end; /* merged up to here */
};

static int emit(struct extent_merge *merge, uint64_t off, uint64_t end, uint64_t chunk_no,
		uint64_t chunk_off)
{
	struct extent_row row = {.ino = merge->ino, .chunk_no = chunk_no};

	row.off = off;
	row.len = (uint32_t)(end - off);
	row.chunk_off = chunk_no != 0 ? (uint32_t)chunk_off : 0;
	merge->left--;
	merge->end = end;
	return extent_list_add(merge->out, &row);
}

/* The engine's extents in [off, end), where the overlay has nothing. */
static int emit_engine(struct extent_merge *merge, uint64_t off, uint64_t end)
{
	int r = 0;

	if (off >= end)
		return 0;
	if (merge->engine == NULL)
		return -EAGAIN;
	while (merge->at < merge->engine->count && merge->left > 0 && r == 0) {
		const struct extent_row *row = &merge->engine->rows[merge->at];
		uint64_t row_end = row->off + row->len;
		uint64_t from = MAX(row->off, off), to = MIN(row_end, end);

		if (row->off >= end)
			break;
		if (from < to)
			r = emit(merge, from, to, row->chunk_no,
				 row->chunk_off + (from - row->off));
		if (row_end > end)
			break; /* goes on behind the range of the overlay */
		merge->at++;
	}
	return r;
}

static int merge_extents_locked(struct stripe *stripe, struct extent_merge *merge, uint64_t off,
				uint64_t end)
{
	struct tree_key key = {merge->ino, off};
	struct tree_node *at = tree_at_or_before(&stripe->ranges, key);
	int r = 0;

	if (at == NULL || at->key.major != merge->ino)
		at = tree_at_or_after(&stripe->ranges, key);
	for (; at != NULL && at->key.major == merge->ino && at->key.minor < end; at = tree_next(at)) {
		struct entry *entry = container_of(at, struct entry, tree);
		struct range_entry *range = container_of(entry, struct range_entry, entry);
		uint64_t from = MAX(at->key.minor, off), to = MIN(at->key.minor + range->len, end);

		if (from >= to)
			continue;
		r = emit_engine(merge, off, from);
		if (r < 0 || merge->left == 0)
			return r;
		if (!range->is_hole)
			r = emit(merge, from, to, range->chunk_no,
				 range->chunk_off + (from - at->key.minor));
		if (r < 0 || merge->left == 0)
			return r;
		off = merge->end = to;
	}
	r = emit_engine(merge, off, end);
	if (r == 0 && merge->left > 0)
		merge->end = end;
	return r;
}

int overlay_merge_extents(struct overlay_look *look, uint64_t ino, uint64_t off, uint64_t end,
			  size_t count_max, const struct extent_list *engine, uint64_t engine_end,
			  struct extent_list *out, uint64_t *covered_end)
{
	struct extent_merge merge = {
		.ino = ino, .engine = engine, .out = out, .left = count_max, .end = off};
	int r;

	LOCK_SCOPE(&look->stripe->lock);
	if (overlay_look_check_locked(look) < 0)
		return -ESTALE;
	r = merge_extents_locked(look->stripe, &merge, off, MIN(end, engine_end));
	if (r == 0)
		*covered_end = merge.end;
	return r;
}

int overlay_find_extents(struct overlay *overlay, uint64_t ino, uint64_t off, uint64_t end,
			 size_t count_max, struct extent_list *out, uint64_t *covered_end)
{
	static const struct extent_list nothing = ROW_LIST_INIT;
	struct stripe *stripe = overlay_stripe(overlay, ino);
	struct extent_merge merge = {.ino = ino, .out = out, .left = count_max, .end = off};
	size_t count_before = out->count;
	int r;

	LOCK_SCOPE(&stripe->lock);
	if (overlay_is_beyond(&overlay->stored_ino, ino))
		merge.engine = &nothing;
	r = merge_extents_locked(stripe, &merge, off, end);
	if (r < 0)
		out->count = count_before;
	else
		*covered_end = merge.end;
	return r;
}
