/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_RETENTION_H
#define SHARDFS_STORE_RETENTION_H

/*
 * Which of many snapshots to keep; pure.  The rules are those of restic and borg: `daily` n keeps
 * the newest one of each of the newest n days that have one, and so on; what any rule keeps is kept.
 * Hours, days, weeks (from Monday), months and years are those of UTC.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct retention_rules {
	uint32_t last, hourly, daily, weekly, monthly, yearly; /* 0: does not keep any */
};

/*
 * retention_choose - secs: when each was made, newest first; keep[i] is set for those to keep.
 * Without any rule nothing is kept: the caller refuses that.
 */
void retention_choose(const struct retention_rules *rules, const int64_t *secs, size_t count,
		      bool *keep);
bool retention_has_rule(const struct retention_rules *rules);

#endif
