/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rows a snapshot still sees, and what goes with one.
 *
 * A snapshot made by a record sees the state after the whole of it: what the record replaces is not
 * kept for it, but for the one before.  So it counts as the newest from the next record on.
 */
#include "index/apply_impl.h"

#include "util/mem.h"

#include <errno.h>

#define OLD_PAGE 1024u

/* The newest snapshot that can be read, of a record before `before`; 0: none. */
uint64_t apply_newest_before(const struct apply *apply, uint64_t before)
{
	uint64_t newest = 0;

	for (size_t i = 0; i < apply->snapshots.count; i++) {
		const struct snapshot_row *row = &apply->snapshots.rows[i];

		if (row->name[0] != '\0' && row->seq < before)
			newest = MAX(newest, row->seq);
	}
	return newest;
}

/*
 * For what belongs to an inode and dies now.  What lost its last name before a snapshot was made is
 * not in that one: for the snapshots everything of it died then, and what reclaiming takes from it
 * is not kept for later ones.
 */
struct engine_version apply_version_of(const struct apply *apply, const struct inode_node *node)
{
	struct engine_version version = apply_version_now(apply);

	if (node->exists && (node->row.flags & INODE_ORPHAN) &&
	    node->row.birth <= apply->newest_snapshot) {
		version.newest_snapshot = apply_newest_before(apply, node->row.birth);
		version.seq = node->row.birth;
	}
	return version;
}

int apply_learn_newest(struct apply *apply, uint64_t before)
{
	int r;

	apply->snapshots.count = 0;
	r = apply->conn->ops->list_snapshots(apply->conn, &apply->snapshots);
	if (r == 0)
		apply->newest_snapshot = apply_newest_before(apply, before);
	return r;
}

/* The one that the record made sees all that the record did; from now on it is the newest. */
int apply_finish_snapshot(struct apply *apply)
{
	struct snapshot_row *made = &apply->made;
	struct counter_node *below;
	int r;

	if (made->snapshot_no == 0)
		return 0;
	r = apply_settle_counters(apply);
	if (r == 0)
		r = apply_get_counter(apply, made->root, &below);
	if (r < 0)
		return r;
	made->files = (uint64_t)below->counter.files;
	made->directories = (uint64_t)below->counter.directories;
	made->bytes = (uint64_t)below->counter.bytes;
	r = apply->conn->ops->put_snapshot(apply->conn, made);
	made->snapshot_no = 0;
	return r < 0 ? r : apply_learn_newest(apply, apply->seq + 1);
}

int apply_snapshot_put(struct apply *apply, const struct change *change)
{
	const struct snapshot_row *row = &change->u.snapshot;
	int r;

	apply->meta.highest.snapshot_no = MAX(apply->meta.highest.snapshot_no, row->snapshot_no);
	if (row->seq == 0) {
		r = apply_finish_snapshot(apply);
		apply->made = *row;
		apply->made.seq = apply->seq;
		return r;
	}
	r = apply->conn->ops->put_snapshot(apply->conn, row);
	/* Restoring replaces nothing: there is nothing to keep for anybody. */
	return r < 0 || apply->restore_seq != 0 ? r : apply_learn_newest(apply, apply->seq);
}

static int free_old_extent(void *ctx, const struct extent_row *extent, uint64_t birth)
{
	(void)birth;
	return apply_ref_chunk(ctx, extent->chunk_no, -1);
}

int apply_history_drop(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->drop_history(apply->conn, &change->u.old, free_old_extent, apply);
}

/* What only the snapshot of `seq` saw, which is gone. */
static int drop_unseen(struct apply *apply, uint64_t seq)
{
	const struct engine_ops *ops = apply->conn->ops;
	AUTO(old_list) old = ROW_LIST_INIT;
	int r;

	do {
		old.count = 0;
		r = ops->list_old(apply->conn, seq, OLD_PAGE, &old);
		for (size_t i = 0; i < old.count && r == 0; i++)
			r = ops->drop_history(apply->conn, &old.rows[i], free_old_extent, apply);
	} while (r == 0 && old.count == OLD_PAGE);
	return r;
}

int apply_snapshot_del(struct apply *apply, const struct change *change)
{
	uint64_t snapshot_no = change->u.snapshot.snapshot_no, seq = 0;
	AUTO(snapshot_list) snapshots = ROW_LIST_INIT;
	int r = apply_finish_snapshot(apply);

	if (r == 0)
		r = apply->conn->ops->list_snapshots(apply->conn, &snapshots);
	for (size_t i = 0; i < snapshots.count; i++)
		if (snapshots.rows[i].snapshot_no == snapshot_no)
			seq = snapshots.rows[i].seq;
	if (r < 0 || seq == 0)
		return r;
	r = apply->conn->ops->del_snapshot(apply->conn, snapshot_no);
	if (r == 0)
		r = apply_learn_newest(apply, apply->seq);
	return r < 0 ? r : drop_unseen(apply, seq);
}
