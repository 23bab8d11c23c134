#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# What lies under index/ at the providers: snapshots replace segments and old ones go; a provider
# that was away, or lost some, is brought up; one that shows less than it did is named; whatever is
# killed where, what was waited for is there.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

objects() { # PROVIDER
	(cd "$FS/providers/$1/index" && find . -name 'log-*' -o -name 'snap-*' | sort)
}
same_objects() {
	[ "$(objects primary)" = "$(objects secondary)" ] &&
		[ "$(objects primary)" = "$(objects tertiary)" ]
}
newest() { # PROVIDER
	objects "$1" | sed 's/^\(.*\)-[0-9a-f]*-\([0-9a-f]*\)-[0-9a-f]*$/\2/' | sort | tail -n 1
}
same_newest() {
	[ "$(newest primary)" = "$(newest secondary)" ] &&
		[ "$(newest primary)" = "$(newest tertiary)" ]
}
roots() { # PROVIDER
	objects "$1" | grep -c 'snap-.*-[0-9a-f]\{32\}$'
}
copy_provider() { # whole, though its daemon may write to it
	rm -rf "$TMPDIR/only/$1"
	cp -a "$FS/providers/$1" "$TMPDIR/only/$1"
}
recovered_is() { # PROVIDER DIR: alone it gives back that tree
	local home=$TMPDIR/recovered mnt=$TMPDIR/mnt2
	rm -rf "$home" "$TMPDIR/only"
	mkdir -p "$TMPDIR/only" "$mnt"
	eventually 60 copy_provider "$1"
	printf 'home: %s\npassphrase_file: %s\nproviders:\n  - name: %s\n    type: dir\n    path: %s\n' \
		"$home" "$FS/passphrase" "$1" "$TMPDIR/only/$1" >"$TMPDIR/recover.yaml"
	shardfs-recover "$TMPDIR/recover.yaml"
	fsck.shardfs "$TMPDIR/recover.yaml"
	shardfs "$TMPDIR/recover.yaml" "$mnt" >>"$LOG" 2>&1
	diff -r --no-dereference "$2" "$mnt/tree"
	fs_umount "$mnt"
}
write_some() { # N: changes that take some room in segments
	python3 - "$TMPDIR/source" "$1" <<'END'
import base64, os, random, sys
for i in range(int(sys.argv[2])):
    text = base64.urlsafe_b64encode(os.urandom(150)).decode()
    with open("%s/file-%d" % (sys.argv[1], random.randrange(2000)), "w") as file:
        file.write(text)
    link = "%s/link-%d" % (sys.argv[1], random.randrange(200))
    if os.path.islink(link):
        os.unlink(link)
    os.symlink(text, link)
END
	rsync -a --checksum --delete "$TMPDIR/source/" "$MNT/tree/"
}

fs_make 'segment_delay_max: 200ms' 'snapshot_after: 64KiB' 'commit_interval: 200ms'
mkdir "$TMPDIR/source"
fs_mount
for _ in 1 2 3 4 5 6; do
	write_some 150
	shardctl wait "$MNT" >/dev/null
done
eventually 60 grep -q 'oplog-snapshot' "$FS/shardfs.log"
eventually 60 grep -q 'oplog-pruned' "$FS/shardfs.log"
is_pruned() {
	same_objects && [ "$(roots primary)" -le 2 ]
}
eventually 60 is_pruned

# An idle file system sends nothing, once what was deleted is reclaimed.
is_idle() {
	objects primary >"$TMPDIR/before"
	sleep 2
	objects primary | cmp -s - "$TMPDIR/before"
}
eventually 180 is_idle
recovered_is secondary "$TMPDIR/source"

# A provider is away while several snapshots are made; it comes back and gets what there is.
mv "$FS/providers/tertiary" "$FS/providers/tertiary.away"
snapshots() {
	objects primary | grep snap
}
has_another_snapshot() {
	[ "$(snapshots)" != "$before" ]
}
before=$(snapshots)
for _ in 1 2 3; do
	write_some 150
	shardctl sync "$MNT"
done
eventually 60 has_another_snapshot
mv "$FS/providers/tertiary.away" "$FS/providers/tertiary"
shardctl wait "$MNT" >/dev/null
eventually 120 same_newest
recovered_is tertiary "$TMPDIR/source"

# Killed at each of its steps, again and again.
place=0 killed=0
for hook in oplog-segment-before oplog-segment-after oplog-put-before oplog-snapshot-before \
	oplog-snapshot-after index-apply-after oplog-segment-after oplog-put-before; do
	place=$((place + 1))
	pid=$(fs_pid)
	case $hook in
	oplog-snapshot-*) hooks "kill $hook" ;;
	*) hooks "kill $hook $((1 + place % 2))" ;;
	esac
	for _ in $(seq 30); do # a snapshot is made once enough was written
		write_some 100 >/dev/null 2>&1 || true
		timeout 20 shardctl wait "$MNT" >/dev/null 2>&1 || true
		! hook_killed "$hook" || break
	done
	! hook_killed "$hook" || killed=$((killed + 1))
	hooks
	kill -9 "$pid" 2>/dev/null || true # it is dead, unless there are no hooks
	fs_clear "$pid"
	fs_mount
	rsync -a --checksum --delete "$TMPDIR/source/" "$MNT/tree/"
	shardctl wait "$MNT" >/dev/null
done
if grep -q '^#define SHARDFS_TEST_HOOKS' "$SHARDFS_BUILDDIR/config.h"; then
	[ "$killed" -eq "$place" ] || die "only $killed of $place kills happened"
fi
fs_kill
recovered_is primary "$TMPDIR/source"
fs_mount
fs_umount
recovered_is secondary "$TMPDIR/source"

# The local copy of it is lost: a snapshot takes its place.
rm -rf "$FS/oplog"
fs_mount
write_some 20
shardctl wait "$MNT" >/dev/null
fs_umount
recovered_is tertiary "$TMPDIR/source"

# P8: one that was set back is named at mount, and brought up.
cp -a "$FS/providers/primary/index" "$TMPDIR/index.old"
fs_mount
write_some 150
shardctl wait "$MNT" >/dev/null
fs_umount
rm -rf "$FS/providers/primary/index"
cp -a "$TMPDIR/index.old" "$FS/providers/primary/index"
fs_mount
eventually 60 grep -q 'provider-rolled-back provider=primary' "$FS/shardfs.log"
must_fail grep -q 'provider-rolled-back provider=secondary' "$FS/shardfs.log"
eventually 60 same_newest
fs_umount
recovered_is primary "$TMPDIR/source"
