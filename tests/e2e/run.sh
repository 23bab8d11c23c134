#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests on real mounts: tests/e2e/run.sh [NAME...], all without names.
# $SHARDFS_BUILDDIR has the build.  A test is tests/e2e/NAME.sh: it sources
# lib.sh, exits 0, or 77 after a last line that says why it cannot run here.
# A line `# time-limit: SECONDS` near its top says what it may take where nothing
# else runs, else 120 s; it is ended after three times that.  With SHARDFS_LONG set
# tests run their long form, with 20 times the limit.
#
# Each runs in a session and a directory of its own, $SHARDFS_E2E_JOBS at once (one
# more than there are processors).  What it leaves mounted or running fails it, and
# is ended.  The last line is "N passed, N failed, N skipped".
set -u
here=$(cd "$(dirname "$0")" && pwd)
export SHARDFS_SRCDIR=${here%/tests/e2e}
export SHARDFS_BUILDDIR=${SHARDFS_BUILDDIR:-$SHARDFS_SRCDIR/test-build}
base=${TMPDIR:-/var/tmp}
jobs=${SHARDFS_E2E_JOBS:-$(($(nproc) + 1))}
logs=${SHARDFS_E2E_LOGS:-$SHARDFS_BUILDDIR/e2e-logs}
passed=0 failed=0 skipped=0
mkdir -p "$logs" || exit 1

[ "$(id -u)" -eq 0 ] || { echo 'run.sh: mounts need root' >&2; exit 1; }
[ -c /dev/fuse ] || { echo 'run.sh: there is no /dev/fuse' >&2; exit 1; }

mounts_under() { # DIR: deepest first
	awk -v dir="$1/" 'index($5 "/", dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}
# Processes of the test: they carry its directory in their environment.
processes_of() { # DIR
	grep -lzx "SHARDFS_E2E_DIR=$1" /proc/[0-9]*/environ 2>/dev/null |
		sed 's,/proc/\([0-9]*\)/.*,\1,'
}
# Ends what is left of a test; prints what that was.
clean_up() { # DIR
	local mount pid pids
	for mount in $(mounts_under "$1"); do
		echo "left mounted: $mount"
		umount -l "$mount"
	done
	local end=$((SECONDS + 60))
	while [ "$SECONDS" -lt "$end" ]; do # what was told to end does, once the disk lets it
		pids=$(processes_of "$1")
		[ -n "$pids" ] || return 0
		sleep 0.2
	done
	for pid in $pids; do
		echo "left running: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
		kill -9 "$pid" 2>/dev/null
	done
}

# One test; what is to be printed of it goes to stdout.  Exits like the test: 0, 77, or else.
run_one() { # FILE
	local test=$1 name=${1##*/} dir log limit rc left start=$SECONDS
	name=${name%.sh}
	log=$logs/$name.log
	limit=$(limit_of "$test")
	dir=$(mktemp -d "$base/shardfs-e2e.XXXXXX") || exit 1
	chmod 0755 "$dir" # tests act as other users too
	SHARDFS_E2E_DIR=$dir TMPDIR=$dir setsid -w timeout -k 10 "$limit" \
		bash "$test" >"$log" 2>&1 </dev/null
	rc=$?
	left=$(clean_up "$dir" 2>&1)
	if [ -n "$left" ]; then
		printf '%s\n' "$left" >>"$log"
		[ "$rc" -ne 0 ] || rc=1
	fi
	case $rc in
	0) echo "PASS e2e/$name ($((SECONDS - start)) s)" ;;
	77) echo "SKIP e2e/$name: $(tail -n 1 "$log")" ;;
	*)
		case $rc in 124 | 137) echo "over its limit of $limit s" >>"$log" ;; esac
		echo "FAIL e2e/$name ($((SECONDS - start)) s, exit $rc)"
		tail -n 50 "$log" | sed 's/^/    /'
		# The daemons' own words are in files of the test.
		find "$dir" -xdev -name '*.log' ! -name config.log -size +0 2>/dev/null | while read -r file; do
			echo "    --- ${file#"$dir"/}"
			tail -n 30 "$file" | sed 's/^/    /'
			cp "$file" "$logs/$name.$(basename "$file")"
		done ;;
	esac
	rm -rf --one-file-system "$dir"
	exit "$rc"
}
limit_of() { # FILE: seconds
	local limit
	limit=$(sed -n '1,20s/^# time-limit: *\([0-9]*\).*/\1/p' "$1")
	limit=$((${limit:-120} * 3))
	[ -z "${SHARDFS_LONG:-}" ] || limit=$((limit * 20))
	echo "$limit"
}

# The tests wait more than they work, so a few run at once, those first that may last long.
declare -A running=()
await_one() {
	local pid rc
	wait -n -p pid
	rc=$?
	cat "${running[$pid]}"
	rm -f "${running[$pid]}"
	unset "running[$pid]"
	case $rc in
	0) passed=$((passed + 1)) ;;
	77) skipped=$((skipped + 1)) ;;
	*) failed=$((failed + 1)) ;;
	esac
}
start_one() { # FILE
	local printed=$logs/${1##*/}.printed
	while [ "${#running[@]}" -ge "$jobs" ]; do await_one; done
	(run_one "$1") >"$printed" 2>&1 &
	running[$!]=$printed
}

if [ "$#" -gt 0 ]; then
	tests=("${@/#/$here/}")
	tests=("${tests[@]/%/.sh}")
else
	tests=()
	for test in "$here"/*.sh; do
		case ${test##*/} in run.sh | lib.sh) ;; *) tests+=("$test") ;; esac
	done
fi
for test in "${tests[@]}"; do
	if [ ! -f "$test" ]; then
		failed=$((failed + 1))
		echo "FAIL ${test##*/}: there is no such test"
	fi
done
mapfile -t ordered < <(for test in "${tests[@]}"; do
	[ ! -f "$test" ] || echo "$(limit_of "$test") $test"
done | sort -k1,1nr -s)
for test in ${ordered[@]+"${ordered[@]}"}; do
	start_one "${test#* }"
done
while [ "${#running[@]}" -gt 0 ]; do await_one; done
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
