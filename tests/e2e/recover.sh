#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# Any one provider, with the passphrase, gives back the whole tree on a machine that has nothing
# else: after a clean unmount, and after a kill of the daemon that came after `shardctl wait`.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

PROVIDERS='primary secondary tertiary'

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
	tree_describe "$mnt/tree" >"$TMPDIR/found"
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

fs_make 'close_wait: 5m' # each has all of it after an umount, however slow it is
fs_mount
tree_make "$TMPDIR/source"
rsync -aHAX --sparse "$TMPDIR/source/" "$MNT/tree/"
tree_describe "$MNT/tree" >"$TMPDIR/expected"
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
tree_describe "$MNT/tree" >"$TMPDIR/expected"
shardctl wait "$MNT" >/dev/null
fs_kill
for provider in $PROVIDERS; do
	check_alone "$provider"
done

# A snapshot that nobody can read any more: one that is whole elsewhere is taken.
fs_mount
fs_umount
snapshot=$(find "$FS/providers/primary/index" -name 'snap-*-p000000' | sort | tail -n 1)
byte=$(od -An -tu1 -j 150 -N 1 "$snapshot" | tr -d ' ')
printf '%b' "\\x$(printf %02x $((byte ^ 255)))" | dd of="$snapshot" bs=1 seek=150 conv=notrunc status=none
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
	sed -n 1p)
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
