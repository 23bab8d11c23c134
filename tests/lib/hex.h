/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_HEX_H
#define SHARDFS_TESTS_HEX_H

/* Published answers are written in hex. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Are these len bytes what the text says, all of it? */
static inline bool hex_equals(const void *bytes, size_t len, const char *text)
{
	const uint8_t *b = bytes;

	if (strlen(text) != 2 * len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char pair[3];

		snprintf(pair, sizeof(pair), "%02x", b[i]);
		if (memcmp(pair, text + 2 * i, 2) != 0)
			return false;
	}
	return true;
}

/* first, first + 1, ... */
static inline void fill_sequence(uint8_t *out, size_t len, uint8_t first)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(first + i);
}

#endif
