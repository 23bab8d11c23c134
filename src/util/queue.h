/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_QUEUE_H
#define SHARDFS_UTIL_QUEUE_H

/*
 * A bounded queue of pointers between threads, closable, and the workers that
 * drain it.  Items are owned by whoever popped them.
 */

#include "util/lock.h"

#include <stdbool.h>
#include <stddef.h>

struct queue {
	struct lock lock; /* LOCK_QUEUE: guards all below */
	struct cond not_empty;
	struct cond not_full;
	void **items;
	size_t capacity, head, count;
	bool is_closed;
};

int queue_init(struct queue *queue, size_t capacity); /* 1 ..; -ENOMEM */
/* Accepts a zeroed queue.  Items still inside are not freed. */
void queue_release(struct queue *queue);               /* must be empty or abandoned */
/* item is not NULL.  Waits while full.  -EPIPE once closed (item not taken). */
int queue_push(struct queue *queue, void *item);
/* -EAGAIN when full, -EPIPE once closed; never waits. */
int queue_try_push(struct queue *queue, void *item);
/* Waits while empty; NULL when closed and drained. */
void *queue_pop(struct queue *queue);
void *queue_try_pop(struct queue *queue); /* NULL when there is none now */
void queue_close(struct queue *queue);     /* wakes everybody; what is queued is still popped */
size_t queue_count(struct queue *queue);

/* `count` threads that call run(arg, item) for each popped item until the queue is closed. */
struct workers {
	struct queue *queue;
	void (*run)(void *arg, void *item);
	void *arg;
	pthread_t *threads;
	unsigned count;
};
/* name: of the threads, at most 15 bytes.  -ENOMEM, -EAGAIN: no thread runs. */
int workers_start(struct workers *workers, struct queue *queue, unsigned count, const char *name,
		  void (*run)(void *arg, void *item), void *arg);
/* Closes the queue, drains it and joins.  Accepts workers that were never started (zeroed). */
void workers_stop(struct workers *workers);

/* One named thread, to be joined; signals are blocked in it.  0 or -EAGAIN. */
int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg);

#endif
