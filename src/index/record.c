/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoding of a record's changes.  Every change is
 *
 *	u8 type, u8 version (1), varint length, payload of that length
 *
 * and a payload is its fields in the order of the put_* functions below:
 * numbers as varints, signed ones zigzag, digests raw, texts and blobs with
 * a varint length in front.  tests/unit/golden/record.hex pins the bytes.
 *
 * The payload is written straight behind a header with room for a length of
 * one byte; only longer payloads (a few long names and values) are moved.
 *
 * Decoding trusts nothing: whatever passes is a change that apply can take
 * (numbers fit the engine's signed 64 bits, ranges do not overflow, names hold
 * no NUL and no slash, texts fit their rows).
 */
#include "index/record.h"

#include "util/wire.h"

#include <assert.h>
#include <errno.h>

#define CHANGE_VERSION  1
#define HEADER_LEN      3 /* type, version, length of one byte */
#define SETTING_LEN_MAX (64 * 1024)

struct record *record_new(void)
{
	return mem_alloc(sizeof(struct record));
}

void record_release(struct record *record)
{
	buf_release(&record->changes);
	*record = (struct record)RECORD_INIT;
}

void record_free(struct record *record)
{
	if (record == NULL)
		return;
	record_release(record);
	mem_free(record);
}

/* ---- putting ---- */

/* Between put_begin and put_end the first failure sticks in *r. */
struct put {
	struct record *record;
	struct buf *buf;
	size_t start;
	int r;
};

static struct put put_begin(struct record *record, enum change_type type)
{
	struct put put = {
		.record = record,
		.buf = &record->changes,
		.start = record->changes.len,
		.r = record->error,
	};

	if (put.r == 0)
		put.r = buf_reserve(put.buf, HEADER_LEN + 128);
	if (put.r == 0)
		put.r = wire_put_u8(put.buf, (uint8_t)type);
	if (put.r == 0)
		put.r = wire_put_u8(put.buf, CHANGE_VERSION);
	if (put.r == 0)
		put.r = wire_put_u8(put.buf, 0);
	return put;
}

/* A payload of 128 bytes or more needs a longer length in front: move it. */
static int put_long_length(struct buf *buf, size_t start, size_t len)
{
	uint8_t bytes[10];
	size_t count = 0;
	size_t left = len;
	uint8_t *payload;

	while (left >= 0x80) {
		bytes[count++] = (uint8_t)(left | 0x80);
		left >>= 7;
	}
	bytes[count++] = (uint8_t)left;
	if (buf_append_zeros(buf, count - 1) < 0)
		return -ENOMEM;
	payload = buf->ptr + start + HEADER_LEN;
	memmove(payload + count - 1, payload, len);
	memcpy(payload - 1, bytes, count);
	return 0;
}

static void put_end(struct put *put)
{
	size_t len = put->buf->len - put->start - HEADER_LEN;

	if (put->r == 0 && len < 0x80)
		put->buf->ptr[put->start + HEADER_LEN - 1] = (uint8_t)len;
	else if (put->r == 0)
		put->r = put_long_length(put->buf, put->start, len);
	if (put->r == 0) {
		put->record->change_count++;
		return;
	}
	put->buf->len = put->start;
	put->record->error = put->r;
}

static void put_uint(struct put *put, uint64_t v)
{
	if (put->r == 0)
		put->r = wire_put_varint(put->buf, v);
}

static void put_int(struct put *put, int64_t v)
{
	put_uint(put, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

static void put_raw(struct put *put, const void *ptr, size_t len)
{
	if (put->r == 0)
		put->r = wire_put_raw(put->buf, ptr, len);
}

static void put_blob(struct put *put, struct bytes blob)
{
	if (put->r == 0)
		put->r = wire_put_blob(put->buf, blob);
}

static void put_text(struct put *put, const char *text, size_t size)
{
	put_blob(put, bytes_of(text, strnlen(text, size - 1)));
}

static void put_time(struct put *put, struct wall_time t)
{
	put_int(put, t.sec);
	put_uint(put, t.nsec);
}

/* The number of an inode that changes: of none in a snapshot. */
static void put_ino(struct put *put, uint64_t ino)
{
	if (put->r == 0 && ino_snapshot_no(ino) != 0)
		put->r = -EROFS;
	put_uint(put, ino);
}

void record_put_inode(struct record *record, const struct inode_row *inode)
{
	struct put put = put_begin(record, CHANGE_INODE_PUT);

	put_ino(&put, inode->ino);
	put_uint(&put, inode->mode);
	put_uint(&put, inode->uid);
	put_uint(&put, inode->gid);
	put_uint(&put, inode->nlink);
	put_uint(&put, inode->rdev);
	put_uint(&put, inode->size);
	put_time(&put, inode->atime);
	put_time(&put, inode->mtime);
	put_time(&put, inode->ctime);
	put_time(&put, inode->btime);
	put_uint(&put, inode->flags);
	put_uint(&put, inode->parent);
	put_uint(&put, inode->policy_root);
	put_end(&put);
}

static void put_numbers(struct record *record, enum change_type type, const uint64_t *numbers,
			size_t count)
{
	struct put put = put_begin(record, type);

	for (size_t i = 0; i < count; i++)
		put_uint(&put, numbers[i]);
	put_end(&put);
}

static void put_number(struct record *record, enum change_type type, uint64_t number)
{
	put_numbers(record, type, &number, 1);
}

void record_del_inode(struct record *record, uint64_t ino)
{
	put_number(record, CHANGE_INODE_DEL, ino);
}

void record_put_dirent(struct record *record, uint64_t parent, uint64_t cookie, struct bytes name,
		       uint64_t ino, uint32_t type)
{
	struct put put = put_begin(record, CHANGE_DIRENT_PUT);

	assert(name.len >= 1 && name.len <= NAME_LEN_MAX);
	put_ino(&put, parent);
	put_uint(&put, cookie);
	put_blob(&put, name);
	put_ino(&put, ino);
	put_uint(&put, type);
	put_end(&put);
}

void record_del_dirent(struct record *record, uint64_t parent, uint64_t cookie, struct bytes name)
{
	struct put put = put_begin(record, CHANGE_DIRENT_DEL);

	assert(name.len >= 1 && name.len <= NAME_LEN_MAX);
	put_ino(&put, parent);
	put_uint(&put, cookie);
	put_blob(&put, name);
	put_end(&put);
}

void record_put_xattr(struct record *record, uint64_t ino, struct bytes name, struct bytes value)
{
	struct put put = put_begin(record, CHANGE_XATTR_PUT);

	assert(name.len >= 1 && name.len <= NAME_LEN_MAX && value.len <= XATTR_LEN_MAX);
	put_uint(&put, ino);
	put_blob(&put, name);
	put_blob(&put, value);
	put_end(&put);
}

void record_del_xattr(struct record *record, uint64_t ino, struct bytes name)
{
	struct put put = put_begin(record, CHANGE_XATTR_DEL);

	assert(name.len >= 1 && name.len <= NAME_LEN_MAX);
	put_uint(&put, ino);
	put_blob(&put, name);
	put_end(&put);
}

void record_put_symlink(struct record *record, uint64_t ino, struct bytes target)
{
	struct put put = put_begin(record, CHANGE_SYMLINK_PUT);

	assert(target.len >= 1 && target.len <= LINK_LEN_MAX);
	put_uint(&put, ino);
	put_blob(&put, target);
	put_end(&put);
}

void record_put_extent(struct record *record, const struct extent_row *extent)
{
	uint64_t numbers[] = {extent->ino, extent->off, extent->len, extent->chunk_off,
			      extent->chunk_no};

	assert(extent->len > 0);
	put_numbers(record, CHANGE_EXTENT_PUT, numbers, ARRAY_COUNT(numbers));
}

void record_del_extents(struct record *record, uint64_t ino, uint64_t off, uint64_t len)
{
	uint64_t numbers[] = {ino, off, len};

	assert(len > 0);
	put_numbers(record, CHANGE_EXTENT_DEL, numbers, ARRAY_COUNT(numbers));
}

void record_put_chunk(struct record *record, const struct chunk_row *chunk)
{
	struct put put = put_begin(record, CHANGE_CHUNK_PUT);

	put_uint(&put, chunk->chunk_no);
	put_raw(&put, chunk->id.b, sizeof(chunk->id.b));
	put_uint(&put, chunk->shard_no);
	put_uint(&put, chunk->record_no);
	put_uint(&put, chunk->off);
	put_uint(&put, chunk->stored_len);
	put_uint(&put, chunk->raw_len);
	put_end(&put);
}

void record_del_chunk(struct record *record, uint64_t chunk_no)
{
	put_number(record, CHANGE_CHUNK_DEL, chunk_no);
}

void record_put_shard(struct record *record, const struct shard_row *shard)
{
	struct put put = put_begin(record, CHANGE_SHARD_PUT);

	put_uint(&put, shard->shard_no);
	put_raw(&put, shard->id.b, sizeof(shard->id.b));
	put_uint(&put, shard->state);
	put_uint(&put, shard->key_epoch);
	put_uint(&put, shard->writer_epoch);
	put_uint(&put, shard->policy_root);
	put_uint(&put, shard->priority);
	put_uint(&put, shard->object_len);
	put_uint(&put, shard->record_count);
	put_int(&put, shard->sealed_sec);
	put_raw(&put, shard->mac, sizeof(shard->mac));
	put_end(&put);
}

void record_del_shard(struct record *record, uint64_t shard_no)
{
	put_number(record, CHANGE_SHARD_DEL, shard_no);
}

void record_put_copy(struct record *record, const struct copy_row *copy)
{
	struct put put = put_begin(record, CHANGE_COPY_PUT);

	put_uint(&put, copy->shard_no);
	put_uint(&put, copy->provider_no);
	put_uint(&put, copy->state);
	put_int(&put, copy->changed_sec);
	put_int(&put, copy->verified_sec);
	put_end(&put);
}

void record_del_copy(struct record *record, uint64_t shard_no, uint32_t provider_no)
{
	uint64_t numbers[] = {shard_no, provider_no};

	put_numbers(record, CHANGE_COPY_DEL, numbers, ARRAY_COUNT(numbers));
}

void record_put_orphan(struct record *record, uint64_t ino)
{
	put_number(record, CHANGE_ORPHAN_PUT, ino);
}

void record_del_orphan(struct record *record, uint64_t ino)
{
	put_number(record, CHANGE_ORPHAN_DEL, ino);
}

#define PUT_TEXT(put, field) put_text(put, field, sizeof(field))

void record_put_provider(struct record *record, const struct provider_row *provider)
{
	struct put put = put_begin(record, CHANGE_PROVIDER_PUT);

	put_uint(&put, provider->provider_no);
	PUT_TEXT(&put, provider->name);
	PUT_TEXT(&put, provider->type);
	PUT_TEXT(&put, provider->vendor);
	PUT_TEXT(&put, provider->region);
	PUT_TEXT(&put, provider->role);
	put_uint(&put, provider->is_forgotten);
	put_end(&put);
}

void record_put_policy(struct record *record, const struct policy_row *policy)
{
	struct put put = put_begin(record, CHANGE_POLICY_PUT);

	put_uint(&put, policy->root);
	PUT_TEXT(&put, policy->text);
	put_uint(&put, policy->version);
	put_end(&put);
}

void record_del_policy(struct record *record, uint64_t root)
{
	put_number(record, CHANGE_POLICY_DEL, root);
}

void record_put_setting(struct record *record, struct bytes key, struct bytes value)
{
	struct put put = put_begin(record, CHANGE_SETTING_PUT);

	assert(key.len >= 1 && key.len <= NAME_LEN_MAX && value.len <= SETTING_LEN_MAX);
	put_blob(&put, key);
	put_blob(&put, value);
	put_end(&put);
}

void record_put_snapshot(struct record *record, const struct snapshot_row *snapshot)
{
	struct put put = put_begin(record, CHANGE_SNAPSHOT_PUT);

	put_uint(&put, snapshot->snapshot_no);
	PUT_TEXT(&put, snapshot->name);
	put_uint(&put, snapshot->root);
	put_uint(&put, snapshot->seq);
	put_int(&put, snapshot->created_sec);
	put_uint(&put, snapshot->files);
	put_uint(&put, snapshot->directories);
	put_uint(&put, snapshot->bytes);
	put_end(&put);
}

void record_del_snapshot(struct record *record, uint64_t snapshot_no)
{
	put_number(record, CHANGE_SNAPSHOT_DEL, snapshot_no);
}

void record_put_audit(struct record *record, const struct audit_row *audit)
{
	struct put put = put_begin(record, CHANGE_AUDIT_PUT);

	assert(audit->body.len >= 1 && audit->body.len <= AUDIT_BODY_LEN_MAX);
	put_uint(&put, audit->audit_no);
	put_time(&put, audit->time);
	put_raw(&put, audit->mac, sizeof(audit->mac));
	put_blob(&put, audit->body);
	put_end(&put);
}

void record_cut_audit(struct record *record, uint64_t upto_no)
{
	put_number(record, CHANGE_AUDIT_CUT, upto_no);
}

void record_drop_history(struct record *record, uint64_t ino, uint64_t at)
{
	struct put put = put_begin(record, CHANGE_HISTORY_DROP);

	put_uint(&put, ino);
	put_uint(&put, at);
	put_end(&put);
}

void record_put_version(struct record *record, uint64_t birth, uint64_t death)
{
	struct put put = put_begin(record, CHANGE_ROW_VERSION);

	put_uint(&put, birth);
	put_uint(&put, death);
	put_end(&put);
}

/* ---- walking ---- */

/* A value out of range is a failure of the reader like any other. */
static void get_bad(struct wire_reader *r)
{
	r->is_bad = true;
}

static uint64_t get_uint(struct wire_reader *r, uint64_t min, uint64_t max)
{
	uint64_t v = wire_get_varint(r);

	if (v < min || v > max) {
		get_bad(r);
		return min;
	}
	return v;
}

/* A number of an inode, cookie, chunk, shard, provider, snapshot: given from 1. */
static uint64_t get_no(struct wire_reader *r)
{
	return get_uint(r, 1, INT64_MAX);
}

/* Of an inode that changes: see put_ino. */
static uint64_t get_ino_no(struct wire_reader *r)
{
	return get_uint(r, 1, INO_MAX);
}

static uint32_t get_u32(struct wire_reader *r)
{
	return (uint32_t)get_uint(r, 0, UINT32_MAX);
}

static int64_t get_int(struct wire_reader *r)
{
	uint64_t v = wire_get_varint(r);

	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static struct wall_time get_time(struct wire_reader *r)
{
	struct wall_time t;

	t.sec = get_int(r);
	t.nsec = (uint32_t)get_uint(r, 0, 999999999);
	return t;
}

/* Names: 1 .. len_max bytes without NUL, and without a slash where `is_file_name`. */
static struct bytes get_name(struct wire_reader *r, size_t len_max, bool is_file_name)
{
	struct bytes name = wire_get_blob(r, len_max);

	if (name.len == 0 || memchr(name.ptr, '\0', name.len) != NULL ||
	    (is_file_name && memchr(name.ptr, '/', name.len) != NULL))
		get_bad(r);
	return name;
}

static void get_text(struct wire_reader *r, char *out, size_t size)
{
	struct bytes text = wire_get_blob(r, size - 1);

	if (text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL)
		get_bad(r);
	if (text.len > 0)
		memcpy(out, text.ptr, text.len);
	out[text.len] = '\0';
}
#define GET_TEXT(r, field) get_text(r, field, sizeof(field))

static void get_inode(struct wire_reader *r, struct change *change)
{
	struct inode_row *inode = &change->u.inode;

	inode->ino = get_ino_no(r);
	inode->mode = get_u32(r);
	inode->uid = get_u32(r);
	inode->gid = get_u32(r);
	inode->nlink = get_u32(r);
	inode->rdev = wire_get_varint(r);
	inode->size = get_uint(r, 0, INT64_MAX);
	inode->atime = get_time(r);
	inode->mtime = get_time(r);
	inode->ctime = get_time(r);
	inode->btime = get_time(r);
	inode->flags = get_u32(r);
	inode->parent = get_uint(r, 0, INT64_MAX);
	inode->policy_root = get_uint(r, 0, INT64_MAX);
	inode->birth = 0;
}

static void get_ino(struct wire_reader *r, struct change *change)
{
	change->u.ino = get_no(r);
}

static void get_dirent_key(struct wire_reader *r, struct change *change)
{
	change->u.dirent.parent = get_ino_no(r);
	change->u.dirent.cookie = get_no(r);
	change->u.dirent.name = get_name(r, NAME_LEN_MAX, true);
	change->u.dirent.ino = 0;
	change->u.dirent.type = 0;
}

static void get_dirent(struct wire_reader *r, struct change *change)
{
	get_dirent_key(r, change);
	change->u.dirent.ino = get_ino_no(r);
	change->u.dirent.type = (uint32_t)get_uint(r, 0, 15);
}

static void get_xattr_key(struct wire_reader *r, struct change *change)
{
	change->u.xattr.ino = get_no(r);
	change->u.xattr.name = get_name(r, NAME_LEN_MAX, false);
	change->u.xattr.value = bytes_of(NULL, 0);
}

static void get_xattr(struct wire_reader *r, struct change *change)
{
	get_xattr_key(r, change);
	change->u.xattr.value = wire_get_blob(r, XATTR_LEN_MAX);
}

static void get_symlink(struct wire_reader *r, struct change *change)
{
	change->u.symlink.ino = get_no(r);
	change->u.symlink.target = get_name(r, LINK_LEN_MAX, false);
}

static void get_extent(struct wire_reader *r, struct change *change)
{
	struct extent_row *extent = &change->u.extent;

	extent->ino = get_no(r);
	extent->off = get_uint(r, 0, INT64_MAX);
	extent->len = (uint32_t)get_uint(r, 1, UINT32_MAX);
	extent->chunk_off = get_u32(r);
	extent->chunk_no = get_uint(r, 0, INT64_MAX);
	if (extent->off > INT64_MAX - (uint64_t)extent->len ||
	    extent->chunk_off > UINT32_MAX - extent->len)
		get_bad(r);
}

static void get_range(struct wire_reader *r, struct change *change)
{
	change->u.range.ino = get_no(r);
	change->u.range.off = get_uint(r, 0, INT64_MAX);
	change->u.range.len = get_uint(r, 1, UINT64_MAX);
	if (change->u.range.len > UINT64_MAX - change->u.range.off)
		get_bad(r);
}

static void get_chunk(struct wire_reader *r, struct change *change)
{
	struct chunk_row *chunk = &change->u.chunk;

	chunk->chunk_no = get_no(r);
	wire_get_raw(r, chunk->id.b, sizeof(chunk->id.b));
	chunk->shard_no = get_no(r);
	chunk->record_no = get_u32(r);
	chunk->off = get_u32(r);
	chunk->stored_len = get_u32(r);
	chunk->raw_len = get_u32(r);
	chunk->refs = 0;
}

static void get_chunk_no(struct wire_reader *r, struct change *change)
{
	change->u.chunk.chunk_no = get_no(r);
}

static void get_shard(struct wire_reader *r, struct change *change)
{
	struct shard_row *shard = &change->u.shard;

	shard->shard_no = get_no(r);
	wire_get_raw(r, shard->id.b, sizeof(shard->id.b));
	shard->state = (uint32_t)get_uint(r, SHARD_OPEN, SHARD_GONE);
	shard->key_epoch = get_u32(r);
	shard->writer_epoch = get_uint(r, 0, INT64_MAX);
	shard->policy_root = get_uint(r, 0, INT64_MAX);
	shard->priority = get_u32(r);
	shard->object_len = get_uint(r, 0, INT64_MAX);
	shard->record_count = get_u32(r);
	shard->sealed_sec = get_int(r);
	wire_get_raw(r, shard->mac, sizeof(shard->mac));
	shard->live_bytes = 0;
	shard->total_bytes = 0;
}

static void get_shard_no(struct wire_reader *r, struct change *change)
{
	change->u.shard.shard_no = get_no(r);
}

static void get_copy_key(struct wire_reader *r, struct change *change)
{
	change->u.copy = (struct copy_row){0};
	change->u.copy.shard_no = get_no(r);
	change->u.copy.provider_no = (uint32_t)get_uint(r, 1, UINT32_MAX);
}

static void get_copy(struct wire_reader *r, struct change *change)
{
	get_copy_key(r, change);
	change->u.copy.state = (uint32_t)get_uint(r, COPY_NONE, COPY_DELETING);
	change->u.copy.changed_sec = get_int(r);
	change->u.copy.verified_sec = get_int(r);
}

static void get_provider(struct wire_reader *r, struct change *change)
{
	struct provider_row *provider = &change->u.provider;

	provider->provider_no = (uint32_t)get_uint(r, 1, UINT32_MAX);
	GET_TEXT(r, provider->name);
	GET_TEXT(r, provider->type);
	GET_TEXT(r, provider->vendor);
	GET_TEXT(r, provider->region);
	GET_TEXT(r, provider->role);
	provider->is_forgotten = (uint32_t)get_uint(r, 0, 1);
}

static void get_policy(struct wire_reader *r, struct change *change)
{
	change->u.policy.root = get_no(r);
	GET_TEXT(r, change->u.policy.text);
	change->u.policy.version = get_uint(r, 0, INT64_MAX);
}

static void get_policy_root(struct wire_reader *r, struct change *change)
{
	change->u.policy.root = get_no(r);
}

static void get_setting(struct wire_reader *r, struct change *change)
{
	change->u.setting.key = get_name(r, NAME_LEN_MAX, false);
	change->u.setting.value = wire_get_blob(r, SETTING_LEN_MAX);
}

static void get_snapshot(struct wire_reader *r, struct change *change)
{
	struct snapshot_row *snapshot = &change->u.snapshot;

	snapshot->snapshot_no = get_no(r);
	GET_TEXT(r, snapshot->name);
	snapshot->root = get_no(r);
	snapshot->seq = get_uint(r, 0, INT64_MAX);
	snapshot->created_sec = get_int(r);
	snapshot->files = get_uint(r, 0, INT64_MAX);
	snapshot->directories = get_uint(r, 0, INT64_MAX);
	snapshot->bytes = get_uint(r, 0, INT64_MAX);
}

static void get_snapshot_no(struct wire_reader *r, struct change *change)
{
	change->u.snapshot.snapshot_no = get_no(r);
}

static void get_audit(struct wire_reader *r, struct change *change)
{
	struct audit_row *audit = &change->u.audit;

	audit->audit_no = get_no(r);
	audit->time = get_time(r);
	wire_get_raw(r, audit->mac, sizeof(audit->mac));
	audit->body = get_name(r, AUDIT_BODY_LEN_MAX, false);
}

static void get_audit_no(struct wire_reader *r, struct change *change)
{
	change->u.audit.audit_no = get_no(r);
}

static void get_old(struct wire_reader *r, struct change *change)
{
	change->u.old.ino = get_no(r);
	change->u.old.at = get_uint(r, 0, INT64_MAX);
}

static void get_version(struct wire_reader *r, struct change *change)
{
	change->u.version.birth = get_uint(r, 0, INT64_MAX);
	change->u.version.death = get_uint(r, 0, INT64_MAX);
	if (change->u.version.death != 0 && change->u.version.death <= change->u.version.birth)
		get_bad(r);
}

static void (*const change_getters[CHANGE_TYPE_COUNT])(struct wire_reader *r,
						       struct change *change) = {
	[CHANGE_INODE_PUT] = get_inode,
	[CHANGE_INODE_DEL] = get_ino,
	[CHANGE_DIRENT_PUT] = get_dirent,
	[CHANGE_DIRENT_DEL] = get_dirent_key,
	[CHANGE_XATTR_PUT] = get_xattr,
	[CHANGE_XATTR_DEL] = get_xattr_key,
	[CHANGE_SYMLINK_PUT] = get_symlink,
	[CHANGE_EXTENT_PUT] = get_extent,
	[CHANGE_EXTENT_DEL] = get_range,
	[CHANGE_CHUNK_PUT] = get_chunk,
	[CHANGE_CHUNK_DEL] = get_chunk_no,
	[CHANGE_SHARD_PUT] = get_shard,
	[CHANGE_SHARD_DEL] = get_shard_no,
	[CHANGE_COPY_PUT] = get_copy,
	[CHANGE_COPY_DEL] = get_copy_key,
	[CHANGE_ORPHAN_PUT] = get_ino,
	[CHANGE_ORPHAN_DEL] = get_ino,
	[CHANGE_PROVIDER_PUT] = get_provider,
	[CHANGE_POLICY_PUT] = get_policy,
	[CHANGE_POLICY_DEL] = get_policy_root,
	[CHANGE_SETTING_PUT] = get_setting,
	[CHANGE_SNAPSHOT_PUT] = get_snapshot,
	[CHANGE_SNAPSHOT_DEL] = get_snapshot_no,
	[CHANGE_AUDIT_PUT] = get_audit,
	[CHANGE_HISTORY_DROP] = get_old,
	[CHANGE_ROW_VERSION] = get_version,
	[CHANGE_AUDIT_CUT] = get_audit_no,
};

struct record_walk record_walk_of(struct bytes changes)
{
	return (struct record_walk){.left = changes};
}

int record_walk_next(struct record_walk *walk, struct change *change)
{
	struct wire_reader r = wire_reader_of(walk->left);
	struct wire_reader payload;
	uint8_t type, version;
	uint64_t len;

	if (walk->left.len == 0)
		return 0;
	type = wire_get_u8(&r);
	version = wire_get_u8(&r);
	if (wire_reader_check(&r) < 0)
		return -EBADMSG;
	if (type == 0)
		return -EBADMSG;
	if (type >= CHANGE_TYPE_COUNT || !change_getters[type] || version != CHANGE_VERSION)
		return -EPROTONOSUPPORT;
	len = wire_get_varint(&r);
	if (wire_reader_check(&r) < 0 || len > wire_left(&r))
		return -EBADMSG;
	payload = wire_reader_of(wire_get_view(&r, len));
	change->type = type;
	change_getters[type](&payload, change);
	if (wire_reader_end(&payload) < 0)
		return -EBADMSG;
	walk->left = bytes_of(r.ptr, wire_left(&r));
	return 1;
}
