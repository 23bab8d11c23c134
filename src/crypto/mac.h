/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CRYPTO_MAC_H
#define SHARDFS_CRYPTO_MAC_H

/*
 * Keyed names of chunks, MACs over stored objects, plain digests, HKDF.
 *
 * A context belongs to one thread at a time and is reused; it holds the key
 * schedule.  Functions without a context may be called by any thread.  They
 * return 0; -ENOMEM or -EIO (the library failed) where not said otherwise.
 */

#include "util/buf.h"

#include <stddef.h>
#include <stdint.h>

/* Name of a chunk: HMAC-SHA-256 of its plain bytes under the name key of its key epoch. */
struct chunk_id {
	uint8_t b[32];
};

struct mac_key {
	uint8_t b[32];
};

struct digest {
	uint8_t b[32];
};

static inline int chunk_id_compare(const struct chunk_id *a, const struct chunk_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b));
}

static inline int chunk_id_is_equal(const struct chunk_id *a, const struct chunk_id *b)
{
	return chunk_id_compare(a, b) == 0;
}

/* ---- HMAC-SHA-256 under one fixed key: chunk names, chains, journal tags ---- */

struct mac_ctx;
/* The key is copied into the schedule. */
int mac_ctx_new(const struct mac_key *key, struct mac_ctx **out);
void mac_ctx_free(struct mac_ctx *ctx); /* accepts NULL; wipes */

/* As fast as SHA-256 itself: the two key blocks are hashed once, in mac_ctx_new. */
int mac_chunk_id(struct mac_ctx *ctx, struct bytes plain, struct chunk_id *out);
int mac_digest(struct mac_ctx *ctx, struct bytes src, struct digest *out);
/* Over several pieces, as if they were one. */
int mac_digest_parts(struct mac_ctx *ctx, const struct bytes *parts, size_t count,
		     struct digest *out);

/* One-shot HMAC-SHA-256 with a key of any length. */
int hmac_sha256(struct bytes key, struct bytes src, struct digest *out);
int sha256(struct bytes src, struct digest *out);
/* SHA-256 over several pieces, as if they were one. */
int sha256_parts(const struct bytes *parts, size_t count, struct digest *out);

/* HKDF-SHA-256 (RFC 5869), extract and expand.  len: 1 .. 8160.  -EINVAL for another len. */
int hkdf_sha256(struct bytes key, struct bytes salt, struct bytes info, uint8_t *out, size_t len);

/* ---- stored objects: a tag for each MiB, one MAC for the whole ---- */

#define OBJECT_BLOCK_BYTES ((size_t)1 << 20)

struct object_tag {
	uint8_t b[16];
};

/*
 * Judges ranges, fragments and whole objects of one shard by KEY_SHARD_MAC.
 *
 * Block tags are GMAC, so (key, fragment, block_no) must never see two
 * different contents: an object's bytes are final before its tags are made,
 * a new object takes a new random name and so a new key, and healing writes
 * the same bytes again.  To verify may be done any number of times.
 */
struct object_mac;
int object_mac_new(struct object_mac **out);
void object_mac_free(struct object_mac *om); /* accepts NULL; wipes */
int object_mac_set_key(struct object_mac *om, const struct mac_key *key);

/*
 * object_mac_block - tag of one block.
 * @fragment: 0 for a whole shard, 1 + i for fragment i of an erasure-coded one.
 * @block_no: from 0; block n covers bytes [n MiB, (n+1) MiB) of the object.
 * @block:    1 .. OBJECT_BLOCK_BYTES bytes (-EINVAL); only the last may be short.
 */
int object_mac_block(struct object_mac *om, uint32_t fragment, uint64_t block_no,
		     struct bytes block, struct object_tag *out);
/* As above, and compares in constant time: 0 or -EBADMSG. */
int object_mac_verify_block(struct object_mac *om, uint32_t fragment, uint64_t block_no,
			    struct bytes block, const struct object_tag *tag);

/*
 * object_mac_whole - MAC of the object: over fragment, length and the list of block tags.
 * @len: bytes that the tags cover; @count must be the number of blocks of that length (-EINVAL).
 */
int object_mac_whole(struct object_mac *om, uint32_t fragment, uint64_t len,
		     const struct object_tag *tags, size_t count, struct digest *out);
int object_mac_verify_whole(struct object_mac *om, uint32_t fragment, uint64_t len,
			    const struct object_tag *tags, size_t count,
			    const struct digest *mac); /* 0 or -EBADMSG */

static inline uint64_t object_block_count(uint64_t len)
{
	return (len + OBJECT_BLOCK_BYTES - 1) / OBJECT_BLOCK_BYTES;
}

#endif
