/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One inode of a clone.
 *
 * A file is read without a lock: its row, its attributes, its extents.  Then it
 * is locked, and if its last_seq and its being clean are as they were, the
 * record is submitted: so what the clone gets was there at one moment, and as
 * the source's extents still name the chunks, none of them has gone.  What is
 * longer than one record takes comes in further ones, each with a size that
 * the bytes so far give; when the source changes in between, it begins again.
 */
#include "store/clone_private.h"

#include "store/acl.h"
#include "store/vxattr.h"
#include "util/hook.h"
#include "util/pending.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define EXTENTS_PAGE 1024u
#define CLONE_AGAIN  1 /* the source has changed meanwhile */
#define FLAGS_KEPT                                                                                 \
	(INODE_XATTR | INODE_ACL | INODE_ACL_DEFAULT | INODE_CAPABILITY | INODE_SPARSE |           \
	 INODE_NODUMP | INODE_NOATIME)

/* A source as it was when its last_seq was seq. */
struct source {
	struct inode *inode;
	struct inode_row row;
	uint64_t seq;
	uint64_t data_version; /* also moves before a snapshot loses what it saw */
};

static bool has_writers(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return inode->write_open_count > 0;
}

static bool is_clean(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return writer_is_clean(inode);
}

int clone_settle(struct clone *clone, struct inode *src)
{
	struct pending pending;

	if (has_writers(src) && clone->watch->write_back)
		clone->watch->write_back(clone->watch->ctx, src->row.ino);
	if (is_clean(src))
		return 0;
	pending_init(&pending);
	writer_push(clone->store->writer, src, &pending.waiter);
	return pending_wait(&pending);
}

static void see(struct inode *inode, struct source *out)
{
	LOCK_SCOPE(&inode->lock);
	*out = (struct source){
		.inode = inode,
		.row = inode->row,
		.seq = inode->last_seq,
		.data_version = inode->data_version,
	};
}

/* The source is locked. */
static bool is_as_seen(const struct source *src)
{
	return src->inode->last_seq == src->seq &&
	       src->inode->data_version == src->data_version &&
	       (!inode_is_regular(src->inode) || writer_is_clean(src->inode));
}

static int put_xattrs(struct clone *clone, const struct inode_row *src, struct record *record,
		      uint64_t ino)
{
	AUTO(buf) names = BUF_INIT;
	int r = 0;

	if (src->flags & INODE_XATTR)
		r = index_list_xattrs(clone->store->index, clone->reader, src->ino, &names);
	for (size_t at = 0; r == 0 && at < names.len;) {
		struct bytes name = bytes_of(names.ptr + at,
					     strnlen((char *)names.ptr + at, names.len - at));
		AUTO(buf) value = BUF_INIT;

		at += name.len + 1;
		if (vxattr_is(name)) /* a lock */
			continue;
		r = index_get_xattr(clone->store->index, clone->reader, src->ino, name, &value);
		if (r == -ENODATA) { /* gone meanwhile: last_seq tells */
			r = 0;
			continue;
		}
		if (r == 0)
			record_put_xattr(record, ino, name, buf_bytes(&value));
	}
	return r;
}

/* Extents of src from `off` on as dst's, one page of them. */
static int put_extents(struct clone *clone, const struct inode_row *src, uint64_t off,
		       struct record *record, uint64_t ino, uint64_t *end)
{
	AUTO(extent_list) list = ROW_LIST_INIT;
	int r;

	*end = src->size;
	if (off >= src->size)
		return 0;
	r = index_find_extents(clone->store->index, clone->reader, src->ino, off, src->size - off,
			       EXTENTS_PAGE, &list, end);
	for (size_t i = 0; r == 0 && i < list.count; i++) {
		list.rows[i].ino = ino;
		record_put_extent(record, &list.rows[i]);
	}
	return r;
}

static void dress_row(struct clone *clone, const struct inode_row *src, struct inode_row *row)
{
	uint64_t ino = row->ino, parent = row->parent, policy_root = row->policy_root;
	uint32_t nlink = row->nlink, orphan = row->flags & INODE_ORPHAN;

	*row = *src;
	row->ino = ino;
	row->parent = parent;
	row->nlink = nlink;
	row->flags = (src->flags & FLAGS_KEPT) | orphan;
	row->ctime = row->btime = clock_wall();
	row->policy_root = policy_root;
	if (S_ISREG(src->mode) && src->size > 0 && src->policy_root != policy_root)
		clone->has_other_policy = true;
}

/*
 * The rest of a file, from dst's recorded size on.  CLONE_AGAIN: the source is not as it was seen,
 * and dst is empty again.
 */
static int put_rest(struct clone *clone, const struct source *src, struct inode *dst)
{
	int r = 0;

	while (r == 0 && dst->row.size < src->row.size) {
		AUTO_PTR(record) record = record_new();
		struct inode_row row = dst->row;
		uint64_t seq;

		if (!record)
			return -ENOMEM;
		if (clone_is_cancelled(clone))
			return -ECANCELED;
		r = clone_admit(clone);
		if (r == 0)
			r = put_extents(clone, &src->row, row.size, record, row.ino, &row.size);
		if (r < 0)
			return r;
		lock_take_pair(&src->inode->lock, &dst->lock);
		if (!writer_is_clean(dst)) {
			r = -ESTALE;
		} else if (!is_as_seen(src)) {
			record_release(record);
			record_del_extents(record, row.ino, 0, UINT64_MAX);
			row.size = 0;
			r = CLONE_AGAIN;
		}
		if (r >= 0) {
			int submitted;

			record_put_inode(record, &row);
			submitted = sequencer_submit(clone->store->sequencer, STEAL(record), &seq);
			if (submitted < 0) {
				r = submitted;
			} else {
				inode_set_row(dst, &row);
				dst->size = row.size;
				dst->last_seq = seq;
				dst->data_version++;
				dst->is_sparse_known = false;
			}
		}
		lock_drop_pair(&src->inode->lock, &dst->lock);
	}
	return r;
}

/* A directory's or a file's attributes and first extents, in one record. */
static int dress_once(struct clone *clone, const struct source *src, struct inode *dst)
{
	AUTO_PTR(record) record = record_new();
	struct inode_row row;
	uint64_t seq;
	int r;

	if (!record)
		return -ENOMEM;
	lock_take(&dst->lock);
	row = dst->row;
	lock_drop(&dst->lock);
	/* what the directory's default ACL gave it */
	if (row.flags & INODE_ACL)
		record_del_xattr(record, row.ino, bytes_of_str(ACL_ACCESS_NAME));
	if (row.flags & INODE_ACL_DEFAULT)
		record_del_xattr(record, row.ino, bytes_of_str(ACL_DEFAULT_NAME));
	r = put_xattrs(clone, &src->row, record, row.ino);
	if (r < 0)
		return r;
	dress_row(clone, &src->row, &row);
	if (S_ISREG(row.mode))
		r = put_extents(clone, &src->row, 0, record, row.ino, &row.size);
	record_put_inode(record, &row);
	if (r < 0)
		return r;
	lock_take_pair(&src->inode->lock, &dst->lock);
	if (!is_as_seen(src))
		r = CLONE_AGAIN;
	else
		r = sequencer_submit(clone->store->sequencer, STEAL(record), &seq);
	if (r == 0) {
		inode_set_row(dst, &row);
		dst->size = row.size;
		dst->last_seq = seq;
		dst->data_version++;
		dst->is_sparse_known = false;
	}
	lock_drop_pair(&src->inode->lock, &dst->lock);
	return r == 0 && S_ISREG(row.mode) ? put_rest(clone, src, dst) : r;
}

int clone_dress(struct clone *clone, struct inode *src, struct inode *dst)
{
	for (unsigned i = 0; i < CLONE_TRIES_MAX; i++) {
		struct source seen;
		int r = inode_is_regular(src) ? clone_settle(clone, src) : 0;

		if (r < 0)
			return r;
		see(src, &seen);
		r = dress_once(clone, &seen, dst);
		if (r != CLONE_AGAIN)
			return r;
		if (clone_is_cancelled(clone))
			return -ECANCELED;
	}
	return -EBUSY;
}

/* ---- entries ---- */

static struct clone_link *find_link(struct clone *clone, uint64_t src)
{
	struct map_node *node = map_first(&clone->links, map_hash_u64(src));

	for (; node; node = map_next(node)) {
		struct clone_link *link = container_of(node, struct clone_link, node);

		if (link->src == src)
			return link;
	}
	return NULL;
}

static int note_link(struct clone *clone, const struct inode_row *src, uint64_t dst)
{
	struct clone_link *link;
	int r;

	if (S_ISDIR(src->mode) || src->nlink < 2)
		return 0;
	if (clone->links.count >= CLONE_LINKS_MAX)
		return -EMLINK;
	link = mem_alloc(sizeof(*link));
	if (!link)
		return -ENOMEM;
	*link = (struct clone_link){.src = src->ino, .dst = dst, .names_left = src->nlink - 1};
	r = map_insert(&clone->links, &link->node, map_hash_u64(src->ino));
	if (r < 0)
		mem_free(link);
	return r;
}

static void put_name(struct clone *clone, struct record *record, const struct clone_dir *dir,
		     const struct dirent_row *entry, uint64_t ino)
{
	record_put_dirent(record, dir->inode->row.ino,
			  atomic_fetch_add(&clone->store->next_cookie, 1),
			  bytes_of(entry->name, entry->name_len), ino, entry->type);
}

/* Takes the record; the directory is locked. */
static int submit_entry(struct clone *clone, struct clone_dir *dir, struct record *record,
			bool is_dir)
{
	struct inode_row row = dir->inode->row;
	uint64_t seq;
	int r = dir->inode->last_seq == dir->seq ? 0 : -ESTALE;

	if (is_dir) {
		row.nlink++;
		record_put_inode(record, &row);
	}
	if (r < 0) {
		record_free(record);
		return r;
	}
	r = sequencer_submit(clone->store->sequencer, record, &seq);
	if (r < 0)
		return r;
	inode_set_row(dir->inode, &row);
	dir->inode->last_seq = dir->seq = seq;
	return 0;
}

/* Another name of what the clone has already. */
static int put_link(struct clone *clone, struct clone_dir *dir, const struct dirent_row *entry,
		    struct clone_link *link)
{
	AUTO_PTR(record) record = record_new();
	struct store *store = clone->store;
	struct inode *inode;
	struct inode_row row;
	int r;

	if (!record)
		return -ENOMEM;
	r = inode_load(store->inodes, store->index, clone->reader, link->dst, &inode);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	lock_take_pair(&dir->inode->lock, &inode->lock);
	row = inode->row;
	row.nlink++;
	put_name(clone, record, dir, entry, row.ino);
	record_put_inode(record, &row);
	r = row.nlink == 1 ? -ESTALE : submit_entry(clone, dir, STEAL(record), false);
	if (r == 0) {
		inode_set_row(inode, &row);
		inode->last_seq = dir->seq;
	}
	lock_drop_pair(&dir->inode->lock, &inode->lock);
	inode_unref(store->inodes, inode, 1);
	if (r < 0)
		return r;
	clone->report->links++;
	if (--link->names_left == 0) {
		map_remove(&clone->links, &link->node);
		mem_free(link);
	}
	return 0;
}

static void count_entry(struct clone *clone, const struct inode_row *row)
{
	if (S_ISDIR(row->mode))
		clone->report->directories++;
	else if (S_ISREG(row->mode))
		clone->report->files++;
	else
		clone->report->others++;
	if (S_ISREG(row->mode))
		clone->report->bytes += row->size;
}

/* Everything of a new inode but its rest, in one record. */
static int put_new(struct clone *clone, struct clone_dir *dir, const struct dirent_row *entry,
		   const struct source *src, struct inode_row *row)
{
	AUTO_PTR(record) record = record_new();
	AUTO(buf) target = BUF_INIT;
	struct store *store = clone->store;
	int r;

	if (!record)
		return -ENOMEM;
	*row = (struct inode_row){
		.ino = atomic_fetch_add(&store->next_ino, 1),
		.nlink = S_ISDIR(src->row.mode) ? 2 : 1,
		.parent = dir->inode->row.ino,
		.policy_root = dir->inode->row.policy_root,
	};
	dress_row(clone, &src->row, row);
	r = put_xattrs(clone, &src->row, record, row->ino);
	if (r == 0 && S_ISREG(row->mode))
		r = put_extents(clone, &src->row, 0, record, row->ino, &row->size);
	if (r == 0 && S_ISLNK(row->mode))
		r = index_get_symlink(store->index, clone->reader, src->row.ino, &target);
	if (r < 0)
		return r;
	if (S_ISLNK(row->mode))
		record_put_symlink(record, row->ino, buf_bytes(&target));
	record_put_inode(record, row);
	put_name(clone, record, dir, entry, row->ino);
	lock_take_pair(&dir->inode->lock, &src->inode->lock);
	r = is_as_seen(src) ? submit_entry(clone, dir, STEAL(record), S_ISDIR(row->mode))
			    : CLONE_AGAIN;
	lock_drop_pair(&dir->inode->lock, &src->inode->lock);
	return r;
}

/* The inode of what was just made, and its rest if it has one. */
static int finish_new(struct clone *clone, const struct source *src, const struct inode_row *row,
		      struct inode **child)
{
	bool has_rest = S_ISREG(row->mode) && row->size < src->row.size;
	struct inode *inode;
	int r;

	if (!S_ISDIR(row->mode) && !has_rest)
		return 0;
	r = inode_load(clone->store->inodes, clone->store->index, clone->reader, row->ino, &inode);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (S_ISDIR(row->mode)) {
		*child = inode;
		return 0;
	}
	r = put_rest(clone, src, inode);
	if (r == CLONE_AGAIN)
		r = clone_dress(clone, src->inode, inode);
	inode_unref(clone->store->inodes, inode, 1);
	return r;
}

static int put_entry(struct clone *clone, struct clone_dir *dir, const struct dirent_row *entry,
		     struct inode *src, struct inode **child)
{
	int r = CLONE_AGAIN;

	for (unsigned i = 0; i < CLONE_TRIES_MAX && r == CLONE_AGAIN; i++) {
		struct inode_row row;
		struct source seen;

		if (clone_is_cancelled(clone))
			return -ECANCELED;
		r = inode_is_regular(src) ? clone_settle(clone, src) : 0;
		if (r < 0)
			return r;
		see(src, &seen);
		r = put_new(clone, dir, entry, &seen, &row);
		if (r != 0)
			continue;
		r = note_link(clone, &seen.row, row.ino);
		if (r == 0)
			r = finish_new(clone, &seen, &row, child);
		if (r == 0)
			count_entry(clone, &seen.row);
		return r;
	}
	return r == CLONE_AGAIN ? -EBUSY : r;
}

int clone_put_entry(struct clone *clone, struct clone_dir *dir, const struct dirent_row *entry,
		    struct inode **child)
{
	struct store *store = clone->store;
	struct clone_link *link = find_link(clone, entry->ino);
	struct inode *src;
	int r = clone_admit(clone);

	*child = NULL;
	if (r == 0)
		r = HOOK("clone-entry-before");
	if (r < 0)
		return r;
	if (link)
		return put_link(clone, dir, entry, link);
	r = inode_load(store->inodes, store->index, clone->reader, entry->ino, &src);
	if (r == -ENOENT)
		return 0; /* removed since the directory was read */
	if (r < 0)
		return r;
	r = put_entry(clone, dir, entry, src, child);
	inode_unref(store->inodes, src, 1);
	return r;
}
