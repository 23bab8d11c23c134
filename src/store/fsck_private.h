/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_FSCK_PRIVATE_H
#define SHARDFS_STORE_FSCK_PRIVATE_H

/* What the files of fsck share. */

#include "crypto/keyring.h"
#include "index/index.h"
#include "store/fsck.h"
#include "store/store_private.h"

#define FSCK_ASIDE_NAME "fsck-aside"

struct fsck_paths {
	char **paths; /* owned */
	size_t count;
};

struct fsck {
	const struct config *config;
	const struct fsck_settings *settings;
	struct fsck_report *report;
	struct keyring *keyring;
	struct superblock *sb;	 /* the best that authenticates */
	struct index *index;	 /* the copy, with the journal's synced records; NULL: unusable */
	struct index_reader *reader;
	uint64_t applied_seq;	 /* of the copy as found */
	uint64_t journal_seq;	 /* newest record in the journal */
	bool is_local_sb_bad;
	bool provider_sb_bad[CONFIG_PROVIDERS_MAX];
	struct fsck_paths aside; /* what is to be moved away */
	int error;		 /* no memory */
};

/* A finding of a kind that is in the table. */
void fsck_found(struct fsck *fsck, const char *kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int fsck_begin(struct fsck *fsck, struct buf *why); /* everything that fsck_inspect does */
void fsck_end(struct fsck *fsck);
void fsck_aside(struct fsck *fsck, const char *path);
bool fsck_parse_shard_id(const char *name, struct shard_id *id);
int fsck_lock(const struct config *config, uint64_t wait_ms, int *fd, struct buf *why);

/* fsck_local.c */
int fsck_superblocks(struct fsck *fsck, struct buf *why);
int fsck_index(struct fsck *fsck, struct buf *why);
int fsck_journal(struct fsck *fsck);
int fsck_spool(struct fsck *fsck);
/* fsck_providers.c */
int fsck_providers(struct fsck *fsck);

#endif
