/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a provider shows when it is first seen, or seen again: less than it did, or another's work.
 *
 * What would stop us is believed when it authenticates, not for its name: a stray file must neither
 * keep a provider from being brought up nor decide what is deleted there.
 */
#include "store/oplog_private.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t remembered(const struct oplog_lane *lane)
{
	AUTO_STR name = mem_printf("shipped-%s", lane->name);
	AUTO(buf) text = BUF_INIT;

	if (!name || oplog_dir_read(lane->oplog->dir, name, &text) < 0)
		return 0;
	return strtoull(buf_str(&text) ? buf_str(&text) : "0", NULL, 10);
}

void oplog_remember(const struct oplog_lane *lane, uint64_t seq)
{
	AUTO_STR name = mem_printf("shipped-%s", lane->name);
	AUTO(buf) text = BUF_INIT;

	if (name && buf_printf(&text, "%" PRIu64 "\n", seq) == 0)
		oplog_dir_write(lane->oplog->dir, name, buf_bytes(&text), false);
}

/* ---- believing ---- */

int oplog_is_real(struct oplog_lane *lane, const struct oplog_file *file, bool *is_real,
		  struct buf *why)
{
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) body = BUF_INIT;
	char text[OPLOG_NAME_SIZE], key[sizeof(OPLOG_PREFIX) + OPLOG_NAME_SIZE];
	struct backend_req req = {.op = BACKEND_GET, .key = key, .flags = BACKEND_TAIL,
				  .len = OPLOG_OBJECT_BYTES_MAX, .out = &object};
	struct aead_ctx *ctx = NULL;
	struct digest hash;
	int r = 0;

	*is_real = false;
	snprintf(key, sizeof(key), OPLOG_PREFIX "%s", oplog_name_print(&file->name, text));
	if (file->len > OPLOG_OBJECT_BYTES_MAX)
		goto unreal;
	r = oplog_lane_request(lane->backend, &req, lane);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		if (why)
			buf_printf(why, "GET %s: %s", key,
				   req.cause[0] ? req.cause : err_sentence(r));
		return r;
	}
	r = aead_ctx_new(&ctx);
	if (r == 0)
		r = oplog_open_object(lane->oplog->set.keyring, ctx, &file->name,
				      buf_bytes(&object), &body, &hash);
	aead_ctx_free(ctx);
	if (r == -ENOMEM)
		return r;
	/* a key epoch or a version that is not known here may well be another machine's */
	*is_real = r == 0 || r == -ENOKEY || r == -EPROTONOSUPPORT;
	if (*is_real)
		return 0;
unreal:
	log_warn("oplog-name-not-believed", "provider=%s key=%s next=\"it is left alone\"",
		 lane->name, key);
	return 0;
}

static bool is_unknown(const struct oplog_lane *lane, uint64_t noted,
		       const struct oplog_files *ours, const struct oplog_name *name)
{
	uint32_t epoch = lane->oplog->set.writer_epoch;

	if (name->kind != OPLOG_SEGMENT && name->kind != OPLOG_ROOT)
		return false;
	return (name->epoch > epoch || (name->epoch == epoch && name->last > noted)) &&
	       !oplog_files_find(ours, name);
}

/*
 * Leaves out of what it has those names that would have us stop, and behind which there is nothing
 * of this file system: anybody may have put a file there.  One that is real is enough.
 */
static int drop_unreal(struct oplog_lane *lane, uint64_t noted, const struct oplog_files *ours,
		       struct buf *why)
{
	struct oplog_files *remote = &lane->remote;
	bool is_real = false;
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; i < remote->count; i++) {
		bool is_dropped = false;

		if (r == 0 && !is_real && is_unknown(lane, noted, ours, &remote->files[i].name)) {
			r = oplog_is_real(lane, &remote->files[i], &is_real, why);
			is_dropped = r == 0 && !is_real;
		}
		if (!is_dropped)
			remote->files[kept++] = remote->files[i];
	}
	remote->count = kept;
	return r;
}

/* ---- judging ---- */

static void fence(struct oplog_lane *lane)
{
	LOCK_SCOPE(&lane->oplog->lock);
	lane->is_fenced = true;
}

/*
 * P8: says so when it shows less than it showed before, or another's work.  Records of our own epoch
 * that we do not know are another's too: this home was set back.  They stop the sending to the
 * provider that has them; whether this machine may write at all is for store/epoch.h.
 */
int oplog_judge(struct oplog_lane *lane, const struct oplog_files *files, uint64_t upto,
		struct buf *why)
{
	AUTO(oplog_files) ours = OPLOG_FILES_INIT;
	uint64_t newest = 0, own = 0, noted, before = remembered(lane);
	uint32_t epoch = 0;
	int r = oplog_files_copy(files, &ours);

	lock_take(&lane->oplog->lock);
	noted = lane->oplog->noted;
	lock_drop(&lane->oplog->lock);
	oplog_files_sort(&ours);
	if (r == 0)
		r = drop_unreal(lane, noted, &ours, why);
	if (r < 0)
		return r;
	for (size_t i = 0; i < lane->remote.count; i++) {
		const struct oplog_name *name = &lane->remote.files[i].name;

		if (name->kind == OPLOG_PART)
			continue;
		epoch = MAX(epoch, name->epoch);
		newest = MAX(newest, name->last);
		if (name->epoch == lane->oplog->set.writer_epoch)
			own = MAX(own, name->last);
	}
	if (own > noted) {
		log_error("oplog-unknown-records",
			  "provider=%s generation=%" PRIu64 " here=%" PRIu64
			  " next=\"nothing is sent to it: this home was set back\"",
			  lane->name, own, noted);
		fence(lane);
	} else if (epoch > lane->oplog->set.writer_epoch) {
		log_error("oplog-other-writer",
			  "provider=%s epoch=%" PRIu32 " own_epoch=%" PRIu64
			  " next=\"nothing is sent to it: another machine has recovered from it\"",
			  lane->name, epoch, lane->oplog->set.writer_epoch);
		fence(lane);
	} else if (newest < before) {
		log_error("provider-rolled-back",
			  "provider=%s generation=%" PRIu64 " remembered=%" PRIu64
			  " next=\"it is brought up again\"",
			  lane->name, newest, before);
	} else if (newest < (lane->was_judged ? upto : lane->oplog->opened_upto)) {
		log_warn("provider-stale",
			 "provider=%s generation=%" PRIu64 " newest=%" PRIu64
			 " next=\"it is brought up\"", lane->name, newest, upto);
	}
	lane->is_judged = lane->was_judged = true;
	return 0;
}
