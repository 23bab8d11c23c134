#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every man page is sound mdoc.
set -u
cd "${SHARDFS_SRCDIR:-$(dirname "$0")/../..}" || exit 99
if ! mandoc=${MANDOC:-$(command -v mandoc)}; then
	echo 'no mandoc here'
	exit 77
fi
shopt -s nullglob
pages=(man/*.[1-8])
[ "${#pages[@]}" -gt 0 ] || exit 0
# STYLE messages about what other systems call things are noise.
"$mandoc" -T lint -W warning "${pages[@]}"
