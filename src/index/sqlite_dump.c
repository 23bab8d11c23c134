/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every replicated row as changes, within one read transaction: one state.
 *
 * Order, so that apply keeps its sums right as the changes come: small tables, shards each with
 * its chunks, directories from the root down (counters go up through parents), then all other
 * inodes, and with each inode what belongs to it.
 *
 * Last the history, and then the snapshots that see it: whoever restores this keeps nothing on the
 * way, since there is no snapshot yet.
 *
 * When a row was born, and died, matters only in so far as a snapshot was made between.  So a birth
 * is told as the seq of the first snapshot that sees the row, or not at all if there is none, and a
 * death as that of the first one behind it (or the state's own): few different ones, and most rows
 * need none.  What later records do to the restored rows is the same.
 *
 * Not in it: copies (local).
 */
#include "index/sqlite.h"

#include <errno.h>
#include <sys/stat.h>

#define DUMP_PAGE         1024u
#define DUMP_RECORD_BYTES (64 * KIB)

struct dump {
	struct engine_conn *conn;
	struct record *record;
	int (*visit)(void *ctx, const struct record *record);
	void *ctx;
	struct snapshot_list snapshots;
	uint64_t birth, death; /* as the record says now */
};

static int dump_flush(struct dump *dump)
{
	int r = dump->record->error;

	if (r == 0 && dump->record->change_count > 0)
		r = dump->visit(dump->ctx, dump->record);
	buf_clear(&dump->record->changes);
	dump->record->change_count = 0;
	dump->birth = dump->death = 0;
	return r;
}

static int dump_step(struct dump *dump)
{
	if (dump->record->error < 0)
		return dump->record->error;
	return dump->record->changes.len < DUMP_RECORD_BYTES ? 0 : dump_flush(dump);
}

/* ---- versions ---- */

/* The seq of the first snapshot at or behind seq; 0: there is none. */
static uint64_t next_snapshot(const struct dump *dump, uint64_t seq)
{
	uint64_t next = 0;

	for (size_t i = 0; i < dump->snapshots.count; i++) {
		uint64_t at = dump->snapshots.rows[i].seq;

		if (at >= seq && (next == 0 || at < next))
			next = at;
	}
	return next;
}

/* Of the row that is put next.  death 0: it lives. */
static void put_version(struct dump *dump, uint64_t birth, uint64_t death)
{
	birth = next_snapshot(dump, birth);
	if (death != 0) {
		uint64_t next = next_snapshot(dump, death);

		death = next != 0 ? next : dump->record->seq;
	}
	if (death == 0 && birth == dump->birth && dump->death == 0)
		return;
	record_put_version(dump->record, birth, death);
	dump->birth = birth;
	dump->death = death;
}

/* ---- small tables ---- */

static int dump_settings(struct dump *dump)
{
	struct sqlite_conn *conn = sqlite_conn_of(dump->conn);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_DUMP_SETTINGS, &stmt, "");

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		record_put_setting(dump->record, sqlite_column_bytes(stmt, 0),
				   sqlite_column_bytes(stmt, 1));
		r = dump_step(dump);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

static int dump_audit_row(void *ctx, const struct audit_row *row)
{
	struct dump *dump = ctx;

	record_put_audit(dump->record, row);
	return dump_step(dump);
}

static int dump_small(struct dump *dump)
{
	AUTO(provider_list) providers = ROW_LIST_INIT;
	AUTO(policy_list) policies = ROW_LIST_INIT;
	int r = sqlite_list_providers(dump->conn, &providers);

	if (r == 0)
		r = sqlite_list_policies(dump->conn, &policies);
	for (size_t i = 0; i < providers.count && r == 0; i++) {
		record_put_provider(dump->record, &providers.rows[i]);
		r = dump_step(dump);
	}
	for (size_t i = 0; i < policies.count && r == 0; i++) {
		record_put_policy(dump->record, &policies.rows[i]);
		r = dump_step(dump);
	}
	if (r == 0)
		r = sqlite_list_audit(dump->conn, 0, INT64_MAX, dump_audit_row, dump);
	return r < 0 ? r : dump_settings(dump);
}

/* ---- shards and chunks ---- */

static int dump_chunks(struct dump *dump, uint64_t shard_no)
{
	AUTO(chunk_list) chunks = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	do {
		chunks.count = 0;
		r = sqlite_list_chunks(dump->conn, shard_no, after, DUMP_PAGE, &chunks);
		for (size_t i = 0; i < chunks.count && r == 0; i++) {
			record_put_chunk(dump->record, &chunks.rows[i]);
			after = chunks.rows[i].chunk_no;
			r = dump_step(dump);
		}
	} while (r == 0 && chunks.count == DUMP_PAGE);
	return r;
}

static int dump_shards(struct dump *dump)
{
	AUTO(shard_list) shards = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	do {
		shards.count = 0;
		r = sqlite_list_shards(dump->conn, after, DUMP_PAGE, &shards);
		for (size_t i = 0; i < shards.count && r == 0; i++) {
			after = shards.rows[i].shard_no;
			record_put_shard(dump->record, &shards.rows[i]);
			r = dump_step(dump);
			if (r == 0)
				r = dump_chunks(dump, after);
		}
	} while (r == 0 && shards.count == DUMP_PAGE);
	return r;
}

/* ---- inodes ---- */

static int dump_extent(void *ctx, const struct extent_row *extent, uint64_t birth)
{
	struct dump *dump = ctx;

	put_version(dump, birth, 0);
	record_put_extent(dump->record, extent);
	return dump_step(dump);
}

/* Puts one row of a statement; key is what the statement was asked for, 0: it says itself. */
typedef void put_row(struct dump *dump, sqlite3_stmt *stmt, uint64_t key);

static int dump_rows(struct dump *dump, sqlite3_stmt *stmt, uint64_t key, put_row *put)
{
	struct sqlite_conn *conn = sqlite_conn_of(dump->conn);
	int r;

	while ((r = sqlite_row(conn, stmt)) > 0) {
		put(dump, stmt, key);
		r = dump_step(dump);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

/* All that a statement gives for an inode. */
static int dump_of(struct dump *dump, enum sql_id id, uint64_t ino, put_row *put)
{
	sqlite3_stmt *stmt;
	int r = sqlite_bind(sqlite_conn_of(dump->conn), id, &stmt, "u", ino);

	return r < 0 ? r : dump_rows(dump, stmt, ino, put);
}

static void put_xattr(struct dump *dump, sqlite3_stmt *stmt, uint64_t ino)
{
	bool is_old = ino == 0;

	put_version(dump, sqlite_column_u64(stmt, 2), is_old ? sqlite_column_u64(stmt, 3) : 0);
	record_put_xattr(dump->record, is_old ? sqlite_column_u64(stmt, 4) : ino,
			 sqlite_column_bytes(stmt, 0), sqlite_column_bytes(stmt, 1));
}

static void put_symlink(struct dump *dump, sqlite3_stmt *stmt, uint64_t ino)
{
	bool is_old = ino == 0;

	put_version(dump, sqlite_column_u64(stmt, 1), is_old ? sqlite_column_u64(stmt, 2) : 0);
	record_put_symlink(dump->record, is_old ? sqlite_column_u64(stmt, 3) : ino,
			   sqlite_column_bytes(stmt, 0));
}

static void put_dirent(struct dump *dump, sqlite3_stmt *stmt, uint64_t parent)
{
	bool is_old = parent == 0;

	put_version(dump, sqlite_column_u64(stmt, 4), is_old ? sqlite_column_u64(stmt, 5) : 0);
	record_put_dirent(dump->record, is_old ? sqlite_column_u64(stmt, 6) : parent,
			  sqlite_column_u64(stmt, 0), sqlite_column_bytes(stmt, 3),
			  sqlite_column_u64(stmt, 1), (uint32_t)sqlite_column_u64(stmt, 2));
}

static bool is_reached(const struct inode_row *row)
{
	return S_ISDIR(row->mode) && !(row->flags & INODE_ORPHAN);
}

/* What belongs to an inode; and itself unless the walk over directories had it. */
static int dump_inode(struct dump *dump, uint64_t ino)
{
	struct inode_row row;
	int r = sqlite_get_inode(dump->conn, ino, &row);

	if (r < 0)
		return r;
	if (!is_reached(&row)) {
		put_version(dump, row.birth, 0);
		record_put_inode(dump->record, &row);
	}
	if (row.flags & INODE_ORPHAN)
		record_put_orphan(dump->record, ino);
	r = dump_step(dump);
	if (r == 0 && S_ISLNK(row.mode))
		r = dump_of(dump, SQL_DUMP_SYMLINK, ino, put_symlink);
	if (r == 0 && (row.flags & INODE_XATTR))
		r = dump_of(dump, SQL_DUMP_XATTRS, ino, put_xattr);
	if (r == 0 && S_ISREG(row.mode))
		r = sqlite_visit_extents(dump->conn, ino, 0, INT64_MAX, dump_extent, dump);
	if (r == 0 && S_ISDIR(row.mode))
		r = dump_of(dump, SQL_DUMP_DIRENTS, ino, put_dirent);
	return r < 0 ? r : dump_step(dump);
}

/* Numbers of inodes from a statement, each given to `each`. */
static int for_inodes(struct dump *dump, enum sql_id id, int (*each)(struct dump *dump, uint64_t ino))
{
	struct sqlite_conn *conn = sqlite_conn_of(dump->conn);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, id, &stmt, "");

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		r = each(dump, sqlite_column_u64(stmt, 0));
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

static int dump_directory(struct dump *dump, uint64_t ino)
{
	struct inode_row row;
	int r = sqlite_get_inode(dump->conn, ino, &row);

	if (r < 0)
		return r;
	if (is_reached(&row)) {
		put_version(dump, row.birth, 0);
		record_put_inode(dump->record, &row);
	}
	return dump_step(dump);
}

/* ---- history ---- */

static int dump_old_inodes(struct dump *dump)
{
	struct sqlite_conn *conn = sqlite_conn_of(dump->conn);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_DUMP_OLD_INODES, &stmt, "");

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct inode_row row;

		r = sqlite_read_inode(stmt, &row);
		if (r == 0) {
			put_version(dump, row.birth, sqlite_column_u64(stmt, 12));
			record_put_inode(dump->record, &row);
			r = dump_step(dump);
		}
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

static int dump_old_extents(struct dump *dump)
{
	struct sqlite_conn *conn = sqlite_conn_of(dump->conn);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_DUMP_OLD_EXTENTS, &stmt, "");

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		uint64_t birth = 0, death = sqlite_column_u64(stmt, 5);
		struct extent_row row;

		r = sqlite_read_extent(stmt, 0, sqlite_column_u64(stmt, 6), &row, &birth);
		if (r == 0) {
			put_version(dump, birth, death);
			record_put_extent(dump->record, &row);
			r = dump_step(dump);
		}
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

static int dump_history(struct dump *dump)
{
	static const struct {
		enum sql_id id;
		put_row *put;
	} tables[] = {
		{SQL_DUMP_OLD_DIRENTS, put_dirent},
		{SQL_DUMP_OLD_XATTRS, put_xattr},
		{SQL_DUMP_OLD_SYMLINKS, put_symlink},
	};
	sqlite3_stmt *stmt;
	int r = dump_old_inodes(dump);

	for (size_t i = 0; i < ARRAY_COUNT(tables) && r == 0; i++) {
		r = sqlite_bind(sqlite_conn_of(dump->conn), tables[i].id, &stmt, "");
		if (r == 0)
			r = dump_rows(dump, stmt, 0, tables[i].put);
	}
	if (r == 0)
		r = dump_old_extents(dump);
	for (size_t i = 0; i < dump->snapshots.count && r == 0; i++) {
		record_put_snapshot(dump->record, &dump->snapshots.rows[i]);
		r = dump_step(dump);
	}
	return r;
}

static int dump_tables(struct dump *dump, struct engine_meta *meta)
{
	int r = sqlite_get_meta(dump->conn, meta); /* from here on one state */

	if (r == 0) {
		dump->record->seq = meta->applied_seq;
		r = sqlite_list_snapshots(dump->conn, &dump->snapshots);
	}
	if (r == 0)
		r = dump_small(dump);
	if (r == 0)
		r = dump_shards(dump);
	if (r == 0)
		r = for_inodes(dump, SQL_DUMP_DIRECTORIES, dump_directory);
	if (r == 0)
		r = for_inodes(dump, SQL_DUMP_INODES, dump_inode);
	if (r == 0)
		r = dump_history(dump);
	return r < 0 ? r : dump_flush(dump);
}

int sqlite_dump(struct engine_conn *base, int (*visit)(void *ctx, const struct record *record),
		void *ctx, struct engine_meta *meta)
{
	struct dump dump = {.conn = base, .record = record_new(), .visit = visit, .ctx = ctx};
	sqlite3 *db = sqlite_conn_of(base)->db;
	int r = dump.record ? sqlite_exec(db, "BEGIN") : -ENOMEM;

	if (r == 0) {
		r = dump_tables(&dump, meta);
		sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	}
	record_free(dump.record);
	snapshot_list_release(&dump.snapshots);
	return r;
}
