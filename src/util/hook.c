/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test hooks.  The rules are few and looked at rarely, so one mutex guards
 * them; a held thread polls the file, since nothing in the process can tell
 * it that a test has edited the file.
 */
#include "util/hook.h"

#ifdef SHARDFS_TEST_HOOKS
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum hook_verb { HOOK_KILL, HOOK_HOLD, HOOK_FAIL, HOOK_BREAK };

struct hook_rule {
	enum hook_verb verb;
	char place[64];
	int error;
	unsigned long at, passed;
};

#define HOOK_RULES_MAX 32

static pthread_mutex_t hook_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct hook_rule hook_rules[HOOK_RULES_MAX]; /* hook_mutex */
static unsigned hook_rule_count;                    /* hook_mutex */
static struct timespec hook_mtime;                  /* hook_mutex */
static off_t hook_size = -1;                        /* hook_mutex */
static ino_t hook_ino;                              /* hook_mutex */

static int hook_errno(const char *name)
{
	static const struct {
		const char *name;
		int value;
	} known[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN},
		     {"EROFS", EROFS}, {"EBADMSG", EBADMSG}, {"EACCES", EACCES}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(name, known[i].name) == 0)
			return known[i].value;
	return EIO;
}

static void hook_parse_line(const char *line)
{
	struct hook_rule rule = {.at = 1};
	char verb[8] = "", third[16] = "";
	unsigned long n = 0;
	int fields = sscanf(line, "%7s %63s %15s %lu", verb, rule.place, third, &n);

	if (fields < 2 || hook_rule_count == HOOK_RULES_MAX)
		return;
	if (strcmp(verb, "kill") == 0) {
		rule.verb = HOOK_KILL;
		if (fields >= 3)
			rule.at = strtoul(third, NULL, 10);
	} else if (strcmp(verb, "hold") == 0) {
		rule.verb = HOOK_HOLD;
	} else if (strcmp(verb, "break") == 0) {
		rule.verb = HOOK_BREAK;
	} else if (strcmp(verb, "fail") == 0) {
		rule.verb = HOOK_FAIL;
		rule.error = hook_errno(third);
		if (fields >= 4)
			rule.at = n;
	} else {
		return;
	}
	hook_rules[hook_rule_count++] = rule;
}

/* Reads the rules again when the file has changed.  hook_mutex is held. */
static void hook_refresh(const char *path)
{
	char line[160];
	struct stat st;
	FILE *file;

	if (stat(path, &st) < 0) {
		hook_rule_count = 0;
		hook_size = -1;
		return;
	}
	if (st.st_size == hook_size && st.st_mtim.tv_sec == hook_mtime.tv_sec &&
	    st.st_mtim.tv_nsec == hook_mtime.tv_nsec && st.st_ino == hook_ino)
		return;
	file = fopen(path, "re");
	if (!file)
		return;
	if (fstat(fileno(file), &st) < 0) { /* it may be another one by now */
		fclose(file);
		return;
	}
	hook_rule_count = 0;
	while (fgets(line, sizeof(line), file))
		hook_parse_line(line);
	fclose(file);
	hook_size = st.st_size;
	hook_mtime = st.st_mtim;
	hook_ino = st.st_ino;
}

static const char *hook_path; /* hook_once */
static pthread_once_t hook_once = PTHREAD_ONCE_INIT;

/* Tells the test what happened, by an empty file. */
static void hook_say(const char *what, const char *place)
{
	char path[4200];
	int fd;

	snprintf(path, sizeof(path), "%s-%s-%s", hook_path, what, place);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
}

/* Whether a rule holds this place just now; kills and failures are done on the way. */
static bool hook_look(const char *path, const char *place, bool is_first_look, int *error)
{
	bool is_held = false;

	pthread_mutex_lock(&hook_mutex);
	hook_refresh(path);
	for (unsigned i = 0; i < hook_rule_count; i++) {
		struct hook_rule *rule = &hook_rules[i];

		if (strcmp(rule->place, place) != 0)
			continue;
		if (rule->verb == HOOK_HOLD) {
			is_held = true;
			continue;
		}
		if (!is_first_look || rule->verb == HOOK_BREAK)
			continue;
		rule->passed++;
		if (rule->verb == HOOK_KILL && rule->passed == rule->at) {
			hook_say("kill", place);
			kill(getpid(), SIGKILL);
		}
		if (rule->verb == HOOK_FAIL && (rule->at == 0 || rule->passed == rule->at)) {
			if (rule->passed == 1 || rule->at > 0)
				hook_say("fail", place);
			*error = -rule->error;
		}
	}
	pthread_mutex_unlock(&hook_mutex);
	return is_held;
}

static void hook_find_path(void)
{
	hook_path = getenv("SHARDFS_HOOKS");
}

int hook_pass(const char *place)
{
	int error = 0;
	bool is_first_look = true;

	pthread_once(&hook_once, hook_find_path);
	if (!hook_path)
		return 0;
	while (hook_look(hook_path, place, is_first_look, &error)) {
		struct timespec pause = {.tv_nsec = 2000000};

		if (is_first_look)
			hook_say("held", place);
		is_first_look = false;
		nanosleep(&pause, NULL);
	}
	return error;
}

int hook_is_broken(const char *name)
{
	int is_broken = 0;

	pthread_once(&hook_once, hook_find_path);
	if (!hook_path)
		return 0;
	pthread_mutex_lock(&hook_mutex);
	hook_refresh(hook_path);
	for (unsigned i = 0; i < hook_rule_count; i++)
		is_broken |= hook_rules[i].verb == HOOK_BREAK &&
			     strcmp(hook_rules[i].place, name) == 0;
	pthread_mutex_unlock(&hook_mutex);
	return is_broken;
}
#else
typedef int hook_is_compiled_out; /* a translation unit needs a declaration */
#endif
