#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# Any one provider, with the passphrase, gives back the whole tree on a machine that has nothing
# else: after a clean unmount, and after a kill of the daemon that came after `shardctl wait`.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

PROVIDERS='primary secondary tertiary'

make_tree() { # DIR
	local i
	mkdir -p "$1/plain/deep/deeper" "$1/empty" "$1/odd"
	for i in $(seq 30); do
		head -c "$((i * 3313))" /dev/urandom >"$1/plain/file-$i"
	done
	head -c 3M /dev/urandom >"$1/plain/deep/big"
	: >"$1/plain/deep/nothing"
	echo kept >"$1/odd/mode" && chmod 4750 "$1/odd/mode"
	echo owned >"$1/odd/owner" && chown 1234:2345 "$1/odd/owner"
	echo old >"$1/odd/old" && touch -d '1965-02-03 04:05:06.123456789' "$1/odd/old"
	echo late >"$1/odd/late" && touch -d '2150-02-03 04:05:06.5' "$1/odd/late"
	ln "$1/plain/file-3" "$1/odd/hard"
	ln "$1/plain/file-3" "$1/plain/deep/deeper/hard too"
	ln -s ../plain/file-1 "$1/odd/soft"
	ln -s 'not there' "$1/odd/dangling"
	mkfifo "$1/odd/fifo"
	mknod "$1/odd/device" c 1 3
	printf 'name with a newline' >"$1/odd/$(printf 'a\nb')"
	# data, 1 MiB of nothing, data, and a hole at the end
	head -c 64K /dev/urandom >"$1/odd/sparse"
	head -c 64K /dev/urandom | dd of="$1/odd/sparse" bs=64K seek=17 conv=notrunc status=none
	truncate -s 4M "$1/odd/sparse"
	setfattr -n user.colour -v blue "$1/odd/mode"
	setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' x)" "$1/plain/deep"
	setfacl -m u:1234:rw,g:2345:r "$1/odd/owner"
	setfacl -d -m u:1234:rwx "$1/empty"
	# what is deleted, renamed and written over must stay so
	echo gone >"$1/plain/gone" && rm "$1/plain/gone"
	echo moved >"$1/plain/before" && mv "$1/plain/before" "$1/plain/deep/after"
	head -c 10000 /dev/urandom | dd of="$1/plain/file-9" conv=notrunc bs=10000 seek=1 status=none
	chmod 0711 "$1/plain/deep/deeper"
	touch -d '2001-01-01 00:00:00.000000001' "$1/plain/deep/deeper" "$1/empty"
}
holes() { # FILE: where data begins and ends
	python3 - "$1" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size, at = os.fstat(fd).st_size, 0
while at < size:
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        break
    at = os.lseek(fd, data, os.SEEK_HOLE)
    print(data, at)
END
}
# Everything that stat, xattrs and ACLs say about a tree.
describe() { # DIR
	(cd "$1" && find . -print0 | LC_ALL=C sort -z |
		xargs -0 stat --printf '%N %A %u %g %h %F %t:%T %.9Y\n' &&
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 stat --printf '%N %s\n' &&
		getfattr -R -h -d -m '^(user|security|trusted)\.' . | LC_ALL=C sort &&
		getfacl -R -p . && holes odd/sparse &&
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}
recover_config() { # PROVIDER HOME
	printf 'home: %s\npassphrase_file: %s\nproviders:\n' "$2" "$FS/passphrase"
	printf '  - name: %s\n    type: dir\n    role: %s\n    region: %s\n    path: %s\n' \
		"$1" "$1" "$1-region" "$TMPDIR/only/$1"
}
# Nothing is left but one provider (a copy of it, for each recovery writes to it) and the passphrase.
check_alone() { # PROVIDER
	local home=$TMPDIR/new-$1-$RANDOM mnt=$TMPDIR/mnt-$1
	rm -rf "$TMPDIR/only"
	mkdir -p "$TMPDIR/only" "$mnt"
	cp -a "$FS/providers/$1" "$TMPDIR/only/$1"
	recover_config "$1" "$home" >"$TMPDIR/recover.yaml"
	mv "$FS" "$FS.away"
	install -d -m 0700 "$FS"
	cp -p "$FS.away/passphrase" "$FS/passphrase"
	shardfs-recover --list "$TMPDIR/recover.yaml" | tee "$TMPDIR/list"
	grep -q "^$1 .* complete\$" "$TMPDIR/list"
	[ ! -e "$home" ] || die '--list made something'
	shardfs-recover "$TMPDIR/recover.yaml"
	must_fail shardfs-recover "$TMPDIR/recover.yaml" # there is a file system now
	fsck.shardfs "$TMPDIR/recover.yaml"
	shardfs "$TMPDIR/recover.yaml" "$mnt" >>"$LOG" 2>&1
	describe "$mnt/tree" >"$TMPDIR/found"
	diff "$TMPDIR/expected" "$TMPDIR/found" || die "$1: another tree"
	rsync -aHAX -n --checksum --delete --itemize-changes "$TMPDIR/source/" "$mnt/tree/" \
		>"$TMPDIR/changes"
	[ ! -s "$TMPDIR/changes" ] || die "$1: $(head "$TMPDIR/changes")"
	# and it can be written
	echo new >"$mnt/tree/new" && sync "$mnt/tree/new" && rm "$mnt/tree/new"
	fs_umount "$mnt"
	rm -rf "$FS"
	mv "$FS.away" "$FS"
}

fs_make
fs_mount
make_tree "$TMPDIR/source"
rsync -aHAX --sparse "$TMPDIR/source/" "$MNT/tree/"
describe "$MNT/tree" >"$TMPDIR/expected"
shardctl wait "$MNT" >/dev/null
fs_umount
for provider in $PROVIDERS; do
	check_alone "$provider"
done

# The daemon is killed right after `wait`: nothing that it promised is lost.
fs_mount
rm -rf "$MNT/tree/plain/deep" && rm -rf "$TMPDIR/source/plain/deep"
head -c 2M /dev/urandom >"$TMPDIR/source/plain/more"
rsync -aHAX --sparse "$TMPDIR/source/" "$MNT/tree/"
describe "$MNT/tree" >"$TMPDIR/expected"
shardctl wait "$MNT" >/dev/null
fs_kill
for provider in $PROVIDERS; do
	check_alone "$provider"
done

# A snapshot that nobody can read any more: one that is whole elsewhere is taken.
fs_mount
fs_umount
snapshot=$(find "$FS/providers/primary/index" -name 'snap-*-p000000' | sort | tail -n 1)
printf x | dd of="$snapshot" bs=1 seek=150 conv=notrunc status=none
home=$TMPDIR/new-damaged
{
	recover_config primary "$home"
	recover_config secondary "$home" | sed '1,/^providers/d'
} | sed "s,$TMPDIR/only,$FS/providers," >"$TMPDIR/damaged.yaml"
shardfs-recover "$TMPDIR/damaged.yaml" 2>"$TMPDIR/damaged.err"
grep -q 'provider primary: .*does not authenticate' "$TMPDIR/damaged.err"
fsck.shardfs "$TMPDIR/damaged.yaml"

# Nothing of the index is left: the bytes of shards, one file for each chunk.
rm -rf "$TMPDIR/only"
mkdir -p "$TMPDIR/only" "$TMPDIR/mnt-lost"
cp -a "$FS/providers/tertiary" "$TMPDIR/only/tertiary"
rm "$TMPDIR"/only/tertiary/index/{log,snap}-*
recover_config tertiary "$TMPDIR/new-lost" >"$TMPDIR/lost.yaml"
must_fail shardfs-recover "$TMPDIR/lost.yaml"
rc=0
shardfs-recover --from-footers "$TMPDIR/lost.yaml" || rc=$?
[ "$rc" -eq 4 ] || die "exit $rc"
fsck.shardfs "$TMPDIR/lost.yaml"
shardfs "$TMPDIR/lost.yaml" "$TMPDIR/mnt-lost" >>"$LOG" 2>&1
find "$TMPDIR/mnt-lost/lost+found" -type f -exec sha256sum {} + | cut -d' ' -f1 | sort -u >"$TMPDIR/sums"
for file in "$TMPDIR"/source/plain/file-{1,2,3,9,20} "$TMPDIR/source/odd/owner"; do
	grep -q "^$(sha256sum <"$file" | cut -d' ' -f1)\$" "$TMPDIR/sums" || die "$file is not there"
done
fs_umount "$TMPDIR/mnt-lost"

# A shard is at nobody who is reached: the files that need it are named, the others are there.
rm -rf "$TMPDIR/only"
mkdir -p "$TMPDIR/only" "$TMPDIR/mnt-part"
cp -a "$FS/providers/secondary" "$TMPDIR/only/secondary"
shard=$(find "$TMPDIR/only/secondary" -type f -size +1M -name '????????????????????????????????' |
	head -n 1)
rm "$shard"
recover_config secondary "$TMPDIR/new-part" >"$TMPDIR/part.yaml"
rc=0
shardfs-recover "$TMPDIR/part.yaml" >"$TMPDIR/part.out" 2>"$TMPDIR/part.err" || rc=$?
[ "$rc" -eq 4 ] || die "exit $rc: $(cat "$TMPDIR/part.out" "$TMPDIR/part.err")"
grep -q '1 shards are missing' "$TMPDIR/part.out"
sed -n 's,^shardfs-recover: not whole: /tree/,./,p' "$TMPDIR/part.err" | sort >"$TMPDIR/damaged"
[ -s "$TMPDIR/damaged" ] || die 'no file is named'
shardfs "$TMPDIR/part.yaml" "$TMPDIR/mnt-part" >>"$LOG" 2>&1
(cd "$TMPDIR/source" && find . -type f | sort) | while read -r file; do
	if grep -qxF -- "$file" "$TMPDIR/damaged"; then
		must_fail cat "$TMPDIR/mnt-part/tree/$file" >/dev/null 2>&1
	elif [ -f "$TMPDIR/source/$file" ]; then
		cmp "$TMPDIR/source/$file" "$TMPDIR/mnt-part/tree/$file"
	fi
done
fs_umount "$TMPDIR/mnt-part"
