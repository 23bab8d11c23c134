/* SPDX-License-Identifier: Apache-2.0 */
#include "util/list.h"
#include "util/mem.h"

#include <criterion/criterion.h>

struct item {
	int n;
	struct list node;
};

static int digits(struct list *head)
{
	int n = 0;

	list_for_each(pos, head)
		n = n * 10 + list_entry(pos, struct item, node)->n;
	return n;
}

Test(util_list, order_follows_the_pushes)
{
	struct item items[4] = {{.n = 1}, {.n = 2}, {.n = 3}, {.n = 4}};
	struct list head = LIST_INIT(head), other;

	list_init(&other);
	cr_assert(list_is_empty(&head));
	list_push_back(&head, &items[1].node);
	list_push_back(&head, &items[2].node);
	list_push_front(&head, &items[0].node);
	cr_assert_eq(digits(&head), 123);
	list_splice_back(&head, &other);
	cr_assert_eq(digits(&head), 123);
	list_push_back(&other, &items[3].node);
	list_splice_back(&other, &head);
	cr_assert_eq(digits(&other), 4123);
	cr_assert(list_is_empty(&head));
}

Test(util_list, the_current_node_may_be_removed_and_twice_is_once)
{
	struct item items[5] = {{.n = 1}, {.n = 2}, {.n = 3}, {.n = 4}, {.n = 5}};
	struct list head = LIST_INIT(head);

	for (int i = 0; i < 5; i++)
		list_push_back(&head, &items[i].node);
	list_for_each(pos, &head)
		if (list_entry(pos, struct item, node)->n % 2 == 0)
			list_remove(pos);
	cr_assert_eq(digits(&head), 135);
	list_remove(&items[1].node);
	cr_assert_eq(digits(&head), 135);
}
