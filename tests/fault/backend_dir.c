/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/backend.h"
#include "tests/lib/backend_conformance.h"
#include "tests/lib/backend_open.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY_A "a1000000000000000000000000000001"
#define KEY_B "b2000000000000000000000000000002"

static char base[PATH_MAX];

static void make_base(void)
{
	test_dir_make(base);
}

static void remove_base(void)
{
	umount2(base, MNT_DETACH);
	test_dir_remove(base);
}

TestSuite(backend_dir_fault, .init = make_base, .fini = remove_base, .timeout = 60);

static const char *below(const char *name)
{
	static char path[PATH_MAX + 256];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	return path;
}

static void init(struct backend *backend)
{
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(backend_init(backend, conformance_fs_id, &why), 0, "%s", buf_str(&why));
}

static int run(struct backend *backend, struct backend_req *req, enum backend_op op,
	       const char *key)
{
	req->op = op;
	req->key = key;
	return backend_run(backend, req);
}

static int put(struct backend *backend, const char *key, size_t len)
{
	uint8_t *body = mem_alloc(len + 1);
	struct backend_req req = {.body = bytes_of(body, len)};
	int r = run(backend, &req, BACKEND_PUT, key);

	mem_free(body);
	return r;
}

static int head(struct backend *backend, const char *key)
{
	struct backend_req req = BACKEND_REQ_INIT;

	return run(backend, &req, BACKEND_HEAD, key);
}

static size_t files_in(const char *path)
{
	DIR *stream = opendir(path);
	size_t count = 0;

	cr_assert(stream, "%s", path);
	for (const struct dirent *entry; (entry = readdir(stream));)
		count += entry->d_name[0] != '.';
	closedir(stream);
	return count;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0, "%s", path);
	return st.st_mode & 07777;
}

/* Must be root, in a mount namespace of its own. */
static bool may_mount(void)
{
	if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		return true;
	fprintf(stderr, "cannot mount here (%m): left out\n");
	return false;
}

Test(backend_dir_fault, nobody_else_may_look)
{
	AUTO_BACKEND backend = test_dir_open(base, NULL);

	umask(0);
	cr_assert_eq(chmod(base, 0755), 0);
	init(backend);
	cr_assert_eq(put(backend, KEY_A, 10), 0);
	cr_assert_eq(put(backend, "index/superblock", 10), 0);
	cr_assert_eq(mode_of(base), 0700);
	cr_assert_eq(mode_of(below("a1")), 0700);
	cr_assert_eq(mode_of(below("a1/" KEY_A)), 0600);
	cr_assert_eq(mode_of(below("index")), 0700);
	cr_assert_eq(mode_of(below("index/superblock")), 0600);
	cr_assert_eq(mode_of(below(".shardfs-provider")), 0600);
}

Test(backend_dir_fault, opening_does_no_io)
{
	AUTO_BACKEND backend = test_dir_open(below("missing/deeper"), NULL);
	struct backend_req req = BACKEND_REQ_INIT;

	cr_assert_eq(run(backend, &req, BACKEND_HEAD, KEY_A), -EAGAIN);
	cr_assert(req.is_absent);
	cr_assert_neq(access(below("missing"), F_OK), 0, "nothing was made");
}

Test(backend_dir_fault, a_directory_without_marker_is_absent_and_not_empty)
{
	static const enum backend_op ops[] = {BACKEND_PUT, BACKEND_GET, BACKEND_HEAD,
					      BACKEND_DELETE, BACKEND_LIST, BACKEND_RESTORE};
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	AUTO(buf) out = BUF_INIT;

	for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
		struct backend_req req = {.list = &page, .out = &out};

		cr_assert_eq(run(backend, &req, ops[i], KEY_A), -EAGAIN);
		cr_assert(req.is_absent);
		cr_assert(strstr(req.cause, "absent: "), "%s", req.cause);
	}
	cr_assert_eq(files_in(base), 0);
}

Test(backend_dir_fault, mkfs_takes_no_directory_with_something_in_it)
{
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(mkdir(below("photos"), 0755), 0);
	cr_assert_eq(backend_init(backend, conformance_fs_id, &why), -EEXIST);
	cr_assert(strstr(buf_str(&why), "not empty"), "%s", buf_str(&why));
	cr_assert_eq(rmdir(below("photos")), 0);
	cr_assert_eq(mkdir(below("lost+found"), 0755), 0);
	init(backend);
}

Test(backend_dir_fault, an_unfinished_mkfs_is_no_obstacle)
{
	static const uint8_t first[BACKEND_FS_ID_SIZE] = {9};
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(backend_init(backend, first, &why), 0);
	init(backend);
	cr_assert_eq(put(backend, KEY_A, 1), 0);
	cr_assert_eq(backend_init(backend, first, &why), -EEXIST);
}

Test(backend_dir_fault, a_changed_marker_is_noticed_at_the_next_request)
{
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	struct backend_req req = BACKEND_REQ_INIT;

	init(backend);
	cr_assert_eq(head(backend, KEY_A), -ENOENT);
	AUTO_STR marker = mem_strdup(below(".shardfs-provider"));
	cr_assert_eq(rename(marker, below("away")), 0);
	cr_assert_eq(run(backend, &req, BACKEND_HEAD, KEY_A), -EAGAIN);
	cr_assert(req.is_absent);
	cr_assert_eq(truncate(below("away"), 5), 0);
	AUTO_STR from = mem_strdup(below("away"));
	cr_assert_eq(rename(from, below(".shardfs-provider")), 0);
	cr_assert_eq(run(backend, &req, BACKEND_HEAD, KEY_A), -EAGAIN, "damaged");
	cr_assert(req.is_absent);
}

/* The directory beneath a mount point is there and empty: it must not be taken for the store. */
Test(backend_dir_fault, an_unmounted_disk_is_absent_and_comes_back)
{
	AUTO_BACKEND backend = NULL;
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	struct backend_req req = {.list = &page};

	if (!may_mount())
		return;
	cr_assert_eq(mount("tmpfs", base, "tmpfs", 0, "size=4m"), 0);
	backend = test_dir_open(base, NULL);
	init(backend);
	cr_assert_eq(put(backend, KEY_A, 100), 0);
	char second[PATH_MAX];
	test_dir_make(second);
	cr_assert_eq(mount(base, second, NULL, MS_BIND, NULL), 0);
	cr_assert_eq(umount(base), 0, "an idle store can be unmounted: %m");
	cr_assert_eq(run(backend, &req, BACKEND_LIST, ""), -EAGAIN);
	cr_assert(req.is_absent);
	cr_assert_eq(put(backend, KEY_B, 100), -EAGAIN);
	cr_assert_eq(files_in(base), 0, "nothing was written beneath the mount point");
	cr_assert_eq(mount("tmpfs", base, "tmpfs", 0, "size=4m"), 0);
	cr_assert_eq(head(backend, KEY_A), -EAGAIN, "another disk is no better");
	cr_assert_eq(umount(base), 0);
	cr_assert_eq(mount(second, base, NULL, MS_BIND, NULL), 0);
	cr_assert_eq(head(backend, KEY_A), 0, "it came back");
	umount2(second, MNT_DETACH);
	test_dir_remove(second);
}

Test(backend_dir_fault, a_full_disk_is_enospc_and_clears)
{
	AUTO_BACKEND backend = NULL;
	uint64_t total, available;

	if (!may_mount())
		return;
	cr_assert_eq(mount("tmpfs", base, "tmpfs", 0, "size=1m"), 0);
	backend = test_dir_open(base, NULL);
	init(backend);
	cr_assert_eq(put(backend, KEY_A, 600 * KIB), 0);
	cr_assert_eq(put(backend, KEY_B, 600 * KIB), -ENOSPC);
	cr_assert_eq(head(backend, KEY_B), -ENOENT);
	cr_assert_eq(files_in(below(".tmp")), 0);
	cr_assert_eq(backend_space(backend, &total, &available), 0);
	cr_assert(total == MIB && available < 600 * KIB);
	struct backend_req req = BACKEND_REQ_INIT;
	cr_assert_eq(run(backend, &req, BACKEND_DELETE, KEY_A), 0);
	cr_assert_eq(put(backend, KEY_B, 600 * KIB), 0);
}

Test(backend_dir_fault, a_read_only_disk_is_eacces)
{
	AUTO_BACKEND backend = NULL;

	if (!may_mount())
		return;
	cr_assert_eq(mount("tmpfs", base, "tmpfs", 0, "size=1m"), 0);
	backend = test_dir_open(base, NULL);
	init(backend);
	cr_assert_eq(put(backend, KEY_A, 10), 0);
	cr_assert_eq(mount(NULL, base, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	cr_assert_eq(put(backend, KEY_B, 10), -EACCES);
	cr_assert_eq(head(backend, KEY_A), 0, "reading goes on");
}

Test(backend_dir_fault, size_max_is_a_quota)
{
	AUTO_BACKEND backend = test_dir_open(base, "size_max=1000");
	struct backend_req req = BACKEND_REQ_INIT;
	uint64_t total, available;

	init(backend);
	cr_assert_eq(put(backend, KEY_A, 700), 0);
	cr_assert_eq(put(backend, KEY_B, 301), -ENOSPC);
	cr_assert_eq(put(backend, KEY_B, 300), 0);
	cr_assert_eq(backend_space(backend, &total, &available), 0);
	cr_assert(total == 1000 && available == 0);
	cr_assert_eq(run(backend, &req, BACKEND_DELETE, KEY_A), 0);
	cr_assert_eq(put(backend, "index/superblock", 300), 0);
	cr_assert_eq(put(backend, "index/superblock", 300), 0, "replacing gives back");
	cr_assert_eq(put(backend, KEY_A, 400), 0);
	cr_assert_eq(put(backend, "loose", 1), -ENOSPC);
	backend_close(STEAL(backend));
	backend = test_dir_open(base, "size_max=1000");
	cr_assert_eq(put(backend, "loose", 1), -ENOSPC, "what is there is counted");
}

Test(backend_dir_fault, leftovers_of_a_crash_go_and_those_of_the_living_stay)
{
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	AUTO_FD living = -1;

	init(backend);
	backend_close(STEAL(backend));
	close(open(below(".tmp/11111111111111111111111111111111"), O_CREAT | O_WRONLY, 0600));
	living = open(below(".tmp/22222222222222222222222222222222"), O_CREAT | O_RDWR, 0600);
	cr_assert_eq(flock(living, LOCK_EX), 0);
	backend = test_dir_open(base, NULL);
	cr_assert_eq(head(backend, KEY_A), -ENOENT);
	cr_assert_neq(access(below(".tmp/11111111111111111111111111111111"), F_OK), 0);
	cr_assert_eq(access(below(".tmp/22222222222222222222222222222222"), F_OK), 0);
}

/* Writes objects until it is killed; each is filled with its own number. */
static void __attribute__((noreturn)) write_until_killed(int ready)
{
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	static uint8_t body[300 * KIB];

	for (unsigned i = 0;; i++) {
		char key[40];
		struct backend_req req = {.body = bytes_of(body, sizeof(body))};

		snprintf(key, sizeof(key), "%032x", i % 40);
		memset(body, (int)(i % 40), sizeof(body));
		run(backend, &req, BACKEND_PUT, key);
		if (write(ready, "x", 1) != 1)
			_exit(1);
	}
}

Test(backend_dir_fault, a_killed_writer_leaves_no_part_of_an_object)
{
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	static uint8_t body[300 * KIB];

	init(backend);
	for (unsigned round = 0; round < 15; round++) {
		int ready[2];
		char byte;

		cr_assert_eq(pipe(ready), 0);
		pid_t child = fork();

		cr_assert_geq(child, 0);
		if (child == 0)
			write_until_killed(ready[1]);
		for (unsigned i = 0; i <= round; i++)
			cr_assert_eq(read(ready[0], &byte, 1), 1);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		close(ready[0]);
		close(ready[1]);
		backend_close(STEAL(backend));
		backend = test_dir_open(base, NULL);
		for (unsigned i = 0; i < 40; i++) {
			char key[40];
			struct backend_req req = {.into = body, .len = sizeof(body)};

			snprintf(key, sizeof(key), "%032x", i);
			int r = run(backend, &req, BACKEND_GET, key);

			cr_assert(r == 0 || r == -ENOENT, "%s: %s", key, req.cause);
			for (size_t at = 0; r == 0 && at < sizeof(body); at++)
				cr_assert_eq(body[at], i);
		}
		cr_assert_eq(files_in(below(".tmp")), 0, "and no leftover");
	}
}

Test(backend_dir_fault, foreign_files_are_not_listed)
{
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	struct backend_req req = {.list = &page};

	init(backend);
	cr_assert_eq(put(backend, KEY_A, 1), 0);
	cr_assert_eq(mkdir(below("lost+found"), 0700), 0);
	close(open(below("a1/readme"), O_CREAT | O_WRONLY, 0600));
	close(open(below("a1/b1000000000000000000000000000001"), O_CREAT | O_WRONLY, 0600));
	close(open(below(KEY_B), O_CREAT | O_WRONLY, 0600));
	close(open(below("a file"), O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(symlink("/etc/passwd", below("link")), 0);
	cr_assert_eq(mkfifo(below("fifo"), 0600), 0);
	cr_assert_eq(run(backend, &req, BACKEND_LIST, ""), 0);
	cr_assert_eq(page.count, 1);
	cr_assert_str_eq(page.entries[0].key, KEY_A);
	AUTO(buf) out = BUF_INIT;
	req = (struct backend_req){.out = &out, .len = 1};
	cr_assert_eq(run(backend, &req, BACKEND_GET, "fifo"), -EIO);
	cr_assert_eq(run(backend, &req, BACKEND_GET, "link"), -EIO);
}

/* A single bad entry is no reason to take the whole provider for absent. */
Test(backend_dir_fault, what_is_no_file_is_an_error_of_its_own)
{
	AUTO_BACKEND backend = test_dir_open(base, NULL);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	AUTO(buf) out = BUF_INIT;

	init(backend);
	cr_assert_lt(snprintf(address.sun_path, sizeof(address.sun_path), "%s", below("socket")),
		     (int)sizeof(address.sun_path));
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(symlink("loop", below("loop")), 0);
	cr_assert_eq(mknod(below("device"), S_IFCHR | 0600, makedev(240, 77)), 0);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const names[] = {"socket", "loop", "device"};
		struct backend_req req = {.out = &out, .len = 1};

		cr_assert_eq(run(backend, &req, BACKEND_GET, names[i]), -EIO, "%s", names[i]);
		cr_assert_not(req.is_absent, "%s", names[i]);
		cr_assert_eq(put(backend, names[i], 1), 0, "%s", names[i]);
		cr_assert_eq(head(backend, names[i]), 0, "%s", names[i]);
	}
	close(fd);
}
