/* SPDX-License-Identifier: Apache-2.0 */
#include "store/diff_names.h"

#include "util/file.h"
#include "util/mem.h"

#include <errno.h>
#include <stdlib.h>

#define NAMES_PAGE 1024u

void diff_names_release(struct diff_names *names)
{
	mem_free(names->rows);
	buf_release(&names->text);
	*names = (struct diff_names)DIFF_NAMES_INIT;
}

static int add(struct diff_names *names, const struct dirent_row *row)
{
	struct diff_name *one;

	if (names->text.len > UINT32_MAX - row->name_len)
		return -EFBIG;
	if (names->count == names->room) {
		size_t room = names->room ? 2 * names->room : 64;
		struct diff_name *rows = mem_realloc_array(names->rows, room, sizeof(*rows));

		if (!rows)
			return -ENOMEM;
		names->rows = rows;
		names->room = room;
	}
	one = &names->rows[names->count];
	*one = (struct diff_name){row->ino & INO_MAX, (uint32_t)names->text.len, row->name_len,
				  row->type};
	if (buf_append(&names->text, bytes_of(row->name, row->name_len)) < 0)
		return -ENOMEM;
	names->count++;
	return 0;
}

int diff_names_load(struct index *index, struct index_reader *reader, uint64_t dir,
		    struct diff_names *names)
{
	AUTO(dirent_list) page = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	do {
		page.count = 0;
		r = index_list_dirents(index, reader, dir, after, NAMES_PAGE, &page);
		for (size_t i = 0; i < page.count && r == 0; i++) {
			after = page.rows[i].cookie;
			r = add(names, &page.rows[i]);
		}
	} while (r == 0 && page.count == NAMES_PAGE);
	return r;
}

struct bytes diff_name_text(const struct diff_names *names, const struct diff_name *row)
{
	return bytes_of(names->text.ptr + row->at, row->len);
}

int diff_names_compare(const struct diff_names *names, const struct diff_name *row,
		       const struct diff_names *others, const struct diff_name *other)
{
	struct bytes a = diff_name_text(names, row), b = diff_name_text(others, other);
	int order = memcmp(a.ptr, b.ptr, MIN(a.len, b.len));

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int by_text(const void *a, const void *b, void *ctx)
{
	return diff_names_compare(ctx, a, ctx, b);
}

static int by_ino(const void *a, const void *b)
{
	const struct diff_name *x = a, *y = b;

	return (x->ino > y->ino) - (x->ino < y->ino);
}

void diff_names_sort_by_text(struct diff_names *names)
{
	if (names->count > 1)
		qsort_r(names->rows, names->count, sizeof(*names->rows), by_text, names);
}

void diff_names_sort_by_ino(struct diff_names *names)
{
	if (names->count > 1)
		qsort(names->rows, names->count, sizeof(*names->rows), by_ino);
}

const struct diff_name *diff_names_find(const struct diff_names *names, uint64_t ino)
{
	struct diff_name key = {.ino = ino};

	if (names->count == 0)
		return NULL;
	return bsearch(&key, names->rows, names->count, sizeof(*names->rows), by_ino);
}
