/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub in the background: a unit of the keeper is a page of a listing or the copies of one shard.
 *
 * Deep: the index gives shards by the time at which the longest unread of their valid copies was
 * verified (index_list_verified), in pages, each sorted by class.  Of a shard, the copies that are
 * due are read.  At a page where nothing can be due the walk ends, and begins anew after a rest.
 * Copies at providers that are away stay due and are passed over.
 *
 * Cheap: one provider after the other, when its last listing is old enough; files in home/scrub say
 * when that was.  A listing that was interrupted begins again.
 */
#include "store/scrub_private.h"

#include "util/clock.h"
#include "util/counter.h"
#include "util/err.h"
#include "util/file.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS		 1000u /* the chore's period */
#define URGENCY		 9u
#define REST_MS		 (10 * 60 * 1000u) /* between two walks; less with a short period */
#define LIST_RETRY_MS	 (10 * 60 * 1000u)
#define FIRST_LOOK_SEC	 (24 * 60 * 60)
#define BURST_MS	 1000u

static struct counter scrub_copies = COUNTER_INIT("scrub_copies_read", "copies read back");
static struct counter scrub_bytes = COUNTER_INIT("scrub_bytes_read", "bytes read back");
static struct counter scrub_bad = COUNTER_INIT("scrub_copies_bad", "copies that were not right");
COUNTER_REGISTER(scrub_copies);
COUNTER_REGISTER(scrub_bytes);
COUNTER_REGISTER(scrub_bad);

/* ---- providers ---- */

uint32_t scrub_provider_no(struct scrub *scrub, unsigned i, bool *is_present)
{
	struct provider_status status;

	transfer_provider_status(scrub->settings.transfer, i, &status);
	*is_present = status.is_present;
	return status.provider_no;
}

const char *scrub_provider_name(struct scrub *scrub, uint32_t provider_no)
{
	struct provider_facts facts[PLACEMENT_PROVIDERS_MAX];
	unsigned count =
		transfer_facts(scrub->settings.transfer, facts, PLACEMENT_PROVIDERS_MAX);

	for (unsigned i = 0; i < count; i++)
		if (facts[i].provider_no == provider_no)
			return facts[i].name; /* lives as long as transfer */
	return "?";
}

static bool is_present(struct scrub *scrub, uint32_t provider_no)
{
	struct provider_facts facts[PLACEMENT_PROVIDERS_MAX];
	unsigned count =
		transfer_facts(scrub->settings.transfer, facts, PLACEMENT_PROVIDERS_MAX);

	for (unsigned i = 0; i < count; i++)
		if (facts[i].provider_no == provider_no)
			return facts[i].is_present;
	return false;
}

/* ---- what is remembered ---- */

static int64_t remembered(const struct scrub *scrub, const char *what, const char *provider)
{
	AUTO_STR path = mem_printf("%s/%s-%s", scrub->dir, what, provider);
	AUTO(buf) text = BUF_INIT;
	AUTO_FD fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > 64 ||
	    file_pread_buf(fd, (size_t)st.st_size, 0, &text) < 0 || !buf_str(&text))
		return 0;
	return strtoll(buf_str(&text), NULL, 10);
}

/* Best effort: without it, it is done again sooner. */
static void remember(const struct scrub *scrub, const char *what, const char *provider, int64_t sec)
{
	AUTO_STR path = mem_printf("%s/%s-%s", scrub->dir, what, provider);
	AUTO(buf) text = BUF_INIT;
	AUTO_FD fd = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd < 0 || buf_printf(&text, "%lld\n", (long long)sec) < 0 ||
	    file_pwrite(fd, buf_bytes(&text), 0) < 0 || ftruncate(fd, (off_t)text.len) < 0)
		log_warn("scrub-not-remembered", "provider=%s next=\"done again sooner\"", provider);
}

/* ---- counting ---- */

void scrub_found(struct scrub_pass *pass, const struct scrub_finding *finding)
{
	if (pass->watch && pass->watch->found)
		pass->watch->found(pass->watch->ctx, finding);
}

void scrub_note_incomplete(struct scrub_report *report, const char *provider)
{
	size_t len = strlen(report->incomplete_by);

	snprintf(report->incomplete_by + len, sizeof(report->incomplete_by) - len, "%s%s",
		 len ? ", " : "", provider);
}

static void count_finding(struct scrub_report *report, enum copy_finding finding)
{
	switch (finding) {
	case FINDING_GOOD: report->ok++; break;
	case FINDING_MISSING: report->missing++; break;
	case FINDING_TRUNCATED: report->truncated++; break;
	case FINDING_CORRUPT: report->corrupt++; break;
	case FINDING_SWAPPED: report->swapped++; break;
	case FINDING_UNREADABLE: report->unreadable++; break;
	case FINDING_UNKNOWN:
	default: report->unknown++; break;
	}
}

void scrub_settle(struct scrub_pass *pass, const struct shard_row *shard, uint32_t provider_no,
		  enum copy_finding finding)
{
	struct scrub_bad_copy bad = {shard->shard_no, shard->id, provider_no, finding};

	pass->report->copies++;
	count_finding(pass->report, finding);
	if (finding == FINDING_GOOD || finding == FINDING_UNKNOWN)
		return;
	pass->scrub->bad++;
	counter_add(&scrub_bad, 1);
	if (!pass->watch || pass->bad_count == SCRUB_BAD_MAX)
		return;
	if (pass->bad_count == pass->bad_capacity) {
		size_t more = MAX(2 * pass->bad_capacity, (size_t)64);
		struct scrub_bad_copy *grown = mem_realloc_array(pass->bad, more, sizeof(*grown));

		if (!grown)
			return; /* it is in the index */
		pass->bad = grown;
		pass->bad_capacity = more;
	}
	pass->bad[pass->bad_count++] = bad;
}

void scrub_copy(struct scrub_pass *pass, const struct shard_row *shard, uint32_t provider_no,
		bool is_deep)
{
	enum copy_finding finding =
		transfer_check_copy(pass->scrub->settings.transfer, is_deep ? pass->aead : NULL,
				    shard, provider_no);

	if (is_deep && finding != FINDING_UNKNOWN && finding != FINDING_MISSING) {
		pass->report->bytes += shard->object_len;
		pass->scrub->bytes += shard->object_len;
		pass->scrub->copies++;
		counter_add(&scrub_copies, 1);
		counter_add(&scrub_bytes, shard->object_len);
	}
	scrub_settle(pass, shard, provider_no, finding);
}

/* ---- when ---- */

static bool is_in_window(const struct scrub *scrub)
{
	unsigned from, to, now;
	time_t sec = (time_t)clock_wall().sec;
	struct tm local;

	if (!config_scrub_window(&scrub->settings.config->settings, &from, &to))
		return true;
	localtime_r(&sec, &local);
	now = (unsigned)local.tm_hour * 60 + (unsigned)local.tm_min;
	return from <= to ? now >= from && now < to : now >= from || now < to;
}

/* Seconds after which a copy of this class is due again. */
static int64_t period_sec(const struct scrub *scrub, uint32_t priority)
{
	uint64_t period = scrub->settings.config->settings.scrub_period_ms / 1000;

	if (priority == PRIORITY_CRITICAL)
		period /= 4;
	else if (priority == PRIORITY_HIGH)
		period /= 2;
	return (int64_t)MAX(period, (uint64_t)1);
}

static int64_t due_sec(const struct scrub *scrub, uint32_t priority, const struct copy_row *copy)
{
	int64_t period = period_sec(scrub, priority);

	if (copy->verified_sec == 0)
		return copy->changed_sec + MIN(period, (int64_t)FIRST_LOOK_SEC);
	return copy->verified_sec + period;
}

/* ---- deep ---- */

struct aged {
	struct verified_row row;
	uint32_t priority;
};

static int compare_aged(const void *left, const void *right)
{
	const struct aged *a = left, *b = right;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->row.verified_sec != b->row.verified_sec)
		return a->row.verified_sec < b->row.verified_sec ? -1 : 1;
	return a->row.shard_no < b->row.shard_no ? -1 : a->row.shard_no > b->row.shard_no;
}

/* By class, then by time. */
static void sort_page(struct scrub *scrub, struct index_reader *reader)
{
	struct aged aged[SCRUB_PAGE];
	size_t count = MIN(scrub->page.count, (size_t)SCRUB_PAGE);

	for (size_t i = 0; i < count; i++) {
		struct shard_row shard = {.priority = PRIORITY_LOW};

		index_get_shard(scrub->settings.index, reader, scrub->page.rows[i].shard_no, &shard);
		aged[i] = (struct aged){scrub->page.rows[i], shard.priority};
	}
	qsort(aged, count, sizeof(aged[0]), compare_aged);
	for (size_t i = 0; i < count; i++)
		scrub->page.rows[i] = aged[i].row;
}

static void rest(struct scrub *scrub)
{
	uint64_t period = scrub->settings.config->settings.scrub_period_ms;

	scrub->after_sec = INT64_MIN;
	scrub->after_no = 0;
	scrub->rest_until_ms = clock_mono_ms() + MIN((uint64_t)REST_MS, period / 4);
}

/* 1: there is a page; 0: the walk is over for now. */
static int next_page(struct scrub *scrub, struct index_reader *reader)
{
	int64_t never_due = clock_wall().sec - period_sec(scrub, PRIORITY_CRITICAL);

	scrub->page.count = scrub->page_next = 0;
	if (index_list_verified(scrub->settings.index, reader, scrub->after_sec, scrub->after_no,
				SCRUB_PAGE, &scrub->page) < 0)
		scrub->page.count = 0;
	if (scrub->page.count == 0 || scrub->page.rows[0].verified_sec > never_due) {
		scrub->page.count = 0;
		rest(scrub);
		return 0;
	}
	scrub->after_sec = scrub->page.rows[scrub->page.count - 1].verified_sec;
	scrub->after_no = scrub->page.rows[scrub->page.count - 1].shard_no;
	sort_page(scrub, reader);
	return 1;
}

static void spend(struct scrub *scrub, uint64_t bytes)
{
	uint64_t rate = scrub->settings.config->settings.scrub_bandwidth_bytes_per_s;

	if (rate > 0)
		scrub->budget_ms = MAX(scrub->budget_ms, clock_mono_ms()) + bytes * 1000 / rate;
}

static void read_due(struct scrub_pass *pass, uint64_t shard_no)
{
	struct scrub *scrub = pass->scrub;
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct shard_row shard;

	if (index_get_shard(scrub->settings.index, pass->reader, shard_no, &shard) < 0 ||
	    (shard.state != SHARD_SEALED && shard.state != SHARD_DURABLE) ||
	    index_list_copies(scrub->settings.index, pass->reader, shard_no, &copies) < 0)
		return;
	for (size_t i = 0; i < copies.count; i++) {
		const struct copy_row *copy = &copies.rows[i];

		if (!copy_is_valid(copy) || due_sec(scrub, shard.priority, copy) > clock_wall().sec ||
		    !is_present(scrub, copy->provider_no) ||
		    transfer_is_stopping(scrub->settings.transfer))
			continue;
		scrub_copy(pass, &shard, copy->provider_no, true);
		spend(scrub, shard.object_len);
	}
}

static int deep_unit(struct scrub_pass *pass)
{
	struct scrub *scrub = pass->scrub;
	uint64_t now = clock_mono_ms();

	if (scrub->settings.config->settings.scrub_period_ms == 0 || now < scrub->rest_until_ms ||
	    scrub->budget_ms > now + BURST_MS)
		return 0;
	if (scrub->page_next >= scrub->page.count)
		return next_page(scrub, pass->reader);
	read_due(pass, scrub->page.rows[scrub->page_next++].shard_no);
	return 1;
}

/* ---- cheap ---- */

static void listing_end(struct scrub_pass *pass, int error)
{
	struct scrub *scrub = pass->scrub;
	struct scrub_listing *listing = scrub->listing;
	const struct scrub_report *report = &scrub->listing_report;
	int64_t now = clock_wall().sec;

	if (transfer_is_stopping(scrub->settings.transfer)) {
		; /* the next mount begins again */
	} else if (error < 0) {
		scrub->list_retry_ms[listing->provider] = clock_mono_ms() + LIST_RETRY_MS;
		log_warn("scrub-listing-failed", "provider=%s error=%s next=\"tried again\"",
			 listing->name, err_name(error));
	} else {
		log_info("provider-listed",
			 "provider=%s objects=%llu missing=%llu truncated=%llu orphans=%llu "
			 "foreign=%llu", listing->name, (unsigned long long)report->listed,
			 (unsigned long long)report->missing,
			 (unsigned long long)report->truncated,
			 (unsigned long long)report->orphans, (unsigned long long)report->foreign);
		lock_take(&scrub->lock);
		scrub->listed_sec[listing->provider] = now;
		scrub->orphans[listing->provider] = report->orphans;
		scrub->foreign[listing->provider] = report->foreign;
		lock_drop(&scrub->lock);
		remember(scrub, "listed", listing->name, now);
	}
	scrub_listing_free(listing);
	scrub->listing = NULL;
}

/* A provider whose listing is due; -1: none. */
static int listing_due(struct scrub *scrub)
{
	int64_t period = (int64_t)(scrub->settings.config->settings.scrub_list_period_ms / 1000);
	unsigned count = transfer_provider_count(scrub->settings.transfer);

	for (unsigned i = 0; i < MIN(count, PLACEMENT_PROVIDERS_MAX) && period > 0; i++) {
		bool present;

		if (scrub_provider_no(scrub, i, &present) && present &&
		    clock_wall().sec >= scrub_listed_sec(scrub, i) + period &&
		    clock_mono_ms() >= scrub->list_retry_ms[i])
			return (int)i;
	}
	return -1;
}

/* Its index objects are read once in scrub_period, else compared by size. */
static int index_unit(struct scrub_pass *pass, unsigned provider, const char *name)
{
	uint64_t period = pass->scrub->settings.config->settings.scrub_period_ms;
	int64_t now = clock_wall().sec;
	bool is_deep = period > 0 && now >= remembered(pass->scrub, "read", name) +
						       (int64_t)(period / 1000);
	uint64_t before = pass->report->bytes;
	int r = scrub_index_objects(pass, provider, is_deep);

	spend(pass->scrub, pass->report->bytes - before);
	if (r == 0 && is_deep)
		remember(pass->scrub, "read", name, now);
	return r;
}

/* 1: a page was done; 0: nothing is due. */
static int list_unit(struct scrub_pass *pass)
{
	struct scrub *scrub = pass->scrub;
	int provider = scrub->listing ? (int)scrub->listing->provider : listing_due(scrub), r;

	if (provider < 0)
		return 0;
	if (!scrub->listing) {
		scrub->listing_report = (struct scrub_report){0};
		if (scrub_listing_new(scrub, (unsigned)provider, &scrub->listing) < 0)
			return 0;
	}
	pass->report = &scrub->listing_report;
	r = scrub_listing_step(pass, scrub->listing);
	if (r == 0)
		r = index_unit(pass, (unsigned)provider, scrub->listing->name);
	if (r <= 0)
		listing_end(pass, r);
	return 1;
}

static int unit(void *ctx, struct keeper_worker *worker)
{
	struct scrub *scrub = ctx;
	struct scrub_report report = {0};
	struct scrub_pass pass = {.scrub = scrub,
				  .reader = worker->reader,
				  .aead = worker->aead,
				  .report = &report};

	if (transfer_is_stopping(scrub->settings.transfer) || !is_in_window(scrub))
		return 0;
	if (list_unit(&pass) > 0)
		return 1;
	pass.report = &report;
	return deep_unit(&pass);
}

/* ---- telling ---- */

int64_t scrub_listed_sec(struct scrub *scrub, unsigned i)
{
	LOCK_SCOPE(&scrub->lock);
	return i < PLACEMENT_PROVIDERS_MAX ? scrub->listed_sec[i] : 0;
}

int scrub_status(struct scrub *scrub, struct index_reader *reader, struct scrub_status *out)
{
	const struct config_settings *set = &scrub->settings.config->settings;
	AUTO(verified_list) first = ROW_LIST_INIT;
	struct verified_count count;
	int64_t since = clock_wall().sec - (int64_t)(set->scrub_period_ms / 1000);
	int r = sequencer_wait_applied(scrub->settings.sequencer,
				       sequencer_last_seq(scrub->settings.sequencer));

	if (r == 0)
		r = index_count_verified(scrub->settings.index, reader, MAX(since, (int64_t)1),
					 &count);
	if (r == 0)
		r = index_list_verified(scrub->settings.index, reader, INT64_MIN, 0, 1, &first);
	if (r < 0)
		return r;
	*out = (struct scrub_status){.shards = count.shards,
				     .shards_verified = count.since,
				     .oldest_sec = count.oldest_sec,
				     .is_in_window = is_in_window(scrub),
				     .is_enabled = set->scrub_period_ms > 0,
				     .copies = scrub->copies,
				     .bytes = scrub->bytes,
				     .bad = scrub->bad};
	for (size_t i = 0; i < first.count && out->is_enabled; i++) {
		AUTO(copy_list) copies = ROW_LIST_INIT;
		struct shard_row shard;

		r = index_get_shard(scrub->settings.index, reader, first.rows[i].shard_no, &shard);
		if (r == 0)
			r = index_list_copies(scrub->settings.index, reader, shard.shard_no,
					      &copies);
		for (size_t k = 0; k < copies.count && r == 0; k++) {
			int64_t due = due_sec(scrub, shard.priority, &copies.rows[k]);

			if (copy_is_valid(&copies.rows[k]) &&
			    (out->next_sec == 0 || due < out->next_sec))
				out->next_sec = due;
		}
	}
	LOCK_SCOPE(&scrub->lock);
	for (unsigned i = 0; i < PLACEMENT_PROVIDERS_MAX; i++) {
		out->orphans += scrub->orphans[i];
		out->foreign += scrub->foreign[i];
	}
	return 0;
}

/* ---- life ---- */

/* What was never listed counts as listed now: at first there is nothing to compare. */
static void load_times(struct scrub *scrub)
{
	unsigned count = transfer_provider_count(scrub->settings.transfer);

	for (unsigned i = 0; i < MIN(count, PLACEMENT_PROVIDERS_MAX); i++) {
		bool present;
		const char *name =
			scrub_provider_name(scrub, scrub_provider_no(scrub, i, &present));

		scrub->listed_sec[i] = remembered(scrub, "listed", name);
		if (scrub->listed_sec[i] > 0)
			continue;
		scrub->listed_sec[i] = clock_wall().sec;
		remember(scrub, "listed", name, scrub->listed_sec[i]);
		remember(scrub, "read", name, scrub->listed_sec[i]);
	}
}

int scrub_new(const struct scrub_settings *settings, struct scrub **out)
{
	struct scrub *scrub = mem_alloc(sizeof(*scrub));
	struct keeper_chore chore = {"scrub", URGENCY, 1, LOOK_MS, unit, scrub};
	int r = 0;

	if (!scrub)
		return -ENOMEM;
	lock_init(&scrub->lock, LOCK_LEAF);
	scrub->settings = *settings;
	scrub->after_sec = INT64_MIN;
	scrub->dir = mem_strdup(settings->dir);
	if (!scrub->dir)
		r = -ENOMEM;
	else if (mkdir(scrub->dir, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0) {
		load_times(scrub);
		r = transfer_add_chore(settings->transfer, &chore);
	}
	if (r < 0) {
		scrub_free(scrub);
		return r;
	}
	*out = scrub;
	return 0;
}

void scrub_free(struct scrub *scrub)
{
	if (!scrub)
		return;
	scrub_listing_free(scrub->listing);
	verified_list_release(&scrub->page);
	lock_release(&scrub->lock);
	mem_free(scrub->dir);
	mem_free(scrub);
}
