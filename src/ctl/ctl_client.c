/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ctl_client.h"

#include "ctl/shardfs_ioctl.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

#define POLL_FIRST_MS 1u
#define POLL_MAX_MS   100u

/* mountinfo writes blanks and the like as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		unsigned value;

		if (from[0] == '\\' && sscanf(from + 1, "%3o", &value) == 1) {
			*to = (char)value;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = 0;
}

/* The mount point of a line of mountinfo if it is a shardfs; fresh memory, or NULL. */
static char *shardfs_mount_point(char *line)
{
	char *dash = strstr(line, " - "), *point = line, *end;

	if (!dash || strncmp(dash + 3, "fuse.shardfs ", 13) != 0)
		return NULL;
	for (unsigned field = 0; field < 4 && point; field++) {
		point = strchr(point, ' ');
		if (point)
			point++;
	}
	end = point ? strchr(point, ' ') : NULL;
	if (!end)
		return NULL;
	*end = 0;
	point = mem_strdup(point);
	if (point)
		unescape(point);
	return point;
}

static int find_only_mount(char **out, struct buf *why)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	AUTO_STR found = NULL;
	char *line = NULL;
	size_t size = 0;
	unsigned count = 0;

	while (file && getline(&line, &size, file) > 0) {
		char *point = shardfs_mount_point(line);

		if (!point)
			continue;
		count++;
		mem_free(found);
		found = point;
	}
	free(line);
	if (file)
		fclose(file);
	if (count == 0) {
		buf_printf(why, "no shardfs is mounted here; mount one, or name it with --mount");
		return -ENOENT;
	}
	if (count > 1) {
		buf_printf(why, "%u shardfs are mounted here; choose one with --mount or "
				"$SHARDFS_MOUNT", count);
		return -EMLINK;
	}
	*out = STEAL(found);
	return 0;
}

int ctl_client_open(const char *path, const char *mount, int *fd, struct buf *why)
{
	AUTO_STR only = NULL;
	int r;

	if (!path)
		path = mount;
	if (!path)
		path = getenv("SHARDFS_MOUNT");
	if (!path) {
		r = find_only_mount(&only, why);
		if (r < 0)
			return r;
		path = only;
	}
	r = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (r < 0) {
		r = -errno;
		buf_printf(why, "%s: %s", path,
			   r == -ENOTCONN ? "the daemon of this mount is gone; unmount it (umount -l) "
					    "and mount it again"
					  : err_sentence(r));
		return r;
	}
	*fd = r;
	return 0;
}

static int call(int fd, struct shardfs_ctl *msg)
{
	msg->version = SHARDFS_CTL_VERSION;
	return ioctl(fd, SHARDFS_IOC_CTL, msg) < 0 ? -errno : 0;
}

static void wipe_free(void *ptr)
{
	if (ptr)
		mem_wipe(ptr, malloc_usable_size(ptr));
	free(ptr);
}

void ctl_wipe_json(void)
{
	json_set_alloc_funcs(malloc, wipe_free);
}

void ctl_free_text(char *text)
{
	wipe_free(text);
}

static int submit(int fd, struct shardfs_ctl *msg, const json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;
	int r = -ENOMEM;

	if (text && len > sizeof(msg->data))
		r = -E2BIG;
	if (text && len <= sizeof(msg->data)) {
		memcpy(msg->data, text, len);
		msg->len = (uint32_t)len;
		msg->op = SHARDFS_CTL_SUBMIT;
		r = call(fd, msg);
		mem_wipe(msg->data, sizeof(msg->data));
	}
	ctl_free_text(text);
	return r;
}

static int poll_page(int fd, struct shardfs_ctl *msg, uint64_t offset)
{
	int r;

	msg->op = SHARDFS_CTL_POLL;
	msg->offset = offset;
	msg->len = 0;
	r = call(fd, msg);
	if (r == 0 && msg->len > sizeof(msg->data))
		r = -EBADMSG;
	return r;
}

/* Whatever the running job says, if it fits one page and is whole. */
static bool tell(const struct shardfs_ctl *msg, bool (*progress)(void *, const json_t *),
		 void *ctx)
{
	json_t *state = msg->len == msg->total ? json_loadb(msg->data, msg->len, 0, NULL) : NULL;
	bool goes_on = progress(ctx, state);

	json_decref(state);
	return goes_on;
}

static int fetch(int fd, struct shardfs_ctl *msg, json_t **answer)
{
	AUTO(buf) text = BUF_INIT;
	uint64_t total = msg->total;
	int r = buf_append(&text, bytes_of(msg->data, msg->len));

	while (r == 0 && text.len < total) {
		r = poll_page(fd, msg, text.len);
		if (r == 0 && msg->len == 0)
			r = -EBADMSG;
		if (r == 0)
			r = buf_append(&text, bytes_of(msg->data, msg->len));
	}
	if (r < 0)
		return r;
	*answer = json_loadb((const char *)text.ptr, text.len, 0, NULL);
	return *answer ? 0 : -EBADMSG;
}

int ctl_client_run(int fd, const json_t *request, bool (*progress)(void *ctx, const json_t *state),
		   void *ctx, json_t **answer, uint32_t *exit_code)
{
	struct shardfs_ctl *msg = mem_alloc(sizeof(*msg));
	unsigned pause_ms = POLL_FIRST_MS;
	int r = msg ? submit(fd, msg, request) : -ENOMEM;

	while (r == 0) {
		struct timespec pause = {.tv_nsec = pause_ms * 1000000L};

		r = poll_page(fd, msg, 0);
		if (r < 0 || msg->state != SHARDFS_CTL_RUNNING)
			break;
		if (progress && !tell(msg, progress, ctx)) {
			msg->op = SHARDFS_CTL_CANCEL;
			r = call(fd, msg);
		}
		nanosleep(&pause, NULL);
		pause_ms = MIN(pause_ms * 2, POLL_MAX_MS);
	}
	if (r == 0) {
		*exit_code = msg->exit_code;
		r = fetch(fd, msg, answer);
	}
	mem_free(msg);
	return r;
}
