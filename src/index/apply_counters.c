/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is below a directory.  A change adds to its own directory only; what is pending there goes up
 * the tree at the end of a batch, and before a directory moves, since its whole sum then changes
 * places.
 */
#include "index/apply_impl.h"

#include "util/log.h"

#include <inttypes.h>
#include <sys/stat.h>

#define TREE_DEPTH_MAX 65536 /* a walk up that is longer goes round in a circle */

static void counter_add_to(struct engine_counter *to, const struct engine_counter *delta, int sign)
{
	to->files += sign * delta->files;
	to->directories += sign * delta->directories;
	to->bytes += sign * delta->bytes;
}

static bool counter_is_zero(const struct engine_counter *counter)
{
	return counter->files == 0 && counter->directories == 0 && counter->bytes == 0;
}

/* Adds delta to directory ino and all above it. */
static int counter_walk_up(struct apply *apply, uint64_t ino, const struct engine_counter *delta)
{
	struct counter_node *counter;
	struct inode_node *inode;
	int r;

	for (unsigned depth = 0; depth < TREE_DEPTH_MAX; depth++) {
		r = apply_get_inode(apply, ino, &inode);
		if (r < 0)
			return r;
		if (!inode->exists || !S_ISDIR(inode->row.mode))
			return 0;
		r = apply_get_counter(apply, ino, &counter);
		if (r < 0)
			return r;
		counter_add_to(&counter->counter, delta, 1);
		counter->is_dirty = true;
		if (ino == INO_ROOT || (inode->row.flags & INODE_ORPHAN))
			return 0;
		ino = inode->row.parent;
	}
	log_error("index-directory-loop", "ino=%" PRIu64, ino);
	return 0;
}

int apply_settle_counters(struct apply *apply)
{
	for (struct counter_node *at = apply->counter_list; at != NULL; at = at->next) {
		struct engine_counter pending = at->pending;
		int r;

		if (counter_is_zero(&pending))
			continue;
		at->pending = (struct engine_counter){0};
		r = counter_walk_up(apply, at->counter.ino, &pending);
		if (r < 0)
			return r;
	}
	return 0;
}

int apply_flush_counters(struct apply *apply)
{
	int r = apply_settle_counters(apply);

	for (struct counter_node *at = apply->counter_list; at != NULL && r == 0; at = at->next) {
		if (!at->is_dirty)
			continue;
		at->counter.as_of = apply->seq;
		r = apply->conn->ops->put_counter(apply->conn, &at->counter);
		at->is_dirty = false;
	}
	return r;
}

static bool counts(const struct inode_row *row)
{
	return row->ino != INO_ROOT && !(row->flags & INODE_ORPHAN);
}

static struct engine_counter own_count(const struct inode_row *row)
{
	return (struct engine_counter){
		.files = !S_ISDIR(row->mode),
		.directories = S_ISDIR(row->mode),
		.bytes = S_ISREG(row->mode) ? (int64_t)row->size : 0,
	};
}

static int count_pending(struct apply *apply, uint64_t dir, const struct engine_counter *delta,
			 int sign)
{
	struct counter_node *node;
	int r;

	if (counter_is_zero(delta))
		return 0;
	r = apply_get_counter(apply, dir, &node);
	if (r == 0)
		counter_add_to(&node->pending, delta, sign);
	return r;
}

/* An inode changes from old to new; NULL: it does not exist. */
int apply_count_inode(struct apply *apply, const struct inode_row *old,
		       const struct inode_row *new)
{
	bool old_counts = old != NULL && counts(old), new_counts = new != NULL && counts(new);
	struct engine_counter old_sum = {0}, new_sum = {0};
	int r = 0;

	if (old_counts)
		old_sum = own_count(old);
	if (new_counts)
		new_sum = own_count(new);
	if (old_counts && new_counts && old->parent == new->parent) {
		counter_add_to(&new_sum, &old_sum, -1);
		return count_pending(apply, new->parent, &new_sum, 1);
	}
	if (old != NULL && S_ISDIR(old->mode)) {
		struct counter_node *below;

		r = apply_settle_counters(apply);
		if (r == 0)
			r = apply_get_counter(apply, old->ino, &below);
		if (r < 0)
			return r;
		if (old_counts)
			counter_add_to(&old_sum, &below->counter, 1);
		if (new_counts)
			counter_add_to(&new_sum, &below->counter, 1);
		if (new == NULL) {
			below->counter = (struct engine_counter){.ino = old->ino};
			below->is_dirty = false;
		}
	}
	if (old_counts)
		r = count_pending(apply, old->parent, &old_sum, -1);
	if (r == 0 && new_counts)
		r = count_pending(apply, new->parent, &new_sum, 1);
	return r;
}
