/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARDFS_TESTS_JOURNAL_WORLD_H
#define SHARDFS_TESTS_JOURNAL_WORLD_H

/*
 * A directory, keys, and records that say what they are: record n carries the
 * number n, so that whoever reads it back can tell.
 *
 * Any failure of the world itself ends the program with a message.
 */
#include "crypto/keyring.h"
#include "index/record.h"
#include "store/journal.h"

struct journal_world {
	char dir[256];
	struct keyring *keyring;
	struct journal_settings settings;
};

void journal_world_init(struct journal_world *world);
void journal_world_release(struct journal_world *world); /* removes the directory's files */

/* A record that carries `tag` and `filler` further bytes; seq as given. */
struct record *tagged_record(uint64_t seq, uint64_t tag, size_t filler);
/* The tag of a record made by tagged_record; 0: it is not one, or is damaged. */
uint64_t record_tag(const struct record *record);

/* Appends records first .. last (each tagged with its number) in one frame. */
int journal_world_append(struct journal *journal, uint64_t first, uint64_t last);

/*
 * Replays and checks that the records are after+1, after+2, ... with their own
 * tags.  Returns what journal_replay did; fills info on success.
 */
struct replay_seen {
	uint64_t last_seq, count, synced_count;
	bool is_wrong;     /* a record out of order or not itself */
	uint64_t end_at;   /* in: apply says 1 at this number; 0: never */
};
int journal_world_replay(struct journal_world *world, uint64_t after, struct replay_seen *seen,
			 struct journal_replay_info *info);

/* The files of the directory by number; name and whole content. */
size_t journal_world_files(struct journal_world *world, char names[][64], size_t max);
void journal_world_read(struct journal_world *world, const char *name, struct buf *out);
void journal_world_write(struct journal_world *world, const char *name, struct bytes content);
void journal_world_remove(struct journal_world *world, const char *name);

/* Replaces the rules of util/hook.h (tests with SHARDFS_TEST_HOOKS). */
void hooks_set(const char *rules);

#endif
