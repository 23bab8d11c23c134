/* SPDX-License-Identifier: Apache-2.0 */
/* Any text gives a whole configuration, or one line that says why not. */
#include "config/config.h"
#include "util/mem.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	AUTO(config) config = CONFIG_INIT;
	AUTO(buf) why = BUF_INIT;
	int r = config_parse(bytes_of(data, len), "fuzz", NULL, &config, &why);

	if (r == 0) {
		if (!config.home || config.provider_count == 0 || why.len != 0)
			abort();
		return 0;
	}
	if (r != -EINVAL && r != -ERANGE && r != -EFBIG)
		abort();
	if (why.len < 5 || memcmp(why.ptr, "fuzz:", 5) != 0 || config.home)
		abort();
	return 0;
}
