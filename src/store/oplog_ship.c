/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing providers up: one thread for each, so that one that stalls holds up itself alone.
 *
 * A round: when it is present and what it has is not known, LIST; then everything that it lacks, in
 * the order of oplog->files (parts before their root, segments in their order), so that at every
 * moment it shows a state that is whole.  A failure forgets what it has and pauses.
 *
 * Deleting: only when every provider that is present has all of the newest snapshot and what
 * follows; then what lies behind the newest but one goes, roots first, so that no root is ever
 * without its parts.  What an earlier writer left stays for hold_ms after its newest object.
 */
#include "store/oplog_private.h"

#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PAUSE_MIN_MS  1000u
#define PAUSE_MAX_MS  30000u
#define LOOK_MS	      1000u /* for a provider that is away */
#define IDLE_LOOK_MS  5000u /* for one that has everything: is it still there? */

static void run_done(struct backend_req *req)
{
	struct oplog_lane *lane = req->ctx;

	LOCK_SCOPE(&lane->req_lock);
	lane->is_req_done = true;
	cond_wake_all(&lane->req_done);
}

int oplog_lane_request(struct backend *backend, struct backend_req *req, struct oplog_lane *lane)
{
	int r;

	if (!lane)
		return backend_run(backend, req);
	req->done = run_done;
	req->ctx = lane;
	lane->is_req_done = false;
	r = backend_submit(backend, req);
	if (r < 0)
		return r;
	lock_take(&lane->oplog->lock);
	if (lane->oplog->is_ending)
		backend_cancel(backend, req);
	else
		lane->req = req;
	lock_drop(&lane->oplog->lock);
	lock_take(&lane->req_lock);
	while (!lane->is_req_done)
		cond_wait(&lane->req_done, &lane->req_lock);
	lock_drop(&lane->req_lock);
	lock_take(&lane->oplog->lock);
	lane->req = NULL;
	lock_drop(&lane->oplog->lock);
	return req->error;
}

int oplog_list(struct backend *backend, struct oplog_lane *lane, struct oplog_files *out,
	       struct buf *why)
{
	struct backend_list list = BACKEND_LIST_INIT;
	AUTO(oplog_files) found = OPLOG_FILES_INIT;
	int r = 0;

	do {
		struct backend_req req = {.op = BACKEND_LIST, .key = OPLOG_PREFIX,
					  .cursor = list.cursor, .list = &list};

		r = oplog_lane_request(backend, &req, lane);
		if (r < 0)
			buf_printf(why, "LIST: %s", req.cause[0] ? req.cause : err_sentence(r));
		for (size_t i = 0; i < list.count && r == 0; i++) {
			struct oplog_file file = {.len = list.entries[i].size,
						  .made_sec = list.entries[i].mtime.sec};

			if (oplog_name_parse(list.entries[i].key + strlen(OPLOG_PREFIX),
					     &file.name) == 0)
				r = oplog_files_add(&found, &file);
		}
	} while (r == 0 && list.cursor[0]);
	backend_list_release(&list);
	if (r < 0)
		return r;
	oplog_files_sort(&found);
	oplog_files_release(out);
	*out = found;
	found = (struct oplog_files)OPLOG_FILES_INIT;
	return 0;
}

int oplog_send(const char *dir, struct backend *backend, const struct oplog_files *files,
	       const struct oplog_files *remote, struct oplog_lane *lane, struct buf *why)
{
	AUTO(buf) object = BUF_INIT;
	int r = 0;

	for (size_t i = 0; i < files->count && r == 0; i++) {
		const struct oplog_file *file = &files->files[i];
		const struct oplog_file *have = oplog_files_find(remote, &file->name);
		char name[OPLOG_NAME_SIZE], key[sizeof(OPLOG_PREFIX) + OPLOG_NAME_SIZE];
		struct backend_req req = {.op = BACKEND_PUT, .key = key};

		if (have && have->len == file->len)
			continue;
		snprintf(key, sizeof(key), OPLOG_PREFIX "%s", oplog_name_print(&file->name, name));
		buf_clear(&object);
		r = oplog_dir_read(dir, name, &object);
		if (r < 0) {
			/* -ENOENT: a snapshot has replaced it meanwhile */
			buf_printf(why, "%s/%s: %s", dir, name, err_sentence(r));
			break;
		}
		req.body = buf_bytes(&object);
		r = HOOK("oplog-put-before");
		if (r == 0)
			r = oplog_lane_request(backend, &req, lane);
		if (r < 0)
			buf_printf(why, "PUT %s: %s", key,
				   req.cause[0] ? req.cause : err_sentence(r));
	}
	return r;
}

/* ---- deleting ---- */

static bool is_of(const struct oplog_name *part, const struct oplog_name *root)
{
	return part->epoch == root->epoch && part->last == root->last &&
	       memcmp(part->id, root->id, sizeof(part->id)) == 0;
}

/*
 * Whoever recovered an older state, or from too few providers, must be able to change his mind: so
 * what the writer before has left is kept for a while.
 */
static bool keeps_earlier(const struct oplog_lane *lane)
{
	int64_t hold_sec = (int64_t)(lane->oplog->set.hold_ms / 1000), newest = INT64_MIN;

	for (size_t i = 0; i < lane->remote.count; i++)
		if (lane->remote.files[i].name.epoch < lane->oplog->set.writer_epoch)
			newest = MAX(newest, lane->remote.files[i].made_sec);
	return newest != INT64_MIN && newest + hold_sec > clock_wall().sec;
}

static bool is_kept(const struct oplog_name *name, const struct oplog_file *newest,
		    const struct oplog_file *before)
{
	switch (name->kind) {
	case OPLOG_CLAIM:
		return true;
	case OPLOG_SEGMENT:
		return name->last > before->name.first;
	case OPLOG_PART:
	case OPLOG_ROOT:
	default:
		return is_of(name, &newest->name) || is_of(name, &before->name);
	}
}

static int remove_kind(struct oplog_lane *lane, const struct oplog_file *newest,
		       const struct oplog_file *before, enum oplog_kind kind, unsigned *removed)
{
	uint64_t epoch_min = keeps_earlier(lane) ? lane->oplog->set.writer_epoch : 0;
	int r = 0;

	for (size_t i = 0; i < lane->remote.count && r == 0; i++) {
		const struct oplog_name *name = &lane->remote.files[i].name;
		char text[OPLOG_NAME_SIZE], key[sizeof(OPLOG_PREFIX) + OPLOG_NAME_SIZE];
		struct backend_req req = {.op = BACKEND_DELETE, .key = key};

		if (name->kind != kind || name->epoch < epoch_min ||
		    is_kept(name, newest, before))
			continue;
		snprintf(key, sizeof(key), OPLOG_PREFIX "%s", oplog_name_print(name, text));
		r = oplog_lane_request(lane->backend, &req, lane);
		*removed += r == 0;
	}
	return r;
}

/* The newest snapshot is the one that we made; a name alone is not taken for the one before. */
static int find_roots(struct oplog_lane *lane, const struct oplog_files *roots,
		      const struct oplog_file **newest, const struct oplog_file **before)
{
	AUTO(oplog_files) ours = OPLOG_FILES_INIT;
	int r;

	*newest = *before = NULL;
	lock_take(&lane->oplog->lock);
	r = oplog_files_copy(&lane->oplog->files, &ours);
	lock_drop(&lane->oplog->lock);
	oplog_files_sort(&ours);
	for (size_t i = 0; i < roots->count && r == 0 && !*newest; i++)
		if (oplog_files_find(&ours, &roots->files[i].name))
			*newest = &roots->files[i];
	for (size_t i = 0; i < roots->count && r == 0 && *newest && !*before; i++) {
		bool is_real = false;

		if (&roots->files[i] != *newest)
			r = oplog_is_real(lane, &roots->files[i], &is_real, NULL);
		if (r == 0 && is_real)
			*before = &roots->files[i];
	}
	return r < 0 ? r : *before ? 0 : -ENOENT;
}

static void prune(struct oplog_lane *lane)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;
	const struct oplog_file *newest = NULL, *before = NULL;
	unsigned removed = 0;
	int r = oplog_files_roots(&lane->remote, &roots);

	if (r == 0 && roots.count > 1)
		r = find_roots(lane, &roots, &newest, &before);
	if (r < 0 || roots.count < 2)
		return;
	r = remove_kind(lane, newest, before, OPLOG_ROOT, &removed);
	if (r == 0)
		r = remove_kind(lane, newest, before, OPLOG_PART, &removed);
	if (r == 0)
		r = remove_kind(lane, newest, before, OPLOG_SEGMENT, &removed);
	if (removed > 0) {
		log_info("oplog-pruned", "provider=%s objects=%u", lane->name, removed);
		lane->is_listed = false;
	}
}

/* Every provider that is present has everything: then nothing needs what is older. */
static bool may_prune_locked(const struct oplog_lane *lane)
{
	const struct oplog *oplog = lane->oplog;

	if (!lane->is_listed || oplog_lane_is_fenced(lane) || lane->pruned_generation == oplog->generation ||
	    lane->shipped_generation != oplog->generation)
		return false;
	for (unsigned i = 0; i < oplog->lane_count; i++) {
		const struct oplog_lane *other = &oplog->lanes[i];

		if (other->is_present && !oplog_lane_is_fenced(other) &&
		    other->shipped_generation < oplog->generation)
			return false;
	}
	return true;
}

/* ---- a round ---- */

static int bring_up(struct oplog_lane *lane, const struct oplog_files *files, uint64_t upto,
		    struct buf *why)
{
	int r = 0;

	if (!lane->is_listed) {
		r = oplog_list(lane->backend, lane, &lane->remote, why);
		if (r < 0)
			return r;
		if (!lane->is_judged)
			r = oplog_judge(lane, files, upto, why);
		if (r < 0)
			return r;
		lane->is_listed = true;
	}
	if (oplog_lane_is_fenced(lane))
		return 0;
	r = oplog_send(lane->oplog->dir, lane->backend, files, &lane->remote, lane, why);
	for (size_t i = 0; i < files->count && r == 0; i++) {
		const struct oplog_file *have = oplog_files_find(&lane->remote,
								 &files->files[i].name);

		if (!have || have->len != files->files[i].len)
			r = oplog_files_add(&lane->remote, &files->files[i]);
		if (r == 0 && !have)
			oplog_files_sort(&lane->remote);
	}
	return r;
}

static void lane_round(struct oplog_lane *lane)
{
	struct oplog *oplog = lane->oplog;
	AUTO(oplog_files) files = OPLOG_FILES_INIT;
	AUTO(buf) why = BUF_INIT;
	uint64_t generation, covered, upto;
	int r;

	lock_take(&oplog->lock);
	generation = oplog->generation;
	covered = oplog_covered_locked(oplog);
	upto = oplog->upto;
	r = oplog_files_copy(&oplog->files, &files);
	lock_drop(&oplog->lock);
	if (r == 0)
		r = bring_up(lane, &files, upto, &why);
	if (r < 0) {
		lane->is_listed = false;
		if (!lane->is_failing && r != -ECANCELED && r != -ENOENT)
			log_warn("oplog-not-sent", "provider=%s error=%s cause=" LOG_Q
				 " next=\"tried again\"", lane->name, err_name(r), buf_str(&why));
		lane->is_failing = r != -ENOENT;
		lane->pause_ms = MIN(MAX(2 * lane->pause_ms, (uint64_t)PAUSE_MIN_MS),
				     (uint64_t)PAUSE_MAX_MS);
		return;
	}
	if (lane->is_failing)
		log_info("oplog-sent-again", "provider=%s", lane->name);
	lane->is_failing = false;
	lane->pause_ms = 0;
	if (oplog_lane_is_fenced(lane))
		return;
	lock_take(&oplog->lock);
	lane->shipped_generation = generation;
	lane->shipped_seq = covered;
	cond_wake_all(&oplog->changed);
	lock_drop(&oplog->lock);
	oplog_remember(lane, upto);
	oplog_tell(oplog);
}

/* Until there is something to do; false: the end. */
static bool lane_rest(struct oplog_lane *lane)
{
	struct oplog *oplog = lane->oplog;
	uint64_t begun = clock_mono_ms();

	LOCK_SCOPE(&oplog->lock);
	for (;;) {
		bool is_behind = lane->shipped_generation < oplog->generation && !oplog_lane_is_fenced(lane);
		uint64_t waited = clock_mono_ms() - begun;
		bool is_present;

		if (oplog->is_ending)
			return false;
		transfer_backend(oplog->transfer, lane->no, &is_present);
		if (is_present != lane->is_present) {
			lane->is_present = is_present;
			/* it may have changed */
			lane->is_listed = lane->is_judged = false;
			lane->shipped_generation = 0;
			lane->pause_ms = 0;
			cond_wake_all(&oplog->changed);
		}
		if (is_present && waited >= lane->pause_ms &&
		    (is_behind || !lane->is_listed || may_prune_locked(lane)))
			return true;
		cond_wait_ms(&oplog->changed, &oplog->lock,
			     is_behind || !lane->is_listed ? LOOK_MS : IDLE_LOOK_MS);
	}
}

static void *lane_run(void *arg)
{
	struct oplog_lane *lane = arg;

	while (lane_rest(lane)) {
		uint64_t generation;
		bool may_prune;

		lane_round(lane);
		lock_take(&lane->oplog->lock);
		may_prune = may_prune_locked(lane);
		if (may_prune)
			lane->pruned_generation = lane->oplog->generation;
		generation = lane->pruned_generation;
		lock_drop(&lane->oplog->lock);
		if (!may_prune)
			continue;
		prune(lane);
		lock_take(&lane->oplog->lock);
		lane->pruned_upto = generation;
		lock_drop(&lane->oplog->lock);
	}
	return NULL;
}

/* ---- life ---- */

int oplog_lanes_start(struct oplog *oplog)
{
	unsigned count = transfer_provider_count(oplog->transfer);

	struct oplog_lane *lanes = mem_alloc_array(MAX(count, 1u), sizeof(*lanes));

	if (!lanes)
		return -ENOMEM;
	lock_take(&oplog->lock); /* others look at them from now on */
	oplog->lanes = lanes;
	for (unsigned i = 0; i < count; i++) {
		struct oplog_lane *lane = &oplog->lanes[oplog->lane_count];
		bool is_present;

		lane->backend = transfer_backend(oplog->transfer, i, &is_present);
		if (!lane->backend)
			continue;
		lane->oplog = oplog;
		lock_init(&lane->req_lock, LOCK_LEAF);
		cond_init(&lane->req_done);
		lane->no = i;
		lane->name = backend_name(lane->backend);
		oplog->lane_count++;
	}
	lock_drop(&oplog->lock);
	for (unsigned i = 0; i < oplog->lane_count; i++) {
		int r = thread_start(&oplog->lanes[i].thread, "oplog-send", lane_run,
				     &oplog->lanes[i]);

		if (r < 0)
			return r;
		oplog->lanes[i].is_running = true;
	}
	return 0;
}

void oplog_lanes_cancel(struct oplog *oplog)
{
	LOCK_SCOPE(&oplog->lock);
	for (unsigned i = 0; i < oplog->lane_count; i++)
		if (oplog->lanes[i].req)
			backend_cancel(oplog->lanes[i].backend, oplog->lanes[i].req);
}

void oplog_lanes_join(struct oplog *oplog)
{
	for (unsigned i = 0; i < oplog->lane_count; i++) {
		if (oplog->lanes[i].is_running)
			pthread_join(oplog->lanes[i].thread, NULL);
		oplog_files_release(&oplog->lanes[i].remote);
		cond_release(&oplog->lanes[i].req_done);
		lock_release(&oplog->lanes[i].req_lock);
	}
	lock_take(&oplog->lock);
	mem_free(oplog->lanes);
	oplog->lanes = NULL;
	oplog->lane_count = 0;
	lock_drop(&oplog->lock);
}

void oplog_fence(struct oplog *oplog, bool is_fenced)
{
	LOCK_SCOPE(&oplog->lock);

	oplog->is_fenced = is_fenced;
	cond_wake_all(&oplog->changed);
}
