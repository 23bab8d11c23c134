# SPDX-License-Identifier: Apache-2.0
#
# The pattern of every room.  Its owner lists sources and headers here, one a
# line, in alphabetical order (headers too: `make dist` packs what is listed).
# An archive without sources yet is empty, and that links.
#
# - Includes are by full path from the top: "util/buf.h", "backends/dir.h",
#   "fs/session.h".  config.h is there without an include.
# - A new system library: PKG_CHECK_MODULES in configure.ac, its _CFLAGS in
#   AM_CPPFLAGS and its _LIBS in ROOM_SYSLIBS of Makefile.am.
# - Programs (fs, tools): see src/tools/local.mk.
# - Tests of the room: tests/unit/util.mk.
noinst_LIBRARIES += lib_util.a
lib_util_a_SOURCES = \
	src/util/buf.c \
	src/util/buf.h \
	src/util/clock.c \
	src/util/clock.h \
	src/util/counter.c \
	src/util/counter.h \
	src/util/err.c \
	src/util/err.h \
	src/util/file.c \
	src/util/file.h \
	src/util/hook.c \
	src/util/hook.h \
	src/util/list.h \
	src/util/lock.c \
	src/util/lock.h \
	src/util/log.c \
	src/util/log.h \
	src/util/map.c \
	src/util/map.h \
	src/util/mem.c \
	src/util/mem.h \
	src/util/notify.c \
	src/util/notify.h \
	src/util/option.c \
	src/util/option.h \
	src/util/pending.c \
	src/util/pending.h \
	src/util/queue.c \
	src/util/queue.h \
	src/util/tree.c \
	src/util/tree.h \
	src/util/units.c \
	src/util/units.h \
	src/util/waiter.h \
	src/util/wire.c \
	src/util/wire.h
