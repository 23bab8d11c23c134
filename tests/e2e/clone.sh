#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# Clones of files and trees: like their source in everything but flags and locks, no bytes more at
# the providers, each on its own afterwards; and whatever dies or is cancelled on the way leaves
# nothing behind.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

step() {
	echo "-- $*"
}
export SHARDFS_MOUNT=$MNT
clone() {
	shardctl clone "$@" >"$TMPDIR/clone.out" 2>"$TMPDIR/clone.err"
}
# Exit status and a part of the message.
clone_fails() { # STATUS TEXT SRC DST
	local rc=0
	clone "$3" "$4" || rc=$?
	[ "$rc" -eq "$1" ] || die "clone $3 $4: exit status $rc: $(cat "$TMPDIR/clone.err")"
	grep -qF "$2" "$TMPDIR/clone.err" || die "clone $3 $4: $(cat "$TMPDIR/clone.err")"
}
same() { # A B
	local found
	found=$(rsync -aHAXn --checksum --delete --itemize-changes "$1/" "$2/")
	[ -z "$found" ] || die "$1 and $2 differ: $(head -5 <<<"$found")"
	diff <(describe "$1") <(describe "$2") >"$TMPDIR/diff" || {
		head -20 "$TMPDIR/diff"
		die "$1 and $2 differ"
	}
}
# What rsync does not compare: nanoseconds, counts of links, ACLs as text.
describe() { # DIR
	(cd "$1" && find . -printf '%p %y %m %U %G %n %T@ %l\n' | LC_ALL=C sort &&
		find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - 2>/dev/null &&
		find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -p 2>/dev/null)
}
shard_bytes() {
	find "$FS/providers" -ignore_readdir_race -type f -name '????????????????????????????????' \
		-printf '%s\n' |
		awk '{ sum += $1 } END { print sum + 0 }'
}
has_only() { # NAME...: and nothing else is in the root
	diff <(printf '%s\n' "$@" | LC_ALL=C sort) <(find "$MNT" -mindepth 1 -maxdepth 1 -printf '%f\n' |
		LC_ALL=C sort)
}
only() {
	has_only "$@" || die "something else is in the root"
}

fs_make 'shard_size: 1MiB' 'deletion_hold: 0s'
fs_mount -o dev,suid

step 'a tree of everything'
src=$MNT/src
mkdir -p "$src/plain/deep" "$src/empty" "$src/many"
cp -a "$SHARDFS_SRCDIR/src" "$src/plain/code"
head -c 5000000 /dev/urandom >"$src/plain/big"
for i in $(seq 600); do echo "$i" >"$src/many/$i"; done
ln "$src/plain/big" "$src/plain/deep/hard"
ln "$src/many/7" "$src/plain/other name of 7"
ln -s ../plain "$src/empty/link"
mkfifo "$src/plain/pipe"
mknod "$src/plain/null" c 1 3
chmod 4755 "$src/plain/code/util/buf.c"
chown -R 12:34 "$src/plain/code/util"
chmod 2770 "$src/empty"
setfattr -n user.colour -v blue "$src/plain/big"
setfattr -n trusted.t -v t "$src/plain"
setfacl -m u:77:rwx,d:u:78:r "$src/plain/deep"
touch -d '1965-02-03 04:05:06.123456789' "$src/plain/big" "$src/many/1"
printf 'name with a newline and \xff' >"$src/$(printf 'a\n\xff')"
# holes, and more extents than one record takes
python3 - "$src/plain/sparse" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for i in range(1500):
    os.pwrite(fd, os.urandom(4096), i * 16384)
os.ftruncate(fd, 40 << 20)
END
find "$src" -depth -type d -exec touch -d '2001-02-03 04:05:06.987654321' {} +
shardctl wait "$MNT" >/dev/null
shardctl cleanup run >/dev/null # nothing is left to be moved by itself, later
before=$(shard_bytes)
ls -l "$MNT/clone" 2>/dev/null || true # the kernel remembers that it is not there
clone "$src" "$MNT/clone"
same "$src" "$MNT/clone"
diff <(cd "$src" && find . -type f -printf '%p %b\n' | sort) \
	<(cd "$MNT/clone" && find . -type f -printf '%p %b\n' | sort) # holes
[ "$(stat -c %i "$MNT/clone/plain/big")" = "$(stat -c %i "$MNT/clone/plain/deep/hard")" ]
[ "$(stat -c %i "$MNT/clone/plain/big")" != "$(stat -c %i "$src/plain/big")" ]
clone "$src/plain/sparse" "$MNT/file"
cmp "$src/plain/sparse" "$MNT/file"
[ "$(stat -c '%b %y %h' "$src/plain/sparse")" = "$(stat -c '%b %y %h' "$MNT/file")" ]
clone "$src/plain/big" "$MNT/one"
[ "$(stat -c %h "$MNT/one")" -eq 1 ]
[ "$(getfattr --only-values -n user.colour "$MNT/one")" = blue ]
shardctl wait "$MNT" >/dev/null
[ "$(shard_bytes)" -eq "$before" ] || die "bytes moved: $before before, $(shard_bytes) after"
only src clone file one

step 'each is on its own'
cp -a "$src" "$TMPDIR/copy"
printf 'changed' | dd of="$MNT/clone/plain/big" bs=1 seek=1000000 conv=notrunc status=none
echo more >>"$MNT/clone/many/8"
rm "$MNT/clone/many/9"
truncate -s 10 "$MNT/clone/plain/sparse"
same "$TMPDIR/copy" "$src"
rm -rf "$MNT/clone"
clone "$src" "$MNT/clone"
printf 'changed' | dd of="$src/plain/big" bs=1 seek=2000000 conv=notrunc status=none
echo more >>"$src/many/8"
same "$TMPDIR/copy" "$MNT/clone"
rm -rf "$src"
shardctl cleanup run >/dev/null
same "$TMPDIR/copy" "$MNT/clone"
fs_umount
fs_check
fs_mount -o dev,suid
same "$TMPDIR/copy" "$MNT/clone"
mv "$MNT/clone" "$src"
rm "$MNT/one" "$MNT/file"

step 'what is not pushed yet, here and in the kernel'
exec 5<>"$MNT/open"
head -c 300000 "$src/plain/big" >&5
clone "$MNT/open" "$MNT/opened"
cmp -n 300000 "$src/plain/big" "$MNT/opened"
[ "$(stat -c %s "$MNT/opened")" -eq 300000 ]
exec 5>&-
rm "$MNT/open" "$MNT/opened"

step 'what is refused'
clone_fails 2 'there already' "$src" "$src"
clone_fails 2 'into itself' "$src" "$src/plain/deep/new"
clone_fails 2 'into itself' "$MNT" "$MNT/new"
clone_fails 2 'symbolic link' "$src/empty/link" "$MNT/new"
clone_fails 2 'only files and directories' "$src/plain/pipe" "$MNT/new"
clone_fails 2 'another file system' "$src" "$TMPDIR/new"
clone_fails 2 'is no new name' "$src" "$MNT/.."
rc=0
setpriv --reuid 1000 --regid 1000 --clear-groups shardctl clone "$src" "$MNT/new" \
	>/dev/null 2>&1 || rc=$?
[ "$rc" -ne 0 ]
only src

step 'flags and locks are not copied; a locked directory takes files'
mkdir "$MNT/fixed"
echo text >"$MNT/fixed/immutable"
echo text >"$MNT/fixed/locked"
chattr +i "$MNT/fixed/immutable"
shardctl lock --until 2101-01-01 -R "$MNT/fixed" >/dev/null 2>&1 || true
[ -n "$(getfattr --only-values -n user.shardfs.lock-until "$MNT/fixed/locked")" ]
clone "$MNT/fixed" "$MNT/free"
echo more | tee -a "$MNT/free/immutable" >>"$MNT/free/locked"
must_fail getfattr -n user.shardfs.lock-until "$MNT/free/locked" 2>/dev/null
clone "$src/many/1" "$MNT/fixed/1"
cmp "$src/many/1" "$MNT/fixed/1"
clone_fails 5 'locked' "$src/many" "$MNT/fixed/many"
rm -rf "$MNT/free"

step 'out of a snapshot'
rm -rf "$TMPDIR/copy"
cp -a "$src" "$TMPDIR/copy"
shardctl snapshot create day >/dev/null
echo more >>"$src/many/3"
rm -rf "$src/plain"
clone "$MNT/.shardfs/snapshots/day/src" "$MNT/clone"
same "$TMPDIR/copy" "$MNT/clone"
clone "$MNT/.shardfs/snapshots/day/src/plain/sparse" "$MNT/file"
cmp "$TMPDIR/copy/plain/sparse" "$MNT/file"
clone_fails 5 'changed by nobody' "$src/many" "$MNT/.shardfs/snapshots/day/new"
clone_fails 2 'only files and directories' "$MNT/.shardfs/snapshots" "$MNT/new"
# deleted while it is read: an error, and nothing of the clone
hooks 'hold clone-entry-before'
shardctl clone "$MNT/.shardfs/snapshots/day/src" "$MNT/late" >/dev/null 2>"$TMPDIR/clone.err" &
pid=$!
eventually 60 hook_is_held clone-entry-before
shardctl snapshot delete day >/dev/null
hooks
rc=0
wait $pid || rc=$?
[ "$rc" -ne 0 ] # 1 from the clone, or 3 when there is nobody to ask any more
eventually 60 has_only src fixed clone file
shardctl cleanup run >/dev/null
same "$TMPDIR/copy" "$MNT/clone"
rm -rf "$src" "$MNT/file"
mv "$MNT/clone" "$src"

step 'policies go with their directories'
shardctl policy set "$src/many" 2 >/dev/null
clone "$src" "$MNT/clone"
[ "$(getfattr --only-values -n user.shardfs.policy "$MNT/clone/many")" = copies=2 ]
[ "$(getfattr --only-values -n user.shardfs.policy "$MNT/clone/plain")" = copies=3 ]
clone "$src/many/1" "$MNT/clone/plain/1"
[ "$(getfattr --only-values -n user.shardfs.policy "$MNT/clone/plain/1")" = copies=3 ]
shardctl wait "$MNT/clone" >/dev/null
rm -rf "$MNT/clone"
shardctl policy unset "$src/many" >/dev/null

step 'one that is interrupted: whole, or nothing of it'
hooks 'hold clone-entry-before'
shardctl clone "$src" "$MNT/clone" >/dev/null 2>"$TMPDIR/clone.err" &
pid=$!
eventually 60 hook_is_held clone-entry-before
[ "$(find "$MNT" -maxdepth 1 -name '.shardfs-clone-*' | wc -l)" -eq 1 ]
kill -INT $pid
hooks
rc=0
wait $pid || rc=$?
if [ "$rc" -eq 0 ]; then
	same "$src" "$MNT/clone"
	rm -rf "$MNT/clone"
fi
only src fixed

step 'one that fails'
hooks 'fail clone-name-before ENOSPC'
clone_fails 1 'clone' "$src" "$MNT/clone"
hooks
only src fixed

step 'kills'
# The daemon dies at a place of the clone; what is left is sound before and after the next mount.
killed_at() { # RULE SRC DST
	local pid
	pid=$(fs_pid)
	hooks "$1"
	clone "$2" "$3" || true
	hook_killed "$(cut -d' ' -f2 <<<"$1")" || die "$1: was not reached"
	hooks
	fs_clear "$pid"
}
for rule in 'kill clone-entry-before' 'kill clone-entry-before 300' 'kill clone-name-before'; do
	killed_at "$rule" "$src" "$MNT/clone"
	fs_check
	fs_mount -o dev,suid
	eventually 60 has_only src fixed
done
killed_at 'kill clone-strike-before' "$src" "$MNT/clone"
fs_mount -o dev,suid
same "$src" "$MNT/clone"
# a second kill, perhaps while the rest of the first one is being taken away
killed_at 'kill clone-name-before' "$src" "$MNT/second"
fs_mount -o dev,suid
fs_kill
fs_mount -o dev,suid
eventually 60 has_only src fixed clone
same "$src" "$MNT/clone"
fs_umount
fs_check
