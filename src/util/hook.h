/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_HOOK_H
#define SHARDFS_UTIL_HOOK_H

/*
 * Named places in the code where a test can kill, hold or fail the program.
 * Compiled in only with SHARDFS_TEST_HOOKS; otherwise HOOK() is 0 and vanishes.
 *
 *	r = HOOK("spool-append-before");   0, or a negative errno to be treated as the failure of the step
 *
 * Each step of durable work has a `-before` and an `-after` place.  The file
 * named by $SHARDFS_HOOKS holds one rule per line and is read again when it
 * changes (checked at each hook while the variable is set):
 *
 *	kill PLACE [N]       SIGKILL itself at the Nth passage from the reading of the rule (1)
 *	hold PLACE           the passing thread waits until the rule is gone
 *	fail PLACE ERRNO [N] the Nth passage returns -ERRNO (EIO, ENOSPC, ...); N 0: each one
 *	break NAME           what HOOK_BROKEN(NAME) guards is left out or done wrongly, to prove that
 *	                     a test notices (tests/e2e/broken.sh)
 *
 * Empty files tell the test: $SHARDFS_HOOKS-kill-PLACE just before the kill,
 * $SHARDFS_HOOKS-held-PLACE when a thread begins to wait, $SHARDFS_HOOKS-fail-PLACE when the place
 * has failed.
 */
#ifdef SHARDFS_TEST_HOOKS
int hook_pass(const char *place);
#define HOOK(place) hook_pass(place)
int hook_is_broken(const char *name);
#define HOOK_BROKEN(name) hook_is_broken(name)
#else
#define HOOK(place) 0
#define HOOK_BROKEN(name) 0
#endif

#endif
