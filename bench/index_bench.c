/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the index costs: bytes on disk for each chunk, extent, shard and copy
 * against the budgets of DESIGN section 6, changes applied in a second for a
 * mix like the creation of small files, and the time of look-ups.
 *
 *	bin/bench/index [ROWS [DIRECTORY]]	default 1000000, $TMPDIR
 *
 * Prints; judges nothing, since machines differ.
 */
#include "index/index.h"
#include "util/clock.h"
#include "util/map.h"
#include "util/mem.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_RECORDS 2000
#define SHARD_CHUNKS  256
#define DIR_FILES     200

struct bench {
	char path[4096];
	uint64_t rows;
	struct index *index;
	struct index_reader *reader;
	uint64_t seq, ino, cookie, chunk_no, shard_no;
	struct record *batch[BATCH_RECORDS];
	size_t count;
	uint64_t changes;
	uint64_t note_ns, apply_ns;
};

static void check(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "%s: %d\n", what, r);
	exit(1);
}

static struct chunk_id id_of(uint64_t chunk_no)
{
	struct chunk_id id;

	for (size_t i = 0; i < sizeof(id.b); i += 8) {
		uint64_t v = map_hash_u64(chunk_no * 4 + i);

		memcpy(id.b + i, &v, 8);
	}
	return id;
}

static void flush(struct bench *bench)
{
	uint64_t start = clock_mono_ns();

	for (size_t i = 0; i < bench->count; i++)
		check(index_note(bench->index, bench->batch[i]), "note");
	bench->note_ns += clock_mono_ns() - start;
	start = clock_mono_ns();
	check(index_apply(bench->index, bench->batch, bench->count), "apply");
	check(index_checkpoint(bench->index), "checkpoint");
	bench->apply_ns += clock_mono_ns() - start;
	while (bench->count > 0)
		record_free(bench->batch[--bench->count]);
}

static void submit(struct bench *bench, struct record *record)
{
	record->seq = ++bench->seq;
	bench->changes += record->change_count;
	bench->batch[bench->count++] = record;
	if (bench->count == BATCH_RECORDS)
		flush(bench);
}

static void put_shard(struct bench *bench, struct record *record)
{
	struct shard_row row = {
		.shard_no = ++bench->shard_no,
		.state = SHARD_DURABLE,
		.key_epoch = 1,
		.writer_epoch = 1,
		.policy_root = 1,
		.object_len = 16 * MIB + (bench->shard_no & 0xffff),
		.record_count = SHARD_CHUNKS,
		.sealed_sec = 1760000000 + (int64_t)bench->shard_no,
	};
	struct chunk_id random = id_of(bench->shard_no << 32);

	memcpy(row.id.b, random.b, sizeof(row.id.b));
	memcpy(row.mac, random.b, sizeof(row.mac));
	record_put_shard(record, &row);
}

static void put_copies(struct record *record, uint64_t shard_no)
{
	for (uint32_t provider = 1; provider <= 3; provider++) {
		struct copy_row copy = {
			.shard_no = shard_no,
			.provider_no = provider,
			.state = COPY_VERIFIED,
			.changed_sec = 1790000000 + (int64_t)(shard_no % 100000) + provider,
			.verified_sec = 1791000000 + (int64_t)(shard_no % 100000),
		};

		record_put_copy(record, &copy);
	}
}

static void put_chunk(struct bench *bench, struct record *record)
{
	struct chunk_row row = {
		.chunk_no = ++bench->chunk_no,
		.shard_no = bench->shard_no,
		.record_no = (uint32_t)(bench->chunk_no % SHARD_CHUNKS),
		.off = (uint32_t)(bench->chunk_no % SHARD_CHUNKS) * 65536,
		.stored_len = 60000 + (uint32_t)(bench->chunk_no % 5000),
		.raw_len = 110000 + (uint32_t)(bench->chunk_no % 5000),
	};

	row.id = id_of(row.chunk_no);
	record_put_chunk(record, &row);
}

static void put_file(struct bench *bench, struct record *record, uint64_t parent, uint32_t mode)
{
	struct inode_row row = {
		.ino = ++bench->ino,
		.mode = mode,
		.uid = 1000,
		.gid = 1000,
		.nlink = S_ISDIR(mode) ? 2 : 1,
		.size = S_ISREG(mode) ? 110000 : 0,
		.mtime = {1790000000 + (int64_t)bench->ino, (uint32_t)bench->ino * 7919 % 1000000000},
		.parent = parent,
		.policy_root = 1,
	};
	char name[32];

	row.atime = row.ctime = row.btime = row.mtime;
	record_put_inode(record, &row);
	snprintf(name, sizeof(name), "file-%08" PRIu64 ".dat", bench->ino);
	record_put_dirent(record, parent, ++bench->cookie, bytes_of_str(name), bench->ino,
			  mode >> 12);
}

static void put_parent(struct bench *bench, struct record *record, uint64_t parent)
{
	struct inode_row row = {.ino = parent, .mode = S_IFDIR | 0755, .nlink = 2, .parent = 1,
				.policy_root = 1,
				.mtime = {1790000000 + (int64_t)bench->ino, 5}};

	if (parent != INO_ROOT)
		record_put_inode(record, &row);
}

/* Creating small files: for each a record with names and one with data. */
static void create_files(struct bench *bench, uint64_t count)
{
	uint64_t parent = INO_ROOT;

	for (uint64_t i = 0; i < count; i++) {
		struct record *record = record_new();
		struct extent_row extent;

		if (i % DIR_FILES == 0) {
			put_file(bench, record, INO_ROOT, S_IFDIR | 0755);
			parent = bench->ino;
			submit(bench, record);
			record = record_new();
		}
		put_parent(bench, record, parent);
		put_file(bench, record, parent, S_IFREG | 0644);
		submit(bench, record);
		record = record_new();
		if (i % SHARD_CHUNKS == 0)
			put_shard(bench, record);
		put_chunk(bench, record);
		extent = (struct extent_row){.ino = bench->ino, .len = 110000,
					     .chunk_no = bench->chunk_no};
		record_put_extent(record, &extent);
		put_parent(bench, record, parent);
		submit(bench, record);
	}
	flush(bench);
}

/* Rows alone, for their size. */
static void fill_shards(struct bench *bench, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		struct record *record = record_new();

		put_shard(bench, record);
		put_copies(record, bench->shard_no);
		submit(bench, record);
	}
	flush(bench);
}

static double table_bytes(struct bench *bench, const char *names)
{
	sqlite3_stmt *stmt = NULL;
	sqlite3 *db = NULL;
	double bytes = 0;
	char sql[512];

	snprintf(sql, sizeof(sql), "SELECT sum(pgsize) FROM dbstat WHERE name IN (%s)", names);
	if (sqlite3_open_v2(bench->path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
	    sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		bytes = sqlite3_column_double(stmt, 0);
	else
		fprintf(stderr, "dbstat: %s\n", sqlite3_errmsg(db));
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return bytes;
}

static void print_size(struct bench *bench, const char *what, const char *tables, uint64_t rows,
		       unsigned budget)
{
	double each = table_bytes(bench, tables) / (double)rows;

	printf("%-10s %8.1f bytes each", what, each);
	if (budget > 0)
		printf(", budget %3u%s", budget, each > budget ? "  OVER" : "");
	printf("\n");
}

static double now_us(void)
{
	return (double)clock_mono_ns() / 1000;
}

static void print_lookups(struct bench *bench, uint64_t files)
{
	const unsigned rounds = 200000;
	AUTO(extent_list) extents = ROW_LIST_INIT;
	struct dirent_row dirent;
	struct inode_row inode;
	struct chunk_row chunk;
	uint64_t state = 1, covered;
	double start = now_us();

	for (unsigned i = 0; i < rounds; i++)
		check(index_get_inode(bench->index, bench->reader,
				      1 + (state = map_hash_u64(state)) % files, &inode),
		      "inode");
	printf("get inode            %6.2f us\n", (now_us() - start) / rounds);
	start = now_us();
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t ino = 2 + (state = map_hash_u64(state)) % (files - 2);
		uint64_t group = (ino - 2) / (DIR_FILES + 1);
		uint64_t dir = 2 + group * (DIR_FILES + 1);
		char name[32];

		if (ino == dir)
			ino++;
		snprintf(name, sizeof(name), "file-%08" PRIu64 ".dat", ino);
		check(index_find_dirent(bench->index, bench->reader, dir, bytes_of_str(name),
					&dirent),
		      "dirent");
	}
	printf("find name            %6.2f us (%s cached)\n", (now_us() - start) / rounds,
	       files > 100000 ? "few" : "most");
	start = now_us();
	for (unsigned i = 0; i < rounds; i++) {
		struct chunk_id id = id_of(1 + (state = map_hash_u64(state)) % bench->chunk_no);

		check(index_find_chunk(bench->index, bench->reader, &id, &chunk), "chunk");
	}
	printf("find chunk           %6.2f us\n", (now_us() - start) / rounds);
	start = now_us();
	for (unsigned i = 0; i < rounds; i++) {
		struct chunk_id id = id_of(UINT64_MAX - i);

		index_find_chunk(bench->index, bench->reader, &id, &chunk);
	}
	printf("find no such chunk   %6.2f us\n", (now_us() - start) / rounds);
	start = now_us();
	for (unsigned i = 0; i < rounds; i++) {
		extents.count = 0;
		check(index_find_extents(bench->index, bench->reader,
					 1 + (state = map_hash_u64(state)) % files, 0, 1 << 20, 16,
					 &extents, &covered),
		      "extents");
	}
	printf("find extents         %6.2f us\n", (now_us() - start) / rounds);
	start = now_us();
	for (unsigned i = 0; i < rounds; i++)
		check(index_find_dirent(bench->index, NULL, dirent.parent,
					bytes_of(dirent.name, dirent.name_len), &dirent),
		      "memory");
	printf("find name in memory  %6.2f us\n", (now_us() - start) / rounds);
}

int main(int argc, char **argv)
{
	const char *dir = argc > 2 ? argv[2] : getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	struct inode_row root = {.ino = 1, .mode = S_IFDIR | 0755, .nlink = 2, .parent = 1,
				 .policy_root = 1};
	struct bench *bench = mem_alloc(sizeof(*bench));
	AUTO(buf) why = BUF_INIT;
	struct index_settings settings = {.cache_dirents_max = 65536, .page_cache_bytes = 64 * MIB};
	uint64_t files;
	double seconds;

	bench->rows = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000;
	snprintf(bench->path, sizeof(bench->path), "%s/index-bench-%d.db", dir, (int)getpid());
	settings.path = bench->path;
	bench->ino = INO_ROOT;
	check(index_create(bench->path, &root), "create");
	check(index_open(&settings, &why, &bench->index), "open");
	check(index_reader_open(bench->index, &bench->reader), "reader");

	create_files(bench, bench->rows);
	files = bench->ino;
	seconds = (double)bench->apply_ns / 1e9;
	printf("%" PRIu64 " files: %" PRIu64 " records, %" PRIu64 " changes\n", bench->rows,
	       bench->seq, bench->changes);
	printf("applied  %9.0f changes/s, %.0f files/s (with checkpoints)\n",
	       (double)bench->changes / seconds, (double)bench->rows / seconds);
	printf("noted    %9.0f changes/s\n",
	       (double)bench->changes / ((double)bench->note_ns / 1e9));
	print_lookups(bench, files);
	print_size(bench, "chunk", "'chunk','chunk_name','chunk_by_shard'", bench->rows, 100);
	print_size(bench, "extent", "'extent'", bench->rows, 32);
	print_size(bench, "inode", "'inode'", files, 0);
	print_size(bench, "name", "'dirent','dirent_by_name'", files, 0);
	fill_shards(bench, bench->rows - bench->shard_no);
	print_size(bench, "shard", "'shard','shard_by_id'", bench->shard_no, 100);
	if (getenv("SHARDFS_BENCH_TABLES") != NULL) {
		static const char *const names[] = {"shard", "shard_by_id", "chunk", "chunk_name", "chunk_by_shard", "dirent", "dirent_by_name"};

		for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
			char quoted[64];

			snprintf(quoted, sizeof(quoted), "'%s'", names[i]);
			print_size(bench, names[i], quoted, bench->rows, 0);
		}
	}
	print_size(bench, "copy", "'copy','copy_unsettled','copy_by_verified'", bench->shard_no * 3, 18);
	index_reader_close(bench->reader);
	index_close(bench->index);
	unlink(bench->path);
	mem_free(bench);
	return 0;
}
