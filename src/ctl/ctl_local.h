/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CTL_CTL_LOCAL_H
#define SHARDFS_CTL_CTL_LOCAL_H

/*
 * Questions to a file system that is not mounted, answered from its home in the process that asks.
 * For programs that wait; one thread.
 */

#include "store/store.h"

#include <jansson.h>

/*
 * ctl_local_run - a query verb, with the store of store_open_for_check.
 * @request: {"verb": ...} as for ctl_client_run.
 * @path:    the object of the verb within the file system, from its root ("/" or "a/b"); NULL: root.
 *
 * 0 with *answer (a new reference) and *exit_code, one of enum ctl_exit; the answer has "mounted":
 * false, and says of providers only what the index knows: nobody was asked.  -ENOENT, -ENOTDIR: no
 * such path; -EOPNOTSUPP: no verb that can be answered like this; -ENOMEM; errors of the index.
 */
int ctl_local_run(struct store *store, const json_t *request, const char *path, json_t **answer,
		  uint32_t *exit_code);

#endif
