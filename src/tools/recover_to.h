/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_RECOVER_TO_H
#define SHARDFS_TOOLS_RECOVER_TO_H

/* shardfs-recover --to: a tree into a plain directory, without a home that stays. */

#include "config/config.h"
#include "crypto/crypto.h"
#include "tools/recover_show.h"

struct recover_to {
	const char *dir;
	const char *config_path;
	const struct config_checks *checks;
	const struct credentials *credentials;
	bool is_at, is_from_footers;
	int64_t at_sec;
	bool is_branch;  /* what the home of the configuration has, not what providers have */
	bool is_changes; /* of that only what the newest state at the providers has not */
	struct screen *screen;
};
/* An exit status. */
int recover_to(const struct recover_to *wanted);

#endif
