/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVL: the heights of two siblings differ by at most 1.  A leaf has height 1.
 * After each change the path to the root is repaired until a height stays as
 * it was.
 */
#include "util/tree.h"

#include <stdbool.h>

static int key_compare(struct tree_key a, struct tree_key b)
{
	if (a.major != b.major)
		return a.major < b.major ? -1 : 1;
	if (a.minor != b.minor)
		return a.minor < b.minor ? -1 : 1;
	return 0;
}

static int height(const struct tree_node *node)
{
	return node != NULL ? node->height : 0;
}

static void set_height(struct tree_node *node)
{
	int left = height(node->left), right = height(node->right);

	node->height = (int8_t)((left > right ? left : right) + 1);
}

/* `to` (may be NULL) takes the place of `from` under from's parent. */
static void replace(struct tree *tree, struct tree_node *from, struct tree_node *to)
{
	struct tree_node *parent = from->parent;

	if (parent == NULL)
		tree->root = to;
	else if (parent->left == from)
		parent->left = to;
	else
		parent->right = to;
	if (to != NULL)
		to->parent = parent;
}

static struct tree_node *rotate_left(struct tree *tree, struct tree_node *node)
{
	struct tree_node *top = node->right;

	replace(tree, node, top);
	node->right = top->left;
	if (node->right != NULL)
		node->right->parent = node;
	top->left = node;
	node->parent = top;
	set_height(node);
	set_height(top);
	return top;
}

static struct tree_node *rotate_right(struct tree *tree, struct tree_node *node)
{
	struct tree_node *top = node->left;

	replace(tree, node, top);
	node->left = top->right;
	if (node->left != NULL)
		node->left->parent = node;
	top->right = node;
	node->parent = top;
	set_height(node);
	set_height(top);
	return top;
}

/* Returns what is now the top of the subtree. */
static struct tree_node *balance(struct tree *tree, struct tree_node *node)
{
	int lean = height(node->right) - height(node->left);

	if (lean > 1) {
		if (height(node->right->left) > height(node->right->right))
			rotate_right(tree, node->right);
		return rotate_left(tree, node);
	}
	if (lean < -1) {
		if (height(node->left->right) > height(node->left->left))
			rotate_left(tree, node->left);
		return rotate_right(tree, node);
	}
	set_height(node);
	return node;
}

static void balance_upwards(struct tree *tree, struct tree_node *node)
{
	while (node != NULL) {
		int before = node->height;

		node = balance(tree, node);
		if (node->height == before)
			return;
		node = node->parent;
	}
}

struct tree_node *tree_insert(struct tree *tree, struct tree_node *node, struct tree_key key)
{
	struct tree_node **link = &tree->root, *parent = NULL;

	while (*link != NULL) {
		int order = key_compare(key, (*link)->key);

		if (order == 0)
			return *link;
		parent = *link;
		link = order < 0 ? &parent->left : &parent->right;
	}
	*node = (struct tree_node){.parent = parent, .key = key, .height = 1};
	*link = node;
	tree->count++;
	balance_upwards(tree, parent);
	return NULL;
}

static struct tree_node *leftmost(struct tree_node *node)
{
	while (node != NULL && node->left != NULL)
		node = node->left;
	return node;
}

static struct tree_node *rightmost(struct tree_node *node)
{
	while (node != NULL && node->right != NULL)
		node = node->right;
	return node;
}

void tree_remove(struct tree *tree, struct tree_node *node)
{
	struct tree_node *lowest; /* where heights begin to be wrong */

	if (node->left != NULL && node->right != NULL) {
		struct tree_node *heir = leftmost(node->right);

		lowest = heir->parent == node ? heir : heir->parent;
		replace(tree, heir, heir->right);
		replace(tree, node, heir);
		heir->left = node->left;
		heir->left->parent = heir;
		heir->right = node->right;
		if (heir->right != NULL)
			heir->right->parent = heir;
		heir->height = node->height;
	} else {
		lowest = node->parent;
		replace(tree, node, node->left != NULL ? node->left : node->right);
	}
	tree->count--;
	balance_upwards(tree, lowest);
	node->left = node->right = node->parent = NULL;
}

/* The last node on the way to key: at it, before it or after it. */
static struct tree_node *nearest(const struct tree *tree, struct tree_key key, int *order)
{
	struct tree_node *node = tree->root, *last = NULL;

	while (node != NULL) {
		last = node;
		*order = key_compare(key, node->key);
		if (*order == 0)
			break;
		node = *order < 0 ? node->left : node->right;
	}
	return last;
}

struct tree_node *tree_find(const struct tree *tree, struct tree_key key)
{
	int order = 0;
	struct tree_node *node = nearest(tree, key, &order);

	return order == 0 ? node : NULL;
}

struct tree_node *tree_at_or_after(const struct tree *tree, struct tree_key key)
{
	int order = 0;
	struct tree_node *node = nearest(tree, key, &order);

	return order > 0 ? tree_next(node) : node;
}

struct tree_node *tree_at_or_before(const struct tree *tree, struct tree_key key)
{
	int order = 0;
	struct tree_node *node = nearest(tree, key, &order);

	return order < 0 ? tree_prev(node) : node;
}

struct tree_node *tree_first(const struct tree *tree)
{
	return leftmost(tree->root);
}

struct tree_node *tree_next(const struct tree_node *node)
{
	if (node->right != NULL)
		return leftmost(node->right);
	while (node->parent != NULL && node->parent->right == node)
		node = node->parent;
	return node->parent;
}

struct tree_node *tree_prev(const struct tree_node *node)
{
	if (node->left != NULL)
		return rightmost(node->left);
	while (node->parent != NULL && node->parent->left == node)
		node = node->parent;
	return node->parent;
}
