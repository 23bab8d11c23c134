/* SPDX-License-Identifier: Apache-2.0 */
#include "util/file.h"

#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int file_pwrite(int fd, struct bytes src, uint64_t off)
{
	while (src.len > 0) {
		ssize_t n = pwrite(fd, src.ptr, src.len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		src = bytes_of(src.ptr + n, src.len - (size_t)n);
		off += (uint64_t)n;
	}
	return 0;
}

int file_pread(int fd, void *out, size_t len, uint64_t off)
{
	uint8_t *p = out;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

int file_pread_buf(int fd, size_t len, uint64_t off, struct buf *out)
{
	int r = buf_reserve(out, len);

	if (r == 0)
		r = file_pread(fd, out->ptr + out->len, len, off);
	if (r == 0)
		out->len += len;
	return r;
}

int file_fdatasync(int fd)
{
	int r;

	do {
		r = fdatasync(fd) < 0 ? -errno : 0;
	} while (r == -EINTR);
	return r;
}

int file_sync_dir(const char *path)
{
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

static int sync_entry(int dir_fd, const char *name)
{
	AUTO_FD fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT || errno == ELOOP ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? file_fdatasync(fd) : 0;
}

int file_sync_dir_files(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (errno = 0, entry = readdir(dir)) != NULL)
		r = sync_entry(dirfd(dir), entry->d_name);
	if (r == 0 && errno != 0)
		r = -errno;
	if (r == 0 && fsync(dirfd(dir)) < 0)
		r = -errno;
	closedir(dir);
	return r;
}
