/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_JOURNAL_H
#define SHARDFS_STORE_JOURNAL_H

/*
 * THE COMMIT POINT.  Append-only files of sealed frames in one directory; a
 * frame holds one or more records with consecutive sequence numbers, or the
 * mark "everything up to N is synced, the spool bytes that it names included".
 *
 * Each file starts with magic, version, fs id, writer epoch, first sequence
 * number and a fresh 256-bit salt from which its own key is derived; frames
 * are numbered in the file and the number is the nonce, taken once even if
 * the append fails.  A file belongs to the process that made it and is never
 * extended by another.  shardfs-format(5) lists the bytes.
 *
 * Threads: append and mark by the sequencer's thread alone; sync by the syncer
 * alone (concurrently with append); drop by the applier alone.
 */

#include "crypto/keyring.h"
#include "index/record.h"

struct journal;

struct journal_settings {
	const char *dir;
	const struct keyring *keyring; /* borrowed, outlives the journal */
	uint64_t file_bytes_max;       /* a new file is begun beyond this; 1 MiB .. 1 GiB */
	uint64_t writer_epoch;
};

/*
 * journal_open - begins a new file whose first record will be next_seq; files
 * that are there stay until dropped.  -ENOSPC, -EIO, -EACCES.
 */
int journal_open(const struct journal_settings *settings, uint64_t next_seq,
		 struct journal **out);
void journal_close(struct journal *journal); /* does not sync */

/*
 * journal_append - writes one frame, without sync.  On failure (-ENOSPC, -EIO)
 * none of the records counts; the frame's bytes are cut off again or the file
 * is given up and the next append begins another.
 */
int journal_append(struct journal *journal, struct record *const *records, size_t count);
int journal_append_mark(struct journal *journal, uint64_t synced_seq);

/* fdatasync of every file with unsynced bytes, and of the directory after a new file. */
int journal_sync(struct journal *journal);

/* Removes the files all of whose records are <= seq; never the current one. */
int journal_drop(struct journal *journal, uint64_t seq);
uint64_t journal_bytes(struct journal *journal); /* of all files */

struct journal_replay_info {
	uint64_t last_seq;     /* newest record that was handed out; after_seq if none */
	uint64_t synced_seq;   /* newest mark */
	uint64_t records;      /* handed out */
	uint64_t dropped_bytes; /* behind the first torn frame after the last mark */
	uint64_t damaged_frames; /* before the last mark: named in the log */
};

/*
 * journal_replay - reads what is in dir in order and calls apply for each
 * record with seq > after_seq.  is_synced: at or before the last mark.
 * Behind the last mark the first torn or unauthentic frame ends it.  Before
 * the mark such a frame is damage: -EUCLEAN after naming file and offset.
 * apply returns 0, 1 to end the replay before this record (its spool bytes
 * do not authenticate), or a negative errno to stop with it.
 * Gaps and repeats of sequence numbers across files are checked: where two
 * files hold the same number the file with the higher writer epoch, then the
 * later creation number, counts.
 */
int journal_replay(const struct journal_settings *settings, uint64_t after_seq,
		   int (*apply)(void *ctx, struct record *record, bool is_synced), void *ctx,
		   struct journal_replay_info *info);

#endif
