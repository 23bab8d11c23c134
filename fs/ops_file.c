/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files: opening, bytes, pushing, and what changes extents.
 *
 * With writeback caching a READ may come on a write-only handle (the kernel
 * fills a page), O_APPEND means nothing at WRITE (the kernel knows the size),
 * and a WRITE may come after FLUSH (mmap), after unlink, and without a caller.
 * So a WRITE looks at its inode alone.
 *
 * lseek(SEEK_DATA) does not make the kernel write its pages back: while
 * somebody has the file open for writing, we make it do so, by invalidating
 * the file's pages; that waits for WRITEs, so only a reader thread may do it.
 */
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "store/may_change.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <linux/falloc.h>
#include <unistd.h>

#define FULL_PERMILLE 950 /* of the spool: from here on write(2) itself must say ENOSPC */

/* ---- opening ---- */

int ops_open_checks(struct store *store, struct inode *inode, uint32_t flags)
{
	bool is_writer = (flags & O_ACCMODE) != O_RDONLY;
	int r;

	LOCK_SCOPE(&inode->lock);
	if (!S_ISREG(inode->row.mode))
		return inode_is_dir(inode) ? -EISDIR : -EINVAL;
	if (!is_writer)
		return 0;
	r = inode_may_change(store, inode, flags & O_APPEND ? INODE_APPENDS : INODE_WRITES);
	if (r == 0 && (flags & O_TRUNC))
		r = inode_may_change(store, inode, INODE_TRUNCATES);
	return r;
}

/* Over that much of the spool, bytes do not go into the page cache, where ENOSPC comes too late. */
static bool must_be_direct(struct session *session, uint32_t flags)
{
	uint64_t max = session->store->config->settings.spool_size_bytes;

	if ((flags & O_ACCMODE) == O_RDONLY || max == 0 || !session->store->spool)
		return false;
	return spool_bytes_used(session->store->spool) / FULL_PERMILLE >= max / 1000;
}

static int run_open(struct op *op, struct index_reader *reader)
{
	int r = ops_open_checks(op->session->store, op->inode, op->flags);

	(void)reader;
	if (r == 0 && (op->flags & O_ACCMODE) != O_RDONLY &&
	    !store_may_write(op->session->store, NULL))
		r = -EROFS;
	if (r < 0)
		return r;
	if ((op->flags & O_TRUNC) && !op->is_step_done) {
		r = op_admit(op);
		if (r == 0)
			r = ops_set_size(op, op->inode, 0);
		if (r != 0)
			return r;
		op->is_step_done = true;
	}
	r = handle_new(op->session, op->inode, (int)op->flags, &op->handle);
	if (r < 0)
		return r;
	reply_open(op, must_be_direct(op->session, op->flags));
	return OP_DONE;
}

void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_open);

	if (!op)
		return;
	op->flags = (uint32_t)fi->flags;
	op_go(op, op_hold(op, ino));
}

static int reply_opened(struct op *op, struct index_reader *reader, struct inode *inode)
{
	struct stat st;
	int r = handle_new(op->session, inode, (int)op->flags, &op->handle);

	if (r < 0) {
		inode_unref(op->session->store->inodes, inode, 1);
		return r;
	}
	ops_stat_now(op->session, reader, inode, &st);
	reply_create(op, inode, &st, must_be_direct(op->session, op->flags));
	return OP_DONE;
}

/* The name came into being behind the kernel's back, or between two of its requests. */
static int open_existing(struct op *op, struct index_reader *reader)
{
	struct store *store = op->session->store;
	struct inode *inode;
	int r;

	if (op->flags & O_EXCL)
		return -EEXIST;
	r = names_lookup(store, reader, op->inode, op->name, &inode);
	if (r < 0)
		return r;
	r = ops_open_checks(store, inode, op->flags);
	if (r == 0 && (op->flags & O_TRUNC))
		r = ops_set_size(op, inode, 0);
	if (r != 0) {
		inode_unref(store->inodes, inode, 1);
		return r;
	}
	return reply_opened(op, reader, inode);
}

static int run_create(struct op *op, struct index_reader *reader)
{
	struct store *store = op->session->store;
	struct names_new new_file = {
		.mode = S_IFREG | (op->mode & 07777),
		.umask = op->umask,
		.uid = op->uid,
		.gid = op->gid,
	};
	bool is_unnamed = op->name.len == 1 && op->name.ptr[0] == '/'; /* see session.c */
	struct inode *inode;
	int r = op_admit(op);

	if (r != 0)
		return r;
	if (is_unnamed)
		r = names_create_unnamed(store, reader, op->inode, &new_file, &inode);
	else
		r = names_create(store, reader, op->inode, op->name, &new_file, &inode);
	if (r == -EEXIST)
		return open_existing(op, reader);
	if (r < 0)
		return r;
	return reply_opened(op, reader, inode);
}

void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_create);
	int r;

	if (!op)
		return;
	op->mode = mode;
	op->flags = (uint32_t)fi->flags;
	r = op_hold(op, parent);
	if (r == 0)
		r = op_set_name(op, name);
	op_go(op, r);
}

/* ---- bytes ---- */

static struct handle *handle_of(uint64_t fh)
{
	return (struct handle *)(uintptr_t)fh;
}

static int run_read(struct op *op, struct index_reader *reader)
{
	uint8_t *out = op_io_buf(op->len);
	size_t got;
	int r;

	if (!out)
		return -ENOMEM;
	r = writer_read(op->session->store->writer, op->inode, reader, op->off, op->len, out, &got);
	if (r < 0)
		return r;
	reply_data(op, out, got);
	return OP_DONE;
}

void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_read);
	int r;

	if (!op)
		return;
	op->pool = op->session->data;
	op->off = (uint64_t)off;
	op->len = MIN(size, (size_t)SESSION_WRITE_MAX);
	r = op_hold(op, ino);
	if (r == 0 && fi->fh)
		handle_note_read(op->session, handle_of(fi->fh), op->off, op->len);
	op_go(op, r);
}

static void write_done(struct waiter *waiter, int error)
{
	struct op *op = container_of(waiter, struct op, waiter);

	if (error < 0)
		reply_err(op, error);
	else
		reply_written(op, op->len);
	op_end(op);
}

/* The kernel's idea of the mode is old now. */
static void invalidate_attr(struct session *session, uint64_t ino)
{
	fuse_lowlevel_notify_inval_inode(session->se, ino, -1, 0);
}

/*
 * A page that the kernel holds came from write(2) before the file was made immutable, and is taken;
 * before it is locked they were all written back, so this one was changed through a mapping since.
 */
static int check_page(struct op *op)
{
	return names_is_locked(op->session->store, op->inode) ? -EPERM : 0;
}

/* The kernel keeps a page whose WRITE failed as if it had been written: readers would see it. */
static int drop_pages(struct op *op, struct index_reader *reader)
{
	uint64_t ino = op->inode->row.ino;
	int r = fuse_lowlevel_notify_inval_inode(op->session->se, ino, (off_t)op->off,
						 (off_t)op->len);

	(void)reader;
	if (r < 0 && r != -ENOENT)
		log_warn("pages-not-dropped", "inode=%llu error=%d next=\"readers may see bytes that "
			 "were refused\"", (unsigned long long)ino, -r);
	return OP_DONE;
}

static int write_now(struct op *op, struct bytes src)
{
	struct store *store = op->session->store;
	bool is_mode_changed = false;
	int r = 0;

	if (!store_may_write(store, NULL))
		r = -EROFS;
	else if (op->is_cached)
		r = check_page(op);
	else
		r = names_check_write(store, op->inode, op->off);
	if (r == 0)
		r = names_kill_priv(store, op->inode, op->is_priv_killed, &is_mode_changed);
	if (r < 0)
		return r;
	if (is_mode_changed)
		invalidate_attr(op->session, op->inode->row.ino);
	op->waiter = (struct waiter){.done = write_done};
	r = writer_write(store->writer, op->inode, op->off, src, op->is_cached, op->moves_times,
			 &op->waiter);
	if (r == -EINPROGRESS)
		return OP_PENDING;
	if (r < 0)
		return r;
	reply_written(op, src.len);
	return OP_DONE;
}

void ops_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	       struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, NULL);
	int r;

	if (!op)
		return;
	op->off = (uint64_t)off;
	op->len = size;
	op->is_cached = fi->writepage;
	/* The kernel moves the times of what passes through its cache, also where it writes through. */
	op->moves_times = !op->is_cached && (!op->session->kernel_owns_times ||
					     (fi->fh && handle_of(fi->fh)->is_direct));
	r = op_hold(op, ino);
	if (r == 0)
		r = write_now(op, bytes_of(buf, size));
	if (r == OP_PENDING)
		return;
	if (r < 0)
		reply_err(op, r);
	if (r == -EPERM && op->is_cached)
		op_go_on(op, drop_pages);
	else
		op_end(op);
}

static int run_push(struct op *op, struct index_reader *reader)
{
	(void)reader;
	return op_push_and_reply(op);
}

/* Nobody is told what RELEASE met, so an error stays for those who still ask. */
static int run_release(struct op *op, struct index_reader *reader)
{
	bool is_clean;

	(void)reader;
	lock_take(&op->inode->lock);
	is_clean = writer_is_clean(op->inode);
	lock_drop(&op->inode->lock);
	if (!is_clean)
		return op_push_and_reply(op);
	reply_err(op, 0);
	return OP_DONE;
}

void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_push);

	if (!op)
		return;
	if (fi->fh && !handle_of(fi->fh)->is_writer) {
		reply_err(op, 0);
		op_end(op);
		return;
	}
	op_go(op, op_hold(op, ino));
}

void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_release);
	bool is_writer;

	if (!op)
		return;
	op->handle = handle_of(fi->fh); /* freed with the op */
	is_writer = op->handle && op->handle->is_writer;
	if (!is_writer) {
		reply_err(op, 0);
		op_end(op);
		return;
	}
	op_go(op, op_hold(op, ino));
}

static int run_fsync(struct op *op, struct index_reader *reader)
{
	(void)reader;
	return op_sync_and_reply(op);
}

void ops_fsync(fuse_req_t req, fuse_ino_t ino, int is_data_only, struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_fsync);

	(void)is_data_only;
	(void)fi;
	if (op)
		op_go(op, op_hold(op, ino));
}

/* ---- extents ---- */

/* With writeback caching the kernel has moved the times itself, and tells them when it flushes. */
static void touch_data(void *ctx, struct inode_row *row)
{
	const struct session *session = ctx;

	if (session->kernel_owns_times)
		return;
	row->mtime = row->ctime = clock_wall();
}

static int fallocate_now(struct op *op, struct index_reader *reader)
{
	struct writer *writer = op->session->store->writer;
	bool keep_size = op->mode & FALLOC_FL_KEEP_SIZE;

	switch (op->mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE) {
	case 0:
		return writer_allocate(writer, op->inode, reader, op->off, op->len, keep_size,
				       touch_data, op->session);
	case FALLOC_FL_PUNCH_HOLE:
		if (!keep_size)
			return -EOPNOTSUPP;
		return writer_zero(writer, op->inode, reader, op->off, op->len, true, true,
				   touch_data, op->session);
	case FALLOC_FL_ZERO_RANGE:
		return writer_zero(writer, op->inode, reader, op->off, op->len, false, keep_size,
				   touch_data, op->session);
	default:
		return -EOPNOTSUPP;
	}
}

static int run_fallocate(struct op *op, struct index_reader *reader)
{
	int r = op_admit(op);

	if (r != 0)
		return r;
	if (!inode_is_regular(op->inode))
		return -ENODEV;
	if (op->len == 0)
		return -EINVAL;
	if (op->off > INT64_MAX || op->len > INT64_MAX - op->off)
		return -EFBIG;
	r = names_check_write(op->session->store, op->inode,
			      op->mode == 0 || op->mode == FALLOC_FL_KEEP_SIZE ? UINT64_MAX
									       : op->off);
	if (r == 0)
		r = names_kill_priv(op->session->store, op->inode, op->uid != 0, NULL);
	if (r == 0)
		r = fallocate_now(op, reader);
	if (r == -EBUSY)
		return op_push_first(op, op->inode);
	if (r < 0)
		return r;
	reply_err(op, 0);
	return OP_DONE;
}

void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		   struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_fallocate);

	(void)fi;
	if (!op)
		return;
	op->pool = op->session->data;
	op->mode = (uint32_t)mode;
	op->off = (uint64_t)off;
	op->len = (uint64_t)len;
	op_go(op, op_hold(op, ino));
}

static bool has_writers(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return inode->write_open_count > 0;
}

static int run_lseek(struct op *op, struct index_reader *reader)
{
	struct session *session = op->session;
	uint64_t result;
	int r;

	if (!op->is_step_done && has_writers(op->inode)) {
		if (!reader)
			return -EAGAIN;
		r = fuse_lowlevel_notify_inval_inode(session->se, op->inode->row.ino, 0, 0);
		if (r < 0 && r != -ENOENT)
			log_warn("write-back-failed", "inode=%llu error=%d",
				 (unsigned long long)op->inode->row.ino, -r);
		op->is_step_done = true;
	}
	r = writer_seek(session->store->writer, op->inode, reader, op->off, op->flags == SEEK_DATA,
			&result);
	if (r < 0)
		return r;
	reply_seek(op, result);
	return OP_DONE;
}

void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_lseek);
	int r;

	(void)fi;
	if (!op)
		return;
	op->pool = op->session->data;
	op->is_slow = true;
	op->off = (uint64_t)off;
	op->flags = (uint32_t)whence;
	r = whence == SEEK_DATA || whence == SEEK_HOLE ? op_hold(op, ino) : -EINVAL;
	if (r == 0 && off < 0)
		r = -ENXIO;
	op_go(op, r);
}

static int run_copy(struct op *op, struct index_reader *reader)
{
	struct store *store = op->session->store;
	uint64_t copied;
	int r = op_admit(op);

	if (r != 0)
		return r;
	if (!inode_is_regular(op->inode) || !inode_is_regular(op->inode2))
		return -EINVAL;
	r = names_check_write(store, op->inode2, op->off2);
	if (r == 0)
		r = names_kill_priv(store, op->inode2, op->uid != 0, NULL);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < 2; i++) {
		struct inode *inode = i == 0 ? op->inode : op->inode2;
		bool is_clean;

		lock_take(&inode->lock);
		is_clean = writer_is_clean(inode);
		lock_drop(&inode->lock);
		if (!is_clean)
			return op_push_first(op, inode);
	}
	r = writer_clone(store->writer, op->inode, op->off, op->inode2, op->off2, op->len, reader,
			 touch_data, op->session, &copied);
	if (r == -EBUSY)
		return op_push_first(op, op->inode);
	if (r == -EXDEV)
		return -EOPNOTSUPP; /* the kernel then copies the bytes */
	if (r < 0)
		return r;
	reply_written(op, copied);
	return OP_DONE;
}

void ops_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			 struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			 struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct op *op = op_begin(req, run_copy);
	int r;

	(void)fi_in;
	(void)fi_out;
	if (!op)
		return;
	op->pool = op->session->data;
	op->is_slow = true;
	op->off = (uint64_t)off_in;
	op->off2 = (uint64_t)off_out;
	op->len = MIN(len, (size_t)INT32_MAX & ~(size_t)4095); /* the reply counts 32 bits */
	r = flags ? -EINVAL : op_hold(op, ino_in);
	if (r == 0)
		r = op_hold2(op, ino_out);
	op_go(op, r);
}
