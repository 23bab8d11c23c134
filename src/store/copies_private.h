/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_COPIES_PRIVATE_H
#define SHARDFS_STORE_COPIES_PRIVATE_H

/*
 * Shared by copies.c (accounts), copies_send.c (requests) and copies_page.c (the index).  All of it
 * runs on the transfer thread.
 */

#include "store/transfer_private.h"

/* ---- shards in memory ---- */

struct shard_job *shard_find(struct transfer *transfer, uint64_t shard_no); /* NULL */
/* Made if it is not there, with so many valid copies; NULL: no memory. */
struct shard_job *shard_get(struct transfer *transfer, const struct shard_row *row, unsigned valid);
void shard_drop_object(struct transfer *transfer, struct shard_job *shard);
void shard_free(struct transfer *transfer, struct shard_job *shard); /* it has no job */
/* Something about the shard changed; it may be gone afterwards. */
void shard_settle(struct transfer *transfer, struct shard_job *shard);
/* Rows for copies that the policy wants and nobody has promised; jobs for them. */
void shard_place(struct transfer *transfer, const struct shard_row *row,
		 const struct copy_list *copies);

/* ---- owed copies ---- */

struct copy_job *job_find(const struct shard_job *shard, const struct lane *lane); /* NULL */
/* NULL: no memory or no room; the lane will page it in. */
struct copy_job *job_new(struct shard_job *shard, struct lane *lane);
void job_queue(struct copy_job *job);
void job_pause(struct copy_job *job, uint64_t now_ms);
unsigned lane_load(const struct lane *lane);
/* The next that may be sent, or NULL and *next_ms lowered to when one may. */
struct copy_job *lane_next(struct lane *lane, uint64_t now_ms, uint64_t *next_ms);

/* ---- accounts ---- */

unsigned copies_count_valid(const struct copy_list *copies);
bool copies_is_spool_pressed(struct transfer *transfer);
void copies_settle_releasable(struct transfer *transfer);
/* Whether a new state of that copy waits for the journal. */
bool copies_is_changing(const struct transfer *transfer, uint64_t shard_no, uint32_t provider_no);
/* A copy was read: it is verified, or it is not what it should be. */
void copies_mark_one(struct transfer *transfer, uint64_t shard_no, uint32_t provider_no,
		     uint32_t state);

#endif
