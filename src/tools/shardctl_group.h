/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TOOLS_SHARDCTL_GROUP_H
#define SHARDFS_TOOLS_SHARDCTL_GROUP_H

/*
 * Commands of shardctl that share a first word and have options of their own:
 * `shardctl GROUP COMMAND [ARGUMENT]...`.  A group is a table of them and what
 * reads its options; a new one is a row in the table of shardctl.c.
 */

#include <stddef.h>

/* options: the group's own, of which it has the type. */
struct shardctl_command {
	const char *word, *args, *help;
	unsigned args_min, args_max;
	int (*run)(const void *options, char **args, unsigned count);
};

struct shardctl_group {
	const char *word;
	const struct shardctl_command *commands;
	size_t count;
	int (*main)(int argc, char **argv); /* all of it; the exit status */
};

/* The group that the first word of the command line names, or NULL. */
const struct shardctl_group *shardctl_group_of(const struct shardctl_group *const *groups,
					       size_t count, int argc, char **argv);
/* A command and what it does, as --help shows it. */
void shardctl_help_line(const char *usage, const char *help);
/* A line for each command. */
void shardctl_group_help(const struct shardctl_group *group);

/*
 * shardctl_group_run - runs the command that words name, of which the first is the group's.  The
 * exit status, that of wrong usage after a message.
 */
int shardctl_group_run(const struct shardctl_group *group, char **words, unsigned count,
		       const void *options);

#endif
