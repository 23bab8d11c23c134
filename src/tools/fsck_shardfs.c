/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck.shardfs: offline proof and repair.
 *
 * Without -n and -y it opens the file system as every mount does (replay, recovery
 * of the spool), which is the only repair that is safe without being asked, and
 * proves what it then is.  With -n it looks at copies and changes nothing at all.
 * With -y it looks, repairs, and looks again.
 */
#include "config/config.h"
#include "crypto/crypto.h"
#include "store/fsck.h"
#include "store/store.h"
#include "tools/report.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* As fsck(8) has them. */
enum fsck_exit { FSCK_CLEAN = 0, FSCK_REPAIRED = 1, FSCK_LEFT = 4, FSCK_FAILED = 8, FSCK_USAGE = 16 };

#define FINDINGS_SHOWN_MAX 1000u
#define LOCK_QUIET_MS      2000u
#define LOCK_WAIT_MS       30000u

static const char usage_text[] =
	"Usage: fsck.shardfs [OPTION]... CONFIG\n"
	"Prove that an unmounted file system is sound: the index, every reference in it, and\n"
	"the spool.  Replays the journal and recovers the spool first, as a mount would.\n"
	"\n"
	"  -n, --check      change nothing at all; look at a copy of the index\n"
	"  -y, --repair     repair what can be repaired, name the rest\n"
	"  -d, --deep       also authenticate every record in the spool, and with --providers\n"
	"                   read and authenticate what they hold\n"
	"  -P, --providers  with -n or -y: compare what providers hold\n"
	"  -j, --json       one JSON object on standard output\n"
	"      --kinds      list the kinds of damage that -n tells apart\n"
	"  -a, -p           accepted for fsck(8)\n"
	"  -h, --help       this text\n"
	"  -V, --version    version\n"
	"\n"
	"Exit status: 0 sound; 1 all that was wrong is repaired; 4 damage was found and named;\n"
	"8 it could not be checked; 16 usage.\n";

struct arguments {
	const char *config_path;
	bool is_check, is_repair, is_deep, with_providers, is_json;
};

struct findings {
	uint64_t count;
	json_t *json; /* array; NULL: to standard output */
};

static void put(json_t *object, const char *key, const char *value)
{
	json_object_set_new(object, key, json_string(value));
}

static void show(void *ctx, const char *text)
{
	struct findings *findings = ctx;
	json_t *one;

	if (findings->count++ >= FINDINGS_SHOWN_MAX)
		return;
	if (!findings->json) {
		printf("%s\n", text);
		return;
	}
	one = json_object();
	put(one, "text", text);
	json_array_append_new(findings->json, one);
}

static void show_kind(void *ctx, const struct fsck_kind *kind, const char *text)
{
	struct findings *findings = ctx;
	json_t *one;

	if (findings->count++ >= FINDINGS_SHOWN_MAX)
		return;
	if (!findings->json) {
		printf("%s: %s (%s)\n", kind->name, text, fsck_remedy_text(kind->remedy));
		return;
	}
	one = json_object();
	put(one, "kind", kind->name);
	put(one, "text", text);
	put(one, "remedy", fsck_remedy_text(kind->remedy));
	json_object_set_new(one, "damage", json_boolean(kind->remedy != FSCK_NOTICE));
	json_array_append_new(findings->json, one);
}

static void print_json(json_t *findings, json_t *repairs, uint64_t violations, int code)
{
	json_t *answer = json_object();

	json_object_set_new(answer, "ok", json_boolean(code == FSCK_CLEAN || code == FSCK_REPAIRED));
	json_object_set_new(answer, "exit", json_integer(code));
	json_object_set_new(answer, "violations", json_integer((json_int_t)violations));
	json_object_set_new(answer, "findings", findings);
	json_object_set_new(answer, "repairs", repairs ? repairs : json_array());
	report_json(stdout, answer);
	json_decref(answer);
}

/* ---- -n and -y ---- */

static void list_kinds(void)
{
	struct fsck_kind kind;

	for (size_t i = 0; fsck_kind_at(i, &kind); i++)
		printf("%-28s %s; %s\n", kind.name, kind.means, fsck_remedy_text(kind.remedy));
}

static void remove_scratch(const char *path)
{
	DIR *stream = opendir(path);
	struct dirent *entry;

	while (stream && (entry = readdir(stream)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(dirfd(stream), entry->d_name, 0);
	if (stream)
		closedir(stream);
	rmdir(path);
}

static int repair(const struct config *config, struct fsck_settings *settings,
		  struct fsck_report *report, json_t *repairs, struct buf *why)
{
	struct findings left = {0}, done = {.json = repairs};
	AUTO(buf) cause = BUF_INIT;
	int r = fsck_repair(config, settings, show, &done, &cause);

	if (r < 0)
		fprintf(stderr, "fsck.shardfs: not repaired: %s\n", buf_str(&cause));
	settings->found = settings->ctx && ((struct findings *)settings->ctx)->json ? NULL : show_kind;
	settings->ctx = &left;
	return fsck_inspect(config, settings, report, why);
}

static int inspect(const struct config *config, const struct arguments *args, const char *scratch)
{
	struct findings findings = {.json = args->is_json ? json_array() : NULL};
	json_t *repairs = args->is_json ? json_array() : NULL;
	struct fsck_settings settings = {
		.scratch = scratch,
		.is_deep = args->is_deep,
		.with_providers = args->with_providers,
		.lock_wait_ms = LOCK_WAIT_MS,
		.found = show_kind,
		.ctx = &findings,
	};
	AUTO(buf) why = BUF_INIT;
	struct fsck_report report;
	int r = fsck_inspect(config, &settings, &report, &why);
	int code = r < 0 ? FSCK_FAILED : report.damages ? FSCK_LEFT : FSCK_CLEAN;

	if (r == 0 && code == FSCK_LEFT && args->is_repair) {
		if (!args->is_json)
			puts("repairing");
		r = repair(config, &settings, &report, repairs, &why);
		code = r < 0 ? FSCK_FAILED : report.damages ? FSCK_LEFT : FSCK_REPAIRED;
	}
	if (r < 0)
		fprintf(stderr, "fsck.shardfs: %s\n", why.len ? buf_str(&why) : err_sentence(r));
	if (args->is_json)
		print_json(findings.json, repairs, report.damages, code);
	else if (r == 0)
		printf("%s: %s\n", config->home,
		       code == FSCK_CLEAN      ? "sound"
		       : code == FSCK_REPAIRED ? "repaired"
					       : "damaged");
	return code;
}

static int inspect_in_scratch(const struct config *config, const struct arguments *args)
{
	const char *tmp = getenv("TMPDIR");
	AUTO_STR scratch = mem_printf("%s/fsck.shardfs-XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
	int code;

	if (!scratch || !mkdtemp(scratch)) {
		fprintf(stderr, "fsck.shardfs: %s: no scratch directory: %s\n",
			scratch ? scratch : "?", err_sentence(-errno));
		return FSCK_FAILED;
	}
	code = inspect(config, args, scratch);
	remove_scratch(scratch);
	return code;
}

/* ---- as a mount would ---- */

static int check(struct store *store, bool is_deep, bool is_json)
{
	struct findings findings = {.json = is_json ? json_array() : NULL};
	struct index_totals totals;
	uint64_t violations = 0;
	int r = store_check(store, is_deep, show, &findings, &violations);

	if (r < 0) {
		fprintf(stderr, "fsck.shardfs: %s: the check failed: %s\n", store->config->home,
			err_sentence(r));
		return FSCK_FAILED;
	}
	if (is_json) {
		print_json(findings.json, NULL, violations, violations ? FSCK_LEFT : FSCK_CLEAN);
		return violations ? FSCK_LEFT : FSCK_CLEAN;
	}
	index_totals(store->index, &totals);
	printf("%s: %" PRIu64 " inodes, %" PRIu64 " chunks, %" PRIu64 " shards: ",
	       store->config->home, totals.inodes, totals.chunks, totals.shards);
	if (violations == 0)
		puts("sound");
	else
		printf("%" PRIu64 " violations%s\n", violations,
		       violations > FINDINGS_SHOWN_MAX ? ", the first ones shown" : "");
	return violations ? FSCK_LEFT : FSCK_CLEAN;
}

/* umount(8) returns before the daemon has ended: fsck right behind it must work. */
static int open_store(struct config *config, struct buf *why, struct store **out)
{
	int r = store_open_for_check(config, LOCK_QUIET_MS, why, out);

	if (r != -EBUSY)
		return r;
	buf_clear(why);
	fprintf(stderr, "fsck.shardfs: %s: in use; waiting for its daemon to end (%u s at most)\n",
		config->home, LOCK_WAIT_MS / 1000);
	return store_open_for_check(config, LOCK_WAIT_MS, why, out);
}

static int open_and_check(struct config *config, const struct arguments *args)
{
	AUTO(buf) why = BUF_INIT;
	struct store *store;
	int code, r = open_store(config, &why, &store);

	if (r < 0) {
		fprintf(stderr, "fsck.shardfs: %s\n", why.len ? buf_str(&why) : err_sentence(r));
		if (r != -EBUSY && r != -EKEYREJECTED && r != -ENOKEY)
			fputs("fsck.shardfs: with -n it names what is wrong and changes nothing\n",
			      stderr);
		return FSCK_FAILED;
	}
	code = check(store, args->is_deep, args->is_json);
	r = store_close(store);
	if (r < 0)
		fprintf(stderr, "fsck.shardfs: closing failed: %s\n", err_sentence(r));
	return r < 0 ? FSCK_FAILED : code;
}

/* 0 to go on, else 1 + exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{"check", no_argument, NULL, 'n'},     {"repair", no_argument, NULL, 'y'},
		{"deep", no_argument, NULL, 'd'},      {"providers", no_argument, NULL, 'P'},
		{"json", no_argument, NULL, 'j'},      {"kinds", no_argument, NULL, 'K'},
		{"help", no_argument, NULL, 'h'},      {"version", no_argument, NULL, 'V'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "nydPjaphV", options, NULL)) >= 0) {
		if (c == 'h') {
			fputs(usage_text, stdout);
			return 1 + FSCK_CLEAN;
		}
		if (c == 'V') {
			puts("fsck.shardfs " PACKAGE_VERSION);
			return 1 + FSCK_CLEAN;
		}
		if (c == 'K') {
			list_kinds();
			return 1 + FSCK_CLEAN;
		}
		if (c == '?') {
			fputs("Try 'fsck.shardfs --help'.\n", stderr);
			return 1 + FSCK_USAGE;
		}
		args->is_check |= c == 'n';
		args->is_repair |= c == 'y';
		args->is_deep |= c == 'd';
		args->with_providers |= c == 'P';
		args->is_json |= c == 'j';
	}
	if (argc - optind != 1 || (args->is_check && args->is_repair) ||
	    (args->with_providers && !args->is_check && !args->is_repair)) {
		fprintf(stderr, "fsck.shardfs: %s\nTry 'fsck.shardfs --help'.\n",
			argc - optind != 1   ? "one CONFIG is needed"
			: args->is_repair    ? "-n or -y, not both"
					     : "--providers needs -n or -y");
		return 1 + FSCK_USAGE;
	}
	args->config_path = argv[optind];
	return 0;
}

int main(int argc, char **argv)
{
	AUTO(buf) why = BUF_INIT;
	struct arguments args = {0};
	struct config *config;
	int code, r = parse_arguments(argc, argv, &args);

	if (r > 0)
		return r - 1;
	log_setup(STDERR_FILENO, LOG_WARN, false);
	crypto_harden_process();
	if (crypto_init() < 0 || crypto_self_test() < 0) {
		fputs("fsck.shardfs: the cryptographic library does not work as it must\n", stderr);
		return FSCK_FAILED;
	}
	config = mem_alloc(sizeof(*config));
	r = config ? config_load(args.config_path, store_mount_checks(), config, &why) : -ENOMEM;
	if (r < 0) {
		fprintf(stderr, "fsck.shardfs: %s\n", why.len ? buf_str(&why) : err_sentence(r));
		return FSCK_FAILED;
	}
	if (!args.is_check && !args.is_repair)
		return open_and_check(config, &args); /* which owns config */
	code = inspect_in_scratch(config, &args);
	config_release(config);
	mem_free(config);
	return code;
}
