/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks are set through setxattr(2), not by a job of the daemon: the kernel
 * then holds the inode's lock, so that no write(2) comes between the writing
 * back of its pages and the lock.  A directory is locked before its entries, so
 * that none of them can be taken away while the walk is under way.
 *
 * Each step is complete by itself: an interrupted walk is gone on with by
 * running it again, which passes over what is locked for as long or longer.
 */
#include "tools/shardctl_lock.h"

#include "ctl/ctl_client.h"
#include "store/vxattr.h"
#include "tools/report.h"
#include "tools/shardctl_ask.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/file.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define FAILURES_TOLD_MAX 20u
#define PROGRESS_EVERY	  64u
#define DIRS_OPEN_MAX	  64 /* deeper ones are closed on the way */

struct walk {
	const struct lock_wish *wish;
	int64_t until_sec;
	char until[CLOCK_RFC3339_SIZE];
	uint64_t seen, locked, already, others, failed;
	int error; /* the last one */
};

/* 0, or negative: it has no lock, or cannot be asked. */
static int lock_of(const char *path, int64_t *until_sec, char text[CLOCK_RFC3339_SIZE])
{
	ssize_t len = lgetxattr(path, VXATTR_PREFIX VXATTR_LOCK, text, CLOCK_RFC3339_SIZE - 1);

	if (len < 0)
		return -errno;
	text[len] = '\0';
	return clock_parse_utc(bytes_of_str(text), until_sec);
}

static const char *sentence_of(int error)
{
	if (error == -EINVAL)
		return "the date is not in the future, by the clocks that count";
	if (error == -EPERM)
		return "not allowed: root or the owner of the mount may lock";
	if (error == -EOPNOTSUPP)
		return "not on a mounted shardfs";
	if (error == -ENODEV)
		return "only files and directories are locked: lock its directory";
	return err_sentence(error);
}

static void note_failure(struct walk *walk, const char *path, int error)
{
	walk->error = error;
	if (walk->failed++ < FAILURES_TOLD_MAX)
		fprintf(stderr, "shardctl: %s: %s\n", path, sentence_of(error));
	else if (walk->failed == FAILURES_TOLD_MAX + 1)
		fprintf(stderr, "shardctl: further failures are counted only\n");
}

static void lock_one(struct walk *walk, const char *path)
{
	char text[CLOCK_RFC3339_SIZE];
	int64_t until_sec;

	if (lock_of(path, &until_sec, text) == 0 && until_sec >= walk->until_sec)
		walk->already++;
	else if (lsetxattr(path, VXATTR_PREFIX VXATTR_LOCK, walk->until, strlen(walk->until), 0) == 0)
		walk->locked++;
	else
		note_failure(walk, path, -errno);
}

static void show_progress(const struct walk *walk, const char *path)
{
	char text[160];

	snprintf(text, sizeof(text), "%llu locked, %llu were  %.80s",
		 (unsigned long long)walk->locked, (unsigned long long)walk->already, path);
	report_progress(stderr, 0, text);
}

/* nftw(3) has no argument of the caller's. */
static struct walk *current;

static int visit(const char *path, const struct stat *st, int type, struct FTW *place)
{
	struct walk *walk = current;

	(void)place;
	if (shardctl_is_interrupted())
		return FTW_STOP;
	if (walk->seen++ % PROGRESS_EVERY == 0)
		show_progress(walk, path);
	if (type == FTW_NS)
		note_failure(walk, path, -EACCES);
	else if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))
		lock_one(walk, path);
	else
		walk->others++; /* their directory's lock keeps their names */
	if (type == FTW_DNR && walk->wish->is_recursive)
		note_failure(walk, path, -EACCES);
	return walk->wish->is_recursive ? FTW_CONTINUE : FTW_STOP;
}

/* Reads a directory as it goes, so memory does not grow with the number of files. */
static void walk_tree(struct walk *walk)
{
	current = walk;
	if (nftw(walk->wish->path, visit, DIRS_OPEN_MAX, FTW_PHYS | FTW_MOUNT | FTW_ACTIONRETVAL) <
	    0)
		note_failure(walk, walk->wish->path, -errno);
	report_progress_end(stderr);
	if (walk->others > 0 && walk->locked + walk->already + walk->failed == 0)
		note_failure(walk, walk->wish->path, -ENODEV);
}

/* What is told as locked is durable. */
static int sync_locks(const char *path)
{
	AUTO(buf) why = BUF_INIT;
	AUTO_FD fd = -1;
	json_t *request, *answer = NULL;
	uint32_t code = 0;
	int r = ctl_client_open(path, NULL, &fd, &why);

	if (r < 0)
		return r;
	request = json_pack("{s:s}", "verb", "sync");
	r = ctl_client_run(fd, request, NULL, NULL, &answer, &code);
	json_decref(request);
	json_decref(answer);
	return r == 0 && code != 0 ? -EIO : r;
}

static int exit_of(const struct walk *walk)
{
	if (shardctl_is_interrupted())
		return EXIT_PARTIAL;
	if (walk->failed == 0)
		return EXIT_DONE;
	if (walk->locked + walk->already > 0)
		return EXIT_PARTIAL;
	if (walk->error == -EPERM || walk->error == -EACCES)
		return EXIT_DENIED;
	switch (walk->error) {
	case -EINVAL:
	case -ENOENT:
	case -EOPNOTSUPP:
	case -ENODEV:
		return EXIT_USAGE;
	default:
		return EXIT_FAILED;
	}
}

static void report(const struct walk *walk, int code)
{
	static const struct report_field fields[] = {
		{"until", "locked until", REPORT_TEXT},
		{"locked", "locked now", REPORT_COUNT},
		{"already", "were, for as long or longer", REPORT_COUNT},
		{"others", "of other types, not locked", REPORT_COUNT},
		{"failed", "failed", REPORT_COUNT},
		{0},
	};
	const char *until = walk->locked + walk->already > 0 ? walk->until : NULL;
	json_t *answer = json_pack("{s:b, s:s?, s:I, s:I, s:I, s:I}", "ok", code == EXIT_DONE, "until",
				   until, "locked", (json_int_t)walk->locked, "already",
				   (json_int_t)walk->already, "others", (json_int_t)walk->others,
				   "failed", (json_int_t)walk->failed);

	if (walk->wish->is_json)
		report_json(stdout, answer);
	else
		report_fields(stdout, answer, fields);
	json_decref(answer);
}

static int tell_lock(const struct lock_wish *wish)
{
	char text[CLOCK_RFC3339_SIZE];
	int64_t until_sec;
	int r = lock_of(wish->path, &until_sec, text);
	json_t *answer;

	if (r < 0 && r != -ENODATA) {
		fprintf(stderr, "shardctl: %s: %s\n", wish->path, sentence_of(r));
		return r == -EPERM || r == -EACCES ? EXIT_DENIED
		       : r == -EOPNOTSUPP || r == -ENOENT ? EXIT_USAGE
							  : EXIT_UNKNOWN;
	}
	answer = json_pack("{s:b, s:s?}", "ok", true, "until", r == 0 ? text : NULL);
	if (wish->is_json)
		report_json(stdout, answer);
	else
		puts(r == 0 ? text : "no lock");
	json_decref(answer);
	return EXIT_DONE;
}

int shardctl_lock(const struct lock_wish *wish)
{
	struct walk walk = {.wish = wish};
	int code, r;

	if (!wish->until)
		return tell_lock(wish);
	if (clock_parse_utc(bytes_of_str(wish->until), &walk.until_sec) < 0) {
		fprintf(stderr, "shardctl: --until: %s: write 2030-01-31 or 2030-01-31T12:00:00Z\n",
			wish->until);
		return EXIT_USAGE;
	}
	clock_rfc3339((struct wall_time){.sec = walk.until_sec}, walk.until);
	walk_tree(&walk);
	code = exit_of(&walk);
	if (walk.locked > 0) {
		r = sync_locks(wish->path);
		if (r < 0) {
			fprintf(stderr, "shardctl: %s: locked, but not synced: %s\n", wish->path,
				err_sentence(r));
			code = EXIT_FAILED;
		}
	}
	report(&walk, code);
	if (code == EXIT_PARTIAL)
		fprintf(stderr, "shardctl: %s: not all of it is locked: run it again to go on\n",
			wish->path);
	return code;
}
