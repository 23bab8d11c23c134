/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_LOCAL_H
#define SHARDFS_TOOLS_SHARDCTL_LOCAL_H

/* shardctl without a mount: what the home of a configuration tells. */

#include <jansson.h>
#include <stdint.h>

/*
 * shardctl_home_of - the configuration to ask without a mount: what --config gave; or, when neither a
 * mount nor a path was named and nothing is mounted, $SHARDFS_CONFIG.  NULL: a mount is meant.
 */
const char *shardctl_home_of(const char *config, const char *mount, const char *path);
/*
 * shardctl_ask_home - ctl_local_run for the file system of a configuration.  Takes its lock, and
 * replays the journal as a mount would; sends nothing.  With *answer (json_decref) *code is the exit
 * status; without one the exit status is returned, and what is wrong was printed.
 */
int shardctl_ask_home(const char *config_path, const json_t *request, const char *path,
		      json_t **answer, uint32_t *code);

#endif
