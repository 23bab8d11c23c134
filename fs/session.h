/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_FS_SESSION_H
#define SHARDFS_FS_SESSION_H

/*
 * A mounted file system: the libfuse session, its request loops and reader
 * threads.
 *
 * One loop at least waits for nothing but /dev/fuse (op.c).  Each has a device descriptor of its
 * own (clone), so that they do not share a queue's lock, and replies to a
 * request go to the descriptor that it came from.
 */

#include "store/store.h"
#include "util/list.h"
#include "util/lock.h"

#include <stdbool.h>

struct ctl;
struct fuse_args;
struct fuse_session;
struct pool;

#define SESSION_PARTS	   16
#define SESSION_LOOPS_MAX  64
#define SESSION_WRITE_MAX  (1024 * 1024) /* bytes of one READ or WRITE */
#define SESSION_TIMEOUT_S  86400.0       /* entries and attributes: only this mount changes them */

struct session_part {
	struct lock lock; /* LOCK_LEAF */
	struct list handles;
};

struct session_settings {
	struct store *store;
	const char *mount_point;
	unsigned loops, meta_readers, data_readers; /* 0: chosen here */
	bool is_read_only;
	unsigned spin_us; /* a loop looks so long for the next request before it sleeps */
};

struct session {
	struct session_settings settings;
	struct store *store;
	struct fuse_session *se;
	struct ctl *ctl;
	struct pool *meta; /* readers that wait for the index at most */
	struct pool *data; /* readers that may wait for a provider */
	struct session_part parts[SESSION_PARTS];
	struct inode *root; /* referenced while mounted */
	struct session_loop *loops;
	unsigned loop_count;
	/* Granted by the kernel; set at INIT. */
	bool is_setxattr_ext, has_killpriv, kernel_owns_times;
	_Atomic bool is_stopping, is_unmounted;
	_Atomic uint64_t locker; /* ops_xattr.c: whose locks are in the audit log already */
	_Atomic uint64_t ops; /* begun and not ended */
	_Atomic uint32_t loops_running;
	_Atomic uint32_t loops_waiting; /* for disks and providers: always fewer than there are */
	int end_fd; /* eventfd: readable when the last loop has ended */
};

/*
 * session_open - mounts and starts serving.  args: options for libfuse (-o ...).
 * Negative errno: nothing is mounted; `why` says why.
 */
int session_open(const struct session_settings *settings, struct fuse_args *args, struct buf *why,
		 struct session **out);
/* Readable once the file system is no longer mounted. */
int session_end_fd(struct session *session);
/*
 * session_unmount - has the kernel write its pages back, takes the mount away (also when it is in
 * use), and returns when the kernel has let go, or after timeout_ms (-ETIMEDOUT).
 */
int session_unmount(struct session *session, uint64_t timeout_ms);
/* Ends loops and readers, lets go of every inode.  The mount is gone or becomes dead. */
void session_close(struct session *session);

/* ---- for op.c and reply.c: facts of the calling thread ---- */
bool session_is_loop(void);
int session_thread_fd(void);
void session_set_reply_fd(int fd);
/* Flags of the request in hand that libfuse 3.14 does not pass on. */
bool session_request_kills_priv(void);
bool session_request_kills_sgid(void);
void session_op_began(struct session *session);
void session_op_ended(struct session *session);

#endif
