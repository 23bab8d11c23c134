/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CRYPTO_SHAMIR_H
#define SHARDFS_CRYPTO_SHAMIR_H

/*
 * Shamir's secret sharing over GF(256) (polynomial x^8 + x^4 + x^3 + x + 1), one polynomial for
 * each byte of the secret; share x is its value at x, 1 .. 255.  Any `threshold` shares give the
 * secret, fewer say nothing about it.  What a share says is not authenticated here: see
 * crypto/recovery.h.
 *
 * No branch and no index into memory depends on a secret.  Any thread.
 */

#include "crypto/crypto.h"

#define SHAMIR_SHARES_MAX  255u
#define SHAMIR_SECRET_BYTES_MAX ((size_t)256)

/*
 * shamir_split - shares: count * secret.len bytes, share x at (x - 1) * secret.len.
 * 1 <= threshold <= count <= SHAMIR_SHARES_MAX.  -EINVAL; -ENOMEM; -EIO (no randomness): shares is
 * wiped then.
 */
int shamir_split(struct bytes secret, unsigned threshold, unsigned count, uint8_t *shares);

/*
 * shamir_combine - from exactly as many shares as the threshold was; with others the answer is
 * another secret.  x: which shares, all different.  -EINVAL.
 */
int shamir_combine(const uint8_t *x, const uint8_t *const *shares, unsigned count, size_t len,
		   uint8_t *out);

#endif
