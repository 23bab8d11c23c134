/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table of names.  All that tells about protection comes from one call,
 * store_protection(), so that the attributes of one file agree.
 *
 * While somebody may still write to a file, or the journal does not have its
 * bytes yet, no statement about its copies can be final: the status is then at
 * best `replicating`.
 */
#include "store/vxattr.h"

#include "store/names.h"
#include "util/clock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define PROVIDERS_MAX 64
#define SHARDS_PAGE   256
#define DEPTH_MAX     65536

struct vxattr {
	const char *name; /* behind the prefix */
	int (*get)(struct store *store, struct index_reader *reader, struct inode *inode,
		   struct buf *out);
	int (*set)(struct store *store, struct index_reader *reader, struct inode *inode,
		   struct bytes value, struct buf *why);
};

static int put_text(struct buf *out, const char *text)
{
	return buf_append(out, bytes_of_str(text));
}

static int put_json_string(struct buf *out, const char *text)
{
	int r = buf_append(out, bytes_of("\"", 1));

	for (; r == 0 && *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			r = buf_printf(out, "\\%c", c);
		else if (c < 0x20)
			r = buf_printf(out, "\\u%04x", c);
		else
			r = buf_append(out, bytes_of(&c, 1));
	}
	return r < 0 ? r : buf_append(out, bytes_of("\"", 1));
}

static bool is_unsettled(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return inode->write_open_count > 0 || !writer_is_clean(inode);
}

/* Looks for an unsettled file below a directory. */
struct unsettled_search {
	struct store *store;
	struct index_reader *reader;
	uint64_t top;
	bool is_found;
};

static bool is_below(const struct unsettled_search *search, struct inode *inode)
{
	uint64_t ino;

	lock_take(&inode->lock);
	ino = inode->row.parent;
	lock_drop(&inode->lock);
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
		struct inode *at;

		if (ino == search->top)
			return true;
		if (ino == INO_ROOT || inode_load(search->store->inodes, search->store->index,
						  search->reader, ino, &at) < 0)
			return false;
		lock_take(&at->lock);
		ino = at->row.parent;
		lock_drop(&at->lock);
		inode_unref(search->store->inodes, at, 1);
	}
	return false;
}

static void look_for_unsettled(void *ctx, struct inode *inode)
{
	struct unsettled_search *search = ctx;

	if (!search->is_found && inode_is_regular(inode) && is_unsettled(inode))
		search->is_found = is_below(search, inode);
}

static bool has_unsettled(struct store *store, struct index_reader *reader, struct inode *inode)
{
	struct unsettled_search search = {
		.store = store,
		.reader = reader,
		.top = inode->row.ino,
	};

	if (!inode_is_dir(inode))
		return is_unsettled(inode);
	inode_table_visit(store->inodes, look_for_unsettled, &search);
	return search.is_found;
}

static int get_protection(struct store *store, struct index_reader *reader, struct inode *inode,
			  enum store_ask ask, struct store_protection *out)
{
	int r = store_protection(store, reader, inode, ask, out);

	if (r == 0 && out->worst == PROTECTION_PROTECTED &&
	    has_unsettled(store, reader, inode))
		out->worst = PROTECTION_REPLICATING;
	return r;
}

static int get_status(struct store *store, struct index_reader *reader, struct inode *inode,
		      struct buf *out)
{
	struct store_protection protection;
	int r = get_protection(store, reader, inode, STORE_ASK_STATUS, &protection);

	return r < 0 ? r : put_text(out, protection_name(protection.worst));
}

static int get_copies(struct store *store, struct index_reader *reader, struct inode *inode,
		      struct buf *out)
{
	struct store_protection protection;
	int r = get_protection(store, reader, inode, STORE_ASK_COPIES, &protection);

	return r < 0 ? r
		     : buf_printf(out, "%u/%u", protection.copies_have, protection.copies_want);
}

static int get_integrity(struct store *store, struct index_reader *reader, struct inode *inode,
			 struct buf *out)
{
	struct store_protection protection;
	char when[CLOCK_RFC3339_SIZE];
	int r = get_protection(store, reader, inode, STORE_ASK_COPIES, &protection);

	if (r < 0)
		return r;
	if (protection.is_corrupt)
		return put_text(out, "corrupt");
	if (protection.verified_sec == 0)
		return put_text(out, "unverified");
	clock_rfc3339((struct wall_time){.sec = protection.verified_sec}, when);
	return buf_printf(out, "verified %s", when);
}

static int get_tier(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct buf *out)
{
	(void)store;
	(void)reader;
	(void)inode;
	return put_text(out, "hot"); /* nothing is moved to other classes of storage yet */
}

/* ---- policy ---- */

static uint64_t policy_root_of(struct inode *inode)
{
	LOCK_SCOPE(&inode->lock);
	return inode->row.policy_root;
}

static int print_policy(struct store *store, struct inode *inode, struct policy *policy,
			char text[POLICY_TEXT_SIZE])
{
	store_policy_of(store, policy_root_of(inode), policy);
	return policy_print(policy, text);
}

static int get_policy(struct store *store, struct index_reader *reader, struct inode *inode,
		      struct buf *out)
{
	struct policy policy;
	char text[POLICY_TEXT_SIZE];
	int r = print_policy(store, inode, &policy, text);

	(void)reader;
	return r < 0 ? r : put_text(out, text);
}

static const char *ack_name(enum policy_ack ack)
{
	static const char *const names[] = {"local", "one", "quorum", "all"};

	return names[ack];
}

static const char *priority_name(enum policy_priority priority)
{
	static const char *const names[] = {"critical", "high", "medium", "low"};

	return names[priority];
}

static int get_policy_effective(struct store *store, struct index_reader *reader,
				struct inode *inode, struct buf *out)
{
	uint64_t root = policy_root_of(inode);
	struct policy policy;
	char text[POLICY_TEXT_SIZE];
	int r = print_policy(store, inode, &policy, text);

	(void)reader;
	if (r == 0)
		r = put_text(out, "{\"policy\":");
	if (r == 0)
		r = put_json_string(out, text);
	if (r == 0)
		r = buf_printf(out,
			       ",\"root_inode\":%llu,\"inherited\":%s,\"copies\":%u,\"vendors\":%u,"
			       "\"regions\":%u,\"region_loss\":%u,\"ack\":\"%s\",\"priority\":\"%s\"}",
			       (unsigned long long)root, root == inode->row.ino ? "false" : "true",
			       policy.copies, policy.vendors, policy.regions, policy.region_loss,
			       ack_name(policy.ack), priority_name(policy.priority));
	return r;
}

static int set_policy(struct store *store, struct index_reader *reader, struct inode *inode,
		      struct bytes value, struct buf *why)
{
	char text[POLICY_TEXT_SIZE];

	(void)reader;
	if (!inode_is_dir(inode))
		return -ENOTDIR;
	if (value.len >= sizeof(text) || (value.len > 0 && memchr(value.ptr, 0, value.len)))
		return -EINVAL;
	if (value.len == 0)
		return store_set_policy(store, inode, NULL, why);
	memcpy(text, value.ptr, value.len);
	text[value.len] = 0;
	return store_set_policy(store, inode, text, why);
}

/* ---- locks until a date ---- */

static int get_lock(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct buf *out)
{
	char text[CLOCK_RFC3339_SIZE];
	int64_t until_sec;
	int r = names_lock_until(inode, &until_sec);

	(void)store;
	(void)reader;
	if (r < 0)
		return r;
	return put_text(out, clock_rfc3339((struct wall_time){.sec = until_sec}, text));
}

static int refuse_lock(struct store *store, struct inode *inode, int error, struct buf *why)
{
	char now[CLOCK_RFC3339_SIZE], until[CLOCK_RFC3339_SIZE];
	int64_t until_sec;

	clock_rfc3339((struct wall_time){.sec = store_now_sec(store)}, now);
	if (error == -EINVAL)
		buf_printf(why, "lock-until: the date is not in the future: it is %s", now);
	else if (error == -EOPNOTSUPP)
		buf_printf(why, "lock-until: only files and directories can be locked");
	else if (error == -EPERM && names_lock_until(inode, &until_sec) == 0)
		buf_printf(why, "lock-until: locked until %s, which nobody can shorten; it is %s",
			   clock_rfc3339((struct wall_time){.sec = until_sec}, until), now);
	return error;
}

static int set_lock(struct store *store, struct index_reader *reader, struct inode *inode,
		    struct bytes value, struct buf *why)
{
	int64_t until_sec;
	int r;

	(void)reader;
	if (value.len == 0) {
		r = names_unlock(store, inode);
	} else if (clock_parse_utc(value, &until_sec) < 0) {
		buf_printf(why, "lock-until: no date: write 2030-01-31 or 2030-01-31T12:00:00Z");
		return -EINVAL;
	} else {
		r = names_lock(store, inode, until_sec);
	}
	return r < 0 ? refuse_lock(store, inode, r, why) : 0;
}

/* ---- storage ---- */

static int get_storage(struct store *store, struct index_reader *reader, struct inode *inode,
		       struct buf *out)
{
	struct store_protection protection;
	int r = get_protection(store, reader, inode, STORE_ASK_STORAGE, &protection);
	const struct subtree_totals *totals = &protection.totals;

	if (r < 0)
		return r;
	return buf_printf(out,
			  "{\"files\":%llu,\"directories\":%llu,\"bytes\":%llu,\"extents\":%llu,"
			  "\"chunks\":%llu,\"shards\":%llu,\"stored_bytes\":%llu,"
			  "\"shared_bytes\":%llu,\"as_of\":%llu}",
			  (unsigned long long)totals->files,
			  (unsigned long long)totals->directories,
			  (unsigned long long)totals->bytes, (unsigned long long)totals->extents,
			  (unsigned long long)totals->chunks,
			  (unsigned long long)protection.shards,
			  (unsigned long long)totals->stored_bytes,
			  (unsigned long long)totals->shared_bytes,
			  (unsigned long long)protection.as_of_seq);
}

/* ---- placement ---- */

/* Copies of one provider among the shards that were looked at. */
struct provider_tally {
	uint64_t present, verified, pending, bad;
};

struct tally {
	struct provider_facts facts[PROVIDERS_MAX];
	struct provider_tally providers[PROVIDERS_MAX];
	unsigned provider_count;
	uint64_t shards, in_spool;
};

static struct provider_tally *tally_of(struct tally *tally, uint32_t provider_no)
{
	for (unsigned i = 0; i < tally->provider_count; i++)
		if (tally->facts[i].provider_no == provider_no)
			return &tally->providers[i];
	return NULL;
}

static void tally_copy(struct tally *tally, const struct copy_row *copy)
{
	struct provider_tally *at = tally_of(tally, copy->provider_no);

	if (!at)
		return;
	switch (copy->state) {
	case COPY_VERIFIED: at->verified++; break;
	case COPY_PRESENT: at->present++; break;
	case COPY_PENDING:
	case COPY_UPLOADING: at->pending++; break;
	default: at->bad++; break;
	}
}

static int tally_shards(struct store *store, struct index_reader *reader, struct inode *inode,
			struct tally *tally)
{
	uint64_t shard_nos[SHARDS_PAGE], after = 0;
	size_t count = SHARDS_PAGE;

	while (count == SHARDS_PAGE) {
		int r = index_subtree_shards(store->index, reader, inode->row.ino, after,
					     SHARDS_PAGE, shard_nos, &count, NULL);

		if (r < 0)
			return r;
		for (size_t i = 0; i < count; i++) {
			AUTO(copy_list) copies = ROW_LIST_INIT;

			r = index_list_copies(store->index, reader, shard_nos[i], &copies);
			if (r < 0)
				return r;
			for (size_t k = 0; k < copies.count; k++)
				tally_copy(tally, &copies.rows[k]);
			tally->shards++;
			tally->in_spool += store->spool && spool_has(store->spool, shard_nos[i]);
			after = shard_nos[i];
		}
	}
	return 0;
}

static int print_tally(const struct tally *tally, struct buf *out)
{
	int r = buf_printf(out, "{\"shards\":%llu,\"in_spool\":%llu,\"providers\":{",
			   (unsigned long long)tally->shards,
			   (unsigned long long)tally->in_spool);

	for (unsigned i = 0; r == 0 && i < tally->provider_count; i++) {
		const struct provider_tally *at = &tally->providers[i];
		const struct provider_facts *facts = &tally->facts[i];

		if (i > 0)
			r = put_text(out, ",");
		if (r == 0)
			r = put_json_string(out, facts->name);
		if (r == 0)
			r = put_text(out, ":{\"region\":");
		if (r == 0)
			r = put_json_string(out, facts->region);
		if (r == 0)
			r = buf_printf(out,
				       ",\"reachable\":%s,\"present\":%llu,\"verified\":%llu,"
				       "\"pending\":%llu,\"bad\":%llu}",
				       facts->is_present ? "true" : "false",
				       (unsigned long long)at->present,
				       (unsigned long long)at->verified,
				       (unsigned long long)at->pending,
				       (unsigned long long)at->bad);
	}
	return r < 0 ? r : put_text(out, "}}");
}

static int get_placement(struct store *store, struct index_reader *reader, struct inode *inode,
			 struct buf *out)
{
	struct tally *tally = mem_alloc(sizeof(*tally));
	int r;

	if (!tally)
		return -ENOMEM;
	tally->provider_count = transfer_facts(store->transfer, tally->facts, PROVIDERS_MAX);
	r = tally_shards(store, reader, inode, tally);
	if (r == 0)
		r = print_tally(tally, out);
	mem_free(tally);
	return r;
}

/* ---- the table ---- */

static const struct vxattr vxattrs[] = {
	{"status", get_status, NULL},
	{"placement", get_placement, NULL},
	{"copies", get_copies, NULL},
	{"integrity", get_integrity, NULL},
	{"tier", get_tier, NULL},
	{"policy", get_policy, set_policy},
	{"policy.effective", get_policy_effective, NULL},
	{"storage", get_storage, NULL},
	{VXATTR_LOCK, get_lock, set_lock},
};

bool vxattr_is(struct bytes name)
{
	size_t len = strlen(VXATTR_PREFIX);

	return name.len >= len && memcmp(name.ptr, VXATTR_PREFIX, len) == 0;
}

static const struct vxattr *find(struct bytes name)
{
	size_t len = strlen(VXATTR_PREFIX);

	for (size_t i = 0; i < ARRAY_COUNT(vxattrs); i++)
		if (name.len - len == strlen(vxattrs[i].name) &&
		    memcmp(name.ptr + len, vxattrs[i].name, name.len - len) == 0)
			return &vxattrs[i];
	return NULL;
}

int vxattr_get(struct store *store, struct index_reader *reader, struct inode *inode,
	       struct bytes name, struct buf *out)
{
	const struct vxattr *vxattr = find(name);

	return vxattr ? vxattr->get(store, reader, inode, out) : -ENODATA;
}

int vxattr_set(struct store *store, struct index_reader *reader, struct inode *inode,
	       struct bytes name, struct bytes value, struct buf *why)
{
	const struct vxattr *vxattr = find(name);

	if (!vxattr)
		return -ENODATA;
	return vxattr->set ? vxattr->set(store, reader, inode, value, why) : -EPERM;
}
