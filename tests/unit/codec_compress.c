/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/compress.h"
#include "tests/lib/rng.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>

static struct compress_ctx *new_ctx(void)
{
	struct compress_ctx *ctx;

	cr_assert_eq(compress_ctx_new(&ctx), 0);
	return ctx;
}

/* There and back; says how it was kept. */
static enum compress_kind round_trip(struct compress_ctx *ctx, int level, struct bytes src)
{
	uint8_t *scratch = mem_alloc(src.len), *out = mem_alloc(src.len);
	enum compress_kind kind;
	struct bytes packed;

	cr_assert_eq(compress_pack(ctx, level, src, scratch, &packed, &kind), 0);
	if (kind == COMPRESS_RAW) {
		cr_assert_eq(packed.ptr, src.ptr);
		cr_assert_eq(packed.len, src.len);
	} else {
		cr_assert(packed.ptr == scratch && packed.len < src.len - src.len / 32);
	}
	cr_assert_eq(compress_unpack(ctx, kind, packed, out, src.len), 0);
	cr_assert(memcmp(out, src.ptr, src.len) == 0);
	mem_free(scratch);
	mem_free(out);
	return kind;
}

static void fill_text(uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t) "it was a dark and stormy night, and "[(i + i / 1000) % 36];
}

Test(codec_compress, every_level_gives_the_bytes_back)
{
	struct compress_ctx *ctx = new_ctx();
	uint8_t data[100000];

	fill_text(data, sizeof(data));
	for (int level = COMPRESS_LEVEL_MIN; level <= COMPRESS_LEVEL_MAX; level++)
		cr_assert_eq(round_trip(ctx, level, bytes_of(data, sizeof(data))),
			     level == 0 ? COMPRESS_RAW : COMPRESS_ZSTD);
	compress_ctx_free(ctx);
	compress_ctx_free(NULL);
}

Test(codec_compress, what_does_not_shrink_is_kept_raw)
{
	struct rng rng = rng_new();
	struct compress_ctx *ctx = new_ctx();
	size_t sizes[] = {1, 2, 31, 32, 33, 1000, 32767, 32768, 32769, 300000, 1 << 20};
	uint8_t *data = mem_alloc(1 << 20);

	rng_fill(&rng, data, 1 << 20);
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++)
		cr_assert_eq(round_trip(ctx, 1, bytes_of(data, sizes[i])), COMPRESS_RAW);
	mem_free(data);
	compress_ctx_free(ctx);
}

/* The probe must not take these for random. */
Test(codec_compress, what_shrinks_is_compressed_whatever_it_looks_like)
{
	enum { LEN = 256 * 1024 };
	struct rng rng = rng_new();
	struct compress_ctx *ctx = new_ctx();
	uint8_t *data = mem_alloc(LEN);

	cr_assert_eq(round_trip(ctx, 1, bytes_of(data, LEN)), COMPRESS_ZSTD); /* zeros */
	rng_fill(&rng, data, LEN / 2);
	cr_assert_eq(round_trip(ctx, 1, bytes_of(data, LEN)), COMPRESS_ZSTD); /* half */
	for (size_t i = 0; i < LEN; i++) /* every value alike often, but in order */
		data[i] = (uint8_t)i;
	cr_assert_eq(round_trip(ctx, 1, bytes_of(data, LEN)), COMPRESS_ZSTD);
	rng_fill(&rng, data, 1024); /* noise that repeats */
	for (size_t i = 1024; i < LEN; i++)
		data[i] = data[i - 1024];
	cr_assert_eq(round_trip(ctx, 1, bytes_of(data, LEN)), COMPRESS_ZSTD);
	for (size_t i = 0; i < LEN; i++) /* base64-like: 6 bits for each byte */
		data[i] = (uint8_t)(32 + rng_below(&rng, 64));
	cr_assert_eq(round_trip(ctx, 1, bytes_of(data, LEN)), COMPRESS_ZSTD);
	mem_free(data);
	compress_ctx_free(ctx);
}

Test(codec_compress, any_data_of_any_size_comes_back)
{
	struct rng rng = rng_new();
	struct compress_ctx *ctx = new_ctx();
	uint8_t *data = mem_alloc(200000);

	for (unsigned i = 0; i < 200; i++) {
		size_t len = 1 + rng_below(&rng, 200000), noise = rng_below(&rng, len + 1);

		fill_text(data, len);
		rng_fill(&rng, data + rng_below(&rng, len - noise + 1), noise);
		round_trip(ctx, (int)rng_below(&rng, 9) - 5, bytes_of(data, len));
	}
	mem_free(data);
	compress_ctx_free(ctx);
}

Test(codec_compress, arguments_out_of_range_are_refused)
{
	struct compress_ctx *ctx = new_ctx();
	uint8_t byte = 1, out;
	enum compress_kind kind;
	struct bytes packed;

	cr_assert_eq(compress_pack(ctx, 1, bytes_of(&byte, 0), &out, &packed, &kind), -EINVAL);
	cr_assert_eq(compress_pack(ctx, 21, bytes_of(&byte, 1), &out, &packed, &kind), -EINVAL);
	cr_assert_eq(compress_pack(ctx, -6, bytes_of(&byte, 1), &out, &packed, &kind), -EINVAL);
	cr_assert_eq(compress_pack(ctx, 1, bytes_of(&byte, COMPRESS_BYTES_MAX + 1), &out, &packed,
				   &kind),
		     -EINVAL);
	compress_ctx_free(ctx);
}

Test(codec_compress, anything_off_is_damage_and_nothing_is_written_beyond_the_size)
{
	struct compress_ctx *ctx = new_ctx();
	uint8_t data[5000], scratch[5000], twice[2 * 5000], out[5001];
	enum compress_kind kind;
	struct bytes packed;

	fill_text(data, sizeof(data));
	cr_assert_eq(compress_pack(ctx, 3, bytes_of(data, 5000), scratch, &packed, &kind), 0);
	cr_assert_eq(kind, COMPRESS_ZSTD);
	out[5000] = 0x5a;
	cr_assert_eq(compress_unpack(ctx, kind, packed, out, 4999), -EBADMSG);
	cr_assert_eq(compress_unpack(ctx, kind, packed, out, 5001), -EBADMSG);
	cr_assert_eq(compress_unpack(ctx, kind, packed, out, 0), -EBADMSG);
	cr_assert_eq(compress_unpack(ctx, kind, packed, out, COMPRESS_BYTES_MAX + 1), -EBADMSG);
	cr_assert_eq(compress_unpack(ctx, 2, packed, out, 5000), -EBADMSG);
	cr_assert_eq(compress_unpack(ctx, COMPRESS_RAW, packed, out, 5000), -EBADMSG);
	for (size_t len = 0; len < packed.len; len++)
		cr_assert_eq(compress_unpack(ctx, kind, bytes_of(packed.ptr, len), out, 5000),
			     -EBADMSG);
	memcpy(twice, packed.ptr, packed.len);
	memcpy(twice + packed.len, packed.ptr, packed.len);
	cr_assert_eq(compress_unpack(ctx, kind, bytes_of(twice, packed.len + 1), out, 5000),
		     -EBADMSG);
	cr_assert_eq(compress_unpack(ctx, kind, bytes_of(twice, 2 * packed.len), out, 5000),
		     -EBADMSG);
	cr_assert_eq(out[5000], 0x5a);
	cr_assert_eq(compress_unpack(ctx, kind, packed, out, 5000), 0);
	compress_ctx_free(ctx);
}
