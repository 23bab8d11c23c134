/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file's number is its name in 16 hex digits; anything else in the directory
 * is not ours and is left alone.
 */
#include "store/journal_files.h"

#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_SUFFIX ".journal"

const char *journal_file_name(uint64_t number, char name[JOURNAL_NAME_SIZE])
{
	snprintf(name, JOURNAL_NAME_SIZE, "%016" PRIx64 NAME_SUFFIX, number);
	return name;
}

static bool parse_name(const char *name, uint64_t *number)
{
	char again[JOURNAL_NAME_SIZE];

	if (strspn(name, "0123456789abcdef") != 16)
		return false;
	*number = strtoull(name, NULL, 16);
	return strcmp(name, journal_file_name(*number, again)) == 0 && *number > 0;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int list_add(uint64_t **numbers, size_t *count, size_t *capacity, uint64_t number)
{
	if (*count == *capacity) {
		size_t more = *capacity ? *capacity * 2 : 16;
		uint64_t *grown = mem_realloc_array(*numbers, more, sizeof(**numbers));

		if (!grown)
			return -ENOMEM;
		*numbers = grown;
		*capacity = more;
	}
	(*numbers)[(*count)++] = number;
	return 0;
}

int journal_list_files(int dir_fd, uint64_t **numbers, size_t *count)
{
	uint64_t *found = NULL, number;
	size_t n = 0, capacity = 0;
	struct dirent *entry;
	int r = 0, fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	errno = 0;
	while (r == 0 && (entry = readdir(dir)) != NULL) {
		if (parse_name(entry->d_name, &number))
			r = list_add(&found, &n, &capacity, number);
		errno = 0;
	}
	if (r == 0 && errno != 0)
		r = -errno;
	closedir(dir);
	if (r < 0) {
		mem_free(found);
		return r;
	}
	if (n > 0)
		qsort(found, n, sizeof(*found), compare_numbers);
	*numbers = found;
	*count = n;
	return 0;
}
