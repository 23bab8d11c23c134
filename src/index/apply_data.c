/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks and the extents that name them.  chunk.refs counts the extents, those of the history too; a
 * shard's live bytes follow from refs that cross 0.
 */
#include "index/apply_impl.h"

#include "util/hook.h"
#include "util/log.h"

#include <inttypes.h>

/* ---- chunks ---- */

/* Adds to a shard's sums: the stored bytes of a chunk, which may be alive. */
static int sum_shard(struct apply *apply, const struct chunk_row *chunk, int total_sign,
		     int live_sign)
{
	struct shard_node *shard;
	int r = apply_get_shard(apply, chunk->shard_no, &shard);

	if (r < 0)
		return r;
	shard->row.total_bytes += (uint64_t)(int64_t)total_sign * chunk->stored_len;
	shard->row.live_bytes += (uint64_t)(int64_t)live_sign * chunk->stored_len;
	shard->is_dirty = true;
	return 0;
}

int apply_ref_chunk(struct apply *apply, uint64_t chunk_no, int delta)
{
	struct chunk_node *chunk;
	uint64_t refs;
	int r;

	if (chunk_no == 0 || delta == 0)
		return 0;
	if (apply->chunks.count >= APPLY_ROWS_MAX) {
		r = apply_flush_chunks(apply);
		if (r < 0)
			return r;
		apply_clear_chunks(apply);
		apply->stored_highest.chunk_no = apply->meta.highest.chunk_no;
	}
	r = apply_get_chunk(apply, chunk_no, &chunk);
	if (r < 0)
		return r;
	refs = chunk->row.refs;
	if (delta < 0 && refs < (uint64_t)-delta) {
		log_error("index-refs-wrong", "chunk=%" PRIu64 " refs=%" PRIu64, chunk_no, refs);
		return 0;
	}
	chunk->row.refs += (uint64_t)(int64_t)delta;
	chunk->is_dirty = true;
	if (!chunk->exists || (refs == 0) == (chunk->row.refs == 0))
		return 0;
	return sum_shard(apply, &chunk->row, 0, refs == 0 ? 1 : -1);
}

/* The chunk comes to (1) or leaves (-1) its shard. */
static int sum_chunk(struct apply *apply, const struct chunk_row *chunk, int sign)
{
	apply->meta.chunks += (uint64_t)sign;
	apply->meta.chunk_stored_bytes += (uint64_t)(int64_t)sign * chunk->stored_len;
	return sum_shard(apply, chunk, sign, chunk->refs > 0 ? sign : 0);
}

int apply_chunk_put(struct apply *apply, const struct change *change)
{
	struct chunk_node *node;
	uint64_t refs;
	int r = apply_get_chunk(apply, change->u.chunk.chunk_no, &node);

	if (r == 0 && node->exists)
		r = sum_chunk(apply, &node->row, -1);
	if (r < 0)
		return r;
	refs = node->row.refs;
	node->row = change->u.chunk;
	node->row.refs = refs;
	node->exists = node->is_dirty = true;
	apply->meta.highest.chunk_no = MAX(apply->meta.highest.chunk_no, node->row.chunk_no);
	return sum_chunk(apply, &node->row, 1);
}

int apply_chunk_del(struct apply *apply, const struct change *change)
{
	struct chunk_node *node;
	int r = apply_get_chunk(apply, change->u.chunk.chunk_no, &node);

	if (r < 0 || !node->exists || node->row.refs > 0)
		return r;
	r = sum_chunk(apply, &node->row, -1);
	node->exists = false;
	node->is_dirty = true;
	return r;
}

/* ---- extents ---- */

struct drop {
	struct apply *apply;
	struct engine_version version; /* in which it dies */
	uint64_t off, end; /* what is dropped */
	uint64_t first;    /* where the first row begins; only with count > 0 */
	uint64_t count;
	struct extent_row left, right; /* what stays of the outermost rows; len 0: nothing */
	uint64_t left_birth, right_birth;
};

/* The part [off, end) of an extent. */
static struct extent_row cut_extent(const struct extent_row *extent, uint64_t off, uint64_t end)
{
	struct extent_row part = *extent;

	part.off = off;
	part.len = (uint32_t)(end - off);
	if (extent->chunk_no != 0)
		part.chunk_off = (uint32_t)(extent->chunk_off + (off - extent->off));
	return part;
}

static int drop_extent(void *ctx, const struct extent_row *extent, uint64_t birth)
{
	struct drop *drop = ctx;
	struct apply *apply = drop->apply;
	uint64_t end = extent->off + extent->len;
	bool is_kept = apply_is_seen(drop->version, birth);
	int refs = is_kept && !HOOK_BROKEN("snapshot-unreferenced") ? 0 : -1;
	int r = 0;

	if (drop->count++ == 0)
		drop->first = extent->off;
	if (extent->off < drop->off) {
		drop->left = cut_extent(extent, extent->off, drop->off);
		drop->left_birth = birth;
		refs++;
	}
	if (end > drop->end) {
		drop->right = cut_extent(extent, drop->end, end);
		drop->right_birth = birth;
		refs++;
	}
	if (is_kept) {
		struct extent_row part = cut_extent(extent, MAX(extent->off, drop->off),
						    MIN(end, drop->end));

		r = apply->conn->ops->put_old_extent(apply->conn, &part, birth,
						      drop->version.seq);
	}
	return r < 0 ? r : apply_ref_chunk(apply, extent->chunk_no, refs);
}

static int learn_extents_end(struct apply *apply, struct inode_node *inode)
{
	if (inode->extents_end != APPLY_EXTENTS_UNKNOWN)
		return 0;
	return apply->conn->ops->last_extent_end(apply->conn, inode->row.ino,
						 &inode->extents_end);
}

/*
 * Makes [off, end) a hole.  One pass over the rows in range, which only counts; then one
 * deletion of them all; then the two outer remains.  Linear in the rows.
 */
int apply_drop_extents(struct apply *apply, uint64_t ino, uint64_t off, uint64_t end)
{
	const struct engine_ops *ops = apply->conn->ops;
	struct drop drop = {.apply = apply, .off = off, .end = end};
	struct inode_node *inode;
	int r = apply_get_inode(apply, ino, &inode);

	if (r == 0)
		r = learn_extents_end(apply, inode);
	if (r < 0 || off >= inode->extents_end)
		return r;
	drop.version = apply_version_of(apply, inode);
	r = ops->visit_extents(apply->conn, ino, off, end, drop_extent, &drop);
	if (r == 0 && drop.count > 0)
		r = ops->del_extents(apply->conn, ino, drop.first, end);
	if (r == 0 && drop.left.len > 0)
		r = ops->put_extent(apply->conn, &drop.left, drop.left_birth);
	if (r == 0 && drop.right.len > 0)
		r = ops->put_extent(apply->conn, &drop.right, drop.right_birth);
	if (end >= inode->extents_end)
		inode->extents_end = off;
	return r;
}

int apply_extent_put(struct apply *apply, const struct change *change)
{
	const struct extent_row *extent = &change->u.extent;
	uint64_t end = extent->off + extent->len;
	struct inode_node *inode;
	int r;

	if (apply->death != 0) {
		r = apply->conn->ops->put_old_extent(apply->conn, extent, apply_birth_now(apply),
						     apply->death);
		return r < 0 ? r : apply_ref_chunk(apply, extent->chunk_no, 1);
	}
	r = apply_drop_extents(apply, extent->ino, extent->off, end);
	if (r == 0)
		r = apply_get_inode(apply, extent->ino, &inode);
	if (r == 0)
		r = apply->conn->ops->put_extent(apply->conn, extent, apply_birth_now(apply));
	if (r < 0)
		return r;
	inode->extents_end = MAX(inode->extents_end, end);
	apply->meta.highest.ino = MAX(apply->meta.highest.ino, extent->ino);
	return apply_ref_chunk(apply, extent->chunk_no, 1);
}

int apply_extent_del(struct apply *apply, const struct change *change)
{
	uint64_t off = change->u.range.off;
	uint64_t end = off + MIN(change->u.range.len, INT64_MAX - off);

	return apply_drop_extents(apply, change->u.range.ino, off, end);
}
