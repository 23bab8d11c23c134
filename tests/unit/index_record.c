/* SPDX-License-Identifier: Apache-2.0 */
#include "index/copy_pack.h"
#include "index/record.h"
#include "tests/lib/hex.h"
#include "tests/lib/rng.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

/* One change of each type, with values that take several bytes. */
static void fill_golden(struct record *record)
{
	struct inode_row inode = {
		.ino = 300, .mode = 0100644, .uid = 1000, .gid = 1001, .nlink = 2, .rdev = 5,
		.size = 123456789, .atime = {-1, 999999999}, .mtime = {1700000000, 1},
		.ctime = {1700000001, 2}, .btime = {5000000000, 3}, .flags = INODE_XATTR,
		.parent = 1, .policy_root = 7, .birth = 99,
	};
	struct extent_row extent = {.ino = 300, .off = 1 << 20, .len = 65536, .chunk_off = 17,
				    .chunk_no = 40000};
	struct chunk_row chunk = {.chunk_no = 40000, .shard_no = 12, .record_no = 3, .off = 70000,
				  .stored_len = 60000, .raw_len = 65553, .refs = 9};
	struct shard_row shard = {.shard_no = 12, .state = SHARD_DURABLE, .key_epoch = 1,
				  .writer_epoch = 2, .policy_root = 7, .priority = 3,
				  .object_len = 16777216, .record_count = 255,
				  .sealed_sec = 1700000000};
	struct copy_row copy = {.shard_no = 12, .provider_no = 2, .state = COPY_VERIFIED,
				.changed_sec = 1700000000, .verified_sec = 1700000100};
	struct provider_row provider = {.provider_no = 2, .name = "nas", .type = "dir",
					.vendor = "nas", .region = "here", .role = "primary"};
	struct policy_row policy = {.root = 7, .text = "copies=3", .version = 1};
	struct snapshot_row snapshot = {.snapshot_no = 1, .name = "monday", .root = 1, .seq = 500,
					.created_sec = 1700000000, .files = 3, .directories = 2,
					.bytes = 1000};
	struct audit_row audit = {.audit_no = 200, .time = {1700000000, 5},
				  .body = bytes_of_str("{\"kind\":\"mount\"}")};
	char long_name[NAME_LEN_MAX];

	memset(long_name, 'n', sizeof(long_name));
	fill_sequence(chunk.id.b, sizeof(chunk.id.b), 1);
	fill_sequence(shard.id.b, sizeof(shard.id.b), 0x40);
	fill_sequence(shard.mac, sizeof(shard.mac), 0x80);
	record_put_inode(record, &inode);
	record_del_inode(record, 301);
	record_put_dirent(record, 1, 128, bytes_of_str("name"), 300, 8);
	record_put_dirent(record, 1, 129, bytes_of(long_name, sizeof(long_name)), 300, 8);
	record_del_dirent(record, 1, 127, bytes_of_str("old"));
	record_put_xattr(record, 300, bytes_of_str("user.a"), bytes_of_str("value"));
	record_del_xattr(record, 300, bytes_of_str("user.b"));
	record_put_symlink(record, 302, bytes_of_str("../target"));
	record_put_extent(record, &extent);
	record_del_extents(record, 300, 4096, UINT64_MAX - 4096);
	record_put_chunk(record, &chunk);
	record_del_chunk(record, 39999);
	record_put_shard(record, &shard);
	record_del_shard(record, 11);
	record_put_copy(record, &copy);
	record_del_copy(record, 12, 1);
	record_put_orphan(record, 303);
	record_del_orphan(record, 303);
	record_put_provider(record, &provider);
	record_put_policy(record, &policy);
	record_del_policy(record, 8);
	record_put_setting(record, bytes_of_str("key"), bytes_of_str("text"));
	record_put_snapshot(record, &snapshot);
	record_del_snapshot(record, 1);
	fill_sequence(audit.mac, sizeof(audit.mac), 0x20);
	record_put_audit(record, &audit);
	record_drop_history(record, 300, 65536);
	record_put_version(record, 400, 500);
	record_cut_audit(record, 7);
}

Test(index_record, the_encoding_is_that_of_the_golden_file)
{
	const char *top = getenv("SHARDFS_SRCDIR");
	AUTO(record) record = RECORD_INIT;
	uint8_t golden[4096];
	char path[4096];
	size_t len;
	FILE *file;

	fill_golden(&record);
	cr_assert_eq(record.error, 0);
	cr_assert_eq(record.change_count, 28);
	snprintf(path, sizeof(path), "%s/tests/golden/record-1", top != NULL ? top : ".");
	if (getenv("SHARDFS_WRITE_GOLDEN") != NULL) {
		file = fopen(path, "wb");
		cr_assert_eq(fwrite(record.changes.ptr, 1, record.changes.len, file),
			     record.changes.len);
		fclose(file);
	}
	file = fopen(path, "rb");
	cr_assert_not_null(file, "%s", path);
	len = fread(golden, 1, sizeof(golden), file);
	fclose(file);
	cr_assert_eq(len, record.changes.len);
	cr_assert_arr_eq(golden, record.changes.ptr, len);
}

Test(index_record, what_was_put_is_what_is_walked)
{
	AUTO(record) record = RECORD_INIT;
	struct record_walk walk;
	struct change change;
	unsigned types = 0, count = 0;
	int r;

	fill_golden(&record);
	walk = record_walk_of(buf_bytes(&record.changes));
	while ((r = record_walk_next(&walk, &change)) > 0) {
		types |= BIT(change.type);
		count++;
		if (change.type == CHANGE_INODE_PUT) {
			cr_assert_eq(change.u.inode.atime.sec, -1);
			cr_assert_eq(change.u.inode.btime.sec, 5000000000);
			cr_assert_eq(change.u.inode.birth, 0, "kept by apply");
		}
		if (change.type == CHANGE_EXTENT_DEL)
			cr_assert_eq(change.u.range.len, UINT64_MAX - 4096);
		if (change.type == CHANGE_SNAPSHOT_PUT)
			cr_assert_str_eq(change.u.snapshot.name, "monday");
	}
	cr_assert_eq(r, 0);
	cr_assert_eq(count, record.change_count);
	cr_assert_eq(types, BIT(CHANGE_SNAPSHOT_DEL + 1) - 2 + BIT(CHANGE_AUDIT_PUT) +
			     BIT(CHANGE_HISTORY_DROP) + BIT(CHANGE_ROW_VERSION) +
			     BIT(CHANGE_AUDIT_CUT),
		     "a change of each type");
}

static int walk_all(struct bytes bytes)
{
	struct record_walk walk = record_walk_of(bytes);
	struct change change;
	int r;

	while ((r = record_walk_next(&walk, &change)) > 0)
		;
	return r;
}

Test(index_record, a_cut_record_is_damaged_or_ends_between_changes)
{
	AUTO(record) record = RECORD_INIT;
	unsigned whole = 0;

	fill_golden(&record);
	for (size_t len = 0; len < record.changes.len; len++) {
		int r = walk_all(bytes_of(record.changes.ptr, len));

		cr_assert(r == 0 || r == -EBADMSG, "%zu: %d", len, r);
		whole += r == 0;
	}
	cr_assert_eq(whole, record.change_count);
}

Test(index_record, a_newer_change_is_refused_and_not_skipped)
{
	static const uint8_t newer_type[] = {CHANGE_TYPE_COUNT, 1, 0};
	static const uint8_t newer_version[] = {CHANGE_INODE_DEL, 2, 1, 5};
	static const uint8_t no_type[] = {0, 1, 0};

	cr_assert_eq(walk_all(bytes_of(newer_type, sizeof(newer_type))), -EPROTONOSUPPORT);
	cr_assert_eq(walk_all(bytes_of(newer_version, sizeof(newer_version))), -EPROTONOSUPPORT);
	cr_assert_eq(walk_all(bytes_of(no_type, sizeof(no_type))), -EBADMSG);
}

Test(index_record, values_that_no_table_takes_are_refused)
{
	static const struct {
		const char *what;
		uint8_t bytes[16];
		size_t len;
	} cases[] = {
		{"inode 0", {CHANGE_INODE_DEL, 1, 1, 0}, 4},
		{"slash in a name", {CHANGE_DIRENT_DEL, 1, 5, 1, 1, 2, 'a', '/'}, 8},
		{"NUL in a name", {CHANGE_DIRENT_DEL, 1, 5, 1, 1, 2, 'a', 0}, 8},
		{"no name", {CHANGE_DIRENT_DEL, 1, 3, 1, 1, 0}, 6},
		{"extent of no bytes", {CHANGE_EXTENT_PUT, 1, 5, 2, 0, 0, 0, 1}, 8},
		{"range of no bytes", {CHANGE_EXTENT_DEL, 1, 3, 2, 0, 0}, 6},
		{"unknown state of a copy", {CHANGE_COPY_PUT, 1, 5, 1, 1, 9, 0, 0}, 8},
		{"death before birth", {CHANGE_ROW_VERSION, 1, 2, 5, 5}, 5},
		{"bytes behind the payload", {CHANGE_INODE_DEL, 1, 2, 5, 5}, 5},
		{"not the shortest number", {CHANGE_INODE_DEL, 1, 2, 0x85, 0}, 5},
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		cr_assert_eq(walk_all(bytes_of(cases[i].bytes, cases[i].len)), -EBADMSG, "%s",
			     cases[i].what);
}

Test(index_record, a_failed_put_sticks_and_leaves_whole_changes)
{
	for (uint64_t nth = 1; nth < 4; nth++) {
		AUTO(record) record = RECORD_INIT;
		unsigned count;

		mem_fail_at(nth);
		fill_golden(&record);
		if (!mem_fail_fired())
			break;
		mem_fail_at(0);
		cr_assert_eq(record.error, -ENOMEM);
		count = record.change_count;
		record_del_inode(&record, 5);
		cr_assert_eq(record.change_count, count, "nothing is put behind a failure");
		cr_assert_eq(walk_all(buf_bytes(&record.changes)), 0);
	}
}

Test(index_record, packed_copies_come_back_whatever_their_times)
{
	struct rng rng = rng_new();

	for (unsigned round = 0; round < 1000; round++) {
		AUTO(copy_list) copies = ROW_LIST_INIT, back = ROW_LIST_INIT;
		AUTO(buf) packed = BUF_INIT;

		for (uint64_t n = rng_below(&rng, 6); n > 0; n--) {
			struct copy_row copy = {
				.shard_no = 7,
				.provider_no = 1 + (uint32_t)rng_any_size(&rng) % UINT32_MAX,
				.state = (uint32_t)rng_below(&rng, COPY_DELETING + 1),
				.changed_sec = (int64_t)rng_any_size(&rng),
				.verified_sec = (int64_t)rng_any_size(&rng),
			};

			cr_assert_eq(copy_list_put(&copies, &copy), 0);
		}
		cr_assert_eq(copy_pack(&copies, &packed), 0);
		cr_assert_eq(copy_unpack(7, buf_bytes(&packed), &back), 0);
		cr_assert_eq(back.count, copies.count);
		for (size_t i = 0; i < back.count; i++) {
			cr_assert_eq(back.rows[i].provider_no, copies.rows[i].provider_no);
			cr_assert_eq(back.rows[i].changed_sec, copies.rows[i].changed_sec);
			cr_assert_eq(back.rows[i].verified_sec, copies.rows[i].verified_sec);
			cr_assert_eq(back.rows[i].state, copies.rows[i].state == COPY_UPLOADING
								 ? COPY_PENDING
								 : copies.rows[i].state);
		}
	}
}

Test(index_record, nothing_in_a_snapshot_changes)
{
	struct inode_row inode = {.ino = ino_in_snapshot(1, 5), .mode = 0100644};
	AUTO(record) first = RECORD_INIT, second = RECORD_INIT, third = RECORD_INIT;

	record_put_inode(&first, &inode);
	cr_assert_eq(first.error, -EROFS);
	record_put_dirent(&second, ino_in_snapshot(1, 1), 9, bytes_of_str("name"), 5, 8);
	cr_assert_eq(second.error, -EROFS);
	record_put_dirent(&third, 1, 9, bytes_of_str("name"), ino_in_snapshot(1, 5), 8);
	cr_assert_eq(third.error, -EROFS);
}
