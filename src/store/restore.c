/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two walks over the tree of the index, each directory by a descriptor of its parent, so that no
 * link that somebody put there leads out of it: the first makes directories (for us alone) and all
 * else, the second gives directories their attributes, from the leaves up, and sets the flags that
 * would have been in the way.
 */
#include "store/restore_private.h"

#include "util/err.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_PAGE      1000u
#define TREE_DEPTH_MAX 4096u
#define NOTES_MAX      1000u
#define FLAGS          (INODE_IMMUTABLE | INODE_APPEND | INODE_NODUMP | INODE_NOATIME)

/* ---- telling ---- */

static void note(struct restore *restore, const char *path, const char *what, int error)
{
	AUTO(buf) text = BUF_INIT;

	if (restore->notes++ >= NOTES_MAX || !restore->set->note) {
		if (restore->notes == NOTES_MAX + 1 && restore->set->note)
			restore->set->note(restore->set->ctx, "more is counted, but not named");
		return;
	}
	for (const char *at = path; *at; at++) /* a name may be made for terminals */
		if ((unsigned char)*at < ' ' || *at == 0x7f ||
		    buf_append(&text, bytes_of(at, 1)) < 0)
			buf_printf(&text, "?");
	buf_printf(&text, ": %s (%s)", what, err_sentence(error));
	if (buf_str(&text))
		restore->set->note(restore->set->ctx, buf_str(&text));
}

int restore_failed(struct restore *restore, const char *path, const char *what, int error)
{
	if (error == -ENOSPC || error == -EDQUOT || error == -EROFS || error == -ENOMEM ||
	    error == -EMFILE || error == -ENFILE)
		return error;
	restore->result->failed++;
	note(restore, path, what, error);
	return 0;
}

void restore_incomplete(struct restore *restore, const char *path, const char *what, int error)
{
	AUTO(buf) text = BUF_INIT;

	restore->result->incomplete++;
	if (buf_printf(&text, "is there, but not its %s", what) == 0 && buf_str(&text))
		note(restore, path, buf_str(&text), error);
}

/* ---- walking ---- */

struct place {
	int fd;
	uint64_t ino, other; /* other: the same directory in the other state; 0: it has none */
	const char *path;
	unsigned depth;
};

/* The same inode in the other state, with nothing changed since.  1: it is, or 0. */
static int is_same(struct restore *restore, const struct place *place, const struct dirent_row *row,
		   const struct inode_row *inode, uint64_t *other_ino)
{
	struct dirent_row dirent;
	struct inode_row other;
	int r;

	*other_ino = 0;
	if (!place->other)
		return 0;
	r = index_find_dirent(restore->set->other, restore->set->other_reader, place->other,
			      bytes_of(row->name, row->name_len), &dirent);
	if (r == 0)
		r = index_get_inode(restore->set->other, restore->set->other_reader, dirent.ino,
				    &other);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (S_ISDIR(other.mode))
		*other_ino = other.ino;
	/* every change of a file moves its ctime */
	return other.ino == inode->ino && other.mode == inode->mode && other.size == inode->size &&
	       other.ctime.sec == inode->ctime.sec && other.ctime.nsec == inode->ctime.nsec &&
	       other.mtime.sec == inode->mtime.sec && other.mtime.nsec == inode->mtime.nsec;
}

/* Names come from authenticated records; all the same none may lead elsewhere. */
static bool is_name(const struct dirent_row *row)
{
	return row->name_len > 0 && !memchr(row->name, '/', row->name_len) &&
	       strcmp(row->name, ".") != 0 && strcmp(row->name, "..") != 0;
}

static int walk(struct restore *restore, const struct place *place, uint64_t *made);

/* One that is the same in the other state, as all below it is, goes again: *stays is false then. */
static int walk_dir(struct restore *restore, const struct place *place, const char *name,
		    const char *path, const struct inode_row *row, uint64_t other, bool is_same,
		    bool *stays)
{
	AUTO_FD fd = -1;
	struct place below = {
		.ino = row->ino, .other = other, .path = path, .depth = place->depth + 1};
	uint64_t made = 0;
	int r;

	*stays = true;
	if (below.depth == TREE_DEPTH_MAX)
		return restore_failed(restore, path, "is too deep", -ELOOP);
	if (mkdirat(place->fd, name, 0700) < 0 && errno != EEXIST)
		return restore_failed(restore, path, "cannot be made", -errno);
	fd = openat(place->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return restore_failed(restore, path, "cannot be opened", -errno);
	if (row->flags & FLAGS)
		restore_flags(fd, "", 0); /* of an earlier run */
	below.fd = fd;
	restore->result->directories++;
	r = walk(restore, &below, &made);
	if (r == 0 && made == 0 && is_same && unlinkat(place->fd, name, AT_REMOVEDIR) == 0) {
		restore->result->directories--;
		restore->result->same++;
		*stays = false;
	}
	return r;
}

static int walk_entry(struct restore *restore, const struct place *place,
		      const struct dirent_row *row, uint64_t *made)
{
	AUTO_STR path = mem_printf("%s/%s", place->path, row->name);
	struct inode_row inode;
	uint64_t other;
	bool stays;
	int r, same;

	if (!path)
		return -ENOMEM;
	if (!is_name(row) || (place->depth == 0 && strcmp(row->name, restore->set->work) == 0))
		return restore_failed(restore, path, "cannot have this name here", -EINVAL);
	r = index_get_inode(restore->store->index, restore->reader, row->ino, &inode);
	if (r < 0)
		return r == -ENOENT ? restore_failed(restore, path, "has no inode", r) : r;
	same = is_same(restore, place, row, &inode, &other);
	if (same < 0)
		return same;
	if (S_ISDIR(inode.mode)) {
		r = walk_dir(restore, place, row->name, path, &inode, other, same, &stays);
		*made += stays;
		return r;
	}
	if (same) {
		restore->result->same++;
		return 0;
	}
	++*made;
	return restore_entry(restore, &(struct restore_entry){.dir_fd = place->fd,
							      .name = row->name,
							      .path = path,
							      .row = &inode});
}

static int for_each_name(struct restore *restore, const struct place *place,
			 int (*visit)(struct restore *restore, const struct place *place,
				      const struct dirent_row *row, uint64_t *made),
			 uint64_t *made)
{
	AUTO(dirent_list) dirents = ROW_LIST_INIT;
	uint64_t after = 0;
	int r;

	do {
		dirents.count = 0;
		r = index_list_dirents(restore->store->index, restore->reader, place->ino, after,
				       LIST_PAGE, &dirents);
		for (size_t i = 0; i < dirents.count && r == 0; i++) {
			after = dirents.rows[i].cookie;
			r = visit(restore, place, &dirents.rows[i], made);
		}
	} while (r == 0 && dirents.count == LIST_PAGE);
	return r;
}

static int walk(struct restore *restore, const struct place *place, uint64_t *made)
{
	return for_each_name(restore, place, walk_entry, made);
}

/* ---- the second walk ---- */

static int finish(struct restore *restore, const struct place *place, const struct inode_row *row);

static void set_flags(struct restore *restore, int dir_fd, const char *name, const char *path,
		      const struct inode_row *row)
{
	int r = row->flags & FLAGS ? restore_flags(dir_fd, name, row->flags) : 0;

	if (r < 0 && r != -ENOENT)
		restore_incomplete(restore, path, "chattr flags", r);
}

static int finish_entry(struct restore *restore, const struct place *place,
			const struct dirent_row *row, uint64_t *made)
{
	AUTO_STR path = mem_printf("%s/%s", place->path, row->name);
	struct place below = {.fd = -1, .ino = row->ino, .path = path, .depth = place->depth + 1};
	AUTO_FD fd = -1;
	struct inode_row inode;
	int r;

	(void)made;
	if (!path)
		return -ENOMEM;
	if (row->type != DT_DIR && (!restore->has_flags || row->type != DT_REG))
		return 0;
	r = index_get_inode(restore->store->index, restore->reader, row->ino, &inode);
	if (r < 0 || !is_name(row) || below.depth == TREE_DEPTH_MAX)
		return r == -ENOENT ? 0 : r;
	if (row->type == DT_REG) {
		set_flags(restore, place->fd, row->name, path, &inode);
		return 0;
	}
	fd = openat(place->fd, row->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return 0; /* left out, or it was told why it is not there */
	below.fd = fd;
	return finish(restore, &below, &inode);
}

static int finish(struct restore *restore, const struct place *place, const struct inode_row *row)
{
	int r = for_each_name(restore, place, finish_entry, NULL);

	if (r < 0)
		return r;
	restore_attributes(restore, place->fd, "", place->depth ? place->path : "/", row);
	if (place->depth > 0) /* what lies in the root changes still */
		set_flags(restore, place->fd, "", place->path, row);
	return 0;
}

/* ---- the whole ---- */

static void release(struct restore *restore)
{
	for (unsigned i = 0; i < restore->pending_count; i++) {
		close(restore->pending[i].dir_fd);
		mem_free(restore->pending[i].path);
	}
	buf_release(&restore->piece);
	index_reader_close(restore->reader);
	mem_close_fd(&restore->root_fd);
	mem_close_fd(&restore->new_fd);
	mem_close_fd(&restore->links_fd);
}

/* A descriptor for each level of the tree, and for each name that is pending. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int open_dir_at(int dir_fd, const char *path, int *fd)
{
	if (mkdirat(dir_fd, path, 0700) < 0 && errno != EEXIST)
		return -errno;
	*fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *fd < 0 ? -errno : 0;
}

/* What an earlier run had not given its name; links that are not needed any more. */
static int clear(int dir_fd)
{
	int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = -errno;
		mem_close_fd(&fd);
		return r;
	}
	while (r == 0 && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && unlinkat(dir_fd, entry->d_name, 0) < 0)
			r = -errno;
	closedir(dir);
	return r;
}

static int begin(struct restore *restore)
{
	AUTO_FD work_fd = -1;
	struct index_totals totals;
	int r;

	raise_descriptors();
	restore->root_fd = open(restore->set->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (restore->root_fd < 0)
		return -errno;
	r = open_dir_at(restore->root_fd, restore->set->work, &work_fd);
	if (r == 0)
		r = open_dir_at(work_fd, "new", &restore->new_fd);
	if (r == 0)
		r = open_dir_at(work_fd, "links", &restore->links_fd);
	if (r == 0)
		r = clear(restore->new_fd);
	if (r == 0)
		r = buf_reserve(&restore->piece, MIB);
	if (r == 0)
		r = index_reader_open(restore->store->index, &restore->reader);
	index_totals(restore->store->index, &totals);
	restore->total_bytes = totals.bytes;
	return r;
}

static int restore_all(struct restore *restore)
{
	struct place root = {.fd = restore->root_fd,
			     .ino = INO_ROOT,
			     .path = "",
			     .other = restore->set->other ? INO_ROOT : 0};
	uint64_t made = 0;
	int r = index_get_inode(restore->store->index, restore->reader, INO_ROOT,
				&restore->result->root);

	if (r == 0)
		r = walk(restore, &root, &made);
	if (r == 0)
		r = restore_flush(restore);
	if (r == 0)
		r = clear(restore->links_fd); /* before one of them may not be removed: chattr +i */
	return r < 0 ? r : finish(restore, &root, &restore->result->root);
}

int restore_tree(struct store *store, const struct restore_settings *settings,
		 struct restore_result *result, struct buf *why)
{
	struct restore *restore = mem_alloc(sizeof(*restore));
	int r;

	if (!restore)
		return -ENOMEM;
	*result = (struct restore_result){0};
	restore->store = store;
	restore->set = settings;
	restore->result = result;
	restore->root_fd = restore->new_fd = restore->links_fd = -1;
	r = begin(restore);
	if (r == 0)
		r = restore_all(restore);
	if (r < 0)
		buf_printf(why, "%s: %s", settings->dir, err_sentence(r));
	release(restore);
	mem_free(restore);
	return r;
}

int restore_root_times(const char *dir, const struct inode_row *root)
{
	AUTO_FD fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : restore_times(fd, "", root);
}
