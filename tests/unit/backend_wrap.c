/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/memory.h"
#include "backends/wrap_fault.h"
#include "backends/wrap_limit.h"
#include "backends/wrap_retry.h"
#include "backends/wrap_stats.h"
#include "tests/lib/backend_conformance.h"
#include "tests/lib/backend_open.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>

#define KEY_A "a1000000000000000000000000000001"
#define KEY_B "b2000000000000000000000000000002"

/* A request whose end can be waited for. */
struct waited {
	struct backend_req req;
	sem_t done;
	unsigned done_count;
};

static void waited_done(struct backend_req *req)
{
	struct waited *waited = container_of(req, struct waited, req);

	waited->done_count++;
	sem_post(&waited->done);
}

static void waited_start(struct waited *waited, struct backend *backend, enum backend_op op,
			 const char *key, struct bytes body)
{
	*waited = (struct waited){.req = {.op = op, .key = key, .body = body, .done = waited_done}};
	sem_init(&waited->done, 0, 0);
	cr_assert_eq(backend_submit(backend, &waited->req), 0);
}

static int waited_end(struct waited *waited)
{
	while (sem_wait(&waited->done) < 0)
		;
	cr_assert_eq(waited->done_count, 1);
	return waited->req.error;
}

static bool is_over(struct waited *waited)
{
	int value = 0;

	sem_getvalue(&waited->done, &value);
	return value > 0;
}

static int put(struct backend *backend, const char *key, const char *text)
{
	struct backend_req req = {.op = BACKEND_PUT, .key = key, .body = bytes_of_str(text)};

	return backend_run(backend, &req);
}

static int head(struct backend *backend, const char *key)
{
	struct backend_req req = {.op = BACKEND_HEAD, .key = key};

	return backend_run(backend, &req);
}

static struct backend *fault_open(const struct fault_rule *rule)
{
	struct backend *backend = test_memory_open(false, true);

	cr_assert_eq(fault_wrap(backend, NULL, &backend), 0);
	if (rule)
		cr_assert_eq(fault_add(backend, rule), 0);
	return backend;
}

/* ---- retry ---- */

static struct backend *retry_open(const struct fault_rule *rule, uint64_t attempts,
				  uint64_t wait_ms)
{
	const struct retry_config config = {
		.attempts_count = attempts, .wait_ms = wait_ms, .wait_max_ms = 30 * SECOND};
	struct backend *backend = fault_open(rule);

	cr_assert_eq(retry_wrap(backend, &config, &backend), 0);
	return backend;
}

Test(backend_retry, passing_failures_are_tried_again_up_to_the_limit, .timeout = 20)
{
	const struct fault_rule rule = {.mode = FAULT_ERROR, .error = -EAGAIN};
	AUTO_BACKEND backend = retry_open(&rule, 4, 1);

	cr_assert_eq(put(backend, KEY_A, "x"), -EAGAIN);
	cr_assert_eq(fault_seen_count(backend, BACKEND_PUT), 4);
}

Test(backend_retry, it_ends_with_the_first_success, .timeout = 20)
{
	const struct fault_rule rule = {.mode = FAULT_ERROR, .error = -EAGAIN, .count = 2};
	AUTO_BACKEND backend = retry_open(&rule, 5, 1);

	cr_assert_eq(put(backend, KEY_A, "x"), 0);
	cr_assert_eq(fault_seen_count(backend, BACKEND_PUT), 3);
}

Test(backend_retry, final_answers_and_absence_are_passed_on_at_once, .timeout = 20)
{
	static const int finals[] = {-EIO, -EACCES, -ENOSPC, -ENOENT, -EBADMSG, -ENOMEDIUM};

	for (size_t i = 0; i < ARRAY_COUNT(finals); i++) {
		const struct fault_rule rule = {.mode = FAULT_ERROR, .error = finals[i]};
		AUTO_BACKEND backend = retry_open(&rule, 5, 1);

		cr_assert_eq(put(backend, KEY_A, "x"), finals[i]);
		cr_assert_eq(fault_seen_count(backend, BACKEND_PUT), 1);
	}
	const struct fault_rule absent = {.mode = FAULT_ABSENT};
	AUTO_BACKEND backend = retry_open(&absent, 5, 1);

	cr_assert_eq(put(backend, KEY_A, "x"), -EAGAIN);
	cr_assert_eq(fault_seen_count(backend, BACKEND_PUT), 1);
}

Test(backend_retry, the_provider_says_when_to_come_back, .timeout = 20)
{
	const struct fault_rule rule = {
		.mode = FAULT_ERROR, .error = -EAGAIN, .count = 1, .retry_after_ms = 7000};
	AUTO_BACKEND backend = NULL;
	struct waited waited;

	clock_test_freeze(1000, (struct wall_time){0});
	backend = retry_open(&rule, 5, 1);
	waited_start(&waited, backend, BACKEND_PUT, KEY_A, bytes_of_str("x"));
	clock_test_advance(6999);
	retry_clock_moved(backend);
	cr_assert_not(is_over(&waited));
	cr_assert_eq(retry_waiting_count(backend), 1);
	clock_test_advance(1);
	retry_clock_moved(backend);
	cr_assert_eq(waited_end(&waited), 0);
	clock_test_release();
}

Test(backend_retry, a_waiting_request_can_be_canceled, .timeout = 20)
{
	const struct fault_rule rule = {.mode = FAULT_ERROR, .error = -EAGAIN,
					.retry_after_ms = 30000};
	AUTO_BACKEND backend = retry_open(&rule, 5, 1);
	struct waited waited;

	waited_start(&waited, backend, BACKEND_PUT, KEY_A, bytes_of_str("x"));
	cr_assert_eq(retry_waiting_count(backend), 1);
	backend_cancel(backend, &waited.req);
	cr_assert_eq(waited_end(&waited), -ECANCELED);
	cr_assert_eq(retry_waiting_count(backend), 0);
}

Test(backend_retry, close_answers_what_waits, .timeout = 20)
{
	const struct fault_rule rule = {.mode = FAULT_ERROR, .error = -EAGAIN,
					.retry_after_ms = 30000};
	struct backend *backend = retry_open(&rule, 5, 1);
	struct waited waited[10];

	for (size_t i = 0; i < ARRAY_COUNT(waited); i++)
		waited_start(&waited[i], backend, BACKEND_PUT, KEY_A, bytes_of_str("x"));
	backend_close(backend);
	for (size_t i = 0; i < ARRAY_COUNT(waited); i++)
		cr_assert_eq(waited_end(&waited[i]), -ECANCELED);
}

/* ---- limit ---- */

static struct backend *limit_open(const struct limit_config *config, const struct fault_rule *rule)
{
	struct backend *backend = fault_open(rule);

	cr_assert_eq(limit_wrap(backend, config, &backend), 0);
	return backend;
}

Test(backend_limit, no_more_are_under_way_than_allowed, .timeout = 20)
{
	const struct fault_rule stall = {.mode = FAULT_STALL};
	const struct limit_config config = {.inflight_count = 3, .queue_count = 5};
	AUTO_BACKEND backend = limit_open(&config, &stall);
	struct waited waited[8], more;

	for (size_t i = 0; i < ARRAY_COUNT(waited); i++)
		waited_start(&waited[i], backend, BACKEND_HEAD, KEY_A, bytes_of(NULL, 0));
	cr_assert_eq(fault_held_count(backend), 3);
	more = (struct waited){.req = {.op = BACKEND_HEAD, .key = KEY_A, .done = waited_done}};
	cr_assert_eq(backend_submit(backend, &more.req), -EAGAIN, "the queue has a bound");
	for (size_t i = 0; i < ARRAY_COUNT(waited); i++) {
		while (!is_over(&waited[i])) {
			fault_release(backend);
			cr_assert_leq(fault_held_count(backend), 3);
			sched_yield();
		}
		cr_assert_eq(waited_end(&waited[i]), -ENOENT);
	}
}

Test(backend_limit, a_read_overtakes_a_backlog_of_puts, .timeout = 60)
{
	const struct fault_rule stall = {.mode = FAULT_STALL, .ops = BIT(BACKEND_PUT)};
	const struct limit_config config = {.inflight_count = 2, .queue_count = 100};
	AUTO_BACKEND backend = limit_open(&config, &stall);
	struct waited puts[20], read;

	for (size_t i = 0; i < ARRAY_COUNT(puts); i++)
		waited_start(&puts[i], backend, BACKEND_PUT, KEY_A, bytes_of_str("x"));
	waited_start(&read, backend, BACKEND_HEAD, KEY_B, bytes_of(NULL, 0));
	cr_assert_eq(waited_end(&read), -ENOENT);
	for (size_t i = 0; i < ARRAY_COUNT(puts); i++) {
		while (!is_over(&puts[i])) { /* the next may be let pass by another thread */
			fault_release(backend);
			sched_yield();
		}
		cr_assert_eq(waited_end(&puts[i]), 0);
	}
}

Test(backend_limit, never_more_than_rate_times_time_passes, .timeout = 20)
{
	const struct limit_config config = {
		.upload_bytes_per_s = 1000, .inflight_count = 64, .queue_count = 100};
	static uint8_t body[500];
	AUTO_BACKEND backend = NULL;
	struct waited waited[10];

	clock_test_freeze(100000, (struct wall_time){0});
	backend = limit_open(&config, NULL);
	for (size_t i = 0; i < ARRAY_COUNT(waited); i++)
		waited_start(&waited[i], backend, BACKEND_PUT, KEY_A, bytes_of(body, sizeof(body)));
	for (size_t i = 0; i < ARRAY_COUNT(waited); i++) {
		clock_test_advance(499);
		limit_clock_moved(backend);
		cr_assert_not(is_over(&waited[i]), "request %zu passed too early", i);
		clock_test_advance(1);
		limit_clock_moved(backend);
		cr_assert_eq(waited_end(&waited[i]), 0);
	}
	clock_test_release();
}

Test(backend_limit, a_new_limit_counts_at_once, .timeout = 20)
{
	struct limit_config config = {
		.upload_bytes_per_s = 1, .inflight_count = 64, .queue_count = 100};
	AUTO_BACKEND backend = limit_open(&config, NULL);
	struct waited waited;

	waited_start(&waited, backend, BACKEND_PUT, KEY_A, bytes_of("0123456789", 10));
	cr_assert_not(is_over(&waited));
	config.upload_bytes_per_s = 0;
	cr_assert_eq(backend_limits_set(backend, &config), 0);
	cr_assert_eq(waited_end(&waited), 0);
	config.inflight_count = 0;
	cr_assert_eq(backend_limits_get(backend, &config), 0);
	cr_assert_eq(config.inflight_count, 64);
}

Test(backend_limit, a_waiting_request_can_be_canceled, .timeout = 20)
{
	const struct limit_config config = {
		.upload_bytes_per_s = 1, .inflight_count = 64, .queue_count = 100};
	AUTO_BACKEND backend = limit_open(&config, NULL);
	struct waited waited;

	waited_start(&waited, backend, BACKEND_PUT, KEY_A, bytes_of("0123456789", 10));
	backend_cancel(backend, &waited.req);
	cr_assert_eq(waited_end(&waited), -ECANCELED);
}

/* ---- stats ---- */

Test(backend_stats, answers_are_counted_and_health_follows)
{
	const struct fault_rule rule = {
		.mode = FAULT_ERROR, .error = -EIO, .ops = BIT(BACKEND_PUT), .nth = 3, .count = 40};
	AUTO_BACKEND backend = fault_open(&rule);
	struct backend_stats stats;

	cr_assert_eq(stats_wrap(backend, &backend), 0);
	cr_assert_eq(put(backend, KEY_A, "12345"), 0);
	cr_assert_eq(put(backend, KEY_B, "123"), 0);
	cr_assert_eq(head(backend, KEY_A), 0);
	cr_assert_eq(head(backend, "nothing"), -ENOENT);
	cr_assert_eq(backend_stats(backend, &stats), 0);
	cr_assert_eq(stats.op[BACKEND_PUT].ok, 2);
	cr_assert_eq(stats.op[BACKEND_PUT].bytes, 8);
	cr_assert_eq(stats.op[BACKEND_HEAD].ok, 1);
	cr_assert_eq(stats.op[BACKEND_HEAD].failed, 0, "ENOENT is an answer");
	cr_assert_eq(stats.health_permille, 1000);
	cr_assert_gt(stats.op[BACKEND_PUT].p95_us, 0);
	cr_assert_leq(stats.op[BACKEND_PUT].p50_us, stats.op[BACKEND_PUT].p99_us);
	for (unsigned i = 0; i < 40; i++)
		cr_assert_eq(put(backend, KEY_A, "1"), -EIO);
	cr_assert_eq(backend_stats(backend, &stats), 0);
	cr_assert_eq(stats.failures_in_row, 40);
	cr_assert_eq(stats.last_error, -EIO);
	cr_assert_eq(stats.errors_io, 40);
	cr_assert_lt(stats.health_permille, 200);
	for (unsigned i = 0; i < 200; i++)
		cr_assert_eq(put(backend, KEY_A, "1"), 0);
	cr_assert_eq(backend_stats(backend, &stats), 0);
	cr_assert_eq(stats.failures_in_row, 0);
	cr_assert_gt(stats.health_permille, 950);
	cr_assert_eq(stats.inflight, 0);
}

Test(backend_stats, absence_is_seen_and_its_end_too)
{
	AUTO_BACKEND backend = fault_open(NULL);
	struct backend_stats stats;

	cr_assert_eq(stats_wrap(backend, &backend), 0);
	memory_set_absent(backend, true);
	cr_assert_eq(head(backend, KEY_A), -EAGAIN);
	cr_assert_eq(backend_stats(backend, &stats), 0);
	cr_assert(stats.is_absent);
	memory_set_absent(backend, false);
	cr_assert_eq(head(backend, KEY_A), -ENOENT);
	cr_assert_eq(backend_stats(backend, &stats), 0);
	cr_assert_not(stats.is_absent);
}

Test(backend_stats, latency_is_within_a_quarter)
{
	const struct fault_rule late = {.mode = FAULT_STALL};
	AUTO_BACKEND backend = fault_open(&late);
	struct backend_stats stats;

	cr_assert_eq(stats_wrap(backend, &backend), 0);
	fault_clear(backend);
	cr_assert_eq(put(backend, KEY_A, "x"), 0);
	cr_assert_eq(fault_add(backend, &late), 0);
	for (unsigned i = 1; i <= 100; i++) {
		struct waited waited;
		uint8_t byte;

		clock_test_freeze(1000000, (struct wall_time){0});
		waited = (struct waited){.req = {.op = BACKEND_GET, .key = KEY_A, .len = 1,
						 .into = &byte, .done = waited_done}};
		sem_init(&waited.done, 0, 0);
		cr_assert_eq(backend_submit(backend, &waited.req), 0);
		clock_test_advance(i * 10);
		fault_release(backend);
		cr_assert_eq(waited_end(&waited), 0);
		clock_test_release();
	}
	cr_assert_eq(backend_stats(backend, &stats), 0);
	cr_assert(stats.op[BACKEND_GET].p50_us >= 490000 && stats.op[BACKEND_GET].p50_us < 625000,
		  "%llu", (unsigned long long)stats.op[BACKEND_GET].p50_us);
	cr_assert(stats.op[BACKEND_GET].p95_us >= 940000 && stats.op[BACKEND_GET].p95_us < 1190000,
		  "%llu", (unsigned long long)stats.op[BACKEND_GET].p95_us);
	cr_assert_gt(backend_get_p95_us(backend), 0);
}

/* ---- fault ---- */

Test(backend_fault, an_untaken_request_does_nothing)
{
	const struct fault_rule rule = {.mode = FAULT_UNTAKEN, .error = -EAGAIN, .count = 1};
	AUTO_BACKEND backend = fault_open(&rule);

	cr_assert_eq(put(backend, KEY_A, "x"), -EAGAIN);
	cr_assert_eq(memory_object_count(backend), 0);
	cr_assert_eq(put(backend, KEY_A, "x"), 0);
	cr_assert_eq(fault_fired_count(backend), 1);
}

Test(backend_fault, a_failed_put_may_have_landed)
{
	const struct fault_rule rule = {.mode = FAULT_LANDED, .error = -EIO, .nth = 2, .count = 1,
					.ops = BIT(BACKEND_PUT)};
	AUTO_BACKEND backend = fault_open(&rule);

	cr_assert_eq(put(backend, KEY_A, "x"), 0);
	cr_assert_eq(put(backend, KEY_B, "x"), -EIO);
	cr_assert_eq(memory_object_count(backend), 2);
	cr_assert_eq(head(backend, KEY_B), 0);
}

Test(backend_fault, a_delete_may_land_late)
{
	const struct fault_rule rule = {
		.mode = FAULT_LANDS_LATE, .error = -EAGAIN, .ops = BIT(BACKEND_DELETE)};
	AUTO_BACKEND backend = fault_open(&rule);
	struct backend_req req = {.op = BACKEND_DELETE, .key = KEY_A};

	cr_assert_eq(put(backend, KEY_A, "x"), 0);
	cr_assert_eq(backend_run(backend, &req), -EAGAIN);
	cr_assert_eq(head(backend, KEY_A), 0);
	cr_assert_eq(fault_release(backend), 1);
	cr_assert_eq(head(backend, KEY_A), -ENOENT);
}

Test(backend_fault, an_answer_may_come_late_and_a_stall_end, .timeout = 20)
{
	const struct fault_rule late = {.mode = FAULT_LATE, .ops = BIT(BACKEND_PUT)};
	const struct fault_rule stall = {.mode = FAULT_STALL, .ops = BIT(BACKEND_HEAD)};
	AUTO_BACKEND backend = fault_open(&late);
	struct waited first, second, third;

	cr_assert_eq(fault_add(backend, &stall), 0);
	waited_start(&first, backend, BACKEND_PUT, KEY_A, bytes_of_str("x"));
	waited_start(&second, backend, BACKEND_HEAD, KEY_A, bytes_of(NULL, 0));
	waited_start(&third, backend, BACKEND_HEAD, KEY_A, bytes_of(NULL, 0));
	fault_wait_held(backend, 3);
	cr_assert_eq(memory_object_count(backend), 1, "it happened");
	backend_cancel(backend, &third.req);
	cr_assert_eq(waited_end(&third), -ECANCELED);
	cr_assert_not(is_over(&first) || is_over(&second));
	cr_assert_eq(fault_release(backend), 2);
	cr_assert_eq(waited_end(&first), 0);
	cr_assert_eq(waited_end(&second), 0);
}

static void get_spoiled(enum fault_mode mode, struct buf *out)
{
	const struct fault_rule rule = {.mode = mode, .ops = BIT(BACKEND_GET), .nth = 2};
	AUTO_BACKEND backend = fault_open(&rule);
	struct backend_req req = {
		.op = BACKEND_GET, .key = KEY_A, .len = BACKEND_TO_END, .out = out};

	cr_assert_eq(put(backend, KEY_A, "the first object"), 0);
	cr_assert_eq(put(backend, KEY_B, "a second object."), 0);
	cr_assert_eq(backend_run(backend, &req), 0);
	cr_assert_str_eq(buf_str(out), "the first object");
	buf_clear(out);
	req.key = KEY_B;
	cr_assert_eq(backend_run(backend, &req), 0);
}

Test(backend_fault, a_get_may_lie)
{
	AUTO(buf) out = BUF_INIT;

	get_spoiled(FAULT_CORRUPT, &out);
	cr_assert_eq(out.len, 16);
	cr_assert_str_neq(buf_str(&out), "a second object.");
	buf_clear(&out);
	get_spoiled(FAULT_TRUNCATE, &out);
	cr_assert_str_eq(buf_str(&out), "a second object");
	buf_clear(&out);
	get_spoiled(FAULT_SWAP, &out);
	cr_assert_str_eq(buf_str(&out), "the first object");
}

Test(backend_fault, lines_are_read_as_documented)
{
	struct fault_rule rule;

	cr_assert_eq(fault_parse("PUT error EIO", &rule), 0);
	cr_assert(rule.mode == FAULT_ERROR && rule.error == -EIO && rule.ops == BIT(BACKEND_PUT));
	cr_assert_eq(fault_parse("* stall", &rule), 0);
	cr_assert(rule.mode == FAULT_STALL && rule.ops == 0);
	cr_assert_eq(fault_parse("put enospc count=3 nth=2 prefix=index/", &rule), 0);
	cr_assert(rule.mode == FAULT_ERROR && rule.error == -ENOSPC && rule.count == 3);
	cr_assert(rule.nth == 2 && strcmp(rule.prefix, "index/") == 0);
	cr_assert_eq(fault_parse("GET landed error=EAGAIN after=250", &rule), 0);
	cr_assert(rule.mode == FAULT_LANDED && rule.error == -EAGAIN && rule.retry_after_ms == 250);
	cr_assert_eq(fault_parse("# nothing", &rule), 1);
	cr_assert_eq(fault_parse("", &rule), 1);
	cr_assert_eq(fault_parse("GET", &rule), -EINVAL);
	cr_assert_eq(fault_parse("FETCH error", &rule), -EINVAL);
	cr_assert_eq(fault_parse("GET explode", &rule), -EINVAL);
	cr_assert_eq(fault_parse("GET error nth=-1", &rule), -EINVAL);
}

static void control_write(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	cr_assert(file);
	fputs(text, file);
	fclose(file);
}

Test(backend_fault, a_file_makes_a_provider_fail_stall_and_recover, .timeout = 20)
{
	struct backend *backend = test_memory_open(true, true);
	struct waited waited;
	char dir[4096], path[4200];

	test_dir_make(dir);
	snprintf(path, sizeof(path), "%s/faults", dir);
	cr_assert_eq(fault_wrap(backend, path, &backend), 0);
	cr_assert_eq(put(backend, KEY_A, "x"), 0);
	control_write(path, "PUT enospc\n# and more\nHEAD stall\n");
	cr_assert_eq(put(backend, KEY_A, "x"), -ENOSPC);
	waited_start(&waited, backend, BACKEND_HEAD, KEY_A, bytes_of(NULL, 0));
	fault_wait_held(backend, 1);
	remove(path);
	cr_assert_eq(waited_end(&waited), 0, "the stall ends with the rule");
	cr_assert_eq(put(backend, KEY_A, "x"), 0);
	backend_close(backend);
	test_dir_remove(dir);
}
