/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever parses has one encoding: the bytes that were parsed. */
#include "crypto/superblock.h"
#include "util/mem.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct superblock sb;
	AUTO(buf) again = BUF_INIT;
	int r = superblock_parse(bytes_of(data, len), &sb);

	if (r == -EBADMSG || r == -EPROTONOSUPPORT)
		return 0;
	if (r < 0 || superblock_encode_body(&sb, &again) < 0)
		abort();
	if (again.len + sizeof(sb.mac) != len || memcmp(again.ptr, data, again.len) != 0)
		abort();
	return 0;
}
