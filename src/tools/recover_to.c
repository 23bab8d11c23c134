/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DIR/.shardfs-recover is where it works, and says that a restore was begun in DIR:
 *
 *	state	"branch", or generation, writer epoch and time of the state that was chosen: whoever
 *		goes on restores the same one, whatever is the newest by then
 *	home	a home that is made by an ordinary recovery, and read from
 *	new, links	of store/restore.c
 *
 * It goes when everything is there.
 */
#include "tools/recover_to.h"

#include "store/recover.h"
#include "store/restore.h"
#include "store/store.h"
#include "util/buf.h"
#include "util/err.h"
#include "util/file.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORK_NAME    ".shardfs-recover"
#define LOCK_WAIT_MS 5000u

struct to {
	const struct recover_to *wanted;
	int work_fd; /* locked */
	char *work;
	struct recovery_state state;
	bool is_begun;       /* by an earlier run: state is its */
	bool is_as_asked;    /* the state */
	struct index *other; /* of --changes */
	struct index_reader *other_reader;
};

static char *path_in(const struct to *to, const char *name)
{
	return mem_printf("%s/%s", to->work, name);
}

/* ---- where it works ---- */

/* A fresh file system has its lost+found. */
static int check_empty(const char *dir, struct buf *why)
{
	struct dirent *entry;
	DIR *stream = opendir(dir);
	int r = 0;

	if (!stream) {
		r = -errno;
		buf_printf(why, "%s: %s", dir, err_sentence(r));
		return r;
	}
	while (r == 0 && (entry = readdir(stream)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, "lost+found") != 0)
			r = -ENOTEMPTY;
	closedir(stream);
	if (r < 0)
		buf_printf(why,
			   "%s: not empty, and no restore was begun there: name another "
			   "directory",
			   dir);
	return r;
}

static int open_work(struct to *to, struct buf *why)
{
	const char *dir = to->wanted->dir;
	int r = 0;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0 && access(to->work, F_OK) < 0) {
		r = check_empty(dir, why);
		if (r == 0 && mkdir(to->work, 0700) < 0)
			r = -errno;
	}
	if (r == 0) {
		to->work_fd = open(to->work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = to->work_fd < 0 ? -errno : 0;
	}
	if (r == 0 && flock(to->work_fd, LOCK_EX | LOCK_NB) < 0) {
		buf_printf(why, "%s: another process restores into it", dir);
		return -EBUSY;
	}
	if (r < 0 && why->len == 0)
		buf_printf(why, "%s: %s", dir, err_sentence(r));
	return r;
}

static int load_state(struct to *to)
{
	char text[128] = "";
	AUTO_FD fd = openat(to->work_fd, "state", O_RDONLY | O_CLOEXEC);
	bool is_branch;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (read(fd, text, sizeof(text) - 1) < 0)
		return -errno;
	is_branch = strcmp(text, "branch\n") == 0;
	if (is_branch != to->wanted->is_branch ||
	    (!is_branch && sscanf(text, "%" SCNu64 " %" SCNu32 " %" SCNd64, &to->state.generation,
				  &to->state.epoch, &to->state.made_sec) != 3))
		return -ESTALE;
	to->is_begun = true;
	return 0;
}

static int save_state(const struct to *to)
{
	AUTO(buf) text = BUF_INIT;
	AUTO_FD fd =
		openat(to->work_fd, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : 0;

	if (r == 0)
		r = to->wanted->is_branch
			    ? buf_printf(&text, "branch\n")
			    : buf_printf(&text, "%" PRIu64 " %" PRIu32 " %" PRId64 "\n",
					 to->state.generation, to->state.epoch, to->state.made_sec);
	if (r == 0)
		r = file_pwrite(fd, buf_bytes(&text), 0);
	if (r == 0)
		r = file_fdatasync(fd);
	if (r == 0 && renameat(to->work_fd, "state.new", to->work_fd, "state") < 0)
		r = -errno;
	return r;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* The state last: as long as it is there a restore was begun. */
static int remove_work(struct to *to)
{
	static const char *const names[] = {"home", "new", "links"};

	for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
		AUTO_STR path = path_in(to, names[i]);

		if (!path)
			return -ENOMEM;
		if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
			return -errno;
	}
	if ((unlinkat(to->work_fd, "state", 0) < 0 && errno != ENOENT) || rmdir(to->work) < 0)
		return -errno;
	return 0;
}

/* ---- a home in it ---- */

static int load_config(const struct to *to, struct config **out, struct buf *why)
{
	struct config *config = mem_alloc(sizeof(*config));
	int r;

	if (!config)
		return -ENOMEM;
	r = config_load(to->wanted->config_path, to->wanted->checks, config, why);
	if (r < 0) {
		mem_free(config);
		return r;
	}
	*out = config;
	return 0;
}

static void free_config(struct config *config)
{
	if (!config)
		return;
	config_release(config);
	mem_free(config);
}

static int move_path(const struct to *to, char **path, const char *name)
{
	char *moved = path_in(to, name);

	if (!moved)
		return -ENOMEM;
	mem_free(*path);
	*path = moved;
	return 0;
}

/* The same file system with its home in `work`, and without a cache: each byte is read once. */
static int load_moved(const struct to *to, struct config **out, struct buf *why)
{
	struct config *config = NULL;
	int r = load_config(to, &config, why);

	if (r == 0)
		r = move_path(to, &config->home, "home");
	if (r == 0)
		r = move_path(to, &config->index, "home/index.db");
	if (r == 0)
		r = move_path(to, &config->journal, "home/journal");
	if (r == 0)
		r = move_path(to, &config->spool, "home/spool");
	if (r == 0)
		r = move_path(to, &config->cache, "home/cache");
	if (r < 0) {
		free_config(config);
		return r;
	}
	config->settings.cache_size_bytes = 0;
	*out = config;
	return 0;
}

/* Which state; once begun it is always that one. */
static int choose(struct to *to, struct recovery *recovery, struct buf *why)
{
	const struct recover_to *wanted = to->wanted;
	int r = 0;

	if (to->is_begun) {
		show_begun(&to->state, to->work);
	} else if (wanted->is_at) {
		r = show_choice(recovery, wanted->at_sec, wanted->screen, &to->state, why);
		to->is_as_asked = r == 0;
	} else {
		to->state.generation = recovery_newest(recovery, &to->state.epoch);
	}
	if (r < 0)
		return r;
	if (to->state.generation > 0)
		recovery_aim(recovery, &to->state);
	return to->is_begun ? 0 : save_state(to);
}

static int recover_home(struct to *to, const struct config *config, struct buf *why)
{
	const struct recover_to *wanted = to->wanted;
	struct recovery_settings settings = {.progress = show_progress,
					     .note = show_note,
					     .ctx = wanted->screen,
					     .credentials = wanted->credentials};
	struct recovery_result result = {0};
	struct recovery *recovery;
	int r = recovery_open(config, &settings, why, &recovery);

	show_clear(wanted->screen);
	if (r < 0)
		return r;
	show_providers(recovery);
	fflush(stdout);
	if (!wanted->is_branch)
		r = choose(to, recovery, why);
	if (r == 0)
		r = wanted->is_from_footers ? recovery_run_from_footers(recovery, &result, why)
					    : recovery_run(recovery, &result, why);
	recovery_close(recovery);
	show_clear(wanted->screen);
	if (r < 0)
		return r;
	if (!wanted->is_branch && result.generation < to->state.generation)
		to->is_as_asked = false;
	show_recovered(wanted->is_branch ? "the newest state at the providers" : "the state",
		       &result);
	return 0;
}

/* A home that an earlier run has made is used again. */
static int need_home(struct to *to, const struct config *config, struct buf *why)
{
	AUTO_STR superblock = mem_printf("%s/superblock", config->home);

	if (!superblock)
		return -ENOMEM;
	if (access(superblock, F_OK) < 0)
		return recover_home(to, config, why);
	if (!to->wanted->is_branch)
		show_begun(&to->state, to->work);
	return 0;
}

/* ---- what to compare with ---- */

static int open_other(struct to *to, struct buf *why)
{
	struct config *config = NULL;
	struct index_settings settings = {.cache_dirents_max = 1024};
	int r = load_moved(to, &config, why);

	if (r == 0)
		r = need_home(to, config, why);
	if (r == 0) {
		settings.path = config->index;
		settings.page_cache_bytes = config->settings.index_cache_bytes;
		r = index_open(&settings, why, &to->other);
	}
	if (r == 0)
		r = index_reader_open(to->other, &to->other_reader);
	free_config(config);
	return r;
}

/* ---- the restore ---- */

static int open_store(struct to *to, struct store **out, struct buf *why)
{
	const struct recover_to *wanted = to->wanted;
	struct config *config = NULL;
	int r;

	if (wanted->is_branch) {
		r = load_config(to, &config, why);
		if (r == 0)
			show_branch(config->home);
		if (r == 0 && !to->is_begun)
			r = save_state(to);
	} else {
		r = load_moved(to, &config, why);
		if (r == 0)
			r = need_home(to, config, why);
	}
	if (r == 0)
		r = store_open_for_restore(config, wanted->credentials, LOCK_WAIT_MS, why, out);
	if (r < 0)
		free_config(config);
	return r;
}

static int run(struct to *to, struct restore_result *result, struct buf *why)
{
	const struct recover_to *wanted = to->wanted;
	struct restore_settings settings = {.dir = wanted->dir,
					    .work = WORK_NAME,
					    .progress = show_progress,
					    .note = show_note,
					    .ctx = wanted->screen};
	struct store *store;
	int r = 0, end;

	if (wanted->is_changes)
		r = open_other(to, why);
	if (r == 0)
		r = open_store(to, &store, why);
	if (r < 0)
		return r;
	settings.other = to->other;
	settings.other_reader = to->other_reader;
	r = restore_tree(store, &settings, result, why);
	show_clear(wanted->screen);
	end = store_close(store);
	return r < 0 ? r : end;
}

static int conclude(struct to *to, const struct restore_result *result, struct buf *why)
{
	int r = 0;

	show_restored(to->wanted->dir, result);
	if (result->failed > 0) {
		printf("  what is there is whole; the same command tries the rest again, until "
		       "%s is removed\n",
		       to->work);
		return RECOVER_DAMAGED;
	}
	r = remove_work(to);
	if (r == 0)
		r = restore_root_times(to->wanted->dir, &result->root);
	if (r < 0) {
		buf_printf(why, "everything is restored, but %s: %s", to->work, err_sentence(r));
		return r;
	}
	if (result->incomplete > 0 || to->wanted->is_from_footers)
		return RECOVER_DAMAGED;
	return to->is_as_asked ? RECOVER_OK : RECOVER_NOT_AS_ASKED;
}

int recover_to(const struct recover_to *wanted)
{
	struct to to = {.wanted = wanted, .work_fd = -1, .is_as_asked = true};
	struct restore_result result;
	AUTO(buf) why = BUF_INIT;
	int r;

	to.work = mem_printf("%s/" WORK_NAME, wanted->dir);
	r = to.work ? open_work(&to, &why) : -ENOMEM;
	if (r == 0) {
		r = load_state(&to);
		if (r < 0)
			buf_printf(&why,
				   "%s/state: belongs to another restore: remove %s to begin "
				   "anew",
				   to.work, to.work);
	}
	if (r == 0)
		r = run(&to, &result, &why);
	index_reader_close(to.other_reader);
	index_close(to.other);
	if (r == 0)
		r = conclude(&to, &result, &why);
	mem_close_fd(&to.work_fd);
	mem_free(to.work);
	return r < 0 ? show_failure("", &why, r) : r;
}
