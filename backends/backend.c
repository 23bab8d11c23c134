/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/backend.h"

#include "util/err.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>

/*
 * A request travels inward through submit and outward through answers.  Each
 * wrapper that wants to see the answer pushes a frame on the request itself;
 * backend_pass_on() pops the newest frame and calls its owner, or done when
 * there is none left.  So a pile of wrappers allocates nothing, and whoever
 * holds a request at a moment is the only one to touch it, its is_canceled
 * apart.
 */

/* A new provider: one file that defines NAME_ops, and one line here. */
#define TYPES(X)                                                                                   \
	X(dir)                                                                                     \
	X(memory)

#define TYPE_EXTERN(name) extern const struct backend_ops name##_ops;
#define TYPE_ENTRY(name)  &name##_ops,
TYPES(TYPE_EXTERN)
static const struct backend_ops *const types[] = {TYPES(TYPE_ENTRY)};

static const struct backend_ops *type_find(const char *type)
{
	for (size_t i = 0; i < ARRAY_COUNT(types); i++)
		if (strcmp(types[i]->type, type) == 0)
			return types[i];
	return NULL;
}

const char *backend_type_next(const char *type)
{
	if (!type)
		return types[0]->type;
	for (size_t i = 0; i + 1 < ARRAY_COUNT(types); i++)
		if (strcmp(types[i]->type, type) == 0)
			return types[i + 1]->type;
	return NULL;
}

const struct option_spec *backend_type_options(const char *type)
{
	const struct backend_ops *ops = type_find(type);

	return ops ? ops->options : NULL;
}

unsigned backend_type_can(const char *type)
{
	const struct backend_ops *ops = type_find(type);

	return ops ? ops->can : 0;
}

/* ---- settings ---- */

static void why_add(struct buf *why, const struct backend_setting *setting, const char *key,
		    const char *text)
{
	if (setting && setting->line > 0)
		buf_printf(why, "line %u: ", setting->line);
	buf_printf(why, "%s: %s", key, text);
}

static const struct backend_setting *setting_find(const struct backend_setting *settings,
						  size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(settings[i].key, key) == 0)
			return &settings[i];
	return NULL;
}

static int setting_read(const struct option_spec *table, const struct backend_setting *settings,
			size_t at, void *target, struct buf *why)
{
	const struct backend_setting *setting = &settings[at];
	const struct option_spec *spec = option_find(table, setting->key);
	AUTO(buf) text = BUF_INIT;
	const char *s;
	int r;

	if (!spec) {
		why_add(why, setting, setting->key, "no such setting for this type of provider");
		return -EINVAL;
	}
	if (setting_find(settings, at, setting->key)) {
		why_add(why, setting, setting->key, "given twice");
		return -EINVAL;
	}
	r = option_set(spec, target, setting->value, &text);
	if (r < 0) {
		s = buf_str(&text);
		why_add(why, setting, setting->key, s && *s ? s : err_sentence(r));
	}
	return r;
}

int backend_settings_read(const struct option_spec *table, const struct backend_setting *settings,
			  size_t setting_count, void *target, struct buf *why)
{
	char key[OPTION_KEY_SIZE];
	int r = option_set_defaults(table, target);

	for (size_t i = 0; r == 0 && i < setting_count; i++)
		r = setting_read(table, settings, i, target, why);
	if (r < 0)
		return r;
	for (const struct option_spec *spec = table; spec->type != OPTION_END; spec++) {
		if (spec->default_text != OPT_REQUIRED)
			continue;
		option_key(spec, key);
		if (setting_find(settings, setting_count, key))
			continue;
		why_add(why, setting_count > 0 ? &settings[0] : NULL, key, "must be given");
		return -EINVAL;
	}
	return 0;
}

/* ---- life ---- */

static bool name_is_valid(const char *name)
{
	size_t len = strlen(name);

	if (len < 1 || len > BACKEND_NAME_MAX)
		return false;
	return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
	       len;
}

int backend_open(const char *type, const struct backend_setting *settings, size_t setting_count,
		 const char *name, struct buf *why, struct backend **backend)
{
	const struct backend_ops *ops = type_find(type);
	struct backend *opened = NULL;
	AUTO_STR name_copy = NULL;
	void *config;
	int r;

	if (!ops) {
		buf_printf(why, "type: no such type of provider: %s", type);
		return -EINVAL;
	}
	if (!name_is_valid(name)) {
		buf_printf(why, "name: must be 1 .. %d of A-Z a-z 0-9 . _ -", BACKEND_NAME_MAX);
		return -EINVAL;
	}
	name_copy = mem_strdup(name);
	config = mem_alloc(ops->config_size);
	if (!config || !name_copy) {
		mem_free(config);
		return -ENOMEM;
	}
	r = backend_settings_read(ops->options, settings, setting_count, config, why);
	if (r == 0)
		r = ops->open(config, name_copy, why, &opened);
	if (r < 0) {
		if (why->len == 0)
			buf_printf(why, "%s", err_sentence(r));
		option_release(ops->options, config);
		mem_free(config);
		return r;
	}
	opened->ops = ops;
	opened->inner = NULL;
	opened->name = STEAL(name_copy);
	opened->config = config;
	*backend = opened;
	return 0;
}

void backend_close(struct backend *backend)
{
	const struct backend_ops *ops;
	char *name;
	void *config;

	if (!backend)
		return;
	ops = backend->ops;
	name = backend->name;
	config = backend->config;
	ops->close(backend);
	if (config) {
		option_release(ops->options, config);
		mem_free(config);
		mem_free(name);
	}
}

int backend_wrap_init(struct backend *base, const struct backend_ops *ops, struct backend *inner)
{
	char *name = mem_strdup(inner->name);

	if (!name)
		return -ENOMEM;
	*base = (struct backend){.ops = ops, .inner = inner, .name = name};
	return 0;
}

void backend_wrap_release(struct backend *base)
{
	mem_free(STEAL(base->name));
}

static const struct backend *leaf_of(const struct backend *backend)
{
	while (backend->inner)
		backend = backend->inner;
	return backend;
}

struct backend *backend_find(struct backend *backend, const char *type)
{
	while (backend && strcmp(backend->ops->type, type) != 0)
		backend = backend->inner;
	return backend;
}

int backend_init(struct backend *backend, const uint8_t fs_id[BACKEND_FS_ID_SIZE], struct buf *why)
{
	struct backend *leaf = (struct backend *)leaf_of(backend);

	return leaf->ops->init(leaf, fs_id, why);
}

void backend_bind(struct backend *backend, const uint8_t fs_id[BACKEND_FS_ID_SIZE])
{
	struct backend *leaf = (struct backend *)leaf_of(backend);

	leaf->ops->bind(leaf, fs_id);
}

const char *backend_name(const struct backend *backend)
{
	return backend->name;
}

const char *backend_type(const struct backend *backend)
{
	return leaf_of(backend)->ops->type;
}

unsigned backend_can(const struct backend *backend)
{
	return leaf_of(backend)->ops->can;
}

int backend_space(const struct backend *backend, uint64_t *total_bytes, uint64_t *free_bytes)
{
	const struct backend *leaf = leaf_of(backend);

	return leaf->ops->space ? leaf->ops->space(leaf, total_bytes, free_bytes) : -ENODATA;
}

/* ---- keys and names ---- */

static bool is_fan_out(const char *s, size_t len)
{
	return len == 2 && strspn(s, "0123456789abcdef") >= 2;
}

bool backend_key_is_valid(const char *key)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strnlen(key, BACKEND_KEY_MAX + 1);
	const char *part = key;

	if (len < 1 || len > BACKEND_KEY_MAX)
		return false;
	for (;;) {
		size_t part_len = strcspn(part, "/");

		if (part_len == 0 || part[0] == '.' || strspn(part, allowed) < part_len)
			return false;
		if (part == key && is_fan_out(part, part_len))
			return false;
		if (part[part_len] == '\0')
			return true;
		part += part_len + 1;
	}
}

const char *backend_op_name(enum backend_op op)
{
	static const char *const names[] = {"PUT", "GET", "HEAD", "DELETE", "LIST", "RESTORE"};

	return (unsigned)op < ARRAY_COUNT(names) ? names[op] : "?";
}

const char *backend_tier_name(enum backend_tier tier)
{
	static const char *const names[] = {"hot", "warm", "cold", "archive"};

	return (unsigned)tier < ARRAY_COUNT(names) ? names[tier] : "?";
}

void backend_list_release(struct backend_list *list)
{
	mem_free(list->entries);
	*list = (struct backend_list)BACKEND_LIST_INIT;
}

struct backend_entry *backend_list_next(struct backend_list *list)
{
	struct backend_entry *entry;

	if (list->count == list->capacity) {
		size_t capacity = MAX(list->capacity * 2, (size_t)64);

		entry = mem_realloc_array(list->entries, capacity, sizeof(*entry));
		if (!entry)
			return NULL;
		list->entries = entry;
		list->capacity = capacity;
	}
	entry = &list->entries[list->count];
	memset(entry, 0, sizeof(*entry));
	return entry;
}

/* ---- requests ---- */

static bool put_is_valid(const struct backend_req *req)
{
	return (req->flags & ~BACKEND_CREATE_ONLY) == 0 && req->body.len <= BACKEND_BODY_BYTES_MAX;
}

static bool get_is_valid(const struct backend_req *req)
{
	bool is_to_end = req->len == BACKEND_TO_END;

	if ((req->flags & ~BACKEND_TAIL) != 0 || (!req->into && !req->out))
		return false;
	if (req->into && is_to_end)
		return false;
	if (req->flags & BACKEND_TAIL)
		return req->offset == 0 && !is_to_end && req->len <= BACKEND_BODY_BYTES_MAX;
	return req->offset <= INT64_MAX && (is_to_end || req->len <= BACKEND_BODY_BYTES_MAX);
}

/* A prefix is the beginning of a key, or of none: only its characters matter. */
static bool list_is_valid(const struct backend_req *req)
{
	return req->flags == 0 && req->list && req->entries_max <= BACKEND_LIST_MAX &&
	       strnlen(req->key, BACKEND_KEY_MAX + 1) <= BACKEND_KEY_MAX &&
	       (!req->cursor || strnlen(req->cursor, BACKEND_CURSOR_SIZE) < BACKEND_CURSOR_SIZE);
}

static bool req_is_valid(const struct backend_req *req)
{
	if (!req->key || !req->done)
		return false;
	if (req->op == BACKEND_LIST)
		return list_is_valid(req);
	if (!backend_key_is_valid(req->key))
		return false;
	if (req->op == BACKEND_PUT)
		return put_is_valid(req);
	if (req->op == BACKEND_GET)
		return get_is_valid(req);
	return req->flags == 0 && req->op < BACKEND_OP_COUNT;
}

void backend_clear_answer(struct backend_req *req)
{
	req->error = 0;
	req->cause[0] = '\0';
	req->is_absent = false;
	req->retry_after_ms = 0;
	req->got = 0;
	req->size = 0;
	req->mtime = (struct wall_time){0};
	req->tier = BACKEND_HOT;
	req->is_restoring = false;
	req->server_ms = 0;
}

int backend_submit(struct backend *backend, struct backend_req *req)
{
	backend_clear_answer(req);
	if (!req_is_valid(req))
		return -EINVAL;
	list_init(&req->link);
	atomic_store(&req->is_canceled, false);
	req->frame_count = 0;
	return backend->ops->submit(backend, req);
}

int backend_submit_inner(struct backend *owner, struct backend_req *req)
{
	return owner->inner->ops->submit(owner->inner, req);
}

void backend_cancel(struct backend *backend, struct backend_req *req)
{
	atomic_store(&req->is_canceled, true);
	for (; backend; backend = backend->inner)
		if (backend->ops->cancel)
			backend->ops->cancel(backend, req);
}

struct backend_frame *backend_push(struct backend *owner, struct backend_req *req)
{
	struct backend_frame *frame;

	assert(req->frame_count < BACKEND_FRAMES_MAX);
	frame = &req->frames[req->frame_count++];
	*frame = (struct backend_frame){.owner = owner};
	return frame;
}

void backend_pop(struct backend_req *req)
{
	assert(req->frame_count > 0);
	req->frame_count--;
}

void backend_pass_on(struct backend_req *req)
{
	struct backend_frame frame;

	if (req->frame_count == 0) {
		req->done(req);
		return;
	}
	frame = req->frames[--req->frame_count];
	frame.owner->ops->answered(frame.owner, req, frame);
}

/* What is not in the closed list becomes -EIO. */
static int closed_list(int error)
{
	switch (error) {
	case 0:
	case -ENOENT:
	case -EEXIST:
	case -EAGAIN:
	case -EACCES:
	case -ENOSPC:
	case -ENOMEDIUM:
	case -EBADMSG:
	case -ECANCELED:
		return error;
	default:
		return -EIO;
	}
}

void backend_answer(struct backend_req *req, int error, const char *format, ...)
{
	req->error = closed_list(error);
	req->cause[0] = '\0';
	if (error != 0 && format) {
		va_list args;

		va_start(args, format);
		vsnprintf(req->cause, sizeof(req->cause), format, args);
		va_end(args);
	} else if (error != 0) {
		snprintf(req->cause, sizeof(req->cause), "%s", err_sentence(error));
	}
	backend_pass_on(req);
}

/* ---- waiting ---- */

static void run_done(struct backend_req *req)
{
	sem_post(req->ctx);
}

int backend_run(struct backend *backend, struct backend_req *req)
{
	sem_t sem;
	int r;

	sem_init(&sem, 0, 0);
	req->done = run_done;
	req->ctx = &sem;
	r = backend_submit(backend, req);
	if (r < 0) {
		req->error = r;
		if (req->cause[0] == '\0')
			snprintf(req->cause, sizeof(req->cause), "%s",
				 r == -EAGAIN ? "too many requests are queued" : err_sentence(r));
	}
	while (r == 0 && sem_wait(&sem) < 0)
		assert(errno == EINTR);
	sem_destroy(&sem);
	return req->error;
}
