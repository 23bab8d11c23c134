/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "util/mem.h"
#include "util/units.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/*
 * The tables: one line for each key gives its type, default, range and help.
 * A new setting is a member in config.h, a line here, and a line in
 * shardfs.yaml(5), which a test demands.
 */

static const char *const role_names[] = {"primary", "secondary", "tertiary", NULL};
static const char *const log_level_names[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_format_names[] = {"text", "json", NULL};
static const char *const compression_names[] = {
	"off", "-5", "-4", "-3", "-2", "-1", "1",  "2",  "3",  "4",  "5",  "6",  "7",
	"8",   "9",  "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "fast", NULL};

static const char *const key_slots_names[] = {"attached", "detached", NULL};

const struct option_spec config_options[] = {
	OPT_STRING(struct config, home, OPT_REQUIRED,
		   "directory of local state, absolute; holds the four below unless given"),
	OPT_STRING(struct config, index, NULL, "index database; default HOME/index.db"),
	OPT_STRING(struct config, journal, NULL, "directory of the journal; default HOME/journal"),
	OPT_STRING(struct config, spool, NULL, "directory of the spool; default HOME/spool"),
	OPT_STRING(struct config, cache, NULL, "directory of the cache; default HOME/cache"),
	OPT_STRING(struct config, passphrase_file, NULL,
		   "file that holds the passphrase; mode 0600; one trailing newline is cut off"),
	OPT_STRING(struct config, passphrase_command, NULL,
		   "shell command that prints the passphrase, within 60 s"),
	OPT_STRING(struct config, key_file, NULL,
		   "file whose bytes are a key; with a passphrase both are needed"),
	OPT_ENUM(struct config, key_slots, "attached", key_slots_names,
		 "attached: in the superblock, everywhere; detached: in slots_file alone"),
	OPT_STRING(struct config, slots_file, NULL,
		   "file that holds the key slots, absolute; for detached ones, and to attach them"),
	OPT_STRING(struct config, policy, "3", "policy of the root directory"),
	OPT_END
};

const struct option_spec config_provider_options[] = {
	OPT_STRING(struct config_provider, name, OPT_REQUIRED, "name, unique"),
	OPT_STRING(struct config_provider, type, OPT_REQUIRED, "kind of the backend: dir, memory"),
	OPT_ENUM(struct config_provider, role, "secondary", role_names,
		 "orders reads and first acknowledgements"),
	OPT_STRING(struct config_provider, region, "local", "where it is; policies count regions"),
	OPT_STRING(struct config_provider, vendor, NULL,
		   "who runs it; policies count vendors; default: the name"),
	OPT_COUNT(struct config_provider, workers_count, "0", 0, 64,
		  "threads that write, where it needs its own; 0: settings.provider_workers"),
	OPT_COUNT(struct config_provider, inflight_requests_max, "0", 0, 1024,
		  "requests at once; 0: settings.inflight_requests_max"),
	OPT_RATE(struct config_provider, bandwidth_bytes_per_s, "0", 0, 1 * TIB,
		 "limit of what is sent to it; 0: settings.bandwidth"),
	OPT_END
};

const struct option_spec config_settings_options[] = {
	OPT_SIZE(struct config_settings, spool_size_bytes, "8GiB", 16 * MIB, 1024 * TIB,
		 "local disk for shards that still need copies"),
	OPT_SIZE(struct config_settings, cache_size_bytes, "4GiB", 0, 1024 * TIB,
		 "local disk for sealed data kept for reading; 0: none"),
	OPT_SIZE(struct config_settings, journal_bytes_max, "1GiB", 4 * MIB, 1 * TIB,
		 "journal not yet applied or shipped, over which a snapshot replaces it"),
	OPT_DURATION(struct config_settings, commit_interval_ms, "5s", 100, 5 * MINUTE,
		     "what nobody synced is synced after this time"),
	OPT_SIZE(struct config_settings, dirty_buffers_bytes, "64MiB", 4 * MIB, 64 * GIB,
		 "memory for written bytes that are not yet packed, over all files"),
	OPT_SIZE(struct config_settings, chunk_memory_bytes, "48MiB", 0, 64 * GIB,
		 "memory for decoded chunks"),
	OPT_SIZE(struct config_settings, overlay_bytes, "32MiB", 1 * MIB, 16 * GIB,
		 "memory for changes that the index does not have yet"),
	OPT_SIZE(struct config_settings, index_cache_bytes, "32MiB", 1 * MIB, 64 * GIB,
		 "memory for pages of the index, over all connections"),
	OPT_SIZE(struct config_settings, chunk_min_bytes, "128KiB", 256, 4 * MIB,
		 "smallest chunk; at mkfs only; at most half of chunk_avg"),
	OPT_SIZE(struct config_settings, chunk_avg_bytes, "256KiB", 1 * KIB, 8 * MIB,
		 "average chunk, a power of two; at mkfs only"),
	OPT_SIZE(struct config_settings, chunk_max_bytes, "1MiB", 2 * KIB, 16 * MIB,
		 "largest chunk; at mkfs only; at least twice chunk_avg, at most shard_size"),
	OPT_SIZE(struct config_settings, shard_size_bytes, "16MiB", 1 * MIB, 64 * MIB,
		 "a shard is full at this size"),
	OPT_COUNT(struct config_settings, open_shards_max, "8", 1, 64,
		  "shards being filled at once; the idlest is sealed for another"),
	OPT_DURATION(struct config_settings, shard_idle_ms, "5s", 100, 1 * HOUR,
		     "an open shard that got nothing for this time is sealed"),
	OPT_ENUM(struct config_settings, compression, "fast", compression_names,
		 "zstd level for new chunks; what does not shrink is stored as it is"),
	OPT_COUNT(struct config_settings, codec_threads_count, "0", 0, 64,
		  "threads that chunk, compress and encrypt; 0: one for each processor"),
	OPT_COUNT(struct config_settings, reader_threads_count, "0", 0, 256,
		  "threads for requests that wait for disk or providers; 0: automatic"),
	OPT_COUNT(struct config_settings, request_loops_count, "0", 0, 64,
		  "threads that read requests from the kernel; 0: automatic"),
	OPT_COUNT(struct config_settings, spool_release_copies_count, "0", 0, 16,
		  "copies for a shard to leave the spool; 0: the smaller of 2 and the policy"),
	OPT_COUNT(struct config_settings, provider_workers_count, "4", 1, 64,
		  "threads for each provider whose backend needs its own"),
	OPT_COUNT(struct config_settings, inflight_requests_max, "16", 1, 1024,
		  "requests at once for each provider"),
	OPT_RATE(struct config_settings, bandwidth_bytes_per_s, "0", 0, 1 * TIB,
		 "limit of what is sent to each provider; 0: none"),
	OPT_COUNT(struct config_settings, retry_attempts_count, "5", 1, 20,
		  "attempts of one request before it is reported as failed"),
	OPT_DURATION(struct config_settings, retry_delay_ms, "200ms", 1, MINUTE,
		     "pause before the second attempt; doubles for each further one"),
	OPT_DURATION(struct config_settings, retry_delay_max_ms, "30s", 1, 1 * HOUR,
		     "longest pause between attempts"),
	OPT_BOOL(struct config_settings, hedged_reads, "true",
		 "ask a second copy when the first is later than its provider usually is"),
	OPT_SIZE(struct config_settings, read_ahead_bytes, "8MiB", 0, 1 * GIB,
		 "bytes fetched ahead of a sequential reader"),
	OPT_DURATION(struct config_settings, segment_delay_max_ms, "30s", 100, 1 * HOUR,
		     "longest time from a change to its segment at the providers that are present"),
	OPT_DURATION(struct config_settings, epoch_check_ms, "10s", 100, 1 * HOUR,
		     "how often providers are asked whether another machine writes"),
	OPT_DURATION(struct config_settings, clock_tolerance_ms, "5m", SECOND, 1 * DAY,
		     "providers' clocks that differ by no more agree on the time"),
	OPT_SIZE(struct config_settings, snapshot_after_bytes, "64MiB", 64 * KIB, 1 * TIB,
		 "segments after which a snapshot of the index replaces them, if it is smaller"),
	OPT_DURATION(struct config_settings, close_wait_ms, "10s", 0, 1 * HOUR,
		     "unmounting waits so long for the last segment to be sent"),
	OPT_DURATION(struct config_settings, deletion_hold_ms, "1d", 0, 3650 * DAY,
		     "an unneeded shard is kept for this time before it is deleted"),
	OPT_DURATION(struct config_settings, audit_keep_ms, "0s", 0, 36500 * DAY,
		     "entries of the audit log are removed after this time; 0s: never"),
	OPT_COUNT(struct config_settings, repack_below_count, "50", 0, 90,
		  "a shard of which less than so many percent are needed is repacked; 0: never"),
	OPT_RATE(struct config_settings, repack_bandwidth_bytes_per_s, "32MiB", 0, 1 * TIB,
		 "limit of what is read for repacking; 0: none"),
	OPT_DURATION(struct config_settings, scrub_period_ms, "180d", 0, 3650 * DAY,
		     "every copy is read back and authenticated once in this time; 0: never"),
	OPT_DURATION(struct config_settings, scrub_list_period_ms, "1d", 0, 3650 * DAY,
		     "every provider is listed and compared once in this time; 0: never"),
	OPT_RATE(struct config_settings, scrub_bandwidth_bytes_per_s, "16MiB", 0, 1 * TIB,
		 "limit of what scrub reads from all providers together; 0: none"),
	OPT_STRING(struct config_settings, scrub_window, NULL,
		   "hours of scrub, local time, such as 22:00-06:00; default: always"),
	OPT_ENUM(struct config_settings, log_level, "info", log_level_names,
		 "least important events that are logged"),
	OPT_ENUM(struct config_settings, log_format, "text", log_format_names,
		 "form of the log's lines"),
	OPT_END
};

int config_settings_defaults(struct config_settings *settings)
{
	*settings = (struct config_settings){0};
	return option_set_defaults(config_settings_options, settings);
}

void config_settings_release(struct config_settings *settings)
{
	option_release(config_settings_options, settings);
}

bool config_scrub_window(const struct config_settings *settings, unsigned *from_min,
			 unsigned *to_min)
{
	const char *text = settings->scrub_window ? settings->scrub_window : "";
	unsigned hour[2], minute[2];
	int end = 0;

	if (strspn(text, "0123456789:-") != strlen(text) ||
	    sscanf(text, "%2u:%2u-%2u:%2u%n", &hour[0], &minute[0], &hour[1], &minute[1], &end) != 4 ||
	    text[end] != '\0' || hour[0] > 23 || hour[1] > 24 || minute[0] > 59 || minute[1] > 59)
		return false;
	*from_min = hour[0] * 60 + minute[0];
	*to_min = hour[1] * 60 + minute[1];
	return *from_min != *to_min && *to_min <= 24 * 60;
}

/* The key at fault and what is allowed, or NULL. */
static const char *find_misfit(const struct config_settings *s, const char **allowed)
{
	unsigned from, to;
	struct {
		bool is_bad;
		const char *key, *allowed;
	} rules[] = {
		{(s->chunk_avg_bytes & (s->chunk_avg_bytes - 1)) != 0, "chunk_avg",
		 "must be a power of two"},
		{s->chunk_min_bytes > s->chunk_avg_bytes / 2, "chunk_min",
		 "must be at most half of chunk_avg"},
		{s->chunk_max_bytes / 2 < s->chunk_avg_bytes, "chunk_max",
		 "must be at least twice chunk_avg"},
		{s->chunk_max_bytes > s->shard_size_bytes, "chunk_max",
		 "must be at most shard_size"},
		{s->spool_size_bytes < 4 * s->shard_size_bytes, "spool_size",
		 "must be at least four times shard_size"},
		{s->retry_delay_ms > s->retry_delay_max_ms, "retry_delay",
		 "must be at most retry_delay_max"},
		{s->scrub_window && s->scrub_window[0] && !config_scrub_window(s, &from, &to),
		 "scrub_window", "must be two different times of day such as 22:00-06:00"},
	};

	for (size_t i = 0; i < ARRAY_COUNT(rules); i++) {
		if (rules[i].is_bad) {
			*allowed = rules[i].allowed;
			return rules[i].key;
		}
	}
	return NULL;
}

int config_settings_misfit(const struct config_settings *settings, const char **key,
			   const char **allowed)
{
	*key = find_misfit(settings, allowed);
	return *key ? -EINVAL : 0;
}

int config_settings_check(const struct config_settings *settings, struct buf *why)
{
	const char *key, *allowed;
	int r = config_settings_misfit(settings, &key, &allowed);

	if (r < 0)
		buf_printf(why, "settings.%s: %s", key, allowed);
	return r;
}

int config_settings_set(struct config_settings *settings, const char *key, const char *value,
			struct buf *why)
{
	const struct option_spec *spec = option_find(config_settings_options, key);
	struct config_settings changed = *settings;
	AUTO(buf) detail = BUF_INIT;
	char near[OPTION_KEY_SIZE];
	int r;

	if (!spec) {
		const char *nearest = config_nearest_key(config_settings_options, key, near);

		buf_printf(why, "settings.%s: unknown key%s%s%s", key,
			   nearest ? "; did you mean " : "", nearest ? nearest : "",
			   nearest ? "?" : "");
		return -ENOENT;
	}
	/* Text must not be owned twice. */
	if (spec->type == OPTION_STRING) {
		r = option_set(spec, settings, value, why);
		return r < 0 ? r : config_settings_check(settings, why);
	}
	r = option_set(spec, &changed, value, &detail);
	if (r < 0) {
		const char *text = buf_str(&detail);

		buf_printf(why, "settings.%s: %s: %s", key, value, text ? text : "");
		return r;
	}
	r = config_settings_check(&changed, why);
	if (r == 0)
		*settings = changed;
	return r;
}

int config_compression_level(const struct config_settings *settings)
{
	int at = settings->compression;

	assert(at >= 0 && at < (int)ARRAY_COUNT(compression_names) - 1);
	if (at == 0)
		return 0;
	return at <= 5 ? at - 6 : at - 5;
}

unsigned config_codec_threads(const struct config_settings *settings)
{
	unsigned count = (unsigned)settings->codec_threads_count;
	cpu_set_t cpus;

	if (count > 0)
		return count;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		count = (unsigned)CPU_COUNT(&cpus);
	return MAX(1u, MIN(count, 64u));
}

/* Levenshtein's distance, one row at a time. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[OPTION_KEY_SIZE];
	size_t b_len = strlen(b);

	for (unsigned j = 0; j <= b_len; j++)
		row[j] = j;
	for (unsigned i = 0; a[i]; i++) {
		unsigned diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < b_len; j++) {
			unsigned replace = diagonal + (a[i] != b[j]);
			unsigned other = MIN(row[j], row[j + 1]) + 1;

			diagonal = row[j + 1];
			row[j + 1] = MIN(replace, other);
		}
	}
	return row[b_len];
}

const char *config_nearest_key(const struct option_spec *table, const char *key, char *out)
{
	char name[OPTION_KEY_SIZE];
	unsigned best = (unsigned)strlen(key) / 3 + 1;
	bool is_found = false;

	if (strlen(key) >= OPTION_KEY_SIZE)
		return NULL;
	for (; table->type != OPTION_END; table++) {
		unsigned distance = edit_distance(key, option_key(table, name));

		if (distance < best || (!is_found && distance == best)) {
			best = distance;
			memcpy(out, name, sizeof(name));
			is_found = true;
		}
	}
	return is_found ? out : NULL;
}
