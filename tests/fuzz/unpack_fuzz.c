/* SPDX-License-Identifier: Apache-2.0 */
/* Three bytes of expected length, one of kind, then what a record would hold. */
#include "codec/compress.h"
#include "util/mem.h"
#include "util/wire.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct compress_ctx *ctx;
	size_t plain_len;
	uint8_t *out;
	int r;

	if (len < 4 || (!ctx && compress_ctx_new(&ctx) < 0))
		return 0;
	plain_len = wire_load_u32(data) & 0xfffff;
	out = mem_alloc(plain_len);
	if (!out)
		abort();
	r = compress_unpack(ctx, data[3], bytes_of(data + 4, len - 4), out, plain_len);
	if (r != 0 && r != -EBADMSG)
		abort();
	mem_free(out);
	return 0;
}
