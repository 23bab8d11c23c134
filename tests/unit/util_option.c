/* SPDX-License-Identifier: Apache-2.0 */
#include "util/mem.h"
#include "util/option.h"

#include <criterion/criterion.h>
#include <errno.h>

enum colour { RED, GREEN };

struct settings {
	char *bucket, *region, *note;
	uint64_t part_bytes, timeout_ms, bandwidth_bytes_per_s, retries_count, plain;
	bool is_fast;
	int colour;
};

static const char *const colours[] = {"red", "green", NULL};
static const struct option_spec table[] = {
	OPT_STRING(struct settings, bucket, OPT_REQUIRED, "bucket that holds the shards"),
	OPT_STRING(struct settings, region, "here", "where it is"),
	OPT_STRING(struct settings, note, NULL, "free text"),
	OPT_SIZE(struct settings, part_bytes, "8MiB", 5 * MIB, 5 * GIB, "size of a part"),
	OPT_DURATION(struct settings, timeout_ms, "30s", SECOND, HOUR, "limit for a request"),
	OPT_RATE(struct settings, bandwidth_bytes_per_s, "6MB/s", 1, TIB, "limit of all"),
	OPT_COUNT(struct settings, retries_count, "5", 0, 10, "how often"),
	OPT_COUNT(struct settings, plain, "1", 1, 2, "a key without a unit"),
	OPT_BOOL(struct settings, is_fast, "yes", "in a hurry"),
	OPT_ENUM(struct settings, colour, "green", colours, "of the bicycle shed"),
	OPT_END,
};

Test(util_option, keys_are_members_without_their_unit)
{
	static const char *const keys[] = {"bucket",  "region",	   "note",    "part",
					   "timeout", "bandwidth", "retries", "plain",
					   "is_fast", "colour"};
	char key[OPTION_KEY_SIZE];

	for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
		cr_assert_str_eq(option_key(&table[i], key), keys[i]);
		cr_assert_eq(option_find(table, keys[i]), &table[i]);
	}
	cr_assert_null(option_find(table, "part_bytes"));
	cr_assert_null(option_find(table, ""));
}

Test(util_option, defaults_fill_all_but_what_is_required)
{
	struct settings s = {0};

	cr_assert_eq(option_set_defaults(table, &s), 0);
	cr_assert_null(s.bucket);
	cr_assert_null(s.note);
	cr_assert_str_eq(s.region, "here");
	cr_assert_eq(s.part_bytes, 8 * MIB);
	cr_assert_eq(s.timeout_ms, 30000);
	cr_assert_eq(s.bandwidth_bytes_per_s, 6000000);
	cr_assert_eq(s.retries_count, 5);
	cr_assert(s.is_fast);
	cr_assert_eq(s.colour, GREEN);
	option_release(table, &s);
	cr_assert_null(s.region);
}

static const struct {
	const char *key, *text;
	int result;
	const char *why;
} bad[] = {
	{"part", "4MiB", -ERANGE, "must be 5MiB .. 5GiB"},
	{"part", "5242879", -ERANGE, "must be 5MiB .. 5GiB"},
	{"part", "6GiB", -ERANGE, "must be 5MiB .. 5GiB"},
	{"part", "999999PiB", -ERANGE, "must be 5MiB .. 5GiB"},
	{"part", "big", -EINVAL, "must be a size such as 64MiB, 5MiB .. 5GiB"},
	{"part", "", -EINVAL, "must be a size such as 64MiB, 5MiB .. 5GiB"},
	{"timeout", "0", -ERANGE, "must be 1s .. 1h"},
	{"timeout", "x", -EINVAL, "must be a duration such as 30s, 1s .. 1h"},
	{"bandwidth", "0", -ERANGE, "must be 1B/s .. 1TiB/s"},
	{"bandwidth", "fast", -EINVAL, "must be a rate such as 50mbps or 6MB/s, 1B/s .. 1TiB/s"},
	{"retries", "11", -ERANGE, "must be 0 .. 10"},
	{"retries", "-1", -EINVAL, "must be a number, 0 .. 10"},
	{"is_fast", "maybe", -EINVAL, "must be true or false"},
	{"colour", "blue", -EINVAL, "must be one of red, green"},
};

Test(util_option, a_bad_value_is_refused_with_what_is_allowed)
{
	struct settings s = {0}, before;

	cr_assert_eq(option_set_defaults(table, &s), 0);
	before = s;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(buf) why = BUF_INIT;
		const struct option_spec *spec = option_find(table, bad[i].key);

		cr_assert_eq(option_set(spec, &s, bad[i].text, &why), bad[i].result, "%s: %s",
			     bad[i].key, bad[i].text);
		cr_assert_str_eq(buf_str(&why), bad[i].why);
		cr_assert_eq(option_set(spec, &s, bad[i].text, NULL), bad[i].result);
	}
	cr_assert_eq(memcmp(&s, &before, sizeof(s)), 0);
	option_release(table, &s);
}

Test(util_option, both_ends_of_a_range_are_allowed)
{
	struct settings s = {0};

	cr_assert_eq(option_set(option_find(table, "part"), &s, "5MiB", NULL), 0);
	cr_assert_eq(option_set(option_find(table, "part"), &s, "5GiB", NULL), 0);
	cr_assert_eq(option_set(option_find(table, "retries"), &s, "0", NULL), 0);
	cr_assert_eq(option_set(option_find(table, "retries"), &s, "10", NULL), 0);
	cr_assert_eq(option_set(option_find(table, "is_fast"), &s, "off", NULL), 0);
	cr_assert_not(s.is_fast);
}

Test(util_option, what_is_printed_sets_the_same_value)
{
	struct settings s = {0}, t = {0};

	cr_assert_eq(option_set_defaults(table, &s), 0);
	cr_assert_eq(option_set(option_find(table, "bucket"), &s, "a b", NULL), 0);
	cr_assert_eq(option_set(option_find(table, "part"), &s, "5242881", NULL), 0);
	for (const struct option_spec *spec = table; spec->type != OPTION_END; spec++) {
		AUTO(buf) a = BUF_INIT;
		AUTO(buf) b = BUF_INIT;

		cr_assert_eq(option_print(spec, &s, &a), 0);
		cr_assert_eq(option_set(spec, &t, buf_str(&a), NULL), 0);
		cr_assert_eq(option_print(spec, &t, &b), 0);
		cr_assert_str_eq(buf_str(&a), buf_str(&b));
	}
	cr_assert_eq(t.part_bytes, 5242881);
	option_release(table, &s);
	option_release(table, &t);
}

Test(util_option, a_description_is_one_line_with_type_default_and_range)
{
	static const char *const expected[] = {
		"bucket: text, required; bucket that holds the shards",
		"region: text, default here; where it is",
		"note: text; free text",
		"part: size, default 8MiB, 5MiB .. 5GiB; size of a part",
		"timeout: duration, default 30s, 1s .. 1h; limit for a request",
		"bandwidth: rate, default 6MB/s, 1B/s .. 1TiB/s; limit of all",
		"retries: count, default 5, 0 .. 10; how often",
		"plain: count, default 1, 1 .. 2; a key without a unit",
		"is_fast: bool, default yes; in a hurry",
		"colour: choice, default green, one of red, green; of the bicycle shed",
	};

	for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
		AUTO(buf) line = BUF_INIT;

		cr_assert_eq(option_describe(&table[i], &line), 0);
		cr_assert_str_eq(buf_str(&line), expected[i]);
	}
}

Test(util_option, out_of_memory_leaks_nothing_and_changes_nothing)
{
	struct settings s = {0};
	AUTO(buf) out = BUF_INIT;

	mem_fail_at(1);
	cr_assert_eq(option_set_defaults(table, &s), -ENOMEM);
	cr_assert_null(s.region);
	cr_assert_eq(option_set(option_find(table, "bucket"), &s, "old", NULL), 0);
	mem_fail_at(1);
	cr_assert_eq(option_set(option_find(table, "bucket"), &s, "new", NULL), -ENOMEM);
	cr_assert_str_eq(s.bucket, "old");
	mem_fail_at(1);
	cr_assert_eq(option_describe(table, &out), -ENOMEM);
	cr_assert_eq(out.len, 0);
	mem_fail_at(0);
	option_release(table, &s);
}
