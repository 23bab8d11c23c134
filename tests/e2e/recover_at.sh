#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
#
# Older states: --list names those that are held, --at gives back each of them, also one from before
# another machine took over; what is older than all of them is said to be gone.
# shellcheck source=tests/e2e/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

second_is_over() { # SECONDS since 1970
	[ "$(date +%s)" -gt "$1" ]
}
# The state as of now is at every provider; what comes later has a later time.
state() { # NAME
	shardctl wait "$MNT" >/dev/null
	cp -a "$MNT/tree" "$TMPDIR/tree-$1"
	date +%s >"$TMPDIR/time-$1"
	eventually 60 second_is_over "$(cat "$TMPDIR/time-$1")"
}
config_for() { # HOME: all three providers, as they are in $TMPDIR/only
	local provider
	printf 'home: %s\npassphrase_file: %s\nproviders:\n' "$1" "$FS/passphrase"
	for provider in primary secondary tertiary; do
		printf '  - {name: %s, type: dir, path: %s}\n' "$provider" "$TMPDIR/only/$provider"
	done
}
# Each recovery is from fresh copies of the providers: a mount would write to them.
begin() { # NAME: $home, $conf
	rm -rf "$TMPDIR/only"
	cp -a "$FS/providers" "$TMPDIR/only"
	home=$TMPDIR/home-$1 conf=$TMPDIR/$1.yaml
	config_for "$home" >"$conf"
}
shows() { # NAME [OPTION...]: the recovered home mounts and has that tree
	local name=$1
	shift
	mkdir -p "$TMPDIR/mnt2"
	fsck.shardfs "$conf"
	shardfs "$conf" "$TMPDIR/mnt2" "$@" >>"$LOG" 2>&1
	diff -r "$TMPDIR/tree-$name" "$TMPDIR/mnt2/tree" || die "another tree than $name"
}

# An umount waits until all providers have all of it, however slow they are.
fs_make 'segment_delay_max: 1s' 'close_wait: 5m'
fs_mount
mkdir "$MNT/tree"
head -c 300000 /dev/urandom >"$MNT/tree/first"
echo one >"$MNT/tree/text"
state one
head -c 200000 /dev/urandom >"$MNT/tree/second"
echo two >"$MNT/tree/text"
rm "$MNT/tree/first"
state two
mv "$MNT/tree/second" "$MNT/tree/renamed"
echo three >"$MNT/tree/text"
state three
fs_umount

# What --list says: times that only get older, and every provider that has it.
begin list
shardfs-recover --list "$conf" >"$TMPDIR/list"
cat "$TMPDIR/list"
[ ! -e "$home" ] || die '--list made something'
for provider in primary secondary tertiary; do
	grep -q "^$provider .* complete\$" "$TMPDIR/list" || die "$provider is not complete"
done
sed -n '/^time /,$p' "$TMPDIR/list" | sed 1d >"$TMPDIR/states"
[ "$(wc -l <"$TMPDIR/states")" -ge 3 ] || die 'fewer than three states'
sort -s -k4,4nr -k3,3nr "$TMPDIR/states" | diff "$TMPDIR/states" -
grep -q ' primary, secondary, tertiary$' "$TMPDIR/states"
# One that lacks something is said to.
find "$TMPDIR/only/secondary/index" -name 'log-*' | sort | tail -n 1 | xargs rm
shardfs-recover --list "$conf" >"$TMPDIR/list"
grep -q '^secondary .* stale: lacks 1 objects of the newest state$' "$TMPDIR/list"
grep -q ' primary, tertiary$' "$TMPDIR/list"
grep -q '^primary .* complete$' "$TMPDIR/list"

# Each of the three, by its time in different words.
begin one
shardfs-recover --at "@$(cat "$TMPDIR/time-one")" "$conf" && die 'took @SECONDS' || [ $? -eq 2 ]
shardfs-recover --at "$(date -u -d "@$(cat "$TMPDIR/time-one")" +%Y-%m-%dT%H:%M:%SZ)" "$conf" |
	tee "$TMPDIR/out"
grep -q '^newest state not later than .*: generation' "$TMPDIR/out"
shows one
fs_umount "$TMPDIR/mnt2"
begin two
shardfs-recover --at "$(date -d "@$(cat "$TMPDIR/time-two")" '+%Y-%m-%d %H:%M:%S')" "$conf"
shows two
fs_umount "$TMPDIR/mnt2"
begin three
shardfs-recover --at '0s ago' "$conf"
shows three
fs_umount "$TMPDIR/mnt2"

# Every state of the list by its own time: none later than asked is taken.
begin each
TZ=UTC shardfs-recover --list "$conf" | sed -n '/^time /,$p' | sed 1d >"$TMPDIR/states"
while read -r day time _; do
	TZ=UTC shardfs-recover --at "$day ${time%+*}Z" "$conf" >"$TMPDIR/out"
	grep -q "recovered generation [0-9]* of $day $time\$" "$TMPDIR/out" ||
		die "$day $time: $(cat "$TMPDIR/out")"
	rm -rf "$home"
done <"$TMPDIR/states"

# Nothing is so old: the oldest, and the exit status says so.
begin old
rc=0
shardfs-recover --at '1000d ago' "$conf" >"$TMPDIR/out" || rc=$?
[ "$rc" -eq 3 ] || die "exit $rc"
grep -q '^nothing from before .* is held any more; the oldest' "$TMPDIR/out"
oldest=$(tail -n 1 "$TMPDIR/states" | awk '{ print $3 }')
grep -q "recovered generation $oldest of" "$TMPDIR/out"

# An older state that was mounted and written to is the newest from then on, and the states of the
# writer before are still to be had.
begin over
shardfs-recover --at "$(date -u -d "@$(cat "$TMPDIR/time-one")" +%Y-%m-%dT%H:%M:%SZ)" "$conf"
shows one
echo over >"$TMPDIR/mnt2/tree/text"
shardctl wait "$TMPDIR/mnt2" >/dev/null
rm -rf "$TMPDIR/tree-over"
cp -a "$TMPDIR/mnt2/tree" "$TMPDIR/tree-over"
fs_umount "$TMPDIR/mnt2"
home=$TMPDIR/home-over2 conf=$TMPDIR/over2.yaml
config_for "$home" >"$conf"
shardfs-recover "$conf" | tee "$TMPDIR/out" # the newest
grep -q '^primary .* complete$' "$TMPDIR/out"
shows over
fs_umount "$TMPDIR/mnt2"
# ... nor has the second take-over, with a snapshot of its own, taken them away
home=$TMPDIR/home-over3 conf=$TMPDIR/over3.yaml
config_for "$home" >"$conf"
shardfs-recover --at "$(date -u -d "@$(cat "$TMPDIR/time-three")" +%Y-%m-%dT%H:%M:%SZ)" "$conf"
shows three
fs_umount "$TMPDIR/mnt2"
