/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake_index.h"

#include <errno.h>

int index_note(struct index *index, const struct record *record)
{
	int r = atomic_load(&index->note_error);

	if (r < 0)
		return r;
	if (record->seq != atomic_load(&index->noted_seq) + 1)
		atomic_store(&index->is_order_broken, true);
	atomic_store(&index->noted_seq, record->seq);
	return 0;
}

int index_apply(struct index *index, struct record *const *records, size_t count)
{
	uint64_t call = atomic_fetch_add(&index->apply_calls, 1) + 1;
	unsigned every = atomic_load(&index->apply_error_every);
	int r = atomic_load(&index->apply_error);

	if (r == 0 && every > 0 && call % every == 0)
		r = -ENOSPC;
	if (r < 0) {
		atomic_fetch_add(&index->apply_failures, 1);
		return r;
	}
	for (size_t i = 0; i < count; i++) {
		uint64_t applied = atomic_load(&index->applied_seq);

		if (records[i]->seq <= applied)
			continue;
		if (records[i]->seq != applied + 1 ||
		    (index->may_apply && !index->may_apply(index->ctx, records[i]->seq)))
			atomic_store(&index->is_order_broken, true);
		atomic_store(&index->applied_seq, records[i]->seq);
	}
	return 0;
}

int index_checkpoint(struct index *index)
{
	int r = atomic_load(&index->checkpoint_error);

	if (r == 0)
		atomic_store(&index->durable_seq, atomic_load(&index->applied_seq));
	atomic_fetch_add(&index->checkpoints, 1);
	return r;
}

uint64_t index_applied_seq(struct index *index)
{
	return atomic_load(&index->applied_seq);
}

uint64_t index_durable_seq(struct index *index)
{
	return atomic_load(&index->durable_seq);
}
