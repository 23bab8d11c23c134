/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel takes a reply only at the descriptor that the request was read
 * from; libfuse's custom I/O asks session.c for the descriptor of this thread,
 * so it is set before each reply.
 */
#include "fs/reply.h"

#include "fs/handle.h"
#include "util/err.h"
#include "util/log.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/statvfs.h>

static fuse_req_t take_req(struct op *op)
{
	assert(op->req);
	session_set_reply_fd(op->dev_fd);
	return STEAL(op->req);
}

void lookup_give(struct inode *inode)
{
	atomic_fetch_add(&inode->lookups, 1);
}

void lookup_take(struct session *session, struct inode *inode, uint64_t count)
{
	atomic_fetch_sub(&inode->lookups, count);
	inode_unref(session->store->inodes, inode, count);
}

/* Errors that mean something inside become what programs know. */
static int errno_of(int r)
{
	switch (-r) {
	case EUCLEAN:
	case EBADMSG:
	case EPROTONOSUPPORT:
	case EAGAIN:
		return EIO;
	default:
		return -r;
	}
}

void reply_err(struct op *op, int r)
{
	fuse_reply_err(take_req(op), errno_of(r));
}

void reply_forget_attr(struct session *session, struct inode *inode)
{
	bool has_writers;

	lock_take(&inode->lock);
	has_writers = inode->row.flags & INODE_LOCKED && inode->write_open_count > 0;
	lock_drop(&inode->lock);
	if (has_writers && names_is_locked(session->store, inode))
		fuse_lowlevel_notify_inval_inode(session->se, inode->row.ino, -1, 0);
}

/* Snapshots come and go behind the kernel's back. */
double reply_attr_timeout(struct inode *inode)
{
	return ino_is_holder(inode->row.ino) ? 0 : SESSION_TIMEOUT_S;
}

double reply_entry_timeout(struct inode *inode)
{
	uint64_t ino = inode->row.ino;
	bool is_snapshot;

	if (ino_snapshot_no(ino) == 0 || ino_is_holder(ino))
		return SESSION_TIMEOUT_S;
	lock_take(&inode->lock);
	is_snapshot = ino_is_holder(inode->row.parent);
	lock_drop(&inode->lock);
	return is_snapshot ? 0 : SESSION_TIMEOUT_S;
}

static void fill_entry(struct session *session, struct fuse_entry_param *entry, struct inode *inode,
		       const struct stat *st)
{
	reply_forget_attr(session, inode);
	*entry = (struct fuse_entry_param){
		.ino = inode->row.ino,
		.generation = 1,
		.attr = *st,
		.attr_timeout = reply_attr_timeout(inode),
		.entry_timeout = reply_entry_timeout(inode),
	};
}

void reply_entry(struct op *op, struct inode *inode, const struct stat *st)
{
	struct fuse_entry_param entry;

	fill_entry(op->session, &entry, inode, st);
	lookup_give(inode);
	if (fuse_reply_entry(take_req(op), &entry) < 0)
		lookup_take(op->session, inode, 1);
}

void reply_entry_negative(struct op *op)
{
	struct fuse_entry_param entry = {.entry_timeout = SESSION_TIMEOUT_S};

	fuse_reply_entry(take_req(op), &entry);
}

void reply_attr(struct op *op, const struct stat *st)
{
	reply_forget_attr(op->session, op->inode);
	fuse_reply_attr(take_req(op), st, reply_attr_timeout(op->inode));
}

static void fill_file_info(struct fuse_file_info *fi, struct handle *handle, bool is_direct)
{
	handle->is_direct = is_direct;
	*fi = (struct fuse_file_info){
		.fh = (uint64_t)(uintptr_t)handle,
		.keep_cache = !is_direct,
		.direct_io = is_direct,
		.noflush = !handle->is_writer,
	};
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)
	fi->parallel_direct_writes = 1;
#endif
}

void reply_open(struct op *op, bool is_direct)
{
	struct handle *handle = STEAL(op->handle);
	struct fuse_file_info fi;

	fill_file_info(&fi, handle, is_direct);
	if (fuse_reply_open(take_req(op), &fi) < 0)
		handle_free(op->session, handle);
}

void reply_create(struct op *op, struct inode *inode, const struct stat *st, bool is_direct)
{
	struct handle *handle = STEAL(op->handle);
	struct fuse_entry_param entry;
	struct fuse_file_info fi;

	fill_entry(op->session, &entry, inode, st);
	fill_file_info(&fi, handle, is_direct);
	lookup_give(inode);
	if (fuse_reply_create(take_req(op), &entry, &fi) < 0) {
		handle_free(op->session, handle);
		lookup_take(op->session, inode, 1);
	}
}

void reply_data(struct op *op, const void *ptr, size_t len)
{
	fuse_reply_buf(take_req(op), ptr, len);
}

void reply_written(struct op *op, size_t len)
{
	fuse_reply_write(take_req(op), len);
}

void reply_xattr_size(struct op *op, size_t len)
{
	fuse_reply_xattr(take_req(op), len);
}

void reply_link_target(struct op *op, const char *target)
{
	fuse_reply_readlink(take_req(op), target);
}

void reply_seek(struct op *op, uint64_t off)
{
	fuse_reply_lseek(take_req(op), (off_t)off);
}

void reply_statfs(struct op *op, const struct statvfs *st)
{
	fuse_reply_statfs(take_req(op), st);
}

void reply_ioctl(struct op *op, int result, const void *out, size_t len)
{
	fuse_reply_ioctl(take_req(op), result, out, len);
}

bool reply_entries(struct op *op, const void *ptr, size_t len)
{
	return fuse_reply_buf(take_req(op), ptr, len) == 0;
}
