/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/chunker.h"
#include "tests/lib/rng.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

enum { DATA_BYTES = 4 << 20, CUTS_MAX = DATA_BYTES / 256 + 2 };

static const struct chunker_params small = {
	.min_bytes = 1024, .avg_bytes = 4096, .max_bytes = 16384};

static struct chunker *new_chunker(struct rng *rng, struct chunker_params params)
{
	static uint8_t key[CHUNKER_KEY_BYTES];
	struct chunker *chunker;

	rng_fill(rng, key, sizeof(key));
	cr_assert_eq(chunker_new(&params, key, &chunker), 0);
	return chunker;
}

static uint8_t *random_data(struct rng *rng, size_t len)
{
	uint8_t *data = mem_alloc(len);

	for (size_t i = 0; i + 8 <= len; i += 8) {
		uint64_t v = rng_u64(rng);

		memcpy(data + i, &v, 8);
	}
	return data;
}

/* Ends of all chunks. */
static size_t cut_all(const struct chunker *chunker, const uint8_t *data, size_t len, size_t *ends)
{
	size_t count = 0;

	for (size_t at = 0; at < len;) {
		size_t n = chunker_next(chunker, data + at, len - at, true);

		cr_assert(n >= 1 && n <= len - at);
		at += n;
		ends[count++] = at;
	}
	return count;
}

Test(codec_chunker, sizes_keep_their_bounds_and_are_near_the_average)
{
	static size_t ends[CUTS_MAX];
	struct rng rng = rng_new();
	struct chunker *chunker = new_chunker(&rng, small);
	uint8_t *data = random_data(&rng, DATA_BYTES);
	size_t count = cut_all(chunker, data, DATA_BYTES, ends), before = 0;

	for (size_t i = 0; i < count; i++) {
		size_t n = ends[i] - before;

		cr_assert(n <= small.max_bytes);
		cr_assert(n > small.min_bytes || i == count - 1);
		before = ends[i];
	}
	cr_assert_eq(before, DATA_BYTES);
	cr_assert(DATA_BYTES / count > 3000 && DATA_BYTES / count < 7000, "%zu chunks", count);
	mem_free(data);
	chunker_free(chunker);
}

Test(codec_chunker, the_same_key_gives_the_same_boundaries_and_another_key_others)
{
	static size_t a[CUTS_MAX], b[CUTS_MAX];
	static uint8_t key[CHUNKER_KEY_BYTES];
	struct rng rng = rng_new();
	uint8_t *data = random_data(&rng, DATA_BYTES);
	struct chunker *one, *same, *other;
	size_t count, shared = 0, others;

	rng_fill(&rng, key, sizeof(key));
	cr_assert_eq(chunker_new(&small, key, &one), 0);
	cr_assert_eq(chunker_new(&small, key, &same), 0);
	other = new_chunker(&rng, small);
	count = cut_all(one, data, DATA_BYTES, a);
	cr_assert_eq(cut_all(same, data, DATA_BYTES, b), count);
	cr_assert_arr_eq(a, b, count * sizeof(a[0]));
	others = cut_all(other, data, DATA_BYTES, b);
	for (size_t i = 0, j = 0; i < count && j < others; a[i] <= b[j] ? i++ : j++)
		shared += a[i] == b[j];
	cr_assert(shared < count / 20);
	mem_free(data);
	chunker_free(one);
	chunker_free(same);
	chunker_free(other);
}

/* Bytes put in somewhere change the chunks there; both streams are in step again soon. */
Test(codec_chunker, an_insertion_changes_few_chunks)
{
	static size_t a[CUTS_MAX], b[CUTS_MAX];
	struct rng rng = rng_new();
	struct chunker *chunker = new_chunker(&rng, small);

	for (unsigned round = 0; round < 10; round++) {
		uint8_t *data = random_data(&rng, DATA_BYTES + 4096);
		size_t at = rng_below(&rng, DATA_BYTES), more = 1 + rng_below(&rng, 4096);
		size_t count = cut_all(chunker, data, DATA_BYTES, a), count2, shared = 0;

		memmove(data + at + more, data + at, DATA_BYTES - at);
		rng_fill(&rng, data + at, more);
		count2 = cut_all(chunker, data, DATA_BYTES + more, b);
		for (size_t i = 0, j = 0; i < count && j < count2;) {
			size_t moved = a[i] > at ? a[i] + more : a[i];

			shared += moved == b[j];
			moved <= b[j] ? i++ : j++;
		}
		cr_assert(count - shared < 16, "%zu of %zu boundaries moved", count - shared,
			  count);
		mem_free(data);
	}
	chunker_free(chunker);
}

/* Any way of feeding, with what was scanned remembered: the boundaries of the whole. */
Test(codec_chunker, boundaries_do_not_depend_on_how_bytes_arrive)
{
	static size_t right[CUTS_MAX];
	struct rng rng = rng_new();
	struct chunker *chunker = new_chunker(&rng, small);
	size_t len = DATA_BYTES / 4 + rng_below(&rng, 1000), count;
	uint8_t *data = random_data(&rng, len);

	count = cut_all(chunker, data, len, right);
	for (unsigned round = 0; round < 20; round++) {
		struct chunker_scan scan = CHUNKER_SCAN_INIT;
		size_t start = 0, end = 0, at = 0;
		size_t step_max = 1 + rng_below(&rng, round % 2 ? 100 : 40000);

		while (start < len) {
			size_t n = chunker_scan_next(chunker, &scan, data + start, end - start,
						     end == len);

			if (n == 0) {
				cr_assert(end < len && end - start < small.max_bytes);
				end += 1 + rng_below(&rng, step_max);
				end = MIN(len, end);
				continue;
			}
			start += n;
			cr_assert_eq(start, right[at++]);
			cr_assert_eq(scan.scanned, 0);
		}
		cr_assert_eq(at, count);
	}
	mem_free(data);
	chunker_free(chunker);
}

Test(codec_chunker, nothing_more_is_needed_at_the_end_or_at_the_largest_size)
{
	struct chunker_params params = CHUNKER_PARAMS_DEFAULT;
	struct rng rng = rng_new();
	struct chunker *chunker = new_chunker(&rng, params);
	uint8_t *zeros = mem_alloc(2 << 20);
	size_t n;

	cr_assert_eq(chunker_next(chunker, zeros, 0, true), 0);
	cr_assert_eq(chunker_next(chunker, zeros, 1, true), 1);
	cr_assert_eq(chunker_next(chunker, zeros, 1, false), 0);
	cr_assert_eq(chunker_next(chunker, zeros, params.min_bytes, true), params.min_bytes);
	n = chunker_next(chunker, zeros, 2 << 20, false);
	cr_assert(n > 0 && n <= params.max_bytes);
	cr_assert_eq(chunker_get_params(chunker).avg_bytes, params.avg_bytes);
	mem_free(zeros);
	chunker_free(chunker);
	chunker_free(NULL);
}

Test(codec_chunker, sizes_out_of_range_are_refused)
{
	static const uint8_t key[CHUNKER_KEY_BYTES];
	static const struct chunker_params bad[] = {
		{255, 1024, 4096},         {256, 1000, 4096}, {600, 1024, 4096},
		{256, 1024, 2047},         {256, 512, 4096},  {256, 8 << 20, 17 << 20},
		{256, 16 << 20, 32 << 20},
	};
	struct chunker *chunker = NULL;

	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		cr_assert_eq(chunker_new(&bad[i], key, &chunker), -EINVAL, "%zu", i);
	cr_assert_null(chunker);
}

/* The format: stored data is only found again while these stay as they are. */
Test(codec_chunker, boundaries_of_version_1_are_pinned)
{
	static const size_t pinned[] = {4393,  8826,  13139, 17813, 23210, 26565, 32985,
					37800, 43841, 50081, 52089, 56279, 61554, 65536};
	static uint8_t key[CHUNKER_KEY_BYTES], data[64 * 1024];
	static size_t ends[CUTS_MAX];
	struct chunker *chunker;
	uint64_t state = 1;

	for (size_t i = 0; i < sizeof(key) + sizeof(data); i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		if (i < sizeof(key))
			key[i] = (uint8_t)(state >> 56);
		else
			data[i - sizeof(key)] = (uint8_t)(state >> 56);
	}
	cr_assert_eq(chunker_new(&small, key, &chunker), 0);
	cr_assert_eq(cut_all(chunker, data, sizeof(data), ends), ARRAY_COUNT(pinned));
	cr_assert_arr_eq(ends, pinned, sizeof(pinned));
	chunker_free(chunker);
}
