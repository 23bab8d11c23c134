/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/crypto.h"
#include "crypto/mac.h"
#include "tests/lib/hex.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>

static struct bytes filled(uint8_t *out, uint8_t value, size_t len)
{
	memset(out, value, len);
	return bytes_of(out, len);
}

static void check_hmac(struct bytes key, struct bytes data, const char *right)
{
	struct digest digest;

	cr_assert_eq(hmac_sha256(key, data, &digest), 0);
	cr_assert(hex_equals(digest.b, 32, right));
}

Test(crypto_mac, hmac_gives_the_answers_of_rfc_4231)
{
	uint8_t key[131], data[64];

	check_hmac(filled(key, 0x0b, 20), bytes_of_str("Hi There"),
		   "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	check_hmac(bytes_of_str("Jefe"), bytes_of_str("what do ya want for nothing?"),
		   "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	check_hmac(filled(key, 0xaa, 20), filled(data, 0xdd, 50),
		   "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
	fill_sequence(key, 25, 1);
	check_hmac(bytes_of(key, 25), filled(data, 0xcd, 50),
		   "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
	check_hmac(filled(key, 0x0c, 20), bytes_of_str("Test With Truncation"),
		   "a3b6167473100ee06e0c796c2955552bfa6f7c0a6a8aef8b93f860aab0cd20c5");
	check_hmac(filled(key, 0xaa, 131),
		   bytes_of_str("Test Using Larger Than Block-Size Key - Hash Key First"),
		   "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	check_hmac(filled(key, 0xaa, 131),
		   bytes_of_str("This is a test using a larger than block-size key and a larger "
				"than block-size data. The key needs to be hashed before being "
				"used by the HMAC algorithm."),
		   "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void check_hkdf(struct bytes key, struct bytes salt, struct bytes info, const char *right)
{
	uint8_t out[128];
	size_t len = strlen(right) / 2;

	cr_assert_eq(hkdf_sha256(key, salt, info, out, len), 0);
	cr_assert(hex_equals(out, len, right));
}

Test(crypto_mac, hkdf_gives_the_answers_of_rfc_5869)
{
	uint8_t key[80], salt[80], info[80];
	struct bytes none = {0};

	fill_sequence(salt, 13, 0);
	fill_sequence(info, 10, 0xf0);
	check_hkdf(filled(key, 0x0b, 22), bytes_of(salt, 13), bytes_of(info, 10),
		   "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
		   "34007208d5b887185865");
	fill_sequence(key, 80, 0);
	fill_sequence(salt, 80, 0x60);
	fill_sequence(info, 80, 0xb0);
	check_hkdf(bytes_of(key, 80), bytes_of(salt, 80), bytes_of(info, 80),
		   "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
		   "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
		   "cc30c58179ec3e87c14c01d5c1f3434f1d87");
	check_hkdf(filled(key, 0x0b, 22), none, none,
		   "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
		   "9d201395faa4b61a96c8");
}

Test(crypto_mac, hkdf_refuses_lengths_that_it_cannot_give)
{
	static uint8_t out[8161];
	struct bytes key = bytes_of_str("key");

	cr_assert_eq(hkdf_sha256(key, key, key, out, 0), -EINVAL);
	cr_assert_eq(hkdf_sha256(key, key, key, out, 8161), -EINVAL);
	cr_assert_eq(hkdf_sha256(key, key, key, out, 8160), 0);
}

Test(crypto_mac, a_reused_context_names_chunks_as_a_fresh_one_does)
{
	struct mac_key key;
	struct mac_ctx *ctx;
	uint8_t data[300];

	fill_sequence(key.b, sizeof(key.b), 7);
	fill_sequence(data, sizeof(data), 0);
	cr_assert_eq(mac_ctx_new(&key, &ctx), 0);
	for (size_t len = 0; len <= sizeof(data); len++) {
		struct bytes halves[] = {bytes_of(data, len / 3),
					 bytes_of(data + len / 3, len - len / 3)};
		struct digest right, parts;
		struct chunk_id id;

		cr_assert_eq(mac_chunk_id(ctx, bytes_of(data, len), &id), 0);
		cr_assert_eq(mac_digest_parts(ctx, halves, 2, &parts), 0);
		cr_assert_eq(hmac_sha256(bytes_of(key.b, 32), bytes_of(data, len), &right), 0);
		cr_assert_arr_eq(id.b, right.b, 32);
		cr_assert_arr_eq(parts.b, right.b, 32);
	}
	mac_ctx_free(ctx);
	mac_ctx_free(NULL);
}

Test(crypto_mac, sha256_of_pieces_is_that_of_the_whole)
{
	struct bytes parts[] = {bytes_of_str("a"), {0}, bytes_of_str("bc")};
	struct digest digest;

	cr_assert_eq(sha256_parts(parts, 3, &digest), 0);
	cr_assert(hex_equals(digest.b, 32,
			     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
	cr_assert_eq(sha256((struct bytes){0}, &digest), 0);
	cr_assert(hex_equals(digest.b, 32,
			     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
}

static struct object_mac *object_mac_with(uint8_t first)
{
	struct object_mac *om;
	struct mac_key key;

	fill_sequence(key.b, sizeof(key.b), first);
	cr_assert_eq(object_mac_new(&om), 0);
	cr_assert_eq(object_mac_set_key(om, &key), 0);
	return om;
}

/* The format: computed independently from the definition. */
Test(crypto_mac, object_tags_are_the_documented_ones)
{
	struct object_mac *om = object_mac_with(0);
	uint8_t block[1000];
	struct object_tag tag;
	struct digest whole;

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)(i * 7);
	cr_assert_eq(object_mac_block(om, 3, 5, bytes_of(block, sizeof(block)), &tag), 0);
	cr_assert(hex_equals(tag.b, 16, "1aa695e25b6510e55d533d32b26694eb"));
	cr_assert_eq(object_mac_whole(om, 3, 1000, &tag, 1, &whole), 0);
	cr_assert(hex_equals(whole.b, 32,
			     "39762cc46eba194a6524557fb61d34efbd742856b8bc107d5154fac73cbabd4b"));
	object_mac_free(om);
}

Test(crypto_mac, a_block_is_good_at_its_place_under_its_key_only)
{
	struct object_mac *om = object_mac_with(1), *other = object_mac_with(2);
	uint8_t block[4096];
	struct bytes bytes = bytes_of(block, sizeof(block));
	struct object_tag tag;

	fill_sequence(block, sizeof(block), 3);
	cr_assert_eq(object_mac_block(om, 0, 9, bytes, &tag), 0);
	cr_assert_eq(object_mac_verify_block(om, 0, 9, bytes, &tag), 0);
	cr_assert_eq(object_mac_verify_block(om, 0, 8, bytes, &tag), -EBADMSG);
	cr_assert_eq(object_mac_verify_block(om, 1, 9, bytes, &tag), -EBADMSG);
	cr_assert_eq(object_mac_verify_block(other, 0, 9, bytes, &tag), -EBADMSG);
	cr_assert_eq(object_mac_verify_block(om, 0, 9, bytes_of(block, 4095), &tag), -EBADMSG);
	block[2048] ^= 0x10;
	cr_assert_eq(object_mac_verify_block(om, 0, 9, bytes, &tag), -EBADMSG);
	block[2048] ^= 0x10;
	cr_assert_eq(object_mac_verify_block(om, 0, 9, bytes, &tag), 0);
	object_mac_free(om);
	object_mac_free(other);
	object_mac_free(NULL);
}

Test(crypto_mac, the_whole_binds_length_fragment_and_order_of_blocks)
{
	struct object_mac *om = object_mac_with(1);
	struct object_tag tags[3] = {{.b = {1}}, {.b = {2}}, {.b = {3}}};
	uint64_t len = 2 * OBJECT_BLOCK_BYTES + 5;
	struct digest mac;

	cr_assert_eq(object_mac_whole(om, 0, len, tags, 3, &mac), 0);
	cr_assert_eq(object_mac_verify_whole(om, 0, len, tags, 3, &mac), 0);
	cr_assert_eq(object_mac_verify_whole(om, 1, len, tags, 3, &mac), -EBADMSG);
	cr_assert_eq(object_mac_verify_whole(om, 0, len + 1, tags, 3, &mac), -EBADMSG);
	cr_assert_eq(object_mac_verify_whole(om, 0, len, tags, 2, &mac), -EBADMSG);
	tags[0].b[0] = 2, tags[1].b[0] = 1;
	cr_assert_eq(object_mac_verify_whole(om, 0, len, tags, 3, &mac), -EBADMSG);
	cr_assert_eq(object_mac_whole(om, 0, len, tags, 2, &mac), -EINVAL);
	object_mac_free(om);
}

Test(crypto_mac, a_block_has_one_byte_to_one_mib)
{
	struct object_mac *om = object_mac_with(1);
	uint8_t *big = mem_alloc(OBJECT_BLOCK_BYTES + 1);
	struct object_tag tag;

	cr_assert_eq(object_mac_block(om, 0, 0, bytes_of(big, 0), &tag), -EINVAL);
	cr_assert_eq(object_mac_block(om, 0, 0, bytes_of(big, OBJECT_BLOCK_BYTES), &tag), 0);
	cr_assert_eq(object_mac_block(om, 0, 0, bytes_of(big, OBJECT_BLOCK_BYTES + 1), &tag),
		     -EINVAL);
	mem_free(big);
	object_mac_free(om);
}

Test(crypto_mac, the_self_test_passes)
{
	cr_assert_eq(crypto_init(), 0);
	cr_assert_eq(crypto_self_test(), 0);
}
