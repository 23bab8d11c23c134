/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_OPTION_H
#define SHARDFS_UTIL_OPTION_H

/*
 * Tables of settings: one table gives parsing, ranges, defaults, help, the
 * listing of `shardctl config show`, and a test that the man page names each key.
 *
 *	static const struct option_spec s3_options[] = {
 *		OPT_STRING(struct s3_config, bucket, OPT_REQUIRED, "bucket that holds the shards"),
 *		OPT_SIZE(struct s3_config, part_bytes, "8MiB", 5 * MIB, 5 * GIB, "size of ..."),
 *		OPT_DURATION(struct s3_config, timeout_ms, "30s", SECOND, HOUR, "limit for ..."),
 *		OPT_END
 *	};
 *
 * The key in the file is the member's name without a unit suffix: `_bytes`,
 * `_ms`, `_count` and `_bytes_per_s` are cut off ("part", "timeout").  Target
 * members: OPT_STRING char * (owned, mem_free), OPT_SIZE, OPT_DURATION (ms),
 * OPT_RATE (bytes/s), OPT_COUNT uint64_t; OPT_BOOL bool; OPT_ENUM int.
 */

#include "util/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECOND ((uint64_t)1000) /* milliseconds */
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

enum option_type {
	OPTION_END,
	OPTION_STRING,
	OPTION_SIZE,
	OPTION_DURATION,
	OPTION_RATE,
	OPTION_COUNT,
	OPTION_BOOL,
	OPTION_ENUM,
};

#define OPT_REQUIRED ((const char *)-1) /* as default: the key must be given */

struct option_spec {
	enum option_type type;
	const char *member;          /* C name; option_key() cuts the unit off */
	size_t offset;
	const char *default_text;    /* NULL for strings: stays NULL */
	uint64_t min, max;
	const char *const *enum_names; /* NULL-terminated; value = position */
	const char *help;
};

#define OPT_FIELD_(T, m, S, D, lo, hi, names, h)                                                   \
	{                                                                                          \
		.type = (T), .member = #m, .offset = offsetof(S, m), .default_text = (D),          \
		.min = (lo), .max = (hi), .enum_names = (names), .help = (h)                       \
	}
#define OPT_STRING(S, m, D, h)           OPT_FIELD_(OPTION_STRING, m, S, D, 0, 0, NULL, h)
#define OPT_SIZE(S, m, D, lo, hi, h)     OPT_FIELD_(OPTION_SIZE, m, S, D, lo, hi, NULL, h)
#define OPT_DURATION(S, m, D, lo, hi, h) OPT_FIELD_(OPTION_DURATION, m, S, D, lo, hi, NULL, h)
#define OPT_RATE(S, m, D, lo, hi, h)     OPT_FIELD_(OPTION_RATE, m, S, D, lo, hi, NULL, h)
#define OPT_COUNT(S, m, D, lo, hi, h)    OPT_FIELD_(OPTION_COUNT, m, S, D, lo, hi, NULL, h)
#define OPT_BOOL(S, m, D, h)             OPT_FIELD_(OPTION_BOOL, m, S, D, 0, 1, NULL, h)
#define OPT_ENUM(S, m, D, names, h)      OPT_FIELD_(OPTION_ENUM, m, S, D, 0, 0, names, h)
#define OPT_END                          {.type = OPTION_END}

#define OPTION_KEY_SIZE 64
const char *option_key(const struct option_spec *spec, char *out); /* out: OPTION_KEY_SIZE */
const struct option_spec *option_find(const struct option_spec *table, const char *key); /* NULL */

/*
 * Fills target with all defaults (required ones stay empty).  The target is
 * zeroed before, or holds values of this table.  -ENOMEM: its strings are freed.
 */
int option_set_defaults(const struct option_spec *table, void *target);
/*
 * option_set - parse text into its member.
 * -EINVAL, -ERANGE: what is allowed ("must be 5MiB .. 5GiB") is appended to `why`, unless that
 * is NULL.  -ENOMEM.  The target is unchanged in each case.
 */
int option_set(const struct option_spec *spec, void *target, const char *text, struct buf *why);
/* Appends the current value as text that option_set accepts; 0 or -ENOMEM. */
int option_print(const struct option_spec *spec, const void *target, struct buf *out);
/* Appends one line (no newline) for --help: key, type, default, range, help; 0 or -ENOMEM. */
int option_describe(const struct option_spec *spec, struct buf *out);
void option_release(const struct option_spec *table, void *target); /* frees the strings */

#endif
