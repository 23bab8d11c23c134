/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inodes, chunks, shards and directory counters, which a batch changes again and again: the first
 * look fetches a row from the engine, later ones find it in memory, and the end of the batch writes
 * those that changed, in ascending order.
 */
#include "index/apply_impl.h"

#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_KEPT_MAX 8192

int apply_get_inode(struct apply *apply, uint64_t ino, struct inode_node **out)
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
	node->extents_end = ino <= apply->stored_highest.ino ? APPLY_EXTENTS_UNKNOWN : 0;
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

int apply_get_chunk(struct apply *apply, uint64_t chunk_no, struct chunk_node **out)
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

int apply_get_shard(struct apply *apply, uint64_t shard_no, struct shard_node **out)
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

int apply_get_counter(struct apply *apply, uint64_t ino, struct counter_node **out)
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

void apply_clear_chunks(struct apply *apply)
{
	clear_map(&apply->chunks);
}

void apply_clear_rows(struct apply *apply)
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

int apply_flush_inodes(struct apply *apply)
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

int apply_flush_chunks(struct apply *apply)
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

int apply_flush_shards(struct apply *apply)
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
