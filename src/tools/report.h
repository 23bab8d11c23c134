/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_REPORT_H
#define SHARDFS_TOOLS_REPORT_H

/*
 * One result as a table for people, as JSON for programs, and as progress on a
 * terminal.
 */

#include "util/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* A column or line: which key of the answer, under which title, how it is written. */
enum report_form { REPORT_TEXT, REPORT_COUNT, REPORT_BYTES, REPORT_TIME, REPORT_MS };

struct report_field {
	const char *key; /* NULL ends a list */
	const char *title;
	enum report_form form;
};

/*
 * Text that may hold names, appended for people: control characters, which could move a terminal's
 * cursor or end a line, become \n, \t or \xNN, and a backslash two.  JSON has the name itself.
 */
void report_escape(struct buf *out, const char *text);
/* The whole answer on one line. */
void report_json(FILE *out, const json_t *answer);
/* "title  value" for each field that the object has. */
void report_fields(FILE *out, const json_t *object, const struct report_field *fields);
/* One row for each member of an object of objects; the first column is the member's name. */
void report_table(FILE *out, const json_t *rows, const char *name_title,
		  const struct report_field *columns);
/* All members, nested ones indented, for verbs without a form of their own. */
void report_plain(FILE *out, const json_t *object, unsigned indent);

/* One line that is written over and over: "[####----]  42 %  text".  Only on a terminal. */
void report_progress(FILE *out, unsigned permille, const char *text);
void report_progress_end(FILE *out); /* clears the line */

#endif
