/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_HOOKS_H
#define SHARDFS_TESTS_HOOKS_H

/* From now on these rules of util/hook.h, one a line; "": none.  Call it once before any hook. */
void test_hooks(const char *rules);

#endif
