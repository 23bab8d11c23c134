/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CODEC_ERASURE_H
#define SHARDFS_CODEC_ERASURE_H

/*
 * k data and m parity fragments of equal length, systematic, Cauchy matrix
 * over GF(2^8): any k of the k+m fragments give all others.  Fragments
 * 0 .. k-1 are data, k .. k+m-1 parity.  An erasure is immutable: one may
 * serve every thread.
 */

#include <stddef.h>
#include <stdint.h>

#define ERASURE_DATA_MAX   32u
#define ERASURE_PARITY_MAX 16u
#define ERASURE_LEN_MAX    ((size_t)1 << 30) /* of one fragment */

struct erasure;
int erasure_new(unsigned k, unsigned m, struct erasure **out); /* -EINVAL out of range; -ENOMEM */
void erasure_free(struct erasure *erasure);                    /* accepts NULL */

/* Fills parity[0 .. m-1] from data[0 .. k-1], each of len bytes (1 .. ERASURE_LEN_MAX; -EINVAL). */
int erasure_encode(const struct erasure *erasure, size_t len, const uint8_t *const *data,
		   uint8_t *const *parity);

/*
 * erasure_rebuild - make missing fragments out of present ones.
 * @present:   bit i: fragments[i] holds fragment i.  At least k (-ENODATA).
 * @wanted:    bit i: fill fragments[i]; bits also in present are ignored.
 * @fragments: k+m pointers of len bytes each; those neither present nor wanted may be NULL.
 * 0; -EINVAL a bit beyond k+m or a bad len; -ENODATA; -ENOMEM.
 */
int erasure_rebuild(const struct erasure *erasure, size_t len, uint64_t present, uint64_t wanted,
		    uint8_t *const *fragments);

/* Bytes of each fragment for an object of len bytes: ceil(len / k), at least 1. */
size_t erasure_fragment_len(const struct erasure *erasure, size_t len);

#endif
