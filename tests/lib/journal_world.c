/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/journal_world.h"

#include "util/err.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAG_KEY "tag"

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "journal_world: %s: %s\n", what, err_name(r));
	exit(1);
}

void journal_world_init(struct journal_world *world)
{
	struct credentials credentials = CREDENTIALS_INIT;
	struct superblock *sb = mem_alloc(sizeof(*sb));
	const char *tmp = getenv("TMPDIR");

	hooks_set(""); /* the variable is read at the first hook */
	memset(world, 0, sizeof(*world));
	snprintf(world->dir, sizeof(world->dir), "%s/journal.XXXXXX", tmp ? tmp : "/tmp");
	must(mkdtemp(world->dir) ? 0 : -errno, "mkdtemp");
	must(crypto_init(), "crypto_init");
	must(secret_set(&credentials.passphrase, bytes_of_str("correct horse")), "secret");
	sb->chunk_min_bytes = 65536;
	sb->chunk_avg_bytes = 262144;
	sb->chunk_max_bytes = 1048576;
	must(keyring_create(&credentials, KDF_PARAMS_TEST, "test", sb, &world->keyring), "keyring");
	credentials_release(&credentials);
	mem_free(sb);
	world->settings = (struct journal_settings){.dir = world->dir,
						    .keyring = world->keyring,
						    .file_bytes_max = 64 * MIB,
						    .writer_epoch = 1};
}

size_t journal_world_files(struct journal_world *world, char names[][64], size_t max)
{
	struct dirent **entries;
	int n = scandir(world->dir, &entries, NULL, alphasort);
	size_t count = 0;

	must(n, "scandir");
	for (int i = 0; i < n; i++) {
		if (entries[i]->d_name[0] != '.' && count < max)
			snprintf(names[count++], 64, "%.63s", entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return count;
}

static int open_in(struct journal_world *world, const char *name, int flags)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", world->dir, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	must(fd < 0 ? -errno : 0, path);
	return fd;
}

void journal_world_read(struct journal_world *world, const char *name, struct buf *out)
{
	AUTO_FD fd = open_in(world, name, O_RDONLY);
	struct stat st;

	must(fstat(fd, &st), "fstat");
	buf_clear(out);
	must(file_pread_buf(fd, (size_t)st.st_size, 0, out), "pread");
}

void journal_world_write(struct journal_world *world, const char *name, struct bytes content)
{
	AUTO_FD fd = open_in(world, name, O_WRONLY | O_CREAT | O_TRUNC);

	must(file_pwrite(fd, content, 0), "pwrite");
}

void journal_world_remove(struct journal_world *world, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", world->dir, name);
	must(unlink(path) < 0 ? -errno : 0, path);
}

void journal_world_release(struct journal_world *world)
{
	char names[64][64];
	size_t count;

	while ((count = journal_world_files(world, names, 64)) > 0)
		for (size_t i = 0; i < count; i++)
			journal_world_remove(world, names[i]);
	rmdir(world->dir);
	keyring_free(world->keyring);
}

/* ---- records ---- */

struct record *tagged_record(uint64_t seq, uint64_t tag, size_t filler)
{
	struct record *record = record_new();
	AUTO(buf) value = BUF_INIT;

	must(record ? 0 : -ENOMEM, "record_new");
	must(wire_put_u64(&value, tag), "tag");
	record_put_setting(record, bytes_of_str(TAG_KEY), buf_bytes(&value));
	must(record->error, "record_put_setting");
	must(buf_append_zeros(&record->changes, filler), "filler"); /* the journal does not look inside */
	record->seq = seq;
	return record;
}

uint64_t record_tag(const struct record *record)
{
	struct record_walk walk = record_walk_of(buf_bytes(&record->changes));
	struct change change;

	if (record->change_count != 1 || record_walk_next(&walk, &change) != 1 ||
	    change.type != CHANGE_SETTING_PUT || change.u.setting.value.len < 8)
		return 0;
	return wire_load_u64(change.u.setting.value.ptr);
}

int journal_world_append(struct journal *journal, uint64_t first, uint64_t last)
{
	size_t count = (size_t)(last - first + 1);
	struct record **records = mem_alloc_array(count, sizeof(struct record *));
	int r;

	for (size_t i = 0; i < count; i++)
		records[i] = tagged_record(first + i, first + i, (size_t)(first + i) % 50);
	r = journal_append(journal, records, count);
	for (size_t i = 0; i < count; i++)
		record_free(records[i]);
	mem_free(records);
	return r;
}

static int see(void *ctx, struct record *record, bool is_synced)
{
	struct replay_seen *seen = ctx;
	AUTO_PTR(record) owned = record;

	if (seen->end_at != 0 && owned->seq == seen->end_at)
		return 1;
	if (owned->seq != seen->last_seq + 1 || record_tag(owned) != owned->seq)
		seen->is_wrong = true;
	seen->last_seq = owned->seq;
	seen->count++;
	seen->synced_count += is_synced;
	return 0;
}

int journal_world_replay(struct journal_world *world, uint64_t after, struct replay_seen *seen,
			 struct journal_replay_info *info)
{
	*seen = (struct replay_seen){.last_seq = after, .end_at = seen->end_at};
	return journal_replay(&world->settings, after, see, seen, info);
}

/* ---- hooks ---- */

void hooks_set(const char *rules)
{
	static char path[512];
	static unsigned version;
	char next[600];
	FILE *file;

	if (path[0] == '\0') {
		const char *tmp = getenv("TMPDIR");

		snprintf(path, sizeof(path), "%s/hooks.%d", tmp ? tmp : "/tmp", (int)getpid());
		setenv("SHARDFS_HOOKS", path, 1);
	}
	/* The reader looks at size and time: a line more each time makes every version another size. */
	snprintf(next, sizeof(next), "%s.next", path);
	file = fopen(next, "we");
	must(file ? 0 : -errno, next);
	fprintf(file, "%s\n%*s\n", rules, (int)(++version), "#");
	fclose(file);
	must(rename(next, path) < 0 ? -errno : 0, path);
}
