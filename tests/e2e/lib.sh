# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Sourced by the tests on real mounts.  A test stops at its first failure.
#
#	fs_make [LINE...]	a new file system under $TMPDIR/fs: three directory
#				providers; LINEs go under `settings:`
#	fs_mount [OPTION...]	mounts it at $MNT; what the daemon says is in $LOG
#	fs_umount [DIR]		unmounts and waits for the daemon to end
#	fs_kill			SIGKILL to the daemon, and the dead mount is cleared
#	fs_check		fsck.shardfs --deep says that it is sound
#	fs_pid [DIR]		the process id of the daemon of a mount ($MNT)
#	providers_answer [DIR]	all providers have, since the mount; before they count as away
#	hooks RULE...		from now on these rules of util/hook.h; none without
#				(but for what broken.sh wants broken, $SHARDFS_BREAK)
#	eventually N COMMAND...	repeats it until it succeeds, N seconds at most
#	hook_places		every place of util/hook.h in the source
#	hook_is_held PLACE	a thread waits there, or has
#	hook_killed PLACE	it did; `hooks` forgets both
#	oracle_start [SUBDIR]	begins tests/lib/crash_oracle.c on the mount
#	oracle COMMAND...	asks it; the answer is in $answer
#	oracle_stop
#	power_on		$FS lies on tests/lib/powerfs.c from now on; before fs_make
#	power_fail MODE [SEED]	the daemon dies, what was not synced is gone, $FS is back
#	power COMMAND...	tells it; power_off ends it
#	tree_make DIR		a tree with everything that a tree can have
#	tree_describe DIR	all that can be said of it, to be compared
#	COMMAND | has PATTERN	grep -q would end too early for pipefail
#	must_fail COMMAND...	succeeds when the command fails
#	skip REASON		this test cannot run here
#
# $FS is the file system's directory, $CONF its configuration, $MNT the mount.
set -Eeuo pipefail
trap 'echo "failed at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR

: "${SHARDFS_SRCDIR:?run this through tests/e2e/run.sh}" "${SHARDFS_BUILDDIR:?}" "${TMPDIR:?}"
PATH=$SHARDFS_BUILDDIR/bin:$SHARDFS_BUILDDIR/bin/e2e:$PATH
FS=$TMPDIR/fs CONF=$TMPDIR/fs/shardfs.yaml MNT=$TMPDIR/mnt LOG=$TMPDIR/daemon.log
export SHARDFS_HOOKS=$TMPDIR/hooks

skip() {
	echo "$*"
	exit 77
}
# grep that reads to the end: what writes into it is never killed by a closed pipe.
has() {
	grep "$@" >/dev/null
}
die() {
	echo "$*" >&2
	exit 1
}
must_fail() {
	if "$@"; then
		die "succeeded: $*"
	fi
}
eventually() {
	local seconds=$1 end
	shift
	end=$((SECONDS + seconds))
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || die "not within $seconds s: $*"
		sleep 0.05
	done
}
hooks() {
	# A rename, so that no half-written rule is read.
	: >"$SHARDFS_HOOKS.new"
	[ "$#" -eq 0 ] || printf '%s\n' "$@" >"$SHARDFS_HOOKS.new"
	[ -z "${SHARDFS_BREAK:-}" ] || echo "break $SHARDFS_BREAK" >>"$SHARDFS_HOOKS.new"
	rm -f "$SHARDFS_HOOKS"-*
	mv "$SHARDFS_HOOKS.new" "$SHARDFS_HOOKS"
}
hook_places() {
	grep -rhoE --include='*.c' '"[a-z0-9]+(-[a-z0-9]+)*-(before|after)"|HOOK\("[^"]+"' \
		"$SHARDFS_SRCDIR"/{src,fs,backends} | sed 's/^[^"]*"\([^"]*\)".*/\1/' | sort -u
}
hook_is_held() {
	[ -e "$SHARDFS_HOOKS-held-$1" ]
}
hook_killed() {
	[ -e "$SHARDFS_HOOKS-kill-$1" ]
}

# Seeds are printed; SHARDFS_TEST_SEED=N repeats a run.
seed_random() {
	: "${SHARDFS_TEST_SEED:=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}"
	RANDOM=$((SHARDFS_TEST_SEED % 32768))
	echo "SHARDFS_TEST_SEED=$SHARDFS_TEST_SEED"
}
oracle_start() {
	coproc ORACLE {
		exec crash_oracle "$MNT${1:+/$1}" "$SHARDFS_TEST_SEED" "$TMPDIR/oracle.log"
	}
}
oracle_stop() {
	echo quit >&"${ORACLE[1]}"
	wait "$ORACLE_PID"
}
oracle() {
	echo "$*" >&"${ORACLE[1]}"
	read -r answer <&"${ORACLE[0]}" || die "the oracle is gone"
	[[ $answer == ok* ]] || die "oracle, $*: $answer"
}

fs_config() {
	local name line
	printf 'home: %s\n' "$FS"
	printf 'passphrase_file: %s\n' "$FS/passphrase"
	printf 'providers:\n'
	for name in primary secondary tertiary; do
		printf '  - name: %s\n    type: dir\n    role: %s\n    region: %s\n    path: %s\n' \
			"$name" "$name" "$name-region" "$FS/providers/$name"
	done
	if [ "$#" -gt 0 ]; then
		printf 'settings:\n'
		for line; do
			printf '  %s\n' "$line"
		done
	fi
}
fs_make() {
	install -d -m 0700 "$FS" "$FS/providers" "$FS"/providers/{primary,secondary,tertiary}
	(umask 077 && head -c 32 /dev/urandom | base64 >"$FS/passphrase")
	fs_config "$@" >"$CONF"
	mkfs.shardfs --kdf-cost 10 "$CONF" # scrypt as cheap as it gets: tests mount often
	mkdir -p "$MNT"
}
is_mounted() {
	mountpoint -q "$MNT"
}
# The daemon goes to the background when the mount is ready.
fs_mount() {
	mkdir -p "$MNT"
	if ! shardfs "$CONF" "$MNT" "$@" >>"$LOG" 2>&1; then
		tail -n 20 "$LOG" >&2
		return 1
	fi
	is_mounted
}
fs_pid() {
	local pid dir=${1:-$MNT}
	for pid in $(pgrep -x shardfs); do
		if { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null |
			has -x "SHARDFS_E2E_DIR=$SHARDFS_E2E_DIR" &&
			{ tr '\0' '\n' <"/proc/$pid/cmdline"; } 2>/dev/null | has -xF -- "$dir"; then
			echo "$pid"
			return 0
		fi
	done
	return 1
}
# Of a killed process the first thread may be gone while another still writes to a slow disk.
pid_is_gone() {
	! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/task"/*/status 2>/dev/null
}
fs_umount() {
	local pid dir=${1:-$MNT}
	pid=$(fs_pid "$dir")
	# Who has just ended may have had something open there a moment ago.
	eventually 60 umount "$dir"
	eventually 120 pid_is_gone "$pid"
}
providers_answer() {
	shardctl --mount "${1:-$MNT}" --json status | jq -e '.providers | all(.present)'
}
fs_kill() {
	local pid
	pid=$(fs_pid)
	kill -9 "$pid"
	fs_clear "$pid"
}
# After the death of the daemon, or of one that may not have mounted at all.
fs_clear() { # [PID]
	local pid
	if pid=${1:-$(fs_pid)}; then
		eventually 60 pid_is_gone "$pid"
	fi
	while awk '{ print $5 }' /proc/self/mountinfo | has -xF -- "$MNT"; do
		umount -l "$MNT"
	done
}
# A mount that a kill rule may end; it is not there afterwards either way.
fs_mount_killed() { # succeeds if it was killed while mounting
	local pid rc=0
	shardfs "$CONF" "$MNT" >>"$LOG" 2>&1 || rc=$?
	if [ "$rc" -eq 0 ] && pid=$(fs_pid); then
		kill -9 "$pid" || true
		fs_clear "$pid"
	else
		fs_clear
	fi
	[ "$rc" -ne 0 ]
}
# Proves the unmounted file system sound.
fs_check() {
	fsck.shardfs --deep "$CONF" >"$TMPDIR/fsck.out" 2>&1 || {
		tail -n 20 "$TMPDIR/fsck.out" >&2
		return 1
	}
}

# A disk that forgets, beneath everything that the file system keeps.
POWER=$TMPDIR/power
power() {
	powerfs ctl "$POWER" "$@"
}
power_on() {
	mkdir -p "$FS"
	powerfs "$FS" "$POWER"
	mountpoint -q "$FS"
}
power_off() {
	power quit >/dev/null
	eventually 60 power_is_off
}
power_is_off() {
	! mountpoint -q "$FS"
}
# Everything so far lasts, whoever wrote it.
power_sync() {
	find "$FS" -depth -exec sync {} +
}
power_fail() { # MODE [SEED]: what it did is in $lost
	local pid
	if pid=$(fs_pid); then
		kill -9 "$pid"
		fs_clear "$pid"
	else
		fs_clear
	fi
	lost=$(power lose "$@") || die "powerfs: $lost"
	power boot >/dev/null
}

tree_make() { # DIR
	local i
	mkdir -p "$1/plain/deep/deeper" "$1/empty" "$1/odd"
	for i in $(seq 30); do
		head -c "$((i * 3313))" /dev/urandom >"$1/plain/file-$i"
	done
	head -c 3M /dev/urandom >"$1/plain/deep/big"
	: >"$1/plain/deep/nothing"
	echo kept >"$1/odd/mode" && chmod 4750 "$1/odd/mode"
	echo owned >"$1/odd/owner" && chown 1234:2345 "$1/odd/owner"
	echo old >"$1/odd/old" && touch -d '1965-02-03 04:05:06.123456789' "$1/odd/old"
	echo late >"$1/odd/late" && touch -d '2150-02-03 04:05:06.5' "$1/odd/late"
	ln "$1/plain/file-3" "$1/odd/hard"
	ln "$1/plain/file-3" "$1/plain/deep/deeper/hard too"
	ln -s ../plain/file-1 "$1/odd/soft"
	ln -s 'not there' "$1/odd/dangling"
	mkfifo "$1/odd/fifo"
	mknod "$1/odd/device" c 1 3
	printf 'name with a newline' >"$1/odd/$(printf 'a\nb')"
	# data, 1 MiB of nothing, data, and a hole at the end
	head -c 64K /dev/urandom >"$1/odd/sparse"
	head -c 64K /dev/urandom | dd of="$1/odd/sparse" bs=64K seek=17 conv=notrunc status=none
	truncate -s 4M "$1/odd/sparse"
	setfattr -n user.colour -v blue "$1/odd/mode"
	setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' x)" "$1/plain/deep"
	setfacl -m u:1234:rw,g:2345:r "$1/odd/owner"
	setfacl -d -m u:1234:rwx "$1/empty"
	# what is deleted, renamed and written over must stay so
	echo gone >"$1/plain/gone" && rm "$1/plain/gone"
	echo moved >"$1/plain/before" && mv "$1/plain/before" "$1/plain/deep/after"
	head -c 10000 /dev/urandom | dd of="$1/plain/file-9" conv=notrunc bs=10000 seek=1 status=none
	chmod 0711 "$1/plain/deep/deeper"
	touch -d '2001-01-01 00:00:00.000000001' "$1/plain/deep/deeper" "$1/empty"
}
tree_holes() { # FILE: where data begins and ends
	python3 - "$1" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size, at = os.fstat(fd).st_size, 0
while at < size:
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        break
    at = os.lseek(fd, data, os.SEEK_HOLE)
    print(data, at)
END
}
# Everything that stat, xattrs and ACLs say about a tree that tree_make made.
tree_describe() { # DIR
	(cd "$1" && find . -print0 | LC_ALL=C sort -z |
		xargs -0 stat --printf '%N %A %u %g %h %F %t:%T %.9Y\n' &&
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 stat --printf '%N %s\n' &&
		getfattr -R -h -d -m '^(user|security|trusted)\.' . | LC_ALL=C sort &&
		find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -p &&
		tree_holes odd/sparse &&
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}
