/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_SNAPSHOT_H
#define SHARDFS_TOOLS_SHARDCTL_SNAPSHOT_H

/* `shardctl snapshot ...`: trees as they were. */

#include <stdbool.h>

/* Whether the first word that is no option is "snapshot". */
bool shardctl_snapshot_is_meant(int argc, char **argv);
/* All of it; the exit status. */
int shardctl_snapshot_main(int argc, char **argv);
/* The lines of shardctl --help. */
void shardctl_snapshot_help(void);

#endif
