#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 180
#
# What a machine had not sent before another one took over is not lost: its home gives it into a
# directory, all of it or only what the winner has not.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

may_not_write() { # DIR
	[ "$(shardctl --mount "$1" --json status | jq .writer.may_write)" = false ]
}

fs_make 'epoch_check: 200ms' 'close_wait: 0s'
fs_mount
mkdir -p "$MNT/dir/sub" "$MNT/untouched/below"
echo both >"$MNT/dir/both"
echo old >"$MNT/dir/changed"
head -c 100000 /dev/urandom >"$MNT/untouched/below/file"
shardctl wait "$MNT" >/dev/null
fs_umount

# It writes on while no provider is there.
mv "$FS/providers" "$FS/providers.away"
fs_mount
echo mine >"$MNT/dir/changed"
head -c 700000 /dev/urandom >"$MNT/dir/sub/mine"
ln "$MNT/dir/sub/mine" "$MNT/dir/link"
rm "$MNT/dir/both"
shardctl sync "$MNT"
cp -a "$MNT" "$TMPDIR/mine"
fs_umount
mv "$FS/providers.away" "$FS/providers"

# Meanwhile another machine takes over and goes on.
{
	printf 'home: %s\npassphrase_file: %s\nsettings: {epoch_check: 200ms}\nproviders:\n' \
		"$TMPDIR/second" "$FS/passphrase"
	for provider in primary secondary tertiary; do
		printf '  - {name: %s, type: dir, path: %s}\n' "$provider" "$FS/providers/$provider"
	done
} >"$TMPDIR/second.yaml"
shardfs-recover "$TMPDIR/second.yaml"
mkdir -p "$TMPDIR/mnt2"
shardfs "$TMPDIR/second.yaml" "$TMPDIR/mnt2"
echo theirs >"$TMPDIR/mnt2/dir/theirs"
shardctl wait "$TMPDIR/mnt2" >/dev/null
fs_mount
eventually 60 may_not_write "$MNT"
# in use: not now
must_fail shardfs-recover --branch --to "$TMPDIR/branch" "$CONF" 2>"$TMPDIR/err"
grep -q 'in use by another process' "$TMPDIR/err"
fs_umount

shardfs-recover --branch --to "$TMPDIR/branch" "$CONF" | tee "$TMPDIR/out"
grep -q 'under writer epoch 1, which another machine has taken over' "$TMPDIR/out"
diff -r "$TMPDIR/mine" "$TMPDIR/branch" || die 'the branch is another tree'
[ "$TMPDIR/branch/dir/link" -ef "$TMPDIR/branch/dir/sub/mine" ] || die 'no hard link'

# Only what differs.
shardfs-recover --branch --changes --to "$TMPDIR/changes" "$CONF" | tee "$TMPDIR/out"
(cd "$TMPDIR/changes" && find . | sort) >"$TMPDIR/found"
printf '%s\n' . ./dir ./dir/changed ./dir/link ./dir/sub ./dir/sub/mine | sort >"$TMPDIR/expected"
diff "$TMPDIR/expected" "$TMPDIR/found" || die 'other changes'
[ "$(cat "$TMPDIR/changes/dir/changed")" = mine ]
cmp "$TMPDIR/mine/dir/sub/mine" "$TMPDIR/changes/dir/sub/mine"

# It is still there, and the winner has noticed nothing.
rm -rf "$TMPDIR/branch"
hooks 'kill restore-name-after 2'
rc=0
shardfs-recover --branch --to "$TMPDIR/branch" "$CONF" >/dev/null || rc=$?
[ "$rc" -eq 137 ] || die "exit $rc instead of a kill"
hooks
shardfs-recover --branch --to "$TMPDIR/branch" "$CONF"
diff -r "$TMPDIR/mine" "$TMPDIR/branch"
[ "$(cat "$TMPDIR/mnt2/dir/theirs" "$TMPDIR/mnt2/dir/changed")" = "$(printf 'theirs\nold')" ]
[ "$(shardctl --mount "$TMPDIR/mnt2" --json status | jq .writer.may_write)" = true ]
fs_umount "$TMPDIR/mnt2"
fsck.shardfs --deep "$TMPDIR/second.yaml"
