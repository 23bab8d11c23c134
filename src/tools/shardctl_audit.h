/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_AUDIT_H
#define SHARDFS_TOOLS_SHARDCTL_AUDIT_H

/* `shardctl audit ...`: the audit log, to read, to prove and to take away. */

#include "tools/shardctl_group.h"

extern const struct shardctl_group shardctl_audit;

#endif
