/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_RECOVER_SHOW_H
#define SHARDFS_TOOLS_RECOVER_SHOW_H

/* What shardfs-recover tells: on standard output what was found and done, on standard error how far
 * it is and what should be known. */

#include "store/recover.h"
#include "store/restore.h"

enum recover_exit {
	RECOVER_OK = 0,
	RECOVER_FAILED = 1,
	RECOVER_USAGE = 2,
	RECOVER_NOT_AS_ASKED = 3,
	RECOVER_DAMAGED = 4,
	RECOVER_KEYS = 7,
};

struct screen {
	bool is_terminal, is_shown;
	uint64_t shown_ms;
};
/* The callbacks of struct recovery_settings; ctx is a screen. */
void show_progress(void *ctx, const char *what, uint64_t done, uint64_t total);
void show_note(void *ctx, const char *text);
void show_clear(struct screen *screen); /* nothing is left of the progress */

/* For each provider what it has, and what they give together. */
void show_providers(const struct recovery *recovery);
/* Every state that is held. */
int show_states(struct recovery *recovery, struct screen *screen);
const char *show_time(int64_t sec, char out[64]);
/*
 * Has the recovery end with the newest state not later than at_sec, and says which that is.
 * 0; 1: nothing so old is held, *out is the oldest; or a negative error with why.
 */
int show_choice(struct recovery *recovery, int64_t at_sec, struct screen *screen,
		struct recovery_state *out, struct buf *why);
void show_recovered(const char *what, const struct recovery_result *result);

/* Of a restore. */
void show_begun(const struct recovery_state *state, const char *work);
void show_branch(const char *home); /* whose state that is */
void show_restored(const char *dir, const struct restore_result *result);

/* What went wrong; the exit status. */
int show_failure(const char *what, struct buf *why, int error);

#endif
