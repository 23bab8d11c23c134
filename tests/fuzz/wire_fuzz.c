/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes may be read in any way: the first half says how, the rest is read. */
#include "util/wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct wire_reader r = wire_reader_of(bytes_of(data + len / 2, len - len / 2));
	uint64_t sum = 0;
	uint8_t raw[16];

	for (size_t i = 0; i < len / 2; i++) {
		size_t left = wire_left(&r);
		struct bytes view = {0};

		switch (data[i] % 8) {
		case 0:
			sum += wire_get_u8(&r);
			break;
		case 1:
			sum += wire_get_u16(&r);
			break;
		case 2:
			sum += wire_get_u32(&r);
			break;
		case 3:
			sum += wire_get_u64(&r);
			break;
		case 4:
			sum += wire_get_varint(&r);
			break;
		case 5:
			wire_get_raw(&r, raw, data[i] / 16);
			break;
		case 6:
			view = wire_get_view(&r, data[i]);
			break;
		default:
			view = wire_get_blob(&r, data[i]);
		}
		for (size_t at = 0; at < view.len; at++)
			sum += view.ptr[at];
		if (wire_left(&r) > left || (wire_reader_check(&r) < 0 && wire_left(&r) != 0))
			abort();
	}
	/* The bytes that were read matter to somebody: no compiler drops the reads. */
	__asm__ volatile("" : : "r"(sum));
	return 0;
}
