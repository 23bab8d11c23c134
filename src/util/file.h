/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_FILE_H
#define SHARDFS_UTIL_FILE_H

/* Whole reads and writes of a descriptor at an offset.  Interruptions are repeated.  Any thread. */

#include "util/buf.h"

/* All bytes or none that count: 0, or the negative errno of pwrite. */
int file_pwrite(int fd, struct bytes src, uint64_t off);
/* Exactly len bytes; -ENODATA when the file ends before, or the negative errno of pread. */
int file_pread(int fd, void *out, size_t len, uint64_t off);
/* The same, appended to a buf, which is unchanged on failure. */
int file_pread_buf(int fd, size_t len, uint64_t off, struct buf *out);
int file_fdatasync(int fd);
/* fsync of a directory, so that its names are durable. */
int file_sync_dir(const char *path);
/* Every regular file in a directory, then the directory: after a crash, for what was never synced. */
int file_sync_dir_files(const char *path);

#endif
