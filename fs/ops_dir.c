/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names.  Directories have no handles: OPENDIR is answered ENOSYS once, and
 * from then on the kernel neither opens nor releases them and caches their
 * listings.  READDIR keeps its place in the offset: 1 is behind ".", 2 behind
 * "..", and an entry's cookie + 2 behind that entry.
 */
#include "fs/ops.h"
#include "fs/reply.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#define LIST_BATCH 128
#define OFF_DOTS   2 /* offsets below are "." and ".." */

/* ---- looking up ---- */

static int load_dot(struct op *op, struct index_reader *reader, fuse_ino_t ino,
		    struct inode **out)
{
	struct store *store = op->session->store;
	struct inode *inode;
	uint64_t parent;
	int r = names_load(store, reader, ino, &inode);

	if (r < 0)
		return r;
	if (op->name.len == 1) {
		*out = inode;
		return 0;
	}
	lock_take(&inode->lock);
	parent = inode->row.ino == INO_ROOT ? INO_ROOT : inode->row.parent;
	lock_drop(&inode->lock);
	inode_unref(store->inodes, inode, 1);
	return names_load(store, reader, parent, out);
}

/* Handles that outlive the kernel's memory ask for "." and ".." of a number we may not know. */
static bool is_dot(struct bytes name)
{
	return name.len > 0 && name.ptr[0] == '.' &&
	       (name.len == 1 || (name.len == 2 && name.ptr[1] == '.'));
}

static int run_lookup(struct op *op, struct index_reader *reader)
{
	struct store *store = op->session->store;
	struct inode *inode;
	struct stat st;
	int r;

	if (reader)
		index_reader_hold(reader);
	if (is_dot(op->name))
		r = load_dot(op, reader, (fuse_ino_t)op->off, &inode);
	else if (!op->inode)
		r = -ESTALE;
	else
		r = names_lookup(store, reader, op->inode, op->name, &inode);
	if (reader)
		index_reader_let_go(reader);
	/* A snapshot of that name may come to be behind the kernel's back. */
	if (r == -ENOENT && !(op->inode && ino_is_holder(op->inode->row.ino))) {
		reply_entry_negative(op);
		return OP_DONE;
	}
	if (r < 0)
		return r;
	r = ops_stat(op->session, reader, inode, &st);
	if (r < 0) {
		inode_unref(store->inodes, inode, 1);
		return r;
	}
	reply_entry(op, inode, &st);
	return OP_DONE;
}

void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct op *op = op_begin(req, run_lookup);

	if (!op)
		return;
	op->off = parent;
	op_hold(op, parent); /* not found: only "." and ".." can be answered */
	op_go(op, op_set_name(op, name));
}

static void forget(struct session *session, fuse_ino_t ino, uint64_t count)
{
	struct inode *inode = inode_find(session->store->inodes, ino);

	if (!inode)
		return;
	lookup_take(session, inode, count);
	inode_unref(session->store->inodes, inode, 1);
}

void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget(fuse_req_userdata(req), ino, count);
	fuse_reply_none(req);
}

void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(fuse_req_userdata(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* ---- making ---- */

static struct names_new new_of(const struct op *op)
{
	return (struct names_new){
		.mode = op->mode,
		.umask = op->umask,
		.uid = op->uid,
		.gid = op->gid,
		.rdev = op->rdev,
		.target = buf_bytes(&op->value),
	};
}

static int run_make(struct op *op, struct index_reader *reader)
{
	struct names_new new_file = new_of(op);
	struct inode *inode;
	struct stat st;
	int r = op_admit(op);

	if (r != 0)
		return r;
	r = names_create(op->session->store, reader, op->inode, op->name, &new_file, &inode);
	if (r < 0)
		return r;
	ops_stat_now(op->session, reader, inode, &st);
	reply_entry(op, inode, &st);
	return OP_DONE;
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, uint32_t mode, dev_t rdev,
		 const char *target)
{
	struct op *op = op_begin(req, run_make);
	int r;

	if (!op)
		return;
	op->mode = mode;
	op->rdev = rdev;
	r = op_hold(op, parent);
	if (r == 0)
		r = op_set_name(op, name);
	if (r == 0 && target)
		r = buf_append(&op->value, bytes_of_str(target));
	op_go(op, r);
}

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, mode & S_IFMT ? mode : mode | S_IFREG, rdev, NULL);
}

void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}

void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, target);
}

static int run_link(struct op *op, struct index_reader *reader)
{
	struct stat st;
	int r = op_admit(op);

	if (r != 0)
		return r;
	r = names_link(op->session->store, reader, op->inode, op->inode2, op->name);
	if (r == -EBUSY)
		return op_push_first(op, op->inode);
	if (r < 0)
		return r;
	ops_stat_now(op->session, reader, op->inode, &st);
	reply_entry(op, STEAL(op->inode), &st);
	return OP_DONE;
}

void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct op *op = op_begin(req, run_link);
	int r;

	if (!op)
		return;
	r = op_hold(op, ino);
	if (r == 0)
		r = op_hold2(op, parent);
	if (r == 0)
		r = op_set_name(op, name);
	op_go(op, r);
}

/* ---- taking away, moving ---- */

static int run_remove(struct op *op, struct index_reader *reader)
{
	int r = op_admit(op);

	if (r != 0)
		return r;
	r = names_remove(op->session->store, reader, op->inode, op->name, op->is_dir);
	if (r < 0)
		return r;
	reply_err(op, 0);
	return OP_DONE;
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool is_dir)
{
	struct op *op = op_begin(req, run_remove);
	int r;

	if (!op)
		return;
	op->is_dir = is_dir;
	r = op_hold(op, parent);
	if (r == 0)
		r = op_set_name(op, name);
	op_go(op, r);
}

void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, false);
}

void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, true);
}

static int run_rename(struct op *op, struct index_reader *reader)
{
	struct store *store = op->session->store;
	struct inode *busy;
	int r = op_admit(op);

	if (r != 0)
		return r;
	r = names_rename(store, reader, op->inode, op->name, op->inode2, op->name2, op->flags,
			 &busy);
	if (r == -EBUSY) {
		r = op_push_first(op, busy);
		inode_unref(store->inodes, busy, 1); /* the push holds its own */
		return r;
	}
	if (r < 0)
		return r;
	reply_err(op, 0);
	return OP_DONE;
}

void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		const char *new_name, unsigned flags)
{
	struct op *op = op_begin(req, run_rename);
	int r;

	if (!op)
		return;
	op->flags = flags;
	r = op_hold(op, parent);
	if (r == 0)
		r = op_hold2(op, new_parent);
	if (r == 0)
		r = op_set_name(op, name);
	if (r == 0)
		r = op_set_name2(op, new_name);
	op_go(op, r);
}

static int run_readlink(struct op *op, struct index_reader *reader)
{
	AUTO(buf) target = BUF_INIT;
	const char *text;
	int r = names_read_link(op->session->store, reader, op->inode, &target);

	if (r < 0)
		return r;
	text = buf_str(&target);
	if (!text)
		return -ENOMEM;
	reply_link_target(op, text);
	return OP_DONE;
}

void ops_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct op *op = op_begin(req, run_readlink);

	if (op)
		op_go(op, op_hold(op, ino));
}

/* ---- listing ---- */

void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

/* A listing being put together. */
struct listing {
	fuse_req_t req;
	uint8_t *buf;
	size_t size, used;
	bool is_plus, is_full;
	/* Inodes in `buf`, each with a reference that becomes a lookup count. */
	struct inode **given;
	size_t given_count, given_max;
};

static void add_entry(struct listing *list, const char *name, struct inode *inode,
		      const struct stat *st, uint64_t off)
{
	char *at = (char *)list->buf + list->used;
	size_t room = list->size - list->used, need;

	if (list->is_plus) {
		struct fuse_entry_param entry = {.attr = *st};

		if (inode) {
			entry.ino = inode->row.ino;
			entry.generation = 1;
			reply_forget_attr(fuse_req_userdata(list->req), inode);
			entry.attr_timeout = reply_attr_timeout(inode);
			entry.entry_timeout = reply_entry_timeout(inode);
		}
		need = fuse_add_direntry_plus(list->req, at, room, name, &entry, (off_t)off);
	} else {
		need = fuse_add_direntry(list->req, at, room, name, st, (off_t)off);
	}
	if (need > room)
		list->is_full = true;
	else
		list->used += need;
}

static void add_dots(struct listing *list, struct inode *dir, uint64_t *off)
{
	struct stat st = {.st_mode = S_IFDIR};
	uint64_t parent;

	lock_take(&dir->lock);
	parent = dir->row.ino == INO_ROOT ? INO_ROOT : dir->row.parent;
	lock_drop(&dir->lock);
	while (*off < OFF_DOTS && !list->is_full) {
		st.st_ino = *off == 0 ? dir->row.ino : parent;
		add_entry(list, *off == 0 ? "." : "..", NULL, &st, *off + 1);
		if (!list->is_full)
			(*off)++;
	}
}

static int keep_given(struct listing *list, struct inode *inode)
{
	if (list->given_count == list->given_max) {
		size_t more = list->given_max ? list->given_max * 2 : LIST_BATCH;
		struct inode **given = mem_realloc_array(list->given, more, sizeof(*given));

		if (!given)
			return -ENOMEM;
		list->given = given;
		list->given_max = more;
	}
	list->given[list->given_count++] = inode;
	return 0;
}

static int add_row(struct op *op, struct index_reader *reader, struct listing *list,
		   const struct dirent_row *row)
{
	struct store *store = op->session->store;
	struct stat st = {.st_ino = row->ino, .st_mode = DTTOIF(row->type)};
	struct inode *inode = NULL;
	int r = 0;

	if (list->is_plus) {
		r = inode_load(store->inodes, store->index, reader, row->ino, &inode);
		if (r == -ENOENT)
			return 0; /* removed meanwhile */
		if (r == 0)
			r = ops_stat(op->session, reader, inode, &st);
	}
	if (r == 0)
		add_entry(list, row->name, inode, &st, row->cookie + OFF_DOTS);
	if (r == 0 && inode && !list->is_full) {
		r = keep_given(list, inode);
		if (r == 0)
			return 0;
	}
	inode_unref(store->inodes, inode, 1);
	return r;
}

static int fill_listing(struct op *op, struct index_reader *reader, struct listing *list)
{
	struct store *store = op->session->store;
	uint64_t off = op->off;
	int r = 0;

	add_dots(list, op->inode, &off);
	while (r == 0 && !list->is_full) {
		AUTO(dirent_list) rows = ROW_LIST_INIT;

		r = names_list(store, reader, op->inode, off - OFF_DOTS, LIST_BATCH, &rows);
		for (size_t i = 0; r == 0 && i < rows.count && !list->is_full; i++) {
			r = add_row(op, reader, list, &rows.rows[i]);
			off = rows.rows[i].cookie + OFF_DOTS;
		}
		if (rows.count < LIST_BATCH)
			break;
	}
	/* What was listed so far is an answer; the rest comes with the next request. */
	return list->used > 0 && r != -EAGAIN ? 0 : r;
}

static int run_readdir(struct op *op, struct index_reader *reader)
{
	struct session *session = op->session;
	struct listing list = {.req = op->req, .size = op->len, .is_plus = op->is_plus};
	bool is_taken = false;
	int r;

	if (!inode_is_dir(op->inode))
		return -ENOTDIR;
	list.buf = op_io_buf(op->len);
	if (!list.buf)
		return -ENOMEM;
	if (reader)
		index_reader_hold(reader);
	r = fill_listing(op, reader, &list);
	if (reader)
		index_reader_let_go(reader);
	if (r == 0) {
		for (size_t i = 0; i < list.given_count; i++)
			lookup_give(list.given[i]);
		is_taken = reply_entries(op, list.buf, list.used);
	}
	for (size_t i = 0; i < list.given_count && !is_taken; i++) {
		if (r == 0)
			lookup_take(session, list.given[i], 1);
		else
			inode_unref(session->store->inodes, list.given[i], 1);
	}
	mem_free(list.given);
	return r;
}

static void readdir_from(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool is_plus)
{
	struct op *op = op_begin(req, run_readdir);

	if (!op)
		return;
	op->off = (uint64_t)off;
	op->len = MIN(size, (size_t)SESSION_WRITE_MAX);
	op->is_plus = is_plus;
	op_go(op, op_hold(op, ino));
}

void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	readdir_from(req, ino, size, off, false);
}

void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	(void)fi;
	readdir_from(req, ino, size, off, true);
}

static int run_fsyncdir(struct op *op, struct index_reader *reader)
{
	struct sequencer *sequencer = op->session->store->sequencer;

	(void)reader;
	sequencer_when_synced(sequencer, sequencer_last_seq(sequencer), op_waiter_reply(op));
	return OP_PENDING;
}

void ops_fsyncdir(fuse_req_t req, fuse_ino_t ino, int is_data_only, struct fuse_file_info *fi)
{
	struct op *op = op_begin(req, run_fsyncdir);

	(void)is_data_only;
	(void)fi;
	if (op)
		op_go(op, op_hold(op, ino));
}
