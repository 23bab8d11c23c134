/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_KEYS_H
#define SHARDFS_STORE_KEYS_H

/*
 * The superblock of a mounted file system: its key slots and key epochs, and who has which
 * revision of it.  A change is one new revision,
 *
 *	written to home (atomic, durable), then to every provider by transfer's one chore
 *
 * so after a kill at any place some whole revision is in home, and it opens with the credentials of
 * before or of after.  A new epoch is used only when home and every provider that is present have
 * the superblock with its key; an old one is forgotten only when home has it destroyed.
 *
 * Key slots may be kept elsewhere (`key_slots: detached`): then the file named by slots_file has
 * them, and what home and the providers have carries none.
 *
 * Any thread; changes wait for each other, and for providers.
 */

#include "crypto/keyring.h"
#include "store/store.h"

struct keys;

/* Takes a copy of sb, slots included.  -ENOMEM. */
int keys_new(struct store *store, const struct superblock *sb, struct keys **out);
void keys_free(struct keys *keys); /* accepts NULL */
/*
 * keys_start - at mount, with transfer open: slots move to where the configuration wants them.
 * Errors of writing, with `why`.
 */
int keys_start(struct keys *keys, struct buf *why);

/* What a provider has of it. */
enum keys_state {
	KEYS_CONFIRMED, /* the revision in force */
	KEYS_PENDING,	/* present, and not seen to have it */
	KEYS_AWAY,
	KEYS_NEWER, /* another machine changed it */
};
struct keys_provider {
	char name[64];
	enum keys_state state;
	uint64_t revision; /* it had when last seen; 0: not seen since the mount */
};
#define KEYS_PROVIDERS_MAX 64u
struct keys_report {
	uint64_t revision;
	struct keys_provider providers[KEYS_PROVIDERS_MAX];
	unsigned count, missing; /* missing: not confirmed */
};
/* The superblock in force, with its slots; no I/O. */
void keys_get(struct keys *keys, struct superblock *out);
void keys_report(struct keys *keys, struct keys_report *out);
const char *keys_state_name(enum keys_state state);

/*
 * Each changes one thing and waits until every provider that is present answered (at most
 * KEYS_WAIT_MS), then tells in the report who has it.  -ENOENT, -EBUSY, -EINVAL, -ENOSPC as in
 * crypto/keyring.h; errors of writing home, with `why`: then nothing changed.
 */
#define KEYS_WAIT_MS 70000u
int keys_slot_add(struct keys *keys, const struct credentials *credentials, const char *label,
		  uint32_t *slot_no, struct keys_report *report, struct buf *why);
int keys_slot_remove(struct keys *keys, uint32_t slot_no, struct keys_report *report,
		     struct buf *why);
int keys_slot_change(struct keys *keys, uint32_t slot_no, const struct credentials *credentials,
		     struct keys_report *report, struct buf *why);
/*
 * keys_rotate - a new epoch for everything that is sealed from now on.  -EAGAIN: it is in home, but
 * a provider that is present did not take the superblock (`why`), or none is present; the old
 * epoch stays in use until the same call succeeds, or the next mount.
 */
int keys_rotate(struct keys *keys, uint32_t *epoch, struct keys_report *report, struct buf *why);
/* The caller has proven that nothing needs it. */
int keys_destroy(struct keys *keys, uint32_t epoch, struct keys_report *report, struct buf *why);

/* For transfer: the superblock as it goes to providers, sealed; and one that is newer. */
int keys_sealed(void *ctx, uint64_t *revision, struct buf *out);
/* It was checked.  -EBUSY: try later. */
int keys_found_newer(void *ctx, const struct superblock *theirs);

/* The form in which sb goes to home and providers: without slots if they are kept elsewhere. */
void keys_public_form(const struct config *config, struct superblock *sb);

#endif
