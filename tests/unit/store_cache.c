/* SPDX-License-Identifier: Apache-2.0 */
#include "store/cache.h"
#include "util/file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256];

static struct cache *open_cache(uint64_t size_max)
{
	struct cache *cache;

	cr_assert_eq(cache_open(dir, size_max, &cache), 0);
	return cache;
}

static struct cache *new_cache(uint64_t size_max)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/cache-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(dir));
	struct cache *cache = open_cache(size_max);

	cache_wait_listed(cache); /* until then a file that just went may be counted once more */
	return cache;
}

static void end(struct cache *cache)
{
	char command[300];

	cache_close(cache);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

static struct shard_id shard(unsigned n)
{
	return (struct shard_id){{(uint8_t)n, (uint8_t)(n >> 8), 9}};
}

static uint8_t byte_at(unsigned n, uint64_t off)
{
	return (uint8_t)(n * 31 + off * 7 + off / 251);
}

static void fill(unsigned n, uint64_t off, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = byte_at(n, off + i);
}

static void adopt(struct cache *cache, unsigned n, size_t len)
{
	struct shard_id id = shard(n);
	uint8_t *bytes = mem_alloc_raw(len);
	char path[512];
	AUTO_FD fd = -1;

	fill(n, 0, bytes, len);
	cr_assert_eq(cache_path_for(cache, &id, len, path, sizeof(path)), 0);
	fd = open(path, O_CREAT | O_RDWR | O_EXCL, 0600);
	cr_assert_geq(fd, 0);
	cr_assert_eq(file_pwrite(fd, bytes_of(bytes, len), 0), 0);
	mem_free(bytes);
	cache_adopt(cache, &id, len);
}

static void put(struct cache *cache, unsigned n, uint32_t off, size_t len)
{
	struct shard_id id = shard(n);
	uint8_t *bytes = mem_alloc_raw(len);

	fill(n, off, bytes, len);
	cache_put_range(cache, &id, off, bytes_of(bytes, len));
	mem_free(bytes);
}

/* Whether the range is there; then it must be right. */
static bool has(struct cache *cache, unsigned n, uint32_t off, uint32_t len)
{
	AUTO(buf) out = BUF_INIT;
	struct shard_id id = shard(n);
	int r = cache_read(cache, &id, off, len, &out);

	if (r == -ENOENT) {
		cr_assert_eq(out.len, 0);
		return false;
	}
	cr_assert_eq(r, 0);
	cr_assert_eq(out.len, len);
	for (size_t i = 0; i < len; i++)
		cr_assert_eq(out.ptr[i], byte_at(n, off + i));
	return true;
}

Test(store_cache, whole_objects_are_read_back_and_survive_a_restart)
{
	struct cache *cache = new_cache(MIB);
	struct stat st;

	cr_assert(stat(dir, &st) == 0 && (st.st_mode & 0777) == 0700);
	adopt(cache, 1, 10000);
	cr_assert(has(cache, 1, 0, 10000));
	cr_assert(has(cache, 1, 9999, 1));
	cr_assert(!has(cache, 1, 9999, 2));
	cr_assert(!has(cache, 2, 0, 1));
	cr_assert_eq(cache_bytes_used(cache), 10000);
	cache_close(cache);
	cache = open_cache(MIB);
	cr_assert(has(cache, 1, 5000, 100), "before the listing is done, or after");
	cache_wait_listed(cache);
	cr_assert(has(cache, 1, 5000, 100));
	cr_assert_eq(cache_bytes_used(cache), 10000);
	end(cache);
}

Test(store_cache, ranges_join_and_gaps_are_misses)
{
	struct cache *cache = new_cache(MIB);

	put(cache, 1, 1000, 500);
	put(cache, 1, 3000, 500);
	cr_assert(has(cache, 1, 1000, 500) && has(cache, 1, 1200, 300));
	cr_assert(!has(cache, 1, 999, 2) && !has(cache, 1, 1499, 2) && !has(cache, 1, 1000, 2500));
	put(cache, 1, 1500, 1500);
	cr_assert(has(cache, 1, 1000, 2500));
	put(cache, 1, 500, 5000);
	cr_assert(has(cache, 1, 500, 5000));
	cr_assert(!has(cache, 1, 0, 600) && !has(cache, 1, 5000, 501));
	end(cache);
}

Test(store_cache, random_ranges_agree_with_a_map_of_bytes)
{
	struct cache *cache = new_cache(64 * MIB);
	static bool there[20000];

	for (unsigned i = 0; i < 300; i++) {
		uint32_t off = (uint32_t)(i * 7919u % 19000u), len = 1 + i * 104729u % 900u;

		put(cache, 3, off, len);
		memset(there + off, true, len);
		off = (uint32_t)(i * 6007u % 19000u);
		bool expected = true;
		for (uint32_t at = off; at < off + len; at++)
			expected &= there[at];
		cr_assert_eq(has(cache, 3, off, len), expected, "round %u", i);
	}
	end(cache);
}

Test(store_cache, after_a_restart_ranges_are_trusted_in_whole_blocks)
{
	struct cache *cache = new_cache(MIB);

	put(cache, 1, 8192, 40960);
	cache_close(cache);
	cache = open_cache(MIB);
	cache_wait_listed(cache);
	cr_assert(has(cache, 1, 8192, 40960));
	cr_assert(!has(cache, 1, 0, 100));
	cr_assert_gt(cache_bytes_used(cache), 40000);
	end(cache);
}

Test(store_cache, it_stays_within_its_size_and_the_oldest_goes)
{
	struct cache *cache = new_cache(100000);

	for (unsigned n = 0; n < 20; n++) {
		adopt(cache, n, 20000);
		cr_assert_leq(cache_bytes_used(cache), 100000);
	}
	cr_assert(!has(cache, 0, 0, 10) && !has(cache, 14, 0, 10));
	for (unsigned n = 15; n < 20; n++)
		cr_assert(has(cache, n, 0, 10));
	put(cache, 50, 0, 10000);
	cr_assert(!has(cache, 15, 0, 10));
	cr_assert(has(cache, 50, 0, 10000));
	end(cache);
}

Test(store_cache, a_smaller_size_takes_effect_at_the_next_opening)
{
	struct cache *cache = new_cache(100000);

	for (unsigned n = 0; n < 5; n++)
		adopt(cache, n, 20000);
	cache_close(cache);
	cache = open_cache(50000);
	cache_wait_listed(cache);
	cr_assert_leq(cache_bytes_used(cache), 50000);
	end(cache);
}

/* What is used now and again stays while a scan of everything else goes through. */
Test(store_cache, a_scan_does_not_flush_what_is_used_often)
{
	struct cache *cache = new_cache(800000);

	for (unsigned n = 0; n < 4; n++)
		adopt(cache, n, 100000);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned n = 0; n < 4; n++)
			cr_assert(has(cache, n, 0, 100000));
	for (unsigned n = 10; n < 60; n++) {
		adopt(cache, n, 100000);
		for (uint32_t off = 0; off < 100000; off += 10000) /* once, from end to end */
			cr_assert(has(cache, n, off, 10000));
	}
	for (unsigned n = 0; n < 4; n++)
		cr_assert(has(cache, n, 0, 100000), "object %u", n);
	end(cache);
}

Test(store_cache, what_is_short_or_gone_is_a_miss_and_dropped)
{
	struct cache *cache = new_cache(MIB);
	struct shard_id id = shard(1);
	char path[512];

	adopt(cache, 1, 10000);
	cr_assert_eq(cache_path_for(cache, &id, 10000, path, sizeof(path)), 0);
	cr_assert_eq(truncate(path, 100), 0);
	cr_assert(!has(cache, 1, 0, 10000));
	cr_assert_eq(cache_bytes_used(cache), 0);
	adopt(cache, 2, 10000);
	id = shard(2);
	cache_drop(cache, &id);
	cr_assert(!has(cache, 2, 0, 10));
	cr_assert_eq(cache_path_for(cache, &id, 2 * MIB, path, sizeof(path)), -ENOSPC);
	cr_assert_eq(cache_path_for(cache, &id, 10, path, 5), -ENAMETOOLONG);
	end(cache);
}

Test(store_cache, a_whole_object_takes_the_place_of_its_ranges)
{
	struct cache *cache = new_cache(MIB);

	put(cache, 1, 1000, 500);
	adopt(cache, 1, 10000);
	cr_assert(has(cache, 1, 0, 10000));
	put(cache, 1, 1000, 500);
	cr_assert_eq(cache_bytes_used(cache), 10000);
	end(cache);
}
