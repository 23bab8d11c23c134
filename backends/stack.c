/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/stack.h"
#include "backends/wrap_fault.h"
#include "backends/wrap_limit.h"
#include "backends/wrap_retry.h"
#include "backends/wrap_stats.h"

#include "util/err.h"
#include "util/mem.h"

#include <errno.h>

/*
 * From outside in: retry, so that a waiting attempt holds no place; limit, so
 * that every attempt counts; stats, so that waiting is no latency; fault, so
 * that injected failures are counted like real ones.
 */

struct stack_config {
	uint64_t attempts_count, wait_ms, wait_max_ms;
	uint64_t upload_bytes_per_s, download_bytes_per_s;
	uint64_t inflight_count, queue_count;
	char *fault_file; /* only with SHARDFS_TEST_HOOKS */
};

const struct option_spec backend_stack_options[] = {
	OPT_COUNT(struct stack_config, attempts_count, "5", 1, 20,
		  "attempts of a request that fails in a passing way"),
	OPT_DURATION(struct stack_config, wait_ms, "200ms", 1, MINUTE,
		     "longest pause before the second attempt; doubles with each further one"),
	OPT_DURATION(struct stack_config, wait_max_ms, "30s", 1, HOUR,
		     "longest pause between two attempts"),
	OPT_RATE(struct stack_config, upload_bytes_per_s, "0", 0, TIB,
		 "limit of what is sent; 0: none"),
	OPT_RATE(struct stack_config, download_bytes_per_s, "0", 0, TIB,
		 "limit of what is received; 0: none"),
	OPT_COUNT(struct stack_config, inflight_count, "64", 1, 1024, "requests under way"),
	OPT_COUNT(struct stack_config, queue_count, "1024", 1, 65536,
		  "requests that wait for a place"),
#ifdef SHARDFS_TEST_HOOKS
	OPT_STRING(struct stack_config, fault_file, NULL, "file of failures to inject (tests)"),
#endif
	OPT_END,
};

static void stack_config_release(struct stack_config *config)
{
	option_release(backend_stack_options, config);
}

/* Wraps *top; on failure *top stays as it was. */
static int wrap_all(const struct stack_config *config, struct backend **top)
{
	const struct limit_config limit = {
		.upload_bytes_per_s = config->upload_bytes_per_s,
		.download_bytes_per_s = config->download_bytes_per_s,
		.inflight_count = config->inflight_count,
		.queue_count = config->queue_count,
	};
	const struct retry_config retry = {
		.attempts_count = config->attempts_count,
		.wait_ms = config->wait_ms,
		.wait_max_ms = config->wait_max_ms,
	};
	int r = 0;

	if (config->fault_file)
		r = fault_wrap(*top, config->fault_file, top);
	if (r == 0)
		r = stats_wrap(*top, top);
	if (r == 0)
		r = limit_wrap(*top, &limit, top);
	if (r == 0)
		r = retry_wrap(*top, &retry, top);
	return r;
}

int backend_open_stack(const char *type, const struct backend_setting *settings,
		       size_t setting_count, const char *name, struct buf *why,
		       struct backend **backend)
{
	AUTO(stack_config) config = {0};
	struct backend_setting *split;
	size_t own_count = 0, other = setting_count;
	struct backend *top = NULL;
	int r;

	split = mem_alloc_array(MAX(setting_count, (size_t)1), sizeof(*split));
	if (!split)
		return -ENOMEM;
	/* Ours at the front, the type's at the end; both keep the order of the file. */
	for (size_t i = 0; i < setting_count; i++)
		if (option_find(backend_stack_options, settings[i].key))
			split[own_count++] = settings[i];
	for (size_t i = setting_count; i-- > 0;)
		if (!option_find(backend_stack_options, settings[i].key))
			split[--other] = settings[i];
	r = backend_settings_read(backend_stack_options, split, own_count, &config, why);
	if (r == 0)
		r = backend_open(type, split + other, setting_count - other, name, why, &top);
	mem_free(split);
	if (r == 0)
		r = wrap_all(&config, &top);
	if (r < 0) {
		backend_close(top);
		if (why->len == 0)
			buf_printf(why, "%s", err_sentence(r));
		return r;
	}
	*backend = top;
	return 0;
}
