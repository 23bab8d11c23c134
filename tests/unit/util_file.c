/* SPDX-License-Identifier: Apache-2.0 */
#include "util/file.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static int scratch(void)
{
	char path[] = "/tmp/shardfs-file.XXXXXX";
	int fd = mkstemp(path);

	cr_assert(fd >= 0);
	unlink(path);
	return fd;
}

Test(util_file, what_is_written_at_an_offset_is_read_there)
{
	AUTO_FD fd = scratch();
	AUTO(buf) buf = BUF_INIT;
	char out[4] = "";

	cr_assert_eq(file_pwrite(fd, bytes_of_str("abcdef"), 10), 0);
	cr_assert_eq(file_pwrite(fd, bytes_of(NULL, 0), 0), 0);
	cr_assert_eq(file_pread(fd, out, 3, 12), 0);
	cr_assert_str_eq(out, "cde");
	cr_assert_eq(buf_append(&buf, bytes_of_str(">")), 0);
	cr_assert_eq(file_pread_buf(fd, 6, 10, &buf), 0);
	cr_assert_str_eq(buf_str(&buf), ">abcdef");
	cr_assert_eq(file_fdatasync(fd), 0);
}

Test(util_file, a_file_that_ends_early_is_no_data)
{
	AUTO_FD fd = scratch();
	AUTO(buf) buf = BUF_INIT;
	char out[8];

	cr_assert_eq(file_pwrite(fd, bytes_of_str("abc"), 0), 0);
	cr_assert_eq(file_pread(fd, out, 4, 0), -ENODATA);
	cr_assert_eq(file_pread(fd, out, 1, 3), -ENODATA);
	cr_assert_eq(file_pread_buf(fd, 4, 0, &buf), -ENODATA);
	cr_assert_eq(buf.len, 0);
	buf_release(&buf);
	mem_fail_at(1);
	cr_assert_eq(file_pread_buf(fd, 3, 0, &buf), -ENOMEM);
	cr_assert_eq(buf.len, 0);
}

/* The kernel writes the part that fits first: that must not pass for all. */
Test(util_file, a_write_that_does_not_fit_fails)
{
	struct rlimit limit = {.rlim_cur = 10, .rlim_max = RLIM_INFINITY};
	AUTO_FD fd = scratch();

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(file_pwrite(fd, bytes_of_str("0123456789abcdef"), 0), -EFBIG);
}

Test(util_file, errors_of_the_kernel_come_back)
{
	char out[1];

	cr_assert_eq(file_pwrite(-1, bytes_of_str("x"), 0), -EBADF);
	cr_assert_eq(file_pread(-1, out, 1, 0), -EBADF);
	cr_assert_eq(file_fdatasync(-1), -EBADF);
	cr_assert_eq(file_sync_dir("/nonexistent"), -ENOENT);
	cr_assert_eq(file_sync_dir("/tmp"), 0);
}
