/* SPDX-License-Identifier: Apache-2.0 */
#include "store/cache.h"

#include "util/counter.h"
#include "util/err.h"
#include "util/file.h"
#include "util/list.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/map.h"
#include "util/queue.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * One file for each object: <32 hex> when it is whole, <32 hex>.part when it
 * is a sparse file of ranges.  The map of ranges is in memory; after a restart it
 * is read off the file's extents, cut to whole blocks (what it gets wrong does
 * not authenticate, and the object is dropped).
 *
 * Replacement is a segmented LRU.  What comes is on probation; what is used
 * again becomes protected (3/4 of the size at most).  Uses count as one while
 * less than CORRELATED_BYTES went through the cache since the last one: the
 * records of a shard that is read from end to end are one use of it.
 *
 * INVARIANT: nothing here is the only copy of anything, so nothing is synced.  A file comes from the
 * spool by rename when copies elsewhere are acknowledged and the record that says so is durable; what
 * a power loss makes of it does not authenticate, and is dropped when it is read.
 *
 * The lock is never held across file calls.  A file that another thread has
 * removed meanwhile is a miss.  While the listing of what was there before runs, it
 * may meet a file that is just being removed: its entry counts bytes that are gone
 * until it is used (a miss, and dropped) or evicted; never the other way round.
 */

#define CORRELATED_BYTES (64 * MIB)
#define RANGES_MAX	 512 /* of one object */
#define BLOCK_BYTES	 4096u
#define NAME_LEN	 32
#define PART_SUFFIX	 ".part"
#define VICTIMS_MAX	 16 /* removed at a time, without the lock */

static struct counter cache_hits = COUNTER_INIT("cache_hits", "records read from the disk cache");
static struct counter cache_misses = COUNTER_INIT("cache_misses",
						  "records that the disk cache did not have");
static struct counter cache_evicted = COUNTER_INIT("cache_evicted", "objects that made room");
COUNTER_REGISTER(cache_hits);
COUNTER_REGISTER(cache_misses);
COUNTER_REGISTER(cache_evicted);

struct range {
	uint32_t off, end;
};

struct range_list {
	struct range *ranges; /* ordered, with gaps between them */
	size_t count, capacity;
};

struct cache_entry {
	struct map_node node; /* by shard */
	struct list lru;
	struct shard_id shard;
	bool is_whole;
	bool is_protected;
	bool is_used;	 /* since it came */
	bool is_unread;	 /* a .part from before the restart: its ranges are not known yet */
	uint64_t bytes;	 /* counted for it */
	uint64_t object_len; /* whole */
	uint64_t used_at;    /* cache->served at the last use */
	struct range_list map; /* part */
};

struct cache {
	char *dir;
	uint64_t size_max;
	pthread_t lister;
	struct lock lock; /* LOCK_CACHE: guards all below */
	struct cond listed;
	struct map by_shard;
	struct list probation, protected; /* newest first */
	uint64_t bytes, protected_bytes;
	uint64_t served; /* bytes read: the clock of uses */
	bool is_listed, is_stopping;
};

struct victim {
	struct shard_id shard;
	bool is_whole;
};
struct victims {
	struct victim v[VICTIMS_MAX];
	unsigned count;
};

/* ---- ranges ---- */

static bool ranges_cover(const struct range_list *map, uint32_t off, uint32_t end)
{
	size_t low = 0, high = map->count;

	while (low < high) { /* the last range that begins at or before off */
		size_t mid = (low + high) / 2;

		if (map->ranges[mid].off <= off)
			low = mid + 1;
		else
			high = mid;
	}
	return low > 0 && map->ranges[low - 1].end >= end;
}

static int ranges_add(struct range_list *map, struct range range)
{
	size_t first = 0, last;

	while (first < map->count && map->ranges[first].end < range.off)
		first++;
	for (last = first; last < map->count && map->ranges[last].off <= range.end; last++) {
		range.off = MIN(range.off, map->ranges[last].off);
		range.end = MAX(range.end, map->ranges[last].end);
	}
	if (last == first && map->count == RANGES_MAX)
		return -ENOSPC;
	if (last == first && map->count == map->capacity) {
		size_t capacity = MAX((size_t)8, map->capacity * 2);
		struct range *more = mem_realloc_array(map->ranges, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		map->ranges = more;
		map->capacity = capacity;
	}
	memmove(&map->ranges[first + 1], &map->ranges[last],
		(map->count - last) * sizeof(*map->ranges));
	map->count = map->count - (last - first) + 1;
	map->ranges[first] = range;
	return 0;
}

static void range_list_release(struct range_list *map)
{
	mem_free(map->ranges);
	*map = (struct range_list){0};
}

/* What a sparse file holds, in whole blocks. */
static int ranges_of_file(int fd, struct range_list *map)
{
	off_t at = 0;
	int r = 0;

	while (r == 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(fd, at, SEEK_HOLE);
		uint64_t first = ((uint64_t)at + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;

		if (end < 0 || end > UINT32_MAX)
			break;
		if ((uint64_t)end > first)
			r = ranges_add(map, (struct range){(uint32_t)first, (uint32_t)end});
		at = end;
	}
	return r;
}

/* ---- entries ---- */

static uint64_t shard_hash(const struct shard_id *shard)
{
	return map_hash_bytes(0, shard->b, sizeof(shard->b));
}

static struct cache_entry *find_locked(struct cache *cache, const struct shard_id *shard)
{
	struct map_node *node = map_first(&cache->by_shard, shard_hash(shard));

	for (; node; node = map_next(node)) {
		struct cache_entry *entry = container_of(node, struct cache_entry, node);

		if (memcmp(&entry->shard, shard, sizeof(*shard)) == 0)
			return entry;
	}
	return NULL;
}

static void count_locked(struct cache *cache, struct cache_entry *entry, uint64_t bytes)
{
	cache->bytes = cache->bytes - entry->bytes + bytes;
	if (entry->is_protected)
		cache->protected_bytes = cache->protected_bytes - entry->bytes + bytes;
	entry->bytes = bytes;
}

static void forget_locked(struct cache *cache, struct cache_entry *entry)
{
	count_locked(cache, entry, 0);
	map_remove(&cache->by_shard, &entry->node);
	list_remove(&entry->lru);
	range_list_release(&entry->map);
	mem_free(entry);
}

static struct cache_entry *add_locked(struct cache *cache, const struct shard_id *shard,
				      bool is_whole, uint64_t bytes)
{
	struct cache_entry *entry = mem_alloc(sizeof(*entry));

	if (!entry)
		return NULL;
	entry->shard = *shard;
	entry->is_whole = is_whole;
	entry->object_len = is_whole ? bytes : 0;
	if (map_insert(&cache->by_shard, &entry->node, shard_hash(shard)) < 0) {
		mem_free(entry);
		return NULL;
	}
	list_push_front(&cache->probation, &entry->lru);
	count_locked(cache, entry, bytes);
	return entry;
}

static void set_protected_locked(struct cache *cache, struct cache_entry *entry, bool is_protected)
{
	uint64_t bytes = entry->bytes;

	count_locked(cache, entry, 0);
	entry->is_protected = is_protected;
	count_locked(cache, entry, bytes);
	list_remove(&entry->lru);
	list_push_front(is_protected ? &cache->protected : &cache->probation, &entry->lru);
}

static void use_locked(struct cache *cache, struct cache_entry *entry, uint32_t len)
{
	uint64_t since = cache->served - entry->used_at;
	bool is_again = entry->is_used && since > MIN(CORRELATED_BYTES, cache->size_max / 8);

	cache->served += len;
	entry->is_used = true;
	entry->used_at = cache->served;
	set_protected_locked(cache, entry, entry->is_protected || is_again);
	while (cache->protected_bytes > cache->size_max / 4 * 3)
		set_protected_locked(
			cache, list_entry(cache->protected.prev, struct cache_entry, lru), false);
}

/* ---- files ---- */

static const char *path_of(const struct cache *cache, const struct shard_id *shard, bool is_whole,
			   char *path, size_t path_size)
{
	int len = snprintf(path, path_size, "%s/%s%s", cache->dir, shard_id_hex(shard).s,
			   is_whole ? "" : PART_SUFFIX);

	return len > 0 && (size_t)len < path_size ? path : NULL;
}

static void remove_file(const struct cache *cache, const struct shard_id *shard, bool is_whole)
{
	char path[4096];

	if (path_of(cache, shard, is_whole, path, sizeof(path)) && unlink(path) < 0 &&
	    errno != ENOENT)
		log_warn("cache-unlink-failed", "shard=%s error=%s", shard_id_hex(shard).s,
			 err_name(errno));
}

/* Takes out what is too much; the caller removes the files when it holds no lock. */
static void shrink_locked(struct cache *cache, uint64_t room, struct victims *victims)
{
	victims->count = 0;
	while (cache->bytes + room > cache->size_max && victims->count < VICTIMS_MAX) {
		struct list *from = list_is_empty(&cache->probation) ? &cache->protected
								     : &cache->probation;
		struct cache_entry *entry;

		if (list_is_empty(from))
			return;
		entry = list_entry(from->prev, struct cache_entry, lru);
		victims->v[victims->count++] =
			(struct victim){.shard = entry->shard, .is_whole = entry->is_whole};
		forget_locked(cache, entry);
	}
}

static void make_room(struct cache *cache, uint64_t room)
{
	struct victims victims;

	do {
		lock_take(&cache->lock);
		shrink_locked(cache, room, &victims);
		lock_drop(&cache->lock);
		for (unsigned i = 0; i < victims.count; i++)
			remove_file(cache, &victims.v[i].shard, victims.v[i].is_whole);
		counter_add(&cache_evicted, victims.count);
	} while (victims.count == VICTIMS_MAX);
}

/* ---- what was there before ---- */

static void note_file(struct cache *cache, const struct shard_id *shard, bool is_whole,
		      const struct stat *st)
{
	uint64_t bytes = is_whole ? (uint64_t)st->st_size : (uint64_t)st->st_blocks * 512;
	LOCK_SCOPE(&cache->lock);
	struct cache_entry *entry = find_locked(cache, shard);

	if (entry || bytes == 0)
		return;
	entry = add_locked(cache, shard, is_whole, bytes);
	if (!entry)
		return;
	entry->is_unread = !is_whole;
	list_remove(&entry->lru); /* older than anything used since */
	list_push_back(&cache->probation, &entry->lru);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool name_parse(const char *name, struct shard_id *shard, bool *is_whole)
{
	if (strnlen(name, NAME_LEN) < NAME_LEN)
		return false;
	for (size_t i = 0; i < sizeof(shard->b); i++) {
		int high = hex_digit(name[2 * i]), low = hex_digit(name[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		shard->b[i] = (uint8_t)(high << 4 | low);
	}
	*is_whole = name[NAME_LEN] == '\0';
	return *is_whole || strcmp(name + NAME_LEN, PART_SUFFIX) == 0;
}

static bool is_stopping(struct cache *cache)
{
	LOCK_SCOPE(&cache->lock);

	return cache->is_stopping;
}

static void *lister_run(void *arg)
{
	struct cache *cache = arg;
	DIR *dir = opendir(cache->dir);
	struct dirent *entry;

	while (dir && !is_stopping(cache) && (entry = readdir(dir))) {
		struct shard_id shard;
		bool is_whole;
		struct stat st;

		if (entry->d_name[0] != '.' && name_parse(entry->d_name, &shard, &is_whole) &&
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			note_file(cache, &shard, is_whole, &st);
	}
	if (dir)
		closedir(dir);
	make_room(cache, 0);
	lock_take(&cache->lock);
	cache->is_listed = true;
	cond_wake_all(&cache->listed);
	lock_drop(&cache->lock);
	return NULL;
}

/* Before the listing is complete: whether there is a file of this name. */
static void look_for_file(struct cache *cache, const struct shard_id *shard)
{
	char path[4096];
	struct stat st;

	for (int is_whole = 1; is_whole >= 0; is_whole--)
		if (path_of(cache, shard, is_whole, path, sizeof(path)) && stat(path, &st) == 0) {
			note_file(cache, shard, is_whole, &st);
			return;
		}
}

static void read_ranges(struct cache *cache, const struct shard_id *shard)
{
	struct range_list map = {0};
	struct cache_entry *entry;
	char path[4096];
	AUTO_FD fd = -1;

	if (path_of(cache, shard, false, path, sizeof(path)))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		ranges_of_file(fd, &map);
	lock_take(&cache->lock);
	entry = find_locked(cache, shard);
	if (entry && entry->is_unread) {
		for (size_t i = 0; i < map.count; i++)
			ranges_add(&entry->map, map.ranges[i]);
		entry->is_unread = false;
	}
	lock_drop(&cache->lock);
	range_list_release(&map);
}

/* ---- reading ---- */

enum cache_answer { CACHE_MISS, CACHE_HIT_WHOLE, CACHE_HIT_PART, CACHE_LOOK, CACHE_READ_MAP };

static enum cache_answer ask(struct cache *cache, const struct shard_id *shard, uint32_t off,
			     uint32_t len)
{
	LOCK_SCOPE(&cache->lock);
	struct cache_entry *entry = find_locked(cache, shard);

	if (!entry)
		return cache->is_listed ? CACHE_MISS : CACHE_LOOK;
	if (entry->is_unread)
		return CACHE_READ_MAP;
	if (entry->is_whole ? (uint64_t)off + len > entry->object_len
			    : !ranges_cover(&entry->map, off, off + len))
		return CACHE_MISS;
	use_locked(cache, entry, len);
	return entry->is_whole ? CACHE_HIT_WHOLE : CACHE_HIT_PART;
}

static int read_file(struct cache *cache, const struct shard_id *shard, bool is_whole, uint32_t off,
		     uint32_t len, struct buf *out)
{
	char path[4096];
	AUTO_FD fd = -1;
	int r;

	if (path_of(cache, shard, is_whole, path, sizeof(path)))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -ENOENT : file_pread_buf(fd, len, off, out);
	if (r == 0 || r == -ENOMEM)
		return r;
	cache_drop(cache, shard); /* evicted just now, short, or the disk fails */
	return -ENOENT;
}

int cache_read(struct cache *cache, const struct shard_id *shard, uint32_t off, uint32_t len,
	       struct buf *out)
{
	enum cache_answer answer = CACHE_MISS;
	int r = -ENOENT;

	if (len == 0 || off > UINT32_MAX - len)
		return -ENOENT;
	for (int attempt = 0; attempt < 3; attempt++) {
		answer = ask(cache, shard, off, len);
		if (answer == CACHE_LOOK)
			look_for_file(cache, shard);
		else if (answer == CACHE_READ_MAP)
			read_ranges(cache, shard);
		else
			break;
	}
	if (answer == CACHE_HIT_WHOLE || answer == CACHE_HIT_PART)
		r = read_file(cache, shard, answer == CACHE_HIT_WHOLE, off, len, out);
	counter_add(r == 0 ? &cache_hits : &cache_misses, 1);
	return r;
}

/* ---- keeping ---- */

/* Whether these bytes should be written; they are counted then. */
static bool range_begin(struct cache *cache, const struct shard_id *shard, uint32_t off,
			uint32_t len)
{
	LOCK_SCOPE(&cache->lock);
	struct cache_entry *entry = find_locked(cache, shard);

	if (entry && (entry->is_whole || ranges_cover(&entry->map, off, off + len)))
		return false;
	if (!entry)
		entry = add_locked(cache, shard, false, 0);
	if (!entry)
		return false;
	count_locked(cache, entry, entry->bytes + len + BLOCK_BYTES);
	return true;
}

static void range_end(struct cache *cache, const struct shard_id *shard, uint32_t off, uint32_t len)
{
	LOCK_SCOPE(&cache->lock);
	struct cache_entry *entry = find_locked(cache, shard);

	if (entry && !entry->is_whole &&
	    ranges_add(&entry->map, (struct range){off, off + len}) < 0)
		log_debug("cache-range-left-out", "shard=%s", shard_id_hex(shard).s);
}

void cache_put_range(struct cache *cache, const struct shard_id *shard, uint32_t off,
		     struct bytes sealed)
{
	char path[4096];
	AUTO_FD fd = -1;

	if (sealed.len == 0 || sealed.len > cache->size_max / 8 ||
	    sealed.len > (uint64_t)UINT32_MAX - off)
		return;
	make_room(cache, sealed.len + BLOCK_BYTES);
	if (!range_begin(cache, shard, off, (uint32_t)sealed.len))
		return;
	if (path_of(cache, shard, false, path, sizeof(path)))
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || file_pwrite(fd, sealed, off) < 0)
		cache_drop(cache, shard);
	else
		range_end(cache, shard, off, (uint32_t)sealed.len);
}

/* From now on the whole object answers, if its file is there. */
static void become_whole(struct cache *cache, const struct shard_id *shard, uint64_t object_len)
{
	struct cache_entry *entry;
	bool had_part;

	lock_take(&cache->lock);
	entry = find_locked(cache, shard);
	had_part = entry && !entry->is_whole;
	if (entry)
		forget_locked(cache, entry);
	add_locked(cache, shard, true, object_len);
	lock_drop(&cache->lock);
	if (had_part)
		remove_file(cache, shard, false);
}

/*
 * The entry is made before the file comes: a reader that does not find the object in the spool any
 * more must find it here, however short the moment between rename and cache_adopt.
 */
int cache_path_for(struct cache *cache, const struct shard_id *shard, uint64_t object_len,
		   char *path, size_t path_size)
{
	if (object_len > cache->size_max)
		return -ENOSPC;
	if (!path_of(cache, shard, true, path, path_size))
		return -ENAMETOOLONG;
	make_room(cache, object_len);
	become_whole(cache, shard, object_len);
	return 0;
}

void cache_adopt(struct cache *cache, const struct shard_id *shard, uint64_t object_len)
{
	bool is_known;

	lock_take(&cache->lock);
	is_known = find_locked(cache, shard) != NULL;
	lock_drop(&cache->lock);
	if (!is_known) /* evicted before it came */
		become_whole(cache, shard, object_len);
	make_room(cache, 0);
}

void cache_drop(struct cache *cache, const struct shard_id *shard)
{
	struct cache_entry *entry;

	lock_take(&cache->lock);
	entry = find_locked(cache, shard);
	if (entry)
		forget_locked(cache, entry);
	lock_drop(&cache->lock);
	remove_file(cache, shard, true);
	remove_file(cache, shard, false);
}

uint64_t cache_bytes_used(struct cache *cache)
{
	LOCK_SCOPE(&cache->lock);

	return cache->bytes;
}

void cache_wait_listed(struct cache *cache)
{
	LOCK_SCOPE(&cache->lock);

	while (!cache->is_listed)
		cond_wait(&cache->listed, &cache->lock);
}

/* ---- life ---- */

static void cache_free(struct cache *cache)
{
	struct list *lists[] = {&cache->probation, &cache->protected};

	for (unsigned i = 0; i < ARRAY_COUNT(lists); i++)
		list_for_each(node, lists[i])
			forget_locked(cache, list_entry(node, struct cache_entry, lru));
	map_release(&cache->by_shard);
	cond_release(&cache->listed);
	lock_release(&cache->lock);
	mem_free(cache->dir);
	mem_free(cache);
}

int cache_open(const char *dir, uint64_t size_max, struct cache **out)
{
	struct cache *cache = mem_alloc(sizeof(*cache));
	int r;

	if (!cache)
		return -ENOMEM;
	cache->size_max = size_max;
	lock_init(&cache->lock, LOCK_CACHE);
	cond_init(&cache->listed);
	list_init(&cache->probation);
	list_init(&cache->protected);
	cache->dir = mem_strdup(dir);
	r = cache->dir ? 0 : -ENOMEM;
	if (r == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = thread_start(&cache->lister, "cache-lister", lister_run, cache);
	if (r < 0) {
		cache_free(cache);
		return r;
	}
	*out = cache;
	return 0;
}

void cache_close(struct cache *cache)
{
	if (!cache)
		return;
	lock_take(&cache->lock);
	cache->is_stopping = true;
	lock_drop(&cache->lock);
	pthread_join(cache->lister, NULL);
	cache_free(cache);
}
