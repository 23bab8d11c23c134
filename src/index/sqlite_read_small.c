/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite engine: reading rows of small tables: providers, policies, settings,
 * orphans, audit, snapshots, counters of directories.  As in sqlite_read.c every
 * function is one statement; what is checked here are lengths of texts and blobs.
 */
#include "index/sqlite.h"

#include <errno.h>
#include <string.h>

static int read_text(sqlite3_stmt *stmt, int column, char *out, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);

	if (text == NULL || strlen(text) >= size)
		return -EUCLEAN;
	strcpy(out, text);
	return 0;
}
#define READ_TEXT(stmt, column, field) read_text(stmt, column, field, sizeof(field))

int sqlite_list_providers(struct engine_conn *base, struct provider_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_PROVIDERS, &stmt, "");

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct provider_row row = {
			.provider_no = (uint32_t)sqlite_column_u64(stmt, 0),
			.is_forgotten = (uint32_t)sqlite_column_u64(stmt, 6),
		};

		if (READ_TEXT(stmt, 1, row.name) < 0 || READ_TEXT(stmt, 2, row.type) < 0 ||
		    READ_TEXT(stmt, 3, row.vendor) < 0 || READ_TEXT(stmt, 4, row.region) < 0 ||
		    READ_TEXT(stmt, 5, row.role) < 0)
			r = sqlite_damaged("provider", row.provider_no);
		else
			r = provider_list_add(out, &row);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

static int read_policy(sqlite3_stmt *stmt, struct policy_row *out)
{
	*out = (struct policy_row){
		.root = sqlite_column_u64(stmt, 0),
		.version = sqlite_column_u64(stmt, 2),
	};
	return READ_TEXT(stmt, 1, out->text) < 0 ? sqlite_damaged("policy", out->root) : 0;
}

int sqlite_get_policy(struct engine_conn *base, uint64_t root, struct policy_row *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	struct policy_row row;
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_POLICY, &stmt, "u", root);

	if (r == 0)
		r = sqlite_one_row(conn, stmt);
	if (r < 0)
		return r;
	r = read_policy(stmt, &row);
	sqlite_done(stmt);
	if (r == 0)
		*out = row;
	return r;
}

int sqlite_list_policies(struct engine_conn *base, struct policy_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_POLICIES, &stmt, "");

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct policy_row row;

		r = read_policy(stmt, &row);
		if (r == 0)
			r = policy_list_add(out, &row);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

int sqlite_get_setting(struct engine_conn *base, struct bytes key, struct buf *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_SETTING, &stmt, "b", key);

	return r < 0 ? r : sqlite_append_one(conn, stmt, out);
}

int sqlite_list_orphans(struct engine_conn *base, uint64_t after, size_t count_max, uint64_t *inos,
			size_t *count)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_ORPHANS, &stmt, "uu", after,
			    (uint64_t)sqlite_list_limit(count_max));

	return r < 0 ? r : sqlite_read_numbers(conn, stmt, count_max, inos, count);
}

int sqlite_list_audit(struct engine_conn *base, uint64_t after, size_t count_max,
		      int (*visit)(void *ctx, const struct audit_row *row), void *ctx)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_AUDIT, &stmt, "uu", after, (uint64_t)count_max);

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct bytes mac = sqlite_column_bytes(stmt, 3);
		struct audit_row row = {
			.audit_no = sqlite_column_u64(stmt, 0),
			.time = {sqlite3_column_int64(stmt, 1),
				 (uint32_t)sqlite_column_u64(stmt, 2)},
			.body = sqlite_column_bytes(stmt, 4),
		};

		if (mac.len != sizeof(row.mac) || row.body.len == 0 ||
		    row.body.len > AUDIT_BODY_LEN_MAX) {
			r = sqlite_damaged("audit", row.audit_no);
		} else {
			memcpy(row.mac, mac.ptr, sizeof(row.mac));
			r = visit(ctx, &row);
		}
		if (r != 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return MIN(r, 0);
}

int sqlite_last_audit(struct engine_conn *base, uint64_t *audit_no, uint8_t mac[32])
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LAST_AUDIT, &stmt, "");
	struct bytes stored;

	if (r == 0)
		r = sqlite_row(conn, stmt);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*audit_no = sqlite_column_u64(stmt, 0);
	stored = sqlite_column_bytes(stmt, 1);
	if (stored.len == 32)
		memcpy(mac, stored.ptr, 32);
	else
		r = sqlite_damaged("audit", *audit_no);
	sqlite_done(stmt);
	return MIN(r, 0);
}

int sqlite_list_snapshots(struct engine_conn *base, struct snapshot_list *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_LIST_SNAPSHOTS, &stmt, "");

	if (r < 0)
		return r;
	while ((r = sqlite_row(conn, stmt)) > 0) {
		struct snapshot_row row = {
			.snapshot_no = sqlite_column_u64(stmt, 0),
			.root = sqlite_column_u64(stmt, 2),
			.seq = sqlite_column_u64(stmt, 3),
			.created_sec = sqlite3_column_int64(stmt, 4),
			.files = sqlite_column_u64(stmt, 5),
			.directories = sqlite_column_u64(stmt, 6),
			.bytes = sqlite_column_u64(stmt, 7),
		};

		if (READ_TEXT(stmt, 1, row.name) < 0)
			r = sqlite_damaged("snapshot", row.snapshot_no);
		else
			r = snapshot_list_add(out, &row);
		if (r < 0) {
			sqlite_done(stmt);
			break;
		}
	}
	return r;
}

int sqlite_get_counter(struct engine_conn *base, uint64_t ino, struct engine_counter *out)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	sqlite3_stmt *stmt;
	int r = sqlite_bind(conn, SQL_GET_COUNTER, &stmt, "u", ino);

	if (r == 0)
		r = sqlite_one_row(conn, stmt);
	if (r < 0)
		return r;
	*out = (struct engine_counter){
		.ino = ino,
		.files = sqlite3_column_int64(stmt, 1),
		.directories = sqlite3_column_int64(stmt, 2),
		.bytes = sqlite3_column_int64(stmt, 3),
		.as_of = sqlite_column_u64(stmt, 4),
	};
	sqlite_done(stmt);
	return 0;
}
