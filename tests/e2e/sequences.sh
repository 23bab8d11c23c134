# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
#
# Sequences of up to three operations, each followed by a death of the daemon
# or of the power, and a comparison with what may be there then
# (tests/lib/sequences.c).  A thousand of them, each after a kill or after a loss
# of power; with SHARDFS_LONG all, after both.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

seed_random
total=${SEQUENCES:-1000} batch=25
power_on
fs_make 'shard_size: 1MiB' 'chunk_min: 4KiB' 'chunk_avg: 16KiB' 'chunk_max: 64KiB' \
	'commit_interval: 30s' 'cache_size: 4MiB' 'deletion_hold: 0s'
sync "$CONF" "$FS/passphrase" "$FS" "$FS/providers"
coproc ORACLE {
	exec sequences "$MNT" "$SHARDFS_TEST_SEED"
}
oracle count
all=${answer#ok }
[ -z "${SHARDFS_LONG:-}" ] || total=$all
crash() { # kill|power FROM
	fs_mount
	pid=$(fs_pid)
	# In each second one some sequences are in the middle.
	oracle batch "$pid" "$2" "$batch" $((RANDOM % 2 * (RANDOM % 25)))
	lost='killed'
	if [ "$1" = power ]; then
		power_fail "${POWER_MODE:-any}" "$RANDOM"
	else
		fs_clear "$pid"
	fi
	fs_mount
	oracle "$1"
	fs_umount
}
for ((from = 0, n = 0; from < total; from += batch, n++)); do
	if [ -n "${SHARDFS_LONG:-}" ]; then
		crash kill "$from"
		crash power "$from"
	elif [ $((n % 2)) -eq 0 ]; then
		crash kill "$from"
	else
		crash power "$from"
	fi
done
fs_check
echo "$total of $all sequences"
oracle_stop
power_off
