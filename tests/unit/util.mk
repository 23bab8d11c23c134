# SPDX-License-Identifier: Apache-2.0
#
# The pattern of every room's tests.  One program for each room holds all its
# unit tests, a source tests/unit/ROOM_THING.c for each thing, Criterion suite
# `ROOM_THING` or `THING`.  Property and fault tests of the room are sources of
# the same kind under tests/property/ and tests/fault/ and go in here too.
#
#	UNIT_TESTS += bin/unit/util
#	bin_unit_util_SOURCES = tests/unit/util_buf.c ...
#	bin_unit_util_CPPFLAGS = $(UNIT_CPPFLAGS)
#	bin_unit_util_LDADD = $(UTIL_LIBS) $(CRITERION_LIBS)
#
# Room NAME links $(NAME_LIBS): itself and the rooms beneath.  Helpers shared
# by rooms are sources in tests/lib/.
#
# A fuzz target is LLVMFuzzerTestOneInput() in tests/fuzz/THING_fuzz.c; its
# corpus tests/fuzz/corpus/THING/ is run by `make check` in every build:
#
#	FUZZ_TESTS += bin/fuzz/wire
#	bin_fuzz_wire_SOURCES = tests/fuzz/wire_fuzz.c $(FUZZ_MAIN)
#	bin_fuzz_wire_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
#	bin_fuzz_wire_LDADD = $(UTIL_LIBS)
#	EXTRA_DIST += tests/fuzz/corpus/wire
#
# A stress program has a plain main() in tests/stress/THING.c and runs under
# ThreadSanitizer as well (10 s at most):
#
#	STRESS_TESTS += bin/stress/queue
#	bin_stress_queue_SOURCES = tests/stress/queue.c
#	bin_stress_queue_LDADD = $(UTIL_LIBS)
#
# A test finds its files under the directory $SHARDFS_SRCDIR and writes below
# $TMPDIR, which is its own and removed afterwards.
UNIT_TESTS += bin/unit/util
bin_unit_util_SOURCES = \
	tests/lib/rng.h \
	tests/unit/util_buf.c \
	tests/unit/util_clock.c \
	tests/unit/util_counter.c \
	tests/unit/util_err.c \
	tests/unit/util_file.c \
	tests/unit/util_hook.c \
	tests/unit/util_list.c \
	tests/unit/util_lock.c \
	tests/unit/util_log.c \
	tests/unit/util_map.c \
	tests/unit/util_mem.c \
	tests/unit/util_notify.c \
	tests/unit/util_option.c \
	tests/unit/util_queue.c \
	tests/unit/util_tree.c \
	tests/unit/util_units.c \
	tests/unit/util_wire.c
bin_unit_util_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_util_LDADD = $(UTIL_LIBS) $(CRITERION_LIBS)

FUZZ_TESTS += bin/fuzz/units bin/fuzz/wire
bin_fuzz_units_SOURCES = tests/fuzz/units_fuzz.c $(FUZZ_MAIN)
bin_fuzz_units_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_units_LDADD = $(UTIL_LIBS)
bin_fuzz_wire_SOURCES = tests/fuzz/wire_fuzz.c $(FUZZ_MAIN)
bin_fuzz_wire_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_wire_LDADD = $(UTIL_LIBS)
EXTRA_DIST += tests/fuzz/corpus/units tests/fuzz/corpus/wire

STRESS_TESTS += bin/stress/queue
bin_stress_queue_SOURCES = tests/stress/queue.c
bin_stress_queue_LDADD = $(UTIL_LIBS)
