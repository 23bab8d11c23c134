/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names, envelope and bodies of the objects under index/.
 *
 * Body, before it is sealed: u8 form (0 raw, 1 zstd), u32 plain length, u32 packed length, the
 * packed bytes, zeros.  The padding lies inside, so that it does not show where it begins.
 */
#include "store/oplog_format.h"

#include "codec/compress.h"
#include "store/pack.h"
#include "util/mem.h"
#include "util/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MAGIC          "SHARDFSX"
#define ENVELOPE_BYTES ((size_t)9)
#define SALT_BYTES     ((size_t)32)

/* ---- names ---- */

static void print_hex(char *out, const uint8_t *src, size_t len)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", src[i]);
}

const char *oplog_name_print(const struct oplog_name *name, char out[OPLOG_NAME_SIZE])
{
	char id[33];

	print_hex(id, name->id, sizeof(name->id));
	switch (name->kind) {
	case OPLOG_SEGMENT:
		snprintf(out, OPLOG_NAME_SIZE, "log-%08" PRIx32 "-%016" PRIx64 "-%016" PRIx64 "-%s",
			 name->epoch, name->first, name->last, id);
		break;
	case OPLOG_PART:
		snprintf(out, OPLOG_NAME_SIZE, 
			 "snap-%08" PRIx32 "-%016" PRIx64 "-%016" PRIx64 "-%s-p%06" PRIx32,
			 name->epoch, name->first, name->last, id, name->part);
		break;
	case OPLOG_ROOT:
		snprintf(out, OPLOG_NAME_SIZE, "snap-%08" PRIx32 "-%016" PRIx64 "-%016" PRIx64 "-%s",
			 name->epoch, name->first, name->last, id);
		break;
	case OPLOG_CLAIM:
		snprintf(out, OPLOG_NAME_SIZE, "epoch-%08" PRIx32, name->epoch);
		break;
	}
	return out;
}

/* Exactly `digits` hex digits; moves on. */
static uint64_t scan_hex(const char **at, unsigned digits, bool *is_bad)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < digits && !*is_bad; i++, (*at)++) {
		if (**at >= '0' && **at <= '9')
			v = v << 4 | (uint64_t)(**at - '0');
		else if (**at >= 'a' && **at <= 'f')
			v = v << 4 | (uint64_t)(**at - 'a' + 10);
		else
			*is_bad = true;
	}
	return v;
}

static void scan_word(const char **at, const char *word, bool *is_bad)
{
	size_t len = strlen(word);

	if (*is_bad || strncmp(*at, word, len) != 0)
		*is_bad = true;
	else
		*at += len;
}

static void scan_id(const char **at, uint8_t id[16], bool *is_bad)
{
	for (unsigned i = 0; i < 16; i++)
		id[i] = (uint8_t)scan_hex(at, 2, is_bad);
}

int oplog_name_parse(const char *text, struct oplog_name *out)
{
	struct oplog_name name = {0};
	const char *at = text;
	bool is_bad = false;

	if (strncmp(at, "log-", 4) == 0) {
		at += 4;
		name.kind = OPLOG_SEGMENT;
	} else {
		scan_word(&at, "snap-", &is_bad);
		name.kind = OPLOG_ROOT;
	}
	name.epoch = (uint32_t)scan_hex(&at, 8, &is_bad);
	scan_word(&at, "-", &is_bad);
	name.first = scan_hex(&at, 16, &is_bad);
	scan_word(&at, "-", &is_bad);
	name.last = scan_hex(&at, 16, &is_bad);
	scan_word(&at, "-", &is_bad);
	scan_id(&at, name.id, &is_bad);
	if (!is_bad && name.kind == OPLOG_ROOT && *at) {
		name.kind = OPLOG_PART;
		scan_word(&at, "-p", &is_bad);
		name.part = (uint32_t)scan_hex(&at, 6, &is_bad);
	}
	if (is_bad || *at || name.last > INT64_MAX || name.first > name.last ||
	    (name.kind == OPLOG_SEGMENT && name.first == 0))
		return -EINVAL;
	*out = name;
	return 0;
}

/* ---- envelope ---- */

struct header {
	uint32_t key_epoch;
	uint8_t salt[SALT_BYTES];
};

static void header_write(const struct oplog_name *name, struct fs_id fs_id,
			 const struct header *header, uint8_t out[OPLOG_HEADER_BYTES])
{
	memset(out, 0, OPLOG_HEADER_BYTES);
	memcpy(out, MAGIC, 8);
	wire_store_u32(out + 8, OPLOG_VERSION);
	wire_store_u32(out + 12, name->kind);
	memcpy(out + 16, fs_id.b, sizeof(fs_id.b));
	wire_store_u32(out + 32, header->key_epoch);
	wire_store_u32(out + 36, name->part);
	wire_store_u64(out + 40, name->epoch);
	wire_store_u64(out + 48, name->first);
	wire_store_u64(out + 56, name->last);
	memcpy(out + 64, header->salt, SALT_BYTES);
}

static int header_read(struct bytes object, struct header *out)
{
	if (object.len < OPLOG_HEADER_BYTES || memcmp(object.ptr, MAGIC, 8) != 0)
		return -EBADMSG;
	if (wire_load_u32(object.ptr + 8) > OPLOG_VERSION)
		return -EPROTONOSUPPORT;
	out->key_epoch = wire_load_u32(object.ptr + 32);
	memcpy(out->salt, object.ptr + 64, SALT_BYTES);
	return 0;
}

static int derive(struct keyring *keyring, const struct oplog_name *name,
		  const struct header *header, struct aead_key *key)
{
	static const enum key_purpose purposes[] = {[OPLOG_SEGMENT] = KEY_OPLOG,
						    [OPLOG_PART] = KEY_SNAPSHOT,
						    [OPLOG_ROOT] = KEY_SNAPSHOT,
						    [OPLOG_CLAIM] = KEY_CLAIM};

	return keyring_derive_aead(keyring, header->key_epoch, purposes[name->kind],
				   bytes_of(header->salt, SALT_BYTES), key);
}

/* What is authenticated besides the bytes: the header, and of a snapshot its id. */
static int aad_make(const struct oplog_name *name, const uint8_t head[OPLOG_HEADER_BYTES],
		    uint8_t aad[OPLOG_HEADER_BYTES + 16])
{
	memcpy(aad, head, OPLOG_HEADER_BYTES);
	if (name->kind == OPLOG_SEGMENT)
		return (int)OPLOG_HEADER_BYTES;
	memcpy(aad + OPLOG_HEADER_BYTES, name->id, 16);
	return (int)OPLOG_HEADER_BYTES + 16;
}

/* A claim is in no chain, and outlives key epochs. */
static int hash_of(struct keyring *keyring, const struct oplog_name *name, struct bytes object,
		   struct digest *hash)
{
	if (name->kind != OPLOG_CLAIM)
		return oplog_hash(keyring, object, hash);
	*hash = (struct digest){{0}};
	return 0;
}

int oplog_hash(struct keyring *keyring, struct bytes object, struct digest *hash)
{
	struct header header;
	struct mac_key key;
	int r = header_read(object, &header);

	if (r == 0)
		r = keyring_derive_mac(keyring, header.key_epoch, KEY_OPLOG_CHAIN,
				       bytes_of(NULL, 0), &key);
	if (r == 0)
		r = hmac_sha256(bytes_of(key.b, sizeof(key.b)), object, hash);
	mem_wipe(&key, sizeof(key));
	return r;
}

/* The body as it is sealed, appended to out. */
static int pack_body(struct bytes body, struct buf *out)
{
	struct compress_ctx *ctx;
	AUTO(buf) scratch = BUF_INIT;
	enum compress_kind kind = COMPRESS_RAW;
	struct bytes packed = body;
	size_t begin = out->len, len;
	int r = compress_ctx_new(&ctx);

	if (r == 0 && body.len > 0)
		r = buf_reserve(&scratch, body.len);
	if (r == 0 && body.len > 0)
		r = compress_pack(ctx, COMPRESS_LEVEL_DEFAULT, body, scratch.ptr, &packed, &kind);
	if (r == 0)
		r = wire_put_u8(out, (uint8_t)kind);
	if (r == 0)
		r = wire_put_u32(out, (uint32_t)body.len);
	if (r == 0)
		r = wire_put_u32(out, (uint32_t)packed.len);
	if (r == 0)
		r = buf_append(out, packed);
	len = OPLOG_HEADER_BYTES + (out->len - begin) + AEAD_TAG_BYTES;
	if (r == 0)
		r = buf_append_zeros(out, pack_padded_len(len) - len);
	compress_ctx_free(ctx);
	return r;
}

int oplog_seal(struct keyring *keyring, struct aead_ctx *ctx, struct oplog_name *name,
	       struct bytes body, struct buf *out, struct digest *hash)
{
	AUTO(buf) plain = BUF_INIT;
	uint8_t head[OPLOG_HEADER_BYTES], aad[OPLOG_HEADER_BYTES + 16];
	struct header header = {
		.key_epoch = name->kind == OPLOG_CLAIM ? 0 : keyring_current_epoch(keyring)};
	struct aead_key key;
	size_t begin = out->len, aad_len;
	int r;

	if (body.len > OPLOG_PLAIN_BYTES_MAX)
		return -E2BIG;
	r = crypto_random(header.salt, sizeof(header.salt));
	if (r == 0)
		r = pack_body(body, &plain);
	if (r == 0)
		r = derive(keyring, name, &header, &key);
	if (r < 0)
		return r;
	header_write(name, keyring_fs_id(keyring), &header, head);
	aad_len = (size_t)aad_make(name, head, aad);
	r = buf_append(out, bytes_of(head, sizeof(head)));
	if (r == 0)
		r = aead_seal_buf(ctx, &key, 0, bytes_of(aad, aad_len), buf_bytes(&plain), out);
	mem_wipe(&key, sizeof(key));
	if (r == 0)
		r = hash_of(keyring, name, bytes_of(out->ptr + begin, out->len - begin), hash);
	if (r < 0)
		out->len = begin;
	else if (name->kind == OPLOG_SEGMENT)
		memcpy(name->id, hash->b, sizeof(name->id));
	return r;
}

static int unpack_body(struct bytes plain, struct buf *out)
{
	struct wire_reader reader = wire_reader_of(plain);
	uint8_t form = wire_get_u8(&reader);
	uint32_t len = wire_get_u32(&reader), packed_len = wire_get_u32(&reader);
	struct bytes packed = wire_get_view(&reader, packed_len);
	struct compress_ctx *ctx;
	int r;

	if (wire_reader_check(&reader) < 0 || len > OPLOG_PLAIN_BYTES_MAX)
		return -EBADMSG;
	if (len == 0)
		return packed_len == 0 ? 0 : -EBADMSG;
	r = compress_ctx_new(&ctx);
	if (r < 0)
		return r;
	r = buf_reserve(out, len);
	if (r == 0)
		r = compress_unpack(ctx, form, packed, out->ptr + out->len, len);
	if (r == 0)
		out->len += len;
	compress_ctx_free(ctx);
	return r;
}

int oplog_open_object(struct keyring *keyring, struct aead_ctx *ctx, const struct oplog_name *name,
		      struct bytes object, struct buf *out, struct digest *hash)
{
	AUTO(buf) plain = BUF_INIT;
	uint8_t head[OPLOG_HEADER_BYTES], aad[OPLOG_HEADER_BYTES + 16];
	struct header header;
	struct digest found;
	struct aead_key key;
	size_t aad_len;
	int r = object.len <= OPLOG_OBJECT_BYTES_MAX ? header_read(object, &header) : -EBADMSG;

	if (r < 0)
		return r;
	header_write(name, keyring_fs_id(keyring), &header, head);
	if (memcmp(head, object.ptr, sizeof(head)) != 0)
		return -EBADMSG;
	r = hash_of(keyring, name, object, &found);
	if (r == 0 && name->kind == OPLOG_SEGMENT && memcmp(found.b, name->id, 16) != 0)
		r = -EBADMSG;
	if (r == 0)
		r = derive(keyring, name, &header, &key);
	if (r < 0)
		return r;
	aad_len = (size_t)aad_make(name, head, aad);
	r = aead_open_buf(ctx, &key, 0, bytes_of(aad, aad_len),
			  bytes_of(object.ptr + sizeof(head), object.len - sizeof(head)), &plain);
	mem_wipe(&key, sizeof(key));
	if (r == 0)
		r = unpack_body(buf_bytes(&plain), out);
	if (r == 0)
		*hash = found;
	return r;
}

/* ---- bodies ---- */

int oplog_segment_begin(const struct oplog_segment_head *head, const uint64_t *missing,
			struct buf *out)
{
	size_t begin = out->len;
	int r = wire_put_raw(out, head->previous.b, sizeof(head->previous.b));

	if (r == 0)
		r = wire_put_i64(out, head->made_sec);
	if (r == 0)
		r = wire_put_varint(out, head->record_count);
	if (r == 0)
		r = wire_put_varint(out, head->missing_count);
	for (uint64_t i = 0; i < head->missing_count && r == 0; i++)
		r = wire_put_varint(out, missing[i]);
	if (r < 0)
		out->len = begin;
	return r;
}

int oplog_put_record(uint64_t seq, struct bytes changes, struct buf *out)
{
	size_t begin = out->len;
	int r = wire_put_varint(out, seq);

	if (r == 0)
		r = wire_put_blob(out, changes);
	if (r < 0)
		out->len = begin;
	return r;
}

static bool is_local(enum change_type type)
{
	return type == CHANGE_COPY_PUT || type == CHANGE_COPY_DEL;
}

int oplog_filter(struct bytes changes, void (*seen)(void *ctx, const struct change *change),
		 void *ctx, struct buf *out, unsigned *count)
{
	struct record_walk walk = record_walk_of(changes);
	struct bytes before = changes;
	size_t begin = out->len;
	unsigned found = 0;
	struct change change;
	int r;

	while ((r = record_walk_next(&walk, &change)) > 0) {
		size_t len = before.len - walk.left.len;

		if (!is_local(change.type)) {
			r = buf_append(out, bytes_of(before.ptr, len));
			found++;
			if (seen)
				seen(ctx, &change);
		}
		before = walk.left;
		if (r < 0)
			break;
	}
	if (r < 0)
		out->len = begin;
	else
		*count = found;
	return r;
}

int oplog_segment_read(struct bytes body, struct oplog_segment_head *head, struct bytes *records)
{
	struct wire_reader reader = wire_reader_of(body);
	struct oplog_segment_head found;

	wire_get_raw(&reader, found.previous.b, sizeof(found.previous.b));
	found.made_sec = wire_get_i64(&reader);
	found.record_count = wire_get_varint(&reader);
	found.missing_count = wire_get_varint(&reader);
	if (wire_reader_check(&reader) < 0 || found.missing_count > wire_left(&reader))
		return -EBADMSG;
	for (uint64_t i = 0; i < found.missing_count; i++)
		wire_get_varint(&reader);
	if (wire_reader_check(&reader) < 0)
		return -EBADMSG;
	*head = found;
	*records = bytes_of(reader.ptr, wire_left(&reader));
	return 0;
}

int oplog_get_record(struct bytes *left, uint64_t *seq, struct bytes *changes)
{
	struct wire_reader reader = wire_reader_of(*left);
	uint64_t number;
	struct bytes blob;

	if (left->len == 0)
		return 0;
	number = wire_get_varint(&reader);
	blob = wire_get_blob(&reader, OPLOG_PLAIN_BYTES_MAX);
	if (wire_reader_check(&reader) < 0 || number == 0 || number > INT64_MAX)
		return -EBADMSG;
	*seq = number;
	*changes = blob;
	*left = bytes_of(reader.ptr, wire_left(&reader));
	return 1;
}

void oplog_root_release(struct oplog_root *root)
{
	mem_free(root->parts);
	*root = (struct oplog_root)OPLOG_ROOT_INIT;
}

int oplog_root_write(const struct oplog_root *root, struct buf *out)
{
	const uint64_t highest[] = {root->highest.ino,		root->highest.cookie,
				    root->highest.chunk_no,	root->highest.shard_no,
				    root->highest.snapshot_no, root->highest.provider_no};
	int r = wire_put_u64(out, root->txn);

	if (r == 0)
		r = wire_put_i64(out, root->made_sec);
	if (r == 0)
		r = wire_put_u64(out, root->chain_seq);
	if (r == 0)
		r = wire_put_raw(out, root->chain_hash.b, sizeof(root->chain_hash.b));
	for (unsigned i = 0; i < ARRAY_COUNT(highest) && r == 0; i++)
		r = wire_put_u64(out, highest[i]);
	if (r == 0)
		r = wire_put_u32(out, root->part_count);
	for (uint32_t i = 0; i < root->part_count && r == 0; i++) {
		r = wire_put_raw(out, root->parts[i].hash.b, sizeof(root->parts[i].hash.b));
		if (r == 0)
			r = wire_put_u64(out, root->parts[i].len);
	}
	return r;
}

int oplog_root_read(struct bytes body, struct oplog_root *out)
{
	struct wire_reader reader = wire_reader_of(body);
	AUTO(oplog_root) root = OPLOG_ROOT_INIT;
	uint32_t count;

	root.txn = wire_get_u64(&reader);
	root.made_sec = wire_get_i64(&reader);
	root.chain_seq = wire_get_u64(&reader);
	wire_get_raw(&reader, root.chain_hash.b, sizeof(root.chain_hash.b));
	root.highest.ino = wire_get_u64(&reader);
	root.highest.cookie = wire_get_u64(&reader);
	root.highest.chunk_no = wire_get_u64(&reader);
	root.highest.shard_no = wire_get_u64(&reader);
	root.highest.snapshot_no = wire_get_u64(&reader);
	root.highest.provider_no = (uint32_t)wire_get_u64(&reader);
	count = wire_get_u32(&reader);
	if (wire_reader_check(&reader) < 0 || count > OPLOG_PARTS_MAX ||
	    wire_left(&reader) != (size_t)count * 40 || root.chain_seq > root.txn ||
	    root.txn > INT64_MAX || root.highest.ino > INT64_MAX ||
	    root.highest.cookie > INT64_MAX || root.highest.chunk_no > INT64_MAX ||
	    root.highest.shard_no > INT64_MAX || root.highest.snapshot_no > INT64_MAX)
		return -EBADMSG;
	root.parts = mem_alloc_array(MAX(count, 1u), sizeof(*root.parts));
	if (!root.parts)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		wire_get_raw(&reader, root.parts[i].hash.b, sizeof(root.parts[i].hash.b));
		root.parts[i].len = wire_get_u64(&reader);
	}
	root.part_count = count;
	*out = root;
	root.parts = NULL;
	return 0;
}
