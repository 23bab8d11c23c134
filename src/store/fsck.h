/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_FSCK_H
#define SHARDFS_STORE_FSCK_H

/*
 * Inspection of an unmounted file system that changes nothing, and repair of what it found.  For
 * fsck.shardfs: one thread, waits for everything.
 */

#include "config/config.h"

#include <stdbool.h>

/* What can be done about a kind of damage. */
enum fsck_remedy {
	FSCK_NOTICE,   /* no damage: what a crash leaves; the next mount puts it in order */
	FSCK_FOLLOWS,  /* recomputed from other rows of the index */
	FSCK_REBUILD,  /* the index is rebuilt from the providers */
	FSCK_REWRITE,  /* the superblock is written again from a good one */
	FSCK_ASIDE,    /* moved to home/fsck-aside/ */
	FSCK_SCRUB,    /* not by fsck: `shardctl scrub --deep` of the mounted file system */
	FSCK_BY_HAND,  /* named only */
	FSCK_REMEDY_COUNT,
};
const char *fsck_remedy_text(enum fsck_remedy remedy); /* a clause for people */

struct fsck_kind {
	const char *name, *means;
	enum fsck_remedy remedy;
};
/* All kinds, those of the index included: i = 0 .. ; false behind the last. */
bool fsck_kind_at(size_t i, struct fsck_kind *out);

struct fsck_settings {
	const char *scratch;  /* an empty directory: receives a copy of the index */
	bool is_deep;	      /* also authenticate the spool, and with providers what they hold */
	bool with_providers;  /* also compare what providers hold */
	uint64_t lock_wait_ms;
	/* one finding; text is one line and names the object; borrowed */
	void (*found)(void *ctx, const struct fsck_kind *kind, const char *text);
	void *ctx;
};

struct fsck_report {
	uint64_t damages;  /* findings other than notices */
	uint64_t notices;
	uint64_t by_remedy[FSCK_REMEDY_COUNT];
};

/*
 * fsck_inspect - finds what is wrong.  Changes nothing, neither in home nor on providers.  0: see the
 * report; -EBUSY: mounted; -EKEYREJECTED and the like: no keys; -ENOSPC: no room in scratch;
 * `why` is one line then.
 */
int fsck_inspect(const struct config *config, const struct fsck_settings *settings,
		 struct fsck_report *report, struct buf *why);

/*
 * fsck_repair - does what the remedies of fsck_inspect's findings name, safest first; done(ctx, text)
 * for each thing it did.  Inspects again by itself (settings->found is not called).  What was not
 * possible is in `why`, which stays empty otherwise.  May be killed and repeated.
 *
 * The index is rebuilt from providers only when they give a state that is not older than the index
 * and the journal of this machine; what is replaced lies in home/fsck-aside/ afterwards.
 */
int fsck_repair(const struct config *config, const struct fsck_settings *settings,
		void (*done)(void *ctx, const char *text), void *ctx, struct buf *why);

#endif
