/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_WIRE_H
#define SHARDFS_UTIL_WIRE_H

/*
 * Little-endian get and put, length-checked.  Stored formats are written
 * field by field with these, never as a struct.
 *
 * A reader remembers the first failure: read all fields, then ask
 * wire_reader_end() once.  After a failure every get returns zeros.
 */

#include "util/buf.h"

#include <stdbool.h>

struct wire_reader {
	const uint8_t *ptr, *end;
	bool is_bad;
};

struct wire_reader wire_reader_of(struct bytes src);
uint8_t wire_get_u8(struct wire_reader *r);
uint16_t wire_get_u16(struct wire_reader *r);
uint32_t wire_get_u32(struct wire_reader *r);
uint64_t wire_get_u64(struct wire_reader *r);
int64_t wire_get_i64(struct wire_reader *r);
uint64_t wire_get_varint(struct wire_reader *r); /* LEB128, at most 10 bytes, shortest form only */
void wire_get_raw(struct wire_reader *r, void *out, size_t len);
struct bytes wire_get_view(struct wire_reader *r, size_t len); /* borrowed from src */
/* varint length, then the bytes; more than len_max is a failure. */
struct bytes wire_get_blob(struct wire_reader *r, size_t len_max);
size_t wire_left(const struct wire_reader *r);
int wire_reader_end(const struct wire_reader *r);  /* 0: all read, nothing left; else -EBADMSG */
int wire_reader_check(const struct wire_reader *r); /* 0 or -EBADMSG; bytes may be left */

/* Puts append to buf: 0 or -ENOMEM.  Fixed-size puts into memory that the caller has checked. */
int wire_put_u8(struct buf *buf, uint8_t v);
int wire_put_u16(struct buf *buf, uint16_t v);
int wire_put_u32(struct buf *buf, uint32_t v);
int wire_put_u64(struct buf *buf, uint64_t v);
int wire_put_i64(struct buf *buf, int64_t v);
int wire_put_varint(struct buf *buf, uint64_t v);
int wire_put_raw(struct buf *buf, const void *ptr, size_t len);
int wire_put_blob(struct buf *buf, struct bytes blob); /* varint length, bytes */

void wire_store_u32(uint8_t *out, uint32_t v);
void wire_store_u64(uint8_t *out, uint64_t v);
uint32_t wire_load_u32(const uint8_t *in);
uint64_t wire_load_u64(const uint8_t *in);

#endif
