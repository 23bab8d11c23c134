/* SPDX-License-Identifier: Apache-2.0 */
/* A whole file system in which policies change over data that is there. */
#include "store/converge.h"
#include "store/names.h"
#include "store/store_private.h"
#include "tests/lib/hooks.h"
#include "tests/lib/store_world.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DATA_LEN 20000u

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

TestSuite(store_converge, .init = setup, .fini = teardown, .timeout = 120);

static struct inode *make(struct inode *dir, const char *name, uint32_t mode)
{
	struct names_new new_file = {.mode = mode};
	struct inode *inode;

	cr_assert_eq(names_create(world.store, world.reader, dir, bytes_of_str(name), &new_file,
				  &inode), 0);
	return inode;
}

static struct inode *make_dir(struct inode *dir, const char *name)
{
	return make(dir, name, S_IFDIR | 0755);
}

static struct inode *make_file(struct inode *dir, const char *name, unsigned seed)
{
	static uint8_t data[DATA_LEN];
	struct inode *inode = make(dir, name, S_IFREG | 0644);

	for (unsigned i = 0; i < DATA_LEN; i++) {
		seed = seed * 1103515245u + 12345u;
		data[i] = (uint8_t)(seed >> 16);
	}
	store_world_write(&world, inode, 0, bytes_of(data, DATA_LEN));
	store_world_push(&world, inode);
	return inode;
}

static void drop(struct inode *inode)
{
	inode_unref(world.store->inodes, inode, 1);
}

static void set_policy(struct inode *dir, const char *text)
{
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(store_set_policy(world.store, dir, text, &why), 0, "%s", buf_str(&why));
}

static uint64_t root_of(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return inode->row.policy_root;
}

/* The queue says when it is empty; there is nothing to wait on in its contract, so it is asked. */
static void settle(void)
{
	struct timespec pause = {.tv_nsec = 5000000};

	while (converge_is_pending(world.store->priv->converge))
		nanosleep(&pause, NULL);
}

static void status(struct inode *inode, struct store_protection *out)
{
	cr_assert_eq(store_protection(world.store, world.reader, inode, STORE_ASK_COPIES, out), 0);
}

static void until_protected(struct inode *inode, unsigned copies)
{
	struct timespec pause = {.tv_nsec = 20000000};
	struct store_protection now;

	for (;;) {
		status(inode, &now);
		if (now.worst == PROTECTION_PROTECTED)
			break;
		nanosleep(&pause, NULL);
	}
	cr_assert_geq(now.copies_have, copies);
}

/* The class of the shard where the first chunk of a file lies. */
static uint64_t class_root_of(struct inode *inode)
{
	AUTO(extent_list) extents = ROW_LIST_INIT;
	struct chunk_row chunk;
	struct shard_row shard;
	uint64_t end;

	cr_assert_eq(index_find_extents(world.store->index, world.reader, inode->row.ino, 0, 1, 1,
					&extents, &end), 0);
	cr_assert_eq(extents.count, 1);
	cr_assert_eq(index_get_chunk(world.store->index, world.reader, extents.rows[0].chunk_no,
				     &chunk), 0);
	cr_assert_eq(index_get_shard(world.store->index, world.reader, chunk.shard_no, &shard), 0);
	return shard.policy_root;
}

Test(store_converge, a_stronger_policy_reaches_files_below_and_their_data)
{
	struct inode *top, *sub, *file, *late;
	uint64_t ino;

	set_policy(world.root, "copies=1");
	top = make_dir(world.root, "top");
	sub = make_dir(top, "sub");
	file = make_file(sub, "file", 1);
	ino = top->row.ino;
	until_protected(world.root, 1);
	set_policy(top, "copies=3");
	settle();
	late = make_file(sub, "late", 2);
	cr_assert_eq(root_of(sub), ino);
	cr_assert_eq(root_of(file), ino);
	cr_assert_eq(root_of(late), ino);
	cr_assert_eq(class_root_of(file), ino);
	until_protected(file, 3);
	until_protected(top, 3);
	drop(late);
	drop(file);
	drop(sub);
	drop(top);
}

Test(store_converge, nothing_below_is_protected_while_the_policy_is_on_its_way)
{
	struct inode *top, *sub, *file;
	struct store_protection now;

	set_policy(world.root, "copies=1");
	top = make_dir(world.root, "top");
	sub = make_dir(top, "sub");
	file = make_file(sub, "file", 3);
	until_protected(world.root, 1);
	test_hooks("hold converge-rows-before\n");
	set_policy(top, "copies=2");
	status(file, &now);
	cr_assert_neq(now.worst, PROTECTION_PROTECTED);
	status(top, &now);
	cr_assert_neq(now.worst, PROTECTION_PROTECTED);
	status(world.root, &now);
	cr_assert_neq(now.worst, PROTECTION_PROTECTED);
	test_hooks("");
	settle();
	until_protected(top, 2);
	drop(file);
	drop(sub);
	drop(top);
}

Test(store_converge, a_removed_policy_hands_its_tree_back_to_the_one_above)
{
	struct inode *outer, *inner, *file;

	outer = make_dir(world.root, "outer");
	inner = make_dir(outer, "inner");
	set_policy(outer, "copies=2");
	set_policy(inner, "copies=1");
	settle();
	file = make_file(inner, "file", 4);
	cr_assert_eq(root_of(file), inner->row.ino);
	set_policy(inner, NULL);
	settle();
	cr_assert_eq(root_of(inner), outer->row.ino);
	cr_assert_eq(root_of(file), outer->row.ino);
	until_protected(file, 2);
	set_policy(outer, NULL);
	settle();
	cr_assert_eq(root_of(file), INO_ROOT);
	drop(file);
	drop(inner);
	drop(outer);
}

Test(store_converge, a_policy_of_its_own_is_left_alone)
{
	struct inode *outer, *inner, *file;

	outer = make_dir(world.root, "outer");
	inner = make_dir(outer, "inner");
	set_policy(inner, "copies=1");
	file = make_file(inner, "file", 5);
	set_policy(outer, "copies=3");
	settle();
	cr_assert_eq(root_of(inner), inner->row.ino);
	cr_assert_eq(root_of(file), inner->row.ino);
	drop(file);
	drop(inner);
	drop(outer);
}

Test(store_converge, a_weaker_policy_moves_nothing)
{
	struct inode *top, *file;

	set_policy(world.root, "copies=3");
	top = make_dir(world.root, "top");
	file = make_file(top, "file", 6);
	set_policy(top, "copies=1");
	settle();
	cr_assert_eq(root_of(file), top->row.ino);
	cr_assert_eq(class_root_of(file), INO_ROOT);
	drop(file);
	drop(top);
}

Test(store_converge, a_renamed_tree_follows_the_policy_where_it_goes)
{
	struct inode *weak, *strong, *tree, *file, *busy = NULL;

	weak = make_dir(world.root, "weak");
	strong = make_dir(world.root, "strong");
	set_policy(weak, "copies=1");
	set_policy(strong, "copies=3");
	settle();
	tree = make_dir(weak, "tree");
	file = make_file(tree, "file", 7);
	cr_assert_eq(root_of(file), weak->row.ino);
	cr_assert_eq(names_rename(world.store, world.reader, weak, bytes_of_str("tree"), strong,
				  bytes_of_str("tree"), 0, &busy), 0);
	settle();
	cr_assert_eq(root_of(tree), strong->row.ino);
	cr_assert_eq(root_of(file), strong->row.ino);
	cr_assert_eq(class_root_of(file), strong->row.ino);
	until_protected(file, 3);
	drop(file);
	drop(tree);
	drop(strong);
	drop(weak);
}

Test(store_converge, a_restart_goes_on_where_it_was)
{
	struct inode *top, *sub, *file;
	uint64_t ino;

	set_policy(world.root, "copies=1");
	settle();
	top = make_dir(world.root, "top");
	sub = make_dir(top, "sub");
	file = make_file(sub, "file", 8);
	ino = top->row.ino;
	test_hooks("fail converge-rows-before EIO 0\n");
	set_policy(top, "copies=3");
	drop(file);
	drop(sub);
	drop(top);
	store_world_reopen(&world);
	cr_assert(converge_is_pending(world.store->priv->converge));
	test_hooks("");
	settle();
	cr_assert_eq(names_lookup(world.store, world.reader, world.root, bytes_of_str("top"), &top),
		     0);
	cr_assert_eq(names_lookup(world.store, world.reader, top, bytes_of_str("sub"), &sub), 0);
	cr_assert_eq(names_lookup(world.store, world.reader, sub, bytes_of_str("file"), &file), 0);
	cr_assert_eq(root_of(file), ino);
	cr_assert_eq(class_root_of(file), ino);
	drop(file);
	drop(sub);
	drop(top);
}

Test(store_converge, more_changes_than_the_queue_holds_reach_everything)
{
	struct inode *dirs[CONVERGE_ENTRIES_MAX + 20], *subs[CONVERGE_ENTRIES_MAX + 20];
	char name[16];

	for (unsigned i = 0; i < CONVERGE_ENTRIES_MAX + 20; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		dirs[i] = make_dir(world.root, name);
		subs[i] = make_dir(dirs[i], "sub");
	}
	test_hooks("fail converge-rows-before EIO 0\n");
	for (unsigned i = 0; i < CONVERGE_ENTRIES_MAX + 20; i++)
		set_policy(dirs[i], "copies=2");
	test_hooks("");
	settle();
	for (unsigned i = 0; i < CONVERGE_ENTRIES_MAX + 20; i++) {
		cr_assert_eq(root_of(subs[i]), dirs[i]->row.ino);
		drop(subs[i]);
		drop(dirs[i]);
	}
}
