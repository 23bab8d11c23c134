# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
UNIT_TESTS += bin/unit/index
bin_unit_index_SOURCES = \
	tests/lib/hex.h \
	tests/lib/index_model.c \
	tests/lib/index_model.h \
	tests/lib/rng.h \
	tests/property/index_model.c \
	tests/unit/index_engine.c \
	tests/unit/index_overlay.c \
	tests/unit/index_record.c
bin_unit_index_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_index_LDADD = $(INDEX_LIBS) $(CRITERION_LIBS)
EXTRA_DIST += tests/golden/record-1

FUZZ_TESTS += bin/fuzz/record
bin_fuzz_record_SOURCES = tests/fuzz/record_fuzz.c $(FUZZ_MAIN)
bin_fuzz_record_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_record_LDADD = $(INDEX_LIBS)
EXTRA_DIST += tests/fuzz/corpus/record

STRESS_TESTS += bin/stress/index
bin_stress_index_SOURCES = tests/stress/index.c
bin_stress_index_LDADD = $(INDEX_LIBS)
