/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_MEM_H
#define SHARDFS_UTIL_MEM_H

/*
 * Checked allocation and ownership by scope.
 *
 * Every allocation goes through these functions, so that a fault test can
 * make each one fail in turn (mem_fail_at).  All are safe on any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

#define BIT(n)         (1u << (n))
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)      ((a) < (b) ? (a) : (b))
#define MAX(a, b)      ((a) > (b) ? (a) : (b))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/*
 * AUTO(T) name = T_INIT;   declares `struct T name` and calls T_release(&name)
 *                          when the block ends.
 * AUTO_PTR(T) name = NULL; declares `struct T *name` and calls T_freep(&name),
 *                          which DEFINE_FREEP(T) makes out of T_free(name).
 * AUTO_FD fd = -1;         closes the descriptor when it is not negative.
 * AUTO_STR s = NULL;       `char *s`, given to mem_free().
 */
#define AUTO(T)         __attribute__((cleanup(T##_release))) struct T
#define AUTO_PTR(T)     __attribute__((cleanup(T##_freep))) struct T *
#define DEFINE_FREEP(T)                                                                            \
	static inline void __attribute__((unused)) T##_freep(struct T **p)                         \
	{                                                                                          \
		T##_free(*p);                                                                      \
	}
#define AUTO_FD  __attribute__((cleanup(mem_close_fd))) int
#define AUTO_STR __attribute__((cleanup(mem_free_str))) char *

/* STEAL(p): the value of pointer p; p becomes NULL (ownership moves on). */
#define STEAL(p)                                                                                   \
	({                                                                                         \
		__typeof__(p) steal_ = (p);                                                        \
		(p) = NULL;                                                                        \
		steal_;                                                                            \
	})

/* Returns zeroed memory, or NULL.  size 0 gives a unique pointer. */
void *mem_alloc(size_t size);
/* count * size zeroed bytes; NULL also when the product overflows. */
void *mem_alloc_array(size_t count, size_t size);
/* Not zeroed: for buffers that are filled at once. */
void *mem_alloc_raw(size_t size);
/* Like realloc for count * size; the old block is untouched on failure. */
void *mem_realloc_array(void *ptr, size_t count, size_t size);
/* Copy of a string or of len bytes (with a NUL behind them); NULL on failure. */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t len);
/* printf into fresh memory; NULL on failure. */
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
void mem_free(void *ptr); /* accepts NULL */

/* Overwrite secret bytes; never optimised away. */
void mem_wipe(void *ptr, size_t len);
/* 0 when equal; takes the same time wherever they differ. */
int mem_compare_secret(const void *a, const void *b, size_t len);

/*
 * mem_fail_at - tests only: the nth allocation from now (1 = the next) returns
 * NULL, once.  0 switches it off.  mem_fail_fired tells whether it happened.
 */
void mem_fail_at(uint64_t nth);
bool mem_fail_fired(void);

void mem_close_fd(int *fd);
void mem_free_str(char **s);

#endif
