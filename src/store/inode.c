/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of inodes in memory, split into parts by the hash of the number.
 *
 * An inode is in the table exactly while refs > 0.  A reference that may be
 * the last one is given back under the lock of its part, so a look-up never
 * meets an inode that is going away.
 *
 * Loading races: an inode that is not in the table cannot change, since every
 * change goes through the table.  So a row read without a lock is current if
 * no inode left this part of the table meanwhile; otherwise it is read again.
 */
#include "store/inode.h"

#include "util/log.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#define INODE_PARTS 64

struct inode_part {
	struct lock lock; /* LOCK_INODE_TABLE: guards all below */
	struct map map;
	uint64_t departures; /* inodes that left */
};

struct inode_table {
	struct inode_part parts[INODE_PARTS];
	void (*reclaim)(void *ctx, uint64_t ino);
	void *ctx;
	_Atomic uint64_t count;
};

static struct inode_part *part_of(struct inode_table *table, uint64_t hash)
{
	return &table->parts[(hash >> 48) % INODE_PARTS];
}

int inode_table_new(void (*reclaim)(void *ctx, uint64_t ino), void *ctx, struct inode_table **out)
{
	struct inode_table *table = mem_alloc(sizeof(*table));

	if (!table)
		return -ENOMEM;
	for (unsigned i = 0; i < INODE_PARTS; i++)
		lock_init(&table->parts[i].lock, LOCK_INODE_TABLE);
	table->reclaim = reclaim;
	table->ctx = ctx;
	*out = table;
	return 0;
}

void inode_table_free(struct inode_table *table)
{
	if (!table)
		return;
	for (unsigned i = 0; i < INODE_PARTS; i++) {
		assert(table->parts[i].map.count == 0);
		map_release(&table->parts[i].map);
		lock_release(&table->parts[i].lock);
	}
	mem_free(table);
}

uint64_t inode_table_count(struct inode_table *table)
{
	return table->count;
}

static struct inode *part_find_locked(struct inode_part *part, uint64_t hash, uint64_t ino)
{
	for (struct map_node *node = map_first(&part->map, hash); node; node = map_next(node)) {
		struct inode *inode = container_of(node, struct inode, node);

		if (inode->row.ino == ino)
			return inode;
	}
	return NULL;
}

struct inode *inode_find(struct inode_table *table, uint64_t ino)
{
	uint64_t hash = map_hash_u64(ino);
	struct inode_part *part = part_of(table, hash);
	struct inode *inode;

	LOCK_SCOPE(&part->lock);
	inode = part_find_locked(part, hash, ino);
	if (inode)
		inode->refs++;
	return inode;
}

/* The date is kept with the inode, so that no check of a lock has to look for it. */
static int load_lock(struct index *index, struct index_reader *reader, const struct inode_row *row,
		     int64_t *until_sec)
{
	AUTO(buf) text = BUF_INIT;
	int r;

	*until_sec = 0;
	if (!(row->flags & INODE_LOCKED))
		return 0;
	r = index_get_xattr(index, reader, row->ino, bytes_of_str(LOCK_XATTR_NAME), &text);
	if (r < 0 && r != -ENODATA)
		return r;
	if (r == 0 && clock_parse_utc(buf_bytes(&text), until_sec) == 0)
		return 0;
	log_error("lock-damaged", "inode=%llu cause=\"no date\" next=\"it stays locked\"",
		  (unsigned long long)row->ino);
	*until_sec = INT64_MAX;
	return 0;
}

static struct inode *inode_make(const struct inode_row *row)
{
	struct inode *inode = mem_alloc(sizeof(*inode));

	if (!inode)
		return NULL;
	lock_init(&inode->lock, LOCK_INODE);
	inode->row = *row;
	inode->size = row->size;
	inode->refs = 1;
	return inode;
}

static void inode_destroy(struct inode *inode)
{
	assert(!inode->writer);
	lock_release(&inode->lock);
	mem_free(inode);
}

/* The directories that hold the snapshots (store/snapshot.h): no table has them. */
static int holder_row(uint64_t ino, struct inode_row *out)
{
	uint64_t control = ino_in_snapshot(SNAPSHOT_NO_NONE, INO_CONTROL);
	struct wall_time now = clock_wall();

	if (ino != control && ino != ino_in_snapshot(SNAPSHOT_NO_NONE, INO_SNAPSHOTS))
		return -ENOENT;
	*out = (struct inode_row){
		.ino = ino,
		.mode = S_IFDIR | 0555,
		.nlink = 2 + (ino == control),
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
		.parent = ino == control ? INO_ROOT : control,
		.policy_root = INO_ROOT,
	};
	return 0;
}

int inode_load(struct inode_table *table, struct index *index, struct index_reader *reader,
	       uint64_t ino, struct inode **out)
{
	uint64_t hash = map_hash_u64(ino);
	struct inode_part *part = part_of(table, hash);

	for (;;) {
		struct inode *found, *made;
		struct inode_row row;
		uint64_t departures;
		int64_t lock_until_sec = 0;
		bool is_inserted = false;
		int r;

		lock_take(&part->lock);
		found = part_find_locked(part, hash, ino);
		if (found)
			found->refs++;
		departures = part->departures;
		lock_drop(&part->lock);
		if (found) {
			*out = found;
			return 0;
		}
		r = ino_is_holder(ino) ? holder_row(ino, &row)
				       : index_get_inode(index, reader, ino, &row);
		if (r == 0)
			r = load_lock(index, reader, &row, &lock_until_sec);
		if (r < 0)
			return r;
		made = inode_make(&row);
		if (!made)
			return -ENOMEM;
		made->lock_until_sec = lock_until_sec;
		lock_take(&part->lock);
		found = part_find_locked(part, hash, ino);
		r = 0;
		if (found) {
			found->refs++;
		} else if (part->departures == departures) {
			r = map_insert(&part->map, &made->node, hash);
			is_inserted = r == 0;
		}
		lock_drop(&part->lock);
		if (is_inserted) {
			table->count++;
			*out = made;
			return 0;
		}
		inode_destroy(made);
		if (found)
			*out = found;
		if (found || r < 0)
			return r;
	}
}

int inode_add(struct inode_table *table, const struct inode_row *row, struct inode **out)
{
	uint64_t hash = map_hash_u64(row->ino);
	struct inode_part *part = part_of(table, hash);
	struct inode *inode = inode_make(row);
	int r;

	if (!inode)
		return -ENOMEM;
	lock_take(&part->lock);
	assert(!part_find_locked(part, hash, row->ino));
	r = map_insert(&part->map, &inode->node, hash);
	lock_drop(&part->lock);
	if (r < 0) {
		inode_destroy(inode);
		return r;
	}
	table->count++;
	*out = inode;
	return 0;
}

void inode_set_row(struct inode *inode, const struct inode_row *row)
{
	struct inode_row *at = &inode->row;
	size_t from = offsetof(struct inode_row, uid);

	assert(at->ino == row->ino && offsetof(struct inode_row, mode) < from);
	__atomic_store_n(&at->mode, row->mode, __ATOMIC_RELAXED);
	memcpy((char *)at + from, (const char *)row + from, sizeof(*at) - from);
}

void inode_ref(struct inode *inode, uint64_t count)
{
	inode->refs += count;
}

void inode_unref(struct inode_table *table, struct inode *inode, uint64_t count)
{
	uint64_t refs, hash;
	struct inode_part *part;
	bool is_last;

	if (!inode || count == 0)
		return;
	refs = inode->refs;
	while (refs > count)
		if (atomic_compare_exchange_weak(&inode->refs, &refs, refs - count))
			return;
	hash = map_hash_u64(inode->row.ino);
	part = part_of(table, hash);
	lock_take(&part->lock);
	assert(inode->refs >= count);
	is_last = atomic_fetch_sub(&inode->refs, count) == count;
	if (is_last) {
		map_remove(&part->map, &inode->node);
		part->departures++;
		table->count--;
	}
	lock_drop(&part->lock);
	if (!is_last)
		return;

	uint64_t ino = inode->row.ino;
	bool is_orphan = inode->row.nlink == 0;

	inode_destroy(inode);
	if (is_orphan)
		table->reclaim(table->ctx, ino);
}

void inode_table_visit(struct inode_table *table, void (*visit)(void *ctx, struct inode *inode),
		       void *ctx)
{
	for (unsigned i = 0; i < INODE_PARTS; i++) {
		struct inode_part *part = &table->parts[i];
		struct inode **list = NULL;
		size_t count = 0;

		lock_take(&part->lock);
		if (part->map.count > 0)
			list = mem_alloc_array(part->map.count, sizeof(*list));
		for (struct map_node *node = list ? map_iterate(&part->map, NULL) : NULL; node;
		     node = map_iterate(&part->map, node)) {
			list[count] = container_of(node, struct inode, node);
			list[count++]->refs++;
		}
		lock_drop(&part->lock);
		for (size_t k = 0; k < count; k++) {
			visit(ctx, list[k]);
			inode_unref(table, list[k], 1);
		}
		mem_free(list);
	}
}
