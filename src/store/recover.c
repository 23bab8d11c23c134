/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps of a recovery: (1) keys from a superblock, (2) LIST of index/ everywhere, (3) the newest
 * snapshot that can be had whole and the chain of segments behind it are fetched to home/recover,
 * each object from whichever provider has it right, (4) a new index is built from them beside its
 * final name, (5) LIST of all shards gives the copies, (6) the index gets its name, (7) the
 * superblock is written: from then on there is a file system.  (3) goes on where it was
 * interrupted; what comes after it is begun anew.
 *
 * The chain is followed from a snapshot by numbers: behind n comes the segment whose first is n + 1,
 * of the highest writer epoch that is not below the last one's; that it names the hash of the one
 * before is checked when it is opened.
 */
#include "store/recover.h"

#include "store/epoch.h"
#include "store/oplog_private.h"
#include "store/pack.h"
#include "store/store_private.h"
#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECOVER_NAME	  "recover" /* under home */
#define RECORDS_BATCH	  4096u
#define COPY_BATCH	  512u
#define LIST_PAGE	  1000u
#define TREE_DEPTH_MAX	  4096u
#define FILES_NAMED_MAX	  1000u

struct source {
	const struct config_provider *config;
	struct backend *backend;
	struct oplog_files files; /* sorted */
	struct recovery_provider shown;
	uint32_t provider_no; /* in the recovered index; 0: new */
	bool is_listed;	      /* its shards */
};

struct recovery {
	const struct config *config;
	struct recovery_settings settings;
	struct superblock *sb;
	struct keyring *keyring;
	struct aead_ctx *ctx;
	struct source sources[CONFIG_PROVIDERS_MAX];
	unsigned source_count;
	struct oplog_files all; /* sorted, each name once */
	char *dir;		/* home/recover */
	char *index_path;	/* while it is built */
	struct index *index;
	struct index_reader *reader;
	int lock_fd;
};

static void note(struct recovery *recovery, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void note(struct recovery *recovery, const char *format, ...)
{
	AUTO(buf) text = BUF_INIT;
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	if (recovery->settings.note && buf_str(&text))
		recovery->settings.note(recovery->settings.ctx, buf_str(&text));
}

static void progress(struct recovery *recovery, const char *what, uint64_t done, uint64_t total)
{
	if (recovery->settings.progress)
		recovery->settings.progress(recovery->settings.ctx, what, done, total);
}

/* ---- what is there ---- */

static const struct oplog_file *next_segment(const struct oplog_files *files, uint32_t epoch,
					     uint64_t after)
{
	const struct oplog_file *best = NULL;

	/* sorted by name, so by (epoch, first) */
	for (size_t i = 0; i < files->count; i++) {
		const struct oplog_name *name = &files->files[i].name;

		if (name->kind == OPLOG_SEGMENT && name->first == after + 1 &&
		    name->epoch >= epoch && (!best || name->epoch > best->name.epoch ||
					     name->last > best->name.last))
			best = &files->files[i];
	}
	return best;
}

/* Up to where a root and the segments behind it reach; *epoch: of the last of them. */
static uint64_t chain_end(const struct oplog_files *files, const struct oplog_name *root,
			  uint32_t *epoch)
{
	const struct oplog_file *segment;
	uint64_t end = root->first;

	*epoch = root->epoch;
	while ((segment = next_segment(files, *epoch, end)) != NULL) {
		end = segment->name.last;
		*epoch = segment->name.epoch;
	}
	return MAX(end, root->last);
}

/* Parts are written before their root: so a root says that they were there. */
static uint64_t complete_state(const struct oplog_files *files, uint32_t *epoch)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;

	if (oplog_files_roots(files, &roots) < 0 || roots.count == 0)
		return 0;
	return chain_end(files, &roots.files[0].name, epoch);
}

static void describe(struct source *source)
{
	struct recovery_provider *shown = &source->shown;
	uint32_t epoch;

	shown->objects = source->files.count;
	for (size_t i = 0; i < source->files.count; i++) {
		const struct oplog_name *name = &source->files.files[i].name;

		if (name->kind == OPLOG_PART)
			continue;
		shown->epoch = MAX(shown->epoch, name->epoch);
		shown->newest = MAX(shown->newest, name->last);
	}
	shown->complete = complete_state(&source->files, &epoch);
}

static int merge(struct recovery *recovery, const struct oplog_files *files)
{
	int r = 0;

	for (size_t i = 0; i < files->count && r == 0; i++)
		if (!oplog_files_find(&recovery->all, &files->files[i].name))
			r = oplog_files_add(&recovery->all, &files->files[i]);
	oplog_files_sort(&recovery->all);
	return r;
}

static int look_at(struct recovery *recovery, const struct config_provider *provider,
		   struct buf *why)
{
	struct source *source = &recovery->sources[recovery->source_count];
	struct fs_id fs_id = keyring_fs_id(recovery->keyring);
	AUTO(buf) cause = BUF_INIT;
	int r = provider_open(recovery->config, provider, why, &source->backend);

	if (r < 0)
		return r;
	recovery->source_count++;
	source->config = provider;
	source->shown.name = provider->name;
	backend_bind(source->backend, fs_id.b);
	r = oplog_list(source->backend, NULL, &source->files, &cause);
	if (r < 0) {
		snprintf(source->shown.cause, sizeof(source->shown.cause), "%.150s",
			 buf_str(&cause));
		return r == -ENOMEM ? r : 0;
	}
	source->shown.is_reached = true;
	describe(source);
	return merge(recovery, &source->files);
}

int recovery_open(const struct config *config, const struct recovery_settings *settings,
		  struct buf *why, struct recovery **out)
{
	struct recovery *recovery = mem_alloc(sizeof(*recovery));
	int r = -ENOMEM;

	if (!recovery)
		return -ENOMEM;
	recovery->config = config;
	recovery->settings = *settings;
	recovery->lock_fd = -1;
	recovery->sb = mem_alloc(sizeof(*recovery->sb));
	recovery->dir = store_path(config, RECOVER_NAME);
	recovery->index_path = mem_printf("%s.recovering", config->index);
	if (recovery->sb && recovery->dir && recovery->index_path)
		r = aead_ctx_new(&recovery->ctx);
	if (r == 0)
		r = store_unlock(config, settings->credentials, recovery->sb, &recovery->keyring,
				 why);
	for (size_t i = 0; i < config->provider_count && r == 0; i++) {
		progress(recovery, "looking at providers", i, config->provider_count);
		r = look_at(recovery, &config->providers[i], why);
	}
	if (r < 0) {
		recovery_close(recovery);
		return r;
	}
	*out = recovery;
	return 0;
}

void recovery_close(struct recovery *recovery)
{
	if (!recovery)
		return;
	index_reader_close(recovery->reader);
	index_close(recovery->index);
	for (unsigned i = 0; i < recovery->source_count; i++) {
		backend_close(recovery->sources[i].backend);
		oplog_files_release(&recovery->sources[i].files);
	}
	oplog_files_release(&recovery->all);
	keyring_free(recovery->keyring);
	aead_ctx_free(recovery->ctx);
	mem_free(recovery->sb);
	mem_free(recovery->dir);
	mem_free(recovery->index_path);
	mem_close_fd(&recovery->lock_fd);
	mem_free(recovery);
}

unsigned recovery_provider_count(const struct recovery *recovery)
{
	return recovery->source_count;
}

void recovery_provider_get(const struct recovery *recovery, unsigned i,
			   struct recovery_provider *out)
{
	*out = recovery->sources[i].shown;
}

uint64_t recovery_newest(const struct recovery *recovery, uint32_t *epoch)
{
	return complete_state(&recovery->all, epoch);
}

/* ---- fetching ---- */

/* Opens what lies in home/recover: 0, or an error when it is not there or not right. */
static int open_fetched(struct recovery *recovery, const struct oplog_name *name, struct buf *body,
			struct digest *hash)
{
	AUTO(buf) object = BUF_INIT;
	char text[OPLOG_NAME_SIZE];
	int r = oplog_dir_read(recovery->dir, oplog_name_print(name, text), &object);

	buf_clear(body);
	return r < 0 ? r : oplog_open_object(recovery->keyring, recovery->ctx, name,
					     buf_bytes(&object), body, hash);
}

static int fetch_from(struct recovery *recovery, struct source *source,
		      const struct oplog_name *name, struct buf *body, struct digest *hash)
{
	char text[OPLOG_NAME_SIZE], key[sizeof(OPLOG_PREFIX) + OPLOG_NAME_SIZE];
	AUTO(buf) object = BUF_INIT;
	struct backend_req req = {.op = BACKEND_GET, .key = key, .len = BACKEND_TO_END,
				  .out = &object};
	int r;

	snprintf(key, sizeof(key), OPLOG_PREFIX "%s", oplog_name_print(name, text));
	r = backend_run(source->backend, &req);
	buf_clear(body);
	if (r == 0)
		r = oplog_open_object(recovery->keyring, recovery->ctx, name, buf_bytes(&object),
				      body, hash);
	if (r < 0) {
		note(recovery, "provider %s: %s: %s; another copy is looked for",
		     source->shown.name, key,
		     r == -EBADMSG ? "does not authenticate"
				   : (req.cause[0] ? req.cause : err_sentence(r)));
		return r;
	}
	return oplog_dir_write(recovery->dir, text, buf_bytes(&object), false);
}

/* The body of an object, from an earlier try or from the first provider that has it right. */
static int fetch(struct recovery *recovery, const struct oplog_name *name, struct buf *body,
		 struct digest *hash)
{
	int r = open_fetched(recovery, name, body, hash);

	if (r == 0)
		return 0;
	r = -ENOENT;
	for (unsigned i = 0; i < recovery->source_count && r != 0; i++) {
		struct source *source = &recovery->sources[i];

		if (oplog_files_find(&source->files, name))
			r = fetch_from(recovery, source, name, body, hash);
	}
	return r;
}

static struct oplog_name part_name(const struct oplog_name *root, uint32_t part)
{
	struct oplog_name name = *root;

	name.kind = OPLOG_PART;
	name.part = part;
	return name;
}

/* All of a snapshot to home/recover. */
static int fetch_snapshot(struct recovery *recovery, const struct oplog_name *name,
			  struct oplog_root *out)
{
	AUTO(oplog_root) root = OPLOG_ROOT_INIT;
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = fetch(recovery, name, &body, &hash);

	if (r == 0)
		r = oplog_root_read(buf_bytes(&body), &root);
	if (r == 0 && (root.txn != name->last || root.chain_seq != name->first))
		r = -EBADMSG;
	for (uint32_t i = 0; i < root.part_count && r == 0; i++) {
		struct oplog_name part = part_name(name, i);

		progress(recovery, "fetching the snapshot", i, root.part_count);
		r = fetch(recovery, &part, &body, &hash);
		if (r == 0 && memcmp(hash.b, root.parts[i].hash.b, sizeof(hash.b)) != 0)
			r = -EBADMSG;
	}
	if (r < 0)
		return r;
	*out = root;
	root.parts = NULL;
	return 0;
}

/* ---- building the index ---- */

struct batch {
	struct record *records[RECORDS_BATCH];
	size_t count;
};

static void batch_release(struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		record_free(batch->records[i]);
	batch->count = 0;
}

static int batch_add(struct batch *batch, uint64_t seq, struct bytes changes)
{
	struct record *record = record_new();
	int r = record ? buf_append(&record->changes, changes) : -ENOMEM;

	if (r < 0) {
		record_free(record);
		return r;
	}
	record->seq = seq;
	record->change_count = 1;
	batch->records[batch->count++] = record;
	return 0;
}

static int restore_part(struct recovery *recovery, uint64_t txn, struct bytes rows)
{
	struct wire_reader reader = wire_reader_of(rows);
	AUTO(batch) batch = {.count = 0};
	int r = 0;

	while (r == 0 && wire_left(&reader) > 0) {
		struct bytes changes = wire_get_blob(&reader, OPLOG_PLAIN_BYTES_MAX);

		r = wire_reader_check(&reader);
		if (r == 0)
			r = batch_add(&batch, txn, changes);
		if (r == 0 && batch.count == RECORDS_BATCH) {
			r = index_restore(recovery->index, txn, batch.records, batch.count);
			batch_release(&batch);
		}
	}
	return r < 0 ? r : index_restore(recovery->index, txn, batch.records, batch.count);
}

static int restore_snapshot(struct recovery *recovery, const struct oplog_name *name,
			    const struct oplog_root *root)
{
	AUTO(buf) body = BUF_INIT;
	struct digest hash;
	int r = 0;

	for (uint32_t i = 0; i < root->part_count && r == 0; i++) {
		struct oplog_name part = part_name(name, i);

		progress(recovery, "restoring the snapshot", i, root->part_count);
		r = fetch(recovery, &part, &body, &hash);
		if (r == 0)
			r = restore_part(recovery, root->txn, buf_bytes(&body));
	}
	return r < 0 ? r : index_restore_end(recovery->index, &root->highest);
}

static int apply_batch_of(struct recovery *recovery, struct batch *batch)
{
	int r = index_apply(recovery->index, batch->records, batch->count);

	batch_release(batch);
	return r;
}

static int apply_segment(struct recovery *recovery, struct bytes records)
{
	AUTO(batch) batch = {.count = 0};
	struct bytes changes;
	uint64_t seq;
	int r;

	while ((r = oplog_get_record(&records, &seq, &changes)) > 0) {
		if (seq <= index_applied_seq(recovery->index))
			continue; /* the snapshot has it */
		r = batch_add(&batch, seq, changes);
		if (r == 0 && batch.count == RECORDS_BATCH)
			r = apply_batch_of(recovery, &batch);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : apply_batch_of(recovery, &batch);
}

/* Every segment that follows; ends where none does, or where one is not right anywhere. */
static int apply_chain(struct recovery *recovery, const struct oplog_name *name,
		       const struct oplog_root *root, struct recovery_result *result)
{
	const struct oplog_file *segment;
	struct digest previous = root->chain_hash;
	uint64_t at = root->chain_seq, end;
	AUTO(buf) body = BUF_INIT;
	int r = 0;

	end = chain_end(&recovery->all, name, &result->epoch);
	result->epoch = name->epoch;
	result->made_sec = root->made_sec;
	result->generation = root->txn;
	while (r == 0 && (segment = next_segment(&recovery->all, result->epoch, at)) != NULL) {
		struct oplog_segment_head head;
		struct digest hash;
		struct bytes records;

		progress(recovery, "applying the oplog", at, end);
		r = fetch(recovery, &segment->name, &body, &hash);
		if (r == 0)
			r = oplog_segment_read(buf_bytes(&body), &head, &records);
		if (r == 0 && memcmp(head.previous.b, previous.b, sizeof(previous.b)) != 0)
			r = -EBADMSG;
		if (r == -EBADMSG || r == -ENOENT || r == -EIO || r == -EAGAIN) {
			note(recovery, "the oplog breaks off behind record %" PRIu64
			     ": the next segment is nowhere to be had; what came later is lost", at);
			return 0;
		}
		if (r == 0)
			r = apply_segment(recovery, records);
		if (r < 0)
			break;
		at = segment->name.last;
		previous = hash;
		result->epoch = segment->name.epoch;
		result->generation = MAX(at, result->generation);
		result->made_sec = MAX(head.made_sec, result->made_sec);
	}
	return r;
}

static void unlink_index(const struct recovery *recovery)
{
	static const char *const suffixes[] = {"", "-wal", "-shm", ".new"};

	for (unsigned i = 0; i < ARRAY_COUNT(suffixes); i++) {
		AUTO_STR path = mem_printf("%s%s", recovery->index_path, suffixes[i]);

		if (path)
			unlink(path);
	}
}

static int new_index(struct recovery *recovery, struct buf *why)
{
	struct inode_row root = {.ino = INO_ROOT, .mode = S_IFDIR | 0755, .nlink = 2,
				 .parent = INO_ROOT, .policy_root = INO_ROOT};
	struct index_settings settings = {
		.path = recovery->index_path,
		.cache_dirents_max = 16,
		.page_cache_bytes = recovery->config->settings.index_cache_bytes,
	};
	int r;

	unlink_index(recovery);
	r = index_create(recovery->index_path, &root);
	if (r < 0) {
		buf_printf(why, "%s: %s", recovery->index_path, err_sentence(r));
		return r;
	}
	return index_open(&settings, why, &recovery->index);
}

static int build_index(struct recovery *recovery, struct recovery_result *result, struct buf *why)
{
	AUTO(oplog_files) roots = OPLOG_FILES_INIT;
	int r = oplog_files_roots(&recovery->all, &roots);

	for (size_t i = 0; i < roots.count && r == 0; i++) {
		const struct oplog_name *name = &roots.files[i].name;
		AUTO(oplog_root) root = OPLOG_ROOT_INIT;

		r = fetch_snapshot(recovery, name, &root);
		if (r == -EBADMSG || r == -ENOENT || r == -EAGAIN || r == -EIO) {
			note(recovery, "the snapshot of generation %" PRIu64
			     " is not whole; an older one is tried", name->last);
			r = 0;
			continue;
		}
		if (r == 0)
			r = new_index(recovery, why);
		if (r == 0)
			r = restore_snapshot(recovery, name, &root);
		if (r == 0)
			r = apply_chain(recovery, name, &root, result);
		return r;
	}
	if (r == 0) {
		buf_printf(why, "no whole snapshot of the index is at any provider that is reached");
		r = -ENODATA;
	}
	return r;
}

/* ---- copies ---- */

/* Changes that this recovery adds itself, behind the last record. */
struct additions {
	struct recovery *recovery;
	struct record *record;
};

static int additions_flush(struct additions *additions)
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
static int additions_step(struct additions *additions)
{
	int r = 0;

	if (additions->record && additions->record->change_count >= COPY_BATCH)
		r = additions_flush(additions);
	if (r == 0 && !additions->record)
		additions->record = record_new();
	return r == 0 && !additions->record ? -ENOMEM : r;
}

static bool parse_shard_id(const char *key, struct shard_id *id)
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

static int found_shard(struct additions *additions, struct source *source,
		       const struct backend_entry *entry, struct recovery_result *result)
{
	struct recovery *recovery = additions->recovery;
	struct copy_row copy = {.provider_no = source->provider_no, .state = COPY_PRESENT,
				.changed_sec = clock_wall().sec};
	struct shard_row row;
	struct shard_id id;
	int r;

	if (!parse_shard_id(entry->key, &id))
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
		note(recovery, "provider %s: shard %s has %" PRIu64 " bytes instead of %" PRIu64,
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
			note(recovery, "provider %s: its shards cannot be listed: %s",
			     source->shown.name, req.cause);
			r = 0;
			break;
		}
		for (size_t i = 0; i < list.count && r == 0; i++)
			r = found_shard(additions, source, &list.entries[i], result);
		seen += list.count;
		progress(recovery, "listing shards", seen, 0);
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
					note(recovery, "not whole: %s", name);
			}
		}
	} while (r >= 0 && dirents.count == LIST_PAGE);
	return MIN(r, 0);
}

static int rebuild_copies(struct recovery *recovery, struct recovery_result *result)
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

/* ---- the end ---- */

/* Whoever writes from here on is another writer than the machine before. */
static int raise_epoch(struct recovery *recovery)
{
	struct additions additions = {.recovery = recovery};
	AUTO(buf) text = BUF_INIT;
	uint32_t epoch = 1;
	int r;

	for (size_t i = 0; i < recovery->all.count; i++)
		epoch = MAX(epoch, recovery->all.files[i].name.epoch);
	for (unsigned i = 0; i < recovery->source_count; i++) {
		uint32_t claimed = 0;

		if (recovery->sources[i].shown.is_reached &&
		    epoch_highest(recovery->sources[i].backend, &claimed) == 0)
			epoch = MAX(epoch, claimed);
	}
	r = buf_printf(&text, "%" PRIu32, epoch + 1);
	if (r == 0)
		r = additions_step(&additions);
	if (r == 0)
		record_put_setting(additions.record, bytes_of_str(STORE_EPOCH_SETTING),
				   buf_bytes(&text));
	return r < 0 ? r : additions_flush(&additions);
}

/* The index gets its name. */
static int install_index(struct recovery *recovery, struct recovery_result *result, struct buf *why)
{
	struct index_totals totals;
	int r = 0;

	index_totals(recovery->index, &totals);
	result->inodes = totals.inodes;
	result->bytes = totals.bytes;
	result->shards = totals.shards;
	r = index_checkpoint(recovery->index);
	index_reader_close(recovery->reader);
	recovery->reader = NULL;
	index_close(recovery->index); /* the last connection moves the log into the file */
	recovery->index = NULL;
	if (r == 0 && rename(recovery->index_path, recovery->config->index) < 0)
		r = -errno;
	if (r < 0)
		buf_printf(why, "%s: %s", recovery->config->index, err_sentence(r));
	else
		unlink_index(recovery);
	return r;
}

static int refuse_existing(struct recovery *recovery, struct buf *why)
{
	const struct config *config = recovery->config;
	AUTO_STR superblock = store_path(config, STORE_SUPERBLOCK_NAME);
	AUTO_STR lock = store_path(config, STORE_LOCK_NAME);
	bool is_unfinished = access(recovery->dir, F_OK) == 0;

	if (!superblock || !lock)
		return -ENOMEM;
	recovery->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (recovery->lock_fd < 0 || flock(recovery->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		buf_printf(why, "%s: in use by another process", config->home);
		return -EBUSY;
	}
	if (access(superblock, F_OK) == 0 || (!is_unfinished && access(config->index, F_OK) == 0)) {
		buf_printf(why, "%s: there is a file system already; mount it, or name another home",
			   config->home);
		return -EEXIST;
	}
	return 0;
}

static void remove_fetched(struct recovery *recovery)
{
	AUTO(oplog_files) files = OPLOG_FILES_INIT;
	char text[OPLOG_NAME_SIZE];

	if (oplog_dir_list(recovery->dir, &files) < 0)
		return;
	for (size_t i = 0; i < files.count; i++)
		oplog_dir_remove(recovery->dir, oplog_name_print(&files.files[i].name, text));
	rmdir(recovery->dir);
}

/* As it goes to home and providers. */
static int seal_superblock(struct recovery *recovery, struct buf *out)
{
	keys_public_form(recovery->config, recovery->sb);
	return keyring_seal_superblock(recovery->keyring, recovery->sb, out);
}

static int write_superblock(struct recovery *recovery, struct buf *why)
{
	AUTO(buf) sealed = BUF_INIT;
	int r = seal_superblock(recovery, &sealed);

	return r < 0 ? r : superblock_io_write_local(recovery->config, buf_bytes(&sealed), why);
}

static int rebuild(struct recovery *recovery, struct recovery_result *result, struct buf *why)
{
	int r = build_index(recovery, result, why);

	return r < 0 ? r : rebuild_copies(recovery, result);
}

/* Everything but where the index comes from. */
static int run(struct recovery *recovery,
	       int (*make_index)(struct recovery *recovery, struct recovery_result *result,
				 struct buf *why),
	       struct recovery_result *result, struct buf *why)
{
	const struct config *config = recovery->config;
	const char *const dirs[] = {config->home, config->journal, config->spool, config->cache,
				    recovery->dir};
	struct recovery_result found = {0};
	int r = store_make_path(config->home, why);

	if (r == 0)
		r = refuse_existing(recovery, why);
	for (size_t i = 0; i < ARRAY_COUNT(dirs) && r == 0; i++)
		r = store_make_path(dirs[i], why);
	if (r == 0)
		r = make_index(recovery, &found, why);
	if (r == 0)
		r = raise_epoch(recovery);
	if (r == 0)
		r = install_index(recovery, &found, why);
	if (r == 0)
		r = write_superblock(recovery, why);
	if (r < 0) {
		if (why->len == 0)
			buf_printf(why, "%s: %s", config->home, err_sentence(r));
		return r;
	}
	remove_fetched(recovery);
	*result = found;
	return 0;
}

int recovery_run(struct recovery *recovery, struct recovery_result *result, struct buf *why)
{
	return run(recovery, rebuild, result, why);
}

/* ---- without any index ---- */

#define LOST_INO 2u

struct salvage {
	struct additions additions;
	uint64_t next_ino, next_cookie, next_chunk_no, shards;
	struct wall_time now;
};

static struct inode_row salvaged_dir(const struct salvage *salvage, uint64_t ino, uint64_t parent,
				     uint32_t nlink)
{
	return (struct inode_row){.ino = ino,
				  .mode = S_IFDIR | (ino == INO_ROOT ? 0755 : 0700),
				  .uid = getuid(),
				  .gid = getgid(),
				  .nlink = nlink,
				  .parent = parent,
				  .policy_root = INO_ROOT,
				  .atime = salvage->now,
				  .mtime = salvage->now,
				  .ctime = salvage->now,
				  .btime = salvage->now};
}

static void put_dir(struct salvage *salvage, struct record *record, uint64_t parent, uint64_t ino,
		    const char *name)
{
	struct inode_row row = salvaged_dir(salvage, ino, parent, 2);

	record_put_inode(record, &row);
	record_put_dirent(record, parent, salvage->next_cookie++, bytes_of_str(name), ino, DT_DIR);
}

static void put_chunk_file(struct salvage *salvage, struct record *record, uint64_t dir,
			   uint64_t shard_no, uint32_t record_no, const struct pack_entry *entry)
{
	struct chunk_row chunk = {.chunk_no = salvage->next_chunk_no++,
				  .id = entry->id,
				  .shard_no = shard_no,
				  .record_no = record_no,
				  .off = entry->off,
				  .stored_len = entry->stored_len,
				  .raw_len = entry->raw_len};
	struct inode_row row = salvaged_dir(salvage, salvage->next_ino++, dir, 1);
	struct extent_row extent = {.ino = row.ino, .len = entry->raw_len,
				    .chunk_no = chunk.chunk_no};
	char name[16];

	snprintf(name, sizeof(name), "%06" PRIu32, record_no);
	row.mode = S_IFREG | 0600;
	row.size = entry->raw_len;
	record_put_chunk(record, &chunk);
	record_put_inode(record, &row);
	record_put_extent(record, &extent);
	record_put_dirent(record, dir, salvage->next_cookie++, bytes_of_str(name), row.ino, DT_REG);
}

static int get_range(struct source *source, const char *key, uint64_t off, uint64_t len,
		     struct buf *out)
{
	struct backend_req req = {.op = BACKEND_GET, .key = key, .offset = off, .len = len,
				  .out = out};

	buf_clear(out);
	return backend_run(source->backend, &req);
}

/* Header, tail and footer of a shard: three small requests. */
static int read_footer(struct recovery *recovery, struct source *source,
		       const struct backend_entry *entry, struct pack_footer *footer)
{
	struct pack_keys *keys = secret_alloc(sizeof(*keys));
	struct fs_id fs_id, own = keyring_fs_id(recovery->keyring);
	uint32_t key_epoch, off, len;
	uint8_t mac[32];
	AUTO(buf) bytes = BUF_INIT;
	struct shard_id id;
	int r = keys ? 0 : -ENOMEM;

	if (r == 0 && entry->size < PACK_HEADER_LEN + PACK_TAIL_LEN)
		r = -EBADMSG;
	if (r == 0)
		r = get_range(source, entry->key, 0, PACK_HEADER_LEN, &bytes);
	if (r == 0)
		r = pack_header_read(buf_bytes(&bytes), &id, &key_epoch, &fs_id);
	if (r == 0 && memcmp(fs_id.b, own.b, sizeof(own.b)) != 0)
		r = -EBADMSG;
	if (r == 0)
		r = pack_keys_init(keys, recovery->keyring, key_epoch, &id);
	if (r < 0) {
		if (keys)
			secret_free(keys, sizeof(*keys));
		return r;
	}
	r = get_range(source, entry->key, entry->size - PACK_TAIL_LEN, PACK_TAIL_LEN, &bytes);
	if (r == 0)
		r = pack_tail_read(buf_bytes(&bytes), entry->size, mac);
	if (r == 0)
		r = pack_tail_open(recovery->ctx, keys, buf_bytes(&bytes), entry->size, &off, &len);
	if (r == 0)
		r = get_range(source, entry->key, off, len, &bytes);
	if (r == 0)
		r = pack_open_footer(recovery->ctx, keys, off, buf_bytes(&bytes), footer);
	pack_keys_release(keys);
	secret_free(keys, sizeof(*keys));
	if (r < 0)
		return r;
	footer->shard.id = id;
	footer->shard.key_epoch = key_epoch;
	footer->shard.object_len = entry->size;
	footer->shard.record_count = footer->entry_count;
	footer->shard.policy_root = INO_ROOT;
	footer->shard.state = SHARD_DURABLE;
	memcpy(footer->shard.mac, mac, sizeof(mac));
	return 0;
}

static int salvage_shard(struct salvage *salvage, struct source *source,
			 const struct backend_entry *entry, const struct shard_id *id)
{
	struct recovery *recovery = salvage->additions.recovery;
	AUTO(pack_footer) footer = PACK_FOOTER_INIT;
	struct inode_row lost;
	uint64_t dir;
	int r = read_footer(recovery, source, entry, &footer);

	if (r == 0 && memcmp(footer.shard.id.b, id->b, sizeof(id->b)) != 0)
		r = -EBADMSG;
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		note(recovery, "provider %s: shard %s: %s", source->shown.name, entry->key,
		     r == -EBADMSG ? "does not authenticate" : err_sentence(r));
		return 0; /* another provider may have it right */
	}
	r = additions_flush(&salvage->additions);
	if (r == 0)
		r = additions_step(&salvage->additions);
	if (r < 0)
		return r;
	dir = salvage->next_ino++;
	lost = salvaged_dir(salvage, LOST_INO, INO_ROOT, (uint32_t)(2 + ++salvage->shards));
	record_put_inode(salvage->additions.record, &lost);
	put_dir(salvage, salvage->additions.record, LOST_INO, dir, entry->key);
	record_put_shard(salvage->additions.record, &footer.shard);
	for (uint32_t i = 0; i < footer.entry_count; i++)
		if (!footer.entries[i].is_void)
			put_chunk_file(salvage, salvage->additions.record, dir,
				       footer.shard.shard_no, i, &footer.entries[i]);
	return additions_flush(&salvage->additions);
}

static int salvage_entry(struct salvage *salvage, struct source *source,
			 const struct backend_entry *entry, struct recovery_result *result)
{
	struct recovery *recovery = salvage->additions.recovery;
	struct shard_row row;
	struct shard_id id;
	int r;

	if (!parse_shard_id(entry->key, &id))
		return 0;
	r = index_find_shard(recovery->index, recovery->reader, &id, &row);
	if (r == -ENOENT) {
		r = salvage_shard(salvage, source, entry, &id);
		if (r == 0 && index_find_shard(recovery->index, recovery->reader, &id, &row) < 0)
			return 0;
	}
	return r < 0 ? r : found_shard(&salvage->additions, source, entry, result);
}

static int salvage_source(struct salvage *salvage, struct source *source,
			  struct recovery_result *result)
{
	struct recovery *recovery = salvage->additions.recovery;
	struct backend_list list = BACKEND_LIST_INIT;
	int r = 0;

	do {
		struct backend_req req = {.op = BACKEND_LIST, .key = "", .cursor = list.cursor,
					  .list = &list};

		if (backend_run(source->backend, &req) < 0) {
			note(recovery, "provider %s: its shards cannot be listed: %s",
			     source->shown.name, req.cause);
			break;
		}
		for (size_t i = 0; i < list.count && r == 0; i++) {
			r = salvage_entry(salvage, source, &list.entries[i], result);
			progress(recovery, "reading footers", salvage->shards, 0);
		}
	} while (r == 0 && list.cursor[0]);
	backend_list_release(&list);
	return r < 0 ? r : additions_flush(&salvage->additions);
}

/* Providers, the policy of the root, and a place for what is found. */
static int salvage_begin(struct salvage *salvage)
{
	struct recovery *recovery = salvage->additions.recovery;
	struct inode_row root = salvaged_dir(salvage, INO_ROOT, INO_ROOT, 3);
	struct policy_row policy = {.root = INO_ROOT, .version = 1};
	int r = additions_step(&salvage->additions);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < recovery->source_count; i++) {
		struct provider_row row;

		recovery->sources[i].provider_no = i + 1;
		store_describe_provider(recovery->sources[i].config, i + 1, &row);
		record_put_provider(salvage->additions.record, &row);
	}
	snprintf(policy.text, sizeof(policy.text), "%s", recovery->config->policy);
	record_put_policy(salvage->additions.record, &policy);
	record_put_inode(salvage->additions.record, &root);
	put_dir(salvage, salvage->additions.record, INO_ROOT, LOST_INO, "lost+found");
	return additions_flush(&salvage->additions);
}

static int salvage_all(struct recovery *recovery, struct recovery_result *result, struct buf *why)
{
	struct salvage salvage = {.additions = {.recovery = recovery},
				  .next_ino = LOST_INO + 1, .next_cookie = 1,
				  .next_chunk_no = 1, .now = clock_wall()};
	int r = new_index(recovery, why);

	if (r == 0)
		r = index_reader_open(recovery->index, &recovery->reader);
	if (r == 0)
		r = salvage_begin(&salvage);
	for (unsigned i = 0; i < recovery->source_count && r == 0; i++)
		if (recovery->sources[i].shown.is_reached)
			r = salvage_source(&salvage, &recovery->sources[i], result);
	record_free(salvage.additions.record);
	result->generation = index_applied_seq(recovery->index);
	result->made_sec = salvage.now.sec;
	if (r == 0 && salvage.shards == 0) {
		buf_printf(why, "no shard is at any provider that is reached");
		return -ENODATA;
	}
	return r;
}

int recovery_run_from_footers(struct recovery *recovery, struct recovery_result *result,
			      struct buf *why)
{
	return run(recovery, salvage_all, result, why);
}

int recovery_init_provider(struct recovery *recovery, const char *name, struct buf *why)
{
	for (unsigned i = 0; i < recovery->source_count; i++) {
		struct source *source = &recovery->sources[i];
		struct fs_id fs_id = keyring_fs_id(recovery->keyring);
		AUTO(buf) sealed = BUF_INIT;
		int r;

		if (strcmp(source->shown.name, name) != 0)
			continue;
		r = backend_init(source->backend, fs_id.b, why);
		if (r == 0)
			r = seal_superblock(recovery, &sealed);
		if (r == 0)
			r = superblock_io_put(source->backend, buf_bytes(&sealed), why);
		return r;
	}
	buf_printf(why, "provider %s: not in the configuration", name);
	return -ENOENT;
}
