/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/compress.h"

#include "util/mem.h"

#include <errno.h>
#include <stdbool.h>
#include <zstd.h>

/*
 * Three steps, each only if the one before could not decide:
 *
 * 1. A histogram of 4 KiB sampled over the chunk.  The sum of squared counts
 *    says how uneven bytes are; if clearly uneven, zstd gets the chunk.
 * 2. Even bytes can still repeat, so three samples of 8 KiB are tried at the
 *    fastest level.  Only if none shrinks to 97 % the chunk is kept raw.
 * 3. zstd itself, into a buffer of 97 % of the source: if it does not fit, raw.
 *
 * Frames carry the content size and no checksum (the seal authenticates), and
 * unpack checks the size before it lets zstd write.
 */

enum {
	SAMPLE_PIECES = 32,
	SAMPLE_PIECE_BYTES = 128,
	SAMPLE_BYTES = SAMPLE_PIECES * SAMPLE_PIECE_BYTES,
	TRIAL_PIECES = 3,
	TRIAL_BYTES = 8 * 1024,
	PROBE_BYTES_MIN = 32 * 1024, /* smaller chunks: zstd costs no more than probing */
	TRIAL_LEVEL = -5,
};

struct compress_ctx {
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
	int level; /* set in pack */
	uint8_t trial[TRIAL_BYTES];
};

int compress_ctx_new(struct compress_ctx **out)
{
	struct compress_ctx *ctx = mem_alloc(sizeof(*ctx));

	if (!ctx)
		return -ENOMEM;
	ctx->pack = ZSTD_createCCtx();
	ctx->unpack = ZSTD_createDCtx();
	if (!ctx->pack || !ctx->unpack) {
		compress_ctx_free(ctx);
		return -ENOMEM;
	}
	*out = ctx;
	return 0;
}

void compress_ctx_free(struct compress_ctx *ctx)
{
	if (!ctx)
		return;
	ZSTD_freeCCtx(ctx->pack);
	ZSTD_freeDCtx(ctx->unpack);
	mem_free(ctx);
}

/* At most this many bytes are worth it. */
static size_t worthwhile(size_t len)
{
	return len - len / 32 - 1;
}

/*
 * Clearly uneven bytes?  For even ones the sum of squares of n = 4096 is near
 * n * n / 256; n * n / 194 is 7.6 bits for each byte (collision entropy), which
 * also holds what is already compressed with some structure, such as JPEG.
 */
static bool is_uneven(struct bytes src)
{
	uint16_t counts[4][256] = {{0}};
	size_t stride = (src.len - SAMPLE_PIECE_BYTES) / (SAMPLE_PIECES - 1);
	uint64_t squares = 0;

	for (size_t piece = 0; piece < SAMPLE_PIECES; piece++) {
		const uint8_t *p = src.ptr + piece * stride;

		for (size_t i = 0; i < SAMPLE_PIECE_BYTES; i++)
			counts[i & 3][p[i]]++;
	}
	for (size_t i = 0; i < 256; i++) {
		uint64_t count = 0;

		for (size_t way = 0; way < 4; way++)
			count += counts[way][i];
		squares += count * count;
	}
	return squares * 194 > (uint64_t)SAMPLE_BYTES * SAMPLE_BYTES;
}

static bool set_level(struct compress_ctx *ctx, int level)
{
	bool is_fast = level == COMPRESS_LEVEL_FAST;
	/* 0: as the level has it */
	struct {
		ZSTD_cParameter parameter;
		int value;
	} wanted[] = {{ZSTD_c_compressionLevel, is_fast ? 1 : level},
		      {ZSTD_c_hashLog, is_fast ? 12 : 0},
		      {ZSTD_c_minMatch, is_fast ? 7 : 0}};

	if (ctx->level == level)
		return true;
	ctx->level = 0;
	for (size_t i = 0; i < ARRAY_COUNT(wanted); i++)
		if (ZSTD_isError(ZSTD_CCtx_setParameter(ctx->pack, wanted[i].parameter,
							wanted[i].value)))
			return false;
	ctx->level = level;
	return true;
}

/* Does any of a few samples shrink? */
static bool trial_shrinks(struct compress_ctx *ctx, struct bytes src)
{
	size_t stride = (src.len - TRIAL_BYTES) / (TRIAL_PIECES - 1);

	if (!set_level(ctx, TRIAL_LEVEL))
		return true;
	for (size_t i = 0; i < TRIAL_PIECES; i++) {
		size_t n = ZSTD_compress2(ctx->pack, ctx->trial, worthwhile(TRIAL_BYTES),
					  src.ptr + i * stride, TRIAL_BYTES);

		if (!ZSTD_isError(n))
			return true;
	}
	return false;
}

int compress_pack(struct compress_ctx *ctx, int level, struct bytes src, uint8_t *scratch,
		  struct bytes *packed, enum compress_kind *kind)
{
	bool is_worth;
	size_t n;

	if (src.len == 0 || src.len > COMPRESS_BYTES_MAX || level < COMPRESS_LEVEL_MIN ||
	    level > COMPRESS_LEVEL_MAX)
		return -EINVAL;
	is_worth = level != 0 &&
		   (src.len < PROBE_BYTES_MIN || is_uneven(src) || trial_shrinks(ctx, src));
	if (is_worth) {
		if (!set_level(ctx, level))
			return -ENOMEM;
		n = ZSTD_compress2(ctx->pack, scratch, worthwhile(src.len), src.ptr, src.len);
		if (!ZSTD_isError(n)) {
			*packed = bytes_of(scratch, n);
			*kind = COMPRESS_ZSTD;
			return 0;
		}
	}
	*packed = src;
	*kind = COMPRESS_RAW;
	return 0;
}

int compress_unpack(struct compress_ctx *ctx, unsigned kind, struct bytes packed, uint8_t *out,
		    size_t len)
{
	size_t n;

	if (len == 0 || len > COMPRESS_BYTES_MAX || packed.len == 0)
		return -EBADMSG;
	if (kind == COMPRESS_RAW) {
		if (packed.len != len)
			return -EBADMSG;
		memcpy(out, packed.ptr, len);
		return 0;
	}
	/* Exactly one frame, which says that it holds len bytes. */
	if (kind != COMPRESS_ZSTD || packed.len > len ||
	    ZSTD_getFrameContentSize(packed.ptr, packed.len) != len ||
	    ZSTD_findFrameCompressedSize(packed.ptr, packed.len) != packed.len)
		return -EBADMSG;
	n = ZSTD_decompressDCtx(ctx->unpack, out, len, packed.ptr, packed.len);
	return n == len ? 0 : -EBADMSG;
}
