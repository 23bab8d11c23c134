/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of damage, and the order of an inspection: keys, then the index (a
 * copy of it, so that opening and replaying change nothing), then what the index
 * is compared with.
 */
#include "store/fsck_private.h"

#include "util/clock.h"
#include "util/err.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct fsck_kind kinds[] = {
	{"lock-odd", "home/lock is no regular file", FSCK_ASIDE},
	{"superblock-missing", "home/superblock is not there", FSCK_REWRITE},
	{"superblock-damaged", "home/superblock does not parse or authenticate", FSCK_REWRITE},
	{"superblock-older", "a provider has a newer superblock than home", FSCK_REWRITE},
	{"index-missing", "there is no index", FSCK_REBUILD},
	{"index-unreadable", "the index cannot be opened", FSCK_REBUILD},
	{"index-newer", "the index was made by a newer version", FSCK_BY_HAND},
	{"journal-damaged", "the journal does not authenticate before its last mark, or a file of it "
			    "is missing", FSCK_REBUILD},
	{"journal-newer", "the journal was made by a newer version", FSCK_BY_HAND},
	{"journal-frame", "a frame whose records are applied does not authenticate", FSCK_NOTICE},
	{"journal-torn", "records behind the last mark are torn", FSCK_NOTICE},
	{"journal-foreign", "something that is no journal file lies among them", FSCK_ASIDE},
	{"oplog-foreign", "something that is no oplog object lies in home/oplog", FSCK_ASIDE},
	{"oplog-damaged", "an object in home/oplog does not authenticate", FSCK_BY_HAND},
	{"spool-foreign", "something that is no shard lies in the spool", FSCK_ASIDE},
	{"spool-unknown", "a shard in the spool that the index does not know", FSCK_NOTICE},
	{"spool-owes", "a shard that owes copies is not in the spool; a copy will serve",
	 FSCK_NOTICE},
	{"spool-length", "a sealed shard in the spool has another length; a copy will serve",
	 FSCK_ASIDE},
	{"spool-record", "a record in the spool does not authenticate; a copy will serve",
	 FSCK_ASIDE},
	{"spool-length-only", "the same, and it is the only copy", FSCK_BY_HAND},
	{"spool-record-only", "the same, and it is the only copy", FSCK_BY_HAND},
	{"shard-lost", "a shard with chunks in use is not in the spool, and no copy is known to be "
		       "good", FSCK_BY_HAND},
	{"provider-absent", "a provider is not reached, or its marker is missing or another's",
	 FSCK_BY_HAND},
	{"provider-superblock-missing", "a provider has no superblock", FSCK_REWRITE},
	{"provider-superblock-damaged", "a provider's superblock is not authentic", FSCK_REWRITE},
	{"provider-superblock-older", "a provider's superblock is not the newest", FSCK_REWRITE},
	{"provider-oplog-incomplete", "a provider alone does not give back the newest state",
	 FSCK_SCRUB},
	{"provider-oplog-damaged", "an index object of a provider is not authentic", FSCK_SCRUB},
	{"copy-missing", "a provider does not have a copy that it had", FSCK_SCRUB},
	{"copy-length", "a copy has another length than its shard", FSCK_SCRUB},
	{"copy-damaged", "a copy does not authenticate", FSCK_SCRUB},
	{"copy-swapped", "an authentic shard lies under another one's name", FSCK_SCRUB},
	{"object-unknown", "an object that the index does not know", FSCK_NOTICE},
};

const char *fsck_remedy_text(enum fsck_remedy remedy)
{
	static const char *const texts[FSCK_REMEDY_COUNT] = {
		"no damage: the next mount puts it in order",
		"repair: recomputed from other rows",
		"repair: the index is rebuilt from the providers",
		"repair: written again from a good one",
		"repair: moved to fsck-aside",
		"mount it and run `shardctl scrub --deep`",
		"no repair: named only",
	};

	return texts[remedy];
}

bool fsck_kind_at(size_t i, struct fsck_kind *out)
{
	const struct index_kind *of_index;

	if (i < ARRAY_COUNT(kinds)) {
		*out = kinds[i];
		return true;
	}
	of_index = index_kind(i - ARRAY_COUNT(kinds));
	if (of_index)
		*out = (struct fsck_kind){of_index->name, of_index->means,
					  of_index->follows ? FSCK_FOLLOWS : FSCK_REBUILD};
	return of_index != NULL;
}

void fsck_found(struct fsck *fsck, const char *name, const char *format, ...)
{
	AUTO(buf) text = BUF_INIT;
	struct fsck_kind kind = {.remedy = FSCK_BY_HAND};
	va_list args;
	size_t i = 0;

	while (fsck_kind_at(i, &kind) && strcmp(kind.name, name) != 0)
		i++;
	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	fsck->report->by_remedy[kind.remedy]++;
	if (kind.remedy == FSCK_NOTICE)
		fsck->report->notices++;
	else
		fsck->report->damages++;
	if (fsck->settings->found)
		fsck->settings->found(fsck->settings->ctx, &kind,
				      text.len ? buf_str(&text) : "no memory for the finding");
}

void fsck_aside(struct fsck *fsck, const char *path)
{
	char **paths = realloc(fsck->aside.paths, (fsck->aside.count + 1) * sizeof(*paths));

	if (paths)
		fsck->aside.paths = paths;
	if (!paths || !(paths[fsck->aside.count] = mem_strdup(path)))
		fsck->error = -ENOMEM;
	else
		fsck->aside.count++;
}

bool fsck_parse_shard_id(const char *name, struct shard_id *id)
{
	if (strlen(name) != 32 || strspn(name, "0123456789abcdef") != 32)
		return false;
	for (unsigned i = 0; i < sizeof(id->b); i++) {
		char two[3] = {name[2 * i], name[2 * i + 1], 0};

		id->b[i] = (uint8_t)strtoul(two, NULL, 16);
	}
	return true;
}

int fsck_lock(const struct config *config, uint64_t wait_ms, int *fd, struct buf *why)
{
	AUTO_STR path = store_path(config, STORE_LOCK_NAME);
	uint64_t until = clock_mono_ms() + wait_ms;

	if (!path)
		return -ENOMEM;
	*fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (*fd < 0)
		return 0; /* nobody holds what is not there; an odd one is a finding */
	while (flock(*fd, LOCK_EX | LOCK_NB) < 0) {
		struct timespec pause = {.tv_nsec = 50000000};

		if (errno != EWOULDBLOCK || clock_mono_ms() >= until) {
			buf_printf(why, "%s: this file system is in use by another process; "
					"unmount it first", config->home);
			return -EBUSY;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

static void check_lock(struct fsck *fsck)
{
	AUTO_STR path = store_path(fsck->config, STORE_LOCK_NAME);
	struct stat st;

	if (!path || lstat(path, &st) < 0 || S_ISREG(st.st_mode))
		return;
	fsck_found(fsck, "lock-odd", "%s: no regular file", path);
	fsck_aside(fsck, path);
}

int fsck_begin(struct fsck *fsck, struct buf *why)
{
	int r;

	check_lock(fsck);
	r = fsck_superblocks(fsck, why);
	if (r == 0)
		r = fsck_index(fsck, why);
	if (r == 0)
		r = fsck_journal(fsck);
	if (r == 0 && fsck->index)
		r = fsck_spool(fsck);
	if (r == 0 && fsck->settings->with_providers)
		r = fsck_providers(fsck);
	if (r < 0 && why->len == 0)
		buf_printf(why, "%s: the check failed: %s", fsck->config->home, err_sentence(r));
	return r < 0 ? r : fsck->error;
}

void fsck_end(struct fsck *fsck)
{
	index_reader_close(fsck->reader);
	if (fsck->index)
		index_close(fsck->index);
	keyring_free(fsck->keyring);
	mem_free(fsck->sb);
	for (size_t i = 0; i < fsck->aside.count; i++)
		mem_free(fsck->aside.paths[i]);
	free(fsck->aside.paths);
}

int fsck_inspect(const struct config *config, const struct fsck_settings *settings,
		 struct fsck_report *report, struct buf *why)
{
	struct fsck fsck = {.config = config, .settings = settings, .report = report};
	AUTO_FD fd = -1;
	int r;

	*report = (struct fsck_report){0};
	r = fsck_lock(config, settings->lock_wait_ms, &fd, why);
	if (r == 0)
		r = fsck_begin(&fsck, why);
	fsck_end(&fsck);
	return r;
}
