/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs may expect of a file system, by system calls: posix_calls DIR
 * (empty, on the mount; as root).  Each check has a directory of its own and
 * stops at its first surprise; all run, and the exit code says whether all
 * passed.  What they leave behind is compared after a remount by posix.sh.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define KIB 1024
#define MIB (1024 * 1024)
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *check_name;
static int check_failed;

static void surprise(int line, const char *what)
{
	printf("FAIL %s: line %d: %s (errno %d: %s)\n", check_name, line, what, errno,
	       strerror(errno));
	check_failed = 1;
}

/* Leave the check (a void function) when something is not so. */
#define MUST(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			surprise(__LINE__, #what);                                                 \
			return;                                                                    \
		}                                                                                  \
	} while (0)
#define MUST_FAIL(call, error)                                                                     \
	do {                                                                                       \
		errno = 0;                                                                         \
		if ((call) != -1 || errno != (error)) {                                            \
			surprise(__LINE__, #call " should fail with " #error);                     \
			return;                                                                    \
		}                                                                                  \
	} while (0)

static void fill(unsigned char *buf, size_t len, unsigned seed)
{
	unsigned x = seed * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		buf[i] = (unsigned char)(x >> 24);
	}
}

static bool write_all(int fd, const void *buf, size_t len, off_t off)
{
	return pwrite(fd, buf, len, off) == (ssize_t)len;
}

static bool holds(int fd, const void *buf, size_t len, off_t off)
{
	unsigned char *got = malloc(len ? len : 1);
	bool is_same = got && pread(fd, got, len, off) == (ssize_t)len &&
		       memcmp(got, buf, len) == 0;

	free(got);
	return is_same;
}

static bool is_zero(int fd, size_t len, off_t off)
{
	unsigned char *zeros = calloc(1, len);
	bool is_same = zeros && holds(fd, zeros, len, off);

	free(zeros);
	return is_same;
}

static int make_file(const char *name, const void *bytes, size_t len)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);

	if (fd >= 0 && !write_all(fd, bytes, len, 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool touch(const char *name)
{
	int fd = make_file(name, "x", 1);

	return fd >= 0 && close(fd) == 0;
}

/* ---- names ---- */

static void check_links(void)
{
	struct stat a, b;

	MUST(touch("a"));
	MUST(link("a", "b") == 0);
	MUST(stat("a", &a) == 0 && stat("b", &b) == 0);
	MUST(a.st_ino == b.st_ino && a.st_nlink == 2 && b.st_nlink == 2);
	MUST_FAIL(link("a", "b"), EEXIST);
	MUST(mkdir("d", 0755) == 0);
	MUST_FAIL(link("d", "e"), EPERM);
	MUST(unlink("a") == 0);
	MUST(stat("b", &b) == 0 && b.st_nlink == 1);
	MUST(rename("b", "b") == 0);
	MUST(link("b", "c") == 0 && rename("b", "c") == 0);
	MUST(stat("b", &b) == 0 && stat("c", &a) == 0); /* two names of one file: no effect */
}

static void check_symlinks(void)
{
	char target[PATH_MAX], got[PATH_MAX + 1];
	struct stat st;

	memset(target, 'x', sizeof(target));
	target[PATH_MAX - 1] = 0;
	MUST(symlink("somewhere/else", "short") == 0);
	MUST(readlink("short", got, sizeof(got)) == 14 && memcmp(got, "somewhere/else", 14) == 0);
	MUST(symlink(target, "long") == 0);
	MUST(readlink("long", got, sizeof(got)) == PATH_MAX - 1);
	MUST(memcmp(got, target, PATH_MAX - 1) == 0);
	MUST(lstat("long", &st) == 0 && st.st_size == PATH_MAX - 1 && S_ISLNK(st.st_mode));
	MUST_FAIL(readlink(".", got, sizeof(got)), EINVAL);
	MUST(symlink("loop", "loop") == 0);
	MUST_FAIL(open("loop", O_RDONLY), ELOOP);
	MUST(lchown("short", 5, 6) == 0 && lstat("short", &st) == 0 && st.st_uid == 5);
}

static void check_special_files(void)
{
	struct stat st;

	MUST(mknod("char", S_IFCHR | 0640, makedev(1, 3)) == 0);
	MUST(stat("char", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	MUST(mknod("block", S_IFBLK | 0600, makedev(259, 70000)) == 0);
	MUST(stat("block", &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == makedev(259, 70000));
	MUST(mkfifo("fifo", 0600) == 0 && stat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
	MUST(mknod("sock", S_IFSOCK | 0600, 0) == 0);
	MUST(stat("sock", &st) == 0 && S_ISSOCK(st.st_mode));
	MUST(mknod("file", S_IFREG | 0600, 0) == 0 && stat("file", &st) == 0 && st.st_size == 0);
}

static void check_rename(void)
{
	struct stat st;

	MUST(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && mkdir("f", 0755) == 0);
	MUST_FAIL(rename("d", "d/e/d"), EINVAL);
	MUST_FAIL(rename("f", "d"), ENOTEMPTY);
	MUST(touch("a") && touch("b"));
	MUST_FAIL(rename("a", "d"), EISDIR);
	MUST_FAIL(rename("d", "a"), ENOTDIR);
	MUST_FAIL(rename("none", "a"), ENOENT);
	MUST(rename("d/e", "f") == 0);
	MUST(stat("d", &st) == 0 && st.st_nlink == 2);
	MUST(rename("f", "d/g") == 0 && stat("d", &st) == 0 && st.st_nlink == 3);
	MUST(rename("a", "b") == 0);
	MUST_FAIL(stat("a", &st), ENOENT);
	MUST_FAIL(rmdir("d"), ENOTEMPTY);
	MUST_FAIL(rmdir("b"), ENOTDIR);
	MUST_FAIL(unlink("d"), EISDIR);
	MUST(stat("d/g/..", &st) == 0);
}

static void check_rename_flags(void)
{
	struct stat st;

	MUST(touch("a") && touch("b") && mkdir("d", 0755) == 0);
	MUST(make_file("c", "three", 5) >= 0);
	MUST_FAIL(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
	MUST(renameat2(AT_FDCWD, "a", AT_FDCWD, "new", RENAME_NOREPLACE) == 0);
	MUST(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE) == 0);
	MUST(stat("b", &st) == 0 && st.st_size == 5 && stat("c", &st) == 0 && st.st_size == 1);
	MUST(renameat2(AT_FDCWD, "b", AT_FDCWD, "d", RENAME_EXCHANGE) == 0);
	MUST(stat("b", &st) == 0 && S_ISDIR(st.st_mode) && stat("d", &st) == 0 && st.st_size == 5);
	MUST(mkdir("b/in", 0755) == 0);
	MUST(renameat2(AT_FDCWD, "b/in", AT_FDCWD, "d", RENAME_EXCHANGE) == 0);
	MUST(stat("d", &st) == 0 && S_ISDIR(st.st_mode));
	MUST(stat("b", &st) == 0 && st.st_nlink == 2);
	MUST_FAIL(renameat2(AT_FDCWD, "b", AT_FDCWD, "none", RENAME_EXCHANGE), ENOENT);
}

static void check_name_lengths(void)
{
	char name[300];

	memset(name, 'n', sizeof(name));
	name[255] = 0;
	MUST(touch(name));
	name[255] = 'n';
	name[256] = 0;
	MUST_FAIL(open(name, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
	MUST_FAIL(mkdir(name, 0755), ENAMETOOLONG);
	MUST(touch("\xff\xfe not utf-8 \x01\n"));
	MUST_FAIL(open("none/x", O_RDONLY), ENOENT);
	MUST(touch("f"));
	MUST_FAIL(open("f/x", O_RDONLY), ENOTDIR);
}

/* Every entry is seen exactly once, also when others come and go meanwhile. */
static void check_big_directory(void)
{
	enum { COUNT = 3000 };
	static unsigned char seen[COUNT];
	struct dirent *entry;
	char name[32];
	unsigned found = 0, removed = 0;
	DIR *dir;

	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "f%05d", i);
		MUST(mknod(name, S_IFREG | 0644, 0) == 0);
	}
	dir = opendir(".");
	MUST(dir);
	while ((entry = readdir(dir))) {
		int i;

		if (sscanf(entry->d_name, "f%d", &i) != 1)
			continue;
		MUST(i >= 0 && i < COUNT && !seen[i]);
		seen[i] = 1;
		found++;
		if (i % 3 == 0) {
			MUST(unlink(entry->d_name) == 0);
			removed++;
		}
	}
	MUST(found == COUNT);
	rewinddir(dir);
	found = 0;
	while ((entry = readdir(dir)))
		found += entry->d_name[0] == 'f';
	MUST(found == COUNT - removed);
	rewinddir(dir);
	for (int i = 0; i < 100; i++)
		MUST((entry = readdir(dir)));
	long at = telldir(dir);
	char here[256];

	MUST((entry = readdir(dir)));
	snprintf(here, sizeof(here), "%s", entry->d_name);
	for (int i = 0; i < 500; i++)
		MUST(readdir(dir));
	seekdir(dir, at);
	MUST((entry = readdir(dir)) && strcmp(entry->d_name, here) == 0);
	closedir(dir);
}

/* ---- bytes ---- */

static void check_sparse(void)
{
	unsigned char data[64 * KIB];
	struct stat st;
	int fd = open("sparse", O_RDWR | O_CREAT, 0644);

	fill(data, sizeof(data), 1);
	MUST(fd >= 0);
	MUST(ftruncate(fd, 100 * MIB) == 0);
	MUST(fstat(fd, &st) == 0 && st.st_size == 100 * MIB);
	MUST(lseek(fd, 0, SEEK_HOLE) == 0);
	MUST_FAIL(lseek(fd, 0, SEEK_DATA), ENXIO);
	MUST(write_all(fd, data, sizeof(data), 50 * MIB));
	/* Nothing was flushed: the kernel alone knows of it. */
	off_t at = lseek(fd, 0, SEEK_DATA);
	MUST(at > 0 && at <= 50 * MIB && at >= 50 * MIB - 4 * KIB);
	MUST(lseek(fd, 50 * MIB, SEEK_HOLE) >= 50 * MIB + (off_t)sizeof(data));
	MUST(lseek(fd, 50 * MIB, SEEK_HOLE) <= 51 * MIB);
	MUST(lseek(fd, 60 * MIB, SEEK_HOLE) == 60 * MIB);
	MUST_FAIL(lseek(fd, 100 * MIB, SEEK_DATA), ENXIO);
	MUST(fsync(fd) == 0 && close(fd) == 0);
	fd = open("sparse", O_RDONLY);
	MUST(holds(fd, data, sizeof(data), 50 * MIB));
	MUST(is_zero(fd, MIB, 10 * MIB) && is_zero(fd, MIB, 99 * MIB));
	MUST(close(fd) == 0);
}

static void check_truncate(void)
{
	unsigned char data[200 * KIB];
	struct stat st;
	int fd;

	fill(data, sizeof(data), 2);
	fd = make_file("t", data, sizeof(data));
	MUST(fd >= 0);
	MUST(ftruncate(fd, 100001) == 0 && ftruncate(fd, 150000) == 0);
	MUST(holds(fd, data, 100001, 0) && is_zero(fd, 49999, 100001));
	MUST(fstat(fd, &st) == 0 && st.st_size == 150000);
	MUST(write_all(fd, data, 10, 300000));
	MUST(is_zero(fd, 150000, 150000) && holds(fd, data, 10, 300000));
	MUST(close(fd) == 0);
	MUST(truncate("t", 5) == 0 && stat("t", &st) == 0 && st.st_size == 5);
	fd = open("t", O_RDWR | O_TRUNC);
	MUST(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
	MUST(write_all(fd, data, 7, 0) && close(fd) == 0);
	fd = open("t", O_RDONLY);
	MUST(holds(fd, data, 7, 0) && read(fd, data, sizeof(data)) == 7 && close(fd) == 0);
	MUST_FAIL(truncate(".", 0), EISDIR);
}

static void check_fallocate(void)
{
	unsigned char data[256 * KIB];
	struct stat st;
	int fd;

	fill(data, sizeof(data), 3);
	fd = make_file("f", data, sizeof(data));
	MUST(fd >= 0);
	MUST(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 64 * KIB, 64 * KIB) == 0);
	MUST(is_zero(fd, 64 * KIB, 64 * KIB) && holds(fd, data, 64 * KIB, 0));
	MUST(holds(fd, data + 128 * KIB, 128 * KIB, 128 * KIB));
	MUST(lseek(fd, 0, SEEK_HOLE) == 64 * KIB && lseek(fd, 64 * KIB, SEEK_DATA) == 128 * KIB);
	MUST(fallocate(fd, FALLOC_FL_ZERO_RANGE, 200 * KIB, 100 * KIB) == 0);
	MUST(fstat(fd, &st) == 0 && st.st_size == 300 * KIB && is_zero(fd, 100 * KIB, 200 * KIB));
	MUST(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 400 * KIB) == 0);
	MUST(fstat(fd, &st) == 0 && st.st_size == 300 * KIB);
	MUST(fallocate(fd, 0, 0, 500 * KIB) == 0);
	MUST(fstat(fd, &st) == 0 && st.st_size == 500 * KIB && holds(fd, data, 64 * KIB, 0));
	MUST(is_zero(fd, 200 * KIB, 300 * KIB));
	MUST_FAIL(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
	MUST(posix_fallocate(fd, 0, 600 * KIB) == 0);
	MUST(close(fd) == 0);
}

static void check_mmap(void)
{
	size_t len = 300 * KIB;
	unsigned char *data = malloc(len), *map;
	int fd;

	fill(data, len, 4);
	fd = make_file("m", data, len);
	MUST(fd >= 0);
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(map != MAP_FAILED && memcmp(map, data, len) == 0);
	memset(map + 100000, 'M', 50000);
	memset(data + 100000, 'M', 50000);
	MUST(holds(fd, data, len, 0));
	MUST(msync(map, len, MS_SYNC) == 0);
	/* A write through the mapping after the descriptor is closed. */
	MUST(close(fd) == 0);
	map[7] = data[7] = '!';
	MUST(munmap(map, len) == 0);
	fd = open("m", O_RDONLY);
	MUST(holds(fd, data, len, 0));
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	MUST(map != MAP_FAILED);
	map[0] ^= 0xff;
	MUST(holds(fd, data, len, 0));
	MUST(munmap(map, len) == 0 && close(fd) == 0);
	free(data);
}

/* The kernel must read the page that a write-only handle changes in part. */
static void check_write_only(void)
{
	unsigned char data[16 * KIB];
	int fd;

	fill(data, sizeof(data), 5);
	fd = make_file("w", data, sizeof(data));
	MUST(fd >= 0 && fsync(fd) == 0);
	MUST(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && close(fd) == 0);
	fd = open("w", O_WRONLY);
	MUST(fd >= 0 && write_all(fd, "in the middle", 13, 5000) && close(fd) == 0);
	memcpy(data + 5000, "in the middle", 13);
	fd = open("w", O_RDONLY);
	MUST(holds(fd, data, sizeof(data), 0) && close(fd) == 0);
}

static void check_direct(void)
{
	unsigned char *data = NULL;
	int fd;

	MUST(posix_memalign((void **)&data, 4096, MIB) == 0);
	fill(data, MIB, 6);
	fd = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0644);
	MUST(fd >= 0);
	MUST(pwrite(fd, data, MIB, 0) == MIB && pwrite(fd, data, 8192, 3 * MIB) == 8192);
	MUST(close(fd) == 0);
	fd = open("direct", O_RDONLY);
	MUST(holds(fd, data, MIB, 0) && holds(fd, data, 8192, 3 * MIB));
	MUST(is_zero(fd, 2 * MIB, MIB) && close(fd) == 0);
	free(data);
}

static void check_append(void)
{
	enum { WRITERS = 4, LINES = 200 };
	char line[64];
	struct stat st;
	FILE *file;
	unsigned next[WRITERS] = {0};

	for (int w = 0; w < WRITERS; w++) {
		if (fork() == 0) {
			int fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);

			for (int i = 0; i < LINES; i++) {
				int len = snprintf(line, sizeof(line), "%d %06d\n", w, i);

				if (write(fd, line, (size_t)len) != len)
					_exit(1);
			}
			_exit(close(fd) ? 1 : 0);
		}
	}
	for (int w = 0; w < WRITERS; w++) {
		int status;

		MUST(wait(&status) > 0 && status == 0);
	}
	MUST(stat("log", &st) == 0 && st.st_size == WRITERS * LINES * 9);
	file = fopen("log", "r");
	MUST(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned w, i;

		MUST(sscanf(line, "%u %u", &w, &i) == 2 && w < WRITERS && i == next[w]);
		next[w]++;
	}
	fclose(file);
}

static void check_unlinked(void)
{
	unsigned char data[100 * KIB];
	struct stat st;
	int fd;

	fill(data, sizeof(data), 7);
	fd = make_file("gone", data, sizeof(data));
	MUST(fd >= 0 && unlink("gone") == 0);
	MUST(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == sizeof(data));
	MUST(holds(fd, data, sizeof(data), 0));
	MUST(write_all(fd, data, sizeof(data), sizeof(data)) && fsync(fd) == 0);
	MUST(holds(fd, data, sizeof(data), sizeof(data)));
	MUST(fchmod(fd, 0600) == 0 && ftruncate(fd, 10) == 0);
	MUST(touch("gone")); /* another file of that name */
	MUST(fstat(fd, &st) == 0 && st.st_size == 10 && close(fd) == 0);
	MUST(stat("gone", &st) == 0 && st.st_size == 1);
	MUST(mkdir("d", 0755) == 0);
	fd = open("d", O_RDONLY | O_DIRECTORY);
	MUST(fd >= 0 && rmdir("d") == 0 && fstat(fd, &st) == 0);
	MUST_FAIL(openat(fd, "x", O_CREAT | O_RDWR, 0644), ENOENT);
	MUST(close(fd) == 0);
}

static void check_tmpfile(void)
{
	char path[64];
	struct stat st;
	int fd = open(".", O_TMPFILE | O_RDWR, 0640);

	MUST(fd >= 0);
	MUST(write_all(fd, "nameless", 8, 0) && fstat(fd, &st) == 0 && st.st_nlink == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0);
	MUST(close(fd) == 0);
	MUST(stat("named", &st) == 0 && st.st_nlink == 1 && st.st_size == 8);
	MUST((st.st_mode & 0777) == 0640);
	fd = open(".", O_TMPFILE | O_RDWR, 0600);
	MUST(fd >= 0 && write_all(fd, "lost", 4, 0) && close(fd) == 0);
}

static void check_copy_range(void)
{
	size_t len = 3 * MIB;
	unsigned char *data = malloc(len);
	off_t in, out;
	size_t done = 0;
	int a, b;

	fill(data, len, 8);
	a = make_file("a", data, len);
	b = open("b", O_RDWR | O_CREAT, 0644);
	MUST(a >= 0 && b >= 0);
	/* Fresh bytes that nobody has flushed; offsets that are no block's. */
	while (done < len - 777) {
		ssize_t n;

		in = 777 + (off_t)done;
		out = 333 + (off_t)done;
		n = copy_file_range(a, &in, b, &out, len - 777 - done, 0);
		MUST(n > 0);
		done += (size_t)n;
	}
	MUST(holds(b, data + 777, len - 777, 333) && is_zero(b, 333, 0));
	in = 0;
	out = 2 * MIB;
	MUST(copy_file_range(a, &in, a, &out, 64 * KIB, 0) == 64 * KIB);
	MUST(holds(a, data, 64 * KIB, 2 * MIB));
	/* The copy has bytes of its own. */
	MUST(write_all(a, "changed", 7, 5000) && holds(b, data + 777, len - 777, 333));
	MUST(close(a) == 0 && close(b) == 0);
	free(data);
}

/* ---- attributes ---- */

static bool has_times(const char *name, struct timespec want)
{
	struct stat st;

	return stat(name, &st) == 0 && st.st_mtim.tv_sec == want.tv_sec &&
	       st.st_mtim.tv_nsec == want.tv_nsec && st.st_atim.tv_sec == want.tv_sec &&
	       st.st_atim.tv_nsec == want.tv_nsec;
}

static void check_times(void)
{
	static const struct timespec cases[] = {
		{-1, 999999999}, {-5000000000, 1}, {0, 0}, {1, 123456789}, {4294967296, 5},
		{9000000000, 999999999},
	};
	struct timespec keep[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
	struct stat before, after;
	char name[16];

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct timespec both[2] = {cases[i], cases[i]};

		snprintf(name, sizeof(name), "t%zu", i);
		MUST(touch(name));
		MUST(utimensat(AT_FDCWD, name, both, 0) == 0 && has_times(name, cases[i]));
	}
	MUST(utimensat(AT_FDCWD, "t0", keep, 0) == 0 && has_times("t0", cases[0]));
	MUST(stat(".", &before) == 0);
	usleep(20000);
	MUST(touch("new") && stat(".", &after) == 0);
	MUST(after.st_mtim.tv_sec > before.st_mtim.tv_sec ||
	     (after.st_mtim.tv_sec == before.st_mtim.tv_sec &&
	      after.st_mtim.tv_nsec > before.st_mtim.tv_nsec));
	MUST(stat("new", &before) == 0);
	usleep(20000);
	MUST(chmod("new", 0600) == 0 && stat("new", &after) == 0);
	MUST(after.st_ctim.tv_nsec != before.st_ctim.tv_nsec ||
	     after.st_ctim.tv_sec != before.st_ctim.tv_sec);
	MUST(after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
}

static void check_modes(void)
{
	struct stat st;
	mode_t old = umask(027);
	int fd = open("masked", O_CREAT | O_RDWR, 0666);

	MUST(fd >= 0 && close(fd) == 0 && stat("masked", &st) == 0);
	MUST((st.st_mode & 07777) == 0640);
	MUST(mkdir("dir", 0777) == 0 && stat("dir", &st) == 0 && (st.st_mode & 07777) == 0750);
	umask(old);
	MUST(chmod("masked", 06755) == 0 && stat("masked", &st) == 0);
	MUST((st.st_mode & 07777) == 06755);
	MUST(chown("masked", 1000, 1001) == 0 && stat("masked", &st) == 0);
	MUST(st.st_uid == 1000 && st.st_gid == 1001 && (st.st_mode & 06000) == 0);
	MUST(chown("dir", 0, 77) == 0 && chmod("dir", 02775) == 0);
	MUST(mkdir("dir/sub", 0755) == 0 && stat("dir/sub", &st) == 0);
	MUST(st.st_gid == 77 && (st.st_mode & S_ISGID));
	MUST(touch("dir/file") && stat("dir/file", &st) == 0 && st.st_gid == 77);
}

/* As somebody else: 0 when the child's work said so. */
static bool as_user(bool (*work)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (setgid(1000) || setuid(1000))
			_exit(2);
		_exit(work() ? 0 : 1);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool write_setuid(void)
{
	int fd = open("suid", O_WRONLY);

	return fd >= 0 && write_all(fd, "y", 1, 0) && close(fd) == 0;
}

static bool write_setuid_truncate(void)
{
	return truncate("suid2", 0) == 0;
}

static bool is_denied(void)
{
	return open("private", O_RDONLY) < 0 && errno == EACCES && chmod("suid", 0777) < 0 &&
	       errno == EPERM && unlink("suid") < 0 && errno == EACCES;
}

static void check_setuid(void)
{
	char value[64];
	struct stat st;
	/* A version 2 capability set. */
	static const unsigned char cap[20] = {1, 0, 0, 2, 0, 4};

	MUST(touch("suid") && touch("suid2") && touch("private") && chmod("private", 0600) == 0);
	MUST(chmod("suid", 06777) == 0 && chmod("suid2", 06777) == 0);
	MUST(setxattr("suid", "security.capability", cap, sizeof(cap), 0) == 0);
	MUST(as_user(write_setuid) && stat("suid", &st) == 0);
	MUST((st.st_mode & 07777) == 0777);
	MUST_FAIL(getxattr("suid", "security.capability", value, sizeof(value)), ENODATA);
	MUST(as_user(write_setuid_truncate) && stat("suid2", &st) == 0);
	MUST((st.st_mode & 07777) == 0777);
	MUST(as_user(is_denied));
}

static void check_xattrs(void)
{
	static char big[60000], got[65536];
	ssize_t len;

	MUST(touch("x") && mkdir("d", 0755) == 0);
	MUST_FAIL(getxattr("x", "user.none", got, sizeof(got)), ENODATA);
	MUST(listxattr("x", got, sizeof(got)) == 0);
	MUST(setxattr("x", "user.one", "1", 1, XATTR_CREATE) == 0);
	MUST_FAIL(setxattr("x", "user.one", "1", 1, XATTR_CREATE), EEXIST);
	MUST_FAIL(setxattr("x", "user.two", "2", 1, XATTR_REPLACE), ENODATA);
	MUST(setxattr("x", "user.one", "uno", 3, XATTR_REPLACE) == 0);
	MUST(getxattr("x", "user.one", got, sizeof(got)) == 3 && memcmp(got, "uno", 3) == 0);
	MUST(getxattr("x", "user.one", NULL, 0) == 3);
	MUST_FAIL(getxattr("x", "user.one", got, 2), ERANGE);
	MUST(setxattr("x", "user.empty", "", 0, 0) == 0);
	MUST(getxattr("x", "user.empty", got, sizeof(got)) == 0);
	memset(big, 'B', sizeof(big));
	MUST(setxattr("x", "user.big", big, sizeof(big), 0) == 0);
	MUST(getxattr("x", "user.big", got, sizeof(got)) == sizeof(big));
	MUST(memcmp(got, big, sizeof(big)) == 0);
	MUST(setxattr("x", "trusted.t", "t", 1, 0) == 0);
	MUST(setxattr("x", "security.s", "s", 1, 0) == 0);
	MUST(setxattr("d", "user.on.directory", "d", 1, 0) == 0);
	len = listxattr("x", got, sizeof(got));
	MUST(len > 0);
	MUST(memmem(got, (size_t)len, "user.one", 9) && memmem(got, (size_t)len, "trusted.t", 10));
	MUST(!memmem(got, (size_t)len, "shardfs", 7));
	MUST(removexattr("x", "user.one") == 0);
	MUST_FAIL(removexattr("x", "user.one"), ENODATA);
	MUST_FAIL(setxattr("x", "bogus.name", "1", 1, 0), EOPNOTSUPP);
	MUST(getxattr("x", "user.shardfs.status", got, sizeof(got)) > 0);
	MUST(getxattr("d", "user.shardfs.policy", got, sizeof(got)) > 0);
	MUST_FAIL(setxattr("x", "user.shardfs.status", "1", 1, 0), EPERM);
	MUST_FAIL(getxattr("x", "user.shardfs.none", got, sizeof(got)), ENODATA);
}

static int set_flags(const char *name, unsigned flags)
{
	int fd = open(name, O_RDONLY);
	int r = fd < 0 ? -1 : ioctl(fd, FS_IOC_SETFLAGS, &flags);
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return r;
}

static void check_flags(void)
{
	unsigned flags = 0;
	int fd;

	MUST(touch("i") && touch("a") && mkdir("d", 0755) == 0 && touch("d/in"));
	MUST(set_flags("i", FS_IMMUTABLE_FL) == 0);
	fd = open("i", O_RDONLY);
	MUST(fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && flags == FS_IMMUTABLE_FL);
	MUST(close(fd) == 0);
	MUST_FAIL(open("i", O_WRONLY), EPERM);
	MUST_FAIL(unlink("i"), EPERM);
	MUST_FAIL(rename("i", "j"), EPERM);
	MUST_FAIL(link("i", "j"), EPERM);
	MUST_FAIL(chmod("i", 0600), EPERM);
	MUST_FAIL(truncate("i", 0), EPERM);
	MUST_FAIL(setxattr("i", "user.x", "1", 1, 0), EPERM);
	MUST(set_flags("i", 0) == 0 && unlink("i") == 0);

	MUST(set_flags("a", FS_APPEND_FL) == 0);
	MUST_FAIL(open("a", O_WRONLY), EPERM);
	MUST_FAIL(open("a", O_WRONLY | O_APPEND | O_TRUNC), EPERM);
	MUST_FAIL(unlink("a"), EPERM);
	fd = open("a", O_WRONLY | O_APPEND);
	MUST(fd >= 0 && write(fd, "more", 4) == 4 && close(fd) == 0);
	MUST(set_flags("a", 0) == 0);

	MUST(set_flags("d", FS_IMMUTABLE_FL) == 0);
	MUST_FAIL(mkdir("d/new", 0755), EPERM);
	MUST_FAIL(unlink("d/in"), EPERM);
	MUST(set_flags("d", FS_APPEND_FL) == 0);
	MUST(touch("d/new"));
	MUST_FAIL(unlink("d/new"), EPERM);
	MUST_FAIL(rename("d/new", "d/other"), EPERM);
	MUST(set_flags("d", 0) == 0 && unlink("d/new") == 0);
	MUST_FAIL(set_flags("d", FS_COMPR_FL), EOPNOTSUPP);
	fd = open("d", O_RDONLY);
	MUST(ioctl(fd, FS_IOC_GETVERSION, &flags) == 0 && close(fd) == 0);
}

static void check_locks(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int status, fd;

	MUST(touch("l"));
	fd = open("l", O_RDWR);
	MUST(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
	if (fork() == 0) {
		int other = open("l", O_RDWR);

		_exit(fcntl(other, F_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES)
			      ? 0
			      : 1);
	}
	MUST(wait(&status) > 0 && status == 0);
	MUST(flock(fd, LOCK_EX) == 0 && flock(fd, LOCK_UN) == 0 && close(fd) == 0);
}

static void check_handles(void)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int mount_id, fd, dir = open(".", O_RDONLY | O_DIRECTORY);

	MUST(touch("h"));
	u.handle.handle_bytes = MAX_HANDLE_SZ;
	MUST(name_to_handle_at(AT_FDCWD, "h", &u.handle, &mount_id, 0) == 0);
	fd = open_by_handle_at(dir, &u.handle, O_RDONLY);
	MUST(fd >= 0 && holds(fd, "x", 1, 0) && close(fd) == 0);
	MUST(unlink("h") == 0);
	MUST_FAIL(open_by_handle_at(dir, &u.handle, O_RDONLY), ESTALE);
	MUST(close(dir) == 0);
}

static void check_sync(void)
{
	struct statvfs vfs;
	int fd = make_file("s", "durable", 7), dir = open(".", O_RDONLY | O_DIRECTORY);

	MUST(fd >= 0 && dir >= 0);
	MUST(fsync(fd) == 0 && fdatasync(fd) == 0 && fsync(dir) == 0);
	MUST(close(fd) == 0 && close(dir) == 0);
	MUST(statvfs(".", &vfs) == 0 && vfs.f_namemax == 255 && vfs.f_blocks > 0);
	MUST(vfs.f_bavail > 0);
}

/* ---- running ---- */

static const struct {
	const char *name;
	void (*run)(void);
} checks[] = {
	{"links", check_links},
	{"symlinks", check_symlinks},
	{"special_files", check_special_files},
	{"rename", check_rename},
	{"rename_flags", check_rename_flags},
	{"name_lengths", check_name_lengths},
	{"big_directory", check_big_directory},
	{"sparse", check_sparse},
	{"truncate", check_truncate},
	{"fallocate", check_fallocate},
	{"mmap", check_mmap},
	{"write_only", check_write_only},
	{"direct", check_direct},
	{"append", check_append},
	{"unlinked", check_unlinked},
	{"tmpfile", check_tmpfile},
	{"copy_range", check_copy_range},
	{"times", check_times},
	{"modes", check_modes},
	{"setuid", check_setuid},
	{"xattrs", check_xattrs},
	{"flags", check_flags},
	{"locks", check_locks},
	{"handles", check_handles},
	{"sync", check_sync},
};

int main(int argc, char **argv)
{
	int failed = 0, top;

	if (argc < 2) {
		fprintf(stderr, "usage: posix_calls DIR [CHECK...]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	umask(022);
	top = open(argv[1], O_RDONLY | O_DIRECTORY);
	if (top < 0) {
		perror(argv[1]);
		return 2;
	}
	for (size_t i = 0; i < ARRAY_COUNT(checks); i++) {
		bool is_wanted = argc == 2;

		for (int k = 2; k < argc; k++)
			is_wanted |= strcmp(argv[k], checks[i].name) == 0;
		if (!is_wanted)
			continue;
		check_name = checks[i].name;
		check_failed = 0;
		if (fchdir(top) < 0 || mkdir(check_name, 0755) < 0 || chdir(check_name) < 0) {
			surprise(__LINE__, "a directory for the check");
		} else {
			checks[i].run();
		}
		if (!check_failed)
			printf("ok   %s\n", check_name);
		failed += check_failed;
	}
	printf("%d of %zu failed\n", failed, ARRAY_COUNT(checks));
	return failed ? 1 : 0;
}
