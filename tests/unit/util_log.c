/* SPDX-License-Identifier: Apache-2.0 */
#include "util/buf.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/queue.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int log_pipe[2];

static void capture(enum log_level lowest, bool is_json)
{
	cr_assert_eq(pipe2(log_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	log_setup(log_pipe[1], lowest, is_json);
	clock_test_freeze(0, (struct wall_time){.sec = 1769860800, .nsec = 123456789});
}

/* What was logged since the last call. */
static const char *logged(void)
{
	static char text[65536];
	ssize_t n = read(log_pipe[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

Test(util_log, text_has_time_level_event_and_pairs)
{
	capture(LOG_INFO, false);
	errno = ENOENT;
	log_warn("copy-read-failed", "shard=%s provider=" LOG_Q, "1f", "my disk");
	cr_assert_eq(errno, ENOENT);
	cr_assert_str_eq(logged(), "2026-01-31T12:00:00.123Z warn copy-read-failed shard=1f "
				   "provider=\"my disk\"\n");
	log_info("ready", "");
	cr_assert_str_eq(logged(), "2026-01-31T12:00:00.123Z info ready\n");
}

Test(util_log, json_has_the_pairs_as_members)
{
	capture(LOG_INFO, true);
	log_error("event", "a=1 b=" LOG_Q " loose c= words=x", "say \"hi\"\\\n now");
	cr_assert_str_eq(logged(),
			 "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"error\","
			 "\"event\":\"event\",\"a\":\"1\","
			 "\"b\":\"say \\\"hi\\\"\\\\\\u000a now\",\"c\":\"\",\"words\":\"x\","
			 "\"message\":\"loose\"}\n");
	log_info("e", "two words q=\"open");
	cr_assert_str_eq(logged(), "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"info\","
				   "\"event\":\"e\",\"q\":\"\\\"open\",\"message\":\"two words\"}\n");
}

Test(util_log, no_value_forges_a_line)
{
	capture(LOG_INFO, false);
	log_info("e", "path=%s", "x\n2026 error forged\r\x1b[31m");
	cr_assert_str_eq(logged(), "2026-01-31T12:00:00.123Z info e "
				   "path=x\\x0a2026 error forged\\x0d\\x1b[31m\n");
}

Test(util_log, lower_levels_are_left_out)
{
	enum log_level level = LOG_INFO;

	cr_assert_eq(log_level_parse("warn", &level), 0);
	cr_assert_eq(level, LOG_WARN);
	cr_assert_eq(log_level_parse("loud", &level), -EINVAL);
	cr_assert_eq(level, LOG_WARN);
	capture(level, false);
	log_debug("a", "");
	log_info("b", "");
	cr_assert_str_eq(logged(), "");
	log_error("c", "");
	cr_assert_str_neq(logged(), "");
}

Test(util_log, a_long_message_is_cut_and_still_one_line)
{
	for (int is_json = 0; is_json < 2; is_json++) {
		AUTO(buf) big = BUF_INIT;
		const char *text;

		capture(LOG_INFO, is_json);
		cr_assert_eq(buf_append_zeros(&big, 10000), 0);
		memset(big.ptr, is_json ? 1 : 'x', big.len);
		log_info("big", "value=%s", buf_str(&big));
		text = logged();
		cr_assert(strlen(text) > 2000);
		cr_assert_eq(strchr(text, '\n'), text + strlen(text) - 1);
		cr_assert_not_null(strstr(text, "..."));
		cr_assert(!is_json || text[strlen(text) - 2] == '}');
	}
}

static void *log_much(void *arg)
{
	for (int i = 0; i < 200; i++)
		log_info("line", "from=%s end=1", (const char *)arg);
	return NULL;
}

Test(util_log, lines_of_many_threads_stay_whole)
{
	pthread_t threads[4];
	char path[] = "/tmp/shardfs-log.XXXXXX", line[256];
	int fd = mkstemp(path), count = 0;
	FILE *file;

	unlink(path);
	clock_test_freeze(0, (struct wall_time){0});
	log_setup(fd, LOG_INFO, false);
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		cr_assert_eq(thread_start(&threads[i], "logger", log_much, "aaaaaaaaaaaa"), 0);
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		pthread_join(threads[i], NULL);
	lseek(fd, 0, SEEK_SET);
	file = fdopen(fd, "r");
	while (fgets(line, sizeof(line), file) != NULL) {
		cr_assert_str_eq(line, "1970-01-01T00:00:00.000Z info line "
				       "from=aaaaaaaaaaaa end=1\n");
		count++;
	}
	cr_assert_eq(count, 800);
	fclose(file);
}

Test(util_log, a_closed_descriptor_harms_nobody)
{
	log_setup(-1, LOG_INFO, false);
	log_error("nobody", "listens=%d", 1);
}
