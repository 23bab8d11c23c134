/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/wrap_stats.h"

#include "util/lock.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>

/*
 * Latencies fall into buckets of a quarter of an octave (at most 19 % wide
 * of the truth).  When an operation has collected COUNT_MAX of them all its
 * buckets are halved, so that old ones fade.
 */

#define BUCKET_COUNT  128 /* 2^32 us and more: the last one */
#define COUNT_MAX     2048u
#define P95_EVERY     16u
#define HEALTH_WEIGHT 16 /* one attempt moves health by 1/16 of the difference */

enum { WORD_STARTED_NS };

struct op_counts {
	uint64_t started, ok, failed, bytes;
	uint64_t mean_us;
	uint32_t buckets[BUCKET_COUNT];
	uint32_t count; /* in buckets */
};

struct stats_backend {
	struct backend base;
	_Atomic uint64_t get_p95_us;

	struct lock lock; /* LOCK_LEAF: all below */
	struct op_counts op[BACKEND_OP_COUNT];
	struct backend_stats common; /* all but op and inflight */
	uint32_t inflight;
	int32_t health_permille_16; /* permille * 16, so that small steps add up */
};

/* 0 .. 3 us exactly, then four buckets for each power of two. */
static unsigned bucket_of(uint64_t us)
{
	unsigned log, bucket;

	if (us < 4)
		return (unsigned)us;
	log = 63 - (unsigned)__builtin_clzll(us);
	bucket = (log - 1) * 4 + ((us >> (log - 2)) & 3);
	return MIN(bucket, BUCKET_COUNT - 1u);
}

/* Upper bound of what is in the bucket. */
static uint64_t bucket_end_us(unsigned bucket)
{
	unsigned log = bucket / 4 + 1;

	if (bucket < 4)
		return bucket;
	return (((uint64_t)4 + bucket % 4 + 1) << (log - 2)) - 1;
}

static uint64_t quantile_us(const struct op_counts *op, unsigned permille)
{
	uint64_t wanted = ((uint64_t)op->count * permille + 999) / 1000, seen = 0;

	if (op->count == 0)
		return 0;
	for (unsigned i = 0; i < BUCKET_COUNT; i++) {
		seen += op->buckets[i];
		if (seen >= wanted)
			return MAX(bucket_end_us(i), (uint64_t)1);
	}
	return bucket_end_us(BUCKET_COUNT - 1);
}

static void latency_add(struct op_counts *op, uint64_t us)
{
	int64_t step = ((int64_t)us - (int64_t)op->mean_us) / 8;

	op->mean_us = op->ok == 0 ? us : (uint64_t)((int64_t)op->mean_us + step);
	op->buckets[bucket_of(us)]++;
	if (++op->count < COUNT_MAX)
		return;
	op->count = 0;
	for (unsigned i = 0; i < BUCKET_COUNT; i++) {
		op->buckets[i] /= 2;
		op->count += op->buckets[i];
	}
}

static bool is_well(int error)
{
	return error == 0 || error == -ENOENT || error == -EEXIST || error == -ENOMEDIUM ||
	       error == -ECANCELED;
}

static void count_failure(struct backend_stats *common, const struct backend_req *req)
{
	common->last_error = req->error;
	memcpy(common->last_cause, req->cause, sizeof(common->last_cause));
	common->last_fail_mono_ms = clock_mono_ms();
	common->failures_in_row++;
	if (req->is_absent)
		common->errors_absent++;
	else if (req->error == -EAGAIN)
		common->errors_again++;
	else if (req->error == -EACCES)
		common->errors_access++;
	else if (req->error == -ENOSPC)
		common->errors_space++;
	else if (req->error == -EBADMSG)
		common->errors_badmsg++;
	else
		common->errors_io++;
}

static void count(struct stats_backend *stats, const struct backend_req *req, uint64_t us)
{
	struct op_counts *op = &stats->op[req->op];
	LOCK_SCOPE(&stats->lock);

	stats->inflight--;
	if (req->error == -ECANCELED)
		return; /* tells nothing about the provider */
	stats->common.is_absent = req->is_absent;
	if (req->error == 0) {
		latency_add(op, us);
		op->ok++;
		op->bytes += req->op == BACKEND_PUT ? req->body.len : req->got;
		if (req->op == BACKEND_GET && (op->ok < P95_EVERY || op->ok % P95_EVERY == 0))
			atomic_store(&stats->get_p95_us, quantile_us(op, 950));
	}
	if (is_well(req->error)) {
		stats->common.last_ok_mono_ms = clock_mono_ms();
		stats->common.failures_in_row = 0;
	} else {
		op->failed++;
		count_failure(&stats->common, req);
	}
	stats->health_permille_16 +=
		((is_well(req->error) ? 16000 : 0) - stats->health_permille_16) / HEALTH_WEIGHT;
}

static void stats_answered(struct backend *backend, struct backend_req *req,
			   struct backend_frame frame)
{
	struct stats_backend *stats = container_of(backend, struct stats_backend, base);

	count(stats, req, (clock_mono_ns() - frame.word[WORD_STARTED_NS]) / 1000);
	backend_pass_on(req);
}

static int stats_submit(struct backend *backend, struct backend_req *req)
{
	struct stats_backend *stats = container_of(backend, struct stats_backend, base);
	enum backend_op op = req->op;
	int r;

	lock_take(&stats->lock);
	stats->op[op].started++;
	stats->inflight++;
	lock_drop(&stats->lock);
	backend_push(backend, req)->word[WORD_STARTED_NS] = clock_mono_ns();
	r = backend_submit_inner(backend, req);
	if (r < 0) {
		backend_pop(req);
		lock_take(&stats->lock);
		stats->op[op].started--;
		stats->inflight--;
		lock_drop(&stats->lock);
	}
	return r;
}

static void stats_close(struct backend *backend)
{
	struct stats_backend *stats = container_of(backend, struct stats_backend, base);

	backend_close(stats->base.inner);
	lock_release(&stats->lock);
	backend_wrap_release(&stats->base);
	mem_free(stats);
}

static const struct backend_ops stats_ops = {
	.type = "stats",
	.submit = stats_submit,
	.answered = stats_answered,
	.close = stats_close,
};

int stats_wrap(struct backend *inner, struct backend **backend)
{
	struct stats_backend *stats = mem_alloc(sizeof(*stats));

	if (!stats)
		return -ENOMEM;
	if (backend_wrap_init(&stats->base, &stats_ops, inner) < 0) {
		mem_free(stats);
		return -ENOMEM;
	}
	lock_init(&stats->lock, LOCK_LEAF);
	stats->health_permille_16 = 16000;
	*backend = &stats->base;
	return 0;
}

int backend_stats(struct backend *backend, struct backend_stats *out)
{
	struct backend *found = backend_find(backend, "stats");
	struct stats_backend *stats;

	if (!found)
		return -ENOENT;
	stats = container_of(found, struct stats_backend, base);
	LOCK_SCOPE(&stats->lock);
	*out = stats->common;
	for (unsigned i = 0; i < BACKEND_OP_COUNT; i++) {
		const struct op_counts *op = &stats->op[i];

		out->op[i] = (struct backend_op_stats){
			.started = op->started,
			.ok = op->ok,
			.failed = op->failed,
			.bytes = op->bytes,
			.p50_us = quantile_us(op, 500),
			.p95_us = quantile_us(op, 950),
			.p99_us = quantile_us(op, 990),
			.mean_us = op->mean_us,
		};
	}
	out->inflight = stats->inflight;
	/* Integer steps stop one permille short of the ends. */
	out->health_permille = (uint32_t)MIN((stats->health_permille_16 + 15) / 16, 1000);
	return 0;
}

uint64_t backend_get_p95_us(struct backend *backend)
{
	struct backend *found = backend_find(backend, "stats");

	if (!found)
		return 0;
	return atomic_load(&container_of(found, struct stats_backend, base)->get_p95_us);
}
