/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules are those of POSIX.1e draft 17, section 23.1.  A list always has
 * an owner, a group and an other entry; with named entries it has a mask, and
 * then the group bits of the mode are the mask, not the group's entry.
 */
#include "store/acl.h"

#include <errno.h>

#define ACL_VERSION    2
#define ACL_HEAD_BYTES 4
#define ACL_ITEM_BYTES 8

enum acl_tag {
	ACL_USER_OBJ = 0x01,
	ACL_USER = 0x02,
	ACL_GROUP_OBJ = 0x04,
	ACL_GROUP = 0x08,
	ACL_MASK = 0x10,
	ACL_OTHER = 0x20,
};

static unsigned item_tag(const uint8_t *item)
{
	return item[0] | (unsigned)item[1] << 8;
}

static unsigned item_perm(const uint8_t *item)
{
	return item[2] | (unsigned)item[3] << 8;
}

static void item_set_perm(uint8_t *item, unsigned perm)
{
	item[2] = (uint8_t)perm;
	item[3] = 0;
}

/* Places of the entries that mirror mode bits; NULL: there is none. */
struct acl_parts {
	uint8_t *owner, *group, *mask, *other;
	bool has_named;
};

static struct acl_parts acl_parts_of(uint8_t *value, size_t len)
{
	struct acl_parts parts = {0};

	for (size_t at = ACL_HEAD_BYTES; at + ACL_ITEM_BYTES <= len; at += ACL_ITEM_BYTES) {
		uint8_t *item = value + at;

		switch (item_tag(item)) {
		case ACL_USER_OBJ: parts.owner = item; break;
		case ACL_GROUP_OBJ: parts.group = item; break;
		case ACL_MASK: parts.mask = item; break;
		case ACL_OTHER: parts.other = item; break;
		default: parts.has_named = true; break;
		}
	}
	return parts;
}

int acl_check(struct bytes value)
{
	unsigned last = 0;
	unsigned seen = 0;

	if (value.len < ACL_HEAD_BYTES || (value.len - ACL_HEAD_BYTES) % ACL_ITEM_BYTES != 0)
		return -EINVAL;
	if (value.ptr[0] != ACL_VERSION || value.ptr[1] || value.ptr[2] || value.ptr[3])
		return -EINVAL;
	for (size_t at = ACL_HEAD_BYTES; at < value.len; at += ACL_ITEM_BYTES) {
		unsigned tag = item_tag(value.ptr + at);
		bool may_repeat = tag == ACL_USER || tag == ACL_GROUP;

		if (tag == 0 || tag > ACL_OTHER || (tag & (tag - 1)) != 0)
			return -EINVAL;
		if (tag < last || (tag == last && !may_repeat))
			return -EINVAL;
		if (item_perm(value.ptr + at) > 7)
			return -EINVAL;
		seen |= tag;
		last = tag;
	}
	if ((seen & (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER)) !=
	    (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER))
		return -EINVAL;
	if ((seen & (ACL_USER | ACL_GROUP)) && !(seen & ACL_MASK))
		return -EINVAL;
	return 0;
}

uint32_t acl_to_mode(struct bytes value, uint32_t mode)
{
	struct acl_parts parts = acl_parts_of((uint8_t *)value.ptr, value.len);
	uint32_t perm = item_perm(parts.owner) << 6 |
			item_perm(parts.mask ? parts.mask : parts.group) << 3 |
			item_perm(parts.other);

	return (mode & ~0777u) | perm;
}

bool acl_is_minimal(struct bytes value)
{
	struct acl_parts parts = acl_parts_of((uint8_t *)value.ptr, value.len);

	return !parts.has_named && !parts.mask;
}

void acl_chmod(uint8_t *value, size_t len, uint32_t mode)
{
	struct acl_parts parts = acl_parts_of(value, len);

	item_set_perm(parts.owner, mode >> 6 & 7);
	item_set_perm(parts.mask ? parts.mask : parts.group, mode >> 3 & 7);
	item_set_perm(parts.other, mode & 7);
}

void acl_inherit(uint8_t *value, size_t len, uint32_t *mode)
{
	struct acl_parts parts = acl_parts_of(value, len);
	uint8_t *group = parts.mask ? parts.mask : parts.group;

	item_set_perm(parts.owner, item_perm(parts.owner) & (*mode >> 6 & 7));
	item_set_perm(group, item_perm(group) & (*mode >> 3 & 7));
	item_set_perm(parts.other, item_perm(parts.other) & (*mode & 7));
	*mode = acl_to_mode(bytes_of(value, len), *mode);
}
