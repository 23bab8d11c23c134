/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_JOURNAL_FORMAT_H
#define SHARDFS_STORE_JOURNAL_FORMAT_H

/*
 * The bytes of a journal file, without I/O.  shardfs-format(5), JOURNAL, lists
 * the offsets.  Private to store/journal*.c, tests and the fuzz target.
 *
 *   header (128 bytes, authenticated)   frame   frame   frame ...
 *
 * Every frame is a multiple of 64 bytes long and starts at one: a plain head of
 * 16 bytes (length, kind, number), then the sealed body, padded before sealing
 * so that lengths of names do not show.  A mark is exactly one slot of 64
 * bytes; so marks are found without following lengths, whatever lies before.
 *
 * The key of a file comes from its random salt; a frame's number is its nonce,
 * the header's is 0.  Numbers grow within a file and may have gaps (a failed
 * append takes its number with it).
 *
 * Threads: no state of its own; each context belongs to one thread.
 */

#include "crypto/aead.h"
#include "crypto/superblock.h"
#include "index/record.h"

#define JOURNAL_VERSION         1u
#define JOURNAL_HEADER_BYTES    ((size_t)128)
#define JOURNAL_SLOT_BYTES      ((size_t)64)
#define JOURNAL_HEAD_BYTES      ((size_t)16) /* plain, before each sealed body */
#define JOURNAL_FRAME_BYTES_MAX ((size_t)16 << 20)
#define JOURNAL_SALT_BYTES      ((size_t)32)

enum journal_frame_kind { JOURNAL_RECORDS = 0x52534a31, JOURNAL_MARK = 0x4d4b4a31 };

/*
 * A run is what one journal_open began: its first file (number == run_no) and
 * those begun when one was full or given up.  A file of a later run supersedes
 * every record from run_first_seq on in files of earlier runs.
 */
struct journal_header {
	struct fs_id fs_id;
	uint64_t writer_epoch;
	uint64_t number;
	uint64_t run_no;
	uint64_t run_first_seq;
	uint32_t key_epoch;
	uint8_t salt[JOURNAL_SALT_BYTES];
};

/* What seals and opens the frames of one file. Wipe with journal_seal_release. */
struct journal_seal {
	struct aead_key key;
	struct fs_id fs_id;
	uint64_t writer_epoch, number;
};
#define JOURNAL_SEAL_INIT {0}
void journal_seal_release(struct journal_seal *seal);

/* Takes nonce 0 of the file's key.  0, -ENOMEM, -EIO. */
int journal_header_write(struct aead_ctx *ctx, const struct aead_key *key,
			 const struct journal_header *header, uint8_t out[JOURNAL_HEADER_BYTES]);
/* NOT authenticated yet.  -EBADMSG: not a journal file; -EPROTONOSUPPORT: a newer version. */
int journal_header_read(struct bytes file, struct journal_header *out);
/* 0 or -EBADMSG; -ENOMEM, -EIO. */
int journal_header_verify(struct aead_ctx *ctx, const struct aead_key *key, struct bytes file);

/*
 * Encode one frame, appended to out.  Takes `number` of the file's nonces, also
 * on failure.  -E2BIG: over JOURNAL_FRAME_BYTES_MAX; -ENOMEM; -EIO; out is unchanged then.
 */
int journal_frame_records(struct aead_ctx *ctx, const struct journal_seal *seal, uint64_t number,
			  struct record *const *records, size_t count, struct buf *out);
int journal_frame_mark(struct aead_ctx *ctx, const struct journal_seal *seal, uint64_t number,
		       uint64_t synced_seq, struct buf *out);
/* Bytes that a record takes in a frame, at most. */
size_t journal_record_bytes(const struct record *record);

/*
 * The largest synced_seq of the authentic marks of a file; *found says whether
 * there is one.  Bytes between them need not make sense.  -ENOMEM, -EIO.
 */
int journal_find_marks(struct aead_ctx *ctx, const struct journal_seal *seal, struct bytes file,
		       bool *found, uint64_t *synced_seq);

/*
 * Walks the authentic frames of a file in order.
 *
 * What does not authenticate is skipped: the walk goes on at the next slot from
 * which a frame with a higher number opens.  is_gap then says so with the frame
 * behind it, and bad_off tells where the first such byte is (len: nowhere).
 */
struct journal_walk {
	struct aead_ctx *ctx;
	const struct journal_seal *seal;
	struct bytes file;
	size_t off;
	uint64_t last_number;
	size_t bad_off;  /* of the first frame that did not open; SIZE_MAX: all did */
	bool is_gap;     /* bytes were skipped just before the frame handed out last */
	unsigned tries_left; /* bounds the search behind damage */
	struct buf body;     /* of the frame handed out last */
};

struct journal_frame {
	enum journal_frame_kind kind;
	size_t off;
	uint64_t number;
	uint64_t synced_seq;  /* mark */
	uint64_t first_seq;   /* records */
	uint32_t count;
	struct bytes records; /* borrowed from the walk until its next step */
};

void journal_walk_init(struct journal_walk *walk, struct aead_ctx *ctx,
		       const struct journal_seal *seal, struct bytes file);
void journal_walk_release(struct journal_walk *walk);
int journal_walk_next(struct journal_walk *walk, struct journal_frame *frame); /* 1, 0, -errno */

/*
 * The body of a frame once it is open, and the records in it.  Pure; also for
 * bytes that nobody authenticated.  -EBADMSG.
 */
int journal_body_parse(enum journal_frame_kind kind, struct bytes body,
		       struct journal_frame *frame);
/* Takes the next record off `left`; changes are copied into record (its seq is the caller's). */
int journal_body_record(struct bytes *left, struct record *record);

#endif
