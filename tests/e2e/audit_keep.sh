#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 180
#
# Older entries of the audit log are removed, and what is left still proves itself: here, from a
# recovered home, and against somebody who removes more, or without saying so.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

verify() { # EXIT STATUS
	local code=0
	shardctl -m "$MNT" --json audit verify >"$TMPDIR/verify" 2>"$TMPDIR/verify.err" || code=$?
	[ "$code" = "$1" ] || die "audit verify: $code, not $1: $(cat "$TMPDIR/verify" "$TMPDIR/verify.err")"
}
second_is_over() { # SECONDS since 1970
	[ "$(date +%s)" -gt "$1" ]
}
first_number() {
	shardctl -m "$MNT" --json audit list | jq '.entries[0].number'
}
is_cut() {
	[ "$(first_number)" -gt 1 ]
}
sound() { # all of it as it was
	rm -rf "$FS"
	cp -a "$TMPDIR/sound" "$FS"
}
sql() {
	sqlite3 "$FS/index.db" "$1"
}

fs_make
fs_mount
for i in 1 2 3 1 2 3 1 2 3; do
	shardctl -m "$MNT" policy set "$MNT" "copies=$i"
done
verify 0
[ "$(jq .first_number "$TMPDIR/verify")" -eq 1 ]
[ "$(first_number)" -eq 1 ]
fs_umount
eventually 60 second_is_over "$(($(date +%s) + 1))"

# With a limit what is older goes, and it is said what that was.
printf 'settings: {audit_keep: 1s, epoch_check: 1h}\n' >>"$CONF"
fs_mount
eventually 60 is_cut
shardctl -m "$MNT" --json audit list --kind cut >"$TMPDIR/cut"
jq -e '.entries | length >= 1 and all(.details.upto > 0 and .details.entries > 0)' "$TMPDIR/cut" >/dev/null
verify 0
[ "$(jq .first_number "$TMPDIR/verify")" -gt 9 ]
shardctl -m "$MNT" audit export "$TMPDIR/log.jsonl"
[ "$(head -n 1 "$TMPDIR/log.jsonl" | jq .number)" -eq "$(jq .first_number "$TMPDIR/verify")" ]
shardctl wait "$MNT" >/dev/null
fs_umount
fs_check
# Once more: the entry that proved the first cut may go itself.
eventually 60 second_is_over "$(($(date +%s) + 1))"
before=$(jq .first_number "$TMPDIR/verify")
fs_mount
went_on() {
	[ "$(first_number)" -gt "$before" ]
}
eventually 60 went_on
verify 0
fs_umount
fs_check

# From a provider: the same log, which goes on.
{
	printf 'home: %s\npassphrase_file: %s\nproviders:\n' "$TMPDIR/second" "$FS/passphrase"
	cp -a "$FS/providers/secondary" "$TMPDIR/only"
	printf '  - {name: secondary, type: dir, path: %s}\n' "$TMPDIR/only"
} >"$TMPDIR/second.yaml"
shardfs-recover "$TMPDIR/second.yaml"
fsck.shardfs "$TMPDIR/second.yaml"
shardfs "$TMPDIR/second.yaml" "$MNT" -o take_over >>"$LOG" 2>&1
is_cut
verify 0
fs_umount

# Somebody with the machine removes more, says another cut, or takes the word of it away.
sed -i 's/audit_keep: 1s/audit_keep: 0s/' "$CONF"
cp -a "$FS" "$TMPDIR/sound"
first=$(sql 'SELECT min(audit_no) FROM audit')
sql "DELETE FROM audit WHERE audit_no=$first"
must_fail fsck.shardfs "$CONF" >"$TMPDIR/fsck"
grep -q "audit-gap\|audit: the entry before" "$TMPDIR/fsck"
fs_mount
verify 4
grep -q "entry $first is missing" "$TMPDIR/verify.err"
fs_umount
sound
sql "DELETE FROM audit WHERE audit_no=$first"
sql "UPDATE setting SET value=CAST('$first ' || (SELECT substr(CAST(value AS TEXT),
	instr(CAST(value AS TEXT),' ')+1) FROM setting WHERE key=CAST('audit_cut' AS BLOB)) AS BLOB)
	WHERE key=CAST('audit_cut' AS BLOB)"
fs_mount
verify 4
fs_umount
sound
sql "DELETE FROM setting WHERE key=CAST('audit_cut' AS BLOB)"
fs_mount
verify 4
grep -q 'entry 1 is missing' "$TMPDIR/verify.err"
fs_umount
