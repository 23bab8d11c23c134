/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second walk of converge.c: chunks in shards whose class asks for less than the policy of the
 * file's tree go to gc in batches, which copies them to shards of the right class.
 */
#include "store/converge_private.h"

#include "util/counter.h"
#include "util/hook.h"

#include <errno.h>

#define BATCH_BYTES  (64 * MIB) /* moved at once */
#define EXTENTS_PAGE 512u
#define WAIT_MS	     500u

static struct counter converge_chunks = COUNTER_INIT("converge_chunks",
						     "chunks to be moved to shards of a stronger policy");
COUNTER_REGISTER(converge_chunks);

/* Waits for what was begun; -EINTR: something else is to be done first. */
static int wait_moved(struct converge *converge)
{
	while (!gc_relocate_wait(converge->store->priv->gc, WAIT_MS))
		if (converge_is_interrupted(converge))
			return -EINTR;
	return 0;
}

int converge_flush_chunks(struct converge *converge)
{
	struct store *store = converge->store;
	struct shard_class class;
	struct policy policy;
	size_t count = converge->chunk_count;
	int r;

	converge->chunk_count = 0;
	converge->chunk_bytes = 0;
	if (count == 0)
		return 0;
	converge->is_left = true; /* the next walk sees what became of it */
	r = wait_moved(converge);
	if (r == 0)
		r = HOOK("converge-data-before");
	if (r < 0)
		return r;
	store_policy_of(store, converge->chunk_root, &policy);
	class = (struct shard_class){.policy_root = converge->chunk_root,
				     .priority = policy.priority,
				     .key_epoch = keyring_current_epoch(store->keyring)};
	r = gc_relocate(store->priv->gc, &class, converge->chunks, count);
	if (r == 0)
		counter_add(&converge_chunks, count);
	if (r == 0)
		r = wait_moved(converge);
	return r < 0 ? r : HOOK("converge-data-after");
}

static bool is_limited(const struct policy *policy)
{
	return policy->only[0] || policy->not[0];
}

/* What becomes of chunks of this shard that a file of the tree at root needs. */
static int judge_shard(struct converge *converge, uint64_t shard_no, uint64_t root,
		       struct verdict **out)
{
	struct verdict *verdict =
		&converge->verdicts[(shard_no * 31 + root) % VERDICTS];
	struct policy have, want;
	struct shard_row shard;
	int r;

	*out = verdict;
	if (verdict->is_known && verdict->shard_no == shard_no && verdict->root == root)
		return 0;
	r = index_get_shard(converge->store->index, converge->reader, shard_no, &shard);
	if (r < 0 && r != -ENOENT)
		return r;
	*verdict = (struct verdict){.shard_no = shard_no, .root = root, .is_known = true};
	if (r == -ENOENT || shard.policy_root == root)
		return 0;
	store_policy_of(converge->store, shard.policy_root, &have);
	store_policy_of(converge->store, root, &want);
	verdict->moves = is_limited(&want) || !policy_covers(&have, &want);
	/* what others share must not get less of anything */
	verdict->only_unshared = is_limited(&have) || is_limited(&want) ||
				 !policy_covers(&want, &have);
	return 0;
}

static int offer_chunk(struct converge *converge, uint64_t chunk_no, uint64_t root)
{
	struct verdict *verdict = NULL;
	struct chunk_row row;
	int r;

	if (chunk_no == 0 || chunk_no == converge->last_chunk)
		return 0;
	converge->last_chunk = chunk_no;
	r = index_get_chunk(converge->store->index, converge->reader, chunk_no, &row);
	if (r == 0)
		r = judge_shard(converge, row.shard_no, root, &verdict);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!verdict->moves || (verdict->only_unshared && row.refs > 1))
		return 0;
	if (converge->chunk_count == GC_RELOCATE_MAX || converge->chunk_bytes > BATCH_BYTES ||
	    (converge->chunk_count > 0 && converge->chunk_root != root))
		r = converge_flush_chunks(converge);
	if (r < 0)
		return r;
	converge->chunk_root = root;
	converge->chunks[converge->chunk_count++] = chunk_no;
	converge->chunk_bytes += row.stored_len;
	return 0;
}

struct pushing {
	struct waiter waiter;
	struct lock lock; /* LOCK_LEAF: guards the rest */
	struct cond told;
	bool is_told;
	int error;
};

static void pushed(struct waiter *waiter, int error)
{
	struct pushing *pushing = container_of(waiter, struct pushing, waiter);

	LOCK_SCOPE(&pushing->lock);
	pushing->is_told = true;
	pushing->error = error;
	cond_wake_all(&pushing->told);
}

/* What was written before its row changed is packed in the old class: it gets its extents now. */
static int push_dirty(struct converge *converge, uint64_t ino)
{
	struct store *store = converge->store;
	struct pushing pushing = {.waiter = {.done = pushed}};
	struct inode *inode = inode_find(store->inodes, ino);
	bool is_clean;

	if (!inode)
		return 0;
	lock_take(&inode->lock);
	is_clean = writer_is_clean(inode);
	lock_drop(&inode->lock);
	if (!is_clean) {
		lock_init(&pushing.lock, LOCK_LEAF);
		cond_init(&pushing.told);
		writer_push(store->writer, inode, &pushing.waiter);
		lock_take(&pushing.lock);
		while (!pushing.is_told)
			cond_wait(&pushing.told, &pushing.lock);
		lock_drop(&pushing.lock);
		cond_release(&pushing.told);
		lock_release(&pushing.lock);
		lock_take(&inode->lock);
		if (pushing.error < 0 && inode->write_error == 0)
			inode->write_error = pushing.error; /* it is the program's to hear */
		lock_drop(&inode->lock);
	}
	inode_unref(store->inodes, inode, 1);
	return pushing.error;
}

int converge_data_of_file(struct converge *converge, uint64_t ino)
{
	struct store *store = converge->store;
	struct inode_row row;
	uint64_t off = 0;
	int r = push_dirty(converge, ino);

	if (r == 0)
		r = index_get_inode(store->index, converge->reader, ino, &row);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	while (off < UINT64_MAX) {
		AUTO(extent_list) extents = ROW_LIST_INIT;

		r = index_find_extents(store->index, converge->reader, ino, off, UINT64_MAX - off,
				       EXTENTS_PAGE, &extents, &off);
		/* by its own row: with several names it may belong elsewhere */
		for (size_t i = 0; i < extents.count && r == 0; i++)
			r = offer_chunk(converge, extents.rows[i].chunk_no, row.policy_root);
		if (r < 0 || extents.count < EXTENTS_PAGE)
			break;
	}
	return r;
}
