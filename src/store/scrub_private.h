/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SCRUB_PRIVATE_H
#define SHARDFS_STORE_SCRUB_PRIVATE_H

/* Shared by scrub.c (background), scrub_run.c (passes on demand) and scrub_list.c (listings). */

#include "crypto/aead.h"
#include "store/scrub.h"
#include "util/lock.h"

#define SCRUB_PAGE	  256u
#define SCRUB_LIST_ENTRIES 1000u
/* Shards that one listing can tell about, a bit for each; with more, it is listed again. */
#define SCRUB_WINDOW	  ((uint64_t)8 * 1024 * 1024)

/*
 * One provider being listed.  Bits say which shards of the window were seen; then the rows of the
 * index that have none are those that are missing.  So the order of listings does not matter, and
 * memory does not grow.
 */
struct scrub_listing {
	unsigned provider; /* of transfer_provider_count */
	uint32_t provider_no;
	const char *name;
	int64_t started_sec;
	uint64_t window_from; /* first shard_no of the window */
	uint8_t *seen;	      /* SCRUB_WINDOW bits */
	struct backend_list page;
	size_t page_next;
	uint64_t compare_after;
	uint32_t compare_state; /* COPY_PRESENT, COPY_VERIFIED */
	enum { LISTING_LIST, LISTING_COMPARE, LISTING_DONE } phase;
	/* orphans and foreign files only: nothing is compared, no copy's state changes */
	bool is_survey, deletes;
	char blocked_by[64]; /* deletes: why none may go, or "" */
	bool is_announced;   /* in the audit log, that some may go */
	uint64_t deleted;
	struct buf names; /* of the first of them, members of a JSON array */
};

struct scrub {
	struct scrub_settings settings;
	char *dir;
	int chore;

	struct lock lock; /* LOCK_LEAF: guards the next five */
	int64_t listed_sec[PLACEMENT_PROVIDERS_MAX];
	uint64_t orphans[PLACEMENT_PROVIDERS_MAX], foreign[PLACEMENT_PROVIDERS_MAX];
	_Atomic uint64_t copies, bytes, bad;

	/* the chore's own */
	struct verified_list page;
	size_t page_next;
	int64_t after_sec;
	uint64_t after_no;
	uint64_t rest_until_ms, budget_ms;
	struct scrub_listing *listing;
	struct scrub_report listing_report;
	uint64_t list_retry_ms[PLACEMENT_PROVIDERS_MAX];
};

/* A copy that was found bad; told when its repair had its turn. */
struct scrub_bad_copy {
	uint64_t shard_no;
	struct shard_id id;
	uint32_t provider_no;
	enum copy_finding finding;
};
#define SCRUB_BAD_MAX 100000u /* more are counted and repaired, and not told one by one */

/* What a pass carries around. */
struct scrub_pass {
	struct scrub *scrub;
	struct index_reader *reader;
	struct aead_ctx *aead;
	const struct scrub_watch *watch; /* NULL: in the background, bad copies are not collected */
	struct scrub_report *report;
	struct scrub_bad_copy *bad;
	size_t bad_count, bad_capacity;
};

void scrub_found(struct scrub_pass *pass, const struct scrub_finding *finding);
/* Checks one copy (deep: reads it) and settles it. */
void scrub_copy(struct scrub_pass *pass, const struct shard_row *shard, uint32_t provider_no,
		bool is_deep);
/* Counts what was found about a copy, and remembers a bad one. */
void scrub_settle(struct scrub_pass *pass, const struct shard_row *shard, uint32_t provider_no,
		  enum copy_finding finding);
const char *scrub_provider_name(struct scrub *scrub, uint32_t provider_no);
/* Its number, and whether it is present; 0: not in the configuration. */
uint32_t scrub_provider_no(struct scrub *scrub, unsigned i, bool *is_present);
void scrub_note_incomplete(struct scrub_report *report, const char *provider);

/* scrub_list.c */
int scrub_listing_new(struct scrub *scrub, unsigned provider, struct scrub_listing **out);
void scrub_listing_free(struct scrub_listing *listing); /* accepts NULL */
/* One page.  1: there is more; 0: done; negative: the provider or the index failed. */
int scrub_listing_step(struct scrub_pass *pass, struct scrub_listing *listing);
/* Tells the audit log which orphans went. */
void scrub_tell_orphans(struct scrub_pass *pass, struct scrub_listing *listing);
/* Superblock and index objects of one provider. */
int scrub_index_objects(struct scrub_pass *pass, unsigned provider, bool is_deep);

#endif
