/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_PLACEMENT_H
#define SHARDFS_STORE_PLACEMENT_H

/*
 * Which providers hold which copy, and what survives which loss.  Pure.
 */

#include "index/rows.h"
#include "store/policy.h"

#define PLACEMENT_COPIES_MAX    16
#define PLACEMENT_PROVIDERS_MAX 64 /* those beyond are not looked at */

/*
 * placement_choose - the providers that should hold the copies of a shard.
 * @existing: its copies in any state; valid ones are kept where the policy allows, owed and bad
 *            ones where the provider takes new objects.  A provider where its copy is being deleted
 *            is not chosen.
 * Deterministic in (shard id, providers): rendezvous hashing, so a new provider moves little.
 * Primary roles come first, then secondary, then tertiary.  Providers that are away are chosen like
 * others as long as they are not forgotten: their copies are owed until they return.
 * Full and draining providers only when the others are too few.
 * chosen[] gets provider numbers, *count of them (at most policy->copies; fewer only when there
 * are not enough providers).  A policy that cannot be met is met as far as possible.
 */
void placement_choose(const struct policy *policy, const struct shard_id *id,
		      const struct provider_facts *providers, unsigned provider_count,
		      const struct copy_row *existing, unsigned existing_count,
		      uint32_t chosen[PLACEMENT_COPIES_MAX], unsigned *count);

/* What the providers that a policy allows could give at best. */
struct placement_supply {
	unsigned providers, vendors, regions;
	bool is_satisfiable; /* some choice of policy->copies of them meets the whole policy */
};
void placement_count_supply(const struct policy *policy, const struct provider_facts *providers,
			    unsigned provider_count, struct placement_supply *out);

/* Whether copies at exactly these providers (distinct numbers) meet the policy. */
bool placement_meets(const struct policy *policy, const struct provider_facts *providers,
		     unsigned provider_count, const uint32_t *provider_nos, unsigned count);

/* present or verified */
static inline bool copy_is_valid(const struct copy_row *copy)
{
	return copy->state == COPY_PRESENT || copy->state == COPY_VERIFIED;
}
/* pending or uploading: somebody still has to make it */
static inline bool copy_is_owed(const struct copy_row *copy)
{
	return copy->state == COPY_PENDING || copy->state == COPY_UPLOADING;
}

enum protection { /* best to worst; DESIGN and issue order, see status in shardfs-xattr(7) */
	PROTECTION_PROTECTED,
	PROTECTION_REPLICATING,
	PROTECTION_DEGRADED,
	PROTECTION_LOCAL,
	PROTECTION_ENDANGERED,
	PROTECTION_LOST,
};
const char *protection_name(enum protection protection);

/*
 * State of one shard.  in_spool: its bytes are on local disk.  Copies at providers that are not
 * among `providers` do not count.  *valid: copies present or verified; *wanted: what the policy
 * asks.  Either may be NULL.
 */
enum protection placement_judge(const struct policy *policy, const struct copy_row *copies,
				unsigned copy_count, const struct provider_facts *providers,
				unsigned provider_count, bool in_spool, unsigned *valid,
				unsigned *wanted);

#endif
