/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolve without locks, lock, check that it still holds, change.
 *
 * Every change of a directory's entries moves its inode's last_seq, under its
 * lock.  So an operation notes last_seq, looks names up (in memory, or with a
 * reader in the engine, without any lock), then locks what it will change: if
 * last_seq is what it was, the answers hold; otherwise it resolves again.
 * Directories are rarely changed by two at once (the kernel holds its own lock
 * on them), so a second round is rare, and RESOLVE_ROUNDS_MAX only catches
 * bugs.
 *
 * Several inodes are locked in the order of their addresses.
 */
#include "store/names_private.h"

#include "store/acl.h"
#include "store/may_change.h"
#include "store/snapshot.h"
#include "util/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>

static uint64_t last_seq_of(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return inode->last_seq;
}

static int check_name(struct bytes name)
{
	if (name.len > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	if (name.len == 0 || memchr(name.ptr, '/', name.len) || memchr(name.ptr, 0, name.len))
		return -EINVAL;
	if (name.ptr[0] == '.' && (name.len == 1 || (name.len == 2 && name.ptr[1] == '.')))
		return -EINVAL;
	return 0;
}

void names_place_release(struct store *store, struct place *place)
{
	inode_unref(store->inodes, place->inode, 1);
	place->inode = NULL;
}

/* 0 whether or not the name is there; -EAGAIN and engine errors otherwise. */
int names_place_resolve(struct store *store, struct index_reader *reader, struct place *place,
			 bool wants_inode)
{
	int r = check_name(place->name);

	if (r < 0)
		return r;
	names_place_release(store, place);
	place->seq = last_seq_of(place->dir);
	if (snapshot_has_name(place->dir->row.ino, place->name))
		r = snapshot_find_name(store, place->dir->row.ino, place->name, &place->row);
	else
		r = index_find_dirent(store->index, reader, place->dir->row.ino, place->name,
				      &place->row);
	place->is_there = r == 0;
	if (r == -ENOENT)
		return 0;
	if (r < 0 || !wants_inode)
		return r;
	r = inode_load(store->inodes, store->index, reader, place->row.ino, &place->inode);
	if (r != -ENOENT)
		return r;
	if (last_seq_of(place->dir) != place->seq)
		return RESOLVE_AGAIN;
	log_error("dirent-dangling", "dir=%llu inode=%llu",
		  (unsigned long long)place->dir->row.ino, (unsigned long long)place->row.ino);
	return -EUCLEAN;
}

/* The directory is locked. */
bool names_place_holds(const struct place *place)
{
	return place->dir->last_seq == place->seq;
}

/* A directory that is to lose its name: 0 empty, -ENOTEMPTY. */
int names_place_check_empty(struct store *store, struct index_reader *reader, struct place *place)
{
	place->inode_seq = last_seq_of(place->inode);
	if (ino_snapshot_no(place->inode->row.ino) != 0)
		return 0; /* it does not lose its name anyway */
	return index_check_empty(store->index, reader, place->inode->row.ino);
}

/* What a directory must be for names to come into it, or to go; it is locked. */
int names_check_dir(struct store *store, const struct inode *dir, enum inode_change change)
{
	if (!inode_is_dir(dir))
		return -ENOTDIR;
	if (dir->row.nlink == 0)
		return -ENOENT;
	return inode_may_change(store, dir, change);
}

void names_touch_dir(struct inode_row *row, struct wall_time now)
{
	row->mtime = row->ctime = now;
}

/* Takes the record.  The inodes are locked; their rows and seq move together or not at all. */
int names_submit_rows(struct store *store, struct record *record, struct inode *const *inodes,
		       const struct inode_row *rows, unsigned count)
{
	uint64_t seq;
	int r = sequencer_submit(store->sequencer, record, &seq);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < count; i++) {
		inode_set_row(inodes[i], &rows[i]);
		inodes[i]->last_seq = seq;
	}
	return 0;
}

/* ---- looking up ---- */

int names_lookup(struct store *store, struct index_reader *reader, struct inode *dir,
		 struct bytes name, struct inode **out)
{
	struct place place = {.dir = dir, .name = name};
	int r = RESOLVE_AGAIN;

	if (name.len > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	if (!inode_is_dir(dir))
		return -ENOTDIR;
	for (unsigned round = 0; r == RESOLVE_AGAIN && round < RESOLVE_ROUNDS_MAX; round++)
		r = names_place_resolve(store, reader, &place, true);
	if (r == RESOLVE_AGAIN)
		return -EIO;
	if (r < 0)
		return r;
	if (!place.is_there)
		return -ENOENT;
	*out = place.inode;
	return 0;
}

int names_list(struct store *store, struct index_reader *reader, struct inode *dir, uint64_t after,
	       size_t count_max, struct dirent_list *out)
{
	uint64_t ino = dir->row.ino;

	return ino_is_holder(ino) ? snapshot_list_names(store, ino, after, count_max, out)
				  : index_list_dirents(store->index, reader, ino, after, count_max,
						       out);
}

int names_load(struct store *store, struct index_reader *reader, uint64_t ino, struct inode **out)
{
	struct inode *inode;
	uint32_t nlink;
	int r = inode_load(store->inodes, store->index, reader, ino, &inode);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	lock_take(&inode->lock);
	nlink = inode->row.nlink;
	lock_drop(&inode->lock);
	if (nlink == 0) {
		inode_unref(store->inodes, inode, 1);
		return -ESTALE;
	}
	*out = inode;
	return 0;
}

/* ---- creating ---- */

static void fill_new_row(struct store *store, const struct inode_row *dir,
			 const struct names_new *new_file, struct wall_time now,
			 struct inode_row *row)
{
	*row = (struct inode_row){
		.ino = atomic_fetch_add(&store->next_ino, 1),
		.mode = new_file->mode,
		.uid = new_file->uid,
		.gid = new_file->gid,
		.nlink = S_ISDIR(new_file->mode) ? 2 : 1,
		.size = S_ISLNK(new_file->mode) ? new_file->target.len : 0,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
		.parent = dir->ino,
		.policy_root = dir->policy_root,
	};
	if (S_ISCHR(new_file->mode) || S_ISBLK(new_file->mode))
		row->rdev = new_file->rdev;
	if (dir->mode & S_ISGID) {
		row->gid = dir->gid;
		if (S_ISDIR(row->mode))
			row->mode |= S_ISGID;
	}
}

/* Default ACL (a copy, changed) or umask; puts the lists into the record and sets the flags. */
static int apply_default_acl(struct record *record, struct inode_row *row, struct buf *acl,
			     uint32_t umask)
{
	if (S_ISLNK(row->mode)) {
		row->mode |= 0777;
		return 0;
	}
	if (acl->len == 0) {
		row->mode &= ~(umask & 0777);
		return 0;
	}
	if (acl_check(buf_bytes(acl)) < 0)
		return -EUCLEAN;
	if (S_ISDIR(row->mode)) {
		record_put_xattr(record, row->ino, bytes_of_str(ACL_DEFAULT_NAME), buf_bytes(acl));
		row->flags |= INODE_XATTR | INODE_ACL_DEFAULT;
	}
	acl_inherit(acl->ptr, acl->len, &row->mode);
	if (!acl_is_minimal(buf_bytes(acl))) {
		record_put_xattr(record, row->ino, bytes_of_str(ACL_ACCESS_NAME), buf_bytes(acl));
		row->flags |= INODE_XATTR | INODE_ACL;
	}
	return 0;
}

static int check_new(const struct names_new *new_file)
{
	switch (new_file->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	case S_IFLNK:
		if (new_file->target.len > LINK_LEN_MAX)
			return -ENAMETOOLONG;
		return new_file->target.len == 0 ? -ENOENT : 0;
	default:
		return -EINVAL;
	}
}

static int get_default_acl(struct store *store, struct index_reader *reader, struct inode *dir,
			   struct buf *acl)
{
	int r;

	buf_clear(acl);
	r = names_get_xattr(store, reader, dir, bytes_of_str(ACL_DEFAULT_NAME), acl);
	return r == -ENODATA ? 0 : r;
}

/* A file about to be: its inode, what it needs in the record, and the directory as of place->seq. */
struct newborn {
	struct inode *inode;
	struct record *record;
	struct inode_row dir;
	struct wall_time now;
};

/* place->name.len 0: a file without a name. */
static int conceive(struct store *store, const struct place *place, struct buf *acl,
		    const struct names_new *new_file, struct newborn *born)
{
	struct inode_row row;
	int r;

	if (S_ISDIR(new_file->mode) && born->dir.nlink >= NAMES_LINKS_MAX)
		return -EMLINK;
	born->now = clock_wall();
	born->record = record_new();
	if (!born->record)
		return -ENOMEM;
	fill_new_row(store, &born->dir, new_file, born->now, &row);
	if (row.ino > INO_MAX)
		return -ENOSPC;
	r = apply_default_acl(born->record, &row, acl, new_file->umask);
	if (r < 0)
		return r;
	if (place->name.len == 0) {
		row.nlink = 0;
		row.flags |= INODE_ORPHAN;
		record_put_orphan(born->record, row.ino);
	}
	record_put_inode(born->record, &row);
	if (S_ISLNK(row.mode))
		record_put_symlink(born->record, row.ino, new_file->target);
	return inode_add(store->inodes, &row, &born->inode);
}

/* The directory is locked; the new inode, which nobody can find yet, needs no lock. */
static int deliver_locked(struct store *store, const struct place *place, struct newborn *born)
{
	struct inode *dir = place->dir, *inode = born->inode;
	bool is_unnamed = place->name.len == 0;
	uint64_t seq;
	int r;

	if (!names_place_holds(place))
		return RESOLVE_AGAIN;
	if (!is_unnamed) {
		record_put_dirent(born->record, dir->row.ino,
				  atomic_fetch_add(&store->next_cookie, 1), place->name,
				  inode->row.ino, IFTODT(inode->row.mode));
		names_touch_dir(&born->dir, born->now);
		born->dir.nlink += S_ISDIR(inode->row.mode);
		record_put_inode(born->record, &born->dir);
	}
	r = sequencer_submit(store->sequencer, STEAL(born->record), &seq);
	if (r < 0)
		return r;
	inode->last_seq = seq;
	if (!is_unnamed) {
		inode_set_row(dir, &born->dir);
		dir->last_seq = seq;
		if (S_ISDIR(inode->row.mode))
			index_note_new_directory(store->index, inode->row.ino);
	}
	return 0;
}

static int create_once(struct store *store, struct index_reader *reader, struct place *place,
		       struct buf *acl, const struct names_new *new_file, struct newborn *born)
{
	int r = 0;

	if (place->name.len > 0)
		r = names_place_resolve(store, reader, place, false);
	else
		place->seq = last_seq_of(place->dir);
	if (r == 0 && place->is_there)
		return -EEXIST;
	if (r == 0)
		r = get_default_acl(store, reader, place->dir, acl);
	if (r != 0)
		return r;
	lock_take(&place->dir->lock);
	r = names_place_holds(place) ? names_check_dir(store, place->dir, DIR_GAINS_ENTRY) : RESOLVE_AGAIN;
	born->dir = place->dir->row;
	lock_drop(&place->dir->lock);
	if (r == 0)
		r = conceive(store, place, acl, new_file, born);
	if (r != 0)
		return r;
	lock_take(&place->dir->lock);
	r = deliver_locked(store, place, born);
	lock_drop(&place->dir->lock);
	return r;
}

static int create(struct store *store, struct index_reader *reader, struct place *place,
		  const struct names_new *new_file, struct inode **out)
{
	AUTO(buf) acl = BUF_INIT;
	int r = check_new(new_file);

	if (r < 0)
		return r;
	for (unsigned round = 0; round < RESOLVE_ROUNDS_MAX; round++) {
		struct newborn born = {0};

		r = create_once(store, reader, place, &acl, new_file, &born);
		record_free(born.record);
		if (r == 0) {
			*out = born.inode;
			return 0;
		}
		if (born.inode) {
			born.inode->row.nlink = 1; /* there is nothing to reclaim */
			inode_unref(store->inodes, born.inode, 1);
		}
		if (r != RESOLVE_AGAIN)
			return r;
	}
	return -EIO;
}

int names_create(struct store *store, struct index_reader *reader, struct inode *dir,
		 struct bytes name, const struct names_new *new_file, struct inode **out)
{
	struct place place = {.dir = dir, .name = name};
	int r = check_name(name);

	return r < 0 ? r : create(store, reader, &place, new_file, out);
}

int names_create_unnamed(struct store *store, struct index_reader *reader, struct inode *dir,
			 const struct names_new *new_file, struct inode **out)
{
	struct place place = {.dir = dir};

	if (!S_ISREG(new_file->mode))
		return -EINVAL;
	return create(store, reader, &place, new_file, out);
}

/* ---- linking ---- */

static int link_locked(struct store *store, struct place *place, struct inode *inode)
{
	AUTO_PTR(record) record = NULL;
	struct inode *inodes[2] = {place->dir, inode};
	struct inode_row rows[2] = {place->dir->row, inode->row};
	struct wall_time now = clock_wall();
	int r;

	if (!names_place_holds(place))
		return RESOLVE_AGAIN;
	if (inode_is_dir(inode))
		return -EPERM;
	r = names_check_dir(store, place->dir, DIR_GAINS_ENTRY);
	if (r < 0)
		return r;
	if (place->is_there)
		return -EEXIST;
	r = inode_may_change(store, inode, INODE_GAINS_NAME);
	if (r < 0)
		return r;
	if (inode->row.nlink >= NAMES_LINKS_MAX)
		return -EMLINK;
	if (inode_is_regular(inode) && !writer_is_clean(inode))
		return -EBUSY;
	record = record_new();
	if (!record)
		return -ENOMEM;
	if (rows[1].flags & INODE_ORPHAN) { /* from O_TMPFILE */
		rows[1].flags &= ~INODE_ORPHAN;
		rows[1].parent = place->dir->row.ino;
		record_del_orphan(record, rows[1].ino);
	}
	rows[1].nlink++;
	rows[1].ctime = now;
	names_touch_dir(&rows[0], now);
	record_put_dirent(record, rows[0].ino, atomic_fetch_add(&store->next_cookie, 1),
			  place->name, rows[1].ino, IFTODT(rows[1].mode));
	record_put_inode(record, &rows[0]);
	record_put_inode(record, &rows[1]);
	return names_submit_rows(store, STEAL(record), inodes, rows, 2);
}

int names_link(struct store *store, struct index_reader *reader, struct inode *inode,
	       struct inode *dir, struct bytes name)
{
	struct place place = {.dir = dir, .name = name};

	if (inode == dir)
		return -EPERM;
	for (unsigned round = 0; round < RESOLVE_ROUNDS_MAX; round++) {
		int r = names_place_resolve(store, reader, &place, false);

		if (r < 0)
			return r;
		lock_take_pair(&dir->lock, &inode->lock);
		r = link_locked(store, &place, inode);
		lock_drop_pair(&dir->lock, &inode->lock);
		if (r != RESOLVE_AGAIN)
			return r;
	}
	return -EIO;
}

/* ---- removing ---- */

/* The row of an inode that loses a name (a directory: its only one). */
void names_drop_name(struct record *record, struct inode_row *row, struct wall_time now)
{
	row->ctime = now;
	row->nlink = S_ISDIR(row->mode) || row->nlink == 0 ? 0 : row->nlink - 1;
	if (row->nlink == 0) {
		row->flags |= INODE_ORPHAN;
		record_put_orphan(record, row->ino);
	}
	record_put_inode(record, row);
}

static int remove_locked(struct store *store, struct place *place, bool is_dir)
{
	AUTO_PTR(record) record = NULL;
	struct inode *inodes[2] = {place->dir, place->inode};
	struct inode_row rows[2] = {place->dir->row, place->inode->row};
	struct wall_time now = clock_wall();
	int r;

	if (!names_place_holds(place) || (is_dir && place->inode->last_seq != place->inode_seq))
		return RESOLVE_AGAIN;
	r = names_check_dir(store, place->dir, DIR_LOSES_ENTRY);
	if (r == 0)
		r = inode_may_change(store, place->inode, INODE_LOSES_NAME);
	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	record_del_dirent(record, rows[0].ino, place->row.cookie, place->name);
	names_drop_name(record, &rows[1], now);
	names_touch_dir(&rows[0], now);
	rows[0].nlink -= is_dir;
	record_put_inode(record, &rows[0]);
	return names_submit_rows(store, STEAL(record), inodes, rows, 2);
}

static int remove_once(struct store *store, struct index_reader *reader, struct place *place,
		       bool is_dir)
{
	int r = names_place_resolve(store, reader, place, true);

	if (r != 0)
		return r;
	if (!place->is_there)
		return -ENOENT;
	if (is_dir && !inode_is_dir(place->inode))
		return -ENOTDIR;
	if (!is_dir && inode_is_dir(place->inode))
		return -EISDIR;
	if (is_dir) {
		r = names_place_check_empty(store, reader, place);
		if (r < 0)
			return r;
	}
	lock_take_pair(&place->dir->lock, &place->inode->lock);
	r = remove_locked(store, place, is_dir);
	lock_drop_pair(&place->dir->lock, &place->inode->lock);
	return r;
}

int names_remove(struct store *store, struct index_reader *reader, struct inode *dir,
		 struct bytes name, bool is_dir)
{
	struct place place = {.dir = dir, .name = name};
	int r = RESOLVE_AGAIN;

	for (unsigned round = 0; r == RESOLVE_AGAIN && round < RESOLVE_ROUNDS_MAX; round++)
		r = remove_once(store, reader, &place, is_dir);
	names_place_release(store, &place);
	return r == RESOLVE_AGAIN ? -EIO : r;
}
