# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_codec.a
lib_codec_a_SOURCES = \
	src/codec/chunker.c \
	src/codec/chunker.h \
	src/codec/compress.c \
	src/codec/compress.h \
	src/codec/erasure.c \
	src/codec/erasure.h
