/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CRYPTO_AEAD_H
#define SHARDFS_CRYPTO_AEAD_H

/*
 * AES-256-GCM over one buffer.
 *
 * The nonce is a 64-bit counter (little-endian, behind four zero bytes).  THE
 * CALLER owes that one key never sees one counter with two different
 * plaintexts: a record number is taken once, even if storing it fails; whatever
 * has no such number starts with a fresh random salt and so a fresh key, and
 * uses nonce 0.  A build with SHARDFS_TEST_HOOKS appends to the file named by
 * $SHARDFS_NONCE_LOG one line for each seal,
 *
 *	<16 hex: sha256(key)> <nonce> <16 hex: sha256(plaintext)>\n
 *
 * by which tests prove it.
 *
 * A context belongs to one thread at a time.  It keeps the schedules of the
 * last AEAD_CACHED_KEYS keys, so that going back to one costs a compare.
 */

#include "util/buf.h"

#include <stdint.h>

#define AEAD_TAG_BYTES   ((size_t)16)
#define AEAD_CACHED_KEYS 8
#define AEAD_BYTES_MAX   ((size_t)1 << 30) /* of one plaintext */

struct aead_key {
	uint8_t b[32];
};

struct aead_ctx;
int aead_ctx_new(struct aead_ctx **out); /* -ENOMEM */
void aead_ctx_free(struct aead_ctx *ctx); /* accepts NULL; wipes the schedules */

/*
 * aead_seal - encrypt and authenticate.
 * @aad:   authenticated, not stored: file system id, object name, kind, number.  May be empty.
 * @plain: 0 .. AEAD_BYTES_MAX bytes (-EINVAL).
 * @out:   plain.len + AEAD_TAG_BYTES bytes: ciphertext, then the tag.  May be
 *         plain.ptr itself (in place); otherwise they must not overlap.
 * 0; -ENOMEM, -EIO (library): out is then undefined and the counter is spent.
 */
int aead_seal(struct aead_ctx *ctx, const struct aead_key *key, uint64_t nonce, struct bytes aad,
	      struct bytes plain, uint8_t *out);

/*
 * aead_open - verify and decrypt.
 * @sealed: at least AEAD_TAG_BYTES, else -EBADMSG.
 * @out:    sealed.len - AEAD_TAG_BYTES bytes; may be sealed.ptr itself.
 * 0; -EBADMSG when key, nonce, aad or bytes are not what was sealed: out then
 * holds zeros, never unauthenticated bytes.  -ENOMEM, -EIO.
 */
int aead_open(struct aead_ctx *ctx, const struct aead_key *key, uint64_t nonce, struct bytes aad,
	      struct bytes sealed, uint8_t *out);

/* The same, appending to a buf; buf unchanged on failure. */
int aead_seal_buf(struct aead_ctx *ctx, const struct aead_key *key, uint64_t nonce,
		  struct bytes aad, struct bytes plain, struct buf *out);
int aead_open_buf(struct aead_ctx *ctx, const struct aead_key *key, uint64_t nonce,
		  struct bytes aad, struct bytes sealed, struct buf *out);

#endif
