/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight writers of identical data while a reclaimer condemns, over a model of
 * the index: whoever refers to a chunk finds it there, for as long as it refers.
 */
#include "store/dedup.h"
#include "util/map.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITERS 8
#define ROUNDS	20000
#define NAMES	5	/* few, so that everybody meets */
#define CHUNKS	(1u << 20)

struct model_chunk {
	bool exists;
	int refs;
	unsigned name;
};

static struct dedup *dedup;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct model_chunk *chunks; /* by chunk_no; lock */
static unsigned latest[NAMES];	   /* what the index finds for a name; lock */
static unsigned next_no = 1;	   /* lock */
static unsigned stored, found, deleted, anew; /* lock */
static _Atomic bool is_over;

static void fail(const char *what)
{
	fprintf(stderr, "dedup_stress: %s\n", what);
	abort();
}

static struct chunk_id name_of(unsigned n)
{
	return (struct chunk_id){{(uint8_t)n, 42}};
}

static unsigned store_new(unsigned n)
{
	struct chunk_id id = name_of(n);
	unsigned no;

	pthread_mutex_lock(&lock);
	no = next_no++;
	pthread_mutex_unlock(&lock);
	if (no >= CHUNKS)
		fail("model too small");
	if (dedup_claim(dedup, &id, 0, no) < 0)
		fail("claim");
	pthread_mutex_lock(&lock);
	chunks[no] = (struct model_chunk){.exists = true, .name = n};
	latest[n] = no;
	stored++;
	pthread_mutex_unlock(&lock);
	return no;
}

static unsigned look_up(unsigned n)
{
	unsigned no;

	pthread_mutex_lock(&lock);
	no = chunks[latest[n]].exists ? latest[n] : 0;
	pthread_mutex_unlock(&lock);
	return no;
}

static unsigned put(unsigned n)
{
	struct chunk_id id = name_of(n);
	struct chunk_row row = {.id = id};
	enum dedup_answer answer;
	int r = dedup_begin(dedup, &id, 0, &answer, &row);

	if (r < 0)
		fail("begin");
	if (answer == DEDUP_FOUND)
		return (unsigned)row.chunk_no;
	row.chunk_no = look_up(n);
	if (row.chunk_no) {
		r = dedup_finish(dedup, &id, 0, &row);
		if (r == 0) {
			pthread_mutex_lock(&lock);
			found++;
			pthread_mutex_unlock(&lock);
			return (unsigned)row.chunk_no;
		}
		if (r != -EBUSY)
			fail("finish");
		pthread_mutex_lock(&lock);
		anew++;
		pthread_mutex_unlock(&lock);
	}
	row.chunk_no = store_new(n);
	if (dedup_finish(dedup, &id, 0, &row) < 0)
		fail("finish of a new one");
	return (unsigned)row.chunk_no;
}

static void refer(unsigned no, int change)
{
	pthread_mutex_lock(&lock);
	if (!chunks[no].exists)
		fail("a reference to a chunk that is deleted");
	chunks[no].refs += change;
	pthread_mutex_unlock(&lock);
}

static void *write_run(void *arg)
{
	uint64_t state = (uintptr_t)arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned no = put((unsigned)(map_hash_u64(state++ * WRITERS) % NAMES));

		refer(no, 1);
		dedup_unpin(dedup, no);
		refer(no, -1); /* the file is removed again */
	}
	return NULL;
}

static void reclaim(unsigned no)
{
	bool is_dead;

	if (dedup_condemn(dedup, no) < 0)
		return;
	pthread_mutex_lock(&lock);
	is_dead = chunks[no].refs == 0;
	if (is_dead && chunks[no].exists) {
		chunks[no].exists = false;
		deleted++;
	}
	pthread_mutex_unlock(&lock);
	dedup_forget_condemned(dedup, no);
}

static void *reclaim_run(void *arg)
{
	(void)arg;
	while (!atomic_load(&is_over))
		for (unsigned n = 0; n < NAMES; n++) {
			unsigned no = look_up(n);

			if (no)
				reclaim(no);
		}
	return NULL;
}

int main(void)
{
	pthread_t writers[WRITERS], reclaimer;

	chunks = calloc(CHUNKS, sizeof(*chunks));
	if (!chunks || dedup_new(&dedup) < 0)
		fail("no memory");
	if (pthread_create(&reclaimer, NULL, reclaim_run, NULL) != 0)
		fail("no thread");
	for (uintptr_t i = 0; i < WRITERS; i++)
		if (pthread_create(&writers[i], NULL, write_run, (void *)(i * 1000003)) != 0)
			fail("no thread");
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	atomic_store(&is_over, true);
	pthread_join(reclaimer, NULL);
	printf("stored %u, found %u, deleted %u, stored anew %u\n", stored, found, deleted, anew);
	dedup_free(dedup);
	free(chunks);
	return 0;
}
