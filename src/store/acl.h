/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_STORE_ACL_H
#define SHARDFS_STORE_ACL_H

/*
 * POSIX.1e access control lists as values of system.posix_acl_access and
 * system.posix_acl_default: le32 version 2, then entries of le16 tag, le16
 * permissions, le32 id.  Pure: the bytes are judged and changed in place.
 */

#include "util/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define ACL_ACCESS_NAME	 "system.posix_acl_access"
#define ACL_DEFAULT_NAME "system.posix_acl_default"

/*
 * 0: sound (entries in order, each class once, a mask where one is needed); -EINVAL.
 * Every other function here wants a value that passed.
 */
int acl_check(struct bytes value);

/* The mode with its permission bits as the list gives them (group bits: the mask's). */
uint32_t acl_to_mode(struct bytes value, uint32_t mode);
/* Whether the permission bits alone say everything: such a list is not kept. */
bool acl_is_minimal(struct bytes value);
/* chmod(2): puts the permission bits into the list. */
void acl_chmod(uint8_t *value, size_t len, uint32_t mode);
/*
 * A new file below a default list: `value` is a copy of that list and becomes the file's access
 * list; *mode (as asked for; the umask plays no part) is cut to what the list allows.
 */
void acl_inherit(uint8_t *value, size_t len, uint32_t *mode);

#endif
