/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/crypto.h"

#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/*
 * Secrets live in OpenSSL's secure heap: one mapping, locked, left out of core
 * dumps, fenced by guard pages.  It is made once and lives as long as the
 * process.  Key schedules inside the library's contexts are in ordinary memory
 * and wiped when freed; crypto_harden_process() keeps them out of cores.
 */

#define SECRET_HEAP_BYTES ((size_t)1 << 20)
#define SECRET_UNIT_BYTES ((size_t)32)

static pthread_once_t init_once = PTHREAD_ONCE_INIT;
static int init_result;

static void init_heap(void)
{
	if (CRYPTO_secure_malloc_initialized())
		return;
	switch (CRYPTO_secure_malloc_init(SECRET_HEAP_BYTES, SECRET_UNIT_BYTES)) {
	case 1:
		break;
	case 2:
		log_warn("secrets-not-locked", "reason=" LOG_Q,
			 "memory for keys could not be locked; raise RLIMIT_MEMLOCK to 2 MiB");
		break;
	default:
		init_result = -ENOMEM;
	}
}

int crypto_init(void)
{
	pthread_once(&init_once, init_heap);
	return init_result;
}

void crypto_harden_process(void)
{
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CRYPTO_IS_SANITIZED
#endif
#endif
#ifndef CRYPTO_IS_SANITIZED
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
#endif
}

int crypto_random(void *out, size_t len)
{
	if (len == 0)
		return 0;
	if (len <= INT32_MAX && RAND_priv_bytes(out, (int)len) == 1)
		return 0;
	memset(out, 0, len);
	return -EIO;
}

void *secret_alloc(size_t size)
{
	if (crypto_init() < 0)
		return NULL;
	return OPENSSL_secure_zalloc(size > 0 ? size : 1);
}

void secret_free(void *ptr, size_t size)
{
	OPENSSL_secure_clear_free(ptr, size > 0 ? size : 1);
}

void secret_release(struct secret *secret)
{
	if (secret->ptr)
		secret_free(secret->ptr, secret->len);
	*secret = (struct secret)SECRET_INIT;
}

int secret_set(struct secret *secret, struct bytes src)
{
	uint8_t *copy;

	if (src.len > SECRET_BYTES_MAX)
		return -E2BIG;
	copy = secret_alloc(src.len);
	if (!copy)
		return -ENOMEM;
	if (src.len > 0)
		memcpy(copy, src.ptr, src.len);
	secret_release(secret);
	secret->ptr = copy;
	secret->len = src.len;
	return 0;
}

void credentials_release(struct credentials *credentials)
{
	secret_release(&credentials->passphrase);
	secret_release(&credentials->key_file);
	credentials->is_key_file_hashed = false;
}
