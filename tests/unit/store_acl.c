/* SPDX-License-Identifier: Apache-2.0 */
#include "store/acl.h"

#include <criterion/criterion.h>
#include <errno.h>

#define OWNER 0x01
#define USER  0x02
#define GROUP_OBJ 0x04
#define GROUP 0x08
#define MASK  0x10
#define OTHER 0x20

struct list {
	uint8_t b[256];
	size_t len;
};

static struct list list_of(const unsigned (*items)[3], size_t count)
{
	struct list list = {.b = {2}, .len = 4};

	for (size_t i = 0; i < count; i++) {
		uint8_t *at = list.b + list.len;

		at[0] = (uint8_t)items[i][0];
		at[2] = (uint8_t)items[i][1];
		at[4] = (uint8_t)items[i][2];
		list.len += 8;
	}
	return list;
}
#define LIST(...)                                                                                  \
	({                                                                                         \
		const unsigned items_[][3] = {__VA_ARGS__};                                        \
		list_of(items_, sizeof(items_) / sizeof(items_[0]));                               \
	})

static struct bytes bytes_of_list(const struct list *list)
{
	return bytes_of(list->b, list->len);
}

Test(store_acl, sound_lists_pass_and_others_do_not)
{
	struct list minimal = LIST({OWNER, 7}, {GROUP_OBJ, 5}, {OTHER, 0});
	struct list full = LIST({OWNER, 7}, {USER, 6, 5}, {USER, 4, 9}, {GROUP_OBJ, 5},
				{GROUP, 1, 3}, {MASK, 7}, {OTHER, 0});
	struct list no_mask = LIST({OWNER, 7}, {USER, 6, 5}, {GROUP_OBJ, 5}, {OTHER, 0});
	struct list no_other = LIST({OWNER, 7}, {GROUP_OBJ, 5});
	struct list disorder = LIST({GROUP_OBJ, 7}, {OWNER, 5}, {OTHER, 0});
	struct list twice = LIST({OWNER, 7}, {OWNER, 7}, {GROUP_OBJ, 5}, {OTHER, 0});
	struct list perms = LIST({OWNER, 8}, {GROUP_OBJ, 5}, {OTHER, 0});
	struct list version = minimal;

	cr_assert_eq(acl_check(bytes_of_list(&minimal)), 0);
	cr_assert_eq(acl_check(bytes_of_list(&full)), 0);
	cr_assert_eq(acl_check(bytes_of_list(&no_mask)), -EINVAL);
	cr_assert_eq(acl_check(bytes_of_list(&no_other)), -EINVAL);
	cr_assert_eq(acl_check(bytes_of_list(&disorder)), -EINVAL);
	cr_assert_eq(acl_check(bytes_of_list(&twice)), -EINVAL);
	cr_assert_eq(acl_check(bytes_of_list(&perms)), -EINVAL);
	version.b[0] = 3;
	cr_assert_eq(acl_check(bytes_of_list(&version)), -EINVAL);
	for (size_t len = 0; len < full.len; len++)
		cr_assert_eq(acl_check(bytes_of(full.b, len)), -EINVAL, "%zu", len);
	cr_assert(acl_is_minimal(bytes_of_list(&minimal)));
	cr_assert_not(acl_is_minimal(bytes_of_list(&full)));
}

Test(store_acl, the_mask_is_the_group_of_the_mode)
{
	struct list full = LIST({OWNER, 6}, {USER, 6, 5}, {GROUP_OBJ, 1}, {MASK, 4}, {OTHER, 3});
	struct list minimal = LIST({OWNER, 6}, {GROUP_OBJ, 1}, {OTHER, 3});

	cr_assert_eq(acl_to_mode(bytes_of_list(&full), 0104000), 0104643);
	cr_assert_eq(acl_to_mode(bytes_of_list(&minimal), 0100777), 0100613);
	acl_chmod(full.b, full.len, 0100750);
	cr_assert_eq(acl_to_mode(bytes_of_list(&full), 0), 0750);
	cr_assert_eq(full.b[4 + 2 * 8 + 2], 1, "the group's own entry stays");
	acl_chmod(minimal.b, minimal.len, 0100750);
	cr_assert_eq(minimal.b[4 + 8 + 2], 5);
}

Test(store_acl, a_new_file_gets_no_more_than_was_asked_for_and_is_allowed)
{
	struct list list = LIST({OWNER, 7}, {USER, 7, 5}, {GROUP_OBJ, 5}, {MASK, 7}, {OTHER, 5});
	uint32_t mode = 0100640;

	acl_inherit(list.b, list.len, &mode);
	cr_assert_eq(mode, 0100640);
	cr_assert_eq(acl_to_mode(bytes_of_list(&list), 0), 0640);
	cr_assert_eq(list.b[4 + 8 + 2], 7, "named entries stay: the mask limits them");
	mode = 0100777;
	list = LIST({OWNER, 6}, {GROUP_OBJ, 4}, {OTHER, 0});
	acl_inherit(list.b, list.len, &mode);
	cr_assert_eq(mode, 0100640);
}
