/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What statfs tells: the bytes that the root's policy can still take.
 *
 * With N copies at distinct providers of free space f1 .. fm, D bytes fit as
 * long as sum(min(fi, D)) >= N * D: no provider takes more than D of one copy
 * each.  The largest such D is found by bisection.  Compression and
 * deduplication make real room larger; this promises only what is sure.
 */
#include "store/store_private.h"

#define SPACE_UNLIMITED (UINT64_C(1) << 50) /* a provider that tells no limit counts as 1 PiB */
#define INODE_BYTES     1024u               /* index and records of one more file */

static bool fits(const uint64_t *room, unsigned count, unsigned copies, uint64_t bytes)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++)
		sum += MIN(room[i], bytes);
	return sum / copies >= bytes;
}

static uint64_t capacity(const uint64_t *room, unsigned count, unsigned copies)
{
	uint64_t low = 0, high = 2 * SPACE_UNLIMITED;

	if (count < copies || copies == 0)
		return 0;
	while (low < high) {
		uint64_t middle = low + (high - low + 1) / 2;

		if (fits(room, count, copies, middle))
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

void store_space(struct store *store, struct store_space *out)
{
	uint64_t total[CONFIG_PROVIDERS_MAX], room[CONFIG_PROVIDERS_MAX];
	unsigned count = MIN(transfer_provider_count(store->transfer), CONFIG_PROVIDERS_MAX);
	struct index_totals totals;
	struct policy policy;

	for (unsigned i = 0; i < count; i++) {
		struct provider_status status;
		bool is_known;

		transfer_provider_status(store->transfer, i, &status);
		is_known = status.total_bytes > 0;
		total[i] = is_known ? status.total_bytes : SPACE_UNLIMITED;
		room[i] = is_known ? status.free_bytes : SPACE_UNLIMITED;
	}
	policies_get(store->priv->policies, INO_ROOT, &policy);
	out->size_bytes = capacity(total, count, policy.copies);
	out->free_bytes = MIN(capacity(room, count, policy.copies), out->size_bytes);
	index_totals(store->index, &totals);
	out->files_free = out->free_bytes / INODE_BYTES;
	out->files = totals.inodes + out->files_free;
}
