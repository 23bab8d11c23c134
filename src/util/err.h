/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_ERR_H
#define SHARDFS_UTIL_ERR_H

/*
 * errno values as names and sentences.  Functions return 0 or a negative
 * errno; these accept either sign.
 */
const char *err_name(int err);     /* "ENOSPC"; "errno 4095" style for unknown ones */
const char *err_sentence(int err); /* "no space left on device"; static, thread-safe */

#endif
