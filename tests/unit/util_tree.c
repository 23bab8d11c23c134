/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/rng.h"
#include "util/mem.h"
#include "util/tree.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define KEY_COUNT 512 /* keys are (i / 16, i % 16 + huge) */

static struct tree_key key_of(size_t i)
{
	return (struct tree_key){.major = i / 16, .minor = UINT64_MAX - 15 + i % 16};
}

/* Order, parents and heights of the whole subtree; returns its height. */
static int check(const struct tree_node *node, const struct tree_node *parent, size_t *count)
{
	int left, right;

	if (node == NULL)
		return 0;
	cr_assert_eq(node->parent, parent);
	left = check(node->left, node, count);
	right = check(node->right, node, count);
	cr_assert(abs(left - right) <= 1);
	cr_assert_eq(node->height, MAX(left, right) + 1);
	(*count)++;
	return MAX(left, right) + 1;
}

/* Against a sorted array: slot i is the node with key_of(i), or NULL. */
static void check_against_array(const struct tree *tree, struct tree_node *const *array)
{
	struct tree_node *before = NULL, *after = NULL;
	struct tree_node *at = tree_first(tree);
	size_t count = 0;

	check(tree->root, NULL, &count);
	cr_assert_eq(count, tree->count);
	for (size_t i = 0; i < KEY_COUNT; i++) {
		cr_assert_eq(tree_find(tree, key_of(i)), array[i]);
		if (array[i] != NULL) {
			cr_assert_eq(at, array[i]);
			cr_assert_eq(tree_prev(at), before);
			before = at;
			at = tree_next(at);
		}
		cr_assert_eq(tree_at_or_before(tree, key_of(i)), before);
	}
	cr_assert_null(at);
	for (size_t i = KEY_COUNT; i-- > 0;) {
		after = array[i] != NULL ? array[i] : after;
		cr_assert_eq(tree_at_or_after(tree, key_of(i)), after);
	}
}

Test(util_tree, behaves_like_a_sorted_array)
{
	struct rng rng = rng_new();
	struct tree_node nodes[KEY_COUNT], *array[KEY_COUNT] = {NULL};
	struct tree tree = TREE_INIT;

	for (unsigned step = 0; step < 6000; step++) {
		size_t i = rng_below(&rng, KEY_COUNT);
		struct tree_node other;

		if (array[i] != NULL && rng_below(&rng, 4) == 0) {
			cr_assert_eq(tree_insert(&tree, &other, key_of(i)), array[i]);
		} else if (array[i] != NULL) {
			tree_remove(&tree, array[i]);
			array[i] = NULL;
		} else {
			cr_assert_null(tree_insert(&tree, &nodes[i], key_of(i)));
			array[i] = &nodes[i];
		}
		if (step % 20 == 0)
			check_against_array(&tree, array);
	}
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (array[i] != NULL)
			tree_remove(&tree, array[i]);
	cr_assert(tree.root == NULL && tree.count == 0);
}

Test(util_tree, sorted_input_stays_balanced)
{
	struct tree_node *nodes = mem_alloc_array(100000, sizeof(*nodes));
	struct tree tree = TREE_INIT;
	size_t count = 0;

	for (uint64_t i = 0; i < 100000; i++)
		cr_assert_null(tree_insert(&tree, &nodes[i], (struct tree_key){.minor = i}));
	cr_assert(check(tree.root, NULL, &count) <= 17);
	for (uint64_t i = 0; i < 99000; i++)
		tree_remove(&tree, tree_first(&tree));
	count = 0;
	cr_assert(check(tree.root, NULL, &count) <= 14);
	cr_assert_eq(count, 1000);
	mem_free(nodes);
}

Test(util_tree, an_empty_tree_has_nothing)
{
	struct tree tree = TREE_INIT;
	struct tree_key key = {.major = 1};

	cr_assert_null(tree_first(&tree));
	cr_assert_null(tree_find(&tree, key));
	cr_assert_null(tree_at_or_after(&tree, key));
	cr_assert_null(tree_at_or_before(&tree, key));
}
