/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages are shared between what is seen and what is safe, and copied when one
 * that is shared is written; so a sync costs as much as was written, and memory
 * is what the files hold.
 *
 * Invariant: a node is freed when nothing refers to it: no entry that is seen or
 * safe, no change that may still become safe, no lookup or open of the kernel.
 */
#include "tests/lib/power_disk.h"

#include "util/map.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGES_MAX    ((size_t)4 << 20) /* 16 GiB of addresses */
#define SECTOR       ((size_t)512)
#define RENAME_FLAGS 3u /* NOREPLACE 1, EXCHANGE 2 */

static void *need(void *p)
{
	if (!p) {
		fputs("powerfs: out of memory\n", stderr);
		abort();
	}
	return p;
}

static struct timespec now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts;
}

static uint64_t hash_of(const char *name)
{
	return map_hash_bytes(0, name, strlen(name));
}

/* ---- pages ---- */

static uint8_t *page_at(const struct disk *disk, uint32_t page)
{
	return disk->pages + page * DISK_PAGE;
}

static uint32_t page_new(struct disk *disk)
{
	uint32_t page;

	if (disk->free_count > 0) {
		page = disk->free_pages[--disk->free_count];
	} else {
		if (disk->page_count == PAGES_MAX)
			return 0;
		page = (uint32_t)disk->page_count++;
	}
	disk->page_refs[page] = 1;
	return page;
}

static uint32_t page_get(struct disk *disk, uint32_t page)
{
	if (page)
		disk->page_refs[page]++;
	return page;
}

static void page_put(struct disk *disk, uint32_t page)
{
	if (page && --disk->page_refs[page] == 0)
		disk->free_pages[disk->free_count++] = page;
}

static void page_set(struct disk *disk, uint32_t *slot, uint32_t page)
{
	page_put(disk, *slot);
	*slot = page;
}

static void pages_reserve(struct node *node, size_t count)
{
	size_t capacity = MAX(node->page_capacity * 2, (size_t)16), old = node->page_capacity;

	if (count <= old)
		return;
	capacity = MAX(capacity, count);
	node->seen_pages = need(realloc(node->seen_pages, capacity * sizeof(uint32_t)));
	node->safe_pages = need(realloc(node->safe_pages, capacity * sizeof(uint32_t)));
	node->is_dirty = need(realloc(node->is_dirty, capacity));
	memset(node->seen_pages + old, 0, (capacity - old) * sizeof(uint32_t));
	memset(node->safe_pages + old, 0, (capacity - old) * sizeof(uint32_t));
	memset(node->is_dirty + old, 0, capacity - old);
	node->page_capacity = capacity;
}

static size_t pages_of(uint64_t size)
{
	return (size_t)((size + DISK_PAGE - 1) / DISK_PAGE);
}

static void page_dirty(struct node *node, size_t i)
{
	node->is_dirty[i] = 1;
	node->is_unsynced = true;
}

/* The page is this file's alone afterwards, and seen only. */
static int page_own(struct disk *disk, struct node *node, size_t i)
{
	uint32_t old = node->seen_pages[i], page;

	page_dirty(node, i);
	if (old && disk->page_refs[old] == 1)
		return 0;
	page = page_new(disk);
	if (!page)
		return -ENOSPC;
	memcpy(page_at(disk, page), page_at(disk, old), DISK_PAGE);
	page_set(disk, &node->seen_pages[i], page);
	return 0;
}

/* ---- nodes ---- */

static struct node *node_new(struct disk *disk, mode_t mode)
{
	struct node *node = need(calloc(1, sizeof(*node)));

	node->ino = disk->next_ino++;
	node->mode = mode;
	node->mtime = node->ctime = now();
	node->next = disk->nodes;
	if (node->next)
		node->next->prev = node;
	disk->nodes = node;
	return node;
}

static void entries_release(struct disk *disk, struct dir_entries *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->entries[i].name);
		disk_node_put(disk, list->entries[i].node);
	}
	free(list->entries);
	*list = (struct dir_entries){0};
}

static void node_free(struct disk *disk, struct node *node)
{
	entries_release(disk, &node->seen);
	entries_release(disk, &node->safe);
	for (size_t i = 0; i < node->page_capacity; i++) {
		page_put(disk, node->seen_pages[i]);
		page_put(disk, node->safe_pages[i]);
	}
	free(node->seen_pages);
	free(node->safe_pages);
	free(node->is_dirty);
	if (node->prev)
		node->prev->next = node->next;
	else
		disk->nodes = node->next;
	if (node->next)
		node->next->prev = node->prev;
	free(node);
}

void disk_node_put(struct disk *disk, struct node *node)
{
	if (node && --node->refs == 0)
		node_free(disk, node);
}

static struct node *node_get(struct node *node)
{
	if (node)
		node->refs++;
	return node;
}

/* ---- names ---- */

static struct dir_entry *entry_find(const struct dir_entries *list, const char *name, uint64_t hash)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->entries[i].hash == hash && strcmp(list->entries[i].name, name) == 0)
			return &list->entries[i];
	return NULL;
}

/* node NULL: the name goes. */
static void entry_set(struct disk *disk, struct dir_entries *list, const char *name, uint64_t hash,
		      struct node *node)
{
	struct dir_entry *entry = entry_find(list, name, hash);
	struct node *old = entry ? entry->node : NULL;

	node_get(node);
	if (entry && node) {
		entry->node = node;
	} else if (entry) {
		free(entry->name);
		*entry = list->entries[--list->count];
	} else if (node) {
		if (list->count == list->capacity) {
			list->capacity = MAX(list->capacity * 2, (size_t)8);
			list->entries = need(realloc(list->entries,
						     list->capacity * sizeof(*list->entries)));
		}
		list->entries[list->count++] =
			(struct dir_entry){.name = need(strdup(name)), .hash = hash, .node = node};
	}
	disk_node_put(disk, old);
}

struct node *disk_find(const struct node *dir, const char *name)
{
	struct dir_entry *entry = entry_find(&dir->seen, name, hash_of(name));

	return entry ? entry->node : NULL;
}

/* ---- changes of names ---- */

static void change_free(struct disk *disk, struct disk_change *change)
{
	for (unsigned i = 0; i < change->count; i++) {
		free(change->half[i].name);
		disk_node_put(disk, change->half[i].dir);
		disk_node_put(disk, change->half[i].node);
	}
	free(change);
}

static struct disk_change *change_new(struct disk *disk)
{
	struct disk_change *change = need(calloc(1, sizeof(*change)));

	if (disk->change_count == disk->change_capacity) {
		disk->change_capacity = MAX(disk->change_capacity * 2, (size_t)64);
		disk->changes = need(realloc(disk->changes,
					     disk->change_capacity * sizeof(*disk->changes)));
	}
	disk->changes[disk->change_count++] = change;
	return change;
}

/* One more half of a change, and what is seen follows. */
static void change_do(struct disk *disk, struct disk_change *change, struct node *dir,
		      const char *name, struct node *node)
{
	struct disk_change_half *half = &change->half[change->count++];
	struct node *old = disk_find(dir, name);

	half->dir = node_get(dir);
	half->node = node_get(node);
	half->name = need(strdup(name));
	half->hash = hash_of(name);
	if (node)
		node->links++;
	if (old)
		old->links--;
	entry_set(disk, &dir->seen, name, half->hash, node);
	dir->mtime = dir->ctime = now();
}

static uint64_t pair_of(const struct disk_change_half *half)
{
	return map_hash_u64(half->hash ^ map_hash_u64(half->dir->ino)) | 1;
}

/* Picks, too, what came earlier to the same names. */
static void pick_closure(struct disk *disk)
{
	size_t size = 64, mask;
	uint64_t *set;

	while (size < disk->change_count * 4)
		size *= 2;
	mask = size - 1;
	set = need(calloc(size, sizeof(*set)));
	for (size_t i = disk->change_count; i-- > 0;) {
		struct disk_change *change = disk->changes[i];

		for (unsigned h = 0; h < change->count && !change->is_picked; h++) {
			uint64_t pair = pair_of(&change->half[h]);

			for (size_t at = pair & mask; set[at]; at = (at + 1) & mask)
				change->is_picked |= set[at] == pair;
		}
		for (unsigned h = 0; h < change->count && change->is_picked; h++) {
			uint64_t pair = pair_of(&change->half[h]);
			size_t at = pair & mask;

			while (set[at] && set[at] != pair)
				at = (at + 1) & mask;
			set[at] = pair;
		}
	}
	free(set);
}

/* What is picked becomes safe, in its order, and is a change no more. */
static uint64_t apply_picked(struct disk *disk)
{
	size_t left = 0, count = disk->change_count;

	for (size_t i = 0; i < count; i++) {
		struct disk_change *change = disk->changes[i];

		if (!change->is_picked) {
			disk->changes[left++] = change;
			continue;
		}
		for (unsigned h = 0; h < change->count; h++)
			entry_set(disk, &change->half[h].dir->safe, change->half[h].name,
				  change->half[h].hash, change->half[h].node);
		change_free(disk, change);
	}
	disk->change_count = left;
	return count - left;
}

int disk_create(struct disk *disk, struct node *dir, const char *name, mode_t mode,
		struct node **out)
{
	struct node *node;

	if (disk_find(dir, name))
		return -EEXIST;
	node = node_new(disk, mode);
	change_do(disk, change_new(disk), dir, name, node);
	*out = node;
	return 0;
}

int disk_link(struct disk *disk, struct node *node, struct node *dir, const char *name)
{
	if (disk_find(dir, name))
		return -EEXIST;
	if (S_ISDIR(node->mode))
		return -EPERM;
	change_do(disk, change_new(disk), dir, name, node);
	return 0;
}

int disk_remove(struct disk *disk, struct node *dir, const char *name, bool is_dir)
{
	struct node *node = disk_find(dir, name);

	if (!node)
		return -ENOENT;
	if (is_dir != S_ISDIR(node->mode))
		return is_dir ? -ENOTDIR : -EISDIR;
	if (node->seen.count > 0)
		return -ENOTEMPTY;
	change_do(disk, change_new(disk), dir, name, NULL);
	return 0;
}

int disk_rename(struct disk *disk, struct node *from, const char *name, struct node *to,
		const char *new_name, unsigned flags)
{
	struct node *node = disk_find(from, name), *target = disk_find(to, new_name);
	struct disk_change *change;
	int r = 0;

	if (!node || ((flags & 2) && !target))
		return -ENOENT;
	if (flags & ~RENAME_FLAGS)
		return -EINVAL;
	if ((flags & 1) && target)
		return -EEXIST;
	if (node == target)
		return 0;
	if (target && !(flags & 2) && S_ISDIR(target->mode) != S_ISDIR(node->mode))
		return S_ISDIR(target->mode) ? -EISDIR : -ENOTDIR;
	if (target && !(flags & 2) && target->seen.count > 0)
		return -ENOTEMPTY;
	node_get(node);
	node_get(target);
	change = change_new(disk);
	change_do(disk, change, to, new_name, node);
	change_do(disk, change, from, name, (flags & 2) ? target : NULL);
	disk_node_put(disk, node);
	disk_node_put(disk, target);
	return r;
}

/* ---- bytes ---- */

static void touch(struct node *node)
{
	node->mtime = node->ctime = now();
	node->is_unsynced = true;
}

int disk_write(struct disk *disk, struct node *node, const uint8_t *bytes, size_t len, uint64_t off)
{
	pages_reserve(node, pages_of(off + len));
	touch(node);
	while (len > 0) {
		size_t i = (size_t)(off / DISK_PAGE), at = (size_t)(off % DISK_PAGE);
		size_t step = MIN(DISK_PAGE - at, len);
		int r;

		/* An older version may have reached the disk by itself. */
		if (disk->is_writing_back && node->is_dirty[i] && rng_below(&disk->rng, 8) == 0)
			page_set(disk, &node->safe_pages[i], page_get(disk, node->seen_pages[i]));
		r = page_own(disk, node, i);
		if (r < 0)
			return r;
		memcpy(page_at(disk, node->seen_pages[i]) + at, bytes, step);
		bytes += step;
		off += step;
		len -= step;
		node->seen_size = MAX(node->seen_size, off);
	}
	return 0;
}

static int zero_part(struct disk *disk, struct node *node, uint64_t from, uint64_t to)
{
	size_t i = (size_t)(from / DISK_PAGE);
	int r;

	if (from == to || i >= node->page_capacity || !node->seen_pages[i])
		return 0;
	r = page_own(disk, node, i);
	if (r == 0)
		memset(page_at(disk, node->seen_pages[i]) + from % DISK_PAGE, 0, to - from);
	return r;
}

int disk_punch(struct disk *disk, struct node *node, uint64_t off, uint64_t len)
{
	uint64_t end = MIN(off + len, node->page_capacity * DISK_PAGE);
	int r = 0;

	touch(node);
	while (off < end && r == 0) {
		uint64_t step = MIN(DISK_PAGE - off % DISK_PAGE, end - off);
		size_t i = (size_t)(off / DISK_PAGE);

		if (step < DISK_PAGE) {
			r = zero_part(disk, node, off, off + step);
		} else if (node->seen_pages[i]) {
			page_dirty(node, i);
			page_set(disk, &node->seen_pages[i], 0);
		}
		off += step;
	}
	return r;
}

int disk_resize(struct disk *disk, struct node *node, uint64_t size)
{
	int r = 0;

	if (size < node->seen_size)
		r = disk_punch(disk, node, size, node->seen_size - size);
	touch(node);
	if (r == 0)
		node->seen_size = size;
	return r;
}

size_t disk_read(const struct disk *disk, const struct node *node, uint64_t off, size_t len,
		 struct iovec *iov, int *iov_count)
{
	size_t done = 0;
	int n = 0;

	if (off < node->seen_size)
		len = (size_t)MIN(len, node->seen_size - off);
	else
		len = 0;
	while (done < len) {
		size_t i = (size_t)(off / DISK_PAGE), at = (size_t)(off % DISK_PAGE);
		size_t step = MIN(DISK_PAGE - at, len - done);
		uint32_t page = i < node->page_capacity ? node->seen_pages[i] : 0;

		iov[n++] = (struct iovec){.iov_base = page_at(disk, page) + at, .iov_len = step};
		done += step;
		off += step;
	}
	*iov_count = n;
	return done;
}

bool disk_is_hole(const struct node *node, uint64_t off)
{
	size_t i = (size_t)(off / DISK_PAGE);

	return i >= node->page_capacity || !node->seen_pages[i];
}

/* ---- syncs ---- */

void disk_sync_file(struct disk *disk, struct node *node)
{
	disk->synced_files++;
	if (!node->is_unsynced || disk->lies)
		return;
	for (size_t i = 0; i < node->page_capacity; i++) {
		if (!node->is_dirty[i])
			continue;
		node->is_dirty[i] = 0;
		page_set(disk, &node->safe_pages[i], page_get(disk, node->seen_pages[i]));
	}
	node->safe_size = node->seen_size;
	node->is_unsynced = false;
}

void disk_sync_dir(struct disk *disk, struct node *dir)
{
	bool is_any = false;

	disk->synced_dirs++;
	if (disk->lies)
		return;
	for (size_t i = 0; i < disk->change_count; i++) {
		struct disk_change *change = disk->changes[i];

		for (unsigned h = 0; h < change->count; h++)
			change->is_picked |= change->half[h].dir == dir;
		is_any |= change->is_picked;
	}
	if (!is_any)
		return;
	pick_closure(disk);
	apply_picked(disk);
}

/* ---- loss ---- */

static void pick_survivors(struct disk *disk, enum disk_loss loss)
{
	/* A third of random losses keep most, a third little. */
	uint64_t chance = 1 + rng_below(&disk->rng, 15), upto = disk->change_count;

	if (loss == LOSS_DROP || loss == LOSS_DATA)
		return;
	if (loss == LOSS_ORDERED)
		upto = rng_below(&disk->rng, upto + 1);
	for (size_t i = 0; i < upto; i++)
		disk->changes[i]->is_picked =
			loss != LOSS_RANDOM || rng_below(&disk->rng, 16) < chance;
	if (loss == LOSS_RANDOM)
		pick_closure(disk);
}

/* The first sectors are new, the others old. */
static void page_tear(struct disk *disk, struct node *node, size_t i)
{
	size_t cut = SECTOR * (1 + rng_below(&disk->rng, DISK_PAGE / SECTOR - 1));
	uint32_t page = page_new(disk);

	if (!page)
		return;
	memcpy(page_at(disk, page), page_at(disk, node->seen_pages[i]), cut);
	memcpy(page_at(disk, page) + cut, page_at(disk, node->safe_pages[i]) + cut, DISK_PAGE - cut);
	page_set(disk, &node->safe_pages[i], page);
}

static uint64_t size_after(struct disk *disk, const struct node *node)
{
	uint64_t a = MIN(node->seen_size, node->safe_size), b = MAX(node->seen_size, node->safe_size);
	uint64_t between = (a + rng_below(&disk->rng, b - a + 1)) & ~(uint64_t)(SECTOR - 1);

	switch (rng_below(&disk->rng, 3)) {
	case 0: return node->safe_size;
	case 1: return node->seen_size;
	default: return MAX(a, between);
	}
}

static void file_lose(struct disk *disk, struct node *node, enum disk_loss loss,
		      struct disk_report *report)
{
	uint64_t chance = 1 + rng_below(&disk->rng, 15);
	bool is_lucky = loss == LOSS_FILES && chance < 8;
	bool is_all = loss == LOSS_DATA || loss == LOSS_KEEP || is_lucky;
	bool is_none = !is_all && (loss == LOSS_DROP || loss == LOSS_NAMES || loss == LOSS_FILES);

	for (size_t i = 0; i < node->page_capacity; i++) {
		if (!node->is_dirty[i])
			continue;
		node->is_dirty[i] = 0;
		report->pages++;
		if (is_none || (!is_all && rng_below(&disk->rng, 16) >= chance))
			continue;
		report->pages_kept++;
		if (!is_all && rng_below(&disk->rng, 4) == 0) {
			page_tear(disk, node, i);
			report->pages_torn++;
		} else {
			page_set(disk, &node->safe_pages[i], page_get(disk, node->seen_pages[i]));
		}
	}
	if (is_all)
		node->safe_size = node->seen_size;
	else if (!is_none)
		node->safe_size = size_after(disk, node);
	node->is_unsynced = false;
}

static void node_see_safe(struct disk *disk, struct node *node)
{
	size_t count = pages_of(node->safe_size), tail = node->safe_size % DISK_PAGE;

	pages_reserve(node, count);
	for (size_t i = 0; i < node->page_capacity; i++) {
		if (i >= count)
			page_set(disk, &node->safe_pages[i], 0);
		page_set(disk, &node->seen_pages[i], page_get(disk, node->safe_pages[i]));
	}
	node->seen_size = node->safe_size;
	if (tail && node->seen_pages[count - 1] && page_own(disk, node, count - 1) == 0) {
		memset(page_at(disk, node->seen_pages[count - 1]) + tail, 0, DISK_PAGE - tail);
		page_set(disk, &node->safe_pages[count - 1],
			 page_get(disk, node->seen_pages[count - 1]));
		node->is_dirty[count - 1] = 0;
	}
	node->is_unsynced = false;
	entries_release(disk, &node->seen);
	for (size_t i = 0; i < node->safe.count; i++)
		entry_set(disk, &node->seen, node->safe.entries[i].name, node->safe.entries[i].hash,
			  node->safe.entries[i].node);
}

static void count_links(struct disk *disk)
{
	for (struct node *node = disk->nodes; node; node = node->next)
		node->links = node == disk->root;
	for (struct node *node = disk->nodes; node; node = node->next)
		for (size_t i = 0; i < node->seen.count; i++)
			node->seen.entries[i].node->links++;
}

/* Each node has one share more than it should: so `next` is there whatever is freed. */
static void drop_shares(struct disk *disk)
{
	for (struct node *node = disk->nodes, *next; node; node = next) {
		next = node->next;
		disk_node_put(disk, node);
	}
}

struct disk_report disk_lose(struct disk *disk, enum disk_loss loss, uint64_t seed)
{
	struct disk_report report = {.changes = disk->change_count};

	disk->rng = (struct rng){.seed = seed, .state = seed};
	disk->is_off = true;
	pick_survivors(disk, loss);
	report.changes_kept = apply_picked(disk);
	for (struct node *node = disk->nodes; node; node = node->next) {
		node->refs++; /* none is freed under us */
		file_lose(disk, node, loss, &report);
	}
	while (disk->change_count > 0)
		change_free(disk, disk->changes[--disk->change_count]);
	for (struct node *node = disk->nodes; node; node = node->next)
		node_see_safe(disk, node);
	count_links(disk);
	drop_shares(disk);
	return report;
}

void disk_boot(struct disk *disk)
{
	for (struct node *node = disk->nodes; node; node = node->next) {
		node->refs += 1 - (node->lookups > 0) - node->opens;
		node->lookups = node->opens = 0;
	}
	drop_shares(disk);
	disk->is_off = false;
}

void disk_init(struct disk *disk)
{
	void *pages = mmap(NULL, PAGES_MAX * DISK_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	*disk = (struct disk){.page_count = 1, .next_ino = 1};
	disk->pages = need(pages == MAP_FAILED ? NULL : pages);
	disk->page_refs = need(calloc(PAGES_MAX, sizeof(*disk->page_refs)));
	disk->free_pages = need(calloc(PAGES_MAX, sizeof(*disk->free_pages)));
	disk->root = node_new(disk, S_IFDIR | 0755);
	disk->root->refs = disk->root->links = 1;
}
