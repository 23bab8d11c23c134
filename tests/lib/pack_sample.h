/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_PACK_SAMPLE_H
#define SHARDFS_TESTS_PACK_SAMPLE_H

/*
 * One small shard object with fixed keys: the same bytes at every run, so it is
 * the golden file, the corpus of the fuzz target and the victim of the tests
 * that flip bits.
 */
#include "store/pack.h"

#include <assert.h>

static inline void sample_fill(uint8_t *out, size_t len, uint8_t first)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(first + 7 * i);
}

static inline struct pack_keys sample_keys(void)
{
	struct pack_keys keys = {.key_epoch = 3};

	sample_fill(keys.id.b, sizeof(keys.id.b), 0x10);
	sample_fill(keys.records.b, sizeof(keys.records.b), 0x20);
	sample_fill(keys.footer.b, sizeof(keys.footer.b), 0x30);
	sample_fill(keys.mac.b, sizeof(keys.mac.b), 0x40);
	sample_fill(keys.fs_id.b, sizeof(keys.fs_id.b), 0x50);
	return keys;
}

/* An object of `count` records of payload_len raw bytes each, each record with other bytes. */
static inline int sample_object(struct aead_ctx *ctx, uint32_t count, uint32_t payload_len,
				struct buf *out, struct pack_entry *entries)
{
	struct pack_keys keys = sample_keys();
	struct pack_footer footer = {.entries = entries, .entry_count = count};
	uint8_t mac[32];
	AUTO(buf) payload = BUF_INIT;
	AUTO(buf) rest = BUF_INIT;
	int r = buf_append_zeros(out, PACK_HEADER_LEN);

	footer.shard = (struct shard_row){.shard_no = 77, .id = keys.id, .state = SHARD_OPEN,
					  .key_epoch = 3, .writer_epoch = 5, .policy_root = 9,
					  .priority = 2, .sealed_sec = 1700000000};
	assert(r == 0);
	pack_header_write(&keys, out->ptr);
	r = buf_append_zeros(&payload, payload_len);
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		struct pack_entry *entry = &entries[i];

		*entry = (struct pack_entry){.off = (uint32_t)out->len,
					     .stored_len = payload_len + PACK_RECORD_EXTRA,
					     .raw_len = payload_len};
		sample_fill(entry->id.b, sizeof(entry->id.b), (uint8_t)i);
		sample_fill(payload.ptr, payload_len, (uint8_t)(3 * i));
		r = buf_append_zeros(out, entry->stored_len);
		if (r == 0)
			r = pack_seal_record(ctx, &keys, i, &entry->id, 0, payload_len,
					     buf_bytes(&payload), out->ptr + entry->off);
	}
	if (r == 0)
		r = pack_finish(ctx, &keys, buf_bytes(out), &footer, &rest, mac);
	if (r == 0)
		r = buf_append(out, buf_bytes(&rest));
	return r;
}

#endif
