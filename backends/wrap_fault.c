/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/wrap_fault.h"

#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/*
 * submit picks a rule; what has to change the answer travels in a frame and
 * acts in fault_answered().  Held requests sit in one list with what is to
 * become of them: go on inward (STALL), or be passed on as they were answered
 * (LATE).  LANDS_LATE answers at once and keeps a copy of the request, a
 * ghost, that is submitted at the release; close releases no ghost: a PUT that
 * never lands is a fault like any other.
 */

#define CONTROL_POLL_MS 20

enum { WORD_MODE, WORD_ERROR, WORD_RETRY_AFTER };
#define MODE_HELD_INWARD  100 /* in the held list: submit it */
#define MODE_HELD_OUTWARD 101 /* in the held list: it was answered */
#define MODE_NONE	  102

struct rule {
	struct list link;
	struct fault_rule rule;
	uint64_t fitted;
};

/* A request that outlives its asker's. */
struct ghost {
	struct list link;
	struct backend_req req;
	struct buf body;
	char key[BACKEND_KEY_MAX + 1];
};

struct fault_backend {
	struct backend base;
	char *control_path; /* NULL: none */
	pthread_t poller;

	struct lock lock; /* LOCK_BACKEND: all below */
	struct cond changed;
	struct list rules, held, ghosts;
	size_t held_count;
	uint64_t fired_count, seen_count[BACKEND_OP_COUNT];
	struct buf previous; /* bytes of the last GET, while a SWAP rule is there */
	char previous_key[BACKEND_KEY_MAX + 1];
	bool is_swapping, is_closing;
	struct timespec control_mtime;
	off_t control_size;
	ino_t control_ino;
};

static struct backend_req *req_of(struct list *link)
{
	return container_of(link, struct backend_req, link);
}

static struct backend_frame *frame_of(struct backend_req *req)
{
	return &req->frames[req->frame_count - 1];
}

/* ---- rules ---- */

static bool rule_fits(const struct fault_rule *rule, const struct backend_req *req)
{
	if (rule->ops != 0 && !(rule->ops & BIT(req->op)))
		return false;
	return strncmp(req->key, rule->prefix, strlen(rule->prefix)) == 0;
}

static bool pick_locked(struct fault_backend *fault, const struct backend_req *req,
			struct fault_rule *picked)
{
	list_for_each(link, &fault->rules) {
		struct rule *rule = container_of(link, struct rule, link);
		uint64_t nth = MAX(rule->rule.nth, (uint64_t)1);

		if (!rule_fits(&rule->rule, req))
			continue;
		rule->fitted++;
		if (rule->fitted < nth ||
		    (rule->rule.count > 0 && rule->fitted - nth >= rule->rule.count))
			continue;
		*picked = rule->rule;
		fault->fired_count++;
		return true;
	}
	return false;
}

static void clear_locked(struct fault_backend *fault)
{
	list_for_each(link, &fault->rules) {
		list_remove(link);
		mem_free(container_of(link, struct rule, link));
	}
	fault->is_swapping = false;
}

static int add_locked(struct fault_backend *fault, const struct fault_rule *picked)
{
	struct rule *rule = mem_alloc(sizeof(*rule));

	if (!rule)
		return -ENOMEM;
	rule->rule = *picked;
	list_push_back(&fault->rules, &rule->link);
	fault->is_swapping |= picked->mode == FAULT_SWAP;
	return 0;
}

/* ---- what becomes of a request ---- */

static void hold_locked(struct fault_backend *fault, struct backend_req *req, uint64_t how)
{
	backend_push(&fault->base, req)->word[WORD_MODE] = how;
	list_push_back(&fault->held, &req->link);
	fault->held_count++;
	cond_wake_all(&fault->changed);
}

/* Answers without the inner backend. */
static void answer_now(struct backend_req *req, const struct fault_rule *rule)
{
	req->retry_after_ms = rule->retry_after_ms;
	if (rule->mode == FAULT_ABSENT) {
		req->is_absent = true;
		backend_answer(req, -EAGAIN, "absent: injected");
	} else {
		backend_answer(req, rule->error, "injected %s", err_name(rule->error));
	}
}

static int hold_ghost(struct fault_backend *fault, const struct backend_req *req)
{
	struct ghost *ghost = mem_alloc(sizeof(*ghost));

	if (!ghost || buf_append(&ghost->body, req->body) < 0) {
		mem_free(ghost);
		return -ENOMEM;
	}
	snprintf(ghost->key, sizeof(ghost->key), "%s", req->key);
	ghost->req.op = req->op;
	ghost->req.flags = req->flags;
	ghost->req.key = ghost->key;
	ghost->req.body = buf_bytes(&ghost->body);
	LOCK_SCOPE(&fault->lock);
	list_push_back(&fault->ghosts, &ghost->link);
	fault->held_count++;
	cond_wake_all(&fault->changed);
	return 0;
}

static void ghost_free(struct ghost *ghost)
{
	buf_release(&ghost->body);
	mem_free(ghost);
}

static void ghost_done(struct backend_req *req)
{
	ghost_free(container_of(req, struct ghost, req));
}

static int submit_watched(struct fault_backend *fault, struct backend_req *req,
			  const struct fault_rule *rule)
{
	struct backend_frame *frame = backend_push(&fault->base, req);
	int r;

	frame->word[WORD_MODE] = rule ? rule->mode : MODE_NONE;
	frame->word[WORD_ERROR] = rule ? (uint64_t)-rule->error : 0;
	frame->word[WORD_RETRY_AFTER] = rule ? rule->retry_after_ms : 0;
	r = backend_submit_inner(&fault->base, req);
	if (r < 0)
		backend_pop(req);
	return r;
}

static bool is_changing(const struct backend_req *req)
{
	return req->op == BACKEND_PUT || req->op == BACKEND_DELETE || req->op == BACKEND_RESTORE;
}

static int fault_apply(struct fault_backend *fault, struct backend_req *req,
		       const struct fault_rule *rule)
{
	switch (rule->mode) {
	case FAULT_UNTAKEN:
		return rule->error;
	case FAULT_ERROR:
	case FAULT_ABSENT:
		answer_now(req, rule);
		return 0;
	case FAULT_LANDED:
		/* What only reads has nothing to land, and must not leave a result. */
		if (is_changing(req))
			return submit_watched(fault, req, rule);
		answer_now(req, rule);
		return 0;
	case FAULT_LANDS_LATE:
		if (is_changing(req) && hold_ghost(fault, req) < 0)
			return -EAGAIN;
		answer_now(req, rule);
		return 0;
	case FAULT_STALL:
		lock_take(&fault->lock);
		hold_locked(fault, req, MODE_HELD_INWARD);
		lock_drop(&fault->lock);
		return 0;
	default:
		return submit_watched(fault, req, rule);
	}
}

static void control_read(struct fault_backend *fault);

static int fault_submit(struct backend *backend, struct backend_req *req)
{
	struct fault_backend *fault = container_of(backend, struct fault_backend, base);
	struct fault_rule rule;
	bool is_picked, is_swapping;

	if (fault->control_path)
		control_read(fault);
	lock_take(&fault->lock);
	fault->seen_count[req->op]++;
	is_picked = pick_locked(fault, req, &rule);
	is_swapping = fault->is_swapping;
	lock_drop(&fault->lock);
	if (is_picked)
		return fault_apply(fault, req, &rule);
	if (is_swapping && req->op == BACKEND_GET)
		return submit_watched(fault, req, NULL);
	return backend_submit_inner(backend, req);
}

/* The bytes that a GET delivered. */
static uint8_t *delivered(const struct backend_req *req)
{
	return req->into ? req->into : req->out->ptr + (req->out->len - req->got);
}

static void truncate_get(struct backend_req *req)
{
	if (req->got == 0)
		return;
	if (req->into)
		req->into[req->got - 1] = 0;
	else
		req->out->len--;
	req->got--;
}

/* Exchanges the bytes for those of the GET before, when that was another key's. */
static void remember_get(struct fault_backend *fault, struct backend_req *req, bool is_swap)
{
	AUTO(buf) mine = BUF_INIT;
	LOCK_SCOPE(&fault->lock);

	if (buf_append(&mine, bytes_of(delivered(req), req->got)) < 0)
		return;
	if (is_swap && req->got > 0 && fault->previous.len == req->got &&
	    strcmp(fault->previous_key, req->key) != 0)
		memcpy(delivered(req), fault->previous.ptr, req->got);
	buf_swap(&fault->previous, &mine);
	snprintf(fault->previous_key, sizeof(fault->previous_key), "%s", req->key);
}

static void spoil_get(struct fault_backend *fault, struct backend_req *req, uint64_t mode)
{
	if (mode == FAULT_CORRUPT && req->got > 0)
		delivered(req)[req->got / 2] ^= 0x10;
	if (mode == FAULT_TRUNCATE)
		truncate_get(req);
	if ((mode == FAULT_SWAP || mode == MODE_NONE) && (req->into || req->out->ptr))
		remember_get(fault, req, mode == FAULT_SWAP);
}

static void fault_answered(struct backend *backend, struct backend_req *req,
			   struct backend_frame frame)
{
	struct fault_backend *fault = container_of(backend, struct fault_backend, base);
	uint64_t mode = frame.word[WORD_MODE];

	if (mode == FAULT_LANDED) {
		int error = -(int)frame.word[WORD_ERROR];

		req->retry_after_ms = (uint32_t)frame.word[WORD_RETRY_AFTER];
		backend_answer(req, error, "injected %s after it happened", err_name(error));
		return;
	}
	if (mode == FAULT_LATE) {
		bool is_held = false;

		lock_take(&fault->lock);
		if (!fault->is_closing && !atomic_load(&req->is_canceled)) {
			hold_locked(fault, req, MODE_HELD_OUTWARD);
			is_held = true;
		}
		lock_drop(&fault->lock);
		if (is_held)
			return;
	} else if (req->op == BACKEND_GET && req->error == 0) {
		spoil_get(fault, req, mode);
	}
	backend_pass_on(req);
}

/* ---- release ---- */

/* req was taken out of the held list. */
static void let_go(struct fault_backend *fault, struct backend_req *req, bool is_canceled)
{
	bool is_inward = frame_of(req)->word[WORD_MODE] == MODE_HELD_INWARD;
	int r;

	backend_pop(req);
	if (!is_inward) {
		backend_pass_on(req);
		return;
	}
	if (is_canceled) {
		backend_answer(req, -ECANCELED, NULL);
		return;
	}
	r = backend_submit_inner(&fault->base, req);
	if (r < 0)
		backend_answer(req, r, NULL);
}

static struct backend_req *held_take(struct fault_backend *fault)
{
	struct backend_req *req;
	LOCK_SCOPE(&fault->lock);

	if (list_is_empty(&fault->held))
		return NULL;
	req = req_of(fault->held.next);
	list_remove(&req->link);
	fault->held_count--;
	return req;
}

static struct ghost *ghost_take(struct fault_backend *fault)
{
	struct ghost *ghost;
	LOCK_SCOPE(&fault->lock);

	if (list_is_empty(&fault->ghosts))
		return NULL;
	ghost = container_of(fault->ghosts.next, struct ghost, link);
	list_remove(&ghost->link);
	fault->held_count--;
	return ghost;
}

static size_t release_all(struct fault_backend *fault)
{
	size_t count = 0, held;
	struct ghost *ghost;

	/* Only what is held now: a released one may be held again. */
	lock_take(&fault->lock);
	held = fault->held_count;
	lock_drop(&fault->lock);
	while (count < held) {
		struct backend_req *req = held_take(fault);

		if (!req)
			break;
		let_go(fault, req, false);
		count++;
	}
	while (count < held && (ghost = ghost_take(fault))) {
		ghost->req.done = ghost_done;
		list_init(&ghost->req.link);
		if (backend_submit_inner(&fault->base, &ghost->req) < 0)
			ghost_free(ghost);
		count++;
	}
	return count;
}

static void fault_cancel(struct backend *backend, struct backend_req *req)
{
	struct fault_backend *fault = container_of(backend, struct fault_backend, base);
	bool is_held = false;

	lock_take(&fault->lock);
	list_for_each(link, &fault->held) {
		if (req_of(link) == req) {
			list_remove(link);
			fault->held_count--;
			is_held = true;
			break;
		}
	}
	lock_drop(&fault->lock);
	if (is_held)
		let_go(fault, req, true);
}

static void fault_close(struct backend *backend)
{
	struct fault_backend *fault = container_of(backend, struct fault_backend, base);
	struct backend_req *req;
	struct ghost *ghost;

	lock_take(&fault->lock);
	fault->is_closing = true;
	cond_wake_all(&fault->changed);
	lock_drop(&fault->lock);
	if (fault->control_path)
		pthread_join(fault->poller, NULL);
	while ((req = held_take(fault)))
		let_go(fault, req, true);
	backend_close(fault->base.inner);
	while ((ghost = ghost_take(fault)))
		ghost_free(ghost);
	clear_locked(fault);
	buf_release(&fault->previous);
	mem_free(fault->control_path);
	lock_release(&fault->lock);
	cond_release(&fault->changed);
	backend_wrap_release(&fault->base);
	mem_free(fault);
}

static const struct backend_ops fault_ops = {
	.type = "fault",
	.submit = fault_submit,
	.answered = fault_answered,
	.cancel = fault_cancel,
	.close = fault_close,
};

/* ---- lines of text ---- */

static bool parse_op(const char *word, unsigned *ops)
{
	if (strcmp(word, "*") == 0) {
		*ops = 0;
		return true;
	}
	for (unsigned op = 0; op < BACKEND_OP_COUNT; op++) {
		if (strcasecmp(word, backend_op_name(op)) == 0) {
			*ops = BIT(op);
			return true;
		}
	}
	return false;
}

static bool parse_error(const char *word, int *error)
{
	static const int answers[] = {ENOENT,	 EEXIST,  EAGAIN,    EACCES, ENOSPC,
				      ENOMEDIUM, EBADMSG, ECANCELED, EIO};

	for (size_t i = 0; i < ARRAY_COUNT(answers); i++) {
		if (strcasecmp(word, err_name(answers[i])) == 0) {
			*error = -answers[i];
			return true;
		}
	}
	return false;
}

static bool parse_mode(const char *word, struct fault_rule *rule)
{
	static const char *const names[] = {
		[FAULT_UNTAKEN] = "untaken",	     [FAULT_ERROR] = "error",
		[FAULT_LANDED] = "landed",	     [FAULT_LATE] = "late",
		[FAULT_STALL] = "stall",	     [FAULT_LANDS_LATE] = "lands-late",
		[FAULT_CORRUPT] = "corrupt",	     [FAULT_TRUNCATE] = "truncate",
		[FAULT_SWAP] = "swap",		     [FAULT_ABSENT] = "absent",
	};

	for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
		if (strcasecmp(word, names[i]) == 0) {
			rule->mode = i;
			return true;
		}
	}
	rule->mode = FAULT_ERROR;
	return parse_error(word, &rule->error);
}

static bool parse_number(const char *text, uint64_t max, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && text[0] != '-' && *number <= max;
}

static bool parse_more(const char *word, struct fault_rule *rule)
{
	uint64_t number;

	if (strncmp(word, "error=", 6) == 0)
		return parse_error(word + 6, &rule->error);
	if (strncmp(word, "prefix=", 7) == 0)
		return (size_t)snprintf(rule->prefix, sizeof(rule->prefix), "%s", word + 7) <
		       sizeof(rule->prefix);
	if (strncmp(word, "nth=", 4) == 0)
		return parse_number(word + 4, UINT64_MAX, &rule->nth);
	if (strncmp(word, "count=", 6) == 0)
		return parse_number(word + 6, UINT64_MAX, &rule->count);
	if (strncmp(word, "after=", 6) == 0 && parse_number(word + 6, UINT32_MAX, &number)) {
		rule->retry_after_ms = (uint32_t)number;
		return true;
	}
	return parse_error(word, &rule->error);
}

int fault_parse(const char *line, struct fault_rule *rule)
{
	struct fault_rule parsed = {.error = -EIO};
	char copy[512], *save = NULL, *word;
	unsigned at = 0;

	if ((size_t)snprintf(copy, sizeof(copy), "%s", line) >= sizeof(copy))
		return -EINVAL;
	for (word = strtok_r(copy, " \t\r\n", &save); word;
	     word = strtok_r(NULL, " \t\r\n", &save), at++) {
		bool is_good;

		if (word[0] == '#')
			break;
		if (at == 0)
			is_good = parse_op(word, &parsed.ops);
		else if (at == 1)
			is_good = parse_mode(word, &parsed);
		else
			is_good = parse_more(word, &parsed);
		if (!is_good)
			return -EINVAL;
	}
	if (at == 0)
		return 1;
	if (at == 1)
		return -EINVAL;
	*rule = parsed;
	return 0;
}

/* ---- the control file ---- */

static void rules_load_locked(struct fault_backend *fault, FILE *file)
{
	char line[512];
	struct fault_rule rule;

	clear_locked(fault);
	while (fgets(line, sizeof(line), file)) {
		int r = fault_parse(line, &rule);

		if (r == 0)
			r = add_locked(fault, &rule);
		if (r < 0)
			log_warn("fault-line-ignored", "provider=%s error=%s", fault->base.name,
				 err_name(r));
	}
}

/* Takes over what the file says when it is another one than last time; a file that is gone
 * clears all rules.  Whatever is held is let go then and meets the new rules no more. */
static void control_read(struct fault_backend *fault)
{
	struct stat st = {0};
	FILE *file = NULL;
	bool is_changed;

	if (stat(fault->control_path, &st) < 0)
		memset(&st, 0, sizeof(st));
	lock_take(&fault->lock);
	is_changed = st.st_mtim.tv_sec != fault->control_mtime.tv_sec ||
		     st.st_mtim.tv_nsec != fault->control_mtime.tv_nsec ||
		     st.st_size != fault->control_size || st.st_ino != fault->control_ino;
	if (is_changed) {
		fault->control_mtime = st.st_mtim;
		fault->control_size = st.st_size;
		fault->control_ino = st.st_ino;
		file = fopen(fault->control_path, "re");
		if (file)
			rules_load_locked(fault, file);
		else
			clear_locked(fault);
	}
	lock_drop(&fault->lock);
	if (file)
		fclose(file);
	if (is_changed)
		release_all(fault);
}

/* A stalled mount sends no request that would notice the change. */
static void *poller_run(void *arg)
{
	struct fault_backend *fault = arg;

	lock_take(&fault->lock);
	while (!fault->is_closing) {
		lock_drop(&fault->lock);
		control_read(fault);
		lock_take(&fault->lock);
		if (!fault->is_closing)
			cond_wait_ms(&fault->changed, &fault->lock, CONTROL_POLL_MS);
	}
	lock_drop(&fault->lock);
	return NULL;
}

/* ---- for tests ---- */

int fault_wrap(struct backend *inner, const char *control_path, struct backend **backend)
{
	struct fault_backend *fault = mem_alloc(sizeof(*fault));
	int r = -ENOMEM;

	if (!fault)
		return -ENOMEM;
	fault->control_path = control_path ? mem_strdup(control_path) : NULL;
	if (control_path && !fault->control_path)
		goto fail;
	r = backend_wrap_init(&fault->base, &fault_ops, inner);
	if (r < 0)
		goto fail;
	lock_init(&fault->lock, LOCK_BACKEND);
	cond_init(&fault->changed);
	list_init(&fault->rules);
	list_init(&fault->held);
	list_init(&fault->ghosts);
	if (control_path) {
		r = thread_start(&fault->poller, "fault", poller_run, fault);
		if (r < 0)
			goto fail_base;
	}
	*backend = &fault->base;
	return 0;

fail_base:
	lock_release(&fault->lock);
	cond_release(&fault->changed);
	backend_wrap_release(&fault->base);
fail:
	mem_free(fault->control_path);
	mem_free(fault);
	return r;
}

static struct fault_backend *fault_of(struct backend *backend)
{
	struct backend *found = backend_find(backend, "fault");

	return found ? container_of(found, struct fault_backend, base) : NULL;
}

int fault_add(struct backend *backend, const struct fault_rule *rule)
{
	struct fault_backend *fault = fault_of(backend);

	if (!fault)
		return -ENOENT;
	LOCK_SCOPE(&fault->lock);
	return add_locked(fault, rule);
}

void fault_clear(struct backend *backend)
{
	struct fault_backend *fault = fault_of(backend);

	if (!fault)
		return;
	LOCK_SCOPE(&fault->lock);
	clear_locked(fault);
}

size_t fault_release(struct backend *backend)
{
	struct fault_backend *fault = fault_of(backend);

	return fault ? release_all(fault) : 0;
}

size_t fault_held_count(struct backend *backend)
{
	struct fault_backend *fault = fault_of(backend);

	if (!fault)
		return 0;
	LOCK_SCOPE(&fault->lock);
	return fault->held_count;
}

void fault_wait_held(struct backend *backend, size_t count)
{
	struct fault_backend *fault = fault_of(backend);

	if (!fault)
		return;
	LOCK_SCOPE(&fault->lock);
	while (fault->held_count < count)
		cond_wait(&fault->changed, &fault->lock);
}

uint64_t fault_fired_count(struct backend *backend)
{
	struct fault_backend *fault = fault_of(backend);

	if (!fault)
		return 0;
	LOCK_SCOPE(&fault->lock);
	return fault->fired_count;
}

uint64_t fault_seen_count(struct backend *backend, enum backend_op op)
{
	struct fault_backend *fault = fault_of(backend);

	if (!fault)
		return 0;
	LOCK_SCOPE(&fault->lock);
	return fault->seen_count[op];
}
