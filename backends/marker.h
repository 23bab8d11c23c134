/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_BACKENDS_MARKER_H
#define SHARDFS_BACKENDS_MARKER_H

/*
 * The marker tells whose store this is.  Text, so that a person who finds the
 * disk can read it:
 *
 *	shardfs-provider 1
 *	fs 00112233445566778899aabbccddeeff
 *	name primary
 */

#include "backends/backend.h"

#define MARKER_BYTES_MAX 512

struct marker {
	uint8_t fs_id[BACKEND_FS_ID_SIZE];
	char name[BACKEND_NAME_MAX + 1];
};

int marker_format(const struct marker *marker, struct buf *out); /* appends; -ENOMEM */
/* -EBADMSG: not a marker, damaged, or of a later version.  Foreign bytes. */
int marker_parse(struct bytes text, struct marker *marker);

#define MARKER_ID_TEXT_SIZE (2 * BACKEND_FS_ID_SIZE + 1)
const char *marker_id_text(const uint8_t *fs_id, char *out); /* out: MARKER_ID_TEXT_SIZE */

#endif
