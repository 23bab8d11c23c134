/* SPDX-License-Identifier: Apache-2.0 */
/* shardfs-recover: providers and a passphrase to a home that can be mounted. */
#include "config/config.h"
#include "crypto/crypto.h"
#include "crypto/recovery.h"
#include "store/recover.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum recover_exit {
	RECOVER_OK = 0,
	RECOVER_FAILED = 1,
	RECOVER_USAGE = 2,
	RECOVER_DAMAGED = 4,
	RECOVER_KEYS = 7,
};

#define INIT_MAX	 CONFIG_PROVIDERS_MAX
#define PROGRESS_EVERY_MS 100u

struct recover_args {
	const char *config_path;
	const char *init[INIT_MAX];
	unsigned init_count;
	const char *shares[SHARE_COUNT_MAX];
	unsigned share_count;
	bool is_list, is_from_footers;
};

struct screen {
	bool is_terminal, is_shown;
	uint64_t shown_ms;
};

static const char usage_text[] =
	"Usage: shardfs-recover [OPTION]... CONFIG\n"
	"Rebuild the local state of a file system from its providers alone, in the empty home that\n"
	"CONFIG (see shardfs.yaml(5)) names; then `shardfs CONFIG DIR` mounts it.  The names of the\n"
	"providers must be those of the file system; one of them is enough.  What was interrupted is\n"
	"taken up again by the same command.\n"
	"\n"
	"  -l, --list          say what each provider has, and change nothing\n"
	"  -i, --init NAME     NAME is a new and empty provider: make it this file system's\n"
	"  -f, --from-footers  all objects of the index are gone: make what can be had from the\n"
	"                      shards alone, one file for each chunk under /lost+found\n"
	"  -s, --share FILE    open it with shares of a key (shardctl key split), as many as are\n"
	"                      needed, instead of what CONFIG names\n"
	"  -h, --help          this text\n"
	"  -V, --version       version\n"
	"\n"
	"Exit status: 0 recovered, all of it; 1 failed; 2 usage or configuration invalid;\n"
	"4 recovered, but files are named that are not whole; 7 no usable passphrase.\n";

/* 0 to go on, else 1 + exit status. */
static int parse_args(int argc, char **argv, struct recover_args *args)
{
	static const struct option options[] = {
		{"list", no_argument, NULL, 'l'}, {"init", required_argument, NULL, 'i'},
		{"from-footers", no_argument, NULL, 'f'}, {"share", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "li:fs:hV", options, NULL)) >= 0) {
		switch (c) {
		case 'l':
			args->is_list = true;
			break;
		case 'i':
			if (args->init_count < INIT_MAX)
				args->init[args->init_count++] = optarg;
			break;
		case 's':
			if (args->share_count == SHARE_COUNT_MAX) {
				fputs("shardfs-recover: too many shares\n", stderr);
				return 1 + RECOVER_USAGE;
			}
			args->shares[args->share_count++] = optarg;
			break;
		case 'f':
			args->is_from_footers = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return 1 + RECOVER_OK;
		case 'V':
			puts("shardfs-recover " PACKAGE_VERSION);
			return 1 + RECOVER_OK;
		default:
			fputs("Try 'shardfs-recover --help'.\n", stderr);
			return 1 + RECOVER_USAGE;
		}
	}
	if (argc - optind != 1) {
		fputs("shardfs-recover: one CONFIG is needed\nTry 'shardfs-recover --help'.\n",
		      stderr);
		return 1 + RECOVER_USAGE;
	}
	args->config_path = argv[optind];
	return 0;
}

/* ---- the terminal ---- */

static void clear_line(struct screen *screen)
{
	if (screen->is_shown)
		fputs("\r\033[K", stderr);
	screen->is_shown = false;
}

static void show_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
	struct screen *screen = ctx;
	uint64_t now = clock_mono_ms();

	if (!screen->is_terminal || (screen->is_shown && now - screen->shown_ms < PROGRESS_EVERY_MS))
		return;
	screen->shown_ms = now;
	clear_line(screen);
	if (total > 0)
		fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " (%u %%)", what, done, total,
			(unsigned)(done * 100.0 / total));
	else
		fprintf(stderr, "%s: %" PRIu64, what, done);
	fflush(stderr);
	screen->is_shown = true;
}

static void show_note(void *ctx, const char *text)
{
	clear_line(ctx);
	fprintf(stderr, "shardfs-recover: %s\n", text);
}

/* ---- what is where ---- */

static void list_states(const struct recovery *recovery)
{
	uint32_t epoch = 0;
	uint64_t newest = recovery_newest(recovery, &epoch);

	printf("%-20s %12s %12s  %s\n", "provider", "newest", "complete", "state");
	for (unsigned i = 0; i < recovery_provider_count(recovery); i++) {
		struct recovery_provider shown;

		recovery_provider_get(recovery, i, &shown);
		if (!shown.is_reached) {
			printf("%-20s %12s %12s  not reached: %s\n", shown.name, "-", "-",
			       shown.cause);
			continue;
		}
		printf("%-20s %12" PRIu64 " %12" PRIu64 "  %s\n", shown.name, shown.newest,
		       shown.complete,
		       shown.complete == 0	   ? "has no snapshot"
		       : shown.complete < newest   ? "stale"
						   : "complete");
	}
	if (newest > 0)
		printf("together they give generation %" PRIu64 " (writer epoch %" PRIu32 ")\n",
		       newest, epoch);
	else
		puts("together they give nothing: no snapshot of the index is there");
}

static void tell(const struct config *config, const struct recovery_result *result)
{
	time_t made = (time_t)result->made_sec;
	char when[64] = "?";
	struct tm tm;

	if (localtime_r(&made, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", &tm);
	printf("%s: recovered generation %" PRIu64 " of %s\n", config->home, result->generation,
	       when);
	printf("  %" PRIu64 " inodes, %" PRIu64 " bytes, %" PRIu64 " shards\n", result->inodes,
	       result->bytes, result->shards);
	if (result->objects_unknown > 0)
		printf("  %" PRIu64 " objects are shards that this state does not know; "
		       "they are left alone\n", result->objects_unknown);
	if (result->shards_missing > 0)
		printf("  %" PRIu64 " shards are missing; %" PRIu64 " files are not whole\n",
		       result->shards_missing, result->files_damaged);
}

static int fail(const char *what, struct buf *why, int error)
{
	fprintf(stderr, "shardfs-recover: %s%s\n", what,
		why->len ? buf_str(why) : err_sentence(error));
	return error == -EKEYREJECTED || error == -ENOKEY ? RECOVER_KEYS : RECOVER_FAILED;
}

static int combine(const struct recover_args *args, struct credentials *out, struct buf *why)
{
	char *text;
	int r;

	if (args->share_count == 0)
		return 0;
	text = secret_alloc(RECOVERY_TEXT_SIZE);
	if (!text)
		return -ENOMEM;
	r = share_files_combine(args->shares, args->share_count, text, why);
	if (r == 0)
		r = secret_set(&out->passphrase, bytes_of_str(text));
	secret_free(text, RECOVERY_TEXT_SIZE);
	return r;
}

static int recover(const struct recover_args *args, const struct config *config)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	struct screen screen = {.is_terminal = isatty(STDERR_FILENO)};
	struct recovery_settings settings = {.progress = show_progress, .note = show_note,
					     .ctx = &screen};
	struct recovery_result result = {0};
	struct recovery *recovery;
	AUTO(buf) why = BUF_INIT;
	int r = combine(args, &credentials, &why);

	if (r < 0) {
		fail("", &why, r);
		return RECOVER_KEYS;
	}
	if (args->share_count > 0)
		settings.credentials = &credentials;
	r = recovery_open(config, &settings, &why, &recovery);
	clear_line(&screen);
	if (r < 0)
		return fail("", &why, r);
	list_states(recovery);
	fflush(stdout);
	if (args->is_list) {
		recovery_close(recovery);
		return RECOVER_OK;
	}
	for (unsigned i = 0; i < args->init_count && r == 0; i++)
		r = recovery_init_provider(recovery, args->init[i], &why);
	if (r == 0 && args->is_from_footers)
		r = recovery_run_from_footers(recovery, &result, &why);
	else if (r == 0)
		r = recovery_run(recovery, &result, &why);
	recovery_close(recovery);
	clear_line(&screen);
	if (r < 0)
		return fail("", &why, r);
	tell(config, &result);
	if (args->is_from_footers) {
		puts("  lost: names, owners, modes, times, attributes, and which chunks made up a file;\n"
		     "  each chunk is a file under /lost+found, and a file of one chunk is whole there");
		return RECOVER_DAMAGED;
	}
	return result.files_damaged > 0 ? RECOVER_DAMAGED : RECOVER_OK;
}

int main(int argc, char **argv)
{
	AUTO(buf) why = BUF_INIT;
	AUTO(config) config = CONFIG_INIT;
	struct config_checks checks = {0};
	struct recover_args args = {0};
	int r = parse_args(argc, argv, &args);

	if (r > 0)
		return r - 1;
	log_setup(STDERR_FILENO, LOG_WARN, false);
	crypto_harden_process();
	if (crypto_init() < 0 || crypto_self_test() < 0) {
		fputs("shardfs-recover: the cryptographic library does not work as it must\n",
		      stderr);
		return RECOVER_FAILED;
	}
	/* not the policy: one provider alone cannot satisfy it, and that must not matter here */
	checks.may_lack_keys = args.share_count > 0;
	r = config_load(args.config_path, &checks, &config, &why);
	if (r < 0) {
		fprintf(stderr, "shardfs-recover: %s\n", buf_str(&why));
		return RECOVER_USAGE;
	}
	return recover(&args, &config);
}
