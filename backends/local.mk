# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_backends.a
lib_backends_a_SOURCES = \
	backends/backend.c \
	backends/backend.h \
	backends/dir.c \
	backends/dir.h \
	backends/dir_enter.c \
	backends/dir_init.c \
	backends/dir_list.c \
	backends/dir_object.c \
	backends/marker.c \
	backends/marker.h \
	backends/memory.c \
	backends/memory.h \
	backends/stack.c \
	backends/stack.h \
	backends/wrap_fault.c \
	backends/wrap_fault.h \
	backends/wrap_limit.c \
	backends/wrap_limit.h \
	backends/wrap_retry.c \
	backends/wrap_retry.h \
	backends/wrap_stats.c \
	backends/wrap_stats.h
