/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which shards are where, by LIST; which are nowhere, and what needs them.  Copies are no part of
 * what was replicated, so all of it is added to the index behind the last record.
 */
#include "store/recover_private.h"

#include "store/pack.h"
#include "util/clock.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define COPY_BATCH	512u
#define LIST_PAGE	1000u
#define TREE_DEPTH_MAX	4096u
#define FILES_NAMED_MAX	1000u

int additions_flush(struct additions *additions)
{
	struct record *record = STEAL(additions->record);
	int r;

	if (!record)
		return 0;
	record->seq = index_applied_seq(additions->recovery->index) + 1;
	r = record->error;
	if (r == 0 && record->change_count > 0)
		r = index_apply(additions->recovery->index, &record, 1);
	record_free(record);
	return r;
}

/* The record to add to. */
int additions_step(struct additions *additions)
{
	int r = 0;

	if (additions->record && additions->record->change_count >= COPY_BATCH)
		r = additions_flush(additions);
	if (r == 0 && !additions->record)
		additions->record = record_new();
	return r == 0 && !additions->record ? -ENOMEM : r;
}

bool recovery_parse_shard_id(const char *key, struct shard_id *id)
{
	if (strlen(key) != 32 || strspn(key, "0123456789abcdef") != 32)
		return false;
	for (unsigned i = 0; i < 16; i++) {
		char two[3] = {key[2 * i], key[2 * i + 1], 0};

		id->b[i] = (uint8_t)strtoul(two, NULL, 16);
	}
	return true;
}

/* A shard that was sealed after the newest record that was sent: it says itself what it is. */
static int complete_shard(struct recovery *recovery, struct source *source, const char *key,
			  struct shard_row *row)
{
	struct pack_keys *keys = secret_alloc(sizeof(*keys));
	AUTO(pack_footer) footer = PACK_FOOTER_INIT;
	AUTO(buf) object = BUF_INIT;
	struct backend_req req = {.op = BACKEND_GET, .key = key, .len = BACKEND_TO_END,
				  .out = &object};
	int r = keys ? backend_run(source->backend, &req) : -ENOMEM;

	if (r == 0)
		r = pack_keys_init(keys, recovery->keyring, row->key_epoch, &row->id);
	if (r == 0) {
		r = pack_verify(recovery->ctx, keys, buf_bytes(&object), &footer);
		pack_keys_release(keys);
	}
	if (keys)
		secret_free(keys, sizeof(*keys));
	if (r == 0 && footer.shard.shard_no != row->shard_no)
		r = -EBADMSG;
	if (r < 0)
		return r;
	row->object_len = footer.shard.object_len;
	row->record_count = footer.shard.record_count;
	row->sealed_sec = footer.shard.sealed_sec;
	memcpy(row->mac, footer.shard.mac, sizeof(row->mac));
	return 0;
}

int recovery_found_shard(struct additions *additions, struct source *source,
			 const struct backend_entry *entry, struct recovery_result *result)
{
	struct recovery *recovery = additions->recovery;
	struct copy_row copy = {.provider_no = source->provider_no, .state = COPY_PRESENT,
				.changed_sec = clock_wall().sec};
	struct shard_row row;
	struct shard_id id;
	int r;

	if (!recovery_parse_shard_id(entry->key, &id))
		return 0;
	r = index_find_shard(recovery->index, recovery->reader, &id, &row);
	if (r == -ENOENT) {
		result->objects_unknown++;
		return 0;
	}
	if (r == 0 && row.state == SHARD_OPEN) {
		if (complete_shard(recovery, source, entry->key, &row) < 0)
			return 0; /* not whole: as if it were not there */
	}
	if (r == 0)
		r = additions_step(additions);
	if (r < 0)
		return r;
	if (row.state < SHARD_DURABLE) {
		row.state = SHARD_DURABLE;
		record_put_shard(additions->record, &row);
		r = additions_flush(additions); /* another provider has it too */
		if (r == 0)
			r = additions_step(additions);
		if (r < 0)
			return r;
	}
	if (row.object_len != entry->size) {
		recovery_note(recovery,
			      "provider %s: shard %s has %" PRIu64 " bytes instead of %" PRIu64,
			      source->shown.name, entry->key, entry->size, row.object_len);
		copy.state = COPY_CORRUPT;
	}
	copy.shard_no = row.shard_no;
	record_put_copy(additions->record, &copy);
	return 0;
}

static int list_shards(struct additions *additions, struct source *source,
		       struct recovery_result *result)
{
	struct recovery *recovery = additions->recovery;
	struct backend_list list = BACKEND_LIST_INIT;
	uint64_t seen = 0;
	int r = 0;

	do {
		struct backend_req req = {.op = BACKEND_LIST, .key = "", .cursor = list.cursor,
					  .list = &list};

		r = backend_run(source->backend, &req);
		if (r < 0) {
			recovery_note(recovery, "provider %s: its shards cannot be listed: %s",
				      source->shown.name, req.cause);
			r = 0;
			break;
		}
		for (size_t i = 0; i < list.count && r == 0; i++)
			r = recovery_found_shard(additions, source, &list.entries[i], result);
		seen += list.count;
		recovery_progress(recovery, "listing shards", seen, 0);
		source->is_listed = !list.cursor[0];
	} while (r == 0 && list.cursor[0]);
	backend_list_release(&list);
	return r < 0 ? r : additions_flush(additions);
}

static void number_sources(struct recovery *recovery, const struct provider_list *providers)
{
	for (unsigned i = 0; i < recovery->source_count; i++)
		for (size_t j = 0; j < providers->count; j++)
			if (strcmp(providers->rows[j].name, recovery->sources[i].shown.name) == 0 &&
			    !providers->rows[j].is_forgotten)
				recovery->sources[i].provider_no = providers->rows[j].provider_no;
}

/* ---- what is missing ---- */

struct missing {
	uint64_t *shard_nos; /* ascending */
	size_t count, capacity;
};

static void missing_release(struct missing *missing)
{
	mem_free(missing->shard_nos);
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int missing_add(struct missing *missing, uint64_t shard_no)
{
	if (missing->count == missing->capacity) {
		size_t more = missing->capacity ? 2 * missing->capacity : 64;
		uint64_t *grown = mem_realloc_array(missing->shard_nos, more, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		missing->shard_nos = grown;
		missing->capacity = more;
	}
	missing->shard_nos[missing->count++] = shard_no;
	return 0;
}

/*
 * A shard that nobody who was reached has.  It has left the spool for good, and its copies are
 * missing everywhere: readers still ask a provider that was away when it returns.
 */
static int lose_shard(struct additions *additions, const struct provider_list *providers,
		      struct shard_row *row)
{
	int r = additions_step(additions);

	if (r < 0)
		return r;
	row->state = SHARD_DURABLE;
	record_put_shard(additions->record, row);
	for (size_t i = 0; i < providers->count; i++) {
		struct copy_row copy = {.shard_no = row->shard_no,
					.provider_no = providers->rows[i].provider_no,
					.state = COPY_MISSING,
					.changed_sec = clock_wall().sec};

		if (!providers->rows[i].is_forgotten)
			record_put_copy(additions->record, &copy);
	}
	return 0;
}

static int judge_shard(struct additions *additions, const struct provider_list *providers,
		       struct shard_row *row, struct missing *missing)
{
	struct recovery *recovery = additions->recovery;
	AUTO(copy_list) copies = ROW_LIST_INIT;
	AUTO(chunk_list) chunks = ROW_LIST_INIT;
	int r = index_list_copies(recovery->index, recovery->reader, row->shard_no, &copies);

	for (size_t i = 0; i < copies.count && r == 0; i++)
		if (copies.rows[i].state == COPY_PRESENT)
			return 0;
	if (r == 0)
		r = index_list_chunks(recovery->index, recovery->reader, row->shard_no, 0, 1,
				      &chunks);
	if (r < 0 || row->state >= SHARD_CONDEMNED)
		return r;
	if (chunks.count == 0) {
		r = additions_step(additions);
		if (r == 0)
			record_del_shard(additions->record, row->shard_no);
		return r;
	}
	if (row->live_bytes > 0)
		r = missing_add(missing, row->shard_no);
	return r < 0 ? r : lose_shard(additions, providers, row);
}

static int find_missing(struct additions *additions, const struct provider_list *providers,
			struct missing *missing)
{
	struct recovery *recovery = additions->recovery;
	AUTO(shard_list) shards = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	do {
		shards.count = 0;
		r = index_list_shards(recovery->index, recovery->reader, after, LIST_PAGE, &shards);
		for (size_t i = 0; i < shards.count && r == 0; i++) {
			after = shards.rows[i].shard_no;
			r = judge_shard(additions, providers, &shards.rows[i], missing);
		}
	} while (r == 0 && shards.count == LIST_PAGE);
	if (r == 0)
		r = additions_flush(additions);
	if (missing->count > 1)
		qsort(missing->shard_nos, missing->count, sizeof(uint64_t), compare_numbers);
	return r;
}

/* 1: it needs a missing shard. */
static int is_damaged(struct recovery *recovery, uint64_t ino, const struct missing *missing)
{
	AUTO(extent_list) extents = ROW_LIST_INIT;
	uint64_t at = 0;
	int r = 0;

	while (r == 0 && at < INT64_MAX) {
		extents.count = 0;
		r = index_find_extents(recovery->index, recovery->reader, ino, at, INT64_MAX - at,
				       LIST_PAGE, &extents, &at);
		for (size_t i = 0; i < extents.count && r == 0; i++) {
			struct chunk_row chunk;

			if (extents.rows[i].chunk_no == 0)
				continue;
			r = index_get_chunk(recovery->index, recovery->reader,
					    extents.rows[i].chunk_no, &chunk);
			if (r == -ENOENT)
				r = 1;
			if (r == 0 && bsearch(&chunk.shard_no, missing->shard_nos, missing->count,
					      sizeof(uint64_t), compare_numbers))
				r = 1;
		}
	}
	return r;
}

static int name_damaged(struct recovery *recovery, uint64_t dir, const char *path, unsigned depth,
			const struct missing *missing, struct recovery_result *result)
{
	AUTO(dirent_list) dirents = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	if (depth == TREE_DEPTH_MAX)
		return -ELOOP;
	do {
		dirents.count = 0;
		r = index_list_dirents(recovery->index, recovery->reader, dir, after, LIST_PAGE,
				       &dirents);
		for (size_t i = 0; i < dirents.count && r >= 0; i++) {
			const struct dirent_row *row = &dirents.rows[i];
			AUTO_STR name = mem_printf("%s/%s", path, row->name);

			after = row->cookie;
			if (!name)
				return -ENOMEM;
			if (row->type == DT_DIR) {
				r = name_damaged(recovery, row->ino, name, depth + 1, missing,
						 result);
			} else if (row->type == DT_REG) {
				r = is_damaged(recovery, row->ino, missing);
				if (r > 0 && result->files_damaged++ < FILES_NAMED_MAX)
					recovery_note(recovery, "not whole: %s", name);
			}
		}
	} while (r >= 0 && dirents.count == LIST_PAGE);
	return MIN(r, 0);
}

int recovery_rebuild_copies(struct recovery *recovery, struct recovery_result *result)
{
	struct additions additions = {.recovery = recovery};
	AUTO(provider_list) providers = ROW_LIST_INIT;
	AUTO(missing) missing = {.count = 0};
	int r = index_reader_open(recovery->index, &recovery->reader);

	if (r == 0)
		r = index_list_providers(recovery->index, recovery->reader, &providers);
	number_sources(recovery, &providers);
	for (unsigned i = 0; i < recovery->source_count && r == 0; i++)
		if (recovery->sources[i].shown.is_reached && recovery->sources[i].provider_no)
			r = list_shards(&additions, &recovery->sources[i], result);
	if (r == 0)
		r = find_missing(&additions, &providers, &missing);
	record_free(additions.record);
	result->shards_missing = missing.count;
	if (r == 0 && missing.count > 0)
		r = name_damaged(recovery, INO_ROOT, "", 0, &missing, result);
	return r;
}
