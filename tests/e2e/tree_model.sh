#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# Random operations on a mount and on a model agree, over remounts.
. "${0%/*}/lib.sh"

if [ "${1-}" = remount ]; then
	fs_umount
	fs_mount
	exit
fi
fs_make
fs_mount
for seed in ${SHARDFS_SEED:-$RANDOM$RANDOM $RANDOM$RANDOM}; do
	mkdir "$MNT/$seed"
	"$SHARDFS_BUILDDIR/bin/e2e/tree_model" "$MNT/$seed" "${SHARDFS_STEPS:-2500}" "$seed" "bash $0 remount"
done
fs_umount
