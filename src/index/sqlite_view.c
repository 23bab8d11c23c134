/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite engine: reading as of a snapshot, and what no snapshot needs.
 *
 * A row that a snapshot sees is in the table as long as it lives, and in the
 * history from the transaction on that replaced it.  Each question is one
 * statement over both, so one state: a row on its way is found exactly once.
 */
#include "index/sqlite.h"

#include <errno.h>

static uint64_t list_limit(size_t count_max)
{
	return MIN((uint64_t)count_max, (uint64_t)INT64_MAX);
}

int sqlite_view_find_dirent(struct engine_conn *base, uint64_t seq, uint64_t parent,
			    struct bytes name, struct dirent_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_VIEW_FIND_DIRENT, &stmt, "uub", seq, parent, name);

	return r < 0 ? r : sqlite_one_dirent(conn, stmt, parent, out);
}

int sqlite_view_list_dirents(struct engine_conn *base, uint64_t seq, uint64_t parent,
			     uint64_t after, size_t count_max, struct dirent_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_VIEW_LIST_DIRENTS, &stmt, "uuuu", seq, parent, after,
			    list_limit(count_max));

	return r < 0 ? r : sqlite_all_dirents(conn, stmt, parent, out);
}

int sqlite_view_get_inode(struct engine_conn *base, uint64_t seq, uint64_t ino,
			  struct inode_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_VIEW_GET_INODE, &stmt, "uu", seq, ino);

	return r < 0 ? r : sqlite_one_inode(conn, stmt, out);
}

int sqlite_view_get_symlink(struct engine_conn *base, uint64_t seq, uint64_t ino, struct buf *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_VIEW_GET_SYMLINK, &stmt, "uu", seq, ino);

	return r < 0 ? r : sqlite_append_one(conn, stmt, out);
}

int sqlite_view_get_xattr(struct engine_conn *base, uint64_t seq, uint64_t ino, struct bytes name,
			  struct buf *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_VIEW_GET_XATTR, &stmt, "uub", seq, ino, name);

	return r < 0 ? r : sqlite_append_one(conn, stmt, out);
}

int sqlite_view_list_xattrs(struct engine_conn *base, uint64_t seq, uint64_t ino, struct buf *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_VIEW_LIST_XATTRS, &stmt, "uu", seq, ino);

	return r < 0 ? r : sqlite_append_names(conn, stmt, out);
}

int sqlite_view_visit_extents(struct engine_conn *base, uint64_t seq, uint64_t ino, uint64_t off,
			      uint64_t end, engine_visit_extent visit, void *ctx)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r;

	if (off > INT64_MAX)
		return 0;
	r = sqlite_bind(conn, SQL_VIEW_VISIT_EXTENTS, &stmt, "uuuu", seq, ino, off,
			MIN(end, (uint64_t)INT64_MAX));
	return r < 0 ? r : sqlite_visit_rows(conn, stmt, ino, off, visit, ctx);
}

static int view_totals(struct sqlite_conn *conn, uint64_t seq, uint64_t ino,
		       struct subtree_totals *out)
{
	sqlite3_stmt *inodes, *chunks;
	int r = sqlite_bind(conn, SQL_VIEW_SUBTREE_INODES, &inodes, "uu", seq, ino);

	if (r == 0)
		r = sqlite_bind(conn, SQL_VIEW_SUBTREE_CHUNKS, &chunks, "uu", seq, ino);
	return r < 0 ? r : sqlite_sum_subtree(conn, inodes, chunks, out);
}

int sqlite_view_subtree_shards(struct engine_conn *base, uint64_t seq, uint64_t ino, uint64_t after,
			       size_t count_max, uint64_t *shard_nos, size_t *count,
			       struct subtree_totals *totals)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	struct subtree_totals found = {0};
	sqlite3_stmt *stmt;
	int r = totals != NULL ? view_totals(conn, seq, ino, &found) : 0;

	if (r == 0)
		r = sqlite_bind(conn, SQL_VIEW_SUBTREE_SHARDS, &stmt, "uuuu", seq, ino, after,
				list_limit(count_max));
	if (r == 0)
		r = sqlite_read_numbers(conn, stmt, count_max, shard_nos, count);
	if (r == 0 && totals != NULL)
		*totals = found;
	return r;
}

int sqlite_list_old(struct engine_conn *base, uint64_t seq, size_t count_max,
		    struct old_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_OLD, &stmt, "uu", seq, list_limit(count_max));

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct old_row row = {sqlite_column_u64(stmt, 0), sqlite_column_u64(stmt, 1)};

		r = old_list_add(out, &row);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

int sqlite_count_history(struct engine_conn *base, uint64_t *rows)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	size_t count = 0;
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_COUNT_HISTORY, &stmt, "");

	return r < 0 ? r : sqlite_read_numbers(conn, stmt, 1, rows, &count);
}

/* Inodes of a statement, with `at` beside each. */
static int add_changed(struct sqlite_conn *conn, enum sql_id id, uint64_t from_seq, uint64_t to_seq,
		       uint64_t at, struct old_list *out)
{
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, id, &stmt, "uu", from_seq, to_seq);

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct old_row row = {sqlite_column_u64(stmt, 0), at};

		r = out->count < CHANGED_MAX ? old_list_add(out, &row) : -E2BIG;
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

int sqlite_list_changed(struct engine_conn *base, uint64_t from_seq, uint64_t to_seq,
			struct old_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	int r = add_changed(conn, SQL_CHANGED_INODES, from_seq, to_seq, 0, out);

	return r < 0 ? r : add_changed(conn, SQL_CHANGED_PARENTS, from_seq, to_seq, 1, out);
}
