#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 120
#
# A shard is sealed while the journal takes no records: it is recorded, and copied, when it does
# again, without a remount.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

grep -q '^#define SHARDFS_TEST_HOOKS' "$SHARDFS_BUILDDIR/config.h" || skip 'built without test hooks'
failed_append() {
	[ -e "$SHARDFS_HOOKS-fail-journal-append-before" ]
}
fs_make 'shard_idle: 100ms'
fs_mount
hooks 'hold shard-seal-after'
head -c 300000 /dev/urandom >"$MNT/file"
eventually 60 hook_is_held shard-seal-after
hooks 'hold shard-seal-after' 'fail journal-append-before ENOSPC 0'
mkdir "$MNT/needs-a-record" || true # it may be told, or be tried again
eventually 60 failed_append
hooks 'fail journal-append-before ENOSPC 0'
eventually 60 grep -q 'shard-seal-unrecorded .*next="tried again"' "$FS/shardfs.log"
hooks
eventually 60 grep -q journal-write-recovered "$FS/shardfs.log"
shardctl -m "$MNT" wait --timeout 100s "$MNT" >/dev/null
[ "$(getfattr --absolute-names --only-values -n user.shardfs.status "$MNT/file")" = protected ]
fs_umount
fs_check
