/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/rng.h"
#include "util/mem.h"
#include "util/units.h"

#include <criterion/criterion.h>
#include <errno.h>

#define UNTOUCHED 0x1234567u

typedef int parser(const char *text, uint64_t *value);

static const struct {
	parser *parse;
	const char *text;
	int result;
	uint64_t value;
} cases[] = {
	{units_parse_size, "0", 0, 0},
	{units_parse_size, "512", 0, 512},
	{units_parse_size, "512B", 0, 512},
	{units_parse_size, "8MiB", 0, 8 * MIB},
	{units_parse_size, "8mib", 0, 8 * MIB},
	{units_parse_size, "2MB", 0, 2000000},
	{units_parse_size, "4K", 0, 4096},
	{units_parse_size, "4KB", 0, 4000},
	{units_parse_size, "1.5GiB", 0, 3 * GIB / 2},
	{units_parse_size, "0.5KiB", 0, 512},
	{units_parse_size, "16383PiB", 0, 16383 * 1024 * TIB},
	{units_parse_size, "16384PiB", -ERANGE, 0},
	{units_parse_size, "18446744073709551615", 0, UINT64_MAX},
	{units_parse_size, "18446744073709551616", -ERANGE, 0},
	{units_parse_size, "99999999999999999999999999999999999999999999", -ERANGE, 0},
	{units_parse_size, "99999999999999999999999999999999999999999999x", -EINVAL, 0},
	{units_parse_size, "", -EINVAL, 0},
	{units_parse_size, "MiB", -EINVAL, 0},
	{units_parse_size, "-1", -EINVAL, 0},
	{units_parse_size, "+1", -EINVAL, 0},
	{units_parse_size, " 1", -EINVAL, 0},
	{units_parse_size, "1 MiB", -EINVAL, 0},
	{units_parse_size, "1.MiB", -EINVAL, 0},
	{units_parse_size, ".5MiB", -EINVAL, 0},
	{units_parse_size, "1.0000000001GiB", -EINVAL, 0},
	{units_parse_size, "1XB", -EINVAL, 0},
	{units_parse_size, "0x10", -EINVAL, 0},
	{units_parse_duration, "250ms", 0, 250},
	{units_parse_duration, "5", 0, 5000},
	{units_parse_duration, "5s", 0, 5000},
	{units_parse_duration, "10m", 0, 600000},
	{units_parse_duration, "1.5h", 0, 5400000},
	{units_parse_duration, "30d", 0, 30ull * 86400000},
	{units_parse_duration, "2w", 0, 14ull * 86400000},
	{units_parse_duration, "1y", 0, 365ull * 86400000},
	{units_parse_duration, "5sec", -EINVAL, 0},
	{units_parse_duration, "600000000000y", -ERANGE, 0},
	{units_parse_rate, "50mbps", 0, 6250000},
	{units_parse_rate, "50Mbit", 0, 6250000},
	{units_parse_rate, "1gbps", 0, 125000000},
	{units_parse_rate, "6MB/s", 0, 6000000},
	{units_parse_rate, "6MiB/s", 0, 6 * MIB},
	{units_parse_rate, "6MB", 0, 6000000},
	{units_parse_rate, "100", 0, 100},
	{units_parse_rate, "6MB/m", -EINVAL, 0},
	{units_parse_rate, "/s", -EINVAL, 0},
	{units_parse_count, "42", 0, 42},
	{units_parse_count, "042", 0, 42},
	{units_parse_count, "4.2", -EINVAL, 0},
	{units_parse_count, "42B", -EINVAL, 0},
	{units_parse_count, "18446744073709551616", -ERANGE, 0},
};

Test(util_units, each_form_is_taken_or_refused_as_the_header_says)
{
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		uint64_t value = UNTOUCHED;
		int r = cases[i].parse(cases[i].text, &value);

		cr_assert_eq(r, cases[i].result, "\"%s\": %d", cases[i].text, r);
		cr_assert_eq(value, r == 0 ? cases[i].value : UNTOUCHED, "\"%s\": %llu",
			     cases[i].text, (unsigned long long)value);
	}
}

Test(util_units, sizes_take_the_unit_with_the_fewest_digits)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {{0, "0B"},		     {512, "512B"},	      {8 * MIB, "8MiB"},
		     {1536 * KIB, "1536KiB"}, {2000000, "2MB"},	      {64000000, "64MB"},
		     {1000 * KIB, "1000KiB"}, {5 * GIB, "5GiB"},      {16383 * 1024 * TIB, "16383PiB"},
		     {1025, "1025B"},	     {2048 * 1024 * TIB, "2048PiB"}};
	char out[UNITS_TEXT_SIZE];

	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++)
		cr_assert_str_eq(units_print_size(sizes[i].bytes, out), sizes[i].text);
	cr_assert_str_eq(units_print_rate(6000000, out), "6MB/s");
}

Test(util_units, durations_take_the_largest_unit_that_divides)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} durations[] = {{0, "0s"},	      {250, "250ms"},	     {5000, "5s"},
			 {90000, "90s"},      {5400000, "90m"},	     {86400000, "1d"},
			 {1001, "1001ms"},    {31536000000, "1y"},   {31536001000, "31536001s"}};
	char out[UNITS_TEXT_SIZE];

	for (size_t i = 0; i < ARRAY_COUNT(durations); i++)
		cr_assert_str_eq(units_print_duration(durations[i].ms, out), durations[i].text);
}

Test(util_units, people_read_three_digits)
{
	char out[UNITS_TEXT_SIZE];

	cr_assert_str_eq(units_human_size(0, out), "0 B");
	cr_assert_str_eq(units_human_size(999, out), "999 B");
	cr_assert_str_eq(units_human_size(1000, out), "0.977 KiB");
	cr_assert_str_eq(units_human_size(3 * GIB / 2, out), "1.5 GiB");
	cr_assert_str_eq(units_human_size(152 * MIB, out), "152 MiB");
	cr_assert_str_eq(units_human_size(UINT64_MAX, out), "16384 PiB");
}

Test(util_units, what_is_printed_is_parsed_to_the_same_value)
{
	struct rng rng = rng_new();

	for (unsigned i = 0; i < 100000; i++) {
		uint64_t value = rng_any_size(&rng), back = ~value;
		char out[UNITS_TEXT_SIZE];

		if (i % 3 == 0)
			value = (value >> 30) << rng_below(&rng, 30);
		if (i % 3 == 1)
			value = value % 1000 * 1000000;
		cr_assert_eq(units_parse_size(units_print_size(value, out), &back), 0);
		cr_assert_eq(back, value, "%s", out);
		cr_assert_eq(units_parse_duration(units_print_duration(value, out), &back), 0);
		cr_assert_eq(back, value, "%s", out);
		cr_assert_eq(units_parse_rate(units_print_rate(value, out), &back), 0);
		cr_assert_eq(back, value, "%s", out);
	}
}
