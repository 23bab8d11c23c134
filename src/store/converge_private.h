/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_CONVERGE_PRIVATE_H
#define SHARDFS_STORE_CONVERGE_PRIVATE_H

/* What converge.c (the queue, the walks, rows) and converge_data.c share. */

#include "store/converge.h"
#include "store/store_private.h"

#define EVERYTHING 0ull /* an entry for the whole file system */
#define ROWS_BATCH 32u /* inodes in one record */
#define VERDICTS   256u

struct entry {
	uint64_t ino;	/* or EVERYTHING */
	uint64_t stamp; /* moves when it is added again */
	bool has_rows;	/* the first walk is done */
};

struct queue_state {
	struct entry entries[CONVERGE_ENTRIES_MAX];
	unsigned count;
};

struct frame { /* a directory that a walk is in */
	uint64_t ino, after, root;
	struct dirent_list page;
	size_t at;
	bool is_last;
};

struct verdict {
	uint64_t shard_no, root;
	bool moves, is_known, only_unshared;
};

struct converge {
	struct store *store;
	struct index_reader *reader;
	pthread_t thread;
	bool has_thread;

	struct lock lock; /* LOCK_WRITER: guards the next five */
	struct cond wake;
	bool is_stopping;
	uint64_t next_stamp;
	struct queue_state queue, saved; /* saved: before converge_begin */
	_Atomic unsigned pending;

	/* the thread's */
	struct entry entry; /* at hand */
	bool is_data, is_left;
	struct frame *frames;
	size_t depth, frame_capacity;
	uint64_t files[ROWS_BATCH], file_root;
	unsigned file_count;
	uint64_t chunks[GC_RELOCATE_MAX], chunk_bytes, chunk_root, last_chunk;
	size_t chunk_count;
	struct verdict verdicts[VERDICTS];
};

/* converge.c: rows of an entry wait while this one moves data, or it was added again, or all stops. */
bool converge_is_interrupted(struct converge *converge);

/*
 * converge_data.c
 *
 * converge_data_of_file - offers what the file has; full batches move.
 * converge_flush_chunks - moves the rest; is_left: some did, so another walk must see what became of it.
 * Both: 0; -EINTR: something else is to be done first; errors of index and gc.
 */
int converge_data_of_file(struct converge *converge, uint64_t ino);
int converge_flush_chunks(struct converge *converge);

#endif
