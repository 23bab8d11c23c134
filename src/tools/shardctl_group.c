/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/shardctl_group.h"

#include "tools/shardctl_ask.h"
#include "util/buf.h"
#include "util/mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define USAGE_WIDTH 40

/* Options are not parsed yet, and a group may have others: these are all that take a word before. */
static bool takes_a_word(const char *option)
{
	return strcmp(option, "-m") == 0 || strcmp(option, "--mount") == 0 ||
	       strcmp(option, "--config") == 0;
}

const struct shardctl_group *shardctl_group_of(const struct shardctl_group *const *groups,
					       size_t count, int argc, char **argv)
{
	int i = 1;

	while (i < argc && argv[i][0] == '-')
		i += takes_a_word(argv[i]) ? 2 : 1;
	for (size_t g = 0; i < argc && g < count; g++)
		if (strcmp(groups[g]->word, argv[i]) == 0)
			return groups[g];
	return NULL;
}

void shardctl_help_line(const char *usage, const char *help)
{
	if (strlen(usage) > USAGE_WIDTH)
		printf("  %s\n  %-*s %s\n", usage, USAGE_WIDTH, "", help);
	else
		printf("  %-*s %s\n", USAGE_WIDTH, usage, help);
}

void shardctl_group_help(const struct shardctl_group *group)
{
	for (size_t i = 0; i < group->count; i++) {
		const struct shardctl_command *command = &group->commands[i];
		AUTO(buf) line = BUF_INIT;

		buf_printf(&line, "%s %s %s", group->word, command->word, command->args);
		shardctl_help_line(buf_str(&line), command->help);
	}
}

static const struct shardctl_command *find(const struct shardctl_group *group, const char *word)
{
	for (size_t i = 0; i < group->count; i++)
		if (strcmp(group->commands[i].word, word) == 0)
			return &group->commands[i];
	return NULL;
}

int shardctl_group_run(const struct shardctl_group *group, char **words, unsigned count,
		       const void *options)
{
	const struct shardctl_command *command = count > 1 ? find(group, words[1]) : NULL;
	int code;

	if (!command) {
		fprintf(stderr, "shardctl: %s: %s%s\nTry 'shardctl %s --help'.\n", group->word,
			count > 1 ? words[1] : "",
			count > 1 ? ": unknown command" : "a command is needed", group->word);
		return EXIT_USAGE;
	}
	count -= 2;
	if (count < command->args_min || count > command->args_max) {
		fprintf(stderr, "shardctl: usage: shardctl %s %s %s\n", group->word, command->word,
			command->args);
		return EXIT_USAGE;
	}
	shardctl_catch_interrupt();
	code = command->run(options, words + 2, count);
	return fflush(stdout) == 0 ? code : EXIT_FAILED;
}
