/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_CACHE_H
#define SHARDFS_STORE_CACHE_H

/*
 * Sealed data on local disk, bounded: whole shard objects that left the spool, and ranges fetched
 * from providers, exactly as the provider holds them (so nothing plain is on disk, and every use
 * authenticates).  Least recently used goes first; a scan does not flush what is used often.
 * Losing it loses nothing.  Any thread.
 */

#include "index/rows.h"

struct cache;

/*
 * cache_open - makes dir (0700) if need be; what is there is listed by a thread of its own, and found
 * meanwhile by name.  size_max: bytes on disk; over it the least useful objects go.
 * -ENOMEM, -EAGAIN (no thread), or what making the directory says.
 */
int cache_open(const char *dir, uint64_t size_max, struct cache **out);
void cache_close(struct cache *cache); /* nobody may be inside another call; accepts NULL */
/* Sealed bytes of a record, appended; -ENOENT (also when the file turns out to be short). -ENOMEM. */
int cache_read(struct cache *cache, const struct shard_id *shard, uint32_t off, uint32_t len,
	       struct buf *out);
/* Keep these bytes of an object; best effort. */
void cache_put_range(struct cache *cache, const struct shard_id *shard, uint32_t off,
		     struct bytes sealed);
/*
 * Where spool_release may rename a whole object to; then cache_adopt, if that went well.
 * -ENOSPC: not wanted (larger than the cache); -ENAMETOOLONG.
 */
int cache_path_for(struct cache *cache, const struct shard_id *shard, uint64_t object_len,
		   char *path, size_t path_size);
void cache_adopt(struct cache *cache, const struct shard_id *shard, uint64_t object_len);
/* What was read did not authenticate, or the shard is gone. */
void cache_drop(struct cache *cache, const struct shard_id *shard);
uint64_t cache_bytes_used(struct cache *cache);
/* Returns once everything that was in the directory is known.  For tests and for shutting down. */
void cache_wait_listed(struct cache *cache);

#endif
