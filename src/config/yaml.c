/* SPDX-License-Identifier: Apache-2.0 */
#include "config/yaml.h"

#include "util/err.h"
#include "util/map.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

/*
 * Events of libyaml go into a list of nodes; a stack of open mappings and
 * lists, at most YAML_DEPTH_MAX deep, tells where the next one belongs.  What
 * could make a small file large (aliases, merge keys) is refused, long paths
 * too, so memory is bounded by YAML_NODES_MAX nodes of PATH_BYTES_MAX.
 *
 * A mapping whose key was read and whose value was not yet: level.key is set.
 */

#define PATH_BYTES_MAX ((size_t)512)

struct level {
	size_t node;
	char *key; /* owned: waits for its value */
	unsigned key_line;
};

struct key_entry {
	struct map_node map_node;
	size_t node;
};

struct builder {
	const char *source;
	struct buf *why;
	struct yaml_tree tree;
	size_t capacity;
	struct level levels[YAML_DEPTH_MAX];
	unsigned depth; /* levels in use */
	unsigned documents;
	struct map keys; /* of (parent, key) to entries */
};

static void node_release(struct yaml_node *node)
{
	mem_free(node->path);
	mem_free(node->key);
	mem_free(node->value);
}

void yaml_tree_release(struct yaml_tree *tree)
{
	for (size_t i = 0; i < tree->count; i++)
		node_release(&tree->nodes[i]);
	mem_free(tree->nodes);
	*tree = (struct yaml_tree)YAML_TREE_INIT;
}

static void builder_release(struct builder *b)
{
	struct map_node *node;

	while ((node = map_iterate(&b->keys, NULL))) {
		map_remove(&b->keys, node);
		mem_free(container_of(node, struct key_entry, map_node));
	}
	map_release(&b->keys);
	for (unsigned i = 0; i < b->depth; i++)
		mem_free(b->levels[i].key);
	yaml_tree_release(&b->tree);
}

static int fail(struct builder *b, int r, size_t line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static int fail(struct builder *b, int r, size_t line, const char *format, ...)
{
	va_list args;

	buf_printf(b->why, "%s:%zu: ", b->source, line);
	va_start(args, format);
	buf_vprintf(b->why, format, args);
	va_end(args);
	return r;
}

/* ---- nodes ---- */

static uint64_t key_hash(size_t parent, const char *key)
{
	return map_hash_bytes(parent, key, strlen(key));
}

/* Remembers the key of a new node; -EEXIST. */
static int remember_key(struct builder *b, size_t position)
{
	const struct yaml_node *node = &b->tree.nodes[position];
	uint64_t hash = key_hash(node->parent, node->key);
	struct key_entry *entry;

	for (struct map_node *m = map_first(&b->keys, hash); m; m = map_next(m)) {
		const struct yaml_node *other =
			&b->tree.nodes[container_of(m, struct key_entry, map_node)->node];

		if (other->parent == node->parent && strcmp(other->key, node->key) == 0)
			return -EEXIST;
	}
	entry = mem_alloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->node = position;
	if (map_insert(&b->keys, &entry->map_node, hash) < 0) {
		mem_free(entry);
		return -ENOMEM;
	}
	return 0;
}

static int grow(struct builder *b)
{
	size_t capacity = b->capacity > 0 ? b->capacity * 2 : 64;
	struct yaml_node *nodes;

	if (b->tree.count < b->capacity)
		return 0;
	nodes = mem_realloc_array(b->tree.nodes, capacity, sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	b->tree.nodes = nodes;
	b->capacity = capacity;
	return 0;
}

static char *make_path(const struct yaml_node *parent, const char *key)
{
	if (!key)
		return mem_printf("%s[%zu]", parent->path, parent->children);
	return mem_printf("%s%s%s", parent->path, parent->path[0] ? "." : "", key);
}

/* Takes node->key and node->value over, also on failure. */
static int add_node(struct builder *b, struct yaml_node node, size_t *position)
{
	struct yaml_node *parent;
	int r;

	r = b->tree.count < YAML_NODES_MAX
		    ? grow(b)
		    : fail(b, -EFBIG, node.line, "more than %zu entries", YAML_NODES_MAX);
	if (r < 0) {
		node_release(&node);
		return r;
	}
	parent = b->depth > 0 ? &b->tree.nodes[b->levels[b->depth - 1].node] : NULL;
	node.parent = b->depth > 0 ? b->levels[b->depth - 1].node : 0;
	node.path = parent ? make_path(parent, node.key) : mem_strdup("");
	if (!node.path) {
		node_release(&node);
		return -ENOMEM;
	}
	if (parent)
		parent->children++;
	*position = b->tree.count;
	b->tree.nodes[b->tree.count++] = node;
	if (strlen(node.path) > PATH_BYTES_MAX)
		return fail(b, -EFBIG, node.line, "key longer than %zu bytes", PATH_BYTES_MAX);
	if (!node.key)
		return 0;
	r = remember_key(b, *position);
	if (r == -EEXIST)
		return fail(b, -EINVAL, node.line, "%s: given twice", node.path);
	return r;
}

static struct level *top(struct builder *b)
{
	return b->depth > 0 ? &b->levels[b->depth - 1] : NULL;
}

static bool expects_key(struct builder *b)
{
	struct level *level = top(b);

	return level && b->tree.nodes[level->node].kind == YAML_MAP && !level->key;
}

/* The key and line that a value at this place gets. */
static char *take_key(struct builder *b, unsigned *line)
{
	struct level *level = top(b);

	if (!level || !level->key)
		return NULL;
	*line = level->key_line;
	return STEAL(level->key);
}

/* ---- events ---- */

static int check_text(struct builder *b, const yaml_event_t *event, size_t line)
{
	if (event->data.scalar.anchor)
		return fail(b, -EINVAL, line, "anchors are not allowed here");
	if (event->data.scalar.tag)
		return fail(b, -EINVAL, line, "tags are not allowed here");
	if (memchr(event->data.scalar.value, 0, event->data.scalar.length))
		return fail(b, -EINVAL, line, "a zero byte in text");
	return 0;
}

static int on_key(struct builder *b, const char *text, size_t line)
{
	struct level *level = top(b);

	if (strcmp(text, "<<") == 0)
		return fail(b, -EINVAL, line, "merge keys are not allowed here");
	if (text[0] == 0)
		return fail(b, -EINVAL, line, "an empty key");
	level->key = mem_strdup(text);
	level->key_line = (unsigned)line;
	return level->key ? 0 : -ENOMEM;
}

static int on_scalar(struct builder *b, const yaml_event_t *event, size_t line)
{
	const char *text = (const char *)event->data.scalar.value;
	bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	struct yaml_node node = {.kind = YAML_SCALAR, .line = (unsigned)line};
	size_t position;
	int r = check_text(b, event, line);

	if (r < 0)
		return r;
	if (expects_key(b))
		return on_key(b, text, line);
	if (b->depth == 0 && !(is_plain && text[0] == 0))
		return fail(b, -EINVAL, line, "expected `key: value` lines");
	if (b->depth == 0)
		return 0; /* an empty document: the root is added at the end */
	node.is_null =
		is_plain && (text[0] == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
	node.value = mem_strdup(node.is_null ? "" : text);
	if (!node.value)
		return -ENOMEM;
	node.key = take_key(b, &node.line);
	return add_node(b, node, &position);
}

static int on_open(struct builder *b, enum yaml_kind kind, bool is_marked, size_t line)
{
	struct yaml_node node = {.kind = kind, .line = (unsigned)line};
	size_t position;
	int r;

	if (is_marked)
		return fail(b, -EINVAL, line, "anchors and tags are not allowed here");
	if (expects_key(b))
		return fail(b, -EINVAL, line, "a key must be plain text");
	if (b->depth == 0 && kind != YAML_MAP)
		return fail(b, -EINVAL, line, "expected `key: value` lines");
	if (b->depth >= YAML_DEPTH_MAX)
		return fail(b, -EFBIG, line, "nested deeper than %u", YAML_DEPTH_MAX);
	node.key = take_key(b, &node.line);
	r = add_node(b, node, &position);
	if (r < 0)
		return r;
	b->levels[b->depth++] = (struct level){.node = position};
	return 0;
}

static int on_event(struct builder *b, const yaml_event_t *event)
{
	size_t line = event->start_mark.line + 1;

	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return on_scalar(b, event, line);
	case YAML_MAPPING_START_EVENT:
		return on_open(b, YAML_MAP,
			       event->data.mapping_start.anchor || event->data.mapping_start.tag,
			       line);
	case YAML_SEQUENCE_START_EVENT:
		return on_open(b, YAML_LIST,
			       event->data.sequence_start.anchor || event->data.sequence_start.tag,
			       line);
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		b->depth--;
		return 0;
	case YAML_ALIAS_EVENT:
		return fail(b, -EINVAL, line, "aliases are not allowed here");
	case YAML_DOCUMENT_START_EVENT:
		if (b->documents++ > 0)
			return fail(b, -EINVAL, line, "only one document is allowed");
		return 0;
	default:
		return 0;
	}
}

static int fail_parser(struct builder *b, const yaml_parser_t *parser)
{
	size_t line = parser->problem_mark.line + 1;

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (parser->error == YAML_READER_ERROR)
		return fail(b, -EINVAL, parser->mark.line + 1, "%s",
			    parser->problem ? parser->problem : "not UTF-8");
	return fail(b, -EINVAL, line, "%s", parser->problem ? parser->problem : "not YAML");
}

static int run_parser(struct builder *b, yaml_parser_t *parser)
{
	bool is_end = false;

	while (!is_end) {
		yaml_event_t event;
		int r;

		if (!yaml_parser_parse(parser, &event))
			return fail_parser(b, parser);
		r = on_event(b, &event);
		is_end = event.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_empty_root(struct builder *b)
{
	struct yaml_node root = {.kind = YAML_MAP, .line = 1};
	size_t position;

	return b->tree.count > 0 ? 0 : add_node(b, root, &position);
}

int yaml_parse(struct bytes text, const char *source, struct yaml_tree *out, struct buf *why)
{
	AUTO(builder) b = {.source = source, .why = why};
	yaml_parser_t parser;
	int r;

	if (text.len > YAML_FILE_BYTES_MAX)
		return fail(&b, -EFBIG, 1, "larger than %zu bytes", YAML_FILE_BYTES_MAX);
	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, text.ptr ? text.ptr : (const uint8_t *)"", text.len);
	r = run_parser(&b, &parser);
	yaml_parser_delete(&parser);
	if (r == 0)
		r = add_empty_root(&b);
	if (r < 0)
		return r;
	yaml_tree_release(out);
	*out = b.tree;
	b.tree = (struct yaml_tree)YAML_TREE_INIT;
	return 0;
}

static int read_file(const char *path, struct buf *out)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	while (out->len <= YAML_FILE_BYTES_MAX) {
		ssize_t n;
		int r = buf_reserve(out, 64 * 1024);

		if (r < 0)
			return r;
		n = read(fd, out->ptr + out->len, 64 * 1024);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		out->len += (size_t)n;
	}
	return 0;
}

int yaml_load(const char *path, struct yaml_tree *out, struct buf *why)
{
	AUTO(buf) text = BUF_INIT;
	int r = read_file(path, &text);

	if (r < 0) {
		buf_printf(why, "%s: %s", path,
			   r == -EINVAL ? "not a regular file" : err_sentence(r));
		return r;
	}
	return yaml_parse(buf_bytes(&text), path, out, why);
}

const struct yaml_node *yaml_next_child(const struct yaml_tree *tree, size_t parent,
					const struct yaml_node *after)
{
	size_t at = after ? (size_t)(after - tree->nodes) + 1 : parent + 1;

	for (; at < tree->count; at++) {
		if (tree->nodes[at].parent == parent)
			return &tree->nodes[at];
	}
	return NULL;
}

const struct yaml_node *yaml_find(const struct yaml_tree *tree, size_t parent, const char *key)
{
	const struct yaml_node *node = NULL;

	while ((node = yaml_next_child(tree, parent, node))) {
		if (node->key && strcmp(node->key, key) == 0)
			return node;
	}
	return NULL;
}
