/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CRYPTO_SUPERBLOCK_H
#define SHARDFS_CRYPTO_SUPERBLOCK_H

/*
 * The superblock: what any provider and a passphrase can start from.  This
 * file knows its bytes; crypto/keyring.h makes, opens and signs it.  No I/O.
 *
 * Layout, little-endian (also shardfs-format(5)):
 *
 *	offset  size  field
 *	     0     8  magic "SHARDFSB"
 *	     8     4  format version, 1
 *	    12     4  length of the whole superblock, MAC included
 *	    16     8  compatible features: unknown ones may be ignored
 *	    24     8  incompatible features: an unknown one refuses the mount
 *	    32    16  file system id, random
 *	    48     8  revision: +1 for each change
 *	    56     8  time of mkfs, seconds since 1970
 *	    64     4  smallest chunk, bytes
 *	    68     4  average chunk
 *	    72     4  largest chunk
 *	    76     4  current key epoch
 *	    80     2  S: number of key slots, 0 (kept elsewhere) .. 16
 *	    82     2  E: number of key epochs, 1 .. 256
 *	    84     4  X: length of the extension area, 0 .. 4096
 *	    88  208*S slots:
 *	              0   4  slot number, unique, ascending
 *	              4   1  key derivation: 1 = scrypt
 *	              5   1  factors: bit 0 passphrase, bit 1 key file
 *	              6   1  log2 of scrypt's N
 *	              7   1  zero
 *	              8   4  scrypt's r
 *	             12   4  scrypt's p
 *	             16   8  time of creation, seconds since 1970
 *	             24  32  label, UTF-8, zero-padded
 *	             56  32  salt
 *	             88  32  commitment to the slot's key
 *	            120  48  root key, sealed (AES-256-GCM, nonce 0), with its tag
 *	            168  40  zero
 *	     .  96*E  epochs:
 *	              0   4  number, from 1, unique, ascending
 *	              4   1  state: 1 live, 2 destroyed
 *	              5   3  zero
 *	              8   8  time of creation, seconds since 1970
 *	             16  32  salt (zero when destroyed)
 *	             48  48  master key, sealed (zero when destroyed)
 *	     .     X  extension area, kept as it is
 *	     .    32  HMAC-SHA-256 under the superblock key, over all before it
 */

#include "util/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define SUPERBLOCK_VERSION       1u
#define SUPERBLOCK_SLOTS_MAX     16u
#define SUPERBLOCK_EPOCHS_MAX    256u
#define SUPERBLOCK_EXTENSION_MAX 4096u
#define SUPERBLOCK_LABEL_BYTES   32
#define SUPERBLOCK_BYTES_MAX     ((size_t)36 * 1024)

#define SUPERBLOCK_COMPAT_KNOWN   ((uint64_t)0)
#define SUPERBLOCK_INCOMPAT_KNOWN ((uint64_t)0)

#define CHUNK_BYTES_MAX ((size_t)16 << 20) /* no chunk is ever larger */

struct fs_id {
	uint8_t b[16];
};

enum key_factor { KEY_FACTOR_PASSPHRASE = 1, KEY_FACTOR_FILE = 2 };

struct kdf_params {
	uint8_t log2_n; /* 1 .. 22 */
	uint32_t r;     /* 1 .. 32 */
	uint32_t p;     /* 1 .. 16 */
}; /* 128 * N * r is at most 1 GiB */

#define KDF_PARAMS_DEFAULT ((struct kdf_params){.log2_n = 16, .r = 8, .p = 1})
#define KDF_PARAMS_TEST    ((struct kdf_params){.log2_n = 4, .r = 1, .p = 1})

struct key_slot {
	uint32_t slot_no;
	uint8_t factors; /* of enum key_factor */
	struct kdf_params kdf;
	int64_t created_s;
	char label[SUPERBLOCK_LABEL_BYTES + 1];
	uint8_t salt[32];
	uint8_t commitment[32];
	uint8_t sealed_root[48];
};

enum key_epoch_state { KEY_EPOCH_LIVE = 1, KEY_EPOCH_DESTROYED = 2 };

struct key_epoch {
	uint32_t epoch; /* from 1 */
	uint8_t state;
	int64_t created_s;
	uint8_t salt[32];
	uint8_t sealed_master[48];
};

/* A value: holds no secret, owns nothing, may be copied. */
struct superblock {
	uint32_t version;
	uint64_t compat, incompat;
	struct fs_id fs_id;
	uint64_t revision;
	int64_t created_s;
	uint32_t chunk_min_bytes, chunk_avg_bytes, chunk_max_bytes;
	uint32_t current_epoch;
	uint32_t slot_count, epoch_count, extension_len;
	struct key_slot slots[SUPERBLOCK_SLOTS_MAX];
	struct key_epoch epochs[SUPERBLOCK_EPOCHS_MAX];
	uint8_t extension[SUPERBLOCK_EXTENSION_MAX];
	uint8_t mac[32]; /* as read; checked by the keyring */
};

/*
 * superblock_parse - foreign bytes to a struct; every field is in its range
 * afterwards, but NOTHING IS AUTHENTICATED before keyring_unlock() or
 * keyring_check() said so.
 * 0; -EBADMSG damaged or not a superblock; -EPROTONOSUPPORT made by a newer
 * version, or with an incompatible feature unknown here.
 */
int superblock_parse(struct bytes src, struct superblock *out);

/* All bytes before the MAC, appended to out.  The inverse of parse.  0 or -ENOMEM. */
int superblock_encode_body(const struct superblock *sb, struct buf *out);

/* In the ranges above?  256 <= min <= avg / 2, avg a power of two from 1 KiB to 8 MiB,
 * avg * 2 <= max <= CHUNK_BYTES_MAX. */
bool superblock_kdf_is_valid(struct kdf_params kdf);
bool superblock_chunk_sizes_are_valid(uint32_t min_bytes, uint32_t avg_bytes, uint32_t max_bytes);

/* NULL when there is none. */
const struct key_slot *superblock_find_slot(const struct superblock *sb, uint32_t slot_no);
const struct key_epoch *superblock_find_epoch(const struct superblock *sb, uint32_t epoch);

#endif
