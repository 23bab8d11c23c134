/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_LIST_H
#define SHARDFS_UTIL_LIST_H

/* Intrusive doubly linked ring; a head is a node that points at itself when empty. */

#include <stdbool.h>

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(name) {&(name), &(name)}

static inline void list_init(struct list *list)
{
	list->prev = list->next = list;
}

static inline bool list_is_empty(const struct list *list)
{
	return list->next == list;
}

static inline void list_insert_between_(struct list *node, struct list *prev, struct list *next)
{
	node->prev = prev;
	node->next = next;
	prev->next = node;
	next->prev = node;
}

static inline void list_push_back(struct list *head, struct list *node)
{
	list_insert_between_(node, head->prev, head);
}

static inline void list_push_front(struct list *head, struct list *node)
{
	list_insert_between_(node, head, head->next);
}

/* Safe on a node that is in no list if it was list_init'ed or list_remove'd before. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* Moves all of src to the end of dst. */
static inline void list_splice_back(struct list *dst, struct list *src)
{
	if (list_is_empty(src))
		return;
	src->next->prev = dst->prev;
	src->prev->next = dst;
	dst->prev->next = src->next;
	dst->prev = src->prev;
	list_init(src);
}

#define list_entry(node, type, member) container_of(node, type, member)
/* `pos` is a struct list *; the current node may be removed. */
#define list_for_each(pos, head)                                                                   \
	for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head);              \
	     pos = pos##_next, pos##_next = pos->next)

#endif
