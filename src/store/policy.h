/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_POLICY_H
#define SHARDFS_STORE_POLICY_H

/*
 * The goal in force for a tree.  Pure: no I/O.
 *
 * Text: comma separated key=value, or one of the names level1, level2, level3, or a bare number of
 * copies.  Keys:
 *	copies=N        1 .. 16 copies at distinct providers
 *	vendors=N       at least N vendors among them           (default 1)
 *	regions=N       at least N regions                      (default 1)
 *	region_loss=N   copies that any one region's loss must leave
 *	vendors_in_two_regions=N  vendors that hold copies in at least two regions (default 0)
 *	only=a+b        providers that may be used              (default all)
 *	not=a+b         providers that may not
 *	ack=LEVEL       local, one, quorum or all               (default local)
 *	priority=CLASS  critical, high, medium, low             (default medium)
 * level1: copies=3,vendors=3; level2: copies=5,vendors=3,regions=3,region_loss=2;
 * level3: copies=7,vendors=3,regions=5 (and two vendors with copies in two regions each).
 * A name or number comes first; words behind it change single keys ("level2,ack=one").
 * Fewer providers than the goal needs: policy_check refuses it.
 */

#include "util/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define POLICY_TEXT_SIZE 256

enum policy_ack { ACK_LOCAL, ACK_ONE, ACK_QUORUM, ACK_ALL };
enum policy_priority { PRIORITY_CRITICAL, PRIORITY_HIGH, PRIORITY_MEDIUM, PRIORITY_LOW };

struct policy {
	uint32_t copies, vendors, regions, region_loss, vendors_in_two_regions;
	enum policy_ack ack;
	enum policy_priority priority;
	char only[96], not[96]; /* names joined by '+'; "" is no limit */
	char level[8];          /* "level2" when given by name and its goal was not changed */
};

/* -EINVAL: `why` says which word, and what is allowed. */
int policy_parse(const char *text, struct policy *out, struct buf *why);
/* Copies that must be acknowledged before fsync is, at the policy's level: 0 for ACK_LOCAL. */
unsigned policy_ack_copies(const struct policy *policy);
/* Whether `only` and `not` let this provider hold copies. */
bool policy_allows(const struct policy *policy, const char *provider_name);
/* Whether what satisfies `have` satisfies the goal of `want` as well; only and not are no part of it. */
bool policy_covers(const struct policy *have, const struct policy *want);
/* Canonical text: equal policies print alike; parse(print(p)) == p. */
int policy_print(const struct policy *policy, char out[POLICY_TEXT_SIZE]); /* 0 */
const char *policy_ack_name(enum policy_ack ack);
const char *policy_priority_name(enum policy_priority priority);

struct provider_facts { /* what placement knows of a provider */
	uint32_t provider_no;
	const char *name, *vendor, *region, *role;
	bool is_present;  /* away, forgotten, draining: false */
	bool takes_new;   /* false: full or draining */
	double weight;    /* 1.0 default; < 0: not to be reached any more, keeps what it has */
};
/* 0; -ENOSPC-like refusal as -EDOM with `why` ("copies=5 needs 5 providers; there are 3"). */
int policy_check(const struct policy *policy, const struct provider_facts *providers,
		 unsigned provider_count, struct buf *why);

#endif
