/* SPDX-License-Identifier: Apache-2.0 */
/* The overlay alone: what races would need luck to show. */
#include "index/overlay.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static const struct index_highest stored = {.ino = 1000, .cookie = 1000, .chunk_no = 1000,
					    .shard_no = 1000};

static struct overlay *overlay_with(uint64_t cache_dirents_max)
{
	struct overlay *overlay;

	cr_assert_eq(overlay_new(cache_dirents_max, &overlay), 0);
	overlay_drop(overlay, 0, &stored);
	return overlay;
}

static void note_name(struct overlay *overlay, uint64_t seq, uint64_t parent, const char *name)
{
	AUTO(record) record = RECORD_INIT;

	record_put_dirent(&record, parent, seq, bytes_of_str(name), 500 + seq, 8);
	record.seq = seq;
	cr_assert_eq(overlay_note(overlay, &record), 0);
}

static int find(struct overlay *overlay, uint64_t parent, const char *name, uint64_t *drops)
{
	struct dirent_row row;

	return overlay_find_dirent(overlay, parent, bytes_of_str(name), &row, drops);
}

Test(index_overlay, an_answer_of_the_engine_that_may_be_old_is_not_learned)
{
	struct overlay *overlay = overlay_with(1);
	uint64_t drops;

	cr_assert_eq(find(overlay, 7, "a", &drops), -EAGAIN);
	/* The engine is read now: no such name.  Then it comes, is applied and evicted. */
	note_name(overlay, 1, 7, "a");
	overlay_drop(overlay, 1, &stored);
	note_name(overlay, 2, 7, "b");
	overlay_drop(overlay, 2, &stored);
	overlay_learn_dirent(overlay, 7, bytes_of_str("a"), NULL, drops);
	cr_assert_eq(find(overlay, 7, "a", &drops), -EAGAIN);
	/* Nothing happens in between: now it is. */
	overlay_learn_dirent(overlay, 7, bytes_of_str("c"), NULL, drops);
	cr_assert_eq(find(overlay, 7, "c", &drops), -ENOENT);
	overlay_free(overlay);
}

Test(index_overlay, a_list_begins_again_when_something_was_dropped)
{
	static const struct dirent_list nothing = ROW_LIST_INIT;
	struct overlay *overlay = overlay_with(0);
	AUTO(dirent_list) out = ROW_LIST_INIT;
	struct overlay_look look;
	uint64_t end;

	note_name(overlay, 1, 7, "a");
	look = overlay_look_inode(overlay, 7, 0);
	overlay_drop(overlay, 1, &stored);
	cr_assert_eq(overlay_merge_dirents(&look, 7, 0, 10, &nothing, UINT64_MAX, true, &out, &end),
		     -ESTALE);
	overlay_look_end(&look);
	/* A late attempt holds what is there. */
	note_name(overlay, 2, 7, "b");
	look = overlay_look_inode(overlay, 7, LOOKS_FREE_MAX);
	overlay_drop(overlay, 2, &stored);
	cr_assert_eq(overlay_merge_dirents(&look, 7, 0, 10, &nothing, UINT64_MAX, true, &out, &end),
		     0);
	cr_assert_eq(out.count, 1);
	overlay_look_end(&look);
	cr_assert_gt(overlay_bytes(overlay), 0);
	overlay_drop(overlay, 2, &stored);
	cr_assert_eq(overlay_bytes(overlay), 0);
	overlay_free(overlay);
}

Test(index_overlay, memory_knows_a_new_directory_until_the_bound_evicts_of_it)
{
	struct overlay *overlay = overlay_with(3);
	AUTO(dirent_list) list = ROW_LIST_INIT;
	uint64_t drops;

	overlay_new_directory(overlay, 7);
	cr_assert_eq(overlay_check_empty(overlay, 7), 0);
	cr_assert_eq(find(overlay, 7, "none", &drops), -ENOENT);
	note_name(overlay, 1, 7, "a");
	note_name(overlay, 2, 7, "b");
	overlay_drop(overlay, 2, &stored);
	cr_assert_eq(overlay_list_dirents(overlay, 7, 0, 10, &list), 0);
	cr_assert_eq(list.count, 2);
	cr_assert_eq(overlay_check_empty(overlay, 7), -ENOTEMPTY);
	cr_assert_eq(find(overlay, 7, "none", &drops), -ENOENT);
	note_name(overlay, 3, 7, "c");
	note_name(overlay, 4, 7, "d");
	overlay_drop(overlay, 4, &stored);
	cr_assert_eq(find(overlay, 7, "none", &drops), -EAGAIN);
	cr_assert_eq(find(overlay, 7, "d", &drops), 0);
	list.count = 0;
	cr_assert_eq(overlay_list_dirents(overlay, 7, 0, 10, &list), -EAGAIN);
	overlay_free(overlay);
}

Test(index_overlay, numbers_beyond_the_engines_are_answered_from_memory)
{
	struct overlay *overlay = overlay_with(10);
	AUTO(extent_list) extents = ROW_LIST_INIT;
	AUTO(record) record = RECORD_INIT;
	struct extent_row extent = {.ino = 1001, .off = 10, .len = 10, .chunk_no = 1001};
	struct inode_row inode;
	uint64_t covered, drops;

	cr_assert_eq(overlay_get_inode(overlay, 1001, &inode), -ENOENT);
	cr_assert_eq(overlay_get_inode(overlay, 1000, &inode), -EAGAIN);
	cr_assert_eq(find(overlay, 1001, "none", &drops), -ENOENT);
	record_put_extent(&record, &extent);
	record.seq = 1;
	cr_assert_eq(overlay_note(overlay, &record), 0);
	cr_assert_eq(overlay_find_extents(overlay, 1001, 0, 100, 10, &extents, &covered), 0);
	cr_assert_eq(extents.count, 1);
	cr_assert_eq(covered, 100);
	cr_assert_eq(overlay_find_extents(overlay, 1000, 0, 100, 10, &extents, &covered), -EAGAIN);
	cr_assert_eq(extents.count, 1);
	overlay_free(overlay);
}

Test(index_overlay, the_bound_of_clean_names_holds)
{
	struct overlay *overlay = overlay_with(100);
	unsigned known = 0;

	for (uint64_t i = 1; i <= 5000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%u", (unsigned)i);
		note_name(overlay, i, 1 + i % 300, name);
		if (i % 7 == 0)
			overlay_drop(overlay, i, &stored);
	}
	overlay_drop(overlay, 5000, &stored);
	cr_assert_eq(overlay_bytes(overlay), 0);
	for (uint64_t i = 1; i <= 5000; i++) {
		uint64_t drops;
		char name[32];

		snprintf(name, sizeof(name), "%u", (unsigned)i);
		known += find(overlay, 1 + i % 300, name, &drops) == 0;
	}
	cr_assert_gt(known, 0);
	cr_assert_leq(known, 100);
	overlay_free(overlay);
}
