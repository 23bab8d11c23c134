#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# A tree straight into a plain directory: all of it, from any one provider; nothing under its name
# that is not whole, wherever the restore is killed, and the next run completes it; what cannot be
# had is named.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

WORK=.shardfs-recover
config_for() { # PROVIDER...: with a home that must never come to be
	local provider
	printf 'home: %s\npassphrase_file: %s\nproviders:\n' "$TMPDIR/nowhere/home" "$FS/passphrase"
	for provider; do
		printf '  - {name: %s, type: dir, path: %s}\n' "$provider" "$FS/providers/$provider"
	done
}
# All of it is there and nothing else.
is_complete() { # DIR
	[ ! -e "$1/$WORK" ] || die "$1: $WORK is still there"
	[ ! -e "$TMPDIR/nowhere" ] || die 'a home was made'
	tree_describe "$1/tree" >"$TMPDIR/found"
	diff "$TMPDIR/expected" "$TMPDIR/found" || die "$1: another tree"
	[ "$(stat -c '%a %u %g %.9Y' "$1")" = "$(cat "$TMPDIR/root")" ] || die "$1 itself differs"
}
# Whatever has its name is whole.
nothing_is_partial() { # DIR
	python3 - "$1" "$TMPDIR/source" "$WORK" <<'END' || die "$1: something is not whole"
import filecmp, os, sys
there, source, work = sys.argv[1:]
for path, dirs, files in os.walk(there):
    dirs[:] = [d for d in dirs if d != work]
    for file in files:
        found = os.path.join(path, file)
        wanted = os.path.join(source, os.path.relpath(found, os.path.join(there, 'tree')))
        a, b = os.lstat(found), os.lstat(wanted)
        # rsync leaves out the fractions of what it makes within the same second
        if (a.st_mode, a.st_uid, a.st_gid, a.st_size, int(a.st_mtime), a.st_rdev) != \
           (b.st_mode, b.st_uid, b.st_gid, b.st_size, int(b.st_mtime), b.st_rdev):
            sys.exit(f'{found}: other attributes: {a} {b}')
        if os.path.isfile(found) and not os.path.islink(found) and \
           not filecmp.cmp(found, wanted, shallow=False):
            sys.exit(f'{found}: other bytes')
END
}

: >"$TMPDIR/flagged"
has_flags=
if chattr +d "$TMPDIR/flagged" 2>/dev/null; then has_flags=yes; fi

fs_make 'shard_size: 1MiB'
fs_mount
tree_make "$TMPDIR/source"
mkdir "$TMPDIR/source/many"
for i in $(seq 600); do
	echo "$i" >"$TMPDIR/source/many/$i"
done
for i in $(seq 40); do # their first names are far from the others
	ln "$TMPDIR/source/many/$i" "$TMPDIR/source/odd/another-$i"
done
rsync -aHAX --sparse "$TMPDIR/source/" "$MNT/tree/"
chattr +d "$MNT/tree/plain/file-7" "$MNT/tree/plain/deep"
chmod 0751 "$MNT"
touch -d '2003-03-03 03:03:03.000000003' "$MNT"
stat -c '%a %u %g %.9Y' "$MNT" >"$TMPDIR/root"
tree_describe "$MNT/tree" >"$TMPDIR/expected"
# A lock holds on the file system where it was set, and is no attribute of what is taken out of it.
setfattr -n user.shardfs.lock-until -v 2101-01-01 "$MNT/tree/many/5"
shardctl wait "$MNT" >/dev/null
fs_umount

# From each provider alone.
for provider in primary secondary tertiary; do
	config_for "$provider" >"$TMPDIR/$provider.yaml"
	shardfs-recover --to "$TMPDIR/to-$provider" "$TMPDIR/$provider.yaml" >"$TMPDIR/out"
	is_complete "$TMPDIR/to-$provider"
	grep -q "^$TMPDIR/to-$provider: restored: [0-9]* files" "$TMPDIR/out"
	[ -z "$has_flags" ] ||
		lsattr -d "$TMPDIR/to-$provider"/tree/plain/{file-7,deep} | awk '$1 !~ /d/ { exit 1 }'
done
# It is done: there is something in it that is not ours to write over.
must_fail shardfs-recover --to "$TMPDIR/to-primary" "$TMPDIR/primary.yaml" 2>"$TMPDIR/err"
grep -q 'not empty, and no restore was begun there' "$TMPDIR/err"
is_complete "$TMPDIR/to-primary"
must_fail shardfs-recover --branch "$TMPDIR/primary.yaml" # goes with --to

# Killed again and again, in the middle of a file, before and after a name is given.
config_for primary secondary tertiary >"$TMPDIR/all.yaml"
to=$TMPDIR/killed
for rule in 'restore-write-before 5' 'restore-name-before 1' 'restore-name-after 1' \
	'restore-name-after 100' 'restore-write-before 3' 'restore-name-before 200'; do
	hooks "kill $rule"
	rc=0
	shardfs-recover --to "$to" "$TMPDIR/all.yaml" >"$TMPDIR/out" || rc=$?
	[ "$rc" -eq 137 ] || die "$rule: exit $rc instead of a kill"
	nothing_is_partial "$to"
done
hooks
shardfs-recover --to "$to" "$TMPDIR/all.yaml" | tee "$TMPDIR/out"
grep -q 'was begun here and goes on' "$TMPDIR/out"
kept=$(sed -n 's/^  \([0-9]*\) of them were there already, whole$/\1/p' "$TMPDIR/out")
[ "$kept" -ge 300 ] || die "only $kept files were left alone"
is_complete "$to"

# What goes on is what was begun, though something newer is there by then.
hooks 'kill restore-name-after 20'
rc=0
shardfs-recover --to "$TMPDIR/begun" "$TMPDIR/all.yaml" >/dev/null || rc=$?
[ "$rc" -eq 137 ] || die "exit $rc instead of a kill"
hooks
fs_mount
echo newer >"$MNT/newer"
shardctl wait "$MNT" >/dev/null
rm "$MNT/newer"
touch -d '2003-03-03 03:03:03.000000003' "$MNT"
shardctl wait "$MNT" >/dev/null
fs_umount
shardfs-recover --to "$TMPDIR/begun" "$TMPDIR/all.yaml"
is_complete "$TMPDIR/begun"

# A shard is nowhere: its files are named, are not there, and the others are; when it comes back the
# same command completes the tree.
shard=$(find "$FS/providers/primary" -type f -size +500k -name '????????????????????????????????' |
	sed -n 1p)
mv "$shard" "$TMPDIR/shard"
to=$TMPDIR/partial
rc=0
shardfs-recover --to "$to" "$TMPDIR/primary.yaml" >"$TMPDIR/out" 2>"$TMPDIR/err" || rc=$?
[ "$rc" -eq 4 ] || die "exit $rc: $(cat "$TMPDIR/out" "$TMPDIR/err")"
sed -n 's,^shardfs-recover: /tree/\(.*\): cannot be had whole.*,\1,p' "$TMPDIR/err" | sort >"$TMPDIR/damaged"
[ -s "$TMPDIR/damaged" ] || die 'no file is named'
nothing_is_partial "$to"
while read -r file; do
	[ ! -e "$to/tree/$file" ] || die "$file is there"
done <"$TMPDIR/damaged"
(cd "$TMPDIR/source" && find . ! -type d -print0 | tr '\n\0' '?\n' | sed 's,^\./,,' | sort) >"$TMPDIR/all"
(cd "$to/tree" && find . ! -type d -print0 | tr '\n\0' '?\n' | sed 's,^\./,,' | sort) |
	comm -23 "$TMPDIR/all" - | diff "$TMPDIR/damaged" - || die 'others are not there either'
# ... its bytes are others: they are not believed
tr 'a-z' 'b-za' <"$TMPDIR/shard" >"$shard"
rc=0
shardfs-recover --to "$to" "$TMPDIR/primary.yaml" >"$TMPDIR/out" 2>&1 || rc=$?
[ "$rc" -eq 4 ] || die "exit $rc: $(cat "$TMPDIR/out")"
nothing_is_partial "$to"
cp -p "$TMPDIR/shard" "$shard"
shardfs-recover --to "$to" "$TMPDIR/primary.yaml"
is_complete "$to"

# A file with two names that nobody may change.
if [ -n "$has_flags" ]; then
	fs_mount
	mkdir "$MNT/fixed"
	echo fixed >"$MNT/fixed/one"
	ln "$MNT/fixed/one" "$MNT/fixed/two"
	chattr +i "$MNT/fixed/one"
	shardctl wait "$MNT" >/dev/null
	fs_umount
	rc=0
	shardfs-recover --to "$TMPDIR/immutable" "$TMPDIR/all.yaml" >"$TMPDIR/out" 2>"$TMPDIR/err" || rc=$?
	flags=$(lsattr "$TMPDIR/immutable/fixed/two")
	chattr -R -i "$TMPDIR/immutable" 2>/dev/null || true # or nobody could remove it
	[ "$rc" -eq 0 ] || die "exit $rc: $(cat "$TMPDIR/out" "$TMPDIR/err")"
	[[ $flags == ????i* ]] || die "flags: $flags"
	[ "$TMPDIR/immutable/fixed/one" -ef "$TMPDIR/immutable/fixed/two" ]
fi
