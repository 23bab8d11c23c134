/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/hooks.h"

#include "tests/lib/check.h"

#include <unistd.h>

void test_hooks(const char *rules)
{
	static char path[512];
	static int version;
	char next[600];
	FILE *file;

	if (path[0] == '\0') {
		const char *tmp = getenv("TMPDIR");

		snprintf(path, sizeof(path), "%s/test-hooks.%d", tmp ? tmp : "/tmp", (int)getpid());
		setenv("SHARDFS_HOOKS", path, 1);
	}
	/* the reader looks at size and time: every version has another size */
	snprintf(next, sizeof(next), "%s.next", path);
	file = fopen(next, "we");
	cr_assert(file);
	fprintf(file, "%s\n%*s\n", rules, ++version, "#");
	fclose(file);
	cr_assert_eq(rename(next, path), 0);
}
