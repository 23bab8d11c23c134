# SPDX-License-Identifier: Apache-2.0
# How tests are built and run.  The tests are named in tests/unit/ROOM.mk.
UNIT_CPPFLAGS = $(AM_CPPFLAGS) $(CRITERION_CFLAGS)
if FUZZ
FUZZ_MAIN =
else
FUZZ_MAIN = tests/fuzz/driver.c
endif

include tests/unit/util.mk
include tests/unit/crypto.mk
include tests/unit/codec.mk
include tests/unit/config.mk
include tests/unit/backends.mk
include tests/unit/index.mk
include tests/unit/store.mk
include tests/unit/ctl.mk
include tests/unit/fs.mk
include tests/unit/tools.mk

SCRIPT_TESTS += tests/lib/check-layers.sh tests/lib/check-man.sh tests/lib/check-reliability.sh

check_PROGRAMS = $(STRESS_TESTS)
TESTS = $(STRESS_TESTS)
# ThreadSanitizer cannot start under Criterion.
if !TSAN
check_PROGRAMS += $(FUZZ_TESTS)
TESTS += $(SCRIPT_TESTS) $(FUZZ_TESTS)
if HAVE_CRITERION
check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS)
endif
endif

AM_TESTS_ENVIRONMENT = \
	SHARDFS_SRCDIR='$(abs_top_srcdir)'; export SHARDFS_SRCDIR; \
	SHARDFS_BUILDDIR='$(abs_top_builddir)'; export SHARDFS_BUILDDIR; \
	MANDOC='$(MANDOC)'; export MANDOC;
TEST_EXTENSIONS = .sh
LOG_COMPILER = $(top_srcdir)/tests/lib/run-test.sh
SH_LOG_COMPILER = $(top_srcdir)/tests/lib/run-test.sh

EXTRA_DIST += tests/lib/run-test.sh $(SCRIPT_TESTS) tests/fuzz/driver.c

# Programs of the tests on real mounts: built with the rest, since `./check e2e` runs those without
# `make check`.
noinst_PROGRAMS += bin/e2e/crash_oracle
bin_e2e_crash_oracle_SOURCES = tests/lib/crash_oracle.c tests/lib/rng.h
bin_e2e_crash_oracle_LDADD = $(UTIL_LIBS)

noinst_PROGRAMS += bin/e2e/sequences
bin_e2e_sequences_SOURCES = tests/lib/sequences.c tests/lib/rng.h
bin_e2e_sequences_LDADD = $(UTIL_LIBS)
noinst_PROGRAMS += bin/e2e/powerfs
bin_e2e_powerfs_SOURCES = tests/lib/powerfs.c tests/lib/power_disk.c tests/lib/power_disk.h \
	tests/lib/rng.h
bin_e2e_powerfs_LDADD = $(UTIL_LIBS) $(FUSE_LIBS)

# Long versions of what ./check runs for a minute.
crash-test: all
	SHARDFS_LONG=1 SHARDFS_BUILDDIR='$(abs_top_builddir)' $(top_srcdir)/tests/e2e/run.sh \
		crash power sequences replay
outage-test: all
	SHARDFS_BUILDDIR='$(abs_top_builddir)' $(top_srcdir)/tests/e2e/outage.sh --long
.PHONY: crash-test outage-test
