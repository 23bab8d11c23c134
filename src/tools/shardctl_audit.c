/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/shardctl_audit.h"

#include "ctl/ctl_client.h"
#include "tools/report.h"
#include "tools/shardctl_ask.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct audit_options {
	struct shardctl_target target;
	const char *kind;
	int64_t since_sec;
	bool has_since;
};

static int ask(const struct audit_options *options, json_t *request, json_t **answer)
{
	return shardctl_ask(&options->target, NULL, request, shardctl_show_note, NULL, answer);
}

/* ---- list ---- */

static void print_value(const json_t *value)
{
	if (json_is_string(value))
		printf("%s ", json_string_value(value));
	else if (json_is_integer(value))
		printf("%" JSON_INTEGER_FORMAT " ", json_integer_value(value));
}

static void print_entry(const json_t *entry)
{
	static const char *const keys[] = {"number", "time", "kind", "uid", "exe", "what"};

	for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
		print_value(json_object_get(entry, keys[i]));
	printf("%s\n", json_string_value(json_object_get(entry, "result")));
}

static int run_list(const void *ctx, char **args, unsigned count)
{
	const struct audit_options *options = ctx;
	json_t *request = shardctl_request("audit list"), *answer, *entry;
	size_t i;
	int r;

	(void)args;
	(void)count;
	if (options->kind)
		json_object_set_new(request, "kind", json_string(options->kind));
	if (options->has_since)
		json_object_set_new(request, "since", json_integer(options->since_sec));
	r = ask(options, request, &answer);
	if (answer && options->target.is_json)
		report_json(stdout, answer);
	else if (r == EXIT_DONE)
		json_array_foreach(json_object_get(answer, "entries"), i, entry) print_entry(entry);
	json_decref(answer);
	return r;
}

/* ---- verify ---- */

static const struct report_field provider_columns[] = {
	{"entries", "ENTRIES", REPORT_COUNT},
	{"state", "STATE", REPORT_TEXT},
	{"cause", "CAUSE", REPORT_TEXT},
	{0},
};

static int run_verify(const void *ctx, char **args, unsigned count)
{
	const struct audit_options *options = ctx;
	json_t *answer;
	int r = ask(options, shardctl_request("audit verify"), &answer);

	(void)args;
	(void)count;
	if (answer && options->target.is_json)
		report_json(stdout, answer);
	else if (r == EXIT_DONE)
		printf("%" JSON_INTEGER_FORMAT " entries, none is missing or altered\n",
		       json_integer_value(json_object_get(answer, "entries")));
	if (answer && !options->target.is_json)
		report_table(stdout, json_object_get(answer, "providers"), "PROVIDER",
			     provider_columns);
	json_decref(answer);
	return r;
}

/* ---- export ---- */

static int write_page(FILE *file, const json_t *entries, uint64_t *after)
{
	json_t *entry;
	size_t i;

	json_array_foreach(entries, i, entry)
	{
		char *text = json_dumps(entry, JSON_COMPACT);
		int n = text ? fprintf(file, "%s\n", text) : -1;

		ctl_free_text(text);
		if (n < 0)
			return -EIO;
		*after = (uint64_t)json_integer_value(json_object_get(entry, "number"));
	}
	return 0;
}

/* Page by page; *count: entries. */
static int export_to(const struct audit_options *options, FILE *file, uint64_t *count)
{
	uint64_t after = 0;
	size_t got;

	do {
		json_t *request = shardctl_request("audit page"), *answer;
		int r;

		json_object_set_new(request, "after", json_integer((json_int_t)after));
		r = ask(options, request, &answer);
		got = json_array_size(json_object_get(answer, "entries"));
		if (r == EXIT_DONE &&
		    write_page(file, json_object_get(answer, "entries"), &after) < 0) {
			fprintf(stderr, "shardctl: the file cannot be written: %s\n",
				err_sentence(errno));
			r = EXIT_FAILED;
		}
		json_decref(answer);
		if (r != EXIT_DONE)
			return r;
		*count += got;
	} while (got > 0);
	return EXIT_DONE;
}

/* A file gets its name when all of it is there. */
static int run_export(const void *ctx, char **args, unsigned count)
{
	const struct audit_options *options = ctx;
	bool is_stdout = strcmp(args[0], "-") == 0;
	AUTO_STR temporary = mem_printf("%s.new", args[0]);
	FILE *file = is_stdout ? stdout : temporary ? fopen(temporary, "we") : NULL;
	uint64_t entries = 0;
	int r;

	(void)count;
	if (!file) {
		fprintf(stderr, "shardctl: %s: %s\n", args[0], err_sentence(errno));
		return EXIT_FAILED;
	}
	r = export_to(options, file, &entries);
	if (is_stdout)
		return r;
	if (fflush(file) != 0 || fsync(fileno(file)) < 0)
		r = r == EXIT_DONE ? EXIT_FAILED : r;
	fclose(file);
	if (r == EXIT_DONE && rename(temporary, args[0]) < 0)
		r = EXIT_FAILED;
	if (r != EXIT_DONE) {
		unlink(temporary);
		fprintf(stderr, "shardctl: %s: not written\n", args[0]);
	} else if (!options->target.is_json) {
		printf("%" PRIu64 " entries\n", entries);
	}
	return r;
}

/* ---- the command line ---- */

static const struct shardctl_command commands[] = {
	{"list", "[--kind K] [--since TIME]", "who did what, the newest 1000", 0, 0, run_list},
	{"verify", "", "prove it, and compare its end with the providers", 0, 0, run_verify},
	{"export", "FILE", "all of it as JSON lines, with what proves it", 1, 1, run_export},
};

static void print_help(void)
{
	puts("Usage: shardctl [--mount DIR] [--json] audit COMMAND [ARGUMENT]\n"
	     "Who did what to a mounted shardfs.\n\nCommands:");
	shardctl_group_help(&shardctl_audit);
	puts("\nOptions:\n"
	     "  -m, --mount DIR   the mount to talk to\n"
	     "      --config FILE not mounted: answer from the home that FILE names\n"
	     "  -j, --json        one JSON object on standard output\n"
	     "      --kind K      list: entries of that kind alone\n"
	     "      --since TIME  list: from then on; 2026-11-01T12:00:00Z, \"2026-11-01 12:00\"\n"
	     "                    or \"2h ago\"\n"
	     "  -h, --help        this text\n"
	     "\nExit status: as for shardctl.");
}

/* 0 to go on, else 1 + exit status. */
static int parse(int argc, char **argv, struct audit_options *o)
{
	static const struct option longs[] = {
		{"mount", required_argument, NULL, 'm'}, {"json", no_argument, NULL, 'j'},
		{"config", required_argument, NULL, 'F'},
		{"kind", required_argument, NULL, 'K'},  {"since", required_argument, NULL, 'S'},
		{"help", no_argument, NULL, 'h'},        {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "m:jh", longs, NULL)) >= 0) {
		switch (c) {
		case 'm':
			o->target.mount = optarg;
			break;
		case 'j':
			o->target.is_json = true;
			break;
		case 'F':
			o->target.config = optarg;
			break;
		case 'K':
			o->kind = optarg;
			break;
		case 'S':
			o->has_since = true;
			if (clock_parse(optarg, clock_wall().sec, &o->since_sec) == 0)
				break;
			fprintf(stderr,
				"shardctl: --since: %s: no time; like 2026-11-01T12:00:00Z, "
				"\"2026-11-01 12:00\" or \"2h ago\"\n",
				optarg);
			return 1 + EXIT_USAGE;
		case 'h':
			print_help();
			return 1 + EXIT_DONE;
		default:
			fputs("Try 'shardctl audit --help'.\n", stderr);
			return 1 + EXIT_USAGE;
		}
	}
	return 0;
}

static int audit_main(int argc, char **argv)
{
	struct audit_options options = {0};
	int r = parse(argc, argv, &options);

	if (r > 0)
		return r - 1;
	return shardctl_group_run(&shardctl_audit, argv + optind, (unsigned)(argc - optind),
				  &options);
}

const struct shardctl_group shardctl_audit = {"audit", commands, ARRAY_COUNT(commands), audit_main};
