/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_INDEX_MODEL_H
#define SHARDFS_TESTS_INDEX_MODEL_H

/*
 * A naive model of what the index holds: arrays, and files of at most
 * MODEL_CELLS bytes, each byte a cell.  It makes random records that a file
 * system could make, and knows what every read must answer afterwards.
 */

#include "index/index.h"
#include "tests/lib/rng.h"

#define MODEL_CELLS     96
#define MODEL_INOS      400
#define MODEL_DIRENTS   800
#define MODEL_CHUNKS    2000
#define MODEL_SHARDS    200
#define MODEL_NAMES     24 /* in each directory */
#define MODEL_XATTRS    4
#define MODEL_PROVIDERS 3
#define MODEL_SNAPSHOTS 40

struct model_cell {
	bool is_there;
	uint64_t chunk_no;
	uint32_t chunk_off;
};

struct model_inode {
	bool exists;
	struct inode_row row;
	struct model_cell cells[MODEL_CELLS];
	int xattrs[MODEL_XATTRS]; /* value; -1: none */
	int target;               /* of a symlink */
};

struct model_dirent {
	bool exists;
	struct dirent_row row;
};

/* What a snapshot shows. */
struct model_past {
	struct model_inode inodes[MODEL_INOS];
	struct model_dirent dirents[MODEL_DIRENTS];
	uint64_t highest_ino, highest_cookie, seq;
};

struct model {
	struct rng rng;
	uint64_t seq; /* of the last step */
	struct index_highest highest;
	struct model_inode inodes[MODEL_INOS];
	struct model_dirent dirents[MODEL_DIRENTS]; /* at cookie */
	struct {
		bool exists;
		struct chunk_row row;
		uint64_t del_seq; /* of the last CHUNK_DEL: until applied, either answer will do */
	} chunks[MODEL_CHUNKS];
	struct {
		bool exists;
		struct shard_row row;
		uint32_t copies[MODEL_PROVIDERS + 1]; /* state; 0: none */
	} shards[MODEL_SHARDS];
	bool snapshots[MODEL_SNAPSHOTS];
	struct model_past *pasts[MODEL_SNAPSHOTS]; /* of those that can be read; owned */
	uint64_t made_snapshot;	  /* by the step in hand; 0: none */
	uint64_t view;		  /* the snapshot that this is a model of; 0: of what is now */
	bool is_restored;	  /* births are rounded up */
	int policies[MODEL_INOS]; /* version; 0: none */
	uint64_t audit_first, audit_last; /* numbers of entries that are there; first > last: none */
	int setting;
	uint64_t made_directory; /* by the last step; 0: none */
};

void model_init(struct model *model, uint64_t seed, const struct inode_row *root);
void model_release(struct model *model);
/* The next random record, which the model has applied to itself; NULL: it is full. */
struct record *model_step(struct model *model);
/* Names, inodes and what belongs to them, now and in each snapshot. */
void model_compare_tree(const struct model *model, struct index *index,
			struct index_reader *reader);
/* Compares every answer of the index; without a reader -EAGAIN is an answer too. */
void model_compare(const struct model *model, struct index *index, struct index_reader *reader);

#endif
