/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_RECOVER_SHOW_H
#define SHARDFS_TOOLS_RECOVER_SHOW_H

/* What shardfs-recover tells: on standard output what was found and done, on standard error how far
 * it is and what should be known. */

#include "store/recover.h"

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

#endif
