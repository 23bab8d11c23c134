/* SPDX-License-Identifier: Apache-2.0 */
/* Clones against a real store: what meets them on their way. */
#include "store/clone.h"
#include "store/names.h"

#include "tests/lib/store_world.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

static struct store_world world;

static void setup(void)
{
	store_world_init(&world);
}

static void teardown(void)
{
	store_world_release(&world);
}

TestSuite(store_clone, .init = setup, .fini = teardown, .timeout = 120);

static void drop(struct inode *inode)
{
	inode_unref(world.store->inodes, inode, 1);
}

static struct inode *make(struct inode *dir, const char *name, uint32_t mode)
{
	struct names_new new_file = {.mode = mode, .uid = 7, .gid = 8};
	struct inode *inode;

	cr_assert_eq(names_create(world.store, world.reader, dir, bytes_of_str(name), &new_file,
				  &inode), 0);
	return inode;
}

static struct inode *look_up(struct inode *dir, const char *name)
{
	struct inode *inode;

	cr_assert_eq(names_lookup(world.store, world.reader, dir, bytes_of_str(name), &inode), 0,
		     "%s", name);
	return inode;
}

/* A tree of `count` files and a directory. */
static struct inode *make_tree(unsigned count)
{
	struct inode *dir = make(world.root, "src", S_IFDIR | 0750);

	drop(make(dir, "sub", S_IFDIR | 0700));
	for (unsigned i = 0; i < count; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		drop(make(dir, name, S_IFREG | 0640));
	}
	return dir;
}

static size_t count_entries(struct inode *dir)
{
	AUTO(dirent_list) list = ROW_LIST_INIT;

	cr_assert_eq(index_list_dirents(world.store->index, world.reader, dir->row.ino, 0, 100000,
					&list), 0);
	return list.count;
}

static void found(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "%s\n", text);
}

static void expect_sound(void)
{
	uint64_t violations;
	int r = sequencer_wait_applied(world.store->sequencer,
				       sequencer_last_seq(world.store->sequencer));

	cr_assert_eq(r, 0);
	cr_assert_eq(index_prove(world.store->index, world.reader, found, NULL, &violations), 0);
	cr_assert_eq(violations, 0);
}

static int clone_to(struct inode *src, const char *name, const struct clone_watch *watch,
		 struct clone_report *report)
{
	static const struct clone_watch nobody;
	AUTO(buf) why = BUF_INIT;
	int r = store_clone(world.store, world.reader, src, world.root, bytes_of_str(name),
			    watch ? watch : &nobody, report, &why);

	cr_assert_eq(r == 0, why.len == 0, "%d %s", r, why.len ? buf_str(&why) : "");
	return r;
}

/* Cancelled at the nth question. */
static bool cancel_at(void *ctx)
{
	unsigned *left = ctx;

	return (*left)-- == 0;
}

Test(store_clone, nothing_of_a_cancelled_one_is_left)
{
	struct inode *src = make_tree(20);
	struct clone_report report;

	for (unsigned at = 0; at < 30; at += 3) {
		unsigned left = at;
		struct clone_watch watch = {.is_cancelled = cancel_at, .ctx = &left};
		int r = clone_to(src, "dst", &watch, &report);

		cr_assert(r == -ECANCELED || r == 0, "%d", r);
		cr_assert_eq(count_entries(world.root), r == 0 ? 2 : 1);
		if (r == 0)
			break;
	}
	expect_sound();
	drop(src);
}

/* Somebody finds the unfinished tree and puts a file into it. */
static void meddle(void *ctx, const struct clone_report *report)
{
	AUTO(dirent_list) list = ROW_LIST_INIT;
	bool *is_done = ctx;

	(void)report;
	if (*is_done)
		return;
	*is_done = true;
	cr_assert_eq(index_list_dirents(world.store->index, world.reader, INO_ROOT, 0, 10, &list), 0);
	for (size_t i = 0; i < list.count; i++)
		if (strncmp(list.rows[i].name, CLONE_PREFIX, strlen(CLONE_PREFIX)) == 0) {
			struct inode *dir = look_up(world.root, list.rows[i].name);

			drop(make(dir, "f19", S_IFREG | 0600));
			drop(dir);
			return;
		}
	cr_assert(false, "no unfinished clone");
}

/* Somebody moves it into its own source, where the walk would follow it for ever. */
static void swallow(void *ctx, const struct clone_report *report)
{
	AUTO(dirent_list) list = ROW_LIST_INIT;
	struct inode *src = look_up(world.root, "src"), *busy = NULL;

	(void)ctx;
	(void)report;
	cr_assert_eq(index_list_dirents(world.store->index, world.reader, INO_ROOT, 0, 10, &list), 0);
	for (size_t i = 0; i < list.count; i++)
		if (strncmp(list.rows[i].name, CLONE_PREFIX, strlen(CLONE_PREFIX)) == 0)
			cr_assert_eq(names_rename(world.store, world.reader, world.root,
						  bytes_of_str(list.rows[i].name), src,
						  bytes_of_str("swallowed"), 0, &busy), 0);
	drop(src);
}

Test(store_clone, one_that_is_moved_into_its_source_ends)
{
	struct inode *src = make_tree(300);
	struct clone_watch watch = {.progress = swallow};
	struct clone_report report;

	cr_assert_eq(clone_to(src, "dst", &watch, &report), -ESTALE);
	cr_assert_eq(count_entries(world.root), 1);
	expect_sound();
	drop(src);
}

Test(store_clone, one_that_somebody_changes_is_given_up)
{
	struct inode *src = make_tree(20);
	struct clone_report report;
	bool is_done = false;
	struct clone_watch watch = {.progress = meddle, .ctx = &is_done};

	cr_assert_eq(clone_to(src, "dst", &watch, &report), -ESTALE);
	cr_assert(is_done);
	cr_assert_eq(count_entries(world.root), 1);
	cr_assert_eq(clone_to(src, "dst", NULL, &report), 0);
	cr_assert_eq(report.files, 20);
	cr_assert_eq(report.directories, 2);
	expect_sound();
	drop(src);
}

static void keep_times(void *ctx, struct inode_row *row)
{
	(void)ctx;
	(void)row;
}

#define PIECES 3000u

/* Changes the source while its extents are on their way, in several records. */
struct src_change {
	struct inode *src;
	unsigned questions;
};

static bool change_source(void *ctx)
{
	struct src_change *change = ctx;

	if (change->questions++ == 1)
		cr_assert_eq(writer_zero(world.store->writer, change->src, world.reader,
					 8192ull * PIECES, 4096, false, false, keep_times, NULL), 0);
	return false;
}

Test(store_clone, a_long_file_is_as_it_was_at_one_moment)
{
	struct inode *src = store_world_file(&world, "long"), *dst;
	struct src_change change = {.src = src};
	struct clone_watch watch = {.is_cancelled = change_source, .ctx = &change};
	AUTO(extent_list) want = ROW_LIST_INIT, got = ROW_LIST_INIT;
	struct clone_report report;
	uint64_t covered;

	for (unsigned i = 0; i < PIECES; i++)
		cr_assert_eq(writer_zero(world.store->writer, src, world.reader, 8192ull * i, 4096,
					 false, false, keep_times, NULL), 0);
	cr_assert_eq(clone_to(src, "dst", &watch, &report), 0);
	cr_assert_gt(change.questions, 3);
	dst = look_up(world.root, "dst");
	cr_assert_eq(dst->row.size, 8192ull * PIECES + 4096);
	cr_assert_eq(dst->size, dst->row.size);
	cr_assert_eq(index_find_extents(world.store->index, world.reader, src->row.ino, 0,
					src->row.size, 2 * PIECES, &want, &covered), 0);
	cr_assert_eq(index_find_extents(world.store->index, world.reader, dst->row.ino, 0,
					src->row.size, 2 * PIECES, &got, &covered), 0);
	cr_assert_eq(want.count, PIECES + 1);
	cr_assert_eq(got.count, want.count);
	for (size_t i = 0; i < want.count; i++)
		cr_assert(got.rows[i].off == want.rows[i].off && got.rows[i].len == want.rows[i].len);
	expect_sound();
	drop(src);
	drop(dst);
}

Test(store_clone, bytes_that_are_not_pushed_yet_are_in_it)
{
	struct inode *src = store_world_file(&world, "src"), *dst;
	struct clone_report report;
	uint8_t got[16];
	size_t len;

	cr_assert_eq(writer_write(world.store->writer, src, 0, bytes_of_str("fresh"), false, true,
				  &(struct waiter){0}), 0);
	cr_assert_eq(clone_to(src, "dst", NULL, &report), 0);
	dst = look_up(world.root, "dst");
	cr_assert_eq(writer_read(world.store->writer, dst, world.reader, 0, sizeof(got), got, &len),
		     0);
	cr_assert_eq(len, 5);
	cr_assert_eq(memcmp(got, "fresh", 5), 0);
	/* and each goes its own way */
	store_world_write(&world, src, 0, bytes_of_str("other"));
	cr_assert_eq(writer_read(world.store->writer, dst, world.reader, 0, sizeof(got), got, &len),
		     0);
	cr_assert_eq(memcmp(got, "fresh", 5), 0);
	drop(src);
	drop(dst);
	expect_sound();
}

Test(store_clone, what_is_listed_as_unfinished_is_swept_and_nothing_else)
{
	static const struct clone_watch nobody;
	struct clone_report report;
	struct inode *dir = make(world.root, CLONE_PREFIX "00000000000000ab", S_IFDIR | 0700);
	struct inode *other = make(world.root, CLONE_PREFIX "00000000000000cd", S_IFDIR | 0700);
	struct record *record = record_new();
	uint64_t seq;

	drop(make(dir, "deep", S_IFDIR | 0700));
	drop(make(dir, "file", S_IFREG | 0600));
	drop(dir);
	drop(other);
	/* the third of them is gone, the fourth was in a directory that is */
	record_put_setting(record, bytes_of_str("clones"),
			   bytes_of_str("1:00000000000000ab\n1:00000000000000ef\n"
					"99999:00000000000000ab\n"));
	cr_assert_eq(sequencer_submit(world.store->sequencer, record, &seq), 0);
	store_world_reopen(&world);
	/* a clone that comes first is none of the sweep's */
	other = make_tree(3);
	cr_assert_eq(clone_to(other, "dst", NULL, &report), 0);
	drop(other);
	cr_assert_eq(count_entries(world.root), 4);
	cr_assert_eq(store_clone_sweep(world.store, world.reader, &nobody), 0);
	cr_assert_eq(count_entries(world.root), 3);
	drop(look_up(world.root, CLONE_PREFIX "00000000000000cd"));
	store_world_reopen(&world);
	cr_assert_eq(store_clone_sweep(world.store, world.reader, &nobody), 0);
	expect_sound();
}
