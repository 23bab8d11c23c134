# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
UNIT_TESTS += bin/unit/store_copies
bin_unit_store_copies_SOURCES = \
	tests/property/store_placement.c \
	tests/unit/store_policy.c
bin_unit_store_copies_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_store_copies_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)

# Bytes: pack, spool, dedup, chunk, cache, reader.
UNIT_TESTS += bin/unit/store_data
bin_unit_store_data_SOURCES = \
	tests/lib/pack_sample.h \
	tests/unit/store_pack.c
bin_unit_store_data_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_store_data_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)
EXTRA_DIST += tests/golden/shard-1

FUZZ_TESTS += bin/fuzz/pack
bin_fuzz_pack_SOURCES = tests/fuzz/pack_fuzz.c $(FUZZ_MAIN)
bin_fuzz_pack_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_pack_LDADD = $(STORE_LIBS)
EXTRA_DIST += tests/fuzz/corpus/pack
