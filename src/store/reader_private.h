/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_READER_PRIVATE_H
#define SHARDFS_STORE_READER_PRIVATE_H

/* Shared by reader.c (ranges of files, read-ahead), reader_memory.c (decoded chunks) and
 * reader_load.c (from spool, cache and providers to decoded bytes). */

#include "codec/compress.h"
#include "store/reader.h"
#include "util/list.h"
#include "util/lock.h"
#include "util/map.h"
#include "util/queue.h"

#define READER_SLICES	   8
#define READER_SHARDS_MAX  64 /* shards whose keys are kept */
#define READER_FETCHED_MAX 4  /* ranges from providers that are kept in memory a little */
#define READER_PREFETCH_MAX 16

/* ---- decoded chunks in memory ---- */

enum decoded_state { DECODED_LOADING, DECODED_READY, DECODED_FAILED };

struct decoded {
	struct map_node node; /* all: lock of the slice; data and len are fixed once ready */
	struct list lru;
	uint64_t chunk_no;
	enum decoded_state state;
	int error;
	uint32_t refs;
	bool is_dropped; /* out of the table; freed with the last reference */
	uint32_t len;
	uint8_t *data;
};

struct decoded_slice {
	struct lock lock; /* LOCK_CACHE */
	struct cond loaded;
	struct map by_no;
	struct list lru; /* ready ones, newest first */
};

enum decoded_want {
	WANT_MEMORY,   /* only what is there: -EAGAIN */
	WANT_PREFETCH, /* load it, unless somebody does already: -EALREADY */
	WANT_WAIT,
};

/* ---- shards whose keys are known ---- */

struct known_shard {
	struct list lru;       /* reader->shards_lock */
	uint32_t refs;	       /* same */
	uint64_t shard_no;     /* 0: free */
	uint32_t fetch_off;    /* same: where the last fetch began */
	uint32_t fetch_next;   /* same: where it ended */
	uint32_t fetch_window; /* same */
	struct pack_keys keys; /* fixed while referenced */
};

/* ---- ranges from providers ---- */

struct fetched {
	struct list node; /* all: reader->fetch_lock; bytes are fixed once done */
	uint64_t shard_no;
	uint32_t off, len;
	uint32_t refs;
	bool is_done;
	int error;
	struct buf bytes;
};

/* What one thread needs to open records; rests in a pool. */
struct decoder {
	struct decoder *next;
	struct aead_ctx *aead;
	struct compress_ctx *compress;
	struct buf sealed, plain;
};

struct reader {
	struct reader_settings settings;
	struct decoded_slice slices[READER_SLICES];
	_Atomic uint64_t decoded_bytes;

	struct lock shards_lock; /* LOCK_LEAF */
	struct known_shard *shards; /* READER_SHARDS_MAX, in locked memory */
	struct list shards_lru;	 /* newest first; all of them */

	struct lock fetch_lock; /* LOCK_LEAF: guards fetches and those in it */
	struct cond fetch_done;
	struct list fetches; /* newest first: in flight, and up to READER_FETCHED_MAX done */

	struct lock pool_lock; /* LOCK_LEAF */
	struct decoder *decoders;
	struct index_reader *connections[READER_PREFETCH_MAX];
	unsigned connection_count;

	struct queue prefetch_queue;
	struct workers prefetch_workers;
	_Atomic bool is_closing;
};

/* reader_memory.c.  A reference to the decoded chunk; decoded_put returns it. */
int decoded_get(struct reader *reader, struct index_reader *index_reader, uint64_t chunk_no,
		enum decoded_want want, struct decoded **out);
void decoded_put(struct reader *reader, struct decoded *decoded);
void decoded_init(struct reader *reader);
void decoded_release(struct reader *reader);

/*
 * reader_load.c: bytes of a chunk, authenticated and decompressed, in fresh memory (mem_free).
 * -EIO: it cannot be had (logged); -ENOENT: there is no such chunk; -ENOMEM; what the index says.
 */
int reader_load(struct reader *reader, struct index_reader *index_reader, uint64_t chunk_no,
		uint8_t **data, uint32_t *len);
int reader_load_init(struct reader *reader);
void reader_load_release(struct reader *reader);

#endif
