# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
#
# Nothing that fsync acknowledged is lost when the power fails (promise P1):
# home and providers lie on tests/lib/powerfs.c, which forgets what was not
# synced; random operations, the daemon dies at a random operation or place of
# util/hook.h, the power with it, now and then again while the mount replays;
# tests/lib/crash_oracle.c judges what is there.  After a clean end everything
# lasts.  100 cycles with SHARDFS_LONG, else 8.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

cycles=${POWER_CYCLES:-8}
[ -z "${SHARDFS_LONG:-}" ] || cycles=100
seed_random
mapfile -t places < <(hook_places)
[ "${#places[@]}" -ge 20 ]
random_place() {
	local place=${places[RANDOM % ${#places[@]}]} times=${1:-8}
	[[ $place != spool-append-* ]] || times=800
	echo "kill $place $((RANDOM % times + 1))"
}

power_on
fs_make 'shard_size: 1MiB' 'chunk_min: 4KiB' 'chunk_avg: 16KiB' 'chunk_max: 64KiB' \
	'commit_interval: 400ms' 'shard_idle: 200ms' 'cache_size: 4MiB' 'chunk_memory: 1MiB' \
	'deletion_hold: 0s'
# What the user made is the user's to sync; what mkfs made it has synced.
sync "$CONF" "$FS/passphrase" "$FS" "$FS/providers"
power_fail "${POWER_MODE:-any}" "$RANDOM"
echo "after mkfs: $lost"
oracle_start
second=0
for ((cycle = ${POWER_FIRST:-0}; cycle < cycles; cycle++)); do
	hooks
	fs_mount
	pid=$(fs_pid)
	[ $((cycle % 2)) -eq 0 ] || power writeback "$RANDOM" >/dev/null
	if [ $((cycle % 8)) -eq 6 ]; then
		oracle work "$pid" "$((RANDOM % 300 + 10))" end
		fs_umount
		power_fail "${POWER_MODE:-drop}" "$RANDOM"
		echo "cycle $cycle: clean end: $lost: $answer"
		fs_mount
		oracle exact
		fs_umount
		continue
	fi
	if [ $((cycle % 8)) -eq 4 ]; then
		# What a mount found after a mere kill lasts from then on.
		oracle work "$pid" "$((RANDOM % 300 + 10))" kill
		fs_clear "$pid"
		fs_mount
		oracle verify
		power_fail "${POWER_MODE:-drop}" "$RANDOM"
		echo "cycle $cycle: killed, mounted: $lost: $answer"
		fs_mount
		oracle exact
		fs_umount
		continue
	fi
	rule='random moment'
	ops=$((RANDOM % 700 + 10))
	if [ $((cycle % 2)) -eq 1 ]; then
		rule=${POWER_RULE:-$(random_place)}
		ops=1500
		hooks "$rule"
	fi
	oracle work "$pid" "$ops" kill
	power_fail "${POWER_MODE:-any}" "$RANDOM"
	echo "cycle $cycle: $rule: $lost: $answer"
	# A mount that dies in turn, with the power, changes nothing.
	if [ $((RANDOM % 2)) -eq 0 ]; then
		rule=$(random_place 3)
		hooks "$rule"
		if fs_mount_killed; then
			second=$((second + 1))
			power_fail "${POWER_MODE:-any}" "$RANDOM"
			echo "cycle $cycle: and while mounting: $rule: $lost"
		fi
	fi
	hooks
	[ $((cycle % 4)) -ne 1 ] || fs_check
	fs_mount
	oracle power
	fs_umount
	[ $((cycle % 4)) -ne 2 ] || fs_check
done
fs_check
echo "$second mounts were killed"
oracle_stop
power_off
