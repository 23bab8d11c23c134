/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_SPOOL_PRIVATE_H
#define SHARDFS_STORE_SPOOL_PRIVATE_H

/*
 * Shared by spool.c (the table, reading, syncing, release), spool_append.c, spool_seal.c (the
 * sealer's thread) and spool_recover.c (files, moving).
 */

#include "store/spool.h"
#include "util/list.h"
#include "util/lock.h"
#include "util/map.h"

#define SPOOL_SCRATCH_MAX  8	/* buffers kept for appends */
#define SPOOL_RETRY_MS	   1000 /* after a full disk, between attempts to finish a shard */
#define SPOOL_PATH_SIZE	   4096
#define SPOOL_STATVFS_EACH MIB /* bytes appended between two looks at the disk's free space */

enum spool_state {
	SPOOL_OPEN = 1, /* in spool->open */
	SPOOL_CLOSING,	/* in spool->work: takes no more records; footer next */
	SPOOL_SEALED,	/* in spool->sealed (in work until the callback has run) */
	SPOOL_BROKEN,	/* in spool->work: records move, then the file goes */
	SPOOL_GONE,	/* in no list; freed by its last user */
};

/* Everything is guarded by spool->lock, except what says otherwise. */
struct spool_shard {
	struct map_node by_no;
	struct list node;
	enum spool_state state;
	struct shard_row row;
	struct pack_keys *keys; /* fixed until sealed; locked memory */
	int fd;			/* fixed while appending or users > 0 */
	struct pack_entry *entries;
	uint32_t entry_count, entry_capacity;
	uint64_t end;	  /* offset of the next record */
	uint64_t charged; /* in spool->bytes_used */
	uint32_t appending; /* records reserved, and not yet spool_append_done */
	uint32_t users;	    /* threads that use fd or row outside of the lock */
	uint64_t written_seq, synced_seq; /* of spool->write_seq */
	uint64_t last_append_ms;
	uint64_t close_seq; /* when it came into work */
	uint64_t retry_ms;  /* the sealer leaves it alone until then */
	int error;	    /* of the last attempt to finish it */
	bool is_sync_failed; /* its unsynced bytes may be lost: spool_sync fails until they moved */
	bool is_releasing;   /* a thread is in spool_release */
	bool is_drained;     /* broken, and its records have moved */
	bool is_damaged;     /* ... but for some that do not authenticate: the file is kept */
	bool is_discarded;   /* nothing in it is wanted: no footer, the file goes */
	struct buf tail;     /* sealer alone: footer and so on, kept until it is written */
	uint8_t mac[32];     /* sealer alone */
};

struct spool_opening { /* a class whose shard some thread is making; on its stack */
	struct list node;
	struct shard_class class;
};

struct spool_checker; /* contexts of spool_check_record */

struct spool {
	struct spool_settings settings;
	char *dir;
	int dir_fd;
	struct index_reader *reader; /* sealer alone; opened when first needed */
	struct aead_ctx *ctx;	     /* sealer alone */
	pthread_t sealer;
	_Atomic bool is_disk_full;
	_Atomic uint64_t unlooked_bytes; /* appended since the last look at the disk */

	struct lock lock; /* LOCK_SPOOL: guards all below, and the shards */
	struct cond to_do;   /* the sealer has work */
	struct cond changed; /* a shard was opened or finished */
	struct map by_no;
	struct list open, work, sealed;
	struct list openings;
	uint32_t open_count;
	uint64_t bytes_used;
	uint64_t write_seq;
	uint64_t close_seq;
	uint64_t files_made, files_synced; /* names in the directory */
	struct buf scratch[SPOOL_SCRATCH_MAX];
	unsigned scratch_count;
	struct spool_checker *checker; /* at rest; NULL while a thread uses it */
	bool is_stopping;
};

/* Path of a shard's file. */
const char *spool_path(const struct spool *spool, const struct shard_id *id,
		       char out[SPOOL_PATH_SIZE]);
/* A shard with these settings that is in no list yet; takes over fd. -ENOMEM. */
int spool_shard_new(const struct shard_row *row, struct spool_shard **out);
void spool_shard_free(struct spool_shard *shard);
DEFINE_FREEP(spool_shard)
void spool_shard_charge_locked(struct spool *spool, struct spool_shard *shard, uint64_t bytes);
int spool_shard_insert_locked(struct spool *spool, struct spool_shard *shard, struct list *list);
/* Out of every table; freed now or by the last user. */
void spool_shard_drop_locked(struct spool *spool, struct spool_shard *shard);
/* NULL: no such shard. */
struct spool_shard *spool_shard_find_locked(struct spool *spool, uint64_t shard_no);
/* One user less; the last one of a shard that is gone frees it. */
void spool_shard_unuse_locked(struct spool_shard *shard);
/* No more records: SPOOL_CLOSING or SPOOL_BROKEN; the sealer decides what becomes of it. */
void spool_shard_close_locked(struct spool *spool, struct spool_shard *shard, enum spool_state to);
void spool_shard_free_keys(struct spool_shard *shard);
/* The sealer's thread; arg is the spool. */
void *spool_sealer_run(void *arg);
void spool_checker_free(struct spool_checker *checker);

/*
 * Moves the wanted records of a file (fd -1: there is none) to fresh shards.  0: all that
 * authenticate have moved, and the others were reported: *bad of them.  -ENOSPC and so on: some are
 * left; call again later.
 */
int spool_move_records(struct spool *spool, struct index_reader *reader, struct aead_ctx *ctx,
		       const struct shard_row *row, int fd, uint64_t *bad);

#endif
