/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk: depth first, a page of names at a time, so memory grows with the
 * depth of the tree and not with its size.
 */
#include "store/clone_private.h"

#include <dirent.h>
#include <errno.h>

#define PAGE	       256u
#define DEPTH_MAX      65536u
#define PROGRESS_EVERY 256u

/* A directory being walked. */
struct frame {
	uint64_t src;
	struct clone_dir dst;
	struct dirent_list page;
	size_t at;	/* in page */
	uint64_t after; /* cookie of the last one in page */
	bool is_last;	/* page */
	size_t path_len;
};

struct walk {
	struct clone *clone;
	struct frame *frames;
	size_t count, capacity;
	uint64_t entries;
};

static void pop(struct walk *walk)
{
	struct frame *frame = &walk->frames[--walk->count];

	dirent_list_release(&frame->page);
	inode_unref(walk->clone->store->inodes, frame->dst.inode, 1);
	walk->clone->path.len = frame->path_len;
}

/* Takes the reference of dst, also on failure. */
static int push(struct walk *walk, uint64_t src, struct inode *dst, size_t path_len)
{
	struct frame *frame;

	if (walk->count == walk->capacity && walk->count < DEPTH_MAX) {
		size_t capacity = walk->capacity ? 2 * walk->capacity : 16;
		struct frame *frames = mem_realloc_array(walk->frames, capacity, sizeof(*frames));

		if (frames) {
			walk->frames = frames;
			walk->capacity = capacity;
		}
	}
	if (walk->count == walk->capacity) {
		inode_unref(walk->clone->store->inodes, dst, 1);
		return walk->count >= DEPTH_MAX ? -ELOOP : -ENOMEM;
	}
	frame = &walk->frames[walk->count++];
	*frame = (struct frame){.src = src, .dst.inode = dst, .path_len = path_len};
	lock_take(&dst->lock);
	frame->dst.seq = dst->last_seq;
	lock_drop(&dst->lock);
	return 0;
}

/* The next name, or NULL at the end of the directory. */
static int next_entry(struct walk *walk, struct frame *frame, const struct dirent_row **out)
{
	*out = NULL;
	if (frame->at == frame->page.count) {
		int r;

		if (frame->is_last)
			return 0;
		dirent_list_release(&frame->page);
		frame->page = (struct dirent_list)ROW_LIST_INIT;
		frame->at = 0;
		r = index_list_dirents(walk->clone->store->index, walk->clone->reader, frame->src,
				       frame->after, PAGE, &frame->page);
		if (r < 0)
			return r;
		frame->is_last = frame->page.count < PAGE;
		if (frame->page.count == 0)
			return 0;
		frame->after = frame->page.rows[frame->page.count - 1].cookie;
	}
	*out = &frame->page.rows[frame->at++];
	return 0;
}

/* A directory with a policy of its own has it in the clone too; one in a snapshot, that of today. */
static int copy_policy(struct clone *clone, uint64_t src, struct inode *dst)
{
	char text[POLICY_TEXT_SIZE];
	struct policy policy;

	src = ino_without_snapshot(src);
	if (src == INO_ROOT || !policies_has(clone->store->priv->policies, src))
		return 0;
	store_policy_of(clone->store, src, &policy);
	if (policy_print(&policy, text) < 0)
		return -EIO;
	return store_set_policy(clone->store, dst, text, clone->why);
}

static int step(struct walk *walk)
{
	struct clone *clone = walk->clone;
	struct frame *frame = &walk->frames[walk->count - 1];
	const struct dirent_row *entry;
	struct inode *child = NULL;
	size_t path_len = clone->path.len;
	uint64_t src;
	int r = next_entry(walk, frame, &entry);

	if (r < 0)
		return r;
	if (!entry) {
		pop(walk);
		return 0;
	}
	src = entry->ino;
	if (src == walk->frames[0].dst.inode->row.ino)
		return -ESTALE; /* somebody moved the unfinished clone into its source */
	r = buf_append(&clone->path, bytes_of("/", 1));
	if (r == 0)
		r = buf_append(&clone->path, bytes_of(entry->name, entry->name_len));
	if (r == 0)
		r = clone_put_entry(clone, &frame->dst, entry, &child);
	if (r < 0)
		return r; /* the path stays, for the message */
	if (walk->entries++ % PROGRESS_EVERY == 0 && clone->watch->progress)
		clone->watch->progress(clone->watch->ctx, clone->report);
	if (!child) {
		clone->path.len = path_len;
		return 0;
	}
	r = copy_policy(clone, src, child);
	if (r == 0)
		return push(walk, src, child, path_len);
	inode_unref(clone->store->inodes, child, 1);
	return r;
}

int clone_fill(struct clone *clone, uint64_t src, struct inode *dst)
{
	struct walk walk = {.clone = clone};
	int r = copy_policy(clone, src, dst);

	if (r < 0)
		return r;
	inode_ref(dst, 1);
	r = push(&walk, src, dst, clone->path.len);
	while (r == 0 && walk.count > 0)
		r = step(&walk);
	if (r < 0) { /* the path says where: pop would cut it */
		for (size_t i = 0; i < walk.count; i++)
			walk.frames[i].path_len = clone->path.len;
	}
	while (walk.count > 0)
		pop(&walk);
	mem_free(walk.frames);
	return r;
}
