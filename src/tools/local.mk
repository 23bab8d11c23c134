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
bin_shardctl_SOURCES = src/tools/shardctl.c
bin_shardctl_LDADD = $(TOOLS_LIBS)

sbin_PROGRAMS += bin/fsck.shardfs
bin_fsck_shardfs_SOURCES = src/tools/fsck_shardfs.c
bin_fsck_shardfs_LDADD = $(TOOLS_LIBS)
