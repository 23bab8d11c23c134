/* SPDX-License-Identifier: Apache-2.0 */
/* The namespace against a real store: what an operation promises, from memory and after a restart. */
#include "store/names.h"

#include "store/acl.h"
#include "tests/lib/store_world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/xattr.h>

static struct store_world world;

static void setup(void)
{
	store_world_init(&world);
}

static void teardown(void)
{
	store_world_release(&world);
}

TestSuite(store_names, .init = setup, .fini = teardown, .timeout = 60);

static struct inode *make(struct inode *dir, const char *name, uint32_t mode)
{
	struct names_new new_file = {.mode = mode, .umask = 022, .uid = 7, .gid = 8};
	struct inode *inode;

	cr_assert_eq(names_create(world.store, world.reader, dir, bytes_of_str(name), &new_file,
				  &inode), 0);
	return inode;
}

static int look_up(struct index_reader *reader, struct inode *dir, const char *name,
		   struct inode **out)
{
	return names_lookup(world.store, reader, dir, bytes_of_str(name), out);
}

static void drop(struct inode *inode)
{
	inode_unref(world.store->inodes, inode, 1);
}

static int rename_to(struct inode *from, const char *name, struct inode *to, const char *new_name,
		     unsigned flags)
{
	struct inode *busy = NULL;
	int r = names_rename(world.store, world.reader, from, bytes_of_str(name), to,
			     bytes_of_str(new_name), flags, &busy);

	if (busy)
		drop(busy);
	return r;
}

Test(store_names, what_was_made_is_found_from_memory_and_after_a_restart)
{
	struct inode *dir = make(world.root, "dir", S_IFDIR | 0777);
	struct inode *file = make(dir, "file", S_IFREG | 0666);
	struct inode *found;
	uint64_t ino = file->row.ino;

	cr_assert_eq(dir->row.mode, S_IFDIR | 0755u);
	cr_assert_eq(world.root->row.nlink, 3);
	/* A new directory is known whole: what is not in it needs no look at the disk. */
	cr_assert_eq(look_up(NULL, dir, "other", &found), -ENOENT);
	cr_assert_eq(look_up(NULL, dir, "file", &found), 0);
	cr_assert_eq(found, file);
	drop(found);
	drop(file);
	drop(dir);
	store_world_reopen(&world);
	cr_assert_eq(look_up(world.reader, world.root, "dir", &dir), 0);
	cr_assert_eq(look_up(world.reader, dir, "file", &file), 0);
	cr_assert_eq(file->row.ino, ino);
	cr_assert_eq(file->row.mode, S_IFREG | 0644u);
	cr_assert_eq(file->row.uid, 7);
	drop(file);
	drop(dir);
}

Test(store_names, an_operation_that_fails_changes_nothing)
{
	struct names_new new_file = {.mode = S_IFREG | 0600};
	struct inode *file = make(world.root, "file", S_IFREG | 0600);
	struct inode *dir = make(world.root, "dir", S_IFDIR | 0700), *inode;
	uint64_t seq = sequencer_last_seq(world.store->sequencer);
	char name[300];

	memset(name, 'x', sizeof(name));
	name[256] = 0;
	cr_assert_eq(names_create(world.store, world.reader, world.root, bytes_of_str("file"),
				  &new_file, &inode), -EEXIST);
	cr_assert_eq(names_create(world.store, world.reader, world.root, bytes_of_str(name),
				  &new_file, &inode), -ENAMETOOLONG);
	cr_assert_eq(names_create(world.store, world.reader, file, bytes_of_str("x"), &new_file,
				  &inode), -ENOTDIR);
	cr_assert_eq(names_remove(world.store, world.reader, world.root, bytes_of_str("none"),
				  false), -ENOENT);
	cr_assert_eq(names_remove(world.store, world.reader, world.root, bytes_of_str("dir"),
				  false), -EISDIR);
	cr_assert_eq(names_remove(world.store, world.reader, world.root, bytes_of_str("file"),
				  true), -ENOTDIR);
	cr_assert_eq(names_link(world.store, world.reader, dir, world.root, bytes_of_str("l")),
		     -EPERM);
	cr_assert_eq(rename_to(world.root, "file", world.root, "dir", 0), -EISDIR);
	cr_assert_eq(rename_to(world.root, "dir", world.root, "file", 0), -ENOTDIR);
	cr_assert_eq(rename_to(world.root, "none", world.root, "file", 0), -ENOENT);
	cr_assert_eq(rename_to(world.root, "file", world.root, "dir", RENAME_NOREPLACE), -EEXIST);
	cr_assert_eq(rename_to(world.root, "dir", dir, "in", 0), -EINVAL);
	cr_assert_eq(sequencer_last_seq(world.store->sequencer), seq);
	drop(file);
	drop(dir);
}

Test(store_names, a_directory_with_entries_keeps_its_name)
{
	struct inode *dir = make(world.root, "dir", S_IFDIR | 0700);
	struct inode *file = make(dir, "file", S_IFREG | 0600);
	struct inode *other = make(world.root, "other", S_IFDIR | 0700);

	cr_assert_eq(names_remove(world.store, world.reader, world.root, bytes_of_str("dir"),
				  true), -ENOTEMPTY);
	cr_assert_eq(rename_to(world.root, "other", world.root, "dir", 0), -ENOTEMPTY);
	cr_assert_eq(names_remove(world.store, world.reader, dir, bytes_of_str("file"), false), 0);
	cr_assert_eq(rename_to(world.root, "other", world.root, "dir", 0), 0);
	cr_assert_eq(dir->row.nlink, 0);
	cr_assert_eq(world.root->row.nlink, 3);
	cr_assert_eq(names_remove(world.store, world.reader, world.root, bytes_of_str("dir"),
				  true), 0);
	cr_assert_eq(world.root->row.nlink, 2);
	drop(file);
	drop(dir);
	drop(other);
}

Test(store_names, unlinked_files_live_while_they_are_held_and_are_reclaimed_after)
{
	struct inode *file = make(world.root, "file", S_IFREG | 0600), *found;
	uint64_t ino = file->row.ino;

	store_world_write(&world, file, 0, bytes_of_str("bytes"));
	store_world_push(&world, file);
	cr_assert_eq(names_remove(world.store, world.reader, world.root, bytes_of_str("file"),
				  false), 0);
	cr_assert_eq(file->row.nlink, 0);
	cr_assert(file->row.flags & INODE_ORPHAN);
	cr_assert_eq(look_up(world.reader, world.root, "file", &found), -ENOENT);
	cr_assert_eq(names_load(world.store, world.reader, ino, &found), -ESTALE);
	drop(file);
	store_world_reopen(&world);
	cr_assert_eq(names_load(world.store, world.reader, ino, &found), -ESTALE);
}

Test(store_names, a_file_without_a_name_can_be_given_one)
{
	struct names_new new_file = {.mode = S_IFREG | 0600};
	struct inode *file, *lost;
	uint64_t ino, lost_ino;

	cr_assert_eq(names_create_unnamed(world.store, world.reader, world.root, &new_file, &file),
		     0);
	cr_assert_eq(names_create_unnamed(world.store, world.reader, world.root, &new_file, &lost),
		     0);
	cr_assert_eq(file->row.nlink, 0);
	cr_assert_eq(names_link(world.store, world.reader, file, world.root, bytes_of_str("named")),
		     0);
	cr_assert_eq(file->row.nlink, 1);
	cr_assert_not(file->row.flags & INODE_ORPHAN);
	ino = file->row.ino;
	lost_ino = lost->row.ino;
	drop(file);
	drop(lost);
	store_world_reopen(&world);
	cr_assert_eq(look_up(world.reader, world.root, "named", &file), 0);
	cr_assert_eq(file->row.ino, ino);
	cr_assert_eq(names_load(world.store, world.reader, lost_ino, &lost), -ESTALE);
	drop(file);
}

Test(store_names, unpushed_bytes_are_pushed_before_a_name_moves)
{
	struct inode *file = make(world.root, "a", S_IFREG | 0600);

	store_world_write(&world, file, 0, bytes_of_str("fresh"));
	cr_assert_eq(rename_to(world.root, "a", world.root, "b", 0), -EBUSY);
	cr_assert_eq(names_link(world.store, world.reader, file, world.root, bytes_of_str("c")),
		     -EBUSY);
	store_world_push(&world, file);
	cr_assert_eq(rename_to(world.root, "a", world.root, "b", 0), 0);
	cr_assert_eq(names_link(world.store, world.reader, file, world.root, bytes_of_str("c")), 0);
	cr_assert_eq(file->row.nlink, 2);
	drop(file);
}

Test(store_names, an_exchange_swaps_what_names_mean)
{
	struct inode *dir = make(world.root, "dir", S_IFDIR | 0700);
	struct inode *sub = make(dir, "sub", S_IFDIR | 0700);
	struct inode *file = make(world.root, "file", S_IFREG | 0600), *found;

	cr_assert_eq(rename_to(dir, "sub", world.root, "file", RENAME_EXCHANGE), 0);
	cr_assert_eq(look_up(NULL, dir, "sub", &found), 0);
	cr_assert_eq(found, file);
	drop(found);
	cr_assert_eq(look_up(world.reader, world.root, "file", &found), 0);
	cr_assert_eq(found, sub);
	drop(found);
	cr_assert_eq(dir->row.nlink, 2);
	cr_assert_eq(world.root->row.nlink, 4);
	cr_assert_eq(sub->row.parent, INO_ROOT);
	cr_assert_eq(rename_to(world.root, "file", world.root, "none", RENAME_EXCHANGE), -ENOENT);
	cr_assert_eq(rename_to(world.root, "dir", world.root, "x",
			       RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
	drop(dir);
	drop(sub);
	drop(file);
}

Test(store_names, immutable_and_append_only_hold_everywhere)
{
	struct inode *file = make(world.root, "file", S_IFREG | 0600);
	struct inode *dir = make(world.root, "dir", S_IFDIR | 0700), *in = make(dir, "in", S_IFREG);
	struct names_new new_file = {.mode = S_IFREG | 0600};
	struct names_attr chmod = {.valid = NAMES_MODE, .mode = 0644};
	struct inode *inode;

	cr_assert_eq(names_set_flags(world.store, file, INODE_IMMUTABLE), 0);
	cr_assert_eq(names_remove(world.store, world.reader, world.root, bytes_of_str("file"),
				  false), -EPERM);
	cr_assert_eq(rename_to(world.root, "file", world.root, "x", 0), -EPERM);
	cr_assert_eq(names_link(world.store, world.reader, file, world.root, bytes_of_str("x")),
		     -EPERM);
	cr_assert_eq(names_set_attr(world.store, world.reader, file, &chmod), -EPERM);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file, bytes_of_str("user.a"),
				     bytes_of_str("1"), 0, false), -EPERM);
	cr_assert_eq(names_check_write(world.store, file, 0), -EPERM);
	cr_assert_eq(names_set_flags(world.store, dir, INODE_APPEND), 0);
	cr_assert_eq(names_remove(world.store, world.reader, dir, bytes_of_str("in"), false),
		     -EPERM);
	cr_assert_eq(rename_to(dir, "in", world.root, "out", 0), -EPERM);
	cr_assert_eq(names_create(world.store, world.reader, dir, bytes_of_str("new"), &new_file,
				  &inode), 0);
	drop(inode);
	cr_assert_eq(names_set_flags(world.store, dir, INODE_IMMUTABLE), 0);
	cr_assert_eq(names_create(world.store, world.reader, dir, bytes_of_str("more"), &new_file,
				  &inode), -EPERM);
	drop(file);
	drop(dir);
	drop(in);
}

Test(store_names, an_acl_and_the_mode_are_one_thing)
{
	static const uint8_t list[] = {2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
				       2, 0, 6, 0, 9, 0, 0, 0, 4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
				       16, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
				       32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
	struct bytes name = bytes_of_str(ACL_ACCESS_NAME), value = bytes_of(list, sizeof(list));
	struct names_attr chmod = {.valid = NAMES_MODE, .mode = 0640};
	struct inode *file = make(world.root, "file", S_IFREG | 0600);
	AUTO(buf) got = BUF_INIT;

	cr_assert_eq(names_get_xattr(world.store, NULL, file, name, &got), -ENODATA);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file, name, value, 0, false), 0);
	cr_assert_eq(file->row.mode & 0777, 0660);
	cr_assert_eq(names_set_attr(world.store, world.reader, file, &chmod), 0);
	cr_assert_eq(names_get_xattr(world.store, world.reader, file, name, &got), 0);
	cr_assert_eq(acl_to_mode(buf_bytes(&got), 0), 0640);
	cr_assert_eq(names_remove_xattr(world.store, world.reader, file, name), 0);
	cr_assert_eq(file->row.mode & 0777, 0640);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file,
				     bytes_of_str(ACL_DEFAULT_NAME), value, 0, false), -EACCES);
	drop(file);
}

Test(store_names, attributes_are_created_replaced_listed_and_removed)
{
	struct inode *file = make(world.root, "file", S_IFREG | 0600);
	struct bytes a = bytes_of_str("user.a"), t = bytes_of_str("trusted.t");
	AUTO(buf) names = BUF_INIT;

	cr_assert_eq(names_list_xattrs(world.store, NULL, file, true, &names), 0);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file, a, a, XATTR_REPLACE, false),
		     -ENODATA);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file, a, a, XATTR_CREATE, false),
		     0);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file, a, a, XATTR_CREATE, false),
		     -EEXIST);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file, t, a, 0, false), 0);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file, bytes_of_str("system.x"), a,
				     0, false), -EOPNOTSUPP);
	cr_assert_eq(names_list_xattrs(world.store, world.reader, file, false, &names), 0);
	cr_assert_eq(names.len, 7);
	cr_assert_eq(memcmp(names.ptr, "user.a", 7), 0);
	buf_clear(&names);
	cr_assert_eq(names_list_xattrs(world.store, world.reader, file, true, &names), 0);
	cr_assert_eq(names.len, 17);
	cr_assert_eq(names_remove_xattr(world.store, world.reader, file, a), 0);
	cr_assert_eq(names_remove_xattr(world.store, world.reader, file, a), -ENODATA);
	drop(file);
}

Test(store_names, privileges_go_when_bytes_or_owner_change)
{
	struct inode *file = make(world.root, "file", S_IFREG | 0600);
	struct names_attr chmod = {.valid = NAMES_MODE, .mode = 06755};
	struct names_attr chown = {.valid = NAMES_UID, .uid = 5, .is_priv_killed = true};
	struct bytes capability = bytes_of_str("security.capability");
	AUTO(buf) got = BUF_INIT;
	bool changed = false;

	cr_assert_eq(names_set_attr(world.store, world.reader, file, &chmod), 0);
	cr_assert_eq(names_set_xattr(world.store, world.reader, file, capability, capability, 0,
				     false), 0);
	cr_assert_eq(names_kill_priv(world.store, file, false, &changed), 0);
	cr_assert_not(changed);
	cr_assert_eq(names_get_xattr(world.store, world.reader, file, capability, &got), -ENODATA);
	cr_assert_eq(file->row.mode & 07777, 06755);
	cr_assert_eq(names_kill_priv(world.store, file, true, &changed), 0);
	cr_assert(changed);
	cr_assert_eq(file->row.mode & 07777, 0755);
	cr_assert_eq(names_set_attr(world.store, world.reader, file, &chmod), 0);
	cr_assert_eq(names_set_attr(world.store, world.reader, file, &chown), 0);
	cr_assert_eq(file->row.mode & 07777, 0755);
	drop(file);
}
