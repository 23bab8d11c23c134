/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/backend_conformance.h"

#include "backends/stack.h"
#include "tests/lib/backend_open.h"

#include <limits.h>
#include <stdio.h>

/* The suite once more, where ThreadSanitizer can watch: the pile around a directory and around
 * memory with a thread. */

static char dir_base[PATH_MAX];

static struct backend *open_pile(const char *type, struct backend_setting setting)
{
	const struct backend_setting settings[] = {setting, {"wait", "1ms", 0}};
	struct backend *backend = NULL;
	struct buf why = BUF_INIT;

	if (backend_open_stack(type, settings, 2, CONFORMANCE_NAME, &why, &backend) < 0)
		fprintf(stderr, "%s\n", buf_str(&why));
	buf_release(&why);
	return backend;
}

static struct backend *open_dir(void *arg)
{
	static unsigned number;
	char path[PATH_MAX + 16];

	(void)arg;
	snprintf(path, sizeof(path), "%s/%u", dir_base, number++);
	return open_pile("dir", (struct backend_setting){"path", path, 0});
}

static struct backend *open_memory(void *arg)
{
	(void)arg;
	return open_pile("memory", (struct backend_setting){"async", "true", 0});
}

int main(void)
{
	test_dir_make(dir_base);
	conformance_run(open_memory, NULL);
	conformance_run(open_dir, NULL);
	test_dir_remove(dir_base);
	return 0;
}
