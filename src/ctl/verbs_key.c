/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verbs of keys.  What opens a slot comes in the request, as hexadecimal digits of the passphrase and
 * of the SHA-256 of the key file, read by the caller with the caller's rights; nothing secret is in
 * an answer.  All memory of JSON is wiped when it is freed (ctl_wipe_json), the request in the
 * ioctl's buffers as soon as it was parsed, and the rest is in locked memory.
 */
#include "ctl/ctl_private.h"

#include "crypto/mac.h"
#include "store/keys.h"
#include "store/store_keys.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- arguments ---- */

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* -EINVAL; nothing given: 0 and empty. */
static int hex_arg(struct ctl_call *call, const char *key, struct secret *out)
{
	const char *text = ctl_text_arg(call, key);
	size_t len = text ? strlen(text) : 0;
	uint8_t *raw;
	int r = 0;

	if (len == 0)
		return json_object_get(call->args, key) && !text ? -EINVAL : 0;
	if (len % 2 != 0 || len > 2 * SECRET_BYTES_MAX)
		return -EINVAL;
	raw = secret_alloc(len / 2);
	if (!raw)
		return -ENOMEM;
	for (size_t i = 0; i < len / 2 && r == 0; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			r = -EINVAL;
		raw[i] = (uint8_t)(high << 4 | low);
	}
	if (r == 0)
		r = secret_set(out, bytes_of(raw, len / 2));
	secret_free(raw, len / 2);
	return r;
}

static int credentials_arg(struct ctl_call *call, struct credentials *out)
{
	int r = hex_arg(call, "passphrase", &out->passphrase);

	if (r == 0)
		r = hex_arg(call, "key_file_sha256", &out->key_file);
	out->is_key_file_hashed = true;
	if (r == 0 && out->key_file.len != 0 && out->key_file.len != sizeof(struct digest))
		r = -EINVAL;
	return r == 0 && out->passphrase.len == 0 && out->key_file.len == 0 ? -EINVAL : r;
}

/* -EINVAL unless it is there and in range. */
static int number_arg(struct ctl_call *call, const char *key, uint32_t *out)
{
	json_t *value = json_object_get(call->args, key);
	json_int_t v = json_integer_value(value);

	if (!json_is_integer(value) || v < 0 || v > UINT32_MAX)
		return -EINVAL;
	*out = (uint32_t)v;
	return 0;
}

/* ---- answers ---- */

static json_t *time_of(int64_t sec)
{
	char text[CLOCK_RFC3339_SIZE];

	return json_string(clock_rfc3339((struct wall_time){.sec = sec}, text));
}

static void put_providers(json_t *out, const struct keys_report *report)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < report->count; i++) {
		const struct keys_provider *provider = &report->providers[i];
		json_t *one = json_object();

		ctl_put(one, "superblock", json_string(keys_state_name(provider->state)));
		ctl_put(one, "revision", ctl_number(provider->revision));
		ctl_put(all, provider->name, one);
	}
	ctl_put(out, "revision", ctl_number(report->revision));
	ctl_put(out, "providers", all);
	ctl_put(out, "pending", ctl_number(report->missing));
}

static json_t *describe_slot(const struct key_slot *slot)
{
	json_t *one = json_object();
	bool has_word = slot->factors & KEY_FACTOR_PASSPHRASE;
	bool has_file = slot->factors & KEY_FACTOR_FILE;

	ctl_put(one, "label", json_string(slot->label) ?: json_string("?"));
	ctl_put(one, "factors",
		json_string(has_word && has_file ? "passphrase and key file"
			    : has_file		 ? "key file" : "passphrase"));
	ctl_put(one, "created", time_of(slot->created_s));
	return one;
}

static void put_slots(struct ctl_call *call, const struct superblock *sb)
{
	const struct config *config = call->store->config;
	json_t *slots = json_object();
	char no[16];

	for (uint32_t i = 0; i < sb->slot_count; i++) {
		snprintf(no, sizeof(no), "%u", sb->slots[i].slot_no);
		ctl_put(slots, no, describe_slot(&sb->slots[i]));
	}
	ctl_put(call->answer, "slots", slots);
	ctl_put(call->answer, "slots_at",
		json_string(config->key_slots == CONFIG_SLOTS_DETACHED ? config->slots_file
								      : "superblock"));
	ctl_put(call->answer, "opened_with", ctl_number(keyring_slot_used(call->store->keyring)));
}

/* What a change came to: partial until every provider has it. */
static enum ctl_exit settle(struct ctl_call *call, const struct keys_report *report,
			    const char *what)
{
	AUTO(buf) names = BUF_INIT;

	put_providers(call->answer, report);
	if (report->missing == 0)
		return CTL_DONE;
	for (unsigned i = 0; i < report->count; i++)
		if (report->providers[i].state != KEYS_CONFIRMED)
			buf_printf(&names, "%s%s (%s)", names.len ? ", " : "",
				   report->providers[i].name,
				   keys_state_name(report->providers[i].state));
	return ctl_fail(call, CTL_PARTIAL,
			"%s, but these providers still show the superblock of before: %s; "
			"it is written when they answer, see: shardctl key status",
			what, buf_str(&names));
}

static enum ctl_exit refuse(struct ctl_call *call, int r, struct buf *why)
{
	switch (r) {
	case -ENOENT:
		return ctl_fail(call, CTL_INVALID, "there is no such slot; see: shardctl key list");
	case -EBUSY:
		return ctl_fail(call, CTL_REFUSED, "it is the last slot: without it nobody could "
						   "open this file system; add another first");
	case -EINVAL:
		return ctl_fail(call, CTL_INVALID,
				"a passphrase or key file is needed, and a label of at most %d bytes",
				SUPERBLOCK_LABEL_BYTES);
	case -ENOSPC:
		if (why->len == 0)
			return ctl_fail(call, CTL_REFUSED, "all %u slots are taken; remove one first",
					SUPERBLOCK_SLOTS_MAX);
		/* fall through */
	default:
		return ctl_fail(call, CTL_FAILED, "the keys are as before: %s",
				why->len ? buf_str(why) : err_sentence(r));
	}
}

/* ---- slots ---- */

static enum ctl_exit with_superblock(struct ctl_call *call,
				     enum ctl_exit (*run)(struct ctl_call *call,
							  struct superblock *sb))
{
	struct superblock *sb = mem_alloc(sizeof(*sb));
	enum ctl_exit code;

	if (!sb)
		return ctl_fail(call, CTL_UNKNOWN, "%s", err_sentence(-ENOMEM));
	keys_get(store_keys(call->store), sb);
	code = run(call, sb);
	mem_free(sb);
	return code;
}

static enum ctl_exit run_list(struct ctl_call *call, struct superblock *sb)
{
	put_slots(call, sb);
	return CTL_DONE;
}

static enum ctl_exit verb_list(struct ctl_call *call)
{
	return with_superblock(call, run_list);
}

static enum ctl_exit verb_add(struct ctl_call *call)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	AUTO(buf) why = BUF_INIT;
	struct keys_report report;
	uint32_t slot_no;
	int r = credentials_arg(call, &credentials);

	if (r == 0)
		r = keys_slot_add(store_keys(call->store), &credentials,
				  ctl_text_arg(call, "label"), &slot_no, &report, &why);
	if (r < 0)
		return refuse(call, r, &why);
	ctl_put(call->answer, "slot", ctl_number(slot_no));
	return settle(call, &report, "the slot is added");
}

static enum ctl_exit verb_change(struct ctl_call *call)
{
	AUTO(credentials) credentials = CREDENTIALS_INIT;
	AUTO(buf) why = BUF_INIT;
	struct keys_report report;
	uint32_t slot_no = 0;
	int r = number_arg(call, "slot", &slot_no);

	if (r == 0)
		r = credentials_arg(call, &credentials);
	if (r == 0)
		r = keys_slot_change(store_keys(call->store), slot_no, &credentials, &report, &why);
	if (r < 0)
		return refuse(call, r, &why);
	ctl_put(call->answer, "slot", ctl_number(slot_no));
	return settle(call, &report, "the slot is changed");
}

static enum ctl_exit verb_remove(struct ctl_call *call)
{
	AUTO(buf) why = BUF_INIT;
	struct keys_report report;
	uint32_t slot_no = 0;
	int r = number_arg(call, "slot", &slot_no);

	if (r == 0)
		r = keys_slot_remove(store_keys(call->store), slot_no, &report, &why);
	if (r < 0)
		return refuse(call, r, &why);
	ctl_put(call->answer, "slot", ctl_number(slot_no));
	return settle(call, &report, "the slot is removed here");
}

static enum ctl_exit run_export(struct ctl_call *call, struct superblock *sb)
{
	AUTO(buf) sealed = BUF_INIT;
	AUTO(buf) hex = BUF_INIT;
	int r = keyring_seal_superblock(call->store->keyring, sb, &sealed);

	for (size_t i = 0; i < sealed.len && r == 0; i++)
		r = buf_printf(&hex, "%02x", sealed.ptr[i]);
	if (r < 0)
		return ctl_fail(call, CTL_FAILED, "%s", err_sentence(r));
	ctl_put(call->answer, "superblock", json_string(buf_str(&hex)));
	put_slots(call, sb);
	return CTL_DONE;
}

static enum ctl_exit verb_export(struct ctl_call *call)
{
	return with_superblock(call, run_export);
}

/* ---- status ---- */

static enum ctl_exit run_status(struct ctl_call *call, struct superblock *sb)
{
	uint32_t used = keyring_current_epoch(call->store->keyring);
	json_t *epochs = json_object();
	struct keys_report report;
	uint64_t left = 0;
	char no[16];

	put_slots(call, sb);
	for (uint32_t i = 0; i < sb->epoch_count; i++) {
		const struct key_epoch *epoch = &sb->epochs[i];
		struct store_epoch_use use = {0};
		json_t *one = json_object();
		int r = 0;

		if (epoch->state == KEY_EPOCH_LIVE)
			r = store_epoch_use(call->store, call->reader, epoch->epoch, &use);
		if (r < 0) {
			json_decref(one);
			json_decref(epochs);
			return ctl_fail(call, CTL_UNKNOWN, "shards: %s", err_sentence(r));
		}
		ctl_put(one, "state",
			json_string(epoch->state == KEY_EPOCH_DESTROYED ? "destroyed"
				    : epoch->epoch == used		? "current"
				    : epoch->epoch > used		? "not in use yet"
									: "old"));
		ctl_put(one, "created", time_of(epoch->created_s));
		ctl_put(one, "live_shards", ctl_number(use.live_shards));
		ctl_put(one, "live_bytes", ctl_number(use.live_bytes));
		ctl_put(one, "waiting_shards", ctl_number(use.waiting_shards));
		left += epoch->epoch != used ? use.live_shards : 0;
		snprintf(no, sizeof(no), "%u", epoch->epoch);
		ctl_put(epochs, no, one);
	}
	ctl_put(call->answer, "current_epoch", ctl_number(used));
	ctl_put(call->answer, "epochs", epochs);
	ctl_put(call->answer, "left_shards", ctl_number(left));
	keys_report(store_keys(call->store), &report);
	put_providers(call->answer, &report);
	return CTL_DONE;
}

static enum ctl_exit verb_status(struct ctl_call *call)
{
	return with_superblock(call, run_status);
}

/* ---- epochs ---- */

#define WAIT_POLL_MS  50u
#define WAIT_STALL_MS 120000u

/* Looks until nothing in use is sealed under an earlier epoch. */
static int reseal(struct ctl_call *call, struct gc_report *look)
{
	uint64_t moved_ms = clock_mono_ms();

	for (;;) {
		json_t *progress;
		int r = store_reclaim(call->store, look);

		if (r < 0 || look->error < 0)
			return r < 0 ? r : look->error;
		if (look->shards_old == 0 && look->shards_moving == 0)
			return 0;
		if (look->chunks_moved || look->shards_condemned || look->shards_deleted)
			moved_ms = clock_mono_ms();
		if (clock_mono_ms() - moved_ms > WAIT_STALL_MS)
			return -ETIMEDOUT;
		if (ctl_is_cancelled(call))
			return -ECANCELED;
		progress = json_object();
		ctl_put(progress, "note",
			json_sprintf("%llu shards to re-seal, %llu on their way",
				     (unsigned long long)look->shards_old,
				     (unsigned long long)look->shards_moving));
		ctl_progress(call, progress);
		r = spool_seal_all(call->store->spool, 0);
		if (r < 0)
			return r;
		ctl_pause(call, WAIT_POLL_MS);
	}
}

static enum ctl_exit verb_rotate(struct ctl_call *call)
{
	AUTO(buf) why = BUF_INIT;
	struct keys_report report = {0};
	struct gc_report look = {0};
	enum ctl_exit code;
	uint32_t epoch = 0;
	int r = store_key_rotate(call->store, &epoch, &report, &why);

	ctl_put(call->answer, "epoch", ctl_number(epoch));
	if (r == -EAGAIN && why.len > 0) {
		put_providers(call->answer, &report);
		return ctl_fail(call, CTL_PARTIAL, "epoch %u is not in use yet: %s", epoch,
				buf_str(&why));
	}
	if (r == -ENOSPC && why.len == 0)
		return ctl_fail(call, CTL_REFUSED, "there were %u epochs already",
				SUPERBLOCK_EPOCHS_MAX);
	if (r < 0)
		return ctl_fail(call, CTL_FAILED, "rotation: %s",
				why.len ? buf_str(&why) : err_sentence(r));
	code = settle(call, &report, "the new epoch is in use");
	if (!json_is_true(json_object_get(call->args, "wait")))
		return code;
	r = reseal(call, &look);
	ctl_put(call->answer, "left_shards", ctl_number(look.shards_old));
	if (r < 0)
		return ctl_fail(call, CTL_PARTIAL, "%llu shards are not re-sealed yet: %s; it goes on "
						   "in the background, see: shardctl key status",
				(unsigned long long)look.shards_old, err_sentence(r));
	return code;
}

static bool goes_on(void *ctx)
{
	return !ctl_is_cancelled(ctx);
}

static enum ctl_exit refuse_destroy(struct ctl_call *call, uint32_t epoch,
				    const struct store_epoch_left *left)
{
	const struct store_epoch_use *shards = &left->shards;

	ctl_put(call->answer, "live_shards", ctl_number(shards->live_shards));
	ctl_put(call->answer, "waiting_shards", ctl_number(shards->waiting_shards));
	ctl_put(call->answer, "home_files", ctl_number(left->home_files));
	ctl_put(call->answer, "index_objects", ctl_number(left->index_objects));
	ctl_put(call->answer, "unknown_shards", ctl_number(left->unknown_shards));
	if (shards->live_shards > 0)
		return ctl_fail(call, CTL_REFUSED,
				"%llu live shards are sealed under epoch %u; they are re-sealed in the "
				"background, or by: shardctl key rotate --wait",
				(unsigned long long)shards->live_shards, epoch);
	if (shards->waiting_shards > 0)
		return ctl_fail(call, CTL_REFUSED,
				"%llu shards of epoch %u wait for their deletion (deletion_hold), "
				"since an older state may need them; see: shardctl cleanup run",
				(unsigned long long)shards->waiting_shards, epoch);
	if (left->is_unproven)
		return ctl_fail(call, CTL_REFUSED, "not proven that nothing needs epoch %u: %s", epoch,
				left->where);
	if (left->unknown_shards > 0)
		return ctl_fail(call, CTL_REFUSED,
				"%llu objects of epoch %u that the index does not know, the first is "
				"%s; see: shardctl cleanup run --orphans",
				(unsigned long long)left->unknown_shards, epoch, left->where);
	return ctl_fail(call, CTL_REFUSED,
			"%llu index objects and %llu files of epoch %u, the first is %s; try again "
			"when every provider is up to date",
			(unsigned long long)left->index_objects,
			(unsigned long long)left->home_files, epoch, left->where);
}

static enum ctl_exit verb_destroy(struct ctl_call *call)
{
	AUTO(buf) why = BUF_INIT;
	struct store_epoch_left left;
	struct keys_report report;
	uint32_t epoch = 0, current = keyring_current_epoch(call->store->keyring);
	int r = number_arg(call, "epoch", &epoch);

	if (r < 0)
		return ctl_fail(call, CTL_INVALID, "which epoch? see: shardctl key status");
	if (epoch >= current)
		return ctl_fail(call, CTL_REFUSED, "epoch %u is in use; see: shardctl key rotate",
				current);
	r = store_key_look(call->store, call->reader, epoch, true, goes_on, call, &left);
	if (r < 0)
		return ctl_fail(call, CTL_UNKNOWN, "nothing is destroyed: %s", err_sentence(r));
	if (store_epoch_is_left(&left))
		return refuse_destroy(call, epoch, &left);
	r = keys_destroy(store_keys(call->store), epoch, &report, &why);
	if (r == -ENOENT)
		return ctl_fail(call, CTL_INVALID, "there is no epoch %u, or it is destroyed already",
				epoch);
	if (r < 0)
		return ctl_fail(call, CTL_FAILED, "the keys are as before: %s",
				why.len ? buf_str(&why) : err_sentence(r));
	ctl_put(call->answer, "destroyed", ctl_number(epoch));
	return settle(call, &report, "the key of the epoch is destroyed here");
}

const struct ctl_verb ctl_verbs_key[] = {
	{"key add", CTL_ACTION, true, verb_add, "another passphrase or key file"},
	{"key change", CTL_ACTION, true, verb_change, "other credentials for a slot"},
	{"key destroy", CTL_ACTION, true, verb_destroy, "the key of an epoch that nothing needs"},
	{"key export-slots", CTL_QUERY, true, verb_export, "the superblock with its slots"},
	{"key list", CTL_QUERY, false, verb_list, "key slots"},
	{"key remove", CTL_ACTION, true, verb_remove, "a key slot, from every provider too"},
	{"key rotate", CTL_ACTION, true, verb_rotate, "a new key epoch; old shards are re-sealed"},
	{"key status", CTL_QUERY, false, verb_status, "epochs, slots, and who has the superblock"},
	{0},
};
