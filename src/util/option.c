/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One switch for each direction.  A value is parsed and checked as a whole
 * before the target is touched.
 */
#include "util/option.h"

#include "util/mem.h"
#include "util/units.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

static const char *const type_names[] = {
	[OPTION_STRING] = "text",     [OPTION_SIZE] = "size",   [OPTION_DURATION] = "duration",
	[OPTION_RATE] = "rate",       [OPTION_COUNT] = "count", [OPTION_BOOL] = "bool",
	[OPTION_ENUM] = "choice",
};

static void *member_of(const struct option_spec *spec, void *target)
{
	return (char *)target + spec->offset;
}

static const void *const_member_of(const struct option_spec *spec, const void *target)
{
	return (const char *)target + spec->offset;
}

const char *option_key(const struct option_spec *spec, char *out)
{
	static const char *const suffixes[] = {"_bytes_per_s", "_bytes", "_ms", "_count"};
	size_t len = strlen(spec->member);

	for (size_t i = 0; i < ARRAY_COUNT(suffixes); i++) {
		size_t cut = strlen(suffixes[i]);

		if (len > cut && strcmp(spec->member + len - cut, suffixes[i]) == 0) {
			len -= cut;
			break;
		}
	}
	snprintf(out, OPTION_KEY_SIZE, "%.*s", (int)len, spec->member);
	return out;
}

const struct option_spec *option_find(const struct option_spec *table, const char *key)
{
	char name[OPTION_KEY_SIZE];

	for (; table->type != OPTION_END; table++)
		if (strcmp(option_key(table, name), key) == 0)
			return table;
	return NULL;
}

int option_set_defaults(const struct option_spec *table, void *target)
{
	for (const struct option_spec *spec = table; spec->type != OPTION_END; spec++) {
		int r;

		if (spec->default_text == NULL || spec->default_text == OPT_REQUIRED)
			continue;
		r = option_set(spec, target, spec->default_text, NULL);
		assert(r == 0 || r == -ENOMEM); /* the table is ours */
		if (r < 0) {
			option_release(table, target);
			return r;
		}
	}
	return 0;
}

static const char *print_number(enum option_type type, uint64_t value, char *out)
{
	switch (type) {
	case OPTION_SIZE:
		return units_print_size(value, out);
	case OPTION_DURATION:
		return units_print_duration(value, out);
	case OPTION_RATE:
		return units_print_rate(value, out);
	default:
		snprintf(out, UNITS_TEXT_SIZE, "%llu", (unsigned long long)value);
		return out;
	}
}

/* "5MiB .. 5GiB", "one of a, b", "true or false"; nothing for text. */
static int print_allowed(const struct option_spec *spec, struct buf *out)
{
	char lo[UNITS_TEXT_SIZE], hi[UNITS_TEXT_SIZE];
	int r = 0;

	switch (spec->type) {
	case OPTION_STRING:
	case OPTION_END:
		return 0;
	case OPTION_BOOL:
		return buf_printf(out, "true or false");
	case OPTION_ENUM:
		r = buf_printf(out, "one of ");
		for (size_t i = 0; r == 0 && spec->enum_names[i] != NULL; i++)
			r = buf_printf(out, "%s%s", i > 0 ? ", " : "", spec->enum_names[i]);
		return r;
	default:
		return buf_printf(out, "%s .. %s", print_number(spec->type, spec->min, lo),
				  print_number(spec->type, spec->max, hi));
	}
}

static const char *example_of(enum option_type type)
{
	switch (type) {
	case OPTION_SIZE:
		return "a size such as 64MiB, ";
	case OPTION_DURATION:
		return "a duration such as 30s, ";
	case OPTION_RATE:
		return "a rate such as 50mbps or 6MB/s, ";
	case OPTION_COUNT:
		return "a number, ";
	default:
		return "";
	}
}

static int refuse(const struct option_spec *spec, int error, struct buf *why)
{
	if (why == NULL)
		return error;
	/* Out of memory cuts the text short; the error stands. */
	(void)buf_printf(why, "must be %s", error == -EINVAL ? example_of(spec->type) : "");
	(void)print_allowed(spec, why);
	return error;
}

static int parse_bool(const char *text, bool *value)
{
	static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};

	for (size_t i = 0; i < ARRAY_COUNT(yes); i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*value = strcmp(text, yes[i]) == 0;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_number(const struct option_spec *spec, const char *text, uint64_t *value)
{
	uint64_t v = 0;
	int r;

	switch (spec->type) {
	case OPTION_SIZE:
		r = units_parse_size(text, &v);
		break;
	case OPTION_DURATION:
		r = units_parse_duration(text, &v);
		break;
	case OPTION_RATE:
		r = units_parse_rate(text, &v);
		break;
	default:
		r = units_parse_count(text, &v);
	}
	if (r == 0 && (v < spec->min || v > spec->max))
		r = -ERANGE;
	if (r == 0)
		*value = v;
	return r;
}

static int set_string(char **member, const char *text)
{
	char *copy = mem_strdup(text);

	if (copy == NULL)
		return -ENOMEM;
	mem_free(*member);
	*member = copy;
	return 0;
}

static int set_enum(const struct option_spec *spec, int *member, const char *text)
{
	for (int i = 0; spec->enum_names[i] != NULL; i++) {
		if (strcmp(spec->enum_names[i], text) == 0) {
			*member = i;
			return 0;
		}
	}
	return -EINVAL;
}

int option_set(const struct option_spec *spec, void *target, const char *text, struct buf *why)
{
	void *member = member_of(spec, target);
	int r = -EINVAL;

	switch (spec->type) {
	case OPTION_STRING:
		return set_string(member, text);
	case OPTION_BOOL:
		r = parse_bool(text, member);
		break;
	case OPTION_ENUM:
		r = set_enum(spec, member, text);
		break;
	case OPTION_SIZE:
	case OPTION_DURATION:
	case OPTION_RATE:
	case OPTION_COUNT:
		r = parse_number(spec, text, member);
		break;
	case OPTION_END:
		assert(!"the end of a table is no option");
		return -EINVAL;
	}
	return r < 0 ? refuse(spec, r, why) : 0;
}

int option_print(const struct option_spec *spec, const void *target, struct buf *out)
{
	const void *member = const_member_of(spec, target);
	char text[UNITS_TEXT_SIZE];
	const char *s;

	switch (spec->type) {
	case OPTION_STRING:
		s = *(char *const *)member;
		return s != NULL ? buf_append(out, bytes_of_str(s)) : 0;
	case OPTION_BOOL:
		return buf_printf(out, "%s", *(const bool *)member ? "true" : "false");
	case OPTION_ENUM:
		return buf_printf(out, "%s", spec->enum_names[*(const int *)member]);
	case OPTION_END:
		return 0;
	default:
		return buf_printf(out, "%s",
				  print_number(spec->type, *(const uint64_t *)member, text));
	}
}

static int describe(const struct option_spec *spec, struct buf *out)
{
	char key[OPTION_KEY_SIZE];
	int r = buf_printf(out, "%s: %s", option_key(spec, key), type_names[spec->type]);

	if (r == 0 && spec->default_text == OPT_REQUIRED)
		r = buf_printf(out, ", required");
	else if (r == 0 && spec->default_text != NULL)
		r = buf_printf(out, ", default %s", spec->default_text);
	if (r == 0 && spec->type != OPTION_STRING && spec->type != OPTION_BOOL) {
		r = buf_printf(out, ", ");
		if (r == 0)
			r = print_allowed(spec, out);
	}
	return r == 0 ? buf_printf(out, "; %s", spec->help) : r;
}

int option_describe(const struct option_spec *spec, struct buf *out)
{
	size_t before = out->len;
	int r = describe(spec, out);

	if (r < 0)
		out->len = before;
	return r;
}

void option_release(const struct option_spec *table, void *target)
{
	for (; table->type != OPTION_END; table++) {
		if (table->type == OPTION_STRING) {
			char **member = member_of(table, target);

			mem_free(*member);
			*member = NULL;
		}
	}
}
