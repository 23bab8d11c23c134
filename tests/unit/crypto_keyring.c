/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/keyring.h"
#include "tests/lib/hex.h"
#include "util/clock.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct world {
	struct superblock sb;
	struct keyring *keyring;
};

static struct credentials with(const char *passphrase, const char *key_file)
{
	struct credentials c = CREDENTIALS_INIT;

	if (passphrase)
		cr_assert_eq(secret_set(&c.passphrase, bytes_of_str(passphrase)), 0);
	if (key_file)
		cr_assert_eq(secret_set(&c.key_file, bytes_of_str(key_file)), 0);
	return c;
}

static void start(struct world *world, const char *passphrase, const char *key_file)
{
	AUTO(credentials) credentials = with(passphrase, key_file);

	*world = (struct world){.sb = {.created_s = 1700000000,
				       .chunk_min_bytes = 64 * 1024,
				       .chunk_avg_bytes = 256 * 1024,
				       .chunk_max_bytes = 1024 * 1024}};
	cr_assert_eq(
		keyring_create(&credentials, KDF_PARAMS_TEST, "first", &world->sb, &world->keyring),
		0);
}

/* Signs, stores, reads back: what a second machine sees. */
static void store(struct world *world, struct superblock *seen)
{
	AUTO(buf) bytes = BUF_INIT;

	cr_assert_eq(keyring_seal_superblock(world->keyring, &world->sb, &bytes), 0);
	cr_assert_eq(superblock_parse(buf_bytes(&bytes), seen), 0);
}

static int unlock(const struct superblock *sb, const char *passphrase, const char *key_file,
		  struct keyring **out)
{
	AUTO(credentials) credentials = with(passphrase, key_file);

	return keyring_unlock(sb, &credentials, out);
}

static void check_opens(const struct superblock *sb, const char *passphrase, const char *key_file,
			int right)
{
	struct keyring *keyring = NULL;

	cr_assert_eq(unlock(sb, passphrase, key_file, &keyring), right);
	keyring_free(keyring);
}

static void derived(struct keyring *keyring, uint32_t epoch, enum key_purpose purpose,
		    const char *salt, uint8_t *out)
{
	cr_assert_eq(keyring_derive(keyring, epoch, purpose, bytes_of_str(salt), out, 32), 0);
}

Test(crypto_keyring, scrypt_gives_the_answers_of_rfc_7914)
{
	struct kdf_params params = {.log2_n = 10, .r = 8, .p = 16};
	uint8_t out[64];

	cr_assert_eq(crypto_scrypt(bytes_of_str("password"), bytes_of_str("NaCl"), params, out, 64),
		     0);
	cr_assert(hex_equals(out, 64,
			     "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
			     "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"));
	params = (struct kdf_params){.log2_n = 14, .r = 8, .p = 1};
	cr_assert_eq(crypto_scrypt(bytes_of_str("pleaseletmein"), bytes_of_str("SodiumChloride"),
				   params, out, 64),
		     0);
	cr_assert(hex_equals(out, 64,
			     "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
			     "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"));
	params.log2_n = 23;
	cr_assert_eq(crypto_scrypt(bytes_of_str("x"), bytes_of_str("y"), params, out, 64), -EINVAL);
}

Test(crypto_keyring, another_machine_with_the_passphrase_derives_the_same_keys)
{
	uint8_t here[32], there[32];
	struct keyring *keyring;
	struct superblock seen;
	struct world world;

	start(&world, "correct horse", NULL);
	store(&world, &seen);
	cr_assert_eq(unlock(&seen, "correct horse", NULL, &keyring), 0);
	cr_assert_eq(keyring_current_epoch(keyring), 1);
	for (int p = 0; p < KEY_PURPOSE_COUNT; p++) {
		derived(world.keyring, 1, (enum key_purpose)p, "salt", here);
		derived(keyring, 1, (enum key_purpose)p, "salt", there);
		cr_assert_arr_eq(here, there, 32);
	}
	keyring_free(keyring);
	keyring_free(world.keyring);
}

Test(crypto_keyring, every_purpose_and_salt_has_a_key_of_its_own)
{
	uint8_t keys[2 * KEY_PURPOSE_COUNT][32];
	struct world world;

	start(&world, "p", NULL);
	for (int p = 0; p < KEY_PURPOSE_COUNT; p++) {
		derived(world.keyring, 1, (enum key_purpose)p, "", keys[2 * p]);
		derived(world.keyring, 1, (enum key_purpose)p, "s", keys[2 * p + 1]);
	}
	for (int a = 0; a < 2 * KEY_PURPOSE_COUNT; a++)
		for (int b = 0; b < a; b++)
			cr_assert(memcmp(keys[a], keys[b], 32) != 0);
	keyring_free(world.keyring);
}

Test(crypto_keyring, two_file_systems_with_one_passphrase_share_no_key)
{
	uint8_t a[32], b[32];
	struct world one, two;

	start(&one, "same", NULL);
	start(&two, "same", NULL);
	derived(one.keyring, 1, KEY_CHUNK_NAME, "", a);
	derived(two.keyring, 1, KEY_CHUNK_NAME, "", b);
	cr_assert(memcmp(a, b, 32) != 0);
	cr_assert(memcmp(&one.sb.fs_id, &two.sb.fs_id, 16) != 0);
	cr_assert_eq(keyring_check(one.keyring, &two.sb), -ESTALE);
	keyring_free(one.keyring);
	keyring_free(two.keyring);
}

Test(crypto_keyring, a_wrong_passphrase_is_told_from_damage)
{
	struct keyring *keyring = NULL;
	struct superblock seen;
	struct world world;

	start(&world, "right", NULL);
	store(&world, &seen);
	check_opens(&seen, "wrong", NULL, -EKEYREJECTED);
	check_opens(&seen, "righ", NULL, -EKEYREJECTED);
	seen.revision++;
	cr_assert_eq(unlock(&seen, "right", NULL, &keyring), -EBADMSG);
	cr_assert_null(keyring);
	seen.revision--;
	seen.chunk_avg_bytes *= 2;
	check_opens(&seen, "right", NULL, -EBADMSG);
	seen.chunk_avg_bytes /= 2;
	seen.slots[0].commitment[0] ^= 1;
	check_opens(&seen, "right", NULL, -EKEYREJECTED);
	keyring_free(world.keyring);
}

Test(crypto_keyring, two_factors_are_both_needed)
{
	struct superblock seen;
	struct world world;

	start(&world, "word", "file content");
	store(&world, &seen);
	check_opens(&seen, "word", NULL, -ENOKEY);
	check_opens(&seen, NULL, "file content", -ENOKEY);
	check_opens(&seen, "word", "file contenT", -EKEYREJECTED);
	check_opens(&seen, "worD", "file content", -EKEYREJECTED);
	check_opens(&seen, "word", "file content", 0);
	keyring_free(world.keyring);
	start(&world, NULL, "file alone");
	store(&world, &seen);
	check_opens(&seen, "file alone", NULL, -ENOKEY);
	check_opens(&seen, NULL, "file alone", 0);
	check_opens(&seen, "not asked for", "file alone", 0);
	keyring_free(world.keyring);
}

Test(crypto_keyring, slots_are_added_changed_and_removed)
{
	AUTO(credentials) second = with("second", NULL);
	AUTO(credentials) changed = with("changed", NULL);
	uint8_t before[32], after[32];
	struct keyring *keyring;
	struct superblock seen;
	struct world world;
	uint32_t slot_no;

	start(&world, "first", NULL);
	cr_assert_eq(keyring_slot_remove(world.keyring, &world.sb, 0), -EBUSY);
	cr_assert_eq(keyring_slot_add(world.keyring, &world.sb, &second, KDF_PARAMS_TEST, "two",
				      &slot_no),
		     0);
	cr_assert_eq(world.sb.revision, 2);
	store(&world, &seen);
	check_opens(&seen, "first", NULL, 0);
	cr_assert_eq(unlock(&seen, "second", NULL, &keyring), 0);
	cr_assert_eq(keyring_slot_used(keyring), slot_no);
	derived(world.keyring, 1, KEY_JOURNAL, "s", before);
	derived(keyring, 1, KEY_JOURNAL, "s", after);
	cr_assert_arr_eq(before, after, 32);
	keyring_free(keyring);

	cr_assert_eq(
		keyring_slot_change(world.keyring, &world.sb, slot_no, &changed, KDF_PARAMS_TEST),
		0);
	store(&world, &seen);
	check_opens(&seen, "second", NULL, -EKEYREJECTED);
	check_opens(&seen, "changed", NULL, 0);
	cr_assert_str_eq(superblock_find_slot(&seen, slot_no)->label, "two");

	cr_assert_eq(keyring_slot_remove(world.keyring, &world.sb, 0), 0);
	cr_assert_eq(keyring_slot_remove(world.keyring, &world.sb, 0), -ENOENT);
	store(&world, &seen);
	check_opens(&seen, "first", NULL, -EKEYREJECTED);
	check_opens(&seen, "changed", NULL, 0);
	cr_assert_eq(seen.revision, 4);
	keyring_free(world.keyring);
}

Test(crypto_keyring, slots_and_labels_have_bounds)
{
	AUTO(credentials) some = with("x", NULL);
	AUTO(credentials) nothing = CREDENTIALS_INIT;
	struct kdf_params too_much = {.log2_n = 22, .r = 32, .p = 1};
	struct world world;
	uint32_t slot_no;

	start(&world, "first", NULL);
	cr_assert_eq(keyring_slot_add(world.keyring, &world.sb, &some, KDF_PARAMS_TEST,
				      "a label that is longer than 32 by", &slot_no),
		     -EINVAL);
	cr_assert_eq(keyring_slot_add(world.keyring, &world.sb, &nothing, KDF_PARAMS_TEST, NULL,
				      &slot_no),
		     -EINVAL);
	cr_assert_eq(keyring_slot_add(world.keyring, &world.sb, &some, too_much, NULL, &slot_no),
		     -EINVAL);
	cr_assert_eq(world.sb.revision, 1);
	for (unsigned i = 1; i < SUPERBLOCK_SLOTS_MAX; i++)
		cr_assert_eq(keyring_slot_add(world.keyring, &world.sb, &some, KDF_PARAMS_TEST,
					      "a label that is exactly 32 bytes", &slot_no),
			     0);
	cr_assert_eq(
		keyring_slot_add(world.keyring, &world.sb, &some, KDF_PARAMS_TEST, NULL, &slot_no),
		-ENOSPC);
	keyring_free(world.keyring);
}

Test(crypto_keyring, a_new_epoch_has_new_keys_and_the_old_one_stays_until_destroyed)
{
	uint8_t old_key[32], new_key[32], again[32];
	struct keyring *keyring;
	struct superblock seen;
	struct world world;
	uint32_t epoch;

	start(&world, "p", NULL);
	derived(world.keyring, 1, KEY_SHARD_RECORDS, "name", old_key);
	cr_assert_eq(keyring_derive(world.keyring, 2, KEY_SHARD_RECORDS, bytes_of_str("name"),
				    new_key, 32),
		     -ENOKEY);
	cr_assert_eq(keyring_epoch_add(world.keyring, &world.sb, &epoch), 0);
	cr_assert_eq(epoch, 2);
	/* Nothing is sealed under it before the superblock that has it is stored. */
	cr_assert_eq(keyring_current_epoch(world.keyring), 1);
	cr_assert_eq(keyring_derive(world.keyring, 2, KEY_SHARD_RECORDS, bytes_of_str("name"),
				    new_key, 32),
		     -ENOKEY);
	cr_assert_eq(keyring_load_epochs(world.keyring, &world.sb), 0);
	cr_assert_eq(keyring_current_epoch(world.keyring), 2);
	derived(world.keyring, 2, KEY_SHARD_RECORDS, "name", new_key);
	cr_assert(memcmp(old_key, new_key, 32) != 0);
	store(&world, &seen);
	cr_assert_eq(unlock(&seen, "p", NULL, &keyring), 0);
	derived(keyring, 1, KEY_SHARD_RECORDS, "name", again);
	cr_assert_arr_eq(again, old_key, 32);
	derived(keyring, 2, KEY_SHARD_RECORDS, "name", again);
	cr_assert_arr_eq(again, new_key, 32);

	cr_assert_eq(keyring_epoch_destroy(&world.sb, 2), -EBUSY);
	cr_assert_eq(keyring_epoch_destroy(&world.sb, 3), -ENOENT);
	cr_assert_eq(keyring_epoch_destroy(&world.sb, 1), 0);
	cr_assert_eq(keyring_epoch_destroy(&world.sb, 1), -ENOENT);
	derived(world.keyring, 1, KEY_SHARD_RECORDS, "name", again);
	cr_assert_eq(keyring_load_epochs(world.keyring, &world.sb), 0);
	cr_assert_eq(keyring_derive(world.keyring, 1, KEY_SHARD_RECORDS, bytes_of_str("name"),
				    again, 32),
		     -ENOKEY);
	store(&world, &seen);
	/* The other machine learns of it from the newer superblock. */
	cr_assert_eq(keyring_check(keyring, &seen), 0);
	cr_assert_eq(keyring_load_epochs(keyring, &seen), 0);
	cr_assert_eq(keyring_derive(keyring, 1, KEY_SHARD_RECORDS, bytes_of_str("name"), again, 32),
		     -ENOKEY);
	derived(keyring, 2, KEY_SHARD_RECORDS, "name", again);
	cr_assert_arr_eq(again, new_key, 32);
	keyring_free(keyring);
	keyring_free(world.keyring);
}

Test(crypto_keyring, an_epoch_is_added_only_to_the_state_that_the_keyring_knows)
{
	struct superblock old;
	struct world world;
	uint32_t epoch;

	start(&world, "p", NULL);
	old = world.sb;
	cr_assert_eq(keyring_epoch_add(world.keyring, &world.sb, &epoch), 0);
	cr_assert_eq(keyring_load_epochs(world.keyring, &world.sb), 0);
	cr_assert_eq(keyring_epoch_add(world.keyring, &old, &epoch), -ESTALE);
	for (unsigned i = 2; i < SUPERBLOCK_EPOCHS_MAX; i++) {
		cr_assert_eq(keyring_epoch_add(world.keyring, &world.sb, &epoch), 0);
		cr_assert_eq(keyring_load_epochs(world.keyring, &world.sb), 0);
	}
	cr_assert_eq(keyring_epoch_add(world.keyring, &world.sb, &epoch), -ENOSPC);
	store(&world, &old);
	check_opens(&old, "p", NULL, 0);
	keyring_free(world.keyring);
}

Test(crypto_keyring, names_and_boundaries_outlive_a_rotation)
{
	static const enum key_purpose kept[] = {KEY_CHUNK_NAME, KEY_CHUNKER, KEY_AUDIT, KEY_MARKER,
						KEY_LOG_NAME, KEY_CLAIM};
	uint8_t before[ARRAY_COUNT(kept)][32], after[32], sealed_before[32];
	struct keyring *keyring;
	struct superblock seen;
	struct world world;
	uint32_t epoch;

	start(&world, "p", NULL);
	for (size_t i = 0; i < ARRAY_COUNT(kept); i++)
		derived(world.keyring, 1, kept[i], "", before[i]);
	derived(world.keyring, 1, KEY_JOURNAL, "", sealed_before);
	cr_assert_eq(keyring_epoch_add(world.keyring, &world.sb, &epoch), 0);
	cr_assert_eq(keyring_load_epochs(world.keyring, &world.sb), 0);
	cr_assert_eq(keyring_epoch_destroy(&world.sb, 1), 0);
	store(&world, &seen);
	cr_assert_eq(unlock(&seen, "p", NULL, &keyring), 0);
	for (size_t i = 0; i < ARRAY_COUNT(kept); i++) {
		derived(keyring, 1, kept[i], "", after);
		cr_assert_arr_eq(before[i], after, 32);
		derived(keyring, 2, kept[i], "", after);
		cr_assert_arr_eq(before[i], after, 32);
	}
	derived(keyring, 2, KEY_JOURNAL, "", after);
	cr_assert(memcmp(sealed_before, after, 32) != 0);
	keyring_free(keyring);
	keyring_free(world.keyring);
}

Test(crypto_keyring, slots_may_be_kept_elsewhere)
{
	AUTO(credentials) right = with("p", NULL), wrong = with("q", NULL);
	struct superblock slots, stripped;
	struct keyring *keyring = NULL;
	struct world world, other;
	uint32_t epoch;

	start(&world, "p", NULL);
	start(&other, "p", NULL);
	store(&world, &slots);
	cr_assert_eq(keyring_epoch_add(world.keyring, &world.sb, &epoch), 0);
	cr_assert_eq(keyring_load_epochs(world.keyring, &world.sb), 0);
	world.sb.slot_count = 0;
	store(&world, &stripped);
	cr_assert_eq(stripped.slot_count, 0);
	cr_assert_eq(keyring_unlock(&stripped, &right, &keyring), -ENOKEY);
	cr_assert_eq(keyring_unlock_detached(&slots, &stripped, &wrong, &keyring), -EKEYREJECTED);
	cr_assert_eq(keyring_unlock_detached(&other.sb, &stripped, &right, &keyring), -EBADMSG);
	store(&other, &other.sb);
	cr_assert_eq(keyring_unlock_detached(&other.sb, &stripped, &right, &keyring), -ESTALE);
	cr_assert_eq(keyring_unlock_detached(&slots, &stripped, &right, &keyring), 0);
	cr_assert_eq(keyring_current_epoch(keyring), 2);
	keyring_free(keyring);
	keyring_free(world.keyring);
	keyring_free(other.keyring);
}

Test(crypto_keyring, a_key_file_counts_by_its_hash)
{
	struct credentials hashed = with("word", NULL);
	struct keyring *keyring;
	struct digest digest;
	struct world world;

	start(&world, "word", "file content");
	store(&world, &world.sb);
	cr_assert_eq(sha256(bytes_of_str("file content"), &digest), 0);
	cr_assert_eq(secret_set(&hashed.key_file, bytes_of(digest.b, 32)), 0);
	cr_assert_eq(keyring_unlock(&world.sb, &hashed, &keyring), -EKEYREJECTED);
	hashed.is_key_file_hashed = true;
	cr_assert_eq(keyring_unlock(&world.sb, &hashed, &keyring), 0);
	keyring_free(keyring);
	keyring_free(world.keyring);
	credentials_release(&hashed);
}

Test(crypto_keyring, derivation_refuses_what_it_cannot_do)
{
	static uint8_t out[KEY_DERIVE_BYTES_MAX + 1], salt[KEY_SALT_BYTES_MAX + 1];
	struct bytes none = {0};
	struct world world;

	start(&world, "p", NULL);
	cr_assert_eq(keyring_derive(world.keyring, 1, KEY_PURPOSE_COUNT, none, out, 32), -EINVAL);
	cr_assert_eq(keyring_derive(world.keyring, 1, KEY_CHUNKER, none, out, 0), -EINVAL);
	cr_assert_eq(keyring_derive(world.keyring, 1, KEY_CHUNKER, none, out, sizeof(out)),
		     -EINVAL);
	cr_assert_eq(keyring_derive(world.keyring, 1, KEY_CHUNKER, bytes_of(salt, sizeof(salt)),
				    out, 32),
		     -EINVAL);
	cr_assert_eq(keyring_derive(world.keyring, 1, KEY_CHUNKER, none, out, 8160), 0);
	keyring_free(world.keyring);
	keyring_free(NULL);
}

static void read_golden(const char *name, struct buf *out)
{
	const char *top = getenv("SHARDFS_SRCDIR");
	uint8_t block[4096];
	char path[512];
	size_t n;
	FILE *file;

	snprintf(path, sizeof(path), "%s/tests/golden/%s", top ? top : ".", name);
	file = fopen(path, "rb");
	cr_assert(file, "%s", path);
	while ((n = fread(block, 1, sizeof(block), file)) > 0)
		cr_assert_eq(buf_append(out, bytes_of(block, n)), 0);
	fclose(file);
}

/* Made once by version 1: two slots, two epochs (the first destroyed), an extension. */
Test(crypto_keyring, the_golden_superblock_opens_and_gives_its_keys)
{
	AUTO(buf) bytes = BUF_INIT, again = BUF_INIT;
	struct superblock sb;
	struct keyring *keyring;
	uint8_t key[32];

	read_golden("superblock-1", &bytes);
	cr_assert_eq(superblock_parse(buf_bytes(&bytes), &sb), 0);
	cr_assert_eq(sb.version, 1);
	cr_assert_eq(sb.slot_count, 2);
	cr_assert_eq(sb.epoch_count, 2);
	cr_assert_eq(sb.current_epoch, 2);
	cr_assert_str_eq(sb.slots[1].label, "both factors");
	cr_assert_eq(unlock(&sb, "golden", "key file\n", &keyring), 0);
	cr_assert_eq(keyring_slot_used(keyring), 0);
	derived(keyring, 2, KEY_SHARD_RECORDS, "0123456789abcdef", key);
	cr_assert(hex_equals(key, 32,
			     "e18395a5040fd309b1c8c436038bd91176119daa88e6ed12b273dda3d1249b34"));
	cr_assert_eq(keyring_seal_superblock(keyring, &sb, &again), 0);
	cr_assert_eq(again.len, bytes.len);
	cr_assert_arr_eq(again.ptr, bytes.ptr, bytes.len);
	keyring_free(keyring);
	check_opens(&sb, "two", "key file\n", 0);
	check_opens(&sb, "golden", NULL, 0);
}
