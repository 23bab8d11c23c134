/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/shardctl_local.h"

#include "config/config.h"
#include "crypto/crypto.h"
#include "ctl/ctl_client.h"
#include "ctl/ctl_local.h"
#include "store/store.h"
#include "tools/shardctl_ask.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *shardctl_home_of(const char *config, const char *mount, const char *path)
{
	const char *named = getenv("SHARDFS_CONFIG");
	AUTO(buf) why = BUF_INIT;
	AUTO_FD fd = -1;

	if (config)
		return config;
	if (mount || path || !named || !*named)
		return NULL;
	return ctl_client_open(NULL, NULL, &fd, &why) == -ENOENT ? named : NULL;
}

/* Takes the configuration in any case. */
static int open_store(struct config *config, struct store **out, struct buf *why)
{
	int r;

	log_setup(STDERR_FILENO, LOG_ERROR, false);
	crypto_harden_process();
	r = crypto_init();
	if (r == 0)
		r = crypto_self_test();
	if (r < 0)
		buf_printf(why, "the cryptographic library does not work as it must");
	else
		r = store_open_for_check(config, 0, why, out);
	if (r < 0) {
		config_release(config);
		mem_free(config);
	}
	return r;
}

static void explain(int error, const char *path, struct buf *why)
{
	if (error == -EOPNOTSUPP)
		buf_printf(why, "this needs a mount");
	else if (error == -ENOENT || error == -ENOTDIR)
		buf_printf(why, "%s: %s", path ? path : "/", err_sentence(error));
	else
		buf_printf(why, "%s", err_sentence(error));
}

static int run(const char *config_path, const json_t *request, const char *path, json_t **answer,
	       uint32_t *code, struct buf *why)
{
	struct config *config = mem_alloc(sizeof(*config));
	struct store *store;
	int r, end;

	if (!config)
		return -ENOMEM;
	r = config_load(config_path, store_mount_checks(), config, why);
	if (r < 0) {
		mem_free(config);
		return -EINVAL;
	}
	r = open_store(config, &store, why);
	if (r == -EBUSY) {
		buf_clear(why);
		buf_printf(why, "%s: in use by another process: when it is mounted, ask the mount",
			   config_path);
	}
	if (r < 0)
		return r;
	r = ctl_local_run(store, request, path, answer, code);
	if (r < 0)
		explain(r, path, why);
	end = store_close(store);
	if (r == 0 && end < 0) {
		json_decref(*answer);
		*answer = NULL;
		explain(end, path, why);
	}
	return r < 0 ? r : end;
}

static int exit_of(int error)
{
	switch (error) {
	case -EINVAL:
	case -ENOENT:
	case -ENOTDIR:
		return EXIT_USAGE;
	case -EKEYREJECTED:
	case -ENOKEY:
	case -EACCES:
	case -EPERM:
		return EXIT_DENIED;
	default:
		return EXIT_UNKNOWN;
	}
}

int shardctl_ask_home(const char *config_path, const json_t *request, const char *path,
		      json_t **answer, uint32_t *code)
{
	AUTO(buf) why = BUF_INIT;
	int r = run(config_path, request, path, answer, code, &why);

	if (r == 0)
		return EXIT_DONE;
	fprintf(stderr, "shardctl: %s\n", why.len ? buf_str(&why) : err_sentence(r));
	return exit_of(r);
}
