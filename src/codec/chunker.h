/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CODEC_CHUNKER_H
#define SHARDFS_CODEC_CHUNKER_H

/*
 * Content-defined boundaries: FastCDC, normalised, over a secret gear table,
 * so that boundaries depend on the key as well as on the bytes.  The same key,
 * sizes and bytes always give the same boundaries, however the bytes arrive.
 *
 * A chunker is immutable: one may serve every thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The gear table: from keyring_derive(..., KEY_CHUNKER, no salt, key, CHUNKER_KEY_BYTES). */
#define CHUNKER_KEY_BYTES ((size_t)2048)

struct chunker_params {
	uint32_t min_bytes; /* 256 .. avg_bytes / 2 */
	uint32_t avg_bytes; /* 1 KiB .. 8 MiB, a power of two */
	uint32_t max_bytes; /* avg_bytes * 2 .. 16 MiB */
};
#define CHUNKER_PARAMS_DEFAULT                                                                     \
	((struct chunker_params){                                                                  \
		.min_bytes = 64 << 10, .avg_bytes = 256 << 10, .max_bytes = 1 << 20})

struct chunker;
/* 0; -EINVAL params out of range; -ENOMEM. */
int chunker_new(const struct chunker_params *params, const uint8_t *key, struct chunker **out);
void chunker_free(struct chunker *chunker); /* accepts NULL; wipes the table */
struct chunker_params chunker_get_params(const struct chunker *chunker);

/*
 * chunker_next - length of the chunk that starts at p.
 * @len:    bytes at hand; more than max_bytes are not looked at.
 * @is_end: nothing follows these bytes.
 *
 * Returns 1 .. min(len, max_bytes); or 0 when the boundary cannot be known yet
 * (only if !is_end and len < max_bytes), or when len is 0.
 */
size_t chunker_next(const struct chunker *chunker, const uint8_t *p, size_t len, bool is_end);

/*
 * The same when bytes come bit by bit: after a 0, call again with the same
 * start and more bytes; those already seen are not scanned again.  The scan is
 * back at its initial state whenever a length was returned.
 */
struct chunker_scan {
	size_t scanned;
	uint64_t hash;
};
#define CHUNKER_SCAN_INIT {0}
size_t chunker_scan_next(const struct chunker *chunker, struct chunker_scan *scan,
			 const uint8_t *p, size_t len, bool is_end);

#endif
