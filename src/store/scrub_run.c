/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pass on demand: listings and index objects of each provider, then (deep, or of a part of the
 * tree) the copies of each shard; then repair gets its turn, by danger and not in the order in
 * which things were found; and last, which shards have no good copy left.
 */
#include "store/scrub_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SUBTREE_PAGE 4096u
#define LOOK_MS	     100u
#define LOOK_MAX     1000u

static bool goes_on(struct scrub_pass *pass)
{
	if (transfer_is_stopping(pass->scrub->settings.transfer))
		return false;
	return !pass->watch->goes_on || pass->watch->goes_on(pass->watch->ctx, pass->report);
}

static bool is_wanted(const struct scrub_wish *wish, const char *name)
{
	return !wish->provider || strcmp(wish->provider, name) == 0;
}

static int check_wish(struct scrub *scrub, const struct scrub_wish *wish)
{
	unsigned count = transfer_provider_count(scrub->settings.transfer);

	for (unsigned i = 0; i < count; i++) {
		bool present;

		if (is_wanted(wish, scrub_provider_name(scrub,
							scrub_provider_no(scrub, i, &present))))
			return 0;
	}
	return -ENODEV;
}

/* ---- providers ---- */

static int list_provider(struct scrub_pass *pass, struct scrub_listing *listing)
{
	int r;

	while ((r = scrub_listing_step(pass, listing)) > 0)
		if (!goes_on(pass))
			return -ECANCELED;
	return r;
}

static int pass_provider(struct scrub_pass *pass, unsigned provider, bool is_deep)
{
	struct scrub_listing *listing;
	int r = scrub_listing_new(pass->scrub, provider, &listing);

	if (r < 0)
		return r;
	listing->is_survey = is_deep; /* copies will be read one by one */
	r = list_provider(pass, listing);
	scrub_listing_free(listing);
	return r < 0 ? r : scrub_index_objects(pass, provider, is_deep);
}

static int pass_providers(struct scrub_pass *pass, const struct scrub_wish *wish)
{
	struct scrub *scrub = pass->scrub;
	unsigned count = transfer_provider_count(scrub->settings.transfer);

	for (unsigned i = 0; i < count; i++) {
		bool present;
		const char *name =
			scrub_provider_name(scrub, scrub_provider_no(scrub, i, &present));
		int r = 0;

		if (!is_wanted(wish, name))
			continue;
		if (present)
			r = pass_provider(pass, i, wish->is_deep);
		if (r == -ECANCELED || r == -ENOMEM)
			return r;
		if (!present || r < 0)
			scrub_note_incomplete(pass->report, name);
		if (r < 0)
			log_warn("scrub-listing-failed", "provider=%s error=%s", name, err_name(r));
	}
	return 0;
}

/* ---- shards ---- */

/* Bad copies too: they may be good again, or still bad. */
static bool is_to_be_read(const struct copy_row *copy)
{
	return copy_is_valid(copy) || copy->state == COPY_MISSING || copy->state == COPY_CORRUPT;
}

static int pass_shard(struct scrub_pass *pass, const struct scrub_wish *wish,
		      const struct shard_row *shard)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r;

	if (shard->state != SHARD_SEALED && shard->state != SHARD_DURABLE)
		return 0;
	r = index_list_copies(pass->scrub->settings.index, pass->reader, shard->shard_no, &copies);
	for (size_t i = 0; i < copies.count && r == 0; i++) {
		const struct copy_row *copy = &copies.rows[i];

		if (!is_to_be_read(copy) ||
		    !is_wanted(wish, scrub_provider_name(pass->scrub, copy->provider_no)))
			continue;
		scrub_copy(pass, shard, copy->provider_no, wish->is_deep);
		if (!goes_on(pass))
			r = -ECANCELED;
	}
	pass->report->shards++;
	return r;
}

typedef int (*visit_shard)(struct scrub_pass *pass, const struct scrub_wish *wish,
			   const struct shard_row *shard);

static int visit_all(struct scrub_pass *pass, const struct scrub_wish *wish, visit_shard visit)
{
	uint64_t after = 0;
	size_t count;
	int r;

	do {
		AUTO(shard_list) shards = ROW_LIST_INIT;

		r = index_list_shards(pass->scrub->settings.index, pass->reader, after, SCRUB_PAGE,
				      &shards);
		for (size_t i = 0; i < shards.count && r == 0; i++)
			r = visit(pass, wish, &shards.rows[i]);
		count = shards.count;
		if (count > 0)
			after = shards.rows[count - 1].shard_no;
	} while (r == 0 && count == SCRUB_PAGE);
	return r;
}

static int visit_subtree(struct scrub_pass *pass, const struct scrub_wish *wish, visit_shard visit)
{
	struct index *index = pass->scrub->settings.index;
	uint64_t *shard_nos = mem_alloc_array(SUBTREE_PAGE, sizeof(*shard_nos)), after = 0;
	size_t count = 0;
	int r = shard_nos ? 0 : -ENOMEM;

	do {
		if (r == 0)
			r = index_subtree_shards(index, pass->reader, wish->ino, after,
						 SUBTREE_PAGE, shard_nos, &count, NULL);
		for (size_t i = 0; i < count && r == 0; i++) {
			struct shard_row shard;

			r = index_get_shard(index, pass->reader, shard_nos[i], &shard);
			r = r == -ENOENT ? 0 : r < 0 ? r : visit(pass, wish, &shard);
			after = shard_nos[i];
		}
	} while (r == 0 && count == SUBTREE_PAGE);
	mem_free(shard_nos);
	return r;
}

static int visit_shards(struct scrub_pass *pass, const struct scrub_wish *wish, visit_shard visit)
{
	return wish->ino ? visit_subtree(pass, wish, visit) : visit_all(pass, wish, visit);
}

/* ---- repair ---- */

static bool is_good(struct scrub_pass *pass, const struct scrub_bad_copy *bad)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;

	if (index_list_copies(pass->scrub->settings.index, pass->reader, bad->shard_no, &copies) < 0)
		return false;
	for (size_t i = 0; i < copies.count; i++)
		if (copies.rows[i].provider_no == bad->provider_no)
			return copy_is_valid(&copies.rows[i]);
	return false;
}

static bool are_all_good(struct scrub_pass *pass)
{
	if (pass->bad_count > LOOK_MAX)
		return false; /* the end of the sweep will tell */
	for (size_t i = 0; i < pass->bad_count; i++)
		if (!is_good(pass, &pass->bad[i]))
			return false;
	return true;
}

/* Until a sweep that began after the last finding is over: what is bad then cannot be repaired. */
static int await_repair(struct scrub_pass *pass)
{
	struct transfer *transfer = pass->scrub->settings.transfer;
	int r = transfer_settle(transfer);
	uint64_t sweep;

	if (r < 0 || pass->bad_count == 0)
		return r;
	sweep = transfer_sweep(transfer);
	while (!transfer_sweep_wait(transfer, sweep, LOOK_MS) && !are_all_good(pass))
		if (!goes_on(pass))
			return -ECANCELED;
	return transfer_settle(transfer);
}

static void tell_bad(struct scrub_pass *pass)
{
	for (size_t i = 0; i < pass->bad_count; i++) {
		const struct scrub_bad_copy *bad = &pass->bad[i];
		struct shard_id_hex key = shard_id_hex(&bad->id);
		struct scrub_finding finding = {
			.object = SCRUB_COPY,
			.key = key.s,
			.provider = scrub_provider_name(pass->scrub, bad->provider_no),
			.kind = copy_finding_name(bad->finding),
			.shard_no = bad->shard_no,
			.is_repaired = is_good(pass, bad)};

		pass->report->repaired += finding.is_repaired;
		pass->report->unrepaired += !finding.is_repaired;
		scrub_found(pass, &finding);
	}
}

/* ---- what is lost ---- */

static int look_for_loss(struct scrub_pass *pass, const struct scrub_wish *wish,
			 const struct shard_row *shard)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r;

	(void)wish;
	if ((shard->state != SHARD_SEALED && shard->state != SHARD_DURABLE) ||
	    spool_has(pass->scrub->settings.spool, shard->shard_no))
		return 0;
	r = index_list_copies(pass->scrub->settings.index, pass->reader, shard->shard_no, &copies);
	for (size_t i = 0; i < copies.count && r == 0; i++)
		if (copy_is_valid(&copies.rows[i]))
			return 0;
	if (r < 0 || shard->live_bytes == 0)
		return r;
	pass->report->lost++;
	if (pass->watch->lost)
		pass->watch->lost(pass->watch->ctx, shard->shard_no);
	return goes_on(pass) ? 0 : -ECANCELED;
}

static int run(struct scrub_pass *pass, const struct scrub_wish *wish)
{
	struct index_totals totals;
	int r = wish->ino ? 0 : pass_providers(pass, wish);

	if (r == 0 && (wish->ino || wish->is_deep)) {
		index_totals(pass->scrub->settings.index, &totals);
		pass->report->total = wish->ino ? 0 : totals.shards;
		r = visit_shards(pass, wish, pass_shard);
	}
	if (r == 0)
		r = await_repair(pass);
	if (r == 0 || r == -ECANCELED)
		tell_bad(pass);
	if (r == 0)
		r = sequencer_wait_applied(pass->scrub->settings.sequencer,
					   sequencer_last_seq(pass->scrub->settings.sequencer));
	return r == 0 ? visit_shards(pass, wish, look_for_loss) : r;
}

int scrub_run(struct scrub *scrub, struct index_reader *reader, const struct scrub_wish *wish,
	      const struct scrub_watch *watch, struct scrub_report *report)
{
	struct scrub_pass pass = {
		.scrub = scrub, .reader = reader, .watch = watch, .report = report};
	int r = check_wish(scrub, wish);

	*report = (struct scrub_report){0};
	if (r == 0)
		r = aead_ctx_new(&pass.aead);
	if (r < 0)
		return r;
	r = sequencer_wait_applied(scrub->settings.sequencer,
				   sequencer_last_seq(scrub->settings.sequencer));
	if (r == 0)
		r = run(&pass, wish);
	aead_ctx_free(pass.aead);
	mem_free(pass.bad);
	return r;
}

/* ---- orphans ---- */

/* Why nothing may be deleted now. */
static void block(struct scrub *scrub, char out[64])
{
	unsigned count = transfer_provider_count(scrub->settings.transfer);

	out[0] = '\0';
	for (unsigned i = 0; i < count && out[0] == '\0'; i++) {
		bool present;
		const char *name =
			scrub_provider_name(scrub, scrub_provider_no(scrub, i, &present));

		if (!present)
			snprintf(out, 64, "away: %.50s", name);
	}
	if (out[0] == '\0' && oplog_is_fenced(scrub->settings.oplog))
		snprintf(out, 64, "another machine writes to this file system");
}

int scrub_orphans(struct scrub *scrub, struct index_reader *reader, bool deletes,
		  const struct scrub_watch *watch, struct scrub_report *report)
{
	struct scrub_pass pass = {
		.scrub = scrub, .reader = reader, .watch = watch, .report = report};
	unsigned count = transfer_provider_count(scrub->settings.transfer);
	int r = aead_ctx_new(&pass.aead);

	*report = (struct scrub_report){0};
	for (unsigned i = 0; i < count && r == 0; i++) {
		struct scrub_listing *listing = NULL;
		bool present;
		const char *name =
			scrub_provider_name(scrub, scrub_provider_no(scrub, i, &present));

		if (!present) {
			scrub_note_incomplete(report, name);
			continue;
		}
		r = scrub_listing_new(scrub, i, &listing);
		if (r == 0) {
			listing->is_survey = true;
			listing->deletes = deletes;
			block(scrub, listing->blocked_by);
			r = list_provider(&pass, listing);
			scrub_tell_orphans(&pass, listing);
		}
		scrub_listing_free(listing);
		if (r < 0 && r != -ECANCELED && r != -ENOMEM) {
			scrub_note_incomplete(report, name);
			r = 0;
		}
	}
	aead_ctx_free(pass.aead);
	return r;
}

/* ---- names ---- */

const char *scrub_object_name(enum scrub_object object)
{
	static const char *const names[] = {
		[SCRUB_COPY] = "copy",	   [SCRUB_INDEX] = "index", [SCRUB_SUPERBLOCK] = "superblock",
		[SCRUB_ORPHAN] = "orphan", [SCRUB_FOREIGN] = "foreign",
	};

	return names[object];
}
