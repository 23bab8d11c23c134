# SPDX-License-Identifier: Apache-2.0
# Benchmarks: scripts and programs that only `bench/run` uses.  Programs go to
# EXTRA_PROGRAMS (made on demand), scripts to EXTRA_DIST.
EXTRA_DIST += bench/bench_tool.c bench/run
EXTRA_PROGRAMS += bin/bench/index
bin_bench_index_SOURCES = bench/index_bench.c
bin_bench_index_LDADD = $(INDEX_LIBS)
