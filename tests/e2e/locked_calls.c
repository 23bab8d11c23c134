/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call that changes something, on a file and on a directory that is
 * immutable (chattr +i), append-only (+a), locked until a date, or none of it:
 * locked_calls DIR (empty, on the mount; as root).  A call that is refused
 * fails with EPERM and changes nothing; one that is not succeeds.
 *
 * locked_calls --ops prints the requests to the daemon that these calls make;
 * locked.sh compares them with those that it answers, so that none is forgotten.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FILE_BYTES     8192
#define LOCK	       "user.shardfs.lock-until"
#define DATE	       "2101-01-01T00:00:00Z"

/* What may refuse a call. */
#define I 1u /* chattr +i */
#define A 2u /* chattr +a */
#define L 4u /* locked */

static int rw, append_only; /* handles of the file, opened before */

static const unsigned char acl[] = {2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
				    2, 0, 6, 0, 9, 0, 0, 0, 4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
				    16, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
				    32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};

static int open_as(const char *name, int flags)
{
	int fd = open(name, flags, 0600);

	return fd < 0 ? -1 : close(fd);
}

static int full(ssize_t done, ssize_t wanted)
{
	if (done >= 0 && done != wanted)
		errno = EIO;
	return done == wanted ? 0 : -1;
}

/* ---- of the file f, whose other name is f2 ---- */

static int open_write(void)
{
	return open_as("f", O_WRONLY);
}
static int open_both(void)
{
	return open_as("f", O_RDWR);
}
static int open_append(void)
{
	return open_as("f", O_WRONLY | O_APPEND);
}
static int open_truncate(void)
{
	return open_as("f", O_WRONLY | O_TRUNC);
}
static int open_append_truncate(void)
{
	return open_as("f", O_WRONLY | O_APPEND | O_TRUNC);
}
static int open_create(void)
{
	return open_as("f", O_WRONLY | O_CREAT);
}
static int open_read(void)
{
	return open_as("f", O_RDONLY);
}
static int truncate_name(void)
{
	return truncate("f2", 100);
}
static int truncate_handle(void)
{
	return ftruncate(rw, 100);
}
static int extend_handle(void)
{
	return ftruncate(rw, 2 * FILE_BYTES);
}
static int write_handle(void)
{
	return full(pwrite(rw, "new", 3, 10), 3);
}
/* The kernel has just been told the attributes in each way that there is. */
static int write_after_looks(void)
{
	struct dirent *entry;
	struct stat st;
	DIR *dir = opendir(".");

	while (dir && (entry = readdir(dir)))
		stat(entry->d_name, &st);
	closedir(dir);
	if (stat("f2", &st) < 0 || fstat(rw, &st) < 0)
		return -1;
	return write_handle();
}
static int append_handle(void)
{
	return full(write(append_only, "new", 3), 3);
}
static int allocate(void)
{
	return fallocate(rw, FALLOC_FL_KEEP_SIZE, FILE_BYTES, FILE_BYTES);
}
static int punch(void)
{
	return fallocate(rw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
}
static int zero(void)
{
	return fallocate(rw, FALLOC_FL_ZERO_RANGE, 0, 4096);
}
static int copy_into(void)
{
	off_t from = 0, to = 0;
	int fd = open("other", O_RDONLY);
	int r = full(copy_file_range(fd, &from, rw, &to, 4096, 0), 4096);
	int error = errno;

	close(fd);
	errno = error;
	return r;
}
static int set_mode(void)
{
	return chmod("f", 0600);
}
static int set_mode_handle(void)
{
	return fchmod(rw, 0600);
}
static int set_owner(void)
{
	return chown("f", 5, 6);
}
static int set_times(void)
{
	struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};

	return utimensat(AT_FDCWD, "f", times, 0);
}
static int set_mtime(void)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 2000}};

	return futimens(rw, times);
}
/* Reading is no change, through whatever handle, also up to the end. */
static int read_to_end(void)
{
	char bytes[FILE_BYTES + 100];

	return full(pread(rw, bytes, sizeof(bytes), 0), FILE_BYTES);
}
static int seek_end(void)
{
	return full(lseek(rw, 0, SEEK_END), FILE_BYTES);
}
static int add_xattr(void)
{
	return setxattr("f", "user.new", "1", 1, 0);
}
static int replace_xattr(void)
{
	return setxattr("f", "user.old", "1", 1, XATTR_REPLACE);
}
static int remove_xattr(void)
{
	return removexattr("f", "user.old");
}
static int set_acl(void)
{
	return setxattr("f", "system.posix_acl_access", acl, sizeof(acl), 0);
}
static int add_link(void)
{
	return link("f", "f3");
}
static int unlink_it(void)
{
	return unlink("f");
}
static int unlink_other_name(void)
{
	return unlink("f2");
}
static int rename_it(void)
{
	return rename("f", "moved");
}
static int rename_over_it(void)
{
	return rename("other", "f");
}
static int exchange_it(void)
{
	return renameat2(AT_FDCWD, "other", AT_FDCWD, "f", RENAME_EXCHANGE);
}
static int exchange_with_it(void)
{
	return renameat2(AT_FDCWD, "f", AT_FDCWD, "other", RENAME_EXCHANGE);
}
static int set_flag(const char *name)
{
	unsigned flags;
	int fd = open(name, O_RDONLY), r = ioctl(fd, FS_IOC_GETFLAGS, &flags), error;

	flags ^= FS_NODUMP_FL;
	if (r == 0)
		r = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	error = errno;
	close(fd);
	errno = error;
	return r;
}
static int set_file_flag(void)
{
	return set_flag("f");
}
static int set_extended_flag(void)
{
	struct fsxattr attr;
	int fd = open("f", O_RDONLY), r = ioctl(fd, FS_IOC_FSGETXATTR, &attr), error;

	attr.fsx_xflags ^= FS_XFLAG_NODUMP;
	if (r == 0)
		r = ioctl(fd, FS_IOC_FSSETXATTR, &attr);
	error = errno;
	close(fd);
	errno = error;
	return r;
}
static int extend_lock(void)
{
	return setxattr("f", LOCK, "2102-02-03", 10, 0);
}
static int shorten_lock(void)
{
	if (getxattr("f", LOCK, NULL, 0) < 0)
		return 0;
	return setxattr("f", LOCK, "2100-12-31T23:59:59Z", 20, 0);
}
static int remove_lock(void)
{
	if (getxattr("f", LOCK, NULL, 0) < 0)
		return 0;
	return removexattr("f", LOCK);
}
/* What a mapping takes is refused at the latest when it is synced, and is gone then. */
static int write_mapping(void)
{
	char *map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, rw, 0);
	int r, error;

	if (map == MAP_FAILED)
		return -1;
	map[100] ^= 1;
	r = msync(map, FILE_BYTES, MS_SYNC);
	error = errno;
	munmap(map, FILE_BYTES);
	errno = r < 0 && error == EIO ? EPERM : error; /* some kernels tell any failure so */
	return r;
}

/* ---- of the directory d, which has in, in2 and sub; and e, which is empty ---- */

static int create_in(void)
{
	return open_as("d/new", O_WRONLY | O_CREAT | O_EXCL);
}
static int mkdir_in(void)
{
	return mkdir("d/new", 0755);
}
static int mknod_in(void)
{
	return mknod("d/new", S_IFCHR | 0600, makedev(1, 3));
}
static int symlink_in(void)
{
	return symlink("target", "d/new");
}
static int link_in(void)
{
	return link("other", "d/new");
}
static int unnamed_in(void)
{
	int fd = open("d", O_TMPFILE | O_WRONLY, 0600);

	if (fd < 0 && errno == EOPNOTSUPP) /* libfuse before 3.17 */
		return 0;
	return fd < 0 ? -1 : close(fd);
}
static int rename_into(void)
{
	return rename("other", "d/new");
}
static int rename_over_entry(void)
{
	return rename("other", "d/in");
}
static int rename_within(void)
{
	return rename("d/in", "d/moved");
}
static int rename_out(void)
{
	return rename("d/in", "moved");
}
static int exchange_entry(void)
{
	return renameat2(AT_FDCWD, "other", AT_FDCWD, "d/in", RENAME_EXCHANGE);
}
static int exchange_within(void)
{
	return renameat2(AT_FDCWD, "d/in", AT_FDCWD, "d/in2", RENAME_EXCHANGE);
}
static int unlink_in(void)
{
	return unlink("d/in");
}
static int rmdir_in(void)
{
	return rmdir("d/sub");
}
static int rename_dir(void)
{
	return rename("d", "moved");
}
static int remove_empty(void)
{
	return rmdir("e");
}
static int rename_over_empty(void)
{
	return rename("other.d", "e");
}
static int dir_mode(void)
{
	return chmod("d", 0700);
}
static int dir_owner(void)
{
	return chown("d", 5, 6);
}
static int dir_times(void)
{
	struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};

	return utimensat(AT_FDCWD, "d", times, 0);
}
static int dir_xattr(void)
{
	return setxattr("d", "user.new", "1", 1, 0);
}
static int dir_default_acl(void)
{
	return setxattr("d", "system.posix_acl_default", acl, sizeof(acl), 0);
}
static int dir_flag(void)
{
	return set_flag("d");
}
/* What is not the directory itself or one of its names. */
static int write_in(void)
{
	int fd = open("d/in", O_WRONLY | O_TRUNC), r = full(write(fd, "new", 3), 3);

	close(fd);
	return r;
}
static int mode_in(void)
{
	return chmod("d/in", 0600);
}
static int rename_above(void)
{
	return rename("../here", "../there") < 0 ? -1 : rename("../there", "../here");
}

struct call {
	const char *name, *op; /* op: the request that decides, as fs/ops.c calls it */
	unsigned refused_by;
	int (*run)(void);
};

#define CALL(f, op, refused_by) {#f, op, refused_by, f}
static const struct call file_calls[] = {
	CALL(open_write, "open", I | A | L),
	CALL(open_both, "open", I | A | L),
	CALL(open_append, "open", I | L),
	CALL(open_truncate, "open", I | A | L),
	CALL(open_append_truncate, "open", I | A | L),
	CALL(open_create, "create", I | A | L),
	CALL(open_read, "open", 0),
	CALL(read_to_end, "read", 0),
	CALL(seek_end, "read", 0),
	CALL(truncate_name, "setattr", I | A | L),
	CALL(truncate_handle, "setattr", I | A | L),
	CALL(extend_handle, "setattr", I | A | L),
	CALL(write_handle, "write", L), /* what is open may write on, as on other file systems */
	CALL(write_after_looks, "write", L),
	CALL(append_handle, "write", L),
	CALL(write_mapping, "write", L),
	CALL(allocate, "fallocate", I | L),
	CALL(punch, "fallocate", I | A | L),
	CALL(zero, "fallocate", I | A | L),
	CALL(copy_into, "copy_file_range", I | A | L),
	CALL(set_mode, "setattr", I | A | L),
	CALL(set_mode_handle, "setattr", I | A | L),
	CALL(set_owner, "setattr", I | A | L),
	CALL(set_times, "setattr", I | A | L),
	CALL(set_mtime, "setattr", I | L), /* +a: the kernel tells times so */
	CALL(add_xattr, "setxattr", I | A | L),
	CALL(replace_xattr, "setxattr", I | A | L),
	CALL(remove_xattr, "removexattr", I | A | L),
	CALL(set_acl, "setxattr", I | A | L),
	CALL(add_link, "link", I | A | L),
	CALL(unlink_it, "unlink", I | A | L),
	CALL(unlink_other_name, "unlink", I | A | L),
	CALL(rename_it, "rename", I | A | L),
	CALL(rename_over_it, "rename", I | A | L),
	CALL(exchange_it, "rename", I | A | L),
	CALL(exchange_with_it, "rename", I | A | L),
	CALL(set_file_flag, "ioctl", L),
	CALL(set_extended_flag, "ioctl", L),
	CALL(extend_lock, "setxattr", 0),
	CALL(shorten_lock, "setxattr", L),
	CALL(remove_lock, "removexattr", L),
};
static const struct call dir_calls[] = {
	CALL(create_in, "create", I),
	CALL(mkdir_in, "mkdir", I),
	CALL(mknod_in, "mknod", I),
	CALL(symlink_in, "symlink", I),
	CALL(link_in, "link", I),
	CALL(unnamed_in, "create", I),
	CALL(rename_into, "rename", I),
	CALL(rename_over_entry, "rename", I | A | L),
	CALL(rename_within, "rename", I | A | L),
	CALL(rename_out, "rename", I | A | L),
	CALL(exchange_entry, "rename", I | A | L),
	CALL(exchange_within, "rename", I | A | L),
	CALL(unlink_in, "unlink", I | A | L),
	CALL(rmdir_in, "rmdir", I | A | L),
	CALL(rename_dir, "rename", I | A | L),
	CALL(remove_empty, "rmdir", I | A | L),
	CALL(rename_over_empty, "rename", I | A | L),
	CALL(dir_mode, "setattr", I | A | L),
	CALL(dir_owner, "setattr", I | A | L),
	CALL(dir_times, "setattr", I | A | L),
	CALL(dir_xattr, "setxattr", I | A | L),
	CALL(dir_default_acl, "setxattr", I | A | L),
	CALL(dir_flag, "ioctl", L),
	CALL(write_in, "write", 0),
	CALL(mode_in, "setattr", 0),
	CALL(rename_above, "rename", 0),
};

static const struct state {
	const char *name;
	unsigned bit;
} states[] = {{"plain", 0}, {"immutable", I}, {"append-only", A}, {"locked", L}};

static int failures;

static void surprise(const char *state, const char *call, const char *what)
{
	printf("FAIL %s on %s: %s (errno %d: %s)\n", call, state, what, errno, strerror(errno));
	failures++;
}

static void must(bool is_so, const char *what)
{
	if (is_so)
		return;
	printf("FAIL while preparing: %s (errno %d: %s)\n", what, errno, strerror(errno));
	exit(1);
}

static void make_file(const char *name, char byte)
{
	char bytes[FILE_BYTES];
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	memset(bytes, byte, sizeof(bytes));
	must(fd >= 0 && write(fd, bytes, sizeof(bytes)) == sizeof(bytes) && close(fd) == 0, name);
}

static void set_state(const char *name, unsigned bit)
{
	unsigned flags = bit == I ? FS_IMMUTABLE_FL : FS_APPEND_FL;
	int fd = open(name, O_RDONLY);

	must(fd >= 0, name);
	if (bit == L)
		must(setxattr(name, LOCK, DATE, strlen(DATE), 0) == 0, "lock");
	else if (bit)
		must(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0, "chattr");
	close(fd);
}

/* What a refused call leaves as it was: times of access apart, everything. */
struct picture {
	struct stat st;
	char bytes[FILE_BYTES + 1], names[256];
	ssize_t len, names_len;
};

static void look(const char *name, struct picture *out)
{
	int fd = open(name, O_RDONLY);

	memset(out, 0, sizeof(*out));
	must(fd >= 0 && fstat(fd, &out->st) == 0, "look");
	if (S_ISREG(out->st.st_mode)) {
		out->len = pread(fd, out->bytes, sizeof(out->bytes), 0);
		must(out->len >= 0, "read");
	}
	out->names_len = flistxattr(fd, out->names, sizeof(out->names));
	close(fd);
	memset(&out->st.st_atim, 0, sizeof(out->st.st_atim));
}

static void try(const char *top, const struct state *state, const struct call *call, bool is_dir)
{
	bool is_refused = state->bit & call->refused_by;
	const char *name = is_dir ? "d" : "f";
	struct picture before, after;
	char path[256];
	int r, fd;

	snprintf(path, sizeof(path), "%s/%s.%s", top, state->name, call->name);
	must(mkdir(path, 0755) == 0 && chdir(path) == 0 && mkdir("here", 0755) == 0 &&
		     chdir("here") == 0, path);
	make_file("f", 'f');
	make_file("other", 'o');
	must(link("f", "f2") == 0 && setxattr("f", "user.old", "0", 1, 0) == 0, "f2");
	must(mkdir("d", 0755) == 0 && mkdir("d/sub", 0755) == 0 && mkdir("e", 0755) == 0 &&
		     mkdir("other.d", 0755) == 0, "d");
	make_file("d/in", 'i');
	make_file("d/in2", 'j');
	rw = open("f", O_RDWR);
	append_only = open("f", O_WRONLY | O_APPEND);
	must(rw >= 0 && append_only >= 0, "handles");
	/* Not pushed yet when the lock comes: it must not be lost, nor refused. */
	must(pwrite(rw, "before", 6, 0) == 6, "write");
	set_state(name, state->bit);
	if (is_dir)
		set_state("e", state->bit);
	look(name, &before);
	must(is_dir || memcmp(before.bytes, "before", 6) == 0, "what was written before");
	errno = 0;
	r = call->run();
	if (is_refused && (r != -1 || errno != EPERM))
		surprise(state->name, call->name, "should fail with EPERM");
	else if (!is_refused && r != 0)
		surprise(state->name, call->name, "should succeed");
	errno = 0;
	if (close(rw) < 0 || close(append_only) < 0)
		surprise(state->name, call->name, "close");
	if (is_refused) {
		look(name, &after);
		/* A page that was refused is dropped right behind the answer. */
		for (unsigned i = 0; i < 6000 && call->run == write_mapping &&
				     memcmp(before.bytes, after.bytes, FILE_BYTES) != 0;
		     i++) {
			usleep(10000);
			look(name, &after);
		}
		/* The kernel moves those it owns before it asks; what is stored has not moved. */
		if (!is_dir && (strcmp(call->op, "write") == 0 ||
				strcmp(call->op, "fallocate") == 0 ||
				strcmp(call->op, "copy_file_range") == 0)) {
			after.st.st_mtim = before.st.st_mtim;
			after.st.st_ctim = before.st.st_ctim;
		}
		if (memcmp(&before.st, &after.st, sizeof(before.st)) != 0)
			surprise(state->name, call->name, "was refused and changed attributes");
		if (before.len != after.len || memcmp(before.bytes, after.bytes, FILE_BYTES) != 0)
			surprise(state->name, call->name, "was refused and changed bytes");
		if (before.names_len != after.names_len ||
		    memcmp(before.names, after.names, sizeof(before.names)) != 0)
			surprise(state->name, call->name, "was refused and changed xattrs");
	}
	/* So that the rest can be removed, and a lock is seen to hold all the same. */
	fd = state->bit == L ? -1 : open(name, O_RDONLY);
	if (fd >= 0) {
		unsigned none = 0;

		ioctl(fd, FS_IOC_SETFLAGS, &none);
		close(fd);
	}
	fd = state->bit == L || !is_dir ? -1 : open("e", O_RDONLY);
	if (fd >= 0) {
		unsigned none = 0;

		ioctl(fd, FS_IOC_SETFLAGS, &none);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--ops") == 0) {
		for (size_t i = 0; i < ARRAY_COUNT(file_calls); i++)
			puts(file_calls[i].op);
		for (size_t i = 0; i < ARRAY_COUNT(dir_calls); i++)
			puts(dir_calls[i].op);
		return 0;
	}
	if (argc != 2)
		return 2;
	umask(022);
	for (size_t s = 0; s < ARRAY_COUNT(states); s++) {
		for (size_t i = 0; i < ARRAY_COUNT(file_calls); i++)
			try(argv[1], &states[s], &file_calls[i], false);
		for (size_t i = 0; i < ARRAY_COUNT(dir_calls); i++)
			try(argv[1], &states[s], &dir_calls[i], true);
	}
	printf("%zu calls, %d surprises\n",
	       ARRAY_COUNT(states) * (ARRAY_COUNT(file_calls) + ARRAY_COUNT(dir_calls)), failures);
	return failures > 0;
}
