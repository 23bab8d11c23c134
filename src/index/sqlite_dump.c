/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every replicated row as changes, within one read transaction: one state.
 *
 * Order, so that apply keeps its sums right as the changes come: small tables, shards each with
 * its chunks, directories from the root down (counters go up through parents), then all other
 * inodes, and with each inode what belongs to it.
 *
 * Not in it: copies (local), and the history that named snapshots see.
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
};

static int dump_flush(struct dump *dump)
{
	int r = dump->record->error;

	if (r == 0 && dump->record->change_count > 0)
		r = dump->visit(dump->ctx, dump->record);
	buf_clear(&dump->record->changes);
	dump->record->change_count = 0;
	return r;
}

static int dump_step(struct dump *dump)
{
	if (dump->record->error < 0)
		return dump->record->error;
	return dump->record->changes.len < DUMP_RECORD_BYTES ? 0 : dump_flush(dump);
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
	AUTO(snapshot_list) snapshots = ROW_LIST_INIT;
	int r = sqlite_list_providers(dump->conn, &providers);

	if (r == 0)
		r = sqlite_list_policies(dump->conn, &policies);
	if (r == 0)
		r = sqlite_list_snapshots(dump->conn, &snapshots);
	for (size_t i = 0; i < providers.count && r == 0; i++) {
		record_put_provider(dump->record, &providers.rows[i]);
		r = dump_step(dump);
	}
	for (size_t i = 0; i < policies.count && r == 0; i++) {
		record_put_policy(dump->record, &policies.rows[i]);
		r = dump_step(dump);
	}
	for (size_t i = 0; i < snapshots.count && r == 0; i++) {
		record_put_snapshot(dump->record, &snapshots.rows[i]);
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

	(void)birth;
	record_put_extent(dump->record, extent);
	return dump_step(dump);
}

static int dump_xattrs(struct dump *dump, uint64_t ino)
{
	AUTO(buf) names = BUF_INIT;
	AUTO(buf) value = BUF_INIT;
	int r = sqlite_list_xattrs(dump->conn, ino, &names);

	for (size_t at = 0; at < names.len && r == 0;) {
		const char *name = (const char *)names.ptr + at;

		buf_clear(&value);
		r = sqlite_get_xattr(dump->conn, ino, bytes_of_str(name), &value);
		if (r == 0) {
			record_put_xattr(dump->record, ino, bytes_of_str(name), buf_bytes(&value));
			r = dump_step(dump);
		}
		at += strlen(name) + 1;
	}
	return r;
}

static int dump_dirents(struct dump *dump, uint64_t parent)
{
	AUTO(dirent_list) dirents = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	do {
		dirents.count = 0;
		r = sqlite_list_dirents(dump->conn, parent, after, DUMP_PAGE, &dirents);
		for (size_t i = 0; i < dirents.count && r == 0; i++) {
			const struct dirent_row *row = &dirents.rows[i];

			after = row->cookie;
			record_put_dirent(dump->record, parent, row->cookie,
					  bytes_of(row->name, row->name_len), row->ino, row->type);
			r = dump_step(dump);
		}
	} while (r == 0 && dirents.count == DUMP_PAGE);
	return r;
}

static bool is_reached(const struct inode_row *row)
{
	return S_ISDIR(row->mode) && !(row->flags & INODE_ORPHAN);
}

/* What belongs to an inode; and itself unless the walk over directories had it. */
static int dump_inode(struct dump *dump, uint64_t ino)
{
	AUTO(buf) target = BUF_INIT;
	struct inode_row row;
	int r = sqlite_get_inode(dump->conn, ino, &row);

	if (r < 0)
		return r;
	if (!is_reached(&row))
		record_put_inode(dump->record, &row);
	if (row.flags & INODE_ORPHAN)
		record_put_orphan(dump->record, ino);
	r = dump_step(dump);
	if (r == 0 && S_ISLNK(row.mode)) {
		r = sqlite_get_symlink(dump->conn, ino, &target);
		if (r == 0)
			record_put_symlink(dump->record, ino, buf_bytes(&target));
	}
	if (r == 0 && (row.flags & INODE_XATTR))
		r = dump_xattrs(dump, ino);
	if (r == 0 && S_ISREG(row.mode))
		r = sqlite_visit_extents(dump->conn, ino, 0, INT64_MAX, dump_extent, dump);
	if (r == 0 && S_ISDIR(row.mode))
		r = dump_dirents(dump, ino);
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
	if (is_reached(&row))
		record_put_inode(dump->record, &row);
	return dump_step(dump);
}

static int dump_tables(struct dump *dump, struct engine_meta *meta)
{
	int r = sqlite_get_meta(dump->conn, meta); /* from here on one state */

	if (r == 0) {
		dump->record->seq = meta->applied_seq;
		r = dump_small(dump);
	}
	if (r == 0)
		r = dump_shards(dump);
	if (r == 0)
		r = for_inodes(dump, SQL_DUMP_DIRECTORIES, dump_directory);
	if (r == 0)
		r = for_inodes(dump, SQL_DUMP_INODES, dump_inode);
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
	return r;
}
