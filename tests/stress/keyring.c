/* SPDX-License-Identifier: Apache-2.0 */
/* Threads derive keys of epoch 1 while epochs are added and reloaded: always the same key. */
#include "crypto/keyring.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 3, EPOCHS = 100 };

static struct keyring *keyring;
static struct superblock sb;
static _Atomic bool is_done;
static uint8_t right[32];

static void must(bool is_true, const char *what)
{
	if (is_true)
		return;
	fprintf(stderr, "failed: %s\n", what);
	exit(1);
}

static void *derive_on(void *arg)
{
	(void)arg;
	while (!atomic_load(&is_done)) {
		uint32_t epoch = keyring_current_epoch(keyring);
		uint8_t key[32];
		int r;

		must(keyring_derive(keyring, 1, KEY_CACHE, bytes_of_str("s"), key, 32) == 0 &&
			     memcmp(key, right, 32) == 0,
		     "the key of epoch 1");
		r = keyring_derive(keyring, epoch, KEY_CACHE, bytes_of_str("s"), key, 32);
		/* It may be destroyed already by the time it is asked for. */
		must(r == 0 || r == -ENOKEY, "the epoch that was current");
	}
	return NULL;
}

int main(void)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	pthread_t threads[THREADS];
	uint32_t epoch;

	sb.chunk_min_bytes = 1024, sb.chunk_avg_bytes = 4096, sb.chunk_max_bytes = 16384;
	must(secret_set(&credentials.passphrase, bytes_of_str("p")) == 0 &&
		     keyring_create(&credentials, KDF_PARAMS_TEST, NULL, &sb, &keyring) == 0 &&
		     keyring_derive(keyring, 1, KEY_CACHE, bytes_of_str("s"), right, 32) == 0,
	     "start");
	for (unsigned i = 0; i < THREADS; i++)
		must(thread_start(&threads[i], "derive", derive_on, NULL) == 0, "thread");
	for (unsigned i = 0; i < EPOCHS; i++) {
		must(keyring_epoch_add(keyring, &sb, &epoch) == 0, "add");
		must(keyring_load_epochs(keyring, &sb) == 0, "load");
		if (epoch > 3)
			must(keyring_epoch_destroy(&sb, epoch - 2) == 0, "destroy");
	}
	atomic_store(&is_done, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	keyring_free(keyring);
	return 0;
}
