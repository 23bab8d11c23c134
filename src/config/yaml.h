/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_CONFIG_YAML_H
#define SHARDFS_CONFIG_YAML_H

/*
 * A YAML document as a flat list of nodes in file order, through libyaml.
 * Plain data only: one document, no anchors, aliases, tags or merge keys, no
 * key twice in one mapping.  Values stay text; option tables give them types.
 */

#include "util/buf.h"

#include <stdbool.h>
#include <stddef.h>

#define YAML_FILE_BYTES_MAX ((size_t)1 << 20)
#define YAML_NODES_MAX      ((size_t)65536)
#define YAML_DEPTH_MAX      16u

enum yaml_kind { YAML_SCALAR, YAML_MAP, YAML_LIST };

struct yaml_node {
	enum yaml_kind kind;
	char *path;       /* for messages: "providers[0].name"; "" for the root */
	char *key;        /* in its mapping; NULL for the root and items of a list */
	char *value;      /* scalars: text, "" for nothing; else NULL */
	size_t parent;    /* position of the node that holds this one; the root's is 0 */
	size_t children;  /* number of direct ones */
	unsigned line;    /* from 1: of the key, or of the item */
	bool is_null;     /* a scalar that says nothing: empty, ~ or null, unquoted */
};

/* nodes[0] is the root (a mapping even for an empty file).  Children follow their parent. */
struct yaml_tree {
	struct yaml_node *nodes;
	size_t count;
};
#define YAML_TREE_INIT {0}
void yaml_tree_release(struct yaml_tree *tree);

/*
 * yaml_parse - @source names the text in messages ("shardfs.yaml").
 * 0; -EINVAL: `why` has "source:line: what is wrong"; -EFBIG a bound was
 * passed (why says which); -ENOMEM.  out unchanged on failure.
 */
int yaml_parse(struct bytes text, const char *source, struct yaml_tree *out, struct buf *why);
/* Reads a regular file first; also any errno of open and read (with why). */
int yaml_load(const char *path, struct yaml_tree *out, struct buf *why);

/* The direct child of nodes[parent] with this key, or NULL. */
const struct yaml_node *yaml_find(const struct yaml_tree *tree, size_t parent, const char *key);
/* Direct children in order: pass NULL first; NULL at the end. */
const struct yaml_node *yaml_next_child(const struct yaml_tree *tree, size_t parent,
					const struct yaml_node *after);
static inline size_t yaml_position(const struct yaml_tree *tree, const struct yaml_node *node)
{
	return (size_t)(node - tree->nodes);
}

#endif
