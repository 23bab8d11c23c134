/* SPDX-License-Identifier: Apache-2.0 */
/*
 * home/audit-pending: who cannot write the journal leaves word here.  A failed unlock has no key;
 * fsck and recovery have no journal to write to.  The next mount takes the words into the chain.
 *
 *	%020llu\n			how many were left out since the file was full
 *	sec uid gid pid kind result exe what\n	one line each, with tabs between
 *
 * Nothing here is sealed: until the mount whoever may write in home can change it.  Bounded; when
 * it is full the first ones stay, and later ones are counted.
 */
#include "store/audit.h"

#include "util/clock.h"
#include "util/err.h"
#include "util/file.h"
#include "util/log.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEFT_NAME      "audit-pending"
#define LEFT_BYTES_MAX ((size_t)64 * 1024)
#define HEAD_BYTES     21u
#define TEXT_LEN_MAX   400u

/* Locked; *size: of the file.  flags: O_CREAT or 0. */
static int open_left(const char *home, int flags, size_t *size, int *out)
{
	AUTO_STR path = mem_printf("%s/" LEFT_NAME, home);
	AUTO_FD fd = -1;
	struct stat st;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*size = (size_t)MIN((uint64_t)st.st_size, (uint64_t)LEFT_BYTES_MAX);
	*out = fd;
	fd = -1;
	return 0;
}

static int put_head(int fd, uint64_t left_out)
{
	char head[HEAD_BYTES + 1];

	snprintf(head, sizeof(head), "%020" PRIu64 "\n", left_out);
	return file_pwrite(fd, bytes_of(head, HEAD_BYTES), 0);
}

static uint64_t get_head(int fd)
{
	char head[HEAD_BYTES + 1] = "";

	return file_pread(fd, head, HEAD_BYTES, 0) < 0 ? 0 : strtoull(head, NULL, 10);
}

/* Without what separates. */
static int put_text(struct buf *out, const char *text, char end)
{
	size_t len = strnlen(text, TEXT_LEN_MAX);
	int r = 0;

	for (size_t i = 0; i < len && r == 0; i++) {
		char c = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];

		r = buf_append(out, bytes_of(&c, 1));
	}
	return r < 0 ? r : buf_append(out, bytes_of(&end, 1));
}

static int put_line(struct buf *out, const struct audit_event *event)
{
	const struct audit_who *who = &event->who;
	int r = buf_printf(out, "%" PRId64 "\t%" PRIu32 "\t%" PRIu32 "\t%" PRIu32 "\t",
			   clock_wall().sec, who->uid, who->gid, who->pid);

	if (r == 0)
		r = put_text(out, event->kind, '\t');
	if (r == 0)
		r = put_text(out, event->result ? event->result : "ok", '\t');
	if (r == 0)
		r = put_text(out, who->exe, '\t');
	return r < 0 ? r : put_text(out, event->what, '\n');
}

int audit_leave(const char *home, const struct audit_event *event)
{
	AUTO(buf) line = BUF_INIT;
	AUTO_FD fd = -1;
	size_t size = 0;
	int r = put_line(&line, event);

	if (r == 0)
		r = open_left(home, O_CREAT, &size, &fd);
	if (r == 0 && size < HEAD_BYTES) {
		r = put_head(fd, 0);
		size = HEAD_BYTES;
	}
	if (r == 0 && size + line.len > LEFT_BYTES_MAX)
		r = put_head(fd, get_head(fd) + 1);
	else if (r == 0)
		r = file_pwrite(fd, buf_bytes(&line), size);
	if (r == 0)
		r = file_fdatasync(fd);
	if (r < 0 && r != -ENOENT)
		log_warn("audit-entry-lost", "kind=%s home=" LOG_Q " error=%s", event->kind, home,
			 err_name(r));
	return r;
}

/* ---- taking ---- */

/* The next field of a line, ended by `end`; NULL: it is not there. */
static char *take_field(char **at, char end)
{
	char *field = *at, *stop = field ? strchr(field, end) : NULL;

	if (!stop)
		return NULL;
	*stop = '\0';
	*at = stop + 1;
	return field;
}

static bool take_number(char **at, uint64_t *out)
{
	char *field = take_field(at, '\t'), *end;

	if (!field)
		return false;
	*out = strtoull(field, &end, 10);
	return *end == '\0';
}

/* Nothing else is left here by us. */
static bool is_left_kind(const char *kind)
{
	return kind && (strcmp(kind, "unlock") == 0 || strcmp(kind, "fsck") == 0 ||
			strcmp(kind, "recover") == 0);
}

/* Foreign bytes: what makes no sense becomes one word of that. */
static int take_line(struct audit *audit, char *line)
{
	char time[CLOCK_RFC3339_SIZE];
	struct audit_event event = {.kind = "damaged",
				    .who = AUDIT_SYSTEM,
				    .what = "a line of " LEFT_NAME " makes no sense"};
	AUTO(buf) details = BUF_INIT;
	uint64_t sec, uid, gid, pid;
	char *exe, *kind, *result;

	if (take_number(&line, &sec) && take_number(&line, &uid) && take_number(&line, &gid) &&
	    take_number(&line, &pid) && is_left_kind(kind = take_field(&line, '\t')) &&
	    (result = take_field(&line, '\t')) && (exe = take_field(&line, '\t'))) {
		event = (struct audit_event){.kind = kind, .what = line, .result = result};
		event.who = (struct audit_who){
			.uid = (uint32_t)uid, .gid = (uint32_t)gid, .pid = (uint32_t)pid};
		snprintf(event.who.exe, sizeof(event.who.exe), "%s", exe);
		clock_rfc3339((struct wall_time){.sec = (int64_t)sec}, time);
		if (buf_printf(&details, "{\"happened\":\"%s\"}", time) == 0)
			event.details = buf_str(&details);
	}
	return audit_put(audit, &event);
}

static int take_left_out(struct audit *audit, uint64_t count)
{
	AUTO_STR details = mem_printf("{\"left_out\":%" PRIu64 "}", count);
	struct audit_event event = {.kind = "pending",
				    .who = AUDIT_SYSTEM,
				    .details = details,
				    .what = LEFT_NAME " was full"};

	return details ? audit_put(audit, &event) : -ENOMEM;
}

static int take_all(struct audit *audit, int fd, size_t size)
{
	AUTO(buf) text = BUF_INIT;
	uint64_t left_out = get_head(fd);
	char *at, *line;
	int r = file_pread_buf(fd, size - HEAD_BYTES, HEAD_BYTES, &text);

	if (r == 0 && !buf_str(&text))
		r = -ENOMEM;
	at = (char *)text.ptr;
	while (r == 0 && (line = take_field(&at, '\n')) != NULL)
		r = take_line(audit, line);
	return r == 0 && left_out > 0 ? take_left_out(audit, left_out) : r;
}

int audit_take_left(struct audit *audit, const char *home)
{
	AUTO_FD fd = -1;
	size_t size = 0;
	int r = open_left(home, 0, &size, &fd);

	if (r == 0 && size > HEAD_BYTES)
		r = take_all(audit, fd, size);
	if (r == 0)
		r = audit_settle(audit);
	/* emptied, not removed: who waits for the lock has this file open */
	if (r == 0 && ftruncate(fd, 0) < 0)
		r = -errno;
	return r == -ENOENT ? 0 : r;
}
