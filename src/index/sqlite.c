/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite engine: files, connections, statements, transactions, migration.
 *
 * Write-ahead log, synchronous=NORMAL: a transaction costs no sync, and a
 * power loss takes the last ones away, never a part of one.  That is enough,
 * since the journal is the commit point and replays them.  What is durable is
 * known only after sqlite_checkpoint():
 *
 *	1. SQLite syncs the log, copies its pages into index.db, syncs that
 *	   (as far as readers allow);
 *	2. the log is synced once more by us, whatever step 1 skipped.
 *
 * The writer makes checkpoints itself when asked (the applier's time, nobody
 * else's).  The log starts again from its beginning once it was copied whole
 * and no reader looks at it; readers are short, and over WAL_BYTES_MAX the
 * checkpoint waits for them.
 *
 * A new engine is built beside its place and linked there when it is whole.
 */
#include "index/sqlite.h"

#include "index/schema_sql.h" /* made from schema.sql */
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID  0x73666978 /* "sfix" */
#define PAGE_BYTES      4096 /* 8192 is no faster, and scattered leaves cost twice the log */
#define WAL_BYTES_MAX   (64 * MIB)
#define CUT_TIMEOUT_MS  50 /* a long reader only makes the log longer */
#define BUSY_TIMEOUT_MS 10000

static const char *const sql_texts[] = {
#define X(name, text) text,
	SQL_STATEMENTS(X)
#undef X
};

/* ---- errors ---- */

static int sqlite_errno(sqlite3 *db, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_MISMATCH:
		return -EUCLEAN;
	case SQLITE_IOERR:
		if (rc == SQLITE_IOERR_NOMEM)
			return -ENOMEM;
		if (db != NULL && (sqlite3_system_errno(db) == ENOSPC ||
				   sqlite3_system_errno(db) == EDQUOT))
			return -ENOSPC;
		return -EIO;
	default:
		return -EIO;
	}
}

int sqlite_fail(sqlite3 *db, int rc, const char *what)
{
	int r = sqlite_errno(db, rc);

	log_error("index-failed", "step=" LOG_Q " cause=" LOG_Q " code=%d error=%s", what,
		  db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(rc), rc, err_name(r));
	return r;
}

int sqlite_damaged(const char *table, uint64_t key)
{
	log_error("index-row-damaged", "table=%s key=%" PRIu64, table, key);
	return -EUCLEAN;
}

/* ---- statements ---- */

static int sqlite_vbind(struct sqlite_conn *conn, enum sql_id id, sqlite3_stmt **out,
			const char *format, va_list args)
{
	sqlite3_stmt *stmt = conn->stmts[id];
	int rc = SQLITE_OK;

	if (stmt == NULL) {
		rc = sqlite3_prepare_v3(conn->db, sql_texts[id], -1, SQLITE_PREPARE_PERSISTENT,
					&conn->stmts[id], NULL);
		if (rc != SQLITE_OK)
			return sqlite_fail(conn->db, rc, sql_texts[id]);
		stmt = conn->stmts[id];
	}
	for (int i = 1; *format != '\0' && rc == SQLITE_OK; format++, i++) {
		switch (*format) {
		case 'i':
			rc = sqlite3_bind_int64(stmt, i, va_arg(args, int64_t));
			break;
		case 'u':
			rc = sqlite3_bind_int64(stmt, i, (int64_t)va_arg(args, uint64_t));
			break;
		case 'b': {
			struct bytes bytes = va_arg(args, struct bytes);

			rc = sqlite3_bind_blob64(stmt, i, bytes.ptr != NULL ? bytes.ptr : (void *)"",
						 bytes.len, SQLITE_STATIC);
			break;
		}
		case 's':
			rc = sqlite3_bind_text(stmt, i, va_arg(args, const char *), -1,
					       SQLITE_STATIC);
			break;
		case 'n':
			rc = sqlite3_bind_null(stmt, i);
			break;
		default:
			assert(!"letter of sqlite_bind");
		}
	}
	if (rc != SQLITE_OK) {
		sqlite3_reset(stmt);
		return sqlite_fail(conn->db, rc, sql_texts[id]);
	}
	*out = stmt;
	return 0;
}

int sqlite_bind(struct sqlite_conn *conn, enum sql_id id, sqlite3_stmt **out, const char *format,
		...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = sqlite_vbind(conn, id, out, format, args);
	va_end(args);
	return r;
}

int sqlite_row(struct sqlite_conn *conn, sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);
	int r = 0;

	if (rc == SQLITE_ROW)
		return 1;
	if (rc != SQLITE_DONE)
		r = sqlite_fail(conn->db, rc, sqlite3_sql(stmt));
	sqlite3_reset(stmt);
	return r;
}

void sqlite_done(sqlite3_stmt *stmt)
{
	sqlite3_reset(stmt);
}

int sqlite_run(struct sqlite_conn *conn, enum sql_id id, const char *format, ...)
{
	sqlite3_stmt *stmt;
	va_list args;
	int r;

	va_start(args, format);
	r = sqlite_vbind(conn, id, &stmt, format, args);
	va_end(args);
	if (r < 0)
		return r;
	r = sqlite_row(conn, stmt);
	if (r > 0)
		sqlite_done(stmt);
	return r < 0 ? r : 0;
}

int sqlite_exec(sqlite3 *db, const char *sql)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : sqlite_fail(db, rc, sql);
}

static int exec_printf(sqlite3 *db, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static int exec_printf(sqlite3 *db, const char *format, ...)
{
	AUTO(buf) text = BUF_INIT;
	va_list args;
	int r;

	va_start(args, format);
	r = buf_vprintf(&text, format, args);
	va_end(args);
	if (r < 0 || buf_str(&text) == NULL)
		return -ENOMEM;
	return sqlite_exec(db, buf_str(&text));
}

static int query_int(sqlite3 *db, const char *sql, int64_t *out)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	int r = 0;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(stmt, 0);
	else
		r = sqlite_fail(db, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, sql);
	sqlite3_finalize(stmt);
	return r;
}

/* ---- creating ---- */

/* Counting every allocation of all connections under one mutex is not worth its price. */
static void sqlite_setup(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_initialize();
}

static int sqlite_open_db(const char *path, sqlite3 **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	sqlite3 *db = NULL;
	int rc, r;

	pthread_once(&once, sqlite_setup);
	rc = sqlite3_open_v2(path, &db,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
			     NULL);
	if (rc != SQLITE_OK) {
		r = sqlite_fail(db, rc, "open");
		sqlite3_close(db);
		return r;
	}
	sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
	*out = db;
	return 0;
}

static int sync_directory_of(const char *path)
{
	AUTO_STR copy = mem_strdup(path);
	AUTO_FD fd = -1;

	if (copy == NULL)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0) {
		int r = -errno;

		log_error("index-failed", "step=sync-directory error=%s", err_name(r));
		return r == -ENOSPC ? r : -EIO;
	}
	return 0;
}

static int fill_new(sqlite3 *db, const struct inode_row *root)
{
	struct sqlite_conn conn = {.db = db};
	struct engine_meta meta = {
		.highest.ino = root->ino,
		.inodes = 1,
		.directories = 1,
	};
	int r;

	r = exec_printf(db,
			"PRAGMA page_size=%d; PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;"
			"BEGIN; PRAGMA application_id=%d; PRAGMA user_version=%d;",
			PAGE_BYTES, APPLICATION_ID, ENGINE_SCHEMA_VERSION);
	if (r == 0)
		r = sqlite_exec(db, schema_sql);
	if (r == 0)
		r = sqlite_put_inode(&conn.base, root);
	if (r == 0)
		r = sqlite_put_meta(&conn.base, &meta);
	for (size_t i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(conn.stmts[i]);
	buf_release(&conn.scratch);
	if (r == 0)
		r = sqlite_exec(db, "COMMIT");
	return r;
}

static int build_new(const char *path, const struct inode_row *root)
{
	AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	sqlite3 *db = NULL;
	int r;

	if (fd < 0)
		return -errno;
	r = sqlite_open_db(path, &db);
	if (r < 0)
		return r;
	r = fill_new(db, root);
	if (sqlite3_close(db) != SQLITE_OK && r == 0)
		r = -EIO;
	return r;
}

static int sqlite_create(const char *path, const struct inode_row *root)
{
	AUTO_STR new_path = mem_printf("%s.new", path);
	int r;

	if (new_path == NULL)
		return -ENOMEM;
	if (access(path, F_OK) == 0)
		return -EEXIST;
	r = build_new(new_path, root);
	if (r == 0 && link(new_path, path) < 0)
		r = -errno;
	unlink(new_path);
	return r < 0 ? r : sync_directory_of(path);
}

/* ---- opening ---- */

/*
 * Migrations: entry n leads from schema n to n + 1, in one transaction with
 * the new version.  They are history: they never change and never refer to
 * schema.sql, which only knows the newest.  (SQL_COUNTERS is schema 1's; when a
 * schema changes what it reads, its text of today moves in here.)
 */
struct migration {
	const char *sql;
};

static const struct migration migrations[ENGINE_SCHEMA_VERSION] = {
	/* 0, of the first prototypes, had neither directory counters nor key epochs. */
	[0] = {"CREATE TABLE dir_counter (ino INTEGER PRIMARY KEY, files INTEGER NOT NULL, "
	       "directories INTEGER NOT NULL, bytes INTEGER NOT NULL, as_of INTEGER NOT NULL, "
	       "state_local INTEGER, state_replicating INTEGER, state_protected INTEGER, "
	       "state_degraded INTEGER, state_endangered INTEGER, state_lost INTEGER) STRICT;"
	       "CREATE TABLE key_epoch (epoch INTEGER PRIMARY KEY, state INTEGER NOT NULL, "
	       "created_sec INTEGER NOT NULL) STRICT;"
	       "INSERT INTO dir_counter(ino,files,directories,bytes,as_of) "
	       "SELECT c.ino,files,directories,c.bytes,applied_seq FROM (" SQL_COUNTERS
	       ") c CROSS JOIN (SELECT applied_seq FROM meta);"},
	/* 1 had snapshots that nobody could make. */
	[1] = {"ALTER TABLE snapshot ADD COLUMN files INTEGER NOT NULL DEFAULT 0;"
	       "ALTER TABLE snapshot ADD COLUMN directories INTEGER NOT NULL DEFAULT 0;"
	       "ALTER TABLE snapshot ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;"
	       "CREATE INDEX snapshot_by_seq ON snapshot (seq);"
	       "CREATE INDEX inode_history_by_death ON inode_history (death);"
	       "CREATE INDEX dirent_history_by_death ON dirent_history (death);"
	       "CREATE INDEX dirent_history_by_name ON dirent_history (parent, name);"
	       "CREATE INDEX xattr_history_by_death ON xattr_history (death);"
	       "CREATE INDEX symlink_history_by_death ON symlink_history (death);"
	       "CREATE INDEX extent_history_by_death ON extent_history (death);"},
};

static int migrate(sqlite3 *db, int64_t version)
{
	int r;

	for (; version < ENGINE_SCHEMA_VERSION; version++) {
		r = sqlite_exec(db, "BEGIN IMMEDIATE");
		if (r == 0)
			r = sqlite_exec(db, migrations[version].sql);
		if (r == 0)
			r = exec_printf(db, "PRAGMA user_version=%" PRId64, version + 1);
		if (r == 0)
			r = sqlite_exec(db, "COMMIT");
		if (r < 0) {
			sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
			return r;
		}
		log_info("index-migrated", "from=%" PRId64 " to=%" PRId64, version, version + 1);
	}
	return 0;
}

static int check_version(sqlite3 *db, const char *path, struct buf *why)
{
	int64_t application_id = 0, version = 0, rows = 0;
	int r = query_int(db, "PRAGMA application_id", &application_id);

	if (r == 0)
		r = query_int(db, "PRAGMA user_version", &version);
	if (r == 0 && application_id != APPLICATION_ID)
		r = -EUCLEAN;
	if (r == 0 && (version < 0 || version > ENGINE_SCHEMA_VERSION)) {
		buf_printf(why, "%s: index of schema %" PRId64
			   " was made by a newer version of shardfs; this one knows schema %d",
			   path, version, ENGINE_SCHEMA_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (r == 0)
		r = migrate(db, version);
	if (r == 0)
		r = query_int(db, "SELECT count(*) FROM meta", &rows);
	if (r == 0 && rows != 1)
		r = -EUCLEAN;
	if (r == -EUCLEAN)
		buf_printf(why, "%s: %s; restore it or recover it from the providers", path,
			   application_id != APPLICATION_ID ? "not an index of shardfs"
							    : "the index is damaged");
	return r;
}

static void sqlite_close(struct engine *base)
{
	struct sqlite_engine *engine;

	if (base == NULL)
		return;
	engine = sqlite_engine_of(base);
	mem_free(engine->path);
	mem_free(engine);
}

static int sqlite_open(const struct index_settings *settings, struct buf *why, struct engine **out)
{
	struct sqlite_engine *engine;
	sqlite3 *db = NULL;
	int r;

	if (access(settings->path, F_OK) < 0)
		return -errno;
	r = sqlite_open_db(settings->path, &db);
	if (r < 0)
		return r;
	r = check_version(db, settings->path, why);
	sqlite3_close(db);
	if (r < 0)
		return r;
	engine = mem_alloc(sizeof(*engine));
	if (engine == NULL)
		return -ENOMEM;
	engine->base.ops = &sqlite_engine;
	engine->page_cache_bytes = settings->page_cache_bytes;
	engine->path = mem_strdup(settings->path);
	if (engine->path == NULL) {
		mem_free(engine);
		return -ENOMEM;
	}
	*out = &engine->base;
	return 0;
}

/* ---- connections ---- */

static void sqlite_conn_close(struct engine_conn *base)
{
	struct sqlite_conn *conn;

	if (base == NULL)
		return;
	conn = sqlite_conn_of(base);
	for (size_t i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(conn->stmts[i]);
	if (conn->db != NULL && sqlite3_close(conn->db) != SQLITE_OK)
		sqlite_fail(conn->db, SQLITE_IOERR, "close");
	buf_release(&conn->scratch);
	mem_free(conn);
}

static int conn_setup(struct sqlite_conn *conn, bool is_writer)
{
	uint64_t cache_kib = conn->engine->page_cache_bytes / KIB;
	int64_t pages = 0;
	int r = sqlite_open_db(conn->engine->path, &conn->db);

	if (r == 0)
		r = exec_printf(conn->db,
				"PRAGMA cache_size=-%" PRIu64 "; PRAGMA mmap_size=0;"
				"PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;",
				cache_kib > 0 ? cache_kib : 2048);
	if (r == 0 && is_writer)
		r = sqlite_exec(conn->db,
				"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
				"PRAGMA wal_autocheckpoint=0; PRAGMA cache_spill=ON;");
	else if (r == 0)
		r = sqlite_exec(conn->db, "PRAGMA query_only=ON");
	/* Opens the log now, so that the first request does not pay for it. */
	return r < 0 ? r : query_int(conn->db, "SELECT count(*) FROM meta", &pages);
}

static int sqlite_conn_open(struct engine *engine, bool is_writer, struct engine_conn **out)
{
	struct sqlite_conn *conn = mem_alloc(sizeof(*conn));
	int r;

	if (conn == NULL)
		return -ENOMEM;
	conn->base.ops = &sqlite_engine;
	conn->engine = sqlite_engine_of(engine);
	r = conn_setup(conn, is_writer);
	if (r < 0) {
		sqlite_conn_close(&conn->base);
		return r;
	}
	*out = &conn->base;
	return 0;
}

/* ---- transactions ---- */

static int sqlite_begin(struct engine_conn *conn)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_BEGIN, "");
}

static int sqlite_commit(struct engine_conn *conn)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_COMMIT, "");
}

static void sqlite_rollback(struct engine_conn *base)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);

	/* Some failures (a full disk) have rolled back already. */
	if (sqlite3_get_autocommit(conn->db) == 0)
		sqlite_run(conn, SQL_ROLLBACK, "");
}

static int sqlite_hold(struct engine_conn *conn)
{
	return sqlite_run(sqlite_conn_of(conn), SQL_HOLD, "");
}

static void sqlite_let_go(struct engine_conn *conn)
{
	if (sqlite_run(sqlite_conn_of(conn), SQL_COMMIT, "") < 0)
		sqlite_rollback(conn);
}

static int sync_log(struct sqlite_conn *conn, uint64_t *bytes)
{
	AUTO_STR path = mem_printf("%s-wal", conn->engine->path);
	AUTO_FD fd = -1;
	struct stat st;
	int r;

	if (path == NULL)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fdatasync(fd) < 0 || fstat(fd, &st) < 0) {
		r = errno == ENOSPC ? -ENOSPC : -EIO;
		log_error("index-failed", "step=sync-log error=%s", err_name(errno));
		return r;
	}
	*bytes = (uint64_t)st.st_size;
	if (conn->is_wal_named)
		return 0;
	r = sync_directory_of(conn->engine->path);
	conn->is_wal_named = r == 0;
	return r;
}

static int sqlite_checkpoint(struct engine_conn *base)
{
	struct sqlite_conn *conn = sqlite_conn_of(base);
	uint64_t wal_bytes;
	int rc, r;

	if (HOOK_BROKEN("skip-index-sync"))
		return 0;
	rc = sqlite3_wal_checkpoint_v2(conn->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	if (rc != SQLITE_OK && rc != SQLITE_BUSY)
		return sqlite_fail(conn->db, rc, "checkpoint");
	r = sync_log(conn, &wal_bytes);
	if (r < 0 || wal_bytes <= WAL_BYTES_MAX)
		return r;
	/* Readers kept it from starting again: wait a moment for them, and cut it. */
	sqlite3_busy_timeout(conn->db, CUT_TIMEOUT_MS);
	rc = sqlite3_wal_checkpoint_v2(conn->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite3_busy_timeout(conn->db, BUSY_TIMEOUT_MS);
	if (rc != SQLITE_OK && rc != SQLITE_BUSY)
		return sqlite_fail(conn->db, rc, "checkpoint");
	return 0;
}

const struct engine_ops sqlite_engine = {
	.type = "sqlite",
	.create = sqlite_create,
	.open = sqlite_open,
	.close = sqlite_close,
	.conn_open = sqlite_conn_open,
	.conn_close = sqlite_conn_close,
	.get_meta = sqlite_get_meta,
	.find_dirent = sqlite_find_dirent,
	.list_dirents = sqlite_list_dirents,
	.get_inode = sqlite_get_inode,
	.get_symlink = sqlite_get_symlink,
	.get_xattr = sqlite_get_xattr,
	.list_xattrs = sqlite_list_xattrs,
	.visit_extents = sqlite_visit_extents,
	.last_extent_end = sqlite_last_extent_end,
	.find_chunk = sqlite_find_chunk,
	.get_chunk = sqlite_get_chunk,
	.list_chunks = sqlite_list_chunks,
	.get_shard = sqlite_get_shard,
	.find_shard = sqlite_find_shard,
	.list_shards = sqlite_list_shards,
	.list_copies = sqlite_list_copies,
	.list_copies_in_state = sqlite_list_copies_in_state,
	.list_verified = sqlite_list_verified,
	.count_verified = sqlite_count_verified,
	.list_providers = sqlite_list_providers,
	.get_policy = sqlite_get_policy,
	.list_policies = sqlite_list_policies,
	.get_setting = sqlite_get_setting,
	.list_orphans = sqlite_list_orphans,
	.list_snapshots = sqlite_list_snapshots,
	.view_find_dirent = sqlite_view_find_dirent,
	.view_list_dirents = sqlite_view_list_dirents,
	.view_get_inode = sqlite_view_get_inode,
	.view_get_symlink = sqlite_view_get_symlink,
	.view_get_xattr = sqlite_view_get_xattr,
	.view_list_xattrs = sqlite_view_list_xattrs,
	.view_visit_extents = sqlite_view_visit_extents,
	.view_subtree_shards = sqlite_view_subtree_shards,
	.list_old = sqlite_list_old,
	.count_history = sqlite_count_history,
	.list_changed = sqlite_list_changed,
	.list_audit = sqlite_list_audit,
	.last_audit = sqlite_last_audit,
	.get_counter = sqlite_get_counter,
	.subtree_newest = sqlite_subtree_newest,
	.subtree_shards = sqlite_subtree_shards,
	.dump = sqlite_dump,
	.prove = sqlite_prove,
	.hold = sqlite_hold,
	.let_go = sqlite_let_go,
	.begin = sqlite_begin,
	.commit = sqlite_commit,
	.rollback = sqlite_rollback,
	.checkpoint = sqlite_checkpoint,
	.put_meta = sqlite_put_meta,
	.put_inode = sqlite_put_inode,
	.put_old_inode = sqlite_put_old_inode,
	.del_inode = sqlite_del_inode,
	.put_dirent = sqlite_put_dirent,
	.del_dirent = sqlite_del_dirent,
	.put_xattr = sqlite_put_xattr,
	.del_xattr = sqlite_del_xattr,
	.put_symlink = sqlite_put_symlink,
	.put_extent = sqlite_put_extent,
	.put_old_extent = sqlite_put_old_extent,
	.del_extents = sqlite_del_extents,
	.put_chunk = sqlite_put_chunk,
	.put_chunk_refs = sqlite_put_chunk_refs,
	.del_chunk = sqlite_del_chunk,
	.put_chunk_name = sqlite_put_chunk_name,
	.del_chunk_name = sqlite_del_chunk_name,
	.put_shard = sqlite_put_shard,
	.del_shard = sqlite_del_shard,
	.put_copy = sqlite_put_copy,
	.del_copy = sqlite_del_copy,
	.put_orphan = sqlite_put_orphan,
	.del_orphan = sqlite_del_orphan,
	.put_provider = sqlite_put_provider,
	.put_policy = sqlite_put_policy,
	.del_policy = sqlite_del_policy,
	.put_setting = sqlite_put_setting,
	.put_snapshot = sqlite_put_snapshot,
	.del_snapshot = sqlite_del_snapshot,
	.put_audit = sqlite_put_audit,
	.cut_audit = sqlite_cut_audit,
	.drop_history = sqlite_drop_history,
	.put_old_dirent = sqlite_put_old_dirent,
	.put_old_xattr = sqlite_put_old_xattr,
	.put_old_symlink = sqlite_put_old_symlink,
	.put_counter = sqlite_put_counter,
};
