/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define HEAD      "home: /h\npassphrase_file: /h/p\n"
#define PROVIDERS "providers:\n  - {name: one, type: dir, path: /p/1}\n"
#define WHOLE     HEAD PROVIDERS

static int parse(const char *text, struct config *config, struct buf *why)
{
	return config_parse(bytes_of_str(text), "c.yaml", NULL, config, why);
}

static void check_good(const char *text, struct config *config)
{
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(parse(text, config, &why), 0, "%s", buf_str(&why));
	cr_assert_eq(why.len, 0);
}

static void check_says(const char *text, int right, const char *says)
{
	AUTO(config) config = CONFIG_INIT;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(parse(text, &config, &why), right, "%s", text);
	cr_assert_str_eq(buf_str(&why), says);
	cr_assert_null(config.home);
}

Test(config, the_shortest_file_has_all_defaults)
{
	AUTO(config) config = CONFIG_INIT;

	check_good(WHOLE, &config);
	cr_assert_str_eq(config.index, "/h/index.db");
	cr_assert_str_eq(config.journal, "/h/journal");
	cr_assert_str_eq(config.spool, "/h/spool");
	cr_assert_str_eq(config.cache, "/h/cache");
	cr_assert_str_eq(config.policy, "3");
	cr_assert_eq(config.policy_line, 0);
	cr_assert_eq(config.provider_count, 1);
	cr_assert_str_eq(config.providers[0].vendor, "one");
	cr_assert_str_eq(config.providers[0].region, "local");
	cr_assert_eq(config.providers[0].role, PROVIDER_SECONDARY);
	cr_assert_eq(config.providers[0].pair_count, 1);
	cr_assert_eq(config.settings.shard_size_bytes, 16 * MIB);
	cr_assert_eq(config.settings.commit_interval_ms, 5000);
	cr_assert_eq(config_compression_level(&config.settings), 20);
	cr_assert(config_codec_threads(&config.settings) >= 1);
}

Test(config, everything_that_is_given_is_taken)
{
	AUTO(config) config = CONFIG_INIT;

	check_good("home: /h/\n"
		   "index: /i/x.db\n"
		   "key_file: /k\n"
		   "policy: copies=3,ack=one\n"
		   "providers:\n"
		   "  - name: near\n"
		   "    type: dir\n"
		   "    role: primary\n"
		   "    region: eu-1\n"
		   "    vendor: acme\n"
		   "    workers: 7\n"
		   "    bandwidth: 80mbps\n"
		   "    path: /p/near\n"
		   "    login: {user: u, pass: [a, b]}\n"
		   "  - name: far\n"
		   "    type: dir\n"
		   "    role: tertiary\n"
		   "    path: /p/far\n"
		   "settings:\n"
		   "  shard_size: 4MiB\n"
		   "  compression: -3\n"
		   "  hedged_reads: no\n"
		   "  shard_idle: 250ms\n",
		   &config);
	cr_assert_str_eq(config.index, "/i/x.db");
	cr_assert_str_eq(config.spool, "/h/spool");
	cr_assert_eq(config.policy_line, 4);
	cr_assert_eq(config.provider_count, 2);
	const struct config_provider *near = &config.providers[0];

	cr_assert_eq(near->role, PROVIDER_PRIMARY);
	cr_assert_eq(near->workers_count, 7);
	cr_assert_eq(near->bandwidth_bytes_per_s, 10000000);
	cr_assert_eq(near->line, 6);
	cr_assert_eq(near->pair_count, 4);
	cr_assert_str_eq(near->pairs[1].key, "login.user");
	cr_assert_str_eq(near->pairs[3].key, "login.pass[1]");
	cr_assert_str_eq(near->pairs[3].value, "b");
	cr_assert_eq(near->pairs[3].line, 14);
	cr_assert_eq(config.providers[1].role, PROVIDER_TERTIARY);
	cr_assert_eq(config.settings.shard_size_bytes, 4 * MIB);
	cr_assert_eq(config_compression_level(&config.settings), -3);
	cr_assert(!config.settings.hedged_reads);
	cr_assert_eq(config.settings.shard_idle_ms, 250);
}

Test(config, an_error_names_file_line_key_and_what_is_allowed)
{
	check_says(WHOLE "settings:\n  shard_size: 3GiB\n", -ERANGE,
		   "c.yaml:6: settings.shard_size: 3GiB: must be 1MiB .. 64MiB");
	check_says(WHOLE "settings:\n  shard_sise: 3MiB\n", -EINVAL,
		   "c.yaml:6: settings.shard_sise: unknown key; did you mean shard_size?");
	check_says(WHOLE "settings:\n  quux: 1\n", -EINVAL,
		   "c.yaml:6: settings.quux: unknown key; shardfs.yaml(5) lists them");
	check_says(WHOLE "settings:\n  log_level: loud\n", -EINVAL,
		   "c.yaml:6: settings.log_level: loud: must be one of debug, info, warn, error");
	check_says(WHOLE "settings:\n  open_shards_max:\n", -EINVAL,
		   "c.yaml:6: settings.open_shards_max: has no value");
	check_says(WHOLE "settings:\n  open_shards_max: [1]\n", -EINVAL,
		   "c.yaml:6: settings.open_shards_max: must be a single value");
	check_says(WHOLE "settings: 5\n", -EINVAL,
		   "c.yaml:5: settings: must be `key: value` lines");
	check_says(WHOLE "setings: {}\n", -EINVAL,
		   "c.yaml:5: setings: unknown key; did you mean settings?");
	check_says(WHOLE "spol: /x\n", -EINVAL, "c.yaml:5: spol: unknown key; did you mean spool?");
	check_says(WHOLE "shard_size: 2MiB\n", -EINVAL,
		   "c.yaml:5: shard_size: belongs under settings:");
}

Test(config, what_must_be_given_is_asked_for)
{
	check_says("passphrase_file: /p\n" PROVIDERS, -EINVAL,
		   "c.yaml: home: must be given: a directory for local state");
	check_says(HEAD, -EINVAL, "c.yaml: providers: must be given: a list of at least one");
	check_says("home: /h\n" PROVIDERS, -EINVAL,
		   "c.yaml: passphrase_file: must be given, or passphrase_command, or key_file");
	check_says("home: h\nkey_file: /k\n" PROVIDERS, -EINVAL,
		   "c.yaml:1: home: h: must be an absolute path");
	check_says("home: /h\nkey_file: k\n" PROVIDERS, -EINVAL,
		   "c.yaml:2: key_file: k: must be an absolute path");
	check_says(HEAD "passphrase_command: x\n" PROVIDERS, -EINVAL,
		   "c.yaml:3: passphrase_command: passphrase_file is given already; keep one");
}

Test(config, providers_are_checked)
{
	check_says(HEAD "providers: []\n", -EINVAL,
		   "c.yaml:3: providers: must be a list of at least one");
	check_says(HEAD "providers: {a: b}\n", -EINVAL,
		   "c.yaml:3: providers: must be a list of at least one");
	check_says(HEAD "providers: [x]\n", -EINVAL,
		   "c.yaml:3: providers[0]: must be `key: value` lines");
	check_says(HEAD "providers:\n  - type: dir\n", -EINVAL,
		   "c.yaml:4: providers[0].name: must be given");
	check_says(HEAD "providers:\n  - name: a\n", -EINVAL,
		   "c.yaml:4: providers[0].type: must be given");
	check_says(HEAD "providers:\n  - name: a\n    type: dir\n  - name: a\n    type: dir\n",
		   -EINVAL,
		   "c.yaml:6: providers[1].name: a: is already that of the provider in line 4");
	check_says(HEAD "providers:\n  - {name: a b, type: dir}\n", -EINVAL,
		   "c.yaml:4: providers[0].name: a b: must be 1 .. 64 letters, digits or ._- and "
		   "begin with a letter or digit");
	check_says(HEAD "providers:\n  - {name: a, type: dir, role: boss}\n", -EINVAL,
		   "c.yaml:4: providers[0].role: boss: must be one of primary, secondary, "
		   "tertiary");
	check_says(HEAD "providers:\n  - {name: a, type: dir, path: }\n", -EINVAL,
		   "c.yaml:4: providers[0].path: has no value");
}

Test(config, settings_must_fit_together)
{
	check_says(WHOLE "settings:\n  chunk_avg: 300KiB\n", -EINVAL,
		   "c.yaml:6: settings.chunk_avg: must be a power of two");
	check_says(WHOLE "settings:\n  chunk_avg: 64KiB\n", -EINVAL,
		   "c.yaml:5: settings.chunk_min: must be at most half of chunk_avg");
	check_says(WHOLE "settings:\n  chunk_max: 256KiB\n", -EINVAL,
		   "c.yaml:6: settings.chunk_max: must be at least twice chunk_avg");
	check_says(WHOLE "settings:\n  chunk_max: 4MiB\n  shard_size: 2MiB\n", -EINVAL,
		   "c.yaml:6: settings.chunk_max: must be at most shard_size");
	check_says(WHOLE "settings:\n  spool_size: 20MiB\n", -EINVAL,
		   "c.yaml:6: settings.spool_size: must be at least four times shard_size");
}

struct seen {
	unsigned providers, policies;
	int provider_answer, policy_answer;
};

static int see_provider(void *arg, const struct config_provider *provider, unsigned *line,
			struct buf *why)
{
	struct seen *seen = arg;

	seen->providers++;
	if (seen->provider_answer < 0) {
		*line = provider->pairs[0].line;
		buf_printf(why, "path: must be better");
	}
	return seen->provider_answer;
}

static int see_policy(void *arg, const char *text, const struct config *config, struct buf *why)
{
	struct seen *seen = arg;

	seen->policies++;
	cr_assert_str_eq(text, config->policy);
	if (seen->policy_answer < 0)
		buf_printf(why, "asks too much");
	return seen->policy_answer;
}

Test(config, the_callers_checks_run_and_their_words_get_a_place)
{
	static const char text[] =
		HEAD "policy: 9\nproviders:\n  - name: a\n    type: dir\n    path: p\n";
	struct seen seen = {0};
	struct config_checks checks = {
		.arg = &seen, .provider = see_provider, .policy = see_policy};
	AUTO(config) config = CONFIG_INIT;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(config_parse(bytes_of_str(text), "c.yaml", &checks, &config, &why), 0);
	cr_assert(seen.providers == 1 && seen.policies == 1);
	seen.provider_answer = -ERANGE;
	cr_assert_eq(config_parse(bytes_of_str(text), "c.yaml", &checks, &config, &why), -ERANGE);
	cr_assert_str_eq(buf_str(&why), "c.yaml:7: providers[0]: path: must be better");
	buf_clear(&why);
	seen.provider_answer = 0;
	seen.policy_answer = -EDOM;
	cr_assert_eq(config_parse(bytes_of_str(text), "c.yaml", &checks, &config, &why), -EDOM);
	cr_assert_str_eq(buf_str(&why), "c.yaml:3: policy: asks too much");
	cr_assert_str_eq(config.policy, "9"); /* the first, good one */
}

Test(config, a_setting_changes_alone_and_only_if_all_still_fit)
{
	struct config_settings settings;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(config_settings_defaults(&settings), 0);
	cr_assert_eq(config_settings_set(&settings, "shard_size", "2MiB", &why), 0);
	cr_assert_eq(settings.shard_size_bytes, 2 * MIB);
	cr_assert_eq(config_settings_set(&settings, "chunk_max", "4MiB", &why), -EINVAL);
	cr_assert_str_eq(buf_str(&why), "settings.chunk_max: must be at most shard_size");
	cr_assert_eq(settings.chunk_max_bytes, 1 * MIB);
	buf_clear(&why);
	cr_assert_eq(config_settings_set(&settings, "shardsize", "1", &why), -ENOENT);
	cr_assert_str_eq(buf_str(&why),
			 "settings.shardsize: unknown key; did you mean shard_size?");
	buf_clear(&why);
	cr_assert_eq(config_settings_set(&settings, "shard_size", "1GiB", &why), -ERANGE);
	cr_assert_str_eq(buf_str(&why), "settings.shard_size: 1GiB: must be 1MiB .. 64MiB");
	config_settings_release(&settings);
}

Test(config, every_compression_level_has_its_name)
{
	struct config_settings settings;

	cr_assert_eq(config_settings_defaults(&settings), 0);
	for (int level = -5; level <= 20; level++) {
		AUTO_STR text = level == 0    ? mem_strdup("off")
				: level == 20 ? mem_strdup("fast")
					      : mem_printf("%d", level);

		cr_assert_eq(config_settings_set(&settings, "compression", text, NULL), 0);
		cr_assert_eq(config_compression_level(&settings), level);
	}
	config_settings_release(&settings);
}

Test(config, a_failed_allocation_anywhere_is_reported_and_leaves_nothing)
{
	static const char text[] = WHOLE "settings:\n  shard_size: 4MiB\n";
	bool has_fired = true;

	for (unsigned nth = 1; has_fired; nth++) {
		AUTO(config) config = CONFIG_INIT;
		AUTO(buf) why = BUF_INIT;
		int r;

		mem_fail_at(nth);
		r = parse(text, &config, &why);
		has_fired = mem_fail_fired();
		mem_fail_at(0);
		cr_assert_eq(r, has_fired ? -ENOMEM : 0, "allocation %u", nth);
		cr_assert_eq(config.home != NULL, !has_fired);
	}
}

static void read_page(struct buf *out)
{
	const char *top = getenv("SHARDFS_SRCDIR");
	uint8_t block[4096];
	char path[512];
	size_t n;
	FILE *file;

	snprintf(path, sizeof(path), "%s/man/shardfs.yaml.5", top ? top : ".");
	file = fopen(path, "r");
	cr_assert(file, "%s", path);
	while ((n = fread(block, 1, sizeof(block), file)) > 0)
		cr_assert_eq(buf_append(out, bytes_of(block, n)), 0);
	fclose(file);
}

/* `.It Cm KEY` on a line, and behind it default and range as the table has them. */
static void check_documented(const char *page, const struct option_spec *table, const char *place)
{
	char section[64];

	snprintf(section, sizeof(section), "\n.Ss %s\n", place);
	page = strstr(page, section);
	cr_assert(page, "no section %s", place);
	for (; table->type != OPTION_END; table++) {
		char key[OPTION_KEY_SIZE], item[OPTION_KEY_SIZE + 16];
		AUTO(buf) described = BUF_INIT;
		const char *at, *end;
		char *facts;

		option_key(table, key);
		snprintf(item, sizeof(item), "\n.It Cm %s\n", key);
		at = strstr(page, item);
		cr_assert(at, "%s: %s is not in the page", place, key);
		end = strstr(at + 1, "\n.It ");
		/* "key: type, default D, LO .. HI; help" without key and help */
		cr_assert_eq(option_describe(table, &described), 0);
		facts = strchr((char *)buf_str(&described), ':') + 2;
		*strchr(facts, ';') = 0;
		at = strstr(at, facts);
		cr_assert(at && (!end || at < end), "%s: %s: the page must say: %s", place, key,
			  facts);
	}
}

Test(config, the_man_page_names_each_key_with_default_and_range)
{
	AUTO(buf) page = BUF_INIT;

	read_page(&page);
	check_documented(buf_str(&page), config_options, "Top level");
	check_documented(buf_str(&page), config_provider_options, "Providers");
	check_documented(buf_str(&page), config_settings_options, "Settings");
}
