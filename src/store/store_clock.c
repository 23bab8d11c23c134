/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time that locks are judged by (trusted_clock.h), and the memory of it.
 *
 * Records carry no time that can be trusted: those in rows are the local
 * clock's.  So the time is a setting of the index of its own, written in the
 * record of each lock and, when locks were judged and it is an hour old, at the
 * end of a mount.  That is all that is asked of it: a memory that is too early
 * makes a lock hold until a provider has told the time, never less long.
 */
#include "store/store_private.h"

#include "store/trusted_clock.h"
#include "util/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WORTH_KEEPING_SEC 3600

int store_clock_load(struct store *store, struct index_reader *reader)
{
	AUTO(buf) text = BUF_INIT;
	int r = index_get_setting(store->index, reader, STORE_CLOCK_SETTING, &text);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (!buf_str(&text))
		return -ENOMEM;
	store->priv->clock_sec = strtoll(buf_str(&text), NULL, 10);
	return 0;
}

int64_t store_now_sec(struct store *store)
{
	struct clock_sample samples[TRUSTED_CLOCKS_MAX];
	struct wall_time wall = clock_wall();
	struct trusted_clock_facts facts = {
		.local_ms = wall.sec * 1000 + wall.nsec / 1000000,
		.mono_ms = clock_mono_ms(),
		.samples = samples,
		.tolerance_ms = store->config->settings.clock_tolerance_ms,
		.newest_ms = store->priv->clock_sec * 1000,
	};

	facts.clock_count = transfer_clocks(store->transfer, samples, TRUSTED_CLOCKS_MAX,
					    &facts.sample_count);
	store->priv->is_clock_used = true;
	return trusted_clock_now(&facts) / 1000;
}

void store_clock_put(struct store *store, struct record *record, int64_t now_sec)
{
	char text[24];

	if (now_sec <= store->priv->clock_sec)
		return;
	snprintf(text, sizeof(text), "%lld", (long long)now_sec);
	record_put_setting(record, bytes_of_str(STORE_CLOCK_SETTING), bytes_of_str(text));
	store->priv->clock_sec = now_sec;
}

void store_clock_keep(struct store *store)
{
	AUTO_PTR(record) record = NULL;
	int64_t now;
	uint64_t seq;
	int r;

	if (!store->priv->is_clock_used || !store_may_write(store, NULL))
		return;
	now = store_now_sec(store);
	if (now < store->priv->clock_sec + WORTH_KEEPING_SEC)
		return;
	record = record_new();
	if (!record)
		return;
	store_clock_put(store, record, now);
	r = sequencer_submit(store->sequencer, STEAL(record), &seq);
	if (r < 0)
		log_warn("clock-not-kept", "error=%d next=\"locks are judged by an earlier time\"",
			 -r);
}
