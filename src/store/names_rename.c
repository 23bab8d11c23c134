/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renaming and exchanging: up to four inodes change in one record, by the rules of names.c.
 */
#include "store/names_private.h"

#include "util/hook.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE	 (1 << 1)
#endif

#define ANCESTORS_MAX 65536

/* The rows that a rename changes, each inode once. */
struct rename_set {
	struct inode *inodes[4];
	struct inode_row rows[4];
	unsigned count;
};

static struct inode_row *rename_row(struct rename_set *set, struct inode *inode)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->inodes[i] == inode)
			return &set->rows[i];
	set->inodes[set->count] = inode;
	set->rows[set->count] = inode->row;
	return &set->rows[set->count++];
}

/* Whether `inode` is `dir` or above it.  Renames of directories are one at a time in the kernel. */
static int is_at_or_above(struct store *store, struct index_reader *reader,
			  const struct inode *inode, struct inode *dir)
{
	uint64_t ino = dir->row.ino;

	for (unsigned depth = 0; depth < ANCESTORS_MAX; depth++) {
		struct inode *at;
		uint64_t parent;
		int r;

		if (ino == inode->row.ino)
			return 1;
		if (ino == INO_ROOT)
			return 0;
		r = inode_load(store->inodes, store->index, reader, ino, &at);
		if (r < 0)
			return r;
		lock_take(&at->lock);
		parent = at->row.parent;
		lock_drop(&at->lock);
		inode_unref(store->inodes, at, 1);
		ino = parent;
	}
	return -ELOOP;
}

static int check_rename_types(const struct place *old, const struct place *new, unsigned flags)
{
	if (!old->is_there)
		return -ENOENT;
	if (!new->is_there)
		return flags & RENAME_EXCHANGE ? -ENOENT : 0;
	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE)
		return 0;
	if (inode_is_dir(new->inode) && !inode_is_dir(old->inode))
		return -EISDIR;
	if (!inode_is_dir(new->inode) && inode_is_dir(old->inode))
		return -ENOTDIR;
	return 0;
}

static int check_rename_loop(struct store *store, struct index_reader *reader,
			     const struct place *old, const struct place *new, unsigned flags)
{
	int r = 0;

	if (old->dir == new->dir)
		return 0;
	if (inode_is_dir(old->inode))
		r = is_at_or_above(store, reader, old->inode, new->dir);
	if (r == 0 && new->is_there && inode_is_dir(new->inode)) {
		r = is_at_or_above(store, reader, new->inode, old->dir);
		if (r > 0 && !(flags & RENAME_EXCHANGE))
			return -ENOTEMPTY;
	}
	return r > 0 ? -EINVAL : r;
}

/* All four are locked. */
static int check_rename_locked(struct store *store, const struct place *old,
			       const struct place *new, unsigned flags, struct inode **busy)
{
	bool is_over = new->is_there && !(flags & RENAME_EXCHANGE);
	int r;

	if (!names_place_holds(old) || !names_place_holds(new))
		return RESOLVE_AGAIN;
	if (is_over && inode_is_dir(new->inode) && new->inode->last_seq != new->inode_seq)
		return RESOLVE_AGAIN;
	r = names_check_dir(store, old->dir, DIR_LOSES_ENTRY);
	if (r == 0)
		r = names_check_dir(store, new->dir, new->is_there ? DIR_LOSES_ENTRY : DIR_GAINS_ENTRY);
	if (r == 0)
		r = inode_may_change(store, old->inode, INODE_LOSES_NAME);
	if (r == 0 && new->is_there)
		r = inode_may_change(store, new->inode, INODE_LOSES_NAME);
	if (r < 0)
		return r;
	if (inode_is_dir(old->inode) && old->dir != new->dir && !is_over &&
	    new->dir->row.nlink >= NAMES_LINKS_MAX)
		return -EMLINK;
	if (inode_is_regular(old->inode) && !writer_is_clean(old->inode) &&
	    !HOOK_BROKEN("rename-without-push")) {
		*busy = old->inode;
		return -EBUSY;
	}
	if ((flags & RENAME_EXCHANGE) && inode_is_regular(new->inode) &&
	    !writer_is_clean(new->inode)) {
		*busy = new->inode;
		return -EBUSY;
	}
	return 0;
}

/* `row` gets its name in `to`; a file or tree without a policy of its own takes that of `to`. */
static void move_row(struct inode_row *row, const struct inode *to, struct wall_time now)
{
	row->ctime = now;
	row->parent = to->row.ino;
	if (row->policy_root != row->ino)
		row->policy_root = to->row.policy_root;
}

/* Whether what is below the inode, or the data of a file, may belong to another policy now. */
static bool has_to_converge(struct store *store, const struct rename_set *set,
			    const struct inode *inode, const struct inode *from,
			    const struct inode *to)
{
	const struct inode_row *row = NULL;

	for (unsigned i = 0; i < set->count; i++)
		if (set->inodes[i] == inode)
			row = &set->rows[i];
	if (!row || from == to || !(S_ISDIR(row->mode) || (S_ISREG(row->mode) && row->size > 0)))
		return false;
	return row->policy_root != inode->row.policy_root ||
	       converge_is_pending(store->priv->converge);
}

static int submit_rename(struct store *store, struct record *record, const struct rename_set *set,
			 const uint64_t *inos, unsigned count)
{
	int r = count > 0 ? converge_begin(store->priv->converge, record, inos, count) : 0;

	if (r < 0) {
		record_free(record);
		return r;
	}
	r = names_submit_rows(store, record, set->inodes, set->rows, set->count);
	if (count > 0)
		converge_end(store->priv->converge, r == 0);
	return r;
}

static int rename_locked(struct store *store, const struct place *old, const struct place *new,
			 unsigned flags, struct inode **busy)
{
	AUTO_PTR(record) record = NULL;
	struct rename_set set = {.count = 0};
	struct wall_time now = clock_wall();
	bool is_exchange = flags & RENAME_EXCHANGE;
	uint64_t cookie = new->row.cookie, moved[2];
	unsigned moved_count = 0;
	struct inode_row *row;
	int r = check_rename_locked(store, old, new, flags, busy);

	if (r != 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	names_touch_dir(rename_row(&set, old->dir), now);
	names_touch_dir(rename_row(&set, new->dir), now);
	if (inode_is_dir(old->inode)) {
		rename_row(&set, old->dir)->nlink--;
		rename_row(&set, new->dir)->nlink++;
	}
	move_row(rename_row(&set, old->inode), new->dir, now);
	if (is_exchange) {
		if (inode_is_dir(new->inode)) {
			rename_row(&set, new->dir)->nlink--;
			rename_row(&set, old->dir)->nlink++;
		}
		move_row(rename_row(&set, new->inode), old->dir, now);
		record_put_dirent(record, old->dir->row.ino, old->row.cookie, old->name,
				  new->inode->row.ino, new->row.type);
	} else {
		record_del_dirent(record, old->dir->row.ino, old->row.cookie, old->name);
	}
	if (!new->is_there)
		cookie = atomic_fetch_add(&store->next_cookie, 1);
	if (new->is_there && !is_exchange) {
		row = rename_row(&set, new->inode);
		if (S_ISDIR(row->mode))
			rename_row(&set, new->dir)->nlink--;
		names_drop_name(record, row, now);
	}
	record_put_dirent(record, new->dir->row.ino, cookie, new->name, old->inode->row.ino,
			  old->row.type);
	for (unsigned i = 0; i < set.count; i++)
		if (!new->is_there || is_exchange || set.inodes[i] != new->inode)
			record_put_inode(record, &set.rows[i]);
	if (has_to_converge(store, &set, old->inode, old->dir, new->dir))
		moved[moved_count++] = old->inode->row.ino;
	if (is_exchange && has_to_converge(store, &set, new->inode, new->dir, old->dir))
		moved[moved_count++] = new->inode->row.ino;
	return submit_rename(store, STEAL(record), &set, moved, moved_count);
}

static int rename_once(struct store *store, struct index_reader *reader, struct place *old,
		       struct place *new, unsigned flags, struct inode **busy)
{
	struct lock *locks[4];
	unsigned count;
	int r = names_place_resolve(store, reader, old, true);

	if (r == 0)
		r = names_place_resolve(store, reader, new, true);
	if (r == 0)
		r = check_rename_types(old, new, flags);
	if (r == 0)
		r = check_rename_loop(store, reader, old, new, flags);
	if (r != 0)
		return r;
	if (new->is_there && new->inode == old->inode)
		return 0; /* two names of one file: nothing to do, says POSIX */
	if (new->is_there && inode_is_dir(new->inode) && !(flags & RENAME_EXCHANGE)) {
		r = names_place_check_empty(store, reader, new);
		if (r < 0)
			return r;
	}
	locks[0] = &old->dir->lock;
	locks[1] = &new->dir->lock;
	locks[2] = &old->inode->lock;
	locks[3] = new->is_there ? &new->inode->lock : NULL;
	count = lock_take_set(locks, 4);
	r = rename_locked(store, old, new, flags, busy);
	lock_drop_set(locks, count);
	return r;
}

int names_rename(struct store *store, struct index_reader *reader, struct inode *old_dir,
		 struct bytes old_name, struct inode *new_dir, struct bytes new_name,
		 unsigned flags, struct inode **busy)
{
	struct place old = {.dir = old_dir, .name = old_name};
	struct place new = {.dir = new_dir, .name = new_name};
	struct inode *dirty = NULL;
	int r = RESOLVE_AGAIN;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if ((flags & RENAME_NOREPLACE) && (flags & RENAME_EXCHANGE))
		return -EINVAL;
	for (unsigned round = 0; r == RESOLVE_AGAIN && round < RESOLVE_ROUNDS_MAX; round++)
		r = rename_once(store, reader, &old, &new, flags, &dirty);
	if (r == -EBUSY) {
		inode_ref(dirty, 1);
		*busy = dirty;
	}
	names_place_release(store, &old);
	names_place_release(store, &new);
	return r == RESOLVE_AGAIN ? -EIO : r;
}
