# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
UNIT_TESTS += bin/unit/store_copies
bin_unit_store_copies_SOURCES = \
	tests/fault/store_transfer.c \
	tests/lib/check.h \
	tests/lib/copies_world.c \
	tests/lib/copies_world.h \
	tests/fault/store_data.c \
	tests/lib/data_world.c \
	tests/lib/data_world.h \
	tests/property/store_placement.c \
	tests/unit/store_keeper.c \
	tests/unit/store_retention.c \
	tests/unit/store_policy.c
bin_unit_store_copies_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_store_copies_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)

# Scrub and repair, over everything in the room but the facade.
UNIT_TESTS += bin/unit/scrub
bin_unit_scrub_SOURCES = \
	tests/fault/store_scrub.c \
	tests/lib/check.h \
	tests/lib/copies_world.c \
	tests/lib/copies_world.h \
	tests/lib/data_world.c \
	tests/lib/data_world.h
bin_unit_scrub_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_scrub_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)

# The writer with fakes for all that it stands on.
UNIT_TESTS += bin/unit/store_writer
bin_unit_store_writer_SOURCES = tests/unit/store_writer.c
bin_unit_store_writer_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_store_writer_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)

# Bytes: pack, spool, dedup, chunk, cache, reader.
UNIT_TESTS += bin/unit/store_data
bin_unit_store_data_SOURCES = \
	tests/lib/check.h \
	tests/fault/store_data.c \
	tests/lib/data_world.c \
	tests/lib/data_world.h \
	tests/lib/pack_sample.h \
	tests/unit/store_cache.c \
	tests/unit/store_chunk.c \
	tests/unit/store_dedup.c \
	tests/unit/store_pack.c \
	tests/unit/store_reader.c \
	tests/unit/store_spool.c
bin_unit_store_data_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_store_data_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)
EXTRA_DIST += tests/golden/shard-1

FUZZ_TESTS += bin/fuzz/pack
bin_fuzz_pack_SOURCES = tests/fuzz/pack_fuzz.c $(FUZZ_MAIN)
bin_fuzz_pack_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_pack_LDADD = $(STORE_LIBS)
EXTRA_DIST += tests/fuzz/corpus/pack

# Journal and sequencer with a fake index in front of the real one.
JOURNAL_TEST_LIB = \
	tests/lib/fake_index.c \
	tests/lib/fake_index.h \
	tests/lib/journal_world.c \
	tests/lib/journal_world.h

UNIT_TESTS += bin/unit/journal
bin_unit_journal_SOURCES = \
	tests/unit/store_journal.c \
	tests/unit/store_sequencer.c \
	$(JOURNAL_TEST_LIB)
bin_unit_journal_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_journal_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)
EXTRA_DIST += tests/golden/journal-1

FUZZ_TESTS += bin/fuzz/journal
bin_fuzz_journal_SOURCES = tests/fuzz/journal_fuzz.c $(FUZZ_MAIN)
bin_fuzz_journal_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_journal_LDADD = $(STORE_LIBS)
EXTRA_DIST += tests/fuzz/corpus/journal

STRESS_TESTS += bin/stress/sequencer
bin_stress_sequencer_SOURCES = tests/stress/sequencer_stress.c $(JOURNAL_TEST_LIB)
bin_stress_sequencer_LDADD = $(STORE_LIBS)

STRESS_TESTS += bin/stress/dedup
bin_stress_dedup_SOURCES = tests/stress/dedup_stress.c
bin_stress_dedup_LDADD = $(STORE_LIBS)

STRESS_TESTS += bin/stress/spool
bin_stress_spool_SOURCES = tests/stress/spool_stress.c
bin_stress_spool_LDADD = $(STORE_LIBS)

STRESS_TESTS += bin/stress/transfer
bin_stress_transfer_SOURCES = \
	tests/lib/check.h \
	tests/lib/copies_world.c \
	tests/lib/copies_world.h \
	tests/lib/data_world.c \
	tests/lib/data_world.h \
	tests/stress/transfer_stress.c
bin_stress_transfer_LDADD = $(STORE_LIBS)

STRESS_TESTS += bin/stress/reader
bin_stress_reader_SOURCES = tests/stress/reader_stress.c
bin_stress_reader_LDADD = $(STORE_LIBS)

# A whole store on three directories.
UNIT_TESTS += bin/unit/store_names
bin_unit_store_names_SOURCES = \
	tests/lib/check.h \
	tests/lib/store_world.c \
	tests/lib/store_world.h \
	tests/unit/store_acl.c \
	tests/unit/store_clone.c \
	tests/unit/store_lock.c \
	tests/unit/store_names.c
bin_unit_store_names_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_store_names_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)

# Reclaiming, over everything in the room.
GC_TEST_LIB = \
	tests/lib/check.h \
	tests/lib/copies_world.c \
	tests/lib/copies_world.h \
	tests/lib/data_world.c \
	tests/lib/data_world.h \
	tests/lib/gc_world.c \
	tests/lib/gc_world.h \
	tests/lib/hooks.c \
	tests/lib/hooks.h

UNIT_TESTS += bin/unit/gc
bin_unit_gc_SOURCES = tests/unit/store_gc.c $(GC_TEST_LIB)
bin_unit_gc_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_gc_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)

STRESS_TESTS += bin/stress/reclaim
bin_stress_reclaim_SOURCES = \
	tests/lib/check.h \
	tests/lib/data_world.c \
	tests/lib/data_world.h \
	tests/stress/reclaim_stress.c
bin_stress_reclaim_LDADD = $(STORE_LIBS)

UNIT_TESTS += bin/unit/rewrite
bin_unit_rewrite_SOURCES = \
	tests/lib/check.h \
	tests/lib/hooks.c \
	tests/lib/hooks.h \
	tests/lib/store_world.c \
	tests/lib/store_world.h \
	tests/unit/store_rewrite.c
bin_unit_rewrite_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_rewrite_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)

STRESS_TESTS += bin/stress/rewrite
bin_stress_rewrite_SOURCES = \
	tests/lib/check.h \
	tests/lib/store_world.c \
	tests/lib/store_world.h \
	tests/stress/rewrite_stress.c
bin_stress_rewrite_LDADD = $(STORE_LIBS)

UNIT_TESTS += bin/unit/oplog
bin_unit_oplog_SOURCES = tests/unit/store_oplog.c
bin_unit_oplog_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_oplog_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)
EXTRA_DIST += tests/golden/oplog-segment-1 tests/golden/oplog-root-1 tests/golden/epoch-claim-1

FUZZ_TESTS += bin/fuzz/oplog
bin_fuzz_oplog_SOURCES = tests/fuzz/oplog_fuzz.c $(FUZZ_MAIN)
bin_fuzz_oplog_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_oplog_LDADD = $(STORE_LIBS)
EXTRA_DIST += tests/fuzz/corpus/oplog

# Policies that change, over a whole store.
UNIT_TESTS += bin/unit/converge
bin_unit_converge_SOURCES = \
	tests/lib/check.h \
	tests/lib/hooks.c \
	tests/lib/hooks.h \
	tests/lib/store_world.c \
	tests/lib/store_world.h \
	tests/unit/store_audit.c \
	tests/unit/store_converge.c
bin_unit_converge_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_converge_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)
