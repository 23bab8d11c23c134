/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request loops read raw requests and hand them to libfuse, which decodes
 * them and calls the ops on the same thread.  Reading them ourselves shows
 * what libfuse 3.14 does not pass on, and lets us use what it does not offer:
 *
 *   - INIT: the reply passes through our writev, where HANDLE_KILLPRIV_V2 and
 *     SETXATTR_EXT are granted (no more GETXATTR of security.capability for
 *     each write(2); setgid is cleared when an ACL is set);
 *   - WRITE, OPEN, CREATE, SETATTR: the flag that asks to clear setuid;
 *   - SETXATTR: the longer form is brought into the one that libfuse knows;
 *   - TMPFILE has the form of CREATE, with the name "/": it is passed as that.
 *
 * End: the kernel answers reads with ENODEV once the last user of the mount is
 * gone; then loops end and end_fd becomes readable.
 */
#include "fs/op.h"
#include "ctl/ctl.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOP_BUF_BYTES	 (SESSION_WRITE_MAX + 64 * 1024)
#define META_READERS	 2 /* what the last free loop hands over; the others wait themselves */
#define DATA_READERS	 6
#define OPCODES		 64
#define STOP_SIGNAL	 SIGUSR1
#define BACKGROUND_MAX	 64
#define READ_AHEAD_KB	 1024
#define SETXATTR_EXT_LEN (sizeof(struct fuse_setxattr_in) - FUSE_COMPAT_SETXATTR_IN_SIZE)

struct session_loop {
	struct session *session;
	pthread_t thread;
	int fd;
	bool is_own_fd;
	uint8_t *buf;
};

/* What the request in hand says beyond what libfuse passes on. */
struct request_facts {
	bool kills_priv, kills_sgid, is_init;
	uint32_t init_flags; /* what the kernel offers */
};

static _Thread_local bool is_loop;
static _Thread_local int thread_fd = -1; /* requests come from here */
static _Thread_local int reply_fd = -1;
static _Thread_local struct request_facts facts;

bool session_is_loop(void)
{
	return is_loop;
}

int session_thread_fd(void)
{
	return thread_fd;
}

void session_set_reply_fd(int fd)
{
	reply_fd = fd;
}

bool session_request_kills_priv(void)
{
	return facts.kills_priv;
}

bool session_request_kills_sgid(void)
{
	return facts.kills_sgid;
}

void session_op_began(struct session *session)
{
	atomic_fetch_add(&session->ops, 1);
}

void session_op_ended(struct session *session)
{
	atomic_fetch_sub(&session->ops, 1);
}

/* ---- counting requests ---- */

#define OP_COUNTER(op) [FUSE_##op] = COUNTER_INIT("fuse_requests_" #op, "FUSE requests " #op)
static struct counter request_counters[OPCODES] = {
	[0] = COUNTER_INIT("fuse_requests_other", "FUSE requests of other kinds"),
	OP_COUNTER(LOOKUP),    OP_COUNTER(FORGET),	OP_COUNTER(GETATTR),
	OP_COUNTER(SETATTR),   OP_COUNTER(READLINK),	OP_COUNTER(SYMLINK),
	OP_COUNTER(MKNOD),     OP_COUNTER(MKDIR),	OP_COUNTER(UNLINK),
	OP_COUNTER(RMDIR),     OP_COUNTER(RENAME),	OP_COUNTER(LINK),
	OP_COUNTER(OPEN),      OP_COUNTER(READ),	OP_COUNTER(WRITE),
	OP_COUNTER(STATFS),    OP_COUNTER(RELEASE),	OP_COUNTER(FSYNC),
	OP_COUNTER(SETXATTR),  OP_COUNTER(GETXATTR),	OP_COUNTER(LISTXATTR),
	OP_COUNTER(REMOVEXATTR), OP_COUNTER(FLUSH),	OP_COUNTER(INIT),
	OP_COUNTER(OPENDIR),   OP_COUNTER(READDIR),	OP_COUNTER(RELEASEDIR),
	OP_COUNTER(FSYNCDIR),  OP_COUNTER(ACCESS),	OP_COUNTER(CREATE),
	OP_COUNTER(INTERRUPT), OP_COUNTER(DESTROY),	OP_COUNTER(IOCTL),
	OP_COUNTER(BATCH_FORGET), OP_COUNTER(FALLOCATE), OP_COUNTER(READDIRPLUS),
	OP_COUNTER(RENAME2),   OP_COUNTER(LSEEK),	OP_COUNTER(COPY_FILE_RANGE),
};
#define OP_TMPFILE 51 /* younger than the headers of Debian 12 */
#define OP_STATX   52

static void __attribute__((constructor)) register_counters(void)
{
	for (unsigned i = 0; i < OPCODES; i++)
		if (request_counters[i].name)
			counter_register(&request_counters[i]);
}

static void count_request(uint32_t opcode)
{
	bool is_known = opcode < OPCODES && request_counters[opcode].name;

	counter_add(&request_counters[is_known ? opcode : 0], 1);
}

/* ---- talking to the kernel ---- */

static void grant_at_init(struct session *session, struct iovec *iov, int count)
{
	struct fuse_init_out *out;
	uint32_t wanted = FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT;
	uint32_t granted = wanted & facts.init_flags;

	if (count < 2 || iov[1].iov_len < FUSE_COMPAT_22_INIT_OUT_SIZE)
		return;
	out = iov[1].iov_base;
	out->flags |= granted;
	session->has_killpriv = granted & FUSE_HANDLE_KILLPRIV_V2;
	session->is_setxattr_ext = granted & FUSE_SETXATTR_EXT;
}

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	if (facts.is_init)
		grant_at_init(userdata, iov, count);
	return writev(reply_fd >= 0 ? reply_fd : fd, iov, count);
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

static const struct fuse_custom_io custom_io = {.writev = io_writev, .read = io_read};

/* Whether `len` bytes hold the request's header and an argument of `size`. */
static const void *request_arg(const uint8_t *buf, size_t len, size_t size)
{
	return len >= sizeof(struct fuse_in_header) + size ? buf + sizeof(struct fuse_in_header)
							    : NULL;
}

static size_t shorten_setxattr(uint8_t *buf, size_t len)
{
	size_t at = sizeof(struct fuse_in_header) + FUSE_COMPAT_SETXATTR_IN_SIZE;
	struct fuse_in_header *in = (struct fuse_in_header *)buf;
	const struct fuse_setxattr_in *arg = request_arg(buf, len, sizeof(*arg));

	if (!arg)
		return len;
	facts.kills_sgid = arg->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;
	memmove(buf + at, buf + at + SETXATTR_EXT_LEN, len - at - SETXATTR_EXT_LEN);
	in->len -= SETXATTR_EXT_LEN;
	return len - SETXATTR_EXT_LEN;
}

/* Notes what libfuse would drop; returns the length, which may have shrunk. */
static size_t look_at_request(struct session *session, uint8_t *buf, size_t len)
{
	struct fuse_in_header *in = (struct fuse_in_header *)buf;
	const void *arg;

	facts = (struct request_facts){0};
	switch (in->opcode) {
	case FUSE_INIT:
		facts.is_init = true;
		arg = request_arg(buf, len, sizeof(struct fuse_init_in) - 12 * sizeof(uint32_t));
		if (arg)
			facts.init_flags = ((const struct fuse_init_in *)arg)->flags;
		break;
	case FUSE_WRITE:
		arg = request_arg(buf, len, sizeof(struct fuse_write_in));
		if (arg)
			facts.kills_priv = ((const struct fuse_write_in *)arg)->write_flags &
					   FUSE_WRITE_KILL_SUIDGID;
		break;
	case FUSE_SETATTR:
		arg = request_arg(buf, len, sizeof(struct fuse_setattr_in));
		if (arg)
			facts.kills_priv = ((const struct fuse_setattr_in *)arg)->valid &
					   FATTR_KILL_SUIDGID;
		break;
	case FUSE_OPEN:
		arg = request_arg(buf, len, sizeof(struct fuse_open_in));
		if (arg)
			facts.kills_priv = ((const struct fuse_open_in *)arg)->open_flags &
					   FUSE_OPEN_KILL_SUIDGID;
		break;
	case OP_TMPFILE:
		in->opcode = FUSE_CREATE;
		/* fallthrough */
	case FUSE_CREATE:
		arg = request_arg(buf, len, sizeof(struct fuse_create_in));
		if (arg)
			facts.kills_priv = ((const struct fuse_create_in *)arg)->open_flags &
					   FUSE_OPEN_KILL_SUIDGID;
		break;
	case FUSE_SETXATTR:
		if (session->is_setxattr_ext)
			return shorten_setxattr(buf, len);
		break;
	default:
		break;
	}
	return len;
}

static void process(struct session *session, uint8_t *buf, size_t len)
{
	struct fuse_buf fbuf = {.mem = buf};

	if (len < sizeof(struct fuse_in_header))
		return;
	count_request(((struct fuse_in_header *)buf)->opcode);
	(void)HOOK("fuse-request");
	fbuf.size = look_at_request(session, buf, len);
	reply_fd = thread_fd;
	fuse_session_process_buf(session->se, &fbuf);
	facts.is_init = false;
}

/* Looks for a request for a while, since to wake a sleeping thread costs more than the work. */
static ssize_t read_request(struct session_loop *loop)
{
	uint64_t spin_us = loop->session->settings.spin_us;
	ssize_t got;

	if (spin_us > 0) {
		uint64_t until = clock_mono_ns() + spin_us * 1000;

		do {
			got = read(loop->fd, loop->buf, LOOP_BUF_BYTES);
			if (got >= 0 || errno != EAGAIN)
				return got;
		} while (clock_mono_ns() < until);
		struct pollfd pfd = {.fd = loop->fd, .events = POLLIN};

		if (poll(&pfd, 1, -1) < 0)
			return -1;
	}
	return read(loop->fd, loop->buf, LOOP_BUF_BYTES);
}

static void *loop_run(void *arg)
{
	struct session_loop *loop = arg;
	struct session *session = loop->session;
	uint64_t one = 1;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, STOP_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	is_loop = true;
	thread_fd = loop->fd;
	while (!session->is_stopping) {
		ssize_t got = read_request(loop);

		if (got > 0) {
			process(session, loop->buf, (size_t)got);
			continue;
		}
		if (got < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
			continue;
		if (got < 0 && errno != ENODEV)
			log_error("fuse-read-failed", "error=%s", err_name(errno));
		break;
	}
	op_thread_end();
	if (!session->is_stopping)
		session->is_unmounted = true; /* the kernel has said so */
	if (atomic_fetch_sub(&session->loops_running, 1) == 1 &&
	    write(session->end_fd, &one, sizeof(one)) < 0)
		log_error("eventfd-failed", "error=%s", err_name(errno));
	return NULL;
}

/* ---- beginning ---- */

static void want(struct fuse_conn_info *conn, unsigned cap)
{
	if (conn->capable & cap)
		conn->want |= cap;
}

void session_init_conn(struct session *session, struct fuse_conn_info *conn)
{
	want(conn, FUSE_CAP_ASYNC_READ);
	want(conn, FUSE_CAP_ASYNC_DIO);
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC);
	want(conn, FUSE_CAP_CACHE_SYMLINKS);
	want(conn, FUSE_CAP_DONT_MASK);
	want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA);
	want(conn, FUSE_CAP_EXPORT_SUPPORT);
	want(conn, FUSE_CAP_IOCTL_DIR);
	want(conn, FUSE_CAP_NO_OPENDIR_SUPPORT);
	want(conn, FUSE_CAP_PARALLEL_DIROPS);
	want(conn, FUSE_CAP_POSIX_ACL);
	want(conn, FUSE_CAP_READDIRPLUS);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO);
	want(conn, FUSE_CAP_WRITEBACK_CACHE);
	session->kernel_owns_times = conn->want & FUSE_CAP_WRITEBACK_CACHE;
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_FLOCK_LOCKS |
				  FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_NO_OPEN_SUPPORT |
				  FUSE_CAP_POSIX_LOCKS | FUSE_CAP_SPLICE_MOVE |
				  FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE);
	conn->max_write = SESSION_WRITE_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	conn->time_gran = 1;
}

/*
 * The kernel offers 128 KiB of read-ahead; more only through sysfs, and only to root.
 * DONT_SYNC: the kernel answers without asking us.  A thread of ours that waits for our own
 * answer outlives SIGKILL for ever, and the mount with it.
 */
static void raise_read_ahead(const char *mount_point)
{
	char path[96], text[16];
	struct statx st;
	int fd;

	if (statx(AT_FDCWD, mount_point, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", st.stx_dev_major,
		 st.stx_dev_minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	snprintf(text, sizeof(text), "%d", READ_AHEAD_KB);
	if (write(fd, text, strlen(text)) < 0)
		log_debug("read-ahead-not-raised", "error=%s", err_name(errno));
	close(fd);
}

static int open_loop(struct session *session, struct session_loop *loop, int main_fd)
{
	uint32_t source = (uint32_t)main_fd;

	loop->session = session;
	loop->buf = mem_alloc_raw(LOOP_BUF_BYTES);
	if (!loop->buf)
		return -ENOMEM;
	loop->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (loop->fd >= 0 && ioctl(loop->fd, FUSE_DEV_IOC_CLONE, &source) == 0) {
		loop->is_own_fd = true;
	} else {
		if (loop->fd >= 0)
			close(loop->fd);
		loop->fd = main_fd;
	}
	if (session->settings.spin_us > 0)
		fcntl(loop->fd, F_SETFL, fcntl(loop->fd, F_GETFL) | O_NONBLOCK);
	return 0;
}

static void on_stop_signal(int sig)
{
	(void)sig; /* it has interrupted read(2): that is all */
}

static int start_loops(struct session *session)
{
	struct sigaction action = {.sa_handler = on_stop_signal};
	int main_fd = fuse_session_fd(session->se);
	unsigned count = session->settings.loops;

	sigaction(STOP_SIGNAL, &action, NULL);
	session->loops = mem_alloc_array(count, sizeof(*session->loops));
	if (!session->loops)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		struct session_loop *loop = &session->loops[i];
		char name[16];
		int r = open_loop(session, loop, main_fd);

		if (r == 0) {
			snprintf(name, sizeof(name), "fuse-%u", i);
			atomic_fetch_add(&session->loops_running, 1);
			r = thread_start(&loop->thread, name, loop_run, loop);
			if (r < 0)
				atomic_fetch_sub(&session->loops_running, 1);
		}
		if (r < 0) {
			if (loop->is_own_fd)
				close(loop->fd);
			mem_free(loop->buf);
			return r;
		}
		session->loop_count++;
	}
	return 0;
}

static unsigned choose_loops(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	/* One more than can run: it is left when the others wait. */
	return cpus < 2 ? 3 : cpus > 8 ? 9 : (unsigned)cpus + 1;
}

/* Of the store: bytes and attributes that the kernel keeps are of no use any more. */
static void invalidate_inode(void *ctx, uint64_t ino)
{
	const struct session *session = ctx;

	fuse_lowlevel_notify_inval_inode(session->se, ino, 0, 0);
}

/* ---- what the control channel asks of the kernel ---- */

static void write_back(void *ctx, uint64_t ino)
{
	struct session *session = ctx;
	int r = fuse_lowlevel_notify_inval_inode(session->se, ino, 0, 0);

	if (r < 0 && r != -ENOENT)
		log_warn("write-back-failed", "inode=%llu error=%d", (unsigned long long)ino, -r);
}

static int list_written(void *ctx, struct inode ***out, size_t *count)
{
	return handle_list_written(ctx, out, count);
}

static void entry_changed(void *ctx, uint64_t dir, struct bytes name)
{
	struct session *session = ctx;
	int r = fuse_lowlevel_notify_inval_entry(session->se, dir, (const char *)name.ptr, name.len);

	if (r == 0 || r == -ENOENT)
		r = fuse_lowlevel_notify_inval_inode(session->se, dir, 0, 0);
	if (r < 0 && r != -ENOENT)
		log_warn("kernel-not-told", "dir=%llu error=%d", (unsigned long long)dir, -r);
}

static int prepare(struct session *session, struct fuse_args *args, struct buf *why)
{
	int r = names_load(session->store, NULL, INO_ROOT, &session->root);

	if (r == -EAGAIN) {
		struct index_reader *reader;

		r = index_reader_open(session->store->index, &reader);
		if (r == 0) {
			r = names_load(session->store, reader, INO_ROOT, &session->root);
			index_reader_close(reader);
		}
	}
	if (r < 0) {
		buf_printf(why, "the root directory cannot be read: %s", err_sentence(r));
		return r;
	}
	session->se = fuse_session_new(args, &session_ops, sizeof(session_ops), session);
	if (!session->se) {
		buf_printf(why, "mount options are wrong (see above)");
		return -EINVAL;
	}
	r = pool_start(session, session->settings.meta_readers, "reader-meta", &session->meta);
	if (r == 0)
		r = pool_start(session, session->settings.data_readers, "reader-data",
			       &session->data);
	session->store->invalidate = invalidate_inode;
	session->store->invalidate_ctx = session;
	if (r == 0)
		r = ctl_open(session->store, session->root->row.uid,
			     &(struct ctl_front){write_back, list_written, entry_changed, session},
			     &session->ctl);
	if (r < 0)
		buf_printf(why, "threads cannot be started: %s", err_sentence(r));
	return r;
}

static int attach(struct session *session, struct buf *why)
{
	int r;

	errno = 0;
	if (fuse_session_mount(session->se, session->settings.mount_point) != 0) {
		r = errno > 0 ? -errno : -EIO;
		buf_printf(why, "%s: cannot be mounted: %s", session->settings.mount_point,
			   err_sentence(r));
		return r;
	}
	r = fuse_session_custom_io(session->se, &custom_io, fuse_session_fd(session->se));
	if (r == 0)
		r = start_loops(session);
	if (r < 0)
		buf_printf(why, "request loops cannot be started: %s", err_sentence(r));
	return r;
}

int session_open(const struct session_settings *settings, struct fuse_args *args, struct buf *why,
		 struct session **out)
{
	struct session *session = mem_alloc(sizeof(*session));
	int r;

	if (!session)
		return -ENOMEM;
	session->settings = *settings;
	session->store = settings->store;
	if (session->settings.loops == 0)
		session->settings.loops = choose_loops();
	session->settings.loops = MIN(session->settings.loops, SESSION_LOOPS_MAX);
	if (session->settings.meta_readers == 0)
		session->settings.meta_readers = META_READERS;
	if (session->settings.data_readers == 0)
		session->settings.data_readers = DATA_READERS;
	for (unsigned i = 0; i < SESSION_PARTS; i++) {
		lock_init(&session->parts[i].lock, LOCK_LEAF);
		list_init(&session->parts[i].handles);
	}
	session->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = session->end_fd < 0 ? -errno : prepare(session, args, why);
	if (r == 0)
		r = attach(session, why);
	if (r < 0) {
		session_close(session);
		return r;
	}
	raise_read_ahead(settings->mount_point);
	*out = session;
	return 0;
}

/* ---- ending ---- */

int session_end_fd(struct session *session)
{
	return session->end_fd;
}

/*
 * The mount is taken out of the tree first, so that nobody new comes in; then, through a
 * descriptor opened before, the kernel writes its pages back while the loops still serve.
 *
 * That waits for our own answers, which a process must not do that may be killed: it would
 * keep /dev/fuse open for ever.  So a child does it, with no descriptor but its own; what it
 * calls is safe after a fork in a process with threads.  Its exit code is an errno of umount,
 * and SYNCFS_FAILED.
 */
#define SYNCFS_FAILED 0x80
static void __attribute__((noreturn)) unmount_in_child(const char *at)
{
	int fd, code = 0;

	if (close_range(0, ~0u, 0) < 0)
		_exit(EIO);
	fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && syncfs(fd) < 0)
		code |= SYNCFS_FAILED;
	if (umount2(at, MNT_DETACH) < 0)
		code |= errno;
	if (fd >= 0 && syncfs(fd) < 0)
		code |= SYNCFS_FAILED;
	_exit(code);
}

int session_unmount(struct session *session, uint64_t timeout_ms)
{
	struct pollfd pfd = {.fd = session->end_fd, .events = POLLIN};
	pid_t pid = fork();
	int status, r;

	if (pid == 0)
		unmount_in_child(session->settings.mount_point);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	r = WIFEXITED(status) ? -(WEXITSTATUS(status) & ~SYNCFS_FAILED) : -EIO;
	if (!WIFEXITED(status) || WEXITSTATUS(status) & SYNCFS_FAILED)
		log_warn("syncfs-failed", "result=%s", err_name(r));
	if (r == -EPERM) { /* not root: libfuse asks its helper */
		fuse_session_unmount(session->se);
		r = 0;
	}
	if (r < 0)
		return r;
	session->is_unmounted = true;
	return poll(&pfd, 1, (int)timeout_ms) > 0 ? 0 : -ETIMEDOUT;
}

static void stop_loops(struct session *session)
{
	session->is_stopping = true;
	for (unsigned i = 0; i < session->loop_count; i++) {
		struct session_loop *loop = &session->loops[i];
		struct timespec pause = {.tv_nsec = 2000000};

		/* A signal between the test of is_stopping and read(2) is lost: send it again. */
		while (pthread_tryjoin_np(loop->thread, NULL) == EBUSY) {
			pthread_kill(loop->thread, STOP_SIGNAL);
			nanosleep(&pause, NULL);
		}
		mem_free(loop->buf);
	}
	/* Ops under way still reply to these descriptors; they end soon, the store sees to it. */
	while (session->ops > 0) {
		struct timespec pause = {.tv_nsec = 2000000};

		nanosleep(&pause, NULL);
	}
	for (unsigned i = 0; i < session->loop_count; i++)
		if (session->loops[i].is_own_fd)
			close(session->loops[i].fd);
	mem_free(session->loops);
}

static void let_go(void *ctx, struct inode *inode)
{
	struct session *session = ctx;
	uint64_t count = atomic_load(&inode->lookups);

	if (count > 0)
		lookup_take(session, inode, count);
}

void session_close(struct session *session)
{
	if (!session)
		return;
	stop_loops(session);
	ctl_close(session->ctl);
	session->store->invalidate = NULL;
	pool_stop(session->meta);
	pool_stop(session->data);
	if (session->se) {
		/* Whatever is at the mount point now may be somebody else's. */
		if (!session->is_unmounted)
			fuse_session_unmount(session->se);
		fuse_session_destroy(session->se);
	}
	handle_free_all(session);
	inode_table_visit(session->store->inodes, let_go, session);
	inode_unref(session->store->inodes, session->root, 1);
	for (unsigned i = 0; i < SESSION_PARTS; i++)
		lock_release(&session->parts[i].lock);
	if (session->end_fd >= 0)
		close(session->end_fd);
	mem_free(session);
}
