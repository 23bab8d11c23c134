/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_DIFF_NAMES_H
#define SHARDFS_STORE_DIFF_NAMES_H

/*
 * All names of a directory, packed: 16 bytes and the name for each, since a comparison holds the
 * directories on its way, and one may have millions.
 */

#include "index/index.h"

struct diff_name {
	uint64_t ino; /* of no snapshot */
	uint32_t at;  /* in the text */
	uint16_t len;
	uint8_t type; /* DT_* */
};

struct diff_names {
	struct diff_name *rows;
	size_t count, room;
	struct buf text;
};

#define DIFF_NAMES_INIT {0}
void diff_names_release(struct diff_names *names);

/*
 * diff_names_load - the names of directory dir, which may be that of a snapshot, in the order of
 * the index; *names was empty.  0; -ENOMEM; -EFBIG: 4 GiB of names; as the index says.
 */
int diff_names_load(struct index *index, struct index_reader *reader, uint64_t dir,
		    struct diff_names *names);
struct bytes diff_name_text(const struct diff_names *names, const struct diff_name *row);
void diff_names_sort_by_text(struct diff_names *names);
void diff_names_sort_by_ino(struct diff_names *names);
/* Sorted by ino: one of its names, or NULL. */
const struct diff_name *diff_names_find(const struct diff_names *names, uint64_t ino);
/* As memcmp of the texts, the shorter one first. */
int diff_names_compare(const struct diff_names *names, const struct diff_name *row,
		       const struct diff_names *others, const struct diff_name *other);

#endif
