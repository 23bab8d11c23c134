/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sequencer.h"

#include "tests/lib/fake_index.h"
#include "tests/lib/journal_world.h"
#include "util/log.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct journal_world world;
static struct index index_;
static struct sequencer_settings settings;
static struct sequencer *seq;
static struct journal *journal;

/* ---- what the test waits for ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned spool_syncs, spool_failures; /* mutex */
static int spool_error;                      /* mutex */
static bool is_spool_held;                   /* mutex: sync_spool does not return */
static unsigned spool_inside;                /* mutex */
static uint64_t applied_told;                /* mutex */

static int sync_spool(void *ctx)
{
	int r;

	(void)ctx;
	pthread_mutex_lock(&mutex);
	spool_syncs++;
	spool_inside++;
	pthread_cond_broadcast(&changed);
	while (is_spool_held)
		pthread_cond_wait(&changed, &mutex);
	spool_inside--;
	r = spool_error;
	spool_failures += r < 0;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
	return r;
}

static void told_applied(void *ctx, uint64_t up_to)
{
	(void)ctx;
	pthread_mutex_lock(&mutex);
	applied_told = up_to;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

#define WAIT_FOR(condition)                                                                        \
	do {                                                                                       \
		pthread_mutex_lock(&mutex);                                                        \
		while (!(condition))                                                               \
			pthread_cond_wait(&changed, &mutex);                                       \
		pthread_mutex_unlock(&mutex);                                                      \
	} while (0)

#define SET(what, value)                                                                           \
	do {                                                                                       \
		pthread_mutex_lock(&mutex);                                                        \
		what = (value);                                                                    \
		pthread_cond_broadcast(&changed);                                                  \
		pthread_mutex_unlock(&mutex);                                                      \
	} while (0)

struct told {
	struct waiter waiter;
	unsigned times; /* mutex */
	int error;      /* mutex */
};

static void tell(struct waiter *waiter, int error)
{
	struct told *told = container_of(waiter, struct told, waiter);

	pthread_mutex_lock(&mutex);
	told->times++;
	told->error = error;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

static struct told told_init(void)
{
	return (struct told){.waiter = {.done = tell}, .error = 1};
}

/* ---- the world ---- */

static bool may_apply(void *ctx, uint64_t number)
{
	(void)ctx;
	return number <= sequencer_synced_seq(seq);
}

static void start(uint64_t next_seq)
{
	cr_assert_eq(journal_open(&world.settings, next_seq, &journal), 0);
	settings.journal = journal;
	settings.next_seq = next_seq;
	cr_assert_eq(sequencer_start(&settings, &seq), 0);
	index_.may_apply = may_apply;
}

static void begin(void)
{
	journal_world_init(&world);
	settings = (struct sequencer_settings){.index = &index_,
					       .commit_interval_ms = 3600 * 1000,
					       .backlog_records_max = 1000,
					       .backlog_bytes_max = 16 * MIB,
					       .retry_ms = 10,
					       .sync_spool = sync_spool,
					       .applied = told_applied};
}

static void finish(void)
{
	sequencer_free(seq);
	journal_close(journal);
	seq = NULL;
	journal = NULL;
}

static void end(void)
{
	finish();
	cr_expect(!index_.is_order_broken, "a record was noted or applied out of order, or unsynced");
	journal_world_release(&world);
}

TestSuite(sequencer, .init = begin, .fini = end, .timeout = 120);

static int submit(uint64_t *number)
{
	uint64_t expected = sequencer_last_seq(seq) + 1;

	return sequencer_submit(seq, tagged_record(0, expected, 20), number);
}

static uint64_t must_submit(void)
{
	uint64_t number = 0;

	cr_assert_eq(submit(&number), 0);
	return number;
}

static void expect_journal(uint64_t after, uint64_t last)
{
	struct replay_seen seen = {0};
	struct journal_replay_info info;

	cr_assert_eq(journal_world_replay(&world, after, &seen, &info), 0);
	cr_assert(!seen.is_wrong);
	cr_assert_eq(info.last_seq, last, "%lu, not %lu", info.last_seq, last);
}

Test(sequencer, numbers_are_given_in_order_and_seen_at_once)
{
	start(1);
	for (uint64_t i = 1; i <= 100; i++) {
		cr_assert_eq(must_submit(), i);
		cr_assert_eq(index_.noted_seq, i);
	}
	cr_assert_eq(sequencer_stop(seq), 0);
	cr_assert_eq(index_.applied_seq, 100);
	expect_journal(0, 100);
}

Test(sequencer, numbers_go_on_after_a_replay)
{
	start(1);
	must_submit();
	must_submit();
	cr_assert_eq(sequencer_stop(seq), 0);
	finish();
	start(3);
	cr_assert_eq(must_submit(), 3);
	cr_assert_eq(sequencer_stop(seq), 0);
	expect_journal(2, 3);
}

Test(sequencer, written_means_in_the_journal_and_not_synced)
{
	uint64_t number;

	start(1);
	number = must_submit();
	cr_assert_eq(sequencer_wait_written(seq, number), 0);
	expect_journal(0, number);
	cr_assert_eq(spool_syncs, 0);
	cr_assert_eq(sequencer_synced_seq(seq), 0);
	cr_assert_eq(index_.applied_seq, 0);
}

Test(sequencer, what_nobody_waits_for_is_written_soon)
{
	struct told told = told_init();
	uint64_t number;

	start(1);
	number = must_submit();
	/* The thread of its own writes it: an append of ours would find nothing to do. */
	for (uint64_t bytes = journal_bytes(journal); journal_bytes(journal) == bytes;)
		sched_yield();
	expect_journal(0, number);
	sequencer_when_written(seq, number, &told.waiter);
	cr_assert_eq(told.times, 1);
}

Test(sequencer, each_kind_of_waiter_is_told_once_at_its_stage)
{
	struct told written = told_init(), synced = told_init(), applied = told_init();
	uint64_t number;

	start(1);
	SET(is_spool_held, true);
	number = must_submit();
	sequencer_when_written(seq, number, &written.waiter);
	WAIT_FOR(written.times == 1);
	sequencer_when_synced(seq, number, &synced.waiter);
	WAIT_FOR(spool_inside == 1);
	cr_assert_eq(synced.times, 0);
	sequencer_when_applied(seq, number, &applied.waiter);
	SET(is_spool_held, false);
	WAIT_FOR(synced.times == 1);
	WAIT_FOR(applied.times == 1);
	cr_assert_eq(index_.applied_seq, number);
	cr_assert_eq(applied_told, number);
	cr_assert(written.error == 0 && synced.error == 0 && applied.error == 0);
	cr_assert_eq(sequencer_stop(seq), 0);
	cr_assert(written.times == 1 && synced.times == 1 && applied.times == 1);
}

Test(sequencer, those_who_ask_during_a_sync_share_the_next_one)
{
	struct told first = told_init(), rest[50];
	uint64_t number;

	start(1);
	SET(is_spool_held, true);
	sequencer_when_synced(seq, must_submit(), &first.waiter);
	WAIT_FOR(spool_inside == 1);
	for (size_t i = 0; i < ARRAY_COUNT(rest); i++) {
		rest[i] = told_init();
		number = must_submit();
		sequencer_when_synced(seq, number, &rest[i].waiter);
	}
	SET(is_spool_held, false);
	for (size_t i = 0; i < ARRAY_COUNT(rest); i++)
		WAIT_FOR(rest[i].times == 1);
	cr_assert_eq(first.times, 1);
	cr_assert_eq(spool_syncs, 2);
}

/* ... and with nobody else about, whoever may wait syncs itself. */
Test(sequencer, a_thread_that_may_wait_syncs_itself_unless_another_one_does)
{
	struct told here = told_init(), there = told_init(), meanwhile = told_init();

	start(1);
	sequencer_sync_here(seq, must_submit(), &here.waiter);
	cr_assert(here.times == 1 && here.error == 0, "told before it returned");
	cr_assert_eq(spool_syncs, 1);
	SET(is_spool_held, true);
	sequencer_when_synced(seq, must_submit(), &there.waiter);
	WAIT_FOR(spool_inside == 1);
	sequencer_sync_here(seq, must_submit(), &meanwhile.waiter); /* does not wait for that one */
	cr_assert_eq(meanwhile.times, 0);
	SET(is_spool_held, false);
	WAIT_FOR(meanwhile.times == 1);
	cr_assert(there.times == 1 && meanwhile.error == 0);
	cr_assert_eq(spool_syncs, 3);
}

Test(sequencer, a_sync_that_fails_on_the_askers_thread_is_tried_again)
{
	struct told told = told_init();

	start(1);
	SET(spool_error, -EIO);
	sequencer_sync_here(seq, must_submit(), &told.waiter);
	cr_assert(told.times == 1 && told.error == -EIO);
	SET(spool_error, 0);
	while (sequencer_synced_seq(seq) < 1)
		sched_yield();
}

Test(sequencer, a_stream_goes_on_while_a_sync_hangs)
{
	struct told told = told_init();

	start(1);
	SET(is_spool_held, true);
	sequencer_when_synced(seq, must_submit(), &told.waiter);
	WAIT_FOR(spool_inside == 1);
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(sequencer_wait_written(seq, must_submit()), 0);
	cr_assert_eq(told.times, 0);
	expect_journal(0, 101);
	SET(is_spool_held, false);
	WAIT_FOR(told.times == 1);
}

Test(sequencer, the_commit_interval_syncs_and_applies_without_being_asked)
{
	settings.commit_interval_ms = 20;
	start(1);
	must_submit();
	WAIT_FOR(applied_told == 1);
	cr_assert_eq(spool_syncs, 1);
}

Test(sequencer, a_full_backlog_makes_callers_wait_until_there_is_room)
{
	struct told told = told_init();

	settings.backlog_records_max = 64;
	start(1);
	SET(is_spool_held, true);
	for (unsigned i = 0; i < 64; i++) {
		struct told unused = told_init();

		cr_assert_eq(sequencer_admit(seq, &unused.waiter), 0);
		must_submit();
	}
	cr_assert_eq(sequencer_admit(seq, &told.waiter), -EAGAIN);
	cr_assert_eq(told.times, 0);
	SET(is_spool_held, false);
	WAIT_FOR(told.times == 1);
	cr_assert_eq(told.error, 0);
	cr_assert_eq(sequencer_admit(seq, &told.waiter), 0);
}

Test(sequencer, the_backlog_has_an_end_even_for_those_who_do_not_ask)
{
	uint64_t number;
	int r = 0;

	settings.backlog_records_max = 16;
	start(1);
	SET(is_spool_held, true);
	for (unsigned i = 0; i < 64 && r == 0; i++)
		r = submit(&number);
	cr_assert_eq(r, 0);
	cr_assert_eq(submit(&number), -ENOMEM);
	SET(is_spool_held, false);
	cr_assert_eq(sequencer_wait_applied(seq, 64), 0);
	cr_assert_eq(must_submit(), 65);
}

Test(sequencer, many_records_wait_without_loss)
{
	settings.backlog_records_max = 100000;
	start(1);
	SET(is_spool_held, true);
	for (uint64_t i = 1; i <= 20000; i++)
		must_submit();
	SET(is_spool_held, false);
	cr_assert_eq(sequencer_wait_applied(seq, 20000), 0);
	expect_journal(0, 20000);
}

Test(sequencer, a_refused_record_has_no_number_and_no_effect)
{
	struct record *record;
	uint64_t number = 77;

	start(1);
	index_.note_error = -ENOMEM;
	cr_assert_eq(sequencer_submit(seq, tagged_record(0, 1, 0), &number), -ENOMEM);
	index_.note_error = 0;
	cr_assert_eq(sequencer_submit(seq, tagged_record(0, 1, JOURNAL_RECORD_BYTES_MAX), &number),
		     -E2BIG);
	record = tagged_record(0, 1, 0);
	record->error = -ENOMEM;
	cr_assert_eq(sequencer_submit(seq, record, &number), -ENOMEM);
	cr_assert_eq(number, 77);
	cr_assert_eq(sequencer_last_seq(seq), 0);
	cr_assert_eq(index_.noted_seq, 0);
	cr_assert_eq(sequencer_submit(seq, record_new(), &number), 0);
	cr_assert_eq(number, 0);
	cr_assert_eq(must_submit(), 1);
}

Test(sequencer, nothing_is_taken_after_stop)
{
	struct told told = told_init();
	uint64_t number;

	start(1);
	must_submit();
	cr_assert_eq(sequencer_stop(seq), 0);
	cr_assert_eq(submit(&number), -EROFS);
	cr_assert_eq(sequencer_admit(seq, &told.waiter), -EROFS);
	sequencer_when_applied(seq, 1, &told.waiter);
	cr_assert(told.times == 1 && told.error == 0);
}

Test(sequencer, waiters_are_told_when_it_is_freed_without_stop)
{
	struct told synced = told_init(), admitted = told_init();

	settings.backlog_records_max = 1;
	settings.retry_ms = 3600 * 1000;
	start(1);
	SET(is_spool_held, true);
	sequencer_when_synced(seq, must_submit(), &synced.waiter);
	WAIT_FOR(spool_inside == 1);
	cr_assert_eq(sequencer_admit(seq, &admitted.waiter), -EAGAIN);
	SET(spool_error, -EIO);
	SET(is_spool_held, false);
	WAIT_FOR(synced.times == 1);
	finish();
	cr_assert_eq(synced.error, -EIO);
	cr_assert_eq(admitted.times, 1);
	cr_assert_lt(admitted.error, 0);
}

Test(sequencer, applied_journal_files_go_once_the_index_is_durable)
{
	char names[64][64];

	world.settings.file_bytes_max = MIB;
	settings.commit_interval_ms = 10;
	start(1);
	for (unsigned round = 0; round < 6; round++) {
		for (unsigned i = 0; i < 20; i++) {
			uint64_t number;

			cr_assert_eq(sequencer_submit(seq, tagged_record(0, 1, 50000), &number), 0);
		}
		cr_assert_eq(sequencer_wait_synced(seq, sequencer_last_seq(seq)), 0);
	}
	cr_assert_eq(sequencer_stop(seq), 0);
	cr_assert_geq(index_.checkpoints, 1);
	cr_assert_leq(journal_world_files(&world, names, 64), 2);
}

Test(sequencer, a_checkpoint_that_is_asked_for_drops_what_is_applied)
{
	char names[64][64];

	world.settings.file_bytes_max = MIB;
	settings.commit_interval_ms = 3600 * 1000; /* nothing happens by itself */
	start(1);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 20; i++) {
			uint64_t number;

			cr_assert_eq(sequencer_submit(seq, tagged_record(0, 1, 50000), &number), 0);
		}
		cr_assert_eq(sequencer_wait_synced(seq, sequencer_last_seq(seq)), 0);
	}
	cr_assert_eq(sequencer_wait_checkpoint(seq), 0);
	cr_assert_eq(index_.checkpoints, 1);
	cr_assert_leq(journal_world_files(&world, names, 64), 2);
	cr_assert_eq(sequencer_wait_checkpoint(seq), 0, "nothing new: it is tried all the same");
	cr_assert_eq(index_.checkpoints, 2);
}

/* ---- failures ---- */

Test(sequencer, a_failed_spool_sync_acknowledges_nothing_and_is_repeated)
{
	struct told told = told_init();
	uint64_t number;

	start(1);
	SET(spool_error, -EIO);
	sequencer_when_synced(seq, must_submit(), &told.waiter);
	WAIT_FOR(told.times == 1);
	cr_assert_eq(told.error, -EIO);
	cr_assert_eq(submit(&number), -EIO);
	cr_assert_eq(sequencer_wait_synced(seq, 1), -EIO);
	cr_assert_eq(sequencer_wait_applied(seq, 1), -EIO);
	cr_assert_eq(sequencer_wait_written(seq, 1), 0);
	cr_assert_eq(index_.noted_seq, 1);
	cr_assert_eq(index_.applied_seq, 0);
	WAIT_FOR(spool_failures >= 3);
	SET(spool_error, 0);
	while (submit(&number) < 0)
		sched_yield();
	cr_assert_eq(number, 2);
	cr_assert_eq(sequencer_wait_applied(seq, 2), 0);
}

Test(sequencer, a_failed_apply_is_repeated_and_the_full_backlog_says_so)
{
	struct told told = told_init();

	settings.backlog_records_max = 8;
	start(1);
	index_.apply_error = -ENOSPC;
	for (unsigned i = 0; i < 8; i++)
		must_submit();
	while (index_.apply_failures < 3)
		sched_yield();
	cr_assert_eq(sequencer_admit(seq, &told.waiter), -ENOSPC);
	cr_assert_eq(sequencer_wait_applied(seq, 8), -ENOSPC);
	cr_assert_eq(sequencer_wait_synced(seq, 8), 0);
	index_.apply_error = 0;
	WAIT_FOR(applied_told == 8);
	cr_assert_eq(sequencer_admit(seq, &told.waiter), 0);
}

Test(sequencer, those_who_wait_for_room_learn_that_there_will_be_none)
{
	struct told told = told_init();

	settings.backlog_records_max = 8;
	start(1);
	SET(is_spool_held, true);
	index_.apply_error = -ENOSPC;
	for (unsigned i = 0; i < 8; i++)
		must_submit();
	cr_assert_eq(sequencer_admit(seq, &told.waiter), -EAGAIN);
	SET(is_spool_held, false);
	WAIT_FOR(told.times == 1);
	cr_assert_eq(told.error, -ENOSPC);
	index_.apply_error = 0;
}

Test(sequencer, stop_tells_what_could_not_be_made_durable)
{
	start(1);
	must_submit();
	SET(spool_error, -EIO);
	cr_assert_eq(sequencer_stop(seq), -EIO);
	cr_assert_eq(index_.applied_seq, 0);
	expect_journal(0, 1);
}

Test(sequencer, stop_succeeds_when_the_last_try_does)
{
	settings.retry_ms = 300;
	start(1);
	must_submit();
	SET(spool_error, -EIO);
	cr_assert_eq(sequencer_wait_synced(seq, 1), -EIO);
	SET(spool_error, 0);
	cr_assert_eq(sequencer_stop(seq), 0);
	cr_assert_eq(index_.applied_seq, 1);
}

#ifdef SHARDFS_TEST_HOOKS
Test(sequencer, an_unwritable_journal_refuses_new_and_keeps_old_records)
{
	struct told synced = told_init(), written = told_init();
	uint64_t number;

	start(1);
	hooks_set("fail journal-append-before ENOSPC 0");
	number = must_submit();
	sequencer_when_written(seq, number, &written.waiter);
	WAIT_FOR(written.times == 1);
	cr_assert_eq(written.error, -ENOSPC);
	cr_assert_eq(submit(&number), -ENOSPC);
	sequencer_when_synced(seq, 1, &synced.waiter);
	WAIT_FOR(synced.times == 1);
	cr_assert_eq(synced.error, -ENOSPC);
	cr_assert_eq(sequencer_wait_written(seq, 1), -ENOSPC);
	cr_assert_eq(index_.noted_seq, 1); /* stays visible */
	expect_journal(0, 0);
	hooks_set("");
	while (submit(&number) < 0)
		sched_yield();
	cr_assert_eq(number, 2);
	cr_assert_eq(sequencer_wait_applied(seq, 2), 0);
	expect_journal(0, 2);
}

Test(sequencer, stop_reports_an_unwritable_journal)
{
	start(1);
	hooks_set("fail journal-append-before ENOSPC 0");
	must_submit();
	cr_assert_eq(sequencer_stop(seq), -ENOSPC);
	finish();
	hooks_set("");
	expect_journal(0, 0);
}

Test(sequencer, a_failed_journal_sync_has_its_records_written_again)
{
	struct told told = told_init();

	start(1);
	for (unsigned i = 0; i < 5; i++)
		must_submit();
	cr_assert_eq(sequencer_wait_synced(seq, 5), 0);
	for (unsigned i = 0; i < 5; i++)
		must_submit();
	hooks_set("fail journal-sync-before EIO");
	sequencer_when_synced(seq, 10, &told.waiter);
	WAIT_FOR(told.times == 1);
	cr_assert_eq(told.error, -EIO);
	expect_journal(0, 10);
	while (sequencer_wait_synced(seq, 10) < 0)
		sched_yield();
	expect_journal(0, 10);
	cr_assert_eq(sequencer_wait_applied(seq, 10), 0);
}

static const char *const places[] = {
	"journal-append-before", "journal-append-after", "journal-sync-before",
	"journal-sync-after",    "journal-mark-before",  "journal-mark-after",
	"index-apply-before",    "index-apply-after",    "journal-drop-before",
	"journal-drop-after"};

/* Whichever step fails: what was acknowledged is there, all comes right in the end. */
Test(sequencer, each_step_may_fail_in_turn_without_loss)
{
	log_setup(2, LOG_ERROR + 1, false);
	settings.retry_ms = 1;
	settings.commit_interval_ms = 5;
	for (size_t p = 0; p < ARRAY_COUNT(places); p++) {
		for (unsigned at = 1; at <= 6; at++) {
			uint64_t synced = 0, next = index_.applied_seq + 1;
			char rule[96];

			snprintf(rule, sizeof(rule), "fail %s EIO %u", places[p], at);
			start(next);
			hooks_set(rule);
			for (unsigned i = 0; i < 30; i++) {
				uint64_t number = 0;

				if (submit(&number) < 0)
					continue;
				if (sequencer_wait_written(seq, number) == 0 &&
				    i % 4 == 0 && sequencer_wait_synced(seq, number) == 0)
					synced = number;
				cr_assert_leq(synced, sequencer_synced_seq(seq));
			}
			/* A kill now would lose nothing that was acknowledged. */
			if (synced >= next) {
				struct replay_seen seen = {0};
				struct journal_replay_info info;
				uint64_t after = index_.durable_seq;

				cr_assert_eq(journal_world_replay(&world, after, &seen, &info), 0);
				cr_assert(!seen.is_wrong);
				cr_assert_geq(info.last_seq, synced, "%s", rule);
			}
			while (sequencer_wait_applied(seq, sequencer_last_seq(seq)) < 0)
				sched_yield();
			hooks_set("");
			cr_assert_eq(sequencer_stop(seq), 0, "%s", rule);
			cr_assert_eq(index_.applied_seq, index_.noted_seq);
			finish();
		}
	}
}
#endif

/* ---- kill -9 ---- */

struct progress {
	uint64_t written, synced;
};

static void __attribute__((noreturn)) child(int fd, uint64_t next)
{
	struct progress progress = {0};

	start(next);
	for (;;) {
		uint64_t number = must_submit();

		if (number % 3 == 0 && sequencer_wait_written(seq, number) == 0)
			progress.written = number;
		if (number % 17 == 0 && sequencer_wait_synced(seq, number) == 0)
			progress.synced = number;
		if (number % 3 == 0 && write(fd, &progress, sizeof(progress)) < 0)
			_exit(1);
	}
}

/* What was told written or synced before a SIGKILL is replayed; then all goes on from there. */
Test(sequencer, a_kill_loses_nothing_that_was_written)
{
	uint64_t next = 1;

	world.settings.file_bytes_max = MIB;
	settings.commit_interval_ms = 5;
	for (unsigned round = 0; round < 25; round++) {
		struct progress progress, last = {0};
		struct replay_seen seen = {0};
		struct journal_replay_info info;
		int pipes[2];
		pid_t pid;

		cr_assert_eq(pipe(pipes), 0);
		index_ = (struct index){.noted_seq = next - 1,
					.applied_seq = next - 1,
					.checkpoint_error = -EIO}; /* so that no file is dropped */
		pid = fork();
		if (pid == 0)
			child(pipes[1], next);
		close(pipes[1]);
		for (unsigned i = 0; i < 20 + round * 30; i++)
			if (read(pipes[0], &progress, sizeof(progress)) == sizeof(progress))
				last = progress;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(pipes[0], &progress, sizeof(progress)) == sizeof(progress))
			last = progress;
		close(pipes[0]);
		cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), 0);
		cr_assert(!seen.is_wrong);
		cr_assert_geq(info.last_seq, last.written);
		cr_assert_geq(info.synced_seq + 17, last.synced);
		next = info.last_seq + 1;
	}
	index_.is_order_broken = false;
}
