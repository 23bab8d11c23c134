/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/shamir.h"
#include "tests/lib/hex.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * draft-mcgrew-tss-03, "Test Cases": secret 74 65 73 74 00, threshold 2, shares 1 and 2, over the
 * same field as ours (that of AES).
 */
Test(crypto_shamir, the_shares_of_draft_mcgrew_tss_give_their_secret)
{
	static const uint8_t one[] = {0xb9, 0xfa, 0x07, 0xe1, 0x85};
	static const uint8_t two[] = {0xf5, 0x40, 0x9b, 0x45, 0x11};
	const uint8_t *shares[] = {one, two}, *turned[] = {two, one};
	uint8_t x[] = {1, 2}, y[] = {2, 1}, out[5];

	cr_assert_eq(shamir_combine(x, shares, 2, 5, out), 0);
	cr_assert(hex_equals(out, 5, "7465737400"));
	cr_assert_eq(shamir_combine(y, turned, 2, 5, out), 0);
	cr_assert(hex_equals(out, 5, "7465737400"));
	cr_assert_eq(shamir_combine(y, shares, 2, 5, out), 0);
	cr_assert(!hex_equals(out, 5, "7465737400"));
}

/* FIPS 197, section 4.2: 57 * 83 = c1, 57 * 13 = fe.  A line through 0 and these has them. */
Test(crypto_shamir, the_field_is_that_of_aes)
{
	static const uint8_t a[] = {0xc1}, b[] = {0xfe};
	const uint8_t *shares[] = {a, b};
	uint8_t x[] = {0x83, 0x13}, out[1];

	cr_assert_eq(shamir_combine(x, shares, 2, 1, out), 0);
	cr_assert_eq(out[0], 0);
}

/* Every subset of 5 shares, for every threshold: enough give it, fewer do not. */
Test(crypto_shamir, any_threshold_of_them_give_it_and_fewer_do_not)
{
	static uint8_t secret[24], shares[5 * sizeof(secret)];

	for (unsigned threshold = 1; threshold <= 5; threshold++) {
		cr_assert_eq(crypto_random(secret, sizeof(secret)), 0);
		cr_assert_eq(shamir_split(bytes_of(secret, sizeof(secret)), threshold, 5, shares),
			     0);
		for (unsigned set = 1; set < 32; set++) {
			const uint8_t *taken[5];
			uint8_t x[5], out[sizeof(secret)];
			unsigned count = 0;

			for (unsigned i = 0; i < 5; i++)
				if (set >> i & 1) {
					x[count] = (uint8_t)(i + 1);
					taken[count++] = shares + i * sizeof(secret);
				}
			cr_assert_eq(shamir_combine(x, taken, count, sizeof(secret), out), 0);
			cr_assert_eq(memcmp(out, secret, sizeof(secret)) == 0, count >= threshold,
				     "threshold %u, set %x", threshold, set);
		}
	}
}

/*
 * What two of three see of a fixed byte is the same noise whatever the byte is: over many splits
 * each value of a share is about as frequent (chi square of 256 cells; 99.99 % lies under 350).
 */
Test(crypto_shamir, fewer_than_threshold_see_noise)
{
	static const uint8_t secrets[] = {0x00, 0x5a, 0xff};
	enum { ROUNDS = 25600 };

	for (size_t s = 0; s < sizeof(secrets); s++) {
		unsigned seen[256] = {0}, sums[256] = {0};
		double chi = 0, chi_sum = 0;

		for (unsigned i = 0; i < ROUNDS; i++) {
			uint8_t shares[3];

			cr_assert_eq(shamir_split(bytes_of(&secrets[s], 1), 3, 3, shares), 0);
			seen[shares[0]]++;
			sums[shares[0] ^ shares[1]]++;
		}
		for (unsigned v = 0; v < 256; v++) {
			double off = (double)seen[v] - ROUNDS / 256.0;
			double off_sum = (double)sums[v] - ROUNDS / 256.0;

			chi += off * off / (ROUNDS / 256.0);
			chi_sum += off_sum * off_sum / (ROUNDS / 256.0);
		}
		cr_assert(chi < 400 && chi_sum < 400, "secret %02x: %f, %f", secrets[s], chi,
			  chi_sum);
	}
}

Test(crypto_shamir, what_makes_no_sense_is_refused)
{
	static const uint8_t byte[1] = {1};
	const uint8_t *shares[] = {byte, byte};
	uint8_t same[] = {3, 3}, zero[] = {0, 1}, out[600];

	cr_assert_eq(shamir_split(bytes_of(byte, 1), 3, 2, out), -EINVAL);
	cr_assert_eq(shamir_split(bytes_of(byte, 1), 0, 2, out), -EINVAL);
	cr_assert_eq(shamir_split(bytes_of(byte, 1), 1, 256, out), -EINVAL);
	cr_assert_eq(shamir_split(bytes_of(byte, 0), 1, 1, out), -EINVAL);
	cr_assert_eq(shamir_combine(same, shares, 2, 1, out), -EINVAL);
	cr_assert_eq(shamir_combine(zero, shares, 2, 1, out), -EINVAL);
	cr_assert_eq(shamir_combine(same, shares, 0, 1, out), -EINVAL);
	cr_assert_eq(shamir_split(bytes_of(byte, 1), 255, 255, out), 0);
}
