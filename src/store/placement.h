/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_PLACEMENT_H
#define SHARDFS_STORE_PLACEMENT_H

/*
 * Which providers hold which copy, and what survives which loss.  Pure.
 */

#include "index/rows.h"
#include "store/policy.h"

#define PLACEMENT_COPIES_MAX 16

/*
 * placement_choose - the providers that should hold the copies of a shard.
 * @existing: copies it has (valid or owed); they are kept where the policy allows.
 * Deterministic in (shard id, providers): rendezvous hashing, so a new provider moves little.
 * Primary roles come first, then secondary, then tertiary.  Providers that are away are chosen like
 * others as long as they are not forgotten: their copies are owed until they return.
 * chosen[] gets provider numbers, *count of them (at most policy->copies; fewer only when there
 * are not enough providers).
 */
void placement_choose(const struct policy *policy, const struct shard_id *id,
		      const struct provider_facts *providers, unsigned provider_count,
		      const struct copy_row *existing, unsigned existing_count,
		      uint32_t chosen[PLACEMENT_COPIES_MAX], unsigned *count);

enum protection { /* best to worst; DESIGN and issue order, see status in shardfs-xattr(7) */
	PROTECTION_PROTECTED,
	PROTECTION_REPLICATING,
	PROTECTION_DEGRADED,
	PROTECTION_LOCAL,
	PROTECTION_ENDANGERED,
	PROTECTION_LOST,
};
const char *protection_name(enum protection protection);

/* State of one shard.  in_spool: its bytes are on local disk. */
enum protection placement_judge(const struct policy *policy, const struct copy_row *copies,
				unsigned copy_count, const struct provider_facts *providers,
				unsigned provider_count, bool in_spool, unsigned *valid,
				unsigned *wanted);

#endif
