/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_LIB_BACKEND_OPEN_H
#define SHARDFS_TESTS_LIB_BACKEND_OPEN_H

/* Backends for tests in one line; a failure aborts. */

#include "backends/backend.h"

/* A memory backend: initialised for conformance_fs_id when is_initialised. */
struct backend *test_memory_open(bool is_async, bool is_initialised);
/* A new directory below $TMPDIR (or /tmp); path receives it (PATH_MAX). */
void test_dir_make(char *path);
void test_dir_remove(const char *path); /* and all below */
/* A dir backend on an existing or missing path; extra: NULL or "key=value key=value". */
struct backend *test_dir_open(const char *path, const char *extra);

#endif
