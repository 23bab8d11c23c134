/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_READER_H
#define SHARDFS_STORE_READER_H

/*
 * Locate, fetch, verify, open.  Extents -> decoded chunks in memory (bounded) -> spool -> cache on
 * disk -> provider.  Every byte handed out was authenticated.  Sequential readers are read ahead
 * of; two readers of one chunk cause one fetch.
 */

#include "index/index.h"
#include "store/cache.h"
#include "store/spool.h"

struct reader;

struct reader_settings {
	struct index *index;
	struct spool *spool;
	struct cache *cache;       /* on disk; may be NULL */
	struct keyring *keyring;
	uint64_t decoded_bytes_max;    /* decoded chunks in memory; those in use may come on top */
	uint64_t read_ahead_bytes_max; /* for each sequential stream; 0: none */
	unsigned prefetch_threads;     /* 0: no read-ahead; .. 16 */
	/*
	 * transfer_fetch (store/transfer.h) with its transfer as fetch_ctx; NULL: local bytes only.
	 * check is called by one thread at a time, while fetch has not returned.
	 */
	int (*fetch)(void *fetch_ctx, struct index_reader *reader, const struct shard_row *shard,
		     uint32_t off, uint32_t len, int (*check)(void *ctx, struct bytes bytes),
		     void *ctx, struct buf *out);
	void *fetch_ctx;
};

/* -ENOMEM, -EAGAIN (no thread), or what opening a connection to the index says. */
int reader_open(const struct reader_settings *settings, struct reader **out);
void reader_close(struct reader *reader); /* nobody may be inside a call; accepts NULL */

/*
 * reader_read - bytes [off, off+len) of the inode as the index has them (extents; holes are
 * zeros), written to out.  The caller has clipped to the file's size and lays dirty buffers over.
 * With index_reader NULL it answers only from memory (-EAGAIN otherwise).
 * -EIO: no good copy of some chunk can be reached (logged with chunk and shard); -ENOMEM; what the
 * index says.  Nothing of out may be used then.
 */
int reader_read(struct reader *reader, struct index_reader *index_reader, uint64_t ino,
		uint64_t off, size_t len, uint8_t *out);

/* Decoded bytes of one chunk (for fsck, tests), appended to out.  -ENOENT: there is no such chunk. */
int reader_read_chunk(struct reader *reader, struct index_reader *index_reader, uint64_t chunk_no,
		      struct buf *out);

/*
 * reader_read_record - one chunk as it is packed, for moving it: its payload (compressed as `form`
 * says), authenticated, appended to out; *chunk is its row and tells where it was read.  Nothing is
 * kept in memory.  -ENOENT: there is no such chunk; -EIO: no good copy can be reached (logged).
 */
int reader_read_record(struct reader *reader, struct index_reader *index_reader, uint64_t chunk_no,
		       struct buf *out, uint8_t *form, struct chunk_row *chunk);

/*
 * Read-ahead: the caller tells each read; the reader decides.  `stream` is zeroed at open of the
 * file and belongs to the handle; guarded by the caller.
 */
struct reader_stream {
	uint64_t next_off, window_end; /* where the next read is expected; asked for up to there */
	uint32_t run_count;            /* reads in sequence */
};
void reader_note_read(struct reader *reader, struct reader_stream *stream, uint64_t ino,
		      uint64_t off, size_t len, uint64_t file_size);

#endif
