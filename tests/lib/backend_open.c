/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/backend_open.h"
#include "tests/lib/backend_conformance.h"

#include "util/mem.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void __attribute__((noreturn)) give_up(const char *what, struct buf *why)
{
	fprintf(stderr, "%s: %s\n", what, why && why->len > 0 ? buf_str(why) : "failed");
	abort();
}

struct backend *test_memory_open(bool is_async, bool is_initialised)
{
	const struct backend_setting settings[] = {{"async", is_async ? "true" : "false", 0}};
	struct backend *backend = NULL;
	AUTO(buf) why = BUF_INIT;

	if (backend_open("memory", settings, 1, CONFORMANCE_NAME, &why, &backend) < 0)
		give_up("memory", &why);
	if (is_initialised && backend_init(backend, conformance_fs_id, &why) < 0)
		give_up("memory", &why);
	return backend;
}

void test_dir_make(char *path)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(path, PATH_MAX, "%s/shardfs-dir-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(path))
		give_up(path, NULL);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

void test_dir_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct backend *test_dir_open(const char *path, const char *extra)
{
	struct backend_setting settings[8] = {{"path", path, 0}};
	char copy[256] = "", *save = NULL;
	struct backend *backend = NULL;
	AUTO(buf) why = BUF_INIT;
	size_t count = 1;

	snprintf(copy, sizeof(copy), "%s", extra ? extra : "");
	for (char *word = strtok_r(copy, " ", &save); word && count < ARRAY_COUNT(settings);
	     word = strtok_r(NULL, " ", &save)) {
		char *value = strchr(word, '=');

		*value++ = '\0';
		settings[count++] = (struct backend_setting){word, value, 0};
	}
	if (backend_open("dir", settings, count, CONFORMANCE_NAME, &why, &backend) < 0)
		give_up(path, &why);
	return backend;
}
