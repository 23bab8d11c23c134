#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 180
#
# Questions of shardctl without a mount: the home answers, also after a kill; nothing is sent; while
# it is mounted, or with a wrong passphrase, it says so.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

home() { # ARGUMENT...: of shardctl, answered without a mount
	shardctl --config "$CONF" --json "$@"
}
exits() { # STATUS COMMAND...
	local want=$1 rc=0
	shift
	"$@" >"$TMPDIR/out" 2>"$TMPDIR/err" || rc=$?
	[ "$rc" -eq "$want" ] || die "exit $rc, not $want: $*: $(cat "$TMPDIR/out" "$TMPDIR/err")"
}
alone() { # COMMAND...: where nothing is mounted, whatever other tests do
	unshare -m sh -c 'umount -l -a -t fuse.shardfs; exec "$@"' alone "$@"
}
of_providers() { # everything that they hold
	(cd "$FS/providers" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
}
# What a mount and the home both answer, without what moves.
facts() { # COMMAND...
	"$@" | jq -S 'del(.time, .generation, .mounted, .providers, .writer, .reclaim, .as_of,
		.free_bytes, .spool_bytes, .dirty_bytes, .entries)'
}

fs_make 'shard_idle: 100ms'
fs_mount
mkdir -p "$MNT/dir/sub"
head -c 700000 /dev/urandom >"$MNT/dir/sub/file"
ln -s dir "$MNT/link"
shardctl policy set "$MNT/dir" copies=3
shardctl --mount "$MNT" snapshot create monday >/dev/null
shardctl wait "$MNT" >/dev/null
facts shardctl --mount "$MNT" --json status >"$TMPDIR/status"
facts shardctl --json stat "$MNT/dir" >"$TMPDIR/dir"
facts shardctl --json stat "$MNT/dir/sub/file" >"$TMPDIR/file"
facts shardctl --json policy "$MNT/dir/sub" >"$TMPDIR/policy"
facts shardctl --mount "$MNT" --json config show >"$TMPDIR/config"
# in use
exits 3 home status
grep -q 'ask the mount' "$TMPDIR/err"
fs_umount

of_providers >"$TMPDIR/before"
facts home status | diff "$TMPDIR/status" -
facts home stat /dir | diff "$TMPDIR/dir" -
facts home stat dir/sub//file | diff "$TMPDIR/file" -
facts home policy dir/sub | diff "$TMPDIR/policy" -
facts home config show | diff "$TMPDIR/config" -
home status | jq -e '.mounted == false and .writer.may_write == null and
	(.providers | length == 3 and all(.state == "not asked" and .present == null))' >/dev/null
home provider list | jq -e '.providers.primary.type == "dir"' >/dev/null
home snapshot list | jq -e '.snapshots | keys == ["monday"]' >/dev/null
exits 3 home snapshot create tuesday
home audit list --kind mount | jq -e '.entries | length == 1' >/dev/null
home audit verify | jq -e '.ok and .entries >= 3 and .providers.primary.state == "not asked"' >/dev/null
shardctl --config "$CONF" audit export - | jq -es 'length >= 3' >/dev/null
shardctl --config "$CONF" status | has '^status'
SHARDFS_CONFIG=$CONF alone shardctl --json status | jq -e '.mounted == false' >/dev/null
of_providers | diff "$TMPDIR/before" - || die 'something was sent'

# What it cannot answer, and what is wrong.
exits 2 home stat /dir/none
exits 2 home stat /link/sub
exits 3 home sync
grep -q 'needs a mount' "$TMPDIR/err"
exits 3 home scrub status
exits 3 alone shardctl status
exits 2 shardctl --config "$TMPDIR/none.yaml" status
mv "$FS/passphrase" "$FS/right"
(umask 077 && echo wrong >"$FS/passphrase")
exits 7 home status
mv "$FS/right" "$FS/passphrase"

# After a kill: what was acknowledged is in the answer, and the next mount finds it.
mv "$FS/providers" "$FS/away"
fs_mount
head -c 300000 /dev/urandom >"$MNT/dir/local"
sync "$MNT/dir/local"
sum=$(sha256sum <"$MNT/dir/local")
fs_kill
home stat dir/local | jq -e '.status == "local" and .bytes == 300000' >/dev/null
mv "$FS/away" "$FS/providers"
of_providers | diff "$TMPDIR/before" -
fs_mount
[ "$(sha256sum <"$MNT/dir/local")" = "$sum" ]
shardctl wait "$MNT" >/dev/null
fs_umount
fs_check

home status | jq -e '.status == "protected"' >/dev/null
