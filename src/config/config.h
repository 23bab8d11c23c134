/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CONFIG_CONFIG_H
#define SHARDFS_CONFIG_CONFIG_H

/*
 * The configuration of one file system: shardfs.yaml(5) as a struct, checked
 * as a whole.  An error is one line: file, line, key, what is allowed:
 *
 *	shardfs.yaml:12: settings.shard_size: 3GiB: must be 1MiB .. 64MiB
 *	shardfs.yaml:14: settings.shard_sise: unknown key; did you mean shard_size?
 *
 * Backends live above this room: whatever a provider has besides the keys
 * below goes through as (key, value, line) and is checked by a callback.
 */

#include "util/buf.h"
#include "util/option.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_PROVIDERS_MAX 32u
#define CONFIG_NAME_MAX      64u /* bytes of a provider's name, region, vendor */

/* A setting of a backend: `key: value` ("a.b" for nested ones). */
struct config_pair {
	char *key, *value;
	unsigned line;
};

enum provider_role { PROVIDER_PRIMARY, PROVIDER_SECONDARY, PROVIDER_TERTIARY };

struct config_provider {
	char *name;   /* [A-Za-z0-9][A-Za-z0-9._-]*, unique */
	char *type;   /* of the backend: dir, memory, s3 ... */
	int role;     /* enum provider_role */
	char *region; /* default "local" */
	char *vendor; /* default: the name */
	uint64_t workers_count;             /* 0: settings.provider_workers */
	uint64_t inflight_requests_max;     /* 0: settings.inflight_requests_max */
	uint64_t bandwidth_bytes_per_s;     /* 0: settings.bandwidth */
	unsigned line;
	struct config_pair *pairs;
	size_t pair_count;
};

enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON };

/* Everything under `settings:`.  0 means automatic where the help says so. */
struct config_settings {
	/* local disk */
	uint64_t spool_size_bytes, cache_size_bytes;
	uint64_t journal_bytes_max;
	uint64_t commit_interval_ms;
	/* memory */
	uint64_t dirty_buffers_bytes, chunk_memory_bytes, overlay_bytes, index_cache_bytes;
	/* chunks and shards */
	uint64_t chunk_min_bytes, chunk_avg_bytes, chunk_max_bytes; /* at mkfs only */
	uint64_t shard_size_bytes;
	uint64_t open_shards_max;
	uint64_t shard_idle_ms;
	int compression; /* position in the table: see config_compression_level() */
	/* threads */
	uint64_t codec_threads_count, reader_threads_count, request_loops_count;
	/* providers */
	uint64_t spool_release_copies_count;
	uint64_t provider_workers_count;
	uint64_t inflight_requests_max;
	uint64_t bandwidth_bytes_per_s;
	uint64_t retry_attempts_count;
	uint64_t retry_delay_ms, retry_delay_max_ms;
	bool hedged_reads;
	uint64_t read_ahead_bytes;
	/* background */
	uint64_t segment_delay_max_ms, epoch_check_ms, clock_tolerance_ms, snapshot_after_bytes, close_wait_ms;
	uint64_t deletion_hold_ms;
	uint64_t audit_keep_ms; /* 0: for ever */
	uint64_t repack_below_count; /* percent */
	uint64_t repack_bandwidth_bytes_per_s;
	uint64_t scrub_period_ms, scrub_list_period_ms;
	uint64_t scrub_bandwidth_bytes_per_s;
	char *scrub_window; /* "22:00-06:00"; NULL: always */
	/* telling */
	int log_level;  /* enum log_level */
	int log_format; /* enum config_log_format */
};

enum config_key_slots { CONFIG_SLOTS_ATTACHED, CONFIG_SLOTS_DETACHED };

struct config {
	char *source; /* the file, for messages */
	char *home;   /* absolute; the four below default to names under it */
	char *index, *journal, *spool, *cache;
	char *passphrase_file, *key_file, *passphrase_command; /* NULL: not given */
	char *slots_file; /* absolute; NULL: not given */
	int key_slots;	  /* enum config_key_slots */
	char *policy; /* text of the root's policy; default "3" */
	unsigned policy_line; /* 0: not given */
	struct config_provider *providers;
	size_t provider_count; /* 1 .. CONFIG_PROVIDERS_MAX */
	struct config_settings settings;
};
#define CONFIG_INIT {0}
void config_release(struct config *config);

/* Minutes of the day from which and to which scrub may run (to < from: over midnight).  false:
 * scrub_window is not set, or is no window. */
bool config_scrub_window(const struct config_settings *settings, unsigned *from_min,
			 unsigned *to_min);

/* The tables, for --help, `config show`, and the test that the man page names each key. */
extern const struct option_spec config_options[];          /* top level, of struct config */
extern const struct option_spec config_provider_options[]; /* of struct config_provider */
extern const struct option_spec config_settings_options[]; /* of struct config_settings */

/*
 * What the caller checks: 0, or a negative errno with `why` saying what is
 * allowed (without file and line: these are put before it).
 */
struct config_checks {
	void *arg;
	bool may_lack_keys; /* passphrase and key file come from elsewhere */
	/* *line: may be set to that of the pair at fault; starts as the provider's. */
	int (*provider)(void *arg, const struct config_provider *provider, unsigned *line,
			struct buf *why);
	int (*policy)(void *arg, const char *text, const struct config *config, struct buf *why);
};

/*
 * config_load - read and check a file.
 * @checks: NULL: none beyond this room's.
 * 0; -EINVAL, -ERANGE, -EFBIG (why has the line); errno of open and read (with
 * why); whatever a check returned; -ENOMEM.  out unchanged on failure.
 */
int config_load(const char *path, const struct config_checks *checks, struct config *out,
		struct buf *why);
int config_parse(struct bytes text, const char *source, const struct config_checks *checks,
		 struct config *out, struct buf *why);

/* Settings alone: `shardctl config set KEY VALUE`.  -ENOENT unknown key; -EINVAL, -ERANGE. */
int config_settings_set(struct config_settings *settings, const char *key, const char *value,
			struct buf *why);
/* Do they fit together?  0 or -EINVAL with why. */
int config_settings_check(const struct config_settings *settings, struct buf *why);
/* The same in parts: the key at fault and what is allowed; both static. */
int config_settings_misfit(const struct config_settings *settings, const char **key,
			   const char **allowed);
/* Defaults; for tests and tools without a file.  -ENOMEM. */
int config_settings_defaults(struct config_settings *settings);
void config_settings_release(struct config_settings *settings);

/* Level in force, as codec/compress.h has them: zstd -5 .. 19, 0 off, 20 fast. */
int config_compression_level(const struct config_settings *settings);
/* Codec threads in force: the setting, or the processors at hand (1 .. 64). */
unsigned config_codec_threads(const struct config_settings *settings);

/* The key of `table` nearest to `key`, if it is near enough to be a slip; else NULL.
 * out: OPTION_KEY_SIZE. */
const char *config_nearest_key(const struct option_spec *table, const char *key, char *out);

#endif
