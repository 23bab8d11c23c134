# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
#
# Nothing acknowledged is lost by SIGKILL of the daemon (promise P1): random
# operations, a kill at a random operation or at a random place of util/hook.h,
# now and then a second one while the mount replays, and tests/lib/crash_oracle.c
# judges what is there.  200 cycles with SHARDFS_LONG, else 20.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

cycles=20
[ -z "${SHARDFS_LONG:-}" ] || cycles=200
seed_random
mapfile -t places < <(hook_places)
[ "${#places[@]}" -ge 20 ]
random_place() {
	local place=${places[RANDOM % ${#places[@]}]} times=${1:-8}
	# One file passes these some hundred times.
	[[ $place != spool-append-* ]] || times=800
	echo "kill $place $((RANDOM % times + 1))"
}

# Small chunks and shards, short intervals: everything happens in each cycle.
fs_make 'shard_size: 1MiB' 'chunk_min: 4KiB' 'chunk_avg: 16KiB' 'chunk_max: 64KiB' \
	'commit_interval: 200ms' 'shard_idle: 200ms' 'cache_size: 4MiB' 'chunk_memory: 1MiB' \
	'deletion_hold: 0s'
oracle_start
second=0
for ((cycle = 0; cycle < cycles; cycle++)); do
	hooks
	fs_mount
	[ $((cycle % 4)) -ne 3 ] || oracle exact
	pid=$(fs_pid)
	if [ $((cycle % 2)) -eq 0 ]; then
		rule='random moment'
		ops=$((RANDOM % 700 + 10))
	else
		rule=$(random_place)
		[ $((cycle % 8)) -ne 5 ] || rule="kill spool-append-after $((RANDOM % 800 + 1))"
		ops=1500
		hooks "$rule"
	fi
	oracle work "$pid" "$ops" kill
	fs_clear "$pid"
	echo "cycle $cycle: $rule: $answer"
	# A mount that is killed in turn changes nothing.
	if [ $((RANDOM % 2)) -eq 0 ]; then
		rule=$(random_place 3)
		hooks "$rule"
		if fs_mount_killed; then
			second=$((second + 1))
			echo "cycle $cycle: and while mounting: $rule"
		fi
	fi
	hooks
	[ $((cycle % 4)) -ne 1 ] || fs_check
	fs_mount
	oracle verify
	fs_umount
	[ $((cycle % 4)) -ne 2 ] || fs_check
done
fs_check
echo "$second mounts were killed"
oracle_stop
