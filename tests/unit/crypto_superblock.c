/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/superblock.h"
#include "util/mem.h"
#include "util/wire.h"

#include <criterion/criterion.h>
#include <errno.h>

static struct superblock sample(void)
{
	struct superblock sb = {
		.version = 1,
		.fs_id = {{1, 2, 3}},
		.revision = 77,
		.created_s = -5,
		.chunk_min_bytes = 256,
		.chunk_avg_bytes = 1024,
		.chunk_max_bytes = 2048,
		.current_epoch = 9,
		.slot_count = 2,
		.epoch_count = 2,
		.extension_len = 3,
		.extension = "ext",
	};

	for (uint32_t i = 0; i < 2; i++) {
		sb.slots[i] = (struct key_slot){.slot_no = 3 + i,
						.factors = (uint8_t)(1 + i),
						.kdf = KDF_PARAMS_DEFAULT,
						.created_s = 1700000000,
						.label = "label",
						.salt = {(uint8_t)i}};
		sb.epochs[i] = (struct key_epoch){.epoch = 8 + i,
						  .state = i ? KEY_EPOCH_LIVE : KEY_EPOCH_DESTROYED,
						  .created_s = 1,
						  .salt = {(uint8_t)i}};
	}
	return sb;
}

static void encode(const struct superblock *sb, struct buf *out)
{
	cr_assert_eq(superblock_encode_body(sb, out), 0);
	cr_assert_eq(wire_put_raw(out, sb->mac, sizeof(sb->mac)), 0);
}

static int reparse(const struct superblock *sb)
{
	AUTO(buf) bytes = BUF_INIT;
	struct superblock out;

	encode(sb, &bytes);
	return superblock_parse(buf_bytes(&bytes), &out);
}

Test(crypto_superblock, what_was_encoded_is_parsed_and_encoded_alike)
{
	AUTO(buf) bytes = BUF_INIT, again = BUF_INIT;
	struct superblock sb = sample(), out;

	encode(&sb, &bytes);
	cr_assert_eq(bytes.len, 88 + 2 * 208 + 2 * 96 + 3 + 32);
	cr_assert_eq(superblock_parse(buf_bytes(&bytes), &out), 0);
	encode(&out, &again);
	cr_assert_eq(again.len, bytes.len);
	cr_assert_arr_eq(again.ptr, bytes.ptr, bytes.len);
	cr_assert_eq(out.created_s, -5);
	cr_assert_eq(superblock_find_slot(&out, 4)->factors, 2);
	cr_assert_null(superblock_find_slot(&out, 5));
	cr_assert_eq(superblock_find_epoch(&out, 9)->state, KEY_EPOCH_LIVE);
	cr_assert_null(superblock_find_epoch(&out, 1));
}

Test(crypto_superblock, the_offsets_are_those_of_the_format)
{
	AUTO(buf) bytes = BUF_INIT;
	struct superblock sb = sample();

	encode(&sb, &bytes);
	cr_assert_arr_eq(bytes.ptr, "SHARDFSB", 8);
	cr_assert_eq(wire_load_u32(bytes.ptr + 8), 1);
	cr_assert_eq(wire_load_u32(bytes.ptr + 12), bytes.len);
	cr_assert_eq(bytes.ptr[32], 1);
	cr_assert_eq(wire_load_u64(bytes.ptr + 48), 77);
	cr_assert_eq(wire_load_u32(bytes.ptr + 64), 256);
	cr_assert_eq(wire_load_u32(bytes.ptr + 76), 9);
	cr_assert_eq(wire_load_u32(bytes.ptr + 88), 3);
	cr_assert_eq(wire_load_u32(bytes.ptr + 88 + 208), 4);
	cr_assert_eq(wire_load_u32(bytes.ptr + 88 + 2 * 208), 8);
	cr_assert_arr_eq(bytes.ptr + 88 + 2 * 208 + 2 * 96, "ext", 3);
}

Test(crypto_superblock, every_cut_is_damage)
{
	AUTO(buf) bytes = BUF_INIT;
	struct superblock sb = sample(), out;

	encode(&sb, &bytes);
	for (size_t len = 0; len < bytes.len; len++)
		cr_assert_eq(superblock_parse(bytes_of(bytes.ptr, len), &out), -EBADMSG);
	cr_assert_eq(buf_append_zeros(&bytes, 1), 0);
	cr_assert_eq(superblock_parse(buf_bytes(&bytes), &out), -EBADMSG);
}

Test(crypto_superblock, a_newer_version_or_unknown_feature_is_told_from_damage)
{
	struct superblock sb = sample();

	sb.version = 2;
	cr_assert_eq(reparse(&sb), -EPROTONOSUPPORT);
	sb = sample();
	sb.incompat = (uint64_t)1 << 40;
	cr_assert_eq(reparse(&sb), -EPROTONOSUPPORT);
	sb = sample();
	sb.compat = (uint64_t)1 << 40;
	cr_assert_eq(reparse(&sb), 0);
	sb.version = 0;
	cr_assert_eq(reparse(&sb), -EBADMSG);
}

Test(crypto_superblock, each_field_out_of_its_range_is_damage)
{
	struct superblock sb;

#define CHECK_BAD(change) \
	sb = sample();    \
	change;           \
	cr_assert_eq(reparse(&sb), -EBADMSG, #change)
	CHECK_BAD(sb.epoch_count = 0);
	CHECK_BAD(sb.current_epoch = 8); /* destroyed */
	CHECK_BAD(sb.current_epoch = 7);
	CHECK_BAD(sb.chunk_min_bytes = 255);
	CHECK_BAD(sb.chunk_avg_bytes = 1500);
	CHECK_BAD(sb.chunk_max_bytes = 17 << 20);
	CHECK_BAD(sb.slots[0].slot_no = 4);
	CHECK_BAD(sb.slots[0].factors = 0);
	CHECK_BAD(sb.slots[0].factors = 4);
	CHECK_BAD(sb.slots[0].kdf.log2_n = 0);
	CHECK_BAD(sb.slots[0].kdf.log2_n = 23);
	CHECK_BAD(sb.slots[0].kdf.r = 0);
	CHECK_BAD(sb.slots[0].kdf.p = 17);
	CHECK_BAD((sb.slots[0].kdf.log2_n = 22, sb.slots[0].kdf.r = 8)); /* 4 GiB */
	CHECK_BAD(sb.slots[0].label[20] = 'x');
	CHECK_BAD(sb.epochs[0].epoch = 0);
	CHECK_BAD(sb.epochs[0].epoch = 9);
	CHECK_BAD(sb.epochs[0].state = 3);
	CHECK_BAD(sb.epochs[0].salt[5] = 1); /* a destroyed one keeps nothing */
	CHECK_BAD(sb.epochs[0].sealed_master[5] = 1);
}

Test(crypto_superblock, nothing_hides_in_unused_bytes)
{
	AUTO(buf) bytes = BUF_INIT;
	struct superblock sb = sample(), out;
	static const size_t unused[] = {88 + 7, 88 + 168, 88 + 207, 88 + 2 * 208 + 5};

	encode(&sb, &bytes);
	for (size_t i = 0; i < ARRAY_COUNT(unused); i++) {
		bytes.ptr[unused[i]] = 1;
		cr_assert_eq(superblock_parse(buf_bytes(&bytes), &out), -EBADMSG);
		bytes.ptr[unused[i]] = 0;
	}
	cr_assert_eq(superblock_parse(buf_bytes(&bytes), &out), 0);
}
