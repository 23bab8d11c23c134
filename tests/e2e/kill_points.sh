# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
#
# Every place of util/hook.h that the source has is killed at once: in a
# workload that reaches all of them, and then while the next mount recovers.
# tests/lib/crash_oracle.c judges what is there, fsck.shardfs what it rests on.
# A place that is never reached fails the test, but for those of $later.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

seed_random
export SHARDFS_MOUNT=$MNT
mapfile -t places < <(hook_places)
[ "${#places[@]}" -ge 20 ]
# Snapshots have a loop of their own; a shard is discarded when nothing seals it in the moment
# before (bin/unit/gc has it always).
later=' oplog-snapshot-before oplog-snapshot-after gc-discard-before gc-discard-after '
# Killed in policy.sh, where a policy changes over data;
later+='converge-rows-before converge-rows-after converge-data-before converge-data-after '
later+='converge-done-before '
# in keys.sh and rotate.sh;
later+='key-home-before key-home-after key-use-before key-use-after key-renew-before '
later+='key-renew-after key-destroy-before key-destroy-after '
# in recover_to.sh;
later+='restore-write-before restore-name-before restore-name-after '
# in snapshot.sh;
later+='snapshot-create-before snapshot-create-after snapshot-drop-before snapshot-drop-after '
# in clone.sh;
later+='clone-entry-before clone-name-before clone-strike-before '
# in replay.sh.
later+='replay-apply-before replay-apply-after '

fs_make 'shard_size: 1MiB' 'chunk_min: 4KiB' 'chunk_avg: 16KiB' 'chunk_max: 64KiB' \
	'commit_interval: 200ms' 'shard_idle: 200ms' 'cache_size: 0' 'chunk_memory: 0' \
	'deletion_hold: 0s'
oracle_start

# What the random operations do not reach: copies made and waited for, reads from
# providers, deletion.  Any of it may meet the kill.
more_work() {
	head -c 1500000 /dev/urandom >"$MNT/more" &&
		shardctl wait --timeout 120s "$MNT/more" &&
		dd if="$MNT/more" of=/dev/null bs=1M iflag=direct &&
		rm "$MNT/more" &&
		shardctl sync "$MNT" || return
	case $place in
	gc-* | rewrite-* | dir-delete-*) reclaim_work ;;
	repair-* | superblock-heal-* | oplog-heal-* | orphan-*) heal_work ;;
	esac
}
# An object that comes back after its deletion, and one that is missing or damaged of each kind.
heal_work() {
	local primary=$FS/providers/primary
	head -c 300000 /dev/urandom >"$MNT/kept" && shardctl wait --timeout 120s "$MNT" || return
	rm -rf "$TMPDIR/saved"
	mkdir "$TMPDIR/saved" # of the shards: what lies beside them comes and goes
	cp -a "$primary"/[0-9a-f][0-9a-f] "$TMPDIR/saved" && rm "$MNT/kept" || return
	shardctl cleanup run
	cp -an "$TMPDIR/saved/." "$primary/"
	shardctl cleanup run --orphans
	head -c 300000 /dev/urandom >"$MNT/kept" && shardctl wait --timeout 120s "$MNT" || return
	rm "$(find "$primary" -type f -name '????????????????????????????????' | sed -n 1p)"
	: >"$primary/index/superblock"
	find "$primary/index" -name 'snap-*' -exec truncate -c -s 100 {} +
	shardctl scrub --deep
	rm -f "$MNT/kept"
}
# A shard of which little is left, an empty one, a file in pieces, an open shard with nothing alive.
reclaim_work() {
	head -c 700000 /dev/urandom >"$MNT/more" && head -c 100000 /dev/urandom >"$MNT/kept" &&
		shardctl wait --timeout 120s "$MNT" || return
	python3 - "$MNT/more" <<'END' || return
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
for i in range(80):
    os.pwrite(fd, os.urandom(4096), 8192 * i)
    os.fsync(fd)
END
	shardctl cleanup run && shardctl wait --timeout 120s "$MNT" && rm "$MNT/more" &&
		shardctl cleanup run && head -c 50000 /dev/urandom >"$MNT/more" &&
		shardctl sync "$MNT/more" && rm "$MNT/more" && shardctl cleanup run
	rm -f "$MNT/kept"
}
missed=()
for place in "${places[@]}"; do
	fs_mount
	pid=$(fs_pid)
	hooks "kill $place"
	oracle work "$pid" 200 end
	# What takes its time on a slow disk gets a second chance.
	for _ in 1 2 3; do
		hook_killed "$place" || more_work >"$TMPDIR/more.out" 2>&1 || true
		[[ $later != *" $place "* ]] || break
	done
	if hook_killed "$place"; then
		fs_clear "$pid"
	else
		umount "$MNT"
		eventually 60 pid_is_gone "$pid"
	fi
	how=verify
	hook_killed "$place" || how=exact
	again=
	! fs_mount_killed || again=', and while mounting'
	hook_killed "$place" || [[ $later == *" $place "* ]] || missed+=("$place")
	hooks
	fs_check
	fs_mount
	oracle "$how"
	rm -f "$MNT/more" "$MNT/kept"
	fs_umount
	echo "$place: $answer$again"
done

# A snapshot of the index is made behind a mount that does not find the last one.
for place in oplog-snapshot-before oplog-snapshot-after; do
	rm -rf "$FS/oplog"
	hooks "kill $place"
	shardfs "$CONF" "$MNT" >>"$LOG" 2>&1 || true
	eventually 60 hook_killed "$place"
	fs_clear
	hooks
	fs_check
	fs_mount
	oracle exact
	fs_umount
	echo "$place: $answer"
done
oracle_stop
[ "${#missed[@]}" -eq 0 ] || die "never reached: ${missed[*]}"
