/* SPDX-License-Identifier: Apache-2.0 */
#include "util/hook.h"
#include "util/mem.h"
#include "util/queue.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef SHARDFS_TEST_HOOKS
static char rules_path[64];

/* A rename, as tests of real mounts do it; each file differs in its inode's times or size. */
static void rules(const char *text)
{
	AUTO_STR fresh = NULL;
	FILE *file;

	if (rules_path[0] == '\0') {
		snprintf(rules_path, sizeof(rules_path), "/tmp/shardfs-hooks.%ld", (long)getpid());
		setenv("SHARDFS_HOOKS", rules_path, 1);
	}
	fresh = mem_printf("%s.new", rules_path);
	file = fopen(fresh, "w");
	cr_assert_not_null(file);
	fputs(text, file);
	fclose(file);
	cr_assert_eq(rename(fresh, rules_path), 0);
}

static void no_rules(void)
{
	unlink(rules_path);
}

Test(util_hook, without_rules_every_place_is_passed)
{
	rules("");
	cr_assert_eq(HOOK("here"), 0);
	no_rules();
	cr_assert_eq(HOOK("here"), 0);
}

Test(util_hook, only_what_is_named_is_broken, .fini = no_rules)
{
	rules("");
	cr_assert_not(HOOK_BROKEN("here"));
	rules("break here\nfail there EIO 0\n");
	cr_assert(HOOK_BROKEN("here"));
	cr_assert_not(HOOK_BROKEN("there"));
	cr_assert_eq(HOOK("here"), 0);
	rules("");
	cr_assert_not(HOOK_BROKEN("here"));
}

Test(util_hook, the_nth_passage_fails_with_its_errno, .fini = no_rules)
{
	rules("fail here ENOSPC 3\nfail always EBADMSG 0\n");
	for (unsigned i = 1; i <= 5; i++) {
		cr_assert_eq(HOOK("here"), i == 3 ? -ENOSPC : 0);
		cr_assert_eq(HOOK("always"), -EBADMSG);
		cr_assert_eq(HOOK("elsewhere"), 0);
	}
	rules("fail here EIO\n"); /* counts anew */
	cr_assert_eq(HOOK("here"), -EIO);
	cr_assert_eq(HOOK("here"), 0);
	cr_assert_eq(HOOK("always"), 0);
}

Test(util_hook, the_nth_passage_kills, .fini = no_rules)
{
	int status;
	pid_t child;

	rules("kill here 2\n");
	child = fork();
	if (child == 0) {
		HOOK("here");
		HOOK("elsewhere");
		HOOK("here");
		_exit(0);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static _Atomic int passages;

static void *pass_held(void *arg)
{
	(void)arg;
	HOOK("held");
	passages++;
	return NULL;
}

Test(util_hook, a_held_thread_goes_on_when_the_rule_is_gone, .timeout = 60, .fini = no_rules)
{
	pthread_t thread;

	rules("hold held\n");
	cr_assert_eq(thread_start(&thread, "held", pass_held, NULL), 0);
	cr_assert_eq(HOOK("elsewhere"), 0); /* others pass meanwhile */
	cr_assert_eq(passages, 0);
	rules("# nothing\n");
	pthread_join(thread, NULL);
	cr_assert_eq(passages, 1);
}
#else
Test(util_hook, a_build_without_hooks_has_none)
{
	cr_assert_eq(HOOK("here"), 0);
}
#endif
