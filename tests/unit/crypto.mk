# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
UNIT_TESTS += bin/unit/crypto
bin_unit_crypto_SOURCES = \
	tests/lib/hex.h \
	tests/unit/crypto_aead.c \
	tests/unit/crypto_credentials.c \
	tests/unit/crypto_keyring.c \
	tests/unit/crypto_mac.c \
	tests/unit/crypto_recovery.c \
	tests/unit/crypto_shamir.c \
	tests/unit/crypto_superblock.c
bin_unit_crypto_CPPFLAGS = $(UNIT_CPPFLAGS)
bin_unit_crypto_LDADD = $(CRYPTO_LIBS) $(CRITERION_LIBS)
EXTRA_DIST += tests/golden/superblock-1

FUZZ_TESTS += bin/fuzz/superblock
bin_fuzz_superblock_SOURCES = tests/fuzz/superblock_fuzz.c $(FUZZ_MAIN)
bin_fuzz_superblock_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_superblock_LDADD = $(CRYPTO_LIBS)
EXTRA_DIST += tests/fuzz/corpus/superblock

FUZZ_TESTS += bin/fuzz/recovery
bin_fuzz_recovery_SOURCES = tests/fuzz/recovery_fuzz.c $(FUZZ_MAIN)
bin_fuzz_recovery_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
bin_fuzz_recovery_LDADD = $(CRYPTO_LIBS)
EXTRA_DIST += tests/fuzz/corpus/recovery

STRESS_TESTS += bin/stress/keyring
bin_stress_keyring_SOURCES = tests/stress/keyring.c
bin_stress_keyring_LDADD = $(CRYPTO_LIBS)
