/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_CHUNK_H
#define SHARDFS_STORE_CHUNK_H

/*
 * name, look up, compress, seal: bytes become a chunk that the journal knows,
 * once however many ask at the same time (store/dedup.h).
 */

#include "codec/compress.h"
#include "index/index.h"
#include "store/dedup.h"
#include "store/sequencer.h"
#include "store/spool.h"

/* What one codec worker keeps: contexts and scratch memory, reused. One thread. */
struct chunk_worker;

struct chunk_store {
	struct index *index;
	struct sequencer *sequencer;
	struct spool *spool;
	struct dedup *dedup;
	struct keyring *keyring;
	_Atomic int compression_level; /* COMPRESS_LEVEL_MIN .. COMPRESS_LEVEL_MAX; may change */
	_Atomic uint64_t next_chunk_no;
	/*
	 * Chunks deduplicate only within one domain: 0, or one for each policy root whose policy
	 * excludes providers or regions, or has keys or coding of its own.  From memory.  NULL: all 0.
	 */
	uint64_t (*domain_of)(void *ctx, uint64_t policy_root);
	void *ctx;
};

/* With a reading connection of its own.  -ENOMEM, -EIO.  The store is borrowed. */
int chunk_worker_new(struct chunk_store *store, struct chunk_worker **out);
void chunk_worker_free(struct chunk_worker *worker); /* accepts NULL */
DEFINE_FREEP(chunk_worker)
/* Its connection, for the worker's own thread between two calls of chunk_put. */
struct index_reader *chunk_worker_reader(struct chunk_worker *worker);

/*
 * chunk_put - store bytes (1 .. CHUNK_BYTES_MAX) or find them stored.  On success *out is the
 * chunk, its CHUNK_PUT record has been submitted if it is new, and it is PINNED: it will not be
 * condemned before chunk_unpin, which the caller calls after it has submitted the record with the
 * extent that names it.  A hit counts only on bytes in the spool or on acknowledged copies that
 * were not seen bad since.  *is_new tells which.  May wait for another worker that stores the same
 * bytes just now.  -EINVAL: size; -ENOSPC, -EIO, -ENOMEM, -ENOKEY: nothing is pinned.
 */
int chunk_put(struct chunk_worker *worker, const struct shard_class *class, struct bytes src,
	      struct chunk_row *out, bool *is_new);
void chunk_unpin(struct chunk_store *store, uint64_t chunk_no);

#endif
