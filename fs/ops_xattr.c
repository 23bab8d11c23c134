/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes.  user.shardfs.* are computed (store/vxattr.h), which may
 * take a while: they go to the readers that may wait at once.
 */
#include "fs/ops.h"
#include "fs/reply.h"
#include "store/vxattr.h"
#include "util/err.h"
#include "util/log.h"
#include "util/map.h"

#include <errno.h>
#include <stdatomic.h>

/* Size asked for 0: only the length is wanted. */
static int reply_value(struct op *op, const struct buf *value)
{
	if (op->len == 0)
		reply_xattr_size(op, value->len);
	else if (value->len > op->len)
		return -ERANGE;
	else
		reply_data(op, value->ptr, value->len);
	return OP_DONE;
}

static int run_get(struct op *op, struct index_reader *reader)
{
	struct store *store = op->session->store;
	AUTO(buf) value = BUF_INIT;
	int r;

	if (vxattr_is(op->name))
		r = reader ? vxattr_get(store, reader, op->inode, op->name, &value) : -EAGAIN;
	else
		r = names_get_xattr(store, reader, op->inode, op->name, &value);
	return r < 0 ? r : reply_value(op, &value);
}

void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct op *op = op_begin(req, run_get);
	int r;

	if (!op)
		return;
	op->len = size;
	r = op_set_name(op, name);
	if (r == 0 && vxattr_is(op->name)) {
		op->pool = op->session->data;
		op->is_slow = true;
	}
	if (r == 0)
		r = op_hold(op, ino);
	op_go(op, r);
}

static int run_list(struct op *op, struct index_reader *reader)
{
	AUTO(buf) names = BUF_INIT;
	int r = names_list_xattrs(op->session->store, reader, op->inode, op->uid == 0, &names);

	return r < 0 ? r : reply_value(op, &names);
}

void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct op *op = op_begin(req, run_list);

	if (!op)
		return;
	op->len = size;
	op_go(op, op_hold(op, ino));
}

static void audit_virtual(struct op *op, int error)
{
	AUTO(buf) what = BUF_INIT;
	struct audit_event event = {
		.kind = "xattr",
		.result = error < 0 ? err_name(error) : "ok",
		.who = audit_who(op->uid, op->gid, op->pid),
	};

	buf_printf(&what, "set inode %llu %.*s=%.*s", (unsigned long long)op->inode->row.ino,
		   (int)op->name.len, (const char *)op->name.ptr, (int)op->value.len,
		   op->value.len ? (const char *)op->value.ptr : "");
	event.what = buf_str(&what) ? buf_str(&what) : "set";
	store_audit(op->session->store, &event); /* on failure it is counted and logged there */
}

static bool is_lock(const struct op *op)
{
	return op->name.len == strlen(VXATTR_PREFIX VXATTR_LOCK) &&
	       memcmp(op->name.ptr, VXATTR_PREFIX VXATTR_LOCK, op->name.len) == 0;
}

/*
 * What programs were told is written is written before a file is locked: the kernel writes its
 * pages back now (it lets nobody call write(2) meanwhile), and what came is pushed.
 */
static void write_back(struct op *op)
{
	struct session *session = op->session;
	int r;

	if (!inode_is_regular(op->inode))
		return;
	r = fuse_lowlevel_notify_inval_inode(session->se, op->inode->row.ino, 0, 0);
	if (r < 0 && r != -ENOENT)
		log_warn("write-back-failed", "inode=%llu error=%d",
			 (unsigned long long)op->inode->row.ino, -r);
}

/*
 * Of a tree that one process locks, the first lock is in the audit log and stands for the others:
 * a million entries would tell no more.  What is refused is always there.
 */
static bool is_known_locker(struct op *op)
{
	uint64_t locker = map_hash_u64(((uint64_t)op->pid << 32) | op->uid);

	for (size_t i = 0; i < op->value.len; i++)
		locker = map_hash_u64(locker ^ op->value.ptr[i]);
	return atomic_exchange(&op->session->locker, locker) == locker;
}

static int set_virtual(struct op *op, struct index_reader *reader)
{
	AUTO(buf) why = BUF_INIT;
	int r;

	if (!reader)
		return -EAGAIN;
	if (op->uid != 0 && op->uid != op->session->root->row.uid) {
		audit_virtual(op, -EPERM);
		return -EPERM; /* like shardctl: the owner of the mount, or root */
	}
	if (is_lock(op) && !op->is_step_done) {
		write_back(op);
		op->is_step_done = true;
	}
	r = vxattr_set(op->session->store, reader, op->inode, op->name, buf_bytes(&op->value),
		       &why);
	if (r == -EBUSY)
		return op_push_first(op, op->inode);
	if (r < 0 || !is_lock(op) || op->value.len == 0 || !is_known_locker(op))
		audit_virtual(op, r);
	if (r == 0 && is_lock(op)) /* so that the kernel asks before the next write(2): ops_attr.c */
		fuse_lowlevel_notify_inval_inode(op->session->se, op->inode->row.ino, -1, 0);
	if (r < 0 && why.len > 0)
		log_warn("xattr-refused", "inode=%llu reason=" LOG_Q,
			 (unsigned long long)op->inode->row.ino, buf_str(&why));
	return r;
}

static int run_set(struct op *op, struct index_reader *reader)
{
	int r = op_admit(op);

	if (r != 0)
		return r;
	if (vxattr_is(op->name))
		r = set_virtual(op, reader);
	else
		r = names_set_xattr(op->session->store, reader, op->inode, op->name,
				    buf_bytes(&op->value), (int)op->flags, op->is_priv_killed);
	if (r != 0)
		return r;
	reply_err(op, 0);
	return OP_DONE;
}

void ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		  int flags)
{
	struct op *op = op_begin(req, run_set);
	int r;

	if (!op)
		return;
	op->flags = (uint32_t)flags;
	op->is_priv_killed = session_request_kills_sgid();
	r = op_set_name(op, name);
	if (r == 0 && vxattr_is(op->name)) {
		op->pool = op->session->data;
		op->is_slow = true;
	}
	if (r == 0)
		r = buf_append(&op->value, bytes_of(value, size));
	if (r == 0)
		r = op_hold(op, ino);
	op_go(op, r == -ENAMETOOLONG ? -ERANGE : r);
}

static int run_remove(struct op *op, struct index_reader *reader)
{
	int r = op_admit(op);

	if (r != 0)
		return r;
	if (vxattr_is(op->name))
		r = set_virtual(op, reader);
	else
		r = names_remove_xattr(op->session->store, reader, op->inode, op->name);
	if (r != 0)
		return r;
	reply_err(op, 0);
	return OP_DONE;
}

void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct op *op = op_begin(req, run_remove);
	int r;

	if (!op)
		return;
	r = op_set_name(op, name);
	if (r == 0 && vxattr_is(op->name)) {
		op->pool = op->session->data;
		op->is_slow = true;
	}
	if (r == 0)
		r = op_hold(op, ino);
	op_go(op, r);
}
