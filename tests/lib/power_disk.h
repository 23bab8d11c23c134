/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_POWER_DISK_H
#define SHARDFS_TESTS_POWER_DISK_H

/*
 * A disk that forgets.  Everything is in memory, twice: as programs see it, and
 * as it would be after the power failed.  What a write or a change of names does
 * is seen at once; it lasts from
 *
 *	disk_sync_file		bytes and size of one file
 *	disk_sync_dir		names in one directory
 *
 * and nothing else: a file that is synced in a directory that is not has no name.
 * A change of names (a rename with both its ends) is atomic, and those of one
 * name last in their order; otherwise nothing lasts in any order.
 *
 * Names are those of directories and regular files.  Not thread-safe.
 */
#include "tests/lib/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define DISK_PAGE ((size_t)4096)

struct node;

struct dir_entry {
	char *name;
	uint64_t hash;
	struct node *node;
};

struct dir_entries {
	struct dir_entry *entries;
	size_t count, capacity;
};

struct node {
	uint64_t ino;
	struct node *next, *prev; /* disk->nodes */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime, ctime;
	uint32_t links;           /* as programs see it; 1 for a directory */
	uint64_t refs;            /* entries of either kind, changes, and the next two */
	uint64_t lookups, opens;  /* the kernel's */
	struct dir_entries seen, safe;
	uint64_t seen_size, safe_size;
	uint32_t *seen_pages, *safe_pages; /* 0: a hole */
	uint8_t *is_dirty;        /* by page: what is seen may not be what is safe */
	size_t page_capacity;
	bool is_unsynced;         /* any page or the size */
};

/* What survives of what was not synced. */
enum disk_loss {
	LOSS_DROP,    /* nothing */
	LOSS_NAMES,   /* every change of names, no bytes: files that are empty */
	LOSS_DATA,    /* all bytes and sizes, no names */
	LOSS_FILES,   /* every change of names; of each file's bytes all or none */
	LOSS_ORDERED, /* names up to some moment, bytes at random */
	LOSS_RANDOM,  /* anything: some names, some pages, some of them torn */
	LOSS_KEEP,    /* everything, as after a mere kill */
	LOSS_COUNT
};

struct disk_change_half {
	struct node *dir, *node; /* node NULL: the name goes */
	char *name;
	uint64_t hash;
};

struct disk_change {
	struct disk_change_half half[2];
	unsigned count;
	bool is_picked;
};

struct disk {
	uint8_t *pages; /* page 0 is zeros, never written */
	uint32_t *page_refs, *free_pages;
	size_t page_count, page_max, free_count;
	struct node *nodes, *root;
	uint64_t next_ino;
	struct disk_change **changes; /* unsynced, oldest first */
	size_t change_count, change_capacity;
	bool is_writing_back; /* now and then something lasts unasked */
	bool is_off;          /* the power failed */
	bool lies;            /* syncs are answered and not done: a test of the tests */
	struct rng rng;
	uint64_t synced_files, synced_dirs;
};

/* What a loss did. */
struct disk_report {
	uint64_t changes, changes_kept, pages, pages_kept, pages_torn;
};

void disk_init(struct disk *disk);

struct node *disk_find(const struct node *dir, const char *name);
/* 0 and the new node, or a negative errno. */
int disk_create(struct disk *disk, struct node *dir, const char *name, mode_t mode,
		struct node **out);
int disk_link(struct disk *disk, struct node *node, struct node *dir, const char *name);
int disk_remove(struct disk *disk, struct node *dir, const char *name, bool is_dir);
int disk_rename(struct disk *disk, struct node *from, const char *name, struct node *to,
		const char *new_name, unsigned flags);

int disk_write(struct disk *disk, struct node *node, const uint8_t *bytes, size_t len,
	       uint64_t off);
int disk_resize(struct disk *disk, struct node *node, uint64_t size);
/* Frees whole pages of [off, off + len), zeroes the rest. */
int disk_punch(struct disk *disk, struct node *node, uint64_t off, uint64_t len);
/* Points iov at the bytes; returns their number (0 at the end).  iov has len / DISK_PAGE + 2. */
size_t disk_read(const struct disk *disk, const struct node *node, uint64_t off, size_t len,
		 struct iovec *iov, int *iov_count);
bool disk_is_hole(const struct node *node, uint64_t off);

void disk_sync_file(struct disk *disk, struct node *node);
void disk_sync_dir(struct disk *disk, struct node *dir);

/* From now on is_off; only the survivors are seen. */
struct disk_report disk_lose(struct disk *disk, enum disk_loss loss, uint64_t seed);
/* The kernel has forgotten everything; the power is on. */
void disk_boot(struct disk *disk);

void disk_node_put(struct disk *disk, struct node *node);

#endif
