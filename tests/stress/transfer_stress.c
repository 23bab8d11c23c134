/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers, readers, verifiers, waiters and a hand that takes providers away, lets requests fail and
 * damages objects, all at once.  Afterwards every shard has all its copies, each of them good.
 */
#include "tests/lib/check.h"
#include "tests/lib/copies_world.h"
#include "util/queue.h"

#include <errno.h>
#include <time.h>

#define SHARDS	  150
#define SHARDS_PAR 2 /* threads that read and verify */
#define PROVIDERS 4
#define COPIES	  3
#define RUN_MS	  4000

static struct copies_world world;
static struct shard_row shards[SHARDS];
static _Atomic unsigned shard_count, reads_ok, reads_failed, reads_early, told;
static atomic_bool is_over;

static uint64_t draw(uint64_t *state, uint64_t below)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (*state >> 33) % below;
}

static void waiter_done(struct waiter *waiter, int error)
{
	(void)error;
	atomic_fetch_add(&told, 1);
	mem_free(waiter);
}

static int check_nothing(void *ctx, struct bytes bytes)
{
	const struct shard_row *shard = ctx;

	/* the header is plain; damage of the rest is found by the verifiers */
	return bytes.len == shard->object_len ? 0 : -EBADMSG;
}

static void *reader_main(void *arg)
{
	uint64_t seed = 7 + (uintptr_t)arg;
	struct index_reader *reader;

	cr_assert_eq(index_reader_open(world.data.index, &reader), 0);
	while (!atomic_load(&is_over)) {
		unsigned count = atomic_load(&shard_count), good, bad, valid;
		AUTO(copy_list) copies = ROW_LIST_INIT;
		AUTO(buf) bytes = BUF_INIT;
		struct shard_row *shard;

		if (count == 0)
			continue;
		shard = &shards[draw(&seed, count)];
		if (draw(&seed, 4) == 0) {
			transfer_verify_shard(world.transfer, reader, shard->shard_no, &good, &bad);
			continue;
		}
		if (draw(&seed, 8) == 0) {
			struct waiter *waiter = mem_alloc(sizeof(*waiter));

			waiter->done = waiter_done;
			transfer_when_copied(world.transfer, shard->shard_no, draw(&seed, 4),
					     waiter);
		}
		cr_assert_eq(index_list_copies(world.data.index, reader, shard->shard_no, &copies),
			     0);
		valid = 0;
		for (size_t i = 0; i < copies.count; i++)
			valid += copy_is_valid(&copies.rows[i]);
		if (transfer_fetch(world.transfer, reader, shard, 0, (uint32_t)shard->object_len,
				   check_nothing, shard, &bytes) == 0)
			atomic_fetch_add(&reads_ok, 1);
		else /* one provider at a time is away, and it comes back within the read */
			atomic_fetch_add(valid >= 2 ? &reads_failed : &reads_early, 1);
	}
	index_reader_close(reader);
	return NULL;
}

/* One provider at a time is in trouble. */
static void trouble(uint64_t *seed)
{
	uint32_t no = 1 + draw(seed, PROVIDERS);
	struct backend *backend = world.backends[no - 1];
	struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	unsigned count = atomic_load(&shard_count);

	switch (draw(seed, 5)) {
	case 0:
		memory_set_absent(backend, true);
		nanosleep(&pause, NULL);
		memory_set_absent(backend, false);
		break;
	case 1:
		copies_fault(&world, no, FAULT_LANDED, BACKEND_PUT, -EIO, 1, 3);
		break;
	case 2:
		copies_fault(&world, no, FAULT_STALL, BACKEND_GET, -EIO, 1, 3);
		nanosleep(&pause, NULL);
		fault_clear(backend);
		fault_release(backend);
		break;
	case 3:
		copies_fault(&world, no, FAULT_CORRUPT, BACKEND_GET, 0, 1, 2);
		break;
	case 4:
		if (count > 0)
			memory_damage(backend, shard_id_hex(&shards[draw(seed, count)].id).s,
				      draw(seed, 500), 1);
		break;
	}
	transfer_probe(world.transfer);
}

int main(void)
{
	pthread_t readers[SHARDS_PAR];
	uint64_t seed = 42, end;
	unsigned turns = 0;

	copies_world_init(&world, PROVIDERS, COPIES);
	world.transfer->queue_max = 32;
	copies_world_start(&world);
	for (uintptr_t i = 0; i < SHARDS_PAR; i++)
		cr_assert_eq(thread_start(&readers[i], "reader", reader_main, (void *)i), 0);
	end = clock_mono_ms() + RUN_MS;
	while (clock_mono_ms() < end) {
		if (shard_count < SHARDS) {
			shards[shard_count] = copies_shard(&world, 600, true);
			atomic_fetch_add(&shard_count, 1);
		}
		if (draw(&seed, 4) == 0)
			trouble(&seed);
	}
	atomic_store(&is_over, true);
	for (unsigned i = 0; i < PROVIDERS; i++) {
		fault_clear(world.backends[i]);
		fault_release(world.backends[i]);
	}
	for (unsigned i = 0; i < SHARDS_PAR; i++)
		pthread_join(readers[i], NULL);
	for (unsigned i = 0; i < shard_count; i++) {
		unsigned good = 0, bad = 1;

		while (good < COPIES || bad > 0) {
			copies_await_valid(&world, shards[i].shard_no, COPIES);
			cr_assert_eq(transfer_verify_shard(world.transfer, world.data.reader,
							   shards[i].shard_no, &good, &bad), 0);
			copies_turn(&world, true, &turns);
		}
	}
	printf("%u shards, %u reads, %u failed, %u too early, %u waiters told\n", shard_count, reads_ok,
	       reads_failed, reads_early, told);
	cr_assert_eq(reads_failed, 0); /* with two valid copies nobody sees an error */
	copies_world_release(&world);
	return 0;
}
