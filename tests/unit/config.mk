# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
UNIT_TESTS += bin/unit/config
bin_unit_config_SOURCES = \
	tests/unit/config_config.c \
	tests/unit/config_yaml.c
bin_unit_config_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_config_LDADD = $(CONFIG_LIBS) $(CRITERION_LIBS)

FUZZ_TESTS += bin/fuzz/config
bin_fuzz_config_SOURCES = tests/fuzz/config_fuzz.c $(FUZZ_MAIN)
bin_fuzz_config_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_config_LDADD = $(CONFIG_LIBS)
EXTRA_DIST += tests/fuzz/corpus/config
