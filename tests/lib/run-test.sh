#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs one test: run-test.sh PROGRAM [ARG...].  Criterion forks each test, so
# a leak in one of them does not fail the program: here the sanitizers write
# to files, and any report fails the test.  The test gets a directory of its
# own in $TMPDIR, which is removed afterwards.
set -u
: "${SHARDFS_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}"
: "${SHARDFS_BUILDDIR:=$PWD}"
export SHARDFS_SRCDIR SHARDFS_BUILDDIR

TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/shardfs-test.XXXXXX") || exit 99
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 99' HUP INT TERM
reports=$TMPDIR/.reports
mkdir "$reports" || exit 99

# Programs run side by side already; and the runner of Criterion 2.4 leaks when
# it has more than one job.
export CRITERION_JOBS=1

common=log_path=$reports/report:exitcode=86
export ASAN_OPTIONS="$common:abort_on_error=0:detect_stack_use_after_return=1:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="$common:print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export LSAN_OPTIONS="$common${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
export TSAN_OPTIONS="$common:second_deadlock_stack=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}"

test=$1
case $test in
*/fuzz/*)
	set -- "$@" -runs=0 "$SHARDFS_SRCDIR/tests/fuzz/corpus/${test##*/}" ;;
esac
"$@"
rc=$?
for report in "$reports"/report.*; do
	[ -s "$report" ] || continue
	cat "$report"
	[ "$rc" -ne 0 ] || rc=1
done
exit "$rc"
