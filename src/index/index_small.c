/* SPDX-License-Identifier: Apache-2.0 */
/* The facade (index.c): small tables, and what is known of whole trees. */
#include "index/index.h"

#include "index/index_impl.h"

#include <errno.h>

#define DEFINE_LIST_WHOLE(T, plural)                                                               \
	int index_list_##plural(struct index *index, struct index_reader *reader,                  \
				struct T##_list *out)                                              \
	{                                                                                          \
		AUTO(T##_list) engine = ROW_LIST_INIT;                                             \
		int r = reader != NULL ? -ESTALE : -EAGAIN;                                        \
                                                                                                   \
		for (unsigned attempt = 0; r == -ESTALE; attempt++) {                              \
			struct overlay_look look =                                                 \
				overlay_look_objects(index->overlay, attempt);                     \
                                                                                                   \
			engine.count = 0;                                                          \
			r = reader->conn->ops->list_##plural(index_conn_of(reader), &engine);               \
			if (r == 0)                                                                \
				r = overlay_merge_##plural(&look, &engine, out);                   \
			overlay_look_end(&look);                                                   \
		}                                                                                  \
		return r;                                                                          \
	}
DEFINE_LIST_WHOLE(provider, providers)
DEFINE_LIST_WHOLE(policy, policies)
DEFINE_LIST_WHOLE(snapshot, snapshots)

int index_list_audit(struct index *index, struct index_reader *reader, uint64_t after,
		     size_t count_max, int (*visit)(void *ctx, const struct audit_row *row),
		     void *ctx)
{
	(void)index;
	return reader->conn->ops->list_audit(index_conn_of(reader), after, count_max, visit, ctx);
}

int index_last_audit(struct index *index, struct index_reader *reader, uint64_t *audit_no,
		     uint8_t mac[32])
{
	(void)index;
	return reader->conn->ops->last_audit(index_conn_of(reader), audit_no, mac);
}

int index_get_policy(struct index *index, struct index_reader *reader, uint64_t root,
		     struct policy_row *out)
{
	int r = overlay_get_policy(index->overlay, root, out);

	return r == -EAGAIN && reader != NULL
		       ? reader->conn->ops->get_policy(index_conn_of(reader), root, out)
		       : r;
}

int index_get_setting(struct index *index, struct index_reader *reader, const char *key,
		      struct buf *out)
{
	int r = overlay_get_setting(index->overlay, bytes_of_str(key), out);

	return r == -EAGAIN && reader != NULL
		       ? reader->conn->ops->get_setting(index_conn_of(reader), bytes_of_str(key), out)
		       : r;
}

int index_list_orphans(struct index *index, struct index_reader *reader, uint64_t after,
		       size_t count_max, uint64_t *inos, size_t *count)
{
	uint64_t engine[PAGE_ROWS];
	size_t filled = 0;
	int r = reader != NULL ? 0 : -EAGAIN;

	while (r == 0 && after != UINT64_MAX && filled < count_max) {
		size_t page_max = MIN(count_max - filled, ARRAY_COUNT(engine));
		size_t engine_count = 0, added = 0;

		r = -ESTALE;
		for (unsigned attempt = 0; r == -ESTALE; attempt++) {
			struct overlay_look look = overlay_look_objects(index->overlay, attempt);

			r = reader->conn->ops->list_orphans(index_conn_of(reader), after, page_max, engine,
							    &engine_count);
			if (r == 0)
				r = overlay_merge_orphans(
					&look, after, count_max - filled, engine, engine_count,
					engine_count < page_max ? UINT64_MAX
								: engine[engine_count - 1],
					inos + filled, &added, &after);
			overlay_look_end(&look);
		}
		filled += added;
	}
	if (r == 0)
		*count = filled;
	return r;
}

int index_subtree_newest(struct index *index, struct index_reader *reader, uint64_t ino,
			 uint64_t *seq)
{
	if (ino_snapshot_no(ino) != 0)
		return view_newest(index, reader, ino, seq);
	if (reader == NULL)
		return -EAGAIN;
	return reader->conn->ops->subtree_newest(index_conn_of(reader), ino, seq);
}

int index_subtree_shards(struct index *index, struct index_reader *reader, uint64_t ino,
			 uint64_t after, size_t count_max, uint64_t *shard_nos, size_t *count,
			 struct subtree_totals *totals)
{
	if (ino_snapshot_no(ino) != 0)
		return view_subtree_shards(index, reader, ino, after, count_max, shard_nos, count,
					   after == 0 ? totals : NULL);
	if (reader == NULL)
		return -EAGAIN;
	return reader->conn->ops->subtree_shards(index_conn_of(reader), ino, after, count_max, shard_nos,
						 count, after == 0 ? totals : NULL);
}

int index_get_dir_counter(struct index *index, struct index_reader *reader, uint64_t ino,
			  struct dir_counter *out)
{
	struct engine_counter counter = {0};
	int r;

	if (ino_snapshot_no(ino) != 0)
		return view_get_dir_counter(index, reader, ino, out);
	if (reader == NULL)
		return -EAGAIN;
	r = reader->conn->ops->get_counter(index_conn_of(reader), ino, &counter);
	if (r < 0 && r != -ENOENT)
		return r;
	*out = (struct dir_counter){
		.files = (uint64_t)counter.files,
		.directories = (uint64_t)counter.directories,
		.bytes = (uint64_t)counter.bytes,
		.as_of_seq = counter.as_of,
	};
	return 0;
}

int index_prove(struct index *index, struct index_reader *reader,
		void (*found)(void *ctx, const char *text), void *ctx, uint64_t *violations)
{
	(void)index;
	return reader->conn->ops->prove(index_conn_of(reader), found, ctx, violations);
}

void index_totals(struct index *index, struct index_totals *out)
{
	uint64_t noted = atomic_load(&index->noted_count);
	uint64_t applied = atomic_load(&index->applied_count);

	LOCK_SCOPE(&index->lock);
	*out = (struct index_totals){
		.inodes = index->meta.inodes,
		.directories = index->meta.directories,
		.bytes = index->meta.bytes,
		.chunks = index->meta.chunks,
		.chunk_stored_bytes = index->meta.chunk_stored_bytes,
		.shards = index->meta.shards,
		.overlay_bytes = overlay_bytes(index->overlay),
		.overlay_records = noted > applied ? noted - applied : 0,
	};
}
