/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_COPY_PACK_H
#define SHARDFS_INDEX_COPY_PACK_H

/*
 * All copies of one shard as a few bytes each, for one row of table copy.
 * For each, in the order of provider_no:
 *
 *	varint provider_no (the first), or its distance to the one before
 *	u8     state; 128 is added when it was ever verified
 *	varint zigzag changed_sec minus that of the one before (at first: COPY_PACK_BASE_SEC)
 *	varint zigzag verified_sec minus changed_sec; only with 128
 */

#include "index/rows.h"

#define COPY_PACK_BASE_SEC 1735689600 /* 2025-01-01 */

/* Rows ascend by provider_no without doubles.  UPLOADING is stored as PENDING.  -ENOMEM. */
int copy_pack(const struct copy_list *copies, struct buf *out);
/* Appends to out.  -EBADMSG: not of that form; -ENOMEM. */
int copy_unpack(uint64_t shard_no, struct bytes packed, struct copy_list *out);
/* One bit for each state that is among them. */
uint32_t copy_states(const struct copy_list *copies);
/* Of the valid ones (present or verified), the earliest verified_sec; INT64_MAX: none is valid. */
int64_t copy_oldest_verified(const struct copy_list *copies);
/* Puts a copy in its place, or over the one with its provider.  -ENOMEM. */
int copy_list_put(struct copy_list *copies, const struct copy_row *copy);
void copy_list_del(struct copy_list *copies, uint32_t provider_no);

#endif
