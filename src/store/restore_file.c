/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INVARIANT: nothing has its final name that is not whole and durable.
 *
 *	work/new/N        made, filled, attributes set
 *	syncfs            for some hundred of them at once
 *	work/links/INO    another link of one that has more names: those are made from it
 *	its name          by rename: so what was there under that name goes in the same step
 *
 * A kill in between leaves files under work/new, which the next run removes.
 */
#include "store/restore_private.h"

#include "util/err.h"
#include "util/file.h"
#include "util/hook.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE_BYTES  ((size_t)MIB)
#define EXTENTS_PAGE 1000u

/* ---- what is there already ---- */

static bool is_target(int dir_fd, const char *name, struct restore *restore, uint64_t ino)
{
	char target[LINK_LEN_MAX + 1];
	ssize_t len = readlinkat(dir_fd, name, target, sizeof(target));
	AUTO(buf) wanted = BUF_INIT;

	return len >= 0 &&
	       index_get_symlink(restore->store->index, restore->reader, ino, &wanted) == 0 &&
	       bytes_equal(buf_bytes(&wanted), bytes_of(target, (size_t)len));
}

/* Made by an earlier run, or the same anyway.  A time without fractions: the file system has none.
 */
static bool is_whole(struct restore *restore, const struct restore_entry *entry, struct stat *st)
{
	const struct inode_row *row = entry->row;

	if (fstatat(entry->dir_fd, entry->name, st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (st->st_mode & S_IFMT) != (row->mode & S_IFMT) ||
	    st->st_mtim.tv_sec != row->mtime.sec ||
	    (st->st_mtim.tv_nsec != 0 && st->st_mtim.tv_nsec != row->mtime.nsec))
		return false;
	if (S_ISREG(row->mode))
		return (uint64_t)st->st_size == row->size;
	if (S_ISLNK(row->mode))
		return is_target(entry->dir_fd, entry->name, restore, row->ino);
	return (!S_ISCHR(row->mode) && !S_ISBLK(row->mode)) || st->st_rdev == row->rdev;
}

/* ---- bytes ---- */

static int write_data(struct restore *restore, int fd, const struct inode_row *row,
		      struct reader_stream *stream, uint64_t off, uint64_t len)
{
	while (len > 0) {
		size_t piece = MIN(len, (uint64_t)PIECE_BYTES);
		int r = HOOK("restore-write-before");

		reader_note_read(restore->store->reader, stream, row->ino, off, piece, row->size);
		if (r == 0)
			r = reader_read(restore->store->reader, restore->reader, row->ino, off,
					piece, restore->piece.ptr);
		restore->is_source_bad = r < 0;
		if (r == 0)
			r = file_pwrite(fd, bytes_of(restore->piece.ptr, piece), off);
		if (r < 0)
			return r;
		off += piece;
		len -= piece;
		restore->result->bytes += piece;
		if (restore->set->progress)
			restore->set->progress(restore->set->ctx, "restoring, bytes",
					       restore->done_bytes + off, restore->total_bytes);
	}
	return 0;
}

/* Space without bytes is kept where it can be; where there is no extent there stays a hole. */
static int write_extents(struct restore *restore, int fd, const struct inode_row *row,
			 struct reader_stream *stream, const struct extent_list *extents)
{
	uint64_t off = 0, len = 0;
	int r = 0;

	for (size_t i = 0; i < extents->count && r == 0; i++) {
		const struct extent_row *extent = &extents->rows[i];

		if (extent->chunk_no == 0) {
			(void)!fallocate(fd, 0, (off_t)extent->off, (off_t)extent->len);
			continue;
		}
		if (len > 0 && off + len == extent->off) {
			len += extent->len;
			continue;
		}
		r = write_data(restore, fd, row, stream, off, len);
		off = extent->off;
		len = extent->len;
	}
	return r < 0 ? r : write_data(restore, fd, row, stream, off, len);
}

static int fill(struct restore *restore, int fd, const struct inode_row *row)
{
	AUTO(extent_list) extents = ROW_LIST_INIT;
	struct reader_stream stream = {0};
	uint64_t at = 0;
	int r = 0;

	while (r == 0 && at < row->size) {
		extents.count = 0;
		r = index_find_extents(restore->store->index, restore->reader, row->ino, at,
				       row->size - at, EXTENTS_PAGE, &extents, &at);
		if (r == 0)
			r = write_extents(restore, fd, row, &stream, &extents);
	}
	if (r == 0 && ftruncate(fd, (off_t)row->size) < 0)
		r = -errno;
	return r;
}

/* ---- making one ---- */

static int make_file(struct restore *restore, const char *temporary, const struct inode_row *row)
{
	AUTO_FD fd =
		openat(restore->new_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fill(restore, fd, row);
}

static int make_symlink(struct restore *restore, const char *temporary, uint64_t ino)
{
	AUTO(buf) target = BUF_INIT;
	int r = index_get_symlink(restore->store->index, restore->reader, ino, &target);

	if (r == 0 && !buf_str(&target))
		r = -ENOMEM;
	if (r == 0 && symlinkat(buf_str(&target), restore->new_fd, temporary) < 0)
		r = -errno;
	return r;
}

static int make(struct restore *restore, const char *temporary, const struct inode_row *row)
{
	switch (row->mode & S_IFMT) {
	case S_IFREG:
		return make_file(restore, temporary, row);
	case S_IFLNK:
		return make_symlink(restore, temporary, row->ino);
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return mknodat(restore->new_fd, temporary, (row->mode & S_IFMT) | 0600,
			       (dev_t)row->rdev) < 0
			       ? -errno
			       : 0;
	default:
		return -EUCLEAN;
	}
}

static const char *explain(const struct restore *restore)
{
	return restore->is_source_bad
		       ? "cannot be had whole: no good copy of some of it can be reached"
		       : "cannot be made";
}

static int add_pending(struct restore *restore, const struct restore_entry *entry,
		       const char *temporary)
{
	struct restore_pending *pending = &restore->pending[restore->pending_count];
	AUTO_STR path = mem_strdup(entry->path);
	int fd = path ? fcntl(entry->dir_fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (fd < 0)
		return path ? -errno : -ENOMEM;
	pending->dir_fd = fd;
	pending->path = STEAL(path);
	snprintf(pending->name, sizeof(pending->name), "%s", entry->name);
	snprintf(pending->temporary, sizeof(pending->temporary), "%s", temporary);
	pending->ino = entry->row->nlink > 1 ? entry->row->ino : 0;
	restore->pending_count++;
	restore->pending_bytes += entry->row->size;
	if (restore->pending_count == RESTORE_PENDING_MAX ||
	    restore->pending_bytes >= RESTORE_PENDING_BYTES_MAX)
		return restore_flush(restore);
	return 0;
}

static void count(struct restore *restore, const struct inode_row *row)
{
	if (S_ISREG(row->mode))
		restore->result->files++;
	else
		restore->result->others++;
}

static int make_new(struct restore *restore, const struct restore_entry *entry)
{
	char temporary[24];
	int r;

	snprintf(temporary, sizeof(temporary), "%" PRIu64, restore->next_new++);
	restore->is_source_bad = false;
	r = make(restore, temporary, entry->row);
	if (r < 0) {
		unlinkat(restore->new_fd, temporary, 0);
		return restore_failed(restore, entry->path, explain(restore), r);
	}
	restore_attributes(restore, restore->new_fd, temporary, entry->path, entry->row);
	count(restore, entry->row);
	return add_pending(restore, entry, temporary);
}

/* ---- more names of one ---- */

static const char *link_name(uint64_t ino, char out[24])
{
	snprintf(out, 24, "%" PRIx64, ino);
	return out;
}

/*
 * Where other names find it.  On a file system without hard links, or with too many of them, each
 * name becomes a file of its own.
 */
static int keep_link(struct restore *restore, uint64_t ino, int dir_fd, const char *name)
{
	char link[24];
	int r = 0;

	link_name(ino, link);
	if (linkat(dir_fd, name, restore->links_fd, link, 0) < 0)
		r = -errno;
	/* an earlier run may have made it immutable; its flags are set again in the end */
	if (r == -EPERM && restore_flags(dir_fd, name, 0) == 0 &&
	    linkat(dir_fd, name, restore->links_fd, link, 0) == 0)
		return 0;
	if (r == 0 || r == -EEXIST)
		return 0;
	if (r != -EPERM && r != -EOPNOTSUPP && r != -EMLINK)
		return r;
	restore_incomplete(restore, name, "other names: they become copies", r);
	return 0;
}

static bool is_pending(const struct restore *restore, uint64_t ino)
{
	for (unsigned i = 0; i < restore->pending_count; i++)
		if (restore->pending[i].ino == ino)
			return true;
	return false;
}

/* 0: the name is there; 1: there is nothing yet to link to. */
static int make_link(struct restore *restore, const struct restore_entry *entry)
{
	struct stat first, here;
	char link[24], temporary[24];

	if (is_pending(restore, entry->row->ino)) {
		int r = restore_flush(restore);

		if (r < 0)
			return r;
	}
	if (fstatat(restore->links_fd, link_name(entry->row->ino, link), &first,
		    AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 1 : -errno;
	if (fstatat(entry->dir_fd, entry->name, &here, AT_SYMLINK_NOFOLLOW) == 0 &&
	    here.st_ino == first.st_ino && here.st_dev == first.st_dev) {
		restore->result->kept++;
		count(restore, entry->row);
		return 0;
	}
	snprintf(temporary, sizeof(temporary), "%" PRIu64, restore->next_new++);
	if (linkat(restore->links_fd, link, restore->new_fd, temporary, 0) < 0 ||
	    renameat(restore->new_fd, temporary, entry->dir_fd, entry->name) < 0) {
		int r = -errno;

		unlinkat(restore->new_fd, temporary, 0);
		return restore_failed(restore, entry->path, "the hard link cannot be made", r);
	}
	count(restore, entry->row);
	return 0;
}

int restore_entry(struct restore *restore, const struct restore_entry *entry)
{
	struct stat st;
	int r = 1;

	if (entry->row->nlink > 1)
		r = make_link(restore, entry);
	if (r > 0 && is_whole(restore, entry, &st)) {
		r = entry->row->nlink > 1
			    ? keep_link(restore, entry->row->ino, entry->dir_fd, entry->name)
			    : 0;
		restore->result->kept++;
		count(restore, entry->row);
	} else if (r > 0) {
		r = make_new(restore, entry);
	}
	restore->has_flags |= (entry->row->flags & (INODE_IMMUTABLE | INODE_APPEND | INODE_NODUMP |
						    INODE_NOATIME)) != 0;
	if (S_ISREG(entry->row->mode))
		restore->done_bytes += entry->row->size;
	return r;
}

/* ---- names ---- */

static int give_name(struct restore *restore, const struct restore_pending *pending)
{
	int r = HOOK("restore-name-before");

	if (r == 0 && pending->ino)
		r = keep_link(restore, pending->ino, restore->new_fd, pending->temporary);
	if (r == 0 &&
	    renameat(restore->new_fd, pending->temporary, pending->dir_fd, pending->name) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(restore->new_fd, pending->temporary, 0);
		return restore_failed(restore, pending->path, "cannot get its name", r);
	}
	return HOOK("restore-name-after");
}

int restore_flush(struct restore *restore)
{
	int r = 0;

	if (restore->pending_count > 0 && syncfs(restore->new_fd) < 0)
		r = -errno;
	for (unsigned i = 0; i < restore->pending_count; i++) {
		if (r == 0)
			r = give_name(restore, &restore->pending[i]);
		close(restore->pending[i].dir_fd);
		mem_free(restore->pending[i].path);
	}
	restore->pending_count = 0;
	restore->pending_bytes = 0;
	return r;
}
