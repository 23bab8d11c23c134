/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INVARIANT: home has a whole superblock at every moment: a new one is written beside the old one,
 * synced, renamed over it, and its name synced, before anybody counts on it.  At a provider a PUT is
 * atomic.  mkfs writes the local one last, so that one that was interrupted left no file system.
 */
#include "store/superblock_io.h"

#include "backends/stack.h"
#include "util/err.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SETTINGS_MAX 64u
#define LOCAL_NAME   "superblock"

/* Settings of one provider as the backend wants them: its own first, then general ones. */
struct setting_list {
	struct backend_setting settings[SETTINGS_MAX];
	char texts[8][24];
	size_t count, text_count;
};

static bool has_setting(const struct setting_list *list, const char *key)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->settings[i].key, key) == 0)
			return true;
	return false;
}

static void add_default(struct setting_list *list, const char *key, uint64_t value,
			const char *unit)
{
	char *text;

	if (has_setting(list, key) || list->count == SETTINGS_MAX || list->text_count == 8)
		return;
	text = list->texts[list->text_count++];
	snprintf(text, sizeof(list->texts[0]), "%" PRIu64 "%s", value, unit);
	list->settings[list->count++] = (struct backend_setting){.key = key, .value = text};
}

static void add_defaults(struct setting_list *list, const struct config *config,
			 const struct config_provider *provider)
{
	const struct config_settings *set = &config->settings;
	const struct option_spec *type = backend_type_options(provider->type);
	uint64_t workers = provider->workers_count ? provider->workers_count
						    : set->provider_workers_count;
	uint64_t inflight = provider->inflight_requests_max ? provider->inflight_requests_max
							     : set->inflight_requests_max;
	uint64_t rate = provider->bandwidth_bytes_per_s ? provider->bandwidth_bytes_per_s
							 : set->bandwidth_bytes_per_s;

	if (type && option_find(type, "workers") && workers)
		add_default(list, "workers", workers, "");
	if (inflight)
		add_default(list, "inflight", inflight, "");
	if (rate)
		add_default(list, "upload", rate, "B/s");
	add_default(list, "attempts", set->retry_attempts_count, "");
	add_default(list, "wait", set->retry_delay_ms, "ms");
	add_default(list, "wait_max", set->retry_delay_max_ms, "ms");
}

int provider_open_settings(const struct config *config, const struct config_provider *provider,
			   struct buf *why, struct backend **out)
{
	struct setting_list *list = mem_alloc(sizeof(*list));
	int r = list ? 0 : -ENOMEM;

	for (size_t i = 0; i < provider->pair_count && r == 0; i++) {
		const struct config_pair *pair = &provider->pairs[i];

		if (list->count == SETTINGS_MAX)
			r = -EINVAL;
		else
			list->settings[list->count++] =
				(struct backend_setting){pair->key, pair->value, pair->line};
	}
	if (r == 0) {
		add_defaults(list, config, provider);
		r = backend_open_stack(provider->type, list->settings, list->count, provider->name,
				       why, out);
	}
	mem_free(list);
	return r;
}

int provider_open(const struct config *config, const struct config_provider *provider,
		  struct buf *why, struct backend **out)
{
	AUTO(buf) text = BUF_INIT;
	int r = provider_open_settings(config, provider, &text, out);

	if (r < 0)
		buf_printf(why, "%s:%u: provider %s: %s", config->source, provider->line,
			   provider->name, text.len ? buf_str(&text) : err_sentence(r));
	return r;
}

static int read_all(int fd, struct buf *out)
{
	for (;;) {
		ssize_t n;
		int r = buf_reserve(out, 4096);

		if (r < 0)
			return r;
		n = read(fd, out->ptr + out->len, 4096);
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		out->len += (size_t)n;
		if (out->len > SUPERBLOCK_BYTES_MAX)
			return -EBADMSG;
	}
}

int superblock_io_read_file(const char *path, struct superblock *out)
{
	AUTO(buf) bytes = BUF_INIT;
	AUTO_FD fd = -1;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = read_all(fd, &bytes);
	return r < 0 ? r : superblock_parse(buf_bytes(&bytes), out);
}

static int read_local(const struct config *config, struct superblock *out)
{
	AUTO_STR path = mem_printf("%s/" LOCAL_NAME, config->home);

	return path ? superblock_io_read_file(path, out) : -ENOMEM;
}

int superblock_io_get(struct backend *backend, struct superblock *out, struct buf *why)
{
	AUTO(buf) bytes = BUF_INIT;
	struct backend_req req = {.op = BACKEND_GET, .key = SUPERBLOCK_KEY, .len = BACKEND_TO_END,
				  .out = &bytes};
	int r = backend_run(backend, &req);

	if (r < 0) {
		buf_printf(why, "provider %s: superblock: %s", backend_name(backend), req.cause);
		return r;
	}
	r = superblock_parse(buf_bytes(&bytes), out);
	if (r < 0)
		buf_printf(why, "provider %s: superblock: %s", backend_name(backend),
			   r == -EPROTONOSUPPORT ? "made by a newer version of shardfs"
						 : "damaged");
	return r;
}

/* The best of those that providers have, into out when it is better than best_revision. */
static int read_provider(const struct config *config, const struct config_provider *provider,
			 uint64_t best_revision, struct superblock *out)
{
	AUTO(buf) why = BUF_INIT;
	AUTO_BACKEND backend = NULL;
	struct superblock *sb = mem_alloc(sizeof(*sb));
	int r = sb ? provider_open(config, provider, &why, &backend) : -ENOMEM;

	if (r == 0)
		r = superblock_io_get(backend, sb, &why);
	if (r == 0 && sb->revision > best_revision)
		*out = *sb;
	mem_free(sb);
	return r;
}

int superblock_io_read(const struct config *config, struct superblock *out, struct buf *why)
{
	int local = read_local(config, out), r = local;
	uint64_t best = 0;

	if (local == 0)
		return 0;
	if (local == -EPROTONOSUPPORT) {
		buf_printf(why, "%s/" LOCAL_NAME ": made by a newer version of shardfs; "
				"use that version", config->home);
		return r;
	}
	for (size_t i = 0; i < config->provider_count; i++)
		if (read_provider(config, &config->providers[i], best, out) == 0)
			best = MAX(best, out->revision);
	if (best > 0)
		return 0;
	if (local == -ENOENT)
		buf_printf(why, "%s: no file system here: no superblock in it nor on a provider; "
				"mkfs.shardfs makes one", config->home);
	else
		buf_printf(why, "%s/" LOCAL_NAME ": %s, and no provider has a good one",
			   config->home, err_sentence(local));
	return r;
}

int superblock_io_write_file(const char *path, struct bytes sealed, struct buf *why)
{
	AUTO_STR temporary = mem_printf("%s.new", path);
	AUTO_STR parent = mem_strdup(path);
	AUTO_FD dir = -1;
	AUTO_FD fd = -1;
	char *slash;
	int r = 0;

	if (!parent || !temporary)
		return -ENOMEM;
	slash = strrchr(parent, '/');
	if (slash)
		slash[slash == parent ? 1 : 0] = 0;
	dir = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (dir < 0 || fd < 0)
		r = -errno;
	else
		r = file_pwrite(fd, sealed, 0);
	if (r == 0 && (fsync(fd) < 0 || rename(temporary, path) < 0 || fsync(dir) < 0))
		r = -errno;
	if (r < 0)
		buf_printf(why, "%s: %s", path, err_sentence(r));
	return r;
}

int superblock_io_write_local(const struct config *config, struct bytes sealed, struct buf *why)
{
	AUTO_STR path = mem_printf("%s/" LOCAL_NAME, config->home);

	return path ? superblock_io_write_file(path, sealed, why) : -ENOMEM;
}

int superblock_io_put(struct backend *backend, struct bytes sealed, struct buf *why)
{
	struct backend_req req = {.op = BACKEND_PUT, .key = SUPERBLOCK_KEY, .body = sealed};
	int r = backend_run(backend, &req);

	if (r < 0)
		buf_printf(why, "provider %s: superblock: %s", backend_name(backend), req.cause);
	return r;
}
