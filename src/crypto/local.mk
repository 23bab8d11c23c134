# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: src/util/local.mk.
noinst_LIBRARIES += lib_crypto.a
lib_crypto_a_SOURCES = \
	src/crypto/aead.c \
	src/crypto/aead.h \
	src/crypto/credentials.c \
	src/crypto/crypto.c \
	src/crypto/crypto.h \
	src/crypto/keyring.c \
	src/crypto/keyring.h \
	src/crypto/mac.c \
	src/crypto/mac.h \
	src/crypto/recovery.c \
	src/crypto/recovery.h \
	src/crypto/self_test.c \
	src/crypto/shamir.c \
	src/crypto/shamir.h \
	src/crypto/superblock.c \
	src/crypto/superblock.h
