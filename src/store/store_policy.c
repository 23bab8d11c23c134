/* SPDX-License-Identifier: Apache-2.0 */
/* Policies in force, and what they make of new chunks and shards. */
#include "store/store_private.h"

#include "util/err.h"
#include "util/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void store_tell_policy(void *ctx, uint64_t policy_root, struct policy *out)
{
	struct store *store = ctx;

	policies_get(store->priv->policies, policy_root, out);
}

void store_policy_of(struct store *store, uint64_t policy_root, struct policy *out)
{
	policies_get(store->priv->policies, policy_root, out);
}

void store_class_of(void *ctx, const struct inode_row *row, struct shard_class *out)
{
	struct store *store = ctx;
	struct policy policy;

	policies_get(store->priv->policies, row->policy_root, &policy);
	out->policy_root = policies_has(store->priv->policies, row->policy_root)
				   ? row->policy_root
				   : INO_ROOT;
	out->priority = policy.priority;
	out->key_epoch = keyring_current_epoch(store->keyring);
}

/* Chunks are shared among all trees whose policies name no particular providers. */
uint64_t store_domain_of(void *ctx, uint64_t policy_root)
{
	struct store *store = ctx;
	struct policy policy;

	policies_get(store->priv->policies, policy_root, &policy);
	return policy.only[0] || policy.not[0] ? policy_root : 0;
}

/*
 * The directory is locked; row NULL: its policy goes.  Memory is first, so that converge, which the
 * record sets going, sees the new one.  What has no policy of its own any more gets that of the
 * directory above from converge, this directory included.
 */
static int change_policy_locked(struct store *store, struct inode *dir,
				const struct policy_row *row, const struct policy *policy)
{
	struct policies *policies = store->priv->policies;
	uint64_t ino = dir->row.ino, seq;
	bool had_one = policies_has(policies, ino);
	struct inode_row now = dir->row;
	struct record *record = record_new();
	struct policy old;
	int r = record ? 0 : -ENOMEM;

	policies_get(policies, ino, &old);
	if (r == 0 && row)
		r = policies_set(policies, ino, policy);
	if (r < 0) {
		record_free(record);
		return r;
	}
	if (row) {
		now.policy_root = ino;
		record_put_policy(record, row);
		record_put_inode(record, &now);
	} else {
		policies_remove(policies, ino);
		record_del_policy(record, ino);
	}
	r = converge_begin(store->priv->converge, record, &ino, 1);
	if (r == 0) {
		r = sequencer_submit(store->sequencer, record, &seq);
		converge_end(store->priv->converge, r == 0);
	} else {
		record_free(record);
	}
	if (r == 0) {
		inode_set_row(dir, &now);
		dir->last_seq = seq;
	} else if (had_one) {
		policies_set(policies, ino, &old);
	} else {
		policies_remove(policies, ino);
	}
	return r;
}

int store_set_policy(struct store *store, struct inode *dir, const char *text, struct buf *why)
{
	struct provider_facts facts[CONFIG_PROVIDERS_MAX];
	struct policy_row row = {.root = dir->row.ino};
	struct policy policy;
	unsigned count;
	int r;

	if (!inode_is_dir(dir)) {
		buf_printf(why, "a policy is set on a directory");
		return -ENOTDIR;
	}
	if (text) {
		r = policy_parse(text, &policy, why);
		if (r < 0)
			return r;
		count = transfer_facts(store->transfer, facts, CONFIG_PROVIDERS_MAX);
		r = policy_check(&policy, facts, count, why);
		if (r < 0)
			return r;
		r = policy_print(&policy, row.text);
		if (r < 0)
			return r;
	} else if (dir->row.ino == INO_ROOT) {
		buf_printf(why, "the root always has a policy: set another one");
		return -EINVAL;
	}
	lock_take(&dir->lock);
	r = change_policy_locked(store, dir, text ? &row : NULL, &policy);
	lock_drop(&dir->lock);
	if (r < 0)
		return r;
	transfer_policy_changed(store->transfer, row.root);
	return r;
}
