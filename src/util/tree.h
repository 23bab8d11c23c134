/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_TREE_H
#define SHARDFS_UTIL_TREE_H

/*
 * Intrusive ordered tree (AVL), keyed by a pair of 64-bit numbers compared
 * lexicographically: (inode, offset), (directory, cookie), (priority, age).
 * Not thread-safe.  Keys are unique.
 */

#include <stddef.h>
#include <stdint.h>

struct tree_key {
	uint64_t major, minor;
};

struct tree_node {
	struct tree_node *left, *right, *parent;
	struct tree_key key;
	int8_t height; /* of the subtree; 1 for a leaf */
};

struct tree {
	struct tree_node *root;
	size_t count;
};

#define TREE_INIT {0}

/* Returns NULL when inserted, else the node that already has the key (tree unchanged). */
struct tree_node *tree_insert(struct tree *tree, struct tree_node *node, struct tree_key key);
void tree_remove(struct tree *tree, struct tree_node *node);
struct tree_node *tree_find(const struct tree *tree, struct tree_key key);    /* exact */
struct tree_node *tree_at_or_after(const struct tree *tree, struct tree_key key);  /* smallest >= key */
struct tree_node *tree_at_or_before(const struct tree *tree, struct tree_key key); /* largest <= key */
struct tree_node *tree_first(const struct tree *tree);
struct tree_node *tree_next(const struct tree_node *node);
struct tree_node *tree_prev(const struct tree_node *node);

#endif
