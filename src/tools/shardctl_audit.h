/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_AUDIT_H
#define SHARDFS_TOOLS_SHARDCTL_AUDIT_H

/* `shardctl audit ...`: the audit log, to read, to prove and to take away. */

#include <stdbool.h>

/* Whether the first word that is no option is "audit". */
bool shardctl_audit_is_meant(int argc, char **argv);
/* All of it; the exit status. */
int shardctl_audit_main(int argc, char **argv);
/* The lines of shardctl --help. */
void shardctl_audit_help(void);

#endif
