/* SPDX-License-Identifier: Apache-2.0 */
#include "util/buf.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(util_buf, appending_grows_and_keeps_the_bytes)
{
	AUTO(buf) buf = BUF_INIT;

	for (unsigned i = 0; i < 100000; i++) {
		uint8_t b = (uint8_t)(i * 7);

		cr_assert_eq(buf_append(&buf, bytes_of(&b, 1)), 0);
	}
	cr_assert_eq(buf.len, 100000);
	for (unsigned i = 0; i < 100000; i++)
		cr_assert_eq(buf.ptr[i], (uint8_t)(i * 7));
	buf_clear(&buf);
	cr_assert(buf.len == 0 && buf.capacity >= 100000);
}

Test(util_buf, nothing_may_be_appended_to_nothing)
{
	AUTO(buf) buf = BUF_INIT;

	cr_assert_eq(buf_append(&buf, bytes_of(NULL, 0)), 0);
	cr_assert_eq(buf_append_zeros(&buf, 0), 0);
	cr_assert(buf.ptr == NULL && buf_bytes(&buf).len == 0);
	cr_assert_str_eq(buf_str(&buf), "");
}

Test(util_buf, printf_appends_and_str_ends_with_a_nul_that_does_not_count)
{
	AUTO(buf) buf = BUF_INIT;

	cr_assert_eq(buf_printf(&buf, "%s=%d", "n", 42), 0);
	cr_assert_eq(buf_printf(&buf, " %*d", 100, 1), 0);
	cr_assert_eq(buf.len, 4 + 101);
	cr_assert_eq(strlen(buf_str(&buf)), buf.len);
	cr_assert_eq(strncmp(buf_str(&buf), "n=42 ", 5), 0);
	buf_clear(&buf);
	cr_assert_eq(buf_append_zeros(&buf, 3), 0);
	cr_assert_eq(memcmp(buf.ptr, "\0\0\0", 3), 0);
}

/* Whichever allocation fails, the buffer is as it was. */
Test(util_buf, out_of_memory_leaves_the_buffer_unchanged)
{
	AUTO(buf) buf = BUF_INIT;
	size_t capacity;

	cr_assert_eq(buf_append(&buf, bytes_of_str("abc")), 0);
	capacity = buf.capacity;
	mem_fail_at(1);
	cr_assert_eq(buf_append_zeros(&buf, capacity), -ENOMEM);
	mem_fail_at(1);
	cr_assert_eq(buf_printf(&buf, "%*d", (int)capacity, 1), -ENOMEM);
	mem_fail_at(1);
	cr_assert_eq(buf_reserve(&buf, capacity), -ENOMEM);
	mem_fail_at(0);
	cr_assert_eq(buf_reserve(&buf, SIZE_MAX), -ENOMEM);
	cr_assert_eq(buf_reserve(&buf, SIZE_MAX - 3), -ENOMEM);
	cr_assert_eq(buf.capacity, capacity);
	cr_assert_str_eq(buf_str(&buf), "abc");
}

Test(util_buf, swap_exchanges_owners)
{
	AUTO(buf) a = BUF_INIT;
	AUTO(buf) b = BUF_INIT;

	cr_assert_eq(buf_append(&a, bytes_of_str("a")), 0);
	buf_swap(&a, &b);
	cr_assert_eq(a.len, 0);
	cr_assert_str_eq(buf_str(&b), "a");
}
