/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One clone, from its checks to its name.
 *
 * A file is made without a name, like O_TMPFILE, and linked when it is whole:
 * what dies before that is an orphan like any other.  A tree is made under a
 * temporary name beside its place:
 *
 *   enlisted -> made -> dressed and filled -> renamed -> struck from the list
 *
 * Until it is renamed, everything of it can be taken away by that name.
 */
#include "store/clone_private.h"

#include "crypto/crypto.h"
#include "store/may_change.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/pending.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define ANCESTORS_MAX 65536u
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif

bool clone_is_cancelled(const struct clone *clone)
{
	return clone->watch->is_cancelled && clone->watch->is_cancelled(clone->watch->ctx);
}

int clone_admit(struct clone *clone)
{
	struct pending pending;
	int r;

	if (!store_may_write(clone->store, NULL))
		return -EROFS;
	pending_init(&pending);
	r = sequencer_admit(clone->store->sequencer, &pending.waiter);
	if (r == -EAGAIN)
		return pending_wait(&pending);
	pending_release(&pending);
	return r;
}

/* ---- checks ---- */

/* 1: dir is `inode` or lies below it. */
static int is_below(struct clone *clone, const struct inode *inode, struct inode *dir)
{
	uint64_t ino = dir->row.ino;

	for (unsigned depth = 0; depth < ANCESTORS_MAX; depth++) {
		struct inode *at;
		int r;

		if (ino == inode->row.ino)
			return 1;
		if (ino == INO_ROOT)
			return 0;
		r = inode_load(clone->store->inodes, clone->store->index, clone->reader, ino, &at);
		if (r < 0)
			return r;
		lock_take(&at->lock);
		ino = at->row.parent;
		lock_drop(&at->lock);
		inode_unref(clone->store->inodes, at, 1);
	}
	return -ELOOP;
}

static int check_place(struct clone *clone, struct inode *src, struct inode *parent,
		       struct bytes name)
{
	struct inode *there;
	bool is_dir = inode_is_dir(src);
	int r;

	if ((!is_dir && !inode_is_regular(src)) || ino_is_holder(src->row.ino)) {
		buf_printf(clone->why, "only files and directories are cloned");
		return -EINVAL;
	}
	if (!inode_is_dir(parent))
		return -ENOTDIR;
	lock_take(&parent->lock);
	r = inode_may_change(clone->store, parent, DIR_GAINS_ENTRY);
	if (r == 0 && is_dir) /* from its temporary name to its own */
		r = inode_may_change(clone->store, parent, DIR_LOSES_ENTRY);
	lock_drop(&parent->lock);
	if (r < 0) {
		buf_printf(clone->why, r == -EROFS ? "snapshots are changed by nobody"
						   : "the directory for it is locked, immutable or "
						     "append-only");
		return r;
	}
	r = names_lookup(clone->store, clone->reader, parent, name, &there);
	if (r == 0) {
		inode_unref(clone->store->inodes, there, 1);
		buf_printf(clone->why, "it is there already: choose another name, or remove it");
		return -EEXIST;
	}
	if (r != -ENOENT || !is_dir)
		return r == -ENOENT ? 0 : r;
	r = is_below(clone, src, parent);
	if (r > 0)
		buf_printf(clone->why, "a tree cannot be cloned into itself: choose a place outside of it");
	return r > 0 ? -EINVAL : r;
}

/* ---- a file ---- */

static int link_file(struct clone *clone, struct inode *file, struct inode *parent,
		     struct bytes name)
{
	int r = clone_admit(clone);

	return r < 0 ? r : names_link(clone->store, clone->reader, file, parent, name);
}

static int clone_file(struct clone *clone, struct inode *src, struct inode *parent,
		      struct bytes name, struct inode **out)
{
	struct names_new new_file = {.mode = S_IFREG | 0600};
	struct inode *file;
	int r = clone_admit(clone);

	if (r == 0)
		r = names_create_unnamed(clone->store, clone->reader, parent, &new_file, &file);
	if (r < 0)
		return r;
	r = clone_dress(clone, src, file);
	if (r == 0)
		r = link_file(clone, file, parent, name);
	if (r < 0) {
		inode_unref(clone->store->inodes, file, 1);
		return r;
	}
	clone->report->files++;
	clone->report->bytes += file->row.size;
	*out = file;
	return 0;
}

/* ---- a tree ---- */

static int build_tree(struct clone *clone, struct inode *src, struct inode *parent,
		      struct bytes temporary, struct inode **out)
{
	struct names_new new_dir = {.mode = S_IFDIR | 0700};
	struct inode *dir;
	int r = clone_admit(clone);

	if (r == 0)
		r = names_create(clone->store, clone->reader, parent, temporary, &new_dir, &dir);
	if (r < 0)
		return r;
	r = clone_dress(clone, src, dir);
	if (r == 0)
		r = clone_fill(clone, src->row.ino, dir);
	if (r < 0) {
		inode_unref(clone->store->inodes, dir, 1);
		return r;
	}
	clone->report->directories++;
	*out = dir;
	return 0;
}

static int name_tree(struct clone *clone, struct inode *parent, struct bytes temporary,
		     struct bytes name)
{
	struct inode *busy = NULL;
	int r = clone_admit(clone);

	if (r == 0)
		r = names_rename(clone->store, clone->reader, parent, temporary, parent, name,
				 RENAME_NOREPLACE, &busy);
	inode_unref(clone->store->inodes, busy, 1);
	return r;
}

static void take_away(struct clone *clone, struct inode *parent, struct bytes temporary)
{
	struct clone_watch watch = *clone->watch;
	int r;

	watch.is_cancelled = NULL; /* also what was cancelled goes */
	r = clone_remove_tree(clone->store, clone->reader, parent, temporary, &watch);
	if (r < 0 && r != -ENOENT)
		log_warn("clone-not-removed", "dir=%llu name=%.*s error=%s next=\"remove it\"",
			 (unsigned long long)parent->row.ino, (int)temporary.len,
			 (const char *)temporary.ptr, err_name(r));
}

/* A kill loses nothing of it from now on. */
static int wait_written(struct store *store)
{
	return sequencer_wait_written(store->sequencer, sequencer_last_seq(store->sequencer));
}

static int clone_tree(struct clone *clone, struct inode *src, struct inode *parent,
		      struct bytes name, struct inode **out)
{
	char room[48];
	struct bytes temporary;
	uint64_t number;
	int r = crypto_random(&number, sizeof(number));

	if (r == 0)
		r = clone_admit(clone);
	if (r == 0)
		r = clone_enlist(clone->store, parent->row.ino, number);
	if (r < 0)
		return r;
	temporary = clone_temporary_name(number, room);
	r = build_tree(clone, src, parent, temporary, out);
	if (r == 0) {
		r = HOOK("clone-name-before");
		if (r == 0)
			r = name_tree(clone, parent, temporary, name);
		if (r < 0)
			inode_unref(clone->store->inodes, STEAL(*out), 1);
	}
	if (r < 0)
		take_away(clone, parent, temporary);
	if (r == 0)
		clone->late_error = wait_written(clone->store);
	if (HOOK("clone-strike-before") == 0)
		clone_strike(clone->store, number); /* else a sweep finds nothing of that name */
	return r;
}

/* ---- the end ---- */

/* What came under another policy is brought to it in the background, as after a rename. */
static void converge(struct clone *clone, struct inode *root)
{
	struct store *store = clone->store;
	struct record *record = record_new();
	uint64_t seq, ino = root->row.ino;
	int r = record ? 0 : -ENOMEM;

	LOCK_SCOPE(&root->lock);
	if (r == 0) {
		record_put_inode(record, &root->row);
		r = converge_begin(store->priv->converge, record, &ino, 1);
		if (r < 0)
			record_free(record);
	}
	if (r == 0) {
		r = sequencer_submit(store->sequencer, record, &seq);
		converge_end(store->priv->converge, r == 0);
	}
	if (r == 0)
		root->last_seq = seq;
	else
		log_warn("clone-policy-late", "inode=%llu error=%s next=\"set its policy again\"",
			 (unsigned long long)ino, err_name(r));
}

static void explain(struct clone *clone, int error)
{
	AUTO(buf) where = BUF_INIT;

	if (clone->why->len > 0)
		return;
	for (size_t i = 0; i < clone->path.len; i++) {
		uint8_t c = clone->path.ptr[i];

		if (c < 0x20 || c >= 0x7f)
			buf_printf(&where, "\\x%02x", c);
		else
			buf_append(&where, bytes_of(&c, 1));
	}
	if (where.len > 0 && buf_str(&where))
		buf_printf(clone->why, "%s: ", buf_str(&where) + 1);
	if (error == -ECANCELED)
		buf_printf(clone->why, "cancelled; nothing of it is left");
	else if (error == -EMLINK)
		buf_printf(clone->why, "more than %u files with several names", CLONE_LINKS_MAX);
	else if (error == -ESTALE)
		buf_printf(clone->why, "somebody changed the unfinished clone, or its source ended");
	else if (error == -EBUSY)
		buf_printf(clone->why, "is written to all the time, or %u clones are under way",
			   CLONE_COUNT_MAX);
	else
		buf_printf(clone->why, "%s", err_sentence(error));
}

static void free_links(struct clone *clone)
{
	for (struct map_node *node = map_iterate(&clone->links, NULL), *next; node; node = next) {
		next = map_iterate(&clone->links, node);
		mem_free(container_of(node, struct clone_link, node));
	}
	map_release(&clone->links);
}

int store_clone(struct store *store, struct index_reader *reader, struct inode *src,
		struct inode *parent, struct bytes name, const struct clone_watch *watch,
		struct clone_report *report, struct buf *why)
{
	struct clone clone = {
		.store = store,
		.reader = reader,
		.watch = watch,
		.report = report,
		.why = why,
	};
	struct inode *root = NULL;
	int r;

	*report = (struct clone_report){0};
	r = check_place(&clone, src, parent, name);
	if (r == 0)
		r = inode_is_dir(src) ? clone_tree(&clone, src, parent, name, &root)
				      : clone_file(&clone, src, parent, name, &root);
	if (r == 0 && watch->entry_changed)
		watch->entry_changed(watch->ctx, parent->row.ino, name);
	if (r == 0 && clone.has_other_policy)
		converge(&clone, root);
	if (r == 0 && clone.late_error == 0)
		clone.late_error = wait_written(store);
	if (clone.late_error < 0) {
		buf_printf(why, "the clone is there, but not durable yet: %s",
			   err_sentence(clone.late_error));
		r = clone.late_error;
	}
	if (r < 0)
		explain(&clone, r);
	inode_unref(store->inodes, root, 1);
	free_links(&clone);
	buf_release(&clone.path);
	return r;
}
