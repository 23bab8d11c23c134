/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record_walk_next on foreign bytes.  What it lets through is encoded again
 * and must be the same bytes: there is one encoding of each change.
 */
#include "index/record.h"

#include <errno.h>
#include <stdlib.h>

static void put_again(struct record *record, const struct change *change)
{
	switch (change->type) {
	case CHANGE_INODE_PUT:
		record_put_inode(record, &change->u.inode);
		break;
	case CHANGE_INODE_DEL:
		record_del_inode(record, change->u.ino);
		break;
	case CHANGE_DIRENT_PUT:
		record_put_dirent(record, change->u.dirent.parent, change->u.dirent.cookie,
				  change->u.dirent.name, change->u.dirent.ino,
				  change->u.dirent.type);
		break;
	case CHANGE_DIRENT_DEL:
		record_del_dirent(record, change->u.dirent.parent, change->u.dirent.cookie,
				  change->u.dirent.name);
		break;
	case CHANGE_XATTR_PUT:
		record_put_xattr(record, change->u.xattr.ino, change->u.xattr.name,
				 change->u.xattr.value);
		break;
	case CHANGE_XATTR_DEL:
		record_del_xattr(record, change->u.xattr.ino, change->u.xattr.name);
		break;
	case CHANGE_SYMLINK_PUT:
		record_put_symlink(record, change->u.symlink.ino, change->u.symlink.target);
		break;
	case CHANGE_EXTENT_PUT:
		record_put_extent(record, &change->u.extent);
		break;
	case CHANGE_EXTENT_DEL:
		record_del_extents(record, change->u.range.ino, change->u.range.off,
				   change->u.range.len);
		break;
	case CHANGE_CHUNK_PUT:
		record_put_chunk(record, &change->u.chunk);
		break;
	case CHANGE_CHUNK_DEL:
		record_del_chunk(record, change->u.chunk.chunk_no);
		break;
	case CHANGE_SHARD_PUT:
		record_put_shard(record, &change->u.shard);
		break;
	case CHANGE_SHARD_DEL:
		record_del_shard(record, change->u.shard.shard_no);
		break;
	case CHANGE_COPY_PUT:
		record_put_copy(record, &change->u.copy);
		break;
	case CHANGE_COPY_DEL:
		record_del_copy(record, change->u.copy.shard_no, change->u.copy.provider_no);
		break;
	case CHANGE_ORPHAN_PUT:
		record_put_orphan(record, change->u.ino);
		break;
	case CHANGE_ORPHAN_DEL:
		record_del_orphan(record, change->u.ino);
		break;
	case CHANGE_PROVIDER_PUT:
		record_put_provider(record, &change->u.provider);
		break;
	case CHANGE_POLICY_PUT:
		record_put_policy(record, &change->u.policy);
		break;
	case CHANGE_POLICY_DEL:
		record_del_policy(record, change->u.policy.root);
		break;
	case CHANGE_SETTING_PUT:
		record_put_setting(record, change->u.setting.key, change->u.setting.value);
		break;
	case CHANGE_SNAPSHOT_PUT:
		record_put_snapshot(record, &change->u.snapshot);
		break;
	case CHANGE_SNAPSHOT_DEL:
		record_del_snapshot(record, change->u.snapshot.snapshot_no);
		break;
	case CHANGE_AUDIT_PUT:
		record_put_audit(record, &change->u.audit);
		break;
	case CHANGE_HISTORY_DROP:
		record_drop_history(record, change->u.old.ino, change->u.old.at);
		break;
	case CHANGE_ROW_VERSION:
		record_put_version(record, change->u.version.birth, change->u.version.death);
		break;
	case CHANGE_AUDIT_CUT:
		record_cut_audit(record, change->u.audit.audit_no);
		break;
	case CHANGE_TYPE_COUNT:
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct record_walk walk = record_walk_of(bytes_of(data, len));
	AUTO(record) record = RECORD_INIT;
	struct change change;
	int r;

	while ((r = record_walk_next(&walk, &change)) > 0)
		put_again(&record, &change);
	if (r != 0 && r != -EBADMSG && r != -EPROTONOSUPPORT)
		abort();
	if (record.error != 0 || record.changes.len != len - walk.left.len ||
	    (record.changes.len > 0 && memcmp(record.changes.ptr, data, record.changes.len) != 0))
		abort();
	return 0;
}
