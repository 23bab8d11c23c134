/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overlay: noting, first phase.  Everything that a record changes becomes an entry, and what
 * putting them in place may need besides is set aside; only then is anything put in place.
 */
#include "index/overlay_impl.h"

#include "util/mem.h"

#include <errno.h>

/* Entries that a record's changes become, in their order. */
struct making {
	struct overlay *overlay;
	uint64_t seq;
	struct list made;
	size_t cookies_wanted, ranges_wanted;
};

static int made(struct making *making, struct entry *entry)
{
	if (entry == NULL)
		return -ENOMEM;
	list_push_back(&making->made, &entry->link);
	return 0;
}

static int make_inode(struct making *making, const struct inode_row *row, bool is_deleted)
{
	struct inode_entry *entry = ENTRY_NEW(inode_entry, ENTRY_INODE, making->seq, 0);

	if (entry == NULL)
		return -ENOMEM;
	entry->row = *row;
	entry->row.birth = making->seq;
	entry->entry.is_deleted = is_deleted;
	return made(making, &entry->entry);
}

static int make_range(struct making *making, uint64_t ino, uint64_t off, uint64_t len,
		      const struct extent_row *extent)
{
	struct range_entry *entry = ENTRY_NEW(range_entry, ENTRY_RANGE, making->seq, 0);

	if (entry == NULL)
		return -ENOMEM;
	making->ranges_wanted++;
	entry->entry.tree.key = (struct tree_key){ino, off};
	entry->len = MIN(len, INT64_MAX - off);
	entry->is_hole = extent == NULL;
	if (extent != NULL) {
		entry->chunk_no = extent->chunk_no;
		entry->chunk_off = extent->chunk_off;
	}
	return made(making, &entry->entry);
}

static int make_name(struct making *making, const struct change *change, bool is_deleted)
{
	struct name_entry *entry = overlay_name_new(making->seq, change->u.dirent.parent,
					    change->u.dirent.cookie, change->u.dirent.name);

	if (entry == NULL)
		return -ENOMEM;
	making->cookies_wanted += 2;
	entry->ino = change->u.dirent.ino;
	entry->type = change->u.dirent.type;
	entry->entry.is_deleted = is_deleted;
	return made(making, &entry->entry);
}

static int make_xattr(struct making *making, const struct change *change, bool is_deleted)
{
	struct bytes name = change->u.xattr.name, value = change->u.xattr.value;
	struct xattr_entry *entry =
		ENTRY_NEW(xattr_entry, ENTRY_XATTR, making->seq, name.len + value.len);

	if (entry == NULL)
		return -ENOMEM;
	entry->ino = change->u.xattr.ino;
	entry->name_len = (uint8_t)name.len;
	entry->value_len = (uint32_t)value.len;
	entry->entry.is_deleted = is_deleted;
	memcpy(entry->bytes, name.ptr, name.len);
	if (value.len > 0)
		memcpy(entry->bytes + name.len, value.ptr, value.len);
	return made(making, &entry->entry);
}

static int make_symlink(struct making *making, const struct change *change)
{
	struct bytes target = change->u.symlink.target;
	struct symlink_entry *entry =
		ENTRY_NEW(symlink_entry, ENTRY_SYMLINK, making->seq, target.len);

	if (entry == NULL)
		return -ENOMEM;
	entry->ino = change->u.symlink.ino;
	entry->len = (uint32_t)target.len;
	memcpy(entry->target, target.ptr, target.len);
	return made(making, &entry->entry);
}

static int make_chunk(struct making *making, const struct change *change, bool is_dying)
{
	struct chunk_entry *entry = ENTRY_NEW(chunk_entry, ENTRY_CHUNK, making->seq, 0);

	if (entry == NULL)
		return -ENOMEM;
	entry->entry.tree.key = (struct tree_key){change->u.chunk.chunk_no, 0};
	entry->is_dying = is_dying;
	entry->has_row = !is_dying;
	if (!is_dying)
		entry->row = change->u.chunk;
	return made(making, &entry->entry);
}

static int make_copy(struct making *making, const struct change *change, bool is_deleted)
{
	struct copy_entry *entry = ENTRY_NEW(copy_entry, ENTRY_COPY, making->seq, 0);

	if (entry == NULL)
		return -ENOMEM;
	entry->entry.tree.key =
		(struct tree_key){change->u.copy.shard_no, change->u.copy.provider_no};
	entry->entry.is_deleted = is_deleted;
	entry->row = change->u.copy;
	if (entry->row.state == COPY_UPLOADING)
		entry->row.state = COPY_PENDING;
	return made(making, &entry->entry);
}

static int make_setting(struct making *making, const struct change *change)
{
	struct bytes key = change->u.setting.key, value = change->u.setting.value;
	struct setting_entry *entry =
		ENTRY_NEW(setting_entry, ENTRY_SETTING, making->seq, key.len + value.len);

	if (entry == NULL)
		return -ENOMEM;
	entry->key_len = (uint8_t)key.len;
	entry->value_len = (uint32_t)value.len;
	memcpy(entry->bytes, key.ptr, key.len);
	if (value.len > 0)
		memcpy(entry->bytes + key.len, value.ptr, value.len);
	return made(making, &entry->entry);
}

/* Tables with one number as key, kept whole. */
#define DEFINE_MAKE(T, KIND, number)                                                               \
	static int make_##T(struct making *making, const struct T##_row *row, bool is_deleted)     \
	{                                                                                          \
		struct T##_entry *entry = ENTRY_NEW(T##_entry, KIND, making->seq, 0);              \
                                                                                                   \
		if (entry == NULL)                                                                 \
			return -ENOMEM;                                                            \
		entry->entry.tree.key = (struct tree_key){row->number, 0};                          \
		entry->entry.is_deleted = is_deleted;                                              \
		if (!is_deleted)                                                                   \
			entry->row = *row;                                                         \
		return made(making, &entry->entry);                                                \
	}
DEFINE_MAKE(shard, ENTRY_SHARD, shard_no)
DEFINE_MAKE(provider, ENTRY_PROVIDER, provider_no)
DEFINE_MAKE(policy, ENTRY_POLICY, root)
DEFINE_MAKE(snapshot, ENTRY_SNAPSHOT, snapshot_no)

static int make_orphan(struct making *making, uint64_t ino, bool is_deleted)
{
	struct orphan_entry *entry = ENTRY_NEW(orphan_entry, ENTRY_ORPHAN, making->seq, 0);

	if (entry == NULL)
		return -ENOMEM;
	entry->entry.tree.key = (struct tree_key){ino, 0};
	entry->entry.is_deleted = is_deleted;
	return made(making, &entry->entry);
}

static int make_snapshot_of(struct making *making, const struct change *change)
{
	struct snapshot_row row = change->u.snapshot;

	if (row.seq == 0)
		row.seq = making->seq;
	return make_snapshot(making, &row, false);
}

static int make_change(struct making *making, const struct change *change)
{
	struct inode_row gone = {0};
	int r;

	switch (change->type) {
	case CHANGE_INODE_PUT:
		return make_inode(making, &change->u.inode, false);
	case CHANGE_INODE_DEL:
		gone.ino = change->u.ino;
		r = make_range(making, change->u.ino, 0, INT64_MAX, NULL);
		return r < 0 ? r : make_inode(making, &gone, true);
	case CHANGE_DIRENT_PUT:
	case CHANGE_DIRENT_DEL:
		return make_name(making, change, change->type == CHANGE_DIRENT_DEL);
	case CHANGE_XATTR_PUT:
	case CHANGE_XATTR_DEL:
		return make_xattr(making, change, change->type == CHANGE_XATTR_DEL);
	case CHANGE_SYMLINK_PUT:
		return make_symlink(making, change);
	case CHANGE_EXTENT_PUT:
		return make_range(making, change->u.extent.ino, change->u.extent.off,
				  change->u.extent.len, &change->u.extent);
	case CHANGE_EXTENT_DEL:
		return make_range(making, change->u.range.ino, change->u.range.off,
				  change->u.range.len, NULL);
	case CHANGE_CHUNK_PUT:
	case CHANGE_CHUNK_DEL:
		return make_chunk(making, change, change->type == CHANGE_CHUNK_DEL);
	case CHANGE_SHARD_PUT:
	case CHANGE_SHARD_DEL:
		return make_shard(making, &change->u.shard, change->type == CHANGE_SHARD_DEL);
	case CHANGE_COPY_PUT:
	case CHANGE_COPY_DEL:
		return make_copy(making, change, change->type == CHANGE_COPY_DEL);
	case CHANGE_ORPHAN_PUT:
	case CHANGE_ORPHAN_DEL:
		return make_orphan(making, change->u.ino, change->type == CHANGE_ORPHAN_DEL);
	case CHANGE_PROVIDER_PUT:
		return make_provider(making, &change->u.provider, false);
	case CHANGE_POLICY_PUT:
	case CHANGE_POLICY_DEL:
		return make_policy(making, &change->u.policy, change->type == CHANGE_POLICY_DEL);
	case CHANGE_SETTING_PUT:
		return make_setting(making, change);
	case CHANGE_SNAPSHOT_PUT:
		return make_snapshot_of(making, change);
	case CHANGE_SNAPSHOT_DEL:
		return make_snapshot(making, &change->u.snapshot, true);
	case CHANGE_AUDIT_PUT:
	case CHANGE_AUDIT_CUT:
	case CHANGE_HISTORY_DROP:
		return 0; /* read as applied */
	case CHANGE_ROW_VERSION: /* in no record that anybody notes */
		return -EBADMSG;
	case CHANGE_TYPE_COUNT:
		break;
	}
	return -EPROTONOSUPPORT;
}

static int fill_spares(struct list *spares, size_t *count, size_t wanted, enum entry_kind kind,
		       size_t size)
{
	while (*count < wanted) {
		struct entry *entry = overlay_entry_new(kind, 0, size);

		if (entry == NULL)
			return -ENOMEM;
		list_push_back(spares, &entry->link);
		(*count)++;
	}
	return 0;
}

void overlay_free_list(struct list *list)
{
	list_for_each(at, list) {
		struct entry *entry = container_of(at, struct entry, link);

		list_remove(at);
		mem_free(entry);
	}
}

int overlay_note(struct overlay *overlay, const struct record *record)
{
	struct making making = {.overlay = overlay, .seq = record->seq};
	struct record_walk walk = record_walk_of(buf_bytes(&record->changes));
	struct change change;
	int r;

	list_init(&making.made);
	while ((r = record_walk_next(&walk, &change)) > 0) {
		r = make_change(&making, &change);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = fill_spares(&overlay->spare_cookies, &overlay->spare_cookie_count,
				making.cookies_wanted, ENTRY_COOKIE, sizeof(struct cookie_entry));
	if (r == 0)
		r = fill_spares(&overlay->spare_ranges, &overlay->spare_range_count,
				making.ranges_wanted, ENTRY_RANGE, sizeof(struct range_entry));
	if (r < 0) {
		overlay_free_list(&making.made);
		return r;
	}
	list_for_each(at, &making.made) {
		list_remove(at);
		overlay_install(overlay, container_of(at, struct entry, link));
	}
	return 0;
}
