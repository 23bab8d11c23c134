/* SPDX-License-Identifier: Apache-2.0 */
#include "store/policy.h"

#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct policy parsed(const char *text)
{
	struct policy policy;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(policy_parse(text, &policy, &why), 0, "%s: %s", text, buf_str(&why));
	return policy;
}

static void refused(const char *text, const char *word)
{
	struct policy policy;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(policy_parse(text, &policy, &why), -EINVAL, "%s was taken", text);
	cr_assert(strstr(buf_str(&why), word), "%s: \"%s\" does not say %s", text, buf_str(&why),
		  word);
}

static void prints(const char *text, const char *canonical)
{
	struct policy policy = parsed(text);
	char out[POLICY_TEXT_SIZE];

	cr_assert_eq(policy_print(&policy, out), 0);
	cr_assert_str_eq(out, canonical);
}

Test(policy, levels_are_those_of_the_runbook)
{
	struct policy one = parsed("level1"), two = parsed("level2"), three = parsed("level3");

	cr_assert(one.copies == 3 && one.vendors == 3);
	cr_assert(two.copies == 5 && two.vendors == 3 && two.regions == 3 && two.region_loss == 2);
	cr_assert(three.copies == 7 && three.vendors == 3 && three.regions == 5 &&
		  three.vendors_in_two_regions == 2);
	cr_assert(one.ack == ACK_LOCAL && one.priority == PRIORITY_MEDIUM);
}

Test(policy, text_is_canonical)
{
	prints("3", "copies=3");
	prints(" copies=3 , vendors=1 ", "copies=3");
	prints("level2,priority=high,ack=quorum", "level2,ack=quorum,priority=high");
	prints("level2,copies=6", "copies=6,vendors=3,regions=3,region_loss=2");
	prints("level1,copies=3", "level1");
	prints("ack=all,copies=2,not=c+a+c", "copies=2,not=a+c,ack=all");
	prints("only=b+a,copies=2", "copies=2,only=a+b");
}

Test(policy, refusal_names_the_word_and_what_is_allowed)
{
	refused("", "level1");
	refused("copies=0", "1 .. 16");
	refused("copies=17", "1 .. 16");
	refused("copies=-1", "1 .. 16");
	refused("level4", "level4");
	refused("copies=2,speed=3", "speed");
	refused("copies=2,ack=most", "quorum");
	refused("copies=2,copies=3", "twice");
	refused("copies=2,vendors=3", "vendors=3");
	refused("copies=2,region_loss=2", "region_loss=2");
	refused("level3,copies=3", "regions=5");
	refused("copies=2,only=a++b", "only");
	refused("copies=2,only=", "only");
	refused("copies=2,only=../x", "only");
	refused("ack=all", "copies");
	refused("ec:4+2", "erasure");
	refused("2,level1", "level1");
	refused("copies=2,", "key=value");
	refused("copies=2,not=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"too long");
}

Test(policy, acknowledgement_levels_count_copies)
{
	struct policy policy = parsed("copies=5,ack=quorum");

	cr_assert_eq(policy_ack_copies(&policy), 3);
	policy = parsed("copies=2,ack=quorum");
	cr_assert_eq(policy_ack_copies(&policy), 2);
	policy = parsed("level1,ack=all");
	cr_assert_eq(policy_ack_copies(&policy), 3);
	policy = parsed("level1,ack=one");
	cr_assert_eq(policy_ack_copies(&policy), 1);
	policy = parsed("level1");
	cr_assert_eq(policy_ack_copies(&policy), 0);
}

Test(policy, goal_beyond_the_providers_is_refused)
{
	struct provider_facts providers[] = {
		{.provider_no = 1, .name = "a", .vendor = "x", .region = "r", .takes_new = true},
		{.provider_no = 2, .name = "b", .vendor = "x", .region = "r", .takes_new = false},
		{.provider_no = 3, .name = "c", .vendor = "y", .region = "s", .takes_new = true},
	};
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"copies=3", NULL},
		{"copies=3,vendors=2,regions=2,region_loss=1", NULL},
		{"copies=5", "copies=5 needs 5 providers; there are 3"},
		{"copies=3,vendors=3", "vendors=3: there are 2"},
		{"copies=3,regions=3", "regions=3: there are 2"},
		{"copies=3,region_loss=2", "no choice"},
		{"copies=2,not=c", NULL},
		{"copies=3,not=c", "needs 3 providers; there are 2"},
		{"copies=2,only=a+d", "there is no provider d"},
	};

	for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
		struct policy policy = parsed(cases[i].text);
		AUTO(buf) why = BUF_INIT;
		int r = policy_check(&policy, providers, ARRAY_COUNT(providers), &why);

		cr_assert_eq(r, cases[i].why ? -EDOM : 0, "%s", cases[i].text);
		if (cases[i].why)
			cr_assert(strstr(buf_str(&why), cases[i].why), "%s: %s", cases[i].text,
				  buf_str(&why));
	}
}
