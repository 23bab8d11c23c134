/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The superblock at a provider, compared with ours: an older one, a damaged one or none at all is
 * written again and read back.  A newer one is never touched.
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

static int rewrite(struct lane *lane, const struct superblock *ours)
{
	AUTO(buf) sealed = BUF_INIT;
	AUTO(buf) back = BUF_INIT;
	struct transfer_request request = {.op = BACKEND_PUT, .key = SUPERBLOCK_KEY};
	int r = superblock_encode_body(ours, &sealed);

	if (r == 0)
		r = buf_append(&sealed, bytes_of(ours->mac, sizeof(ours->mac)));
	if (r == 0)
		r = HOOK("superblock-heal-before");
	request.body = buf_bytes(&sealed);
	if (r == 0)
		r = lane_request(lane, &request);
	if (r == 0)
		r = get(lane, &back);
	if (r == 0 && !bytes_equal(buf_bytes(&sealed), buf_bytes(&back)))
		r = -EBADMSG;
	return r < 0 ? r : HOOK("superblock-heal-after");
}

static int refresh(struct transfer *transfer, struct lane *lane, const struct superblock *ours,
		   struct superblock *theirs, bool *was_bad)
{
	AUTO(buf) found = BUF_INIT;
	int r = get(lane, &found);

	if (r == 0)
		r = judge(transfer, buf_bytes(&found), theirs);
	if (r == 0 && theirs->revision == ours->revision)
		return 0;
	if (r == 0 && theirs->revision > ours->revision) {
		log_warn("superblock-newer", "provider=%s revision=%llu here=%llu",
			 lane->provider.row.name, (unsigned long long)theirs->revision,
			 (unsigned long long)ours->revision);
		return 0;
	}
	if (r < 0 && r != -ENOENT && r != -EBADMSG)
		return r; /* away again, or made by a newer version */
	*was_bad = true;
	r = rewrite(lane, ours);
	if (r == 0)
		log_info("superblock-rewritten", "provider=%s revision=%llu",
			 lane->provider.row.name, (unsigned long long)ours->revision);
	return r;
}

/* Ours, authenticated; owned by the caller: mem_free. */
static int ours_new(struct transfer *transfer, struct superblock **out)
{
	struct superblock *ours = mem_alloc(sizeof(*ours));
	AUTO(buf) why = BUF_INIT;
	int r = ours ? superblock_io_read(transfer->settings.config, ours, &why) : -ENOMEM;

	if (r == 0)
		r = keyring_check(transfer->settings.keyring, ours);
	if (r < 0)
		mem_free(ours);
	else
		*out = ours;
	return r;
}

int transfer_check_superblock(struct transfer *transfer, unsigned i, bool *was_bad)
{
	struct superblock *ours = NULL, *theirs = mem_alloc(sizeof(*theirs));
	bool is_bad = false;
	int r = theirs ? ours_new(transfer, &ours) : -ENOMEM;

	assert(i < transfer->lane_count);
	if (r == 0)
		r = refresh(transfer, &transfer->lanes[i], ours, theirs, &is_bad);
	mem_free(ours);
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
		lane->wants_superblock = false;
		if (!lane->provider.backend)
			continue;
		r = transfer_check_superblock(transfer, i, &was_bad);
		if (r < 0)
			log_warn("superblock-not-rewritten", "provider=%s error=%s",
				 lane->provider.row.name, err_name(r));
	}
	return 0;
}
