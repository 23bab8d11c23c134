/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SUPERBLOCK_IO_H
#define SHARDFS_STORE_SUPERBLOCK_IO_H

/*
 * The superblock on local disk (home/superblock) and on every provider
 * (index/superblock); and how a provider of the configuration is opened.
 * These wait; they are for mkfs, mount and tools.
 */

#include "backends/backend.h"
#include "config/config.h"
#include "crypto/keyring.h"

#define SUPERBLOCK_KEY "index/superblock"

/* The stack of one provider, with the file system's settings where it has none of its own.
 * No I/O.  Errors as backend_open; `why` begins with file, line and name. */
int provider_open(const struct config *config, const struct config_provider *provider,
		  struct buf *why, struct backend **out);

/* The same with `why` as the backend says it, for the check of a configuration. */
int provider_open_settings(const struct config *config, const struct config_provider *provider,
			   struct buf *why, struct backend **out);

/*
 * superblock_io_read - home/superblock; when that is missing or damaged, the one with the highest
 * revision of those that providers have.  Parsed, not authenticated (keyring_unlock does).
 * -ENOENT: nowhere; -EBADMSG; -EPROTONOSUPPORT; `why` is one line.
 */
int superblock_io_read(const struct config *config, struct superblock *out, struct buf *why);

/* Atomic and durable: temporary name, fsync, rename, fsync of the directory. */
int superblock_io_write_local(const struct config *config, struct bytes sealed, struct buf *why);
/* The same for a file of key slots (slots_file).  Parsed, not authenticated. */
int superblock_io_write_file(const char *path, struct bytes sealed, struct buf *why);
int superblock_io_read_file(const char *path, struct superblock *out);
int superblock_io_put(struct backend *backend, struct bytes sealed, struct buf *why);
int superblock_io_get(struct backend *backend, struct superblock *out, struct buf *why);

#endif
