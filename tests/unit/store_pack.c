/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/pack_sample.h"
#include "tests/lib/rng.h"
#include "util/file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

DEFINE_FREEP(aead_ctx)
#define COUNT 3
#define LEN   40

static void make(struct aead_ctx *ctx, struct buf *object, struct pack_entry entries[COUNT])
{
	cr_assert_eq(sample_object(ctx, COUNT, LEN, object, entries), 0);
}

static int verify(struct aead_ctx *ctx, struct bytes object)
{
	AUTO(pack_footer) footer = PACK_FOOTER_INIT;
	struct pack_keys keys = sample_keys();

	return pack_verify(ctx, &keys, object, &footer);
}

Test(store_pack, a_finished_object_verifies_and_tells_what_is_in_it)
{
	AUTO_PTR(aead_ctx) ctx = NULL;
	AUTO(buf) object = BUF_INIT;
	AUTO(pack_footer) footer = PACK_FOOTER_INIT;
	struct pack_entry entries[COUNT];
	struct pack_keys keys = sample_keys();
	uint8_t mac[32];

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	make(ctx, &object, entries);
	cr_assert_eq(pack_verify(ctx, &keys, buf_bytes(&object), &footer), 0);
	cr_assert_eq(footer.entry_count, COUNT);
	cr_assert_eq(footer.shard.shard_no, 77);
	cr_assert_eq(footer.shard.policy_root, 9);
	cr_assert_eq(footer.shard.priority, 2);
	cr_assert_eq(footer.shard.writer_epoch, 5);
	cr_assert_eq(footer.shard.sealed_sec, 1700000000);
	cr_assert_eq(footer.shard.object_len, object.len);
	cr_assert_eq(footer.shard.state, SHARD_SEALED);
	for (uint32_t i = 0; i < COUNT; i++) {
		cr_assert(chunk_id_is_equal(&footer.entries[i].id, &entries[i].id));
		cr_assert_eq(footer.entries[i].off, entries[i].off);
		cr_assert_eq(footer.entries[i].stored_len, entries[i].stored_len);
		cr_assert_eq(footer.entries[i].raw_len, LEN);
	}
	cr_assert_eq(object.len, pack_object_len(entries[2].off + entries[2].stored_len, COUNT));
	cr_assert_eq(pack_tail_read(bytes_of(object.ptr + object.len - PACK_TAIL_LEN,
					     PACK_TAIL_LEN), object.len, mac), 0);
	cr_assert_arr_eq(mac, footer.shard.mac, sizeof(mac));
}

Test(store_pack, records_open_by_themselves_and_only_in_their_place)
{
	AUTO_PTR(aead_ctx) ctx = NULL;
	AUTO(buf) object = BUF_INIT;
	struct pack_entry entries[COUNT];
	struct pack_keys keys = sample_keys(), other = sample_keys();
	struct pack_record record;
	uint8_t plain[LEN + PACK_RECORD_PREFIX], expected[LEN];

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	make(ctx, &object, entries);
	other.id.b[3] ^= 1;
	for (uint32_t i = 0; i < COUNT; i++) {
		struct bytes sealed =
			bytes_of(object.ptr + entries[i].off, entries[i].stored_len);

		cr_assert_eq(pack_open_record(ctx, &keys, i, sealed, plain, &record), 0);
		sample_fill(expected, LEN, (uint8_t)(3 * i));
		cr_assert_eq(record.raw_len, LEN);
		cr_assert_eq(record.payload.len, LEN);
		cr_assert_arr_eq(record.payload.ptr, expected, LEN);
		cr_assert(chunk_id_is_equal(&record.id, &entries[i].id));
		cr_assert_eq(pack_open_record(ctx, &keys, i + 1, sealed, plain, &record), -EBADMSG);
		cr_assert_eq(pack_open_record(ctx, &other, i, sealed, plain, &record), -EBADMSG);
	}
}

Test(store_pack, every_flipped_bit_is_noticed, .timeout = 120)
{
	AUTO_PTR(aead_ctx) ctx = NULL;
	AUTO(buf) object = BUF_INIT;
	struct pack_entry entries[COUNT];

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	make(ctx, &object, entries);
	for (size_t bit = 0; bit < object.len * 8; bit++) {
		object.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_lt(verify(ctx, buf_bytes(&object)), 0, "bit %zu", bit);
		object.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	cr_assert_eq(verify(ctx, buf_bytes(&object)), 0);
}

Test(store_pack, every_other_length_is_noticed)
{
	AUTO_PTR(aead_ctx) ctx = NULL;
	AUTO(buf) object = BUF_INIT;
	struct pack_entry entries[COUNT];
	size_t len;

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	make(ctx, &object, entries);
	len = object.len;
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_lt(verify(ctx, bytes_of(object.ptr, cut)), 0, "cut to %zu", cut);
	cr_assert_eq(buf_append_zeros(&object, 200), 0);
	for (size_t more = 1; more <= 200; more++)
		cr_assert_lt(verify(ctx, bytes_of(object.ptr, len + more)), 0, "%zu more", more);
}

/* Larger ones, where blocks of a MiB end inside records, footer and padding. */
Test(store_pack, any_damage_of_a_large_object_is_noticed, .timeout = 120)
{
	struct rng rng = rng_new();
	AUTO_PTR(aead_ctx) ctx = NULL;

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	for (unsigned round = 0; round < 6; round++) {
		AUTO(buf) object = BUF_INIT;
		uint32_t count = 1 + (uint32_t)rng_below(&rng, 30);
		uint32_t len = 1 + (uint32_t)rng_below(&rng, 200000);
		struct pack_entry *entries = mem_alloc_array(count, sizeof(*entries));

		cr_assert_eq(sample_object(ctx, count, len, &object, entries), 0);
		mem_free(entries);
		cr_assert_eq(verify(ctx, buf_bytes(&object)), 0);
		for (unsigned i = 0; i < 24; i++) {
			size_t at = rng_below(&rng, object.len);
			uint8_t mask = (uint8_t)(1u << rng_below(&rng, 8));

			object.ptr[at] ^= mask;
			cr_assert_lt(verify(ctx, buf_bytes(&object)), 0, "byte %zu", at);
			object.ptr[at] ^= mask;
			cr_assert_lt(verify(ctx, bytes_of(object.ptr, at)), 0, "cut to %zu", at);
		}
	}
}

Test(store_pack, lengths_are_padded_by_at_most_an_eighth)
{
	static const uint64_t known[][2] = {{0, 0}, {1, 1}, {2, 2}, {9, 10}, {100, 104},
					    {1000, 1024}, {1025, 1088}, {1000000, 1015808},
					    {(16 << 20) + 1, 17301504}};
	struct rng rng = rng_new();

	for (size_t i = 0; i < ARRAY_COUNT(known); i++)
		cr_assert_eq(pack_padded_len(known[i][0]), known[i][1], "%llu -> %llu",
			     (unsigned long long)known[i][0],
			     (unsigned long long)pack_padded_len(known[i][0]));
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t len = rng_any_size(&rng) >> 2, padded = pack_padded_len(len);

		cr_assert(padded >= len && padded - len <= len / 8 + 1);
		cr_assert_eq(pack_padded_len(padded), padded);
	}
}

/* Neither the length nor any plain byte tells where the records end. */
Test(store_pack, sizes_that_pad_alike_look_alike)
{
	AUTO_PTR(aead_ctx) ctx = NULL;
	AUTO(buf) a = BUF_INIT;
	AUTO(buf) b = BUF_INIT;
	struct pack_entry entries[1];

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	cr_assert_eq(sample_object(ctx, 1, 100000, &a, entries), 0);
	cr_assert_eq(sample_object(ctx, 1, 100001, &b, entries), 0);
	cr_assert_eq(a.len, b.len);
	cr_assert_arr_eq(a.ptr, b.ptr, PACK_HEADER_LEN);
	cr_assert_arr_eq(a.ptr + a.len - 44, b.ptr + b.len - 44, 4); /* count of blocks */
	for (size_t i = PACK_HEADER_LEN; i + 32 < a.len; i++)
		cr_assert(memcmp(a.ptr + i, (uint8_t[32]){0}, 32) != 0, "zeros at %zu", i);
}

Test(store_pack, a_newer_version_is_told_apart_from_damage)
{
	AUTO_PTR(aead_ctx) ctx = NULL;
	AUTO(buf) object = BUF_INIT;
	struct pack_entry entries[COUNT];
	struct shard_id id;
	struct fs_id fs_id;
	uint32_t epoch;

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	make(ctx, &object, entries);
	cr_assert_eq(pack_header_read(buf_bytes(&object), &id, &epoch, &fs_id), 0);
	cr_assert_eq(epoch, 3);
	cr_assert_eq(id.b[0], 0x10);
	cr_assert_eq(fs_id.b[0], 0x50);
	object.ptr[8] = PACK_VERSION + 1;
	cr_assert_eq(verify(ctx, buf_bytes(&object)), -EPROTONOSUPPORT);
	object.ptr[0] ^= 1;
	cr_assert_eq(verify(ctx, buf_bytes(&object)), -EBADMSG);
}

Test(store_pack, sizes_out_of_range_are_refused)
{
	AUTO_PTR(aead_ctx) ctx = NULL;
	struct pack_keys keys = sample_keys();
	struct chunk_id id = {{1}};
	uint8_t out[100];

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	cr_assert_eq(pack_seal_record(ctx, &keys, 0, &id, 0, 0, bytes_of("a", 1), out), -EINVAL);
	cr_assert_eq(pack_seal_record(ctx, &keys, 0, &id, 0, 1, bytes_of("a", 0), out), -EINVAL);
	cr_assert_eq(pack_seal_record(ctx, &keys, 0, &id, 0, (uint32_t)CHUNK_BYTES_MAX + 1,
				      bytes_of("a", 1), out), -EINVAL);
}

/* The bytes of version 1, for ever.  SHARDFS_WRITE_GOLDEN=1 writes the file anew. */
Test(store_pack, the_stored_format_does_not_change)
{
	AUTO_PTR(aead_ctx) ctx = NULL;
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) golden = BUF_INIT;
	struct pack_entry entries[COUNT];
	char path[4096];
	AUTO_FD fd = -1;

	cr_assert_eq(aead_ctx_new(&ctx), 0);
	make(ctx, &object, entries);
	snprintf(path, sizeof(path), "%s/tests/golden/shard-1", getenv("SHARDFS_SRCDIR"));
	if (getenv("SHARDFS_WRITE_GOLDEN")) {
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		cr_assert_eq(file_pwrite(fd, buf_bytes(&object), 0), 0);
	} else {
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_eq(file_pread_buf(fd, object.len, 0, &golden), 0);
	cr_assert_arr_eq(golden.ptr, object.ptr, object.len);
	cr_assert_eq(file_pread(fd, path, 1, object.len), -ENODATA);
	cr_assert_eq(verify(ctx, buf_bytes(&golden)), 0);
}
