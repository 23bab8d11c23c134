/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Submitters, flushers and syncers on one sequencer, with a small backlog, while
 * spool, index and journal fail now and then: records are noted and applied in
 * order and never before they are synced, every waiter is told exactly once, and
 * in the end everything is applied.
 *
 * With an argument (seconds) it measures instead: waits a second for `written`
 * and for `synced` with 1, 2, 4 and 8 threads.
 */
#include "store/sequencer.h"
#include "tests/lib/fake_index.h"
#include "tests/lib/journal_world.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS	     8
#define RECORDS_EACH 3000
#define BACKLOG	     500

static struct sequencer *seq;
static struct index index_;
static _Atomic unsigned spool_calls;
static _Atomic bool is_quiet; /* no more failures */
static _Atomic uint64_t asked, told, refused;

static void fail(const char *what)
{
	fprintf(stderr, "stress/sequencer: %s\n", what);
	exit(1);
}

static int sync_spool(void *ctx)
{
	unsigned n = atomic_fetch_add(&spool_calls, 1);

	(void)ctx;
	return n % 97 == 96 && !atomic_load(&is_quiet) ? -EIO : 0;
}

static int sync_nothing(void *ctx)
{
	(void)ctx;
	return 0;
}

static bool may_apply(void *ctx, uint64_t number)
{
	(void)ctx;
	return number <= sequencer_synced_seq(seq);
}

struct told_waiter {
	struct waiter waiter;
	_Atomic unsigned times;
};

static void on_told(struct waiter *waiter, int error)
{
	struct told_waiter *w = container_of(waiter, struct told_waiter, waiter);

	(void)error;
	if (atomic_fetch_add(&told, 1) >= atomic_load(&asked))
		fail("more were told than asked");
	atomic_store(&w->times, w->times + 1);
}

static void ask(void (*when)(struct sequencer *, uint64_t, struct waiter *), uint64_t number,
		struct told_waiter *w)
{
	w->waiter.done = on_told;
	atomic_fetch_add(&asked, 1);
	when(seq, number, &w->waiter);
}

static bool admit(struct told_waiter *w)
{
	int r;

	w->waiter.done = on_told;
	atomic_fetch_add(&asked, 1);
	r = sequencer_admit(seq, &w->waiter);
	if (r != -EAGAIN) {
		atomic_fetch_sub(&asked, 1);
		return r == 0;
	}
	while (atomic_load(&w->times) == 0)
		sched_yield();
	return true;
}

static void one_operation(uint64_t n, struct told_waiter w[4])
{
	uint64_t number;

	while (!admit(&w[0]) || sequencer_submit(seq, tagged_record(0, 1, n % 300), &number) < 0) {
		atomic_fetch_add(&refused, 1);
		atomic_store(&w[0].times, 0);
		sched_yield();
	}
	if (n % 2 == 0)
		ask(sequencer_when_written, number, &w[1]);
	if (n % 7 == 0)
		ask(n % 2 ? sequencer_sync_here : sequencer_when_synced, number, &w[2]);
	if (n % 301 == 0)
		ask(sequencer_when_applied, number, &w[3]);
	if (n % 5 == 0)
		sequencer_wait_written(seq, number);
	if (n % 29 == 0)
		sequencer_wait_synced(seq, number);
	if (n % 307 == 0)
		sequencer_wait_applied(seq, number);
}

static void *run(void *arg)
{
	struct told_waiter(*waiters)[4] = arg;

	for (uint64_t n = 1; n <= RECORDS_EACH; n++)
		one_operation(n, waiters[n - 1]);
	return NULL;
}

static void start(struct journal_world *world, struct journal **journal,
		  int (*sync)(void *), uint64_t backlog)
{
	struct sequencer_settings settings = {.index = &index_,
					      .next_seq = 1,
					      .commit_interval_ms = 20,
					      .backlog_records_max = backlog,
					      .backlog_bytes_max = 64 * MIB,
					      .retry_ms = 1,
					      .sync_spool = sync};

	world->settings.file_bytes_max = sync == sync_spool ? MIB : 64 * MIB;
	if (journal_open(&world->settings, 1, journal) < 0)
		fail("journal_open");
	settings.journal = *journal;
	if (sequencer_start(&settings, &seq) < 0)
		fail("sequencer_start");
}

static void stress(void)
{
	struct told_waiter(*waiters)[4] =
		mem_alloc_array((size_t)THREADS * RECORDS_EACH, sizeof(*waiters));
	struct journal_world world;
	struct journal *journal;
	pthread_t threads[THREADS];

	log_setup(2, LOG_ERROR + 1, false);
	journal_world_init(&world);
	hooks_set("fail journal-append-before EIO 400\nfail journal-append-after ENOSPC 900\n"
		  "fail journal-sync-after EIO 30\nfail journal-mark-before EIO 20\n"
		  "fail journal-drop-before EIO 1");
	start(&world, &journal, sync_spool, BACKLOG);
	index_.may_apply = may_apply;
	atomic_store(&index_.apply_error_every, 13);
	for (size_t i = 0; i < THREADS; i++)
		if (thread_start(&threads[i], "stress", run, waiters + i * RECORDS_EACH) < 0)
			fail("thread_start");
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&is_quiet, true);
	atomic_store(&index_.apply_error_every, 0);
	hooks_set("");
	while (sequencer_wait_applied(seq, sequencer_last_seq(seq)) < 0)
		sched_yield();
	if (sequencer_stop(seq) < 0)
		fail("stop");
	if (index_.is_order_broken)
		fail("a record was noted or applied out of order, or before it was synced");
	if (index_.applied_seq != index_.noted_seq)
		fail("a record was not applied");
	sequencer_free(seq);
	if (atomic_load(&told) != atomic_load(&asked))
		fail("a waiter was never told");
	for (size_t i = 0; i < (size_t)THREADS * RECORDS_EACH; i++)
		for (size_t k = 0; k < 4; k++)
			if (waiters[i][k].times > 1)
				fail("a waiter was told twice");
	journal_close(journal);
	journal_world_release(&world);
	mem_free(waiters);
	printf("%lu records, %lu refused, %lu waiters\n", index_.applied_seq, refused, told);
}

/* ---- measuring ---- */

struct measured {
	int (*wait)(struct sequencer *, uint64_t);
	uint64_t end_ns;
	_Atomic uint64_t count;
};

static void *measure_run(void *arg)
{
	struct measured *m = arg;

	while (clock_mono_ns() < m->end_ns) {
		uint64_t number;

		if (sequencer_submit(seq, tagged_record(0, 1, 100), &number) < 0 ||
		    m->wait(seq, number) < 0)
			fail("a record was not taken");
		atomic_fetch_add(&m->count, 1);
	}
	return NULL;
}

static void measure(unsigned seconds)
{
	static const struct {
		const char *name;
		int (*wait)(struct sequencer *, uint64_t);
	} kinds[] = {{"written", sequencer_wait_written}, {"synced", sequencer_wait_synced}};
	struct journal_world world;
	struct journal *journal;

	journal_world_init(&world);
	start(&world, &journal, sync_nothing, 1000000);
	for (size_t k = 0; k < ARRAY_COUNT(kinds); k++) {
		for (unsigned count = 1; count <= 8; count *= 2) {
			struct measured m = {kinds[k].wait, clock_mono_ns() + seconds * 1000000000ull, 0};
			pthread_t threads[8];

			for (unsigned i = 0; i < count; i++)
				if (thread_start(&threads[i], "measure", measure_run, &m) < 0)
					fail("thread_start");
			for (unsigned i = 0; i < count; i++)
				pthread_join(threads[i], NULL);
			printf("%-8s %u threads: %lu a second\n", kinds[k].name, count,
			       m.count / seconds);
			if (sequencer_wait_applied(seq, sequencer_last_seq(seq)) < 0)
				fail("apply");
		}
	}
	sequencer_stop(seq);
	sequencer_free(seq);
	journal_close(journal);
	journal_world_release(&world);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		measure((unsigned)strtoul(argv[1], NULL, 10));
	else
		stress();
	return 0;
}
