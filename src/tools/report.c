/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/report.h"

#include "util/buf.h"
#include "util/clock.h"
#include "util/mem.h"
#include "util/units.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COLUMNS_MAX  16u
#define BAR_WIDTH    30u
#define TABLE_GAP    2

void report_json(FILE *out, const json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT);

	fprintf(out, "%s\n", text ? text : "{}");
	free(text);
}

void report_escape(struct buf *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '\n')
			buf_printf(out, "\\n");
		else if (c == '\t')
			buf_printf(out, "\\t");
		else if (c == '\\')
			buf_printf(out, "\\\\");
		else if (c < 0x20 || c == 0x7f)
			buf_printf(out, "\\x%02x", c);
		else
			buf_append(out, bytes_of(&c, 1));
	}
}

/* A value as people read it, appended. */
static void print_value(struct buf *out, const json_t *value, enum report_form form)
{
	char text[CLOCK_RFC3339_SIZE];

	if (json_is_string(value))
		report_escape(out, *json_string_value(value) ? json_string_value(value) : "-");
	else if (json_is_boolean(value))
		buf_printf(out, "%s", json_is_true(value) ? "yes" : "no");
	else if (json_is_real(value))
		buf_printf(out, form == REPORT_MS ? "%.1f ms" : "%g", json_real_value(value));
	else if (json_is_integer(value) && form == REPORT_BYTES)
		buf_printf(out, "%s", units_human_size((uint64_t)json_integer_value(value), text));
	else if (json_is_integer(value) && form == REPORT_TIME)
		buf_printf(out, "%s",
			   json_integer_value(value)
				   ? clock_rfc3339((struct wall_time){.sec = json_integer_value(value)},
						   text)
				   : "never");
	else if (json_is_integer(value))
		buf_printf(out, "%" PRId64, (int64_t)json_integer_value(value));
	else
		buf_printf(out, "-");
}

void report_fields(FILE *out, const json_t *object, const struct report_field *fields)
{
	int width = 0;

	for (const struct report_field *f = fields; f->key; f++)
		width = MAX(width, (int)strlen(f->title));
	for (const struct report_field *f = fields; f->key; f++) {
		AUTO(buf) text = BUF_INIT;
		const json_t *value = json_object_get(object, f->key);

		if (!value)
			continue;
		print_value(&text, value, f->form);
		fprintf(out, "%-*s  %s\n", width, f->title, buf_str(&text));
	}
}

static void print_cell(FILE *out, const char *text, int width, bool is_last)
{
	fprintf(out, "%-*s", is_last ? 0 : width + TABLE_GAP, text);
}

void report_table(FILE *out, const json_t *rows, const char *name_title,
		  const struct report_field *columns)
{
	int widths[COLUMNS_MAX] = {(int)strlen(name_title)};
	unsigned count = 0;
	const char *name;
	json_t *row;

	while (columns[count].key && count < COLUMNS_MAX - 1) {
		widths[count + 1] = (int)strlen(columns[count].title);
		count++;
	}
	/* twice over the rows: first the widths, then the cells */
	for (unsigned pass = 0; pass < 2; pass++) {
		if (pass == 1) {
			print_cell(out, name_title, widths[0], count == 0);
			for (unsigned i = 0; i < count; i++)
				print_cell(out, columns[i].title, widths[i + 1], i + 1 == count);
			fputc('\n', out);
		}
		json_object_foreach((json_t *)(uintptr_t)rows, name, row) {
			AUTO(buf) title = BUF_INIT;

			report_escape(&title, name);
			widths[0] = MAX(widths[0], (int)title.len);
			if (pass == 1)
				print_cell(out, buf_str(&title), widths[0], count == 0);
			for (unsigned i = 0; i < count; i++) {
				AUTO(buf) text = BUF_INIT;

				print_value(&text, json_object_get(row, columns[i].key),
					    columns[i].form);
				widths[i + 1] = MAX(widths[i + 1], (int)text.len);
				if (pass == 1)
					print_cell(out, buf_str(&text), widths[i + 1],
						   i + 1 == count);
			}
			if (pass == 1)
				fputc('\n', out);
		}
	}
}

void report_plain(FILE *out, const json_t *object, unsigned indent)
{
	const char *key;
	json_t *value;
	int width = 0;

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
		if (!json_is_object(value))
			width = MAX(width, (int)strlen(key));
	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		AUTO(buf) text = BUF_INIT;

		if (json_is_object(value)) {
			fprintf(out, "%*s%s:\n", (int)indent, "", key);
			report_plain(out, value, indent + 2);
			continue;
		}
		print_value(&text, value, REPORT_TEXT);
		fprintf(out, "%*s%-*s  %s\n", (int)indent, "", width, key, buf_str(&text));
	}
}

void report_progress(FILE *out, unsigned permille, const char *text)
{
	char bar[BAR_WIDTH + 1];
	unsigned full = MIN(permille, 1000u) * BAR_WIDTH / 1000;

	if (!isatty(fileno(out)))
		return;
	memset(bar, '-', BAR_WIDTH);
	memset(bar, '#', full);
	bar[BAR_WIDTH] = 0;
	fprintf(out, "\r\033[K[%s] %3u %%  %s", bar, MIN(permille, 1000u) / 10, text);
	fflush(out);
}

void report_progress_end(FILE *out)
{
	if (!isatty(fileno(out)))
		return;
	fputs("\r\033[K", out);
	fflush(out);
}
