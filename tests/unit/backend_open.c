/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/marker.h"
#include "backends/memory.h"
#include "backends/stack.h"
#include "backends/wrap_limit.h"
#include "tests/lib/backend_conformance.h"
#include "tests/lib/backend_open.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int open_with(const char *type, struct backend_setting setting, struct buf *why)
{
	struct backend *backend = NULL;
	int r = backend_open_stack(type, &setting, setting.key ? 1 : 0, "primary", why, &backend);

	backend_close(backend);
	return r;
}

Test(backend_open, a_mistake_is_named_with_its_line)
{
	static const struct {
		const char *type;
		struct backend_setting setting;
		int error;
		const char *why;
	} mistakes[] = {
		{"tape", {0}, -EINVAL, "type: no such type of provider: tape"},
		{"dir", {0}, -EINVAL, "path: must be given"},
		{"dir", {"path", "relative/x", 7}, -EINVAL, "path: must be absolute"},
		{"dir", {"pth", "/x", 9}, -EINVAL, "line 9: pth: no such setting"},
		{"dir", {"workers", "0", 12}, -ERANGE, "line 12: workers: "},
		{"memory", {"async", "perhaps", 3}, -EINVAL, "line 3: async: "},
		{"memory", {"attempts", "21", 4}, -ERANGE, "line 4: attempts: "},
		{"memory", {"upload", "fast", 5}, -EINVAL, "line 5: upload: "},
	};

	for (size_t i = 0; i < ARRAY_COUNT(mistakes); i++) {
		AUTO(buf) why = BUF_INIT;
		int r = open_with(mistakes[i].type, mistakes[i].setting, &why);

		cr_assert_eq(r, mistakes[i].error, "%zu: %d %s", i, r, buf_str(&why));
		cr_assert(strstr(buf_str(&why), mistakes[i].why), "%zu: %s", i, buf_str(&why));
	}
}

Test(backend_open, a_key_given_twice_is_a_mistake)
{
	const struct backend_setting settings[] = {{"inflight", "3", 1}, {"inflight", "4", 2}};
	struct backend *backend = NULL;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(backend_open_stack("memory", settings, 2, "p", &why, &backend), -EINVAL);
	cr_assert_str_eq(buf_str(&why), "line 2: inflight: given twice");
}

Test(backend_open, settings_reach_their_layer)
{
	const struct backend_setting settings[] = {
		{"inflight", "3", 1}, {"async", "true", 2}, {"upload", "50mbps", 3}};
	AUTO_BACKEND backend = NULL;
	AUTO(buf) why = BUF_INIT;
	struct limit_config limits;

	cr_assert_eq(backend_open_stack("memory", settings, 3, "primary", &why, &backend), 0, "%s",
		     buf_str(&why));
	cr_assert_eq(backend_limits_get(backend, &limits), 0);
	cr_assert(limits.inflight_count == 3 && limits.upload_bytes_per_s == 6250000);
	cr_assert_str_eq(backend_name(backend), "primary");
	cr_assert_str_eq(backend_type(backend), "memory");
	cr_assert(backend_can(backend) & BACKEND_CAN_CREATE_ONLY);
}

Test(backend_open, names_of_providers_are_checked)
{
	struct backend *backend = NULL;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(backend_open("memory", NULL, 0, "", &why, &backend), -EINVAL);
	cr_assert_eq(backend_open("memory", NULL, 0, "a b", &why, &backend), -EINVAL);
	cr_assert_eq(backend_open("memory", NULL, 0, "a\nname", &why, &backend), -EINVAL);
}

Test(backend_open, types_can_be_listed)
{
	unsigned count = 0;

	for (const char *type = backend_type_next(NULL); type; type = backend_type_next(type)) {
		cr_assert(backend_type_options(type));
		count++;
	}
	cr_assert_geq(count, 2);
	cr_assert_null(backend_type_options("tape"));
}

Test(backend_open, memory_runs_out_cleanly)
{
	const struct backend_setting setting = {"shared", "oom", 1};
	bool fired = true;

	for (uint64_t at = 1; fired; at++) {
		struct backend *backend = NULL;
		AUTO(buf) why = BUF_INIT;
		int r;

		mem_fail_at(at);
		r = backend_open_stack("memory", &setting, 1, "primary", &why, &backend);
		fired = mem_fail_fired();
		mem_fail_at(0);
		cr_assert(r == 0 || (fired && !backend), "at %llu: %d", (unsigned long long)at, r);
		backend_close(backend);
		memory_forget("oom");
	}
}

Test(backend_open, a_shared_store_outlives_its_backend)
{
	const struct backend_setting setting = {"shared", "mine", 1};
	AUTO(buf) why = BUF_INIT;

	for (unsigned round = 0; round < 2; round++) {
		AUTO_BACKEND backend = NULL;
		struct backend_req req = {.op = BACKEND_PUT, .key = "k", .body = bytes_of("x", 1),
					  .flags = BACKEND_CREATE_ONLY};

		cr_assert_eq(backend_open("memory", &setting, 1, "p", &why, &backend), 0);
		if (round == 0)
			cr_assert_eq(backend_init(backend, conformance_fs_id, &why), 0);
		cr_assert_eq(backend_run(backend, &req), round == 0 ? 0 : -EEXIST);
	}
	memory_forget("mine");
}

static void page_has_keys(const char *page, const struct option_spec *table)
{
	char key[OPTION_KEY_SIZE], line[OPTION_KEY_SIZE + 16];

	for (; table->type != OPTION_END; table++) {
		if (strcmp(option_key(table, key), "fault_file") == 0)
			continue; /* in test builds only */
		snprintf(line, sizeof(line), "\n.It Cm %s\n", key);
		cr_assert(strstr(page, line), "the page does not describe %s", key);
	}
}

Test(backend_open, the_page_describes_each_setting_of_dir)
{
	const char *top = getenv("SHARDFS_SRCDIR");
	char path[4096], page[32768] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/man/shardfs-backend-dir.7", top ? top : ".");
	file = fopen(path, "r");
	cr_assert(file, "%s", path);
	cr_assert_gt(fread(page, 1, sizeof(page) - 1, file), 0);
	fclose(file);
	page_has_keys(page, backend_type_options("dir"));
	page_has_keys(page, backend_stack_options);
}

Test(backend_marker, what_was_written_is_read)
{
	struct marker marker = {.name = "primary"}, read = {0};
	AUTO(buf) text = BUF_INIT;

	memcpy(marker.fs_id, conformance_fs_id, sizeof(marker.fs_id));
	cr_assert_eq(marker_format(&marker, &text), 0);
	cr_assert_str_eq(buf_str(&text), "shardfs-provider 1\nfs c00102030405060708090a0b0c0d0e0f\n"
					 "name primary\n");
	cr_assert_eq(marker_parse(buf_bytes(&text), &read), 0);
	cr_assert_eq(memcmp(&read, &marker, sizeof(read)), 0);
}

Test(backend_marker, no_part_of_it_is_one)
{
	struct marker marker = {.name = "primary"}, read;
	AUTO(buf) text = BUF_INIT;

	cr_assert_eq(marker_format(&marker, &text), 0);
	for (size_t len = 0; len < text.len; len++)
		cr_assert_eq(marker_parse(bytes_of(text.ptr, len), &read), -EBADMSG, "%zu", len);
	cr_assert_eq(buf_append(&text, bytes_of("\n", 1)), 0);
	cr_assert_eq(marker_parse(buf_bytes(&text), &read), -EBADMSG);
}
