/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order of the durable steps of a change:
 *
 *	slots_file (if slots are detached)  ->  home/superblock  ->  each provider
 *	->  the keyring takes over the epochs
 *
 * Only one change is under way at a time (is_busy); `now` is what home has.  Providers are written
 * by transfer's chore alone (store/repair.c), which asks here for the bytes each time, so an older
 * revision never follows a newer one.
 */
#include "store/keys.h"

#include "store/store_private.h"
#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 20u

struct keys {
	struct store *store;
	struct lock lock; /* LOCK_LEAF: guards the rest */
	struct cond idle;
	bool is_busy;
	struct superblock now; /* with slots */
};

int keys_new(struct store *store, const struct superblock *sb, struct keys **out)
{
	struct keys *keys = mem_alloc(sizeof(*keys));

	if (!keys)
		return -ENOMEM;
	keys->store = store;
	lock_init(&keys->lock, LOCK_LEAF);
	cond_init(&keys->idle);
	keys->now = *sb;
	*out = keys;
	return 0;
}

void keys_free(struct keys *keys)
{
	if (!keys)
		return;
	cond_release(&keys->idle);
	lock_release(&keys->lock);
	mem_free(keys);
}

void keys_get(struct keys *keys, struct superblock *out)
{
	LOCK_SCOPE(&keys->lock);

	*out = keys->now;
}

void keys_public_form(const struct config *config, struct superblock *sb)
{
	if (config->key_slots != CONFIG_SLOTS_DETACHED)
		return;
	memset(sb->slots, 0, sizeof(sb->slots));
	sb->slot_count = 0;
}

/* ---- for transfer ---- */

int keys_sealed(void *ctx, uint64_t *revision, struct buf *out)
{
	struct store *store = ctx;
	struct superblock *sb = mem_alloc(sizeof(*sb));
	int r;

	if (!sb)
		return -ENOMEM;
	keys_get(store->priv->keys, sb);
	keys_public_form(store->config, sb);
	*revision = sb->revision;
	r = keyring_seal_superblock(store->keyring, sb, out);
	mem_free(sb);
	return r;
}

/* ---- a change ---- */

static void begin(struct keys *keys)
{
	LOCK_SCOPE(&keys->lock);

	while (keys->is_busy)
		cond_wait(&keys->idle, &keys->lock);
	keys->is_busy = true;
}

static void end(struct keys *keys)
{
	LOCK_SCOPE(&keys->lock);

	keys->is_busy = false;
	cond_wake_all(&keys->idle);
}

static int write_slots_file(struct keys *keys, const struct superblock *sb, struct buf *why)
{
	const struct config *config = keys->store->config;
	struct superblock *copy;
	AUTO(buf) sealed = BUF_INIT;
	int r;

	if (config->key_slots != CONFIG_SLOTS_DETACHED)
		return 0;
	copy = mem_alloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *sb;
	r = keyring_seal_superblock(keys->store->keyring, copy, &sealed);
	mem_free(copy);
	return r < 0 ? r : superblock_io_write_file(config->slots_file, buf_bytes(&sealed), why);
}

/* Durable in home; then it is in force for whoever asks. */
static int write_home(struct keys *keys, struct superblock *sb, struct buf *why)
{
	const struct config *config = keys->store->config;
	struct superblock *public;
	AUTO(buf) sealed = BUF_INIT;
	int r = HOOK("key-home-before");

	if (r == 0)
		r = write_slots_file(keys, sb, why);
	if (r < 0)
		return r;
	public = mem_alloc(sizeof(*public));
	if (!public)
		return -ENOMEM;
	*public = *sb;
	keys_public_form(config, public);
	r = keyring_seal_superblock(keys->store->keyring, public, &sealed);
	mem_free(public);
	if (r == 0)
		r = superblock_io_write_local(config, buf_bytes(&sealed), why);
	if (r == 0)
		r = HOOK("key-home-after");
	if (r < 0)
		return r;
	LOCK_SCOPE(&keys->lock);
	keys->now = *sb;
	return 0;
}

static void fill_provider(struct keys *keys, unsigned i, uint64_t revision,
			  struct keys_provider *out)
{
	struct transfer_superblock state;

	transfer_superblock_state(keys->store->transfer, i, &state);
	snprintf(out->name, sizeof(out->name), "%s", state.name);
	out->revision = state.revision;
	if (state.revision == revision)
		out->state = KEYS_CONFIRMED;
	else if (!state.is_present)
		out->state = KEYS_AWAY;
	else
		out->state = state.revision > revision ? KEYS_NEWER : KEYS_PENDING;
}

void keys_report(struct keys *keys, struct keys_report *out)
{
	unsigned count = transfer_provider_count(keys->store->transfer);

	memset(out, 0, sizeof(*out));
	lock_take(&keys->lock);
	out->revision = keys->now.revision;
	lock_drop(&keys->lock);
	for (unsigned i = 0; i < count && out->count < KEYS_PROVIDERS_MAX; i++) {
		struct keys_provider *provider = &out->providers[out->count++];

		fill_provider(keys, i, out->revision, provider);
		out->missing += provider->state != KEYS_CONFIRMED;
	}
}

const char *keys_state_name(enum keys_state state)
{
	static const char *const names[] = {[KEYS_CONFIRMED] = "confirmed",
					    [KEYS_PENDING] = "pending",
					    [KEYS_AWAY] = "away",
					    [KEYS_NEWER] = "newer"};

	return names[state];
}

/* Every provider that is present has it, or was tried in vain since. */
static void wait_for_providers(struct keys *keys, uint64_t revision)
{
	struct transfer *transfer = keys->store->transfer;
	unsigned count = transfer_provider_count(transfer);
	uint64_t until = clock_mono_ms() + KEYS_WAIT_MS, tries[KEYS_PROVIDERS_MAX] = {0};
	struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	struct transfer_superblock state;

	count = MIN(count, KEYS_PROVIDERS_MAX);
	for (unsigned i = 0; i < count; i++) {
		transfer_superblock_state(transfer, i, &state);
		tries[i] = state.failures;
	}
	transfer_superblock_changed(transfer);
	for (unsigned i = 0; i < count; i++) {
		for (;;) {
			transfer_superblock_state(transfer, i, &state);
			if (state.revision >= revision || !state.is_present ||
			    state.failures > tries[i] || clock_mono_ms() >= until)
				break;
			nanosleep(&pause, NULL);
		}
	}
}

/* Between begin and end: `fresh` is a later revision of keys->now. */
static int install(struct keys *keys, struct superblock *fresh, struct keys_report *report,
		   struct buf *why)
{
	int r = write_home(keys, fresh, why);

	if (r < 0)
		return r;
	wait_for_providers(keys, fresh->revision);
	keys_report(keys, report);
	for (unsigned i = 0; i < report->count; i++)
		if (report->providers[i].state != KEYS_CONFIRMED)
			log_warn("superblock-pending",
				 "provider=%s state=%s revision=%llu wanted=%llu "
				 "next=\"written when it answers\"",
				 report->providers[i].name,
				 keys_state_name(report->providers[i].state),
				 (unsigned long long)report->providers[i].revision,
				 (unsigned long long)report->revision);
	return 0;
}

struct edit {
	int (*run)(struct edit *edit, struct keyring *keyring, struct superblock *sb);
	const struct credentials *credentials;
	const char *label;
	uint32_t no; /* of slot or epoch: in or out */
};

static int change(struct keys *keys, struct edit *edit, struct keys_report *report,
		  struct buf *why)
{
	struct superblock *fresh = mem_alloc(sizeof(*fresh));
	int r;

	if (!fresh)
		return -ENOMEM;
	begin(keys);
	keys_get(keys, fresh);
	r = edit->run(edit, keys->store->keyring, fresh);
	if (r == 0)
		r = install(keys, fresh, report, why);
	end(keys);
	mem_free(fresh);
	return r;
}

/* ---- slots ---- */

/* As costly to guess as it was made at mkfs. */
static struct kdf_params kdf_of(const struct superblock *sb)
{
	return sb->slot_count > 0 ? sb->slots[0].kdf : KDF_PARAMS_DEFAULT;
}

static int edit_add(struct edit *edit, struct keyring *keyring, struct superblock *sb)
{
	return keyring_slot_add(keyring, sb, edit->credentials, kdf_of(sb), edit->label,
				&edit->no);
}

static int edit_remove(struct edit *edit, struct keyring *keyring, struct superblock *sb)
{
	return keyring_slot_remove(keyring, sb, edit->no);
}

static int edit_change(struct edit *edit, struct keyring *keyring, struct superblock *sb)
{
	return keyring_slot_change(keyring, sb, edit->no, edit->credentials, kdf_of(sb));
}

int keys_slot_add(struct keys *keys, const struct credentials *credentials, const char *label,
		  uint32_t *slot_no, struct keys_report *report, struct buf *why)
{
	struct edit edit = {.run = edit_add, .credentials = credentials, .label = label};
	int r = change(keys, &edit, report, why);

	if (r == 0)
		*slot_no = edit.no;
	return r;
}

int keys_slot_remove(struct keys *keys, uint32_t slot_no, struct keys_report *report,
		     struct buf *why)
{
	struct edit edit = {.run = edit_remove, .no = slot_no};

	return change(keys, &edit, report, why);
}

int keys_slot_change(struct keys *keys, uint32_t slot_no, const struct credentials *credentials,
		     struct keys_report *report, struct buf *why)
{
	struct edit edit = {.run = edit_change, .no = slot_no, .credentials = credentials};

	return change(keys, &edit, report, why);
}

/* ---- epochs ---- */

/* Whoever is present has it, and somebody does. */
static int check_taken(const struct keys_report *report, struct buf *why)
{
	for (unsigned i = 0; i < report->count; i++)
		if (report->providers[i].state == KEYS_PENDING) {
			buf_printf(why, "provider %s did not take the superblock; try again",
				   report->providers[i].name);
			return -EAGAIN;
		}
	if (report->missing == report->count) {
		buf_printf(why, "no provider is there to take the superblock; try again");
		return -EAGAIN;
	}
	return 0;
}

int keys_rotate(struct keys *keys, uint32_t *epoch, struct keys_report *report, struct buf *why)
{
	struct superblock *fresh = mem_alloc(sizeof(*fresh));
	struct keyring *keyring = keys->store->keyring;
	int r = 0;

	if (!fresh)
		return -ENOMEM;
	begin(keys);
	keys_get(keys, fresh);
	*epoch = fresh->current_epoch;
	if (fresh->current_epoch == keyring_current_epoch(keyring)) {
		r = keyring_epoch_add(keyring, fresh, epoch);
		if (r == 0)
			r = write_home(keys, fresh, why);
	}
	if (r == 0) {
		wait_for_providers(keys, fresh->revision);
		keys_report(keys, report);
		r = check_taken(report, why);
	}
	if (r == 0)
		r = HOOK("key-use-before");
	if (r == 0)
		r = keyring_load_epochs(keyring, fresh);
	if (r == 0)
		r = HOOK("key-use-after");
	if (r == 0)
		log_info("key-epoch-new", "epoch=%u revision=%llu", *epoch,
			 (unsigned long long)fresh->revision);
	end(keys);
	mem_free(fresh);
	return r;
}

static int edit_destroy(struct edit *edit, struct keyring *keyring, struct superblock *sb)
{
	(void)keyring;
	return keyring_epoch_destroy(sb, edit->no);
}

int keys_destroy(struct keys *keys, uint32_t epoch, struct keys_report *report, struct buf *why)
{
	struct edit edit = {.run = edit_destroy, .no = epoch};
	struct superblock *fresh;
	int r = HOOK("key-destroy-before");

	if (r == 0)
		r = change(keys, &edit, report, why);
	if (r < 0)
		return r;
	fresh = mem_alloc(sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	keys_get(keys, fresh);
	r = keyring_load_epochs(keys->store->keyring, fresh);
	mem_free(fresh);
	if (r == 0)
		r = HOOK("key-destroy-after");
	if (r == 0)
		log_info("key-epoch-destroyed", "epoch=%u", epoch);
	return r;
}

/* ---- what others did, and where slots lie ---- */

/* A machine that was restored from an older state, or whose home is older than its providers. */
int keys_found_newer(void *ctx, const struct superblock *theirs)
{
	struct store *store = ctx;
	struct keys *keys = store->priv->keys;
	struct superblock *fresh = mem_alloc(sizeof(*fresh));
	AUTO(buf) why = BUF_INIT;
	bool is_free;
	int r = 0;

	if (!fresh)
		return -ENOMEM;
	{
		LOCK_SCOPE(&keys->lock);
		is_free = !keys->is_busy;
		keys->is_busy = true;
		*fresh = *theirs;
		if (theirs->slot_count == 0) {
			memcpy(fresh->slots, keys->now.slots, sizeof(fresh->slots));
			fresh->slot_count = keys->now.slot_count;
		}
	}
	if (!is_free) {
		mem_free(fresh);
		return -EBUSY;
	}
	r = write_home(keys, fresh, &why);
	if (r == 0)
		r = keyring_load_epochs(store->keyring, fresh);
	end(keys);
	if (r < 0)
		log_warn("superblock-not-taken-over", "error=%s cause=" LOG_Q, err_name(r),
			 why.len ? buf_str(&why) : "");
	mem_free(fresh);
	return r;
}

static bool is_moving(struct keys *keys)
{
	const struct config *config = keys->store->config;
	AUTO(buf) why = BUF_INIT;
	struct superblock *home = mem_alloc(sizeof(*home));
	bool is_detached = config->key_slots == CONFIG_SLOTS_DETACHED, has_slots;

	if (!home || superblock_io_read(config, home, &why) < 0) {
		mem_free(home);
		return false;
	}
	has_slots = home->slot_count > 0;
	mem_free(home);
	return has_slots == is_detached;
}

int keys_start(struct keys *keys, struct buf *why)
{
	struct superblock *fresh;
	int r;

	if (!is_moving(keys))
		return 0;
	fresh = mem_alloc(sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	begin(keys);
	keys_get(keys, fresh);
	fresh->revision++;
	r = write_home(keys, fresh, why);
	end(keys);
	mem_free(fresh);
	if (r == 0) {
		transfer_superblock_changed(keys->store->transfer);
		log_info("key-slots-moved", "to=%s",
			 keys->store->config->key_slots == CONFIG_SLOTS_DETACHED
				 ? keys->store->config->slots_file : "superblock");
	}
	return r;
}
