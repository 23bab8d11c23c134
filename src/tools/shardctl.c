/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shardctl: the admin tool of a mounted shardfs.  A command is a row in the
 * table: words, arguments, verb of the control channel, form of the report.
 */
#include "ctl/ctl_client.h"
#include "tools/report.h"
#include "tools/shardctl_ask.h"
#include "tools/shardctl_audit.h"
#include "tools/shardctl_clone.h"
#include "tools/shardctl_key.h"
#include "tools/shardctl_lock.h"
#include "tools/shardctl_snapshot.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"
#include "util/units.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct options {
	struct shardctl_target target;
	uint64_t copies;
	uint64_t timeout_ms; /* 0: none */
	bool is_dry_run;
	bool is_deep, is_cheap, with_orphans;
	const char *provider;
	const char *until;
	bool is_recursive;
	struct clone_place place; /* clone: made of the second argument */
};

struct command {
	const char *words[3];
	const char *args;  /* for people: "PATH [POLICY]" */
	unsigned args_min, args_max;
	bool takes_path;   /* the first argument is the object */
	const char *help;
	const char *verb;  /* of the control channel; NULL: lock, which needs none */
	void (*fill)(json_t *request, char **args, unsigned count, const struct options *options);
	void (*report)(FILE *out, const json_t *answer);
	bool shows_progress;
};

/* ---- reports ---- */

static const struct report_field protection_fields[] = {
	{"status", "status", REPORT_TEXT},
	{"copies_have", "copies of the worst shard", REPORT_COUNT},
	{"copies_want", "copies wanted", REPORT_COUNT},
	{"integrity", "integrity", REPORT_TEXT},
	{"files", "files", REPORT_COUNT},
	{"directories", "directories", REPORT_COUNT},
	{"bytes", "bytes", REPORT_BYTES},
	{"stored_bytes", "stored for each copy", REPORT_BYTES},
	{"chunks", "chunks", REPORT_COUNT},
	{"shards", "shards", REPORT_COUNT},
	{"policy", "policy", REPORT_TEXT},
	{"lock_until", "locked until", REPORT_TEXT},
	{0},
};

static const struct report_field space_fields[] = {
	{"spool_bytes", "in the spool", REPORT_BYTES},
	{"dirty_bytes", "in memory, not stored yet", REPORT_BYTES},
	{"free_bytes", "room left", REPORT_BYTES},
	{0},
};

static const struct report_field reclaim_fields[] = {
	{"held_bytes", "unneeded, held until it may go", REPORT_BYTES},
	{"blocked_bytes", "unneeded, not deleted", REPORT_BYTES},
	{"blocked_seconds", "since (seconds)", REPORT_COUNT},
	{"blocked_by", "because of", REPORT_TEXT},
	{0},
};

static const struct report_field cleanup_fields[] = {
	{"deleted_shards", "shards deleted", REPORT_COUNT},
	{"deleted_bytes", "bytes deleted for each copy", REPORT_BYTES},
	{"condemned_shards", "shards condemned", REPORT_COUNT},
	{"moved_chunks", "chunks moved out of sparse shards", REPORT_COUNT},
	{"deleted_chunks", "chunks that nothing refers to", REPORT_COUNT},
	{"held_shards", "shards held", REPORT_COUNT},
	{"held_until", "the first until", REPORT_TEXT},
	{"candidate_count", "shards left to reclaim", REPORT_COUNT},
	{"reclaimable", "bytes left to reclaim", REPORT_BYTES},
	{"blocked_by", "blocked by", REPORT_TEXT},
	{0},
};

static const struct report_field candidate_columns[] = {
	{"reason", "REASON", REPORT_TEXT},
	{"eligible_at", "ELIGIBLE", REPORT_TEXT},
	{"bytes", "BYTES", REPORT_BYTES},
	{0},
};

static const struct report_field provider_columns[] = {
	{"type", "TYPE", REPORT_TEXT},	      {"role", "ROLE", REPORT_TEXT},
	{"region", "REGION", REPORT_TEXT},    {"state", "STATE", REPORT_TEXT},
	{"objects", "OBJECTS", REPORT_COUNT}, {"bytes", "BYTES", REPORT_BYTES},
	{"queued_copies", "QUEUED", REPORT_COUNT}, {"cause", "CAUSE", REPORT_TEXT},
	{0},
};

static const struct report_field scrub_fields[] = {
	{"listed", "objects listed", REPORT_COUNT},
	{"checked", "copies checked", REPORT_COUNT},
	{"bytes_read", "bytes read back", REPORT_BYTES},
	{"verified_ok", "copies as they should be", REPORT_COUNT},
	{"missing", "copies missing", REPORT_COUNT},
	{"truncated", "copies truncated", REPORT_COUNT},
	{"corrupt", "copies corrupt", REPORT_COUNT},
	{"swapped", "copies swapped", REPORT_COUNT},
	{"unreadable", "copies unreadable", REPORT_COUNT},
	{"index_objects", "index objects checked", REPORT_COUNT},
	{"index_bad", "index objects not right", REPORT_COUNT},
	{"repaired", "repaired", REPORT_COUNT},
	{"unrepaired", "not repaired", REPORT_COUNT},
	{"unknown", "without answer", REPORT_COUNT},
	{"orphans", "orphans", REPORT_COUNT},
	{"foreign", "foreign files", REPORT_COUNT},
	{"lost", "shards lost", REPORT_COUNT},
	{"lost_files", "files with lost parts", REPORT_COUNT},
	{0},
};

static const struct report_field orphan_fields[] = {
	{"count", "orphans at providers", REPORT_COUNT},
	{"bytes", "bytes of orphans", REPORT_BYTES},
	{"deletable", "orphans that may be deleted", REPORT_COUNT},
	{"deleted", "orphans deleted", REPORT_COUNT},
	{"foreign", "foreign files, never touched", REPORT_COUNT},
	{"incomplete", "not listed", REPORT_TEXT},
	{0},
};

static const struct report_field clone_fields[] = {
	{"files", "files", REPORT_COUNT},
	{"directories", "directories", REPORT_COUNT},
	{"others", "links and special files", REPORT_COUNT},
	{"links", "further names of files", REPORT_COUNT},
	{"bytes", "bytes, none of them moved", REPORT_BYTES},
	{0},
};

static void report_list(FILE *out, const json_t *list, const char *const *keys, size_t key_count)
{
	json_t *one;
	size_t i;

	json_array_foreach(list, i, one) {
		for (size_t k = 0; k < key_count; k++) {
			json_t *value = json_object_get(one, keys[k]);

			if (json_is_string(value))
				fprintf(out, "%s%s", k ? " " : "", json_string_value(value));
			else if (json_is_true(value))
				fprintf(out, " %s", keys[k]);
		}
		fputc('\n', out);
	}
}

static void report_scrub(FILE *out, const json_t *answer)
{
	static const char *const finding_keys[] = {"provider", "key", "finding", "repaired"};
	static const char *const orphan_keys[] = {"object", "provider", "key", "kept_because"};
	json_t *path;
	size_t i;

	report_fields(out, answer, scrub_fields);
	report_list(out, json_object_get(answer, "findings"), finding_keys,
		    ARRAY_COUNT(finding_keys));
	report_list(out, json_object_get(answer, "orphan_objects"), orphan_keys,
		    ARRAY_COUNT(orphan_keys));
	json_array_foreach(json_object_get(answer, "lost_paths"), i, path)
		fprintf(out, "lost %s\n", json_string_value(path));
}

static void report_protection(FILE *out, const json_t *answer)
{
	report_fields(out, answer, protection_fields);
}

static void report_providers(FILE *out, const json_t *answer)
{
	report_table(out, json_object_get(answer, "providers"), "PROVIDER", provider_columns);
}

static void report_status(FILE *out, const json_t *answer)
{
	report_fields(out, answer, protection_fields);
	report_fields(out, answer, space_fields);
	report_fields(out, json_object_get(answer, "reclaim"), reclaim_fields);
	fputc('\n', out);
	report_providers(out, answer);
}

static void report_cleanup(FILE *out, const json_t *answer)
{
	static const char *const orphan_keys[] = {"object", "provider", "key", "kept_because",
						  "deleted"};
	const json_t *orphans = json_object_get(answer, "orphans");

	report_fields(out, answer, cleanup_fields);
	if (orphans) {
		report_fields(out, orphans, orphan_fields);
		report_list(out, json_object_get(orphans, "objects"), orphan_keys,
			    ARRAY_COUNT(orphan_keys));
	}
	if (json_object_size(json_object_get(answer, "candidates")) == 0)
		return;
	fputc('\n', out);
	report_table(out, json_object_get(answer, "candidates"), "SHARD", candidate_columns);
}

static void report_all(FILE *out, const json_t *answer)
{
	static const char *const common[] = {"schema", "time", "fs", "generation", "epoch", "ok"};
	json_t *copy = json_copy((json_t *)(uintptr_t)answer);

	for (size_t i = 0; i < ARRAY_COUNT(common); i++)
		json_object_del(copy, common[i]);
	report_plain(out, copy, 0);
	json_decref(copy);
}

static void report_clone(FILE *out, const json_t *answer)
{
	report_fields(out, answer, clone_fields);
}

static void report_nothing(FILE *out, const json_t *answer)
{
	(void)out;
	(void)answer;
}

/* ---- requests ---- */

static void fill_wait(json_t *request, char **args, unsigned count, const struct options *options)
{
	(void)args;
	(void)count;
	if (options->copies)
		json_object_set_new(request, "copies", json_integer((json_int_t)options->copies));
}

static void fill_policy_set(json_t *request, char **args, unsigned count,
			    const struct options *options)
{
	(void)options;
	json_object_set_new(request, "policy", count > 1 ? json_string(args[1]) : json_null());
}

static void fill_cleanup(json_t *request, char **args, unsigned count,
			 const struct options *options)
{
	(void)args;
	(void)count;
	if (options->is_dry_run)
		json_object_set_new(request, "verb", json_string("cleanup plan"));
	if (options->with_orphans)
		json_object_set_new(request, "orphans", json_true());
}

static void fill_scrub(json_t *request, char **args, unsigned count, const struct options *options)
{
	(void)args;
	json_object_set_new(request, "deep", json_boolean(options->is_deep));
	json_object_set_new(request, "part", json_boolean(count > 0));
	if (options->provider)
		json_object_set_new(request, "provider", json_string(options->provider));
}

static void fill_clone(json_t *request, char **args, unsigned count, const struct options *options)
{
	(void)args;
	(void)count;
	json_object_set_new(request, "parent", json_integer((json_int_t)options->place.parent));
	json_object_set_new(request, "name", json_string(options->place.name_hex));
}

static const struct command commands[] = {
	{{"status"}, "", 0, 0, false, "protection of everything, providers, space", "status", NULL,
	 report_status, false},
	{{"stat"}, "PATH", 1, 1, true, "protection of a file or tree", "stat", NULL,
	 report_protection, false},
	{{"wait"}, "[--copies N] [--timeout TIME] PATH", 1, 1, true,
	 "return when all copies of PATH are there", "wait", fill_wait, report_protection, true},
	{{"sync"}, "[PATH]", 0, 1, true, "make PATH, or everything, durable on this machine", "sync",
	 NULL, report_nothing, false},
	{{"provider", "list"}, "", 0, 0, false, "providers and their state", "provider list", NULL,
	 report_providers, false},
	{{"policy"}, "PATH", 1, 1, true, "policy in force for PATH", "policy", NULL, report_all,
	 false},
	{{"policy", "set"}, "PATH POLICY", 2, 2, true, "set the policy of a directory",
	 "policy set", fill_policy_set, report_all, false},
	{{"policy", "unset"}, "PATH", 1, 1, true, "remove the policy of a directory", "policy set",
	 fill_policy_set, report_all, false},
	{{"clone"}, "SRC DST", 2, 2, true, "a writable copy that shares all chunks", "clone",
	 fill_clone, report_clone, true},
	{{"lock"}, "[--until DATE [-R]] PATH", 1, 1, true,
	 "let nobody change PATH before that date", NULL, NULL, NULL, true},
	{{"config", "show"}, "", 0, 0, false, "settings in force", "config show", NULL, report_all,
	 false},
	{{"cleanup", "run"}, "[--dry-run] [--orphans]", 0, 0, false,
	 "delete what nothing needs any more", "cleanup run", fill_cleanup, report_cleanup, true},
	{{"scrub"}, "[--deep | --cheap] [--provider NAME] [PATH]", 0, 1, true,
	 "compare what providers hold with the index", "scrub", fill_scrub, report_scrub, true},
	{{"scrub", "status"}, "", 0, 0, false, "how much was read back, and when", "scrub status",
	 NULL, report_all, false},
	{{"counters"}, "", 0, 0, false, "counters and times since the mount", "counters", NULL,
	 report_all, false},
};

static const struct shardctl_group *const groups[] = {&shardctl_audit, &shardctl_snapshot,
						       &shardctl_key};

/* ---- arguments ---- */

static void print_help(void)
{
	puts("Usage: shardctl [--mount DIR] [--json] COMMAND [ARGUMENT]...\n"
	     "Ask and steer a mounted shardfs.  The mount is that of PATH, else --mount, else\n"
	     "$SHARDFS_MOUNT, else the only one there is; else, for questions, the home of the\n"
	     "configuration that $SHARDFS_CONFIG names.\n\nCommands:");
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		const struct command *c = &commands[i];
		AUTO(buf) line = BUF_INIT;

		buf_printf(&line, "%s%s%s %s", c->words[0], c->words[1] ? " " : "",
			   c->words[1] ? c->words[1] : "", c->args);
		shardctl_help_line(buf_str(&line), c->help);
	}
	for (size_t i = 0; i < ARRAY_COUNT(groups); i++)
		shardctl_group_help(groups[i]);
	puts("\nOptions:\n"
	     "  -m, --mount DIR      the mount to talk to\n"
	     "      --config FILE    not mounted: answer from the home that FILE names; PATH is from the\n"
	     "                       root of the file system then\n"
	     "  -j, --json           one JSON object on standard output\n"
	     "  -n, --copies N       wait: for N copies instead of what the policy asks\n"
	     "  -t, --timeout TIME   wait: give up after TIME (\"90s\", \"10m\"); exit status 4\n"
	     "  -d, --dry-run        cleanup run: say what would go, and when; change nothing\n"
	     "      --orphans        cleanup run: objects that nobody knows, too\n"
	     "      --deep           scrub: read every copy back and authenticate it\n"
	     "      --cheap          scrub: compare names and sizes alone (the default)\n"
	     "      --provider NAME  scrub: that provider alone\n"
	     "  -u, --until DATE     lock: 2030-01-31, or RFC 3339; without it the lock is told\n"
	     "  -R, --recursive      lock: everything below, too\n"
	     "  -h, --help           this text\n"
	     "  -V, --version        version\n"
	     "\nExit status: 0 done or healthy; 1 data lost or the action failed; 2 usage;\n"
	     "3 state unknown; 4 finding; 5 refused; 6 partial; 7 not allowed.  See shardctl(8).");
}

static const struct command *find_command(char **words, unsigned count, unsigned *used)
{
	const struct command *best = NULL;

	*used = 0;
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		const struct command *c = &commands[i];
		unsigned n = 0;

		while (n < 2 && c->words[n] && n < count && strcmp(words[n], c->words[n]) == 0)
			n++;
		if (c->words[n] == NULL && n > *used) {
			best = c;
			*used = n;
		}
	}
	return best;
}

/* 0 to go on, else 1 + exit status. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {
		{"mount", required_argument, NULL, 'm'}, {"json", no_argument, NULL, 'j'},
		{"copies", required_argument, NULL, 'n'}, {"timeout", required_argument, NULL, 't'},
		{"dry-run", no_argument, NULL, 'd'},
		{"orphans", no_argument, NULL, 'O'}, {"deep", no_argument, NULL, 'D'},
		{"config", required_argument, NULL, 'F'},
		{"cheap", no_argument, NULL, 'C'}, {"provider", required_argument, NULL, 'P'},
		{"until", required_argument, NULL, 'u'}, {"recursive", no_argument, NULL, 'R'},
		{"help", no_argument, NULL, 'h'},	 {"version", no_argument, NULL, 'V'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "m:jn:t:du:RhV", longs, NULL)) >= 0) {
		switch (c) {
		case 'm':
			options->target.mount = optarg;
			break;
		case 'F':
			options->target.config = optarg;
			break;
		case 'j':
			options->target.is_json = true;
			break;
		case 'n':
			if (units_parse_count(optarg, &options->copies) < 0 ||
			    options->copies < 1 || options->copies > 16) {
				fprintf(stderr, "shardctl: --copies: %s: must be 1 to 16\n", optarg);
				return 1 + EXIT_USAGE;
			}
			break;
		case 't':
			if (units_parse_duration(optarg, &options->timeout_ms) < 0) {
				fprintf(stderr, "shardctl: --timeout: %s: must be a time such as 90s\n",
					optarg);
				return 1 + EXIT_USAGE;
			}
			break;
		case 'd':
			options->is_dry_run = true;
			break;
		case 'O':
			options->with_orphans = true;
			break;
		case 'D':
			options->is_deep = true;
			break;
		case 'C':
			options->is_cheap = true;
			break;
		case 'P':
			options->provider = optarg;
			break;
		case 'u':
			options->until = optarg;
			break;
		case 'R':
			options->is_recursive = true;
			break;
		case 'h':
			print_help();
			return 1 + EXIT_DONE;
		case 'V':
			puts("shardctl " PACKAGE_VERSION);
			return 1 + EXIT_DONE;
		default:
			fputs("Try 'shardctl --help'.\n", stderr);
			return 1 + EXIT_USAGE;
		}
	}
	if (options->is_deep && options->is_cheap) {
		fputs("shardctl: --deep or --cheap, not both\n", stderr);
		return 1 + EXIT_USAGE;
	}
	return 0;
}

/* ---- running ---- */

struct watch {
	uint64_t until_ms, first_queued;
};

static uint64_t queued_bytes(const json_t *state)
{
	json_t *providers = json_object_get(state, "providers"), *provider;
	const char *name;
	uint64_t sum = 0;

	json_object_foreach(providers, name, provider)
		sum += (uint64_t)json_integer_value(json_object_get(provider, "queued_bytes"));
	return sum;
}

static bool watch_progress(void *ctx, const json_t *state)
{
	struct watch *watch = ctx;
	char text[128], size[UNITS_TEXT_SIZE];
	uint64_t queued;

	if (watch->until_ms && clock_mono_ms() >= watch->until_ms)
		return false;
	if (!state || json_object_get(state, "note") || shardctl_is_interrupted())
		return shardctl_show_note(NULL, state);
	queued = queued_bytes(state);
	watch->first_queued = MAX(watch->first_queued, queued);
	snprintf(text, sizeof(text), "%s, %" PRId64 " of %" PRId64 " copies, %s to go",
		 json_string_value(json_object_get(state, "status")),
		 (int64_t)json_integer_value(json_object_get(state, "copies_have")),
		 (int64_t)json_integer_value(json_object_get(state, "copies_want")),
		 units_human_size(queued, size));
	report_progress(stderr,
			watch->first_queued
				? (unsigned)(1000 - queued * 1000 / watch->first_queued)
				: 0,
			text);
	return true;
}

static int run_command(const struct command *command, char **args, unsigned count,
		       const struct options *options)
{
	const char *path = command->takes_path && count > 0 ? args[0] : NULL;
	json_t *request = shardctl_request(command->verb), *answer;
	struct watch watch = {0};
	int code;

	if (command->fill)
		command->fill(request, args, count, options);
	if (options->timeout_ms)
		watch.until_ms = clock_mono_ms() + options->timeout_ms;
	code = shardctl_ask(&options->target, path, request, watch_progress, &watch, &answer);
	if (!answer)
		return code;
	if (options->target.is_json)
		report_json(stdout, answer);
	/* what a scrub found is worth reading also when it is bad */
	if (!options->target.is_json && (command->report == report_scrub ||
				  !json_is_false(json_object_get(answer, "ok"))))
		command->report(stdout, answer);
	json_decref(answer);
	return code;
}

int main(int argc, char **argv)
{
	const struct shardctl_group *group = shardctl_group_of(groups, ARRAY_COUNT(groups), argc, argv);
	struct options options = {0};
	const struct command *command;
	unsigned used, count;
	int r;

	if (group)
		return group->main(argc, argv);
	r = parse_options(argc, argv, &options);
	if (r > 0)
		return r - 1;
	count = (unsigned)(argc - optind);
	command = find_command(argv + optind, count, &used);
	if (!command) {
		fprintf(stderr, "shardctl: %s%s\nTry 'shardctl --help'.\n",
			count ? argv[optind] : "", count ? ": unknown command" : "a command is needed");
		return EXIT_USAGE;
	}
	count -= used;
	if (count < command->args_min || count > command->args_max) {
		fprintf(stderr, "shardctl: usage: shardctl %s%s%s %s\n", command->words[0],
			command->words[1] ? " " : "", command->words[1] ? command->words[1] : "",
			command->args);
		return EXIT_USAGE;
	}
	shardctl_catch_interrupt();
	if (!command->verb) {
		struct lock_wish wish = {
			.path = argv[optind + (int)used],
			.until = options.until,
			.is_recursive = options.is_recursive,
			.is_json = options.target.is_json,
		};

		r = shardctl_lock(&wish);
	} else {
		if (command->fill == fill_clone) {
			r = shardctl_clone_place(argv[optind + (int)used],
						 argv[optind + (int)used + 1], &options.place);
			if (r != 0)
				return r;
		}
		r = run_command(command, argv + optind + used, count, &options);
	}
	return fflush(stdout) == 0 ? r : EXIT_FAILED;
}
