#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 180
#
# `audit verify` compares the end of the log with what each provider has: a home that was set back,
# one that went on after that, a provider that shows an older state, and one that is away.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

verify() { # EXIT STATUS: the answer is in $TMPDIR/verify
	local code=0
	shardctl -m "$MNT" --json audit verify >"$TMPDIR/verify" 2>"$TMPDIR/verify.err" || code=$?
	[ "$code" = "$1" ] || die "audit verify: $code, not $1: $(cat "$TMPDIR/verify" "$TMPDIR/verify.err")"
}
state_of() { # PROVIDER
	jq -r ".providers.\"$1\".state" "$TMPDIR/verify"
}
all_are() { # STATE
	local provider
	verify 0
	for provider in primary secondary tertiary; do
		[ "$(state_of "$provider")" = "$1" ] || return 1
	done
}
act() { # an entry
	shardctl -m "$MNT" policy set "$MNT" "copies=$1"
}

fs_make 'epoch_check: 1h' 'segment_delay_max: 1s' 'snapshot_after: 64KiB'
fs_mount
act 2
eventually 60 all_are same
shardctl -m "$MNT" audit verify | tee "$TMPDIR/plain"
grep -Eq '^primary .*same' "$TMPDIR/plain"
fs_umount

# One that is away is said to be.
cp -a "$FS/providers/tertiary/index" "$TMPDIR/tertiary-index"
mv "$FS/providers/secondary" "$FS/secondary.away"
fs_mount
act 3
verify 0
[ "$(state_of secondary)" = 'not reached' ]
fs_umount
mv "$FS/secondary.away" "$FS/providers/secondary"
fs_mount
eventually 60 all_are same

# A provider that shows an older state has less, until it is brought up.
fs_umount
rm -r "$FS/providers/tertiary/index"
mv "$TMPDIR/tertiary-index" "$FS/providers/tertiary/index"
hooks 'hold oplog-put-before'
fs_mount
verify 0
[ "$(state_of tertiary)" = behind ]
jq -e '.providers.tertiary.entries < .providers.primary.entries' "$TMPDIR/verify" >/dev/null
hooks
eventually 60 all_are same

# One that has only a snapshot of the index: the log is in it.
python3 - "$MNT" <<'END'
import os, sys
for i in range(3000):
    open(f'{sys.argv[1]}/{os.urandom(40).hex()}', 'w').close()
END
has_new_snapshot() {
	[ -n "$(find "$FS/providers/primary/index" -name 'snap-*' ! -name '*-p*' \
		! -name 'snap-00000001-0000000000000001-*')" ]
}
eventually 60 has_new_snapshot
eventually 60 all_are same
fs_umount
newest() { # KIND of object: the last record in one of them
	find "$FS/providers/primary/index" -name "$1-*" ! -name '*-p*' |
		sed 's/.*-\([0-9a-f]*\)-[0-9a-f]*$/\1/' | sort | tail -n 1
}
until [[ $(newest log) > $(newest snap) ]]; do # the snapshot had all of it
	fs_mount
	act 2
	eventually 60 all_are same
	fs_umount
done
rm "$FS"/providers/primary/index/log-*
hooks 'hold oplog-put-before'
fs_mount
verify 0
[ "$(state_of primary)" = behind ]
[ "$(jq .providers.primary.entries "$TMPDIR/verify")" -ge 4 ]
hooks
eventually 60 all_are same

# The home is set back to a copy: what providers have more is told, by number.
fs_umount
cp -a "$FS" "$TMPDIR/before"
fs_mount
act 1
act 2
act 3
shardctl wait "$MNT" >/dev/null
eventually 60 all_are same
newest=$(jq .entries "$TMPDIR/verify")
fs_umount
rm -rf "$TMPDIR/before/providers"
cp -a "$FS/providers" "$TMPDIR/before/providers"
mv "$FS" "$TMPDIR/after"
mv "$TMPDIR/before" "$FS"
fs_mount
verify 4
grep -q "newest here is" "$TMPDIR/verify.err" || grep -q 'is another one here' "$TMPDIR/verify.err"
[[ $(state_of primary) == ahead || $(state_of primary) == another ]]
[ "$(jq .providers.primary.entries "$TMPDIR/verify")" -ge "$newest" ]
# ... its own entries go on and are others than those: told as well
for _ in 1 2 3 4 5 6 7 8; do
	setfattr -n user.shardfs.policy -v copies=2 "$MNT" 2>/dev/null || true
done
verify 4
jq -e '.ok == false and (.error | test("provider primary"))' "$TMPDIR/verify" >/dev/null
fs_umount
# The right home again: nothing is wrong.
rm -rf "$FS"
mv "$TMPDIR/after" "$FS"
fs_mount
eventually 60 all_are same
fs_umount
