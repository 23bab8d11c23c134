/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/data_world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>

static struct chunk_row put(struct chunk_worker *worker, uint64_t root, uint64_t number, size_t len,
			    bool *is_new)
{
	struct shard_class class = data_class(root);
	uint8_t *bytes = mem_alloc_raw(len);
	struct chunk_row row;

	data_fill(number, bytes, len);
	cr_assert_eq(chunk_put(worker, &class, bytes_of(bytes, len), &row, is_new), 0);
	mem_free(bytes);
	cr_assert_eq(row.raw_len, len);
	return row;
}

Test(store_chunk, the_same_bytes_are_stored_once, .timeout = 60)
{
	struct data_world world;
	struct chunk_worker *worker;
	struct chunk_row a, b;
	bool is_new;

	data_world_init(&world, NULL);
	cr_assert_eq(chunk_worker_new(&world.chunks, &worker), 0);
	a = put(worker, 1, 1, 5000, &is_new);
	cr_assert(is_new);
	b = put(worker, 1, 1, 5000, &is_new);
	cr_assert(!is_new, "known and pinned");
	cr_assert_eq(a.chunk_no, b.chunk_no);
	chunk_unpin(&world.chunks, a.chunk_no);
	chunk_unpin(&world.chunks, a.chunk_no);
	b = put(worker, 1, 1, 5000, &is_new);
	cr_assert(!is_new, "from the index's overlay");
	cr_assert_eq(a.chunk_no, b.chunk_no);
	chunk_unpin(&world.chunks, b.chunk_no);
	data_wait_applied(&world);
	b = put(worker, 1, 1, 5000, &is_new);
	cr_assert(!is_new, "from the engine");
	cr_assert_eq(a.chunk_no, b.chunk_no);
	cr_assert_neq(put(worker, 1, 2, 5000, &is_new).chunk_no, a.chunk_no);
	cr_assert(is_new);
	chunk_worker_free(worker);
	data_world_release(&world);
}

Test(store_chunk, what_shrinks_is_stored_small_and_the_rest_as_it_is, .timeout = 60)
{
	struct data_world world;
	struct chunk_worker *worker;
	struct shard_class class = data_class(1);
	static uint8_t zeros[100000];
	struct chunk_row row;
	bool is_new;

	data_world_init(&world, NULL);
	cr_assert_eq(chunk_worker_new(&world.chunks, &worker), 0);
	cr_assert_eq(chunk_put(worker, &class, bytes_of(zeros, sizeof(zeros)), &row, &is_new), 0);
	cr_assert_lt(row.stored_len, 1000);
	cr_assert_eq(row.raw_len, sizeof(zeros));
	row = put(worker, 1, 7, 100000, &is_new);
	cr_assert_eq(row.stored_len, 100000 + PACK_RECORD_EXTRA);
	cr_assert(data_reads_back(&world, &row, 7));
	cr_assert_eq(chunk_put(worker, &class, bytes_of(zeros, 0), &row, &is_new), -EINVAL);
	chunk_worker_free(worker);
	data_world_release(&world);
}

Test(store_chunk, a_hit_counts_only_on_the_spool_or_a_good_copy, .timeout = 60)
{
	struct data_world world;
	struct chunk_worker *worker;
	struct chunk_row a, b;
	bool is_new;

	data_world_init(&world, NULL);
	cr_assert_eq(chunk_worker_new(&world.chunks, &worker), 0);
	a = put(worker, 1, 1, 5000, &is_new);
	chunk_unpin(&world.chunks, a.chunk_no);
	cr_assert_eq(spool_seal_all(world.spool, 0), 0);
	data_put_copy(&world, a.shard_no, COPY_PRESENT);
	cr_assert_eq(spool_release(world.spool, a.shard_no, NULL), 0);
	b = put(worker, 1, 1, 5000, &is_new);
	cr_assert(!is_new);
	chunk_unpin(&world.chunks, b.chunk_no);
	data_put_copy(&world, a.shard_no, COPY_CORRUPT);
	b = put(worker, 1, 1, 5000, &is_new);
	cr_assert(is_new, "its only copy was seen bad");
	cr_assert_neq(a.chunk_no, b.chunk_no);
	chunk_unpin(&world.chunks, b.chunk_no);
	a = b;
	data_wait_applied(&world);
	b = put(worker, 1, 1, 5000, &is_new);
	cr_assert(!is_new, "the new one counts from now on");
	cr_assert_eq(a.chunk_no, b.chunk_no);
	chunk_worker_free(worker);
	data_world_release(&world);
}

static uint64_t domain_of(void *ctx, uint64_t policy_root)
{
	(void)ctx;
	return policy_root >= 10 ? policy_root : 0;
}

Test(store_chunk, policies_with_domains_of_their_own_do_not_share, .timeout = 60)
{
	struct data_world world;
	struct chunk_worker *worker;
	struct chunk_row a, b, c, again;
	bool is_new;

	data_world_init(&world, NULL);
	world.chunks.domain_of = domain_of;
	cr_assert_eq(chunk_worker_new(&world.chunks, &worker), 0);
	a = put(worker, 1, 1, 5000, &is_new);
	b = put(worker, 2, 1, 5000, &is_new);
	cr_assert(!is_new);
	cr_assert_eq(a.chunk_no, b.chunk_no);
	b = put(worker, 10, 1, 5000, &is_new);
	cr_assert(is_new);
	c = put(worker, 11, 1, 5000, &is_new);
	cr_assert(is_new);
	cr_assert(!chunk_id_is_equal(&a.id, &b.id) && !chunk_id_is_equal(&b.id, &c.id));
	chunk_unpin(&world.chunks, b.chunk_no);
	again = put(worker, 10, 1, 5000, &is_new);
	cr_assert(!is_new);
	cr_assert_eq(again.chunk_no, b.chunk_no);
	chunk_worker_free(worker);
	data_world_release(&world);
}

Test(store_chunk, a_failure_pins_nothing_and_the_next_attempt_succeeds, .timeout = 60)
{
	struct data_world world;
	struct chunk_worker *worker;
	struct shard_class class = data_class(1), unknown = {.policy_root = 1, .key_epoch = 99};
	struct chunk_row row;
	uint8_t bytes[100] = {1};
	bool is_new;

	data_world_init(&world, NULL);
	cr_assert_eq(chunk_worker_new(&world.chunks, &worker), 0);
	world.open_error = -ENOSPC;
	cr_assert_eq(chunk_put(worker, &class, bytes_of(bytes, 100), &row, &is_new), -ENOSPC);
	world.open_error = 0;
	cr_assert_eq(chunk_put(worker, &unknown, bytes_of(bytes, 100), &row, &is_new), -ENOKEY);
	cr_assert_eq(chunk_put(worker, &class, bytes_of(bytes, 100), &row, &is_new), 0);
	cr_assert(is_new);
	cr_assert_eq(dedup_condemn(world.dedup, row.chunk_no), -EBUSY);
	chunk_unpin(&world.chunks, row.chunk_no);
	cr_assert_eq(dedup_condemn(world.dedup, row.chunk_no), 0);
	cr_assert_eq(chunk_put(worker, &class, bytes_of(bytes, 100), &row, &is_new), 0);
	cr_assert(is_new, "condemned: stored anew");
	chunk_worker_free(worker);
	data_world_release(&world);
}

#define WORKERS 6
#define EACH	40

struct runner {
	struct data_world *world;
	uint64_t nos[EACH];
	unsigned made;
};

static void *run(void *arg)
{
	struct runner *runner = arg;
	struct chunk_worker *worker;
	bool is_new;

	cr_assert_eq(chunk_worker_new(&runner->world->chunks, &worker), 0);
	for (unsigned i = 0; i < EACH; i++) {
		runner->nos[i] = put(worker, 1, i, 3000 + i, &is_new).chunk_no;
		runner->made += is_new;
	}
	chunk_worker_free(worker);
	return NULL;
}

Test(store_chunk, workers_with_identical_data_store_it_once, .timeout = 60)
{
	static struct runner runners[WORKERS];
	pthread_t threads[WORKERS];
	struct data_world world;
	unsigned made = 0;

	data_world_init(&world, NULL);
	for (unsigned i = 0; i < WORKERS; i++) {
		runners[i].world = &world;
		cr_assert_eq(pthread_create(&threads[i], NULL, run, &runners[i]), 0);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], NULL);
		made += runners[i].made;
	}
	cr_assert_eq(made, EACH);
	for (unsigned i = 1; i < WORKERS; i++)
		cr_assert_arr_eq(runners[i].nos, runners[0].nos, sizeof(runners[0].nos));
	for (unsigned i = 0; i < EACH; i++)
		for (unsigned n = 0; n < WORKERS; n++)
			chunk_unpin(&world.chunks, runners[0].nos[i]);
	data_world_release(&world);
}
