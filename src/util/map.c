/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains hang off a power of two of slots; the slot is the top of the hash
 * times an odd constant, so that weak hashes spread too.  At one node a slot
 * the table doubles; it never shrinks, so that an iteration which removes as
 * it goes stays in order.
 */
#include "util/map.h"

#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define SLOTS_MIN 16

static size_t slot_of(size_t slot_count, uint64_t hash)
{
	return (size_t)((hash * 0x9e3779b97f4a7c15u) >> 1) >>
	       (63 - __builtin_ctzll((unsigned long long)slot_count));
}

void map_release(struct map *map)
{
	mem_free(map->slots);
	*map = (struct map)MAP_INIT;
}

static int grow(struct map *map)
{
	size_t slot_count = map->slot_count > 0 ? map->slot_count * 2 : SLOTS_MIN;
	struct map_node **slots = mem_alloc_array(slot_count, sizeof(*slots));

	if (slots == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < map->slot_count; i++) {
		struct map_node *node = map->slots[i];

		while (node != NULL) {
			struct map_node *next = node->next;
			struct map_node **slot = &slots[slot_of(slot_count, node->hash)];

			node->next = *slot;
			*slot = node;
			node = next;
		}
	}
	mem_free(map->slots);
	map->slots = slots;
	map->slot_count = slot_count;
	return 0;
}

int map_insert(struct map *map, struct map_node *node, uint64_t hash)
{
	struct map_node **slot;

	if (map->count >= map->slot_count && grow(map) < 0 && map->slot_count == 0)
		return -ENOMEM;
	slot = &map->slots[slot_of(map->slot_count, hash)];
	node->hash = hash;
	node->next = *slot;
	*slot = node;
	map->count++;
	return 0;
}

void map_remove(struct map *map, struct map_node *node)
{
	struct map_node **link = &map->slots[slot_of(map->slot_count, node->hash)];

	while (*link != node) {
		assert(*link != NULL);
		link = &(*link)->next;
	}
	*link = node->next;
	node->next = NULL;
	map->count--;
}

static struct map_node *same_hash(struct map_node *node, uint64_t hash)
{
	while (node != NULL && node->hash != hash)
		node = node->next;
	return node;
}

struct map_node *map_first(const struct map *map, uint64_t hash)
{
	if (map->slot_count == 0)
		return NULL;
	return same_hash(map->slots[slot_of(map->slot_count, hash)], hash);
}

struct map_node *map_next(const struct map_node *node)
{
	return same_hash(node->next, node->hash);
}

struct map_node *map_iterate(const struct map *map, const struct map_node *after)
{
	size_t i = 0;

	if (after != NULL) {
		if (after->next != NULL)
			return after->next;
		i = slot_of(map->slot_count, after->hash) + 1;
	}
	for (; i < map->slot_count; i++)
		if (map->slots[i] != NULL)
			return map->slots[i];
	return NULL;
}

uint64_t map_hash_u64(uint64_t v)
{
	v += 0x9e3779b97f4a7c15u;
	v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
	v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
	return v ^ (v >> 31);
}

/* Names come from strangers: without a secret they could all fall into one slot. */
static uint64_t process_seed;

static void draw_process_seed(void)
{
	struct timespec now;

	if (getrandom(&process_seed, sizeof(process_seed), GRND_NONBLOCK) ==
	    (ssize_t)sizeof(process_seed))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	process_seed = map_hash_u64((uint64_t)now.tv_nsec ^ ((uint64_t)getpid() << 32));
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load(const uint8_t *p, size_t len)
{
	uint64_t v = 0;

	memcpy(&v, p, len);
	return v;
}

uint64_t map_hash_bytes(uint64_t seed, const void *ptr, size_t len)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint64_t k0 = 0xa0761d6478bd642fu, k1 = 0xe7037ed1a0b428dbu;
	const uint8_t *p = ptr;
	size_t left = len;
	uint64_t h;

	pthread_once(&once, draw_process_seed);
	h = mix(seed ^ k0, process_seed ^ k1);
	for (; left > 16; left -= 16, p += 16)
		h = mix(load(p, 8) ^ k1, load(p + 8, 8) ^ h);
	if (left > 8)
		h = mix(load(p, 8) ^ k1, load(p + 8, left - 8) ^ h);
	else if (left > 0)
		h = mix(load(p, left) ^ k1, h ^ k0);
	return mix(h ^ k0, len ^ k1);
}
