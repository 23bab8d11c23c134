/* SPDX-License-Identifier: Apache-2.0 */
#include "store/pack.h"

#include "codec/compress.h"
#include "util/wire.h"

#include <assert.h>
#include <errno.h>

/*
 * The format of a shard object; pure, so that tests call it directly.
 *
 * Who vouches for what: a record for itself (AEAD); the block MACs for header,
 * records and footer, so that a range can be judged alone; the MAC of the whole
 * for the list of block MACs and the length; AEAD for the footer's place in the
 * tail; what is left of the tail is compared with what it must be.  So no bit of
 * an object can change unnoticed.
 *
 * Nonces: records under their own key by number; under the footer's key 0 is
 * the footer, 1 its place.
 */

#define PACK_MAGIC	 "SHARDFS1"
#define PACK_TAIL_MAGIC	 "SHARDEND"
#define PACK_KIND_WHOLE	 0
#define PACK_SUITE_AES	 1 /* AES-256-GCM, GMAC, HMAC-SHA-256, HKDF-SHA-256 */
#define PACK_AAD_LEN	 37
#define PACK_PLACE_LEN	 12
#define PACK_SEALED_MIN	 (PACK_FOOTER_PREFIX + 16)
#define PACK_ENTRY_VOID	 1u
#define FOOTER_VERSION	 1
#define TAIL_COUNT_AT	 28
#define TAIL_MAC_AT	 32
#define TAIL_MAGIC_AT	 64

enum pack_part { PART_RECORD = 'R', PART_FOOTER = 'F', PART_PLACE = 'P' };

int pack_keys_init(struct pack_keys *keys, struct keyring *keyring, uint32_t key_epoch,
		   const struct shard_id *id)
{
	struct bytes salt = bytes_of(id->b, sizeof(id->b));
	int r;

	*keys = (struct pack_keys){.id = *id, .key_epoch = key_epoch};
	keys->fs_id = keyring_fs_id(keyring);
	r = keyring_derive_aead(keyring, key_epoch, KEY_SHARD_RECORDS, salt, &keys->records);
	if (r == 0)
		r = keyring_derive_aead(keyring, key_epoch, KEY_SHARD_FOOTER, salt, &keys->footer);
	if (r == 0)
		r = keyring_derive_mac(keyring, key_epoch, KEY_SHARD_MAC, salt, &keys->mac);
	if (r < 0)
		pack_keys_release(keys);
	return r;
}

void pack_keys_release(struct pack_keys *keys)
{
	mem_wipe(keys, sizeof(*keys));
}

void pack_footer_release(struct pack_footer *footer)
{
	mem_free(footer->entries);
	*footer = (struct pack_footer)PACK_FOOTER_INIT;
}

void pack_header_write(const struct pack_keys *keys, uint8_t out[PACK_HEADER_LEN])
{
	memset(out, 0, PACK_HEADER_LEN);
	memcpy(out, PACK_MAGIC, 8);
	wire_store_u32(out + 8, PACK_VERSION);
	out[12] = PACK_KIND_WHOLE; /* fragments: 13 i, 14 k, 15 m, 16 length of the whole */
	wire_store_u32(out + 24, PACK_SUITE_AES);
	wire_store_u32(out + 28, keys->key_epoch);
	memcpy(out + 32, keys->fs_id.b, 16);
	memcpy(out + 48, keys->id.b, 16);
}

int pack_header_read(struct bytes object, struct shard_id *id, uint32_t *key_epoch,
		     struct fs_id *fs_id)
{
	const uint8_t *p = object.ptr;

	if (object.len < PACK_HEADER_LEN || memcmp(p, PACK_MAGIC, 8) != 0)
		return -EBADMSG;
	if (wire_load_u32(p + 8) == 0)
		return -EBADMSG;
	if (wire_load_u32(p + 8) > PACK_VERSION || wire_load_u32(p + 24) != PACK_SUITE_AES ||
	    p[12] != PACK_KIND_WHOLE)
		return -EPROTONOSUPPORT;
	if (p[13] || p[14] || p[15] || wire_load_u64(p + 16) != 0)
		return -EBADMSG;
	*key_epoch = wire_load_u32(p + 28);
	memcpy(fs_id->b, p + 32, 16);
	memcpy(id->b, p + 48, 16);
	return 0;
}

uint64_t pack_padded_len(uint64_t len)
{
	unsigned e, s;
	uint64_t mask;

	if (len < 2)
		return len;
	e = 63u - (unsigned)__builtin_clzll(len);
	s = e == 0 ? 1 : 32u - (unsigned)__builtin_clz(e);
	mask = ((uint64_t)1 << (e - s)) - 1;
	return (len + mask) & ~mask;
}

static uint64_t pack_body_len(uint64_t records_len, uint32_t entry_count)
{
	return pack_padded_len(records_len + PACK_FOOTER_PREFIX +
			       (uint64_t)PACK_ENTRY_LEN * entry_count + AEAD_TAG_BYTES);
}

uint64_t pack_object_len(uint64_t records_len, uint32_t entry_count)
{
	uint64_t body = pack_body_len(records_len, entry_count);

	return body + object_block_count(body) * sizeof(struct object_tag) + PACK_TAIL_LEN;
}

static struct bytes pack_aad(const struct pack_keys *keys, uint32_t record_no, enum pack_part part,
			     uint8_t out[PACK_AAD_LEN])
{
	memcpy(out, keys->fs_id.b, 16);
	memcpy(out + 16, keys->id.b, 16);
	wire_store_u32(out + 32, record_no);
	out[36] = (uint8_t)part;
	return bytes_of(out, PACK_AAD_LEN);
}

int pack_seal_record(struct aead_ctx *ctx, const struct pack_keys *keys, uint32_t record_no,
		     const struct chunk_id *id, uint8_t form, uint32_t raw_len, struct bytes payload,
		     uint8_t *out)
{
	uint8_t aad[PACK_AAD_LEN];

	if (raw_len == 0 || raw_len > CHUNK_BYTES_MAX || payload.len == 0 ||
	    payload.len > CHUNK_BYTES_MAX)
		return -EINVAL;
	if (payload.ptr != out + PACK_RECORD_PREFIX)
		memmove(out + PACK_RECORD_PREFIX, payload.ptr, payload.len);
	out[0] = form;
	wire_store_u32(out + 1, raw_len);
	memcpy(out + 5, id->b, sizeof(id->b));
	return aead_seal(ctx, &keys->records, record_no,
			 pack_aad(keys, record_no, PART_RECORD, aad),
			 bytes_of(out, PACK_RECORD_PREFIX + payload.len), out);
}

int pack_open_record(struct aead_ctx *ctx, const struct pack_keys *keys, uint32_t record_no,
		     struct bytes sealed, uint8_t *plain, struct pack_record *out)
{
	struct pack_record record;
	uint8_t aad[PACK_AAD_LEN];
	int r;

	if (sealed.len <= PACK_RECORD_EXTRA || sealed.len > CHUNK_BYTES_MAX + PACK_RECORD_EXTRA)
		return -EBADMSG;
	r = aead_open(ctx, &keys->records, record_no, pack_aad(keys, record_no, PART_RECORD, aad),
		      sealed, plain);
	if (r < 0)
		return r;
	record.form = plain[0];
	record.raw_len = wire_load_u32(plain + 1);
	memcpy(record.id.b, plain + 5, sizeof(record.id.b));
	record.payload = bytes_of(plain + PACK_RECORD_PREFIX, sealed.len - PACK_RECORD_EXTRA);
	if (record.raw_len == 0 || record.raw_len > CHUNK_BYTES_MAX)
		return -EBADMSG;
	if (record.form != COMPRESS_ZSTD &&
	    (record.form != COMPRESS_RAW || record.raw_len != record.payload.len))
		return -EBADMSG;
	*out = record;
	return 0;
}

/* ---- footer ---- */

static int footer_encode(const struct pack_footer *footer, struct buf *out)
{
	const struct shard_row *shard = &footer->shard;
	int r = buf_reserve(out, PACK_FOOTER_PREFIX + (size_t)PACK_ENTRY_LEN * footer->entry_count);

	if (r < 0)
		return r;
	wire_put_u8(out, FOOTER_VERSION);
	wire_put_u64(out, shard->shard_no);
	wire_put_u64(out, shard->policy_root);
	wire_put_u32(out, shard->priority);
	wire_put_u32(out, shard->key_epoch);
	wire_put_u64(out, shard->writer_epoch);
	wire_put_i64(out, shard->sealed_sec);
	wire_put_u32(out, footer->entry_count);
	for (uint32_t i = 0; i < footer->entry_count; i++) {
		const struct pack_entry *entry = &footer->entries[i];

		wire_put_u8(out, entry->is_void ? PACK_ENTRY_VOID : 0);
		wire_put_raw(out, entry->id.b, sizeof(entry->id.b));
		wire_put_u32(out, entry->off);
		wire_put_u32(out, entry->stored_len);
		wire_put_u32(out, entry->raw_len);
	}
	return 0;
}

/* Records follow each other without gaps, from the header to the footer. */
static int footer_decode_entries(struct wire_reader *r, uint32_t footer_off,
				 struct pack_footer *footer)
{
	uint64_t off = PACK_HEADER_LEN;

	for (uint32_t i = 0; i < footer->entry_count; i++) {
		struct pack_entry *entry = &footer->entries[i];
		uint8_t flags = wire_get_u8(r);

		wire_get_raw(r, entry->id.b, sizeof(entry->id.b));
		entry->off = wire_get_u32(r);
		entry->stored_len = wire_get_u32(r);
		entry->raw_len = wire_get_u32(r);
		entry->is_void = flags & PACK_ENTRY_VOID;
		if (flags > PACK_ENTRY_VOID || entry->off != off ||
		    entry->stored_len <= PACK_RECORD_EXTRA || entry->raw_len == 0 ||
		    entry->raw_len > CHUNK_BYTES_MAX)
			return -EBADMSG;
		off += entry->stored_len;
	}
	return off == footer_off ? 0 : -EBADMSG;
}

static int footer_decode(struct bytes plain, uint32_t footer_off, struct pack_footer *out)
{
	AUTO(pack_footer) footer = PACK_FOOTER_INIT;
	struct wire_reader r = wire_reader_of(plain);
	int error;

	if (wire_get_u8(&r) > FOOTER_VERSION)
		return -EPROTONOSUPPORT;
	footer.shard.shard_no = wire_get_u64(&r);
	footer.shard.policy_root = wire_get_u64(&r);
	footer.shard.priority = wire_get_u32(&r);
	footer.shard.key_epoch = wire_get_u32(&r);
	footer.shard.writer_epoch = wire_get_u64(&r);
	footer.shard.sealed_sec = wire_get_i64(&r);
	footer.entry_count = wire_get_u32(&r);
	footer.shard.record_count = footer.entry_count;
	footer.shard.state = SHARD_SEALED;
	if (wire_reader_check(&r) < 0 || footer.entry_count > wire_left(&r) / PACK_ENTRY_LEN)
		return -EBADMSG;
	footer.entries = mem_alloc_array(footer.entry_count, sizeof(*footer.entries));
	if (!footer.entries)
		return -ENOMEM;
	error = footer_decode_entries(&r, footer_off, &footer);
	if (error == 0)
		error = wire_reader_check(&r); /* what is left is padding */
	if (error < 0)
		return error;
	*out = footer;
	footer = (struct pack_footer)PACK_FOOTER_INIT;
	return 0;
}

int pack_open_footer(struct aead_ctx *ctx, const struct pack_keys *keys, uint32_t footer_off,
		     struct bytes sealed, struct pack_footer *footer)
{
	AUTO(buf) plain = BUF_INIT;
	AUTO(pack_footer) found = PACK_FOOTER_INIT;
	uint8_t aad[PACK_AAD_LEN];
	int r;

	if (sealed.len < PACK_SEALED_MIN)
		return -EBADMSG;
	r = aead_open_buf(ctx, &keys->footer, 0, pack_aad(keys, 0, PART_FOOTER, aad), sealed,
			  &plain);
	if (r == 0)
		r = footer_decode(buf_bytes(&plain), footer_off, &found);
	if (r < 0)
		return r;
	if (found.shard.key_epoch != keys->key_epoch)
		return -EBADMSG;
	found.shard.id = keys->id;
	*footer = found;
	found = (struct pack_footer)PACK_FOOTER_INIT;
	return 0;
}

/* ---- tail ---- */

/* Bytes that the block MACs cover; 0 when the lengths do not fit each other. */
static uint64_t tail_body_len(struct bytes tail, uint64_t object_len)
{
	uint64_t count, macs, body;

	if (tail.len != PACK_TAIL_LEN || object_len > PACK_OBJECT_LEN_MAX ||
	    memcmp(tail.ptr + TAIL_MAGIC_AT, PACK_TAIL_MAGIC, 8) != 0)
		return 0;
	count = wire_load_u32(tail.ptr + TAIL_COUNT_AT);
	macs = count * sizeof(struct object_tag);
	if (object_len < PACK_HEADER_LEN + PACK_SEALED_MIN + macs + PACK_TAIL_LEN)
		return 0;
	body = object_len - macs - PACK_TAIL_LEN;
	return object_block_count(body) == count && pack_padded_len(body) == body ? body : 0;
}

int pack_tail_read(struct bytes tail, uint64_t object_len, uint8_t mac[32])
{
	if (tail_body_len(tail, object_len) == 0)
		return -EBADMSG;
	memcpy(mac, tail.ptr + TAIL_MAC_AT, 32);
	return 0;
}

int pack_tail_open(struct aead_ctx *ctx, const struct pack_keys *keys, struct bytes tail,
		   uint64_t object_len, uint32_t *footer_off, uint32_t *footer_len)
{
	uint64_t body = tail_body_len(tail, object_len), off, len;
	uint8_t aad[PACK_AAD_LEN], place[PACK_PLACE_LEN];
	int r;

	if (body == 0)
		return -EBADMSG;
	r = aead_open(ctx, &keys->footer, 1, pack_aad(keys, 0, PART_PLACE, aad),
		      bytes_of(tail.ptr, PACK_PLACE_LEN + AEAD_TAG_BYTES), place);
	if (r < 0)
		return r;
	off = wire_load_u64(place);
	len = wire_load_u32(place + 8);
	if (off < PACK_HEADER_LEN || len < PACK_SEALED_MIN || off + len != body || off > body)
		return -EBADMSG;
	*footer_off = (uint32_t)off;
	*footer_len = (uint32_t)len;
	return 0;
}

static int tail_append(struct aead_ctx *ctx, const struct pack_keys *keys, uint64_t footer_off,
		       uint64_t body, uint32_t count, const struct digest *whole, struct buf *out)
{
	uint8_t aad[PACK_AAD_LEN], place[PACK_PLACE_LEN];
	int r;

	wire_store_u64(place, footer_off);
	wire_store_u32(place + 8, (uint32_t)(body - footer_off));
	r = aead_seal_buf(ctx, &keys->footer, 1, pack_aad(keys, 0, PART_PLACE, aad),
			  bytes_of(place, sizeof(place)), out);
	if (r == 0)
		r = wire_put_u32(out, count);
	if (r == 0)
		r = wire_put_raw(out, whole->b, sizeof(whole->b));
	if (r == 0)
		r = wire_put_raw(out, PACK_TAIL_MAGIC, 8);
	return r;
}

/* ---- the whole ---- */

DEFINE_FREEP(object_mac)

/* The block at `off`, out of two parts that follow each other; copied when it spans both. */
static struct bytes block_of(struct bytes a, struct bytes b, uint64_t off, uint64_t len,
			     uint8_t *scratch)
{
	size_t in_a;

	if (off + len <= a.len)
		return bytes_of(a.ptr + off, len);
	if (off >= a.len)
		return bytes_of(b.ptr + (off - a.len), len);
	in_a = a.len - off;
	memcpy(scratch, a.ptr + off, in_a);
	memcpy(scratch + in_a, b.ptr, len - in_a);
	return bytes_of(scratch, len);
}

static int append_tags(struct object_mac *om, struct bytes records, const struct buf *footer,
		       struct buf *tags, struct digest *whole)
{
	AUTO(buf) scratch = BUF_INIT;
	uint64_t body = records.len + footer->len;
	uint32_t count = (uint32_t)object_block_count(body);
	int r = buf_reserve(&scratch, OBJECT_BLOCK_BYTES);

	if (r == 0)
		r = buf_append_zeros(tags, count * sizeof(struct object_tag));
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		uint64_t off = (uint64_t)i * OBJECT_BLOCK_BYTES;
		struct bytes block = block_of(records, buf_bytes(footer), off,
					      MIN(OBJECT_BLOCK_BYTES, body - off), scratch.ptr);

		r = object_mac_block(om, 0, i, block,
				     (struct object_tag *)tags->ptr + i);
	}
	if (r == 0)
		r = object_mac_whole(om, 0, body, (struct object_tag *)tags->ptr, count, whole);
	return r;
}

int pack_finish(struct aead_ctx *ctx, const struct pack_keys *keys, struct bytes records,
		const struct pack_footer *footer, struct buf *out, uint8_t mac[32])
{
	AUTO(buf) plain = BUF_INIT, sealed = BUF_INIT, tags = BUF_INIT;
	AUTO_PTR(object_mac) om = NULL;
	uint64_t body = pack_body_len(records.len, footer->entry_count);
	uint8_t aad[PACK_AAD_LEN];
	struct digest whole;
	int r;

	if (pack_object_len(records.len, footer->entry_count) > PACK_OBJECT_LEN_MAX)
		return -EFBIG;
	r = footer_encode(footer, &plain);
	if (r == 0)
		r = buf_append_zeros(&plain, body - records.len - AEAD_TAG_BYTES - plain.len);
	if (r == 0)
		r = aead_seal_buf(ctx, &keys->footer, 0, pack_aad(keys, 0, PART_FOOTER, aad),
				  buf_bytes(&plain), &sealed);
	if (r == 0)
		r = object_mac_new(&om);
	if (r == 0)
		r = object_mac_set_key(om, &keys->mac);
	if (r == 0)
		r = append_tags(om, records, &sealed, &tags, &whole);
	if (r == 0)
		r = buf_append(&sealed, buf_bytes(&tags));
	if (r == 0)
		r = tail_append(ctx, keys, records.len, body, (uint32_t)object_block_count(body),
				&whole, &sealed);
	if (r == 0)
		r = buf_append(out, buf_bytes(&sealed));
	if (r < 0)
		return r;
	memcpy(mac, whole.b, sizeof(whole.b));
	return 0;
}

static int verify_macs(const struct pack_keys *keys, struct bytes object, uint64_t body,
		       struct bytes tail)
{
	AUTO_PTR(object_mac) om = NULL;
	const struct object_tag *tags = (const struct object_tag *)(object.ptr + body);
	uint64_t count = object_block_count(body);
	struct digest whole;
	int r = object_mac_new(&om);

	if (r == 0)
		r = object_mac_set_key(om, &keys->mac);
	memcpy(whole.b, tail.ptr + TAIL_MAC_AT, sizeof(whole.b));
	if (r == 0)
		r = object_mac_verify_whole(om, 0, body, tags, count, &whole);
	for (uint64_t i = 0; r == 0 && i < count; i++) {
		uint64_t off = i * OBJECT_BLOCK_BYTES;

		r = object_mac_verify_block(om, 0, i,
					    bytes_of(object.ptr + off,
						     MIN(OBJECT_BLOCK_BYTES, body - off)),
					    &tags[i]);
	}
	return r;
}

int pack_verify(struct aead_ctx *ctx, const struct pack_keys *keys, struct bytes object,
		struct pack_footer *footer)
{
	AUTO(pack_footer) found = PACK_FOOTER_INIT;
	struct shard_id id;
	struct fs_id fs_id;
	uint32_t key_epoch, off, len;
	struct bytes tail;
	int r;

	r = pack_header_read(object, &id, &key_epoch, &fs_id);
	if (r < 0)
		return r;
	if (memcmp(id.b, keys->id.b, sizeof(id.b)) != 0 || key_epoch != keys->key_epoch ||
	    memcmp(fs_id.b, keys->fs_id.b, sizeof(fs_id.b)) != 0 || object.len < PACK_TAIL_LEN)
		return -EBADMSG;
	tail = bytes_of(object.ptr + object.len - PACK_TAIL_LEN, PACK_TAIL_LEN);
	r = pack_tail_open(ctx, keys, tail, object.len, &off, &len);
	if (r == 0)
		r = verify_macs(keys, object, (uint64_t)off + len, tail);
	if (r == 0)
		r = pack_open_footer(ctx, keys, off, bytes_of(object.ptr + off, len), &found);
	if (r < 0)
		return r;
	found.shard.object_len = object.len;
	memcpy(found.shard.mac, tail.ptr + TAIL_MAC_AT, sizeof(found.shard.mac));
	*footer = found;
	found = (struct pack_footer)PACK_FOOTER_INIT;
	return 0;
}
