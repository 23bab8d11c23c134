/* SPDX-License-Identifier: Apache-2.0 */
#include "index/rows.h"

#include <errno.h>

/* Lists grow by half, so that appending n rows copies O(n) of them. */
static int list_grow(void **rows, size_t *capacity, size_t row_size)
{
	size_t wanted = *capacity + *capacity / 2 + 8;
	void *grown = mem_realloc_array(*rows, wanted, row_size);

	if (grown == NULL)
		return -ENOMEM;
	*rows = grown;
	*capacity = wanted;
	return 0;
}

#define DEFINE_ROW_LIST(T)                                                                         \
	int T##_list_add(struct T##_list *list, const struct T##_row *row)                         \
	{                                                                                          \
		if (list->count == list->capacity) {                                               \
			void *rows = list->rows;                                                   \
			int r = list_grow(&rows, &list->capacity, sizeof(*list->rows));            \
                                                                                                   \
			if (r < 0)                                                                 \
				return r;                                                          \
			list->rows = rows;                                                         \
		}                                                                                  \
		list->rows[list->count++] = *row;                                                  \
		return 0;                                                                          \
	}                                                                                          \
	void T##_list_release(struct T##_list *list)                                               \
	{                                                                                          \
		mem_free(list->rows);                                                              \
		*list = (struct T##_list)ROW_LIST_INIT;                                            \
	}

DEFINE_ROW_LIST(dirent)
DEFINE_ROW_LIST(extent)
DEFINE_ROW_LIST(chunk)
DEFINE_ROW_LIST(shard)
DEFINE_ROW_LIST(copy)
DEFINE_ROW_LIST(verified)
DEFINE_ROW_LIST(provider)
DEFINE_ROW_LIST(policy)
DEFINE_ROW_LIST(snapshot)
DEFINE_ROW_LIST(old)

struct shard_id_hex shard_id_hex(const struct shard_id *id)
{
	static const char digits[] = "0123456789abcdef";
	struct shard_id_hex hex;

	for (size_t i = 0; i < sizeof(id->b); i++) {
		hex.s[2 * i] = digits[id->b[i] >> 4];
		hex.s[2 * i + 1] = digits[id->b[i] & 15];
	}
	hex.s[2 * sizeof(id->b)] = '\0';
	return hex;
}
