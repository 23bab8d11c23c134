/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers are put together byte by byte: compilers make one load of it. */
#include "util/wire.h"

#include <errno.h>

#define VARINT_BYTES_MAX 10

struct wire_reader wire_reader_of(struct bytes src)
{
	static const uint8_t nothing[1];
	const uint8_t *ptr = src.ptr != NULL ? src.ptr : nothing;

	return (struct wire_reader){.ptr = ptr, .end = ptr + src.len};
}

/* The next len bytes, or NULL from the first failure on. */
static const uint8_t *take(struct wire_reader *r, size_t len)
{
	const uint8_t *at = r->ptr;

	if (r->is_bad || len > (size_t)(r->end - r->ptr)) {
		r->is_bad = true;
		return NULL;
	}
	r->ptr += len;
	return at;
}

static uint64_t get(struct wire_reader *r, size_t len)
{
	const uint8_t *at = take(r, len);
	uint64_t v = 0;

	for (size_t i = 0; at != NULL && i < len; i++)
		v |= (uint64_t)at[i] << (8 * i);
	return v;
}

uint8_t wire_get_u8(struct wire_reader *r)
{
	return (uint8_t)get(r, 1);
}

uint16_t wire_get_u16(struct wire_reader *r)
{
	return (uint16_t)get(r, 2);
}

uint32_t wire_get_u32(struct wire_reader *r)
{
	return (uint32_t)get(r, 4);
}

uint64_t wire_get_u64(struct wire_reader *r)
{
	return get(r, 8);
}

int64_t wire_get_i64(struct wire_reader *r)
{
	return (int64_t)get(r, 8);
}

uint64_t wire_get_varint(struct wire_reader *r)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
		uint8_t b = wire_get_u8(r);

		if (r->is_bad)
			return 0;
		if (i == VARINT_BYTES_MAX - 1 && b > 1)
			break; /* more than 64 bits */
		v |= (uint64_t)(b & 0x7f) << (7 * i);
		if ((b & 0x80) == 0) {
			if (b == 0 && i > 0)
				break; /* not the shortest form */
			return v;
		}
	}
	r->is_bad = true;
	return 0;
}

void wire_get_raw(struct wire_reader *r, void *out, size_t len)
{
	const uint8_t *at = take(r, len);

	if (len == 0)
		return;
	if (at != NULL)
		memcpy(out, at, len);
	else
		memset(out, 0, len);
}

struct bytes wire_get_view(struct wire_reader *r, size_t len)
{
	const uint8_t *at = take(r, len);

	return bytes_of(at, at != NULL ? len : 0);
}

struct bytes wire_get_blob(struct wire_reader *r, size_t len_max)
{
	uint64_t len = wire_get_varint(r);

	if (len > len_max) {
		r->is_bad = true;
		len = 0;
	}
	return wire_get_view(r, (size_t)len);
}

size_t wire_left(const struct wire_reader *r)
{
	return r->is_bad ? 0 : (size_t)(r->end - r->ptr);
}

int wire_reader_end(const struct wire_reader *r)
{
	return r->is_bad || r->ptr != r->end ? -EBADMSG : 0;
}

int wire_reader_check(const struct wire_reader *r)
{
	return r->is_bad ? -EBADMSG : 0;
}

static int put(struct buf *buf, uint64_t v, size_t len)
{
	uint8_t out[8];

	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(v >> (8 * i));
	return buf_append(buf, bytes_of(out, len));
}

int wire_put_u8(struct buf *buf, uint8_t v)
{
	return put(buf, v, 1);
}

int wire_put_u16(struct buf *buf, uint16_t v)
{
	return put(buf, v, 2);
}

int wire_put_u32(struct buf *buf, uint32_t v)
{
	return put(buf, v, 4);
}

int wire_put_u64(struct buf *buf, uint64_t v)
{
	return put(buf, v, 8);
}

int wire_put_i64(struct buf *buf, int64_t v)
{
	return put(buf, (uint64_t)v, 8);
}

int wire_put_varint(struct buf *buf, uint64_t v)
{
	uint8_t out[VARINT_BYTES_MAX];
	size_t len = 0;

	while (v >= 0x80) {
		out[len++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	out[len++] = (uint8_t)v;
	return buf_append(buf, bytes_of(out, len));
}

int wire_put_raw(struct buf *buf, const void *ptr, size_t len)
{
	return buf_append(buf, bytes_of(ptr, len));
}

int wire_put_blob(struct buf *buf, struct bytes blob)
{
	size_t before = buf->len;
	int r = wire_put_varint(buf, blob.len);

	if (r == 0)
		r = buf_append(buf, blob);
	if (r < 0)
		buf->len = before;
	return r;
}

void wire_store_u32(uint8_t *out, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		out[i] = (uint8_t)(v >> (8 * i));
}

void wire_store_u64(uint8_t *out, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		out[i] = (uint8_t)(v >> (8 * i));
}

uint32_t wire_load_u32(const uint8_t *in)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++)
		v |= (uint32_t)in[i] << (8 * i);
	return v;
}

uint64_t wire_load_u64(const uint8_t *in)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)in[i] << (8 * i);
	return v;
}
