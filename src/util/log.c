/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is put together on the stack (what does not fit is cut, and the line
 * says so), then written whole under the lock.  Control characters are
 * replaced, so that no value can forge a line.  Text:
 *
 *	2026-01-31T12:00:00.123Z warn copy-read-failed shard=1f provider="my disk"
 *
 * JSON: {"time":"...","level":"warn","event":"...","shard":"1f","provider":"my disk"};
 * words of the message that are no key=value are gathered in "message".
 */
#include "util/log.h"

#include "util/clock.h"
#include "util/lock.h"
#include "util/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE_BYTES_MAX 2048
#define LINE_BYTES_MAX	  (6 * MESSAGE_BYTES_MAX + 512) /* each byte may become \u00XX */

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct lock log_lock = LOCK_INIT(LOCK_LOG); /* a line is written whole */
static atomic_int log_fd = STDERR_FILENO;
static atomic_int log_lowest = LOG_INFO;
static atomic_bool log_is_json;

struct line {
	char text[LINE_BYTES_MAX];
	size_t len;
};

void log_setup(int fd, enum log_level lowest, bool is_json)
{
	atomic_store(&log_fd, fd);
	atomic_store(&log_lowest, (int)lowest);
	atomic_store(&log_is_json, is_json);
}

int log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < ARRAY_COUNT(level_names); i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static void add(struct line *line, const char *text, size_t len)
{
	len = MIN(len, sizeof(line->text) - line->len);
	memcpy(line->text + line->len, text, len);
	line->len += len;
}

static void add_str(struct line *line, const char *text)
{
	add(line, text, strlen(text));
}

static void add_json_string(struct line *line, const char *text, size_t len)
{
	add_str(line, "\"");
	for (size_t i = 0; i < len; i++) {
		char escaped[8];

		if (text[i] == '"' || text[i] == '\\')
			add_str(line, "\\");
		if ((unsigned char)text[i] < 0x20) {
			snprintf(escaped, sizeof(escaped), "\\u%04x", (unsigned char)text[i]);
			add_str(line, escaped);
		} else {
			add(line, text + i, 1);
		}
	}
	add_str(line, "\"");
}

static void add_json_pair(struct line *line, const char *key, size_t key_len, const char *value,
			  size_t value_len)
{
	add_str(line, ",");
	add_json_string(line, key, key_len);
	add_str(line, ":");
	add_json_string(line, value, value_len);
}

/* A quoted value ends at a quote before a blank or the end: LOG_Q escapes nothing. */
static size_t value_length(const char *value)
{
	size_t len = 1;

	if (value[0] != '"')
		return strcspn(value, " ");
	while (value[len] != '\0' &&
	       !(value[len] == '"' && (value[len + 1] == ' ' || value[len + 1] == '\0')))
		len++;
	return value[len] == '"' ? len + 1 : len;
}

static void add_json_message(struct line *line, const char *message)
{
	char rest[MESSAGE_BYTES_MAX];
	size_t rest_len = 0;

	while (*message != '\0') {
		size_t key_len = strcspn(message, "= "), len = key_len;

		if (message[key_len] == '=' && key_len > 0) {
			const char *value = message + key_len + 1;
			size_t value_len = value_length(value);
			bool is_quoted = value_len >= 2 && value[0] == '"' &&
					 value[value_len - 1] == '"';

			add_json_pair(line, message, key_len, value + is_quoted,
				      value_len - 2 * is_quoted);
			len += 1 + value_len;
		} else {
			len = strcspn(message, " ");
			if (rest_len > 0 && len > 0)
				rest[rest_len++] = ' ';
			memcpy(rest + rest_len, message, len);
			rest_len += len;
		}
		message += len;
		message += strspn(message, " ");
	}
	if (rest_len > 0)
		add_json_pair(line, "message", strlen("message"), rest, rest_len);
}

static void add_text_message(struct line *line, const char *message)
{
	if (*message != '\0')
		add_str(line, " ");
	for (; *message != '\0'; message++) {
		char escaped[8];

		if ((unsigned char)*message < 0x20 || *message == 0x7f) {
			snprintf(escaped, sizeof(escaped), "\\x%02x", (unsigned char)*message);
			add_str(line, escaped);
		} else {
			add(line, message, 1);
		}
	}
}

static const char *time_text(char *out)
{
	struct wall_time now = clock_wall();
	size_t len = strlen(clock_rfc3339(now, out)) - 1; /* without the Z */

	snprintf(out + len, CLOCK_RFC3339_SIZE - len, ".%03uZ", now.nsec / 1000000);
	return out;
}

static void write_line(const struct line *line)
{
	int fd = atomic_load(&log_fd);
	size_t done = 0;

	LOCK_SCOPE(&log_lock);
	while (done < line->len) {
		ssize_t n = write(fd, line->text + done, line->len - done);

		if (n < 0 && errno != EINTR)
			return; /* there is nobody to tell */
		done += n > 0 ? (size_t)n : 0;
	}
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
	char message[MESSAGE_BYTES_MAX], time[CLOCK_RFC3339_SIZE];
	int saved_errno = errno, len;
	struct line line;
	va_list args;

	if ((int)level < atomic_load_explicit(&log_lowest, memory_order_relaxed))
		return;
	va_start(args, format);
	len = vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (len < 0)
		message[0] = '\0';
	else if ((size_t)len >= sizeof(message))
		memcpy(message + sizeof(message) - 5, " ...", 5);

	line.len = 0;
	if (atomic_load_explicit(&log_is_json, memory_order_relaxed)) {
		add_str(&line, "{\"time\":\"");
		add_str(&line, time_text(time));
		add_str(&line, "\",\"level\":\"");
		add_str(&line, level_names[level]);
		add_str(&line, "\",\"event\":");
		add_json_string(&line, event, strlen(event));
		add_json_message(&line, message);
		add_str(&line, "}\n");
	} else {
		add_str(&line, time_text(time));
		add_str(&line, " ");
		add_str(&line, level_names[level]);
		add_str(&line, " ");
		add_str(&line, event);
		add_text_message(&line, message);
		add_str(&line, "\n");
	}
	write_line(&line);
	errno = saved_errno;
}
