/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A POSIX tree in memory, and the same operations done to a mount: after each
 * one both agree about success or errno, and now and then (after remounts,
 * too) about every name, attribute and byte.
 *
 *	tree_model DIR STEPS [SEED [REMOUNT-COMMAND]]
 *
 * DIR is empty.  Without a seed one is drawn; it is printed, and with it and
 * the number of steps a failure comes again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES_MAX (3u * 1024 * 1024)
#define ENTRIES_MAX    24
#define NODES_MAX      512
#define NAME_BYTES     8
#define VALUE_BYTES    40

enum kind { KIND_FILE, KIND_DIR, KIND_LINK };

struct node;
struct entry {
	char name[NAME_BYTES];
	struct node *node;
};
struct node {
	enum kind kind;
	unsigned mode, nlink;
	unsigned char *bytes; /* file */
	size_t size;
	char text[VALUE_BYTES]; /* symlink target, or value of user.model; "" none */
	bool has_mtime;
	struct timespec mtime;
	struct node *parent; /* directory */
	struct entry entries[ENTRIES_MAX];
	unsigned entry_count;
};

static struct node *root;
static struct node *dirs[NODES_MAX];
static unsigned dir_count;
static uint64_t random_state;
static unsigned long step;
static const char *top;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	printf("step %lu: ", step);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	exit(1);
}

static uint32_t draw(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 16) % below);
}

/* ---- the model ---- */

static struct node *node_new(enum kind kind, unsigned mode)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		fail("no memory");
	node->kind = kind;
	node->mode = mode;
	node->nlink = kind == KIND_DIR ? 2 : 1;
	if (kind == KIND_DIR)
		dirs[dir_count++] = node;
	return node;
}

static void node_drop(struct node *node)
{
	if (node->kind == KIND_DIR) {
		for (unsigned i = 0; i < dir_count; i++)
			if (dirs[i] == node)
				dirs[i] = dirs[--dir_count];
	} else if (--node->nlink > 0) {
		return;
	}
	free(node->bytes);
	free(node);
}

static struct entry *find(struct node *dir, const char *name)
{
	for (unsigned i = 0; i < dir->entry_count; i++)
		if (strcmp(dir->entries[i].name, name) == 0)
			return &dir->entries[i];
	return NULL;
}

static void add(struct node *dir, const char *name, struct node *node)
{
	struct entry *entry = &dir->entries[dir->entry_count++];

	memcpy(entry->name, name, NAME_BYTES);
	entry->node = node;
	if (node->kind == KIND_DIR) {
		node->parent = dir;
		dir->nlink++;
	}
}

static void take_away(struct node *dir, struct entry *entry)
{
	if (entry->node->kind == KIND_DIR)
		dir->nlink--;
	*entry = dir->entries[--dir->entry_count];
}

static bool is_below(const struct node *node, const struct node *above)
{
	for (; node; node = node->parent)
		if (node == above)
			return true;
	return false;
}

static void dir_path(const struct node *dir, char *out)
{
	if (!dir->parent) {
		snprintf(out, PATH_MAX, "%s", top);
		return;
	}
	dir_path(dir->parent, out);
	for (unsigned i = 0; i < dir->parent->entry_count; i++)
		if (dir->parent->entries[i].node == dir) {
			size_t len = strlen(out);

			snprintf(out + len, PATH_MAX - len, "/%s", dir->parent->entries[i].name);
		}
}

static void entry_path(const struct node *dir, const char *name, char *out)
{
	size_t len;

	dir_path(dir, out);
	len = strlen(out);
	snprintf(out + len, PATH_MAX - len, "/%s", name);
}

/* ---- what a step works on ---- */

struct place {
	struct node *dir;
	char name[NAME_BYTES];
	struct entry *entry; /* NULL: nothing there */
	char path[PATH_MAX];
};

static void draw_place(struct place *place)
{
	memset(place->name, 0, sizeof(place->name));
	place->dir = dirs[draw(dir_count)];
	snprintf(place->name, sizeof(place->name), "n%u", draw(ENTRIES_MAX - 4));
	/* Mostly something that is there. */
	if (place->dir->entry_count > 0 && draw(3) > 0)
		memcpy(place->name, place->dir->entries[draw(place->dir->entry_count)].name,
		       NAME_BYTES);
	place->entry = find(place->dir, place->name);
	entry_path(place->dir, place->name, place->path);
}

static bool draw_file(struct place *place)
{
	for (int i = 0; i < 20; i++) {
		draw_place(place);
		if (place->entry && place->entry->node->kind == KIND_FILE)
			return true;
	}
	return false;
}

/* got: what the call returned (-1: errno); want: 0 or the errno that is due. */
static bool agree(int got, int want, const char *what, const char *path)
{
	int is = got < 0 ? errno : 0;

	if (is != want)
		fail("%s %s: %s, the model says %s", what, path, strerror(is), strerror(want));
	return want == 0;
}

static void data_changed(struct node *node)
{
	node->has_mtime = false;
}

static void resize(struct node *node, size_t size)
{
	unsigned char *bytes = realloc(node->bytes, size ? size : 1);

	if (!bytes)
		fail("no memory");
	if (size > node->size)
		memset(bytes + node->size, 0, size - node->size);
	node->bytes = bytes;
	node->size = size;
}

/* ---- steps ---- */

static void step_create(void)
{
	struct place at;
	unsigned mode = 0600 | draw(0100);
	int fd;

	draw_place(&at);
	fd = open(at.path, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, mode);
	if (!agree(fd, at.entry ? EEXIST : 0, "create", at.path))
		return;
	close(fd);
	add(at.dir, at.name, node_new(KIND_FILE, mode));
}

static void step_mkdir(void)
{
	struct place at;
	unsigned mode = 0700 | draw(0100);

	draw_place(&at);
	if (dir_count >= NODES_MAX / 8)
		return;
	if (agree(mkdir(at.path, mode), at.entry ? EEXIST : 0, "mkdir", at.path))
		add(at.dir, at.name, node_new(KIND_DIR, mode));
}

static void step_symlink(void)
{
	struct place at;
	struct node *node;
	char target[VALUE_BYTES];

	draw_place(&at);
	snprintf(target, sizeof(target), "to/%u/%u", draw(1000), draw(1000));
	if (!agree(symlink(target, at.path), at.entry ? EEXIST : 0, "symlink", at.path))
		return;
	node = node_new(KIND_LINK, 0777);
	memcpy(node->text, target, sizeof(target));
	add(at.dir, at.name, node);
}

static void step_link(void)
{
	struct place from, to;

	if (!draw_file(&from))
		return;
	draw_place(&to);
	if (agree(link(from.path, to.path), to.entry ? EEXIST : 0, "link", to.path)) {
		add(to.dir, to.name, from.entry->node);
		from.entry->node->nlink++;
	}
}

static void step_unlink(void)
{
	struct place at;
	struct node *node;
	int want = 0;

	draw_place(&at);
	if (!at.entry)
		want = ENOENT;
	else if (at.entry->node->kind == KIND_DIR)
		want = EISDIR;
	if (!agree(unlink(at.path), want, "unlink", at.path))
		return;
	node = at.entry->node;
	take_away(at.dir, at.entry);
	node_drop(node);
}

static void step_rmdir(void)
{
	struct place at;
	struct node *node;
	int want = 0;

	draw_place(&at);
	if (!at.entry)
		want = ENOENT;
	else if (at.entry->node->kind != KIND_DIR)
		want = ENOTDIR;
	else if (at.entry->node->entry_count > 0)
		want = ENOTEMPTY;
	if (!agree(rmdir(at.path), want, "rmdir", at.path))
		return;
	node = at.entry->node;
	take_away(at.dir, at.entry);
	node_drop(node);
}

static int want_of_rename(const struct place *from, const struct place *to, unsigned flags)
{
	const struct node *a = from->entry ? from->entry->node : NULL;
	const struct node *b = to->entry ? to->entry->node : NULL;

	if (!a)
		return ENOENT;
	/* The kernel looks at the target's existence before it looks for loops. */
	if (b && flags == RENAME_NOREPLACE)
		return EEXIST;
	if (!b && flags == RENAME_EXCHANGE)
		return ENOENT;
	if (a->kind == KIND_DIR && is_below(to->dir, a))
		return EINVAL;
	if (b && b->kind == KIND_DIR && is_below(from->dir, b))
		return flags == RENAME_EXCHANGE ? EINVAL : ENOTEMPTY;
	if (!b || flags == RENAME_EXCHANGE || a == b)
		return 0;
	if (b->kind == KIND_DIR && a->kind != KIND_DIR)
		return EISDIR;
	if (b->kind != KIND_DIR && a->kind == KIND_DIR)
		return ENOTDIR;
	return b->kind == KIND_DIR && b->entry_count > 0 ? ENOTEMPTY : 0;
}

static void swap_nodes(struct place *from, struct place *to)
{
	struct node *a = from->entry->node, *b = to->entry->node;

	from->entry->node = b;
	to->entry->node = a;
	if (a->kind == KIND_DIR) {
		from->dir->nlink--;
		to->dir->nlink++;
		a->parent = to->dir;
	}
	if (b->kind == KIND_DIR) {
		to->dir->nlink--;
		from->dir->nlink++;
		b->parent = from->dir;
	}
}

static void step_rename(void)
{
	static const unsigned kinds[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	unsigned flags = kinds[draw(4)];
	struct place from, to;
	struct node *moved, *victim;
	char path[2 * PATH_MAX + 4];

	draw_place(&from);
	draw_place(&to);
	snprintf(path, sizeof(path), "%s -> %s", from.path, to.path);
	if (!agree(renameat2(AT_FDCWD, from.path, AT_FDCWD, to.path, flags),
		   want_of_rename(&from, &to, flags), "rename", path))
		return;
	moved = from.entry->node;
	victim = to.entry ? to.entry->node : NULL;
	if (moved == victim)
		return;
	if (flags == RENAME_EXCHANGE) {
		swap_nodes(&from, &to);
		return;
	}
	take_away(from.dir, from.entry);
	if (victim) {
		take_away(to.dir, find(to.dir, to.name));
		node_drop(victim);
	}
	add(to.dir, to.name, moved);
}

static void fill(unsigned char *at, size_t len)
{
	bool is_text = draw(2);

	for (size_t i = 0; i < len; i++)
		at[i] = (unsigned char)(is_text ? 'a' + (i / 3 + step) % 9 : draw(256));
}

static void draw_range(const struct node *node, size_t *off, size_t *len)
{
	static const size_t sizes[] = {10, 4096, 5000, 65536, 300000, 1200000};

	*off = draw((uint32_t)(node->size < FILE_BYTES_MAX / 2 ? node->size + 10000
								 : FILE_BYTES_MAX / 2));
	if (draw(3) == 0)
		*off &= ~(size_t)4095;
	*len = 1 + draw((uint32_t)sizes[draw(6)]);
}

static void step_write(void)
{
	struct place at;
	struct node *node;
	size_t off, len;
	int flags = O_RDWR, fd;

	if (!draw_file(&at))
		return;
	node = at.entry->node;
	draw_range(node, &off, &len);
	if (draw(4) == 0) {
		flags = O_WRONLY | O_APPEND;
		off = node->size;
		if (off > FILE_BYTES_MAX)
			return;
	}
	fd = open(at.path, flags);
	if (!agree(fd, 0, "open for writing", at.path))
		return;
	if (off + len > node->size)
		resize(node, off + len);
	fill(node->bytes + off, len);
	if (pwrite(fd, node->bytes + off, len, (off_t)off) != (ssize_t)len)
		fail("write %s: %s", at.path, strerror(errno));
	if (draw(8) == 0 && fsync(fd) < 0)
		fail("fsync %s: %s", at.path, strerror(errno));
	if (close(fd) < 0)
		fail("close %s: %s", at.path, strerror(errno));
	data_changed(node);
}

static void step_truncate(void)
{
	struct place at;
	size_t size;

	if (!draw_file(&at))
		return;
	size = draw(2) ? draw((uint32_t)at.entry->node->size + 1) : draw(FILE_BYTES_MAX);
	if (!agree(truncate(at.path, (off_t)size), 0, "truncate", at.path))
		return;
	resize(at.entry->node, size);
	data_changed(at.entry->node);
}

static void step_fallocate(void)
{
	static const int modes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE, 0};
	int mode = modes[draw(4)], fd;
	struct place at;
	struct node *node;
	size_t off, len, end;

	if (!draw_file(&at))
		return;
	node = at.entry->node;
	draw_range(node, &off, &len);
	fd = open(at.path, O_RDWR);
	if (!agree(fd, 0, "open", at.path))
		return;
	agree(fallocate(fd, mode, (off_t)off, (off_t)len), 0, "fallocate", at.path);
	close(fd);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > node->size)
		resize(node, off + len);
	end = off + len < node->size ? off + len : node->size;
	if (mode != 0 && off < end)
		memset(node->bytes + off, 0, end - off);
	data_changed(node);
}

static void step_copy(void)
{
	struct place from, to;
	struct node *a, *b;
	off_t in, out;
	size_t len;
	int in_fd, out_fd;

	if (!draw_file(&from) || !draw_file(&to) || from.entry->node == to.entry->node ||
	    from.entry->node->size == 0)
		return;
	a = from.entry->node;
	b = to.entry->node;
	in = draw((uint32_t)a->size);
	out = draw((uint32_t)b->size + 1);
	len = 1 + draw((uint32_t)(a->size - (size_t)in));
	in_fd = open(from.path, O_RDONLY);
	out_fd = open(to.path, O_RDWR);
	if (in_fd < 0 || out_fd < 0)
		fail("open for copying: %s", strerror(errno));
	if ((size_t)out + len > b->size)
		resize(b, (size_t)out + len);
	memcpy(b->bytes + out, a->bytes + in, len);
	while (len > 0) {
		ssize_t n = copy_file_range(in_fd, &in, out_fd, &out, len, 0);

		if (n <= 0)
			fail("copy_file_range: %s", n ? strerror(errno) : "short");
		len -= (size_t)n;
	}
	close(in_fd);
	if (close(out_fd) < 0)
		fail("close %s: %s", to.path, strerror(errno));
	data_changed(b);
}

static void step_chmod(void)
{
	struct place at;
	unsigned mode = 0600 | draw(0200);

	draw_place(&at);
	if (!at.entry || at.entry->node->kind == KIND_LINK)
		return;
	if (at.entry->node->kind == KIND_DIR)
		mode |= 0700;
	if (agree(chmod(at.path, mode), 0, "chmod", at.path))
		at.entry->node->mode = mode;
}

static void step_times(void)
{
	struct place at;
	struct timespec times[2] = {{0, UTIME_OMIT},
				    {(time_t)draw(2000000000) * 3 - 1000000000, draw(1000000000)}};

	draw_place(&at);
	if (!at.entry || at.entry->node->kind == KIND_DIR)
		return;
	if (agree(utimensat(AT_FDCWD, at.path, times, AT_SYMLINK_NOFOLLOW), 0, "utimens", at.path)) {
		at.entry->node->has_mtime = true;
		at.entry->node->mtime = times[1];
	}
}

static void step_xattr(void)
{
	struct place at;
	struct node *node;
	char value[VALUE_BYTES];

	draw_place(&at);
	if (!at.entry || at.entry->node->kind == KIND_LINK)
		return;
	node = at.entry->node;
	if (draw(3) == 0) {
		if (agree(removexattr(at.path, "user.model"), node->text[0] ? 0 : ENODATA,
			  "removexattr", at.path))
			node->text[0] = 0;
		return;
	}
	snprintf(value, sizeof(value), "v%u.%u", draw(100000), draw(100000));
	if (agree(setxattr(at.path, "user.model", value, strlen(value), 0), 0, "setxattr", at.path))
		memcpy(node->text, value, sizeof(value));
}

/* ---- comparing ---- */

static void compare_bytes(const struct node *node, const char *path)
{
	unsigned char *got = malloc(node->size + 2);
	int fd = open(path, O_RDONLY);
	ssize_t len;

	if (!got || fd < 0)
		fail("open %s: %s", path, strerror(errno));
	len = pread(fd, got, node->size + 1, 0);
	if (len != (ssize_t)node->size)
		fail("%s: read %zd of %zu: %s", path, len, node->size,
		     len < 0 ? strerror(errno) : "");
	for (size_t i = 0; i < node->size; i++)
		if (got[i] != node->bytes[i])
			fail("%s: byte %zu of %zu is %02x, not %02x", path, i, node->size, got[i],
			     node->bytes[i]);
	free(got);
	close(fd);
}

static void compare_node(const struct node *node, const char *path)
{
	static const unsigned types[] = {S_IFREG, S_IFDIR, S_IFLNK};
	char text[256] = "";
	struct stat st;
	ssize_t len;

	if (lstat(path, &st) < 0)
		fail("stat %s: %s", path, strerror(errno));
	if ((st.st_mode & S_IFMT) != types[node->kind])
		fail("%s: type %o", path, st.st_mode);
	if ((st.st_mode & 07777) != node->mode)
		fail("%s: mode %o, not %o", path, st.st_mode & 07777, node->mode);
	if (st.st_nlink != node->nlink)
		fail("%s: %lu links, not %u", path, (unsigned long)st.st_nlink, node->nlink);
	if (node->has_mtime && (st.st_mtim.tv_sec != node->mtime.tv_sec ||
				st.st_mtim.tv_nsec != node->mtime.tv_nsec))
		fail("%s: mtime %lld.%09ld, not %lld.%09ld", path, (long long)st.st_mtim.tv_sec,
		     st.st_mtim.tv_nsec, (long long)node->mtime.tv_sec, node->mtime.tv_nsec);
	if (node->kind == KIND_FILE && (size_t)st.st_size != node->size)
		fail("%s: size %lld, not %zu", path, (long long)st.st_size, node->size);
	if (node->kind == KIND_LINK)
		len = readlink(path, text, sizeof(text) - 1);
	else
		len = getxattr(path, "user.model", text, sizeof(text) - 1);
	if (len < 0 && errno != ENODATA)
		fail("%s: %s", path, strerror(errno));
	if (strcmp(text, node->text) != 0)
		fail("%s: \"%s\", not \"%s\"", path, text, node->text);
	if (node->kind == KIND_FILE)
		compare_bytes(node, path);
}

static void compare_dir(struct node *dir)
{
	char path[PATH_MAX];
	struct dirent *found;
	unsigned count = 0;
	DIR *stream;

	dir_path(dir, path);
	stream = opendir(path);
	if (!stream)
		fail("opendir %s: %s", path, strerror(errno));
	while ((found = readdir(stream))) {
		if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
			continue;
		if (!find(dir, found->d_name))
			fail("%s/%s is there, not in the model", path, found->d_name);
		count++;
	}
	closedir(stream);
	if (count != dir->entry_count)
		fail("%s: %u entries, not %u", path, count, dir->entry_count);
	for (unsigned i = 0; i < dir->entry_count; i++) {
		struct entry *entry = &dir->entries[i];

		entry_path(dir, entry->name, path);
		compare_node(entry->node, path);
		if (entry->node->kind == KIND_DIR)
			compare_dir(entry->node);
	}
}

/* ---- running ---- */

static void (*const steps[])(void) = {
	step_create, step_create, step_create, step_mkdir, step_symlink, step_link, step_unlink,
	step_rmdir, step_rename, step_rename, step_write, step_write, step_write, step_write,
	step_truncate, step_fallocate, step_copy, step_chmod, step_times, step_xattr,
};

static void remount(const char *command)
{
	int status;

	fflush(stdout);
	status = system(command);
	if (status != 0)
		fail("the remount failed: %d", status);
}

int main(int argc, char **argv)
{
	unsigned long step_count;
	uint64_t seed;

	if (argc < 3) {
		fprintf(stderr, "usage: tree_model DIR STEPS [SEED [REMOUNT-COMMAND]]\n");
		return 2;
	}
	top = argv[1];
	step_count = strtoul(argv[2], NULL, 10);
	seed = argc > 3 && argv[3][0] ? strtoull(argv[3], NULL, 10)
				      : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
	printf("seed %llu\n", (unsigned long long)seed);
	random_state = seed * 0x9e3779b97f4a7c15u + 1;
	umask(0);
	root = node_new(KIND_DIR, 0755);
	for (step = 1; step <= step_count; step++) {
		steps[draw(sizeof(steps) / sizeof(steps[0]))]();
		if (step % (step_count / 20 + 1) == 0)
			compare_dir(root);
		if (argc > 4 && step % (step_count / 5 + 1) == 0) {
			remount(argv[4]);
			compare_dir(root);
		}
	}
	if (argc > 4)
		remount(argv[4]);
	compare_dir(root);
	printf("%lu steps, %u directories\n", step_count, dir_count);
	return 0;
}
