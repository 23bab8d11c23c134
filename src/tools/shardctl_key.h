/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_KEY_H
#define SHARDFS_TOOLS_SHARDCTL_KEY_H

/* `shardctl key ...`: commands with options of their own, since they handle secrets. */

#include "tools/shardctl_group.h"

extern const struct shardctl_group shardctl_key;

#endif
