/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applying records.  Names, xattrs, targets, extents and the small tables go
 * to the engine at once.  Inodes, chunks, shards and directory counters, which
 * a batch changes again and again, are kept as rows in memory and written once
 * at its end, in ascending order:
 *
 *	row.exists   after the changes so far      stored   in the engine
 *	exists && dirty          -> put
 *	!exists && stored        -> deleted when it was decided (inode, shard) or at the end (chunk)
 *
 * Kept by apply, exactly:
 *	chunk.refs    extents and history extents that name it
 *	shard.live_bytes, total_bytes   from refs crossing 0 and chunks coming, going and moving
 *	meta          sums and highest numbers
 *	counters      of directories
 *	history       a replaced row that the newest snapshot still sees
 *
 * Memory is bounded: over APPLY_ROWS_MAX rows they are written within the transaction.
 */
#include "index/apply_impl.h"

#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

/* ---- inodes ---- */

static void sum_inode(struct engine_meta *meta, const struct inode_row *row, int sign)
{
	meta->inodes += (uint64_t)sign;
	if (S_ISDIR(row->mode))
		meta->directories += (uint64_t)sign;
	if (S_ISREG(row->mode))
		meta->bytes += (uint64_t)sign * row->size;
}

static int keep_inode(struct apply *apply, const struct inode_node *node)
{
	if (!node->exists || !apply_is_seen(apply_version_of(apply, node), node->row.birth))
		return 0;
	return apply->conn->ops->put_old_inode(apply->conn, &node->row, apply->seq);
}

static int put_old_inode(struct apply *apply, const struct inode_row *row)
{
	struct inode_row old = *row;

	old.birth = apply_birth_now(apply);
	return apply->conn->ops->put_old_inode(apply->conn, &old, apply->death);
}

static int apply_inode_put(struct apply *apply, const struct change *change)
{
	const struct inode_row *row = &change->u.inode;
	struct inode_node *node;
	int r;

	if (apply->death != 0)
		return put_old_inode(apply, row);
	r = apply_get_inode(apply, row->ino, &node);
	if (r == 0)
		r = keep_inode(apply, node);
	if (r == 0)
		r = apply_count_inode(apply, node->exists ? &node->row : NULL, row);
	if (r < 0)
		return r;
	if (node->exists)
		sum_inode(&apply->meta, &node->row, -1);
	sum_inode(&apply->meta, row, 1);
	node->row = *row;
	node->row.birth = apply_birth_now(apply);
	node->exists = node->is_dirty = true;
	apply->meta.highest.ino = MAX(apply->meta.highest.ino, row->ino);
	return 0;
}

static int apply_inode_del(struct apply *apply, const struct change *change)
{
	struct engine_version version = {0};
	struct inode_node *node;
	int r = apply_drop_extents(apply, change->u.ino, 0, INT64_MAX);

	if (r == 0)
		r = apply_get_inode(apply, change->u.ino, &node);
	if (r == 0)
		r = keep_inode(apply, node);
	if (r == 0 && node->exists)
		r = apply_count_inode(apply, &node->row, NULL);
	if (r < 0)
		return r;
	version = apply_version_of(apply, node);
	if (node->exists)
		sum_inode(&apply->meta, &node->row, -1);
	r = apply->conn->ops->del_inode(apply->conn, change->u.ino,
					node->exists ? node->row.mode : 0, version);
	node->exists = node->is_stored = node->is_dirty = false;
	return r;
}

/* ---- shards and copies ---- */

static int apply_shard_put(struct apply *apply, const struct change *change)
{
	struct shard_node *node;
	uint64_t live_bytes, total_bytes;
	int r = apply_get_shard(apply, change->u.shard.shard_no, &node);

	if (r < 0)
		return r;
	if (!node->exists)
		apply->meta.shards++;
	live_bytes = node->row.live_bytes;
	total_bytes = node->row.total_bytes;
	node->row = change->u.shard;
	node->row.live_bytes = live_bytes;
	node->row.total_bytes = total_bytes;
	node->exists = node->is_dirty = true;
	apply->meta.highest.shard_no = MAX(apply->meta.highest.shard_no, node->row.shard_no);
	return 0;
}

static int apply_shard_del(struct apply *apply, const struct change *change)
{
	struct shard_node *node;
	int r = apply_get_shard(apply, change->u.shard.shard_no, &node);

	if (r < 0)
		return r;
	if (node->exists)
		apply->meta.shards--;
	node->exists = node->is_stored = node->is_dirty = false;
	return apply->conn->ops->del_shard(apply->conn, change->u.shard.shard_no);
}

static int apply_copy_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_copy(apply->conn, &change->u.copy);
}

static int apply_copy_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_copy(apply->conn, change->u.copy.shard_no,
					  change->u.copy.provider_no);
}

/* ---- names, attributes, small tables ---- */

static int apply_dirent_put(struct apply *apply, const struct change *change)
{
	apply->meta.highest.cookie = MAX(apply->meta.highest.cookie, change->u.dirent.cookie);
	if (apply->death != 0)
		return apply->conn->ops->put_old_dirent(apply->conn, change, apply_birth_now(apply),
							apply->death);
	return apply->conn->ops->put_dirent(apply->conn, change, apply_version_now(apply));
}

static int apply_dirent_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_dirent(apply->conn, change, apply_version_now(apply));
}

static int apply_xattr_put(struct apply *apply, const struct change *change)
{
	if (apply->death != 0)
		return apply->conn->ops->put_old_xattr(apply->conn, change, apply_birth_now(apply),
						    apply->death);
	return apply->conn->ops->put_xattr(apply->conn, change, apply_version_now(apply));
}

static int apply_xattr_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_xattr(apply->conn, change, apply_version_now(apply));
}

static int apply_symlink_put(struct apply *apply, const struct change *change)
{
	if (apply->death != 0)
		return apply->conn->ops->put_old_symlink(apply->conn, change, apply_birth_now(apply),
						    apply->death);
	return apply->conn->ops->put_symlink(apply->conn, change, apply_version_now(apply));
}

static int apply_orphan_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_orphan(apply->conn, change->u.ino);
}

static int apply_orphan_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_orphan(apply->conn, change->u.ino);
}

static int apply_provider_put(struct apply *apply, const struct change *change)
{
	apply->meta.highest.provider_no =
		MAX(apply->meta.highest.provider_no, change->u.provider.provider_no);
	return apply->conn->ops->put_provider(apply->conn, &change->u.provider);
}

static int apply_policy_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_policy(apply->conn, &change->u.policy);
}

static int apply_policy_del(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->del_policy(apply->conn, change->u.policy.root);
}

static int apply_setting_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_setting(apply->conn, change->u.setting.key,
					     change->u.setting.value);
}

static int apply_row_version(struct apply *apply, const struct change *change)
{
	if (apply->restore_seq == 0 || change->u.version.birth > apply->restore_seq)
		return -EBADMSG;
	apply->birth = change->u.version.birth;
	apply->death = change->u.version.death;
	return 0;
}

static int apply_audit_put(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->put_audit(apply->conn, &change->u.audit);
}

static int apply_audit_cut(struct apply *apply, const struct change *change)
{
	return apply->conn->ops->cut_audit(apply->conn, change->u.audit.audit_no);
}

/* ---- batches ---- */

static int (*const handlers[CHANGE_TYPE_COUNT])(struct apply *apply,
						const struct change *change) = {
	[CHANGE_INODE_PUT] = apply_inode_put,
	[CHANGE_INODE_DEL] = apply_inode_del,
	[CHANGE_DIRENT_PUT] = apply_dirent_put,
	[CHANGE_DIRENT_DEL] = apply_dirent_del,
	[CHANGE_XATTR_PUT] = apply_xattr_put,
	[CHANGE_XATTR_DEL] = apply_xattr_del,
	[CHANGE_SYMLINK_PUT] = apply_symlink_put,
	[CHANGE_EXTENT_PUT] = apply_extent_put,
	[CHANGE_EXTENT_DEL] = apply_extent_del,
	[CHANGE_CHUNK_PUT] = apply_chunk_put,
	[CHANGE_CHUNK_DEL] = apply_chunk_del,
	[CHANGE_SHARD_PUT] = apply_shard_put,
	[CHANGE_SHARD_DEL] = apply_shard_del,
	[CHANGE_COPY_PUT] = apply_copy_put,
	[CHANGE_COPY_DEL] = apply_copy_del,
	[CHANGE_ORPHAN_PUT] = apply_orphan_put,
	[CHANGE_ORPHAN_DEL] = apply_orphan_del,
	[CHANGE_PROVIDER_PUT] = apply_provider_put,
	[CHANGE_POLICY_PUT] = apply_policy_put,
	[CHANGE_POLICY_DEL] = apply_policy_del,
	[CHANGE_SETTING_PUT] = apply_setting_put,
	[CHANGE_SNAPSHOT_PUT] = apply_snapshot_put,
	[CHANGE_SNAPSHOT_DEL] = apply_snapshot_del,
	[CHANGE_AUDIT_PUT] = apply_audit_put,
	[CHANGE_HISTORY_DROP] = apply_history_drop,
	[CHANGE_ROW_VERSION] = apply_row_version,
	[CHANGE_AUDIT_CUT] = apply_audit_cut,
};

static int flush_rows(struct apply *apply)
{
	int r = apply_flush_counters(apply);

	if (r == 0)
		r = apply_flush_inodes(apply);
	if (r == 0)
		r = apply_flush_chunks(apply);
	return r < 0 ? r : apply_flush_shards(apply);
}

static int apply_record(struct apply *apply, const struct record *record)
{
	struct record_walk walk = record_walk_of(buf_bytes(&record->changes));
	struct change change;
	int r;

	if (apply->restore_seq == 0) {
		assert(record->seq > apply->seq);
		apply->seq = record->seq;
	}
	apply->birth = apply->death = 0;
	apply->made.snapshot_no = 0;
	while ((r = record_walk_next(&walk, &change)) > 0) {
		r = handlers[change.type](apply, &change);
		if (r < 0)
			return r;
	}
	if (r < 0)
		log_error("index-record-damaged", "seq=%" PRIu64 " error=%s", record->seq,
			  err_name(r));
	if (r == 0)
		r = apply_finish_snapshot(apply);
	if (r == 0 && apply->inodes.count + apply->chunks.count + apply->shards.count +
				      apply->counters.count >
			      APPLY_ROWS_MAX) {
		r = flush_rows(apply);
		apply_clear_rows(apply);
		apply->stored_highest = apply->meta.highest;
	}
	return r;
}

static int apply_records(struct apply *apply, struct record *const *records, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = apply_record(apply, records[i]);
	if (r == 0)
		r = flush_rows(apply);
	if (r < 0)
		return r;
	apply->meta.applied_seq = apply->seq;
	return apply->conn->ops->put_meta(apply->conn, &apply->meta);
}

int apply_batch(struct apply *apply, struct record *const *records, size_t count)
{
	int r = apply->must_learn ? apply_learn_newest(apply, UINT64_MAX) : 0;

	if (r < 0)
		return r;
	apply->must_learn = false;
	r = apply->conn->ops->begin(apply->conn);
	if (r < 0)
		return r;
	r = apply_records(apply, records, count);
	if (r == 0)
		r = apply->conn->ops->commit(apply->conn);
	apply_clear_rows(apply);
	if (r < 0) {
		apply->conn->ops->rollback(apply->conn);
		apply->meta = apply->committed_meta;
		apply->stored_highest = apply->meta.highest;
		apply->seq = apply->meta.applied_seq;
		apply->must_learn = true;
		return r;
	}
	apply->committed_meta = apply->meta;
	apply->stored_highest = apply->meta.highest;
	return 0;
}

int apply_restore(struct apply *apply, uint64_t seq, struct record *const *records, size_t count)
{
	int r;

	assert(seq >= apply->seq);
	apply->seq = apply->restore_seq = seq;
	r = apply_batch(apply, records, count);
	apply->restore_seq = apply->birth = 0;
	return r;
}

int apply_raise_highest(struct apply *apply, const struct index_highest *highest)
{
	struct index_highest *own = &apply->meta.highest;
	int r;

	own->ino = MAX(own->ino, highest->ino);
	own->cookie = MAX(own->cookie, highest->cookie);
	own->chunk_no = MAX(own->chunk_no, highest->chunk_no);
	own->shard_no = MAX(own->shard_no, highest->shard_no);
	own->snapshot_no = MAX(own->snapshot_no, highest->snapshot_no);
	own->provider_no = MAX(own->provider_no, highest->provider_no);
	r = apply_batch(apply, NULL, 0);
	if (r < 0)
		return r;
	return apply_learn_newest(apply, UINT64_MAX);
}

const struct engine_meta *apply_meta(const struct apply *apply)
{
	return &apply->committed_meta;
}

int apply_new(struct engine_conn *conn, struct apply **out)
{
	struct apply *apply = mem_alloc(sizeof(*apply));
	int r;

	if (apply == NULL)
		return -ENOMEM;
	apply->conn = conn;
	r = conn->ops->get_meta(conn, &apply->meta);
	if (r == 0)
		r = apply_learn_newest(apply, UINT64_MAX);
	if (r < 0) {
		apply_free(apply);
		return r;
	}
	apply->committed_meta = apply->meta;
	apply->stored_highest = apply->meta.highest;
	apply->seq = apply->meta.applied_seq;
	*out = apply;
	return 0;
}

void apply_free(struct apply *apply)
{
	if (apply == NULL)
		return;
	apply_clear_rows(apply);
	snapshot_list_release(&apply->snapshots);
	map_release(&apply->inodes);
	map_release(&apply->chunks);
	map_release(&apply->shards);
	map_release(&apply->counters);
	mem_free(apply);
}
