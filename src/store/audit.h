/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_AUDIT_H
#define SHARDFS_STORE_AUDIT_H

/*
 * The audit log: who did what to this file system, in a chain.
 *
 * An entry is a change of the journal (CHANGE_AUDIT_PUT).  So it is sealed, durable with the
 * journal, in the oplog of every provider, and there again after a recovery.  Entry n has the
 * number n (from 1, no gaps), a time, a body (a JSON object), and
 *
 *	mac_n = HMAC(KEY_AUDIT, mac_{n-1} || n || time || body)		mac_0: zeros
 *
 * Without the key nobody makes an entry, alters one, or takes one out of the middle, unnoticed.
 *
 * INVARIANT: numbers, MACs and the order of records agree, since an entry is chained and submitted
 * under one lock; an entry that could not be submitted takes no number, is counted, and the next
 * one says how many were lost ("lost").
 */

#include "crypto/keyring.h"
#include "index/index.h"
#include "store/sequencer.h"

#define AUDIT_EXE_SIZE 256u

/* Who asked: a program, or (is_system) this daemon by itself. */
struct audit_who {
	bool is_system;
	uint32_t uid, gid, pid;
	char exe[AUDIT_EXE_SIZE]; /* "": not known */
};
#define AUDIT_SYSTEM ((struct audit_who){.is_system = true})
/* Fills exe from /proc; never waits for a disk. */
struct audit_who audit_who(uint32_t uid, uint32_t gid, uint32_t pid);

struct audit_event {
	const char *kind;   /* one word: mount, unmount, unlock, command, xattr, delete, repair,
			     * snapshot, writer, fsck, recover */
	const char *what;   /* verb and object */
	const char *result; /* "ok", or an error's name; NULL: ok */
	struct audit_who who;
	/* A JSON object, without secrets; NULL: none.  One that does not fit is left out, marked. */
	const char *details;
};

struct audit;

/* The chain goes on behind the newest applied entry: open it when the journal is replayed. */
int audit_open(struct index *index, struct sequencer *sequencer, struct keyring *keyring,
	       struct audit **out);
void audit_close(struct audit *audit); /* accepts NULL */

/*
 * audit_put - appends an entry; everything in event is copied.  Any thread, with locks up to
 * LOCK_WRITER held; never waits for a disk.  It is durable when the journal is synced up to
 * sequencer_last_seq().  -ENOMEM, or as sequencer_submit: not taken, and counted as lost.
 */
int audit_put(struct audit *audit, const struct audit_event *event);

/*
 * audit_cut - removes entries from before limit_sec, but never the newest one, and says so with an
 * entry of kind "cut" that names the number and the MAC of the last one removed: with it the rest
 * proves itself.  The number and MAC are also the setting AUDIT_CUT_SETTING ("NUMBER MAC").  One
 * record for some thousand entries; 1: there may be more; 0: nothing is so old; the errors of the
 * index and of audit_put.  One thread at a time.
 */
#define AUDIT_CUT_SETTING "audit_cut"
int audit_cut(struct audit *audit, struct index_reader *reader, int64_t limit_sec);

/* Returns when everything that was put is durable.  No lock held. */
int audit_settle(struct audit *audit);

/*
 * audit_leave - for who has no chain to write to (a failed unlock, fsck, recovery): leaves word in
 * home/audit-pending, of kind, what, result and who, each cut to 400 bytes; details are not kept.
 * The file has a bound; over it they are counted.  Until audit_take_left it is not protected against
 * whoever may write in home.  -ENOENT: there is no home.
 * audit_take_left - what was left becomes entries, durable, and then is no more.  A crash in between
 * takes it once more.
 */
int audit_leave(const char *home, const struct audit_event *event);
int audit_take_left(struct audit *audit, const char *home);

struct audit_verdict {
	uint64_t entries;
	uint64_t first_no, last_no; /* of them */
	uint64_t bad_no; /* first entry that is missing or altered; 0: none */
	const char *why; /* then: one of a few fixed sentences */
};

/*
 * audit_verify - walks all entries and compares with the head of the chain that this mount holds
 * in memory.  Waits until the index has them.  0 with a verdict, or the errors of the index.
 * What was cut off the end while the file system was not mounted is not noticed by this, but by
 * audit_compare.
 */
int audit_verify(struct audit *audit, struct index_reader *reader, struct audit_verdict *out);

/* The end of the log at a provider, beside the one here. */
enum audit_state {
	AUDIT_SAME,
	AUDIT_BEHIND,	 /* the beginning of ours: the rest was not sent yet, or it shows less */
	AUDIT_AHEAD,	 /* it has entries that are not here: what is here was set back */
	AUDIT_OTHER,	 /* its newest entry is another one here: two logs went on from one */
	AUDIT_UNREACHED,
};
const char *audit_state_name(enum audit_state state);
struct audit_compared {
	const char *provider;
	enum audit_state state;
	uint64_t entries; /* number of its newest; 0: none */
	char cause[96];	  /* of AUDIT_UNREACHED, or "" */
};
/*
 * audit_compare - with each provider that is present: reads the newest segments there.  visit for
 * each provider; compared is borrowed.  Call it when the index has every entry (audit_verify).
 * 0; -ENOMEM; the errors of the index.
 */
struct transfer;
int audit_compare(struct audit *audit, struct transfer *transfer, struct index_reader *reader,
		  void (*visit)(void *ctx, const struct audit_compared *compared), void *ctx);

/* audit_compare.c for audit.c: the same against an end that is given. */
struct audit_place {
	struct transfer *transfer;
	struct index *index;
	struct keyring *keyring;
	uint64_t head_no; /* of the newest entry here */
};
int audit_compare_at(const struct audit_place *place, struct index_reader *reader,
		     void (*visit)(void *ctx, const struct audit_compared *compared), void *ctx);

#endif
