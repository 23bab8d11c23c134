# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
#
# Bad input and bad luck: each gets one clear line (object, cause, what to do)
# and the right errno, and nothing is lost.
. "$SHARDFS_SRCDIR/tests/e2e/lib.sh"

# refuses TEXT COMMAND...: fails, and says so in one line that has TEXT.
refuses() {
	local text=$1
	shift
	if "$@" >"$TMPDIR/said" 2>&1; then
		die "succeeded: $*"
	fi
	grep -qiE -- "$text" "$TMPDIR/said" || die "$*: no /$text/ in: $(cat "$TMPDIR/said")"
	[ "$(wc -l <"$TMPDIR/said")" -eq 1 ] || die "$*: more than a line: $(cat "$TMPDIR/said")"
	echo "ok: $(cat "$TMPDIR/said")"
}
# fails_with ERRNO-TEXT COMMAND...
fails_with() {
	local text=$1
	shift
	if "$@" >"$TMPDIR/said" 2>&1; then
		die "succeeded: $*"
	fi
	grep -q -- "$text" "$TMPDIR/said" || die "$*: not '$text': $(cat "$TMPDIR/said")"
}
with_config() { # SED-SCRIPT: another configuration of the same file system, in $OTHER
	OTHER=$TMPDIR/other.yaml
	sed "$1" "$CONF" >"$OTHER"
}

# A small file system of its own for what makes disks full.
cleanup() {
	! mountpoint -q "$TMPDIR/small" || umount -l "$TMPDIR/small"
}
trap cleanup EXIT

fs_make 'shard_size: 1MiB' 'spool_size: 16MiB' 'commit_interval: 200ms' 'shard_idle: 200ms' \
	'cache_size: 0' 'chunk_memory: 0' 'retry_delay: 50ms' 'retry_delay_max: 200ms'
fs_mount
head -c 3000000 /dev/urandom >"$TMPDIR/data"
cp "$TMPDIR/data" "$MNT/data"
shardctl wait --timeout 300s "$MNT" >/dev/null

# --- mounts ---
refuses 'in use|mounted' timeout 120 shardfs "$CONF" "$TMPDIR"
mkdir "$TMPDIR/second"
refuses 'in use' timeout 120 shardfs "$CONF" "$TMPDIR/second"
refuses 'mounted there already' timeout 120 shardfs "$CONF" "$MNT"
cmp "$TMPDIR/data" "$MNT/data"
fs_umount
refuses 'no such file' shardfs "$CONF" "$TMPDIR/nowhere"
refuses 'not a directory' shardfs "$CONF" "$TMPDIR/data"

# --- keys and configuration ---
echo 'not the passphrase' >"$TMPDIR/wrong"
chmod 0600 "$TMPDIR/wrong"
with_config "s,^passphrase_file:.*,passphrase_file: $TMPDIR/wrong,"
refuses 'wrong passphrase' shardfs "$OTHER" "$MNT"
with_config "s,^passphrase_file:.*,passphrase_file: $TMPDIR/no-such-passphrase,"
refuses 'no-such-passphrase.*no such file' shardfs "$OTHER" "$MNT"
with_config "s,^passphrase_file:.*,key_file: $TMPDIR/no-such-key,"
refuses 'no-such-key.*no such file' shardfs "$OTHER" "$MNT"
chmod 0644 "$TMPDIR/wrong"
with_config "s,^passphrase_file:.*,key_file: $TMPDIR/wrong,"
refuses 'wrong' shardfs "$OTHER" "$MNT"
with_config 's,^settings:,settings:\n  shard_sice: 1MiB,'
refuses 'other.yaml.*shard_sice.*shard_size' shardfs "$OTHER" "$MNT"
with_config 's,shard_size: .*,shard_size: 1TiB,'
refuses 'other.yaml.*shard_size.*64 ?MiB' shardfs "$OTHER" "$MNT"
refuses 'no such file' shardfs "$TMPDIR/no-such.yaml" "$MNT"
refuses 'exists|file system' mkfs.shardfs "$CONF"

# --- an index of tomorrow ---
cp -a "$FS/index.db" "$TMPDIR/index.saved"
version=$(sqlite3 "$FS/index.db" 'PRAGMA user_version')
sqlite3 "$FS/index.db" "PRAGMA user_version=$((version + 1))"
refuses 'newer version' shardfs "$CONF" "$MNT"
sqlite3 "$FS/index.db" "PRAGMA user_version=$version"

# --- providers: mounts and writes go on without one ---
status_of() {
	getfattr --only-values -n user.shardfs.status "$1" 2>/dev/null
}
is_status() { # PATH STATUS
	[ "$(status_of "$1")" = "$2" ]
}
P=$FS/providers
without_one() { # WHAT: tertiary is of no use now
	fs_mount
	cmp "$TMPDIR/data" "$MNT/data"
	head -c 300000 /dev/urandom >"$MNT/$1"
	shardctl wait --copies 2 --timeout 300s "$MNT/$1" >/dev/null
	eventually 60 is_status "$MNT/$1" degraded # it has to have been tried
	fs_umount
}
mv "$P/tertiary" "$TMPDIR/away"
without_one missing
mkdir -m 0700 "$P/tertiary" # an unmounted disk
without_one empty-directory
[ -z "$(ls -A "$P/tertiary")" ]
rmdir "$P/tertiary"
# Another file system's.
mkdir -m 0700 "$TMPDIR/fs2" "$TMPDIR/fs2/p"
printf '%s\n' "home: $TMPDIR/fs2" "passphrase_file: $FS/passphrase" 'policy: "1"' 'providers:' \
	"  - name: p" "    type: dir" "    path: $TMPDIR/fs2/p" >"$TMPDIR/fs2.yaml"
mkfs.shardfs "$TMPDIR/fs2.yaml" >/dev/null
cp -a "$TMPDIR/fs2/p" "$P/tertiary"
foreign=$(cd "$P/tertiary" && find . -type f | sort)
without_one foreign
[ "$(cd "$P/tertiary" && find . -type f | sort)" = "$foreign" ]
grep -q 'provider=tertiary' "$FS/shardfs.log"
rm -rf "$P/tertiary"
# mkfs takes nobody else's, and no directory with files.
mkdir -m 0700 "$TMPDIR/fs3"
sed "s,$TMPDIR/fs2\$,$TMPDIR/fs3," "$TMPDIR/fs2.yaml" >"$TMPDIR/fs3.yaml"
refuses "$TMPDIR/fs2/p.*" mkfs.shardfs "$TMPDIR/fs3.yaml"
mkdir "$TMPDIR/taken"
echo mine >"$TMPDIR/taken/file"
sed "s,$TMPDIR/fs2/p,$TMPDIR/taken," "$TMPDIR/fs3.yaml" >"$TMPDIR/fs4.yaml"
refuses "$TMPDIR/taken.*" mkfs.shardfs "$TMPDIR/fs4.yaml"
[ "$(ls -A "$TMPDIR/taken")" = file ]
# Read-only, and full.
mkdir "$TMPDIR/small"
mount -t tmpfs -o size=6m,mode=0700 none "$TMPDIR/small"
cp -a "$TMPDIR/away/." "$TMPDIR/small/"
mkdir -m 0700 "$P/tertiary"
mount --bind -o ro "$TMPDIR/small" "$P/tertiary"
mount -o remount,ro,bind "$P/tertiary"
without_one read-only
umount "$P/tertiary"
head -c 20000000 /dev/zero >"$TMPDIR/small/fill" 2>/dev/null || true
mount --bind "$TMPDIR/small" "$P/tertiary"
without_one full
umount "$P/tertiary"
umount "$TMPDIR/small"
# It comes back: what it missed is made up for.
rmdir "$P/tertiary"
mv "$TMPDIR/away" "$P/tertiary"
fs_mount
shardctl wait --timeout 300s "$MNT" >/dev/null
is_status "$MNT" protected
fs_umount

# --- bad copies: read around, and never wrong bytes ---
shards() { # PROVIDER
	find "$P/$1" -type f -regextype posix-extended -regex '.*/[0-9a-f]{32}'
}
flip() { # some bytes in every chunk
	local size at
	size=$(stat -c %s "$1")
	for ((at = 4000; at < size; at += 60000)); do
		head -c 16 /dev/urandom | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
	done
}
rm -rf "$FS/spool" "$FS/cache"
shards primary | while read -r shard; do flip "$shard"; done
fs_mount
cmp "$TMPDIR/data" "$MNT/data"
fs_umount
rm -rf "$FS/cache"
# Nothing that repaired them meanwhile is taken for granted: this time it is truncated.
shards primary | while read -r shard; do truncate -s 1000 "$shard"; done
fs_mount
cmp "$TMPDIR/data" "$MNT/data"
fs_umount
rm -rf "$FS/cache"
for name in primary secondary tertiary; do
	shards "$name" | while read -r shard; do
		flip "$shard"
	done
done
fs_mount
fails_with 'Input/output error' cat "$MNT/data"
stat "$MNT/data" >/dev/null
# (the last chunk may be too short to have been hit)
python3 - "$MNT/data" "$TMPDIR/data" <<'END' || die 'wrong bytes were read'
import errno, os, sys
data = open(sys.argv[2], 'rb').read()
fd = os.open(sys.argv[1], os.O_RDONLY)
for at in range(0, len(data), 4096):
    try:
        got = os.pread(fd, 4096, at)
    except OSError as error:
        assert error.errno == errno.EIO, error
        continue
    assert got == data[at:at + 4096], at
END
echo new >"$MNT/new"
[ "$(cat "$MNT/new")" = new ]
fs_umount

# --- a full spool: every provider away, 16 MiB of room ---
mv "$P" "$TMPDIR/providers-away"
fs_mount
acknowledged=0
for ((i = 0; i < 40; i++)); do
	head -c 1000000 /dev/urandom >"$TMPDIR/block-$i"
	if ! { cp "$TMPDIR/block-$i" "$MNT/block-$i" && sync "$MNT/block-$i"; } 2>"$TMPDIR/said"; then
		grep -q 'No space left on device' "$TMPDIR/said" || die "$(cat "$TMPDIR/said")"
		break
	fi
	acknowledged=$((acknowledged + 1))
done
[ "$acknowledged" -ge 8 ] && [ "$acknowledged" -lt 20 ] || die "$acknowledged MB were taken"
echo "$acknowledged MB were taken, then: $(cat "$TMPDIR/said")"
all_there() {
	for ((i = 0; i < acknowledged; i++)); do
		cmp "$TMPDIR/block-$i" "$MNT/block-$i"
	done
}
all_there
rm -f "$MNT/block-$acknowledged" "$MNT/block-0"
mkdir "$MNT/still-possible"
cp "$TMPDIR/block-0" "$TMPDIR/block-keep"
fs_kill
mv "$TMPDIR/providers-away" "$P"
fs_mount
for ((i = 1; i < acknowledged; i++)); do
	cmp "$TMPDIR/block-$i" "$MNT/block-$i"
done
shardctl wait --timeout 300s "$MNT/block-1" >/dev/null
store_again() {
	cp "$TMPDIR/block-keep" "$MNT/block-0" && sync "$MNT/block-0"
}
eventually 60 store_again
all_there

# --- a dead mount gives an error, not an empty directory ---
pid=$(fs_pid)
kill -9 "$pid"
eventually 60 pid_is_gone "$pid"
fails_with 'not connected' ls "$MNT"
refuses 'dead mount' shardfs "$CONF" "$MNT"
fs_clear
fs_mount
all_there
fs_umount
