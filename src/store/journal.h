/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_JOURNAL_H
#define SHARDFS_STORE_JOURNAL_H

/*
 * THE COMMIT POINT.  Append-only files of sealed frames in one directory; a
 * frame holds one or more records with consecutive sequence numbers, or the
 * mark "everything up to N is synced, the spool bytes that it names included".
 *
 * Each file starts with magic, version, fs id, writer epoch, number and a fresh
 * 256-bit salt from which its own key is derived; frames are numbered in the
 * file and the number is the nonce, taken once even if the append fails.  A
 * file belongs to the process that made it and is never extended by another.
 * shardfs-format(5) lists the bytes, store/journal_format.h makes them.
 *
 * Threads: append and mark by one thread at a time (the sequencer sees to it);
 * sync by the syncer alone (concurrently with append); drop by the applier
 * alone; bytes by any.
 */

#include "crypto/keyring.h"
#include "index/record.h"

#include <stdbool.h>

struct journal;

#define JOURNAL_RECORD_BYTES_MAX ((size_t)8 << 20) /* encoded changes of one record */

struct journal_settings {
	const char *dir;         /* exists, mode 0700; copied */
	struct keyring *keyring; /* borrowed, outlives the journal */
	uint64_t file_bytes_max; /* a new file is begun beyond this; 1 MiB .. 1 GiB.  Replay
				  * holds one whole file in memory */
	uint64_t writer_epoch;
};

/*
 * journal_open - begins a new file whose first record will be next_seq (>= 1);
 * files that are there stay until dropped.
 *
 * To open IS A MARK for next_seq - 1: what was replayed is the truth from now
 * on, and whatever older files hold from next_seq on is void.  So the caller
 * has replayed with success (next_seq is one more than info.last_seq) and made
 * the spool bytes that those records name durable.  The older journal files are
 * synced here, before the new one exists.
 *
 * -ENOSPC, -EIO, -EACCES, -ENOENT (dir), -ENOKEY, -ENOMEM.
 */
int journal_open(const struct journal_settings *settings, uint64_t next_seq,
		 struct journal **out);
void journal_close(struct journal *journal); /* does not sync; accepts NULL */

/*
 * journal_append - writes one frame of 1 .. JOURNAL_BATCH_RECORDS_MAX records with
 * consecutive numbers, without sync (except when a new file has to be begun in
 * need: the one that was to follow could not be made ready by journal_sync).
 * On failure (-ENOSPC, -EIO, -ENOMEM) none of the records counts; the frame's
 * bytes are cut off again or the file is given up and the next append begins
 * another.  -E2BIG: over JOURNAL_BATCH_BYTES_MAX by journal_record_cost.
 */
#define JOURNAL_BATCH_RECORDS_MAX ((size_t)4096)
#define JOURNAL_BATCH_BYTES_MAX   ((size_t)12 << 20)
size_t journal_record_cost(const struct record *record);
int journal_append(struct journal *journal, struct record *const *records, size_t count);
int journal_append_mark(struct journal *journal, uint64_t synced_seq);

/*
 * journal_sync - fdatasync of every file with unsynced bytes.  What was appended
 * before the call is durable when it returns 0.
 *
 * On failure nothing is known about the bytes since the last sync that succeeded
 * (the kernel may have dropped them), and a later fdatasync would not tell.  So
 * the files concerned are given up, and THE CALLER MUST APPEND AGAIN every record
 * behind the last synced one; they go to a new file under the same numbers.
 */
int journal_sync(struct journal *journal);

/*
 * journal_drop - removes the files all of whose records are <= seq, oldest first,
 * each removal durable before the next; never the current one.  -EIO: try later.
 */
int journal_drop(struct journal *journal, uint64_t seq);
uint64_t journal_bytes(struct journal *journal); /* of all files */

struct journal_replay_info {
	uint64_t last_seq;       /* newest record that was handed out; after_seq if none */
	uint64_t synced_seq;     /* newest mark, or journal_open */
	uint64_t records;        /* handed out */
	uint64_t dropped_bytes;  /* torn, or behind the end of the replay */
	uint64_t damaged_frames; /* places before the last mark that did not authenticate: named in
				  * the log; harmless when their records are <= after_seq or
				  * were appended again later */
};

/*
 * journal_replay - reads what is in dir in order and calls apply for each
 * record with seq > after_seq.  is_synced: at or before the last mark.
 * Behind the last mark the first torn or unauthentic frame ends it.  Before
 * the mark such a frame is damage: -EUCLEAN after naming file and offset.
 * apply returns 0, 1 to end the replay before this record (its spool bytes
 * do not authenticate), or a negative errno to stop with it.  The record is
 * apply's (record_free), whatever it returns.
 *
 * Two files that hold the same number: a later journal_open wins from its
 * next_seq on (writer epoch first, then file number); within one run they are
 * the same record, appended again after a failure.
 *
 * -EUCLEAN also: the file belongs to another file system, a number is missing,
 * a header is damaged.  -EPROTONOSUPPORT: written by a newer version.  -ENOKEY:
 * its key epoch is unknown or destroyed.  -EIO, -ENOMEM, -EACCES, -ENOENT (dir).
 * info is filled on success only.
 */
int journal_replay(const struct journal_settings *settings, uint64_t after_seq,
		   int (*apply)(void *ctx, struct record *record, bool is_synced), void *ctx,
		   struct journal_replay_info *info);

#endif
