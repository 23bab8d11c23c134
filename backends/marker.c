/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/marker.h"

#include "util/mem.h"

#include <errno.h>

#define MARKER_HEAD "shardfs-provider 1\nfs "
#define MARKER_NAME "\nname "

const char *marker_id_text(const uint8_t *fs_id, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < BACKEND_FS_ID_SIZE; i++) {
		out[2 * i] = digits[fs_id[i] >> 4];
		out[2 * i + 1] = digits[fs_id[i] & 15];
	}
	out[2 * BACKEND_FS_ID_SIZE] = '\0';
	return out;
}

int marker_format(const struct marker *marker, struct buf *out)
{
	char id[MARKER_ID_TEXT_SIZE];

	return buf_printf(out, MARKER_HEAD "%s" MARKER_NAME "%s\n",
			  marker_id_text(marker->fs_id, id), marker->name);
}

static bool take(struct bytes *text, const char *expected)
{
	size_t len = strlen(expected);

	if (text->len < len || memcmp(text->ptr, expected, len) != 0)
		return false;
	*text = bytes_of(text->ptr + len, text->len - len);
	return true;
}

static int digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_id(struct bytes *text, uint8_t *fs_id)
{
	if (text->len < 2 * BACKEND_FS_ID_SIZE)
		return false;
	for (size_t i = 0; i < BACKEND_FS_ID_SIZE; i++) {
		int high = digit(text->ptr[2 * i]), low = digit(text->ptr[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		fs_id[i] = (uint8_t)(high << 4 | low);
	}
	*text = bytes_of(text->ptr + 2 * BACKEND_FS_ID_SIZE, text->len - 2 * BACKEND_FS_ID_SIZE);
	return true;
}

int marker_parse(struct bytes text, struct marker *marker)
{
	struct marker parsed = {0};

	if (text.len > MARKER_BYTES_MAX || !take(&text, MARKER_HEAD) ||
	    !take_id(&text, parsed.fs_id) || !take(&text, MARKER_NAME))
		return -EBADMSG;
	if (text.len < 2 || text.len > BACKEND_NAME_MAX + 1 || text.ptr[text.len - 1] != '\n')
		return -EBADMSG;
	for (size_t i = 0; i + 1 < text.len; i++) {
		if (text.ptr[i] <= ' ' || text.ptr[i] > '~')
			return -EBADMSG;
		parsed.name[i] = (char)text.ptr[i];
	}
	*marker = parsed;
	return 0;
}
