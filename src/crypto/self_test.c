/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/aead.h"
#include "crypto/crypto.h"
#include "crypto/keyring.h"
#include "crypto/mac.h"
#include "crypto/shamir.h"

#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * One published answer for each primitive, through our own functions: a broken
 * library, processor or build is found before it writes anything.
 */

static int test_sha256(void) /* FIPS 180-2, "abc" */
{
	static const uint8_t right[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
					  0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
					  0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
					  0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
	struct digest digest;
	int r = sha256(bytes_of_str("abc"), &digest);

	return r ?: memcmp(digest.b, right, sizeof(right));
}

static int test_hmac(void) /* RFC 4231, case 2 */
{
	static const uint8_t right[32] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e,
					  0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
					  0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83,
					  0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43};
	struct digest digest;
	int r = hmac_sha256(bytes_of_str("Jefe"), bytes_of_str("what do ya want for nothing?"),
			    &digest);

	return r ?: memcmp(digest.b, right, sizeof(right));
}

static int test_hkdf(void) /* RFC 5869, case 1 */
{
	static const uint8_t salt[13] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	static const uint8_t info[10] = {0xf0, 0xf1, 0xf2, 0xf3, 0xf4,
					 0xf5, 0xf6, 0xf7, 0xf8, 0xf9};
	static const uint8_t right[42] = {
		0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36,
		0x2f, 0x2a, 0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56,
		0xec, 0xc4, 0xc5, 0xbf, 0x34, 0x00, 0x72, 0x08, 0xd5, 0xb8, 0x87, 0x18, 0x58, 0x65};
	uint8_t key[22], out[42];
	int r;

	memset(key, 0x0b, sizeof(key));
	r = hkdf_sha256(bytes_of(key, sizeof(key)), bytes_of(salt, sizeof(salt)),
			bytes_of(info, sizeof(info)), out, sizeof(out));
	return r ?: memcmp(out, right, sizeof(right));
}

static int test_scrypt(void) /* RFC 7914, section 12, first vector */
{
	static const uint8_t right[64] = {
		0x77, 0xd6, 0x57, 0x62, 0x38, 0x65, 0x7b, 0x20, 0x3b, 0x19, 0xca, 0x42, 0xc1,
		0x8a, 0x04, 0x97, 0xf1, 0x6b, 0x48, 0x44, 0xe3, 0x07, 0x4a, 0xe8, 0xdf, 0xdf,
		0xfa, 0x3f, 0xed, 0xe2, 0x14, 0x42, 0xfc, 0xd0, 0x06, 0x9d, 0xed, 0x09, 0x48,
		0xf8, 0x32, 0x6a, 0x75, 0x3a, 0x0f, 0xc8, 0x1f, 0x17, 0xe8, 0xd3, 0xe0, 0xfb,
		0x2e, 0x0d, 0x36, 0x28, 0xcf, 0x35, 0xe2, 0x0c, 0x38, 0xd1, 0x89, 0x06};
	struct bytes none = {0};
	uint8_t out[64];
	int r = crypto_scrypt(none, none, KDF_PARAMS_TEST, out, sizeof(out));

	return r ?: memcmp(out, right, sizeof(right));
}

static int test_gcm(void) /* McGrew and Viega, test case 14 (AES-256) */
{
	static const uint8_t right[32] = {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e,
					  0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18,
					  0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0,
					  0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
	static const struct aead_key key;
	static const uint8_t plain[16];
	struct bytes none = {0};
	struct aead_ctx *ctx;
	uint8_t sealed[32], opened[16];
	int r = aead_ctx_new(&ctx);

	if (r < 0)
		return r;
	r = aead_seal(ctx, &key, 0, none, bytes_of(plain, sizeof(plain)), sealed);
	if (r == 0)
		r = memcmp(sealed, right, sizeof(right));
	if (r == 0)
		r = aead_open(ctx, &key, 0, none, bytes_of(sealed, sizeof(sealed)), opened);
	sealed[3] ^= 1;
	if (r == 0 &&
	    aead_open(ctx, &key, 0, none, bytes_of(sealed, sizeof(sealed)), opened) != -EBADMSG)
		r = -EBADMSG;
	aead_ctx_free(ctx);
	return r;
}

static int test_shamir(void) /* draft-mcgrew-tss-03, test cases */
{
	static const uint8_t one[5] = {0xb9, 0xfa, 0x07, 0xe1, 0x85};
	static const uint8_t two[5] = {0xf5, 0x40, 0x9b, 0x45, 0x11};
	static const uint8_t right[5] = {0x74, 0x65, 0x73, 0x74, 0x00}, x[2] = {1, 2};
	const uint8_t *const shares[2] = {one, two};
	uint8_t out[5];
	int r = shamir_combine(x, shares, 2, sizeof(out), out);

	return r ?: memcmp(out, right, sizeof(right));
}

/* Tests: the named primitive counts as broken. */
static bool is_spoilt(const char *name)
{
#ifdef SHARDFS_TEST_HOOKS
	const char *spoilt = getenv("SHARDFS_SELF_TEST_SPOILT");

	return spoilt && strcmp(spoilt, name) == 0;
#else
	(void)name;
	return false;
#endif
}

int crypto_self_test(void)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} tests[] = {
		{"sha256", test_sha256}, {"hmac-sha256", test_hmac}, {"hkdf-sha256", test_hkdf},
		{"scrypt", test_scrypt}, {"aes-256-gcm", test_gcm},   {"shamir", test_shamir},
	};

	for (size_t i = 0; i < ARRAY_COUNT(tests); i++) {
		if (tests[i].run() != 0 || is_spoilt(tests[i].name)) {
			log_error("crypto-self-test-failed", "primitive=%s", tests[i].name);
			return -ELIBBAD;
		}
	}
	return 0;
}
