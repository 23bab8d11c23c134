/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CTL_CTL_CLIENT_H
#define SHARDFS_CTL_CTL_CLIENT_H

/*
 * The other end of the control channel: finds the mount, sends requests, pages
 * through answers.  For programs; not for the daemon itself.
 */

#include "util/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * ctl_client_open - a descriptor to talk through.
 * @path:  the object of the verb: its mount decides; NULL when there is none.
 * @mount: --mount; NULL: $SHARDFS_MOUNT, else the only fuse.shardfs in
 *         /proc/self/mountinfo.
 * 0; -ENOENT no mount found, or no such path; -EMLINK several mounts and none named; errno of
 * open(2); `why` is one line.
 */
int ctl_client_open(const char *path, const char *mount, int *fd, struct buf *why);

/*
 * ctl_client_run - submit, wait, fetch.
 * @request:  {"verb": ...}; borrowed.
 * @progress: called now and then with what the job tells; NULL: not wanted.  May return
 *            false to cancel.
 * 0 with *answer (a new reference) and *exit_code; -ENOTTY: not a shardfs; errors of
 * shardfs_ioctl.h; -EBADMSG: the answer is not JSON.
 */
int ctl_client_run(int fd, const json_t *request, bool (*progress)(void *ctx, const json_t *state),
		   void *ctx, json_t **answer, uint32_t *exit_code);

/*
 * ctl_wipe_json - from now on memory of JSON is wiped when it is freed, since requests may carry
 * what opens a key slot.  Before the first use of it in the process.
 * ctl_free_text - what json_dumps gave; accepts NULL.
 */
void ctl_wipe_json(void);
void ctl_free_text(char *text);

#endif
