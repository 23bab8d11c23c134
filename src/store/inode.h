/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_INODE_H
#define SHARDFS_STORE_INODE_H

/*
 * Inodes in memory: those that the kernel knows, that are open, or that hold
 * bytes which the journal does not have yet.  Everything else is in the index.
 *
 * row.size is the recorded size (never ahead of journalled bytes); size is
 * the visible one.  Whoever changes row submits a record with it while holding
 * the inode's lock, so the order of records is the order of changes.
 */

#include "index/index.h"
#include "store/sequencer.h"
#include "util/lock.h"
#include "util/map.h"

struct inode_writer; /* store/writer.c; NULL while nothing is dirty */

struct inode {
	struct map_node node;   /* table's lock */
	_Atomic uint64_t refs;  /* kernel lookups, open handles, requests, dirty state */
	_Atomic uint64_t lookups; /* of these, the kernel's; kept by the front door */
	struct lock lock;       /* LOCK_INODE: guards all below */
	struct inode_row row;   /* as last submitted */
	uint64_t size;          /* visible */
	uint64_t last_seq;      /* newest record that concerns it */
	int64_t lock_until_sec; /* with INODE_LOCKED: may_change.h; INT64_MAX: the date is damaged */
	uint64_t data_version;  /* moves with each change of its extents or dirty bytes */
	struct inode_writer *writer;
	uint32_t open_count;    /* handles */
	uint32_t write_open_count;
	int write_error;        /* negative errno for the next flush or fsync; then 0 */
	bool is_sparse_known;   /* alloc_bytes is right */
	uint64_t alloc_bytes;   /* covered by extents (sparse files only) */
};

struct inode_table;

/* reclaim: an inode without names lost its last reference; any thread, no lock held. */
int inode_table_new(void (*reclaim)(void *ctx, uint64_t ino), void *ctx, struct inode_table **out);
void inode_table_free(struct inode_table *table); /* no inode may be referenced */
uint64_t inode_table_count(struct inode_table *table);

/* With a reference for the caller; NULL when it is not in memory. */
struct inode *inode_find(struct inode_table *table, uint64_t ino);
/*
 * inode_load - from memory, overlay, or (with a reader) the engine.  0; -ENOENT; -EAGAIN (reader
 * NULL and not in memory).  Orphans are found too.
 */
int inode_load(struct inode_table *table, struct index *index, struct index_reader *reader,
	       uint64_t ino, struct inode **out);
/* A new inode, not yet in the index; the number must be fresh.  -ENOMEM. */
int inode_add(struct inode_table *table, const struct inode_row *row, struct inode **out);
void inode_ref(struct inode *inode, uint64_t count);
/* May free it and may call reclaim; accepts NULL.  No lock held. */
void inode_unref(struct inode_table *table, struct inode *inode, uint64_t count);

/*
 * The number and the type of an inode never change, so row.ino, inode_is_dir() and
 * inode_is_regular() need no lock; inode_set_row() keeps it so.
 */
static inline bool inode_is_dir(const struct inode *inode)
{
	return (__atomic_load_n(&inode->row.mode, __ATOMIC_RELAXED) & 0170000) == 0040000;
}
static inline bool inode_is_regular(const struct inode *inode)
{
	return (__atomic_load_n(&inode->row.mode, __ATOMIC_RELAXED) & 0170000) == 0100000;
}
/* A row of the same inode; inode locked. */
void inode_set_row(struct inode *inode, const struct inode_row *row);

/* Every inode in memory, one by one with a reference, in no order: visit(ctx, inode). */
void inode_table_visit(struct inode_table *table, void (*visit)(void *ctx, struct inode *inode),
		       void *ctx);

#endif
