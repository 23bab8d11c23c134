#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 180
#
# How a mount begins and ends: one clear line for each thing that can be wrong,
# and whatever the end, what was accepted is there afterwards.
. "${0%/*}/lib.sh"

# refuses WORDS COMMAND...: fails, with one line that has these words.
refuses() {
	local words=$1 rc=0
	shift
	"$@" >"$TMPDIR/out" 2>&1 || rc=$?
	[ "$rc" -ne 0 ] || die "succeeded: $*"
	[ "$(wc -l <"$TMPDIR/out")" -eq 1 ] || die "$(cat "$TMPDIR/out")"
	grep -q "$words" "$TMPDIR/out" || die "$(cat "$TMPDIR/out")"
}

fs_make
refuses 'no such file' shardfs "$FS/none.yaml" "$MNT"
refuses 'no such file' shardfs "$CONF" "$MNT/none"
refuses 'not a directory' shardfs "$CONF" "$CONF"
sed 's/^home:/homme:/' "$CONF" >"$FS/wrong.yaml"
refuses 'wrong.yaml:1.*homme' shardfs "$FS/wrong.yaml" "$MNT"
shardfs --version | has '^shardfs [0-9]'
shardfs --help | has '^usage'
must_fail shardfs 2>/dev/null
mv "$FS/passphrase" "$FS/passphrase.right"
(umask 077 && echo wrong >"$FS/passphrase")
refuses 'passphrase' shardfs "$CONF" "$MNT"
mv "$FS/passphrase.right" "$FS/passphrase"

fs_mount
grep -q " $MNT .* fuse.shardfs $CONF " /proc/self/mountinfo
refuses 'mounted there already' shardfs "$CONF" "$MNT"
mkdir "$TMPDIR/mnt2"
start=$SECONDS
refuses "$FS" shardfs "$CONF" "$TMPDIR/mnt2" # not after a minute of waiting
[ $((SECONDS - start)) -lt 50 ]
pid=$(fs_pid)
grep -q '^Max core file size *0 *0' "/proc/$pid/limits"
[ "$(stat -c %u "/proc/$pid/environ")" = 0 ]

# SIGTERM, with a file still open and bytes that nobody flushed.
exec 5>"$MNT/open"
printf 'accepted' >&5
head -c 3000000 /dev/urandom >"$TMPDIR/data"
cp "$TMPDIR/data" "$MNT/data"
kill -TERM "$pid"
eventually 60 pid_is_gone "$pid"
exec 5>&-
must_fail is_mounted
fs_mount
[ "$(cat "$MNT/open")" = accepted ]
cmp "$TMPDIR/data" "$MNT/data"

# A killed daemon: the mount is dead, says so, and is cleared by hand.
head -c 3000000 /dev/urandom >"$TMPDIR/data"
cp "$TMPDIR/data" "$MNT/data" # closed: it survives
pid=$(fs_pid)
kill -9 "$pid"
eventually 60 pid_is_gone "$pid"
must_fail ls "$MNT" 2>/dev/null
refuses 'dead mount' shardfs "$CONF" "$MNT"
umount -l "$MNT"
fs_mount
cmp "$TMPDIR/data" "$MNT/data"
[ "$(cat "$MNT/open")" = accepted ]

# Lazily unmounted while in use: it ends when the last user goes.
exec 5>"$MNT/late"
umount -l "$MNT"
printf 'late' >&5
pid=$(fs_pid)
exec 5>&-
eventually 60 pid_is_gone "$pid"

# In the foreground, and through mount(8)'s helper.
shardfs "$CONF" "$MNT" -f >>"$LOG" 2>&1 &
pid=$!
eventually 60 is_mounted
[ "$(cat "$MNT/late")" = late ]
kill -INT "$pid"
wait "$pid"
mount.shardfs "$CONF" "$MNT" -o rw,nofail,_netdev,ro
must_fail touch "$MNT/x" 2>/dev/null
[ "$(cat "$MNT/late")" = late ]
pid=$(fs_pid)
umount "$MNT"
# The next mount waits for the one that is ending.
fs_mount
eventually 60 pid_is_gone "$pid"
fs_umount
