/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/backend_conformance.h"

#include "backends/stack.h"
#include "backends/wrap_fault.h"
#include "backends/wrap_limit.h"
#include "backends/wrap_retry.h"
#include "backends/wrap_stats.h"
#include "tests/lib/backend_open.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

static struct backend *open_memory(void *arg)
{
	return test_memory_open(arg != NULL, false);
}

Test(backend_conformance, memory, .timeout = 60)
{
	conformance_run(open_memory, NULL);
}

Test(backend_conformance, memory_with_a_thread, .timeout = 60)
{
	conformance_run(open_memory, "async");
}

static char dir_base[PATH_MAX];

static struct backend *open_dir(void *arg)
{
	static unsigned number;
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%u", dir_base, number++);
	return test_dir_open(path, arg);
}

Test(backend_conformance, dir, .timeout = 120)
{
	test_dir_make(dir_base);
	conformance_run(open_dir, NULL);
	test_dir_remove(dir_base);
}

Test(backend_conformance, dir_with_one_thread_each, .timeout = 120)
{
	test_dir_make(dir_base);
	conformance_run(open_dir, "workers=1 readers=1 fsync=false size_max=1GiB");
	test_dir_remove(dir_base);
}

static struct backend *open_retry(void *arg)
{
	static const struct retry_config config = RETRY_DEFAULTS;
	struct backend *backend = open_memory(arg);

	cr_assert_eq(retry_wrap(backend, &config, &backend), 0);
	return backend;
}

static struct backend *open_limit(void *arg)
{
	static const struct limit_config narrow = {.inflight_count = 2, .queue_count = 4096};
	struct backend *backend = open_memory(arg);

	cr_assert_eq(limit_wrap(backend, &narrow, &backend), 0);
	return backend;
}

static struct backend *open_stats(void *arg)
{
	struct backend *backend = open_memory(arg);

	cr_assert_eq(stats_wrap(backend, &backend), 0);
	return backend;
}

static struct backend *open_fault(void *arg)
{
	struct backend *backend = open_memory(arg);

	cr_assert_eq(fault_wrap(backend, NULL, &backend), 0);
	return backend;
}

Test(backend_conformance, retry_around_memory, .timeout = 60)
{
	conformance_run(open_retry, NULL);
	conformance_run(open_retry, "async");
}

Test(backend_conformance, limit_around_memory, .timeout = 60)
{
	conformance_run(open_limit, NULL);
	conformance_run(open_limit, "async");
}

Test(backend_conformance, stats_around_memory, .timeout = 60)
{
	conformance_run(open_stats, NULL);
	conformance_run(open_stats, "async");
}

Test(backend_conformance, fault_around_memory, .timeout = 60)
{
	conformance_run(open_fault, NULL);
	conformance_run(open_fault, "async");
}

static struct backend *open_pile(void *arg)
{
	const struct backend_setting settings[] = {{"async", arg ? "true" : "false", 3},
						   {"inflight", "3", 4}};
	struct backend *backend = NULL;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(backend_open_stack("memory", settings, 2, CONFORMANCE_NAME, &why, &backend),
		     0, "%s", buf_str(&why));
	return backend;
}

Test(backend_conformance, the_whole_pile, .timeout = 60)
{
	conformance_run(open_pile, NULL);
	conformance_run(open_pile, "async");
}

/* What fails in a passing way now and then is no failure with retries around it. */
static struct backend *open_unreliable(void *arg)
{
	static const struct retry_config config = {
		.attempts_count = 20, .wait_ms = 1, .wait_max_ms = 2};
	const struct fault_rule rule = {.mode = FAULT_ERROR, .error = -EAGAIN, .nth = 2, .count = 3};
	const struct fault_rule landed = {.mode = FAULT_LANDED, .error = -EAGAIN, .nth = 9,
					  .count = 2, .ops = BIT(BACKEND_GET) | BIT(BACKEND_LIST)};
	struct backend *backend = open_memory(arg);

	cr_assert_eq(fault_wrap(backend, NULL, &backend), 0);
	cr_assert_eq(fault_add(backend, &rule), 0);
	cr_assert_eq(fault_add(backend, &landed), 0);
	cr_assert_eq(retry_wrap(backend, &config, &backend), 0);
	return backend;
}

Test(backend_conformance, passing_failures_with_retries, .timeout = 60)
{
	conformance_run(open_unreliable, NULL);
	conformance_run(open_unreliable, "async");
}
