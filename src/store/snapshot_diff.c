/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two states, `old` and `new`, are walked side by side from the directory on.
 *
 * Where to walk is known before: history rows that the old state sees and that died up to the new
 * one name the inodes that changed.  A name that comes or goes changes its directory's inode too.
 * Those directories, and the ones that hold changed files, are marked with all above them in the
 * new state; a directory that is on both sides and not marked is the same, all of it.
 *
 * The same inode under another name has moved, if it had one name and has one: then it is told
 * once, where it is now, and a directory is compared with itself.
 */
#include "store/snapshot_diff.h"

#include "store/diff_names.h"
#include "store/store_private.h"
#include "util/counter.h"
#include "util/map.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#define DEPTH_MAX 4096u
#define PLACES	  4u /* directories whose paths and names are remembered for what moved */

static struct counter diff_names = COUNTER_INIT("snapshot_diff_names",
						"names read to compare snapshots");
COUNTER_REGISTER(diff_names);

/* A number of a set. */
struct ino_node {
	struct map_node node;
	uint64_t ino;
};

enum side { OLD, NEW };

/* Where a directory is in a state, and what it holds; many files that moved came from one. */
struct place {
	uint64_t dir; /* 0: nothing is remembered */
	enum side side;
	int error;	 /* -ENOENT: not below the directory that is compared */
	struct buf path; /* from there */
	struct diff_names names; /* sorted by inode */
};

struct diff {
	struct store *store;
	struct index_reader *reader;
	const struct diff_settings *settings;
	uint64_t snapshot_no[2]; /* 0: now */
	uint64_t dir;
	struct map changed; /* inodes that the old state sees and that are not the same in the new */
	struct map marked;  /* directories to enter; with one, all above it in the new state */
	struct buf path;
	struct place places[PLACES];
	unsigned place_next;
};

/* ---- sets ---- */

static bool set_has(const struct map *set, uint64_t ino)
{
	for (struct map_node *at = map_first(set, map_hash_u64(ino)); at; at = map_next(at))
		if (container_of(at, struct ino_node, node)->ino == ino)
			return true;
	return false;
}

static int set_add(struct map *set, uint64_t ino)
{
	struct ino_node *node;
	int r;

	if (set_has(set, ino))
		return 0;
	node = mem_alloc(sizeof(*node));
	if (!node)
		return -ENOMEM;
	node->ino = ino;
	r = map_insert(set, &node->node, map_hash_u64(ino));
	if (r < 0)
		mem_free(node);
	return r;
}

static void set_release(struct map *set)
{
	struct map_node *at = map_iterate(set, NULL);

	while (at) {
		struct map_node *next = map_iterate(set, at);

		map_remove(set, at);
		mem_free(container_of(at, struct ino_node, node));
		at = next;
	}
	map_release(set);
}

/* ---- states ---- */

static uint64_t number_in(const struct diff *diff, enum side side, uint64_t ino)
{
	uint64_t no = diff->snapshot_no[side];

	return no ? ino_in_snapshot(no, ino) : ino;
}

/* -ENOENT: the state does not show it.  ino and parent are those of no snapshot. */
static int get_inode(struct diff *diff, enum side side, uint64_t ino, struct inode_row *out)
{
	int r = index_get_inode(diff->store->index, diff->reader, number_in(diff, side, ino), out);

	if (r < 0)
		return r;
	if (out->nlink == 0)
		return -ENOENT;
	out->ino = ino;
	out->parent = ino_is_holder(out->parent) ? 0 : out->parent & INO_MAX;
	return 0;
}

static int list_names(struct diff *diff, enum side side, uint64_t dir, struct diff_names *out)
{
	int r = diff_names_load(diff->store->index, diff->reader, number_in(diff, side, dir), out);

	counter_add(&diff_names, out->count);
	return r;
}

/* ---- what to look at ---- */

/* The directory and those above it in the new state, up to the one that is compared. */
static int mark_up(struct diff *diff, uint64_t dir)
{
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
		struct inode_row row;
		int r;

		if (set_has(&diff->marked, dir))
			return 0;
		r = get_inode(diff, NEW, dir, &row);
		if (r == -ENOENT || (r == 0 && !S_ISDIR(row.mode)))
			return 0;
		if (r == 0)
			r = set_add(&diff->marked, dir);
		if (r < 0)
			return r;
		if (dir == diff->dir || dir == INO_ROOT || row.parent == 0)
			return 0;
		dir = row.parent;
	}
	return -ELOOP;
}

static int mark_inode(struct diff *diff, uint64_t ino)
{
	struct inode_row row;
	int r;

	for (enum side side = OLD; side <= NEW; side++) {
		r = get_inode(diff, side, ino, &row);
		if (r == -ENOENT)
			continue;
		if (r == 0)
			r = mark_up(diff, S_ISDIR(row.mode) ? ino : row.parent);
		if (r == 0 && S_ISDIR(row.mode) && row.parent != 0)
			r = mark_up(diff, row.parent);
		if (r < 0)
			return r;
	}
	return 0;
}

static int learn_changes(struct diff *diff)
{
	const struct snapshot_row *to = diff->settings->to;
	AUTO(old_list) list = ROW_LIST_INIT;
	int r = index_list_changed(diff->store->index, diff->reader, diff->settings->from->seq,
				   to ? to->seq : INT64_MAX, &list);

	for (size_t i = 0; r == 0 && i < list.count; i++) {
		if (list.rows[i].at == 0)
			r = set_add(&diff->changed, list.rows[i].ino);
		if (r == 0)
			r = list.rows[i].at == 0 ? mark_inode(diff, list.rows[i].ino)
						 : mark_up(diff, list.rows[i].ino);
	}
	return r;
}

/* ---- paths ---- */

static int append_part(struct buf *path, struct bytes name)
{
	int r = path->len > 0 ? buf_append(path, bytes_of_str("/")) : 0;

	return r < 0 ? r : buf_append(path, name);
}

static int find_place(struct diff *diff, enum side side, uint64_t dir, unsigned depth,
		      struct place **out);

/* From the directory that is compared; -ENOENT: it is not below that one. */
static int path_in(struct diff *diff, enum side side, uint64_t ino, unsigned depth,
		   struct buf *path)
{
	const struct diff_name *name;
	struct place *place = NULL;
	struct inode_row row;
	int r;

	if (ino == diff->dir)
		return 0;
	if (ino == INO_ROOT || depth == DEPTH_MAX)
		return -ENOENT;
	r = get_inode(diff, side, ino, &row);
	if (r == 0)
		r = row.parent == 0 ? -ENOENT : find_place(diff, side, row.parent, depth + 1, &place);
	if (r < 0)
		return r;
	name = diff_names_find(&place->names, ino);
	r = !name ? -ENOENT : place->path.len ? buf_append(path, buf_bytes(&place->path)) : 0;
	return r < 0 ? r : append_part(path, diff_name_text(&place->names, name));
}

/* *out stays right until the next call. */
static int find_place(struct diff *diff, enum side side, uint64_t dir, unsigned depth,
		      struct place **out)
{
	AUTO(buf) path = BUF_INIT;
	struct place *place;
	int r;

	for (unsigned i = 0; i < PLACES; i++) {
		*out = &diff->places[i];
		if ((*out)->dir == dir && (*out)->side == side)
			return (*out)->error;
	}
	r = path_in(diff, side, dir, depth, &path); /* may use places itself */
	if (r < 0 && r != -ENOENT)
		return r;
	*out = place = &diff->places[diff->place_next++ % PLACES];
	place->dir = dir;
	place->side = side;
	place->error = r;
	buf_swap(&place->path, &path);
	diff_names_release(&place->names);
	if (r == 0)
		r = place->error = list_names(diff, side, dir, &place->names);
	diff_names_sort_by_ino(&place->names);
	return r;
}

/*
 * Whether the inode is on both sides, below the directory, and has one name on each: then it is
 * told as moved, where it is in the new state, and nowhere else.  from gets its old path.
 */
static int is_moved(struct diff *diff, uint64_t ino, struct buf *from, bool *out)
{
	AUTO(buf) to = BUF_INIT;
	struct inode_row old, new;
	int r = get_inode(diff, OLD, ino, &old);

	*out = false;
	if (r == 0)
		r = get_inode(diff, NEW, ino, &new);
	if (r == -ENOENT)
		return 0;
	if (r < 0 || (!S_ISDIR(old.mode) && (old.nlink != 1 || new.nlink != 1)))
		return r;
	r = path_in(diff, OLD, ino, 0, from);
	if (r == 0)
		r = path_in(diff, NEW, ino, 0, &to);
	if (r == -ENOENT)
		return 0;
	*out = r == 0;
	return r;
}

/* ---- telling ---- */

static int tell(struct diff *diff, enum diff_change change, bool is_dir, const char *from)
{
	struct diff_entry entry = {.change = change, .is_dir = is_dir, .from = from};

	entry.path = buf_str(&diff->path);
	return entry.path ? diff->settings->visit(diff->settings->ctx, &entry) : -ENOMEM;
}

static bool is_same_time(struct wall_time a, struct wall_time b)
{
	return a.sec == b.sec && a.nsec == b.nsec;
}

/* The inode is on both sides.  What has moved has another ctime for that alone. */
static int tell_modified(struct diff *diff, uint64_t ino, bool has_moved)
{
	struct inode_row old, new;
	bool has_bytes;
	int r;

	if (!set_has(&diff->changed, ino))
		return 0;
	r = get_inode(diff, OLD, ino, &old);
	if (r == 0)
		r = get_inode(diff, NEW, ino, &new);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	has_bytes = S_ISREG(new.mode);
	if (has_bytes && (old.size != new.size || !is_same_time(old.mtime, new.mtime)))
		return tell(diff, DIFF_MODIFIED, false, NULL);
	if (old.mode != new.mode || old.uid != new.uid || old.gid != new.gid ||
	    old.flags != new.flags)
		return tell(diff, DIFF_ATTRIBUTES, S_ISDIR(new.mode), NULL);
	/* ctime alone: attributes or links; of a directory only if no name came or went with it */
	if (has_moved || is_same_time(old.ctime, new.ctime) ||
	    !is_same_time(old.mtime, new.mtime))
		return 0;
	return tell(diff, DIFF_ATTRIBUTES, S_ISDIR(new.mode), NULL);
}

/* ---- walking ---- */

static int walk_both(struct diff *diff, uint64_t dir, bool has_moved, unsigned depth);

/* Everything below a directory that is on one side only. */
static int walk_one(struct diff *diff, enum side side, uint64_t dir, unsigned depth);

/* An entry that is on one side alone. */
static int one_entry(struct diff *diff, enum side side, const struct diff_name *row,
		     unsigned depth)
{
	AUTO(buf) from = BUF_INIT;
	bool is_dir = row->type == DT_DIR, has_moved;
	int r = is_moved(diff, row->ino, &from, &has_moved);

	if (r < 0 || (has_moved && side == OLD))
		return r;
	if (has_moved) {
		const char *text = buf_str(&from);

		r = text ? tell(diff, DIFF_RENAMED, is_dir, text) : -ENOMEM;
		if (r == 0 && !is_dir)
			r = tell_modified(diff, row->ino, true);
		return r != 0 || !is_dir ? r : walk_both(diff, row->ino, true, depth);
	}
	r = tell(diff, side == OLD ? DIFF_REMOVED : DIFF_ADDED, is_dir, NULL);
	return r != 0 || !is_dir ? r : walk_one(diff, side, row->ino, depth);
}

/* The path of what is looked at, until *before is its length again. */
static int push_name(struct diff *diff, const struct diff_names *names,
		     const struct diff_name *row, size_t *before)
{
	*before = diff->path.len;
	return append_part(&diff->path, diff_name_text(names, row));
}

static int walk_one(struct diff *diff, enum side side, uint64_t dir, unsigned depth)
{
	AUTO(diff_names) names = DIFF_NAMES_INIT;
	int r = depth < DEPTH_MAX ? list_names(diff, side, dir, &names) : -ELOOP;

	diff_names_sort_by_text(&names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		size_t before;

		r = push_name(diff, &names, &names.rows[i], &before);
		if (r == 0)
			r = one_entry(diff, side, &names.rows[i], depth + 1);
		diff->path.len = before;
	}
	return r;
}

/* Another file under the same name, as programs do that write a new one and rename it over. */
static int is_replaced(struct diff *diff, const struct diff_name *old,
		       const struct diff_name *new, bool *out)
{
	AUTO(buf) from = BUF_INIT;
	bool has_moved = false;
	int r = 0;

	*out = false;
	if (old->type == DT_DIR || new->type == DT_DIR)
		return 0;
	r = is_moved(diff, old->ino, &from, &has_moved);
	if (r == 0 && !has_moved) {
		buf_clear(&from);
		r = is_moved(diff, new->ino, &from, &has_moved);
	}
	*out = r == 0 && !has_moved;
	return r;
}

/* The same name on both sides. */
static int both_entries(struct diff *diff, const struct diff_name *old,
			const struct diff_name *new, unsigned depth)
{
	bool has_replaced;
	int r;

	if (old->ino == new->ino) {
		if (new->type != DT_DIR)
			return tell_modified(diff, new->ino, false);
		return walk_both(diff, new->ino, false, depth);
	}
	r = is_replaced(diff, old, new, &has_replaced);
	if (r < 0)
		return r;
	if (has_replaced)
		return tell(diff, DIFF_MODIFIED, false, NULL);
	r = one_entry(diff, OLD, old, depth);
	return r != 0 ? r : one_entry(diff, NEW, new, depth);
}

static int merge_names(struct diff *diff, const struct diff_names *old,
		       const struct diff_names *new, unsigned depth)
{
	size_t i = 0, k = 0, before;
	int r = 0;

	while (r == 0 && (i < old->count || k < new->count)) {
		const struct diff_name *o = i < old->count ? &old->rows[i] : NULL;
		const struct diff_name *n = k < new->count ? &new->rows[k] : NULL;
		int order = !o ? 1 : !n ? -1 : diff_names_compare(old, o, new, n);

		r = push_name(diff, order <= 0 ? old : new, order <= 0 ? o : n, &before);
		if (r == 0)
			r = order == 0	? both_entries(diff, o, n, depth + 1)
			    : order < 0 ? one_entry(diff, OLD, o, depth + 1)
					: one_entry(diff, NEW, n, depth + 1);
		diff->path.len = before;
		i += order <= 0;
		k += order >= 0;
	}
	return r;
}

/* A directory that is on both sides. */
static int walk_both(struct diff *diff, uint64_t dir, bool has_moved, unsigned depth)
{
	AUTO(diff_names) old = DIFF_NAMES_INIT;
	AUTO(diff_names) new = DIFF_NAMES_INIT;
	int r = depth < DEPTH_MAX ? 0 : -ELOOP;

	if (r == 0 && diff->path.len > 0)
		r = tell_modified(diff, dir, has_moved);
	if (r != 0 || !set_has(&diff->marked, dir))
		return r;
	r = list_names(diff, OLD, dir, &old);
	if (r == 0)
		r = list_names(diff, NEW, dir, &new);
	if (r < 0)
		return r;
	diff_names_sort_by_text(&old);
	diff_names_sort_by_text(&new);
	return merge_names(diff, &old, &new, depth);
}

static int check_dir(struct diff *diff, enum side side)
{
	struct inode_row row;
	int r = get_inode(diff, side, diff->dir, &row);

	if (r == -ENOENT || (r == 0 && !S_ISDIR(row.mode)))
		return -ENOTDIR;
	return r;
}

int snapshot_diff(struct store *store, struct index_reader *reader,
		  const struct diff_settings *settings)
{
	struct diff diff = {
		.store = store,
		.reader = reader,
		.settings = settings,
		.snapshot_no = {settings->from->snapshot_no,
				settings->to ? settings->to->snapshot_no : 0},
		.dir = settings->dir ? settings->dir : settings->from->root,
	};
	int r = sequencer_wait_applied(store->sequencer, sequencer_last_seq(store->sequencer));

	if (r == 0)
		r = check_dir(&diff, OLD);
	if (r == 0)
		r = check_dir(&diff, NEW);
	if (r == 0)
		r = learn_changes(&diff);
	if (r == 0)
		r = walk_both(&diff, diff.dir, false, 0);
	set_release(&diff.changed);
	set_release(&diff.marked);
	buf_release(&diff.path);
	for (unsigned i = 0; i < PLACES; i++) {
		buf_release(&diff.places[i].path);
		diff_names_release(&diff.places[i].names);
	}
	return r;
}

const char *diff_change_name(enum diff_change change)
{
	static const char *const names[] = {
		[DIFF_ADDED] = "added",		  [DIFF_REMOVED] = "removed",
		[DIFF_MODIFIED] = "modified",	  [DIFF_ATTRIBUTES] = "attributes",
		[DIFF_RENAMED] = "renamed",
	};

	return names[change];
}
