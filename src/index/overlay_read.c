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

static int look_check_locked(const struct overlay_look *look)
{
	return look->stripe->drops == look->drops ? 0 : -ESTALE;
}

int overlay_look_check(struct overlay_look *look)
{
	LOCK_SCOPE(&look->stripe->lock);
	return look_check_locked(look);
}

static bool is_beyond(const _Atomic uint64_t *stored, uint64_t number)
{
	return number > atomic_load(stored);
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

	if (is_beyond(&overlay->stored_ino, parent))
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
	r = look_check_locked(look);
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
		return is_beyond(&overlay->stored_ino, ino) ? -ENOENT : -EAGAIN;
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
	if (is_inode_gone(stripe, ino) || is_beyond(&overlay->stored_ino, ino))
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
	if (is_inode_gone(stripe, ino) || is_beyond(&overlay->stored_ino, ino))
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
	if (look_check_locked(look) < 0)
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
	if (look_check_locked(look) < 0)
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
	if (is_beyond(&overlay->stored_ino, ino))
		merge.engine = &nothing;
	r = merge_extents_locked(stripe, &merge, off, end);
	if (r < 0)
		out->count = count_before;
	else
		*covered_end = merge.end;
	return r;
}

/* ---- chunks ---- */

static struct chunk_entry *chunk_of(struct tree_node *at)
{
	return container_of(container_of(at, struct entry, tree), struct chunk_entry, entry);
}

int overlay_find_chunk(struct overlay *overlay, const struct chunk_id *id, struct chunk_row *out)
{
	struct stripe *stripe = &overlay->objects;
	uint64_t hash = map_hash_bytes(0, id->b, sizeof(id->b));

	LOCK_SCOPE(&stripe->lock);
	for (struct map_node *at = map_first(&stripe->chunk_ids, hash); at; at = map_next(at)) {
		struct chunk_entry *chunk = container_of(at, struct chunk_entry, by_id);

		if (chunk->is_dying || memcmp(chunk->row.id.b, id->b, sizeof(id->b)) != 0)
			continue;
		*out = chunk->row;
		return 0;
	}
	return -EAGAIN;
}

int overlay_get_chunk(struct overlay *overlay, uint64_t chunk_no, struct chunk_row *out)
{
	struct stripe *stripe = &overlay->objects;
	struct tree_node *at;

	LOCK_SCOPE(&stripe->lock);
	at = tree_find(&stripe->objects[ENTRY_CHUNK], (struct tree_key){chunk_no, 0});
	if (at != NULL && chunk_of(at)->has_row) {
		*out = chunk_of(at)->row;
		return 0;
	}
	return is_beyond(&overlay->stored_chunk, chunk_no) ? -ENOENT : -EAGAIN;
}

int overlay_merge_found_chunk(struct overlay_look *look, uint64_t chunk_no)
{
	struct stripe *stripe = look->stripe;
	struct tree_node *at;

	LOCK_SCOPE(&stripe->lock);
	if (look_check_locked(look) < 0)
		return -ESTALE;
	at = tree_find(&stripe->objects[ENTRY_CHUNK], (struct tree_key){chunk_no, 0});
	return at != NULL && chunk_of(at)->is_dying ? -ENOENT : 0;
}

static struct chunk_entry *chunk_in_shard(struct tree_node *at, uint64_t shard_no)
{
	return at != NULL && at->key.major == shard_no
		       ? container_of(at, struct chunk_entry, by_shard)
		       : NULL;
}

int overlay_merge_chunks(struct overlay_look *look, uint64_t shard_no, uint64_t after,
			 size_t count_max, const struct chunk_list *engine, uint64_t engine_end,
			 struct chunk_list *out, uint64_t *end)
{
	struct stripe *stripe = look->stripe;
	struct chunk_entry *chunk;
	size_t at = 0, added = 0;

	LOCK_SCOPE(&stripe->lock);
	if (look_check_locked(look) < 0)
		return -ESTALE;
	chunk = chunk_in_shard(tree_at_or_after(&stripe->chunks_of_shard,
						(struct tree_key){shard_no, after + 1}),
			       shard_no);
	*end = after;
	while (added < count_max) {
		const struct chunk_row *row = at < engine->count ? &engine->rows[at] : NULL;
		const struct chunk_row *merged;
		struct tree_node *overlaid;

		if (chunk != NULL && chunk->row.chunk_no > engine_end)
			chunk = NULL;
		if (chunk == NULL && row == NULL) {
			*end = engine_end;
			return 0;
		}
		if (chunk != NULL && (row == NULL || chunk->row.chunk_no <= row->chunk_no)) {
			merged = &chunk->row;
			at += row != NULL && row->chunk_no == merged->chunk_no;
			chunk = chunk_in_shard(tree_next(&chunk->by_shard), shard_no);
		} else {
			merged = row;
			at++;
			overlaid = tree_find(&stripe->objects[ENTRY_CHUNK],
					     (struct tree_key){row->chunk_no, 0});
			if (overlaid != NULL && chunk_of(overlaid)->has_row)
				continue; /* moved to another shard */
		}
		if (chunk_list_add(out, merged) < 0)
			return -ENOMEM;
		*end = merged->chunk_no;
		added++;
	}
	return 0;
}

/* ---- shards and copies ---- */

static struct entry *find_object(struct stripe *stripe, enum entry_kind kind, uint64_t major,
				 uint64_t minor)
{
	struct tree_node *at =
		tree_find(&stripe->objects[kind], (struct tree_key){major, minor});

	return at != NULL ? container_of(at, struct entry, tree) : NULL;
}

static struct entry *next_object(struct stripe *stripe, enum entry_kind kind, uint64_t after)
{
	struct tree_node *at = after == UINT64_MAX
				       ? NULL
				       : tree_at_or_after(&stripe->objects[kind],
							  (struct tree_key){after + 1, 0});

	return at != NULL ? container_of(at, struct entry, tree) : NULL;
}

int overlay_get_shard(struct overlay *overlay, uint64_t shard_no, struct shard_row *out)
{
	struct stripe *stripe = &overlay->objects;
	struct entry *entry;

	LOCK_SCOPE(&stripe->lock);
	entry = find_object(stripe, ENTRY_SHARD, shard_no, 0);
	if (entry == NULL)
		return is_beyond(&overlay->stored_shard, shard_no) ? -ENOENT : -EAGAIN;
	if (entry->is_deleted)
		return -ENOENT;
	*out = container_of(entry, struct shard_entry, entry)->row;
	return 0;
}

static bool is_shard_gone(struct stripe *stripe, uint64_t shard_no)
{
	struct entry *shard = find_object(stripe, ENTRY_SHARD, shard_no, 0);

	return shard != NULL && shard->is_deleted;
}

int overlay_merge_copies(struct overlay_look *look, uint64_t shard_no,
			 const struct copy_list *engine, struct copy_list *out)
{
	struct stripe *stripe = look->stripe;
	AUTO(copy_list) merged = ROW_LIST_INIT;
	struct tree_node *at;
	int r = 0;

	LOCK_SCOPE(&stripe->lock);
	if (look_check_locked(look) < 0)
		return -ESTALE;
	if (!is_shard_gone(stripe, shard_no))
		for (size_t i = 0; i < engine->count && r == 0; i++)
			r = copy_list_put(&merged, &engine->rows[i]);
	at = tree_at_or_after(&stripe->objects[ENTRY_COPY], (struct tree_key){shard_no, 0});
	for (; at != NULL && at->key.major == shard_no && r == 0; at = tree_next(at)) {
		struct entry *entry = container_of(at, struct entry, tree);

		if (entry->is_deleted)
			copy_list_del(&merged, (uint32_t)at->key.minor);
		else
			r = copy_list_put(&merged,
					  &container_of(entry, struct copy_entry, entry)->row);
	}
	for (size_t i = 0; i < merged.count && r == 0; i++)
		r = copy_list_add(out, &merged.rows[i]);
	return r;
}

static const struct copy_row *overlaid_copy(struct tree_node *node, uint32_t state)
{
	struct entry *entry = container_of(node, struct entry, tree);
	const struct copy_row *row = &container_of(entry, struct copy_entry, entry)->row;

	return entry->is_deleted || row->state != state ? NULL : row;
}

int overlay_merge_copies_in_state(struct overlay_look *look, uint32_t state, uint64_t after,
				  size_t count_max, const struct copy_list *engine,
				  uint64_t engine_end, struct copy_list *out, uint64_t *end)
{
	struct stripe *stripe = look->stripe;
	struct tree_node *node;
	size_t at = 0, added = 0;
	uint64_t last = after;
	int r = 0;

	LOCK_SCOPE(&stripe->lock);
	if (look_check_locked(look) < 0)
		return -ESTALE;
	node = after == UINT64_MAX ? NULL
				   : tree_at_or_after(&stripe->objects[ENTRY_COPY],
						      (struct tree_key){after + 1, 0});
	while (r == 0) {
		const struct copy_row *row = at < engine->count ? &engine->rows[at] : NULL;
		const struct copy_row *pick = row;
		bool is_overlaid, is_same;
		uint64_t shard_no;

		if (node != NULL && node->key.major > engine_end)
			node = NULL;
		if (node == NULL && row == NULL) {
			last = engine_end;
			break;
		}
		is_same = node != NULL && row != NULL && node->key.major == row->shard_no &&
			  node->key.minor == row->provider_no;
		is_overlaid = node != NULL &&
			      (row == NULL || is_same || node->key.major < row->shard_no ||
			       (node->key.major == row->shard_no &&
				node->key.minor < row->provider_no));
		shard_no = is_overlaid ? node->key.major : row->shard_no;
		if (added >= count_max && shard_no != last)
			break; /* whole shards */
		last = shard_no;
		if (is_overlaid) {
			pick = overlaid_copy(node, state);
			node = tree_next(node);
			at += is_same;
		} else {
			at++;
			if (is_shard_gone(stripe, shard_no))
				pick = NULL;
		}
		if (pick == NULL)
			continue;
		r = copy_list_add(out, pick);
		added++;
	}
	*end = last;
	return r;
}

/* ---- tables with one number as key ---- */

#define DEFINE_MERGE(T, KIND, field)                                                               \
	static int merge_##T##s_locked(struct stripe *stripe, uint64_t after, size_t count_max,    \
				       const struct T##_list *engine, uint64_t engine_end,         \
				       struct T##_list *out, uint64_t *end)                        \
	{                                                                                          \
		struct entry *entry = next_object(stripe, KIND, after);                            \
		size_t at = 0, added = 0;                                                          \
                                                                                                   \
		*end = after;                                                                      \
		while (added < count_max) {                                                        \
			const struct T##_row *row = at < engine->count ? &engine->rows[at] : NULL; \
			const struct T##_row *pick = row;                                          \
			uint64_t number;                                                           \
                                                                                                   \
			if (entry != NULL && entry->tree.key.major > engine_end)                   \
				entry = NULL;                                                      \
			if (entry == NULL && row == NULL) {                                        \
				*end = engine_end;                                                 \
				return 0;                                                          \
			}                                                                          \
			if (entry != NULL &&                                                       \
			    (row == NULL || entry->tree.key.major <= row->field)) {                \
				number = entry->tree.key.major;                                    \
				at += row != NULL && row->field == number;                           \
				pick = entry->is_deleted                                           \
					       ? NULL                                              \
					       : &container_of(entry, struct T##_entry, entry)     \
							  ->row;                                   \
				entry = next_object(stripe, KIND, number);                         \
			} else {                                                                   \
				number = row->field;                                                 \
				at++;                                                              \
			}                                                                          \
			*end = number;                                                             \
			if (pick == NULL)                                                          \
				continue;                                                          \
			if (T##_list_add(out, pick) < 0)                                           \
				return -ENOMEM;                                                    \
			added++;                                                                   \
		}                                                                                  \
		return 0;                                                                          \
	}
DEFINE_MERGE(shard, ENTRY_SHARD, shard_no)
DEFINE_MERGE(provider, ENTRY_PROVIDER, provider_no)
DEFINE_MERGE(policy, ENTRY_POLICY, root)
DEFINE_MERGE(snapshot, ENTRY_SNAPSHOT, snapshot_no)

/* The sums of a shard are the engine's: an entry of the overlay does not know them. */
static void keep_sums(struct shard_row *row, const struct shard_list *engine, size_t *at)
{
	while (*at < engine->count && engine->rows[*at].shard_no < row->shard_no)
		(*at)++;
	if (*at == engine->count || engine->rows[*at].shard_no != row->shard_no)
		return;
	row->live_bytes = engine->rows[*at].live_bytes;
	row->total_bytes = engine->rows[*at].total_bytes;
}

int overlay_merge_shards(struct overlay_look *look, uint64_t after, size_t count_max,
			 const struct shard_list *engine, uint64_t engine_end,
			 struct shard_list *out, uint64_t *end)
{
	size_t first = out->count, at = 0;
	int r;

	LOCK_SCOPE(&look->stripe->lock);
	if (look_check_locked(look) < 0)
		return -ESTALE;
	r = merge_shards_locked(look->stripe, after, count_max, engine, engine_end, out, end);
	for (size_t i = first; i < out->count && r == 0; i++)
		keep_sums(&out->rows[i], engine, &at);
	return r;
}

#define DEFINE_MERGE_WHOLE(T, plural)                                                              \
	int overlay_merge_##plural(struct overlay_look *look, const struct T##_list *engine,       \
				   struct T##_list *out)                                           \
	{                                                                                          \
		uint64_t end;                                                                      \
                                                                                                   \
		LOCK_SCOPE(&look->stripe->lock);                                                   \
		if (look_check_locked(look) < 0)                                                   \
			return -ESTALE;                                                            \
		return merge_##T##s_locked(look->stripe, 0, SIZE_MAX, engine, UINT64_MAX, out,     \
					   &end);                                                  \
	}
DEFINE_MERGE_WHOLE(provider, providers)
DEFINE_MERGE_WHOLE(policy, policies)
DEFINE_MERGE_WHOLE(snapshot, snapshots)

int overlay_merge_orphans(struct overlay_look *look, uint64_t after, size_t count_max,
			  const uint64_t *engine, size_t engine_count, uint64_t engine_end,
			  uint64_t *inos, size_t *count, uint64_t *end)
{
	struct stripe *stripe = look->stripe;
	struct entry *entry;
	size_t at = 0, added = 0;

	LOCK_SCOPE(&stripe->lock);
	if (look_check_locked(look) < 0)
		return -ESTALE;
	entry = next_object(stripe, ENTRY_ORPHAN, after);
	*end = after;
	while (added < count_max) {
		uint64_t ino;
		bool is_there = true;

		if (entry != NULL && entry->tree.key.major > engine_end)
			entry = NULL;
		if (entry == NULL && at == engine_count) {
			*end = engine_end;
			break;
		}
		if (entry != NULL && (at == engine_count || entry->tree.key.major <= engine[at])) {
			ino = entry->tree.key.major;
			is_there = !entry->is_deleted;
			at += at < engine_count && engine[at] == ino;
			entry = next_object(stripe, ENTRY_ORPHAN, ino);
		} else {
			ino = engine[at++];
		}
		*end = ino;
		if (is_there)
			inos[added++] = ino;
	}
	*count = added;
	return 0;
}

/* ---- single rows of small tables ---- */

int overlay_get_policy(struct overlay *overlay, uint64_t root, struct policy_row *out)
{
	struct stripe *stripe = &overlay->objects;
	struct entry *entry;

	LOCK_SCOPE(&stripe->lock);
	entry = find_object(stripe, ENTRY_POLICY, root, 0);
	if (entry == NULL)
		return -EAGAIN;
	if (entry->is_deleted)
		return -ENOENT;
	*out = container_of(entry, struct policy_entry, entry)->row;
	return 0;
}

int overlay_get_setting(struct overlay *overlay, struct bytes key, struct buf *out)
{
	struct stripe *stripe = &overlay->objects;
	struct setting_entry *setting;

	LOCK_SCOPE(&stripe->lock);
	setting = overlay_find_setting(stripe, key);
	if (setting == NULL)
		return -EAGAIN;
	return buf_append(out, bytes_of(setting->bytes + setting->key_len, setting->value_len));
}
