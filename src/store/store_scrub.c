/* SPDX-License-Identifier: Apache-2.0 */
/* What the front doors ask of scrub, and which files a lost shard belongs to. */
#include "store/snapshot.h"
#include "store/store_private.h"

#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#define LIST_PAGE      1024u
#define SUBTREE_PAGE   1024u
#define TREE_DEPTH_MAX 4096u

int store_scrub(struct store *store, struct index_reader *reader, const struct scrub_wish *wish,
		const struct scrub_watch *watch, struct scrub_report *report)
{
	return store->priv->scrub ? scrub_run(store->priv->scrub, reader, wish, watch, report)
				  : -EROFS;
}

int store_scrub_orphans(struct store *store, struct index_reader *reader, bool deletes,
			const struct scrub_watch *watch, struct scrub_report *report)
{
	return store->priv->scrub
		       ? scrub_orphans(store->priv->scrub, reader, deletes, watch, report)
		       : -EROFS;
}

int store_scrub_status(struct store *store, struct index_reader *reader, struct scrub_status *out)
{
	return store->priv->scrub ? scrub_status(store->priv->scrub, reader, out) : -EROFS;
}

int64_t store_scrub_listed_sec(struct store *store, unsigned provider)
{
	return store->priv->scrub ? scrub_listed_sec(store->priv->scrub, provider) : 0;
}

/* ---- names ---- */

struct naming {
	struct store *store;
	struct index_reader *reader;
	const uint64_t *shard_nos; /* sorted */
	size_t shard_count;
	int (*visit)(void *ctx, const char *path);
	void *ctx;
	uint64_t snapshot_no, newer_no; /* walked, and the next one after it; 0: now */
};

static int compare_numbers(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

/* 1: the file or something below the directory uses one of the shards; 0: nothing does. */
static int uses_any(const struct naming *naming, uint64_t ino)
{
	uint64_t shard_nos[SUBTREE_PAGE], after = 0;
	size_t count;

	do {
		int r = index_subtree_shards(naming->store->index, naming->reader, ino, after,
					     SUBTREE_PAGE, shard_nos, &count, NULL);

		if (r < 0)
			return r;
		for (size_t i = 0; i < count; i++)
			if (bsearch(&shard_nos[i], naming->shard_nos, naming->shard_count,
				    sizeof(*naming->shard_nos), compare_numbers))
				return 1;
		if (count > 0)
			after = shard_nos[count - 1];
	} while (count == SUBTREE_PAGE);
	return 0;
}

/* 1: a newer state has the same file, and lost it too: it is named there. */
static int is_named_newer(const struct naming *naming, uint64_t ino)
{
	struct inode_row row;
	int r;

	if (naming->snapshot_no == 0)
		return 0;
	ino = ino_in_snapshot(naming->newer_no, ino & INO_MAX);
	/* now it may be there without a name, until it is reclaimed */
	r = index_get_inode(naming->store->index, naming->reader, ino, &row);
	if (r == 0 && (row.flags & INODE_ORPHAN))
		return 0;
	if (r == 0)
		r = uses_any(naming, ino);
	return r == -ESTALE || r == -ENOENT ? 0 : r;
}

static int name_tree(const struct naming *naming, uint64_t dir, const char *path, unsigned depth);

static int name_entry(const struct naming *naming, const struct dirent_row *row, const char *path,
		      unsigned depth)
{
	AUTO_STR name = mem_printf("%s/%s", path, row->name);
	int r;

	if (!name)
		return -ENOMEM;
	if (row->type != DT_DIR && row->type != DT_REG)
		return 0;
	r = uses_any(naming, row->ino);
	if (r <= 0)
		return r;
	if (row->type == DT_DIR)
		return name_tree(naming, row->ino, name, depth + 1);
	r = is_named_newer(naming, row->ino);
	return r == 0 ? naming->visit(naming->ctx, name) : MIN(r, 0);
}

static int name_tree(const struct naming *naming, uint64_t dir, const char *path, unsigned depth)
{
	uint64_t after = 0;
	size_t count;
	int r = depth < TREE_DEPTH_MAX ? 0 : -ELOOP;

	do {
		AUTO(dirent_list) dirents = ROW_LIST_INIT;

		if (r == 0)
			r = index_list_dirents(naming->store->index, naming->reader, dir, after,
					       LIST_PAGE, &dirents);
		for (size_t i = 0; i < dirents.count && r == 0; i++) {
			r = name_entry(naming, &dirents.rows[i], path, depth);
			after = dirents.rows[i].cookie;
		}
		count = dirents.count;
	} while (r == 0 && count == LIST_PAGE);
	return r;
}

/* From the newest on: what an older one alone has is named there. */
static int name_snapshots(struct naming *naming)
{
	AUTO(snapshot_list) list = ROW_LIST_INIT;
	int r = index_list_readable(naming->store->index, 0, SIZE_MAX, &list);

	for (size_t i = list.count; i > 0 && r == 0; i--) {
		const struct snapshot_row *row = &list.rows[i - 1];
		AUTO_STR path = mem_printf("/%s/snapshots/%s", SNAPSHOT_DIR_NAME, row->name);
		uint64_t root = ino_in_snapshot(row->snapshot_no, row->root);

		naming->snapshot_no = row->snapshot_no;
		r = path ? uses_any(naming, root) : -ENOMEM;
		if (r > 0)
			r = name_tree(naming, root, path, 0);
		if (r == -ESTALE)
			r = 0; /* deleted meanwhile */
		naming->newer_no = row->snapshot_no;
	}
	return r;
}

int store_name_users(struct store *store, struct index_reader *reader, struct inode *inode,
		     uint64_t *shard_nos, size_t shard_count,
		     int (*visit)(void *ctx, const char *path), void *ctx)
{
	struct naming naming = {store, reader, shard_nos, shard_count, visit, ctx, 0, 0};
	int r;

	qsort(shard_nos, shard_count, sizeof(*shard_nos), compare_numbers);
	if (inode_is_dir(inode)) {
		r = name_tree(&naming, inode->row.ino, "", 0);
		return r == 0 && inode->row.ino == INO_ROOT ? name_snapshots(&naming) : r;
	}
	r = uses_any(&naming, inode->row.ino);
	return r > 0 ? visit(ctx, "") : r;
}
