/* SPDX-License-Identifier: Apache-2.0 */
#include "store/journal.h"

#include "store/journal_format.h"
#include "tests/lib/journal_world.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/wire.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct journal_world world;
static struct replay_seen seen;
static struct journal_replay_info info;

static void begin(void)
{
	journal_world_init(&world);
}

static void end(void)
{
	journal_world_release(&world);
}

TestSuite(journal, .init = begin, .fini = end, .timeout = 60);

static struct journal *must_open(uint64_t next_seq)
{
	struct journal *journal = NULL;

	cr_assert_eq(journal_open(&world.settings, next_seq, &journal), 0);
	return journal;
}

static void expect_replay(uint64_t after, uint64_t last)
{
	cr_assert_eq(journal_world_replay(&world, after, &seen, &info), 0);
	cr_assert(!seen.is_wrong);
	cr_assert_eq(info.last_seq, last, "replayed up to %lu, not %lu", info.last_seq, last);
	cr_assert_eq(info.records, last - after);
}

/* The one file there is. */
static void read_only_file(char name[64], struct buf *out)
{
	char names[8][64];

	cr_assert_eq(journal_world_files(&world, names, 8), 1);
	memcpy(name, names[0], 64);
	journal_world_read(&world, name, out);
}

Test(journal, appended_records_come_back_in_order)
{
	struct journal *journal = must_open(1);

	expect_replay(0, 0);
	cr_assert_eq(journal_world_append(journal, 1, 1), 0);
	cr_assert_eq(journal_world_append(journal, 2, 600), 0);
	cr_assert_eq(journal_append_mark(journal, 1), 0);
	cr_assert_eq(journal_world_append(journal, 601, 602), 0);
	journal_close(journal);
	expect_replay(0, 602);
	cr_assert_eq(info.synced_seq, 1);
	cr_assert_eq(seen.synced_count, 1);
	cr_assert_eq(info.dropped_bytes, 0);
	expect_replay(601, 602);
	expect_replay(602, 602);
}

Test(journal, a_full_file_is_followed_by_another)
{
	struct journal *journal;
	char names[64][64];
	uint64_t seq = 1;

	world.settings.file_bytes_max = MIB;
	journal = must_open(1);
	for (unsigned i = 0; i < 400; i++, seq += 400) {
		cr_assert_eq(journal_world_append(journal, seq, seq + 399), 0);
		if (i % 7 == 0) {
			cr_assert_eq(journal_sync(journal), 0);
			cr_assert_eq(journal_append_mark(journal, seq + 399), 0);
		}
	}
	cr_assert_gt(journal_world_files(&world, names, 64), 4);
	cr_assert_gt(journal_bytes(journal), 4 * MIB);
	expect_replay(0, seq - 1);
	journal_close(journal);
	expect_replay(0, seq - 1);
}

Test(journal, a_file_grows_on_when_no_sync_made_the_next_ready_but_not_for_ever)
{
	struct journal *journal;
	char names[64][64];
	uint64_t seq = 1;

	world.settings.file_bytes_max = MIB;
	journal = must_open(1);
	for (; journal_bytes(journal) < 5 * MIB; seq += 1000)
		cr_assert_eq(journal_world_append(journal, seq, seq + 999), 0);
	cr_assert_eq(journal_world_files(&world, names, 64), 3);
	journal_close(journal);
	expect_replay(0, seq - 1);
}

Test(journal, a_tail_torn_at_any_byte_leaves_the_exact_prefix)
{
	AUTO(buf) whole = BUF_INIT;
	struct journal *journal = must_open(1);
	char name[64];
	size_t before;

	cr_assert_eq(journal_world_append(journal, 1, 3), 0);
	cr_assert_eq(journal_append_mark(journal, 2), 0);
	cr_assert_eq(journal_world_append(journal, 4, 7), 0);
	read_only_file(name, &whole);
	before = whole.len;
	cr_assert_eq(journal_world_append(journal, 8, 11), 0);
	journal_close(journal);
	read_only_file(name, &whole);
	for (size_t len = before; len < whole.len; len++) {
		journal_world_write(&world, name, bytes_of(whole.ptr, len));
		expect_replay(0, 7);
		cr_assert_eq(info.dropped_bytes, len - before);
	}
	/* Pages that never reached the disk read as zeros. */
	size_t end = whole.len;

	while (whole.ptr[end - 1] == 0)
		end--; /* zeros at the end of a seal are not lost: one time in 256 */
	for (size_t from = before; from < end; from++) {
		AUTO(buf) torn = BUF_INIT;

		cr_assert_eq(buf_append(&torn, bytes_of(whole.ptr, from)), 0);
		cr_assert_eq(buf_append_zeros(&torn, whole.len - from + 4096), 0);
		journal_world_write(&world, name, buf_bytes(&torn));
		expect_replay(0, 7);
	}
	journal_world_write(&world, name, buf_bytes(&whole));
	expect_replay(0, 11);
}

Test(journal, a_tear_ends_the_replay_though_frames_follow)
{
	AUTO(buf) whole = BUF_INIT;
	struct journal *journal = must_open(1);
	char name[64];
	size_t at;

	cr_assert_eq(journal_world_append(journal, 1, 3), 0);
	read_only_file(name, &whole);
	at = whole.len;
	cr_assert_eq(journal_world_append(journal, 4, 5), 0);
	cr_assert_eq(journal_world_append(journal, 6, 9), 0);
	journal_close(journal);
	read_only_file(name, &whole);
	whole.ptr[at + 20] ^= 1;
	journal_world_write(&world, name, buf_bytes(&whole));
	expect_replay(0, 3);
	cr_assert_eq(info.dropped_bytes, whole.len - at);
}

Test(journal, a_bit_flipped_anywhere_before_the_mark_is_named_as_damage)
{
	AUTO(buf) whole = BUF_INIT;
	struct journal *journal = must_open(1);
	char name[64];
	size_t mark_off, mark_end;
	int log_fd = open("/dev/null", O_WRONLY);

	cr_assert_eq(journal_world_append(journal, 1, 3), 0);
	cr_assert_eq(journal_world_append(journal, 4, 7), 0);
	read_only_file(name, &whole);
	mark_off = whole.len;
	cr_assert_eq(journal_append_mark(journal, 7), 0);
	read_only_file(name, &whole);
	mark_end = whole.len;
	cr_assert_eq(journal_world_append(journal, 8, 9), 0);
	journal_close(journal);
	read_only_file(name, &whole);
	log_setup(log_fd, LOG_ERROR, false);
	for (size_t at = 0; at < whole.len; at++) {
		int r;

		whole.ptr[at] ^= (uint8_t)(1u << at % 8);
		journal_world_write(&world, name, buf_bytes(&whole));
		whole.ptr[at] ^= (uint8_t)(1u << at % 8);
		r = journal_world_replay(&world, 0, &seen, &info);
		if (at < mark_off) {
			/* The version may say "newer". */
			cr_assert(r == -EUCLEAN || (at >= 8 && at < 12 && r == -EPROTONOSUPPORT) ||
					  (at >= 64 && at < 68 && r == -ENOKEY),
				  "byte %zu: %d", at, r);
			continue;
		}
		cr_assert_eq(r, 0, "byte %zu: %d", at, r);
		cr_assert(!seen.is_wrong);
		cr_assert_eq(info.last_seq, at < mark_end ? 9 : 7, "byte %zu", at);
		/* What is applied already is not needed any more. */
		cr_assert_eq(journal_world_replay(&world, 7, &seen, &info), 0);
	}
	close(log_fd);
}

Test(journal, damage_names_file_and_offset)
{
	AUTO(buf) whole = BUF_INIT;
	AUTO(buf) log = BUF_INIT;
	struct journal *journal = must_open(1);
	char name[64], want[160];
	size_t off;
	int pipes[2];
	ssize_t n;

	cr_assert_eq(journal_world_append(journal, 1, 3), 0);
	read_only_file(name, &whole);
	off = whole.len;
	cr_assert_eq(journal_world_append(journal, 4, 7), 0);
	cr_assert_eq(journal_append_mark(journal, 7), 0);
	journal_close(journal);
	read_only_file(name, &whole);
	whole.ptr[off + 30] ^= 4;
	journal_world_write(&world, name, buf_bytes(&whole));
	cr_assert_eq(pipe(pipes), 0);
	log_setup(pipes[1], LOG_WARN, false);
	cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), -EUCLEAN);
	close(pipes[1]);
	cr_assert_eq(buf_reserve(&log, 4096), 0);
	n = read(pipes[0], log.ptr, 4095);
	cr_assert_gt(n, 0);
	log.len = (size_t)n;
	snprintf(want, sizeof(want), "file=%s off=%zu missing_seq=4 synced_seq=7", name, off);
	cr_assert(strstr(buf_str(&log), want), "%s", buf_str(&log));
	close(pipes[0]);
}

Test(journal, damage_in_what_is_applied_already_does_not_stop_a_mount)
{
	AUTO(buf) whole = BUF_INIT;
	struct journal *journal = must_open(1);
	char name[64];
	size_t at;

	read_only_file(name, &whole);
	at = whole.len;
	cr_assert_eq(journal_world_append(journal, 1, 300), 0);
	cr_assert_eq(journal_world_append(journal, 301, 310), 0);
	cr_assert_eq(journal_append_mark(journal, 310), 0);
	journal_close(journal);
	read_only_file(name, &whole);
	for (size_t i = at; i < at + 64; i++) { /* head and length are gone too */
		whole.ptr[i] ^= 0x55;
	}
	journal_world_write(&world, name, buf_bytes(&whole));
	cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), -EUCLEAN);
	expect_replay(300, 310);
	cr_assert_eq(info.damaged_frames, 1);
	cr_assert_eq(journal_world_replay(&world, 299, &seen, &info), -EUCLEAN);
}

/* ---- several files ---- */

static int append_tagged(struct journal *journal, uint64_t seq, uint64_t tag)
{
	struct record *record = tagged_record(seq, tag, 3);
	int r = journal_append(journal, &record, 1);

	record_free(record);
	return r;
}

struct tags {
	uint64_t tag[32];
	size_t count;
};

static int see_tag(void *ctx, struct record *record, bool is_synced)
{
	struct tags *tags = ctx;

	(void)is_synced;
	cr_assert_lt(tags->count, 32);
	cr_assert_eq(record->seq, tags->count + 1);
	tags->tag[tags->count++] = record_tag(record);
	record_free(record);
	return 0;
}

Test(journal, a_later_opening_wins_over_what_an_older_file_holds)
{
	struct journal *journal = must_open(1);
	struct tags tags = {0};

	cr_assert_eq(journal_world_append(journal, 1, 10), 0);
	journal_close(journal);
	seen.end_at = 6;
	cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), 0);
	cr_assert_eq(info.last_seq, 5);
	seen.end_at = 0;
	journal = must_open(6);
	/* Opened and nothing else: 6 to 10 are void from here on. */
	expect_replay(0, 5);
	cr_assert_eq(seen.synced_count, 5);
	cr_assert_eq(append_tagged(journal, 6, 1006), 0);
	cr_assert_eq(append_tagged(journal, 7, 1007), 0);
	journal_close(journal);
	cr_assert_eq(journal_replay(&world.settings, 0, see_tag, &tags, &info), 0);
	cr_assert_eq(tags.count, 7);
	cr_assert_eq(tags.tag[4], 5);
	cr_assert_eq(tags.tag[5], 1006);
	cr_assert_eq(tags.tag[6], 1007);
}

Test(journal, the_higher_writer_epoch_counts_whatever_the_files_are_called)
{
	struct journal *journal;
	struct tags tags = {0};

	world.settings.writer_epoch = 1;
	journal = must_open(1);
	cr_assert_eq(journal_world_append(journal, 1, 3), 0);
	journal_close(journal);
	world.settings.writer_epoch = 7;
	journal = must_open(4);
	cr_assert_eq(append_tagged(journal, 4, 7004), 0);
	journal_close(journal);
	world.settings.writer_epoch = 5;
	journal = must_open(4);
	cr_assert_eq(append_tagged(journal, 4, 5004), 0);
	cr_assert_eq(append_tagged(journal, 5, 5005), 0);
	journal_close(journal);
	cr_assert_eq(journal_replay(&world.settings, 0, see_tag, &tags, &info), 0);
	cr_assert_eq(tags.count, 4);
	cr_assert_eq(tags.tag[3], 7004);
}

Test(journal, a_file_that_is_missing_in_the_middle_is_damage)
{
	char names[64][64];
	struct journal *journal;

	for (uint64_t seq = 1; seq <= 21; seq += 10) {
		journal = must_open(seq);
		cr_assert_eq(journal_world_append(journal, seq, seq + 9), 0);
		journal_close(journal);
	}
	expect_replay(0, 30);
	cr_assert_eq(journal_world_files(&world, names, 64), 3);
	journal_world_remove(&world, names[1]);
	cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), -EUCLEAN);
	cr_assert_eq(journal_world_replay(&world, 19, &seen, &info), -EUCLEAN);
	expect_replay(20, 30);
}

Test(journal, an_unfinished_file_is_passed_over_and_a_damaged_header_is_not)
{
	AUTO(buf) whole = BUF_INIT;
	struct journal *journal = must_open(1);
	char names[64][64];

	cr_assert_eq(journal_world_append(journal, 1, 10), 0);
	journal_close(journal);
	journal = must_open(11);
	journal_close(journal);
	cr_assert_eq(journal_world_files(&world, names, 64), 2);
	journal_world_read(&world, names[1], &whole);
	for (size_t len = 0; len < whole.len; len++) { /* cut while it was made */
		journal_world_write(&world, names[1], bytes_of(whole.ptr, len));
		expect_replay(0, 10);
	}
	journal_world_remove(&world, names[1]);
	journal_world_read(&world, names[0], &whole);
	whole.ptr[80] ^= 1; /* salt */
	journal_world_write(&world, names[0], buf_bytes(&whole));
	cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), -EUCLEAN);
}

Test(journal, another_file_systems_file_is_refused)
{
	struct journal *journal = must_open(1);
	struct journal_world other;

	cr_assert_eq(journal_world_append(journal, 1, 10), 0);
	journal_close(journal);
	journal_world_init(&other);
	other.settings.dir = world.dir;
	cr_assert_eq(journal_world_replay(&other, 0, &seen, &info), -EUCLEAN);
	cr_assert_eq(seen.count, 0);
	other.settings.dir = other.dir;
	journal_world_release(&other);
}

Test(journal, a_newer_versions_file_is_refused_as_such)
{
	AUTO(buf) whole = BUF_INIT;
	struct journal *journal = must_open(1);
	char name[64];

	cr_assert_eq(journal_world_append(journal, 1, 10), 0);
	journal_close(journal);
	read_only_file(name, &whole);
	wire_store_u32(whole.ptr + 8, JOURNAL_VERSION + 1);
	journal_world_write(&world, name, buf_bytes(&whole));
	cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), -EPROTONOSUPPORT);
}

Test(journal, other_files_in_the_directory_are_left_alone)
{
	struct journal *journal;
	char names[64][64];

	journal_world_write(&world, "README", bytes_of_str("hello"));
	journal_world_write(&world, "0000000000000001.journal.bak", bytes_of_str("hello"));
	journal = must_open(1);
	cr_assert_eq(journal_world_append(journal, 1, 10), 0);
	journal_close(journal);
	expect_replay(0, 10);
	journal = must_open(11);
	cr_assert_eq(journal_drop(journal, 10), 0);
	journal_close(journal);
	cr_assert_eq(journal_world_files(&world, names, 64), 3);
}

Test(journal, drop_removes_what_is_applied_and_nothing_else)
{
	struct journal *journal;
	char names[64][64];
	uint64_t seq = 1, boundaries[64];
	size_t files, now;

	world.settings.file_bytes_max = MIB;
	journal = must_open(1);
	for (files = 1; files < 6; seq += 400) {
		cr_assert_eq(journal_world_append(journal, seq, seq + 399), 0);
		cr_assert_eq(journal_sync(journal), 0);
		now = journal_world_files(&world, names, 64);
		if (now != files)
			boundaries[files] = seq;
		files = now;
	}
	cr_assert_eq(journal_drop(journal, 10), 0);
	cr_assert_eq(journal_world_files(&world, names, 64), files);
	cr_assert_eq(journal_drop(journal, boundaries[3]), 0);
	now = journal_world_files(&world, names, 64);
	cr_assert(now < files && now > 2, "%zu of %zu", now, files);
	expect_replay(boundaries[3], seq - 1);
	cr_assert_eq(journal_drop(journal, seq - 1), 0);
	cr_assert_leq(journal_world_files(&world, names, 64), 2); /* current, perhaps the spare */
	cr_assert_eq(journal_world_append(journal, seq, seq + 9), 0);
	journal_close(journal);
	expect_replay(seq - 1, seq + 9);
}

/* ---- failures ---- */

Test(journal, a_record_that_is_too_large_is_refused_and_the_next_goes_through)
{
	struct journal *journal = must_open(1);
	struct record *large = tagged_record(1, 1, JOURNAL_BATCH_BYTES_MAX);

	cr_assert_eq(journal_append(journal, &large, 1), -E2BIG);
	record_free(large);
	large = tagged_record(1, 1, JOURNAL_RECORD_BYTES_MAX - 100);
	cr_assert_eq(journal_append(journal, &large, 1), 0);
	record_free(large);
	cr_assert_eq(journal_world_append(journal, 2, 3), 0);
	journal_close(journal);
	expect_replay(0, 3);
}

Test(journal, no_memory_at_any_place_is_an_error_and_no_loss)
{
	uint64_t last = 0;
	bool fired = true;

	for (unsigned at = 1; fired; at++) {
		struct journal *journal = NULL;
		int r;

		mem_fail_at(at);
		r = journal_open(&world.settings, last + 1, &journal);
		fired = mem_fail_fired();
		mem_fail_at(0);
		cr_assert_eq(r, fired ? -ENOMEM : 0);
		if (r == 0) {
			struct record *record = tagged_record(1, 1, 10);

			mem_fail_at(1);
			cr_assert_eq(journal_append(journal, &record, 1), -ENOMEM);
			mem_fail_at(0);
			cr_assert_eq(journal_append(journal, &record, 1), 0);
			record_free(record);
			last = 1;
		}
		journal_close(journal);
		expect_replay(0, last);
	}
	fired = true;
	for (unsigned at = 1; fired; at++) {
		struct tags tags = {0};
		int r;

		mem_fail_at(at);
		r = journal_replay(&world.settings, 0, see_tag, &tags, &info);
		fired = mem_fail_fired();
		mem_fail_at(0);
		cr_assert_eq(r, fired ? -ENOMEM : 0);
	}
}

Test(journal, no_name_shows_in_a_file)
{
	AUTO(buf) whole = BUF_INIT;
	struct journal *journal = must_open(1);
	struct record *record = record_new();
	char name[64];

	record_put_setting(record, bytes_of_str("canary-of-a-name"), bytes_of_str("canary-content"));
	record->seq = 1;
	cr_assert_eq(journal_append(journal, &record, 1), 0);
	record_free(record);
	journal_close(journal);
	read_only_file(name, &whole);
	cr_assert_null(memmem(whole.ptr, whole.len, "canary", 6));
}

Test(journal, the_length_of_a_name_does_not_show_below_64_bytes)
{
	uint64_t sizes[2];

	for (size_t i = 0; i < 2; i++) {
		struct journal *journal = must_open(1);
		struct record *record = tagged_record(1, 1, i * 7);
		uint64_t before = journal_bytes(journal);

		cr_assert_eq(journal_append(journal, &record, 1), 0);
		sizes[i] = journal_bytes(journal) - before;
		record_free(record);
		journal_close(journal);
	}
	cr_assert_eq(sizes[0], sizes[1]);
}

#ifdef SHARDFS_TEST_HOOKS
Test(journal, a_failed_append_takes_nothing_and_is_repeated_with_success)
{
	static const char *const places[] = {"journal-append-before", "journal-append-after",
					     "journal-mark-before", "journal-mark-after"};
	static const char *const errors[] = {"EIO", "ENOSPC"};

	for (size_t p = 0; p < ARRAY_COUNT(places); p++) {
		for (size_t e = 0; e < ARRAY_COUNT(errors); e++) {
			for (unsigned at = 1; at <= 5; at++) {
				struct journal *journal;
				uint64_t next;
				char rule[96];
				unsigned failed = 0;

				snprintf(rule, sizeof(rule), "fail %s %s %u", places[p], errors[e], at);
				hooks_set("");
				cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), 0);
				next = info.last_seq + 1;
				journal = must_open(next);
				hooks_set(rule);
				for (uint64_t seq = next; seq < next + 15; seq += 3) {
					while (journal_world_append(journal, seq, seq + 2) < 0)
						failed++;
					while (journal_append_mark(journal, seq + 1) < 0)
						failed++;
				}
				cr_assert_eq(failed, 1, "%s", rule);
				hooks_set("");
				expect_replay(0, next + 14);
				cr_assert_eq(info.synced_seq, next + 13);
				cr_assert_eq(journal_drop(journal, next - 1), 0);
				journal_close(journal);
				expect_replay(next - 1, next + 14);
				journal = must_open(next + 15);
				cr_assert_eq(journal_drop(journal, next + 14), 0);
				journal_close(journal);
				/* Numbers start over; the file that is left holds none. */
				end();
				begin();
			}
		}
	}
}

Test(journal, after_a_failed_sync_records_go_to_a_new_file_once_more)
{
	static const char *const places[] = {"journal-sync-before", "journal-sync-after"};

	for (size_t p = 0; p < ARRAY_COUNT(places); p++) {
		struct journal *journal;
		char rule[96], names[64][64];

		snprintf(rule, sizeof(rule), "fail %s EIO", places[p]);
		hooks_set("");
		journal = must_open(1);
		cr_assert_eq(journal_world_append(journal, 1, 5), 0);
		cr_assert_eq(journal_sync(journal), 0);
		cr_assert_eq(journal_append_mark(journal, 5), 0);
		cr_assert_eq(journal_world_append(journal, 6, 20), 0);
		hooks_set(rule);
		cr_assert_eq(journal_sync(journal), -EIO);
		/* Meanwhile a kill: nothing is lost. */
		expect_replay(0, 20);
		cr_assert_eq(journal_world_append(journal, 6, 9), 0);
		expect_replay(0, 20);
		cr_assert_eq(journal_world_append(journal, 10, 25), 0);
		cr_assert_eq(journal_sync(journal), 0);
		cr_assert_eq(journal_append_mark(journal, 25), 0);
		expect_replay(0, 25);
		cr_assert_eq(journal_world_files(&world, names, 64), 2);
		journal_close(journal);
		/* The disk has lost the suspect bytes: the new file makes up for them. */
		{
			AUTO(buf) whole = BUF_INIT;

			journal_world_read(&world, names[0], &whole);
			memset(whole.ptr + whole.len - 256, 0, 256);
			journal_world_write(&world, names[0], buf_bytes(&whole));
			expect_replay(0, 25);
		}
		end();
		begin();
	}
}

Test(journal, a_failed_drop_is_tried_again)
{
	static const char *const places[] = {"journal-drop-before", "journal-drop-after"};

	for (size_t p = 0; p < ARRAY_COUNT(places); p++) {
		struct journal *journal;
		char rule[96], names[64][64];

		hooks_set("");
		journal = must_open(1);
		cr_assert_eq(journal_world_append(journal, 1, 5), 0);
		journal_close(journal);
		journal = must_open(6);
		snprintf(rule, sizeof(rule), "fail %s EIO", places[p]);
		hooks_set(rule);
		cr_assert_eq(journal_drop(journal, 5), -EIO);
		cr_assert_eq(journal_drop(journal, 5), 0);
		cr_assert_eq(journal_world_files(&world, names, 64), 1);
		journal_close(journal);
		end();
		begin();
	}
}

static void begin_with_nonce_log(void)
{
	const char *tmp = getenv("TMPDIR");
	static char path[300];

	/* Before the first seal: the log is opened then. */
	snprintf(path, sizeof(path), "%s/nonces.%d", tmp ? tmp : "/tmp", (int)getpid());
	setenv("SHARDFS_NONCE_LOG", path, 1);
	begin();
}

TestSuite(journal_nonce, .init = begin_with_nonce_log, .fini = end, .timeout = 60);

/* One key never sees one nonce with two plaintexts, whatever failed in between. */
Test(journal_nonce, no_nonce_is_used_twice)
{
	struct line {
		unsigned long long key, nonce, plain;
	} *lines = mem_alloc_array(4096, sizeof(*lines));
	const char *path = getenv("SHARDFS_NONCE_LOG");
	size_t count = 0;
	FILE *log;

	for (unsigned at = 1; at <= 6; at++) {
		struct journal *journal;
		char rule[160];

		hooks_set("");
		cr_assert_eq(journal_world_replay(&world, 0, &seen, &info), 0);
		journal = must_open(info.last_seq + 1);
		snprintf(rule, sizeof(rule),
			 "fail journal-append-after ENOSPC %u\nfail journal-append-before EIO %u\n"
			 "fail journal-mark-after EIO %u\nfail journal-sync-after EIO %u",
			 at, at + 3, at, at);
		hooks_set(rule);
		for (uint64_t seq = info.last_seq + 1, i = 0; i < 8; i++, seq++) {
			while (append_tagged(journal, seq, seq) < 0)
				;
			if (journal_sync(journal) < 0)
				cr_assert_eq(append_tagged(journal, seq, seq), 0);
			while (journal_append_mark(journal, seq) < 0)
				;
		}
		hooks_set("");
		journal_close(journal);
	}
	log = fopen(path, "re");
	cr_assert_not_null(log);
	while (count < 4096 && fscanf(log, "%llx %llu %llx", &lines[count].key, &lines[count].nonce,
				      &lines[count].plain) == 3)
		count++;
	fclose(log);
	unlink(path);
	cr_assert_gt(count, 100);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < i; k++)
			cr_assert(lines[i].key != lines[k].key || lines[i].nonce != lines[k].nonce);
	mem_free(lines);
}
#endif

/* ---- format ---- */

#define GOLDEN "tests/golden/journal-1"

static const struct fs_id golden_fs = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};

static void golden_make(struct aead_ctx *ctx, const struct journal_seal *seal, struct buf *out)
{
	struct journal_header header = {.fs_id = golden_fs,
					.writer_epoch = 3,
					.number = 9,
					.run_no = 8,
					.run_first_seq = 100,
					.key_epoch = 2};
	struct record *records[3];

	memset(header.salt, 0xa5, sizeof(header.salt));
	cr_assert_eq(buf_append_zeros(out, JOURNAL_HEADER_BYTES), 0);
	cr_assert_eq(journal_header_write(ctx, &seal->key, &header, out->ptr), 0);
	for (size_t i = 0; i < 3; i++)
		records[i] = tagged_record(120 + i, 120 + i, i * 40);
	cr_assert_eq(journal_frame_records(ctx, seal, 1, records, 2, out), 0);
	cr_assert_eq(journal_frame_mark(ctx, seal, 2, 121, out), 0);
	cr_assert_eq(journal_frame_records(ctx, seal, 5, records + 2, 1, out), 0);
	for (size_t i = 0; i < 3; i++)
		record_free(records[i]);
}

/* SHARDFS_GOLDEN_WRITE=1 writes the file anew: only together with a new JOURNAL_VERSION. */
Test(journal, the_format_is_what_the_golden_file_says)
{
	struct journal_seal seal = {.fs_id = golden_fs, .writer_epoch = 3, .number = 9};
	const char *srcdir = getenv("SHARDFS_SRCDIR");
	AUTO(buf) made = BUF_INIT;
	struct journal_header header;
	struct journal_frame frame;
	struct aead_ctx *ctx;
	AUTO(journal_walk) walk;
	uint8_t golden[8192];
	char path[512];
	uint64_t mark;
	bool found;
	size_t len;
	FILE *file;

	memset(seal.key.b, 0x5a, sizeof(seal.key.b));
	cr_assert_eq(aead_ctx_new(&ctx), 0);
	golden_make(ctx, &seal, &made);
	snprintf(path, sizeof(path), "%s/" GOLDEN, srcdir ? srcdir : ".");
	if (getenv("SHARDFS_GOLDEN_WRITE")) {
		file = fopen(path, "we");
		cr_assert(file && fwrite(made.ptr, made.len, 1, file) == 1);
		fclose(file);
	}
	file = fopen(path, "re");
	cr_assert_not_null(file, "%s", path);
	len = fread(golden, 1, sizeof(golden), file);
	fclose(file);
	cr_assert_eq(len, made.len);
	cr_assert_arr_eq(golden, made.ptr, len);

	cr_assert_eq(journal_header_read(bytes_of(golden, len), &header), 0);
	cr_assert_eq(journal_header_verify(ctx, &seal.key, bytes_of(golden, len)), 0);
	cr_assert_eq(header.run_first_seq, 100);
	cr_assert_eq(header.run_no, 8);
	cr_assert_eq(journal_find_marks(ctx, &seal, bytes_of(golden, len), &found, &mark), 0);
	cr_assert(found && mark == 121);
	journal_walk_init(&walk, ctx, &seal, bytes_of(golden, len));
	cr_assert_eq(journal_walk_next(&walk, &frame), 1);
	cr_assert(frame.kind == JOURNAL_RECORDS && frame.first_seq == 120 && frame.count == 2);
	cr_assert_eq(journal_walk_next(&walk, &frame), 1);
	cr_assert(frame.kind == JOURNAL_MARK && frame.synced_seq == 121);
	cr_assert_eq(journal_walk_next(&walk, &frame), 1);
	cr_assert(frame.number == 5 && frame.first_seq == 122 && frame.count == 1);
	cr_assert_eq(journal_walk_next(&walk, &frame), 0);
	cr_assert_eq(walk.bad_off, SIZE_MAX);
	aead_ctx_free(ctx);
}
