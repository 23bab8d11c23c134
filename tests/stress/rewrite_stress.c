/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files are overwritten, truncated, punched and cloned at random while their ranges are rewritten,
 * dead chunks deleted and shards repacked: every read gives what the model has, and so does the
 * next process.
 */
#include "store/rewrite.h"
#include "store/store.h"
#include "tests/lib/check.h"
#include "tests/lib/store_world.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define WRITERS 3u
#define ROUNDS	150u
#define SIZE	((uint64_t)2 * MIB)
#define LEN_MAX 60000u

static struct store_world world;
static _Atomic unsigned writing;
static _Atomic bool has_reclaimed; /* something was deleted meanwhile */

struct model {
	struct inode *inode;
	uint64_t size;
	uint8_t content[SIZE];
};

struct writer_arg {
	pthread_t thread;
	struct index_reader *reader;
	struct model file, clone;
	uint64_t state, ino;
};

static unsigned draw(struct writer_arg *self, unsigned below)
{
	self->state = self->state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(self->state >> 33) % below;
}

static void touch(void *ctx, struct inode_row *row)
{
	(void)ctx;
	(void)row;
}

static void write_some(struct writer_arg *self, struct model *model)
{
	uint64_t off = draw(self, (unsigned)SIZE - LEN_MAX);
	size_t len = 1 + draw(self, draw(self, 4) ? 4096 : LEN_MAX);

	for (size_t i = 0; i < len; i++)
		model->content[off + i] = (uint8_t)draw(self, 256);
	model->size = MAX(model->size, off + len);
	store_world_write(&world, model->inode, off, bytes_of(model->content + off, len));
}

static void check(struct writer_arg *self, struct model *model)
{
	static __thread uint8_t got[SIZE];
	size_t len = 0;

	cr_assert_eq(writer_read(world.store->writer, model->inode, self->reader, 0, SIZE, got,
				 &len), 0);
	cr_assert_eq(len, model->size);
	cr_assert_eq(memcmp(got, model->content, len), 0);
}

static void cut(struct model *model, uint64_t size)
{
	store_world_push(&world, model->inode);
	cr_assert_eq(writer_set_size(world.store->writer, model->inode, size, touch, NULL), 0);
	if (size < model->size)
		memset(model->content + size, 0, model->size - size);
	model->size = size;
}

static void punch(struct writer_arg *self, struct model *model, uint64_t off, uint64_t len)
{
	store_world_push(&world, model->inode);
	cr_assert_eq(writer_zero(world.store->writer, model->inode, self->reader, off, len, true,
				 true, touch, NULL), 0);
	memset(model->content + off, 0, len);
}

static void clone_all(struct writer_arg *self)
{
	uint64_t off = 0, copied = 1;

	cut(&self->clone, 0);
	store_world_push(&world, self->file.inode);
	while (off < self->file.size && copied > 0) {
		cr_assert_eq(writer_clone(world.store->writer, self->file.inode, off,
					  self->clone.inode, off, self->file.size - off,
					  self->reader, touch, NULL, &copied), 0);
		off += copied;
	}
	memcpy(self->clone.content, self->file.content, SIZE);
	self->clone.size = self->file.size;
}

static void *writer_main(void *arg)
{
	struct writer_arg *self = arg;

	for (unsigned i = 0; i < ROUNDS || (!has_reclaimed && i < 100 * ROUNDS); i++) {
		unsigned what = draw(self, 20);

		for (unsigned k = 0; k < 10; k++) {
			write_some(self, &self->file);
			if (draw(self, 2))
				store_world_push(&world, self->file.inode);
		}
		if (what == 0)
			cut(&self->file, draw(self, (unsigned)SIZE));
		else if (what < 3)
			punch(self, &self->file, draw(self, (unsigned)SIZE / 2), 100000);
		else if (what < 6)
			clone_all(self);
		else if (what < 9)
			write_some(self, &self->clone);
		if (what % 2)
			check(self, what % 4 == 1 ? &self->file : &self->clone);
	}
	store_world_push(&world, self->file.inode);
	store_world_push(&world, self->clone.inode);
	atomic_fetch_sub(&writing, 1);
	return NULL;
}

static void found(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "index: %s\n", text);
}

int main(void)
{
	static struct writer_arg args[WRITERS];
	struct gc_report report, sum = {0};
	uint64_t violations;

	store_world_init(&world);
	for (unsigned i = 0; i < WRITERS; i++) {
		char name[2] = {(char)('a' + i), 0}, clone_name[2] = {(char)('A' + i), 0};

		args[i].state = i + 1;
		args[i].file.inode = store_world_file(&world, name);
		args[i].clone.inode = store_world_file(&world, clone_name);
		args[i].ino = args[i].file.inode->row.ino;
		cr_assert_eq(index_reader_open(world.store->index, &args[i].reader), 0);
	}
	atomic_store(&writing, WRITERS);
	for (unsigned i = 0; i < WRITERS; i++)
		cr_assert_eq(pthread_create(&args[i].thread, NULL, writer_main, &args[i]), 0);
	while (atomic_load(&writing) > 0) {
		cr_assert_eq(store_reclaim(world.store, &report), 0);
		sum.chunks_deleted += report.chunks_deleted;
		sum.chunks_moved += report.chunks_moved;
		sum.shards_condemned += report.shards_condemned;
		has_reclaimed = sum.chunks_deleted > 0;
	}
	printf("rewrite_stress: %llu chunks deleted, %llu moved, %llu shards condemned meanwhile\n",
	       (unsigned long long)sum.chunks_deleted, (unsigned long long)sum.chunks_moved,
	       (unsigned long long)sum.shards_condemned);
	cr_assert(sum.chunks_deleted > 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(args[i].thread, NULL);
		check(&args[i], &args[i].file);
		check(&args[i], &args[i].clone);
	}
	cr_assert_eq(store_check(world.store, true, found, NULL, &violations), 0);
	cr_assert_eq(violations, 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		index_reader_close(args[i].reader);
		inode_unref(world.store->inodes, args[i].file.inode, 1);
		inode_unref(world.store->inodes, args[i].clone.inode, 1);
	}
	store_world_reopen(&world);
	for (unsigned i = 0; i < WRITERS; i++) {
		cr_assert_eq(index_reader_open(world.store->index, &args[i].reader), 0);
		cr_assert_eq(inode_load(world.store->inodes, world.store->index, args[i].reader,
					args[i].ino, &args[i].file.inode), 0);
		check(&args[i], &args[i].file);
		inode_unref(world.store->inodes, args[i].file.inode, 1);
		index_reader_close(args[i].reader);
	}
	store_world_release(&world);
	return 0;
}
