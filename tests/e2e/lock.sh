#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# Locks until a date: every call that changes something is refused, whoever
# makes it; what was written before is not lost; and a remount, a kill and a
# recovery from one provider find the locks where they were.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

DATE=2101-01-01T00:00:00Z
step() {
	echo "-- $*"
}
lock_of() { # PATH
	getfattr --only-values -n user.shardfs.lock-until "$1" 2>/dev/null
}
lock() { # PATH [DATE]
	setfattr -n user.shardfs.lock-until -v "${2:-$DATE}" "$1"
}
is_locked() { # PATH
	[ "$(lock_of "$1")" = "$DATE" ] || die "$1: not locked"
	must_fail rm -rf "$1" 2>/dev/null
	must_fail chmod 0777 "$1" 2>/dev/null
	must_fail mv "$1" "$1.moved" 2>/dev/null
}

step 'every request that the daemon answers is known to change something or not'
reads='lookup forget forget_multi getattr readlink read flush release fsync opendir readdir
	readdirplus fsyncdir statfs getxattr listxattr lseek init'
diff <({ tr -s ' \t' '\n' <<<"$reads"; locked_calls --ops; } | sort -u | grep .) \
	<(sed -n 's/^\t\.\([a-z_]*\) = ops_.*/\1/p' "$SHARDFS_SRCDIR/fs/ops.c" | sort -u) ||
	die 'a request is not in locked_calls.c'

fs_make
fs_mount

step 'every call on what is immutable, append-only, locked'
mkdir "$MNT/calls"
locked_calls "$MNT/calls" || die 'locked_calls'

step 'dates'
echo text >"$MNT/file"
must_fail lock "$MNT/file" tomorrow 2>/dev/null
must_fail lock "$MNT/file" 2001-01-01 2>/dev/null
must_fail lock "$MNT/file" 2101-02-29 2>/dev/null
eventually 60 grep -q 'xattr-refused.*no date' "$FS/shardfs.log"
eventually 60 grep -q 'xattr-refused.*not in the future' "$FS/shardfs.log"
must_fail lock_of "$MNT/file"
must_fail setfattr -x user.shardfs.lock-until "$MNT/file" 2>/dev/null
lock "$MNT/file" 2100-06-01
[ "$(lock_of "$MNT/file")" = 2100-06-01T00:00:00Z ]
lock "$MNT/file" 2101-01-01T02:00:00+02:00
is_locked "$MNT/file"
[ -z "$(getfattr -m - -d "$MNT/file" 2>/dev/null)" ] # nothing copies it
grep -q 'xattr-refused.*nobody can shorten' "$FS/shardfs.log" || {
	must_fail lock "$MNT/file" 2100-06-01 2>/dev/null
	grep -q 'xattr-refused.*nobody can shorten' "$FS/shardfs.log"
}
cp -a "$MNT/file" "$MNT/copy"
rm "$MNT/copy"
must_fail setpriv --reuid 1000 --regid 1000 --clear-groups \
	setfattr -n user.shardfs.lock-until -v $DATE "$MNT/copy" 2>/dev/null

step 'what programs hold when the lock comes'
exec 5<>"$MNT/held"
head -c 3000000 /dev/urandom | tee "$TMPDIR/held" >&5
lock "$MNT/held"
must_fail sh -c 'echo more >&5' 2>/dev/null
exec 5>&-
cmp "$TMPDIR/held" "$MNT/held"
is_locked "$MNT/held"

step 'a directory takes new entries, which have no lock of their own'
mkdir "$MNT/dir"
echo old >"$MNT/dir/old"
lock "$MNT/dir"
echo new >"$MNT/dir/new"
echo more >>"$MNT/dir/new"
must_fail lock_of "$MNT/dir/new"
must_fail rm -f "$MNT/dir/new" 2>/dev/null
mkdir "$MNT/above"
mkdir "$MNT/above/dir"
echo deep >"$MNT/above/dir/file"
lock "$MNT/above/dir/file"
mv "$MNT/above" "$MNT/moved" # no name of a locked inode changes
is_locked "$MNT/moved/dir/file"
shardctl policy set "$MNT/dir" 2 # where the bytes lie, not what they are
shardctl policy unset "$MNT/dir"

step 'a whole tree'
mkdir -p "$MNT/tree/sub/deep"
for i in 1 2 3 4 5; do
	echo "$i" | tee "$MNT/tree/$i" >"$MNT/tree/sub/deep/$i"
done
ln -s 1 "$MNT/tree/link"
ln "$MNT/tree/1" "$MNT/tree/sub/one"
[ "$(shardctl lock "$MNT/tree")" = 'no lock' ]
rc=0
shardctl lock --until tomorrow "$MNT/tree" 2>/dev/null || rc=$?
[ "$rc" -eq 2 ]
rc=0
shardctl lock --until 2001-01-01 -R "$MNT/tree" >/dev/null 2>&1 || rc=$?
[ "$rc" -eq 2 ]
lock "$MNT/tree/2" 2102-01-01 # for longer: left as it is
audited=$(shardctl --mount "$MNT" audit list --kind xattr | wc -l)
shardctl --json lock --until 2101-01-01 -R "$MNT/tree" >"$TMPDIR/answer"
# three directories, ten files but one, one of them seen again by its other name
grep -qF '"locked":12,"already":2,"others":1,"failed":0' "$TMPDIR/answer" ||
	die "$(cat "$TMPDIR/answer")"
[ "$(shardctl --mount "$MNT" audit list --kind xattr | wc -l)" -eq $((audited + 1)) ]
[ "$(shardctl lock "$MNT/tree/2")" = 2102-01-01T00:00:00Z ]
shardctl --json stat "$MNT/tree/2" >"$TMPDIR/answer"
grep -qF '"lock_until":"2102-01-01T00:00:00Z","locked":true' "$TMPDIR/answer"
is_locked "$MNT/tree/sub/deep/5"
must_fail rm "$MNT/tree/link" 2>/dev/null
must_fail rm -rf "$MNT/tree" 2>/dev/null
[ "$(find "$MNT/tree" | wc -l)" -eq 15 ]
rc=0
shardctl lock --until 2101-01-01 -R "$MNT/tree/link" >/dev/null 2>&1 || rc=$?
[ "$rc" -eq 2 ] # a link has no lock, and is not followed
echo late >"$MNT/tree/late"
shardctl --json lock --until 2101-01-01 -R "$MNT/tree" >"$TMPDIR/answer"
grep -qF '"locked":1,"already":14,' "$TMPDIR/answer" || die "$(cat "$TMPDIR/answer")"
mkdir "$MNT/flat" "$MNT/flat/below"
shardctl lock --until 2101-01-01 "$MNT/flat" >/dev/null
is_locked "$MNT/flat"
must_fail lock_of "$MNT/flat/below"
rc=0
setpriv --reuid 1000 --regid 1000 --clear-groups shardctl lock --until 2101-01-01 \
	"$MNT/flat/below" >/dev/null 2>&1 || rc=$?
[ "$rc" -ne 0 ]

step 'after a kill, a remount, and from one provider alone'
shardctl sync "$MNT"
fs_kill
fs_mount
is_locked "$MNT/file"
is_locked "$MNT/dir"
cmp "$TMPDIR/held" "$MNT/held"
find "$MNT/calls" -path '*/locked.*/here/f' -printf '%T@ %C@ %p\n' >"$TMPDIR/times"
[ "$(wc -l <"$TMPDIR/times")" -gt 40 ]
awk '$1 > $2 { print; bad = 1 } END { exit bad }' "$TMPDIR/times" ||
	die 'written to after the lock'
shardctl wait "$MNT" >/dev/null
fs_umount
fs_check
cat >"$TMPDIR/alone.yaml" <<END
home: $TMPDIR/alone
passphrase_file: $FS/passphrase
providers:
  - name: tertiary
    type: dir
    role: tertiary
    region: tertiary-region
    path: $FS/providers/tertiary
END
CONF=$TMPDIR/alone.yaml
shardfs-recover "$CONF" >"$TMPDIR/recover.out" 2>&1 || {
	cat "$TMPDIR/recover.out"
	die 'recovery'
}
fs_mount -o take_over
is_locked "$MNT/file"
is_locked "$MNT/held"
is_locked "$MNT/moved/dir/file"
cmp "$TMPDIR/held" "$MNT/held"
fs_umount
