/* SPDX-License-Identifier: Apache-2.0 */
/* Open files, in a list so that an aborted session can let go of their inodes. */
#include "fs/handle.h"

#include "store/store.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>

static struct session_part *part_of(struct session *session, const struct handle *handle)
{
	return &session->parts[((uintptr_t)handle >> 6) % SESSION_PARTS];
}

int handle_new(struct session *session, struct inode *inode, int flags, struct handle **out)
{
	struct handle *handle = mem_alloc(sizeof(*handle));
	struct session_part *part;

	if (!handle)
		return -ENOMEM;
	handle->inode = inode;
	handle->is_writer = (flags & O_ACCMODE) != O_RDONLY;
	lock_init(&handle->lock, LOCK_LEAF);
	inode_ref(inode, 1);
	lock_take(&inode->lock);
	inode->open_count++;
	inode->write_open_count += handle->is_writer;
	lock_drop(&inode->lock);
	part = part_of(session, handle);
	lock_take(&part->lock);
	list_push_back(&part->handles, &handle->link);
	lock_drop(&part->lock);
	*out = handle;
	return 0;
}

void handle_free(struct session *session, struct handle *handle)
{
	struct session_part *part = part_of(session, handle);
	struct inode *inode = handle->inode;

	lock_take(&part->lock);
	list_remove(&handle->link);
	lock_drop(&part->lock);
	lock_take(&inode->lock);
	inode->open_count--;
	inode->write_open_count -= handle->is_writer;
	lock_drop(&inode->lock);
	inode_unref(session->store->inodes, inode, 1);
	lock_release(&handle->lock);
	mem_free(handle);
}

/* The reader decides outside our lock; of two reads at once one is forgotten, which is harmless. */
void handle_note_read(struct session *session, struct handle *handle, uint64_t off, size_t len)
{
	struct inode *inode = handle->inode;
	struct reader_stream stream;
	uint64_t size;

	lock_take(&inode->lock);
	size = inode->size;
	lock_drop(&inode->lock);
	lock_take(&handle->lock);
	stream = handle->stream;
	lock_drop(&handle->lock);
	reader_note_read(session->store->reader, &stream, inode->row.ino, off, len, size);
	lock_take(&handle->lock);
	handle->stream = stream;
	lock_drop(&handle->lock);
}

/* Locks one part at a time: a file opened meanwhile may be missed. */
int handle_list_written(struct session *session, struct inode ***out, size_t *count)
{
	struct inode **list = NULL;
	size_t filled = 0, room = 0;

	for (unsigned i = 0; i < SESSION_PARTS; i++) {
		struct session_part *part = &session->parts[i];

		LOCK_SCOPE(&part->lock);
		list_for_each(at, &part->handles) {
			struct handle *handle = list_entry(at, struct handle, link);

			if (!handle->is_writer)
				continue;
			if (filled == room) {
				size_t more = room ? room * 2 : 64;
				struct inode **grown = mem_realloc_array(list, more, sizeof(*grown));

				if (!grown) {
					for (size_t k = 0; k < filled; k++)
						inode_unref(session->store->inodes, list[k], 1);
					mem_free(list);
					return -ENOMEM;
				}
				list = grown;
				room = more;
			}
			inode_ref(handle->inode, 1);
			list[filled++] = handle->inode;
		}
	}
	*out = list;
	*count = filled;
	return 0;
}

void handle_free_all(struct session *session)
{
	for (unsigned i = 0; i < SESSION_PARTS; i++) {
		struct list *head = &session->parts[i].handles;

		while (!list_is_empty(head))
			handle_free(session, list_entry(head->next, struct handle, link));
	}
}
