# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_fs.a
lib_fs_a_SOURCES = \
	fs/handle.c \
	fs/handle.h \
	fs/op.c \
	fs/op.h \
	fs/ops.c \
	fs/ops.h \
	fs/ops_attr.c \
	fs/ops_dir.c \
	fs/ops_file.c \
	fs/ops_ioctl.c \
	fs/ops_xattr.c \
	fs/reply.c \
	fs/reply.h \
	fs/session.c \
	fs/session.h

bin_PROGRAMS += bin/shardfs
bin_shardfs_SOURCES = fs/main.c
bin_shardfs_LDADD = $(FS_LIBS)
