/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Without any index: what shards say about themselves.  Each chunk becomes a file.
 */
#include "store/recover_private.h"

#include "store/pack.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
		recovery_note(recovery, "provider %s: shard %s: %s", source->shown.name, entry->key,
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

	if (!recovery_parse_shard_id(entry->key, &id))
		return 0;
	r = index_find_shard(recovery->index, recovery->reader, &id, &row);
	if (r == -ENOENT) {
		r = salvage_shard(salvage, source, entry, &id);
		if (r == 0 && index_find_shard(recovery->index, recovery->reader, &id, &row) < 0)
			return 0;
	}
	return r < 0 ? r : recovery_found_shard(&salvage->additions, source, entry, result);
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
			recovery_note(recovery, "provider %s: its shards cannot be listed: %s",
				      source->shown.name, req.cause);
			break;
		}
		for (size_t i = 0; i < list.count && r == 0; i++) {
			r = salvage_entry(salvage, source, &list.entries[i], result);
			recovery_progress(recovery, "reading footers", salvage->shards, 0);
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

int recovery_salvage(struct recovery *recovery, struct recovery_result *result, struct buf *why)
{
	struct salvage salvage = {.additions = {.recovery = recovery},
				  .next_ino = LOST_INO + 1, .next_cookie = 1,
				  .next_chunk_no = 1, .now = clock_wall()};
	int r = recovery_new_index(recovery, why);

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
