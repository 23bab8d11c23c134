/* SPDX-License-Identifier: Apache-2.0 */
#include "store/policies.h"

#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/map.h"
#include "util/mem.h"

#include <errno.h>

struct policy_entry {
	struct map_node node;
	uint64_t root;
	struct policy policy;
};

struct policies {
	struct lock lock; /* LOCK_LEAF: guards all below */
	struct map map;
};

static struct policy_entry *find_locked(struct policies *policies, uint64_t root)
{
	struct map_node *node = map_first(&policies->map, map_hash_u64(root));

	for (; node; node = map_next(node))
		if (container_of(node, struct policy_entry, node)->root == root)
			return container_of(node, struct policy_entry, node);
	return NULL;
}

static int load_row(struct policies *policies, const struct policy_row *row)
{
	AUTO(buf) why = BUF_INIT;
	struct policy policy;
	int r = policy_parse(row->text, &policy, &why);

	if (r < 0) {
		log_error("policy-unreadable", "root=%llu error=%s why=" LOG_Q,
			  (unsigned long long)row->root, err_name(r), buf_str(&why));
		return -EUCLEAN;
	}
	return policies_set(policies, row->root, &policy);
}

int policies_load(struct index *index, struct index_reader *reader, struct policies **out)
{
	AUTO(policy_list) rows = ROW_LIST_INIT;
	struct policies *policies = mem_alloc(sizeof(*policies));
	int r;

	if (!policies)
		return -ENOMEM;
	lock_init(&policies->lock, LOCK_LEAF);
	r = index_list_policies(index, reader, &rows);
	for (size_t i = 0; i < rows.count && r == 0; i++)
		r = load_row(policies, &rows.rows[i]);
	if (r == 0 && !policies_has(policies, INO_ROOT)) {
		log_error("policy-missing", "root=%llu", INO_ROOT);
		r = -EUCLEAN;
	}
	if (r < 0) {
		policies_free(policies);
		return r;
	}
	*out = policies;
	return 0;
}

void policies_free(struct policies *policies)
{
	struct map_node *node, *next;

	if (!policies)
		return;
	for (node = map_iterate(&policies->map, NULL); node; node = next) {
		next = map_iterate(&policies->map, node);
		mem_free(container_of(node, struct policy_entry, node));
	}
	map_release(&policies->map);
	lock_release(&policies->lock);
	mem_free(policies);
}

void policies_get(struct policies *policies, uint64_t root, struct policy *out)
{
	struct policy_entry *entry;

	LOCK_SCOPE(&policies->lock);
	entry = find_locked(policies, root);
	if (!entry)
		entry = find_locked(policies, INO_ROOT);
	*out = entry->policy;
}

bool policies_has(struct policies *policies, uint64_t root)
{
	LOCK_SCOPE(&policies->lock);
	return find_locked(policies, root) != NULL;
}

int policies_set(struct policies *policies, uint64_t root, const struct policy *policy)
{
	struct policy_entry *entry;
	int r;

	LOCK_SCOPE(&policies->lock);
	entry = find_locked(policies, root);
	if (entry) {
		entry->policy = *policy;
		return 0;
	}
	if (policies->map.count >= POLICIES_MAX)
		return -ENOSPC;
	entry = mem_alloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->root = root;
	entry->policy = *policy;
	r = map_insert(&policies->map, &entry->node, map_hash_u64(root));
	if (r < 0)
		mem_free(entry);
	return r;
}

void policies_remove(struct policies *policies, uint64_t root)
{
	struct policy_entry *entry;

	LOCK_SCOPE(&policies->lock);
	entry = find_locked(policies, root);
	if (!entry || root == INO_ROOT)
		return;
	map_remove(&policies->map, &entry->node);
	mem_free(entry);
}
