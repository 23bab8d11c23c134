# SPDX-License-Identifier: Apache-2.0
# Pattern and rules: tests/unit/util.mk.
#
# Programs that the tests on real mounts run.
noinst_PROGRAMS = bin/e2e/locked_calls bin/e2e/posix_calls bin/e2e/tree_model
bin_e2e_locked_calls_SOURCES = tests/e2e/locked_calls.c
bin_e2e_posix_calls_SOURCES = tests/e2e/posix_calls.c
bin_e2e_tree_model_SOURCES = tests/property/tree_model.c
