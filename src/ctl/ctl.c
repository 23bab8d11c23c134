/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs of the control channel.
 *
 *   queued -> running -> ended -> (read to the end, or old) -> forgotten
 *
 * There are at most CTL_JOBS_MAX; when the table is full the oldest ended job
 * makes room, and when all are running a new one is refused with -EBUSY.
 */
#include "ctl/ctl_private.h"

#include "ctl/ctl_client.h"
#include "ctl/ctl_private.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/list.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CTL_THREADS  4u
#define CTL_KEEP_MS  (600 * 1000ull)
#define CTL_SCHEMA   1

struct ctl_job {
	struct list link; /* ctl->jobs, oldest first; ctl's lock, as all below */
	uint64_t no;
	uint32_t uid;
	struct audit_who who; /* the program that asked */
	struct inode *inode;
	const struct ctl_verb *verb;
	json_t *args;
	uint32_t state; /* enum shardfs_ctl_state */
	bool is_queued, is_cancelled;
	enum ctl_exit exit_code;
	char *text; /* the answer, or progress while running */
	size_t text_len;
	uint64_t ended_ms;
};

struct ctl {
	struct store *store;
	uint32_t owner_uid;
	struct ctl_front front;
	struct lock lock; /* LOCK_CTL: guards all below */
	struct cond work, cancelled;
	struct list jobs;
	unsigned job_count;
	bool is_swept; /* a thread is at it, or was: what dead clones left */
	uint64_t next_no;
	bool is_stopping;
	pthread_t threads[CTL_THREADS];
	unsigned thread_count;
};

/* ---- helpers of verbs ---- */

enum ctl_exit ctl_fail(struct ctl_call *call, enum ctl_exit code, const char *format, ...)
{
	AUTO(buf) text = BUF_INIT;
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	json_object_set_new(call->answer, "ok", json_false());
	json_object_set_new(call->answer, "error", json_string(text.len ? buf_str(&text) : "failed"));
	return code;
}

/* The job's text becomes that of value. */
static void set_text_locked(struct ctl_job *job, const json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;

	ctl_free_text(job->text);
	job->text = text;
	job->text_len = text ? strlen(text) : 0;
}

void ctl_progress(struct ctl_call *call, json_t *progress)
{
	lock_take(&call->ctl->lock);
	set_text_locked(call->job, progress);
	lock_drop(&call->ctl->lock);
	json_decref(progress);
}

bool ctl_is_cancelled(struct ctl_call *call)
{
	LOCK_SCOPE(&call->ctl->lock);
	return call->job->is_cancelled || call->ctl->is_stopping;
}

bool ctl_is_stopping(struct ctl *ctl)
{
	LOCK_SCOPE(&ctl->lock);
	return ctl->is_stopping;
}

struct store *ctl_store(struct ctl *ctl)
{
	return ctl->store;
}

const struct ctl_front *ctl_front(struct ctl *ctl)
{
	return &ctl->front;
}

void ctl_pause(struct ctl_call *call, uint64_t ms)
{
	LOCK_SCOPE(&call->ctl->lock);
	if (!call->job->is_cancelled && !call->ctl->is_stopping)
		cond_wait_ms(&call->ctl->cancelled, &call->ctl->lock, ms);
}

/* ---- running ---- */

void ctl_put_common_keys(struct ctl_call *call)
{
	char time[CLOCK_RFC3339_SIZE], id[33];

	for (unsigned i = 0; i < sizeof(call->store->fs_id); i++)
		snprintf(id + 2 * i, 3, "%02x", call->store->fs_id[i]);
	json_object_set_new(call->answer, "schema", json_integer(CTL_SCHEMA));
	json_object_set_new(call->answer, "time", json_string(clock_rfc3339(clock_wall(), time)));
	json_object_set_new(call->answer, "fs", json_string(id));
	json_object_set_new(call->answer, "generation",
			    json_integer((json_int_t)sequencer_last_seq(call->store->sequencer)));
	json_object_set_new(call->answer, "epoch",
			    json_integer(keyring_current_epoch(call->store->keyring)));
	json_object_set_new(call->answer, "ok", json_true());
}

/* Numbers, switches and a few names: never a text that may be a secret. */
static json_t *open_args(const json_t *args)
{
	static const char *const open_texts[] = {"policy", "provider", "name", "verb"};
	json_t *out = json_object();
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)args, key, value) {
		bool is_open = json_is_number(value) || json_is_boolean(value);

		for (size_t i = 0; i < ARRAY_COUNT(open_texts); i++)
			is_open = is_open || strcmp(key, open_texts[i]) == 0;
		if (is_open)
			json_object_set(out, key, value);
	}
	return out;
}

static void audit_job(struct ctl *ctl, struct ctl_job *job, enum ctl_exit code)
{
	struct audit_event event = {.kind = "command", .what = job->verb->name, .who = job->who};
	json_t *details;
	char result[24];
	char *text;

	if (job->verb->kind != CTL_ACTION && code != CTL_DENIED)
		return;
	details = open_args(job->args);
	json_object_set_new(details, "inode", json_integer((json_int_t)job->inode->row.ino));
	text = json_dumps(details, JSON_COMPACT);
	json_decref(details);
	snprintf(result, sizeof(result), code == CTL_DENIED ? "denied" : code ? "exit %u" : "ok",
		 (unsigned)code);
	event.details = text;
	event.result = result;
	store_audit(ctl->store, &event); /* on failure it is counted and logged there */
	ctl_free_text(text);
}

static void run_job(struct ctl *ctl, struct ctl_job *job, struct index_reader *reader)
{
	struct ctl_call call = {
		.ctl = ctl,
		.store = ctl->store,
		.reader = reader,
		.inode = job->inode,
		.uid = job->uid,
		.args = job->args,
		.answer = json_object(),
		.job = job,
	};
	enum ctl_exit code = CTL_FAILED;
	char why[240];

	if (call.answer) {
		ctl_put_common_keys(&call);
		if (job->verb->needs_owner && job->uid != 0 && job->uid != ctl->owner_uid)
			code = ctl_fail(&call, CTL_DENIED,
					"%s: only root and the owner of the mount may do this",
					job->verb->name);
		else if (job->verb->kind == CTL_ACTION && job->verb->needs_owner &&
			 !store_may_write(ctl->store, why))
			code = ctl_fail(&call, CTL_REFUSED, "%s: read-only: %s", job->verb->name,
					why);
		else
			code = job->verb->run(&call);
	}
	audit_job(ctl, job, code);
	inode_unref(ctl->store->inodes, job->inode, 1);
	lock_take(&ctl->lock);
	job->inode = NULL;
	set_text_locked(job, call.answer);
	job->exit_code = code;
	job->state = job->is_cancelled ? SHARDFS_CTL_CANCELLED : SHARDFS_CTL_DONE;
	job->ended_ms = clock_mono_ms();
	lock_drop(&ctl->lock);
	json_decref(call.answer);
}

static struct ctl_job *next_queued_locked(struct ctl *ctl)
{
	list_for_each(pos, &ctl->jobs) {
		struct ctl_job *job = container_of(pos, struct ctl_job, link);

		if (job->is_queued)
			return job;
	}
	return NULL;
}

static void *ctl_thread(void *arg)
{
	struct ctl *ctl = arg;
	struct index_reader *reader = NULL;
	int r = index_reader_open(ctl->store->index, &reader);

	if (r < 0) {
		log_error("control-thread-failed", "error=%s", err_name(r));
		return NULL;
	}
	lock_take(&ctl->lock);
	if (!ctl->is_swept) {
		ctl->is_swept = true;
		lock_drop(&ctl->lock);
		ctl_sweep_clones(ctl, reader);
		lock_take(&ctl->lock);
	}
	while (!ctl->is_stopping) {
		struct ctl_job *job = next_queued_locked(ctl);

		if (!job) {
			cond_wait(&ctl->work, &ctl->lock);
			continue;
		}
		job->is_queued = false;
		lock_drop(&ctl->lock);
		run_job(ctl, job, reader);
		lock_take(&ctl->lock);
	}
	lock_drop(&ctl->lock);
	index_reader_close(reader);
	return NULL;
}

/* ---- the table of jobs ---- */

static void forget_locked(struct ctl *ctl, struct ctl_job *job)
{
	list_remove(&job->link);
	ctl->job_count--;
	json_decref(job->args);
	ctl_free_text(job->text);
	mem_free(job);
}

/* Old answers go; when the table is full, the oldest one that has ended. */
static void make_room_locked(struct ctl *ctl)
{
	uint64_t now = clock_mono_ms();

	list_for_each(pos, &ctl->jobs) {
		struct ctl_job *job = container_of(pos, struct ctl_job, link);
		bool has_ended = job->state != SHARDFS_CTL_RUNNING;

		if (has_ended &&
		    (now - job->ended_ms > CTL_KEEP_MS || ctl->job_count >= CTL_JOBS_MAX))
			forget_locked(ctl, job);
	}
}

static int submit(struct ctl *ctl, struct inode *inode, const struct audit_who *who,
		  struct shardfs_ctl *msg)
{
	uint32_t uid = who->uid;
	const char *name;
	struct ctl_job *job;
	json_t *args;

	if (msg->len > SHARDFS_CTL_DATA_BYTES)
		return -EINVAL;
	args = json_loadb(msg->data, msg->len, JSON_REJECT_DUPLICATES, NULL);
	mem_wipe(msg->data, sizeof(msg->data)); /* it may hold a passphrase, and is sent back */
	name = json_string_value(json_object_get(args, "verb"));
	job = name && ctl_find_verb(name) ? mem_alloc(sizeof(*job)) : NULL;
	if (!job) {
		int r = name && ctl_find_verb(name) ? -ENOMEM : -EINVAL;

		json_decref(args);
		return r;
	}
	job->verb = ctl_find_verb(name);
	job->args = args;
	job->uid = uid;
	job->who = *who;
	job->state = SHARDFS_CTL_RUNNING;
	job->is_queued = true;
	LOCK_SCOPE(&ctl->lock);
	make_room_locked(ctl);
	if (ctl->job_count >= CTL_JOBS_MAX || ctl->is_stopping) {
		json_decref(args);
		mem_free(job);
		return -EBUSY;
	}
	inode_ref(inode, 1);
	job->inode = inode;
	job->no = ctl->next_no++;
	list_push_back(&ctl->jobs, &job->link);
	ctl->job_count++;
	cond_wake_one(&ctl->work);
	msg->job = job->no;
	msg->state = SHARDFS_CTL_RUNNING;
	msg->len = 0;
	return 0;
}

/* The caller's job; NULL with *error set. */
static struct ctl_job *find_job_locked(struct ctl *ctl, uint64_t no, uint32_t uid, int *error)
{
	*error = -ENOENT;
	list_for_each(pos, &ctl->jobs) {
		struct ctl_job *job = container_of(pos, struct ctl_job, link);

		if (job->no != no)
			continue;
		if (uid == 0 || uid == job->uid)
			return job;
		*error = -EPERM;
	}
	return NULL;
}

static int poll_job(struct ctl *ctl, uint32_t uid, struct shardfs_ctl *msg)
{
	struct ctl_job *job;
	uint64_t left;
	int r;

	LOCK_SCOPE(&ctl->lock);
	job = find_job_locked(ctl, msg->job, uid, &r);
	if (!job)
		return r;
	if (msg->offset > job->text_len)
		return -EINVAL;
	left = job->text_len - msg->offset;
	msg->state = job->state;
	msg->exit_code = job->exit_code;
	msg->total = job->text_len;
	msg->len = (uint32_t)MIN(left, (uint64_t)SHARDFS_CTL_DATA_BYTES);
	if (msg->len > 0)
		memcpy(msg->data, job->text + msg->offset, msg->len);
	if (job->state != SHARDFS_CTL_RUNNING && msg->len == left)
		forget_locked(ctl, job);
	return 0;
}

static int cancel_job(struct ctl *ctl, uint32_t uid, struct shardfs_ctl *msg)
{
	struct ctl_job *job;
	int r;

	LOCK_SCOPE(&ctl->lock);
	job = find_job_locked(ctl, msg->job, uid, &r);
	if (!job)
		return r;
	job->is_cancelled = true;
	cond_wake_all(&ctl->cancelled);
	msg->state = job->state;
	msg->len = 0;
	return 0;
}

int ctl_handle(struct ctl *ctl, struct inode *inode, uint32_t uid, uint32_t gid, uint32_t pid,
	       struct shardfs_ctl *msg)
{
	struct audit_who who;

	if (msg->version != SHARDFS_CTL_VERSION)
		return -EPROTONOSUPPORT;
	switch (msg->op) {
	case SHARDFS_CTL_SUBMIT:
		who = audit_who(uid, gid, pid);
		return submit(ctl, inode, &who, msg);
	case SHARDFS_CTL_POLL:
		return poll_job(ctl, uid, msg);
	case SHARDFS_CTL_CANCEL:
		return cancel_job(ctl, uid, msg);
	default:
		return -EINVAL;
	}
}

/* ---- life ---- */

int ctl_open(struct store *store, uint32_t owner_uid, const struct ctl_front *front,
	     struct ctl **out)
{
	struct ctl *ctl = mem_alloc(sizeof(*ctl));

	if (!ctl)
		return -ENOMEM;
	ctl->store = store;
	ctl->owner_uid = owner_uid;
	if (front)
		ctl->front = *front;
	ctl->next_no = 1;
	lock_init(&ctl->lock, LOCK_CTL);
	cond_init(&ctl->work);
	cond_init(&ctl->cancelled);
	list_init(&ctl->jobs);
	for (; ctl->thread_count < CTL_THREADS; ctl->thread_count++) {
		int r = thread_start(&ctl->threads[ctl->thread_count], "control", ctl_thread, ctl);

		if (r < 0) {
			ctl_close(ctl);
			return r;
		}
	}
	*out = ctl;
	return 0;
}

void ctl_close(struct ctl *ctl)
{
	if (!ctl)
		return;
	lock_take(&ctl->lock);
	ctl->is_stopping = true;
	cond_wake_all(&ctl->work);
	cond_wake_all(&ctl->cancelled);
	lock_drop(&ctl->lock);
	for (unsigned i = 0; i < ctl->thread_count; i++)
		pthread_join(ctl->threads[i], NULL);
	list_for_each(pos, &ctl->jobs) {
		struct ctl_job *job = container_of(pos, struct ctl_job, link);

		inode_unref(ctl->store->inodes, job->inode, 1);
		forget_locked(ctl, job);
	}
	cond_release(&ctl->work);
	cond_release(&ctl->cancelled);
	lock_release(&ctl->lock);
	mem_free(ctl);
}
