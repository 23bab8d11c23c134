/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioctl: one table.  A handler gets the caller's bytes in op->value and
 * replies; the kernel carries at most 16,383 bytes each way.
 */
#include "fs/ops.h"
#include "ctl/ctl.h"
#include "fs/reply.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

struct ioctl_verb {
	unsigned cmd;
	op_run *run;
};

/*
 * ---- flags of chattr ----
 *
 * In two dialects: before it sets the one, the kernel gets the other.
 */
struct flag_pair {
	uint32_t ours, theirs;
};

static const struct flag_pair inode_flags[] = {
	{INODE_IMMUTABLE, FS_IMMUTABLE_FL},
	{INODE_APPEND, FS_APPEND_FL},
	{INODE_NODUMP, FS_NODUMP_FL},
	{INODE_NOATIME, FS_NOATIME_FL},
};
static const struct flag_pair extended_flags[] = {
	{INODE_IMMUTABLE, FS_XFLAG_IMMUTABLE},
	{INODE_APPEND, FS_XFLAG_APPEND},
	{INODE_NODUMP, FS_XFLAG_NODUMP},
	{INODE_NOATIME, FS_XFLAG_NOATIME},
};

static uint32_t to_theirs(struct inode *inode, const struct flag_pair map[4])
{
	uint32_t flags = 0;

	LOCK_SCOPE(&inode->lock);
	for (size_t i = 0; i < 4; i++)
		if (inode->row.flags & map[i].ours)
			flags |= map[i].theirs;
	return flags;
}

static int set_flags(struct op *op, uint32_t asked, const struct flag_pair map[4])
{
	uint32_t flags = 0, known = 0;
	int r;

	for (size_t i = 0; i < 4; i++) {
		known |= map[i].theirs;
		if (asked & map[i].theirs)
			flags |= map[i].ours;
	}
	if (asked & ~known)
		return -EOPNOTSUPP;
	r = names_set_flags(op->session->store, op->inode, flags);
	if (r < 0)
		return r;
	/* ctime has moved, and the kernel does not think of it */
	fuse_lowlevel_notify_inval_inode(op->session->se, op->inode->row.ino, -1, 0);
	reply_ioctl(op, 0, NULL, 0);
	return OP_DONE;
}

/* The kernel asks with four bytes, a program's own call may have eight. */
static void reply_word(struct op *op, uint64_t word)
{
	reply_ioctl(op, 0, &word, MIN(op->len, sizeof(word)));
}

static int run_get_flags(struct op *op, struct index_reader *reader)
{
	(void)reader;
	reply_word(op, to_theirs(op->inode, inode_flags));
	return OP_DONE;
}

static int run_set_flags(struct op *op, struct index_reader *reader)
{
	uint32_t asked;
	int r = op_admit(op);

	(void)reader;
	if (r != 0)
		return r;
	if (op->value.len < sizeof(asked))
		return -EINVAL;
	memcpy(&asked, op->value.ptr, sizeof(asked));
	return set_flags(op, asked, inode_flags);
}

static int run_get_extended(struct op *op, struct index_reader *reader)
{
	struct fsxattr attr = {.fsx_xflags = to_theirs(op->inode, extended_flags)};

	(void)reader;
	reply_ioctl(op, 0, &attr, MIN(op->len, sizeof(attr)));
	return OP_DONE;
}

static int run_set_extended(struct op *op, struct index_reader *reader)
{
	struct fsxattr attr;
	int r = op_admit(op);

	(void)reader;
	if (r != 0)
		return r;
	if (op->value.len < sizeof(attr))
		return -EINVAL;
	memcpy(&attr, op->value.ptr, sizeof(attr));
	if (attr.fsx_extsize || attr.fsx_projid || attr.fsx_cowextsize)
		return -EOPNOTSUPP;
	return set_flags(op, attr.fsx_xflags, extended_flags);
}

static int run_get_version(struct op *op, struct index_reader *reader)
{
	(void)reader;
	reply_word(op, 1); /* numbers are never reused */
	return OP_DONE;
}

/* ---- the control channel: jobs run on threads of their own ---- */

static int run_control(struct op *op, struct index_reader *reader)
{
	struct shardfs_ctl *msg = (struct shardfs_ctl *)op->value.ptr;
	int r;

	(void)reader;
	if (op->value.len != sizeof(*msg) || op->len < sizeof(*msg))
		return -EINVAL;
	r = ctl_handle(op->session->ctl, op->inode, op->uid, op->gid, op->pid, msg);
	if (r < 0)
		return r;
	reply_ioctl(op, 0, msg, sizeof(*msg));
	return OP_DONE;
}

/* ---- the table ---- */

static const struct ioctl_verb verbs[] = {
	{FS_IOC_GETFLAGS, run_get_flags},
	{FS_IOC_SETFLAGS, run_set_flags},
	{FS_IOC_FSGETXATTR, run_get_extended},
	{FS_IOC_FSSETXATTR, run_set_extended},
	{FS_IOC_GETVERSION, run_get_version},
	{SHARDFS_IOC_CTL, run_control},
};

static const struct ioctl_verb *find(unsigned cmd)
{
	for (size_t i = 0; i < ARRAY_COUNT(verbs); i++)
		if (verbs[i].cmd == cmd)
			return &verbs[i];
	return NULL;
}

void ops_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	       unsigned flags, const void *in, size_t in_len, size_t out_len)
{
	const struct ioctl_verb *verb = find(cmd);
	struct op *op = op_begin(req, verb ? verb->run : NULL);
	int r;

	(void)arg;
	(void)fi;
	(void)flags;
	if (!op)
		return;
	op->len = out_len;
	r = verb ? op_hold(op, ino) : -ENOTTY;
	if (r == 0 && in_len > 0)
		r = buf_append(&op->value, bytes_of(in, in_len));
	if (verb && verb->run == run_control) /* libfuse's own buffer: it may hold a passphrase */
		mem_wipe((void *)(uintptr_t)in, in_len);
	op_go(op, r);
}
