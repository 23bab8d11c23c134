/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_PROVIDER_H
#define SHARDFS_STORE_PROVIDER_H

/*
 * The life of one provider as transfer sees it: present or away, well or not, when to look again.
 * Makes no request itself; it is told each answer and decides.
 *
 *   unproven --answer--> ok <-> open      too many failures in a row, or no answer for long
 *                        ok <-> absent    its store's marker cannot be seen
 *
 * Unproven, open and absent count as away.  An open one is asked with a HEAD after a pause of
 * 1 s .. 30 s that doubles; when that is answered, one PUT at a time goes out until one succeeds (a
 * trial), so that a store that reads but does not write is found out with one request, not many.
 * A full one stays present, takes nothing new and is tried again with one PUT after such a pause.
 *
 * Any thread, except for init and release.
 */

#include "backends/backend.h"
#include "store/placement.h"
#include "store/transfer.h"
#include "store/trusted_clock.h"
#include "util/lock.h"

#define PROVIDER_FAILURES_MAX 3u /* in a row: then it is open */
#define PROVIDER_PAUSE_MIN_MS 1000u
#define PROVIDER_PAUSE_MAX_MS 30000u

enum provider_life { PROVIDER_UNPROVEN, PROVIDER_OK, PROVIDER_OPEN, PROVIDER_ABSENT };

struct provider {
	/* constant once transfer has started */
	struct provider_row row;
	double weight;
	struct backend *backend; /* owned; NULL: known to the index, not in the configuration */

	struct lock lock; /* LOCK_LEAF: guards the rest */
	enum provider_life life;
	bool is_full, is_trial, is_probing, is_stalled;
	unsigned failures_in_row;
	uint64_t probe_at_ms, pause_ms, full_until_ms, full_pause_ms;
	int64_t last_ok_sec;
	struct clock_sample clock; /* server_ms 0: it has told no time yet */
	char cause[96];
};

/* Takes the backend. */
void provider_init(struct provider *provider, const struct provider_row *row,
		   struct backend *backend);
void provider_release(struct provider *provider); /* closes the backend: waits for it */

enum provider_turn { PROVIDER_SAME, PROVIDER_CAME, PROVIDER_WENT }; /* away or present */

/* An answer (req is still the caller's), or a submit that failed with req->error set. */
enum provider_turn provider_answered(struct provider *provider, const struct backend_req *req,
				     uint64_t now_ms);
/* A request is without answer for this long; false: it is not any more.  */
enum provider_turn provider_stalled(struct provider *provider, bool is_stalled, uint64_t age_ms,
				    uint64_t now_ms);

bool provider_is_present(struct provider *provider);
/* How many PUTs may be under way now: 0, 1 (a trial) or inflight_max. */
unsigned provider_put_budget(struct provider *provider, unsigned inflight_max, uint64_t now_ms);
/* Whether to send a HEAD now; the answer to it is told like others.  Sets *next_ms lower when a
 * look is due at that time. */
bool provider_take_probe(struct provider *provider, bool is_forced, uint64_t now_ms,
			 uint64_t *next_ms);
/*
 * Whether its answers tell a time at all; constant.  One that is not in the configuration counts:
 * else taking those with clocks out of it would make the local clock the judge of locks.
 * provider_clock: false: none has yet.
 */
bool provider_has_clock(const struct provider *provider);
bool provider_clock(struct provider *provider, struct clock_sample *out);
void provider_facts_of(struct provider *provider, struct provider_facts *out);
/* Everything but the queue's numbers. */
void provider_status_of(struct provider *provider, struct provider_status *out);

#endif
