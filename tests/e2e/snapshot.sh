#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 400
#
# Snapshots on a real mount: a tree stays what it was, whatever becomes of the files; nothing in it
# can be changed; it outlives kills, remounts and the machine; deleting it gives its space back.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

SNAP=$MNT/.shardfs/snapshots

look() { # DIR: everything that a tree shows
	(cd "$1" && find . -printf '%P %y %m %U:%G %n %s %T@ %l\n' | sort &&
		find . -type f -print0 | sort -z | xargs -0 sha256sum &&
		getfattr -hRd -m - . 2>/dev/null && getfacl -R . 2>/dev/null)
}
is_as_before() { # NAME
	look "$SNAP/$1" >"$TMPDIR/$1.now"
	diff "$TMPDIR/$1.want" "$TMPDIR/$1.now" >"$TMPDIR/diff" || {
		head -20 "$TMPDIR/diff" >&2
		die "snapshot $1 is not what was there"
	}
}
take() { # NAME [PATH]
	look "${2:-$MNT}" >"$TMPDIR/$1.want"
	shardctl -m "$MNT" snapshot create "$@" >/dev/null
	is_as_before "$1"
}
exit_is() { # STATUS COMMAND...
	local want=$1 code=0
	shift
	"$@" >"$TMPDIR/out" 2>&1 || code=$?
	[ "$code" = "$want" ] || die "exit status $code, not $want: $* ($(cat "$TMPDIR/out"))"
}
says() { # TEXT COMMAND...: fails, and says so
	local text=$1
	shift
	if LC_ALL=C "$@" >"$TMPDIR/out" 2>&1; then
		die "succeeded: $*"
	fi
	grep -qF "$text" "$TMPDIR/out" || die "$*: $(cat "$TMPDIR/out")"
}

fs_make 'shard_size: 1MiB' 'shard_idle: 100ms' 'deletion_hold: 0s'
fs_mount -o allow_other

# ---- a tree with a bit of everything ----
mkdir -p "$MNT/dir/below" "$MNT/private"
head -c 3000000 /dev/urandom >"$MNT/dir/big"
head -c 700000 /dev/urandom >"$MNT/dir/over"
head -c 700000 /dev/urandom >"$MNT/dir/cut"
echo small >"$MNT/dir/below/small"
ln "$MNT/dir/below/small" "$MNT/dir/twin"
ln -s ../dir/big "$MNT/dir/link"
truncate -s 5M "$MNT/dir/sparse"
printf data | dd of="$MNT/dir/sparse" bs=1 seek=4000000 conv=notrunc status=none
setfattr -n user.colour -v blue "$MNT/dir/big"
setfacl -m u:1000:r "$MNT/dir/over"
chown 1000:1000 "$MNT/private"
chmod 700 "$MNT/private"
mkfifo "$MNT/dir/fifo"
touch -d '1969-07-20 20:17:40.123456789Z' "$MNT/dir/below/small"
take first
shardctl -m "$MNT" snapshot list | has '^first '
shardctl -m "$MNT" --json snapshot list | tr -d ' \n' | has -E '"first":\{"number":1,.*"files":7,'

tree_holes "$MNT/dir/sparse" >"$TMPDIR/holes"
[ -s "$TMPDIR/holes" ]

# reachable, and not listed
[ ! -e "$MNT/.shardfs/other" ]
must_fail grep -qx .shardfs <(ls -a "$MNT")
[ "$(ls "$MNT/.shardfs")" = snapshots ]
[ "$(ls "$SNAP")" = first ]
[ "$(stat -c %i "$SNAP/first/dir/twin")" = "$(stat -c %i "$SNAP/first/dir/below/small")" ]
[ "$(stat -c %b "$SNAP/first/dir/sparse")" = "$(stat -c %b "$MNT/dir/sparse")" ]
[ "$(stat -c %i "$SNAP/first/..")" = "$(stat -c %i "$SNAP")" ]
# what was written, and neither closed nor synced: pages of the kernel
# (by a process that starts no other: a descriptor that is closed anywhere flushes the file)
python3 -c '
import os, sys, time
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(fd, b"written")
os.mkdir(sys.argv[2])
while os.path.exists(sys.argv[2]):
    time.sleep(0.05)
' "$MNT/open" "$TMPDIR/is-open" &
writer=$!
eventually 60 test -d "$TMPDIR/is-open"
shardctl -m "$MNT" snapshot create open >/dev/null
rmdir "$TMPDIR/is-open"
wait "$writer"
[ "$(cat "$SNAP/open/open")" = written ]
rm "$MNT/open"
shardctl -m "$MNT" snapshot delete open
# a name that was not there a moment ago, and one that means another tree now
[ ! -e "$SNAP/again" ]
shardctl -m "$MNT" snapshot create again >/dev/null
[ "$(cat "$SNAP/again/dir/below/small")" = small ]
shardctl -m "$MNT" snapshot delete again
[ ! -e "$SNAP/again" ]
shardctl snapshot create again "$MNT/dir" >/dev/null
[ "$(cat "$SNAP/again/below/small")" = small ]
shardctl -m "$MNT" snapshot delete again

# ---- nothing in it changes ----
S=$SNAP/first
says 'Read-only file system' touch "$S/new"
says 'Read-only file system' mkdir "$S/dir/new"
says 'Read-only file system' dd if=/dev/zero of="$S/dir/big" bs=1 count=1 conv=notrunc
says 'Read-only file system' truncate -s 0 "$S/dir/big"
says 'Read-only file system' chmod 600 "$S/dir/big"
says 'Read-only file system' chown 5 "$S/dir/big"
says 'Read-only file system' touch "$S/dir/big"
says 'Read-only file system' setfattr -n user.colour -v red "$S/dir/big"
says 'Read-only file system' setfattr -x user.colour "$S/dir/big"
says 'Read-only file system' setfacl -m u:7:r "$S/dir/big"
says 'Read-only file system' rm -f "$S/dir/big"
says 'Read-only file system' rmdir "$S/dir/below"
says 'Read-only file system' mv "$S/dir/big" "$S/dir/other"
says 'Read-only file system' mv -T "$MNT/dir/over" "$S/dir/other"
says 'Read-only file system' ln "$S/dir/big" "$MNT/out"
says 'Read-only file system' ln "$MNT/dir/big" "$S/in"
says 'Read-only file system' ln -s x "$S/in"
says 'Read-only file system' chattr +i "$S/dir/big"
says 'Read-only file system' fallocate -l 10 "$S/dir/big"
says 'Read-only file system' setfattr -n user.shardfs.policy -v copies=1 "$S/dir"
says 'Read-only file system' setfattr -n user.shardfs.lock-until -v 2101-01-01 "$S/dir/big"
says 'Read-only file system' mkdir "$SNAP/second"
says 'Read-only file system' rmdir "$SNAP/first"
says 'Read-only file system' mv "$SNAP/first" "$SNAP/second"
says 'File exists' mkdir "$MNT/.shardfs"
says 'Read-only file system' rmdir "$MNT/.shardfs"
says 'Read-only file system' mv "$MNT/.shardfs" "$MNT/away"
must_fail mv -T "$MNT/private" "$MNT/.shardfs"
# who may not look there may not look here
if command -v setpriv >/dev/null; then
	says 'Permission denied' setpriv --reuid 2000 --clear-groups ls "$S/private"
fi
is_as_before first

# ---- whatever happens to the files ----
exec 5<"$MNT/dir/big" # unlinked and open when the second one is made
dd if=/dev/urandom of="$MNT/dir/over" bs=4096 seek=20 count=30 conv=notrunc status=none
truncate -s 1000 "$MNT/dir/cut"
rm "$MNT/dir/big"
mv "$MNT/dir/over" "$MNT/dir/cut" # over another one
rm "$MNT/dir/twin"
setfacl -b "$MNT/dir/cut"
printf more | dd of="$MNT/dir/sparse" bs=1 seek=1000 conv=notrunc status=none
fallocate -p -o 3997696 -l 8192 "$MNT/dir/sparse"
rm "$MNT/dir/link" && ln -s elsewhere "$MNT/dir/link"
mv "$MNT/dir/below" "$MNT/lower"
must_fail diff -q "$TMPDIR/holes" <(tree_holes "$MNT/dir/sparse") >/dev/null
diff "$TMPDIR/holes" <(tree_holes "$S/dir/sparse")
take second
# written in small pieces, so that its extents are written anew in the background
for i in $(seq 0 90); do
	dd if=/dev/urandom of="$MNT/dir/cut" bs=3000 seek=$((i * 2)) count=1 conv=notrunc status=none
done
shardctl -m "$MNT" cleanup run >/dev/null
counter() {
	shardctl -m "$MNT" --json counters | tr -d ' \n' | sed "s/.*\"$1\":\([0-9]*\).*/\1/"
}
[ "$(counter rewrite_ranges)" -gt 0 ]
is_as_before second
mkdir "$MNT/dir/below"
echo other >"$MNT/dir/below/small"
cp "$S/dir/big" "$MNT/dir/restored" # shares what the snapshot holds
cmp "$S/dir/big" "$MNT/dir/restored"
exec 5<&-
# a tree comes back, writable, and moves no bytes
shardctl clone "$S/dir" "$MNT/back" >/dev/null
cmp "$S/dir/big" "$MNT/back/big"
cmp "$S/dir/over" "$MNT/back/over"
[ "$(readlink "$MNT/back/link")" = ../dir/big ]
[ "$(getfattr --only-values -n user.colour "$MNT/back/big")" = blue ]
echo x >>"$MNT/back/big"
cmp "$S/dir/big" "$MNT/dir/restored"
must_fail shardctl clone "$MNT/lower" "$S/copy" 2>"$TMPDIR/out"
rm -r "$MNT/back"
is_as_before first
is_as_before second
take third "$MNT/dir"
rm -r "$MNT/dir"
is_as_before first
is_as_before second
is_as_before third
[ "$(cat "$SNAP/third/below/small")" = other ]

# its protection is that of what it needs
shardctl wait "$MNT" >/dev/null
[ "$(getfattr --only-values -n user.shardfs.status "$S/dir/big")" = protected ]
shardctl --json stat "$S" | tr -d ' \n' | has '"files":7,'

# ---- P6: what only a snapshot needs is not deleted, also not by moving it ----
shardctl -m "$MNT" cleanup run >/dev/null
fs_umount
fs_check
fs_mount -o allow_other
is_as_before first
is_as_before second
is_as_before third

# of a shard that is nearly empty, what only a snapshot names moves on
shardctl wait "$MNT" >/dev/null
mkdir "$MNT/part"
head -c 900000 /dev/urandom >"$MNT/part/most"
head -c 50000 /dev/urandom >"$MNT/part/rest"
shardctl wait "$MNT" >/dev/null
moved=$(counter gc_chunks_moved)
hooks 'hold gc-move-commit-before' # it is moved when only the snapshot has it
rm "$MNT/part/most"
take part "$MNT/part"
rm "$MNT/part/rest"
hooks
shardctl -m "$MNT" cleanup run >/dev/null
[ "$(counter gc_chunks_moved)" -gt "$moved" ]
fs_umount
fs_mount -o allow_other
is_as_before part
shardctl -m "$MNT" snapshot delete part

# ---- verbs ----
exit_is 5 shardctl -m "$MNT" snapshot create first
grep -q 'there is a snapshot of that name' "$TMPDIR/out"
exit_is 5 shardctl -m "$MNT" snapshot delete none
grep -q 'no snapshot of that name' "$TMPDIR/out"
exit_is 2 shardctl -m "$MNT" snapshot create a/b
exit_is 2 shardctl -m "$MNT" snapshot create ..
exit_is 2 shardctl -m "$MNT" snapshot create ''
exit_is 2 shardctl snapshot create x "$MNT/lower/small"
exit_is 2 shardctl snapshot create x "$SNAP/first/dir"
if command -v setpriv >/dev/null; then
	exit_is 7 setpriv --reuid 2000 --clear-groups shardctl -m "$MNT" snapshot create x
	exit_is 7 setpriv --reuid 2000 --clear-groups shardctl -m "$MNT" snapshot delete first
	exit_is 0 setpriv --reuid 2000 --clear-groups shardctl -m "$MNT" snapshot list
fi
shardctl -m "$MNT" --json audit list --kind command | grep 'snapshot create' >/dev/null
shardctl -m "$MNT" --json audit list --kind snapshot | grep 'deleted: part' >/dev/null

# ---- retention ----
for i in 1 2 3 4; do
	shardctl -m "$MNT" snapshot create "auto-$i" "$MNT/lower" >/dev/null
done
exit_is 2 shardctl -m "$MNT" snapshot prune auto-
exit_is 2 shardctl -m "$MNT" snapshot prune --keep-last x auto-
exit_is 0 shardctl -m "$MNT" snapshot prune --dry-run --keep-last 2 auto-
printf 'keep    auto-4\nkeep    auto-3\ndelete  auto-2\ndelete  auto-1\n' | diff - "$TMPDIR/out"
[ -d "$SNAP/auto-1" ]
exit_is 0 shardctl -m "$MNT" snapshot prune --keep-last 2 auto-
[ "$(ls "$SNAP" | tr '\n' ' ')" = 'auto-3 auto-4 first second third ' ]
exit_is 0 shardctl -m "$MNT" snapshot prune --keep-yearly 1 auto-
[ "$(ls "$SNAP" | tr '\n' ' ')" = 'auto-4 first second third ' ]
shardctl -m "$MNT" snapshot delete auto-4

# ---- handles of files outlive a remount ----
handle() { # make FILE|open: prints what is in it
	python3 - "$MNT" "$TMPDIR/handle" "$@" <<'END'
import ctypes, os, sys
mnt, store, what = sys.argv[1:4]
libc = ctypes.CDLL(None, use_errno=True)
mount = ctypes.c_int()
if what == 'make':
    h = ctypes.create_string_buffer(8 + 128)
    ctypes.memmove(h, (128).to_bytes(4, sys.byteorder), 4)
    if libc.name_to_handle_at(-100, sys.argv[4].encode(), h, ctypes.byref(mount), 0) < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    open(store, 'wb').write(h.raw)
else:
    h = ctypes.create_string_buffer(open(store, 'rb').read())
    top = os.open(mnt, os.O_RDONLY)
    fd = libc.open_by_handle_at(top, h, os.O_RDONLY)
    if fd < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    sys.stdout.write(os.read(fd, 100).decode())
END
}
handle make "$SNAP/third/below/small"
fs_umount
fs_mount -o allow_other
[ "$(handle open)" = other ]

# ---- kills: before, and after it was told ----
killed_at() { # PLACE COMMAND...
	local pid place=$1
	shift
	pid=$(fs_pid)
	hooks "kill $place"
	"$@" >"$TMPDIR/out" 2>&1 || true
	eventually 60 hook_killed "$place"
	fs_clear "$pid"
	hooks
	fs_mount -o allow_other
}
mkdir "$MNT/k"
echo one >"$MNT/k/file"
look "$MNT/k" >"$TMPDIR/killed.want"
killed_at snapshot-create-before shardctl snapshot create unborn "$MNT/k"
[ ! -e "$SNAP/unborn" ]
killed_at snapshot-create-after shardctl snapshot create killed "$MNT/k"
is_as_before killed
look "$MNT/k" >"$TMPDIR/fourth.want"
shardctl snapshot create fourth "$MNT/k" >/dev/null
fs_kill
fs_mount -o allow_other
is_as_before fourth
echo two >"$MNT/k/file"
is_as_before fourth
is_as_before first

# ---- deleting ----
exec 6<"$SNAP/second/dir/cut"
shardctl -m "$MNT" snapshot delete second
[ ! -e "$SNAP/second" ]
says 'Stale file handle' cat /dev/fd/6
exec 6<&-
is_as_before first
is_as_before third
# killed at any step of giving back, it goes on
for place in snapshot-drop-before snapshot-drop-after; do
	look "$MNT" >"$TMPDIR/$place.want"
	shardctl -m "$MNT" snapshot create "$place" >/dev/null
	echo "$place" >>"$MNT/k/file"
	killed_at "$place" shardctl -m "$MNT" snapshot delete "$place"
	if [ -e "$SNAP/$place" ]; then # killed before that was answered
		is_as_before "$place"
		shardctl -m "$MNT" snapshot delete "$place"
	fi
	is_as_before first
	fs_umount
	fs_check
	fs_mount -o allow_other
done
find "$FS/providers" -type f ! -path '*index*' | wc -l >"$TMPDIR/held"
for name in first third killed fourth; do
	shardctl -m "$MNT" snapshot delete "$name"
done
[ -z "$(ls "$SNAP")" ]
given_back() {
	shardctl -m "$MNT" cleanup run >/dev/null &&
		[ "$(find "$FS/providers" -type f ! -path '*index*' | wc -l)" -lt "$(cat "$TMPDIR/held")" ]
}
eventually 60 given_back
history_is_empty() { # it goes piece by piece, some at each mount
	local rows
	for _ in $(seq 10); do
		fs_umount
		rows=$(sqlite3 "$FS/index.db" 'SELECT (SELECT count(*) FROM extent_history)+(SELECT
			count(*) FROM inode_history)+(SELECT count(*) FROM dirent_history)+(SELECT
			count(*) FROM snapshot)')
		fs_check
		fs_mount -o allow_other
		[ "$rows" -gt 0 ] || return 0
		eventually 60 providers_answer
		shardctl -m "$MNT" cleanup run >/dev/null
	done
	die "$rows rows of the history are left"
}
if command -v sqlite3 >/dev/null; then
	history_is_empty
fi

# ---- the machine is gone ----
mkdir -p "$MNT/again"
head -c 500000 /dev/urandom >"$MNT/again/a"
echo b >"$MNT/again/b"
setfattr -n user.x -v y "$MNT/again/b"
take kept "$MNT/again"
rm "$MNT/again/a"
echo c >"$MNT/again/b"
mv "$MNT/again/b" "$MNT/again/d"
take later
echo d >"$MNT/again/d"
shardctl wait "$MNT" >/dev/null
fs_umount
mv "$FS" "$TMPDIR/lost"
for name in primary secondary tertiary; do
	install -d -m 0700 "$FS"
	cp -a "$TMPDIR/lost/providers/$name" "$TMPDIR/lost/passphrase" "$FS/"
	{
		printf 'home: %s\npassphrase_file: %s\n' "$FS/home" "$FS/passphrase"
		printf 'providers:\n  - name: %s\n    type: dir\n    path: %s\n' "$name" "$FS/$name"
	} >"$CONF"
	shardfs-recover "$CONF" >"$TMPDIR/recover" 2>&1 || die "$(cat "$TMPDIR/recover")"
	fs_mount -o take_over,allow_other
	is_as_before kept
	is_as_before later
	echo e >"$MNT/again/d"
	shardctl -m "$MNT" snapshot delete kept
	is_as_before later
	fs_umount
	fs_check
	rm -rf "$FS"
done

# ---- a name cannot write over a terminal ----
fs_make
fs_mount
shardctl -m "$MNT" snapshot create $'new\nline\e[2J' >/dev/null
: >"$MNT/"$'tab\there'
shardctl -m "$MNT" snapshot list | has -F 'new\nline\x1b[2J  20'
shardctl -m "$MNT" snapshot diff $'new\nline\e[2J' | has -xF '+  tab\there'
shardctl -m "$MNT" --json snapshot list | jq -e '.snapshots | has("new\nline\u001b[2J")' >/dev/null
fs_umount
rm -rf "$FS"

# ---- what is lost in a snapshot alone has a name ----
fs_make 'shard_idle: 100ms' 'cache_size: 0' 'chunk_memory: 0'
fs_mount -o allow_other
mkdir "$MNT/dir"
head -c 200000 /dev/urandom >"$MNT/dir/lost"
shardctl wait "$MNT" >/dev/null
find "$FS/providers" -type f -name '????????????????????????????????' >"$TMPDIR/objects"
shardctl -m "$MNT" snapshot create older >/dev/null
shardctl -m "$MNT" snapshot create newer >/dev/null
rm "$MNT/dir/lost"
xargs rm <"$TMPDIR/objects"
fs_umount
fs_mount -o allow_other
eventually 60 providers_answer
exit_is 1 shardctl -m "$MNT" --json scrub
tr -d ' \n' <"$TMPDIR/out" | grep -F '"lost_paths":["/.shardfs/snapshots/newer/dir/lost"]' >/dev/null ||
	die "$(cat "$TMPDIR/out")"
must_fail cat "$SNAP/older/dir/lost" >/dev/null 2>&1
fs_umount
