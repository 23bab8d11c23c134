/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CODEC_COMPRESS_H
#define SHARDFS_CODEC_COMPRESS_H

/*
 * zstd for one chunk, with contexts that are reused.  What does not shrink to
 * 97 % is kept raw; a probe recognises most such chunks before zstd is run.
 * A context belongs to one thread at a time.
 */

#include "util/buf.h"

#include <stddef.h>
#include <stdint.h>

#define COMPRESS_LEVEL_MIN     (-5)
#define COMPRESS_LEVEL_MAX     20
#define COMPRESS_LEVEL_DEFAULT 1
/* zstd's level 1 with a table that stays in the first-level cache (4096 places) and matches of at
 * least 7 bytes: shrinks as much as level -1 or more, and is faster than both (measured on sources,
 * libraries, documents and half-random bytes: 0.211 0.413 0.606 0.583 of the bytes are left, against
 * 0.225 0.422 0.607 0.589; 404 399 503 552 MB/s against 396 339 538 429). */
#define COMPRESS_LEVEL_FAST    20
#define COMPRESS_BYTES_MAX     ((size_t)16 << 20) /* of one plain chunk (CHUNK_BYTES_MAX) */

enum compress_kind { COMPRESS_RAW = 0, COMPRESS_ZSTD = 1 }; /* stored in records: never renumber */

struct compress_ctx;
int compress_ctx_new(struct compress_ctx **out); /* -ENOMEM */
void compress_ctx_free(struct compress_ctx *ctx); /* accepts NULL */

/*
 * compress_pack - make src smaller if that is worth it.
 * @level:   COMPRESS_LEVEL_MIN .. COMPRESS_LEVEL_MAX; 0 never compresses.
 * @src:     1 .. COMPRESS_BYTES_MAX bytes (-EINVAL).
 * @scratch: at least src.len bytes, overwritten; must not overlap src.
 * @packed:  borrowed: within scratch (COMPRESS_ZSTD), or src itself (COMPRESS_RAW).
 * 0; -EINVAL; -ENOMEM.
 */
int compress_pack(struct compress_ctx *ctx, int level, struct bytes src, uint8_t *scratch,
		  struct bytes *packed, enum compress_kind *kind);

/*
 * compress_unpack - the plain bytes again.
 * @kind:   as stored; foreign.
 * @packed: foreign bytes; no size in them is believed.
 * @len:    exact plain length, 1 .. COMPRESS_BYTES_MAX.
 * @out:    len bytes; must not overlap packed.
 * 0; -EBADMSG anything is off (out is then undefined); -ENOMEM.
 */
int compress_unpack(struct compress_ctx *ctx, unsigned kind, struct bytes packed, uint8_t *out,
		    size_t len);

#endif
