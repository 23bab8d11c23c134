/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_CHECK_H
#define SHARDFS_TESTS_CHECK_H

/*
 * The words of Criterion that helpers use, for helpers that stress programs link too: those have a
 * plain main.  A failed check says where and ends the program; under Criterion that is one test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_FAIL_(what)                                                                          \
	do {                                                                                       \
		fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);                          \
		abort();                                                                           \
	} while (0)
#define cr_assert(is, ...)                                                                         \
	do {                                                                                       \
		if (!(is))                                                                         \
			CHECK_FAIL_(#is);                                                          \
	} while (0)
#define cr_assert_eq(a, b, ...)	 cr_assert((a) == (b))
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b))

#endif
