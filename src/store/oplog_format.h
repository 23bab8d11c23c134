/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_OPLOG_FORMAT_H
#define SHARDFS_STORE_OPLOG_FORMAT_H

/*
 * The objects under index/ at every provider, without I/O.  shardfs-format(5), OPLOG, lists the
 * offsets; a golden file pins them.
 *
 *   index/log-<epoch>-<first>-<last>-<hash>    segment: the replicated changes of records
 *                                              first .. last; names the hash of the one before
 *   index/snap-<epoch>-<chain>-<txn>-<id>-p<part>  part of a snapshot: rows as changes
 *   index/snap-<epoch>-<chain>-<txn>-<id>  its root, written last: hashes of the parts, and
 *                                              where in the chain of segments it lies
 *
 * A snapshot holds every row as of record txn.  Segments go on behind it with the one whose first
 * is chain_seq + 1 and that names chain_hash; records up to txn in it are in the snapshot already.
 *
 * Each object is a plain header of 96 bytes (authenticated) and one sealed body under a key of its
 * own (32 bytes of fresh salt), zero-padded inside to a Padmé size.  A hash is HMAC-SHA-256 of the
 * whole object under KEY_OPLOG_CHAIN.
 *
 * Nothing here keeps state: any thread, each with a context of its own.
 */

#include "crypto/keyring.h"
#include "index/index.h"

#define OPLOG_VERSION        1u
#define OPLOG_HEADER_BYTES   ((size_t)96)
#define OPLOG_PLAIN_BYTES_MAX ((size_t)16 << 20) /* of a body, before compression */
#define OPLOG_OBJECT_BYTES_MAX ((size_t)20 << 20)
#define OPLOG_PARTS_MAX      200000u
#define OPLOG_NAME_SIZE      112 /* without index/ */
#define OPLOG_PREFIX         "index/"

enum oplog_kind {
	OPLOG_SEGMENT = 1,
	OPLOG_PART = 2,
	OPLOG_ROOT = 3,
	OPLOG_CLAIM = 4, /* of a writer epoch (store/epoch.h): its name is not parsed here, it has no
			  * hash (zeros), and its key is none of a key epoch (0 in the header) */
};

/* What a name says; the header says the same. */
struct oplog_name {
	enum oplog_kind kind;
	uint32_t epoch;       /* of the writer */
	uint64_t first, last; /* segment: records; part and root: first is chain_seq, last txn */
	uint32_t part;        /* OPLOG_PART: from 0 */
	uint8_t id[16];       /* segment: the first half of its hash; else of the snapshot */
};

const char *oplog_name_print(const struct oplog_name *name, char out[OPLOG_NAME_SIZE]);
/* Without index/.  -EINVAL: not a name of ours. */
int oplog_name_parse(const char *text, struct oplog_name *out);

/*
 * oplog_seal - body to object, appended to out.  Compresses.  name: kind, epoch and numbers; for a
 * segment its id is set from the object's hash.  hash: of the object.
 * -E2BIG: over OPLOG_PLAIN_BYTES_MAX; -ENOMEM, -EIO, -ENOKEY.
 */
int oplog_seal(struct keyring *keyring, struct aead_ctx *ctx, struct oplog_name *name,
	       struct bytes body, struct buf *out, struct digest *hash);
/*
 * oplog_open - foreign bytes: authenticates, checks against the name that they were found under
 * (of a segment also the hash), appends the body to out.
 * -EBADMSG; -EPROTONOSUPPORT: newer; -ENOKEY; -ENOMEM, -EIO.  out is unchanged then.
 */
int oplog_open_object(struct keyring *keyring, struct aead_ctx *ctx, const struct oplog_name *name,
		      struct bytes object, struct buf *out, struct digest *hash);
/* The hash of an object alone; its key epoch is in the header.  -EBADMSG, -ENOKEY, -ENOMEM. */
int oplog_hash(struct keyring *keyring, struct bytes object, struct digest *hash);

/* ---- bodies ---- */

/* A segment: head, then records.  Missing: shards that it introduces without any copy yet. */
struct oplog_segment_head {
	struct digest previous; /* zeros: the first of all */
	int64_t made_sec;
	uint64_t record_count;
	uint64_t missing_count;
};
/* Appends the head; the records' bytes follow it. */
int oplog_segment_begin(const struct oplog_segment_head *head, const uint64_t *missing,
			struct buf *out);
/* Appends one record: its number and its changes. */
int oplog_put_record(uint64_t seq, struct bytes changes, struct buf *out);
/*
 * The replicated changes of a record, appended; *count of them, and each of them to seen, which may
 * be NULL.  -EBADMSG, -EPROTONOSUPPORT, -ENOMEM.
 */
int oplog_filter(struct bytes changes, void (*seen)(void *ctx, const struct change *change),
		 void *ctx, struct buf *out, unsigned *count);

/* Foreign bytes: head, and what is left in *records.  -EBADMSG. */
int oplog_segment_read(struct bytes body, struct oplog_segment_head *head, struct bytes *records);
/* Takes the next record off *left: 1, 0 at the end, -EBADMSG.  changes is borrowed. */
int oplog_get_record(struct bytes *left, uint64_t *seq, struct bytes *changes);

struct oplog_part_ref {
	struct digest hash;
	uint64_t len; /* of the object */
};
struct oplog_root {
	uint64_t txn;
	int64_t made_sec;
	uint64_t chain_seq;
	struct digest chain_hash;
	struct index_highest highest;
	struct oplog_part_ref *parts; /* owned: mem_free */
	uint32_t part_count;
};
#define OPLOG_ROOT_INIT {0}
void oplog_root_release(struct oplog_root *root);
int oplog_root_write(const struct oplog_root *root, struct buf *out);
int oplog_root_read(struct bytes body, struct oplog_root *out); /* -EBADMSG, -ENOMEM */

#endif
