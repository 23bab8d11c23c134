/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/superblock.h"

#include "util/mem.h"
#include "util/wire.h"

#include <assert.h>
#include <errno.h>

/*
 * Every field has one encoding and unused bytes are zero, so encode(parse(x))
 * gives x again: the MAC can be checked over a fresh encoding, and nothing
 * hides in a superblock.  Lengths are checked before anything is read by them.
 */

static const char magic[8] = {'S', 'H', 'A', 'R', 'D', 'F', 'S', 'B'};

enum {
	HEAD_BYTES = 88,
	SLOT_BYTES = 208,
	SLOT_ZERO_BYTES = 40,
	EPOCH_BYTES = 96,
	MAC_BYTES = 32,
	KDF_SCRYPT = 1,
};

static bool is_zero(const uint8_t *ptr, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (ptr[i] != 0)
			return false;
	}
	return true;
}

/* Zero bytes that the layout demands; anything else spoils the reader. */
static void get_zeros(struct wire_reader *r, size_t len)
{
	struct bytes view = wire_get_view(r, len);

	if (!r->is_bad && !is_zero(view.ptr, view.len))
		r->is_bad = true;
}

static bool kdf_is_sane(const struct kdf_params *kdf)
{
	return kdf->log2_n >= 1 && kdf->log2_n <= 22 && kdf->r >= 1 && kdf->r <= 32 &&
	       kdf->p >= 1 && kdf->p <= 16 && ((uint64_t)128 * kdf->r << kdf->log2_n) <= GIB;
}

bool superblock_kdf_is_valid(struct kdf_params kdf)
{
	return kdf_is_sane(&kdf);
}

bool superblock_chunk_sizes_are_valid(uint32_t min_bytes, uint32_t avg_bytes, uint32_t max_bytes)
{
	return min_bytes >= 256 && avg_bytes >= 1024 && (avg_bytes & (avg_bytes - 1)) == 0 &&
	       avg_bytes <= 8 * MIB && min_bytes <= avg_bytes / 2 && max_bytes / 2 >= avg_bytes &&
	       max_bytes <= CHUNK_BYTES_MAX;
}

static bool get_slot(struct wire_reader *r, struct key_slot *slot)
{
	uint8_t kdf;

	slot->slot_no = wire_get_u32(r);
	kdf = wire_get_u8(r);
	slot->factors = wire_get_u8(r);
	slot->kdf.log2_n = wire_get_u8(r);
	get_zeros(r, 1);
	slot->kdf.r = wire_get_u32(r);
	slot->kdf.p = wire_get_u32(r);
	slot->created_s = wire_get_i64(r);
	wire_get_raw(r, slot->label, SUPERBLOCK_LABEL_BYTES);
	wire_get_raw(r, slot->salt, sizeof(slot->salt));
	wire_get_raw(r, slot->commitment, sizeof(slot->commitment));
	wire_get_raw(r, slot->sealed_root, sizeof(slot->sealed_root));
	get_zeros(r, SLOT_ZERO_BYTES);
	size_t label_len = strnlen(slot->label, SUPERBLOCK_LABEL_BYTES);

	return !r->is_bad && kdf == KDF_SCRYPT && slot->factors >= 1 && slot->factors <= 3 &&
	       kdf_is_sane(&slot->kdf) &&
	       is_zero((const uint8_t *)slot->label + label_len,
		       SUPERBLOCK_LABEL_BYTES - label_len);
}

static bool get_epoch(struct wire_reader *r, struct key_epoch *epoch)
{
	epoch->epoch = wire_get_u32(r);
	epoch->state = wire_get_u8(r);
	get_zeros(r, 3);
	epoch->created_s = wire_get_i64(r);
	wire_get_raw(r, epoch->salt, sizeof(epoch->salt));
	wire_get_raw(r, epoch->sealed_master, sizeof(epoch->sealed_master));
	if (r->is_bad || epoch->epoch == 0)
		return false;
	if (epoch->state == KEY_EPOCH_DESTROYED)
		return is_zero(epoch->salt, sizeof(epoch->salt)) &&
		       is_zero(epoch->sealed_master, sizeof(epoch->sealed_master));
	return epoch->state == KEY_EPOCH_LIVE;
}

static bool get_tables(struct wire_reader *r, struct superblock *sb)
{
	for (uint32_t i = 0; i < sb->slot_count; i++) {
		if (!get_slot(r, &sb->slots[i]) ||
		    (i > 0 && sb->slots[i].slot_no <= sb->slots[i - 1].slot_no))
			return false;
	}
	for (uint32_t i = 0; i < sb->epoch_count; i++) {
		if (!get_epoch(r, &sb->epochs[i]) ||
		    (i > 0 && sb->epochs[i].epoch <= sb->epochs[i - 1].epoch))
			return false;
	}
	const struct key_epoch *current = superblock_find_epoch(sb, sb->current_epoch);

	return current && current->state == KEY_EPOCH_LIVE;
}

static int parse_into(struct bytes src, struct superblock *sb)
{
	struct wire_reader r = wire_reader_of(src);
	uint8_t got_magic[sizeof(magic)];
	uint32_t len;

	wire_get_raw(&r, got_magic, sizeof(got_magic));
	sb->version = wire_get_u32(&r);
	if (r.is_bad || memcmp(got_magic, magic, sizeof(magic)) != 0 || sb->version == 0)
		return -EBADMSG;
	if (sb->version > SUPERBLOCK_VERSION)
		return -EPROTONOSUPPORT;
	len = wire_get_u32(&r);
	sb->compat = wire_get_u64(&r);
	sb->incompat = wire_get_u64(&r);
	wire_get_raw(&r, sb->fs_id.b, sizeof(sb->fs_id.b));
	sb->revision = wire_get_u64(&r);
	sb->created_s = wire_get_i64(&r);
	sb->chunk_min_bytes = wire_get_u32(&r);
	sb->chunk_avg_bytes = wire_get_u32(&r);
	sb->chunk_max_bytes = wire_get_u32(&r);
	sb->current_epoch = wire_get_u32(&r);
	sb->slot_count = wire_get_u16(&r);
	sb->epoch_count = wire_get_u16(&r);
	sb->extension_len = wire_get_u32(&r);
	if (r.is_bad || len != src.len)
		return -EBADMSG;
	if (sb->incompat & ~SUPERBLOCK_INCOMPAT_KNOWN)
		return -EPROTONOSUPPORT;
	if (sb->slot_count > SUPERBLOCK_SLOTS_MAX || sb->epoch_count < 1 ||
	    sb->epoch_count > SUPERBLOCK_EPOCHS_MAX ||
	    sb->extension_len > SUPERBLOCK_EXTENSION_MAX ||
	    !superblock_chunk_sizes_are_valid(sb->chunk_min_bytes, sb->chunk_avg_bytes,
					      sb->chunk_max_bytes))
		return -EBADMSG;
	if (!get_tables(&r, sb))
		return -EBADMSG;
	wire_get_raw(&r, sb->extension, sb->extension_len);
	wire_get_raw(&r, sb->mac, sizeof(sb->mac));
	return wire_reader_end(&r);
}

int superblock_parse(struct bytes src, struct superblock *out)
{
	struct superblock *sb;
	int r;

	if (src.len > SUPERBLOCK_BYTES_MAX)
		return -EBADMSG;
	sb = mem_alloc(sizeof(*sb));
	if (!sb)
		return -ENOMEM;
	r = parse_into(src, sb);
	if (r == 0)
		*out = *sb;
	mem_free(sb);
	return r;
}

static int put_slot(struct buf *out, const struct key_slot *slot)
{
	int r = wire_put_u32(out, slot->slot_no);

	r = r ?: wire_put_u8(out, KDF_SCRYPT);
	r = r ?: wire_put_u8(out, slot->factors);
	r = r ?: wire_put_u8(out, slot->kdf.log2_n);
	r = r ?: wire_put_u8(out, 0);
	r = r ?: wire_put_u32(out, slot->kdf.r);
	r = r ?: wire_put_u32(out, slot->kdf.p);
	r = r ?: wire_put_i64(out, slot->created_s);
	r = r ?: wire_put_raw(out, slot->label, SUPERBLOCK_LABEL_BYTES);
	r = r ?: wire_put_raw(out, slot->salt, sizeof(slot->salt));
	r = r ?: wire_put_raw(out, slot->commitment, sizeof(slot->commitment));
	r = r ?: wire_put_raw(out, slot->sealed_root, sizeof(slot->sealed_root));
	return r ?: buf_append_zeros(out, SLOT_ZERO_BYTES);
}

static int put_epoch(struct buf *out, const struct key_epoch *epoch)
{
	int r = wire_put_u32(out, epoch->epoch);

	r = r ?: wire_put_u8(out, epoch->state);
	r = r ?: buf_append_zeros(out, 3);
	r = r ?: wire_put_i64(out, epoch->created_s);
	r = r ?: wire_put_raw(out, epoch->salt, sizeof(epoch->salt));
	return r ?: wire_put_raw(out, epoch->sealed_master, sizeof(epoch->sealed_master));
}

static int put_all(struct buf *out, const struct superblock *sb)
{
	uint32_t len = HEAD_BYTES + sb->slot_count * SLOT_BYTES + sb->epoch_count * EPOCH_BYTES +
		       sb->extension_len + MAC_BYTES;
	int r = wire_put_raw(out, magic, sizeof(magic));

	r = r ?: wire_put_u32(out, sb->version);
	r = r ?: wire_put_u32(out, len);
	r = r ?: wire_put_u64(out, sb->compat);
	r = r ?: wire_put_u64(out, sb->incompat);
	r = r ?: wire_put_raw(out, sb->fs_id.b, sizeof(sb->fs_id.b));
	r = r ?: wire_put_u64(out, sb->revision);
	r = r ?: wire_put_i64(out, sb->created_s);
	r = r ?: wire_put_u32(out, sb->chunk_min_bytes);
	r = r ?: wire_put_u32(out, sb->chunk_avg_bytes);
	r = r ?: wire_put_u32(out, sb->chunk_max_bytes);
	r = r ?: wire_put_u32(out, sb->current_epoch);
	r = r ?: wire_put_u16(out, (uint16_t)sb->slot_count);
	r = r ?: wire_put_u16(out, (uint16_t)sb->epoch_count);
	r = r ?: wire_put_u32(out, sb->extension_len);
	for (uint32_t i = 0; r == 0 && i < sb->slot_count; i++)
		r = put_slot(out, &sb->slots[i]);
	for (uint32_t i = 0; r == 0 && i < sb->epoch_count; i++)
		r = put_epoch(out, &sb->epochs[i]);
	return r ?: wire_put_raw(out, sb->extension, sb->extension_len);
}

int superblock_encode_body(const struct superblock *sb, struct buf *out)
{
	size_t before = out->len;
	int r;

	assert(sb->slot_count <= SUPERBLOCK_SLOTS_MAX);
	assert(sb->epoch_count <= SUPERBLOCK_EPOCHS_MAX);
	assert(sb->extension_len <= SUPERBLOCK_EXTENSION_MAX);
	r = put_all(out, sb);
	if (r < 0)
		out->len = before;
	return r;
}

const struct key_slot *superblock_find_slot(const struct superblock *sb, uint32_t slot_no)
{
	for (uint32_t i = 0; i < sb->slot_count; i++) {
		if (sb->slots[i].slot_no == slot_no)
			return &sb->slots[i];
	}
	return NULL;
}

const struct key_epoch *superblock_find_epoch(const struct superblock *sb, uint32_t epoch)
{
	for (uint32_t i = 0; i < sb->epoch_count; i++) {
		if (sb->epochs[i].epoch == epoch)
			return &sb->epochs[i];
	}
	return NULL;
}
