# SPDX-License-Identifier: Apache-2.0
# time-limit: 400
#
# Rotation of keys while files are written and read: new data under the new epoch at once, old data
# re-sealed, the old epoch destroyed only when nothing needs it, and then gone from every superblock.
# Killed at each step, and in the middle of it; no nonce is used twice for different bytes.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

seed_random
export SHARDFS_MOUNT=$MNT SHARDFS_NONCE_LOG=$TMPDIR/nonces
fails_with() { # STATUS COMMAND...
	local want=$1 rc=0
	shift
	"$@" >"$TMPDIR/out" 2>&1 || rc=$?
	[ "$rc" -eq "$want" ] || die "status $rc, not $want: $*: $(cat "$TMPDIR/out")"
}
says() {
	grep -q -- "$1" "$TMPDIR/out" || die "does not say $1: $(cat "$TMPDIR/out")"
}
# Files below DIR whose head names EPOCH: shards, index objects, files of the journal.
count_of_epoch() { # EPOCH DIR
	python3 - "$1" "$2" <<'END'
import os, struct, sys
offs, n = {b'SHARDFS1': 28, b'SHARDFSX': 32, b'SHARDFSJ': 64}, 0
for top, _, names in os.walk(sys.argv[2]):
    for name in names:
        try:
            head = open(os.path.join(top, name), 'rb').read(72)
        except FileNotFoundError:
            continue
        off = offs.get(head[:8])
        if off and len(head) == 72:
            n += struct.unpack_from('<I', head, off)[0] == int(sys.argv[1])
print(n)
END
}
destroyed() { # EPOCH
	shardctl key destroy --epoch "$1" >"$TMPDIR/destroy.out" 2>&1
}
same() {
	diff -r "$TMPDIR/source" "$MNT/tree"
}
make_tree() { # DIR
	mkdir -p "$1/sub"
	for i in 1 2 3 4 5 6 7 8; do
		head -c 300000 /dev/urandom >"$1/sub/big-$i"
		head -c $((i * 900)) /dev/urandom >"$1/small-$i"
	done
}
settings=('shard_size: 1MiB' 'chunk_min: 4KiB' 'chunk_avg: 16KiB' 'chunk_max: 64KiB'
	'shard_idle: 100ms' 'deletion_hold: 0s' 'repack_bandwidth: 0' 'commit_interval: 200ms')
fs_make "${settings[@]}"
make_tree "$TMPDIR/source"
fs_mount
cp -a "$TMPDIR/source" "$MNT/tree"
shardctl wait "$MNT" >/dev/null
[ "$(count_of_epoch 1 "$FS/providers/primary")" -gt 0 ]
fails_with 5 shardctl key destroy --epoch 1
says 'epoch 1 is in use'

# Somebody writes and reads all the time; he is never disturbed.
(
	n=0
	while [ ! -e "$TMPDIR/stop" ]; do
		n=$((n + 1))
		head -c 50000 /dev/urandom >"$TMPDIR/load-$((n % 8))"
		cp "$TMPDIR/load-$((n % 8))" "$MNT/load-$((n % 8))"
		cmp "$TMPDIR/load-$((n % 8))" "$MNT/load-$((n % 8))"
		cmp "$TMPDIR/source/sub/big-$((n % 8 + 1))" "$MNT/tree/sub/big-$((n % 8 + 1))"
	done
) >"$TMPDIR/load.out" 2>&1 &
load=$!
hooks 'hold gc-move-commit-before' # or all of it may be re-sealed before we ask
shardctl key rotate >/dev/null
fails_with 5 shardctl key destroy --epoch 1
says 'live shards are sealed under epoch 1'
hooks
echo new >"$MNT/new"
shardctl key rotate --wait >/dev/null # epoch 3 by now
[ "$(shardctl --json key status | jq .left_shards)" -eq 0 ]
touch "$TMPDIR/stop"
wait "$load" || die "the load: $(cat "$TMPDIR/load.out")"
same

# Deduplication goes on: what was there before takes no room.
before=$(shardctl --json status | jq .index_chunks)
cp -a "$TMPDIR/source" "$MNT/again"
shardctl sync "$MNT"
[ "$(shardctl --json status | jq .index_chunks)" -le "$((before + 8))" ]
rm -r "$MNT/again"

# A provider that is away proves nothing.
eventually 60 shardctl cleanup run
mv "$FS/providers/tertiary" "$FS/providers/gone"
fails_with 5 shardctl key destroy --epoch 1
says 'tertiary'
mv "$FS/providers/gone" "$FS/providers/tertiary"
# An object that the index does not know is in the way, and named.
fake=$FS/providers/secondary/00/00000000000000000000000000000000
mkdir -p "${fake%/*}"
make_fake() { # of one that is not deleted meanwhile
	local stray
	stray=$(find "$FS/providers/secondary" -type f ! -path "$fake" | grep -E '/[0-9a-f]{32}$' | sed -n 1p)
	cp "$stray" "$TMPDIR/stray" || return
	{
		head -c 28 "$TMPDIR/stray"
		printf '\001\000\000\000'
		tail -c +33 "$TMPDIR/stray"
	} >"$fake"
}
eventually 60 make_fake
eventually 120 providers_answer
fails_with 5 shardctl key destroy --epoch 1
says "${fake##*/}"
rm "$fake"

eventually 180 destroyed 1
eventually 180 destroyed 2
for dir in "$FS/providers" "$FS/journal" "$FS/oplog" "$FS/spool"; do
	[ "$(count_of_epoch 1 "$dir")" -eq 0 ]
	[ "$(count_of_epoch 2 "$dir")" -eq 0 ]
done
# The wrapped keys are gone from every superblock (state 2, and zeros).
for file in "$FS/superblock" "$FS"/providers/*/index/superblock; do
	python3 - "$file" <<'END'
import struct, sys
sb = open(sys.argv[1], 'rb').read()
current, = struct.unpack_from('<I', sb, 76)
slots, epochs = struct.unpack_from('<HH', sb, 80)
assert (current, epochs) == (3, 3), (current, epochs)
for i in range(epochs):
    one = sb[88 + 208 * slots + 96 * i:][:96]
    number, state = struct.unpack_from('<IB', one)
    assert state == (1 if number == 3 else 2)
    assert (one[16:] == bytes(80)) == (number != 3)
END
done
fails_with 2 shardctl key destroy --epoch 1
same
grep -qx new "$MNT/new"
fs_umount
fs_check
fs_mount
same
fs_umount

# Each provider alone gives it back.
for name in primary secondary tertiary; do
	sed -e "s|^home: .*|home: $TMPDIR/alone|" -e '/^providers:/,/^settings:/{/^  - name/,/path/d}' \
		"$CONF" >"$TMPDIR/alone.yaml"
	sed -i "/^providers:/a\\  - name: $name\\n    type: dir\\n    path: $FS/providers/$name\\n    role: $name\\n    region: $name-region" \
		"$TMPDIR/alone.yaml"
	cp -a "$FS/providers" "$TMPDIR/kept-providers"
	shardfs-recover "$TMPDIR/alone.yaml" >"$TMPDIR/recover.out" 2>&1 ||
		die "recovery from $name: $(cat "$TMPDIR/recover.out")"
	CONF=$TMPDIR/alone.yaml fs_mount
	same
	fs_umount
	rm -rf "$TMPDIR/alone" "$FS/providers"
	mv "$TMPDIR/kept-providers" "$FS/providers"
done

# Killed at each step: everything is there, and the same command goes on.
oldest() { # the first epoch that has a key and is not in use
	shardctl --json key status |
		jq -r '[.epochs | to_entries[] | select(.value.state == "old") | .key | tonumber] | min'
}
for place in key-home-before key-home-after key-use-before key-use-after gc-move-commit-before; do
	fs_mount
	pid=$(fs_pid)
	head -c 100000 /dev/urandom >"$TMPDIR/source/at-$place"
	cp "$TMPDIR/source/at-$place" "$MNT/tree/at-$place"
	shardctl sync "$MNT"
	hooks "kill $place"
	shardctl key rotate --wait >"$TMPDIR/killed.out" 2>&1 || true
	eventually 60 hook_killed "$place"
	fs_clear "$pid"
	hooks
	fs_mount
	same
	eventually 60 providers_answer # who has not yet is left out, and named
	shardctl key rotate --wait >/dev/null
	same
	fs_umount
done
destroy_oldest() {
	# What a killed daemon had sent and not noted is an orphan, once it is old enough; it may be of
	# any epoch, and is in the way.
	find "$FS/providers" -ignore_readdir_race -type f -name '????????????????????????????????' \
		-exec touch -c -d '1 hour ago' {} + || true
	shardctl cleanup run >/dev/null 2>&1 || true
	shardctl cleanup run --orphans >/dev/null 2>&1 || true
	shardctl key destroy --epoch "$1" >"$TMPDIR/destroy.log" 2>&1 || true
	hook_killed "$place"
}
for place in key-renew-before key-renew-after key-destroy-before key-destroy-after; do
	fs_mount
	eventually 60 providers_answer
	pid=$(fs_pid)
	epoch=$(oldest)
	hooks "kill $place"
	# those of which nothing is left at all need no renewal
	eventually 120 shardctl key rotate --wait
	[[ $place != key-renew-* ]] || epoch=$(($(shardctl --json key status | jq .current_epoch) - 1))
	eventually 180 destroy_oldest "$epoch" # or it says why not in destroy.log
	fs_clear "$pid"
	hooks
	fs_mount
	same
	state=$(shardctl --json key status | jq -r ".epochs[\"$epoch\"].state")
	case $place in
	key-destroy-after) [ "$state" = destroyed ] ;;
	*) [ "$state" = old ] ;;
	esac
	fs_umount
done
fs_check

# No key and nonce sealed two different texts, over all these processes.
[ "$(wc -l <"$SHARDFS_NONCE_LOG")" -gt 1000 ]
sort -u "$SHARDFS_NONCE_LOG" | awk '{ print $1, $2 }' | uniq -d >"$TMPDIR/twice"
[ ! -s "$TMPDIR/twice" ] || die "a nonce was used twice: $(head -n 3 "$TMPDIR/twice")"
