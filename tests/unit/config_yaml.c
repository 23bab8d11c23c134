/* SPDX-License-Identifier: Apache-2.0 */
#include "config/yaml.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static void parse(const char *text, struct yaml_tree *tree)
{
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(yaml_parse(bytes_of_str(text), "t", tree, &why), 0, "%s", buf_str(&why));
}

static void check_refused(const char *text, int right, const char *says)
{
	AUTO(yaml_tree) tree = YAML_TREE_INIT;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(yaml_parse(bytes_of_str(text), "t", &tree, &why), right, "%s", text);
	cr_assert(strstr(buf_str(&why), says), "%s: %s", text, buf_str(&why));
	cr_assert_eq(tree.count, 0);
}

Test(config_yaml, a_tree_has_paths_values_and_lines)
{
	AUTO(yaml_tree) tree = YAML_TREE_INIT;
	const struct yaml_node *list, *item = NULL, *node;

	parse("# comment\nhome: /var/lib\nlist:\n  - a: 1\n    b: [x, 'y z']\n  - a: ~\n", &tree);
	node = yaml_find(&tree, 0, "home");
	cr_assert(node && strcmp(node->value, "/var/lib") == 0 && node->line == 2);
	list = yaml_find(&tree, 0, "list");
	cr_assert(list && list->kind == YAML_LIST && list->children == 2);
	item = yaml_next_child(&tree, yaml_position(&tree, list), NULL);
	cr_assert_str_eq(item->path, "list[0]");
	cr_assert_eq(item->line, 4);
	node = yaml_find(&tree, yaml_position(&tree, item), "b");
	cr_assert_eq(node->children, 2);
	cr_assert_str_eq(tree.nodes[yaml_position(&tree, node) + 2].path, "list[0].b[1]");
	cr_assert_str_eq(tree.nodes[yaml_position(&tree, node) + 2].value, "y z");
	item = yaml_next_child(&tree, yaml_position(&tree, list), item);
	node = yaml_find(&tree, yaml_position(&tree, item), "a");
	cr_assert(node->is_null && node->line == 6);
	cr_assert_null(yaml_next_child(&tree, yaml_position(&tree, list), item));
	cr_assert_null(yaml_find(&tree, 0, "a"));
}

Test(config_yaml, nothing_is_an_empty_mapping)
{
	static const char *const texts[] = {"", "\n\n", "# only a comment\n", "---\n", "{}\n"};

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		AUTO(yaml_tree) tree = YAML_TREE_INIT;

		parse(texts[i], &tree);
		cr_assert(tree.count == 1 && tree.nodes[0].kind == YAML_MAP);
		cr_assert_null(yaml_next_child(&tree, 0, NULL));
	}
}

Test(config_yaml, values_stay_text_and_only_bare_nulls_are_nothing)
{
	AUTO(yaml_tree) tree = YAML_TREE_INIT;

	parse("a: yes\nb: 0x10\nc: 'null'\nd: ''\ne: null\nf:\n", &tree);
	cr_assert_str_eq(yaml_find(&tree, 0, "a")->value, "yes");
	cr_assert_str_eq(yaml_find(&tree, 0, "b")->value, "0x10");
	cr_assert(!yaml_find(&tree, 0, "c")->is_null && !yaml_find(&tree, 0, "d")->is_null);
	cr_assert(yaml_find(&tree, 0, "e")->is_null && yaml_find(&tree, 0, "f")->is_null);
}

Test(config_yaml, what_is_not_plain_data_is_refused_with_its_line)
{
	check_refused("a: 1\nb: &x 2\n", -EINVAL, "t:2: anchors");
	check_refused("a: &x {}\n", -EINVAL, "t:1: anchors and tags");
	check_refused("a: 1\nb: *x\n", -EINVAL, "t:2: aliases");
	check_refused("a: !!str 1\n", -EINVAL, "t:1: tags");
	check_refused("<<: {a: 1}\n", -EINVAL, "t:1: merge keys");
	check_refused("a: 1\n---\nb: 2\n", -EINVAL, "t:2: only one document");
	check_refused("a: 1\nb: 2\na: 3\n", -EINVAL, "t:3: a: given twice");
	check_refused("x: {a: 1, a: 2}\n", -EINVAL, "t:1: x.a: given twice");
	check_refused("just text\n", -EINVAL, "t:1: expected");
	check_refused("- a\n", -EINVAL, "t:1: expected");
	check_refused("{a: 1}: b\n", -EINVAL, "t:1: a key must be plain");
	check_refused("a: \"x\\0y\"\n", -EINVAL, "t:1: a zero byte");
	check_refused("a: [1\nb: 2\n", -EINVAL, "t:2: ");
	check_refused("a:\n\t- b\n", -EINVAL, "t:2: ");
	check_refused("a: \xff\xfe\n", -EINVAL, "t:1: ");
}

Test(config_yaml, every_bound_is_kept)
{
	AUTO(buf) text = BUF_INIT;
	AUTO(buf) why = BUF_INIT;
	AUTO(yaml_tree) tree = YAML_TREE_INIT;

	check_refused("a: [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", -EFBIG, "nested deeper than 16");
	parse("a: [[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]", &tree);
	cr_assert_eq(buf_printf(&text, "a: ["), 0);
	for (size_t i = 0; i < YAML_NODES_MAX; i++)
		cr_assert_eq(buf_printf(&text, "1,"), 0);
	cr_assert_eq(buf_printf(&text, "]"), 0);
	check_refused(buf_str(&text), -EFBIG, "more than 65536");
	buf_clear(&text);
	cr_assert_eq(buf_append_zeros(&text, YAML_FILE_BYTES_MAX + 1), 0);
	cr_assert_eq(yaml_parse(buf_bytes(&text), "t", &tree, &why), -EFBIG);
	memset(text.ptr, 'k', 600);
	text.len = 600;
	cr_assert_eq(buf_printf(&text, ": 1"), 0);
	check_refused(buf_str(&text), -EFBIG, "key longer than 512");
}

Test(config_yaml, a_failed_allocation_anywhere_is_reported_and_leaves_nothing)
{
	static const char text[] = "a: 1\nb:\n  - c: [1, 2, {d: e}]\n";
	bool has_fired = true;

	for (unsigned nth = 1; has_fired; nth++) {
		AUTO(yaml_tree) tree = YAML_TREE_INIT;
		AUTO(buf) why = BUF_INIT;
		int r;

		mem_fail_at(nth);
		r = yaml_parse(bytes_of_str(text), "t", &tree, &why);
		has_fired = mem_fail_fired();
		mem_fail_at(0);
		cr_assert_eq(r, has_fired ? -ENOMEM : 0, "allocation %u", nth);
		cr_assert_eq(tree.count > 0, !has_fired);
	}
}

Test(config_yaml, a_file_that_cannot_be_read_is_named)
{
	AUTO(yaml_tree) tree = YAML_TREE_INIT;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(yaml_load("/nowhere/x.yaml", &tree, &why), -ENOENT);
	cr_assert(strstr(buf_str(&why), "/nowhere/x.yaml: "));
	cr_assert_eq(yaml_load("/", &tree, &why), -EISDIR);
	cr_assert_eq(yaml_load("/dev/null", &tree, &why), -EINVAL);
}
