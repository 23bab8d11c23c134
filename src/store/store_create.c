/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkfs.  The local superblock is written last: a file system exists from that
 * moment on, and what an interrupted mkfs left before it is taken over by the
 * next one (empty providers of another id are, see backend_init).
 */
#include "store/store_private.h"

#include "crypto/crypto.h"
#include "store/superblock_io.h"
#include "util/clock.h"
#include "util/err.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_dir(const char *path, struct buf *why)
{
	int r;

	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		return 0;
	r = -errno;
	buf_printf(why, "%s: %s", path, err_sentence(r));
	return r;
}

/* Also the directories above it. */
int store_make_path(const char *path, struct buf *why)
{
	char part[PATH_MAX];
	int r = 0;

	if (strlen(path) >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t i = 1; path[i] && r == 0; i++) {
		if (path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		r = make_dir(part, why);
	}
	return r < 0 ? r : make_dir(path, why);
}

static int refuse_existing(const struct config *config, struct buf *why)
{
	AUTO_STR path = store_path(config, STORE_SUPERBLOCK_NAME);

	if (!path)
		return -ENOMEM;
	if (access(path, F_OK) == 0) {
		buf_printf(why, "%s: there is a file system already; mount it, or name another home",
			   config->home);
		return -EEXIST;
	}
	/* an index without a superblock is what an interrupted mkfs left */
	if (unlink(config->index) < 0 && errno != ENOENT) {
		int r = -errno;

		buf_printf(why, "%s: %s", config->index, err_sentence(r));
		return r;
	}
	return 0;
}

static int init_providers(const struct config *config, const struct superblock *sb,
			  struct bytes sealed, struct buf *why)
{
	for (size_t i = 0; i < config->provider_count; i++) {
		AUTO_BACKEND backend = NULL;
		int r = provider_open(config, &config->providers[i], why, &backend);

		if (r == 0)
			r = backend_init(backend, sb->fs_id.b, why);
		if (r == 0)
			r = superblock_io_put(backend, sealed, why);
		if (r < 0)
			return r;
	}
	return 0;
}

void store_describe_provider(const struct config_provider *provider, uint32_t no,
			     struct provider_row *row)
{
	static const char *const roles[] = {"primary", "secondary", "tertiary"};

	*row = (struct provider_row){.provider_no = no};
	snprintf(row->name, sizeof(row->name), "%s", provider->name);
	snprintf(row->type, sizeof(row->type), "%s", provider->type);
	snprintf(row->vendor, sizeof(row->vendor), "%s", provider->vendor);
	snprintf(row->region, sizeof(row->region), "%s", provider->region);
	snprintf(row->role, sizeof(row->role), "%s", roles[provider->role]);
}

/* Record 1 of every file system: its providers and the policy of the root. */
static int first_record(const struct config *config, const char *policy_text,
			struct record *record)
{
	struct policy_row policy = {.root = INO_ROOT, .version = 1};

	for (size_t i = 0; i < config->provider_count; i++) {
		struct provider_row row;

		store_describe_provider(&config->providers[i], (uint32_t)i + 1, &row);
		record_put_provider(record, &row);
	}
	snprintf(policy.text, sizeof(policy.text), "%s", policy_text);
	record_put_policy(record, &policy);
	record->seq = 1;
	return record->error;
}

/* The first snapshot, everywhere: from now on any one provider gives back the tree. */
static int ship_first(const struct config *config, struct keyring *keyring, struct index *index,
		      struct buf *why)
{
	struct backend *backends[CONFIG_PROVIDERS_MAX];
	AUTO_STR dir = store_path(config, STORE_OPLOG_NAME);
	struct oplog_settings settings = {.dir = dir, .keyring = keyring, .index = index,
					  .writer_epoch = 1};
	struct fs_id fs_id = keyring_fs_id(keyring);
	struct oplog *oplog = NULL;
	size_t count = 0;
	int r = dir ? oplog_open(&settings, &oplog) : -ENOMEM;

	for (; count < config->provider_count && r == 0; count++) {
		r = provider_open(config, &config->providers[count], why, &backends[count]);
		if (r < 0)
			break;
		backend_bind(backends[count], fs_id.b);
	}
	if (r == 0)
		r = oplog_make_first(oplog, backends, count, why);
	if (r == 0)
		r = epoch_claim_first(config->home, keyring, backends, count, why);
	while (count > 0)
		backend_close(backends[--count]);
	oplog_free(oplog);
	return r;
}

static int make_index(const struct config *config, const struct store_create_settings *settings,
		      const char *policy_text, struct keyring *keyring, struct buf *why)
{
	struct inode_row root = {
		.ino = INO_ROOT,
		.mode = S_IFDIR | 0755,
		.uid = settings->root_uid,
		.gid = settings->root_gid,
		.nlink = 2,
		.parent = INO_ROOT,
		.policy_root = INO_ROOT,
	};
	struct index_settings index_settings = {.path = config->index, .cache_dirents_max = 16,
						.page_cache_bytes = MIB};
	AUTO_PTR(record) record = record_new();
	struct index *index;
	int r = record ? 0 : -ENOMEM;

	root.atime = root.mtime = root.ctime = root.btime = clock_wall();
	if (r == 0)
		r = index_create(config->index, &root);
	if (r < 0) {
		buf_printf(why, "%s: %s", config->index, err_sentence(r));
		return r;
	}
	r = index_open(&index_settings, why, &index);
	if (r < 0)
		return r;
	r = first_record(config, policy_text, record);
	if (r == 0)
		r = index_apply(index, &record, 1);
	if (r == 0)
		r = ship_first(config, keyring, index, why);
	index_close(index);
	return r;
}

static int check_policy(const struct config *config, char text[POLICY_TEXT_SIZE], struct buf *why)
{
	struct provider_facts facts[CONFIG_PROVIDERS_MAX];
	struct policy policy;
	int r = policy_parse(config->policy, &policy, why);

	for (size_t i = 0; i < config->provider_count; i++) {
		const struct config_provider *provider = &config->providers[i];

		facts[i] = (struct provider_facts){
			.provider_no = (uint32_t)i + 1,
			.name = provider->name,
			.vendor = provider->vendor,
			.region = provider->region,
			.role = "primary",
			.is_present = true,
			.takes_new = true,
			.weight = 1.0,
		};
	}
	if (r == 0)
		r = policy_check(&policy, facts, (unsigned)config->provider_count, why);
	return r < 0 ? r : policy_print(&policy, text);
}

/* A provider's settings, by opening its stack: that does no I/O. */
static int check_provider(void *arg, const struct config_provider *provider, unsigned *line,
			  struct buf *why)
{
	AUTO_BACKEND backend = NULL;
	AUTO(buf) text = BUF_INIT;
	struct config config = {.source = provider->name};
	const char *words;
	int r, len = 0;

	(void)arg;
	r = config_settings_defaults(&config.settings);
	if (r == 0)
		r = provider_open_settings(&config, provider, &text, &backend);
	config_settings_release(&config.settings);
	if (r == 0)
		return 0;
	words = text.len ? buf_str(&text) : err_sentence(r);
	if (sscanf(words, "line %u: %n", line, &len) == 1 && len > 0)
		words += len;
	buf_printf(why, "%s", words);
	return r;
}

static int check_root_policy(void *arg, const char *text, const struct config *config,
			     struct buf *why)
{
	char canonical[POLICY_TEXT_SIZE];

	(void)arg;
	(void)text;
	return check_policy(config, canonical, why);
}

const struct config_checks *store_mount_checks(void)
{
	static const struct config_checks checks = {.provider = check_provider};

	return &checks;
}

const struct config_checks *store_config_checks(void)
{
	static const struct config_checks checks = {.provider = check_provider,
						    .policy = check_root_policy};

	return &checks;
}

/* Where they are kept elsewhere: to their file, and out of sb. */
static int write_slots(const struct config *config, struct keyring *keyring, struct superblock *sb,
		       struct buf *why)
{
	AUTO(buf) sealed = BUF_INIT;
	int r;

	if (config->key_slots != CONFIG_SLOTS_DETACHED)
		return 0;
	r = keyring_seal_superblock(keyring, sb, &sealed);
	if (r == 0)
		r = superblock_io_write_file(config->slots_file, buf_bytes(&sealed), why);
	keys_public_form(config, sb);
	return r;
}

static int create_with_keys(const struct config *config,
			    const struct store_create_settings *settings, struct superblock *sb,
			    const char *policy_text, struct buf *why)
{
	struct keyring *keyring = NULL;
	AUTO(buf) sealed = BUF_INIT;
	int r;

	sb->chunk_min_bytes = (uint32_t)config->settings.chunk_min_bytes;
	sb->chunk_avg_bytes = (uint32_t)config->settings.chunk_avg_bytes;
	sb->chunk_max_bytes = (uint32_t)config->settings.chunk_max_bytes;
	sb->created_s = clock_wall().sec;
	r = keyring_create(settings->credentials, settings->kdf, "first", sb, &keyring);
	if (r < 0)
		buf_printf(why, "%s: the keys cannot be made: %s", config->home, err_sentence(r));
	if (r == 0)
		r = write_slots(config, keyring, sb, why);
	if (r == 0)
		r = keyring_seal_superblock(keyring, sb, &sealed);
	if (r == 0)
		r = init_providers(config, sb, buf_bytes(&sealed), why);
	if (r == 0)
		r = make_index(config, settings, policy_text, keyring, why);
	if (r == 0)
		r = superblock_io_write_local(config, buf_bytes(&sealed), why);
	keyring_free(keyring);
	return r;
}

int store_create(const struct config *config, const struct store_create_settings *settings,
		 struct buf *why)
{
	const char *const dirs[] = {config->home, config->journal, config->spool, config->cache};
	char policy_text[POLICY_TEXT_SIZE];
	struct superblock *sb;
	int r = check_policy(config, policy_text, why);

	for (size_t i = 0; i < ARRAY_COUNT(dirs) && r == 0; i++)
		r = store_make_path(dirs[i], why);
	if (r == 0)
		r = refuse_existing(config, why);
	if (r < 0)
		return r;
	sb = mem_alloc(sizeof(*sb));
	if (!sb)
		return -ENOMEM;
	r = create_with_keys(config, settings, sb, policy_text, why);
	if (r < 0 && why->len == 0)
		buf_printf(why, "%s: %s", config->home, err_sentence(r));
	mem_free(sb);
	return r;
}
