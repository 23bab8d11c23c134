/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An epoch is destroyed only when nothing needs it, and that is looked for and not remembered:
 *
 *	index       no shard of the epoch, in whatever state (one that is held is needed by the
 *	            states that can still be recovered)
 *	home        no file of journal, oplog or spool whose head names it
 *	providers   all of them, listed: no segment and no snapshot whose head names it, and no shard
 *	            that the index does not know
 *
 * Index objects and journal files go by themselves in time; a look that renews makes a snapshot
 * under the new epoch, twice if need be, since providers keep the newest two.
 */
#include "store/store_keys.h"

#include "store/oplog_format.h"
#include "store/pack.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/file.h"
#include "util/hook.h"
#include "util/log.h"
#include "util/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SHARD_PAGE	256u
#define RENEWALS_MAX	4u
#define SETTLE_MS	15000u /* for a renewal to reach the providers */
#define LOOK_MS		100u
#define HEAD_BYTES	((size_t)72)

struct keys *store_keys(struct store *store)
{
	return store->priv->keys;
}

int store_epoch_use(struct store *store, struct index_reader *reader, uint32_t epoch,
		    struct store_epoch_use *out)
{
	struct store_epoch_use use = {0};
	uint64_t after = 0;
	size_t count;

	do {
		AUTO(shard_list) page = ROW_LIST_INIT;
		int r = index_list_shards(store->index, reader, after, SHARD_PAGE, &page);

		if (r < 0)
			return r;
		for (size_t i = 0; i < page.count; i++) {
			const struct shard_row *shard = &page.rows[i];

			after = shard->shard_no;
			if (shard->key_epoch != epoch || shard->state == SHARD_GONE)
				continue;
			if (shard->state > SHARD_DURABLE || shard->live_bytes == 0) {
				use.waiting_shards++;
			} else {
				use.live_shards++;
				use.live_bytes += shard->live_bytes;
			}
		}
		count = page.count;
	} while (count == SHARD_PAGE);
	*out = use;
	return 0;
}

/* ---- rotation ---- */

/* A record, so that the journal goes on in a file of the new epoch. */
static int note_epoch(struct store *store, uint32_t epoch)
{
	struct record *record = record_new();
	char text[16];
	uint64_t seq;
	int r;

	if (!record)
		return -ENOMEM;
	snprintf(text, sizeof(text), "%u", epoch);
	record_put_setting(record, bytes_of_str("key_epoch"), bytes_of_str(text));
	r = sequencer_submit(store->sequencer, record, &seq);
	return r < 0 ? r : sequencer_wait_applied(store->sequencer, seq);
}

int store_key_rotate(struct store *store, uint32_t *epoch, struct keys_report *report,
		     struct buf *why)
{
	int r = keys_rotate(store->priv->keys, epoch, report, why);

	if (r == 0)
		r = note_epoch(store, *epoch);
	if (r == 0)
		r = spool_seal_all(store->spool, 0); /* those of the epoch before, too */
	if (r < 0)
		return r;
	oplog_renew(store->priv->oplog);
	if (store->priv->gc)
		gc_wake(store->priv->gc);
	return 0;
}

/* ---- looking ---- */

/* Of whatever object or file begins so; 0: none of ours, or without an epoch. */
static uint32_t epoch_of_head(struct bytes head)
{
	static const struct {
		const char *magic;
		size_t off;
	} kinds[] = {{"SHARDFS1", 28}, {"SHARDFSX", 32}, {"SHARDFSJ", 64}};

	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
		if (head.len >= kinds[i].off + 4 && memcmp(head.ptr, kinds[i].magic, 8) == 0)
			return wire_load_u32(head.ptr + kinds[i].off);
	return 0;
}

struct look {
	struct store *store;
	struct index_reader *reader;
	uint32_t epoch;
	bool (*goes_on)(void *ctx);
	void *ctx;
	struct store_epoch_left left;
};

/* The first of them is named. */
static void note(struct look *look, const char *a, const char *between, const char *b)
{
	if (look->left.where[0] == 0)
		snprintf(look->left.where, sizeof(look->left.where), "%.200s%s%.255s", a, between, b);
}

static int look_at_dir(struct look *look, const char *dir)
{
	struct dirent *entry;
	DIR *stream = opendir(dir);

	if (!stream)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(stream)) != NULL) {
		uint8_t head[HEAD_BYTES];
		AUTO_FD fd = openat(dirfd(stream), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof(head));

		if (n <= 0 || epoch_of_head(bytes_of(head, (size_t)n)) != look->epoch)
			continue;
		look->left.home_files++;
		note(look, dir, "/", entry->d_name);
	}
	closedir(stream);
	return 0;
}

static int look_at_home(struct look *look)
{
	const struct config *config = look->store->config;
	AUTO_STR oplog = store_path(config, STORE_OPLOG_NAME);
	int r = oplog ? look_at_dir(look, oplog) : -ENOMEM;

	if (r == 0)
		r = look_at_dir(look, config->journal);
	return r < 0 ? r : look_at_dir(look, config->spool);
}

static bool shard_id_of_key(const char *key, struct shard_id *id)
{
	if (strlen(key) != 2 * sizeof(id->b) || strspn(key, "0123456789abcdef") != 2 * sizeof(id->b))
		return false;
	for (size_t i = 0; i < sizeof(id->b); i++) {
		char pair[3] = {key[2 * i], key[2 * i + 1], 0};

		id->b[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return true;
}

/* Its head tells; one that is gone meanwhile needs nothing. */
static int look_at_object(struct look *look, unsigned i, const char *key, uint64_t *count,
			  const char *name)
{
	AUTO(buf) head = BUF_INIT;
	struct transfer_request request = {
		.op = BACKEND_GET, .key = key, .len = HEAD_BYTES, .out = &head};
	int r = transfer_request(look->store->transfer, i, &request);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && epoch_of_head(buf_bytes(&head)) == look->epoch) {
		if ((*count)++ == 0 && count == &look->left.unknown_shards)
			look->left.where[0] = 0; /* says more than what goes by itself */
		note(look, key, " at ", name);
	}
	return r;
}

static int look_at_entry(struct look *look, unsigned i, const char *key, const char *name)
{
	struct shard_row row;
	struct shard_id id;
	int r;

	if (strncmp(key, OPLOG_PREFIX, strlen(OPLOG_PREFIX)) == 0)
		return look_at_object(look, i, key, &look->left.index_objects, name);
	if (!shard_id_of_key(key, &id))
		return 0; /* somebody else's file */
	r = index_find_shard(look->store->index, look->reader, &id, &row);
	if (r == 0 || r != -ENOENT)
		return r; /* known: counted there */
	return look_at_object(look, i, key, &look->left.unknown_shards, name);
}

static int look_at_provider(struct look *look, unsigned i)
{
	struct backend_list list = BACKEND_LIST_INIT;
	struct provider_status status;
	int r = 0;

	transfer_provider_status(look->store->transfer, i, &status);
	do {
		struct transfer_request request = {.op = BACKEND_LIST, .key = "", .list = &list};

		if (look->goes_on && !look->goes_on(look->ctx))
			r = -ECANCELED;
		if (r == 0)
			r = transfer_request(look->store->transfer, i, &request);
		for (size_t k = 0; r == 0 && k < list.count; k++)
			r = look_at_entry(look, i, list.entries[k].key, status.name);
	} while (r == 0 && list.cursor[0]);
	backend_list_release(&list);
	if (r == 0 || r == -ECANCELED)
		return r;
	look->left.is_unproven = true;
	snprintf(look->left.where, sizeof(look->left.where), "%s does not answer (%s)", status.name,
		 err_sentence(r));
	return 0;
}

static int look_once(struct look *look)
{
	unsigned count = transfer_provider_count(look->store->transfer);
	int r;

	look->left = (struct store_epoch_left){0};
	r = store_epoch_use(look->store, look->reader, look->epoch, &look->left.shards);
	if (r < 0 || look->left.shards.live_shards + look->left.shards.waiting_shards > 0)
		return r; /* the rest makes no difference yet */
	r = look_at_home(look);
	for (unsigned i = 0; i < count && r == 0; i++)
		r = look_at_provider(look, i);
	return r;
}

/* Until every provider that is present has the new snapshot, and what it replaces is gone. */
static void settle(struct look *look)
{
	struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	uint64_t until = clock_mono_ms() + SETTLE_MS;
	struct oplog_status status;

	do {
		nanosleep(&pause, NULL);
		oplog_status(look->store->priv->oplog, &status);
	} while (status.unsettled > 0 && clock_mono_ms() < until &&
		 (!look->goes_on || look->goes_on(look->ctx)));
}

static int renew(struct look *look)
{
	int r = HOOK("key-renew-before");

	if (r == 0)
		r = note_epoch(look->store, keyring_current_epoch(look->store->keyring));
	if (r < 0)
		return r;
	oplog_renew(look->store->priv->oplog);
	settle(look);
	/* what was sent needs no journal any more */
	r = sequencer_wait_checkpoint(look->store->sequencer);
	return r < 0 ? r : HOOK("key-renew-after");
}

int store_key_look(struct store *store, struct index_reader *reader, uint32_t epoch, bool renews,
		   bool (*goes_on)(void *ctx), void *ctx, struct store_epoch_left *out)
{
	struct look look = {.store = store, .reader = reader, .epoch = epoch, .goes_on = goes_on,
			    .ctx = ctx};
	int r = sequencer_wait_applied(store->sequencer, sequencer_last_seq(store->sequencer));

	if (r == 0)
		r = look_once(&look);
	for (unsigned i = 0; i < RENEWALS_MAX && r == 0 && renews; i++) {
		if (look.left.is_unproven || look.left.unknown_shards > 0 ||
		    look.left.home_files + look.left.index_objects == 0)
			break;
		r = renew(&look);
		if (r == 0)
			r = look_once(&look);
	}
	*out = look.left;
	return r;
}

bool store_epoch_is_left(const struct store_epoch_left *left)
{
	return left->is_unproven || left->unknown_shards + left->index_objects + left->home_files +
					    left->shards.live_shards + left->shards.waiting_shards > 0;
}
