#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
#
# The POSIX surface: system calls first (posix_calls.c), then programs that
# people use, then all of it again after a remount.
. "${0%/*}/lib.sh"

work=$TMPDIR/work
mkdir -p "$work"
missing=()
# need PROGRAM...: whether all are there; else the check is left out, and the end says so.
need() {
	local program
	for program; do
		command -v "$program" >/dev/null || {
			missing+=("$program")
			return 1
		}
	done
}
step() {
	echo "-- $*"
}
# Everything about a tree that must survive: names, types, owners, modes, times, content, attributes.
fingerprint() { # DIR
	(
		cd "$1" || exit 1
		find . -printf '%p %y %m %U %G %n %s %T@ %l\n' | LC_ALL=C sort |
			sed 's/^\(.*\) d \([0-9]* [0-9]* [0-9]* [0-9]*\) [0-9]* /\1 d \2 - /'
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
		find . \( -type b -o -type c \) -exec stat -c '%n %t %T' {} + | LC_ALL=C sort
		find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - 2>/dev/null
		find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -p -s 2>/dev/null
	)
}

fs_make
fs_mount -o allow_other,suid,dev

step 'system calls'
mkdir "$MNT/calls"
"$SHARDFS_BUILDDIR/bin/e2e/posix_calls" "$MNT/calls"

step 'ACLs'
if need setfacl getfacl; then
	mkdir "$MNT/acl"
	cd "$MNT/acl"
	echo secret >f
	chmod 0640 f
	setfacl -m u:1234:rw f
	[ "$(stat -c %a f)" = 660 ] # the mask shows as the group's bits
	chmod 0600 f
	getfacl -cp f | has -x 'mask::---'
	getfacl -cp f | has -x 'user:1234:rw-	.*#effective:---\|user:1234:rw-[[:space:]]*#effective:---'
	setfacl -m m::rw f
	setpriv --reuid 1234 --regid 1234 --clear-groups cat f | has -x secret
	must_fail setpriv --reuid 1235 --regid 1235 --clear-groups cat f 2>/dev/null
	setfacl -b f
	[ -z "$(getfattr -m - -d f 2>/dev/null)" ]
	mkdir d
	setfacl -d -m u:1234:rwx,g::rx,o::- d
	(umask 077 && mkdir d/sub && touch d/file)
	getfacl -cp d/sub | has -x 'default:user:1234:rwx'
	getfacl -cp d/sub | has '^user:1234:rwx'
	getfacl -cp d/file | has '^user:1234:rwx'
	[ "$(stat -c %a d/file)" = 660 ] # umask plays no part below a default ACL
	[ "$(stat -c %a d/sub)" = 770 ]
	getfacl -cp d/file >"$work/acl.before"
	setfacl -k d
	touch d/plain
	[ "$(stat -c %a d/plain)" = 644 ]
	must_fail setfacl -d -m u:1:r f 2>/dev/null
	cd /
fi

step 'chattr, setgid directories, sticky'
if need chattr lsattr; then
	echo fixed >"$MNT/fixed"
	chattr +i "$MNT/fixed"
	lsattr "$MNT/fixed" | has '^....i'
	must_fail sh -c "echo more >>$MNT/fixed" 2>/dev/null
	must_fail rm -f "$MNT/fixed" 2>/dev/null
	must_fail mv "$MNT/fixed" "$MNT/moved" 2>/dev/null
fi
mkdir -m 1777 "$MNT/tmp"
cd "$MNT" # others cannot go through $TMPDIR
setpriv --reuid 1000 --regid 1000 --clear-groups touch tmp/of-1000
must_fail setpriv --reuid 1001 --regid 1001 --clear-groups rm -f tmp/of-1000 2>/dev/null
cd /

step 'tar with attributes, ACLs and holes'
mkdir -p "$work/tree/sub"
cd "$work/tree"
head -c 3000000 /dev/urandom >random
yes 'half a line of text' | head -c 2000000 >text || true
truncate -s 20M sparse
printf 'island' | dd of=sparse bs=1 seek=15000000 conv=notrunc status=none
ln random hard
ln -s ../random sub/soft
mkfifo sub/pipe
mknod sub/null c 1 3
chown 12:34 text
touch -d '1955-11-05 06:15:00.123456789' text
touch -d '2155-01-02 03:04:05.987654321' sub/soft -h
need setfattr && setfattr -n user.note -v value random && setfattr -n trusted.note -v t sub
need setfacl && setfacl -m u:77:rwx,d:u:78:r sub
cd /
# Not of this second: rsync does not set a time that differs by less.
find "$work/tree" -depth ! -name text ! -name soft \
	-exec touch -h -d '2021-03-04 05:06:07.123456789' {} +
fingerprint "$work/tree" >"$work/tree.print"
mkdir "$MNT/tar" "$MNT/rsync" "$MNT/cp"
tar -C "$work/tree" --xattrs --xattrs-include='*' --acls --sparse -cf - . |
	tar -C "$MNT/tar" --xattrs --xattrs-include='*' --acls -xpf -
fingerprint "$MNT/tar" | grep -v '^\./sub/soft ' >"$work/a" # tar keeps seconds of links
grep -v '^\./sub/soft ' "$work/tree.print" >"$work/b"
diff "$work/a" "$work/b" >"$work/diff" || { head -40 "$work/diff"; die 'tar'; }
[ "$(stat -c %b "$MNT/tar/sparse")" -lt 4000 ]
tar -C "$MNT/tar" --xattrs --acls --sparse -cf "$work/back.tar" .
[ "$(stat -c %s "$work/back.tar")" -lt 12000000 ]

step 'rsync -aHAXS, --inplace, --link-dest'
if need rsync; then
	rsync -aHAXS "$work/tree/" "$MNT/rsync/"
	fingerprint "$MNT/rsync" >"$work/a"
	diff "$work/a" "$work/tree.print"
	[ -z "$(rsync -aHAXSni "$work/tree/" "$MNT/rsync/")" ]
	printf 'changed in the middle' | dd of="$work/tree/random" bs=1 seek=1000000 conv=notrunc \
		status=none
	rsync -aHAX --inplace --no-whole-file "$work/tree/" "$MNT/rsync/"
	cmp "$work/tree/random" "$MNT/rsync/random"
	rsync -aHAX --link-dest="$MNT/rsync" "$work/tree/" "$MNT/rsync.2/"
	[ "$(stat -c %i "$MNT/rsync/text")" = "$(stat -c %i "$MNT/rsync.2/text")" ]
fi

step 'cp -a --reflink=auto, cp --sparse=always'
cp -a --reflink=auto "$work/tree/." "$MNT/cp/"
fingerprint "$work/tree" >"$work/tree.print"
fingerprint "$MNT/cp" >"$work/a"
diff "$work/a" "$work/tree.print"
cp -a --reflink=auto "$MNT/cp/random" "$MNT/cp/random.copy"
cmp "$MNT/cp/random" "$MNT/cp/random.copy"
# Fresh bytes that the kernel alone has: a copy that looks for holes must see them.
head -c 5000000 /dev/urandom >"$work/fresh"
exec 5<>"$MNT/fresh"
cat "$work/fresh" >&5
cp --sparse=always "$MNT/fresh" "$MNT/fresh.copy"
exec 5>&-
cmp "$work/fresh" "$MNT/fresh.copy"

step 'a writer without fsync is read by another mount user at once'
(
	exec 6>"$MNT/shared"
	printf 'unsynced' >&6
	[ "$(cat "$MNT/shared")" = unsynced ]
)

step 'git'
if need git; then
	export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b \
		GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
	# nothing that goes on behind git's back, and holds the mount
	export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=gc.auto GIT_CONFIG_VALUE_0=0 \
		GIT_CONFIG_KEY_1=maintenance.auto GIT_CONFIG_VALUE_1=false
	git init -q "$MNT/git"
	cp -r "$SHARDFS_SRCDIR/src" "$MNT/git/"
	git -C "$MNT/git" add .
	git -C "$MNT/git" commit -qm one
	rm -r "$MNT/git/src/util"
	git -C "$MNT/git" commit -qam two
	git -C "$MNT/git" checkout -q HEAD~1
	diff -r "$SHARDFS_SRCDIR/src/util" "$MNT/git/src/util"
	git -C "$MNT/git" gc -q
	git -C "$MNT/git" fsck --full --strict
	git clone -q "$MNT/git" "$MNT/git.clone"
fi

step 'sqlite3'
if need sqlite3; then
	for mode in delete wal; do
		sqlite3 "$MNT/$mode.db" "PRAGMA journal_mode=$mode; CREATE TABLE t(a INTEGER PRIMARY KEY, b);
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000)
			INSERT INTO t SELECT i, hex(randomblob(20)) FROM n;
			DELETE FROM t WHERE a % 3 = 0; VACUUM;" >/dev/null
		[ "$(sqlite3 "$MNT/$mode.db" 'PRAGMA integrity_check; SELECT count(*) FROM t')" = \
			$'ok\n13334' ]
	done
fi

step 'a compiler'
if need cc; then
	mkdir "$MNT/cc"
	printf '#include <stdio.h>\nint main(void) { puts("built here"); return 0; }\n' >"$MNT/cc/a.c"
	(cd "$MNT/cc" && cc -g -o a a.c && [ "$(./a)" = 'built here' ])
fi

step 'a loop-mounted image'
if need mkfs.ext4 losetup; then
	truncate -s 64M "$MNT/image"
	mkfs.ext4 -q "$MNT/image"
	mkdir -p "$work/loop"
	if mount -o loop "$MNT/image" "$work/loop" 2>"$work/loop.err"; then
		cp "$work/tree/random" "$work/loop/"
		sync -f "$work/loop"
		cmp "$work/tree/random" "$work/loop/random"
		umount "$work/loop"
		e2fsck -fn "$MNT/image" >/dev/null
	else
		echo "no loop devices here: $(cat "$work/loop.err")"
		missing+=(loop)
	fi
fi

step 'all of it after a remount'
fingerprint "$MNT" >"$work/before"
fs_umount
fs_mount -o allow_other,suid,dev
fingerprint "$MNT" >"$work/after"
diff "$work/before" "$work/after" >"$work/diff" || { head -40 "$work/diff"; die 'remount'; }
need lsattr && lsattr "$MNT/fixed" | has '^....i'
need chattr && chattr -i "$MNT/fixed"
rm -rf "${MNT:?}"/*
[ -z "$(ls -A "$MNT")" ]
fs_umount
[ "${#missing[@]}" -eq 0 ] || echo "left out for want of: ${missing[*]}"
