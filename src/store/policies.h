/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_POLICIES_H
#define SHARDFS_STORE_POLICIES_H

/*
 * The policies of this file system in memory, by policy root.  There is one
 * for each directory where somebody set one, at most POLICIES_MAX.  Any thread.
 */

#include "index/index.h"
#include "store/policy.h"

#define POLICIES_MAX 65536u

struct policies;

/* Loads what the index has.  The root's policy must be there (mkfs puts it): else -EUCLEAN. */
int policies_load(struct index *index, struct index_reader *reader, struct policies **out);
void policies_free(struct policies *policies);

/* The policy set at this root; the file system root's when there is none there (any more). */
void policies_get(struct policies *policies, uint64_t root, struct policy *out);
bool policies_has(struct policies *policies, uint64_t root);
/* After its record was submitted.  -ENOSPC: POLICIES_MAX reached; -ENOMEM. */
int policies_set(struct policies *policies, uint64_t root, const struct policy *policy);
void policies_remove(struct policies *policies, uint64_t root);

#endif
