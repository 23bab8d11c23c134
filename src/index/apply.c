/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applying records.  Names, xattrs, targets, extents and the small tables go
 * to the engine at once.  Inodes, chunks, shards and directory counters, which
 * a batch changes again and again, are kept as rows in memory and written once
 * at its end, in ascending order:
 *
 *	row.exists   after the changes so far      stored   in the engine
 *	exists && dirty          -> put
 *	!exists && stored        -> deleted when it was decided (inode, shard) or at the end (chunk)
 *
 * Kept by apply, exactly:
 *	chunk.refs    extents and history extents that name it
 *	shard.live_bytes, total_bytes   from refs crossing 0 and chunks coming, going and moving
 *	meta          sums and highest numbers
 *	counters      of directories.  A change adds to its own directory only; what is pending
 *	              there goes up the tree at the end of a batch, and before a directory moves,
 *	              since its whole sum then changes places
 *	history       a replaced row that the newest snapshot still sees
 *
 * A snapshot made by a record sees the state after the whole of it: what the record replaces is
 * not kept for it, but for the one before.  So it counts as the newest from the next record on.
 *
 * Memory is bounded: over ROWS_MAX rows they are written within the transaction.
 */
#include "index/apply.h"

#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/map.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#define ROWS_MAX        65536
#define SLOTS_KEPT_MAX  8192
#define OLD_PAGE        1024u
#define TREE_DEPTH_MAX  65536   /* a walk up that is longer goes round in a circle */
#define EXTENTS_UNKNOWN UINT64_MAX

struct inode_node {
	struct map_node node;
	struct inode_row row;
	bool exists, is_stored, is_dirty;
	uint64_t extents_end; /* no extent reaches beyond; EXTENTS_UNKNOWN */
};

struct chunk_node {
	struct map_node node;
	struct chunk_row row;    /* refs count even while the chunk does not exist */
	struct chunk_row stored; /* as the engine has it */
	bool exists, is_stored, is_dirty;
};

struct shard_node {
	struct map_node node;
	struct shard_row row; /* bytes count even while the shard does not exist */
	bool exists, is_stored, is_dirty;
};

struct counter_node {
	struct map_node node;
	struct counter_node *next; /* all of them: the map grows while they are walked */
	struct engine_counter counter;
	struct engine_counter pending; /* not yet in counter nor above */
	bool is_dirty;
};

struct apply {
	struct engine_conn *conn;
	struct engine_meta meta, committed_meta;
	uint64_t newest_snapshot;	/* seq; 0: none */
	struct snapshot_list snapshots; /* all in the engine, as last learnt */
	bool must_learn;		/* what was learnt was rolled back */
	uint64_t seq; /* of the record in hand */
	uint64_t restore_seq; /* not 0: apply_restore is at work */
	uint64_t birth, death; /* restore: of the rows that come; see CHANGE_ROW_VERSION */
	struct snapshot_row made; /* by the record in hand; snapshot_no 0: none */
	struct index_highest stored_highest; /* no row beyond these is in the engine */
	struct map inodes, chunks, shards, counters;
	struct counter_node *counter_list;
};

/* Of rows that are written now. */
static uint64_t birth_now(const struct apply *apply)
{
	return apply->birth != 0 ? apply->birth : apply->seq;
}

static struct engine_version version_now(const struct apply *apply)
{
	return (struct engine_version){
		.seq = birth_now(apply),
		.newest_snapshot = apply->newest_snapshot,
	};
}

/* Whether a snapshot sees a row that was born so and dies in that version. */
static bool is_seen(struct engine_version version, uint64_t birth)
{
	return version.newest_snapshot > 0 && birth <= version.newest_snapshot &&
	       version.newest_snapshot < version.seq;
}

/* The newest snapshot that can be read, of a record before `before`; 0: none. */
static uint64_t newest_before(const struct apply *apply, uint64_t before)
{
	uint64_t newest = 0;

	for (size_t i = 0; i < apply->snapshots.count; i++) {
		const struct snapshot_row *row = &apply->snapshots.rows[i];

		if (row->name[0] != '\0' && row->seq < before)
			newest = MAX(newest, row->seq);
	}
	return newest;
}

/* ---- rows in memory ---- */

static int get_inode_node(struct apply *apply, uint64_t ino, struct inode_node **out)
{
	uint64_t hash = map_hash_u64(ino);
	struct inode_node *node;
	int r = -ENOENT;

	for (struct map_node *at = map_first(&apply->inodes, hash); at; at = map_next(at)) {
		node = container_of(at, struct inode_node, node);
		if (node->row.ino == ino) {
			*out = node;
			return 0;
		}
	}
	node = mem_alloc(sizeof(*node));
	if (node == NULL)
		return -ENOMEM;
	if (ino <= apply->stored_highest.ino)
		r = apply->conn->ops->get_inode(apply->conn, ino, &node->row);
	node->row.ino = ino;
	node->exists = node->is_stored = r == 0;
	node->extents_end = ino <= apply->stored_highest.ino ? EXTENTS_UNKNOWN : 0;
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = map_insert(&apply->inodes, &node->node, hash);
	if (r < 0) {
		mem_free(node);
		return r;
	}
	*out = node;
	return 0;
}

static int get_chunk_node(struct apply *apply, uint64_t chunk_no, struct chunk_node **out)
{
	uint64_t hash = map_hash_u64(chunk_no);
	struct chunk_node *node;
	int r = -ENOENT;

	for (struct map_node *at = map_first(&apply->chunks, hash); at; at = map_next(at)) {
		node = container_of(at, struct chunk_node, node);
		if (node->row.chunk_no == chunk_no) {
			*out = node;
			return 0;
		}
	}
	node = mem_alloc(sizeof(*node));
	if (node == NULL)
		return -ENOMEM;
	if (chunk_no <= apply->stored_highest.chunk_no)
		r = apply->conn->ops->get_chunk(apply->conn, chunk_no, &node->row);
	node->exists = node->is_stored = r == 0;
	node->row.chunk_no = chunk_no;
	node->stored = node->row;
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = map_insert(&apply->chunks, &node->node, hash);
	if (r < 0) {
		mem_free(node);
		return r;
	}
	*out = node;
	return 0;
}

static int get_shard_node(struct apply *apply, uint64_t shard_no, struct shard_node **out)
{
	uint64_t hash = map_hash_u64(shard_no);
	struct shard_node *node;
	int r = -ENOENT;

	for (struct map_node *at = map_first(&apply->shards, hash); at; at = map_next(at)) {
		node = container_of(at, struct shard_node, node);
		if (node->row.shard_no == shard_no) {
			*out = node;
			return 0;
		}
	}
	node = mem_alloc(sizeof(*node));
	if (node == NULL)
		return -ENOMEM;
	if (shard_no <= apply->stored_highest.shard_no)
		r = apply->conn->ops->get_shard(apply->conn, shard_no, &node->row);
	node->exists = node->is_stored = r == 0;
	node->row.shard_no = shard_no;
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = map_insert(&apply->shards, &node->node, hash);
	if (r < 0) {
		mem_free(node);
		return r;
	}
	*out = node;
	return 0;
}

static int get_counter_node(struct apply *apply, uint64_t ino, struct counter_node **out)
{
	uint64_t hash = map_hash_u64(ino);
	struct counter_node *node;
	int r = -ENOENT;

	for (struct map_node *at = map_first(&apply->counters, hash); at; at = map_next(at)) {
		node = container_of(at, struct counter_node, node);
		if (node->counter.ino == ino) {
			*out = node;
			return 0;
		}
	}
	node = mem_alloc(sizeof(*node));
	if (node == NULL)
		return -ENOMEM;
	if (ino <= apply->stored_highest.ino)
		r = apply->conn->ops->get_counter(apply->conn, ino, &node->counter);
	node->counter.ino = ino;
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = map_insert(&apply->counters, &node->node, hash);
	if (r < 0) {
		mem_free(node);
		return r;
	}
	node->next = apply->counter_list;
	apply->counter_list = node;
	*out = node;
	return 0;
}

/*
 * Frees every node of a map; the node is the first member of each kind.  A table that was
 * made for a big batch goes too, so that small ones do not walk it.
 */
static void clear_map(struct map *map)
{
	struct map_node *at = map_iterate(map, NULL);

	while (at != NULL) {
		struct map_node *next = map_iterate(map, at);

		map_remove(map, at);
		mem_free(at);
		at = next;
	}
	if (map->slot_count > SLOTS_KEPT_MAX)
		map_release(map);
}

static void clear_rows(struct apply *apply)
{
	clear_map(&apply->inodes);
	clear_map(&apply->chunks);
	clear_map(&apply->shards);
	clear_map(&apply->counters);
	apply->counter_list = NULL;
}

/* All nodes of a map in the order of compare; *out is the caller's, NULL when there is none. */
static int sorted_nodes(const struct map *map, int (*compare)(const void *a, const void *b),
			struct map_node ***out, size_t *count)
{
	struct map_node **nodes = NULL;
	size_t filled = 0;

	if (map->count > 0) {
		nodes = mem_alloc_array(map->count, sizeof(*nodes));
		if (nodes == NULL)
			return -ENOMEM;
	}
	for (struct map_node *at = map_iterate(map, NULL); at; at = map_iterate(map, at))
		nodes[filled++] = at;
	if (filled > 1)
		qsort(nodes, filled, sizeof(*nodes), compare);
	*out = nodes;
	*count = filled;
	return 0;
}

#define DEFINE_COMPARE(name, type, key)                                                            \
	static int name(const void *a, const void *b)                                              \
	{                                                                                          \
		const struct type *x =                                                             \
			container_of(*(struct map_node *const *)a, const struct type, node);       \
		const struct type *y =                                                             \
			container_of(*(struct map_node *const *)b, const struct type, node);       \
                                                                                                   \
		return x->key < y->key ? -1 : x->key > y->key;                                     \
	}
DEFINE_COMPARE(compare_inodes, inode_node, row.ino)
DEFINE_COMPARE(compare_chunks, chunk_node, row.chunk_no)
DEFINE_COMPARE(compare_shards, shard_node, row.shard_no)

static int compare_chunk_names(const void *a, const void *b)
{
	const struct chunk_node *x =
		container_of(*(struct map_node *const *)a, const struct chunk_node, node);
	const struct chunk_node *y =
		container_of(*(struct map_node *const *)b, const struct chunk_node, node);

	return memcmp(x->row.id.b, y->row.id.b, sizeof(x->row.id.b));
}

/* ---- writing them ---- */

static int flush_inodes(struct apply *apply)
{
	struct map_node **nodes = NULL;
	size_t count = 0;
	int r = sorted_nodes(&apply->inodes, compare_inodes, &nodes, &count);

	for (size_t i = 0; i < count && r == 0; i++) {
		struct inode_node *node = container_of(nodes[i], struct inode_node, node);

		if (node->exists && node->is_dirty)
			r = apply->conn->ops->put_inode(apply->conn, &node->row);
		node->is_stored = node->exists;
		node->is_dirty = false;
	}
	mem_free(nodes);
	return r;
}

static bool is_moved(const struct chunk_row *a, const struct chunk_row *b)
{
	return a->shard_no != b->shard_no || a->record_no != b->record_no || a->off != b->off ||
	       a->stored_len != b->stored_len || a->raw_len != b->raw_len ||
	       memcmp(a->id.b, b->id.b, sizeof(a->id.b)) != 0;
}

static int flush_chunk(struct apply *apply, struct chunk_node *node)
{
	const struct engine_ops *ops = apply->conn->ops;
	uint64_t chunk_no = node->row.chunk_no;

	if (!node->exists && node->row.refs > 0)
		log_error("index-chunk-missing", "chunk=%" PRIu64 " refs=%" PRIu64, chunk_no,
			  node->row.refs);
	if (!node->exists)
		return node->is_stored ? ops->del_chunk(apply->conn, chunk_no) : 0;
	if (node->is_stored && !is_moved(&node->stored, &node->row))
		return ops->put_chunk_refs(apply->conn, chunk_no, node->row.refs);
	return ops->put_chunk(apply->conn, &node->row, !node->is_stored);
}

static int flush_chunk_name(struct apply *apply, struct chunk_node *node)
{
	const struct engine_ops *ops = apply->conn->ops;
	uint64_t chunk_no = node->row.chunk_no;
	bool is_same = node->is_stored && node->exists &&
		       memcmp(&node->stored.id, &node->row.id, sizeof(node->row.id)) == 0;
	int r = 0;

	if (is_same)
		return 0;
	if (node->is_stored)
		r = ops->del_chunk_name(apply->conn, &node->stored.id, chunk_no);
	if (r == 0 && node->exists)
		r = ops->put_chunk_name(apply->conn, &node->row.id, chunk_no);
	return r;
}

static int flush_chunks(struct apply *apply)
{
	struct map_node **nodes = NULL;
	size_t count = 0;
	int r = sorted_nodes(&apply->chunks, compare_chunks, &nodes, &count);

	for (size_t i = 0; i < count && r == 0; i++) {
		struct chunk_node *node = container_of(nodes[i], struct chunk_node, node);

		if (node->is_dirty)
			r = flush_chunk(apply, node);
	}
	if (r == 0 && count > 1)
		qsort(nodes, count, sizeof(*nodes), compare_chunk_names);
	for (size_t i = 0; i < count && r == 0; i++) {
		struct chunk_node *node = container_of(nodes[i], struct chunk_node, node);

		if (node->is_dirty)
			r = flush_chunk_name(apply, node);
		node->is_stored = node->exists;
		node->stored = node->row;
		node->is_dirty = false;
	}
	mem_free(nodes);
	return r;
}

static int flush_shards(struct apply *apply)
{
	struct map_node **nodes = NULL;
	size_t count = 0;
	int r = sorted_nodes(&apply->shards, compare_shards, &nodes, &count);

	for (size_t i = 0; i < count && r == 0; i++) {
		struct shard_node *node = container_of(nodes[i], struct shard_node, node);

		if (node->exists && node->is_dirty)
			r = apply->conn->ops->put_shard(apply->conn, &node->row);
		node->is_stored = node->exists;
		node->is_dirty = false;
	}
	mem_free(nodes);
	return r;
}

/* ---- directory counters ---- */

static void counter_add_to(struct engine_counter *to, const struct engine_counter *delta, int sign)
{
	to->files += sign * delta->files;
	to->directories += sign * delta->directories;
	to->bytes += sign * delta->bytes;
}

static bool counter_is_zero(const struct engine_counter *counter)
{
	return counter->files == 0 && counter->directories == 0 && counter->bytes == 0;
}

/* Adds delta to directory ino and all above it. */
static int counter_walk_up(struct apply *apply, uint64_t ino, const struct engine_counter *delta)
{
	struct counter_node *counter;
	struct inode_node *inode;
	int r;

	for (unsigned depth = 0; depth < TREE_DEPTH_MAX; depth++) {
		r = get_inode_node(apply, ino, &inode);
		if (r < 0)
			return r;
		if (!inode->exists || !S_ISDIR(inode->row.mode))
			return 0;
		r = get_counter_node(apply, ino, &counter);
		if (r < 0)
			return r;
		counter_add_to(&counter->counter, delta, 1);
		counter->is_dirty = true;
		if (ino == INO_ROOT || (inode->row.flags & INODE_ORPHAN))
			return 0;
		ino = inode->row.parent;
	}
	log_error("index-directory-loop", "ino=%" PRIu64, ino);
	return 0;
}

static int settle_counters(struct apply *apply)
{
	for (struct counter_node *at = apply->counter_list; at != NULL; at = at->next) {
		struct engine_counter pending = at->pending;
		int r;

		if (counter_is_zero(&pending))
			continue;
		at->pending = (struct engine_counter){0};
		r = counter_walk_up(apply, at->counter.ino, &pending);
		if (r < 0)
			return r;
	}
	return 0;
}

static int flush_counters(struct apply *apply)
{
	int r = settle_counters(apply);

	for (struct counter_node *at = apply->counter_list; at != NULL && r == 0; at = at->next) {
		if (!at->is_dirty)
			continue;
		at->counter.as_of = apply->seq;
		r = apply->conn->ops->put_counter(apply->conn, &at->counter);
		at->is_dirty = false;
	}
	return r;
}

static bool counts(const struct inode_row *row)
{
	return row->ino != INO_ROOT && !(row->flags & INODE_ORPHAN);
}

static struct engine_counter own_count(const struct inode_row *row)
{
	return (struct engine_counter){
		.files = !S_ISDIR(row->mode),
		.directories = S_ISDIR(row->mode),
		.bytes = S_ISREG(row->mode) ? (int64_t)row->size : 0,
	};
}

static int count_pending(struct apply *apply, uint64_t dir, const struct engine_counter *delta,
			 int sign)
{
	struct counter_node *node;
	int r;

	if (counter_is_zero(delta))
		return 0;
	r = get_counter_node(apply, dir, &node);
	if (r == 0)
		counter_add_to(&node->pending, delta, sign);
	return r;
}

/* An inode changes from old to new; NULL: it does not exist. */
static int count_inode(struct apply *apply, const struct inode_row *old,
		       const struct inode_row *new)
{
	bool old_counts = old != NULL && counts(old), new_counts = new != NULL && counts(new);
	struct engine_counter old_sum = {0}, new_sum = {0};
	int r = 0;

	if (old_counts)
		old_sum = own_count(old);
	if (new_counts)
		new_sum = own_count(new);
	if (old_counts && new_counts && old->parent == new->parent) {
		counter_add_to(&new_sum, &old_sum, -1);
		return count_pending(apply, new->parent, &new_sum, 1);
	}
	if (old != NULL && S_ISDIR(old->mode)) {
		struct counter_node *below;

		r = settle_counters(apply);
		if (r == 0)
			r = get_counter_node(apply, old->ino, &below);
		if (r < 0)
			return r;
		if (old_counts)
			counter_add_to(&old_sum, &below->counter, 1);
		if (new_counts)
			counter_add_to(&new_sum, &below->counter, 1);
		if (new == NULL) {
			below->counter = (struct engine_counter){.ino = old->ino};
			below->is_dirty = false;
		}
	}
	if (old_counts)
		r = count_pending(apply, old->parent, &old_sum, -1);
	if (r == 0 && new_counts)
		r = count_pending(apply, new->parent, &new_sum, 1);
	return r;
}

/* ---- inodes ---- */

static void sum_inode(struct engine_meta *meta, const struct inode_row *row, int sign)
{
	meta->inodes += (uint64_t)sign;
	if (S_ISDIR(row->mode))
		meta->directories += (uint64_t)sign;
	if (S_ISREG(row->mode))
		meta->bytes += (uint64_t)sign * row->size;
}

/*
 * For what belongs to an inode and dies now.  What lost its last name before a snapshot was made is
 * not in that one: for the snapshots everything of it died then, and what reclaiming takes from it
 * is not kept for later ones.
 */
static struct engine_version version_of(const struct apply *apply, const struct inode_node *node)
{
	struct engine_version version = version_now(apply);

	if (node->exists && (node->row.flags & INODE_ORPHAN) &&
	    node->row.birth <= apply->newest_snapshot) {
		version.newest_snapshot = newest_before(apply, node->row.birth);
		version.seq = node->row.birth;
	}
	return version;
}

static int keep_inode(struct apply *apply, const struct inode_node *node)
{
	if (!node->exists || !is_seen(version_of(apply, node), node->row.birth))
		return 0;
	return apply->conn->ops->put_old_inode(apply->conn, &node->row, apply->seq);
}

static int put_old_inode(struct apply *apply, const struct inode_row *row)
{
	struct inode_row old = *row;

	old.birth = birth_now(apply);
	return apply->conn->ops->put_old_inode(apply->conn, &old, apply->death);
}

static int apply_inode_put(struct apply *apply, const struct change *change)
{
	const struct inode_row *row = &change->u.inode;
	struct inode_node *node;
	int r;

	if (apply->death != 0)
		return put_old_inode(apply, row);
	r = get_inode_node(apply, row->ino, &node);
	if (r == 0)
		r = keep_inode(apply, node);
	if (r == 0)
		r = count_inode(apply, node->exists ? &node->row : NULL, row);
	if (r < 0)
		return r;
	if (node->exists)
		sum_inode(&apply->meta, &node->row, -1);
	sum_inode(&apply->meta, row, 1);
	node->row = *row;
	node->row.birth = birth_now(apply);
	node->exists = node->is_dirty = true;
	apply->meta.highest.ino = MAX(apply->meta.highest.ino, row->ino);
	return 0;
}

static int drop_extents(struct apply *apply, uint64_t ino, uint64_t off, uint64_t end);

static int apply_inode_del(struct apply *apply, const struct change *change)
{
	struct engine_version version = {0};
	struct inode_node *node;
	int r = drop_extents(apply, change->u.ino, 0, INT64_MAX);

	if (r == 0)
		r = get_inode_node(apply, change->u.ino, &node);
	if (r == 0)
		r = keep_inode(apply, node);
	if (r == 0 && node->exists)
		r = count_inode(apply, &node->row, NULL);
	if (r < 0)
		return r;
	version = version_of(apply, node);
	if (node->exists)
		sum_inode(&apply->meta, &node->row, -1);
	r = apply->conn->ops->del_inode(apply->conn, change->u.ino,
					node->exists ? node->row.mode : 0, version);
	node->exists = node->is_stored = node->is_dirty = false;
	return r;
}

/* ---- chunks ---- */

/* Adds to a shard's sums: the stored bytes of a chunk, which may be alive. */
static int sum_shard(struct apply *apply, const struct chunk_row *chunk, int total_sign,
		     int live_sign)
{
	struct shard_node *shard;
	int r = get_shard_node(apply, chunk->shard_no, &shard);

	if (r < 0)
		return r;
	shard->row.total_bytes += (uint64_t)(int64_t)total_sign * chunk->stored_len;
	shard->row.live_bytes += (uint64_t)(int64_t)live_sign * chunk->stored_len;
	shard->is_dirty = true;
	return 0;
}

static int ref_chunk(struct apply *apply, uint64_t chunk_no, int delta)
{
	struct chunk_node *chunk;
	uint64_t refs;
	int r;

	if (chunk_no == 0 || delta == 0)
		return 0;
	if (apply->chunks.count >= ROWS_MAX) {
		r = flush_chunks(apply);
		if (r < 0)
			return r;
		clear_map(&apply->chunks);
		apply->stored_highest.chunk_no = apply->meta.highest.chunk_no;
	}
	r = get_chunk_node(apply, chunk_no, &chunk);
	if (r < 0)
		return r;
	refs = chunk->row.refs;
	if (delta < 0 && refs < (uint64_t)-delta) {
		log_error("index-refs-wrong", "chunk=%" PRIu64 " refs=%" PRIu64, chunk_no, refs);
		return 0;
	}
	chunk->row.refs += (uint64_t)(int64_t)delta;
	chunk->is_dirty = true;
	if (!chunk->exists || (refs == 0) == (chunk->row.refs == 0))
		return 0;
	return sum_shard(apply, &chunk->row, 0, refs == 0 ? 1 : -1);
}

/* The chunk comes to (1) or leaves (-1) its shard. */
static int sum_chunk(struct apply *apply, const struct chunk_row *chunk, int sign)
{
	apply->meta.chunks += (uint64_t)sign;
	apply->meta.chunk_stored_bytes += (uint64_t)(int64_t)sign * chunk->stored_len;
	return sum_shard(apply, chunk, sign, chunk->refs > 0 ? sign : 0);
}

static int apply_chunk_put(struct apply *apply, const struct change *change)
{
	struct chunk_node *node;
	uint64_t refs;
	int r = get_chunk_node(apply, change->u.chunk.chunk_no, &node);

	if (r == 0 && node->exists)
		r = sum_chunk(apply, &node->row, -1);
	if (r < 0)
		return r;
	refs = node->row.refs;
	node->row = change->u.chunk;
	node->row.refs = refs;
	node->exists = node->is_dirty = true;
	apply->meta.highest.chunk_no = MAX(apply->meta.highest.chunk_no, node->row.chunk_no);
	return sum_chunk(apply, &node->row, 1);
}

static int apply_chunk_del(struct apply *apply, const struct change *change)
{
	struct chunk_node *node;
	int r = get_chunk_node(apply, change->u.chunk.chunk_no, &node);

	if (r < 0 || !node->exists || node->row.refs > 0)
		return r;
	r = sum_chunk(apply, &node->row, -1);
	node->exists = false;
	node->is_dirty = true;
	return r;
}

/* ---- extents ---- */

struct drop {
	struct apply *apply;
	struct engine_version version; /* in which it dies */
	uint64_t off, end; /* what is dropped */
	uint64_t first;    /* where the first row begins; only with count > 0 */
	uint64_t count;
	struct extent_row left, right; /* what stays of the outermost rows; len 0: nothing */
	uint64_t left_birth, right_birth;
};

/* The part [off, end) of an extent. */
static struct extent_row cut_extent(const struct extent_row *extent, uint64_t off, uint64_t end)
{
	struct extent_row part = *extent;

	part.off = off;
	part.len = (uint32_t)(end - off);
	if (extent->chunk_no != 0)
		part.chunk_off = (uint32_t)(extent->chunk_off + (off - extent->off));
	return part;
}

static int drop_extent(void *ctx, const struct extent_row *extent, uint64_t birth)
{
	struct drop *drop = ctx;
	struct apply *apply = drop->apply;
	uint64_t end = extent->off + extent->len;
	bool is_kept = is_seen(drop->version, birth);
	int refs = is_kept && !HOOK_BROKEN("snapshot-unreferenced") ? 0 : -1;
	int r = 0;

	if (drop->count++ == 0)
		drop->first = extent->off;
	if (extent->off < drop->off) {
		drop->left = cut_extent(extent, extent->off, drop->off);
		drop->left_birth = birth;
		refs++;
	}
	if (end > drop->end) {
		drop->right = cut_extent(extent, drop->end, end);
		drop->right_birth = birth;
		refs++;
	}
	if (is_kept) {
		struct extent_row part = cut_extent(extent, MAX(extent->off, drop->off),
						    MIN(end, drop->end));

		r = apply->conn->ops->put_old_extent(apply->conn, &part, birth,
						      drop->version.seq);
	}
	return r < 0 ? r : ref_chunk(apply, extent->chunk_no, refs);
}

static int learn_extents_end(struct apply *apply, struct inode_node *inode)
{
	if (inode->extents_end != EXTENTS_UNKNOWN)
		return 0;
	return apply->conn->ops->last_extent_end(apply->conn, inode->row.ino,
						 &inode->extents_end);
}

/*
 * Makes [off, end) a hole.  One pass over the rows in range, which only counts; then one
 * deletion of them all; then the two outer remains.  Linear in the rows.
 */
static int drop_extents(struct apply *apply, uint64_t ino, uint64_t off, uint64_t end)
{
	const struct engine_ops *ops = apply->conn->ops;
	struct drop drop = {.apply = apply, .off = off, .end = end};
	struct inode_node *inode;
	int r = get_inode_node(apply, ino, &inode);

	if (r == 0)
		r = learn_extents_end(apply, inode);
	if (r < 0 || off >= inode->extents_end)
		return r;
	drop.version = version_of(apply, inode);
	r = ops->visit_extents(apply->conn, ino, off, end, drop_extent, &drop);
	if (r == 0 && drop.count > 0)
		r = ops->del_extents(apply->conn, ino, drop.first, end);
	if (r == 0 && drop.left.len > 0)
		r = ops->put_extent(apply->conn, &drop.left, drop.left_birth);
	if (r == 0 && drop.right.len > 0)
		r = ops->put_extent(apply->conn, &drop.right, drop.right_birth);
	if (end >= inode->extents_end)
		inode->extents_end = off;
	return r;
}

static int apply_extent_put(struct apply *apply, const struct change *change)
{
	const struct extent_row *extent = &change->u.extent;
	uint64_t end = extent->off + extent->len;
	struct inode_node *inode;
	int r;

	if (apply->death != 0) {
		r = apply->conn->ops->put_old_extent(apply->conn, extent, birth_now(apply),
						     apply->death);
		return r < 0 ? r : ref_chunk(apply, extent->chunk_no, 1);
	}
	r = drop_extents(apply, extent->ino, extent->off, end);
	if (r == 0)
		r = get_inode_node(apply, extent->ino, &inode);
	if (r == 0)
		r = apply->conn->ops->put_extent(apply->conn, extent, birth_now(apply));
	if (r < 0)
		return r;
	inode->extents_end = MAX(inode->extents_end, end);
	apply->meta.highest.ino = MAX(apply->meta.highest.ino, extent->ino);
	return ref_chunk(apply, extent->chunk_no, 1);
}

static int apply_extent_del(struct apply *apply, const struct change *change)
{
	uint64_t off = change->u.range.off;
	uint64_t end = off + MIN(change->u.range.len, INT64_MAX - off);

	return drop_extents(apply, change->u.range.ino, off, end);
}

/* ---- shards and copies ---- */

static int apply_shard_put(struct apply *apply, const struct change *change)
{
	struct shard_node *node;
	uint64_t live_bytes, total_bytes;
	int r = get_shard_node(apply, change->u.shard.shard_no, &node);

	if (r < 0)
		return r;
	if (!node->exists)
		apply->meta.shards++;
	live_bytes = node->row.live_bytes;
	total_bytes = node->row.total_bytes;
	node->row = change->u.shard;
	node->row.live_bytes = live_bytes;
	node->row.total_bytes = total_bytes;
	node->exists = node->is_dirty = true;
	apply->meta.highest.shard_no = MAX(apply->meta.highest.shard_no, node->row.shard_no);
	return 0;
}

static int apply_shard_del(struct apply *apply, const struct change *change)
{
	struct shard_node *node;
	int r = get_shard_node(apply, change->u.shard.shard_no, &node);

	if (r < 0)
		return r;
	if (node->exists)
		apply->meta.shards--;
	node->exists = node->is_stored = node->is_dirty = false;
	return apply->conn->ops->del_shard(apply->conn, change->u.shard.shard_no);
}

static int apply_copy_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_copy(apply->conn, &change->u.copy);
}

static int apply_copy_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_copy(apply->conn, change->u.copy.shard_no,
					  change->u.copy.provider_no);
}

/* ---- names, attributes, small tables ---- */

static int apply_dirent_put(struct apply *apply, const struct change *change)
{
	apply->meta.highest.cookie = MAX(apply->meta.highest.cookie, change->u.dirent.cookie);
	if (apply->death != 0)
		return apply->conn->ops->put_old_dirent(apply->conn, change, birth_now(apply),
							apply->death);
	return apply->conn->ops->put_dirent(apply->conn, change, version_now(apply));
}

static int apply_dirent_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_dirent(apply->conn, change, version_now(apply));
}

static int apply_xattr_put(struct apply *apply, const struct change *change)
{
	if (apply->death != 0)
		return apply->conn->ops->put_old_xattr(apply->conn, change, birth_now(apply),
						    apply->death);
	return apply->conn->ops->put_xattr(apply->conn, change, version_now(apply));
}

static int apply_xattr_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_xattr(apply->conn, change, version_now(apply));
}

static int apply_symlink_put(struct apply *apply, const struct change *change)
{
	if (apply->death != 0)
		return apply->conn->ops->put_old_symlink(apply->conn, change, birth_now(apply),
						    apply->death);
	return apply->conn->ops->put_symlink(apply->conn, change, version_now(apply));
}

static int apply_orphan_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_orphan(apply->conn, change->u.ino);
}

static int apply_orphan_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_orphan(apply->conn, change->u.ino);
}

static int apply_provider_put(struct apply *apply, const struct change *change)
{
	apply->meta.highest.provider_no =
		MAX(apply->meta.highest.provider_no, change->u.provider.provider_no);
	return apply->conn->ops->put_provider(apply->conn, &change->u.provider);
}

static int apply_policy_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_policy(apply->conn, &change->u.policy);
}

static int apply_policy_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_policy(apply->conn, change->u.policy.root);
}

static int apply_setting_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_setting(apply->conn, change->u.setting.key,
					     change->u.setting.value);
}

/* The newest one of a record before `before` that can be read. */
static int learn_newest_snapshot(struct apply *apply, uint64_t before)
{
	int r;

	apply->snapshots.count = 0;
	r = apply->conn->ops->list_snapshots(apply->conn, &apply->snapshots);
	if (r == 0)
		apply->newest_snapshot = newest_before(apply, before);
	return r;
}

/* The one that the record made sees all that the record did; from now on it is the newest. */
static int finish_snapshot(struct apply *apply)
{
	struct snapshot_row *made = &apply->made;
	struct counter_node *below;
	int r;

	if (made->snapshot_no == 0)
		return 0;
	r = settle_counters(apply);
	if (r == 0)
		r = get_counter_node(apply, made->root, &below);
	if (r < 0)
		return r;
	made->files = (uint64_t)below->counter.files;
	made->directories = (uint64_t)below->counter.directories;
	made->bytes = (uint64_t)below->counter.bytes;
	r = apply->conn->ops->put_snapshot(apply->conn, made);
	made->snapshot_no = 0;
	return r < 0 ? r : learn_newest_snapshot(apply, apply->seq + 1);
}

static int apply_snapshot_put(struct apply *apply, const struct change *change)
{
	const struct snapshot_row *row = &change->u.snapshot;
	int r;

	apply->meta.highest.snapshot_no = MAX(apply->meta.highest.snapshot_no, row->snapshot_no);
	if (row->seq == 0) {
		r = finish_snapshot(apply);
		apply->made = *row;
		apply->made.seq = apply->seq;
		return r;
	}
	r = apply->conn->ops->put_snapshot(apply->conn, row);
	/* Restoring replaces nothing: there is nothing to keep for anybody. */
	return r < 0 || apply->restore_seq != 0 ? r : learn_newest_snapshot(apply, apply->seq);
}

static int free_old_extent(void *ctx, const struct extent_row *extent, uint64_t birth)
{
	(void)birth;
	return ref_chunk(ctx, extent->chunk_no, -1);
}

static int apply_history_drop(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->drop_history(apply->conn, &change->u.old, free_old_extent, apply);
}

/* What only the snapshot of `seq` saw, which is gone. */
static int drop_unseen(struct apply *apply, uint64_t seq)
{
	const struct engine_ops *ops = apply->conn->ops;
	AUTO(old_list) old = ROW_LIST_INIT;
	int r;

	do {
		old.count = 0;
		r = ops->list_old(apply->conn, seq, OLD_PAGE, &old);
		for (size_t i = 0; i < old.count && r == 0; i++)
			r = ops->drop_history(apply->conn, &old.rows[i], free_old_extent, apply);
	} while (r == 0 && old.count == OLD_PAGE);
	return r;
}

static int apply_snapshot_del(struct apply *apply, const struct change *change)
{
	uint64_t snapshot_no = change->u.snapshot.snapshot_no, seq = 0;
	AUTO(snapshot_list) snapshots = ROW_LIST_INIT;
	int r = finish_snapshot(apply);

	if (r == 0)
		r = apply->conn->ops->list_snapshots(apply->conn, &snapshots);
	for (size_t i = 0; i < snapshots.count; i++)
		if (snapshots.rows[i].snapshot_no == snapshot_no)
			seq = snapshots.rows[i].seq;
	if (r < 0 || seq == 0)
		return r;
	r = apply->conn->ops->del_snapshot(apply->conn, snapshot_no);
	if (r == 0)
		r = learn_newest_snapshot(apply, apply->seq);
	return r < 0 ? r : drop_unseen(apply, seq);
}

static int apply_row_version(struct apply *apply, const struct change *change)
{
	if (apply->restore_seq == 0 || change->u.version.birth > apply->restore_seq)
		return -EBADMSG;
	apply->birth = change->u.version.birth;
	apply->death = change->u.version.death;
	return 0;
}

static int apply_audit_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_audit(apply->conn, &change->u.audit);
}

static int apply_audit_cut(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->cut_audit(apply->conn, change->u.audit.audit_no);
}

/* ---- batches ---- */

static int (*const handlers[CHANGE_TYPE_COUNT])(struct apply *apply,
						const struct change *change) = {
	[CHANGE_INODE_PUT] = apply_inode_put,
	[CHANGE_INODE_DEL] = apply_inode_del,
	[CHANGE_DIRENT_PUT] = apply_dirent_put,
	[CHANGE_DIRENT_DEL] = apply_dirent_del,
	[CHANGE_XATTR_PUT] = apply_xattr_put,
	[CHANGE_XATTR_DEL] = apply_xattr_del,
	[CHANGE_SYMLINK_PUT] = apply_symlink_put,
	[CHANGE_EXTENT_PUT] = apply_extent_put,
	[CHANGE_EXTENT_DEL] = apply_extent_del,
	[CHANGE_CHUNK_PUT] = apply_chunk_put,
	[CHANGE_CHUNK_DEL] = apply_chunk_del,
	[CHANGE_SHARD_PUT] = apply_shard_put,
	[CHANGE_SHARD_DEL] = apply_shard_del,
	[CHANGE_COPY_PUT] = apply_copy_put,
	[CHANGE_COPY_DEL] = apply_copy_del,
	[CHANGE_ORPHAN_PUT] = apply_orphan_put,
	[CHANGE_ORPHAN_DEL] = apply_orphan_del,
	[CHANGE_PROVIDER_PUT] = apply_provider_put,
	[CHANGE_POLICY_PUT] = apply_policy_put,
	[CHANGE_POLICY_DEL] = apply_policy_del,
	[CHANGE_SETTING_PUT] = apply_setting_put,
	[CHANGE_SNAPSHOT_PUT] = apply_snapshot_put,
	[CHANGE_SNAPSHOT_DEL] = apply_snapshot_del,
	[CHANGE_AUDIT_PUT] = apply_audit_put,
	[CHANGE_HISTORY_DROP] = apply_history_drop,
	[CHANGE_ROW_VERSION] = apply_row_version,
	[CHANGE_AUDIT_CUT] = apply_audit_cut,
};

static int flush_rows(struct apply *apply)
{
	int r = flush_counters(apply);

	if (r == 0)
		r = flush_inodes(apply);
	if (r == 0)
		r = flush_chunks(apply);
	return r < 0 ? r : flush_shards(apply);
}

static int apply_record(struct apply *apply, const struct record *record)
{
	struct record_walk walk = record_walk_of(buf_bytes(&record->changes));
	struct change change;
	int r;

	if (apply->restore_seq == 0) {
		assert(record->seq > apply->seq);
		apply->seq = record->seq;
	}
	apply->birth = apply->death = 0;
	apply->made.snapshot_no = 0;
	while ((r = record_walk_next(&walk, &change)) > 0) {
		r = handlers[change.type](apply, &change);
		if (r < 0)
			return r;
	}
	if (r < 0)
		log_error("index-record-damaged", "seq=%" PRIu64 " error=%s", record->seq,
			  err_name(r));
	if (r == 0)
		r = finish_snapshot(apply);
	if (r == 0 && apply->inodes.count + apply->chunks.count + apply->shards.count +
				      apply->counters.count >
			      ROWS_MAX) {
		r = flush_rows(apply);
		clear_rows(apply);
		apply->stored_highest = apply->meta.highest;
	}
	return r;
}

static int apply_records(struct apply *apply, struct record *const *records, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = apply_record(apply, records[i]);
	if (r == 0)
		r = flush_rows(apply);
	if (r < 0)
		return r;
	apply->meta.applied_seq = apply->seq;
	return apply->conn->ops->put_meta(apply->conn, &apply->meta);
}

int apply_batch(struct apply *apply, struct record *const *records, size_t count)
{
	int r = apply->must_learn ? learn_newest_snapshot(apply, UINT64_MAX) : 0;

	if (r < 0)
		return r;
	apply->must_learn = false;
	r = apply->conn->ops->begin(apply->conn);
	if (r < 0)
		return r;
	r = apply_records(apply, records, count);
	if (r == 0)
		r = apply->conn->ops->commit(apply->conn);
	clear_rows(apply);
	if (r < 0) {
		apply->conn->ops->rollback(apply->conn);
		apply->meta = apply->committed_meta;
		apply->stored_highest = apply->meta.highest;
		apply->seq = apply->meta.applied_seq;
		apply->must_learn = true;
		return r;
	}
	apply->committed_meta = apply->meta;
	apply->stored_highest = apply->meta.highest;
	return 0;
}

int apply_restore(struct apply *apply, uint64_t seq, struct record *const *records, size_t count)
{
	int r;

	assert(seq >= apply->seq);
	apply->seq = apply->restore_seq = seq;
	r = apply_batch(apply, records, count);
	apply->restore_seq = apply->birth = 0;
	return r;
}

int apply_raise_highest(struct apply *apply, const struct index_highest *highest)
{
	struct index_highest *own = &apply->meta.highest;
	int r;

	own->ino = MAX(own->ino, highest->ino);
	own->cookie = MAX(own->cookie, highest->cookie);
	own->chunk_no = MAX(own->chunk_no, highest->chunk_no);
	own->shard_no = MAX(own->shard_no, highest->shard_no);
	own->snapshot_no = MAX(own->snapshot_no, highest->snapshot_no);
	own->provider_no = MAX(own->provider_no, highest->provider_no);
	r = apply_batch(apply, NULL, 0);
	if (r < 0)
		return r;
	return learn_newest_snapshot(apply, UINT64_MAX);
}

const struct engine_meta *apply_meta(const struct apply *apply)
{
	return &apply->committed_meta;
}

int apply_new(struct engine_conn *conn, struct apply **out)
{
	struct apply *apply = mem_alloc(sizeof(*apply));
	int r;

	if (apply == NULL)
		return -ENOMEM;
	apply->conn = conn;
	r = conn->ops->get_meta(conn, &apply->meta);
	if (r == 0)
		r = learn_newest_snapshot(apply, UINT64_MAX);
	if (r < 0) {
		apply_free(apply);
		return r;
	}
	apply->committed_meta = apply->meta;
	apply->stored_highest = apply->meta.highest;
	apply->seq = apply->meta.applied_seq;
	*out = apply;
	return 0;
}

void apply_free(struct apply *apply)
{
	if (apply == NULL)
		return;
	clear_rows(apply);
	snapshot_list_release(&apply->snapshots);
	map_release(&apply->inodes);
	map_release(&apply->chunks);
	map_release(&apply->shards);
	map_release(&apply->counters);
	mem_free(apply);
}
