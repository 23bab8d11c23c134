/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/dir.h"

#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Keys come in the order of their paths on disk, part by part, so that the
 * path of the last one is all that the next page needs to know.  A directory
 * is read in whole for each page, but only the smallest names that may fit
 * are kept.
 */
struct listing {
	struct dir_backend *dir;
	const char *prefix;
	size_t entries_max;
	struct backend_list *page;
	char last[BACKEND_KEY_MAX + 8]; /* path of the newest entry */
	bool is_full;			/* there is more behind it */
};

struct names {
	char (*items)[BACKEND_KEY_MAX + 1];
	size_t count, capacity;
	bool is_cut;
};

static void names_release(struct names *names)
{
	mem_free(names->items);
}

static int names_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int names_add(struct names *names, const char *name, size_t keep)
{
	if (names->count == names->capacity) {
		size_t capacity = MAX(names->capacity * 2, (size_t)64);
		void *items = mem_realloc_array(names->items, capacity, sizeof(names->items[0]));

		if (!items)
			return -ENOMEM;
		names->items = items;
		names->capacity = capacity;
	}
	snprintf(names->items[names->count++], sizeof(names->items[0]), "%.*s", BACKEND_KEY_MAX,
		 name);
	if (names->count >= 2 * keep) {
		qsort(names->items, names->count, sizeof(names->items[0]), names_compare);
		names->count = keep;
		names->is_cut = true;
	}
	return 0;
}

/* The smallest names of directory fd from `from` on (inclusive), sorted. */
static int names_read(const struct listing *listing, int fd, const char *from, size_t keep,
		      struct names *names, struct failure *failure)
{
	DIR *stream = fdopendir(fd);
	const struct dirent *entry;
	int r = 0;

	if (!stream) {
		close(fd);
		return dir_fail_errno(failure, listing->dir, "listing");
	}
	for (;;) {
		errno = 0;
		entry = readdir(stream);
		if (!entry)
			break;
		if (entry->d_name[0] == '.' || strlen(entry->d_name) > BACKEND_KEY_MAX ||
		    strcmp(entry->d_name, from) < 0)
			continue;
		r = names_add(names, entry->d_name, keep);
		if (r < 0)
			break;
	}
	if (r < 0)
		r = dir_fail(failure, -EAGAIN, "no memory for a listing");
	else if (errno != 0)
		r = dir_fail_errno(failure, listing->dir, "listing");
	closedir(stream);
	if (names->count > 0)
		qsort(names->items, names->count, sizeof(names->items[0]), names_compare);
	/* Once something was cut, only the first `keep` have no gap between them. */
	if (names->is_cut)
		names->count = MIN(names->count, keep);
	return r;
}

static int list_file(struct listing *listing, const char *key, const char *path,
		     const struct stat *st, struct failure *failure)
{
	struct backend_entry *entry;

	if (!S_ISREG(st->st_mode) ||
	    strncmp(key, listing->prefix, strlen(listing->prefix)) != 0 ||
	    !backend_key_is_valid(key))
		return 0;
	if (listing->page->count == listing->entries_max) {
		listing->is_full = true;
		return 0;
	}
	entry = backend_list_next(listing->page);
	if (!entry)
		return dir_fail(failure, -EAGAIN, "no memory for a listing");
	snprintf(entry->key, sizeof(entry->key), "%s", key);
	entry->size = (uint64_t)st->st_size;
	entry->tier = BACKEND_HOT;
	dir_wall_of(st->st_mtim, &entry->mtime);
	listing->page->count++;
	snprintf(listing->last, sizeof(listing->last), "%s", path);
	return 0;
}

static bool is_fan_out(const char *path)
{
	return strlen(path) == 2 && strspn(path, DIR_HEX_DIGITS) == 2;
}

/* May a key below directory `path` begin with the prefix? */
static bool may_hold(const struct listing *listing, const char *path)
{
	size_t path_len = strlen(path), prefix_len = strlen(listing->prefix);

	if (strncmp(path, listing->prefix, MIN(path_len, prefix_len)) != 0)
		return false;
	return is_fan_out(path) || prefix_len <= path_len || listing->prefix[path_len] == '/';
}

static int list_dir(struct listing *listing, int fd, const char *path, const char *from,
		    int depth, struct failure *failure);

static int list_subdir(struct listing *listing, int fd, const char *name, const char *path,
		       const char *from, int depth, struct failure *failure)
{
	int sub;

	if (depth == 0 || !may_hold(listing, path))
		return 0;
	sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (sub < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : dir_fail_errno(failure, listing->dir, "listing");
	return list_dir(listing, sub, path, from, depth - 1, failure);
}

/* name is an entry of directory fd, which is `path` below the root ("" for the root).
 * from: the rest of the cursor when the cursor goes through name, else NULL. */
static int list_entry_at(struct listing *listing, int fd, const char *path, const char *name,
			 const char *from, int depth, struct failure *failure)
{
	char full[BACKEND_KEY_MAX + 8];
	bool is_root = path[0] == '\0';
	int len = snprintf(full, sizeof(full), "%s%s%s", path, is_root ? "" : "/", name);
	struct stat st;

	if (len < 0 || (size_t)len >= sizeof(full))
		return 0;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : dir_fail_errno(failure, listing->dir, "listing");
	if (S_ISDIR(st.st_mode))
		return list_subdir(listing, fd, name, full, from ? from : "", depth, failure);
	if (from)
		return 0; /* the last one of the page before */
	if (is_fan_out(path)) {
		if (!dir_is_shard_name(name) || strncmp(name, path, 2) != 0)
			return 0;
		return list_file(listing, name, full, &st, failure);
	}
	if (is_root && dir_is_shard_name(name))
		return 0; /* would be another name of what is in its fan-out directory */
	return list_file(listing, full, full, &st, failure);
}

/* Closes fd.  from: what is left of the cursor below this directory; "": all. */
static int list_dir(struct listing *listing, int fd, const char *path, const char *from,
		    int depth, struct failure *failure)
{
	size_t part_len = strcspn(from, "/");
	const char *rest = from[part_len] == '/' ? from + part_len + 1 : from + part_len;
	char part[BACKEND_KEY_MAX + 8], cursor_part[BACKEND_KEY_MAX + 8];
	AUTO_FD at = fd;
	bool is_more = true;
	int r = 0;

	snprintf(cursor_part, sizeof(cursor_part), "%.*s", (int)part_len, from);
	snprintf(part, sizeof(part), "%s", cursor_part);
	while (r == 0 && is_more && !listing->is_full) {
		size_t keep = listing->entries_max - listing->page->count + 2;
		AUTO(names) names = {0};
		int dup_fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (dup_fd < 0)
			return dir_fail_errno(failure, listing->dir, "listing");
		r = names_read(listing, dup_fd, part, keep, &names, failure);
		is_more = names.is_cut;
		for (size_t i = 0; r == 0 && i < names.count && !listing->is_full; i++) {
			const char *name = names.items[i];
			bool is_cursor = part_len > 0 && strcmp(name, cursor_part) == 0;

			r = list_entry_at(listing, at, path, name, is_cursor ? rest : NULL, depth,
					  failure);
		}
		/* Go on right behind the largest name that was kept. */
		if (is_more && names.count > 0)
			snprintf(part, sizeof(part), "%s\x01", names.items[names.count - 1]);
	}
	return r;
}

int dir_list(struct dir_backend *dir, int root, struct backend_req *req,
		   struct failure *failure)
{
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	struct listing listing = {
		.dir = dir,
		.prefix = req->key,
		.entries_max = req->entries_max > 0 ? req->entries_max : 1000,
		.page = &page,
	};
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return dir_fail_errno(failure, dir, "listing");
	r = list_dir(&listing, fd, "", req->cursor ? req->cursor : "", DIR_DEPTH_MAX, failure);
	if (r < 0)
		return r;
	if (listing.is_full)
		snprintf(page.cursor, sizeof(page.cursor), "%s", listing.last);
	backend_list_release(req->list);
	*req->list = page;
	page = (struct backend_list)BACKEND_LIST_INIT;
	return 0;
}
