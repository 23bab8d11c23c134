/* SPDX-License-Identifier: Apache-2.0 */
/* The facade (index.c): chunks, shards and their copies. */
#include "index/index.h"

#include "index/index_impl.h"

#include <errno.h>

/* ---- chunks ---- */

int index_find_chunk(struct index *index, struct index_reader *reader, const struct chunk_id *id,
		     struct chunk_row *out)
{
	struct chunk_row row;
	int r = overlay_find_chunk(index->overlay, id, &row);

	for (unsigned attempt = 0; (r == -EAGAIN && reader != NULL) || r == -ESTALE; attempt++) {
		struct overlay_look look = overlay_look_objects(index->overlay, attempt);

		r = overlay_find_chunk(index->overlay, id, &row);
		if (r == -EAGAIN) {
			r = reader->conn->ops->find_chunk(index_conn_of(reader), id, &row);
			if (r == 0)
				r = overlay_merge_found_chunk(&look, row.chunk_no);
		}
		overlay_look_end(&look);
	}
	if (r == 0)
		*out = row;
	return r;
}

int index_get_chunk(struct index *index, struct index_reader *reader, uint64_t chunk_no,
		    struct chunk_row *out)
{
	int r = overlay_get_chunk(index->overlay, chunk_no, out);

	return r == -EAGAIN && reader != NULL
		       ? reader->conn->ops->get_chunk(index_conn_of(reader), chunk_no, out)
		       : r;
}

int index_list_chunks(struct index *index, struct index_reader *reader, uint64_t shard_no,
		      uint64_t after, size_t count_max, struct chunk_list *out)
{
	size_t wanted = out->count + count_max;
	AUTO(chunk_list) engine = ROW_LIST_INIT;
	int r = reader != NULL ? 0 : -EAGAIN;

	while (r == 0 && after != UINT64_MAX && out->count < wanted) {
		size_t page_max = MIN(wanted - out->count, (size_t)PAGE_ROWS);

		r = -ESTALE;
		for (unsigned attempt = 0; r == -ESTALE; attempt++) {
			struct overlay_look look = overlay_look_objects(index->overlay, attempt);

			engine.count = 0;
			r = reader->conn->ops->list_chunks(index_conn_of(reader), shard_no, after, page_max,
							   &engine);
			if (r == 0)
				r = overlay_merge_chunks(
					&look, shard_no, after, wanted - out->count, &engine,
					engine.count < page_max
						? UINT64_MAX
						: engine.rows[engine.count - 1].chunk_no,
					out, &after);
			overlay_look_end(&look);
		}
	}
	return r;
}

/* ---- shards ---- */

int index_get_shard(struct index *index, struct index_reader *reader, uint64_t shard_no,
		    struct shard_row *out)
{
	struct shard_row row, stored;
	int r = overlay_get_shard(index->overlay, shard_no, &row);
	int stored_r;

	if (r < 0 && r != -EAGAIN)
		return r;
	if (reader == NULL) {
		if (r == 0)
			*out = row;
		return r;
	}
	/* The engine knows the sums, the overlay the rest. */
	stored_r = reader->conn->ops->get_shard(index_conn_of(reader), shard_no, &stored);
	if (stored_r < 0 && (stored_r != -ENOENT || r == -EAGAIN))
		return stored_r;
	if (r == -EAGAIN) {
		*out = stored;
		return 0;
	}
	if (stored_r == 0) {
		row.live_bytes = stored.live_bytes;
		row.total_bytes = stored.total_bytes;
	}
	*out = row;
	return 0;
}

int index_find_shard(struct index *index, struct index_reader *reader, const struct shard_id *id,
		     struct shard_row *out)
{
	AUTO(shard_list) pending = ROW_LIST_INIT;
	static const struct shard_list nothing = ROW_LIST_INIT;
	struct overlay_look look;
	struct shard_row row;
	uint64_t end;
	int r;

	if (reader == NULL)
		return -EAGAIN;
	/* The engine first: what it lacks is still in the overlay, or is asked for again. */
	r = -ESTALE;
	for (unsigned attempt = 0; r == -ESTALE; attempt++) {
		int merged;

		look = overlay_look_objects(index->overlay, attempt);
		pending.count = 0;
		r = reader->conn->ops->find_shard(index_conn_of(reader), id, &row);
		merged = overlay_merge_shards(&look, 0, SIZE_MAX, &nothing, UINT64_MAX, &pending,
					      &end);
		overlay_look_end(&look);
		if (merged < 0)
			r = merged;
	}
	if (r == 0)
		return index_get_shard(index, reader, row.shard_no, out);
	for (size_t i = 0; i < pending.count && r == -ENOENT; i++)
		if (memcmp(&pending.rows[i].id, id, sizeof(*id)) == 0)
			return index_get_shard(index, reader, pending.rows[i].shard_no, out);
	return r;
}

/* One page: appends at most count_max; *after moves on, to UINT64_MAX when there are no more. */
static int list_shards_page(struct index *index, struct index_reader *reader, size_t count_max,
			    struct shard_list *out, uint64_t *after)
{
	size_t page_max = MIN(count_max, (size_t)PAGE_ROWS);
	AUTO(shard_list) engine = ROW_LIST_INIT;
	int r = -ESTALE;

	for (unsigned attempt = 0; r == -ESTALE; attempt++) {
		struct overlay_look look = overlay_look_objects(index->overlay, attempt);

		engine.count = 0;
		r = reader->conn->ops->list_shards(index_conn_of(reader), *after, page_max, &engine);
		if (r == 0)
			r = overlay_merge_shards(&look, *after, count_max, &engine,
						 engine.count < page_max
							 ? UINT64_MAX
							 : engine.rows[engine.count - 1].shard_no,
						 out, after);
		overlay_look_end(&look);
	}
	return r;
}

int index_list_shards(struct index *index, struct index_reader *reader, uint64_t after,
		      size_t count_max, struct shard_list *out)
{
	size_t wanted = out->count + count_max;
	int r = reader != NULL ? 0 : -EAGAIN;

	while (r == 0 && after != UINT64_MAX && out->count < wanted)
		r = list_shards_page(index, reader, wanted - out->count, out, &after);
	return r;
}

static bool is_sparse(const struct shard_row *shard, unsigned live_permille)
{
	if (shard->state != SHARD_SEALED && shard->state != SHARD_DURABLE)
		return false;
	if (shard->total_bytes == 0)
		return live_permille > 0;
	return shard->live_bytes * 1000 < (uint64_t)live_permille * shard->total_bytes;
}

int index_list_sparse_shards(struct index *index, struct index_reader *reader,
			     unsigned live_permille, size_t count_max, struct shard_list *out)
{
	AUTO(shard_list) page = ROW_LIST_INIT;
	size_t wanted = out->count + count_max;
	uint64_t after = 0;
	int r = reader != NULL ? 0 : -EAGAIN;

	while (r == 0 && after != UINT64_MAX && out->count < wanted) {
		page.count = 0;
		r = list_shards_page(index, reader, PAGE_ROWS, &page, &after);
		for (size_t i = 0; i < page.count && r == 0 && out->count < wanted; i++)
			if (is_sparse(&page.rows[i], live_permille))
				r = shard_list_add(out, &page.rows[i]);
	}
	return r;
}

int index_list_copies(struct index *index, struct index_reader *reader, uint64_t shard_no,
		      struct copy_list *out)
{
	AUTO(copy_list) engine = ROW_LIST_INIT;
	int r = reader != NULL ? -ESTALE : -EAGAIN;

	for (unsigned attempt = 0; r == -ESTALE; attempt++) {
		struct overlay_look look = overlay_look_objects(index->overlay, attempt);

		engine.count = 0;
		r = reader->conn->ops->list_copies(index_conn_of(reader), shard_no, &engine);
		if (r == 0)
			r = overlay_merge_copies(&look, shard_no, &engine, out);
		overlay_look_end(&look);
	}
	return r;
}

int index_list_verified(struct index *index, struct index_reader *reader, int64_t after_sec,
			uint64_t after_no, size_t count_max, struct verified_list *out)
{
	(void)index;
	return reader == NULL ? -EAGAIN
			      : reader->conn->ops->list_verified(index_conn_of(reader), after_sec,
								 after_no, count_max, out);
}

int index_count_verified(struct index *index, struct index_reader *reader, int64_t since_sec,
			 struct verified_count *out)
{
	(void)index;
	return reader == NULL ? -EAGAIN
			      : reader->conn->ops->count_verified(index_conn_of(reader), since_sec, out);
}

int index_list_copies_in_state(struct index *index, struct index_reader *reader, uint32_t state,
			       uint64_t after, size_t count_max, struct copy_list *out)
{
	size_t wanted = out->count + count_max;
	AUTO(copy_list) engine = ROW_LIST_INIT;
	int r = reader != NULL ? 0 : -EAGAIN;

	if (state == COPY_UPLOADING)
		state = COPY_PENDING;
	while (r == 0 && after != UINT64_MAX && out->count < wanted) {
		size_t page_max = MIN(wanted - out->count, (size_t)PAGE_ROWS);

		r = -ESTALE;
		for (unsigned attempt = 0; r == -ESTALE; attempt++) {
			struct overlay_look look = overlay_look_objects(index->overlay, attempt);

			engine.count = 0;
			r = reader->conn->ops->list_copies_in_state(index_conn_of(reader), state, after,
								    page_max, &engine);
			if (r == 0)
				r = overlay_merge_copies_in_state(
					&look, state, after, wanted - out->count, &engine,
					engine.count < page_max
						? UINT64_MAX
						: engine.rows[engine.count - 1].shard_no,
					out, &after);
			overlay_look_end(&look);
		}
	}
	return r;
}
