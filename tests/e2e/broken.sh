# SPDX-License-Identifier: Apache-2.0
# time-limit: 400
#
# The checks can fail: each rule of the durable order is broken in turn
# (HOOK_BROKEN in util/hook.h), and the test that stands for it must notice.  The
# same test passes when nothing is broken.  Names that the source has and this
# table has not fail the test.
#
#	broken.sh --case NAME	one of the tests below, in the file system of $TMPDIR
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

# What is broken, and the test: power.sh with its variables, or case_NAME below.
table() {
	cat <<-'END'
		commit-order		power.sh	POWER_FIRST=1 POWER_RULE=kill_spool-sync-before_3
		skip-journal-sync	power.sh
		skip-journal-name	power.sh
		skip-spool-sync		power.sh
		skip-spool-name		power.sh
		skip-dir-sync		copies
		skip-dir-name		copies
		skip-index-sync		checkpoint
		replay-ignores-torn	torn
		rename-without-push	rename
		repair-unauthenticated	repair
		snapshot-unreferenced	snapshot
	END
}

# Copies acknowledged are what is left when the spool has let go.
case_copies() {
	power_on
	fs_make 'shard_idle: 100ms' 'cache_size: 0' 'chunk_memory: 0'
	power_sync
	hooks
	fs_mount
	head -c 300000 /dev/urandom >"$TMPDIR/data"
	cp "$TMPDIR/data" "$MNT/data"
	shardctl wait --timeout 200s "$MNT/data"
	eventually 60 spool_is_empty
	power_fail drop
	fs_mount
	# Not read: a copy that is gone is looked for until it is given up.
	for copy in "$FS"/providers/*; do
		[ "$(find "$copy" -path '*/??/*' -name '????????????????????????????????' -size +200k | wc -l)" -ge 1 ] ||
			die "no copy in $copy"
		find "$copy" -path '*/??/*' -size +200k -exec md5sum {} +
	done | awk '{ print $1 }' | sort | uniq -c | awk '$1 != 3 { exit 1 }' || die 'the copies differ'
	[ "$(find "$FS/providers" -path '*/??/*' -size +200k | wc -l)" -eq 3 ] || die 'copies are missing'
	timeout 60 cmp "$TMPDIR/data" "$MNT/data"
	fs_umount
	power_off
}
# What only a snapshot needs is there when everything else of it was given back.
case_snapshot() {
	fs_make 'shard_idle: 100ms' 'cache_size: 0' 'chunk_memory: 0' 'deletion_hold: 0s'
	hooks
	fs_mount
	head -c 300000 /dev/urandom >"$TMPDIR/data"
	cp "$TMPDIR/data" "$MNT/data"
	shardctl wait --timeout 200s "$MNT/data"
	shardctl -m "$MNT" snapshot create kept
	rm "$MNT/data"
	shardctl -m "$MNT" cleanup run
	shardctl -m "$MNT" cleanup run
	fs_umount
	fs_mount
	timeout 60 cmp "$TMPDIR/data" "$MNT/.shardfs/snapshots/kept/data"
	fs_umount
	fs_check
}
spool_is_empty() {
	[ "$(find "$FS/spool" -type f -size +100k | wc -l)" -eq 0 ]
}

journal_lacks() {
	[ ! -e "$FS/journal/$1" ]
}

# A journal file goes when the index that holds it lasts.
case_checkpoint() {
	power_on
	fs_make 'shard_idle: 100ms' 'commit_interval: 100ms' 'segment_delay_max: 1s' 'journal_bytes_max: 4MiB'
	power_sync
	hooks
	fs_mount
	old=$(cd "$FS/journal" && printf '%s\n' *.journal | tail -n 1)
	python3 - "$MNT" <<'END'
import os, sys
for i in range(500):
    with open(f"{sys.argv[1]}/{i}", "w") as file:
        file.write(str(i))
        os.setxattr(file.fileno(), "user.bulk", os.urandom(4000))
fd = os.open(f"{sys.argv[1]}/499", os.O_RDONLY)
os.fsync(fd)
END
	eventually 60 journal_lacks "$old"
	power_fail drop
	fs_mount
	[ "$(cat "$MNT"/[0-9]* | wc -c)" -eq 1390 ]
	[ "$(getfattr --only-values -n user.bulk "$MNT/0" | wc -c)" -eq 4000 ]
	fs_umount
	power_off
}

# A record whose bytes did not arrive ends the history; nobody reads garbage or EIO.
case_torn() {
	fs_make 'commit_interval: 5m' 'cache_size: 0' 'chunk_memory: 0'
	hooks
	fs_mount
	echo before >"$MNT/before"
	sync "$MNT/before"
	head -c 400000 /dev/urandom >"$MNT/torn"
	pid=$(fs_pid)
	kill -9 "$pid"
	fs_clear "$pid"
	python3 - "$FS/spool" <<'END'
import os, sys
for name in os.listdir(sys.argv[1]):
    with open(os.path.join(sys.argv[1], name), "r+b") as file:
        file.seek(200000)
        file.write(bytes(4096))
END
	fs_mount
	[ "$(cat "$MNT/before")" = before ]
	[ ! -e "$MNT/torn" ] || cat "$MNT/torn" >/dev/null
	fs_umount
	fs_check
}

# No name without the bytes that were written to it before it got there.
case_rename() {
	fs_make 'commit_interval: 5m'
	hooks
	fs_mount
	echo old >"$MNT/target"
	sync "$MNT/target"
	pid=$(fs_pid)
	python3 - "$MNT" "$pid" <<'END' || true
import mmap, os, signal, sys
top, pid = sys.argv[1:]
page = mmap.mmap(-1, 8192)
page.write(b"n" * 8192)
fd = os.open(f"{top}/fresh", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
os.write(fd, page)
os.rename(f"{top}/fresh", f"{top}/target")
# Somebody else's close brings the records to the journal.
with open(f"{top}/other", "w") as file:
    file.write("x")
os.kill(int(pid), signal.SIGKILL)
END
	fs_clear "$pid"
	fs_mount
	[ -e "$MNT/other" ] || die 'what was closed is gone'
	[ "$(stat -c %s "$MNT/target")" -eq 8192 ] || die "target has $(stat -c %s "$MNT/target") bytes"
	fs_umount
}

# A bad copy is rewritten from a good one.
case_repair() {
	fs_make 'shard_idle: 100ms' 'cache_size: 0' 'chunk_memory: 0' 'scrub_period: 0' 'scrub_list_period: 0'
	hooks
	fs_mount
	head -c 300000 /dev/urandom >"$TMPDIR/data"
	cp "$TMPDIR/data" "$MNT/data"
	shardctl wait --timeout 200s "$MNT/data"
	eventually 60 spool_is_empty
	object=$(find "$FS/providers/primary" -path '*/??/*' -size +200k)
	cp "$object" "$TMPDIR/good"
	python3 - "$object" <<'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(50000)
    file.write(bytes(100000))
END
	shardctl scrub --deep "$MNT" || [ "$?" -eq 4 ]
	cmp "$TMPDIR/good" "$object" || die 'scrub left a bad copy'
	fs_umount
}

if [ "${1:-}" = --case ]; then
	"case_$2"
	exit
fi

run_case() { # TEST VARIABLE...: in a place of its own
	local test=$1 rc=0 dir
	shift
	dir=$(mktemp -d "$TMPDIR/case.XXXXXX")
	if [[ $test == *.sh ]]; then
		set -- "$@" bash "$SHARDFS_SRCDIR/tests/e2e/$test"
	else
		set -- "$@" bash "$SHARDFS_SRCDIR/tests/e2e/broken.sh" --case "$test"
	fi
	timeout -k 5 300 env TMPDIR="$dir" SHARDFS_TEST_SEED=1 POWER_MODE=drop POWER_CYCLES=2 "$@" \
		>"$TMPDIR/case.log" 2>&1 || rc=$?
	# What it left.
	awk -v dir="$dir/" 'index($5 "/", dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
		while read -r mount; do
			umount -l "$mount"
		done
	grep -lzx "TMPDIR=$dir" /proc/[0-9]*/environ 2>/dev/null |
		sed 's,/proc/\([0-9]*\)/.*,\1,' | xargs -r kill -9 2>/dev/null || true
	rm -rf --one-file-system "$dir"
	return "$rc"
}
mapfile -t named < <(grep -rhoE --include='*.c' 'HOOK_BROKEN\("[^"]+"' "$SHARDFS_SRCDIR"/{src,fs,backends} |
	sed 's/.*"\(.*\)"/\1/' | sort -u)
[ "${named[*]}" = "$(table | awk '{ print $1 }' | sort | tr '\n' ' ' | sed 's/ $//')" ] ||
	die "the source breaks ${named[*]}"
declare -A is_whole
while read -r name test variables; do
	[ -z "${BROKEN_ONLY:-}" ] || [ "$name" = "$BROKEN_ONLY" ] || continue
	variables=$(tr '_' ' ' <<<"$variables" | sed 's/POWER /POWER_/g')
	mapfile -t given < <(sed 's/ POWER_/\nPOWER_/g' <<<"$variables" | grep . || true)
	if [ -z "${is_whole[$test]:-}" ] && [[ $test != *.sh ]]; then
		run_case "$test" || {
			tail -n 30 "$TMPDIR/case.log" >&2
			die "$test fails, and nothing is broken"
		}
		is_whole[$test]=yes
	fi
	start=$SECONDS
	# What went to disk by chance in time can hide it once.
	for try in 1 2 3; do
		rc=0
		run_case "$test" "SHARDFS_BREAK=$name" "${given[@]}" || rc=$?
		[ "$rc" -ne 124 ] && [ "$rc" -ne 137 ] || die "$name: $test does not end"
		[ "$rc" -eq 0 ] || break
		[ "$try" -lt 3 ] || die "$name is not noticed by $test"
	done
	echo "$name: noticed by $test in $((SECONDS - start)) s: $(grep -av '^ \|mounted\|^After' "$TMPDIR/case.log" | grep -v '^ *$' | tail -n 1 | cut -c 1-150)"
done < <(table)
