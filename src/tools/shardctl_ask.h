/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_ASK_H
#define SHARDFS_TOOLS_SHARDCTL_ASK_H

/* How every command of shardctl asks: whom, what is told while it waits, what its end means. */

#include <jansson.h>
#include <stdbool.h>

/* shardctl(8), EXIT STATUS. */
enum shardctl_exit {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_UNKNOWN = 3,
	EXIT_FINDING = 4,
	EXIT_REFUSED = 5,
	EXIT_PARTIAL = 6,
	EXIT_DENIED = 7,
};

/* Whom to ask, and how the answer is wanted. */
struct shardctl_target {
	const char *mount, *config; /* --mount, --config; NULL: not given */
	bool needs_mount;	    /* a home cannot answer */
	bool is_json;
};

/* {"verb": verb}. */
json_t *shardctl_request(const char *verb);

/*
 * shardctl_ask - asks the mount of path (NULL: the one that is meant), or a home without a mount.
 * Takes the request.  progress as for ctl_client_run(); shardctl_show_note() does for most.  The
 * exit status of the verb with *answer (json_decref); or *answer NULL.  What is wrong was printed.
 */
int shardctl_ask(const struct shardctl_target *target, const char *path, json_t *request,
		 bool (*progress)(void *ctx, const json_t *state), void *ctx, json_t **answer);

/* Shows what a job says of itself; false, which cancels it, after an interrupt. */
bool shardctl_show_note(void *ctx, const json_t *state);

/* From now on an interrupt is only remembered. */
void shardctl_catch_interrupt(void);
bool shardctl_is_interrupted(void);

#endif
