/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_PACK_H
#define SHARDFS_STORE_PACK_H

/*
 * The format of a shard object, without I/O (DESIGN section 4).
 *
 *   header   64 bytes, plain, authenticated by the whole-object MAC: magic "SHARDFS1", version,
 *            kind (whole shard, or fragment i of k+m), original length, key epoch, suite, fs id,
 *            shard name
 *   records  sealed one by one: AES-256-GCM, key derived from (epoch, shard name), nonce = record
 *            number, associated data = (fs id, shard name, record number, kind).  Inside: u8 form
 *            (0 raw, 1 zstd), u32 raw length, chunk name (32), then the bytes.
 *   footer   sealed once, own key: shard_no, class, writer epoch, and for each record its chunk
 *            name, offset, sealed length, raw length
 *   padding  zeros to the Padmé size (Nikitin et al., PETS 2019), then
 *   MACs     GMAC of each MiB before this point
 *   tail     fixed size: offset and length of the footer (sealed lengths would leak nothing more
 *            than the object's), count of block MACs, MAC of the whole, magic
 *
 * shardfs-format(5) lists offsets; golden files pin them.
 */

#include "crypto/keyring.h"
#include "index/rows.h"

#define PACK_HEADER_LEN     64
#define PACK_RECORD_PREFIX  37 /* inside the sealed record, before the chunk's bytes */
#define PACK_RECORD_EXTRA   (PACK_RECORD_PREFIX + 16)
#define CHUNK_BYTES_MAX     ((uint32_t)16 * 1024 * 1024)

/* Keys of one shard, derived once and kept while it is in use.  Wipe with pack_keys_release. */
struct pack_keys {
	struct shard_id id;
	uint32_t key_epoch;
	struct aead_key records, footer, mac;
	uint8_t fs_id[16];
};
int pack_keys_init(struct pack_keys *keys, const struct keyring *keyring, uint32_t key_epoch,
		   const struct shard_id *id); /* -ENOKEY: epoch unknown */
void pack_keys_release(struct pack_keys *keys);

void pack_header_write(const struct pack_keys *keys, uint8_t out[PACK_HEADER_LEN]);

/* Padmé: the padded length of an object of `len` bytes. */
uint64_t pack_padded_len(uint64_t len);

/*
 * Seal one record into out (raw payload length + PACK_RECORD_EXTRA bytes).  `form` and `payload`
 * as from the codec.  Never twice with one record_no unless the bytes are the same.
 */
int pack_seal_record(struct aead_ctx *ctx, const struct pack_keys *keys, uint32_t record_no,
		     const struct chunk_id *id, uint8_t form, uint32_t raw_len, struct bytes payload,
		     uint8_t *out);
/* Opens and checks name, number and sizes; payload is appended to out still in `form`.  -EBADMSG. */
int pack_open_record(struct aead_ctx *ctx, const struct pack_keys *keys, uint32_t record_no,
		     struct bytes sealed, struct chunk_id *id, uint8_t *form, uint32_t *raw_len,
		     struct buf *out);

struct pack_entry {
	struct chunk_id id;
	uint32_t off, stored_len, raw_len;
	bool is_void; /* number taken, append failed: nothing there */
};
struct pack_footer {
	struct shard_row shard;
	struct pack_entry *entries; /* index = record number; owned, mem_free */
	uint32_t entry_count;
};
void pack_footer_release(struct pack_footer *footer);

/*
 * Makes everything behind the records: footer, padding, MACs, tail.  `records` views the object so
 * far (header and records).  Appends to out; mac: of the whole object.
 */
int pack_finish(struct aead_ctx *ctx, const struct pack_keys *keys, struct bytes records,
		const struct pack_footer *footer, struct buf *out, uint8_t mac[32]);
/* Foreign bytes: checks header, tail, block MACs, whole MAC, footer.  -EBADMSG, -EPROTONOSUPPORT. */
int pack_verify(struct aead_ctx *ctx, const struct pack_keys *keys, struct bytes object,
		struct pack_footer *footer);
/* From the header alone (recovery): which shard, which epoch. -EBADMSG. */
int pack_header_read(struct bytes object, struct shard_id *id, uint32_t *key_epoch,
		     uint8_t fs_id[16]);

#endif
