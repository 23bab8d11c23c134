/* SPDX-License-Identifier: Apache-2.0 */
/* The index on disk: files, versions, damage, full disks, sums, and what is linear. */
#include "index/index.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[512];
static struct index *index_;
static struct index_reader *reader;
static uint64_t seq;
static const struct inode_row root = {.ino = 1, .mode = S_IFDIR | 0700, .nlink = 2, .parent = 1,
				      .policy_root = 1, .uid = 5};

static int try_open(struct buf *why)
{
	struct index_settings settings = {
		.path = path, .cache_dirents_max = 1000, .page_cache_bytes = MIB};

	return index_open(&settings, why, &index_);
}

static void open_index(void)
{
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(try_open(&why), 0, "%s", buf_str(&why));
	cr_assert_eq(index_reader_open(index_, &reader), 0);
	seq = index_applied_seq(index_);
}

static void close_index(void)
{
	index_reader_close(reader);
	index_close(index_);
	index_ = NULL;
}

static void set_path(const char *name)
{
	const char *dir = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%s/%s-%d.db", dir != NULL ? dir : "/tmp", name,
		 (int)getpid());
}

static void start(const char *name)
{
	set_path(name);
	cr_assert_eq(index_create(path, &root), 0);
	open_index();
}

static void apply(struct record *record)
{
	record->seq = ++seq;
	cr_assert_eq(record->error, 0);
	cr_assert_eq(index_note(index_, record), 0);
	cr_assert_eq(index_apply(index_, &record, 1), 0);
}

static void print_found(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "violation: %s\n", text);
}

static uint64_t prove(void)
{
	uint64_t violations = UINT64_MAX;

	cr_assert_eq(index_prove(index_, reader, print_found, NULL, &violations), 0);
	return violations;
}

static void sql(const char *text)
{
	sqlite3 *db = NULL;
	char *message = NULL;

	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, &message), SQLITE_OK, "%s", message);
	sqlite3_close(db);
}

static void put_file(struct record *record, uint64_t ino, const char *name, uint64_t parent,
		     uint32_t mode)
{
	struct inode_row row = {.ino = ino, .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1,
				.size = S_ISREG(mode) ? 10 : 0, .parent = parent, .policy_root = 1};

	record_put_inode(record, &row);
	record_put_dirent(record, parent, ino, bytes_of_str(name), ino, mode >> 12);
}

static void put_chunk_in(struct record *record, uint64_t chunk_no, uint64_t shard_no)
{
	struct chunk_row chunk = {.chunk_no = chunk_no, .shard_no = shard_no, .stored_len = 100,
				  .raw_len = 1 << 20};

	memcpy(chunk.id.b, &chunk_no, sizeof(chunk_no));
	record_put_chunk(record, &chunk);
}

static void put_shard_no(struct record *record, uint64_t shard_no)
{
	struct shard_row shard = {.shard_no = shard_no, .state = SHARD_SEALED};

	memcpy(shard.id.b, &shard_no, sizeof(shard_no));
	record_put_shard(record, &shard);
}

Test(index_engine, a_new_index_has_the_root_and_is_private)
{
	struct inode_row row;
	struct stat st;

	start("new");
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(index_get_inode(index_, reader, INO_ROOT, &row), 0);
	cr_assert_eq(row.mode, S_IFDIR | 0700u);
	cr_assert_eq(row.uid, 5);
	cr_assert_eq(prove(), 0);
	cr_assert_eq(index_create(path, &root), -EEXIST);
	close_index();
}

Test(index_engine, what_cannot_be_opened_says_why)
{
	AUTO(buf) why = BUF_INIT;
	FILE *file;

	set_path("missing");
	cr_assert_eq(try_open(&why), -ENOENT);
	buf_clear(&why);
	set_path("text");
	file = fopen(path, "w");
	for (unsigned i = 0; i < 1000; i++)
		fputs("this is no index\n", file);
	fclose(file);
	cr_assert_eq(try_open(&why), -EUCLEAN);
	cr_assert(strstr(buf_str(&why), path) != NULL, "%s", buf_str(&why));
	buf_clear(&why);
	set_path("empty");
	fclose(fopen(path, "w"));
	cr_assert_eq(try_open(&why), -EUCLEAN);
	cr_assert(strstr(buf_str(&why), "not an index") != NULL);
}

Test(index_engine, an_index_of_a_newer_version_is_refused_and_untouched)
{
	AUTO(buf) why = BUF_INIT;

	start("newer");
	close_index();
	sql("PRAGMA user_version=3");
	cr_assert_eq(try_open(&why), -EPROTONOSUPPORT);
	cr_assert(strstr(buf_str(&why), "schema 3") != NULL, "%s", buf_str(&why));
	sql("PRAGMA user_version=2");
	open_index();
	close_index();
}

/* What schema 2 added. */
#define TO_SCHEMA_1                                                                                \
	"DROP INDEX snapshot_by_seq; ALTER TABLE snapshot DROP COLUMN files;"                      \
	"ALTER TABLE snapshot DROP COLUMN directories; ALTER TABLE snapshot DROP COLUMN bytes;"    \
	"DROP INDEX inode_history_by_death; DROP INDEX dirent_history_by_death;"                   \
	"DROP INDEX dirent_history_by_name; DROP INDEX xattr_history_by_death;"                    \
	"DROP INDEX symlink_history_by_death; DROP INDEX extent_history_by_death;"

Test(index_engine, an_index_of_schema_1_is_migrated_and_takes_snapshots)
{
	struct snapshot_row snapshot = {.snapshot_no = 1, .name = "s", .root = 1};
	AUTO(record) first = RECORD_INIT, take = RECORD_INIT, gone = RECORD_INIT;
	struct dirent_row row;

	start("schema1");
	put_file(&first, 2, "file", 1, S_IFREG | 0644);
	apply(&first);
	close_index();
	sql(TO_SCHEMA_1 "PRAGMA user_version=1");
	open_index();
	record_put_snapshot(&take, &snapshot);
	apply(&take);
	record_del_dirent(&gone, 1, 2, bytes_of_str("file"));
	record_del_inode(&gone, 2);
	apply(&gone);
	cr_assert_eq(index_find_dirent(index_, reader, 1, bytes_of_str("file"), &row), -ENOENT);
	cr_assert_eq(index_find_dirent(index_, reader, ino_in_snapshot(1, 1), bytes_of_str("file"),
				       &row),
		     0);
	cr_assert_eq(row.ino, ino_in_snapshot(1, 2));
	cr_assert_eq(prove(), 0);
	close_index();
}

Test(index_engine, an_index_of_schema_0_is_migrated)
{
	AUTO(record) record = RECORD_INIT;
	struct dir_counter counter;

	start("schema0");
	put_file(&record, 2, "dir", 1, S_IFDIR | 0755);
	put_file(&record, 3, "file", 2, S_IFREG | 0644);
	record_put_inode(&record, &(struct inode_row){.ino = 1, .mode = S_IFDIR | 0700, .nlink = 3,
						      .parent = 1, .policy_root = 1});
	apply(&record);
	close_index();
	sql("DROP TABLE dir_counter; DROP TABLE key_epoch;" TO_SCHEMA_1 "PRAGMA user_version=0");
	open_index();
	cr_assert_eq(prove(), 0);
	cr_assert_eq(index_get_dir_counter(index_, reader, 1, &counter), 0);
	cr_assert_eq(counter.files, 1);
	cr_assert_eq(counter.directories, 1);
	cr_assert_eq(counter.bytes, 10);
	cr_assert_eq(counter.as_of_seq, 1);
	close_index();
	open_index();
	close_index();
}

Test(index_engine, a_damaged_file_is_euclean_and_never_garbage)
{
	AUTO(record) record = RECORD_INIT;
	uint64_t violations = 0;
	uint8_t noise[4096];
	int fd, r = 0;

	start("damaged");
	for (uint64_t ino = 2; ino < 3000; ino++) {
		char name[32];

		snprintf(name, sizeof(name), "file-%u", (unsigned)ino);
		put_file(&record, ino, name, 1, S_IFREG | 0644);
	}
	apply(&record);
	close_index();
	memset(noise, 0x5a, sizeof(noise));
	fd = open(path, O_RDWR);
	for (off_t page = 60; page < 100; page++) /* behind the roots */
		cr_assert_eq(pwrite(fd, noise, sizeof(noise), page * 4096), sizeof(noise));
	close(fd);
	open_index();
	for (uint64_t ino = 2; ino < 3000 && r == 0; ino++) {
		struct inode_row row;

		r = index_get_inode(index_, reader, ino, &row);
		cr_assert(r == 0 || r == -EUCLEAN, "%d", r);
		if (r == 0)
			cr_assert_eq(row.size, 10);
	}
	cr_assert_eq(r, -EUCLEAN);
	cr_assert_eq(index_prove(index_, reader, print_found, NULL, &violations), 0);
	cr_assert_gt(violations, 0);
	close_index();
}

Test(index_engine, the_proof_finds_what_is_wrong)
{
	static const char *const wrongs[] = {
		"UPDATE inode SET nlink=5 WHERE ino=3",
		"UPDATE inode SET nlink=5 WHERE ino=2",
		"UPDATE inode SET parent=1 WHERE ino=4",
		"DELETE FROM inode WHERE ino=3",
		"DELETE FROM dirent WHERE ino=3",
		"UPDATE dirent SET type=4 WHERE ino=3",
		"UPDATE chunk SET refs=2 WHERE chunk_no=1",
		"UPDATE extent SET chunk_no=9 WHERE ino=3",
		"UPDATE extent SET len=21 WHERE ino=3 AND off=0",
		"UPDATE shard SET dead_bytes=1",
		"UPDATE shard SET total_bytes=1",
		"UPDATE chunk SET shard_no=9",
		"DELETE FROM chunk_name WHERE chunk_no=1",
		"INSERT INTO chunk_name VALUES(5,6)",
		"UPDATE meta SET highest_ino=2",
		"UPDATE meta SET bytes=1",
		"UPDATE dir_counter SET files=7 WHERE ino=1",
		"INSERT INTO orphan VALUES(3)",
		"UPDATE inode SET flags=128 WHERE ino=3",
		"INSERT INTO xattr VALUES(3,x'61',1,x'62')",
		"UPDATE copy SET states=4",
		"UPDATE copy SET verified=4",
		"UPDATE copy SET verified=NULL",
		"UPDATE copy SET copies=x'0105'",
		"UPDATE inode SET birth=50 WHERE ino=3",
		"INSERT INTO extent_history VALUES(3,0,1,2,5,0,0)",
		"UPDATE dirent SET parent=4 WHERE ino=2; UPDATE inode SET parent=4 WHERE ino=2",
	};
	AUTO(record) record = RECORD_INIT;
	struct extent_row extents[] = {
		{.ino = 3, .off = 0, .len = 10, .chunk_no = 1},
		{.ino = 3, .off = 20, .len = 10, .chunk_no = 2},
	};
	struct provider_row provider = {.provider_no = 1, .name = "p"};
	struct copy_row copy = {.shard_no = 1, .provider_no = 1, .state = COPY_PRESENT};
	char command[1200], saved[600];

	start("proof");
	put_file(&record, 2, "dir", 1, S_IFDIR | 0755);
	put_file(&record, 4, "below", 2, S_IFDIR | 0755);
	put_file(&record, 3, "file", 2, S_IFREG | 0644);
	record_put_inode(&record, &(struct inode_row){.ino = 1, .mode = S_IFDIR | 0700, .nlink = 3,
						      .parent = 1, .policy_root = 1});
	record_put_inode(&record, &(struct inode_row){.ino = 2, .mode = S_IFDIR | 0700, .nlink = 3,
						      .parent = 1, .policy_root = 1});
	put_shard_no(&record, 1);
	put_chunk_in(&record, 1, 1);
	put_chunk_in(&record, 2, 1);
	record_put_extent(&record, &extents[0]);
	record_put_extent(&record, &extents[1]);
	record_put_provider(&record, &provider);
	record_put_copy(&record, &copy);
	apply(&record);
	cr_assert_eq(prove(), 0);
	close_index();
	snprintf(saved, sizeof(saved), "%s.saved", path);
	snprintf(command, sizeof(command), "cp %s %s", path, saved);
	cr_assert_eq(system(command), 0);
	for (size_t i = 0; i < ARRAY_COUNT(wrongs); i++) {
		snprintf(command, sizeof(command), "cp %s %s", saved, path);
		cr_assert_eq(system(command), 0);
		sql(wrongs[i]);
		open_index();
		cr_assert_gt(prove(), 0, "%s", wrongs[i]);
		close_index();
	}
}

static void put_copy(struct record *record, uint64_t shard_no, uint32_t provider_no,
		     uint32_t state, int64_t verified_sec)
{
	struct copy_row copy = {.shard_no = shard_no,
				.provider_no = provider_no,
				.state = state,
				.verified_sec = verified_sec};

	record_put_copy(record, &copy);
}

Test(index_engine, shards_are_listed_by_when_they_were_verified)
{
	static const struct verified_row wanted[] = {{0, 3}, {0, 5}, {50, 1}, {70, 2}};
	AUTO(verified_list) found = ROW_LIST_INIT;
	AUTO(record) record = RECORD_INIT, later = RECORD_INIT;
	struct verified_count count;
	struct verified_row last = {INT64_MIN, 0};

	start("verified");
	cr_assert_eq(index_count_verified(index_, reader, 0, &count), 0);
	cr_assert(count.shards == 0 && count.since == 0 && count.oldest_sec == 0);
	for (uint64_t no = 1; no <= 5; no++)
		put_shard_no(&record, no);
	put_copy(&record, 1, 1, COPY_VERIFIED, 60);
	put_copy(&record, 1, 2, COPY_VERIFIED, 50);
	put_copy(&record, 1, 3, COPY_PENDING, 0);
	put_copy(&record, 2, 1, COPY_VERIFIED, 70);
	put_copy(&record, 2, 2, COPY_CORRUPT, 10);
	put_copy(&record, 3, 1, COPY_VERIFIED, 90);
	put_copy(&record, 3, 2, COPY_PRESENT, 0);
	put_copy(&record, 4, 1, COPY_MISSING, 20);
	put_copy(&record, 5, 1, COPY_PRESENT, 0);
	apply(&record);
	for (size_t i = 0; i < ARRAY_COUNT(wanted); i++) { /* in pages of one */
		found.count = 0;
		cr_assert_eq(index_list_verified(index_, reader, last.verified_sec, last.shard_no,
						 1, &found), 0);
		cr_assert_eq(found.count, 1);
		last = found.rows[0];
		cr_assert_eq(last.verified_sec, wanted[i].verified_sec, "%zu", i);
		cr_assert_eq(last.shard_no, wanted[i].shard_no, "%zu", i);
	}
	found.count = 0;
	cr_assert_eq(index_list_verified(index_, reader, last.verified_sec, last.shard_no, 9,
					 &found), 0);
	cr_assert_eq(found.count, 0);
	cr_assert_eq(index_count_verified(index_, reader, 60, &count), 0);
	cr_assert(count.shards == 4 && count.since == 1 && count.oldest_sec == 0);
	put_copy(&later, 3, 2, COPY_MISSING, 0);
	put_copy(&later, 5, 1, COPY_VERIFIED, 95);
	apply(&later);
	cr_assert_eq(index_count_verified(index_, reader, 60, &count), 0);
	cr_assert(count.shards == 4 && count.since == 3 && count.oldest_sec == 50);
	close_index();
}

Test(index_engine, sums_of_chunks_and_shards_follow_extents)
{
	struct extent_row extent = {.ino = 2, .off = 0, .len = 100, .chunk_no = 1};
	AUTO(record) first = RECORD_INIT, split = RECORD_INIT, drop = RECORD_INIT;
	struct index_totals totals;
	struct chunk_row chunk;
	struct shard_row shard;

	start("sums");
	put_file(&first, 2, "file", 1, S_IFREG | 0644);
	put_shard_no(&first, 1);
	put_chunk_in(&first, 1, 1);
	put_chunk_in(&first, 2, 1);
	record_put_extent(&first, &extent);
	apply(&first);
	cr_assert_eq(index_get_chunk(index_, reader, 1, &chunk), 0);
	cr_assert_eq(chunk.refs, 1);
	cr_assert_eq(index_get_shard(index_, reader, 1, &shard), 0);
	cr_assert_eq(shard.total_bytes, 200);
	cr_assert_eq(shard.live_bytes, 100);
	/* Overlaid in the middle: two parts of the old one are left. */
	extent = (struct extent_row){.ino = 2, .off = 40, .len = 20, .chunk_no = 2};
	record_put_extent(&split, &extent);
	apply(&split);
	cr_assert_eq(index_get_chunk(index_, reader, 1, &chunk), 0);
	cr_assert_eq(chunk.refs, 2);
	cr_assert_eq(index_get_shard(index_, reader, 1, &shard), 0);
	cr_assert_eq(shard.live_bytes, 200);
	/* Still referenced: not deleted. */
	record_del_chunk(&drop, 1);
	record_del_extents(&drop, 2, 0, 50);
	record_del_chunk(&drop, 1);
	record_del_extents(&drop, 2, 50, UINT64_MAX - 50);
	record_del_chunk(&drop, 1);
	apply(&drop);
	cr_assert_eq(index_get_chunk(index_, reader, 1, &chunk), -ENOENT);
	cr_assert_eq(index_get_chunk(index_, reader, 2, &chunk), 0);
	cr_assert_eq(chunk.refs, 0);
	cr_assert_eq(index_get_shard(index_, reader, 1, &shard), 0);
	cr_assert_eq(shard.live_bytes, 0);
	cr_assert_eq(shard.total_bytes, 100);
	index_totals(index_, &totals);
	cr_assert_eq(totals.chunks, 1);
	cr_assert_eq(totals.inodes, 2);
	cr_assert_eq(totals.bytes, 10);
	cr_assert_eq(prove(), 0);
	close_index();
}

Test(index_engine, a_snapshot_keeps_what_it_sees_until_it_goes)
{
	struct extent_row extent = {.ino = 2, .off = 0, .len = 100, .chunk_no = 1};
	struct snapshot_row snapshot = {.snapshot_no = 1, .name = "s", .root = 1};
	AUTO(record) first = RECORD_INIT, take = RECORD_INIT, gone = RECORD_INIT, end = RECORD_INIT;
	struct inode_row orphan = {.ino = 2, .mode = S_IFREG, .flags = INODE_ORPHAN, .parent = 1};
	struct chunk_row chunk;

	start("snapshot");
	put_file(&first, 2, "file", 1, S_IFREG | 0644);
	put_shard_no(&first, 1);
	put_chunk_in(&first, 1, 1);
	record_put_extent(&first, &extent);
	apply(&first);
	record_put_snapshot(&take, &snapshot);
	apply(&take);
	record_del_dirent(&gone, 1, 2, bytes_of_str("file"));
	record_put_inode(&gone, &orphan);
	record_del_inode(&gone, 2);
	record_del_chunk(&gone, 1);
	apply(&gone);
	cr_assert_eq(index_get_chunk(index_, reader, 1, &chunk), 0, "the snapshot has it");
	cr_assert_eq(chunk.refs, 1);
	cr_assert_eq(prove(), 0);
	record_del_snapshot(&end, 1);
	record_del_chunk(&end, 1);
	apply(&end);
	cr_assert_eq(index_get_chunk(index_, reader, 1, &chunk), -ENOENT);
	cr_assert_eq(prove(), 0);
	close_index();
}

Test(index_engine, what_had_no_name_any_more_is_not_kept_for_a_snapshot)
{
	struct extent_row extent = {.ino = 2, .off = 0, .len = 100, .chunk_no = 1};
	struct snapshot_row one = {.snapshot_no = 1, .name = "one", .root = 1},
			    two = {.snapshot_no = 2, .name = "two", .root = 1};
	struct inode_row orphan = {.ino = 2, .mode = S_IFREG, .flags = INODE_ORPHAN, .parent = 1};
	AUTO(record) first = RECORD_INIT, take = RECORD_INIT, gone = RECORD_INIT,
		     again = RECORD_INIT, reclaim = RECORD_INIT, end = RECORD_INIT;
	struct chunk_row chunk;
	uint64_t rows = 0;

	start("orphan");
	put_shard_no(&first, 1);
	put_chunk_in(&first, 1, 1);
	put_file(&first, 2, "file", 1, S_IFREG | 0644);
	record_put_extent(&first, &extent);
	apply(&first);
	record_put_snapshot(&take, &one);
	apply(&take);
	extent.off = 1000; /* written after the first snapshot: nobody will see it */
	extent.chunk_no = 2;
	put_chunk_in(&gone, 2, 1);
	record_put_extent(&gone, &extent);
	record_del_dirent(&gone, 1, 2, bytes_of_str("file"));
	record_put_inode(&gone, &orphan);
	record_put_orphan(&gone, 2);
	apply(&gone);
	record_put_snapshot(&again, &two);
	apply(&again);
	record_del_inode(&reclaim, 2);
	record_del_orphan(&reclaim, 2);
	record_del_chunk(&reclaim, 2);
	apply(&reclaim);
	cr_assert_eq(index_get_chunk(index_, reader, 2, &chunk), -ENOENT, "no snapshot shows it");
	cr_assert_eq(index_get_chunk(index_, reader, 1, &chunk), 0, "the first one does");
	cr_assert_eq(index_count_history(index_, reader, &rows), 0);
	cr_assert_eq(rows, 3, "inode, name and extent, for the first one");
	cr_assert_eq(prove(), 0);
	record_del_snapshot(&end, 1);
	apply(&end);
	cr_assert_eq(index_count_history(index_, reader, &rows), 0);
	cr_assert_eq(rows, 0);
	close_index();
}

/* Not a question of time: what is written is one row, and then what later records replace. */
Test(index_engine, a_snapshot_costs_one_row_and_then_only_what_changes)
{
	struct snapshot_row snapshot = {.snapshot_no = 1, .name = "s", .root = 1};
	AUTO(record) first = RECORD_INIT, take = RECORD_INIT, later = RECORD_INIT,
		     dying = RECORD_INIT, end = RECORD_INIT;
	AUTO(old_list) old = ROW_LIST_INIT;
	struct dir_counter below;
	uint64_t rows = 1;

	start("cost");
	for (uint64_t ino = 2; ino <= 5001; ino++) {
		char name[16];

		snprintf(name, sizeof(name), "f%llu", (unsigned long long)ino);
		put_file(&first, ino, name, 1, S_IFREG | 0644);
	}
	apply(&first);
	record_put_snapshot(&take, &snapshot);
	cr_assert_eq(take.change_count, 1);
	apply(&take);
	cr_assert_eq(index_count_history(index_, reader, &rows), 0);
	cr_assert_eq(rows, 0);
	cr_assert_eq(index_get_dir_counter(index_, reader, ino_in_snapshot(1, 1), &below), 0);
	cr_assert_eq(below.files, 5000);
	cr_assert_eq(below.bytes, 50000);
	for (uint64_t ino = 2; ino <= 11; ino++) {
		struct inode_row row;

		cr_assert_eq(index_get_inode(index_, reader, ino, &row), 0);
		row.uid = 7;
		record_put_inode(&later, &row);
		row.uid = 8; /* twice in a record: the snapshot sees neither */
		record_put_inode(&later, &row);
	}
	put_file(&later, 6000, "new", 1, S_IFREG | 0644);
	apply(&later);
	cr_assert_eq(index_count_history(index_, reader, &rows), 0);
	cr_assert_eq(rows, 10);
	/* While it has its name nothing of it may go, whatever a record says. */
	cr_assert_eq(index_list_old(index_, reader, 2, 100, &old), 0);
	cr_assert_eq(old.count, 10, "what it alone sees");
	for (size_t i = 0; i < old.count; i++)
		record_drop_history(&dying, old.rows[i].ino, old.rows[i].at);
	apply(&dying);
	cr_assert_eq(index_count_history(index_, reader, &rows), 0);
	cr_assert_eq(rows, 10);
	/* Without it goes in steps of any size. */
	snapshot.name[0] = '\0';
	snapshot.seq = 2;
	record_put_snapshot(&end, &snapshot);
	apply(&end);
	for (rows = 10; rows > 0; rows--) {
		AUTO(record) step = RECORD_INIT;
		uint64_t left = 0;

		old.count = 0;
		cr_assert_eq(index_list_old(index_, reader, 2, 1, &old), 0);
		cr_assert_eq(old.count, 1);
		record_drop_history(&step, old.rows[0].ino, old.rows[0].at);
		apply(&step);
		cr_assert_eq(index_count_history(index_, reader, &left), 0);
		cr_assert_eq(left, rows - 1);
		cr_assert_eq(prove(), 0);
	}
	old.count = 0;
	cr_assert_eq(index_list_old(index_, reader, 2, 1, &old), 0);
	cr_assert_eq(old.count, 0);
	close_index();
}

/* Steps of SQLite's machine, in thousands, of every connection that is opened from now on. */
static unsigned steps;

static int on_step(void *ctx)
{
	(void)ctx;
	steps++;
	return 0;
}

static int count_steps(sqlite3 *db, char **error, const struct sqlite3_api_routines *api)
{
	(void)error;
	(void)api;
	sqlite3_progress_handler(db, 1000, on_step, NULL);
	return SQLITE_OK;
}

static unsigned steps_of_creating(uint64_t first, uint64_t count)
{
	unsigned before = steps;

	for (uint64_t i = first; i < first + count; i++) {
		AUTO(record) record = RECORD_INIT;
		char name[32];

		snprintf(name, sizeof(name), "f%llu", (unsigned long long)i);
		put_file(&record, i, name, 1, S_IFREG | 0644);
		apply(&record);
	}
	return steps - before;
}

Test(index_engine, a_change_costs_no_look_at_its_whole_directory_for_a_snapshot)
{
	struct snapshot_row snapshot = {.snapshot_no = 1, .name = "s", .root = 1};
	AUTO(record) make = RECORD_INIT;
	unsigned small, large;

	cr_assert_eq(sqlite3_auto_extension((void (*)(void))count_steps), SQLITE_OK);
	start("steps");
	record_put_snapshot(&make, &snapshot);
	apply(&make);
	small = steps_of_creating(10, 300);
	steps_of_creating(1000, 4000);
	large = steps_of_creating(10000, 300);
	cr_assert(small > 0 && large < 3 * small, "%u steps among few, %u among many", small, large);
	close_index();
}

Test(index_engine, subtrees_are_summed_and_their_shards_paged)
{
	AUTO(record) record = RECORD_INIT;
	struct subtree_totals totals;
	uint64_t shard_nos[8];
	size_t count = 0;

	start("subtree");
	put_file(&record, 2, "dir", 1, S_IFDIR | 0755);
	for (uint64_t i = 3; i < 9; i++) {
		struct extent_row extent = {.ino = i, .off = 0, .len = 10, .chunk_no = i};
		char name[16];

		snprintf(name, sizeof(name), "f%u", (unsigned)i);
		put_file(&record, i, name, i < 8 ? 2 : 1, S_IFREG | 0644);
		put_shard_no(&record, i);
		put_chunk_in(&record, i, i);
		record_put_extent(&record, &extent);
		extent.off = 10;
		extent.chunk_no = 3; /* shared by all */
		record_put_extent(&record, &extent);
	}
	apply(&record);
	cr_assert_eq(index_subtree_shards(index_, reader, 2, 0, 3, shard_nos, &count, &totals), 0);
	cr_assert_eq(count, 3);
	cr_assert_eq(shard_nos[0], 3);
	cr_assert_eq(totals.files, 5);
	cr_assert_eq(totals.directories, 1);
	cr_assert_eq(totals.bytes, 50);
	cr_assert_eq(totals.extents, 10);
	cr_assert_eq(totals.chunks, 5);
	cr_assert_eq(totals.stored_bytes, 500);
	cr_assert_eq(totals.shared_bytes, 100, "chunk 3 is used outside as well");
	cr_assert_eq(index_subtree_shards(index_, reader, 2, 5, 8, shard_nos, &count, NULL), 0);
	cr_assert_eq(count, 2);
	cr_assert_eq(shard_nos[1], 7);
	cr_assert_eq(index_subtree_shards(index_, reader, 8, 0, 8, shard_nos, &count, NULL), 0);
	cr_assert_eq(count, 2, "of one file");
	close_index();
}

Test(index_engine, sparse_shards_are_those_below_the_limit)
{
	AUTO(record) record = RECORD_INIT;
	AUTO(shard_list) shards = ROW_LIST_INIT;

	start("sparse");
	put_file(&record, 2, "file", 1, S_IFREG | 0644);
	put_shard_no(&record, 1);
	put_shard_no(&record, 2);
	for (uint64_t i = 1; i <= 10; i++) {
		struct extent_row extent = {.ino = 2, .off = i * 10, .len = 10, .chunk_no = i};

		put_chunk_in(&record, i, 1 + (i > 5));
		if (i <= 2 || i > 5)
			record_put_extent(&record, &extent);
	}
	apply(&record);
	cr_assert_eq(index_list_sparse_shards(index_, reader, 500, 10, &shards), 0);
	cr_assert_eq(shards.count, 1);
	cr_assert_eq(shards.rows[0].shard_no, 1);
	cr_assert_eq(shards.rows[0].live_bytes, 200);
	shards.count = 0;
	cr_assert_eq(index_list_sparse_shards(index_, reader, 400, 10, &shards), 0);
	cr_assert_eq(shards.count, 0);
	close_index();
}

/* More rows than apply keeps in memory, in one record each way. */
Test(index_engine, a_file_of_very_many_extents_comes_and_goes, .timeout = 120)
{
	AUTO(record) put = RECORD_INIT, del = RECORD_INIT, end = RECORD_INIT;
	struct inode_row orphan = {.ino = 2, .mode = S_IFREG, .flags = INODE_ORPHAN, .parent = 1};
	const uint64_t count = 80000;
	struct index_totals totals;

	start("many");
	put_file(&put, 2, "file", 1, S_IFREG | 0644);
	put_shard_no(&put, 1);
	for (uint64_t i = 1; i <= count; i++) {
		struct extent_row extent = {.ino = 2, .off = i * 10, .len = 10, .chunk_no = i};

		put_chunk_in(&put, i, 1);
		record_put_extent(&put, &extent);
	}
	apply(&put);
	record_del_dirent(&del, 1, 2, bytes_of_str("file"));
	record_put_inode(&del, &orphan);
	record_del_inode(&del, 2);
	apply(&del);
	cr_assert_eq(prove(), 0);
	for (uint64_t i = 1; i <= count; i++)
		record_del_chunk(&end, i);
	apply(&end);
	index_totals(index_, &totals);
	cr_assert_eq(totals.chunks, 0);
	cr_assert_eq(prove(), 0);
	close_index();
}

Test(index_engine, only_a_checkpoint_makes_what_is_applied_durable)
{
	AUTO(record) record = RECORD_INIT;

	start("durable");
	cr_assert_eq(index_durable_seq(index_), 0);
	put_file(&record, 2, "file", 1, S_IFREG | 0644);
	apply(&record);
	cr_assert_eq(index_applied_seq(index_), 1);
	cr_assert_eq(index_durable_seq(index_), 0);
	cr_assert_eq(index_checkpoint(index_), 0);
	cr_assert_eq(index_durable_seq(index_), 1);
	close_index();
	open_index();
	cr_assert_eq(index_durable_seq(index_), 1);
	close_index();
}

Test(index_engine, damaged_and_unordered_records_change_nothing)
{
	AUTO(record) good = RECORD_INIT, bad = RECORD_INIT;
	struct record *both[] = {&good, &bad}, *unordered[] = {&bad, &good};
	struct inode_row row;

	start("bad-record");
	put_file(&good, 2, "file", 1, S_IFREG | 0644);
	put_file(&bad, 3, "other", 1, S_IFREG | 0644);
	good.seq = 1;
	bad.seq = 2;
	cr_assert_eq(index_apply(index_, unordered, 2), -EBADMSG);
	bad.changes.len--;
	cr_assert_eq(index_apply(index_, both, 2), -EBADMSG);
	cr_assert_eq(index_applied_seq(index_), 0);
	/* The good one is still visible, since it was noted, and can be applied. */
	cr_assert_eq(index_apply(index_, both, 1), 0);
	cr_assert_eq(index_get_inode(index_, reader, 2, &row), 0);
	cr_assert_eq(index_get_inode(index_, reader, 3, &row), -ENOENT);
	close_index();
}

Test(index_engine, a_note_without_memory_shows_nothing_of_the_record)
{
	start("no-memory");
	for (uint64_t nth = 1;; nth++) {
		AUTO(record) record = RECORD_INIT;
		struct dirent_row dirent;
		struct inode_row row;
		int r;

		put_file(&record, 2, "file", 1, S_IFREG | 0644);
		record_del_extents(&record, 2, 5, 10);
		record_put_orphan(&record, 2);
		record.seq = 1;
		mem_fail_at(nth);
		r = index_note(index_, &record);
		mem_fail_at(0);
		if (r == 0) {
			cr_assert_gt(nth, 3);
			cr_assert_eq(index_get_inode(index_, NULL, 2, &row), 0);
			break;
		}
		cr_assert_eq(r, -ENOMEM);
		cr_assert_eq(index_get_inode(index_, reader, 2, &row), -ENOENT);
		cr_assert_eq(index_find_dirent(index_, reader, 1, bytes_of_str("file"), &dirent),
			     -ENOENT);
	}
	close_index();
}

Test(index_engine, a_full_disk_applies_nothing_and_clears)
{
	char dir[400];
	const char *tmp = getenv("TMPDIR");
	uint64_t ino = 2;
	int fd, r = 0;
	char ballast[512];

	snprintf(dir, sizeof(dir), "%s/full-%d", tmp != NULL ? tmp : "/tmp", (int)getpid());
	cr_assert_eq(mkdir(dir, 0700), 0);
	if (mount("tmpfs", dir, "tmpfs", 0, "size=4m") < 0) {
		rmdir(dir);
		cr_skip_test("needs root for a small tmpfs");
	}
	snprintf(path, sizeof(path), "%s/index.db", dir);
	snprintf(ballast, sizeof(ballast), "%s/ballast", dir);
	cr_assert_eq(index_create(path, &root), 0);
	fd = open(ballast, O_CREAT | O_WRONLY, 0600);
	cr_assert_eq(posix_fallocate(fd, 0, 2 * MIB), 0);
	close(fd);
	open_index();
	for (; r == 0 && ino < 1000000; ino++) {
		AUTO(record) record = RECORD_INIT;
		struct record *one = &record;
		char name[NAME_LEN_MAX];

		memset(name, 'x', sizeof(name));
		snprintf(name, sizeof(name), "%0240u", (unsigned)ino);
		put_file(&record, ino, name, 1, S_IFREG | 0644);
		record.seq = ++seq;
		cr_assert_eq(index_note(index_, &record), 0);
		r = index_apply(index_, &one, 1);
		if (r < 0) {
			struct inode_row row;

			cr_assert_eq(r, -ENOSPC);
			cr_assert_eq(index_applied_seq(index_), seq - 1);
			cr_assert_eq(index_get_inode(index_, reader, ino, &row), 0, "noted");
			cr_assert_eq(index_get_inode(index_, reader, ino - 1, &row), 0, "applied");
			unlink(ballast);
			cr_assert_eq(index_apply(index_, &one, 1), 0, "there is room again");
			cr_assert_eq(index_applied_seq(index_), seq);
		}
	}
	cr_assert_eq(r, -ENOSPC);
	cr_assert_eq(prove(), 0);
	close_index();
	cr_assert_eq(umount(dir), 0);
	rmdir(dir);
}
