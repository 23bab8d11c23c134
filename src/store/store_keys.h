/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_STORE_KEYS_H
#define SHARDFS_STORE_STORE_KEYS_H

/*
 * Key epochs of a mounted file system.
 *
 *	store_key_rotate   the superblock with the new epoch is everywhere, and it is in use
 *	   -> what is sealed from now on is of the new one; reclaiming (store/gc.h) re-seals the
 *	      live records of old shards, and deletes those when they are empty
 *	store_key_destroy  nothing of the old epoch is left: its key goes
 *
 * Waits.  Any thread, with a reader of its own.
 */

#include "store/keys.h"

struct keys *store_keys(struct store *store);

struct store_epoch_use {
	uint64_t live_shards, live_bytes; /* bytes of one copy that are needed */
	uint64_t waiting_shards; /* empty or condemned: they wait for their deletion */
};
int store_epoch_use(struct store *store, struct index_reader *reader, uint32_t epoch,
		    struct store_epoch_use *out);

/* Errors of keys_rotate; -EAGAIN with `why`: call it again. */
int store_key_rotate(struct store *store, uint32_t *epoch, struct keys_report *report,
		     struct buf *why);

/* What still needs an epoch. */
struct store_epoch_left {
	struct store_epoch_use shards;
	uint64_t home_files;	   /* of journal and oplog */
	uint64_t index_objects;	   /* segments and snapshots at providers */
	uint64_t unknown_shards;   /* at providers, not in the index */
	char where[480];	   /* the first that was found, or who could not be asked */
	bool is_unproven;	   /* somebody could not be asked */
};
/*
 * store_key_look - looks at the index, home, and a listing of every provider.  Index objects that
 * the oplog replaces are replaced first, when `renews`.  goes_on: false cancels (-ECANCELED).
 */
int store_key_look(struct store *store, struct index_reader *reader, uint32_t epoch, bool renews,
		   bool (*goes_on)(void *ctx), void *ctx, struct store_epoch_left *out);
bool store_epoch_is_left(const struct store_epoch_left *left);

#endif
