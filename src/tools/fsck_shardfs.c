/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck.shardfs: offline proof.  Opening does what every mount does (replay,
 * recovery of the spool), which is the only repair that is safe without being
 * asked; then everything is proven and each violation named.
 */
#include "config/config.h"
#include "crypto/crypto.h"
#include "store/store.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
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
	"  -d, --deep     also authenticate every record in the spool\n"
	"  -a, -p, -y     accepted for fsck(8); safe repairs are always made, others never\n"
	"  -h, --help     this text\n"
	"  -V, --version  version\n"
	"\n"
	"Exit status: 0 sound; 4 violations were found and named; 8 it could not be checked;\n"
	"16 usage.\n";

struct findings {
	uint64_t count;
};

static void show(void *ctx, const char *text)
{
	struct findings *findings = ctx;

	if (findings->count++ < FINDINGS_SHOWN_MAX)
		printf("%s\n", text);
}

static int check(struct store *store, bool is_deep)
{
	struct findings findings = {0};
	struct index_totals totals;
	uint64_t violations = 0;
	int r = store_check(store, is_deep, show, &findings, &violations);

	if (r < 0) {
		fprintf(stderr, "fsck.shardfs: %s: the check failed: %s\n", store->config->home,
			err_sentence(r));
		return FSCK_FAILED;
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

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"deep", no_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	AUTO(buf) why = BUF_INIT;
	struct config *config;
	struct store *store;
	bool is_deep = false;
	int c, r, code;

	while ((c = getopt_long(argc, argv, "dapyhV", options, NULL)) >= 0) {
		if (c == 'h') {
			fputs(usage_text, stdout);
			return FSCK_CLEAN;
		}
		if (c == 'V') {
			puts("fsck.shardfs " PACKAGE_VERSION);
			return FSCK_CLEAN;
		}
		if (c == '?') {
			fputs("Try 'fsck.shardfs --help'.\n", stderr);
			return FSCK_USAGE;
		}
		is_deep |= c == 'd';
	}
	if (argc - optind != 1) {
		fputs("fsck.shardfs: one CONFIG is needed\nTry 'fsck.shardfs --help'.\n", stderr);
		return FSCK_USAGE;
	}
	log_setup(STDERR_FILENO, LOG_WARN, false);
	crypto_harden_process();
	if (crypto_init() < 0 || crypto_self_test() < 0) {
		fputs("fsck.shardfs: the cryptographic library does not work as it must\n", stderr);
		return FSCK_FAILED;
	}
	config = mem_alloc(sizeof(*config));
	r = config ? config_load(argv[optind], store_mount_checks(), config, &why) : -ENOMEM;
	if (r == 0)
		r = open_store(config, &why, &store);
	if (r < 0) {
		fprintf(stderr, "fsck.shardfs: %s\n", why.len ? buf_str(&why) : err_sentence(r));
		return FSCK_FAILED;
	}
	code = check(store, is_deep);
	r = store_close(store);
	if (r < 0)
		fprintf(stderr, "fsck.shardfs: closing failed: %s\n", err_sentence(r));
	return r < 0 ? FSCK_FAILED : code;
}
