/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_IOCTL_H
#define SHARDFS_IOCTL_H

/*
 * The control channel of a mounted shardfs: one ioctl on any file or directory
 * of the mount.  See shardfs-ioctl(4).
 *
 * A request is submitted as JSON and becomes a job; its answer, a JSON object,
 * is fetched in pages by polling; a job can be cancelled.  The file that the
 * ioctl is issued on is the object of verbs that take a path.  A job belongs
 * to the user who submitted it (and root), and is forgotten when its answer
 * was read to the end, or ten minutes after it ended.
 *
 * One fixed-size struct serves all three operations, below the 16,383 bytes
 * that a restricted FUSE ioctl can carry.  Fields are in native byte order.
 */

#include <linux/ioctl.h>
#include <linux/types.h>

#define SHARDFS_CTL_VERSION    1
#define SHARDFS_CTL_DATA_BYTES 16000

enum shardfs_ctl_op {
	SHARDFS_CTL_SUBMIT = 1, /* data: {"verb": "...", ...}; sets job */
	SHARDFS_CTL_POLL = 2,   /* job, offset; sets state, exit_code, total, len, data */
	SHARDFS_CTL_CANCEL = 3, /* job; a hint: the job ends with state CANCELLED or DONE */
};

enum shardfs_ctl_state {
	SHARDFS_CTL_RUNNING = 1, /* data: progress, a JSON object, from offset 0; may be empty */
	SHARDFS_CTL_DONE = 2,    /* data: a page of the answer; total: its length */
	SHARDFS_CTL_CANCELLED = 3,
};

struct shardfs_ctl {
	__u32 version; /* SHARDFS_CTL_VERSION; another: EPROTONOSUPPORT */
	__u32 op;
	__u64 job;
	__u64 offset;
	__u64 total;
	__u32 len; /* of data */
	__u32 state;
	__u32 exit_code; /* of the verb, see shardctl(8) */
	__u32 reserved;  /* 0 */
	char data[SHARDFS_CTL_DATA_BYTES];
};

/*
 * Errors: EINVAL malformed; EPROTONOSUPPORT version; ENOENT no such job; EPERM somebody else's
 * job; EBUSY too many jobs; ENOTTY not a shardfs.
 */
#define SHARDFS_IOC_CTL _IOWR('S', 0x71, struct shardfs_ctl)

#endif
