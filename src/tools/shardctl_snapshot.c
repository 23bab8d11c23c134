/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/shardctl_snapshot.h"

#include "ctl/ctl_client.h"
#include "tools/report.h"
#include "tools/shardctl_ask.h"
#include "util/err.h"
#include "util/mem.h"
#include "util/units.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEEP_OPTION 256 /* of getopt: the first of them */
#define KEEP_MAX    1000000u

/* --keep-last and so on; the keys of the request. */
enum keep { KEEP_LAST, KEEP_HOURLY, KEEP_DAILY, KEEP_WEEKLY, KEEP_MONTHLY, KEEP_YEARLY, KEEP_COUNT };
static const char *const keep_keys[KEEP_COUNT] = {"last",   "hourly",  "daily",
						  "weekly", "monthly", "yearly"};

struct snapshot_options {
	struct shardctl_target target;
	bool is_dry_run;
	uint64_t keep[KEEP_COUNT];
};

/* ---- asking ---- */

static json_t *request_of(const char *verb, const char *name)
{
	json_t *request = shardctl_request(verb);

	if (name)
		json_object_set_new(request, "name", json_string(name));
	return request;
}

/* Takes the request.  print (NULL: nothing) shows an answer to people.  The exit status. */
static int ask(const struct snapshot_options *options, const char *path, json_t *request,
	       void (*print)(const json_t *answer))
{
	json_t *answer;
	int code = shardctl_ask(&options->target, path, request, shardctl_show_note, NULL, &answer);

	if (answer && options->target.is_json)
		report_json(stdout, answer);
	else if (answer && print && (code == EXIT_DONE || code == EXIT_PARTIAL))
		print(answer);
	json_decref(answer);
	return code;
}

/* ---- commands ---- */

static void print_snapshots(const json_t *answer)
{
	static const struct report_field columns[] = {
		{"created", "CREATED", REPORT_TEXT},
		{"files", "FILES", REPORT_COUNT},
		{"bytes", "BYTES", REPORT_BYTES},
		{0},
	};

	report_table(stdout, json_object_get(answer, "snapshots"), "SNAPSHOT", columns);
}

static int run_create(const void *options, char **args, unsigned count)
{
	return ask(options, count > 1 ? args[1] : NULL, request_of("snapshot create", args[0]),
		   print_snapshots);
}

static int run_list(const void *options, char **args, unsigned count)
{
	(void)args;
	(void)count;
	return ask(options, NULL, request_of("snapshot list", NULL), print_snapshots);
}

static int run_delete(const void *options, char **args, unsigned count)
{
	(void)count;
	return ask(options, NULL, request_of("snapshot delete", args[0]), NULL);
}

static void print_diff(const json_t *answer)
{
	json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(answer, "entries"), i, entry) {
		static const char *const words[] = {"added",	  "removed", "modified",
						    "attributes", "renamed"};
		const char *change = json_string_value(json_object_get(entry, "change"));
		const char *from = json_string_value(json_object_get(entry, "from"));
		const char *path = json_string_value(json_object_get(entry, "path"));
		AUTO(buf) line = BUF_INIT;
		const char *slash = json_object_get(entry, "directory") ? "/" : "";
		char mark = '?';

		for (size_t w = 0; change && w < ARRAY_COUNT(words); w++)
			if (strcmp(change, words[w]) == 0)
				mark = "+-MAR"[w];
		if (from) {
			report_escape(&line, from);
			buf_printf(&line, "%s -> ", slash);
		}
		report_escape(&line, path ? path : "?");
		printf("%c  %s%s\n", mark, buf_str(&line), slash);
	}
}

/* NAME [NAME2] [PATH]: what has a slash in it, or is a dot, is a path. */
static int run_diff(const void *options, char **args, unsigned count)
{
	json_t *request = request_of("snapshot diff", args[0]);
	const char *path = NULL, *to = NULL;

	for (unsigned i = 1; i < count; i++) {
		bool is_path = strchr(args[i], '/') || strcmp(args[i], ".") == 0;

		if ((is_path ? path : to) || (!is_path && path)) {
			json_decref(request);
			fputs("shardctl: usage: shardctl snapshot diff NAME [NAME2] [PATH]\n"
			      "A PATH has a slash in it, or is a dot.\n", stderr);
			return EXIT_USAGE;
		}
		if (is_path)
			path = args[i];
		else
			to = args[i];
	}
	if (to)
		json_object_set_new(request, "to", json_string(to));
	if (path)
		json_object_set_new(request, "part", json_true());
	return ask(options, path, request, print_diff);
}

static void print_names(const json_t *answer, const char *key, const char *word)
{
	json_t *name;
	size_t i;

	json_array_foreach(json_object_get(answer, key), i, name) {
		AUTO(buf) text = BUF_INIT;

		report_escape(&text, json_string_value(name));
		printf("%s  %s\n", word, buf_str(&text));
	}
}

static void print_pruned(const json_t *answer)
{
	print_names(answer, "kept", "keep  ");
	print_names(answer, "deleted", "delete");
}

static int run_prune(const void *ctx, char **args, unsigned count)
{
	const struct snapshot_options *options = ctx;
	json_t *request = request_of(options->is_dry_run ? "snapshot prune plan" : "snapshot prune",
				     NULL);

	for (unsigned k = 0; k < KEEP_COUNT; k++)
		json_object_set_new(request, keep_keys[k],
				    json_integer((json_int_t)options->keep[k]));
	if (count > 0)
		json_object_set_new(request, "prefix", json_string(args[0]));
	return ask(options, NULL, request, print_pruned);
}

/* ---- the command line ---- */

static const struct shardctl_command commands[] = {
	{"create", "NAME [PATH]", "keep the tree at PATH as it is now", 1, 2, run_create},
	{"list", "", "the snapshots that there are", 0, 0, run_list},
	{"diff", "NAME [NAME2] [PATH]", "what changed since NAME, now or in NAME2", 1, 3, run_diff},
	{"prune", "--keep-daily N... [--dry-run] [PREFIX]", "delete those that no rule keeps", 0, 1,
	 run_prune},
	{"delete", "NAME", "give back what only that snapshot holds", 1, 1, run_delete},
};

static void print_help(void)
{
	puts("Usage: shardctl [--mount DIR] [--json] snapshot COMMAND [ARGUMENT]...\n"
	     "Trees as they were: read-only, under .shardfs/snapshots at the root of the mount.\n\n"
	     "Commands:");
	shardctl_group_help(&shardctl_snapshot);
	puts("\nOptions:\n"
	     "  -m, --mount DIR   the mount to talk to\n"
	     "      --config FILE list: not mounted, answer from the home that FILE names\n"
	     "  -j, --json        one JSON object on standard output\n"
	     "      --keep-last N, --keep-hourly N, --keep-daily N, --keep-weekly N,\n"
	     "      --keep-monthly N, --keep-yearly N\n"
	     "                    prune: keep so many; at least one of them is needed\n"
	     "  -d, --dry-run     prune: say what would go; change nothing\n"
	     "  -h, --help        this text\n"
	     "\nExit status: as for shardctl.");
}

/* 0 to go on, else 1 + exit status. */
static int parse(int argc, char **argv, struct snapshot_options *o)
{
	static const struct option longs[] = {
		{"mount", required_argument, NULL, 'm'},
		{"config", required_argument, NULL, 'F'},
		{"json", no_argument, NULL, 'j'},
		{"dry-run", no_argument, NULL, 'd'},
		{"keep-last", required_argument, NULL, KEEP_OPTION + KEEP_LAST},
		{"keep-hourly", required_argument, NULL, KEEP_OPTION + KEEP_HOURLY},
		{"keep-daily", required_argument, NULL, KEEP_OPTION + KEEP_DAILY},
		{"keep-weekly", required_argument, NULL, KEEP_OPTION + KEEP_WEEKLY},
		{"keep-monthly", required_argument, NULL, KEEP_OPTION + KEEP_MONTHLY},
		{"keep-yearly", required_argument, NULL, KEEP_OPTION + KEEP_YEARLY},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "m:jdh", longs, NULL)) >= 0) {
		if (c >= KEEP_OPTION && c < KEEP_OPTION + KEEP_COUNT) {
			unsigned k = (unsigned)c - KEEP_OPTION;

			if (units_parse_count(optarg, &o->keep[k]) == 0 && o->keep[k] <= KEEP_MAX)
				continue;
			fprintf(stderr, "shardctl: --keep-%s: %s: must be 0 to %u\n", keep_keys[k],
				optarg, KEEP_MAX);
			return 1 + EXIT_USAGE;
		}
		switch (c) {
		case 'd':
			o->is_dry_run = true;
			break;
		case 'F':
			o->target.config = optarg;
			break;
		case 'm':
			o->target.mount = optarg;
			break;
		case 'j':
			o->target.is_json = true;
			break;
		case 'h':
			print_help();
			return 1 + EXIT_DONE;
		default:
			fputs("Try 'shardctl snapshot --help'.\n", stderr);
			return 1 + EXIT_USAGE;
		}
	}
	return 0;
}

static int snapshot_main(int argc, char **argv)
{
	struct snapshot_options options = {0};
	int r = parse(argc, argv, &options);

	if (r > 0)
		return r - 1;
	return shardctl_group_run(&shardctl_snapshot, argv + optind, (unsigned)(argc - optind),
				  &options);
}

const struct shardctl_group shardctl_snapshot = {"snapshot", commands, ARRAY_COUNT(commands),
						 snapshot_main};
