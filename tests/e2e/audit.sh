# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# The audit log: what was done is in it with who did it, it outlives the machine, and an index that
# somebody edited is noticed.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

has_entry() { # KIND TEXT
	shardctl -m "$MNT" --json audit list --kind "$1" | has -F -- "$2"
}
verify_is() { # EXIT STATUS
	local code=0
	shardctl -m "$MNT" audit verify >"$TMPDIR/verify" 2>&1 || code=$?
	[ "$code" = "$1" ] || die "audit verify: exit status $code, not $1: $(cat "$TMPDIR/verify")"
}

fs_make 'shard_size: 1MiB' 'shard_idle: 100ms' 'deletion_hold: 0s'
fs_mount
has_entry mount "mount at $MNT"
setfattr -n user.shardfs.policy -v copies=1 "$MNT"
has_entry xattr 'user.shardfs.policy=copies=1'
has_entry xattr setfattr # the program
shardctl policy set "$MNT" copies=2
has_entry command 'policy set'
verify_is 0

# a deletion is there twice: before the first request, and when it was confirmed
head -c 3000000 /dev/urandom >"$MNT/file"
shardctl wait "$MNT"
rm "$MNT/file"
deleted() {
	shardctl -m "$MNT" cleanup run >/dev/null && has_entry delete 'deleted at every provider"'
}
eventually 60 deleted
has_entry delete 'to be deleted'

# with a kill between the two: the entry from before the first DELETE is durable
head -c 3000000 /dev/urandom >"$MNT/file"
shardctl wait "$MNT"
before=$(shardctl -m "$MNT" --json audit list --kind delete | grep -o 'to be deleted' | wc -l)
pid=$(fs_pid)
hooks 'kill gc-delete-before' # what is reclaimed now and then by itself may come first
rm "$MNT/file" || eventually 60 hook_killed gc-delete-before
shardctl -m "$MNT" cleanup run >/dev/null 2>&1 || true
eventually 60 hook_killed gc-delete-before
fs_clear "$pid"
hooks
fs_mount
after=$(shardctl -m "$MNT" --json audit list --kind delete | grep -o 'to be deleted' | wc -l)
[ "$after" -gt "$before" ] || die "the entry before the first DELETE is lost ($before, $after)"
verify_is 0
fs_umount
fs_check

# somebody with the machine edits the log
sqlite3 "$FS/index.db" "UPDATE audit SET body=CAST('{}' AS BLOB) WHERE audit_no=2"
fs_mount
verify_is 4
grep -q 'entry 2 was altered' "$TMPDIR/verify"
fs_umount
sqlite3 "$FS/index.db" 'DELETE FROM audit WHERE audit_no=2'
fs_mount
verify_is 4
grep -q 'entry 2 is missing' "$TMPDIR/verify"
fs_umount
