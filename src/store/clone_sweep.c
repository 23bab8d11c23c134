/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is unfinished.
 *
 * A tree that is being built has a name that says so (CLONE_PREFIX and a random
 * number), and a setting of the index lists "directory:number" of each, from
 * before its first record until after its last one.  So whatever dies, the next
 * mount finds what was left by its name and takes it away, step by step like
 * rm -r; a second kill changes nothing.  One that somebody has renamed is his.
 */
#include "store/clone_private.h"

#include "util/err.h"
#include "util/log.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SETTING "clones"
#define PAGE	256u

struct bytes clone_temporary_name(uint64_t number, char room[48])
{
	int len = snprintf(room, 48, CLONE_PREFIX "%016" PRIx64, number);

	return bytes_of(room, (size_t)len);
}

/* ---- the list; in memory under priv->lock ---- */

static int submit_list_locked(struct store *store)
{
	AUTO_PTR(record) record = record_new();
	AUTO(buf) text = BUF_INIT;
	uint64_t seq;
	int r = record ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < store->priv->clone_count; i++)
		r = buf_printf(&text, "%" PRIu64 ":%016" PRIx64 "\n",
			       store->priv->clones[i].parent, store->priv->clones[i].number);
	if (r < 0)
		return r;
	record_put_setting(record, bytes_of_str(SETTING), buf_bytes(&text));
	return sequencer_submit(store->sequencer, STEAL(record), &seq);
}

int clone_enlist(struct store *store, uint64_t parent, uint64_t number)
{
	struct store_private *priv = store->priv;
	int r;

	LOCK_SCOPE(&priv->clone_lock);
	if (priv->clone_count == CLONE_COUNT_MAX)
		return -EBUSY;
	priv->clones[priv->clone_count++] = (struct clone_place){parent, number, false};
	r = submit_list_locked(store);
	if (r < 0)
		priv->clone_count--;
	return r;
}

int clone_strike(struct store *store, uint64_t number)
{
	struct store_private *priv = store->priv;

	LOCK_SCOPE(&priv->clone_lock);
	for (unsigned i = 0; i < priv->clone_count; i++)
		if (priv->clones[i].number == number) {
			priv->clones[i] = priv->clones[--priv->clone_count];
			break;
		}
	return submit_list_locked(store); /* when it fails, a sweep finds nothing of that name */
}

/* ---- removing ---- */

/* Directories from the top down to the one being emptied. */
struct removal {
	struct store *store;
	struct index_reader *reader;
	const struct clone_watch *watch;
	struct inode **dirs; /* referenced */
	char (*names)[NAME_LEN_MAX + 1]; /* of each in the one before */
	size_t count, capacity;
};

static bool must_stop(const struct removal *removal)
{
	return !store_may_write(removal->store, NULL) ||
	       (removal->watch->is_cancelled && removal->watch->is_cancelled(removal->watch->ctx));
}

/* Takes the reference, also on failure. */
static int descend(struct removal *removal, struct inode *dir, const char *name)
{
	if (removal->count == removal->capacity) {
		size_t capacity = removal->capacity ? 2 * removal->capacity : 16;
		struct inode **dirs =
			mem_realloc_array(removal->dirs, capacity, sizeof(*removal->dirs));
		void *names = NULL;

		if (dirs) {
			removal->dirs = dirs;
			names = mem_realloc_array(removal->names, capacity, sizeof(*removal->names));
		}
		if (!names) {
			inode_unref(removal->store->inodes, dir, 1);
			return -ENOMEM;
		}
		removal->names = names;
		removal->capacity = capacity;
	}
	removal->dirs[removal->count] = dir;
	snprintf(removal->names[removal->count++], NAME_LEN_MAX + 1, "%s", name);
	return 0;
}

static int admit(struct removal *removal)
{
	struct clone clone = {.store = removal->store, .watch = removal->watch};

	return clone_admit(&clone);
}

static int remove_name(struct removal *removal, struct inode *dir, const char *name, bool is_dir)
{
	int r = admit(removal);

	if (r == 0)
		r = names_remove(removal->store, removal->reader, dir, bytes_of_str(name), is_dir);
	return r == -ENOENT ? 0 : r;
}

/* One page of the deepest directory: files go, the first subdirectory is entered. */
static int remove_page(struct removal *removal, struct inode *top)
{
	AUTO(dirent_list) page = ROW_LIST_INIT;
	struct store *store = removal->store;
	struct inode *dir = removal->dirs[removal->count - 1];
	int r = index_list_dirents(store->index, removal->reader, dir->row.ino, 0, PAGE, &page);

	for (size_t i = 0; r == 0 && i < page.count; i++) {
		const struct dirent_row *entry = &page.rows[i];

		if (must_stop(removal))
			return -ECANCELED;
		if (entry->type == DT_DIR) {
			struct inode *child;

			r = names_lookup(store, removal->reader, dir,
					 bytes_of(entry->name, entry->name_len), &child);
			if (r == -ENOENT)
				return 0;
			return r < 0 ? r : descend(removal, child, entry->name);
		}
		r = remove_name(removal, dir, entry->name, false);
	}
	if (r < 0 || page.count > 0)
		return r;
	removal->count--;
	r = remove_name(removal, removal->count > 0 ? removal->dirs[removal->count - 1] : top,
			removal->names[removal->count], true);
	inode_unref(store->inodes, dir, 1);
	return r;
}

int clone_remove_tree(struct store *store, struct index_reader *reader, struct inode *parent,
		      struct bytes name, const struct clone_watch *watch)
{
	struct removal removal = {.store = store, .reader = reader, .watch = watch};
	char text[NAME_LEN_MAX + 1];
	struct inode *inode;
	int r = names_lookup(store, reader, parent, name, &inode);

	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%.*s", (int)name.len, (const char *)name.ptr);
	r = descend(&removal, inode, text);
	while (r == 0 && removal.count > 0)
		r = must_stop(&removal) ? -ECANCELED : remove_page(&removal, parent);
	while (removal.count > 0)
		inode_unref(store->inodes, removal.dirs[--removal.count], 1);
	mem_free(removal.dirs);
	mem_free(removal.names);
	if (watch->entry_changed)
		watch->entry_changed(watch->ctx, parent->row.ino, name);
	return r;
}

/* ---- the next mount ---- */

static int sweep_one(struct store *store, struct index_reader *reader, uint64_t parent,
		     uint64_t number, const struct clone_watch *watch)
{
	char room[48];
	struct inode *dir;
	int r = names_load(store, reader, parent, &dir);

	if (r == -ESTALE)
		return 0;
	if (r < 0)
		return r;
	r = clone_remove_tree(store, reader, dir, clone_temporary_name(number, room), watch);
	inode_unref(store->inodes, dir, 1);
	if (r == 0)
		log_info("clone-swept", "dir=%" PRIu64 " name=%s", parent, room);
	else if (r != -ENOENT)
		log_warn("clone-not-swept", "dir=%" PRIu64 " name=%s error=%s next=\"%s\"", parent,
			 room, err_name(r),
			 r == -EPERM ? "remove it when what is locked in it is not any more"
				     : "at the next mount");
	return r == -ENOENT ? 0 : r;
}

int clone_list_load(struct store *store, struct index_reader *reader)
{
	struct store_private *priv = store->priv;
	AUTO(buf) text = BUF_INIT;
	const char *at;
	int r = index_get_setting(store->index, reader, SETTING, &text);

	if (r < 0 || text.len == 0)
		return r == -ENOENT ? 0 : r;
	at = buf_str(&text);
	if (!at)
		return -ENOMEM;
	LOCK_SCOPE(&priv->clone_lock);
	while (at && priv->clone_count < CLONE_COUNT_MAX) {
		struct clone_place *place = &priv->clones[priv->clone_count];

		*place = (struct clone_place){.is_left = true};
		if (sscanf(at, "%" SCNu64 ":%" SCNx64, &place->parent, &place->number) != 2)
			break;
		priv->clone_count++;
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	return 0;
}

/* The next one that an earlier mount left; false: there is none. */
static bool next_left(struct store *store, struct clone_place *out)
{
	struct store_private *priv = store->priv;

	LOCK_SCOPE(&priv->clone_lock);
	for (unsigned i = 0; i < priv->clone_count; i++)
		if (priv->clones[i].is_left) {
			priv->clones[i].is_left = false;
			*out = priv->clones[i];
			return true;
		}
	return false;
}

int store_clone_sweep(struct store *store, struct index_reader *reader,
		      const struct clone_watch *watch)
{
	struct clone_place place;
	int r = 0, first = 0;

	while (r != -ECANCELED && r != -EROFS && next_left(store, &place)) {
		r = store_may_write(store, NULL)
			    ? sweep_one(store, reader, place.parent, place.number, watch)
			    : -EROFS;
		if (r == 0 || r == -EPERM) /* what is locked in it is not ours any more */
			clone_strike(store, place.number);
		first = first < 0 ? first : r;
	}
	return first;
}
