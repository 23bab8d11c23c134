/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reader_private.h"

#include "util/counter.h"

#include <assert.h>
#include <errno.h>

/*
 * Decoded chunks in memory, by chunk_no: a chunk's bytes never change and its
 * number is never given again, so what is here is right for ever.
 *
 *   loading -> ready (in the LRU) -> dropped
 *           -> failed (out of the table; who waits is told)
 *
 * The first that asks loads; others wait for it.  Dropping takes a chunk out of
 * the table at once; its memory goes with the last reference.
 */

static struct counter decoded_hits = COUNTER_INIT("decoded_hits", "chunks found decoded in memory");
static struct counter decoded_loads = COUNTER_INIT("decoded_loads", "chunks opened and decoded");
COUNTER_REGISTER(decoded_hits);
COUNTER_REGISTER(decoded_loads);

static struct decoded_slice *slice_of(struct reader *reader, uint64_t hash)
{
	return &reader->slices[hash >> 32 & (READER_SLICES - 1)];
}

static void decoded_free(struct reader *reader, struct decoded *decoded)
{
	if (decoded->data)
		atomic_fetch_sub(&reader->decoded_bytes, decoded->len);
	mem_free(decoded->data);
	mem_free(decoded);
}

static struct decoded *find_locked(struct decoded_slice *slice, uint64_t chunk_no, uint64_t hash)
{
	struct map_node *node = map_first(&slice->by_no, hash);

	for (; node; node = map_next(node)) {
		struct decoded *decoded = container_of(node, struct decoded, node);

		if (decoded->chunk_no == chunk_no)
			return decoded;
	}
	return NULL;
}

static void drop_locked(struct reader *reader, struct decoded_slice *slice, struct decoded *decoded)
{
	map_remove(&slice->by_no, &decoded->node);
	list_remove(&decoded->lru);
	decoded->is_dropped = true;
	if (decoded->refs == 0)
		decoded_free(reader, decoded);
}

static void unref_locked(struct reader *reader, struct decoded *decoded)
{
	assert(decoded->refs > 0);
	if (--decoded->refs == 0 && decoded->is_dropped)
		decoded_free(reader, decoded);
}

void decoded_put(struct reader *reader, struct decoded *decoded)
{
	struct decoded_slice *slice = slice_of(reader, map_hash_u64(decoded->chunk_no));
	LOCK_SCOPE(&slice->lock);

	unref_locked(reader, decoded);
}

static bool is_over(struct reader *reader)
{
	return atomic_load(&reader->decoded_bytes) > reader->settings.decoded_bytes_max;
}

/* Oldest first, beginning with the slice that has just grown; what is in use stays a while. */
static void shrink(struct reader *reader, struct decoded_slice *first)
{
	for (unsigned i = 0; i < READER_SLICES && is_over(reader); i++) {
		size_t at = ((size_t)(first - reader->slices) + i) % READER_SLICES;
		struct decoded_slice *slice = &reader->slices[at];
		LOCK_SCOPE(&slice->lock);

		while (is_over(reader) && slice->lru.prev != &slice->lru) {
			struct decoded *oldest =
				list_entry(slice->lru.prev, struct decoded, lru);

			if (oldest->refs > 0)
				break;
			drop_locked(reader, slice, oldest);
		}
	}
}

/* The slice's lock is held, and dropped while it is loaded. */
static int load_locked(struct reader *reader, struct index_reader *index_reader,
		       struct decoded_slice *slice, uint64_t chunk_no, uint64_t hash,
		       struct decoded **out)
{
	struct decoded *decoded = mem_alloc(sizeof(*decoded));
	uint8_t *data = NULL;
	uint32_t len = 0;
	int r;

	if (!decoded)
		return -ENOMEM;
	decoded->chunk_no = chunk_no;
	decoded->state = DECODED_LOADING;
	decoded->refs = 1;
	list_init(&decoded->lru);
	r = map_insert(&slice->by_no, &decoded->node, hash);
	if (r < 0) {
		mem_free(decoded);
		return r;
	}
	lock_drop(&slice->lock);
	r = reader_load(reader, index_reader, chunk_no, &data, &len);
	lock_take(&slice->lock);
	cond_wake_all(&slice->loaded);
	if (r < 0) {
		decoded->state = DECODED_FAILED;
		decoded->error = r;
		drop_locked(reader, slice, decoded);
		unref_locked(reader, decoded);
		return r;
	}
	decoded->data = data;
	decoded->len = len;
	decoded->state = DECODED_READY;
	atomic_fetch_add(&reader->decoded_bytes, len);
	list_push_front(&slice->lru, &decoded->lru);
	counter_add(&decoded_loads, 1);
	*out = decoded;
	return 0;
}

static int get_locked(struct reader *reader, struct index_reader *index_reader,
		      struct decoded_slice *slice, uint64_t chunk_no, uint64_t hash,
		      enum decoded_want want, struct decoded **out)
{
	struct decoded *decoded = find_locked(slice, chunk_no, hash);
	int r;

	if (!decoded)
		return want == WANT_MEMORY ? -EAGAIN
					   : load_locked(reader, index_reader, slice, chunk_no, hash,
							 out);
	if (decoded->state == DECODED_LOADING && want != WANT_WAIT)
		return want == WANT_MEMORY ? -EAGAIN : -EALREADY;
	decoded->refs++;
	while (decoded->state == DECODED_LOADING)
		cond_wait(&slice->loaded, &slice->lock);
	if (decoded->state == DECODED_FAILED) {
		r = decoded->error;
		unref_locked(reader, decoded);
		return r;
	}
	if (!decoded->is_dropped) {
		list_remove(&decoded->lru);
		list_push_front(&slice->lru, &decoded->lru);
	}
	counter_add(&decoded_hits, 1);
	*out = decoded;
	return 0;
}

int decoded_get(struct reader *reader, struct index_reader *index_reader, uint64_t chunk_no,
		enum decoded_want want, struct decoded **out)
{
	uint64_t hash = map_hash_u64(chunk_no);
	struct decoded_slice *slice = slice_of(reader, hash);
	int r;

	lock_take(&slice->lock);
	r = get_locked(reader, index_reader, slice, chunk_no, hash, want, out);
	lock_drop(&slice->lock);
	if (r == 0 && is_over(reader))
		shrink(reader, slice);
	return r;
}

void decoded_init(struct reader *reader)
{
	for (unsigned i = 0; i < READER_SLICES; i++) {
		lock_init(&reader->slices[i].lock, LOCK_CACHE);
		cond_init(&reader->slices[i].loaded);
		list_init(&reader->slices[i].lru);
	}
}

void decoded_release(struct reader *reader)
{
	for (unsigned i = 0; i < READER_SLICES; i++) {
		struct decoded_slice *slice = &reader->slices[i];

		list_for_each(node, &slice->lru)
			drop_locked(reader, slice, list_entry(node, struct decoded, lru));
		map_release(&slice->by_no);
		cond_release(&slice->loaded);
		lock_release(&slice->lock);
	}
}
