/* SPDX-License-Identifier: Apache-2.0 */
/* Capacity at least doubles, so that appending is linear in all. */
#include "util/buf.h"

#include "util/mem.h"

#include <errno.h>
#include <stdio.h>

#define CAPACITY_MIN 64

void buf_release(struct buf *buf)
{
	mem_free(buf->ptr);
	*buf = (struct buf)BUF_INIT;
}

int buf_reserve(struct buf *buf, size_t more)
{
	size_t needed, capacity;
	uint8_t *ptr;

	if (more <= buf->capacity - buf->len)
		return 0;
	if (__builtin_add_overflow(buf->len, more, &needed))
		return -ENOMEM;
	if (__builtin_mul_overflow(buf->capacity, (size_t)2, &capacity))
		capacity = needed;
	capacity = MAX(MAX(capacity, needed), (size_t)CAPACITY_MIN);
	ptr = mem_realloc_array(buf->ptr, capacity, 1);
	if (ptr == NULL)
		return -ENOMEM;
	buf->ptr = ptr;
	buf->capacity = capacity;
	return 0;
}

int buf_append(struct buf *buf, struct bytes src)
{
	int r = buf_reserve(buf, src.len);

	if (r < 0)
		return r;
	if (src.len > 0)
		memcpy(buf->ptr + buf->len, src.ptr, src.len);
	buf->len += src.len;
	return 0;
}

int buf_append_zeros(struct buf *buf, size_t count)
{
	int r = buf_reserve(buf, count);

	if (r < 0)
		return r;
	if (count > 0)
		memset(buf->ptr + buf->len, 0, count);
	buf->len += count;
	return 0;
}

int buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = buf_vprintf(buf, format, args);
	va_end(args);
	return r;
}

int buf_vprintf(struct buf *buf, const char *format, va_list args)
{
	va_list again;
	int r, len;

	va_copy(again, args);
	len = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (len < 0)
		return -ENOMEM;
	r = buf_reserve(buf, (size_t)len + 1); /* vsnprintf writes a NUL */
	if (r < 0)
		return r;
	vsnprintf((char *)buf->ptr + buf->len, (size_t)len + 1, format, args);
	buf->len += (size_t)len;
	return 0;
}

void buf_swap(struct buf *a, struct buf *b)
{
	struct buf t = *a;

	*a = *b;
	*b = t;
}

const char *buf_str(struct buf *buf)
{
	if (buf_reserve(buf, 1) < 0)
		return NULL;
	buf->ptr[buf->len] = '\0';
	return (const char *)buf->ptr;
}
