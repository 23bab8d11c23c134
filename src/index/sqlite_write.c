/* SPDX-License-Identifier: Apache-2.0 */
/* The SQLite engine: writing rows, inside the writer's transaction. */
#include "index/copy_pack.h"
#include "index/sqlite.h"
#include "util/wire.h"

#include <errno.h>
#include <sys/stat.h>

int sqlite_put_meta(struct engine_conn *conn, const struct engine_meta *meta)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_META, "uuuuuuuuuuuuu", meta->applied_seq,
			  meta->highest.ino, meta->highest.cookie, meta->highest.chunk_no,
			  meta->highest.shard_no, meta->highest.snapshot_no,
			  (uint64_t)meta->highest.provider_no, meta->inodes, meta->directories,
			  meta->bytes, meta->chunks, meta->chunk_stored_bytes, meta->shards);
}

/* Whether a row born at or before the newest snapshot dies now, after it. */
static bool must_keep(struct engine_version version)
{
	return version.newest_snapshot > 0 && version.newest_snapshot < version.seq;
}

/* ---- inodes ---- */

static int put_difference(struct buf *out, uint64_t difference)
{
	return wire_put_varint(out, (difference << 1) ^ (0 - (difference >> 63)));
}

static int pack_time(struct buf *out, struct wall_time t, struct wall_time base)
{
	int r = put_difference(out, (uint64_t)t.sec - (uint64_t)base.sec);

	return r < 0 ? r : put_difference(out, (uint64_t)t.nsec - (uint64_t)base.nsec);
}

static int pack_times(const struct inode_row *inode, struct buf *out)
{
	int r;

	buf_clear(out);
	r = pack_time(out, inode->mtime, (struct wall_time){0});
	if (r == 0)
		r = pack_time(out, inode->atime, inode->mtime);
	if (r == 0)
		r = pack_time(out, inode->ctime, inode->mtime);
	if (r == 0)
		r = pack_time(out, inode->btime, inode->mtime);
	return r;
}

int sqlite_put_inode(struct engine_conn *base, const struct inode_row *inode)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = pack_times(inode, &conn->scratch);

	if (r < 0)
		return r;
	return sqlite_run(conn, SQL_PUT_INODE, "uuuuuuubuuuu", inode->ino, (uint64_t)inode->mode,
			  (uint64_t)inode->uid, (uint64_t)inode->gid, (uint64_t)inode->nlink,
			  inode->rdev, inode->size, buf_bytes(&conn->scratch),
			  (uint64_t)inode->flags, inode->parent, inode->policy_root, inode->birth);
}

int sqlite_put_old_inode(struct engine_conn *base, const struct inode_row *inode, uint64_t death)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = pack_times(inode, &conn->scratch);

	if (r < 0)
		return r;
	return sqlite_run(conn, SQL_PUT_OLD_INODE, "uuuuuuubuuuuu", inode->ino,
			  (uint64_t)inode->mode, (uint64_t)inode->uid, (uint64_t)inode->gid,
			  (uint64_t)inode->nlink, inode->rdev, inode->size,
			  buf_bytes(&conn->scratch), (uint64_t)inode->flags, inode->parent,
			  inode->policy_root, inode->birth, death);
}

int sqlite_del_inode(struct engine_conn *base, uint64_t ino, uint32_t mode,
		     struct engine_version version)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = 0;

	if (must_keep(version) && S_ISLNK(mode))
		r = sqlite_run(conn, SQL_KEEP_SYMLINK, "uuu", version.seq, ino,
			       version.newest_snapshot);
	if (r == 0 && must_keep(version))
		r = sqlite_run(conn, SQL_KEEP_XATTRS, "uuu", version.seq, ino,
			       version.newest_snapshot);
	if (r == 0)
		r = sqlite_run(conn, SQL_DEL_INODE, "u", ino);
	if (r == 0)
		r = sqlite_run(conn, SQL_DEL_XATTRS, "u", ino);
	if (r == 0 && S_ISLNK(mode))
		r = sqlite_run(conn, SQL_DEL_SYMLINK, "u", ino);
	if (r == 0 && S_ISDIR(mode))
		r = sqlite_run(conn, SQL_DEL_COUNTER, "u", ino);
	return r;
}

/* ---- names, attributes, targets ---- */

static int keep_dirent(struct sqlite_conn *conn, const struct change *change,
		       struct engine_version version)
{
	if (!must_keep(version))
		return 0;
	return sqlite_run(conn, SQL_KEEP_DIRENT, "uuuub", version.seq, change->u.dirent.parent,
			  version.newest_snapshot, change->u.dirent.cookie, change->u.dirent.name);
}

int sqlite_put_dirent(struct engine_conn *base, const struct change *change,
		      struct engine_version version)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = keep_dirent(conn, change, version);

	if (r < 0)
		return r;
	return sqlite_run(conn, SQL_PUT_DIRENT, "uubuuu", change->u.dirent.parent,
			  change->u.dirent.cookie, change->u.dirent.name, change->u.dirent.ino,
			  (uint64_t)change->u.dirent.type, version.seq);
}

int sqlite_del_dirent(struct engine_conn *base, const struct change *change,
		      struct engine_version version)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = keep_dirent(conn, change, version);

	if (r < 0)
		return r;
	return sqlite_run(conn, SQL_DEL_DIRENT, "uub", change->u.dirent.parent,
			  change->u.dirent.cookie, change->u.dirent.name);
}

static int keep_xattr(struct sqlite_conn *conn, const struct change *change,
		      struct engine_version version)
{
	if (!must_keep(version))
		return 0;
	return sqlite_run(conn, SQL_KEEP_XATTR, "uuub", version.seq, change->u.xattr.ino,
			  version.newest_snapshot, change->u.xattr.name);
}

int sqlite_put_xattr(struct engine_conn *base, const struct change *change,
		     struct engine_version version)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = keep_xattr(conn, change, version);

	if (r < 0)
		return r;
	return sqlite_run(conn, SQL_PUT_XATTR, "ubub", change->u.xattr.ino, change->u.xattr.name,
			  version.seq, change->u.xattr.value);
}

int sqlite_del_xattr(struct engine_conn *base, const struct change *change,
		     struct engine_version version)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = keep_xattr(conn, change, version);

	if (r < 0)
		return r;
	return sqlite_run(conn, SQL_DEL_XATTR, "ub", change->u.xattr.ino, change->u.xattr.name);
}

int sqlite_put_symlink(struct engine_conn *base, const struct change *change,
		       struct engine_version version)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = 0;

	if (must_keep(version))
		r = sqlite_run(conn, SQL_KEEP_SYMLINK, "uuu", version.seq, change->u.symlink.ino,
			       version.newest_snapshot);
	if (r < 0)
		return r;
	return sqlite_run(conn, SQL_PUT_SYMLINK, "uub", change->u.symlink.ino, version.seq,
			  change->u.symlink.target);
}

/* ---- extents ---- */

int sqlite_put_extent(struct engine_conn *conn, const struct extent_row *extent, uint64_t birth)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_EXTENT, "uuuuuu", extent->ino, extent->off,
			  (uint64_t)extent->len, (uint64_t)extent->chunk_off, extent->chunk_no,
			  birth);
}

int sqlite_put_old_extent(struct engine_conn *conn, const struct extent_row *extent,
			  uint64_t birth, uint64_t death)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_OLD_EXTENT, "uuuuuuu", extent->ino,
			  extent->off, (uint64_t)extent->len, (uint64_t)extent->chunk_off,
			  extent->chunk_no, birth, death);
}

int sqlite_del_extents(struct engine_conn *conn, uint64_t ino, uint64_t off, uint64_t end)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_DEL_EXTENTS, "uuu", ino, off,
			  MIN(end, (uint64_t)INT64_MAX));
}

/* ---- chunks and shards ---- */

int sqlite_put_chunk(struct engine_conn *conn, const struct chunk_row *chunk, bool is_new)
{
	return sqlite_run(sqlite_conn_of(conn), is_new ? SQL_INSERT_CHUNK : SQL_UPDATE_CHUNK,
			  "uuuuuuub", chunk->chunk_no, chunk->refs, chunk->shard_no,
			  (uint64_t)chunk->record_no, (uint64_t)chunk->off,
			  (uint64_t)chunk->stored_len, (uint64_t)chunk->raw_len,
			  bytes_of(chunk->id.b, sizeof(chunk->id.b)));
}

int sqlite_put_chunk_refs(struct engine_conn *conn, uint64_t chunk_no, uint64_t refs)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_UPDATE_CHUNK_REFS, "uu", chunk_no, refs);
}

int sqlite_del_chunk(struct engine_conn *conn, uint64_t chunk_no)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_DEL_CHUNK, "u", chunk_no);
}

int sqlite_put_chunk_name(struct engine_conn *conn, const struct chunk_id *id, uint64_t chunk_no)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_CHUNK_NAME, "iu", sqlite_chunk_prefix(id),
			  chunk_no);
}

int sqlite_del_chunk_name(struct engine_conn *conn, const struct chunk_id *id, uint64_t chunk_no)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_DEL_CHUNK_NAME, "iu", sqlite_chunk_prefix(id),
			  chunk_no);
}

static bool is_zeros(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

int sqlite_put_shard(struct engine_conn *base, const struct shard_row *shard)
{
	bool has_mac = !is_zeros(shard->mac, sizeof(shard->mac));
	struct bytes mac = bytes_of(shard->mac, sizeof(shard->mac));
	struct bytes id = bytes_of(shard->id.b, sizeof(shard->id.b));
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int rc, r;

	r = sqlite_bind(conn, SQL_PUT_SHARD, &stmt, "uuuuuuuuuuibb", shard->shard_no,
			(uint64_t)shard->state, (uint64_t)shard->key_epoch, shard->writer_epoch,
			shard->policy_root, (uint64_t)shard->priority, shard->object_len,
			(uint64_t)shard->record_count, shard->total_bytes - shard->live_bytes,
			shard->total_bytes, shard->sealed_sec, id, mac);
	if (r < 0)
		return r;
	rc = has_mac ? SQLITE_OK : sqlite3_bind_null(stmt, 13);
	if (rc != SQLITE_OK)
		return sqlite_fail(conn->db, rc, "shard");
	r = sqlite_row(conn, stmt);
	return MIN(r, 0);
}

int sqlite_del_shard(struct engine_conn *base, uint64_t shard_no)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = sqlite_run(conn, SQL_DEL_SHARD, "u", shard_no);

	return r < 0 ? r : sqlite_run(conn, SQL_DEL_COPIES, "u", shard_no);
}

/* ---- copies ---- */

static int write_copies(struct sqlite_conn *conn, uint64_t shard_no,
			const struct copy_list *copies)
{
	int r;

	if (copies->count == 0)
		return sqlite_run(conn, SQL_DEL_COPIES, "u", shard_no);
	buf_clear(&conn->scratch);
	r = copy_pack(copies, &conn->scratch);
	if (r < 0)
		return r;
	return sqlite_run(conn, SQL_PUT_COPIES, "uuib", shard_no, (uint64_t)copy_states(copies),
			  copy_oldest_verified(copies), buf_bytes(&conn->scratch));
}

int sqlite_put_copy(struct engine_conn *base, const struct copy_row *copy)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = sqlite_list_copies(base, copy->shard_no, &copies);

	if (r == 0)
		r = copy_list_put(&copies, copy);
	return r < 0 ? r : write_copies(sqlite_conn_of(base), copy->shard_no, &copies);
}

int sqlite_del_copy(struct engine_conn *base, uint64_t shard_no, uint32_t provider_no)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = sqlite_list_copies(base, shard_no, &copies);

	if (r < 0)
		return r;
	copy_list_del(&copies, provider_no);
	return write_copies(sqlite_conn_of(base), shard_no, &copies);
}

/* ---- small tables ---- */

int sqlite_put_orphan(struct engine_conn *conn, uint64_t ino)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_ORPHAN, "u", ino);
}

int sqlite_del_orphan(struct engine_conn *conn, uint64_t ino)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_DEL_ORPHAN, "u", ino);
}

int sqlite_put_provider(struct engine_conn *conn, const struct provider_row *provider)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_PROVIDER, "usssssu",
			  (uint64_t)provider->provider_no, provider->name, provider->type,
			  provider->vendor, provider->region, provider->role,
			  (uint64_t)provider->is_forgotten);
}

int sqlite_put_policy(struct engine_conn *conn, const struct policy_row *policy)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_POLICY, "usu", policy->root, policy->text,
			  policy->version);
}

int sqlite_del_policy(struct engine_conn *conn, uint64_t root)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_DEL_POLICY, "u", root);
}

int sqlite_put_setting(struct engine_conn *conn, struct bytes key, struct bytes value)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_SETTING, "bb", key, value);
}

int sqlite_put_snapshot(struct engine_conn *conn, const struct snapshot_row *snapshot)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_SNAPSHOT, "usuuiuuu",
			  snapshot->snapshot_no, snapshot->name, snapshot->root, snapshot->seq,
			  snapshot->created_sec, snapshot->files, snapshot->directories,
			  snapshot->bytes);
}

int sqlite_put_audit(struct engine_conn *conn, const struct audit_row *audit)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_AUDIT, "uiubb", audit->audit_no,
			  audit->time.sec, (uint64_t)audit->time.nsec,
			  bytes_of(audit->mac, sizeof(audit->mac)), audit->body);
}

int sqlite_cut_audit(struct engine_conn *conn, uint64_t upto_no)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_CUT_AUDIT, "u", upto_no);
}

int sqlite_del_snapshot(struct engine_conn *conn, uint64_t snapshot_no)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_DEL_SNAPSHOT, "u", snapshot_no);
}

int sqlite_put_counter(struct engine_conn *conn, const struct engine_counter *counter)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_COUNTER, "uiiiu", counter->ino,
			  counter->files, counter->directories, counter->bytes, counter->as_of);
}

/* ---- history ---- */

int sqlite_put_old_dirent(struct engine_conn *conn, const struct change *change, uint64_t birth,
			  uint64_t death)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_OLD_DIRENT, "uuubuuu",
			  change->u.dirent.parent, change->u.dirent.cookie, birth,
			  change->u.dirent.name, change->u.dirent.ino,
			  (uint64_t)change->u.dirent.type, death);
}

int sqlite_put_old_xattr(struct engine_conn *conn, const struct change *change, uint64_t birth,
			 uint64_t death)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_OLD_XATTR, "ububu", change->u.xattr.ino,
			  change->u.xattr.name, birth, change->u.xattr.value, death);
}

int sqlite_put_old_symlink(struct engine_conn *conn, const struct change *change, uint64_t birth,
			   uint64_t death)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_PUT_OLD_SYMLINK, "uubu", change->u.symlink.ino,
			  birth, change->u.symlink.target, death);
}

static int tell_unseen_extents(struct sqlite_conn *conn, const struct old_row *old,
			       engine_visit_extent freed, void *ctx)
{
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_UNSEEN_EXTENTS, &stmt, "uu", old->ino, old->at);

	return r < 0 ? r : sqlite_visit_rows(conn, stmt, old->ino, 0, freed, ctx);
}

int sqlite_drop_history(struct engine_conn *base, const struct old_row *old,
			engine_visit_extent freed, void *ctx)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = tell_unseen_extents(conn, old, freed, ctx);

	if (r == 0)
		r = sqlite_run(conn, SQL_DROP_EXTENTS, "uu", old->ino, old->at);
	if (r == 0)
		r = sqlite_run(conn, SQL_DROP_DIRENTS, "uu", old->ino, old->at);
	if (r < 0 || old->at != 0)
		return r;
	r = sqlite_run(conn, SQL_DROP_INODES, "u", old->ino);
	if (r == 0)
		r = sqlite_run(conn, SQL_DROP_XATTRS, "u", old->ino);
	return r < 0 ? r : sqlite_run(conn, SQL_DROP_SYMLINKS, "u", old->ino);
}
