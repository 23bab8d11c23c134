/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A policy is a handful of numbers.  Parsing goes word by word: the first may name a level or a
 * number of copies, each further word sets one key, and one key is set once.  What comes out is
 * canonical (lists sorted, a level's name kept only while its goal is untouched), so that equal
 * policies are equal bytes and print alike.
 */

#include "store/policy.h"

#include "store/placement.h"
#include "util/mem.h"
#include "util/units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLICY_NAMES_MAX 16

static const char *const ack_names[] = {"local", "one", "quorum", "all", NULL};
static const char *const priority_names[] = {"critical", "high", "medium", "low", NULL};

static const struct policy levels[] = {
	{.level = "level1", .copies = 3, .vendors = 3, .regions = 1},
	{.level = "level2", .copies = 5, .vendors = 3, .regions = 3, .region_loss = 2},
	{.level = "level3", .copies = 7, .vendors = 3, .regions = 5, .vendors_in_two_regions = 2},
};

struct number_key {
	const char *name;
	size_t offset;
	uint32_t min, max;
};

static const struct number_key number_keys[] = {
	{"copies", offsetof(struct policy, copies), 1, PLACEMENT_COPIES_MAX},
	{"vendors", offsetof(struct policy, vendors), 1, PLACEMENT_COPIES_MAX},
	{"regions", offsetof(struct policy, regions), 1, PLACEMENT_COPIES_MAX},
	{"region_loss", offsetof(struct policy, region_loss), 0, PLACEMENT_COPIES_MAX - 1},
	{"vendors_in_two_regions", offsetof(struct policy, vendors_in_two_regions), 0,
	 PLACEMENT_COPIES_MAX / 2},
};

static uint32_t *number_of(struct policy *policy, const struct number_key *key)
{
	return (uint32_t *)((char *)policy + key->offset);
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_provider_name(const char *name)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				  "0123456789._-");

	return len > 0 && name[len] == '\0';
}

/* "b+a+b" becomes "a+b". */
static int parse_names(const char *key, char *value, char *out, size_t out_size, struct buf *why)
{
	char *names[POLICY_NAMES_MAX], *rest = value;
	unsigned count = 0;
	size_t used = 0;

	if (strlen(value) >= out_size) {
		buf_printf(why, "%s: too long, at most %zu bytes", key, out_size - 1);
		return -EINVAL;
	}
	while (rest) {
		char *name = strsep(&rest, "+");

		if (!is_provider_name(name) || count == POLICY_NAMES_MAX) {
			buf_printf(why, "%s=: 1 .. %d names of providers joined by '+'", key,
				   POLICY_NAMES_MAX);
			return -EINVAL;
		}
		names[count++] = name;
	}
	qsort(names, count, sizeof(names[0]), name_compare);
	memset(out, 0, out_size);
	for (unsigned i = 0; i < count; i++) {
		size_t len = strlen(names[i]);

		if (i > 0 && strcmp(names[i], names[i - 1]) == 0)
			continue;
		if (used > 0)
			out[used++] = '+';
		memcpy(out + used, names[i], len);
		used += len;
	}
	return 0;
}

static int parse_choice(const char *key, const char *value, const char *const *names, int *out,
			struct buf *why)
{
	for (int i = 0; names[i]; i++)
		if (strcmp(names[i], value) == 0) {
			*out = i;
			return 0;
		}
	buf_printf(why, "%s=%s: must be", key, value);
	for (int i = 0; names[i]; i++)
		buf_printf(why, "%s %s", i == 0 ? "" : names[i + 1] ? "," : " or", names[i]);
	return -EINVAL;
}

static int parse_number(const struct number_key *key, const char *value, struct policy *policy,
			struct buf *why)
{
	uint64_t n;

	if (units_parse_count(value, &n) < 0 || n < key->min || n > key->max) {
		buf_printf(why, "%s=%s: must be %u .. %u", key->name, value, key->min, key->max);
		return -EINVAL;
	}
	*number_of(policy, key) = n;
	return 0;
}

/* seen: one bit for each key that was set, so that none is set twice. */
static int parse_word(char *word, struct policy *policy, unsigned *seen, struct buf *why)
{
	char *value = strchr(word, '=');
	unsigned bit = ARRAY_COUNT(number_keys);
	int choice, r;

	if (!value) {
		buf_printf(why, "%s: must be key=value, or first level1, level2, level3 or a "
				"number of copies",
			   word);
		return -EINVAL;
	}
	*value++ = '\0';
	for (unsigned i = 0; i < ARRAY_COUNT(number_keys); i++)
		if (strcmp(number_keys[i].name, word) == 0)
			bit = i;
	if (bit < ARRAY_COUNT(number_keys)) {
		r = parse_number(&number_keys[bit], value, policy, why);
	} else if (strcmp(word, "only") == 0) {
		bit += 0;
		r = parse_names(word, value, policy->only, sizeof(policy->only), why);
	} else if (strcmp(word, "not") == 0) {
		bit += 1;
		r = parse_names(word, value, policy->not, sizeof(policy->not), why);
	} else if (strcmp(word, "ack") == 0) {
		bit += 2;
		r = parse_choice(word, value, ack_names, &choice, why);
		if (r == 0)
			policy->ack = choice;
	} else if (strcmp(word, "priority") == 0) {
		bit += 3;
		r = parse_choice(word, value, priority_names, &choice, why);
		if (r == 0)
			policy->priority = choice;
	} else {
		buf_printf(why, "%s: no such key; there are copies, vendors, regions, region_loss, "
				"vendors_in_two_regions, only, not, ack and priority",
			   word);
		return -EINVAL;
	}
	if (r == 0 && (*seen & BIT(bit))) {
		buf_printf(why, "%s: given twice", word);
		return -EINVAL;
	}
	*seen |= BIT(bit);
	return r;
}

/* The first word may be a level or a number.  1: it was. */
static int parse_base(const char *word, struct policy *policy, struct buf *why)
{
	enum policy_priority priority = policy->priority;

	for (unsigned i = 0; i < ARRAY_COUNT(levels); i++)
		if (strcmp(levels[i].level, word) == 0) {
			*policy = levels[i];
			policy->priority = priority;
			return 1;
		}
	if (strncmp(word, "ec:", 3) == 0) {
		buf_printf(why, "%s: erasure coding is not there yet; use copies=N", word);
		return -EINVAL;
	}
	if (word[0] >= '0' && word[0] <= '9') {
		int r = parse_number(&number_keys[0], word, policy, why);

		return r < 0 ? r : 1;
	}
	return 0;
}

static bool goal_is_level(const struct policy *policy, const struct policy *level)
{
	return policy->copies == level->copies && policy->vendors == level->vendors &&
	       policy->regions == level->regions && policy->region_loss == level->region_loss &&
	       policy->vendors_in_two_regions == level->vendors_in_two_regions;
}

/* What no providers whatsoever could satisfy. */
static int check_sense(const struct policy *policy, struct buf *why)
{
	if (policy->vendors > policy->copies)
		buf_printf(why, "vendors=%u: more than copies=%u", policy->vendors, policy->copies);
	else if (policy->regions > policy->copies)
		buf_printf(why, "regions=%u: more than copies=%u", policy->regions, policy->copies);
	else if (policy->region_loss >= policy->copies)
		buf_printf(why, "region_loss=%u: must be less than copies=%u", policy->region_loss,
			   policy->copies);
	else if (2 * policy->vendors_in_two_regions > policy->copies)
		buf_printf(why, "vendors_in_two_regions=%u: needs copies=%u",
			   policy->vendors_in_two_regions, 2 * policy->vendors_in_two_regions);
	else
		return 0;
	return -EINVAL;
}

static char *trim(char *word)
{
	size_t len;

	word += strspn(word, " \t\n");
	len = strlen(word);
	while (len > 0 && strchr(" \t\n", word[len - 1]))
		word[--len] = '\0';
	return word;
}

int policy_parse(const char *text, struct policy *out, struct buf *why)
{
	struct policy policy = {
		.copies = 1, .vendors = 1, .regions = 1, .priority = PRIORITY_MEDIUM};
	char copy[POLICY_TEXT_SIZE], *rest = copy;
	unsigned seen = 0;
	bool is_first = true, has_goal;
	int r;

	if (strlen(text) >= sizeof(copy)) {
		buf_printf(why, "policy is longer than %zu bytes", sizeof(copy) - 1);
		return -EINVAL;
	}
	strcpy(copy, text);
	while (rest) {
		char *word = trim(strsep(&rest, ","));

		r = is_first ? parse_base(word, &policy, why) : 0;
		if (r == 0)
			r = parse_word(word, &policy, &seen, why);
		else if (r > 0)
			seen |= BIT(31);
		if (r < 0)
			return r;
		is_first = false;
	}
	has_goal = seen & (BIT(31) | BIT(0));
	if (!has_goal) {
		buf_printf(why, "copies=N, a level or a number of copies is missing");
		return -EINVAL;
	}
	r = check_sense(&policy, why);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < ARRAY_COUNT(levels); i++)
		if (strcmp(levels[i].level, policy.level) == 0 &&
		    !goal_is_level(&policy, &levels[i]))
			memset(policy.level, 0, sizeof(policy.level));
	*out = policy;
	return 0;
}

static void print_word(char *out, const char *key, const char *value)
{
	size_t used = strlen(out);

	snprintf(out + used, POLICY_TEXT_SIZE - used, "%s%s%s%s", used > 0 ? "," : "", key,
		 key[0] ? "=" : "", value);
}

int policy_print(const struct policy *policy, char out[POLICY_TEXT_SIZE])
{
	char number[16];

	out[0] = '\0';
	if (policy->level[0])
		print_word(out, "", policy->level);
	for (unsigned i = 0; !policy->level[0] && i < ARRAY_COUNT(number_keys); i++) {
		const struct number_key *key = &number_keys[i];
		uint32_t n = *number_of((struct policy *)policy, key);

		if (i > 0 && n == key->min)
			continue; /* the default */
		snprintf(number, sizeof(number), "%u", n);
		print_word(out, key->name, number);
	}
	if (policy->only[0])
		print_word(out, "only", policy->only);
	if (policy->not[0])
		print_word(out, "not", policy->not);
	if (policy->ack != ACK_LOCAL)
		print_word(out, "ack", policy_ack_name(policy->ack));
	if (policy->priority != PRIORITY_MEDIUM)
		print_word(out, "priority", policy_priority_name(policy->priority));
	return 0;
}

const char *policy_ack_name(enum policy_ack ack)
{
	return ack <= ACK_ALL ? ack_names[ack] : "?";
}

const char *policy_priority_name(enum policy_priority priority)
{
	return priority <= PRIORITY_LOW ? priority_names[priority] : "?";
}

unsigned policy_ack_copies(const struct policy *policy)
{
	switch (policy->ack) {
	case ACK_LOCAL:
		return 0;
	case ACK_ONE:
		return 1;
	case ACK_QUORUM:
		return policy->copies / 2 + 1;
	case ACK_ALL:
		return policy->copies;
	}
	return 0;
}

static bool names_have(const char *names, const char *name)
{
	size_t len = strlen(name);

	while (*names) {
		size_t this_len = strcspn(names, "+");

		if (this_len == len && memcmp(names, name, len) == 0)
			return true;
		names += this_len;
		names += *names == '+';
	}
	return false;
}

bool policy_allows(const struct policy *policy, const char *provider_name)
{
	if (policy->only[0] && !names_have(policy->only, provider_name))
		return false;
	return !names_have(policy->not, provider_name);
}

static int check_names(const char *key, const char *names, const struct provider_facts *providers,
		       unsigned provider_count, struct buf *why)
{
	while (*names) {
		size_t len = strcspn(names, "+");
		bool found = false;

		for (unsigned i = 0; i < provider_count; i++)
			found |= strlen(providers[i].name) == len &&
				 memcmp(providers[i].name, names, len) == 0;
		if (!found) {
			buf_printf(why, "%s: there is no provider %.*s", key, (int)len, names);
			return -EDOM;
		}
		names += len;
		names += *names == '+';
	}
	return 0;
}

int policy_check(const struct policy *policy, const struct provider_facts *providers,
		 unsigned provider_count, struct buf *why)
{
	struct placement_supply supply;
	char text[POLICY_TEXT_SIZE];
	int r;

	r = check_names("only", policy->only, providers, provider_count, why);
	if (r == 0)
		r = check_names("not", policy->not, providers, provider_count, why);
	if (r < 0)
		return r;
	placement_count_supply(policy, providers, provider_count, &supply);
	if (supply.providers < policy->copies)
		buf_printf(why, "copies=%u needs %u providers; there are %u", policy->copies,
			   policy->copies, supply.providers);
	else if (supply.vendors < policy->vendors)
		buf_printf(why, "vendors=%u: there are %u", policy->vendors, supply.vendors);
	else if (supply.regions < policy->regions)
		buf_printf(why, "regions=%u: there are %u", policy->regions, supply.regions);
	else if (!supply.is_satisfiable) {
		policy_print(policy, text);
		buf_printf(why, "%s: no choice of %u out of %u providers has these vendors and "
				"regions",
			   text, policy->copies, supply.providers);
	} else
		return 0;
	return -EDOM;
}

bool policy_covers(const struct policy *have, const struct policy *want)
{
	return have->copies >= want->copies && have->vendors >= want->vendors &&
	       have->regions >= want->regions && have->region_loss >= want->region_loss &&
	       have->vendors_in_two_regions >= want->vendors_in_two_regions;
}
