/* SPDX-License-Identifier: Apache-2.0 */
/* What parses is what is printed from it, but for case and spacing. */
#include "crypto/recovery.h"
#include "util/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_key(struct bytes typed)
{
	uint8_t key[RECOVERY_KEY_BYTES], again[RECOVERY_KEY_BYTES];
	char text[RECOVERY_TEXT_SIZE];

	if (recovery_key_parse(typed, key) < 0)
		return;
	recovery_key_print(key, text);
	if (!recovery_key_is_meant(typed) || recovery_key_parse(bytes_of_str(text), again) < 0 ||
	    memcmp(key, again, sizeof(key)) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes typed = bytes_of(data, len);
	struct share share, again;
	char text[SHARE_TEXT_SIZE];

	check_key(typed);
	if (share_parse(typed, &share) < 0)
		return 0;
	share_print(&share, text);
	if (share_parse(bytes_of_str(text), &again) < 0 || again.index != share.index ||
	    again.threshold != share.threshold ||
	    memcmp(again.data, share.data, sizeof(share.data)) != 0)
		abort();
	return 0;
}
