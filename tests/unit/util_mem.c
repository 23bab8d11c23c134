/* SPDX-License-Identifier: Apache-2.0 */
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

Test(util_mem, memory_comes_zeroed_and_sizes_that_overflow_fail)
{
	uint8_t *p = mem_alloc(4096);

	for (size_t i = 0; i < 4096; i++)
		cr_assert_eq(p[i], 0);
	mem_free(p);
	cr_assert_null(mem_alloc_array(SIZE_MAX / 2, 3));
	cr_assert_null(mem_realloc_array(NULL, SIZE_MAX / 2, 3));
	mem_free(NULL);
}

Test(util_mem, size_zero_gives_a_pointer)
{
	void *p[] = {mem_alloc(0), mem_alloc_array(0, 8), mem_alloc_raw(0),
		     mem_realloc_array(NULL, 0, 1)};

	for (size_t i = 0; i < ARRAY_COUNT(p); i++) {
		cr_assert_not_null(p[i]);
		mem_free(p[i]);
	}
}

Test(util_mem, a_failed_realloc_leaves_the_old_block)
{
	AUTO_STR s = mem_strdup("kept");

	mem_fail_at(1);
	cr_assert_null(mem_realloc_array(s, 100, 1));
	cr_assert(mem_fail_fired());
	cr_assert_str_eq(s, "kept");
}

Test(util_mem, strings_are_copied_whole)
{
	AUTO_STR a = mem_strdup("");
	AUTO_STR b = mem_strndup("abcdef", 3);
	AUTO_STR c = mem_printf("%s-%d", "x", 7);
	AUTO_STR d = mem_strndup(NULL, 0);

	cr_assert_str_eq(a, "");
	cr_assert_str_eq(b, "abc");
	cr_assert_str_eq(c, "x-7");
	cr_assert_str_eq(d, "");
}

/* Each kind of allocation counts as one, and exactly the nth fails. */
Test(util_mem, fail_at_fails_the_nth_allocation_once)
{
	for (uint64_t nth = 1; nth <= 6; nth++) {
		void *p[6];

		mem_fail_at(nth);
		cr_assert_not(mem_fail_fired());
		p[0] = mem_alloc(1);
		p[1] = mem_alloc_array(1, 1);
		p[2] = mem_alloc_raw(1);
		p[3] = mem_strdup("x");
		p[4] = mem_printf("x");
		p[5] = mem_realloc_array(NULL, 1, 1);
		for (uint64_t i = 0; i < 6; i++) {
			cr_assert_eq(p[i] == NULL, i + 1 == nth);
			mem_free(p[i]);
		}
		cr_assert(mem_fail_fired());
	}
	mem_fail_at(0);
	cr_assert_not(mem_fail_fired());
}

Test(util_mem, wipe_overwrites_and_compare_tells_any_difference)
{
	uint8_t a[32], b[32];

	memset(a, 0xa5, sizeof(a));
	memcpy(b, a, sizeof(a));
	cr_assert_eq(mem_compare_secret(a, b, sizeof(a)), 0);
	for (size_t i = 0; i < sizeof(a); i++) {
		b[i] ^= 0x80;
		cr_assert_neq(mem_compare_secret(a, b, sizeof(a)), 0);
		b[i] ^= 0x80;
	}
	mem_wipe(a, sizeof(a));
	memset(b, 0, sizeof(b));
	cr_assert_eq(mem_compare_secret(a, b, sizeof(a)), 0);
	mem_wipe(NULL, 0);
}

struct thing {
	int *released;
};
static void thing_release(struct thing *thing)
{
	(*thing->released)++;
}
static void thing_free(struct thing *thing)
{
	if (thing != NULL)
		(*thing->released)++;
}
DEFINE_FREEP(thing)

Test(util_mem, scope_releases_what_it_owns_and_steal_moves_it_on)
{
	int released = 0, freed = 0;
	int fd_kept;
	struct thing on_heap = {.released = &freed};
	struct thing *stolen;

	{
		AUTO(thing) thing = {.released = &released};
		AUTO_PTR(thing) owned = &on_heap;
		AUTO_PTR(thing) moved = &on_heap;
		AUTO_FD fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		(void)thing;
		(void)owned;
		fd_kept = fd;
		stolen = STEAL(moved);
	}
	cr_assert_eq(released, 1);
	cr_assert_eq(freed, 1);
	cr_assert_eq(stolen, &on_heap);
	cr_assert(fd_kept >= 0 && fcntl(fd_kept, F_GETFD) < 0);
}
