# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
UNIT_TESTS += bin/unit/codec
bin_unit_codec_SOURCES = \
	tests/unit/codec_chunker.c \
	tests/unit/codec_compress.c \
	tests/unit/codec_erasure.c
bin_unit_codec_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_codec_LDADD = $(CODEC_LIBS) $(CRITERION_LIBS)

FUZZ_TESTS += bin/fuzz/unpack
bin_fuzz_unpack_SOURCES = tests/fuzz/unpack_fuzz.c $(FUZZ_MAIN)
bin_fuzz_unpack_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_unpack_LDADD = $(CODEC_LIBS)
EXTRA_DIST += tests/fuzz/corpus/unpack
