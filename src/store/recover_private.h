/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_RECOVER_PRIVATE_H
#define SHARDFS_STORE_RECOVER_PRIVATE_H

/* What recover.c, recover_find.c, recover_index.c, recover_copies.c and recover_footers.c share. */

#include "store/oplog_private.h"
#include "store/provider.h"
#include "store/recover.h"

#include <errno.h>

struct source {
	const struct config_provider *config;
	struct backend *backend;
	struct oplog_files files; /* sorted */
	struct recovery_provider shown;
	uint32_t provider_no; /* in the recovered index; 0: new */
	bool is_listed;	      /* its shards */
};

struct recovery {
	const struct config *config;
	struct recovery_settings settings;
	struct superblock *sb;
	struct keyring *keyring;
	struct aead_ctx *ctx;
	struct source sources[CONFIG_PROVIDERS_MAX];
	unsigned source_count;
	struct oplog_files all; /* sorted, each name once */
	char *dir;		/* home/recover */
	char *index_path;	/* while it is built */
	struct index *index;
	struct index_reader *reader;
	int lock_fd;
	bool keeps; /* what is fetched goes to dir */
	bool is_aimed;
	struct recovery_state target; /* if is_aimed */
};

/* recover.c: one line to who asked; how far it is */
void recovery_note(struct recovery *recovery, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void recovery_progress(struct recovery *recovery, const char *what, uint64_t done, uint64_t total);

/* recover_find.c */
int recovery_look_at(struct recovery *recovery, const struct config_provider *provider,
		     struct buf *why);
/* Up to where a root and the segments behind it reach; *epoch: of the last of them. */
uint64_t recovery_chain_end(const struct oplog_files *files, const struct oplog_name *root,
			    uint32_t *epoch);
/* From now on nobody counts on what is right nowhere. */
void recovery_forget(struct recovery *recovery, const struct oplog_name *name);
/* What each provider lacks of the newest state, once all were looked at. */
void recovery_compare(struct recovery *recovery);
/* As recovery_chain_end for the newest root among files; 0: there is none. */
uint64_t recovery_complete_state(const struct oplog_files *files, uint32_t *epoch);

/* recover_fetch.c: the body of an object from wherever it is right; -ENOENT: nowhere. */
int recovery_fetch(struct recovery *recovery, const struct oplog_name *name, struct buf *body,
		   struct digest *hash);
/* The same from one provider. */
int recovery_fetch_from(struct recovery *recovery, struct source *source,
			const struct oplog_name *name, struct buf *body, struct digest *hash);
struct oplog_name recovery_part_name(const struct oplog_name *root, uint32_t part);
/* Body of a root, checked against its name. */
int recovery_fetch_root(struct recovery *recovery, const struct oplog_name *name,
			struct oplog_root *out);
/* What is wrong with one object, so that another may do. */
static inline bool recovery_is_lacking(int r)
{
	return r == -EBADMSG || r == -ENOENT || r == -EAGAIN || r == -EIO;
}

/* recover_index.c: recovery->index from what lies under index/.  -ENODATA: no whole snapshot. */
int recovery_build_index(struct recovery *recovery, struct recovery_result *result,
			 struct buf *why);
int recovery_new_index(struct recovery *recovery, struct buf *why); /* empty, and open */
void recovery_unlink_index(const struct recovery *recovery);

/* Changes that a recovery adds itself, behind the last record. */
struct additions {
	struct recovery *recovery;
	struct record *record;
};
/* recover_copies.c */
int additions_step(struct additions *additions); /* from now on there is a record to add to */
int additions_flush(struct additions *additions);
bool recovery_parse_shard_id(const char *key, struct shard_id *id);
/* A shard that a provider lists: its copy, and what is missing in its row. */
int recovery_found_shard(struct additions *additions, struct source *source,
			 const struct backend_entry *entry, struct recovery_result *result);
int recovery_rebuild_copies(struct recovery *recovery, struct recovery_result *result);

/* recover_footers.c: recovery->index, copies included, from shards alone */
int recovery_salvage(struct recovery *recovery, struct recovery_result *result, struct buf *why);

#endif
