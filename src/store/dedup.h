/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_DEDUP_H
#define SHARDFS_STORE_DEDUP_H

/*
 * Names of chunks between look-up and journal record, pins, and chunks that are being condemned.
 *
 *   absent -> busy (one worker stores it; others that ask wait for that worker)
 *          -> known (its record is submitted; the index answers)
 *   known + pins > 0: can not be condemned;  condemned: look-ups miss
 *
 * Bounded by the number of chunks in the codec's hands plus unsubmitted references.  Any thread.
 */

#include "index/rows.h"

struct dedup;

int dedup_new(struct dedup **out);
void dedup_free(struct dedup *dedup);

enum dedup_answer {
	DEDUP_MAKE, /* not known here: look in the index; store it; then dedup_finish.  Busy until then */
	DEDUP_FOUND, /* another worker has just stored it: *out, pinned */
};
/* domain: chunks deduplicate only within one (policies that exclude providers have their own). */
int dedup_begin(struct dedup *dedup, const struct chunk_id *id, uint64_t domain,
		enum dedup_answer *answer, struct chunk_row *out);
/*
 * The maker is about to journal a new chunk under this number: until it finishes (and then while it
 * is pinned) the chunk cannot be condemned, though the index shows it without references.  -ENOMEM:
 * do not journal it.
 */
int dedup_claim(struct dedup *dedup, const struct chunk_id *id, uint64_t domain, uint64_t chunk_no);
/*
 * Ends what DEDUP_MAKE began.  chunk NULL: it failed, the next waiter becomes the maker.  Else the
 * chunk is known and pinned for the caller and for each waiter.  -EBUSY: the chunk (found in the
 * index) is being condemned, or was when this maker began: store the bytes anew, claim the new
 * number, submit its CHUNK_PUT, and finish again with that: it cannot fail.  -ENOMEM (chunk found in
 * the index): finish again with NULL.
 */
int dedup_finish(struct dedup *dedup, const struct chunk_id *id, uint64_t domain,
		 const struct chunk_row *chunk);
void dedup_unpin(struct dedup *dedup, uint64_t chunk_no);

/*
 * gc: condemn, then look at the references in the index once more, then submit the CHUNK_DEL or give
 * up; in both cases forget.  0: condemned, no look-up counts from now on; -EBUSY: pinned; -ENOMEM.
 */
int dedup_condemn(struct dedup *dedup, uint64_t chunk_no);
void dedup_forget_condemned(struct dedup *dedup, uint64_t chunk_no);

#endif
