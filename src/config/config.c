/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "config/yaml.h"
#include "util/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

/*
 * One pass over the top level; each known part has its own function, scalars
 * go through the option tables.  Then what is missing is filled in, then the
 * whole is checked, then the caller's checks run.  A struct config is built
 * aside and handed over only when all of it is right.
 */

struct loader {
	const struct yaml_tree *tree;
	const char *source;
	const struct config_checks *checks; /* NULL: none */
	struct config *config;
	struct buf *why;
	size_t settings; /* position of `settings`, 0: not given */
};

static void provider_release(struct config_provider *provider)
{
	option_release(config_provider_options, provider);
	for (size_t i = 0; i < provider->pair_count; i++) {
		mem_free(provider->pairs[i].key);
		mem_free(provider->pairs[i].value);
	}
	mem_free(provider->pairs);
	*provider = (struct config_provider){0};
}

void config_release(struct config *config)
{
	option_release(config_options, config);
	for (size_t i = 0; i < config->provider_count; i++)
		provider_release(&config->providers[i]);
	mem_free(config->providers);
	config_settings_release(&config->settings);
	mem_free(config->source);
	*config = (struct config)CONFIG_INIT;
}

static int fail(struct loader *l, int r, unsigned line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static int fail(struct loader *l, int r, unsigned line, const char *format, ...)
{
	va_list args;

	if (line > 0)
		buf_printf(l->why, "%s:%u: ", l->source, line);
	else
		buf_printf(l->why, "%s: ", l->source);
	va_start(args, format);
	buf_vprintf(l->why, format, args);
	va_end(args);
	return r;
}

static int fail_unknown(struct loader *l, const struct yaml_node *node,
			const struct option_spec *table)
{
	char near[OPTION_KEY_SIZE];
	const char *nearest = config_nearest_key(table, node->key, near);

	if (nearest)
		return fail(l, -EINVAL, node->line, "%s: unknown key; did you mean %s?", node->path,
			    nearest);
	return fail(l, -EINVAL, node->line, "%s: unknown key; shardfs.yaml(5) lists them",
		    node->path);
}

/* A scalar into the member that the table names. */
static int set_scalar(struct loader *l, const struct yaml_node *node,
		      const struct option_spec *spec, void *target)
{
	AUTO(buf) detail = BUF_INIT;
	const char *text;
	int r;

	if (node->kind != YAML_SCALAR)
		return fail(l, -EINVAL, node->line, "%s: must be a single value", node->path);
	if (node->is_null)
		return fail(l, -EINVAL, node->line, "%s: has no value", node->path);
	r = option_set(spec, target, node->value, &detail);
	if (r == -ENOMEM || r == 0)
		return r;
	text = buf_str(&detail);
	return fail(l, r, node->line, "%s: %s: %s", node->path, node->value, text ? text : "");
}

static bool is_name(const char *text)
{
	if (!isalnum((unsigned char)text[0]) || strlen(text) > CONFIG_NAME_MAX)
		return false;
	for (; *text; text++) {
		if (!isalnum((unsigned char)*text) && !strchr("._-", *text))
			return false;
	}
	return true;
}

/* ---- providers ---- */

/* What the backend will check: everything in the provider's subtree besides our own keys. */
static int add_pair(struct loader *l, struct config_provider *provider,
		    const struct yaml_node *node, const char *key)
{
	struct config_pair *pairs, pair = {.line = node->line};

	if (node->is_null)
		return fail(l, -EINVAL, node->line, "%s: has no value", node->path);
	pairs = mem_realloc_array(provider->pairs, provider->pair_count + 1, sizeof(*pairs));
	if (!pairs)
		return -ENOMEM;
	provider->pairs = pairs;
	pair.key = mem_strdup(key);
	pair.value = mem_strdup(node->value);
	if (!pair.key || !pair.value) {
		mem_free(pair.key);
		mem_free(pair.value);
		return -ENOMEM;
	}
	pairs[provider->pair_count++] = pair;
	return 0;
}

static int add_provider_node(struct loader *l, struct config_provider *provider, size_t root,
			     const struct yaml_node *node)
{
	size_t prefix = strlen(l->tree->nodes[root].path) + 1;
	const struct option_spec *spec = NULL;

	if (node->parent == root)
		spec = option_find(config_provider_options, node->key);
	if (spec)
		return set_scalar(l, node, spec, provider);
	if (node->kind != YAML_SCALAR) {
		if (node->children == 0)
			return fail(l, -EINVAL, node->line, "%s: has no value", node->path);
		return 0; /* its scalars follow */
	}
	if (provider->pair_count >= 256)
		return fail(l, -EFBIG, node->line, "%s: more than 256 keys", node->path);
	return add_pair(l, provider, node, node->path + prefix);
}

static int check_provider(struct loader *l, const struct config_provider *provider,
			  const char *path)
{
	const struct {
		const char *key, *value;
	} names[] = {{"name", provider->name},
		     {"type", provider->type},
		     {"region", provider->region},
		     {"vendor", provider->vendor}};

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		if (!names[i].value)
			return fail(l, -EINVAL, provider->line, "%s.%s: must be given", path,
				    names[i].key);
		if (!is_name(names[i].value))
			return fail(l, -EINVAL, provider->line,
				    "%s.%s: %s: must be 1 .. %u letters, digits or ._- and begin "
				    "with a letter or digit",
				    path, names[i].key, names[i].value, CONFIG_NAME_MAX);
	}
	for (size_t i = 0; &l->config->providers[i] < provider; i++) {
		if (strcmp(l->config->providers[i].name, provider->name) == 0)
			return fail(l, -EINVAL, provider->line,
				    "%s.name: %s: is already that of the provider in line %u", path,
				    provider->name, l->config->providers[i].line);
	}
	return 0;
}

static int load_provider(struct loader *l, size_t root, struct config_provider *provider)
{
	const struct yaml_tree *tree = l->tree;
	const char *path = tree->nodes[root].path;
	int r;

	provider->line = tree->nodes[root].line;
	if (tree->nodes[root].kind != YAML_MAP)
		return fail(l, -EINVAL, provider->line, "%s: must be `key: value` lines", path);
	r = option_set_defaults(config_provider_options, provider);
	/* Nodes are in file order, so the subtree is one run of them. */
	for (size_t i = root + 1; r == 0 && i < tree->count && tree->nodes[i].parent >= root; i++)
		r = add_provider_node(l, provider, root, &tree->nodes[i]);
	if (r == 0 && provider->name && !provider->vendor) {
		provider->vendor = mem_strdup(provider->name);
		r = provider->vendor ? 0 : -ENOMEM;
	}
	return r < 0 ? r : check_provider(l, provider, path);
}

static int load_providers(struct loader *l, const struct yaml_node *list)
{
	size_t position = yaml_position(l->tree, list);
	const struct yaml_node *node = NULL;
	struct config *config = l->config;

	if (list->kind != YAML_LIST || list->children == 0)
		return fail(l, -EINVAL, list->line, "providers: must be a list of at least one");
	if (list->children > CONFIG_PROVIDERS_MAX)
		return fail(l, -EINVAL, list->line, "providers: at most %u are allowed",
			    CONFIG_PROVIDERS_MAX);
	config->providers = mem_alloc_array(list->children, sizeof(*config->providers));
	if (!config->providers)
		return -ENOMEM;
	while ((node = yaml_next_child(l->tree, position, node))) {
		int r = load_provider(l, yaml_position(l->tree, node),
				      &config->providers[config->provider_count++]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- settings ---- */

static int load_settings(struct loader *l, const struct yaml_node *map)
{
	const struct yaml_node *node = NULL;

	l->settings = yaml_position(l->tree, map);
	if (map->is_null)
		return 0;
	if (map->kind != YAML_MAP)
		return fail(l, -EINVAL, map->line, "settings: must be `key: value` lines");
	while ((node = yaml_next_child(l->tree, l->settings, node))) {
		const struct option_spec *spec = option_find(config_settings_options, node->key);
		int r = spec ? set_scalar(l, node, spec, &l->config->settings)
			     : fail_unknown(l, node, config_settings_options);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_settings(struct loader *l)
{
	const struct yaml_node *node = NULL;
	const char *key, *allowed;
	int r = config_settings_misfit(&l->config->settings, &key, &allowed);

	if (r == 0)
		return 0;
	if (l->settings > 0)
		node = yaml_find(l->tree, l->settings, key);
	if (!node && l->settings > 0)
		node = &l->tree->nodes[l->settings];
	return fail(l, r, node ? node->line : 0, "settings.%s: %s", key, allowed);
}

/* ---- top level ---- */

/* For guesses at what was meant. */
static const struct option_spec section_keys[] = {{.type = OPTION_STRING, .member = "providers"},
						  {.type = OPTION_STRING, .member = "settings"},
						  OPT_END};

static int load_node(struct loader *l, const struct yaml_node *node)
{
	const struct option_spec *spec;
	char near[OPTION_KEY_SIZE];

	if (strcmp(node->key, "providers") == 0)
		return load_providers(l, node);
	if (strcmp(node->key, "settings") == 0)
		return load_settings(l, node);
	if (strcmp(node->key, "policy") == 0)
		l->config->policy_line = node->line;
	spec = option_find(config_options, node->key);
	if (spec)
		return set_scalar(l, node, spec, l->config);
	if (option_find(config_settings_options, node->key))
		return fail(l, -EINVAL, node->line, "%s: belongs under settings:", node->path);
	if (config_nearest_key(section_keys, node->key, near))
		return fail_unknown(l, node, section_keys);
	return fail_unknown(l, node, config_options);
}

static int check_path(struct loader *l, const char *key, const char *path)
{
	const struct yaml_node *node = yaml_find(l->tree, 0, key);

	if (!path || path[0] == '/')
		return 0;
	return fail(l, -EINVAL, node ? node->line : 0, "%s: %s: must be an absolute path", key,
		    path);
}

static int default_path(const char *home, const char *name, char **member)
{
	size_t len = strlen(home);

	if (*member)
		return 0;
	while (len > 1 && home[len - 1] == '/')
		len--;
	*member = mem_printf("%.*s/%s", len == 1 ? 0 : (int)len, home, name);
	return *member ? 0 : -ENOMEM;
}

static int fill_paths(struct loader *l)
{
	struct config *config = l->config;
	struct {
		const char *key, *name;
		char **member;
	} paths[] = {
		{"home", NULL, &config->home},
		{"index", "index.db", &config->index},
		{"journal", "journal", &config->journal},
		{"spool", "spool", &config->spool},
		{"cache", "cache", &config->cache},
		{"passphrase_file", NULL, &config->passphrase_file},
		{"key_file", NULL, &config->key_file},
		{"slots_file", NULL, &config->slots_file},
	};

	if (!config->home)
		return fail(l, -EINVAL, 0, "home: must be given: a directory for local state");
	for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
		int r = check_path(l, paths[i].key, *paths[i].member);

		if (r == 0 && paths[i].name)
			r = default_path(config->home, paths[i].name, paths[i].member);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_keys(struct loader *l)
{
	const struct config *config = l->config;

	if (config->passphrase_file && config->passphrase_command)
		return fail(l, -EINVAL, yaml_find(l->tree, 0, "passphrase_command")->line,
			    "passphrase_command: passphrase_file is given already; keep one");
	if (!config->passphrase_file && !config->passphrase_command && !config->key_file &&
	    !(l->checks && l->checks->may_lack_keys))
		return fail(l, -EINVAL, 0,
			    "passphrase_file: must be given, or passphrase_command, or key_file");
	if (config->key_slots == CONFIG_SLOTS_DETACHED && !config->slots_file)
		return fail(l, -EINVAL, yaml_find(l->tree, 0, "key_slots")->line,
			    "slots_file: must be given when key_slots is detached");
	return 0;
}

/* Puts file, line and key before what a check said. */
static int fail_check(struct loader *l, int r, unsigned line, const char *path, struct buf *said)
{
	const char *text = buf_str(said);

	return fail(l, r, line, "%s: %s", path, text ? text : "");
}

static int run_checks(struct loader *l)
{
	const struct config_checks *checks = l->checks;
	struct config *config = l->config;
	AUTO(buf) said = BUF_INIT;
	char path[32];
	int r;

	for (size_t i = 0; checks && checks->provider && i < config->provider_count; i++) {
		unsigned line = config->providers[i].line;

		r = checks->provider(checks->arg, &config->providers[i], &line, &said);
		snprintf(path, sizeof(path), "providers[%zu]", i);
		if (r < 0)
			return fail_check(l, r, line, path, &said);
	}
	if (!checks || !checks->policy)
		return 0;
	r = checks->policy(checks->arg, config->policy, config, &said);
	return r < 0 ? fail_check(l, r, config->policy_line, "policy", &said) : 0;
}

static int load_tree(struct loader *l)
{
	const struct yaml_node *node = NULL;
	int r = option_set_defaults(config_options, l->config);

	if (r == 0)
		r = config_settings_defaults(&l->config->settings);
	if (r == 0) {
		l->config->source = mem_strdup(l->source);
		r = l->config->source ? 0 : -ENOMEM;
	}
	while (r == 0 && (node = yaml_next_child(l->tree, 0, node)))
		r = load_node(l, node);
	if (r < 0)
		return r;
	if (l->config->provider_count == 0)
		return fail(l, -EINVAL, 0, "providers: must be given: a list of at least one");
	r = fill_paths(l);
	r = r ?: check_keys(l);
	r = r ?: check_settings(l);
	return r ?: run_checks(l);
}

static int config_from_tree(const struct yaml_tree *tree, const char *source,
			    const struct config_checks *checks, struct config *out, struct buf *why)
{
	AUTO(config) config = CONFIG_INIT;
	struct loader l = {
		.tree = tree, .source = source, .checks = checks, .config = &config, .why = why};
	int r = load_tree(&l);

	if (r < 0)
		return r;
	config_release(out);
	*out = config;
	config = (struct config)CONFIG_INIT;
	return 0;
}

int config_load(const char *path, const struct config_checks *checks, struct config *out,
		struct buf *why)
{
	AUTO(yaml_tree) tree = YAML_TREE_INIT;
	int r = yaml_load(path, &tree, why);

	return r < 0 ? r : config_from_tree(&tree, path, checks, out, why);
}

int config_parse(struct bytes text, const char *source, const struct config_checks *checks,
		 struct config *out, struct buf *why)
{
	AUTO(yaml_tree) tree = YAML_TREE_INIT;
	int r = yaml_parse(text, source, &tree, why);

	return r < 0 ? r : config_from_tree(&tree, source, checks, out, why);
}
