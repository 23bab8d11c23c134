/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite engine: reading rows.  Every function is one statement, and so
 * one state of the tables.  Types are the tables' own (STRICT); what remains to
 * be checked here are lengths of blobs and packed columns.
 */
#include "index/copy_pack.h"
#include "index/sqlite.h"
#include "util/wire.h"

#include <errno.h>

int64_t sqlite_chunk_prefix(const struct chunk_id *id)
{
	uint64_t v = 0;

	for (size_t i = 0; i < 6; i++)
		v = v << 8 | id->b[i];
	return (int64_t)(v << 16) >> 16;
}

size_t sqlite_list_limit(size_t count_max)
{
	return count_max > INT64_MAX ? INT64_MAX : count_max;
}

int sqlite_one_row(struct sqlite_conn *conn, sqlite3_stmt *stmt)
{
	int r = sqlite_row(conn, stmt);

	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

int sqlite_get_meta(struct engine_conn *base, struct engine_meta *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_META, &stmt, "");

	if (r == 0)
		r = sqlite_one_row(conn, stmt);
	if (r < 0)
		return r == -ENOENT ? sqlite_damaged("meta", 1) : r;
	*out = (struct engine_meta){
		.applied_seq = sqlite_column_u64(stmt, 0),
		.highest = {
			.ino = sqlite_column_u64(stmt, 1),
			.cookie = sqlite_column_u64(stmt, 2),
			.chunk_no = sqlite_column_u64(stmt, 3),
			.shard_no = sqlite_column_u64(stmt, 4),
			.snapshot_no = sqlite_column_u64(stmt, 5),
			.provider_no = (uint32_t)sqlite_column_u64(stmt, 6),
		},
		.inodes = sqlite_column_u64(stmt, 7),
		.directories = sqlite_column_u64(stmt, 8),
		.bytes = sqlite_column_u64(stmt, 9),
		.chunks = sqlite_column_u64(stmt, 10),
		.chunk_stored_bytes = sqlite_column_u64(stmt, 11),
		.shards = sqlite_column_u64(stmt, 12),
	};
	sqlite_done(stmt);
	return 0;
}

/* ---- names ---- */

/* Columns cookie, ino, type, name. */
int sqlite_read_dirent(sqlite3_stmt *stmt, uint64_t parent, struct dirent_row *out)
{
	struct bytes name = sqlite_column_bytes(stmt, 3);

	if (name.len == 0 || name.len > NAME_LEN_MAX)
		return sqlite_damaged("dirent", parent);
	out->parent = parent;
	out->cookie = sqlite_column_u64(stmt, 0);
	out->ino = sqlite_column_u64(stmt, 1);
	out->type = (uint32_t)sqlite3_column_int64(stmt, 2);
	out->name_len = (uint8_t)name.len;
	memcpy(out->name, name.ptr, name.len);
	out->name[name.len] = '\0';
	return 0;
}

int sqlite_one_dirent(struct sqlite_conn *conn, sqlite3_stmt *stmt, uint64_t parent,
		      struct dirent_row *out)
{
	int r = sqlite_one_row(conn, stmt);

	if (r < 0)
		return r;
	r = sqlite_read_dirent(stmt, parent, out);
	sqlite_done(stmt);
	return r;
}

int sqlite_find_dirent(struct engine_conn *base, uint64_t parent, struct bytes name,
		       struct dirent_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_FIND_DIRENT, &stmt, "ub", parent, name);

	return r < 0 ? r : sqlite_one_dirent(conn, stmt, parent, out);
}

int sqlite_all_dirents(struct sqlite_conn *conn, sqlite3_stmt *stmt, uint64_t parent,
		       struct dirent_list *out)
{
	int r;

	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct dirent_row row;

		r = sqlite_read_dirent(stmt, parent, &row);
		if (r == 0)
			r = dirent_list_add(out, &row);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

int sqlite_list_dirents(struct engine_conn *base, uint64_t parent, uint64_t after,
			size_t count_max, struct dirent_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_DIRENTS, &stmt, "uuu", parent, after,
			    (uint64_t)sqlite_list_limit(count_max));

	return r < 0 ? r : sqlite_all_dirents(conn, stmt, parent, out);
}

/* ---- inodes ---- */

static int64_t unzigzag(uint64_t v)
{
	return (int64_t)((v >> 1) ^ (0 - (v & 1)));
}

static struct wall_time read_time(struct wire_reader *reader, struct wall_time base)
{
	uint64_t sec = (uint64_t)base.sec + (uint64_t)unzigzag(wire_get_varint(reader));
	uint64_t nsec = (uint64_t)unzigzag(wire_get_varint(reader)) + base.nsec;

	if (nsec > 999999999)
		reader->is_bad = true;
	return (struct wall_time){.sec = (int64_t)sec, .nsec = (uint32_t)nsec};
}

static int read_times(struct bytes packed, struct inode_row *out)
{
	struct wire_reader reader = wire_reader_of(packed);

	out->mtime = read_time(&reader, (struct wall_time){0});
	out->atime = read_time(&reader, out->mtime);
	out->ctime = read_time(&reader, out->mtime);
	out->btime = read_time(&reader, out->mtime);
	return wire_reader_end(&reader);
}

/* SQL_INODE_COLUMNS. */
int sqlite_read_inode(sqlite3_stmt *stmt, struct inode_row *out)
{
	struct inode_row row = {
		.ino = sqlite_column_u64(stmt, 0),
		.mode = (uint32_t)sqlite3_column_int64(stmt, 1),
		.uid = (uint32_t)sqlite3_column_int64(stmt, 2),
		.gid = (uint32_t)sqlite3_column_int64(stmt, 3),
		.nlink = (uint32_t)sqlite3_column_int64(stmt, 4),
		.rdev = sqlite_column_u64(stmt, 5),
		.size = sqlite_column_u64(stmt, 6),
		.flags = (uint32_t)sqlite3_column_int64(stmt, 8),
		.parent = sqlite_column_u64(stmt, 9),
		.policy_root = sqlite_column_u64(stmt, 10),
		.birth = sqlite_column_u64(stmt, 11),
	};

	if (read_times(sqlite_column_bytes(stmt, 7), &row) < 0)
		return sqlite_damaged("inode", row.ino);
	*out = row;
	return 0;
}

int sqlite_one_inode(struct sqlite_conn *conn, sqlite3_stmt *stmt, struct inode_row *out)
{
	int r = sqlite_one_row(conn, stmt);

	if (r < 0)
		return r;
	r = sqlite_read_inode(stmt, out);
	sqlite_done(stmt);
	return r;
}

int sqlite_get_inode(struct engine_conn *base, uint64_t ino, struct inode_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_INODE, &stmt, "u", ino);

	return r < 0 ? r : sqlite_one_inode(conn, stmt, out);
}

/* The first column of the one row, appended to out. */
int sqlite_append_one(struct sqlite_conn *conn, sqlite3_stmt *stmt, struct buf *out)
{
	int r = sqlite_one_row(conn, stmt);

	if (r < 0)
		return r;
	r = buf_append(out, sqlite_column_bytes(stmt, 0));
	sqlite_done(stmt);
	return r;
}

int sqlite_get_symlink(struct engine_conn *base, uint64_t ino, struct buf *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_SYMLINK, &stmt, "u", ino);

	return r < 0 ? r : sqlite_append_one(conn, stmt, out);
}

int sqlite_get_xattr(struct engine_conn *base, uint64_t ino, struct bytes name, struct buf *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_XATTR, &stmt, "ub", ino, name);

	return r < 0 ? r : sqlite_append_one(conn, stmt, out);
}

/* The first column of all rows, each with a NUL behind it. */
int sqlite_append_names(struct sqlite_conn *conn, sqlite3_stmt *stmt, struct buf *out)
{
	int r;

	while ((r = sqlite_row(conn, stmt)) > 0) {
		r = buf_append(out, sqlite_column_bytes(stmt, 0));
		if (r == 0)
			r = buf_append_zeros(out, 1);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

int sqlite_list_xattrs(struct engine_conn *base, uint64_t ino, struct buf *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_XATTRS, &stmt, "u", ino);

	return r < 0 ? r : sqlite_append_names(conn, stmt, out);
}

/* ---- extents ---- */

/* Columns off, len, chunk_off, chunk_no, birth from `first` on. */
int sqlite_read_extent(sqlite3_stmt *stmt, int first, uint64_t ino, struct extent_row *out,
		       uint64_t *birth)
{
	int64_t off = sqlite3_column_int64(stmt, first);
	int64_t len = sqlite3_column_int64(stmt, first + 1);
	int64_t chunk_off = sqlite3_column_int64(stmt, first + 2);

	if (off < 0 || len <= 0 || len > UINT32_MAX || off > INT64_MAX - len || chunk_off < 0 ||
	    chunk_off > UINT32_MAX - len)
		return sqlite_damaged("extent", ino);
	*out = (struct extent_row){
		.ino = ino,
		.off = (uint64_t)off,
		.len = (uint32_t)len,
		.chunk_off = (uint32_t)chunk_off,
		.chunk_no = sqlite_column_u64(stmt, first + 3),
	};
	*birth = sqlite_column_u64(stmt, first + 4);
	return 0;
}

/* Rows of off, len, chunk_off, chunk_no, birth that reach beyond off. */
int sqlite_visit_rows(struct sqlite_conn *conn, sqlite3_stmt *stmt, uint64_t ino, uint64_t off,
		      engine_visit_extent visit, void *ctx)
{
	int r;

	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct extent_row extent;
		uint64_t birth = 0;

		r = sqlite_read_extent(stmt, 0, ino, &extent, &birth);
		if (r == 0 && extent.off + extent.len > off)
			r = visit(ctx, &extent, birth);
		if (r != 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return MIN(r, 0);
}

int sqlite_visit_extents(struct engine_conn *base, uint64_t ino, uint64_t off, uint64_t end,
			 engine_visit_extent visit, void *ctx)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r;

	if (off > INT64_MAX)
		return 0;
	r = sqlite_bind(conn, SQL_VISIT_EXTENTS, &stmt, "uuu", ino, off,
			MIN(end, (uint64_t)INT64_MAX));
	return r < 0 ? r : sqlite_visit_rows(conn, stmt, ino, off, visit, ctx);
}

int sqlite_last_extent_end(struct engine_conn *base, uint64_t ino, uint64_t *end)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LAST_EXTENT, &stmt, "u", ino);

	if (r == 0)
		r = sqlite_row(conn, stmt);
	if (r < 0)
		return r;
	*end = r > 0 ? sqlite_column_u64(stmt, 0) : 0;
	if (r > 0)
		sqlite_done(stmt);
	return 0;
}

/* ---- chunks and shards ---- */

static int read_chunk(sqlite3_stmt *stmt, struct chunk_row *out)
{
	struct bytes id = sqlite_column_bytes(stmt, 7);

	out->chunk_no = sqlite_column_u64(stmt, 0);
	if (id.len != sizeof(out->id.b))
		return sqlite_damaged("chunk", out->chunk_no);
	out->refs = sqlite_column_u64(stmt, 1);
	out->shard_no = sqlite_column_u64(stmt, 2);
	out->record_no = (uint32_t)sqlite3_column_int64(stmt, 3);
	out->off = (uint32_t)sqlite3_column_int64(stmt, 4);
	out->stored_len = (uint32_t)sqlite3_column_int64(stmt, 5);
	out->raw_len = (uint32_t)sqlite3_column_int64(stmt, 6);
	memcpy(out->id.b, id.ptr, sizeof(out->id.b));
	return 0;
}

static int one_chunk(struct sqlite_conn *conn, sqlite3_stmt *stmt, struct chunk_row *out)
{
	struct chunk_row row;
	int r = sqlite_one_row(conn, stmt);

	if (r < 0)
		return r;
	r = read_chunk(stmt, &row);
	sqlite_done(stmt);
	if (r == 0)
		*out = row;
	return r;
}

int sqlite_find_chunk(struct engine_conn *base, const struct chunk_id *id, struct chunk_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_FIND_CHUNK, &stmt, "ib", sqlite_chunk_prefix(id),
			    bytes_of(id->b, sizeof(id->b)));

	return r < 0 ? r : one_chunk(conn, stmt, out);
}

int sqlite_get_chunk(struct engine_conn *base, uint64_t chunk_no, struct chunk_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_CHUNK, &stmt, "u", chunk_no);

	return r < 0 ? r : one_chunk(conn, stmt, out);
}

int sqlite_list_chunks(struct engine_conn *base, uint64_t shard_no, uint64_t after,
		       size_t count_max, struct chunk_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_CHUNKS, &stmt, "uuu", shard_no, after,
			    (uint64_t)sqlite_list_limit(count_max));

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct chunk_row row;

		r = read_chunk(stmt, &row);
		if (r == 0)
			r = chunk_list_add(out, &row);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

static int read_shard(sqlite3_stmt *stmt, struct shard_row *out)
{
	struct bytes id = sqlite_column_bytes(stmt, 11);
	struct bytes mac = sqlite_column_bytes(stmt, 12);
	uint64_t dead = sqlite_column_u64(stmt, 8);

	*out = (struct shard_row){
		.shard_no = sqlite_column_u64(stmt, 0),
		.state = (uint32_t)sqlite3_column_int64(stmt, 1),
		.key_epoch = (uint32_t)sqlite3_column_int64(stmt, 2),
		.writer_epoch = sqlite_column_u64(stmt, 3),
		.policy_root = sqlite_column_u64(stmt, 4),
		.priority = (uint32_t)sqlite3_column_int64(stmt, 5),
		.object_len = sqlite_column_u64(stmt, 6),
		.record_count = (uint32_t)sqlite3_column_int64(stmt, 7),
		.total_bytes = sqlite_column_u64(stmt, 9),
		.sealed_sec = sqlite3_column_int64(stmt, 10),
	};
	if (id.len != sizeof(out->id.b) || (mac.len != 0 && mac.len != sizeof(out->mac)) ||
	    dead > out->total_bytes)
		return sqlite_damaged("shard", out->shard_no);
	out->live_bytes = out->total_bytes - dead;
	memcpy(out->id.b, id.ptr, id.len);
	if (mac.len > 0)
		memcpy(out->mac, mac.ptr, mac.len);
	return 0;
}

static int one_shard(struct sqlite_conn *conn, sqlite3_stmt *stmt, struct shard_row *out)
{
	struct shard_row row;
	int r = sqlite_one_row(conn, stmt);

	if (r < 0)
		return r;
	r = read_shard(stmt, &row);
	sqlite_done(stmt);
	if (r == 0)
		*out = row;
	return r;
}

int sqlite_get_shard(struct engine_conn *base, uint64_t shard_no, struct shard_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_SHARD, &stmt, "u", shard_no);

	return r < 0 ? r : one_shard(conn, stmt, out);
}

int sqlite_find_shard(struct engine_conn *base, const struct shard_id *id, struct shard_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_FIND_SHARD, &stmt, "bb", bytes_of(id->b, 3),
			    bytes_of(id->b, sizeof(id->b)));

	return r < 0 ? r : one_shard(conn, stmt, out);
}

int sqlite_list_shards(struct engine_conn *base, uint64_t after, size_t count_max,
		       struct shard_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_SHARDS, &stmt, "uu", after,
			    (uint64_t)sqlite_list_limit(count_max));

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct shard_row row;

		r = read_shard(stmt, &row);
		if (r == 0)
			r = shard_list_add(out, &row);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

/* ---- copies ---- */

static int unpack_copies(uint64_t shard_no, struct bytes packed, struct copy_list *out)
{
	int r = copy_unpack(shard_no, packed, out);

	return r == -EBADMSG ? sqlite_damaged("copy", shard_no) : r;
}

int sqlite_list_copies(struct engine_conn *base, uint64_t shard_no, struct copy_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_COPIES, &stmt, "u", shard_no);

	if (r == 0)
		r = sqlite_one_row(conn, stmt);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = unpack_copies(shard_no, sqlite_column_bytes(stmt, 0), out);
	sqlite_done(stmt);
	return r;
}

int sqlite_list_copies_in_state(struct engine_conn *base, uint32_t state, uint64_t after,
				size_t count_max, struct copy_list *out)
{
	bool is_settled = state == COPY_PRESENT || state == COPY_VERIFIED;
	struct sqlite_conn *conn = sqlite_conn_of(base);
	size_t enough = out->count + count_max;
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, is_settled ? SQL_LIST_COPIES : SQL_LIST_COPIES_UNSETTLED, &stmt,
			    "uuu", (uint64_t)BIT(state), after,
			    (uint64_t)sqlite_list_limit(count_max));

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		AUTO(copy_list) copies = ROW_LIST_INIT;

		r = unpack_copies(sqlite_column_u64(stmt, 0), sqlite_column_bytes(stmt, 1),
				  &copies);
		for (size_t i = 0; i < copies.count && r == 0; i++)
			if (copies.rows[i].state == state)
				r = copy_list_add(out, &copies.rows[i]);
		if (r < 0 || out->count >= enough) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

int sqlite_list_verified(struct engine_conn *base, int64_t after_sec, uint64_t after_no,
			 size_t count_max, struct verified_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_VERIFIED, &stmt, "iuu", after_sec, after_no,
			    (uint64_t)sqlite_list_limit(count_max));

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct verified_row row = {.verified_sec = sqlite3_column_int64(stmt, 0),
					   .shard_no = sqlite_column_u64(stmt, 1)};

		r = verified_list_add(out, &row);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

int sqlite_count_verified(struct engine_conn *base, int64_t since_sec, struct verified_count *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_COUNT_VERIFIED, &stmt, "i", since_sec);

	if (r == 0)
		r = sqlite_one_row(conn, stmt);
	if (r < 0)
		return r;
	*out = (struct verified_count){.shards = sqlite_column_u64(stmt, 0),
				       .since = sqlite_column_u64(stmt, 1),
				       .oldest_sec = sqlite3_column_int64(stmt, 2)};
	sqlite_done(stmt);
	return 0;
}

/* ---- subtrees ---- */

/* The first column of every row; *count_max is room, then what was filled. */
int sqlite_read_numbers(struct sqlite_conn *conn, sqlite3_stmt *stmt, size_t count_max,
			uint64_t *numbers, size_t *count)
{
	size_t filled = 0;
	int r;

	while ((r = sqlite_row(conn, stmt)) > 0) {
		if (filled == count_max) {
			sqlite_done(stmt);
			r = 0;
			break;
		}
		numbers[filled++] = sqlite_column_u64(stmt, 0);
	}
	if (r == 0)
		*count = filled;
	return r;
}

/* From statements that give files, directories, bytes; and extents, chunks, stored, shared bytes. */
int sqlite_sum_subtree(struct sqlite_conn *conn, sqlite3_stmt *inodes, sqlite3_stmt *chunks,
		       struct subtree_totals *out)
{
	int r = sqlite_one_row(conn, inodes);

	if (r < 0)
		return r;
	out->files = sqlite_column_u64(inodes, 0);
	out->directories = sqlite_column_u64(inodes, 1);
	out->bytes = sqlite_column_u64(inodes, 2);
	sqlite_done(inodes);
	r = sqlite_one_row(conn, chunks);
	if (r < 0)
		return r;
	out->extents = sqlite_column_u64(chunks, 0);
	out->chunks = sqlite_column_u64(chunks, 1);
	out->stored_bytes = sqlite_column_u64(chunks, 2);
	out->shared_bytes = sqlite_column_u64(chunks, 3);
	sqlite_done(chunks);
	return 0;
}

static int subtree_totals(struct sqlite_conn *conn, uint64_t ino, struct subtree_totals *out)
{
	sqlite3_stmt *inodes, *chunks;
	int r = sqlite_bind(conn, SQL_SUBTREE_INODES, &inodes, "u", ino);

	if (r == 0)
		r = sqlite_bind(conn, SQL_SUBTREE_CHUNKS, &chunks, "u", ino);
	return r < 0 ? r : sqlite_sum_subtree(conn, inodes, chunks, out);
}

int sqlite_subtree_newest(struct engine_conn *base, uint64_t ino, uint64_t *seq)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = ino == INO_ROOT ? sqlite_bind(conn, SQL_NEWEST, &stmt, "")
				: sqlite_bind(conn, SQL_SUBTREE_NEWEST, &stmt, "u", ino);
	uint64_t found = 0;
	size_t count = 0;

	if (r == 0)
		r = sqlite_read_numbers(conn, stmt, 1, &found, &count);
	if (r == 0)
		*seq = found;
	return r;
}

int sqlite_subtree_shards(struct engine_conn *base, uint64_t ino, uint64_t after, size_t count_max,
			  uint64_t *shard_nos, size_t *count, struct subtree_totals *totals)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	struct subtree_totals found = {0};
	sqlite3_stmt *stmt;
	int r = totals != NULL ? subtree_totals(conn, ino, &found) : 0;

	if (r == 0)
		r = sqlite_bind(conn, SQL_SUBTREE_SHARDS, &stmt, "uuu", ino, after,
				(uint64_t)sqlite_list_limit(count_max));
	if (r == 0)
		r = sqlite_read_numbers(conn, stmt, count_max, shard_nos, count);
	if (r == 0 && totals != NULL)
		*totals = found;
	return r;
}
