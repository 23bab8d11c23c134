/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/aead.h"
#include "crypto/crypto.h"
#include "crypto/mac.h"
#include "tests/lib/hex.h"
#include "tests/lib/rng.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

static struct aead_ctx *new_ctx(void)
{
	struct aead_ctx *ctx;

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	return ctx;
}

Test(crypto_aead, gives_the_published_answers_of_gcm)
{
	/* McGrew and Viega, test cases 13 and 14. */
	static const struct aead_key key;
	static const uint8_t plain[16];
	struct bytes none = {0};
	struct aead_ctx *ctx = new_ctx();
	uint8_t out[32];

	cr_assert_eq(aead_seal(ctx, &key, 0, none, none, out), 0);
	cr_assert(hex_equals(out, 16, "530f8afbc74536b9a963b4f1c4cb738b"));
	cr_assert_eq(aead_seal(ctx, &key, 0, none, bytes_of(plain, 16), out), 0);
	cr_assert(hex_equals(out, 32,
			     "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"));
	aead_ctx_free(ctx);
}

/* The format of the nonce: four zero bytes, then the counter, little-endian. */
Test(crypto_aead, the_counter_becomes_the_documented_nonce)
{
	struct aead_ctx *ctx = new_ctx();
	struct aead_key key;
	uint8_t out[36];

	fill_sequence(key.b, sizeof(key.b), 0);
	cr_assert_eq(aead_seal(ctx, &key, 0x0102030405060708, bytes_of_str("fs id and number"),
			       bytes_of_str("The shard is sealed."), out),
		     0);
	cr_assert(hex_equals(
		out, 36,
		"48909a651147a93cf1539740be5d5fcbd19053e6d44210d90800d117abf9b2921eea0cef"));
	aead_ctx_free(ctx);
}

Test(crypto_aead, opens_what_was_sealed_and_nothing_else)
{
	struct bytes aad = bytes_of_str("about"), plain = bytes_of_str("some bytes of a file");
	struct aead_key key = {{1}}, other = {{2}};
	struct aead_ctx *ctx = new_ctx();
	AUTO(buf) sealed = BUF_INIT;
	uint8_t out[20];

	cr_assert_eq(aead_seal_buf(ctx, &key, 7, aad, plain, &sealed), 0);
	cr_assert_eq(sealed.len, plain.len + AEAD_TAG_BYTES);
	cr_assert_eq(aead_open(ctx, &key, 7, aad, buf_bytes(&sealed), out), 0);
	cr_assert_arr_eq(out, plain.ptr, plain.len);
	cr_assert_eq(aead_open(ctx, &other, 7, aad, buf_bytes(&sealed), out), -EBADMSG);
	cr_assert_eq(aead_open(ctx, &key, 8, aad, buf_bytes(&sealed), out), -EBADMSG);
	cr_assert_eq(aead_open(ctx, &key, 7, bytes_of_str("abouT"), buf_bytes(&sealed), out),
		     -EBADMSG);
	for (size_t len = 0; len < sealed.len; len++)
		cr_assert_eq(aead_open(ctx, &key, 7, aad, bytes_of(sealed.ptr, len), out),
			     -EBADMSG);
	for (size_t bit = 0; bit < 8 * sealed.len; bit++) {
		sealed.ptr[bit / 8] ^= (uint8_t)BIT(bit % 8);
		cr_assert_eq(aead_open(ctx, &key, 7, aad, buf_bytes(&sealed), out), -EBADMSG);
		sealed.ptr[bit / 8] ^= (uint8_t)BIT(bit % 8);
	}
	cr_assert_eq(aead_open(ctx, &key, 7, aad, buf_bytes(&sealed), out), 0);
	aead_ctx_free(ctx);
}

Test(crypto_aead, bytes_that_do_not_authenticate_are_never_handed_out)
{
	static const uint8_t zeros[64];
	struct aead_key key = {{1}};
	struct aead_ctx *ctx = new_ctx();
	uint8_t sealed[80], out[64];

	memset(out, 'x', sizeof(out));
	cr_assert_eq(aead_seal(ctx, &key, 0, bytes_of(NULL, 0), bytes_of(out, 64), sealed), 0);
	sealed[79] ^= 1;
	cr_assert_eq(aead_open(ctx, &key, 0, bytes_of(NULL, 0), bytes_of(sealed, 80), out),
		     -EBADMSG);
	cr_assert_arr_eq(out, zeros, 64);
	aead_ctx_free(ctx);
}

Test(crypto_aead, seals_and_opens_in_place)
{
	struct aead_key key = {{1}};
	struct aead_ctx *ctx = new_ctx();
	uint8_t place[100 + 16], right[100];

	fill_sequence(right, sizeof(right), 5);
	memcpy(place, right, sizeof(right));
	cr_assert_eq(aead_seal(ctx, &key, 3, bytes_of(NULL, 0), bytes_of(place, 100), place), 0);
	cr_assert(memcmp(place, right, 100) != 0);
	cr_assert_eq(aead_open(ctx, &key, 3, bytes_of(NULL, 0), bytes_of(place, 116), place), 0);
	cr_assert_arr_eq(place, right, 100);
	aead_ctx_free(ctx);
}

/* More keys than are cached, in any order, both directions: always the right one. */
Test(crypto_aead, cached_keys_are_never_mixed_up)
{
	enum { KEYS = 3 * AEAD_CACHED_KEYS };
	struct rng rng = rng_new();
	struct aead_ctx *ctx = new_ctx();
	struct aead_key keys[KEYS];
	uint64_t counters[KEYS] = {0};

	rng_fill(&rng, keys, sizeof(keys));
	for (unsigned i = 0; i < 4000; i++) {
		size_t k = rng_below(&rng, KEYS);
		uint8_t plain[48], sealed[64], opened[48];
		struct aead_ctx *fresh = new_ctx();

		rng_fill(&rng, plain, sizeof(plain));
		cr_assert_eq(aead_seal(ctx, &keys[k], counters[k], bytes_of(plain, i % 20),
				       bytes_of(plain, 48), sealed),
			     0);
		cr_assert_eq(aead_open(i % 2 ? ctx : fresh, &keys[k], counters[k],
				       bytes_of(plain, i % 20), bytes_of(sealed, 64), opened),
			     0);
		cr_assert_arr_eq(opened, plain, 48);
		counters[k]++;
		aead_ctx_free(fresh);
	}
	aead_ctx_free(ctx);
}

Test(crypto_aead, a_failed_buf_call_leaves_the_buf)
{
	struct aead_key key = {{1}};
	struct aead_ctx *ctx = new_ctx();
	AUTO(buf) out = BUF_INIT;

	cr_assert_eq(buf_append(&out, bytes_of_str("before")), 0);
	cr_assert_eq(aead_open_buf(ctx, &key, 0, bytes_of(NULL, 0),
				   bytes_of_str("twenty bytes of noise"), &out),
		     -EBADMSG);
	cr_assert_eq(aead_open_buf(ctx, &key, 0, bytes_of(NULL, 0), bytes_of_str("short"), &out),
		     -EBADMSG);
	cr_assert_eq(out.len, 6);
	cr_assert_eq(aead_seal_buf(ctx, &key, 0, bytes_of(NULL, 0), bytes_of(NULL, 0), &out), 0);
	cr_assert_eq(out.len, 6 + 16);
	aead_ctx_free(ctx);
}

#ifdef SHARDFS_TEST_HOOKS
Test(crypto_aead, the_nonce_log_has_one_line_for_each_seal)
{
	char path[256], line[128], right[128];
	struct aead_key key = {{9}};
	struct digest of_key, of_plain;
	struct aead_ctx *ctx;
	uint8_t out[32];
	FILE *log;

	snprintf(path, sizeof(path), "%s/nonces", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	setenv("SHARDFS_NONCE_LOG", path, 1);
	unlink(path);
	ctx = new_ctx();
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(aead_seal(ctx, &key, 100 + i, bytes_of(NULL, 0), bytes_of_str("plain"),
				       out),
			     0);
	log = fopen(path, "r");
	cr_assert(log);
	cr_assert_eq(sha256(bytes_of(key.b, 32), &of_key), 0);
	cr_assert_eq(sha256(bytes_of_str("plain"), &of_plain), 0);
	for (unsigned i = 0; i < 3; i++) {
		int at = 0;

		for (unsigned b = 0; b < 8; b++)
			at += sprintf(right + at, "%02x", of_key.b[b]);
		at += sprintf(right + at, " %u ", 100 + i);
		for (unsigned b = 0; b < 8; b++)
			at += sprintf(right + at, "%02x", of_plain.b[b]);
		cr_assert(fgets(line, sizeof(line), log));
		line[strcspn(line, "\n")] = 0;
		cr_assert_str_eq(line, right);
	}
	cr_assert_null(fgets(line, sizeof(line), log));
	fclose(log);
	unlink(path);
	aead_ctx_free(ctx);
}
#endif
