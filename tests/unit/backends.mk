# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
BACKEND_TEST_LIB = \
	tests/lib/backend_conformance.c \
	tests/lib/backend_conformance.h \
	tests/lib/backend_open.c \
	tests/lib/backend_open.h

UNIT_TESTS += bin/unit/backends
bin_unit_backends_SOURCES = \
	tests/unit/backend_conformance.c \
	$(BACKEND_TEST_LIB)
bin_unit_backends_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_backends_LDADD = $(BACKENDS_LIBS) $(CRITERION_LIBS)
