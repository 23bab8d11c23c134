/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The superblock at a provider, compared with ours: an older one, a damaged one or none at all is
 * written again and read back.  A newer one is never touched, but taken over (store/keys.h).
 *
 * Only one thread at a time is at the superblock of a provider, and it asks for ours when its turn
 * comes: so an older revision is never written after a newer one.
 */
#include "store/transfer_private.h"

#include "store/superblock_io.h"
#include "util/err.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/mem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define TURN_LOOK_MS 100u

static int get(struct lane *lane, struct buf *out)
{
	struct transfer_request request = {
		.op = BACKEND_GET, .key = SUPERBLOCK_KEY, .len = BACKEND_TO_END, .out = out};

	return lane_request(lane, &request);
}

/* What is there: 0, or why it is not a superblock of this file system. */
static int judge(struct transfer *transfer, struct bytes found, struct superblock *theirs)
{
	int r = superblock_parse(found, theirs);

	if (r == 0)
		r = keyring_check(transfer->settings.keyring, theirs);
	/* the store's marker says that it is ours: another id is damage */
	return r == -ESTALE ? -EBADMSG : r;
}

struct ours {
	uint64_t revision;
	struct buf sealed;
};
#define OURS_INIT {0}

static void ours_release(struct ours *ours)
{
	buf_release(&ours->sealed);
}

/* Without a store (fsck, tests) that of home. */
static int ours_from_home(struct transfer *transfer, struct ours *out)
{
	struct superblock *sb = mem_alloc(sizeof(*sb));
	AUTO(buf) why = BUF_INIT;
	int r = sb ? superblock_io_read(transfer->settings.config, sb, &why) : -ENOMEM;

	if (r == 0)
		r = keyring_check(transfer->settings.keyring, sb);
	if (r == 0)
		r = superblock_encode_body(sb, &out->sealed);
	if (r == 0)
		r = buf_append(&out->sealed, bytes_of(sb->mac, sizeof(sb->mac)));
	if (r == 0)
		out->revision = sb->revision;
	mem_free(sb);
	return r;
}

static int ours_get(struct transfer *transfer, struct ours *out)
{
	const struct transfer_settings *set = &transfer->settings;

	return set->superblock ? set->superblock(set->ctx, &out->revision, &out->sealed)
			       : ours_from_home(transfer, out);
}

static int rewrite(struct lane *lane, const struct ours *ours)
{
	AUTO(buf) back = BUF_INIT;
	struct transfer_request request = {
		.op = BACKEND_PUT, .key = SUPERBLOCK_KEY, .body = buf_bytes(&ours->sealed)};
	int r = HOOK("superblock-heal-before");

	if (r == 0)
		r = lane_request(lane, &request);
	if (r == 0)
		r = get(lane, &back);
	if (r == 0 && !bytes_equal(buf_bytes(&ours->sealed), buf_bytes(&back)))
		r = -EBADMSG;
	return r < 0 ? r : HOOK("superblock-heal-after");
}

/* 0: taken over, or left alone. */
static int take_over(struct transfer *transfer, struct lane *lane, const struct ours *ours,
		     const struct superblock *theirs)
{
	log_warn("superblock-newer", "provider=%s revision=%llu here=%llu", lane->provider.row.name,
		 (unsigned long long)theirs->revision, (unsigned long long)ours->revision);
	return transfer->settings.superblock_newer
		       ? transfer->settings.superblock_newer(transfer->settings.ctx, theirs)
		       : 0;
}

static int refresh(struct transfer *transfer, struct lane *lane, const struct ours *ours,
		   struct superblock *theirs, bool *was_bad)
{
	AUTO(buf) found = BUF_INIT;
	uint64_t before = lane->superblock_revision;
	int r = get(lane, &found);

	if (r == 0)
		r = judge(transfer, buf_bytes(&found), theirs);
	if (r == 0)
		lane->superblock_revision = theirs->revision;
	if (r == 0 && theirs->revision == ours->revision) {
		if (bytes_equal(buf_bytes(&found), buf_bytes(&ours->sealed)))
			return 0;
		log_warn("superblock-differs", "provider=%s revision=%llu "
			 "next=\"another machine changed the keys: change them here once more\"",
			 lane->provider.row.name, (unsigned long long)ours->revision);
		lane->superblock_revision = 0;
		return 0;
	}
	if (r == 0 && theirs->revision > ours->revision)
		return take_over(transfer, lane, ours, theirs);
	if (r < 0 && r != -ENOENT && r != -EBADMSG)
		return r; /* away again, or made by a newer version */
	*was_bad = true;
	if (r == 0 && before != theirs->revision) /* else ours has changed since */
		log_warn("superblock-older", "provider=%s revision=%llu here=%llu",
			 lane->provider.row.name, (unsigned long long)theirs->revision,
			 (unsigned long long)ours->revision);
	r = rewrite(lane, ours);
	if (r < 0)
		return r;
	lane->superblock_revision = ours->revision;
	log_info("superblock-rewritten", "provider=%s revision=%llu", lane->provider.row.name,
		 (unsigned long long)ours->revision);
	return 0;
}

static void turn_begin(struct transfer *transfer, struct lane *lane)
{
	LOCK_SCOPE(&transfer->lock);

	while (lane->is_superblock_busy)
		cond_wait_ms(&transfer->changed, &transfer->lock, TURN_LOOK_MS);
	lane->is_superblock_busy = true;
}

static void turn_end(struct transfer *transfer, struct lane *lane)
{
	LOCK_SCOPE(&transfer->lock);

	lane->is_superblock_busy = false;
	cond_wake_all(&transfer->changed);
}

int transfer_check_superblock(struct transfer *transfer, unsigned i, bool *was_bad)
{
	struct superblock *theirs = mem_alloc(sizeof(*theirs));
	struct lane *lane = &transfer->lanes[i];
	AUTO(ours) ours = OURS_INIT;
	bool is_bad = false;
	int r = theirs ? 0 : -ENOMEM;

	assert(i < transfer->lane_count);
	turn_begin(transfer, lane);
	if (r == 0)
		r = ours_get(transfer, &ours);
	if (r == 0)
		r = refresh(transfer, lane, &ours, theirs, &is_bad);
	if (r < 0)
		atomic_fetch_add(&lane->superblock_failures, 1);
	turn_end(transfer, lane);
	mem_free(theirs);
	*was_bad = is_bad;
	return r;
}

int superblock_run(void *ctx, struct keeper_worker *worker)
{
	struct transfer *transfer = ctx;

	(void)worker;
	for (unsigned i = 0; i < transfer->lane_count; i++) {
		struct lane *lane = &transfer->lanes[i];
		bool was_bad;
		int r;

		if (!lane->wants_superblock || transfer->is_stopping)
			continue;
		if (!lane->provider.backend || !provider_is_present(&lane->provider))
			continue; /* when it comes */
		lane->wants_superblock = false;
		r = transfer_check_superblock(transfer, i, &was_bad);
		if (r < 0) {
			lane->wants_superblock = true; /* in a while */
			log_warn("superblock-not-rewritten", "provider=%s error=%s next=\"tried again\"",
				 lane->provider.row.name, err_name(r));
		}
	}
	return 0;
}

void transfer_superblock_changed(struct transfer *transfer)
{
	for (unsigned i = 0; i < transfer->lane_count; i++)
		transfer->lanes[i].wants_superblock = true;
	keeper_wake(transfer->keeper, transfer->chore_superblock);
}

void transfer_superblock_state(struct transfer *transfer, unsigned i,
			       struct transfer_superblock *out)
{
	struct lane *lane = &transfer->lanes[i];

	assert(i < transfer->lane_count);
	out->name = lane->provider.row.name;
	out->is_present = lane->provider.backend && provider_is_present(&lane->provider);
	out->revision = lane->superblock_revision;
	out->failures = lane->superblock_failures;
}
