/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_DATA_WORLD_H
#define SHARDFS_TESTS_DATA_WORLD_H

/*
 * The way of a byte below the writer, for tests of spool, chunk and reader: real
 * keys, index, journal, sequencer and spool in a directory of their own.  The
 * callbacks of the spool journal what the store's would, and note it here.
 * Every function asserts that it works, unless it returns something.
 */
#include "store/chunk.h"
#include "store/dedup.h"
#include "store/spool.h"

#include <stdatomic.h>

struct data_world {
	char dir[256];
	struct keyring *keyring;
	struct superblock superblock; /* not stored anywhere */
	struct index *index;
	struct index_reader *reader; /* of the test's thread */
	struct journal *journal;
	struct sequencer *sequencer;
	struct spool *spool;
	struct spool_settings spool_settings;
	struct dedup *dedup;
	struct chunk_store chunks;
	struct aead_ctx *aead;
	_Atomic uint64_t next_shard_no;
	_Atomic unsigned opened, sealed, moved, bad, gone, settled;
	_Atomic int open_error, move_error;
	struct shard_row last_sealed; /* stable after spool_seal_all */
};

/* What is not 0 here is taken: shard_bytes, open_shards_max, size_max, idle_ms. */
void data_world_init(struct data_world *world, const struct spool_settings *wanted);
void data_world_release(struct data_world *world);
/* The daemon is killed and starts again: nothing is sealed; the spool is recovered if asked. */
void data_world_restart(struct data_world *world, bool recover);

struct shard_class data_class(uint64_t policy_root);
/* len bytes that are told by the number. */
void data_fill(uint64_t number, void *out, size_t len);
/* Stores a raw record of len bytes and journals its chunk; the row. */
struct chunk_row data_append(struct data_world *world, uint64_t policy_root, uint64_t number,
			     size_t len);
/* Whether the spool gives these bytes back. */
bool data_reads_back(struct data_world *world, const struct chunk_row *chunk, uint64_t number);
struct chunk_row data_chunk_now(struct data_world *world, uint64_t chunk_no);
void data_path(struct data_world *world, uint64_t shard_no, char out[512]);
void data_put_extent(struct data_world *world, uint64_t ino, uint64_t off, uint32_t len,
		     uint64_t chunk_no, uint32_t chunk_off);
void data_put_copy(struct data_world *world, uint64_t shard_no, uint32_t state);
void data_wait_applied(struct data_world *world);

#endif
