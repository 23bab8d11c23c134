/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SCRUB_H
#define SHARDFS_STORE_SCRUB_H

/*
 * Compares what providers hold with what the index says they hold, without end.
 *
 *   cheap  lists a provider in pages: what is missing, what has another size, what nobody knows.
 *          Once in scrub_list_period for each.  Index objects and superblock by name and size.
 *   deep   reads a copy back and authenticates all of it.  Least recently verified first; what was
 *          never read back a day after it was made, then once in scrub_period (shards of class
 *          critical four times, high twice as often).  At most scrub_bandwidth, in scrub_window.
 *
 * What it finds becomes the state of the copy in the index, and repair (store/repair.c) does the
 * rest.  The times in the index are where it goes on after a remount.  Nothing is deleted here,
 * except by scrub_delete_orphans.
 *
 * A chore of transfer's keeper, which is less urgent than all others; and runs on demand on the
 * caller's thread, beside it.
 */

#include "store/oplog.h"
#include "store/transfer.h"

struct audit_event;
struct scrub;

struct scrub_settings {
	const char *dir; /* copied; made if missing: when each provider was last listed */
	const struct config *config;
	struct index *index;
	struct sequencer *sequencer;
	struct spool *spool;
	struct keyring *keyring;
	struct transfer *transfer; /* open and not started: the chore is added here */
	struct oplog *oplog;
	uint64_t writer_epoch;
	/* For the audit log (store_audit): index objects that were written again, and orphans, before the
	 * first one at a provider goes and when they are gone; settle: audit_settle.  May be NULL. */
	int (*audit)(void *ctx, const struct audit_event *event);
	int (*settle)(void *ctx);
	void *ctx;
};
/* -ENOMEM, -ENOSPC (the keeper has no room), or what making the directory says. */
int scrub_new(const struct scrub_settings *settings, struct scrub **out);
void scrub_free(struct scrub *scrub); /* transfer is stopped, nobody runs it; accepts NULL */

/* ---- one pass now ---- */

enum scrub_object { SCRUB_COPY, SCRUB_INDEX, SCRUB_SUPERBLOCK, SCRUB_ORPHAN, SCRUB_FOREIGN };
const char *scrub_object_name(enum scrub_object object); /* "copy", "index", ... */

/* What is not as it should be.  Borrowed until the call returns. */
struct scrub_finding {
	enum scrub_object object;
	const char *key, *provider;
	const char *kind;  /* "missing", "truncated", "corrupt", "swapped", "unreadable", ...; of an
			    * orphan: why it may not be deleted, or "" */
	uint64_t shard_no; /* 0: none */
	uint64_t bytes;	   /* of orphans and foreign files */
	bool is_repaired;
};

struct scrub_report {
	uint64_t total; /* shards to be read or looked at; 0: not known */
	uint64_t shards, copies, bytes;	 /* that were */
	uint64_t ok, missing, truncated, corrupt, swapped, unreadable; /* copies */
	uint64_t unknown;		 /* copies and objects whose provider did not answer */
	uint64_t repaired, unrepaired;	 /* of all that was bad */
	uint64_t listed;		 /* objects in listings */
	uint64_t index_objects, index_bad; /* index objects and superblocks */
	uint64_t orphans, orphan_bytes;	 /* named like shards, and nobody knows them */
	uint64_t orphans_deletable;	 /* of them */
	uint64_t orphans_deleted;
	uint64_t foreign;		 /* files of somebody else: never touched */
	uint64_t lost;			 /* shards in use of which no good copy is left */
	char incomplete_by[160];	 /* "" or the providers that could not be listed */
};

struct scrub_wish {
	bool is_deep;
	const char *provider; /* NULL: all */
	uint64_t ino;	      /* 0: everything, listings included; else what it and all below use */
};

struct scrub_watch {
	void *ctx;
	bool (*goes_on)(void *ctx, const struct scrub_report *report); /* false: -ECANCELED */
	void (*found)(void *ctx, const struct scrub_finding *finding);
	/* A shard without any good copy; after the others. */
	void (*lost)(void *ctx, uint64_t shard_no);
};

/*
 * scrub_run - one whole pass; what is bad is repaired at once, in its turn.  report is filled as
 * far as it came, whatever is returned.  0: see the report; -ENODEV: no such provider; -ECANCELED;
 * or the errors of the index.  Any thread that may wait; reader is its own.
 */
int scrub_run(struct scrub *scrub, struct index_reader *reader, const struct scrub_wish *wish,
	      const struct scrub_watch *watch, struct scrub_report *report);

/*
 * scrub_orphans - lists every provider for objects that nobody knows; with `deletes` those go that
 * may: authentic, of this writer or of one before it that left no branch, older than
 * deletion_hold by the provider's clock, every provider present.  Others are found with the reason.
 */
int scrub_orphans(struct scrub *scrub, struct index_reader *reader, bool deletes,
		  const struct scrub_watch *watch, struct scrub_report *report);

/* ---- the background ---- */

struct scrub_status {
	uint64_t shards, shards_verified; /* with a valid copy; of these, all verified in time */
	int64_t oldest_sec;		  /* of all valid copies; 0: never, or none */
	int64_t next_sec;		  /* when the next copy is due; 0: nothing is */
	bool is_in_window, is_enabled;
	uint64_t copies, bytes, bad;	  /* read since the mount; found bad */
	uint64_t orphans, foreign;	  /* of the last listings since the mount */
};
/* Reads an entry of each shard: 0.1 s for a million. */
int scrub_status(struct scrub *scrub, struct index_reader *reader, struct scrub_status *out);
/* When provider i (of transfer_provider_count) was last listed in whole; 0: never. */
int64_t scrub_listed_sec(struct scrub *scrub, unsigned i);

#endif
