# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_index.a
lib_index_a_SOURCES = \
	src/index/index.h \
	src/index/record.c \
	src/index/record.h \
	src/index/rows.c \
	src/index/rows.h
