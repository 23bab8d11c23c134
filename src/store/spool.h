/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SPOOL_H
#define SHARDFS_STORE_SPOOL_H

/*
 * Open and sealed shards on local disk that still need copies.  A file of the
 * spool holds exactly the bytes of the object (spool/<32 hex>).
 *
 *   open -> sealed (full, idle, asked, or over open_shards_max) -> released
 *     |
 *     +---> broken (an append or a sync failed): takes no more records and is
 *           never sealed; its valid records move to a fresh shard
 *
 * A shard is appended to only by the process that created it.  A record number
 * is taken once, even if the append fails.  The footer is sealed once.
 * After a restart the files that have no footer are not extended: see
 * spool_recover.
 *
 * One thread of its own, the sealer: footers, and moving records of broken
 * shards.  All callbacks are called without locks.  Any thread may call, unless
 * said otherwise.
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
	struct keyring *keyring; /* borrowed */
	struct index *index;     /* borrowed: which records of a broken shard are wanted */
	uint64_t shard_bytes;    /* a shard is full when the next record would pass this */
	uint32_t open_shards_max; /* 1 .. 64 */
	uint64_t idle_ms;        /* an open shard not appended to for so long is sealed */
	uint64_t size_max;       /* bytes in the spool; beyond: -ENOSPC */
	uint64_t reserve_bytes;  /* of the disk, left for journal and index; e.g. 64 MiB */
	uint64_t writer_epoch;
	/* A new open shard: must make its row known (journal) before it returns; sets shard_no.
	 * Appending thread. */
	int (*opened)(void *ctx, struct shard_row *shard);
	/* Sealed and durable: row with length, mac, state SHARD_SEALED.  Must journal it and queue
	 * the copies.  Sealer; or the caller of spool_recover. */
	void (*sealed)(void *ctx, const struct shard_row *shard);
	/* A record lies in another shard now (same chunk_no): must journal it.  Sealer; or the
	 * caller of spool_recover. */
	int (*moved)(void *ctx, const struct chunk_row *old, const struct chunk_row *now);
	/* A record does not authenticate: its bytes are lost here. */
	void (*bad)(void *ctx, uint64_t chunk_no);
	/* Waits until all that was journalled up to now is durable, spool bytes included; the old
	 * file is removed after that.  NULL: the file stays until a later spool_recover. */
	int (*settle)(void *ctx);
	/* The shard never got its footer, nothing wanted is in it, its file is removed: the row can
	 * go (journal). */
	void (*gone)(void *ctx, const struct shard_row *shard);
	void *ctx;
};

/* Makes dir (0700) if need be.  Reads nothing that is there: spool_recover does. */
int spool_open(const struct spool_settings *settings, struct spool **out);
/* Ends the sealer: no callback runs from now on.  Seals nothing, and spool_seal_all
 * answers -ECANCELED; everything else still works.  Accepts NULL. */
void spool_stop(struct spool *spool);
/* Open files stay for spool_recover.  Nobody may be inside another call.  Accepts NULL. */
void spool_close(struct spool *spool);

/*
 * spool_append - seals a chunk's payload and appends it to the open shard of its class.
 * out: shard_no, record_no, off, stored_len, raw_len, id filled; chunk_no and refs untouched.
 * Each success is followed by one spool_append_done, once the CHUNK_PUT that names the record was
 * submitted (or given up): the shard is not sealed, and nothing moves out of it, before that.
 * -ENOSPC: spool or disk full; -EIO; -ENOMEM.  After a failed write that shard takes no more
 * records and is never sealed in place: its valid records move (spool does that in the background).
 */
int spool_append(struct spool *spool, struct aead_ctx *ctx, const struct shard_class *class,
		 const struct chunk_id *id, uint8_t form, uint32_t raw_len, struct bytes payload,
		 struct chunk_row *out);
void spool_append_done(struct spool *spool, uint64_t shard_no);

/*
 * spool_read - the sealed bytes of a record if the shard is in the spool, appended to out;
 * -ENOENT when it is not there (any more); -EIO.
 */
int spool_read(struct spool *spool, uint64_t shard_no, uint32_t off, uint32_t len,
	       struct buf *out);

/*
 * fdatasync of every file with unsynced bytes, and of the directory.  Syncer's thread.  -EIO stays
 * until the records of the shard that failed have moved.
 */
int spool_sync(struct spool *spool);

/*
 * Seal all open shards now (or those of one policy root; 0: all), and wait for the footers of these
 * and of those that were being sealed.  The first failure (-ENOSPC: tried again later by itself).
 */
int spool_seal_all(struct spool *spool, uint64_t policy_root);
void spool_seal_idle(struct spool *spool); /* called by the keeper now and then */

/*
 * The object's bytes of a sealed shard for upload: a mapping that stays valid until
 * spool_unmap, also when the shard is released meanwhile.  -ENOENT; -EIO: the file is not as
 * long as it was.
 */
int spool_map(struct spool *spool, uint64_t shard_no, struct bytes *object, void **handle);
void spool_unmap(void *handle);

/*
 * spool_discard - an open shard in which nothing is wanted any more gets no footer: its file is
 * removed and gone() is told, soon.  First ask spool_count_records; then see in the index that no
 * chunk lies in the shard, and wait until that is durable; then discard with the count.  What was
 * appended meanwhile makes it fail.
 * -ENOENT: it is not open here (any more); -EBUSY: an append is under way, or was.
 */
int spool_count_records(struct spool *spool, uint64_t shard_no, uint32_t *count);
int spool_discard(struct spool *spool, uint64_t shard_no, uint32_t count);

/*
 * Enough copies exist, durably journalled: drop the file, or hand it to the cache (rename) when
 * to_path is given.  -ENOENT; another error: it could not be handed over and was dropped, to_path
 * is not there.
 */
int spool_release(struct spool *spool, uint64_t shard_no, const char *to_path);
bool spool_has(struct spool *spool, uint64_t shard_no); /* open, sealed or broken */
uint64_t spool_bytes_used(struct spool *spool); /* open shards count as long as they will be */

/*
 * spool_recover - at mount, after replay and before any append: every file is matched with the
 * index.  Sealed ones are taken over; sealed() is called for those that the index knows as open,
 * after all their bytes were verified.  Unsealed ones: each record that the index names is
 * opened, authenticated and appended to a new shard under a new random name, and
 * moved(old row, new row) journals it; when all are moved and settled the old file is removed.
 * Files that the index does not know are removed (nothing refers to them) and named in the log, and
 * so are those of shards that left the spool.  A record that does not authenticate is named, and
 * bad(chunk_no) is called; its file and shard row stay until no chunk refers to them.  An open shard
 * without a file: bad() for its chunks; gone() when it has none.
 */
int spool_recover(struct spool *spool, struct index_reader *reader);

/*
 * Whether the bytes of this chunk authenticate in the spool (replay behind the last mark; also
 * before spool_recover).  0; -ENOENT: no such file; -EBADMSG; -EIO.
 */
int spool_check_record(struct spool *spool, const struct shard_row *shard,
		       const struct chunk_row *chunk);

#endif
