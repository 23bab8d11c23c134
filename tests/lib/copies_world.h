/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_COPIES_WORLD_H
#define SHARDFS_TESTS_COPIES_WORLD_H

/*
 * Transfer with everything beneath it real (index, journal, spool, keys), and providers in memory
 * behind a fault wrapper, without retries, so that each answer of a provider is seen by transfer.
 * Their objects outlive the daemon.
 */
#include "backends/memory.h"
#include "backends/wrap_fault.h"
#include "store/transfer_private.h"
#include "tests/lib/data_world.h"

#define WORLD_PROVIDERS_MAX 5

struct copies_world {
	struct data_world data;
	struct config config;
	struct config_provider provider_configs[WORLD_PROVIDERS_MAX];
	char names[WORLD_PROVIDERS_MAX][32], shares[WORLD_PROVIDERS_MAX][64];
	unsigned provider_count;
	struct transfer *transfer;
	struct backend *backends[WORLD_PROVIDERS_MAX]; /* of transfer */
	struct policy policy;
	unsigned queue_max; /* of a lane; 0: the usual */
	_Atomic unsigned durable;
	bool is_made; /* the providers' stores */
};

/* Opens transfer without starting it, so that faults can be put in first. */
void copies_world_init(struct copies_world *world, unsigned provider_count, unsigned copies);
void copies_world_open(struct copies_world *world);
void copies_world_start(struct copies_world *world);
void copies_world_stop(struct copies_world *world); /* transfer alone; may be opened again */
/* The daemon ends and starts again, transfer opened and not started. */
void copies_world_restart(struct copies_world *world);
void copies_world_release(struct copies_world *world);

/* A sealed shard of about `len` bytes; transfer is told if `add`. */
struct shard_row copies_shard(struct copies_world *world, size_t len, bool add);
/* Its state at provider number `no` (1 ..), as the index has it; COPY_NONE without a row. */
uint32_t copies_state(struct copies_world *world, uint64_t shard_no, uint32_t no);
unsigned copies_valid(struct copies_world *world, uint64_t shard_no);
/* Whether provider `no` has an object of the shard that authenticates in whole. */
bool copies_object_is_good(struct copies_world *world, const struct shard_row *shard, uint32_t no);
enum protection copies_judge(struct copies_world *world, const struct shard_row *shard);
/* Waits, asking transfer to look at its providers again, until the copies are all valid. */
void copies_await_valid(struct copies_world *world, uint64_t shard_no, unsigned copies);
void copies_await_state(struct copies_world *world, uint64_t shard_no, uint32_t no, uint32_t state);
void copies_await_present(struct copies_world *world, uint32_t no, bool is_present);
/* Once more around; fails after a minute of it.  *turns starts at 0. */
void copies_turn(struct copies_world *world, bool probe, unsigned *turns);
void copies_fault(struct copies_world *world, uint32_t no, enum fault_mode mode, unsigned op,
		  int error, uint64_t nth, uint64_t count);
/* Reads the whole object through transfer. */
int copies_fetch(struct copies_world *world, const struct shard_row *shard, struct buf *out);

#endif
