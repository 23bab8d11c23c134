/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_CLONE_H
#define SHARDFS_TOOLS_SHARDCTL_CLONE_H

#include <stdint.h>

/* Where a clone goes to, as the daemon is told it. */
struct clone_place {
	uint64_t parent; /* inode of the directory */
	char name_hex[2 * 255 + 1];
};

/* 0, or the exit status after a message. */
int shardctl_clone_place(const char *src, const char *dst, struct clone_place *out);

#endif
