/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CRYPTO_RECOVERY_H
#define SHARDFS_CRYPTO_RECOVERY_H

/*
 * Keys for paper, in the alphabet of Crockford's base 32 (no I, L, O, U), in groups of four.
 *
 *	SRK1-XXXX-...   recovery key: 256 random bits and a checksum.  It is the passphrase of a slot
 *	                of its own, and the text, written as here, is that passphrase.
 *	SSK1-XXXX-...   one of several shares of such a key (crypto/shamir.h), with its number, the
 *	                number of shares that are needed, the id of the set, and a checksum.
 *
 * What was typed may have small letters, other spacing, O for 0, I and L for 1.
 */

#include "crypto/crypto.h"

#define RECOVERY_KEY_BYTES     32
#define RECOVERY_TEXT_SIZE     80 /* with the final NUL */
#define SHARE_SET_BYTES	       8
#define SHARE_DATA_BYTES       (RECOVERY_KEY_BYTES + 8)
#define SHARE_TEXT_SIZE	       128
#define SHARE_COUNT_MAX	       16u

/* Both fill text; RECOVERY_TEXT_SIZE bytes, better in locked memory.  -EIO. */
int recovery_key_make(char *text);
void recovery_key_print(const uint8_t key[RECOVERY_KEY_BYTES], char *text);
/* Whether it is meant to be one: it begins with SRK1. */
bool recovery_key_is_meant(struct bytes typed);
/* -EBADMSG: a character is wrong, missing or too many. */
int recovery_key_parse(struct bytes typed, uint8_t key[RECOVERY_KEY_BYTES]);

struct share {
	uint8_t threshold, count, index; /* index: 1 .. count */
	uint8_t set[SHARE_SET_BYTES];
	uint8_t data[SHARE_DATA_BYTES]; /* secret */
};

/*
 * share_split - a recovery key into `count` shares of which any `threshold` give it.
 * 2 <= threshold <= count <= SHARE_COUNT_MAX.  -EINVAL, -ENOMEM, -EIO.
 */
int share_split(const uint8_t key[RECOVERY_KEY_BYTES], unsigned threshold, unsigned count,
		struct share *shares);
void share_print(const struct share *share, char *text); /* SHARE_TEXT_SIZE bytes */
/* Takes the first line that begins with SSK1 out of a file's text.  -EBADMSG. */
int share_parse(struct bytes typed, struct share *out);
/*
 * share_combine - -EINVAL: shares of different sets, or one twice; -ENODATA: fewer than threshold;
 * -EKEYREJECTED: they do not fit together, so one of them is not what it was.
 */
int share_combine(const struct share *shares, unsigned count, uint8_t key[RECOVERY_KEY_BYTES]);

/*
 * share_files_combine - the same from files, as text of the recovery key (RECOVERY_TEXT_SIZE).
 * Errors as above and those of reading; `why` names the file.
 */
int share_files_combine(const char *const *paths, unsigned count, char *text, struct buf *why);

#endif
