/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_SNAPSHOT_H
#define SHARDFS_TOOLS_SHARDCTL_SNAPSHOT_H

/* `shardctl snapshot ...`: trees as they were. */

#include "tools/shardctl_group.h"

extern const struct shardctl_group shardctl_snapshot;

#endif
