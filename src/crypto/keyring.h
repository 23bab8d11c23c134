/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CRYPTO_KEYRING_H
#define SHARDFS_CRYPTO_KEYRING_H

/*
 * From a passphrase to every key.
 *
 *	passphrase and/or key file -> scrypt -> key of a slot -> root key
 *	root key -> HKDF -> superblock key, wrapping key of each epoch, keys for ever
 *	master key of an epoch (random) -> HKDF(purpose, fs id, epoch, salt) -> key
 *
 * A slot commits to its key: it opens under one passphrase only, whoever
 * prepared its bytes.  All secrets live in locked memory and are wiped.
 *
 * Threads: keyring_derive*, keyring_fs_id and keyring_current_epoch any at any
 * time; everything else one thread at a time.
 */

#include "crypto/aead.h"
#include "crypto/crypto.h"
#include "crypto/mac.h"
#include "crypto/superblock.h"

/*
 * What a key is for.  The label that goes into HKDF is part of the format, so
 * none is ever reused or renamed.  "Salt" is what the caller gives to derive.
 *
 * "For ever": the key belongs to the file system and not to an epoch (whatever epoch is given), so
 * that what was named, cut or chained before a rotation still fits, and nothing sealed depends on
 * it.  It comes from the root key.
 */
enum key_purpose {
	KEY_CHUNK_NAME,    /* mac_ctx: names of chunks.  No salt.  For ever */
	KEY_CHUNKER,       /* CHUNKER_KEY_BYTES of gear table.  No salt.  For ever */
	KEY_SHARD_RECORDS, /* aead: nonce = record number.  Salt: the shard's 16-byte name */
	KEY_SHARD_FOOTER,  /* aead: nonce 0, sealed once.  Salt: the shard's name */
	KEY_SHARD_MAC,     /* object_mac.  Salt: the shard's name */
	KEY_JOURNAL,       /* aead: nonce = record number in the file.  Salt: 32 random bytes */
	KEY_SPOOL,         /* aead: local spool state besides records.  Salt: 32 random bytes */
	KEY_CACHE,         /* aead: cache entries.  Salt: 32 random bytes for each file */
	KEY_OPLOG,         /* aead: segments.  Salt: 32 random bytes in each segment */
	KEY_OPLOG_CHAIN,   /* mac: hash chain of segments.  No salt */
	KEY_SNAPSHOT,      /* aead: snapshot roots.  Salt: 32 random bytes */
	KEY_AUDIT,         /* mac: chain of the audit log.  No salt.  For ever */
	KEY_MARKER,        /* mac: marker of a provider directory.  No salt.  For ever */
	KEY_LOG_NAME,      /* mac: path_hash in logs.  No salt.  For ever */
	KEY_CLAIM,         /* aead: claims of writer epochs.  Salt: 32 random bytes.  For ever */
	KEY_PURPOSE_COUNT
};

#define KEY_SALT_BYTES      ((size_t)32)
#define KEY_SALT_BYTES_MAX  ((size_t)64)
#define KEY_DERIVE_BYTES_MAX ((size_t)8160)

struct keyring;
void keyring_free(struct keyring *keyring); /* accepts NULL; wipes */

/*
 * keyring_create - mkfs: a new file system id, root key, first epoch and first slot.
 * @sb: in: version, features, chunk sizes, created_s and extension as wanted
 *      (version 0 means SUPERBLOCK_VERSION); out: complete except for the MAC.
 * 0; -EINVAL no credentials, or kdf or chunk sizes out of range; -ENOMEM; -EIO.
 */
int keyring_create(const struct credentials *credentials, struct kdf_params kdf,
		   const char *label, struct superblock *sb, struct keyring **out);

/*
 * keyring_unlock - open a slot with these credentials, then authenticate all of sb.
 * Tries each slot whose factors are all given; one try takes scrypt's time and memory.
 * 0; -ENOKEY no slot asks for just what was given (a key file or a passphrase
 * is missing); -EKEYREJECTED no slot opens (wrong passphrase or key file);
 * -EBADMSG a slot opened, but the superblock is not what its owner wrote;
 * -ENOMEM; -EIO.
 */
int keyring_unlock(const struct superblock *sb, const struct credentials *credentials,
		   struct keyring **out);
uint32_t keyring_slot_used(const struct keyring *keyring); /* slot_no that opened it */
/*
 * Key slots that are kept elsewhere: `slots` is a superblock that has them, of whatever revision,
 * and sb the one in force.  Errors as above; -ESTALE: they are not of one file system.
 */
int keyring_unlock_detached(const struct superblock *slots, const struct superblock *sb,
			    const struct credentials *credentials, struct keyring **out);

/* Is this other superblock (another provider's) ours and whole?  0; -ESTALE another
 * file system's; -EBADMSG. */
int keyring_check(struct keyring *keyring, const struct superblock *sb);
/* Signs and encodes: appends the bytes to store.  Also sets sb->mac.  0, -ENOMEM, -EIO. */
int keyring_seal_superblock(struct keyring *keyring, struct superblock *sb, struct buf *out);

struct fs_id keyring_fs_id(const struct keyring *keyring);
uint32_t keyring_current_epoch(struct keyring *keyring);
/* Takes over the epochs of a superblock that keyring_check accepted and that is newer.
 * 0; -EBADMSG, -ENOMEM: unchanged. */
int keyring_load_epochs(struct keyring *keyring, const struct superblock *sb);

/*
 * keyring_derive - the key for one purpose.
 * @epoch: the epoch that the object names; for new ones keyring_current_epoch().
 * @salt:  0 .. KEY_SALT_BYTES_MAX bytes, as the purpose says.
 * @len:   1 .. KEY_DERIVE_BYTES_MAX.
 * The same arguments give the same bytes for ever.  A few microseconds: derive
 * once for each object, not for each record.
 * 0; -EINVAL; -ENOKEY the epoch is unknown or destroyed; -ENOMEM; -EIO.
 */
int keyring_derive(struct keyring *keyring, uint32_t epoch, enum key_purpose purpose,
		   struct bytes salt, uint8_t *out, size_t len);
/* The two usual shapes of it. */
int keyring_derive_aead(struct keyring *keyring, uint32_t epoch, enum key_purpose purpose,
			struct bytes salt, struct aead_key *out);
int keyring_derive_mac(struct keyring *keyring, uint32_t epoch, enum key_purpose purpose,
		       struct bytes salt, struct mac_key *out);

/*
 * Changes.  Each edits sb alone and adds 1 to its revision; the caller then seals it and stores it,
 * and only when that is durable, lets keyring_load_epochs take over what became of the epochs: so
 * nothing is sealed under a key that a crash could lose.  Unchanged on failure.
 */
/* -ENOSPC SUPERBLOCK_SLOTS_MAX reached; -EINVAL label too long, no credentials, kdf. */
int keyring_slot_add(struct keyring *keyring, struct superblock *sb,
		     const struct credentials *credentials, struct kdf_params kdf,
		     const char *label, uint32_t *slot_no);
/* -ENOENT; -EBUSY it is the last one.  The number of the last one is used again, no other. */
int keyring_slot_remove(struct keyring *keyring, struct superblock *sb, uint32_t slot_no);
/* New credentials for a slot that stays.  -ENOENT, -EINVAL. */
int keyring_slot_change(struct keyring *keyring, struct superblock *sb, uint32_t slot_no,
			const struct credentials *credentials, struct kdf_params kdf);
/* A new current epoch.  -ENOSPC SUPERBLOCK_EPOCHS_MAX reached; -ESTALE sb is not the one that
 * the keyring was opened with or loaded from. */
int keyring_epoch_add(struct keyring *keyring, struct superblock *sb, uint32_t *epoch);
/* The key of an epoch is gone from sb, for ever.  -ENOENT; -EBUSY it is current. */
int keyring_epoch_destroy(struct superblock *sb, uint32_t epoch);

/* scrypt (RFC 7914) itself, for the slots and for known answers.  -EINVAL params; -ENOMEM. */
int crypto_scrypt(struct bytes password, struct bytes salt, struct kdf_params params, uint8_t *out,
		  size_t len);

#endif
