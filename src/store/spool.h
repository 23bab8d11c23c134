/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SPOOL_H
#define SHARDFS_STORE_SPOOL_H

/*
 * Open and sealed shards on local disk that still need copies.  A file of the
 * spool holds exactly the bytes of the object (spool/<32 hex>).
 *
 *   open -> sealed (full, idle, asked, or over open_shards_max) -> released
 *
 * A shard is appended to only by the process that created it.  A record number
 * is taken once, even if the append fails.  The footer is sealed once.
 * After a restart the files that have no footer are not extended: see
 * spool_recover.
 *
 * Any thread, unless said otherwise.
 */

#include "index/index.h"
#include "store/pack.h"

struct spool;

struct shard_class {
	uint64_t policy_root;
	uint32_t priority;
	uint32_t key_epoch;
};

struct spool_settings {
	const char *dir;
	const struct keyring *keyring; /* borrowed */
	uint64_t shard_bytes;          /* a shard is full when the next record would pass this */
	uint32_t open_shards_max;
	uint64_t idle_ms;              /* an open shard not appended to for so long is sealed */
	uint64_t size_max;             /* bytes in the spool; beyond: -ENOSPC */
	uint64_t writer_epoch;
	/* A new open shard: must make its row known (journal) before it returns; gives shard_no. */
	int (*opened)(void *ctx, struct shard_row *shard);
	/* Sealed: row with length, mac, state SHARD_SEALED.  Must journal it and queue the copies. */
	void (*sealed)(void *ctx, const struct shard_row *shard);
	void *ctx;
};

int spool_open(const struct spool_settings *settings, struct spool **out);
void spool_close(struct spool *spool); /* seals nothing; open files stay for spool_recover */

/*
 * spool_append - seals a chunk's payload and appends it to the open shard of its class.
 * out: shard_no, record_no, off, stored_len, raw_len, id filled; chunk_no and refs untouched.
 * -ENOSPC: spool or disk full; -EIO.  After a failed append that shard takes no more records and
 * is never sealed in place: its valid records move (spool does that in the background).
 */
int spool_append(struct spool *spool, struct aead_ctx *ctx, const struct shard_class *class,
		 const struct chunk_id *id, uint8_t form, uint32_t raw_len, struct bytes payload,
		 struct chunk_row *out);

/*
 * spool_read - the sealed bytes of a record if the shard is in the spool, appended to out;
 * -ENOENT when it is not there (any more).
 */
int spool_read(struct spool *spool, uint64_t shard_no, uint32_t off, uint32_t len,
	       struct buf *out);

/* fdatasync of every file with unsynced bytes, and of the directory.  Syncer's thread. */
int spool_sync(struct spool *spool);

/* Seal all open shards now (or those of one policy root; 0: all), and wait for the footers. */
int spool_seal_all(struct spool *spool, uint64_t policy_root);
void spool_seal_idle(struct spool *spool); /* called by the keeper now and then */

/*
 * The object's bytes of a sealed shard for upload: a mapping that stays valid until
 * spool_unmap, also when the shard is released meanwhile.  -ENOENT.
 */
int spool_map(struct spool *spool, uint64_t shard_no, struct bytes *object, void **handle);
void spool_unmap(void *handle);

/* Enough copies exist: drop the file, or hand it to the cache (rename) when to_path is given. */
int spool_release(struct spool *spool, uint64_t shard_no, const char *to_path);
bool spool_has(struct spool *spool, uint64_t shard_no);
uint64_t spool_bytes_used(struct spool *spool);

/*
 * spool_recover - at mount, after replay and before any append: every file is matched with the
 * index.  Sealed ones that verify are taken over (sealed() is called for those that the index knows
 * as open, after their row was completed).  Unsealed ones: each record that the index names is
 * opened, authenticated and appended to a new shard under a new random name, and
 * moved(ctx, old row, new row) journals it; when all are moved and synced the old file is removed.
 * Files that the index does not know: removed when they hold nothing that is referenced, and named
 * in the log.  A record that does not authenticate is named, and bad(ctx, chunk_no) is called.
 */
int spool_recover(struct spool *spool, struct index *index, struct index_reader *reader,
		  int (*moved)(void *ctx, const struct chunk_row *old, const struct chunk_row *now),
		  void (*bad)(void *ctx, uint64_t chunk_no), void *ctx);

/* Whether the bytes of this chunk authenticate in the spool (replay behind the last mark). */
int spool_check_record(struct spool *spool, const struct shard_row *shard,
		       const struct chunk_row *chunk);

#endif
