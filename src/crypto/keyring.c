/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/keyring.h"

#include "util/clock.h"
#include "util/lock.h"
#include "util/mem.h"
#include "util/wire.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

/*
 * What goes into each step (all of it is format, see shardfs-format(5)):
 *
 *   scrypt password  factors (1), length of the passphrase (4), passphrase,
 *                    SHA-256 of the key file (32); what is not a factor of
 *                    the slot is empty and absent
 *   slot key         scrypt(password, slot salt, N, r, p), 32 bytes
 *   commitment       derive(slot key, "slot-commitment")
 *   wrapping key     derive(slot key, "slot-wrap"), seals the root key,
 *                    nonce 0 (the salt is fresh whenever a slot is written)
 *   derive(key, L)   HKDF-SHA-256(key, salt = fs id,
 *                                 info = "shardfs/1 " L 0 epoch(4) salt)
 *
 * Commitment and wrapping key come from one 32-byte slot key through HKDF: two
 * passphrases that fit one commitment would be a collision of SHA-256.
 */

#define KEY_BYTES       ((size_t)32)
#define LABEL_BYTES_MAX ((size_t)32)

static const char *const purpose_labels[KEY_PURPOSE_COUNT] = {
	[KEY_CHUNK_NAME] = "chunk-name",
	[KEY_CHUNKER] = "chunker",
	[KEY_SHARD_RECORDS] = "shard-records",
	[KEY_SHARD_FOOTER] = "shard-footer",
	[KEY_SHARD_MAC] = "shard-mac",
	[KEY_JOURNAL] = "journal",
	[KEY_SPOOL] = "spool",
	[KEY_CACHE] = "cache",
	[KEY_OPLOG] = "oplog",
	[KEY_OPLOG_CHAIN] = "oplog-chain",
	[KEY_SNAPSHOT] = "snapshot",
	[KEY_AUDIT] = "audit",
	[KEY_MARKER] = "marker",
	[KEY_LOG_NAME] = "log-name",
	[KEY_CLAIM] = "claim",
};

/* Their keys come from the root key, so that no rotation changes them. */
static const bool is_for_ever[KEY_PURPOSE_COUNT] = {
	[KEY_CHUNK_NAME] = true, [KEY_CHUNKER] = true,	[KEY_AUDIT] = true,
	[KEY_MARKER] = true,	 [KEY_LOG_NAME] = true,
	[KEY_CLAIM] = true,
};

struct master {
	uint32_t epoch;
	bool is_live;
	uint8_t key[32];
};

struct secrets { /* in locked memory */
	uint8_t root[32];
	uint32_t count;
	struct master masters[SUPERBLOCK_EPOCHS_MAX];
};

struct keyring {
	struct lock lock; /* LOCK_LEAF: guards current_epoch and secrets */
	struct fs_id fs_id;
	uint32_t slot_used;
	uint32_t current_epoch;
	struct secrets *secrets;
};

void keyring_free(struct keyring *keyring)
{
	if (!keyring)
		return;
	if (keyring->secrets)
		secret_free(keyring->secrets, sizeof(*keyring->secrets));
	lock_release(&keyring->lock);
	mem_free(keyring);
}

DEFINE_FREEP(keyring)

static int keyring_new(struct fs_id fs_id, struct keyring **out)
{
	struct keyring *keyring = mem_alloc(sizeof(*keyring));

	if (!keyring)
		return -ENOMEM;
	lock_init(&keyring->lock, LOCK_LEAF);
	keyring->fs_id = fs_id;
	keyring->secrets = secret_alloc(sizeof(*keyring->secrets));
	if (!keyring->secrets) {
		keyring_free(keyring);
		return -ENOMEM;
	}
	*out = keyring;
	return 0;
}

/* ---- derivation ---- */

static int derive(const uint8_t *key, struct fs_id fs_id, const char *label, uint32_t epoch,
		  struct bytes salt, uint8_t *out, size_t len)
{
	uint8_t info[10 + LABEL_BYTES_MAX + 1 + 4 + KEY_SALT_BYTES_MAX];
	size_t label_len = strlen(label) + 1, at = 10;

	assert(label_len <= LABEL_BYTES_MAX + 1);
	if (salt.len > KEY_SALT_BYTES_MAX)
		return -EINVAL;
	memcpy(info, "shardfs/1 ", 10);
	memcpy(info + at, label, label_len);
	at += label_len;
	wire_store_u32(info + at, epoch);
	at += 4;
	if (salt.len > 0)
		memcpy(info + at, salt.ptr, salt.len);
	at += salt.len;
	return hkdf_sha256(bytes_of(key, KEY_BYTES), bytes_of(fs_id.b, sizeof(fs_id.b)),
			   bytes_of(info, at), out, len);
}

static const struct master *find_master(const struct secrets *secrets, uint32_t epoch)
{
	/* The current one is last. */
	for (uint32_t i = secrets->count; i-- > 0;) {
		if (secrets->masters[i].epoch == epoch)
			return &secrets->masters[i];
	}
	return NULL;
}

static void copy_root(struct keyring *keyring, uint8_t root[KEY_BYTES])
{
	LOCK_SCOPE(&keyring->lock);

	memcpy(root, keyring->secrets->root, KEY_BYTES);
}

int keyring_derive(struct keyring *keyring, uint32_t epoch, enum key_purpose purpose,
		   struct bytes salt, uint8_t *out, size_t len)
{
	uint8_t key[KEY_BYTES];
	bool is_live = false;
	int r;

	if ((unsigned)purpose >= KEY_PURPOSE_COUNT || len == 0 || len > KEY_DERIVE_BYTES_MAX)
		return -EINVAL;
	if (is_for_ever[purpose]) {
		copy_root(keyring, key);
		is_live = true;
		epoch = 0;
	} else {
		LOCK_SCOPE(&keyring->lock);
		const struct master *master = find_master(keyring->secrets, epoch);

		if (master && master->is_live) {
			memcpy(key, master->key, sizeof(key));
			is_live = true;
		}
	}
	if (!is_live)
		return -ENOKEY;
	r = derive(key, keyring->fs_id, purpose_labels[purpose], epoch, salt, out, len);
	mem_wipe(key, sizeof(key));
	return r;
}

int keyring_derive_aead(struct keyring *keyring, uint32_t epoch, enum key_purpose purpose,
			struct bytes salt, struct aead_key *out)
{
	return keyring_derive(keyring, epoch, purpose, salt, out->b, sizeof(out->b));
}

int keyring_derive_mac(struct keyring *keyring, uint32_t epoch, enum key_purpose purpose,
		       struct bytes salt, struct mac_key *out)
{
	return keyring_derive(keyring, epoch, purpose, salt, out->b, sizeof(out->b));
}

/* ---- slots ---- */

int crypto_scrypt(struct bytes password, struct bytes salt, struct kdf_params params, uint8_t *out,
		  size_t len)
{
	static uint8_t nothing;
	uint64_t n = (uint64_t)1 << (params.log2_n & 31), memory = 2 * GIB;
	void *password_ptr = password.len > 0 ? (void *)password.ptr : &nothing;
	void *salt_ptr = salt.len > 0 ? (void *)salt.ptr : &nothing;
	OSSL_PARAM values[] = {
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, password_ptr,
						  password.len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt_ptr, salt.len),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
		OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &params.r),
		OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &params.p),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF_CTX *ctx;
	EVP_KDF *kdf;
	int r;

	if (!superblock_kdf_is_valid(params))
		return -EINVAL;
	kdf = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
	ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	r = ctx ? 0 : -ENOMEM;
	if (r == 0 && EVP_KDF_derive(ctx, out, len, values) != 1)
		r = -ENOMEM; /* the parameters are valid, so it was the memory */
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return r;
}

static uint8_t credentials_factors(const struct credentials *credentials)
{
	return (credentials->passphrase.len > 0 ? KEY_FACTOR_PASSPHRASE : 0) |
	       (credentials->key_file.len > 0 ? KEY_FACTOR_FILE : 0);
}

static int slot_key(const struct key_slot *slot, const struct credentials *credentials,
		    uint8_t *out)
{
	bool has_passphrase = slot->factors & KEY_FACTOR_PASSPHRASE;
	bool has_file = slot->factors & KEY_FACTOR_FILE;
	size_t passphrase_len = has_passphrase ? credentials->passphrase.len : 0;
	size_t size = 5 + passphrase_len + (has_file ? 32 : 0);
	uint8_t *password = secret_alloc(size);
	int r = 0;

	if (!password)
		return -ENOMEM;
	password[0] = slot->factors;
	wire_store_u32(password + 1, (uint32_t)passphrase_len);
	if (passphrase_len > 0)
		memcpy(password + 5, credentials->passphrase.ptr, passphrase_len);
	if (has_file) {
		struct digest digest;

		if (!credentials->is_key_file_hashed)
			r = sha256(bytes_of(credentials->key_file.ptr, credentials->key_file.len),
				   &digest);
		else if (credentials->key_file.len == sizeof(digest.b))
			memcpy(digest.b, credentials->key_file.ptr, sizeof(digest.b));
		else
			r = -EINVAL;
		if (r == 0)
			memcpy(password + 5 + passphrase_len, digest.b, sizeof(digest.b));
		mem_wipe(&digest, sizeof(digest));
	}
	if (r == 0)
		r = crypto_scrypt(bytes_of(password, size),
				  bytes_of(slot->salt, sizeof(slot->salt)), slot->kdf, out,
				  KEY_BYTES);
	secret_free(password, size);
	return r;
}

#define SLOT_AAD_BYTES (12 + 16 + 4 + 1 + 1 + 4 + 4 + 32)

/* What the seal of a slot is bound to. */
static struct bytes slot_aad(const struct key_slot *slot, struct fs_id fs_id, uint8_t *aad)
{
	memcpy(aad, "shardfs slot", 12);
	memcpy(aad + 12, fs_id.b, 16);
	wire_store_u32(aad + 28, slot->slot_no);
	aad[32] = slot->factors;
	aad[33] = slot->kdf.log2_n;
	wire_store_u32(aad + 34, slot->kdf.r);
	wire_store_u32(aad + 38, slot->kdf.p);
	memcpy(aad + 42, slot->salt, 32);
	return bytes_of(aad, SLOT_AAD_BYTES);
}

struct slot_keys { /* in locked memory */
	uint8_t slot[32];
	struct aead_key wrap;
	uint8_t commitment[32];
};

static int derive_slot_keys(const struct key_slot *slot, struct fs_id fs_id,
			    const struct credentials *credentials, struct slot_keys *keys)
{
	struct bytes none = {0};
	int r = slot_key(slot, credentials, keys->slot);

	if (r == 0)
		r = derive(keys->slot, fs_id, "slot-commitment", 0, none, keys->commitment,
			   sizeof(keys->commitment));
	if (r == 0)
		r = derive(keys->slot, fs_id, "slot-wrap", 0, none, keys->wrap.b,
			   sizeof(keys->wrap.b));
	return r;
}

/* One seal or open under a key that is used once. */
static int seal_once(const struct aead_key *key, struct bytes aad, const uint8_t *plain,
		     uint8_t *sealed)
{
	struct aead_ctx *ctx;
	int r = aead_ctx_new(&ctx);

	if (r < 0)
		return r;
	r = aead_seal(ctx, key, 0, aad, bytes_of(plain, KEY_BYTES), sealed);
	aead_ctx_free(ctx);
	return r;
}

static int open_once(const struct aead_key *key, struct bytes aad, const uint8_t *sealed,
		     uint8_t *plain)
{
	struct aead_ctx *ctx;
	int r = aead_ctx_new(&ctx);

	if (r < 0)
		return r;
	r = aead_open(ctx, key, 0, aad, bytes_of(sealed, KEY_BYTES + AEAD_TAG_BYTES), plain);
	aead_ctx_free(ctx);
	return r;
}

/* slot_no, label and created_s are set; fills the rest. */
static int slot_fill(struct key_slot *slot, struct fs_id fs_id,
		     const struct credentials *credentials, struct kdf_params kdf,
		     const uint8_t *root)
{
	uint8_t aad[SLOT_AAD_BYTES];
	struct slot_keys *keys;
	int r;

	slot->factors = credentials_factors(credentials);
	slot->kdf = kdf;
	if (slot->factors == 0 || !superblock_kdf_is_valid(kdf))
		return -EINVAL;
	r = crypto_random(slot->salt, sizeof(slot->salt));
	if (r < 0)
		return r;
	keys = secret_alloc(sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	r = derive_slot_keys(slot, fs_id, credentials, keys);
	if (r == 0) {
		memcpy(slot->commitment, keys->commitment, sizeof(slot->commitment));
		r = seal_once(&keys->wrap, slot_aad(slot, fs_id, aad), root, slot->sealed_root);
	}
	secret_free(keys, sizeof(*keys));
	return r;
}

/* 0: root is filled; -EKEYREJECTED: these are not the slot's credentials. */
static int slot_open(const struct key_slot *slot, struct fs_id fs_id,
		     const struct credentials *credentials, uint8_t *root)
{
	struct slot_keys *keys = secret_alloc(sizeof(*keys));
	uint8_t aad[SLOT_AAD_BYTES];
	int r;

	if (!keys)
		return -ENOMEM;
	r = derive_slot_keys(slot, fs_id, credentials, keys);
	if (r == 0 &&
	    mem_compare_secret(keys->commitment, slot->commitment, sizeof(slot->commitment)) != 0)
		r = -EKEYREJECTED;
	if (r == 0)
		r = open_once(&keys->wrap, slot_aad(slot, fs_id, aad), slot->sealed_root, root);
	secret_free(keys, sizeof(*keys));
	return r;
}

static int label_set(struct key_slot *slot, const char *label)
{
	size_t len = label ? strlen(label) : 0;

	if (len > SUPERBLOCK_LABEL_BYTES)
		return -EINVAL;
	memset(slot->label, 0, sizeof(slot->label));
	if (len > 0)
		memcpy(slot->label, label, len);
	return 0;
}

/* ---- epochs ---- */

#define EPOCH_AAD_BYTES (13 + 16 + 4)

static struct bytes epoch_aad(struct fs_id fs_id, uint32_t epoch, uint8_t *aad)
{
	memcpy(aad, "shardfs epoch", 13);
	memcpy(aad + 13, fs_id.b, 16);
	wire_store_u32(aad + 29, epoch);
	return bytes_of(aad, EPOCH_AAD_BYTES);
}

static int epoch_wrap_key(const uint8_t *root, struct fs_id fs_id, const struct key_epoch *epoch,
			  struct aead_key *out)
{
	return derive(root, fs_id, "epoch-wrap", epoch->epoch,
		      bytes_of(epoch->salt, sizeof(epoch->salt)), out->b, sizeof(out->b));
}

static int epoch_fill(struct key_epoch *epoch, struct fs_id fs_id, const uint8_t *root,
		      struct master *master)
{
	uint8_t aad[EPOCH_AAD_BYTES];
	struct aead_key wrap;
	int r = crypto_random(epoch->salt, sizeof(epoch->salt));

	if (r == 0)
		r = crypto_random(master->key, sizeof(master->key));
	if (r == 0)
		r = epoch_wrap_key(root, fs_id, epoch, &wrap);
	if (r == 0)
		r = seal_once(&wrap, epoch_aad(fs_id, epoch->epoch, aad), master->key,
			      epoch->sealed_master);
	mem_wipe(&wrap, sizeof(wrap));
	master->epoch = epoch->epoch;
	master->is_live = true;
	return r;
}

static int epoch_open(const struct key_epoch *epoch, struct fs_id fs_id, const uint8_t *root,
		      struct master *master)
{
	uint8_t aad[EPOCH_AAD_BYTES];
	struct aead_key wrap;
	int r;

	master->epoch = epoch->epoch;
	master->is_live = epoch->state == KEY_EPOCH_LIVE;
	if (!master->is_live)
		return 0;
	r = epoch_wrap_key(root, fs_id, epoch, &wrap);
	if (r == 0)
		r = open_once(&wrap, epoch_aad(fs_id, epoch->epoch, aad), epoch->sealed_master,
			      master->key);
	mem_wipe(&wrap, sizeof(wrap));
	return r;
}

/* Epochs of an authenticated superblock into fresh secrets that have the root key. */
static int open_epochs(const struct superblock *sb, struct secrets *secrets)
{
	for (uint32_t i = 0; i < sb->epoch_count; i++) {
		int r = epoch_open(&sb->epochs[i], sb->fs_id, secrets->root, &secrets->masters[i]);

		if (r < 0)
			return r;
	}
	secrets->count = sb->epoch_count;
	return 0;
}

int keyring_load_epochs(struct keyring *keyring, const struct superblock *sb)
{
	struct secrets *fresh = secret_alloc(sizeof(*fresh)), *old;
	int r;

	if (!fresh)
		return -ENOMEM;
	copy_root(keyring, fresh->root);
	r = open_epochs(sb, fresh);
	if (r < 0) {
		secret_free(fresh, sizeof(*fresh));
		return r;
	}
	{
		LOCK_SCOPE(&keyring->lock);
		old = keyring->secrets;
		keyring->secrets = fresh;
		keyring->current_epoch = sb->current_epoch;
	}
	secret_free(old, sizeof(*old));
	return 0;
}

/* ---- the superblock as a whole ---- */

/* Appends the body to out and gives its MAC. */
static int encode_and_mac(struct keyring *keyring, const struct superblock *sb, struct buf *out,
			  struct digest *mac)
{
	size_t before = out->len;
	uint8_t root[KEY_BYTES];
	struct mac_key key;
	int r = superblock_encode_body(sb, out);

	if (r < 0)
		return r;
	copy_root(keyring, root);
	r = derive(root, keyring->fs_id, "superblock", 0, (struct bytes){0}, key.b,
		   sizeof(key.b));
	mem_wipe(root, sizeof(root));
	if (r == 0)
		r = hmac_sha256(bytes_of(key.b, sizeof(key.b)),
				bytes_of(out->ptr + before, out->len - before), mac);
	mem_wipe(&key, sizeof(key));
	if (r < 0)
		out->len = before;
	return r;
}

int keyring_check(struct keyring *keyring, const struct superblock *sb)
{
	AUTO(buf) body = BUF_INIT;
	struct digest mac;
	int r;

	if (memcmp(sb->fs_id.b, keyring->fs_id.b, sizeof(sb->fs_id.b)) != 0)
		return -ESTALE;
	r = encode_and_mac(keyring, sb, &body, &mac);
	if (r < 0)
		return r;
	return mem_compare_secret(mac.b, sb->mac, sizeof(mac.b)) == 0 ? 0 : -EBADMSG;
}

int keyring_seal_superblock(struct keyring *keyring, struct superblock *sb, struct buf *out)
{
	size_t before = out->len;
	struct digest mac;
	int r = encode_and_mac(keyring, sb, out, &mac);

	if (r == 0)
		r = wire_put_raw(out, mac.b, sizeof(mac.b));
	if (r < 0) {
		out->len = before;
		return r;
	}
	memcpy(sb->mac, mac.b, sizeof(sb->mac));
	return 0;
}

static int create_into(const struct credentials *credentials, struct kdf_params kdf,
		       const char *label, struct superblock *sb, struct keyring *keyring)
{
	struct secrets *secrets = keyring->secrets;
	int r;

	sb->revision = 1;
	sb->current_epoch = 1;
	sb->slot_count = sb->epoch_count = 1;
	sb->slots[0] = (struct key_slot){.slot_no = 0, .created_s = sb->created_s};
	sb->epochs[0] =
		(struct key_epoch){.epoch = 1, .state = KEY_EPOCH_LIVE, .created_s = sb->created_s};
	r = label_set(&sb->slots[0], label);
	if (r == 0)
		r = crypto_random(secrets->root, sizeof(secrets->root));
	if (r == 0)
		r = epoch_fill(&sb->epochs[0], sb->fs_id, secrets->root, &secrets->masters[0]);
	if (r == 0)
		r = slot_fill(&sb->slots[0], sb->fs_id, credentials, kdf, secrets->root);
	secrets->count = 1;
	keyring->current_epoch = 1;
	return r;
}

int keyring_create(const struct credentials *credentials, struct kdf_params kdf, const char *label,
		   struct superblock *sb, struct keyring **out)
{
	AUTO_PTR(keyring) keyring = NULL;
	struct superblock *fresh;
	struct fs_id fs_id;
	int r;

	if (!superblock_chunk_sizes_are_valid(sb->chunk_min_bytes, sb->chunk_avg_bytes,
					      sb->chunk_max_bytes) ||
	    sb->extension_len > SUPERBLOCK_EXTENSION_MAX || sb->version > SUPERBLOCK_VERSION ||
	    sb->incompat & ~SUPERBLOCK_INCOMPAT_KNOWN)
		return -EINVAL;
	r = crypto_random(fs_id.b, sizeof(fs_id.b));
	if (r == 0)
		r = keyring_new(fs_id, &keyring);
	if (r < 0)
		return r;
	fresh = mem_alloc(sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	*fresh = *sb;
	fresh->version = SUPERBLOCK_VERSION;
	fresh->fs_id = fs_id;
	r = create_into(credentials, kdf, label, fresh, keyring);
	if (r == 0) {
		*sb = *fresh;
		*out = STEAL(keyring);
	}
	mem_free(fresh);
	return r;
}

/* Tries every slot that these credentials can answer. */
static int open_any_slot(const struct superblock *sb, const struct credentials *credentials,
			 struct keyring *keyring)
{
	uint8_t given = credentials_factors(credentials);
	bool has_tried = false;

	for (uint32_t i = 0; i < sb->slot_count; i++) {
		int r;

		if (sb->slots[i].factors & ~given)
			continue;
		has_tried = true;
		r = slot_open(&sb->slots[i], sb->fs_id, credentials, keyring->secrets->root);
		if (r == 0)
			keyring->slot_used = sb->slots[i].slot_no;
		if (r != -EKEYREJECTED)
			return r;
	}
	return has_tried ? -EKEYREJECTED : -ENOKEY;
}

int keyring_unlock(const struct superblock *sb, const struct credentials *credentials,
		   struct keyring **out)
{
	AUTO_PTR(keyring) keyring = NULL;
	int r = keyring_new(sb->fs_id, &keyring);

	if (r < 0)
		return r;
	r = open_any_slot(sb, credentials, keyring);
	if (r == 0)
		r = keyring_check(keyring, sb);
	if (r == 0)
		r = open_epochs(sb, keyring->secrets);
	if (r < 0)
		return r;
	keyring->current_epoch = sb->current_epoch;
	*out = STEAL(keyring);
	return 0;
}

int keyring_unlock_detached(const struct superblock *slots, const struct superblock *sb,
			    const struct credentials *credentials, struct keyring **out)
{
	AUTO_PTR(keyring) keyring = NULL;
	int r = keyring_unlock(slots, credentials, &keyring);

	if (r == 0)
		r = keyring_check(keyring, sb);
	if (r == 0)
		r = keyring_load_epochs(keyring, sb);
	if (r == 0)
		*out = STEAL(keyring);
	return r;
}

uint32_t keyring_slot_used(const struct keyring *keyring)
{
	return keyring->slot_used;
}

struct fs_id keyring_fs_id(const struct keyring *keyring)
{
	return keyring->fs_id;
}

uint32_t keyring_current_epoch(struct keyring *keyring)
{
	LOCK_SCOPE(&keyring->lock);
	return keyring->current_epoch;
}

/* ---- changes ---- */

static int fill_slot(struct keyring *keyring, struct key_slot *slot,
		     const struct credentials *credentials, struct kdf_params kdf)
{
	uint8_t root[KEY_BYTES];
	int r;

	copy_root(keyring, root);
	r = slot_fill(slot, keyring->fs_id, credentials, kdf, root);
	mem_wipe(root, sizeof(root));
	return r;
}

int keyring_slot_add(struct keyring *keyring, struct superblock *sb,
		     const struct credentials *credentials, struct kdf_params kdf,
		     const char *label, uint32_t *slot_no)
{
	struct key_slot slot = {.created_s = clock_wall().sec};
	int r;

	if (sb->slot_count >= SUPERBLOCK_SLOTS_MAX)
		return -ENOSPC;
	slot.slot_no = sb->slot_count > 0 ? sb->slots[sb->slot_count - 1].slot_no + 1 : 0;
	r = label_set(&slot, label);
	if (r == 0)
		r = fill_slot(keyring, &slot, credentials, kdf);
	if (r < 0)
		return r;
	sb->slots[sb->slot_count++] = slot;
	sb->revision++;
	*slot_no = slot.slot_no;
	return 0;
}

int keyring_slot_remove(struct keyring *keyring, struct superblock *sb, uint32_t slot_no)
{
	const struct key_slot *slot = superblock_find_slot(sb, slot_no);
	uint32_t at;

	(void)keyring;
	if (!slot)
		return -ENOENT;
	if (sb->slot_count == 1)
		return -EBUSY;
	at = (uint32_t)(slot - sb->slots);
	memmove(&sb->slots[at], &sb->slots[at + 1],
		(sb->slot_count - at - 1) * sizeof(sb->slots[0]));
	sb->slot_count--;
	sb->slots[sb->slot_count] = (struct key_slot){0};
	sb->revision++;
	return 0;
}

int keyring_slot_change(struct keyring *keyring, struct superblock *sb, uint32_t slot_no,
			const struct credentials *credentials, struct kdf_params kdf)
{
	const struct key_slot *old = superblock_find_slot(sb, slot_no);
	struct key_slot slot;
	int r;

	if (!old)
		return -ENOENT;
	slot = *old;
	slot.created_s = clock_wall().sec;
	r = fill_slot(keyring, &slot, credentials, kdf);
	if (r < 0)
		return r;
	sb->slots[old - sb->slots] = slot;
	sb->revision++;
	return 0;
}

int keyring_epoch_add(struct keyring *keyring, struct superblock *sb, uint32_t *epoch)
{
	struct key_epoch fresh = {.state = KEY_EPOCH_LIVE, .created_s = clock_wall().sec};
	uint8_t root[KEY_BYTES];
	struct master master;
	bool is_known;
	int r;

	{
		LOCK_SCOPE(&keyring->lock);
		is_known = sb->epoch_count == keyring->secrets->count;
	}
	if (!is_known)
		return -ESTALE;
	if (sb->epoch_count >= SUPERBLOCK_EPOCHS_MAX)
		return -ENOSPC;
	fresh.epoch = sb->epochs[sb->epoch_count - 1].epoch + 1;
	copy_root(keyring, root);
	r = epoch_fill(&fresh, keyring->fs_id, root, &master);
	mem_wipe(root, sizeof(root));
	mem_wipe(&master, sizeof(master));
	if (r < 0)
		return r;
	sb->epochs[sb->epoch_count++] = fresh;
	sb->current_epoch = fresh.epoch;
	sb->revision++;
	*epoch = fresh.epoch;
	return 0;
}

int keyring_epoch_destroy(struct superblock *sb, uint32_t epoch)
{
	const struct key_epoch *found = superblock_find_epoch(sb, epoch);

	if (!found || found->state != KEY_EPOCH_LIVE)
		return -ENOENT;
	if (epoch == sb->current_epoch)
		return -EBUSY;
	sb->epochs[found - sb->epochs] = (struct key_epoch){
		.epoch = epoch, .state = KEY_EPOCH_DESTROYED, .created_s = found->created_s};
	sb->revision++;
	return 0;
}
