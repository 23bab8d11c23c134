/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shard objects as a provider may hand them out.  The keys are those of the
 * sample, so that what the fuzzer keeps whole gets as far as the footer.
 */
#include "tests/lib/pack_sample.h"
#include "util/mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct aead_ctx *ctx;
	struct pack_keys keys = sample_keys();
	struct pack_footer footer = PACK_FOOTER_INIT;
	struct pack_record record;
	struct shard_id id;
	struct fs_id fs_id;
	uint32_t epoch, off, footer_len;
	uint8_t mac[32], *plain = malloc(len + 1);
	struct bytes all = bytes_of(data, len), tail = all;

	if (!plain || aead_ctx_new(&ctx) < 0)
		abort();
	if (len > PACK_TAIL_LEN)
		tail = bytes_of(data + len - PACK_TAIL_LEN, PACK_TAIL_LEN);
	pack_header_read(all, &id, &epoch, &fs_id);
	pack_tail_read(tail, len, mac);
	if (pack_tail_open(ctx, &keys, tail, len, &off, &footer_len) == 0 &&
	    (uint64_t)off + footer_len > len)
		abort();
	if (pack_open_footer(ctx, &keys, PACK_HEADER_LEN, all, &footer) == 0)
		pack_footer_release(&footer);
	if (pack_verify(ctx, &keys, all, &footer) == 0) {
		for (uint32_t i = 0; i < footer.entry_count; i++)
			if ((uint64_t)footer.entries[i].off + footer.entries[i].stored_len > len)
				abort();
		pack_footer_release(&footer);
	}
	if (pack_open_record(ctx, &keys, 0, all, plain, &record) == 0 &&
	    record.payload.len > len)
		abort();
	aead_ctx_free(ctx); /* what locked memory points at, a leak checker cannot see */
	free(plain);
	return 0;
}
