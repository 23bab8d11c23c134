/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listings: what a provider has and the index does not know, and the other way round.
 *
 *   LIST, page by page            each name: a shard of ours (its bit is set, its size compared),
 *                                 an orphan, a foreign file; index objects are looked at elsewhere
 *   COMPARE, page by page         valid copies without a bit, older than the listing: HEAD says
 *                                 whether one is missing, since a LIST may miss what changes
 *
 * An orphan is named like a shard and is none that should be there: what a late PUT left after a
 * deletion, or what an older state of this file system wrote and no longer knows.  It is deleted
 * only on request, and only if no other writer can own it: its footer says who sealed it.
 */
#include "store/scrub_private.h"

#include "store/audit.h"
#include "store/oplog_format.h"
#include "store/pack.h"
#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FOOTER_BYTES_MAX (16 * MIB)
#define ORPHANS_TOLD_MAX 50u /* by name, in one entry of the audit log */

int scrub_listing_new(struct scrub *scrub, unsigned provider, struct scrub_listing **out)
{
	struct scrub_listing *listing = mem_alloc(sizeof(*listing));
	bool is_present;

	if (!listing)
		return -ENOMEM;
	listing->seen = mem_alloc(SCRUB_WINDOW / 8);
	if (!listing->seen) {
		mem_free(listing);
		return -ENOMEM;
	}
	listing->provider = provider;
	listing->provider_no = scrub_provider_no(scrub, provider, &is_present);
	listing->name = scrub_provider_name(scrub, listing->provider_no);
	listing->started_sec = clock_wall().sec;
	*out = listing;
	return 0;
}

void scrub_listing_free(struct scrub_listing *listing)
{
	if (!listing)
		return;
	backend_list_release(&listing->page);
	buf_release(&listing->names);
	mem_free(listing->seen);
	mem_free(listing);
}

static bool is_seen(const struct scrub_listing *listing, uint64_t shard_no)
{
	uint64_t at = shard_no - listing->window_from;

	return listing->seen[at / 8] & (1u << (at % 8));
}

static bool is_in_window(const struct scrub_listing *listing, uint64_t shard_no)
{
	return shard_no >= listing->window_from &&
	       shard_no - listing->window_from < SCRUB_WINDOW;
}

/* ---- orphans ---- */

static int get_range(struct scrub_pass *pass, const struct scrub_listing *listing, const char *key,
		     uint64_t off, uint64_t len, struct buf *out)
{
	struct transfer_request request = {.op = BACKEND_GET, .key = key, .offset = off, .len = len,
					   .out = out};

	return transfer_request(pass->scrub->settings.transfer, listing->provider, &request);
}

/* Header, tail and footer: 0 and who sealed it; -EBADMSG: not authentic. */
static int read_footer(struct scrub_pass *pass, const struct scrub_listing *listing,
		       const struct backend_entry *entry, const struct shard_id *id,
		       uint64_t *writer_epoch)
{
	struct pack_footer footer = PACK_FOOTER_INIT;
	AUTO(buf) header = BUF_INIT;
	AUTO(buf) tail = BUF_INIT;
	AUTO(buf) sealed = BUF_INIT;
	struct pack_keys keys;
	struct shard_id found;
	struct fs_id fs_id;
	uint32_t key_epoch, off, len;
	int r;

	if (entry->size < PACK_HEADER_LEN + PACK_TAIL_LEN)
		return -EBADMSG;
	r = get_range(pass, listing, entry->key, 0, PACK_HEADER_LEN, &header);
	if (r == 0)
		r = pack_header_read(buf_bytes(&header), &found, &key_epoch, &fs_id);
	if (r == 0 && memcmp(found.b, id->b, sizeof(found.b)) != 0)
		r = -EBADMSG;
	if (r == 0)
		r = get_range(pass, listing, entry->key, entry->size - PACK_TAIL_LEN, PACK_TAIL_LEN,
			      &tail);
	if (r < 0)
		return r;
	r = pack_keys_init(&keys, pass->scrub->settings.keyring, key_epoch, id);
	if (r < 0)
		return r;
	r = pack_tail_open(pass->aead, &keys, buf_bytes(&tail), entry->size, &off, &len);
	if (r == 0 && len > FOOTER_BYTES_MAX)
		r = -EBADMSG;
	if (r == 0)
		r = get_range(pass, listing, entry->key, off, len, &sealed);
	if (r == 0)
		r = pack_open_footer(pass->aead, &keys, off, buf_bytes(&sealed), &footer);
	if (r == 0)
		*writer_epoch = footer.shard.writer_epoch;
	pack_footer_release(&footer);
	pack_keys_release(&keys);
	return r;
}

/* Why it may not go, or NULL. */
static const char *why_kept(struct scrub_pass *pass, const struct scrub_listing *listing,
			    const struct backend_entry *entry, const struct shard_id *id)
{
	const struct scrub_settings *settings = &pass->scrub->settings;
	int64_t hold = (int64_t)(settings->config->settings.deletion_hold_ms / 1000);
	uint64_t writer_epoch = 0;
	int r;

	if (entry->mtime.sec + hold > clock_wall().sec)
		return "younger than deletion_hold";
	r = read_footer(pass, listing, entry, id, &writer_epoch);
	if (r == -EBADMSG || r == -EPROTONOSUPPORT || r == -ENOKEY)
		return "does not authenticate: whose it is cannot be told";
	if (r < 0)
		return "could not be read";
	if (writer_epoch > settings->writer_epoch)
		return "of another writer";
	if (writer_epoch < settings->writer_epoch &&
	    oplog_has_epoch(settings->transfer, writer_epoch))
		return "of an earlier writer whose history is still there";
	return NULL;
}

/* ---- for the audit log ---- */

static int put_event(struct scrub_pass *pass, const char *kind, const char *result,
		     const char *details, const char *format, const char *provider)
{
	const struct scrub_settings *settings = &pass->scrub->settings;
	struct audit_event event = {.kind = kind, .result = result, .details = details,
				    .who = AUDIT_SYSTEM};
	AUTO(buf) what = BUF_INIT;

	if (!settings->audit)
		return 0;
	if (buf_printf(&what, "%s provider %s", format, provider) < 0 || !buf_str(&what))
		return -ENOMEM;
	event.what = buf_str(&what);
	return settings->audit(settings->ctx, &event);
}

/* Durable before the first DELETE: that deleting began here is known, whatever comes. */
static int announce_deleting(struct scrub_pass *pass, struct scrub_listing *listing)
{
	const struct scrub_settings *settings = &pass->scrub->settings;
	int r;

	if (listing->is_announced)
		return 0;
	r = put_event(pass, "delete", "ok", "{\"why\":\"no index knows them\"}",
		      "orphans are to be deleted at", listing->name);
	if (r == 0 && settings->settle)
		r = settings->settle(settings->ctx);
	listing->is_announced = r == 0;
	return r;
}

static void note_deleted(struct scrub_listing *listing, const char *key)
{
	if (listing->deleted < ORPHANS_TOLD_MAX)
		buf_printf(&listing->names, "%s\"%s\"", listing->deleted ? "," : "", key);
	listing->deleted++;
}

void scrub_tell_orphans(struct scrub_pass *pass, struct scrub_listing *listing)
{
	AUTO_STR details = NULL;

	if (listing->deleted == 0)
		return;
	details = mem_printf("{\"count\":%llu,\"first\":[%s]}", (unsigned long long)listing->deleted,
			     buf_str(&listing->names) ? buf_str(&listing->names) : "");
	put_event(pass, "delete", "ok", details, "orphans were deleted at", listing->name);
	listing->deleted = 0;
	buf_clear(&listing->names);
}

/* Once more, right before it goes: names are random, so what nobody knows nobody will. */
static int delete_orphan(struct scrub_pass *pass, struct scrub_listing *listing,
			 const struct backend_entry *entry, const struct shard_id *id)
{
	struct transfer_request request = {.op = BACKEND_DELETE, .key = entry->key};
	struct shard_row row;
	int r = index_find_shard(pass->scrub->settings.index, pass->reader, id, &row);

	if (r == 0)
		return -EBUSY;
	if (r != -ENOENT)
		return r;
	r = announce_deleting(pass, listing);
	if (r == 0)
		r = HOOK("orphan-delete-before");
	if (r == 0)
		r = transfer_request(pass->scrub->settings.transfer, listing->provider, &request);
	if (r == 0)
		r = HOOK("orphan-delete-after");
	if (r < 0) {
		log_warn("orphan-not-deleted", "key=%s provider=%s error=%s", entry->key,
			 listing->name, err_name(r));
		return r;
	}
	note_deleted(listing, entry->key);
	log_info("orphan-deleted", "key=%s provider=%s bytes=%llu why=\"no index knows it\"",
		 entry->key, listing->name, (unsigned long long)entry->size);
	return 0;
}

static bool is_gone(struct scrub_pass *pass, const struct scrub_listing *listing, const char *key)
{
	struct transfer_request head = {.op = BACKEND_HEAD, .key = key};

	return transfer_request(pass->scrub->settings.transfer, listing->provider, &head) ==
	       -ENOENT;
}

static void note_orphan(struct scrub_pass *pass, struct scrub_listing *listing,
			const struct backend_entry *entry, const struct shard_id *id,
			const char *why)
{
	struct scrub_finding finding = {.object = SCRUB_ORPHAN,
					.key = entry->key,
					.provider = listing->name,
					.kind = "",
					.bytes = entry->size};

	if (is_gone(pass, listing, entry->key))
		return; /* deleted since it was listed */
	if (!why)
		why = why_kept(pass, listing, entry, id);
	pass->report->orphans++;
	pass->report->orphan_bytes += entry->size;
	pass->report->orphans_deletable += why == NULL;
	if (listing->deletes && !why && listing->blocked_by[0])
		why = listing->blocked_by;
	if (listing->deletes && !why) {
		finding.is_repaired = delete_orphan(pass, listing, entry, id) == 0;
		pass->report->orphans_deleted += finding.is_repaired;
		if (!finding.is_repaired)
			why = "could not be deleted";
	}
	finding.kind = why ? why : "";
	scrub_found(pass, &finding);
}

/* ---- listed names ---- */

static bool id_of_key(const char *key, struct shard_id *id)
{
	if (strlen(key) != 2 * sizeof(id->b) || strspn(key, "0123456789abcdef") != strlen(key))
		return false;
	for (size_t i = 0; i < sizeof(id->b); i++) {
		unsigned byte;

		sscanf(key + 2 * i, "%2x", &byte);
		id->b[i] = (uint8_t)byte;
	}
	return true;
}

static void note_foreign(struct scrub_pass *pass, struct scrub_listing *listing,
			 const struct backend_entry *entry)
{
	struct scrub_finding finding = {.object = SCRUB_FOREIGN,
					.key = entry->key,
					.provider = listing->name,
					.kind = "not ours: never touched",
					.bytes = entry->size};

	pass->report->foreign++;
	scrub_found(pass, &finding);
}

static const struct copy_row *row_at(const struct copy_list *copies, uint32_t provider_no)
{
	for (size_t i = 0; i < copies->count; i++)
		if (copies->rows[i].provider_no == provider_no)
			return &copies->rows[i];
	return NULL;
}

static int look_at_shard(struct scrub_pass *pass, struct scrub_listing *listing,
			 const struct backend_entry *entry, const struct shard_id *id)
{
	struct index *index = pass->scrub->settings.index;
	AUTO(copy_list) copies = ROW_LIST_INIT;
	const struct copy_row *copy;
	struct shard_row shard;
	int r = index_find_shard(index, pass->reader, id, &shard);

	if (r == -ENOENT) {
		note_orphan(pass, listing, entry, id, NULL);
		return 0;
	}
	if (r == 0)
		r = index_list_copies(index, pass->reader, shard.shard_no, &copies);
	if (r < 0)
		return r;
	if (is_in_window(listing, shard.shard_no)) {
		uint64_t at = shard.shard_no - listing->window_from;

		listing->seen[at / 8] |= (uint8_t)(1u << (at % 8));
	}
	copy = row_at(&copies, listing->provider_no);
	if (!copy) {
		note_orphan(pass, listing, entry, id, "a shard that is kept elsewhere");
		return 0;
	}
	if (listing->is_survey || !copy_is_valid(copy) || !is_in_window(listing, shard.shard_no))
		return 0;
	if (entry->size == shard.object_len) {
		scrub_settle(pass, &shard, listing->provider_no, FINDING_GOOD);
		return 0;
	}
	scrub_settle(pass, &shard, listing->provider_no,
		     transfer_check_copy(pass->scrub->settings.transfer, NULL, &shard,
					 listing->provider_no));
	return 0;
}

static int look_at_entry(struct scrub_pass *pass, struct scrub_listing *listing,
			 const struct backend_entry *entry)
{
	struct shard_id id;

	if (listing->window_from > 0 && !id_of_key(entry->key, &id))
		return 0; /* was seen the first time */
	if (listing->window_from == 0)
		pass->report->listed++;
	if (id_of_key(entry->key, &id))
		return look_at_shard(pass, listing, entry, &id);
	if (strncmp(entry->key, OPLOG_PREFIX, strlen(OPLOG_PREFIX)) != 0)
		note_foreign(pass, listing, entry);
	return 0;
}

static int list_step(struct scrub_pass *pass, struct scrub_listing *listing)
{
	struct transfer_request request = {.op = BACKEND_LIST, .key = "", .list = &listing->page};
	int r = transfer_request(pass->scrub->settings.transfer, listing->provider, &request);

	for (size_t i = 0; i < listing->page.count && r == 0; i++)
		r = look_at_entry(pass, listing, &listing->page.entries[i]);
	if (r < 0)
		return r;
	if (listing->page.cursor[0] == '\0') {
		listing->phase = listing->is_survey ? LISTING_DONE : LISTING_COMPARE;
		listing->compare_after = listing->window_from ? listing->window_from - 1 : 0;
		listing->compare_state = COPY_PRESENT;
	}
	return listing->phase != LISTING_DONE;
}

/* ---- copies that were not listed ---- */

static int look_at_unlisted(struct scrub_pass *pass, struct scrub_listing *listing,
			    const struct copy_row *copy)
{
	struct shard_row shard;
	int r = index_get_shard(pass->scrub->settings.index, pass->reader, copy->shard_no, &shard);

	if (r == -ENOENT || (r == 0 && shard.state != SHARD_SEALED && shard.state != SHARD_DURABLE))
		return 0;
	if (r < 0)
		return r;
	scrub_settle(pass, &shard, listing->provider_no,
		     transfer_check_copy(pass->scrub->settings.transfer, NULL, &shard,
					 listing->provider_no));
	return 0;
}

/* On to the next state, the next window, or the end. */
static int compare_next(struct scrub_pass *pass, struct scrub_listing *listing)
{
	struct index_highest highest;

	listing->compare_after = listing->window_from ? listing->window_from - 1 : 0;
	if (listing->compare_state == COPY_PRESENT) {
		listing->compare_state = COPY_VERIFIED;
		return 1;
	}
	index_highest(pass->scrub->settings.index, &highest);
	if (highest.shard_no - listing->window_from < SCRUB_WINDOW) {
		listing->phase = LISTING_DONE;
		return 0;
	}
	listing->window_from += SCRUB_WINDOW;
	memset(listing->seen, 0, SCRUB_WINDOW / 8);
	listing->phase = LISTING_LIST;
	return 1;
}

static int compare_step(struct scrub_pass *pass, struct scrub_listing *listing)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = index_list_copies_in_state(pass->scrub->settings.index, pass->reader,
					   listing->compare_state, listing->compare_after,
					   SCRUB_PAGE, &copies);
	bool is_over = false;

	for (size_t i = 0; i < copies.count && r == 0 && !is_over; i++) {
		const struct copy_row *copy = &copies.rows[i];

		is_over = copy->shard_no >= listing->window_from &&
			  !is_in_window(listing, copy->shard_no);
		if (is_over || copy->provider_no != listing->provider_no)
			continue;
		if (!is_seen(listing, copy->shard_no) && copy->changed_sec <= listing->started_sec)
			r = look_at_unlisted(pass, listing, copy);
	}
	if (r < 0)
		return r;
	if (copies.count > 0 && !is_over) {
		listing->compare_after = copies.rows[copies.count - 1].shard_no;
		return 1;
	}
	return compare_next(pass, listing);
}

int scrub_listing_step(struct scrub_pass *pass, struct scrub_listing *listing)
{
	switch (listing->phase) {
	case LISTING_LIST:
		return list_step(pass, listing);
	case LISTING_COMPARE:
		return compare_step(pass, listing);
	case LISTING_DONE:
	default:
		return 0;
	}
}

/* ---- index objects ---- */

struct index_watch {
	struct scrub_pass *pass;
	const char *provider;
};

static void index_found(void *ctx, const char *key, const char *kind, bool is_repaired)
{
	struct index_watch *watch = ctx;
	struct scrub_finding finding = {.object = SCRUB_INDEX,
					.key = key,
					.provider = watch->provider,
					.kind = kind,
					.is_repaired = is_repaired};

	scrub_found(watch->pass, &finding);
}

static void check_superblock(struct scrub_pass *pass, unsigned provider, const char *name)
{
	struct scrub_finding finding = {.object = SCRUB_SUPERBLOCK,
					.key = SUPERBLOCK_KEY,
					.provider = name,
					.kind = "missing, damaged or old"};
	bool was_bad;
	int r = transfer_check_superblock(pass->scrub->settings.transfer, provider, &was_bad);

	pass->report->index_objects++;
	if (r < 0 && !was_bad)
		pass->report->unknown++;
	if (!was_bad)
		return;
	put_event(pass, "repair", r == 0 ? "ok" : err_name(r), NULL,
		  "the superblock was written again at", name);
	finding.is_repaired = r == 0;
	pass->report->index_bad++;
	pass->report->repaired += r == 0;
	pass->report->unrepaired += r < 0;
	scrub_found(pass, &finding);
}

int scrub_index_objects(struct scrub_pass *pass, unsigned provider, bool is_deep)
{
	const char *name;
	struct oplog_check check = {0};
	struct index_watch watch = {.pass = pass};
	bool is_present;
	int r;

	name = scrub_provider_name(pass->scrub,
				   scrub_provider_no(pass->scrub, provider, &is_present));
	watch.provider = name;
	check_superblock(pass, provider, name);
	r = oplog_check(pass->scrub->settings.oplog, pass->scrub->settings.transfer, provider,
			is_deep, pass->aead, index_found, &watch, &check);
	pass->report->index_objects += check.objects;
	pass->report->bytes += check.bytes;
	pass->report->index_bad += check.bad;
	pass->report->repaired += check.repaired;
	pass->report->unrepaired += check.bad - check.repaired;
	pass->report->unknown += check.unknown;
	if (check.repaired > 0) {
		AUTO_STR details = mem_printf("{\"count\":%llu}",
					      (unsigned long long)check.repaired);

		put_event(pass, "repair", "ok", details, "index objects were written again at",
			  name);
	}
	return r;
}
