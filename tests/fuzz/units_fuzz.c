/* SPDX-License-Identifier: Apache-2.0 */
/* What the parsers take is printed so that they take it again, the same value. */
#include "util/mem.h"
#include "util/units.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	AUTO_STR text = mem_strndup((const char *)data, len);
	char out[UNITS_TEXT_SIZE];
	uint64_t value, again;

	if (units_parse_size(text, &value) == 0 &&
	    (units_parse_size(units_print_size(value, out), &again) < 0 || again != value))
		abort();
	if (units_parse_duration(text, &value) == 0 &&
	    (units_parse_duration(units_print_duration(value, out), &again) < 0 || again != value))
		abort();
	if (units_parse_rate(text, &value) == 0 &&
	    (units_parse_rate(units_print_rate(value, out), &again) < 0 || again != value))
		abort();
	(void)units_parse_count(text, &value);
	return 0;
}
