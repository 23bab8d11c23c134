/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Candidates are put into an order of preference: where the shard lies already, then who takes new
 * objects, then role, then the weighted rendezvous score of (shard, provider).  The choice is the
 * first set in that order (lexicographically) that meets the policy: a depth-first search that cuts
 * off as soon as what is left cannot help.  For a policy without constraints this is simply the
 * first `copies` candidates.  The search has a budget of steps; a goal that is not met within it,
 * or at all, is lowered bit by bit, so that there is always an answer.
 */

#include "store/placement.h"

#include "util/map.h"
#include "util/mem.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_STEPS_MAX 200000

struct candidate {
	const struct provider_facts *facts;
	uint8_t vendor_no, region_no; /* equal names have equal numbers */
	uint8_t preference, role;     /* lower is better */
	double score;		      /* higher is better */
};

struct goal {
	unsigned copies, vendors, regions, region_loss, vendors_in_two_regions;
};

struct search {
	const struct candidate *candidates;
	unsigned candidate_count;
	struct goal goal;
	unsigned steps_left;
	unsigned chosen[PLACEMENT_COPIES_MAX], chosen_count; /* positions of candidates */
	/* tally of what is chosen */
	uint8_t in_vendor[PLACEMENT_PROVIDERS_MAX], in_region[PLACEMENT_PROVIDERS_MAX];
	unsigned vendor_count, region_count;
};

static const char *text_or_empty(const char *s)
{
	return s ? s : "";
}

/* An unnamed vendor is the provider itself. */
static const char *vendor_of(const struct provider_facts *facts)
{
	return facts->vendor && facts->vendor[0] ? facts->vendor : facts->name;
}

static uint8_t role_rank(const char *role)
{
	static const char *const roles[] = {"primary", "secondary", "tertiary"};

	for (unsigned i = 0; i < ARRAY_COUNT(roles); i++)
		if (strcmp(text_or_empty(role), roles[i]) == 0)
			return i;
	return ARRAY_COUNT(roles);
}

static uint64_t name_hash(const char *name)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3u;
	return h;
}

/* log2 for 1 .. UINT64_MAX, monotonic, within 0.01. */
static double log2_of(uint64_t v)
{
	int top = 63 - __builtin_clzll(v);
	double f = (double)(v << (63 - top)) / 9223372036854775808.0 - 1;

	return top + f * (1 + 0.3465 * (1 - f));
}

/* Highest weighted random draw wins; a draw depends on this provider alone. */
static double rendezvous(const struct shard_id *id, const struct provider_facts *facts)
{
	uint64_t a, b, h;
	double weight = facts->weight > 0 ? facts->weight : 1e-6;

	memcpy(&a, id->b, 8);
	memcpy(&b, id->b + 8, 8);
	h = map_hash_u64(map_hash_u64(le64toh(a) ^ name_hash(facts->name)) ^ le64toh(b));
	return weight / (64.000001 - log2_of(h | 1));
}

static void number_names(struct candidate *candidates, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		candidates[i].vendor_no = candidates[i].region_no = i;
		for (unsigned j = 0; j < i; j++) {
			if (strcmp(vendor_of(candidates[j].facts),
				   vendor_of(candidates[i].facts)) == 0)
				candidates[i].vendor_no = candidates[j].vendor_no;
			if (strcmp(text_or_empty(candidates[j].facts->region),
				   text_or_empty(candidates[i].facts->region)) == 0)
				candidates[i].region_no = candidates[j].region_no;
		}
	}
}

static bool tally_add(struct search *search, unsigned at)
{
	const struct candidate *c = &search->candidates[at];

	search->chosen[search->chosen_count++] = at;
	search->vendor_count += search->in_vendor[c->vendor_no]++ == 0;
	search->region_count += search->in_region[c->region_no]++ == 0;
	return search->in_region[c->region_no] + search->goal.region_loss <= search->goal.copies;
}

static void tally_drop(struct search *search)
{
	const struct candidate *c = &search->candidates[search->chosen[--search->chosen_count]];

	search->vendor_count -= --search->in_vendor[c->vendor_no] == 0;
	search->region_count -= --search->in_region[c->region_no] == 0;
}

/* Vendors with copies in two regions so far; *half: vendors that need only one more region. */
static unsigned count_wide_vendors(const struct search *search, unsigned *half)
{
	uint64_t regions[PLACEMENT_PROVIDERS_MAX] = {0};
	unsigned wide = 0;

	*half = 0;
	for (unsigned i = 0; i < search->chosen_count; i++) {
		const struct candidate *c = &search->candidates[search->chosen[i]];

		regions[c->vendor_no] |= (uint64_t)1 << c->region_no;
	}
	for (unsigned i = 0; i < PLACEMENT_PROVIDERS_MAX; i++) {
		wide += (regions[i] & (regions[i] - 1)) != 0;
		*half += regions[i] != 0 && (regions[i] & (regions[i] - 1)) == 0;
	}
	return wide;
}

/* Whether `slots` more, taken from candidates from `at` on, may still meet the goal. */
static bool may_meet(const struct search *search, unsigned at, unsigned slots)
{
	const struct goal *goal = &search->goal;
	uint64_t new_vendors = 0, new_regions = 0;
	unsigned wide, half, missing;

	if (search->candidate_count - at < slots)
		return false;
	if (goal->vendors_in_two_regions > 0) {
		wide = count_wide_vendors(search, &half);
		missing = wide < goal->vendors_in_two_regions ? goal->vendors_in_two_regions - wide
							      : 0;
		if (missing + (missing > half ? missing - half : 0) > slots)
			return false;
	}
	if (goal->vendors <= search->vendor_count && goal->regions <= search->region_count)
		return true;
	for (unsigned i = at; i < search->candidate_count; i++) {
		const struct candidate *c = &search->candidates[i];

		if (search->in_vendor[c->vendor_no] == 0)
			new_vendors |= (uint64_t)1 << c->vendor_no;
		if (search->in_region[c->region_no] == 0)
			new_regions |= (uint64_t)1 << c->region_no;
	}
	return search->vendor_count + MIN(slots, (unsigned)__builtin_popcountll(new_vendors)) >=
		       goal->vendors &&
	       search->region_count + MIN(slots, (unsigned)__builtin_popcountll(new_regions)) >=
		       goal->regions;
}

static bool search_from(struct search *search, unsigned at)
{
	unsigned slots = search->goal.copies - search->chosen_count;

	if (search->steps_left == 0 || !may_meet(search, at, slots))
		return false;
	search->steps_left--;
	if (slots == 0)
		return true;
	for (unsigned i = at; i + slots <= search->candidate_count; i++) {
		if (tally_add(search, i) && search_from(search, i + 1))
			return true;
		tally_drop(search);
	}
	return false;
}

static bool search_goal(struct search *search, const struct candidate *candidates,
			unsigned candidate_count, const struct goal *goal)
{
	*search = (struct search){.candidates = candidates,
				  .candidate_count = candidate_count,
				  .goal = *goal,
				  .steps_left = SEARCH_STEPS_MAX};
	return goal->copies <= candidate_count && search_from(search, 0);
}

static struct goal goal_of(const struct policy *policy)
{
	return (struct goal){.copies = MIN(policy->copies, PLACEMENT_COPIES_MAX),
			     .vendors = policy->vendors,
			     .regions = policy->regions,
			     .region_loss = policy->region_loss,
			     .vendors_in_two_regions = policy->vendors_in_two_regions};
}

/* One step towards a goal that anything meets. */
static void goal_lower(struct goal *goal)
{
	if (goal->vendors_in_two_regions > 0)
		goal->vendors_in_two_regions--;
	else if (goal->region_loss > 0)
		goal->region_loss--;
	else if (goal->regions > 1)
		goal->regions--;
	else if (goal->vendors > 1)
		goal->vendors--;
}

/* Lower is better; 255: not to be chosen. */
static uint8_t preference_of(const struct provider_facts *facts, const struct copy_row *existing,
			     unsigned existing_count)
{
	const struct copy_row *copy = NULL;

	for (unsigned i = 0; i < existing_count; i++)
		if (existing[i].provider_no == facts->provider_no)
			copy = &existing[i];
	if (copy && copy->state == COPY_DELETING)
		return 255;
	if (copy && copy_is_valid(copy))
		return 0;
	if (!facts->takes_new)
		return 3;
	return copy && copy->state != COPY_NONE && copy->state != COPY_QUARANTINED ? 1 : 2;
}

static int candidate_compare(const void *left, const void *right)
{
	const struct candidate *a = left, *b = right;

	if (a->preference != b->preference)
		return a->preference < b->preference ? -1 : 1;
	if (a->role != b->role)
		return a->role < b->role ? -1 : 1;
	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	return strcmp(a->facts->name, b->facts->name);
}

static unsigned candidates_of(const struct policy *policy, const struct shard_id *id,
			      const struct provider_facts *providers, unsigned provider_count,
			      const struct copy_row *existing, unsigned existing_count,
			      struct candidate out[PLACEMENT_PROVIDERS_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < MIN(provider_count, (unsigned)PLACEMENT_PROVIDERS_MAX); i++) {
		uint8_t preference = preference_of(&providers[i], existing, existing_count);

		if (preference == 255 || !policy_allows(policy, providers[i].name) ||
		    (providers[i].weight < 0 && preference > 0))
			continue;
		out[count++] = (struct candidate){.facts = &providers[i],
						  .preference = preference,
						  .role = role_rank(providers[i].role),
						  .score = rendezvous(id, &providers[i])};
	}
	qsort(out, count, sizeof(out[0]), candidate_compare);
	number_names(out, count);
	return count;
}

void placement_choose(const struct policy *policy, const struct shard_id *id,
		      const struct provider_facts *providers, unsigned provider_count,
		      const struct copy_row *existing, unsigned existing_count,
		      uint32_t chosen[PLACEMENT_COPIES_MAX], unsigned *count)
{
	struct candidate candidates[PLACEMENT_PROVIDERS_MAX];
	unsigned all = candidates_of(policy, id, providers, provider_count, existing,
				     existing_count, candidates);
	struct goal goal = goal_of(policy);
	unsigned willing = 0;
	struct search search;

	while (willing < all && candidates[willing].preference < 3)
		willing++;
	goal.copies = MIN(goal.copies, all);
	*count = 0;
	if (goal.copies == 0)
		return;
	if (!search_goal(&search, candidates, willing, &goal))
		while (!search_goal(&search, candidates, all, &goal))
			goal_lower(&goal);
	for (unsigned i = 0; i < search.chosen_count; i++)
		chosen[i] = candidates[search.chosen[i]].facts->provider_no;
	*count = search.chosen_count;
}

void placement_count_supply(const struct policy *policy, const struct provider_facts *providers,
			    unsigned provider_count, struct placement_supply *out)
{
	static const struct shard_id any_id;
	struct candidate candidates[PLACEMENT_PROVIDERS_MAX];
	unsigned count = candidates_of(policy, &any_id, providers, provider_count, NULL, 0,
				       candidates);
	struct goal goal = goal_of(policy);
	struct search search;

	*out = (struct placement_supply){.providers = count};
	for (unsigned i = 0; i < count; i++) {
		out->vendors += candidates[i].vendor_no == i;
		out->regions += candidates[i].region_no == i;
	}
	out->is_satisfiable = search_goal(&search, candidates, count, &goal);
}

bool placement_meets(const struct policy *policy, const struct provider_facts *providers,
		     unsigned provider_count, const uint32_t *provider_nos, unsigned count)
{
	struct candidate candidates[PLACEMENT_PROVIDERS_MAX];
	struct search tally = {.candidates = candidates, .goal = goal_of(policy)};
	unsigned found = 0, most = 0, half;

	for (unsigned i = 0; i < MIN(provider_count, (unsigned)PLACEMENT_PROVIDERS_MAX); i++)
		for (unsigned j = 0; j < count; j++)
			if (providers[i].provider_no == provider_nos[j] &&
			    policy_allows(policy, providers[i].name)) {
				candidates[found++] = (struct candidate){.facts = &providers[i]};
				break;
			}
	number_names(candidates, found);
	if (found < policy->copies)
		return false;
	/* more copies than asked for: each counts for vendors and regions */
	for (unsigned i = 0; i < found; i++) {
		tally.vendor_count += tally.in_vendor[candidates[i].vendor_no]++ == 0;
		tally.region_count += tally.in_region[candidates[i].region_no]++ == 0;
		most = MAX(most, tally.in_region[candidates[i].region_no]);
	}
	if (tally.vendor_count < policy->vendors || tally.region_count < policy->regions ||
	    found - most < policy->region_loss)
		return false;
	if (policy->vendors_in_two_regions == 0)
		return true;
	tally.chosen_count = MIN(found, (unsigned)PLACEMENT_COPIES_MAX);
	for (unsigned i = 0; i < tally.chosen_count; i++)
		tally.chosen[i] = i;
	return count_wide_vendors(&tally, &half) >= policy->vendors_in_two_regions;
}

const char *protection_name(enum protection protection)
{
	static const char *const names[] = {"protected", "replicating", "degraded",
					    "local",	 "endangered",	"lost"};

	return protection <= PROTECTION_LOST ? names[protection] : "?";
}

static const struct provider_facts *facts_of(const struct provider_facts *providers,
					     unsigned provider_count, uint32_t provider_no)
{
	for (unsigned i = 0; i < provider_count; i++)
		if (providers[i].provider_no == provider_no)
			return &providers[i];
	return NULL;
}

enum protection placement_judge(const struct policy *policy, const struct copy_row *copies,
				unsigned copy_count, const struct provider_facts *providers,
				unsigned provider_count, bool in_spool, unsigned *valid,
				unsigned *wanted)
{
	uint32_t nos[PLACEMENT_PROVIDERS_MAX]; /* the valid ones, then those under way */
	unsigned valid_count = 0, count, owed[PLACEMENT_PROVIDERS_MAX], owed_count = 0;
	bool is_short = false; /* a copy is bad, or owed where nothing moves */

	for (unsigned i = 0; i < copy_count; i++) {
		const struct provider_facts *facts =
			facts_of(providers, provider_count, copies[i].provider_no);

		if (!facts)
			continue;
		if (copy_is_valid(&copies[i]) && valid_count < PLACEMENT_PROVIDERS_MAX)
			nos[valid_count++] = copies[i].provider_no;
		else if (copies[i].state == COPY_MISSING || copies[i].state == COPY_CORRUPT)
			is_short = true;
		else if (copy_is_owed(&copies[i]) && facts->is_present && facts->takes_new &&
			 owed_count < PLACEMENT_PROVIDERS_MAX)
			owed[owed_count++] = copies[i].provider_no;
		else if (copy_is_owed(&copies[i]))
			is_short = true;
	}
	if (valid)
		*valid = valid_count;
	if (wanted)
		*wanted = policy->copies;
	if (valid_count == 0)
		return in_spool ? PROTECTION_LOCAL : PROTECTION_LOST;
	if (valid_count == 1 && !in_spool && policy->copies > 1)
		return PROTECTION_ENDANGERED;
	if (placement_meets(policy, providers, provider_count, nos, valid_count))
		return PROTECTION_PROTECTED;
	count = valid_count;
	for (unsigned i = 0; i < owed_count && count < PLACEMENT_PROVIDERS_MAX; i++)
		nos[count++] = owed[i];
	if (is_short || !placement_meets(policy, providers, provider_count, nos, count))
		return PROTECTION_DEGRADED;
	return PROTECTION_REPLICATING;
}
