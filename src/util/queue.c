/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring of pointers under one lock.  Closing is for good: nothing more goes
 * in, what is in comes out, then every pop returns NULL.
 */
#include "util/queue.h"

#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

int queue_init(struct queue *queue, size_t capacity)
{
	void **items = mem_alloc_array(capacity, sizeof(*items));

	assert(capacity > 0);
	if (items == NULL)
		return -ENOMEM;
	*queue = (struct queue){.items = items, .capacity = capacity};
	lock_init(&queue->lock, LOCK_QUEUE);
	cond_init(&queue->not_empty);
	cond_init(&queue->not_full);
	return 0;
}

void queue_release(struct queue *queue)
{
	if (queue->items == NULL)
		return;
	mem_free(queue->items);
	cond_release(&queue->not_full);
	cond_release(&queue->not_empty);
	lock_release(&queue->lock);
	*queue = (struct queue){0};
}

static void put_locked(struct queue *queue, void *item)
{
	queue->items[(queue->head + queue->count) % queue->capacity] = item;
	queue->count++;
	cond_wake_one(&queue->not_empty);
}

static void *take_locked(struct queue *queue)
{
	void *item = queue->items[queue->head];

	queue->head = (queue->head + 1) % queue->capacity;
	queue->count--;
	cond_wake_one(&queue->not_full);
	return item;
}

int queue_push(struct queue *queue, void *item)
{
	assert(item != NULL);
	LOCK_SCOPE(&queue->lock);
	while (queue->count == queue->capacity && !queue->is_closed)
		cond_wait(&queue->not_full, &queue->lock);
	if (queue->is_closed)
		return -EPIPE;
	put_locked(queue, item);
	return 0;
}

int queue_try_push(struct queue *queue, void *item)
{
	assert(item != NULL);
	LOCK_SCOPE(&queue->lock);
	if (queue->is_closed)
		return -EPIPE;
	if (queue->count == queue->capacity)
		return -EAGAIN;
	put_locked(queue, item);
	return 0;
}

void *queue_pop(struct queue *queue)
{
	LOCK_SCOPE(&queue->lock);
	while (queue->count == 0 && !queue->is_closed)
		cond_wait(&queue->not_empty, &queue->lock);
	return queue->count > 0 ? take_locked(queue) : NULL;
}

void *queue_try_pop(struct queue *queue)
{
	LOCK_SCOPE(&queue->lock);
	return queue->count > 0 ? take_locked(queue) : NULL;
}

void queue_close(struct queue *queue)
{
	LOCK_SCOPE(&queue->lock);
	queue->is_closed = true;
	cond_wake_all(&queue->not_empty);
	cond_wake_all(&queue->not_full);
}

size_t queue_count(struct queue *queue)
{
	LOCK_SCOPE(&queue->lock);
	return queue->count;
}

/*
 * Threads wait at a gate until all exist, so that a start that fails half-way
 * has run nothing and leaves the queue as it was.  The gate lives on the
 * starter's stack: it leaves only when each thread has passed.
 */
struct gate {
	struct lock lock; /* LOCK_LEAF: guards all below */
	struct cond changed;
	struct workers *workers;
	enum { GATE_SHUT, GATE_OPEN, GATE_ABANDONED } state;
	unsigned passed;
};

static void *worker_main(void *arg)
{
	struct gate *gate = arg;
	struct workers *workers = gate->workers;
	bool is_open;
	void *item;

	lock_take(&gate->lock);
	while (gate->state == GATE_SHUT)
		cond_wait(&gate->changed, &gate->lock);
	is_open = gate->state == GATE_OPEN;
	gate->passed++;
	cond_wake_all(&gate->changed);
	lock_drop(&gate->lock);

	while (is_open && (item = queue_pop(workers->queue)) != NULL)
		workers->run(workers->arg, item);
	return NULL;
}

static void gate_open(struct gate *gate, bool is_abandoned, unsigned count)
{
	LOCK_SCOPE(&gate->lock);
	gate->state = is_abandoned ? GATE_ABANDONED : GATE_OPEN;
	cond_wake_all(&gate->changed);
	while (gate->passed < count)
		cond_wait(&gate->changed, &gate->lock);
}

static void join_all(struct workers *workers, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		pthread_join(workers->threads[i], NULL);
	mem_free(workers->threads);
	*workers = (struct workers){0};
}

int workers_start(struct workers *workers, struct queue *queue, unsigned count, const char *name,
		  void (*run)(void *arg, void *item), void *arg)
{
	struct gate gate = {.workers = workers, .state = GATE_SHUT};
	unsigned started = 0;
	int r = 0;

	*workers = (struct workers){.queue = queue, .run = run, .arg = arg, .count = count};
	workers->threads = mem_alloc_array(count, sizeof(*workers->threads));
	if (workers->threads == NULL) {
		*workers = (struct workers){0};
		return -ENOMEM;
	}
	lock_init(&gate.lock, LOCK_LEAF);
	cond_init(&gate.changed);
	while (started < count && r == 0) {
		r = thread_start(&workers->threads[started], name, worker_main, &gate);
		started += r == 0;
	}
	gate_open(&gate, r < 0, started);
	cond_release(&gate.changed);
	lock_release(&gate.lock);
	if (r < 0)
		join_all(workers, started);
	return r;
}

void workers_stop(struct workers *workers)
{
	if (workers->threads == NULL)
		return;
	queue_close(workers->queue);
	join_all(workers, workers->count);
}

int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	char short_name[16] = {0};
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r != 0)
		return -EAGAIN;
	strncpy(short_name, name, sizeof(short_name) - 1);
	pthread_setname_np(*thread, short_name);
	return 0;
}
