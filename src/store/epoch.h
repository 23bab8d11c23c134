/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_EPOCH_H
#define SHARDFS_STORE_EPOCH_H

/*
 * One writer.  Every machine that writes a file system does so under a writer epoch, a number that
 * it claimed with a create-only object index/epoch-<8 hex digits> at a majority of the providers.
 * mkfs claims epoch 1; a recovery on another machine claims the next one.  Who sees a higher epoch,
 * or records of its own epoch that it did not write, has lost: it turns read-only for good, and what
 * it had not shipped stays in its home, readable.
 *
 * home/writer remembers what this machine holds, so that it mounts and writes while providers are
 * away (P4); a machine that never held its epoch must get the majority first, or be told to take over.
 *
 * Claims are authenticated: a provider cannot make a writer stop by a name alone.
 *
 * Threads: epoch_may_write, epoch_why and epoch_lose any; epoch_look any that may wait for providers.
 */

#include "crypto/keyring.h"
#include "store/transfer.h"

#define EPOCH_KEY_PREFIX  "index/epoch-"
#define EPOCH_WHY_SIZE	  240
#define EPOCH_HOST_MAX	  64
#define EPOCH_CLAIM_BYTES_MAX ((size_t)4096)

struct epoch;

/* What a claim says.  shardfs-format(5), CLAIM. */
struct epoch_claim {
	uint32_t epoch;
	uint8_t machine[16];  /* random, once for each home */
	uint64_t generation;  /* the record that it goes on from */
	int64_t made_sec;
	bool is_take_over;    /* without a majority, by an operator's word */
	char host[EPOCH_HOST_MAX + 1];
};
int epoch_claim_seal(struct keyring *keyring, const struct epoch_claim *claim, struct buf *out);
/* Foreign bytes, found under the name of `epoch`.  -EBADMSG, -EPROTONOSUPPORT, -ENOKEY, -ENOMEM. */
int epoch_claim_open(struct keyring *keyring, uint32_t epoch, struct bytes object,
		     struct epoch_claim *out);
/* The body of a claim; epoch is not in it (the header has it). */
int epoch_claim_write(const struct epoch_claim *claim, struct buf *out);
int epoch_claim_read(struct bytes body, struct epoch_claim *out); /* -EBADMSG, -EPROTONOSUPPORT */
/* The number in a key.  -EINVAL: no claim's. */
int epoch_key_parse(const char *key, uint32_t *epoch);

/* mkfs: claims epoch 1 at each of these, and remembers it in home. */
int epoch_claim_first(const char *home, struct keyring *keyring, struct backend *const *backends,
		      size_t count, struct buf *why);
/*
 * epoch_highest - of the highest claim at a provider that is authentic; 0: none.  Waits.  Errors of
 * LIST; -EBADMSG: there are too many that are not.
 */
int epoch_highest(struct backend *backend, struct keyring *keyring, uint32_t *epoch);

struct epoch_settings {
	const char *home;
	struct keyring *keyring;   /* borrowed, like the next */
	struct transfer *transfer;
	uint32_t writer_epoch;
	uint64_t check_ms;
	bool takes_over;
	uint64_t (*last_seq)(void *ctx);
	/* May it write from now on?  why: one line. */
	void (*changed)(void *ctx, bool may_write, const char *why);
	void *ctx;
};

/* What home remembers; no I/O at providers yet.  -ENOMEM, -EIO. */
int epoch_open(const struct epoch_settings *settings, struct epoch **out);
/*
 * Begins to look.  When this machine has to get a majority first, waits for the first look, which
 * asks those providers that are present; epoch_may_write tells what came of it.
 */
int epoch_start(struct epoch *epoch);
void epoch_end(struct epoch *epoch);  /* nobody waits for a look any more; accepts NULL */
void epoch_stop(struct epoch *epoch); /* after transfer_stop, which ends its requests; accepts NULL */
void epoch_free(struct epoch *epoch); /* accepts NULL */

bool epoch_may_write(const struct epoch *epoch);
void epoch_why(struct epoch *epoch, char out[EPOCH_WHY_SIZE]); /* why not; "" */
/* Asks the providers now: 0: may write; -EROFS; -ETIMEDOUT: they did not answer within 5 s. */
int epoch_look(struct epoch *epoch);
/* Somebody else saw that this machine has lost.  Any thread; the callback runs on this one. */
void epoch_lose(struct epoch *epoch, const char *why);

#endif
