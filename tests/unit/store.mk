# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
UNIT_TESTS += bin/unit/store_copies
bin_unit_store_copies_SOURCES = \
	tests/property/store_placement.c \
	tests/unit/store_policy.c
bin_unit_store_copies_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_store_copies_LDADD = $(STORE_LIBS) $(CRITERION_LIBS)
