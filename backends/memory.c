/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/memory.h"

#include "util/lock.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>
#include <stdio.h>

/*
 * A store is an array of objects sorted by key, under one lock that is held
 * while bytes are copied: each request happens at one moment.  The marker is
 * a flag, an id and a name, as in every provider.
 */

#define QUEUE_COUNT_MAX 1024

struct object {
	char *key;
	struct buf body;
	struct wall_time mtime;
};

struct store {
	struct store *next; /* shared ones; under stores_lock */
	char *shared;	    /* NULL: of one backend */
	struct lock lock;   /* LOCK_BACKEND: all below */
	struct object *objects;
	size_t count, capacity;
	uint64_t used_bytes;
	int64_t clock_ms; /* what answers tell; 0: this machine's clock */
	bool is_marked, is_absent;
	uint8_t fs_id[BACKEND_FS_ID_SIZE];
	char name[BACKEND_NAME_MAX + 1];
};

struct memory_config {
	bool async;
	char *shared;
	uint64_t size_max_bytes;
};

static const struct option_spec memory_options[] = {
	OPT_BOOL(struct memory_config, async, "false", "answer on a thread of its own"),
	OPT_STRING(struct memory_config, shared, NULL, "name of a store that outlives the backend"),
	OPT_SIZE(struct memory_config, size_max_bytes, "0", 0, INT64_MAX,
		 "bytes that all objects may take; 0: unlimited"),
	OPT_END,
};

struct memory_backend {
	struct backend base;
	const struct memory_config *config;
	struct store *store;
	struct queue queue; /* with async */
	struct workers worker;
	atomic_bool is_closing;
	/* under store->lock */
	bool is_bound;
	uint8_t fs_id[BACKEND_FS_ID_SIZE];
};

static struct lock stores_lock = LOCK_INIT(LOCK_BACKEND);
static struct store *stores;

/* ---- stores ---- */

static void object_release(struct object *object)
{
	mem_free(object->key);
	buf_release(&object->body);
}

static void store_free(struct store *store)
{
	for (size_t i = 0; i < store->count; i++)
		object_release(&store->objects[i]);
	mem_free(store->objects);
	mem_free(store->shared);
	lock_release(&store->lock);
	mem_free(store);
}

static struct store *store_new(const char *shared)
{
	struct store *store = mem_alloc(sizeof(*store));

	if (!store)
		return NULL;
	store->shared = shared ? mem_strdup(shared) : NULL;
	if (shared && !store->shared) {
		mem_free(store);
		return NULL;
	}
	lock_init(&store->lock, LOCK_BACKEND);
	return store;
}

static struct store *store_get(const char *shared)
{
	struct store *store;

	if (!shared)
		return store_new(NULL);
	LOCK_SCOPE(&stores_lock);
	for (store = stores; store; store = store->next)
		if (strcmp(store->shared, shared) == 0)
			return store;
	store = store_new(shared);
	if (store) {
		store->next = stores;
		stores = store;
	}
	return store;
}

void memory_forget(const char *shared)
{
	LOCK_SCOPE(&stores_lock);

	for (struct store **at = &stores; *at; at = &(*at)->next) {
		struct store *store = *at;

		if (strcmp(store->shared, shared) != 0)
			continue;
		*at = store->next;
		store_free(store);
		return;
	}
}

/* Where key is or would be. */
static size_t position_of(const struct store *store, const char *key, bool *is_there)
{
	size_t low = 0, high = store->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(store->objects[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*is_there = low < store->count && strcmp(store->objects[low].key, key) == 0;
	return low;
}

static struct object *object_find(const struct store *store, const char *key)
{
	bool is_there;
	size_t at = position_of(store, key, &is_there);

	return is_there ? &store->objects[at] : NULL;
}

static int object_insert(struct store *store, size_t at, struct object *object)
{
	if (store->count == store->capacity) {
		size_t capacity = MAX(store->capacity * 2, (size_t)16);
		struct object *objects =
			mem_realloc_array(store->objects, capacity, sizeof(*objects));

		if (!objects)
			return -ENOMEM;
		store->objects = objects;
		store->capacity = capacity;
	}
	memmove(&store->objects[at + 1], &store->objects[at],
		(store->count - at) * sizeof(store->objects[0]));
	store->objects[at] = *object;
	store->count++;
	return 0;
}

/* ---- requests, all with store->lock held ---- */

static int put_locked(struct memory_backend *memory, struct backend_req *req)
{
	struct store *store = memory->store;
	struct object object = {.mtime = clock_wall()};
	uint64_t size_max = memory->config->size_max_bytes, replaced = 0;
	bool is_there;
	size_t at = position_of(store, req->key, &is_there);

	if (is_there && (req->flags & BACKEND_CREATE_ONLY))
		return -EEXIST;
	if (is_there)
		replaced = store->objects[at].body.len;
	if (size_max > 0 && store->used_bytes - replaced + req->body.len > size_max)
		return -ENOSPC;
	if (buf_append(&object.body, req->body) < 0)
		return -EAGAIN;
	if (is_there) {
		buf_swap(&object.body, &store->objects[at].body);
		store->objects[at].mtime = object.mtime;
		object_release(&object);
	} else {
		object.key = mem_strdup(req->key);
		if (!object.key || object_insert(store, at, &object) < 0) {
			object_release(&object);
			return -EAGAIN;
		}
	}
	store->used_bytes += req->body.len - replaced;
	return 0;
}

static int get_locked(struct store *store, struct backend_req *req)
{
	const struct object *object = object_find(store, req->key);
	uint64_t size, offset = req->offset, len = req->len;

	if (!object)
		return -ENOENT;
	size = object->body.len;
	if (req->flags & BACKEND_TAIL) {
		len = MIN(len, size);
		offset = size - len;
	}
	if (offset > size || (len != BACKEND_TO_END && len > size - offset))
		return -EBADMSG;
	if (len == BACKEND_TO_END)
		len = size - offset;
	if (!req->into && buf_append(req->out, bytes_of(object->body.ptr + offset, len)) < 0)
		return -EAGAIN;
	if (req->into && len > 0)
		memcpy(req->into, object->body.ptr + offset, len);
	req->got = len;
	req->size = size;
	return 0;
}

static int head_locked(struct store *store, struct backend_req *req)
{
	const struct object *object = object_find(store, req->key);

	if (!object)
		return -ENOENT;
	req->size = object->body.len;
	req->mtime = object->mtime;
	return 0;
}

static int delete_locked(struct store *store, struct backend_req *req)
{
	bool is_there;
	size_t at = position_of(store, req->key, &is_there);

	if (!is_there)
		return 0;
	store->used_bytes -= store->objects[at].body.len;
	object_release(&store->objects[at]);
	store->count--;
	memmove(&store->objects[at], &store->objects[at + 1],
		(store->count - at) * sizeof(store->objects[0]));
	return 0;
}

static int list_locked(struct store *store, struct backend_req *req)
{
	AUTO(backend_list) page = BACKEND_LIST_INIT;
	size_t entries_max = req->entries_max > 0 ? req->entries_max : 1000;
	const char *cursor = req->cursor ? req->cursor : "";
	size_t prefix_len = strlen(req->key);
	bool is_there;
	size_t at = position_of(store, strcmp(cursor, req->key) > 0 ? cursor : req->key, &is_there);

	for (; at < store->count; at++) {
		const struct object *object = &store->objects[at];
		struct backend_entry *entry;

		if (strncmp(object->key, req->key, prefix_len) != 0)
			break;
		if (strcmp(object->key, cursor) <= 0)
			continue;
		if (page.count == entries_max) {
			snprintf(page.cursor, sizeof(page.cursor), "%s",
				 page.entries[page.count - 1].key);
			break;
		}
		entry = backend_list_next(&page);
		if (!entry)
			return -EAGAIN;
		snprintf(entry->key, sizeof(entry->key), "%s", object->key);
		entry->size = object->body.len;
		entry->mtime = object->mtime;
		page.count++;
	}
	backend_list_release(req->list);
	*req->list = page;
	page = (struct backend_list)BACKEND_LIST_INIT;
	return 0;
}

static bool is_absent_locked(const struct memory_backend *memory)
{
	const struct store *store = memory->store;

	if (!store->is_marked || store->is_absent)
		return true;
	return memory->is_bound && (memcmp(memory->fs_id, store->fs_id, sizeof(store->fs_id)) != 0 ||
				    strcmp(memory->base.name, store->name) != 0);
}

static int64_t time_of(const struct store *store)
{
	struct wall_time now = clock_wall();

	return store->clock_ms ? store->clock_ms : now.sec * 1000 + now.nsec / 1000000;
}

static int run_locked(struct memory_backend *memory, struct backend_req *req)
{
	req->server_ms = time_of(memory->store);
	req->is_absent = is_absent_locked(memory);
	if (req->is_absent)
		return -EAGAIN;
	switch (req->op) {
	case BACKEND_PUT:
		return put_locked(memory, req);
	case BACKEND_GET:
		return get_locked(memory->store, req);
	case BACKEND_DELETE:
		return delete_locked(memory->store, req);
	case BACKEND_LIST:
		return list_locked(memory->store, req);
	default:
		return head_locked(memory->store, req);
	}
}

static void memory_run(void *arg, void *item)
{
	struct memory_backend *memory = arg;
	struct backend_req *req = item;
	int r = -ECANCELED;

	if (!atomic_load(&memory->is_closing) && !atomic_load(&req->is_canceled)) {
		lock_take(&memory->store->lock);
		r = run_locked(memory, req);
		lock_drop(&memory->store->lock);
	}
	if (req->is_absent)
		backend_answer(req, r, "absent: the store is not there, or another's");
	else
		backend_answer(req, r, NULL);
}

static int memory_submit(struct backend *backend, struct backend_req *req)
{
	struct memory_backend *memory = container_of(backend, struct memory_backend, base);

	if (memory->config->async)
		return queue_try_push(&memory->queue, req) < 0 ? -EAGAIN : 0;
	memory_run(memory, req);
	return 0;
}

/* ---- life ---- */

static void memory_bind(struct backend *backend, const uint8_t *fs_id)
{
	struct memory_backend *memory = container_of(backend, struct memory_backend, base);
	LOCK_SCOPE(&memory->store->lock);

	memcpy(memory->fs_id, fs_id, sizeof(memory->fs_id));
	memory->is_bound = true;
}

static int memory_init(struct backend *backend, const uint8_t *fs_id, struct buf *why)
{
	struct memory_backend *memory = container_of(backend, struct memory_backend, base);
	struct store *store = memory->store;
	LOCK_SCOPE(&store->lock);

	if (store->is_absent) {
		buf_printf(why, "absent");
		return -EAGAIN;
	}
	if (store->is_marked && store->count > 0 &&
	    (memcmp(store->fs_id, fs_id, sizeof(store->fs_id)) != 0 ||
	     strcmp(store->name, memory->base.name) != 0)) {
		buf_printf(why, "belongs to another file system or provider");
		return -EEXIST;
	}
	store->is_marked = true;
	memcpy(store->fs_id, fs_id, sizeof(store->fs_id));
	snprintf(store->name, sizeof(store->name), "%s", memory->base.name);
	memcpy(memory->fs_id, fs_id, sizeof(memory->fs_id));
	memory->is_bound = true;
	return 0;
}

static int memory_space(const struct backend *backend, uint64_t *total, uint64_t *free_bytes)
{
	struct memory_backend *memory = container_of(backend, struct memory_backend, base);
	uint64_t size_max = memory->config->size_max_bytes;
	LOCK_SCOPE(&memory->store->lock);

	if (size_max == 0)
		return -ENODATA;
	*total = size_max;
	*free_bytes = size_max - MIN(memory->store->used_bytes, size_max);
	return 0;
}

static void memory_close(struct backend *backend)
{
	struct memory_backend *memory = container_of(backend, struct memory_backend, base);

	atomic_store(&memory->is_closing, true);
	if (memory->config->async) {
		workers_stop(&memory->worker);
		queue_release(&memory->queue);
	}
	if (!memory->store->shared)
		store_free(memory->store);
	mem_free(memory);
}

static int memory_open(const void *opaque, const char *name, struct buf *why,
		       struct backend **backend)
{
	const struct memory_config *config = opaque;
	struct memory_backend *memory = mem_alloc(sizeof(*memory));
	int r = -ENOMEM;

	(void)name;
	(void)why;
	if (!memory)
		return -ENOMEM;
	memory->config = config;
	memory->store = store_get(config->shared);
	if (!memory->store)
		goto fail_memory;
	if (config->async) {
		r = queue_init(&memory->queue, QUEUE_COUNT_MAX);
		if (r < 0)
			goto fail_store;
		r = workers_start(&memory->worker, &memory->queue, 1, "memory", memory_run, memory);
		if (r < 0)
			goto fail_queue;
	}
	*backend = &memory->base;
	return 0;

fail_queue:
	queue_release(&memory->queue);
fail_store:
	if (!memory->store->shared)
		store_free(memory->store);
fail_memory:
	mem_free(memory);
	return r;
}

const struct backend_ops memory_ops = {
	.type = "memory",
	.options = memory_options,
	.config_size = sizeof(struct memory_config),
	.can = BACKEND_CAN_CREATE_ONLY | BACKEND_CAN_RANGE | BACKEND_CAN_ATOMIC_REPLACE |
	       BACKEND_CAN_TELL_TIME,
	.open = memory_open,
	.submit = memory_submit,
	.close = memory_close,
	.init = memory_init,
	.bind = memory_bind,
	.space = memory_space,
};

/* ---- for tests ---- */

static struct store *store_of(struct backend *backend)
{
	struct backend *leaf = backend_find(backend, "memory");

	return leaf ? container_of(leaf, struct memory_backend, base)->store : NULL;
}

void memory_set_absent(struct backend *backend, bool is_absent)
{
	struct store *store = store_of(backend);
	LOCK_SCOPE(&store->lock);

	store->is_absent = is_absent;
}

void memory_set_clock(struct backend *backend, int64_t clock_ms)
{
	struct store *store = store_of(backend);
	LOCK_SCOPE(&store->lock);

	store->clock_ms = clock_ms;
}

int memory_damage(struct backend *backend, const char *key, uint64_t offset, uint8_t xor_mask)
{
	struct store *store = store_of(backend);
	struct object *object;
	LOCK_SCOPE(&store->lock);

	object = object_find(store, key);
	if (!object || offset >= object->body.len)
		return -ENOENT;
	object->body.ptr[offset] ^= xor_mask;
	return 0;
}

size_t memory_object_count(struct backend *backend)
{
	struct store *store = store_of(backend);
	LOCK_SCOPE(&store->lock);

	return store->count;
}
