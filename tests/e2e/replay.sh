# SPDX-License-Identifier: Apache-2.0
# time-limit: 180
#
# Recovery at mount is replay, bounded by what may wait to be applied and not by
# the number of files; a second kill while it replays changes nothing.  20,000
# files, with SHARDFS_LONG 1,000,000; the figures are printed.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

files=20000
[ -z "${SHARDFS_LONG:-}" ] || files=1000000
# What may wait: store.c's BACKLOG_RECORDS, and a batch on its way.
bound=$(sed -n 's/^#define BACKLOG_RECORDS *\([0-9]*\).*/\1/p' "$SHARDFS_SRCDIR"/src/store/*.c)
[ "$bound" -gt 1000 ]

fs_make
hooks
ingest() { # DIR COUNT: creates that many, as fast as it goes; prints how many were made
	python3 - "$MNT/$1" "$2" <<'END' || true
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
os.makedirs(top, exist_ok=True)
made = 0
try:
    for i in range(count):
        if i % 1000 == 0:
            os.makedirs(f"{top}/{i // 1000}", exist_ok=True)
        os.mknod(f"{top}/{i // 1000}/{i}")
        made += 1
except OSError:
    pass
print(made)
END
}
# Kills the daemon in the middle of an ingest; how many records the next mount
# brought into the index is in $applied, and its time in $ms.
kill_in_ingest() { # DIR
	local pid writer line made before=$SECONDS
	pid=$(fs_pid)
	ingest "$1" 10000000 >"$TMPDIR/made" &
	writer=$!
	eventually 240 test -e "$MNT/$1/5/5999"
	# So that there is something to replay, however slow the writer is.
	hooks 'hold index-apply-before'
	eventually 60 hook_is_held index-apply-before
	kill -9 "$pid"
	wait "$writer"
	hooks
	fs_clear "$pid"
	made=$(cat "$TMPDIR/made")
	# Killed in turn before it applied anything, and once more behind the first batch.
	for place in replay-apply-before replay-apply-after; do
		hooks "kill $place"
		fs_mount_killed || die "$place was not reached"
		hook_killed "$place"
	done
	hooks
	fs_mount
	line=$(grep -a 'journal-replayed' "$FS/shardfs.log" | tail -n 1)
	applied=$(sed 's/.* applied=\([0-9]*\).*/\1/' <<<"$line")
	ms=$(sed 's/.* ms=\([0-9]*\).*/\1/' <<<"$line")
	echo "after $2 files, $made more and a kill: ${line#*journal-replayed }"
	# A prefix: of what was made in order, all up to some file.
	python3 - "$MNT/$1" "$made" <<'END'
import os, sys
top, made = sys.argv[1], int(sys.argv[2])
names = sorted(int(name) for sub in os.listdir(top) for name in os.listdir(f"{top}/{sub}"))
assert names == list(range(len(names))), "not a prefix"
assert len(names) <= made + 1, (len(names), made)
print(f"{len(names)} of {made} are there")
END
}

fs_mount
kill_in_ingest few 0
few=$applied
[ "$few" -le "$((2 * bound))" ] || die "$few records were replayed"
[ "$(ingest many "$files")" -eq "$files" ]
shardctl sync "$MNT"
kill_in_ingest more "$files"
[ "$applied" -le "$((2 * bound))" ] || die "$applied records were replayed"
echo "replayed: $few with few files, $applied with $files; bound $bound; $ms ms"
fs_umount
fs_check
