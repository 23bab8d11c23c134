/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_KEY_H
#define SHARDFS_TOOLS_SHARDCTL_KEY_H

/* `shardctl key ...`: commands with options of their own, since they handle secrets. */

#include <stdbool.h>

/* Whether the first word that is no option is "key". */
bool shardctl_key_is_meant(int argc, char **argv);
/* All of it; the exit status. */
int shardctl_key_main(int argc, char **argv);
/* The lines of shardctl --help. */
void shardctl_key_help(void);

#endif
