/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the invariants that schema.sql names, each by one query that gives a
 * sentence for every violation.  Offline: the queries scan whole tables.
 */
#include "index/copy_pack.h"
#include "index/sqlite.h"
#include "util/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define TEXTS_MAX 100 /* told for one invariant; all are counted */

#define IS_DIR(t)  t ".mode&61440=16384"
#define IS_REG(t)  t ".mode&61440=32768"
#define IS_LINK(t) t ".mode&61440=40960"
#define ORPHAN(t)  t ".flags&128<>0"
#define NAMES                                                                                      \
	"WITH names(ino,n,parent) AS (SELECT ino,count(*),min(parent) FROM dirent GROUP BY ino) "

#define BORN_LATE(table, key)                                                                      \
	"SELECT printf('" table " of inode %d: born at %d, after the last applied record'," key    \
	",birth) FROM " table " WHERE birth>(SELECT applied_seq FROM meta)"
#define HIGHEST(table, key, column)                                                                \
	"SELECT printf('meta: " column " is below %d',max(" key ")) FROM " table                   \
	" HAVING max(" key ")>(SELECT " column " FROM meta)"
#define SUM(what, value)                                                                           \
	"SELECT printf('meta: " what " is %d and should be %d'," what ",v) FROM meta,"             \
	"(SELECT " value ") WHERE " what "<>v"
#define WITHOUT_INODE(table, key)                                                                  \
	"SELECT printf('" table " of inode %d, which does not exist'," key ") FROM " table         \
	" WHERE " key " NOT IN (SELECT ino FROM inode)"
#define UNSEEN_HISTORY(table, key)                                                                 \
	"SELECT printf('" table "_history of inode %d: no snapshot sees it'," key ") FROM " table  \
	"_history h WHERE NOT EXISTS "                                                             \
	"(SELECT 1 FROM snapshot s WHERE h.birth<=s.seq AND s.seq<h.death)"
#define CHUNK_OF(table)                                                                            \
	"SELECT printf('" table " of inode %d at %d: chunk %d %s',e.ino,e.off,e.chunk_no,"         \
	"iif(c.chunk_no IS NULL,'does not exist','is shorter')) FROM " table " e "                 \
	"LEFT JOIN chunk c ON c.chunk_no=e.chunk_no WHERE e.chunk_no<>0 AND "                      \
	"(c.chunk_no IS NULL OR e.chunk_off+e.len>c.raw_len)"

static const char *const invariants[] = {
	"SELECT 'integrity: '||integrity_check FROM pragma_integrity_check WHERE integrity_check<>'ok'",
	/* meta */
	BORN_LATE("inode", "ino"), BORN_LATE("dirent", "parent"), BORN_LATE("xattr", "ino"),
	BORN_LATE("symlink", "ino"), BORN_LATE("extent", "ino"),
	HIGHEST("inode", "ino", "highest_ino"), HIGHEST("dirent", "cookie", "highest_cookie"),
	HIGHEST("chunk", "chunk_no", "highest_chunk"), HIGHEST("shard", "shard_no", "highest_shard"),
	HIGHEST("snapshot", "snapshot_no", "highest_snapshot"),
	HIGHEST("provider", "provider_no", "highest_provider"),
	SUM("inodes", "count(*) AS v FROM inode"),
	SUM("directories", "count(*) AS v FROM inode i WHERE " IS_DIR("i")),
	SUM("bytes", "coalesce(sum(size),0) AS v FROM inode i WHERE " IS_REG("i")),
	SUM("chunks", "count(*) AS v FROM chunk"),
	SUM("chunk_stored_bytes", "coalesce(sum(stored_len),0) AS v FROM chunk"),
	SUM("shards", "count(*) AS v FROM shard"),
	/* inode */
	"SELECT 'inode 1 is no directory' WHERE NOT EXISTS "
	"(SELECT 1 FROM inode i WHERE ino=1 AND " IS_DIR("i") ")",
	NAMES "SELECT printf('directory %d has %d names',i.ino,coalesce(n,0)) FROM inode i "
	"LEFT JOIN names USING(ino) WHERE " IS_DIR("i") " AND NOT " ORPHAN("i")
	" AND coalesce(n,0)<>(i.ino<>1)",
	NAMES "SELECT printf('directory %d says that it is in %d and is in %d',i.ino,i.parent,"
	"names.parent) FROM inode i JOIN names USING(ino) WHERE " IS_DIR("i")
	" AND i.parent<>names.parent",
	"WITH subs(ino,n) AS (SELECT parent,count(*) FROM dirent WHERE type=4 GROUP BY parent) "
	"SELECT printf('directory %d: nlink is %d and should be %d',i.ino,nlink,2+coalesce(n,0)) "
	"FROM inode i LEFT JOIN subs USING(ino) WHERE " IS_DIR("i") " AND NOT " ORPHAN("i")
	" AND nlink<>2+coalesce(n,0)",
	NAMES "SELECT printf('inode %d: nlink is %d and it has %d names',i.ino,nlink,coalesce(n,0)) "
	"FROM inode i LEFT JOIN names USING(ino) WHERE NOT " IS_DIR("i") " AND nlink<>coalesce(n,0)",
	NAMES "SELECT printf('inode %d has no name and is no orphan',i.ino) FROM inode i "
	"LEFT JOIN names USING(ino) WHERE n IS NULL AND i.ino<>1 AND NOT " ORPHAN("i"),
	NAMES "SELECT printf('inode %d is an orphan and has %d names',i.ino,n) FROM inode i "
	"JOIN names USING(ino) WHERE " ORPHAN("i"),
	"WITH RECURSIVE reached(ino) AS (VALUES(1) UNION SELECT d.ino FROM reached r CROSS JOIN "
	"dirent d ON d.parent=r.ino AND d.type=4) SELECT printf('directory %d is not reached from "
	"the root',ino) FROM inode i WHERE " IS_DIR("i") " AND NOT " ORPHAN("i")
	" AND ino NOT IN reached",
	/* dirent, xattr, symlink, orphan */
	"SELECT printf('name %d of directory %d: that is %s',cookie,d.parent,iif(p.ino IS NULL,"
	"'missing',iif(" IS_DIR("p") ",'an orphan','no directory'))) FROM dirent d LEFT JOIN inode p "
	"ON p.ino=d.parent WHERE p.ino IS NULL OR NOT " IS_DIR("p") " OR " ORPHAN("p"),
	"SELECT printf('name %d of directory %d leads to inode %d, which %s',cookie,d.parent,d.ino,"
	"iif(i.ino IS NULL,'does not exist','is of another type')) FROM dirent d LEFT JOIN inode i "
	"ON i.ino=d.ino WHERE i.ino IS NULL OR d.type<>i.mode>>12",
	WITHOUT_INODE("xattr", "ino"), WITHOUT_INODE("symlink", "ino"),
	WITHOUT_INODE("orphan", "ino"), WITHOUT_INODE("extent", "ino"),
	"SELECT DISTINCT printf('inode %d has xattrs and does not say so',ino) FROM xattr "
	"JOIN inode USING(ino) WHERE flags&4=0",
	"SELECT printf('inode %d: a symbolic link without target',ino) FROM inode i WHERE "
	IS_LINK("i") " AND ino NOT IN (SELECT ino FROM symlink)",
	"SELECT printf('inode %d has a target and is no symbolic link',ino) FROM symlink "
	"JOIN inode i USING(ino) WHERE NOT " IS_LINK("i"),
	"SELECT printf('inode %d is an orphan and not among them',ino) FROM inode i WHERE "
	ORPHAN("i") " AND ino NOT IN (SELECT ino FROM orphan)",
	"SELECT printf('inode %d is among the orphans and is none',ino) FROM orphan "
	"JOIN inode i USING(ino) WHERE NOT " ORPHAN("i"),
	/* extent */
	"SELECT DISTINCT printf('inode %d has extents and is no regular file',ino) FROM extent "
	"JOIN inode i USING(ino) WHERE NOT " IS_REG("i"),
	"SELECT printf('extents of inode %d overlap at %d',ino,off) FROM (SELECT ino,off,"
	"lag(off+len) OVER (PARTITION BY ino ORDER BY off) AS before FROM extent) WHERE before>off",
	CHUNK_OF("extent"), CHUNK_OF("extent_history"),
	/* chunk */
	"SELECT printf('chunk %d is in shard %d, which does not exist',chunk_no,shard_no) FROM chunk "
	"WHERE shard_no NOT IN (SELECT shard_no FROM shard)",
	"WITH uses(chunk_no,n) AS (SELECT chunk_no,count(*) FROM (SELECT chunk_no FROM extent "
	"UNION ALL SELECT chunk_no FROM extent_history) GROUP BY chunk_no) SELECT printf("
	"'chunk %d: refs is %d and should be %d',c.chunk_no,refs,coalesce(n,0)) FROM chunk c "
	"LEFT JOIN uses USING(chunk_no) WHERE refs<>coalesce(n,0)",
	"SELECT printf('chunk %d is not found by its name',chunk_no) FROM chunk c WHERE NOT EXISTS "
	"(SELECT 1 FROM chunk_name n WHERE n.prefix=chunk_prefix(c.id) AND n.chunk_no=c.chunk_no)",
	"SELECT printf('chunk_name has %d rows for %d chunks',a,b) FROM (SELECT count(*) AS a FROM "
	"chunk_name),(SELECT count(*) AS b FROM chunk) WHERE a<>b",
	/* shard */
	"WITH sums(shard_no,dead,total) AS (SELECT shard_no,"
	"coalesce(sum(stored_len) FILTER (WHERE refs=0),0),sum(stored_len) FROM chunk GROUP BY "
	"shard_no) SELECT printf('shard %d: dead and total bytes are %d, %d and should be %d, %d',"
	"s.shard_no,dead_bytes,total_bytes,coalesce(dead,0),coalesce(total,0)) FROM shard s "
	"LEFT JOIN sums USING(shard_no) WHERE dead_bytes<>coalesce(dead,0) OR "
	"total_bytes<>coalesce(total,0)",
	"SELECT printf('shards %d and %d have one name',min(shard_no),max(shard_no)) FROM shard "
	"GROUP BY id HAVING count(*)>1",
	"SELECT printf('copies of shard %d, which does not exist',shard_no) FROM copy "
	"WHERE shard_no NOT IN (SELECT shard_no FROM shard)",
	/* counters */
	"WITH should AS (" SQL_COUNTERS ") SELECT printf('counters of directory %d are %d, %d, %d "
	"and should be %d, %d, %d',i.ino,coalesce(c.files,0),coalesce(c.directories,0),"
	"coalesce(c.bytes,0),coalesce(s.files,0),coalesce(s.directories,0),coalesce(s.bytes,0)) "
	"FROM inode i LEFT JOIN dir_counter c USING(ino) LEFT JOIN should s USING(ino) WHERE "
	IS_DIR("i") " AND (coalesce(c.files,0)<>coalesce(s.files,0) OR coalesce(c.directories,0)<>"
	"coalesce(s.directories,0) OR coalesce(c.bytes,0)<>coalesce(s.bytes,0))",
	"SELECT printf('counters of inode %d, which is no directory',ino) FROM dir_counter "
	"LEFT JOIN inode i USING(ino) WHERE i.ino IS NULL OR NOT " IS_DIR("i"),
	/* history */
	UNSEEN_HISTORY("inode", "ino"), UNSEEN_HISTORY("dirent", "parent"),
	UNSEEN_HISTORY("xattr", "ino"), UNSEEN_HISTORY("symlink", "ino"),
	UNSEEN_HISTORY("extent", "ino"),
};

static void chunk_prefix(sqlite3_context *context, int count, sqlite3_value **values)
{
	struct chunk_id id;

	(void)count;
	if (sqlite3_value_bytes(values[0]) != (int)sizeof(id)) {
		sqlite3_result_null(context);
		return;
	}
	memcpy(&id, sqlite3_value_blob(values[0]), sizeof(id));
	sqlite3_result_int64(context, sqlite_chunk_prefix(&id));
}

struct prove {
	struct sqlite_conn *conn;
	void (*found)(void *ctx, const char *text);
	void *ctx;
	uint64_t violations;
};

static int prove_one(struct prove *prove, const char *sql)
{
	sqlite3 *db = prove->conn->db;
	sqlite3_stmt *stmt = NULL;
	unsigned told = 0;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	int r = 0;

	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		prove->violations++;
		if (told++ < TEXTS_MAX)
			prove->found(prove->ctx, (const char *)sqlite3_column_text(stmt, 0));
	}
	/* A damaged page is a finding too: the other invariants are still worth knowing. */
	if ((rc & 0xff) == SQLITE_CORRUPT) {
		prove->violations++;
		prove->found(prove->ctx, sqlite3_errmsg(db));
	} else if (rc != SQLITE_DONE) {
		r = sqlite_fail(db, rc, sql);
	}
	sqlite3_finalize(stmt);
	return r;
}

static void __attribute__((format(printf, 2, 3))) found_printf(struct prove *prove,
							       const char *format, ...)
{
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	prove->violations++;
	prove->found(prove->ctx, text);
}

static bool has_provider(const struct provider_list *providers, uint32_t provider_no)
{
	for (size_t i = 0; i < providers->count; i++)
		if (providers->rows[i].provider_no == provider_no)
			return true;
	return false;
}

static int prove_copies_of(struct prove *prove, const struct provider_list *providers,
			   uint64_t shard_no, uint32_t states, int64_t verified,
			   struct bytes packed)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = copy_unpack(shard_no, packed, &copies);

	if (r == -ENOMEM)
		return r;
	if (r < 0 || copies.count == 0 || copy_states(&copies) != states ||
	    copy_oldest_verified(&copies) != verified)
		found_printf(prove, "copies of shard %" PRIu64 " are damaged", shard_no);
	for (size_t i = 0; i < copies.count; i++)
		if (!has_provider(providers, copies.rows[i].provider_no))
			found_printf(prove,
				     "a copy of shard %" PRIu64
				     " is at provider %u, which does not exist",
				     shard_no, copies.rows[i].provider_no);
	return 0;
}

static int prove_copies(struct prove *prove)
{
	AUTO(provider_list) providers = ROW_LIST_INIT;
	sqlite3_stmt *stmt = NULL;
	int rc, r = sqlite_list_providers(&prove->conn->base, &providers);

	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(prove->conn->db, "SELECT shard_no,states,"
				"ifnull(verified,9223372036854775807),copies FROM copy",
				-1, &stmt, NULL);
	while (r == 0 && (rc == SQLITE_OK || rc == SQLITE_ROW)) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		r = prove_copies_of(prove, &providers, sqlite_column_u64(stmt, 0),
				    (uint32_t)sqlite3_column_int64(stmt, 1),
				    sqlite3_column_int64(stmt, 2), sqlite_column_bytes(stmt, 3));
	}
	if (r == 0 && rc != SQLITE_DONE && (rc & 0xff) != SQLITE_CORRUPT)
		r = sqlite_fail(prove->conn->db, rc, "copy");
	sqlite3_finalize(stmt);
	return r;
}

int sqlite_prove(struct engine_conn *base, void (*found)(void *ctx, const char *text), void *ctx,
		 uint64_t *violations)
{
	struct prove prove = {.conn = sqlite_conn_of(base), .found = found, .ctx = ctx};
	int rc = sqlite3_create_function(prove.conn->db, "chunk_prefix", 1,
					 SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, NULL,
					 chunk_prefix, NULL, NULL);
	int r = rc == SQLITE_OK ? 0 : sqlite_fail(prove.conn->db, rc, "chunk_prefix");

	for (size_t i = 0; i < ARRAY_COUNT(invariants) && r == 0; i++)
		r = prove_one(&prove, invariants[i]);
	if (r == 0)
		r = prove_copies(&prove);
	if (r == 0)
		*violations = prove.violations;
	return r;
}
