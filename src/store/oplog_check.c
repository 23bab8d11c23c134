/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Are the index objects of a provider whole?  What it ought to have (oplog->files) is compared by
 * name and length, or read and authenticated; what is missing or bad is written again from
 * home/oplog, or from another provider when that one is bad too, and read back.  What lies there
 * besides, of older states, is read as well and repaired from others.
 *
 * Nothing is written that was not authenticated, and nothing to a provider that is fenced.  The
 * lanes may send or prune at the same time: the same bytes go under the same names, and what is not
 * wanted any more is not written.
 */
#include "store/oplog_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct check {
	struct oplog *oplog;
	struct transfer *transfer;
	unsigned provider;
	struct aead_ctx *aead;
	void (*found)(void *ctx, const char *key, const char *kind, bool is_repaired);
	void *ctx;
	struct oplog_check *out;
	bool is_behind; /* something was not sent to it yet: what it lacks is no finding */
};

#define LANE_WAIT_MS   5000u
#define OPLOG_KEY_SIZE (sizeof(OPLOG_PREFIX) + OPLOG_NAME_SIZE)

static void key_of(const struct oplog_name *name, char key[OPLOG_KEY_SIZE])
{
	char text[OPLOG_NAME_SIZE];

	snprintf(key, OPLOG_KEY_SIZE, OPLOG_PREFIX "%s", oplog_name_print(name, text));
}

int oplog_list_at(struct transfer *transfer, unsigned provider, struct oplog_files *out)
{
	struct backend_list page = BACKEND_LIST_INIT;
	int r;

	do {
		struct transfer_request request = {
			.op = BACKEND_LIST, .key = OPLOG_PREFIX, .list = &page};

		r = transfer_request(transfer, provider, &request);
		for (size_t i = 0; i < page.count && r == 0; i++) {
			struct oplog_file file = {.len = page.entries[i].size};

			if (oplog_name_parse(page.entries[i].key + strlen(OPLOG_PREFIX),
					     &file.name) == 0)
				r = oplog_files_add(out, &file);
		}
	} while (r == 0 && page.cursor[0]);
	backend_list_release(&page);
	oplog_files_sort(out);
	return r;
}

static int authenticate(struct check *check, const struct oplog_name *name, struct bytes object)
{
	AUTO(buf) body = BUF_INIT;
	struct digest hash;

	return oplog_open_object(check->oplog->set.keyring, check->aead, name, object, &body, &hash);
}

/* 0: whole; -EBADMSG: not; -ENOENT; or what the provider says. */
static int get_from(struct check *check, unsigned provider, const struct oplog_name *name,
		    struct buf *out)
{
	char key[OPLOG_KEY_SIZE];
	struct transfer_request request = {.op = BACKEND_GET, .flags = BACKEND_TAIL, .key = key,
					   .len = OPLOG_OBJECT_BYTES_MAX, .out = out};
	int r;

	key_of(name, key);
	r = transfer_request(check->transfer, provider, &request);
	return r < 0 ? r : authenticate(check, name, buf_bytes(out));
}

static int get_from_others(struct check *check, const struct oplog_name *name, struct buf *out)
{
	unsigned count = transfer_provider_count(check->transfer);

	for (unsigned i = 0; i < count; i++) {
		bool is_present;

		if (i == check->provider || !transfer_backend(check->transfer, i, &is_present) ||
		    !is_present)
			continue;
		buf_clear(out);
		if (get_from(check, i, name, out) == 0)
			return 0;
	}
	buf_clear(out);
	return -EIO;
}

/* Bytes that authenticate: ours, or another provider's, which then become ours if they were. */
static int get_good(struct check *check, const struct oplog_name *name, bool is_ours,
		    struct buf *out)
{
	char text[OPLOG_NAME_SIZE];
	int r = is_ours ? oplog_dir_read(check->oplog->dir, oplog_name_print(name, text), out)
			: -ENOENT;

	if (r == 0)
		r = authenticate(check, name, buf_bytes(out));
	if (r == 0)
		return 0;
	if (is_ours && r == -ENOENT)
		return r; /* a snapshot has replaced it meanwhile */
	r = get_from_others(check, name, out);
	if (r == 0 && is_ours) {
		log_warn("oplog-file-bad", "file=%s next=\"taken from a provider\"", text);
		oplog_dir_write(check->oplog->dir, text, buf_bytes(out), true);
	}
	return r;
}

static bool is_fenced(struct check *check)
{
	LOCK_SCOPE(&check->oplog->lock);
	for (unsigned i = 0; i < check->oplog->lane_count; i++)
		if (check->oplog->lanes[i].no == check->provider)
			return oplog_lane_is_fenced(&check->oplog->lanes[i]);
	return true;
}

static int repair(struct check *check, const struct oplog_name *name, bool is_ours)
{
	char key[OPLOG_KEY_SIZE];
	struct transfer_request put = {.op = BACKEND_PUT, .key = key};
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) back = BUF_INIT;
	int r = is_fenced(check) ? -EROFS : get_good(check, name, is_ours, &object);

	key_of(name, key);
	put.body = buf_bytes(&object);
	if (r == 0)
		r = HOOK("oplog-heal-before");
	if (r == 0)
		r = transfer_request(check->transfer, check->provider, &put);
	if (r == 0)
		r = HOOK("oplog-heal-after");
	if (r == 0)
		r = get_from(check, check->provider, name, &back);
	if (r == 0 && !bytes_equal(buf_bytes(&back), buf_bytes(&object)))
		r = -EBADMSG;
	return r;
}

static bool is_wanted(struct check *check, const struct oplog_name *name)
{
	AUTO(oplog_files) files = OPLOG_FILES_INIT;

	LOCK_SCOPE(&check->oplog->lock);
	if (oplog_files_copy(&check->oplog->files, &files) < 0)
		return true;
	oplog_files_sort(&files);
	return oplog_files_find(&files, name) != NULL;
}

static void settle(struct check *check, const struct oplog_name *name, bool is_ours,
		   const char *kind)
{
	char key[OPLOG_KEY_SIZE];
	int r;

	if (is_ours && !is_wanted(check, name))
		return; /* a snapshot has replaced it meanwhile */
	r = repair(check, name, is_ours);
	key_of(name, key);
	check->out->bad++;
	check->out->repaired += r == 0;
	if (r == 0)
		log_info("oplog-object-repaired", "key=%s provider=%s was=%s", key,
			 backend_name(transfer_backend(check->transfer, check->provider,
						       &(bool){false})), kind);
	else
		log_warn("oplog-object-bad", "key=%s was=%s error=%s next=\"tried again\"", key, kind,
			 err_name(r));
	check->found(check->ctx, key, kind, r == 0);
}

/* What is there under this name. */
static int look(struct check *check, const struct oplog_file *there, bool is_ours)
{
	AUTO(buf) object = BUF_INIT;
	int r = get_from(check, check->provider, &there->name, &object);

	check->out->objects++;
	check->out->bytes += object.len;
	if (r == 0)
		return 0;
	if (r == -EBADMSG || r == -EIO)
		settle(check, &there->name, is_ours, r == -EIO ? "unreadable" : "corrupt");
	else if (r == -ENOENT && is_ours)
		settle(check, &there->name, is_ours, "missing");
	else if (r != -ENOENT) /* gone: pruned meanwhile */
		check->out->unknown++;
	return r == -ENOMEM || r == -ETIMEDOUT ? r : 0;
}

static int check_ours(struct check *check, const struct oplog_files *ours,
		      const struct oplog_files *there, bool is_deep)
{
	int r = 0;

	for (size_t i = 0; i < ours->count && r == 0; i++) {
		const struct oplog_file *file = &ours->files[i];
		const struct oplog_file *have = oplog_files_find(there, &file->name);

		if (have && have->len == file->len && is_deep) {
			r = look(check, file, true);
			continue;
		}
		check->out->objects++;
		if (!have && !check->is_behind)
			settle(check, &file->name, true, "missing");
		else if (have && have->len != file->len)
			settle(check, &file->name, true,
			       have->len < file->len ? "truncated" : "corrupt");
	}
	return r;
}

static int check_others(struct check *check, const struct oplog_files *ours,
			const struct oplog_files *there)
{
	int r = 0;

	for (size_t i = 0; i < there->count && r == 0; i++)
		if (!oplog_files_find(ours, &there->files[i].name))
			r = look(check, &there->files[i], false);
	return r;
}

/* Whether the provider was sent everything that there was when this began. */
static bool await_lane_locked(struct oplog *oplog, unsigned provider)
{
	uint64_t generation = oplog->generation, until = clock_mono_ms() + LANE_WAIT_MS;
	const struct oplog_lane *lane = NULL;

	for (unsigned i = 0; i < oplog->lane_count; i++)
		if (oplog->lanes[i].no == provider)
			lane = &oplog->lanes[i];
	while (lane && lane->shipped_generation < generation && !oplog->is_ending) {
		uint64_t now = clock_mono_ms();

		if (now >= until)
			return false;
		cond_wait_ms(&oplog->changed, &oplog->lock, until - now);
	}
	return lane && lane->shipped_generation >= generation;
}

int oplog_check(struct oplog *oplog, struct transfer *transfer, unsigned provider, bool is_deep,
		struct aead_ctx *aead,
		void (*found)(void *ctx, const char *key, const char *kind, bool is_repaired),
		void *ctx, struct oplog_check *out)
{
	struct check check = {oplog, transfer, provider, aead, found, ctx, out, false};
	AUTO(oplog_files) there = OPLOG_FILES_INIT;
	AUTO(oplog_files) ours = OPLOG_FILES_INIT;
	int r;

	lock_take(&oplog->lock);
	check.is_behind = !await_lane_locked(oplog, provider);
	r = oplog_files_copy(&oplog->files, &ours);
	lock_drop(&oplog->lock);
	if (r < 0)
		return r;
	oplog_files_sort(&ours);
	r = oplog_list_at(transfer, provider, &there);
	if (r == 0)
		r = check_ours(&check, &ours, &there, is_deep);
	if (r == 0 && is_deep)
		r = check_others(&check, &ours, &there);
	return r;
}

bool oplog_is_fenced(struct oplog *oplog)
{
	bool is_fenced = false;

	LOCK_SCOPE(&oplog->lock);
	for (unsigned i = 0; i < oplog->lane_count; i++)
		is_fenced |= oplog_lane_is_fenced(&oplog->lanes[i]);
	return is_fenced;
}

/* Names of every kind carry the epoch; what is kept of another writer's history says "branch". */
static bool names_epoch(const char *key, uint64_t epoch)
{
	char text[16];

	snprintf(text, sizeof(text), "-%08x-", (unsigned)epoch);
	return strstr(key, "branch") || strstr(key, text);
}

static int look_for_epoch(struct transfer *transfer, unsigned provider, uint64_t epoch, bool *has)
{
	struct backend_list page = BACKEND_LIST_INIT;
	int r;

	do {
		struct transfer_request request = {
			.op = BACKEND_LIST, .key = OPLOG_PREFIX, .list = &page};

		r = transfer_request(transfer, provider, &request);
		for (size_t i = 0; i < page.count && r == 0; i++)
			*has |= names_epoch(page.entries[i].key, epoch);
	} while (r == 0 && !*has && page.cursor[0]);
	backend_list_release(&page);
	return r;
}

bool oplog_has_epoch(struct transfer *transfer, uint64_t epoch)
{
	unsigned count = transfer_provider_count(transfer);
	bool has = false;

	for (unsigned i = 0; i < count && !has; i++)
		if (look_for_epoch(transfer, i, epoch, &has) < 0)
			return true; /* not known: then there may be one */
	return has;
}
