/* SPDX-License-Identifier: Apache-2.0 */
#include "store/placement.h"

#include "util/mem.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROVIDERS_MAX 8
#define ROUNDS	      400

struct dice {
	uint64_t state;
};

static uint64_t draw(struct dice *dice, uint64_t below)
{
	dice->state += 0x9e3779b97f4a7c15u;
	uint64_t z = dice->state;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static struct dice dice_new(void)
{
	const char *given = getenv("SHARDFS_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);

	fprintf(stderr, "SHARDFS_TEST_SEED=%llu\n", (unsigned long long)seed);
	return (struct dice){seed};
}

static const char *const names[PROVIDERS_MAX + 1] = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};
static const char *const vendors[] = {"v1", "v2", "v3", "v4", ""};
static const char *const regions[] = {"r1", "r2", "r3", "r4", "r5"};
static const char *const roles[] = {"primary", "secondary", "tertiary"};

static unsigned draw_providers(struct dice *dice, unsigned count_max, struct provider_facts *out)
{
	unsigned count = 1 + draw(dice, count_max);

	for (unsigned i = 0; i < count; i++)
		out[i] = (struct provider_facts){.provider_no = i + 1,
						 .name = names[i],
						 .vendor = vendors[draw(dice, ARRAY_COUNT(vendors))],
						 .region = regions[draw(dice, ARRAY_COUNT(regions))],
						 .role = roles[draw(dice, 3)],
						 .is_present = draw(dice, 4) > 0,
						 .takes_new = draw(dice, 6) > 0,
						 .weight = 1 + draw(dice, 3)};
	return count;
}

static void draw_policy(struct dice *dice, struct policy *out)
{
	char text[POLICY_TEXT_SIZE];
	AUTO(buf) why = BUF_INIT;

	do {
		unsigned copies = 1 + draw(dice, 7);

		snprintf(text, sizeof(text),
			 "copies=%u,vendors=%u,regions=%u,region_loss=%u,"
			 "vendors_in_two_regions=%u%s%s,ack=%s,priority=%s",
			 copies, 1 + (unsigned)draw(dice, 4), 1 + (unsigned)draw(dice, 5),
			 (unsigned)draw(dice, 3), (unsigned)draw(dice, 5) / 3,
			 draw(dice, 4) ? "" : ",not=b+a+b", draw(dice, 6) ? "" : ",only=d+a+c+b",
			 policy_ack_name(draw(dice, 4)), policy_priority_name(draw(dice, 4)));
	} while (policy_parse(text, out, &why) < 0);
}

static struct shard_id draw_id(struct dice *dice)
{
	struct shard_id id;

	for (unsigned i = 0; i < sizeof(id.b); i++)
		id.b[i] = draw(dice, 256);
	return id;
}

static unsigned draw_copies(struct dice *dice, unsigned provider_count, struct copy_row *out)
{
	static const uint32_t states[] = {COPY_PENDING, COPY_UPLOADING, COPY_PRESENT,
					  COPY_VERIFIED, COPY_MISSING,	COPY_CORRUPT,
					  COPY_QUARANTINED};
	unsigned count = 0;

	for (unsigned no = 1; no <= provider_count + 1; no++) /* the last is forgotten */
		if (draw(dice, 2))
			out[count++] = (struct copy_row){.provider_no = no,
							 .state = states[draw(dice, 7)]};
	return count;
}

static bool has(const uint32_t *nos, unsigned count, uint32_t no)
{
	for (unsigned i = 0; i < count; i++)
		if (nos[i] == no)
			return true;
	return false;
}

static const char *vendor_name(const struct provider_facts *facts)
{
	return facts->vendor[0] ? facts->vendor : facts->name;
}

/* The policy, written down a second time, over sets of bits. */
static bool naive_meets(const struct policy *policy, const struct provider_facts *providers,
			unsigned provider_count, unsigned set)
{
	unsigned count = 0, vendor_count = 0, region_count = 0, wide = 0;

	for (unsigned i = 0; i < provider_count; i++) {
		unsigned in_region = 0, other_regions = 0, all = 0;
		bool first_of_vendor = true, first_of_region = true;

		if (!policy_allows(policy, providers[i].name))
			set &= ~BIT(i);
		if (!(set & BIT(i)))
			continue;
		count++;
		for (unsigned j = 0; j < provider_count; j++) {
			bool same_vendor = strcmp(vendor_name(&providers[i]),
						  vendor_name(&providers[j])) == 0;
			bool same_region = strcmp(providers[i].region, providers[j].region) == 0;

			if (!(set & BIT(j)) || !policy_allows(policy, providers[j].name))
				continue;
			all++;
			in_region += same_region;
			first_of_vendor &= !(same_vendor && j < i);
			first_of_region &= !(same_region && j < i);
			other_regions += same_vendor && !same_region;
		}
		vendor_count += first_of_vendor;
		region_count += first_of_region;
		wide += first_of_vendor && other_regions > 0;
		if (all - in_region < policy->region_loss)
			return false;
	}
	return count >= policy->copies && vendor_count >= policy->vendors &&
	       region_count >= policy->regions && wide >= policy->vendors_in_two_regions;
}

static bool naive_satisfiable(const struct policy *policy, const struct provider_facts *providers,
			      unsigned provider_count, unsigned allowed)
{
	for (unsigned set = 0; set < BIT(provider_count); set++)
		if ((set & ~allowed) == 0 &&
		    (unsigned)__builtin_popcount(set) == policy->copies &&
		    naive_meets(policy, providers, provider_count, set))
			return true;
	return false;
}

static unsigned bits_of(const uint32_t *nos, unsigned count)
{
	unsigned set = 0;

	for (unsigned i = 0; i < count; i++)
		set |= BIT(nos[i] - 1);
	return set;
}

Test(placement, choice_meets_the_policy_whenever_some_choice_does)
{
	struct dice dice = dice_new();

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct provider_facts providers[PROVIDERS_MAX];
		unsigned provider_count = draw_providers(&dice, PROVIDERS_MAX, providers), count;
		struct copy_row copies[PROVIDERS_MAX + 1];
		unsigned copy_count = draw_copies(&dice, provider_count, copies);
		struct shard_id id = draw_id(&dice);
		uint32_t chosen[PLACEMENT_COPIES_MAX];
		unsigned usable = 0, willing = 0, usable_count;
		struct policy policy;
		struct placement_supply supply;

		draw_policy(&dice, &policy);
		placement_choose(&policy, &id, providers, provider_count, copies, copy_count,
				 chosen, &count);
		for (unsigned i = 0; i < provider_count; i++) {
			bool is_valid = false;

			for (unsigned j = 0; j < copy_count; j++)
				is_valid |= copies[j].provider_no == i + 1 &&
					    copy_is_valid(&copies[j]);
			if (!policy_allows(&policy, providers[i].name))
				continue;
			usable |= BIT(i);
			if (is_valid || providers[i].takes_new)
				willing |= BIT(i);
		}
		usable_count = __builtin_popcount(usable);
		cr_assert_eq(count, MIN(policy.copies, usable_count), "round %u", round);
		for (unsigned i = 0; i < count; i++) {
			cr_assert(usable & BIT(chosen[i] - 1), "round %u: not allowed", round);
			cr_assert_not(has(chosen, i, chosen[i]), "round %u: twice", round);
		}
		placement_count_supply(&policy, providers, provider_count, &supply);
		cr_assert_eq(supply.providers, usable_count);
		cr_assert_eq(supply.is_satisfiable,
			     naive_satisfiable(&policy, providers, provider_count, usable));
		if (supply.is_satisfiable)
			cr_assert(naive_meets(&policy, providers, provider_count,
					      bits_of(chosen, count)),
				  "round %u: could be met", round);
		if (naive_satisfiable(&policy, providers, provider_count, willing))
			cr_assert_eq(bits_of(chosen, count) & ~willing, 0,
				     "round %u: asks a full provider without need", round);
	}
}

Test(placement, full_set_that_meets_the_policy_stays_where_it_is)
{
	struct dice dice = dice_new();

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct provider_facts providers[PROVIDERS_MAX];
		unsigned provider_count = draw_providers(&dice, PROVIDERS_MAX - 1, providers);
		struct shard_id id = draw_id(&dice);
		uint32_t before[PLACEMENT_COPIES_MAX], after[PLACEMENT_COPIES_MAX];
		struct copy_row copies[PLACEMENT_COPIES_MAX];
		unsigned before_count, after_count;
		struct policy policy;

		draw_policy(&dice, &policy);
		placement_choose(&policy, &id, providers, provider_count, NULL, 0, before,
				 &before_count);
		if (!placement_meets(&policy, providers, provider_count, before, before_count))
			continue;
		for (unsigned i = 0; i < before_count; i++)
			copies[i] = (struct copy_row){.provider_no = before[i],
						      .state = COPY_PRESENT};
		providers[provider_count] =
			(struct provider_facts){.provider_no = provider_count + 1,
						.name = "z",
						.vendor = "vz",
						.region = "rz",
						.role = "primary",
						.is_present = true,
						.takes_new = true,
						.weight = 9};
		placement_choose(&policy, &id, providers, provider_count + 1, copies, before_count,
				 after, &after_count);
		cr_assert_eq(bits_of(before, before_count), bits_of(after, after_count),
			     "round %u", round);
	}
}

Test(placement, new_provider_moves_only_its_own_share_of_new_shards)
{
	struct dice dice = dice_new();
	struct provider_facts providers[7];
	struct policy policy = {.copies = 3, .vendors = 1, .regions = 1};
	unsigned moved = 0, shards = 7000;

	for (unsigned i = 0; i < 7; i++)
		providers[i] = (struct provider_facts){.provider_no = i + 1,
						       .name = names[i],
						       .vendor = "",
						       .region = "",
						       .role = "primary",
						       .is_present = true,
						       .takes_new = true,
						       .weight = 1};
	for (unsigned n = 0; n < shards; n++) {
		struct shard_id id = draw_id(&dice);
		uint32_t before[PLACEMENT_COPIES_MAX], after[PLACEMENT_COPIES_MAX];
		unsigned before_count, after_count, gone;

		placement_choose(&policy, &id, providers, 6, NULL, 0, before, &before_count);
		placement_choose(&policy, &id, providers, 7, NULL, 0, after, &after_count);
		gone = bits_of(before, before_count) & ~bits_of(after, after_count);
		cr_assert_leq(__builtin_popcount(gone), 1);
		cr_assert_eq(gone != 0, has(after, after_count, 7));
		moved += gone != 0;
	}
	/* 3 of 7 providers hold a shard, so the new one gets 3/7 of them */
	cr_assert(moved > shards * 38 / 100 && moved < shards * 48 / 100, "%u moved", moved);
}

Test(placement, heavier_provider_gets_more)
{
	struct dice dice = dice_new();
	struct policy policy = {.copies = 1, .vendors = 1, .regions = 1};
	struct provider_facts providers[2] = {
		{.provider_no = 1, .name = "a", .takes_new = true, .weight = 1},
		{.provider_no = 2, .name = "b", .takes_new = true, .weight = 3}};
	unsigned heavy = 0;

	for (unsigned n = 0; n < 8000; n++) {
		struct shard_id id = draw_id(&dice);
		uint32_t chosen[PLACEMENT_COPIES_MAX];
		unsigned count;

		placement_choose(&policy, &id, providers, 2, NULL, 0, chosen, &count);
		heavy += chosen[0] == 2;
	}
	cr_assert(heavy > 5700 && heavy < 6300, "%u of 8000", heavy);
}

/* Issue 2, item 8, sentence by sentence: "the first that fits". */
static enum protection naive_judge(const struct policy *policy, const struct copy_row *copies,
				   unsigned copy_count, const struct provider_facts *providers,
				   unsigned provider_count, bool in_spool)
{
	unsigned valid = 0, moving = 0;
	bool bad = false;

	for (unsigned i = 0; i < copy_count; i++) {
		uint32_t no = copies[i].provider_no;

		if (no > provider_count)
			continue; /* forgotten */
		switch (copies[i].state) {
		case COPY_PRESENT:
		case COPY_VERIFIED:
			valid |= BIT(no - 1);
			break;
		case COPY_MISSING:
		case COPY_CORRUPT:
			bad = true;
			break;
		case COPY_PENDING:
		case COPY_UPLOADING:
			if (providers[no - 1].is_present && providers[no - 1].takes_new)
				moving |= BIT(no - 1);
			else
				bad = true;
			break;
		}
	}
	if (valid == 0 && !in_spool)
		return PROTECTION_LOST;
	if (__builtin_popcount(valid) == 1 && !in_spool && policy->copies > 1)
		return PROTECTION_ENDANGERED;
	if (valid == 0)
		return PROTECTION_LOCAL;
	if (naive_meets(policy, providers, provider_count, valid))
		return PROTECTION_PROTECTED;
	if (bad || !naive_meets(policy, providers, provider_count, valid | moving))
		return PROTECTION_DEGRADED;
	return PROTECTION_REPLICATING;
}

Test(placement, status_is_the_first_word_that_fits)
{
	struct dice dice = dice_new();
	unsigned seen[PROTECTION_LOST + 1] = {0};

	/* some words are rare: on until each came up */
	for (unsigned round = 0, words = 0;
	     round < 10 * ROUNDS || (words <= PROTECTION_LOST && round < 1000 * ROUNDS); round++) {
		struct provider_facts providers[PROVIDERS_MAX];
		unsigned provider_count = draw_providers(&dice, PROVIDERS_MAX - 3, providers);
		struct copy_row copies[PROVIDERS_MAX + 1];
		unsigned copy_count = draw_copies(&dice, provider_count, copies);
		bool in_spool = draw(&dice, 2);
		enum protection judged, naive;
		unsigned valid, wanted;
		struct policy policy;

		draw_policy(&dice, &policy);
		judged = placement_judge(&policy, copies, copy_count, providers, provider_count,
					 in_spool, &valid, &wanted);
		naive = naive_judge(&policy, copies, copy_count, providers, provider_count,
				    in_spool);
		cr_assert_eq(judged, naive, "round %u: %s, not %s", round, protection_name(judged),
			     protection_name(naive));
		cr_assert_eq(wanted, policy.copies);
		words += seen[judged]++ == 0;
	}
	for (unsigned i = 0; i <= PROTECTION_LOST; i++)
		cr_assert(seen[i] > 0, "%s never came up", protection_name(i));
}

Test(policy, what_is_printed_parses_to_the_same)
{
	struct dice dice = dice_new();

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct policy policy, again;
		char text[POLICY_TEXT_SIZE], text_again[POLICY_TEXT_SIZE];
		AUTO(buf) why = BUF_INIT;

		draw_policy(&dice, &policy);
		policy_print(&policy, text);
		cr_assert_eq(policy_parse(text, &again, &why), 0, "%s: %s", text, buf_str(&why));
		cr_assert_eq(memcmp(&policy, &again, sizeof(policy)), 0, "%s", text);
		policy_print(&again, text_again);
		cr_assert_str_eq(text, text_again);
	}
}
