/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over files, for builds without libFuzzer: every regular
 * file named, or inside a directory named, once; then every prefix of the
 * smaller ones, since a cut is what a parser meets first.
 */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PREFIX_BYTES_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A block of exactly len bytes, so that a sanitizer sees one byte too far. */
static void run_once(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static int run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	size_t len = 0, got;

	if (file == NULL) {
		perror(path);
		return 1;
	}
	do {
		uint8_t *more = realloc(data, len + 65536);

		if (more == NULL)
			abort();
		data = more;
		got = fread(data + len, 1, 65536, file);
		len += got;
	} while (got > 0);
	fclose(file);
	run_once(data, len);
	for (size_t cut = 0; cut < len && cut <= PREFIX_BYTES_MAX; cut++)
		run_once(data, cut);
	free(data);
	return 0;
}

static int run_directory(const char *path, unsigned *count)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int failed = 0;

	if (dir == NULL) {
		perror(path);
		return 1;
	}
	while ((entry = readdir(dir)) != NULL) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		failed |= run_file(name);
		(*count)++;
	}
	closedir(dir);
	return failed;
}

int main(int argc, char **argv)
{
	unsigned count = 0;
	int failed = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (argv[i][0] == '-')
			continue; /* an option of libFuzzer */
		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			failed |= run_directory(argv[i], &count);
		} else {
			failed |= run_file(argv[i]);
			count++;
		}
	}
	printf("%u inputs\n", count);
	if (count == 0) {
		fprintf(stderr, "no inputs: a fuzz target needs a corpus\n");
		return 1;
	}
	return failed;
}
