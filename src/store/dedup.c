/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dedup.h"

#include "util/list.h"
#include "util/lock.h"
#include "util/map.h"

#include <assert.h>
#include <errno.h>

/*
 * One entry for each name that is busy, or known and pinned; a second table by
 * chunk_no for what is known or condemned.
 *
 *   busy     in by_id;  has a maker; others wait on its condition; also in by_no once
 *            the maker has claimed the number of a new chunk
 *   known    in by_id and by_no;  goes when its last pin goes: the index answers
 *   condemned in by_no alone, until gc says forget; then it stays as a
 *            tombstone as long as any maker is busy that began before: such a maker
 *            may hold an answer of the index from before the chunk was deleted
 *
 * Makers are numbered as they begin, and kept in that order, so the oldest one
 * tells which tombstones are needed.
 */

enum dedup_state { DEDUP_BUSY, DEDUP_FAILED, DEDUP_KNOWN };

struct dedup_entry {
	struct map_node by_id, by_no;
	struct list busy; /* in dedup->makers while a maker is at work */
	struct chunk_id id;
	uint64_t domain;
	enum dedup_state state;
	uint64_t began;	    /* number of the maker */
	uint32_t waiters;   /* threads inside dedup_begin */
	uint32_t pins;	    /* known */
	bool is_claimed;    /* busy, and in by_no: its number must not be condemned */
	struct chunk_row chunk; /* known; its number when claimed */
	struct cond changed;
};

struct dedup_condemned {
	struct map_node by_no;
	struct list node; /* in dedup->tombstones once forgotten */
	uint64_t chunk_no;
	uint64_t forgotten; /* makers that began before this number may still meet it */
};

struct dedup {
	struct lock lock; /* LOCK_DEDUP: guards all */
	struct map by_id, by_no, condemned;
	struct list makers;	/* oldest first */
	struct list tombstones; /* oldest first */
	uint64_t began;
};

static uint64_t name_hash(const struct chunk_id *id, uint64_t domain)
{
	return map_hash_bytes(domain, id->b, sizeof(id->b));
}

static struct dedup_entry *find_name(struct dedup *dedup, const struct chunk_id *id,
				     uint64_t domain)
{
	struct map_node *node = map_first(&dedup->by_id, name_hash(id, domain));

	for (; node; node = map_next(node)) {
		struct dedup_entry *entry = container_of(node, struct dedup_entry, by_id);

		if (entry->domain == domain && chunk_id_is_equal(&entry->id, id))
			return entry;
	}
	return NULL;
}

static struct dedup_entry *find_known(struct dedup *dedup, uint64_t chunk_no)
{
	struct map_node *node = map_first(&dedup->by_no, map_hash_u64(chunk_no));

	for (; node; node = map_next(node)) {
		struct dedup_entry *entry = container_of(node, struct dedup_entry, by_no);

		if (entry->chunk.chunk_no == chunk_no)
			return entry;
	}
	return NULL;
}

static struct dedup_condemned *find_condemned(struct dedup *dedup, uint64_t chunk_no)
{
	struct map_node *node = map_first(&dedup->condemned, map_hash_u64(chunk_no));

	for (; node; node = map_next(node)) {
		struct dedup_condemned *entry = container_of(node, struct dedup_condemned, by_no);

		if (entry->chunk_no == chunk_no)
			return entry;
	}
	return NULL;
}

/* ---- makers ---- */

static void sweep_tombstones(struct dedup *dedup)
{
	uint64_t oldest = UINT64_MAX;

	if (!list_is_empty(&dedup->makers))
		oldest = list_entry(dedup->makers.next, struct dedup_entry, busy)->began;
	list_for_each(node, &dedup->tombstones) {
		struct dedup_condemned *entry = list_entry(node, struct dedup_condemned, node);

		if (entry->forgotten > oldest)
			break;
		list_remove(&entry->node);
		map_remove(&dedup->condemned, &entry->by_no);
		mem_free(entry);
	}
}

static void maker_begin(struct dedup *dedup, struct dedup_entry *entry)
{
	entry->state = DEDUP_BUSY;
	entry->began = ++dedup->began;
	list_push_back(&dedup->makers, &entry->busy);
}

static void maker_end(struct dedup *dedup, struct dedup_entry *entry)
{
	list_remove(&entry->busy);
	sweep_tombstones(dedup);
}

static void entry_free(struct dedup *dedup, struct dedup_entry *entry)
{
	map_remove(&dedup->by_id, &entry->by_id);
	cond_release(&entry->changed);
	mem_free(entry);
}

static int entry_new(struct dedup *dedup, const struct chunk_id *id, uint64_t domain)
{
	struct dedup_entry *entry = mem_alloc(sizeof(*entry));
	int r;

	if (!entry)
		return -ENOMEM;
	entry->id = *id;
	entry->domain = domain;
	cond_init(&entry->changed);
	list_init(&entry->busy);
	r = map_insert(&dedup->by_id, &entry->by_id, name_hash(id, domain));
	if (r < 0) {
		cond_release(&entry->changed);
		mem_free(entry);
		return r;
	}
	maker_begin(dedup, entry);
	return 0;
}

int dedup_begin(struct dedup *dedup, const struct chunk_id *id, uint64_t domain,
		enum dedup_answer *answer, struct chunk_row *out)
{
	LOCK_SCOPE(&dedup->lock);
	struct dedup_entry *entry = find_name(dedup, id, domain);
	int r;

	if (!entry) {
		r = entry_new(dedup, id, domain);
		if (r == 0)
			*answer = DEDUP_MAKE;
		return r;
	}
	if (entry->state == DEDUP_KNOWN) {
		entry->pins++;
		*answer = DEDUP_FOUND;
		*out = entry->chunk;
		return 0;
	}
	entry->waiters++;
	while (entry->state == DEDUP_BUSY)
		cond_wait(&entry->changed, &dedup->lock);
	entry->waiters--;
	if (entry->state == DEDUP_FAILED) {
		maker_begin(dedup, entry); /* the others that wait, wait for this one now */
		*answer = DEDUP_MAKE;
		return 0;
	}
	*answer = DEDUP_FOUND; /* the maker has pinned for each that waited */
	*out = entry->chunk;
	return 0;
}

static int claim_locked(struct dedup *dedup, struct dedup_entry *entry, uint64_t chunk_no)
{
	int r;

	assert(!entry->is_claimed && !find_known(dedup, chunk_no));
	r = map_insert(&dedup->by_no, &entry->by_no, map_hash_u64(chunk_no));
	if (r < 0)
		return r;
	entry->chunk.chunk_no = chunk_no;
	entry->is_claimed = true;
	return 0;
}

int dedup_claim(struct dedup *dedup, const struct chunk_id *id, uint64_t domain, uint64_t chunk_no)
{
	LOCK_SCOPE(&dedup->lock);
	struct dedup_entry *entry = find_name(dedup, id, domain);

	assert(entry && entry->state == DEDUP_BUSY && !find_condemned(dedup, chunk_no));
	return claim_locked(dedup, entry, chunk_no);
}

/* The next one that waits becomes the maker. */
static void fail_locked(struct dedup *dedup, struct dedup_entry *entry)
{
	if (entry->is_claimed)
		map_remove(&dedup->by_no, &entry->by_no);
	entry->is_claimed = false;
	maker_end(dedup, entry);
	entry->state = DEDUP_FAILED;
	cond_wake_one(&entry->changed);
	if (entry->waiters == 0)
		entry_free(dedup, entry);
}

int dedup_finish(struct dedup *dedup, const struct chunk_id *id, uint64_t domain,
		 const struct chunk_row *chunk)
{
	LOCK_SCOPE(&dedup->lock);
	struct dedup_entry *entry = find_name(dedup, id, domain);
	int r;

	assert(entry && entry->state == DEDUP_BUSY);
	if (!chunk) {
		fail_locked(dedup, entry);
		return 0;
	}
	if (!entry->is_claimed) {
		if (find_condemned(dedup, chunk->chunk_no))
			return -EBUSY;
		r = claim_locked(dedup, entry, chunk->chunk_no);
		if (r < 0)
			return r;
	}
	assert(entry->chunk.chunk_no == chunk->chunk_no);
	maker_end(dedup, entry);
	entry->chunk = *chunk;
	entry->is_claimed = false;
	entry->state = DEDUP_KNOWN;
	entry->pins = 1 + entry->waiters;
	cond_wake_all(&entry->changed);
	return 0;
}

void dedup_unpin(struct dedup *dedup, uint64_t chunk_no)
{
	LOCK_SCOPE(&dedup->lock);
	struct dedup_entry *entry = find_known(dedup, chunk_no);

	assert(entry && entry->pins > 0);
	if (--entry->pins > 0)
		return;
	assert(entry->waiters == 0); /* each has a pin until its caller gives it back */
	map_remove(&dedup->by_no, &entry->by_no);
	entry_free(dedup, entry);
}

/* ---- gc ---- */

int dedup_condemn(struct dedup *dedup, uint64_t chunk_no)
{
	LOCK_SCOPE(&dedup->lock);
	struct dedup_condemned *entry = find_condemned(dedup, chunk_no);
	int r;

	if (find_known(dedup, chunk_no))
		return -EBUSY;
	if (entry) {
		list_remove(&entry->node); /* no tombstone any more, if it was one */
		return 0;
	}
	entry = mem_alloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->chunk_no = chunk_no;
	list_init(&entry->node);
	r = map_insert(&dedup->condemned, &entry->by_no, map_hash_u64(chunk_no));
	if (r < 0)
		mem_free(entry);
	return r;
}

void dedup_forget_condemned(struct dedup *dedup, uint64_t chunk_no)
{
	LOCK_SCOPE(&dedup->lock);
	struct dedup_condemned *entry = find_condemned(dedup, chunk_no);

	if (!entry)
		return;
	entry->forgotten = dedup->began + 1;
	list_remove(&entry->node);
	list_push_back(&dedup->tombstones, &entry->node);
	sweep_tombstones(dedup);
}

/* ---- life ---- */

int dedup_new(struct dedup **out)
{
	struct dedup *dedup = mem_alloc(sizeof(*dedup));

	if (!dedup)
		return -ENOMEM;
	lock_init(&dedup->lock, LOCK_DEDUP);
	list_init(&dedup->makers);
	list_init(&dedup->tombstones);
	*out = dedup;
	return 0;
}

void dedup_free(struct dedup *dedup)
{
	struct map_node *node, *next;

	if (!dedup)
		return;
	for (node = map_iterate(&dedup->by_id, NULL); node; node = next) {
		struct dedup_entry *entry = container_of(node, struct dedup_entry, by_id);

		next = map_iterate(&dedup->by_id, node);
		cond_release(&entry->changed);
		mem_free(entry);
	}
	for (node = map_iterate(&dedup->condemned, NULL); node; node = next) {
		next = map_iterate(&dedup->condemned, node);
		mem_free(container_of(node, struct dedup_condemned, by_no));
	}
	map_release(&dedup->by_id);
	map_release(&dedup->by_no);
	map_release(&dedup->condemned);
	lock_release(&dedup->lock);
	mem_free(dedup);
}
