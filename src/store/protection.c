/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers about protection are made of four things: what is still dirty in
 * memory, which shards the extents name, the copies of each such shard, and
 * the providers that have the records which name all that.
 * The engine joins files and shards, so the applier catches up first; the
 * answer is as of that record.
 */
#include "store/store_private.h"

#include <errno.h>

#define SHARDS_PAGE 1024u

/* One question: what it is asked of, and what was found. */
struct judgement {
	struct store *store;
	struct index_reader *reader;
	struct provider_facts facts[CONFIG_PROVIDERS_MAX];
	unsigned fact_count;
	struct policy policy; /* of the file or directory */
	bool is_dir;	      /* what lies below may ask for less: a shard's own policy counts */
	struct store_protection answer;
};

/* shard NULL: there is no such row. */
static void judge_shard(struct judgement *judgement, uint64_t shard_no,
			const struct shard_row *shard)
{
	struct store *store = judgement->store;
	struct store_protection *out = &judgement->answer;
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct policy policy = judgement->policy;
	unsigned valid = 0, wanted = 0;
	enum protection protection = PROTECTION_LOST;
	bool in_spool = spool_has(store->spool, shard_no);
	int64_t verified = INT64_MAX;

	if (shard &&
	    index_list_copies(store->index, judgement->reader, shard_no, &copies) == 0) {
		struct policy of_shard;

		policies_get(store->priv->policies, shard->policy_root, &of_shard);
		if (judgement->is_dir || of_shard.copies > policy.copies)
			policy = of_shard;
		protection = placement_judge(&policy, copies.rows, (unsigned)copies.count,
					     judgement->facts, judgement->fact_count, in_spool,
					     &valid, &wanted);
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

/* Each shard of the subtree, whatever else there is. */
static int judge_subtree(struct judgement *judgement, uint64_t ino)
{
	struct subtree_totals *totals = judgement->answer.asked == STORE_ASK_STORAGE
						? &judgement->answer.totals : NULL;
	struct index *index = judgement->store->index;
	uint64_t shard_nos[SHARDS_PAGE], after = 0;
	size_t count;

	do {
		int r = index_subtree_shards(index, judgement->reader, ino, after, SHARDS_PAGE,
					     shard_nos, &count, after == 0 ? totals : NULL);

		if (r < 0)
			return r;
		for (size_t i = 0; i < count; i++) {
			struct shard_row shard;

			r = index_get_shard(index, judgement->reader, shard_nos[i], &shard);
			judge_shard(judgement, shard_nos[i], r == 0 ? &shard : NULL);
		}
		if (count > 0)
			after = shard_nos[count - 1];
	} while (count == SHARDS_PAGE);
	return 0;
}

/* Each shard that anything needs. */
static int judge_all(struct judgement *judgement)
{
	uint64_t after = 0;
	size_t count;

	do {
		AUTO(shard_list) shards = ROW_LIST_INIT;
		int r = index_list_shards(judgement->store->index, judgement->reader, after,
					  SHARDS_PAGE, &shards);

		if (r < 0)
			return r;
		count = shards.count;
		for (size_t i = 0; i < count; i++) {
			const struct shard_row *shard = &shards.rows[i];

			after = shard->shard_no;
			if (shard->live_bytes == 0)
				continue;
			judgement->answer.totals.stored_bytes += shard->live_bytes;
			judge_shard(judgement, shard->shard_no, shard);
		}
	} while (count == SHARDS_PAGE);
	return 0;
}

/* Whether a look at all shards is less work than one at all files, and may answer. */
static bool is_all_cheaper(struct judgement *judgement, const struct dir_counter *below)
{
	struct index_totals totals;

	index_totals(judgement->store->index, &totals);
	return judgement->answer.asked == STORE_ASK_STATUS && below->files > totals.shards;
}

static int judge_dir(struct judgement *judgement, uint64_t ino)
{
	struct store_protection before = judgement->answer;
	struct dir_counter below;
	int r = index_get_dir_counter(judgement->store->index, judgement->reader, ino, &below);
	bool is_whole = ino == INO_ROOT && before.asked != STORE_ASK_STORAGE;

	if (r == 0 && (is_whole || is_all_cheaper(judgement, &below))) {
		r = judge_all(judgement);
		/* what is not protected may be somebody else's */
		if (r == 0 && !is_whole && judgement->answer.worst > PROTECTION_PROTECTED) {
			judgement->answer = before;
			r = judge_subtree(judgement, ino);
		}
	} else if (r == 0) {
		r = judge_subtree(judgement, ino);
	}
	if (r == 0 && before.asked != STORE_ASK_STORAGE) {
		judgement->answer.totals.files = below.files;
		judgement->answer.totals.directories = below.directories;
		judgement->answer.totals.bytes = below.bytes;
	}
	return r;
}

static bool is_dirty(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return !writer_is_clean(inode);
}

/*
 * Bytes without their names are lost with this machine: as many providers as have the copies are to
 * have the records.  Usually everything was sent; else those of this subtree are looked for.
 */
static int judge_records(struct judgement *judgement, const struct inode *inode)
{
	struct store_protection *answer = &judgement->answer;
	struct oplog *oplog = judgement->store->priv->oplog;
	unsigned wanted = MAX(answer->copies_want, judgement->policy.copies);
	enum oplog_reach reach = oplog_reach(oplog, answer->as_of_seq, wanted);
	uint64_t newest;
	int r;

	answer->of_copies = answer->worst;
	if (answer->worst > PROTECTION_REPLICATING || reach == OPLOG_REACHED)
		return 0;
	r = index_subtree_newest(judgement->store->index, judgement->reader, inode->row.ino,
				 &newest);
	if (r < 0)
		return r;
	reach = oplog_reach(oplog, newest, wanted);
	if (reach != OPLOG_REACHED)
		answer->worst = MAX(answer->worst, reach == OPLOG_OWED ? PROTECTION_DEGRADED
								       : PROTECTION_REPLICATING);
	return 0;
}

int store_protection(struct store *store, struct index_reader *reader, struct inode *inode,
		     enum store_ask ask, struct store_protection *out)
{
	struct judgement judgement = {
		.store = store,
		.reader = reader,
		.is_dir = inode_is_dir(inode),
		.answer = {.asked = inode_is_dir(inode) ? ask : STORE_ASK_STORAGE,
			   .worst = PROTECTION_PROTECTED,
			   .verified_sec = INT64_MAX},
	};
	struct store_protection *answer = &judgement.answer;
	bool is_pending;
	int r;

	judgement.fact_count =
		transfer_facts(store->transfer, judgement.facts, CONFIG_PROVIDERS_MAX);
	/* before all else: what ends meanwhile counts as pending */
	r = converge_touches(store->priv->converge, reader, inode->row.ino, inode_is_dir(inode),
			     &is_pending);
	if (r < 0)
		return r;
	answer->as_of_seq = sequencer_last_seq(store->sequencer);
	r = sequencer_wait_applied(store->sequencer, answer->as_of_seq);
	if (r < 0)
		return r;
	policies_get(store->priv->policies, inode->row.policy_root, &judgement.policy);
	r = inode_is_dir(inode) ? judge_dir(&judgement, inode->row.ino)
				: judge_subtree(&judgement, inode->row.ino);
	if (r < 0)
		return r;
	if (answer->shards == 0) {
		answer->verified_sec = 0;
		answer->copies_have = answer->copies_want = judgement.policy.copies;
	}
	if (is_pending)
		answer->worst = MAX(answer->worst, PROTECTION_REPLICATING);
	if (inode_is_regular(inode)) {
		if (is_dirty(inode))
			answer->worst = MAX(answer->worst, PROTECTION_LOCAL);
		else if (inode->write_open_count > 0)
			answer->worst = MAX(answer->worst, PROTECTION_REPLICATING);
	}
	r = judge_records(&judgement, inode);
	if (r == 0)
		*out = *answer;
	return r;
}
