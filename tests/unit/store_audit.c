/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of the audit log over restarts, and what breaks it. */
#include "store/store_private.h"
#include "tests/lib/hooks.h"
#include "tests/lib/store_world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct store_world world;

static void setup(void)
{
	test_hooks("");
	store_world_init(&world);
}

static void teardown(void)
{
	store_world_release(&world);
}

TestSuite(store_audit, .init = setup, .fini = teardown, .timeout = 120);

static void put(const char *what)
{
	struct audit_event event = {.kind = "test", .what = what, .who = AUDIT_SYSTEM};

	cr_assert_eq(store_audit(world.store, &event), 0);
}

static struct audit_verdict verify(void)
{
	struct audit_verdict verdict;

	cr_assert_eq(store_audit_verify(world.store, world.reader, &verdict), 0);
	return verdict;
}

Test(store_audit, the_chain_goes_on_over_a_restart)
{
	uint64_t before;

	put("one");
	put("two \"quoted\"\n\xff");
	before = verify().entries;
	cr_assert_geq(before, 2);
	store_world_reopen(&world);
	cr_assert_eq(verify().bad_no, 0);
	put("three");
	cr_assert_eq(verify().entries, before + 1);
	cr_assert_eq(verify().bad_no, 0);
}

static int copy_row(void *ctx, const struct audit_row *row)
{
	struct record *record = ctx;

	record_put_audit(record, row);
	return 0;
}

/* What somebody with the journal's key, but not the chain's, could do: a row with other bytes. */
Test(store_audit, an_altered_entry_is_named)
{
	struct record *record = record_new(), *forged = record_new();
	struct record_walk walk;
	struct change change;
	uint64_t seq;

	put("delete nothing");
	put("after it");
	cr_assert_eq(verify().bad_no, 0); /* waits until they are applied */
	cr_assert_eq(index_list_audit(world.store->index, world.reader, 0, 1, copy_row, record), 0);
	walk = record_walk_of(buf_bytes(&record->changes));
	cr_assert_eq(record_walk_next(&walk, &change), 1);
	change.u.audit.body = bytes_of_str("{\"kind\":\"test\"}");
	record_put_audit(forged, &change.u.audit);
	cr_assert_eq(sequencer_submit(world.store->sequencer, forged, &seq), 0);
	cr_assert_eq(verify().bad_no, 1);
	cr_assert_str_eq(verify().why, "was altered");
	record_free(record);
}

static int count_row(void *ctx, const struct audit_row *row)
{
	unsigned *count = ctx;

	cr_assert_lt(row->body.len, AUDIT_BODY_LEN_MAX);
	(*count)++;
	return 0;
}

Test(store_audit, an_entry_is_bounded)
{
	static char long_text[40000];
	struct audit_event event = {.kind = "test", .what = long_text, .details = long_text,
				    .result = long_text, .who = AUDIT_SYSTEM};
	unsigned count = 0;

	memset(long_text, '\x01', sizeof(long_text) - 1);
	cr_assert_eq(store_audit(world.store, &event), 0);
	cr_assert_eq(verify().bad_no, 0);
	cr_assert_eq(index_list_audit(world.store->index, world.reader, 0, 100, count_row, &count),
		     0);
	cr_assert_eq(count, verify().entries);
}
