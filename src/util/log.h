/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_UTIL_LOG_H
#define SHARDFS_UTIL_LOG_H

/*
 * One event per line: time, level, event, key=value pairs.  Text or JSON.
 * Any thread; a line is written whole.  Never log names or content of files,
 * nor a secret: identify files by inode number.
 *
 * log_warn("copy-read-failed", "shard=%s provider=%s error=%s", ...);
 * Values with blanks are quoted by the caller with LOG_Q.
 */
#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

#define LOG_Q "\"%s\"" /* format of a value that may hold blanks */

/* Where lines go: a descriptor (borrowed) and a form.  Default: stderr, text, LOG_INFO. */
void log_setup(int fd, enum log_level lowest, bool is_json);
void log_event(enum log_level level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int log_level_parse(const char *name, enum log_level *level); /* -EINVAL */

#define log_debug(event, ...) log_event(LOG_DEBUG, event, __VA_ARGS__)
#define log_info(event, ...)  log_event(LOG_INFO, event, __VA_ARGS__)
#define log_warn(event, ...)  log_event(LOG_WARN, event, __VA_ARGS__)
#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)

#endif
