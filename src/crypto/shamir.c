/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/shamir.h"

#include "util/mem.h"

#include <errno.h>
#include <string.h>

/* All products are taken with masks, never with tables: time does not tell the operands. */
static uint8_t times(uint8_t a, uint8_t b)
{
	uint8_t product = 0;

	for (unsigned i = 0; i < 8; i++) {
		product ^= (uint8_t)(a & (uint8_t)-(b & 1));
		a = (uint8_t)((a << 1) ^ (0x1b & (uint8_t)-(a >> 7)));
		b >>= 1;
	}
	return product;
}

/* a^254; 0 for 0. */
static uint8_t inverse(uint8_t a)
{
	uint8_t square = a, result = 1;

	for (unsigned i = 0; i < 7; i++) { /* 254 = 2 + 4 + ... + 128 */
		square = times(square, square);
		result = times(result, square);
	}
	return result;
}

int shamir_split(struct bytes secret, unsigned threshold, unsigned count, uint8_t *shares)
{
	size_t size = secret.len * threshold;
	uint8_t *factors; /* of x^1, x^2, ... for each byte */
	int r;

	if (threshold < 1 || threshold > count || count > SHAMIR_SHARES_MAX || secret.len == 0 ||
	    secret.len > SHAMIR_SECRET_BYTES_MAX)
		return -EINVAL;
	factors = secret_alloc(size);
	if (!factors)
		return -ENOMEM;
	r = crypto_random(factors, size);
	for (unsigned x = 1; r == 0 && x <= count; x++) {
		uint8_t *share = shares + (size_t)(x - 1) * secret.len;

		for (size_t i = 0; i < secret.len; i++) {
			const uint8_t *of_byte = factors + i * threshold;
			uint8_t y = 0;

			for (unsigned power = threshold - 1; power > 0; power--)
				y = times(y ^ of_byte[power], (uint8_t)x);
			share[i] = y ^ secret.ptr[i];
		}
	}
	if (r < 0)
		mem_wipe(shares, secret.len * count);
	secret_free(factors, size);
	return r;
}

int shamir_combine(const uint8_t *x, const uint8_t *const *shares, unsigned count, size_t len,
		   uint8_t *out)
{
	if (count < 1 || count > SHAMIR_SHARES_MAX || len == 0)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		if (x[i] == 0)
			return -EINVAL;
		for (unsigned k = 0; k < i; k++)
			if (x[k] == x[i])
				return -EINVAL;
	}
	memset(out, 0, len);
	for (unsigned i = 0; i < count; i++) {
		uint8_t weight = 1; /* Lagrange at 0 */

		for (unsigned k = 0; k < count; k++)
			if (k != i)
				weight = times(weight, times(x[k], inverse(x[k] ^ x[i])));
		for (size_t b = 0; b < len; b++)
			out[b] ^= times(shares[i][b], weight);
	}
	return 0;
}
