/* SPDX-License-Identifier: Apache-2.0 */
#include "store/provider.h"

#include "backends/wrap_stats.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SLOW_US 2000000u /* p95 of reads or writes beyond which it is called slow */

void provider_init(struct provider *provider, const struct provider_row *row,
		   struct backend *backend)
{
	*provider = (struct provider){
		.row = *row,
		.weight = backend ? 1 : -1,
		.backend = backend,
		.life = backend ? PROVIDER_UNPROVEN : PROVIDER_ABSENT,
		.pause_ms = PROVIDER_PAUSE_MIN_MS,
		.full_pause_ms = PROVIDER_PAUSE_MIN_MS,
	};
	lock_init(&provider->lock, LOCK_LEAF);
	snprintf(provider->cause, sizeof(provider->cause), "%s",
		 backend ? "not heard of yet" : "not in the configuration");
}

void provider_release(struct provider *provider)
{
	backend_close(provider->backend);
	provider->backend = NULL;
	lock_release(&provider->lock);
}

static bool is_present_locked(const struct provider *provider)
{
	return provider->life == PROVIDER_OK && !provider->is_stalled;
}

static void pause_locked(struct provider *provider, uint64_t now_ms)
{
	provider->probe_at_ms = now_ms + provider->pause_ms;
	provider->pause_ms = MIN(2 * provider->pause_ms, (uint64_t)PROVIDER_PAUSE_MAX_MS);
}

static void well_locked(struct provider *provider, const struct backend_req *req)
{
	provider->failures_in_row = 0;
	provider->last_ok_sec = clock_wall().sec;
	provider->life = PROVIDER_OK;
	if (req->op == BACKEND_PUT && req->error == 0) {
		provider->is_trial = provider->is_full = false;
		provider->full_pause_ms = PROVIDER_PAUSE_MIN_MS;
	}
	if (!provider->is_trial) {
		provider->pause_ms = PROVIDER_PAUSE_MIN_MS;
		provider->cause[0] = '\0';
	}
}

static void set_cause_locked(struct provider *provider, const struct backend_req *req)
{
	snprintf(provider->cause, sizeof(provider->cause), "%s %s: %.70s",
		 backend_op_name(req->op), err_name(req->error),
		 req->cause[0] ? req->cause : err_sentence(req->error));
}

static void failed_locked(struct provider *provider, const struct backend_req *req, uint64_t now_ms)
{
	set_cause_locked(provider, req);
	provider->failures_in_row++;
	if (provider->life != PROVIDER_OK || provider->is_trial ||
	    provider->failures_in_row >= PROVIDER_FAILURES_MAX) {
		provider->life = PROVIDER_OPEN;
		provider->is_trial = true;
		pause_locked(provider, now_ms);
	}
}

static enum provider_turn turn_locked(struct provider *provider, bool was_present)
{
	bool is_present = is_present_locked(provider);

	if (was_present == is_present)
		return PROVIDER_SAME;
	if (is_present)
		log_info("provider-present", "provider=%s", provider->row.name);
	else
		log_warn("provider-away", "provider=%s cause=" LOG_Q " next=\"asked again\"",
			 provider->row.name, provider->cause);
	return is_present ? PROVIDER_CAME : PROVIDER_WENT;
}

enum provider_turn provider_answered(struct provider *provider, const struct backend_req *req,
				     uint64_t now_ms)
{
	LOCK_SCOPE(&provider->lock);
	bool was_present = is_present_locked(provider);

	if (req->op == BACKEND_HEAD)
		provider->is_probing = false;
	if (req->server_ms != 0)
		provider->clock = (struct clock_sample){req->server_ms, now_ms};
	switch (req->error) {
	case 0:
	case -ENOENT:
	case -EEXIST:
	case -ENOMEDIUM:
		well_locked(provider, req);
		break;
	case -ECANCELED:
	case -EBADMSG: /* the object's fault, which its reader judges */
		break;
	case -ENOSPC:
		set_cause_locked(provider, req);
		if (!provider->is_full)
			log_warn("provider-full", "provider=%s next=\"its copies wait\"",
				 provider->row.name);
		provider->is_full = true;
		provider->full_until_ms = now_ms + provider->full_pause_ms;
		provider->full_pause_ms =
			MIN(2 * provider->full_pause_ms, (uint64_t)PROVIDER_PAUSE_MAX_MS);
		break;
	case -EAGAIN:
		if (req->is_absent) {
			set_cause_locked(provider, req);
			if (provider->life != PROVIDER_ABSENT || req->op == BACKEND_HEAD)
				pause_locked(provider, now_ms);
			provider->life = PROVIDER_ABSENT;
			break;
		}
		/* fall through */
	default:
		failed_locked(provider, req, now_ms);
	}
	return turn_locked(provider, was_present);
}

enum provider_turn provider_stalled(struct provider *provider, bool is_stalled, uint64_t age_ms,
				    uint64_t now_ms)
{
	LOCK_SCOPE(&provider->lock);
	bool was_present = is_present_locked(provider);

	if (is_stalled && !provider->is_stalled) {
		snprintf(provider->cause, sizeof(provider->cause), "no answer for %llu s",
			 (unsigned long long)(age_ms / 1000));
		pause_locked(provider, now_ms);
	}
	provider->is_stalled = is_stalled;
	return turn_locked(provider, was_present);
}

bool provider_is_present(struct provider *provider)
{
	LOCK_SCOPE(&provider->lock);
	return is_present_locked(provider);
}

unsigned provider_put_budget(struct provider *provider, unsigned inflight_max, uint64_t now_ms)
{
	LOCK_SCOPE(&provider->lock);
	if (!is_present_locked(provider))
		return 0;
	if (provider->is_full && now_ms < provider->full_until_ms)
		return 0;
	return provider->is_full || provider->is_trial ? 1 : inflight_max;
}

bool provider_take_probe(struct provider *provider, bool is_forced, uint64_t now_ms,
			 uint64_t *next_ms)
{
	LOCK_SCOPE(&provider->lock);
	if (!provider->backend || provider->is_probing)
		return false;
	if (provider->life == PROVIDER_OK) {
		if (provider->is_full && provider->full_until_ms > now_ms)
			*next_ms = MIN(*next_ms, provider->full_until_ms);
		return false;
	}
	if (is_forced || now_ms >= provider->probe_at_ms) {
		provider->is_probing = true;
		return true;
	}
	*next_ms = MIN(*next_ms, provider->probe_at_ms);
	return false;
}

bool provider_has_clock(const struct provider *provider)
{
	unsigned can = provider->backend ? backend_can(provider->backend)
					 : backend_type_can(provider->row.type);

	return can & BACKEND_CAN_TELL_TIME;
}

bool provider_clock(struct provider *provider, struct clock_sample *out)
{
	LOCK_SCOPE(&provider->lock);
	*out = provider->clock;
	return provider->clock.server_ms != 0;
}

void provider_facts_of(struct provider *provider, struct provider_facts *out)
{
	LOCK_SCOPE(&provider->lock);
	*out = (struct provider_facts){
		.provider_no = provider->row.provider_no,
		.name = provider->row.name,
		.vendor = provider->row.vendor,
		.region = provider->row.region,
		.role = provider->row.role,
		.is_present = is_present_locked(provider),
		.takes_new = provider->backend && !provider->is_full,
		.weight = provider->weight,
	};
}

static const char *state_name_locked(const struct provider *provider, bool is_slow)
{
	switch (provider->life) {
	case PROVIDER_ABSENT:
	case PROVIDER_UNPROVEN:
		return "absent";
	case PROVIDER_OPEN:
		return "open";
	case PROVIDER_OK:
		break;
	}
	if (provider->is_stalled)
		return "open";
	if (provider->is_trial || provider->is_full || provider->failures_in_row > 0)
		return "erroring";
	return is_slow ? "slow" : "ok";
}

void provider_status_of(struct provider *provider, struct provider_status *out)
{
	struct backend_stats stats = {0};
	const struct provider_row *row = &provider->row;
	uint64_t p95;

	memset(out, 0, sizeof(*out));
	if (provider->backend) {
		backend_stats(provider->backend, &stats);
		backend_space(provider->backend, &out->total_bytes, &out->free_bytes);
	}
	p95 = MAX(stats.op[BACKEND_GET].p95_us, stats.op[BACKEND_PUT].p95_us);
	out->provider_no = row->provider_no;
	snprintf(out->name, sizeof(out->name), "%s", row->name);
	snprintf(out->type, sizeof(out->type), "%s", row->type);
	snprintf(out->vendor, sizeof(out->vendor), "%s", row->vendor);
	snprintf(out->region, sizeof(out->region), "%s", row->region);
	snprintf(out->role, sizeof(out->role), "%s", row->role);
	out->inflight = stats.inflight;
	out->p95_us = p95;
	LOCK_SCOPE(&provider->lock);
	snprintf(out->state, sizeof(out->state), "%s", state_name_locked(provider, p95 > SLOW_US));
	snprintf(out->cause, sizeof(out->cause), "%s", provider->cause);
	out->is_present = is_present_locked(provider);
	out->last_ok_sec = provider->last_ok_sec;
}
