/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_LOCK_H
#define SHARDFS_TOOLS_SHARDCTL_LOCK_H

/* `shardctl lock`: walks the tree in this process, one attribute for each file.  An interrupt ends
 * it; run again, it goes on. */

#include <stdbool.h>

struct lock_wish {
	const char *path;
	const char *until; /* NULL: tell the lock of path */
	bool is_recursive, is_json;
};

/* The exit status. */
int shardctl_lock(const struct lock_wish *wish);

#endif
