# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_store.a
lib_store_a_SOURCES = \
	src/store/acl.c \
	src/store/acl.h \
	src/store/applier.c \
	src/store/cache.h \
	src/store/check.c \
	src/store/chunk.c \
	src/store/chunk.h \
	src/store/dedup.c \
	src/store/dedup.h \
	src/store/inode.c \
	src/store/inode.h \
	src/store/journal.c \
	src/store/journal.h \
	src/store/journal_files.c \
	src/store/journal_files.h \
	src/store/journal_format.c \
	src/store/journal_format.h \
	src/store/journal_replay.c \
	src/store/names.c \
	src/store/names.h \
	src/store/names_attr.c \
	src/store/pack.c \
	src/store/pack.h \
	src/store/placement.h \
	src/store/policies.c \
	src/store/policies.h \
	src/store/policy.h \
	src/store/protection.c \
	src/store/reader.h \
	src/store/reclaim.c \
	src/store/reclaim.h \
	src/store/sequencer.c \
	src/store/sequencer.h \
	src/store/sequencer_private.h \
	src/store/spool.c \
	src/store/spool.h \
	src/store/spool_private.h \
	src/store/spool_recover.c \
	src/store/store.c \
	src/store/store.h \
	src/store/store_create.c \
	src/store/store_private.h \
	src/store/superblock_io.c \
	src/store/superblock_io.h \
	src/store/syncer.c \
	src/store/transfer.h \
	src/store/writer.c \
	src/store/writer.h \
	src/store/writer_codec.c \
	src/store/writer_commit.c \
	src/store/writer_private.h \
	src/store/writer_range.c \
	src/store/writer_run.c
