/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Associated data of a frame: fs id, writer epoch and number of the file, then
 * the frame's own head (length, kind, number).  So a frame can not be moved to
 * another file or place, cut, or taken for another kind.  The header is the
 * associated data of an empty plaintext with nonce 0.
 */
#include "store/journal_format.h"

#include "util/mem.h"
#include "util/wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define JOURNAL_MAGIC     "SHARDFSJ"
#define JOURNAL_SUITE_GCM 1u
#define HEADER_TAG_OFF    (JOURNAL_HEADER_BYTES - AEAD_TAG_BYTES)
#define AAD_BYTES         (16 + 8 + 8 + JOURNAL_HEAD_BYTES)
#define MARK_BODY_BYTES   (JOURNAL_SLOT_BYTES - JOURNAL_HEAD_BYTES - AEAD_TAG_BYTES)
#define RECORDS_PREFIX    ((size_t)12) /* first seq, count */
#define TRIES_MAX         4096

void journal_seal_release(struct journal_seal *seal)
{
	mem_wipe(seal, sizeof(*seal));
}

/* ---- header ---- */

int journal_header_write(struct aead_ctx *ctx, const struct aead_key *key,
			 const struct journal_header *header, uint8_t out[JOURNAL_HEADER_BYTES])
{
	memset(out, 0, JOURNAL_HEADER_BYTES);
	memcpy(out, JOURNAL_MAGIC, 8);
	wire_store_u32(out + 8, JOURNAL_VERSION);
	wire_store_u32(out + 12, JOURNAL_HEADER_BYTES);
	memcpy(out + 16, header->fs_id.b, 16);
	wire_store_u64(out + 32, header->writer_epoch);
	wire_store_u64(out + 40, header->number);
	wire_store_u64(out + 48, header->run_no);
	wire_store_u64(out + 56, header->run_first_seq);
	wire_store_u32(out + 64, header->key_epoch);
	wire_store_u32(out + 68, JOURNAL_SUITE_GCM);
	memcpy(out + 72, header->salt, JOURNAL_SALT_BYTES);
	return aead_seal(ctx, key, 0, bytes_of(out, HEADER_TAG_OFF), bytes_of(out, 0),
			 out + HEADER_TAG_OFF);
}

int journal_header_read(struct bytes file, struct journal_header *out)
{
	struct journal_header header = {0};
	const uint8_t *p = file.ptr;

	if (file.len < JOURNAL_HEADER_BYTES || memcmp(p, JOURNAL_MAGIC, 8) != 0)
		return -EBADMSG;
	if (wire_load_u32(p + 8) > JOURNAL_VERSION)
		return -EPROTONOSUPPORT;
	if (wire_load_u32(p + 8) == 0 || wire_load_u32(p + 12) != JOURNAL_HEADER_BYTES ||
	    wire_load_u32(p + 68) != JOURNAL_SUITE_GCM)
		return -EBADMSG;
	memcpy(header.fs_id.b, p + 16, 16);
	header.writer_epoch = wire_load_u64(p + 32);
	header.number = wire_load_u64(p + 40);
	header.run_no = wire_load_u64(p + 48);
	header.run_first_seq = wire_load_u64(p + 56);
	header.key_epoch = wire_load_u32(p + 64);
	memcpy(header.salt, p + 72, JOURNAL_SALT_BYTES);
	if (header.run_no > header.number || header.run_first_seq == 0)
		return -EBADMSG;
	*out = header;
	return 0;
}

int journal_header_verify(struct aead_ctx *ctx, const struct aead_key *key, struct bytes file)
{
	uint8_t nothing[1];

	if (file.len < JOURNAL_HEADER_BYTES)
		return -EBADMSG;
	return aead_open(ctx, key, 0, bytes_of(file.ptr, HEADER_TAG_OFF),
			 bytes_of(file.ptr + HEADER_TAG_OFF, AEAD_TAG_BYTES), nothing);
}

/* ---- frames out ---- */

static void frame_aad(const struct journal_seal *seal, const uint8_t head[JOURNAL_HEAD_BYTES],
		      uint8_t aad[AAD_BYTES])
{
	memcpy(aad, seal->fs_id.b, 16);
	wire_store_u64(aad + 16, seal->writer_epoch);
	wire_store_u64(aad + 24, seal->number);
	memcpy(aad + 32, head, JOURNAL_HEAD_BYTES);
}

/* Pads what was put behind the head at `start`, fills the head in, seals in place. */
static int frame_finish(struct aead_ctx *ctx, const struct journal_seal *seal, uint64_t number,
			enum journal_frame_kind kind, struct buf *out, size_t start)
{
	size_t len = out->len - start + AEAD_TAG_BYTES;
	size_t padding = (JOURNAL_SLOT_BYTES - len % JOURNAL_SLOT_BYTES) % JOURNAL_SLOT_BYTES;
	uint8_t aad[AAD_BYTES], *head;
	struct bytes body;
	int r;

	len += padding;
	if (len > JOURNAL_FRAME_BYTES_MAX)
		return -E2BIG;
	r = buf_append_zeros(out, padding + AEAD_TAG_BYTES);
	if (r < 0)
		return r;
	head = out->ptr + start;
	wire_store_u32(head, (uint32_t)len);
	wire_store_u32(head + 4, kind);
	wire_store_u64(head + 8, number);
	frame_aad(seal, head, aad);
	body = bytes_of(head + JOURNAL_HEAD_BYTES, len - JOURNAL_HEAD_BYTES - AEAD_TAG_BYTES);
	return aead_seal(ctx, &seal->key, number, bytes_of(aad, sizeof(aad)), body,
			 head + JOURNAL_HEAD_BYTES);
}

size_t journal_record_bytes(const struct record *record)
{
	return record->changes.len + 4 + 5; /* count of changes, varint length */
}

static int put_records(struct record *const *records, size_t count, struct buf *out)
{
	int r = wire_put_u64(out, records[0]->seq);

	if (r == 0)
		r = wire_put_u32(out, (uint32_t)count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		assert(records[i]->seq == records[0]->seq + i);
		r = wire_put_u32(out, records[i]->change_count);
		if (r == 0)
			r = wire_put_blob(out, buf_bytes(&records[i]->changes));
	}
	return r;
}

int journal_frame_records(struct aead_ctx *ctx, const struct journal_seal *seal, uint64_t number,
			  struct record *const *records, size_t count, struct buf *out)
{
	size_t start = out->len;
	int r = buf_append_zeros(out, JOURNAL_HEAD_BYTES);

	assert(count > 0 && count <= UINT32_MAX);
	if (r == 0)
		r = put_records(records, count, out);
	if (r == 0)
		r = frame_finish(ctx, seal, number, JOURNAL_RECORDS, out, start);
	if (r < 0)
		out->len = start;
	return r;
}

int journal_frame_mark(struct aead_ctx *ctx, const struct journal_seal *seal, uint64_t number,
		       uint64_t synced_seq, struct buf *out)
{
	size_t start = out->len;
	int r = buf_append_zeros(out, JOURNAL_HEAD_BYTES);

	if (r == 0)
		r = wire_put_u64(out, synced_seq);
	if (r == 0)
		r = frame_finish(ctx, seal, number, JOURNAL_MARK, out, start);
	if (r < 0)
		out->len = start;
	return r;
}

/* ---- frames in ---- */

static bool is_zeros(struct bytes bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		if (bytes.ptr[i] != 0)
			return false;
	return true;
}

static int parse_record(struct wire_reader *reader, uint32_t *change_count, struct bytes *changes)
{
	*change_count = wire_get_u32(reader);
	*changes = wire_get_blob(reader, JOURNAL_FRAME_BYTES_MAX);
	return wire_reader_check(reader);
}

int journal_body_parse(enum journal_frame_kind kind, struct bytes body,
		       struct journal_frame *frame)
{
	struct wire_reader reader = wire_reader_of(body);
	struct journal_frame parsed = {.kind = kind, .off = frame->off, .number = frame->number};
	uint32_t change_count;
	struct bytes changes, padding;

	if (kind == JOURNAL_MARK) {
		parsed.synced_seq = wire_get_u64(&reader);
	} else {
		parsed.first_seq = wire_get_u64(&reader);
		parsed.count = wire_get_u32(&reader);
		parsed.records = bytes_of(reader.ptr, wire_left(&reader));
		for (uint32_t i = 0; i < parsed.count; i++)
			if (parse_record(&reader, &change_count, &changes) < 0)
				return -EBADMSG;
		if (parsed.first_seq == 0 || parsed.count == 0 ||
		    parsed.first_seq > UINT64_MAX - parsed.count)
			return -EBADMSG;
	}
	padding = wire_get_view(&reader, wire_left(&reader));
	if (wire_reader_end(&reader) < 0 || padding.len >= JOURNAL_SLOT_BYTES ||
	    !is_zeros(padding))
		return -EBADMSG;
	*frame = parsed;
	return 0;
}

int journal_body_record(struct bytes *left, struct record *record)
{
	struct wire_reader reader = wire_reader_of(*left);
	uint32_t change_count;
	struct bytes changes;
	int r = parse_record(&reader, &change_count, &changes);

	if (r == 0)
		r = buf_append(&record->changes, changes);
	if (r < 0)
		return r;
	record->change_count = change_count;
	*left = bytes_of(reader.ptr, wire_left(&reader));
	return 0;
}

/* Whether a frame may start at off: a sane head that fits.  Fills len, kind, number. */
static bool head_read(struct bytes file, size_t off, uint32_t *len, uint32_t *kind,
		      uint64_t *number)
{
	if (off > file.len || file.len - off < JOURNAL_SLOT_BYTES)
		return false;
	*len = wire_load_u32(file.ptr + off);
	*kind = wire_load_u32(file.ptr + off + 4);
	*number = wire_load_u64(file.ptr + off + 8);
	if (*len < JOURNAL_SLOT_BYTES || *len % JOURNAL_SLOT_BYTES != 0 ||
	    *len > JOURNAL_FRAME_BYTES_MAX || *len > file.len - off || *number == 0)
		return false;
	return *kind == JOURNAL_RECORDS || (*kind == JOURNAL_MARK && *len == JOURNAL_SLOT_BYTES);
}

static int frame_open(struct aead_ctx *ctx, const struct journal_seal *seal, struct bytes file,
		      size_t off, uint32_t len, uint64_t number, struct buf *body)
{
	uint8_t aad[AAD_BYTES];

	frame_aad(seal, file.ptr + off, aad);
	return aead_open_buf(ctx, &seal->key, number, bytes_of(aad, sizeof(aad)),
			     bytes_of(file.ptr + off + JOURNAL_HEAD_BYTES,
				      len - JOURNAL_HEAD_BYTES),
			     body);
}

int journal_find_marks(struct aead_ctx *ctx, const struct journal_seal *seal, struct bytes file,
		       bool *found, uint64_t *synced_seq)
{
	uint64_t number, newest = 0;
	uint32_t len, kind;
	bool any = false;

	for (size_t off = JOURNAL_HEADER_BYTES; off < file.len; off += JOURNAL_SLOT_BYTES) {
		struct journal_frame frame = {0};
		AUTO(buf) body = BUF_INIT;
		int r;

		if (!head_read(file, off, &len, &kind, &number) || kind != JOURNAL_MARK)
			continue;
		r = frame_open(ctx, seal, file, off, len, number, &body);
		if (r == 0)
			r = journal_body_parse(JOURNAL_MARK, buf_bytes(&body), &frame);
		if (r == -EBADMSG)
			continue;
		if (r < 0)
			return r;
		any = true;
		newest = MAX(newest, frame.synced_seq);
	}
	*found = any;
	*synced_seq = newest;
	return 0;
}

void journal_walk_init(struct journal_walk *walk, struct aead_ctx *ctx,
		       const struct journal_seal *seal, struct bytes file)
{
	*walk = (struct journal_walk){.ctx = ctx,
				      .seal = seal,
				      .file = file,
				      .off = JOURNAL_HEADER_BYTES,
				      .bad_off = SIZE_MAX,
				      .tries_left = TRIES_MAX};
}

void journal_walk_release(struct journal_walk *walk)
{
	buf_release(&walk->body);
}

/* Opens the frame at walk->off: 0, -EBADMSG, or another error that ends the walk. */
static int walk_open(struct journal_walk *walk, struct journal_frame *frame, uint32_t *len)
{
	uint32_t kind;
	uint64_t number;
	int r;

	if (!head_read(walk->file, walk->off, len, &kind, &number) || number <= walk->last_number)
		return -EBADMSG;
	if (walk->bad_off != SIZE_MAX && walk->tries_left-- == 0) {
		walk->tries_left = 0;
		walk->off = walk->file.len;
		return -EBADMSG;
	}
	buf_clear(&walk->body);
	r = frame_open(walk->ctx, walk->seal, walk->file, walk->off, *len, number, &walk->body);
	if (r < 0)
		return r;
	frame->off = walk->off;
	frame->number = number;
	return journal_body_parse(kind, buf_bytes(&walk->body), frame);
}

int journal_walk_next(struct journal_walk *walk, struct journal_frame *frame)
{
	walk->is_gap = false;
	while (walk->off < walk->file.len) {
		uint32_t len = 0;
		int r = walk_open(walk, frame, &len);

		if (r == 0) {
			walk->off += len;
			walk->last_number = frame->number;
			return 1;
		}
		if (r != -EBADMSG)
			return r;
		walk->is_gap = true;
		if (walk->bad_off == SIZE_MAX)
			walk->bad_off = walk->off;
		if (walk->off < walk->file.len)
			walk->off += MIN(JOURNAL_SLOT_BYTES, walk->file.len - walk->off);
	}
	return 0;
}
