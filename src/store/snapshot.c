/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One snapshot at a time is made or deleted: whether a name is free holds until the record is there.
 *
 * Order of a deletion:
 *
 *	1. a record without the name: nothing is read from the snapshot any more;
 *	2. each inode of it in memory gets another data_version, under its lock: whoever copies
 *	   extents out of it (clone) has submitted his record, or will find that it is gone;
 *	3. records that take history, each applied before the next is made;
 *	4. the record that takes the row, when the index shows nothing left.
 *
 * A crash between 1 and 4 leaves a row without a name, with which the next mount goes on at 3.
 */
#include "store/snapshot.h"

#include "store/reclaim.h"
#include "store/store_private.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <stdio.h>

#define DROP_BATCH 2048u /* places of the history in one record */

static const char snapshots_name[] = "snapshots";

/* ---- one at a time ---- */

static void turn_take(struct store *store)
{
	struct store_private *priv = store->priv;

	lock_take(&priv->snapshot_lock);
	while (priv->is_snapshot_busy)
		cond_wait(&priv->snapshot_turn, &priv->snapshot_lock);
	priv->is_snapshot_busy = true;
	lock_drop(&priv->snapshot_lock);
}

static void turn_give(struct store *store)
{
	struct store_private *priv = store->priv;

	LOCK_SCOPE(&priv->snapshot_lock);
	priv->is_snapshot_busy = false;
	cond_wake_one(&priv->snapshot_turn);
}

/* The kernel compares this time before it shows a listing that it has kept. */
static void holder_changed(struct store *store)
{
	struct inode *inode = inode_find(store->inodes,
					 ino_in_snapshot(SNAPSHOT_NO_NONE, INO_SNAPSHOTS));

	if (!inode)
		return;
	lock_take(&inode->lock);
	inode->row.mtime = inode->row.ctime = clock_wall();
	lock_drop(&inode->lock);
	inode_unref(store->inodes, inode, 1);
}

/* ---- making ---- */

static int check_name(const char *name, struct buf *why)
{
	size_t len = strlen(name);

	if (len >= 1 && len <= NAME_LEN_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	    strcmp(name, "..") != 0)
		return 0;
	buf_printf(why, "%s: a snapshot has a name as a file has: 1 to 255 bytes, no slash, not . "
			"or ..", len > 0 ? name : "the empty name");
	return -EINVAL;
}

/* How many there are, dying ones too, and whether the name is taken. */
static int check_free(struct store *store, struct index_reader *reader, const char *name,
		      struct buf *why)
{
	AUTO(snapshot_list) list = ROW_LIST_INIT;
	int r = index_list_snapshots(store->index, reader, &list);

	if (r < 0)
		return r;
	for (size_t i = 0; i < list.count; i++)
		if (strcmp(list.rows[i].name, name) == 0) {
			buf_printf(why, "%s: there is a snapshot of that name: delete it, or take "
					"another name", name);
			return -EEXIST;
		}
	if (list.count >= SNAPSHOTS_MAX) {
		buf_printf(why, "%s: there are %u snapshots, as many as there may be: delete some",
			   name, SNAPSHOTS_MAX);
		return -ENOSPC;
	}
	return 0;
}

static int submit_new(struct store *store, struct inode *dir, struct snapshot_row *row,
		      uint64_t *seq, struct buf *why)
{
	AUTO_PTR(record) record = record_new();

	if (!record)
		return -ENOMEM;
	record_put_snapshot(record, row);
	LOCK_SCOPE(&dir->lock);
	if (dir->row.nlink == 0) {
		buf_printf(why, "%s: the directory was removed", row->name);
		return -ENOENT;
	}
	return sequencer_submit(store->sequencer, STEAL(record), seq);
}

static int create(struct store *store, struct index_reader *reader, struct inode *dir,
		  const char *name, struct snapshot_row *out, struct buf *why)
{
	struct snapshot_row row = {.root = dir->row.ino, .created_sec = clock_wall().sec};
	struct index_highest highest;
	uint64_t seq = 0;
	int r = check_free(store, reader, name, why);

	if (r < 0)
		return r;
	index_highest(store->index, &highest);
	row.snapshot_no = highest.snapshot_no + 1;
	if (row.snapshot_no > SNAPSHOT_NO_MAX) {
		buf_printf(why, "%s: no number is left for another snapshot", name);
		return -ENOSPC;
	}
	snprintf(row.name, sizeof(row.name), "%s", name);
	r = HOOK("snapshot-create-before");
	if (r == 0)
		r = submit_new(store, dir, &row, &seq, why);
	if (r == 0)
		r = sequencer_wait_synced(store->sequencer, seq);
	if (r == 0)
		r = HOOK("snapshot-create-after");
	if (r == 0)
		r = sequencer_wait_applied(store->sequencer, seq);
	return r < 0 ? r : index_find_snapshot(store->index, bytes_of_str(name), out);
}

int store_snapshot_create(struct store *store, struct index_reader *reader, struct inode *dir,
			  const char *name, struct snapshot_row *out, struct buf *why)
{
	int r = check_name(name, why);

	if (r < 0)
		return r;
	if (!inode_is_dir(dir)) {
		buf_printf(why, "%s: what a snapshot shows is a directory", name);
		return -ENOTDIR;
	}
	if (ino_snapshot_no(dir->row.ino) != 0) {
		buf_printf(why, "%s: the directory is in a snapshot, and that does not change", name);
		return -EINVAL;
	}
	turn_take(store);
	r = create(store, reader, dir, name, out, why);
	turn_give(store);
	if (r == 0)
		holder_changed(store);
	return r;
}

/* ---- deleting ---- */

struct leaving {
	struct store *store;
	uint64_t snapshot_no;
};

static void leave_inode(void *ctx, struct inode *inode)
{
	const struct leaving *leaving = ctx;

	if (ino_snapshot_no(inode->row.ino) != leaving->snapshot_no)
		return;
	lock_take(&inode->lock);
	inode->data_version++;
	lock_drop(&inode->lock);
	if (leaving->store->invalidate)
		leaving->store->invalidate(leaving->store->invalidate_ctx, inode->row.ino);
}

/* By the overlay's word too: one that was made a moment ago. */
static int find_named(struct store *store, struct index_reader *reader, const char *name,
		      struct snapshot_row *out)
{
	AUTO(snapshot_list) list = ROW_LIST_INIT;
	int r = index_list_snapshots(store->index, reader, &list);

	for (size_t i = 0; r == 0 && i < list.count; i++)
		if (name[0] != '\0' && strcmp(list.rows[i].name, name) == 0) {
			*out = list.rows[i];
			return 0;
		}
	return r < 0 ? r : -ENOENT;
}

/* One entry for each that goes, also when one command lets many go. */
static void audit_end(struct store *store, const char *name, const struct snapshot_row *row)
{
	AUTO_STR what = mem_printf("snapshot %llu deleted: %s",
				   (unsigned long long)row->snapshot_no, name);
	struct audit_event event = {.kind = "snapshot", .what = what, .who = AUDIT_SYSTEM};

	if (what)
		store_audit(store, &event); /* on failure it is counted and logged there */
}

static int take_name(struct store *store, struct index_reader *reader, const char *name)
{
	struct leaving leaving = {.store = store};
	struct record *record;
	struct snapshot_row row;
	uint64_t seq;
	int r = find_named(store, reader, name, &row);

	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	row.name[0] = '\0';
	record_put_snapshot(record, &row);
	r = sequencer_submit(store->sequencer, record, &seq);
	if (r < 0)
		return r;
	audit_end(store, name, &row);
	leaving.snapshot_no = row.snapshot_no;
	inode_table_visit(store->inodes, leave_inode, &leaving);
	return sequencer_wait_synced(store->sequencer, seq);
}

int store_snapshot_delete(struct store *store, struct index_reader *reader, const char *name,
			  struct buf *why)
{
	int r;

	if (!store->priv->reclaim)
		return -EROFS;
	turn_take(store);
	r = take_name(store, reader, name);
	turn_give(store);
	if (r == -ENOENT)
		buf_printf(why, "%s: there is no snapshot of that name: see shardctl snapshot list",
			   name);
	if (r < 0)
		return r;
	holder_changed(store);
	reclaim_wake(store->priv->reclaim);
	return 0;
}

int store_snapshot_list(struct store *store, struct snapshot_list *out)
{
	int r = sequencer_wait_applied(store->sequencer, sequencer_last_seq(store->sequencer));

	return r < 0 ? r : index_list_readable(store->index, 0, SIZE_MAX, out);
}

/* ---- what they held ---- */

/* One record.  1: there may be more. */
static int drop_some(struct index *index, struct index_reader *reader,
		     struct sequencer *sequencer, const struct snapshot_row *row)
{
	AUTO(old_list) old = ROW_LIST_INIT;
	struct record *record;
	uint64_t seq;
	int r = sequencer_wait_applied(sequencer, sequencer_last_seq(sequencer));

	if (r == 0)
		r = index_list_old(index, reader, row->seq, DROP_BATCH, &old);
	if (r == 0)
		r = HOOK("snapshot-drop-before");
	if (r < 0)
		return r;
	record = record_new();
	if (!record)
		return -ENOMEM;
	for (size_t i = 0; i < old.count; i++)
		record_drop_history(record, old.rows[i].ino, old.rows[i].at);
	if (old.count == 0)
		record_del_snapshot(record, row->snapshot_no);
	r = sequencer_submit(sequencer, record, &seq);
	if (r == 0)
		r = sequencer_wait_applied(sequencer, seq);
	if (r == 0)
		r = HOOK("snapshot-drop-after");
	return r < 0 ? r : old.count > 0;
}

int snapshot_reclaim(struct index *index, struct index_reader *reader,
		     struct sequencer *sequencer, bool (*must_yield)(void *ctx), void *ctx)
{
	AUTO(snapshot_list) list = ROW_LIST_INIT;
	int r = index_list_snapshots(index, reader, &list);

	for (size_t i = 0; r == 0 && i < list.count; i++) {
		if (list.rows[i].name[0] != '\0')
			continue;
		do {
			r = drop_some(index, reader, sequencer, &list.rows[i]);
		} while (r > 0 && !must_yield(ctx));
		if (r > 0)
			return 0;
		if (r == 0)
			log_info("snapshot-deleted", "snapshot=%llu",
				 (unsigned long long)list.rows[i].snapshot_no);
	}
	return r;
}

/* ---- names ---- */

bool snapshot_has_name(uint64_t dir, struct bytes name)
{
	return ino_is_holder(dir) ||
	       (dir == INO_ROOT && name.len == strlen(SNAPSHOT_DIR_NAME) &&
		memcmp(name.ptr, SNAPSHOT_DIR_NAME, name.len) == 0);
}

static void fill_dirent(uint64_t parent, uint64_t cookie, uint64_t ino, struct bytes name,
			struct dirent_row *out)
{
	*out = (struct dirent_row){
		.parent = parent,
		.cookie = cookie,
		.ino = ino,
		.type = DT_DIR,
		.name_len = (uint8_t)name.len,
	};
	memcpy(out->name, name.ptr, name.len);
}

static uint64_t holder(uint64_t which)
{
	return ino_in_snapshot(SNAPSHOT_NO_NONE, which);
}

int snapshot_find_name(struct store *store, uint64_t dir, struct bytes name,
		       struct dirent_row *out)
{
	struct snapshot_row row;
	int r;

	if (dir == INO_ROOT) {
		fill_dirent(dir, 1, holder(INO_CONTROL), name, out);
		return 0;
	}
	if (dir == holder(INO_CONTROL)) {
		if (name.len != strlen(snapshots_name) ||
		    memcmp(name.ptr, snapshots_name, name.len) != 0)
			return -ENOENT;
		fill_dirent(dir, 1, holder(INO_SNAPSHOTS), name, out);
		return 0;
	}
	r = index_find_snapshot(store->index, name, &row);
	if (r == 0)
		fill_dirent(dir, row.snapshot_no, ino_in_snapshot(row.snapshot_no, row.root), name,
			    out);
	return r;
}

int snapshot_list_names(struct store *store, uint64_t dir, uint64_t after, size_t count_max,
			struct dirent_list *out)
{
	AUTO(snapshot_list) list = ROW_LIST_INIT;
	struct dirent_row row;
	int r;

	if (dir == holder(INO_CONTROL)) {
		fill_dirent(dir, 1, holder(INO_SNAPSHOTS), bytes_of_str(snapshots_name), &row);
		return after < 1 && count_max > 0 ? dirent_list_add(out, &row) : 0;
	}
	r = index_list_readable(store->index, after, count_max, &list);
	for (size_t i = 0; r == 0 && i < list.count; i++) {
		const struct snapshot_row *at = &list.rows[i];

		fill_dirent(dir, at->snapshot_no, ino_in_snapshot(at->snapshot_no, at->root),
			    bytes_of_str(at->name), &row);
		r = dirent_list_add(out, &row);
	}
	return r;
}
