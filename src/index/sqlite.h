/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_SQLITE_H
#define SHARDFS_INDEX_SQLITE_H

/*
 * What the files of the SQLite engine share.  sqlite.c: files, connections,
 * statements, transactions, migration.  sqlite_read.c, sqlite_read_small.c,
 * sqlite_write.c: rows.  sqlite_prove.c: invariants.
 */

#include "index/engine.h"

#include <sqlite3.h>

/* Every statement with its text; prepared when a connection first needs it. */
#define SQL_INODE_COLUMNS                                                                          \
	"ino,mode,uid,gid,nlink,rdev,size,times,flags,parent,policy_root,birth"
#define SQL_CHUNK_COLUMNS "chunk_no,refs,shard_no,record_no,off,stored_len,raw_len,id"
#define SQL_SHARD_COLUMNS                                                                          \
	"shard_no,state,key_epoch,writer_epoch,policy_root,priority,object_len,record_count,"      \
	"dead_bytes,total_bytes,sealed_sec,id,mac"
#define SQL_TREE                                                                                   \
	"WITH RECURSIVE tree(ino) AS (VALUES(?1) UNION SELECT d.ino FROM tree t "                  \
	"CROSS JOIN dirent d ON d.parent=t.ino) "

/* A row of the history that a snapshot of record ?1 sees. */
#define SQL_SEEN "birth<=?1 AND death>?1"
#define SQL_UNSEEN                                                                                 \
	"NOT EXISTS (SELECT 1 FROM snapshot s WHERE s.seq>=h.birth AND s.seq<h.death AND "         \
	"s.name<>'')"
#define SQL_VIEW_TREE                                                                              \
	"WITH RECURSIVE tree(ino) AS (VALUES(?2) UNION SELECT d.ino FROM tree t "                  \
	"CROSS JOIN dirent d ON d.parent=t.ino AND d.birth<=?1 UNION SELECT h.ino FROM tree t "    \
	"CROSS JOIN dirent_history h ON h.parent=t.ino AND " SQL_SEEN ") "
#define SQL_VIEW_CHUNKS                                                                            \
	"SELECT chunk_no FROM tree t CROSS JOIN extent e ON e.ino=t.ino AND e.birth<=?1 "          \
	"UNION ALL SELECT chunk_no FROM tree t CROSS JOIN extent_history h ON h.ino=t.ino AND "    \
	SQL_SEEN
/*
 * Rows that ?1 sees and no other one with a name: died until the next of those, born after the
 * one before.
 */
#define SQL_OLD(table, ino, at)                                                                    \
	"SELECT " ino "," at " FROM " table "_history INDEXED BY " table "_history_by_death "      \
	"WHERE death>?1 AND death<=(SELECT coalesce(min(seq),9223372036854775807) FROM snapshot "  \
	"WHERE seq>?1 AND name<>'') AND birth<=?1 AND birth>(SELECT coalesce(max(seq),-1) FROM "   \
	"snapshot WHERE seq<?1 AND name<>'')"

#define SQL_STATEMENTS(X)                                                                          \
	X(BEGIN, "BEGIN IMMEDIATE")                                                                \
	X(HOLD, "BEGIN")                                                                           \
	X(COMMIT, "COMMIT")                                                                        \
	X(ROLLBACK, "ROLLBACK")                                                                    \
	X(GET_META, "SELECT applied_seq,highest_ino,highest_cookie,highest_chunk,highest_shard,"   \
		    "highest_snapshot,highest_provider,inodes,directories,bytes,chunks,"           \
		    "chunk_stored_bytes,shards FROM meta WHERE id=1")                              \
	X(PUT_META, "REPLACE INTO meta VALUES(1,?,?,?,?,?,?,?,?,?,?,?,?,?)")                       \
	X(FIND_DIRENT, "SELECT cookie,ino,type,name FROM dirent WHERE parent=? AND name=?")        \
	X(LIST_DIRENTS, "SELECT cookie,ino,type,name FROM dirent WHERE parent=? AND cookie>? "     \
			"ORDER BY cookie LIMIT ?")                                                 \
	X(PUT_DIRENT, "REPLACE INTO dirent VALUES(?,?,?,?,?,?)")                                   \
	X(DEL_DIRENT, "DELETE FROM dirent WHERE parent=? AND cookie=? AND name=?")                 \
	/* two searches: an OR of them would read the whole directory */                           \
	X(KEEP_DIRENT, "INSERT INTO dirent_history(parent,cookie,name,ino,type,birth,"             \
		       "death) SELECT *,?1 FROM dirent WHERE parent=?2 AND cookie=?4 "             \
		       "AND birth<=?3 UNION SELECT *,?1 FROM dirent WHERE parent=?2 AND name=?5 "  \
		       "AND birth<=?3")                                                            \
	X(GET_INODE, "SELECT " SQL_INODE_COLUMNS " FROM inode WHERE ino=?")                        \
	X(PUT_INODE, "REPLACE INTO inode VALUES(?,?,?,?,?,?,?,?,?,?,?,?)")                         \
	X(PUT_OLD_INODE, "REPLACE INTO inode_history(" SQL_INODE_COLUMNS ",death) "                \
			 "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)")                                      \
	X(DEL_INODE, "DELETE FROM inode WHERE ino=?")                                              \
	X(GET_SYMLINK, "SELECT target FROM symlink WHERE ino=?")                                   \
	X(PUT_SYMLINK, "REPLACE INTO symlink VALUES(?,?,?)")                                       \
	X(DEL_SYMLINK, "DELETE FROM symlink WHERE ino=?")                                          \
	X(KEEP_SYMLINK, "INSERT INTO symlink_history SELECT *,?1 FROM symlink WHERE ino=?2 "       \
			"AND birth<=?3")                                                           \
	X(GET_XATTR, "SELECT value FROM xattr WHERE ino=? AND name=?")                             \
	X(LIST_XATTRS, "SELECT name FROM xattr WHERE ino=? ORDER BY name")                         \
	X(PUT_XATTR, "REPLACE INTO xattr VALUES(?,?,?,?)")                                         \
	X(DEL_XATTR, "DELETE FROM xattr WHERE ino=? AND name=?")                                   \
	X(DEL_XATTRS, "DELETE FROM xattr WHERE ino=?")                                             \
	X(KEEP_XATTR, "INSERT INTO xattr_history SELECT *,?1 FROM xattr WHERE ino=?2 "             \
		      "AND birth<=?3 AND name=?4")                                                 \
	X(KEEP_XATTRS, "INSERT INTO xattr_history SELECT *,?1 FROM xattr WHERE ino=?2 "            \
		       "AND birth<=?3")                                                            \
	X(VISIT_EXTENTS, "SELECT off,len,chunk_off,chunk_no,birth FROM extent WHERE ino=?1 "       \
			 "AND off>=(SELECT coalesce(max(off),?2) FROM extent WHERE ino=?1 "        \
			 "AND off<=?2) AND off<?3 ORDER BY off")                                   \
	X(LAST_EXTENT, "SELECT off+len FROM extent WHERE ino=? ORDER BY off DESC LIMIT 1")         \
	X(PUT_EXTENT, "REPLACE INTO extent VALUES(?,?,?,?,?,?)")                                   \
	X(PUT_OLD_EXTENT, "REPLACE INTO extent_history(ino,off,len,chunk_off,chunk_no,birth,"      \
			  "death) VALUES(?,?,?,?,?,?,?)")                                          \
	X(DEL_EXTENTS, "DELETE FROM extent WHERE ino=? AND off>=? AND off<?")                      \
	X(FIND_CHUNK, "SELECT c.chunk_no,refs,shard_no,record_no,off,stored_len,raw_len,id "       \
		      "FROM chunk_name n CROSS JOIN chunk c ON c.chunk_no=n.chunk_no "             \
		      "WHERE prefix=? AND id=? ORDER BY n.chunk_no DESC LIMIT 1")                  \
	X(GET_CHUNK, "SELECT " SQL_CHUNK_COLUMNS " FROM chunk WHERE chunk_no=?")                   \
	X(LIST_CHUNKS, "SELECT " SQL_CHUNK_COLUMNS " FROM chunk INDEXED BY chunk_by_shard "        \
		       "WHERE shard_no=? AND chunk_no>? ORDER BY chunk_no LIMIT ?")                \
	X(INSERT_CHUNK, "INSERT INTO chunk VALUES(?,?,?,?,?,?,?,?)")                               \
	X(UPDATE_CHUNK, "UPDATE chunk SET refs=?2,shard_no=?3,record_no=?4,off=?5,stored_len=?6,"  \
			"raw_len=?7,id=?8 WHERE chunk_no=?1")                                      \
	X(UPDATE_CHUNK_REFS, "UPDATE chunk SET refs=?2 WHERE chunk_no=?1")                         \
	X(DEL_CHUNK, "DELETE FROM chunk WHERE chunk_no=?")                                         \
	X(PUT_CHUNK_NAME, "REPLACE INTO chunk_name VALUES(?,?)")                                   \
	X(DEL_CHUNK_NAME, "DELETE FROM chunk_name WHERE prefix=? AND chunk_no=?")                  \
	X(GET_SHARD, "SELECT " SQL_SHARD_COLUMNS " FROM shard WHERE shard_no=?")                   \
	X(FIND_SHARD, "SELECT " SQL_SHARD_COLUMNS " FROM shard WHERE substr(id,1,3)=? AND id=?")   \
	X(LIST_SHARDS, "SELECT " SQL_SHARD_COLUMNS " FROM shard WHERE shard_no>? "                 \
		       "ORDER BY shard_no LIMIT ?")                                                \
	X(PUT_SHARD, "REPLACE INTO shard VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)")                       \
	X(DEL_SHARD, "DELETE FROM shard WHERE shard_no=?")                                         \
	X(GET_COPIES, "SELECT copies FROM copy WHERE shard_no=?")                                  \
	X(LIST_COPIES_UNSETTLED,                                                                   \
	  "SELECT shard_no,copies FROM copy INDEXED BY copy_unsettled WHERE states & ~24 <> 0 "    \
	  "AND states & ?1 <> 0 AND shard_no>?2 ORDER BY shard_no LIMIT ?3")                       \
	X(LIST_COPIES, "SELECT shard_no,copies FROM copy WHERE states & ?1 <> 0 AND shard_no>?2 "  \
		       "ORDER BY shard_no LIMIT ?3")                                               \
	X(LIST_VERIFIED,                                                                           \
	  "SELECT verified,shard_no FROM copy INDEXED BY copy_by_verified "                        \
	  "WHERE verified IS NOT NULL AND (verified,shard_no)>(?1,?2) "                            \
	  "ORDER BY verified,shard_no LIMIT ?3")                                                   \
	X(COUNT_VERIFIED,                                                                          \
	  "SELECT count(*),count(*) FILTER (WHERE verified>=?1),min(verified) "                    \
	  "FROM copy INDEXED BY copy_by_verified WHERE verified IS NOT NULL")                      \
	X(PUT_COPIES, "REPLACE INTO copy VALUES(?1,?2,nullif(?3,9223372036854775807),?4)")         \
	X(DEL_COPIES, "DELETE FROM copy WHERE shard_no=?")                                         \
	X(LIST_PROVIDERS, "SELECT * FROM provider ORDER BY provider_no")                           \
	X(PUT_PROVIDER, "REPLACE INTO provider VALUES(?,?,?,?,?,?,?)")                             \
	X(GET_POLICY, "SELECT * FROM policy WHERE root=?")                                         \
	X(LIST_POLICIES, "SELECT * FROM policy ORDER BY root")                                     \
	X(PUT_POLICY, "REPLACE INTO policy VALUES(?,?,?)")                                         \
	X(DEL_POLICY, "DELETE FROM policy WHERE root=?")                                           \
	X(GET_SETTING, "SELECT value FROM setting WHERE key=?")                                    \
	X(PUT_SETTING, "REPLACE INTO setting VALUES(?,?)")                                         \
	X(LIST_ORPHANS, "SELECT ino FROM orphan WHERE ino>? ORDER BY ino LIMIT ?")                 \
	X(PUT_ORPHAN, "REPLACE INTO orphan VALUES(?)")                                             \
	X(DEL_ORPHAN, "DELETE FROM orphan WHERE ino=?")                                            \
	X(LIST_AUDIT, "SELECT * FROM audit WHERE audit_no>? ORDER BY audit_no LIMIT ?")            \
	X(LAST_AUDIT, "SELECT audit_no,mac FROM audit ORDER BY audit_no DESC LIMIT 1")             \
	X(PUT_AUDIT, "REPLACE INTO audit VALUES(?,?,?,?,?)")                                       \
	X(CUT_AUDIT, "DELETE FROM audit WHERE audit_no<=?")                                        \
	X(LIST_SNAPSHOTS, "SELECT * FROM snapshot ORDER BY snapshot_no")                           \
	X(PUT_SNAPSHOT, "REPLACE INTO snapshot VALUES(?,?,?,?,?,?,?,?)")                           \
	X(DEL_SNAPSHOT, "DELETE FROM snapshot WHERE snapshot_no=?")                                \
	X(VIEW_FIND_DIRENT,                                                                        \
	  "SELECT cookie,ino,type,name FROM dirent WHERE parent=?2 AND name=?3 AND birth<=?1 "     \
	  "UNION ALL SELECT cookie,ino,type,name FROM dirent_history INDEXED BY "                  \
	  "dirent_history_by_name WHERE parent=?2 AND name=?3 AND " SQL_SEEN " LIMIT 1")           \
	X(VIEW_LIST_DIRENTS,                                                                       \
	  "SELECT cookie,ino,type,name FROM dirent WHERE parent=?2 AND cookie>?3 AND birth<=?1 "   \
	  "UNION ALL SELECT cookie,ino,type,name FROM dirent_history "                             \
	  "WHERE parent=?2 AND cookie>?3 AND " SQL_SEEN " ORDER BY 1 LIMIT ?4")                    \
	X(VIEW_GET_INODE,                                                                          \
	  "SELECT " SQL_INODE_COLUMNS " FROM inode WHERE ino=?2 AND birth<=?1 UNION ALL "          \
	  "SELECT " SQL_INODE_COLUMNS " FROM inode_history WHERE ino=?2 AND " SQL_SEEN             \
	  " LIMIT 1")                                                                              \
	X(VIEW_GET_SYMLINK,                                                                        \
	  "SELECT target FROM symlink WHERE ino=?2 AND birth<=?1 UNION ALL "                       \
	  "SELECT target FROM symlink_history WHERE ino=?2 AND " SQL_SEEN " LIMIT 1")              \
	X(VIEW_GET_XATTR,                                                                          \
	  "SELECT value FROM xattr WHERE ino=?2 AND name=?3 AND birth<=?1 UNION ALL "              \
	  "SELECT value FROM xattr_history WHERE ino=?2 AND name=?3 AND " SQL_SEEN " LIMIT 1")     \
	X(VIEW_LIST_XATTRS,                                                                        \
	  "SELECT name FROM xattr WHERE ino=?2 AND birth<=?1 UNION ALL "                           \
	  "SELECT name FROM xattr_history WHERE ino=?2 AND " SQL_SEEN " ORDER BY 1")               \
	/* The last one at or before ?3 may reach into the range. */                               \
	X(VIEW_VISIT_EXTENTS,                                                                      \
	  "SELECT off,len,chunk_off,chunk_no,birth FROM extent WHERE ino=?2 AND birth<=?1 AND "    \
	  "off>=coalesce((SELECT off FROM extent WHERE ino=?2 AND off<=?3 ORDER BY off DESC "      \
	  "LIMIT 1),?3) AND off<?4 UNION ALL "                                                     \
	  "SELECT off,len,chunk_off,chunk_no,birth FROM extent_history WHERE ino=?2 AND " SQL_SEEN \
	  " AND off>=coalesce((SELECT off FROM extent_history WHERE ino=?2 AND off<=?3 AND "       \
	  SQL_SEEN " ORDER BY off DESC LIMIT 1),?3) AND off<?4 ORDER BY 1")                        \
	X(VIEW_SUBTREE_SHARDS, SQL_VIEW_TREE                                                       \
	  "SELECT DISTINCT c.shard_no FROM (" SQL_VIEW_CHUNKS ") u CROSS JOIN chunk c "            \
	  "ON c.chunk_no=u.chunk_no WHERE c.shard_no>?3 ORDER BY c.shard_no LIMIT ?4")             \
	X(VIEW_SUBTREE_INODES, SQL_VIEW_TREE                                                       \
	  "SELECT count(*) FILTER (WHERE mode&61440<>16384),"                                      \
	  "count(*) FILTER (WHERE mode&61440=16384),"                                              \
	  "sum(size) FILTER (WHERE mode&61440=32768) FROM ("                                       \
	  "SELECT mode,size FROM tree t CROSS JOIN inode i ON i.ino=t.ino AND i.birth<=?1 "        \
	  "UNION ALL SELECT mode,size FROM tree t CROSS JOIN inode_history h ON h.ino=t.ino "      \
	  "AND " SQL_SEEN ")")                                                                     \
	X(VIEW_SUBTREE_CHUNKS, SQL_VIEW_TREE                                                       \
	  "SELECT sum(n),count(c.chunk_no),sum(stored_len),sum(stored_len) FILTER (WHERE refs>n) " \
	  "FROM (SELECT chunk_no,count(*) AS n FROM (" SQL_VIEW_CHUNKS ") GROUP BY chunk_no) u "   \
	  "LEFT JOIN chunk c ON c.chunk_no=u.chunk_no")                                            \
	X(LIST_OLD,                                                                                \
	  SQL_OLD("extent", "ino", "off") " UNION ALL " SQL_OLD("dirent", "parent", "cookie")      \
	  " UNION ALL " SQL_OLD("inode", "ino", "0") " UNION ALL " SQL_OLD("xattr", "ino", "0")    \
	  " UNION ALL " SQL_OLD("symlink", "ino", "0") " LIMIT ?2")                                \
	X(CHANGED_INODES,                                                                          \
	  "SELECT ino FROM inode_history INDEXED BY inode_history_by_death "                       \
	  "WHERE death>?1 AND death<=?2 AND birth<=?1 ORDER BY ino")                               \
	X(CHANGED_PARENTS,                                                                         \
	  "SELECT DISTINCT parent FROM dirent_history INDEXED BY dirent_history_by_death "         \
	  "WHERE death>?1 AND death<=?2 AND birth<=?1 ORDER BY parent")                            \
	X(COUNT_HISTORY,                                                                           \
	  "SELECT (SELECT count(*) FROM inode_history)+(SELECT count(*) FROM dirent_history)+"     \
	  "(SELECT count(*) FROM xattr_history)+(SELECT count(*) FROM symlink_history)+"           \
	  "(SELECT count(*) FROM extent_history)")                                                 \
	X(LIST_UNSEEN_EXTENTS,                                                                     \
	  "SELECT off,len,chunk_off,chunk_no,birth FROM extent_history h "                         \
	  "WHERE ino=?1 AND off=?2 AND " SQL_UNSEEN)                                               \
	X(DROP_EXTENTS,                                                                            \
	  "DELETE FROM extent_history AS h WHERE ino=?1 AND off=?2 AND " SQL_UNSEEN)               \
	X(DROP_DIRENTS,                                                                            \
	  "DELETE FROM dirent_history AS h WHERE parent=?1 AND cookie=?2 AND " SQL_UNSEEN)         \
	X(DROP_INODES, "DELETE FROM inode_history AS h WHERE ino=?1 AND " SQL_UNSEEN)              \
	X(DROP_XATTRS, "DELETE FROM xattr_history AS h WHERE ino=?1 AND " SQL_UNSEEN)              \
	X(DROP_SYMLINKS, "DELETE FROM symlink_history AS h WHERE ino=?1 AND " SQL_UNSEEN)          \
	X(PUT_OLD_DIRENT, "INSERT INTO dirent_history VALUES(?,?,?,?,?,?,?)")                      \
	X(PUT_OLD_XATTR, "INSERT INTO xattr_history VALUES(?,?,?,?,?)")                            \
	X(PUT_OLD_SYMLINK, "INSERT INTO symlink_history VALUES(?,?,?,?)")                          \
	X(DUMP_DIRENTS, "SELECT cookie,ino,type,name,birth FROM dirent WHERE parent=? "            \
			"ORDER BY cookie")                                                         \
	X(DUMP_XATTRS, "SELECT name,value,birth FROM xattr WHERE ino=? ORDER BY name")             \
	X(DUMP_SYMLINK, "SELECT target,birth FROM symlink WHERE ino=?")                            \
	X(DUMP_OLD_INODES, "SELECT " SQL_INODE_COLUMNS ",death FROM inode_history")                \
	X(DUMP_OLD_DIRENTS, "SELECT cookie,ino,type,name,birth,death,parent FROM dirent_history")  \
	X(DUMP_OLD_XATTRS, "SELECT name,value,birth,death,ino FROM xattr_history")                 \
	X(DUMP_OLD_SYMLINKS, "SELECT target,birth,death,ino FROM symlink_history")                 \
	X(DUMP_OLD_EXTENTS, "SELECT off,len,chunk_off,chunk_no,birth,death,ino "                   \
			    "FROM extent_history")                                                 \
	X(DUMP_SETTINGS, "SELECT key,value FROM setting ORDER BY key")                             \
	X(DUMP_INODES, "SELECT ino FROM inode ORDER BY ino")                                       \
	/* breadth first: parents before what is in them */                                        \
	X(DUMP_DIRECTORIES, "WITH RECURSIVE t(ino) AS (VALUES(1) UNION ALL SELECT d.ino FROM t "   \
			    "CROSS JOIN dirent d ON d.parent=t.ino WHERE d.type=4) "               \
			    "SELECT ino FROM t")                                                   \
	X(GET_COUNTER, "SELECT ino,files,directories,bytes,as_of FROM dir_counter WHERE ino=?")    \
	X(PUT_COUNTER, "INSERT INTO dir_counter(ino,files,directories,bytes,as_of) "               \
		       "VALUES(?1,?2,?3,?4,?5) ON CONFLICT(ino) DO UPDATE SET "                    \
		       "files=?2,directories=?3,bytes=?4,as_of=?5")                                \
	X(DEL_COUNTER, "DELETE FROM dir_counter WHERE ino=?")                                      \
	X(SUBTREE_NEWEST, SQL_TREE                                                                 \
	  "SELECT max(i.birth) FROM tree t CROSS JOIN inode i ON i.ino=t.ino")                     \
	X(NEWEST, "SELECT max(birth) FROM inode")                                                  \
	X(SUBTREE_SHARDS, SQL_TREE                                                                 \
	  "SELECT DISTINCT c.shard_no FROM tree t CROSS JOIN extent e ON e.ino=t.ino "             \
	  "CROSS JOIN chunk c ON c.chunk_no=e.chunk_no WHERE c.shard_no>?2 "                       \
	  "ORDER BY c.shard_no LIMIT ?3")                                                          \
	X(SUBTREE_INODES, SQL_TREE                                                                 \
	  "SELECT count(*) FILTER (WHERE mode&61440<>16384),"                                      \
	  "count(*) FILTER (WHERE mode&61440=16384),"                                              \
	  "sum(size) FILTER (WHERE mode&61440=32768) FROM tree t CROSS JOIN inode i "              \
	  "ON i.ino=t.ino")                                                                        \
	X(SUBTREE_CHUNKS, SQL_TREE                                                                 \
	  ",uses(chunk_no,n) AS (SELECT e.chunk_no,count(*) FROM tree t CROSS JOIN extent e "      \
	  "ON e.ino=t.ino GROUP BY e.chunk_no) SELECT sum(n),count(c.chunk_no),"                   \
	  "sum(stored_len),sum(stored_len) FILTER (WHERE refs>n) FROM uses u "                     \
	  "LEFT JOIN chunk c ON c.chunk_no=u.chunk_no")

enum sql_id {
#define X(name, text) SQL_##name,
	SQL_STATEMENTS(X)
#undef X
	SQL_COUNT
};

struct sqlite_engine {
	struct engine base;
	char *path;
	uint64_t page_cache_bytes;
};

struct sqlite_conn {
	struct engine_conn base;
	struct sqlite_engine *engine;
	sqlite3 *db;
	sqlite3_stmt *stmts[SQL_COUNT];
	struct buf scratch; /* packed columns of the row in hand */
	bool is_wal_named;  /* writer: the directory was synced since the log was made */
};

static inline struct sqlite_conn *sqlite_conn_of(struct engine_conn *conn)
{
	return container_of(conn, struct sqlite_conn, base);
}

static inline struct sqlite_engine *sqlite_engine_of(struct engine *engine)
{
	return container_of(engine, struct sqlite_engine, base);
}

/* Logs a failed call of SQLite and gives its errno; `what` names the table or the step. */
int sqlite_fail(sqlite3 *db, int rc, const char *what);
/* Logs a row that cannot be; returns -EUCLEAN. */
int sqlite_damaged(const char *table, uint64_t key);

/*
 * sqlite_bind - statement `id`, with arguments bound in order by the letters of `format`:
 * i int64_t, u uint64_t, b struct bytes (borrowed until sqlite_done), s const char * (likewise),
 * n nothing (NULL).
 */
int sqlite_bind(struct sqlite_conn *conn, enum sql_id id, sqlite3_stmt **out, const char *format,
		...);
/* 1: a row is there; 0: no more; negative errno.  After 0 or an error the statement is reset. */
int sqlite_row(struct sqlite_conn *conn, sqlite3_stmt *stmt);
void sqlite_done(sqlite3_stmt *stmt); /* resets; columns are gone */
/* Bind, run to the end, reset: for statements without rows. */
int sqlite_run(struct sqlite_conn *conn, enum sql_id id, const char *format, ...);
int sqlite_exec(sqlite3 *db, const char *sql);

static inline struct bytes sqlite_column_bytes(sqlite3_stmt *stmt, int column)
{
	const void *ptr = sqlite3_column_blob(stmt, column);

	return bytes_of(ptr, (size_t)sqlite3_column_bytes(stmt, column));
}

static inline uint64_t sqlite_column_u64(sqlite3_stmt *stmt, int column)
{
	return (uint64_t)sqlite3_column_int64(stmt, column);
}

/* First 48 bits of a chunk's name, as stored in chunk_name. */
int64_t sqlite_chunk_prefix(const struct chunk_id *id);
/* `count_max` as the LIMIT of a statement: no more than SQLite's integers hold. */
size_t sqlite_list_limit(size_t count_max);
/* Runs a statement that gives at most one row: 0 with the row there, -ENOENT, or a failure. */
int sqlite_one_row(struct sqlite_conn *conn, sqlite3_stmt *stmt);


/* sqlite_read.c */
int sqlite_get_meta(struct engine_conn *conn, struct engine_meta *out);
int sqlite_find_dirent(struct engine_conn *conn, uint64_t parent, struct bytes name,
		       struct dirent_row *out);
int sqlite_list_dirents(struct engine_conn *conn, uint64_t parent, uint64_t after,
			size_t count_max, struct dirent_list *out);
int sqlite_get_inode(struct engine_conn *conn, uint64_t ino, struct inode_row *out);
int sqlite_get_symlink(struct engine_conn *conn, uint64_t ino, struct buf *out);
int sqlite_get_xattr(struct engine_conn *conn, uint64_t ino, struct bytes name, struct buf *out);
int sqlite_list_xattrs(struct engine_conn *conn, uint64_t ino, struct buf *out);
int sqlite_visit_extents(struct engine_conn *conn, uint64_t ino, uint64_t off, uint64_t end,
			 engine_visit_extent visit, void *ctx);
int sqlite_last_extent_end(struct engine_conn *conn, uint64_t ino, uint64_t *end);
int sqlite_find_chunk(struct engine_conn *conn, const struct chunk_id *id, struct chunk_row *out);
int sqlite_get_chunk(struct engine_conn *conn, uint64_t chunk_no, struct chunk_row *out);
int sqlite_list_chunks(struct engine_conn *conn, uint64_t shard_no, uint64_t after,
		       size_t count_max, struct chunk_list *out);
int sqlite_get_shard(struct engine_conn *conn, uint64_t shard_no, struct shard_row *out);
int sqlite_find_shard(struct engine_conn *conn, const struct shard_id *id, struct shard_row *out);
int sqlite_list_shards(struct engine_conn *conn, uint64_t after, size_t count_max,
		       struct shard_list *out);
int sqlite_list_copies(struct engine_conn *conn, uint64_t shard_no, struct copy_list *out);
int sqlite_list_copies_in_state(struct engine_conn *conn, uint32_t state, uint64_t after,
				size_t count_max, struct copy_list *out);
int sqlite_list_verified(struct engine_conn *conn, int64_t after_sec, uint64_t after_no,
			 size_t count_max, struct verified_list *out);
int sqlite_count_verified(struct engine_conn *conn, int64_t since_sec, struct verified_count *out);
int sqlite_subtree_newest(struct engine_conn *conn, uint64_t ino, uint64_t *seq);
int sqlite_subtree_shards(struct engine_conn *conn, uint64_t ino, uint64_t after, size_t count_max,
			  uint64_t *shard_nos, size_t *count, struct subtree_totals *totals);

/* sqlite_read_small.c */
int sqlite_list_providers(struct engine_conn *conn, struct provider_list *out);
int sqlite_get_policy(struct engine_conn *conn, uint64_t root, struct policy_row *out);
int sqlite_list_policies(struct engine_conn *conn, struct policy_list *out);
int sqlite_get_setting(struct engine_conn *conn, struct bytes key, struct buf *out);
int sqlite_list_orphans(struct engine_conn *conn, uint64_t after, size_t count_max, uint64_t *inos,
			size_t *count);
int sqlite_list_audit(struct engine_conn *conn, uint64_t after, size_t count_max,
		      int (*visit)(void *ctx, const struct audit_row *row), void *ctx);
int sqlite_last_audit(struct engine_conn *conn, uint64_t *audit_no, uint8_t mac[32]);
int sqlite_list_snapshots(struct engine_conn *conn, struct snapshot_list *out);
int sqlite_get_counter(struct engine_conn *conn, uint64_t ino, struct engine_counter *out);

/* sqlite_write.c */
int sqlite_put_meta(struct engine_conn *conn, const struct engine_meta *meta);
int sqlite_put_inode(struct engine_conn *conn, const struct inode_row *inode);
int sqlite_put_old_inode(struct engine_conn *conn, const struct inode_row *inode, uint64_t death);
int sqlite_del_inode(struct engine_conn *conn, uint64_t ino, uint32_t mode,
		     struct engine_version version);
int sqlite_put_dirent(struct engine_conn *conn, const struct change *change,
		      struct engine_version version);
int sqlite_del_dirent(struct engine_conn *conn, const struct change *change,
		      struct engine_version version);
int sqlite_put_xattr(struct engine_conn *conn, const struct change *change,
		     struct engine_version version);
int sqlite_del_xattr(struct engine_conn *conn, const struct change *change,
		     struct engine_version version);
int sqlite_put_symlink(struct engine_conn *conn, const struct change *change,
		       struct engine_version version);
int sqlite_put_extent(struct engine_conn *conn, const struct extent_row *extent, uint64_t birth);
int sqlite_put_old_extent(struct engine_conn *conn, const struct extent_row *extent,
			  uint64_t birth, uint64_t death);
int sqlite_del_extents(struct engine_conn *conn, uint64_t ino, uint64_t off, uint64_t end);
int sqlite_put_chunk(struct engine_conn *conn, const struct chunk_row *chunk, bool is_new);
int sqlite_put_chunk_refs(struct engine_conn *conn, uint64_t chunk_no, uint64_t refs);
int sqlite_del_chunk(struct engine_conn *conn, uint64_t chunk_no);
int sqlite_put_chunk_name(struct engine_conn *conn, const struct chunk_id *id, uint64_t chunk_no);
int sqlite_del_chunk_name(struct engine_conn *conn, const struct chunk_id *id, uint64_t chunk_no);
int sqlite_put_shard(struct engine_conn *conn, const struct shard_row *shard);
int sqlite_del_shard(struct engine_conn *conn, uint64_t shard_no);
int sqlite_put_copy(struct engine_conn *conn, const struct copy_row *copy);
int sqlite_del_copy(struct engine_conn *conn, uint64_t shard_no, uint32_t provider_no);
int sqlite_put_orphan(struct engine_conn *conn, uint64_t ino);
int sqlite_del_orphan(struct engine_conn *conn, uint64_t ino);
int sqlite_put_provider(struct engine_conn *conn, const struct provider_row *provider);
int sqlite_put_policy(struct engine_conn *conn, const struct policy_row *policy);
int sqlite_del_policy(struct engine_conn *conn, uint64_t root);
int sqlite_put_setting(struct engine_conn *conn, struct bytes key, struct bytes value);
int sqlite_put_snapshot(struct engine_conn *conn, const struct snapshot_row *snapshot);
int sqlite_put_audit(struct engine_conn *conn, const struct audit_row *audit);
int sqlite_cut_audit(struct engine_conn *conn, uint64_t upto_no);
int sqlite_del_snapshot(struct engine_conn *conn, uint64_t snapshot_no);
int sqlite_put_counter(struct engine_conn *conn, const struct engine_counter *counter);

int sqlite_drop_history(struct engine_conn *conn, const struct old_row *old,
			engine_visit_extent freed, void *ctx);
int sqlite_put_old_dirent(struct engine_conn *conn, const struct change *change, uint64_t birth,
			  uint64_t death);
int sqlite_put_old_xattr(struct engine_conn *conn, const struct change *change, uint64_t birth,
			 uint64_t death);
int sqlite_put_old_symlink(struct engine_conn *conn, const struct change *change, uint64_t birth,
			   uint64_t death);

/* sqlite_view.c */
int sqlite_view_find_dirent(struct engine_conn *conn, uint64_t seq, uint64_t parent,
			    struct bytes name, struct dirent_row *out);
int sqlite_view_list_dirents(struct engine_conn *conn, uint64_t seq, uint64_t parent,
			     uint64_t after, size_t count_max, struct dirent_list *out);
int sqlite_view_get_inode(struct engine_conn *conn, uint64_t seq, uint64_t ino,
			  struct inode_row *out);
int sqlite_view_get_symlink(struct engine_conn *conn, uint64_t seq, uint64_t ino, struct buf *out);
int sqlite_view_get_xattr(struct engine_conn *conn, uint64_t seq, uint64_t ino, struct bytes name,
			  struct buf *out);
int sqlite_view_list_xattrs(struct engine_conn *conn, uint64_t seq, uint64_t ino, struct buf *out);
int sqlite_view_visit_extents(struct engine_conn *conn, uint64_t seq, uint64_t ino, uint64_t off,
			      uint64_t end, engine_visit_extent visit, void *ctx);
int sqlite_view_subtree_shards(struct engine_conn *conn, uint64_t seq, uint64_t ino, uint64_t after,
			       size_t count_max, uint64_t *shard_nos, size_t *count,
			       struct subtree_totals *totals);
int sqlite_list_old(struct engine_conn *conn, uint64_t seq, size_t count_max,
		    struct old_list *out);
int sqlite_count_history(struct engine_conn *conn, uint64_t *rows);
int sqlite_list_changed(struct engine_conn *conn, uint64_t from_seq, uint64_t to_seq,
			struct old_list *out);

/*
 * What statements that select the same columns share (sqlite_read.c).  One, or all, of the rows of a
 * bound statement; reset when this returns.
 */
int sqlite_read_dirent(sqlite3_stmt *stmt, uint64_t parent, struct dirent_row *out);
int sqlite_one_dirent(struct sqlite_conn *conn, sqlite3_stmt *stmt, uint64_t parent,
		      struct dirent_row *out);
int sqlite_all_dirents(struct sqlite_conn *conn, sqlite3_stmt *stmt, uint64_t parent,
		       struct dirent_list *out);
int sqlite_read_inode(sqlite3_stmt *stmt, struct inode_row *out);
int sqlite_one_inode(struct sqlite_conn *conn, sqlite3_stmt *stmt, struct inode_row *out);
int sqlite_append_one(struct sqlite_conn *conn, sqlite3_stmt *stmt, struct buf *out);
int sqlite_append_names(struct sqlite_conn *conn, sqlite3_stmt *stmt, struct buf *out);
int sqlite_read_extent(sqlite3_stmt *stmt, int first, uint64_t ino, struct extent_row *out,
		       uint64_t *birth);
int sqlite_visit_rows(struct sqlite_conn *conn, sqlite3_stmt *stmt, uint64_t ino, uint64_t off,
		      engine_visit_extent visit, void *ctx);
int sqlite_read_numbers(struct sqlite_conn *conn, sqlite3_stmt *stmt, size_t count_max,
			uint64_t *numbers, size_t *count);
int sqlite_sum_subtree(struct sqlite_conn *conn, sqlite3_stmt *inodes, sqlite3_stmt *chunks,
		       struct subtree_totals *out);

/* sqlite_dump.c */
int sqlite_dump(struct engine_conn *conn, int (*visit)(void *ctx, const struct record *record),
		void *ctx, struct engine_meta *meta);

/* sqlite_prove.c */
int sqlite_prove(struct engine_conn *conn, void (*found)(void *ctx, const char *text), void *ctx,
		 uint64_t *violations);

/* Fills dir_counter from the inodes; used by migration.  The recomputed sums as a query. */
#define SQL_COUNTERS                                                                               \
	"WITH RECURSIVE own(ino,files,directories,bytes) AS ("                                     \
	"SELECT parent,count(*) FILTER (WHERE mode&61440<>16384),"                                 \
	"count(*) FILTER (WHERE mode&61440=16384),"                                                \
	"coalesce(sum(size) FILTER (WHERE mode&61440=32768),0) FROM inode "                        \
	"WHERE ino<>1 AND flags&128=0 GROUP BY parent),"                                           \
	"up(ino,above) AS (SELECT ino,ino FROM inode WHERE mode&61440=16384 UNION "                \
	"SELECT up.ino,i.parent FROM up CROSS JOIN inode i ON i.ino=up.above "                     \
	"WHERE i.ino<>1 AND i.flags&128=0 AND EXISTS "                                             \
	"(SELECT 1 FROM inode p WHERE p.ino=i.parent AND p.mode&61440=16384)) "                    \
	"SELECT above AS ino,sum(files) AS files,sum(directories) AS directories,"                 \
	"sum(bytes) AS bytes FROM up CROSS JOIN own ON own.ino=up.ino GROUP BY above"

#endif
