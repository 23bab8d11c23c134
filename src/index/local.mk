# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_index.a
lib_index_a_SOURCES = \
	src/index/apply.c \
	src/index/apply.h \
	src/index/apply_counters.c \
	src/index/apply_data.c \
	src/index/apply_impl.h \
	src/index/apply_rows.c \
	src/index/apply_snapshot.c \
	src/index/copy_pack.c \
	src/index/copy_pack.h \
	src/index/engine.h \
	src/index/index.c \
	src/index/index.h \
	src/index/index_impl.h \
	src/index/index_objects.c \
	src/index/index_small.c \
	src/index/overlay.c \
	src/index/overlay.h \
	src/index/overlay_impl.h \
	src/index/overlay_make.c \
	src/index/overlay_read.c \
	src/index/overlay_read_objects.c \
	src/index/record.c \
	src/index/record.h \
	src/index/rows.c \
	src/index/rows.h \
	src/index/sqlite.c \
	src/index/sqlite.h \
	src/index/sqlite_dump.c \
	src/index/sqlite_prove.c \
	src/index/sqlite_read.c \
	src/index/sqlite_read_small.c \
	src/index/sqlite_view.c \
	src/index/view.c \
	src/index/sqlite_write.c
nodist_lib_index_a_SOURCES = src/index/schema_sql.h

# The schema as a C string, a line at a time and without its comments.
src/index/schema_sql.h: src/index/schema.sql
	@$(MKDIR_P) src/index
	$(AM_V_GEN){ echo 'static const char schema_sql[] ='; \
	  sed -e 's/ *--.*//' -e '/^$$/d' -e 's/[\\"]/\\&/g' -e 's/.*/	"&\\n"/' \
	    $(srcdir)/src/index/schema.sql; echo '	;'; } >$@.new && mv $@.new $@
src/index/sqlite.$(OBJEXT): src/index/schema_sql.h
BUILT_SOURCES += src/index/schema_sql.h
CLEANFILES += src/index/schema_sql.h
EXTRA_DIST += src/index/schema.sql
