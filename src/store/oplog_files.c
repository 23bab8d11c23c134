/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INVARIANT: what has its name in the directory is whole and durable: written as NAME.new, synced,
 * then renamed.  The name lasts when the directory is synced; parts of a snapshot leave that to their
 * root, which is written behind them, so that no root lasts without its parts.
 */
#include "store/oplog_private.h"

#include "util/err.h"
#include "util/file.h"
#include "util/log.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void oplog_files_release(struct oplog_files *files)
{
	mem_free(files->files);
	*files = (struct oplog_files)OPLOG_FILES_INIT;
}

int oplog_files_add(struct oplog_files *files, const struct oplog_file *file)
{
	if (files->count == files->capacity) {
		size_t more = files->capacity ? 2 * files->capacity : 64;
		struct oplog_file *grown =
			mem_realloc_array(files->files, more, sizeof(*files->files));

		if (!grown)
			return -ENOMEM;
		files->files = grown;
		files->capacity = more;
	}
	files->files[files->count++] = *file;
	return 0;
}

int oplog_files_copy(const struct oplog_files *src, struct oplog_files *out)
{
	AUTO(oplog_files) copy = OPLOG_FILES_INIT;

	for (size_t i = 0; i < src->count; i++) {
		int r = oplog_files_add(&copy, &src->files[i]);

		if (r < 0)
			return r;
	}
	oplog_files_release(out);
	*out = copy;
	copy = (struct oplog_files)OPLOG_FILES_INIT;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	char x[OPLOG_NAME_SIZE], y[OPLOG_NAME_SIZE];

	return strcmp(oplog_name_print(&((const struct oplog_file *)a)->name, x),
		      oplog_name_print(&((const struct oplog_file *)b)->name, y));
}

void oplog_files_sort(struct oplog_files *files)
{
	if (files->count > 1)
		qsort(files->files, files->count, sizeof(*files->files), compare_names);
}

const struct oplog_file *oplog_files_find(const struct oplog_files *sorted,
					  const struct oplog_name *name)
{
	struct oplog_file key = {.name = *name};

	return sorted->count ? bsearch(&key, sorted->files, sorted->count, sizeof(key),
				       compare_names)
			     : NULL;
}

bool oplog_files_remove(struct oplog_files *sorted, const struct oplog_name *name)
{
	const struct oplog_file *file = oplog_files_find(sorted, name);
	size_t at = file ? (size_t)(file - sorted->files) : 0;

	if (!file)
		return false;
	sorted->count--;
	memmove(&sorted->files[at], &sorted->files[at + 1],
		(sorted->count - at) * sizeof(*sorted->files));
	return true;
}

static int compare_roots(const void *a, const void *b)
{
	const struct oplog_name *x = &((const struct oplog_file *)a)->name;
	const struct oplog_name *y = &((const struct oplog_file *)b)->name;

	if (x->epoch != y->epoch)
		return x->epoch > y->epoch ? -1 : 1;
	return x->last > y->last ? -1 : x->last < y->last;
}

int oplog_files_roots(const struct oplog_files *files, struct oplog_files *out)
{
	for (size_t i = 0; i < files->count; i++) {
		int r = files->files[i].name.kind == OPLOG_ROOT
				? oplog_files_add(out, &files->files[i])
				: 0;

		if (r < 0)
			return r;
	}
	if (out->count > 1)
		qsort(out->files, out->count, sizeof(*out->files), compare_roots);
	return 0;
}

const struct oplog_file *oplog_files_next(const struct oplog_files *sorted, uint32_t epoch,
					  uint32_t epoch_max, uint64_t after)
{
	const struct oplog_file *best = NULL;

	/* sorted by name, so by (epoch, first) */
	for (size_t i = 0; i < sorted->count; i++) {
		const struct oplog_name *name = &sorted->files[i].name;

		if (name->kind != OPLOG_SEGMENT || name->first != after + 1 ||
		    name->epoch < epoch || name->epoch > epoch_max)
			continue;
		if (!best || name->epoch > best->name.epoch || name->last > best->name.last)
			best = &sorted->files[i];
	}
	return best;
}

int oplog_dir_list(const char *dir, struct oplog_files *out)
{
	struct dirent *entry;
	DIR *stream = opendir(dir);
	int r = 0;

	if (!stream)
		return -errno;
	while (r == 0 && (entry = readdir(stream)) != NULL) {
		struct oplog_file file;
		struct stat st;

		if (oplog_name_parse(entry->d_name, &file.name) < 0 ||
		    fstatat(dirfd(stream), entry->d_name, &st, 0) < 0)
			continue;
		file.len = (uint64_t)st.st_size;
		r = oplog_files_add(out, &file);
	}
	closedir(stream);
	return r;
}

int oplog_dir_write(const char *dir, const char *name, struct bytes bytes, bool is_dir_synced)
{
	AUTO_STR path = mem_printf("%s/%s", dir, name);
	AUTO_STR temporary = mem_printf("%s/%s.new", dir, name);
	AUTO_FD fd = -1;
	int r;

	if (!path || !temporary)
		return -ENOMEM;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = file_pwrite(fd, bytes, 0);
	if (r == 0)
		r = file_fdatasync(fd);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r == 0 && is_dir_synced ? file_sync_dir(dir) : r;
}

int oplog_dir_read(const char *dir, const char *name, struct buf *out)
{
	AUTO_STR path = mem_printf("%s/%s", dir, name);
	AUTO_FD fd = -1;
	struct stat st;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size > OPLOG_OBJECT_BYTES_MAX)
		return -EFBIG;
	return file_pread_buf(fd, (size_t)st.st_size, 0, out);
}

void oplog_dir_remove(const char *dir, const char *name)
{
	AUTO_STR path = mem_printf("%s/%s", dir, name);

	if (path && unlink(path) < 0 && errno != ENOENT)
		log_warn("oplog-file-kept", "file=%s error=%s", name, err_name(errno));
}
