/* SPDX-License-Identifier: Apache-2.0 */
#include "util/pending.h"

#include "util/mem.h"

static void pending_done(struct waiter *waiter, int error)
{
	struct pending *pending = container_of(waiter, struct pending, waiter);

	LOCK_SCOPE(&pending->lock);
	pending->error = error;
	pending->is_done = true;
	cond_wake_all(&pending->cond);
}

void pending_init(struct pending *pending)
{
	*pending = (struct pending){.waiter.done = pending_done};
	lock_init(&pending->lock, LOCK_LEAF);
	cond_init(&pending->cond);
}

int pending_wait(struct pending *pending)
{
	lock_take(&pending->lock);
	while (!pending->is_done)
		cond_wait(&pending->cond, &pending->lock);
	lock_drop(&pending->lock);
	pending_release(pending);
	return pending->error;
}

void pending_release(struct pending *pending)
{
	cond_release(&pending->cond);
	lock_release(&pending->lock);
}
