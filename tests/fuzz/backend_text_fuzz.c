/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/backend.h"
#include "backends/marker.h"
#include "backends/wrap_fault.h"
#include "util/mem.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Markers from a disk, and the other texts that are parsed here: keys and fault lines. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct marker marker = {0}, again = {0};
	struct fault_rule rule;
	AUTO(buf) text = BUF_INIT;
	AUTO_STR string = mem_strndup((const char *)data, size);

	if (marker_parse(bytes_of(data, size), &marker) == 0) {
		assert(marker_format(&marker, &text) == 0);
		assert(text.len == size && memcmp(text.ptr, data, size) == 0);
		assert(marker_parse(buf_bytes(&text), &again) == 0);
	}
	if (string) {
		backend_key_is_valid(string);
		fault_parse(string, &rule);
	}
	return 0;
}
