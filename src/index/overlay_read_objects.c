/* SPDX-License-Identifier: Apache-2.0 */
/* The overlay: reading chunks, shards, copies and the small tables; overlay_read.c has the rules. */
#include "index/overlay_impl.h"

#include "index/copy_pack.h"

#include <errno.h>

/* ---- chunks ---- */

static struct chunk_entry *chunk_of(struct tree_node *at)
{
	return container_of(container_of(at, struct entry, tree), struct chunk_entry, entry);
}

int overlay_find_chunk(struct overlay *overlay, const struct chunk_id *id, struct chunk_row *out)
{
	struct stripe *stripe = &overlay->objects;
	uint64_t hash = map_hash_bytes(0, id->b, sizeof(id->b));

	LOCK_SCOPE(&stripe->lock);
	for (struct map_node *at = map_first(&stripe->chunk_ids, hash); at; at = map_next(at)) {
		struct chunk_entry *chunk = container_of(at, struct chunk_entry, by_id);

		if (chunk->is_dying || memcmp(chunk->row.id.b, id->b, sizeof(id->b)) != 0)
			continue;
		*out = chunk->row;
		return 0;
	}
	return -EAGAIN;
}

int overlay_get_chunk(struct overlay *overlay, uint64_t chunk_no, struct chunk_row *out)
{
	struct stripe *stripe = &overlay->objects;
	struct tree_node *at;

	LOCK_SCOPE(&stripe->lock);
	at = tree_find(&stripe->objects[ENTRY_CHUNK], (struct tree_key){chunk_no, 0});
	if (at != NULL && chunk_of(at)->has_row) {
		*out = chunk_of(at)->row;
		return 0;
	}
	return overlay_is_beyond(&overlay->stored_chunk, chunk_no) ? -ENOENT : -EAGAIN;
}

int overlay_merge_found_chunk(struct overlay_look *look, uint64_t chunk_no)
{
	struct stripe *stripe = look->stripe;
	struct tree_node *at;

	LOCK_SCOPE(&stripe->lock);
	if (overlay_look_check_locked(look) < 0)
		return -ESTALE;
	at = tree_find(&stripe->objects[ENTRY_CHUNK], (struct tree_key){chunk_no, 0});
	return at != NULL && chunk_of(at)->is_dying ? -ENOENT : 0;
}

static struct chunk_entry *chunk_in_shard(struct tree_node *at, uint64_t shard_no)
{
	return at != NULL && at->key.major == shard_no
		       ? container_of(at, struct chunk_entry, by_shard)
		       : NULL;
}

int overlay_merge_chunks(struct overlay_look *look, uint64_t shard_no, uint64_t after,
			 size_t count_max, const struct chunk_list *engine, uint64_t engine_end,
			 struct chunk_list *out, uint64_t *end)
{
	struct stripe *stripe = look->stripe;
	struct chunk_entry *chunk;
	size_t at = 0, added = 0;

	LOCK_SCOPE(&stripe->lock);
	if (overlay_look_check_locked(look) < 0)
		return -ESTALE;
	chunk = chunk_in_shard(tree_at_or_after(&stripe->chunks_of_shard,
						(struct tree_key){shard_no, after + 1}),
			       shard_no);
	*end = after;
	while (added < count_max) {
		const struct chunk_row *row = at < engine->count ? &engine->rows[at] : NULL;
		const struct chunk_row *merged;
		struct tree_node *overlaid;

		if (chunk != NULL && chunk->row.chunk_no > engine_end)
			chunk = NULL;
		if (chunk == NULL && row == NULL) {
			*end = engine_end;
			return 0;
		}
		if (chunk != NULL && (row == NULL || chunk->row.chunk_no <= row->chunk_no)) {
			merged = &chunk->row;
			at += row != NULL && row->chunk_no == merged->chunk_no;
			chunk = chunk_in_shard(tree_next(&chunk->by_shard), shard_no);
		} else {
			merged = row;
			at++;
			overlaid = tree_find(&stripe->objects[ENTRY_CHUNK],
					     (struct tree_key){row->chunk_no, 0});
			if (overlaid != NULL && chunk_of(overlaid)->has_row)
				continue; /* moved to another shard */
		}
		if (chunk_list_add(out, merged) < 0)
			return -ENOMEM;
		*end = merged->chunk_no;
		added++;
	}
	return 0;
}

/* ---- shards and copies ---- */

static struct entry *find_object(struct stripe *stripe, enum entry_kind kind, uint64_t major,
				 uint64_t minor)
{
	struct tree_node *at =
		tree_find(&stripe->objects[kind], (struct tree_key){major, minor});

	return at != NULL ? container_of(at, struct entry, tree) : NULL;
}

static struct entry *next_object(struct stripe *stripe, enum entry_kind kind, uint64_t after)
{
	struct tree_node *at = after == UINT64_MAX
				       ? NULL
				       : tree_at_or_after(&stripe->objects[kind],
							  (struct tree_key){after + 1, 0});

	return at != NULL ? container_of(at, struct entry, tree) : NULL;
}

int overlay_get_shard(struct overlay *overlay, uint64_t shard_no, struct shard_row *out)
{
	struct stripe *stripe = &overlay->objects;
	struct entry *entry;

	LOCK_SCOPE(&stripe->lock);
	entry = find_object(stripe, ENTRY_SHARD, shard_no, 0);
	if (entry == NULL)
		return overlay_is_beyond(&overlay->stored_shard, shard_no) ? -ENOENT : -EAGAIN;
	if (entry->is_deleted)
		return -ENOENT;
	*out = container_of(entry, struct shard_entry, entry)->row;
	return 0;
}

static bool is_shard_gone(struct stripe *stripe, uint64_t shard_no)
{
	struct entry *shard = find_object(stripe, ENTRY_SHARD, shard_no, 0);

	return shard != NULL && shard->is_deleted;
}

int overlay_merge_copies(struct overlay_look *look, uint64_t shard_no,
			 const struct copy_list *engine, struct copy_list *out)
{
	struct stripe *stripe = look->stripe;
	AUTO(copy_list) merged = ROW_LIST_INIT;
	struct tree_node *at;
	int r = 0;

	LOCK_SCOPE(&stripe->lock);
	if (overlay_look_check_locked(look) < 0)
		return -ESTALE;
	if (!is_shard_gone(stripe, shard_no))
		for (size_t i = 0; i < engine->count && r == 0; i++)
			r = copy_list_put(&merged, &engine->rows[i]);
	at = tree_at_or_after(&stripe->objects[ENTRY_COPY], (struct tree_key){shard_no, 0});
	for (; at != NULL && at->key.major == shard_no && r == 0; at = tree_next(at)) {
		struct entry *entry = container_of(at, struct entry, tree);

		if (entry->is_deleted)
			copy_list_del(&merged, (uint32_t)at->key.minor);
		else
			r = copy_list_put(&merged,
					  &container_of(entry, struct copy_entry, entry)->row);
	}
	for (size_t i = 0; i < merged.count && r == 0; i++)
		r = copy_list_add(out, &merged.rows[i]);
	return r;
}

static const struct copy_row *overlaid_copy(struct tree_node *node, uint32_t state)
{
	struct entry *entry = container_of(node, struct entry, tree);
	const struct copy_row *row = &container_of(entry, struct copy_entry, entry)->row;

	return entry->is_deleted || row->state != state ? NULL : row;
}

int overlay_merge_copies_in_state(struct overlay_look *look, uint32_t state, uint64_t after,
				  size_t count_max, const struct copy_list *engine,
				  uint64_t engine_end, struct copy_list *out, uint64_t *end)
{
	struct stripe *stripe = look->stripe;
	struct tree_node *node;
	size_t at = 0, added = 0;
	uint64_t last = after;
	int r = 0;

	LOCK_SCOPE(&stripe->lock);
	if (overlay_look_check_locked(look) < 0)
		return -ESTALE;
	node = after == UINT64_MAX ? NULL
				   : tree_at_or_after(&stripe->objects[ENTRY_COPY],
						      (struct tree_key){after + 1, 0});
	while (r == 0) {
		const struct copy_row *row = at < engine->count ? &engine->rows[at] : NULL;
		const struct copy_row *pick = row;
		bool is_overlaid, is_same;
		uint64_t shard_no;

		if (node != NULL && node->key.major > engine_end)
			node = NULL;
		if (node == NULL && row == NULL) {
			last = engine_end;
			break;
		}
		is_same = node != NULL && row != NULL && node->key.major == row->shard_no &&
			  node->key.minor == row->provider_no;
		is_overlaid = node != NULL &&
			      (row == NULL || is_same || node->key.major < row->shard_no ||
			       (node->key.major == row->shard_no &&
				node->key.minor < row->provider_no));
		shard_no = is_overlaid ? node->key.major : row->shard_no;
		if (added >= count_max && shard_no != last)
			break; /* whole shards */
		last = shard_no;
		if (is_overlaid) {
			pick = overlaid_copy(node, state);
			node = tree_next(node);
			at += is_same;
		} else {
			at++;
			if (is_shard_gone(stripe, shard_no))
				pick = NULL;
		}
		if (pick == NULL)
			continue;
		r = copy_list_add(out, pick);
		added++;
	}
	*end = last;
	return r;
}

/* ---- tables with one number as key ---- */

#define DEFINE_MERGE(T, KIND, field)                                                               \
	static int merge_##T##s_locked(struct stripe *stripe, uint64_t after, size_t count_max,    \
				       const struct T##_list *engine, uint64_t engine_end,         \
				       struct T##_list *out, uint64_t *end)                        \
	{                                                                                          \
		struct entry *entry = next_object(stripe, KIND, after);                            \
		size_t at = 0, added = 0;                                                          \
                                                                                                   \
		*end = after;                                                                      \
		while (added < count_max) {                                                        \
			const struct T##_row *row = at < engine->count ? &engine->rows[at] : NULL; \
			const struct T##_row *pick = row;                                          \
			uint64_t number;                                                           \
                                                                                                   \
			if (entry != NULL && entry->tree.key.major > engine_end)                   \
				entry = NULL;                                                      \
			if (entry == NULL && row == NULL) {                                        \
				*end = engine_end;                                                 \
				return 0;                                                          \
			}                                                                          \
			if (entry != NULL &&                                                       \
			    (row == NULL || entry->tree.key.major <= row->field)) {                \
				number = entry->tree.key.major;                                    \
				at += row != NULL && row->field == number;                           \
				pick = entry->is_deleted                                           \
					       ? NULL                                              \
					       : &container_of(entry, struct T##_entry, entry)     \
							  ->row;                                   \
				entry = next_object(stripe, KIND, number);                         \
			} else {                                                                   \
				number = row->field;                                                 \
				at++;                                                              \
			}                                                                          \
			*end = number;                                                             \
			if (pick == NULL)                                                          \
				continue;                                                          \
			if (T##_list_add(out, pick) < 0)                                           \
				return -ENOMEM;                                                    \
			added++;                                                                   \
		}                                                                                  \
		return 0;                                                                          \
	}
DEFINE_MERGE(shard, ENTRY_SHARD, shard_no)
DEFINE_MERGE(provider, ENTRY_PROVIDER, provider_no)
DEFINE_MERGE(policy, ENTRY_POLICY, root)
DEFINE_MERGE(snapshot, ENTRY_SNAPSHOT, snapshot_no)

/* The sums of a shard are the engine's: an entry of the overlay does not know them. */
static void keep_sums(struct shard_row *row, const struct shard_list *engine, size_t *at)
{
	while (*at < engine->count && engine->rows[*at].shard_no < row->shard_no)
		(*at)++;
	if (*at == engine->count || engine->rows[*at].shard_no != row->shard_no)
		return;
	row->live_bytes = engine->rows[*at].live_bytes;
	row->total_bytes = engine->rows[*at].total_bytes;
}

int overlay_merge_shards(struct overlay_look *look, uint64_t after, size_t count_max,
			 const struct shard_list *engine, uint64_t engine_end,
			 struct shard_list *out, uint64_t *end)
{
	size_t first = out->count, at = 0;
	int r;

	LOCK_SCOPE(&look->stripe->lock);
	if (overlay_look_check_locked(look) < 0)
		return -ESTALE;
	r = merge_shards_locked(look->stripe, after, count_max, engine, engine_end, out, end);
	for (size_t i = first; i < out->count && r == 0; i++)
		keep_sums(&out->rows[i], engine, &at);
	return r;
}

#define DEFINE_MERGE_WHOLE(T, plural)                                                              \
	int overlay_merge_##plural(struct overlay_look *look, const struct T##_list *engine,       \
				   struct T##_list *out)                                           \
	{                                                                                          \
		uint64_t end;                                                                      \
                                                                                                   \
		LOCK_SCOPE(&look->stripe->lock);                                                   \
		if (overlay_look_check_locked(look) < 0)                                                   \
			return -ESTALE;                                                            \
		return merge_##T##s_locked(look->stripe, 0, SIZE_MAX, engine, UINT64_MAX, out,     \
					   &end);                                                  \
	}
DEFINE_MERGE_WHOLE(provider, providers)
DEFINE_MERGE_WHOLE(policy, policies)
DEFINE_MERGE_WHOLE(snapshot, snapshots)

int overlay_merge_orphans(struct overlay_look *look, uint64_t after, size_t count_max,
			  const uint64_t *engine, size_t engine_count, uint64_t engine_end,
			  uint64_t *inos, size_t *count, uint64_t *end)
{
	struct stripe *stripe = look->stripe;
	struct entry *entry;
	size_t at = 0, added = 0;

	LOCK_SCOPE(&stripe->lock);
	if (overlay_look_check_locked(look) < 0)
		return -ESTALE;
	entry = next_object(stripe, ENTRY_ORPHAN, after);
	*end = after;
	while (added < count_max) {
		uint64_t ino;
		bool is_there = true;

		if (entry != NULL && entry->tree.key.major > engine_end)
			entry = NULL;
		if (entry == NULL && at == engine_count) {
			*end = engine_end;
			break;
		}
		if (entry != NULL && (at == engine_count || entry->tree.key.major <= engine[at])) {
			ino = entry->tree.key.major;
			is_there = !entry->is_deleted;
			at += at < engine_count && engine[at] == ino;
			entry = next_object(stripe, ENTRY_ORPHAN, ino);
		} else {
			ino = engine[at++];
		}
		*end = ino;
		if (is_there)
			inos[added++] = ino;
	}
	*count = added;
	return 0;
}

/* ---- single rows of small tables ---- */

int overlay_get_policy(struct overlay *overlay, uint64_t root, struct policy_row *out)
{
	struct stripe *stripe = &overlay->objects;
	struct entry *entry;

	LOCK_SCOPE(&stripe->lock);
	entry = find_object(stripe, ENTRY_POLICY, root, 0);
	if (entry == NULL)
		return -EAGAIN;
	if (entry->is_deleted)
		return -ENOENT;
	*out = container_of(entry, struct policy_entry, entry)->row;
	return 0;
}

int overlay_get_setting(struct overlay *overlay, struct bytes key, struct buf *out)
{
	struct stripe *stripe = &overlay->objects;
	struct setting_entry *setting;

	LOCK_SCOPE(&stripe->lock);
	setting = overlay_find_setting(stripe, key);
	if (setting == NULL)
		return -EAGAIN;
	return buf_append(out, bytes_of(setting->bytes + setting->key_len, setting->value_len));
}
