/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps of a recovery: (1) keys from a superblock, (2) LIST of index/ everywhere (recover_find.c),
 * (3) the newest snapshot that can be had whole and the chain of segments behind it are fetched to
 * home/recover, each object from whichever provider has it right, (4) a new index is built from them
 * beside its final name (recover_index.c), (5) LIST of all shards gives the copies
 * (recover_copies.c), (6) the index gets its name, (7) the superblock is written: from then on there
 * is a file system.  (3) goes on where it was interrupted; what comes after it is begun anew.
 */
#include "store/recover_private.h"

#include "store/audit.h"
#include "store/epoch.h"
#include "store/store_private.h"
#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define RECOVER_NAME "recover" /* under home */

void recovery_note(struct recovery *recovery, const char *format, ...)
{
	AUTO(buf) text = BUF_INIT;
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	if (recovery->settings.note && buf_str(&text))
		recovery->settings.note(recovery->settings.ctx, buf_str(&text));
}

void recovery_progress(struct recovery *recovery, const char *what, uint64_t done, uint64_t total)
{
	if (recovery->settings.progress)
		recovery->settings.progress(recovery->settings.ctx, what, done, total);
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
		recovery_progress(recovery, "looking at providers", i, config->provider_count);
		r = recovery_look_at(recovery, &config->providers[i], why);
	}
	recovery_compare(recovery);
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
	return recovery_complete_state(&recovery->all, epoch);
}

/* ---- the end ---- */

/* The highest writer epoch of a claim that is authentic, or of the newest that providers show. */
static uint64_t highest_epoch(struct recovery *recovery)
{
	uint32_t highest = 1;

	for (unsigned i = 0; i < recovery->source_count; i++) {
		const struct recovery_provider *shown = &recovery->sources[i].shown;
		uint32_t claimed = 0;

		if (!shown->is_reached)
			continue;
		if (epoch_highest(recovery->sources[i].backend, recovery->keyring, &claimed) == 0)
			highest = MAX(highest, claimed);
		highest = MAX(highest, shown->epoch);
	}
	return highest;
}

/* Whoever writes from here on is another writer than the machine before. */
static int raise_epoch(struct recovery *recovery)
{
	struct additions additions = {.recovery = recovery};
	AUTO(buf) text = BUF_INIT;
	int r = buf_printf(&text, "%" PRIu64, highest_epoch(recovery) + 1);

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
		recovery_unlink_index(recovery);
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
	int r = recovery_build_index(recovery, result, why);

	return r < 0 ? r : recovery_rebuild_copies(recovery, result);
}

/* For the audit log, which the next mount goes on with. */
static void leave_word(struct recovery *recovery, const struct recovery_result *result)
{
	struct audit_event event = {.kind = "recover",
				    .who = audit_who(getuid(), getgid(), (uint32_t)getpid())};
	struct wall_time made = {.sec = result->made_sec};
	char time[CLOCK_RFC3339_SIZE];
	AUTO_STR what = mem_printf("generation %" PRIu64 " of %s, writer epoch %" PRIu32 "%s; %" PRIu64
				   " shards missing, %" PRIu64 " files not whole",
				   result->generation, clock_rfc3339(made, time), result->epoch,
				   recovery->is_aimed ? ", an older state" : "",
				   result->shards_missing, result->files_damaged);

	event.what = what ? what : "no memory for what was recovered";
	audit_leave(recovery->config->home, &event);
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
	recovery->keeps = true;
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
	leave_word(recovery, &found);
	*result = found;
	return 0;
}

int recovery_run(struct recovery *recovery, struct recovery_result *result, struct buf *why)
{
	return run(recovery, rebuild, result, why);
}

int recovery_run_from_footers(struct recovery *recovery, struct recovery_result *result,
			      struct buf *why)
{
	return run(recovery, recovery_salvage, result, why);
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

