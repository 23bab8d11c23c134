/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes.  With writeback caching the kernel owns size, mtime and ctime of
 * regular files that it knows: what is answered here counts for files that are
 * new to it, and its own times come with SETATTR.
 */
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/reply.h"

#include <errno.h>
#include <sys/statvfs.h>

#define BLOCK_BYTES 512

static bool has_blocks(const struct inode *inode)
{
	return inode_is_regular(inode);
}

int ops_stat(struct session *session, struct index_reader *reader, struct inode *inode,
	     struct stat *st)
{
	uint64_t bytes = 0;

	if (has_blocks(inode)) {
		int r = writer_alloc_bytes(session->store->writer, inode, reader, &bytes);

		if (r < 0)
			return r;
	}
	names_stat(inode, st);
	st->st_blocks = (blkcnt_t)((bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
	return 0;
}

void ops_stat_now(struct session *session, struct index_reader *reader, struct inode *inode,
		  struct stat *st)
{
	if (ops_stat(session, reader, inode, st) == 0)
		return;
	names_stat(inode, st);
	st->st_blocks = (blkcnt_t)(((uint64_t)st->st_size + BLOCK_BYTES - 1) / BLOCK_BYTES);
}

/*
 * With writeback caching a write(2) goes into pages without a word to us, except that the kernel
 * asks for attributes that it does not hold, by the handle that is written to.  Those of a locked
 * file that somebody had open for writing it never holds (reply.c); so this is where that write(2)
 * is told that it may not.  stat(2) names no handle.
 */
static bool is_locked_writer(struct op *op)
{
	return op->is_writer && names_is_locked(op->session->store, op->inode);
}

static int run_getattr(struct op *op, struct index_reader *reader)
{
	struct stat st;
	int r = is_locked_writer(op) ? -EPERM : ops_stat(op->session, reader, op->inode, &st);

	if (r < 0)
		return r;
	reply_attr(op, &st);
	return OP_DONE;
}

void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_getattr);

	if (!op)
		return;
	op->is_writer = fi && fi->fh && ((struct handle *)(uintptr_t)fi->fh)->is_writer;
	op_go(op, op_hold(op, ino));
}

/* ---- changing ---- */

/* The mode comes in a record of its own, with the ACL; times and setuid come with the size. */
static void touch_size(void *ctx, struct inode_row *row)
{
	const struct op *op = ctx;
	struct names_attr attr = op->attr;

	attr.valid &= NAMES_ATIME | NAMES_MTIME | NAMES_CTIME;
	if (op->session->kernel_owns_times) {
		attr.valid |= NAMES_CTIME; /* what it does not tell has not changed */
		if (!(op->attr.valid & NAMES_CTIME))
			attr.ctime = row->ctime;
	} else if (!(attr.valid & NAMES_MTIME)) {
		attr.valid |= NAMES_MTIME;
		attr.mtime = clock_wall();
	}
	names_apply_attr(row, &attr);
}

int ops_set_size(struct op *op, struct inode *inode, uint64_t size)
{
	struct store *store = op->session->store;
	int r;

	if (inode_is_dir(inode))
		return -EISDIR;
	if (!inode_is_regular(inode))
		return -EINVAL;
	if (size > INT64_MAX)
		return -EFBIG;
	r = names_check_truncate(store, inode);
	if (r == 0)
		r = names_kill_priv(store, inode, op->is_priv_killed, NULL);
	if (r < 0)
		return r;
	r = writer_set_size(store->writer, inode, size, touch_size, op);
	return r == -EBUSY ? op_push_first(op, inode) : r;
}

static int run_setattr(struct op *op, struct index_reader *reader)
{
	struct stat st;
	int r = op_admit(op);

	if (r != 0)
		return r;
	if (op->has_size && !op->is_step_done) {
		r = ops_set_size(op, op->inode, op->size);
		if (r != 0)
			return r;
		op->is_step_done = true;
	}
	if (!op->has_size || (op->attr.valid & (NAMES_MODE | NAMES_UID | NAMES_GID))) {
		r = names_set_attr(op->session->store, reader, op->inode, &op->attr);
		if (r < 0)
			return r;
	}
	ops_stat_now(op->session, reader, op->inode, &st);
	reply_attr(op, &st);
	return OP_DONE;
}

static struct wall_time time_of(const struct timespec *ts, bool is_now)
{
	if (is_now)
		return clock_wall();
	return (struct wall_time){.sec = ts->tv_sec, .nsec = (uint32_t)ts->tv_nsec};
}

static void set_attr_of(struct op *op, const struct stat *st, int to_set)
{
	struct names_attr *attr = &op->attr;

	if (to_set & FUSE_SET_ATTR_MODE) {
		attr->valid |= NAMES_MODE;
		attr->mode = st->st_mode;
	}
	if (to_set & FUSE_SET_ATTR_UID) {
		attr->valid |= NAMES_UID;
		attr->uid = st->st_uid;
	}
	if (to_set & FUSE_SET_ATTR_GID) {
		attr->valid |= NAMES_GID;
		attr->gid = st->st_gid;
	}
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
		attr->valid |= NAMES_ATIME;
		attr->atime = time_of(&st->st_atim, to_set & FUSE_SET_ATTR_ATIME_NOW);
	}
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
		attr->valid |= NAMES_MTIME;
		attr->mtime = time_of(&st->st_mtim, to_set & FUSE_SET_ATTR_MTIME_NOW);
	}
	if (to_set & FUSE_SET_ATTR_CTIME) {
		attr->valid |= NAMES_CTIME;
		attr->ctime = time_of(&st->st_ctim, false);
	}
	attr->is_priv_killed = op->is_priv_killed;
	op->has_size = to_set & FUSE_SET_ATTR_SIZE;
	op->size = (uint64_t)st->st_size;
}

void ops_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		 struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_setattr);

	if (!op)
		return;
	set_attr_of(op, attr, to_set);
	op->attr.is_kernels = fi != NULL;
	op_go(op, op_hold(op, ino));
}

/* ---- the file system ---- */

static int run_statfs(struct op *op, struct index_reader *reader)
{
	struct store_space space;
	struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_LEN_MAX};

	(void)reader;
	store_space(op->session->store, &space);
	st.f_blocks = space.size_bytes / st.f_frsize;
	st.f_bfree = st.f_bavail = space.free_bytes / st.f_frsize;
	st.f_files = space.files;
	st.f_ffree = st.f_favail = space.files_free;
	reply_statfs(op, &st);
	return OP_DONE;
}

void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct op *op = op_begin(req, run_statfs);

	(void)ino;
	if (op)
		op_go(op, 0);
}
