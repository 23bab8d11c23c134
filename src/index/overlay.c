/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overlay: noting, dropping, and the cache of clean names.
 *
 * Everything of one inode or directory is in one of the stripes, by a hash of
 * its number; chunks, shards, copies and the small tables are in a stripe of
 * their own.  A thread holds one stripe's lock at a time, never across a call
 * of the engine.
 *
 * Noting has two phases.  First every entry is made, which may fail; then they
 * are put in place, which cannot: what splitting needs was set aside before.
 *
 * Directory names: a name is an entry, there or not there.  Names that are
 * there are in `cookies` too, in the order of readdir.  A COOKIE entry in that
 * order hides the engine's row at that place.
 *
 * Extents: ranges of an inode do not overlap; the newest wins, older ones are
 * cut or split and keep their own seq.  A hole is a range as well.  Ranges mask
 * what the engine has below them.
 *
 * A complete directory (DIRECTORY entry) has all its names here: pending or
 * clean.  Evicting one of them ends that.
 */
#include "index/overlay_impl.h"

#include "util/mem.h"

#include <assert.h>
#include <errno.h>

/* ---- entries ---- */

struct stripe *overlay_stripe(struct overlay *overlay, uint64_t ino)
{
	return &overlay->stripes[map_hash_u64(ino) % STRIPE_COUNT];
}

uint64_t overlay_name_hash(uint64_t parent, struct bytes name)
{
	return map_hash_bytes(parent, name.ptr, name.len);
}

void *overlay_entry_new(enum entry_kind kind, uint64_t seq, size_t size)
{
	struct entry *entry = mem_alloc(size);

	if (entry == NULL)
		return NULL;
	entry->kind = (uint8_t)kind;
	entry->seq = seq;
	entry->bytes = (uint32_t)size;
	list_init(&entry->link);
	return entry;
}

struct name_entry *overlay_find_name(struct stripe *stripe, uint64_t parent, struct bytes name,
				     uint64_t hash)
{
	for (struct map_node *at = map_first(&stripe->names, hash); at; at = map_next(at)) {
		struct name_entry *entry = container_of(at, struct name_entry, entry.node);

		if (entry->parent == parent && entry->name_len == name.len &&
		    memcmp(entry->name, name.ptr, name.len) == 0)
			return entry;
	}
	return NULL;
}

struct entry *overlay_find_by_inode(struct stripe *stripe, enum entry_kind kind, uint64_t ino)
{
	uint64_t hash = map_hash_u64(ino);

	/* The hash is a bijection of the number, so that equal hashes are equal inodes. */
	for (struct map_node *at = map_first(&stripe->by_inode, hash); at; at = map_next(at)) {
		struct entry *entry = container_of(at, struct entry, node);

		if (entry->kind == kind)
			return entry;
	}
	return NULL;
}

struct xattr_entry *overlay_find_xattr(struct stripe *stripe, uint64_t ino, struct bytes name)
{
	uint64_t hash = map_hash_u64(ino);

	for (struct map_node *at = map_first(&stripe->by_inode, hash); at; at = map_next(at)) {
		struct entry *entry = container_of(at, struct entry, node);
		struct xattr_entry *xattr = container_of(entry, struct xattr_entry, entry);

		if (entry->kind == ENTRY_XATTR && xattr->name_len == name.len &&
		    memcmp(xattr->bytes, name.ptr, name.len) == 0)
			return xattr;
	}
	return NULL;
}

static uint64_t setting_hash(struct bytes key)
{
	return map_hash_bytes(0, key.ptr, key.len);
}

struct setting_entry *overlay_find_setting(struct stripe *stripe, struct bytes key)
{
	uint64_t hash = setting_hash(key);

	for (struct map_node *at = map_first(&stripe->settings, hash); at; at = map_next(at)) {
		struct setting_entry *entry = container_of(at, struct setting_entry, entry.node);

		if (entry->key_len == key.len && memcmp(entry->bytes, key.ptr, key.len) == 0)
			return entry;
	}
	return NULL;
}

struct name_entry *overlay_name_new(uint64_t seq, uint64_t parent, uint64_t cookie,
				   struct bytes name)
{
	struct name_entry *entry = ENTRY_NEW(name_entry, ENTRY_NAME, seq, name.len + 1);

	if (entry == NULL)
		return NULL;
	entry->parent = parent;
	entry->cookie = cookie;
	entry->name_len = (uint8_t)name.len;
	memcpy(entry->name, name.ptr, name.len);
	return entry;
}

/* Takes an entry out of everything that it is in. */
static void unlink_entry(struct overlay *overlay, struct stripe *stripe, struct entry *entry)
{
	struct chunk_entry *chunk = container_of(entry, struct chunk_entry, entry);

	list_remove(&entry->link);
	if (entry->is_clean)
		atomic_fetch_sub_explicit(&overlay->clean_count, 1, memory_order_relaxed);
	else
		atomic_fetch_sub_explicit(&overlay->bytes, entry->bytes, memory_order_relaxed);
	switch ((enum entry_kind)entry->kind) {
	case ENTRY_NAME:
		map_remove(&stripe->names, &entry->node);
		if (!entry->is_deleted)
			tree_remove(&stripe->cookies, &entry->tree);
		break;
	case ENTRY_COOKIE:
		tree_remove(&stripe->cookies, &entry->tree);
		break;
	case ENTRY_INODE:
	case ENTRY_SYMLINK:
	case ENTRY_XATTR:
	case ENTRY_DIRECTORY:
		map_remove(&stripe->by_inode, &entry->node);
		break;
	case ENTRY_RANGE:
		tree_remove(&stripe->ranges, &entry->tree);
		break;
	case ENTRY_SETTING:
		map_remove(&stripe->settings, &entry->node);
		break;
	case ENTRY_CHUNK:
		if (chunk->has_row) {
			map_remove(&stripe->chunk_ids, &chunk->by_id);
			tree_remove(&stripe->chunks_of_shard, &chunk->by_shard);
		}
		tree_remove(&stripe->objects[ENTRY_CHUNK], &entry->tree);
		break;
	default:
		tree_remove(&stripe->objects[entry->kind], &entry->tree);
		break;
	}
}

static void remove_entry(struct overlay *overlay, struct stripe *stripe, struct entry *entry)
{
	unlink_entry(overlay, stripe, entry);
	mem_free(entry);
}

static void add_pending(struct overlay *overlay, struct stripe *stripe, struct entry *entry)
{
	list_push_back(&stripe->pending, &entry->link);
	entry->is_clean = false;
	atomic_fetch_add_explicit(&overlay->bytes, entry->bytes, memory_order_relaxed);
}

static void insert_map(struct map *map, struct map_node *node, uint64_t hash)
{
	int r = map_insert(map, node, hash); /* the table is there since overlay_new */

	assert(r == 0);
	(void)r;
}

/* ---- the cache of clean names ---- */

static void evict_one(struct overlay *overlay, struct stripe *stripe)
{
	struct entry *oldest = container_of(stripe->lru.next, struct entry, link);

	if (oldest->kind == ENTRY_NAME && !oldest->is_deleted) {
		uint64_t parent = container_of(oldest, struct name_entry, entry)->parent;
		struct entry *directory = overlay_find_by_inode(stripe, ENTRY_DIRECTORY, parent);

		if (directory != NULL)
			remove_entry(overlay, stripe, directory);
	}
	remove_entry(overlay, stripe, oldest);
}

void overlay_add_clean_locked(struct overlay *overlay, struct stripe *stripe, struct entry *entry)
{
	entry->is_clean = true;
	list_push_back(&stripe->lru, &entry->link);
	atomic_fetch_add_explicit(&overlay->clean_count, 1, memory_order_relaxed);
}

/* The bound is one for all stripes: each in turn gives its oldest. */
void overlay_trim(struct overlay *overlay)
{
	uint64_t count;

	while ((count = atomic_load_explicit(&overlay->clean_count, memory_order_relaxed)) >
	       overlay->clean_max) {
		unsigned turn = atomic_fetch_add_explicit(&overlay->trim_turn, 1,
							  memory_order_relaxed);
		struct stripe *stripe = &overlay->stripes[turn % STRIPE_COUNT];
		uint64_t share = 1 + (count - overlay->clean_max) / STRIPE_COUNT;

		LOCK_SCOPE(&stripe->lock);
		for (; share > 0 && !list_is_empty(&stripe->lru); share--)
			evict_one(overlay, stripe);
	}
}

void overlay_touch_locked(struct stripe *stripe, struct entry *entry)
{
	if (!entry->is_clean)
		return;
	list_remove(&entry->link);
	list_push_back(&stripe->lru, &entry->link);
}

int overlay_learn_locked(struct overlay *overlay, struct stripe *stripe, uint64_t parent,
			 struct bytes name, const struct dirent_row *row)
{
	uint64_t hash = overlay_name_hash(parent, name);
	struct name_entry *entry;

	if (overlay->clean_max == 0 || overlay_find_name(stripe, parent, name, hash) != NULL)
		return 0;
	entry = overlay_name_new(0, parent, row != NULL ? row->cookie : 0, name);
	if (entry == NULL)
		return -ENOMEM;
	entry->entry.is_deleted = row == NULL;
	if (row != NULL) {
		entry->ino = row->ino;
		entry->type = row->type;
		if (tree_insert(&stripe->cookies, &entry->entry.tree,
				(struct tree_key){parent, row->cookie}) != NULL) {
			mem_free(entry); /* a newer change has that place */
			return 0;
		}
	}
	insert_map(&stripe->names, &entry->entry.node, hash);
	overlay_add_clean_locked(overlay, stripe, &entry->entry);
	return 0;
}

void overlay_learn_directory_locked(struct overlay *overlay, struct stripe *stripe, uint64_t ino)
{
	struct directory_entry *entry;

	if (overlay->clean_max == 0 ||
	    overlay_find_by_inode(stripe, ENTRY_DIRECTORY, ino) != NULL)
		return;
	entry = ENTRY_NEW(directory_entry, ENTRY_DIRECTORY, 0, 0);
	if (entry == NULL)
		return;
	entry->ino = ino;
	insert_map(&stripe->by_inode, &entry->entry.node, map_hash_u64(ino));
	overlay_add_clean_locked(overlay, stripe, &entry->entry);
}

void overlay_new_directory(struct overlay *overlay, uint64_t ino)
{
	struct stripe *stripe = overlay_stripe(overlay, ino);

	lock_take(&stripe->lock);
	overlay_learn_directory_locked(overlay, stripe, ino);
	lock_drop(&stripe->lock);
	overlay_trim(overlay);
}

void overlay_learn_dirent(struct overlay *overlay, uint64_t parent, struct bytes name,
			  const struct dirent_row *row, uint64_t drops)
{
	struct stripe *stripe = overlay_stripe(overlay, parent);

	lock_take(&stripe->lock);
	/* Noted and dropped since: what the engine said may be old. */
	if (stripe->drops == drops)
		overlay_learn_locked(overlay, stripe, parent, name, row);
	lock_drop(&stripe->lock);
	overlay_trim(overlay);
}

/* ---- noting: putting entries in place ---- */

static struct entry *take_spare(struct list *spares, size_t *count)
{
	struct entry *entry = container_of(spares->next, struct entry, link);

	assert(*count > 0);
	(*count)--;
	list_remove(&entry->link);
	return entry;
}

/* The engine's row at (parent, cookie) is gone, from seq on. */
static void hide_cookie(struct overlay *overlay, struct stripe *stripe, uint64_t parent,
			uint64_t cookie, uint64_t seq)
{
	struct tree_key key = {parent, cookie};
	struct tree_node *at = tree_find(&stripe->cookies, key);
	struct entry *spare;

	if (at != NULL) {
		struct entry *there = container_of(at, struct entry, tree);

		if (there->kind == ENTRY_NAME)
			return; /* something else is at that place now */
		remove_entry(overlay, stripe, there);
	}
	spare = take_spare(&overlay->spare_cookies, &overlay->spare_cookie_count);
	spare->seq = seq;
	tree_insert(&stripe->cookies, &spare->tree, key);
	add_pending(overlay, stripe, spare);
}

/* A name that is there becomes one that is not, without a new entry. */
static void turn_negative(struct overlay *overlay, struct stripe *stripe, struct name_entry *name,
			  uint64_t seq)
{
	list_remove(&name->entry.link);
	if (name->entry.is_clean)
		atomic_fetch_sub_explicit(&overlay->clean_count, 1, memory_order_relaxed);
	else
		atomic_fetch_sub_explicit(&overlay->bytes, name->entry.bytes, memory_order_relaxed);
	tree_remove(&stripe->cookies, &name->entry.tree);
	name->entry.is_deleted = true;
	name->entry.seq = seq;
	add_pending(overlay, stripe, &name->entry);
}

static void install_name(struct overlay *overlay, struct stripe *stripe, struct name_entry *name)
{
	struct bytes bytes = bytes_of(name->name, name->name_len);
	uint64_t hash = overlay_name_hash(name->parent, bytes);
	struct name_entry *old = overlay_find_name(stripe, name->parent, bytes, hash);
	struct tree_key key = {name->parent, name->cookie};
	uint64_t old_cookie = old != NULL && !old->entry.is_deleted ? old->cookie : 0;
	struct tree_node *at;

	if (old != NULL)
		remove_entry(overlay, stripe, &old->entry);
	if (old_cookie != 0 && old_cookie != name->cookie)
		hide_cookie(overlay, stripe, name->parent, old_cookie, name->entry.seq);
	if (name->entry.is_deleted) {
		hide_cookie(overlay, stripe, name->parent, name->cookie, name->entry.seq);
	} else {
		at = tree_find(&stripe->cookies, key);
		if (at != NULL) {
			struct entry *there = container_of(at, struct entry, tree);

			if (there->kind == ENTRY_NAME)
				turn_negative(overlay, stripe,
					      container_of(there, struct name_entry, entry),
					      name->entry.seq);
			else
				remove_entry(overlay, stripe, there);
		}
		tree_insert(&stripe->cookies, &name->entry.tree, key);
	}
	insert_map(&stripe->names, &name->entry.node, hash);
	add_pending(overlay, stripe, &name->entry);
}

/* Keeps [off, end) of a range; the rest of it is overlaid. */
static void cut_range(struct stripe *stripe, struct range_entry *range, uint64_t off, uint64_t end)
{
	struct tree_key key = range->entry.tree.key;

	if (!range->is_hole && range->chunk_no != 0)
		range->chunk_off += (uint32_t)(off - key.minor);
	range->len = end - off;
	if (off != key.minor) {
		tree_remove(&stripe->ranges, &range->entry.tree);
		key.minor = off;
		tree_insert(&stripe->ranges, &range->entry.tree, key);
	}
}

/* The part of a range behind `end` becomes an entry of its own, with the same seq. */
static void split_range(struct overlay *overlay, struct stripe *stripe, struct range_entry *range,
			uint64_t off, uint64_t end)
{
	struct entry *spare = take_spare(&overlay->spare_ranges, &overlay->spare_range_count);
	struct range_entry *right = container_of(spare, struct range_entry, entry);
	struct tree_key key = range->entry.tree.key;
	uint64_t distance = end - key.minor;

	right->entry.seq = range->entry.seq;
	right->is_hole = range->is_hole;
	right->chunk_no = range->chunk_no;
	right->chunk_off = range->chunk_off;
	if (!range->is_hole && range->chunk_no != 0)
		right->chunk_off += (uint32_t)distance;
	right->len = range->len - distance;
	cut_range(stripe, range, key.minor, off);
	key.minor = end;
	tree_insert(&stripe->ranges, &right->entry.tree, key);
	list_insert_between_(&right->entry.link, &range->entry.link, range->entry.link.next);
	atomic_fetch_add_explicit(&overlay->bytes, right->entry.bytes, memory_order_relaxed);
}

/* No older range touches [off, end) afterwards. */
static void clear_ranges(struct overlay *overlay, struct stripe *stripe, uint64_t ino, uint64_t off,
			 uint64_t end)
{
	struct tree_node *at = tree_at_or_before(&stripe->ranges, (struct tree_key){ino, off});

	if (at == NULL || at->key.major != ino)
		at = tree_at_or_after(&stripe->ranges, (struct tree_key){ino, off});
	while (at != NULL && at->key.major == ino && at->key.minor < end) {
		struct entry *entry = container_of(at, struct entry, tree);
		struct range_entry *range = container_of(entry, struct range_entry, entry);
		uint64_t range_off = at->key.minor, range_end = range_off + range->len;

		at = tree_next(at);
		if (range_end <= off)
			continue;
		if (range_off < off && range_end > end)
			split_range(overlay, stripe, range, off, end);
		else if (range_off < off)
			cut_range(stripe, range, range_off, off);
		else if (range_end > end)
			cut_range(stripe, range, end, range_end);
		else
			remove_entry(overlay, stripe, &range->entry);
	}
}

static void install_range(struct overlay *overlay, struct stripe *stripe,
			  struct range_entry *range)
{
	struct tree_key key = range->entry.tree.key;

	clear_ranges(overlay, stripe, key.major, key.minor, key.minor + range->len);
	tree_insert(&stripe->ranges, &range->entry.tree, key);
	add_pending(overlay, stripe, &range->entry);
}

/* An inode that is gone has no symlink target, xattrs or complete directory. */
static void forget_inode(struct overlay *overlay, struct stripe *stripe, uint64_t hash)
{
	struct map_node *at = map_first(&stripe->by_inode, hash);

	while (at != NULL) {
		struct entry *entry = container_of(at, struct entry, node);

		at = map_next(at);
		remove_entry(overlay, stripe, entry);
	}
}

static void install_by_inode(struct overlay *overlay, struct stripe *stripe, struct entry *entry,
			     uint64_t ino)
{
	uint64_t hash = map_hash_u64(ino);
	struct entry *old;

	if (entry->kind == ENTRY_INODE && entry->is_deleted) {
		forget_inode(overlay, stripe, hash);
	} else if (entry->kind == ENTRY_XATTR) {
		struct xattr_entry *xattr = container_of(entry, struct xattr_entry, entry);
		struct xattr_entry *before = overlay_find_xattr(
			stripe, ino, bytes_of(xattr->bytes, xattr->name_len));

		if (before != NULL)
			remove_entry(overlay, stripe, &before->entry);
	} else {
		old = overlay_find_by_inode(stripe, entry->kind, ino);
		if (old != NULL)
			remove_entry(overlay, stripe, old);
	}
	insert_map(&stripe->by_inode, &entry->node, hash);
	add_pending(overlay, stripe, entry);
}

static uint64_t chunk_id_hash(const struct chunk_id *id)
{
	return map_hash_bytes(0, id->b, sizeof(id->b));
}

static void install_chunk(struct overlay *overlay, struct stripe *stripe, struct chunk_entry *chunk)
{
	struct tree_node *at = tree_find(&stripe->objects[ENTRY_CHUNK], chunk->entry.tree.key);

	if (at != NULL) {
		struct chunk_entry *old = container_of(at, struct chunk_entry, entry.tree);

		if (!chunk->has_row && old->has_row) { /* a dying chunk stays what it is */
			chunk->row = old->row;
			chunk->has_row = true;
		}
		remove_entry(overlay, stripe, &old->entry);
	}
	if (chunk->has_row) {
		insert_map(&stripe->chunk_ids, &chunk->by_id, chunk_id_hash(&chunk->row.id));
		tree_insert(&stripe->chunks_of_shard, &chunk->by_shard,
			    (struct tree_key){chunk->row.shard_no, chunk->row.chunk_no});
	}
	tree_insert(&stripe->objects[ENTRY_CHUNK], &chunk->entry.tree, chunk->entry.tree.key);
	add_pending(overlay, stripe, &chunk->entry);
}

static void install_object(struct overlay *overlay, struct stripe *stripe, struct entry *entry)
{
	struct tree *tree = &stripe->objects[entry->kind];
	struct tree_key key = entry->tree.key;
	struct tree_node *at = tree_find(tree, key);

	if (at != NULL)
		remove_entry(overlay, stripe, container_of(at, struct entry, tree));
	tree_insert(tree, &entry->tree, key);
	add_pending(overlay, stripe, entry);
	if (entry->kind != ENTRY_SHARD || !entry->is_deleted)
		return;
	/* Copies go with their shard. */
	tree = &stripe->objects[ENTRY_COPY];
	at = tree_at_or_after(tree, (struct tree_key){key.major, 0});
	while (at != NULL && at->key.major == key.major) {
		struct entry *copy = container_of(at, struct entry, tree);

		at = tree_next(at);
		remove_entry(overlay, stripe, copy);
	}
}

static void install_setting(struct overlay *overlay, struct stripe *stripe,
			    struct setting_entry *setting)
{
	struct bytes key = bytes_of(setting->bytes, setting->key_len);
	struct setting_entry *old = overlay_find_setting(stripe, key);

	if (old != NULL)
		remove_entry(overlay, stripe, &old->entry);
	insert_map(&stripe->settings, &setting->entry.node, setting_hash(key));
	add_pending(overlay, stripe, &setting->entry);
}

static uint64_t inode_of_entry(struct entry *entry)
{
	switch ((enum entry_kind)entry->kind) {
	case ENTRY_NAME:
		return container_of(entry, struct name_entry, entry)->parent;
	case ENTRY_INODE:
		return container_of(entry, struct inode_entry, entry)->row.ino;
	case ENTRY_SYMLINK:
		return container_of(entry, struct symlink_entry, entry)->ino;
	case ENTRY_XATTR:
		return container_of(entry, struct xattr_entry, entry)->ino;
	case ENTRY_RANGE:
		return entry->tree.key.major;
	default:
		return 0;
	}
}

void overlay_install(struct overlay *overlay, struct entry *entry)
{
	uint64_t ino = inode_of_entry(entry);
	struct stripe *stripe = ino != 0 ? overlay_stripe(overlay, ino) : &overlay->objects;

	LOCK_SCOPE(&stripe->lock);
	switch ((enum entry_kind)entry->kind) {
	case ENTRY_NAME:
		install_name(overlay, stripe, container_of(entry, struct name_entry, entry));
		break;
	case ENTRY_RANGE:
		install_range(overlay, stripe, container_of(entry, struct range_entry, entry));
		break;
	case ENTRY_INODE:
	case ENTRY_SYMLINK:
	case ENTRY_XATTR:
		install_by_inode(overlay, stripe, entry, ino);
		break;
	case ENTRY_CHUNK:
		install_chunk(overlay, stripe, container_of(entry, struct chunk_entry, entry));
		break;
	case ENTRY_SETTING:
		install_setting(overlay, stripe, container_of(entry, struct setting_entry, entry));
		break;
	default:
		install_object(overlay, stripe, entry);
		break;
	}
}

/* ---- dropping ---- */

/* The engine has the entry now. */
static void settle(struct overlay *overlay, struct stripe *stripe, struct entry *entry)
{
	if (entry->kind != ENTRY_NAME || overlay->clean_max == 0) {
		remove_entry(overlay, stripe, entry);
		return;
	}
	list_remove(&entry->link);
	atomic_fetch_sub_explicit(&overlay->bytes, entry->bytes, memory_order_relaxed);
	overlay_add_clean_locked(overlay, stripe, entry);
}

static void drop_stripe(struct overlay *overlay, struct stripe *stripe, uint64_t seq)
{
	bool has_dropped = false;

	LOCK_SCOPE(&stripe->lock);
	if (stripe->holds > 0)
		return; /* with the next drop */
	while (!list_is_empty(&stripe->pending)) {
		struct entry *entry = container_of(stripe->pending.next, struct entry, link);

		if (entry->seq > seq)
			break;
		settle(overlay, stripe, entry);
		has_dropped = true;
	}
	stripe->drops += has_dropped;
}

uint64_t overlay_drop_rounds(struct overlay *overlay)
{
	return atomic_load(&overlay->drop_rounds);
}

void overlay_drop(struct overlay *overlay, uint64_t seq, const struct index_highest *stored)
{
	atomic_fetch_add(&overlay->drop_rounds, 1);
	atomic_store(&overlay->stored_ino, stored->ino);
	atomic_store(&overlay->stored_chunk, stored->chunk_no);
	atomic_store(&overlay->stored_shard, stored->shard_no);
	for (size_t i = 0; i < STRIPE_COUNT; i++)
		drop_stripe(overlay, &overlay->stripes[i], seq);
	drop_stripe(overlay, &overlay->objects, seq);
	overlay_trim(overlay);
}

uint64_t overlay_bytes(struct overlay *overlay)
{
	return atomic_load_explicit(&overlay->bytes, memory_order_relaxed);
}

/* ---- life ---- */

static int map_prepare(struct map *map)
{
	struct map_node node;
	int r = map_insert(map, &node, 0);

	if (r == 0)
		map_remove(map, &node);
	return r;
}

static int stripe_init(struct stripe *stripe)
{
	int r;

	lock_init(&stripe->lock, LOCK_OVERLAY);
	list_init(&stripe->pending);
	list_init(&stripe->lru);
	r = map_prepare(&stripe->names);
	if (r == 0)
		r = map_prepare(&stripe->by_inode);
	if (r == 0)
		r = map_prepare(&stripe->chunk_ids);
	return r < 0 ? r : map_prepare(&stripe->settings);
}

static void stripe_release(struct stripe *stripe)
{
	overlay_free_list(&stripe->pending);
	overlay_free_list(&stripe->lru);
	map_release(&stripe->names);
	map_release(&stripe->by_inode);
	map_release(&stripe->chunk_ids);
	map_release(&stripe->settings);
	lock_release(&stripe->lock);
}

int overlay_new(uint64_t cache_dirents_max, struct overlay **out)
{
	struct overlay *overlay = mem_alloc(sizeof(*overlay));
	int r;

	if (overlay == NULL)
		return -ENOMEM;
	overlay->clean_max = cache_dirents_max;
	list_init(&overlay->spare_cookies);
	list_init(&overlay->spare_ranges);
	r = stripe_init(&overlay->objects);
	for (size_t i = 0; i < STRIPE_COUNT; i++) {
		int stripe_r = stripe_init(&overlay->stripes[i]);

		r = r < 0 ? r : stripe_r;
	}
	if (r < 0) {
		overlay_free(overlay);
		return r;
	}
	*out = overlay;
	return 0;
}

void overlay_free(struct overlay *overlay)
{
	if (overlay == NULL)
		return;
	for (size_t i = 0; i < STRIPE_COUNT; i++)
		stripe_release(&overlay->stripes[i]);
	stripe_release(&overlay->objects);
	overlay_free_list(&overlay->spare_cookies);
	overlay_free_list(&overlay->spare_ranges);
	mem_free(overlay);
}
