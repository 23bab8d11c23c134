#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# Files that are none of ours lie under our names at one provider: segments that would go on behind
# the newest, or beside one; snapshots, claims and epochs that never were; pipes, sockets and sparse
# giants.  Nobody believes a name: the writer goes on, the provider is brought up, and recovery from it
# alone, or from all, gives everything.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

INDEX=$FS/providers/primary/index
ID=00112233445566778899aabbccddeeff
number() { # N
	printf '%016x' "$1"
}
newest() { # PROVIDER: the last record that its segments name
	find "$FS/providers/$1/index" -name 'log-00000001-*' -printf '%f\n' | grep -v "$ID" |
		cut -d- -f4 | sort | tail -n 1
}
plant() {
	local last next first real
	real=$(find "$INDEX" -name 'log-*' -printf '%f\n' | sort | sed -n 1p)
	first=$(cut -d- -f3 <<<"$real")
	last=$((16#$(newest primary)))
	next=$(number $((last + 1)))
	for name in \
		"log-00000001-$next-$(number $((last + 500)))-$ID" \
		"log-00000001-$first-$(number $((last + 400)))-$ID" \
		"log-00000001-$first-$(number $((16#$first + 1)))-$ID" \
		"log-00000001-$first-$(number $((last - 1)))-$ID" \
		"log-00000007-$next-$(number $((last + 3)))-$ID" \
		"log-ffffffff-$(number 1)-$(number $((last + 3)))-$ID" \
		"snap-00000001-$(number 1)-$(number $((last + 9)))-$ID" \
		"snap-00000001-$(number 1)-$(number $((last + 9)))-$ID-p000000" \
		"snap-00000001-$(number 1)-$(number $((last - 1)))-$ID" \
		"snap-00000009-$(number 1)-$(number $((last + 9)))-$ID" \
		epoch-00000002 epoch-00000009 epoch-ffffffff epoch-fffffffe; do
		head -c 5000 /dev/urandom >"$INDEX/$name"
	done
	truncate -s 30G "$INDEX/log-00000001-$next-$(number $((last + 77)))-$ID"
	: >"$INDEX/log-00000001-$next-$(number $((last + 78)))-$ID"
	truncate -s 30G "$INDEX/epoch-00000003"
	cp "$INDEX/$real" "$INDEX/log-00000001-$next-$(number $((last + 79)))-$ID"
	mkfifo "$INDEX/log-00000001-$next-$(number $((last + 80)))-$ID"
	python3 -c 'import os, socket, sys
os.chdir(sys.argv[1]); socket.socket(socket.AF_UNIX).bind(sys.argv[2])' \
		"$INDEX" "log-00000001-$next-$(number $((last + 81)))-$ID"
	mkdir "$INDEX/log-00000001-$next-$(number $((last + 82)))-$ID"
}
strays() {
	find "$INDEX" -name "*$ID*" | wc -l
}
is_brought_up() {
	local newest
	newest=$(newest secondary)
	[ "$(newest primary)" = "$newest" ] && [ -n "$newest" ]
}
recovered_from() { # PROVIDER...
	local home=$TMPDIR/again name
	rm -rf "$home"
	install -d -m 0700 "$home"
	{
		printf 'home: %s\npassphrase_file: %s\nproviders:\n' "$home" "$FS/passphrase"
		for name; do
			cp -a "$FS/providers/$name" "$home/at-$name"
			printf '  - {name: %s, type: dir, path: %s}\n' "$name" "$home/at-$name"
		done
	} >"$home/shardfs.yaml"
	shardfs-recover --list "$home/shardfs.yaml" >"$TMPDIR/list" 2>"$TMPDIR/list.err"
	cat "$TMPDIR/list" # the states that there are
	grep -q "^[0-9]" "$TMPDIR/list"
	shardfs-recover "$home/shardfs.yaml" >"$TMPDIR/recovered" 2>&1
	# it may have been the newest state, rotted: that is not passed over in silence
	grep -q 'provider primary: log-00000001-.* is left out: .* is lost unless' "$TMPDIR/recovered"
	shardfs "$home/shardfs.yaml" "$MNT" -o take_over >>"$LOG" 2>&1
	tree_describe "$MNT/tree" >"$TMPDIR/found"
	diff "$TMPDIR/expected" "$TMPDIR/found" || die "recovered from $*: another tree"
	echo more >"$MNT/more"
	shardctl -m "$MNT" wait --copies "$#" --timeout 240s "$MNT/more" >/dev/null
	eventually 60 grep -q 'epoch=2 ' "$home/shardfs.log"
	fs_umount
}

fs_make 'shard_size: 1MiB' 'shard_idle: 100ms' 'scrub_period: 0' 'scrub_list_period: 0'
fs_mount
tree_make "$MNT/tree"
shardctl -m "$MNT" wait "$MNT" >/dev/null
fs_umount
plant
planted=$(strays)
fs_mount
eventually 60 grep -q 'oplog-name-not-believed provider=primary' "$FS/shardfs.log"
mkdir "$MNT/tree/later"
echo later >"$MNT/tree/later/file"
shardctl -m "$MNT" wait --timeout 240s "$MNT" >/dev/null
tree_describe "$MNT/tree" >"$TMPDIR/expected"
must_fail grep -q 'writer-epoch-lost\|oplog-unknown-records\|oplog-other-writer' "$FS/shardfs.log"
shardctl -m "$MNT" --json audit verify >"$TMPDIR/audit.json"
[ "$(jq -r '.providers | map(.state) | unique | join(" ")' "$TMPDIR/audit.json")" = same ] ||
	die "$(cat "$TMPDIR/audit.json")"
rc=0
timeout 120 shardctl -m "$MNT" scrub --deep >"$TMPDIR/scrub" 2>&1 || rc=$?
[ "$rc" -eq 4 ] || die "scrub: exit $rc: $(cat "$TMPDIR/scrub")"
grep -q '^shards lost  *0$' "$TMPDIR/scrub"
fs_umount
is_brought_up || die "primary has $(newest primary), secondary $(newest secondary)"
[ "$(strays)" -eq "$planted" ] || die 'strays were removed'
fs_check
recovered_from primary
recovered_from primary secondary tertiary

# Where every provider has one more record of this writer than this machine, it was set back.
cp -a "$FS" "$TMPDIR/old"
fs_mount
echo newer >"$MNT/newer"
shardctl -m "$MNT" wait "$MNT" >/dev/null
fs_umount
for name in index.db journal oplog spool writer; do
	rm -rf "${FS:?}/$name"
	cp -a "$TMPDIR/old/$name" "$FS/$name"
done
fs_mount
eventually 60 grep -q 'writer-epoch-lost.*which this home does not know' "$FS/shardfs.log"
fs_umount
