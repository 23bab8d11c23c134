/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/rng.h"
#include "util/map.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

struct item {
	uint64_t key;
	bool is_in;
	struct map_node node;
};

#define ITEM_COUNT 4000

static struct item *find(const struct map *map, uint64_t key, uint64_t hash)
{
	for (struct map_node *n = map_first(map, hash); n != NULL; n = map_next(n)) {
		struct item *item = container_of(n, struct item, node);

		cr_assert_eq(n->hash, hash);
		if (item->key == key)
			return item;
	}
	return NULL;
}

/* Against a plain array; hash_mask makes hashes collide. */
static void compare_with_array(uint64_t hash_mask)
{
	struct rng rng = rng_new();
	struct item *items = mem_alloc_array(ITEM_COUNT, sizeof(*items));
	struct map map = MAP_INIT;
	size_t count = 0;

	for (unsigned step = 0; step < 20000; step++) {
		uint64_t key = rng_below(&rng, ITEM_COUNT), hash = map_hash_u64(key) & hash_mask;
		struct item *item = &items[key];

		cr_assert_eq(find(&map, key, hash), item->is_in ? item : NULL);
		if (item->is_in) {
			map_remove(&map, &item->node);
			count--;
		} else {
			item->key = key;
			cr_assert_eq(map_insert(&map, &item->node, hash), 0);
			count++;
		}
		item->is_in = !item->is_in;
		cr_assert_eq(map.count, count);
	}
	for (struct map_node *n = map_iterate(&map, NULL); n != NULL; n = map_iterate(&map, n)) {
		struct item *item = container_of(n, struct item, node);

		cr_assert(item->is_in);
		item->is_in = false;
		count--;
	}
	cr_assert_eq(count, 0);
	map_release(&map);
	mem_free(items);
}

Test(util_map, behaves_like_an_array)
{
	compare_with_array(UINT64_MAX);
}

Test(util_map, behaves_like_an_array_when_hashes_collide)
{
	compare_with_array(0xff);
	compare_with_array(0xffull << 56);
}

Test(util_map, iteration_may_remove_what_it_has_left)
{
	struct item items[1000] = {{0}};
	struct map map = MAP_INIT;
	struct map_node *n, *next;
	size_t seen = 0;

	for (uint64_t i = 0; i < ARRAY_COUNT(items); i++)
		cr_assert_eq(map_insert(&map, &items[i].node, map_hash_u64(i)), 0);
	for (n = map_iterate(&map, NULL); n != NULL; n = next, seen++) {
		next = map_iterate(&map, n);
		map_remove(&map, n);
	}
	cr_assert_eq(seen, ARRAY_COUNT(items));
	cr_assert_eq(map.count, 0);
	map_release(&map);
}

Test(util_map, only_the_first_insert_can_fail)
{
	struct item items[100] = {{0}};
	struct map map = MAP_INIT;

	cr_assert_null(map_first(&map, 1));
	cr_assert_null(map_iterate(&map, NULL));
	mem_fail_at(1);
	cr_assert_eq(map_insert(&map, &items[0].node, 0), -ENOMEM);
	cr_assert_eq(map.count, 0);
	for (uint64_t i = 0; i < ARRAY_COUNT(items); i++) {
		mem_fail_at(i == 0 ? 0 : 1); /* no growth after the first */
		items[i].key = i;
		cr_assert_eq(map_insert(&map, &items[i].node, map_hash_u64(i)), 0);
	}
	mem_fail_at(0);
	for (uint64_t i = 0; i < ARRAY_COUNT(items); i++)
		cr_assert_eq(find(&map, i, map_hash_u64(i)), &items[i]);
	map_release(&map);
}

Test(util_map, hashes_of_bytes_depend_on_seed_length_and_each_byte)
{
	uint8_t bytes[80] = {0};

	for (size_t len = 0; len < sizeof(bytes); len++) {
		uint64_t h = map_hash_bytes(1, bytes, len);

		cr_assert_eq(h, map_hash_bytes(1, bytes, len));
		cr_assert_neq(h, map_hash_bytes(2, bytes, len));
		cr_assert_neq(h, map_hash_bytes(1, bytes, len + 1));
		for (size_t i = 0; i < len; i++) {
			bytes[i] ^= 1;
			cr_assert_neq(h, map_hash_bytes(1, bytes, len), "len %zu byte %zu", len, i);
			bytes[i] ^= 1;
		}
	}
}

/* Sequential inode numbers and short names must not pile up. */
Test(util_map, low_and_high_bits_of_hashes_spread)
{
	unsigned low[256] = {0}, high[256] = {0};

	for (unsigned i = 0; i < 25600; i++) {
		char name[16];
		uint64_t h;

		snprintf(name, sizeof(name), "f%u", i);
		h = map_hash_bytes(0, name, strlen(name));
		low[h & 255]++;
		high[map_hash_u64(i) >> 56]++;
	}
	for (unsigned i = 0; i < 256; i++) {
		cr_assert(low[i] > 40 && low[i] < 190, "low %u: %u", i, low[i]);
		cr_assert(high[i] > 40 && high[i] < 190, "high %u: %u", i, high[i]);
	}
}
