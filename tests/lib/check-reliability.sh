#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# doc/RELIABILITY.md names files and tests that exist, has a row for each promise
# of doc/DESIGN.md, and each thing that broken.sh breaks that it speaks of.
set -u
top=${SHARDFS_SRCDIR:?}
page=$top/doc/RELIABILITY.md
rc=0
complain() {
	echo "$page: $*"
	rc=1
}

[ -f "$page" ] || { complain 'is missing'; exit 1; }
for path in $(grep -o '`[a-z_]*/[^` ]*\.[a-z]*`' "$page" | tr -d '`' | sort -u); do
	[ -f "$top/$path" ] || [ -f "$top/src/$path" ] || complain "there is no $path"
done
for promise in $(sed -n 's/^\(P[0-9]*\)\. .*/\1/p' "$top/doc/DESIGN.md"); do
	grep -q "^| $promise " "$page" || complain "$promise has no row"
done
# Each row of a promise names a file of the product and a test.
grep '^| P[0-9]' "$page" | while IFS='|' read -r _ name _ files tests _; do
	case $files in *'`src/'* | *'`backends/'* | *'`fs/'*) ;; *) echo "$name: no file keeps it" ;; esac
	case $tests in *'`tests/'* | *-*) ;; *) echo "$name: no test" ;; esac
done | grep . && rc=1
for name in $(sed -n '/^table() {/,/^}/s/^\t\t\([a-z-]*\)\t.*/\1/p' "$top/tests/e2e/broken.sh"); do
	grep -q -- "$name" "$page" || complain "$name of broken.sh is not spoken of"
done
exit "$rc"
