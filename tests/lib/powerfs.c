/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powerfs MOUNTPOINT SOCKET	a file system on a disk that forgets (power_disk.h),
 *				in the background until it is told to quit
 * powerfs ctl SOCKET COMMAND	tells it; prints its answer, fails unless that is "ok ..."
 *
 *	lose MODE SEED	the power fails: of what was not synced there is left what MODE
 *			(drop names data files ordered random keep, or any: one of them, by the
 *			seed) says; each operation fails with EIO from now on
 *	boot		mounted anew: the survivors are there
 *	writeback SEED	now and then a page lasts unasked, until the next boot
 *	lie		syncs do nothing from now on (to prove that the checks can fail)
 *	stat		numbers
 *	quit
 *
 * One thread serves both.  The kernel's page cache is used, so mmap works; it
 * writes through (no writeback cache), so what a program wrote is with us as
 * soon as write(2) returns, and what it is unsure of is only what we are.
 */
#define FUSE_USE_VERSION 314

#include "tests/lib/power_disk.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define KEPT_S      3600.0
#define REQUEST_MAX ((size_t)1 << 20)

static struct disk disk;
static const char *const loss_names[] = {"drop", "names", "data", "files", "ordered", "random", "keep"};
static struct iovec iov[REQUEST_MAX / 4096 + 2];

/* ---- nodes and the kernel ---- */

static struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? disk.root : (struct node *)(uintptr_t)ino;
}

static bool is_refused(fuse_req_t req)
{
	if (disk.is_off)
		fuse_reply_err(req, EIO);
	return disk.is_off;
}

static struct stat stat_of(const struct node *node)
{
	struct stat st = {.st_ino = node->ino, .st_mode = node->mode, .st_nlink = node->links,
			  .st_uid = node->uid, .st_gid = node->gid, .st_blksize = 4096,
			  .st_size = (off_t)node->seen_size, .st_mtim = node->mtime,
			  .st_ctim = node->ctime, .st_atim = node->mtime};

	for (size_t i = 0; i < node->page_capacity; i++)
		st.st_blocks += node->seen_pages[i] ? 8 : 0;
	return st;
}

static struct fuse_entry_param entry_of(struct node *node)
{
	if (node->lookups++ == 0)
		node->refs++;
	return (struct fuse_entry_param){.ino = node == disk.root ? FUSE_ROOT_ID
								  : (fuse_ino_t)(uintptr_t)node,
					 .attr = stat_of(node),
					 .attr_timeout = KEPT_S,
					 .entry_timeout = KEPT_S};
}

static void forget(fuse_ino_t ino, uint64_t count)
{
	struct node *node = node_of(ino);

	if (node == disk.root || node->lookups < count)
		return;
	node->lookups -= count;
	if (node->lookups == 0)
		disk_node_put(&disk, node);
}

static void reply_entry(fuse_req_t req, struct node *node)
{
	struct fuse_entry_param entry = entry_of(node);

	fuse_reply_entry(req, &entry);
}

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	(void)arg;
	conn->max_write = REQUEST_MAX;
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
				  FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *node;

	if (is_refused(req))
		return;
	node = disk_find(node_of(parent), name);
	if (node)
		reply_entry(req, node);
	else
		fuse_reply_err(req, ENOENT);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget(ino, count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	if (is_refused(req))
		return;
	st = stat_of(node_of(ino));
	fuse_reply_attr(req, &st, KEPT_S);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);
	struct stat st;
	int r = 0;

	(void)fi;
	if (is_refused(req))
		return;
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = disk_resize(&disk, node, (uint64_t)attr->st_size);
	if (to_set & FUSE_SET_ATTR_MODE)
		node->mode = (node->mode & S_IFMT) | (attr->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_UID)
		node->uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		node->gid = attr->st_gid;
	if (to_set & FUSE_SET_ATTR_MTIME)
		node->mtime = attr->st_mtim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		clock_gettime(CLOCK_REALTIME, &node->mtime);
	clock_gettime(CLOCK_REALTIME, &node->ctime);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	st = stat_of(node);
	fuse_reply_attr(req, &st, KEPT_S);
}

/* ---- names ---- */

static struct node *make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *node = NULL;
	int r;

	if (is_refused(req))
		return NULL;
	r = disk_create(&disk, node_of(parent), name, mode, &node);
	if (r < 0)
		fuse_reply_err(req, -r);
	return node;
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *node = make(req, parent, name, S_IFDIR | (mode & 07777));

	if (node)
		reply_entry(req, node);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct node *node = make(req, parent, name, S_IFREG | (mode & 07777));
	struct fuse_entry_param entry;

	if (!node)
		return;
	node->opens++;
	node->refs++;
	fi->keep_cache = 1;
	entry = entry_of(node);
	fuse_reply_create(req, &entry, fi);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	struct node *node;

	(void)dev;
	if (!S_ISREG(mode)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	node = make(req, parent, name, mode);
	if (node)
		reply_entry(req, node);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!is_refused(req))
		fuse_reply_err(req, -disk_remove(&disk, node_of(parent), name, false));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!is_refused(req))
		fuse_reply_err(req, -disk_remove(&disk, node_of(parent), name, true));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to,
		      const char *new_name, unsigned flags)
{
	if (!is_refused(req))
		fuse_reply_err(req, -disk_rename(&disk, node_of(parent), name, node_of(to),
						 new_name, flags));
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	int r;

	if (is_refused(req))
		return;
	r = disk_link(&disk, node_of(ino), node_of(parent), name);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_entry(req, node_of(ino));
}

/* ---- directories: the listing is made when they are opened ---- */

struct listing {
	char *bytes;
	size_t len;
};

static void list_add(fuse_req_t req, struct listing *list, const char *name, const struct node *node)
{
	struct stat st = {.st_ino = node->ino, .st_mode = node->mode};
	size_t more = fuse_add_direntry(req, NULL, 0, name, NULL, 0);

	list->bytes = realloc(list->bytes, list->len + more);
	if (!list->bytes)
		abort();
	fuse_add_direntry(req, list->bytes + list->len, more, name, &st, (off_t)(list->len + more));
	list->len += more;
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *dir = node_of(ino);
	struct listing *list;

	if (is_refused(req))
		return;
	list = calloc(1, sizeof(*list));
	if (!list)
		abort();
	list_add(req, list, ".", dir);
	list_add(req, list, "..", dir);
	for (size_t i = 0; i < dir->seen.count; i++)
		list_add(req, list, dir->seen.entries[i].name, dir->seen.entries[i].node);
	fi->fh = (uintptr_t)list;
	fuse_reply_open(req, fi);
}

/* Whole entries from an offset that an entry gave. */
static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	const struct listing *list = (const struct listing *)(uintptr_t)fi->fh;
	size_t from = (size_t)off, len = 0;

	(void)ino;
	if (is_refused(req))
		return;
	while (from + len < list->len) {
		uint32_t name_len;
		size_t entry;

		memcpy(&name_len, list->bytes + from + len + 16, sizeof(name_len));
		entry = (24 + (size_t)name_len + 7) & ~(size_t)7;
		if (len + entry > size)
			break;
		len += entry;
	}
	fuse_reply_buf(req, list->bytes + from, len);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct listing *list = (struct listing *)(uintptr_t)fi->fh;

	(void)ino;
	free(list->bytes);
	free(list);
	fuse_reply_err(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	(void)fi;
	if (is_refused(req))
		return;
	disk_sync_dir(&disk, node_of(ino));
	fuse_reply_err(req, 0);
}

/* ---- files ---- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);

	if (is_refused(req))
		return;
	if (fi->flags & O_TRUNC)
		disk_resize(&disk, node, 0);
	node->opens++;
	node->refs++;
	fi->keep_cache = (fi->flags & O_TRUNC) == 0;
	fuse_reply_open(req, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);

	(void)fi;
	node->opens--;
	fuse_reply_err(req, 0);
	disk_node_put(&disk, node);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	int count;

	(void)fi;
	if (is_refused(req))
		return;
	disk_read(&disk, node_of(ino), (uint64_t)off, MIN(size, REQUEST_MAX), iov, &count);
	fuse_reply_iov(req, iov, count);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	int r;

	(void)fi;
	if (is_refused(req))
		return;
	r = disk_write(&disk, node_of(ino), (const uint8_t *)bytes, size, (uint64_t)off);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_write(req, size);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	(void)fi;
	if (is_refused(req))
		return;
	disk_sync_file(&disk, node_of(ino));
	fuse_reply_err(req, 0);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);
	int r = 0;

	(void)fi;
	if (is_refused(req))
		return;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		r = disk_punch(&disk, node, (uint64_t)off, (uint64_t)len);
	else if (mode & ~FALLOC_FL_KEEP_SIZE)
		r = -EOPNOTSUPP;
	else if (mode == 0 && (uint64_t)(off + len) > node->seen_size)
		r = disk_resize(&disk, node, (uint64_t)(off + len));
	fuse_reply_err(req, -r);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	const struct node *node = node_of(ino);
	uint64_t at = (uint64_t)off;

	(void)fi;
	if (is_refused(req))
		return;
	while (at < node->seen_size && disk_is_hole(node, at) == (whence == SEEK_DATA))
		at = (at / DISK_PAGE + 1) * DISK_PAGE;
	if (off < 0 || (uint64_t)off >= node->seen_size ||
	    (whence == SEEK_DATA && at >= node->seen_size))
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, (off_t)MIN(at, node->seen_size));
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_blocks = 4 << 20,
			     .f_bfree = 3 << 20, .f_bavail = 3 << 20, .f_namemax = 255,
			     .f_files = 1 << 20, .f_ffree = 1 << 20};

	(void)ino;
	if (!is_refused(req))
		fuse_reply_statfs(req, &st);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mkdir = op_mkdir,
	.mknod = op_mknod,
	.create = op_create,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.link = op_link,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.open = op_open,
	.release = op_release,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.statfs = op_statfs,
};

/* ---- the session, and who commands it ---- */

static struct fuse_session *session_mount(const char *mountpoint)
{
	char *argv[] = {"powerfs", "-o", "fsname=powerfs,default_permissions,allow_other", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *session = fuse_session_new(&args, &ops, sizeof(ops), NULL);

	if (session && fuse_session_mount(session, mountpoint) == 0)
		return session;
	if (session)
		fuse_session_destroy(session);
	return NULL;
}

static int command_lose(const char *mode, uint64_t seed, FILE *out)
{
	enum disk_loss loss = 0;
	struct disk_report report;

	if (strcmp(mode, "any") == 0)
		loss = (enum disk_loss)(map_hash_u64(seed) % LOSS_KEEP);
	else
		while (loss < LOSS_COUNT && strcmp(mode, loss_names[loss]) != 0)
			loss++;
	if (loss == LOSS_COUNT)
		return -EINVAL;
	report = disk_lose(&disk, loss, seed);
	fprintf(out, "ok %s: names %llu of %llu, pages %llu of %llu, %llu torn\n", loss_names[loss],
		(unsigned long long)report.changes_kept, (unsigned long long)report.changes,
		(unsigned long long)report.pages_kept, (unsigned long long)report.pages,
		(unsigned long long)report.pages_torn);
	return 0;
}

static int command_stat(FILE *out)
{
	uint64_t unsynced = 0;

	for (const struct node *node = disk.nodes; node; node = node->next)
		unsynced += node->is_unsynced;
	fprintf(out, "ok unsynced_names=%zu unsynced_files=%llu file_syncs=%llu dir_syncs=%llu pages=%zu\n",
		disk.change_count, (unsigned long long)unsynced,
		(unsigned long long)disk.synced_files, (unsigned long long)disk.synced_dirs,
		disk.page_count - disk.free_count);
	return 0;
}

/* 0: answered; 1: boot; 2: quit; or a negative errno. */
static int command(char *line, FILE *out)
{
	char verb[16] = "", mode[16] = "";
	unsigned long long seed = 1;

	if (sscanf(line, "%15s %15s %llu", verb, mode, &seed) < 1)
		return -EINVAL;
	if (strcmp(verb, "lose") == 0)
		return command_lose(mode, seed, out);
	if (strcmp(verb, "stat") == 0)
		return command_stat(out);
	if (strcmp(verb, "boot") == 0)
		return 1;
	if (strcmp(verb, "quit") == 0)
		return 2;
	if (strcmp(verb, "lie") == 0) {
		disk.lies = true;
	} else if (strcmp(verb, "writeback") == 0) {
		seed = strtoull(mode, NULL, 10);
		disk.rng = (struct rng){.seed = seed, .state = seed};
		disk.is_writing_back = true;
	} else {
		return -EINVAL;
	}
	fputs("ok\n", out);
	return 0;
}

static int boot(const char *mountpoint, struct fuse_session **session)
{
	umount2(mountpoint, MNT_DETACH);
	fuse_session_destroy(*session);
	disk_boot(&disk);
	disk.is_writing_back = false;
	*session = session_mount(mountpoint);
	return *session ? 0 : -EIO;
}

static int serve(const char *mountpoint, int listener)
{
	struct fuse_session *session = session_mount(mountpoint);
	struct fuse_buf buf = {0};
	int r = session ? 0 : -EIO;

	if (r == 0 && daemon(1, 0) < 0)
		r = -errno;
	while (r == 0) {
		struct pollfd fds[] = {{.fd = fuse_session_fd(session), .events = POLLIN},
				       {.fd = listener, .events = POLLIN}};
		char line[128] = "";
		FILE *peer;
		int fd;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents && fuse_session_receive_buf(session, &buf) > 0)
			fuse_session_process_buf(session, &buf);
		else if (fds[0].revents & (POLLERR | POLLHUP))
			r = 2; /* unmounted by somebody */
		if (!fds[1].revents)
			continue;
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		peer = fd < 0 ? NULL : fdopen(fd, "we");
		if (!peer)
			continue;
		if (read(fd, line, sizeof(line) - 1) > 0) {
			r = command(line, peer);
			if (r == 1)
				r = boot(mountpoint, &session);
			/* behind what a command said itself, and then not read */
			fprintf(peer, r < 0 ? "BAD %d\n" : "ok\n", r);
			if (r == -EINVAL)
				r = 0;
		}
		fclose(peer);
	}
	if (r == 2 && session) {
		umount2(mountpoint, MNT_DETACH);
		fuse_session_destroy(session);
	}
	free(buf.mem);
	return r == 2 ? 0 : 1;
}

static int socket_at(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address->sun_path))
		return -1;
	strcpy(address->sun_path, path);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int tell(const char *path, int argc, char **argv)
{
	struct sockaddr_un address;
	int fd = socket_at(path, &address);
	char answer[256] = "", line[256] = "";
	FILE *peer;

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		perror(path);
		return 1;
	}
	for (int i = 0, at = 0; i < argc; i++)
		at += snprintf(line + at, sizeof(line) - (size_t)at, "%.40s ", argv[i]);
	peer = fdopen(fd, "re");
	if (!peer || write(fd, line, strlen(line)) < 0)
		return 1;
	if (!fgets(answer, sizeof(answer), peer))
		strcpy(answer, "no answer\n");
	fputs(answer, stdout);
	fclose(peer);
	return strncmp(answer, "ok", 2) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address;
	int fd;

	if (argc >= 4 && strcmp(argv[1], "ctl") == 0)
		return tell(argv[2], MIN(argc - 3, 3), argv + 3);
	if (argc != 3) {
		fprintf(stderr, "usage: powerfs MOUNTPOINT SOCKET | powerfs ctl SOCKET COMMAND...\n");
		return 2;
	}
	fd = socket_at(argv[2], &address);
	unlink(argv[2]);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 8) < 0) {
		perror(argv[2]);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	disk_init(&disk);
	return serve(argv[1], fd);
}
