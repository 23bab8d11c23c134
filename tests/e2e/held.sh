# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
#
# While one operation is held (a PUT, a GET, the syncs of an fsync, an apply or
# a checkpoint of the index), stat, create, cached reads and writes of other
# files finish: one check for each pair.  What was held finishes afterwards.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

limit=120 # seconds; what is held waits for ever
fs_make 'shard_size: 1MiB' 'commit_interval: 200ms' 'shard_idle: 200ms' 'cache_size: 0' \
	'chunk_memory: 0' 'spool_release_copies: 3'
fs_mount
mkdir "$MNT/dir" "$MNT/many"
echo known >"$MNT/known"
head -c 3000000 /dev/urandom >"$TMPDIR/far"
cp "$TMPDIR/far" "$MNT/far"
head -c 100000 /dev/urandom >"$TMPDIR/near"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	echo "$i" >"$MNT/many/$i"
done
shardctl wait "$MNT" >/dev/null
fs_umount
fs_mount
cp "$TMPDIR/near" "$MNT/near"
cat "$MNT/near" >/dev/null
echo first >"$MNT/log"
stat "$MNT/known" "$MNT/dir" >/dev/null

# A process that waits for the mount cannot be killed while it is held, so timeout(1)
# would wait with it.
within() { # WHAT COMMAND...
	local what=$1 pid end=$((SECONDS + limit))
	shift
	"$@" >/dev/null 2>"$TMPDIR/within.err" &
	pid=$!
	until pid_is_gone "$pid"; do
		if [ "$SECONDS" -ge "$end" ]; then
			hooks
			die "while $place is held: $what does not finish"
		fi
		sleep 0.01
	done
	wait "$pid" || die "while $place is held: $what fails: $(cat "$TMPDIR/within.err")"
}
# Names that the kernel does not know yet are asked for too.
others_finish() {
	count=$((count + 1))
	within 'stat of a known file' stat "$MNT/known"
	within 'stat of a file not yet looked up' stat "$MNT/many/$count"
	within 'look-up of nothing' bash -c "! stat '$MNT/nothing-$count' 2>/dev/null"
	within 'readdir' ls -l "$MNT/many"
	within 'create' touch "$MNT/created-$count"
	within 'mkdir' mkdir "$MNT/dir/$count"
	within 'rename' mv "$MNT/created-$count" "$MNT/dir/$count/renamed"
	within 'unlink' rm "$MNT/dir/$count/renamed"
	within 'chmod' chmod 0600 "$MNT/known"
	within 'setfattr' setfattr -n user.count -v "$count" "$MNT/known"
	within 'a cached read' cmp "$MNT/near" "$TMPDIR/near"
	within 'a write, with close' cp "$TMPDIR/near" "$MNT/new-$count"
	within 'a read of what was just written' cmp "$MNT/new-$count" "$TMPDIR/near"
	within 'an append' bash -c "echo more >>'$MNT/log'"
	within 'statfs' stat -f "$MNT"
	# Waits for the index, but not for a provider.
	[[ $place != dir-* ]] ||
		within 'a status xattr' getfattr -n user.shardfs.status "$MNT/known"
}
count=0
# held PLACE COMMAND...: the command, or what it causes, is held there.
held() {
	local pid
	place=$1
	shift
	hooks "hold $place"
	"$@" &
	pid=$!
	eventually 60 hook_is_held "$place"
	others_finish
	hooks
	wait "$pid" || die "what was held at $place failed"
	echo "$place: held, and the others finished"
}
sync_file() {
	cp "$TMPDIR/near" "$MNT/synced" && sync "$MNT/synced"
}
read_far() {
	cmp "$MNT/far" "$TMPDIR/far"
}
copy_away() {
	cp "$TMPDIR/far" "$MNT/away-$1" && echo "$1" >>"$MNT/away-$1" &&
		shardctl wait "$MNT/away-$1" >/dev/null
}

held dir-get-before read_far
held dir-put-before copy_away 1
held dir-publish-before copy_away 2
held journal-sync-before sync_file
held journal-sync-after sync_file
held spool-sync-before sync_file
held spool-sync-after sync_file
held index-apply-before sync_file
held index-checkpoint-before sync_file
held shard-seal-before copy_away 3

# A daemon that is told to end while something is held can still be killed, and
# leaves no process behind that waits for itself.
hooks 'hold spool-append-before'
head -c 100000 /dev/urandom >"$MNT/late" &
eventually 60 hook_is_held spool-append-before
pid=$(fs_pid)
kill -TERM "$pid"
kill -KILL "$pid"
fs_clear "$pid"
hooks
wait || true

fs_mount
for ((i = 1; i <= count; i++)); do
	cmp "$MNT/new-$i" "$TMPDIR/near"
done
read_far
fs_umount
fs_check
