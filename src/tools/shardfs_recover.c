/* SPDX-License-Identifier: Apache-2.0 */
/* shardfs-recover: providers and a passphrase to a home that can be mounted, or to a plain tree. */
#include "config/config.h"
#include "crypto/crypto.h"
#include "crypto/recovery.h"
#include "store/recover.h"
#include "store/store.h"
#include "tools/recover_show.h"
#include "tools/recover_to.h"
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

#define INIT_MAX CONFIG_PROVIDERS_MAX

struct recover_args {
	const char *config_path;
	const char *init[INIT_MAX];
	unsigned init_count;
	const char *shares[SHARE_COUNT_MAX];
	unsigned share_count;
	const char *to;
	bool is_list, is_from_footers, is_at, is_branch, is_changes;
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
	"  -t, --to DIR        restore the tree into DIR, an empty directory, instead of making a home;\n"
	"                      what is there when it was interrupted is not restored again\n"
	"  -b, --branch        with --to: restore what the home of CONFIG has, which another machine\n"
	"                      has taken over and which was not sent to the providers\n"
	"  -c, --changes       with --branch: only what differs from the newest state at the providers\n"
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

/* 0 to go on, else 1 + exit status; so the next. */
static int check_args(const struct recover_args *args)
{
	const char *misfit = NULL;

	if (args->is_at && (args->is_from_footers || args->is_list || args->is_branch))
		misfit = "--at goes with neither --list nor --from-footers nor --branch";
	else if (args->is_list && args->to)
		misfit = "--list goes without --to";
	else if (args->is_branch && (!args->to || args->is_from_footers))
		misfit = "--branch goes with --to DIR and without --from-footers";
	else if (args->is_changes && !args->is_branch)
		misfit = "--changes goes with --branch";
	else if (args->init_count > 0 && args->to)
		misfit = "--init goes without --to";
	if (!misfit)
		return 0;
	fprintf(stderr, "shardfs-recover: %s\n", misfit);
	return 1 + RECOVER_USAGE;
}

static int parse_args(int argc, char **argv, struct recover_args *args)
{
	static const struct option options[] = {
		{"list", no_argument, NULL, 'l'}, {"at", required_argument, NULL, 'a'},
		{"to", required_argument, NULL, 't'}, {"branch", no_argument, NULL, 'b'},
		{"changes", no_argument, NULL, 'c'}, {"init", required_argument, NULL, 'i'},
		{"from-footers", no_argument, NULL, 'f'}, {"share", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "la:t:bci:fs:hV", options, NULL)) >= 0) {
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
		case 't':
			args->to = optarg;
			break;
		case 'b':
			args->is_branch = true;
			break;
		case 'c':
			args->is_changes = true;
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
	return check_args(args);
}

static int combine(const struct recover_args *args, struct credentials *out, struct buf *why)
{
	char *text;
	int r;

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

	return r < 0 ? show_failure("states cannot be listed: ", &why, r) : RECOVER_OK;
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
		r = show_choice(recovery, args->at_sec, screen, &state, &why);
		is_as_asked = r == 0;
		r = MIN(r, 0);
	}
	if (r == 0 && args->is_from_footers)
		r = recovery_run_from_footers(recovery, &result, &why);
	else if (r == 0)
		r = recovery_run(recovery, &result, &why);
	show_clear(screen);
	if (r < 0)
		return show_failure("", &why, r);
	show_recovered(config->home, &result);
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

static int recover(const struct recover_args *args, const struct config *config,
		   const struct credentials *credentials)
{
	struct screen screen = {.is_terminal = isatty(STDERR_FILENO)};
	struct recovery_settings settings = {.progress = show_progress, .note = show_note,
					     .ctx = &screen, .credentials = credentials};
	struct recovery *recovery;
	AUTO(buf) why = BUF_INIT;
	int r = recovery_open(config, &settings, &why, &recovery);

	show_clear(&screen);
	if (r < 0)
		return show_failure("", &why, r);
	show_providers(recovery);
	fflush(stdout);
	r = args->is_list ? list(recovery, &screen) : make_home(args, config, recovery, &screen);
	recovery_close(recovery);
	return r;
}

static int restore(const struct recover_args *args, const struct config_checks *checks,
		   const struct credentials *credentials)
{
	struct screen screen = {.is_terminal = isatty(STDERR_FILENO)};
	struct recover_to wanted = {
		.dir = args->to,
		.config_path = args->config_path,
		.checks = checks,
		.credentials = credentials,
		.is_at = args->is_at,
		.at_sec = args->at_sec,
		.is_from_footers = args->is_from_footers,
		.is_branch = args->is_branch,
		.is_changes = args->is_changes,
		.screen = &screen,
	};

	return recover_to(&wanted);
}

/* Once, also if they come from a command that asks for them. */
static int load_credentials(const struct recover_args *args, const struct config *config,
			    struct credentials *out)
{
	AUTO(buf) why = BUF_INIT;
	int r = args->share_count > 0
			? combine(args, out, &why)
			: credentials_load(config->passphrase_file, config->passphrase_command,
					   config->key_file, out, &why);

	return r < 0 ? (show_failure("", &why, r), RECOVER_KEYS) : 0;
}

int main(int argc, char **argv)
{
	AUTO(buf) why = BUF_INIT;
	AUTO(config) config = CONFIG_INIT;
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	struct config_checks checks = {0};
	struct recover_args args = {0};
	int r = parse_args(argc, argv, &args);

	if (r > 0)
		return r - 1;
	/* a restore names what matters of what its store would warn of */
	log_setup(STDERR_FILENO, args.to ? LOG_ERROR : LOG_WARN, false);
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
	r = load_credentials(&args, &config, &credentials);
	if (r > 0)
		return r;
	return args.to ? restore(&args, &checks, &credentials)
		       : recover(&args, &config, &credentials);
}
