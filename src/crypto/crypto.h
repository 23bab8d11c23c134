/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CRYPTO_CRYPTO_H
#define SHARDFS_CRYPTO_CRYPTO_H

/*
 * Start of the crypto room, randomness, and memory for secrets.
 *
 * main() of each program calls crypto_init(), then crypto_self_test(); a
 * daemon that will hold keys also calls crypto_harden_process().
 */

#include "util/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * crypto_init - set up locked memory for secrets.  Idempotent, any thread.
 * 0 or -ENOMEM.  Where the system refuses to lock the memory (RLIMIT_MEMLOCK)
 * this is logged once as `secrets-not-locked` and secrets are kept in memory
 * that is merely excluded from core dumps.
 */
int crypto_init(void);

/*
 * No core dumps, no ptrace by the same user.  Call before the first secret is
 * read.  (Under a sanitizer only core dumps are off: leak reports need ptrace.)
 */
void crypto_harden_process(void);

/* Known answers of every primitive in use; a few ms.  0 or -ELIBBAD (logged). */
int crypto_self_test(void);

/* len random bytes fit for keys.  0 or -EIO (out then holds zeros). */
int crypto_random(void *out, size_t len);

/*
 * Locked memory: zeroed, never in a core, wiped when freed.  NULL when there
 * is none left (the whole room holds 1 MiB); crypto_init() is called if need be.
 */
void *secret_alloc(size_t size);
void secret_free(void *ptr, size_t size); /* accepts NULL */

/* A passphrase, or the content of a key file: bytes in locked memory. */
struct secret {
	uint8_t *ptr; /* NULL: not given */
	size_t len;
};
#define SECRET_INIT      {0}
#define SECRET_BYTES_MAX ((size_t)64 * 1024)

void secret_release(struct secret *secret);
/* Copies; replaces what was there.  -E2BIG over SECRET_BYTES_MAX, -ENOMEM; unchanged then. */
int secret_set(struct secret *secret, struct bytes src);

/* What opens a key slot: one or both. */
struct credentials {
	struct secret passphrase;
	struct secret key_file;
	bool is_key_file_hashed; /* key_file is the SHA-256 of the file, which is all that counts */
};
#define CREDENTIALS_INIT {0}

void credentials_release(struct credentials *credentials);

/*
 * credentials_load - read the passphrase and/or the key file.
 * @passphrase_file:    NULL or a file; one trailing newline is cut off.
 * @passphrase_command: NULL or a command for /bin/sh whose output is the
 *                      passphrase (one trailing newline cut off); it gets
 *                      60 s.  At most one of the two may be given.
 * @key_file:           NULL or a file, taken as it is.
 * A passphrase that is a recovery key (crypto/recovery.h) may be typed in any of its forms.
 * @why:                on failure one line: the file, the cause, what to do.
 *
 * 0; -EINVAL nothing given, both sources of a passphrase given, or an empty
 * secret; -EPERM a file that others may read (mode & 077) — refused; -E2BIG;
 * -EKEYREJECTED the command failed, or a recovery key has a wrong character; any errno of open and read; -ENOMEM.
 * `out` is unchanged on failure.
 */
int credentials_load(const char *passphrase_file, const char *passphrase_command,
		     const char *key_file, struct credentials *out, struct buf *why);

#endif
