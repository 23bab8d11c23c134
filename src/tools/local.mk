# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_tools.a
lib_tools_a_SOURCES = \
	src/tools/report.c \
	src/tools/report.h

# A program is made under bin/ and installed by its last name:
#
#	bin_PROGRAMS += bin/shardctl
#	bin_shardctl_SOURCES = src/tools/shardctl.c
#	bin_shardctl_LDADD = $(TOOLS_LIBS)
#
# In variable names every character but letters and digits is `_`:
# sbin_PROGRAMS += bin/mkfs.shardfs has bin_mkfs_shardfs_SOURCES.
sbin_PROGRAMS += bin/mkfs.shardfs
bin_mkfs_shardfs_SOURCES = src/tools/mkfs_shardfs.c
bin_mkfs_shardfs_LDADD = $(TOOLS_LIBS)

bin_PROGRAMS += bin/shardctl
bin_shardctl_SOURCES = \
	src/tools/shardctl.c \
	src/tools/shardctl_ask.c \
	src/tools/shardctl_ask.h \
	src/tools/shardctl_audit.c \
	src/tools/shardctl_audit.h \
	src/tools/shardctl_clone.c \
	src/tools/shardctl_clone.h \
	src/tools/shardctl_group.c \
	src/tools/shardctl_group.h \
	src/tools/shardctl_key.c \
	src/tools/shardctl_key.h \
	src/tools/shardctl_local.c \
	src/tools/shardctl_local.h \
	src/tools/shardctl_lock.c \
	src/tools/shardctl_lock.h \
	src/tools/shardctl_snapshot.c \
	src/tools/shardctl_snapshot.h
bin_shardctl_LDADD = $(TOOLS_LIBS)

sbin_PROGRAMS += bin/fsck.shardfs
bin_fsck_shardfs_SOURCES = src/tools/fsck_shardfs.c
bin_fsck_shardfs_LDADD = $(TOOLS_LIBS)

sbin_PROGRAMS += bin/shardfs-recover
bin_shardfs_recover_SOURCES = \
	src/tools/recover_show.c \
	src/tools/recover_show.h \
	src/tools/recover_to.c \
	src/tools/recover_to.h \
	src/tools/shardfs_recover.c
bin_shardfs_recover_LDADD = $(TOOLS_LIBS)

# mount(8) looks in /sbin alone: a link there when we may put one.
sbin_PROGRAMS += bin/mount.shardfs
bin_mount_shardfs_SOURCES = src/tools/mount_shardfs.c
bin_mount_shardfs_CPPFLAGS = $(AM_CPPFLAGS) -DSHARDFS_BINDIR='"$(bindir)"'
install-exec-hook:
	@if test -w $(DESTDIR)/sbin && test "$(DESTDIR)$(sbindir)" != "$(DESTDIR)/sbin"; then \
		ln -sf $(sbindir)/mount.shardfs $(DESTDIR)/sbin/mount.shardfs; fi
uninstall-hook:
	@if test "$$(readlink $(DESTDIR)/sbin/mount.shardfs)" = "$(sbindir)/mount.shardfs"; then \
		rm -f $(DESTDIR)/sbin/mount.shardfs; fi
