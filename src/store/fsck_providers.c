/* SPDX-License-Identifier: Apache-2.0 */
/* What providers hold, compared with the index.  Nothing is written. */
#include "store/fsck_private.h"

#include "store/oplog_format.h"
#include "store/recover.h"
#include "store/superblock_io.h"
#include "util/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 512u

struct probe {
	struct fsck *fsck;
	const char *name; /* of the provider */
	uint32_t provider_no;
	struct backend *backend;
	struct aead_ctx *aead;
	uint64_t *seen; /* numbers of the shards that it lists */
	size_t seen_count, seen_capacity;
};

static int get(struct probe *probe, const char *key, struct buf *out)
{
	struct backend_req req = {.op = BACKEND_GET, .key = key, .len = BACKEND_TO_END, .out = out};

	return backend_run(probe->backend, &req);
}

static int read_copy(struct probe *probe, const char *key, const struct shard_row *row,
		     bool *is_swapped)
{
	struct pack_keys *keys = secret_alloc(sizeof(*keys));
	AUTO(pack_footer) footer = PACK_FOOTER_INIT;
	AUTO(buf) object = BUF_INIT;
	struct fs_id fs_id;
	struct shard_id id;
	uint32_t key_epoch;
	int r = keys ? get(probe, key, &object) : -ENOMEM;

	*is_swapped = false;
	if (r == 0)
		r = pack_header_read(buf_bytes(&object), &id, &key_epoch, &fs_id);
	if (r == 0)
		r = pack_keys_init(keys, probe->fsck->keyring, key_epoch, &id);
	if (r == 0) {
		r = pack_verify(probe->aead, keys, buf_bytes(&object), &footer);
		pack_keys_release(keys);
	}
	if (r == 0)
		*is_swapped = memcmp(id.b, row->id.b, sizeof(id.b)) != 0;
	secret_free(keys, sizeof(*keys));
	return r;
}

static int note_seen(struct probe *probe, uint64_t shard_no)
{
	if (probe->seen_count == probe->seen_capacity) {
		size_t more = MAX(probe->seen_capacity * 2, (size_t)256);
		uint64_t *grown = realloc(probe->seen, more * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		probe->seen = grown;
		probe->seen_capacity = more;
	}
	probe->seen[probe->seen_count++] = shard_no;
	return 0;
}

static int check_copy(struct probe *probe, const struct backend_entry *entry,
		      const struct shard_id *id)
{
	struct fsck *fsck = probe->fsck;
	struct shard_row row;
	bool is_swapped = false;
	int r = index_find_shard(fsck->index, fsck->reader, id, &row);

	if (r == -ENOENT) {
		fsck_found(fsck, "object-unknown", "provider %s: %s", probe->name, entry->key);
		return 0;
	}
	if (r == 0)
		r = note_seen(probe, row.shard_no);
	if (r < 0 || row.state == SHARD_OPEN)
		return r;
	if (fsck->settings->is_deep)
		r = read_copy(probe, entry->key, &row, &is_swapped);
	if (r == -ENOMEM)
		return r;
	if (is_swapped)
		fsck_found(fsck, "copy-swapped", "provider %s: %s: it is another shard", probe->name,
			   entry->key);
	else if (entry->size != row.object_len)
		fsck_found(fsck, "copy-length", "provider %s: %s: %" PRIu64 " bytes, and should be %"
			   PRIu64, probe->name, entry->key, entry->size, row.object_len);
	else if (r < 0)
		fsck_found(fsck, "copy-damaged", "provider %s: %s: %s", probe->name, entry->key,
			   err_sentence(r));
	return 0;
}

static int check_index_object(struct probe *probe, const char *key)
{
	AUTO(buf) object = BUF_INIT;
	AUTO(buf) body = BUF_INIT;
	struct oplog_name name;
	struct digest hash;
	int r;

	if (!probe->fsck->settings->is_deep || strncmp(key, OPLOG_PREFIX, strlen(OPLOG_PREFIX)) != 0 ||
	    oplog_name_parse(key + strlen(OPLOG_PREFIX), &name) < 0)
		return 0;
	r = get(probe, key, &object);
	if (r == 0)
		r = oplog_open_object(probe->fsck->keyring, probe->aead, &name, buf_bytes(&object),
				      &body, &hash);
	if (r < 0 && r != -ENOMEM)
		fsck_found(probe->fsck, "provider-oplog-damaged", "provider %s: %s: %s", probe->name,
			   key, err_sentence(r));
	return r == -ENOMEM ? r : 0;
}

/* 1: it is absent. */
static int check_listing(struct probe *probe)
{
	struct backend_list list = BACKEND_LIST_INIT;
	struct shard_id id;
	int r;

	do {
		struct backend_req req = {.op = BACKEND_LIST, .key = "", .cursor = list.cursor,
					  .list = &list};

		r = backend_run(probe->backend, &req);
		if (r < 0) {
			fsck_found(probe->fsck, "provider-absent", "provider %s: %s", probe->name,
				   req.cause);
			r = 1;
		}
		for (size_t i = 0; i < list.count && r == 0; i++)
			r = !fsck_parse_shard_id(list.entries[i].key, &id)
				    ? check_index_object(probe, list.entries[i].key)
			    : probe->fsck->index ? check_copy(probe, &list.entries[i], &id)
						 : 0;
	} while (r == 0 && list.cursor[0]);
	backend_list_release(&list);
	return r;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int check_missing(struct probe *probe, const struct shard_row *shard)
{
	struct fsck *fsck = probe->fsck;
	AUTO(copy_list) copies = ROW_LIST_INIT;
	int r = index_list_copies(fsck->index, fsck->reader, shard->shard_no, &copies);

	for (size_t i = 0; i < copies.count; i++) {
		const struct copy_row *copy = &copies.rows[i];

		if (copy->provider_no != probe->provider_no ||
		    (copy->state != COPY_PRESENT && copy->state != COPY_VERIFIED) ||
		    (probe->seen_count > 0 &&
		     bsearch(&shard->shard_no, probe->seen, probe->seen_count, sizeof(*probe->seen),
			     compare_numbers)))
			continue;
		fsck_found(fsck, "copy-missing", "provider %s: %s: not there", probe->name,
			   shard_id_hex(&shard->id).s);
	}
	return r;
}

static int check_all_there(struct probe *probe)
{
	uint64_t after = 0;
	size_t count;

	if (probe->seen_count > 1)
		qsort(probe->seen, probe->seen_count, sizeof(*probe->seen), compare_numbers);
	do {
		AUTO(shard_list) shards = ROW_LIST_INIT;
		int r = index_list_shards(probe->fsck->index, probe->fsck->reader, after, PAGE,
					  &shards);

		for (size_t i = 0; i < shards.count && r == 0; i++) {
			r = check_missing(probe, &shards.rows[i]);
			after = shards.rows[i].shard_no;
		}
		if (r < 0)
			return r;
		count = shards.count;
	} while (count == PAGE);
	return 0;
}

static int check_provider(struct probe *probe, const struct config_provider *provider)
{
	AUTO(buf) why = BUF_INIT;
	struct fs_id fs_id = keyring_fs_id(probe->fsck->keyring);
	int r = provider_open(probe->fsck->config, provider, &why, &probe->backend);

	if (r < 0) {
		fsck_found(probe->fsck, "provider-absent", "%s", buf_str(&why));
		return r == -ENOMEM ? r : 0;
	}
	backend_bind(probe->backend, fs_id.b);
	r = check_listing(probe);
	if (r == 0 && probe->fsck->index)
		r = check_all_there(probe);
	return MIN(r, 0);
}

static uint32_t number_of(struct fsck *fsck, const char *name)
{
	AUTO(provider_list) rows = ROW_LIST_INIT;

	if (fsck->index && index_list_providers(fsck->index, fsck->reader, &rows) == 0)
		for (size_t i = 0; i < rows.count; i++)
			if (strcmp(rows.rows[i].name, name) == 0)
				return rows.rows[i].provider_no;
	return 0;
}

/* By their names: does each provider alone give back the newest state? */
static int check_complete(struct fsck *fsck)
{
	struct recovery_settings settings = {0};
	struct recovery *recovery = NULL;
	AUTO(buf) why = BUF_INIT;
	uint32_t epoch;
	uint64_t newest;
	int r = recovery_open(fsck->config, &settings, &why, &recovery);

	if (r < 0)
		return r == -ENOMEM ? r : 0; /* no superblock anywhere: was found already */
	newest = recovery_newest(recovery, &epoch);
	for (unsigned i = 0; i < recovery_provider_count(recovery); i++) {
		struct recovery_provider shown;

		recovery_provider_get(recovery, i, &shown);
		if (shown.is_reached && (shown.complete == 0 || shown.complete < newest))
			fsck_found(fsck, "provider-oplog-incomplete",
				   "provider %s: gives back record %" PRIu64 ", the newest is %" PRIu64,
				   shown.name, shown.complete, newest);
	}
	recovery_close(recovery);
	return 0;
}

int fsck_providers(struct fsck *fsck)
{
	int r = 0;

	for (size_t i = 0; i < fsck->config->provider_count && r == 0; i++) {
		const struct config_provider *provider = &fsck->config->providers[i];
		struct probe probe = {.fsck = fsck, .name = provider->name,
				      .provider_no = number_of(fsck, provider->name)};

		r = aead_ctx_new(&probe.aead);
		if (r == 0)
			r = check_provider(&probe, provider);
		backend_close(probe.backend);
		aead_ctx_free(probe.aead);
		free(probe.seen);
		if (r == -EUCLEAN || r == -EIO)
			r = 0; /* of a damaged index: found already */
	}
	return r < 0 ? r : check_complete(fsck);
}
