/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of extents that carry no bytes: sizes, holes, reserved zeros, shared
 * ranges; and questions about them.
 *
 * All need a clean inode (-EBUSY otherwise), so that one record tells the
 * whole change and nothing that was written before can land behind it.  What
 * must be asked of the index is asked without a lock; data_version then tells
 * whether the answer still holds when the record is submitted.
 */
#include "store/writer_private.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#define RANGE_EXTENTS_MAX 1024u        /* asked of the index at once */
#define ZERO_EXTENT_MAX   ((uint64_t)GIB)
#define RETRIES_MAX       100u         /* of a change that another one overtook */

typedef void (*touch_fn)(void *ctx, struct inode_row *row);

/* Submits the record with the row; inode locked.  On failure the row is as it was before. */
static int submit(struct writer *writer, struct inode *inode, struct record *record,
		  const struct inode_row *before)
{
	int r;

	record_put_inode(record, &inode->row);
	r = sequencer_submit(writer->settings.sequencer, record, &inode->last_seq);
	if (r < 0) {
		inode_set_row(inode, before);
		return r;
	}
	inode->data_version++;
	inode->is_sparse_known = false;
	rewrite_touch(writer->settings.rewrite, inode->row.ino);
	return 0;
}

static int set_size_locked(struct writer *writer, struct inode *inode, uint64_t size,
			   touch_fn touch, void *ctx)
{
	struct inode_row before;
	struct record *record;
	int r;

	writer_cut_filling(writer, inode, size);
	if (!writer_is_clean(inode))
		return -EBUSY;
	record = record_new();
	if (!record)
		return -ENOMEM;
	before = inode->row;
	if (size < inode->row.size)
		record_del_extents(record, inode->row.ino, size, UINT64_MAX - size);
	if (size > inode->row.size)
		inode->row.flags |= INODE_SPARSE;
	inode->row.size = size;
	touch(ctx, &inode->row);
	r = submit(writer, inode, record, &before);
	if (r == 0)
		inode->size = size;
	return r;
}

int writer_set_size(struct writer *writer, struct inode *inode, uint64_t size, touch_fn touch,
		    void *ctx)
{
	bool owes_unref;
	int r;

	if (size > INT64_MAX)
		return -EFBIG;
	lock_take(&inode->lock);
	r = set_size_locked(writer, inode, size, touch, ctx);
	owes_unref = writer_detach_if_clean(writer, inode); /* what was cut off was perhaps all */
	lock_drop(&inode->lock);
	if (owes_unref)
		inode_unref(writer->settings.inodes, inode, 1);
	return r;
}

static void put_zeros(struct record *record, uint64_t ino, uint64_t off, uint64_t end)
{
	while (off < end) {
		uint32_t len = (uint32_t)MIN(end - off, ZERO_EXTENT_MAX);

		record_put_extent(record, &(struct extent_row){.ino = ino, .off = off, .len = len});
		off += len;
	}
}

int writer_zero(struct writer *writer, struct inode *inode, struct index_reader *reader,
		uint64_t off, uint64_t len, bool is_hole, bool keep_size, touch_fn touch, void *ctx)
{
	struct inode_row before;
	struct record *record;
	uint64_t end, size;
	int r;

	(void)reader;
	if (len == 0)
		return -EINVAL;
	if (off > INT64_MAX - len)
		return -EFBIG;
	LOCK_SCOPE(&inode->lock);
	if (!writer_is_clean(inode))
		return -EBUSY;
	record = record_new();
	if (!record)
		return -ENOMEM;
	before = inode->row;
	size = inode->row.size;
	end = off + len;
	if (!keep_size && !is_hole)
		size = MAX(size, end);
	end = MIN(end, size); /* nothing is kept beyond the end */
	if (off < end) {
		if (is_hole)
			record_del_extents(record, inode->row.ino, off, end - off);
		else
			put_zeros(record, inode->row.ino, off, end);
	}
	inode->row.flags |= INODE_SPARSE;
	inode->row.size = size;
	touch(ctx, &inode->row);
	r = submit(writer, inode, record, &before);
	if (r == 0)
		inode->size = size;
	return r;
}

/* The parts of [off, end) without extents, put as zeros into the record. */
static int put_gaps(struct writer *writer, struct index_reader *reader, uint64_t ino, uint64_t off,
		    uint64_t end, struct record *record)
{
	while (off < end) {
		AUTO(extent_list) list = ROW_LIST_INIT;
		uint64_t covered;
		int r = index_find_extents(writer->settings.index, reader, ino, off, end - off,
					   RANGE_EXTENTS_MAX, &list, &covered);

		if (r < 0)
			return r;
		for (size_t i = 0; i < list.count; i++) {
			put_zeros(record, ino, off, list.rows[i].off);
			off = list.rows[i].off + list.rows[i].len;
		}
		put_zeros(record, ino, off, covered);
		off = covered;
	}
	return 0;
}

int writer_allocate(struct writer *writer, struct inode *inode, struct index_reader *reader,
		    uint64_t off, uint64_t len, bool keep_size, touch_fn touch, void *ctx)
{
	uint64_t ino, version, size, end;

	if (len == 0)
		return -EINVAL;
	if (off > INT64_MAX - len)
		return -EFBIG;
	for (unsigned attempt = 0; attempt < RETRIES_MAX; attempt++) {
		AUTO_PTR(record) record = record_new();
		struct inode_row before;
		int r;

		if (!record)
			return -ENOMEM;
		lock_take(&inode->lock);
		if (!writer_is_clean(inode)) {
			lock_drop(&inode->lock);
			return -EBUSY;
		}
		ino = inode->row.ino;
		version = inode->data_version;
		size = inode->row.size;
		lock_drop(&inode->lock);
		if (!keep_size)
			size = MAX(size, off + len);
		end = MIN(off + len, size);
		if (off < end) {
			r = put_gaps(writer, reader, ino, off, end, record);
			if (r < 0)
				return r;
		}
		LOCK_SCOPE(&inode->lock);
		if (!writer_is_clean(inode))
			return -EBUSY;
		if (inode->data_version != version)
			continue;
		before = inode->row;
		inode->row.size = size;
		touch(ctx, &inode->row);
		r = submit(writer, inode, STEAL(record), &before);
		if (r == 0)
			inode->size = size;
		return r;
	}
	return -EBUSY;
}

/* src's extents of [src_off, src_off+len) as dst's; at most a bounded number: *end is where it stopped. */
static int put_shared(struct writer *writer, struct index_reader *reader, uint64_t src_ino,
		      uint64_t src_off, uint64_t dst_ino, uint64_t dst_off, uint64_t len,
		      struct record *record, uint64_t *copied)
{
	AUTO(extent_list) list = ROW_LIST_INIT;
	uint64_t covered;
	int r = index_find_extents(writer->settings.index, reader, src_ino, src_off, len,
				   RANGE_EXTENTS_MAX, &list, &covered);

	if (r < 0)
		return r;
	*copied = covered - src_off;
	record_del_extents(record, dst_ino, dst_off, *copied);
	for (size_t i = 0; i < list.count; i++) {
		struct extent_row extent = list.rows[i];

		extent.ino = dst_ino;
		extent.off = extent.off - src_off + dst_off;
		record_put_extent(record, &extent);
	}
	return 0;
}

int writer_clone(struct writer *writer, struct inode *src, uint64_t src_off, struct inode *dst,
		 uint64_t dst_off, uint64_t len, struct index_reader *reader, touch_fn touch,
		 void *ctx, uint64_t *copied)
{
	if (src_off > INT64_MAX - len || dst_off > INT64_MAX - len)
		return -EFBIG;
	if (src == dst && src_off < dst_off + len && dst_off < src_off + len)
		return -EINVAL;
	for (unsigned attempt = 0; attempt < RETRIES_MAX; attempt++) {
		AUTO_PTR(record) record = record_new();
		uint64_t src_version, dst_version, end, done = 0;
		struct inode_row before;
		bool is_clean, is_same;
		int r;

		if (!record)
			return -ENOMEM;
		lock_take_pair(&src->lock, &dst->lock);
		is_clean = writer_is_clean(src) && writer_is_clean(dst);
		src_version = src->data_version;
		dst_version = dst->data_version;
		end = MIN(src_off + len, src->row.size);
		lock_drop_pair(&src->lock, &dst->lock);
		if (!is_clean)
			return -EBUSY;
		if (src_off >= end) {
			*copied = 0;
			return 0;
		}
		r = put_shared(writer, reader, src->row.ino, src_off, dst->row.ino, dst_off,
			       end - src_off, record, &done);
		if (r < 0)
			return r;
		lock_take_pair(&src->lock, &dst->lock);
		is_clean = writer_is_clean(src) && writer_is_clean(dst);
		is_same = src->data_version == src_version && dst->data_version == dst_version;
		r = -EBUSY;
		if (is_clean && is_same) {
			before = dst->row;
			dst->row.size = MAX(dst->row.size, dst_off + done);
			dst->row.flags |= (src->row.flags & INODE_SPARSE) |
					  (dst_off > before.size ? INODE_SPARSE : 0);
			touch(ctx, &dst->row);
			r = submit(writer, dst, STEAL(record), &before);
			if (r == 0)
				dst->size = MAX(dst->size, dst->row.size);
		}
		lock_drop_pair(&src->lock, &dst->lock);
		if (r == 0)
			*copied = done;
		if (!is_clean || is_same)
			return r;
	}
	return -EBUSY;
}

/* ---- questions ---- */

struct dirty_range {
	uint64_t off, end;
};

static int range_compare(const void *a, const void *b)
{
	const struct dirty_range *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* The ranges of unpushed runs, ordered; inode locked. */
static int dirty_ranges(struct inode *inode, struct dirty_range **out, size_t *count)
{
	struct dirty_range *list;
	size_t n = 0;

	*out = NULL;
	*count = 0;
	if (writer_is_clean(inode))
		return 0;
	for (struct list *p = inode->writer->runs.next; p != &inode->writer->runs; p = p->next)
		n++;
	list = mem_alloc_array(n, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (struct list *p = inode->writer->runs.next; p != &inode->writer->runs; p = p->next) {
		struct run *run = container_of(p, struct run, link);

		list[(*count)++] = (struct dirty_range){run->off, run->off + run->len};
	}
	qsort(list, n, sizeof(*list), range_compare);
	*out = list;
	return 0;
}

/* Where the data that covers pos ends according to dirty ranges, or pos. */
static uint64_t dirty_end(const struct dirty_range *list, size_t count, uint64_t pos)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].off <= pos && pos < list[i].end)
			pos = list[i].end;
	return pos;
}

static uint64_t dirty_next(const struct dirty_range *list, size_t count, uint64_t pos)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].end > pos && list[i].off < list[i].end)
			return MAX(list[i].off, pos);
	return UINT64_MAX;
}

static int seek_data(struct writer *writer, struct index_reader *reader, uint64_t ino, uint64_t off,
		     uint64_t size, const struct dirty_range *list, size_t count, uint64_t *result)
{
	uint64_t limit = MIN(dirty_next(list, count, off), size);

	while (off < limit) {
		AUTO(extent_list) extents = ROW_LIST_INIT;
		uint64_t covered;
		int r = index_find_extents(writer->settings.index, reader, ino, off, limit - off, 1,
					   &extents, &covered);

		if (r < 0)
			return r;
		if (extents.count > 0) {
			*result = extents.rows[0].off;
			return 0;
		}
		off = covered;
	}
	if (off >= size)
		return -ENXIO;
	*result = off;
	return 0;
}

static int seek_hole(struct writer *writer, struct index_reader *reader, uint64_t ino, uint64_t off,
		     uint64_t size, const struct dirty_range *list, size_t count, uint64_t *result)
{
	bool is_moving = true;

	while (is_moving && off < size) {
		AUTO(extent_list) extents = ROW_LIST_INIT;
		uint64_t covered, start = off;
		int r = index_find_extents(writer->settings.index, reader, ino, off, size - off,
					   RANGE_EXTENTS_MAX, &extents, &covered);

		if (r < 0)
			return r;
		for (size_t i = 0; i < extents.count && extents.rows[i].off <= off; i++)
			off = MAX(off, extents.rows[i].off + extents.rows[i].len);
		off = dirty_end(list, count, off);
		is_moving = off != start;
	}
	*result = MIN(off, size);
	return 0;
}

int writer_seek(struct writer *writer, struct inode *inode, struct index_reader *reader,
		uint64_t off, bool is_data, uint64_t *result)
{
	struct dirty_range *list;
	bool may_have_holes;
	uint64_t ino, size;
	size_t count;
	int r;

	lock_take(&inode->lock);
	ino = inode->row.ino;
	size = inode->size;
	may_have_holes = (inode->row.flags & INODE_SPARSE) || !writer_is_clean(inode);
	r = dirty_ranges(inode, &list, &count);
	lock_drop(&inode->lock);
	if (r < 0)
		return r;
	if (off >= size)
		r = -ENXIO;
	else if (!may_have_holes)
		*result = is_data ? off : size;
	else if (is_data)
		r = seek_data(writer, reader, ino, off, size, list, count, result);
	else
		r = seek_hole(writer, reader, ino, off, size, list, count, result);
	mem_free(list);
	return r;
}

int writer_alloc_bytes(struct writer *writer, struct inode *inode, struct index_reader *reader,
		       uint64_t *bytes)
{
	struct dirty_range *list;
	uint64_t ino, version, counted, dirty = 0;
	size_t count;
	int r;

	lock_take(&inode->lock);
	if (!(inode->row.flags & INODE_SPARSE)) {
		*bytes = inode->size;
		lock_drop(&inode->lock);
		return 0;
	}
	if (inode->is_sparse_known && writer_is_clean(inode)) {
		*bytes = inode->alloc_bytes;
		lock_drop(&inode->lock);
		return 0;
	}
	ino = inode->row.ino;
	version = inode->data_version;
	r = dirty_ranges(inode, &list, &count);
	lock_drop(&inode->lock);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		dirty += list[i].end - list[i].off;
	mem_free(list);
	r = index_count_extent_bytes(writer->settings.index, reader, ino, &counted);
	if (r < 0)
		return r;
	lock_take(&inode->lock);
	if (writer_is_clean(inode) && inode->data_version == version) {
		inode->alloc_bytes = counted;
		inode->is_sparse_known = true;
	}
	*bytes = MIN(counted + dirty, inode->size + 4096);
	lock_drop(&inode->lock);
	return 0;
}
