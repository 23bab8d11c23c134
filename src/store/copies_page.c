/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is read from the index, a page in each round: shards to be placed or judged again, owed
 * copies for a lane whose queue has run low, and, once, who holds how much.
 * Everything here runs on the transfer thread.
 */
#include "store/copies_private.h"

#include "util/mem.h"

#include <errno.h>

/* ---- from the index ---- */

void copies_scan_start(struct transfer *transfer, const struct scan *wanted)
{
	struct scan *scan = &transfer->scan;

	if (!scan->is_active)
		*scan = *wanted;
	else if (scan->is_sealed_only != wanted->is_sealed_only || scan->root != wanted->root)
		*scan = (struct scan){0};
	scan->is_active = true;
	scan->after = 0;
}

static bool scan_wants(const struct scan *scan, const struct shard_row *row)
{
	if (row->state != SHARD_SEALED && (scan->is_sealed_only || row->state != SHARD_DURABLE))
		return false;
	return scan->root == 0 || row->policy_root == scan->root;
}

static int scan_page(struct transfer *transfer)
{
	AUTO(shard_list) shards = ROW_LIST_INIT;
	struct scan *scan = &transfer->scan;
	int r = index_list_shards(transfer->settings.index, transfer->reader, scan->after,
				  SHARD_PAGE, &shards);

	for (size_t i = 0; i < shards.count && r == 0; i++) {
		AUTO(copy_list) copies = ROW_LIST_INIT;

		if (!copies_has_room(transfer))
			return 0; /* goes on behind what was done */
		if (scan_wants(scan, &shards.rows[i])) {
			r = index_list_copies(transfer->settings.index, transfer->reader,
					      shards.rows[i].shard_no, &copies);
			if (r == 0)
				shard_place(transfer, &shards.rows[i], &copies);
		}
		scan->after = shards.rows[i].shard_no;
	}
	if (r == 0 && shards.count < SHARD_PAGE)
		scan->is_active = false;
	return r;
}

static int page_row(struct transfer *transfer, struct lane *lane, const struct copy_row *row)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct shard_job *shard = shard_find(transfer, row->shard_no);
	struct shard_row shard_row;
	struct copy_job *job;
	int r = 0;

	if ((shard && job_find(shard, lane)) ||
	    copies_is_changing(transfer, row->shard_no, row->provider_no))
		return 0;
	if (!shard) {
		r = index_get_shard(transfer->settings.index, transfer->reader, row->shard_no,
				    &shard_row);
		if (r == -ENOENT || (r == 0 && shard_row.state >= SHARD_CONDEMNED))
			return 0;
		if (r == 0)
			r = index_list_copies(transfer->settings.index, transfer->reader,
					      row->shard_no, &copies);
		if (r < 0)
			return r;
		shard = shard_get(transfer, &shard_row, copies_count_valid(&copies));
		if (!shard)
			return -ENOMEM;
	}
	job = job_new(shard, lane);
	if (job)
		job_queue(job);
	else if (shard->job_count == 0 && list_is_empty(&shard->waits))
		shard_free(transfer, shard);
	return job ? 0 : -ENOSPC;
}

/* One page of owed rows for a lane whose queue has run low. */
static int lane_page(struct transfer *transfer, struct lane *lane)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	uint64_t complete;
	int r = index_list_copies_in_state(transfer->settings.index, transfer->reader, COPY_PENDING,
					   lane->page_after, COPY_PAGE, &copies);

	if (r < 0)
		return r;
	/* the last shard of a full page may have rows behind it */
	complete = copies.count < COPY_PAGE ? UINT64_MAX : copies.rows[copies.count - 1].shard_no;
	for (size_t i = 0; i < copies.count; i++) {
		const struct copy_row *row = &copies.rows[i];

		if (row->shard_no >= complete)
			break;
		lane->page_after = row->shard_no - 1; /* all before it are done */
		if (row->provider_no == lane->provider.row.provider_no) {
			r = page_row(transfer, lane, row);
			if (r == -ENOSPC)
				return 0; /* full again; the cursor stays before this row */
			if (r < 0)
				return r;
		}
	}
	if (copies.count == COPY_PAGE) {
		lane->page_after = complete - 1;
		return 0;
	}
	lane->page_after = 0;
	lane->is_overflown = lane->is_page_again;
	lane->is_page_again = false;
	return 0;
}

/* Once, for status: who holds how much. */
static int count_page(struct transfer *transfer)
{
	AUTO(shard_list) shards = ROW_LIST_INIT;
	int r = index_list_shards(transfer->settings.index, transfer->reader,
				  transfer->counted_upto, SHARD_PAGE, &shards);

	for (size_t i = 0; i < shards.count && r == 0; i++) {
		AUTO(copy_list) copies = ROW_LIST_INIT;
		const struct shard_row *shard = &shards.rows[i];

		r = index_list_copies(transfer->settings.index, transfer->reader, shard->shard_no,
				      &copies);
		for (size_t j = 0; j < copies.count && r == 0; j++) {
			struct lane *lane = transfer_lane(transfer, copies.rows[j].provider_no);

			if (lane && copy_is_valid(&copies.rows[j]))
				lane_count_copies(lane, 1, shard->object_len);
		}
		if (r == 0)
			transfer->counted_upto = shard->shard_no;
	}
	if (r == 0 && shards.count < SHARD_PAGE)
		transfer->counted_upto = UINT64_MAX;
	return r;
}

bool copies_page(struct transfer *transfer)
{
	bool has_more = false;

	if (!copies_has_room(transfer))
		return false;
	if (transfer->scan.is_active)
		has_more = scan_page(transfer) == 0 && transfer->scan.is_active;
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct lane *lane = &transfer->lanes[i];

		if (!lane->is_overflown || !lane->provider.backend ||
		    lane_load(lane) > transfer->queue_max / 4)
			continue;
		if (lane_page(transfer, lane) == 0 && lane->is_overflown &&
		    lane_load(lane) <= transfer->queue_max / 4)
			has_more = true;
	}
	if (!has_more && transfer->counted_upto != UINT64_MAX)
		has_more = count_page(transfer) == 0 && transfer->counted_upto != UINT64_MAX;
	return has_more;
}
