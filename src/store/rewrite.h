/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_REWRITE_H
#define SHARDFS_STORE_REWRITE_H

/*
 * Ranges of 1 MiB are written anew in the background, 5 s after their last write: when one holds
 * more than 64 extents (at 256 at once), or when it keeps chunks of which so much was overwritten
 * that the dead bytes are half as many as its own.  The bytes are read, cut and stored like new
 * ones, and one record lays the new extents, unless the range was changed meanwhile (then it is
 * tried again later).  Content, size and times stay as they are.
 *
 * The writer notes what it journals; a table of a fixed size counts.  One thread does the work.
 */

#include "codec/chunker.h"
#include "store/chunk.h"
#include "store/inode.h"
#include "store/reader.h"

#define REWRITE_RANGE	    MIB
#define REWRITE_EXTENTS	    64u	 /* a range with more is rewritten when it rests */
#define REWRITE_EXTENTS_MAX 256u /* and at once when it may have so many */
#define REWRITE_REST_MS	    5000u
#define REWRITE_TABLE	    8192u /* ranges that are counted; about 96 bytes each */

struct rewrite;

struct rewrite_settings {
	struct index *index;
	struct sequencer *sequencer;
	struct inode_table *inodes;
	struct reader *reader;
	struct chunk_store *chunks;
	const struct chunker *chunker;
	void (*class_of)(void *ctx, const struct inode_row *row, struct shard_class *out);
	void *ctx;
};

int rewrite_start(const struct rewrite_settings *settings, struct rewrite **out);
void rewrite_stop(struct rewrite *rewrite);  /* ends the thread; notes go on; accepts NULL */
void rewrite_free(struct rewrite *rewrite);  /* nobody may note any more; accepts NULL */

/*
 * rewrite_note - [off, off+len) of the inode has `pieces` new extents, in a record that was
 * submitted under the inode's lock, which is still held.  Accepts rewrite NULL, here and below.
 */
void rewrite_note(struct rewrite *rewrite, uint64_t ino, uint64_t off, uint64_t len,
		  unsigned pieces);
/* Extents of the inode changed in another way (truncated, punched, shared); lock held as above. */
void rewrite_touch(struct rewrite *rewrite, uint64_t ino);

/* Looks at everything that was noted, now, and returns when that is done.  May wait long. */
void rewrite_flush(struct rewrite *rewrite);

#endif
