/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/mac.h"

#include "util/mem.h"
#include "util/wire.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>

/*
 * HMAC from its definition over EVP's SHA-256: the digest states behind the
 * inner and the outer key block are kept, and copied for each message.  That
 * hashes two blocks less for each message than keying anew, and measured 0.4
 * us for 64 bytes against 0.7 for EVP_MAC with its own reuse.
 *
 * Object tags are GMAC: AES-256-GCM with the block as associated data and
 * nothing to encrypt; nonce = fragment (4 bytes) and block number (8).
 */

enum { HMAC_BLOCK_BYTES = 64 };

static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256_md; /* for the life of the process */
static EVP_CIPHER *gcm_cipher;

static void fetch_all(void)
{
	sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	gcm_cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
}

static int fetch(void)
{
	pthread_once(&fetch_once, fetch_all);
	return sha256_md && gcm_cipher ? 0 : -EIO;
}

struct mac_ctx {
	EVP_MD_CTX *inner, *outer; /* behind their key blocks */
	EVP_MD_CTX *work;
};

static int absorb_pad(EVP_MD_CTX *md, const uint8_t *block, uint8_t pad)
{
	uint8_t padded[HMAC_BLOCK_BYTES];
	int ok;

	for (size_t i = 0; i < sizeof(padded); i++)
		padded[i] = block[i] ^ pad;
	ok = EVP_DigestInit_ex2(md, sha256_md, NULL) &&
	     EVP_DigestUpdate(md, padded, sizeof(padded));
	mem_wipe(padded, sizeof(padded));
	return ok ? 0 : -EIO;
}

static int mac_ctx_new_any(struct bytes key, struct mac_ctx **out)
{
	uint8_t block[HMAC_BLOCK_BYTES] = {0};
	struct mac_ctx *ctx;
	int r = fetch();

	if (r < 0)
		return r;
	if (key.len > sizeof(block)) {
		struct digest digest;

		r = sha256(key, &digest);
		if (r < 0)
			return r;
		memcpy(block, digest.b, sizeof(digest.b));
		mem_wipe(&digest, sizeof(digest));
	} else if (key.len > 0) {
		memcpy(block, key.ptr, key.len);
	}
	ctx = mem_alloc(sizeof(*ctx));
	if (!ctx) {
		mem_wipe(block, sizeof(block));
		return -ENOMEM;
	}
	ctx->inner = EVP_MD_CTX_new();
	ctx->outer = EVP_MD_CTX_new();
	ctx->work = EVP_MD_CTX_new();
	r = ctx->inner && ctx->outer && ctx->work ? 0 : -ENOMEM;
	if (r == 0)
		r = absorb_pad(ctx->inner, block, 0x36);
	if (r == 0)
		r = absorb_pad(ctx->outer, block, 0x5c);
	mem_wipe(block, sizeof(block));
	if (r < 0) {
		mac_ctx_free(ctx);
		return r;
	}
	*out = ctx;
	return 0;
}

int mac_ctx_new(const struct mac_key *key, struct mac_ctx **out)
{
	return mac_ctx_new_any(bytes_of(key->b, sizeof(key->b)), out);
}

void mac_ctx_free(struct mac_ctx *ctx)
{
	if (!ctx)
		return;
	EVP_MD_CTX_free(ctx->inner);
	EVP_MD_CTX_free(ctx->outer);
	EVP_MD_CTX_free(ctx->work);
	mem_free(ctx);
}

int mac_digest_parts(struct mac_ctx *ctx, const struct bytes *parts, size_t count,
		     struct digest *out)
{
	struct digest digest;

	if (!EVP_MD_CTX_copy_ex(ctx->work, ctx->inner))
		return -EIO;
	for (size_t i = 0; i < count; i++) {
		if (parts[i].len > 0 && !EVP_DigestUpdate(ctx->work, parts[i].ptr, parts[i].len))
			return -EIO;
	}
	if (!EVP_DigestFinal_ex(ctx->work, digest.b, NULL) ||
	    !EVP_MD_CTX_copy_ex(ctx->work, ctx->outer) ||
	    !EVP_DigestUpdate(ctx->work, digest.b, sizeof(digest.b)) ||
	    !EVP_DigestFinal_ex(ctx->work, digest.b, NULL))
		return -EIO;
	*out = digest;
	return 0;
}

int mac_digest(struct mac_ctx *ctx, struct bytes src, struct digest *out)
{
	return mac_digest_parts(ctx, &src, 1, out);
}

int mac_chunk_id(struct mac_ctx *ctx, struct bytes plain, struct chunk_id *out)
{
	struct digest digest;
	int r = mac_digest(ctx, plain, &digest);

	if (r == 0)
		memcpy(out->b, digest.b, sizeof(out->b));
	return r;
}

int hmac_sha256(struct bytes key, struct bytes src, struct digest *out)
{
	struct mac_ctx *ctx;
	int r = mac_ctx_new_any(key, &ctx);

	if (r < 0)
		return r;
	r = mac_digest(ctx, src, out);
	mac_ctx_free(ctx);
	return r;
}

int sha256_parts(const struct bytes *parts, size_t count, struct digest *out)
{
	struct digest digest;
	EVP_MD_CTX *md;
	int r = fetch();
	int ok;

	if (r < 0)
		return r;
	md = EVP_MD_CTX_new();
	if (!md)
		return -ENOMEM;
	ok = EVP_DigestInit_ex2(md, sha256_md, NULL);
	for (size_t i = 0; ok && i < count; i++)
		ok = parts[i].len == 0 || EVP_DigestUpdate(md, parts[i].ptr, parts[i].len);
	ok = ok && EVP_DigestFinal_ex(md, digest.b, NULL);
	EVP_MD_CTX_free(md);
	if (!ok)
		return -EIO;
	*out = digest;
	return 0;
}

int sha256(struct bytes src, struct digest *out)
{
	return sha256_parts(&src, 1, out);
}

int hkdf_sha256(struct bytes key, struct bytes salt, struct bytes info, uint8_t *out, size_t len)
{
	struct digest prk, block;
	struct mac_ctx *ctx;
	uint8_t counter = 0;
	size_t block_len = 0;
	int r;

	if (len == 0 || len > 255 * sizeof(block.b))
		return -EINVAL;
	r = hmac_sha256(salt, key, &prk);
	if (r < 0)
		return r;
	r = mac_ctx_new_any(bytes_of(prk.b, sizeof(prk.b)), &ctx);
	mem_wipe(&prk, sizeof(prk));
	if (r < 0)
		return r;
	for (size_t at = 0; r == 0 && at < len; at += sizeof(block.b)) {
		counter++;
		struct bytes parts[] = {bytes_of(block.b, block_len), info, bytes_of(&counter, 1)};

		r = mac_digest_parts(ctx, parts, ARRAY_COUNT(parts), &block);
		block_len = sizeof(block.b);
		if (r == 0)
			memcpy(out + at, block.b, MIN(len - at, sizeof(block.b)));
	}
	mac_ctx_free(ctx);
	mem_wipe(&block, sizeof(block));
	if (r < 0)
		mem_wipe(out, len);
	return r;
}

struct object_mac {
	EVP_CIPHER_CTX *gmac;
	struct mac_ctx *whole;
	bool has_key;
};

int object_mac_new(struct object_mac **out)
{
	struct object_mac *om;
	int r = fetch();

	if (r < 0)
		return r;
	om = mem_alloc(sizeof(*om));
	if (!om)
		return -ENOMEM;
	om->gmac = EVP_CIPHER_CTX_new();
	if (!om->gmac) {
		mem_free(om);
		return -ENOMEM;
	}
	*out = om;
	return 0;
}

void object_mac_free(struct object_mac *om)
{
	if (!om)
		return;
	EVP_CIPHER_CTX_free(om->gmac);
	mac_ctx_free(om->whole);
	mem_free(om);
}

int object_mac_set_key(struct object_mac *om, const struct mac_key *key)
{
	static const char block_label[] = "shardfs/1 object-block";
	static const char whole_label[] = "shardfs/1 object-whole";
	struct bytes whole = bytes_of(key->b, sizeof(key->b));
	struct digest block_key, whole_key;
	int r;

	om->has_key = false;
	mac_ctx_free(STEAL(om->whole));
	r = hmac_sha256(whole, bytes_of_str(block_label), &block_key);
	if (r == 0)
		r = hmac_sha256(whole, bytes_of_str(whole_label), &whole_key);
	if (r == 0)
		r = mac_ctx_new_any(bytes_of(whole_key.b, sizeof(whole_key.b)), &om->whole);
	if (r == 0 && !EVP_EncryptInit_ex2(om->gmac, gcm_cipher, block_key.b, NULL, NULL))
		r = -EIO;
	mem_wipe(&block_key, sizeof(block_key));
	mem_wipe(&whole_key, sizeof(whole_key));
	om->has_key = r == 0;
	return r;
}

int object_mac_block(struct object_mac *om, uint32_t fragment, uint64_t block_no,
		     struct bytes block, struct object_tag *out)
{
	struct object_tag tag;
	uint8_t nonce[12], none[16];
	int len = 0;

	assert(om->has_key);
	if (block.len == 0 || block.len > OBJECT_BLOCK_BYTES)
		return -EINVAL;
	wire_store_u32(nonce, fragment);
	wire_store_u64(nonce + 4, block_no);
	if (!EVP_EncryptInit_ex2(om->gmac, NULL, NULL, nonce, NULL) ||
	    !EVP_EncryptUpdate(om->gmac, NULL, &len, block.ptr, (int)block.len) ||
	    !EVP_EncryptFinal_ex(om->gmac, none, &len) ||
	    !EVP_CIPHER_CTX_ctrl(om->gmac, EVP_CTRL_AEAD_GET_TAG, sizeof(tag.b), tag.b))
		return -EIO;
	*out = tag;
	return 0;
}

int object_mac_verify_block(struct object_mac *om, uint32_t fragment, uint64_t block_no,
			    struct bytes block, const struct object_tag *tag)
{
	struct object_tag right;
	int r = object_mac_block(om, fragment, block_no, block, &right);

	if (r == -EINVAL)
		return -EBADMSG;
	if (r < 0)
		return r;
	return mem_compare_secret(right.b, tag->b, sizeof(right.b)) == 0 ? 0 : -EBADMSG;
}

int object_mac_whole(struct object_mac *om, uint32_t fragment, uint64_t len,
		     const struct object_tag *tags, size_t count, struct digest *out)
{
	uint8_t head[12];
	struct bytes parts[] = {bytes_of(head, sizeof(head)),
				bytes_of(tags, count * sizeof(*tags))};

	assert(om->has_key);
	if (count != object_block_count(len))
		return -EINVAL;
	wire_store_u32(head, fragment);
	wire_store_u64(head + 4, len);
	return mac_digest_parts(om->whole, parts, ARRAY_COUNT(parts), out);
}

int object_mac_verify_whole(struct object_mac *om, uint32_t fragment, uint64_t len,
			    const struct object_tag *tags, size_t count, const struct digest *mac)
{
	struct digest right;
	int r = object_mac_whole(om, fragment, len, tags, count, &right);

	if (r == -EINVAL)
		return -EBADMSG;
	if (r < 0)
		return r;
	return mem_compare_secret(right.b, mac->b, sizeof(right.b)) == 0 ? 0 : -EBADMSG;
}
