# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_ctl.a
lib_ctl_a_SOURCES = \
	src/ctl/ctl.c \
	src/ctl/ctl.h \
	src/ctl/ctl_client.c \
	src/ctl/ctl_client.h \
	src/ctl/ctl_local.c \
	src/ctl/ctl_local.h \
	src/ctl/ctl_private.h \
	src/ctl/ctl_verbs.c \
	src/ctl/shardfs_ioctl.h \
	src/ctl/verbs_audit.c \
	src/ctl/verbs_clone.c \
	src/ctl/verbs_key.c \
	src/ctl/verbs_scrub.c \
	src/ctl/verbs_snapshot.c
include_HEADERS += src/ctl/shardfs_ioctl.h
