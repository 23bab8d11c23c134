/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_GC_WORLD_H
#define SHARDFS_TESTS_GC_WORLD_H

/*
 * Reclaiming over real index, journal, spool and transfer, with three providers in memory and two
 * copies of each shard.  gc looks only when it is told to.
 */
#include "store/gc.h"
#include "tests/lib/copies_world.h"

struct gc_world {
	struct copies_world copies;
	struct reader *reader;
	struct gc_settings settings; /* change before gc_world_open */
	struct gc *gc;
};

void gc_world_init(struct gc_world *world); /* closed: see gc_world_open */
void gc_world_open(struct gc_world *world); /* starts transfer, reader and gc */
void gc_world_close(struct gc_world *world);
void gc_world_restart(struct gc_world *world); /* the daemon ends and starts again */
void gc_world_release(struct gc_world *world); /* after close */

/* One look; gc's own failures are allowed when may_fail. */
struct gc_report gc_world_look(struct gc_world *world, bool may_fail);
/* Looks, sealing and copying in between, until there is nothing to do. */
struct gc_report gc_world_finish(struct gc_world *world);
/* Everything in the spool is sealed and has its two copies. */
void gc_world_ship(struct gc_world *world);
/* A chunk of `len` bytes at [off, off + len) of the inode. */
struct chunk_row gc_world_put(struct gc_world *world, uint64_t ino, uint64_t off, uint64_t number,
			      size_t len);
void gc_world_cut(struct gc_world *world, uint64_t ino, uint64_t off, uint64_t len); /* a hole */
bool gc_world_reads(struct gc_world *world, uint64_t chunk_no, uint64_t number, size_t len);
/* Whether the index has the chunk, after everything was applied. */
bool gc_world_has_chunk(struct gc_world *world, uint64_t chunk_no);
bool gc_world_has_shard(struct gc_world *world, uint64_t shard_no);
unsigned gc_world_objects(struct gc_world *world, uint32_t no); /* that provider `no` lists */
uint64_t gc_world_violations(struct gc_world *world); /* of the index's invariants */
/* The provider's store goes or comes, and transfer has seen it. */
void gc_world_set_absent(struct gc_world *world, uint32_t no, bool is_absent);

#endif
