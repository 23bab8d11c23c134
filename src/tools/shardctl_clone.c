/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon knows inodes, not paths of the caller, who may see the mount
 * somewhere else than it does: so the place of a clone is looked up here, with
 * the caller's eyes.
 */
#include "tools/shardctl_clone.h"

#include "tools/shardctl_ask.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int fail(const char *path, const char *what)
{
	fprintf(stderr, "shardctl: %s: %s\n", path, what);
	return EXIT_USAGE;
}

int shardctl_clone_place(const char *src, const char *dst, struct clone_place *out)
{
	AUTO_STR copy = mem_strdup(dst);
	size_t len = strlen(dst);
	struct stat from, dir;
	const char *parent, *name;
	char *slash;

	if (!copy)
		return fail(dst, err_sentence(-ENOMEM));
	if (lstat(src, &from) < 0)
		return fail(src, err_sentence(-errno));
	if (S_ISLNK(from.st_mode))
		return fail(src, "is a symbolic link: name what it points to");
	if (!S_ISREG(from.st_mode) && !S_ISDIR(from.st_mode))
		return fail(src, "only files and directories are cloned");
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	name = slash ? slash + 1 : copy;
	parent = !slash ? "." : slash == copy ? "/" : copy;
	if (slash)
		*slash = '\0';
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > 255)
		return fail(dst, "is no new name");
	if (stat(parent, &dir) < 0)
		return fail(parent, err_sentence(-errno));
	if (!S_ISDIR(dir.st_mode))
		return fail(parent, err_sentence(-ENOTDIR));
	if (dir.st_dev != from.st_dev)
		return fail(dst, "is on another file system than the source");
	out->parent = dir.st_ino;
	for (size_t i = 0; name[i]; i++)
		snprintf(out->name_hex + 2 * i, 3, "%02x", (unsigned char)name[i]);
	return 0;
}
