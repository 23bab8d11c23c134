# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
UNIT_TESTS += bin/unit/index
bin_unit_index_SOURCES = \
	tests/lib/index_model.c \
	tests/lib/index_model.h \
	tests/lib/rng.h \
	tests/property/index_model.c
bin_unit_index_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_index_LDADD = $(INDEX_LIBS) $(CRITERION_LIBS)
