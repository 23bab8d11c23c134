/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/shardctl_ask.h"

#include "ctl/ctl_client.h"
#include "tools/report.h"
#include "tools/shardctl_local.h"
#include "util/err.h"
#include "util/file.h"
#include "util/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

static volatile sig_atomic_t is_interrupted;

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	is_interrupted = 1;
}

void shardctl_catch_interrupt(void)
{
	signal(SIGINT, on_interrupt);
}

bool shardctl_is_interrupted(void)
{
	return is_interrupted;
}

bool shardctl_show_note(void *ctx, const json_t *state)
{
	const char *note = json_string_value(json_object_get(state, "note"));

	(void)ctx;
	if (is_interrupted)
		return false;
	if (note)
		report_progress(stderr, 0, note);
	return true;
}

json_t *shardctl_request(const char *verb)
{
	json_t *request = json_object();

	json_object_set_new(request, "verb", json_string(verb));
	return request;
}

static int exit_of(int r)
{
	switch (r) {
	case -EPERM:
	case -EACCES:
	case -EKEYREJECTED:
		return EXIT_DENIED;
	case -EINVAL:
	case -ENOTTY:
	case -E2BIG:
		return EXIT_USAGE;
	default:
		return EXIT_UNKNOWN;
	}
}

/* As shardctl_ask_home(). */
static int ask_mount(const struct shardctl_target *target, const char *path, const json_t *request,
		     bool (*progress)(void *ctx, const json_t *state), void *ctx, json_t **answer,
		     uint32_t *code)
{
	AUTO(buf) why = BUF_INIT;
	AUTO_FD fd = -1;
	int r = ctl_client_open(path, target->mount, &fd, &why);

	if (r < 0) {
		fprintf(stderr, "shardctl: %s\n", why.len ? buf_str(&why) : err_sentence(r));
		return path ? EXIT_USAGE : exit_of(r);
	}
	r = ctl_client_run(fd, request, progress, ctx, answer, code);
	report_progress_end(stderr);
	if (r == 0)
		return EXIT_DONE;
	fprintf(stderr, "shardctl: %s: %s\n", path ? path : "the mount",
		r == -ENOTTY ? "is not on a mounted shardfs" : err_sentence(r));
	return exit_of(r);
}

int shardctl_ask(const struct shardctl_target *target, const char *path, json_t *request,
		 bool (*progress)(void *ctx, const json_t *state), void *ctx, json_t **answer)
{
	const char *home = target->needs_mount
				   ? NULL
				   : shardctl_home_of(target->config, target->mount, path);
	uint32_t code = EXIT_UNKNOWN;
	int r;

	*answer = NULL;
	r = home ? shardctl_ask_home(home, request, path, answer, &code)
		 : ask_mount(target, path, request, progress, ctx, answer, &code);
	json_decref(request);
	if (!*answer)
		return r;
	if (json_is_false(json_object_get(*answer, "ok")))
		fprintf(stderr, "shardctl: %s\n",
			json_string_value(json_object_get(*answer, "error")));
	return (int)code;
}
