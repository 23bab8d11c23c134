/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A number is an integer with up to nine decimals; it is scaled by its unit in
 * 128 bits and rounded down.  Units are matched without regard to case.
 */
#include "util/units.h"

#include "util/mem.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DECIMALS_MAX 9
#define THOUSAND     ((uint64_t)1000)

struct unit {
	const char *name;
	uint64_t factor;
	uint64_t divisor;
};

static const struct unit size_units[] = {
	{"", 1, 1},
	{"B", 1, 1},
	{"K", KIB, 1},
	{"KiB", KIB, 1},
	{"KB", THOUSAND, 1},
	{"M", MIB, 1},
	{"MiB", MIB, 1},
	{"MB", THOUSAND * THOUSAND, 1},
	{"G", GIB, 1},
	{"GiB", GIB, 1},
	{"GB", THOUSAND * THOUSAND * THOUSAND, 1},
	{"T", TIB, 1},
	{"TiB", TIB, 1},
	{"TB", THOUSAND * THOUSAND * THOUSAND * THOUSAND, 1},
	{"P", 1024 * TIB, 1},
	{"PiB", 1024 * TIB, 1},
	{"PB", THOUSAND * THOUSAND * THOUSAND * THOUSAND * THOUSAND, 1},
	{NULL, 0, 0},
};

static const struct unit duration_units[] = {
	{"ms", 1, 1},
	{"", 1000, 1},
	{"s", 1000, 1},
	{"m", 60000, 1},
	{"h", 3600000, 1},
	{"d", 86400000, 1},
	{"w", 7 * (uint64_t)86400000, 1},
	{"y", 365 * (uint64_t)86400000, 1},
	{NULL, 0, 0},
};

static const struct unit bit_rate_units[] = {
	{"bps", 1, 8},
	{"bit", 1, 8},
	{"kbps", THOUSAND, 8},
	{"kbit", THOUSAND, 8},
	{"mbps", THOUSAND * THOUSAND, 8},
	{"mbit", THOUSAND * THOUSAND, 8},
	{"gbps", THOUSAND * THOUSAND * THOUSAND, 8},
	{"gbit", THOUSAND * THOUSAND * THOUSAND, 8},
	{NULL, 0, 0},
};

static const struct unit no_units[] = {
	{"", 1, 1},
	{NULL, 0, 0},
};

static const struct unit *find_unit(const struct unit *units, const char *name, size_t len)
{
	for (; units->name != NULL; units++)
		if (strlen(units->name) == len && strncasecmp(units->name, name, len) == 0)
			return units;
	return NULL;
}

/* text is a number and a unit of len bytes in all. */
static int parse(const char *text, size_t len, const struct unit *units, uint64_t *out)
{
	unsigned __int128 value = 0;
	uint64_t scale = 1;
	const struct unit *unit;
	bool has_digits = false, is_big = false;
	unsigned decimals = 0;
	size_t i = 0;

	for (; i < len && text[i] >= '0' && text[i] <= '9'; i++) {
		has_digits = true;
		value = value * 10 + (unsigned)(text[i] - '0');
		if (value > UINT64_MAX) {
			is_big = true; /* but the form may be wrong as well */
			value = UINT64_MAX;
		}
	}
	if (!has_digits)
		return -EINVAL;
	if (i < len && text[i] == '.') {
		for (i++; i < len && text[i] >= '0' && text[i] <= '9'; i++) {
			if (++decimals > DECIMALS_MAX)
				return -EINVAL;
			value = value * 10 + (unsigned)(text[i] - '0');
			scale *= 10;
		}
		if (decimals == 0)
			return -EINVAL;
	}
	unit = find_unit(units, text + i, len - i);
	if (unit == NULL || (decimals > 0 && units == no_units))
		return -EINVAL;
	/* At most 64 + 30 bits until here; the factor has up to 50. */
	if (is_big || value / scale > UINT64_MAX ||
	    __builtin_mul_overflow(value, (unsigned __int128)unit->factor, &value))
		return -ERANGE;
	value /= (unsigned __int128)scale * unit->divisor;
	if (value > UINT64_MAX)
		return -ERANGE;
	*out = (uint64_t)value;
	return 0;
}

int units_parse_size(const char *text, uint64_t *bytes)
{
	return parse(text, strlen(text), size_units, bytes);
}

int units_parse_duration(const char *text, uint64_t *ms)
{
	return parse(text, strlen(text), duration_units, ms);
}

int units_parse_rate(const char *text, uint64_t *bytes_per_s)
{
	size_t len = strlen(text);
	int r = parse(text, len, bit_rate_units, bytes_per_s);

	if (r != -EINVAL)
		return r;
	if (len > 2 && strcasecmp(text + len - 2, "/s") == 0)
		len -= 2;
	return parse(text, len, size_units, bytes_per_s);
}

int units_parse_count(const char *text, uint64_t *count)
{
	return parse(text, strlen(text), no_units, count);
}

static const char *const binary_names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
static const char *const decimal_names[] = {"B", "KB", "MB", "GB", "TB", "PB"};

/* Takes as many powers of base out of value as go in whole. */
static unsigned reduce(uint64_t *value, uint64_t base)
{
	unsigned power = 0;

	while (*value != 0 && *value % base == 0 && power < ARRAY_COUNT(binary_names) - 1) {
		*value /= base;
		power++;
	}
	return power;
}

static unsigned digits(uint64_t value)
{
	return (unsigned)snprintf(NULL, 0, "%llu", (unsigned long long)value);
}

static const char *print_size(uint64_t bytes, const char *suffix, char *out)
{
	uint64_t binary = bytes, decimal = bytes;
	unsigned binary_power = reduce(&binary, 1024), decimal_power = reduce(&decimal, 1000);
	bool is_decimal = digits(decimal) < digits(binary);

	snprintf(out, UNITS_TEXT_SIZE, "%llu%s%s",
		 (unsigned long long)(is_decimal ? decimal : binary),
		 is_decimal ? decimal_names[decimal_power] : binary_names[binary_power], suffix);
	return out;
}

const char *units_print_size(uint64_t bytes, char *out)
{
	return print_size(bytes, "", out);
}

const char *units_print_rate(uint64_t bytes_per_s, char *out)
{
	return print_size(bytes_per_s, "/s", out);
}

const char *units_print_duration(uint64_t ms, char *out)
{
	static const struct {
		uint64_t ms;
		const char *name;
	} steps[] = {{365 * (uint64_t)86400000, "y"},
		     {86400000, "d"},
		     {3600000, "h"},
		     {60000, "m"},
		     {1000, "s"},
		     {1, "ms"}};
	unsigned i = 0;

	while (ms % steps[i].ms != 0)
		i++;
	if (ms == 0)
		i = 4; /* "0s" */
	snprintf(out, UNITS_TEXT_SIZE, "%llu%s", (unsigned long long)(ms / steps[i].ms),
		 steps[i].name);
	return out;
}

const char *units_human_size(uint64_t bytes, char *out)
{
	double value = (double)bytes;
	unsigned power = 0;

	/* 1000 and more would take a fourth digit. */
	while (value >= 999.5 && power < ARRAY_COUNT(binary_names) - 1) {
		value /= 1024;
		power++;
	}
	if (value >= 999.5)
		snprintf(out, UNITS_TEXT_SIZE, "%.0f %s", value, binary_names[power]);
	else
		snprintf(out, UNITS_TEXT_SIZE, "%.3g %s", value, binary_names[power]);
	return out;
}
