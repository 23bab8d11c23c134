/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.shardfs: what mount(8) calls for `mount -t shardfs CONFIG DIR` and for
 * lines of fstab.  Runs shardfs, which returns when the file system is there.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SHARDFS_BINDIR
#define SHARDFS_BINDIR "/usr/local/bin"
#endif

#define EXIT_USAGE 1  /* as mount(8) has them */
#define EXIT_MOUNT 32

static const char usage_text[] =
	"usage: mount.shardfs CONFIG DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION,...]\n";

static int run_shardfs(char *config, char *dir, char *options, bool is_verbose)
{
	char program[] = SHARDFS_BINDIR "/shardfs";
	char *argv[] = {"shardfs", config, dir, options ? "-o" : NULL, options, NULL};
	int status;
	pid_t pid;

	if (is_verbose)
		fprintf(stderr, "mount.shardfs: %s %s %s%s%s\n", program, config, dir,
			options ? " -o " : "", options ? options : "");
	pid = fork();
	if (pid == 0) {
		execv(program, argv);
		execvp("shardfs", argv);
		fprintf(stderr, "mount.shardfs: %s: %s\n", program, strerror(errno));
		_exit(EXIT_MOUNT);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return EXIT_MOUNT;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EXIT_MOUNT;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {0}};
	char *options = NULL;
	bool is_fake = false, is_verbose = false;
	int c;

	while ((c = getopt_long(argc, argv, "sfnvhVN:o:t:", longs, NULL)) >= 0) {
		switch (c) {
		case 's': /* sloppy */
		case 'n': /* no mtab */
		case 'N':
		case 't': break;
		case 'f': is_fake = true; break;
		case 'v': is_verbose = true; break;
		case 'o': options = optarg; break;
		case 'h': fputs(usage_text, stdout); return 0;
		case 'V': puts("mount.shardfs " PACKAGE_VERSION); return 0;
		default: fputs(usage_text, stderr); return EXIT_USAGE;
		}
	}
	if (argc - optind != 2) {
		fputs(usage_text, stderr);
		return EXIT_USAGE;
	}
	if (is_fake)
		return 0;
	return run_shardfs(argv[optind], argv[optind + 1], options, is_verbose);
}
