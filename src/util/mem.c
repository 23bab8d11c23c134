/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin shells around malloc.  The fault counter is 0 in real life, so that a
 * relaxed load is all it costs; a test sets it to n, each allocation takes it
 * down by one, and the one that takes it from 1 to 0 fails.
 */
#include "util/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic uint64_t fail_countdown;
static atomic_bool fail_fired;

static bool must_fail(void)
{
	uint64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);

	while (left > 0) {
		if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1)) {
			if (left > 1)
				return false;
			atomic_store(&fail_fired, true);
			return true;
		}
	}
	return false;
}

void mem_fail_at(uint64_t nth)
{
	atomic_store(&fail_fired, false);
	atomic_store(&fail_countdown, nth);
}

bool mem_fail_fired(void)
{
	return atomic_load(&fail_fired);
}

/* No object is larger than PTRDIFF_MAX; sanitizers stop the program over one that is. */
static bool must_refuse(size_t count, size_t size, size_t *total)
{
	if (must_fail() || __builtin_mul_overflow(count, size, total) || *total > PTRDIFF_MAX)
		return true;
	*total = MAX(*total, (size_t)1);
	return false;
}

void *mem_alloc(size_t size)
{
	return mem_alloc_array(1, size);
}

void *mem_alloc_array(size_t count, size_t size)
{
	size_t total;

	return must_refuse(count, size, &total) ? NULL : calloc(1, total);
}

void *mem_alloc_raw(size_t size)
{
	size_t total;

	return must_refuse(1, size, &total) ? NULL : malloc(total);
}

void *mem_realloc_array(void *ptr, size_t count, size_t size)
{
	size_t total;

	return must_refuse(count, size, &total) ? NULL : realloc(ptr, total);
}

char *mem_strdup(const char *s)
{
	return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t len)
{
	size_t total;
	char *copy;

	if (__builtin_add_overflow(len, 1, &total))
		return NULL;
	copy = mem_alloc_raw(total);
	if (copy == NULL)
		return NULL;
	if (len > 0)
		memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *mem_printf(const char *format, ...)
{
	va_list args;
	char *text;
	int len;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0)
		return NULL;
	text = mem_alloc_raw((size_t)len + 1);
	if (text == NULL)
		return NULL;
	va_start(args, format);
	vsnprintf(text, (size_t)len + 1, format, args);
	va_end(args);
	return text;
}

void mem_free(void *ptr)
{
	free(ptr);
}

void mem_wipe(void *ptr, size_t len)
{
	if (len > 0)
		explicit_bzero(ptr, len);
}

int mem_compare_secret(const void *a, const void *b, size_t len)
{
	const volatile uint8_t *x = a, *y = b;
	uint8_t differ = 0;

	for (size_t i = 0; i < len; i++)
		differ |= x[i] ^ y[i];
	return differ != 0;
}

void mem_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void mem_free_str(char **s)
{
	mem_free(*s);
	*s = NULL;
}
