/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers about protection are made of three things: what is still dirty in
 * memory, which shards the extents name, and the copies of each such shard.
 * The engine joins files and shards, so the applier catches up first; the
 * answer is as of that record.
 */
#include "store/store_private.h"

#include <errno.h>

#define SHARDS_PAGE 1024u

static void judge_shard(struct store *store, struct index_reader *reader, uint64_t shard_no,
			const struct policy *file_policy, const struct provider_facts *facts,
			unsigned fact_count, struct store_protection *out)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct shard_row shard;
	struct policy policy;
	unsigned valid = 0, wanted = 0;
	enum protection protection = PROTECTION_LOST;
	bool in_spool = spool_has(store->spool, shard_no);
	int64_t verified = INT64_MAX;

	policy = *file_policy;
	if (index_get_shard(store->index, reader, shard_no, &shard) == 0 &&
	    index_list_copies(store->index, reader, shard_no, &copies) == 0) {
		struct policy of_shard;

		policies_get(store->priv->policies, shard.policy_root, &of_shard);
		if (of_shard.copies > policy.copies)
			policy = of_shard;
		protection = placement_judge(&policy, copies.rows, (unsigned)copies.count, facts,
					     fact_count, in_spool, &valid, &wanted);
	}
	for (size_t i = 0; i < copies.count; i++) {
		const struct copy_row *copy = &copies.rows[i];

		if (copy->state == COPY_CORRUPT || copy->state == COPY_QUARANTINED)
			out->is_corrupt = true;
		verified = MIN(verified, copy->state == COPY_VERIFIED ? copy->verified_sec : 0);
	}
	out->verified_sec = MIN(out->verified_sec, copies.count ? verified : 0);
	if (out->shards++ == 0 || protection > out->worst ||
	    (protection == out->worst && valid < out->copies_have)) {
		out->copies_have = valid;
		out->copies_want = wanted;
	}
	out->worst = MAX(out->worst, protection);
}

static bool is_dirty(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return !writer_is_clean(inode);
}

int store_protection(struct store *store, struct index_reader *reader, struct inode *inode,
		     struct store_protection *out)
{
	struct store_protection answer = {.worst = PROTECTION_PROTECTED, .verified_sec = INT64_MAX};
	struct provider_facts facts[CONFIG_PROVIDERS_MAX];
	uint64_t shard_nos[SHARDS_PAGE], after = 0;
	unsigned fact_count = transfer_facts(store->transfer, facts, CONFIG_PROVIDERS_MAX);
	struct policy policy;
	bool is_pending;
	size_t count;
	int r;

	/* before all else: what ends meanwhile counts as pending */
	r = converge_touches(store->priv->converge, reader, inode->row.ino, inode_is_dir(inode),
			     &is_pending);
	if (r < 0)
		return r;
	answer.as_of_seq = sequencer_last_seq(store->sequencer);
	r = sequencer_wait_applied(store->sequencer, answer.as_of_seq);
	if (r < 0)
		return r;
	policies_get(store->priv->policies, inode->row.policy_root, &policy);
	do {
		r = index_subtree_shards(store->index, reader, inode->row.ino, after, SHARDS_PAGE,
					 shard_nos, &count, after == 0 ? &answer.totals : NULL);
		if (r < 0)
			return r;
		for (size_t i = 0; i < count; i++)
			judge_shard(store, reader, shard_nos[i], &policy, facts, fact_count,
				    &answer);
		if (count > 0)
			after = shard_nos[count - 1];
	} while (count == SHARDS_PAGE);
	if (answer.shards == 0) {
		answer.verified_sec = 0;
		answer.copies_have = answer.copies_want = policy.copies;
	}
	if (is_pending)
		answer.worst = MAX(answer.worst, PROTECTION_REPLICATING);
	if (inode_is_regular(inode)) {
		if (is_dirty(inode))
			answer.worst = MAX(answer.worst, PROTECTION_LOCAL);
		else if (inode->write_open_count > 0)
			answer.worst = MAX(answer.worst, PROTECTION_REPLICATING);
	}
	*out = answer;
	return 0;
}
