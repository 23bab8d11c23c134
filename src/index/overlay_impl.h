/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_INDEX_OVERLAY_IMPL_H
#define SHARDFS_INDEX_OVERLAY_IMPL_H

/*
 * What overlay.c (changing), overlay_make.c (making what is noted), overlay_read.c and
 * overlay_read_objects.c (reading) share.
 */

#include "index/overlay.h"
#include "util/list.h"
#include "util/lock.h"
#include "util/map.h"
#include "util/tree.h"

#include <stdatomic.h>

#define STRIPE_COUNT 64 /* of inodes; one more holds the objects */

enum entry_kind {
	ENTRY_NAME,   /* (parent, name): a row, or that there is none */
	ENTRY_COOKIE, /* (parent, cookie): the engine's row there is gone */
	ENTRY_INODE,
	ENTRY_SYMLINK,
	ENTRY_XATTR,
	ENTRY_RANGE,     /* of an inode: an extent or a hole */
	ENTRY_DIRECTORY, /* all names of it are here; clean */
	ENTRY_CHUNK,
	ENTRY_SHARD,
	ENTRY_COPY,
	ENTRY_ORPHAN,
	ENTRY_PROVIDER,
	ENTRY_POLICY,
	ENTRY_SETTING,
	ENTRY_SNAPSHOT,
	ENTRY_KIND_COUNT,
};

/*
 * Common to all.  An entry is pending (list of its stripe in the order of seq) until a drop at or
 * beyond seq; then names become clean (in the stripe's LRU), the others go.
 */
struct entry {
	struct map_node node; /* NAME: names; INODE, SYMLINK, XATTR, DIRECTORY: by_inode */
	struct list link;
	struct tree_node tree; /* NAME that is there, COOKIE: cookies; RANGE: ranges; objects */
	uint64_t seq;
	uint32_t bytes;
	uint8_t kind;
	bool is_deleted; /* tombstone */
	bool is_clean;
};

struct name_entry {
	struct entry entry;
	uint64_t parent, cookie, ino; /* cookie: in cookies while !is_deleted */
	uint32_t type;
	uint8_t name_len;
	char name[];
};

struct cookie_entry {
	struct entry entry;
};

struct inode_entry {
	struct entry entry;
	struct inode_row row;
};

struct symlink_entry {
	struct entry entry;
	uint64_t ino;
	uint32_t len;
	char target[];
};

struct xattr_entry {
	struct entry entry;
	uint64_t ino;
	uint32_t value_len;
	uint8_t name_len;
	char bytes[]; /* name, then value */
};

struct range_entry {
	struct entry entry; /* tree key: (ino, off) */
	uint64_t len;
	uint64_t chunk_no;
	uint32_t chunk_off;
	bool is_hole;
};

struct directory_entry {
	struct entry entry;
	uint64_t ino;
};

struct chunk_entry {
	struct entry entry;
	struct map_node by_id;     /* only with has_row */
	struct tree_node by_shard; /* (shard_no, chunk_no); only with has_row */
	struct chunk_row row;
	bool has_row;
	bool is_dying; /* CHUNK_DEL was noted: no longer found by its name */
};

struct shard_entry {
	struct entry entry;
	struct shard_row row;
};

struct copy_entry {
	struct entry entry;
	struct copy_row row;
};

struct orphan_entry {
	struct entry entry;
};

struct provider_entry {
	struct entry entry;
	struct provider_row row;
};

struct policy_entry {
	struct entry entry;
	struct policy_row row;
};

struct setting_entry {
	struct entry entry;
	uint32_t value_len;
	uint8_t key_len;
	char bytes[]; /* key, then value */
};

struct snapshot_entry {
	struct entry entry;
	struct snapshot_row row;
};

struct stripe {
	struct lock lock; /* LOCK_OVERLAY: guards all below */
	struct list pending;
	uint64_t drops; /* times that pending entries were dropped */
	unsigned holds; /* looks that forbid to */
	/* of inodes */
	struct map names, by_inode;
	struct tree cookies, ranges;
	struct list lru; /* oldest first */
	/* of objects */
	struct map chunk_ids, settings;
	struct tree chunks_of_shard;
	struct tree objects[ENTRY_KIND_COUNT]; /* chunk, shard, copy, orphan, provider, ... */
};

struct overlay {
	struct stripe stripes[STRIPE_COUNT];
	struct stripe objects;
	uint64_t clean_max;
	_Atomic uint64_t clean_count; /* in all LRUs */
	_Atomic unsigned trim_turn;
	_Atomic uint64_t bytes;       /* of pending entries */
	_Atomic uint64_t drop_rounds;
	/* The engine knows no number beyond these.  Loaded after the look-up, under its lock. */
	_Atomic uint64_t stored_ino, stored_chunk, stored_shard;
	struct list spare_cookies, spare_ranges; /* overlay_note only */
	size_t spare_cookie_count, spare_range_count;
};

struct stripe *overlay_stripe(struct overlay *overlay, uint64_t ino);
uint64_t overlay_name_hash(uint64_t parent, struct bytes name);
struct name_entry *overlay_find_name(struct stripe *stripe, uint64_t parent, struct bytes name,
				     uint64_t hash);
/* The entry of that kind in by_inode: INODE, SYMLINK, DIRECTORY. */
struct entry *overlay_find_by_inode(struct stripe *stripe, enum entry_kind kind, uint64_t ino);
struct xattr_entry *overlay_find_xattr(struct stripe *stripe, uint64_t ino, struct bytes name);
struct setting_entry *overlay_find_setting(struct stripe *stripe, struct bytes key);
/* Newest in the LRU.  The caller holds the stripe's lock, and trims when it has dropped it. */
void overlay_add_clean_locked(struct overlay *overlay, struct stripe *stripe, struct entry *entry);
void overlay_trim(struct overlay *overlay); /* evicts over the bound; no lock held */
/* A clean name for what the engine said, unless something newer is there.  -ENOMEM: none. */
int overlay_learn_locked(struct overlay *overlay, struct stripe *stripe, uint64_t parent,
			 struct bytes name, const struct dirent_row *row);
void overlay_learn_directory_locked(struct overlay *overlay, struct stripe *stripe, uint64_t ino);
void overlay_touch_locked(struct stripe *stripe, struct entry *entry);

/* overlay_read.c: as overlay_look_check; the stripe's lock is held. */
int overlay_look_check_locked(const struct overlay_look *look);

/* Whether the engine cannot have it: nothing with so high a number was ever dropped from here. */
static inline bool overlay_is_beyond(const _Atomic uint64_t *stored, uint64_t number)
{
	return number > atomic_load(stored);
}

/* overlay.c */
void *overlay_entry_new(enum entry_kind kind, uint64_t seq, size_t size); /* NULL: -ENOMEM */
#define ENTRY_NEW(T, kind, seq, more)                                                              \
	((struct T *)overlay_entry_new(kind, seq, sizeof(struct T) + (more)))
struct name_entry *overlay_name_new(uint64_t seq, uint64_t parent, uint64_t cookie,
				   struct bytes name);
/* Cannot fail: takes entry; spares for what it splits were set aside. */
void overlay_install(struct overlay *overlay, struct entry *entry);

/* overlay_make.c */
void overlay_free_list(struct list *list); /* entries */

#endif
