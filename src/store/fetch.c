/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading from the best copy.  A ticket holds one attempt for each copy that may be asked, best
 * first.  The reader's own thread starts the first, waits no longer than that provider's p95 before
 * it starts the next, judges what comes back in the order of arrival, and leaves with the first
 * good answer.  The others are cancelled and free the ticket when their answers come, however late:
 * so a provider that never answers costs memory for one request and nobody's time.
 */
#include "store/transfer_private.h"

#include "backends/wrap_stats.h"
#include "store/pack.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEDGE_MIN_MS	 50u
#define HEDGE_MAX_MS	 10000u
#define HEDGE_UNKNOWN_MS 300u
#define ABORT_LOOK_MS	 200u /* how often one in the background looks whether to give up */

struct attempt {
	struct backend_req req;
	struct ticket *ticket;
	struct lane *lane;
	uint32_t copy_state;
	unsigned rank; /* lower is asked first */
	uint64_t p95_us;
	struct buf bytes;
	enum { ATTEMPT_UNASKED, ATTEMPT_ASKED, ATTEMPT_ANSWERED, ATTEMPT_JUDGED } state;
};

struct ticket {
	struct lock lock; /* LOCK_LEAF: guards refs and the states of attempts */
	struct cond answered;
	unsigned refs; /* the reader's, and one for each attempt under way */
	char key[SHARD_ID_HEX_SIZE];
	unsigned count;
	struct attempt attempts[PLACEMENT_COPIES_MAX];
};

static void ticket_drop(struct ticket *ticket)
{
	bool is_last;

	lock_take(&ticket->lock);
	is_last = --ticket->refs == 0;
	lock_drop(&ticket->lock);
	if (!is_last)
		return;
	for (unsigned i = 0; i < ticket->count; i++)
		buf_release(&ticket->attempts[i].bytes);
	cond_release(&ticket->answered);
	lock_release(&ticket->lock);
	mem_free(ticket);
}

/* On a thread of the backend, perhaps long after the reader has left. */
static void attempt_done(struct backend_req *req)
{
	struct attempt *attempt = container_of(req, struct attempt, req);
	struct ticket *ticket = attempt->ticket;
	struct lane *lane = attempt->lane;

	transfer_turned(lane->transfer,
			provider_answered(&lane->provider, req, clock_mono_ms()));
	lock_take(&ticket->lock);
	attempt->state = ATTEMPT_ANSWERED;
	cond_wake_all(&ticket->answered);
	lock_drop(&ticket->lock);
	ticket_drop(ticket);
}

static void attempt_start(struct attempt *attempt, const struct fetch_want *want)
{
	struct ticket *ticket = attempt->ticket;
	int r;

	attempt->req = (struct backend_req){
		.op = BACKEND_GET,
		.key = ticket->key,
		.offset = want->off,
		.len = want->len,
		.out = &attempt->bytes,
		.done = attempt_done,
	};
	lock_take(&ticket->lock);
	attempt->state = ATTEMPT_ASKED;
	ticket->refs++;
	lock_drop(&ticket->lock);
	r = backend_submit(attempt->lane->provider.backend, &attempt->req);
	if (r < 0) { /* not taken: no answer will come */
		attempt->req.error = r;
		attempt_done(&attempt->req);
	}
}

static unsigned role_rank(const char *role)
{
	return strcmp(role, "primary") == 0 ? 0 : strcmp(role, "secondary") == 0 ? 1 : 2;
}

/* Known good before unknown, present before away, well before erroring, then fast, then role. */
static unsigned attempt_rank(struct lane *lane, const struct copy_row *copy)
{
	struct provider_status status;
	unsigned rank = copy_is_valid(copy) ? 0 : 2;

	provider_status_of(&lane->provider, &status);
	rank += status.is_present ? 0 : 1;
	rank = 2 * rank + (strcmp(status.state, "ok") != 0);
	return rank;
}

static int attempt_compare(const void *left, const void *right)
{
	const struct attempt *a = left, *b = right;
	unsigned a_log, b_log, a_role, b_role;

	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	/* only a clear difference counts: powers of two */
	a_log = 64 - __builtin_clzll(a->p95_us | 1023);
	b_log = 64 - __builtin_clzll(b->p95_us | 1023);
	if (a_log != b_log)
		return a_log < b_log ? -1 : 1;
	a_role = role_rank(a->lane->provider.row.role);
	b_role = role_rank(b->lane->provider.row.role);
	if (a_role != b_role)
		return a_role < b_role ? -1 : 1;
	return a->lane < b->lane ? -1 : a->lane > b->lane;
}

static bool is_wanted(const struct fetch_want *want, const struct copy_row *copy)
{
	if (copy->state == COPY_DELETING || copy->state == COPY_NONE)
		return false;
	if (want->only_provider && copy->provider_no != want->only_provider)
		return false;
	return copy->provider_no != want->without_provider;
}

static int ticket_new(struct transfer *transfer, struct index_reader *reader,
		      const struct fetch_want *want, struct ticket **out)
{
	AUTO(copy_list) copies = ROW_LIST_INIT;
	struct ticket *ticket;
	int r = index_list_copies(transfer->settings.index, reader, want->shard->shard_no, &copies);

	if (r < 0)
		return r;
	ticket = mem_alloc(sizeof(*ticket));
	if (!ticket)
		return -ENOMEM;
	lock_init(&ticket->lock, LOCK_LEAF);
	cond_init(&ticket->answered);
	ticket->refs = 1;
	memcpy(ticket->key, shard_id_hex(&want->shard->id).s, sizeof(ticket->key));
	for (size_t i = 0; i < copies.count && ticket->count < PLACEMENT_COPIES_MAX; i++) {
		struct lane *lane = transfer_lane(transfer, copies.rows[i].provider_no);
		struct attempt *attempt = &ticket->attempts[ticket->count];

		if (!lane || !lane->provider.backend || !is_wanted(want, &copies.rows[i]))
			continue;
		*attempt = (struct attempt){.lane = lane,
					    .copy_state = copies.rows[i].state,
					    .rank = attempt_rank(lane, &copies.rows[i]),
					    .p95_us = backend_get_p95_us(lane->provider.backend)};
		ticket->count++;
	}
	qsort(ticket->attempts, ticket->count, sizeof(ticket->attempts[0]), attempt_compare);
	for (unsigned i = 0; i < ticket->count; i++)
		ticket->attempts[i].ticket = ticket;
	*out = ticket;
	return 0;
}

static uint64_t hedge_ms(const struct attempt *attempt)
{
	uint64_t ms = attempt->p95_us / 1000;

	return attempt->p95_us == 0 ? HEDGE_UNKNOWN_MS : MIN(MAX(ms, HEDGE_MIN_MS), HEDGE_MAX_MS);
}

/* What came back is bad in a way that says something about the copy. */
static void judge_failure(struct transfer *transfer, const struct fetch_want *want,
			  const struct attempt *attempt, unsigned attempt_no, int error)
{
	bool was_valid =
		attempt->copy_state == COPY_PRESENT || attempt->copy_state == COPY_VERIFIED;
	uint32_t state = error == -ENOENT ? COPY_MISSING : COPY_CORRUPT;

	if (!was_valid)
		return; /* not known to be good before either */
	if (error != -ECANCELED)
		log_warn("copy-read-failed", "shard=%s provider=%s attempt=%u error=%s",
			 attempt->ticket->key, attempt->lane->provider.row.name, attempt_no,
			 err_name(error));
	if (error == -ENOENT || error == -EBADMSG)
		transfer_mark(transfer, want->shard->shard_no,
			      attempt->lane->provider.row.provider_no, state);
}

/* 0: good, and in out. */
static int judge(struct transfer *transfer, const struct fetch_want *want, struct attempt *attempt,
		 unsigned attempt_no, struct buf *out)
{
	int r = attempt->req.error;

	if (r == 0 && attempt->bytes.len != want->len)
		r = -EBADMSG;
	if (r == 0 && want->check) {
		r = want->check(want->ctx, buf_bytes(&attempt->bytes));
		if (r == -ENOMEM)
			return r;
		r = r < 0 ? -EBADMSG : 0;
	}
	if (r < 0) {
		judge_failure(transfer, want, attempt, attempt_no, r);
		return r;
	}
	if (out->len == 0)
		buf_swap(out, &attempt->bytes);
	else
		r = buf_append(out, buf_bytes(&attempt->bytes));
	return r;
}

static struct attempt *answered_locked(struct ticket *ticket)
{
	for (unsigned i = 0; i < ticket->count; i++)
		if (ticket->attempts[i].state == ATTEMPT_ANSWERED)
			return &ticket->attempts[i];
	return NULL;
}

/* Waits until an attempt is answered or until_ms; NULL: that time has come, or give up. */
static struct attempt *ticket_wait(struct transfer *transfer, struct ticket *ticket,
				   bool is_background, uint64_t until_ms)
{
	struct attempt *attempt;

	LOCK_SCOPE(&ticket->lock);
	while (!(attempt = answered_locked(ticket))) {
		uint64_t now = clock_mono_ms();

		if (now >= until_ms || (is_background && transfer->is_stopping))
			return NULL;
		cond_wait_ms(&ticket->answered, &ticket->lock,
			     is_background ? MIN(until_ms - now, (uint64_t)ABORT_LOOK_MS)
					   : MIN(until_ms - now, (uint64_t)HOUR));
	}
	attempt->state = ATTEMPT_JUDGED;
	return attempt;
}

static void ticket_leave(struct ticket *ticket)
{
	for (unsigned i = 0; i < ticket->count; i++) {
		struct attempt *attempt = &ticket->attempts[i];
		bool is_asked;

		lock_take(&ticket->lock);
		is_asked = attempt->state == ATTEMPT_ASKED;
		lock_drop(&ticket->lock);
		if (is_asked) /* our reference keeps req valid */
			backend_cancel(attempt->lane->provider.backend, &attempt->req);
	}
	ticket_drop(ticket);
}

static int ticket_run(struct transfer *transfer, struct ticket *ticket,
		      const struct fetch_want *want, struct buf *out, uint32_t *from)
{
	bool is_hedged = transfer->settings.config->settings.hedged_reads;
	uint64_t start = clock_mono_ms(), until = 0;
	unsigned asked = 0, judged = 0;
	int last = -EIO;

	for (;;) {
		struct attempt *attempt;

		if (asked < ticket->count && (asked == judged || clock_mono_ms() >= until)) {
			attempt = &ticket->attempts[asked++];
			attempt_start(attempt, want);
			until = clock_mono_ms() + (is_hedged ? hedge_ms(attempt) : STALL_MS);
		}
		if (judged == asked)
			return want->only_provider ? last : -EIO;
		if (asked == ticket->count)
			until = want->is_background ? start + FETCH_GIVE_UP_MS : UINT64_MAX;
		attempt = ticket_wait(transfer, ticket, want->is_background, until);
		if (!attempt && want->is_background && transfer->is_stopping)
			return -ECANCELED;
		if (!attempt && asked == ticket->count)
			return -ETIMEDOUT;
		if (!attempt)
			continue; /* late: ask the next one too */
		judged++;
		last = judge(transfer, want, attempt, judged, out);
		if (last == -ENOMEM)
			return last;
		if (last == 0 && from)
			*from = attempt->lane->provider.row.provider_no;
		if (last == 0)
			return 0;
	}
}

int fetch_run(struct transfer *transfer, struct index_reader *reader,
	      const struct fetch_want *want, struct buf *out, uint32_t *from)
{
	struct ticket *ticket;
	int r = ticket_new(transfer, reader, want, &ticket);

	if (r < 0)
		return r;
	r = ticket_run(transfer, ticket, want, out, from);
	ticket_leave(ticket);
	return r;
}

int transfer_fetch(struct transfer *transfer, struct index_reader *reader,
		   const struct shard_row *shard, uint32_t off, uint32_t len,
		   int (*check)(void *ctx, struct bytes bytes), void *ctx, struct buf *out)
{
	struct fetch_want want = {
		.shard = shard, .off = off, .len = len, .check = check, .ctx = ctx};

	return fetch_run(transfer, reader, &want, out, NULL);
}

struct whole_check {
	struct aead_ctx *aead;
	const struct pack_keys *keys;
	const struct shard_row *shard;
};

static int check_whole(void *ctx, struct bytes bytes)
{
	struct whole_check *check = ctx;
	struct pack_footer footer = {0};
	int r = pack_verify(check->aead, check->keys, bytes, &footer);

	if (r == 0 && footer.shard.shard_no != check->shard->shard_no)
		r = -EBADMSG;
	pack_footer_release(&footer);
	return r;
}

int fetch_whole(struct transfer *transfer, struct keeper_worker *worker,
		const struct shard_row *shard, uint32_t only_provider, uint32_t without_provider,
		struct buf *out, uint32_t *from)
{
	struct pack_keys keys;
	struct whole_check check = {worker->aead, &keys, shard};
	struct fetch_want want = {
		.shard = shard,
		.len = (uint32_t)shard->object_len,
		.check = check_whole,
		.ctx = &check,
		.only_provider = only_provider,
		.without_provider = without_provider,
		.is_background = true,
	};
	int r = pack_keys_init(&keys, transfer->settings.keyring, shard->key_epoch, &shard->id);

	if (r < 0)
		return r;
	r = fetch_run(transfer, worker->reader, &want, out, from);
	pack_keys_release(&keys);
	return r;
}
