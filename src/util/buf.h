/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_BUF_H
#define SHARDFS_UTIL_BUF_H

/*
 * struct bytes is a borrowed view; struct buf owns growable bytes.
 * Neither is thread-safe.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *ptr;
	size_t len;
};

static inline struct bytes bytes_of(const void *ptr, size_t len)
{
	return (struct bytes){.ptr = ptr, .len = len};
}

static inline struct bytes bytes_of_str(const char *s)
{
	return bytes_of(s, strlen(s));
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

struct buf {
	uint8_t *ptr; /* NULL when capacity is 0 */
	size_t len;
	size_t capacity;
};

#define BUF_INIT {0}

void buf_release(struct buf *buf); /* frees; buf is empty afterwards */
/* Makes room for `more` bytes behind len; -ENOMEM leaves buf unchanged. */
int buf_reserve(struct buf *buf, size_t more);
/* src must not lie in buf. */
int buf_append(struct buf *buf, struct bytes src);   /* 0 or -ENOMEM, unchanged */
int buf_append_zeros(struct buf *buf, size_t count); /* 0 or -ENOMEM, unchanged */
/* Both: 0 or -ENOMEM, unchanged. */
int buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
int buf_vprintf(struct buf *buf, const char *format, va_list args);
void buf_swap(struct buf *a, struct buf *b);

static inline void buf_clear(struct buf *buf) /* keeps the capacity */
{
	buf->len = 0;
}

static inline struct bytes buf_bytes(const struct buf *buf)
{
	return bytes_of(buf->ptr, buf->len);
}

/* The content as a C string: puts a NUL behind it (not counted in len); NULL on -ENOMEM. */
const char *buf_str(struct buf *buf);

#endif
