/* SPDX-License-Identifier: Apache-2.0 */
#include "store/chunk.h"

#include "util/counter.h"

#include <endian.h>
#include <errno.h>

/*
 * name -> dedup_begin -> look up -> (compress -> seal and append -> CHUNK_PUT)
 *      -> dedup_finish: known, pinned
 *
 * While this worker is the maker of a name nobody else stores it.  The record
 * is submitted before the name becomes known, so whoever is told about the chunk
 * may refer to it at once; and its number is claimed before the record is
 * submitted, so that reclaiming does not take the new chunk, which nothing refers
 * to yet, for a dead one.
 *
 * Names in another domain than 0 are hashed once more with the domain, so that
 * a look-up in the index cannot meet a chunk of another domain.
 */

struct chunk_worker {
	struct chunk_store *store;
	struct index_reader *reader;
	struct aead_ctx *aead;
	struct compress_ctx *compress;
	struct mac_ctx *names; /* of names_epoch; NULL before the first chunk */
	uint32_t names_epoch;
	struct buf scratch;
	struct copy_list copies;
};

static struct counter chunks_new = COUNTER_INIT("chunks_new", "chunks stored");
static struct counter chunks_found = COUNTER_INIT("chunks_found", "chunks that were stored already");
static struct counter chunk_bytes_new = COUNTER_INIT("chunk_bytes_new", "plain bytes of new chunks");
static struct counter chunk_bytes_found = COUNTER_INIT("chunk_bytes_found",
						       "plain bytes of chunks found stored");
static struct counter chunks_anew =
	COUNTER_INIT("chunks_stored_anew", "chunks stored again since the stored one did not count");
COUNTER_REGISTER(chunks_new);
COUNTER_REGISTER(chunks_found);
COUNTER_REGISTER(chunk_bytes_new);
COUNTER_REGISTER(chunk_bytes_found);
COUNTER_REGISTER(chunks_anew);

int chunk_worker_new(struct chunk_store *store, struct chunk_worker **out)
{
	AUTO_PTR(chunk_worker) worker = mem_alloc(sizeof(*worker));
	int r;

	if (!worker)
		return -ENOMEM;
	worker->store = store;
	r = index_reader_open(store->index, &worker->reader);
	if (r == 0)
		r = aead_ctx_new(&worker->aead);
	if (r == 0)
		r = compress_ctx_new(&worker->compress);
	if (r < 0)
		return r;
	*out = STEAL(worker);
	return 0;
}

void chunk_worker_free(struct chunk_worker *worker)
{
	if (!worker)
		return;
	if (worker->reader)
		index_reader_close(worker->reader);
	aead_ctx_free(worker->aead);
	compress_ctx_free(worker->compress);
	mac_ctx_free(worker->names);
	buf_release(&worker->scratch);
	copy_list_release(&worker->copies);
	mem_free(worker);
}

struct index_reader *chunk_worker_reader(struct chunk_worker *worker)
{
	return worker->reader;
}

/* ---- names ---- */

static int use_name_key(struct chunk_worker *worker, uint32_t key_epoch)
{
	struct mac_ctx *names = NULL;
	struct mac_key key;
	int r;

	if (worker->names && worker->names_epoch == key_epoch)
		return 0;
	r = keyring_derive_mac(worker->store->keyring, key_epoch, KEY_CHUNK_NAME,
			       bytes_of(NULL, 0), &key);
	if (r == 0)
		r = mac_ctx_new(&key, &names);
	mem_wipe(&key, sizeof(key));
	if (r < 0)
		return r;
	mac_ctx_free(worker->names);
	worker->names = names;
	worker->names_epoch = key_epoch;
	return 0;
}

static int name_chunk(struct chunk_worker *worker, uint32_t key_epoch, uint64_t domain,
		      struct bytes src, struct chunk_id *id)
{
	struct bytes parts[2];
	uint64_t domain_le = htole64(domain);
	struct digest digest;
	int r = use_name_key(worker, key_epoch);

	if (r == 0)
		r = mac_chunk_id(worker->names, src, id);
	if (r < 0 || domain == 0)
		return r;
	parts[0] = bytes_of(&domain_le, sizeof(domain_le));
	parts[1] = bytes_of(id->b, sizeof(id->b));
	r = mac_digest_parts(worker->names, parts, 2, &digest);
	if (r == 0)
		memcpy(id->b, digest.b, sizeof(id->b));
	return r;
}

/* ---- look-up ---- */

/* Whether the bytes of a stored chunk can be counted on. */
static int hit_counts(struct chunk_worker *worker, const struct chunk_row *chunk, bool *counts)
{
	struct chunk_store *store = worker->store;
	struct shard_row shard;
	int r;

	*counts = true;
	if (spool_has(store->spool, chunk->shard_no))
		return 0;
	*counts = false;
	r = index_get_shard(store->index, worker->reader, chunk->shard_no, &shard);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (shard.state >= SHARD_CONDEMNED)
		return 0;
	worker->copies.count = 0;
	r = index_list_copies(store->index, worker->reader, chunk->shard_no, &worker->copies);
	for (size_t i = 0; r == 0 && i < worker->copies.count; i++)
		*counts |= worker->copies.rows[i].state == COPY_PRESENT ||
			   worker->copies.rows[i].state == COPY_VERIFIED;
	return r;
}

/* 0: *row counts; -ENOENT: store it. */
static int find_stored(struct chunk_worker *worker, const struct chunk_id *id, size_t len,
		       struct chunk_row *row)
{
	bool counts;
	int r = index_find_chunk(worker->store->index, worker->reader, id, row);

	if (r < 0)
		return r;
	r = hit_counts(worker, row, &counts);
	if (r < 0)
		return r;
	if (counts && row->raw_len == len)
		return 0;
	counter_add(&chunks_anew, 1);
	return -ENOENT;
}

/* ---- storing ---- */

static int submit_chunk(struct chunk_store *store, const struct chunk_row *row)
{
	struct record *record = record_new();
	uint64_t seq;

	if (!record)
		return -ENOMEM;
	record_put_chunk(record, row);
	return sequencer_submit(store->sequencer, record, &seq);
}

static int store_new(struct chunk_worker *worker, const struct shard_class *class, uint64_t domain,
		     const struct chunk_id *id, struct bytes src, struct chunk_row *out)
{
	struct chunk_store *store = worker->store;
	struct chunk_row row = {0};
	enum compress_kind kind;
	struct bytes packed;
	int r;

	buf_clear(&worker->scratch);
	r = buf_reserve(&worker->scratch, src.len);
	if (r == 0)
		r = compress_pack(worker->compress, atomic_load(&store->compression_level), src,
				  worker->scratch.ptr, &packed, &kind);
	if (r == 0)
		r = spool_append(store->spool, worker->aead, class, id, (uint8_t)kind,
				 (uint32_t)src.len, packed, &row);
	if (r < 0)
		return r;
	row.chunk_no = atomic_fetch_add(&store->next_chunk_no, 1);
	r = dedup_claim(store->dedup, id, domain, row.chunk_no);
	if (r == 0)
		r = submit_chunk(store, &row);
	spool_append_done(store->spool, row.shard_no);
	if (r < 0)
		return r;
	*out = row;
	return 0;
}

/* This worker is the maker of the name. */
static int make_chunk(struct chunk_worker *worker, const struct shard_class *class, uint64_t domain,
		      const struct chunk_id *id, struct bytes src, struct chunk_row *out,
		      bool *is_new)
{
	struct dedup *dedup = worker->store->dedup;
	struct chunk_row row;
	int r = find_stored(worker, id, src.len, &row);

	if (r == 0) {
		*is_new = false;
		r = dedup_finish(dedup, id, domain, &row);
	}
	if (r == -ENOENT || r == -EBUSY) {
		*is_new = true;
		r = store_new(worker, class, domain, id, src, &row);
		if (r == 0)
			r = dedup_finish(dedup, id, domain, &row);
	}
	if (r < 0) {
		dedup_finish(dedup, id, domain, NULL);
		return r;
	}
	*out = row;
	return 0;
}

int chunk_put(struct chunk_worker *worker, const struct shard_class *class, struct bytes src,
	      struct chunk_row *out, bool *is_new)
{
	struct chunk_store *store = worker->store;
	enum dedup_answer answer;
	struct chunk_id id;
	uint64_t domain = 0;
	bool made = false;
	int r;

	if (src.len == 0 || src.len > CHUNK_BYTES_MAX)
		return -EINVAL;
	if (store->domain_of)
		domain = store->domain_of(store->ctx, class->policy_root);
	r = name_chunk(worker, class->key_epoch, domain, src, &id);
	if (r == 0)
		r = dedup_begin(store->dedup, &id, domain, &answer, out);
	if (r == 0 && answer == DEDUP_MAKE)
		r = make_chunk(worker, class, domain, &id, src, out, &made);
	if (r < 0)
		return r;
	counter_add(made ? &chunks_new : &chunks_found, 1);
	counter_add(made ? &chunk_bytes_new : &chunk_bytes_found, src.len);
	*is_new = made;
	return 0;
}

void chunk_unpin(struct chunk_store *store, uint64_t chunk_no)
{
	dedup_unpin(store->dedup, chunk_no);
}
