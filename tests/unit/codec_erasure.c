/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/erasure.h"
#include "tests/lib/rng.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>

enum { FRAGMENTS_MAX = ERASURE_DATA_MAX + ERASURE_PARITY_MAX, LEN_MAX = 300 };

struct set {
	struct erasure *erasure;
	unsigned k, m;
	size_t len;
	uint8_t right[FRAGMENTS_MAX][LEN_MAX];
	uint8_t work[FRAGMENTS_MAX][LEN_MAX];
};

static void set_fill(struct set *set, struct rng *rng, unsigned k, unsigned m, size_t len)
{
	const uint8_t *data[ERASURE_DATA_MAX];
	uint8_t *parity[ERASURE_PARITY_MAX];

	set->k = k, set->m = m, set->len = len;
	cr_assert_eq(erasure_new(k, m, &set->erasure), 0);
	for (unsigned i = 0; i < k; i++) {
		rng_fill(rng, set->right[i], len);
		data[i] = set->right[i];
	}
	for (unsigned i = 0; i < m; i++)
		parity[i] = set->right[k + i];
	cr_assert_eq(erasure_encode(set->erasure, len, data, parity), 0);
}

/* Loses what is not in present, rebuilds what is wanted, compares. */
static void check_rebuild(struct set *set, uint64_t present, uint64_t wanted)
{
	uint8_t *fragments[FRAGMENTS_MAX] = {0};
	int right = __builtin_popcountll(present) >= (int)set->k ? 0 : -ENODATA;

	for (unsigned i = 0; i < set->k + set->m; i++) {
		if (!((present | wanted) >> i & 1))
			continue;
		fragments[i] = set->work[i];
		if (present >> i & 1)
			memcpy(set->work[i], set->right[i], set->len);
		else
			memset(set->work[i], 0xee, set->len);
	}
	cr_assert_eq(erasure_rebuild(set->erasure, set->len, present, wanted, fragments), right);
	for (unsigned i = 0; right == 0 && i < set->k + set->m; i++)
		cr_assert(!fragments[i] || memcmp(set->work[i], set->right[i], set->len) == 0,
			  "%u+%u present %#lx fragment %u", set->k, set->m, (unsigned long)present,
			  i);
}

Test(codec_erasure, every_loss_pattern_of_small_codes_is_rebuilt_or_refused)
{
	static struct set set;
	struct rng rng = rng_new();

	for (unsigned k = 1; k <= 6; k++) {
		for (unsigned m = 0; m <= 4; m++) {
			uint64_t all = ((uint64_t)1 << (k + m)) - 1;

			set_fill(&set, &rng, k, m, 1 + rng_below(&rng, 80));
			for (uint64_t present = 0; present <= all; present++)
				check_rebuild(&set, present, all & ~present);
			erasure_free(set.erasure);
		}
	}
}

Test(codec_erasure, the_largest_codes_survive_random_losses)
{
	static struct set set;
	struct rng rng = rng_new();
	static const struct {
		unsigned k, m;
	} codes[] = {{32, 16}, {32, 1}, {1, 16}, {17, 9}, {10, 4}};

	for (size_t c = 0; c < ARRAY_COUNT(codes); c++) {
		uint64_t all = ((uint64_t)1 << (codes[c].k + codes[c].m)) - 1;

		set_fill(&set, &rng, codes[c].k, codes[c].m, LEN_MAX);
		for (unsigned round = 0; round < 200; round++) {
			uint64_t present = all;

			while (__builtin_popcountll(present) > (int)codes[c].k)
				present &= ~((uint64_t)1 << rng_below(&rng, 48));
			check_rebuild(&set, present, all & rng_u64(&rng));
		}
		erasure_free(set.erasure);
	}
}

Test(codec_erasure, data_fragments_are_the_data_and_one_parity_of_one_is_a_copy)
{
	static struct set set;
	struct rng rng = rng_new();

	set_fill(&set, &rng, 1, 3, 50);
	for (unsigned i = 1; i <= 3; i++) {
		check_rebuild(&set, (uint64_t)1 << i, 1);
		cr_assert_arr_eq(set.work[0], set.right[0], 50);
	}
	erasure_free(set.erasure);
}

Test(codec_erasure, arguments_out_of_range_are_refused)
{
	uint8_t byte[1] = {0};
	uint8_t *fragments[5] = {byte, byte, byte, byte, byte};
	struct erasure *erasure = NULL;

	cr_assert_eq(erasure_new(0, 1, &erasure), -EINVAL);
	cr_assert_eq(erasure_new(33, 1, &erasure), -EINVAL);
	cr_assert_eq(erasure_new(1, 17, &erasure), -EINVAL);
	cr_assert_null(erasure);
	cr_assert_eq(erasure_new(3, 2, &erasure), 0);
	cr_assert_eq(erasure_rebuild(erasure, 0, 7, 0, fragments), -EINVAL);
	cr_assert_eq(erasure_rebuild(erasure, 1, 32, 0, fragments), -EINVAL);
	cr_assert_eq(erasure_rebuild(erasure, 1, 7, 32, fragments), -EINVAL);
	cr_assert_eq(erasure_rebuild(erasure, 1, 3, 0, fragments), -ENODATA);
	cr_assert_eq(erasure_encode(erasure, 0, (const uint8_t *const *)fragments, fragments),
		     -EINVAL);
	erasure_free(erasure);
	erasure_free(NULL);
}

Test(codec_erasure, fragments_are_long_enough_for_the_object)
{
	struct erasure *erasure;

	cr_assert_eq(erasure_new(4, 2, &erasure), 0);
	cr_assert_eq(erasure_fragment_len(erasure, 0), 1);
	cr_assert_eq(erasure_fragment_len(erasure, 1), 1);
	cr_assert_eq(erasure_fragment_len(erasure, 4), 1);
	cr_assert_eq(erasure_fragment_len(erasure, 5), 2);
	cr_assert_eq(erasure_fragment_len(erasure, 16 << 20), 4 << 20);
	erasure_free(erasure);
}

/* The format: 3+2 of known bytes, by the definition of the Cauchy matrix over 0x11d. */
Test(codec_erasure, the_parity_of_version_1_is_pinned)
{
	static const uint8_t data[3][4] = {{1, 2, 3, 4}, {50, 60, 70, 80}, {255, 0, 128, 7}};
	static const uint8_t pinned[2][4] = {{18, 235, 162, 216}, {75, 130, 69, 106}};
	const uint8_t *in[3] = {data[0], data[1], data[2]};
	uint8_t parity[2][4], *out[2] = {parity[0], parity[1]};
	struct erasure *erasure;

	cr_assert_eq(erasure_new(3, 2, &erasure), 0);
	cr_assert_eq(erasure_encode(erasure, 4, in, out), 0);
	cr_assert_arr_eq(parity, pinned, sizeof(pinned));
	erasure_free(erasure);
}
