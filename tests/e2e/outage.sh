#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
#
# A provider goes away while a tree is copied in, and comes back: nothing is slower or lost
# meanwhile, the status says so, and afterwards each provider alone has every shard.
# outage.sh [--long]: more data, and each provider in turn, by renaming and by permissions.
# shellcheck source=tests/e2e/lib.sh
if [ -z "${SHARDFS_E2E_DIR:-}" ]; then
	# make outage-test calls this file itself
	here=$(cd "$(dirname "$0")" && pwd)
	OUTAGE_LONG=0
	[ "${1:-}" != --long ] || OUTAGE_LONG=1
	export OUTAGE_LONG
	exec "$here/run.sh" outage
fi
. "${BASH_SOURCE[0]%/*}/lib.sh"
: "${OUTAGE_LONG:=0}"

status() { # PATH
	getfattr --absolute-names --only-values -n user.shardfs.status "$1"
}
status_is() { # WORD PATH
	[ "$(status "$2")" = "$1" ]
}
shards_of() { # PROVIDER: names of its shards, sorted
	find "$FS/providers/$1" -type f -printf '%f\n' | grep -xE '[0-9a-f]{32}' | sort
}
go_away() { # PROVIDER HOW
	case $2 in
	rename) mv "$FS/providers/$1" "$FS/providers/$1.away" ;;
	unmount) # its mount point is there, and empty: never to be taken for the provider
		mv "$FS/providers/$1" "$FS/providers/$1.away"
		install -d -m 0700 "$FS/providers/$1" ;;
	esac
}
come_back() { # PROVIDER HOW
	case $2 in
	rename) mv "$FS/providers/$1.away" "$FS/providers/$1" ;;
	unmount)
		[ -z "$(find "$FS/providers/$1" -mindepth 1 -print -quit)" ] ||
			die "$1: something was written to an empty mount point"
		rmdir "$FS/providers/$1"
		mv "$FS/providers/$1.away" "$FS/providers/$1" ;;
	esac
}
make_tree() { # DIR MEGABYTES
	local i
	mkdir -p "$1"
	for i in $(seq 40); do
		head -c "$((i * 977))" /dev/urandom >"$1/small-$i"
	done
	for i in $(seq "$2"); do
		head -c 1M /dev/urandom >"$1/big-$i"
	done
}
names_agree() {
	local name
	shards_of primary >"$TMPDIR/expected"
	for name in secondary tertiary; do
		shards_of "$name" | cmp "$TMPDIR/expected" - || return 1
	done
}
# Every shard at every provider, with the same bytes.  What is protected may be on its way once more,
# when a small shard is merged into a larger one.
check_copies() {
	local name
	eventually 60 names_agree
	[ -s "$TMPDIR/expected" ] || die 'no shards at all'
	for name in secondary tertiary; do
		while read -r shard; do
			cmp "$(find "$FS/providers/primary" -name "$shard")" \
				"$(find "$FS/providers/$name" -name "$shard")"
		done <"$TMPDIR/expected"
	done
}
outage() { # PROVIDER HOW MEGABYTES
	local source=$TMPDIR/source-$1-$2 target=$MNT/$1-$2
	make_tree "$source" "$3"
	rsync -a "$source/" "$target/" &
	rsync_pid=$!
	sleep 0.1
	go_away "$1" "$2"
	wait "$rsync_pid"
	# a whole tree written while it is away
	rsync -a "$source/" "$target-while-away/"
	head -c 5000 /dev/urandom >"$target-while-away/last" # nobody has any of it
	mkdir "$target-while-away/names" # no bytes: records, which are owed all the same
	shardctl sync "$MNT"
	eventually 60 status_is degraded "$target-while-away/last"
	eventually 60 status_is degraded "$target-while-away/names"
	diff -r "$source" "$target"
	come_back "$1" "$2"
	eventually 180 status_is protected "$target-while-away/last"
	eventually 180 status_is protected "$target-while-away/names"
	eventually 180 status_is protected "$MNT"
	check_copies
	diff -r "$source" "$target"
}
kill_while_away() {
	go_away tertiary rename
	make_tree "$TMPDIR/source-kill" 4
	rsync -a "$TMPDIR/source-kill/" "$MNT/killed/"
	shardctl sync "$MNT"
	fs_kill
	fs_mount # a mount does not need every provider
	diff -r "$TMPDIR/source-kill" "$MNT/killed"
	eventually 60 status_is degraded "$MNT/killed"
	come_back tertiary rename
	eventually 180 status_is protected "$MNT"
	check_copies
}

fs_make 'shard_size: 1MiB' 'shard_idle: 100ms'
fs_mount
if [ "$OUTAGE_LONG" -eq 1 ]; then
	for name in primary secondary tertiary; do
		for how in rename unmount; do
			outage "$name" "$how" 64
		done
	done
else
	outage secondary unmount 8
fi
kill_while_away
fs_umount
fs_mount
diff -r "$TMPDIR/source-kill" "$MNT/killed"
fs_umount
