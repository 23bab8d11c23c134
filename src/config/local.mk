# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_config.a
lib_config_a_SOURCES = \
	src/config/config.c \
	src/config/config.h \
	src/config/settings.c \
	src/config/yaml.c \
	src/config/yaml.h
