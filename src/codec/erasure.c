/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/erasure.h"

#include "util/mem.h"

#include <errno.h>
#include <isa-l/erasure_code.h>
#include <stdbool.h>
#include <string.h>

/*
 * The encoding matrix has k columns; its first k rows are the identity, the m
 * below a Cauchy matrix, so every k of the rows are independent.  To rebuild:
 * take the rows of k present fragments, invert, and multiply by the row of each
 * wanted fragment; that gives each wanted one from those k in one pass.
 */

struct erasure {
	unsigned k, m;
	uint8_t matrix[(ERASURE_DATA_MAX + ERASURE_PARITY_MAX) * ERASURE_DATA_MAX];
	uint8_t tables[32 * ERASURE_DATA_MAX * ERASURE_PARITY_MAX];
};

int erasure_new(unsigned k, unsigned m, struct erasure **out)
{
	struct erasure *erasure;

	if (k < 1 || k > ERASURE_DATA_MAX || m > ERASURE_PARITY_MAX)
		return -EINVAL;
	erasure = mem_alloc(sizeof(*erasure));
	if (!erasure)
		return -ENOMEM;
	erasure->k = k;
	erasure->m = m;
	gf_gen_cauchy1_matrix(erasure->matrix, (int)(k + m), (int)k);
	if (m > 0)
		ec_init_tables((int)k, (int)m, erasure->matrix + k * k, erasure->tables);
	*out = erasure;
	return 0;
}

void erasure_free(struct erasure *erasure)
{
	mem_free(erasure);
}

int erasure_encode(const struct erasure *erasure, size_t len, const uint8_t *const *data,
		   uint8_t *const *parity)
{
	if (len == 0 || len > ERASURE_LEN_MAX)
		return -EINVAL;
	if (erasure->m > 0)
		ec_encode_data((int)len, (int)erasure->k, (int)erasure->m,
			       (uint8_t *)erasure->tables, (uint8_t **)data, (uint8_t **)parity);
	return 0;
}

/* The first k present fragments; false if there are not so many. */
static bool choose_sources(unsigned k, uint64_t present, unsigned *sources)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 64 && count < k; i++) {
		if (present >> i & 1)
			sources[count++] = i;
	}
	return count == k;
}

struct rebuild {
	uint8_t rows[ERASURE_DATA_MAX * ERASURE_DATA_MAX]; /* of the sources */
	uint8_t inverse[ERASURE_DATA_MAX * ERASURE_DATA_MAX];
	uint8_t wanted[ERASURE_DATA_MAX * (ERASURE_DATA_MAX + ERASURE_PARITY_MAX)];
	uint8_t tables[32 * ERASURE_DATA_MAX * (ERASURE_DATA_MAX + ERASURE_PARITY_MAX)];
	uint8_t *from[ERASURE_DATA_MAX];
	uint8_t *to[ERASURE_DATA_MAX + ERASURE_PARITY_MAX];
};

/* One row: fragment `row` of the full matrix, in terms of the sources. */
static void multiply_row(const struct erasure *erasure, const uint8_t *inverse, unsigned row,
			 uint8_t *out)
{
	unsigned k = erasure->k;

	for (unsigned column = 0; column < k; column++) {
		uint8_t sum = 0;

		for (unsigned i = 0; i < k; i++)
			sum ^= gf_mul(erasure->matrix[row * k + i], inverse[i * k + column]);
		out[column] = sum;
	}
}

static int rebuild_with(const struct erasure *erasure, struct rebuild *work, size_t len,
			const unsigned *sources, uint64_t missing, uint8_t *const *fragments)
{
	unsigned k = erasure->k, count = 0;

	for (unsigned i = 0; i < k; i++) {
		memcpy(work->rows + i * k, erasure->matrix + sources[i] * k, k);
		work->from[i] = fragments[sources[i]];
	}
	/* Any k rows are independent, so this fails only if the matrix is broken. */
	if (gf_invert_matrix(work->rows, work->inverse, (int)k) < 0)
		return -EINVAL;
	for (unsigned row = 0; row < k + erasure->m; row++) {
		if (!(missing >> row & 1))
			continue;
		multiply_row(erasure, work->inverse, row, work->wanted + count * k);
		work->to[count++] = fragments[row];
	}
	ec_init_tables((int)k, (int)count, work->wanted, work->tables);
	ec_encode_data((int)len, (int)k, (int)count, work->tables, work->from, work->to);
	return 0;
}

int erasure_rebuild(const struct erasure *erasure, size_t len, uint64_t present, uint64_t wanted,
		    uint8_t *const *fragments)
{
	uint64_t all = ((uint64_t)1 << (erasure->k + erasure->m)) - 1;
	unsigned sources[ERASURE_DATA_MAX];
	struct rebuild *work;
	int r;

	if (len == 0 || len > ERASURE_LEN_MAX || (present | wanted) & ~all)
		return -EINVAL;
	wanted &= ~present;
	if (!choose_sources(erasure->k, present, sources))
		return -ENODATA;
	if (wanted == 0)
		return 0;
	work = mem_alloc(sizeof(*work));
	if (!work)
		return -ENOMEM;
	r = rebuild_with(erasure, work, len, sources, wanted, fragments);
	mem_free(work);
	return r;
}

size_t erasure_fragment_len(const struct erasure *erasure, size_t len)
{
	return len == 0 ? 1 : (len + erasure->k - 1) / erasure->k;
}
