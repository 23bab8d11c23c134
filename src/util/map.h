/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_MAP_H
#define SHARDFS_UTIL_MAP_H

/*
 * Intrusive hash map, chained, grows by doubling.  Not thread-safe.  The
 * caller compares keys: walk map_first(hash), map_next(node) and test each.
 */

#include <stddef.h>
#include <stdint.h>

struct map_node {
	struct map_node *next;
	uint64_t hash;
};

struct map {
	struct map_node **slots;
	size_t slot_count; /* power of two, 0 before the first insert */
	size_t count;
};

#define MAP_INIT {0}

void map_release(struct map *map); /* frees the slots; nodes are the caller's */
/* 0, or -ENOMEM while there is no table at all; a failed growth only makes chains longer. */
int map_insert(struct map *map, struct map_node *node, uint64_t hash);
void map_remove(struct map *map, struct map_node *node);               /* node must be in map */
struct map_node *map_first(const struct map *map, uint64_t hash);      /* NULL */
struct map_node *map_next(const struct map_node *node);                 /* same hash; NULL */
/* Any order; pass NULL first.  The returned node may be removed before the next call only
 * if the next one was fetched already. */
struct map_node *map_iterate(const struct map *map, const struct map_node *after);

uint64_t map_hash_u64(uint64_t v);                             /* splitmix64 finaliser */
uint64_t map_hash_bytes(uint64_t seed, const void *ptr, size_t len); /* wyhash-like; per-process random seed inside */

#endif
