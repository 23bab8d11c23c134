/* SPDX-License-Identifier: Apache-2.0 */
/* shardfs-recover: providers and a passphrase to a home that can be mounted. */
#include "config/config.h"
#include "crypto/crypto.h"
#include "crypto/recovery.h"
#include "store/recover.h"
#include "store/store.h"
#include "tools/recover_show.h"
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
	RECOVER_NOT_AS_ASKED = 3,
	RECOVER_DAMAGED = 4,
	RECOVER_KEYS = 7,
};

#define INIT_MAX CONFIG_PROVIDERS_MAX

struct recover_args {
	const char *config_path;
	const char *init[INIT_MAX];
	unsigned init_count;
	const char *shares[SHARE_COUNT_MAX];
	unsigned share_count;
	bool is_list, is_from_footers, is_at;
	int64_t at_sec;
};

static const char usage_text[] =
	"Usage: shardfs-recover [OPTION]... CONFIG\n"
	"Rebuild the local state of a file system from its providers alone, in the empty home that\n"
	"CONFIG (see shardfs.yaml(5)) names; then `shardfs CONFIG DIR` mounts it.  The names of the\n"
	"providers must be those of the file system; one of them is enough.  What was interrupted is\n"
	"taken up again by the same command.\n"
	"\n"
	"  -l, --list          say what each provider has, and which states are held; change nothing\n"
	"  -a, --at TIME       not the newest state but the newest not later than TIME:\n"
	"                      2026-11-01T12:00:00Z, \"2026-11-01 12:00\" (local time), \"2h ago\"\n"
	"  -i, --init NAME     NAME is a new and empty provider: make it this file system's\n"
	"  -f, --from-footers  all objects of the index are gone: make what can be had from the\n"
	"                      shards alone, one file for each chunk under /lost+found\n"
	"  -s, --share FILE    open it with shares of a key (shardctl key split), as many as are\n"
	"                      needed, instead of what CONFIG names\n"
	"  -h, --help          this text\n"
	"  -V, --version       version\n"
	"\n"
	"Exit status: 0 recovered, all of it; 1 failed; 2 usage or configuration invalid;\n"
	"3 recovered, but nothing as old as --at asks is held: it is the oldest there is;\n"
	"4 recovered, but files are named that are not whole; 7 no usable passphrase.\n";

/* 0 to go on, else 1 + exit status. */
static int parse_args(int argc, char **argv, struct recover_args *args)
{
	static const struct option options[] = {
		{"list", no_argument, NULL, 'l'}, {"at", required_argument, NULL, 'a'}, {"init", required_argument, NULL, 'i'},
		{"from-footers", no_argument, NULL, 'f'}, {"share", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "la:i:fs:hV", options, NULL)) >= 0) {
		switch (c) {
		case 'l':
			args->is_list = true;
			break;
		case 'a':
			args->is_at = true;
			if (clock_parse(optarg, clock_wall().sec, &args->at_sec) < 0) {
				fprintf(stderr, "shardfs-recover: --at: %s: no time; like "
					"2026-11-01T12:00:00Z, \"2026-11-01 12:00\" or "
					"\"2h ago\"\n", optarg);
				return 1 + RECOVER_USAGE;
			}
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
	if (args->is_at && (args->is_from_footers || args->is_list)) {
		fputs("shardfs-recover: --at goes with neither --list nor --from-footers\n", stderr);
		return 1 + RECOVER_USAGE;
	}
	args->config_path = argv[optind];
	return 0;
}

static void tell(const struct config *config, const struct recovery_result *result)
{
	char when[64];

	printf("%s: recovered generation %" PRIu64 " of %s\n", config->home, result->generation,
	       show_time(result->made_sec, when));
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

/* Exit statuses from here on. */

static int list(struct recovery *recovery, struct screen *screen)
{
	AUTO(buf) why = BUF_INIT;
	int r = show_states(recovery, screen);

	return r < 0 ? fail("states cannot be listed: ", &why, r) : RECOVER_OK;
}

/* 0; 1: nothing so old is held, *out is the oldest; or a negative error with why. */
static int aim(struct recovery *recovery, int64_t at_sec, struct screen *screen,
	       struct recovery_state *out, struct buf *why)
{
	struct recovery_state state;
	char asked[64], when[64];
	int r = recovery_choose(recovery, at_sec, &state);

	show_clear(screen);
	if (r < 0) {
		buf_printf(why, "no state can be chosen: %s", err_sentence(r));
		return r;
	}
	if (r > 0)
		printf("nothing from before %s is held any more; the oldest state there is will do: ",
		       show_time(at_sec, asked));
	else
		printf("newest state not later than %s: ", show_time(at_sec, asked));
	printf("generation %" PRIu64 " of %s (writer epoch %" PRIu32 ", %s)\n", state.generation,
	       show_time(state.made_sec, when), state.epoch,
	       state.is_snapshot ? "a snapshot" : "the end of a segment");
	fflush(stdout);
	recovery_aim(recovery, &state);
	*out = state;
	return r;
}

static int make_home(const struct recover_args *args, const struct config *config,
		     struct recovery *recovery, struct screen *screen)
{
	struct recovery_result result = {0};
	AUTO(buf) why = BUF_INIT;
	struct recovery_state state = {0};
	bool is_as_asked = true;
	int r = 0;

	for (unsigned i = 0; i < args->init_count && r == 0; i++)
		r = recovery_init_provider(recovery, args->init[i], &why);
	if (r == 0 && args->is_at) {
		r = aim(recovery, args->at_sec, screen, &state, &why);
		is_as_asked = r == 0;
		r = MIN(r, 0);
	}
	if (r == 0 && args->is_from_footers)
		r = recovery_run_from_footers(recovery, &result, &why);
	else if (r == 0)
		r = recovery_run(recovery, &result, &why);
	show_clear(screen);
	if (r < 0)
		return fail("", &why, r);
	tell(config, &result);
	if (args->is_from_footers) {
		puts("  lost: names, owners, modes, times, attributes, and which chunks made up a file;\n"
		     "  each chunk is a file under /lost+found, and a file of one chunk is whole there");
		return RECOVER_DAMAGED;
	}
	if (result.files_damaged > 0)
		return RECOVER_DAMAGED;
	/* where the oplog breaks off it ends before the state that was chosen */
	return is_as_asked && result.generation >= state.generation ? RECOVER_OK
								    : RECOVER_NOT_AS_ASKED;
}

static int recover(const struct recover_args *args, const struct config *config)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	struct screen screen = {.is_terminal = isatty(STDERR_FILENO)};
	struct recovery_settings settings = {.progress = show_progress, .note = show_note,
					     .ctx = &screen};
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
	show_clear(&screen);
	if (r < 0)
		return fail("", &why, r);
	show_providers(recovery);
	fflush(stdout);
	r = args->is_list ? list(recovery, &screen) : make_home(args, config, recovery, &screen);
	recovery_close(recovery);
	return r;
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
