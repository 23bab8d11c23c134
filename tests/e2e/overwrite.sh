# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
#
# A file is overwritten at random many times its size: index, spool and what
# providers hold stay bounded, every byte is right, also after a remount; when
# everything is removed the providers become empty; while a provider is away
# nothing is deleted, and then it is.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

FILE_MIB=48 ROUNDS=6
export SHARDFS_MOUNT=$MNT

shards_at() { # PROVIDER: objects that are shards
	find "$FS/providers/$1" -ignore_readdir_race -type f -regextype posix-extended \
		-regex '.*/[0-9a-f]{32}' | wc -l
}
bytes_at() {
	find "$FS/providers/$1" -ignore_readdir_race -type f -regextype posix-extended \
		-regex '.*/[0-9a-f]{32}' -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'
}
spool_bytes() {
	find "$FS/spool" -ignore_readdir_race -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'
}
index_bytes() {
	stat -c %s "$FS"/index.db* | awk '{ n += $1 } END { print n }'
}
value() { # KEY of a JSON answer on standard input
	python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
below() { # WHAT NUMBER LIMIT
	[ "$2" -le "$3" ] || die "$1: $2, more than $3"
	echo "$1: $2 (limit $3)"
}
# The same writes into the mount and into a plain file beside it.
overwrite() { # SEED COUNT
	python3 - "$MNT/file" "$TMPDIR/model" "$1" "$2" $((FILE_MIB << 20)) <<'PY'
import os, random, sys
path, model, seed, count, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
draw = random.Random(seed)
a, b = (os.open(p, os.O_RDWR | os.O_CREAT, 0o644) for p in (path, model))
for i in range(count):
    length = draw.choice((512, 4096, 4096, 20000, 65536, 300000))
    offset = draw.randrange(0, size - length)
    data = draw.randbytes(length)
    for fd in (a, b):
        assert os.pwrite(fd, data, offset) == length
    if i % 100 == 99:
        os.fsync(a)
os.fsync(a)
PY
}

fs_make 'deletion_hold: 0s' 'shard_size: 2MiB' 'spool_size: 256MiB' 'cache_size: 16MiB'
fs_mount
head -c $((FILE_MIB << 20)) /dev/urandom >"$TMPDIR/model"
cp "$TMPDIR/model" "$MNT/file"
mkdir "$MNT/other"
cp -r "$SHARDFS_SRCDIR/src" "$MNT/other/"
shardctl wait "$MNT"
base=$(bytes_at primary)
index=$(index_bytes)

for round in $(seq "$ROUNDS"); do
	overwrite "$round" 1000
	shardctl wait "$MNT/file" >/dev/null
done
written=$(bytes_at primary)
echo "written: $written bytes at the primary, $(shards_at primary) shards"
is_clean() { # no more to be reclaimed, and what was moved has left the spool
	shardctl cleanup run &&
		[ "$(shardctl --json cleanup run --dry-run | value candidate_count)" = 0 ] &&
		[ "$(spool_bytes)" -le $((16 << 20)) ]
}
eventually 60 is_clean
# Half of a shard may be dead, and a third of what chunks hold.
below 'bytes at the primary' "$(bytes_at primary)" $((base * 2))
below 'bytes at the tertiary' "$(bytes_at tertiary)" $((base * 2))
below 'index' "$(index_bytes)" $((index * 2 + (8 << 20)))
cmp "$TMPDIR/model" "$MNT/file"
diff -r "$SHARDFS_SRCDIR/src" "$MNT/other/src"

# Reclaiming was no loss to any provider's own history: each gives all of it back alone.
shardctl wait "$MNT" >/dev/null
fs_kill
for name in primary tertiary; do
	cp -a "$FS/providers/$name" "$TMPDIR/only"
	mkdir -p "$TMPDIR/mnt-$name"
	printf 'home: %s\npassphrase_file: %s\nproviders:\n  - name: %s\n    type: dir\n    role: %s\n    region: %s\n    path: %s\n' \
		"$TMPDIR/new" "$FS/passphrase" "$name" "$name" "$name-region" "$TMPDIR/only" \
		>"$TMPDIR/recover.yaml"
	mv "$FS/providers" "$FS/providers.away"
	shardfs-recover "$TMPDIR/recover.yaml"
	shardfs "$TMPDIR/recover.yaml" "$TMPDIR/mnt-$name"
	cmp "$TMPDIR/model" "$TMPDIR/mnt-$name/file"
	diff -r "$SHARDFS_SRCDIR/src" "$TMPDIR/mnt-$name/other/src"
	fs_umount "$TMPDIR/mnt-$name"
	rm -rf "$TMPDIR/new" "$TMPDIR/only"
	mv "$FS/providers.away" "$FS/providers"
done
fs_mount
cmp "$TMPDIR/model" "$MNT/file"

fs_umount
fsck.shardfs --deep "$CONF"
rm -rf "$FS/cache"
fs_mount
cmp "$TMPDIR/model" "$MNT/file"
diff -r "$SHARDFS_SRCDIR/src" "$MNT/other/src"

# A kill in the middle of reclaiming changes nothing.
overwrite 99 500
shardctl wait "$MNT" >/dev/null
for place in gc-chunks-del-after gc-move-commit-before gc-condemn-after gc-copy-deleting-after \
	gc-delete-after gc-shard-del-after; do
	overwrite "${#place}" 300
	pid=$(fs_pid)
	hooks "kill $place"
	shardctl cleanup run >/dev/null 2>&1 || true
	if hook_killed "$place"; then
		fs_clear "$pid"
	else
		echo "$place: not passed"
		eventually 60 umount "$MNT"
		eventually 120 pid_is_gone "$pid"
	fi
	hooks
	fsck.shardfs --deep "$CONF"
	fs_mount
	cmp "$TMPDIR/model" "$MNT/file"
done
shardctl cleanup run >/dev/null

# A provider that is away keeps everything; it comes back, and it goes.
head -c 8M /dev/urandom >"$MNT/doomed" # shards of its own, which nothing else keeps
shardctl wait "$MNT" >/dev/null
mv "$FS/providers/secondary" "$TMPDIR/away"
rm -r "$MNT/other" "$MNT/doomed"
rc=0
shardctl --json cleanup run >"$TMPDIR/said" || rc=$?
[ "$rc" -eq 5 ] || die "cleanup run with a provider away: $rc $(cat "$TMPDIR/said")"
[ "$(value blocked_by <"$TMPDIR/said")" = 'away: secondary' ]
[ "$(value blocked_bytes <"$TMPDIR/said")" -gt 0 ]
before=$(shards_at primary)
[ "$(value deleted_bytes <"$TMPDIR/said")" = 0 ]
shardctl status | has 'away: secondary'
mv "$TMPDIR/away" "$FS/providers/secondary"
eventually 120 shardctl cleanup run
[ "$(shards_at primary)" -lt "$before" ]
cmp "$TMPDIR/model" "$MNT/file"

# Without files there is nothing at any provider.
rm "$MNT/file"
nothing_is_left() {
	shardctl cleanup run && [ "$(shards_at primary)" = 0 ] && [ "$(shards_at secondary)" = 0 ] &&
		[ "$(shards_at tertiary)" = 0 ]
}
eventually 120 nothing_is_left
eventually 60 grep -q ' shard-deleted .*providers="primary,secondary,tertiary"' "$FS/shardfs.log"
fs_umount
fsck.shardfs --deep "$CONF"
