/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/aead.h"

#include "crypto/crypto.h"
#include "crypto/mac.h"
#include "util/mem.h"
#include "util/wire.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef SHARDFS_TEST_HOOKS
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
#endif

/*
 * To set a key costs about a microsecond (schedule and hash table), to go back
 * to one a compare: a small array of keyed contexts, the least recently used
 * slot is taken for a new key.  A slot has one context that encrypts and one
 * that decrypts, made when first needed, since changing direction sets the key.
 */

struct aead_slot {
	struct aead_key key;
	EVP_CIPHER_CTX *seal, *open;
	bool seal_has_key, open_has_key;
	uint64_t used; /* 0: empty */
};

struct aead_ctx { /* in locked memory: it holds copies of keys */
	EVP_CIPHER *cipher;
	uint64_t clock;
	struct aead_slot slots[AEAD_CACHED_KEYS];
};

int aead_ctx_new(struct aead_ctx **out)
{
	struct aead_ctx *ctx = secret_alloc(sizeof(*ctx));

	if (!ctx)
		return -ENOMEM;
	ctx->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	if (!ctx->cipher) {
		secret_free(ctx, sizeof(*ctx));
		return -ENOMEM;
	}
	*out = ctx;
	return 0;
}

void aead_ctx_free(struct aead_ctx *ctx)
{
	if (!ctx)
		return;
	for (size_t i = 0; i < AEAD_CACHED_KEYS; i++) {
		EVP_CIPHER_CTX_free(ctx->slots[i].seal);
		EVP_CIPHER_CTX_free(ctx->slots[i].open);
	}
	EVP_CIPHER_free(ctx->cipher);
	secret_free(ctx, sizeof(*ctx));
}

static struct aead_slot *find_slot(struct aead_ctx *ctx, const struct aead_key *key)
{
	struct aead_slot *oldest = &ctx->slots[0];

	for (size_t i = 0; i < AEAD_CACHED_KEYS; i++) {
		struct aead_slot *slot = &ctx->slots[i];

		if (slot->used > 0 &&
		    mem_compare_secret(slot->key.b, key->b, sizeof(key->b)) == 0) {
			slot->used = ++ctx->clock;
			return slot;
		}
		if (slot->used < oldest->used)
			oldest = slot;
	}
	oldest->key = *key;
	oldest->seal_has_key = oldest->open_has_key = false;
	oldest->used = ++ctx->clock;
	return oldest;
}

/* The slot's context for one direction, keyed, with this nonce; NULL with *r set. */
static EVP_CIPHER_CTX *prepare(struct aead_ctx *ctx, const struct aead_key *key, bool is_seal,
			       uint64_t counter, int *r)
{
	struct aead_slot *slot = find_slot(ctx, key);
	EVP_CIPHER_CTX **cipher = is_seal ? &slot->seal : &slot->open;
	bool *has_key = is_seal ? &slot->seal_has_key : &slot->open_has_key;
	uint8_t nonce[12] = {0};
	int ok;

	wire_store_u64(nonce + 4, counter);
	if (!*cipher)
		*cipher = EVP_CIPHER_CTX_new();
	if (!*cipher) {
		*r = -ENOMEM;
		return NULL;
	}
	if (*has_key)
		ok = EVP_CipherInit_ex2(*cipher, NULL, NULL, nonce, is_seal, NULL);
	else
		ok = EVP_CipherInit_ex2(*cipher, ctx->cipher, key->b, nonce, is_seal, NULL);
	*has_key = ok == 1;
	if (!ok) {
		*r = -EIO;
		return NULL;
	}
	return *cipher;
}

static bool update(EVP_CIPHER_CTX *cipher, uint8_t *out, struct bytes src)
{
	int len;

	return src.len == 0 || EVP_CipherUpdate(cipher, out, &len, src.ptr, (int)src.len) == 1;
}

#ifdef SHARDFS_TEST_HOOKS
static int nonce_log_fd = -1;

static void nonce_log_open(void)
{
	const char *path = getenv("SHARDFS_NONCE_LOG");

	if (path)
		nonce_log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* One write for each line, so lines of several processes do not mix. */
static void nonce_log(const struct aead_key *key, uint64_t nonce, struct bytes plain)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct digest of_key, of_plain;
	char line[96];
	int len;

	pthread_once(&once, nonce_log_open);
	if (nonce_log_fd < 0 || sha256(bytes_of(key->b, sizeof(key->b)), &of_key) < 0 ||
	    sha256(plain, &of_plain) < 0)
		return;
	len = snprintf(line, sizeof(line), "%016" PRIx64 " %" PRIu64 " %016" PRIx64 "\n",
		       __builtin_bswap64(wire_load_u64(of_key.b)), nonce,
		       __builtin_bswap64(wire_load_u64(of_plain.b)));
	if (write(nonce_log_fd, line, (size_t)len) != len)
		abort(); /* a log with gaps proves nothing */
}
#else
static void nonce_log(const struct aead_key *key, uint64_t nonce, struct bytes plain)
{
	(void)key, (void)nonce, (void)plain;
}
#endif

int aead_seal(struct aead_ctx *ctx, const struct aead_key *key, uint64_t nonce, struct bytes aad,
	      struct bytes plain, uint8_t *out)
{
	EVP_CIPHER_CTX *cipher;
	int len, r = 0;

	if (plain.len > AEAD_BYTES_MAX || aad.len > AEAD_BYTES_MAX)
		return -EINVAL;
	nonce_log(key, nonce, plain);
	cipher = prepare(ctx, key, true, nonce, &r);
	if (!cipher)
		return r;
	if (!update(cipher, NULL, aad) || !update(cipher, out, plain) ||
	    EVP_CipherFinal_ex(cipher, out + plain.len, &len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, (int)AEAD_TAG_BYTES,
				out + plain.len) != 1)
		return -EIO;
	return 0;
}

int aead_open(struct aead_ctx *ctx, const struct aead_key *key, uint64_t nonce, struct bytes aad,
	      struct bytes sealed, uint8_t *out)
{
	uint8_t tag[AEAD_TAG_BYTES], none[16];
	struct bytes text;
	EVP_CIPHER_CTX *cipher;
	int len, r = 0;

	if (sealed.len < AEAD_TAG_BYTES || sealed.len - AEAD_TAG_BYTES > AEAD_BYTES_MAX ||
	    aad.len > AEAD_BYTES_MAX)
		return -EBADMSG;
	text = bytes_of(sealed.ptr, sealed.len - AEAD_TAG_BYTES);
	memcpy(tag, sealed.ptr + text.len, sizeof(tag));
	cipher = prepare(ctx, key, false, nonce, &r);
	if (!cipher)
		return r;
	if (!update(cipher, NULL, aad) || !update(cipher, out, text) ||
	    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) != 1)
		r = -EIO;
	else if (EVP_CipherFinal_ex(cipher, none, &len) != 1)
		r = -EBADMSG;
	if (r < 0 && text.len > 0)
		memset(out, 0, text.len);
	return r;
}

int aead_seal_buf(struct aead_ctx *ctx, const struct aead_key *key, uint64_t nonce,
		  struct bytes aad, struct bytes plain, struct buf *out)
{
	int r;

	if (plain.len > AEAD_BYTES_MAX)
		return -EINVAL;
	r = buf_reserve(out, plain.len + AEAD_TAG_BYTES);
	if (r < 0)
		return r;
	r = aead_seal(ctx, key, nonce, aad, plain, out->ptr + out->len);
	if (r == 0)
		out->len += plain.len + AEAD_TAG_BYTES;
	return r;
}

int aead_open_buf(struct aead_ctx *ctx, const struct aead_key *key, uint64_t nonce,
		  struct bytes aad, struct bytes sealed, struct buf *out)
{
	uint8_t nothing;
	int r;

	if (sealed.len < AEAD_TAG_BYTES)
		return -EBADMSG;
	r = buf_reserve(out, sealed.len - AEAD_TAG_BYTES);
	if (r < 0)
		return r;
	r = aead_open(ctx, key, nonce, aad, sealed, out->ptr ? out->ptr + out->len : &nothing);
	if (r == 0)
		out->len += sealed.len - AEAD_TAG_BYTES;
	return r;
}
