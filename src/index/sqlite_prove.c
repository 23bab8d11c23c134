/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the invariants that schema.sql names, each by one query that gives a
 * sentence for every violation; and recomputes what follows from other rows.
 * Offline: the queries scan whole tables.
 *
 * A violation is of a kind.  A kind whose rows follow from others has statements
 * that make them right and touch nothing that is right; repairs run in the order
 * of the table, which is: what is only a reference, then counts of references,
 * then sums over those.  All other kinds have lost something that only the
 * providers know.
 */
#include "index/copy_pack.h"
#include "index/sqlite.h"
#include "util/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <string.h>

#define TEXTS_MAX 100 /* told for one invariant; all are counted */

#define IS_DIR(t)  t ".mode&61440=16384"
#define IS_REG(t)  t ".mode&61440=32768"
#define IS_LINK(t) t ".mode&61440=40960"
#define ORPHAN(t)  t ".flags&128<>0"
#define NAMES                                                                                      \
	"WITH names(ino,n,parent) AS (SELECT ino,count(*),min(parent) FROM dirent GROUP BY ino) "

#define IS_LOCK(alias) alias ".name=CAST('" LOCK_XATTR_NAME "' AS BLOB)"
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

/* Names that a snapshot sees until `death`, of an inode that it does not see with that type. */
#define LEADS_NOWHERE(table, death)                                                                \
	"SELECT printf('snapshot %d: name %d of directory %d leads to inode %d, which it does not "\
	"show',snapshot_no,cookie,d.parent,d.ino) FROM " table " d JOIN snapshot s ON "            \
	"s.seq>=d.birth AND s.seq<" death " AND s.name<>'' LEFT JOIN inode i ON i.ino=d.ino AND "  \
	"i.birth<=s.seq WHERE coalesce(i.mode>>12,(SELECT h.mode>>12 FROM inode_history h WHERE "  \
	"h.ino=d.ino AND h.birth<=s.seq AND s.seq<h.death)) IS NOT d.type"

struct invariant {
	struct index_kind kind;
	const char *sql;    /* gives a sentence for each violation; NULL: prove_copies */
	const char *repair; /* statements; NULL: it does not follow from other rows */
};

#define COUNTED_DIR                                                                                \
	"(SELECT count(*) FROM dirent d WHERE d.parent=inode.ino AND d.type=4)"
#define COUNTED_NAMES "(SELECT n FROM temp.names WHERE names.ino=inode.ino)"
#define USES                                                                                       \
	"coalesce((SELECT n FROM temp.uses WHERE uses.chunk_no=chunk.chunk_no),0)"
#define DELETE_UNSEEN(table)                                                                       \
	"DELETE FROM " table "_history AS h WHERE NOT EXISTS "                                     \
	"(SELECT 1 FROM snapshot s WHERE h.birth<=s.seq AND s.seq<h.death)"
#define RAISE(table, key, column)                                                                  \
	"UPDATE meta SET " column "=(SELECT max(" key ") FROM " table ") WHERE " column            \
	"<(SELECT max(" key ") FROM " table ")"
#define SET_SUM(what, value)                                                                       \
	"UPDATE meta SET " what "=(SELECT v FROM (SELECT " value ")) WHERE " what                  \
	"<>(SELECT v FROM (SELECT " value "))"
#define K(name, means, sql, repair) {{name, means, (repair) != NULL}, sql, repair}
#define K_BORN(name, table, key)                                                                   \
	K(name, "a row of " table " is newer than the last applied record", BORN_LATE(table, key),  \
	  NULL)
#define K_HIGHEST(name, table, key, column)                                                        \
	K(name, column " is below a number in use", HIGHEST(table, key, column),                   \
	  RAISE(table, key, column))
#define K_SUM(name, what, value)                                                                   \
	K(name, "the sum `" what "` over all rows is wrong", SUM(what, value), SET_SUM(what, value))
#define K_WITHOUT_INODE(name, table, repair)                                                       \
	K(name, "a row of " table " is of an inode that does not exist",                            \
	  WITHOUT_INODE(table, "ino"), repair)
#define K_UNSEEN(name, table, key)                                                                 \
	K(name, "an old row of " table " that no snapshot sees", UNSEEN_HISTORY(table, key),        \
	  DELETE_UNSEEN(table))

static const struct invariant invariants[] = {
	K("index-page", "SQLite finds a page, a tree or a column damaged",
	  "SELECT 'integrity: '||integrity_check FROM pragma_integrity_check "
	  "WHERE integrity_check<>'ok'", NULL),
	/* inode */
	K_BORN("inode-born-late", "inode", "ino"), K_BORN("name-born-late", "dirent", "parent"),
	K_BORN("xattr-born-late", "xattr", "ino"), K_BORN("symlink-born-late", "symlink", "ino"),
	K_BORN("extent-born-late", "extent", "ino"),
	K("root-missing", "inode 1 is no directory", "SELECT 'inode 1 is no directory' WHERE NOT "
	  "EXISTS (SELECT 1 FROM inode i WHERE ino=1 AND " IS_DIR("i") ")", NULL),
	K("directory-names", "a directory has no name, or more than one",
	  NAMES "SELECT printf('directory %d has %d names',i.ino,coalesce(n,0)) FROM inode i "
	  "LEFT JOIN names USING(ino) WHERE " IS_DIR("i") " AND NOT " ORPHAN("i")
	  " AND coalesce(n,0)<>(i.ino<>1)", NULL),
	K("directory-parent", "a directory says that it is in another one than it is",
	  NAMES "SELECT printf('directory %d says that it is in %d and is in %d',i.ino,i.parent,"
	  "names.parent) FROM inode i JOIN names USING(ino) WHERE " IS_DIR("i")
	  " AND i.parent<>names.parent",
	  "UPDATE inode SET parent=(SELECT parent FROM temp.names WHERE names.ino=inode.ino) WHERE "
	  IS_DIR("inode") " AND ino<>1 AND parent<>(SELECT parent FROM temp.names WHERE "
	  "names.ino=inode.ino)"),
	K("directory-nlink", "a directory's nlink is not 2 and its subdirectories",
	  "WITH subs(ino,n) AS (SELECT parent,count(*) FROM dirent WHERE type=4 GROUP BY parent) "
	  "SELECT printf('directory %d: nlink is %d and should be %d',i.ino,nlink,2+coalesce(n,0)) "
	  "FROM inode i LEFT JOIN subs USING(ino) WHERE " IS_DIR("i") " AND NOT " ORPHAN("i")
	  " AND nlink<>2+coalesce(n,0)",
	  "UPDATE inode SET nlink=2+" COUNTED_DIR " WHERE " IS_DIR("inode") " AND NOT "
	  ORPHAN("inode") " AND nlink<>2+" COUNTED_DIR),
	K("file-nlink", "nlink is not the number of names",
	  NAMES "SELECT printf('inode %d: nlink is %d and it has %d names',i.ino,nlink,"
	  "coalesce(n,0)) FROM inode i LEFT JOIN names USING(ino) WHERE NOT " IS_DIR("i")
	  " AND nlink<>coalesce(n,0)",
	  "UPDATE inode SET nlink=coalesce(" COUNTED_NAMES ",0) WHERE NOT " IS_DIR("inode")
	  " AND nlink<>coalesce(" COUNTED_NAMES ",0)"),
	K("inode-nameless", "an inode has no name and is no orphan",
	  NAMES "SELECT printf('inode %d has no name and is no orphan',i.ino) FROM inode i "
	  "LEFT JOIN names USING(ino) WHERE n IS NULL AND i.ino<>1 AND NOT " ORPHAN("i"), NULL),
	K("orphan-named", "an orphan has a name",
	  NAMES "SELECT printf('inode %d is an orphan and has %d names',i.ino,n) FROM inode i "
	  "JOIN names USING(ino) WHERE " ORPHAN("i"), NULL),
	K("directory-unreached", "a directory is not reached from the root",
	  "WITH RECURSIVE reached(ino) AS (VALUES(1) UNION SELECT d.ino FROM reached r CROSS JOIN "
	  "dirent d ON d.parent=r.ino AND d.type=4) SELECT printf('directory %d is not reached from "
	  "the root',ino) FROM inode i WHERE " IS_DIR("i") " AND NOT " ORPHAN("i")
	  " AND ino NOT IN reached", NULL),
	/* dirent, xattr, symlink, orphan */
	K("name-parent", "a name is in a directory that is missing, an orphan, or none",
	  "SELECT printf('name %d of directory %d: that is %s',cookie,d.parent,iif(p.ino IS NULL,"
	  "'missing',iif(" IS_DIR("p") ",'an orphan','no directory'))) FROM dirent d LEFT JOIN "
	  "inode p ON p.ino=d.parent WHERE p.ino IS NULL OR NOT " IS_DIR("p") " OR " ORPHAN("p"),
	  NULL),
	K("name-dangling", "a name leads to no inode",
	  "SELECT printf('name %d of directory %d leads to inode %d, which does not exist',cookie,"
	  "d.parent,d.ino) FROM dirent d WHERE d.ino NOT IN (SELECT ino FROM inode)", NULL),
	K("name-type", "a name's type is not that of its inode",
	  "SELECT printf('name %d of directory %d leads to inode %d, which is of another type',"
	  "cookie,d.parent,d.ino) FROM dirent d JOIN inode i ON i.ino=d.ino "
	  "WHERE d.type<>i.mode>>12", NULL),
	K_WITHOUT_INODE("xattr-without-inode", "xattr", NULL),
	K_WITHOUT_INODE("symlink-without-inode", "symlink", NULL),
	K_WITHOUT_INODE("orphan-without-inode", "orphan",
			"DELETE FROM orphan WHERE ino NOT IN (SELECT ino FROM inode)"),
	K_WITHOUT_INODE("extent-without-inode", "extent", NULL),
	K("xattr-flag", "an inode has xattrs and does not say so",
	  "SELECT DISTINCT printf('inode %d has xattrs and does not say so',ino) FROM xattr "
	  "JOIN inode USING(ino) WHERE flags&4=0",
	  "UPDATE inode SET flags=flags|4 WHERE flags&4=0 AND ino IN (SELECT ino FROM xattr)"),
	K("lock-flag", "an inode is locked until a date and does not say so",
	  "SELECT printf('inode %d is locked until a date and does not say so',ino) FROM xattr x "
	  "JOIN inode USING(ino) WHERE " IS_LOCK("x") " AND flags&1024=0",
	  "UPDATE inode SET flags=flags|1024 WHERE flags&1024=0 AND ino IN "
	  "(SELECT ino FROM xattr x WHERE " IS_LOCK("x") ")"),
	K("lock-date", "an inode is locked and no date says until when: it stays locked",
	  "SELECT printf('inode %d is locked and no date says until when',ino) FROM inode i WHERE "
	  "flags&1024<>0 AND NOT EXISTS (SELECT 1 FROM xattr x WHERE x.ino=i.ino AND " IS_LOCK("x")
	  ")", NULL),
	K("symlink-without-target", "a symbolic link has no target",
	  "SELECT printf('inode %d: a symbolic link without target',ino) FROM inode i WHERE "
	  IS_LINK("i") " AND ino NOT IN (SELECT ino FROM symlink)", NULL),
	K("target-of-other-type", "what has a target is no symbolic link",
	  "SELECT printf('inode %d has a target and is no symbolic link',ino) FROM symlink "
	  "JOIN inode i USING(ino) WHERE NOT " IS_LINK("i"), NULL),
	K("orphan-unlisted", "an orphan is not among the orphans",
	  "SELECT printf('inode %d is an orphan and not among them',ino) FROM inode i WHERE "
	  ORPHAN("i") " AND ino NOT IN (SELECT ino FROM orphan)",
	  "INSERT INTO orphan SELECT ino FROM inode WHERE " ORPHAN("inode")
	  " AND ino NOT IN (SELECT ino FROM orphan)"),
	K("orphan-without-flag", "an inode is among the orphans and is none",
	  "SELECT printf('inode %d is among the orphans and is none',ino) FROM orphan "
	  "JOIN inode i USING(ino) WHERE NOT " ORPHAN("i"),
	  "DELETE FROM orphan WHERE ino IN (SELECT ino FROM inode WHERE NOT " ORPHAN("inode") ")"),
	/* extent, history */
	K("extent-of-other-type", "what has extents is no regular file",
	  "SELECT DISTINCT printf('inode %d has extents and is no regular file',ino) FROM extent "
	  "JOIN inode i USING(ino) WHERE NOT " IS_REG("i"), NULL),
	K("extent-overlap", "extents of one file overlap",
	  "SELECT printf('extents of inode %d overlap at %d',ino,off) FROM (SELECT ino,off,"
	  "lag(off+len) OVER (PARTITION BY ino ORDER BY off) AS before FROM extent) "
	  "WHERE before>off", NULL),
	K("extent-chunk", "an extent's chunk does not exist, or is shorter", CHUNK_OF("extent"),
	  NULL),
	K_UNSEEN("inode-history-unseen", "inode", "ino"),
	K_UNSEEN("name-history-unseen", "dirent", "parent"),
	K_UNSEEN("xattr-history-unseen", "xattr", "ino"),
	K_UNSEEN("symlink-history-unseen", "symlink", "ino"),
	K_UNSEEN("extent-history-unseen", "extent", "ino"),
	K("snapshot-name", "two snapshots have one name",
	  "SELECT printf('snapshots %d and %d have one name',min(snapshot_no),max(snapshot_no)) "
	  "FROM snapshot WHERE name<>'' GROUP BY name HAVING count(*)>1", NULL),
	K("snapshot-root", "what a snapshot shows was no directory",
	  "SELECT printf('snapshot %d: inode %d was no directory',snapshot_no,root) FROM snapshot s "
	  "WHERE name<>'' AND NOT EXISTS (SELECT 1 FROM inode i WHERE ino=root AND birth<=seq AND "
	  IS_DIR("i") ") AND NOT EXISTS (SELECT 1 FROM inode_history i WHERE ino=root AND "
	  "birth<=seq AND seq<death AND " IS_DIR("i") ")", NULL),
	K("snapshot-late", "a snapshot is newer than the last applied record",
	  "SELECT printf('snapshot %d: of record %d, after the last applied one',snapshot_no,seq) "
	  "FROM snapshot WHERE seq>(SELECT applied_seq FROM meta)", NULL),
	K("snapshot-dangling", "a name in a snapshot leads to no inode, or to one of another type",
	  LEADS_NOWHERE("dirent", "9223372036854775807") " UNION ALL "
	  LEADS_NOWHERE("dirent_history", "d.death"), NULL),
	K("snapshot-overlap", "in a snapshot, extents of one file overlap",
	  "SELECT printf('snapshot %d: extents of inode %d overlap at %d',snapshot_no,ino,off) FROM "
	  "(SELECT snapshot_no,ino,off,lag(off+len) OVER (PARTITION BY snapshot_no,ino ORDER BY off) "
	  "AS before FROM (SELECT snapshot_no,h.ino,off,len FROM snapshot s JOIN extent_history h ON "
	  "h.birth<=s.seq AND s.seq<h.death UNION ALL SELECT snapshot_no,e.ino,off,len FROM snapshot "
	  "s JOIN extent e ON e.birth<=s.seq AND e.ino IN (SELECT ino FROM extent_history))) "
	  "WHERE before>off", NULL),
	K("extent-history-chunk", "an old extent's chunk does not exist, or is shorter",
	  CHUNK_OF("extent_history"), NULL),
	/* chunk */
	K("chunk-shard", "a chunk's shard does not exist",
	  "SELECT printf('chunk %d is in shard %d, which does not exist',chunk_no,shard_no) FROM "
	  "chunk WHERE shard_no NOT IN (SELECT shard_no FROM shard)", NULL),
	K("chunk-refs", "refs is not the number of extents that name the chunk",
	  "WITH uses(chunk_no,n) AS (SELECT chunk_no,count(*) FROM (SELECT chunk_no FROM extent "
	  "UNION ALL SELECT chunk_no FROM extent_history) GROUP BY chunk_no) SELECT printf("
	  "'chunk %d: refs is %d and should be %d',c.chunk_no,refs,coalesce(n,0)) FROM chunk c "
	  "LEFT JOIN uses USING(chunk_no) WHERE refs<>coalesce(n,0)",
	  "CREATE TEMP TABLE uses (chunk_no INTEGER PRIMARY KEY, n INTEGER);"
	  "INSERT INTO temp.uses SELECT chunk_no,count(*) FROM (SELECT chunk_no FROM extent "
	  "UNION ALL SELECT chunk_no FROM extent_history) GROUP BY chunk_no;"
	  "UPDATE chunk SET refs=" USES " WHERE refs<>" USES),
	K("chunk-name-missing", "a chunk is not found by its name",
	  "SELECT printf('chunk %d is not found by its name',chunk_no) FROM chunk c WHERE NOT "
	  "EXISTS (SELECT 1 FROM chunk_name n WHERE n.prefix=chunk_prefix(c.id) AND "
	  "n.chunk_no=c.chunk_no)",
	  "INSERT OR IGNORE INTO chunk_name SELECT chunk_prefix(id),chunk_no FROM chunk c WHERE "
	  "NOT EXISTS (SELECT 1 FROM chunk_name n WHERE n.prefix=chunk_prefix(c.id) AND "
	  "n.chunk_no=c.chunk_no)"),
	K("chunk-name-extra", "a name leads to no chunk, or to another one",
	  "SELECT printf('name %d leads to chunk %d, which is not called so',prefix,chunk_no) FROM "
	  "chunk_name n WHERE NOT EXISTS (SELECT 1 FROM chunk c WHERE c.chunk_no=n.chunk_no AND "
	  "chunk_prefix(c.id)=n.prefix)",
	  "DELETE FROM chunk_name AS n WHERE NOT EXISTS (SELECT 1 FROM chunk c WHERE "
	  "c.chunk_no=n.chunk_no AND chunk_prefix(c.id)=n.prefix)"),
	/* shard, copy */
	K("shard-sums", "a shard's dead or total bytes are wrong",
	  "WITH sums(shard_no,dead,total) AS (SELECT shard_no,"
	  "coalesce(sum(stored_len) FILTER (WHERE refs=0),0),sum(stored_len) FROM chunk GROUP BY "
	  "shard_no) SELECT printf('shard %d: dead and total bytes are %d, %d and should be %d, "
	  "%d',s.shard_no,dead_bytes,total_bytes,coalesce(dead,0),coalesce(total,0)) FROM shard s "
	  "LEFT JOIN sums USING(shard_no) WHERE dead_bytes<>coalesce(dead,0) OR "
	  "total_bytes<>coalesce(total,0)",
	  "CREATE TEMP TABLE sums (shard_no INTEGER PRIMARY KEY, dead INTEGER, total INTEGER);"
	  "INSERT INTO temp.sums SELECT s.shard_no,coalesce(sum(stored_len) FILTER "
	  "(WHERE refs=0),0),coalesce(sum(stored_len),0) FROM shard s LEFT JOIN chunk c "
	  "ON c.shard_no=s.shard_no GROUP BY s.shard_no;"
	  "UPDATE shard SET (dead_bytes,total_bytes)=(SELECT dead,total FROM temp.sums WHERE "
	  "sums.shard_no=shard.shard_no) WHERE (dead_bytes,total_bytes)<>(SELECT dead,total FROM "
	  "temp.sums WHERE sums.shard_no=shard.shard_no)"),
	K("shard-twice", "two shards have one name",
	  "SELECT printf('shards %d and %d have one name',min(shard_no),max(shard_no)) FROM shard "
	  "GROUP BY id HAVING count(*)>1", NULL),
	K("copy-shard", "copies of a shard that does not exist",
	  "SELECT printf('copies of shard %d, which does not exist',shard_no) FROM copy "
	  "WHERE shard_no NOT IN (SELECT shard_no FROM shard)",
	  "DELETE FROM copy WHERE shard_no NOT IN (SELECT shard_no FROM shard)"),
	K("copy-list", "the packed list of a shard's copies is damaged, empty, or has one twice",
	  NULL, NULL),
	K("copy-provider", "a copy is at a provider that does not exist", NULL, NULL),
	K("copy-states", "the states in front of a list of copies are not theirs",
	  "SELECT printf('copies of shard %d: states is %d and should be %d',shard_no,states,"
	  "copy_states(shard_no,copies)) FROM copy WHERE states<>copy_states(shard_no,copies)",
	  "UPDATE copy SET states=copy_states(shard_no,copies) "
	  "WHERE states<>copy_states(shard_no,copies)"),
	K("copy-verified", "the time in front of a list of copies is not theirs",
	  "SELECT printf('copies of shard %d: the time of the oldest check is wrong',shard_no) FROM "
	  "copy WHERE copy_states(shard_no,copies) NOT NULL AND "
	  "verified IS NOT copy_verified(shard_no,copies)",
	  "UPDATE copy SET verified=copy_verified(shard_no,copies) WHERE "
	  "copy_states(shard_no,copies) NOT NULL AND "
	  "verified IS NOT copy_verified(shard_no,copies)"),
	K("audit-gap", "an entry of the audit log is missing",
	  "SELECT printf('audit: the entry before %d is missing',audit_no) FROM audit a WHERE "
	  "audit_no>1+coalesce((SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM setting WHERE "
	  "key=CAST('audit_cut' AS BLOB)),0) AND NOT EXISTS (SELECT 1 FROM audit b WHERE b.audit_no=a.audit_no-1)", NULL),
	/* counters */
	K("counters", "files, directories or bytes below a directory are wrong",
	  "WITH should AS (" SQL_COUNTERS ") SELECT printf('counters of directory %d are %d, %d, %d "
	  "and should be %d, %d, %d',i.ino,coalesce(c.files,0),coalesce(c.directories,0),"
	  "coalesce(c.bytes,0),coalesce(s.files,0),coalesce(s.directories,0),coalesce(s.bytes,0)) "
	  "FROM inode i LEFT JOIN dir_counter c USING(ino) LEFT JOIN should s USING(ino) WHERE "
	  IS_DIR("i") " AND (coalesce(c.files,0)<>coalesce(s.files,0) OR coalesce(c.directories,0)<>"
	  "coalesce(s.directories,0) OR coalesce(c.bytes,0)<>coalesce(s.bytes,0))",
	  "CREATE TEMP TABLE should AS " SQL_COUNTERS ";"
	  "INSERT INTO dir_counter(ino,files,directories,bytes,as_of) SELECT ino,files,directories,"
	  "bytes,(SELECT applied_seq FROM meta) FROM temp.should WHERE true ON CONFLICT(ino) DO "
	  "UPDATE SET files=excluded.files,directories=excluded.directories,bytes=excluded.bytes "
	  "WHERE (files,directories,bytes)<>(excluded.files,excluded.directories,excluded.bytes);"
	  "DELETE FROM dir_counter WHERE ino NOT IN (SELECT ino FROM temp.should) AND "
	  "files+directories+bytes<>0"),
	K("counters-of-other-type", "what has counters is no directory",
	  "SELECT printf('counters of inode %d, which is no directory',ino) FROM dir_counter "
	  "LEFT JOIN inode i USING(ino) WHERE i.ino IS NULL OR NOT " IS_DIR("i"),
	  "DELETE FROM dir_counter WHERE ino NOT IN (SELECT ino FROM inode i WHERE " IS_DIR("i")
	  ")"),
	/* meta */
	K_HIGHEST("highest-ino", "inode", "ino", "highest_ino"),
	K_HIGHEST("highest-cookie", "dirent", "cookie", "highest_cookie"),
	K_HIGHEST("highest-chunk", "chunk", "chunk_no", "highest_chunk"),
	K_HIGHEST("highest-shard", "shard", "shard_no", "highest_shard"),
	K_HIGHEST("highest-snapshot", "snapshot", "snapshot_no", "highest_snapshot"),
	K_HIGHEST("highest-provider", "provider", "provider_no", "highest_provider"),
	K_SUM("sum-inodes", "inodes", "count(*) AS v FROM inode"),
	K_SUM("sum-directories", "directories", "count(*) AS v FROM inode i WHERE " IS_DIR("i")),
	K_SUM("sum-bytes", "bytes", "coalesce(sum(size),0) AS v FROM inode i WHERE " IS_REG("i")),
	K_SUM("sum-chunks", "chunks", "count(*) AS v FROM chunk"),
	K_SUM("sum-stored", "chunk_stored_bytes", "coalesce(sum(stored_len),0) AS v FROM chunk"),
	K_SUM("sum-shards", "shards", "count(*) AS v FROM shard"),
};

const struct index_kind *index_kind(size_t i)
{
	return i < ARRAY_COUNT(invariants) ? &invariants[i].kind : NULL;
}

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

static void copy_function(sqlite3_context *context, int count, sqlite3_value **values)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	bool wants_states = sqlite3_user_data(context) != NULL;
	int r = copy_unpack((uint64_t)sqlite3_value_int64(values[0]),
			    bytes_of(sqlite3_value_blob(values[1]),
				     (size_t)sqlite3_value_bytes(values[1])),
			    &copies);

	(void)count;
	if (r == -ENOMEM)
		sqlite3_result_error_nomem(context);
	else if (r < 0 || copies.count == 0)
		sqlite3_result_null(context);
	else if (wants_states)
		sqlite3_result_int64(context, copy_states(&copies));
	else if (copy_oldest_verified(&copies) == INT64_MAX)
		sqlite3_result_null(context);
	else
		sqlite3_result_int64(context, copy_oldest_verified(&copies));
}

static int add_functions(sqlite3 *db)
{
	static int wants_states;
	int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
	int rc = sqlite3_create_function(db, "chunk_prefix", 1, flags, NULL, chunk_prefix, NULL,
					 NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_create_function(db, "copy_states", 2, flags, &wants_states,
					     copy_function, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_function(db, "copy_verified", 2, flags, NULL, copy_function,
					     NULL, NULL);
	return rc == SQLITE_OK ? 0 : sqlite_fail(db, rc, "functions");
}

struct prove {
	struct sqlite_conn *conn;
	void (*found)(void *ctx, const char *text);
	void *ctx;
	uint64_t violations;
};

static void __attribute__((format(printf, 3, 4))) found_printf(struct prove *prove,
							       const char *kind,
							       const char *format, ...)
{
	char text[400];
	int len = snprintf(text, sizeof(text), "%s: ", kind);
	va_list args;

	va_start(args, format);
	vsnprintf(text + len, sizeof(text) - (size_t)len, format, args);
	va_end(args);
	prove->found(prove->ctx, text);
}

static int prove_one(struct prove *prove, const struct invariant *invariant)
{
	sqlite3 *db = prove->conn->db;
	sqlite3_stmt *stmt = NULL;
	unsigned told = 0;
	int rc = sqlite3_prepare_v2(db, invariant->sql, -1, &stmt, NULL);
	int r = 0;

	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		prove->violations++;
		if (told++ < TEXTS_MAX)
			found_printf(prove, invariant->kind.name, "%s",
				     (const char *)sqlite3_column_text(stmt, 0));
	}
	/* A damaged page is a finding too: the other invariants are still worth knowing. */
	if ((rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB) {
		prove->violations++;
		found_printf(prove, invariants[0].kind.name, "%s", sqlite3_errmsg(db));
	} else if (rc != SQLITE_DONE) {
		r = sqlite_fail(db, rc, invariant->sql);
	}
	sqlite3_finalize(stmt);
	return r;
}

static bool has_provider(const struct provider_list *providers, uint32_t provider_no)
{
	for (size_t i = 0; i < providers->count; i++)
		if (providers->rows[i].provider_no == provider_no)
			return true;
	return false;
}

static int prove_copies_of(struct prove *prove, const struct provider_list *providers,
			   uint64_t shard_no, struct bytes packed)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = copy_unpack(shard_no, packed, &copies);

	if (r == -ENOMEM)
		return r;
	if (r < 0 || copies.count == 0) {
		prove->violations++;
		found_printf(prove, "copy-list", "copies of shard %" PRIu64 " are damaged", shard_no);
	}
	for (size_t i = 0; i < copies.count; i++) {
		if (has_provider(providers, copies.rows[i].provider_no))
			continue;
		prove->violations++;
		found_printf(prove, "copy-provider",
			     "a copy of shard %" PRIu64 " is at provider %u, which does not exist",
			     shard_no, copies.rows[i].provider_no);
	}
	return 0;
}

static int prove_copies(struct prove *prove)
{
	AUTO(provider_list) providers = ROW_LIST_INIT;
	sqlite3_stmt *stmt = NULL;
	int rc, r = sqlite_list_providers(&prove->conn->base, &providers);

	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(prove->conn->db, "SELECT shard_no,copies FROM copy", -1, &stmt,
				NULL);
	while (r == 0 && (rc == SQLITE_OK || rc == SQLITE_ROW)) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		r = prove_copies_of(prove, &providers, sqlite_column_u64(stmt, 0),
				    sqlite_column_bytes(stmt, 1));
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
	int r = add_functions(prove.conn->db);

	for (size_t i = 0; i < ARRAY_COUNT(invariants) && r == 0; i++)
		if (invariants[i].sql)
			r = prove_one(&prove, &invariants[i]);
	if (r == 0)
		r = prove_copies(&prove);
	if (r == 0)
		*violations = prove.violations;
	return r;
}

/* ---- repair ---- */

/* Names by inode, once for all statements that count them. */
static const char repair_begin[] =
	"PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; BEGIN IMMEDIATE;"
	"CREATE TEMP TABLE names (ino INTEGER PRIMARY KEY, n INTEGER, parent INTEGER);"
	"INSERT INTO temp.names SELECT ino,count(*),min(parent) FROM dirent GROUP BY ino";

/* Its last statement, or its last two, change rows; those before it fill temporary tables. */
static int repair_one(sqlite3 *db, const struct invariant *invariant, uint64_t *rows)
{
	const char *sql = invariant->repair;
	int r = 0;

	*rows = 0;
	while (r == 0 && sql && *sql) {
		sqlite3_stmt *stmt = NULL;
		int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, &sql);
		bool is_temporary = stmt && (strstr(sqlite3_sql(stmt), "CREATE TEMP") ||
					     strstr(sqlite3_sql(stmt), "INTO temp."));

		if (rc == SQLITE_OK)
			rc = sqlite3_step(stmt);
		if (rc != SQLITE_DONE)
			r = sqlite_fail(db, rc, invariant->kind.name);
		else if (!is_temporary)
			*rows += (uint64_t)sqlite3_changes(db);
		sqlite3_finalize(stmt);
	}
	return r;
}

int index_repair(const char *path, void (*done)(void *ctx, const char *kind, uint64_t rows),
		 void *ctx)
{
	uint64_t rows[ARRAY_COUNT(invariants)] = {0};
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE, NULL);
	int r = rc == SQLITE_OK ? add_functions(db) : sqlite_fail(db, rc, "open");

	if (r == 0)
		r = sqlite_exec(db, repair_begin);
	for (size_t i = 0; i < ARRAY_COUNT(invariants) && r == 0; i++)
		r = repair_one(db, &invariants[i], &rows[i]);
	if (r == 0)
		r = sqlite_exec(db, "COMMIT");
	if (r == 0)
		r = sqlite_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)");
	if (sqlite3_close(db) != SQLITE_OK && r == 0)
		r = -EIO;
	for (size_t i = 0; i < ARRAY_COUNT(invariants) && r == 0; i++)
		if (rows[i] > 0)
			done(ctx, invariants[i].kind.name, rows[i]);
	return r;
}
