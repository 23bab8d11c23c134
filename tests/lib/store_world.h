/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_STORE_WORLD_H
#define SHARDFS_TESTS_STORE_WORLD_H

/*
 * A whole file system in $TMPDIR: three directories as providers, and the
 * store open on it.  One for each process.  What fails here ends the test.
 */
#include "store/store.h"

struct store_world {
	struct config config; /* as written; each opening has a copy of its own */
	struct store *store;
	struct index_reader *reader;
	struct inode *root; /* referenced */
};

/* Makes it and opens it. */
void store_world_init(struct store_world *world);
/* The same with providers in memory, which outlive a reopening and have clocks (backends/memory.h). */
void store_world_init_memory(struct store_world *world);
/* Closes and opens again, with whatever the journal has to replay. */
void store_world_reopen(struct store_world *world);
void store_world_release(struct store_world *world);
/* A new regular file in the root, with a reference. */
struct inode *store_world_file(struct store_world *world, const char *name);
/* Writes and pushes. */
void store_world_write(struct store_world *world, struct inode *inode, uint64_t off,
		       struct bytes bytes);
/* Waits for a push. */
void store_world_push(struct store_world *world, struct inode *inode);

#endif
