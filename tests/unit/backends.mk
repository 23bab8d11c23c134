# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
BACKEND_TEST_LIB = \
	tests/lib/backend_conformance.c \
	tests/lib/backend_conformance.h \
	tests/lib/backend_open.c \
	tests/lib/backend_open.h

UNIT_TESTS += bin/unit/backends
bin_unit_backends_SOURCES = \
	tests/fault/backend_dir.c \
	tests/unit/backend_conformance.c \
	tests/unit/backend_open.c \
	tests/unit/backend_wrap.c \
	$(BACKEND_TEST_LIB)
bin_unit_backends_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_backends_LDADD = $(BACKENDS_LIBS) $(CRITERION_LIBS)

FUZZ_TESTS += bin/fuzz/backend_text
bin_fuzz_backend_text_SOURCES = tests/fuzz/backend_text_fuzz.c $(FUZZ_MAIN)
bin_fuzz_backend_text_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_backend_text_LDADD = $(BACKENDS_LIBS)
EXTRA_DIST += tests/fuzz/corpus/backend_text

STRESS_TESTS += bin/stress/backends
bin_stress_backends_SOURCES = tests/stress/backends.c $(BACKEND_TEST_LIB)
bin_stress_backends_LDADD = $(BACKENDS_LIBS)
