/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_PACK_H
#define SHARDFS_STORE_PACK_H

/*
 * The format of a shard object, without I/O (DESIGN section 4).
 *
 *   header   64 bytes, plain, authenticated by the block MACs: magic "SHARDFS1", version,
 *            kind (whole shard, or fragment i of k+m), suite, original length (fragments), key
 *            epoch, fs id, shard name
 *   records  sealed one by one: AES-256-GCM, key derived from (epoch, shard name), nonce = record
 *            number, associated data = (fs id, shard name, record number, kind).  Inside: u8 form
 *            (0 raw, 1 zstd), u32 raw length, chunk name (32), then the bytes.
 *   footer   sealed once, own key, nonce 0: shard_no, class, writer epoch, and for each record its
 *            chunk name, offset, sealed length, raw length; then zeros up to the Padmé size
 *            (Nikitin et al., PETS 2019) of all so far.  The padding lies inside, because zeros in
 *            the open would show where it begins, and with it the exact size.
 *   MACs     GMAC of each MiB before this point
 *   tail     72 bytes: offset and length of the footer (sealed: the footer's key, nonce 1), count
 *            of block MACs, MAC of the whole, magic
 *
 * shardfs-format(5) lists offsets; golden files pin them.
 *
 * Nothing here keeps state: any thread, as long as each has contexts of its own.
 */

#include "crypto/keyring.h"
#include "index/rows.h"

#define PACK_VERSION       1
#define PACK_HEADER_LEN    64
#define PACK_TAIL_LEN      72
#define PACK_RECORD_PREFIX 37 /* inside the sealed record, before the chunk's bytes */
#define PACK_RECORD_EXTRA  (PACK_RECORD_PREFIX + 16)
#define PACK_ENTRY_LEN     45 /* of one record, in the footer */
#define PACK_FOOTER_PREFIX 45 /* before the entries */
#define PACK_OBJECT_LEN_MAX ((uint64_t)256 << 20)

/* Keys of one shard, derived once and kept while it is in use.  Wipe with pack_keys_release. */
struct pack_keys {
	struct shard_id id;
	uint32_t key_epoch;
	struct aead_key records, footer;
	struct mac_key mac;
	struct fs_id fs_id;
};
#define PACK_KEYS_INIT {0}
/* -ENOKEY: the epoch is unknown or destroyed; -ENOMEM, -EIO.  *keys is wiped on failure. */
int pack_keys_init(struct pack_keys *keys, struct keyring *keyring, uint32_t key_epoch,
		   const struct shard_id *id);
void pack_keys_release(struct pack_keys *keys);

void pack_header_write(const struct pack_keys *keys, uint8_t out[PACK_HEADER_LEN]);

/* Padmé: the padded length of an object of `len` bytes. */
uint64_t pack_padded_len(uint64_t len);
/* Length of the finished object whose header and records take records_len bytes. */
uint64_t pack_object_len(uint64_t records_len, uint32_t entry_count);

/*
 * Seal one record into out (raw payload length + PACK_RECORD_EXTRA bytes).  `form` and `payload`
 * as from the codec; payload may already lie at out + PACK_RECORD_PREFIX.  Never twice with one
 * record_no unless the bytes are the same.  -EINVAL: sizes out of range; -ENOMEM, -EIO.
 */
int pack_seal_record(struct aead_ctx *ctx, const struct pack_keys *keys, uint32_t record_no,
		     const struct chunk_id *id, uint8_t form, uint32_t raw_len, struct bytes payload,
		     uint8_t *out);

struct pack_record {
	struct chunk_id id;
	uint8_t form;         /* enum compress_kind, checked */
	uint32_t raw_len;     /* 1 .. CHUNK_BYTES_MAX; payload.len when raw */
	struct bytes payload; /* within `plain` */
};
/*
 * Opens a record and checks number, form and sizes.  plain: sealed.len - 16 bytes; may be
 * sealed.ptr itself.  The caller compares out->id with the name it wants.  -EBADMSG: plain then
 * holds nothing to be used.
 */
int pack_open_record(struct aead_ctx *ctx, const struct pack_keys *keys, uint32_t record_no,
		     struct bytes sealed, uint8_t *plain, struct pack_record *out);

struct pack_entry {
	struct chunk_id id;
	uint32_t off, stored_len, raw_len;
	bool is_void; /* number taken, append failed: nothing there */
};
struct pack_footer {
	struct shard_row shard;     /* shard_no, class, epochs, sealed_sec; record_count */
	struct pack_entry *entries; /* index = record number; owned, mem_free */
	uint32_t entry_count;
};
#define PACK_FOOTER_INIT {0}
void pack_footer_release(struct pack_footer *footer);

/*
 * Makes everything behind the records: footer with padding, MACs, tail.  `records` views the object
 * so far (header and records).  Appends to out; mac: of the whole object.  ONCE for each shard name,
 * since footer and block MACs are bound to these bytes: who must write them again keeps them.
 * -EFBIG: over PACK_OBJECT_LEN_MAX; -ENOMEM, -EIO.
 */
int pack_finish(struct aead_ctx *ctx, const struct pack_keys *keys, struct bytes records,
		const struct pack_footer *footer, struct buf *out, uint8_t mac[32]);
/*
 * Foreign bytes: checks header, tail, block MACs, whole MAC, footer.  footer->shard is complete, with
 * object_len, mac and state SHARD_SEALED.  -EBADMSG; -EPROTONOSUPPORT: newer; -ENOMEM.
 */
int pack_verify(struct aead_ctx *ctx, const struct pack_keys *keys, struct bytes object,
		struct pack_footer *footer);
/* From the header alone (recovery): which shard, which epoch.  -EBADMSG, -EPROTONOSUPPORT. */
int pack_header_read(struct bytes object, struct shard_id *id, uint32_t *key_epoch,
		     struct fs_id *fs_id);
/*
 * From the last PACK_TAIL_LEN bytes of an object of object_len bytes: the MAC of the whole (as the
 * object claims it), and with pack_tail_open where the footer is, so that it can be fetched alone
 * and opened.  -EBADMSG.
 */
int pack_tail_read(struct bytes tail, uint64_t object_len, uint8_t mac[32]);
int pack_tail_open(struct aead_ctx *ctx, const struct pack_keys *keys, struct bytes tail,
		   uint64_t object_len, uint32_t *footer_off, uint32_t *footer_len);
int pack_open_footer(struct aead_ctx *ctx, const struct pack_keys *keys, uint32_t footer_off,
		     struct bytes sealed, struct pack_footer *footer);

#endif
