/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reader_private.h"

#include "util/counter.h"
#include "util/err.h"
#include "util/log.h"

#include <assert.h>
#include <errno.h>

/*
 * From a chunk's number to its bytes: spool, then the cache on disk, then the
 * providers.  Whatever answers is authenticated here before anything of it is
 * handed on; what does not authenticate is passed over (and dropped from the
 * cache), so one bad place never hides a good one.
 *
 * A chunk may move to another shard between look-up and read (repacking,
 * recovery, a broken shard): when all places fail it is looked up once more.
 *
 * Providers are asked for more than one record: data that was written together
 * lies together.  A range in flight serves everybody who wants something in it,
 * and the last few ranges are kept for those who come just after.  The range
 * grows while a shard is read in sequence.
 */

#define FETCH_BYTES_MIN ((uint32_t)256 * 1024)
#define FETCH_BYTES_MAX ((uint32_t)4 * 1024 * 1024)

static struct counter reader_fetches = COUNTER_INIT("reader_fetches",
						    "ranges asked of providers for reading");
static struct counter reader_fetch_bytes = COUNTER_INIT("reader_fetch_bytes", "their bytes");
static struct counter reader_damaged = COUNTER_INIT("reader_damaged",
						    "records on local disk that were passed over");
COUNTER_REGISTER(reader_fetches);
COUNTER_REGISTER(reader_fetch_bytes);
COUNTER_REGISTER(reader_damaged);

/* ---- decoders ---- */

static void decoder_free(struct decoder *decoder)
{
	if (!decoder)
		return;
	aead_ctx_free(decoder->aead);
	compress_ctx_free(decoder->compress);
	buf_release(&decoder->sealed);
	buf_release(&decoder->plain);
	mem_free(decoder);
}
DEFINE_FREEP(decoder)

static int decoder_take(struct reader *reader, struct decoder **out)
{
	AUTO_PTR(decoder) decoder = NULL;
	int r;

	lock_take(&reader->pool_lock);
	decoder = reader->decoders;
	if (decoder)
		reader->decoders = decoder->next;
	lock_drop(&reader->pool_lock);
	if (!decoder) {
		decoder = mem_alloc(sizeof(*decoder));
		if (!decoder)
			return -ENOMEM;
		r = aead_ctx_new(&decoder->aead);
		if (r == 0)
			r = compress_ctx_new(&decoder->compress);
		if (r < 0)
			return r;
	}
	*out = STEAL(decoder);
	return 0;
}

static void decoder_put(struct reader *reader, struct decoder *decoder)
{
	LOCK_SCOPE(&reader->pool_lock);

	decoder->next = reader->decoders;
	reader->decoders = decoder;
}

/* ---- shards ---- */

static struct known_shard *shard_find_locked(struct reader *reader, uint64_t shard_no)
{
	list_for_each(node, &reader->shards_lru) {
		struct known_shard *shard = list_entry(node, struct known_shard, lru);

		if (shard->shard_no != shard_no)
			continue;
		shard->refs++;
		list_remove(&shard->lru);
		list_push_front(&reader->shards_lru, &shard->lru);
		return shard;
	}
	return NULL;
}

/* The one that was not used for longest takes other keys.  NULL: all are in use. */
static struct known_shard *shard_replace_locked(struct reader *reader, uint64_t shard_no,
						const struct pack_keys *keys)
{
	for (struct list *node = reader->shards_lru.prev; node != &reader->shards_lru;
	     node = node->prev) {
		struct known_shard *shard = list_entry(node, struct known_shard, lru);

		if (shard->refs > 0)
			continue;
		shard->refs = 1;
		shard->shard_no = shard_no;
		shard->fetch_off = shard->fetch_next = shard->fetch_window = 0;
		shard->keys = *keys;
		list_remove(&shard->lru);
		list_push_front(&reader->shards_lru, &shard->lru);
		return shard;
	}
	return NULL;
}

/* -ENOENT: no such shard. */
static int shard_use(struct reader *reader, struct index_reader *index_reader, uint64_t shard_no,
		     struct known_shard **out)
{
	struct known_shard *shard;
	struct pack_keys keys;
	struct shard_row row;
	int r;

	lock_take(&reader->shards_lock);
	shard = shard_find_locked(reader, shard_no);
	lock_drop(&reader->shards_lock);
	if (shard) {
		*out = shard;
		return 0;
	}
	r = index_get_shard(reader->settings.index, index_reader, shard_no, &row);
	if (r == 0)
		r = pack_keys_init(&keys, reader->settings.keyring, row.key_epoch, &row.id);
	if (r < 0)
		return r;
	lock_take(&reader->shards_lock);
	shard = shard_find_locked(reader, shard_no); /* perhaps another thread was quicker */
	if (!shard)
		shard = shard_replace_locked(reader, shard_no, &keys);
	lock_drop(&reader->shards_lock);
	pack_keys_release(&keys);
	if (!shard)
		return -ENOMEM;
	*out = shard;
	return 0;
}

static void shard_unuse(struct reader *reader, struct known_shard *shard)
{
	LOCK_SCOPE(&reader->shards_lock);

	assert(shard->refs > 0);
	shard->refs--;
}

/* ---- one record ---- */

struct load {
	struct reader *reader;
	struct index_reader *index_reader;
	struct decoder *decoder;
	struct known_shard *shard;
	struct chunk_row chunk;
	struct buf *payload; /* not NULL: the record as it is packed is wanted, not its bytes */
	bool is_vanished;    /* the index has no such chunk (any more) */
	/* result */
	uint8_t *data;
	uint8_t form;
};

/* Opens into `plain` and checks that it is the record wanted. */
static int open_record(struct load *load, struct bytes sealed, uint8_t *plain,
		       struct pack_record *record)
{
	const struct chunk_row *chunk = &load->chunk;
	int r = pack_open_record(load->decoder->aead, &load->shard->keys, chunk->record_no, sealed,
				 plain, record);

	if (r < 0)
		return r;
	return chunk_id_is_equal(&record->id, &chunk->id) && record->raw_len == chunk->raw_len
		       ? 0
		       : -EBADMSG;
}

static int decode_record(struct load *load, const struct pack_record *record)
{
	uint8_t *data;
	int r;

	if (load->payload) {
		load->form = record->form;
		return buf_append(load->payload, record->payload);
	}
	data = mem_alloc_raw(record->raw_len);
	if (!data)
		return -ENOMEM;
	r = compress_unpack(load->decoder->compress, record->form, record->payload, data,
			    record->raw_len);
	if (r < 0) {
		mem_free(data);
		return r;
	}
	load->data = data;
	return 0;
}

/* decoder->sealed holds the record. */
static int decode_local(struct load *load, const char *place)
{
	struct buf *sealed = &load->decoder->sealed;
	struct pack_record record;
	int r = open_record(load, buf_bytes(sealed), sealed->ptr, &record);

	if (r == 0)
		r = decode_record(load, &record);
	if (r != -EBADMSG)
		return r;
	counter_add(&reader_damaged, 1);
	log_warn("local-record-damaged", "place=%s shard=%s record=%u next=\"other copies\"", place,
		 shard_id_hex(&load->shard->keys.id).s, load->chunk.record_no);
	return r;
}

static int load_from_spool(struct load *load)
{
	struct buf *sealed = &load->decoder->sealed;
	int r;

	buf_clear(sealed);
	r = spool_read(load->reader->settings.spool, load->chunk.shard_no, load->chunk.off,
		       load->chunk.stored_len, sealed);
	return r < 0 ? r : decode_local(load, "spool");
}

static int load_from_cache(struct load *load)
{
	struct cache *cache = load->reader->settings.cache;
	struct buf *sealed = &load->decoder->sealed;
	int r;

	if (!cache)
		return -ENOENT;
	buf_clear(sealed);
	r = cache_read(cache, &load->shard->keys.id, load->chunk.off, load->chunk.stored_len, sealed);
	if (r == 0)
		r = decode_local(load, "cache");
	if (r == -EBADMSG)
		cache_drop(cache, &load->shard->keys.id);
	return r;
}

/* ---- providers ---- */

static void fetched_unref_locked(struct fetched *fetched)
{
	assert(fetched->refs > 0);
	if (--fetched->refs > 0)
		return;
	buf_release(&fetched->bytes);
	mem_free(fetched);
}

static void fetched_put(struct reader *reader, struct fetched *fetched)
{
	LOCK_SCOPE(&reader->fetch_lock);

	fetched_unref_locked(fetched);
}

/* A range that holds the record, in flight or done; waits for it. NULL: none, or it failed. */
static struct fetched *fetched_find(struct load *load)
{
	struct reader *reader = load->reader;
	const struct chunk_row *chunk = &load->chunk;
	LOCK_SCOPE(&reader->fetch_lock);

	list_for_each(node, &reader->fetches) {
		struct fetched *fetched = list_entry(node, struct fetched, node);

		if (fetched->shard_no != chunk->shard_no || fetched->off > chunk->off ||
		    (uint64_t)fetched->off + fetched->len <
			    (uint64_t)chunk->off + chunk->stored_len)
			continue;
		fetched->refs++;
		while (!fetched->is_done)
			cond_wait(&reader->fetch_done, &reader->fetch_lock);
		if (fetched->error == 0)
			return fetched;
		fetched_unref_locked(fetched);
		return NULL;
	}
	return NULL;
}

/* The range to ask for: at least the record, more while the shard is read in sequence. */
static uint32_t fetch_len(struct load *load, const struct shard_row *row)
{
	struct known_shard *shard = load->shard;
	const struct chunk_row *chunk = &load->chunk;
	uint64_t len, left;
	LOCK_SCOPE(&load->reader->shards_lock);

	/* behind the last range's begin, not far from its end (which may have cut this record) */
	if (shard->fetch_window > 0 && chunk->off > shard->fetch_off &&
	    chunk->off <= (uint64_t)shard->fetch_next + shard->fetch_window)
		shard->fetch_window = MIN(FETCH_BYTES_MAX, shard->fetch_window * 2);
	else
		shard->fetch_window = FETCH_BYTES_MIN;
	len = MAX(chunk->stored_len, shard->fetch_window);
	left = row->object_len > chunk->off ? row->object_len - chunk->off : 0;
	len = MAX(MIN(len, left), chunk->stored_len);
	shard->fetch_off = chunk->off;
	shard->fetch_next = (uint32_t)MIN(chunk->off + len, UINT32_MAX);
	return (uint32_t)len;
}

static int check_record(void *ctx, struct bytes bytes)
{
	struct load *load = ctx;
	struct buf *plain = &load->decoder->plain;
	struct pack_record record;
	int r;

	if (bytes.len < load->chunk.stored_len)
		return -EBADMSG;
	buf_clear(plain);
	r = buf_reserve(plain, load->chunk.stored_len);
	if (r < 0)
		return r;
	return open_record(load, bytes_of(bytes.ptr, load->chunk.stored_len), plain->ptr, &record);
}

static int decode_from_range(struct load *load, struct bytes range, uint32_t range_off)
{
	struct buf *plain = &load->decoder->plain;
	struct pack_record record;
	int r;

	buf_clear(plain);
	r = buf_reserve(plain, load->chunk.stored_len);
	if (r == 0)
		r = open_record(load,
				bytes_of(range.ptr + (load->chunk.off - range_off),
					 load->chunk.stored_len),
				plain->ptr, &record);
	return r < 0 ? r : decode_record(load, &record);
}

static struct fetched *fetched_begin(struct load *load, uint32_t len)
{
	struct reader *reader = load->reader;
	struct fetched *fetched = mem_alloc(sizeof(*fetched));

	if (!fetched)
		return NULL;
	fetched->shard_no = load->chunk.shard_no;
	fetched->off = load->chunk.off;
	fetched->len = len;
	fetched->refs = 2; /* the list's and this thread's */
	lock_take(&reader->fetch_lock);
	list_push_front(&reader->fetches, &fetched->node);
	lock_drop(&reader->fetch_lock);
	return fetched;
}

/* Failed ranges leave at once; of the good ones the last few stay. */
static void fetched_end(struct reader *reader, struct fetched *fetched, int error)
{
	unsigned kept = 0;
	LOCK_SCOPE(&reader->fetch_lock);

	fetched->is_done = true;
	fetched->error = error;
	cond_wake_all(&reader->fetch_done);
	list_for_each(node, &reader->fetches) {
		struct fetched *other = list_entry(node, struct fetched, node);

		if (!other->is_done ||
		    (other->error == 0 && ++kept <= READER_FETCHED_MAX))
			continue;
		list_remove(&other->node);
		fetched_unref_locked(other);
	}
}

/* Asks the providers for `len` bytes from the record on, and keeps what comes. */
static int fetch_range(struct load *load, const struct shard_row *row, uint32_t len)
{
	struct reader *reader = load->reader;
	struct fetched *fetched = fetched_begin(load, len);
	int r;

	if (!fetched)
		return -ENOMEM;
	counter_add(&reader_fetches, 1);
	counter_add(&reader_fetch_bytes, len);
	r = reader->settings.fetch(reader->settings.fetch_ctx, load->index_reader, row,
				   load->chunk.off, len, check_record, load, &fetched->bytes);
	if (r == 0 && fetched->bytes.len < len)
		r = -EIO;
	if (r == 0)
		r = decode_from_range(load, buf_bytes(&fetched->bytes), load->chunk.off);
	fetched_end(reader, fetched, r);
	if (r == 0 && reader->settings.cache)
		cache_put_range(reader->settings.cache, &load->shard->keys.id, load->chunk.off,
				buf_bytes(&fetched->bytes));
	fetched_put(reader, fetched);
	return r;
}

static int load_from_providers(struct load *load)
{
	struct reader *reader = load->reader;
	struct fetched *fetched;
	struct shard_row row;
	int r;

	if (!reader->settings.fetch)
		return -ENOENT;
	fetched = fetched_find(load);
	if (fetched) {
		r = decode_from_range(load, buf_bytes(&fetched->bytes), fetched->off);
		fetched_put(reader, fetched);
		if (r != -EBADMSG)
			return r;
		/* a neighbour of the record that was judged: ask for this one by itself */
	}
	r = index_get_shard(reader->settings.index, load->index_reader, load->chunk.shard_no, &row);
	if (r < 0)
		return r;
	return fetch_range(load, &row, fetched ? load->chunk.stored_len : fetch_len(load, &row));
}

/* ---- the chunk ---- */

static int load_from_anywhere(struct load *load)
{
	int r = shard_use(load->reader, load->index_reader, load->chunk.shard_no, &load->shard);

	if (r < 0)
		return r;
	r = load_from_spool(load);
	if (r < 0 && r != -ENOMEM)
		r = load_from_cache(load);
	if (r < 0 && r != -ENOMEM)
		r = load_from_providers(load);
	shard_unuse(load->reader, load->shard);
	return r;
}

static bool is_same_place(const struct chunk_row *a, const struct chunk_row *b)
{
	return a->shard_no == b->shard_no && a->record_no == b->record_no && a->off == b->off;
}

static int load_chunk(struct load *load, uint64_t chunk_no)
{
	struct index *index = load->reader->settings.index;
	struct chunk_row before;
	int r, again;

	r = index_get_chunk(index, load->index_reader, chunk_no, &load->chunk);
	load->is_vanished = r == -ENOENT;
	if (r < 0)
		return r;
	r = load_from_anywhere(load);
	if (r == 0 || r == -ENOMEM)
		return r;
	before = load->chunk;
	again = index_get_chunk(index, load->index_reader, chunk_no, &load->chunk);
	load->is_vanished = again == -ENOENT;
	return again < 0 || is_same_place(&before, &load->chunk) ? r : load_from_anywhere(load);
}

/* What the caller is told; said in the log once. */
static int load_failed(const struct load *load, uint64_t chunk_no, int r)
{
	if (load->is_vanished)
		return -ENOENT;
	if (r == -ENOMEM)
		return r;
	log_error("chunk-unreadable", "chunk=%llu shard_no=%llu record=%u error=%s",
		  (unsigned long long)chunk_no, (unsigned long long)load->chunk.shard_no,
		  load->chunk.record_no, err_name(r));
	return -EIO;
}

int reader_load(struct reader *reader, struct index_reader *index_reader, uint64_t chunk_no,
		uint8_t **data, uint32_t *len)
{
	struct load load = {.reader = reader, .index_reader = index_reader};
	int r = decoder_take(reader, &load.decoder);

	if (r < 0)
		return r;
	r = load_chunk(&load, chunk_no);
	decoder_put(reader, load.decoder);
	if (r == 0) {
		*data = load.data;
		*len = load.chunk.raw_len;
		return 0;
	}
	return load_failed(&load, chunk_no, r);
}

int reader_read_record(struct reader *reader, struct index_reader *index_reader, uint64_t chunk_no,
		       struct buf *out, uint8_t *form, struct chunk_row *chunk)
{
	struct load load = {.reader = reader, .index_reader = index_reader, .payload = out};
	int r = decoder_take(reader, &load.decoder);

	if (r < 0)
		return r;
	r = load_chunk(&load, chunk_no);
	decoder_put(reader, load.decoder);
	if (r < 0)
		return load_failed(&load, chunk_no, r);
	*form = load.form;
	*chunk = load.chunk;
	return 0;
}

int reader_load_init(struct reader *reader)
{
	lock_init(&reader->shards_lock, LOCK_LEAF);
	lock_init(&reader->fetch_lock, LOCK_LEAF);
	lock_init(&reader->pool_lock, LOCK_LEAF);
	cond_init(&reader->fetch_done);
	list_init(&reader->shards_lru);
	list_init(&reader->fetches);
	reader->shards = secret_alloc(READER_SHARDS_MAX * sizeof(*reader->shards));
	if (!reader->shards)
		return -ENOMEM;
	for (unsigned i = 0; i < READER_SHARDS_MAX; i++)
		list_push_back(&reader->shards_lru, &reader->shards[i].lru);
	return 0;
}

void reader_load_release(struct reader *reader)
{
	struct decoder *next;

	list_for_each(node, &reader->fetches) {
		struct fetched *fetched = list_entry(node, struct fetched, node);

		list_remove(&fetched->node);
		fetched_unref_locked(fetched);
	}
	for (struct decoder *decoder = reader->decoders; decoder; decoder = next) {
		next = decoder->next;
		decoder_free(decoder);
	}
	if (reader->shards)
		secret_free(reader->shards, READER_SHARDS_MAX * sizeof(*reader->shards));
	cond_release(&reader->fetch_done);
	lock_release(&reader->shards_lock);
	lock_release(&reader->fetch_lock);
	lock_release(&reader->pool_lock);
}
