/* SPDX-License-Identifier: Apache-2.0 */
/* mkfs.shardfs: configuration to an empty file system. */
#include "config/config.h"
#include "crypto/crypto.h"
#include "store/store.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/units.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum mkfs_exit { MKFS_OK = 0, MKFS_FAILED = 1, MKFS_USAGE = 2, MKFS_KEYS = 7 };

struct mkfs_args {
	const char *config_path;
	uint32_t uid, gid;
	unsigned kdf_log2n;
	bool is_quiet;
};

static const char usage_text[] =
	"Usage: mkfs.shardfs [OPTION]... CONFIG\n"
	"Make an empty file system as CONFIG (see shardfs.yaml(5)) describes it: key slot,\n"
	"superblock on every provider, empty index.  Nothing that exists is overwritten.\n"
	"\n"
	"  -o, --owner UID[:GID]  who owns the root directory (default: $SUDO_UID, else you)\n"
	"  -k, --kdf-cost N       log2 of scrypt's N, 10 to 22 (default 16: 64 MiB of memory)\n"
	"  -q, --quiet            print nothing but errors\n"
	"  -h, --help             this text\n"
	"  -V, --version          version\n"
	"\n"
	"Exit status: 0 made; 1 failed; 2 usage or configuration invalid; 7 no usable passphrase.\n";

static int parse_id(const char *text, uint32_t *out)
{
	uint64_t value;

	if (units_parse_count(text, &value) < 0 || value >= UINT32_MAX)
		return -EINVAL;
	*out = (uint32_t)value;
	return 0;
}

static int parse_owner(const char *text, struct mkfs_args *args)
{
	AUTO_STR copy = mem_strdup(text);
	char *colon = copy ? strchr(copy, ':') : NULL;
	int r;

	if (!copy)
		return -ENOMEM;
	if (colon)
		*colon = 0;
	r = parse_id(copy, &args->uid);
	args->gid = args->uid;
	if (r == 0 && colon)
		r = parse_id(colon + 1, &args->gid);
	return r;
}

static void default_owner(struct mkfs_args *args)
{
	const char *uid = getenv("SUDO_UID"), *gid = getenv("SUDO_GID");

	args->uid = getuid();
	args->gid = getgid();
	if (uid && parse_id(uid, &args->uid) == 0) {
		args->gid = args->uid;
		if (gid)
			parse_id(gid, &args->gid);
	}
}

/* 0 to go on, else 1 + exit status. */
static int parse_args(int argc, char **argv, struct mkfs_args *args)
{
	static const struct option options[] = {
		{"owner", required_argument, NULL, 'o'}, {"kdf-cost", required_argument, NULL, 'k'},
		{"quiet", no_argument, NULL, 'q'},	 {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},	 {0},
	};
	uint64_t cost;
	int c;

	default_owner(args);
	args->kdf_log2n = KDF_PARAMS_DEFAULT.log2_n;
	while ((c = getopt_long(argc, argv, "o:k:qhV", options, NULL)) >= 0) {
		switch (c) {
		case 'o':
			if (parse_owner(optarg, args) < 0) {
				fprintf(stderr, "mkfs.shardfs: --owner: %s: must be UID or UID:GID\n",
					optarg);
				return 1 + MKFS_USAGE;
			}
			break;
		case 'k':
			if (units_parse_count(optarg, &cost) < 0 || cost < 10 || cost > 22) {
				fprintf(stderr, "mkfs.shardfs: --kdf-cost: %s: must be 10 to 22\n",
					optarg);
				return 1 + MKFS_USAGE;
			}
			args->kdf_log2n = (unsigned)cost;
			break;
		case 'q':
			args->is_quiet = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return 1 + MKFS_OK;
		case 'V':
			puts("mkfs.shardfs " PACKAGE_VERSION);
			return 1 + MKFS_OK;
		default:
			fputs("Try 'mkfs.shardfs --help'.\n", stderr);
			return 1 + MKFS_USAGE;
		}
	}
	if (argc - optind != 1) {
		fputs("mkfs.shardfs: one CONFIG is needed\nTry 'mkfs.shardfs --help'.\n", stderr);
		return 1 + MKFS_USAGE;
	}
	args->config_path = argv[optind];
	return 0;
}

static void tell(const struct config *config)
{
	printf("%s: file system made\n", config->home);
	printf("  policy     %s\n", config->policy);
	for (size_t i = 0; i < config->provider_count; i++)
		printf("  provider   %s (%s, region %s)\n", config->providers[i].name,
		       config->providers[i].type, config->providers[i].region);
	puts("  acknowledgement: local, unless a policy says ack=one, quorum or all: fsync returns\n"
	     "  when bytes are durable on this machine, and copies follow within seconds.\n"
	     "Keep the passphrase or key file elsewhere too: without it nobody can read anything back.");
}

int main(int argc, char **argv)
{
	AUTO(buf) why = BUF_INIT;
	AUTO(config) config = CONFIG_INIT;
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	struct store_create_settings settings = {.credentials = &credentials,
						 .kdf = KDF_PARAMS_DEFAULT};
	struct mkfs_args args = {0};
	int r = parse_args(argc, argv, &args);

	if (r > 0)
		return r - 1;
	log_setup(STDERR_FILENO, LOG_WARN, false);
	crypto_harden_process();
	if (crypto_init() < 0 || crypto_self_test() < 0) {
		fputs("mkfs.shardfs: the cryptographic library does not work as it must\n", stderr);
		return MKFS_FAILED;
	}
	r = config_load(args.config_path, store_config_checks(), &config, &why);
	if (r < 0) {
		fprintf(stderr, "mkfs.shardfs: %s\n", buf_str(&why));
		return MKFS_USAGE;
	}
	r = credentials_load(config.passphrase_file, config.passphrase_command, config.key_file,
			     &credentials, &why);
	if (r < 0) {
		fprintf(stderr, "mkfs.shardfs: %s\n", buf_str(&why));
		return MKFS_KEYS;
	}
	settings.root_uid = args.uid;
	settings.root_gid = args.gid;
	settings.kdf.log2_n = (uint8_t)args.kdf_log2n;
	r = store_create(&config, &settings, &why);
	if (r < 0) {
		fprintf(stderr, "mkfs.shardfs: %s\n",
			why.len ? buf_str(&why) : err_sentence(r));
		return MKFS_FAILED;
	}
	if (!args.is_quiet)
		tell(&config);
	return MKFS_OK;
}
